"""`egohoi eval`: measure saved predictions or a model, and show the tables."""

import json
from pathlib import Path
from typing import Annotated

import typer

from egohoi.errors import BadConfig, BadData

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Measure predictions or a model.")

Model = Annotated[str | None, typer.Option(help="Model to run: nano, or KIND:FOLDER.", metavar="NAME|KIND:FOLDER")]
Out = Annotated[Path | None, typer.Option(help="Records, one JSON line an item; a stopped run goes on from here.")]
Report = Annotated[Path | None, typer.Option(help="One self-contained HTML page.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first N.")]
Shard = Annotated[str, typer.Option(help="K/N: only part K of N (from 0); the records of all parts are read with --predictions.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")]


@app.callback()
def _main() -> None:
    """Measure predictions or a model."""


@app.command()
def scenes(
    data: Annotated[str, typer.Argument(help="Folder with scenes.jsonl, or the file; with --format, another data set.")],
    model: Model = None,
    predictions: Annotated[list[Path] | None, typer.Option(help="Saved answers (predict lines or records); may be given again.")] = None,
    format: Annotated[str, typer.Option(help="Reader of the data: jsonl, egohos, visor.")] = "jsonl",
    limit: Limit = None,
    seed: Annotated[int, typer.Option(help="Of the questions.")] = 0,
    out: Out = None,
    report: Report = None,
    as_json: Json = False,
    shard: Shard = "0/1",
    device: Device = None,
) -> None:
    """Boxes, sides, contact, masks, names and no-target questions on labelled scenes."""
    from egohoi.evaluation import scenes_run, scenes_tables, wordnet
    from egohoi.evaluation.journal import Journal

    if model and predictions:
        raise BadConfig("give --model or --predictions, not both")
    part = _shard(shard)
    todo = scenes_run.plan(_reader(format)(data), limit, seed, where=data)
    if predictions:
        answers, source = scenes_run.from_predictions(predictions, todo), ", ".join(map(str, predictions))
    else:
        from egohoi.models import load

        source = model or "nano"
        answers = scenes_run.from_model(load(source, device=device))
    same = wordnet.same_noun if wordnet.available() else None
    header = {"benchmark": "scenes", "data": str(data), "source": source, "seed": seed, "limit": limit, "shard": shard,
              "synonyms": same is not None}
    with Journal(out, header) as journal:
        records = list(_progress(scenes_run.run(todo, answers, journal, same=same, shard=part), todo, part))
    tally = scenes_run.tally(records)
    tables = scenes_tables.tables(tally)
    count = len(todo.scenes[part[0] :: part[1]])
    title = f"{source} on {data}: {count} photos, {len(records)} items"
    _show(title, tables, as_json, {"source": source, "data": str(data), "photos": count, "items": len(records),
                                   "measures": {k: tally.measure(k).to_json() for k in tally.keys() if tally.measure(k)}})
    if report:
        from egohoi.evaluation import report as page

        page.write(report, title, tables, records)


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
    import importlib

    known = ("jsonl", "egohos", "visor")
    if name not in known:
        raise BadConfig(f"--format '{name}': unknown, write one of {', '.join(known)}")
    try:
        return importlib.import_module(f"egohoi.scenes.{name}").read
    except ImportError as error:
        raise BadData(f"--format {name}: this build of egohoi has no reader for it") from error


def _shard(text: str) -> tuple[int, int]:
    k, _, n = text.partition("/")
    if not (k.isdigit() and n.isdigit() and int(k) < int(n)):
        raise BadConfig(f"--shard '{text}': write K/N with K from 0 to N-1, as in 0/4")
    return int(k), int(n)


def _show(title: str, tables, as_json: bool, facts: dict) -> None:
    if as_json:
        print(json.dumps({**facts, "tables": [t.to_json() for t in tables]}, ensure_ascii=False))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=180)  # a file or a pipe has no edge to break lines at
    console.print(title, highlight=False, markup=False)
    for table in tables:
        shown = Table(title="\n" + table.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        shown.add_column("", no_wrap=True)
        for column in table.columns:
            shown.add_column(column, justify="right")
        for name, cells in table.rows:
            shown.add_row(name, *(c.text() for c in cells))
        console.print(shown)
        if table.note:
            console.print(table.note, style="dim", highlight=False, markup=False)
