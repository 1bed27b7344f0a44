"""VISOR sparse and dense annotations: polygons of hands and active objects in EPIC-KITCHENS frames, and who touches what.

Source: repositories epic-kitchens/VISOR-VIS (the format and its fields), epic-kitchens/VISOR-HOS (`data_preparation`: what is
wrong in the published files and how it is put right; worn gloves count as hands).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from egohoi import boxes, masks
from egohoi.errors import BadRecord
from egohoi.records import Hand, Object, Scene
from egohoi.scenes import epic_narrations, raw

#: Pictures as VISOR publishes them, unpacked; fields: participant, video, name, frame (VISOR's number), epic_frame.
IMAGE = "{participant}/{video}/{name}"
#: Pictures where the frames of EPIC-KITCHENS lie; used when a frame mapping is given.
EPIC_IMAGE = "EPIC_Kitchens/frames/{video}/frame_{epic_frame:010d}.jpg"
#: (width, height) that the polygons of the sparse and of the dense ("interpolations") files refer to.
SPARSE_SIZE, DENSE_SIZE = (1920, 1080), (854, 480)
HANDS = {"left hand": "left", "right hand": "right"}
#: Names of gloves (VISOR-HOS `glove_ls`).
GLOVES = frozenset(("oven glove", "gloves", "rubber glove", "left glove", "right glove", "glove"))
_FREE = ("hand-not-in-contact", "glove-not-in-contact")
_UNSEGMENTED, _UNSURE = "none-of-the-above", "inconclusive"
_FRAME = re.compile(r"frame_(\d{1,12})")
_MAX_POLYGONS = 1000
#: Files that lie beside the annotations and hold none.
_TABLES = ("frame_mapping.json", "correct.json")


@dataclass(frozen=True)
class _Entity:
    """One annotation. contact: in_contact_object; worn: sides of the hands that a glove is on; parts: polygons [[x, y], ...]."""

    id: str
    name: str
    parts: list[np.ndarray]
    box: boxes.Box | None
    contact: str | None
    worn: tuple[str, ...]
    exhaustive: bool | None
    class_id: int | None


@dataclass(frozen=True)
class FrameMapping:
    """VISOR frame number -> EPIC-KITCHENS frame number, by video; build with `frame_mapping`."""

    source: str
    videos: dict[str, dict[int, int]] = field(default_factory=dict)

    def epic(self, video: str, frame: int) -> int:
        """EPIC frame of a VISOR frame. Raises BadRecord if the mapping does not hold it."""
        found = self.videos.get(video, {}).get(frame)
        if found is None:
            raise BadRecord(f"{self.source} maps no EPIC frame to VISOR frame {frame} of {video}")
        return found


def frame_mapping(path) -> FrameMapping:
    """VISOR's `frame_mapping.json`: {video: {"P01_01_frame_0000000140.jpg": "frame_0000000140.jpg", ...}, ...}.

    Raises BadData (no such file), BadRecord (file, video and entry).
    """
    data = raw.load(path)
    videos = {}
    for video, entries in raw.mapping(data, f"{path}: the frame mapping").items():
        pairs = raw.mapping(entries, f"{path}: the frames of {raw.short(video)}")
        videos[video] = {_frame(a, f"{path}: {video}"): _frame(b, f"{path}: {video}: {raw.short(a)}") for a, b in pairs.items()}
    return FrameMapping(str(path), videos)


def corrections(path) -> dict[str, dict[str, str]]:
    """VISOR-HOS's `data_preparation/correct.json`: {image name: {hand name: right in_contact_object}, ...}.

    Raises BadData (no such file), BadRecord (not of that form).
    """
    data = raw.mapping(raw.load(path), f"{path}: the corrections")
    for name, hands in data.items():
        for hand, target in raw.mapping(hands, f"{path}: {raw.short(name)}").items():
            raw.text(target, f"{path}: {raw.short(name)}: {raw.short(hand)}")
    return data


def _frame(name, where: str) -> int:
    found = _FRAME.search(name) if isinstance(name, str) else None
    if found is None:
        raise BadRecord(f"{where}: expected a name with 'frame_' and a number, got {raw.short(name)}")
    return int(found.group(1))


def read(
    path, *, mapping=None, narrations=None, correct=None, masks: bool = True, size: tuple[int, int] | None = None,
    image: str | None = None, on_error: raw.OnError = None,
) -> Iterator[Scene]:
    """Scenes of VISOR annotation files, streaming: one JSON file a video (`P01_01.json`), or a folder of them.

    mapping: path of frame_mapping.json or a FrameMapping: the scene's image and narration are then those of the EPIC frame.
    narrations: path of EPIC_100_*.csv or an epic_narrations.Narrations: fills action, narration, verb, noun.
    correct: path of VISOR-HOS's correct.json or what `corrections` gives: hand-object relations that are put right.
    masks: whether hands and objects get run-length masks. size: (width, height) that the polygons refer to; None: 1920x1080,
    and 854x480 for files with "interpolation" in their name. image: path template with the fields participant, video, name,
    frame, epic_frame. Ids: "visor/P01_01/140" (VISOR's frame number).

    extra: video, frame, epic_frame, subsequence, object_exhaustive and object_class (one entry an object), narration_id, notes.
    Raises BadData, BadRecord (file and picture); on_error collects broken pictures instead.
    """
    table = frame_mapping(mapping) if mapping is not None and not isinstance(mapping, FrameMapping) else mapping
    fixes = corrections(correct) if correct is not None and not isinstance(correct, dict) else correct
    said = epic_narrations.as_index(narrations)
    image = image or (IMAGE if table is None else EPIC_IMAGE)
    raw.template(image, participant="", video="", name="", frame=1, epic_frame=1)
    for file in raw.files(path, ".json"):
        if file != Path(path) and file.name in _TABLES:
            continue
        canvas = size or (DENSE_SIZE if "interpolation" in file.name else SPARSE_SIZE)
        for count, row in enumerate(raw.stream(file, "video_annotations.item", on_error), 1):
            scene = raw.attempt(
                lambda row=row, canvas=canvas: _scene(row, canvas, table, said, fixes or {}, masks, image),
                f"{file}: {_label(row, count)}", on_error,
            )
            if scene is not None:
                yield scene


def _label(row, count: int) -> str:
    name = row.get("image", {}).get("name") if isinstance(row, dict) and isinstance(row.get("image"), dict) else None
    return name if isinstance(name, str) and 0 < len(name) < 200 else f"picture {count}"


def _scene(row, size, table, said, fixes, with_masks: bool, image: str) -> Scene:
    picture = raw.mapping(raw.mapping(row, "a picture's record")["image"], "image")
    name, video = raw.text(picture["name"], "image name"), raw.text(picture["video"], "image video")
    frame = _frame(name, "image name")
    epic = table.epic(video, frame) if table is not None else None
    entities = [
        _entity(raw.mapping(a, "an annotation"), size, fixes.get(name, {})) for a in raw.sequence(row["annotations"], "annotations")
    ]
    hands, objects, complete, notes = _link(entities, size, with_masks)
    found = said.at(video, epic if epic is not None else frame) if said is not None else []
    extra = {"video": video, "frame": frame}
    if epic is not None:
        extra["epic_frame"] = epic
    if isinstance(picture.get("subsequence"), str):
        extra["subsequence"] = picture["subsequence"]
    extra["object_exhaustive"] = [e.exhaustive for e, _ in objects]
    extra["object_class"] = [e.class_id for e, _ in objects]
    if found:
        extra["narration_id"] = found[0].id
    if notes:
        extra["notes"] = notes
    fields = {"participant": video.split("_")[0], "video": video, "name": name, "frame": frame}
    fields["epic_frame"] = epic if epic is not None else frame
    return Scene(
        id=f"visor/{video}/{frame}", image=image.format(**fields), size=size,
        hands=hands, objects=[o for _, o in objects], exhaustive=complete, source="visor", extra=extra,
        **epic_narrations.labels(found),
    )


def _entity(row: dict, size, fixes: dict) -> _Entity:
    """One annotation with the documented repairs done."""
    name = raw.text(row["name"], "annotation name").lower()
    where = f"annotation '{name[:60]}'"
    parts = [p for p in (_polygon(p, size, where) for p in raw.sequence(row["segments"], f"{where}: segments")) if p is not None]
    if len(parts) > _MAX_POLYGONS:
        raise BadRecord(f"{where}: {len(parts)} polygons, at most {_MAX_POLYGONS} are believed")
    contact = fixes.get(name, row.get("in_contact_object"))
    if contact is not None:
        contact = raw.text(contact, f"{where}: in_contact_object")
    flag = row.get("exhaustive")
    return _Entity(
        id=raw.text(row["id"], f"{where}: id"), name=name, parts=parts, box=_box(parts), contact=contact,
        worn=_worn(row.get("on_which_hand"), where) if name in GLOVES else (),
        exhaustive={"y": True, "n": False}.get(flag) if isinstance(flag, str) else None,
        class_id=raw.integer(row["class_id"], f"{where}: class_id") if row.get("class_id") is not None else None,
    )


def _polygon(points, size, where: str) -> np.ndarray | None:
    """A polygon float64 [N, 2] inside the picture, or None for one of fewer than three points (VISOR holds empty ones)."""
    if len(raw.sequence(points, f"{where}: a segment")) < 3:
        return None
    try:
        array = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadRecord(f"{where}: a segment is not a list of points [x, y]") from error
    if array.ndim != 2 or array.shape[1] != 2 or not np.isfinite(array).all() or np.abs(array).max() > 4 * max(size):
        raise BadRecord(f"{where}: a segment is not a list of points [x, y] in a picture of {size[0]}x{size[1]} pixels")
    array = np.clip(array, 0, size)
    # A polygon that is a line or a point, or lies outside, covers nothing.
    return array if (np.ptp(array, axis=0) > 0).all() else None


def _box(parts: list[np.ndarray]) -> boxes.Box | None:
    if not parts:
        return None
    low, high = np.min([p.min(axis=0) for p in parts], axis=0), np.max([p.max(axis=0) for p in parts], axis=0)
    return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def _worn(value, where: str) -> tuple[str, ...]:
    """Sides of a glove's `on_which_hand`: None, "left hand" or ["left hand", "rigth hand"] (the typo of 13 pictures)."""
    names = [value] if isinstance(value, str) else raw.sequence(value, f"{where}: on_which_hand")
    sides = []
    for name in names:
        plain = raw.text(name, f"{where}: on_which_hand").lower().replace("rigth", "right")
        if plain not in HANDS:
            raise BadRecord(f"{where}: on_which_hand must be left hand or right hand, got {raw.short(name)}")
        sides.append(HANDS[plain])
    return tuple(s for s in ("left", "right") if s in sides)


def _link(entities: list[_Entity], size, with_masks: bool):
    """Hands, (entity, object) pairs, whether hands and active objects are all there, and notes on what could not be kept."""
    by_id = {e.id: e for e in entities}
    seen = {HANDS[e.name] for e in entities if e.name in HANDS and e.box is not None}
    worn = [e for e in entities if e.worn and e.box is not None]
    single = {side: [e for e in worn if e.worn == (side,)] for side in ("left", "right")}
    things = [e for e in entities if e.name not in HANDS and not e.worn and e.box is not None]
    index = {e.id: k for k, e in enumerate(things)}
    notes = [f"'{e.name}' has no polygon" for e in entities if e.box is None]
    complete: bool | None = not notes

    hands, touched = [], {k: [] for k in index.values()}
    for entity in entities:
        if entity.box is None:
            continue
        if entity.name in HANDS:
            side, gloves = HANDS[entity.name], [g for g in worn if HANDS[entity.name] in g.worn]
            body = [entity, *single[side]]
            contact = entity.contact
            if contact in by_id and by_id[contact] in gloves:  # the hand touches its own glove: the glove says what it touches
                contact = by_id[contact].contact
            if entity.exhaustive is not True:
                complete = False if entity.exhaustive is False or complete is False else None
        elif len(entity.worn) == 1 and entity.worn[0] not in seen and entity is single[entity.worn[0]][0]:
            side, gloves, contact = entity.worn[0], [entity], entity.contact
            body = single[side]
        else:
            if len(entity.worn) == 2 and not set(entity.worn) <= seen:
                # One outline round two gloves is no box of a left or of a right hand.
                notes.append(f"'{entity.name}' on both hands stands for a hand that has no outline of its own")
                complete = False
            continue
        state, target, sure = _contact(contact, by_id, index)
        if not sure:
            complete = None if contact in (None, _UNSURE) and complete is not False else False
        if target is not None:
            touched[target].append(side)
        box = _box([p for e in body for p in e.parts])
        mask = masks.union([_mask(e.parts, size) for e in body]) if with_masks else None
        hands.append(Hand(side, box, contact=state, object=target, mask=mask, glove=bool(gloves)))

    objects = [
        (e, Object(e.name, e.box, tuple(s for s in ("left", "right") if s in touched[k]), _mask(e.parts, size) if with_masks else None))
        for k, e in enumerate(things)
    ]
    return hands, objects, complete, notes


def _contact(value: str | None, by_id: dict, index: dict) -> tuple[bool | None, int | None, bool]:
    """(touches something, index of the object, whether that says everything) of an in_contact_object."""
    if value is None or value == _UNSURE:
        return None, None, False
    if value in _FREE:
        return False, None, True
    if value == _UNSEGMENTED:
        return True, None, False
    if value not in by_id:
        raise BadRecord(f"in_contact_object {raw.short(value)} is no annotation of this picture")
    # Another hand, a glove on it, or an object without a polygon is touched, but is no object of the scene.
    return True, index.get(value), value in index or by_id[value].box is not None


def _mask(parts: list[np.ndarray], size: tuple[int, int]) -> dict:
    """Run-length mask of an entity's polygons; overlapping ones cut holes (even-odd, as `fillPoly` in VISOR-VIS draws them)."""
    flat = [p.reshape(-1).tolist() for p in parts]
    if not _overlap(parts):
        return masks.from_polygons(flat, size)
    # Only the part of the picture that they lie in is drawn: whole pictures would take most of the reading time.
    left, top = (int(v) for v in np.floor(np.min([p.min(axis=0) for p in parts], axis=0)))
    right, bottom = (int(v) for v in np.ceil(np.max([p.max(axis=0) for p in parts], axis=0)))
    window = (min(right, size[0]) - left, min(bottom, size[1]) - top)
    total = np.zeros((size[1], size[0]), dtype=bool)
    part = total[top : top + window[1], left : left + window[0]]
    for polygon in parts:
        part ^= masks.decode(masks.from_polygons([(polygon - (left, top)).reshape(-1).tolist()], window))
    return masks.encode(total)


def _overlap(parts: list[np.ndarray]) -> bool:
    """Whether the boxes of any two polygons overlap."""
    open_boxes: list[tuple] = []
    for x1, y1, x2, y2 in sorted((*p.min(axis=0), *p.max(axis=0)) for p in parts):
        open_boxes = [b for b in open_boxes if b[2] > x1]
        if any(b[1] < y2 and y1 < b[3] for b in open_boxes):
            return True
        open_boxes.append((x1, y1, x2, y2))
    return False
