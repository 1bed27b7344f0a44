"""The tables, plots and cards of an evaluation on Ego-IRGBench."""

from dataclasses import replace

from egohoi import masks
from egohoi.evaluation import irg_items, irg_score, report_svg
from egohoi.evaluation.irg_evaluation import KINDS, Evaluation
from egohoi.evaluation.irg_items import Plan
from egohoi.evaluation.report import Item as Card
from egohoi.evaluation.tables import Cell, Table

MASKS = ("ciou_cumulative", "giou_mean", "iou_per_target", "targets above 0.5", "boundary_iou", "earl_entity_iou", "entity box IoU")
DECISIONS = ("no_target_accuracy", "n_acc", "t_acc", "names right")
#: Measures by which two models are compared: (name, key, unit). Sums over a set whose unions differ cannot be paired.
COMPARED = tuple((name, f"all/{name}", "%") for name in (*MASKS[1:], *DECISIONS)) + tuple(
    (f"{text} {measure}", f"all/{text} {measure}", unit) for text in ("analysis", "answer", "sentence") for measure, unit in (("METEOR", "%"), ("CIDEr", ""))
)
#: Published number -> (strict measure that stands beside it, its unit).
_BESIDE = {
    "answer METEOR": ("answer METEOR", "%"), "answer CIDEr": ("answer CIDEr", ""), "analysis METEOR": ("analysis METEOR", "%"),
    "analysis CIDEr": ("analysis CIDEr", ""), "depth MAE": ("depth mae", ""), "annexe_batch_iou": ("iou_per_target", "%"),
}  # fmt: skip


def tables(found: Evaluation) -> list[Table]:
    """Tables of a finished evaluation, the protocols side by side first where the published one was computed."""
    out = [_overall(found)] if found.released else []
    out += [_kinds(found, "Masks, strict", MASKS, _MASK_NOTE), _kinds(found, "Target or none, and names", DECISIONS, _DECISION_NOTE), _texts(found)]
    if found.with_depth:
        out.append(_depth(found))
    if found.faults:
        rows = tuple((name, (Cell(int(number), ""),)) for name, number in sorted(found.faults.items()))
        out.append(Table("What could not be read", ("number",), rows, "What could not be read is absent from the answer it stood in; the answer itself still counts."))
    return out


_MASK_NOTE = (
    "ciou_cumulative: sum of intersections / sum of unions. giou_mean: mean IoU of items, 1 for no target rightly seen. iou_per_target: mean over true targets, "
    "each with the mask that is its own. boundary_iou: the same of contours 2 % of the diagonal wide. earl_entity_iou: mean over items, masks matched by name. "
    "In brackets: 95 % interval (bootstrap over frames)."
)
_DECISION_NOTE = (
    "no_target_accuracy: target or none decided rightly. n_acc: share of items without target that are called so. t_acc: share of items with a "
    "target for which one is said to be there. names right: exactly the true names, without articles."
)


def _overall(found: Evaluation) -> Table:
    rows = []
    for name, value in found.released.values.items():
        other, unit = _BESIDE[name]
        factor = 100 if unit == "%" else 1
        shown = "–" if value is None else f"{value * factor:.2f}" if unit == "%" else f"{value:.4f}"
        rows.append((name, (Cell(shown, ""), Cell(found.strict(other), unit), Cell(other, ""))))
    note = "Released: as the published script prints it (METEOR and IoU here in percent). Strict: the corrected measure that it should have been."
    return Table("Two protocols", ("released", "strict", "strict measure"), tuple(rows), note)


def _kinds(found: Evaluation, title: str, names, note: str) -> Table:
    kinds = [k for k in KINDS if found.kinds[k]]
    rows = []
    for name in names:
        cells = [found.strict(name, scope) for scope in ("all", *kinds)]
        if any(c is not None for c in cells):
            rows.append((name, tuple(map(Cell, cells))))
    rows.append(("items", tuple(Cell(n, "") for n in (sum(found.kinds.values()), *(found.kinds[k] for k in kinds)))))
    return Table(title, ("all", *kinds), tuple(rows), note)


