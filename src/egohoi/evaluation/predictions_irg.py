"""Saved predictions on Ego-IRGBench: lines of `egohoi predict`, records of a run, ANNEXE's output.json, EARL's results JSON.

Each is read tolerantly: what cannot be read is counted. What does not belong to the data (missing, doubled, extra, of another canvas, of
another data set) is refused with one line that names the items.
"""

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath

from egohoi import masks
from egohoi.errors import BadData, BadMask, BadPredictions
from egohoi.evaluation import irg_answers, irg_items
from egohoi.evaluation.hoiqa_files import names
from egohoi.evaluation.irg_answers import Answer, Said
from egohoi.evaluation.irg_items import Plan

_PROMPT = re.compile(r"segmented accorting to this prompt:\s*(.*?)\s*(?:\[/INST\].*)?$", re.DOTALL)
_BOX = re.compile(r"\"?([^\"\n:\[\]{}]+?)\"?\s*:\s*\[\s*(-?[\d.]+(?:\s*,\s*-?[\d.]+)*)\s*\]")
NOTHING = "no suitable referring result"


class Saved:
    """Predictions that were checked against a plan. kind: lines | annexe | earl.

    order: ids in the order of the file (ANNEXE's loader hands out an item several times). faults: what could not be read -> number, but
    for what `answer` counts in its own.
    published: the numbers at the end of ANNEXE's file, where it has them.
    """

    def __init__(self, kind: str, source: str, plan: Plan):
        self.kind, self.source, self.plan = kind, source, plan
        self.order: list[str] = []
        self.faults: Counter = Counter()
        self.published: list[str] | None = None
        self._places: dict[str, int] = {}  # file number and place in bytes, in one number
        self._files: list = []
        self._answers: dict[str, Answer] = {}
        self.boxes_only = False  # lines of a model that gives boxes but never a mask

    @property
    def ids(self) -> dict[str, str]:
        """Items that the predictions answer -> query: all of the plan, but for ANNEXE's own loader."""
        held = self._answers or self._places
        if len(held) == len(self.plan.queries):
            return self.plan.queries
        return {name: q for name, q in self.plan.queries.items() if name in held}

    def place(self, name: str, number: int, start: int) -> None:
        """Note that the answer to an item is the line at `start` of file `number`."""
        self._places[name] = number << 48 | start
        self.order.append(name)

    def placed(self, name: str) -> bool:
        return name in self._places

    def answer(self, name: str) -> Answer:
        """The answer to an item."""
        if name in self._answers:
            return self._answers[name]
        file = self._files[self._places[name] >> 48]
        file.seek(self._places[name] & (1 << 48) - 1)
        answer = irg_answers.of_row(json.loads(file.readline()))
        return answer._replace(grounded=False) if self.boxes_only else answer

    def open(self, files: Sequence) -> None:
        """Open the files to whose lines `place` points."""
        self._files = [open(path, "rb") for path in files]


def read(files: Sequence, plan: Plan, *, folder_of_masks=None) -> Saved:
    """Check and index saved predictions. folder_of_masks: index images (ID.png or FRAME.png) for files that hold no masks.

    Raises BadPredictions, BadData.
    """
    source = ", ".join(map(str, files))
    for path in files:
        if not Path(path).is_file():
            raise BadData(f"{path}: no such file")
    with open(files[0], encoding="utf-8", errors="replace") as file:
        first = file.read(4096).lstrip()
    if first.startswith("["):
        saved = _lists(files, plan, source)
    else:
        saved = _lines(files, plan, source)
    if folder_of_masks is not None:
        _with_masks(saved, Path(folder_of_masks))
    return saved


