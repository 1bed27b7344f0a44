"""Examples on disk: Parquet shards with random access that never reads more than a small group of rows.

A store is a folder of `*.parquet` shards in the order of their names (a single file is a store too), with an optional
`index.json` that holds the rows of each shard, so that opening touches no shard. `datasets.load_dataset("parquet", ...)`
of Hugging Face reads the shards as they are.

Columns: id, image, width, height, conversation (list of {question, answer}), type, source, codec, and `targets` and `extra`
as JSON text, because their values differ from source to source.
"""

import bisect
import json
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from egohoi.errors import BadData, BadRecord, EgohoiError, need
from egohoi.records import Example

#: Rows that one random draw decodes. Smaller groups make a draw cheaper and the footer longer.
GROUP_ROWS = 512
#: Rows of one shard file.
SHARD_ROWS = 100_000
INDEX = "index.json"
#: Decoded groups that a store keeps, so that neighbours of a drawn row cost nothing.
KEPT_GROUPS = 16
_COLUMNS = ("id", "image", "width", "height", "conversation", "type", "source", "codec", "targets", "extra")


def schema():
    """The Arrow schema of a shard."""
    pa = need("pyarrow", "data")
    turn = pa.struct([pa.field("question", pa.string()), pa.field("answer", pa.string())])
    return pa.schema([
        ("id", pa.string()), ("image", pa.string()), ("width", pa.int32()), ("height", pa.int32()),
        ("conversation", pa.list_(turn)), ("type", pa.string()), ("source", pa.string()), ("codec", pa.string()),
        ("targets", pa.string()), ("extra", pa.string()),
    ])


def table(examples: Sequence[Example]):
    """An Arrow table of examples, one row each."""
    pa = need("pyarrow", "data")
    dumps = json.JSONEncoder(ensure_ascii=False).encode  # one for all rows: `json.dumps` with options makes one a call
    columns = [
        [e.id for e in examples], [e.image for e in examples], [e.size[0] for e in examples], [e.size[1] for e in examples],
        _conversations(examples), [e.type for e in examples], [e.source for e in examples], [e.codec for e in examples],
        [dumps(e.targets) if e.targets else "[]" for e in examples],
        [dumps(e.extra) if e.extra else "{}" for e in examples],
    ]
    fields = schema()
    arrays = [c if isinstance(c, pa.Array) else pa.array(c, type=f.type) for c, f in zip(columns, fields)]
    return pa.Table.from_arrays(arrays, schema=fields)


def _conversations(examples):
    """list<struct> built from flat columns: several times quicker than from a dict a turn."""
    pa = need("pyarrow", "data")
    offsets, questions, answers = [0], [], []
    for example in examples:
        for question, answer in example.conversation:
            questions.append(question)
            answers.append(answer)
        offsets.append(len(questions))
    turns = pa.StructArray.from_arrays([pa.array(questions, pa.string()), pa.array(answers, pa.string())], ["question", "answer"])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), turns)


class ShardWriter:
    """Writes one shard; the file appears under its name, whole, when `close` ends, and never before.

    path: the shard. part: where it grows until then (default: beside it). The same examples give the same bytes.
    Use as a context manager: an exception leaves no shard.
    """

    def __init__(self, path, *, part=None, group_rows: int = GROUP_ROWS):
        self.path = Path(path)
        self.part = Path(part) if part is not None else self.path.with_name(self.path.name + ".part")
        self.rows = 0
        self._group_rows = group_rows
        self._waiting: list[Example] = []
        self._rest = None
        self._file = None

    def add(self, example: Example) -> None:
        self._waiting.append(example)
        # Many groups a flush: building columns has a fixed cost, and 16 groups are still only a few megabytes.
        if len(self._waiting) >= 16 * self._group_rows:
            self._flush()

    def _flush(self) -> None:
        self._write(table(self._waiting))
        self._waiting = []

    def add_table(self, rows) -> None:
        """Append rows of an Arrow table with the columns of a store; groups stay full whatever the sizes of the tables."""
        if self._waiting:
            self._flush()
        rows = rows.select(list(_COLUMNS))
        self._write(rows if rows.schema == schema() else rows.cast(schema()))

    def _write(self, rows) -> None:
        if self._rest is not None:
            rows = need("pyarrow", "data").concat_tables([self._rest, rows])
        full = rows.num_rows // self._group_rows * self._group_rows
        self._rest = rows.slice(full)
        if full:
            self._open().write_table(rows.slice(0, full), row_group_size=self._group_rows)
        self.rows += full

    def _open(self):
        if self._file is None:
            parquet = need("pyarrow.parquet", "data")
            self.part.parent.mkdir(parents=True, exist_ok=True)
            # No statistics and no page index: nobody filters a conversation by its smallest letter, and they would be most
            # of the footer, which every opening has to parse.
            self._file = parquet.ParquetWriter(
                self.part, schema(), compression="zstd", compression_level=3, write_statistics=False, store_schema=False,
                use_dictionary=["type", "source", "codec", "width", "height"],
            )
        return self._file

    def close(self) -> int:
        """Finish the shard and put it in its place. Returns its rows."""
        if self._waiting:
            self._flush()
        if self._rest is not None and self._rest.num_rows:
            self._open().write_table(self._rest, row_group_size=self._group_rows)
            self.rows += self._rest.num_rows
        self._rest = None
        self._open().close()
        settle(self.part, self.path)
        return self.rows

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            self.close()
        else:
            if self._file is not None:
                self._file.close()
            self.part.unlink(missing_ok=True)


