"""Ego-IRG: one picture and one query -> analysis, answer, one mask per target (or none). ANNEXE, arXiv 2504.01472.

Two directions. From published items (`scenes.irgbench.Item`): which query of an item an epoch uses, balanced sampling of
single, multi and no-target items, answers, Examples. From any Scene with masks: entries in the published layout, with
single, multi and no-target queries in varied wording, only where the labels support them.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from egohoi import masks
from egohoi.errors import BadConfig
from egohoi.records import Example, Object, Scene
from egohoi.scenes import irgbench
from egohoi.scenes.irgbench import KINDS, SLOTS, Item, Question

#: The question of the first turn of an Example; a model puts its own prompt in its place.
ANALYSIS_QUESTION = "What is happening?"
#: The answer where there is no target and the data give none.
NO_TARGET = "there is no such target"
STYLES = ("names", "published")


def answer_text(item: Item, style: str = "names") -> str:
    """What the answer branch has to say for `item`.

    style "names": the names of the targets joined with " and ", as the reference trains it; "published": the item's own
    sentence. Without a target: the item's sentence, or NO_TARGET if it is empty. Raises BadConfig.
    """
    if style not in STYLES:
        raise BadConfig(f"answer style must be one of {', '.join(STYLES)}, got {style!r}")
    if not item.targets:
        return item.answer or NO_TARGET
    return item.answer if style == "published" and item.answer else " and ".join(item.names)


def choose(item: Item, epoch: int, seed: int = 0) -> Question:
    """The query of `item` that an epoch uses: a fixed shuffle of its queries, so that n epochs use each of n once."""
    count = len(item.questions)
    order = list(range(count))
    random.Random(f"{seed}|{item.id}|{epoch // count}").shuffle(order)
    return item.questions[order[epoch % count]]


def balanced(kinds: Sequence[str], epoch: int, seed: int = 0, ratio: dict | None = None, count: int | None = None) -> list[int]:
    """Indices into `kinds` for one epoch, with single, multi and none in the given ratio, shuffled.

    kinds: kind of every item. ratio: kind -> weight (default equal; kinds that do not occur are left out).
    count: how many (default len(kinds)). Within a kind every item is used once before any is used again, also over
    epochs. The same arguments give the same list. Raises BadConfig.
    """
    ratio = dict.fromkeys(KINDS, 1.0) if ratio is None else ratio
    unknown = [k for k in ratio if k not in KINDS]
    if unknown or any(w < 0 for w in ratio.values()):
        raise BadConfig(f"sampling weights are numbers from 0 for {', '.join(KINDS)}, got {ratio!r}")
    members = {k: [i for i, kind in enumerate(kinds) if kind == k] for k in KINDS}
    used = [k for k in KINDS if members[k] and ratio.get(k, 0) > 0]
    if not used:
        raise BadConfig(f"sampling weights {ratio!r} leave no item of {len(kinds)}")
    count = len(kinds) if count is None else count
    total, picked, done = sum(ratio[k] for k in used), [], 0.0
    for kind in used:
        first, done = round(count * done / total), done + ratio[kind]
        share = round(count * done / total) - first
        picked += _stream(members[kind], f"{seed}|{kind}", epoch * share, share)
    random.Random(f"{seed}|order|{epoch}").shuffle(picked)
    return picked


def _stream(items: list[int], name: str, start: int, count: int) -> list[int]:
    """`count` entries from position `start` of an endless sequence of shuffles of `items`."""
    taken: list[int] = []
    while len(taken) < count:
        cycle, offset = divmod(start + len(taken), len(items))
        order = list(items)
        random.Random(f"{name}|{cycle}").shuffle(order)
        taken += order[offset : offset + count - len(taken)]
    return taken


def example(item: Item, question: Question, style: str = "names", index: np.ndarray | None = None) -> Example:
    """One Example: two turns (analysis, then answer) and a target {name, box, mask} for each mask.

    index: the index image of the item's frame, if it is already at hand. Raises BadData as `irgbench.target_masks`.
    """
    targets = []
    for target, mask in zip(item.targets, irgbench.target_masks(item, index)):
        rle = masks.encode(mask)
        targets.append({"name": target.name, "box": list(masks.box(rle)), "mask": rle})
    return Example(
        id=f"{item.id}/{question.id}", image=item.image, size=item.size,
        conversation=((ANALYSIS_QUESTION, item.caption), (question.query, answer_text(item, style))),
        type=item.kind, source="ego-irg", targets=targets, extra={"depth": item.depth},
    )


# The other direction: any Scene with masks -> entries in the published layout.

#: Wordings by what is asked: (phrases, sentences). {side}: left or right; {noun}: a name; {other}: a second name.
WORDINGS = {
    "hand": (
        ["{side} hand", "the {side} hand", "the {side} hand of the person", "{side} hand of the camera wearer", "my {side} hand"],
        ["Where is the {side} hand?", "Segment the {side} hand of the person.", "Show me my {side} hand.",
         "Which pixels belong to the {side} hand?", "Can you find the person's {side} hand?", "Please mark the {side} hand in the picture."],
    ),
    "other hand": (
        ["the other person's hand", "hand of somebody else"],
        ["Where is the hand of the other person?", "Is there another person's hand? Segment it."],
    ),
    "hands": (
        ["both hands", "the hands", "the two hands of the person", "my hands"],
        ["Where are the hands of the person?", "Segment both hands.", "Show me my two hands.", "Mark each hand of the camera wearer."],
    ),
    "noun": (
        ["{noun}", "the {noun}", "the {noun} in the picture"],
        ["Where is the {noun}?", "Segment the {noun}.", "Can you find the {noun}?", "Show me the {noun}.", "Which pixels show the {noun}?"],
    ),
    "held": (
        ["the object in the {side} hand", "what the {side} hand holds", "the thing in my {side} hand", "object held by the {side} hand"],
        ["What is the {side} hand holding?", "Segment the object that the {side} hand touches.", "What am I holding in my {side} hand?",
         "Which object is in contact with the {side} hand?", "Show me the thing in the {side} hand."],
    ),
    "active": (
        ["the objects that the hands touch", "everything the person holds", "all objects in contact with a hand"],
        ["What is the person touching?", "Segment every object that a hand holds.", "Which objects take part in the interaction?",
         "What am I holding?"],
    ),
    "hand and held": (
        ["the {side} hand and the object in it", "the {side} hand with what it holds"],
        ["Segment the {side} hand and the object it touches.", "Show me the {side} hand and what it is holding."],
    ),
    "two nouns": (
        ["the {noun} and the {other}", "{noun} and {other}"],
        ["Where are the {noun} and the {other}?", "Segment the {noun} and the {other}.", "Show me both the {noun} and the {other}."],
    ),
    "hand and noun": (
        ["the {side} hand and the {noun}", "{side} hand and {noun}"],
        ["Where are the {side} hand and the {noun}?", "Segment the {side} hand and also the {noun}."],
    ),
    "all": (
        ["the hands and the objects that they touch", "everything that takes part in the interaction"],
        ["Segment the hands and the objects they interact with.", "Show me all hands and all objects in use."],
    ),
    "absent held": (
        ["the {noun} in the person's hand", "the {noun} that a hand holds"],
        ["Where is the {noun} that the person is holding?", "Segment the {noun} in my hand.", "Which hand is holding the {noun}? Mark the {noun}."],
    ),
}
#: What an object is called that has no name but a hand that holds it (EgoHOS).
HELD_OBJECT = "held object"
#: Names for no-target queries if the caller has no vocabulary of its own.
NOUNS = ("hammer", "teapot", "scissors", "umbrella", "banana", "helmet", "violin", "toothbrush", "laptop", "candle")


_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Built:
    """What `build` made of a scene. index: integer [H, W]; entries: the published JSON entries; dropped: reason -> count."""

    index: np.ndarray
    entries: tuple[dict, ...]
    dropped: dict


@dataclass(frozen=True)
class _Ask:
    kind: str
    about: str
    targets: tuple[int, ...]
    words: tuple[tuple[str, str], ...] = ()


def build(
    scene: Scene, *, seed: int = 0, per_kind: int = 2, wordings: int = 3, nouns: Sequence[str] = NOUNS, min_pixels: int = 16
) -> Built:
    """Ego-IRG entries for `scene`: up to `per_kind` each of single, multi and no-target, `wordings` queries each.

    Where masks overlap the smaller thing lies on top; things with fewer than `min_pixels` visible pixels are no targets.
    Absence is only asked for where the labels state it (`exhaustive`, or `contact` false). nouns: names to ask for in vain;
    one that shares a word with a name of the scene ("bread knife", "knife") is not, nor any where an object has no name.
    The same scene and seed give the same entries. A scene that supports nothing gives no entries.
    """
    index, things, dropped = _paint(scene, min_pixels)
    rng = random.Random(f"{seed}|{scene.id}")
    asks: dict[str, list[_Ask]] = {k: [] for k in KINDS}
    for ask in _merge(_asks(scene, things, rng, nouns)):
        if len(ask[0].targets) > SLOTS:
            dropped["more than four targets"] = dropped.get("more than four targets", 0) + 1
        else:
            asks[ask[0].kind].append(ask)
    caption, entries = describe(scene), []
    for kind in KINDS:
        rng.shuffle(asks[kind])
        for group in asks[kind][:per_kind]:
            entries.append(_entry(group, things, caption, wordings, rng))
    return Built(index, tuple(entries), dropped)


def _paint(scene: Scene, min_pixels: int):
    """(index image, {key: (value, name)} of usable things, dropped); keys are ("hand", k) and ("object", k)."""
    keyed = [(("hand", k), hand_name(h.side), h.mask) for k, h in enumerate(scene.hands)]
    keyed += [(("object", k), object_name(o), o.mask) for k, o in enumerate(scene.objects)]
    dropped: dict[str, int] = {}
    index = np.zeros((scene.size[1], scene.size[0]), dtype=np.uint16)
    ready = []
    for value, (key, name, rle) in enumerate(keyed, 1):
        if rle is None or not name:
            dropped["without mask or name"] = dropped.get("without mask or name", 0) + 1
            continue
        ready.append((masks.area(rle), value, key, name, rle))
    for _, value, _, _, rle in sorted(ready, key=lambda r: (-r[0], r[1])):
        index[masks.decode(rle)] = value
    counts = np.bincount(index.ravel(), minlength=len(keyed) + 1)
    things = {}
    for _, value, key, name, _ in sorted(ready, key=lambda r: r[1]):
        if counts[value] >= min_pixels:
            things[key] = (value, name)
        else:
            dropped["too few visible pixels"] = dropped.get("too few visible pixels", 0) + 1
    return index, things, dropped


def hand_name(side: str) -> str:
    """"left hand", "right hand", "other person's hand"."""
    return "other person's hand" if side == "other" else f"{side} hand"


def object_name(thing: Object) -> str:
    """The object's own name; without one HELD_OBJECT if a hand holds it, else ""."""
    return thing.name.strip() or (HELD_OBJECT if thing.hands else "")


