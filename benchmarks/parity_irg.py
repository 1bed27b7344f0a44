"""Prove that `egohoi eval irg --protocol released --plain` prints what the published evaluation of ANNEXE prints, on generated predictions.

    git clone https://github.com/yuggiehk/annexe ../annexe && pip install torchvision
    python benchmarks/parity_irg.py ../annexe --sets 1000

Every set is a small data set in the layout of Ego-IRGBench and a model's answers: texts, masks, depth. The published script and its own
data loader run on them unchanged, in this process; only the network is replaced, by one that reads the answers from files. Its batches
are drawn at random (`--seed`). Everything that it prints, and the six numbers at the end of its output.json, are compared with what ours
makes of that output.json and the files of masks and depth; where it stops with an error, ours must refuse the set too.

    git clone https://github.com/yuggiehk/EARL ../EARL
    python benchmarks/parity_irg.py ../annexe --earl ../EARL/deprecated/evaluate_results.py --sets 1000

compares the mean of `earl_entity_iou` with EARL's sample mIoU as well (its SAM 2 replaced by the same masks), to its four digits.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import os
import random
import re
import runpy
import shutil
import sys
import tempfile
import types
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image

NOUNS = ("mug", "cutting board", "left hand", "right hand", "knife", "the bottle", "Jar", "toy car", "active lid")
CAPTIONS = (
    "The left hand holds the mug.", "the person (right hand) opens: a \"jar\"!", "Nothing happens.", "", "a", "Left hand; right hand ~ both #1 * cut the board.",
    "The   person\nlifts the bottle .", " ".join(f"word{k}" for k in range(70)), "Ünïcode → hand.",
)  # fmt: skip


class Generator:
    """Seeded maker of one data set with answers to it. `cases` counts what kinds of answers came out."""

    def __init__(self, seed: int, folder: Path):
        self.r, self.folder = random.Random(seed), folder
        self.cases: Counter = Counter()
        self.answers: dict[tuple[str, str], dict] = {}

    def write(self, most: int) -> None:
        """Write data and predicted depth, and keep the answers."""
        r = self.r
        for part in ("data/RGB", "data/depth", "data/mask", "data/dataset_split/test", "depth", "masks"):
            (self.folder / part).mkdir(parents=True)
        size, other = (r.randint(9, 40), r.randint(9, 40)), r.random() < 0.02
        self.kind = r.choice(("uint8", "uint16", "uint16"))
        for number in range(r.randint(1, most)):
            self._frame(f"f{number}", (size[0] + 1, size[1]) if other and number else size)

    def _frame(self, name: str, size: tuple[int, int]) -> None:
        r, (width, height) = self.r, size
        deep = r.random() < 0.1
        index = self._labels(size, 6, rest=0.004) * (300 if deep else 1)
        Image.fromarray(np.full((height, width, 3), r.randint(0, 255), np.uint8)).save(self.folder / f"data/RGB/{name}.jpg")
        Image.fromarray(index.astype(np.uint16 if deep else np.uint8)).save(self.folder / f"data/mask/{name}.png")
        top = 255 if self.kind == "uint8" else 9000
        flat = r.random() < 0.01
        depth = np.full((height, width), 7) if flat else self._noise(size) * top * (self._noise(size) > 0.1)
        self.cases["depth: flat" if flat else f"depth: {self.kind}"] += 1
        Image.fromarray(depth.astype(self.kind)).save(self.folder / f"data/depth/{name}.png")
        said = np.kron(self._noise((28, 28)), np.ones((16, 16)))
        Image.fromarray(np.round(said * 65535).astype(np.uint16)).save(self.folder / f"depth/{name}.png", compress_level=1)
        values = [int(v) for v in np.unique(index) if v]
        entries = [self._entry(values) for _ in range(r.randint(1, 4))]
        for number, entry in enumerate(entries):
            entry["questions"] = [{"id": str(k), "query": f"{r.choice(('Segment', 'the', 'Where is'))} {number}.{k}: {r.choice(NOUNS)}", "is_sentence": k % 2} for k in range(r.randint(1, 3))]
            for question in entry["questions"]:
                self.answers[name, question["query"]] = self._answer(f"{name}/{number}/{question['id']}", entry, index)
        (self.folder / f"data/dataset_split/test/{name}.json").write_text(json.dumps(entries))

    def _entry(self, values: list[int]) -> dict:
        r = self.r
        count = min(len(values), r.choice((0, 1, 1, 2, 2, 3, 4)))
        places = sorted(r.sample(range(4), count)) if r.random() < 0.2 else range(count)
        row = {"masks_idx": [0] * 4, "tokens": [""] * 4, "caption": r.choice(CAPTIONS)}
        for place, value in zip(places, r.sample(values, count)):
            row["masks_idx"][place], row["tokens"][place] = value, r.choice(NOUNS)
        row["with_mask"] = int((count > 0) != (r.random() < 0.05))
        row["answer"] = " and ".join(t for t in row["tokens"] if t) or "There is no such target."
        self.cases["truth: " + ("none" if not count else "single" if count == 1 else "multi" if places == range(count) else "multi, place left free")] += 1
        return row

    def _labels(self, size, most: int, rest: float = 0.1) -> np.ndarray:
        """Index image of rectangles; with the chance `rest` nothing of it is background."""
        r, (width, height) = self.r, size
        out = np.full((height, width), int(r.random() < rest))
        for value in range(1, r.randint(1, most) + 1):
            x, y = r.randrange(width), r.randrange(height)
            out[y : y + r.randint(1, height), x : x + r.randint(1, width)] = value
        return out

    def _noise(self, size) -> np.ndarray:
        return np.random.default_rng(self.r.getrandbits(32)).random(size[::-1])

    def _answer(self, name: str, entry: dict, index: np.ndarray) -> dict:
        r = self.r
        truth = sum((k + 1) * (index == v) for k, v in enumerate(entry["masks_idx"]) if v) + np.zeros_like(index)
        case = r.choice(("right", "right", "near", "near", "other", "none", "all", "swapped"))
        labels = {
            "right": truth, "near": np.roll(truth, r.randint(-3, 3), r.randint(0, 1)), "other": self._labels(index.shape[::-1], 3), "none": truth * 0,
            "all": truth * 0 + r.randint(1, 3), "swapped": np.where((truth > 0) & (truth < 3), 3 - truth, truth),
        }[case]  # fmt: skip
        labels[labels > 3] = 3  # the published network has four channels
        self.cases["mask: " + case] += 1
        names = " and ".join(t for t in entry["tokens"] if t)
        return {"id": name, "labels": labels, "answer": self._text("answer", names), "analysis": self._text("analysis", entry["caption"])}

    def _text(self, which: str, truth: str) -> str:
        r = self.r
        case = r.choice(("same", "same", "words", "upper", "stop", "empty", "other", "spaces", "newline", "twice", "names", "punctuation", "unicode"))
        self.cases[f"{which}: {case}"] += 1
        words = truth.split()
        return {
            "same": truth, "words": " ".join(r.sample(words, r.randint(0, len(words)))), "upper": truth.upper(), "stop": f"{truth}.", "empty": "",
            "other": r.choice(CAPTIONS), "spaces": f"  {truth}  and  ", "newline": f"{truth}\nthe hands", "twice": f"{truth} {truth}",
            "names": " and ".join(r.choices(NOUNS, k=r.randint(1, 4))), "punctuation": r.choice((".", "?!", "``", "<p>", "'s")), "unicode": "→ é ١",
        }[case].replace("<unk>", "")  # fmt: skip


class Network:
    """Stands where the published model stands, and answers from the generated answers."""

    def __init__(self, generator: Generator):
        self.generator, self.given = generator, []

    def eval(self):
        pass

    def generate(self, images, captions, queries, paths, **_):
        found = [self.generator.answers[Path(p).stem, q.split("prompt: ")[1].split(" [/INST]")[0]] for p, q in zip(paths, queries)]
        for answer in found:
            path = self.generator.folder / "masks" / f"{answer['id']}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(answer["labels"].astype(np.uint8)).save(path)
        labels = torch.stack([torch.from_numpy(a["labels"]) for a in found]).long()
        depth = [np.asarray(Image.open(self.generator.folder / "depth" / f"{Path(p).stem}.png")).astype(np.float32) / np.float32(65535) for p in paths]
        return {
            "answer_vqa": [a["answer"] for a in found], "answer_caption": [a["analysis"] for a in found],
            "depth_norm": torch.from_numpy(np.stack(depth)), "with_mask": labels.flatten(1).amax(1).clamp(max=1).float(),
            "mask": torch.nn.functional.one_hot(labels, 4).permute(0, 3, 1, 2).float(),
        }  # fmt: skip


def caption_processor(text: str) -> str:
    """What `BlipCaptionProcessor` of the published code does, which its configuration names: it draws in packages that nothing else needs."""
    text = re.sub(r"\s{2,}", " ", re.sub(r"([.!\"()*#:;~])", " ", text.lower())).rstrip("\n").strip(" ")
    return " ".join(text.split(" ")[:50])


def stand_ins(repository: Path) -> dict[str, types.ModuleType]:
    """Modules that the published script imports: its own data loader, and nothing behind the names that need a GPU or a download."""
    made = {}

    def module(name: str, **names):
        made[name] = types.ModuleType(name)
        made[name].__dict__.update(names)
        return made[name]

    class Conversation:
        system = ""

        def copy(self):
            return self

    for name in ("minigpt4", "minigpt4.common", "minigpt4.conversation", "minigpt4.datasets", "minigpt4.datasets.datasets", "cv2"):
        module(name)
    module("minigpt4.common.config", Config=lambda _: types.SimpleNamespace(run_cfg=types.SimpleNamespace(save_path="")))
    module("minigpt4.conversation.conversation", CONV_VISION_minigptv2=Conversation())
    module(
        "minigpt4.common.eval_utils", prepare_texts=None, eval_parser=None, computeIoU=None, init_model=None,
        prepare_texts_my=lambda texts, _: [f"<s>[INST] {t} [/INST]" for t in texts],
    )  # fmt: skip
    sys.modules.update(made)
    spec = importlib.util.spec_from_file_location(
        "minigpt4.datasets.datasets.ego_irgbench_dataset", repository / "minigpt4/datasets/datasets/ego_irgbench_dataset.py"
    )
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    sys.modules[spec.name] = made[spec.name] = loader
    return made


def published(repository: Path, generator: Generator, modules: dict, seed: int) -> tuple[list[str], list[str]] | None:
    """Lines that the published script prints, and the six at the end of its output.json; None where it stops with an error."""
    place = generator.folder / "path/to"
    (place / "split").mkdir(parents=True)
    (place / "dataset/depth").mkdir(parents=True)
    (place / "dataset/mask").mkdir()
    (place / "output_result").mkdir()
    for link, target in (("split/dataset", "dataset_split/test"), ("dataset/RGB", "RGB"), ("dataset/depth/folder", "depth"), ("dataset/mask/folder", "mask")):
        (place / link).symlink_to(generator.folder / "data" / target, target_is_directory=True)
    network, out, kept, here = Network(generator), io.StringIO(), sys.argv, Path.cwd()
    modules["minigpt4.common.eval_utils"].init_model = lambda _: (network, lambda _: torch.zeros(1), caption_processor)
    random.seed(seed)
    torch.manual_seed(seed)
    sys.argv = ["eval_egoirgbench.py", "--cfg-path", "none"]
    os.chdir(generator.folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            runpy.run_path(str(repository / "eval_scripts/eval_egoirgbench.py"), run_name="__main__")
    except Exception:
        return None
    finally:
        sys.argv = kept
        os.chdir(here)
    return out.getvalue().splitlines(), (place / "output_result/output.json").read_text().splitlines()[-6:]


def ours(folder: Path, *more: str) -> list[str] | None:
    """What `egohoi eval irg` prints for the files of a set; None where it refuses."""
    from egohoi.apps.cli import main

    out = io.StringIO()
    command = ["eval", "irg", "--data", str(folder / "data"), "--predictions", str(folder / "path/to/output_result/output.json"), "--masks", str(folder / "masks"), "--depth", str(folder / "depth")]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        status = main([*command, "--protocol", "released", "--plain", *more])
    return None if status else out.getvalue().splitlines()


def earl_set(generator: Generator) -> Path:
    """Write EARL's results JSON for the same data; masks of its boxes as index images. Returns its path."""
    r, rows, boxes = generator.r, [], {}
    generator.boxes = boxes
    for path in sorted((generator.folder / "data/dataset_split/test").iterdir()):
        image = generator.folder / f"data/RGB/{path.stem}.jpg"
        height, width = np.asarray(Image.open(image)).shape[:2]
        for number, entry in enumerate(json.loads(path.read_text())):
            names = [t for t in entry["tokens"] if t]
            for question in entry["questions"]:
                said = r.choice((names, names, names[:-1], r.sample(NOUNS, r.randint(0, 3)), [f"the {n}" for n in names], [n.upper() for n in names], ["left"], []))
                said, index, lines = list(dict.fromkeys(said)), np.zeros((height, width), np.uint8), []
                for k, name in enumerate(said):
                    box = tuple(r.randint(-5, 2000) for _ in range(4))
                    x, y = r.randrange(width), r.randrange(height)
                    index[y : y + r.randint(1, height), x : x + r.randint(1, width)] = k + 1
                    lines.append(r.choice((f'"{name}": {list(box)}', f"{name}: [{box[0]}.0, {box[1]}, {box[2]}.2, {box[3]}]")))
                    boxes[str(image), box] = (index, k + 1)
                answer = r.choice((str(said), "there is no suitable referring result" if not said else str(said), "None"))
                target = generator.folder / "earl" / f"{path.stem}/{number}/{question['id']}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(index).save(target)
                truth = f"<answer>{names}</answer><bbox>" + "\n".join(f'"{n}": [1, 2, 3, 4]' for n in names) + "</bbox>" if names else "<answer>None</answer><bbox>None</bbox>"
                rows.append({
                    "image_path": str(image), "query": f"<image>Answer this: {question['query']}", "ground_truth": truth,
                    "prediction": f"<analyzing>The hands.</analyzing><answer>{answer}</answer>" + (f"<bbox>{chr(10).join(lines) or 'None'}</bbox>" if said or r.random() < 0.5 else ""),
                    "metadata": {"entities": names, "masks_idx": [v for v in entry["masks_idx"] if v]},
                })  # fmt: skip
    (generator.folder / "earl.json").write_text(json.dumps(rows))
    return generator.folder / "earl.json"


