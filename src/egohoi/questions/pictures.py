"""Which pictures a data set names: what `egohoi build check` looks for and `egohoi build frames` extracts."""

import json
from collections.abc import Iterator
from pathlib import Path

from egohoi import store
from egohoi.errors import BadData, BadRecord
from egohoi.questions import official
from egohoi.scenes import jsonl

_KINDS = "a build, a store of shards, files of HOI-QA, scenes.jsonl, or a text file with one picture a line"


def named(path) -> Iterator[tuple[str, int]]:
    """(picture as the data names it, number of questions about it in this record), record by record, streaming.

    path: folder of a build (its files of HOI-QA), of such files, or of shards; one such file or shard; `scenes.jsonl` or its folder
    (no questions are counted; pictures as written there); a text file with one picture a line. Raises BadData, BadRecord.
    """
    place = Path(path)
    if place.is_dir():
        if (place / "hoiqa").is_dir():
            place = place / "hoiqa"
        if (place / jsonl.FILE).is_file():
            yield from _lines(place / jsonl.FILE)
        elif list(place.glob("*.parquet")):
            yield from _rows(place)
        elif files := sorted(place.glob("*.json")):
            for file in files:
                yield from _records(file)
        else:
            raise BadData(f"{path}: holds nothing that names pictures: give {_KINDS}")
    elif not place.is_file():
        raise BadData(f"{path}: no such file or folder: give {_KINDS}")
    elif place.suffix == ".json":
        yield from _records(place)
    elif place.suffix == ".parquet":
        yield from _rows(place)
    else:
        yield from _lines(place)


def _records(file: Path) -> Iterator[tuple[str, int]]:
    for example in official.read(file):
        yield example.image, len(example.conversation)


def _rows(data: Path) -> Iterator[tuple[str, int]]:
    for batch in store.Store(data).tables(["image"]):
        for image in batch.column("image").to_pylist():
            yield image, 1


def _lines(file: Path) -> Iterator[tuple[str, int]]:
    with open(file, encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            text = line.strip().removeprefix("\ufeff")
            if not text:
                continue
            if file.suffix != ".jsonl":
                if "\0" in text:
                    raise BadData(f"{file}:{number}: is no text: give {_KINDS}")
                yield text, 0
                continue
            try:
                image = json.loads(text)["image"]
                if not isinstance(image, str):
                    raise TypeError("image must be a path")
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise BadRecord(f"{file}:{number}: not a record with an image ({str(error)[:80]})") from error
            yield image, 0
