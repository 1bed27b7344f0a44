"""Depth measures with values worked out by hand."""

import numpy as np
import pytest
from PIL import Image

from egohoi.evaluation import depth_metrics as d

TRUTH = np.array([[2.0, 4.0], [8.0, 0.0]])  # 0: not measured
SAID = np.array([[1.0, 4.0], [9.0, 77.0]])


def test_errors_leave_holes_out():
    assert d.abs_rel(SAID, TRUTH) == (0.5 + 0 + 0.125) / 3
    assert d.rmse(SAID, TRUTH) == np.sqrt((1 + 0 + 1) / 3)
    assert d.delta(SAID, TRUTH) == 2 / 3  # ratios 2, 1, 1.125
    assert d.delta(-TRUTH, TRUTH) == 0.0
    assert d.abs_rel(SAID, TRUTH * 0) is d.rmse(SAID, TRUTH * 0) is d.delta(SAID, TRUTH * 0) is None
    with pytest.raises(ValueError, match="different sizes"):
        d.rmse(SAID[:1], TRUTH)


def test_align_finds_scale_and_shift():
    assert d.align((TRUTH - 3) / 7, TRUTH)[TRUTH > 0] == pytest.approx([2, 4, 8])
    assert (d.align(np.ones((2, 2)), TRUTH) == pytest.approx(14 / 3))  # one depth everywhere: the mean fits best
    assert d.align(np.array([[0.0, 1.0], [2.0, -100.0]]), TRUTH).min() == d.LEAST


def test_normalized_mae():
    assert d.normalized_mae(np.array([[0.0, 0.5], [0.5, 9.0]]), TRUTH) == pytest.approx((0 + abs(0.5 - 1 / 3) + 0.5) / 3)
    assert d.normalized_mae(SAID, np.full((2, 2), 3.0)) is None


def test_annexe_truth_and_mae():
    image = Image.fromarray(np.tile(np.arange(0, 448, dtype=np.uint16), (448, 1)))
    truth = d.annexe_truth(image)
    assert truth.dtype == np.float32 and truth[0, 0] == 0 and truth[5, -1] == 1 and truth[0, 100] == np.float32(100) / np.float32(447)
    eight = d.annexe_truth(Image.fromarray(np.tile(np.arange(0, 448) // 2, (448, 1)).astype(np.uint8)))
    assert eight.min() == 0 and eight.max() == 1
    assert d.annexe_mae(np.stack([truth, truth]), np.stack([truth, truth + np.float32(0.5)])) == pytest.approx(0.25, abs=1e-6)
    with pytest.raises(ValueError, match="one picture"):
        d.annexe_mae(truth[None], truth[None])
    assert np.isnan(d.annexe_truth(Image.new("L", (9, 9), 7))).all()
