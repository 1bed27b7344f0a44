"""Pixel boxes, intersection over union, and one codec per text convention for boxes.

A box is `(x1, y1, x2, y2)` in pixels of the original image, x to the right, y down, floats, x2 and y2 exclusive
(a box that covers the whole picture of width w and height h is `(0, 0, w, h)`).
"""

import math
import re
import reprlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from egohoi.errors import BadBox

if TYPE_CHECKING:
    import numpy as np

Box = tuple[float, float, float, float]


def check(box, size: tuple[int, int] | None = None, where: str = "box") -> Box:
    """Return `box` as a tuple of four finite floats with x1 < x2 and y1 < y2.

    box: xyxy pixels; size: (width, height) that the box must touch, or None; where: name for the message.
    Raises BadBox.
    """
    try:
        if isinstance(box, (str, bytes)):  # "1234" would be taken apart into four numbers
            raise TypeError("a text")
        x1, y1, x2, y2 = values = tuple(map(float, box))
    except (TypeError, ValueError, OverflowError) as error:
        raise BadBox(f"{where}: expected four numbers x1 y1 x2 y2, got {reprlib.repr(box)}") from error
    # Not a number compares false with everything, so that one chain checks order and finiteness.
    if not (-math.inf < x1 < x2 < math.inf and -math.inf < y1 < y2 < math.inf):
        if not all(math.isfinite(v) for v in values):
            raise BadBox(f"{where}: expected four finite numbers x1 y1 x2 y2, got {reprlib.repr(box)}")
        raise BadBox(f"{where}: needs x1 < x2 and y1 < y2, got {list(values)}")
    if size is not None and (x2 <= 0 or y2 <= 0 or x1 >= size[0] or y1 >= size[1]):
        raise BadBox(f"{where}: {list(values)} lies outside the picture of {size[0]}x{size[1]} pixels")
    return values


def clip(box, size: tuple[int, int]) -> Box:
    """The part of `box` (xyxy pixels) inside a picture of `size` (width, height); may be empty."""
    width, height = size
    return (
        min(max(float(box[0]), 0.0), float(width)),
        min(max(float(box[1]), 0.0), float(height)),
        min(max(float(box[2]), 0.0), float(width)),
        min(max(float(box[3]), 0.0), float(height)),
    )


def area(box) -> float:
    """Area of an xyxy box in square pixels, 0 if it is empty or reversed."""
    return max(0.0, float(box[2]) - float(box[0])) * max(0.0, float(box[3]) - float(box[1]))


def iou(a, b) -> float:
    """Intersection over union of two xyxy boxes; 0 when both are empty."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inter = float(width) * float(height)
    return inter / (area(a) + area(b) - inter)


def iou_matrix(a, b) -> "np.ndarray":
    """Pairwise intersection over union: a [N, 4] and b [M, 4] xyxy -> float64 [N, M]."""
    import numpy as np  # here, because commands that only read box texts start in half the time without it

    a = np.asarray(a, dtype=np.float64).reshape(-1, 4)
    b = np.asarray(b, dtype=np.float64).reshape(-1, 4)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = np.clip(high - low, 0, None).prod(axis=2)
    size_a = np.clip(a[:, 2:] - a[:, :2], 0, None).prod(axis=1)
    size_b = np.clip(b[:, 2:] - b[:, :2], 0, None).prod(axis=1)
    union = size_a[:, None] + size_b[None, :] - inter
    return np.where(union > 0, inter / np.where(union > 0, union, 1.0), 0.0)


def scale(box, factor_x: float, factor_y: float) -> Box:
    """The xyxy box with x multiplied by `factor_x` and y by `factor_y`."""
    return (box[0] * factor_x, box[1] * factor_y, box[2] * factor_x, box[3] * factor_y)


@dataclass(frozen=True)
class Codec:
    """One text convention for boxes: how a pixel box is written, and how boxes are found in a text.

    grid: number of steps that the full width and height are divided in; None: pixels as they are.
    template: `str.format` text with x1 y1 x2 y2. pattern: regular expression with four groups in reading order.
    order: how the four groups map to x1 y1 x2 y2 (indices into the groups). top: the largest integer written.
    """

    name: str
    grid: float | None
    template: str
    pattern: str
    order: tuple[int, int, int, int] = (0, 1, 2, 3)
    top: int | None = None
    rounding: str = "floor"

    def encode(self, box, size: tuple[int, int]) -> str:
        """Text of the xyxy pixel `box` in a picture of `size` (width, height).

        Integers are floored (reference behaviour of HOI-Ref) or rounded, and kept inside the picture.
        """
        factors = (1.0, 1.0) if self.grid is None else (self.grid / size[0], self.grid / size[1])
        snap = math.floor if self.rounding == "floor" else round
        limits = [self.top if self.top is not None else (self.grid if self.grid is not None else side) for side in size]
        numbers = [min(max(snap(v), 0), int(limits[k % 2])) for k, v in enumerate(scale(box, *factors))]
        return self.template.format(**dict(zip(("x1", "y1", "x2", "y2"), numbers)))

    def decode(self, text: str, size: tuple[int, int]) -> list[Box]:
        """All boxes in `text`, xyxy pixels of a picture of `size` (width, height), in order of appearance.

        Nothing is repaired: reversed or outside boxes come back as written.
        """
        factors = (1.0, 1.0) if self.grid is None else (size[0] / self.grid, size[1] / self.grid)
        found = []
        for match in re.finditer(self.pattern, text):
            groups = [float(g) for g in match.groups()]
            found.append(scale([groups[k] for k in self.order], *factors))
        return found

    def strip(self, text: str) -> str:
        """`text` without its boxes."""
        return re.sub(r"\s+", " ", re.sub(self.pattern, " ", text)).strip()


_NUM = r"(-?\d+(?:\.\d+)?)"

#: `{<x1><y1><x2><y2>}`, 0-100 (MiniGPT-v2, HOI-Ref, VLM4HOI).
BRACES = Codec("braces", 100.0, "{{<{x1}><{y1}><{x2}><{y2}>}}", rf"\{{<{_NUM}><{_NUM}><{_NUM}><{_NUM}>\}}", top=100)
#: `[x1, y1, x2, y2]`, 0-1000 (Qwen-VL family, InternVL and others).
THOUSAND = Codec(
    "thousand", 1000.0, "[{x1}, {y1}, {x2}, {y2}]", rf"[\[(]\s*{_NUM}\s*,\s*{_NUM}\s*,\s*{_NUM}\s*,\s*{_NUM}\s*[\])]", top=1000,
    rounding="round",
)
#: `[x1, y1, x2, y2]` in pixels of the picture that the model saw.
ABSOLUTE = Codec(
    "absolute", None, "[{x1}, {y1}, {x2}, {y2}]", rf"[\[(]\s*{_NUM}\s*,\s*{_NUM}\s*,\s*{_NUM}\s*,\s*{_NUM}\s*[\])]",
    rounding="round",
)
#: `<locY1><locX1><locY2><locX2>`, 0-1023 (PaliGemma).
LOC = Codec(
    "loc", 1024.0, "<loc{y1:04d}><loc{x1:04d}><loc{y2:04d}><loc{x2:04d}>", r"<loc(\d{4})><loc(\d{4})><loc(\d{4})><loc(\d{4})>",
    order=(1, 0, 3, 2), top=1023,
)

CODECS = {codec.name: codec for codec in (BRACES, THOUSAND, ABSOLUTE, LOC)}
