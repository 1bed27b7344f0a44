"""Why `released` and `strict` differ on Ego-IRGBench: from one number to the other in steps, each of which mends one fault."""

import functools
from collections import Counter

import numpy as np

from egohoi.evaluation import irg_released, mask_metrics, text_metrics, text_tokens, wordnet
from egohoi.evaluation.irg_evaluation import Evaluation
from egohoi.evaluation.irg_released import BATCH
from egohoi.evaluation.irg_rows import Ordered
from egohoi.evaluation.tables import Cell, Table

#: Faults that no step can show, because they decide what the published script is fed with.
NOT_SHOWN = (
    "The released loader keeps one record a frame and appends it once for each entry, so that all entries of a frame become its last one, with "
    "one query drawn at random; it shuffles without a seed. Released takes the items in the order of the predictions; a file that the script "
    "itself wrote (output.json) already holds these repetitions, and its strict numbers count each answered item once.\n\n"
    "The published decision accuracy is printed for each batch and never summed up (--batches shows it). It compares with the flag with_mask of the data; strict goes by masks_idx."
)


def table(found: Evaluation, rows: Ordered) -> Table:
    """Steps from each published number to the strict one. rows: in the order of the published script."""
    steps = [*_masks(found, rows), *_texts(found, rows, "answer"), *_texts(found, rows, "analysis"), *_depth(found)]
    made, before = [], None
    for name, value, reason in steps:
        change = "" if before is None or value is None or name.endswith(": released") else f"{value - before:+.4f}"
        made.append((name, (Cell("–" if value is None else f"{value:.4f}", ""), Cell(change, ""), Cell(reason, ""))))
        before = value
    note = "Each row mends one more fault than the row above; the last row of a block is the strict measure. Values as fractions (CIDEr: up to 10)."
    return Table("Why the protocols differ, step by step", ("value", "change", "what is mended"), tuple(made), note)


def _masks(found: Evaluation, rows: Ordered):
    whole = rows.classes()
    if whole is None or found.released is None:
        return
    sums = np.add.reduceat(whole, range(0, len(whole), BATCH), axis=0)
    yield "masks: released", found.released.values["annexe_batch_iou"], "annexe_batch_iou, as published"
    yield "masks: absent classes", _present(sums, 0, 4), "a class that the batch's truth lacks is left out; published, it counts as the class before it"
    yield "masks: no background", _present(sums, 1, 4), "the background is no target; published, it is one of four classes and nearly always right"
    yield "masks: fourth target", _present(sums, 1, 5), "the fourth target counts; published, four classes are background and three targets"
    yield "masks: whole set", _present(whole.sum(axis=0, keepdims=True), 1, 5), "classes are summed over the set; published, over ten items, and a short last batch weighs as much as a full one"
    measure = found.strict("iou_per_target")
    yield "masks: iou_per_target", measure and measure.value, "a class is only a place in the list of one entry: each true target is compared with the mask that is its own, whatever its place"
    measure = found.strict("ciou_cumulative")
    yield "masks: ciou_cumulative", measure and measure.value, "intersections and unions of everything named, summed over the set; a mask where there is no target costs its area"


def _present(sums: np.ndarray, first: int, last: int) -> float | None:
    """Mean over batches, int64 [B, 5, 3], of the mean IoU of the classes from `first` up to `last` that the batch's truth holds."""
    intersection, union, truth = np.moveaxis(sums[:, first:last], 2, 0)
    there = truth > 0
    number = there.sum(axis=1)
    total = np.where(there, intersection / np.maximum(union, 1), 0.0).sum(axis=1)
    return float(np.mean(total[number > 0] / number[number > 0])) if number.any() else None


def _texts(found: Evaluation, rows: Ordered, which: str):
    if not len(rows) or found.released is None or not found.texts[which].distinct:
        return
    pairs = rows.pairs(which)
    held = Counter(pairs)
    counts = list(held.values())
    said, true = [s for s, _ in held], [t for _, t in held]
    if wordnet.available():
        yield f"{which} METEOR: released", found.released.values[f"{which} METEOR"], "as published"
        swapped = text_metrics.meteor(true, [[s] for s in said]).items
        yield f"{which} METEOR: mean over items", _mean([v if s else 0.0 for v, s in zip(swapped, said)], counts), "mean over items; published, of batch means"
        sides = text_metrics.meteor(said, [[t] for t in true]).items
        yield f"{which} METEOR: sides", _mean(sides, counts), "the prediction is the hypothesis, the truth the reference; published, the other way round"
        measure = found.strict(f"{which} METEOR")
        yield f"{which} METEOR: strict", measure and measure.value, _TRUTH[which]
    yield f"{which} CIDEr: released", found.released.values[f"{which} CIDEr"], "as published"
    cider = functools.lru_cache(maxsize=10_000)(
        lambda some: text_metrics.cider([s for s, _ in some], [[t] for _, t in some], words=text_tokens.whitespace).corpus
    )
    yield f"{which} CIDEr: sides", _mean([cider(tuple(pairs[k : k + BATCH])) for k in range(0, len(pairs), BATCH)]), "prediction and truth in their places"
    whole = text_metrics.cider(said, [[t] for t in true], words=text_tokens.whitespace, counts=counts).corpus
    yield f"{which} CIDEr: whole set", whole, "words are weighed by the references of the whole set; published, of ten items"
    cut = text_metrics.cider(said, [[t] for t in true], counts=counts).corpus
    yield f"{which} CIDEr: words", cut, "words as COCO captions cut them; published, at white space, with letters and full stops as they are"
    measure = found.strict(f"{which} CIDEr")
    yield f"{which} CIDEr: strict", measure and measure.value, _TRUTH[which]


def _mean(values, counts=None) -> float:
    return float(np.average(values, weights=counts))


_TRUTH = {
    "answer": "where there is no target the data's sentence is the reference; published, the empty text",
    "analysis": "each analysis of a frame counts once, its truth as the data have it; published, once a query, in lower case without some punctuation and cut at 50 words",
}


def _depth(found: Evaluation):
    if found.released is None or found.released.values["depth MAE"] is None:
        return
    yield "depth MAE: released", found.released.values["depth MAE"], "as published: 448x448, holes count as depth 0"
    measure = found.strict("depth mae")
    yield "depth MAE: strict", measure and measure.value, "each frame once at its own size, pixels without a measurement left out"


def stops() -> str:
    """When the published script ends with an error, for the report."""
    return (
        f"The published script stops with an error where pictures of several sizes meet in a batch of {irg_released.BATCH}, where no prediction of a batch holds a word, "
        f"where the last batch holds one item (depth), and where the truth of a batch has no background (of {mask_metrics.ANNEXE_CLASSES} classes). Released refuses there, strict goes on."
    )
