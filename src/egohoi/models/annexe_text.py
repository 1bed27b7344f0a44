"""The text side of ANNEXE: where `<MSK>` tokens stand in an answer, how they are read back, and left and right in words.

One target: `mug <MSK>`. Several: `left hand <MSK_0> and mug <MSK_1>`. In a whole sentence the name is tagged, as in
`The <p>left hand</p> <MSK_0> holds the <p>mug</p> <MSK_1>.` No target: no token.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

#: Most targets of one answer.
SLOTS = 4
#: The tokens that the language model gains.
TOKENS = ("<MSK>", *(f"<MSK_{k}>" for k in range(SLOTS)))

#: The prompts of the reference (spelling included); the picture stands in front of the first one.
ANALYSIS_PROMPT = "[caption] Briefly describe the interaction between person and objects in this image."
QUERY_PROMPT = "[vqa] Based on the image, describe the things need to be segmented accorting to this prompt: {query}"

_TOKEN = re.compile(r"<MSK(?:_\d+)?>")
_TAGGED = re.compile(r"<p>(.*?)</p>\s*$", re.DOTALL)
_LINK = re.compile(r"^[\s,;.]*(?:and\b)?[\s,;.]*", re.IGNORECASE)


def tokens(count: int) -> tuple[str, ...]:
    """The mask tokens of an answer with `count` targets, at most SLOTS."""
    return TOKENS[:1] if count == 1 else TOKENS[1 : 1 + count]


def join(names: Sequence[str]) -> str:
    """Names joined with " and ", each followed by its mask token."""
    return " and ".join(f"{name} {token}" for name, token in zip(names, tokens(len(names))))


def tag(sentence: str, names: Sequence[str]) -> str:
    """`sentence` with each name tagged and followed by its mask token, names searched from left to right.

    A name that the sentence does not mention is appended, so that no target is lost.
    """
    text, missing, place = sentence, [], 0
    for name, token in zip(names, tokens(len(names))):
        found = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE).search(text, place)
        if found is None:
            missing.append(f"<p>{name}</p> {token}")
            continue
        marked = f"<p>{found.group()}</p> {token}"
        text = text[: found.start()] + marked + text[found.end() :]
        place = found.start() + len(marked)
    return " ".join([text, *missing]).strip()


@dataclass(frozen=True)
class Parsed:
    """An answer taken apart. text: for people, without tags and tokens. names: one for each mask token, in order."""

    text: str
    names: tuple[str, ...]


def parse(answer: str) -> Parsed:
    """Take an answer with mask tokens apart. A token without a name before it gets the name "target"."""
    names, start = [], 0
    for match in _TOKEN.finditer(answer):
        before = answer[start : match.start()]
        tagged = _TAGGED.search(before)
        name = tagged.group(1) if tagged else _LINK.sub("", before)
        names.append(" ".join(name.split()) or "target")
        start = match.end()
    text = re.sub(r"</?p>", "", _TOKEN.sub(" ", answer))
    return Parsed(re.sub(r"\s+([,.;?!])", r"\1", " ".join(text.split())), tuple(names))


_SIDES = {
    "left": "right", "right": "left", "leftmost": "rightmost", "rightmost": "leftmost", "lefthand": "righthand",
    "righthand": "lefthand", "leftward": "rightward", "rightward": "leftward", "leftwards": "rightwards", "rightwards": "leftwards",
    "clockwise": "counterclockwise", "counterclockwise": "clockwise", "anticlockwise": "clockwise",
}
_SIDE = re.compile(rf"\b(?:{'|'.join(sorted(_SIDES, key=len, reverse=True))})\b", re.IGNORECASE)


#: No sides: "she left the room", "is left on the table" (but "is left of the mug"), "right now".
_GONE = re.compile(r"\b(?:is|are|was|were|be|been|being|has|have|had|he|she|they|person|who)\s+$", re.IGNORECASE)
_BESIDE = re.compile(r"\s+(?:of|to|from|hand|side)\b", re.IGNORECASE)
_AT_ONCE = re.compile(r"\s+(?:now|away|after|before|here|there|angles?|amount)\b", re.IGNORECASE)


def mirror(text: str) -> str:
    """`text` about a picture that was flipped left to right: left and right change places, capitals stay.

    "left" as a form of "to leave" and "right" in phrases such as "right now" stay.
    """

    def other(match: re.Match) -> str:
        word, after = match.group(), text[match.end() :]
        if word.lower() == "left" and _GONE.search(text[: match.start()]) and re.match(r"\s+\w", after) and not _BESIDE.match(after):
            return word
        if word.lower() == "right" and _AT_ONCE.match(after):
            return word
        swapped = _SIDES[word.lower()]
        return swapped.upper() if word.isupper() else swapped.capitalize() if word[0].isupper() else swapped

    return _SIDE.sub(other, text)
