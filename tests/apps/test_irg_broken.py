"""Broken Ego-IRG data through the command line: one line that names the file, or --skip-broken and a list at the end."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from egohoi.apps.cli import main

_spec = importlib.util.spec_from_file_location("annexe_drawn", Path(__file__).parents[1] / "annexe_drawn.py")
drawn = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(drawn)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    torch.set_num_threads(1)
    return drawn.data_set(tmp_path_factory.mktemp("irg"), 6, side=32)


def entries(folder, change):
    path = folder / "dataset_split" / "train" / "d001.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps(change(rows)))


def smaller(path):
    Image.fromarray(np.zeros((8, 12), np.uint8)).save(path)


def numbered(value):
    return lambda rows: [{**row, "masks_idx": [value, 0, 0, 0], "tokens": ["mug", "", "", ""]} for row in rows]


#: damage of frame d001, the file that is named, what is said
DAMAGES = {
    "missing depth": (lambda f: (f / "depth" / "d001.png").unlink(), "depth/d001.png", "missing"),
    "missing mask": (lambda f: (f / "mask" / "d001.png").unlink(), "mask/d001.png", "missing"),
    "missing picture": (lambda f: (f / "RGB" / "d001.jpg").unlink(), "RGB/d001.jpg", "missing"),
    "mask of another size": (lambda f: smaller(f / "mask" / "d001.png"), "mask/d001.png", "the mask is 12x8 pixels, its picture 32x32"),
    "depth of another size": (lambda f: smaller(f / "depth" / "d001.png"), "depth/d001.png", "the depth image is 12x8"),
    "number that no index image holds": (lambda f: entries(f, numbered(70000)), "train/d001.json", "masks_idx 70000 is out of range"),
    "number that the mask does not hold": (lambda f: entries(f, numbered(99)), "mask/d001.png", "masks_idx 99 ('mug'"),
    "JSON of another shape": (lambda f: entries(f, lambda rows: {"entries": rows}), "train/d001.json", "expected a list of entries"),
    "entry without questions": (lambda f: entries(f, lambda rows: [{**r, "questions": []} for r in rows]), "train/d001.json", "at least one query"),
    "cut JSON": (lambda f: (f / "dataset_split/train/d001.json").write_text('[{"masks_idx": ['), "train/d001.json", "not JSON"),
    "cut picture": (lambda f: (f / "RGB" / "d001.jpg").write_bytes((f / "RGB" / "d001.jpg").read_bytes()[:-200]), "RGB/d001.jpg", ""),
    "cut depth": (lambda f: (f / "depth" / "d001.png").write_bytes((f / "depth" / "d001.png").read_bytes()[:70]), "depth/d001.png", "damaged"),
    "cut mask": (lambda f: (f / "mask" / "d001.png").write_bytes((f / "mask" / "d001.png").read_bytes()[:60]), "mask/d001.png", "damaged"),
}


def config(folder, out):
    return {
        "recipe": "annexe", "out": str(out), "data": [{"folder": str(folder)}],
        "model": {"vocabulary": 300, "small": {"side": 16, "width": 16, "layers": 1}, "depth": True},
        "loop": {"steps": 2, "batch": 6, "micro_batch": 6, "lr": 1e-3, "warmup_steps": 0, "save_every": 9, "workers": 0, "trackers": []},
    }


@pytest.mark.parametrize("name", DAMAGES)
def test_the_check_names_the_file_or_goes_on(good, tmp_path, capsys, name):
    spoil, file, message = DAMAGES[name]
    folder = shutil.copytree(good, tmp_path / "irg")
    spoil(folder)
    assert main(["build", "irg", str(folder), "--check"]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1 and file in error and message in error, error
    assert main(["build", "irg", str(folder), "--check", "--skip-broken"]) == 2
    lines = capsys.readouterr().out.splitlines()
    (broken,) = [line for line in lines if line.startswith("broken: ")]
    assert file in broken and message in broken and lines[0].startswith("train: 5 frames") and lines[-1].startswith("1 broken frames")


@pytest.mark.parametrize("name", ["missing depth", "mask of another size", "number that the mask does not hold", "JSON of another shape"])
def test_training_names_the_file_or_goes_on(good, tmp_path, capsys, name):
    spoil, file, message = DAMAGES[name]
    folder = shutil.copytree(good, tmp_path / "irg")
    spoil(folder)
    (tmp_path / "c.yaml").write_text(json.dumps(config(folder, tmp_path / "run")))
    assert main(["train", str(tmp_path / "c.yaml")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert file in error and message in error
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    assert main(["train", str(tmp_path / "c.yaml"), "skip_broken=true"]) == 0
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if line.startswith("left out: ")]
    assert file in line and message in line and "replaced" not in said
    assert (tmp_path / "run" / "model" / "config.json").is_file()


def test_empty_targets_and_shared_frames_are_said(good, tmp_path, capsys):
    folder = shutil.copytree(good, tmp_path / "irg")
    entries(folder, lambda rows: [{**r, "masks_idx": [0, 0, 0, 0], "tokens": ["mug", "", "", ""], "with_mask": 1} for r in rows])
    (folder / "dataset_split" / "test").mkdir()
    shutil.copy(folder / "dataset_split" / "train" / "d002.json", folder / "dataset_split" / "test")
    assert main(["build", "irg", str(folder), "--check"]) == 2
    said = capsys.readouterr().out
    assert "shared: 1 frames are in train and in test, first d002" in said
    assert "note: train/d001/0: with_mask is 1 but masks_idx names 0 targets" in said
    assert "note: train/d001/0: tokens names 'mug' but its masks_idx is 0" in said
    (folder / "dataset_split" / "test" / "d002.json").unlink()
    (folder / "dataset_split" / "test").rmdir()
    assert main(["build", "irg", str(folder), "--check", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["good"] and len(found["notes"]) == 2
