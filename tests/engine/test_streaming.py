import threading

import pytest
import torch

from egohoi.engine.streaming import TextStreamer, stream


def test_pieces_come_before_the_value():
    def work(emit, stopped):
        emit("a")
        emit("b")
        return 7

    assert list(stream(work)) == ["a", "b", 7]


def test_an_error_of_the_work_reaches_the_reader():
    def work(emit, stopped):
        emit("a")
        raise KeyError("gone")

    read = stream(work)
    assert next(read) == "a"
    with pytest.raises(KeyError, match="gone"):
        next(read)


def test_closing_stops_the_work():
    ended = threading.Event()

    def work(emit, stopped):
        emit("a")
        while not stopped():
            emit("b")
        ended.set()

    read = stream(work)
    assert next(read) == "a"
    read.close()
    assert ended.is_set()


def test_bytes_of_a_character_come_out_together():
    table = {1: b"a", 2: b"\xc3", 3: b"\xa9", 4: b"b"}
    out = []
    streamer = TextStreamer(lambda ids: b"".join(table[i] for i in ids).decode(errors="replace"), out.append, lambda i: i in (2, 3))
    streamer.put(torch.zeros(1, 0, dtype=torch.long))
    for number in (1, 2, 3, 4, 3):
        streamer.put(torch.tensor([number]))
    streamer.end()
    assert out == ["a", "éb", "\ufffd"]
