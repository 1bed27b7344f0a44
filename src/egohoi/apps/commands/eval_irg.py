"""`egohoi eval irg`."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from egohoi.apps.commands.eval_common import Device, Json, Limit, Model, Out, Plain, Report, Shard, check_protocol, part, show
from egohoi.errors import BadConfig, BadPredictions

Saved = Annotated[list[Path] | None, typer.Option(help="Lines of `egohoi predict`, records of a run, ANNEXE's output.json or EARL's results; may be given again.")]  # fmt: skip


def irg(
    data: Annotated[Path, typer.Option(help="Folder in the layout of Ego-IRGBench.")],
    predictions: Saved = None,
    model: Model = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    protocol: Annotated[str, typer.Option(help="released (the published script), strict (corrected), or both.")] = "both",
    plain: Plain = False,
    batches: Annotated[bool, typer.Option("--batches", help="With --plain: the lines that the script prints while it runs.")] = False,
    limit: Limit = None,
    queries: Annotated[int | None, typer.Option(min=1, help="Only the first N wordings of each entry.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Index images for predictions that hold no masks.")] = None,
    depth: Annotated[Path | None, typer.Option(help="Predicted depth images, FRAME.png.")] = None,
    save_masks: Annotated[Path | None, typer.Option(help="Write the masks as index images.")] = None,
    save_depth: Annotated[Path | None, typer.Option(help="Write the model's depth as 16-bit images.")] = None,
    compare: Annotated[list[Path] | None, typer.Option(help="Predictions of a second model, to test the difference.")] = None,
    out: Out = None,
    report: Report = None,
    as_json: Json = False,
    shard: Shard = None,
    device: Device = None,
) -> None:
    """Ego-IRG: analysis, answer, masks or none; the published numbers and the corrected ones side by side."""
    check_protocol(model, predictions, protocol, plain)
    if compare and (plain or shard):
        raise BadConfig("--compare needs all items and prints a table: leave --plain and --shard away")
    if batches and not plain:
        raise BadConfig("--batches belongs to --plain")
    if model and (masks or depth):
        raise BadConfig("--masks and --depth are for --predictions: a model gives its own (--save-masks, --save-depth)")
    if save_depth and not model:
        raise BadConfig("--save-depth is for --model")
    _measure(locals())


def _measure(o: dict) -> None:
    from egohoi.evaluation import irg_depth, irg_evaluation, irg_items, predictions_irg, processes

    plan = irg_items.plan(o["data"], o["split"], limit=o["limit"], queries=o["queries"])
    saved = predictions_irg.read(o["predictions"], plan, folder_of_masks=o["masks"]) if o["predictions"] else None
    depth = irg_depth.Folder(o["depth"]) if o["depth"] else None
    if depth:
        depth.check(plan.sizes)
    asked = saved.ids if saved else plan.queries
    piece = part(o["shard"])
    count = piece[1] if o["shard"] is None else 1  # processes that torchrun started and that wait for each other
    with processes.together(count, o["out"]) as (out, gather):
        files = [out.with_name(f"{out.stem}.{k}-of-{piece[1]}{out.suffix}") if o["out"] and piece[1] > 1 or count > 1 else out for k in range(piece[1])]
        depths = o["save_depth"] or Path(f"{out}.depth")
        for record in _records(o, plan, asked, saved, depth, piece, files[piece[0]], depths):
            if o["save_masks"] and record["grounded"]:
                predictions_irg.write_masks(o["save_masks"], [record])
        if not gather():
            return  # another process shows the numbers
        evaluation, chosen, counts = _summed(plan, asked, *((files, (0, 1)) if count > 1 else ([files[piece[0]]], piece)))
        if o["model"] and depths.is_dir() and evaluation.with_depth:
            depth = irg_depth.Folder(depths)
        order = saved.order if saved else evaluation.rows.names
        if saved:
            evaluation.faults.update(saved.faults)
        if o["protocol"] != "strict":
            evaluation.finish_released(order, irg_evaluation.depth_pairs(depth, o["data"]), trace=o["batches"])
            _from_tail(evaluation, saved)
            if evaluation.stopped and o["protocol"] == "released":
                raise BadPredictions(f"{_source(o)}: {evaluation.stopped}")
        if not o["plain"] or o["report"]:
            evaluation.finish_texts()
        comparison = [_comparison(o, plan, asked, evaluation)] if o["compare"] else []
        _show(o, evaluation, order, plan, chosen, counts, comparison)


def _comparison(o, plan, asked, evaluation):
    """The table of differences to a second model on the same items."""
    from egohoi.evaluation import irg_evaluation, irg_items, irg_score, irg_tables, predictions_irg, report_compare

    other, second = predictions_irg.read(o["compare"], plan), irg_evaluation.Evaluation()
    if other.ids.keys() != asked.keys():
        raise BadPredictions(f"{o['compare'][0]}: answers {len(other.ids)} items, {_source(o)} {len(asked)}: both have to answer the same ones")
    for frame in plan.sizes:
        for truth in irg_items.truths(plan, frame):
            if truth.id in asked:
                second.add(irg_score.record(truth, other.answer(truth.id)))
    second.finish_texts()
    return report_compare.comparison(
        evaluation.tally, second.tally, irg_tables.COMPARED, names=(f"first: {_source(o)}", f"second: {o['compare'][0]}"),
    )  # fmt: skip


def _source(o) -> str:
    return o["model"] or ", ".join(map(str, o["predictions"]))


def _records(o, plan, asked, saved, depth, piece, out, depths):
    """Records of this process's frames, kept in `out`; a stopped run goes on behind the last one."""
    from egohoi.evaluation.records import Records, state

    given = state([*o["predictions"], *filter(None, (o["masks"], o["depth"]))]) if saved and o["out"] else None
    header = {
        "benchmark": "irg", "data": str(o["data"]), "split": o["split"], "source": _source(o), "limit": o["limit"], "queries": o["queries"],
        "masks": o["masks"] and str(o["masks"]), "depth": o["depth"] and str(o["depth"]), "shard": "/".join(map(str, piece)),
        "files": given,
    }  # fmt: skip
    work = {frame: names for frame in list(plan.sizes)[piece[0] :: piece[1]] if (names := [n for n in plan.of_frame[frame] if n in asked])}
    with Records(out, header) as kept, _bar(sum(map(len, work.values()))) as bar:
        model = _Later(o)
        for frame, names in work.items():
            held = []
            while len(held) < len(names) and (record := kept.held(names[len(held)])) is not None:
                held.append(record)
            for record in held:
                bar()
                yield record
            for record in _frame(o, plan, frame, names, held, saved, depth, model, depths):
                kept.add(record)
                bar()
                yield record


