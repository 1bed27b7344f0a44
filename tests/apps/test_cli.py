"""The command line as a user runs it, in process where the exit path allows, on the embedded model."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from egohoi.apps.cli import COMMANDS, main

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "examples" / "kitchen.jpg"


@pytest.fixture(autouse=True)
def no_networks(monkeypatch, tmp_path):
    """The tests do not depend on what was fetched on this machine."""
    monkeypatch.setenv("EGOHOI_HOME", str(tmp_path / "home"))


def test_help_imports_no_heavy_library():
    code = "import sys; from egohoi.apps.cli import main; main(['--help']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("False") and all(name in done.stdout for name in COMMANDS)


def test_unknown_command(capsys):
    assert main(["serv"]) == 2
    assert capsys.readouterr().err == "egohoi: no command 'serv': did you mean 'serve'?\n"


@pytest.mark.parametrize("name", ["convert", "build", "eval"])
def test_a_command_of_several_alone_shows_its_help(name, capsys):
    assert main([name]) == 2
    said = capsys.readouterr()
    assert f"egohoi {name}" in said.out and said.err == ""


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["ask", "none.jpg", "x"], "no such file"),
        (["ask", ".", "x"], "folder"),
        (["ask", str(PHOTO), ""], "question is empty"),
        (["ask", str(PHOTO), "word " * 10000], "at most"),
        (["ask", str(PHOTO), "x", "--box", "9000,0,9100,10"], "outside"),
        (["ask", str(PHOTO), "x", "--box", "1,2"], "expected 4 numbers"),
        (["ask", str(PHOTO), "x", "--model", "nono"], "unknown kind"),
        (["ask", str(PHOTO), "x", "--model", "nano:/nowhere"], "not a nano folder"),
        (["ask", str(PHOTO), "x", "--temperature", "-1"], "temperature"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, says, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and error.startswith("egohoi: ")


def _json(capsys, *arguments) -> dict:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_ask_prints_the_response_and_draws_it(capsys, tmp_path):
    out = _json(capsys, "ask", str(PHOTO), "Where are my hands?", "--overlay", str(tmp_path / "o.png"))
    assert list(out) == ["image", "size", "query", "task", "text", "analysis", "target_found", "entities", "model", "milliseconds"]
    assert out["task"] == "refer" and out["model"] == "nano" and out["size"] == list(Image.open(PHOTO).size)
    assert Image.open(tmp_path / "o.png").size[0] >= out["size"][0]
    for entity in out["entities"]:
        assert list(entity) == ["name", "kind", "side", "box", "score", "mask", "holds"]


def test_any_picture_mode_and_size_works(capsys, tmp_path):
    pixels = np.asarray(Image.open(PHOTO).convert("RGB"))
    for name, image in (("grey.png", Image.fromarray(pixels).convert("L")), ("small.png", Image.fromarray(pixels).resize((120, 90))),
                        ("thin.png", Image.new("RGB", (3, 400))), ("cmyk.jpg", Image.fromarray(pixels).convert("CMYK"))):  # fmt: skip
        image.save(tmp_path / name)
        out = _json(capsys, "describe", str(tmp_path / name))
        assert out["size"] == list(image.size)
        assert all(e["mask"] is None or e["mask"]["size"] == [image.size[1], image.size[0]] for e in out["entities"])


def test_a_batch_answers_as_one_by_one():
    import egohoi

    model = egohoi.load("nano")
    photos = [ROOT / "examples" / n for n in ("kitchen.jpg", "workbench.jpg", "mug.jpg")]
    items = [(p, q) for p in photos for q in ("where is my left hand", "what am I holding?", "segment the hands")][:8]
    alone = [model.ask(p, q) for p, q in items]
    for a, b in zip(model.ask_many(items), alone):
        assert a.text == b.text and a.entities == b.entities and a.target_found == b.target_found


def test_predict_resumes_to_the_same_lines(capsys, tmp_path):
    from egohoi.records import Scene
    from egohoi.scenes import jsonl

    scenes = [Scene(f"s{k}", str(PHOTO), Image.open(PHOTO).size, questions=({"question": q},)) for k, q in enumerate(("where is my left hand", "what am i holding"))]
    jsonl.write(tmp_path, scenes)
    out = tmp_path / "answers.jsonl"
    assert main(["predict", str(tmp_path), "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["id"] for r in rows] == ["s0", "s1"]
    first = out.read_bytes().splitlines(keepends=True)[0]
    out.write_bytes(first + b'{"id": "s1", "ima')
    assert main(["predict", str(tmp_path), "--out", str(out)]) == 0
    again = [json.loads(line) for line in out.read_text().splitlines()]
    for r in rows + again:
        r.pop("milliseconds")
    assert again == rows
    other = tmp_path / "other"
    jsonl.write(other, scenes[::-1])
    assert main(["predict", str(other), "--out", str(out)]) == 2
