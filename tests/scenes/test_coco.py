"""COCO with hand attributes: the miniature, with every number worked out by hand."""

import json
from pathlib import Path

import pytest

from egohoi import masks
from egohoi.errors import BadRecord
from egohoi.scenes import coco

DATA = Path(__file__).parent.parent / "data" / "coco"


def test_golden():
    kitchen, desk = coco.read(DATA)
    assert (kitchen.id, kitchen.image, kitchen.size) == ("coco/11", str(DATA / "kitchen.jpg"), (640, 480))
    assert (kitchen.narration, kitchen.action, kitchen.verb, kitchen.noun) == ("the person washes a cup", "wash cup", "wash", "cup")
    assert kitchen.exhaustive is True and desk.exhaustive is None
    left, right = kitchen.hands
    assert (left.side, left.box, left.contact, left.object, left.glove, left.mask) == ("left", (60, 120, 120, 200), True, 0, False, None)
    # 60 pixels beyond the right edge; null says that it touches nothing
    assert (right.side, right.box, right.contact, right.object, right.glove) == ("right", (400, 300, 640, 400), False, None, None)
    assert [(o.name, o.box, o.hands) for o in kitchen.objects] == [("cup", (100, 100, 150, 160), ("left",))]  # no crowd
    assert masks.area(kitchen.objects[0].mask) == 50 * 60
    # side by the category's name; contact as a list; uncompressed runs: rows 10 and 11 of column 10
    assert (desk.hands[0].side, desk.hands[0].object, desk.objects[0].hands) == ("right", 0, ("right",))
    assert masks.box(desk.objects[0].mask) == (10.0, 10.0, 11.0, 12.0)


def test_options():
    kitchen, desk = coco.read(DATA / "annotations.json", images="/pictures", masks=False)
    assert desk.image == "/pictures/sub/desk.png"
    assert kitchen.objects[0].mask is None


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d["annotations"][1]["attributes"].pop("side"), "annotation 1: a hand needs the attribute side"),
        (lambda d: d["annotations"][1]["attributes"].update(side="third"), "side must be one of left, right, other, got 'third'"),
        (lambda d: d["annotations"][1]["attributes"].update(in_contact_with=77), "in_contact_with 77 is no annotation of the same"),
        (lambda d: d["annotations"][0].update(category_id=9), "category 9 is not among"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 3]), "bbox must be [x, y, width, height]"),
        (lambda d: d["annotations"][0].update(bbox=[700, 2, 3, 4]), "needs x1 < x2"),
        (lambda d: d["annotations"][0].update(segmentation={"size": [480, 640], "counts": [5]}), "runs cover 5 pixels"),
    ],
)
def test_broken_picture_is_named_and_skipped(tmp_path, change, message):
    data = json.loads((DATA / "annotations.json").read_text())
    change(data)
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(data))
    with pytest.raises(BadRecord) as caught:
        list(coco.read(path))
    assert str(caught.value).startswith(f"{path}: picture 1: ") and message in str(caught.value)
    errors = []
    assert [s.id for s in coco.read(path, on_error=errors.append)] == ["coco/12"]
    assert len(errors) == 1


def test_hand_that_touches_a_hand_touches_no_object(tmp_path):
    data = json.loads((DATA / "annotations.json").read_text())
    data["annotations"][1]["attributes"]["in_contact_with"] = 2
    data["annotations"][2]["in_contact_with"] = "unknown"
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data))
    scene = next(coco.read(path))
    assert [(h.contact, h.object) for h in scene.hands] == [(True, None), (None, None)]
