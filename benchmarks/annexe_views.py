"""Training of ANNEXE on a fixed set of views that are made once: for comparisons of runs that share pictures and a frozen tower.

A view is a frame as the tower sees it after one draw of the augmentation; every second one is mirrored. Pixels, the tower's
patches, the masks of all things and the depth are kept in OUT, so a step costs neither files nor the tower. Everything else
is the recipe of `egohoi train`. Used by annexe_ablation.py.
"""

import dataclasses
import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from egohoi import images
from egohoi.errors import BadConfig
from egohoi.models import annexe_text
from egohoi.questions import irg
from egohoi.scenes import irgbench
from egohoi.training import annexe
from egohoi.training.annexe_data import Sample, augmented, cells, depth_cells, worded
from egohoi.training.data import Mixture

#: Frames in one file of views.
SHARD = 100
KEYS = ("pixels", "patches", "depth", "valid", "cells")


def prepare(recipe: annexe.Annexe, out: Path, views: int) -> None:
    """Make the views of the recipe's (only) data set; what is there stays. About 100 kB a view at 128 pixels."""
    given = recipe.config.data[0]
    names = irgbench.frames(given.folder, given.split)
    facts = {"folder": str(Path(given.folder).resolve()), "split": given.split, "frames": len(names), "views": views,
             "augment": dataclasses.asdict(recipe.config.augment), "seed": recipe.config.loop.seed, "model": recipe.choices.to_dict()}
    for key in ("depth", "conditioning", "analysis", "decoder", "answer_style"):  # views are the same whatever these are
        facts["model"].pop(key)
    facts["model"]["language"] = {k: v for k, v in facts["model"]["language"].items() if k.startswith(("image", "patch", "vision"))}
    tower = recipe.model().language.eval()
    facts = json.loads(json.dumps({**facts, "tower": _digest(tower.vision)}))
    out.mkdir(parents=True, exist_ok=True)
    known = json.loads((out / "views.json").read_text("utf-8")) if (out / "views.json").is_file() else facts
    if known != facts:
        raise BadConfig(f"{out}: holds views of other data or settings: name another folder")
    (out / "views.json").write_text(json.dumps(facts), "utf-8")
    for start in range(0, len(names), SHARD):
        target = out / f"{start:06d}"
        if target.is_dir():
            continue
        made: dict[str, list] = {k: [] for k in KEYS}
        index = {}
        for number, name in enumerate(names[start : start + SHARD], start):
            values, rows = _frame(recipe, tower, irgbench.read_frame(given.folder, given.split, name, depth=True)[0], number, views)
            index[name] = [values, len(made["cells"])]
            made["cells"] += [row.pop("cells") for row in rows]
            for row in rows:
                for key, value in row.items():
                    made[key].append(value)
        part = target.with_name(target.name + ".part")
        part.mkdir(exist_ok=True)
        for key in KEYS:
            np.save(part / f"{key}.npy", np.concatenate(made[key]) if key == "cells" else np.stack(made[key]))
        offsets = np.cumsum([0, *(len(block) for block in made["cells"])]).tolist()
        placed = {n: [values, [offsets[at + k] for k in range(views)]] for n, (values, at) in index.items()}
        (part / "index.json").write_text(json.dumps(placed), "utf-8")
        os.replace(part, target)
        print(f"views: {min(start + SHARD, len(names))} of {len(names)} frames", flush=True)


def _frame(recipe, tower, item, number: int, views: int) -> tuple[list[int], list[dict]]:
    """(values of the frame's things, one dict of arrays a view)."""
    index = irgbench.index_image(item)
    values = [int(v) for v in np.unique(index) if v]
    things = tuple(index == v for v in values)
    whole = Sample(images.load(item.image).pixels, things, index != 0, irgbench.depth_image(item), (), "", "", "")
    side, rows = recipe.choices.mask_side, []
    for view in range(views):
        draw = dataclasses.replace(recipe.config.augment, flip=float(view % 2))
        sample = augmented(whole, draw, np.random.default_rng([recipe.config.loop.seed, number, view]))
        pixels = recipe.processor.pixels(sample.pixels)["pixel_values"]
        depth, valid = depth_cells(sample.depth, side)
        masks = np.stack([cells(m, side).numpy() for m in sample.masks]) if values else np.zeros((0, side, side), np.float32)
        rows.append({"pixels": pixels.half().numpy(), "depth": depth.half().numpy(), "valid": valid.half().numpy(),
                     "cells": np.rint(masks * 255).astype(np.uint8)})
    with torch.inference_mode():
        patches = tower.patches(torch.from_numpy(np.stack([r["pixels"] for r in rows])).float()).half().numpy()
    for row, kept in zip(rows, patches):
        row["patches"] = kept
    return values, rows


