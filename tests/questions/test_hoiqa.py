import hashlib
import json
from collections import Counter
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egohoi import boxes
from egohoi.errors import BadConfig
from egohoi.questions import hoiqa
from egohoi.records import Hand, Object, Scene

#: The scene of the figure of HOI-QA (repository Sid2697/HOI-Ref, assets/hoi_qa.png), with boxes that floor to the ones it shows.
FIGURE = Scene(
    id="f", image="P/frame_1.jpg", size=(1920, 1080), source="visor", narration="open cupboard", verb="open", noun="cupboard",
    hands=[Hand("left", (0, 260, 490, 1080), contact=False), Hand("right", (1305, 320, 1670, 1080), contact=True, object=0)],
    objects=[Object("cupboard", (0, 0, 1920, 390), hands=("right",)), Object("board:chopping", (580, 545, 900, 790))],
)


def pairs(scene, **options):
    return {e.id.split(":", 1)[1]: (e.type, *e.conversation[0]) for e in hoiqa.train_examples(scene, hoiqa.Settings(**options))}


def subsets(scene):
    return {e.id.split(":", 1)[1]: (e.type, e.extra["tag"] + e.conversation[0][0], e.conversation[0][1])
            for e in hoiqa.test_examples(scene, hoiqa.Settings())}


def drops(scene, make=hoiqa.train_examples, **options):
    counted = Counter()
    make(scene, hoiqa.Settings(**options), counted)
    return counted


def changed(scene, **values):
    return Scene(**{**{f: getattr(scene, f) for f in scene.__dataclass_fields__}, **values})


def test_all_eight_types_of_the_figure():
    assert pairs(FIGURE) == {
        "q1:h0": ("Q1", "{<0><24><25><100>}", "Left hand of the person"),
        "q1:h1": ("Q1", "{<67><29><86><100>}", "Right hand of the person"),
        "q1:o0": ("Q1", "{<0><0><100><36>}", "Cupboard"),
        "q1:o1": ("Q1", "{<30><50><46><73>}", "Chopping board"),
        "q2": ("Q2", "What is happening in the photo?", "The person opens the cupboard."),
        "q3:right": ("Q3", "Where is the object being manipulated by the right hand?", "{<0><0><100><36>}"),
        "q4:right": ("Q4", "What is the person holding in their right hand?", "Cupboard"),
        "q5:right": ("Q5", "Is the right hand holding or touching an object?", "The object in the right hand is a cupboard."),
        "q6:left": ("Q6", "Where is the left hand of the person?", "{<0><24><25><100>}"),
        "q6:right": ("Q6", "Where is the right hand of the person?", "{<67><29><86><100>}"),
        "q6:o0": ("Q6", "Where is the cupboard?", "{<0><0><100><36>}"),
        "q6:o1": ("Q6", "Where is the chopping board?", "{<30><50><46><73>}"),
        "q7": ("Q7", "Describe the ongoing action in this image.", "The person opens the <p>cupboard</p> {<0><0><100><36>}"),
        "q8:o0": ("Q8", "cupboard", "<p>cupboard</p> {<0><0><100><36>}"),
        "q8:o1": ("Q8", "chopping board", "<p>chopping board</p> {<30><50><46><73>}"),
    }
    assert drops(FIGURE) == {}


