import hashlib
import itertools
import json
import pickle
import random

import pytest

from egohoi import store
from egohoi.errors import BadData, BadRecord
from egohoi.records import Example

pa = pytest.importorskip("pyarrow")


def make(count, seed=0):
    rng = random.Random(seed)
    for k in range(count):
        turns = tuple((f"Where is the thing {j}?", f"{{<{rng.randrange(30)}><2><30><40>}}") for j in range(rng.randrange(1, 4)))
        yield Example(
            id=f"e{k:06d}", image=f"P01_{k % 7:02d}/frame_{k:010d}.jpg", size=(1920, 1080), conversation=turns, type=f"Q{k % 8 + 1}",
            source="visor", targets=({"name": "Käse", "box": [rng.random() * 100, 1.0, 200.5, 300.25]},) if k % 3 else (),
            extra={"side": "left", "n": [k, None]} if k % 2 else {},
        )


def plain(example):
    """An example as JSON values: what a store promises to give back."""
    return json.loads(json.dumps([getattr(example, f) for f in example.__dataclass_fields__]))


def digest(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_what_is_written_is_read(tmp_path):
    examples = list(make(1700))
    assert store.write(tmp_path, examples, shard_rows=700) == 1700
    opened = store.Store(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index.json", *(store.shard_name(k) for k in range(3))]
    assert len(opened) == 1700
    assert [plain(e) for e in opened] == [plain(e) for e in examples]
    order = random.Random(3).choices(range(1700), k=500)
    assert [e.id for e in opened.take(order)] == [examples[k].id for k in order]
    for k in (0, 511, 512, 699, 700, 1399, 1400, 1699):
        assert plain(opened[k]) == plain(examples[k])
    assert opened[-1].id == examples[-1].id and [e.id for e in opened[698:702]] == [e.id for e in examples[698:702]]
    for wrong in (1700, -1701):
        with pytest.raises(IndexError):
            opened[wrong]


@pytest.mark.parametrize("memory_map", [False, True])
def test_a_store_travels_to_other_processes(tmp_path, memory_map):
    store.write(tmp_path, make(50))
    opened = store.Store(tmp_path, memory_map=memory_map)
    assert opened[7].id == "e000007"
    copy = pickle.loads(pickle.dumps(opened))
    assert copy[7] == opened[7] and len(copy) == 50


def test_without_index_and_as_one_file(tmp_path):
    store.write(tmp_path, make(30), shard_rows=20)
    (tmp_path / "index.json").unlink()
    assert [e.id for e in store.Store(tmp_path)] == [e.id for e in make(30)]
    assert len(store.Store(tmp_path / "shard-00001.parquet")) == 10


def test_empty_store(tmp_path):
    assert store.write(tmp_path, []) == 0
    assert len(store.Store(tmp_path)) == 0 and list(store.Store(tmp_path)) == []


def test_interrupted_writing_goes_on_to_the_same_bytes(tmp_path):
    store.write(tmp_path / "whole", make(250), shard_rows=100)

    def breaking():
        yield from itertools.islice(make(250), 130)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        store.write(tmp_path / "cut", breaking(), shard_rows=100)
    assert [p.name for p in (tmp_path / "cut").iterdir()] == [store.shard_name(0)]
    written = (tmp_path / "cut" / store.shard_name(0)).stat().st_mtime_ns
    store.write(tmp_path / "cut", make(250), shard_rows=100)
    assert (tmp_path / "cut" / store.shard_name(0)).stat().st_mtime_ns == written
    assert digest(tmp_path / "cut") == digest(tmp_path / "whole")
    store.write(tmp_path / "cut", make(40, seed=1), shard_rows=100, resume=False)
    assert len(store.Store(tmp_path / "cut")) == 40


def test_tables_of_any_size_give_the_same_bytes(tmp_path):
    examples = list(make(1300))
    with store.ShardWriter(tmp_path / "a.parquet") as shard:
        for example in examples:
            shard.add(example)
    with store.ShardWriter(tmp_path / "b.parquet") as shard:
        for start in range(0, 1300, 77):
            shard.add_table(store.table(examples[start:start + 77]))
    assert shard.rows == 1300
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_bad_stores(tmp_path):
    with pytest.raises(BadData, match="no Parquet shard"):
        store.Store(tmp_path)
    store.write(tmp_path / "s", make(300), shard_rows=100)
    shard = tmp_path / "s" / store.shard_name(1)
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    assert store.Store(tmp_path / "s")[5].id == "e000005"
    with pytest.raises(BadData, match="shard-00001.parquet"):
        store.Store(tmp_path / "s")[150]
    shard.unlink()
    with pytest.raises(BadData, match="missing"):
        store.Store(tmp_path / "s")[150]
    shard.write_bytes((tmp_path / "s" / store.shard_name(0)).read_bytes())
    index = tmp_path / "s" / "index.json"
    index.write_text(index.read_text().replace('"rows": 100', '"rows": 99', 1))
    with pytest.raises(BadData, match="index.json says 99"):
        store.Store(tmp_path / "s")[0]
    for text in ("[]", '{"shards": [{"name": "../x", "rows": 1}]}', '{"shards": [{"name": "x", "rows": -1}]}', "{" * 100):
        index.write_text(text)
        with pytest.raises(BadData, match="not an index"):
            store.Store(tmp_path / "s")
    with pytest.raises(BadData, match="more examples than"):
        store.write(tmp_path / "s2", make(200), shard_rows=100) and store.write(tmp_path / "s2", make(150), shard_rows=100)


def test_rows_that_are_no_examples(tmp_path):
    from pyarrow import parquet

    rows = store.table(list(make(3)))
    column = rows.schema.get_field_index("extra")
    parquet.write_table(rows.set_column(column, "extra", pa.array(["{}", "{broken", "{}"])), tmp_path / "x.parquet")
    opened = store.Store(tmp_path / "x.parquet")
    assert opened[0].id == "e000000"
    with pytest.raises(BadRecord, match="x.parquet.*e000001"):
        opened[1]
    parquet.write_table(pa.table({"a": [1]}), tmp_path / "y.parquet")
    with pytest.raises(BadData, match="no column 'id'"):
        store.Store(tmp_path / "y.parquet")[0]


def test_hugging_face_datasets_loads_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    store.write(tmp_path / "s", make(120), shard_rows=50)
    loaded = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "s" / "*.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(loaded) == 120
    first = next(make(1))
    assert [(t["question"], t["answer"]) for t in loaded[0]["conversation"]] == list(first.conversation)
