import math

import numpy as np
import pytest

from egohoi.errors import BadWeights
from egohoi.models import assets, handnets
from egohoi.models.handnets import HandNets, HandProposal


def test_anchors_are_those_of_the_palm_detector():
    a = handnets.anchors()
    assert a.shape == (2016, 2) and np.allclose(a[0], 0.5 / 24) and np.allclose(a[1], a[0]) and np.allclose(a[1152], 0.5 / 12)
    assert np.allclose(a[-1], 11.5 / 12) and np.allclose(a[2], (1.5 / 24, 0.5 / 24))


def test_tiles_cover_the_picture_and_overlap():
    windows = handnets.tiles(1000, 600)
    assert windows[0] == (0, 0, 1000, 600) and windows[1:] == [(0, 0, 625, 375), (375, 0, 1000, 375), (0, 225, 625, 600), (375, 225, 1000, 600)]


def test_suppression_averages_by_score():
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 12], [50, 50, 60, 60]])
    points = np.array([[[1.0, 1.0]], [[4.0, 1.0]], [[55.0, 55.0]]])
    b, s, p = handnets.weighted_nms(boxes, np.array([0.6, 0.3, 0.5]), points)
    assert np.allclose(b, [[0, 0, 10, 32 / 3], [50, 50, 60, 60]]) and s.tolist() == [0.6, 0.5] and np.allclose(p[0], [[2.0, 1.0]])
    empty = handnets.weighted_nms(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 7, 2)))
    assert empty[0].shape == (0, 4) and empty[2].shape == (0, 7, 2)


@pytest.mark.parametrize("middle, angle, shift", [((50, 20), 0.0, (0, -10)), ((80, 50), math.pi / 2, (10, 0)), ((50, 80), -math.pi, (0, 10))])
def test_the_crop_is_turned_so_that_the_middle_finger_points_up_and_moved_towards_it(middle, angle, shift):
    x, y, side, turned = handnets.crop_frame((40, 40, 60, 60), (50, 50), middle)
    assert turned == pytest.approx(angle) and side == pytest.approx(52) and (x, y) == pytest.approx((50 + shift[0], 50 + shift[1]))


def hand(box, presence, palm=0.5):
    return HandProposal(box, presence, palm, 0.5, np.zeros((21, 2), np.float32))


def test_of_hands_that_overlap_the_surest_stays():
    found = [hand((0, 0, 10, 10), 0.6), hand((1, 0, 11, 10), 0.9), hand((50, 0, 60, 10), 0.5), hand((0, 0, 1, 1), 1.0)]
    assert [p.box[0] for p in handnets._distinct(found)] == [1, 50]


def test_a_closer_look_takes_the_surest_turn_whose_landmarks_lie_in_the_box():
    nets, asked = HandNets.__new__(HandNets), []

    def look(image, frame):
        asked.append(frame)
        turn = round(frame[3] / (math.pi / 4))
        at = 60.0 if turn == 5 else 22.0  # the surest turn sees another hand
        return np.array([[at, at], [at + 16, at + 16]], np.float32), (0.2, 0.3, 0.9, 0.1, 0.4, 0.99, 0.0, 0.0)[turn], turn / 10

    nets.look = look
    best = nets.confirm(np.zeros((100, 100, 3), np.uint8), [(20.0, 20.0, 40.0, 40.0)])[0]
    assert (best.presence, best.right) == (0.9, 0.2) and best.box == pytest.approx((20.4, 20.4, 39.6, 39.6))
    assert len(asked) == 8 and all(f[:3] == (30.0, 30.0, 30.0) for f in asked)


def test_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(BadWeights, match="egohoi assets"):
        HandNets(tmp_path)


def test_the_networks_see_nothing_in_noise_and_answer_in_the_picture():
    folder = assets.hand_networks()
    if folder is None:
        pytest.skip("the hand networks are not installed: egohoi assets")
    nets = HandNets(folder)
    pixels = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    assert nets.find(pixels, palm=0.5) == []
    (look,) = nets.confirm(pixels, [(40.0, 30.0, 90.0, 80.0)])
    assert 0.0 <= look.presence < 0.5
    assert 0 <= look.box[0] <= look.box[2] <= 160 and 0 <= look.box[1] <= look.box[3] <= 120


def test_loading_says_nothing(capfd):
    folder = assets.hand_networks()
    if folder is None:
        pytest.skip("the hand networks are not installed: egohoi assets")
    HandNets(folder)
    assert capfd.readouterr() == ("", "")
