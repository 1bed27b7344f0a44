"""EPIC-KITCHENS-100 hand-object detections: hands with side and contact state, objects without a name, for every frame.

Source: repository epic-kitchens/epic-kitchens-100-hand-object-bboxes (`src/public_lib/epic_kitchens/hoa/types.proto`, `io.py`,
`types.py`; the detector is Shan et al., CVPR 2020). One file a video, `P01_101.pkl`: a pickled list with one serialised
protobuf message a frame. Boxes and offsets are fractions of the picture; frames count from 1.
"""

import pickletools
import struct
from collections.abc import Container, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from egohoi import boxes
from egohoi.errors import BadData, BadRecord, need
from egohoi.records import Hand, Object, Scene
from egohoi.scenes import epic_narrations, raw

IMAGE, SIZE = epic_narrations.IMAGE, epic_narrations.SIZE
#: `HandState` and `HandSide` of types.proto, by number.
STATES = ("no contact", "self contact", "another person", "portable object", "stationary object")
SIDES = ("left", "right")
#: Largest serialised frame that is believed, in bytes: 10,000 detections.
MAX_MESSAGE = 1 << 20


def read(
    path, *, hand_score: float = 0.5, object_score: float = 0.5, every: int = 1,
    frames: Mapping[str, Container[int]] | None = None, narrations=None, image: str = IMAGE, size: tuple[int, int] = SIZE,
    on_error: raw.OnError = None,
) -> Iterator[Scene]:
    """Scenes of detection files, streaming: one `.pkl` file, or a folder of them. Nothing in a file is executed.

    hand_score, object_score: detections below are left out (the release holds hands from 0.1, objects from 0.01; its README
    recommends 0.5). every: only each `every`-th frame, from frame 1. frames: only these, {video: frames}. narrations: path of
    EPIC_100_*.csv or an epic_narrations.Narrations: fills action, narration, verb, noun. image: path template with the fields
    video, participant, frame. size: (width, height) of the pictures that the boxes are scaled to. Ids: "epic-hands/P01_101/1".

    Hands and objects are sorted by score. A hand on a portable or stationary object is linked to the object whose centre is
    nearest to the hand's centre plus its offset, in pixels; self contact and contact with a person are contact without an
    object. Objects have no class: their name is "". extra: video, frame, hand_states (one a hand), narration_id.
    Raises BadData, BadRecord (file and frame); on_error collects broken frames instead.
    """
    if every < 1:
        raise BadData(f"every must be a number of frames from 1, got {every}")
    raw.template(image, video="", participant="", frame=1)
    said = epic_narrations.as_index(narrations)
    for file in raw.files(path, ".pkl"):
        for count, data in enumerate(_messages(file, on_error), 1):
            where = f"{file}: frame {count}"
            message = raw.attempt(lambda data=data: decode(data), where, on_error)
            if message is None or (message.frame_number - 1) % every:
                continue
            if frames is not None and message.frame_number not in frames.get(message.video_id, ()):
                continue
            scene = raw.attempt(lambda m=message: _scene(m, hand_score, object_score, said, image, size), where, on_error)
            if scene is not None:
                yield scene


@lru_cache(1)
def schema() -> dict:
    """The message classes of types.proto by name (Detections, HandDetection, ObjectDetection, BBox, FloatVector).

    Made from a descriptor, so that no generated file ties this package to one version of protobuf.
    """
    need("google.protobuf", "data")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="egohoi/epic_hands.proto", package="model.detections", syntax="proto3")

    def message(name: str, *fields) -> descriptor_pb2.DescriptorProto:
        made = file.message_type.add(name=name)
        for number, (field, type_, type_name, many) in enumerate(fields, 1):
            label = kind.LABEL_REPEATED if many else kind.LABEL_OPTIONAL
            full = f".model.detections.{type_name}" if type_name else None
            made.field.add(name=field, number=number, type=type_, type_name=full, label=label)
        return made

    def real(name: str):
        return (name, kind.TYPE_FLOAT, None, False)

    def part(name: str, type_name: str, type_=kind.TYPE_MESSAGE, many: bool = False):
        return (name, type_, type_name, many)

    message("FloatVector", real("x"), real("y"))
    message("BBox", real("left"), real("top"), real("right"), real("bottom"))
    hand = message(
        "HandDetection", part("bbox", "BBox"), real("score"), part("state", "HandDetection.HandState", kind.TYPE_ENUM),
        part("object_offset", "FloatVector"), part("side", "HandDetection.HandSide", kind.TYPE_ENUM),
    )
    for name, values in (("HandState", STATES), ("HandSide", SIDES)):
        enum = hand.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value.replace(" ", "_").upper(), number=number)
    message("ObjectDetection", part("bbox", "BBox"), real("score"))
    message(
        "Detections", ("video_id", kind.TYPE_STRING, None, False), ("frame_number", kind.TYPE_INT32, None, False),
        part("hands", "HandDetection", many=True), part("objects", "ObjectDetection", many=True),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = [m.name for m in file.message_type]
    return {n: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"model.detections.{n}")) for n in names}


