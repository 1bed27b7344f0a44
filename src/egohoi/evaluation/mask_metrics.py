"""Mask measures, each under a name of its own, because three different ones are published as "cIoU".

A mask is a COCO RLE `{"size": [H, W], "counts": ...}`; overlaps are counted on the runs, so no pixel is decoded (boundaries are the
exception). Sizes of both sides have to be equal.

ciou_cumulative    sum of intersections / sum of unions over a set (LISA, RefCOCO: "cIoU", "oIoU")
giou_mean          mean of IoUs, 1 where prediction and truth are both empty (LISA, gRefCOCO: "gIoU")
iou_per_target     IoU of every true target with the one mask that is its own
boundary_iou       IoU of the inner contours (Cheng et al. 2021)
annexe_batch_iou   mean over classes of a batch, faults included (released evaluation of ANNEXE: "cIoU")
earl_entity_iou    mean over true entities of the mask whose name matches (EARL: "cIoU")
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco

from egohoi import masks
from egohoi.errors import BadMask
from egohoi.evaluation import matching

#: Classes that the released evaluation of ANNEXE looks at: background and the first three targets.
ANNEXE_CLASSES = 4


class Overlap(NamedTuple):
    """Pixels that two masks share, and that either has."""

    intersection: int
    union: int

    @property
    def iou(self) -> float:
        """Intersection over union, 1 if both masks are empty."""
        return self.intersection / self.union if self.union else 1.0


class ClassCounts(NamedTuple):
    """Pixels of one class in label images of prediction and truth."""

    intersection: int
    union: int
    truth: int


def _raw(rle: dict) -> dict:
    if isinstance(rle["counts"], str):
        return {"size": rle["size"], "counts": rle["counts"].encode("ascii")}
    if isinstance(rle["counts"], list):
        return coco.frPyObjects(rle, *rle["size"])
    return rle


def _shared(a: dict, b: dict) -> int:
    if list(a["size"]) != list(b["size"]):
        raise BadMask(f"masks of different sizes: {a['size']} and {b['size']} (height, width)")
    return int(coco.area(coco.merge([a, b], intersect=True)))


def overlap(a: dict, b: dict) -> Overlap:
    """Pixels shared and covered by two masks. Raises BadMask if their sizes differ."""
    a, b = _raw(a), _raw(b)
    shared = _shared(a, b)
    return Overlap(shared, int(coco.area(a)) + int(coco.area(b)) - shared)


def overlap_of_unions(predicted: Sequence[dict], truth: Sequence[dict]) -> Overlap:
    """Overlap of everything predicted with everything true; either list may be empty (no target)."""
    if predicted and truth:
        return overlap(masks.union(list(predicted)), masks.union(list(truth)))
    alone = list(predicted) or list(truth)
    return Overlap(0, masks.area(masks.union(alone)) if alone else 0)


def ciou_cumulative(overlaps: Sequence[Overlap]) -> float | None:
    """Sum of intersections over sum of unions of a set of items; None if nothing is covered at all."""
    union = sum(o.union for o in overlaps)
    return sum(o.intersection for o in overlaps) / union if union else None


def giou_mean(overlaps: Sequence[Overlap]) -> float | None:
    """Mean IoU of items. An item without target is worth 1 if nothing was predicted, else 0 (Liu et al. 2023, gRefCOCO)."""
    return sum(o.iou for o in overlaps) / len(overlaps) if overlaps else None


def iou_per_target(predicted: Sequence[dict], truth: Sequence[dict]) -> tuple[float, ...]:
    """IoU of each true mask, in order, with the predicted mask that is its own: pairs are made one to one, best first; 0 without one."""
    return tuple(value for _, value in pairs(predicted, truth))


def pairs(predicted: Sequence[dict], truth: Sequence[dict]) -> tuple[tuple[int | None, float], ...]:
    """(index of its own predicted mask or None, IoU) for each true mask."""
    matrix = np.array([[overlap(p, t).iou for t in truth] for p in predicted]).reshape(len(predicted), len(truth))
    own: list[tuple[int | None, float]] = [(None, 0.0)] * len(truth)
    for i, j, value in matching.by_overlap(matrix):
        own[j] = (i, value)
    return tuple(own)


def boundary_iou(a: dict, b: dict, width: float = 0.02) -> float:
    """IoU of the inner contours of two masks, `width` of the picture's diagonal wide (Cheng et al. 2021, Boundary IoU); 1 if both are empty."""
    if list(a["size"]) != list(b["size"]):
        raise BadMask(f"masks of different sizes: {a['size']} and {b['size']} (height, width)")
    first, second = (_contour(masks.decode(m), width) for m in (a, b))
    union = int(np.count_nonzero(first | second))
    return int(np.count_nonzero(first & second)) / union if union else 1.0


def _contour(mask: np.ndarray, width: float) -> np.ndarray:
    """Pixels of a mask that lie within d pixels (Chebyshev) of its outside or of the picture's edge: bool [H, W]."""
    d = max(1, round(width * float(np.hypot(*mask.shape))))
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return mask
    inside = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    core = np.pad(mask[inside], d)
    for axis in (0, 1):  # a pixel stays if all 2d+1 pixels around it, along each axis in turn, are inside
        sums = np.cumsum(np.insert(core, 0, 0, axis=axis), axis=axis, dtype=np.int32)
        ahead = np.take(sums, range(2 * d + 1, sums.shape[axis]), axis=axis)
        behind = np.take(sums, range(sums.shape[axis] - 2 * d - 1), axis=axis)
        core = ahead - behind == 2 * d + 1
    out = mask.copy()
    out[inside] &= ~core
    return out


