"""English for questions and answers: noun phrases of the source vocabularies, third person of verbs, whole sentences.

Pure functions of text. The vocabularies are those of EPIC-KITCHENS-100 (`board:chopping`, `turn-on`), VISOR and Ego4D
(`cup_(cup,_mug)`, `#C C opens the door`).
"""

import re
from functools import lru_cache

_IRREGULAR = {"be": "is", "have": "has", "do": "does", "go": "goes", "undo": "undoes", "redo": "redoes"}
#: Words that belong to the verb in front of them ("turn on tap").
_PARTICLES = {"on", "off", "up", "down", "out", "away", "over", "back", "apart", "together", "around", "along", "through"}
_PREPOSITIONS = {
    "in", "into", "onto", "to", "from", "with", "at", "for", "of", "under", "inside", "towards", "toward", "against",
    "by", "near", "behind", "beside", "above", "below", "across", "between", "upon", "within", "without", "using", "like",
}
_DETERMINERS = {
    "a", "an", "the", "this", "that", "these", "those", "his", "her", "its", "their", "my", "your", "some", "any", "all", "both",
    "another", "other", "each", "every", "more", "two", "three", "four", "five", "it", "them", "him", "me", "himself", "herself",
    "and", "or", "around", "one", "something", "nothing",
}
#: Words of a narrator that say nothing of the action itself.
_FILLERS = {"still", "then", "now", "and", "again", "just", "also"}
_PLURAL_ENDINGS = ("ss", "us", "is", "as", "os")


@lru_cache(maxsize=65536)
def noun_phrase(name: str) -> str:
    """A source's name of a thing as plain English: `board:chopping` -> `chopping board`, `cup_(cup,_mug)` -> `cup`.

    Returns "" for a name that says nothing.
    """
    text = re.sub(r"_?\(.*?\)", " ", str(name)).replace("_", " ").strip().lower()
    if ":" in text:
        text = " ".join(part.strip() for part in reversed(text.split(":")))
    text = " ".join(text.replace("{", " ").replace("}", " ").replace("<", " ").replace(">", " ").split())
    return "" if text in {"null", "none", "nan", "unknown", "object", "other"} else text


@lru_cache(maxsize=8192)
def third_person(verb: str) -> str:
    """A verb of a narration in the third person: `open` -> `opens`, `pick-up` -> `picks up`, `dry` -> `dries`."""
    words = verb.strip().lower().replace("-", " ").replace("_", " ").split()
    if not words:
        return ""
    return " ".join([_conjugate(words[0]), *words[1:]])


def _conjugate(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("ing") and len(word) > 5:
        return "is " + word
    if word.endswith(("s", "x", "z", "ch", "sh", "o")):
        return word + "es"
    if word.endswith("y") and len(word) > 1 and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def with_article(name: str) -> str:
    """`knife` -> `a knife`, `onion` -> `an onion`; plurals stay bare: `scissors` -> `scissors`."""
    if name.endswith("s") and not name.endswith(_PLURAL_ENDINGS):
        return name
    return ("an " if name[:1] in "aeiou" else "a ") + name


def listing(items) -> str:
    """`a`, `a and b`, `a, b and c`."""
    items = list(items)
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def capital(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


@lru_cache(maxsize=65536)
def sentence(narration: str | None, verb: str | None = None, noun: str | None = None) -> str | None:
    """What the camera wearer does, as a sentence without its full stop: `The person opens the cupboard`.

    narration: free text, imperative (EPIC-KITCHENS: `open cupboard`) or tagged (Ego4D: `#C C opens the door`);
    verb, noun: the structured form, taken where there is no narration. Returns None if nothing says what the wearer does.
    """
    if narration and (text := _narrated(narration)):
        return text
    action = third_person(verb) if verb else ""
    if not action:
        return None
    thing = noun_phrase(noun) if noun else ""
    return f"The person {action} the {thing}" if thing else f"The person {action}"


def _narrated(narration: str) -> str | None:
    text = " ".join(re.sub(r"[{}<>\[\]\"]", " ", narration).split()).strip(" .!?;,")
    if text.startswith("#"):
        # Ego4D: "#C C opens ..." is the wearer, "#O ..." somebody else; "#Unsure" marks a guess.
        tagged = re.match(r"(?i)#c\s+c\s+(.+)", text)
        if not tagged or "#unsure" in text.lower():
            return None
        return "The person " + tagged.group(1).strip(" .!?;,")
    if tagged := re.match(r"(C|(?i:the person|the camera wearer)) (.+)", text):
        return "The person " + tagged.group(2).strip(" .!?;,")
    words = text.lower().split()
    while len(words) > 1 and words[0] in _FILLERS:
        words.pop(0)
    if not words or not words[0].replace("-", "").isalpha():
        return None
    out = third_person(words[0]).split()
    rest = words[1:]
    while rest and rest[0] in _PARTICLES and (len(rest) == 1 or rest[1] not in _DETERMINERS or rest[0] != "around"):
        out.append(rest.pop(0))
    after = True  # a bare noun here takes an article
    for word in rest:
        if after and word not in _DETERMINERS and word not in _PREPOSITIONS and word not in _PARTICLES and word.isalpha():
            out.append("the")
        out.append(word)
        after = word in _PREPOSITIONS
    return "The person " + " ".join(out)


def ground(text: str, name: str, boxes: str) -> str | None:
    """`text` with the one mention of `name` as `<p>name</p> boxes`; None if it is named not at all or more than once."""
    found = list(re.finditer(rf"\b{re.escape(name)}\b", text))
    if len(found) != 1:
        return None
    start, end = found[0].span()
    return f"{text[:start]}<p>{name}</p> {boxes}{text[end:]}"
