"""Plots of the report as SVG text: bars with intervals, and histograms. Colours come from the page's style sheet."""

import html
from collections.abc import Sequence

import numpy as np

from egohoi.evaluation.tally import Measure

_BAR, _LEFT, _WIDTH = 22, 190, 640


def bars(title: str, rows: Sequence[tuple[str, Measure | None]], top: float | None = 1.0, unit: str = "%") -> str:
    """Horizontal bars of measures with their confidence intervals as whiskers.

    rows: ((name, Measure or None), ...). top: value at the right end; None: the largest bound. unit: "%" or "" (as it is).
    """
    shown = [(name, m) for name, m in rows if m is not None and m.value is not None]
    if top is None:
        top = max((max(m.value, m.high or 0.0) for _, m in shown), default=1.0) or 1.0
    span, height = _WIDTH - _LEFT - 60, 34 + _BAR * len(shown)

    def x(value: float) -> float:
        return _LEFT + span * min(max(value / top, 0.0), 1.0)

    out = [_grid(top, unit, x, height)]
    for k, (name, m) in enumerate(shown):
        y, factor = 30 + k * _BAR, 100 if unit == "%" else 1
        out.append(f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">{html.escape(name)}</text>')
        out.append(f'<rect class="bar" x="{_LEFT}" y="{y + 2}" width="{x(m.value) - _LEFT:.1f}" height="{_BAR - 8}"/>')
        if m.low is not None:
            out.append(f'<path class="whisker" d="M{x(m.low):.1f} {y + 9}H{x(m.high):.1f}M{x(m.low):.1f} {y + 5}v8M{x(m.high):.1f} {y + 5}v8"/>')
        end = x(m.high if m.high is not None else m.value)
        out.append(f'<text x="{end + 6:.1f}" y="{y + 13}">{m.value * factor:.1f}</text>')
    return _svg(title, height, "".join(out))


def histogram(title: str, values: Sequence[float], bins: int = 20, mark: float | None = 0.5) -> str:
    """Histogram of values in 0..1. mark: a threshold to draw a line at, or None."""
    counts, _ = np.histogram(np.clip(np.asarray(values, dtype=np.float64), 0, 1), bins=bins, range=(0.0, 1.0))
    return from_counts(title, counts.tolist(), mark)


def from_counts(title: str, counts: Sequence[int], mark: float | None = 0.5) -> str:
    """Histogram of equal bins over 0..1 that were counted elsewhere (a stream)."""
    most, height, low = max([*counts, 1]), 190, 150
    step = (_WIDTH - 80) / max(len(counts), 1)
    out = []
    for k, count in enumerate(counts):
        tall = (low - 34) * count / most
        left, right = k / len(counts), (k + 1) / len(counts)
        out.append(
            f'<rect class="bar" x="{50 + k * step + 1:.1f}" y="{low - tall:.1f}" width="{step - 2:.1f}" height="{tall:.1f}">'
            f"<title>{left:.2f}–{right:.2f}: {count}</title></rect>"
        )
    for tenth in range(0, 11, 2):
        out.append(f'<text x="{50 + (_WIDTH - 80) * tenth / 10:.1f}" y="{low + 16}" text-anchor="middle">{tenth / 10:g}</text>')
    out.append(f'<path class="axis" d="M50 {low}H{_WIDTH - 30}"/><text x="44" y="40" text-anchor="end">{most}</text>')
    if mark is not None:
        at = 50 + (_WIDTH - 80) * mark
        out.append(f'<path class="mark" d="M{at:.1f} 28V{low}"/>')
    return _svg(title, height, "".join(out))


def _grid(top: float, unit: str, x, height: int) -> str:
    out = []
    for k in range(5):
        value = top * k / 4
        label = f"{value * 100:.0f} %" if unit == "%" else f"{value:.2g}"
        out.append(f'<path class="axis" d="M{x(value):.1f} 28V{height}"/><text x="{x(value):.1f}" y="22" text-anchor="middle" class="tick">{label}</text>')
    return "".join(out)


def _svg(title: str, height: int, inside: str) -> str:
    head = f'<title>{html.escape(title)}</title><text class="title" x="0" y="13">{html.escape(title)}</text>'
    # The ticks of `bars` and the title share no line: the drawing starts below the title.
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {height + 18}" role="img" aria-label="{html.escape(title, quote=True)}">{head}'
        f'<g transform="translate(0 14)">{inside}</g></svg>'
    )
