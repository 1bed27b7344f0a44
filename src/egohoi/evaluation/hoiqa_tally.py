"""Sums of an evaluation on HOI-QA in bounded memory, with intervals that draw whole images."""

import zlib
from array import array
from collections import defaultdict

import numpy as np

from egohoi.evaluation import statistics
from egohoi.evaluation.hoiqa_items import Item
from egohoi.evaluation.tally import Measure, Score

#: With more images than this, images are drawn in this many bunches, by a hash of their names.
BUNCHES = 20_000


class Sums:
    """Adds counts by (part, subset) and image. A key is `SCOPE/NAME` with scope all, part.PART, subset.SUBSET or group.GROUP.

    bunched: keep at most BUNCHES groups of images, whatever their number; two runs on the same data then bunch alike.
    """

    def __init__(self, bunched: bool = False):
        self.bunched = bunched
        self._groups: dict[object, int] = {}
        self._order: list[int] = []
        self._held: dict[tuple[str, str, str], tuple[array, array]] = defaultdict(lambda: (array("d"), array("d")))

    def add(self, item: Item, counts: Score) -> None:
        """Add what one answer counts."""
        name = item.image or item.key
        if self.bunched:
            name = zlib.crc32(name.encode()) % BUNCHES
        group = self._groups.setdefault(name, len(self._groups))
        for what, (numerator, denominator) in counts.items():
            numbers = self._held[item.part, item.subset, what]
            for values, value in zip(numbers, (numerator, denominator)):
                if len(values) <= group:
                    values.frombytes(bytes(8 * (max(group + 1, 2 * len(values)) - len(values))))
                values[group] += value

    def _rows(self, key: str) -> np.ndarray:
        """float64 [2, groups]: numerators and denominators of a key."""
        scope, _, name = key.partition("/")
        kind, _, wanted = scope.partition(".")
        out = np.zeros((2, len(self._groups)))
        for (part, subset, what), numbers in self._held.items():
            own = {"all": "", "part": part, "subset": subset, "group": group_of(part, subset)}[kind]
            if what == name and own == wanted:
                for row, values in zip(out, numbers):
                    found = np.frombuffer(values, dtype=np.float64)[: len(row)]
                    row[: len(found)] += found
        if len(self._order) != len(self._groups):
            # By name, not by the order of the answers: the same answers give the same interval.
            self._order = [k for _, k in sorted((str(name), k) for name, k in self._groups.items())]
        return out[:, self._order]

    def measure(self, key: str, resamples: int = 1000) -> Measure | None:
        """The ratio of a key with its interval; None if it counts nothing."""
        rows = self._rows(key)
        rows = rows[:, rows[1] > 0]
        if rows.shape[1] == 0:
            return None
        found = statistics.bootstrap(rows[0], rows[1], resamples=resamples)
        return Measure(found.value, found.low, found.high, float(rows[0].sum()), float(rows[1].sum()))

    def total(self, key: str) -> tuple[float, float]:
        """(numerator, denominator) of a key."""
        numerator, denominator = self._rows(key).sum(axis=1).tolist()
        return numerator, denominator

    def groups(self, key: str) -> dict[object, tuple[float, float]]:
        """image (or bunch) -> (numerator, denominator) of a key, for paired comparison."""
        rows = self._rows(key)
        names = {k: name for name, k in self._groups.items()}
        return {names[k]: (rows[0, at], rows[1, at]) for at, k in enumerate(self._order) if rows[1, at] > 0}


def group_of(part: str, subset: str) -> str:
    """`interaction` for who holds what, else `hands_objects` (the published script's i_ref and ho_ref)."""
    return "interaction" if part == "hoi" and subset != "handN2handBB" else "hands_objects"