def _texts(found: Evaluation) -> Table:
    shown = [t for t in found.texts if found.texts[t].distinct]
    rows = [(m, tuple(Cell(found.strict(f"{t} {m}"), "" if m == "CIDEr" else "%") for t in shown)) for m in ("METEOR", "CIDEr", "ROUGE-L")]
    rows += [(f"BLEU-{k + 1}", tuple(Cell(found.bleu[t][k]) for t in shown)) for k in range(4)]
    rows.append(("texts", tuple(Cell(int(found.texts[t].counts().sum()), "") for t in shown)))
    columns = {"analysis": "analysis", "answer": "answer (names)", "sentence": "answer (sentence)"}
    note = (
        "Answer (names): against the names of the targets joined by 'and', as the published evaluation does; answer (sentence): against the data's own sentence. "
        "An analysis counts once a frame. METEOR: NLTK's with WordNet 3.0; CIDEr, ROUGE-L, BLEU: pycocoevalcap's, words cut as COCO captions."
    )
    return Table("Texts, strict", tuple(columns[t] for t in shown), tuple(rows), note)


def _depth(found: Evaluation) -> Table:
    units = {"depth abs_rel": "", "depth rmse": "", "depth delta<1.25": "%", "depth mae": ""}
    note = (
        "abs_rel, rmse (unit of the data) and delta after the scale and shift that fit each frame best; mae: of depth brought to 0..1 by the frame's span, without "
        "a fit. Pixels that were not measured are left out; mean over frames."
    )
    return Table("Depth, strict", ("value",), tuple((k, (Cell(found.strict(k), u),)) for k, u in units.items()), note)


def plots(found: Evaluation) -> list[str]:
    """SVG texts for the report."""
    out = []
    if found.grounded:
        rows = [(m, found.strict(m)) for m in MASKS[:-1]]
        rows += [(f"iou_per_target, {k}", found.strict("iou_per_target", k)) for k in KINDS[:2]]
        out.append(report_svg.bars("Masks, strict", rows))
        out.append(report_svg.from_counts("IoU of the items (everything named with everything true)", found.bins))
    out.append(report_svg.bars("Target or none", [(d, found.strict(d)) for d in DECISIONS]))
    out.append(report_svg.bars("METEOR", [(t, found.strict(f"{t} METEOR")) for t in found.texts]))
    return out


def card(row: dict) -> Card:
    """A record as an item of the report, its true masks left out (see `with_truth`)."""
    truth = row["truth"]
    note = "" if row["target_found"] == (row["kind"] != "none") else ("says that there is no target" if row["kind"] != "none" else "says that there is a target")
    note = "; ".join([note, *(f"{k}: {v}" for k, v in row.get("faults", {}).items())]).strip("; ")
    said = f"{row['text']} | {row['analysis']}" if row["analysis"] else row["text"]
    return Card(
        id=row["id"], kind=row["kind"], value=round(irg_score.value(row), 6), question=row["query"], truth=f"{truth['answer']} | {truth['caption']}",
        answer=said, image=row["image"], size=tuple(row["size"]), note=note,
        boxes=[] if row["grounded"] or not row["target_found"] else [e["box"] for e in row["entities"] if e["box"]],
        masks=[e["mask"] for e in row["entities"] if e["mask"]] if row["target_found"] else (),
    )  # fmt: skip


def with_truth(chosen: list[tuple[Card, str]], plan: Plan) -> list[tuple[Card, str]]:
    """The chosen cards with their true masks, which are read for them alone."""
    wanted = {card.id for card, _ in chosen}
    held = {}
    for frame in sorted({irg_items.frame_of(name) for name in wanted}):
        held |= {t.id: t.masks for t in irg_items.truths(plan, frame) if t.id in wanted}
    out = []
    for item, end in chosen:
        drawn = item.masks or not item.boxes
        out.append((replace(item, true_masks=held[item.id] if drawn else (), true_boxes=() if drawn else [b for b in map(masks.box, held[item.id]) if b]), end))
    return out
