"""`egohoi build irg`: Ego-IRG data out of any scenes with masks, and the check of a data set in the published layout."""

import json
from pathlib import Path
from typing import Annotated

import typer

from egohoi.errors import BadConfig, BadData, EgohoiError


def irg(
    data: Annotated[str, typer.Argument(help="Scenes with masks (a folder with scenes.jsonl, or that file); with --check an Ego-IRG folder.")],
    out: Annotated[str | None, typer.Option(help="Folder to write, in the published layout (RGB, depth, mask, dataset_split).")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing: look for missing files, bad sizes, targets without pixels, shared frames.")] = False,
    splits: Annotated[str, typer.Option(help="Names and shares of the splits; a scene's split depends on its id and the seed alone.")] = "train=0.8,val=0.1,test=0.1",
    seed: Annotated[int, typer.Option(help="Same seed, same data.")] = 0,
    per_kind: Annotated[int, typer.Option(min=1, max=20, help="Most entries of each kind (single, multi, no target) a scene.")] = 2,
    wordings: Annotated[int, typer.Option(min=1, max=20, help="Most wordings of one entry.")] = 3,
    min_pixels: Annotated[int, typer.Option(min=1, help="Fewest visible pixels of a target.")] = 16,
    depth: Annotated[bool, typer.Option(help="With --check: whether every frame must have a depth image.")] = True,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Go on after a broken scene or frame and list all of them at the end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> int:
    """Ego-IRG data (single, multi and no-target queries with masks) from any scenes with masks; or check such data."""
    if check:
        return _check(data, depth, skip_broken, as_json)
    if out is None:
        raise BadConfig("build irg: name the folder to write with --out FOLDER (or give --check to look at a data set)")
    return _build(data, Path(out), _shares(splits), seed, per_kind, wordings, min_pixels, skip_broken, as_json)


def _shares(text: str) -> list[tuple[str, float]]:
    shares = []
    for part in text.split(","):
        name, _, share = part.partition("=")
        try:
            shares.append((name.strip(), float(share)))
        except ValueError as error:
            raise BadConfig(f"--splits: expected NAME=SHARE,..., got '{part}'") from error
    if any(not n or "/" in n or s < 0 for n, s in shares) or sum(s for _, s in shares) <= 0:
        raise BadConfig(f"--splits: names without '/' and shares of at least 0, not all 0, got '{text}'")
    return shares


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


def _build(data, out: Path, shares, seed, per_kind, wordings, min_pixels, skip_broken, as_json) -> int:
    import random

    from egohoi.questions import irg as questions
    from egohoi.scenes import irgbench, jsonl

    path = jsonl.locate(data)
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [(number, line) for number, line in enumerate(file, 1) if line.strip()]
    problems, nouns, seen, done = [], set(), set(), dict.fromkeys((n for n, _ in shares), 0)
    kept, counts, dropped, empty = 0, dict.fromkeys(irgbench.KINDS, 0), {}, 0
    for number, line in lines:  # names of the whole set: what is absent in one scene is a name of another
        try:
            nouns.update(o.name.strip().lower() for o in jsonl.parse(line, f"{path}:{number}").objects if o.name.strip())
        except EgohoiError:
            continue  # reported below, in order
    vocabulary = sorted(nouns) if len(nouns) >= 5 else list(questions.NOUNS)
    with _bar() as bar:
        task = bar.add_task("scenes", total=len(lines))
        for number, line in lines:
            try:
                scene = jsonl.parse(line, f"{path}:{number}", path.parent)
                name = scene.id.replace("/", "_").replace("\\", "_")
                if name in seen:
                    raise BadData(f"{path}:{number}: a second scene with the id '{scene.id}'")
                seen.add(name)
                split = random.Random(f"{seed}|split|{scene.id}").choices([n for n, _ in shares], [s for _, s in shares])[0]
                target = out / "dataset_split" / split / f"{name}.json"
                if target.is_file():  # written last, so the frame is whole: a stopped run goes on here
                    kept += 1
                    done[split] += 1
                    continue
                built = questions.build(scene, seed=seed, per_kind=per_kind, wordings=wordings, nouns=vocabulary, min_pixels=min_pixels)
                for reason, count in built.dropped.items():
                    dropped[reason] = dropped.get(reason, 0) + count
                if not built.entries:
                    empty += 1
                    continue
                for file, what in ((scene.image, "picture"), (scene.depth, "depth image")):
                    if file and not Path(file).is_file():
                        raise BadData(f"{file}: no such {what}, but scene '{scene.id}' ({path}:{number}) names it")
                irgbench.write_frame(out, split, name, scene.image, built.index, list(built.entries), scene.depth)
                done[split] += 1
                for entry in built.entries:
                    counts[irgbench.kind_of(sum(v > 0 for v in entry["masks_idx"]))] += 1
            except EgohoiError as error:
                if not skip_broken:
                    raise
                problems.append(str(error))
            finally:
                bar.advance(task)
    report = {"frames": done, "already_there": kept, "entries": counts, "no_question": empty, "dropped": dropped, "broken": problems}
    if as_json:
        print(json.dumps(report, indent=1))
    else:
        print(f"{out}: " + ", ".join(f"{k} {v:,} frames" for k, v in done.items()) + (f" ({kept:,} were already there)" if kept else ""))
        print("new entries: " + ", ".join(f"{v:,} {k}" for k, v in counts.items()) + (f"; {empty:,} scenes gave no question" if empty else ""))
        for reason, count in sorted(dropped.items()):
            print(f"left out: {count:,} {reason}")
        for line in problems:
            print(f"broken: {line}")
    return 0


def _bar():
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True),
        transient=True,
    )
