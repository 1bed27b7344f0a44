"""A model's answers on HOI-QA: batches, shards, resumed from the records of a stopped run, saved in the official layout."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from egohoi import boxes, images
from egohoi.errors import BadData, BadQuery
from egohoi.evaluation import hoiqa_files, hoiqa_run, predictions_lines
from egohoi.evaluation.hoiqa_files import PARTS, Paths
from egohoi.evaluation.hoiqa_items import Item
from egohoi.evaluation.hoiqa_released import boxes_of
from egohoi.evaluation.hoiqa_run import Answer
from egohoi.evaluation.predictions_boxes import Parsed
from egohoi.questions import official
from egohoi.records import Query


def answers(
    model, paths: Paths, frames: official.Frames, done: dict[str, list[dict]], *, shard: tuple[int, int] = (0, 1), limit: int | None = None,
    batch: int = 16, any_canvas: bool = False,
) -> Iterator[Answer]:
    """Ask every question in the order of the truth.

    done: id -> records of an earlier run, which are not asked again. shard: (k, n) takes the truth records k, k + n, ... of each
    file. A question that the model refuses is an answer without a box. Raises BadData (pictures that are not there, or of other
    proportions than the canvas), BadImage.
    """
    waiting: list[Item] = []
    ready: list[Answer | None] = []
    for number, group in enumerate(hoiqa_run.truths(paths, limit=limit, any_canvas=any_canvas)):
        if number % shard[1] != shard[0]:
            continue
        for item in group:
            if item.id in done:
                ready.append(predictions_lines.of_row(item, done[item.id][0], item.id))
            else:
                ready.append(None)
                waiting.append(item)
        if len(waiting) >= batch or not waiting:
            yield from _flush(model, frames, ready, waiting)
    yield from _flush(model, frames, ready, waiting)


def _flush(model, frames, ready: list, waiting: list) -> Iterator[Answer]:
    fresh = iter(_ask(model, frames, waiting)) if waiting else iter(())
    yield from [answer if answer is not None else next(fresh) for answer in ready]
    ready.clear()
    waiting.clear()


def _ask(model, frames: official.Frames, items: Sequence[Item]) -> list[Answer]:
    pictures = {}
    for name in dict.fromkeys(item.image for item in items):
        path = frames.find(name)
        if path is None:
            raise BadData(f"{frames.root}: the picture '{name}' of {next(i.id for i in items if i.image == name)} is not there: see `egohoi build frames`")
        pictures[name] = images.load(path)
    for item in items:
        predictions_lines.check_canvas(item, pictures[item.image].size, str(pictures[item.image].name))
    asked = [(pictures[i.image], _query(model, i, pictures[i.image].size)) for i in items]
    try:
        replies = model.ask_many(asked)
    except BadQuery:
        replies = [_one(model, picture, query) for picture, query in asked]
    return [_answer(item, reply) for item, reply in zip(items, replies, strict=True)]


def _one(model, picture, query):
    try:
        return model.ask_many([(picture, query)])[0]
    except BadQuery:
        return None


def _query(model, item: Item, size: tuple[int, int]) -> Query:
    """The published text for models that write braces; others get the box of an identification as a box."""
    codec = getattr(model, "codec", None)
    if item.way == "iden" and (codec is None or codec.name != "braces"):
        scaled = boxes.scale(item.boxes[0], size[0] / item.size[0], size[1] / item.size[1])
        return Query(text="", box=boxes.clip(scaled, size), task="identify")
    return Query(text=hoiqa_files.untagged(item.question))


def _answer(item: Item, reply) -> Answer:
    if reply is None:
        return Answer(item, "[refused]", Parsed(()) if item.asks_box else None, "[refused]")
    if not item.asks_box:
        return Answer(item, reply.text or ", ".join(e.name for e in reply.entities))
    scale = (item.size[0] / reply.size[0], item.size[1] / reply.size[1])
    if boxes_of(reply.text):
        return Answer(item, reply.text)
    parsed = Parsed(tuple(boxes.scale(e.box, *scale) for e in reply.entities))
    found = hoiqa_run.with_released_text(Answer(item, reply.text, parsed))
    return found if found.raw else Answer(item, reply.text, parsed, reply.text)


class Official:
    """Writes answers as the three prediction files of the published layout, streaming, put in place when closed."""

    def __init__(self, path):
        first = Path(path)
        first.parent.mkdir(parents=True, exist_ok=True)
        self._paths = {part: first.with_name(f"{first.stem}{tail}{first.suffix}") for part, (_, tail, _) in PARTS.items()}
        self._files = {part: open(f"{p}.part", "w", encoding="utf-8") for part, p in self._paths.items()}  # noqa: SIM115
        self._started: set[str] = set()
        self._row: dict = {}

    def add(self, answer: Answer) -> None:
        """Add the next answer; a referral comes right before its identification."""
        item = answer.item
        if item.way == "ref":
            self._row = {"question": item.question, "ref_answer": answer.text, "iden_answer": ""}
            return
        row = self._row | {"iden_answer": answer.text} if item.way == "iden" else {"question": hoiqa_files.untagged(item.question), "answer": answer.text}
        file = self._files[item.part]
        file.write(",\n" if item.part in self._started else "{\n")
        self._started.add(item.part)
        file.write(f"{json.dumps(item.key)}: {json.dumps(row, ensure_ascii=False)}")

    def close(self) -> None:
        """End the files and put them in place."""
        for part, file in self._files.items():
            file.write("\n}\n" if part in self._started else "{}\n")
            file.close()
            os.replace(f"{self._paths[part]}.part", self._paths[part])
