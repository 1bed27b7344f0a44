"""Data sets in, one endless, seeded order out: the same for any number of processes, and open at any position.

Position p of a run (0, 1, 2, ...) names one item of one data set. It is a function of the seed and p alone, so that
processes, data workers and resumed runs agree without telling each other anything.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from egohoi.errors import BadConfig, BadData, BadRecord, EgohoiError
from egohoi.records import Example

if TYPE_CHECKING:
    from egohoi.store import Store

#: Positions in which every data set gets its exact share (up to rounding, which never adds up).
BLOCK = 256


@dataclass(frozen=True)
class SourceConfig:
    """One data set. path: a store (folder of Parquet shards), an official-style JSON list, or Examples as JSON lines.

    images: folder that relative picture paths start from; null: the folder of `path`. ratio: share of the draws, relative
    to the other data sets. types: question types to keep; null: all. limit: the first so many items; null: all.
    """

    path: str
    ratio: float = 1.0
    images: str | None = None
    types: tuple[str, ...] | None = None
    limit: int | None = None

    def __post_init__(self):
        if not 0 < self.ratio < float("inf"):
            raise BadConfig(f"ratio must be above 0, got {self.ratio}")
        if self.limit is not None and self.limit < 1:
            raise BadConfig(f"limit must be 1 or more, got {self.limit}")


@dataclass(frozen=True)
class Subset:
    """Some items of a data set, by index; a mixture of subsets balances what one data set holds unevenly."""

    source: Sequence[Example]
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        return self.source[int(self.indices[index])]


class Mixture:
    """Data sets mixed by ratio. sources: anything with `len` and `[index] -> Example`; ratios: shares, any positive sum.

    Each data set is gone through in a fresh random order, again and again: no item comes twice before all came once.
    """

    def __init__(self, sources: Sequence[Sequence[Example]], ratios: Sequence[float], seed: int, names: Sequence[str] = ()):
        if not sources or len(sources) != len(ratios):
            raise BadConfig("data: name at least one data set, each with its ratio")
        self.sources = list(sources)
        self.names = list(names) or [f"data set {k}" for k in range(len(sources))]
        for name, source in zip(self.names, self.sources):
            if len(source) == 0:
                raise BadData(f"{name}: holds no items that could be trained on")
        self.seed = seed
        self._edges = np.concatenate([[0.0], np.cumsum(np.asarray(ratios, dtype=np.float64)) / float(np.sum(ratios))])
        self._edges[-1] = 1.0
        self._block: tuple[int, np.ndarray, np.ndarray] | None = None
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def place(self, position: int) -> tuple[int, int]:
        """(data set, item index) of a position of the run."""
        block, offset = divmod(position, BLOCK)
        if self._block is None or self._block[0] != block:
            self._block = (block, *self._draw(block))
        source, draw = int(self._block[1][offset]), int(self._block[2][offset])
        size = len(self.sources[source])
        epoch, step = divmod(draw, size)
        order = self._orders.get(source)
        if order is None or order[0] != epoch:
            order = self._orders[source] = (epoch, _rng(self.seed, 1, source, epoch).permutation(size))
        return source, int(order[1][step])

    def _draw(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each position of a block: its data set, and how many draws that data set had before."""
        # draws of all data sets up to k before a block: floor(share · positions), so that every count is exact in the long run
        before = np.floor(self._edges * (block * BLOCK) + 1e-9).astype(np.int64)
        after = np.floor(self._edges * ((block + 1) * BLOCK) + 1e-9).astype(np.int64)
        first, count = np.diff(before), np.diff(after) - np.diff(before)
        sources = _rng(self.seed, 0, block).permutation(np.repeat(np.arange(len(count)), count))
        draws = np.zeros(BLOCK, dtype=np.int64)
        for k in range(len(count)):
            draws[sources == k] = first[k] + np.arange(count[k])
        return sources, draws

    def __getitem__(self, position: int) -> Example:
        source, index = self.place(position)
        return self.sources[source][index]


