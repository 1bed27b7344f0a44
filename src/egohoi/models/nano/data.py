"""Scenes -> batches for nano's detector: augmentation that keeps boxes, masks, depth and left/right true."""

import io
import os
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter

from egohoi import masks as rle
from egohoi.models.nano.detector import MASK_STRIDE, SIDE, STRIDE
from egohoi.models.nano.losses import centre_cell, targets

#: width, height of the canvas that training pictures are cut to (inference takes any multiple of 32).
CANVAS = (SIDE, 256)
MASKS_PER_IMAGE = 6
THINGS = 24


def things_of(scene) -> list[dict]:
    """The labelled hands and objects of a Scene as dicts: kind (index into HEAT), box, contact, held, link (index), mask."""
    out = []
    for obj in scene.objects:
        held = tuple(float(s in obj.hands) for s in ("left", "right", "other"))
        out.append({"kind": 3 if obj.hands else 4, "box": obj.box, "held": held, "mask": obj.mask, "contact": None, "link": None, "name": obj.name})
    for hand in scene.hands:
        kind = ("left", "right", "other").index(hand.side)
        out.append({"kind": kind, "box": hand.box, "held": (0.0, 0.0, 0.0), "mask": hand.mask, "contact": hand.contact, "link": hand.object,
                    "name": None})
    return out


def window(rng: np.random.Generator, size, train: bool, canvas=CANVAS) -> tuple[float, float, float]:
    """Left, top and pixels per canvas pixel of the part of a picture of `size` that fills the canvas."""
    fit = max(size[0] / canvas[0], size[1] / canvas[1])
    if not train:
        return 0.0, 0.0, fit
    step = fit / np.exp(rng.uniform(np.log(0.75), np.log(1.7)))
    x = rng.uniform(0, 1) * (size[0] - step * canvas[0])
    y = rng.uniform(0, 1) * (size[1] - step * canvas[1])
    return x, y, step


