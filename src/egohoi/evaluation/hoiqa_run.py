"""Evaluation on HOI-QA: answers in (saved predictions, predict lines, a model), one record an item and the sums out, streaming."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from egohoi.errors import BadPredictions
from egohoi.evaluation import hoiqa_files, hoiqa_items, hoiqa_strict, predictions_boxes
from egohoi.evaluation.hoiqa_differences import Differences
from egohoi.evaluation.hoiqa_files import PARTS, Paths
from egohoi.evaluation.hoiqa_items import Item
from egohoi.evaluation.hoiqa_released import Released, boxes_of
from egohoi.evaluation.hoiqa_tally import Sums
from egohoi.evaluation.predictions_boxes import Parsed
from egohoi.evaluation.report import Item as Card

#: From this size of the truth on (bytes), images are bunched for the intervals, so that memory stays bounded.
LARGE = 32 << 20


class Answer(NamedTuple):
    """text: as the published script reads it (boxes in braces). parsed: its boxes in pixels of the item's canvas, or None to read
    them from the text. raw: what the model said, "" where that is `text`."""

    item: Item
    text: str
    parsed: Parsed | None = None
    raw: str = ""


def saved(paths: Paths, *, convention: str = "braces", seen: tuple[int, int] | None = None, any_canvas: bool = False) -> Iterator[Answer]:
    """Answers of the three prediction files, in the order of the published script: EPIC-KITCHENS, Ego4D, interactions.

    convention: how boxes are written (`predictions_boxes`); other boxes than braces are rewritten for the published protocol.
    Raises BadData, BadPredictions, BadRecord.
    """
    for part in PARTS:
        for key, truth, row in hoiqa_files.pairs(part, paths):
            items = hoiqa_items.of_record(part, key, truth, any_canvas=any_canvas)
            for item, text in hoiqa_items.answers(items, row):
                yield Answer(item, text) if convention == "braces" else rewritten(item, text, convention, seen)


def rewritten(item: Item, text: str, convention: str, seen: tuple[int, int] | None = None) -> Answer:
    """An answer whose boxes follow another convention."""
    if convention == "braces" or not item.asks_box:
        return Answer(item, text)
    parsed = predictions_boxes.read(text, convention, item.size, seen)
    return Answer(item, predictions_boxes.to_braces(parsed.boxes, item.size), parsed, text)


def truths(paths: Paths, *, limit: int | None = None, any_canvas: bool = False) -> Iterator[tuple[Item, ...]]:
    """The items of every truth record, in the order of the published script. limit: only the first of each file.

    Raises BadData, BadRecord.
    """
    for part in PARTS:
        for number, (key, row) in enumerate(hoiqa_files.keyed(paths.truth[part], part)):
            if limit is not None and number >= limit:
                break
            yield hoiqa_items.of_record(part, key, row, any_canvas=any_canvas)


def released(answers: Iterable[Answer]) -> Released:
    """The published evaluation alone, over answers in its order."""
    sums = Released()
    for answer in answers:
        what, outcome = hoiqa_items.released(answer.item, answer.text)
        sums.add(answer.item.part, what, outcome)
    return sums


@dataclass
class Evaluation:
    """Everything that a run sums up. stopped: answers at which the published script would stop; then `released` is None."""

    released: Released | None
    strict: Sums
    differences: Differences
    items: int = 0
    stopped: str = ""


def new(paths: Paths, protocol: str = "both") -> Evaluation:
    """An empty evaluation; protocol "strict" leaves the published one out."""
    size = sum(os.path.getsize(path) for path in paths.truth.values())
    return Evaluation(None if protocol == "strict" else Released(), Sums(bunched=size > LARGE), Differences())


def score(answers: Iterable[Answer], into: Evaluation, *, same: Callable[[str, str], bool] | None = None) -> Iterator[dict]:
    """Score answers one by one, add them to `into`, and yield the record of each, from which every number can be traced.

    A record holds id, subset, question, truth, answer; under `released` what the published script counts; under `strict` name ->
    [numerator, denominator]; and the reason if the two differ.
    """
    for answer in answers:
        item = answer.item
        strict = hoiqa_strict.score(item, answer.text, answer.parsed, same=same)
        into.strict.add(item, strict.counts)
        into.items += 1
        outcome, reason = None, ""
        if into.released is not None:
            try:
                what, outcome = hoiqa_items.released(item, answer.text)
            except BadPredictions as error:
                into.released, into.stopped = None, str(error)
            else:
                into.released.add(item.part, what, outcome)
                reason = into.differences.add(item, answer.text, outcome, strict)
        yield _record(answer, strict, outcome, reason)


def _record(answer: Answer, strict, outcome, reason: str) -> dict:
    item = answer.item
    row = {
        "id": item.id, "part": item.part, "subset": item.subset, "image": item.image, "size": list(item.size), "question": item.question,
        "truth": {"boxes": [list(b) for b in item.boxes]} if item.asks_box else {"name": item.noun, "boxes": [list(b) for b in item.boxes]},
        "answer": answer.text, "value": round(strict.value, 6), "strict": {k: [round(n, 6), d] for k, (n, d) in strict.counts.items()},
    }  # fmt: skip
    if answer.raw:
        row["said"] = answer.raw
    if strict.parsed is not None:
        row["boxes"] = [[round(v, 2) for v in b] for b in strict.parsed.boxes]
    if outcome is not None:
        row["released"] = {"right": outcome.right, "asked": outcome.total, "ious": [round(v, 6) for v in outcome.ious]}
    if reason:
        row["differs"] = reason
    return row


def card(record: dict) -> Card:
    """A record as an item of the report."""
    truth = record["truth"]
    asks_box = "name" not in truth
    notes = [f"counted differently: {record['differs']}"] if record.get("differs") else []
    notes += [f"{name}: {record['strict'][name][0]:g}" for name in ("unreadable", "reversed", "outside") if name in record["strict"]]
    return Card(
        id=record["id"], kind=record["subset"] or "other", value=record["value"], question=record["question"],
        truth="" if asks_box else truth["name"], answer=record.get("said") or record["answer"], image=record["image"], size=tuple(record["size"]),
        true_boxes=truth["boxes"], boxes=record.get("boxes", ()), note="; ".join(notes),
    )  # fmt: skip


def with_released_text(answer: Answer) -> Answer:
    """The answer with its boxes in braces, where they are known but the text has none that the published script reads."""
    if answer.item.asks_box and answer.parsed is not None and answer.parsed.boxes and not boxes_of(answer.text):
        return answer._replace(text=predictions_boxes.to_braces(answer.parsed.boxes, answer.item.size), raw=answer.text or "(boxes only)")
    return answer