def _rng(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def mixture(configs: Sequence[SourceConfig], seed: int) -> Mixture:
    """Open all data sets of a configuration. Raises BadData, BadRecord, BadConfig."""
    if not configs:
        raise BadConfig("data: name at least one data set (path, ratio)")
    return Mixture([open_source(c) for c in configs], [c.ratio for c in configs], seed, [c.path for c in configs])


def open_source(config: SourceConfig) -> Sequence[Example]:
    """Open one data set for random access. Raises BadData (missing, another kind), BadRecord (names file and record)."""
    path = Path(config.path)
    if not path.exists():
        raise BadData(f"{path}: no such file or folder: a data set is a store (folder), a JSON list or JSON lines")
    images = Path(config.images) if config.images else (path if path.is_dir() else path.parent)
    if path.is_dir() or path.suffix == ".parquet":
        source: Sequence[Example] = _store(path, images)
    elif path.suffix == ".jsonl":
        source = ExampleLines(path, images)
    elif path.suffix == ".json":
        source = OfficialList(path, images)
    else:
        raise BadData(f"{path}: a data set ends in .json (official list), .jsonl (Examples) or is a folder of Parquet shards")
    if config.types is not None:
        kinds = source.types() if isinstance(source, Rooted) else (example.type for example in source)
        source = Subset(source, np.asarray([k for k, kind in enumerate(kinds) if kind in config.types], dtype=np.int64))
        if not len(source):
            raise BadData(f"{path}: no item is of type {', '.join(config.types)}")
    if config.limit is not None and config.limit < len(source):
        source = Subset(source, np.arange(config.limit))
    return source


def _store(path: Path, images: Path) -> Sequence[Example]:
    from egohoi import store

    return Rooted(store.Store(path), images)


@dataclass(frozen=True)
class Rooted:
    """A store whose relative picture paths start from `images`."""

    source: "Store"
    images: Path

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        import dataclasses

        example = self.source[index]
        return dataclasses.replace(example, image=str(self.images / example.image))

    def types(self):
        """The question type of every item, in order, without decoding anything else."""
        for rows in self.source.tables(["type"]):
            yield from rows.column("type").to_pylist()


class ExampleLines(Sequence):
    """Examples as JSON lines (the fields of `records.Example`), found by byte offset: only 8 bytes a line are held."""

    def __init__(self, path: Path, images: Path):
        self.path, self.images = path, images
        with open(path, "rb") as file:
            place, offsets = 0, []
            for line in file:
                if line.strip():
                    offsets.append(place)
                place += len(line)
        self._offsets = np.asarray(offsets, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> Example:
        with open(self.path, "rb") as file:
            file.seek(int(self._offsets[index]))
            line = file.readline()
        where = f"{self.path}: item {index}"
        try:
            row = json.loads(line)
            return Example(**{**row, "image": str(self.images / row["image"])})
        except EgohoiError as error:
            raise BadRecord(f"{where}: {error}") from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise BadRecord(f"{where}: not an example ({type(error).__name__}: {str(error)[:100]})") from error


class OfficialList(Sequence):
    """A training file of HOI-QA as published: a list of `{id, image | image_path, conversations: [{from, value}, ...]}`.

    `image` is without its extension (.jpg), the first human value starts with `<image>` and a newline; boxes are on the
    0-100 grid. The whole list is held in memory; the store is the way to millions of items. The picture's size stands
    nowhere in the file: the `size` of its examples is (1, 1).
    """

    def __init__(self, path: Path, images: Path):
        self.path, self.images = path, images
        try:
            self._rows = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise BadRecord(f"{path}: not JSON ({str(error)[:80]})") from error
        if not isinstance(self._rows, list):
            raise BadRecord(f"{path}: a training file is a list of conversations, got {type(self._rows).__name__}")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Example:
        where = f"{self.path}: item {index}"
        try:
            row = self._rows[index]
            name = row["image_path"] if "image_path" in row else row["image"] + ("" if Path(row["image"]).suffix else ".jpg")
            turns = row["conversations"]
            if len(turns) % 2 or [turn["from"] for turn in turns] != ["human", "gpt"] * (len(turns) // 2):
                raise BadRecord("a conversation alternates between human and gpt")
            words = [turn["value"].replace("<image>", "").strip() for turn in turns]
            return Example(
                id=str(row.get("id", index)), image=str(self.images / name), size=(1, 1),
                conversation=tuple(zip(words[::2], words[1::2])), source=self.path.stem,
            )
        except EgohoiError as error:
            raise BadRecord(f"{where}: {error}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadRecord(f"{where}: not a conversation ({type(error).__name__}: {str(error)[:100]})") from error


@dataclass(frozen=True)
class Batch:
    """One pass: what the recipe collated, how many items are in it, what was replaced (one line each), and the error
    that stops the run, which a data process cannot raise without burying it in its own traceback."""

    content: object
    items: int
    problems: tuple[str, ...] = ()
    error: EgohoiError | None = None


class _Items:
    """Position -> item of the recipe, for a torch DataLoader."""

    def __init__(self, recipe, data: Mixture, seed: int, broken: str):
        self.recipe, self.data, self.seed, self.broken = recipe, data, seed, broken

    def __getitem__(self, position: int):
        source, index = self.data.place(position)
        items, problems = self.data.sources[source], []
        for step in range(8):
            number = (index + step) % len(items)
            try:
                return self.recipe.item(items[number], _rng(self.seed, 2, position)), problems
            except EgohoiError as error:
                problems.append(f"{self.data.names[source]}: item {number}: {error}")
                if self.broken == "stop":
                    return BadData(f"{problems[0]} (loop.broken=replace goes on with the next item)"), problems
        return BadData(f"8 items in a row cannot be read; the last: {problems[-1]}"), problems

    def collate(self, drawn: list) -> Batch:
        problems = tuple(problem for _, found in drawn for problem in found)
        error = next((item for item, _ in drawn if isinstance(item, EgohoiError)), None)
        content = None if error else self.recipe.collate([item for item, _ in drawn])
        return Batch(content, len(drawn), problems, error)


@dataclass(frozen=True)
class Passes:
    """Positions of every pass of one process for the optimizer steps `steps`, in order.

    Step s holds positions [s·batch, (s+1)·batch); its m-th cut of `micro` positions belongs to process m mod processes.
    """

    steps: range
    batch: int
    micro: int
    process: int = 0
    processes: int = 1

    def __len__(self) -> int:
        return len(self.steps) * len(range(self.process, self.batch // self.micro, self.processes))

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            for cut in range(self.process, self.batch // self.micro, self.processes):
                first = step * self.batch + cut * self.micro
                yield list(range(first, first + self.micro))


def loader(recipe, data: Mixture, order: Passes, *, seed: int, broken: str, workers: int):
    """A torch DataLoader over `order` that yields a Batch for each pass. workers: processes that read."""
    import torch

    items = _Items(recipe, data, seed, broken)
    return torch.utils.data.DataLoader(
        items, batch_sampler=order, collate_fn=items.collate, num_workers=workers,
        # its own generator: iterating must not draw from the global random numbers
        generator=torch.Generator().manual_seed(seed), persistent_workers=False, prefetch_factor=4 if workers else None,
    )
