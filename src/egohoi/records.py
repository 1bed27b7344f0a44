"""The records that flow through the package: Scene, Hand, Object, Example, Query, Entity, Response.

All are frozen and validated on creation. Boxes are xyxy pixels of the original image, masks COCO RLEs of its size.
"""

import math
import reprlib
from dataclasses import asdict, dataclass, field
from numbers import Real
from typing import Any

from egohoi import boxes, masks
from egohoi.errors import BadQuery, BadRecord

SIDES = ("left", "right", "other")
TASKS = ("refer", "identify", "answer", "analyze", "ground")
#: Longest question in characters; longer ones are refused rather than cut.
MAX_QUESTION = 8000


def _score(value, what: str) -> None:
    """A detector's confidence lies in [0, 1] (NaN does not); None stands for a human label."""
    if value is not None and not (isinstance(value, Real) and not isinstance(value, bool) and 0 <= value <= 1):
        raise BadRecord(f"score of {what} must be a number from 0 to 1 or null, got {value!r}")


@dataclass(frozen=True)
class Hand:
    """One visible hand. side: left | right (the camera wearer's own) | other (another person's).

    contact: touches something (None: not labelled). object: index into the scene's objects of what it holds.
    glove: wears a glove (None: not labelled). score: confidence of a detector in [0, 1], None for human labels.
    """

    side: str
    box: boxes.Box
    contact: bool | None = None
    object: int | None = None
    mask: dict | None = None
    score: float | None = None
    glove: bool | None = None

    def __post_init__(self):
        if self.side not in SIDES:
            raise BadRecord(f"hand side must be one of {', '.join(SIDES)}, got {self.side!r}")
        object.__setattr__(self, "box", boxes.check(self.box, where=f"{self.side} hand box"))
        if self.contact not in (None, True, False):
            raise BadRecord(f"hand contact must be true, false or null, got {self.contact!r}")
        if self.object is not None and (not isinstance(self.object, int) or isinstance(self.object, bool) or self.object < 0):
            raise BadRecord(f"hand object must be an index or null, got {self.object!r}")
        if self.glove not in (None, True, False):
            raise BadRecord(f"hand glove must be true, false or null, got {self.glove!r}")
        _score(self.score, f"the {self.side} hand")


@dataclass(frozen=True)
class Object:
    """One object. hands: sides ("left", "right", "other") of the hands that hold or touch it; empty: it lies there."""

    name: str
    box: boxes.Box
    hands: tuple[str, ...] = ()
    mask: dict | None = None
    score: float | None = None

    def __post_init__(self):
        if not isinstance(self.name, str):
            raise BadRecord(f"object name must be a string, got {self.name!r}")
        object.__setattr__(self, "box", boxes.check(self.box, where=f"box of object '{self.name}'"))
        if self.hands:
            object.__setattr__(self, "hands", tuple(self.hands))
            if not all(h in SIDES for h in self.hands):
                raise BadRecord(f"hands of object '{self.name}' must be left, right or other, got {self.hands!r}")
        else:
            object.__setattr__(self, "hands", ())
        _score(self.score, f"object '{self.name}'")


