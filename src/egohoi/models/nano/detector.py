"""The vision half of nano: encoder, neck, and dense heads that propose hands and objects with contact, links, masks and depth.

Centre heat maps with box distances (CenterNet, arXiv 1904.07850), masks by filters that each proposal brings along
(CondInst, arXiv 2003.05664). Everything is class "hand" (left, right, other) or "object" (active, lying).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from egohoi.models.nano.encoder import CHANNELS, Encoder, normalise

HEAT = ("left hand", "right hand", "other hand", "active object", "lying object")
#: Long side of the picture that the network sees, and what both sides are padded to a multiple of.
SIDE, MULTIPLE = 320, 32
#: Stride of the proposal maps and of the mask maps.
STRIDE, MASK_STRIDE = 8, 4
WIDTH = 96
PROTOTYPES = 8
#: Length of the appearance vector of a box.
LOOK = 128
_FILTERS = (PROTOTYPES + 2) * 8 + 8 + 8 * 8 + 8 + 8 + 1  # 10->8->8->1 with biases


@dataclass
class Maps:
    """Raw outputs for a batch. h, w: proposal grid (stride 8); H4, W4: mask grid (stride 4).

    heat [N, 5, h, w] logits; hand_box, object_box [N, 4, h, w] log distances left, top, right, bottom in strides;
    contact [N, 1, h, w] logit; link [N, 2, h, w] offset to the held object's centre in strides / 8;
    held [N, 3, h, w] logits: held by left, right, other; hand_filter, object_filter [N, 169, h, w];
    feature [N, 96, h, w]; prototypes [N, 8, H4, W4]; depth [N, 1, H4, W4] log metres; middle [N, 112, h / 2, w / 2];
    deep [N, 320, h / 4, w / 4].
    """

    heat: Tensor
    hand_box: Tensor
    object_box: Tensor
    contact: Tensor
    link: Tensor
    held: Tensor
    hand_filter: Tensor
    object_filter: Tensor
    feature: Tensor
    prototypes: Tensor
    depth: Tensor
    middle: Tensor
    deep: Tensor


def _conv(cin: int, cout: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(cin, cout, kernel, padding=kernel // 2), nn.GroupNorm(8, cout), nn.ReLU())


class Detector(nn.Module):
    """pixels [N, 3, H, W] (0..255, sides multiples of 32) -> Maps."""

    def __init__(self, nouns: int = 1, frozen_blocks: int = 3):
        """nouns: size of the naming head. frozen_blocks: the stem and this many encoder blocks get no gradient (their cost is
        the highest)."""
        super().__init__()
        self.frozen_blocks = frozen_blocks
        self.encoder = Encoder()
        self.reduce = nn.ModuleList([nn.Conv2d(c, WIDTH, 1) for c in CHANNELS[1:]])
        self.mix16 = _conv(WIDTH, WIDTH)
        self.neck = nn.Sequential(_conv(WIDTH, WIDTH), _conv(WIDTH, WIDTH))
        self.heat = nn.Sequential(_conv(WIDTH, 64), nn.Conv2d(64, len(HEAT), 1))
        self.boxes = nn.Sequential(_conv(WIDTH, 64), nn.Conv2d(64, 8, 1))
        self.relation = nn.Sequential(_conv(WIDTH, 64), nn.Conv2d(64, 6, 1))
        self.filters = nn.Sequential(_conv(WIDTH, WIDTH), nn.Conv2d(WIDTH, 2 * _FILTERS, 1))
        self.fine = nn.Conv2d(CHANNELS[0], 32, 1)
        self.coarse = nn.Conv2d(WIDTH, 32, 1)
        self.pixel = nn.Sequential(_conv(32, 32), _conv(32, 32), nn.Conv2d(32, PROTOTYPES + 1, 1))
        self.look = nn.Sequential(nn.Linear(WIDTH + CHANNELS[2] + CHANNELS[3], 256), nn.ReLU(), nn.Linear(256, LOOK), nn.ReLU())
        self.name = nn.Linear(LOOK, nouns)
        nn.init.constant_(self.heat[-1].bias, -4.0)
        nn.init.constant_(self.boxes[-1].bias, 0.7)
        nn.init.normal_(self.filters[-1].weight, std=0.01)

    def forward(self, pixels: Tensor) -> Maps:
        e = self.encoder
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.frozen_blocks == 0):
            x = e.stem(normalise(pixels))
            for block in e.blocks[: self.frozen_blocks]:
                x = block(x)
        maps = [x] if self.frozen_blocks == 3 else []
        for k, block in enumerate(e.blocks[self.frozen_blocks :], self.frozen_blocks):
            x = block(x)
            if k in e.taps:
                maps.append(x)
        c4, c8, c16, c32 = maps
        p16 = self.reduce[1](c16) + F.interpolate(self.reduce[2](c32), size=c16.shape[2:], mode="nearest")
        p16 = self.mix16(p16)
        feature = self.neck(self.reduce[0](c8) + F.interpolate(p16, size=c8.shape[2:], mode="bilinear", align_corners=False))
        fine = self.fine(c4) + F.interpolate(self.coarse(feature), size=c4.shape[2:], mode="bilinear", align_corners=False)
        pixel = self.pixel(F.relu(fine))
        box, relation, filters = self.boxes(feature), self.relation(feature), self.filters(feature)
        return Maps(
            heat=self.heat(feature), hand_box=box[:, :4], object_box=box[:, 4:], contact=relation[:, :1], link=relation[:, 1:3],
            held=relation[:, 3:], hand_filter=filters[:, :_FILTERS], object_filter=filters[:, _FILTERS:], feature=feature,
            prototypes=pixel[:, :PROTOTYPES], depth=pixel[:, PROTOTYPES:], middle=c16, deep=c32,
        )

    def appearance(self, maps: Maps, image: int, boxes: Tensor) -> Tensor:
        """Appearance vectors [K, 128] of boxes [K, 4] (xyxy pixels of the network's picture) of image `image` of the batch.

        `name` turns the vector into noun logits.
        """
        return self.look_at(tuple(m[image : image + 1] for m in (maps.feature, maps.middle, maps.deep)), boxes)

    def look_at(self, views: tuple[Tensor, Tensor, Tensor], boxes: Tensor) -> Tensor:
        """`appearance` on the feature, middle and deep maps [1, C, h, w] of one image: each is read at 4 x 4 points inside
        each box and averaged."""
        parts = []
        for one, stride in zip(views, (8, 16, 32), strict=True):
            extent = boxes.new_tensor([one.shape[3], one.shape[2]]) * stride
            steps = (torch.arange(4, device=boxes.device, dtype=boxes.dtype) + 0.5) / 4
            xs = boxes[:, 0, None] + (boxes[:, 2] - boxes[:, 0])[:, None] * steps
            ys = boxes[:, 1, None] + (boxes[:, 3] - boxes[:, 1])[:, None] * steps
            points = torch.stack([xs[:, None, :].expand(-1, 4, 4), ys[:, :, None].expand(-1, 4, 4)], -1) / extent * 2 - 1
            read = F.grid_sample(one, points.reshape(1, -1, 16, 2), mode="bilinear", padding_mode="border", align_corners=False)
            parts.append(read[0].mean(2).T)
        return self.look(torch.cat(parts, 1))


def merged(maps: Maps, mirror: Maps) -> Maps:
    """`maps` of a picture, improved by those of its mirror image: heat, boxes, contact, links and holders are averaged, left and
    right swapped; filters, prototypes and features stay those of the picture itself."""

    def back(x: Tensor) -> Tensor:
        return x.flip(-1)

    heat = (torch.sigmoid(maps.heat) + torch.sigmoid(back(mirror.heat)[:, [1, 0, 2, 3, 4]])) / 2
    sides = [2, 1, 0, 3]  # left, top, right, bottom
    turn = maps.link.new_tensor([-1.0, 1.0])[:, None, None]
    return replace(
        maps, heat=torch.logit(heat, eps=1e-6), hand_box=(maps.hand_box + back(mirror.hand_box)[:, sides]) / 2,
        object_box=(maps.object_box + back(mirror.object_box)[:, sides]) / 2, contact=(maps.contact + back(mirror.contact)) / 2,
        link=(maps.link + back(mirror.link) * turn) / 2, held=(maps.held + back(mirror.held)[:, [1, 0, 2]]) / 2,
    )  # fmt: skip


def look_twice(detector: Detector, pixels: Tensor) -> tuple[Maps, Maps]:
    """Merged maps of pictures [N, 3, H, W] and of their mirror images."""
    own, mirror = detector(pixels), detector(pixels.flip(-1))
    return merged(own, mirror), merged(mirror, own)


def mask_logits(prototypes: Tensor, filters: Tensor, centres: Tensor, sizes: Tensor) -> Tensor:
    """Masks of K proposals of one image.

    prototypes [8, H4, W4]; filters [K, 169]; centres [K, 2] x, y and sizes [K] (square root of the box area), both in
    pixels of the network's picture -> logits [K, H4, W4]. Coordinates relative to the centre, in units of the size,
    are two more channels, as in CondInst.
    """
    k, (height, width) = filters.shape[0], prototypes.shape[1:]
    ys = (torch.arange(height, device=prototypes.device, dtype=prototypes.dtype) + 0.5) * MASK_STRIDE
    xs = (torch.arange(width, device=prototypes.device, dtype=prototypes.dtype) + 0.5) * MASK_STRIDE
    scale = sizes.clamp(min=16.0)[:, None, None]
    dx = ((xs[None, None, :] - centres[:, 0, None, None]) / scale).expand(k, height, width)
    dy = ((ys[None, :, None] - centres[:, 1, None, None]) / scale).expand(k, height, width)
    x = torch.cat([prototypes[None].expand(k, -1, -1, -1), dx[:, None].clamp(-4, 4), dy[:, None].clamp(-4, 4)], 1).flatten(2)
    at = 0
    for cout, cin, last in ((8, PROTOTYPES + 2, False), (8, 8, False), (1, 8, True)):
        weight = filters[:, at : at + cout * cin].view(k, cout, cin)
        bias = filters[:, at + cout * cin : at + cout * cin + cout].view(k, cout, 1)
        at += cout * cin + cout
        x = torch.baddbmm(bias, weight, x)
        x = x if last else F.relu(x)
    return x.view(k, height, width)


def decode_boxes(log_distances: Tensor, cells: Tensor) -> Tensor:
    """log distances [K, 4] at grid cells [K, 2] (x, y) -> xyxy pixels of the network's picture [K, 4]."""
    distance = torch.exp(log_distances.clamp(-4, 5)) * STRIDE
    centre = (cells.to(distance.dtype) + 0.5) * STRIDE
    return torch.cat([centre - distance[:, :2], centre + distance[:, 2:]], 1)


def peaks(heat: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor]:
    """Local maxima (3 x 3) of one probability map [h, w]: scores [K], cells [K, 2] (x, y), best first, K <= top."""
    best = F.max_pool2d(heat[None, None], 3, 1, 1)[0, 0]
    flat = torch.where(heat == best, heat, torch.zeros_like(heat)).flatten()
    score, index = flat.topk(min(top, flat.numel()))
    keep = score > 0
    index = index[keep]
    return score[keep], torch.stack([index % heat.shape[1], index // heat.shape[1]], 1)
