"""`egohoi build`: questions out of raw annotations (hoiqa), Ego-IRG data (irg), frames out of videos, and a check of frames."""

import importlib
import json
import os
from pathlib import Path
from typing import Annotated

import typer

from egohoi.errors import BadConfig, BadData, BadRecord, EgohoiError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, help=__doc__)
_INPUT = "Inputs"


@app.command()
def hoiqa(
    out: Annotated[str, typer.Option(help="Folder to write: shards in train and test, the official files in hoiqa, report.json.")],
    visor: Annotated[list[str] | None, typer.Option(help="VISOR annotations: a folder of JSON files, or one.", rich_help_panel=_INPUT)] = None,
    visor_mapping: Annotated[str | None, typer.Option(help="VISOR's frame_mapping.json; the one in the folder is found.", rich_help_panel=_INPUT)] = None,
    visor_correct: Annotated[str | None, typer.Option(help="VISOR-HOS's correct.json: relations put right.", rich_help_panel=_INPUT)] = None,
    epic_hands: Annotated[list[str] | None, typer.Option(help="EPIC-KITCHENS-100 hand-object detections: folder of .pkl.", rich_help_panel=_INPUT)] = None,
    hand_score: Annotated[float, typer.Option(min=0, max=1, help="Least score of a detected hand.", rich_help_panel=_INPUT)] = 0.5,
    object_score: Annotated[float, typer.Option(min=0, max=1, help="Least score of a detected object.", rich_help_panel=_INPUT)] = 0.5,
    every: Annotated[int, typer.Option(min=1, help="Of the detections, each N-th frame.", rich_help_panel=_INPUT)] = 1,
    narrations: Annotated[str | None, typer.Option(help="EPIC_100_*.csv: what is done in the frames of VISOR and the detections.", rich_help_panel=_INPUT)] = None,
    narrated_frames: Annotated[bool, typer.Option("--narrated-frames", help="Also ask about the middle frame of each narration.", rich_help_panel=_INPUT)] = False,
    ego4d: Annotated[list[str] | None, typer.Option(help="Ego4D fho_main.json or fho_scod_*.json.", rich_help_panel=_INPUT)] = None,
    egohos: Annotated[list[str] | None, typer.Option(help="EgoHOS folder.", rich_help_panel=_INPUT)] = None,
    coco: Annotated[list[str] | None, typer.Option(help="COCO JSON with side and in_contact_with attributes.", rich_help_panel=_INPUT)] = None,
    scenes: Annotated[list[str] | None, typer.Option(help="Folder with scenes.jsonl, or the file.", rich_help_panel=_INPUT)] = None,
    types: Annotated[str, typer.Option(help="Which question types.")] = "Q1,Q2,Q3,Q4,Q5,Q6,Q7,Q8",
    wording: Annotated[str, typer.Option(help="reference: the words of HOI-QA; more: further wordings too.")] = "reference",
    negatives: Annotated[bool, typer.Option("--negatives", help="Also ask where the labels say that there is nothing.")] = False,
    name_held: Annotated[bool, typer.Option("--name-held", help="The only held object, if unnamed, takes the narration's noun: a guess.")] = False,
    codec: Annotated[str, typer.Option(help="Text of boxes: braces (HOI-QA), thousand, absolute or loc.")] = "braces",
    balance: Annotated[bool, typer.Option(help="As many questions about left as about right hands, type by type.")] = True,
    test_fraction: Annotated[float, typer.Option(help="Share of videos held out where no split is declared.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    shard_rows: Annotated[int, typer.Option(min=1, help="Questions in a shard.")] = 100_000,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one a core. Changes no byte.")] = 0,
    engine: Annotated[str, typer.Option(help="local, or ray (RAY_ADDRESS names a cluster). Changes no byte.")] = "local",
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave broken records out and list them in the report.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> int:
    """HOI-QA out of raw annotations: eight types of questions, eight test subsets. Run again, it goes on where it was."""
    from egohoi.questions import build
    from egohoi.questions import engine as engines
    from egohoi.questions import hoiqa as questions

    if engine not in engines.ENGINES:
        raise BadConfig(f"--engine: one of {', '.join(engines.ENGINES)}, got '{engine}'")
    spoken = {"narrations": narrations} if narrations else {}
    sources = []
    for path in visor or []:
        options = dict(spoken)
        beside = Path(path) / "frame_mapping.json"
        mapping = visor_mapping or (str(beside) if beside.is_file() else None)
        options.update({k: v for k, v in (("mapping", mapping), ("correct", visor_correct)) if v})
        sources.append(build.Source("visor", path, options))
    detector = {"hand_score": hand_score, "object_score": object_score, "every": every}
    sources += [build.Source("epic-hands", path, {**detector, **spoken}) for path in epic_hands or []]
    if narrations and (narrated_frames or not (visor or epic_hands)):
        sources.append(build.Source("narrations", narrations))
    for kind, paths in (("ego4d", ego4d), ("egohos", egohos), ("coco", coco), ("scenes", scenes)):
        sources += [build.Source(kind, path) for path in paths or []]
    settings = questions.Settings(
        wording=wording, negatives=negatives, name_held=name_held, codec=codec, seed=seed,
        types=tuple(t.strip() for t in types.split(",") if t.strip()),
    )
    recipe = build.Recipe(settings, balance=balance, test_fraction=test_fraction, shard_rows=shard_rows, skip_broken=skip_broken)
    try:
        with _Bar(hidden=as_json) as bar:
            report = build.build(sources, out, recipe, workers=workers or os.cpu_count() or 1, engine=engine, progress=bar.show)
    except BadRecord as error:
        raise BadRecord(f"{error}; the same command with --skip-broken goes on without such records and lists them") from error
    except OSError as error:
        raise BadData(f"{error.filename or out}: cannot be written ({error.strerror or error})") from error
    print(json.dumps(report, ensure_ascii=False, indent=1)) if as_json else _show(report, out)
    return 0


class _Bar:
    """A progress bar of the stages of a build, with the time left."""

    def __init__(self, hidden: bool):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rows]:,} questions"),
            TimeRemainingColumn(), console=Console(stderr=True), disable=hidden,
        )
        self._tasks: dict = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._progress.stop() if self._tasks else None

    def show(self, stage: str, done: int, total: int, rows: int) -> None:
        if not self._tasks:
            self._progress.start()  # not before: a bar without a task is an empty line
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total, rows=rows)
        self._progress.update(self._tasks[stage], completed=done, total=total, rows=rows)


