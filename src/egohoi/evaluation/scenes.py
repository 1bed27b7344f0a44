"""Measures of a model on labelled scenes: boxes, sides, contact, masks, names, and questions that have no target.

Every function scores one item and returns what it counts, as `{key: (numerator, denominator)}`; a report sums these over
images (`tally.Tally`). Hands are matched one to one with IoU > 0.5, the surest prediction first. Side accuracy is taken over
the wearer's own hands whose box was found (`side`), and beside it over all of them (`found_and_side`).
"""

import re
from collections.abc import Callable, Sequence

from egohoi import boxes, masks
from egohoi.evaluation import mask_metrics, matching, nouns
from egohoi.evaluation.scene_questions import SceneQuestion
from egohoi.evaluation.tally import Score
from egohoi.records import Entity, Response, Scene

IOU = 0.5
#: Classes of pixels: (name, sides, whether hands or what they hold).
CLASSES = (
    ("left_hand", {"left"}, "hand"), ("right_hand", {"right"}, "hand"), ("left_object", {"left"}, "object"), ("right_object", {"right"}, "object"),
    ("two_hand_object", {"left", "right"}, "object"),
)  # fmt: skip
#: Kinds of questions whose `target_found` is scored; yes-no questions and those that name a box always have a subject.
TARGETED = ("hand_box", "held_box", "held_noun", "which_hand", "object_box", "held_object_box", "hand_mask", "held_mask", "object_mask")


class _Counter:
    """Adds to several keys at once: the total and its parts."""

    def __init__(self):
        self.score: Score = {}

    def add(self, groups: Sequence[str], name: str, numerator: float, denominator: float = 1.0) -> None:
        for group in groups:
            key = f"{group}/{name}"
            n, d = self.score.get(key, (0.0, 0.0))
            self.score[key] = (n + float(numerator), d + float(denominator))


def detection(scene: Scene, response: Response, masked: bool = True) -> Score:
    """Scores of a description: every hand, active object, contact and mask of one scene. masked: whether the data have masks."""
    count = _Counter()
    hands = [e for e in response.entities if e.kind == "hand"]
    pairs = matching.by_score([e.box for e in hands], [e.score for e in hands], [h.box for h in scene.hands], IOU)
    _hands(count, scene, hands, pairs)
    objects, holders = _held(response)
    found = _objects(count, scene, objects, holders)
    _contact(count, scene, response, hands, pairs, found)
    _detection_masks(count, "hand_masks", [(h.box, h.mask, (h.side,)) for h in scene.hands], hands)
    _detection_masks(count, "object_masks", [(o.box, o.mask, o.hands) for o in scene.objects if o.hands], objects)
    if masked:
        _class_masks(count, scene, [*((e, {e.side}, "hand") for e in hands), *((e, s, "object") for e, s in zip(objects, holders))])
    return count.score


def _hands(count: _Counter, scene: Scene, hands: Sequence[Entity], pairs) -> None:
    taken = {j: i for i, j, _ in pairs}
    own = matching.own_iou([e.box for e in hands], [h.box for h in scene.hands])
    for j, hand in enumerate(scene.hands):
        groups = ("hands", f"hands.{hand.side}")
        count.add(groups, "recall", j in taken)
        count.add(groups, "iou", own[j])
        right = j in taken and (hands[taken[j]].side or "other") == hand.side
        sided = groups if hand.side != "other" else groups[1:]  # another person's hand has no part in left against right
        if j in taken:
            count.add(sided, "side", right)
        count.add(sided, "found_and_side", right)
    matched = {i for i, _, _ in pairs}
    for side in ("left", "right", "other"):
        count.add((f"hands.{side}",), "false", sum((e.side or "other") == side for i, e in enumerate(hands) if i not in matched))
    count.add(("hands",), "false", len(hands) - len(matched))
    count.add(("hands",), "precision", len(matched), len(hands))
    if not scene.hands:
        count.add(("hands",), "photos_without_hands_with_a_false_one", bool(hands))


def _held(response: Response) -> tuple[list[Entity], list[set[str]]]:
    """Objects that a hand of the response holds, and the sides of the hands; every object where no hand says what it holds."""
    holders: dict[int, set[str]] = {}
    for entity in response.entities:
        if entity.kind == "hand":
            for k in entity.holds or ():
                holders.setdefault(k, set()).add(entity.side or "other")
    silent = all(e.holds is None for e in response.entities if e.kind == "hand")
    kept = [(e, holders.get(k, set())) for k, e in enumerate(response.entities) if e.kind == "object" and (silent or k in holders)]
    return [e for e, _ in kept], [sides for _, sides in kept]


