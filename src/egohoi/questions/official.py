"""The five files of HOI-QA, read as they are published and written in the same layout, both streaming.

Source: repository Sid2697/HOI-Ref (`hoiqa_dataset/HOIQA_README.md`, `vlm4hoi/datasets/datasets/*_conversation.py`,
`eval_scripts/`).

    epic-kitchens-train.json  [{id, image, conversations: [{from, value}, ...]}, ...]       image: no extension, below the frames
    ego4d-train.json          [{id, image_path, conversations}, ...]                        boxes on the 0-100 grid in both
    epic-test.json            {key: {noun, bbox: [x1, y1, x2, y2], image_path}, ...}        boxes in pixels, asked both ways
    ego4d-test.json           the same
    epic-visor-test.json      [{id, image_path, question, answer}, ...]                     answer: box, text of boxes, or name

Data that is neither EPIC-KITCHENS nor Ego4D goes to `other-train.json`, `other-test.json` and `other-hoi-test.json`, with a
`size` [width, height] in each record, because no canvas is fixed for it.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from egohoi import boxes
from egohoi.errors import BadData, BadRecord, EgohoiError
from egohoi.questions import hoiqa
from egohoi.records import Example

#: Pixels that the published test boxes refer to (HOI-Ref, `eval_scripts/evaluate.py`).
CANVAS = {"epic": (1920, 1080), "ego4d": (1440, 1080)}
#: The published files: (family of sources, role) -> name. Roles: train, test (name and box), hoi (who holds what).
FILES = {
    ("epic", "train"): "epic-kitchens-train.json", ("epic", "test"): "epic-test.json", ("epic", "hoi"): "epic-visor-test.json",
    ("ego4d", "train"): "ego4d-train.json", ("ego4d", "test"): "ego4d-test.json",
}
#: Where frames lie below a folder of frames, as the README of the data set lays them out.
PLACES = ("", "EPIC_Kitchens/frames", "Ego4D/v2/frames", "frames")
#: Longest record that is believed, in characters.
MAX_RECORD = 16 << 20
_CHUNK = 1 << 20
#: One encoder for all records: `json.dumps` with options makes a new one a call.
_dumps = json.JSONEncoder(ensure_ascii=False).encode
_FAMILIES = {"visor": "epic", "epic-hands": "epic", "epic-narrations": "epic", "epic": "epic", "ego4d": "ego4d"}
_QUESTIONS = (
    ("Q2", re.compile(r"what is happening", re.IGNORECASE)), ("Q3", re.compile(r"where is the object being man", re.IGNORECASE)),
    ("Q4", re.compile(r"what is the person holding", re.IGNORECASE)), ("Q5", re.compile(r"is the \w+ hand holding or touching", re.IGNORECASE)),
    ("Q7", re.compile(r"describe the ongoing action", re.IGNORECASE)), ("Q6", re.compile(r"where (is|are) the", re.IGNORECASE)),
)
_SUBSETS = (
    ("handN2handBB", re.compile(r"where (is|are) the ((left|right) hand|hands) of the person", re.IGNORECASE)),
    ("handN2objBB", re.compile(r"locate the object being manipulated by", re.IGNORECASE)),
    ("objN2handBB", re.compile(r"which hand has the", re.IGNORECASE)), ("objN2handN", re.compile(r"what hand is holding the", re.IGNORECASE)),
    ("handN2objN", re.compile(r"what is the object in the", re.IGNORECASE)),
)
#: Two boxes of one answer stand in the text in braces, in pixels (HOI-Ref, `evaluate.py`: they are compared unscaled).
_PIXELS = boxes.Codec("pixels", None, "{{<{x1}><{y1}><{x2}><{y2}>}}", boxes.BRACES.pattern)
_TAG = re.compile(r"\[.*?\] ")
_NUMBER = re.compile(r"frame_(\d{1,12})(\.\w+)")
_SPACE = re.compile(r"\s*")


def family(source: str) -> str:
    """"epic", "ego4d" or "other": which files the questions of a source go to."""
    return _FAMILIES.get(source, "other")


def name_of(source: str, role: str) -> str:
    """File that questions of `source` go to; role: "train", "test" or "hoi"."""
    kind = family(source)
    return FILES.get((kind, role)) or ("other-hoi-test.json" if role == "hoi" else f"{kind}-{role}.json")


# Reading ------------------------------------------------------------------------------------------------------------------


def records(path) -> Iterator[tuple[str | None, object]]:
    """(key, value) of each member of a JSON file that is one list (key None) or one object, streaming.

    Memory holds one record at a time. Raises BadData (no such file, not a list or object), BadRecord (file and record).
    """
    try:
        file = open(path, encoding="utf-8", errors="replace")  # noqa: SIM115  closed below, with the errors of reading
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror or error})") from error
    with file:
        yield from _Members(file, str(path))


class _Members:
    """Members of the outermost list or object of an open JSON file: whole values are decoded out of a sliding window."""

    def __init__(self, file, name: str):
        self._file, self._name, self._text, self._at, self._count = file, name, "", 0, 0
        self._decoder = json.JSONDecoder()

    def __iter__(self):
        first = self._next()
        if first not in ("[", "{"):
            raise BadData(f"{self._name}: expected a JSON list or object, got {first!r}: not a file of HOI-QA")
        closing, keyed = ("]", False) if first == "[" else ("}", True)
        mark = self._next()
        if mark == closing:
            return
        self._at -= 1
        while True:
            self._count += 1
            key = None
            if keyed:
                key = self._value()
                if not isinstance(key, str) or self._next() != ":":
                    raise self._broken("expected a key and ':'")
            yield key, self._value()
            mark = self._next()
            if mark == closing:
                return
            if mark != ",":
                raise self._broken(f"expected ',' or '{closing}'" + (", the file ends" if not mark else f", got {mark!r}"))

    def _broken(self, what: str) -> BadRecord:
        return BadRecord(f"{self._name}: record {self._count}: not JSON ({what}): download it again")

    def _more(self) -> bool:
        chunk = self._file.read(max(_CHUNK, len(self._text) - self._at))  # doubling: a long record is not scanned again and again
        self._text, self._at = self._text[self._at:] + chunk, 0
        return bool(chunk)

    def _next(self) -> str:
        """The next character that is not white space, "" at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()
            if self._at < len(self._text):
                self._at += 1
                return self._text[self._at - 1]
            if not self._more():
                return ""

    def _value(self):
        if self._next():
            self._at -= 1
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                # A number at the very end of the window may go on in the next chunk.
                if end < len(self._text) or not self._more():
                    self._at = end if end <= len(self._text) else self._at
                    return value
                continue
            except (ValueError, RecursionError) as error:
                if isinstance(error, RecursionError) or len(self._text) - self._at > MAX_RECORD:
                    raise self._broken("too deep" if isinstance(error, RecursionError) else "a record of over 16 MB") from error
                if not self._more():
                    raise self._broken(str(error)[:60]) from error