def _asks(scene: Scene, things: dict, rng: random.Random, nouns: Sequence[str]) -> list[_Ask]:
    """Every question that the labels of `scene` answer."""
    asks = []

    def ask(about: str, keys, **words) -> None:
        """Only if every one of the things is visible; nothing is asked half."""
        if all(k in things for k in keys):
            values = tuple(things[k][0] for k in keys)
            asks.append(_Ask(irgbench.kind_of(len(values)), about, values, tuple(sorted(words.items()))))

    hands = {side: [("hand", k) for k, h in enumerate(scene.hands) if h.side == side] for side in ("left", "right", "other")}
    held = {s: [("object", k) for k, o in enumerate(scene.objects) if s in o.hands] for s in ("left", "right", "other")}
    active = [("object", k) for k, o in enumerate(scene.objects) if o.hands]
    named: dict[str, list] = {}
    for k, o in enumerate(scene.objects):
        if o.name.strip():
            named.setdefault(o.name.strip().lower(), []).append(("object", k))
    own = hands["left"] + hands["right"]
    for side in ("left", "right"):
        hand = scene.hand(side)
        if len(hands[side]) == 1:
            ask("hand", hands[side], side=side)
            if held[side]:
                ask("held", held[side], side=side)
                ask("hand and held", hands[side] + held[side], side=side)
            elif hand.contact is False:
                ask("held", [], side=side)
        elif not hands[side] and scene.exhaustive and not hands["other"]:  # "the left hand" could be somebody else's
            ask("hand", [], side=side)
            ask("held", [], side=side)
    if len(hands["other"]) == 1:
        ask("other hand", hands["other"])
    if own:
        ask("hands", own)
    elif scene.exhaustive and not hands["other"]:
        ask("hands", [])
    for noun, keys in named.items():
        ask("noun", keys, noun=noun)
    pairs = [(a, b) for a in named for b in named if a < b]
    for a, b in rng.sample(pairs, min(3, len(pairs))):
        ask("two nouns", named[a] + named[b], noun=a, other=b)
    for side in ("left", "right"):
        if len(hands[side]) == 1 and named:
            noun = rng.choice(list(named))
            ask("hand and noun", hands[side] + named[noun], side=side, noun=noun)
    if active and not held["other"]:
        ask("active", active)
        if own and not hands["other"]:
            ask("all", own + active)
    elif not active and scene.exhaustive:
        ask("active", [])
    if scene.exhaustive and all(o.name.strip() for o in scene.objects):
        words = {word for name in named for word in _WORD.findall(name)}
        absent = [n for n in nouns if words.isdisjoint(_WORD.findall(n.lower()))]
        for noun in rng.sample(absent, min(2, len(absent))):
            ask("absent held", [], noun=noun)
    return asks