def class_counts(
    predicted: Sequence[dict | None], truth: Sequence[dict | None], size: tuple[int, int], classes: int = ANNEXE_CLASSES + 1
) -> tuple[ClassCounts, ...]:
    """Counts of label images in which the k-th mask is class k + 1 and the rest is class 0, for the classes 0 .. classes - 1.

    size: (width, height). Where masks of one side overlap, the pixel belongs to the first of them. None: a class without pixels, whose
    place stays free; an empty list is all background.
    """
    pixels, sides, held = size[0] * size[1], [_unions(side) for side in (predicted, truth)], {}
    areas = [[0 if m is None else int(coco.area(m)) for m in side] for side in sides]

    def shared(i: int, j: int) -> int:
        """Pixels of the first i predicted masks that the first j true ones share."""
        i, j = min(i, len(sides[0]) - 1), min(j, len(sides[1]) - 1)
        if (i, j) not in held:
            a, b = sides[0][i], sides[1][j]
            held[i, j] = 0 if a is None or b is None else _shared(a, b)
        return held[i, j]

    covered, both = [a[-1] for a in areas], shared(len(predicted), len(truth))
    out = [ClassCounts(pixels - (covered[0] + covered[1] - both), pixels - both, pixels - covered[1])]
    for k in range(1, classes):  # what the k-th mask has and those before it have not
        p, t = (side[k] - side[k - 1] if k < len(side) else 0 for side in areas)
        same = shared(k, k) - shared(k - 1, k) - shared(k, k - 1) + shared(k - 1, k - 1) if p and t else 0
        out.append(ClassCounts(same, p + t - same, t))
    return tuple(out)


def _unions(rles: Sequence[dict | None]) -> list[dict | None]:
    """Union of the first k masks for k = 0, 1, ...; None: no pixel."""
    out: list[dict | None] = [None]
    for rle in rles:
        new = None if rle is None else _raw(rle)
        out.append(out[-1] if new is None else new if out[-1] is None else coco.merge([out[-1], new]))
    return out


def annexe_batch_iou(batch: Sequence[Sequence[ClassCounts]], classes: int = ANNEXE_CLASSES) -> float:
    """"cIoU" of one batch as the released evaluation of ANNEXE computes it (eval_egoirgbench.py, `calculate_iou`), faults included.

    batch: `class_counts` of each item. Counts are added over the batch, the mean runs over the background and the first three
    targets, and a class that the truth of the batch does not hold counts as the class before it. Raises ValueError where the
    released code stops: no class before it, because the batch has no background.
    """
    values: list[float] = []
    for k in range(classes):
        intersection, union, truth = (sum(item[k][part] for item in batch) for part in range(3))
        if truth:
            values.append(intersection / (union + 1e-6))
        elif values:
            values.append(values[-1])
        else:
            raise ValueError("no pixel of the batch is background")
    return sum(values) / len(values)


_ARTICLE = re.compile(r"\b(the|a|an)\b")
_STATE = re.compile(r"\b(active|interacting with right hand|interacting with left hand)\b")


def entity_name(name: str) -> str:
    """A name without articles and "active", in lower case, as EARL compares names."""
    return " ".join(_STATE.sub("", _ARTICLE.sub("", name.lower().strip())).split())


def match_names(predicted: Sequence[str], truth: Sequence[str]) -> dict[int, int]:
    """Index of a predicted name -> index of the true name that it matches, as EARL matches them.

    Equal names first, then names of which one stands in the other; every true name is taken once.
    """
    wanted = {entity_name(name): k for k, name in enumerate(truth)}
    said, found = [entity_name(name) for name in predicted], {}
    for i, name in enumerate(said):
        if name in wanted:
            found[i] = wanted.pop(name)
    for i, name in enumerate(said):
        other = next((w for w in wanted if i not in found and (name in w or w in name)), None)
        if other is not None:
            found[i] = wanted.pop(other)
    return found


def earl_entity_iou(predicted: Sequence[tuple[str, dict | None]], truth: Sequence[tuple[str, dict]]) -> float:
    """Score of one item as EARL's evaluation has it (arXiv 2605.14742, `sample_level_ious`): the mean over true entities of the IoU of
    the prediction whose name matches, 0 without one. No target on either side: 1; on one side only: 0.

    predicted, truth: (name, mask) pairs; a predicted mask may be None. Of predictions with one name the last counts; of true entities
    with one name the last stands for all of them.
    """
    predicted = list(dict(predicted).items())
    if not truth or not predicted:
        return float(not truth and not predicted)
    found = {}
    for i, j in match_names([name for name, _ in predicted], [name for name, _ in truth]).items():
        mask = predicted[i][1]
        if mask is not None:
            shared, union = overlap(mask, truth[j][1])
            found[truth[j][0]] = shared / union if union else 0.0
    return sum(found.get(name, 0.0) for name, _ in truth) / len(truth)


def no_target_accuracy(found: Sequence[bool], truth: Sequence[bool]) -> float | None:
    """Share of items whose decision "there is a target" or "there is none" is right; None without items."""
    return sum(bool(f) == bool(t) for f, t in zip(found, truth, strict=True)) / len(found) if len(found) else None


def n_acc(found: Sequence[bool], truth: Sequence[bool]) -> float | None:
    """N-acc (gRefCOCO): share of the no-target items that were called so; None if there are none."""
    asked = [not f for f, t in zip(found, truth, strict=True) if not t]
    return sum(asked) / len(asked) if asked else None


def t_acc(found: Sequence[bool], truth: Sequence[bool]) -> float | None:
    """T-acc (gRefCOCO): share of the items with a target for which one was said to be there; None if there are none."""
    asked = [bool(f) for f, t in zip(found, truth, strict=True) if t]
    return sum(asked) / len(asked) if asked else None
