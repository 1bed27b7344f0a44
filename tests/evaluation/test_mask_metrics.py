"""Mask measures with values worked out by hand on grids of a few pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egohoi import masks
from egohoi.errors import BadMask
from egohoi.evaluation import mask_metrics as m
from egohoi.evaluation.mask_metrics import Overlap


def grid(*rows):
    return masks.encode(np.array([[c == "#" for c in row] for row in rows]))


LEFT = grid("##..", "##..")
MIDDLE = grid(".##.", ".##.")
RIGHT = grid("..##", "..##")
EMPTY = grid("....", "....")


def test_overlap_counts_pixels():
    assert m.overlap(LEFT, MIDDLE) == (2, 6)
    assert m.overlap(LEFT, EMPTY) == (0, 4) and m.overlap(EMPTY, EMPTY).iou == 1.0
    assert m.overlap({"size": [2, 4], "counts": [0, 4, 4]}, LEFT) == (4, 4)
    with pytest.raises(BadMask, match="different sizes"):
        m.overlap(LEFT, grid("##"))


def test_overlap_of_unions_takes_no_target():
    assert m.overlap_of_unions([LEFT, MIDDLE], [RIGHT]) == (2, 8)
    assert m.overlap_of_unions([], [RIGHT, MIDDLE]) == (0, 6) == m.overlap_of_unions([RIGHT, MIDDLE], [])
    assert m.overlap_of_unions([], []) == (0, 0)


def test_cumulative_and_mean_are_different_numbers():
    found = [Overlap(1, 2), Overlap(30, 100), Overlap(0, 0), Overlap(0, 10)]
    assert m.ciou_cumulative(found) == 31 / 112
    assert m.giou_mean(found) == (0.5 + 0.3 + 1 + 0) / 4
    assert m.ciou_cumulative([Overlap(0, 0)]) is None and m.giou_mean([]) is None


def test_every_target_has_its_own_mask():
    assert m.iou_per_target([MIDDLE, LEFT], [LEFT, RIGHT]) == (1.0, 2 / 6)
    assert m.iou_per_target([MIDDLE], [LEFT, RIGHT]) == (2 / 6, 0.0)
    assert m.iou_per_target([], [LEFT]) == (0.0,) and m.iou_per_target([LEFT], []) == ()


def test_boundary_iou_of_a_square_that_is_moved_by_one():
    # 100x100 pixels with width 0.01: the contour is one pixel wide. A 10x10 square has 36 contour pixels, and after a shift by one
    # column the two contours share the 9 pixels of the top row, the 9 of the bottom row.
    a, b = np.zeros((100, 100)), np.zeros((100, 100))
    a[20:30, 20:30] = b[20:30, 21:31] = 1
    assert m.boundary_iou(masks.encode(a), masks.encode(b), 0.01) == 18 / (36 + 36 - 18)
    assert m.boundary_iou(masks.encode(a), masks.encode(a)) == 1.0
    assert m.boundary_iou(masks.encode(a), masks.encode(a * 0)) == 0.0 and m.boundary_iou(EMPTY, EMPTY) == 1.0


def test_contour_reaches_the_edge_of_the_picture():
    whole, hollow = np.ones((100, 100)), np.ones((100, 100))
    hollow[1:-1, 1:-1] = 0
    assert m.boundary_iou(masks.encode(whole), masks.encode(hollow), 0.01) == 1.0


def test_class_counts_of_one_item():
    counts = m.class_counts([LEFT, RIGHT], [MIDDLE], (4, 2))
    # labels predicted 1122, true 0110, twice
    assert counts == ((0, 4, 4), (2, 6, 4), (0, 4, 0), (0, 0, 0), (0, 0, 0))
    assert m.class_counts([], [], (4, 2))[0] == (8, 8, 8)


def test_the_first_of_overlapping_masks_has_the_pixel():
    # predicted 1 1 2 . (LEFT before MIDDLE), true . 1 1 .
    assert m.class_counts([LEFT, MIDDLE], [MIDDLE], (4, 2))[:3] == ((2, 4, 4), (2, 6, 4), (0, 2, 0))


def test_a_free_place_is_a_class_without_pixels():
    placed = m.class_counts([None, LEFT], [None, MIDDLE], (4, 2))
    assert placed == m.class_counts([EMPTY, LEFT], [EMPTY, MIDDLE], (4, 2)) and placed[1:3] == ((0, 0, 0), (2, 6, 4))
    assert m.class_counts([LEFT, None], [None], (4, 2))[:2] == ((4, 8, 8), (0, 4, 0))


def test_annexe_batch_iou_repeats_the_class_before_an_absent_one():
    one = m.class_counts([LEFT], [MIDDLE], (4, 2))  # background 2 of 6, class 1 2 of 6, classes 2 and 3 absent
    e = 1e-6
    assert m.annexe_batch_iou([one]) == sum([2 / (6 + e)] * 4) / 4
    third = m.class_counts([EMPTY, EMPTY, LEFT], [EMPTY, EMPTY, LEFT], (4, 2))  # class 1 and 2 absent: background again
    assert m.annexe_batch_iou([third]) == sum([4 / (4 + e)] * 4) / 4
    both = m.annexe_batch_iou([one, third])
    values = [6 / (10 + e), 2 / (6 + e), 2 / (6 + e), 4 / (4 + e)]
    assert both == sum(values) / 4


def test_annexe_batch_iou_never_sees_the_fourth_target():
    right = m.class_counts([EMPTY, EMPTY, EMPTY, LEFT], [EMPTY, EMPTY, EMPTY, LEFT], (4, 2))
    wrong = m.class_counts([EMPTY, EMPTY, EMPTY, EMPTY], [EMPTY, EMPTY, EMPTY, LEFT], (4, 2))
    assert m.annexe_batch_iou([right]) == pytest.approx(1.0) and m.annexe_batch_iou([wrong]) == pytest.approx(0.5)


def test_annexe_batch_iou_without_background_stops():
    full = grid("####", "####")
    with pytest.raises(ValueError, match="background"):
        m.annexe_batch_iou([m.class_counts([full], [full], (4, 2))])


def test_earl_entity_iou_follows_names():
    truth = [("left hand", LEFT), ("mug", RIGHT)]
    assert m.earl_entity_iou([("the active mug", RIGHT), ("The left hand", MIDDLE)], truth) == (2 / 6 + 1) / 2
    assert m.earl_entity_iou([("right hand", LEFT)], truth) == 0.0
    assert m.earl_entity_iou([("blue mug", RIGHT)], truth) == 0.5
    assert m.earl_entity_iou([("mug", None)], truth) == 0.0
    assert m.earl_entity_iou([("mug", LEFT), ("mug", RIGHT)], truth) == 0.5
    assert m.earl_entity_iou([("mug", RIGHT)], [("mug", LEFT), ("mug", RIGHT)]) == 1.0  # the last of a name stands for all
    assert (m.earl_entity_iou([], []), m.earl_entity_iou([("mug", LEFT)], []), m.earl_entity_iou([], truth)) == (1.0, 0.0, 0.0)


def test_equal_names_go_before_contained_ones():
    assert m.match_names(["a cup of tea", "cup"], ["the cup"]) == {1: 0}
    assert m.match_names(["red cup", "tap"], ["cup", "water tap"]) == {0: 0, 1: 1}


def test_decisions():
    found, truth = [True, False, True, False, False], [True, True, False, False, False]
    assert m.no_target_accuracy(found, truth) == 3 / 5
    assert m.n_acc(found, truth) == 2 / 3 and m.t_acc(found, truth) == 1 / 2
    assert m.n_acc([True], [True]) is None and m.t_acc([True], [False]) is None and m.no_target_accuracy([], []) is None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_counts_on_runs_equal_counts_of_pixels(seed):
    r = np.random.default_rng(seed)
    size = (int(r.integers(1, 20)), int(r.integers(1, 20)))
    sides = [[r.random(size[::-1]) < r.random() for _ in range(r.integers(0, 5))] for _ in range(2)]
    labels = []
    for side in sides:
        image = np.zeros(size[::-1], dtype=int)
        for k in reversed(range(len(side))):
            image[side[k]] = k + 1
        labels.append(image)
    expected = [(np.sum((labels[0] == k) & (labels[1] == k)), np.sum((labels[0] == k) | (labels[1] == k)), np.sum(labels[1] == k)) for k in range(5)]
    assert m.class_counts(*([masks.encode(v) for v in side] for side in sides), size) == tuple(expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_contours_equal_a_pixel_by_pixel_search(seed):
    r = np.random.default_rng(seed)
    mask = r.random((int(r.integers(2, 14)), int(r.integers(2, 14)))) < 0.8
    width = float(r.choice([0.01, 0.1, 0.2]))
    d = max(1, round(width * np.hypot(*mask.shape)))
    near = np.pad(~mask, d, constant_values=True)
    expected = [[bool(mask[y, x]) and bool(near[y : y + 2 * d + 1, x : x + 2 * d + 1].any()) for x in range(mask.shape[1])] for y in range(mask.shape[0])]
    assert (m._contour(mask, width) == np.array(expected)).all()
