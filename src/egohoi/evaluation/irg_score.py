"""What one answer on Ego-IRGBench counts: a record from which every number can be traced, made of pixels counted, not of means."""

from egohoi import boxes, masks
from egohoi.evaluation import mask_metrics
from egohoi.evaluation.irg_answers import Answer
from egohoi.evaluation.irg_items import Truth
from egohoi.evaluation.mask_metrics import ClassCounts
from egohoi.evaluation.tally import Score


def record(truth: Truth, answer: Answer, *, boundary: bool = True) -> dict:
    """Record of one item; also a line that `eval irg --predictions` reads again.

    pixels: [intersection, union] of everything predicted and everything true. targets: IoU of each true target; boundary: the same of
    its contours. classes: (intersection, union, truth) of background and targets 1..4, for the published measure. earl: EARL's score.
    """
    item = truth.item
    row = {
        "id": truth.id, "image": item.image, "size": list(item.size), "query": truth.query, "kind": item.kind, "text": answer.text,
        "analysis": answer.analysis, "target_found": answer.found, "grounded": answer.grounded,
        "entities": [{"name": t.name, "box": None if t.box is None else list(t.box), "mask": t.mask} for t in answer.things],
        "truth": {"names": list(item.names), "answer": truth.answer, "sentence": truth.sentence, "caption": item.caption, "published": list(truth.published),
                  "with_mask": item.with_mask},
    }  # fmt: skip
    if answer.faults:
        row["faults"] = answer.faults
    if not answer.boxed:
        row["boxed"] = False
    if answer.grounded:
        _add_masks(row, truth, answer, boundary)
    elif answer.boxed:
        row["box_earl"] = _box_score(truth, answer)
    return row


def _add_masks(row: dict, truth: Truth, answer: Answer, boundary: bool) -> None:
    own = mask_metrics.pairs(answer.masks, truth.masks)
    row["pixels"] = list(mask_metrics.overlap_of_unions(answer.masks, truth.masks))
    row["targets"] = [value for _, value in own]
    if boundary:
        row["boundary"] = [0.0 if k is None else mask_metrics.boundary_iou(answer.masks[k], t) for (k, _), t in zip(own, truth.masks)]
    said = [t.mask for t in answer.things] if answer.found else []
    row["classes"] = [list(c) for c in mask_metrics.class_counts(said, truth.placed, truth.item.size)]
    row["earl"] = mask_metrics.earl_entity_iou(answer.named, truth.named)


def _box_score(truth: Truth, answer: Answer) -> float:
    """EARL's score with boxes in place of masks, for predictions that come without."""
    said = {t.name: t.box for t in answer.things} if answer.found else {}
    if not truth.masks or not said:
        return float(not truth.masks and not said)
    scores, names = [0.0] * len(truth.masks), list(said)
    for i, j in mask_metrics.match_names(names, truth.item.names).items():
        box, wanted = said[names[i]], masks.box(truth.masks[j])
        if box is not None and wanted is not None and box[2] > box[0] and box[3] > box[1]:
            scores[j] = boxes.iou(box, wanted)
    return sum(scores) / len(scores)


def counts(row: dict) -> Score:
    """What a record adds to the strict measures: name -> (numerator, denominator)."""
    found, there = row["target_found"], row["kind"] != "none"
    out: Score = {"no_target_accuracy": (float(found == there), 1.0), ("t_acc" if there else "n_acc"): (float(found == there), 1.0)}
    if row["grounded"]:
        intersection, union = row["pixels"]
        out["ciou_cumulative"] = (float(intersection), float(union))
        out["giou_mean"] = (mask_metrics.Overlap(intersection, union).iou, 1.0)
        out["earl_entity_iou"] = (row["earl"], 1.0)
        if row["targets"]:
            out["iou_per_target"] = (sum(row["targets"]), float(len(row["targets"])))
            out["targets above 0.5"] = (float(sum(v > 0.5 for v in row["targets"])), float(len(row["targets"])))
            if "boundary" in row:
                out["boundary_iou"] = (sum(row["boundary"]), float(len(row["boundary"])))
    if "box_earl" in row:
        out["entity box IoU"] = (row["box_earl"], 1.0)
    said, names = ({mask_metrics.entity_name(n) for n in group} for group in ([e["name"] for e in row["entities"]] if found else [], row["truth"]["names"]))
    out["names right"] = (float(said == names), 1.0)
    return out


def value(row: dict) -> float:
    """How good an answer is, 0..1: IoU of everything named, or the agreement of names and boxes where there is no mask."""
    if row["grounded"]:
        return mask_metrics.Overlap(*row["pixels"]).iou
    if "box_earl" in row:
        return row["box_earl"]
    return counts(row)["names right"][0] if row["entities"] else float(row["target_found"] == (row["kind"] != "none"))


def classes(row: dict) -> tuple[ClassCounts, ...] | None:
    """Class counts of a record, None without masks."""
    return tuple(ClassCounts(*c) for c in row["classes"]) if row["grounded"] else None


