"""Boxes in the answers of others: one tolerant parser a convention, each counting what it could not read.

    braces     `{<12><30><45><66>}`, 0-100 of width and height (MiniGPT-v2, VLM4HOI); spaces and missing brackets are forgiven
    thousand   `[x1, y1, x2, y2]`, 0-1000: as JSON (`bbox_2d`, `box_2d`, `bbox`), in `<box>..</box>` or `<|box_start|>..`, in round
               brackets, `(x1,y1),(x2,y2)` (Qwen-VL, Qwen3-VL, InternVL)
    absolute   the same notations in pixels of the picture that the model saw (Qwen2-VL, Qwen2.5-VL)
    loc        `<loc0123><loc..><loc..><loc..>`, y1 x1 y2 x2 of 1024 (PaliGemma)
"""

import math
import re
from dataclasses import dataclass

from egohoi import boxes
from egohoi.errors import BadConfig

CONVENTIONS = ("braces", "thousand", "absolute", "loc")
_N = r"\s*(-?\d+(?:\.\d+)?)\s*"
_BRACES = re.compile(rf"\{{?\s*<{_N}>\s*<{_N}>\s*<{_N}>\s*<{_N}>\s*\}}?")
_NEAR_BRACES = re.compile(r"\{[^{}]*\}|<\s*-?\d[^{}]*")
_SQUARE = re.compile(rf"[\[(]{_N},{_N},{_N},{_N}[\])]|[\[(]{_N},{_N}[\])]\s*,?\s*[\[(]{_N},{_N}[\])]")
_NEAR_SQUARE = re.compile(r"[\[(]\s*-?\d[^\[\]()]*[\])]?")
_LOC = re.compile(r"<loc(\d{1,4})>\s*<loc(\d{1,4})>\s*<loc(\d{1,4})>\s*<loc(\d{1,4})>")
_NEAR_LOC = re.compile(r"(?:<loc\d*>?\s*)+")
_PATTERNS = {
    "braces": (_BRACES, _NEAR_BRACES), "thousand": (_SQUARE, _NEAR_SQUARE), "absolute": (_SQUARE, _NEAR_SQUARE), "loc": (_LOC, _NEAR_LOC),
}  # fmt: skip


@dataclass(frozen=True)
class Parsed:
    """boxes: usable ones, xyxy pixels, cut to the picture. Counts of what was written but could not be used as it stood.

    unreadable: looks like a box and is none (three numbers, words). reversed: x1 >= x2 or y1 >= y2 (left out, not repaired).
    outside: reached over the picture's edge by more than one step of the grid (kept, cut; left out if nothing remains).
    """

    boxes: tuple[boxes.Box, ...]
    unreadable: int = 0
    reversed: int = 0
    outside: int = 0

    @property
    def faults(self) -> dict[str, int]:
        """Counts that are not 0, by name."""
        return {k: v for k in ("unreadable", "reversed", "outside") if (v := getattr(self, k))}


def read(text: str, convention: str, size: tuple[int, int], seen: tuple[int, int] | None = None) -> Parsed:
    """Boxes of an answer.

    size: (width, height) of the picture that the boxes are wanted in. seen: of the picture that the model saw, for `absolute`;
    default: `size`. Raises BadConfig for an unknown convention.
    """
    if convention not in _PATTERNS:
        raise BadConfig(f"box convention '{convention}' is unknown: write one of {', '.join(CONVENTIONS)}")
    exact, near = _PATTERNS[convention]
    found, spans = [], []
    for match in exact.finditer(text):
        found.append([float(v) for v in match.groups() if v is not None])
        spans.append(match.group())
    rest = exact.sub(" ", text)
    unreadable = sum(1 for m in near.finditer(rest) if _attempt(m.group(), convention))
    usable, flipped, outside = [], 0, 0
    for numbers in found:
        box = _pixels(numbers, convention, size, seen or size)
        if not all(math.isfinite(v) for v in box):
            unreadable += 1
        elif not (box[0] < box[2] and box[1] < box[3]):
            flipped += 1
        else:
            cut = boxes.clip(box, size)
            step = (size[0] / 100 + 1, size[1] / 100 + 1)
            outside += any(abs(a - b) > step[k % 2] for k, (a, b) in enumerate(zip(box, cut)))
            if boxes.area(cut) > 0:
                usable.append(cut)
    return Parsed(tuple(usable), unreadable, flipped, outside)


def _pixels(numbers, convention: str, size, seen) -> boxes.Box:
    if convention == "loc":
        y1, x1, y2, x2 = numbers
        return boxes.scale((x1, y1, x2, y2), size[0] / 1024, size[1] / 1024)
    grid = {"braces": (100.0, 100.0), "thousand": (1000.0, 1000.0), "absolute": (float(seen[0]), float(seen[1]))}[convention]
    return boxes.scale(numbers, size[0] / grid[0], size[1] / grid[1])


def _attempt(text: str, convention: str) -> bool:
    """Whether a leftover is a try at a box: at least two numbers, or a token of the convention."""
    return convention == "loc" or len(re.findall(r"\d+", text)) >= 2


def to_braces(found, size: tuple[int, int]) -> str:
    """Boxes in pixels of `size` as VLM4HOI writes them, with two decimals: the published script reads these."""
    return "<delim>".join(
        "{" + "".join(f"<{v:.2f}>" for v in boxes.scale(box, 100 / size[0], 100 / size[1])) + "}" for box in found
    )
