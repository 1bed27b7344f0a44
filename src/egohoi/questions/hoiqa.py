"""HOI-QA: a labelled scene -> the question-answer pairs that its labels support.

Types Q1 to Q8 and the eight test subsets are those of HOI-Ref (arXiv 2404.09933, repository Sid2697/HOI-Ref); the wording
lies in `templates/hoiqa.json` as data. A pair is made only where the labels settle its answer:

- a hand counts as empty only if `contact` is false, or if the scene is exhaustive and no object names that hand;
- two hands of one side, labels that contradict each other, one box with two names, a box that vanishes on the text's grid:
  no pair, and the reason is counted;
- test pairs come from human labels only (no `score`), with a name that occurs once in the scene.
"""

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from egohoi import boxes
from egohoi.errors import BadConfig
from egohoi.questions import wording
from egohoi.records import Example, Object, Scene

TYPES = ("Q1", "Q2", "Q3", "Q4", "Q5", "Q6", "Q7", "Q8")
SUBSETS = (
    "handN2handBB", "handBB2handN", "objN2objBB", "objBB2objN", "handN2objBB", "objN2handBB", "objN2handN", "handN2objN",
)
SIDES = ("left", "right")
DELIMITER = "<delim>"


@dataclass(frozen=True)
class Settings:
    """How pairs are made.

    wording: "reference" asks in the words of HOI-QA; "more" picks among those and further ones by a hash of seed and id.
    negatives: also ask where the labels say that there is nothing (an empty hand, a hand out of the picture).
    name_held: a scene's only held object, if it has no name, takes the noun of the narration (automatic detections have
    no names; a guess that human labels never need). codec: name of the text convention for boxes. types: which types.
    """

    wording: str = "reference"
    negatives: bool = False
    name_held: bool = False
    codec: str = "braces"
    types: tuple[str, ...] = TYPES
    seed: int = 0

    def __post_init__(self):
        if self.wording not in ("reference", "more"):
            raise BadConfig(f"wording must be 'reference' or 'more', got {self.wording!r}")
        if self.codec not in boxes.CODECS:
            raise BadConfig(f"codec must be one of {', '.join(boxes.CODECS)}, got {self.codec!r}")
        unknown = [t for t in self.types if t not in TYPES]
        if unknown or not self.types:
            raise BadConfig(f"types must be some of {', '.join(TYPES)}, got {', '.join(map(str, self.types)) or 'none'}")


@lru_cache(maxsize=1)
def templates() -> dict:
    """The wording, `templates/hoiqa.json`: {"reference", "more", "negative", "test"}."""
    return json.loads(resources.files("egohoi.questions").joinpath("templates/hoiqa.json").read_text(encoding="utf-8"))


def train_examples(scene: Scene, settings: Settings, drops: Counter | None = None) -> list[Example]:
    """The training pairs of a scene, one Example a pair, types in order. drops: (type, reason) -> count is added to it.

    `extra["side"]` is "left" or "right" where a pair is about one hand. `targets` hold pixel boxes.
    """
    look = _Look(scene, settings, Counter() if drops is None else drops)
    out: list[Example] = []
    for kind in TYPES:
        if kind in settings.types:
            _MAKERS[kind](look, out)
    return out


def test_examples(scene: Scene, settings: Settings, drops: Counter | None = None) -> list[Example]:
    """The test pairs of a scene; `type` is the subset, `extra["tag"]` the task tag that the official file puts in front.

    `extra["file"]` says which official file holds it: "test" (name and box, asked both ways) or "hoi".
    """
    drops = Counter() if drops is None else drops
    if any(thing.score is not None for thing in (*scene.hands, *scene.objects)):
        drops["test", "labels of a detector"] += 1
        return []
    look = _Look(scene, settings, drops)
    out: list[Example] = []
    _test_names(look, out)
    _test_hands(look, out)
    _test_contacts(look, out)
    return out


