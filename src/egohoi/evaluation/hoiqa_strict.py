"""Protocol `strict`: what an answer on HOI-QA is worth, without the faults of the published script.

Every question counts once in every mean: no readable box is an IoU of 0, everywhere. Boxes keep their decimals, the overlap has no
added pixel, each file has its own canvas, boxes pair one to one, each of two hands counts by itself, and a box too many weighs as
much as one too few. Names may have several words, whole words only; a hand is right if it is named and the other is not.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from egohoi.evaluation import box_metrics, nouns, predictions_boxes
from egohoi.evaluation.hoiqa_items import Item
from egohoi.evaluation.predictions_boxes import Parsed
from egohoi.evaluation.tally import Score

_SIDED = re.compile(r"^(left|right) (hand|glove)s?$")


@dataclass(frozen=True)
class Strict:
    """counts: name -> (numerator, denominator). value: 0..1, how good the answer is. parsed: boxes found; matched: with IoU > 0.5."""

    counts: Score
    value: float
    parsed: Parsed | None = None
    matched: int = 0


def score(item: Item, answer: str, parsed: Parsed | None = None, *, convention: str = "braces", same: Callable[[str, str], bool] | None = None) -> Strict:
    """Score one answer.

    parsed: its boxes if they are known already (pixels of item.size), else they are read by `convention`. same: whether two nouns
    are synonyms (`wordnet.same_noun`), or None to leave that measure out.
    """
    if item.asks_box:
        found = predictions_boxes.read(answer, convention, item.size) if parsed is None else parsed
        return _box(item, found)
    return _noun(item, answer, same)


def _box(item: Item, found: Parsed) -> Strict:
    got = box_metrics.score(found.boxes, item.boxes)
    counts = {
        "box": got.accuracy, "iou": got.iou, "recall": (float(got.matched), float(got.truths)),
        "parse": (float(bool(found.boxes)), 1.0), "extra": (float(got.answers > got.truths), 1.0),
    }  # fmt: skip
    if got.answers:
        counts["precision"] = (float(got.matched), float(got.answers))
    counts |= {name: (float(number), 1.0) for name, number in found.faults.items()}
    return Strict(counts, got.iou[0] / got.iou[1], found, got.matched)


def _noun(item: Item, answer: str, same) -> Strict:
    sided = _SIDED.match(item.noun)
    said = nouns.words(answer)
    counts = {"parse": (float(bool(said)), 1.0)}
    if sided:
        right = float(hand_side(answer) == sided.group(1))
        counts["side"] = (right, 1.0)
        named = right and (sided.group(2) != "glove" or bool({"glove", "gloves"} & set(said)))
        counts |= {"noun": (float(named), 1.0), "exact": (float(nouns.exact(answer, item.noun)), 1.0)}
        counts |= {name: (float(named), 1.0) for name in ("phrase", "lemma", *(("synonym",) if same else ()))}
    else:
        counts |= {name: (float(getattr(nouns, name)(answer, item.noun)), 1.0) for name in ("exact", "phrase", "lemma")}
        if same is not None:
            counts["synonym"] = (float(nouns.synonym(answer, item.noun, same)), 1.0)
        counts["noun"] = counts["phrase"]
    return Strict(counts, counts["noun"][0])


def hand_side(text: str) -> str | None:
    """The one side ("left" or "right") that a text names, None if it names none or both."""
    sides = set(re.findall(r"\b(left|right)\b", text.lower()))
    return sides.pop() if len(sides) == 1 and not re.search(r"\bboth\b", text.lower()) else None