def _merge(asks: list[_Ask]) -> list[list[_Ask]]:
    """Questions with the same targets belong to one entry; questions without a target stay apart."""
    groups: dict = {}
    for k, ask in enumerate(asks):
        groups.setdefault(tuple(sorted(ask.targets)) or ("none", k), []).append(ask)
    return list(groups.values())


def _entry(group: list[_Ask], things: dict, caption: str, wordings: int, rng: random.Random) -> dict:
    names = {value: name for value, name in things.values()}
    queries = []
    for ask in group:
        phrases, sentences = WORDINGS[ask.about]
        words = dict(ask.words)
        queries += [(p.format(**words), False) for p in phrases] + [(s.format(**words), True) for s in sentences]
    picked = rng.sample(queries, min(wordings, len(queries)))
    targets = list(group[0].targets)
    tokens = [names[v] for v in targets]
    fill = SLOTS - len(targets)
    return {
        "masks_idx": targets + [0] * fill, "with_mask": int(bool(targets)), "caption": caption, "answer": _sentence(tokens),
        "tokens": tokens + [""] * fill,
        "questions": [{"id": k, "query": q, "is_sentence": s} for k, (q, s) in enumerate(picked)],
    }


def _sentence(names: list[str]) -> str:
    if not names:
        return NO_TARGET
    listed = [f"the {n}" for n in names]
    text = listed[0] if len(listed) == 1 else ", ".join(listed[:-1]) + " and " + listed[-1]
    return f"{text[0].upper()}{text[1:]}."


def describe(scene: Scene) -> str:
    """The analysis of a scene: its narration, else one sentence from the labels ("The left hand holds the mug.")."""
    if scene.narration:
        return scene.narration.strip()
    parts = []
    for side in ("left", "right"):
        hand = scene.hand(side)
        if hand is None:
            continue
        objects = [o.name.strip() for o in scene.held_by(side)]
        if objects:
            parts.append(f"the {side} hand holds " + " and ".join(f"the {n}" if n else "an object" for n in objects))
        elif hand.contact is False:
            parts.append(f"the {side} hand is free")
        else:
            parts.append(f"the {side} hand is visible")
    if not parts:
        return "No hand of the person is visible." if scene.exhaustive else "A first-person view."
    text = " and ".join(parts)
    return f"{text[0].upper()}{text[1:]}."
