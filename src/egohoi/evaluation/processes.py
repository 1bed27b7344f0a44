"""Several processes of `torchrun` that measure one set together: a file for each, and one process that reads them all."""

import contextlib
import datetime
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def together(count: int, out: Path | None) -> Iterator[tuple[Path, Callable[[], bool]]]:
    """Gives the path for the records (`out`, or one in a temporary folder) and a function that waits until all processes have got
    there and says whether this one shows the numbers.

    count: how many processes torchrun started (1: none besides this one, and nothing waits).
    """
    if count == 1:
        with contextlib.ExitStack() as stack:
            yield out or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "records.jsonl", lambda: True
        return
    import torch.distributed as distributed

    distributed.init_process_group("gloo", timeout=datetime.timedelta(days=7))  # one may wait for hours until the others are done
    try:
        first = int(os.environ.get("RANK", "0")) == 0
        with contextlib.ExitStack() as stack:
            shared = [str(out) if out else stack.enter_context(tempfile.TemporaryDirectory()) + "/records.jsonl" if first else None]
            if out is None:
                distributed.broadcast_object_list(shared, src=0)

            def gather() -> bool:
                distributed.barrier()
                return first

            yield Path(shared[0]), gather
    finally:
        distributed.destroy_process_group()
