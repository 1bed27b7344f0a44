"""The tables of an evaluation on HOI-QA: released and strict side by side, subsets, names, reading faults."""

from egohoi.evaluation.hoiqa_items import BOX_SUBSETS, NOUN_SUBSETS
from egohoi.evaluation.hoiqa_tally import Sums
from egohoi.evaluation.tables import Cell, Table

_SCOPES = (
    ("all", "all"), ("EPIC-KITCHENS", "part.epic"), ("Ego4D", "part.ego4d"), ("VISOR, hands and interaction", "part.hoi"),
    ("hands and objects (ho_ref)", "group.hands_objects"), ("interaction (i_ref)", "group.interaction"),
)
#: Rows of a comparison of two models: measures whose denominators both models share.
COMPARED = (
    ("noun accuracy", "all/noun", "%"), ("box accuracy", "all/box", "%"), ("mean IoU", "all/iou", "%"), ("answers that could be read", "all/parse", "%"),
    *((f"{s}: box accuracy", f"subset.{s}/box", "%") for s in BOX_SUBSETS), *((f"{s}: noun accuracy", f"subset.{s}/noun", "%") for s in NOUN_SUBSETS),
)


def tables(sums: Sums, numbers: dict | None) -> list[Table]:
    """Tables of one run. numbers: `Released.numbers()`, or None where the published protocol is not shown."""
    return [_overall(sums, numbers), _parts(sums), _boxes(sums, numbers), _names(sums, numbers), _reading(sums)]


def _overall(sums: Sums, numbers: dict | None) -> Table:
    rows = []
    for name, key in (("noun accuracy", "noun"), ("box accuracy", "box"), ("mean IoU", "iou")):
        strict = sums.measure(f"all/{key}")
        number = numbers.get(key) if numbers else None
        shown = [_released(number), Cell(strict)] if numbers else [Cell(strict)]
        if numbers:
            gap = None if number is None or strict is None else number - strict.value * 100
            shown.append(Cell(None if gap is None else f"{round(gap, 2) + 0.0:+.2f}", ""))
        rows.append((name, (*shown, Cell(int(strict.denominator) if strict else 0, ""))))
    columns = (*(("released",) if numbers else ()), "strict", *(("released - strict",) if numbers else ()), "counted")
    note = "Percent. Released: as the published script prints it. In brackets: 95 % interval (bootstrap over images)."
    return Table("Overall", columns, tuple(rows), note)


def _released(value) -> Cell:
    return Cell("–" if value is None else f"{value:.2f}", "")


def _parts(sums: Sums) -> Table:
    rows = [
        (name, tuple(Cell(sums.measure(f"{scope}/{key}")) for key in ("noun", "box", "iou")))
        for name, scope in _SCOPES if sums.total(f"{scope}/parse")[1]
    ]
    return Table("Parts, strict", ("noun accuracy", "box accuracy", "mean IoU"), tuple(rows))


def _boxes(sums: Sums, numbers: dict | None) -> Table:
    columns = ("boxes asked", *(("released",) if numbers else ()), "strict", "mean IoU", "recall", "precision", "answers with a box", "with surplus boxes")
    rows = []
    for subset in BOX_SUBSETS:
        asked = sums.total(f"subset.{subset}/box")[1]
        if asked:
            cells = [Cell(int(asked), ""), *([_released(numbers.get(subset))] if numbers else [])]
            cells += [Cell(sums.measure(f"subset.{subset}/{key}")) for key in ("box", "iou", "recall", "precision", "parse", "extra")]
            rows.append((subset, tuple(cells)))
    note = (
        "Box accuracy: true boxes found one to one with IoU > 0.5; where more boxes are answered than asked, each is worth asked/answered. "
        "Mean IoU: over every true box, 0 without an answer, weighed alike. Recall and precision: without that weight."
    )
    return Table("Questions that ask for boxes", columns, tuple(rows), note)


def _names(sums: Sums, numbers: dict | None) -> Table:
    known = sums.measure("all/synonym", resamples=1) is not None
    columns = (
        "asked", *(("released",) if numbers else ()), "strict", "exact", "several words", "lemma", *(("synonym",) if known else ()), "hand side", "answers with a word",
    )  # fmt: skip
    rows = []
    for subset in (*NOUN_SUBSETS, ""):
        asked = sums.total(f"subset.{subset}/noun")[1]
        if asked:
            cells = [Cell(int(asked), ""), *([_released(numbers.get(subset))] if numbers else [])]
            names = ("noun", "exact", "phrase", "lemma", *(("synonym",) if known else ()), "side", "parse")
            rows.append((subset or "other", (*cells, *(Cell(sums.measure(f"subset.{subset}/{key}")) for key in names))))
    note = (
        'Strict is "several words": they stand in the answer side by side; a hand counts by its side, if the other side is not named. '
        "Exact: the answer is the name and nothing else. Lemma: in the singular, or one is the other's head noun. Synonym: or they share a meaning in WordNet."
        + ("" if known else " (The word data is not installed: `egohoi assets`.)")
    )
    return Table("Questions that ask for names", columns, tuple(rows), note)


def _reading(sums: Sums) -> Table:
    rows = []
    for subset in BOX_SUBSETS:
        if sums.total(f"subset.{subset}/parse")[1]:
            parse = sums.total(f"subset.{subset}/parse")
            cells = [int(parse[1] - parse[0]), *(int(sums.total(f"subset.{subset}/{key}")[0]) for key in ("unreadable", "reversed", "outside"))]
            rows.append((subset, tuple(Cell(c, "") for c in cells)))
    return Table("What could not be read", ("answers without a box", "unreadable", "reversed", "over the edge"), tuple(rows),
                 "Numbers of boxes, but for the first column. Boxes over the edge are cut to the picture, the others are left out.")
