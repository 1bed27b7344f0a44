"""Training of the embedded model: stage `vision` (encoder and dense heads), then stage `language` (on frozen vision).

Both stages are seeded, write checkpoints atomically and resume: a run that was stopped goes on at the last checkpoint and
sees the same items in the same order.
"""

import json
import math
import os
import time
from collections import Counter
from pathlib import Path

from egohoi.errors import BadConfig, BadData

DEFAULTS = {
    "recipe": "nano",
    "out": "runs/nano",
    "seed": 0,
    "threads": 0,
    "vision": {
        "train": [], "validation": None, "imagenet": None, "start": None, "blend": 0.0, "steps": 3000, "batch": 16, "rate": 1.2e-3,
        "encoder_rate": 0.25, "warmup": 100, "decay": 0.01, "average": 0.998, "frozen_blocks": 3, "nouns": 8, "save_every": 200, "log_every": 20,
        "workers": 1,
    },
    "language": {
        "train": [], "start": None, "gguf": None, "merges": 16000, "word_size": 256, "width": 256, "layers": 4, "heads": 8, "steps": 1500, "batch": 48,
        "rate": 1.5e-3, "warmup": 50, "decay": 0.05, "minutes": 0.0, "save_every": 200, "log_every": 25, "scenes": 0, "held_out": 0.05, "precision": "float32",
    },
}  # fmt: skip


def merge(defaults: dict, given: dict, where: str = "") -> dict:
    """`given` over `defaults`; an unknown key is a BadConfig that names it."""
    out = dict(defaults)
    for key, value in given.items():
        if key not in defaults:
            raise BadConfig(f"configuration: unknown key '{where}{key}'; known: {', '.join(defaults)}")
        both = isinstance(defaults[key], dict) and isinstance(value, dict) and defaults[key]
        out[key] = merge(defaults[key], value, f"{where}{key}.") if both else value
    return out


def read_all(folders) -> list:
    """Scenes of all folders, in order. Raises BadData if there are none."""
    from egohoi.scenes import jsonl

    scenes = [scene for folder in folders for scene in jsonl.read(folder)]
    if not scenes:
        raise BadData(f"no scenes in {', '.join(map(str, folders))}: `egohoi synth` renders some")
    return scenes


def noun_list(scenes, least: int) -> list[str]:
    """Names of objects that occur at least `least` times, sorted."""
    counts = Counter(obj.name for scene in scenes for obj in scene.objects)
    return sorted(name for name, count in counts.items() if count >= least)


