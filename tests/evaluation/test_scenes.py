import json

import pytest

from egohoi.errors import BadData, BadPredictions
from egohoi.evaluation import scene_questions, scenes as measures, scenes_run, scenes_tables
from egohoi.evaluation.journal import Journal
from egohoi.records import Entity, Hand, Object, Response, Scene


def run(todo, model, path=None, header=None, **more):
    with Journal(path, header or {"run": 1}) as journal:
        return list(scenes_run.run(todo, scenes_run.from_model(model), journal, **more))


def values(records):
    sums = scenes_run.tally(records)
    return {k: sums.measure(k).value for k in sums.keys() if sums.measure(k)}


def test_the_truth_itself_scores_full_marks(todo, scenes, oracle):
    found = values(run(todo, oracle(scenes)))
    errors = ("false", "no_box", "no_mask", "unreadable", "unsaid", "photos_without_hands_with_a_false_one")
    for key, value in found.items():
        assert value == pytest.approx(0.0 if key.endswith(errors) else 1.0), key
    assert {"hands.left/recall", "contact/accuracy", "hand_masks/iou", "object_masks.right/iou", "ask.held_noun/exact",
            "balanced.absent.absent_hand/right", "balanced.present/right", "ask.hand_mask/iou"} <= set(found)


def test_a_model_that_sees_nothing_gets_half_of_the_no_target_questions(todo, scenes, oracle):
    found = values(run(todo, oracle(scenes, blind=True)))
    assert found["hands/recall"] == 0 and found["hands/iou"] == 0 and found["hands/false"] == 0
    assert found["balanced.absent/right"] == 1 and found["balanced.present/right"] == 0
    assert scenes_run.tally(run(todo, oracle(scenes, blind=True))).measure("balanced.absent/right", "balanced.present/right").value == 0.5
    credulous = values(run(todo, oracle(scenes, blind=True, credulous=True)))
    assert credulous["balanced.absent/right"] == 0 and credulous["balanced.present/right"] == 1


def test_balanced_questions_are_as_many_with_as_without_a_target(todo):
    by_id = {q.id: q for group in todo.questions.values() for q in group}
    for reason in set(todo.balanced.values()):
        chosen = [by_id[i] for i, r in todo.balanced.items() if r == reason]
        assert sum(q.found for q in chosen) * 2 == len(chosen)
        assert all(q.absent == reason for q in chosen if not q.found)


def test_boxes_are_matched_one_to_one_by_score():
    scene = Scene("s", "s.png", (100, 100), hands=(Hand("left", (0, 0, 10, 10)), Hand("right", (50, 0, 60, 10)), Hand("other", (80, 80, 90, 90))))
    entities = (
        Entity("left hand", "hand", "left", (0, 0, 10, 8), 0.9),  # IoU 0.8: takes the left hand
        Entity("left hand", "hand", "left", (0, 0, 10, 10), 0.8),  # would fit better, but the hand is taken: a false box
        Entity("left hand", "hand", "left", (50, 0, 60, 10), 0.7),  # the right hand, called left
        Entity("hand", "hand", None, (80, 80, 90, 85), 0.6),  # IoU 0.5 is not above 0.5: a false box
    )
    score = measures.detection(scene, Response("s.png", (100, 100), "", "analyze", "", True, entities))
    assert score["hands/recall"] == (2, 3)
    assert score["hands/false"] == (2, 1)
    assert score["hands/side"] == (1, 2)
    assert score["hands/found_and_side"] == (1, 2)
    assert score["hands.other/recall"] == (0, 1)
    assert score["hands/iou"] == (pytest.approx(1 + 1 + 0.5), 3)  # every hand with its own best box


def test_an_object_counts_with_the_hand_that_holds_it():
    scene = Scene("s", "s.png", (100, 100), hands=(Hand("left", (0, 0, 10, 10), contact=True, object=0), Hand("right", (50, 0, 60, 10), contact=False)),
                  objects=(Object("red cup", (0, 10, 20, 30), ("left",)),))
    entities = (
        Entity("left hand", "hand", "left", (0, 0, 10, 10), 0.9, holds=()),
        Entity("right hand", "hand", "right", (50, 0, 60, 10), 0.9, holds=(2,)),
        Entity("cups", "object", None, (0, 10, 20, 28), 0.8),
        Entity("table", "object", None, (0, 40, 99, 90), 0.8),  # nobody holds it: no active object
    )
    score = measures.detection(scene, Response("s.png", (100, 100), "", "analyze", "", True, entities))
    assert score["objects/recall"] == (1, 1) and score["objects/iou"] == (pytest.approx(0.9), 1)
    assert score["objects/found_and_hand"] == (0, 1)
    assert score["objects/false"] == (0, 1)
    assert score["contact/accuracy"] == (0, 2) and score["contact/object"] == (0, 1)
    assert score["objects/name_exact"] == (0, 1) and score["objects/name_lemma"] == (1, 1)


def test_questions_are_the_same_for_the_same_seed_and_vary_their_wording(scenes):
    first, again, other = (scene_questions.questions(scenes[0], ["spoon"], seed) for seed in (0, 0, 1))
    assert first == again
    assert [q.query.text for q in first] != [q.query.text for q in other]
    kinds = {q.kind for q in first}
    assert {"hand_box", "hands_box", "held_noun", "held_box", "which_hand", "identify_hand", "identify_object", "object_box"} <= kinds


