"""Can ANNEXE learn 32 drawn scenes by heart? A tiny model from nothing, on a CPU.

    OMP_NUM_THREADS=1 python benchmarks/annexe_overfit.py --out runs/annexe-overfit

Draws 32 first-person scenes with masks and depth, one question each (single, multi, no target in turn), trains through the
code of `egohoi train`, asks the same questions. Prints JSON; exit status 1 if analysis and answer are not exact on 30, mean
mask IoU is below 0.85, or a no-target question is answered wrongly.
"""

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path

_TESTS = Path(__file__).parents[1] / "tests"


def _module(name: str, path: Path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def settings(data: Path, out: Path, steps: int) -> dict:
    """Configuration of the run: 64 x 64 pixels, mask side from patches of 8 pixels, no augmentation."""
    return {
        "recipe": "annexe", "out": str(out), "data": [{"folder": str(data)}],
        "model": {"vocabulary": 400, "pixels": "tower", "small": {"side": 64, "patch": 8, "width": 96, "layers": 2}},
        "augment": {"flip": 0.0, "crop": 0.0, "colour": 0.0},
        "loop": {"steps": steps, "batch": 16, "micro_batch": 16, "lr": 2e-3, "warmup_lr": 1e-5, "warmup_steps": 20, "weight_decay": 0.0,
                 "save_every": 200, "keep": 1, "workers": 0, "trackers": [], "log_every": 50},
    }


def main() -> int:
    import torch

    import egohoi
    from egohoi import images
    from egohoi.records import Query
    from egohoi.scenes import irgbench
    from egohoi.training import annexe

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/annexe-overfit"))
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--scenes", type=int, default=32)
    given = parser.parse_args()
    torch.set_num_threads(1)
    drawn, ablation = _module("annexe_drawn", _TESTS / "annexe_drawn.py"), _module("annexe_ablation", Path(__file__).with_name("annexe_ablation.py"))
    data = given.out / "data"
    begin, used = time.perf_counter(), time.process_time()
    drawn.data_set(data, given.scenes, side=64)
    annexe.run(settings(data, given.out / "run", given.steps))
    model = egohoi.load(f"annexe:{given.out / 'run' / 'model'}", device="cpu")
    items = list(irgbench.read(data, "train"))
    asked = [(images.load(i.image), Query(text=i.questions[0].query, task="ground")) for i in items]
    rows = [ablation.measured(r, i) for r, i in zip(model.ask_many(asked), items)]
    total = {k: sum(r[k] for r in rows) for k in ("iou", "targets", "refused", "none")}
    result = {
        "scenes": len(rows), "text_exact": sum(r["answer"] == r["analysis"] == 1 for r in rows),
        "mask_iou": round(total["iou"] / total["targets"], 4), "targets": total["targets"],
        "no_target": [total["refused"], total["none"]], "seconds": round(time.perf_counter() - begin), "cpu_seconds": round(time.process_time() - used),
    }
    print(json.dumps(result))
    good = result["text_exact"] >= len(rows) - 2 and result["mask_iou"] >= 0.85 and total["refused"] == total["none"]
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
