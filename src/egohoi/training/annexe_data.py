"""Ego-IRG items for training ANNEXE: augmentation that keeps boxes, masks, depth and left/right true, sequences, batches.

One item holds one picture with one query. Everything that is drawn at random comes from the generator that is handed in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

from egohoi import images
from egohoi.errors import BadConfig
from egohoi.models import annexe_text
from egohoi.models.annexe_processor import AnnexeProcessor
from egohoi.models.vlm4hoi_module import IGNORE
from egohoi.questions import irg
from egohoi.scenes import irgbench
from egohoi.scenes.irgbench import Item


@dataclass(frozen=True)
class Augment:
    """flip: chance of a mirrored picture (left and right then change places in all words). crop: largest part of each side
    that may be cut off, never a labelled thing. colour: largest relative change of brightness, contrast and each channel."""

    flip: float = 0.5
    crop: float = 0.1
    colour: float = 0.2

    def __post_init__(self):
        if not (0 <= self.flip <= 1 and 0 <= self.crop < 0.5 and 0 <= self.colour < 1):
            raise BadConfig(f"augment: flip in 0..1, crop in 0..0.5, colour in 0..1, got {self}")


@dataclass(frozen=True)
class Sample:
    """One picture with one query. pixels: uint8 [H, W, 3]; masks: bool [H, W] by target; depth: float32 [H, W] in the
    file's unit, 0 where nothing was measured, or None; others: bool [H, W], pixels of every labelled thing."""

    pixels: np.ndarray
    masks: tuple[np.ndarray, ...]
    others: np.ndarray
    depth: np.ndarray | None
    names: tuple[str, ...]
    query: str
    caption: str
    answer: str


class Items(Sequence):
    """The items of one kind of one split, read again at each access: memory holds names only."""

    def __init__(self, folder: str, split: str, places: list[tuple[str, int]], depth: bool):
        self.folder, self.split, self.places, self.depth = folder, split, places, depth

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Item:
        frame, entry = self.places[index]
        return irgbench.read_frame(self.folder, self.split, frame, depth=self.depth)[entry]


def load(item: Item, query: str, style: str, depth: bool) -> Sample:
    """Open the files of an item. depth: whether its depth image is wanted. Raises BadData, BadImage."""
    index = irgbench.index_image(item)
    masks = tuple(irgbench.target_masks(item, index))
    plane = irgbench.depth_image(item) if depth and item.depth is not None else None
    return Sample(
        images.load(item.image).pixels, masks, index != 0, plane, item.names, query, item.caption, irg.answer_text(item, style)
    )


def flipped(sample: Sample) -> Sample:
    """The sample seen in a mirror: pixels, masks and depth turned, left and right exchanged in every text."""
    return Sample(
        np.ascontiguousarray(sample.pixels[:, ::-1]), tuple(np.ascontiguousarray(m[:, ::-1]) for m in sample.masks),
        np.ascontiguousarray(sample.others[:, ::-1]), None if sample.depth is None else np.ascontiguousarray(sample.depth[:, ::-1]),
        tuple(map(annexe_text.mirror, sample.names)), annexe_text.mirror(sample.query), annexe_text.mirror(sample.caption),
        annexe_text.mirror(sample.answer),
    )


def cropped(sample: Sample, left: float, top: float, right: float, bottom: float) -> Sample:
    """The sample without those parts (0..1 of width and height) of its sides, as far as no labelled thing is cut.

    The analysis names things and the answer says what is absent: cutting a thing off would make them wrong.
    """
    height, width = sample.others.shape
    x1, y1, x2, y2 = int(left * width), int(top * height), width - int(right * width), height - int(bottom * height)
    if sample.others.any():
        rows, columns = np.flatnonzero(sample.others.any(1)), np.flatnonzero(sample.others.any(0))
        x1, y1 = min(x1, int(columns[0])), min(y1, int(rows[0]))
        x2, y2 = max(x2, int(columns[-1]) + 1), max(y2, int(rows[-1]) + 1)
    window = (slice(y1, y2), slice(x1, x2))
    return replace(
        sample, pixels=sample.pixels[window], masks=tuple(m[window] for m in sample.masks), others=sample.others[window],
        depth=None if sample.depth is None else sample.depth[window],
    )


def coloured(sample: Sample, gain: Sequence[float], contrast: float) -> Sample:
    """The sample with each channel multiplied by its gain and the contrast changed around the mean."""
    mean = float(sample.pixels.mean())
    levels = (np.arange(256, dtype=np.float32) - mean) * contrast + mean
    # one table of 256 levels a channel: what happens to a pixel depends on its level alone
    table = np.clip(levels * np.asarray(gain, np.float32)[:, None], 0, 255).astype(np.uint8)
    return replace(sample, pixels=np.asarray(Image.fromarray(sample.pixels).point(table.ravel().tolist())))


def augmented(sample: Sample, settings: Augment, rng) -> Sample:
    """One random variant. rng: numpy Generator; the same draws are made whatever the settings are."""
    flip, sides, shades = rng.random(), rng.random(4), rng.random(5)
    if flip < settings.flip:
        sample = flipped(sample)
    if settings.crop > 0:
        sample = cropped(sample, *(sides * settings.crop))
    if settings.colour > 0:
        light = 1 + settings.colour * (2 * shades[0] - 1)
        gain = light * (1 + 0.5 * settings.colour * (2 * shades[1:4] - 1))
        sample = coloured(sample, gain, 1 + settings.colour * (2 * shades[4] - 1))
    return sample


