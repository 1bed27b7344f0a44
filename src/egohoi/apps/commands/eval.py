"""`egohoi eval`: measure saved predictions or a model, and show the tables. Each benchmark has a module of its own."""

import dataclasses
import importlib
import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from egohoi.apps.commands.eval_common import Device, Frames, Json, Limit, Model, Out, Report, Shard, part, show
from egohoi.errors import BadConfig, BadData

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Measure predictions or a model.")


@app.callback()
def _main() -> None:
    """Measure predictions or a model."""


@app.command()
def scenes(
    data: Annotated[str, typer.Argument(help="Folder with scenes.jsonl, or the file; with --format, another data set.")],
    model: Model = None,
    predictions: Annotated[list[Path] | None, typer.Option(help="Saved answers (predict lines or records); may be given again.")] = None,
    format: Annotated[str, typer.Option(help="Reader of the data: jsonl, egohos, visor.")] = "jsonl",
    frames: Frames = None,
    limit: Limit = None,
    seed: Annotated[int, typer.Option(help="Of the questions.")] = 0,
    out: Out = None,
    report: Report = None,
    as_json: Json = False,
    shard: Shard = None,
    device: Device = None,
) -> None:
    """Boxes, sides, contact, masks, names and no-target questions on labelled scenes."""
    from egohoi.evaluation import scenes_run, scenes_tables, wordnet
    from egohoi.evaluation.journal import Journal

    if model and predictions:
        raise BadConfig("give --model or --predictions, not both")
    piece = part(shard)
    found = _reader(format)(data)
    if frames:
        found = (dataclasses.replace(s, image=str(frames / s.image)) for s in found)
    todo = scenes_run.plan(found, limit, seed, where=data)
    if predictions:
        answers, source = scenes_run.from_predictions(predictions, todo), ", ".join(map(str, predictions))
    else:
        from egohoi.models import load

        source = model or "nano"
        answers = scenes_run.from_model(load(source, device=device), todo.masked)
    same = wordnet.same_noun if wordnet.available() else None
    header = {"benchmark": "scenes", "data": str(data), "source": source, "seed": seed, "limit": limit, "shard": "/".join(map(str, piece)),
              "synonyms": same is not None}
    with Journal(out, header) as journal:
        records = list(_progress(scenes_run.run(todo, answers, journal, same=same, shard=piece), todo, piece))
    tally = scenes_run.tally(records)
    tables = scenes_tables.tables(tally)
    count = len(todo.scenes[piece[0] :: piece[1]])
    title = f"{source} on {data}: {count} photos, {len(records)} items"
    show(title, tables, as_json, {"source": source, "data": str(data), "photos": count, "items": len(records),
                                   "measures": {k: tally.measure(k).to_json() for k in tally.keys() if tally.measure(k)}})
    if report:
        from egohoi.evaluation import report as page
        from egohoi.evaluation import report_scenes

        page.write(report, title, tables, report_scenes.items(records), facts={"model": source, "data": data})


def _progress(records, todo, part):
    """Pass the records on, with a bar that counts photos."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    total = len(todo.scenes[part[0] :: part[1]])
    columns = (TextColumn("photos"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task, seen = bar.add_task("photos", total=total), set()
        for record in records:
            if record["scene"] not in seen:
                seen.add(record["scene"])
                bar.update(task, completed=len(seen))
            yield record


def _reader(name: str):
    known = ("jsonl", "egohos", "visor")
    if name not in known:
        raise BadConfig(f"--format '{name}': unknown, write one of {', '.join(known)}")
    try:
        return importlib.import_module(f"egohoi.scenes.{name}").read
    except ImportError as error:
        raise BadData(f"--format {name}: this build of egohoi has no reader for it") from error


for _name in ("hoiqa", "irg"):
    if importlib.util.find_spec(f"egohoi.apps.commands.eval_{_name}"):
        app.command(_name)(getattr(importlib.import_module(f"egohoi.apps.commands.eval_{_name}"), _name))