def _objects(count: _Counter, scene: Scene, objects: Sequence[Entity], holders: Sequence[set[str]]) -> dict[int, int]:
    """Score active objects. Returns index of the true object -> index in `objects`."""
    active = [(k, o) for k, o in enumerate(scene.objects) if o.hands]
    truth = [o.box for _, o in active]
    pairs = matching.by_score([e.box for e in objects], [e.score for e in objects], truth, IOU)
    own = matching.own_iou([e.box for e in objects], truth)
    taken = {j: i for i, j, _ in pairs}
    for j, (_, item) in enumerate(active):
        wearers = [h for h in ("left", "right") if h in item.hands]
        groups = ["objects", *(f"objects.{h}" for h in item.hands)] + (["objects.both"] if len(wearers) == 2 else [])
        count.add(groups, "recall", j in taken)
        count.add(groups, "iou", own[j])
        for side in wearers:
            count.add(("objects", f"objects.{side}"), "found_and_hand", j in taken and side in holders[taken[j]])
        if j in taken and item.name.strip():
            name = objects[taken[j]].name
            for measure in ("exact", "phrase", "lemma"):
                count.add(("objects",), f"name_{measure}", getattr(nouns, measure)(name, item.name))
    count.add(("objects",), "false", len(objects) - len(pairs))
    count.add(("objects",), "precision", len(pairs), len(objects))
    return {active[j][0]: i for j, i in taken.items()}


def _contact(count: _Counter, scene: Scene, response: Response, hands: Sequence[Entity], pairs, found: dict[int, int]) -> None:
    """Contact of the hands whose box was found; a hand that does not say is counted apart."""
    held, _ = _held(response)
    index = {id(e): k for k, e in enumerate(response.entities)}
    for i, j, _ in pairs:
        hand, entity = scene.hands[j], hands[i]
        if hand.contact is None:
            continue
        count.add(("contact",), "unsaid", entity.holds is None)
        if entity.holds is None:
            continue
        touching = bool(entity.holds)
        groups = ("contact", f"contact.{hand.side}")
        count.add(groups, "accuracy", touching == hand.contact)
        count.add(("contact",), "touching" if hand.contact else "free", touching == hand.contact)
        if hand.object is not None:
            right = hand.object in found and index[id(held[found[hand.object]])] in entity.holds
            count.add(groups, "object", right)


def _detection_masks(count: _Counter, name: str, truth, entities: Sequence[Entity]) -> None:
    """Mask IoU of the prediction that is each truth's own by its box; 0 without one. truth: [(box, RLE or None, sides)]."""
    if not any(mask is not None for _, mask, _ in truth):
        return
    own = {j: i for i, j, _ in matching.by_overlap(boxes.iou_matrix([e.box for e in entities], [t[0] for t in truth]))}
    for j, (_, mask, sides) in enumerate(truth):
        if mask is None:
            continue
        entity = entities[own[j]] if j in own else None
        value = mask_iou(entity.mask if entity else None, mask)
        count.add((name, *(f"{name}.{s}" for s in sides)), "iou", value)


def _class_masks(count: _Counter, scene: Scene, said: Sequence[tuple[Entity, set, str]]) -> None:
    """All pixels of a class against all that are predicted for it, as EgoHOS measures: either hand, what one of them holds, what both hold.

    said: (entity, sides, "hand" or "object"). A class that neither side has counts nothing, and nothing counts where a mask of the truth
    is missing.
    """
    truth = [*((h.mask, {h.side}, "hand") for h in scene.hands), *((o.mask, set(o.hands), "object") for o in scene.objects if o.hands)]
    if any(mask is None for mask, _, _ in truth):
        return
    size = [scene.size[1], scene.size[0]]
    for name, sides, kind in CLASSES:
        wanted = [m for m, s, k in truth if (s & {"left", "right"}, k) == (sides, kind)]
        given = [e.mask for e, s, k in said if (s & {"left", "right"}, k) == (sides, kind) and e.mask is not None and list(e.mask["size"]) == size]
        both = mask_metrics.overlap_of_unions(given, wanted)
        if wanted:
            count.add((f"class_masks.{name}",), "iou", both.iou)
        if wanted or both.union and scene.exhaustive is not False:  # where not everything is labelled, nothing is called absent
            count.add((f"class_masks.{name}",), "of_set", both.intersection, both.union)


def mask_iou(predicted: dict | None, truth: dict) -> float:
    """IoU of two COCO RLEs; 0 without a prediction or where it has another size than the picture."""
    if predicted is None or list(predicted["size"]) != list(truth["size"]):
        return 0.0
    return masks.iou(predicted, truth)


