"""Scenes as JSON lines: one scene a line in `scenes.jsonl`, pictures beside it.

    {"id": "r036", "image": "images/r036.jpg", "size": [960, 720],
     "hands":   [{"side": "left|right|other", "box": [x1, y1, x2, y2], "contact": true, "object": 0, "mask": RLE}],
     "objects": [{"name": "garlic", "box": [x1, y1, x2, y2], "hands": ["left"], "mask": RLE}],
     "action": "peel garlic", "narration": "...", "depth": "depth/r036.png",
     "questions": [{"question": "...", "answer": "..."}], "source": "..."}

Boxes are xyxy pixels; masks COCO RLEs of the picture's size; a hand's box is the visible hand without the forearm.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from egohoi.errors import BadData, BadRecord, EgohoiError
from egohoi.records import Hand, Object, Scene
from egohoi.scenes import raw

FILE = "scenes.jsonl"
_HAND = ("side", "box", "contact", "object", "mask", "score", "glove")
_OBJECT = ("name", "box", "hands", "mask", "score")
_SCENE = ("id", "image", "size", "action", "narration", "verb", "noun", "depth", "questions", "exhaustive", "source", "extra")


def locate(data) -> Path:
    """The scenes.jsonl of `data`, which is that file or its folder. Raises BadData."""
    path = Path(data)
    if path.is_dir():
        path = path / FILE
    if not path.is_file():
        raise BadData(f"{data}: no {FILE} there: give a folder that holds one, or the file itself")
    return path


def read(data, *, on_error: raw.OnError = None) -> Iterator[Scene]:
    """Scenes of a folder or file, streaming; image and depth paths come back joined with the folder.

    Raises BadData (no such file), BadRecord (names file and line); on_error collects broken lines instead.
    """
    path = locate(data)
    with open(path, encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    scene = parse(line, f"{path}:{number}", path.parent)
                except BadRecord as error:
                    raw.report(error, on_error)
                else:
                    yield scene


def parse(line: str, where: str, folder: Path | None = None) -> Scene:
    """One line -> Scene. where: "file:line" for messages; folder: joined with relative paths. Raises BadRecord."""
    try:
        row = _DECODER.decode(line.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"{where}: not JSON ({str(error)[:80]})") from error
    return from_json(row, where, folder)


def _refuse(word: str):
    raise ValueError(f"{word} is no number: write null, or leave the key out")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refuse(digits[:20])


#: Python itself reads NaN, Infinity and 1e999, which other readers of JSON refuse and which no box or score can be.
_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


def from_json(row, where: str, folder: Path | None = None) -> Scene:
    """One decoded JSON object -> Scene. Unknown keys of the scene go to `extra`. Raises BadRecord."""
    if not isinstance(row, dict):
        raise BadRecord(f"{where}: a scene is a JSON object, got {type(row).__name__}")
    try:
        hands = [Hand(**{k: h[k] for k in _HAND if k in h}) for h in _dicts(row, "hands")]
        objects = [Object(**{k: o[k] for k in _OBJECT if k in o}) for o in _dicts(row, "objects")]
        known = {k: row[k] for k in _SCENE if row.get(k) is not None}
        extra = dict(known.pop("extra", {}))
        extra.update({k: v for k, v in row.items() if k not in _SCENE and k not in ("hands", "objects")})
        for key in ("image", "depth"):
            if folder is not None and isinstance(known.get(key), str):
                known[key] = str(folder / known[key])
        return Scene(hands=hands, objects=objects, extra=extra, **known)
    except EgohoiError as error:
        raise BadRecord(f"{where}: {str(error)[:500]}") from error
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise BadRecord(f"{where}: not a scene ({type(error).__name__}: {str(error)[:120]})") from error


def _dicts(row: dict, key: str) -> list[dict]:
    value = row.get(key) or []
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise BadRecord(f"'{key}' must be a list of objects")
    return value


def to_json(scene: Scene, folder: Path | None = None) -> dict:
    """A scene as one JSON object; paths are written relative to `folder` where they lie below it."""
    hands = [{k: v for k in _HAND if (v := _plain(getattr(h, k))) is not None or k == "object"} for h in scene.hands]
    objects = [{k: v for k in _OBJECT if (v := _plain(getattr(o, k))) is not None} for o in scene.objects]
    row = {"id": scene.id, "image": _relative(scene.image, folder), "size": list(scene.size), "hands": hands, "objects": objects}
    for key in _SCENE[3:-1]:
        value = getattr(scene, key)
        if key == "depth" and value is not None:
            value = _relative(value, folder)
        if value not in (None, (), ""):
            row[key] = _plain(value)
    known = (*_SCENE, "hands", "objects")
    row.update({k: v for k, v in scene.extra.items() if k not in known})
    if inner := {k: v for k, v in scene.extra.items() if k in known}:
        row["extra"] = inner
    return row


def write(data, scenes: Iterable[Scene]) -> int:
    """Write scenes to `data` (folder or .jsonl file), atomically. Returns how many.

    Raises BadRecord (a value that JSON cannot hold, such as NaN in `extra`); what was there stays.
    """
    path = Path(data)
    if path.suffix != ".jsonl":
        path = path / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    count, part = 0, path.with_name(path.name + ".part")
    try:
        with open(part, "w", encoding="utf-8") as out:
            for count, scene in enumerate(scenes, 1):
                try:
                    line = json.dumps(to_json(scene, path.parent), ensure_ascii=False, allow_nan=False)
                except (TypeError, ValueError) as error:
                    raise BadRecord(f"{path}: scene '{scene.id}' cannot be written as JSON ({error})") from error
                out.write(line + "\n")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return count


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def _relative(path: str, folder: Path | None) -> str:
    if folder is None:
        return path
    try:
        return str(Path(path).relative_to(folder))
    except ValueError:
        return path