def _lines(files, plan: Plan, source: str) -> Saved:
    saved = Saved("lines", source, plan)
    saved.open(files)
    unknown, doubled, canvas, other, given = [], [], [], [], set()
    for file, path in enumerate(map(Path, files)):
        for number, start, row in _rows(path, saved.faults):
            where = f"{path.name}:{number}"
            if "run" in row and number == 1:
                continue
            name, wrong = _item_of(row, plan, saved)
            if name is None:
                unknown.append(str(row.get("id") or row.get("image") or where))
                continue
            if wrong:
                other.append(name)
            elif saved.placed(name):
                doubled.append(name)
            elif got := _other_canvas(row, plan.sizes[irg_items.frame_of(name)]):
                canvas.append(f"{name} ({got})")
            saved.place(name, file, start)
            given.update(key for entity in _entities(row) for key in ("box", "mask") if entity.get(key) is not None)
    saved.boxes_only = given == {"box"}
    if not saved.order and (unknown or not saved.faults):
        raise BadPredictions(f"{source}: is of another data set, none of its {len(unknown)} lines belongs to {_what(plan)}: {names(unknown)}")
    _refuse(source, plan, unknown, doubled, canvas, other, [n for n in plan.queries if not saved.placed(n)])
    return saved


def _rows(path: Path, faults: Counter) -> Iterator[tuple[int, int, dict]]:
    """(line number, its place in bytes, the row) of each readable line."""
    place = 0
    with open(path, "rb") as lines:
        for number, raw in enumerate(lines, 1):
            start, place = place, place + len(raw)
            if not raw.strip():
                continue
            try:
                row = json.loads(raw)
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict):
                yield number, start, row
            else:
                faults["unreadable lines"] += 1


def _item_of(row: dict, plan: Plan, saved: Saved) -> tuple[str | None, bool]:
    """Id of the item that a line answers (None: of no item), and whether the line names another picture or query than the item has."""
    name, query, image = row.get("id"), row.get("query"), row.get("image")
    frame = PurePath(image).stem if isinstance(image, str) else None
    if isinstance(name, str) and name in plan.queries:
        same = (not isinstance(query, str) or irg_items.plain(query) == irg_items.plain(plan.queries[name])) and frame in (None, irg_items.frame_of(name))
        return name, not same
    if frame is None or not isinstance(query, str) or isinstance(name, str) and "/" in name:
        return None, False
    found = plan.find(frame, query)
    return (next((n for n in found if not saved.placed(n)), found[0]) if found else None), False


def _entities(row: dict) -> list[dict]:
    found = row.get("entities")
    return [e for e in found if isinstance(e, dict)] if isinstance(found, list) else []


def _other_canvas(row: dict, size: tuple[int, int]) -> str:
    """The size of a line or of one of its masks if it is not the picture's, else ""."""
    said = row.get("size")
    if isinstance(said, list) and len(said) == 2 and tuple(said) != tuple(size):
        return f"{said[0]}x{said[1]}"
    for entity in _entities(row):
        mask = entity.get("mask")
        shape = mask.get("size") if isinstance(mask, dict) else None
        if isinstance(shape, list) and len(shape) == 2 and (shape[1], shape[0]) != tuple(size):
            return f"{shape[1]}x{shape[0]}"
    return ""


def _what(plan: Plan) -> str:
    return f"{plan.folder} (split {plan.split})"


def _refuse(source, plan, unknown, doubled, canvas, other, missing) -> None:
    """Raise BadPredictions for the first kind of misfit."""
    total = len(plan.queries)
    if other:
        raise BadPredictions(f"{source}: {len(other)} lines have another picture or query than the item they name, so they are of another data set: {names(other)}")
    if unknown:
        raise BadPredictions(f"{source}: {len(unknown)} predictions belong to no item of {_what(plan)}: {names(unknown)}")
    if doubled:
        raise BadPredictions(f"{source}: {len(doubled)} items are answered more than once: {names(doubled)}")
    if canvas:
        sizes = [f"{n}, its picture is {'x'.join(map(str, plan.sizes[irg_items.frame_of(n.split(' (')[0])]))}" for n in canvas]
        raise BadPredictions(f"{source}: {len(canvas)} predictions have another canvas than their picture: {names(sizes)}: save masks at the picture's size")
    if missing:
        raise BadPredictions(
            f"{source}: {len(missing)} of {total} items have no prediction: {names(missing)} (predictions of a part: name it by --limit and --queries)"
        )


