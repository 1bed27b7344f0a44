"""Run `egohoi` commands in processes of their own, one or a group that talks over gloo as torchrun's does.

The processes are forked from a server that has imported the heavy libraries once, so that each starts in milliseconds.
"""

import multiprocessing
import os
import signal
import socket
import sys
from pathlib import Path

_HEAVY = [
    "torch.utils.data", "torch.utils.tensorboard", "torch.distributed.checkpoint.state_dict", "accelerate", "peft", "pyarrow.parquet",
    "transformers.models.llama.modeling_llama", "transformers.models.blip_2.modeling_blip_2", "egohoi.training.vlm4hoi",
    "egohoi.models.vlm4hoi_folder", "egohoi.models.vlm4hoi_processor", "egohoi.models.vlm4hoi_convert", "egohoi.apps.cli",
]


def child(arguments: list[str], environment: dict[str, str], log: str) -> None:
    """What a process does: the command line, its output in the file `log`."""
    with open(log, "a", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    os.environ.update(environment)
    import torch

    from egohoi.apps.cli import main

    torch.set_num_threads(1)
    if "DIE" in environment:
        _mortal(environment["DIE"])
    status = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # as a command ends; threads of libraries are not waited for


def _mortal(when: str) -> None:
    """Let this process end as by `kill -9`. when: `pass:N`, after the Nth backward pass; `save:N`, at the Nth file of a
    checkpoint that is flushed to the disk (three files and two folders for each)."""
    from egohoi.training import checkpoints, distribution

    kind, number = when.split(":")
    owner, name = {"pass": (distribution.Distribution, "backward"), "save": (checkpoints, "_sync")}[kind]
    original, calls = getattr(owner, name), []

    def counted(*arguments):
        original(*arguments)
        calls.append(1)
        if len(calls) == int(number):
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, counted)


def start(arguments, folder, count: int = 1, **environment: str) -> list:
    """Start `count` processes with the same command. folder: where `output-RANK.txt` is written."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_HEAVY)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    started = []
    for rank in range(count):
        group = {}
        if count > 1:
            group = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
                     "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        log = str(Path(folder) / f"output-{rank}.txt")
        process = context.Process(target=child, args=([str(word) for word in arguments], {**group, **environment}, log))
        process.start()
        started.append(process)
    return started


def wait(started, seconds: float = 900) -> list[int]:
    """Exit statuses (minus the signal's number if one ended it)."""
    for process in started:
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
    return [process.exitcode for process in started]


def run(arguments, folder, count: int = 1, **environment: str) -> list[int]:
    """`start`, then `wait`."""
    return wait(start(arguments, folder, count, **environment))


def output(folder, rank: int = 0) -> str:
    """What the processes of that rank printed so far in that folder."""
    return (Path(folder) / f"output-{rank}.txt").read_text()
