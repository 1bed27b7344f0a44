"""EgoHOS: one picture of 12x8 pixels whose label was drawn by hand (tests/scenes/miniature.py)."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from egohoi import masks
from egohoi.errors import BadData, EgohoiError
from egohoi.scenes import egohos

DATA = Path(__file__).parent.parent / "data" / "egohos"


@pytest.mark.parametrize("place", [DATA, DATA / "train"])
def test_golden(place):
    (scene,) = egohos.read(place)
    assert scene.id == "egohos/train/ego4d_1" and scene.size == (12, 8) and scene.exhaustive is True
    assert scene.image == str(DATA / "train" / "image" / "ego4d_1.jpg")
    left, right = scene.hands
    assert (left.side, left.box, left.contact, left.object) == ("left", (0, 4, 3, 8), True, 0)
    assert (right.side, right.box, right.contact, right.object) == ("right", (9, 5, 12, 8), False, None)
    assert [(o.name, o.box, o.hands) for o in scene.objects] == [("", (3, 3, 6, 6), ("left",)), ("", (3, 2, 7, 3), ())]
    assert [masks.area(h.mask) for h in scene.hands] == [12, 9]
    assert [masks.area(o.mask) for o in scene.objects] == [9, 4]
    assert scene.extra["through"] == [None, ["left"]]


def test_without_second_order():
    (scene,) = egohos.read(DATA, second_order=False)
    assert len(scene.objects) == 1 and scene.extra["through"] == [None]


def copy(tmp_path, label: np.ndarray) -> Path:
    shutil.copytree(DATA, tmp_path / "data")
    Image.fromarray(label).save(tmp_path / "data" / "train" / "label" / "b.png")
    shutil.copy(DATA / "train" / "image" / "ego4d_1.jpg", tmp_path / "data" / "train" / "image" / "b.jpg")
    return tmp_path / "data"


def test_object_of_both_hands(tmp_path):
    label = np.zeros((8, 12), np.uint8)
    label[0:2, 0:2], label[0:2, 8:10], label[4:6, 2:8] = 1, 2, 5
    scene = next(iter(egohos.read(copy(tmp_path, label))))
    assert [h.object for h in scene.hands] == [0, 0] and scene.objects[0].hands == ("left", "right")


@pytest.mark.parametrize(
    "label, message",
    [
        (np.full((8, 12), 61, np.uint8), "holds the value 61, known are 0 to 8"),
        (np.zeros((8, 11), np.uint8), "is 11x8 pixels, its picture 12x8"),
        (np.zeros((8, 12, 3), np.uint8), "is a picture of mode RGB"),
    ],
)
def test_broken_label_is_named_and_skipped(tmp_path, label, message):
    root = copy(tmp_path, label)
    errors = []
    assert [s.id for s in egohos.read(root, on_error=errors.append)] == ["egohos/train/ego4d_1"]
    assert message in str(errors[0]) and str(root / "train" / "label" / "b.png") in str(errors[0])
    with pytest.raises(EgohoiError):
        list(egohos.read(root))


def test_damaged_and_missing(tmp_path):
    root = copy(tmp_path, np.zeros((8, 12), np.uint8))
    label = root / "train" / "label" / "b.png"
    label.write_bytes(label.read_bytes()[:40])
    with pytest.raises(EgohoiError, match=r"b\.png.* is damaged, cut short or no picture"):
        list(egohos.read(root))
    (root / "train" / "image" / "b.jpg").unlink()
    with pytest.raises(EgohoiError, match=r"b\.jpg is missing"):
        list(egohos.read(root))
    with pytest.raises(BadData, match="holds no folder 'label'"):
        list(egohos.read(tmp_path))