def objects(text: str, faults: Counter) -> tuple[list[dict], str]:
    """The objects of a JSON list that need not be whole (a comma too many, torn lines), and the text behind its closing bracket."""
    decoder, out, at = json.JSONDecoder(), [], text.find("[") + 1
    while at < len(text):
        if text[at] in " \t\r\n,":
            at += 1
        elif text[at] == "]":
            return out, text[at + 1 :]
        else:
            try:
                row, at = decoder.raw_decode(text, at)
                if isinstance(row, dict):
                    out.append(row)
                    continue
            except (ValueError, RecursionError):
                pass
            faults["unreadable entries"] += 1
            after = [p for p in (text.find("\n{", at + 1), text.find("\n]", at + 1)) if p >= 0]
            at = min(after) if after else len(text)
    return out, ""


def _lists(files, plan: Plan, source: str) -> Saved:
    faults: Counter = Counter()
    rows, tail = [], ""
    for path in files:
        more, tail = objects(Path(path).read_text(encoding="utf-8", errors="replace"), faults)
        rows += more
    kind = "annexe" if any("vqa_ans_pred" in r for r in rows) else "earl"
    saved = Saved(kind, source, plan)
    saved.faults = faults
    if kind == "annexe":
        lines = tail.split()
        saved.published = lines if len(lines) == 6 else None
        _annexe(saved, rows)
    else:
        _earl(saved, rows)
    return saved


def _annexe(saved: Saved, rows: list[dict]) -> None:
    """Rows of ANNEXE's output.json: {vqa_ans_pred, cap_ans_pred, vqa_que, cap_que, vqa_ans_gt, cap_ans_gt, img_path}.

    Its loader hands out the last entry of a frame as often as the frame has entries, with one of its queries; a file that answers every
    item once is taken as well.
    """
    plan, unknown, other, counts = saved.plan, [], [], Counter()
    truths: dict[str, dict] = {}
    for number, row in enumerate(rows, 1):
        frame = PurePath(str(row.get("img_path"))).stem
        match = _PROMPT.search(str(row.get("vqa_que") or ""))
        query = match.group(1) if match else str(row.get("vqa_que") or "")
        found = plan.find(frame, query)
        if not found:
            unknown.append(f"entry {number} ({frame}: {query[:40]})")
            continue
        if frame not in truths:
            truths[frame] = {t.id: t.published for t in irg_items.truths(plan, frame)}
        wanted = (row.get("vqa_ans_gt"), row.get("cap_ans_gt"))
        fitting = [n for n in found if truths[frame][n] == wanted] if None not in wanted else found
        if not fitting:
            other.append(f"entry {number} ({frame}: {query[:40]})")
            continue
        name = next((n for n in fitting if not counts[n]), fitting[-1])
        texts = {k: row.get(k) for k in ("vqa_ans_pred", "cap_ans_pred")}
        saved.faults.update({"answers without text": sum(not isinstance(v, str) for v in texts.values())} if not all(isinstance(v, str) for v in texts.values()) else {})
        text = str(texts["vqa_ans_pred"] or "")
        made = Answer(text, str(texts["cap_ans_pred"] or ""), _names_a_target(text), tuple(Said(n) for n in _split(text)), grounded=False, boxed=False)
        if counts[name] and saved._answers[name] != made:
            other.append(f"entry {number} ({name} was answered otherwise before)")
        saved._answers[name] = made
        saved.order.append(name)
        counts[name] += 1
    if rows and len(unknown) == len(rows):
        raise BadPredictions(f"{saved.source}: is of another data set, none of its {len(rows)} entries belongs to {_what(plan)}: {names(unknown)}")
    if other:
        raise BadPredictions(f"{saved.source}: {len(other)} entries have another truth than {_what(plan)}, so they are of another data set: {names(other)}")
    _refuse(saved.source, plan, unknown, [], [], [], [])
    missing = [n for n in plan.queries if n not in counts]
    if missing and not _as_loaded(counts, plan):
        _refuse(saved.source, plan, [], [n for n, c in counts.items() if c > 1] if len(counts) == len(plan.queries) else [], [], [], missing)
    elif not missing:
        _refuse(saved.source, plan, [], [n for n, c in counts.items() if c > 1], [], [], [])


