"""Questions about labelled scenes, with what a right answer must hold. Seeded: the same scenes give the same questions.

Only what the labels settle is asked. Scenes of `exhaustive: false` get no question whose right answer is "there is none".
Unless a scene is `exhaustive: true`, an object is called absent only as something held, because things that merely lie about
need not be labelled.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from egohoi.evaluation import nouns
from egohoi.records import Hand, Object, Query, Scene

#: kind of a question -> (task that it measures, wordings). {side}, {noun} are filled in.
WORDINGS = {
    "hand_box": ("refer", (
        "Where is the {side} hand?", "Where is my {side} hand?", "Locate the {side} hand of the person.",
        "Show me the box of the {side} hand.", "Find the {side} hand",
    )),
    "hands_box": ("refer", ("Where are the hands?", "Where are my hands?", "Where are the hands of the person?", "Locate both hands.")),
    "object_box": ("refer", ("Where is the {noun}?", "Locate the {noun}.", "Find the {noun} in this photo.", "Show me the {noun}.")),
    "held_box": ("refer", (
        "Where is the object in my {side} hand?", "Locate the object being manipulated by the {side} hand.",
        "Where is the thing that the {side} hand is holding?", "Where is the object touched by the {side} hand?",
    )),
    "held_noun": ("answer", (
        "What am I holding in my {side} hand?", "What is the object in the {side} hand?", "Which object is in my {side} hand?",
        "What is the {side} hand holding?", "Name the thing in my {side} hand.",
    )),
    "which_hand": ("answer", (
        "Which hand is holding the {noun}?", "Which hand has the {noun}?", "What hand is holding the {noun}?", "In which hand is the {noun}?",
    )),
    "touching": ("answer", (
        "Is the {side} hand touching an object?", "Is my {side} hand holding or touching something?",
        "Does the {side} hand touch anything?", "Is there something in the {side} hand?",
    )),
    "identify_hand": ("identify", ("What is this?", "What is in this box?", "")),
    "identify_object": ("identify", ("What is this?", "What is in this box?", "")),
    "hand_mask": ("ground", ("Segment the {side} hand.", "Give me the mask of my {side} hand.", "Mask of the {side} hand")),
    "held_mask": ("ground", (
        "Segment the object in my {side} hand.", "Give me the mask of what the {side} hand is holding.",
        "Segment the thing that the {side} hand touches.",
    )),
    "object_mask": ("ground", ("Segment the {noun}.", "Give me the mask of the {noun}.", "Segment the {noun} in this photo")),
    # Only asked about what is not held by anyone, and its counterpart about what is: a wording that labels always settle.
    "held_object_box": ("refer", ("Where is the {noun} that I am holding?", "Locate the {noun} in my hands.", "Where is the {noun} I am touching?")),
}


@dataclass(frozen=True)
class SceneQuestion:
    """One question about one scene, with its truth.

    kind: key of WORDINGS. absent: "" or why there is no target (absent_hand, empty_hand, absent_object).
    found: whether there is a target. boxes: true boxes, xyxy pixels. masks: their COCO RLEs (None where the truth has none).
    nouns: names of which any is right. sides: hands that are right. yes: truth of a yes-no question.
    """

    id: str
    scene: str
    kind: str
    query: Query
    found: bool = True
    absent: str = ""
    boxes: tuple = ()
    masks: tuple = ()
    nouns: tuple[str, ...] = ()
    sides: tuple[str, ...] = ()
    yes: bool | None = None
    labels: dict = field(default_factory=dict)


def vocabulary(scenes: Iterable[Scene]) -> list[str]:
    """Names of all objects of the scenes, sorted, each once."""
    return sorted({o.name.lower() for s in scenes for o in s.objects if o.name.strip()})


def questions(scene: Scene, names: Sequence[str] = (), seed: int = 0) -> list[SceneQuestion]:
    """Every question that the labels of one scene settle.

    names: names of objects anywhere in the data set, from which absent objects are drawn. seed: of wordings and draws.
    """
    maker = _Maker(scene, random.Random(f"{seed}/{scene.id}"))
    _about_hands(maker)
    _about_objects(maker)
    if scene.exhaustive is not False:
        _about_absent_objects(maker, names)
    return maker.made


class _Maker:
    """Collects the questions of one scene."""

    def __init__(self, scene: Scene, chance: random.Random):
        self.scene, self.chance, self.made = scene, chance, []

    def ask(self, kind: str, *, box=None, side: str = "", noun: str = "", **truth) -> None:
        task, wordings = WORDINGS[kind]
        text = self.chance.choice(wordings).format(side=side, noun=noun)
        # The wording decides what is asked, as for a person who types it; only a mask has to be asked for by name.
        query = Query(text=text, box=box, task=task if not text else None, mask=True if task == "ground" else None)
        self.made.append(SceneQuestion(f"{self.scene.id}/{len(self.made):02d}-{kind}", self.scene.id, kind, query, **truth))


def _about_hands(maker: _Maker) -> None:
    scene = maker.scene
    own = [h for h in scene.hands if h.side != "other"]
    if len(own) == 2 and {h.side for h in own} == {"left", "right"}:
        maker.ask("hands_box", boxes=tuple(h.box for h in own))
    for side in ("left", "right"):
        hands = [h for h in own if h.side == side]
        if len(hands) == 1:
            _about_hand(maker, side, hands[0])
        elif not hands and scene.exhaustive is not False:
            absent = {"side": side, "found": False, "absent": "absent_hand"}
            for kind in ("hand_box", "held_noun", "held_box", "hand_mask"):
                maker.ask(kind, **absent)


def _about_hand(maker: _Maker, side: str, hand: Hand) -> None:
    held = maker.scene.held_by(side)
    maker.ask("hand_box", side=side, boxes=(hand.box,))
    maker.ask("identify_hand", box=hand.box, sides=(side,))
    maker.ask("hand_mask", side=side, boxes=(hand.box,), masks=(hand.mask,))
    if hand.contact is not None:
        maker.ask("touching", side=side, yes=hand.contact)
    if held:
        names = tuple(o.name for o in held)
        truth = {"boxes": tuple(o.box for o in held), "labels": {"side": side}}
        maker.ask("held_noun", side=side, nouns=names, **truth)
        maker.ask("held_box", side=side, **truth)
        maker.ask("held_mask", side=side, masks=tuple(o.mask for o in held), **truth)
    elif hand.contact is False:
        for kind in ("held_noun", "held_box", "held_mask"):
            maker.ask(kind, side=side, found=False, absent="empty_hand")


def _about_objects(maker: _Maker) -> None:
    names = [nouns.lemmas(o.name) for o in maker.scene.objects]
    for item, name in zip(maker.scene.objects, names):
        wearers = tuple(h for h in item.hands if h != "other")
        if not item.name.strip() or not wearers:
            continue
        maker.ask("identify_object", box=item.box, nouns=(item.name,))
        if sum(nouns.contains(other, name) or nouns.contains(name, other) for other in names) > 1:
            continue  # two objects of one name: "the brick" does not say which
        truth = {"noun": item.name, "boxes": (item.box,)}
        maker.ask("object_box", **truth)
        maker.ask("held_object_box", **truth)
        maker.ask("object_mask", masks=(item.mask,), **truth)
        maker.ask("which_hand", noun=item.name, sides=wearers)


def _about_absent_objects(maker: _Maker, names: Sequence[str]) -> None:
    scene = maker.scene
    here = [o.name for o in scene.objects]
    usable = [n for n in names if not any(_alike(n, h) for h in here)]
    count = max(1, sum(bool(o.hands) for o in scene.objects))
    for noun in maker.chance.sample(usable, min(count, len(usable))):
        absent = {"noun": noun, "found": False, "absent": "absent_object"}
        maker.ask("which_hand", **absent)
        maker.ask("held_object_box", **absent)
        if scene.exhaustive:
            maker.ask("object_box", **absent)
            maker.ask("object_mask", **absent)


def _alike(a: str, b: str) -> bool:
    """Whether two names could be said of one thing: they share a word."""
    return bool(set(nouns.lemmas(a)) & set(nouns.lemmas(b)))


def balanced(items: Sequence[SceneQuestion], seed: int = 0) -> list[SceneQuestion]:
    """Questions without a target and, for each kind of question, as many with one; kinds that lack either side are left out.

    Items: those of all scenes. For every kind, min(absent, present) of each are drawn by `seed`, in the order given.
    """
    kept = set()
    for kind in sorted({q.kind for q in items}):
        sides = [[q for q in items if q.kind == kind and q.found is found] for found in (False, True)]
        count = min(map(len, sides))
        for found, group in enumerate(sides):
            kept.update(q.id for q in random.Random(f"{seed}/{kind}/{found}").sample(group, count))
    return [q for q in items if q.id in kept]


def active(scene: Scene) -> list[tuple[int, Object]]:
    """(index, object) of the objects that some hand holds or touches."""
    return [(k, o) for k, o in enumerate(scene.objects) if o.hands]
