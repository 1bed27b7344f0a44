"""A quick model that really looks at the pixels (it finds blocks of plain colours), and pictures for it."""

import io

import numpy as np
import pytest
from PIL import Image

from egohoi import masks
from egohoi.models.base import Generation, Model
from egohoi.records import Entity, Response

COLORS = {"left hand": (0, 0, 255), "right hand": (255, 0, 0), "cup": (0, 255, 0), "knife": (255, 255, 0)}


class ColorModel(Model):
    """Blue is the left hand, red the right hand, green a cup, yellow a knife; a hand holds what its name is told to.

    A question with a colour's name finds that block; a box or a point gives the name of what is there.
    """

    name = "colors"

    @classmethod
    def from_pretrained(cls, folder, *, device=None, precision=None):
        return cls()

    def respond(self, pictures, queries, settings):
        return [self._one(picture, query, settings) for picture, query in zip(pictures, queries)]

    def _one(self, picture, query, settings: Generation):
        found = []
        for name, color in COLORS.items():
            mask = (np.abs(picture.pixels.astype(int) - color).max(axis=2) < 60)
            if mask.sum() < 20:
                continue
            rle = masks.encode(mask)
            hand = "hand" in name
            found.append((mask, Entity(name, "hand" if hand else "object", name.split()[0] if hand else None, masks.box(rle), 0.9,
                                       rle if query.mask is not False else None)))
        if query.point or query.box:
            if query.point:
                x1, y1 = (int(v) for v in query.point)
                x2, y2 = x1 + 1, y1 + 1
            else:
                x1, y1, x2, y2 = (int(v) for v in query.box)
            found = [f for f in found if f[0][y1:y2, x1:x2].mean() > 0.5]
            task, text = "identify", (found[0][1].name if found else "nothing known")
        elif query.task == "analyze":
            task, text = "analyze", "There is " + " and ".join(f[1].name for f in found) + "."
        else:
            found = [f for f in found if f[1].name in query.text.lower()]
            task, text = "refer", (f"The {found[0][1].name} is here." if found else "There is no such thing here.")
        if settings.max_new_tokens:
            text = " ".join(text.split()[: settings.max_new_tokens])
        entities = [f[1] for f in found]
        return Response(picture.name, picture.size, query.text, task, text, bool(entities), entities, model=self.name,
                        milliseconds={"image": 1.4, "text": 2.0, "mask": 0.0}, picture=picture.pixels)

    def stream(self, image, query, settings=None):
        *_, response = super().stream(image, query, settings)
        for k, word in enumerate(response.text.split(" ")):
            yield (" " if k else "") + word
        yield response


def blocks(size=(320, 240), **where) -> np.ndarray:
    """uint8 [H, W, 3], grey with one block for each name (underscores for spaces): name=(x1, y1, x2, y2)."""
    pixels = np.full((size[1], size[0], 3), 128, np.uint8)
    for name, (x1, y1, x2, y2) in where.items():
        pixels[y1:y2, x1:x2] = COLORS[name.replace("_", " ")]
    return pixels


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def color_model():
    return ColorModel()


@pytest.fixture
def make_blocks():
    return blocks


@pytest.fixture
def make_png():
    return png
