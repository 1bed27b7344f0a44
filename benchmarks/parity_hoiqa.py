"""Prove that `--protocol released` prints what the published evaluation of HOI-QA prints, on generated predictions.

    git clone https://github.com/Sid2697/HOI-Ref ../HOI-Ref
    python benchmarks/parity_hoiqa.py ../HOI-Ref/eval_scripts --sets 5000

Every set is six files (three truths, three predictions) with all the odd answers that models give: no box, three boxes, reversed
boxes, negative numbers, text around boxes, gloves, nouns of several words, empty texts. The published `evaluate.py` runs on them
unchanged, in this process (its printing is caught); where it stops with an error, ours must refuse the set too.
"""

import argparse
import contextlib
import io
import json
import random
import runpy
import sys
import tempfile
from collections import Counter
from pathlib import Path

NOUNS = ("cup", "knife", "cutting board", "Cup", "tap", "mixing bowl", "oil", "right glove", "board:cutting", "left hand", "right hand", "")
OBJECTS = ("cup", "cutting board", "left hand", "right hand", "left glove", "right glove", "Knife", "mixing bowl")
HAND_QUESTIONS = ("[refer] Where is the right hand of the person?", "[refer] Where is the left hand of the person?")
TWO_HANDS = "[refer] Where are the hands of the person?"


class Generator:
    """Seeded maker of truths and predictions. `cases` counts what kind of answers came out."""

    def __init__(self, seed: int):
        self.r = random.Random(seed)
        self.cases: Counter = Counter()

    def truth_box(self, size):
        r = self.r
        x, y = sorted(r.uniform(0, size[0]) for _ in range(2)), sorted(r.uniform(0, size[1]) for _ in range(2))
        box = [x[0], y[0], x[1], y[1]]
        return [int(v) for v in box] if r.random() < 0.6 else [round(v, 2) for v in box]

    def grid(self, box, size, decimals=False):
        values = [box[k] / size[k % 2] * 100 for k in range(4)]
        return [round(v, 2) if decimals else int(v) for v in values]

    def braces(self, values):
        return "{" + "".join(f"<{v}>" for v in values) + "}"

    def boxes(self, truths, size):
        """Text of an answer to a question about boxes."""
        r = self.r
        case = r.choice((
            "right", "right", "near", "near", "other", "none", "empty", "three", "two", "reversed", "negative", "around", "decimals", "beyond",
            "broken", "spaces", "point", "delimited", "both on one", "unicode",
        ))  # fmt: skip
        self.cases[case] += 1
        near = [self.grid([v + r.gauss(0, 40) for v in t], size) for t in truths]
        near = [[max(0, v) for v in b] for b in near]
        exact = [self.grid(t, size) for t in truths]
        whole = [self.grid(self.truth_box(size), size) for _ in range(4)]
        texts = {
            "right": lambda: "<delim>".join(map(self.braces, exact)),
            "near": lambda: "".join(map(self.braces, near)),
            "other": lambda: self.braces(whole[0]),
            "none": lambda: r.choice(("I cannot see it", "the cup is on the table.", "{}", "<p>cup</p>")),
            "empty": lambda: "",
            "three": lambda: " ".join(map(self.braces, [near[0], *whole[:2]])),
            "two": lambda: self.braces(near[0]) + "<delim>" + self.braces(whole[0]),
            "reversed": lambda: "".join(self.braces([b[2], b[3], b[0], b[1]]) for b in exact),
            "negative": lambda: self.braces([-r.randint(0, 30), -r.randint(0, 9), *near[0][2:]]),
            "around": lambda: f"The <p>hand</p> is at {self.braces(near[0])}, I think" + (f" and {self.braces(near[-1])}." if len(truths) > 1 else "."),
            "decimals": lambda: "".join(self.braces(self.grid(t, size, True)) for t in truths),
            "beyond": lambda: self.braces([near[0][0], near[0][1], 100 + r.randint(0, 400), 100 + r.randint(0, 60)]),
            "broken": lambda: r.choice(("{<12><13><40>}", "{<12><13><40><5x>}", "{12, 13, 40, 50}", "{<1><2><3><4>", "<1><2><3><4>", "{<.5><1><2><3>}")),
            "spaces": lambda: "{<12> <30> <45> <60>}" + r.choice(("", self.braces(near[0]))),
            "point": lambda: self.braces([near[0][0], near[0][1], near[0][0], near[0][1]]),
            "delimited": lambda: "<p>left hand</p> " + "<delim>".join(map(self.braces, [near[0], near[-1]])),
            "both on one": lambda: self.braces(exact[0]) * 2,
            "unicode": lambda: "→ {<١٢><٣٠><٤٥><٦٠>} é",
        }  # fmt: skip
        return texts[case]()

    def name(self, noun):
        """Text of an answer to a question about a name."""
        r = self.r
        case = r.choice((
            "name", "name", "upper", "sentence", "stop", "glued", "other", "empty", "both hands", "gloves", "word", "spaces", "newline",
        ))  # fmt: skip
        self.cases["noun: " + case] += 1
        return {
            "name": noun, "upper": noun.upper(), "sentence": f"The person holds a {noun} in the hand", "stop": f"{noun}.", "glued": f"{noun},it",
            "other": r.choice(NOUNS), "empty": "", "both hands": "left hand and right hand", "gloves": r.choice(("Glove.", "left glove", "gloves")),
            "word": noun.split(" ")[-1], "spaces": f"  {noun}  ", "newline": f"a\n{noun}",
        }[case]  # fmt: skip

    def test(self, size, prefix):
        truth, said = {}, {}
        hands = self.r.sample(("left hand", "right hand", "left hand", "cup", "cutting board", "Cup", "tap"), self.r.randint(2, 7))
        for k, noun in enumerate(["right hand", "knife", *hands]):
            key = f"{prefix}{k}"
            box = self.truth_box(size)
            truth[key] = {"noun": noun, "bbox": box, "image_path": f"{key}.jpg"}
            said[key] = {"question": f"Where is the {noun}", "ref_answer": self.boxes([box], size), "iden_answer": self.name(noun)}
        return truth, self.shuffled(said)

    def hoi(self):
        r, truth, said = self.r, [], {}
        kinds = ["hand", "both", "manipulated", "which", "holding", "object", *r.choices(("hand", "both", "manipulated", "which", "holding", "object"), k=r.randint(2, 8))]
        for k, kind in enumerate(kinds):
            size, key = (1920, 1080), f"visor_{k}"
            found = [self.truth_box(size) for _ in range(2 if kind == "both" or (kind in ("manipulated", "which") and r.random() < 0.3) else 1)]
            thing = r.choice(OBJECTS)
            question, answer = {
                "hand": (r.choice(HAND_QUESTIONS), None), "both": (TWO_HANDS, None),
                "manipulated": ("[refer] Locate the object being manipulated by the " + r.choice(("left hand", "right hand", "hands")), None),
                "which": (f"[refer] Which hand has the {thing}?", None),
                "holding": (f"[vqa] What hand is holding the {thing}?", r.choice(("left hand", "right hand", "left glove", "right glove"))),
                "object": (f"[vqa] What is the object in the {r.choice(('left', 'right'))} hand?", r.choice(OBJECTS)),
            }[kind]  # fmt: skip
            if answer is None:
                said_text = self.boxes(found, size)
                answer = found[0] if len(found) == 1 else "<delim>".join(self.braces(b) for b in found)
            else:
                said_text = self.name(answer)
            truth.append({"id": key, "image_path": f"{key}.jpg", "question": question, "answer": answer})
            said[key] = {"question": question.split("] ", 1)[1], "answer": said_text}
        return truth, self.shuffled(said)

    def shuffled(self, rows):
        if self.r.random() < 0.5:
            return rows
        items = list(rows.items())
        self.r.shuffle(items)
        return dict(items)

    def write(self, folder: Path):
        """Write the six files of one set. Returns the path of predictions.json."""
        folder.mkdir(parents=True, exist_ok=True)
        files = {
            "epic-test.json": None, "ego4d-test.json": None, "epic-visor-test.json": None,
        }
        files["epic-test.json"], files["predictions.json"] = self.test((1920, 1080), "epic_")
        files["ego4d-test.json"], files["predictions_ego4d.json"] = self.test((1440, 1080), "ego4d_")
        files["epic-visor-test.json"], files["predictions_hoi.json"] = self.hoi()
        for name, data in files.items():
            indent = 4 if name.startswith("pred") else None
            (folder / name).write_text(json.dumps(data, indent=indent, ensure_ascii=self.r.random() < 0.5), encoding="utf-8")
        return folder / "predictions.json"


