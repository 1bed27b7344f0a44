"""What the readers of published annotation files share: finding files, streaming large JSON, and turning every way in which a
record can be broken into one error that names file and record."""

import json
import math
import re
import reprlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from egohoi.errors import BadData, BadRecord, EgohoiError, need

#: Limits of what is believed of a JSON file: nesting, and bytes of one text.
MAX_DEPTH, MAX_TEXT = 100, 1 << 20
_TEXTS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
#: +1 for a byte that opens a list or object, -1 for one that closes it.
_STEPS = np.zeros(256, dtype=np.int8)
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1

#: Called with the error of a broken record, which is then left out; None: the first broken record stops the reader.
OnError = Callable[[EgohoiError], None] | None


def files(path, *suffixes: str) -> list[Path]:
    """The file `path`, or all files below the folder `path` with one of the suffixes (lower case, with dot), sorted.

    Raises BadData if there is none.
    """
    place = Path(path)
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise BadData(f"{path}: no such file or folder")
    found = sorted(p for p in place.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    if not found:
        raise BadData(f"{path}: holds no {' or '.join(suffixes)} file")
    return found


def stream(path: Path, prefix: str, on_error: OnError = None) -> Iterator[Any]:
    """The JSON values at `prefix` (ijson notation, such as "clips.item") of a file, one at a time.

    Only one value is in memory. Raises BadData (no such file, or nothing at `prefix`), BadRecord (not JSON, or cut short:
    what came before it was yielded); given on_error, both are reported there instead.
    """
    ijson = need("ijson", "data")
    count = 0
    try:
        with open(path, "rb") as file:
            for count, value in enumerate(ijson.items(Shallow(file), prefix, use_float=True), 1):
                yield value
        if count == 0:
            raise BadData(f"{path}: holds no records at '{prefix.removesuffix('.item')}': is it the right kind of file?")
    except EgohoiError as error:
        report(error, on_error)
    except OSError as error:
        report(BadData(f"{path}: cannot be read ({error.strerror or error})"), on_error)
    except (ijson.JSONError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        report(BadRecord(f"{path}: not JSON after record {count} ({parser_says(error)}): download it again"), on_error)


class Shallow:
    """A JSON file that may be nested MAX_DEPTH deep and hold texts of MAX_TEXT bytes: ijson's memory grows with the square of depth.

    `read` raises ValueError where the file goes beyond that.
    """

    def __init__(self, file):
        self._file, self._depth, self._open = file, 0, b""

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        if data:
            self._scan(data)
        return data

    def _scan(self, data: bytes) -> None:
        rest = _TEXTS.sub(b"", self._open + data)
        # What is left of a text that goes on in the next chunk starts with its quote.
        quote = rest.find(b'"')
        self._open, rest = (rest[quote:], rest[:quote]) if quote >= 0 else (b"", rest)
        if len(self._open) > MAX_TEXT:
            raise ValueError(f"a text of more than {MAX_TEXT} bytes")
        if rest:
            steps = _STEPS[np.frombuffer(rest, dtype=np.uint8)]
            levels = self._depth + np.cumsum(steps, dtype=np.int64)
            self._depth = int(levels[-1])
            if levels.max() > MAX_DEPTH:
                raise ValueError(f"nested more than {MAX_DEPTH} deep")


def parser_says(error: BaseException) -> str:
    """What a JSON parser complains about, without the excerpt of the file that ijson's yajl adds in further lines."""
    said = error.args[0] if error.args else ""
    said = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    return short(ValueError(said.split("\n")[0]))


def load(path) -> Any:
    """The one JSON value of a small file. Raises BadData (no such file), BadRecord (not JSON)."""
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"{path}: not JSON ({parser_says(error)})") from error


def report(error: EgohoiError, on_error: OnError) -> None:
    """Hand a broken record's error to `on_error`, or raise it if there is none."""
    if on_error is None:
        raise error
    on_error(error)


def attempt(make: Callable[[], Any], where: str, on_error: OnError = None) -> Any:
    """The result of `make()`; what breaks in it becomes a BadRecord that starts with `where`.

    Given on_error, the error is reported there and None comes back.
    """
    try:
        return make()
    except EgohoiError as error:
        report(BadRecord(f"{where}: {str(error)[:500]}"), on_error)
    except KeyError as error:
        report(BadRecord(f"{where}: lacks {short(error)}"), on_error)
    except (TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RecursionError, MemoryError) as error:
        report(BadRecord(f"{where}: breaks the format ({type(error).__name__}: {short(error)})"), on_error)
    return None


def short(value) -> str:
    """A value for an error message: one line, at most 120 characters, however deep or long it is."""
    text = str(value) if isinstance(value, BaseException) else reprlib.repr(value)
    return " ".join(text.split())[:120]


def mapping(value, name: str) -> dict:
    """`value` if it is a JSON object. Raises BadRecord."""
    if not isinstance(value, dict):
        raise BadRecord(f"{name} must be an object, got {short(value)}")
    return value


def sequence(value, name: str) -> list:
    """`value` if it is a JSON list, [] for None. Raises BadRecord."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadRecord(f"{name} must be a list, got {short(value)}")
    return value


def number(value, name: str, low: float = -1e7, high: float = 1e7) -> float:
    """`value` as a finite float in [low, high]. Raises BadRecord."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (low <= value <= high and math.isfinite(value)):
        raise BadRecord(f"{name} must be a number from {low:g} to {high:g}, got {short(value)}")
    return float(value)


def integer(value, name: str, low: int = 0, high: int = 10**9) -> int:
    """`value`, an int or the text of one, in [low, high]. Raises BadRecord."""
    if isinstance(value, str) and 0 < len(value) < 20 and value.strip().lstrip("-").isdecimal():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadRecord(f"{name} must be a whole number from {low} to {high}, got {short(value)}")
    return value


def text(value, name: str, *, empty: bool = False) -> str:
    """`value` if it is a string of at most 10,000 characters, stripped. Raises BadRecord."""
    if not isinstance(value, str) or len(value) > 10_000 or not (empty or value.strip()):
        raise BadRecord(f"{name} must be a text, got {short(value)}")
    return value.strip()


def side(value: int, name: str) -> int:
    """A picture's width or height in pixels, 1 to 32,768. Raises BadRecord."""
    return integer(value, name, 1, 32_768)


def template(image: str, **examples) -> str:
    """`image` if `image.format(**examples)` works, so that a wrong template is found before the first record. Raises BadData."""
    try:
        image.format(**examples)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise BadData(f"image template {image!r}: {short(error)}; it may use {', '.join(sorted(examples))}") from error
    return image
