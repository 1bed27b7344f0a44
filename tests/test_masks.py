import numpy as np
import pytest

from egohoi import masks
from egohoi.errors import BadMask


def test_round_trip_and_measures():
    mask = np.zeros((5, 7), bool)
    mask[1:3, 2:6] = True
    rle = masks.encode(mask)
    assert (masks.decode(rle) == mask).all()
    assert masks.area(rle) == 8
    assert masks.box(rle) == (2.0, 1.0, 6.0, 3.0)
    assert masks.iou(rle, masks.encode(np.roll(mask, 2, axis=1))) == pytest.approx(4 / 12)


def test_runs_that_do_not_fill_the_size_are_refused():
    rle = masks.encode(np.ones((4, 4)))
    with pytest.raises(BadMask, match="runs cover 16"):
        masks.check({"size": [5, 4], "counts": rle["counts"]})
    with pytest.raises(BadMask):
        masks.check({"size": [10**9, 10**9], "counts": rle["counts"]})
    with pytest.raises(BadMask):
        masks.check({"size": [4, 4], "counts": "\x7f\x00"})


def test_random_masks_pass_the_check():
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = rng.random((rng.integers(1, 40), rng.integers(1, 40))) < rng.random()
        assert (masks.decode(masks.check(masks.encode(mask))) == mask).all()


def test_polygon():
    rle = masks.from_polygons([[0, 0, 4, 0, 4, 4, 0, 4]], (8, 6))
    assert rle["size"] == [6, 8] and masks.area(rle) == 16
    assert masks.area(masks.from_polygons([[1, 1, 2, 2]], (8, 6))) == 0


@pytest.mark.parametrize("counts, message", [
    ([17, -1], "whole numbers from 0"), ([16.0], "whole numbers from 0"), (["16"], "whole numbers from 0"), ([15], "runs cover 15"),
    ("", "runs cover 0"), ("\x2f", "not COCO run-length text at 0"), ("0é", "not COCO run-length text"), ("P", "ends in the middle of a run"),
    ("PPPPPPPPP0", "a run of 10 digits"), ("O", "a negative run"), (None, "must be a COCO run-length string"),
])
def test_runs_that_are_refused(counts, message):
    with pytest.raises(BadMask, match=message):
        masks.check({"size": [4, 4], "counts": counts})


def test_sizes_that_are_refused():
    for size in ([4], [0, 4], [True, 16], "44", [4.0, 4]):
        with pytest.raises(BadMask, match="must be .height, width."):
            masks.check({"size": size, "counts": [16]})
    with pytest.raises(BadMask, match="too many"):
        masks.check({"size": [2**16, 2**16], "counts": [2**32]})
    with pytest.raises(BadMask, match="is 4x4 pixels, its picture 4x5"):
        masks.check({"size": [4, 4], "counts": [16]}, (4, 5))
    # Seven digits hold 35 bits; many such runs must not wrap round to the right size.
    with pytest.raises(BadMask, match="runs cover"):
        masks.check({"size": [4, 4], "counts": "oooooo7" * 3000})


def test_the_check_agrees_with_the_decoder_on_changed_texts():
    """Whatever passes is decoded to exactly its runs, by pycocotools."""
    rng = np.random.default_rng(1)
    passed = 0
    for _ in range(400):
        rle = masks.encode(rng.random((6, 7)) < 0.4)
        text = list(rle["counts"])
        text[rng.integers(len(text))] = chr(rng.integers(48, 112))
        rle["counts"] = "".join(text)
        try:
            masks.check(rle)
        except BadMask:
            continue
        passed += 1
        assert masks.decode(rle).shape == (6, 7) and masks.area(rle) == masks.decode(rle).sum()
    assert 0 < passed < 400
