"""`egohoi predict` and `egohoi ask` over Ego-IRG data: analysis, answer, and masks or none, for every query."""

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from egohoi import masks
from egohoi.apps.cli import main
from egohoi.models.annexe import Annexe
from egohoi.models.annexe_module import AnnexeConfig, AnnexeModule
from egohoi.models.annexe_processor import AnnexeProcessor, small_tokenizer
from egohoi.scenes import irgbench

_spec = importlib.util.spec_from_file_location("annexe_drawn", Path(__file__).parents[1] / "annexe_drawn.py")
drawn = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(drawn)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An Ego-IRG folder of three frames and an untrained ANNEXE that writes mask tokens."""
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("irg")
    drawn.data_set(home / "data", 3, side=32, one_each=False, split="test")
    tokenizer = small_tokenizer(["the left hand holds the mug"], 300)
    config = AnnexeConfig.small(len(tokenizer), side=16, width=16, layers=1)
    config = replace(config, language=replace(config.language, max_new_tokens=6))
    torch.manual_seed(0)
    model = Annexe(AnnexeModule(config), AnnexeProcessor(tokenizer, config))
    with torch.no_grad():
        model.module.language.llama_model.get_output_embeddings().extra.mul_(60)
        model.module.decoder.bias.bias.fill_(3.0)
        model.module.target.net[-1].bias.fill_(9.0)
    model.save_pretrained(home / "model")
    return home


def predict(place, out, *more):
    return main(["predict", str(place / "data"), "--out", str(out), "--model", f"annexe:{place / 'model'}", "--device", "cpu", *more])


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_query_gets_analysis_answer_and_masks(place, tmp_path, capsys):
    assert predict(place, tmp_path / "p.jsonl") == 0
    rows = read(tmp_path / "p.jsonl")
    wanted = [(f"{i.id}/{q.id}", q.query) for i in irgbench.read(place / "data", "test") for q in i.questions]
    assert [(r["id"], r["query"]) for r in rows] == wanted and f"{len(wanted)} answers" in capsys.readouterr().out
    for row in rows:
        assert row["task"] == "ground" and row["analysis"] is not None and row["size"] == [32, 32]
        for entity in row["entities"]:
            assert masks.decode(entity["mask"]).shape == (32, 32)
    assert any(row["entities"] for row in rows)


def test_it_goes_on_where_it_was_stopped(place, tmp_path):
    predict(place, tmp_path / "whole.jsonl", "--queries", "1")
    whole = read(tmp_path / "whole.jsonl")
    assert [r["id"].rpartition("/")[2] for r in whole] == ["0"] * len(whole)
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "part.jsonl").write_text("".join(lines[:3]) + lines[3][:20])
    predict(place, tmp_path / "part.jsonl", "--queries", "1")
    again = read(tmp_path / "part.jsonl")
    for row in whole + again:
        row.pop("milliseconds")
    assert again == whole


def test_broken_frames_stop_it_or_are_listed(place, tmp_path, capsys):
    shutil.copytree(place, tmp_path / "in")
    (tmp_path / "in" / "data" / "dataset_split" / "test" / "d001.json").write_text("{}")
    assert predict(tmp_path / "in", tmp_path / "p.jsonl") == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and "test/d001.json: expected a list of entries" in error[0]
    assert predict(tmp_path / "in", tmp_path / "p.jsonl", "--skip-broken") == 0
    assert "1 could not be read:" in (said := capsys.readouterr().out) and "d001.json" in said
    assert {r["id"].partition("/")[0] for r in read(tmp_path / "p.jsonl")} == {"d000", "d002"}
    assert predict(place, tmp_path / "q.jsonl", "--split", "val") == 2
    assert "no split 'val' (there: test)" in capsys.readouterr().err


def test_one_question_or_a_description_of_each_frame(place, tmp_path):
    predict(place, tmp_path / "q.jsonl", "--question", "the mug", "--limit", "2")
    assert [(r["id"], r["query"]) for r in read(tmp_path / "q.jsonl")] == [("d000", "the mug"), ("d001", "the mug")]
    predict(place, tmp_path / "d.jsonl", "--describe")
    assert [r["task"] for r in read(tmp_path / "d.jsonl")] == ["analyze"] * 3


@pytest.mark.parametrize("task", ["ground", "answer", "analyze"])
def test_ask_with_a_task(place, tmp_path, capsys, task):
    picture = str(place / "data" / "RGB" / "d000.jpg")
    assert main(["ask", picture, "the left hand", "--task", task, "--json", "--model", f"annexe:{place / 'model'}", "--device", "cpu"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["task"] == task and bool(row["entities"]) == (task == "ground")
    assert np.shape(row["size"]) == (2,) and row["text"]
