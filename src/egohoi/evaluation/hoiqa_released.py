"""Protocol `released`: what the published evaluation of HOI-QA prints, to the last digit, faults included.

Source: HOI-Ref, `eval_scripts/evaluate.py` and `helper.py`. What is wrong with it, and is kept here on purpose: boxes are compared
with "+1 pixel" after `int()`; an answer without a box is left out of the mean IoU of the test files and counts 0 in the hoi file;
of several predicted boxes the best counts, on a canvas of 1920x1080 also for Ego4D; both truths of a two-box question may take
the same predicted box, and the question is right as a whole or wrong as a whole; a two-box question with no box adds one 0 to the
mean and one with three adds none; a noun is right if it is one word of the answer, split at spaces, so that a name of two words
never is; a hand is right if its name stands in the answer, whatever else does; any glove is every glove.
"""

import functools
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from egohoi.errors import BadData, BadPredictions

#: How the published script finds boxes in an answer.
PATTERN = re.compile(r"{<(-?\d+(?:\.\d+)?)><(-?\d+(?:\.\d+)?)><(-?\d+(?:\.\d+)?)><(-?\d+(?:\.\d+)?)>}")
HANDS = ("right hand", "left hand")
#: Questions of the hoi file that ask for hands themselves; all other boxes there are of interactions.
HAND_QUESTIONS = frozenset((
    "[refer] Where is the right hand of the person?", "[refer] Where is the left hand of the person?",
    "[refer] Where are the hands of the person?",
))
THRESHOLD = 0.5
_RULE = "-" * 50


class Outcome(NamedTuple):
    """What one answer adds: how many were asked and right, the IoUs that enter the mean, whether no box was found.

    said: a line that the published script prints while it counts (three boxes for two), "" otherwise.
    """

    subset: str
    total: int
    right: int
    ious: tuple[float, ...] = ()
    no_box: bool = False
    said: str = ""


def boxes_of(text: str) -> list[list[float]]:
    """All boxes in a text, numbers as written (0-100)."""
    return [[float(x1), float(y1), float(x2), float(y2)] for x1, y1, x2, y2 in PATTERN.findall(text)]


def on_canvas(box, width: int, height: int) -> tuple[int, int, int, int]:
    """A box of the 0-100 grid in whole pixels, cut towards zero."""
    return int(box[0] / 100 * width), int(box[1] / 100 * height), int(box[2] / 100 * width), int(box[3] / 100 * height)


def iou(a, b) -> float:
    """Intersection over union with one pixel added to every side; of reversed boxes, whatever the formula gives."""
    ax1, ay1, ax2, ay2 = a  # conditions, because min and max take longer and every answer comes by here
    bx1, by1, bx2, by2 = b
    wide = (ax2 if ax2 < bx2 else bx2) - (ax1 if ax1 > bx1 else bx1) + 1
    high = (ay2 if ay2 < by2 else by2) - (ay1 if ay1 > by1 else by1) + 1
    inter = wide * high if wide > 0 and high > 0 else 0
    return inter / ((ax2 - ax1 + 1) * (ay2 - ay1 + 1) + (bx2 - bx1 + 1) * (by2 - by1 + 1) - inter)


def named(answer: str, noun: str) -> bool:
    """Whether an answer names the truth of a test file."""
    said = answer.lower().replace(".", "")
    return noun in said if noun in HANDS else noun in said.split(" ")


def test_box(noun: str, truth, answer: str, size: tuple[int, int]) -> Outcome:
    """A referral of a test file. truth: xyxy pixels of the canvas `size`."""
    subset = "handN2handBB" if noun in HANDS else "objN2objBB"
    found = boxes_of(answer)
    if not found:
        return Outcome(subset, 1, 0, (), True)
    if len(found) == 1:
        value = iou(truth, on_canvas(found[0], *size))
    else:
        value = max([iou(truth, on_canvas(box, 1920, 1080)) for box in found])
    return Outcome(subset, 1, int(value > THRESHOLD), (value,))


def test_noun(noun: str, answer: str) -> Outcome:
    """An identification of a test file."""
    return Outcome("handBB2handN" if noun in HANDS else "objBB2objN", 1, int(named(answer, noun)))


