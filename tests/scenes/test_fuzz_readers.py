"""A quick slice of benchmarks/fuzz_readers.py, and proof that its checks can fail."""

import random
import runpy
from pathlib import Path

import pytest

FUZZ = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "fuzz_readers.py"), run_name="fuzz_readers")


@pytest.mark.parametrize("name", sorted({t.name for t in FUZZ["targets"]()}))
def test_mutated_files_give_only_our_errors(name):
    outcome = FUZZ["run"](60, seed=11, reader=name)
    assert outcome.failures == []
    assert sum(outcome.ended.values()) == 60
    assert outcome.ended[name, "error"] > 0  # the mutations do break files


def test_mutation_is_the_same_for_the_same_seed():
    for target in FUZZ["targets"]()[:4]:
        data = b'{"video_annotations": [{"a": 1}], "x": [1, 2]}'
        assert target.mutate(data, random.Random("5/1")) == target.mutate(data, random.Random("5/1"))


@pytest.mark.parametrize(
    "read, failure",
    [
        (lambda folder, on_error: iter([1 / 0]), "ZeroDivisionError"),
        (lambda folder, on_error: iter(int, 1), "took too long"),
        (lambda folder, on_error: iter([bytearray(b"x") * (150 << 20)]), "took 15"),
        (lambda folder, on_error: _raise("something is wrong"), "names no file"),
        (lambda folder, on_error: _raise("P01_01.json: is odd"), "names no record"),
        (lambda folder, on_error: _raise("P01_01.json: picture 1: two\nlines"), "is not one line"),
    ],
)
def test_the_checks_notice(monkeypatch, read, failure):
    target = FUZZ["Target"]("visor", "visor/P01_01.json", FUZZ["mutated_json"], read, False)
    monkeypatch.setitem(FUZZ["run"].__globals__, "targets", lambda: [target])
    outcome = FUZZ["run"](1, seconds=2.0, megabytes=100)
    assert any(failure in f for f in outcome.failures), outcome.failures


def _raise(message):
    from egohoi.errors import BadRecord

    raise BadRecord(message)
