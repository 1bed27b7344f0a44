"""Records of a run as JSON lines in the order of its items: a first line that says what is measured, then one line an item.

A stopped run goes on behind the last whole line. Memory holds one record, however many there are.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from egohoi.errors import BadPredictions
from egohoi.evaluation import journal


class Records:
    """Records of a run in `path`. header: what must be equal to go on with it."""

    def __init__(self, path, header: dict):
        self.path, self.header = Path(path), json.loads(json.dumps(header))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._held = None
        if self.path.exists() and self.path.stat().st_size:
            self._held = open(self.path, "rb")
            journal.same_run(self.path, _header(self.path, self._held.readline()), self.header)
            self._file = None
        else:
            self._file = open(self.path, "w", encoding="utf-8")
            self._write({"run": self.header})

    def held(self, name: str) -> dict | None:
        """The record of the item `name`, the next in the order, if the file holds it from a run before. Raises BadPredictions."""
        if self._held is None:
            return None
        start = self._held.tell()
        row = _whole(self._held.readline())
        if row is None:  # the end, or the line that was being written when the run was stopped
            self._held.close()
            self._held = None
            os.truncate(self.path, start)
            self._file = open(self.path, "a", encoding="utf-8")
        elif row.get("id") != name:
            raise BadPredictions(f"{self.path}: holds the record of {row.get('id')} in the place of {name}: name another file or remove it")
        return row

    def add(self, record: dict) -> None:
        """Write the next record; every one that the file holds must have been asked for."""
        self._write(record)

    def _write(self, row: dict) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()

    def __enter__(self) -> "Records":
        return self

    def __exit__(self, *_) -> None:
        for file in (self._held, self._file):
            if file is not None:
                file.close()


def state(paths: Iterable) -> str:
    """A digest of names, sizes and times of files, and of the pictures in folders: tells whether they were written anew since."""
    seen = hashlib.blake2b(digest_size=16)
    for path in map(Path, paths):
        for file in sorted(path.rglob("*.png")) if path.is_dir() else [path]:
            found = file.stat()
            seen.update(f"{file}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
    return seen.hexdigest()


def read(path) -> Iterator[dict]:
    """The records of a file, whole lines only. Raises BadPredictions."""
    path = Path(path)
    with open(path, "rb") as lines:
        _header(path, lines.readline())
        for raw in lines:
            row = _whole(raw)
            if row is None:
                return
            yield row


def _header(path: Path, raw: bytes) -> dict:
    try:
        return dict(json.loads(raw)["run"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadPredictions(f"{path}: is no record file of egohoi (its first line does not say the run)") from error


def _whole(raw: bytes) -> dict | None:
    if not raw.endswith(b"\n"):
        return None
    try:
        row = json.loads(raw)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
