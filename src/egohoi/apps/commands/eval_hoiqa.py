"""`egohoi eval hoiqa`."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from egohoi.apps.commands.eval_common import Device, Frames, Json, Limit, Model, Out, Plain, Report, Shard, check_protocol, part, show
from egohoi.errors import BadConfig

Saved = Annotated[list[Path] | None, typer.Option(help="predictions.json (with predictions_ego4d.json and predictions_hoi.json beside it), or JSON lines, given once or more.")]  # fmt: skip


def hoiqa(
    truth_dir: Annotated[Path, typer.Option("--truth-dir", help="Folder with epic-test.json, ego4d-test.json, epic-visor-test.json.")],
    predictions: Saved = None,
    model: Model = None,
    protocol: Annotated[str, typer.Option(help="released (the published script), strict (corrected), or both.")] = "both",
    plain: Plain = False,
    boxes: Annotated[str, typer.Option(help="How the answers write boxes: braces, thousand, absolute, loc.")] = "braces",
    seen: Annotated[str | None, typer.Option(help="WxH of the picture that the model saw, for --boxes absolute.")] = None,
    compare: Annotated[list[Path] | None, typer.Option(help="Predictions of a second model, to test the difference.")] = None,
    frames: Frames = None,
    out: Out = None,
    report: Report = None,
    as_json: Json = False,
    save: Annotated[Path | None, typer.Option(help="Write the model's answers as predictions.json in the published layout.")] = None,
    limit: Limit = None,
    batch: Annotated[int, typer.Option(min=1, help="Questions asked at once.")] = 16,
    shard: Shard = None,
    device: Device = None,
    any_canvas: Annotated[bool, typer.Option("--any-canvas", help="Go on where true boxes leave their canvas.")] = False,
) -> None:
    """HOI-QA: boxes, names, hands; the published numbers and the corrected ones side by side."""
    from egohoi.evaluation import hoiqa_files, hoiqa_plain

    check_protocol(model, predictions, protocol, plain)
    _check_convention(boxes)
    if limit and predictions and not _lines(predictions):
        raise BadConfig("--limit is for --model: saved predictions are measured whole")
    reading = {"convention": boxes, "seen": _size(seen), "any_canvas": any_canvas}
    paths = hoiqa_files.locate(truth_dir, None if model or _lines(predictions) else predictions[0])
    if plain and not (model or out or report or compare):
        if paths.predictions and boxes == "braces":
            sums = hoiqa_plain.of_files(paths, any_canvas=any_canvas)
        else:
            from egohoi.evaluation import hoiqa_run

            sums = hoiqa_run.released(_saved(predictions, paths, reading, limit))
        print("\n".join(sums.lines()))
        return
    piece = part(shard) if model else (0, 1)
    if out and piece[1] > 1:  # processes must not write into one file
        out = out.with_name(f"{out.stem}.{piece[0]}-of-{piece[1]}{out.suffix}")
    source = model or ", ".join(map(str, predictions))
    header = {"benchmark": "hoiqa", "truth": str(truth_dir), "source": source, "limit": limit, "shard": "/".join(map(str, piece)), "boxes": boxes}
    _measure(truth_dir, paths, source, header, reading, piece, locals())


def _measure(truth_dir, paths, source, header, reading, piece, options) -> None:
    from egohoi.evaluation import hoiqa_model, hoiqa_run, hoiqa_tables, report_compare, wordnet
    from egohoi.evaluation.journal import Journal
    from egohoi.evaluation.report import ends

    protocol, same = options["protocol"], wordnet.same_noun if wordnet.available() else None
    evaluation, bins = hoiqa_run.new(paths, protocol), [0] * 20
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(Journal(options["out"], header)) if options["model"] else _Lines(stack, options["out"], header)
        answers = _asked(options, paths, journal, piece) if options["model"] else _saved(options["predictions"], paths, reading, options["limit"])
        if options["save"]:
            writer = hoiqa_model.Official(options["save"])
            answers = _also(answers, writer)
        records = _kept(hoiqa_run.score(_bar(answers, paths, options, piece), evaluation, same=same), journal, bins)
        chosen, counts = ends((hoiqa_run.card(r) for r in records), 8)
        if options["save"]:
            writer.close()
    if evaluation.stopped and protocol == "released":
        from egohoi.errors import BadPredictions

        raise BadPredictions(evaluation.stopped)
    numbers = evaluation.released.numbers() if evaluation.released else None
    shown = hoiqa_tables.tables(evaluation.strict, numbers)
    if numbers:
        shown.append(evaluation.differences.table())
    if options["compare"]:
        shown.append(_comparison(options, paths, evaluation, reading, source, same, report_compare))
    if options["plain"]:
        print("\n".join(evaluation.released.lines()))
    else:
        facts = {"source": source, "truth": str(truth_dir), "items": evaluation.items, "released": numbers, "stopped": evaluation.stopped or None}
        screen = [t for t in shown if not t.title.startswith("Why")] + [_short(t) for t in shown if t.title.startswith("Why")]
        show(f"{source} on {truth_dir}: {evaluation.items} answers", screen if not options["as_json"] else shown, options["as_json"], facts)
        if evaluation.stopped and not options["as_json"]:
            print(f"The published numbers are not shown: {evaluation.stopped}")
    if options["report"]:
        _page(options, source, truth_dir, evaluation, numbers, shown, chosen, counts, bins)


def _check_convention(name: str) -> None:
    if name != "braces":  # the default needs no import
        from egohoi.evaluation import predictions_boxes

        if name not in predictions_boxes.CONVENTIONS:
            raise BadConfig(f"--boxes '{name}': write one of {', '.join(predictions_boxes.CONVENTIONS)}")


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise BadConfig(f"--seen '{text}': write WIDTHxHEIGHT in pixels, as in 1280x720")
    return int(width), int(height)


def _lines(predictions) -> bool:
    """Whether the predictions are JSON lines rather than the three files of the published layout."""
    if not predictions:
        return False
    if len(predictions) > 1 or predictions[0].suffix != ".json":
        if any(p.suffix == ".json" for p in predictions):
            raise BadConfig("--predictions: name predictions.json once, or files of JSON lines (.jsonl)")
        return True
    return False


def _saved(predictions, paths, reading, limit):
    from egohoi.evaluation import hoiqa_run, predictions_lines

    if _lines(predictions):
        return predictions_lines.answers(predictions, paths, limit=limit, **reading)
    return hoiqa_run.saved(paths, **reading)


def _asked(options, paths, journal, piece):
    from egohoi.evaluation import hoiqa_model
    from egohoi.models import load
    from egohoi.questions.official import Frames as Places

    places = Places(options["frames"] or options["truth_dir"])
    loaded = load(options["model"], device=options["device"])
    return hoiqa_model.answers(
        loaded, paths, places, journal.done, shard=piece, limit=options["limit"], batch=options["batch"], any_canvas=options["any_canvas"]
    )


class _Lines:
    """Writes records of saved predictions: nothing to resume, so nothing is read back."""

    def __init__(self, stack, path, header):
        from egohoi.evaluation.journal import fresh

        self.done: dict = {}
        self._add = stack.enter_context(fresh(path, header)) if path else None

    def add(self, unit: str, records: list[dict]) -> None:
        if self._add:
            self._add(unit, records)


def _also(answers, writer):
    for answer in answers:
        writer.add(answer)
        yield answer


def _kept(records, journal, bins):
    """Pass records on, written to the journal if they are new; counts the IoUs."""
    for record in records:
        if record["id"] not in journal.done:
            journal.add(record["id"], [record])
        if "boxes" in record:
            bins[min(19, int(record["value"] * 20))] += 1
        yield record


def _bar(answers, paths, options, piece):
    """Pass answers on, with a bar that counts them; a model's run knows how many there will be."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    total = None
    if options["model"]:
        from egohoi.evaluation import hoiqa_run

        groups = hoiqa_run.truths(paths, limit=options["limit"], any_canvas=options["any_canvas"])
        total = sum(len(group) for k, group in enumerate(groups) if k % piece[1] == piece[0])
    with Progress(TextColumn("answers"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("answers", total=total)
        for count, answer in enumerate(answers, 1):
            if options["model"] or count % 1000 == 0:
                bar.update(task, completed=count)
            yield answer


def _comparison(options, paths, evaluation, reading, source, same, report_compare):
    from egohoi.evaluation import hoiqa_files, hoiqa_run, hoiqa_tables

    other = options["compare"]
    places = paths if _lines(other) else hoiqa_files.locate(options["truth_dir"], other[0])
    second = hoiqa_run.new(places, "strict")
    for _ in hoiqa_run.score(_saved(other, places, reading, options["limit"]), second, same=same):
        pass
    return report_compare.comparison(evaluation.strict, second.strict, hoiqa_tables.COMPARED, names=(f"first: {source}", f"second: {other[0]}"))


def _short(table):
    """The table of differences without its long texts, for the screen."""
    from dataclasses import replace

    return replace(table, columns=table.columns[:-1], rows=tuple((name, cells[:-1]) for name, cells in table.rows))


def _page(options, source, truth_dir, evaluation, numbers, shown, chosen, counts, bins) -> None:
    from egohoi.evaluation import hoiqa_differences, report, report_svg
    from egohoi.evaluation.hoiqa_items import BOX_SUBSETS, NOUN_SUBSETS

    sums = evaluation.strict
    plots = [
        report_svg.bars("Accuracy by subset, strict", [
            *((s, sums.measure(f"subset.{s}/box")) for s in BOX_SUBSETS), *((s, sums.measure(f"subset.{s}/noun")) for s in NOUN_SUBSETS)
        ]),
        report_svg.from_counts("IoU of the answers about boxes (with the threshold)", bins),
    ]  # fmt: skip
    sections = []
    if evaluation.released:
        text = "Each published fault and its correction:\n\n" + "\n\n".join(f"{name}: {what}" for name, what in hoiqa_differences.REASONS.items())
        sections.append(report.Section("Two protocols", text))
    elif evaluation.stopped:
        sections.append(report.Section("Published numbers", f"Not shown: {evaluation.stopped}"))
    find = None
    if options["frames"] or options["model"]:
        from egohoi.questions.official import Frames as Places

        find = Places(options["frames"] or truth_dir).find
    report.write(
        options["report"], f"HOI-QA: {source}", shown, chosen=chosen, counts=counts, plots=plots, sections=sections, find=find,
        facts={"source": source, "truth": truth_dir, "answers": evaluation.items, "protocols": options["protocol"], "boxes written as": options["boxes"]},
    )