def published(scripts: Path, folder: Path) -> str | None:
    """What the published evaluate.py prints for a set; None where it stops with an error."""
    arguments = [
        "evaluate.py", "--test_json", f"{folder}/epic-test.json", "--pred_json", f"{folder}/predictions.json", "--hoi_json",
        f"{folder}/epic-visor-test.json", "--hoi_pred_json", f"{folder}/predictions_hoi.json", "--ego4d_test_data", f"{folder}/ego4d-test.json",
    ]  # fmt: skip
    out, kept = io.StringIO(), sys.argv
    sys.argv = arguments
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            runpy.run_path(str(scripts / "evaluate.py"), run_name="__main__")
    except Exception:
        return None
    finally:
        sys.argv = kept
    return out.getvalue()


def ours(folder: Path) -> str | None:
    """What `egohoi eval hoiqa --protocol released --plain` prints; None where it refuses."""
    from egohoi.errors import EgohoiError
    from egohoi.evaluation import hoiqa_files, hoiqa_plain, hoiqa_run

    try:
        paths = hoiqa_files.locate(folder, folder / "predictions.json")
        lines = hoiqa_plain.of_files(paths).lines()
        if lines != hoiqa_run.released(hoiqa_run.saved(paths)).lines():
            raise SystemExit("the quick way and the general one differ")
        return "\n".join(lines) + "\n"
    except EgohoiError:
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scripts", type=Path, help="folder with the published evaluate.py and helper.py")
    parser.add_argument("--sets", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="write the first sets here, with what the published script prints")
    parser.add_argument("--kept", type=int, default=3)
    options = parser.parse_args()
    sys.path.insert(0, str(options.scripts))
    equal = stopped = answers = 0
    cases: Counter = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        for k in range(options.sets):
            keep = options.keep if options.keep and k < options.kept else None
            folder = keep / f"set{k}" if keep else Path(scratch) / "set"
            generator = Generator(options.seed * 1_000_003 + k)
            generator.write(folder)
            theirs, mine = published(options.scripts, folder), ours(folder)
            if keep and theirs is not None:
                (folder / "published.txt").write_text(theirs, encoding="utf-8")
            if theirs != mine:
                print(f"set {k} (seed {options.seed * 1_000_003 + k}) differs:\n--- published\n{theirs}\n--- ours\n{mine}")
                return 1
            equal, stopped = equal + (theirs is not None), stopped + (theirs is None)
            cases += generator.cases
            answers += sum(generator.cases.values())
    print(f"{options.sets} sets, {answers} answers: {equal} with equal output, {stopped} at which the published script stops and ours refuses")
    print(", ".join(f"{name} {count}" for name, count in sorted(cases.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
