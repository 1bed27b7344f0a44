"""Tables of measures, apart from how they are shown: the screen, JSON and the HTML page all show the same."""

from dataclasses import dataclass

from egohoi.evaluation.tally import Measure


@dataclass(frozen=True)
class Cell:
    """A value under a column. value: Measure, number, text or None (not measured). unit: "%" or "" (as it is)."""

    value: object
    unit: str = "%"

    def text(self, interval: bool = True) -> str:
        """For the screen: `54.6 (45–63)`, the value and its bounds, or a dash."""
        if self.value is None:
            return "–"
        if isinstance(self.value, str):
            return self.value
        factor, digits = (100.0, 1) if self.unit == "%" else (1.0, 2)
        if isinstance(self.value, Measure):
            if self.value.value is None:
                return "–"
            out = f"{self.value.value * factor:.{digits}f}"
            if interval and self.value.low is not None:
                bounds = 0 if self.unit == "%" else 2
                out += f" ({self.value.low * factor:.{bounds}f}–{self.value.high * factor:.{bounds}f})"
            return out
        return str(self.value) if isinstance(self.value, int) else f"{self.value * factor:.{digits}f}"


@dataclass(frozen=True)
class Table:
    """rows: ((name, (Cell, ...)), ...), one cell a column. note: how to read it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    note: str = ""

    def to_json(self) -> dict:
        def plain(value):
            return value.to_json() if isinstance(value, Measure) else value

        rows = [{"name": name, **{c: plain(cell.value) for c, cell in zip(self.columns, cells)}} for name, cells in self.rows]
        return {"title": self.title, "note": self.note, "rows": rows}
