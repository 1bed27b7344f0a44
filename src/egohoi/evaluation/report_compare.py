"""Two models on the same items: paired differences with intervals and p-values, as a table."""

from collections.abc import Sequence

import numpy as np

from egohoi.evaluation import statistics
from egohoi.evaluation.tables import Cell, Table
from egohoi.evaluation.tally import Tally

NOTE = (
    "Difference: second minus first, in points where the values are percentages, with a 95 % interval of the paired bootstrap. p: paired "
    "randomisation test (two-sided); images are drawn and swapped as a whole. Uncorrected for the number of rows: with m rows, 0.05/m is "
    "the level that keeps the chance of one false alarm below 5 %."
)


def comparison(first: Tally, second: Tally, rows: Sequence[tuple[str, str, str]], *, names=("first", "second"), resamples: int = 10_000) -> Table:
    """Table of two models over the same images.

    rows: ((name, key of a measure, unit), ...), unit as of `tables.Cell`. A row that either side does not count, or that the two
    count over different items (so that nothing is paired), is left out and named in the note.
    """
    made, unpaired = [], []
    for name, key, unit in rows:
        a, b = first.groups(key), second.groups(key)
        if not a and not b:
            continue
        groups = sorted(set(a) | set(b))
        if set(a) != set(b) or any(a[g][1] != b[g][1] for g in groups) or not sum(n[1] for n in a.values()):
            unpaired.append(name)
            continue
        weights = np.array([a[g][1] for g in groups])
        found = statistics.paired([a[g][0] for g in groups], [b[g][0] for g in groups], weights, resamples=resamples)
        factor, digits = (100.0, 2) if unit == "%" else (1.0, 4)
        bounds = f"{found.low * factor:+.{digits}f} to {found.high * factor:+.{digits}f}"
        p = f"{found.p:.4f}" if found.p >= 0.001 else "< 0.001"
        made.append((name, (
            Cell(first.measure(key, resamples=200).value, unit), Cell(second.measure(key, resamples=200).value, unit),
            Cell(f"{found.difference * factor:+.{digits}f}", ""), Cell(bounds, ""), Cell(p, ""), Cell(int(found.groups), ""),
        )))  # fmt: skip
    note = NOTE + (f" Not comparable, because the two count different items: {', '.join(unpaired)}." if unpaired else "")
    return Table("Comparison", (*names, "difference", "95 % interval", "p", "images"), tuple(made), note)