def settle(part, path) -> None:
    """Put the finished file `part` in the place of `path`, on the disk before it takes the name."""
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    os.replace(part, path)


def write_index(folder) -> dict:
    """Write `index.json` of the shards in `folder`: {"shards": [{"name", "rows"}, ...], "rows"}. Returns it."""
    folder = Path(folder)
    shards = [{"name": p.name, "rows": _rows(p)} for p in sorted(folder.glob("*.parquet"))]
    index = {"shards": shards, "rows": sum(s["rows"] for s in shards)}
    part = folder / (INDEX + ".part")
    part.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    settle(part, folder / INDEX)
    return index


def write(folder, examples: Iterable[Example], *, shard_rows: int = SHARD_ROWS, resume: bool = True) -> int:
    """Write examples as a store, shard after shard. Returns the number of examples in it.

    resume: whole shards that are there already are kept and as many examples skipped, so the same iterable, given again
    after an interruption, completes the store with the same bytes. Raises BadData if the shards there have another size.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).unlink(missing_ok=True)
    there = sorted(folder.glob("*.parquet"))
    if not resume:
        for shard in there:
            shard.unlink()
        there = []
    whole = 0
    for number, shard in enumerate(there):
        rows = _rows(shard)
        if shard.name != shard_name(number) or rows > shard_rows:
            raise BadData(f"{shard}: is not shard {number} of {shard_rows} rows: give an empty folder, or write without resuming")
        if rows < shard_rows:  # the last shard of an earlier, shorter run: it is written anew
            for later in there[number:]:
                later.unlink()
            break
        whole += 1
    done = whole * shard_rows
    source, number, count = iter(examples), whole, 0
    for _ in range(done):
        if next(source, None) is None:
            raise BadData(f"{folder}: holds more examples than are given now: give an empty folder, or write without resuming")
    count = done
    example = next(source, None)
    while example is not None or number == 0:
        with ShardWriter(folder / shard_name(number)) as shard:
            taken = 0
            while example is not None and taken < shard_rows:
                shard.add(example)
                taken += 1
                example = next(source, None)
        count, number = count + taken, number + 1
    write_index(folder)
    return count


def shard_name(number: int) -> str:
    """File name of the shard of that number, from 0."""
    return f"shard-{number:05d}.parquet"


def _rows(path: Path) -> int:
    return _parquet(path).metadata.num_rows


def _parquet(path: Path, memory_map: bool = False):
    parquet, pa = need("pyarrow.parquet", "data"), need("pyarrow", "data")
    try:
        return parquet.ParquetFile(path, memory_map=memory_map)
    except (pa.ArrowException, OSError) as error:
        raise BadData(f"{path}: not a whole Parquet file ({str(error).splitlines()[0][:100]}): write it again") from error


class Store(Sequence):
    """A store, opened for reading: a sequence of Examples. Safe to hand to other processes (each opens its own files).

    data: folder of shards, or one shard. memory_map: map the shards instead of reading the groups out of them; as groups are
    compressed it saves no copy, and pages that were touched count as memory of the process until the system takes them back.
    Nothing but `index.json` is read until the first item is drawn.
    Raises BadData (nothing there, a broken shard), BadRecord (a row that is no example).
    """

    def __init__(self, data, *, memory_map: bool = False):
        self.path, self._map = Path(data), memory_map
        if self.path.is_file():
            self._shards, rows = [self.path], [_rows(self.path)]
        else:
            index = self.path / INDEX
            if index.is_file():
                self._shards, rows = _from_index(index)
            else:
                self._shards = sorted(self.path.glob("*.parquet"))
                if not self._shards:
                    raise BadData(f"{data}: no Parquet shard there: give a store, for example the folder 'train' of a build")
                rows = [_rows(p) for p in self._shards]
        self._ends = []
        for count in rows:
            self._ends.append((self._ends[-1] if self._ends else 0) + count)
        self._reset()

    def _reset(self) -> None:
        self._files: dict[int, tuple] = {}
        self._groups: OrderedDict[tuple[int, int], tuple] = OrderedDict()

    def __getstate__(self) -> dict:
        return {"path": self.path, "_map": self._map, "_shards": self._shards, "_ends": self._ends}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._reset()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.take(range(*index.indices(len(self))))
        shard, group, row = self._locate(self._positive(index))
        return self._example(self._group(shard, group), row)

    def take(self, indices: Iterable[int]) -> list[Example]:
        """The examples at `indices`, in their order; each group of rows is decoded once, however often it is hit."""
        wanted = [self._positive(i) for i in indices]
        found: list = [None] * len(wanted)
        last, columns = None, None
        for place in sorted(range(len(wanted)), key=wanted.__getitem__):
            shard, group, row = self._locate(wanted[place])
            if (shard, group) != last:
                last, columns = (shard, group), self._group(shard, group)
            found[place] = self._example(columns, row)
        return found

    def __iter__(self) -> Iterator[Example]:
        for shard in range(len(self._shards)):
            file, ends = self._file(shard)
            for group in range(len(ends)):
                columns = self._decode(file, shard, group)
                for row in range(len(columns[0][0])):
                    yield self._example(columns, row)

    def tables(self, columns: Sequence[str] | None = None):
        """The store as Arrow record batches, streaming; columns: their names, None for all."""
        for shard in range(len(self._shards)):
            yield from self._file(shard)[0].iter_batches(batch_size=8192, columns=list(columns) if columns else None)

    def _positive(self, index: int) -> int:
        number = int(index)
        if number < 0:
            number += len(self)
        if not 0 <= number < len(self):
            raise IndexError(f"{self.path}: example {index} of {len(self)}")
        return number

    def _locate(self, index: int) -> tuple[int, int, int]:
        shard = bisect.bisect_right(self._ends, index)
        row = index - (self._ends[shard - 1] if shard else 0)
        ends = self._file(shard)[1]
        group = bisect.bisect_right(ends, row)
        return shard, group, row - (ends[group - 1] if group else 0)

    def _file(self, shard: int):
        if shard not in self._files:
            path = self._shards[shard]
            if not path.is_file():
                raise BadData(f"{path}: is missing, though {INDEX} names it: copy the whole folder again")
            file = _parquet(path, self._map)
            missing = [c for c in _COLUMNS if c not in file.schema_arrow.names]
            if missing:
                raise BadData(f"{path}: no column '{missing[0]}': not a shard of examples")
            meta, ends = file.metadata, []
            for group in range(meta.num_row_groups):
                ends.append((ends[-1] if ends else 0) + meta.row_group(group).num_rows)
            expected = self._ends[shard] - (self._ends[shard - 1] if shard else 0)
            if (ends[-1] if ends else 0) != expected:
                raise BadData(f"{path}: holds {ends[-1] if ends else 0} rows, {INDEX} says {expected}: delete {INDEX}")
            self._files[shard] = file, ends
        return self._files[shard]

    def _group(self, shard: int, group: int):
        key = shard, group
        if key in self._groups:
            self._groups.move_to_end(key)
            return self._groups[key]
        columns = self._decode(self._file(shard)[0], shard, group)
        self._groups[key] = columns
        if len(self._groups) > KEPT_GROUPS:
            self._groups.popitem(last=False)
        return columns

    def _decode(self, file, shard: int, group: int):
        pa = need("pyarrow", "data")
        try:
            # One thread: a group is too small to share out, and waking threads would cost more than decoding it.
            rows = file.read_row_group(group, columns=list(_COLUMNS), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise BadData(f"{self._shards[shard]}: rows cannot be read ({str(error).splitlines()[0][:100]})") from error
        return [rows.column(name).combine_chunks() for name in _COLUMNS], shard

    def _example(self, group, row: int) -> Example:
        columns, shard = group
        values = [column[row].as_py() for column in columns]
        name, image, width, height, turns, kind, source, codec, targets, extra = values
        try:
            return Example(
                id=name, image=image, size=(width, height), conversation=tuple((t["question"], t["answer"]) for t in turns),
                type=kind, source=source, codec=codec, targets=tuple(json.loads(targets)) if targets != "[]" else (),
                extra=json.loads(extra) if extra != "{}" else {},
            )
        except (EgohoiError, TypeError, ValueError, RecursionError) as error:
            raise BadRecord(f"{self._shards[shard]}: example '{name}': {error}") from error


def _from_index(index: Path) -> tuple[list[Path], list[int]]:
    try:
        shards = json.loads(index.read_text(encoding="utf-8"))["shards"]
        names, rows = [str(s["name"]) for s in shards], [int(s["rows"]) for s in shards]
        if any(n != Path(n).name for n in names) or any(r < 0 for r in rows):
            raise ValueError("a shard is named by its file name and has a number of rows")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadData(f"{index}: not an index of shards ({str(error)[:80]}): delete it") from error
    return [index.parent / n for n in names], rows