def decode(data: bytes):
    """A serialised frame -> Detections message. Raises BadRecord."""
    from google.protobuf.message import DecodeError

    message = schema()["Detections"]()
    try:
        message.ParseFromString(data)
    except (DecodeError, RuntimeError) as error:
        raise BadRecord(f"not a serialised Detections message ({raw.short(error)})") from error
    if not message.video_id or message.frame_number < 1:
        raise BadRecord("has no video_id or no frame_number from 1")
    return message


class _Reader:
    """A file for pickletools that refuses lengths which no detection file has, before memory is asked for them."""

    def __init__(self, file):
        self._file = file

    def read(self, count: int) -> bytes:
        if count > MAX_MESSAGE:
            raise ValueError(f"an entry of {count} bytes")
        return self._file.read(count)

    def readline(self) -> bytes:
        return self._file.readline(4096)

    def tell(self) -> int:
        return self._file.tell()


def _messages(path: Path, on_error: raw.OnError) -> Iterator[bytes]:
    """The byte strings of a pickled list, one at a time.

    The pickle's opcodes are read but not run: only those of a plain list of byte strings are known, so that a hostile file
    can neither call anything nor fill the memory. (`pickle.load`, which the release uses, does whatever the file says.)
    """
    known = ("PROTO", "FRAME", "EMPTY_LIST", "MARK", "APPENDS", "APPEND", "MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT")
    payload = ("SHORT_BINBYTES", "BINBYTES", "BINBYTES8")
    count, last = 0, ""
    try:
        with open(path, "rb") as file:
            for opcode, argument, position in pickletools.genops(_Reader(file)):
                last = opcode.name
                if last in payload:
                    count += 1
                    yield argument
                elif last not in known and last != "STOP":
                    raise BadRecord(
                        f"{path}: byte {position}: is a pickle of something else than a list of serialised frames ({last})"
                    )
        if last == "STOP" and count == 0:
            raise BadRecord(f"{path}: holds no frames")
    except BadRecord as error:
        raw.report(error, on_error)
    except OSError as error:
        raw.report(BadData(f"{path}: cannot be read ({error.strerror or error})"), on_error)
    except (ValueError, EOFError, struct.error, OverflowError, MemoryError) as error:
        raw.report(
            BadRecord(f"{path}: damaged or cut short after frame {count} ({raw.short(error)}): download it again"), on_error
        )


def _scene(message, hand_score: float, object_score: float, said, image: str, size: tuple[int, int]) -> Scene:
    hands = sorted((h for h in message.hands if _score(h) >= hand_score), key=lambda h: -h.score)
    things = sorted((o for o in message.objects if _score(o) >= object_score), key=lambda o: -o.score)
    placed = [(o, b) for o, b in ((o, _box(o.bbox, size)) for o in things) if b is not None]
    centres = [_centre(b) for _, b in placed]
    touched: dict[int, list[str]] = {k: [] for k in range(len(placed))}
    made, states = [], []
    for hand in hands:
        if not 0 <= hand.state < len(STATES) or not 0 <= hand.side < len(SIDES):
            raise BadRecord(f"a hand has state {hand.state} and side {hand.side}, known are 0 to 4 and 0 to 1")
        box, side = _box(hand.bbox, size), SIDES[hand.side]
        if box is None:
            continue
        target = _nearest(hand, box, centres, size) if hand.state >= STATES.index("portable object") else None
        if target is not None and side not in touched[target]:
            touched[target].append(side)
        made.append(Hand(side, box, contact=hand.state > 0, object=target, score=_score(hand)))
        states.append(STATES[hand.state])
    objects = [Object("", b, tuple(touched[k]), score=_score(o)) for k, (o, b) in enumerate(placed)]
    video, frame = message.video_id, message.frame_number
    extra = {"video": video, "frame": frame, "hand_states": states}
    found = said.at(video, frame) if said is not None else []
    if found:
        extra["narration_id"] = found[0].id
    return Scene(
        id=f"epic-hands/{video}/{frame}", image=image.format(video=video, participant=video.split("_")[0], frame=frame),
        size=size, hands=made, objects=objects, source="epic-hands", extra=extra, **epic_narrations.labels(found),
    )


def _score(detection) -> float:
    # Scores are 32-bit: 0.9 comes back as 0.8999999761581421, which no reader of the JSON wants to see.
    return round(raw.number(detection.score, "score", 0, 1), 6)


def _box(box, size: tuple[int, int]) -> boxes.Box | None:
    """Pixel box of a BBox in fractions of the picture, or None if nothing of it lies inside (the detector clips to 0..1)."""
    edges = [raw.number(v, "a box edge", -1, 2) for v in (box.left, box.top, box.right, box.bottom)]
    # 32-bit fractions of whole detector pixels: a thousandth of a pixel is far below what they hold.
    x1, y1, x2, y2 = (round(v, 3) for v in boxes.clip(boxes.scale(edges, *size), size))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def _centre(box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _nearest(hand, box, centres, size) -> int | None:
    """Index of the object centre nearest to where the hand's offset points, in pixels (`get_hand_object_interactions`)."""
    if not centres:
        return None
    x = _centre(box)[0] + raw.number(hand.object_offset.x, "object offset", -2, 2) * size[0]
    y = _centre(box)[1] + raw.number(hand.object_offset.y, "object offset", -2, 2) * size[1]
    return min(range(len(centres)), key=lambda k: (centres[k][0] - x) ** 2 + (centres[k][1] - y) ** 2)
