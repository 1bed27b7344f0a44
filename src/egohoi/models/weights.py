"""Weight files: opened without running anything in them, read tensor by tensor, written in shards, loaded strictly.

safetensors files hold no code. Pickled files (`.pth`, `.bin`) are opened by `torch.load(weights_only=True)`, which
builds tensors and plain containers and refuses every other instruction before it runs.
"""

import json
import os
import pickle
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from egohoi.errors import BadWeights

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
#: A reader's file is closed and opened again after this many bytes, so that the pages of a mapped file are given back.
REOPEN = 64 * 2**20
#: Largest shard that is written; kept in memory until it is full.
SHARD = 2 * 10**9


class WeightFile:
    """One file of named tensors, read lazily.

    path: `.safetensors`, or a pickled file of a dict of tensors, perhaps under one key of `nested` ("model").
    Raises BadWeights: no such file, cut short, not a weight file, code inside.
    """

    def __init__(self, path: str | Path, nested: tuple[str, ...] = ("model", "state_dict", "module")):
        self.path = Path(path)
        self.nested = nested
        if self.path.is_dir():
            raise BadWeights(f"{self.path}: is a folder, name the weight file in it")
        if not self.path.is_file():
            raise BadWeights(f"{self.path}: no such file")
        if self.path.stat().st_size == 0:
            raise BadWeights(f"{self.path}: the file is empty")
        self._safe = self.path.suffix == ".safetensors"
        self._state: Mapping | None = None
        self._read = 0
        self._places: dict[str, int] = {}
        self.shapes, self.dtypes = self._headers()

    def _headers(self) -> tuple[dict[str, tuple[int, ...]], dict[str, torch.dtype]]:
        if self._safe:
            shapes, dtypes = {}, {}
            with self._open_safe():
                pass  # the library has checked the header: sizes, places and the file's length belong together
            with open(self.path, "rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
                if entry["dtype"] not in _SAFE_DTYPES:
                    raise BadWeights(f"{self.path}: '{name}' is stored as {entry['dtype']}, which this program does not read")
                shapes[name], dtypes[name] = tuple(entry["shape"]), _SAFE_DTYPES[entry["dtype"]]
                self._places[name] = 8 + length + entry["data_offsets"][0]
            return shapes, dtypes
        state = self._pickled()
        return {n: tuple(t.shape) for n, t in state.items()}, {n: t.dtype for n, t in state.items()}

    def _open_safe(self):
        import safetensors

        try:
            return safetensors.safe_open(str(self.path), framework="pt", device="cpu")
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise BadWeights(f"{self.path}: is damaged, cut short, or no safetensors file: copy it again ({error})") from error

    def _pickled(self) -> Mapping[str, torch.Tensor]:
        if self._state is None:
            self._state = _tensors(load_pickle(self.path), self.path, self.nested)
        return self._state

    def names(self) -> list[str]:
        """Names of the tensors, in the file's order."""
        return list(self.shapes)

    def files(self) -> list[Path]:
        """The file itself, as a list of one."""
        return [self.path]

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor of that name, in memory of its own, on the CPU."""
        if self._safe:
            # Read, not mapped: page faults bring a large file in at a fraction of the disk's speed, and its pages count as memory.
            tensor = torch.empty(self.shapes[name], dtype=self.dtypes[name])
            with open(self.path, "rb", buffering=0) as file:
                file.seek(self._places[name])
                view, got = memoryview(tensor.reshape(-1).view(torch.uint8).numpy()), 0
                while got < len(view):
                    count = file.readinto(view[got:])
                    if not count:
                        raise BadWeights(f"{self.path}: ends in the middle of '{name}': it was cut short after it was opened")
                    got += count
            return tensor
        tensor = self._pickled()[name].clone().contiguous()
        self._read += tensor.nbytes
        if self._read > REOPEN:
            self._state, self._read = None, 0
        return tensor


class WeightFolder:
    """The weights of a Hugging Face style folder, one or many files, safetensors preferred. Same interface as WeightFile."""

    def __init__(self, folder: str | Path):
        self.path = Path(folder)
        if not self.path.is_dir():
            raise BadWeights(f"{self.path}: no such folder")
        self._files: dict[str, WeightFile] = {}
        for single, index in ((SINGLE, INDEX), ("pytorch_model.bin", "pytorch_model.bin.index.json")):
            if (self.path / index).is_file():
                self._indexed(self.path / index)
                break
            if (self.path / single).is_file():
                file = WeightFile(self.path / single)
                self._files = {name: file for name in file.names()}
                break
        else:
            raise BadWeights(f"{self.path}: no model.safetensors and no pytorch_model.bin: this is no Hugging Face model folder")
        self.shapes = {name: file.shapes[name] for name, file in self._files.items()}
        self.dtypes = {name: file.dtypes[name] for name, file in self._files.items()}

    def _indexed(self, index: Path) -> None:
        table = read_json(index).get("weight_map")
        if not isinstance(table, dict) or not table:
            raise BadWeights(f"{index}: has no weight_map")
        opened = {}
        for name in sorted(set(table.values())):
            if not isinstance(name, str) or Path(name).name != name:
                raise BadWeights(f"{index}: shard name {name!r} leads out of the folder")
            opened[name] = WeightFile(self.path / name)
        for key, name in table.items():
            if key not in opened[name].shapes:
                raise BadWeights(f"{self.path / name}: lacks '{key}', which the index promises: the shards do not belong together")
            self._files[key] = opened[name]

    def names(self) -> list[str]:
        """Names of the tensors."""
        return list(self._files)

    def files(self) -> list[Path]:
        """The weight files, in the order of their names."""
        return sorted({file.path for file in self._files.values()})

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor of that name, on the CPU."""
        return self._files[name].tensor(name)


class ShardWriter:
    """Write tensors one after another into `model-0000K-of-0000N.safetensors` and their index; holds one shard in memory.

    A single shard is named `model.safetensors`. `close` must be called; files have their names only then.
    """

    def __init__(self, folder: str | Path, shard_bytes: int = SHARD):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.shard_bytes = shard_bytes
        self._held: dict[str, torch.Tensor] = {}
        self._held_bytes = 0
        self._shards: list[list[str]] = []
        self.total = 0

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Take one tensor (CPU or GPU)."""
        tensor = tensor.detach().cpu().contiguous()
        if self._held and self._held_bytes + tensor.nbytes > self.shard_bytes:
            self._flush()
        self._held[name] = tensor
        self._held_bytes += tensor.nbytes
        self.total += tensor.nbytes

    def _flush(self) -> None:
        from safetensors.torch import save_file

        save_file(self._held, self.folder / f"shard-{len(self._shards)}.part", metadata={"format": "pt"})
        self._shards.append(list(self._held))
        self._held, self._held_bytes = {}, 0

    def close(self) -> list[str]:
        """Write what is held and give all files their names. Returns the file names."""
        if self._held or not self._shards:
            self._flush()
        count = len(self._shards)
        names = [SINGLE] if count == 1 else [f"model-{k + 1:05d}-of-{count:05d}.safetensors" for k in range(count)]
        for k, name in enumerate(names):
            os.replace(self.folder / f"shard-{k}.part", self.folder / name)
            (self.folder / name).chmod(0o644)  # safetensors writes for the owner alone
        if count > 1:
            table = {key: name for name, keys in zip(names, self._shards) for key in keys}
            write_json(self.folder / INDEX, {"metadata": {"total_size": self.total}, "weight_map": table})
        return names


class NewFolder:
    """A folder that appears whole or not at all: `with NewFolder(out) as part:` write into `part`; renamed at the end.

    Raises BadWeights if `out` exists and is not empty.
    """

    def __init__(self, out: str | Path):
        self.out = Path(out)
        self.part = self.out.with_name(self.out.name + ".part")

    def __enter__(self) -> Path:
        if self.out.is_file() or (self.out.is_dir() and any(self.out.iterdir())):
            raise BadWeights(f"{self.out}: exists already: name a new folder or remove it first")
        shutil.rmtree(self.part, ignore_errors=True)
        try:
            self.part.mkdir(parents=True)
        except OSError as error:
            raise BadWeights(f"{self.out}: cannot be written ({error.strerror})") from error
        return self.part

    def __exit__(self, kind, error, trace) -> None:
        if kind is not None:
            shutil.rmtree(self.part, ignore_errors=True)
            return
        if self.out.is_dir():
            self.out.rmdir()
        os.replace(self.part, self.out)


def load_pickle(path: str | Path):
    """What `torch.save` wrote at `path`, on the CPU, mapped where the format allows. Never runs code of the file.

    Raises BadWeights with the instruction that was refused, or what is damaged.
    """
    for mapped in (True, False):
        try:
            with warnings.catch_warnings():
                # of pickles that torch did not write; they are refused, or hold what they should
                warnings.filterwarnings("ignore", message="Detected pickle protocol")
                return torch.load(str(path), map_location="cpu", weights_only=True, mmap=mapped)
        except pickle.UnpicklingError as error:
            raise BadWeights(f"{path}: {_refusal(str(error))}") from error
        except (RuntimeError, EOFError, ValueError, OSError, AssertionError, LookupError, AttributeError, TypeError) as error:
            # Files of torch before 1.6 are no archives and cannot be mapped.
            if mapped and "mmap" in str(error):
                continue
            reason = f" ({str(error)[:100]})" if isinstance(error, (RuntimeError, OSError)) else ""  # others name bytes only
            raise BadWeights(f"{path}: is damaged, cut short, or no weight file: copy it again{reason}") from error
    raise BadWeights(f"{path}: cannot be read")


def _refusal(message: str) -> str:
    import re

    found = re.search(r"(?:Unsupported global: GLOBAL|Unsupported class|GLOBAL) ([\w.]+)", message)
    if found:
        return f"refused: it would run code on opening ({found.group(1)}); nothing was run. Weights need no code: get another copy"
    reason = re.search(r"WeightsUnpickler error:\s*(.+)", message)
    return f"refused: not a plain file of tensors as torch.save writes them ({(reason[1] if reason else message.splitlines()[0])[:100]}); nothing was run"


def _tensors(state, path: Path, nested: tuple[str, ...]) -> dict[str, torch.Tensor]:
    for key in nested:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
            break
    if not isinstance(state, Mapping):
        raise BadWeights(f"{path}: holds a {type(state).__name__}, not named tensors")
    tensors = {str(n): t for n, t in state.items() if isinstance(t, torch.Tensor)}
    if not tensors:
        raise BadWeights(f"{path}: holds no tensors")
    return tensors


def read_json(path: str | Path) -> dict:
    """The object in a JSON file. Raises BadWeights."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadWeights(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise BadWeights(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(values, dict):
        raise BadWeights(f"{path}: holds no JSON object")
    return values


def write_json(path: str | Path, values: dict) -> None:
    """Write a JSON file, whole or not at all."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def compare(shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raise BadWeights unless `shapes` has exactly the names and shapes of `wanted`; `where` names the folder or file."""
    missing, unexpected = sorted(set(wanted) - set(shapes)), sorted(set(shapes) - set(wanted))
    if missing or unexpected:
        parts = [
            f"{len(names)} {word} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for word, names in (("missing", missing), ("unexpected", unexpected)) if names
        ]
        raise BadWeights(f"{where}: the weights do not fit the model: {'; '.join(parts)}")
    for name, shape in wanted.items():
        if tuple(shapes[name]) != tuple(shape):
            hint = ": LoRA of another rank" if ".lora_" in name else ": another image size" if "position_embedding" in name else ""
            raise BadWeights(f"{where}: '{name}' has shape {list(shapes[name])}, the model needs {list(shape)}{hint}")


def tensors_of(source: WeightFile | WeightFolder) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) one after another; one tensor in memory at a time."""
    for name in source.names():
        yield name, source.tensor(name)


_SAFE_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}