def _as_loaded(counts: Counter, plan: Plan) -> bool:
    """Whether the items are what the released loader hands out: for every frame one query of its last entry, once for each entry."""
    entries: dict[str, dict[str, None]] = {}
    for name in plan.queries:
        frame, entry, _ = name.rsplit("/", 2)
        entries.setdefault(frame, {})[entry] = None
    given: dict[str, list[str]] = {}
    for name in counts:
        given.setdefault(irg_items.frame_of(name), []).append(name)
    return set(given) == set(entries) and all(
        len(found) == 1 and found[0].rsplit("/", 2)[1] == list(entries[frame])[-1] and counts[found[0]] == len(entries[frame]) for frame, found in given.items()
    )


def _names_a_target(text: str) -> bool:
    text = text.lower().strip()
    return bool(text) and text not in ("none", "null", "[]") and "no such target" not in text and NOTHING not in text


def _split(text: str) -> list[str]:
    """The names of an answer that joins them by "and"."""
    return [n for n in (p.strip(" .") for p in re.split(r"\s+and\s+|,", text)) if n] if _names_a_target(text) else []


def _earl(saved: Saved, rows: list[dict]) -> None:
    """Rows of EARL's results: {image_path, query, ground_truth, prediction}, the prediction with <answer> and <bbox> (and <analyzing>)."""
    plan, unknown, doubled = saved.plan, [], []
    by_frame: dict[str, list[tuple[str, str]]] = {}
    for name, query in plan.queries.items():
        by_frame.setdefault(irg_items.frame_of(name), []).append((irg_items.plain(query).lower(), name))
    for number, row in enumerate(rows, 1):
        frame, asked = PurePath(str(row.get("image_path"))).stem, irg_items.plain(str(row.get("query") or "")).lower()
        fitting = [(len(q), n) for q, n in by_frame.get(frame, ()) if asked.endswith(q) or f"{q}\"" in asked or f"{q}'" in asked]
        fitting = fitting or [(len(q), n) for q, n in by_frame.get(frame, ()) if q in asked]
        longest = [n for size, n in fitting if size == max(fitting)[0]]
        if not longest:
            unknown.append(f"entry {number} ({frame})")
            continue
        name = next((n for n in longest if n not in saved._answers), longest[0])
        if name in saved._answers:
            doubled.append(name)
            continue
        saved._answers[name] = earl_answer(row.get("prediction"), saved.faults)
        saved.order.append(name)
    if rows and len(unknown) == len(rows):
        raise BadPredictions(f"{saved.source}: is of another data set, none of its {len(rows)} entries belongs to {_what(plan)}: {names(unknown)}")
    _refuse(saved.source, plan, unknown, doubled, [], [], [n for n in plan.queries if n not in saved._answers])


