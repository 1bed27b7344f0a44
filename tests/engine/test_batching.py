import numpy as np
import pytest

from egohoi.engine.batching import Recent, batches, digest
from egohoi.images import Picture


def test_batches_keep_equal_keys_together_and_lose_nothing():
    made = list(batches(["a", "b", "a", "c", "b"], 2))
    assert made == [[0, 2], [1, 4], [3]]
    assert list(batches([], 4)) == []


def test_recent_makes_only_what_is_missing_and_forgets_the_oldest():
    asked = []

    def make(keys):
        asked.append(list(keys))
        return [k.upper() for k in keys]

    table = Recent(2)
    assert table.get_many(["a", "b", "a"], make) == ["A", "B", "A"]
    assert table.get_many(["b", "c"], make) == ["B", "C"]
    assert asked == [["a", "b"], ["c"]] and "a" not in table and len(table) == 2
    assert table.get_many(["a", "b", "c"], make) == ["A", "B", "C"]  # more than it keeps
    assert len(table) == 2
    with pytest.raises(ValueError):
        table.get_many(["x"], lambda keys: [])


def test_digest_tells_pixels_and_shapes_apart():
    flat = np.zeros((2, 6, 3), np.uint8)
    assert digest(Picture("a", flat)) == digest(Picture("b", flat.copy()))
    assert digest(Picture("a", flat)) != digest(Picture("a", flat.reshape(6, 2, 3)))
    assert digest(Picture("a", flat)) != digest(Picture("a", flat + 1))