class _Later:
    """The model, loaded when it is first asked: a run that is complete needs none."""

    def __init__(self, o):
        self._o, self._model = o, None

    def __call__(self):
        if self._model is None:
            from egohoi.models import load

            self._model = load(self._o["model"], device=self._o["device"])
        return self._model


def _frame(o, plan, frame, names, held, saved, depth, model, depths):
    """Records of a frame's items that are not among `held`."""
    from egohoi.evaluation import irg_depth, irg_items, irg_model, irg_score

    left = set(names[len(held) :])
    if not left:
        return
    truths = [t for t in irg_items.truths(plan, frame) if t.id in left]
    if saved:
        answers = (saved.answer(t.id) for t in truths)
    else:
        answers = irg_model.answers(model(), truths, next((r["analysis"] for r in held if r["analysis"] is not None), None))
    slow = not o["plain"] or o["report"] or o["out"]  # nothing that is printed needs the contours
    for truth, answer in zip(truths, answers):
        record = irg_score.record(truth, answer, boundary=bool(slow))
        if truth.id == names[0]:
            if depth:
                record["depth"] = depth.scores(truth.item)
            elif not saved and irg_model.save_depth(model(), truth, depths):
                record["depth"] = irg_depth.Folder(depths).scores(truth.item)
        yield record