def test_nothing_is_called_absent_where_labels_are_not_exhaustive(scenes):
    import dataclasses

    open_ended = dataclasses.replace(scenes[1], exhaustive=False)
    assert not any(q.absent in ("absent_hand", "absent_object") for q in scene_questions.questions(open_ended, ["spoon"]))
    assert any(q.absent == "absent_hand" for q in scene_questions.questions(scenes[1], ["spoon"]))


def test_an_absent_object_shares_no_word_with_what_is_there(scenes):
    asked = scene_questions.questions(scenes[0], ["bread knife", "chopping board", "spoon"])
    absent = [q.query.text for q in asked if q.absent == "absent_object"]
    assert absent and all("spoon" in t for t in absent)


@pytest.mark.parametrize("text, said", [("Yes.", True), ("No, it is empty", False), ("Nothing.", False), ("It isn't.", False),
                                        ("It is holding a cup", True), ("cup", None), ("", None)])
def test_yes_and_no(text, said):
    assert measures.yes_or_no(text) is said


@pytest.mark.parametrize("text, sides", [("left hand", {"left"}), ("Both hands", {"left", "right"}), ("the right one", {"right"}), ("copyright", set())])
def test_sides_in_a_text(text, sides):
    assert measures.sides_said(text) == sides


def test_a_killed_run_goes_on_and_ends_with_the_same_records(todo, scenes, oracle, tmp_path):
    path = tmp_path / "records.jsonl"
    whole = run(todo, oracle(scenes), path)
    lines = path.read_text().splitlines(keepends=True)
    keep = 1 + whole[0]["of"]  # header and the first scene
    path.write_text("".join(lines[: keep + 2]) + lines[keep + 2][:30])
    model = oracle(scenes)
    assert run(todo, model, path) == json.loads(json.dumps(whole))
    assert path.read_text() == "".join(lines)
    assert model.asked == len(whole) - whole[0]["of"]


def test_records_of_another_run_are_not_mixed(todo, scenes, oracle, tmp_path):
    run(todo, oracle(scenes), tmp_path / "r.jsonl", {"seed": 0})
    with pytest.raises(BadPredictions, match="seed"):
        run(todo, oracle(scenes), tmp_path / "r.jsonl", {"seed": 1})


def test_shards_together_are_the_whole(todo, scenes, oracle, tmp_path):
    whole = run(todo, oracle(scenes))
    paths = [tmp_path / f"{k}.jsonl" for k in range(2)]
    for k, path in enumerate(paths):
        run(todo, oracle(scenes), path, shard=(k, 2))
    answers = scenes_run.from_predictions(paths, todo)
    merged = list(scenes_run.run(todo, answers, Journal(None, {})))
    assert [r["score"] for r in merged] == [r["score"] for r in whole]


def saved(todo, scenes, oracle, tmp_path):
    """Lines as `predict` and `describe --json` write them: no ids."""
    return [json.dumps({**r["response"], "box": r.get("box")}) for r in run(todo, oracle(scenes))]


def test_predicted_lines_are_found_by_picture_question_and_box(todo, scenes, oracle, tmp_path):
    # Two questions of a scene may share a text only with different boxes; ask with another seed until that holds is not
    # needed here because the fixture has one hand and object a side.
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(saved(todo, scenes, oracle, tmp_path)))
    records = list(scenes_run.run(todo, scenes_run.from_predictions([path], todo), Journal(None, {})))
    assert values(records) == values(run(todo, oracle(scenes)))


@pytest.mark.parametrize("change, message", [
    (lambda rows: rows[:-2], "have no prediction"),
    (lambda rows: rows + rows[-1:], "more than one prediction"),
    (lambda rows: rows + [rows[-1].replace("c.png", "z.png")], "belong to no question"),
    (lambda rows: [r.replace("[64, 48]", "[640, 480]") for r in rows], "canvas"),
    (lambda rows: ["{"], "not JSON"),
    (lambda rows: ['{"image": 3}'], "not the JSON of a response"),
    (lambda rows: [], "no prediction"),
])
def test_predictions_that_do_not_fit_are_errors_that_name_items(todo, scenes, oracle, tmp_path, change, message):
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(change(saved(todo, scenes, oracle, tmp_path))))
    with pytest.raises(BadPredictions, match=message):
        list(scenes_run.run(todo, scenes_run.from_predictions([path], todo), Journal(None, {})))


def test_labels_on_another_canvas_are_an_error(todo, scenes, oracle, folder):
    from PIL import Image

    Image.new("RGB", (32, 32)).save(folder / "images" / "a.png")
    with pytest.raises(BadData, match="canvas"):
        run(todo, oracle(scenes))


def test_tables_name_what_they_count(todo, scenes, oracle):
    made = scenes_tables.tables(scenes_run.tally(run(todo, oracle(scenes))))
    by_title = {t.title: t for t in made}
    assert {"Hands", "Active objects", "Contact", "Masks", "Is there a target"} <= set(by_title)
    assert by_title["Hands"].rows[0][1][0].value == 3
    assert by_title["Hands"].rows[0][1][1].text().startswith("100.0")
