"""One answer on Ego-IRGBench, whoever gave it and however it was saved."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from egohoi import masks
from egohoi.errors import BadMask


class Said(NamedTuple):
    """One thing that an answer names. mask: COCO RLE or None; box: xyxy pixels or None."""

    name: str
    mask: dict | None = None
    box: tuple[float, float, float, float] | None = None


class Answer(NamedTuple):
    """analysis: None if there is none. found: whether the answer says that there is a target. things: what it names, in order.

    grounded: whether the answer comes with masks at all; without, no mask measure counts it, but its boxes are measured, if boxed says
    that it comes with some. faults: what could not be read -> number.
    """

    text: str
    analysis: str | None
    found: bool
    things: tuple[Said, ...] = ()
    grounded: bool = True
    boxed: bool = True
    faults: dict[str, int] = {}

    @property
    def masks(self) -> list[dict]:
        """The masks that count: none where the answer says that there is no target."""
        return [t.mask for t in self.things if t.mask is not None] if self.found else []

    @property
    def named(self) -> list[tuple[str, dict | None]]:
        return [(t.name, t.mask) for t in self.things] if self.found else []


def of_row(row: dict) -> Answer:
    """An answer of a predict line, a response as JSON or a record. What cannot be used is left out and counted, nothing raises."""
    faults: Counter = Counter()
    things = []
    for entity in _list(row.get("entities"), faults):
        if not isinstance(entity, dict):
            faults["unreadable entities"] += 1
            continue
        mask = entity.get("mask")
        if mask is not None:
            try:
                mask = masks.check(mask)
            except BadMask:
                faults["unreadable masks"] += 1
                mask = None
        things.append(Said(str(entity.get("name") or ""), mask, _box(entity.get("box"), faults)))
    if row.get("analysis") is not None and not isinstance(row["analysis"], str):
        faults["analyses without text"] += 1
    text = row["text"] if isinstance(row.get("text"), str) else ""
    analysis = row["analysis"] if isinstance(row.get("analysis"), str) else None
    if row.get("error") or not isinstance(row.get("text"), str):
        faults["answers without text"] += 1
    found = row.get("target_found")
    if not isinstance(found, bool):
        found = bool(things)
    return Answer(text, analysis, found, tuple(things), bool(row.get("grounded", True)), bool(row.get("boxed", True)), dict(faults))


def _list(value, faults: Counter) -> Iterable:
    if value is None:
        return ()
    if not isinstance(value, list):
        faults["unreadable entities"] += 1
        return ()
    return value


def _box(value, faults: Counter):
    if value is None:
        return None
    try:
        box = tuple(float(v) for v in value)
    except (TypeError, ValueError):
        box = ()
    if len(box) != 4:
        faults["unreadable boxes"] += 1
        return None
    return box
