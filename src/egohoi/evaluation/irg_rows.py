"""What the published script would see of every item, kept in arrays, so that a million items fit: each distinct text once."""

from array import array
from collections.abc import Sequence

import numpy as np

from egohoi.evaluation.irg_released import Row
from egohoi.evaluation.mask_metrics import ANNEXE_CLASSES, ClassCounts

_CLASSES = ANNEXE_CLASSES + 1
_FOUND, _FLAG, _GROUNDED = 1, 2, 4


class Pairs:
    """Pairs of texts (said, true), each distinct one once. at: the number of the pair of each added one, -1 for none."""

    def __init__(self):
        self.distinct: list[tuple[str, str]] = []
        self.at = array("l")
        self._numbers: dict[tuple[str, str], int] = {}

    def add(self, pair: tuple[str, str] | None) -> None:
        number = -1
        if pair is not None:
            number = self._numbers.setdefault(pair, len(self.distinct))
            if number == len(self.distinct):
                self.distinct.append(pair)
        self.at.append(number)

    def numbers(self) -> np.ndarray:
        """`at` as integers [N]."""
        return np.frombuffer(self.at, dtype=np.dtype("l")) if self.at else np.zeros(0, dtype=np.dtype("l"))

    def counts(self) -> np.ndarray:
        """How often each distinct pair was added: integers [D]."""
        numbers = self.numbers()
        return np.bincount(numbers[numbers >= 0], minlength=len(self.distinct))


class Rows:
    """Rows in the order in which they were added. names: their ids; frames: number of each one's frame."""

    def __init__(self):
        self.names: list[str] = []
        self.answers, self.analyses = Pairs(), Pairs()
        self.frames = array("l")
        self.frame_names: list[str] = []
        self._sizes: list[tuple[int, int]] = []
        self._numbers: dict[str, int] = {}
        self._flags = array("B")
        self._classes = array("q")

    def add(self, row: Row) -> None:
        number = self._numbers.setdefault(row.frame, len(self.frame_names))
        if number == len(self.frame_names):
            self.frame_names.append(row.frame)
            self._sizes.append(row.size)
        self.names.append(row.id)
        self.frames.append(number)
        self.answers.add(row.answer)
        self.analyses.add(row.analysis)
        self._flags.append(row.found * _FOUND + row.with_mask * _FLAG + (row.classes is not None) * _GROUNDED)
        self._classes.extend(v for c in row.classes or ((0, 0, 0),) * _CLASSES for v in c)

    def __len__(self) -> int:
        return len(self.names)

    def row(self, k: int) -> Row:
        flags, frame = self._flags[k], self.frames[k]
        classes = None
        if flags & _GROUNDED:
            values = self._classes[3 * _CLASSES * k : 3 * _CLASSES * (k + 1)]
            classes = tuple(ClassCounts(*values[3 * c : 3 * c + 3]) for c in range(_CLASSES))
        return Row(
            self.names[k], self.frame_names[frame], self._sizes[frame], self.answers.distinct[self.answers.at[k]],
            self.analyses.distinct[self.analyses.at[k]], bool(flags & _FOUND), bool(flags & _FLAG), classes,
        )  # fmt: skip

    def classes(self) -> np.ndarray | None:
        """ClassCounts of every row, int64 [N, 5, 3]; None if a row has no masks."""
        if not len(self) or any(not f & _GROUNDED for f in self._flags):
            return None
        return np.frombuffer(self._classes, dtype=np.int64).reshape(-1, _CLASSES, 3)

    def ordered(self, order: Sequence[str]) -> "Ordered":
        """The rows of `order`, which may name one several times or leave some out."""
        if order == self.names:
            return Ordered(self, range(len(self)))
        places = {name: k for k, name in enumerate(self.names)}
        return Ordered(self, [places[name] for name in order if name in places])


class Ordered(Sequence):
    """A sequence of rows, each made when it is asked for. numbers: their places in `rows`."""

    def __init__(self, rows: Rows, numbers: Sequence[int]):
        self.rows, self.numbers = rows, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, k):
        return [self.rows.row(n) for n in self.numbers[k]] if isinstance(k, slice) else self.rows.row(self.numbers[k])

    def classes(self) -> np.ndarray | None:
        """ClassCounts in this order, int64 [N, 5, 3]; None if a row has no masks."""
        found = self.rows.classes()
        return found if found is None or isinstance(self.numbers, range) else found[list(self.numbers)]

    def pairs(self, which: str) -> list[tuple[str, str]]:
        """The pairs of texts ("answer" or "analysis") in this order."""
        held = self.rows.answers if which == "answer" else self.rows.analyses
        return [held.distinct[held.at[n]] for n in self.numbers]
