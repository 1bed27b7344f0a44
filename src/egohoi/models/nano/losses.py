"""Targets and losses of nano's detector."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from egohoi.models.nano.detector import HEAT, STRIDE, Detector, Maps, decode_boxes, mask_logits

#: Weight of each term; every term is logged under its name.
WEIGHTS = {"heat": 1.0, "box": 1.0, "contact": 0.3, "link": 0.3, "held": 0.3, "mask": 1.0, "depth": 0.1, "name": 0.5}


def gaussian(height: int, width: int, box: np.ndarray) -> np.ndarray:
    """Heat of one box (xyxy pixels) on the stride-8 grid: float32 [height, width], 1 at its centre's cell.

    An elliptic Gaussian with a standard deviation of a ninth of the box's sides (TTFNet, arXiv 1909.00700, with a smaller spread).
    """
    cx, cy = (box[0] + box[2]) / 2 / STRIDE, (box[1] + box[3]) / 2 / STRIDE
    ix, iy = min(max(int(cx), 0), width - 1), min(max(int(cy), 0), height - 1)
    sx, sy = max((box[2] - box[0]) / STRIDE / 9, 0.5), max((box[3] - box[1]) / STRIDE / 9, 0.5)
    xs, ys = np.arange(width, dtype=np.float32) - ix, np.arange(height, dtype=np.float32) - iy
    return np.exp(-(xs[None] ** 2) / (2 * sx * sx) - (ys[:, None] ** 2) / (2 * sy * sy)).astype(np.float32)


def targets(height: int, width: int, things: list[dict]) -> dict[str, np.ndarray]:
    """Dense targets of one image on the grid [height, width].

    things: {"kind": 0..4 (index into HEAT), "box": xyxy pixels, "contact": 0 | 1 | None, "link": (x, y) | None,
    "held": (l, r, o)}. Returns heat [5, h, w], and for each of hand and object: owner [h, w] (index into things, -1: none).
    """
    heat = np.zeros((len(HEAT), height, width), np.float32)
    owner = np.full((2, height, width), -1, np.int64)
    strength = np.zeros((2, height, width), np.float32)
    # Large boxes first, so that a small one in front keeps its cells.
    order = sorted(range(len(things)), key=lambda k: -_area(things[k]["box"]))
    for k in order:
        thing = things[k]
        g = gaussian(height, width, thing["box"])
        heat[thing["kind"]] = np.maximum(heat[thing["kind"]], g)
        group = 0 if thing["kind"] < 3 else 1
        mine = (g > 0.4) & (g >= strength[group] * 0.8)
        owner[group][mine] = k
        strength[group][mine] = g[mine]
    return {"heat": heat, "owner": owner, "strength": strength}


def _area(box) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def focal(logit: Tensor, target: Tensor) -> Tensor:
    """CenterNet's penalty-reduced focal loss, summed and divided by the number of centres."""
    p = torch.sigmoid(logit).clamp(1e-5, 1 - 1e-5)
    centre = (target > 0.999).float()
    positive = torch.log(p) * (1 - p) ** 2 * centre
    negative = torch.log(1 - p) * p**2 * (1 - target) ** 4 * (1 - centre)
    return -(positive + negative).sum() / centre.sum().clamp(min=1.0)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU of paired xyxy boxes [K, 4] -> [K]."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    inter = (high - low).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(1) + (b[:, 2:] - b[:, :2]).clamp(min=0).prod(1) - inter
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    return inter / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)


