"""COCO JSON with hand attributes: the path into this package for anyone's own annotations.

A standard COCO detection file (cocodataset.org, "Data format"; CVAT, Label Studio and others export it) in which annotations
carry, in `attributes` or beside `bbox`:

    side               left | right | other; on every hand. A category named "left hand" or "right hand" says the same.
    in_contact_with    on a hand: id of the annotation that it holds or touches, null or "none": it touches nothing,
                       "unknown" or absent: not labelled. A list names several.
    glove              on a hand: true or false

and pictures may carry narration, action, verb, noun and exhaustive (true: every hand and every active object is labelled).
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from egohoi import boxes, masks
from egohoi.errors import BadRecord
from egohoi.records import SIDES, Hand, Object, Scene
from egohoi.scenes import raw

_HANDS = {"left hand": "left", "right hand": "right", "left_hand": "left", "right_hand": "right"}


def read(path, *, images=None, masks: bool = True, on_error: raw.OnError = None) -> Iterator[Scene]:
    """Scenes of a COCO file, or of every .json of a folder, in the order of its pictures.

    images: folder that `file_name` is relative to; None: the file's own. masks: whether segmentations become run-length masks
    (polygons, or uncompressed or compressed COCO RLE). Annotations are sorted to their pictures in a temporary data base on
    disk, so memory stays bounded however large the file is. Ids: "coco/IMAGE_ID".

    Raises BadData, BadRecord (file and picture or annotation); on_error collects broken pictures and annotations instead.
    """
    for file in raw.files(path, ".json"):
        yield from _file(file, Path(images) if images is not None else file.parent, masks, on_error)


def _file(file: Path, folder: Path, with_masks: bool, on_error: raw.OnError) -> Iterator[Scene]:
    names: dict[int, str] = {}
    for row in raw.stream(file, "categories.item", on_error):
        raw.attempt(lambda r=row: names.update(_category(raw.mapping(r, "a category"))), f"{file}: categories", on_error)
    with closing(sqlite3.connect("")) as base:  # "": a private data base in a temporary file
        base.execute("create table annotation (image integer, number integer, row text)")
        for number, row in enumerate(raw.stream(file, "annotations.item", on_error), 1):
            entry = raw.attempt(lambda r=row: (_image_id(r), json.dumps(r)), f"{file}: annotation {number}", on_error)
            if entry is not None:
                base.execute("insert into annotation values (?, ?, ?)", (entry[0], number, entry[1]))
        base.execute("create index place on annotation (image, number)")
        for count, picture in enumerate(raw.stream(file, "images.item", on_error), 1):
            where = f"{file}: picture {count}"
            scene = raw.attempt(lambda p=picture: _scene(p, base, names, folder, with_masks), where, on_error)
            if scene is not None:
                yield scene


def _image_id(row) -> int:
    return raw.integer(raw.mapping(row, "an annotation")["image_id"], "image_id", 0, 2**62)


def _category(row: dict) -> dict[int, str]:
    return {raw.integer(row["id"], "id"): raw.text(row["name"], "name")}


def _scene(picture, base, names: dict[int, str], folder: Path, with_masks: bool) -> Scene:
    picture = raw.mapping(picture, "a picture")
    image = raw.integer(picture["id"], "id", 0, 2**62)
    size = (raw.side(picture["width"], "width"), raw.side(picture["height"], "height"))
    rows = [json.loads(text) for (text,) in base.execute("select row from annotation where image = ? order by number", (image,))]
    hands, things = [], []
    for row in rows:
        if row.get("iscrowd") in (1, True):  # a crowd is a region, not one thing
            continue
        where = f"annotation {raw.short(row.get('id'))}"
        category = raw.integer(row["category_id"], f"{where}: category_id")
        if category not in names:
            raise BadRecord(f"{where}: category {category} is not among the file's categories")
        side = _side(row, names[category], where)
        (things if side is None else hands).append((row, side, names[category], where))
    index = {raw.integer(row["id"], f"{where}: id", 0, 2**62): k for k, (row, _, _, where) in enumerate(things)}
    hand_ids = {raw.integer(row["id"], f"{where}: id", 0, 2**62) for row, _, _, where in hands}
    if len(index) + len(hand_ids) < len(things) + len(hands) or hand_ids & set(index):
        raise BadRecord("two of its annotations have one id")
    touched: list[list[str]] = [[] for _ in things]
    made = []
    for row, side, _, where in hands:
        contact, targets = _contact(row, index, hand_ids, where)
        for k in targets:
            if side not in touched[k]:
                touched[k].append(side)
        made.append(
            Hand(side, _box(row, size, where), contact, targets[0] if targets else None, _mask(row, size, where, with_masks),
                 glove=_flag(_value(row, "glove"), f"{where}: glove"))
        )
    objects = [
        Object(name, _box(row, size, where), tuple(touched[k]), _mask(row, size, where, with_masks))
        for k, (row, _, name, where) in enumerate(things)
    ]
    said = {k: raw.text(picture[k], k) for k in ("narration", "action", "verb", "noun") if picture.get(k)}
    return Scene(
        id=f"coco/{image}", image=str(folder / raw.text(picture["file_name"], "file_name")), size=size, hands=made, objects=objects,
        exhaustive=_flag(picture.get("exhaustive"), "exhaustive"), source="coco", extra={"image_id": image}, **said,
    )


def _value(row: dict, name: str):
    """An attribute, from `attributes` or from the annotation itself; ... if it is in neither."""
    inner = row.get("attributes")
    if isinstance(inner, dict) and name in inner:
        return inner[name]
    return row.get(name, ...)


def _side(row: dict, category: str, where: str) -> str | None:
    """Side of a hand, None for an object."""
    value = _value(row, "side")
    if value in (..., None, ""):
        side = _HANDS.get(category.lower())
        if side is None and category.lower() in ("hand", "hands"):
            raise BadRecord(f"{where}: a hand needs the attribute side: {', '.join(SIDES)}")
        return side
    if not isinstance(value, str) or value.lower() not in SIDES:
        raise BadRecord(f"{where}: side must be one of {', '.join(SIDES)}, got {raw.short(value)}")
    return value.lower()


def _contact(row: dict, index: dict[int, int], hand_ids: set, where: str) -> tuple[bool | None, list[int]]:
    """(touches something, indices of the objects) of a hand."""
    value = _value(row, "in_contact_with")
    if value is ... or value == "unknown":
        return None, []
    if value in (None, "", "none", []):
        return False, []
    targets = []
    for item in value if isinstance(value, list) else [value]:
        target = raw.integer(item, f"{where}: in_contact_with", 0, 2**62)
        if target in index:
            targets.append(index[target])
        elif target not in hand_ids:
            raise BadRecord(f"{where}: in_contact_with {target} is no annotation of the same picture")
    return True, targets


def _flag(value, name: str) -> bool | None:
    if value in (..., None):
        return None
    if not isinstance(value, bool):
        raise BadRecord(f"{name} must be true or false, got {raw.short(value)}")
    return value


def _box(row: dict, size, where: str) -> boxes.Box:
    """xyxy pixels of COCO's [x, y, width, height], clipped to the picture."""
    values = raw.sequence(row["bbox"], f"{where}: bbox")
    if len(values) != 4:
        raise BadRecord(f"{where}: bbox must be [x, y, width, height], got {raw.short(values)}")
    x, y, width, height = (raw.number(v, f"{where}: bbox") for v in values)
    return boxes.check(boxes.clip((x, y, x + width, y + height), size), where=f"{where}: bbox")


def _mask(row: dict, size, where: str, wanted: bool) -> dict | None:
    """Run-length mask of a COCO segmentation; None if there is none."""
    value = row.get("segmentation")
    if not wanted or not value:
        return None
    if isinstance(value, dict):
        counts = value.get("counts")
        if isinstance(counts, list):
            counts = [raw.integer(c, f"{where}: a run", 0, 2**31) for c in counts]
        rle = masks.check({"size": value.get("size"), "counts": counts}, size, where)
        if isinstance(counts, list):
            return masks.encode(masks.decode(rle))
        return {"size": list(rle["size"]), "counts": rle["counts"]}
    polygons = []
    for polygon in raw.sequence(value, f"{where}: segmentation")[:10_000]:
        points = [raw.number(v, f"{where}: segmentation", -4 * max(size), 4 * max(size)) for v in raw.sequence(polygon, f"{where}: a polygon")]
        if len(points) % 2:
            raise BadRecord(f"{where}: a polygon has an odd number of coordinates")
        polygons.append([min(max(v, 0.0), float(size[k % 2])) for k, v in enumerate(points)])
    return masks.from_polygons(polygons, size)
