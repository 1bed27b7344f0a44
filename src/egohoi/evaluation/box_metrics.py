"""Boxes of an answer against one or several true boxes, one to one: what is right, what is missing, what is too much."""

from dataclasses import dataclass

import numpy as np

from egohoi import boxes
from egohoi.evaluation import matching

IOU = 0.5


@dataclass(frozen=True)
class BoxScore:
    """truths, answers: numbers of boxes. matched: pairs with IoU above the threshold. ious: of each true box with its own answer.

    Every box has a part in one pair at most.
    """

    truths: int
    answers: int
    matched: int
    ious: tuple[float, ...]

    @property
    def share(self) -> float:
        """How much a matched box is worth, at most 1: a box too many takes its part, so that naming all of them gains nothing."""
        return self.truths / max(self.truths, self.answers, 1)

    @property
    def accuracy(self) -> tuple[float, float]:
        """(right, asked) in true boxes."""
        return self.matched * self.share, float(self.truths)

    @property
    def iou(self) -> tuple[float, float]:
        """(sum of IoU, true boxes): a missing box counts 0, surplus boxes take their part."""
        return sum(self.ious) * self.share, float(self.truths)


def score(predicted, truth, threshold: float = IOU) -> BoxScore:
    """Compare boxes, xyxy pixels: predicted [N, 4], truth [M, 4].

    The pairs are those of the largest sum of IoU (an assignment, solved exactly for up to two boxes on either side, by largest
    overlap first beyond). IoU has no added pixel.
    """
    overlap = boxes.iou_matrix(predicted, truth)
    pairs = _assign(overlap)
    own = np.zeros(overlap.shape[1])
    for i, j in pairs:
        own[j] = overlap[i, j]
    return BoxScore(overlap.shape[1], overlap.shape[0], int((own > threshold).sum()), tuple(float(v) for v in own))


def _assign(overlap: np.ndarray) -> list[tuple[int, int]]:
    rows, columns = overlap.shape
    if columns == 1 and rows:
        return [(int(np.argmax(overlap[:, 0])), 0)]
    if columns == 2 and rows >= 2:
        # Two truths: the best ordered pair of different answers.
        sums = overlap[:, :1] + overlap[:, 1:].T
        np.fill_diagonal(sums, -1.0)
        i, k = np.unravel_index(int(np.argmax(sums)), sums.shape)
        return [(int(i), 0), (int(k), 1)]
    return [(i, j) for i, j, _ in matching.by_overlap(overlap)]


def accuracy(scores) -> float | None:
    """Box accuracy over many questions, None over none."""
    return _ratio([s.accuracy for s in scores])


def mean_iou(scores) -> float | None:
    """Mean IoU over many questions, None over none."""
    return _ratio([s.iou for s in scores])


def _ratio(pairs) -> float | None:
    total = sum(d for _, d in pairs)
    return sum(n for n, _ in pairs) / total if total else None
