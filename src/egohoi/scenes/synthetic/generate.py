"""Writes folders of synthetic scenes: all cores, resumable, the same for the same seed.

Scene i depends on (seed, i) only. Scenes are made in blocks; a block's label file appears, by renaming, when all its pictures
are there, so that a killed run loses at most the blocks in work. `scenes.jsonl` always holds whole blocks, in order.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from egohoi.errors import BadConfig, EgohoiError
from egohoi.scenes import jsonl
from egohoi.workers import end_with

BLOCK = 25
RENDERERS = ("gl", "cycles")
SPLITS = ("train", "test", "all")


class WorkerDied(EgohoiError):
    """Rendering processes were killed repeatedly, most often for memory."""


@dataclass(frozen=True)
class Settings:
    """What defines the scenes of a folder; the count may grow. size: (width, height) or None for a random one each."""

    seed: int = 0
    split: str = "train"
    renderer: str = "gl"
    size: tuple[int, int] | None = None
    depth: bool = True

    def __post_init__(self):
        if self.split not in SPLITS:
            raise BadConfig(f"split must be one of {', '.join(SPLITS)}, got {self.split!r}")
        if self.renderer not in RENDERERS:
            raise BadConfig(f"renderer must be one of {', '.join(RENDERERS)}, got {self.renderer!r}")
        if self.size is not None and not all(64 <= v <= 4096 for v in self.size):
            raise BadConfig(f"size must lie between 64 and 4096 pixels, got {self.size[0]}x{self.size[1]}")


class Maker:
    """Makes single scenes: description, picture, labels. Holds the assets and the renderer."""

    def __init__(self, settings: Settings, assets=None, renderer=None, assets_folder: Path | None = None):
        from . import assets as store
        from .compose import Library

        self.settings = settings
        self.assets = assets if assets is not None else store.load(assets_folder)
        self.library = Library(self.assets, settings.split)
        self._renderer = renderer

    @property
    def renderer(self):
        if self._renderer is None:
            if self.settings.renderer == "gl":
                from .gl import Renderer
            else:
                from .cycles import Renderer
            self._renderer = Renderer(self.assets.textures)
        return self._renderer

    def describe(self, index: int):
        """The description of scene `index`."""
        from .compose import compose

        return compose(self.assets, self.library, np.random.default_rng([self.settings.seed, index]), self.settings.size)

    def make(self, index: int, folder: Path):
        """Writes the picture (and depth) of scene `index` below `folder`; returns its labels."""
        from . import develop
        from .labels import label

        description = self.describe(index)
        drawn = self.renderer.render(description)
        hands = [t.label for t in description.things if t.kind == "hand"]
        picture = develop.develop(drawn.rgb, np.isin(drawn.labels, hands), drawn.depth, description.look)
        name = f"{index:06d}"
        image, depth = f"images/{name}.jpg", f"depth/{name}.png" if self.settings.depth else None
        (folder / image).write_bytes(develop.jpeg(picture, description.look.quality))
        if depth:
            (folder / depth).write_bytes(develop.depth_png(drawn.depth))
        return label(description, drawn.labels, f"s{self.settings.seed}-{name}", image, depth)


_maker: Maker | None = None


def _begin(parent: int, settings: Settings, assets_folder: Path | None) -> None:
    global _maker
    end_with(parent)
    _maker = Maker(settings, assets_folder=assets_folder)


def _block(number: int, count: int, folder: str) -> int:
    return write_block(_maker, number, count, Path(folder))


def write_block(maker: Maker, number: int, count: int, folder: Path) -> int:
    """Makes the scenes of one block up to `count` and writes its label file; returns how many there are."""
    scenes = [maker.make(i, folder) for i in range(number * BLOCK, min((number + 1) * BLOCK, count))]
    path = block_file(folder, number)
    part = path.with_suffix(".part")
    part.write_text("".join(json.dumps(jsonl.to_json(s)) + "\n" for s in scenes), encoding="utf-8")
    os.replace(part, path)
    return len(scenes)


def block_file(folder: Path, number: int) -> Path:
    return folder / "blocks" / f"{number:05d}.jsonl"


def prepare(folder: Path, settings: Settings) -> None:
    """Makes the folders, or checks that an existing folder was begun with the same settings."""
    path = folder / "synth.json"
    wanted = json.loads(json.dumps(asdict(settings)))
    if path.exists():
        found = json.loads(path.read_text())
        different = [k for k in wanted if wanted[k] != found.get(k)]
        if different:
            raise BadConfig(f"{folder} was begun with other settings ({', '.join(f'{k}: {found.get(k)}' for k in different)}): "
                            "use the same ones or another folder")
    for name in ("images", "blocks", *(["depth"] if settings.depth else [])):
        (folder / name).mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(wanted) + "\n")


def missing_blocks(folder: Path, count: int) -> list[int]:
    """Blocks that are absent or were written for a smaller count."""
    result = []
    for number in range((count + BLOCK - 1) // BLOCK):
        path = block_file(folder, number)
        expected = min(BLOCK, count - number * BLOCK)
        if not path.exists() or path.read_bytes().count(b"\n") < expected:
            result.append(number)
    return result


def merge(folder: Path, count: int) -> int:
    """Writes scenes.jsonl out of the blocks that are there, in order, at most `count` scenes; returns how many."""
    lines: list[str] = []
    for path in sorted((folder / "blocks").glob("*.jsonl")):
        lines += path.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if int(json.loads(line)["id"].rsplit("-", 1)[1]) < count]
    part = folder / "scenes.jsonl.part"
    part.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    os.replace(part, folder / jsonl.FILE)
    return len(lines)


def run(folder: Path, count: int, settings: Settings, workers: int | None = None, maker: Maker | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None, assets_folder: Path | None = None) -> int:
    """Makes what is missing of `count` scenes in `folder`; returns how many the finished scenes.jsonl holds.

    workers: processes, default one per core; with a `maker` everything happens in this process. progress(done, total) is
    called after every block. Raises BadConfig when the folder belongs to other settings.
    """
    folder = Path(folder)
    if count < 1:
        raise BadConfig(f"count must be at least 1, got {count}")
    if maker is None:
        from .assets import load

        load(assets_folder)  # a missing asset folder is told before any process starts
    prepare(folder, settings)
    todo = missing_blocks(folder, count)
    done = count - sum(min(BLOCK, count - n * BLOCK) for n in todo)
    progress(done, count)
    deaths = 0
    while todo:
        try:
            for finished, made in enumerate(_made(todo, folder, count, settings, workers, maker, assets_folder), 1):
                done += made
                progress(done, count)
                if finished % 20 == 0:
                    merge(folder, count)
            break
        except BrokenProcessPool as error:
            deaths += 1
            if deaths > 3:
                raise WorkerDied(f"the renderer's processes die again and again (memory full?): {done} of {count} scenes are in {folder}; "
                                 "run the same command with fewer --workers to go on") from error
            todo = missing_blocks(folder, count)
    return merge(folder, count)


def _made(todo: list[int], folder: Path, count: int, settings: Settings, workers: int | None, maker: Maker | None,
          assets_folder: Path | None) -> Iterator[int]:
    if maker is not None:
        for number in todo:
            yield write_block(maker, number, count, folder)
        return
    if not todo:
        return
    # One thread per process: the processes fill the cores. The variables are read when the children start.
    # A process is renewed now and then, which bounds what drivers and caches can pile up.
    names = ("LP_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {n: os.environ.get(n) for n in names}
    os.environ.update({n: "1" for n in names})
    try:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers or os.cpu_count() or 1, len(todo)), context, _begin, (os.getpid(), settings, assets_folder), max_tasks_per_child=100) as pool:
            waiting = iter(todo)
            running = {pool.submit(_block, n, count, str(folder)) for n in itertools.islice(waiting, 2 * (workers or os.cpu_count() or 1))}
            try:
                while running:
                    ready, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in ready:
                        yield future.result()
                        following = next(waiting, None)
                        if following is not None:
                            running.add(pool.submit(_block, following, count, str(folder)))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        for n, value in before.items():
            os.environ.pop(n, None) if value is None else os.environ.__setitem__(n, value)