def test_all_subsets_of_the_figure():
    assert subsets(FIGURE) == {
        "hleft:ref": ("handN2handBB", "Where is the left hand", "{<0><24><25><100>}"),
        "hleft:iden": ("handBB2handN", "{<0><24><25><100>}", "left hand"),
        "hright:ref": ("handN2handBB", "Where is the right hand", "{<67><29><86><100>}"),
        "hright:iden": ("handBB2handN", "{<67><29><86><100>}", "right hand"),
        "o0:ref": ("objN2objBB", "Where is the cupboard", "{<0><0><100><36>}"),
        "o0:iden": ("objBB2objN", "{<0><0><100><36>}", "cupboard"),
        "o1:ref": ("objN2objBB", "Where is the chopping board", "{<30><50><46><73>}"),
        "o1:iden": ("objBB2objN", "{<30><50><46><73>}", "chopping board"),
        "hoi:left": ("handN2handBB", "[refer] Where is the left hand of the person?", "{<0><24><25><100>}"),
        "hoi:right": ("handN2handBB", "[refer] Where is the right hand of the person?", "{<67><29><86><100>}"),
        "hoi:hands": (
            "handN2handBB", "[refer] Where are the hands of the person?", "{<0><24><25><100>}<delim>{<67><29><86><100>}",
        ),
        "hoi:object:right": (
            "handN2objBB", "[refer] Locate the object being manipulated by the right hand of the person.", "{<0><0><100><36>}",
        ),
        "hoi:name:right": ("handN2objN", "[vqa] What is the object in the right hand of the person?", "cupboard"),
        "hoi:hand:o0": ("objN2handBB", "[refer] Which hand has the cupboard?", "{<67><29><86><100>}"),
        "hoi:side:o0": ("objN2handN", "[vqa] What hand is holding the cupboard?", "right hand"),
    }
    assert {e.type for e in hoiqa.test_examples(FIGURE, hoiqa.Settings())} == set(hoiqa.SUBSETS)


def test_targets_are_pixel_boxes_and_sides_are_told():
    made = {e.id: e for e in hoiqa.train_examples(FIGURE, hoiqa.Settings())}
    assert made["f:q3:right"].targets == ({"name": "cupboard", "box": [0.0, 0.0, 1920.0, 390.0]},)
    assert made["f:q1:h0"].targets == ({"name": "left hand", "box": [0.0, 260.0, 490.0, 1080.0]},)
    assert {e.id for e in made.values() if e.extra.get("side") == "left"} == {"f:q1:h0", "f:q6:left"}
    assert made["f:q1:h0"].codec == "braces" and made["f:q1:h0"].source == "visor"


def test_the_wording_is_a_snapshot():
    data = resources.files("egohoi.questions").joinpath("templates/hoiqa.json").read_bytes()
    assert hashlib.sha256(json.dumps(json.loads(data), sort_keys=True).encode()).hexdigest() == SNAPSHOT
    reference = hoiqa.templates()["reference"]
    assert sorted(reference) == list(hoiqa.TYPES)
    assert set(hoiqa.SUBSETS) <= set(hoiqa.templates()["test"])


SNAPSHOT = "3501f12c347061f2ba397e6fc26071200a3bd6a506b5d9dd5744e72ee18f5a5a"


def test_an_unlabelled_contact_asks_nothing():
    free = [Hand("right", (100, 100, 300, 300))]
    scene = changed(FIGURE, hands=free, objects=[Object("cup", (10, 10, 90, 90))], noun=None, narration=None, verb=None)
    kinds = {e.type for e in hoiqa.train_examples(scene, hoiqa.Settings(negatives=True))}
    assert kinds == {"Q1", "Q6", "Q8"}
    assert {e.type for e in hoiqa.test_examples(scene, hoiqa.Settings())} == {
        "handN2handBB", "handBB2handN", "objN2objBB", "objBB2objN",
    }


def test_negatives_need_labels():
    left = Hand("left", (0, 260, 490, 1080))
    off = pairs(changed(FIGURE, hands=[left]))
    assert "q3:left" not in off
    base = {"objects": [], "narration": None, "verb": None, "noun": None}
    unknown = changed(FIGURE, hands=[left], **base)
    assert not any(k.startswith(("q3", "q4", "q5")) or k == "q6:right" for k in pairs(unknown, negatives=True))
    settled = pairs(changed(FIGURE, hands=[left], exhaustive=True, **base), negatives=True)
    assert settled["q3:left"][2] == "The left hand is not manipulating an object."
    assert settled["q4:left"][2] == "Nothing"
    assert settled["q5:left"][2] == "The left hand is not holding or touching an object."
    assert settled["q6:right"][2] == "The right hand of the person is not in the image."
    assert "q3:right" not in settled
    labelled = pairs(changed(FIGURE, hands=[Hand("left", left.box, contact=False)], **base), negatives=True)
    assert labelled["q4:left"][2] == "Nothing" and "q6:right" not in labelled


