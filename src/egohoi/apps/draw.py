"""Drawing a response: boxes with names and scores, translucent masks, lines from hands to what they hold, a caption.

The picture keeps its scale: pixel (x, y) of the drawing is pixel (x, y) of the picture; a caption is added underneath.
Line widths and letters grow with the picture, so that a 120x90 thumbnail and a 4032x3024 photo read alike.
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from egohoi import boxes, masks
from egohoi.errors import BadImage
from egohoi.records import Entity, Response

Color = tuple[int, int, int]

#: Colours of hands by side; never used for objects, so that blue is always the left hand and red always the right.
HAND_COLORS: dict[str, Color] = {"left": (56, 152, 255), "right": (255, 84, 96), "other": (190, 190, 200)}
#: Colours of objects in order of appearance (repeated after the last).
OBJECT_COLORS: tuple[Color, ...] = (
    (255, 204, 0), (52, 211, 120), (200, 120, 255), (255, 146, 43), (45, 220, 220), (250, 130, 200), (170, 220, 60), (190, 140, 100),
)
#: Share of the entity's colour in a mask's pixels.
MASK_OPACITY = 0.42
#: The smallest letters, in pixels: below this the built-in font cannot be read.
MIN_LETTER = 10
MAX_CAPTION_LINES = 8
_STRIP = (20, 22, 27)
_INK = (245, 246, 248)
_MUTED = (160, 166, 178)


def colors(entities: Sequence[Entity]) -> list[Color]:
    """One RGB colour for each entity: fixed by side for hands, by order of appearance for objects."""
    found, objects = [], 0
    for entity in entities:
        if entity.kind == "hand":
            found.append(HAND_COLORS.get(entity.side or "other", HAND_COLORS["other"]))
        else:
            found.append(OBJECT_COLORS[objects % len(OBJECT_COLORS)])
            objects += 1
    return found


def overlay(response: Response, *, caption: bool = True, font: str | None = None) -> Image.Image:
    """The response's picture with everything that the response says drawn on it.

    caption: add a strip with question and answer under the picture. font: path of a TrueType font for scripts that the
    built-in one (Latin) lacks. Returns an RGB image of the picture's width and at least its height.
    Raises BadImage if the response kept no picture, BadMask if a mask has another size than the picture.
    """
    if response.picture is None:
        raise BadImage(f"{response.image or 'response'}: the pixels were not kept, so nothing can be drawn: ask the model again")
    image = paint(response.picture, response.entities, font=font)
    text = response.text.strip() or (response.analysis or "").strip()
    if not caption or not (text or response.query.strip()):
        return image
    strip = caption_strip(image.width, text, question=response.query, letter=letter_size(image.size), font=font)
    whole = Image.new("RGB", (image.width, image.height + strip.height), _STRIP)
    whole.paste(image, (0, 0))
    whole.paste(strip, (0, image.height))
    return whole


def paint(pixels: np.ndarray, entities: Sequence[Entity], *, font: str | None = None) -> Image.Image:
    """Entities drawn on a picture. pixels: uint8 [H, W, 3] RGB, left as it is; returns an RGB image of the same size."""
    canvas = np.array(pixels, dtype=np.uint8, copy=True)
    if canvas.ndim != 3 or canvas.shape[2] != 3:
        raise BadImage(f"a picture to draw on is uint8 [H, W, 3], got shape {list(canvas.shape)}")
    size = canvas.shape[1], canvas.shape[0]
    inks, width = colors(entities), line_width(size)
    for entity, ink in zip(entities, inks):
        if entity.mask is not None:
            masks.check(entity.mask, size, where=f"mask of '{entity.name}'")
            _tint(canvas, masks.decode(entity.mask), ink, width)

    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    visible = [boxes.clip(e.box, size) for e in entities]
    for box, ink in zip(visible, inks):
        _frame(draw, box, ink, width, size)
    for k, entity in enumerate(entities):
        for other in entity.holds or ():
            if 0 <= other < len(entities) and other != k:
                _link(draw, visible[k], visible[other], inks[k], width)
    letters = load_font(letter_size(size), font)
    taken: list[boxes.Box] = []
    # Large boxes first: a small box has fewer places for its label, and the later label may move aside.
    for k in sorted(range(len(entities)), key=lambda i: -boxes.area(visible[i])):
        _label(draw, visible[k], entities[k], inks[k], letters, width, size, taken)
    return image


def caption_strip(
    width: int, text: str, *, question: str = "", letter: int = MIN_LETTER, height: int | None = None, font: str | None = None
) -> Image.Image:
    """A dark strip of `width` pixels with the question (muted) and the text, wrapped at words.

    letter: letter height in pixels. height: exact height in pixels (what does not fit is cut with an ellipsis); None:
    as high as needed, at most MAX_CAPTION_LINES lines.
    """
    letters = load_font(letter, font)
    margin, step = max(4, letter // 2), math.ceil(letter * 1.35)
    room = MAX_CAPTION_LINES if height is None else max(1, (height - 2 * margin) // step)
    rows = [(line, _MUTED) for line in _wrap(question, letters, width - 2 * margin)[: max(1, room // 2)]] if question.strip() else []
    rows += [(line, _INK) for line in _wrap(text, letters, width - 2 * margin)]
    if len(rows) > room:
        rows = rows[:room]
        rows[-1] = (_shorten(rows[-1][0] + " …", letters, width - 2 * margin, force=True), rows[-1][1])
    strip = Image.new("RGB", (width, height if height is not None else 2 * margin + step * max(1, len(rows))), _STRIP)
    draw = ImageDraw.Draw(strip)
    for k, (line, ink) in enumerate(rows):
        draw.text((margin, margin + k * step), line, fill=ink, font=letters)
    return strip


def letter_size(size: tuple[int, int]) -> int:
    """Height of letters in pixels for a picture of `size` (width, height)."""
    return max(MIN_LETTER, round(min(size) * 0.026))


def line_width(size: tuple[int, int]) -> int:
    """Width of box lines in pixels for a picture of `size` (width, height)."""
    return max(1, round(min(size) * 0.0038))


def load_font(letter: int, path: str | None = None) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font of `letter` pixels: the TrueType file at `path`, or the one that Pillow carries. Raises BadImage."""
    if path is None:
        return ImageFont.load_default(letter)
    try:
        return ImageFont.truetype(path, letter)
    except OSError as error:
        raise BadImage(f"{path}: is not a font that can be read: name a .ttf or .otf file") from error


