"""What a run tells: a live line or plain lines, the curve as JSON lines, TensorBoard, wandb. One process writes them."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from egohoi.errors import MissingExtra, need

CURVE = "log.jsonl"


@dataclass(frozen=True)
class Row:
    """One optimizer step. step: counted from 1. loss: weighted sum; losses: each mean over the global batch, unweighted.
    lr: of the groups without one of their own. norm: of the gradient before clipping. items: in the batch; seconds: it took."""

    step: int
    loss: float
    losses: Mapping[str, float]
    lr: float
    norm: float
    items: int
    seconds: float


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, rest = divmod(int(max(0.0, seconds) + 0.5), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def line(row: Row, steps: int, rate: float) -> str:
    """One line on a step. rate: items a second, smoothed; the time left follows from it."""
    parts = ""
    if len(row.losses) > 1:
        parts = " (" + ", ".join(f"{name} {value:.4f}" for name, value in row.losses.items()) + ")"
    left = clock((steps - row.step) * row.items / rate) if rate > 0 else "?"
    return f"step {row.step}/{steps}  loss {row.loss:.4f}{parts}  lr {row.lr:.2e}  {rate:.1f} samples/s  left {left}"


class Progress:
    """A live line where `console` is a terminal, else one plain line every `every` steps and at both ends."""

    def __init__(self, name: str, start: int, steps: int, every: int, console=None):
        import rich.console
        import rich.progress

        self.steps, self.every, self.start = steps, every, start
        self.console = console or rich.console.Console(soft_wrap=True, highlight=False)
        self._rate = 0.0
        self._bar = None
        if self.console.is_terminal:
            columns = (rich.progress.TextColumn(name), rich.progress.BarColumn(), rich.progress.TextColumn("{task.fields[words]}"))
            self._bar = rich.progress.Progress(*columns, console=self.console)
            self._task = self._bar.add_task(name, total=steps, completed=start, words="")
            self._bar.start()

    def say(self, text: str) -> None:
        """A message between the steps."""
        self.console.print(text, markup=False)

    def step(self, row: Row) -> None:
        rate = row.items / max(row.seconds, 1e-9)
        # the first step pays for warming up: forget it at the second
        self._rate = rate if row.step <= self.start + 2 else 0.9 * self._rate + 0.1 * rate
        words = line(row, self.steps, self._rate)
        if self._bar is not None:
            self._bar.update(self._task, completed=row.step, words=words)
        elif row.step % self.every == 0 or row.step in (self.start + 1, self.steps):
            self.say(words)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


class Curve:
    """`log.jsonl`: one Row a line. Opened at a step, the lines after it (of a run that was cut off) are dropped."""

    def __init__(self, out: Path, start: int):
        path = out / CURVE
        kept = [text for row, text in _lines(path) if row["step"] <= start]
        part = path.with_name(path.name + ".part")
        part.write_text("".join(kept), encoding="utf-8")
        os.replace(part, path)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115  (open as long as the run)

    def step(self, row: Row) -> None:
        values = {**asdict(row), "seconds": round(row.seconds, 4)}
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_curve(out) -> list[dict]:
    """The rows of a run's `log.jsonl`, one for each step; a half-written last line is left out."""
    return [row for row, _ in _lines(Path(out) / CURVE)]


def _lines(path: Path) -> list[tuple[dict, str]]:
    if not path.is_file():
        return []
    rows = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            rows.append((json.loads(text), text if text.endswith("\n") else text + "\n"))
        except ValueError:
            break  # a kill may cut the last line
    return rows


class TensorBoard:
    """Scalars under OUT/tensorboard; steps after `start` of an earlier, cut-off run are hidden."""

    def __init__(self, out: Path, start: int):
        need("tensorboard", "train")
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=start + 1)

    def step(self, row: Row) -> None:
        for name, value in _scalars(row).items():
            self._writer.add_scalar(name, value, row.step)

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """The same scalars to Weights & Biases; a resumed run goes on under its id. Where and whether it sends is wandb's own
    setting (WANDB_MODE=offline, WANDB_PROJECT)."""

    def __init__(self, out: Path, start: int, config: Mapping):
        try:
            import wandb
        except ImportError as error:
            raise MissingExtra("loop.trackers: wandb is not installed: pip install wandb, or leave it out") from error
        marker = out / "wandb.id"
        known = marker.read_text(encoding="utf-8").strip() if marker.is_file() else None
        self._run = wandb.init(dir=str(out), config=dict(config), id=known, resume="allow", name=out.name)
        marker.write_text(self._run.id + "\n", encoding="utf-8")

    def step(self, row: Row) -> None:
        self._run.log(_scalars(row), step=row.step)

    def close(self) -> None:
        self._run.finish()


def _scalars(row: Row) -> dict[str, float]:
    parts = {f"loss/{name}": value for name, value in row.losses.items()} if len(row.losses) > 1 else {}
    return {"loss": row.loss, **parts, "lr": row.lr, "gradient norm": row.norm, "samples per second": row.items / max(row.seconds, 1e-9)}


def trackers(names: Sequence[str] | None, out: Path, start: int, config: Mapping) -> tuple[list, list[str]]:
    """The trackers asked for, and what to tell the user. names None: TensorBoard, if it is installed.

    Raises MissingExtra for one that was asked for by name and is not installed.
    """
    if names is None:
        try:
            return [TensorBoard(out, start)], []
        except MissingExtra:
            return [], [f"TensorBoard is not installed (pip install 'egohoi[train]'): the curve is in {out / CURVE} only"]
    made = [TensorBoard(out, start) if name == "tensorboard" else Wandb(out, start, config) for name in names]
    return made, []


class Stopwatch:
    """Seconds between calls of `lap`."""

    def __init__(self):
        self._last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        passed, self._last = now - self._last, now
        return passed
