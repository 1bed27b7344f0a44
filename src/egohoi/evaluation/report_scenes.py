"""Items of the report out of the records of `eval scenes`."""

from collections.abc import Iterable, Iterator

from egohoi.evaluation.report import Item

#: What an item is ranked by: the first of these measures that its score holds.
_RANKED = ("iou", "right", "lemma", "recall")


def items(records: Iterable[dict]) -> Iterator[Item]:
    """Records of `scenes_run.run` -> items, one each."""
    for record in records:
        response, truth = record["response"], record["truth"]
        marks = [*truth.get("hands", ()), *truth.get("objects", ())]
        size = tuple(response["size"])
        masks = [e["mask"] for e in response["entities"] if e.get("mask") and list(e["mask"]["size"]) == [size[1], size[0]]]
        yield Item(
            id=record["id"], kind=record["kind"], value=_value(record["score"]), question=record["question"] or "(what is in the box?)",
            truth=_said(truth), answer=response["text"], image=record["image"], size=size,
            true_boxes=[m["box"] for m in marks] or truth.get("boxes", ()), boxes=[e["box"] for e in response["entities"]], masks=masks,
        )


def _value(score: dict) -> float | None:
    for name in _RANKED:
        held = [n / d for key, (n, d) in score.items() if key.rpartition("/")[2] == name and d > 0]
        if held:
            return min(max(sum(held) / len(held), 0.0), 1.0)
    return None


def _said(truth: dict) -> str:
    if not truth.get("found", True):
        return f"there is none ({truth.get('absent', '')})"
    if "yes" in truth:
        return "yes" if truth["yes"] else "no"
    named = [h["side"] + " hand" for h in truth.get("hands", ())] + [o["name"] for o in truth.get("objects", ())]
    return ", ".join([*named, *truth.get("nouns", ()), *(f"{s} hand" for s in truth.get("sides", ()))])