def draw(seed: int, name: str) -> int:
    """A 64-bit number that depends on `seed` and `name` only: the same on every machine, in every order of work."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest(), "big")


class _Look:
    """What the labels of one scene say, with boxes as text."""

    def __init__(self, scene: Scene, settings: Settings, drops: Counter):
        self.scene, self.settings, self.drops = scene, settings, drops
        self.words = templates()
        self.codec = boxes.CODECS[settings.codec]
        self.hands = [(k, h) for k, h in enumerate(scene.hands) if h.side in SIDES]
        self.by_side = {side: [(k, h) for k, h in self.hands if h.side == side] for side in SIDES}
        self.held = {side: self._held(side) for side in SIDES}
        self.names = [wording.noun_phrase(o.name) for o in scene.objects]
        if settings.name_held and scene.noun:
            held = sorted({*self.held["left"], *self.held["right"]})
            if len(held) == 1 and not self.names[held[0]]:
                self.names[held[0]] = wording.noun_phrase(scene.noun)
        self.hand_text = {k: self._text(h.box) for k, h in self.hands}
        self.object_text = [self._text(o.box) for o in scene.objects]
        self.contact = {side: self._contact(side) for side in SIDES}

    def _held(self, side: str) -> list[int]:
        pointed = {h.object for _, h in self.by_side[side] if h.object is not None}
        return [k for k, o in enumerate(self.scene.objects) if side in o.hands or k in pointed]

    def _contact(self, side: str) -> bool | str | None:
        """True: holds what `held` lists; False: holds nothing; None: not labelled; a text: why nothing can be said."""
        hands, held = self.by_side[side], self.held[side]
        if len(hands) > 1:
            return f"more than one {side} hand"
        labelled = hands[0][1].contact if hands else None
        if held:
            return "contact is false, yet an object is held" if labelled is False else True
        if labelled is True:
            return "the held object is not labelled"
        if labelled is False or (hands and self.scene.exhaustive):
            return False
        return None

    def _text(self, box) -> str | None:
        """The box as text; None if nothing of it is in the picture or it has no width or height on the text's grid."""
        inside = boxes.clip(box, self.scene.size)
        if not (inside[0] < inside[2] and inside[1] < inside[3]):
            return None
        text = self.codec.encode(inside, self.scene.size)
        numbers = re.findall(r"\d+", text)
        return None if numbers[0] == numbers[2] or numbers[1] == numbers[3] else text

    def drop(self, kind: str, reason: str, count: int = 1) -> None:
        self.drops[kind, reason] += count

    def example(self, out, kind, key, question, answer, targets=(), side=None, **extra) -> None:
        scene = self.scene
        if side is not None:
            extra["side"] = side
        out.append(Example(
            id=f"{scene.id}:{key}", image=scene.image, size=scene.size, conversation=((question, answer),), type=kind,
            source=scene.source, codec=self.settings.codec, targets=tuple(targets), extra=extra,
        ))

    def ask(self, kind: str, form: str, key: str, **values) -> str:
        """The question of a type; `form` is its entry in the templates."""
        forms = self.words["reference"][kind][form]
        if self.settings.wording == "more":
            choices = [forms, *self.words["more"].get(kind, {}).get(form, [])]
            forms = choices[draw(self.settings.seed, f"{self.scene.id}:{key}") % len(choices)]
        return forms.format(**values)

    def answer(self, kind: str, form: str, **values) -> str:
        return self.words["reference"][kind][form].format(**values)

    def negative(self, kind: str, side: str) -> str:
        return self.words["negative"][kind].format(side=side)

    def target(self, thing, name: str | None = None) -> dict:
        return {"name": name if name is not None else f"{thing.side} hand", "box": [float(v) for v in thing.box]}

    def objects(self, indices) -> list[Object]:
        return [self.scene.objects[k] for k in indices]

    def boxes(self, indices) -> str | None:
        """Text of the boxes of several objects, or None if one of them has none."""
        texts = [self.object_text[k] for k in indices]
        return None if None in texts else DELIMITER.join(texts)

    def named(self) -> dict[str, list[int]]:
        """name -> indices of the objects that have it, in order of appearance."""
        found: dict[str, list[int]] = {}
        for k, name in enumerate(self.names):
            if name:
                found.setdefault(name, []).append(k)
        return found


