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


def test_every_draw_is_true_to_the_scene():
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
