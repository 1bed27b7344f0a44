"""Why `released` and `strict` differ, answer by answer: every answer that they count differently has exactly one reason."""

from dataclasses import dataclass, field

from egohoi import boxes
from egohoi.evaluation import hoiqa_released, nouns
from egohoi.evaluation.hoiqa_items import Item
from egohoi.evaluation.hoiqa_released import Outcome
from egohoi.evaluation.hoiqa_strict import Strict
from egohoi.evaluation.tables import Cell, Table

#: reason -> what the published script does, and what strict does.
REASONS = {
    "no box": "An answer without a readable box is left out of the mean IoU of the test files, and adds one 0 where two boxes are asked. Strict: 0 for every box.",
    "several boxes": "Of several predicted boxes the best counts, at no cost. Strict: boxes pair one to one, a surplus box takes its share.",
    "several boxes, other canvas": "With several predicted boxes the canvas is 1920x1080, also for Ego4D (1440x1080). Strict: each file has its own.",
    "one box for two": "Both true boxes may take the same predicted box. Strict: every box is used once.",
    "two boxes, all or nothing": "Of two boxes both are right or none. Strict: each counts by itself.",
    "not two boxes for two": "One box for two, or three, is wrong altogether (three add nothing to the mean IoU). Strict: each true box counts.",
    "reversed or outside": "A box of which x2 < x1, or that leaves the picture, goes into the formula as it is. Strict: reversed boxes are none, the others are cut.",
    "pixel rounding": "Predicted boxes are cut to whole pixels and the overlap has one pixel added. Strict: decimals, no added pixel.",
    "notation": "The published pattern reads one notation only. Strict also reads braces with spaces or a bracket missing.",
    "name of several words": "A name is compared with single words between spaces, so that a name of two words is never right. Strict: its words side by side.",
    "case or punctuation": "The true name is not lowered, and only full stops are taken away. Strict: case and punctuation do not count.",
    "both hands named": "A hand is right if its name stands in the answer, also beside the other hand's. Strict: the other must not be named.",
    "wording of the hand": "The answer must hold `left hand` or `right hand` letter by letter. Strict: the side that is named.",
    "any glove": "Any glove is every glove. Strict: of the right side.",
}


@dataclass
class Differences:
    """Sums by reason. Each value: answers, right nouns, right boxes, IoU and boxes in its mean, as released minus strict."""

    sums: dict[str, list[float]] = field(default_factory=dict)

    def add(self, item: Item, answer: str, outcome: Outcome, strict: Strict) -> str:
        """Add one answer; returns its reason, "" if both protocols count it alike."""
        if item.asks_box:
            (right, _), (iou, asked) = strict.counts["box"], strict.counts["iou"]
            delta = (0.0, outcome.right - right, sum(outcome.ious) - iou, len(outcome.ious) - asked)
        else:
            delta = (outcome.right - strict.counts["noun"][0], 0.0, 0.0, 0.0)
        if not any(abs(d) > 1e-12 for d in delta):
            return ""
        reason = _box_reason(item, answer, outcome, strict) if item.asks_box else _noun_reason(item, answer)
        held = self.sums.setdefault(reason, [0.0] * 5)
        for k, value in enumerate((1.0, *delta)):
            held[k] += value
        return reason

    def table(self) -> Table:
        """Reasons with what they add to released, and the sum of all: the whole difference of the two protocols."""
        rows = [(reason, self.sums[reason]) for reason in REASONS if reason in self.sums]
        rows.append(("together", [sum(v[k] for _, v in rows) for k in range(5)]))
        made = []
        for reason, values in rows:
            cells = [Cell(int(values[0]), ""), *(Cell(f"{v:+.10g}" if k else f"{v:+.0f}", "") for k, v in enumerate(_rounded(values[1:])))]
            made.append((reason, (*cells, Cell(REASONS.get(reason, ""), ""))))
        return Table(
            "Why the protocols differ (released minus strict)", ("answers", "right names", "right boxes", "sum of IoU", "boxes in the mean", "reason"),
            tuple(made), "Every answer that the two count differently stands in one row. Small differences of the IoU come with every box, by pixel rounding.",
        )  # fmt: skip


def _rounded(values):
    return [round(v, 3) + 0.0 for v in values]


def _box_reason(item: Item, answer: str, outcome: Outcome, strict: Strict) -> str:
    written = hoiqa_released.boxes_of(answer)
    usable = strict.parsed.boxes if strict.parsed else ()
    if not written:
        return "notation" if usable else "no box"
    if strict.parsed and (strict.parsed.faults.get("reversed") or strict.parsed.faults.get("outside")):
        return "reversed or outside"
    if len(item.boxes) == 1:
        if len(written) == 1:
            return "notation" if len(usable) > 1 else "pixel rounding"
        return "several boxes, other canvas" if item.part == "ego4d" else "several boxes"
    if len(written) != 2:
        return "not two boxes for two"
    if len(usable) == 2:
        best = [max(range(2), key=lambda k: boxes.iou(truth, usable[k])) for truth in item.boxes]
        if best[0] == best[1] and abs(sum(outcome.ious) - strict.counts["iou"][0]) > 0.02:
            return "one box for two"
    return "two boxes, all or nothing" if outcome.right == 0 and strict.matched == 1 else "pixel rounding"


def _noun_reason(item: Item, answer: str) -> str:
    if item.noun in hoiqa_released.HANDS:
        lower = answer.lower()
        return "both hands named" if "left" in lower and "right" in lower else "wording of the hand"
    if "glove" in item.noun and len(nouns.words(item.noun)) == 2:
        return "any glove"
    return "name of several words" if len(nouns.words(item.noun)) > 1 else "case or punctuation"