def prepared(sample: Sample, processor: AnnexeProcessor) -> dict:
    """Tensors and sequences of one sample, for `collate`.

    Masks become the covered part of each cell of the decoder's grid; depth is brought to 0..1 of the picture's own span.
    """
    config = processor.config
    side = config.mask_side
    made: dict = dict(processor.pixels(sample.pixels))
    made["masks"] = torch.stack([cells(m, side) for m in sample.masks]) if sample.masks else torch.zeros(0, side, side)
    made["depth"], made["depth_valid"] = depth_cells(sample.depth if config.depth else None, side)
    made["sequences"], made["has_target"] = worded(sample.query, sample.caption, sample.answer, sample.names, processor)
    return made


def worded(query: str, caption: str, answer: str, names: Sequence[str], processor: AnnexeProcessor) -> tuple[list, float]:
    """The words of one item -> ([(sequence, what its answers are)], 1.0 with a target or 0.0 without)."""
    config = processor.config
    if config.answer_style == "published" and names:
        answer = annexe_text.tag(answer, names)
    elif names:
        answer = annexe_text.join(names)
    asked = annexe_text.QUERY_PROMPT.format(query=query)
    described = (annexe_text.ANALYSIS_PROMPT, caption)
    if config.analysis == "context":
        sequences = [(processor.sequence([described, (asked, answer)]), ("analysis", "answer"))]
    else:
        sequences = [(processor.sequence([described]), ("analysis",)), (processor.sequence([(asked, answer)]), ("answer",))]
    return sequences, float(bool(names))


def cells(mask: np.ndarray, side: int) -> torch.Tensor:
    """The covered part of each cell of a grid: bool or float [H, W] -> float32 [side, side] in 0..1."""
    image = Image.fromarray(mask.astype(np.float32))
    return torch.from_numpy(np.asarray(image.resize((side, side), Image.Resampling.BOX), dtype=np.float32).copy()).clamp(0, 1)


def depth_cells(depth: np.ndarray | None, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(depth in 0..1, measured part of each cell), both [side, side]; nothing measured gives zeros."""
    empty = torch.zeros(side, side)
    if depth is None or not (depth > 0).any():
        return empty, empty
    valid = (depth > 0).astype(np.float32)
    low, high = float(depth[depth > 0].min()), float(depth.max())
    scaled = (depth - low) / max(high - low, 1e-6) * valid
    share = cells(valid, side)
    return (cells(scaled, side) / share.clamp(min=1e-6)) * (share > 0), share


def collate(items: list[dict], processor: AnnexeProcessor) -> dict:
    """What `prepared` gave, as the batch that `AnnexeModule.forward` takes."""
    sequences = [(k, turns, kinds) for k, item in enumerate(items) for turns, kinds in item["sequences"]]
    ids, mask = processor.pad_batch([turns.ids for _, turns, _ in sequences], "right")
    labels = {name: torch.full(ids.shape, IGNORE) for name in ("analysis", "answer")}
    prompt_ends, answer_rows = torch.zeros(len(sequences), dtype=torch.long), []
    rows, places, order = [], [], []
    for row, (_, turns, kinds) in enumerate(sequences):
        for (start, stop), kind in zip(turns.spans, kinds):
            labels[kind][row, start:stop] = ids[row, start:stop]
            if kind == "answer":
                answer_rows.append(row)
                prompt_ends[row] = start - 1
                for place in range(start, stop):
                    if turns.ids[place] >= processor.first:
                        rows.append(row)
                        places.append(place)
                        order.append(turns.ids[place] - processor.first)
    batch = {
        "input_ids": ids, "attention_mask": mask, "picture": torch.tensor([k for k, _, _ in sequences]),
        "analysis_labels": labels["analysis"], "answer_labels": labels["answer"], "prompt_ends": prompt_ends,
        "answer_rows": torch.tensor(answer_rows), "has_target": torch.tensor([item["has_target"] for item in items]),
        "mask_rows": torch.tensor(rows, dtype=torch.long), "mask_places": torch.tensor(places, dtype=torch.long),
        "mask_order": torch.tensor(order, dtype=torch.long), "masks": torch.cat([item["masks"] for item in items]),
    }
    for key in ("pixel_values", "patches", "depth_pixels", "depth", "depth_valid"):
        if key in items[0]:
            batch[key] = torch.stack([item[key] for item in items])
    return batch


def counts(batch: dict) -> dict[str, float]:
    """Over how many terms each loss of a batch is a mean."""
    return {
        "analysis": float((batch["analysis_labels"][:, 1:] != IGNORE).sum()),
        "answer": float((batch["answer_labels"][:, 1:] != IGNORE).sum()),
        "target": float(len(batch["has_target"])), "depth": float((batch["depth_valid"].flatten(1).sum(1) > 0).sum()),
        "mask": float(len(batch["mask_rows"])),
    }
