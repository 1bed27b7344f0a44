"""Data sets, their mixture, and the order of a run: a function of seed and position alone."""

import json
from collections import Counter

import numpy as np
import pytest

from egohoi.errors import BadConfig, BadData, BadRecord
from egohoi.records import Example
from egohoi.training import data
from egohoi.training.data import Mixture, Passes, SourceConfig


def examples(name, count):
    return [Example(f"{name}{k}", f"{k}.jpg", (10, 10), ((f"q{k}", f"a{k}"),), type=f"Q{k % 2 + 1}", source=name) for k in range(count)]


def test_ratios_are_exact_and_every_item_comes_before_any_comes_again():
    mixture = Mixture([examples("a", 30), examples("b", 7)], [3, 1], seed=5)
    drawn = [mixture[p].id for p in range(4 * 256)]
    assert Counter(name[0] for name in drawn) == {"a": 768, "b": 256}
    for name, size in (("a", 30), ("b", 7)):
        own = [d for d in drawn if d[0] == name]
        for epoch in range(len(own) // size):
            assert len(set(own[epoch * size : (epoch + 1) * size])) == size
        assert own[:size] != own[size : 2 * size]
    shares = Counter(mixture.place(p)[0] for p in range(256 * 5, 256 * 6))
    assert shares == {0: 192, 1: 64}


def test_the_order_depends_on_seed_and_position_alone():
    def order(seed, positions):
        mixture = Mixture([examples("a", 11), examples("b", 5)], [2, 1], seed)
        return {p: mixture[p].id for p in positions}

    whole = order(1, range(700))
    assert order(1, [699, 3, 300, 0, 512]) == {p: whole[p] for p in (699, 3, 300, 0, 512)}
    assert order(2, range(700)) != whole


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_share_each_step_among_them(processes):
    runs = [list(Passes(range(2, 5), 8, 2, k, processes)) for k in range(processes)]
    assert [len(Passes(range(2, 5), 8, 2, k, processes)) for k in range(processes)] == [len(r) for r in runs]
    for step in range(3):
        per = 4 // processes
        seen = sorted(p for run in runs for cut in run[step * per : (step + 1) * per] for p in cut)
        assert seen == list(range((step + 2) * 8, (step + 3) * 8))
    assert runs[-1][0] == [16 + 2 * (processes - 1), 17 + 2 * (processes - 1)]


def lines(path, items):
    rows = [{"id": e.id, "image": e.image, "size": e.size, "conversation": e.conversation, "type": e.type} for e in items]
    path.write_text("".join(json.dumps(row) + "\n\n" for row in rows))


def test_the_three_kinds_of_data_sets_give_the_same_conversations(tmp_path):
    pytest.importorskip("pyarrow")
    from egohoi import store

    items = examples("a", 5)
    store.write(tmp_path / "store", items)
    lines(tmp_path / "x.jsonl", items)
    official = [{"id": e.id, "image": f"{k}", "conversations": [
        {"from": "human", "value": f"<image>\n{e.conversation[0][0]}"}, {"from": "gpt", "value": e.conversation[0][1]}]}
        for k, e in enumerate(items)]
    official[4]["image_path"] = official[4].pop("image") + ".jpg"
    (tmp_path / "x.json").write_text(json.dumps(official))
    for name in ("store", "x.jsonl", "x.json"):
        source = data.open_source(SourceConfig(str(tmp_path / name), images="frames"))
        assert [(e.id, e.image, e.conversation) for e in source] == [(e.id, f"frames/{e.image}", e.conversation) for e in items]
        beside = data.open_source(SourceConfig(str(tmp_path / name)))[0].image
        assert beside == str(tmp_path / ("store/0.jpg" if name == "store" else "0.jpg"))
        assert len(data.open_source(SourceConfig(str(tmp_path / name), limit=2))) == 2
    for name in ("store", "x.jsonl"):
        kept = data.open_source(SourceConfig(str(tmp_path / name), types=("Q2",)))
        assert [kept[k].id for k in range(len(kept))] == ["a1", "a3"]
        with pytest.raises(BadData, match="no item is of type Q9"):
            data.open_source(SourceConfig(str(tmp_path / name), types=("Q9",)))


def test_broken_data_sets_name_file_and_item(tmp_path):
    lines(tmp_path / "x.jsonl", examples("a", 2))
    with open(tmp_path / "x.jsonl", "a") as file:
        file.write('{"id": "b"}\n{"id": "", "image": "x", "size": [1, 1], "conversation": [["a", "b"]]}\n[]\n')
    source = data.open_source(SourceConfig(str(tmp_path / "x.jsonl")))
    for k in (2, 3, 4):
        with pytest.raises(BadRecord, match=f"x.jsonl: item {k}"):
            source[k]
    turn, reply = {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}
    (tmp_path / "x.json").write_text(json.dumps([{"image": "a", "conversations": c} for c in ([turn], [reply, turn], [turn, {}], 3)]))
    source = data.open_source(SourceConfig(str(tmp_path / "x.json")))
    for k in range(4):
        with pytest.raises(BadRecord, match=f"x.json: item {k}"):
            source[k]
    (tmp_path / "y.json").write_text("{}")
    (tmp_path / "z.txt").write_text("")
    for name, kind, message in (("nowhere", BadData, "no such file"), ("z.txt", BadData, "ends in .json"), ("y.json", BadRecord, "is a list")):
        with pytest.raises(kind, match=message):
            data.open_source(SourceConfig(str(tmp_path / name)))
    with pytest.raises(BadData, match="holds no items"):
        Mixture([[]], [1], 0, ["empty"])
    for values in ({"ratio": 0}, {"limit": 0}):
        with pytest.raises(BadConfig):
            SourceConfig("x", **values)
    with pytest.raises(BadConfig, match="at least one data set"):
        data.mixture((), 0)


def test_a_subset_balances_what_one_source_holds_unevenly():
    items = examples("a", 10)
    rare = data.Subset(items, np.array([9]))
    mixture = Mixture([data.Subset(items, np.arange(9)), rare], [1, 1], 0)
    assert Counter(mixture[p].id == "a9" for p in range(256)) == {True: 128, False: 128}
