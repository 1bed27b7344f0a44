"""Evaluation on HOI-QA from saved predictions or with a model: answers in, records and sums out, streaming."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from egohoi.evaluation import hoiqa_files, hoiqa_items, hoiqa_strict
from egohoi.evaluation.hoiqa_files import PARTS, Paths
from egohoi.evaluation.hoiqa_items import Item
from egohoi.evaluation.hoiqa_released import Outcome, Released
from egohoi.evaluation.predictions_boxes import Parsed
from egohoi.evaluation.tally import Tally


@dataclass(frozen=True, slots=True)
class Answer:
    """text: as the published script reads it (boxes in braces). parsed: boxes in pixels of the item's canvas, if they are not to
    be read from the text. raw: what the model said, where that differs from `text`."""

    item: Item
    text: str
    parsed: Parsed | None = None
    raw: str = ""


def saved(paths: Paths, *, any_canvas: bool = False) -> Iterator[Answer]:
    """Answers of the three prediction files, in the order of the published script: EPIC-KITCHENS, Ego4D, interactions.

    Raises BadData, BadPredictions, BadRecord.
    """
    for part in PARTS:
        for key, truth, row in hoiqa_files.pairs(part, paths):
            items = hoiqa_items.of_record(part, key, truth, any_canvas=any_canvas)
            for item, text in hoiqa_items.answers(items, row):
                yield Answer(item, text)


def released(answers: Iterable[Answer]) -> Released:
    """The published evaluation alone, over answers in its order."""
    sums = Released()
    for answer in answers:
        what, outcome = hoiqa_items.released(answer.item, answer.text)
        sums.add(answer.item.part, what, outcome)
    return sums
