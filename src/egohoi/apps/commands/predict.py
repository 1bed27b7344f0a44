"""`egohoi predict`."""

from typing import Annotated

import typer


def predict(
    data: Annotated[str, typer.Argument(help="a scenes.jsonl, or its folder")],
    out: Annotated[str, typer.Option(help="JSON lines to write, one response a line; an unfinished file is resumed")],
    model: Annotated[str, typer.Option(help="nano, or KIND:FOLDER")] = "nano",
    question: Annotated[str | None, typer.Option(help="ask this of every picture instead of the scenes' own questions")] = None,
    describe: Annotated[bool, typer.Option("--describe", help="describe every picture instead of asking")] = False,
    limit: Annotated[int | None, typer.Option(help="only the first so many scenes")] = None,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="go on after an unreadable picture, and list them at the end")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, bfloat16, ...")] = None,
) -> None:
    """Answer the questions of a data set: one JSON line a question, resumable, with the time left.

    Without --question and --describe, a scene's own `questions` are asked; a scene without any is described.
    """
    import json
    import sys
    from itertools import islice
    from pathlib import Path

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    import egohoi
    from egohoi import images
    from egohoi.errors import BadImage, EgohoiError
    from egohoi.records import Query
    from egohoi.scenes import jsonl

    scenes = list(islice(jsonl.read(data), limit))
    jobs = []
    for scene in scenes:
        texts = [question] if question else [] if describe else [q["question"] for q in scene.questions if q.get("question")]
        jobs += [(scene, t) for t in texts] or [(scene, None)]
    path = Path(out)
    if not path.parent.is_dir():
        raise EgohoiError(f"--out {out}: the folder {path.parent} does not exist")
    done = _finished(path, jobs)
    loaded = egohoi.load(model, device=device, precision=precision)
    broken, last = [], (None, None)
    with open(path, "a", encoding="utf-8") as lines, Progress(
        TextColumn("predict"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), disable=not sys.stderr.isatty()
    ) as progress:
        bar = progress.add_task("", total=len(jobs), completed=done)
        for scene, text in jobs[done:]:
            row = {"id": scene.id}
            try:
                if last[0] != scene.image:
                    last = (scene.image, images.load(scene.image))
                response = loaded.describe(last[1]) if text is None else loaded.ask_many([(last[1], Query(text=text))])[0]
                row.update(response.to_json())
            except BadImage as error:
                if not skip_broken:
                    raise
                broken.append(str(error))
                row.update({"image": scene.image, "query": text or "", "error": str(error)})
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            lines.flush()
            progress.update(bar, advance=1)
    print(f"{len(jobs)} answers in {out}" + (f", {len(broken)} pictures could not be read:" if broken else ""))
    for message in broken:
        print(f"  {message}")


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
            same = json.loads(row).get("id") == job[0].id
        except ValueError:
            same = False
        if not same:
            raise BadPredictions(f"{path}:{number}: is not the answer of this data set's item {number}: choose another --out, or remove the file")
    if len(rows) > len(jobs):
        raise BadPredictions(f"{path}: holds {len(rows)} answers, the data set asks {len(jobs)}: choose another --out, or remove the file")
    return len(rows)