def hoi_box(question: str, truth: list, answer: str) -> Outcome:
    """A question of the hoi file that asks for boxes. truth: one or two boxes in pixels. Raises BadData for another question."""
    subset = box_subset(question)
    found = boxes_of(answer)
    if len(truth) == 1:
        if not found:
            return Outcome(subset, 1, 0, (0.0,), True)
        if len(found) == 1:
            value = iou(truth[0], on_canvas(found[0], 1920, 1080))
        else:
            value = max([iou(truth[0], on_canvas(box, 1920, 1080)) for box in found])
        return Outcome(subset, 1, int(value > THRESHOLD), (value,))
    if not found:
        return Outcome(subset, 2, 0, (0.0,), True)
    if len(found) == 1:
        return Outcome(subset, 2, 0, (0.0, 0.0))
    if len(found) > 2:
        return Outcome(subset, 2, 0, (), False, f"More than 2 bounding boxes present. {found}")
    scaled = [on_canvas(box, 1920, 1080) for box in found]
    first, second = (max([iou(box, other) for other in scaled]) for box in truth)
    return Outcome(subset, 2, 2 * int(second > THRESHOLD and first > THRESHOLD), (first, second))


def hoi_noun(question: str, noun: str, answer: str) -> Outcome:
    """A question of the hoi file that asks for a name."""
    subset = noun_subset(question)
    if noun in ("right glove", "left glove"):
        return Outcome(subset, 1, int("glove" in answer.lower().replace(".", "")))
    return Outcome(subset, 1, int(named(answer, noun)))


@functools.lru_cache(maxsize=10_000)  # a test asks the same few questions over and over
def noun_subset(question: str) -> str:
    """Subset of a question that asks for a name, "" for one of another wording."""
    if "[vqa] What hand is holding the" in question:
        return "objN2handN"
    return "handN2objN" if "[vqa] What is the object in the " in question else ""


@functools.lru_cache(maxsize=10_000)
def box_subset(question: str) -> str:
    """Subset of a question that asks for boxes. Raises BadData."""
    if "[refer] Locate the object being manipulated by" in question:
        return "handN2objBB"
    if "[refer] Which hand has the" in question:
        return "objN2handBB"
    if question in HAND_QUESTIONS:
        return "handN2handBB"
    raise BadData(f"the question is none of HOI-QA: {question!r:.120}")


@dataclass(frozen=True)
class _Sum:
    """Right, asked, answers without a box, and IoUs."""

    right: int
    total: int
    no_box: int
    ious: array

    def __add__(self, other: "_Sum") -> "_Sum":
        return _Sum(self.right + other.right, self.total + other.total, self.no_box + other.no_box, self.ious + other.ious)


