import numpy as np
import pytest

from egohoi import boxes
from egohoi.errors import BadBox


def test_iou_by_hand():
    assert boxes.iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(50 / 150)
    assert boxes.iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0.0
    assert boxes.iou_matrix([(0, 0, 10, 10)], [(5, 0, 15, 10), (0, 0, 10, 10)]) == pytest.approx(np.array([[1 / 3, 1.0]]))


@pytest.mark.parametrize("bad", [(1, 2, 3), (0, 0, float("nan"), 1), (5, 0, 5, 1), "abcd", None, (3, 0, 1, 1)])
def test_check_refuses(bad):
    with pytest.raises(BadBox):
        boxes.check(bad)


def test_check_refuses_a_box_outside_its_picture():
    with pytest.raises(BadBox, match="outside"):
        boxes.check((700, 0, 800, 10), (640, 480))


def test_braces_floor_and_back():
    text = boxes.BRACES.encode((10.9, 20, 639, 480), (640, 480))
    assert text == "{<1><4><99><100>}"
    assert boxes.BRACES.decode(f"the <p>cup</p> {text} is", (640, 480)) == [pytest.approx((6.4, 19.2, 633.6, 480.0))]


def test_loc_reads_y_first():
    assert boxes.LOC.decode("<loc0000><loc0512><loc1024><loc1024>", (100, 200)) == [pytest.approx((50, 0, 100, 200))]


def test_codecs_are_their_own_inverse_to_one_step():
    size, box = (1920, 1080), (100.0, 200.0, 900.0, 1000.0)
    for codec in boxes.CODECS.values():
        found = codec.decode(codec.encode(box, size), size)
        assert len(found) == 1
        step = 1 if codec.grid is None else max(size) / codec.grid
        assert np.abs(np.array(found[0]) - box).max() <= step
