"""Ego-IRG: numbers worked out by hand, every layout of predictions, errors that name items, and runs that go on."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from egohoi import masks
from egohoi.apps.cli import main
from egohoi.errors import BadPredictions
from egohoi.evaluation import irg_evaluation, irg_items, predictions_irg, records
from egohoi.evaluation.irg_released import Row
from egohoi.evaluation.irg_rows import Rows
from egohoi.evaluation.mask_metrics import ClassCounts

_spec = importlib.util.spec_from_file_location("irg_small", Path(__file__).parents[1] / "irg_small.py")
small = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(small)

#: Data, predictions, and what the published script printed for them (benchmarks/parity_irg.py --keep).
GOLDEN = sorted((Path(__file__).parent / "irg").iterdir())
#: Of one batch: background (80 + 80 + 60 + 100 + 85) / (80 + 90 + 80 + 100 + 95), first place (20 + 10 + 20 + 0) / (20 + 20 + 20 + 10),
#: second place, which no prediction fills, 0 / 30, third place absent: the one before it again.
BATCH_IOU = (405 / (445 + 1e-6) + 50 / (70 + 1e-6) + 0 + 0) / 4
#: Item -> IoU of everything named with everything true.
IOUS = {"a/0/0": 1.0, "a/0/1": 0.5, "a/1/0": 0.5, "a/2/0": 1.0, "b/0/0": 5 / 15}
BY_HAND = {
    "ciou_cumulative": (20 + 10 + 20 + 0 + 5) / (20 + 20 + 40 + 0 + 15), "giou_mean": sum(IOUS.values()) / 5,
    "iou_per_target": (1 + 0.5 + 1 + 0 + 1 / 3) / 5, "targets above 0.5": 2 / 5, "earl_entity_iou": sum(IOUS.values()) / 5,
    "no_target_accuracy": 1.0, "n_acc": 1.0, "t_acc": 1.0, "names right": 4 / 5,
}  # fmt: skip


@pytest.fixture
def data(tmp_path):
    return small.write(tmp_path / "data")


def saved(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows) if path.suffix == ".jsonl" else json.dumps(rows))
    return path


def run(data, *arguments):
    return main(["eval", "irg", "--data", str(data), *map(str, arguments)])


def facts(data, capsys, *arguments):
    assert run(data, *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def values(found):
    return {k.removeprefix("all/"): m["value"] for k, m in found["strict"].items() if k.startswith("all/")}


def test_the_numbers_are_those_worked_out_by_hand(data, tmp_path, capsys):
    found = facts(data, capsys, "--predictions", saved(tmp_path / "p.jsonl", small.lines()))
    assert {k: values(found)[k] for k in BY_HAND} == pytest.approx(BY_HAND, abs=1e-6)
    assert found["released"]["annexe_batch_iou"] == pytest.approx(BATCH_IOU, abs=1e-12) and found["released"]["depth MAE"] is None
    assert values(found)["analysis ROUGE-L"] == 1.0 and values(found)["sentence CIDEr"] > 0
    kinds = {k: m["denominator"] for k, m in found["strict"].items() if k.endswith("/no_target_accuracy")}
    assert kinds == {"all/no_target_accuracy": 5, "single/no_target_accuracy": 3, "multi/no_target_accuracy": 1, "none/no_target_accuracy": 1}


def test_the_screen_shows_both_protocols_and_why_they_differ(data, tmp_path, capsys):
    assert run(data, "--predictions", saved(tmp_path / "p.jsonl", small.lines())) == 0
    out = capsys.readouterr().out
    assert "5 queries of 2 frames" in out and f"{100 * BATCH_IOU:.2f}" in out and "cIoU" not in out
    steps = [line.split() for line in out.partition("Why the protocols differ")[2].splitlines() if line.strip().startswith("masks: ")]
    shown = {" ".join(s[: next(k for k, w in enumerate(s) if w[0].isdigit())]): float(next(w for w in s if w[0].isdigit())) for s in steps}
    # without the class that the truth lacks; without the background; the whole set is the one batch
    by_hand = {"released": BATCH_IOU, "absent classes": (405 / 445 + 50 / 70) / 3, "no background": 50 / 70 / 2, "whole set": 50 / 70 / 2,
               "iou_per_target": BY_HAND["iou_per_target"], "ciou_cumulative": BY_HAND["ciou_cumulative"]}  # fmt: skip
    assert {k: shown[f"masks: {k}"] for k in by_hand} == pytest.approx(by_hand, abs=1e-4)


def test_plain_is_six_lines_and_nothing_else(data, tmp_path, capsys):
    arguments = ("--predictions", saved(tmp_path / "p.jsonl", small.lines()), "--protocol", "released", "--plain")
    assert run(data, *arguments) == 0
    out, error = capsys.readouterr()
    assert out.splitlines()[4:] == ["nan", str(BATCH_IOU)] and len(out.splitlines()) == 6 and "--depth" in error
    assert run(data, *arguments, "--batches") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1" and lines[4:] == ["1.0", "*****(((()))) [0 1]", str(BATCH_IOU)]
    for wrong in (("--plain",), ("--batches",), ("--protocol", "best"), ("--model", "nano"), ("--save-depth", tmp_path)):
        assert run(data, *arguments[:2], *wrong) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda p: p.name)
def test_plain_prints_what_the_published_script_prints(folder, capsys):
    arguments = ("--predictions", folder / "output.json", "--masks", folder / "masks", "--depth", folder / "depth", "--protocol", "released", "--plain")
    for more, name in (((), "published.txt"), (("--batches",), "printed.txt")):
        assert run(folder / "data", *arguments, *more) == 0
        assert capsys.readouterr().out == (folder / name).read_text()


def test_every_layout_gives_the_same_numbers(data, tmp_path, capsys):
    lines = saved(tmp_path / "p.jsonl", small.lines())
    whole = facts(data, capsys, "--predictions", lines, "--save-masks", tmp_path / "masks", "--out", tmp_path / "run.jsonl")
    assert np.asarray(Image.open(tmp_path / "masks/a/0/1.png")).sum() == 10
    bare = [{k: v for k, v in r.items() if k != "id"} for r in small.lines()]  # found by picture and query
    without = [r | {"entities": [e | {"mask": None} for e in r["entities"]]} for r in small.lines()]
    for name, rows, more in (
        ("bare.jsonl", bare, ()), ("turned.jsonl", small.lines()[::-1], ()), ("run.jsonl", None, ()), ("without.jsonl", without, ("--masks", tmp_path / "masks")),
        ("output.json", small.annexe(), ("--masks", tmp_path / "masks")),
    ):  # fmt: skip
        path = saved(tmp_path / name, rows) if rows else tmp_path / name
        found = facts(data, capsys, "--predictions", path, *more)
        assert {k: values(found)[k] for k in BY_HAND} == pytest.approx(BY_HAND, abs=1e-6), name
        assert found["released"]["annexe_batch_iou"] == pytest.approx(whole["released"]["annexe_batch_iou"], abs=1e-12), name
    boxes = facts(data, capsys, "--predictions", tmp_path / "without.jsonl")  # boxes alone are measured as boxes
    assert values(boxes)["entity box IoU"] == pytest.approx(BY_HAND["earl_entity_iou"], abs=1e-6) and "iou_per_target" not in values(boxes)
    assert "entity box IoU" not in values(whole) and "entity box IoU" not in values(facts(data, capsys, "--predictions", tmp_path / "output.json"))
    found = facts(data, capsys, "--predictions", saved(tmp_path / "earl.json", small.earl()), "--masks", tmp_path / "masks")
    assert {k: values(found)[k] for k in BY_HAND} == pytest.approx(BY_HAND, abs=1e-6)
    assert facts(data, capsys, "--predictions", tmp_path / "earl.json")["strict"]["all/entity box IoU"]["value"] == pytest.approx(BY_HAND["earl_entity_iou"], abs=1e-6)


def test_two_models_are_compared_frame_by_frame(data, tmp_path, capsys):
    better = [r | {"entities": [{"name": n, "mask": small.mask("mug" if n == "mug" else "hand")} for n in ("left hand", "mug")], "text": "left hand and mug"}
              if r["id"] == "a/1/0" else r for r in small.lines()]  # fmt: skip
    first, second = saved(tmp_path / "p.jsonl", small.lines()), saved(tmp_path / "q.jsonl", better)
    table = next(t for t in facts(data, capsys, "--predictions", first, "--compare", second)["tables"] if t["title"] == "Comparison")
    rows = {r["name"]: r for r in table["rows"]}
    assert rows["giou_mean"]["difference"] == "+10.00" and rows["names right"]["difference"] == "+20.00" and rows["n_acc"]["difference"] == "+0.00"
    assert rows["iou_per_target"]["images"] == 2 and rows["n_acc"]["p"] == "1.0000" and rows["answer METEOR"]["difference"].startswith("+")
    for wrong in (("--plain", "--protocol", "released"), ("--shard", "0/2")):
        assert run(data, "--predictions", first, "--compare", second, *wrong) == 2
    assert run(data, "--predictions", first, "--compare", saved(tmp_path / "few.jsonl", better[1:])) == 2 and "a/0/0" in capsys.readouterr().err


def test_predictions_in_two_files_are_one(data, tmp_path, capsys):
    first, second = (saved(tmp_path / f"{k}.jsonl", small.lines()[k::2]) for k in (0, 1))
    found = facts(data, capsys, "--predictions", first, "--predictions", second)
    assert values(found)["giou_mean"] == pytest.approx(BY_HAND["giou_mean"], abs=1e-6)


def test_torn_output_of_the_published_script_is_read_as_far_as_it_goes(data, tmp_path, capsys):
    rows = small.annexe()
    text = "[\n" + ",\n".join(map(json.dumps, rows)) + ",\n]\n0.1\n0.2\n0.3\n0.4\n0.05\n0.6\n"  # with its comma too many and its six numbers
    (tmp_path / "output.json").write_text(text)
    found = facts(data, capsys, "--predictions", tmp_path / "output.json")
    assert (found["released"]["depth MAE"], found["released"]["annexe_batch_iou"]) == (0.05, 0.6)  # nothing to compute them from
    (tmp_path / "torn.json").write_text("[\n" + json.dumps(rows[0]) + ",\n" + json.dumps(rows[1])[:40] + "\n" + ",\n".join(map(json.dumps, rows[1:])) + ",\n")
    assert run(data, "--predictions", tmp_path / "torn.json") == 0
    assert "unreadable entries" in capsys.readouterr().out


def test_the_repetitions_of_the_published_loader_are_taken(data, tmp_path, capsys):
    """It hands out the last entry of a frame as often as the frame has entries."""
    rows = small.annexe()
    found = facts(data, capsys, "--predictions", saved(tmp_path / "output.json", [rows[3], rows[4], rows[3], rows[3]]))
    assert found["items"] == 2 and found["strict"]["all/no_target_accuracy"]["denominator"] == 2
    assert run(data, "--predictions", saved(tmp_path / "few.json", [rows[3], rows[4], rows[3]])) == 2
    assert "a/0/0" in capsys.readouterr().err


def _spoiled(rows, number, **changes):
    return [r | changes if k == number else r for k, r in enumerate(rows)]


LINES = small.lines()
WRONG = {
    "missing": (LINES[1:], "1 of 5 items have no prediction: a/0/0"),
    "doubled": ([*LINES, LINES[2]], "1 items are answered more than once: a/1/0"),
    "extra": ([*LINES, LINES[0] | {"id": "z/0/0", "image": "z.jpg"}], "1 predictions belong to no item of"),
    "other picture": (_spoiled(LINES, 1, image="RGB/b.jpg"), "another data set: a/0/1"),
    "other query": (_spoiled(LINES, 4, query="the cup"), "another data set: b/0/0"),
    "canvas": (_spoiled(LINES, 0, size=[20, 10]), "another canvas than their picture: a/0/0 (20x10), its picture is 10x10"),
    "canvas of a mask": (_spoiled(LINES, 0, entities=[LINES[0]["entities"][0] | {"mask": masks.encode(np.ones((4, 6), np.uint8))}]), "a/0/0 (6x4)"),
    "other data": ([{"image": "P01/frame_1.jpg", "query": "the cup", "text": "cup"}], "is of another data set, none of its 1 lines"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_line_that_does_not_belong_is_an_error_that_names_it(data, tmp_path, capsys, name):
    rows, message = WRONG[name]
    assert run(data, "--predictions", saved(tmp_path / "p.jsonl", rows), "--report", tmp_path / "r.html") == 2
    out, error = capsys.readouterr()
    assert message in error and len(error.strip().splitlines()) == 1 and not out and not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is of another data set"), (b"\x89PNG\r\n\x1a\n\x00\xff", "5 of 5 items have no prediction"),
        (b'{"k1": {"question": "Where is the cup", "ref_answer": "{<1><2><3><4>}"}}', "is of another data set"),  # HOI-QA's
        (b'[{"id": "v1", "image_path": "f.jpg", "question": "Where?"}]', "is of another data set"), (b"[", "a/0/0"), (b"[" * 100_000, "a/0/0"), (b"{" * 100_000, "a/0/0"),
    ],
    ids=["empty", "picture", "dict", "list", "torn", "deep list", "deep dict"],
)  # fmt: skip
def test_a_file_of_something_else_is_one_line(data, tmp_path, capsys, content, message):
    (tmp_path / "p.json").write_bytes(content)
    assert run(data, "--predictions", tmp_path / "p.json") == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1 and len(error) < 600


@pytest.mark.parametrize("rows", [small.annexe(), small.earl()], ids=["annexe", "earl"])
def test_lists_that_do_not_belong_are_errors_too(data, tmp_path, capsys, rows):
    image = "img_path" if "img_path" in rows[0] else "image_path"
    query = "vqa_que" if "img_path" in rows[0] else "query"
    for wrong, message in (
        (rows[1:], "a/0/0"), ([*rows, rows[2]], "a/1/0"), ([*rows, rows[0] | {query: "[vqa] xx"}], "entry 6 (a"),
        ([r | {image: "/x/z.jpg"} for r in rows], "is of another data set, none of its 5 entries"),
    ):  # fmt: skip
        assert run(data, "--predictions", saved(tmp_path / "p.json", wrong)) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.strip().splitlines()) == 1
    if image == "img_path":
        assert run(data, "--predictions", saved(tmp_path / "p.json", _spoiled(rows, 0, vqa_ans_gt="cup"))) == 2
        assert "1 entries have another truth" in capsys.readouterr().err


def test_folders_of_masks_and_depth_are_checked(data, tmp_path, capsys):
    lines = saved(tmp_path / "p.jsonl", small.lines())
    assert run(data, "--predictions", lines, "--save-masks", tmp_path / "m") == 0
    (tmp_path / "m/a/1/0.png").unlink()
    for folder, message in ((tmp_path / "none", "no such folder"), (tmp_path / "m", "1 items have no index image (ID.png, as FRAME/ENTRY/QUESTION.png): a/1/0")):
        assert run(data, "--predictions", lines, "--masks", folder) == 2
        assert message in capsys.readouterr().err
    Image.new("L", (5, 5)).save(tmp_path / "m/a/1/0.png")
    assert run(data, "--predictions", lines, "--masks", tmp_path / "m") == 2 and "a/1/0 (5x5), its picture is 10x10" in capsys.readouterr().err
    (tmp_path / "m/a/1/0.png").write_bytes(b"no picture")
    assert run(data, "--predictions", lines, "--masks", tmp_path / "m") == 2 and "m/a/1/0.png: cannot be read as an index image" in capsys.readouterr().err
    (tmp_path / "d").mkdir()
    Image.new("I;16", (10, 10)).save(tmp_path / "d/a.png")
    assert run(data, "--predictions", lines, "--depth", tmp_path / "d") == 2 and "1 frames have no depth image: b" in capsys.readouterr().err
    Image.new("I;16", (9, 10)).save(tmp_path / "d/b.png")
    assert run(data, "--predictions", lines, "--depth", tmp_path / "d") == 2 and "another canvas than their picture: b (9x10)" in capsys.readouterr().err
    for path in (tmp_path / "nothing.jsonl", tmp_path):
        assert run(data, "--predictions", path) == 2 and "no such file" in capsys.readouterr().err


def test_depth_is_measured_once_a_frame(data, tmp_path, capsys):
    lines, depth = saved(tmp_path / "p.jsonl", small.lines()), tmp_path / "d"
    depth.mkdir()
    for frame in small.ENTRIES:  # 0 .. 99 of 99 at the truth's 0 .. 990, whose first pixel is a hole: right but for that
        Image.fromarray(np.round(np.arange(100).reshape(10, 10) / 99 * 65535).astype(np.uint16)).save(depth / f"{frame}.png")
    found = facts(data, capsys, "--predictions", lines, "--depth", depth)
    assert found["strict"]["all/depth mae"]["denominator"] == 2 and values(found)["depth delta<1.25"] == 1.0
    assert values(found)["depth abs_rel"] == pytest.approx(0, abs=1e-4) and values(found)["depth mae"] == pytest.approx(np.mean([k / 99 - (k - 1) / 98 for k in range(1, 100)]), abs=1e-4)
    assert found["released"]["depth MAE"] == pytest.approx(0, abs=0.01)  # of both enlarged to 448x448, in steps of another fineness


def test_unreadable_answers_count_as_wrong_and_are_counted(data, tmp_path, capsys):
    rows = _spoiled(_spoiled(small.lines(), 0, entities="x", text=None), 1, entities=[{"name": "left hand", "mask": {"size": [10, 10], "counts": "~~"}}])
    found = facts(data, capsys, "--predictions", saved(tmp_path / "p.jsonl", rows))
    assert values(found)["iou_per_target"] == pytest.approx((0 + 0 + 1 + 0 + 1 / 3) / 5, abs=1e-6)
    faults = next(t for t in found["tables"] if t["title"] == "What could not be read")
    assert {r["name"]: r["number"] for r in faults["rows"]} == {"answers without text": 1, "unreadable entities": 1, "unreadable masks": 1}


def test_a_stopped_run_ends_in_the_same_bytes(data, tmp_path, capsys):
    lines, out = saved(tmp_path / "p.jsonl", small.lines()), tmp_path / "run.jsonl"
    run(data, "--predictions", lines, "--out", out)
    whole = out.read_bytes()
    texts = (tmp_path / "run.texts.jsonl").read_bytes()
    assert [json.loads(row)["id"] for row in texts.splitlines()] == list(small.queries())
    for cut in np.random.default_rng(0).integers(whole.index(b"\n") + 1, len(whole), 12):
        out.write_bytes(whole[:cut])
        assert run(data, "--predictions", lines, "--out", out) == 0 and out.read_bytes() == whole
    capsys.readouterr()
    for text, message in ((b"not a record\n", "is no record file"), (whole.replace(b'"test"', b'"val"', 1), "another run (split differ)")):
        out.write_bytes(text)
        assert run(data, "--predictions", lines, "--out", out) == 2 and message in capsys.readouterr().err
    out.write_bytes(whole)
    saved(lines, small.lines()[::-1])  # other predictions under the same name
    assert run(data, "--predictions", lines, "--out", out) == 2 and "another run (files differ)" in capsys.readouterr().err
    out.unlink()
    assert run(data, "--predictions", lines, "--out", out) == 0
    whole = out.read_bytes()
    capsys.readouterr()
    first, *rest = whole.splitlines(keepends=True)
    out.write_bytes(first + b"".join(rest[::-1]))
    assert run(data, "--predictions", lines, "--out", out) == 2 and "holds the record of b/0/0 in the place of a/0/0" in capsys.readouterr().err


def test_shards_are_predictions_together(data, tmp_path, capsys):
    lines = saved(tmp_path / "p.jsonl", small.lines())
    whole = facts(data, capsys, "--predictions", lines)
    for k in (0, 1):
        assert run(data, "--predictions", lines, "--out", tmp_path / "run.jsonl", "--shard", f"{k}/2") == 0
    capsys.readouterr()
    parts = [tmp_path / f"run.{k}-of-2.jsonl" for k in (0, 1)]
    assert [len(p.read_text().splitlines()) for p in parts] == [5, 2]
    found = facts(data, capsys, *(a for p in parts for a in ("--predictions", p)))
    assert found["strict"] == whole["strict"] and found["released"] == whole["released"]


def test_a_part_is_named_by_limit_and_queries(data, tmp_path, capsys):
    few = [r for r in small.lines() if r["id"] in ("a/0/0", "a/1/0", "a/2/0")]
    found = facts(data, capsys, "--predictions", saved(tmp_path / "p.jsonl", few), "--limit", "1", "--queries", "1")
    assert found["items"] == 3


def test_where_the_published_script_stops_strict_goes_on(data, tmp_path, capsys):
    lines = saved(tmp_path / "p.jsonl", [r | {"analysis": None} for r in small.lines()])
    assert run(data, "--predictions", lines, "--protocol", "released", "--plain") == 2
    assert "stops with an error at batch 1 of 1 (from a/0/0): analysis: no prediction of the batch holds a word" in capsys.readouterr().err
    assert run(data, "--predictions", lines) == 0
    assert "The published numbers are not shown" in (out := capsys.readouterr().out) and "ciou_cumulative" in out


def test_the_page_holds_pictures_masks_and_both_protocols(data, tmp_path, capsys):
    assert run(data, "--predictions", saved(tmp_path / "p.jsonl", small.lines()), "--report", tmp_path / "r.html") == 0
    page = (tmp_path / "r.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 2 and "src=\"http" not in page and "href=\"http" not in page
    for text in ("a/1/0", "the hand and the mug", "Two protocols", "ciou_cumulative", "Why the protocols differ", "append"):
        assert text in page


@pytest.mark.parametrize(
    ("text", "found", "names", "faults"),
    [
        ('<answer>["left hand"]</answer><bbox>"left hand": [1, 2, 3, 4]</bbox>', True, ["left hand"], {}),
        ('<answer>None</answer><bbox>"left hand": [1, 2, 3, 4]</bbox>', False, ["left hand"], {}),
        ("<answer>There is no suitable referring result.</answer><bbox>None</bbox>", False, [], {}),
        ('<answer>["a", "b"]</answer><bbox>{"a": [1, 2, 3, 4], "b": [1.5, 2, 3, -4]}</bbox>', True, ["a", "b"], {}),
        ('<answer>["a"]</answer><bbox>"a": [1, 2, 3]</bbox>', False, ["a"], {"unreadable boxes": 2}),
        ("ERROR: out of memory", False, [], {"answers without text": 1}),
        (None, False, [], {"answers without text": 1}),
        ('<bbox>"a": [1, 2, 3, 4]', True, ["a"], {"answers without <answer>": 1}),
    ],
)
def test_answers_of_earl(text, found, names, faults):
    from collections import Counter

    counted = Counter()
    answer = predictions_irg.earl_answer(text, counted)
    assert (answer.found, [t.name for t in answer.things], dict(counted)) == (found, names, faults)


def test_rows_come_back_as_they_went_in():
    r, rows, made = np.random.default_rng(0), Rows(), []
    for k in range(40):
        classes = tuple(ClassCounts(*map(int, r.integers(0, 10**10, 3))) for _ in range(5))
        made.append(Row(f"f{k // 4}/{k}/0", f"f{k // 4}", (4, 5), (f"a{k % 3}", "t"), (f"c{k % 5}", ""), bool(k % 2), bool(k % 3), classes))
        rows.add(made[-1])
    assert [rows.row(k) for k in range(40)] == made and list(rows.ordered(rows.names)) == made
    chosen = rows.ordered([made[k].id for k in (5, 3, 5)] + ["of no item"])
    assert list(chosen) == [made[5], made[3], made[5]] and chosen[1:] == [made[3], made[5]]
    assert chosen.classes().tolist() == [[list(c) for c in made[k].classes] for k in (5, 3, 5)] and chosen.pairs("analysis")[1] == ("c3", "")
    assert len(rows.answers.distinct) == 3 and rows.answers.counts().tolist() == [14, 13, 13]
    rows.add(made[0]._replace(classes=None))
    assert rows.classes() is None and rows.row(40).classes is None


def test_records_read_no_further_than_a_torn_line(tmp_path):
    path = tmp_path / "r.jsonl"
    with records.Records(path, {"k": 1}) as kept:
        for name in "abc":
            assert kept.held(name) is None
            kept.add({"id": name})
    path.write_bytes(path.read_bytes()[:-4])
    assert [r["id"] for r in records.read(path)] == ["a", "b"]
    with records.Records(path, {"k": 1}) as kept:
        assert [kept.held(n) for n in "abc"] == [{"id": "a"}, {"id": "b"}, None]
        kept.add({"id": "c"})
    assert [r["id"] for r in records.read(path)] == ["a", "b", "c"]
    with pytest.raises(BadPredictions, match="another run"):
        records.Records(path, {"k": 2})


def test_texts_that_repeat_are_scored_once_with_the_same_result():
    pairs = [("the left hand", "left hand"), ("a mug", "the mug"), ("", "the jar"), ("left hand and mug", "left hand and mug")]
    once = irg_evaluation.scores(pairs, [3, 1, 2, 4])
    again = irg_evaluation.scores([p for p, n in zip(pairs, (3, 1, 2, 4)) for _ in range(n)], [1] * 10)
    for name, score in once.items():
        assert score.corpus == pytest.approx(again[name].corpus, abs=1e-12), name
        assert [v for v, n in zip(score.items, (3, 1, 2, 4)) for _ in range(n)] == pytest.approx(again[name].items, abs=1e-12), name


def test_captions_and_answers_are_prepared_as_the_published_loader_does():
    assert irg_items.published_caption('The (left) hand: "holds"  a mug!\n') == "the left hand holds a mug"
    assert irg_items.published_caption(" ".join("w" for _ in range(60))).count("w") == 50
    assert irg_items.published_answer(["", "jar", "", "lid"]) == " and jar and lid" and irg_items.published_answer(["", "", "", ""]) == ""