def _summed(plan, asked, files, piece):
    """Read the records again, of all processes in the order of the data, add them up, and choose the items for the page."""
    from egohoi.evaluation import irg_evaluation, irg_tables, records
    from egohoi.evaluation.report import ends

    evaluation = irg_evaluation.Evaluation()
    for path in files:
        if not path.is_file():
            raise BadPredictions(f"{path}: the records of this process are not there: all processes need --out in one folder that they share")

    def cards():
        streams = [records.read(path) for path in files]
        for k, frame in enumerate(list(plan.sizes)[piece[0] :: piece[1]]):
            for name in (n for n in plan.of_frame[frame] if n in asked):
                record = next(streams[k % len(streams)], None)
                if record is None or record["id"] != name:
                    raise BadPredictions(f"{files[k % len(files)]}: the record of {name} is missing: run the command again, it goes on")
                record["id"] = name  # the text that is there already
                evaluation.add(record)
                yield irg_tables.card(record)

    chosen, counts = ends(cards(), 8)
    return evaluation, chosen, counts


def _from_tail(evaluation, saved) -> None:
    """Take depth and IoU from the end of a file that the published script wrote itself, where it holds nothing to compute them from."""
    if evaluation.released is None or saved is None or not saved.published:
        return
    from egohoi.evaluation.irg_released import NUMBERS

    for name, text in zip(NUMBERS, saved.published):
        if evaluation.released.values[name] is None:
            with contextlib.suppress(ValueError):
                evaluation.released.values[name] = float(text)


def _show(o, evaluation, order, plan, chosen, counts, comparison) -> None:
    from egohoi.evaluation import irg_differences, irg_tables

    released = evaluation.released
    if o["plain"]:
        lines = released.printed if o["batches"] else released.lines()
        print("\n".join(lines))
        if "nan" in lines:
            print("nan: the predictions hold nothing to compute this from (--masks, --depth)", file=sys.stderr)
        if not o["report"]:
            return
    shown = irg_tables.tables(evaluation) + comparison
    if released:
        shown.append(irg_differences.table(evaluation, evaluation.rows.ordered(order)))
    if o["out"]:
        _write_texts(o["out"], evaluation)
    title = f"{_source(o)} on {o['data']}: {len(evaluation.rows)} queries of {len(evaluation.rows.frame_names)} frames"
    if not o["plain"]:
        show(title, shown, o["as_json"], _facts(o, evaluation) if o["as_json"] else {})
        if evaluation.stopped and not o["as_json"]:
            print(f"The published numbers are not shown: {evaluation.stopped}")
    if o["report"]:
        _page(o, evaluation, shown, plan, chosen, counts)


def _facts(o, evaluation) -> dict:
    strict = {key: m.to_json() for key in evaluation.tally.keys() if (m := evaluation.strict(key.partition("/")[2], key.partition("/")[0]))}
    released = evaluation.released and {k: None if v != v else v for k, v in evaluation.released.values.items()}  # JSON knows no NaN
    return {
        "source": _source(o), "data": str(o["data"]), "split": o["split"], "items": len(evaluation.rows),
        "released": released, "stopped": evaluation.stopped or None, "strict": strict, "bleu": evaluation.bleu,
    }  # fmt: skip


def _page(o, evaluation, shown, plan, chosen, counts) -> None:
    from egohoi.evaluation import irg_differences, irg_tables, report

    sections = [report.Section("About the protocols", f"{irg_differences.NOT_SHOWN}\n\n{irg_differences.stops()}")]
    if evaluation.stopped:
        sections.append(report.Section("Published numbers", f"Not shown: {evaluation.stopped}"))
    report.write(
        o["report"], f"Ego-IRG: {_source(o)}", shown, chosen=irg_tables.with_truth(chosen, plan), counts=counts, plots=irg_tables.plots(evaluation), sections=sections,
        facts={"source": _source(o), "data": o["data"], "split": o["split"], "queries": len(evaluation.rows), "protocols": o["protocol"]},
    )  # fmt: skip


def _write_texts(out: Path, evaluation) -> None:
    """Text measures of every item beside the records, because CIDEr is known only when all are."""
    import json

    path = out.with_name(f"{out.stem}.texts{out.suffix}")
    part = Path(f"{path}.part")
    with open(part, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in evaluation.item_texts())
    os.replace(part, path)


@contextlib.contextmanager
def _bar(total: int):
    """A bar that counts queries; gives the function that advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(TextColumn("queries"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("queries", total=total)
        yield lambda: bar.advance(task)