def losses(model: Detector, maps: Maps, batch: dict) -> dict[str, Tensor]:
    """Named terms for a batch of `data.collate`: see WEIGHTS."""
    out = {"heat": focal(maps.heat, batch["heat"])}
    total_box, contact, link, held, weight_sum = 0.0, [], [], [], 0.0
    for group, box_map in ((0, maps.hand_box), (1, maps.object_box)):
        n, ys, xs = torch.nonzero(batch["owner"][:, group] >= 0, as_tuple=True)
        if not len(n):
            continue
        owner = batch["owner"][n, group, ys, xs]
        weight = batch["strength"][n, group, ys, xs]
        truth = batch["things"][n, owner]  # [K, 11]: box, contact, link x, y, held l, r, o, kind
        cells = torch.stack([xs, ys], 1)
        predicted = decode_boxes(box_map[n, :, ys, xs], cells)
        total_box = total_box + ((1 - giou(predicted, truth[:, :4])) * weight).sum()
        weight_sum = weight_sum + weight.sum()
        if group == 0:
            known = truth[:, 4] >= 0
            contact.append(F.binary_cross_entropy_with_logits(maps.contact[n, 0, ys, xs][known], truth[known, 4], reduction="none") * weight[known])
            has = truth[:, 5] >= -1e3
            wanted = (truth[has, 5:7] / STRIDE - cells[has].float() - 0.5) / 8
            link.append((F.smooth_l1_loss(maps.link[n, :, ys, xs][has], wanted, reduction="none", beta=0.1).sum(1)) * weight[has])
        else:
            held.append((F.binary_cross_entropy_with_logits(maps.held[n, :, ys, xs], truth[:, 7:10], reduction="none").sum(1)) * weight)
    zero = maps.heat.sum() * 0
    out["box"] = total_box / weight_sum if torch.is_tensor(total_box) else zero
    for name, parts in (("contact", contact), ("link", link), ("held", held)):
        values = torch.cat(parts) if parts else None
        out[name] = values.mean() if values is not None and len(values) else zero
    out["mask"] = mask_loss(maps, batch)
    out["name"] = name_loss(model, maps, batch)
    known = batch["depth"] > 0
    if known.any():
        delta = (maps.depth[:, 0] - torch.log(batch["depth"].clamp(min=1e-3)))[known]
        out["depth"] = delta.abs().mean()
    else:
        out["depth"] = zero
    return out


def name_loss(model: Detector, maps: Maps, batch: dict) -> Tensor:
    """Cross entropy of the nouns of all labelled objects, read at boxes that are jittered by up to a tenth of their sides."""
    logits, wanted = [], []
    # `split`, not an index per image: the gradient of an index is a whole zero map per image.
    views = list(zip(maps.feature.split(1), maps.middle.split(1), maps.deep.split(1), strict=True))
    for i in range(maps.heat.shape[0]):
        here = batch["noun"][i] >= 0
        if not here.any():
            continue
        boxes = batch["things"][i][here, :4]
        size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        boxes = boxes + (torch.rand_like(boxes) - 0.5) * 0.2 * size
        logits.append(model.name(model.look_at(views[i], boxes)))
        wanted.append(batch["noun"][i][here])
    if not logits:
        return maps.heat.sum() * 0
    return F.cross_entropy(torch.cat(logits), torch.cat(wanted), label_smoothing=0.05)


def mask_loss(maps: Maps, batch: dict) -> Tensor:
    """Dice + cross entropy of the sampled instances; their filters are read at a jittered cell near the centre."""
    image, cells, group, boxes = batch["mask_image"], batch["mask_cell"], batch["mask_group"], batch["mask_box"]
    if not len(image):
        return maps.heat.sum() * 0
    # One read of the filters for the whole batch, and `unbind` of the prototypes: the gradient of an index per image would be
    # a whole zero map per image, a fifth of the time of a step.
    hand, thing = (m[image, :, cells[:, 1], cells[:, 0]] for m in (maps.hand_filter, maps.object_filter))
    filters = torch.where((group == 0)[:, None], hand, thing)
    centres = (cells.float() + 0.5) * STRIDE
    sizes = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    logits = []
    for i, prototypes in enumerate(maps.prototypes.unbind(0)):
        here = torch.nonzero(image == i)[:, 0]
        if len(here):
            logits.append(mask_logits(prototypes, filters[here], centres[here], sizes[here]))
    # Masks of a batch are in the order of its images.
    logits, truth = torch.cat(logits), batch["masks"].float()
    p = torch.sigmoid(logits)
    dice = 1 - (2 * (p * truth).sum((1, 2)) + 1) / ((p * p).sum((1, 2)) + (truth * truth).sum((1, 2)) + 1)
    bce = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    wide = F.max_pool2d(truth[:, None], (17, 1), 1, (8, 0))
    near = (F.max_pool2d(wide, (1, 17), 1, (0, 8))[:, 0] > 0).float()
    return (dice + (bce * near).sum((1, 2)) / near.sum((1, 2)).clamp(min=1.0) + 0.2 * bce.mean((1, 2))).mean()


def centre_cell(box, height: int, width: int) -> tuple[int, int]:
    """Grid cell (x, y) of a box's centre, inside the grid."""
    x, y = (box[0] + box[2]) / 2 / STRIDE, (box[1] + box[3]) / 2 / STRIDE
    return min(max(math.floor(x), 0), width - 1), min(max(math.floor(y), 0), height - 1)
