"""Checkpoints hold what was trained and nothing else, appear whole or not at all, and are read strictly."""

import json

import pytest
import torch
from torch import nn

from egohoi.errors import BadWeights
from egohoi.training import checkpoints
from egohoi.training.checkpoints import Checkpoint


def checkpoint(step, value=1.0):
    moments = {"exp_avg": torch.full((2, 2), value), "exp_avg_sq": torch.ones(2, 2), "step": torch.tensor(float(step))}
    return Checkpoint(step, {"loop": {"lr": 1}}, {"a.weight": torch.full((2, 2), value)}, {"a.weight": moments}, {"scale": 2.0})


def test_a_checkpoint_comes_back_and_old_ones_go(tmp_path):
    for step in (2, 4, 6):
        checkpoints.save(tmp_path, checkpoint(step, step), keep=2)
    assert checkpoints.steps(tmp_path) == [4, 6]
    back = checkpoints.load(checkpoints.folder(tmp_path, 6))
    assert (back.step, back.config, back.scaler) == (6, {"loop": {"lr": 1}}, {"scale": 2.0})
    assert torch.equal(back.trained["a.weight"], torch.full((2, 2), 6.0)) and set(back.trained) == {"a.weight"}
    assert torch.equal(back.optimizer["a.weight"]["exp_avg"], torch.full((2, 2), 6.0)) and float(back.optimizer["a.weight"]["step"]) == 6
    assert sorted(p.name for p in checkpoints.folder(tmp_path, 6).iterdir()) == ["optimizer.safetensors", "state.json", "trained.safetensors"]
    for where in (tmp_path, checkpoints.folder(tmp_path, 6), checkpoints.folder(tmp_path, 6) / "trained.safetensors"):
        assert torch.equal(checkpoints.trained_weights(where)["a.weight"], torch.full((2, 2), 6.0))


@pytest.mark.parametrize("after", range(1, 6))
def test_a_crash_while_saving_leaves_the_last_whole_checkpoint(tmp_path, monkeypatch, after):
    checkpoints.save(tmp_path, checkpoint(2), keep=2)
    flushed = []

    def crash(path):
        flushed.append(path)
        if len(flushed) == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "_sync", crash)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(tmp_path, checkpoint(4), keep=2)
    assert checkpoints.steps(tmp_path) == ([2, 4] if after == 5 else [2])
    checkpoints.load(checkpoints.folder(tmp_path, checkpoints.steps(tmp_path)[-1]))
    checkpoints.save(tmp_path, checkpoint(4), keep=2)
    assert checkpoints.steps(tmp_path) == [2, 4] and not list((tmp_path / "checkpoints").glob("*.part"))


def test_damaged_checkpoints_are_one_line(tmp_path):
    folder = checkpoints.save(tmp_path, checkpoint(2), keep=1)
    for name in ("trained.safetensors", "optimizer.safetensors", "state.json"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:9])
        with pytest.raises(BadWeights, match="not a checkpoint") as caught:
            checkpoints.load(folder)
        assert "\n" not in str(caught.value)
        (folder / name).write_bytes(whole)
    (folder / "state.json").write_text(json.dumps({"config": {}}))
    with pytest.raises(BadWeights, match="not a checkpoint"):
        checkpoints.load(folder)
    with pytest.raises(BadWeights, match="name a checkpoint folder"):
        checkpoints.trained_weights(tmp_path / "nowhere")
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(BadWeights, match="cannot be read"):
        checkpoints.trained_weights(tmp_path / "x.safetensors")


def test_weights_are_put_back_strictly():
    model = nn.Linear(2, 2)
    checkpoints.put(model, {"weight": torch.eye(2)}, ["weight"], "x")
    assert torch.equal(model.weight, torch.eye(2))
    for state, message in (({}, "missing.*'weight'"), ({"weight": torch.eye(2), "b": torch.eye(2)}, "unexpected.*'b'"),
                           ({"weight": torch.eye(3)}, r"shape \(3, 3\), the model wants \(2, 2\)")):
        with pytest.raises(BadWeights, match=message):
            checkpoints.put(model, state, ["weight"], "x")
