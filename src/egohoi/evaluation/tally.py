"""Sums from which every number of a report is made: key -> image -> (numerator, denominator)."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from egohoi.evaluation import statistics

#: What one item adds: key of a measure -> (numerator, denominator).
Score = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Measure:
    """A ratio of sums with its confidence bounds (None where the data cannot give one)."""

    value: float | None
    low: float | None
    high: float | None
    numerator: float
    denominator: float

    def to_json(self) -> dict:
        return {k: (round(v, 6) if isinstance(v, float) else v) for k, v in self.__dict__.items()}


class Tally:
    """Adds the scores of items and gives ratios of sums, with intervals that draw whole images."""

    def __init__(self):
        self._sums: dict[str, dict[str, list[float]]] = defaultdict(dict)

    def add(self, group: str, score: Score) -> None:
        """Add what one item of the image `group` counts."""
        for key, (numerator, denominator) in score.items():
            held = self._sums[key].setdefault(group, [0.0, 0.0])
            held[0] += numerator
            held[1] += denominator

    def keys(self) -> list[str]:
        return sorted(self._sums)

    def measure(self, *keys: str, resamples: int = 1000) -> Measure | None:
        """The ratio of one key, or the mean of the ratios of several (balanced); None if a key counts nothing."""
        rows = [self._sums.get(key, {}) for key in keys]
        totals = [tuple(map(sum, zip(*row.values()))) if row else (0.0, 0.0) for row in rows]
        if any(den <= 0 for _, den in totals):
            return None
        groups = sorted(set().union(*rows))
        sums = np.array([[row.get(g, (0.0, 0.0)) for g in groups] for row in rows])  # [K, G, 2]
        found = statistics.bootstrap(sums[..., 0], sums[..., 1], resamples=resamples)
        return Measure(found.value, found.low, found.high, sum(n for n, _ in totals), sum(d for _, d in totals))

    def groups(self, key: str) -> dict[str, tuple[float, float]]:
        """image -> (numerator, denominator) of one key."""
        return {g: (n, d) for g, (n, d) in self._sums.get(key, {}).items()}