class Views(annexe.Annexe):
    """The recipe, with pictures from the folder that `prepare` filled."""

    def __init__(self, config: annexe.Config, folder: Path):
        self.kept: dict[str, tuple[int, int, dict[int, int], list[int]]] = {}
        self.arrays: list[dict] = []
        facts = json.loads((folder / "views.json").read_text("utf-8"))
        self.views, self.tower = facts["views"], facts["tower"]
        for shard in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.endswith(".part")):
            index = json.loads((shard / "index.json").read_text("utf-8"))
            for place, (name, (values, offsets)) in enumerate(index.items()):
                self.kept[name] = (len(self.arrays), place, {v: k for k, v in enumerate(values)}, offsets)
            self.arrays.append({key: np.load(shard / f"{key}.npy", mmap_mode="r") for key in KEYS})
        super().__init__(config)
        self.processor.text = lru_cache(maxsize=None)(self.processor.text)  # the same words come again and again

    def _open(self):
        given = self.config.data[0]
        self.items = [i for n in self.kept for i in irgbench.read_frame(given.folder, given.split, n)]
        kinds: dict[str, list] = {k: [] for k in irgbench.KINDS}
        for item in self.items:
            kinds[item.kind].append((item.frame, item.entry))
        return [(given, kinds)]

    def _texts(self) -> list[str]:
        texts = {annexe_text.ANALYSIS_PROMPT, annexe_text.QUERY_PROMPT.format(query=""), irg.NO_TARGET, "[INST] <Img> </Img> [/INST] and"}
        for item in self.items:
            texts.update((item.caption, item.answer, *item.names, *(q.query for q in item.questions)))
        return sorted(texts | {annexe_text.mirror(t) for t in texts})

    def model(self):
        module = super().model()
        if _digest(module.language.vision) != self.tower:
            raise BadConfig("the tower is not the one that the views were made with: name another folder")
        return module

    def data(self) -> Mixture:
        given = self.config.data[0]
        sources = {k: [i for i in self.items if i.kind == k] for k in irgbench.KINDS}
        sources = {k: v for k, v in sources.items() if v and getattr(given, k) > 0}
        return Mixture(list(sources.values()), [getattr(given, k) for k in sources], self.config.loop.seed, list(sources))

    def item(self, example, rng) -> dict:
        question = example.questions[int(rng.integers(len(example.questions)))]
        view = int(rng.integers(self.views))
        shard, place, order, offsets = self.kept[example.frame]
        arrays, row = self.arrays[shard], place * self.views + view
        words = [question.query, example.caption, irg.answer_text(example, self.choices.answer_style), *example.names]
        if view % 2:
            words = [annexe_text.mirror(w) for w in words]
        made = {
            "pixel_values": _tensor(arrays["pixels"][row]), "patches": _tensor(arrays["patches"][row]),
            "depth": _tensor(arrays["depth"][row]), "depth_valid": _tensor(arrays["valid"][row]) * self.choices.depth,
        }
        chosen = [offsets[view] + order[t.value] for t in example.targets]
        side = self.choices.mask_side
        made["masks"] = _tensor(arrays["cells"][chosen]) / 255 if chosen else torch.zeros(0, side, side)
        made["sequences"], made["has_target"] = worded(*words[:3], tuple(words[3:]), self.processor)
        return made


def _digest(tower) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tower.state_dict().items()):
        digest.update(name.encode() + tensor.float().numpy().tobytes())
    return digest.hexdigest()


def _tensor(array) -> torch.Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32))