def test_contradictions_are_dropped_with_their_reason():
    two = changed(FIGURE, hands=[FIGURE.hands[1], Hand("right", (10, 10, 90, 90), contact=True)])
    assert {k for k in pairs(two) if k.startswith(("q3", "q4", "q5", "q6:r"))} == set()
    assert drops(two)["Q3", "more than one right hand"] == 1 and drops(two)["Q6", "more than one right hand"] == 1
    lie = changed(FIGURE, hands=[Hand("right", FIGURE.hands[1].box, contact=False)])
    assert drops(lie)["Q4", "contact is false, yet an object is held"] == 1
    lost = changed(FIGURE, hands=[Hand("left", (0, 0, 400, 400), contact=True)], objects=[])
    assert drops(lost)["Q5", "the held object is not labelled"] == 1
    twins = changed(FIGURE, objects=[Object("cup", (10, 10, 500, 500)), Object("mug", (10.5, 10.5, 501, 500.5))])
    assert drops(twins)["Q1", "one box, two names"] == 2
    assert drops(twins, hoiqa.test_examples)["objN2objBB", "one box, two names"] == 2
    thin = changed(FIGURE, objects=[Object("thread", (10, 10, 18, 900)), Object("gone", (-50, 10, 0, 60))])
    assert drops(thin)["Q1", "the box vanishes in the picture or on the grid"] == 2
    person = changed(FIGURE, hands=[Hand("other", (0, 0, 300, 300), contact=True, object=0)], objects=[Object("cup", (5, 5, 90, 90))])
    assert not any(k.startswith(("q1:h", "q3", "q4", "q5")) for k in pairs(person))


def test_unnamed_objects_are_located_but_not_named():
    scene = changed(FIGURE, objects=[Object("", (0, 0, 1920, 390), hands=("right",))])
    made = pairs(scene)
    assert made["q3:right"][2] == "{<0><0><100><36>}"
    assert {v[0] for v in made.values()} == {"Q1", "Q2", "Q3", "Q6"}
    assert drops(scene)["Q4", "the object has no name"] == 1
    assert drops(scene)["Q7", "no box for the noun of the narration"] == 1
    guessed = pairs(scene, name_held=True)
    assert guessed["q4:right"][2] == "Cupboard" and guessed["q7"][2].endswith("<p>cupboard</p> {<0><0><100><36>}")


def test_several_of_a_name_are_one_question():
    scene = changed(FIGURE, objects=[Object("cup", (0, 0, 192, 108), hands=("right",)), Object("cup", (960, 540, 1920, 1080))], noun="cup")
    made = pairs(scene)
    assert made["q6:o0"][2] == "{<0><0><10><10>}<delim>{<50><50><100><100>}"
    assert made["q8:o0"][2] == "<p>cup</p> {<0><0><10><10>}<delim>{<50><50><100><100>}"
    assert made["q7"][2] == "The person opens the <p>cup</p> {<0><0><10><10>}"
    assert not any(k.startswith("o") for k in subsets(scene))
    assert drops(scene, hoiqa.test_examples)["objN2objBB", "the name occurs more than once"] == 2


def test_two_hands_one_object_and_two_objects_one_hand():
    both = changed(
        FIGURE, hands=[Hand("left", (0, 0, 192, 108), contact=True, object=0), Hand("right", (960, 540, 1920, 1080), contact=True, object=0)],
        objects=[Object("pan", (192, 108, 960, 540))],
    )
    made = subsets(both)
    assert made["hoi:hand:o0"][2] == "{<0><0><10><10>}<delim>{<50><50><100><100>}"
    assert "hoi:side:o0" not in made
    many = changed(FIGURE, objects=[Object("knife", (0, 0, 192, 108), hands=("right",)), Object("fork", (192, 108, 960, 540), hands=("right",))])
    assert pairs(many)["q4:right"][2] == "Knife and fork"
    assert pairs(many)["q5:right"][2] == "The objects in the right hand are a knife and a fork."
    assert subsets(many)["hoi:object:right"][2] == "{<0><0><10><10>}<delim>{<10><10><50><50>}"
    assert "hoi:name:right" not in subsets(many)
    unsure = changed(FIGURE, hands=[Hand("left", (0, 260, 490, 1080)), FIGURE.hands[1]])
    assert not any(k.startswith(("hoi:hand:", "hoi:side:")) for k in subsets(unsure))