def read(path, *, canvas: tuple[int, int] | None = None) -> Iterator[Example]:
    """Examples of one of the five files, told apart by what its records hold, streaming.

    canvas: (width, height) that the boxes refer to; None: a record's own `size`, else 1440x1080 for Ego4D and 1920x1080 for
    EPIC-KITCHENS (HOI-Ref's canvases). Records of the test files with noun and bbox give two examples: referral, id `KEY:ref`,
    and identification, id `KEY:iden`. Test boxes are `targets` in pixels. Questions come without `<image>` and task tag.
    Raises BadData, BadRecord (file and record).
    """
    name = Path(path).name.lower()
    for number, (key, row) in enumerate(records(path), 1):
        where = f"{path}: record {number}" + (f" ('{key[:60]}')" if key is not None else "")
        try:
            yield from _examples(row, key, name, number, canvas)
        except EgohoiError as error:
            raise BadRecord(f"{where}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise BadRecord(f"{where}: not of HOI-QA ({type(error).__name__}: {str(error)[:80]})") from error


def _examples(row, key, name: str, number: int, canvas) -> list[Example]:
    if not isinstance(row, dict):
        raise BadRecord(f"expected an object, got {type(row).__name__}")
    if "conversations" in row:
        return [_read_train(row, number, canvas)]
    if "question" in row:
        return [_read_hoi(row, number, canvas)]
    if "noun" in row:
        return _read_test(row, key if key is not None else str(row.get("id", number)), name, canvas)
    raise BadRecord("has no conversations, question or noun")


def _size(row: dict, canvas, ego4d: bool) -> tuple[int, int]:
    if canvas is not None:
        return canvas
    if "size" in row:
        width, height = row["size"]
        if not all(isinstance(v, int) and v > 0 for v in (width, height)):
            raise BadRecord(f"size must be [width, height], got {row['size']!r:.60}")
        return width, height
    return CANVAS["ego4d" if ego4d else "epic"]


def _text(row: dict, name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise BadRecord(f"'{name}' must be a text, got {value!r:.60}")
    return value


def _read_train(row: dict, number: int, canvas) -> Example:
    turns = row["conversations"]
    if not isinstance(turns, list) or len(turns) < 2 or len(turns) % 2:
        raise BadRecord("conversations must hold questions and answers in turn")
    values = [_text(t, "value") for t in turns]
    for k, turn in enumerate(turns):
        speaker = turn.get("from")
        if (speaker == "human") != (k % 2 == 0):
            raise BadRecord(f"turn {k + 1} of the conversation is said by {speaker!r:.40}")
    # As the reference reads it: only the first question carries the image, on a line of its own.
    values[0] = values[0].replace("<image>", "").replace("\n", "").strip()
    pairs = tuple(zip(values[0::2], values[1::2]))
    epic = "image" in row
    image = _text(row, "image") + ".jpg" if epic else _text(row, "image_path")
    source = row.get("source") or ("epic" if epic else "other" if "size" in row else "ego4d")
    return Example(
        id=str(row.get("id", number)), image=image, size=_size(row, canvas, not epic), conversation=pairs,
        type="+".join(dict.fromkeys(kind_of(q, a) for q, a in pairs)), source=str(source),
    )


def _read_hoi(row: dict, number: int, canvas) -> Example:
    question, answer = _text(row, "question"), row["answer"]
    tag = _TAG.match(question)
    size = _size(row, canvas, False)
    if isinstance(answer, str):
        found = [list(b) for b in _PIXELS.decode(answer, size)]
    else:
        found = [list(boxes.check(answer, where="answer"))]
    text = hoiqa.DELIMITER.join(boxes.BRACES.encode(b, size) for b in found) if found else answer
    return Example(
        id=str(row.get("id", number)), image=_text(row, "image_path"), size=size, conversation=((_TAG.sub("", question), text),),
        type=subset_of(question), source="other" if "size" in row else "epic",
        targets=tuple({"name": "", "box": b} for b in found), extra={"file": "hoi", "tag": tag.group() if tag else ""},
    )


def _read_test(row: dict, key: str, name: str, canvas) -> list[Example]:
    noun, image = _text(row, "noun"), _text(row, "image_path")
    ego4d = name.startswith("ego4d") or "Ego4D" in image
    size = _size(row, canvas, ego4d)
    box = [float(v) for v in row["bbox"]]  # the reference accepts numbers as text
    boxes.check(box, where="bbox")
    text = boxes.BRACES.encode(box, size)
    kind = "hand" if noun in ("left hand", "right hand") else "obj"
    shared = {"image": image, "size": size, "source": "other" if "size" in row else "ego4d" if ego4d else "epic"}
    extra = {"file": "test", "tag": ""}
    if kind == "hand":
        extra["side"] = noun.split()[0]
    target = ({"name": noun, "box": box},)
    return [
        Example(
            id=f"{key}:ref", conversation=((f"Where is the {noun}", text),), type=f"{kind}N2{kind}BB", targets=target, extra=extra, **shared
        ),
        Example(id=f"{key}:iden", conversation=((text, noun),), type=f"{kind}BB2{kind}N", targets=target, extra=extra, **shared),
    ]


def kind_of(question: str, answer: str) -> str:
    """The question type, "Q1" to "Q8", of a training pair in the wording of the reference; "" if it is none of them."""
    if boxes.BRACES.decode(question, (100, 100)) and not boxes.BRACES.strip(question):
        return "Q1"
    for kind, pattern in _QUESTIONS:
        if pattern.match(question):
            return kind
    return "Q8" if answer.startswith("<p>") else ""


def subset_of(question: str) -> str:
    """The test subset of a question of `epic-visor-test.json`; "" if it is none of the known strings."""
    plain = _TAG.sub("", question)
    return next((subset for subset, pattern in _SUBSETS if pattern.match(plain)), "")


# Writing ------------------------------------------------------------------------------------------------------------------


def to_train(example: Example) -> dict:
    """A training example as a record of the train files."""
    turns = []
    for k, (question, answer) in enumerate(example.conversation):
        turns.append({"from": "human", "value": f"<image>\n{question}" if k == 0 else question})
        turns.append({"from": "gpt", "value": answer})
    return {"id": example.id, **_place(example, train=True), "conversations": turns}


def to_test(example: Example) -> tuple[str, dict] | None:
    """(key, record) of a referral example for the test files; None for the identification example, which shares it."""
    key, _, way = example.id.rpartition(":")
    if way != "ref":
        return None
    target = example.targets[0]
    return key, {"noun": target["name"], "bbox": _pixels(target["box"], example), **_place(example)}


def to_hoi(example: Example) -> dict:
    """An example about hands and who holds what, as a record of `epic-visor-test.json`."""
    question, answer = example.conversation[0]
    found = [_pixels(t["box"], example) for t in example.targets]
    if example.type in ("objN2handN", "handN2objN"):
        value = answer
    elif len(found) == 1:
        value = found[0]
    else:
        value = hoiqa.DELIMITER.join("{<%g><%g><%g><%g>}" % tuple(b) for b in found)  # noqa: UP031  braces of the format itself
    place = _place(example)
    if family(example.source) == "ego4d":  # published nowhere, so no canvas is agreed for it
        place["size"] = list(CANVAS["ego4d"])
    return {"id": example.id, **place, "question": example.extra.get("tag", "") + question, "answer": value}


def _pixels(box, example: Example) -> list[float]:
    """A target's box in pixels of the canvas that its file is evaluated on."""
    width, height = CANVAS.get(family(example.source), example.size)
    scaled = boxes.scale(boxes.clip(box, example.size), width / example.size[0], height / example.size[1])
    return [round(v, 2) for v in scaled]


def _place(example: Example, train: bool = False) -> dict:
    kind = family(example.source)
    if kind == "epic" and train:
        place = example.image.split("EPIC_Kitchens/frames/")[-1]
        return {"image": place.rsplit(".", 1)[0] if "." in place.rsplit("/", 1)[-1] else place}
    return {"image_path": example.image} | ({"size": list(example.size)} if kind == "other" else {})


def role_of(example: Example) -> str:
    """"train", "test" or "hoi": which of a family's files an example goes to."""
    return example.extra.get("file", "train")


def member(example: Example) -> str | None:
    """The example as one member of its file, JSON text without separator; None if another example writes that member."""
    role = role_of(example)
    if role == "train":
        return _dumps(to_train(example))
    if role == "hoi":
        return _dumps(to_hoi(example))
    record = to_test(example)
    return None if record is None else f"{_dumps(record[0])}: {_dumps(record[1])}"


def brackets(name: str) -> tuple[str, str]:
    """What opens and closes the file of that name."""
    return ("{", "}") if name in ("epic-test.json", "ego4d-test.json", "other-test.json") else ("[", "]")


# Frames -------------------------------------------------------------------------------------------------------------------


class Frames:
    """Where frames are: looks a picture up below `root` in the layout of the data set. Folders are listed once, not probed."""

    def __init__(self, root):
        self.root = Path(root)
        if not self.root.is_dir():
            raise BadData(f"{root}: no such folder: give the folder that holds the frames")
        self._folders: dict[str, frozenset] = {}

    def find(self, image: str) -> Path | None:
        """The file of a picture as a record names it, or None: below root, as VIDEO/FRAME below PLACES, or as it is from here.

        The last is for pictures of one's own, which records name as their annotations were opened.
        """
        video_and_frame = "/".join(image.split("/")[-2:])
        places = [image, *(f"{p}/{video_and_frame}" if p else video_and_frame for p in PLACES)]
        for path in (*(self.root / p for p in places), Path(image)):  # an absolute place stays absolute
            names = self._names(path.parent)
            if found := next((n for n in _spellings(path.name) if n in names), None):
                return path.with_name(found)
        return None

    def _names(self, folder: Path) -> frozenset:
        key = str(folder)
        if key not in self._folders:
            if len(self._folders) > 4096:
                self._folders.clear()
            try:
                self._folders[key] = frozenset(p.name for p in folder.iterdir())
            except OSError:
                self._folders[key] = frozenset()
        return self._folders[key]


def _spellings(name: str) -> tuple[str, ...]:
    """How a frame's name is spelt: with ten digits, as HOI-QA does, or with as few as needed."""
    number = _NUMBER.fullmatch(name)
    return (name, f"frame_{int(number[1]):010d}{number[2]}", f"frame_{int(number[1])}{number[2]}") if number else (name,)


def missing(images: Iterable[str], frames: Frames) -> Iterator[str]:
    """The pictures that are not there, each once, in order of first appearance."""
    seen: set[str] = set()
    for image in images:
        if image not in seen:
            seen.add(image)
            if frames.find(image) is None:
                yield image
