"""Runs independent tasks on the cores of one machine or of a Ray cluster. Tasks write files; order and place do not matter."""

import os
from collections.abc import Callable, Sequence

from egohoi.errors import BadConfig, need
from egohoi.workers import end_with

ENGINES = ("local", "ray")


def run(function: Callable, tasks: Sequence[tuple], *, workers: int = 1, engine: str = "local", done: Callable | None = None) -> None:
    """Call `function(*task)` for each task. done(task, result) is called in this process as each one ends.

    engine: "local" (processes of this machine; none with one worker) or "ray" (the cluster that RAY_ADDRESS names, else one on
    this machine; all machines must see the same files). The first error stops the run and is raised; tasks that ended stay.
    """
    done = done or (lambda task, result: None)
    if engine == "ray":
        _ray(function, tasks, workers, done)
    elif engine != "local":
        raise BadConfig(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    elif min(workers, len(tasks)) <= 1:
        for task in tasks:
            done(task, function(*task))
    else:
        _processes(function, tasks, min(workers, len(tasks)), done)


def _processes(function, tasks, workers: int, done) -> None:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    # Spawned, not forked: a forked child inherits the locks of threads (progress bar, Arrow) that do not exist in it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=end_with, initargs=(os.getpid(),)) as pool:
        waiting = {pool.submit(function, *task): task for task in tasks}
        try:
            for future in as_completed(waiting):
                done(waiting[future], future.result())
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _ray(function, tasks, workers: int, done) -> None:
    ray = need("ray", "ray")
    started = not ray.is_initialized()
    if started:
        known = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": max(1, workers), "include_dashboard": False}
        ray.init(log_to_driver=False, logging_level="ERROR", **known)
    try:
        remote = ray.remote(function)
        queue, waiting = list(reversed(tasks)), {}
        room = max(2 * int(ray.cluster_resources().get("CPU", 1)), 2)  # enough to keep all busy, few enough to hold no queue of results
        while queue or waiting:
            while queue and len(waiting) < room:
                task = queue.pop()
                waiting[remote.remote(*task)] = task
            for reference in ray.wait(list(waiting), num_returns=1)[0]:
                task = waiting.pop(reference)
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from error
                done(task, result)
    finally:
        if started:
            ray.shutdown()
