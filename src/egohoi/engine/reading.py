"""What a model's text says: which task a question asks for, and which things an answer names and where."""

import re

from egohoi import boxes
from egohoi.boxes import Codec
from egohoi.records import Entity, Query

_REFER = re.compile(r"\b(where|locate|find|point (to|at)|which hand|show me)\b|^\s*\[refer\]", re.IGNORECASE)
_ANALYZE = re.compile(
    r"\bdescribe\b|\bwhat(?:'s| is) (happening|going on)\b|\bwhat (?:is|are) .*\bdoing\b|\bcaption\b|\bongoing action\b",
    re.IGNORECASE,
)
_NAMED = re.compile(r"\b(?:where (?:is|are|'s)|locate|find|show me|point (?:to|at))\s+(?:the|an|a|my)?\s*(.+)", re.IGNORECASE)
_TAIL = re.compile(r"\s+(?:in|on) (?:this|the) (?:image|photo|picture|scene)\b.*|\s+of the person\b.*|[?.!\s]+$", re.IGNORECASE)
_HELD = re.compile(r"\bobjects?\b.*\b(left|right|hand|hands|person)\b", re.IGNORECASE)


def guess_task(query: Query, codec: Codec) -> str:
    """The task that a question asks for by its wording: refer, identify, answer or analyze; `query.task` if it is given."""
    if query.task is not None:
        return query.task
    inside = bool(re.search(codec.pattern, query.text))
    words = codec.strip(query.text)
    if (query.box is not None or query.point is not None or inside) and not words:
        return "identify"
    if _REFER.search(words):
        return "refer"
    if _ANALYZE.search(words):
        return "analyze"
    return "identify" if inside or query.box is not None or query.point is not None else "answer"


def asked_name(question: str) -> str:
    """The name of what a referral question looks for: "Where is the left hand?" -> "left hand"; "object" if it names none."""
    if re.search(r"\bwhich hand\b", question, re.IGNORECASE):
        return "hand"
    if _HELD.search(question):
        return "object"
    found = _NAMED.search(question)
    if not found:
        return "object"
    name = found.group(1)
    while (shorter := _TAIL.sub("", name).strip()) != name:
        name = shorter
    return {"hands": "hand"}.get(name.lower(), name) or "object"


def kind_of(name: str) -> tuple[str, str | None]:
    """("hand", "left" | "right" | None) or ("object", None) for a name as written by a model."""
    lower = name.lower()
    if not re.search(r"\bhands?\b", lower) or re.search(r"\bhand (towel|soap|cream|saw|mixer|blender)\b", lower):
        return "object", None
    side = re.search(r"\b(left|right)\b", name, re.IGNORECASE)
    return "hand", side.group(1).lower() if side else None


def read_entities(
    text: str, size: tuple[int, int], codec: Codec, *, default_name: str = "object", score: float = 1.0,
    seen_size: tuple[int, int] | None = None,
) -> tuple[Entity, ...]:
    """The things that a text names with boxes, in order: `<p>cup</p> {box}<delim>{box}` and plain boxes.

    size: (width, height) of the original picture. seen_size: of the picture that the model saw, for codecs in its pixels;
    default: the original. default_name: for boxes without a phrase. score: given to every entity.
    Boxes are cut to the picture; reversed or empty ones, or ones outside it, are left out (the text keeps them).
    """
    seen = seen_size or size
    found = []
    phrase, end = None, None
    token = re.compile(rf"<p>(?P<phrase>.*?)</p>|(?P<box>{codec.pattern})", re.DOTALL)
    for match in token.finditer(text):
        if match.group("phrase") is not None:
            phrase, end = " ".join(match.group("phrase").split()), match.end()
            continue
        # A phrase holds for the boxes right behind it, with delimiters between, and for none further on.
        if end is not None and re.fullmatch(r"(\s|<delim>|,|and)*", text[end : match.start()]):
            end = match.end()
        else:
            phrase, end = None, None
        raw = codec.decode(match.group("box"), seen)[0]
        box = boxes.clip(boxes.scale(raw, size[0] / seen[0], size[1] / seen[1]), size)
        if boxes.area(box) <= 0:
            continue
        name = phrase or default_name
        kind, side = kind_of(name)
        found.append(Entity(name=name, kind=kind, side=side, box=box, score=score))
    return tuple(found)