def earl_answer(text, faults: Counter) -> Answer:
    """An answer out of EARL's tags. Counts "answers without text", "unreadable boxes" and "unreadable names" in `faults`."""
    if not isinstance(text, str) or not text.strip() or text.startswith("ERROR:"):
        faults["answers without text"] += 1
        return Answer("", None, False, grounded=False)
    answer, analysis = (_tag(text, tag) for tag in ("answer", "analyzing"))
    if answer is None:
        faults["answers without <answer>"] += 1
    inside = "\n".join(re.findall(r"<bbox>(.*?)(?:</bbox>|$)", text, re.DOTALL))
    boxes: dict[str, tuple] = {}
    for name, numbers in _BOX.findall(inside):
        try:
            values = tuple(float(v) for v in numbers.split(","))
        except ValueError:
            values = ()
        if len(values) == 4:
            boxes[name.strip()] = values
        else:
            faults["unreadable boxes"] += 1
    if inside.strip() and not boxes and inside.strip().lower() not in ("none", "null", "[]", "{}"):
        faults["unreadable boxes"] += 1
    listed = _names_of(answer or "", faults)
    none = (answer or "").lower()
    found = bool(boxes) and NOTHING not in none and none != "none"
    things = [Said(n, None, b) for n, b in boxes.items()] or [Said(n) for n in listed]
    said = " and ".join(listed) if listed else (answer or "")
    return Answer(said, analysis, found or bool(listed and not inside.strip()), tuple(things), grounded=False)


def _tag(text: str, tag: str) -> str | None:
    match = re.search(rf"<{tag}>(.*?)(?:</{tag}>|$)", text, re.DOTALL)
    return match.group(1).strip() if match else None


def _names_of(answer: str, faults: Counter) -> list[str]:
    if answer.startswith("["):
        try:
            return [str(n) for n in ast.literal_eval(answer)]
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            faults["unreadable names"] += 1
            return re.findall(r"['\"]([^'\"]+)['\"]", answer)
    return _split(answer)


def _with_masks(saved: Saved, folder: Path) -> None:
    """Give every answer the masks of its index image: the k-th thing has the pixels of value k. Raises BadData, BadPredictions."""
    import numpy as np
    from PIL import Image

    if not folder.is_dir():
        raise BadData(f"{folder}: no such folder: give the folder of the predicted masks")
    lacking, canvas = [], []
    for name in dict.fromkeys(saved.order):
        frame = irg_items.frame_of(name)
        path = next((p for p in (folder / f"{name}.png", folder / f"{frame}.png") if p.is_file()), None)
        if path is None:
            lacking.append(name)
            continue
        try:
            with Image.open(path) as image:
                index = np.asarray(image)
        except (OSError, SyntaxError, ValueError) as error:
            raise BadData(f"{path}: cannot be read as an index image ({str(error)[:80]})") from error
        if index.ndim != 2 or index.shape[::-1] != tuple(saved.plan.sizes[frame]):
            canvas.append(f"{name} ({'x'.join(map(str, index.shape[1::-1]))})")
            continue
        answer = saved.answer(name)
        things = list(answer.things)
        for k in range(int(index.max(initial=0))):
            try:
                mask = masks.from_index(index, k + 1)
            except BadMask:  # pragma: no cover - an index image always has two dimensions here
                continue
            if k < len(things):
                things[k] = things[k]._replace(mask=mask)
            else:
                things.append(Said("", mask))
        found = bool(index.any()) if saved.kind == "annexe" else answer.found  # its texts do not say whether there is a target
        saved._answers[name] = answer._replace(things=tuple(things), found=found, grounded=True)
    if lacking:
        raise BadPredictions(f"{folder}: {len(lacking)} items have no index image (ID.png, as FRAME/ENTRY/QUESTION.png): {names(lacking)}")
    _refuse(str(folder), saved.plan, [], [], canvas, [], [])


def write_masks(folder, records: Iterable[dict]) -> int:
    """Write the masks of records as index images `ID.png` (value k: the k-th thing, the first on top); returns how many. Atomic a file."""
    import os

    import numpy as np
    from PIL import Image

    count = 0
    for row in records:
        width, height = row["size"]
        index = np.zeros((height, width), dtype=np.uint8)
        if row["target_found"]:
            for k, entity in reversed(list(enumerate(row["entities"]))):
                if entity["mask"] is not None:
                    index[masks.decode(entity["mask"])] = k + 1
        path = Path(folder) / f"{row['id']}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(index).save(f"{path}.part", "PNG")
        os.replace(f"{path}.part", path)
        count += 1
    return count
