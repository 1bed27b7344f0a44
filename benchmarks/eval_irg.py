"""Time the mask measure of `egohoi eval irg` beside the published per-pixel loop, and the whole command; watch the memory.

    git clone https://github.com/yuggiehk/annexe ../annexe
    python benchmarks/eval_irg.py masks ../annexe --predictions 100000 --loop 1000   # the published loop on the first 1,000 of the same masks
    python benchmarks/eval_irg.py memory --predictions 1000000                       # `--protocol strict`, or released --plain, at growing sizes

`masks` measures what both compute from the masks of a prediction and a truth, 1920x1080 pixels: the class IoU of batches of ten. Ours
starts from run lengths, the published `calculate_iou` (taken out of eval_scripts/eval_egoirgbench.py as it stands) from tensors that
are there already; neither reads files. Both get the same masks, and their values must be equal. With `--loop` below `--predictions` the
published time is that of the first batches, scaled up: its work for a batch does not depend on the masks.
"""

import argparse
import ast
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (1920, 1080)
NAMES = ("left hand", "right hand", "mug", "bottle", "knife", "toy car", "cutting board", "drawer")


def ellipse(r: random.Random, size, x=None, y=None) -> np.ndarray:
    """bool [H, W]: something of a hand's size with a fringed edge."""
    width, height = size
    x, y = x or r.uniform(0.2, 0.8) * width, y or r.uniform(0.2, 0.8) * height
    rows, columns = np.ogrid[:height, :width]
    angle = np.arctan2(rows - y, columns - x)
    edge = 1 + 0.08 * np.sin(r.randint(5, 60) * angle)
    return ((columns - x) / (r.uniform(0.04, 0.12) * width)) ** 2 + ((rows - y) / (r.uniform(0.06, 0.2) * height)) ** 2 < edge


def published_loop(repository: Path):
    """`calculate_iou` of the published script, alone: the script itself cannot be imported without its network."""
    import torch

    tree = ast.parse((repository / "eval_scripts/eval_egoirgbench.py").read_text())
    names = {"torch": torch}
    exec(compile(ast.Module([n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "calculate_iou"], []), "eval_egoirgbench.py", "exec"), names)
    return names["calculate_iou"]


def items(count: int, seed: int = 0):
    """(predicted masks, true masks) as bool [H, W] of items; every one is another one."""
    r = random.Random(seed)
    for _ in range(count):
        places = [(r.uniform(0.2, 0.8) * SIZE[0], r.uniform(0.2, 0.8) * SIZE[1]) for _ in range(r.choice((1, 1, 2, 3)))]
        yield [ellipse(r, SIZE, x + r.gauss(0, 20), y + r.gauss(0, 20)) for x, y in places], [ellipse(r, SIZE, x, y) for x, y in places]


