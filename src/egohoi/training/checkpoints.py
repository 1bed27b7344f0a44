"""Checkpoints: a folder with the trained weights, the optimizer's state and one JSON file, written whole or not at all.

    OUT/checkpoints/step-0000500/trained.safetensors      trained parameters by name, nothing frozen
                                 optimizer.safetensors    "exp_avg/NAME", "exp_avg_sq/NAME", "step/NAME"
                                 state.json               step, configuration, names of the files' makers

The order of the data and the random numbers are functions of seed and step, so that no more is needed to go on exactly.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from egohoi.errors import BadWeights

TRAINED, OPTIMIZER, STATE = "trained.safetensors", "optimizer.safetensors", "state.json"
_NAME = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """step: optimizer steps done. config: plain configuration of the run. trained: tensors by parameter name.
    optimizer: {parameter name: {"exp_avg": tensor, ...}}. scaler: of float16."""

    step: int
    config: dict
    trained: dict = field(repr=False)
    optimizer: dict = field(repr=False)
    scaler: dict = field(default_factory=dict)


def folder(out: Path, step: int) -> Path:
    return out / "checkpoints" / f"step-{step:07d}"


def steps(out: Path) -> list[int]:
    """Steps of the whole checkpoints in a run's folder, rising."""
    root = out / "checkpoints"
    if not root.is_dir():
        return []
    return sorted(int(match[1]) for entry in root.iterdir() if (match := _NAME.fullmatch(entry.name)) and (entry / STATE).is_file())


def save(out: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write a checkpoint, then drop all but the last `keep`. A crash at any moment leaves only whole checkpoints
    (and a folder `step-N.part`, which the next save removes). Returns the folder."""
    from safetensors.torch import save_file

    target = folder(out, checkpoint.step)
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob("step-*.part"):
        shutil.rmtree(leftover)
    part.mkdir()
    save_file(checkpoint.trained, part / TRAINED)
    save_file({f"{key}/{name}": value for name, values in checkpoint.optimizer.items() for key, value in values.items()}, part / OPTIMIZER)
    state = {"step": checkpoint.step, "config": checkpoint.config, "scaler": checkpoint.scaler}
    (part / STATE).write_text(json.dumps(state, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for path in (*part.iterdir(), part):
        _sync(path)
    if target.exists():
        shutil.rmtree(target)
    os.replace(part, target)
    _sync(target.parent)
    for step in steps(out)[:-keep]:
        shutil.rmtree(folder(out, step))
    return target


def load(path: Path) -> Checkpoint:
    """Read a checkpoint folder. Raises BadWeights."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        trained, flat = load_file(path / TRAINED), load_file(path / OPTIMIZER)
        optimizer: dict[str, dict] = {}
        for key, value in flat.items():
            kind, _, name = key.partition("/")
            optimizer.setdefault(name, {})[kind] = value
        return Checkpoint(state["step"], state["config"], trained, optimizer, state.get("scaler") or {})
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise BadWeights(f"{path}: not a checkpoint of a training run ({type(error).__name__}: {str(error)[:120]})") from error


def trained_weights(path) -> dict:
    """Trained weights of a checkpoint folder, a run's folder (its last checkpoint) or a safetensors file. Raises BadWeights."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    if path.is_dir() and not (path / TRAINED).is_file() and steps(path):
        path = folder(path, steps(path)[-1])
    file = path / TRAINED if path.is_dir() else path
    if not file.is_file():
        raise BadWeights(f"{path}: no {TRAINED} there: name a checkpoint folder (step-0000500) or its {TRAINED}")
    try:
        return load_file(file)
    except (OSError, ValueError, SafetensorError) as error:
        raise BadWeights(f"{file}: cannot be read as safetensors ({str(error)[:120]})") from error


def put(model, trained: Mapping, names, where: str) -> None:
    """Load `trained` into the parameters and buffers `names` of an unwrapped model, strictly: same names, same shapes.

    Raises BadWeights that names the first key that does not fit.
    """
    import torch

    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    missing, extra = sorted(set(names) - set(trained)), sorted(set(trained) - set(names))
    if missing or extra:
        kind, key, number = ("missing", missing[0], len(missing)) if missing else ("unexpected", extra[0], len(extra))
        raise BadWeights(f"{where}: {number} trained weights {kind}, the first is '{key}': it belongs to another model or configuration")
    with torch.no_grad():
        for name in names:
            if own[name].shape != trained[name].shape:
                raise BadWeights(f"{where}: '{name}' has shape {tuple(trained[name].shape)}, the model wants {tuple(own[name].shape)}")
            own[name].copy_(trained[name])


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk, so that a rename never outlives its contents."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems cannot sync folders
    finally:
        os.close(descriptor)
