"""Which measures of `scenes` stand in which table."""

from egohoi.evaluation.tables import Cell, Table
from egohoi.evaluation.tally import Tally

#: (title, columns ((header, measure, unit), ...), rows ((name, group), ...), note)
_LAYOUT = (
    (
        "Hands", (("hands", "recall", "count"), ("recall, IoU > 0.5", "recall", "%"), ("mean IoU", "iou", "%"), ("false a photo", "false", ""),
                  ("side", "side", "%"), ("found and side", "found_and_side", "%")),
        (("all", "hands"), ("left", "hands.left"), ("right", "hands.right"), ("other person's", "hands.other")),
        "One to one, surest prediction first. Mean IoU: a hand without a box counts 0. Side: of the wearer's own hands whose box was found.",
    ),
    (
        "Active objects", (("objects", "recall", "count"), ("recall, IoU > 0.5", "recall", "%"), ("mean IoU", "iou", "%"),
                           ("false a photo", "false", ""), ("found, with its hand", "found_and_hand", "%"), ("name: exact", "name_exact", "%"),
                           ("name: lemma", "name_lemma", "%")),
        (("all", "objects"), ("held by left", "objects.left"), ("held by right", "objects.right"), ("held by both", "objects.both"),
         ("held by another", "objects.other")),
        "Predicted objects that a predicted hand holds. Names: of the objects whose box was found. 'Found, with its hand' counts an object "
        "held by both hands once for each.",
    ),
    (
        "Contact", (("hands", "accuracy", "count"), ("contact", "accuracy", "%"), ("touching, recall", "touching", "%"), ("free, recall", "free", "%"),
                    ("the right object", "object", "%")),
        (("all", "contact"), ("left", "contact.left"), ("right", "contact.right"), ("other person's", "contact.other")),
        "Of the hands whose box was found and whose contact is labelled.",
    ),
    (
        "Masks", (("targets", "iou", "count"), ("mean IoU", "iou", "%")),
        (("hands", "hand_masks"), ("left", "hand_masks.left"), ("right", "hand_masks.right"), ("active objects", "object_masks"),
         ("in the left hand", "object_masks.left"), ("in the right hand", "object_masks.right")),
        "Where the truth has masks; a target without a predicted mask counts 0.",
    ),
    (
        "Masks by class", (("photos", "iou", "count"), ("mean IoU", "iou", "%"), ("IoU of the set", "of_set", "%")),
        (("left hand", "class_masks.left_hand"), ("right hand", "class_masks.right_hand"), ("object in the left hand", "class_masks.left_object"),
         ("object in the right hand", "class_masks.right_object"), ("object in both hands", "class_masks.two_hand_object")),
        "All pixels of a class, as on EgoHOS; an object that both hands hold is in the last row only. Mean IoU: of the photos that have the class. IoU of the set: "
        "sum of intersections / sum of unions over all photos, so that a class seen where there is none costs its area.",
    ),
    (
        "Questions that ask for boxes", (("boxes", "recall", "count"), ("recall, IoU > 0.5", "recall", "%"), ("mean IoU", "iou", "%"),
                                         ("false a question", "false", ""), ("all right", "all_right", "%"), ("no box", "no_box", "%")),
        (("where is the X hand", "ask.hand_box"), ("where are the hands", "ask.hands_box"), ("where is the NOUN", "ask.object_box"),
         ("where is the NOUN I hold", "ask.held_object_box"), ("where is the thing in the X hand", "ask.held_box")),
        "All right: every box found and no other box given.",
    ),
    (
        "Questions that ask for a name", (("asked", "lemma", "count"), ("exact", "exact", "%"), ("phrase", "phrase", "%"), ("lemma", "lemma", "%"),
                                          ("synonym", "synonym", "%")),
        (("what is in the X hand", "ask.held_noun"), ("what is in this box", "ask.identify_object")),
        "exact: the name itself; phrase: its words in a row; lemma: singular, or one ends in the other; synonym: or synonyms in WordNet.",
    ),
    (
        "Questions about sides and contact", (("asked", "right", "count"), ("right", "right", "%"), ("unreadable", "unreadable", "%")),
        (("which hand holds the NOUN", "ask.which_hand"), ("which hand is in this box", "ask.identify_hand"),
         ("is the X hand touching something", "ask.touching"), ("… where it is", "ask.touching.yes"), ("… where it is not", "ask.touching.no")),
        "",
    ),
    (
        "Questions that ask for a mask", (("asked", "no_mask", "count"), ("mean IoU", "iou", "%"), ("box of the mask: recall", "mask_box_recall", "%"),
                                          ("box of the mask: mean IoU", "mask_box_iou", "%"), ("no mask", "no_mask", "%")),
        (("X hand", "ask.hand_mask"), ("thing in the X hand", "ask.held_mask"), ("NOUN", "ask.object_mask")),
        "Mean IoU where the truth has masks; the box of the mask against the true box everywhere.",
    ),
)


def tables(tally: Tally) -> list[Table]:
    """All tables of a run; those of which nothing was measured are left out."""
    made = []
    for title, columns, rows, note in _LAYOUT:
        filled = []
        for name, group in rows:
            cells = tuple(_cell(tally, f"{group}/{measure}", unit) for _, measure, unit in columns)
            if any(c.value is not None for c in cells):
                filled.append((name, cells))
        if filled:
            made.append(Table(title, tuple(c for c, _, _ in columns), tuple(filled), note))
    described = sum(not t.title.startswith("Questions") for t in made)
    return made[:described] + _no_target(tally) + made[described:]


def _cell(tally: Tally, key: str, unit: str) -> Cell:
    measure = tally.measure(key)
    if unit == "count":
        return Cell(None if measure is None else int(measure.denominator), "")
    return Cell(measure, unit)


def _no_target(tally: Tally) -> list[Table]:
    columns = ("without target", "said so", "with target", "said so ", "balanced")
    rows = []
    for name, absent in (("all", "balanced.absent"), ("hand that is not there", "balanced.absent.absent_hand"),
                         ("empty hand", "balanced.absent.empty_hand"), ("object that is not there", "balanced.absent.absent_object")):
        present = absent.replace("balanced.absent", "balanced.present")
        no, yes = tally.measure(f"{absent}/right"), tally.measure(f"{present}/right")
        if no is not None and yes is not None:
            both = tally.measure(f"{absent}/right", f"{present}/right")
            rows.append((name, (Cell(int(no.denominator), ""), Cell(no), Cell(int(yes.denominator), ""), Cell(yes), Cell(both))))
    note = "As many questions with a target as without, of the same kinds; balanced: the mean of the two."
    return [Table("Is there a target", columns, tuple(rows), note)] if rows else []