class Released:
    """Adds outcomes in the order of the published script, and prints its lines. Sums of floats follow that order."""

    SUBSETS = ("handBB2handN", "objBB2objN", "objN2objBB", "handN2handBB", "handN2objBB", "objN2handBB", "objN2handN", "handN2objN")

    def __init__(self):
        self._ious = {name: array("d") for name in ("epic", "ego4d", "hoi", "hands", "interaction")}
        self._rows = {(p, w, s): self._row(p, w, s) for p in ("epic", "ego4d", "hoi") for w in ("noun", "box") for s in (*self.SUBSETS, "")}
        self._said: list[str] = []

    def _row(self, part: str, what: str, subset: str) -> tuple[list[int], tuple[array, ...]]:
        """[right, asked, without a box] of one kind of question, and where its IoUs go: in the hoi file also to hands or interactions."""
        also = (self._ious["hands" if subset == "handN2handBB" else "interaction"],) if part == "hoi" else ()
        return [0, 0, 0], (self._ious[part], *also)

    def add(self, part: str, what: str, outcome: Outcome) -> None:
        """part: epic, ego4d or hoi; what: noun or box."""
        subset, total, right, ious, no_box, said = outcome
        counts, lists = self._rows[part, what, subset]
        counts[0] += right
        counts[1] += total
        if ious:
            for one in lists:
                one.extend(ious)
        if no_box:
            counts[2] += 1
        if said:
            self._said.append(said)

    def _sum(self, part: str, what: str) -> "_Sum":
        """Of epic, ego4d, hoi; of hands and interaction, the boxes of the hoi file."""
        file = part if part in ("epic", "ego4d", "hoi") else "hoi"
        wanted = {"hands": ("handN2handBB",), "interaction": [s for s in (*self.SUBSETS, "") if s != "handN2handBB"]}.get(part, (*self.SUBSETS, ""))
        rows = [self._rows[file, what, subset][0] for subset in wanted]
        return _Sum(*(sum(row[k] for row in rows) for k in range(3)), self._ious[part] if what == "box" else array("d"))

    def _subset(self, name: str) -> tuple[int, int]:
        """Right and asked of a subset, over the files."""
        rows = [row for (_, _, subset), (row, _) in self._rows.items() if subset == name]
        return sum(row[0] for row in rows), sum(row[1] for row in rows)

    def lines(self) -> list[str]:
        """The lines of the published script. Raises BadPredictions where it stops with a division by zero."""
        return list(self._lines())

    def _lines(self) -> Iterator[str]:
        epic, ego4d, hoi = (tuple(self._sum(part, what) for what in ("noun", "box")) for part in ("epic", "ego4d", "hoi"))
        for name, (noun, box) in (("epic-test.json", epic), ("ego4d-test.json", ego4d)):
            yield f"Noun Accuracy: {_share(noun, name)}"
            yield f"BBox Accuracy: {_share(box, name)}"
            yield f"Mean IoU Score: {_mean(box.ious, name)}"
            yield f"Wrong BB cases: {box.no_box}"
        yield from self._said
        yield f"HOI Noun Accuracy: {_share(hoi[0], 'names of epic-visor-test.json')}"
        yield f"HOI BBox Accuracy: {_share(hoi[1], 'boxes of epic-visor-test.json')}"
        yield f"HOI Mean IoU Score: {_mean(hoi[1].ious, 'epic-visor-test.json')}"
        yield f"HOI Wrong BB cases: {hoi[1].no_box}"
        noun, box = epic[0] + hoi[0] + ego4d[0], epic[1] + hoi[1] + ego4d[1]
        yield f"Final Noun Accuracy: {_share(noun, 'names')}"
        yield f"Final BBox Accuracy: {_share(box, 'boxes')}"
        yield f"Final Mean IoU Score: {_mean(box.ious, 'boxes')}; {len(box.ious)}"
        yield _RULE
        hands_noun, hands = epic[0] + ego4d[0], epic[1] + ego4d[1] + self._sum("hands", "box")
        interaction = self._sum("interaction", "box")
        yield f"ho_ref Noun Accuracy: {_share(hands_noun, 'names')}"
        yield f"ho_ref BBox Accuracy: {_share(hands, 'boxes')}"
        yield f"ho_ref Mean IoU Score: {_mean(hands.ious, 'boxes')}"
        yield f"i_ref Noun Accuracy: {_share(hoi[0], 'names of epic-visor-test.json')}"
        yield f"i_ref BBox Accuracy: {_share(interaction, 'boxes of interactions')}"
        yield f"i_ref Mean IoU Score: {_mean(interaction.ious, 'boxes of interactions')}"
        yield _RULE
        yield "Subset Evaluation"
        for name in self.SUBSETS:
            right, total = self._subset(name)
            yield f"{name} Accuracy: {_percent(right, total, name)}; {right}/{total}"

    def numbers(self) -> dict[str, float | None]:
        """Subset or "noun", "box", "iou" -> value in percent as the script rounds it; None where there is nothing to divide by."""
        parts = ("epic", "hoi", "ego4d")
        noun, box = (self._sum(parts[0], w) + self._sum(parts[1], w) + self._sum(parts[2], w) for w in ("noun", "box"))
        shares = {"noun": (noun.right, noun.total), "box": (box.right, box.total)} | {k: self._subset(k) for k in self.SUBSETS}
        out = {name: round(right / total * 100, 2) if total else None for name, (right, total) in shares.items()}
        out["iou"] = round(sum(box.ious) / len(box.ious) * 100, 2) if len(box.ious) else None
        return out


def _percent(right: int, total: int, of: str) -> float:
    if not total:
        raise BadPredictions(f"the published script divides by zero here: there is no item of {of} (use --protocol strict)")
    return round((right / total) * 100, 2)


def _share(held: _Sum, of: str) -> str:
    return f"{_percent(held.right, held.total, of)}; {held.right}/{held.total}"


def _mean(values: array, of: str) -> float:
    if not len(values):
        raise BadPredictions(f"the published script divides by zero here: no answer about {of} holds a box (use --protocol strict)")
    return round(sum(values) / len(values) * 100, 2)