def colour(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Photometric augmentation of an RGB image."""
    for enhancer, low, high in ((ImageEnhance.Brightness, 0.55, 1.45), (ImageEnhance.Contrast, 0.6, 1.4), (ImageEnhance.Color, 0.3, 1.6)):
        if rng.random() < 0.6:
            image = enhancer(image).enhance(rng.uniform(low, high))
    array = np.asarray(image).astype(np.float32)
    if rng.random() < 0.5:
        array *= rng.uniform(0.85, 1.15, 3).astype(np.float32)
    if rng.random() < 0.3:
        array = 255 * (np.clip(array, 0, 255) / 255) ** np.float32(rng.uniform(0.6, 1.6))
    if rng.random() < 0.4:
        array += rng.normal(0, rng.uniform(1, 10), array.shape).astype(np.float32)
    image = Image.fromarray(np.clip(array, 0, 255).astype(np.uint8))
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.5)))
    if rng.random() < 0.08:
        image = image.convert("L").convert("RGB")
    if rng.random() < 0.25:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(25, 80)))
        image = Image.open(buffer).convert("RGB")
    return image


def clutter(image: Image.Image, things: list[dict], donor, rng: np.random.Generator, most: int = 4) -> tuple[Image.Image, list[dict], np.ndarray]:
    """Objects of another scene `donor`, laid over a picture as things that lie about: real places are fuller than rendered ones.

    things: of `things_of`; hands and held objects stay uncovered, and of anything else three quarters do. Returns the picture, what was added
    (as in `things_of`), and where: bool [H, W].
    """
    width, height = image.size
    pool = [o for o in donor.objects if o.mask is not None and (o.box[2] - o.box[0]) * (o.box[3] - o.box[1]) >= 144]
    covered, added = np.zeros((height, width), bool), []
    if not pool:
        return image, added, covered
    with Image.open(donor.image) as file:
        source = file.convert("RGB")
    image = image.copy()
    for _ in range(int(rng.integers(1, most + 1))):
        obj = pool[int(rng.integers(len(pool)))]
        frame = tuple(int(v) for v in (np.floor(obj.box[0]), np.floor(obj.box[1]), np.ceil(obj.box[2]), np.ceil(obj.box[3])))
        scale = float(np.exp(rng.uniform(np.log(0.6), np.log(1.6))))
        size = (round((frame[2] - frame[0]) * scale), round((frame[3] - frame[1]) * scale))
        if min(size) < 6 or size[0] > 0.6 * width or size[1] > 0.6 * height:
            continue
        left, top = int(rng.integers(0, width - size[0] + 1)), int(rng.integers(0, height - size[1] + 1))
        box = (left, top, left + size[0], top + size[1])
        if any(_covers(box, t["box"]) > (0.25 if t["kind"] == 4 else 0.03) for t in (*things, *added)):
            continue
        alpha = Image.fromarray(rle.decode(obj.mask).astype(np.uint8) * 255).crop(frame).resize(size, Image.BILINEAR)
        patch = source.crop(frame).resize(size, Image.BILINEAR)
        if rng.random() < 0.5:
            alpha, patch = alpha.transpose(Image.FLIP_LEFT_RIGHT), patch.transpose(Image.FLIP_LEFT_RIGHT)
        image.paste(patch, (left, top), alpha)
        mask = np.zeros((height, width), bool)
        mask[top : box[3], left : box[2]] = np.asarray(alpha) > 127
        covered |= mask
        added.append({"kind": 4, "box": box, "held": (0.0, 0.0, 0.0), "mask": rle.encode(mask), "contact": None, "link": None, "name": obj.name})
    return image, added, covered


def _covers(box, other) -> float:
    """Part of the box `other` that lies under `box`."""
    w, h = min(box[2], other[2]) - max(box[0], other[0]), min(box[3], other[3]) - max(box[1], other[1])
    return max(0.0, w) * max(0.0, h) / max(1e-6, (other[2] - other[0]) * (other[3] - other[1]))


def sample(scene, rng: np.random.Generator, nouns: dict[str, int], train: bool = True, donors: Sequence = ()) -> dict:
    """One training item. nouns: name -> index of the naming head. donors: scenes that lend clutter to every second item. rng decides every
    random choice, so that an item depends on its seed only."""
    width, height = CANVAS
    with Image.open(scene.image) as file:
        image = file.convert("RGB")
    everything, covered = things_of(scene), None
    if train and donors and rng.random() < 0.5:
        image, added, covered = clutter(image, everything, donors[int(rng.integers(len(donors)))], rng)
        everything += added
    x0, y0, step = window(rng, scene.size, train)
    flip = bool(train and rng.random() < 0.5)
    extent = (x0, y0, x0 + step * width, y0 + step * height)
    fill = tuple(int(v) for v in rng.integers(0, 256, 3)) if train and rng.random() < 0.5 else (114, 114, 114)

    def cut(picture, size, resample, background):
        out = picture.transform(size, Image.EXTENT, extent, resample, fillcolor=background)
        return out.transpose(Image.FLIP_LEFT_RIGHT) if flip else out

    pixels = cut(image, CANVAS, Image.BILINEAR, fill)
    if train:
        pixels = colour(pixels, rng)
    things = []
    for thing in everything:
        box = (np.array(thing["box"]) - (x0, y0, x0, y0)) / step
        seen = np.clip(box, 0, (width, height, width, height))
        area = (box[2] - box[0]) * (box[3] - box[1])
        inside = max(0.0, seen[2] - seen[0]) * max(0.0, seen[3] - seen[1])
        if inside < 0.3 * area or min(seen[2] - seen[0], seen[3] - seen[1]) < 4:
            continue
        kind, held, link = thing["kind"], thing["held"], None
        if thing["link"] is not None:
            target = (np.array(everything[thing["link"]]["box"]) - (x0, y0, x0, y0)) / step
            link = ((target[0] + target[2]) / 2, (target[1] + target[3]) / 2)
        if flip:
            seen = np.array([width - seen[2], seen[1], width - seen[0], seen[3]])
            kind = {0: 1, 1: 0}.get(kind, kind)
            held = (held[1], held[0], held[2])
            link = (width - link[0], link[1]) if link else None
        things.append({**thing, "kind": kind, "box": seen, "held": held, "link": link})
    gh, gw = height // STRIDE, width // STRIDE
    dense = targets(gh, gw, things)
    table = np.zeros((THINGS, 11), np.float32)
    noun = np.full(THINGS, -1, np.int64)
    for k, t in enumerate(things[:THINGS]):
        table[k, :4] = t["box"]
        table[k, 4] = -1 if t["contact"] is None else float(t["contact"])
        table[k, 5:7] = t["link"] if t["link"] else (-1e4, -1e4)
        table[k, 7:10], table[k, 10] = t["held"], t["kind"]
        noun[k] = nouns.get(t["name"], -1)
    dense["owner"][dense["owner"] >= THINGS] = -1

    mh, mw = height // MASK_STRIDE, width // MASK_STRIDE
    having = [k for k in range(min(len(things), THINGS)) if things[k]["mask"] is not None]
    order = sorted(having, key=lambda k: (things[k]["kind"] == 4, rng.random()))[:MASKS_PER_IMAGE]
    masks, cells, groups, boxes = [], [], [], []
    for k in order:
        full = Image.fromarray(rle.decode(things[k]["mask"]).astype(np.uint8) * 255)
        small = np.asarray(cut(full, CANVAS, Image.BILINEAR, 0), np.float32)
        small = small.reshape(mh, MASK_STRIDE, mw, MASK_STRIDE).mean((1, 3)) > 127
        cx, cy = centre_cell(things[k]["box"], gh, gw)
        if train:
            ys, xs = np.nonzero(dense["owner"][0 if things[k]["kind"] < 3 else 1] == k)
            if len(xs):
                pick = rng.integers(len(xs))
                cx, cy = (int(xs[pick]), int(ys[pick])) if rng.random() < 0.5 else (cx, cy)
        masks.append(small)
        cells.append((cx, cy))
        groups.append(0 if things[k]["kind"] < 3 else 1)
        boxes.append(things[k]["box"])
    depth = np.zeros((mh, mw), np.float32)
    if scene.depth and os.path.exists(scene.depth):
        with Image.open(scene.depth) as file:
            metres = np.asarray(file).astype(np.float32) / 1000.0
        if covered is not None:
            metres[covered] = 0.0  # unknown
        metres = Image.fromarray(metres)
        fit = max(scene.size[0] / width, scene.size[1] / height)
        depth = np.asarray(cut(metres, (mw, mh), Image.NEAREST, 0), np.float32) * (step / fit)
    return {
        "pixels": np.asarray(pixels), "heat": dense["heat"], "owner": dense["owner"], "strength": dense["strength"], "things": table, "noun": noun,
        "masks": np.array(masks, bool).reshape(-1, mh, mw), "mask_cell": np.array(cells, np.int64).reshape(-1, 2),
        "mask_group": np.array(groups, np.int64), "mask_box": np.array(boxes, np.float32).reshape(-1, 4), "depth": depth,
    }  # fmt: skip


def collate(items: list[dict]) -> dict[str, torch.Tensor]:
    """Items of `sample` -> tensors; masks of all images are concatenated, `mask_image` says whose they are."""
    out = {k: torch.from_numpy(np.stack([i[k] for i in items])) for k in ("pixels", "heat", "owner", "strength", "things", "noun", "depth")}
    out["pixels"] = out["pixels"].permute(0, 3, 1, 2).float()
    for k in ("masks", "mask_cell", "mask_group", "mask_box"):
        out[k] = torch.from_numpy(np.concatenate([i[k] for i in items]))
    out["mask_image"] = torch.from_numpy(np.concatenate([np.full(len(i["masks"]), n, np.int64) for n, i in enumerate(items)]))
    return out


class SceneSet(torch.utils.data.Dataset):
    """Items of a list of scenes; `epoch` changes the augmentation, (seed, epoch, index) decides it."""

    def __init__(self, scenes: list, nouns: dict[str, int], seed: int, train: bool = True):
        self.scenes, self.nouns, self.seed, self.train, self.epoch = scenes, nouns, seed, train, 0

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, key) -> dict:
        epoch, index = key if isinstance(key, tuple) else (self.epoch, key)
        return sample(self.scenes[index], np.random.default_rng((self.seed, epoch, index)), self.nouns, self.train, self.scenes)
