"""A run's records as JSON lines that a killed run resumes from: a first line that says what is measured, then one line an item.

Records of one unit (an image) are written together and carry their number, so that a unit which was cut short is seen and
done again. `"unit"` and `"of"` are added to each record.
"""

import contextlib
import json
import os
from pathlib import Path

from egohoi.errors import BadPredictions


class Journal:
    """Append-only records of a run. path: the file, or None to keep nothing. header: what must be equal to resume."""

    def __init__(self, path, header: dict):
        self.path = Path(path) if path else None
        self.header = json.loads(json.dumps(header))
        self.done: dict[str, list[dict]] = {}
        self._file = None
        if self.path is not None:
            self._open()

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size:
            header, self.done, end = read(self.path)
            same_run(self.path, header, self.header)
            os.truncate(self.path, end)
            self._file = open(self.path, "a", encoding="utf-8")
        else:
            self._file = open(self.path, "w", encoding="utf-8")
            self._file.write(json.dumps({"run": self.header}, ensure_ascii=False) + "\n")
            self._file.flush()

    def add(self, unit: str, records: list[dict]) -> list[dict]:
        """Write the records of one unit; returns them as a later run would read them."""
        lines = [json.dumps({"unit": unit, "of": len(records), **r}, ensure_ascii=False) + "\n" for r in records]
        if self._file is not None:
            self._file.write("".join(lines))
            self._file.flush()
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def same_run(path: Path, header: dict, wanted: dict) -> None:
    """Raise BadPredictions if the records of a file are not of the run that is wanted."""
    if header != wanted:
        changed = [k for k in sorted({*header, *wanted}) if header.get(k) != wanted.get(k)]
        raise BadPredictions(f"{path}: holds records of another run ({', '.join(changed)} differ): name another file or remove it")


@contextlib.contextmanager
def fresh(path, header: dict):
    """Write a whole record file anew, put in place when it is complete: gives a function (unit, records) -> None."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(f"{path}.part")
    dumps = json.JSONEncoder(ensure_ascii=False).encode
    with open(part, "w", encoding="utf-8") as file:
        file.write(dumps({"run": header}) + "\n")
        yield lambda unit, records: file.writelines(dumps({"unit": unit, "of": len(records), **r}) + "\n" for r in records)
    os.replace(part, path)


def read(path) -> tuple[dict, dict[str, list[dict]], int]:
    """Header, unit -> its records (whole units only), and the length in bytes of what is whole. Raises BadPredictions."""
    path = Path(path)
    units: dict[str, list[dict]] = {}
    header, end, position, pending = None, 0, 0, []
    with open(path, "rb") as lines:
        for number, raw in enumerate(lines, 1):
            position += len(raw)
            try:
                row = json.loads(raw)
                if number == 1:
                    header, end = dict(row["run"]), position
                    continue
                unit, total = row["unit"], row["of"]
            except (ValueError, KeyError, TypeError) as error:
                if number == 1:
                    raise BadPredictions(f"{path}: is no record file of egohoi (its first line does not say the run)") from error
                break  # the line that was being written when the run was stopped
            if not raw.endswith(b"\n"):
                break
            if pending and pending[0]["unit"] != unit:
                break
            pending.append(row)
            if len(pending) == total:
                units[unit], end, pending = pending, position, []
    return header, units, end
