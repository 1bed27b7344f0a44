"""Boxes in the answers of others: one case for every way in which a model can be wrong."""

import pytest

from egohoi.errors import BadConfig
from egohoi.evaluation import box_metrics, predictions_boxes

SIZE = (1000, 500)


@pytest.mark.parametrize("convention,text,boxes,faults", [
    ("braces", "{<10><20><30><40>}", [(100, 100, 300, 200)], {}),
    ("braces", "{<10> <20> <30> <40>} and <10><20><30><40>", [(100, 100, 300, 200)] * 2, {}),
    ("braces", "{<10><20><30>}", [], {"unreadable": 1}),
    ("braces", "{10, 20, 30, 40}", [], {"unreadable": 1}),
    ("braces", "{<30><20><10><40>}", [], {"reversed": 1}),
    ("braces", "{<10><20><130><40>}", [(100, 100, 1000, 200)], {"outside": 1}),
    ("braces", "{<-1><20><30><40>}", [(0, 100, 300, 200)], {}),
    ("braces", "a cup of {tea} for 2", [], {}),
    ("thousand", "[100, 200, 300, 400]", [(100, 100, 300, 200)], {}),
    ("thousand", '```json\n[{"bbox_2d": [100, 200, 300, 400], "label": "cup"}]\n```', [(100, 100, 300, 200)], {}),
    ("thousand", "<box>(100,200),(300,400)</box>", [(100, 100, 300, 200)], {}),
    ("thousand", "<box>[[100, 200, 300, 400], [1, 2, 3, 4]]</box>", [(100, 100, 300, 200), (1, 1, 3, 2)], {}),
    ("thousand", "[100, 200, 300]", [], {"unreadable": 1}),
    ("thousand", "[300, 200, 100, 400] [2000, 2000, 3000, 3000]", [], {"reversed": 1, "outside": 1}),
    ("absolute", "The cup is at [100.5, 200, 300, 400].", [(100.5, 200, 300, 400)], {}),
    ("loc", "<loc0512><loc0256><loc1024><loc0768> cup", [(250, 250, 750, 500)], {}),
    ("loc", "<loc0512><loc0256><loc1023> cup", [], {"unreadable": 1}),
    ("thousand", "", [], {}),
])  # fmt: skip
def test_conventions(convention, text, boxes, faults):
    found = predictions_boxes.read(text, convention, SIZE)
    assert [pytest.approx(b) for b in boxes] == list(found.boxes) and found.faults == faults


def test_pixels_of_the_picture_that_the_model_saw():
    assert predictions_boxes.read("[10, 20, 50, 40]", "absolute", SIZE, (100, 100)).boxes == ((100, 100, 500, 200),)


def test_numbers_without_end_are_no_box():
    assert predictions_boxes.read("[1, 2, " + "9" * 400 + ", 4]", "absolute", SIZE).faults == {"unreadable": 1}


def test_rewritten_boxes_are_read_back():
    found = predictions_boxes.read("[100, 200, 300, 400] [1, 2, 3, 4]", "thousand", SIZE).boxes
    again = predictions_boxes.read(predictions_boxes.to_braces(found, SIZE), "braces", SIZE).boxes
    assert [pytest.approx(b, abs=0.06) for b in found] == list(again)


def test_unknown_convention():
    with pytest.raises(BadConfig, match="write one of braces"):
        predictions_boxes.read("", "yolo", SIZE)


def test_pairs_of_the_largest_sum_not_the_largest_pair():
    # Taken one by one, the first answer would get the truth that only it can serve badly; the sum decides.
    truth = [(0, 0, 10, 10), (4, 0, 14, 10)]
    answers = [(2, 0, 12, 10), (4, 0, 14, 10), (0, 0, 10, 10)]
    assert box_metrics.score(answers, truth).ious == (1.0, 1.0)
    got = box_metrics.score([(3, 0, 13, 10), (4, 0, 14, 10)], truth)
    assert got.ious == (pytest.approx(7 / 13), 1.0) and got.matched == 2


def test_no_answer_and_means():
    none, right = box_metrics.score([], [(0, 0, 1, 1)]), box_metrics.score([(0, 0, 1, 1)], [(0, 0, 1, 1)])
    assert (none.ious, none.matched) == ((0.0,), 0)
    assert box_metrics.accuracy([none, right]) == 0.5 == box_metrics.mean_iou([none, right]) and box_metrics.accuracy([]) is None
