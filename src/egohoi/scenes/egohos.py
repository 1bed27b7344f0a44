"""EgoHOS: pictures with one label image each, which marks hands and the objects that they hold.

Source: repository owenzlz/EgoHOS (README, `mmsegmentation/mmseg/datasets/egohos.py`). A split's folder holds `image/NAME.jpg`
and `label/NAME.png`; a label's pixels are

    0 background · 1 left hand · 2 right hand · objects held directly by 3 left, 4 right, 5 both hands · objects held through
    another object by 6 left, 7 right, 8 both hands
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from egohoi import images, masks
from egohoi.errors import BadData, BadImage, BadRecord
from egohoi.records import Hand, Object, Scene
from egohoi.scenes import raw

SPLITS = ("train", "val", "test_indomain", "test_outdomain")
_HANDS = {1: "left", 2: "right"}
_FIRST = {3: ("left",), 4: ("right",), 5: ("left", "right")}
_SECOND = {6: ["left"], 7: ["right"], 8: ["left", "right"]}


def read(path, *, second_order: bool = True, on_error: raw.OnError = None) -> Iterator[Scene]:
    """Scenes of a split's folder (it holds `image` and `label`), or of all splits below a folder, by name.

    Objects have no class: their name is "". A label does not tell objects of one kind apart: all pixels of one value are one
    object. second_order: whether objects held through another object are kept; they are no hand's object, and
    extra["through"] (one entry an object, null for direct ones) says whose. A hand without an object touches nothing
    (contact false): EgoHOS labels every interacting object, so scenes are exhaustive. Ids: "egohos/train/NAME".
    Raises BadData, BadImage, BadRecord (file); on_error collects broken pictures instead.
    """
    root = Path(path)
    splits = [root] if (root / "label").is_dir() else [root / s for s in SPLITS if (root / s / "label").is_dir()]
    if not splits:
        raise BadData(f"{path}: holds no folder 'label': give a split of EgoHOS (such as egohos/train) or the folder of its splits")
    for split in splits:
        for label in sorted((split / "label").glob("*.png")):
            scene = raw.attempt(lambda s=split, p=label: _scene(s, p, second_order), str(label), on_error)
            if scene is not None:
                yield scene


def _scene(split: Path, label: Path, second_order: bool) -> Scene:
    image = next((p for e in (".jpg", ".png") if (p := split / "image" / f"{label.stem}{e}").is_file()), None)
    if image is None:
        raise BadData(f"its picture {split / 'image' / label.stem}.jpg is missing")
    index, size = _label(label), _size(image)
    if (index.shape[1], index.shape[0]) != size:
        raise BadRecord(f"is {index.shape[1]}x{index.shape[0]} pixels, its picture {size[0]}x{size[1]}")
    found = {int(v): masks.from_index(index, v) for v in np.unique(index) if v}
    unknown = sorted(set(found) - set(_HANDS) - set(_FIRST) - set(_SECOND))
    if unknown:
        raise BadRecord(f"holds the value {unknown[0]}, known are 0 to 8: is it the label folder of the release?")
    kept = [v for v in sorted(found) if v in _FIRST or (second_order and v in _SECOND)]
    objects = [Object("", masks.box(found[v]), _FIRST.get(v, ()), found[v]) for v in kept]
    hands = []
    for value, side in _HANDS.items():
        if value in found:
            target = next((k for k, v in enumerate(kept) if side in _FIRST.get(v, ())), None)
            hands.append(Hand(side, masks.box(found[value]), target is not None, target, found[value]))
    return Scene(
        id=f"egohos/{split.name}/{label.stem}", image=str(image), size=size, hands=hands, objects=objects, exhaustive=True,
        source="egohos", extra={"split": split.name, "through": [_SECOND.get(v) for v in kept]},
    )


def _label(path: Path) -> np.ndarray:
    """uint8 [H, W] of a label image. Raises BadImage, BadRecord."""
    with _opened(path) as image:
        if image.mode not in ("L", "P"):
            raise BadRecord(f"is a picture of mode {image.mode}, not an index image")
        return np.asarray(image)


def _size(path: Path) -> tuple[int, int]:
    with _opened(path) as image:
        return image.size


@contextmanager
def _opened(path: Path):
    """A PIL image, not decoded yet; too many pixels and whatever fails while it is read become a BadImage."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL warns from 90 Mpx; the limit below decides
            image = Image.open(path)
        with image:
            if image.size[0] * image.size[1] > images.MAX_PIXELS:
                raise BadImage(f"{path}: {image.size[0]}x{image.size[1]} pixels are too many")
            yield image
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise BadImage(f"{path}: is damaged, cut short or no picture ({raw.short(error)})") from error
