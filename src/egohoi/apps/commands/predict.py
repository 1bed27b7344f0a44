"""`egohoi predict`."""

from typing import Annotated

import typer


def predict(
    data: Annotated[str, typer.Argument(help="a scenes.jsonl, or its folder; or an Ego-IRG folder (RGB, mask, dataset_split)")],
    out: Annotated[str, typer.Option(help="JSON lines to write, one response a line; an unfinished file is resumed")],
    model: Annotated[str, typer.Option(help="nano, or KIND:FOLDER")] = "nano",
    question: Annotated[str | None, typer.Option(help="ask this of every picture instead of the scenes' own questions")] = None,
    describe: Annotated[bool, typer.Option("--describe", help="describe every picture instead of asking")] = False,
    limit: Annotated[int | None, typer.Option(help="only the first so many scenes (frames of Ego-IRG)")] = None,
    split: Annotated[str, typer.Option(help="of an Ego-IRG folder")] = "test",
    queries: Annotated[int | None, typer.Option(help="of an Ego-IRG folder: only the first so many wordings of each entry", min=1)] = None,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="go on after an unreadable picture, and list them at the end")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, bfloat16, ...")] = None,
) -> None:
    """Answer the questions of a data set: one JSON line a question, resumable, with the time left.

    Without --question and --describe, a scene's own `questions` are asked; a scene without any is described. Every query of
    an Ego-IRG folder is asked as task `ground`, with the analysis in each line; its `id` is FRAME/ENTRY/QUESTION.
    """
    import json
    import sys
    from pathlib import Path

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    import egohoi
    from egohoi import images
    from egohoi.errors import BadImage, EgohoiError

    broken: list[str] = []
    if (Path(data) / "dataset_split").is_dir():
        jobs = _ego_irg(data, split, question, describe, queries, limit, broken if skip_broken else None)
    else:
        jobs = _scenes(data, question, describe, limit)
    path = Path(out)
    if not path.parent.is_dir():
        raise EgohoiError(f"--out {out}: the folder {path.parent} does not exist")
    done = _finished(path, jobs)
    loaded = egohoi.load(model, device=device, precision=precision)
    last, analysis = (None, None), None
    with open(path, "a", encoding="utf-8") as lines, Progress(
        TextColumn("predict"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), disable=not sys.stderr.isatty()
    ) as progress:
        bar = progress.add_task("", total=len(jobs), completed=done)
        for name, image, query in jobs[done:]:
            row = {"id": name}
            try:
                if last[0] != image:
                    last, analysis = (image, images.load(image)), None
                response = loaded.describe(last[1]) if query is None else loaded.ask_many([(last[1], query)])[0]
                row.update(response.to_json())
                if query is not None and query.task == "ground" and row["analysis"] is None:
                    analysis = analysis or loaded.describe(last[1]).text
                    row["analysis"] = analysis
            except BadImage as error:
                if not skip_broken:
                    raise
                broken.append(str(error))
                row.update({"image": image, "query": query.text if query else "", "error": str(error)})
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            lines.flush()
            progress.update(bar, advance=1)
    print(f"{len(jobs)} answers in {out}" + (f", {len(broken)} could not be read:" if broken else ""))
    for message in broken:
        print(f"  {message}")


def _scenes(data: str, question: str | None, describe: bool, limit: int | None) -> list[tuple]:
    """(id, picture, Query or None for a description) of every question of the scenes."""
    from itertools import islice

    from egohoi.records import Query
    from egohoi.scenes import jsonl

    jobs = []
    for scene in islice(jsonl.read(data), limit):
        texts = [question] if question else [] if describe else [q["question"] for q in scene.questions if q.get("question")]
        jobs += [(scene.id, scene.image, Query(text=t)) for t in texts] or [(scene.id, scene.image, None)]
    return jobs


def _ego_irg(data, split, question, describe, queries, limit, broken) -> list[tuple]:
    """The same of an Ego-IRG folder; with `question` or `describe` one job a frame. broken: see `irgbench.read`."""
    from egohoi.errors import EgohoiError
    from egohoi.records import Query
    from egohoi.scenes import irgbench

    jobs = []
    for frame in irgbench.frames(data, split)[:limit]:
        try:
            items = irgbench.read_frame(data, split, frame, depth=False)
        except EgohoiError as error:
            if broken is None:
                raise
            broken.append(str(error))
            continue
        if question or describe:
            jobs.append((frame, items[0].image, Query(text=question) if question else None))
            continue
        for item in items:
            jobs += [(f"{item.id}/{q.id}", item.image, Query(text=q.query, task="ground")) for q in item.questions[:queries]]
    return jobs


def _finished(path, jobs) -> int:
    """Number of whole lines already there; a torn last line is cut off. Raises BadPredictions if they are of other questions."""
    import json

    from egohoi.errors import BadPredictions

    if not path.exists():
        return 0
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) != len(data):
        path.write_bytes(whole)
    rows = whole.splitlines()
    for number, (row, job) in enumerate(zip(rows, jobs), 1):
        try:
            same = json.loads(row).get("id") == job[0]
        except ValueError:
            same = False
        if not same:
            raise BadPredictions(f"{path}:{number}: is not the answer of this data set's item {number}: choose another --out, or remove the file")
    if len(rows) > len(jobs):
        raise BadPredictions(f"{path}: holds {len(rows)} answers, the data set asks {len(jobs)}: choose another --out, or remove the file")
    return len(rows)
