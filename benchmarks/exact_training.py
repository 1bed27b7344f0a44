"""Fine-tune a tiny VLM4HOI through the command line, undisturbed, on two processes, in other passes, and killed ten times; compare.

    python benchmarks/parity_vlm4hoi.py weights ../tiny
    python benchmarks/exact_training.py ../tiny --out ../exact

Every run is `egohoi train` in processes of their own: alone, `torchrun --nproc-per-node 2` over gloo (DDP, FSDP), with other sizes of a pass
(dropout 0, which is drawn anew for each pass), and one that is ended by SIGKILL ten times at random moments and started again by
the same command. Prints the largest differences between the curves and whether the final files are equal byte by byte.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

CONFIG = Path(__file__).parents[1] / "configs" / "vlm4hoi_finetune.yaml"


def words(tiny: Path, out: Path, steps: int, **more) -> list[str]:
    """Arguments of `egohoi` for a run into `out`."""
    values = {
        "model": tiny / "model", "out": out, "data": f"[{{path: {tiny / 'train.json'}, images: {tiny / 'frames'}}}]", "frozen": "float32",
        "loop.steps": steps, "loop.batch": 8, "loop.micro_batch": 2, "loop.precision": "float32", "loop.device": "cpu", "loop.lr": 1e-3,
        "loop.warmup_steps": 4, "loop.save_every": 4, "loop.workers": 0, "loop.trackers": "[]", "loop.log_every": 1000,
    }
    return ["train", str(CONFIG), *(f"{key}={value}" for key, value in {**values, **more}.items())]


def start(arguments: list[str], processes: int = 1) -> subprocess.Popen:
    before = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--master-port=0", "--standalone"] if processes > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, *before, "-m", "egohoi", *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(arguments: list[str], processes: int = 1) -> None:
    process = start(arguments, processes)
    _, error = process.communicate()
    if process.returncode:
        sys.exit(f"{' '.join(arguments)}: exit status {process.returncode}\n{error.decode()[-2000:]}")


def curve(out: Path) -> list[float]:
    from egohoi.training import progress

    return [row["loss"] for row in progress.read_curve(out)]


def apart(one: Path, other: Path) -> float:
    a, b = curve(one), curve(other)
    assert len(a) == len(b) and a, (len(a), len(b))
    return max(abs(x - y) for x, y in zip(a, b))


def weights_apart(one: Path, other: Path) -> float:
    from egohoi.training.checkpoints import trained_weights

    a, b = trained_weights(one), trained_weights(other)
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def digests(out: Path, steps: int) -> dict[str, str]:
    """SHA-256 of the final files: trained weights, optimizer state, both exports."""
    last = out / "checkpoints" / f"step-{steps:07d}"
    files = [last / "trained.safetensors", last / "optimizer.safetensors", out / f"checkpoint_{steps}.pth", *sorted((out / "model").glob("*.safetensors"))]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def killed(arguments: list[str], out: Path, steps: int, r: random.Random, count: int) -> None:
    """Start, wait for a random step and a random part of the next one, SIGKILL; `count` times, then to the end."""
    for number in range(count):
        already = len(curve(out)) if out.exists() else 0
        goal, process = min(steps - 1, already + r.randint(1, steps // count)), start(arguments)
        while process.poll() is None and len(curve(out) if out.exists() else ()) < goal:
            time.sleep(0.01)
        time.sleep(r.random() * 0.3)
        process.kill()
        process.communicate()
        assert process.returncode == -9, f"the run ended (status {process.returncode}) before it could be killed"
        last = max((int(p.name[5:12]) for p in (out / "checkpoints").glob("step-*") if p.is_dir() and p.suffix != ".part"), default=0)
        print(f"  killed {number + 1}: after step {len(curve(out))} of {steps}, last checkpoint {last}", flush=True)
    finish(arguments)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiny", type=Path, help="folder that `parity_vlm4hoi.py weights` made")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    tiny, out, steps = given.tiny, given.out, given.steps
    out.mkdir(parents=True)

    one = out / "one"
    finish(words(tiny, one, steps))
    print(f"one process: {steps} steps, loss {curve(one)[0]:.4f} to {curve(one)[-1]:.4f}")
    for kind in ("ddp", "fsdp"):
        finish(words(tiny, out / kind, steps, **{"loop.distribution": kind}), 2)
        print(f"two processes ({kind}): losses differ by at most {apart(one, out / kind):.1e}, weights by {weights_apart(one, out / kind):.1e}", flush=True)

    shutil.copytree(tiny / "model", out / "plain")
    facts = json.loads((out / "plain" / "config.json").read_text())
    (out / "plain" / "config.json").write_text(json.dumps({**facts, "lora_dropout": 0.0}))
    for size in (8, 4, 2, 1):
        finish(words(tiny, out / f"passes-of-{size}", steps, model=out / "plain", **{"loop.micro_batch": size}))
    for size in (4, 2, 1):
        a, b = out / "passes-of-8", out / f"passes-of-{size}"
        print(f"{8 // size} passes of {size} against one of 8: losses differ by at most {apart(a, b):.1e}, weights by {weights_apart(a, b):.1e}")

    killed(words(tiny, out / "killed", steps), out / "killed", steps, random.Random(given.seed), given.kills)
    finish(words(tiny, out / "killed", steps))  # once more, on a finished run: it must change nothing
    a, b = digests(one, steps), digests(out / "killed", steps)
    same = curve(one) == curve(out / "killed")
    print(f"killed {given.kills} times: curve {'equal' if same else 'DIFFERENT'}, files equal byte by byte: {[n for n in a if a[n] == b[n]]}, others: {[n for n in a if a[n] != b[n]]}")
    return 0 if same and a == b else 1


if __name__ == "__main__":
    sys.exit(main())
