"""`egohoi synth`: render first-person scenes with exact labels."""

from pathlib import Path
from typing import Annotated

import typer


def synth(
    out: Annotated[Path | None, typer.Option(help="Folder to write: images/, depth/, scenes.jsonl. A folder begun before is finished.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many scenes the folder shall hold.")] = 100,
    seed: Annotated[int, typer.Option(help="Scene i depends on the seed and i only, whatever the number of workers.")] = 0,
    split: Annotated[str, typer.Option(help="Object instances to use: train, test (held out) or all.")] = "train",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default one per core.")] = None,
    renderer: Annotated[str, typer.Option(help="gl (OpenGL, fast) or cycles (path tracing by Blender's bpy, slow).")] = "gl",
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT of every picture; default: random, 352 to 448 pixels long.")] = None,
    depth: Annotated[bool, typer.Option(help="Write 16-bit depth images in millimetres.")] = True,
    install_assets: Annotated[bool, typer.Option("--install-assets", help="Fetch and convert the hand and object models first (once).")] = False,
    assets: Annotated[Path | None, typer.Option(help="Folder of the assets; default $EGOHOI_HOME/synthetic or ~/.cache/egohoi/synthetic.")] = None,
) -> int:
    """Render first-person scenes of hands and objects with boxes, masks, depth, contact and names."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from egohoi.errors import BadConfig

    if out is None and not install_assets:
        raise BadConfig("synth: name the folder to write with --out FOLDER (or fetch the assets with --install-assets)")
    console = Console(stderr=True)
    if install_assets:
        from egohoi.scenes.synthetic.assets import install

        with console.status("assets") as status:
            folder = install(assets, report=status.update, workers=workers)
        console.print(f"assets: {folder}")
    if out is None:
        return 0

    from egohoi.scenes.synthetic.generate import Settings, run

    settings = Settings(seed, split, renderer, _size(size), depth)
    columns = (TextColumn("scenes"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("scenes", total=count, rate="")
        begun: list[int] = []

        def progress(done: int, total: int) -> None:
            begun.append(done)
            seconds = bar.tasks[0].elapsed or 0
            made = done - begun[0]
            bar.update(task, completed=done, rate=f"{made / seconds:.1f}/s" if made and seconds else "")

        written = run(out, count, settings, workers, progress=progress, assets_folder=assets)
    console.print(f"{written} scenes in {out}")
    return 0


def _size(text: str | None) -> tuple[int, int] | None:
    from egohoi.errors import BadConfig

    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise BadConfig(f"--size: expected WIDTHxHEIGHT such as 384x288, got '{text}'")
    return int(width), int(height)
