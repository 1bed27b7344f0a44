"""Ego-IRG questions: the choice of a query, balanced sampling, answers, and data out of scenes."""

from collections import Counter

import numpy as np
import pytest

from egohoi import masks
from egohoi.errors import BadConfig
from egohoi.questions import irg
from egohoi.records import Hand, Object, Scene
from egohoi.scenes.irgbench import Item, Question, Target


def item(names=("mug",), answer="It is the mug.", questions=5, entry=0):
    return Item(
        "f", entry, "train", (40, 24), "f.jpg", "f.png", None, bool(names), "A hand holds a mug.", answer,
        tuple(Target(n, k + 1) for k, n in enumerate(names)), tuple(Question(str(k), f"query {k}", False) for k in range(questions)),
    )


def region(x1, y1, x2, y2, size=(40, 24)):
    array = np.zeros((size[1], size[0]), bool)
    array[y1:y2, x1:x2] = True
    return masks.encode(array)


def thing(kind, box, name=None, **more):
    given = {"box": box, "mask": region(*box), **more}
    return Object(name=name, **given) if kind is Object else Hand(**given)


def scene(**changes):
    """Left hand holds a mug, right hand is free, a plate lies there."""
    left = thing(Hand, (2, 2, 10, 10), side="left", contact=True, object=0)
    right = thing(Hand, (22, 2, 30, 10), side="right", contact=False)
    mug, plate = thing(Object, (8, 8, 16, 16), "mug", hands=("left",)), thing(Object, (20, 14, 36, 22), "plate")
    given = {"id": "s1", "image": "s1.jpg", "size": (40, 24), "exhaustive": True, "hands": (left, right), "objects": (mug, plate)}
    return Scene(**{**given, **changes})


def test_n_epochs_use_each_of_n_queries_once_and_again_the_same_way():
    one = item()
    used = [irg.choose(one, epoch, seed=3).query for epoch in range(10)]
    assert sorted(used[:5]) == sorted(used[5:]) == [f"query {k}" for k in range(5)]
    assert used == [irg.choose(one, epoch, seed=3).query for epoch in range(10)]
    assert used != [irg.choose(one, epoch, seed=4).query for epoch in range(10)]


def test_balanced_sampling_keeps_the_ratio_and_wastes_no_item():
    kinds = ["single"] * 70 + ["multi"] * 20 + ["none"] * 10
    epochs = [irg.balanced(kinds, e, seed=1, count=60) for e in range(7)]
    for order in epochs:
        assert Counter(kinds[i] for i in order) == {"single": 20, "multi": 20, "none": 20}
    assert Counter(i for e in epochs[:7] for i in e if kinds[i] == "single").most_common(1)[0][1] == 2  # 140 draws of 70 items
    assert set(Counter(i for e in epochs for i in e if kinds[i] == "single").values()) == {2}
    assert epochs[2] == irg.balanced(kinds, 2, seed=1, count=60) != epochs[3]


def test_balanced_sampling_with_weights_and_a_kind_that_is_missing():
    kinds = ["single"] * 8 + ["none"] * 2
    order = irg.balanced(kinds, 0, ratio={"single": 3, "multi": 5, "none": 1}, count=40)
    assert Counter(kinds[i] for i in order) == {"single": 30, "none": 10}
    with pytest.raises(BadConfig, match="leave no item"):
        irg.balanced(kinds, 0, ratio={"multi": 1})
    with pytest.raises(BadConfig, match="sampling weights"):
        irg.balanced(kinds, 0, ratio={"double": 1})


def test_answers_join_the_names_as_the_reference_trains_them():
    assert irg.answer_text(item(("left hand", "mug"))) == "left hand and mug"
    assert irg.answer_text(item(("mug",)), "published") == "It is the mug."
    assert irg.answer_text(item((), "There is none.")) == "There is none."
    assert irg.answer_text(item((), "")) == irg.NO_TARGET
    with pytest.raises(BadConfig):
        irg.answer_text(item(), "verse")


def built(given, **options):
    made = irg.build(given, **{"per_kind": 20, "wordings": 20, **options})
    return made, {q["query"]: tuple(t for t in e["tokens"] if t) for e in made.entries for q in e["questions"]}


def test_queries_name_the_right_targets():
    _, asked = built(scene(), nouns=("mug", "fork"))
    assert asked["the left hand"] == ("left hand",)
    assert asked["What is the left hand holding?"] == ("mug",)
    assert asked["both hands"] == ("left hand", "right hand")
    assert asked["the left hand and the object in it"] == ("left hand", "mug")
    assert asked["Where are the mug and the plate?"] == ("mug", "plate")
    assert asked["What is the right hand holding?"] == ()
    assert asked["Where is the fork that the person is holding?"] == ()
    assert not any("mug" in query and not names for query, names in asked.items())


