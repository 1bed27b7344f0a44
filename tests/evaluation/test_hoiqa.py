"""HOI-QA: the published output to the last digit, the corrected scores by hand, and errors that name items."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from egohoi.apps.cli import main
from egohoi.errors import BadData, BadPredictions, BadRecord, EgohoiError
from egohoi.evaluation import (
    hoiqa_files,
    hoiqa_items,
    hoiqa_model,
    hoiqa_plain,
    hoiqa_released,
    hoiqa_run,
    hoiqa_strict,
    predictions_lines,
)
from egohoi.models import Model
from egohoi.questions.official import Frames
from egohoi.records import Entity, Response

#: Sets of six files, with what the published evaluate.py printed for them (benchmarks/parity_hoiqa.py --keep).
GOLDEN = sorted((Path(__file__).parent / "hoiqa").iterdir())


@pytest.fixture
def folder(tmp_path):
    """A copy of a golden set, to be spoiled."""
    return Path(shutil.copytree(GOLDEN[0], tmp_path / "set"))


def change(path, edit):
    data = json.loads(path.read_text())
    edited = edit(data)
    path.write_text(json.dumps(data if edited is None else edited))


def run(folder):
    return list(hoiqa_run.saved(hoiqa_files.locate(folder, folder / "predictions.json")))


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda p: p.name)
def test_plain_prints_what_the_published_script_prints(folder, capsys):
    assert main(["eval", "hoiqa", "--truth-dir", str(folder), "--predictions", str(folder / "predictions.json"), "--protocol", "released", "--plain"]) == 0
    assert capsys.readouterr().out == (folder / "published.txt").read_text()


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda p: p.name)
def test_the_quick_way_sums_up_what_the_general_way_does(folder):
    paths = hoiqa_files.locate(folder, folder / "predictions.json")
    assert hoiqa_plain.of_files(paths).lines() == hoiqa_run.released(run(folder)).lines()


def test_the_quick_way_refuses_what_the_general_way_refuses(folder):
    records = json.loads((folder / "epic-visor-test.json").read_text())
    seen: dict = {}
    second = next(r for r in records if seen.setdefault(r["question"], r) is not r and isinstance(r["answer"], list))  # of a question it knows
    paths = hoiqa_files.locate(folder, folder / "predictions.json")
    spoiled = (
        (folder / "epic-visor-test.json", lambda d: [r | {"answer": [0, 0, 5000, 9]} if r["id"] == second["id"] else r for r in d], "lies outside the canvas"),
        (folder / "epic-visor-test.json", lambda d: [r | {"answer": [1, 2, 3]} if r["id"] == second["id"] else r for r in d], "expected a box"),
        (folder / "predictions_hoi.json", lambda d: d | {str(second["id"]): d[str(second["id"])] | {"question": "Where?"}}, "was asked 'Where"),
        (folder / "predictions_hoi.json", lambda d: d | {str(second["id"]): d[str(second["id"])] | {"answer": None}}, "must be a text"),
        # A number without end, which no whole pixel holds: the published script stops.
        (folder / "predictions_hoi.json", lambda d: d | {str(second["id"]): d[str(second["id"])] | {"answer": "{<9" + "9" * 400 + "><0><0><0>}"}}, "stops at this"),
    )  # fmt: skip
    for path, edit, message in spoiled:
        before = path.read_text()
        change(path, edit)
        for way in (lambda: hoiqa_plain.of_files(paths), lambda: hoiqa_run.released(hoiqa_run.saved(paths))):
            with pytest.raises(EgohoiError, match=message):
                way()
        path.write_text(before)


def test_the_order_of_the_predictions_does_not_lose_any(folder, capsys):
    before = hoiqa_run.released(run(folder)).numbers()
    change(folder / "predictions.json", lambda d: dict(reversed(d.items())))
    change(folder / "predictions_hoi.json", lambda d: dict(reversed(d.items())))
    assert hoiqa_run.released(run(folder)).numbers() == before


@pytest.mark.parametrize("name,edit,message", [
    ("predictions.json", lambda d: d.pop("epic_1") and None, "1 items of epic-test.json have no prediction: epic_1"),
    ("predictions_hoi.json", lambda d: d.pop("visor_0") and None, "1 items of epic-visor-test.json have no prediction: visor_0"),
    ("predictions_ego4d.json", lambda d: d | {"ego4d_99": d["ego4d_0"]}, "1 predictions belong to no item of ego4d-test.json: ego4d_99"),
    ("predictions_hoi.json", lambda d: d | {"x": d["visor_0"], "y": d["visor_0"]}, "2 predictions belong to no item of epic-visor-test.json: x, y"),
    ("predictions_ego4d.json", lambda d: {f"other_{k}": v for k, v in d.items()}, "belongs to another data set"),
    ("predictions.json", lambda d: {}, "no item of epic-test.json is in it"),
    ("predictions.json", lambda d: d | {"epic_0": {"ref_answer": "x"}}, "'epic_0': 'iden_answer' must be a text"),
    ("predictions.json", lambda d: d | {"epic_0": d["epic_0"] | {"question": "Where is the dragon"}}, "'epic_0': was asked 'Where is the dragon'"),
    ("predictions.json", lambda d: list(d.values()), "this is the file of something else"),
    ("epic-test.json", lambda d: d | {"epic_0": d["epic_0"] | {"bbox": [0, 0, 2500, 900]}}, "'epic_0': the box .* lies outside the canvas of 1920x1080"),
    ("ego4d-test.json", lambda d: d | {"ego4d_0": d["ego4d_0"] | {"bbox": [0, 0, 1900, 900]}}, "canvas of 1440x1080"),
    ("ego4d-test.json", lambda d: d | {"ego4d_0": d["ego4d_0"] | {"bbox": [5, 5, 1]}}, "expected a box"),
    ("epic-visor-test.json", lambda d: d + d[:1], "1 items stand more than once: visor_0"),
    ("epic-visor-test.json", lambda d: [d[0] | {"question": "[refer] Which is it"}, *d[1:]], "'visor_0': the question is none of HOI-QA"),
], ids=lambda v: None if callable(v) else str(v)[:24])  # fmt: skip
def test_what_does_not_fit_is_an_error_that_names_it(folder, name, edit, message):
    change(folder / name, edit)
    with pytest.raises((BadPredictions, BadData), match=message):
        run(folder)


@pytest.mark.parametrize("name", ["predictions.json", "predictions_hoi.json"])
def test_a_prediction_that_stands_twice_is_named(folder, name):
    text = (folder / name).read_text().rstrip()
    key, value = next(iter(json.loads(text).items()))
    (folder / name).write_text(text[:-1] + f', "{key}": {json.dumps(value)}}}')
    with pytest.raises(BadPredictions, match=f"1 items stand more than once: {key}"):
        run(folder)


def test_files_that_are_not_there_are_all_named(folder, tmp_path):
    (folder / "predictions_hoi.json").unlink()
    (folder / "predictions_ego4d.json").unlink()
    with pytest.raises(BadPredictions, match="lacks predictions_ego4d.json, predictions_hoi.json"):
        hoiqa_files.locate(folder, folder / "predictions.json")
    with pytest.raises(BadData, match="lacks epic-test.json"):
        hoiqa_files.locate(tmp_path)


@pytest.mark.parametrize("text,kind", [
    ('{"a": {"b": 1}', BadRecord), ('{"a" 1}', BadRecord), ('{"a": 1,}', BadRecord), ("[1, 2", BadRecord), ("", BadData), ("7", BadData),
    ('{"a": 1} x', BadData), ('{"a": ' + "[" * 100_000, BadRecord),
])  # fmt: skip
def test_damaged_json_is_an_error(tmp_path, text, kind):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(kind):
        list(hoiqa_files.members(tmp_path / "x.json"))


def test_members_across_windows_are_those_of_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(hoiqa_files, "_CHUNK", 7)
    data = {f"k{i}": {"t": "é\\\"}],{" * (i % 5), "n": [i, i * 1000.5, None]} for i in range(40)}
    for indent in (None, 4):
        (tmp_path / "x.json").write_text(json.dumps(data, indent=indent))
        assert dict(hoiqa_files.members(tmp_path / "x.json")) == data
        (tmp_path / "y.json").write_text(json.dumps([1234567, 12.5, *data.values()], indent=indent))
        assert [v for _, v in hoiqa_files.members(tmp_path / "y.json")] == [1234567, 12.5, *data.values()]
    (tmp_path / "x.json").write_text(" { } ")
    assert list(hoiqa_files.members(tmp_path / "x.json")) == []


# The corrected scores, by hand ---------------------------------------------------------------------------------------------

BOX = hoiqa_items.Item("epic", "1", "ref", "objN2objBB", "a.jpg", (1920, 1080), "Where is the cup", ((0.0, 0.0, 960.0, 540.0),), "cup")
TWO = hoiqa_items.Item("hoi", "2", "", "handN2handBB", "a.jpg", (1000, 1000), "[refer] Where are the hands of the person?",
                       ((0.0, 0.0, 500.0, 500.0), (500.0, 500.0, 1000.0, 1000.0)), "")  # fmt: skip


def noun(name, subset="objBB2objN"):
    return hoiqa_items.Item("epic", "1", "iden", subset, "a.jpg", (1920, 1080), "{<0><0><50><50>}", (), name)


@pytest.mark.parametrize("item,text,box,iou,recall", [
    (BOX, "{<0><0><50><50>}", 1, 1, 1),
    (BOX, "{<0><0><50><25>}", 0, 0.5, 0),  # half of it: IoU 0.5 is not above the threshold
    (BOX, "{<0><0><50><50>}<delim>{<50><50><99><99>}", 0.5, 0.5, 1),  # a surplus box takes its share
    (BOX, "nothing", 0, 0, 0),
    (BOX, "{<50><50><0><0>}", 0, 0, 0),  # reversed
    (BOX, "{<-20><-20><50><50>}", 1, 1, 1),  # cut at the edge
    (TWO, "{<0><0><50><50>}", 1, 1, 1),  # one of two
    (TWO, "{<0><0><50><50>}{<0><0><50><50>}", 1, 1, 1),  # the same box serves one hand only
    (TWO, "{<50><50><100><100>}<delim>{<0><0><50><50>}", 2, 2, 2),
    (TWO, "", 0, 0, 0),
    (TWO, "{<0><0><50><50>}{<50><50><100><100>}{<1><1><9><9>}", 4 / 3, 4 / 3, 2),
])  # fmt: skip
def test_boxes_pair_one_to_one_and_count_every_time(item, text, box, iou, recall):
    got = hoiqa_strict.score(item, text).counts
    truths = len(item.boxes)
    assert got["box"] == (pytest.approx(box), truths) and got["iou"] == (pytest.approx(iou), truths) and got["recall"] == (recall, truths)


@pytest.mark.parametrize("name,answer,strict,released", [
    ("cutting board", "a cutting board.", 1, 0), ("cup", "Cup.", 1, 1), ("cup", "cups", 0, 0), ("cup", "cup, I think", 1, 0), ("cup", "hiccup", 0, 0),
    ("left hand", "left hand and right hand", 0, 1), ("left hand", "the left one", 1, 0), ("right hand", "Right hand", 1, 1), ("right hand", "", 0, 0),
])  # fmt: skip
def test_names_and_hands(name, answer, strict, released):
    item = noun(name, "handBB2handN" if "hand" in name else "objBB2objN")
    assert hoiqa_strict.score(item, answer).counts["noun"][0] == strict
    assert hoiqa_items.released(item, answer)[1].right == released


def test_any_glove_is_every_glove_only_in_the_published_rules():
    item = hoiqa_items.Item("hoi", "1", "", "objN2handN", "a.jpg", (1920, 1080), "[vqa] What hand is holding the cup?", (), "left glove")
    assert hoiqa_items.released(item, "right glove")[1].right == 1 and hoiqa_strict.score(item, "right glove").counts["noun"][0] == 0
    assert hoiqa_strict.score(item, "the left glove").counts["noun"][0] == 1 and hoiqa_strict.score(item, "left hand").counts["noun"][0] == 0


def test_published_iou_has_a_pixel_added_and_divides_by_zero_where_it_does():
    assert hoiqa_released.iou((0, 0, 9, 9), (0, 0, 9, 9)) == 1 and hoiqa_released.iou((0, 0, 9, 9), (10, 0, 19, 9)) == 0
    item = hoiqa_items.Item("epic", "1", "ref", "objN2objBB", "", (100, 100), "Where is the cup", ((0.0, 0.0, 0.0, 0.0),), "cup")
    with pytest.raises(BadPredictions, match="epic-test/1:ref: the published script stops"):
        hoiqa_items.released(item, "{<51><1><50><" + "9" * 400 + ">}")


def test_the_reasons_explain_the_whole_difference(tmp_path):
    for folder in GOLDEN:
        paths = hoiqa_files.locate(folder, folder / "predictions.json")
        into = hoiqa_run.new(paths)
        records = list(hoiqa_run.score(hoiqa_run.saved(paths), into))
        numbers = into.released.numbers()
        sums = into.differences.sums.values()
        right, asked = into.strict.total("all/box")
        assert numbers["box"] == round((right + sum(v[2] for v in sums)) / asked * 100, 2)
        right, asked = into.strict.total("all/noun")
        assert numbers["noun"] == round((right + sum(v[1] for v in sums)) / asked * 100, 2)
        iou, asked = into.strict.total("all/iou")
        assert numbers["iou"] == pytest.approx((iou + sum(v[3] for v in sums)) / (asked + sum(v[4] for v in sums)) * 100, abs=0.006)
        # Every number comes back from the records.
        assert sum(r["strict"]["box"][0] for r in records if "box" in r["strict"]) == pytest.approx(into.strict.total("all/box")[0], abs=1e-4)
        boxed = [r["released"] for r in records if "boxes" in r]
        assert numbers["box"] == round(sum(r["right"] for r in boxed) / sum(r["asked"] for r in boxed) * 100, 2)


def test_bunched_images_give_the_same_values(folder):
    paths = hoiqa_files.locate(folder, folder / "predictions.json")
    plain, bunched = hoiqa_run.new(paths), hoiqa_run.new(paths)
    bunched.strict.bunched = True
    for into in (plain, bunched):
        list(hoiqa_run.score(hoiqa_run.saved(paths), into))
    for key in ("all/box", "part.hoi/iou", "subset.objBB2objN/noun", "group.interaction/iou"):
        assert plain.strict.total(key) == pytest.approx(bunched.strict.total(key))


# Lines and models ----------------------------------------------------------------------------------------------------------


def test_records_of_a_run_are_predictions_again(folder, tmp_path, capsys):
    base = ["eval", "hoiqa", "--truth-dir", str(folder)]
    assert main([*base, "--predictions", str(folder / "predictions.json"), "--out", str(tmp_path / "r.jsonl"), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main([*base, "--predictions", str(tmp_path / "r.jsonl"), "--json"]) == 0
    second = json.loads(capsys.readouterr().out)
    # The hoi file is counted in the order of its predictions there and of its truth here: equal to the last shown digit.
    assert first["released"] == second["released"] and first["tables"] == second["tables"]


def line(item, **more):
    return {"id": item.id, "answer": "{<0><0><50><50>}" if item.asks_box else item.noun, **more}


@pytest.mark.parametrize("edit,message", [
    (lambda rows: rows[1:], "1 of .* items have no line: epic-test/epic_0:ref"),
    (lambda rows: rows + rows[:1], "1 items have more than one line: epic-test/epic_0:ref"),
    (lambda rows: [*rows, {"id": "nobody", "answer": ""}], "1 lines belong to no item"),
    (lambda rows: [{"id": rows[0]["id"]}, *rows[1:]], "neither 'answer' nor 'text'"),
    (lambda rows: [rows[0] | {"size": [640, 640], "entities": [], "text": ""}, *rows[1:]], "the canvas is wrong"),
], ids=["missing", "doubled", "extra", "empty", "canvas"])  # fmt: skip
def test_lines_that_do_not_fit(folder, tmp_path, edit, message):
    paths = hoiqa_files.locate(folder)
    rows = [line(item) for group in hoiqa_run.truths(paths) for item in group]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(r) + "\n" for r in edit(rows)))
    with pytest.raises(BadPredictions, match=message):
        list(predictions_lines.answers([tmp_path / "p.jsonl"], paths))


def test_predict_lines_are_found_by_picture_and_question_and_their_boxes_are_pixels(folder, tmp_path):
    paths = hoiqa_files.locate(folder)
    rows = []
    for group in hoiqa_run.truths(paths):
        for item in group:
            entities = [{"box": [v / 2 for v in b]} for b in item.boxes] if item.asks_box else []
            rows.append({"id": "scene", "image": f"/elsewhere/{item.image}", "query": hoiqa_files.untagged(item.question), "text": item.noun or "here",
                         "size": [item.size[0] // 2, item.size[1] // 2], "entities": entities})  # fmt: skip
    for row in rows:
        row["image"] = row["image"].split("/")[-1]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    into = hoiqa_run.new(paths)
    list(hoiqa_run.score(predictions_lines.answers([tmp_path / "p.jsonl"], paths), into))
    assert into.strict.measure("all/iou").value == pytest.approx(1) and into.strict.measure("all/noun").value == 1
    assert into.released.numbers()["iou"] > 98, "the published script reads the boxes, written in braces"


class Knows(Model):
    """Answers with the true box in pixels and the true name."""

    name = "knows"

    def __init__(self, paths):
        self.items = {}
        for group in hoiqa_run.truths(paths):
            for item in group:
                self.items[item.image, hoiqa_files.plain(item.question) if item.way != "iden" else ""] = item
        self.asked = 0

    @classmethod
    def from_pretrained(cls, folder, *, device=None, precision=None):
        raise NotImplementedError

    def respond(self, pictures, queries, settings):
        self.asked += len(queries)
        return [self._one(p, q) for p, q in zip(pictures, queries)]

    def _one(self, picture, query):
        item = self.items[Path(picture.name).name, hoiqa_files.plain(query.text) if query.box is None else ""]
        scale = (picture.size[0] / item.size[0], picture.size[1] / item.size[1])
        found = [tuple(v * scale[k % 2] for k, v in enumerate(b)) for b in item.boxes] if item.asks_box else []
        entities = [Entity("thing", "object", None, b, 0.9) for b in found]
        return Response(picture.name, picture.size, query.text, "refer", item.noun if not item.asks_box else "There.", True, entities)


@pytest.fixture
def pictures(folder):
    for group in hoiqa_run.truths(hoiqa_files.locate(folder)):
        item = group[0]
        Image.fromarray(np.zeros((item.size[1] // 8, item.size[0] // 8, 3), np.uint8)).save(folder / item.image)
    return folder


def test_a_model_is_asked_once_a_question_and_a_stopped_run_goes_on(pictures, tmp_path):
    from egohoi.evaluation.journal import Journal

    paths, frames = hoiqa_files.locate(pictures), Frames(pictures)
    model, whole = Knows(paths), []
    with Journal(tmp_path / "r.jsonl", {"run": 1}) as journal:
        for record in hoiqa_run.score(hoiqa_model.answers(model, paths, frames, journal.done, batch=4), hoiqa_run.new(paths)):
            whole += journal.add(record["id"], [record])
    text = (tmp_path / "r.jsonl").read_text()
    (tmp_path / "r.jsonl").write_text(text[: int(len(text) * 0.6)])  # killed in the middle of a line
    again, into = Knows(paths), hoiqa_run.new(paths)
    with Journal(tmp_path / "r.jsonl", {"run": 1}) as journal:
        kept = len(journal.done)
        for record in hoiqa_run.score(hoiqa_model.answers(again, paths, frames, journal.done, batch=4), into):
            if record["id"] not in journal.done:
                journal.add(record["id"], [record])
    assert model.asked == len(whole) and 0 < again.asked == len(whole) - kept < len(whole)
    assert (tmp_path / "r.jsonl").read_text() == text
    assert into.strict.measure("all/iou").value == pytest.approx(1, abs=1e-4) and into.strict.measure("all/noun").value == 1


def test_shards_together_are_the_whole_and_the_official_files_come_back(pictures, tmp_path):
    paths, frames = hoiqa_files.locate(pictures), Frames(pictures)
    whole = [a.item.id for a in hoiqa_model.answers(Knows(paths), paths, frames, {})]
    parts = [[a.item.id for a in hoiqa_model.answers(Knows(paths), paths, frames, {}, shard=(k, 3))] for k in range(3)]
    assert sorted(sum(parts, [])) == sorted(whole) and len(set(whole)) == len(whole)
    writer = hoiqa_model.Official(tmp_path / "predictions.json")
    answers = list(hoiqa_model.answers(Knows(paths), paths, frames, {}))
    for answer in answers:
        writer.add(answer)
    writer.close()
    back = list(hoiqa_run.saved(hoiqa_files.locate(pictures, tmp_path / "predictions.json")))
    assert [(a.item, a.text) for a in back] == [(a.item, a.text) for a in answers]


def test_pictures_that_are_missing_or_of_another_canvas(pictures):
    paths = hoiqa_files.locate(pictures)
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(pictures / "epic_0.jpg")
    with pytest.raises(BadPredictions, match="'epic-test/epic_0:ref' was answered on a canvas of .50, 50."):
        list(hoiqa_model.answers(Knows(paths), paths, Frames(pictures), {}))
    (pictures / "epic_0.jpg").unlink()
    with pytest.raises(BadData, match="the picture 'epic_0.jpg' of epic-test/epic_0:ref is not there"):
        list(hoiqa_model.answers(Knows(paths), paths, Frames(pictures), {}))


def test_the_page_of_a_run_shows_both_protocols_and_the_comparison(folder, tmp_path, capsys):
    base = str(folder / "predictions.json")
    arguments = ["eval", "hoiqa", "--truth-dir", str(folder), "--predictions", base, "--compare", base, "--report", str(tmp_path / "out.html")]
    assert main(arguments) == 0
    text = (tmp_path / "out.html").read_text()
    assert all(part in text for part in ("Why the protocols differ", "several boxes, other canvas", "Comparison", "<article ", "Two protocols"))
    assert "Overall" in capsys.readouterr().out


@pytest.mark.parametrize("extra,message", [
    (["--plain"], "add --protocol released"), (["--protocol", "best"], "write released, strict or both"), (["--boxes", "yolo"], "write one of braces"),
    (["--seen", "12"], "write WIDTHxHEIGHT"), (["--limit", "3"], "--limit is for --model"),
])  # fmt: skip
def test_options_that_do_not_fit(folder, capsys, extra, message):
    assert main(["eval", "hoiqa", "--truth-dir", str(folder), "--predictions", str(folder / "predictions.json"), *extra]) == 2
    assert message in capsys.readouterr().err
