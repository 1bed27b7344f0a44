"""The published evaluation of saved predictions and nothing else. Imports little, so that starting takes no longer than scoring."""

from egohoi.evaluation import hoiqa_files, hoiqa_items
from egohoi.evaluation.hoiqa_files import PARTS, Paths
from egohoi.evaluation.hoiqa_released import Released, hoi_box, hoi_noun

#: How many questions are remembered.
_KEPT = 10_000


def of_files(paths: Paths, *, any_canvas: bool = False) -> Released:
    """`hoiqa_run.released(hoiqa_run.saved(paths))` for boxes in braces, in a third of the time. Raises as `hoiqa_run.saved`."""
    sums = Released()
    for part in PARTS:
        score = _Quick(sums, any_canvas) if part == "hoi" else None
        for key, truth, row in hoiqa_files.pairs(part, paths):
            if score is None or not score(key, truth, row):
                _general(part, key, truth, row, sums, any_canvas)
    return sums


def _general(part: str, key: str, truth: dict, row: dict, sums: Released, any_canvas: bool) -> None:
    for item, text in hoiqa_items.answers(hoiqa_items.of_record(part, key, truth, any_canvas=any_canvas), row):
        what, outcome = hoiqa_items.released(item, text)
        sums.add(part, what, outcome)


class _Quick:
    """Scores the ordinary records of the hoi file: one box or a name, a question that was seen before. Everything else, and
    everything that could be an error, it leaves alone."""

    def __init__(self, sums: Released, any_canvas: bool):
        self.add = sums.add
        self.limits = (1e9, 1e9) if any_canvas else PARTS["hoi"][2]
        self.known: dict[str, str] = {}

    def __call__(self, key: str, truth: dict, row: dict) -> bool:
        """Whether the record was scored."""
        question, wanted, said = truth.get("question"), truth.get("answer"), row.get("answer")
        if type(question) is not str or type(said) is not str:
            return False
        asked = self.known.get(question)
        if asked is None:  # the first of its kind goes the long way; its text without the tag is what models were asked
            if len(self.known) < _KEPT and question.startswith(("[refer] ", "[vqa] ")):
                self.known[question] = hoiqa_files.untagged(question)
            return False
        if row.get("question") != asked:
            return False
        if question.startswith("[refer]"):
            if type(wanted) is not list:
                return False
            try:
                outcome = hoi_box(question, (hoiqa_files.box_of(wanted, "hoi", key, self.limits),), said)
            except (ZeroDivisionError, OverflowError):
                return False
            self.add("hoi", "box", outcome)
            return True
        if type(wanted) is not str or "[refer]" in question:
            return False
        self.add("hoi", "noun", hoi_noun(question, wanted, said))
        return True
