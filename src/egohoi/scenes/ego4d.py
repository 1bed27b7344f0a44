"""Ego4D forecasting, hands and objects (FHO): boxes of hands, objects of change and tools in the critical frames of an action.

Source: schema of fho_main.json in the Ego4D documentation (facebookresearch/Ego4d), `notebooks/annotation_visualization.ipynb`
there, and the state-change object detection (SCOD) files of the hands-and-objects benchmark. Two layouts are read:

    fho_main.json           videos[] > annotated_intervals[] > narrated_actions[] > frames[] > boxes[]
    fho_scod_{train,val}.json   clips[] > pre_frame | pnr_frame | post_frame > bbox[]

`fho_hands_*.json` hold the centres of hands, not boxes, and `fho_oscc-pnr_*.json` no boxes at all: both are refused.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from egohoi import boxes
from egohoi.errors import BadData, BadRecord, EgohoiError, need
from egohoi.records import Hand, Object, Scene
from egohoi.scenes import raw

#: Where HOI-QA expects the frames of Ego4D, ten digits a number; fields: clip_uid, video_uid, frame (in the clip), video_frame.
IMAGE = "Ego4D/v2/frames/{clip_uid}/frame_{frame:010d}.jpg"
#: Critical frames that carry boxes, in time order.
FRAMES = ("pre_45", "pre_30", "pre_15", "pre_frame", "contact_frame", "pnr_frame", "post_frame")
_HANDS = {"left_hand": "left", "right_hand": "right"}
_TAG = re.compile(r"\s*#\s*([A-Za-z]+)\b")


def read(
    path, *, frames: tuple[str, ...] = ("pre_frame", "pnr_frame", "post_frame"), wearer_only: bool = True, image: str = IMAGE,
    on_error: raw.OnError = None,
) -> Iterator[Scene]:
    """Scenes of the critical frames of Ego4D actions, streaming: fho_main.json or fho_scod_*.json, or a folder of them.

    frames: which critical frames, of FRAMES. wearer_only: leave out actions whose narration is not about the camera wearer
    ("#C"). image: path template with the fields clip_uid, video_uid, frame (number in the clip), video_frame. Rejected,
    invalid and redacted annotations are left out, as are frames without boxes. Ids: "ego4d/CLIP_UID/FRAME/ACTION/pnr_frame".

    Contact is not labelled: hands have contact None and objects no hands. extra: clip_uid, video_uid, frame, video_frame,
    frame_type, roles (one an object: "object_of_change", "tool", ...), state_transition, actor ("C": the wearer).
    An object without a noun has the name "". Narrations are as published: "#C C picks up a cup".
    Raises BadData, BadRecord (file, clip and action); on_error collects broken actions instead.
    """
    unknown = [f for f in frames if f not in FRAMES]
    if unknown:
        raise BadData(f"frames {', '.join(map(str, unknown))} unknown: the critical frames of Ego4D are {', '.join(FRAMES)}")
    raw.template(image, clip_uid="", video_uid="", frame=1, video_frame=1)
    for file in raw.files(path, ".json"):
        try:
            layout = _layout(file)
        except EgohoiError as error:
            raw.report(error, on_error)
            continue
        if layout == "videos":
            for count, video in enumerate(raw.stream(file, "videos.item", on_error), 1):
                yield from _video(video, f"{file}: video {count}", frames, wearer_only, image, on_error)
        else:
            for count, clip in enumerate(raw.stream(file, "clips.item", on_error), 1):
                yield from _clip(clip, f"{file}: clip {count}", frames, image, on_error)


def _layout(path: Path) -> str:
    """ "videos" (fho_main.json) or "clips" (SCOD), from the first list of the file."""
    ijson = need("ijson", "data")
    try:
        with open(path, "rb") as file:
            for prefix, event, _ in ijson.parse(raw.Shallow(file), use_float=True):
                if prefix in ("videos", "clips") and event == "start_array":
                    return prefix
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ijson.JSONError, ValueError, OverflowError) as error:
        raise BadRecord(f"{path}: not JSON ({raw.parser_says(error)}): download it again") from error
    raise BadData(f"{path}: holds neither videos nor clips: give fho_main.json or fho_scod_train.json")


def _video(video, where: str, frames, wearer_only: bool, image: str, on_error) -> Iterator[Scene]:
    def head():
        record = raw.mapping(video, "a video")
        shape = raw.mapping(record["video_metadata"], "video_metadata")
        size = (raw.side(shape["width"], "width"), raw.side(shape["height"], "height"))
        return raw.text(record["video_uid"], "video_uid"), size, raw.sequence(record["annotated_intervals"], "annotated_intervals")

    found = raw.attempt(head, where, on_error)
    if found is None:
        return
    video_uid, size, intervals = found
    for interval in intervals:
        actions = raw.attempt(lambda i=interval: _actions(i), f"{where} ({video_uid})", on_error)
        if actions is None:
            continue
        clip_uid = interval.get("clip_uid") if isinstance(interval.get("clip_uid"), str) else None
        for number, action in enumerate(actions):
            spot = f"{where} ({video_uid}), clip {clip_uid}, action {number}"
            usable = raw.attempt(lambda a=action: _usable(a, wearer_only), spot, on_error)
            for frame in usable or ():
                if isinstance(frame, dict) and frame.get("frame_type") in frames:
                    scene = raw.attempt(
                        lambda a=action, f=frame, n=number, i=interval: _main_scene(video_uid, size, i, a, n, f, image),
                        f"{spot}, {frame['frame_type']}", on_error,
                    )
                    if scene is not None:
                        yield scene


def _actions(interval) -> list:
    interval = raw.mapping(interval, "an annotated interval")
    return [] if interval.get("redacted") is True else raw.sequence(interval.get("narrated_actions"), "narrated_actions")


def _usable(action, wearer_only: bool) -> list:
    """The frames of an action that counts, or []."""
    action = raw.mapping(action, "an action")
    if action.get("is_rejected") is True or action.get("is_invalid_annotation") is True or action.get("is_valid_action") is False:
        return []
    if wearer_only and _actor(action) not in ("C", None):
        return []
    return raw.sequence(action.get("frames"), "frames")


def _narration(action: dict) -> str | None:
    text = action.get("narration_text")
    return None if text is None else raw.text(text, "narration_text", empty=True) or None


def _actor(action: dict) -> str | None:
    """The tag of a narration, "C" of "#C C picks up a cup"; None if it has none."""
    found = _TAG.match(_narration(action) or "")
    return found[1].upper() if found else None


def plain(label) -> str:
    """A taxonomy label as plain words: "knife_(knife,_machete)" -> "knife", "cutting_board" -> "cutting board"; None -> ""."""
    return "" if label is None else " ".join(raw.text(label, "label", empty=True).split("_(")[0].split("(")[0].replace("_", " ").split())


def _main_scene(video_uid: str, size, interval: dict, action: dict, number: int, frame: dict, image: str) -> Scene | None:
    kind, video_frame = frame["frame_type"], raw.integer(frame["frame_number"], "frame_number")
    clip_uid = raw.text(interval["clip_uid"], "clip_uid")
    in_clip = action.get("clip_critical_frames")
    if isinstance(in_clip, dict) and in_clip.get(kind) is not None:
        clip_frame = raw.integer(in_clip[kind], f"clip_critical_frames {kind}")
    else:  # the same frame, counted from where the clip was cut out of the video
        start = raw.integer(interval["clip_parent_start_frame"], "clip_parent_start_frame")
        clip_frame = raw.integer(video_frame - start, "frame_number minus clip_parent_start_frame")
    return _scene(
        f"ego4d/{clip_uid}/{clip_frame}/{number}/{kind}", clip_uid, video_uid, clip_frame, video_frame, kind, size,
        raw.sequence(frame.get("boxes"), "boxes"), action, image,
    )


def _clip(clip, where: str, frames, image: str, on_error) -> Iterator[Scene]:
    for kind in ("pre_frame", "pnr_frame", "post_frame"):
        if kind in frames:
            scene = raw.attempt(lambda k=kind: _scod_scene(clip, k, image), f"{where}, {kind}", on_error)
            if scene is not None:
                yield scene


def _scod_scene(clip, kind: str, image: str) -> Scene | None:
    clip = raw.mapping(clip, "a clip")
    if kind not in clip and "frames" in clip:
        raise BadRecord("holds centres of hands, not boxes (fho_hands): give fho_main.json or fho_scod_train.json")
    frame = raw.mapping(clip[kind], kind)
    clip_uid, video_uid = raw.text(clip["clip_uid"], "clip_uid"), raw.text(clip["video_uid"], "video_uid")
    video_frame, clip_frame = (raw.integer(frame[k], k) for k in ("frame_number", "clip_frame_number"))
    size = (raw.side(frame["width"], "width"), raw.side(frame["height"], "height"))
    return _scene(
        f"ego4d/{clip_uid}/{clip_frame}/scod/{kind}", clip_uid, video_uid, clip_frame, video_frame, kind, size,
        raw.sequence(frame.get("bbox"), "bbox"), clip, image,
    )


def _scene(
    name: str, clip_uid: str, video_uid: str, clip_frame: int, video_frame: int, kind: str, size, rows: list, action: dict, image: str
) -> Scene | None:
    """The scene of one critical frame, or None if nothing in it has a box."""
    hands, objects, roles = [], [], []
    for row in rows:
        row = raw.mapping(row, "a box")
        role = raw.text(row["object_type"], "object_type")
        box = _box(row["bbox"], size)
        if box is None:
            continue
        if role in _HANDS:
            hands.append(Hand(_HANDS[role], box))
        else:
            objects.append(Object(plain(row.get("structured_noun")), box))
            roles.append(role)
    if not hands and not objects:
        return None
    verb = plain(action.get("structured_verb")) or plain(action.get("freeform_verb")) or None
    noun = next((o.name for o, r in zip(objects, roles) if r == "object_of_change" and o.name), None)
    extra = {"clip_uid": clip_uid, "video_uid": video_uid, "frame": clip_frame, "video_frame": video_frame}
    extra |= {"frame_type": kind, "roles": roles}
    if isinstance(action.get("state_transition"), str):
        extra["state_transition"] = action["state_transition"]
    if (actor := _actor(action)) is not None:
        extra["actor"] = actor
    return Scene(
        id=name, image=image.format(clip_uid=clip_uid, video_uid=video_uid, frame=clip_frame, video_frame=video_frame), size=size,
        hands=hands, objects=objects, action=f"{verb} {noun}" if verb and noun else None, narration=_narration(action), verb=verb,
        noun=noun, source="ego4d", extra=extra,
    )


def _box(row, size: tuple[int, int]) -> boxes.Box | None:
    """Pixel box of {x, y, width, height}, clipped to the picture; None if nothing of it is inside."""
    row = raw.mapping(row, "bbox")
    x, y, width, height = (raw.number(row[k], f"bbox {k}") for k in ("x", "y", "width", "height"))
    box = boxes.clip((x, y, x + width, y + height), size)
    return box if box[0] < box[2] and box[1] < box[3] else None
