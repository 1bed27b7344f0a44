"""A data set of three small scenes, and a model that knows their labels and errs on request."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from egohoi import boxes, masks
from egohoi.evaluation.scenes_run import plan
from egohoi.models import Model
from egohoi.records import Entity, Response
from egohoi.scenes import jsonl


def square(size, box):
    mask = np.zeros((size[1], size[0]), dtype=np.uint8)
    x1, y1, x2, y2 = (int(v) for v in box)
    mask[y1:y2, x1:x2] = 1
    return masks.encode(mask)


class Oracle(Model):
    """Answers from the labels. shift: pixels that every box and mask is moved by. blind: says that nothing is there."""

    name = "oracle"

    def __init__(self, scenes, shift=0, blind=False, credulous=False):
        self.scenes = {s.image: s for s in scenes}
        self.shift, self.blind, self.credulous, self.asked = shift, blind, credulous, 0

    @classmethod
    def from_pretrained(cls, folder, *, device=None, precision=None):
        raise NotImplementedError

    def _entity(self, item, name, kind, side, holds=None):
        box = tuple(v + self.shift for v in item.box)
        return Entity(name, kind, side, box, 0.9, item.mask if not self.shift else None, holds)

    def _all(self, scene):
        first = len(scene.hands)
        hands = [
            self._entity(h, f"{h.side} hand", "hand", None if h.side == "other" else h.side,
                         tuple(first + k for k, o in enumerate(scene.objects) if h.side in o.hands))
            for h in scene.hands
        ]
        return hands + [self._entity(o, o.name, "object", None) for o in scene.objects]

    def respond(self, pictures, queries, settings):
        self.asked += len(queries)
        return [self._one(self.scenes[p.name], p, q) for p, q in zip(pictures, queries)]

    def _one(self, scene, picture, query):
        found = [] if self.blind else self._find(scene, query)
        text = self._text(scene, query, found)
        return Response(picture.name, picture.size, query.text, query.task or "refer", text, bool(found) or self.credulous, found)

    def _find(self, scene, query):
        everything = self._all(scene)
        text = query.text.lower()
        if query.task == "analyze":
            return everything
        if query.box is not None:
            return sorted((e for e in everything), key=lambda e: -boxes.iou(e.box, query.box))[:1]
        sides = re.findall(r"\b(left|right)\b", text)
        hands = [e for e in everything if e.kind == "hand"]
        named = [e for e in everything if e.kind == "object" and e.name in text]
        if named:
            if "which hand" in text or "what hand" in text or "in which" in text:
                index = everything.index(named[0])
                return [h for h in hands if index in h.holds]
            return named
        if "hands" in text and not sides and not re.search(r"in my hands|i am|holding", text):
            return [h for h in hands if h.side]
        if sides:
            hand = [h for h in hands if h.side == sides[0]]
            if re.search(r"object|thing|holding|what|which", text):
                return [everything[k] for h in hand for k in h.holds]
            return hand
        return []

    def _text(self, scene, query, found):
        if re.match(r"(is|does) ", query.text.lower()):
            return "Yes." if found else "No."
        return ", ".join(e.name for e in found) or "There is none."


@pytest.fixture
def folder(tmp_path):
    """A folder with scenes.jsonl: both hands busy, one empty hand, no hand."""
    size = (64, 48)
    (tmp_path / "images").mkdir()
    for name in "abc":
        Image.fromarray(np.full((48, 64, 3), 90, dtype=np.uint8)).save(tmp_path / "images" / f"{name}.png")

    def hand(side, box, **more):
        return {"side": side, "box": box, "mask": square(size, box), **more}

    def thing(name, box, hands):
        return {"name": name, "box": box, "hands": hands, "mask": square(size, box)}

    rows = [
        {"id": "a", "hands": [hand("left", [2, 20, 14, 36], contact=True, object=0), hand("right", [40, 20, 54, 38], contact=True, object=1)],
         "objects": [thing("cutting board", [8, 30, 44, 46], ["left"]), thing("knife", [34, 8, 46, 26], ["right"])]},
        {"id": "b", "hands": [hand("right", [30, 20, 50, 40], contact=False)], "objects": []},
        {"id": "c", "hands": [], "objects": []},
    ]
    with open(tmp_path / "scenes.jsonl", "w") as out:
        for row in rows:
            out.write(json.dumps({**row, "image": f"images/{row['id']}.png", "size": list(size), "source": "test"}) + "\n")
    return tmp_path


@pytest.fixture
def scenes(folder):
    return list(jsonl.read(folder))


@pytest.fixture
def todo(scenes):
    return plan(scenes)


@pytest.fixture
def oracle():
    return Oracle