class Order:
    """Endless, seeded order of items: `keys(step)` are the (epoch, index) pairs of that step's batch."""

    def __init__(self, count: int, batch: int, seed: int):
        self.count, self.batch, self.seed = count, batch, seed
        self._cache = (-1, None)

    def _permutation(self, epoch: int):
        import numpy as np

        if self._cache[0] != epoch:
            self._cache = (epoch, np.random.default_rng((self.seed, epoch)).permutation(self.count))
        return self._cache[1]

    def keys(self, step: int) -> list[tuple[int, int]]:
        first = step * self.batch
        return [((n // self.count), int(self._permutation(n // self.count)[n % self.count])) for n in range(first, first + self.batch)]


class Batches:
    """Batch sampler from `first` to `last` step."""

    def __init__(self, order: Order, first: int, last: int):
        self.order, self.first, self.last = order, first, last

    def __iter__(self):
        return (self.order.keys(step) for step in range(self.first, self.last))

    def __len__(self) -> int:
        return self.last - self.first


def rate_at(step: int, steps: int, warmup: int) -> float:
    """Factor of the learning rate: linear warm-up, then cosine to 1 % of it."""
    if step < warmup:
        return (step + 1) / warmup
    part = (step - warmup) / max(1, steps - warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, part)))


def save(path: Path, state: dict) -> None:
    """Write a checkpoint atomically."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    os.replace(part, path)


def _nano_folder(folder: Path, key: str) -> dict:
    """The config.json of a nano folder that the configuration's `key` names. Raises BadConfig."""
    if not (folder / "config.json").is_file():
        raise BadConfig(f"{key}: {folder} is not a nano folder (no config.json there)")
    return json.loads((folder / "config.json").read_text())


def train_vision(config: dict) -> Path:
    """Stage 1. Returns the path of the averaged detector weights (safetensors)."""
    import torch
    from safetensors.torch import load_file, save_file

    from egohoi.models.nano.data import SceneSet, collate
    from egohoi.models.nano.detector import Detector
    from egohoi.models.nano.encoder import load_imagenet
    from egohoi.models.nano.losses import WEIGHTS, losses

    c, out, seed = config["vision"], Path(config["out"]), config["seed"]
    torch.manual_seed(seed)
    if config["threads"]:
        torch.set_num_threads(config["threads"])
    scenes = read_all(c["train"])
    start = Path(c["start"]) if c["start"] else None
    nouns = _nano_folder(start, "vision.start")["nouns"] if start else noun_list(scenes, c["nouns"])
    out.mkdir(parents=True, exist_ok=True)
    listed = out / "nouns.json"
    if listed.exists():  # a resumed run keeps its nouns, whatever data has been added
        nouns = json.loads(listed.read_text())
    listed.write_text(json.dumps(nouns))
    model = Detector(len(nouns), c["frozen_blocks"])
    if start:
        first_weights = {k: v.float() for k, v in load_file(start / "detector.safetensors").items()}
        model.load_state_dict(first_weights)
    elif c["imagenet"]:
        load_imagenet(model.encoder, torch.load(c["imagenet"], weights_only=True, map_location="cpu"))
    model = model.to(memory_format=torch.channels_last)
    frozen = [model.encoder.stem, *model.encoder.blocks[: c["frozen_blocks"]]]
    for part in frozen:
        part.requires_grad_(False)
    encoder = [p for p in model.encoder.parameters() if p.requires_grad]
    rest = [p for n, p in model.named_parameters() if not n.startswith("encoder.")]
    optimizer = torch.optim.AdamW(
        [{"params": encoder, "lr": c["rate"] * c["encoder_rate"], "base": c["rate"] * c["encoder_rate"]},
         {"params": rest, "lr": c["rate"], "base": c["rate"]}], weight_decay=c["decay"],
    )  # fmt: skip
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    checkpoint, first = out / "vision.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average, first = state["average"], state["step"]
    order = Order(len(scenes), c["batch"], seed)
    loader = torch.utils.data.DataLoader(
        SceneSet(scenes, {n: k for k, n in enumerate(nouns)}, seed), batch_sampler=Batches(order, first, c["steps"]), collate_fn=collate, num_workers=c["workers"],
        prefetch_factor=3 if c["workers"] else None,
    )  # fmt: skip
    log, sums, began, seen = open(out / "vision.jsonl", "a"), {}, time.time(), 0
    print(f"vision: {len(scenes)} scenes, steps {first}..{c['steps']}", flush=True)
    model.train()
    for step, batch in enumerate(loader, first):
        factor = rate_at(step, c["steps"], c["warmup"])
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * factor
        maps = model(batch["pixels"].contiguous(memory_format=torch.channels_last))
        terms = losses(model, maps, batch)
        total = sum(WEIGHTS[k] * v for k, v in terms.items())
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_([*encoder, *rest], 10.0)
        if torch.isfinite(norm):
            optimizer.step()
        keep = min(c["average"], (1 + step) / (10 + step))
        with torch.no_grad():
            for k, v in model.state_dict().items():
                average[k].lerp_(v, 1 - keep)
        seen += len(batch["pixels"])
        for k, v in {**terms, "total": total}.items():
            sums[k] = sums.get(k, 0.0) + float(v.detach())
        if (step + 1) % c["log_every"] == 0:
            mean = {k: round(v / c["log_every"], 4) for k, v in sums.items()}
            speed = seen / (time.time() - began)
            left = (c["steps"] - step - 1) * c["batch"] / speed
            log.write(json.dumps({"step": step + 1, **mean, "images_per_second": round(speed, 2)}) + "\n")
            log.flush()
            print(f"step {step + 1}/{c['steps']} {mean} {speed:.1f} images/s, {left / 60:.0f} min left", flush=True)
            sums = {}
        if (step + 1) % c["save_every"] == 0 or step + 1 == c["steps"]:
            save(checkpoint, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average, "step": step + 1})
            part, kept = out / "detector.safetensors.part", {k: v.contiguous().clone() for k, v in average.items()}
            if start and step + 1 == c["steps"]:
                kept = {k: v.lerp(first_weights[k], c["blend"]) for k, v in kept.items()}
            save_file(kept, part)
            os.replace(part, out / "detector.safetensors")
    return out / "detector.safetensors"


