import random
import re

from egohoi.questions.free import FreeQuestions, expand
from egohoi.records import TASKS, Hand, Object, Scene

SCENE = Scene(
    "a", "a.jpg", (640, 480), [Hand("left", (10, 200, 90, 300), True, 0), Hand("right", (400, 200, 500, 300), False)],
    [Object("mug", (60, 150, 120, 240), ("left",)), Object("knife", (300, 100, 380, 120))],
)


def test_expand_picks_alternatives():
    assert {expand("(a|b) {x}(c|)", random.Random(k), x="y") for k in range(40)} == {"a yc", "b yc", "a y", "b y"}


def test_every_draw_is_true_to_the_scene(monkeypatch):
    monkeypatch.setattr(FreeQuestions, "_joined", FreeQuestions._held)  # of two targets one may be there: tested below
    rng = random.Random(0)
    for _ in range(3000):
        q = FreeQuestions(SCENE, ["mug", "knife", "spoon"], rng).draw()
        assert q.task in TASKS and q.answer and ("{" not in q.question) and ("|" not in q.question)
        things = [s[1] for s in q.answer if not isinstance(s, str)]
        assert all(0 <= t < 4 for t in things)
        if not q.found:
            assert not things or q.task == "answer"
        if "spoon" in q.question and q.task in ("refer", "ground"):
            assert not q.found
        if "right hand" in q.question and any(w in q.question for w in ("holding", "holds")) and q.task == "refer":
            assert not q.found


def test_the_left_hand_holds_the_mug():
    rng, seen = random.Random(1), set()
    for _ in range(3000):
        q = FreeQuestions(SCENE, ["mug", "knife"], rng).draw()
        if re.match(r"what am i \w+ (in|with) my left hand", q.question):
            seen.add(q.answer)
    assert seen == {(("a", 2), ("ref", 2))}


def test_two_targets_in_one_query_name_what_is_there_of_them():
    rng, both, one = random.Random(2), 0, 0
    for _ in range(2000):
        q = FreeQuestions(SCENE, ["mug", "knife", "spoon"], rng)._joined()
        things = [s[1] for s in q.answer if not isinstance(s, str) and s[0] in ("box", "ref")]
        assert q.task in ("refer", "ground") and q.found == bool(things) and len(things) == len(set(things))
        assert "left" in q.question or 0 not in things
        if 3 in things:
            assert "knife" in q.question or "blade" in q.question
        both, one = both + (len(things) == 2), one + (len(things) == 1)
    assert both > 600 and one > 200


def test_a_hand_and_what_it_holds():
    rng, seen = random.Random(3), {}
    for _ in range(3000):
        q = FreeQuestions(SCENE, ["mug", "knife"], rng)._joined()
        side = re.search(r"(left|right) hand (and what it|together with what it) (holds|touches)", q.question)
        if side:
            seen.setdefault(side[1], set()).add(tuple(s[1] for s in q.answer if not isinstance(s, str) and s[0] != "name"))
    assert seen == {"left": {(0, 2)}, "right": {(1,)}}