@dataclass(frozen=True)
class Scene:
    """One image with its labels.

    image: path of the picture, relative to the data set's folder or absolute. size: (width, height) pixels.
    objects: active ones (with `hands`) and, where labelled, lying ones. exhaustive: whether every hand and every
    active object is labelled, so that absence means "none" (None: unknown). depth: path of a 16-bit depth image.
    verb, noun: structured narration. extra: what only one source knows (JSON values).
    """

    id: str
    image: str
    size: tuple[int, int]
    hands: tuple[Hand, ...] = ()
    objects: tuple[Object, ...] = ()
    action: str | None = None
    narration: str | None = None
    verb: str | None = None
    noun: str | None = None
    depth: str | None = None
    questions: tuple[dict, ...] = ()
    exhaustive: bool | None = None
    source: str = ""
    extra: dict = field(default_factory=dict)

    def __post_init__(self):
        if not isinstance(self.id, str) or not self.id:
            raise BadRecord(f"scene id must be a non-empty string, got {self.id!r}")
        where = f"scene '{self.id}'"
        if not isinstance(self.image, str):
            raise BadRecord(f"{where}: image must be a path, got {self.image!r}")
        if not isinstance(self.size, (list, tuple)) or len(self.size) != 2 or not all(isinstance(v, int) and v > 0 for v in self.size):
            raise BadRecord(f"{where}: size must be [width, height] in pixels, got {self.size!r}")
        object.__setattr__(self, "size", tuple(self.size))
        for name in ("action", "narration", "verb", "noun", "depth"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise BadRecord(f"{where}: {name} must be a text or null, got {reprlib.repr(value)}")
        if not isinstance(self.source, str) or not isinstance(self.extra, dict):
            raise BadRecord(f"{where}: source must be a text and extra an object")
        if self.exhaustive not in (None, True, False):
            raise BadRecord(f"{where}: exhaustive must be true, false or null, got {reprlib.repr(self.exhaustive)}")
        for name in ("hands", "objects", "questions"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for k, hand in enumerate(self.hands):
            if hand.object is not None and hand.object >= len(self.objects):
                raise BadRecord(f"{where}: hand {k} points to object {hand.object}, the scene has {len(self.objects)}")
        for item in (*self.hands, *self.objects):
            if item.mask is not None:
                masks.check(item.mask, self.size, where=where)

    def hand(self, side: str) -> Hand | None:
        """The first hand of that side, or None."""
        return next((h for h in self.hands if h.side == side), None)

    def held_by(self, side: str) -> tuple[Object, ...]:
        """Objects that the hand of that side holds or touches."""
        return tuple(o for o in self.objects if side in o.hands)


@dataclass(frozen=True)
class Example:
    """One training or test item: an image and a conversation about it.

    conversation: ((question, answer), ...). type: question type ("Q1".."Q8", "single", ...). Boxes in the text follow
    the codec named in `codec`. targets: COCO RLEs or boxes that the answer refers to, [{name, box, mask}, ...].
    """

    id: str
    image: str
    size: tuple[int, int]
    conversation: tuple[tuple[str, str], ...]
    type: str = ""
    source: str = ""
    codec: str = "braces"
    targets: tuple[dict, ...] = ()
    extra: dict = field(default_factory=dict)

    def __post_init__(self):
        if not self.id:
            raise BadRecord("example id must not be empty")
        object.__setattr__(self, "size", tuple(self.size))
        object.__setattr__(self, "conversation", tuple((str(q), str(a)) for q, a in self.conversation))
        if not self.conversation:
            raise BadRecord(f"example '{self.id}': the conversation is empty")
        object.__setattr__(self, "targets", tuple(self.targets))


@dataclass(frozen=True)
class Turn:
    """An earlier question about the same image and what was answered. box: xyxy pixels that the question was about."""

    question: str
    answer: str
    box: boxes.Box | None = None

    def __post_init__(self):
        for text in (self.question, self.answer):
            if not isinstance(text, str):
                raise BadQuery(f"an earlier turn is a question and an answer as texts, got {type(text).__name__}")
        if not self.question.strip() and self.box is None:
            raise BadQuery("an earlier turn has an empty question")
        if len(self.question) + len(self.answer) > MAX_QUESTION:
            raise BadQuery(f"an earlier turn has more than {MAX_QUESTION} characters: leave it out")
        if self.box is not None:
            object.__setattr__(self, "box", boxes.check(self.box, where="box of an earlier turn"))


@dataclass(frozen=True)
class Query:
    """One question about an image.

    text: the question as typed (may be empty only if `box` or `point` is given). box: xyxy pixels, point: (x, y) pixels
    to identify. task: one of TASKS, or None to let the model decide. mask: whether masks are wanted (None: model decides).
    history: earlier turns about the same image, oldest first; a model that answers one question at a time does not read them.
    """

    text: str = ""
    box: boxes.Box | None = None
    point: tuple[float, float] | None = None
    task: str | None = None
    mask: bool | None = None
    history: tuple[Turn, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "history", tuple(turn if isinstance(turn, Turn) else Turn(*turn) for turn in self.history))
        if not isinstance(self.text, str):
            raise BadQuery(f"a question is a text, got {type(self.text).__name__}")
        if not self.text.strip() and self.box is None and self.point is None:
            raise BadQuery("the question is empty: ask something, for example \"Where is the left hand?\"")
        if len(self.text) > MAX_QUESTION:
            raise BadQuery(f"the question has {len(self.text)} characters, at most {MAX_QUESTION} are read: shorten it")
        if self.task is not None and self.task not in TASKS:
            raise BadQuery(f"task must be one of {', '.join(TASKS)}, got {self.task!r}")
        if self.box is not None:
            object.__setattr__(self, "box", boxes.check(self.box, where="box of the question"))
        if self.point is not None:
            try:
                point = tuple(float(v) for v in self.point)
            except (TypeError, ValueError, OverflowError):
                point = ()
            if len(point) != 2 or not all(math.isfinite(v) for v in point):
                raise BadQuery(f"a point is x y in pixels, got {self.point!r}")
            object.__setattr__(self, "point", point)


@dataclass(frozen=True)
class Entity:
    """One thing that a response refers to. kind: hand | object. holds: indices of the entities that a hand holds."""

    name: str
    kind: str
    side: str | None
    box: boxes.Box
    score: float
    mask: dict | None = None
    holds: tuple[int, ...] | None = None

    def to_json(self) -> dict:
        return {
            "name": self.name, "kind": self.kind, "side": self.side, "box": [round(float(v), 1) for v in self.box],
            "score": round(float(self.score), 4), "mask": self.mask, "holds": list(self.holds) if self.holds is not None else None,
        }


@dataclass(frozen=True)
class Response:
    """The answer to a query; `to_json` is the public format of the command line, `predict` and the HTTP API.

    image: path or name as given. size: (width, height) pixels. milliseconds: time spent on image, text and mask.
    picture: the pixels, uint8 [H, W, 3] RGB, if kept for drawing (not part of the JSON).
    """

    image: str
    size: tuple[int, int]
    query: str
    task: str
    text: str
    target_found: bool
    entities: tuple[Entity, ...] = ()
    analysis: str | None = None
    model: str = ""
    milliseconds: dict = field(default_factory=lambda: {"image": 0, "text": 0, "mask": 0})
    picture: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "entities", tuple(self.entities))

    def to_json(self) -> dict:
        return {
            "image": self.image, "size": list(self.size), "query": self.query, "task": self.task, "text": self.text,
            "analysis": self.analysis, "target_found": bool(self.target_found),
            "entities": [e.to_json() for e in self.entities], "model": self.model,
            "milliseconds": {k: int(round(v)) for k, v in self.milliseconds.items()},
        }

    @classmethod
    def from_json(cls, row: dict, picture=None) -> "Response":
        """A response of what `to_json` gave. picture: its pixels, if it is to be drawn. Raises BadQuery, BadBox, BadRecord."""
        try:
            entities = [Entity(e["name"], e["kind"], e["side"], tuple(e["box"]), e["score"], e["mask"], e["holds"]) for e in row["entities"]]
            return cls(
                row["image"], tuple(row["size"]), row["query"], row["task"], row["text"], row["target_found"], entities, analysis=row["analysis"],
                model=row["model"], milliseconds=row["milliseconds"], picture=picture,
            )
        except (KeyError, TypeError) as error:
            raise BadQuery(f"is not a response of egohoi ({type(error).__name__}: {str(error)[:60]})") from error

    def draw(self):
        """The picture with boxes, names and masks as a PIL image. Raises BadImage if the pixels were not kept."""
        from egohoi.apps.draw import overlay

        return overlay(self)


def to_dict(record) -> dict:
    """A record as plain JSON values (tuples become lists, None stays)."""
    return asdict(record)
