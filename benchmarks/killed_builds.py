"""Kills a build again and again at random, lets it end, and compares every byte with a build that nobody disturbed.

    python benchmarks/killed_builds.py [hoiqa|frames] [--kills 20] [--workers 2] [--seed 0] [--folder FOLDER]

`hoiqa` builds questions about synthetic scenes (`egohoi build hoiqa`), `frames` takes pictures out of synthetic videos (`egohoi
build frames`). Each kill is a SIGKILL at a random moment after the work of that run began, now and then of the whole process
group, else of the main process alone, so that workers have to notice. A build that ends before it is killed often enough is
removed and begun anew. Exits with 1 if one byte differs.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def scenes(folder: Path, files: int, count: int) -> list[str]:
    """Write `files` scenes files of `count` scenes each; the arguments that read them."""
    from egohoi.records import Hand, Object, Scene
    from egohoi.scenes import jsonl

    rng = random.Random(7)
    for n in range(files):
        made = []
        for k in range(count):
            boxes = [(x, y, x + rng.uniform(40, 300), y + rng.uniform(40, 200)) for x, y in ((rng.uniform(0, 900), rng.uniform(0, 500)) for _ in range(4))]
            names = rng.sample(["cup", "knife", "pan", "cutting board", "onion"], 2)
            made.append(Scene(
                id=f"f{n}/{k}", image=f"P{n:02d}_{k % 7:02d}/frame_{k:010d}.jpg", size=(1280, 720), source="visor", narration=f"take {names[0]}",
                verb="take", noun=names[0], extra={"video": f"P{n:02d}_{k % 7:02d}"},
                hands=[Hand("left", boxes[0], contact=True, object=0), Hand("right", boxes[1], contact=rng.random() < 0.5 or None)],
                objects=[Object(names[0], boxes[2], hands=("left",)), Object(names[1], boxes[3])],
            ))
        jsonl.write(folder / f"in{n:03d}", made)
    return [a for n in range(files) for a in ("--scenes", f"in{n:03d}")]


def videos(folder: Path, count: int, pictures: int) -> list[str]:
    """Write `count` videos and a list of half their pictures; the arguments that read them."""
    import av
    import numpy as np

    (folder / "videos").mkdir(exist_ok=True)
    rng, wanted = np.random.default_rng(7), []
    for n in range(count):
        with av.open(str(folder / f"videos/clip{n}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=30)
            stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
            picture = rng.integers(0, 255, (480, 640, 3), dtype=np.uint8)
            for k in range(pictures):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(picture, 5 * k, axis=1), format="rgb24")))
            container.mux(stream.encode())
        wanted += [f"clip{n}/frame_{k}.jpg" for k in range(0, pictures, 2)]
    (folder / "wanted.txt").write_text("\n".join(wanted))
    return ["wanted.txt", "--videos", "videos"]


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def newest(folder: Path) -> float:
    """When a piece of work below `folder` was last written, 0 if there is none. The plan is written before any work."""
    times = [0.0]
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.name.startswith("plan.json"):
                times.append(path.stat().st_mtime)
        except OSError:  # put in its place, or removed, in this moment
            continue
    return max(times)


def start(command: list[str], folder: Path) -> subprocess.Popen:
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def finish(command: list[str], folder: Path) -> float:
    begun = time.monotonic()
    process = start(command, folder)
    said = process.communicate()[1]
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: {said.decode(errors='replace')[-2000:]}")
    return time.monotonic() - begun


def kill(process: subprocess.Popen, group: bool) -> None:
    """SIGKILL to the process or to its whole group; then wait until its workers are gone too."""
    os.killpg(process.pid, signal.SIGKILL) if group else process.kill()
    process.communicate()
    while True:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("hoiqa", "frames"), default="hoiqa")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", type=int, default=60, help="scenes files, or a quarter of them videos")
    parser.add_argument("--folder", help="default: a temporary one")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("whole", "cut"):
            shutil.rmtree(folder / name, ignore_errors=True)
        if options.what == "hoiqa":
            inputs = [*scenes(folder, options.files, 300), "--shard-rows", "5000", "--workers", str(options.workers)]
        else:
            inputs = [*videos(folder, max(1, options.files // 4), 120), "--jobs", str(options.workers)]
        command = [sys.executable, "-m", "egohoi", "build", options.what, *inputs, "--out"]
        took = finish([*command, "whole"], folder)
        print(f"undisturbed: {took:.1f} s", flush=True)
        whole, cut = digests(folder / "whole"), folder / "cut"
        kills = ends = 0
        while kills < options.kills:
            before, process = newest(cut), start([*command, "cut"], folder)
            while process.poll() is None and newest(cut) <= before:
                time.sleep(0.05)
            try:
                process.wait(rng.uniform(0, 4 * took / options.kills))  # kills spread over the whole build
            except subprocess.TimeoutExpired:
                kill(process, rng.random() < 0.3)
                kills += 1
                print(f"kill {kills}: {sum(1 for _ in cut.rglob('*'))} paths in the folder", flush=True)
                continue
            said = process.communicate()[1]
            if process.returncode or digests(cut) != whole:
                print(f"a build that was killed and begun again ended with {process.returncode}, or with other bytes: {said.decode()[-1000:]}")
                return 1
            ends += 1
            shutil.rmtree(cut)
        finish([*command, "cut"], folder)
        same = digests(cut) == whole
    print(f"{options.what}: killed {kills} times, {ends} builds ended in between, {len(whole)} files: {'the same bytes' if same else 'OTHER BYTES'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
