"""`egohoi build irg`: scenes in, the published layout out, and the check of such a folder."""

import json

import numpy as np
import pytest
import typer
from PIL import Image
from typer.main import get_command

from egohoi import masks
from egohoi.apps.commands.build_irg import irg
from egohoi.errors import BadConfig, BadData
from egohoi.questions import irg as questions
from egohoi.records import Hand, Object, Scene
from egohoi.scenes import irgbench, jsonl


def run(*arguments):
    app = typer.Typer(add_completion=False)
    app.command()(irg)
    return get_command(app)(args=[str(a) for a in arguments], standalone_mode=False)


def rendered(folder, count=6):
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "depth").mkdir()
    scenes = []
    for k in range(count):
        picture = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / "images" / f"{k}.jpg")
        Image.fromarray(np.full((48, 64), 700 + k, np.uint16)).save(folder / "depth" / f"{k}.png")
        parts = []
        for x in (4, 24, 44):
            area = np.zeros((48, 64), bool)
            area[10:30, x : x + 14] = True
            parts.append(((x, 10, x + 14, 30), masks.encode(area)))
        hands = [Hand(side=s, box=b, mask=m, contact=s == "left", object=0 if s == "left" else None) for s, (b, m) in zip(("left", "right"), parts)]
        cup = Object(name=("cup", "pan", "jar")[k % 3], box=parts[2][0], mask=parts[2][1], hands=("left",))
        scenes.append(Scene(
            id=f"s{k}", image=str(folder / "images" / f"{k}.jpg"), size=(64, 48), hands=hands, objects=[cup], exhaustive=True,
            depth=str(folder / "depth" / f"{k}.png"),
        ))
    jsonl.write(folder, scenes)
    return folder


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_build_and_check(tmp_path, capsys):
    data = rendered(tmp_path / "data")
    assert run(data, "--out", tmp_path / "irg", "--splits", "train=0.5,test=0.5", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert sum(report["frames"].values()) == 6 and set(report["frames"]) == {"train", "test"}
    assert run(tmp_path / "irg", "--check", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    total = {k: sum(row[k] for row in found["counts"].values()) for k in ("single", "multi", "none")}
    assert total == report["entries"] and all(total.values())
    item = next(i for i in irgbench.read(tmp_path / "irg", "train") if i.kind == "multi")
    made = questions.example(item, item.questions[0])
    assert made.type == "multi" and [t["name"] for t in made.targets] == list(item.names)
    assert made.conversation[1][1] == " and ".join(item.names) and made.targets[0]["box"] == list(masks.box(made.targets[0]["mask"]))


def test_a_stopped_build_goes_on_to_the_same_bytes(tmp_path):
    data = rendered(tmp_path / "data")
    run(data, "--out", tmp_path / "whole")
    run(data, "--out", tmp_path / "again")
    for path in list((tmp_path / "again" / "dataset_split").rglob("*.json"))[::2]:
        path.unlink()
    (tmp_path / "again" / "RGB" / "s1.jpg.part").write_bytes(b"cut")
    run(data, "--out", tmp_path / "again")
    assert tree(tmp_path / "again") == tree(tmp_path / "whole")


def test_broken_scenes_stop_or_are_listed(tmp_path, capsys):
    data = rendered(tmp_path / "data")
    (data / "images" / "2.jpg").unlink()
    with open(data / "scenes.jsonl", "a") as file:
        file.write("{cut\n")
    with pytest.raises(BadData, match="images/2.jpg: no such picture"):
        run(data, "--out", tmp_path / "irg")
    assert run(data, "--out", tmp_path / "irg", "--skip-broken") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("broken: ")]
    assert len(lines) == 2 and "images/2.jpg" in lines[0] and "scenes.jsonl:7" in lines[1]


def test_check_names_what_is_wrong(tmp_path, capsys):
    run(rendered(tmp_path / "data"), "--out", tmp_path / "irg", "--splits", "train=1")
    (tmp_path / "irg" / "depth" / "s3.png").unlink()
    (tmp_path / "irg" / "dataset_split" / "train" / "s4.json").write_text("{}")
    with pytest.raises(BadData, match="depth/s3.png: missing"):
        run(tmp_path / "irg", "--check")
    capsys.readouterr()
    assert run(tmp_path / "irg", "--check", "--skip-broken") == 2
    said = capsys.readouterr().out
    assert "broken: " in said and "depth/s3.png" in said and "s4.json" in said and "2 broken frames" in said
    assert run(tmp_path / "irg", "--check", "--skip-broken", "--no-depth") == 2
    assert "1 broken frames" in capsys.readouterr().out


def test_wrong_options_are_one_line(tmp_path):
    with pytest.raises(BadConfig, match="--out"):
        run(tmp_path)
    with pytest.raises(BadConfig, match="NAME=SHARE"):
        run(tmp_path, "--out", tmp_path / "o", "--splits", "train")
    with pytest.raises(BadData, match="no scenes.jsonl"):
        run(tmp_path, "--out", tmp_path / "o")
