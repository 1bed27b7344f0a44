"""One worker thread for the models, so that requests of many clients run one after another and not into each other."""

import asyncio
import hashlib
import queue
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing, closing, nullcontext

from egohoi import images
from egohoi.errors import EgohoiError
from egohoi.models import load
from egohoi.models.base import Model

#: Decoded pictures that are kept: the questions of a conversation are about one picture, which is then decoded once, and
#: a model that remembers what it saw last gets the same object again.
KEPT_PICTURES = 2


class Refused(EgohoiError):
    """A request that is turned down with an HTTP status of its own (unknown model, too many waiting, not allowed)."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


class Worker:
    """A thread that runs jobs in order. waiting: most jobs that may wait; more are refused with status 503."""

    def __init__(self, waiting: int = 32):
        self._jobs: queue.Queue[Callable[[], None]] = queue.Queue(maxsize=waiting)
        # A daemon: stopping the server must not wait for a long answer that nobody will read.
        threading.Thread(target=self._run, name="egohoi-model", daemon=True).start()

    @property
    def waiting(self) -> int:
        """Number of jobs that have not begun."""
        return self._jobs.qsize()

    def _run(self) -> None:
        while True:
            self._jobs.get()()

    async def items(self, job: Callable[[], Iterable]) -> AsyncIterator:
        """What `job()` yields, item by item, computed on the worker thread. Errors of the job are raised here.

        When the consumer goes away (a client that closed its connection), the job ends at its next item, or never begins.
        """
        loop, found, stopped = asyncio.get_running_loop(), asyncio.Queue(), threading.Event()

        def tell(kind: str, value) -> None:
            try:
                loop.call_soon_threadsafe(found.put_nowait, (kind, value))
            except RuntimeError:  # the loop is closed: the server is going down
                stopped.set()

        def run() -> None:
            if stopped.is_set():
                return
            try:
                iterator = iter(job())
                with closing(iterator) if hasattr(iterator, "close") else nullcontext():
                    for item in iterator:
                        tell("item", item)
                        if stopped.is_set():
                            return
                tell("end", None)
            except BaseException as error:  # noqa: BLE001 every fault must reach the client's request, none may end the thread
                tell("error", error)

        try:
            self._jobs.put_nowait(run)
        except queue.Full as error:
            raise Refused(f"the server is busy: {self._jobs.maxsize} requests wait already; try again later", 503) from error
        try:
            while True:
                kind, value = await found.get()
                if kind == "end":
                    return
                if kind == "error":
                    raise value
                yield value
        finally:
            stopped.set()

    async def result(self, job: Callable[[], object], gone: Callable | None = None):
        """The value of `job()`, computed on the worker thread. gone: async function that tells whether the client left;
        then the job is dropped if it has not begun, and None is returned."""

        async def only():
            async with aclosing(self.items(lambda: [job()])) as items:
                return await anext(items)

        task = asyncio.create_task(only())
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=1.0)
                if not task.done() and gone is not None and await gone():
                    return None
            return task.result()
        finally:
            task.cancel()


class Host:
    """The models that a server offers, by name, and the pictures of the last requests.

    models: {name: Model}, the first is the default. loader: function spec -> Model for folders that are added later.
    All methods that touch a model or a picture run on the worker thread only, except `choose` and `names`.
    """

    def __init__(self, models: dict[str, Model], loader: Callable[[str], Model] = load):
        if not models:
            raise ValueError("a server needs at least one model")
        self._fixed = dict(models)
        self._added: tuple[str, Model] | None = None
        self._loader = loader
        self._pictures: OrderedDict[tuple[str, str], images.Picture] = OrderedDict()

    @property
    def names(self) -> list[str]:
        """Names of the models, the default first."""
        return [*self._fixed, *([self._added[0]] if self._added else [])]

    def choose(self, name: str | None) -> Model:
        """The model of that name; None: the default. Raises Refused with status 404."""
        if name is None:
            return next(iter(self._fixed.values()))
        if self._added and self._added[0] == name:
            return self._added[1]
        if name not in self._fixed:
            raise Refused(f"no model '{name[:80]}' here: choose one of {', '.join(self.names)}", 404)
        return self._fixed[name]

    def add(self, spec: str) -> str:
        """Load the model of `spec` (KIND:FOLDER) beside those of the start, in place of one that was added before.

        Returns its name. Raises BadWeights and what the model's loader raises.
        """
        self._added = None  # freed first: two large models need not fit at once
        model = self._loader(spec)
        self._added = (name_of(spec, self._fixed), model)
        return self._added[0]

    def picture(self, data: bytes, name: str) -> images.Picture:
        """The picture of encoded `data`, decoded once for questions that follow each other. Raises BadImage."""
        key = (hashlib.sha256(data).hexdigest(), name)
        if key not in self._pictures:
            self._pictures[key] = images.load(data, name)
        self._pictures.move_to_end(key)
        while len(self._pictures) > KEPT_PICTURES:
            self._pictures.popitem(last=False)
        return self._pictures[key]


def name_of(spec: str, taken) -> str:
    """A short name for a model specification that is not in `taken`: the kind and the folder's last part, no path."""
    kind, _, folder = spec.partition(":")
    stem = kind + (":" + folder.replace("\\", "/").rstrip("/").rpartition("/")[2] if folder else "")
    name, k = stem, 2
    while name in taken:
        name, k = f"{stem}-{k}", k + 1
    return name
