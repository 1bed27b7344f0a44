"""Configurations: a YAML file and `key=value` words -> a frozen dataclass, with one clear line for every mistake.

A configuration is typed by a dataclass. Its fields may be int, float, bool, str, a `Literal` of choices, another such
dataclass (a section), `tuple[X, ...]` (a list), `dict[str, X]`, and any of them `| None`. Nothing else is needed, and
whatever is not declared is refused with the nearest known name.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from egohoi.errors import BadConfig

T = TypeVar("T")


@dataclass(frozen=True)
class LoopConfig:
    """What the training loop itself needs, whatever is trained.

    steps: optimizer steps. batch: items of one optimizer step over all processes. micro_batch: items of one forward pass
    of one process; batch / (micro_batch x processes) passes are accumulated. lr: peak learning rate of AdamW; warmup_lr:
    where the linear warm-up of `warmup_steps` steps starts; min_lr: where the cosine ends. weight_decay spares biases
    and norms. clip: largest norm of the gradient, null: none. precision: autocast type. distribution: what runs on
    several processes: ddp (a copy each) or fsdp (weights split). save_every, keep: a checkpoint every so many steps, the
    last `keep` of them. workers: processes that read data. broken: an item that cannot be read stops the run, or is
    replaced by the next one of its source and reported. trackers: tensorboard, wandb; null: tensorboard where installed.
    deterministic: only kernels that give the same bits every time (slower on a GPU). resume: go on where `out` holds a
    checkpoint. init: trained weights to start from, a checkpoint folder of another run or its trained.safetensors.
    """

    steps: int = 1000
    batch: int = 16
    micro_batch: int = 1
    seed: int = 42
    lr: float = 1e-5
    warmup_lr: float = 1e-6
    min_lr: float = 0.0
    warmup_steps: int = 1000
    weight_decay: float = 0.05
    betas: tuple[float, ...] = (0.9, 0.999)
    eps: float = 1e-8
    clip: float | None = 1.0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Literal["auto", "cpu"] = "auto"
    distribution: Literal["ddp", "fsdp"] = "ddp"
    save_every: int = 500
    keep: int = 2
    log_every: int = 10
    workers: int = 2
    broken: Literal["stop", "replace"] = "stop"
    trackers: tuple[Literal["tensorboard", "wandb"], ...] | None = None
    deterministic: bool = False
    resume: bool = True
    init: str | None = None

    def __post_init__(self):
        for key, low in (("steps", 1), ("batch", 1), ("micro_batch", 1), ("warmup_steps", 0), ("save_every", 1), ("keep", 1),
                         ("log_every", 1), ("workers", 0), ("seed", 0)):
            if getattr(self, key) < low:
                raise BadConfig(f"{key} must be at least {low}, got {getattr(self, key)}")
        for key in ("lr", "warmup_lr", "min_lr", "weight_decay", "eps", "clip"):
            value = getattr(self, key)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise BadConfig(f"{key} must be 0 or more, got {value}")
        if self.clip == 0:
            raise BadConfig("clip must be above 0 (null: no clipping)")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise BadConfig(f"betas must be two numbers in [0, 1), got {list(self.betas)}")
        if self.batch % self.micro_batch:
            raise BadConfig(f"batch ({self.batch}) must be a multiple of micro_batch ({self.micro_batch})")


#: Keys of LoopConfig that may differ between a run and its resumption: they leave the curve as it is (micro_batch,
#: distribution and device up to rounding; micro_batch also re-draws dropout, so it is not among them).
HARMLESS = frozenset({"save_every", "keep", "log_every", "workers", "trackers", "resume", "distribution", "device", "init"})


def read(path) -> dict:
    """The mapping in a YAML file. Raises BadConfig (no such file, not YAML, not a mapping)."""
    import yaml

    path = Path(path)
    if not path.is_file():
        raise BadConfig(f"{path}: no such file: name a configuration such as configs/vlm4hoi_finetune.yaml")
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise BadConfig(f"{path}: not YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(value, dict):
        raise BadConfig(f"{path}: a configuration is a mapping of keys to values, got {_kind(value)}")
    return value


def override(config: Mapping, words: Iterable[str]) -> dict:
    """`config` with `key=value` words applied; the given mapping stays as it is.

    A key may lead into sections and lists (`loop.lr=1e-4`, `data.0.ratio=2`); the value is YAML. A key that does not
    exist is added, for `build` to refuse or accept. Raises BadConfig.
    """
    import copy

    import yaml

    result: Any = copy.deepcopy(dict(config))
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise BadConfig(f"'{word}': write key=value, for example loop.lr=1e-4")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise BadConfig(f"'{word}': the value is not YAML ({' '.join(str(error).split())[:80]})") from error
        *parents, last = key.split(".")
        place = result
        for depth, part in enumerate(parents):
            place = _step(place, part, ".".join(parents[: depth + 1]), word)
        if isinstance(place, list):
            place[_index(place, last, word)] = value
        elif isinstance(place, dict):
            place[last] = value
        else:
            raise BadConfig(f"'{word}': '{'.'.join(parents)}' is {_kind(place)}, it has no keys")
    return result


def _step(place, part: str, path: str, word: str):
    if isinstance(place, list):
        return place[_index(place, part, word)]
    if isinstance(place, dict):
        if place.get(part) is None:
            place[part] = {}
        return place[part]
    raise BadConfig(f"'{word}': '{path}' lies inside {_kind(place)}, which has no keys")


def _index(place: list, part: str, word: str) -> int:
    if not part.isdigit() or int(part) >= len(place):
        raise BadConfig(f"'{word}': '{part}' is no place in a list of {len(place)}: count from 0")
    return int(part)


def build(cls: type[T], values: Any, where: str = "") -> T:
    """An instance of the dataclass `cls` from decoded YAML. where: dotted key of the section, for messages.

    Numbers written as text (`1e-5` is text in YAML 1.1) become floats where a float is declared. Raises BadConfig that
    names the key, and for an unknown key the nearest known one.
    """
    if not isinstance(values, Mapping):
        raise BadConfig(f"{where or 'configuration'}: must be a section of keys and values, got {_kind(values)}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    prefix = f"{where}." if where else ""
    for key in values:
        if key not in fields:
            raise BadConfig(f"{prefix}{key}: unknown key{_nearest(str(key), cls, prefix)}")
    missing = [
        name for name, field in fields.items()
        if name not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise BadConfig(f"{prefix}{missing[0]}: this key is missing and has no default")
    known = {key: _convert(hints[key], value, f"{prefix}{key}") for key, value in values.items()}
    try:
        return cls(**known)
    except BadConfig as error:
        raise BadConfig(f"{where}: {error}" if where and not str(error).startswith(where) else str(error)) from error


def _nearest(key: str, cls: type, prefix: str) -> str:
    """Words that point to the known key next to `key`, in this section (dotted `prefix`) or one level below it."""
    hints = typing.get_type_hints(cls)
    names = {name: name for name in hints}
    for name, hint in hints.items():
        if dataclasses.is_dataclass(hint):
            names.update({inner: f"{name}.{inner}" for inner in typing.get_type_hints(hint) if inner not in names})
    near = difflib.get_close_matches(key, names, 1, cutoff=0.5)
    return f": did you mean '{prefix}{names[near[0]]}'?" if near else f": known are {', '.join(hints)}"


def _convert(hint, value, where: str):
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        rest = [argument for argument in arguments if argument is not type(None)]
        problems = []
        for argument in rest:
            try:
                return _convert(argument, value, where)
            except BadConfig as error:
                problems.append(error)
        raise problems[0]
    if origin is Literal:
        if value in arguments and type(value) in {type(argument) for argument in arguments}:
            return value
        near = difflib.get_close_matches(str(value), [str(argument) for argument in arguments], 1)
        raise BadConfig(
            f"{where}: must be one of {', '.join(map(str, arguments))}, got {value!r}" + (f": did you mean '{near[0]}'?" if near else "")
        )
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise BadConfig(f"{where}: must be a list, got {_kind(value)}")
        return tuple(_convert(arguments[0], item, f"{where}.{k}") for k, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise BadConfig(f"{where}: must be a section of keys and values, got {_kind(value)}")
        return {str(key): _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else build(hint, value, where)
    if hint is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    elif hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    elif type(value) is hint:
        return value
    raise BadConfig(f"{where}: must be {_NAMES.get(hint, str(hint))}, got {value!r}" if not isinstance(value, (Mapping, list))
                    else f"{where}: must be {_NAMES.get(hint, str(hint))}, got {_kind(value)}")


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", dict: "a section"}


def _kind(value) -> str:
    if value is None:
        return "nothing"
    return {dict: "a section", list: "a list", str: f"the text {value!r}"}.get(type(value), repr(value))


def plain(config) -> dict:
    """A configuration as JSON values (tuples become lists), for checkpoints and comparison."""
    return _plain(dataclasses.asdict(config))


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def differences(before: Mapping, now: Mapping, harmless: Iterable[str] = HARMLESS, prefix: str = "") -> list[str]:
    """What differs between two plain configurations, as `key: old -> new`, sections entered, `loop.<harmless>` left out."""
    found = []
    for key in sorted({*before, *now}):
        name, a, b = f"{prefix}{key}", before.get(key), now.get(key)
        if name in {"out", *(f"loop.{word}" for word in harmless)} or a == b:
            continue
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, harmless, f"{name}.")
        else:
            found.append(f"{name}: {a!r} -> {b!r}")
    return found
