"""A box that the user gives: where nothing was proposed, what the dense maps say at that place becomes a proposal."""

from dataclasses import fields, replace

import torch
from torch import Tensor

from egohoi.boxes import iou_matrix
from egohoi.models.nano.detector import STRIDE, Detector, Maps
from egohoi.models.nano.propose import HANDS, OBJECTS, Proposals, read

#: A given box that overlaps a proposal so well (IoU) means that proposal.
SAME = 0.6


def known(proposals: Proposals, box: Tensor) -> bool:
    """Whether `box` ([4] xyxy canvas pixels) means one of the proposals."""
    return bool(len(proposals)) and float(iou_matrix(proposals.boxes.numpy(), box[None].numpy()).max()) > SAME


@torch.no_grad()
def at(model: Detector, maps: Maps, box: Tensor, width: int, height: int, image: int = 0) -> Proposals:
    """One proposal with the given `box` ([4] xyxy canvas pixels). width, height: canvas pixels with content.

    It is a hand or an object, whichever the heat maps find likelier in the middle of the box; its side, contact and name are read at
    the likeliest cell there.
    """
    heat = torch.sigmoid(maps.heat[image])
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 4
    low, high = ((middle - half) / STRIDE).floor().long().tolist(), ((middle + half) / STRIDE).floor().long().tolist()
    x1, x2 = (min(max(v, 0), heat.shape[2] - 1) for v in (low[0], high[0]))
    y1, y2 = (min(max(v, 0), heat.shape[1] - 1) for v in (low[1], high[1]))
    region = heat[:, y1 : y2 + 1, x1 : x2 + 1]
    kind = int(region[3:].max() > region[:3].max())
    best = int((region[3:] if kind else region[:3]).max(0).values.argmax())
    x, y = x1 + best % region.shape[2], y1 + best // region.shape[2]
    return read(model, maps, torch.tensor([kind]), torch.tensor([[x, y]]), box[None], torch.tensor([[0.0, 0.5]]), width, height, image)


def join(proposals: Proposals, one: Proposals) -> Proposals:
    """`proposals` and, last, `one`; in a full list it takes the place of the last."""
    keep = min(len(proposals), HANDS + OBJECTS - 1)
    joined = {f.name: torch.cat([getattr(proposals, f.name)[:keep], getattr(one, f.name)]) for f in fields(Proposals) if f.name not in ("width", "height")}
    return replace(proposals, **joined)