def test_detections_are_for_training_only():
    scene = changed(FIGURE, hands=[Hand("right", (0, 0, 400, 400), contact=True, score=0.9)])
    assert hoiqa.test_examples(scene, hoiqa.Settings()) == []
    assert drops(scene, hoiqa.test_examples)["test", "labels of a detector"] == 1
    assert "q1:h0" in pairs(scene)


def test_further_wordings_keep_the_answers_and_follow_the_seed():
    first, again, other = (
        {f"{n}/{k}": v for n in range(40) for k, v in pairs(changed(FIGURE, id=f"s{n}"), wording="more", seed=seed).items()}
        for seed in (1, 1, 2)
    )
    assert first == again != other
    reference = pairs(FIGURE)
    assert all(v[2] == reference[k.split("/")[1]][2] for k, v in first.items())
    asked = Counter(v[1] for v in first.values() if v[0] == "Q2")
    assert set(asked) == {"What is happening in the photo?", *hoiqa.templates()["more"]["Q2"]["ask"]}


def test_every_codec_and_a_choice_of_types():
    assert pairs(FIGURE, codec="thousand")["q1:h0"][1] == "[0, 241, 255, 1000]"
    assert {v[0] for v in pairs(FIGURE, types=("Q2", "Q6")).values()} == {"Q2", "Q6"}
    for wrong in ({"wording": "x"}, {"codec": "x"}, {"types": ("Q9",)}, {"types": ()}):
        with pytest.raises(BadConfig):
            hoiqa.Settings(**wrong)


NUMBER = st.floats(-50, 250, allow_nan=False)
BOX = st.tuples(NUMBER, NUMBER, st.floats(0.5, 200), st.floats(0.5, 200)).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
HAND = st.tuples(st.sampled_from(["left", "right", "other"]), BOX, st.sampled_from([None, True, False]), st.sampled_from([None, 0, 1]))
OBJECT = st.tuples(st.sampled_from(["cup", "knife", "", "board:chopping"]), BOX, st.lists(st.sampled_from(["left", "right", "other"]), max_size=2))


@settings(max_examples=150, deadline=None)
@given(st.lists(HAND, max_size=3), st.lists(OBJECT, min_size=2, max_size=3), st.sampled_from([None, True, False]), st.booleans())
def test_any_scene_gives_well_formed_pairs(hands, objects, exhaustive, negatives):
    scene = Scene(
        id="x", image="i.jpg", size=(200, 150), exhaustive=exhaustive, narration="take cup", verb="take", noun="cup",
        hands=[Hand(s, b, c, o) for s, b, c, o in hands], objects=[Object(n, b, tuple(h)) for n, b, h in objects],
    )
    made = hoiqa.train_examples(scene, hoiqa.Settings(negatives=negatives)) + hoiqa.test_examples(scene, hoiqa.Settings())
    assert len({e.id for e in made}) == len(made)
    for example in made:
        question, answer = example.conversation[0]
        assert question and answer
        for box in boxes.BRACES.decode(question + answer, (100, 100)):
            assert 0 <= box[0] < box[2] <= 100 and 0 <= box[1] < box[3] <= 100
        side = example.extra.get("side")
        if example.type in ("Q3", "Q4", "Q5") and not example.extra.get("negative"):
            held = [o for k, o in enumerate(scene.objects) if side in o.hands or any(h.side == side and h.object == k for h in scene.hands)]
            assert len(held) == len(example.targets) > 0
            assert not any(h.side == side and h.contact is False for h in scene.hands)
        if example.extra.get("negative") and example.type != "Q6":
            assert any(h.side == side and (h.contact is False or exhaustive) for h in scene.hands)
