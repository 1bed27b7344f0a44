"""One-to-one matching of predicted with true boxes. Every box is used at most once, on either side."""

import numpy as np

from egohoi import boxes


def by_score(predicted, scores, truth, threshold: float = 0.5) -> list[tuple[int, int, float]]:
    """Pairs (predicted index, true index, IoU) with IoU > threshold, the surest prediction choosing first.

    predicted: [N, 4] and truth: [M, 4], xyxy pixels; scores: [N]. A prediction takes the free true box that it covers best;
    if that overlap is not above the threshold, it is a false box and takes nothing (the rule of detection benchmarks).
    """
    overlap = boxes.iou_matrix(predicted, truth)
    free, pairs = np.ones(len(truth), dtype=bool), []
    for i in sorted(range(len(predicted)), key=lambda k: -scores[k]):
        if not free.any():
            break
        j = int(np.argmax(np.where(free, overlap[i], -1.0)))
        if overlap[i, j] > threshold:
            free[j] = False
            pairs.append((i, j, float(overlap[i, j])))
    return pairs


def by_overlap(overlap) -> list[tuple[int, int, float]]:
    """Pairs (row, column, value) of a matrix [N, M], the largest value first, each row and column once, zeros left out.

    Gives every true box the prediction that is its own for a mean IoU; ties go to the lower row, then the lower column.
    """
    overlap = np.array(overlap, dtype=np.float64, copy=True)
    pairs = []
    while overlap.size and overlap.max() > 0:
        i, j = np.unravel_index(int(np.argmax(overlap)), overlap.shape)
        pairs.append((int(i), int(j), float(overlap[i, j])))
        overlap[i, :] = 0.0
        overlap[:, j] = 0.0
    return pairs


def own_iou(predicted, truth) -> np.ndarray:
    """IoU of every true box with the prediction that is its own by `by_overlap`, 0 without one: float64 [M]."""
    values = np.zeros(len(truth))
    for _, j, value in by_overlap(boxes.iou_matrix(predicted, truth)):
        values[j] = value
    return values