def time_masks(options) -> None:
    import torch

    from egohoi import masks
    from egohoi.evaluation import mask_metrics

    torch.set_num_threads(options.threads)
    calculate, kept, theirs = published_loop(options.repository), [], 0.0
    made, values = items(options.distinct), []
    for start in range(0, options.distinct, 10):
        batch = [pair for _, pair in zip(range(10), made)]
        labels = torch.zeros((2, len(batch), SIZE[1], SIZE[0]), dtype=torch.int64)
        for k, sides in enumerate(batch):
            for side, found in enumerate(sides):
                for number in reversed(range(len(found))):
                    labels[side, k][torch.from_numpy(found[number])] = number + 1
        kept.append([[[masks.encode(m) for m in side] for side in sides] for sides in batch])
        if start < options.loop:
            began = time.process_time()
            values.append(calculate(labels[0], labels[1].double()))  # the published loader's truth is made of doubles
            theirs += time.process_time() - began
    rounds = -(-options.predictions // options.distinct)
    ours, found = 0.0, []
    for number in range(rounds):
        for batch in kept:
            began = time.process_time()
            value = mask_metrics.annexe_batch_iou([mask_metrics.class_counts(p, t, SIZE) for p, t in batch])
            ours += time.process_time() - began
            if not number:
                found.append(value)
    looped = 10 * len(values)
    scaled = theirs / looped * rounds * options.distinct
    print(f"ours:      {ours:10.2f} s for {rounds * options.distinct} predictions ({options.distinct} different ones, {rounds} times)")
    print(f"published: {theirs:10.2f} s for {looped}, {scaled:.0f} s for as many as ours; {options.threads} thread(s)")
    print(f"ratio:     {scaled / ours:10.0f}")
    print("values: " + ("equal" if found[: len(values)] == values else "DIFFERENT"))


def write(folder: Path, count: int, queries: int = 100, size=(640, 360)) -> Path:
    """A data set of `count` queries, `queries` a frame, and predict lines for them; returns the lines' path."""
    from egohoi import masks

    r = random.Random(0)
    for part in ("RGB", "mask", "dataset_split/test"):
        (folder / part).mkdir(parents=True)
    Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(folder / "RGB.jpg", quality=30)
    with open(folder / "lines.jsonl", "w") as lines:
        for number in range(-(-count // queries)):
            frame = f"v{number // 50:04d}_{number:06d}"
            (folder / "RGB" / f"{frame}.jpg").symlink_to(folder / "RGB.jpg")
            index, names = np.zeros((size[1], size[0]), np.uint8), r.sample(NAMES, 3)
            for k in range(3):
                index[ellipse(r, size, (0.2 + 0.3 * k) * size[0])] = k + 1
            Image.fromarray(index).save(folder / "mask" / f"{frame}.png")
            caption = f"The {names[0]} holds the {names[1]} near the {names[2]} of frame {number % 997}."
            rows, shifted = [], [masks.from_index(np.roll(index, r.randint(-9, 9), 1), k + 1) for k in range(3)]
            for entry, wanted in enumerate(((0,), (1,), (0, 1), (0, 1, 2), ())):
                tokens = [names[k] for k in wanted]
                rows.append({
                    "masks_idx": [k + 1 for k in wanted] + [0] * (4 - len(wanted)), "with_mask": int(bool(wanted)), "caption": caption,
                    "answer": " and ".join(tokens) or "There is no such target.", "tokens": tokens + [""] * (4 - len(wanted)),
                    "questions": [{"id": k, "query": f"Segment {' and '.join(tokens) or 'the phone'}, wording {k}", "is_sentence": 1} for k in range(queries // 5)],
                })  # fmt: skip
                for question in rows[-1]["questions"]:
                    said = [k for k in wanted if r.random() < 0.9]
                    lines.write(json.dumps({
                        "id": f"{frame}/{entry}/{question['id']}", "image": f"RGB/{frame}.jpg", "size": list(size), "query": question["query"],
                        "text": " and ".join(names[k] for k in said), "analysis": caption.replace("near", "beside"), "target_found": bool(said),
                        "entities": [{"name": names[k], "box": None, "mask": shifted[k]} for k in said],
                    }) + "\n")  # fmt: skip
            (folder / "dataset_split/test" / f"{frame}.json").write_text(json.dumps(rows))
    return folder / "lines.jsonl"


def watch_memory(options) -> None:
    for count in options.sizes or (options.predictions // 10, options.predictions):
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            lines = write(Path(scratch).resolve() / "data", count)
            more = ["--protocol", options.protocol, *(["--plain"] if options.protocol == "released" else ["--json"])]
            command = [sys.executable, "-m", "egohoi", "eval", "irg", "--data", str(lines.parent), "--predictions", str(lines), *more]
            probe = "import resource,subprocess,sys;c=subprocess.run(sys.argv[1:],stdout=subprocess.DEVNULL).returncode;" \
                    "u=resource.getrusage(resource.RUSAGE_CHILDREN);print(c,u.ru_maxrss,u.ru_utime+u.ru_stime)"  # fmt: skip
            began = time.perf_counter()
            done = subprocess.run([sys.executable, "-S", "-c", probe, *command], capture_output=True, text=True, check=True)
            status, peak, computing = done.stdout.split()
            if status != "0":
                raise SystemExit(done.stderr[-2000:])
            print(f"{count:9d} predictions, {' '.join(more)}: {int(peak) / 1024:6.0f} MB at most, {float(computing):8.1f} s of computing, {time.perf_counter() - began:8.1f} s on the clock", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    masks = commands.add_parser("masks")
    masks.add_argument("repository", type=Path, help="the published code of ANNEXE")
    masks.add_argument("--predictions", type=int, default=100_000)
    masks.add_argument("--distinct", type=int, default=1000, help="different items, a multiple of ten; they come round until there are --predictions")
    masks.add_argument("--loop", type=int, default=1000, help="how many of them the published loop measures")
    masks.add_argument("--threads", type=int, default=1, help="of torch")
    memory = commands.add_parser("memory")
    memory.add_argument("--predictions", type=int, default=1_000_000)
    memory.add_argument("--sizes", type=int, nargs="*", help="numbers of predictions, in place of a tenth and the whole")
    memory.add_argument("--protocol", default="strict", choices=("strict", "released", "both"))
    memory.add_argument("--scratch", type=Path, help="folder for the generated data")
    options = parser.parse_args()
    time_masks(options) if options.what == "masks" else watch_memory(options)


if __name__ == "__main__":
    main()
