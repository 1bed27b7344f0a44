"""ANNEXE with and without its parts: four runs with the same seed, data and steps, measured on the same questions.

    egohoi build irg data/synth-train --out data/irg-train --splits train=1
    egohoi build irg data/synth-test --out data/irg-test --splits test=1
    OMP_NUM_THREADS=1 python benchmarks/annexe_ablation.py data/irg-train data/irg-test --out runs/annexe-ablation

Trains through the code of `egohoi train` and asks through `Model.ask_many`. Every test frame gives one question, kinds in
turn. A finished run or measurement is not repeated, a stopped one goes on. Writes OUT/table.md. Pictures, augmentation and the
frozen tower are computed once for all runs, as `--views` fixed views of each frame (see annexe_views.py); `--views 0` draws and
encodes anew at every step, as `egohoi train` does.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

CONFIG = Path(__file__).parents[1] / "configs" / "annexe_small.yaml"
#: Name of a run -> what differs from the configuration.
RUNS = {
    "base": [],
    "without depth": ["model.depth=false"],
    "without analysis context": ["model.analysis=apart"],
    "input embeddings": ["model.conditioning=input"],
}
#: Measures of the table: heading -> (numerator, denominator) in the rows of items.jsonl.
MEASURES = {
    "mask IoU": ("iou", "targets"), "Σ∩ / Σ∪": ("inter", "union"), "no target right": ("refused", "none"),
    "target found": ("found", "some"), "answer exact": ("answer", "one"), "analysis exact": ("analysis", "one"),
}


def questions(folder: str) -> list:
    """One (item, query) of every test frame: single, multi and no target in turn where the frame has such an entry."""
    from egohoi.scenes import irgbench

    chosen = []
    for k, frame in enumerate(irgbench.frames(folder, "test")):
        items = irgbench.read_frame(folder, "test", frame)
        turn = [i for i in items if i.kind == irgbench.KINDS[k % 3]] or items
        chosen.append((turn[0], turn[0].questions[0].query))
    return chosen


def measured(response, item) -> dict:
    """Sums of one answer. Masks are paired with targets so that their IoUs add up to the most; a missing one counts 0."""
    import numpy as np

    from egohoi import masks
    from egohoi.models import annexe_text
    from egohoi.questions import irg
    from egohoi.scenes import irgbench

    truth = irgbench.target_masks(item)
    made = [masks.decode(e.mask).astype(bool) for e in response.entities]
    table = [[(t & m).sum() / max(1, (t | m).sum()) for m in made] for t in truth]
    count = min(len(truth), len(made))
    best = max((sum(table[t][m] for t, m in zip(ts, ms)) for ts in itertools.combinations(range(len(truth)), count)
                for ms in itertools.permutations(range(len(made)), count)), default=0.0)
    empty = np.zeros((item.size[1], item.size[0]), bool)
    all_truth, all_made = np.any([empty, *truth], 0), np.any([empty, *made], 0)
    wanted = annexe_text.parse(annexe_text.join(item.names)).text if item.names else irg.answer_text(item)
    return {
        "id": item.id, "kind": item.kind, "iou": float(best), "targets": len(truth),
        "inter": float((all_truth & all_made).sum()), "union": float((all_truth | all_made).sum()),
        "refused": float(not truth and not response.target_found), "none": float(not truth),
        "found": float(bool(truth) and response.target_found), "some": float(bool(truth)),
        "answer": float(response.text.strip() == wanted), "analysis": float((response.analysis or "").strip() == item.caption),
        "one": 1.0, "text": response.text, "wanted": wanted,
    }


def config_of(name: str, train: str, folder: Path, words: list[str]):
    """The configuration of a run."""
    from egohoi.training import annexe
    from egohoi.training import config as configuration

    changed = [f"out={folder}", f"data.0.folder={train}", *words, *RUNS[name]]
    return configuration.build(annexe.Config, configuration.override(configuration.read(CONFIG), changed))


def views_of(train: str, out: Path, words: list[str], views: int) -> None:
    """Make the views that all runs share."""
    import annexe_views
    import torch

    from egohoi.training import annexe

    torch.set_num_threads(1)
    begin = time.process_time()
    annexe_views.prepare(annexe.Annexe(config_of("base", train, out / "views", words)), out / "views", views)
    print(f"views: {time.process_time() - begin:.0f} CPU seconds", flush=True)


def run(name: str, train: str, test: str, out: Path, words: list[str], views: int) -> None:
    """Train one run and measure it."""
    import annexe_views
    import torch

    import egohoi
    from egohoi import images
    from egohoi.records import Query
    from egohoi.training import annexe, loop
    from egohoi.training.config import plain

    torch.set_num_threads(1)
    folder = out / name.replace(" ", "-")
    begin = time.process_time()
    if not (folder / "model" / "model.safetensors").is_file():
        given = config_of(name, train, folder, words)
        recipe = annexe_views.Views(given, out / "views") if views else annexe.Annexe(given)
        if not loop.fit(recipe, given.loop, given.out, plain(given)).finished:
            sys.exit(1)
        (folder / "seconds.json").write_text(json.dumps(time.process_time() - begin))
    model = egohoi.load(f"annexe:{folder / 'model'}", device="cpu")
    rows, chosen = [], questions(test)
    for start in range(0, len(chosen), 16):
        part = chosen[start : start + 16]
        asked = [(images.load(item.image), Query(text=query, task="ground")) for item, query in part]
        rows += [measured(r, item) for r, (item, _) in zip(model.ask_many(asked), part)]
    part_file = folder / "items.jsonl.part"
    part_file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    os.replace(part_file, folder / "items.jsonl")


def table(out: Path, names) -> str:
    """Values with 95 % bootstrap intervals over the frames, then paired differences from the first run."""
    from egohoi.evaluation import statistics

    rows = {n: [json.loads(line) for line in (out / n.replace(" ", "-") / "items.jsonl").read_text("utf-8").splitlines()] for n in names}

    def columns(name, measure):
        top, bottom = MEASURES[measure]
        return [r[top] for r in rows[name]], [r[bottom] for r in rows[name]]

    head = f"| run | {' | '.join(MEASURES)} |\n|---|{'---|' * len(MEASURES)}\n"
    text = head
    for name in names:
        cells = [statistics.bootstrap(*columns(name, m)) for m in MEASURES]
        text += f"| {name} | " + " | ".join(f"{100 * c.value:.1f} [{100 * c.low:.1f}, {100 * c.high:.1f}]" for c in cells) + " |\n"
    text += "\nDifference from the first run on the same questions, with the p-value of a paired randomisation test:\n\n" + head
    for name in list(names)[1:]:
        cells = []
        for measure in MEASURES:
            (first, below), (second, other) = columns(names[0], measure), columns(name, measure)
            if below != other:  # unions differ with the masks: no common denominator, so no paired test of this ratio
                cells.append("-")
                continue
            p = statistics.paired(first, second, below)
            cells.append(f"{100 * p.difference:+.1f} [{100 * p.low:+.1f}, {100 * p.high:+.1f}] {_p(p.p)}")
        text += f"| {name} | " + " | ".join(cells) + " |\n"
    kinds = [r["kind"] for r in rows[names[0]]]
    return text + "\n" + ", ".join(f"{kinds.count(k)} {k}" for k in sorted(set(kinds))) + "\n"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p {value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", help="Ego-IRG folder with a split 'train'")
    parser.add_argument("test", help="Ego-IRG folder with a split 'test'")
    parser.add_argument("--out", type=Path, default=Path("runs/annexe-ablation"))
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time, one core each")
    parser.add_argument("--only", choices=RUNS, help="one run, no table")
    parser.add_argument("--views", type=int, default=4, help="views of each frame, made once for all runs; 0: drawn anew at every step")
    parser.add_argument("words", nargs="*", help="changes of every run's configuration, such as loop.steps=3000")
    given = parser.parse_intermixed_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.only:
        return run(given.only, given.train, given.test, given.out, given.words, given.views)
    waiting = [n for n in RUNS if not (given.out / n.replace(" ", "-") / "items.jsonl").is_file()]
    if given.views and any(not (given.out / n.replace(" ", "-") / "model").is_dir() for n in RUNS):
        views_of(given.train, given.out, given.words, given.views)
    going: list[subprocess.Popen] = []
    while waiting or going:
        while waiting and len(going) < given.jobs:
            command = [sys.executable, __file__, given.train, given.test, "--out", str(given.out), "--views", str(given.views)]
            command += ["--only", waiting.pop(0), *given.words]
            going.append(subprocess.Popen(command))
        time.sleep(1)
        for process in [p for p in going if p.poll() is not None]:
            going.remove(process)
            if process.returncode:
                sys.exit(f"a run ended with {process.returncode}; start again to go on")
    text = table(given.out, list(RUNS))
    (given.out / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
