"""Building HOI-QA: questions a second, from the start of the program to the last file, and peak memory.

    python benchmarks/hoiqa_build.py [--scenes 30000] [--workers 1,2] [--rounds 3] [--folder FOLDER] [--json]

The scenes are synthetic, with two hands in contact and two to four named objects each, and lie in one scenes.jsonl. Each round runs
`egohoi build hoiqa --no-balance` as a process of its own; the best round is printed, because others on the machine only slow it
down. Memory is the largest resident set of any of its processes, as the kernel counts it. Needs about 1 GB of disk.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAMES = ("knife", "fork", "cup", "plate", "pan", "cupboard", "drawer", "tap", "chopping board", "sponge", "onion", "garlic")


def scenes(count: int):
    from egohoi.records import Hand, Object, Scene

    rng = random.Random(0)

    def box():
        x, y = rng.uniform(0, 1500), rng.uniform(0, 800)
        return (x, y, x + rng.uniform(60, 400), y + rng.uniform(60, 250))

    for k in range(count):
        names = rng.sample(NAMES, rng.randrange(2, 5))
        objects = [Object(n, box(), hands=(("left", "right")[i],) if i < 2 else ()) for i, n in enumerate(names)]
        hands = [Hand(side, box(), contact=True, object=i) for i, side in enumerate(("left", "right"))]
        video = f"P{k // 2000 % 37:02d}_{k // 200 % 10:02d}"
        yield Scene(
            id=f"visor/{video}/{k}", image=f"{video}/frame_{k:010d}.jpg", size=(1920, 1080), hands=hands, objects=objects, source="visor",
            narration=f"take {names[0]}", verb="take", noun=names[0], extra={"video": video},
        )


def measure(folder: Path, workers: int) -> dict:
    shutil.rmtree(folder / "out", ignore_errors=True)
    command = [sys.executable, "-m", "egohoi", "build", "hoiqa", "--scenes", "in", "--out", "out", "--no-balance", "--workers", str(workers), "--json"]
    # A process in between, so that what the kernel counts for children is this build's alone.
    code = "import resource, subprocess, sys; r = subprocess.run(sys.argv[1:], stdout=open('report.json', 'w')).returncode; " \
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); sys.exit(r)"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *command], cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    total = json.loads((folder / "report.json").read_text())["total"]
    peak = int(done.stderr.split()[-1]) / (1024 if sys.platform != "darwin" else 1024**2)
    return {"workers": workers, "questions": total, "seconds": seconds, "a_second": total / seconds, "peak_mb": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=30_000)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="default: a temporary one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    from egohoi.scenes import jsonl

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary)
        jsonl.write(folder / "in", scenes(options.scenes))
        size = (folder / "in/scenes.jsonl").stat().st_size
        found = []
        for workers in map(int, options.workers.split(",")):
            found.append(min((measure(folder, workers) for _ in range(options.rounds)), key=lambda m: m["seconds"]))
    if options.json:
        print(json.dumps({"scenes": options.scenes, "bytes": size, "builds": found}, indent=1))
        return
    print(f"{options.scenes:,} scenes, {size / 1e6:.1f} MB, {os.cpu_count()} cores, best of {options.rounds}")
    print(f"{'workers':>8}{'questions':>12}{'seconds':>10}{'a second':>11}{'peak memory':>14}")
    for m in found:
        print(f"{m['workers']:>8}{m['questions']:>12,}{m['seconds']:>10.1f}{m['a_second']:>11,.0f}{m['peak_mb']:>11.0f} MB")


if __name__ == "__main__":
    main()
