"""What an evaluation on Ego-IRGBench asks: every query of every entry of a split, and the truth of a frame."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from egohoi import masks
from egohoi.errors import BadConfig
from egohoi.questions import irg as wording
from egohoi.scenes import irgbench
from egohoi.scenes.irgbench import Item


@dataclass
class Plan:
    """queries: `FRAME/ENTRY/QUESTION` -> the query, in the order of the data. sizes, of_frame: frame -> (width, height), its ids."""

    folder: Path
    split: str
    queries: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    of_frame: dict[str, list[str]] = field(default_factory=dict)
    _named: tuple[str, dict[str, list[str]]] = ("", {})

    def find(self, frame: str, query: str) -> list[str]:
        """Ids of the items of a frame with that wording."""
        if self._named[0] != frame:  # of one frame only: who asks goes through them one after the other
            self._named = (frame, {})
            for name in self.of_frame.get(frame, ()):
                self._named[1].setdefault(plain(self.queries[name]), []).append(name)
        return self._named[1].get(plain(query), [])


@dataclass(frozen=True)
class Truth:
    """One item. masks: of its targets, in order; places: of each in masks_idx, where a 0 in front leaves a place free.

    answer: the names joined; sentence: the data's own. published: answer and caption as the released loader of ANNEXE hands them to
    its measures.
    """

    id: str
    query: str
    item: Item
    masks: tuple[dict, ...]
    places: tuple[int, ...]
    answer: str
    sentence: str
    published: tuple[str, str]

    @property
    def named(self) -> list[tuple[str, dict]]:
        return list(zip(self.item.names, self.masks))

    @property
    def placed(self) -> list[dict | None]:
        """The masks in their places, None where a place is free."""
        held = dict(zip(self.places, self.masks))
        return [held.get(k) for k in range(max(held, default=-1) + 1)]


def plain(text: str) -> str:
    """A query as it is compared: one space between words."""
    return " ".join(text.split())


def frame_of(name: str) -> str:
    """The frame of an item's id."""
    return name.rsplit("/", 2)[0]


def plan(folder, split: str = "test", *, limit: int | None = None, queries: int | None = None) -> Plan:
    """Everything that is asked. limit: only the first frames; queries: only the first wordings of each entry. Raises BadData, BadRecord."""
    out, wordings = Plan(Path(folder), split), {}
    for frame in irgbench.frames(folder, split)[:limit]:
        held = out.of_frame[frame] = []
        for item in irgbench.read_frame(folder, split, frame, depth=False):
            out.sizes[frame] = item.size
            for question in item.questions[:queries]:
                held.append(f"{item.id}/{question.id}")
                out.queries[held[-1]] = wordings.setdefault(question.query, question.query)  # wordings repeat: each is kept once
    if not out.queries:
        raise BadConfig(f"{folder}: split '{split}' asks nothing")
    return out


def truths(plan: Plan, frame: str) -> Iterator[Truth]:
    """The items of a frame that the plan asks, in order. Raises BadData, BadRecord."""
    items = irgbench.read_frame(plan.folder, plan.split, frame, depth=False)
    index = irgbench.index_image(items[0])
    held: dict[int, dict] = {}
    rows = json.loads((plan.folder / "dataset_split" / plan.split / f"{frame}.json").read_text(encoding="utf-8"))
    for item, row in zip(items, rows, strict=True):
        irgbench.target_masks(item, index)
        for target in item.targets:
            if target.value not in held:
                held[target.value] = masks.from_index(index, target.value)
        for question in item.questions:
            name = f"{item.id}/{question.id}"
            if name in plan.queries:
                yield Truth(
                    name, question.query, item, tuple(held[t.value] for t in item.targets), tuple(k for k, v in enumerate(row["masks_idx"]) if v),
                    wording.answer_text(item, "names"), wording.answer_text(item, "published"),
                    (published_answer(row["tokens"]), published_caption(row["caption"])),
                )  # fmt: skip


def published_answer(tokens: list[str]) -> str:
    """The answer that the released loader expects: the names joined, "" where there is no target."""
    return " and ".join([*tokens[:1], *(t for t in tokens[1:4] if t != "")])


def published_caption(text: str) -> str:
    """An analysis as the released loader prepares it: lower case, without some punctuation, at most 50 words."""
    text = re.sub(r"\s{2,}", " ", re.sub(r"([.!\"()*#:;~])", " ", text.lower())).rstrip("\n").strip(" ")
    return " ".join(text.split(" ")[:50])