_NO_BOX = "the box vanishes in the picture or on the grid"
_NO_NAME = "the object has no name"


def _q1(look: _Look, out) -> None:
    things = [(f"q1:h{k}", h, None, look.hand_text[k]) for k, h in look.hands]
    things += [(f"q1:o{k}", o, look.names[k], look.object_text[k]) for k, o in enumerate(look.scene.objects)]
    meanings: dict[str, set] = {}
    for _, thing, name, text in things:
        if text is not None:
            meanings.setdefault(text, set()).add(thing.side if name is None else name)
    for key, thing, name, text in things:
        if name == "":
            look.drop("Q1", _NO_NAME)
        elif text is None:
            look.drop("Q1", _NO_BOX)
        elif len(meanings[text]) > 1:
            look.drop("Q1", "one box, two names")
        elif name is None:
            answer = look.answer("Q1", "hand", Side=wording.capital(thing.side), side=thing.side)
            look.example(out, "Q1", key, look.ask("Q1", "ask", key, box=text), answer, [look.target(thing)], thing.side)
        else:
            answer = look.answer("Q1", "object", Name=wording.capital(name), name=name)
            look.example(out, "Q1", key, look.ask("Q1", "ask", key, box=text), answer, [look.target(thing, name)])
    for hand in look.scene.hands:
        if hand.side == "other":
            look.drop("Q1", "the hand of another person")


def _sentence(scene: Scene) -> str | None:
    """What the wearer does; the published text of Ego4D goes first, because its tag says who acts."""
    published = scene.extra.get("narration_text")
    tagged = published if isinstance(published, str) and published.lstrip().startswith("#") else None
    return wording.sentence(tagged or scene.narration or scene.action, scene.verb, scene.noun)


def _q2(look: _Look, out) -> None:
    scene = look.scene
    if not (scene.narration or scene.action or scene.verb):
        return
    text = _sentence(scene)
    if text is None:
        look.drop("Q2", "the narration is not about the camera wearer, or has no verb")
        return
    look.example(out, "Q2", "q2", look.ask("Q2", "ask", "q2"), look.answer("Q2", "answer", sentence=text))


def _sides(look: _Look, kind: str, out, named: bool):
    """The sides that hold something, for Q3 to Q5: (side, indices). Drops and negatives are settled here."""
    for side in SIDES:
        contact, held, key = look.contact[side], look.held[side], f"{kind.lower()}:{side}"
        if contact is None:
            continue
        if isinstance(contact, str):
            look.drop(kind, contact)
        elif contact is False:
            if look.settings.negatives:
                look.example(out, kind, key, look.ask(kind, "ask", key, side=side), look.negative(kind, side), (), side, negative=True)
        elif named and not all(look.names[k] for k in held):
            look.drop(kind, _NO_NAME)
        else:
            yield side, held, key


def _q3(look: _Look, out) -> None:
    for side, held, key in _sides(look, "Q3", out, named=False):
        text = look.boxes(held)
        if text is None:
            look.drop("Q3", _NO_BOX)
            continue
        targets = [look.target(o, look.names[k]) for k, o in zip(held, look.objects(held))]
        look.example(out, "Q3", key, look.ask("Q3", "ask", key, side=side), look.answer("Q3", "answer", boxes=text), targets, side)


def _q4(look: _Look, out) -> None:
    for side, held, key in _sides(look, "Q4", out, named=True):
        names = wording.listing(dict.fromkeys(look.names[k] for k in held))
        targets = [look.target(o, look.names[k]) for k, o in zip(held, look.objects(held))]
        answer = look.answer("Q4", "answer", Names=wording.capital(names), names=names)
        look.example(out, "Q4", key, look.ask("Q4", "ask", key, side=side), answer, targets, side)


def _q5(look: _Look, out) -> None:
    for side, held, key in _sides(look, "Q5", out, named=True):
        unique = list(dict.fromkeys(look.names[k] for k in held))
        names = wording.listing(wording.with_article(n) for n in unique)
        targets = [look.target(o, look.names[k]) for k, o in zip(held, look.objects(held))]
        answer = look.answer("Q5", "one" if len(unique) == 1 else "many", side=side, names=names)
        look.example(out, "Q5", key, look.ask("Q5", "ask", key, side=side), answer, targets, side)


