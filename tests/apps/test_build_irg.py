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


def labelled(folder):
    """VISOR, EgoHOS and COCO annotations of one picture each: a hand, and what it holds."""
    pictures = {"visor/P01/P01_01/P01_01_frame_0000000140.jpg": (1920, 1080), "egohos/train/image/a.jpg": (64, 48), "coco/c.jpg": (64, 48)}
    for name, size in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (90, 120, 60)).save(folder / name)

    def square(x, y, side):
        return [[x, y], [x + side, y], [x + side, y + side], [x, y + side]]

    rows = [
        {"id": "h", "name": "left hand", "class_id": 300, "segments": [square(100, 500, 200)], "in_contact_object": "o"},
        {"id": "o", "name": "mug", "class_id": 13, "exhaustive": "y", "segments": [square(320, 500, 150)]},
    ]
    image = {"name": "P01_01_frame_0000000140.jpg", "video": "P01_01", "image_path": ""}
    (folder / "P01_01.json").write_text(json.dumps({"video_annotations": [{"image": image, "annotations": rows}]}))
    label = np.zeros((48, 64), np.uint8)
    label[10:30, 4:20], label[10:20, 20:40] = 1, 3
    (folder / "egohos/train/label").mkdir()
    Image.fromarray(label).save(folder / "egohos/train/label/a.png")
    parts = [("right hand", 4, {"in_contact_with": 2}), ("jar", 30, {})]
    (folder / "coco/c.json").write_text(json.dumps({
        "images": [{"id": 1, "width": 64, "height": 48, "file_name": "c.jpg"}], "categories": [{"id": k, "name": n} for k, (n, _, _) in enumerate(parts, 1)],
        "annotations": [
            {"id": k, "image_id": 1, "category_id": k, "bbox": [x, 5, 20, 20], "attributes": more,
             "segmentation": [[float(v) for point in square(x, 5, 20) for v in point]]} for k, (_, x, more) in enumerate(parts, 1)
        ],
    }))
    return folder


def test_raw_annotations_become_ego_irg_data(tmp_path, capsys):
    data = labelled(tmp_path / "raw")
    assert run("--visor", data / "P01_01.json", "--frames", data / "visor", "--out", tmp_path / "v", "--splits", "train=1", "--per-kind", 9) == 0
    assert run("--egohos", data / "egohos", "--out", tmp_path / "e", "--splits", "declared", "--wordings", 20) == 0
    assert run("--coco", data / "coco/c.json", "--out", tmp_path / "c", "--splits", "train=1") == 0
    for folder, names in (("v", ("left hand", "mug")), ("e", ("left hand", "held object")), ("c", ("right hand", "jar"))):
        items = list(irgbench.read(tmp_path / folder, "train", depth=False))
        assert names in [i.names for i in items], folder
        for item in items:
            assert all(mask.sum() >= 16 for mask in irgbench.target_masks(item))
    assert run(tmp_path / "v", "--check", "--no-depth") == 0
    capsys.readouterr()
    with pytest.raises(BadData, match=r"P01/P01_01/P01_01_frame_0000000140.jpg: no such picture, but scene 'visor/P01_01/140' of .* \(--frames"):
        run("--visor", data / "P01_01.json", "--out", tmp_path / "x")
    with pytest.raises(BadData, match="declares no split"):
        run("--coco", data / "coco/c.json", "--out", tmp_path / "y", "--splits", "declared")
    assert run("--coco", data / "coco/c.json", "--out", tmp_path / "y", "--splits", "train=1") == 0  # nothing was there to be mixed with


def test_pictures_of_another_size_and_cut_ones_are_refused(tmp_path, capsys):
    data = rendered(tmp_path / "data")
    Image.new("RGB", (32, 24)).save(data / "images" / "0.jpg")
    Image.new("I;16", (32, 24)).save(data / "depth" / "1.png")
    (data / "images" / "2.jpg").write_bytes((data / "images" / "2.jpg").read_bytes()[:400])
    (data / "depth" / "3.png").write_bytes(b"no picture")
    with pytest.raises(BadData, match="images/0.jpg: is 32x24 pixels, its labels are for 64x48"):
        run(data, "--out", tmp_path / "irg")
    assert run(data, "--out", tmp_path / "irg", "--skip-broken") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("broken: ")]
    for line, file in zip(lines, ("images/0.jpg", "depth/1.png", "images/2.jpg", "depth/3.png"), strict=True):
        assert file in line
    assert run(tmp_path / "irg", "--check") == 0


def test_other_options_in_the_same_folder_are_refused(tmp_path):
    data = rendered(tmp_path / "data")
    run(data, "--out", tmp_path / "irg")
    with pytest.raises(BadData, match="was built with seed 0, now 1"):
        run(data, "--out", tmp_path / "irg", "--seed", 1)
    with pytest.raises(BadData, match="splits 'train=0.8,val=0.1,test=0.1', now 'train=1'"):  # frames would be in two splits
        run(data, "--out", tmp_path / "irg", "--splits", "train=1")
    (tmp_path / "irg" / "build.json").unlink()
    with pytest.raises(BadData, match="not built here"):
        run(data, "--out", tmp_path / "irg")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadData, match="cannot be written"):
        run(data, "--out", tmp_path / "file")


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
    with pytest.raises(BadConfig, match="name a folder with scenes.jsonl, or --visor"):
        run("--out", tmp_path / "o")
    with pytest.raises(BadConfig, match="name one folder"):
        run("--check")
    with pytest.raises(BadConfig, match="different names"):
        run(tmp_path, "--out", tmp_path / "o", "--splits", "train=1,train=2")
    with pytest.raises(BadConfig, match="NAME=SHARE"):
        run(tmp_path, "--out", tmp_path / "o", "--splits", "train")
    with pytest.raises(BadData, match="no scenes.jsonl"):
        run(tmp_path, "--out", tmp_path / "o")
