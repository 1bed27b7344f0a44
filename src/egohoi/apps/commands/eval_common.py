"""What the sub-commands of `egohoi eval` share: options, shards, and tables on the screen."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from egohoi.errors import BadConfig

Model = Annotated[str | None, typer.Option(help="Model to run: nano, or KIND:FOLDER.", metavar="NAME|KIND:FOLDER")]
Out = Annotated[Path | None, typer.Option(help="Records, one JSON line an item; a stopped run goes on from here.")]
Report = Annotated[Path | None, typer.Option(help="One self-contained HTML page.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first N.")]
Shard = Annotated[str | None, typer.Option(help="K/N: only part K of N (from 0); default: torchrun's RANK and WORLD_SIZE, else 0/1.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")]
Plain = Annotated[bool, typer.Option("--plain", help="Print exactly the lines of the published script (--protocol released), nothing else.")]
Frames = Annotated[Path | None, typer.Option(help="Folder of the frames.")]


def part(text: str | None) -> tuple[int, int]:
    """(k, n) of `--shard K/N`; without one RANK and WORLD_SIZE of torchrun, else (0, 1). Raises BadConfig."""
    if text is None:
        text = f"{os.environ.get('RANK', '0')}/{os.environ.get('WORLD_SIZE', '1')}"
    k, _, n = text.partition("/")
    if not (k.isdigit() and n.isdigit() and int(k) < int(n)):
        raise BadConfig(f"--shard '{text}': write K/N with K from 0 to N-1, as in 0/4")
    return int(k), int(n)


def check_protocol(model, predictions, protocol: str, plain: bool) -> None:
    """Refuse what contradicts itself in the options of a benchmark with a published script. Raises BadConfig."""
    if bool(model) == bool(predictions):
        raise BadConfig("give --predictions or --model")
    if protocol not in ("released", "strict", "both"):
        raise BadConfig(f"--protocol '{protocol}': write released, strict or both")
    if plain and protocol != "released":
        raise BadConfig("--plain prints the lines of the published script: add --protocol released")


def show(title: str, tables, as_json: bool, facts: dict) -> None:
    """Print the tables for a person, or with `as_json` the facts and tables as one line of JSON."""
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
        for k, column in enumerate(table.columns):
            words = any(isinstance(cells[k].value, str) and " " in cells[k].value for _, cells in table.rows)
            shown.add_column(column, justify="left" if words else "right")
        for name, cells in table.rows:
            shown.add_row(name, *(c.text() for c in cells))
        console.print(shown)
        if table.note:
            console.print(table.note, style="dim", highlight=False, markup=False)