def _tint(canvas: np.ndarray, mask: np.ndarray, ink: Color, width: int) -> None:
    """Blend `ink` into the masked pixels of `canvas` in place, and outline them."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    inside, pixels = mask[part], canvas[part]
    color = np.array(ink, dtype=np.float32)
    pixels[inside] = (pixels[inside] * (1 - MASK_OPACITY) + color * MASK_OPACITY + 0.5).astype(np.uint8)
    core = np.pad(inside, 1)
    for _ in range(width):
        core[1:-1, 1:-1] &= core[:-2, 1:-1] & core[2:, 1:-1] & core[1:-1, :-2] & core[1:-1, 2:]
    pixels[inside & ~core[1:-1, 1:-1]] = ink


def _corners(box: boxes.Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """First and last pixel (inclusive) of a clipped box, at least one pixel wide and high."""
    left, top = min(int(box[0]), size[0] - 1), min(int(box[1]), size[1] - 1)
    return left, top, max(left, min(math.ceil(box[2]), size[0]) - 1), max(top, min(math.ceil(box[3]), size[1]) - 1)


def _frame(draw: ImageDraw.ImageDraw, box: boxes.Box, ink: Color, width: int, size: tuple[int, int]) -> None:
    left, top, right, bottom = _corners(box, size)
    # A thin dark line around the coloured one keeps it visible on a background of its own colour.
    if right - left > 4 * width and bottom - top > 4 * width:
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_STRIP)
        draw.rectangle((left + width, top + width, right - width, bottom - width), outline=_STRIP)
    draw.rectangle((left, top, right, bottom), outline=ink, width=width)


def _link(draw: ImageDraw.ImageDraw, hand: boxes.Box, held: boxes.Box, ink: Color, width: int) -> None:
    start = ((hand[0] + hand[2]) / 2, (hand[1] + hand[3]) / 2)
    end = ((held[0] + held[2]) / 2, (held[1] + held[3]) / 2)
    radius = 2 * width + 1
    draw.line((*start, *end), fill=_STRIP, width=width + 2)
    for x, y in (start, end):
        draw.ellipse((x - radius - 1, y - radius - 1, x + radius + 1, y + radius + 1), fill=_STRIP)
    draw.line((*start, *end), fill=ink, width=width)
    for x, y in (start, end):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)


def _label(draw, box, entity: Entity, ink: Color, letters, width: int, size: tuple[int, int], taken: list[boxes.Box]) -> None:
    """Write name and score at the box, at the first place that covers no other label and stays inside the picture."""
    pad = max(2, width)
    room = size[0] - 2 * pad
    name = " ".join(entity.name.split()) or entity.kind
    text = f"{name} {entity.score:.2f}"
    if letters.getlength(text) > room / 2:  # on a small picture the place is worth more than the score
        text = _shorten(name, letters, room)
    ascent, descent = letters.getmetrics() if hasattr(letters, "getmetrics") else (MIN_LETTER, 2)
    wide, high = math.ceil(letters.getlength(text)) + 2 * pad, ascent + descent + pad
    left, top, right, bottom = _corners(box, size)
    places = [
        (left, top - high), (right + 1 - wide, top - high), (left, bottom + 1), (right + 1 - wide, bottom + 1),
        (left, top), (right + 1 - wide, bottom + 1 - high), (left, bottom + 1 - high), (right + 1 - wide, top),
        (right + 1, top), (left - wide, top),
    ]
    # Below the first row of places: step down, so that a stack of equal boxes still gives readable labels.
    places += [(left, top + k * high) for k in range(1, max(2, min(12, size[1] // high)))]
    best, cost = None, math.inf
    for x, y in places:
        x, y = max(0, min(x, size[0] - wide)), max(0, min(y, size[1] - high))
        spot = (x, y, x + wide, y + high)
        covered = sum(boxes.area(_overlap(spot, other)) for other in taken)
        if covered < cost:
            best, cost = spot, covered
        if covered == 0:
            break
    taken.append(best)
    draw.rectangle((best[0], best[1], best[2] - 1, best[3] - 1), fill=ink)
    draw.text((best[0] + pad, best[1] + pad / 2), text, fill=_ink_on(ink), font=letters)


def _overlap(a, b) -> boxes.Box:
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def _ink_on(color: Color) -> Color:
    """Black or white, whichever is easier to read on `color` (luma of ITU-R BT.601)."""
    return (12, 12, 14) if 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 125 else (255, 255, 255)


def _shorten(text: str, letters, room: float, force: bool = False) -> str:
    """`text`, or its longest beginning that fits into `room` pixels with an ellipsis. force: the text ends in one already."""
    if letters.getlength(text) <= room:
        return text
    stem = text[:-1] if force else text
    while stem and letters.getlength(stem.rstrip() + "…") > room:
        stem = stem[:-1]
    return stem.rstrip() + "…"


def _wrap(text: str, letters, room: float) -> list[str]:
    """Lines of at most `room` pixels, broken between words, or inside a word that is longer than a line."""
    lines = []
    for paragraph in text.strip().splitlines():
        line = ""
        for word in paragraph.split():
            trial = f"{line} {word}" if line else word
            if letters.getlength(trial) <= room:
                line = trial
                continue
            if line:
                lines.append(line)
            while letters.getlength(word) > room and len(word) > 1:
                cut = next((k for k in range(len(word) - 1, 0, -1) if letters.getlength(word[:k]) <= room), 1)
                lines.append(word[:cut])
                word = word[cut:]
            line = word
        if line:
            lines.append(line)
    return lines
