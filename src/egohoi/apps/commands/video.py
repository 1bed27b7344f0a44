"""`egohoi video`: annotated video and JSON lines."""

import sys
from typing import Annotated

import typer

from egohoi.apps.commands.ask import DeviceOption, ModelOption, PrecisionOption


def video(
    source: Annotated[str, typer.Argument(metavar="IN", help="a video file")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="the annotated video: .mp4, .mkv or .mov")],
    lines: Annotated[str | None, typer.Option(help="JSON lines, one for each frame that was looked at; default: OUT with .jsonl")] = None,
    query: Annotated[str | None, typer.Option(help="ask this of each frame; by default frames are described")] = None,
    every: Annotated[int | None, typer.Option(help="look at every N-th frame; default: about five a second of video")] = None,
    model: ModelOption = "nano",
    device: DeviceOption = None,
    precision: PrecisionOption = None,
) -> None:
    """Annotated video and JSON lines, in bounded memory."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    import egohoi
    from egohoi.apps import video as videos
    from egohoi.errors import need
    from egohoi.records import Query

    need("av", "video")
    asked = Query(query) if query is not None else None
    videos.check(source, out, lines, every)
    loaded = egohoi.load(model, device=device, precision=precision)
    console = Console(stderr=True)
    columns = (TextColumn("frames"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("frames", total=None)
        done = videos.annotate(
            source, out, loaded, lines=lines, query=asked, every=every,
            progress=lambda n, total: bar.update(task, completed=n, total=max(total, n) or None),
        )
    if done.problem:
        print(f"egohoi: {source}: written as far as it can be read: {done.problem}", file=sys.stderr)
    kept = f" ({done.kept} of them before an interruption)" if done.kept else ""
    console.print(f"{done.frames} frames, {done.looked} looked at{kept}: {out}", highlight=False, soft_wrap=True)
