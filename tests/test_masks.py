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
