import pytest

from egohoi.boxes import ABSOLUTE, BRACES, LOC, THOUSAND
from egohoi.engine.reading import asked_name, guess_task, kind_of, read_entities
from egohoi.records import Query

SIZE = (1920, 1080)


@pytest.mark.parametrize(("text", "box", "task"), [
    ("Where is the left hand?", None, "refer"), ("[refer] Where are the hands of the person?", None, "refer"),
    ("Locate the object being manipulated by the right hand", None, "refer"), ("Which hand has the knife?", None, "refer"),
    ("{<0><24><25><100>}", None, "identify"), ("What is this? {<0><24><25><100>}", None, "identify"),
    ("", (1, 2, 3, 4), "identify"),
    ("What is the person holding in their right hand?", None, "answer"), ("What hand is holding the cup?", None, "answer"),
    ("What is happening in the photo?", None, "analyze"), ("Describe the ongoing action in this image.", None, "analyze"),
    ("What is the person doing?", None, "analyze"),
])
def test_task_by_wording(text, box, task):
    assert guess_task(Query(text, box=box), BRACES) == task
    assert guess_task(Query(text, box=box, task="ground"), BRACES) == "ground"


@pytest.mark.parametrize(("question", "name"), [
    ("Where is the left hand?", "left hand"), ("Where is the right hand of the person?", "right hand"),
    ("Where is the cutting board", "cutting board"),
    ("Where are the hands of the person?", "hand"), ("Where is the object being manipulated by the right hand?", "object"),
    ("Which hand has the knife?", "hand"), ("Where is the cup in this image?", "cup"), ("Locate a red pan.", "red pan"),
    ("hm", "object"),
])
def test_name_of_what_is_asked_for(question, name):
    assert asked_name(question) == name


def test_kind_and_side():
    assert kind_of("Left hand of the person") == ("hand", "left")
    assert kind_of("hands") == ("hand", None)
    assert kind_of("handle") == ("object", None) and kind_of("hand towel") == ("object", None)


def test_phrases_with_several_boxes_and_plain_ones():
    text = "The person opens the <p>kitchen  cupboard</p> {<0><0><50><50>}<delim>{<50><50><100><100>} with {<10><20><30><40>}"
    found = read_entities(text, SIZE, BRACES, default_name="thing", score=0.5)
    assert [(e.name, e.box, e.score) for e in found] == [
        ("kitchen cupboard", (0, 0, 960, 540), 0.5), ("kitchen cupboard", (960, 540, 1920, 1080), 0.5),
        ("thing", (192, 216, 576, 432), 0.5),
    ]
    assert read_entities("<p>left hand</p> {<0><0><50><50>}", SIZE, BRACES)[0].side == "left"


def test_what_is_no_box_is_left_out():
    assert read_entities("{<50><0><10><50>} {<1><1><1><1>} {<1><2><3>} {<0><0><50><50>", SIZE, BRACES) == ()
    assert read_entities("<p>cup</p> none", SIZE, BRACES) == ()
    outside = read_entities("{<90><90><120><150>}", SIZE, BRACES)
    assert outside[0].box == pytest.approx((1728, 972, 1920, 1080))


def test_other_conventions():
    assert read_entities("[0, 0, 500, 500]", SIZE, THOUSAND)[0].box == (0, 0, 960, 540)
    assert read_entities("[10, 20, 110, 220]", SIZE, ABSOLUTE, seen_size=(960, 540))[0].box == (20, 40, 220, 440)
    assert read_entities("<loc0512><loc0000><loc1023><loc0512> cup", (1024, 1024), LOC)[0].box == (0, 512, 512, 1023)