def _q6(look: _Look, out) -> None:
    for side in SIDES:
        hands, key = look.by_side[side], f"q6:{side}"
        if len(hands) > 1:
            look.drop("Q6", f"more than one {side} hand")
        elif hands:
            k, hand = hands[0]
            if look.hand_text[k] is None:
                look.drop("Q6", _NO_BOX)
                continue
            answer = look.answer("Q6", "answer", boxes=look.hand_text[k])
            look.example(out, "Q6", key, look.ask("Q6", "hand", key, side=side), answer, [look.target(hand)], side)
        elif look.settings.negatives and look.scene.exhaustive and not look.held[side]:
            look.example(out, "Q6", key, look.ask("Q6", "hand", key, side=side), look.negative("Q6", side), (), side, negative=True)
    for name, indices, text in _referable(look, "Q6"):
        key = f"q6:o{indices[0]}"
        targets = [look.target(o, name) for o in look.objects(indices)]
        look.example(out, "Q6", key, look.ask("Q6", "object", key, name=name), look.answer("Q6", "answer", boxes=text), targets)


def _referable(look: _Look, kind: str):
    """(name, indices, text of their boxes) of every name in the scene; several things of one name are one question."""
    for name, indices in look.named().items():
        text = look.boxes(indices)
        if text is None:
            look.drop(kind, _NO_BOX)
        else:
            yield name, indices, text
    unnamed = look.names.count("")
    if unnamed:
        look.drop(kind, _NO_NAME, unnamed)


def _q7(look: _Look, out) -> None:
    scene = look.scene
    text = _sentence(scene)
    if text is None:
        return
    named = look.named()
    noun = wording.noun_phrase(scene.noun) if scene.noun else ""
    candidates = [noun] if noun else sorted((n for n in named if wording.ground(text, n, "")), key=len, reverse=True)[:1]
    if not candidates or candidates[0] not in named:
        look.drop("Q7", "no box for the noun of the narration")
        return
    name, indices = candidates[0], named[candidates[0]]
    active = [k for k in indices if k in look.held["left"] or k in look.held["right"]]
    chosen = active or indices
    if len(chosen) > 1:
        look.drop("Q7", "several objects have the noun of the narration")
        return
    boxed = look.boxes(chosen)
    if boxed is None:
        look.drop("Q7", _NO_BOX)
        return
    # A narration may say "pan" for the noun "saucepan": the structured form then names it.
    grounded = wording.ground(text, name, boxed)
    if grounded is None and (plain := wording.sentence(None, scene.verb, scene.noun)):
        grounded = wording.ground(plain, name, boxed)
    if grounded is None:
        look.drop("Q7", "the sentence does not name its object once")
        return
    targets = [look.target(scene.objects[chosen[0]], name)]
    look.example(out, "Q7", "q7", look.ask("Q7", "ask", "q7"), look.answer("Q7", "answer", grounded=grounded), targets)


def _q8(look: _Look, out) -> None:
    for name, indices, text in _referable(look, "Q8"):
        key = f"q8:o{indices[0]}"
        targets = [look.target(o, name) for o in look.objects(indices)]
        answer = look.answer("Q8", "answer", name=name, boxes=text)
        look.example(out, "Q8", key, look.ask("Q8", "ask", key, name=name, Name=wording.capital(name)), answer, targets)


_MAKERS = {"Q1": _q1, "Q2": _q2, "Q3": _q3, "Q4": _q4, "Q5": _q5, "Q6": _q6, "Q7": _q7, "Q8": _q8}


def _test(look: _Look, out, subset: str, key: str, answer: str, targets, form: str | None = None, side=None, file="hoi", **values) -> None:
    words = look.words["test"][form or subset]
    question = words["ask"].format(side=side, **values)
    look.example(out, subset, key, question, answer, targets, side, file=file, tag=words["tag"])


