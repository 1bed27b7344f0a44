import pytest

from egohoi.questions import wording


@pytest.mark.parametrize("name, phrase", [
    ("board:chopping", "chopping board"), ("cup_(cup,_mug)", "cup"), ("Cutting Board", "cutting board"), ("left hand", "left hand"),
    ("paper_towel", "paper towel"), ("null", ""), ("", ""), ("spoon:wooden ", "wooden spoon"), ("<p>x</p>{1}", "p x /p 1"),
])
def test_noun_phrase(name, phrase):
    assert wording.noun_phrase(name) == phrase


@pytest.mark.parametrize("verb, third", [
    ("open", "opens"), ("wash", "washes"), ("dry", "dries"), ("play", "plays"), ("mix", "mixes"), ("pick-up", "picks up"),
    ("turn_on", "turns on"), ("go", "goes"), ("have", "has"), ("undo", "undoes"), ("press", "presses"), ("squeeze", "squeezes"),
    ("stirring", "is stirring"), ("", ""), ("bring", "brings"),
])
def test_third_person(verb, third):
    assert wording.third_person(verb) == third


@pytest.mark.parametrize("narration, expected", [
    ("open cupboard", "The person opens the cupboard"),
    ("turn on tap", "The person turns on the tap"),
    ("turn tap off", "The person turns the tap off"),
    ("put down the knife", "The person puts down the knife"),
    ("put knife in drawer", "The person puts the knife in the drawer"),
    ("still washing plate", "The person is washing the plate"),
    ("take plate and cup", "The person takes the plate and cup"),
    ("#C C opens the door", "The person opens the door"),
    ("#c C drops a bag.", "The person drops a bag"),
    ("#O the man X takes a cup", None),
    ("#C C #unsure opens it", None),
    ("C picks a cloth", "The person picks a cloth"),
    ("The person cuts bread.", "The person cuts bread"),
    ("pour {water} into <cup>", "The person pours the water into the cup"),
    ("   ", None), ("#", None), ("{{{", None), ("99", None),
])
def test_sentences_of_narrations(narration, expected):
    assert wording.sentence(narration) == expected


def test_sentence_of_verb_and_noun():
    assert wording.sentence(None, "turn-on", "tap") == "The person turns on the tap"
    assert wording.sentence(None, "cut", "board:chopping") == "The person cuts the chopping board"
    assert wording.sentence(None, "walk", None) == "The person walks"
    assert wording.sentence(None, None, "tap") is None
    assert wording.sentence("#O X runs", "walk", None) == "The person walks"


def test_articles_and_lists():
    assert [wording.with_article(w) for w in ("knife", "onion", "scissors", "glass", "gloves")] == [
        "a knife", "an onion", "scissors", "a glass", "gloves",
    ]
    assert [wording.listing("abc"[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


def test_ground_marks_the_only_mention():
    assert wording.ground("The person opens the cupboard", "cupboard", "B") == "The person opens the <p>cupboard</p> B"
    assert wording.ground("puts the cup on the cup", "cup", "B") is None
    assert wording.ground("takes the cupboard", "cup", "B") is None
