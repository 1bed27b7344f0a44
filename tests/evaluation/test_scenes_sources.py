"""`egohoi eval scenes` on EgoHOS and VISOR: the table by class, worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from egohoi import masks
from egohoi.apps.cli import main
from egohoi.evaluation import scenes as measures
from egohoi.records import Entity, Response
from egohoi.scenes import egohos, visor

DATA = Path(__file__).parents[1] / "data"
SIZE = (20, 10)
#: Value of an EgoHOS label -> its pixels: each hand 10, an object in the left hand 4, one in the right hand 8, one in both 6.
LABEL = {1: np.s_[0:2, 0:5], 2: np.s_[0:2, 10:15], 3: np.s_[4:6, 0:2], 4: np.s_[4:6, 10:14], 5: np.s_[8:10, 0:3]}


@pytest.fixture
def data(tmp_path):
    """Two pictures: one with every class, one without any."""
    for part in ("image", "label"):
        (tmp_path / "test_outdomain" / part).mkdir(parents=True)
    for name, label in (("a", LABEL), ("b", {})):
        index = np.zeros(SIZE[::-1], np.uint8)
        for value, place in label.items():
            index[place] = value
        Image.fromarray(index).save(tmp_path / "test_outdomain/label" / f"{name}.png")
        Image.fromarray(np.zeros((*SIZE[::-1], 3), np.uint8)).save(tmp_path / "test_outdomain/image" / f"{name}.jpg")
    return tmp_path


def thing(kind, side, place, holds=None):
    pixels = np.zeros(SIZE[::-1], np.uint8)
    pixels[place] = 1
    rle = masks.encode(pixels)
    return Entity("hand" if kind == "hand" else "thing", kind, side, masks.box(rle), 0.9, rle, holds)


def answers(scenes):
    """The left hand exact; half of the right hand; the left object not seen; the right object twice as large; the one in both hands in the
    left hand only. In the second picture a left hand of 5 pixels that is not there."""
    first = [
        thing("hand", "left", LABEL[1], holds=(3,)), thing("hand", "right", np.s_[0:1, 10:15], holds=(2,)), thing("object", None, np.s_[4:8, 10:14]),
        thing("object", None, LABEL[5]),
    ]  # fmt: skip
    second = [thing("hand", "left", np.s_[0:1, 0:5], holds=())]
    return [Response(s.image, s.size, "What is happening?", "analyze", "", bool(found), found) for s, found in zip(scenes, (first, second))]


#: Class -> (mean IoU of the photos that have it, IoU of the set).
BY_HAND = {
    "left_hand": (1.0, 10 / 15), "right_hand": (0.5, 5 / 10), "left_object": (0.0, 0 / (4 + 6)), "right_object": (0.5, 8 / 16), "two_hand_object": (0.0, 0 / 6),
}  # fmt: skip


def test_classes_of_egohos(data):
    scenes = list(egohos.read(data))
    scores = [measures.detection(s, r) for s, r in zip(scenes, answers(scenes))]
    sums = {}
    for score in scores:
        for key, (n, d) in score.items():
            held = sums.get(key, (0, 0))
            sums[key] = (held[0] + n, held[1] + d)
    for name, (mean, of_set) in BY_HAND.items():
        n, d = sums[f"class_masks.{name}/iou"]
        assert (d, n / d) == (1, pytest.approx(mean)), name
        n, d = sums[f"class_masks.{name}/of_set"]
        assert n / d == pytest.approx(of_set), name


def rows(out, title="Masks by class"):
    return {r["name"]: r for r in next(t for t in json.loads(out)["tables"] if t["title"] == title)["rows"]}


def saved(path, scenes, responses):
    path.write_text("".join(json.dumps({"id": f"{s.id}/describe", **r.to_json()}) + "\n" for s, r in zip(scenes, responses)))
    return path


def test_the_table_of_egohos(data, tmp_path, capsys):
    scenes = list(egohos.read(data))
    lines = saved(tmp_path / "p.jsonl", scenes, answers(scenes))
    assert main(["eval", "scenes", str(data), "--format", "egohos", "--predictions", str(lines), "--json"]) == 0
    found = rows(capsys.readouterr().out)
    names = ("left hand", "right hand", "object in the left hand", "object in the right hand", "object in both hands")
    assert tuple(found) == names
    for name, (mean, of_set) in zip(names, BY_HAND.values()):
        assert (found[name]["photos"], found[name]["mean IoU"]["value"], found[name]["IoU of the set"]["value"]) == (1, pytest.approx(mean, abs=1e-6), pytest.approx(of_set, abs=1e-6))


def test_the_truth_of_visor_scores_full_marks(tmp_path, capsys):
    scenes = list(visor.read(DATA / "visor"))
    responses = []
    for s in scenes:
        first = len(s.hands)
        hands = [Entity(f"{h.side} hand", "hand", None if h.side == "other" else h.side, h.box, 0.9, h.mask, tuple(first + k for k, o in enumerate(s.objects) if h.side in o.hands)) for h in s.hands]
        things = [Entity(o.name, "object", None, o.box, 0.9, o.mask) for o in s.objects]
        responses.append(Response(s.image, s.size, "What is happening?", "analyze", "", bool(hands), [*hands, *things]))
    lines = saved(tmp_path / "p.jsonl", scenes, responses)
    assert main(["eval", "scenes", str(DATA / "visor"), "--format", "visor", "--frames", "/frames", "--predictions", str(lines), "--json"]) == 0
    out = capsys.readouterr().out
    found = rows(out)
    assert {"left hand", "right hand"} < set(found) and all(r["IoU of the set"]["value"] == 1 for r in found.values())
    assert all(r["recall, IoU > 0.5"]["value"] == 1 for r in rows(out, "Active objects").values())


def test_what_is_not_labelled_is_not_called_absent(data):
    import dataclasses

    scenes = list(egohos.read(data))
    open_ended = dataclasses.replace(scenes[1], exhaustive=False, hands=scenes[0].hands[1:], objects=scenes[0].objects)
    score = measures.detection(open_ended, answers(scenes)[1])
    assert "class_masks.left_hand/of_set" not in score and score["class_masks.right_hand/of_set"] == (0, 10)
    assert "class_masks.left_hand/of_set" not in measures.detection(scenes[1], answers(scenes)[1], masked=False)
