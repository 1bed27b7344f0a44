"""`egohoi build hoiqa` and `egohoi build check` as a user runs them."""

import hashlib
import importlib.util
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from egohoi import store
from egohoi.records import Hand, Object, Scene
from egohoi.scenes import jsonl

pytest.importorskip("pyarrow")


def run(*arguments, cwd):
    command = [sys.executable, "-m", "egohoi", "build", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def write(folder, count=30, seed=0):
    rng = random.Random(seed)
    scenes = []
    for k in range(count):
        x, y = rng.uniform(0, 400), rng.uniform(0, 300)
        scenes.append(Scene(
            id=f"s{seed}/{k}", image=f"images/{k % 20}.jpg", size=(640, 480), source="mine", narration="take cup", verb="take", noun="cup",
            hands=[Hand("left", (x, y, x + 90, y + 90), contact=True, object=0), Hand("right", (y, x / 2, y + 80, x / 2 + 120), contact=False)],
            objects=[Object("cup", (x + 20, y + 10, x + 150, y + 100), hands=("left",))],
        ))
    jsonl.write(folder, scenes)


def digests(folder):
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_build_then_check(tmp_path):
    write(tmp_path / "in")
    made = run("hoiqa", "--scenes", "in", "--out", "out", "--no-balance", "--test-fraction", "0", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "Q8" in made.stdout and "shards in train and test" in made.stdout
    again = run("hoiqa", "--scenes", "in", "--out", "out", "--no-balance", "--test-fraction", "0", "--json", cwd=tmp_path)
    report = json.loads(again.stdout)
    assert report["questions"]["train"]["mine"] == {"Q1": 90, "Q2": 30, "Q3": 30, "Q4": 30, "Q5": 30, "Q6": 90, "Q7": 30, "Q8": 30}
    assert len(store.Store(tmp_path / "out/train")) == report["total"] == 360

    (tmp_path / "frames/in/images").mkdir(parents=True)
    for k in range(18):
        (tmp_path / f"frames/in/images/{k}.jpg").touch()
    for data in ("out", "out/hoiqa/other-train.json", "out/train"):
        checked = run("check", data, "--frames", "frames", cwd=tmp_path)
        assert checked.returncode == 2 and checked.stdout.split() == ["in/images/18.jpg", "in/images/19.jpg"]
        assert checked.stderr.count("\n") == 1 and "2 of 20 frames" in checked.stderr
    (tmp_path / "frames/in/images/18.jpg").touch()
    (tmp_path / "frames/in/images/19.jpg").touch()
    assert "all 20 frames of 360 questions" in run("check", "out", "--frames", "frames", cwd=tmp_path).stdout


@pytest.mark.parametrize("arguments, message", [
    (("hoiqa", "--out", "o"), "nothing to build from"), (("hoiqa", "--scenes", "none", "--out", "o"), "none"),
    (("hoiqa", "--scenes", "in", "--out", "in/scenes.jsonl/o"), "cannot be written"),
    (("hoiqa", "--scenes", "in", "--out", "o", "--types", "Q9"), "types must be"), (("hoiqa", "--scenes", "in", "--out", "o", "--engine", "x"), "--engine"),
    (("check", "none.json", "--frames", "."), "none.json"), (("check", "in", "--frames", "nowhere"), "no such folder"),
])
def test_mistakes_are_one_line(tmp_path, arguments, message):
    write(tmp_path / "in", 2)
    failed = run(*arguments, cwd=tmp_path)
    lines = [line for line in failed.stderr.splitlines() if line.startswith("egohoi:")]
    assert failed.returncode == 2 and len(lines) == 1 and message in lines[0] and "Traceback" not in failed.stderr


def test_killed_at_random_it_goes_on_to_the_same_bytes(tmp_path):
    for k in range(4):
        write(tmp_path / f"in{k}", 60, seed=k)
    arguments = [a for k in range(4) for a in ("--scenes", f"in{k}")] + ["--shard-rows", "200", "--workers", "2"]
    assert run("hoiqa", *arguments, "--out", "whole", cwd=tmp_path).returncode == 0
    rng = random.Random(0)
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "egohoi", "build", "hoiqa", *arguments, "--out", "cut"], cwd=tmp_path, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(rng.uniform(0.5, 2.5))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert run("hoiqa", *arguments, "--out", "cut", cwd=tmp_path).returncode == 0
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


@pytest.mark.skipif(not hasattr(os, "kill") or not Path("/proc").is_dir(), reason="looks at processes in /proc")
def test_workers_end_with_their_killed_parent(tmp_path):
    for k in range(4):
        write(tmp_path / f"in{k}", 1500, seed=k)
    arguments = [a for k in range(4) for a in ("--scenes", f"in{k}")]
    process = subprocess.Popen(
        [sys.executable, "-m", "egohoi", "build", "hoiqa", *arguments, "--out", "out", "--workers", "2"], cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    children: list[str] = []
    limit = time.monotonic() + 20
    while len(children) < 2 and time.monotonic() < limit and process.poll() is None:
        time.sleep(0.1)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    limit = time.monotonic() + 20
    while any(Path(f"/proc/{c}").exists() for c in children) and time.monotonic() < limit:
        time.sleep(0.1)
    assert children and not [c for c in children if Path(f"/proc/{c}").exists() and "Z" not in Path(f"/proc/{c}/stat").read_text().split()[2]]


def test_benchmark_measures_both(tmp_path):
    script = Path(__file__).parents[2] / "benchmarks" / "hoiqa_store.py"
    assert importlib.util.spec_from_file_location("hoiqa_store", script)
    done = subprocess.run(
        [sys.executable, str(script), "--conversations", "3000", "--draws", "50", "--json"], capture_output=True, text=True, timeout=120, check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["conversations"] == 3000 and found["json"]["first_s"] > 0 and found["store"]["first_s"] > 0 and found["ratios"]