def _show(report: dict, out: str) -> None:
    """The report as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for split, by_source in report["questions"].items():
        if not by_source:
            continue
        console.print(f"{split}: {report['rows'][split]:,} questions about {report['frames'][split]:,} frames", highlight=False)
        table = Table()
        table.add_column("type", overflow="fold")
        for source in by_source:
            table.add_column(source, justify="right")
        for kind in sorted({k for types in by_source.values() for k in types}):
            table.add_row(kind, *(f"{found.get(kind, 0):,}" for found in by_source.values()))
        console.print(table)
    if report["dropped"]:
        table = Table("source", "type", "not asked because")
        table.add_column("times", justify="right")
        for source, by_type in report["dropped"].items():
            for kind, reasons in by_type.items():
                for reason, count in reasons.items():
                    table.add_row(source, kind, reason, f"{count:,}")
        console.print(table)
    if report["broken"]["count"]:
        console.print(f"{report['broken']['count']:,} broken records left out, for example:", style="yellow")
        for text in report["broken"]["first"][:5]:
            console.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{report['total']:,} questions in {out}: shards in train and test, official files in hoiqa, report.json", highlight=False, soft_wrap=True)


@app.command()
def check(
    data: Annotated[str, typer.Argument(help="A build, a store of shards, files of HOI-QA, scenes.jsonl, or a text file with one picture a line.")],
    frames: Annotated[str, typer.Option(help="Folder below which the frames lie.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print {questions, frames, missing} as JSON.")] = False,
) -> int:
    """Are all frames there? Reads every record as well, and lists the frames that are missing, each once."""
    from egohoi.questions import official, pictures

    places, counted = official.Frames(frames), {"questions": 0}
    seen: set[str] = set()

    def images():
        for image, count in pictures.named(data):
            counted["questions"] += count
            seen.add(image)
            yield image

    absent = []
    for image in official.missing(images(), places):
        absent.append(image)
        if not as_json:
            print(image)
    if as_json:
        print(json.dumps({**counted, "frames": len(seen), "missing": absent}, ensure_ascii=False, indent=1))
    if absent:
        raise BadData(
            f"{len(absent)} of {len(seen)} frames are not below {frames}: they are listed above; "
            "egohoi build frames extracts them from the videos"
        )
    if not as_json:
        about = f" of {counted['questions']:,} questions" if counted["questions"] else ""
        print(f"all {len(seen):,} frames{about} are there")
    return 0


def _borrow(name: str, module: str, attribute: str) -> None:
    """A sub-command of another module. If that module cannot be imported, only this sub-command fails, and says why."""
    try:
        function = getattr(importlib.import_module(f"egohoi.apps.commands.{module}"), attribute)
    except (ImportError, AttributeError) as error:
        problem = str(error)

        def function():
            raise EgohoiError(f"build {name} is not available: {problem}")

    app.command(name=name, help=function.__doc__)(function)


_borrow("frames", "build_frames", "frames")
_borrow("irg", "build_irg", "irg")
