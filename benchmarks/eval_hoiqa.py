"""Time `egohoi eval hoiqa --protocol released --plain` beside the published script, on the same files, and watch the memory.

    git clone https://github.com/Sid2697/HOI-Ref ../HOI-Ref
    python benchmarks/eval_hoiqa.py ../HOI-Ref/eval_scripts                        # 100,000 predictions, both, one after the other
    python benchmarks/eval_hoiqa.py --predictions 1000000                          # ours alone: time and peak memory
    python benchmarks/eval_hoiqa.py --predictions 1000000 --protocol both          # with the corrected scores and intervals

The predictions are `--hoi-share` of them about interaction (the published search through them is quadratic), the rest in the two test
files, two answers a record. Both programs run as a user starts them, each in a process of its own; their output must be equal.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NOUNS = ("left hand", "right hand", "cup", "cutting board", "knife", "tap", "oil", "mixing bowl")


def braces(box, size, r):
    return "{" + "".join(f"<{min(100, max(0, int(box[k] / size[k % 2] * 100) + r.randint(-4, 4)))}>" for k in range(4)) + "}"


def box(size, r):
    x, y = r.randrange(size[0] - 400), r.randrange(size[1] - 400)
    return [x, y, x + r.randrange(250, size[0] - x), y + r.randrange(250, size[1] - y)]


def test_records(count, size, tag, r):
    for k in range(count):
        noun, truth = r.choice(NOUNS), box(size, r)
        key = f"{tag}_{k:07d}"
        yield key, {"noun": noun, "bbox": truth, "image_path": f"frames/{tag}/frame_{k // 4:010d}.jpg"}, {
            "question": f"Where is the {noun}", "ref_answer": braces(truth, size, r), "iden_answer": r.choice(NOUNS)}  # fmt: skip


def hoi_records(count, r):
    size = (1920, 1080)
    for k in range(count):
        key, image, kind = f"P{k % 37:02d}_{k:08d}", f"frames/visor/frame_{k // 4:010d}.jpg", k % 5
        truth, thing, side = box(size, r), r.choice(NOUNS[2:]), r.choice(("left", "right"))
        said = braces(truth, size, r)
        if kind == 0:
            question, answer = f"[refer] Where is the {side} hand of the person?", truth
        elif kind == 1:
            question, answer = f"[refer] Locate the object being manipulated by the {side} hand", truth
        elif kind == 2:
            question, answer = f"[refer] Which hand has the {thing}?", truth
        elif kind == 3:
            question, answer, said = f"[vqa] What hand is holding the {thing}?", f"{side} hand", r.choice(NOUNS[:2])
        else:
            question, answer, said = f"[vqa] What is the object in the {side} hand?", thing, r.choice(NOUNS)
        yield key, {"id": key, "image_path": image, "question": question, "answer": answer}, {"question": question.split("] ")[1], "answer": said}


def write(folder: Path, truth_name: str, said_name: str, records, listed: bool) -> None:
    """Write both files as the published scripts do (predictions with an indent), streaming."""
    with open(folder / truth_name, "w") as truth, open(folder / said_name, "w") as said:
        truth.write("[" if listed else "{")
        said.write("{")
        for k, (key, row, answer) in enumerate(records):
            comma = ", " if k else ""
            truth.write(comma + ("" if listed else f"{json.dumps(key)}: ") + json.dumps(row))
            said.write(("," if k else "") + f"\n    {json.dumps(key)}: " + json.dumps(answer, indent=4).replace("\n", "\n    "))
        truth.write("]" if listed else "}")
        said.write("\n}")


def timed(command: list[str]) -> tuple[float, float, float, str]:
    """Seconds on the clock, seconds of computing, peak memory in MB, output."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    probe = "import resource,subprocess,sys;c=subprocess.run(sys.argv[1:]).returncode;" \
            "print('PEAK',resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,file=sys.stderr);sys.exit(c)"  # fmt: skip
    done = subprocess.run([sys.executable, "-S", "-c", probe, *command], capture_output=True, text=True, check=False)
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    peak = int(done.stderr.rpartition("PEAK")[2]) / 1024
    return clock, (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime), peak, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scripts", type=Path, nargs="?", help="folder with the published evaluate.py; without it ours runs alone")
    parser.add_argument("--predictions", type=int, default=100_000)
    parser.add_argument("--hoi-share", type=float, default=0.9)
    parser.add_argument("--rounds", type=int, default=3, help="runs of ours before and after the published script, which takes minutes; the median is shown")
    parser.add_argument("--protocol", default="released", choices=("released", "both"))
    options = parser.parse_args()
    r = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        hoi = int(options.predictions * options.hoi_share)
        records = max(2, (options.predictions - hoi) // 4)
        write(folder, "epic-test.json", "predictions.json", test_records(records, (1920, 1080), "epic", r), False)
        write(folder, "ego4d-test.json", "predictions_ego4d.json", test_records(records, (1440, 1080), "ego4d", r), False)
        write(folder, "epic-visor-test.json", "predictions_hoi.json", hoi_records(hoi, r), True)
        print(f"{hoi + 4 * records} predictions: {hoi} about interaction, {4 * records} in the two test files")
        plain = ["--protocol", "released", "--plain"] if options.protocol == "released" else ["--json"]
        command = [sys.executable, "-m", "egohoi", "eval", "hoiqa", "--truth-dir", str(folder), "--predictions", f"{folder}/predictions.json", *plain]
        runs = [timed(command) for _ in range(options.rounds)]
        if options.scripts:
            theirs = timed([
                sys.executable, str(options.scripts / "evaluate.py"), "--test_json", f"{folder}/epic-test.json", "--pred_json", f"{folder}/predictions.json",
                "--hoi_json", f"{folder}/epic-visor-test.json", "--hoi_pred_json", f"{folder}/predictions_hoi.json", "--ego4d_test_data", f"{folder}/ego4d-test.json",
            ])  # fmt: skip
            runs += [timed(command) for _ in range(options.rounds)]  # before and after, because the machine may be busier at one time
        ours = sorted(runs, key=lambda one: one[0])[len(runs) // 2]
        print(f"ours:      {ours[0]:9.2f} s on the clock, {ours[1]:9.2f} s of computing, {ours[2]:7.0f} MB at most (median of {len(runs)})")
        if options.scripts:
            print(f"published: {theirs[0]:9.2f} s on the clock, {theirs[1]:9.2f} s of computing, {theirs[2]:7.0f} MB at most")
            print(f"ratio:     {theirs[0] / ours[0]:9.0f}                 {theirs[1] / ours[1]:9.0f}")
            print("output: " + ("equal" if ours[3] == theirs[3] else "DIFFERENT"))


if __name__ == "__main__":
    main()
