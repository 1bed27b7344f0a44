"""Both protocols on Ego-IRGBench, out of the records of a run (`irg_score.record`)."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from egohoi.evaluation import depth_metrics, irg_items, irg_released, irg_score, text_metrics, wordnet
from egohoi.evaluation.irg_depth import Folder
from egohoi.evaluation.irg_released import Released, Row
from egohoi.evaluation.irg_rows import Pairs, Rows
from egohoi.evaluation.tally import Tally

KINDS = ("single", "multi", "none")
TEXTS = ("analysis", "answer", "sentence")


@dataclass
class Evaluation:
    """Sums of a run; an item takes some hundred bytes and each distinct text is kept once.

    rows: what the published script would see. texts: pairs (said, true) of every row; an analysis counts for the first of the rows of a
    frame that have it. stopped: why the published script would end with an error, then `released` is None.
    """

    tally: Tally = field(default_factory=Tally)
    texts: dict[str, Pairs] = field(default_factory=lambda: {name: Pairs() for name in TEXTS})
    rows: Rows = field(default_factory=Rows)
    faults: Counter = field(default_factory=Counter)
    kinds: Counter = field(default_factory=Counter)
    bins: list[int] = field(default_factory=lambda: [0] * 20)
    grounded: bool = False
    with_depth: bool = False
    bleu: dict[str, tuple[float, ...]] = field(default_factory=dict)
    released: Released | None = None
    stopped: str = ""
    _analyses: set = field(default_factory=set)
    _scores: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    _measures: dict = field(default_factory=dict)

    def add(self, row: dict) -> None:
        """Add one record."""
        self._measures.clear()
        name, kind, truth = row["id"], row["kind"], row["truth"]
        frame = irg_items.frame_of(name)
        counts = irg_score.counts(row)
        self.tally.add(frame, {f"{scope}/{k}": v for scope in ("all", kind) for k, v in counts.items()})
        if "depth" in row:
            self.with_depth = True
            self.tally.add(frame, {f"all/{k}": (v, 1.0) for k, v in row["depth"].items()})
        self.kinds[kind] += 1
        self.grounded |= row["grounded"]
        self.faults.update(row.get("faults", {}))
        self.bins[min(19, int(irg_score.value(row) * 20))] += 1
        self.texts["answer"].add((row["text"], truth["answer"]))
        self.texts["sentence"].add((row["text"], truth["sentence"]))
        self.texts["analysis"].add(self._analysis(frame, row["analysis"], truth["caption"]))
        answer, caption = truth["published"]
        self.rows.add(Row(
            name, frame, tuple(row["size"]), (row["text"], answer), (row["analysis"] or "", caption), row["target_found"], bool(truth["with_mask"]),
            irg_score.classes(row),
        ))  # fmt: skip

    def _analysis(self, frame: str, said: str | None, true: str) -> tuple[str, str] | None:
        """The pair, if it is there and was not seen before in this frame."""
        key = hash((frame, said, true))
        if said is None or key in self._analyses:
            return None
        self._analyses.add(key)
        return said, true

    def finish_texts(self) -> None:
        """Score the texts: METEOR (if the word data is installed), CIDEr, ROUGE-L, BLEU-1 to -4, over the set and per item."""
        self._measures.clear()
        frames = np.frombuffer(self.rows.frames, dtype=np.dtype("l")) if len(self.rows) else np.zeros(0, dtype=int)
        for name, texts in self.texts.items():
            if not texts.distinct:
                continue
            found = scores(texts.distinct, texts.counts())
            self.bleu[name] = tuple(found[f"BLEU-{k}"].corpus for k in range(1, 5))
            self._scores[name] = {k: np.array(v.items) for k, v in found.items()}
            numbers = texts.numbers()
            there = numbers >= 0
            per_frame = np.bincount(frames[there], minlength=len(self.rows.frame_names))
            for measure in ("METEOR", "CIDEr", "ROUGE-L"):
                if measure in found:
                    sums = np.bincount(frames[there], weights=self._scores[name][measure][numbers[there]], minlength=len(per_frame))
                    for frame, value, count in zip(self.rows.frame_names, sums, per_frame):
                        if count:
                            self.tally.add(frame, {f"all/{name} {measure}": (float(value), float(count))})

    def finish_released(self, order: Sequence[str], depth: Callable | None, *, trace: bool = False) -> None:
        """Compute the published numbers over items in that order; `stopped` says where the script would end with an error.

        trace: keep the lines that the script prints while it runs.
        """
        if not wordnet.available():
            self.stopped = wordnet.HOW
            return
        try:
            self.released = irg_released.evaluate(self.rows.ordered(order), depth, trace=trace)
        except irg_released.Stopped as error:
            self.stopped = f"the published script stops with an error at {error}"

    def item_texts(self) -> Iterator[dict]:
        """{"id", TEXT: {measure: value}} of every item with a text."""
        for k, item in enumerate(self.rows.names):
            row = {"id": item}
            for name, measures in self._scores.items():
                number = self.texts[name].at[k]
                if number >= 0:
                    row[name] = {measure: round(float(values[number]), 9) for measure, values in measures.items()}
            yield row

    def strict(self, name: str, scope: str = "all"):
        """A strict measure with its interval, None if nothing counts."""
        key = f"{scope}/{name}"
        if key not in self._measures:  # tables, plots and reasons show the same ones
            self._measures[key] = self.tally.measure(key)
        return self._measures[key]


def scores(pairs: Sequence[tuple[str, str]], counts: Sequence[int]) -> dict[str, text_metrics.TextScore]:
    """METEOR (with word data), CIDEr, ROUGE-L and BLEU-1..4 of pairs (said, true) that come `counts` times each."""
    said, true = [s for s, _ in pairs], [[t] for _, t in pairs]

    def of_set(score: text_metrics.TextScore) -> text_metrics.TextScore:
        return text_metrics.TextScore(float(np.average(score.items, weights=counts)), score.items)

    out = {"CIDEr": text_metrics.cider(said, true, counts=counts), "ROUGE-L": of_set(text_metrics.rouge_l(said, true))}
    if wordnet.available():
        out["METEOR"] = of_set(text_metrics.meteor(said, true))
    return out | {f"BLEU-{k}": score for k, score in enumerate(text_metrics.bleu(said, true, counts=counts), 1)}


def depth_pairs(predicted: Folder | None, folder: Path) -> Callable | None:
    """frame -> (predicted, true) depth as the published script compares them, or None without predicted depth."""
    if predicted is None:
        return None

    @functools.lru_cache(maxsize=16)
    def true(frame: str):
        with Image.open(Path(folder) / "depth" / f"{frame}.png") as image:
            return depth_metrics.annexe_truth(image)

    return lambda frame: (predicted.square(frame), true(frame))
