"""Text as it is written: a model's generate runs in a thread of its own, pieces come out of an iterator."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any


class TextStreamer:
    """What `transformers`' generate calls with each new token (`put`) and at the end (`end`).

    decode: token ids -> text. partial: whether a token is one byte, whose character may need the tokens after it.
    Pieces are handed to `emit` as soon as they are whole characters; unlike the library's own streamer, which waits for
    a space, so that a box `{<1><2><3><4>}` appears number by number.
    """

    def __init__(
        self, decode: Callable[[Sequence[int]], str], emit: Callable[[str], None], partial: Callable[[int], bool] = lambda _: False
    ):
        self._decode, self._emit, self._partial = decode, emit, partial
        self._ids: list[int] = []
        self._sent = 0

    def put(self, value) -> None:
        """Take token ids of a batch of one. The prompt comes first; given as embeddings it has no ids."""
        self._ids += [int(v) for v in value.reshape(-1)]
        self._send(final=False)

    def end(self) -> None:
        """No more tokens come: send what is left."""
        self._send(final=True)

    def _send(self, final: bool) -> None:
        ready = len(self._ids)
        while not final and ready and self._partial(self._ids[ready - 1]):
            ready -= 1
        text = self._decode(self._ids[:ready])
        if not final and text.endswith("\ufffd"):  # half a character of a tokenizer that cuts within them
            return
        if len(text) > self._sent:
            self._emit(text[self._sent :])
            self._sent = len(text)


_DONE = object()


def stream(work: Callable[[Callable[[str], None], Callable[[], bool]], Any]) -> Iterator[str | Any]:
    """Run `work(emit, stopped)` in a thread: yield each text it emits, then what it returns.

    stopped(): whether the reader has gone away (the iterator was closed), so that the work can end early. An error in
    the work is raised here.
    """
    pieces: queue.Queue = queue.Queue()
    gone = threading.Event()
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["value"] = work(pieces.put, gone.is_set)
        except BaseException as error:  # noqa: BLE001 - handed to the reader, whatever it is
            outcome["error"] = error
        finally:
            pieces.put(_DONE)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while (piece := pieces.get()) is not _DONE:
            yield piece
    finally:
        gone.set()
        thread.join()
    if "error" in outcome:
        raise outcome["error"]
    yield outcome["value"]
