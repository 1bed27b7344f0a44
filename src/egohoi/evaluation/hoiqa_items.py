"""One question of the HOI-QA test with its truth, and how the predictions answer it."""

from typing import NamedTuple

from egohoi import boxes
from egohoi.errors import BadData, BadPredictions
from egohoi.evaluation import hoiqa_files, hoiqa_released

#: Subsets that ask for boxes, and what they are about.
BOX_SUBSETS = ("handN2handBB", "objN2objBB", "handN2objBB", "objN2handBB")
NOUN_SUBSETS = ("handBB2handN", "objBB2objN", "objN2handN", "handN2objN")

#: way of an item -> name of its answer in a prediction record.
_ANSWERS = {"ref": "ref_answer", "iden": "iden_answer", "": "answer"}


class Item(NamedTuple):  # a tuple, because one is made for every answer and a frozen dataclass takes four times as long
    """part: epic, ego4d, hoi. key: of the files. way: ref, iden, or "" in the hoi file. question: with its tag, as in the file.

    boxes: one or two truths, xyxy pixels of `size`; box: what an identification asks about. noun: the name that is asked for, or
    for a referral the name asked with.
    """

    part: str
    key: str
    way: str
    subset: str
    image: str
    size: tuple[int, int]
    question: str
    boxes: tuple
    noun: str

    @property
    def id(self) -> str:
        """`epic-test/KEY:ref`: file, key, way."""
        name = hoiqa_files.PARTS[self.part][0].removesuffix(".json")
        return f"{name}/{self.key}" + (f":{self.way}" if self.way else "")

    @property
    def asks_box(self) -> bool:
        """Whether the answer is one or two boxes (else a name)."""
        return self.subset in BOX_SUBSETS


def of_record(part: str, key: str, row: dict, *, any_canvas: bool = False) -> tuple[Item, ...]:
    """The items of a truth record: referral and identification of a test file, one of the hoi file.

    any_canvas: truth boxes may leave the canvas. Raises BadData.
    """
    size = hoiqa_files.PARTS[part][2]
    limits = (1e9, 1e9) if any_canvas else size
    image = row.get("image_path", "")
    if not isinstance(image, str):
        image = str(image)
    if part == "hoi":
        return (_hoi(key, row, image, size, limits),)
    noun = row.get("noun")
    if not isinstance(noun, str):
        raise BadData(f"{hoiqa_files.place(part, key)}: 'noun' must be a text, got {noun!r:.60}")
    box = hoiqa_files.box_of(row.get("bbox"), part, key, limits)
    kind = "hand" if noun in hoiqa_released.HANDS else "obj"
    return (
        Item(part, key, "ref", f"{kind}N2{kind}BB", image, size, f"Where is the {noun}", (box,), noun),
        Item(part, key, "iden", f"{kind}BB2{kind}N", image, size, boxes.BRACES.encode(box, size), (box,), noun),
    )


def _hoi(key: str, row: dict, image: str, size, limits) -> Item:
    question, answer = row.get("question"), row.get("answer")
    if not isinstance(question, str):
        raise BadData(f"{hoiqa_files.place('hoi', key)}: 'question' must be a text, got {question!r:.60}")
    if "[refer]" in question:
        try:
            subset = hoiqa_released.box_subset(question)
        except BadData as error:
            raise BadData(f"{hoiqa_files.place('hoi', key)}: {error}") from error
        if isinstance(answer, str):
            truth = tuple([hoiqa_files.box_of(b, "hoi", key, limits) for b in hoiqa_released.boxes_of(answer)])
            if len(truth) != 2:
                raise BadData(f"{hoiqa_files.place('hoi', key)}: an answer of several boxes must hold two, got {answer!r:.80}")
        else:
            truth = (hoiqa_files.box_of(answer, "hoi", key, limits),)
        return Item("hoi", key, "", subset, image, size, question, truth, "")
    if "[vqa]" not in question:
        raise BadData(f"{hoiqa_files.place('hoi', key)}: the question has neither [refer] nor [vqa]: {question!r:.80}")
    if not isinstance(answer, str):
        raise BadData(f"{hoiqa_files.place('hoi', key)}: the answer to a [vqa] question must be a name, got {answer!r:.60}")
    return Item("hoi", key, "", hoiqa_released.noun_subset(question), image, size, question, (), answer)


def answers(items: tuple[Item, ...], row: dict) -> list[tuple[Item, str]]:
    """(item, answer text) of one prediction record. Raises BadPredictions for another layout, or if another question was asked."""
    first = items[0]
    asked, wanted = row.get("question"), first.question
    # The published files hold the question without its tag: the exact text is tried first, because it is quick.
    same = asked is None or asked == wanted[wanted.find("] ") + 2 if first.part == "hoi" else 0 :]
    if not same and hoiqa_files.plain(str(asked)) != hoiqa_files.plain(wanted):
        raise BadPredictions(f"{_where(first)}: was asked {str(asked)[:80]!r}, the truth asks {wanted!r}: it belongs to another data set")
    out = []
    for item in items:
        name = _ANSWERS[item.way]
        text = row.get(name)
        if not isinstance(text, str):
            raise BadPredictions(f"{_where(first)}: '{name}' must be a text, got {text!r:.60}")
        out.append((item, text))
    return out


def _where(item: Item) -> str:
    return f"predictions of {hoiqa_files.PARTS[item.part][0]}: '{item.key[:80]}'"


def released(item: Item, answer: str) -> tuple[str, hoiqa_released.Outcome]:
    """("box" or "noun", outcome) of one answer by the published rules. Raises BadPredictions where the script stops."""
    try:
        if item.part == "hoi":
            if "[refer]" in item.question:
                return "box", hoiqa_released.hoi_box(item.question, item.boxes, answer)
            return "noun", hoiqa_released.hoi_noun(item.question, item.noun, answer)
        if item.way == "ref":
            return "box", hoiqa_released.test_box(item.noun, item.boxes[0], answer, item.size)
        return "noun", hoiqa_released.test_noun(item.noun, answer)
    except (ZeroDivisionError, OverflowError) as error:
        raise BadPredictions(
            f"{item.id}: the published script stops at this answer, {answer[:80]!r} ({error}): use --protocol strict"
        ) from error
