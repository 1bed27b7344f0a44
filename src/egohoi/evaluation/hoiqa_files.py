"""The files of an evaluation on HOI-QA: truth and predictions side by side, streamed, every mismatch an error that names items.

Truth (a folder): epic-test.json, ego4d-test.json, epic-visor-test.json. Predictions: predictions.json, with predictions_ego4d.json
and predictions_hoi.json beside it, as VLM4HOI's script writes them (HOI-Ref, `eval_scripts/eval_hoiqa.py`).
"""

import json
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from egohoi.errors import BadData, BadPredictions, BadRecord

#: part -> (official name of the truth, what the name of the predictions ends in, canvas of its boxes in pixels).
PARTS = {
    "epic": ("epic-test.json", "", (1920, 1080)),
    "ego4d": ("ego4d-test.json", "_ego4d", (1440, 1080)),
    "hoi": ("epic-visor-test.json", "_hoi", (1920, 1080)),
}
#: A truth box may leave its canvas by this many pixels (labels that were rounded) before the canvas is called wrong.
SLACK = 2
_CHUNK = 1 << 20
_SPACE = re.compile(r"[ \t\n\r]*")
_COLON = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")
_COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")
_TAG = re.compile(r"\[.*?\] ")
_PLAIN = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Paths:
    """The six files. Made by `locate`; `predictions` is empty where a model is run."""

    truth: dict[str, Path]
    predictions: dict[str, Path]


def locate(truth_dir, predictions=None) -> Paths:
    """Find the files. predictions: the path of predictions.json; its neighbours are named after it, as the published script does.

    Raises BadData, BadPredictions for the files that are not there, all named.
    """
    truth = {part: Path(truth_dir) / name for part, (name, _, _) in PARTS.items()}
    lacking = [path.name for path in truth.values() if not path.is_file()]
    if lacking:
        raise BadData(f"{truth_dir}: lacks {', '.join(lacking)}: give the folder that holds the three test files of HOI-QA")
    found = {}
    if predictions is not None:
        path = Path(predictions)
        found = {part: path.with_name(f"{path.stem}{tail}{path.suffix}") for part, (_, tail, _) in PARTS.items()}
        lacking = [p.name for p in found.values() if not p.is_file()]
        if lacking:
            raise BadPredictions(f"{path.parent}: lacks {', '.join(lacking)}: three files are read, {', '.join(p.name for p in found.values())}")
    return Paths(truth, found)


def members(path) -> Iterator[tuple[str | None, object]]:
    """(key, value) of the members of a JSON file that is one object, (None, value) of one that is a list; streaming.

    Like `questions.official.records`, for files that are read whole several times a second: one regular expression and one call of
    the C scanner a value. Raises BadData, BadRecord (file and record).
    """
    scan = json.JSONDecoder().scan_once
    try:
        file = open(path, encoding="utf-8", errors="replace")  # noqa: SIM115  closed below, with the errors of reading
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror or error})") from error
    with file:
        text = file.read(_CHUNK)
        at = _SPACE.match(text).end()
        if text[at : at + 1] not in ("{", "["):
            raise BadData(f"{path}: expected a JSON list or object, got {text[at : at + 1]!r}")
        keyed, closing = text[at] == "{", "}" if text[at] == "{" else "]"
        at = _SPACE.match(text, at + 1).end()
        number, key, ended = 0, None, False
        while True:
            # A value counts only if something follows it in the window, because a number may go on in the next chunk.
            try:
                if number == 0 and text[at] == closing:
                    at, done = at + 1, True
                else:
                    if keyed:
                        key, end = scan(text, at)
                        colon = _COLON.match(text, end)
                        if colon is None and (ended or len(text) - end > 64):
                            raise BadRecord(f"{path}: record {number + 1}: not JSON (expected ':')")
                        value, end = scan(text, colon.end())
                    else:
                        value, end = scan(text, at)
                    comma = _COMMA.match(text, end)
                    if comma is not None and comma.end() < len(text):
                        after, done = comma.end(), False
                    else:
                        after = _SPACE.match(text, end).end()
                        if comma is not None or text[after] != closing:
                            if ended or (comma is None and len(text) - after > 64):
                                raise BadRecord(f"{path}: record {number + 1}: not JSON (expected ',' or '{closing}')")
                            raise IndexError
                        after, done = after + 1, True
                    if keyed and not isinstance(key, str):
                        raise BadRecord(f"{path}: record {number + 1}: not JSON (a key is a text)")
                    at, number = after, number + 1
                    yield key, value
                if done:
                    if text[at:].strip() or file.read(_CHUNK).strip():
                        raise BadData(f"{path}: something follows the end of the JSON text")
                    return
            except (StopIteration, IndexError, AttributeError, ValueError, RecursionError) as error:
                if isinstance(error, BadRecord):
                    raise
                more = "" if ended or isinstance(error, RecursionError) else file.read(max(_CHUNK, len(text) - at))
                ended = not more
                if ended:
                    raise BadRecord(f"{path}: record {number + 1}: not JSON ({str(error)[:60] or 'the file ends'})") from error
                text, at = text[at:] + more, 0


