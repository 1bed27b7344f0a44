import dataclasses

import pytest

from egohoi.errors import BadBox, BadMask, BadQuery, BadRecord
from egohoi.records import Entity, Example, Hand, Object, Query, Response, Scene, to_dict

BOX = (1.0, 2.0, 30.0, 40.0)


def scene(**changes):
    return Scene(**{"id": "a", "image": "a.jpg", "size": (64, 48), **changes})


@pytest.mark.parametrize("score", [-0.001, 1.001, float("nan"), float("inf"), "0.5", True, [0.5]])
def test_a_score_lies_between_0_and_1(score):
    for make in (lambda: Hand("left", BOX, score=score), lambda: Object("cup", BOX, score=score)):
        with pytest.raises(BadRecord, match=r"score of .* must be a number from 0 to 1"):
            make()


@pytest.mark.parametrize("score", [None, 0, 1, 0.25])
def test_scores_that_are_fine(score):
    assert Hand("left", BOX, score=score).score == score and Object("cup", BOX, score=score).score == score


@pytest.mark.parametrize("make, message", [
    (lambda: Hand("both", BOX), "hand side must be one of left, right, other, got 'both'"),
    (lambda: Hand("left", BOX, contact="yes"), "hand contact must be true, false or null, got 'yes'"),
    (lambda: Hand("left", BOX, object=-1), "hand object must be an index or null, got -1"),
    (lambda: Hand("left", BOX, object=True), "hand object must be an index or null, got True"),
    (lambda: Hand("left", BOX, glove="no"), "hand glove must be true, false or null, got 'no'"),
    (lambda: Object(None, BOX), "object name must be a string, got None"),
    (lambda: Object("cup", BOX, hands=("both",)), "hands of object 'cup' must be left, right or other"),
    (lambda: scene(id=""), "scene id must be a non-empty string"), (lambda: scene(image=3), "scene 'a': image must be a path"),
    (lambda: scene(size=(0, 4)), r"size must be \[width, height\]"), (lambda: scene(size=(1.5, 4)), r"size must be \[width, height\]"),
    (lambda: scene(noun=5), "scene 'a': noun must be a text or null, got 5"), (lambda: scene(extra=[1]), "extra an object"),
    (lambda: scene(exhaustive="y"), "exhaustive must be true, false or null"),
    (lambda: scene(hands=[Hand("left", BOX, object=0)]), "hand 0 points to object 0, the scene has 0"),
    (lambda: Example("", "a.jpg", (4, 4), (("q", "a"),)), "example id"), (lambda: Example("e", "a.jpg", (4, 4), ()), "'e': the conversation is empty"),
])
def test_what_is_refused(make, message):
    with pytest.raises(BadRecord, match=message):
        make()


def test_boxes_and_masks_of_a_scene_are_checked():
    with pytest.raises(BadBox, match="left hand box: needs x1 < x2"):
        Hand("left", (5, 5, 5, 6))
    with pytest.raises(BadBox, match="box of object 'cup': expected four numbers"):
        Object("cup", "1234")
    with pytest.raises(BadMask, match="scene 'a': is 4x4 pixels, its picture 64x48"):
        scene(objects=[Object("cup", BOX, mask={"size": [4, 4], "counts": [16]})])


@pytest.mark.parametrize("values, message", [
    ({"text": " "}, "the question is empty"), ({"text": 3}, "a question is a text, got int"), ({"text": "x" * 9000}, "9000 characters"),
    ({"text": "q", "task": "dance"}, "task must be one of"), ({"point": (1, float("nan"))}, "a point is x y in pixels"),
    ({"point": (1, 2, 3)}, "a point is x y in pixels"), ({"point": "ab"}, "a point is x y in pixels"), ({"point": 5}, "a point is x y in pixels"),
])
def test_questions_that_are_refused(values, message):
    with pytest.raises(BadQuery, match=message):
        Query(**values)


def test_frozen_and_plain():
    made = scene(hands=[Hand("right", BOX, contact=True, object=0)], objects=[Object("cup", BOX, hands=["right"])])
    assert made.hand("right").object == 0 and made.hand("left") is None and made.held_by("right") == made.objects
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.id = "b"
    assert to_dict(made)["objects"][0] == {"name": "cup", "box": BOX, "hands": ("right",), "mask": None, "score": None}


def test_json_of_a_response():
    hand = Entity("left hand", "hand", "left", (1.04, 2, 3, 4), 0.123456, holds=(1,))
    made = Response("a.jpg", (64, 48), "where?", "refer", "there", True, entities=[hand], milliseconds={"image": 1.6, "text": 2, "mask": 0})
    assert made.to_json() == {
        "image": "a.jpg", "size": [64, 48], "query": "where?", "task": "refer", "text": "there", "analysis": None, "target_found": True,
        "entities": [{"name": "left hand", "kind": "hand", "side": "left", "box": [1.0, 2.0, 3.0, 4.0], "score": 0.1235, "mask": None, "holds": [1]}],
        "model": "", "milliseconds": {"image": 2, "text": 2, "mask": 0},
    }
