"""What the readers of published annotation files share: finding files, streaming large JSON, and turning every way in which a
record can be broken into one error that names file and record."""

import math
import reprlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from egohoi.errors import BadData, BadRecord, EgohoiError, need

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
            for count, value in enumerate(ijson.items(file, prefix, use_float=True), 1):
                yield value
        if count == 0:
            raise BadData(f"{path}: holds no records at '{prefix.removesuffix('.item')}': is it the right kind of file?")
    except EgohoiError as error:
        report(error, on_error)
    except OSError as error:
        report(BadData(f"{path}: cannot be read ({error.strerror or error})"), on_error)
    except (ijson.JSONError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        report(BadRecord(f"{path}: not JSON after record {count} ({short(error)}): download it again"), on_error)


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
        report(BadRecord(f"{where}: {error}"), on_error)
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