def earl_published(script: Path, generator: Generator, path: Path) -> str:
    """The sample mIoU that EARL's evaluation prints."""
    for name in ("cv2", "sam2", "sam2.build_sam", "sam2.sam2_image_predictor"):
        module = types.ModuleType(name)
        module.SAM2ImagePredictor = module.build_sam2 = None
        sys.modules[name] = module
    spec = importlib.util.spec_from_file_location("evaluate_results", script)
    theirs, out = importlib.util.module_from_spec(spec), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        spec.loader.exec_module(theirs)
        theirs.RESULTS_PATH = str(path)
        theirs.get_sam2_predictor = lambda *_: True
        theirs.load_gt_mask_image = lambda p: np.asarray(Image.open(p))
        theirs.sam2_generate_masks = lambda found, image, _: [(generator.boxes[image, tuple(b)][0] == generator.boxes[image, tuple(b)][1]).astype(np.uint8) for b in found]
        theirs.evaluate()
    return re.search(r"Sample mIoU\): (\S+)", out.getvalue()).group(1)


def earl_ours(folder: Path) -> str:
    from egohoi.apps.cli import main

    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
        main(["eval", "irg", "--data", str(folder / "data"), "--predictions", str(folder / "earl.json"), "--masks", str(folder / "earl"), "--protocol", "strict", "--json"])
    return f"{json.loads(out.getvalue())['strict']['all/earl_entity_iou']['value']:.4f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path, help="the published code of ANNEXE")
    parser.add_argument("--earl", type=Path, help="EARL's evaluate_results.py")
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frames", type=int, default=9, help="most frames of a set")
    parser.add_argument("--keep", type=Path, help="write the first sets here, with what the published script prints")
    parser.add_argument("--kept", type=int, default=3)
    options = parser.parse_args()
    use_word_data()
    torch.set_num_threads(1)  # the last digits of a sum of float32 depend on the number of threads
    repository = options.repository.resolve()
    modules = stand_ins(repository)
    equal = stopped = batches = scored = 0
    cases: Counter = Counter()
    for k in range(options.sets):
        seed = options.seed * 1_000_003 + k
        with tempfile.TemporaryDirectory() as scratch:
            generator = Generator(seed, Path(scratch))
            generator.write(options.frames)
            theirs, mine = published(repository, generator, modules, seed), ours(generator.folder, "--batches")
            if theirs is None:
                stopped += 1
            else:
                equal, batches = equal + 1, batches + int(theirs[0][0])
            last = None if mine is None else ours(generator.folder)
            if (theirs is None) != (mine is None) or theirs is not None and (theirs[0] != mine or theirs[1] != last):
                print(f"set {k} (seed {seed}) differs:\n--- published\n{theirs}\n--- ours\n{mine}\n{last}")
                return 1
            if options.keep and theirs is not None and len(list(options.keep.glob("set*"))) < options.kept:
                keep(options.keep / f"set{k}", generator.folder, theirs)
            if options.earl:
                path = earl_set(generator)
                a, b = earl_published(options.earl, generator, path), earl_ours(generator.folder)
                scored += 1
                if round(abs(float(a) - float(b)) * 1e4) > 1:  # one in the last digit is a tie that is rounded another way
                    print(f"set {k} (seed {seed}): EARL's sample mIoU {a}, ours {b}")
                    return 1
            cases += generator.cases
        if k % 50 == 49:
            print(f"{k + 1} of {options.sets} sets", file=sys.stderr)
    print(f"{options.sets} sets: {equal} with equal output ({batches} batches), {stopped} at which the published script stops and ours refuses")
    if scored:
        print(f"{scored} sets with EARL's sample mIoU")
    print(", ".join(f"{name} {count}" for name, count in sorted(cases.items())))
    return 0


def keep(target: Path, folder: Path, theirs) -> None:
    """Keep a set as a golden one: data, predictions and what the published script prints."""
    shutil.copytree(folder / "data", target / "data")
    for part in ("masks", "depth"):
        shutil.copytree(folder / part, target / part)
    shutil.copy(folder / "path/to/output_result/output.json", target)
    for name, lines in (("printed.txt", theirs[0]), ("published.txt", theirs[1])):
        (target / name).write_text("\n".join(lines) + "\n")


def use_word_data() -> None:
    """Let NLTK find WordNet and its model of English where egohoi has them, and fetch nothing."""
    import nltk
    import nltk.translate.meteor_score

    from egohoi.evaluation import text_tokens, wordnet

    nltk.download = lambda *_, **__: True
    score = nltk.translate.meteor_score.meteor_score
    score.__defaults__ = tuple(wordnet.corpus() if "Corpus" in type(d).__name__ else d for d in score.__defaults__)
    nltk.word_tokenize = nltk.tokenize.word_tokenize = text_tokens.treebank


if __name__ == "__main__":
    sys.exit(main())
