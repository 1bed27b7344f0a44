"""Protocol `released` on Ego-IRGBench: what the published evaluation of ANNEXE computes (eval_scripts/eval_egoirgbench.py), faults included.

Items come in batches of ten, every number is a mean over batches, texts are compared with prediction and truth in each other's
place. Where the published script stops with an error, so does this (`Stopped`).
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from egohoi.evaluation import depth_metrics, mask_metrics, text_metrics, text_tokens
from egohoi.evaluation.mask_metrics import ClassCounts

BATCH = 10
#: Names of the six numbers with which the script ends its output file, in its order.
NUMBERS = ("answer METEOR", "answer CIDEr", "analysis METEOR", "analysis CIDEr", "depth MAE", "annexe_batch_iou")


class Stopped(Exception):
    """The published script would end with an error here; the message says why."""


class Row(NamedTuple):
    """One item as the script sees it. classes: None without masks. texts: (predicted, true) answer, (predicted, true) analysis."""

    id: str
    frame: str
    size: tuple[int, int]
    answer: tuple[str, str]
    analysis: tuple[str, str]
    found: bool
    with_mask: bool
    classes: tuple[ClassCounts, ...] | None


@dataclass
class Released:
    """values: NUMBERS -> value, None where the predictions hold nothing for it. printed: the lines that the script prints while it runs."""

    values: dict[str, float | None]
    printed: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The six lines with which the script ends its output file; `nan` for what the predictions do not hold."""
        return [str(self.values[name]) if self.values[name] is not None else "nan" for name in NUMBERS]


def evaluate(
    rows: Sequence[Row], depth: Callable[[str], tuple[np.ndarray, np.ndarray]] | None, *, batch: int = BATCH, trace: bool = False
) -> Released:
    """The published numbers over rows in the order in which the script would see them.

    depth: frame -> (predicted, true), float32 [448, 448] each, or None without depth. trace: keep what the script prints while it runs.
    Raises Stopped.
    """
    total = -(-len(rows) // batch)
    meteor, cider = _Meteor(rows), functools.lru_cache(maxsize=10_000)(_cider)
    held: dict[str, list[float]] = {name: [] for name in NUMBERS}
    printed = [str(total)]
    for start in range(0, len(rows), batch):
        some = rows[start : start + batch]
        where = f"batch {start // batch + 1} of {total} (from {some[0].id})"
        if len({r.size for r in some}) > 1:
            raise Stopped(f"{where}: pictures of several sizes cannot be one batch")
        found = {}
        for name, pairs in (("answer", [r.answer for r in some]), ("analysis", [r.analysis for r in some])):
            if not any(said.split() for said, _ in pairs):
                raise Stopped(f"{where}: {name}: no prediction of the batch holds a word")
            found[f"{name} METEOR"], found[f"{name} CIDEr"] = meteor.mean(pairs), cider(tuple(pairs))
        try:
            found["depth MAE"] = None if depth is None else _mae(some, depth)
            found["annexe_batch_iou"] = None if any(r.classes is None for r in some) else mask_metrics.annexe_batch_iou([r.classes for r in some])
        except ValueError as error:
            raise Stopped(f"{where}: {error}") from error
        for name, value in found.items():
            held[name].append(value)
        if trace:
            printed += _printed(some, found)
    return Released({name: None if None in values or not values else sum(values) / len(values) for name, values in held.items()}, printed)


def _cider(pairs: tuple[tuple[str, str], ...]) -> float:
    # the predictions stand in the place of the references, and the weights of words come from ten texts
    return text_metrics.cider([true for _, true in pairs], [[said] for said, _ in pairs], words=text_tokens.whitespace).corpus


class _Meteor:
    """METEOR of every pair of texts, each distinct pair once."""

    def __init__(self, rows: Sequence[Row]):
        pairs = list(dict.fromkeys(p for r in rows for p in (r.answer, r.analysis) if p[0]))
        found = text_metrics.meteor([true for _, true in pairs], [[said] for said, _ in pairs]).items if pairs else ()
        self._values = dict(zip(pairs, found))

    def mean(self, pairs: list[tuple[str, str]]) -> float:
        return sum(self._values.get(p, 0) for p in pairs) / len(pairs)


def _mae(rows: Sequence[Row], depth) -> float:
    predicted, true = zip(*(depth(r.frame) for r in rows))
    return depth_metrics.annexe_mae(np.stack(predicted), np.stack(true))


def _printed(rows: Sequence[Row], found: dict) -> list[str]:
    values = {k: "nan" if v is None else v for k, v in found.items()}
    right = sum(bool(r.with_mask) == bool(r.found) for r in rows) / len(rows)
    labels = "nan"
    if all(r.classes is not None for r in rows):
        areas = [sum(r.classes[k].union - r.classes[k].truth + r.classes[k].intersection for r in rows) for k in range(len(rows[0].classes))]
        labels = np.array([k for k, area in enumerate(areas) if area])
    return [
        f"{values['answer METEOR']} {values['analysis METEOR']}", f"{values['answer CIDEr']} {values['analysis CIDEr']}", f"{values['depth MAE']}",
        f"{right}", f"*****(((()))) {labels}", f"{values['annexe_batch_iou']}",
    ]  # fmt: skip
