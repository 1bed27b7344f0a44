"""The published evaluation of saved predictions and nothing else. Imports little, so that starting takes no longer than scoring."""

from egohoi.evaluation import hoiqa_files, hoiqa_items
from egohoi.evaluation.hoiqa_files import PARTS, Paths
from egohoi.evaluation.hoiqa_released import Released


def of_files(paths: Paths, *, any_canvas: bool = False) -> Released:
    """`hoiqa_run.released(hoiqa_run.saved(paths))` for boxes in braces, without an object for every answer. Raises as `hoiqa_run.saved`."""
    sums = Released()
    add, outcome_of, of_record, answers_of = sums.add, hoiqa_items.released, hoiqa_items.of_record, hoiqa_items.answers
    for part in PARTS:
        for key, truth, row in hoiqa_files.pairs(part, paths):
            for item, text in answers_of(of_record(part, key, truth, any_canvas=any_canvas), row):
                what, outcome = outcome_of(item, text)
                add(part, what, outcome)
    return sums