def pairs(part: str, paths: Paths) -> Iterator[tuple[str, dict, dict]]:
    """(key, truth record, prediction record) of one part.

    Test files come in the order of the truth and the hoi file in the order of its predictions, as the published script goes
    through them (sums of floats depend on it). Both files are read side by side: memory holds what stands in another order, and
    eight bytes a key. Raises BadPredictions (missing, doubled, extra; another data set's), BadData, BadRecord.
    """
    by_truth = part != "hoi"
    truth, said = keyed(paths.truth[part], part), keyed(paths.predictions[part], part, truth=False)
    leader, follower = (truth, said) if by_truth else (said, truth)
    waiting: dict[str, dict] = {}
    seen = (array("q"), array("q"))
    lacking: list[str] = []
    count = matched = 0
    try:
        for key, row in leader:
            seen[0].append(hash(key))
            count += 1
            other = waiting.pop(key, None)
            if other is None:
                for name, found in follower:
                    seen[1].append(hash(name))
                    if name == key:
                        other = found
                        break
                    if name in waiting:
                        _say_doubled(paths.predictions[part] if by_truth else paths.truth[part], part, by_truth)
                    waiting[name] = found
            if other is None:
                lacking.append(key)
            else:
                matched += 1
                yield (key, row, other) if by_truth else (key, other, row)
        for name, found in follower:
            seen[1].append(hash(name))
            waiting[name] = found
    finally:
        truth.close()
        said.close()
    for which, path in ((0, paths.truth if by_truth else paths.predictions), (1, paths.predictions if by_truth else paths.truth)):
        if _repeats(seen[which]):
            _say_doubled(path[part], part, truth=(which == 0) == by_truth)
    missing, extra = (lacking, list(waiting)) if by_truth else (list(waiting), lacking)
    if missing or extra:
        raise BadPredictions(_mismatch(paths, part, missing, extra, matched))
    if not count:
        raise BadPredictions(f"{paths.predictions[part]}: holds no prediction, and {paths.truth[part].name} no item: nothing is measured")


def keyed(path: Path, part: str, truth: bool = True) -> Iterator[tuple[str, dict]]:
    """(key, record) of a file; keys of the hoi truth are its ids. Raises BadData, BadRecord, BadPredictions for another layout."""
    listed = truth and part == "hoi"
    for number, (key, row) in enumerate(members(path), 1):
        if (key is None) != listed:
            wanted = "a list of records with id" if listed else "an object of key: record"
            raise (BadData if truth else BadPredictions)(f"{path}: expected {wanted}: this is the file of something else")
        if not isinstance(row, dict):
            raise (BadRecord if truth else BadPredictions)(f"{path}: record {number}: expected an object, got {type(row).__name__}")
        if listed:
            if "id" not in row:
                raise BadRecord(f"{path}: record {number}: has no 'id'")
            key = str(row["id"])
        yield key, row


def _repeats(hashes: array) -> bool:
    if len(hashes) < 200_000:
        return len(set(hashes)) < len(hashes)
    import numpy as np

    values = np.frombuffer(hashes, dtype=np.int64) if len(hashes) else np.zeros(0, np.int64)
    values = np.sort(values)
    return bool((values[1:] == values[:-1]).any())


def _say_doubled(path: Path, part: str, truth: bool) -> None:
    """Raise for keys that stand twice in a file, named by a second reading."""
    twice = [k for k, n in Counter(k for k, _ in keyed(path, part, truth)).items() if n > 1]
    if twice:
        kind = BadData if truth else BadPredictions
        raise kind(f"{path}: {len(twice)} items stand more than once: {names(twice)}")


def _mismatch(paths: Paths, part: str, missing: list[str], extra: list[str], matched: int) -> str:
    truth, said = paths.truth[part], paths.predictions[part]
    if not matched:
        found = f"its first item is '{extra[0]}'" if extra else "it holds no prediction"
        return f"{said}: no item of {truth.name} is in it ({found}, expected such as {names(missing, 2)}): it belongs to another data set"
    parts = []
    if missing:
        parts.append(f"{len(missing)} items of {truth.name} have no prediction: {names(missing)}")
    if extra:
        parts.append(f"{len(extra)} predictions belong to no item of {truth.name}: {names(extra)}")
    return f"{said}: " + "; ".join(parts)


def names(items: Iterable[str], most: int = 5) -> str:
    """`a, b, c and 7 more`, for messages."""
    items = [str(i)[:80] for i in items]
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def untagged(question: str) -> str:
    """A question without its task tag, as a model is asked."""
    return _TAG.sub("", question)


def plain(text: str) -> str:
    """A question without its task tag, case, spaces and punctuation, to compare what was asked."""
    return _PLAIN.sub("", untagged(text).lower())


def box_of(value, part: str, key: str, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A truth box, xyxy pixels of the canvas `size`. Raises BadData if it is none, is empty or leaves the canvas."""
    try:
        x1, y1, x2, y2 = value
        x1, y1, x2, y2 = float(x1), float(y1), float(x2), float(y2)
    except (TypeError, ValueError) as error:
        raise BadData(f"{place(part, key)}: expected a box [x1, y1, x2, y2], got {value!r:.80}") from error
    # Not a number compares false with everything, so that one chain checks all.
    if not (-SLACK <= x1 <= x2 <= size[0] + SLACK and -SLACK <= y1 <= y2 <= size[1] + SLACK):
        where = place(part, key)
        if not (x1 <= x2 and y1 <= y2):
            raise BadData(f"{where}: the box {value} is reversed or not of numbers")
        raise BadData(f"{where}: the box {value} lies outside the canvas of {size[0]}x{size[1]} pixels: the canvas is wrong, or the file is another's")
    return x1, y1, x2, y2


def place(part: str, key: str) -> str:
    """A record of the truth, for messages."""
    return f"{PARTS[part][0]}: '{key[:80]}'"