def _test_names(look: _Look, out) -> None:
    """Name to box and box to name, of hands and of objects whose name and box occur once."""
    things = [(f"h{h.side}", h, f"{h.side} hand", look.hand_text[k], "hand") for k, h in look.hands]
    things += [(f"o{k}", o, look.names[k], look.object_text[k], "obj") for k, o in enumerate(look.scene.objects)]
    names = Counter(name for _, _, name, _, _ in things)
    texts = Counter(text for *_, text, _ in things)
    for key, thing, name, text, kind in things:
        subset = f"{kind}N2{kind}BB"
        if not name:
            look.drop(subset, _NO_NAME)
        elif text is None:
            look.drop(subset, _NO_BOX)
        elif names[name] > 1:
            look.drop(subset, "the name occurs more than once")
        elif texts[text] > 1:
            look.drop(subset, "one box, two names")
        else:
            target, side = [look.target(thing, name)], thing.side if kind == "hand" else None
            _test(look, out, subset, f"{key}:ref", text, target, side=side, file="test", name=name)
            _test(look, out, f"{kind}BB2{kind}N", f"{key}:iden", name, target, side=side, file="test", box=text)


def _test_hands(look: _Look, out) -> None:
    found = []
    for side in SIDES:
        hands = look.by_side[side]
        if len(hands) == 1 and look.hand_text[hands[0][0]] is not None:
            k, hand = hands[0]
            found.append((look.hand_text[k], hand))
            _test(look, out, "handN2handBB", f"hoi:{side}", look.hand_text[k], [look.target(hand)], "hand", side)
    if len(found) == 2:
        _test(look, out, "handN2handBB", "hoi:hands", DELIMITER.join(t for t, _ in found), [look.target(h) for _, h in found], "hands")


def _test_contacts(look: _Look, out) -> None:
    """Who holds what: the four interaction subsets."""
    scene = look.scene
    for side in SIDES:
        contact, held = look.contact[side], look.held[side]
        if isinstance(contact, str):
            look.drop("handN2objBB", contact)
            look.drop("handN2objN", contact)
        elif contact:
            text = look.boxes(held)
            if text is None or len(held) > 2:
                look.drop("handN2objBB", _NO_BOX if text is None else "more than two objects in one hand")
            else:
                targets = [look.target(o, look.names[k]) for k, o in zip(held, look.objects(held))]
                _test(look, out, "handN2objBB", f"hoi:object:{side}", text, targets, side=side)
            names = {look.names[k] for k in held}
            if "" in names or len(names) > 1:
                look.drop("handN2objN", _NO_NAME if "" in names else "objects of several names in one hand")
            else:
                _test(look, out, "handN2objN", f"hoi:name:{side}", names.pop(), [look.target(scene.objects[held[0]], look.names[held[0]])], side=side)
    # Which hand has it: every visible hand must be labelled, or the hand that is not may hold it too.
    undecided = any(isinstance(c, str) or (c is None and look.by_side[s]) for s, c in look.contact.items())
    for name, indices in look.named().items():
        holders = [side for side in SIDES if any(k in look.held[side] for k in indices)]
        if not holders:
            continue
        if undecided or len(indices) > 1:
            reason = "a visible hand is not labelled" if undecided else "the name occurs more than once"
            look.drop("objN2handBB", reason)
            look.drop("objN2handN", reason)
            continue
        k = indices[0]
        if "other" in scene.objects[k].hands:
            look.drop("objN2handBB", "another person holds it too")
            look.drop("objN2handN", "another person holds it too")
            continue
        texts = [look.hand_text[look.by_side[s][0][0]] if look.by_side[s] else None for s in holders]
        if None in texts:
            look.drop("objN2handBB", _NO_BOX)
        else:
            hands = [look.by_side[s][0][1] for s in holders]
            side = holders[0] if len(holders) == 1 else None
            _test(
                look, out, "objN2handBB", f"hoi:hand:o{k}", DELIMITER.join(texts), [look.target(h) for h in hands], side=side, name=name,
            )
        if len(holders) > 1:
            look.drop("objN2handN", "both hands hold it")
        else:
            target = [look.target(scene.objects[k], name)]
            _test(look, out, "objN2handN", f"hoi:side:o{k}", f"{holders[0]} hand", target, side=holders[0], name=name)