def train_language(config: dict) -> None:
    """Stage 2, on the frozen detector of stage 1: proposals of every scene (and its mirror image) are computed once, then the
    language model learns from freely worded questions about them. Writes the whole nano folder to `out`/model.

    minutes: if above 0, the steps are cut so that the stage ends in about that time (the schedule follows).
    """
    import torch
    from safetensors.torch import load_file, save_file
    from torch.nn import functional as F

    from egohoi.models.nano import text
    from egohoi.models.nano.detector import Detector
    from egohoi.models.nano.language import Language, LanguageConfig
    from egohoi.questions.free import SYNONYMS
    from egohoi.training import nano_language as data

    c, out, seed = config["language"], Path(config["out"]), config["seed"]
    torch.manual_seed(seed)
    if config["threads"]:
        torch.set_num_threads(config["threads"])
    nouns = json.loads((out / "nouns.json").read_text())
    detector = Detector(len(nouns))
    detector.load_state_dict(load_file(out / "detector.safetensors"))
    if c["precision"] not in ("float32", "bfloat16"):
        raise BadConfig(f"language.precision: {c['precision']}; write float32 or bfloat16")
    views = data.views(read_all(c["train"])[: c["scenes"] or None], detector.eval(), out / "views.pt")
    kept = max(1, round(len(views) * (1 - c["held_out"])))
    views, held_out = views[:kept], views[kept:]
    if c["start"]:
        start = Path(c["start"])
        known = _nano_folder(start, "language.start")
        if known["nouns"] != nouns:
            raise BadConfig(f"language.start: {start} names other nouns than the detector in {out}: set vision.start to the same folder")
        sizes = LanguageConfig(**{**known["language"], "outputs": tuple(known["language"]["outputs"])})
        tokenizer, words, model = text.load(start / "tokenizer.json"), list(sizes.outputs), Language(sizes)
        model.load_state_dict({k: v.float() for k, v in load_file(start / "language.safetensors").items()})
    else:
        tokenizer, table = text.from_gguf(c["gguf"], c["merges"])
        words = data.answer_words(tokenizer, [v.scene for v in views], nouns, seed)
        sizes = LanguageConfig(len(table), c["word_size"], len(nouns), tuple(words), c["width"], c["layers"], c["heads"])
        model = Language(sizes)
        model.words.copy_(torch.from_numpy(text.reduce(table, c["word_size"])))
    decay = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": c["decay"]}, {"params": plain, "weight_decay": 0.0}], lr=c["rate"], betas=(0.9, 0.98))
    checkpoint, first = out / "language.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    maker = data.Maker(views, tokenizer, nouns, words, seed)
    log, steps, sums, began, count = open(out / "language.jsonl", "a"), c["steps"], [0.0, 0.0, 0.0], time.time(), 0
    step = first
    while step < steps:
        batch = maker.batch(step, c["batch"])
        for group in optimizer.param_groups:
            group["lr"] = c["rate"] * rate_at(step, steps, c["warmup"])
        with torch.autocast("cpu", torch.bfloat16, enabled=c["precision"] == "bfloat16"):
            embedded = model.embed_proposals(batch["facts"], batch["seen"], batch["nouns"])
            logits = model(embedded, batch["present"], batch["question"], batch["question_mask"], batch["answer"][:, :-1]).float()
        wanted = batch["answer"][:, 1:].masked_fill(batch["answer"][:, 1:] == 0, -100)
        loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=-100)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        known = wanted != -100
        right = (logits.argmax(-1) == wanted) | ~known
        sums[0] += float(loss.detach())
        sums[1] += float(right[:, 1].float().mean())
        sums[2] += float(right.all(1).float().mean())
        step, count = step + 1, count + 1
        if c["minutes"] and count == 20:
            steps = min(steps, first + max(50, int(c["minutes"] * 60 / ((time.time() - began) / count))))
        if step % c["log_every"] == 0 or step == steps:
            n = (step - 1) % c["log_every"] + 1
            row = {"step": step, "loss": sums[0] / n, "decision": sums[1] / n, "whole_answer": sums[2] / n, "samples_per_second": count * c["batch"] / (time.time() - began)}
            log.write(json.dumps(row) + "\n")
            log.flush()
            print(f"step {step}/{steps} " + " ".join(f"{k} {v:.3f}" for k, v in row.items() if k != "step"), flush=True)
            sums = [0.0, 0.0, 0.0]
        if step % c["save_every"] == 0 or step == steps:
            save(checkpoint, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step})
    folder = out / "model"
    folder.mkdir(parents=True, exist_ok=True)
    half = {k: v.to(torch.float16).contiguous() for k, v in model.state_dict().items()}
    save_file(half, folder / "language.safetensors")
    save_file({k: v.to(torch.float16).contiguous() for k, v in detector.state_dict().items()}, folder / "detector.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))
    decision = data.decisions(model.eval(), data.Maker(held_out, tokenizer, nouns, words, seed)) if held_out else {}
    kept = {"nouns": nouns, "synonyms": SYNONYMS, "decision": decision, "language": {**sizes.to_json(), "outputs": list(words)}}
    (folder / "config.json").write_text(json.dumps(kept))
    print(f"model: {folder}", flush=True)


def run(given: dict) -> None:
    """Train by a configuration (see configs/nano.yaml): the stages that have data, in order. Raises BadConfig, BadData."""
    config = merge(DEFAULTS, given)
    if config["vision"]["train"]:
        train_vision(config)
    if config["language"]["train"]:
        train_language(config)
