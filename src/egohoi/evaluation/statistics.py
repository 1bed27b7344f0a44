"""Bootstrap confidence intervals, and paired significance between two models.

A measure is a ratio of sums, Σ numerator / Σ denominator, over groups that are drawn together (the images): an accuracy has
the numbers of right and of asked questions, a mean IoU the sum and the count, a cumulative IoU intersections and unions.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A value with its confidence bounds; low and high are None where nothing could vary (fewer than two groups)."""

    value: float | None
    low: float | None
    high: float | None


def ratio(numerator, denominator) -> float | None:
    """Σ numerator / Σ denominator, or None if the denominators sum to 0."""
    total = float(np.sum(denominator))
    return float(np.sum(numerator)) / total if total > 0 else None


def bootstrap(numerator, denominator, *, confidence: float = 0.95, resamples: int = 1000, seed: int = 0) -> Interval:
    """Percentile bootstrap of a ratio of sums, or of the mean of several such ratios (a balanced accuracy).

    numerator, denominator: float [G], one entry a group, or [K, G] for the mean of K ratios. Groups are drawn with
    replacement (Efron & Tibshirani 1993, chapter 13). Resamples in which a denominator is 0 are left out.
    """
    num, den = (np.atleast_2d(np.asarray(v, dtype=np.float64)) for v in (numerator, denominator))
    sums = den.sum(axis=1)
    if num.shape[1] == 0 or np.any(sums <= 0):
        return Interval(None, None, None)
    value = float(np.mean(num.sum(axis=1) / sums))
    groups = num.shape[1]
    if groups < 2:
        return Interval(value, None, None)
    draws = _weighted_ratios(num, den, resamples, seed)
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return Interval(value, None, None)
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(draws, [tail, 100.0 - tail])
    return Interval(value, float(low), float(high))


def _weighted_ratios(num: np.ndarray, den: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Mean over K of resampled ratios, float64 [resamples]; drawn in blocks so that memory does not grow with G."""
    generator = np.random.default_rng(seed)
    groups = num.shape[1]
    block = max(1, min(resamples, 4_000_000 // groups))
    out = []
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        picks = generator.integers(0, groups, size=(count, groups))
        with np.errstate(divide="ignore", invalid="ignore"):
            out.append(np.mean([n[picks].sum(axis=1) / d[picks].sum(axis=1) for n, d in zip(num, den)], axis=0))
    return np.concatenate(out)


@dataclass(frozen=True)
class Paired:
    """Comparison of two models on the same items. difference: second minus first, with bootstrap bounds.

    p: two-sided probability, under the hypothesis that the two are exchangeable, of a difference at least as large.
    """

    difference: float
    low: float
    high: float
    p: float
    groups: int


def paired(first, second, denominator, *, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0) -> Paired:
    """Paired comparison of two ratio measures over the same groups.

    first, second, denominator: float [G]. The p-value is the paired randomisation test, which swaps the models' values
    within a group by a fair coin (Noreen 1989), with the (r + 1) / (n + 1) estimate; the interval is a paired bootstrap.
    """
    a, b, d = (np.asarray(v, dtype=np.float64) for v in (first, second, denominator))
    if not len(a) == len(b) == len(d) or not len(a):
        raise ValueError(f"paired comparison needs the same groups on both sides, got {len(a)}, {len(b)}, {len(d)}")
    delta, total = b - a, d.sum()
    if total <= 0:
        raise ValueError("paired comparison of a measure that counts no item")
    observed = float(delta.sum() / total)
    generator = np.random.default_rng(seed)
    block = max(1, min(resamples, 4_000_000 // len(a)))
    at_least, draws = 0, []
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        signs = generator.integers(0, 2, size=(count, len(a)), dtype=np.int8) * 2 - 1
        at_least += int(np.sum(np.abs(signs @ delta / total) >= abs(observed) - 1e-12))
        picks = generator.integers(0, len(a), size=(count, len(a)))
        weight = d[picks].sum(axis=1)
        draws.append(delta[picks].sum(axis=1)[weight > 0] / weight[weight > 0])
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(np.concatenate(draws), [tail, 100.0 - tail])
    return Paired(observed, float(low), float(high), (at_least + 1) / (resamples + 1), len(a))
