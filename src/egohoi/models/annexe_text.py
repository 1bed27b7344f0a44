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


_HAND = re.compile(r"\bhands?$", re.IGNORECASE)
#: Where the words that name a thing end and those that say where it is begin.
_PLACE = re.compile(r"\s+(?:in|on|of|at|with|that|which|held|holding|near|under|behind|from|to)\b.*", re.IGNORECASE | re.DOTALL)


def is_hand(name: str) -> bool:
    """Whether a name means a hand: "left hand", "hand of the person"; not "hand towel", "mug in the left hand"."""
    return _HAND.search(_PLACE.sub("", name.strip())) is not None


_SIDES = {
    "left": "right", "right": "left", "leftmost": "rightmost", "rightmost": "leftmost", "lefthand": "righthand",
    "righthand": "lefthand", "leftward": "rightward", "rightward": "leftward", "leftwards": "rightwards", "rightwards": "leftwards",
    "clockwise": "counterclockwise", "counterclockwise": "clockwise", "anticlockwise": "clockwise",
}
_SIDE = re.compile(rf"\b(?:{'|'.join(sorted(_SIDES, key=len, reverse=True))})\b", re.IGNORECASE)


#: No sides: "she left the room", "is left on the table" (but "is left of the mug"), "the mug left on the table", "right now",
#: "right behind the mug" (but "the hand on the right behind the mug").
_GONE = re.compile(r"\b(?:is|are|was|were|be|been|being|has|have|had|he|she|they|person|who)\s+$", re.IGNORECASE)
_BESIDE = re.compile(r"\s+(?:of|to|from|hand|side)\b", re.IGNORECASE)
_AT_ONCE = re.compile(r"\s+(?:now|away|after|before|here|there|angles?|amount)\b", re.IGNORECASE)
#: What follows a thing that was left somewhere, or stands right there.
_SOMEWHERE = re.compile(
    r"\s+(?:on|in|at|inside|behind|next|above|below|beneath|under|underneath|beside|over|out|alone|open|unattended)\b", re.IGNORECASE
)
#: What stands before a side that is meant as one: "the left", "on her left", "the person's right", "left and right".
_MEANT = re.compile(
    r"(?:^|\b(?:a|an|the|this|that|my|your|his|her|its|our|their|whose|to|on|at|from|of|in|with|by|and|or|far|upper|lower|top|bottom)\s+|'s?\s+|[^\w\s]\s*)$",
    re.IGNORECASE,
)


def mirror(text: str) -> str:
    """`text` about a picture that was flipped left to right: left and right change places, capitals stay.

    "left" as a form of "to leave" and "right" in phrases such as "right now" or "right behind the mug" stay.
    """

    def other(match: re.Match) -> str:
        word, before, after = match.group(), text[: match.start()], text[match.end() :]
        if word.lower() == "left" and _GONE.search(before) and re.match(r"\s+\w", after) and not _BESIDE.match(after):
            return word
        if word.lower() == "right" and _AT_ONCE.match(after):
            return word
        if word.lower() in ("left", "right") and _SOMEWHERE.match(after) and not _MEANT.search(before):
            return word
        swapped = _SIDES[word.lower()]
        return swapped.upper() if word.isupper() else swapped.capitalize() if word[0].isupper() else swapped

    return _SIDE.sub(other, text)
