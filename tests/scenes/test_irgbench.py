"""Ego-IRGBench as published: a hand-made miniature, every way in which it may be broken, and the check."""

import json

import numpy as np
import pytest
from PIL import Image

from egohoi.errors import BadData, BadRecord, EgohoiError
from egohoi.scenes import irgbench

ENTRIES = [
    {"masks_idx": [2, 0, 0, 0], "with_mask": 1, "caption": "The left hand holds a mug.", "answer": "The left hand.",
     "tokens": ["left hand", "", "", ""],
     "questions": [{"id": 0, "query": "left hand", "is_sentence": 0}, {"id": 1, "query": "Where is the left hand?", "is_sentence": 1}]},
    {"masks_idx": [5, 2, 0, 0], "with_mask": 1, "caption": "The left hand holds a mug.", "answer": "The mug and the left hand.",
     "tokens": ["mug", "left hand", "", ""], "questions": [{"id": 0, "query": "mug and left hand", "is_sentence": False}]},
    {"masks_idx": [0, 0, 0, 0], "with_mask": 0, "caption": "The left hand holds a mug.", "answer": "There is no knife.",
     "tokens": ["", "", "", ""], "questions": [{"id": 0, "query": "the knife", "is_sentence": False}]},
]


def make(folder, name="v1_00104", split="train", entries=None, size=(40, 24)):
    """One frame: index 2 fills x 4..12, y 6..18; index 5 fills x 20..30, y 4..10."""
    width, height = size
    for part in ("RGB", "depth", "mask", f"dataset_split/{split}"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    index = np.zeros((height, width), dtype=np.uint8)
    index[6:18, 4:12] = 2
    index[4:10, 20:30] = 5
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(folder / "RGB" / f"{name}.jpg")
    Image.fromarray(np.linspace(400, 900, width * height).reshape(height, width).astype(np.uint16)).save(folder / "depth" / f"{name}.png")
    Image.fromarray(index).save(folder / "mask" / f"{name}.png")
    text = json.dumps(ENTRIES if entries is None else entries)
    (folder / "dataset_split" / split / f"{name}.json").write_text(text)
    return folder


def test_every_entry_and_every_query_is_kept(tmp_path):
    items = list(irgbench.read(make(tmp_path), "train"))
    assert [i.id for i in items] == ["v1_00104/0", "v1_00104/1", "v1_00104/2"]
    assert [i.kind for i in items] == ["single", "multi", "none"]
    assert [q.query for q in items[0].questions] == ["left hand", "Where is the left hand?"]
    assert [q.is_sentence for q in items[0].questions] == [False, True]
    assert items[1].names == ("mug", "left hand") and items[1].targets[0].value == 5
    assert items[0].size == (40, 24) and items[2].answer == "There is no knife."


def test_masks_are_those_of_the_named_index_in_order(tmp_path):
    item = list(irgbench.read(make(tmp_path), "train"))[1]
    mug, hand = irgbench.target_masks(item)
    assert mug.shape == (24, 40) and mug.sum() == 60 and mug[4, 20] and not mug[10, 20]
    assert hand.sum() == 96 and hand[6, 4] and not hand[6, 12]
    assert irgbench.depth_image(item)[0, 0] == 400 and irgbench.depth_image(item).dtype == np.float32


def test_palette_masks_read_as_indices(tmp_path):
    make(tmp_path)
    path = tmp_path / "mask" / "v1_00104.png"
    image = Image.open(path)
    image.load()
    image = image.convert("P") if image.mode == "P" else Image.fromarray(np.asarray(image), mode="P")
    image.putpalette([255, 0, 0, 9, 9, 9, 0, 0, 255] + [7, 7, 7] * 253)
    image.save(path)
    assert irgbench.target_masks(next(irgbench.read(tmp_path, "train")))[0].sum() == 96


def test_scenes_name_each_thing_once(tmp_path):
    (scene,) = irgbench.scenes(make(tmp_path), "train")
    assert [h.side for h in scene.hands] == ["left"] and scene.hands[0].box == (4, 6, 12, 18) and scene.hands[0].contact is None
    assert [(o.name, o.box) for o in scene.objects] == [("mug", (20, 4, 30, 10))]
    assert scene.narration == "The left hand holds a mug." and scene.exhaustive is None


def test_splits_and_unknown_split(tmp_path):
    make(make(tmp_path), split="odd")
    make(tmp_path, split="test")
    assert irgbench.splits(tmp_path) == ("train", "test", "odd")
    with pytest.raises(BadData, match="no split 'val' .*train, test, odd"):
        list(irgbench.read(tmp_path, "val"))
    with pytest.raises(BadData, match="dataset_split"):
        irgbench.splits(tmp_path / "RGB")


def edited(**changes):
    return [{**ENTRIES[0], **changes}]


BROKEN = {
    "a dict": ({"a": 1}, "expected a list of entries, got dict"),
    "an empty list": ([], "empty"),
    "a list of texts": (["x"], "entry 0: expected an object"),
    "no tokens": ([{k: v for k, v in ENTRIES[0].items() if k != "tokens"}], "lacks tokens"),
    "an index out of range": (edited(masks_idx=[70000, 0, 0, 0]), "masks_idx 70000 is out of range"),
    "a negative index": (edited(masks_idx=[-1, 0, 0, 0]), "masks_idx -1 is out of range"),
    "an index as text": (edited(masks_idx=["2"]), "list of integers"),
    "an index without name": (edited(tokens=["", "", "", ""]), "masks_idx 2 has no name"),
    "the same index twice": (edited(masks_idx=[2, 2, 0, 0], tokens=["a", "b", "", ""]), "same pixels twice"),
    "five targets": (edited(masks_idx=[1, 2, 3, 4, 5], tokens=list("abcde")), "at most 4"),
    "with_mask 7": (edited(with_mask=7), "with_mask must be 0 or 1"),
    "no query": (edited(questions=[]), "at least one query"),
    "an empty query": (edited(questions=[{"id": 1, "query": " "}]), "question 0"),
    "a number as caption": (edited(caption=3), "caption must be text"),
}


@pytest.mark.parametrize("entries, message", BROKEN.values(), ids=BROKEN.keys())
def test_json_of_another_shape_names_the_file(tmp_path, entries, message):
    make(tmp_path, entries=entries)
    with pytest.raises(BadRecord, match=message) as caught:
        list(irgbench.read(tmp_path, "train"))
    assert "v1_00104.json" in str(caught.value) and "\n" not in str(caught.value)


def test_cut_json_is_one_line(tmp_path):
    make(tmp_path)
    path = tmp_path / "dataset_split" / "train" / "v1_00104.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(BadRecord, match="v1_00104.json: not JSON"):
        list(irgbench.read(tmp_path, "train"))


@pytest.mark.parametrize("part, ending", [("RGB", "jpg"), ("depth", "png"), ("mask", "png")])
def test_a_missing_file_is_named(tmp_path, part, ending):
    make(tmp_path)
    (tmp_path / part / f"v1_00104.{ending}").unlink()
    with pytest.raises(BadData, match=f"{part}/v1_00104.{ending}: missing"):
        list(irgbench.read(tmp_path, "train"))


def test_depth_may_be_optional(tmp_path):
    make(tmp_path)
    (tmp_path / "depth" / "v1_00104.png").unlink()
    items = list(irgbench.read(tmp_path, "train", depth=False))
    assert len(items) == 3 and items[0].depth is None
    with pytest.raises(BadData, match="has no depth image"):
        irgbench.depth_image(items[0])


@pytest.mark.parametrize("part, what", [("mask", "mask"), ("depth", "depth image")])
def test_a_mask_or_depth_of_another_size_is_named(tmp_path, part, what):
    make(tmp_path)
    Image.fromarray(np.zeros((12, 20), np.uint8)).save(tmp_path / part / "v1_00104.png")
    with pytest.raises(BadData, match=f"{part}/v1_00104.png: the {what} is 20x12 pixels, its picture 40x24"):
        list(irgbench.read(tmp_path, "train"))


def test_an_index_that_no_pixel_holds_is_named(tmp_path):
    make(tmp_path, entries=edited(masks_idx=[9, 0, 0, 0]))
    item = next(irgbench.read(tmp_path, "train"))
    with pytest.raises(BadData, match=r"mask/v1_00104.png: masks_idx 9 \('left hand', entry 0\) occurs nowhere"):
        irgbench.target_masks(item)


def test_a_mask_with_colours_is_refused(tmp_path):
    make(tmp_path)
    colours = np.zeros((24, 40, 3), np.uint8)
    colours[:, :, 0] = 2
    Image.fromarray(colours).save(tmp_path / "mask" / "v1_00104.png")
    with pytest.raises(BadData, match="must have one channel"):
        irgbench.index_image(next(irgbench.read(tmp_path, "train")))


def test_a_damaged_mask_is_refused(tmp_path):
    make(tmp_path, size=(400, 300))
    path = tmp_path / "mask" / "v1_00104.png"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(BadData, match="damaged"):
        irgbench.index_image(next(irgbench.read(tmp_path, "train")))


def test_reading_goes_on_and_lists_what_was_broken(tmp_path):
    make(tmp_path, name="a_1")
    make(tmp_path, name="b_1", entries={"x": 1})
    make(tmp_path, name="c_1")
    broken = []
    assert {i.frame for i in irgbench.read(tmp_path, "train", broken=broken)} == {"a_1", "c_1"}
    assert len(broken) == 1 and "b_1.json" in broken[0]


def test_check_counts_and_finds_everything(tmp_path):
    make(tmp_path, name="v1_1")
    make(tmp_path, name="v1_2", split="test")
    make(tmp_path, name="v2_1", entries=edited(masks_idx=[9, 0, 0, 0]))
    make(tmp_path, name="v3_1", split="test")
    make(tmp_path, name="v3_1")
    make(tmp_path, name="v4_1", entries=edited(with_mask=0))
    found = irgbench.check(tmp_path)
    assert found.counts["train"] == {"frames": 3, "entries": 7, "queries": 10, "single": 3, "multi": 2, "none": 2}
    assert found.shared == {"train+test": ["v3_1"]} and found.videos == {"train+test": 2} and not found.good
    assert len(found.problems) == 1 and "occurs nowhere" in found.problems[0]
    assert found.notes == ("train/v4_1/0: with_mask is 0 but masks_idx names 1 targets",)
    with pytest.raises(EgohoiError, match="occurs nowhere"):
        irgbench.check(tmp_path, stop=True)


def test_what_is_written_reads_back(tmp_path):
    source = make(tmp_path / "a")
    (tmp_path / "picture.png").write_bytes(b"")
    Image.fromarray(np.full((24, 40, 3), 50, np.uint8)).save(tmp_path / "picture.png")
    first = next(irgbench.read(source, "train"))
    index = irgbench.index_image(first)
    irgbench.write_frame(tmp_path / "b", "val", "n_1", str(tmp_path / "picture.png"), index, ENTRIES, first.depth)
    back = list(irgbench.read(tmp_path / "b", "val"))
    assert [i.targets for i in back] == [i.targets for i in irgbench.read(source, "train")]
    assert (irgbench.index_image(back[0]) == index).all() and back[0].image.endswith("n_1.jpg")
    assert not list((tmp_path / "b").rglob("*.part"))


@pytest.mark.parametrize("name, side", [
    ("left hand", "left"), ("Right-hand", "right"), ("hand on the left", "left"), ("hand", None), ("hand towel", None),
    ("mug in the left hand", None), ("left glove", None), ("", None),
])
def test_which_names_are_hands_of_a_side(name, side):
    assert irgbench.side_of(name) == side
