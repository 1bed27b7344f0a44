"""From dense maps to a short list of proposals: the hands and objects that the language model reads, refers to and names."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from egohoi.boxes import iou_matrix
from egohoi.models.nano.detector import LOOK, MASK_STRIDE, MULTIPLE, SIDE, STRIDE, WIDTH, Detector, Maps, decode_boxes, mask_logits, peaks

#: Most hands and objects that are proposed, and the least probability of a peak.
HANDS, OBJECTS = 6, 14
LEAST_HAND, LEAST_OBJECT = 0.12, 0.12
#: Presence above which the box of the hand networks is believed.
SURE = 0.8
#: Length of the numbers that describe a proposal beside its feature vectors (see `Proposals.facts`).
FACTS = 29


@dataclass
class Canvas:
    """A picture as the network sees it. pixels: float32 [1, 3, H, W] in 0..255, sides multiples of 32, content top left;
    step: original pixels per canvas pixel; size: original (width, height)."""

    pixels: Tensor
    step: float
    size: tuple[int, int]


def canvas(pixels: np.ndarray) -> Canvas:
    """Resize uint8 [H, W, 3] so that its long side is 320 (antialiased) and pad right and below with grey."""
    height, width = pixels.shape[:2]
    step = max(width, height) / SIDE
    w, h = max(1, round(width / step)), max(1, round(height / step))
    small = np.asarray(Image.fromarray(pixels).resize((w, h), Image.BILINEAR, reducing_gap=2.0))
    out = np.full((-(-h // MULTIPLE) * MULTIPLE, -(-w // MULTIPLE) * MULTIPLE, 3), 114, np.uint8)
    out[:h, :w] = small
    return Canvas(torch.from_numpy(out).permute(2, 0, 1)[None].float(), step, (width, height))


@dataclass
class Proposals:
    """K proposals of one picture, hands first, each group by descending score. Boxes are xyxy canvas pixels.

    kind [K] 0 hand, 1 object; heat [K, 5] probabilities at the centre; boxes [K, 4]; contact [K] (hands), held [K, 3]
    (objects); link [K, 2] where a hand's object is; cells [K, 2]; feature [K, 96]; look [K, 128] appearance;
    nouns [K, N] probabilities; extra [K, 2]: presence and right-hand probability of the hand networks, 0 and 0.5 where
    they saw nothing.
    """

    kind: Tensor
    heat: Tensor
    boxes: Tensor
    contact: Tensor
    held: Tensor
    link: Tensor
    cells: Tensor
    feature: Tensor
    look: Tensor
    nouns: Tensor
    extra: Tensor
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.kind)

    def score(self) -> Tensor:
        """Confidence [K]: of being a hand, or an object (active or lying)."""
        hand = self.heat[:, :3].max(1).values
        thing = self.heat[:, 3:].max(1).values
        return torch.maximum(torch.where(self.kind == 0, hand, thing), self.extra[:, 0] * 0.95)

    def facts(self, query: Tensor | None = None) -> Tensor:
        """float32 [K, 29]: what the language model is told of each proposal in numbers.

        kind (2), heat (5), contact (1), held (3), box as centre, size, log size (8), affinity of the nearest left, right
        and other hand's link to this box's centre (3), hand networks (2), overlap with the `query` box [4] as IoU and as
        the part of the proposal and of the query that is covered (3), whether there is a query (1), distance of the centres (1).
        """
        w, h = float(self.width), float(self.height)
        b = self.boxes
        centre = (b[:, :2] + b[:, 2:]) / 2
        size = (b[:, 2:] - b[:, :2]).clamp(min=1.0)
        unit = b.new_tensor([w, h])
        place = torch.cat([centre / unit * 2 - 1, b[:, :2] / unit * 2 - 1, b[:, 2:] / unit * 2 - 1, torch.log(size / SIDE) / 3], 1)
        affinity = b.new_zeros(len(b), 3)
        scale = size.prod(1).sqrt().clamp(min=16)
        for k in torch.nonzero(self.kind == 0)[:, 0].tolist():
            side = int(self.heat[k, :3].argmax())
            distance = (self.link[k] - centre).norm(dim=1) / scale
            affinity[:, side] = torch.maximum(affinity[:, side], torch.exp(-2 * distance) * (self.kind == 1))
        over = b.new_zeros(len(b), 5)
        if query is not None:
            low, high = torch.maximum(b[:, :2], query[:2]), torch.minimum(b[:, 2:], query[2:])
            inter = (high - low).clamp(min=0).prod(1)
            own, other = size.prod(1), (query[2:] - query[:2]).clamp(min=1).prod()
            gap = (centre - (query[:2] + query[2:]) / 2).norm(dim=1) / SIDE
            over = torch.stack([inter / (own + other - inter), inter / own, inter / other, torch.ones_like(own), gap], 1)
        kind = torch.stack([self.kind == 0, self.kind == 1], 1).float()
        return torch.cat([kind, self.heat, self.contact[:, None], self.held, place, affinity, self.extra, over], 1)


def _suppress(boxes: Tensor, scores: Tensor, threshold: float) -> list[int]:
    order = torch.argsort(-scores, stable=True).tolist()
    overlap = iou_matrix(boxes.numpy(), boxes.numpy())
    kept: list[int] = []
    for k in order:
        if all(overlap[k, j] <= threshold for j in kept):
            kept.append(k)
    return kept


@torch.no_grad()
def propose(model: Detector, maps: Maps, width: int, height: int, hands=(), image: int = 0) -> Proposals:
    """Proposals of one image of a batch. width, height: canvas pixels with content.

    hands: [(xyxy canvas pixels, presence, right probability), ...] from the hand networks; they join the detector's own
    hands: one that overlaps is merged (the networks' box, which follows landmarks, wins when it is sure), others are added.
    """
    heat = torch.sigmoid(maps.heat[image])
    entries = []  # (group, cell, box, extra)
    for group, classes, limit, least in ((0, (0, 1, 2), HANDS, LEAST_HAND), (1, (3, 4), OBJECTS, LEAST_OBJECT)):
        top = heat[list(classes)].max(0).values
        score, cells = peaks(top, limit * 3)
        cells, score = cells[score >= least], score[score >= least]
        log_distance = (maps.hand_box if group == 0 else maps.object_box)[image][:, cells[:, 1], cells[:, 0]].T
        boxes = decode_boxes(log_distance, cells)
        boxes = torch.stack([boxes[:, 0].clamp(0, width), boxes[:, 1].clamp(0, height), boxes[:, 2].clamp(0, width), boxes[:, 3].clamp(0, height)], 1)
        valid = (boxes[:, 2] - boxes[:, 0] >= 3) & (boxes[:, 3] - boxes[:, 1] >= 3)
        boxes, cells, score = boxes[valid], cells[valid], score[valid]
        found = [(cells[k], boxes[k], (0.0, 0.5), float(score[k])) for k in _suppress(boxes, score, 0.5 if group == 0 else 0.6)[:limit]]
        if group == 0:
            found = _merge(found, hands, heat)[:limit]
        entries += [(group, *f[:3]) for f in found]
    count = len(entries)
    kind = torch.tensor([e[0] for e in entries], dtype=torch.long)
    cells = torch.stack([e[1] for e in entries]) if count else torch.zeros(0, 2, dtype=torch.long)
    boxes = torch.stack([e[2] for e in entries]) if count else torch.zeros(0, 4)
    extra = torch.tensor([e[3] for e in entries], dtype=torch.float32).reshape(-1, 2)
    found = read(model, maps, kind, cells, boxes, extra, width, height, image)
    return replace(found, boxes=_refined(maps, found, image))


def read(
    model: Detector, maps: Maps, kind: Tensor, cells: Tensor, boxes: Tensor, extra: Tensor, width: int, height: int, image: int = 0
) -> Proposals:  # fmt: skip
    """What the dense maps say at `cells` [K, 2] (x, y) and of `boxes` [K, 4], as Proposals (which see for kind and extra)."""
    y, x = cells[:, 1], cells[:, 0]
    look = model.appearance(maps, image, boxes) if len(boxes) else torch.zeros(0, LOOK)
    return Proposals(
        kind=kind, heat=torch.sigmoid(maps.heat[image][:, y, x].T), boxes=boxes, contact=torch.sigmoid(maps.contact[image, 0, y, x]),
        held=torch.sigmoid(maps.held[image][:, y, x].T), link=(maps.link[image][:, y, x].T * 8 + cells + 0.5) * STRIDE, cells=cells,
        feature=maps.feature[image][:, y, x].T if len(boxes) else torch.zeros(0, WIDTH), look=look,
        nouns=torch.softmax(model.name(look), 1), extra=extra, width=width, height=height,
    )  # fmt: skip


def _refined(maps: Maps, proposals: Proposals, image: int) -> Tensor:
    """Boxes [K, 4] in which those of objects are the mean of the box that was told and the extent of the mask: long and thin things are
    told less well than they are drawn."""
    boxes, things = proposals.boxes.clone(), torch.nonzero(proposals.kind == 1)[:, 0].tolist()
    for k, logits in zip(things, _logits(maps, proposals, things, image).numpy() if things else ()):
        x1, y1, x2, y2 = (v / MASK_STRIDE for v in _grown(proposals.boxes[k].tolist()))
        left, top, right, bottom = max(0, math.floor(x1)), max(0, math.floor(y1)), math.ceil(x2), math.ceil(y2)
        inside = np.zeros(logits.shape, bool)
        inside[top:bottom, left:right] = logits[top:bottom, left:right] > 0
        if inside.sum() >= 4:
            ys, xs = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
            extent = [xs[0], ys[0], min(xs[-1] + 1, proposals.width / MASK_STRIDE), min(ys[-1] + 1, proposals.height / MASK_STRIDE)]
            boxes[k] = (boxes[k] + torch.tensor(extent, dtype=boxes.dtype) * MASK_STRIDE) / 2
    return boxes


def _grown(box) -> tuple[float, float, float, float]:
    """A box, a tenth of its sides larger on every side (it may end beyond the picture): where its mask may lie."""
    x1, y1, x2, y2 = box
    gx, gy = 0.1 * (x2 - x1), 0.1 * (y2 - y1)
    return x1 - gx, y1 - gy, x2 + gx, y2 + gy


def _logits(maps: Maps, proposals: Proposals, chosen: list[int], image: int) -> Tensor:
    """Mask logits [len(chosen), H4, W4] of some proposals."""
    index = torch.tensor(chosen)
    both = torch.stack([maps.hand_filter[image], maps.object_filter[image]])
    cells, boxes = proposals.cells[index], proposals.boxes[index]
    filters = both[proposals.kind[index], :, cells[:, 1], cells[:, 0]]
    sizes = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    return mask_logits(maps.prototypes[image], filters, (cells.float() + 0.5) * STRIDE, sizes)


def _merge(found: list, hands, heat: Tensor) -> list:
    """Hands of the detector and of the hand networks as one list, best first."""
    out = list(found)
    for box, presence, right in hands:
        box = torch.tensor(box, dtype=torch.float32)
        overlaps = [float(iou_matrix(box[None].numpy(), f[1][None].numpy())[0, 0]) for f in out]
        best = int(np.argmax(overlaps)) if overlaps else -1
        cx = int(min(max((box[0] + box[2]) / 2 / STRIDE, 0), heat.shape[2] - 1))
        cy = int(min(max((box[1] + box[3]) / 2 / STRIDE, 0), heat.shape[1] - 1))
        if best >= 0 and overlaps[best] > 0.3:
            cell, own, _, score = out[best]
            joined = box if presence > SURE else own
            out[best] = (cell, joined, (presence, right), max(score, presence))
        else:
            out.append((torch.tensor([cx, cy]), box, (presence, right), presence * 0.9))
    return sorted(out, key=lambda f: -f[3])


def confirmed(proposals: Proposals, looks: dict[int, tuple[float, tuple[float, float, float, float]]]) -> Proposals:
    """`proposals` after the hand networks had a closer look at some hands: index -> (presence, xyxy canvas pixels of what they saw).

    Their word takes three tenths from the score of a hand where they see none, and adds a half where they are sure; then the box is the
    mean of both.
    """
    heat, boxes = proposals.heat.clone(), proposals.boxes.clone()
    for k, (presence, box) in looks.items():
        heat[k, :3] = (heat[k, :3] * (0.7 + 0.8 * presence)).clamp(max=0.99)
        if presence > SURE:
            boxes[k] = (boxes[k] + torch.tensor(box, dtype=boxes.dtype)) / 2
    return replace(proposals, heat=heat, boxes=boxes)


@torch.no_grad()
def masks(maps: Maps, proposals: Proposals, chosen: list[int], step: float, size: tuple[int, int], image: int = 0) -> list[np.ndarray]:
    """bool [H, W] masks at the original `size` (width, height) of the chosen proposals.

    The logits are enlarged bilinearly inside the box (grown by a tenth) only, so that large photos cost little.
    """
    if not chosen:
        return []
    boxes, logits = proposals.boxes[chosen], _logits(maps, proposals, chosen, image).numpy()
    width, height = size
    out = []
    for k in range(len(chosen)):
        x1, y1, x2, y2 = (v * step for v in _grown(boxes[k].tolist()))
        left, top, right, bottom = max(0, int(x1)), max(0, int(y1)), min(width, math.ceil(x2)), min(height, math.ceil(y2))
        full = np.zeros((height, width), bool)
        if right > left and bottom > top:
            cell = 4 * step  # original pixels per mask cell
            part = Image.fromarray(logits[k]).resize(
                (right - left, bottom - top), Image.BILINEAR,
                box=(left / cell, top / cell, min(right / cell, logits.shape[2]), min(bottom / cell, logits.shape[1])),
            )  # fmt: skip
            full[top:bottom, left:right] = np.asarray(part) > 0
        out.append(full)
    return out
