"""`egohoi build irg`: Ego-IRG data out of any scenes with masks, and the check of a data set in the published layout."""

import json
from typing import Annotated

import typer

from egohoi.errors import BadConfig

_INPUT = "Inputs"


def irg(
    data: Annotated[str | None, typer.Argument(help="Scenes with masks (a folder with scenes.jsonl, or that file); with --check an Ego-IRG folder.")] = None,
    visor: Annotated[list[str] | None, typer.Option(help="VISOR annotations: a folder of JSON files, or one.", rich_help_panel=_INPUT)] = None,
    visor_mapping: Annotated[str | None, typer.Option(help="VISOR's frame_mapping.json: pictures are then EPIC-KITCHENS frames.", rich_help_panel=_INPUT)] = None,
    visor_correct: Annotated[str | None, typer.Option(help="VISOR-HOS's correct.json: relations put right.", rich_help_panel=_INPUT)] = None,
    narrations: Annotated[str | None, typer.Option(help="EPIC_100_*.csv: the analyses of VISOR's frames.", rich_help_panel=_INPUT)] = None,
    egohos: Annotated[list[str] | None, typer.Option(help="EgoHOS folder.", rich_help_panel=_INPUT)] = None,
    coco: Annotated[list[str] | None, typer.Option(help="COCO JSON with masks, side and in_contact_with attributes.", rich_help_panel=_INPUT)] = None,
    frames: Annotated[str | None, typer.Option(help="Folder below which pictures are looked for.", rich_help_panel=_INPUT)] = None,
    out: Annotated[str | None, typer.Option(help="Folder to write, in the published layout (RGB, depth, mask, dataset_split).")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing: look for missing files, bad sizes, targets without pixels, shared frames.")] = False,
    splits: Annotated[str, typer.Option(help="Names and shares of the splits, drawn by video (or scene) and seed; or 'declared' (EgoHOS).")] = "train=0.8,val=0.1,test=0.1",
    seed: Annotated[int, typer.Option(help="Same seed, same data.")] = 0,
    per_kind: Annotated[int, typer.Option(min=1, max=20, help="Most entries of each kind (single, multi, no target) a scene.")] = 2,
    wordings: Annotated[int, typer.Option(min=1, max=20, help="Most wordings of one entry.")] = 3,
    min_pixels: Annotated[int, typer.Option(min=1, help="Fewest visible pixels of a target.")] = 16,
    depth: Annotated[bool, typer.Option(help="With --check: whether every frame must have a depth image.")] = True,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Go on after a broken scene or frame and list all of them at the end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> int:
    """Ego-IRG data (single, multi and no-target queries with masks) from any scenes with masks; or check such data."""
    from egohoi.questions import irg_build
    from egohoi.questions.irg_build import Source

    given = {"mapping": visor_mapping, "correct": visor_correct, "narrations": narrations}
    sources = [Source("scenes", data)] if data is not None else []
    sources += [Source("visor", path, {k: v for k, v in given.items() if v}) for path in visor or []]
    sources += [Source("egohos", path) for path in egohos or []] + [Source("coco", path) for path in coco or []]
    if check:
        if data is None or len(sources) > 1:
            raise BadConfig("build irg --check: name one folder that holds RGB, depth, mask and dataset_split")
        return _check(data, depth, skip_broken, as_json)
    if not sources:
        raise BadConfig("build irg: name a folder with scenes.jsonl, or --visor, --egohos, --coco (see --help)")
    if out is None:
        raise BadConfig("build irg: name the folder to write with --out FOLDER (or give --check to look at a data set)")
    recipe = irg_build.Recipe(splits, seed, per_kind, wordings, min_pixels)
    with _bar() as bar:
        task = bar.add_task("scenes", total=None)
        report = irg_build.build(
            sources, out, recipe, frames=frames, skip_broken=skip_broken,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    print(json.dumps(report, indent=1)) if as_json else _show(report, out)
    return 0


def _show(report: dict, out: str) -> None:
    """The report in words."""
    kept, empty = report["already_there"], report["no_question"]
    print(f"{out}: " + ", ".join(f"{k} {v:,} frames" for k, v in report["frames"].items()) + (f" ({kept:,} were already there)" if kept else ""))
    print("new entries: " + ", ".join(f"{v:,} {k}" for k, v in report["entries"].items()) + (f"; {empty:,} scenes gave no question" if empty else ""))
    for reason, count in sorted(report["dropped"].items()):
        print(f"left out: {count:,} {reason}")
    for line in report["broken"]:
        print(f"broken: {line}")


def _check(data: str, depth: bool, skip_broken: bool, as_json: bool) -> int:
    from egohoi.scenes import irgbench

    with _bar() as bar:
        tasks: dict = {}

        def progress(split: str, done: int, total: int) -> None:
            if split not in tasks:
                tasks[split] = bar.add_task(split, total=total)
            bar.update(tasks[split], completed=done)

        found = irgbench.check(data, depth=depth, progress=progress, stop=not skip_broken)
    if as_json:
        print(json.dumps({
            "counts": found.counts, "problems": list(found.problems), "shared": found.shared, "videos": found.videos,
            "notes": list(found.notes), "good": found.good,
        }, indent=1))
        return 0 if found.good else 2
    for split, row in found.counts.items():
        print(f"{split}: " + ", ".join(f"{v:,} {k}" for k, v in row.items()))
    for pair, names in found.shared.items():
        a, _, b = pair.partition("+")
        print(f"shared: {len(names)} frames are in {a} and in {b}, first {names[0]}: remove dataset_split/{b}/{names[0]}.json and the like")
    for pair, count in found.videos.items():
        print(f"note: {pair}: {count} recordings have frames in both")
    for line in found.notes:
        print(f"note: {line}")
    for line in found.problems:
        print(f"broken: {line}")
    print("good" if found.good else f"{len(found.problems)} broken frames, {sum(map(len, found.shared.values()))} shared frames")
    return 0 if found.good else 2


def _bar():
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True),
        transient=True,
    )
