"""`egohoi eval irg` with a model: what it asks, what it keeps, killed runs, two processes."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from egohoi import masks, models
from egohoi.apps.cli import main
from egohoi.errors import BadQuery
from egohoi.models import Model
from egohoi.records import Entity, Response


_spec = importlib.util.spec_from_file_location("irg_small", Path(__file__).parents[1] / "irg_small.py")
small = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(small)


class Knows(Model):
    """Answers as `irg_small.SAID` says; dies before the question `last`, refuses the one about the knife on request."""

    name = "knows"

    def __init__(self):
        self.asked, self.described, self.last, self.refuses = [], 0, None, False

    @classmethod
    def from_pretrained(cls, folder, *, device=None, precision=None):
        raise NotImplementedError

    def respond(self, pictures, queries, settings):
        return [self._one(p, q) for p, q in zip(pictures, queries)]

    def _one(self, picture, query):
        if query.task == "analyze":
            self.described += 1
            return Response(picture.name, picture.size, query.text, "analyze", "A hand.", True)
        if len(self.asked) == self.last:
            raise KeyboardInterrupt
        if self.refuses and "knife" in query.text:
            raise BadQuery("not this one")
        frame = Path(picture.name).stem
        self.asked.append(name := next(n for n, q in small.queries().items() if q == query.text and n.startswith(frame)))
        text, things = small.SAID[name]
        found = [Entity(n, "object", None, masks.box(small.mask(p)), 0.9, small.mask(p)) for n, p in things]
        return Response(picture.name, picture.size, query.text, "ground", text, bool(found), found)

    def depth(self, picture):
        return np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)


@pytest.fixture
def model(monkeypatch):
    made = Knows()
    monkeypatch.setattr(models, "load", lambda source, device=None: made)
    return made


@pytest.fixture
def data(tmp_path):
    return small.write(tmp_path / "data")


def run(data, *arguments):
    return main(["eval", "irg", "--data", str(data), *map(str, arguments)])


def facts(data, capsys, *arguments):
    assert run(data, *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_a_model_is_asked_everything_once(data, tmp_path, capsys, model):
    found = facts(data, capsys, "--model", "knows", "--save-masks", tmp_path / "m", "--save-depth", tmp_path / "d")
    assert model.asked == list(small.queries()) and model.described == 2  # one description a frame
    assert found["strict"]["all/iou_per_target"]["value"] == pytest.approx((1 + 0.5 + 1 + 0 + 1 / 3) / 5, abs=1e-6)
    assert found["strict"]["all/depth mae"]["value"] < 0.02 and found["released"]["depth MAE"] is not None
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["a.png", "b.png"]
    assert np.asarray(Image.open(tmp_path / "m/b/0/0.png")).sum() == 10 and np.asarray(Image.open(tmp_path / "m/a/2/0.png")).sum() == 0


def test_what_is_saved_gives_the_same_numbers_again(data, tmp_path, capsys, model):
    found = facts(data, capsys, "--model", "knows", "--out", tmp_path / "r.jsonl", "--save-depth", tmp_path / "d")
    again = facts(data, capsys, "--predictions", tmp_path / "r.jsonl", "--depth", tmp_path / "d")
    assert again["strict"] == found["strict"] and again["released"] == found["released"]


def test_a_stopped_run_asks_only_what_is_missing(data, tmp_path, capsys, model):
    whole = facts(data, capsys, "--model", "knows", "--out", tmp_path / "whole.jsonl")
    for last in range(1, 5):
        out = tmp_path / f"{last}.jsonl"
        model.asked, model.last = [], last
        assert run(data, "--model", "knows", "--out", out) == 130  # interrupted
        model.last = None
        found = facts(data, capsys, "--model", "knows", "--out", out)
        assert model.asked == list(small.queries()) and found["strict"] == whole["strict"]
        assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    model.asked = []
    run(data, "--model", "knows", "--out", tmp_path / "whole.jsonl")
    assert model.asked == []


def test_a_refused_question_is_an_answer_without_target(data, capsys, model):
    model.refuses = True
    found = facts(data, capsys, "--model", "knows")
    assert found["strict"]["all/n_acc"]["value"] == 1.0 and any(t["title"] == "What could not be read" for t in found["tables"])


def test_a_model_brings_its_own_masks_and_depth(data, tmp_path, capsys, model):
    assert run(data, "--model", "knows", "--masks", tmp_path) == 2
    assert "are for --predictions" in capsys.readouterr().err and model.asked == []


@pytest.fixture
def processes(monkeypatch):
    """Commands in a group of processes, as torchrun starts them."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "training")
    import processes as module

    return module


def test_two_processes_measure_as_one_does(data, tmp_path, capsys, processes):
    lines = tmp_path / "p.jsonl"
    lines.write_text("".join(json.dumps(r) + "\n" for r in small.lines()))
    alone = facts(data, capsys, "--predictions", lines, "--out", tmp_path / "alone.jsonl")
    assert processes.run(["eval", "irg", "--data", data, "--predictions", lines, "--out", tmp_path / "run.jsonl", "--json"], tmp_path, 2) == [0, 0]
    said = [[line for line in processes.output(tmp_path, k).splitlines() if line.startswith("{")] for k in (0, 1)]
    assert len(said[0]) == 1 and not said[1]  # one shows the numbers
    found = json.loads(said[0][0])
    assert found["strict"] == alone["strict"] and found["released"] == alone["released"]
    ids = [[json.loads(row)["id"][0] for row in (tmp_path / f"run.{k}-of-2.jsonl").read_text().splitlines()[1:]] for k in (0, 1)]
    assert ids == [["a"] * 4, ["b"]]