def test_entries_have_the_published_shape_and_point_into_the_index_image():
    made, _ = built(scene())
    values = set(np.unique(made.index)) - {0}
    assert {k for e in made.entries for k in e} == {"masks_idx", "with_mask", "caption", "answer", "tokens", "questions"}
    for entry in made.entries:
        used = [v for v in entry["masks_idx"] if v]
        assert len(entry["masks_idx"]) == len(entry["tokens"]) == 4 and set(used) <= values
        assert entry["with_mask"] == int(bool(used)) and [bool(t) for t in entry["tokens"]] == [bool(v) for v in entry["masks_idx"]]
    assert Counter(len({v for v in e["masks_idx"] if v}) for e in made.entries)[0] >= 2


def test_absence_is_asked_only_where_the_labels_state_it():
    unknown = scene(exhaustive=None, hands=(thing(Hand, (2, 2, 10, 10), side="left", contact=None),), objects=())
    _, asked = built(unknown)
    assert asked and all(names for names in asked.values())
    _, asked = built(scene(hands=(), objects=()))
    assert asked["both hands"] == () and asked["Where is the left hand?"] == ()


def test_a_name_that_shares_a_word_is_not_absent():
    """The mug of the scene could be called so, and a thing without a name could be anything."""
    _, asked = built(scene(), nouns=("Coffee Mug", "bread-plate", "fork"))
    assert any("fork" in query for query in asked) and not any("Coffee" in query or "bread" in query for query in asked)
    unnamed = scene(objects=(thing(Object, (12, 12, 18, 18), "", hands=("left",)),))
    _, asked = built(unnamed, nouns=("fork",))
    assert not any("fork" in query for query in asked)


def test_an_object_without_a_name_is_asked_for_by_the_hand_that_holds_it():
    unnamed = scene(objects=(thing(Object, (12, 12, 18, 18), "", hands=("left",)),))
    made, asked = built(unnamed)
    assert asked["What is the left hand holding?"] == asked["What am I holding?"] == (irg.HELD_OBJECT,)
    assert asked["the left hand and the object in it"] == ("left hand", irg.HELD_OBJECT)
    assert made.entries[0]["caption"] == "The left hand holds an object and the right hand is free."
    assert not any("  " in query or irg.HELD_OBJECT in query for query in asked)
    lying = scene(objects=(thing(Object, (12, 12, 18, 18), ""),), hands=scene().hands[1:])
    assert built(lying)[0].dropped == {"without mask or name": 1}


def test_what_another_person_holds_is_not_mine():
    other = thing(Hand, (30, 2, 38, 10), side="other", contact=True, object=0)
    _, asked = built(scene(hands=(other,), objects=(thing(Object, (12, 12, 18, 18), "cup", hands=("other",)),)), nouns=("fork",))
    assert asked["the other person's hand"] == ("other person's hand",)
    assert not {"What am I holding?", "the left hand", "both hands"} & set(asked)


def test_two_things_of_one_name_are_both_targets():
    twice = scene(objects=(thing(Object, (12, 12, 18, 18), "cup"), thing(Object, (30, 12, 38, 20), "cup")))
    _, asked = built(twice)
    assert asked["Where is the cup?"] == ("cup", "cup")


def test_the_smaller_thing_lies_on_top_and_hidden_things_are_no_targets():
    made, _ = built(scene())
    assert made.index[9, 9] in (1, 3)  # left hand and mug are both 64 pixels and share 4: one of them has them
    hidden = scene(objects=(thing(Object, (0, 0, 2, 2), "crumb"),))
    made, asked = built(hidden)
    assert made.dropped == {"too few visible pixels": 1} and not any("crumb" in q for q in asked)


def test_same_seed_same_data_and_limits_hold():
    assert irg.build(scene(), seed=5).entries == irg.build(scene(), seed=5).entries
    assert irg.build(scene(), seed=5).entries != irg.build(scene(), seed=6).entries
    made = irg.build(scene(), per_kind=1, wordings=2)
    assert len(made.entries) == 3 and all(len(e["questions"]) == 2 for e in made.entries)


def test_analysis_comes_from_the_narration_or_the_labels():
    assert irg.describe(scene()) == "The left hand holds the mug and the right hand is free."
    assert irg.describe(scene(narration=" She lifts a mug. ")) == "She lifts a mug."
    assert irg.describe(scene(hands=(), objects=())) == "No hand of the person is visible."


def test_every_wording_fills_its_blanks():
    for phrases, sentences in irg.WORDINGS.values():
        for text in phrases + sentences:
            filled = text.format(side="left", noun="mug", other="plate")
            assert "{" not in filled and filled == filled.strip()
