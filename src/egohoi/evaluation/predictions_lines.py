"""Answers on HOI-QA saved as JSON lines: of `egohoi predict`, records of an earlier run, or `{"id": .., "answer": ..}`."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from egohoi import boxes
from egohoi.errors import BadPredictions
from egohoi.evaluation import hoiqa_run
from egohoi.evaluation.hoiqa_files import Paths, names, plain
from egohoi.evaluation.hoiqa_items import Item
from egohoi.evaluation.hoiqa_run import Answer
from egohoi.evaluation.predictions_boxes import Parsed

#: How far the sides' ratio of a canvas may be off.
ASPECT = 0.02


def answers(
    files: Sequence, paths: Paths, *, convention: str = "braces", seen=None, limit: int | None = None, any_canvas: bool = False,
) -> Iterator[Answer]:
    """Answers in the order of the truth.

    A line belongs to the item of its `id` (`epic-test/KEY:ref`, or `KEY:ref`, `KEY:iden`, the hoi file's id, if one file only has
    it), else to the item of its picture and question. Boxes come from `entities` (pixels of `size`) if the line has them, else from
    the text by `convention`. Raises BadPredictions for lines of no item, two lines of one item, items without a line, and a canvas
    of other proportions.
    """
    items = [item for group in hoiqa_run.truths(paths, limit=limit, any_canvas=any_canvas) for item in group]
    index = _index(items)
    kept: dict[str, tuple[str, dict]] = {}
    unknown, doubled = [], []
    for where, row in _lines(files):
        item = index.get(row.get("id")) or index.get(_asked(row.get("image"), row.get("query", row.get("question"))))
        if item is None:
            unknown.append(f"{where} ({str(row.get('id') or row.get('image'))[:60]})")
        elif item.id in kept:
            doubled.append(item.id)
        else:
            kept[item.id] = (where, row)
    source = ", ".join(map(str, files))
    if unknown:
        raise BadPredictions(f"{source}: {len(unknown)} lines belong to no item of this data set: {names(unknown)}")
    if doubled:
        raise BadPredictions(f"{source}: {len(doubled)} items have more than one line: {names(doubled)}")
    missing = [item.id for item in items if item.id not in kept]
    if missing:
        raise BadPredictions(f"{source}: {len(missing)} of {len(items)} items have no line: {names(missing)}")
    for item in items:
        yield of_row(item, kept[item.id][1], kept[item.id][0], convention, seen)


def of_row(item: Item, row: dict, where: str, convention: str = "braces", seen=None) -> Answer:
    """The answer that a line holds. Raises BadPredictions."""
    text = row.get("said", row.get("answer", row.get("text")))
    if not isinstance(text, str):
        raise BadPredictions(f"{where}: has neither 'answer' nor 'text'")
    if item.asks_box and isinstance(row.get("entities"), list):
        size = row.get("size")
        check_canvas(item, size, where)
        try:
            found = [boxes.check(e["box"], where="box") for e in row["entities"]]
        except (KeyError, TypeError, ValueError) as error:
            raise BadPredictions(f"{where}: entities are not those of a response ({str(error)[:80]})") from error
        scaled = tuple(boxes.scale(b, item.size[0] / size[0], item.size[1] / size[1]) for b in found)
        return hoiqa_run.with_released_text(Answer(item, text, Parsed(scaled)))
    if item.asks_box and "said" in row and isinstance(row.get("boxes"), list):  # a record of a model with boxes of its own
        faults = {k: int(v[0]) for k, v in row.get("strict", {}).items() if k in ("unreadable", "reversed", "outside")}
        return Answer(item, row["answer"], Parsed(tuple(tuple(b) for b in row["boxes"]), **faults), text)
    return hoiqa_run.rewritten(item, text, convention, seen)


def check_canvas(item: Item, size, where: str) -> None:
    """Raise BadPredictions if a picture of `size` (width, height) cannot be the item's canvas, scaled."""
    try:
        width, height = (float(v) for v in size)
        right = abs(width / height * item.size[1] / item.size[0] - 1) <= ASPECT
    except (TypeError, ValueError, ZeroDivisionError):
        right = False
    if not right:
        raise BadPredictions(f"{where}: '{item.id}' was answered on a canvas of {size!r:.40}, the truth has {item.size[0]}x{item.size[1]}: the canvas is wrong")


def _index(items: Sequence[Item]) -> dict:
    """id, shorter id, or (picture, question) -> item; what stands for two items is left out."""
    out: dict = {}
    twice = set()
    for item in items:
        for key in (item.id.partition("/")[2], _asked(item.image, item.question)):
            if key in out:
                twice.add(key)
            out[key] = item
    return {k: v for k, v in out.items() if k not in twice} | {item.id: item for item in items}


def _asked(image, question):
    if not isinstance(image, str) or not isinstance(question, str):
        return None
    return "/".join(PurePosixPath(image).parts[-2:]), plain(question)


def _lines(files: Sequence) -> Iterator[tuple[str, dict]]:
    for path in files:
        if not Path(path).is_file():
            raise BadPredictions(f"{path}: no such file of predictions")
        with open(path, encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise BadPredictions(f"{path}:{number}: is not JSON ({str(error)[:60]})") from error
                if not isinstance(row, dict):
                    raise BadPredictions(f"{path}:{number}: a prediction is a JSON object, got {type(row).__name__}")
                if "run" in row:
                    continue
                yield f"{path}:{number}", row.get("response") if isinstance(row.get("response"), dict) else row

