"""From an instance image to the labels of a scene."""

from __future__ import annotations

import numpy as np

from egohoi import masks
from egohoi.records import Hand, Object, Scene

from .scene import Labelled, SceneDescription

#: a thing with fewer visible pixels is not labelled: at least 40, and 0.05 % of the picture for hands and lying things
MIN_PIXELS = 40
MIN_SHARE = 0.0005
#: a held thing is kept a little longer because its hand points to it
MIN_HELD_PIXELS = 24


def visible(labels: np.ndarray, count: int) -> dict[int, tuple[int, tuple[int, int, int, int]]]:
    """Instance number -> (pixels, xyxy box) for the numbers 1..count in labels [H, W]."""
    from scipy.ndimage import find_objects

    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    result = {}
    for number, where in enumerate(find_objects(labels.astype(np.int32), max_label=count), 1):
        if where is not None:
            rows, columns = where
            result[number] = int(sizes[number]), (columns.start, rows.start, columns.stop, rows.stop)
    return result


def label(description: SceneDescription, labels: np.ndarray, identity: str, image: str, depth: str | None) -> Scene:
    """The labelled scene; labels: uint8 [H, W] instance numbers as drawn."""
    width, height = description.camera.size
    seen = visible(labels, max((t.label for t in description.things), default=0))
    least = max(MIN_PIXELS, MIN_SHARE * width * height)

    def kept(thing: Labelled) -> bool:
        pixels = seen.get(thing.label, (0, None))[0]
        return pixels >= (MIN_HELD_PIXELS if thing.kind == "object" and thing.hands else least)

    hands = [t for t in description.things if t.kind == "hand" and kept(t)]
    holders: dict[int, list[str]] = {}
    for hand in hands:
        if hand.contact and hand.target:
            holders.setdefault(hand.target, []).append(hand.side)
    things = [t for t in description.things if t.kind == "object" and kept(t)]
    things = sorted(things, key=lambda t: t.label not in holders)
    index = {t.label: k for k, t in enumerate(things)}

    def box(thing):
        return tuple(float(v) for v in seen[thing.label][1])

    def mask(thing):
        return masks.encode(labels == thing.label)

    held = [t for t in things if t.label in holders and any(s != "other" for s in holders[t.label])]
    told = bool(held) and description.noun in {t.name for t in held}
    if not told and held:
        sides = [s for s in holders[held[0].label] if s != "other"]
        where = "both hands" if len(sides) > 1 else f"the {sides[0]} hand"
        action, verb, noun = f"hold {held[0].name}", "hold", held[0].name
        narration = f"The person holds the {noun} in {where}."
    elif told:
        action, verb, noun, narration = description.action, description.verb, description.noun, description.narration
        users = [s for t in held if t.name == noun for s in holders[t.label] if s != "other"]
        if "both hands" in narration and len(set(users)) < 2:
            narration = f"The person holds the {noun} in the {users[0]} hand."
    else:
        action = verb = noun = narration = None
    return Scene(
        id=identity, image=image, size=(width, height), depth=depth, source="synthetic", exhaustive=True,
        hands=tuple(Hand(t.side, box(t), t.contact, index.get(t.target) if t.contact else None, mask(t), None, t.glove) for t in hands),
        objects=tuple(Object(t.name, box(t), tuple(dict.fromkeys(holders.get(t.label, []))), mask(t)) for t in things),
        action=action, narration=narration, verb=verb, noun=noun,
        extra={"instances": [t.instance for t in things], "place": description.place})