def answer(question: SceneQuestion, response: Response, same: Callable[[str, str], bool] | None = None) -> Score:
    """Scores of one answer. same: whether two nouns are synonyms (`wordnet.same_noun`), or None to leave that measure out."""
    count = _Counter()
    if question.kind in TARGETED:
        right = bool(response.target_found) is question.found
        groups = ("target.present",) if question.found else ("target.absent", f"target.absent.{question.absent}")
        count.add((*groups, f"target.{'present' if question.found else 'absent'}.{question.kind}"), "right", right)
    if not question.found:
        return count.score
    kind = question.kind
    if kind in ("hand_box", "hands_box", "object_box", "held_box", "held_object_box"):
        _referral(count, question, response)
    elif kind in ("held_noun", "identify_object"):
        _noun(count, question, response, same)
    elif kind == "identify_hand":
        count.add(("ask.identify_hand",), "right", (sides_said(response.text) or _sides(response)) == set(question.sides))
    elif kind == "which_hand":
        said = sides_said(response.text) or _sides(response)
        count.add(("ask.which_hand",), "right", said == set(question.sides))
        count.add(("ask.which_hand",), "unreadable", not said)
    elif kind == "touching":
        said = yes_or_no(response.text)
        count.add(("ask.touching", f"ask.touching.{'yes' if question.yes else 'no'}"), "right", said is question.yes)
        count.add(("ask.touching",), "unreadable", said is None)
    else:
        _grounding(count, question, response)
    return count.score


def _referral(count: _Counter, question: SceneQuestion, response: Response) -> None:
    predicted = [e.box for e in response.entities]
    pairs = matching.by_score(predicted, [e.score for e in response.entities], question.boxes, IOU)
    group = (f"ask.{question.kind}",)
    count.add(group, "recall", len(pairs), len(question.boxes))
    count.add(group, "iou", matching.own_iou(predicted, question.boxes).sum(), len(question.boxes))
    count.add(group, "false", len(predicted) - len(pairs))
    count.add(group, "all_right", len(pairs) == len(question.boxes) == len(predicted))
    count.add(group, "no_box", not predicted)


def said_names(response: Response, most: int) -> list[str]:
    """What a response calls its target: the names of its first `most` objects, and its text."""
    names = [e.name for e in response.entities if e.kind == "object"][:most]
    return [n for n in (*names, response.text) if n.strip()]


def _noun(count: _Counter, question: SceneQuestion, response: Response, same) -> None:
    said = said_names(response, len(question.nouns))
    group = (f"ask.{question.kind}",)
    for name in ("exact", "phrase", "lemma"):
        count.add(group, name, nouns.any_of(getattr(nouns, name), said, question.nouns))
    if same is not None:
        count.add(group, "synonym", nouns.any_of(lambda a, n: nouns.synonym(a, n, same), said, question.nouns))


def _grounding(count: _Counter, question: SceneQuestion, response: Response) -> None:
    """Union of the predicted masks against the union of the true ones, and the box of the mask where the truth has no mask."""
    group = (f"ask.{question.kind}",)
    predicted = [e.mask for e in response.entities if e.mask is not None]
    count.add(group, "no_mask", not predicted)
    usable = [m for m in predicted if [m["size"][1], m["size"][0]] == list(response.size)]
    merged = masks.union(usable) if usable else None
    truth = [m for m in question.masks if m is not None]
    if truth and len(truth) == len(question.masks):
        count.add(group, "iou", mask_iou(merged, masks.union(truth)))
    found = [masks.box(m) for m in usable]
    own = matching.own_iou([b for b in found if b is not None], question.boxes)
    count.add(group, "mask_box_iou", own.sum(), len(question.boxes))
    count.add(group, "mask_box_recall", (own > IOU).sum(), len(question.boxes))


def _sides(response: Response) -> set[str]:
    return {e.side for e in response.entities if e.kind == "hand" and e.side in ("left", "right")}


def sides_said(text: str) -> set[str]:
    """Hands that a text names: a subset of {"left", "right"}."""
    found = set(re.findall(r"\b(left|right|both)\b", text.lower()))
    return {"left", "right"} if "both" in found else found


def yes_or_no(text: str) -> bool | None:
    """Whether a text says yes or no; None if it says neither."""
    words = re.findall(r"[a-z']+", text.lower())
    if not words:
        return None
    if words[0] in ("yes", "yeah", "yep"):
        return True
    if words[0] in ("no", "nope", "nothing", "neither", "none"):
        return False
    if any(w in ("not", "nothing", "no", "empty", "neither") or w.endswith("n't") for w in words):
        return False
    return True if {"holding", "holds", "touching", "touches", "is"} & set(words) else None
