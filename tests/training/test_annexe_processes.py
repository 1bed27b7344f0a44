"""ANNEXE on two processes (gloo, as torchrun starts them) and after kills: the same curve, the same weights."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from egohoi.training import checkpoints, progress

_spec = importlib.util.spec_from_file_location("annexe_drawn", Path(__file__).parents[1] / "annexe_drawn.py")
drawn = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(drawn)

STEPS = 6
NAMES = ("analysis", "answer", "target", "depth", "mask")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """words(out, **loop) -> the command line of a run."""
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("irg")
    folder = drawn.data_set(home / "data", 9, side=32)
    settings = {
        "recipe": "annexe", "data": [{"folder": str(folder)}],
        "model": {"vocabulary": 330, "small": {"side": 32, "width": 32, "layers": 1}},
        "loop": {"steps": STEPS, "batch": 4, "micro_batch": 2, "lr": 2e-3, "warmup_steps": 2, "save_every": 2, "keep": 9, "workers": 0,
                 "trackers": [], "device": "cpu"},
    }
    (home / "c.json").write_text(json.dumps(settings))
    return lambda out, **loop: ["train", str(home / "c.json"), f"out={out}", *(f"loop.{k}={v}" for k, v in loop.items())]


@pytest.fixture(scope="module")
def alone(words, processes, tmp_path_factory):
    """An undisturbed run on one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    assert processes.run(words(out), out.parent) == [0], processes.output(out.parent)
    return out


def curve(out):
    rows = progress.read_curve(out)
    return np.array([[row["loss"], *(row["losses"][name] for name in NAMES)] for row in rows])


def weights(out):
    return checkpoints.trained_weights(out)


@pytest.mark.parametrize("wrap", ["ddp", "fsdp"])
def test_two_processes_give_the_curve_of_one(words, alone, processes, tmp_path, wrap):
    more = {} if wrap == "ddp" else {"distribution": "fsdp"}
    assert processes.run(words(tmp_path / "two", **more), tmp_path, count=2) == [0, 0], processes.output(tmp_path)
    assert "2 process(es)" in processes.output(tmp_path)
    one, two = curve(alone), curve(tmp_path / "two")
    assert one.shape == two.shape == (STEPS, 6) and (one[:, 1:] > 0).all()
    np.testing.assert_allclose(two, one, rtol=2e-4, atol=1e-5)
    for name, tensor in weights(alone).items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], tensor, rtol=0, atol=2e-4, msg=name)


@pytest.mark.parametrize(("count", "when"), [(1, "pass:7"), (1, "save:8"), (2, "pass:4")])
def test_a_killed_run_goes_on_to_the_same_weights(words, alone, processes, tmp_path, count, when):
    """Killed in the middle of a step, and while a checkpoint is written; a run of two processes goes on with two."""
    started = processes.start(words(tmp_path / "run"), tmp_path, count, DIE=when)
    ended = processes.wait(started)
    assert -9 in ended, processes.output(tmp_path)
    assert not (tmp_path / "run" / "model").exists()
    assert processes.run(words(tmp_path / "run"), tmp_path, count) == [0] * count, processes.output(tmp_path)
    assert "steps 2 to 6" in processes.output(tmp_path)  # it went on from the checkpoint, it did not begin anew
    if count == 1:
        for name, tensor in weights(alone).items():
            assert torch.equal(weights(tmp_path / "run")[name], tensor), name
        assert (tmp_path / "run" / "model" / "model.safetensors").read_bytes() == (alone / "model" / "model.safetensors").read_bytes()
        assert np.array_equal(curve(tmp_path / "run"), curve(alone))
    else:
        np.testing.assert_allclose(curve(tmp_path / "run"), curve(alone), rtol=2e-4, atol=1e-5)


def test_a_run_of_two_goes_on_alone(words, alone, processes, tmp_path):
    import shutil

    assert processes.run(words(tmp_path / "run"), tmp_path, count=2) == [0, 0], processes.output(tmp_path)
    for step in (4, 6):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / f"step-{step:07d}")
    assert processes.run(words(tmp_path / "run"), tmp_path) == [0], processes.output(tmp_path)
    np.testing.assert_allclose(curve(tmp_path / "run"), curve(alone), rtol=2e-4, atol=1e-5)
