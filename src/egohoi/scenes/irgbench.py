"""Ego-IRGBench as published (ANNEXE, arXiv 2504.01472), and writing of data in the same layout.

    FOLDER/RGB/NAME.jpg                     picture (1920x1080 in the benchmark)
    FOLDER/depth/NAME.png                   depth image, one channel, 8 or 16 bit
    FOLDER/mask/NAME.png                    index image: every pixel holds the number of its thing, 0 is background
    FOLDER/dataset_split/SPLIT/NAME.json    [{masks_idx: [up to 4 numbers, 0 = unused], with_mask: 0|1, caption, answer,
                                              tokens: [4 names, "" = unused], questions: [{id, query, is_sentence}, ...]}, ...]

The k-th target has the name `tokens[k]` and the pixels `mask == masks_idx[k]`. One entry is one set of targets with all the
wordings that ask for it; every entry of a frame becomes one `Item`, none is lost.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from egohoi import images, masks
from egohoi.errors import BadData, BadRecord, EgohoiError
from egohoi.records import Hand, Object, Scene

SPLITS = ("train", "val", "test")
#: Most targets of one entry (the layout has four slots).
SLOTS = 4
#: Largest number that an index image (16 bit) can hold.
TOP = 65535
KINDS = ("single", "multi", "none")
_PICTURES = (".jpg", ".jpeg", ".png")
#: Words at which the naming of a thing ends and its place begins.
_PLACE = frozenset(("in", "on", "of", "at", "with", "that", "which", "held", "holding", "near", "under", "behind", "from", "to"))


@dataclass(frozen=True)
class Question:
    """One wording. is_sentence: a whole sentence rather than a phrase such as "left hand"."""

    id: str
    query: str
    is_sentence: bool


@dataclass(frozen=True)
class Target:
    """One thing to ground. value: its number in the index image."""

    name: str
    value: int


@dataclass(frozen=True)
class Item:
    """One entry of a frame: a set of targets (possibly none) and all the queries that ask for it.

    frame: file name without extension. entry: position in the frame's JSON list, from 0. size: (width, height) pixels of
    the picture. image, depth, mask: paths; depth is None if there is none. caption: the analysis. answer: as published.
    with_mask: the published flag; `targets` (masks_idx) decides what is to be grounded, `check` notes where they disagree.
    """

    frame: str
    entry: int
    split: str
    size: tuple[int, int]
    image: str
    mask: str
    depth: str | None
    with_mask: bool
    caption: str
    answer: str
    targets: tuple[Target, ...]
    questions: tuple[Question, ...]

    @property
    def id(self) -> str:
        """`FRAME/ENTRY`, unique in a split; the queries of the item are `FRAME/ENTRY/QUESTION_ID`."""
        return f"{self.frame}/{self.entry}"

    @property
    def kind(self) -> str:
        """"single", "multi" or "none" by the number of targets."""
        return kind_of(len(self.targets))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the targets, in order."""
        return tuple(t.name for t in self.targets)


def kind_of(targets: int) -> str:
    """Kind of an entry with that many targets: none, single, multi."""
    return "none" if targets == 0 else "single" if targets == 1 else "multi"


def splits(folder) -> tuple[str, ...]:
    """Names of the splits that `folder` holds, the benchmark's own order first. Raises BadData."""
    base = Path(folder) / "dataset_split"
    if not base.is_dir():
        raise BadData(f"{folder}: no folder 'dataset_split' there: give the folder that holds RGB, depth, mask and dataset_split")
    found = sorted(p.name for p in base.iterdir() if p.is_dir())
    return tuple([s for s in SPLITS if s in found] + [s for s in found if s not in SPLITS])


def frames(folder, split: str) -> list[str]:
    """Names of the frames of a split, sorted. Raises BadData."""
    base = Path(folder) / "dataset_split" / split
    if not base.is_dir():
        known = ", ".join(splits(folder)) or "none"
        raise BadData(f"{folder}: no split '{split}' (there: {known})")
    return sorted(p.name[: -len(".json")] for p in base.iterdir() if p.name.endswith(".json"))


def read(folder, split: str, *, depth: bool = True, broken: list[str] | None = None, pixels: bool = False) -> Iterator[Item]:
    """Items of a split, streaming, frames in order of their names, entries in order of the file.

    depth: whether every frame must have a depth image (False: frames without one come with `depth=None`).
    broken: if given, a frame that cannot be used is left out, its one-line message is appended, and reading goes on.
    Checked here: the JSON, that the files exist, that mask and depth have the picture's size. That needs headers only; with
    `pixels` every file is opened as by `check`, on all cores. Raises BadData, BadRecord (with `pixels` BadImage) with the
    file's name.
    """
    for items, error in _frames(folder, split, frames(folder, split), depth, pixels):
        if error is not None and broken is None:
            raise error
        if error is not None:
            broken.append(str(error))
        yield from items


def _frames(folder, split: str, names: list[str], depth: bool, pixels: bool) -> Iterator[tuple[list[Item], EgohoiError | None]]:
    """`_looked` of each frame, in order; with `pixels` in threads, for decoding leaves Python free."""
    if not pixels:
        yield from (_looked(folder, split, name, depth, False) for name in names)
        return
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield from pool.map(lambda name: _looked(folder, split, name, depth, True), names)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _looked(folder, split: str, name: str, depth: bool, pixels: bool) -> tuple[list[Item], EgohoiError | None]:
    """The items of a frame, or what is wrong with it. pixels: open its picture, mask and depth image."""
    try:
        items = read_frame(folder, split, name, depth=depth)
        if pixels:
            index = index_image(items[0])
            for item in items:
                target_masks(item, index)
            if items[0].depth is not None:
                depth_image(items[0])
            images.load(items[0].image)
    except EgohoiError as error:
        return [], error
    return items, None


def read_frame(folder, split: str, name: str, *, depth: bool = True) -> list[Item]:
    """All items of one frame; see `read`."""
    folder = Path(folder)
    path = folder / "dataset_split" / split / f"{name}.json"
    entries = parse(path)
    image = _file(folder / "RGB", name, _PICTURES, path)
    mask = _file(folder / "mask", name, (".png",), path)
    try:
        deep = _file(folder / "depth", name, (".png",), path)
    except BadData:
        if depth:
            raise
        deep = None
    size = _size(image, upright=True)
    for other, what in ((mask, "mask"), (deep, "depth image")):
        if other is not None and (got := _size(other)) != size:
            raise BadData(f"{other}: the {what} is {got[0]}x{got[1]} pixels, its picture {size[0]}x{size[1]}: export it at the picture's size")
    return [
        Item(name, k, split, size, str(image), str(mask), None if deep is None else str(deep), *fields)
        for k, fields in enumerate(entries)
    ]


def parse(path) -> list[tuple]:
    """The entries of one annotation file: [(with_mask, caption, answer, targets, questions), ...]. Raises BadRecord, BadData."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BadData(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"{path}: cannot be read ({str(error)[:80]})") from error
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"{path}: not JSON ({str(error)[:80]})") from error
    if not isinstance(data, list):
        raise BadRecord(f"{path}: expected a list of entries, got {type(data).__name__}")
    if not data:
        raise BadRecord(f"{path}: the list of entries is empty")
    return [_entry(row, f"{path}: entry {k}") for k, row in enumerate(data)]


def _entry(row, where: str) -> tuple:
    if not isinstance(row, dict):
        raise BadRecord(f"{where}: expected an object, got {type(row).__name__}")
    lacking = [k for k in ("masks_idx", "caption", "answer", "tokens", "questions") if k not in row]
    if lacking:
        raise BadRecord(f"{where}: lacks {', '.join(lacking)}")
    values, names = row["masks_idx"], row["tokens"]
    if not isinstance(values, list) or not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        raise BadRecord(f"{where}: masks_idx must be a list of integers, got {values!r:.60}")
    outside = [v for v in values if not 0 <= v <= TOP]
    if outside:
        raise BadRecord(f"{where}: masks_idx {outside[0]} is out of range: an index image holds 0..{TOP}")
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise BadRecord(f"{where}: tokens must be a list of names, got {names!r:.60}")
    if len(values) > SLOTS or len(names) > SLOTS:
        raise BadRecord(f"{where}: at most {SLOTS} targets, got {max(len(values), len(names))}")
    for key in ("caption", "answer"):
        if not isinstance(row[key], str):
            raise BadRecord(f"{where}: {key} must be text, got {type(row[key]).__name__}")
    names = names + [""] * (len(values) - len(names))
    used = [(n.strip(), v) for n, v in zip(names, values) if v != 0]
    unnamed = [v for n, v in used if not n]
    if unnamed:
        raise BadRecord(f"{where}: masks_idx {unnamed[0]} has no name in tokens")
    if len({v for _, v in used}) < len(used):
        raise BadRecord(f"{where}: masks_idx names the same pixels twice: {values}")
    with_mask = row.get("with_mask", int(bool(used)))
    if with_mask not in (0, 1):
        raise BadRecord(f"{where}: with_mask must be 0 or 1, got {with_mask!r:.40}")
    targets = tuple(Target(n, v) for n, v in used)
    return bool(with_mask), row["caption"].strip(), row["answer"].strip(), targets, _questions(row["questions"], where)


def _questions(rows, where: str) -> tuple[Question, ...]:
    if not isinstance(rows, list) or not rows:
        raise BadRecord(f"{where}: questions must be a list with at least one query")
    questions = []
    for k, row in enumerate(rows):
        if not isinstance(row, dict) or not isinstance(row.get("query"), str) or not row["query"].strip():
            raise BadRecord(f"{where}: question {k} must be an object with a non-empty 'query'")
        questions.append(Question(str(row.get("id", k)), row["query"].strip(), bool(row.get("is_sentence", False))))
    if len({q.id for q in questions}) < len(questions):  # ids that repeat would make predictions ambiguous: number them anew
        questions = [Question(str(k), q.query, q.is_sentence) for k, q in enumerate(questions)]
    return tuple(questions)


def _file(folder: Path, name: str, endings: tuple[str, ...], source: Path) -> Path:
    for ending in endings:
        path = folder / f"{name}{ending}"
        if path.is_file():
            return path
    raise BadData(f"{folder / (name + endings[0])}: missing, but {source} belongs to it")


def _size(path: Path, upright: bool = False) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = upright and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (height, width) if turned else (width, height)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise BadData(f"{path}: cannot be read as a picture ({str(error)[:80]})") from error


def index_image(item: Item) -> np.ndarray:
    """The index image of an item: integer [H, W], 0 is background. Raises BadData."""
    return _plane(item.mask, item.size, "mask")


def depth_image(item: Item) -> np.ndarray:
    """The depth image of an item: float32 [H, W] in the file's own unit (HOI4D: millimetres, 0 = not measured).

    Raises BadData, also if the item has no depth image.
    """
    if item.depth is None:
        raise BadData(f"{item.image}: its frame '{item.frame}' has no depth image")
    return _plane(item.depth, item.size, "depth image").astype(np.float32)


def _plane(path: str, size: tuple[int, int], what: str) -> np.ndarray:
    try:
        with Image.open(path) as image:
            array = np.asarray(image)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise BadData(f"{path}: the {what} is damaged or cut short ({str(error)[:80]})") from error
    if array.ndim == 3 and array.shape[2] in (3, 4) and (array[..., :3] == array[..., :1]).all():
        array = array[..., 0]  # one channel that was saved as grey RGB
    if array.ndim != 2:
        raise BadData(f"{path}: the {what} must have one channel, got {array.shape[2:]} channels")
    if array.shape != (size[1], size[0]):
        raise BadData(f"{path}: the {what} is {array.shape[1]}x{array.shape[0]} pixels, its picture {size[0]}x{size[1]}")
    return array.astype(np.uint8) if array.dtype == bool else array


def target_masks(item: Item, index: np.ndarray | None = None) -> list[np.ndarray]:
    """bool [H, W] for each target of an item, in order. index: the index image if it is already at hand.

    Raises BadData if a target's number does not occur in the index image.
    """
    index = index_image(item) if index is None else index
    found = [index == t.value for t in item.targets]
    for target, mask in zip(item.targets, found):
        if not mask.any():
            raise BadData(f"{item.mask}: masks_idx {target.value} ('{target.name}', entry {item.entry}) occurs nowhere in the mask")
    return found


def scenes(folder, split: str, *, broken: list[str] | None = None) -> Iterator[Scene]:
    """The frames of a split as Scenes: everything that any entry names, with box and mask, once.

    Names with "left hand" or "right hand" become hands of that side; who holds what is not labelled, so no contact is
    stated and `exhaustive` is None. Raises as `read`.
    """
    for name in frames(folder, split):
        try:
            yield _scene(read_frame(folder, split, name, depth=False))
        except EgohoiError as error:
            if broken is None:
                raise
            broken.append(str(error))


def _scene(items: list[Item]) -> Scene:
    first, index = items[0], index_image(items[0])
    named: dict[int, str] = {}
    for item in items:
        target_masks(item, index)
        for target in item.targets:
            named.setdefault(target.value, target.name)
    hands, objects = [], []
    for value, name in sorted(named.items()):
        rle = masks.from_index(index, value)
        side = side_of(name)
        if side is not None:
            hands.append(Hand(side=side, box=masks.box(rle), mask=rle))
        else:
            objects.append(Object(name=name, box=masks.box(rle), mask=rle))
    return Scene(
        id=first.frame, image=first.image, size=first.size, hands=hands, objects=objects, narration=first.caption or None,
        depth=first.depth, source="ego-irgbench",
    )


def side_of(name: str) -> str | None:
    """"left" or "right" if a target's name is a hand of that side ("left hand", "hand on the left"), else None.

    A "mug in the left hand" or a "hand towel" is none.
    """
    words = re.findall(r"[a-z]+", name.lower())
    last = words[: next((k for k, w in enumerate(words) if w in _PLACE), len(words))][-1:]
    if last not in (["hand"], ["hands"]):
        return None
    return "left" if "left" in words else "right" if "right" in words else None


@dataclass(frozen=True)
class Checked:
    """What `check` found. frames, entries, queries, single, multi, none: counts by split. problems: one line each.

    shared: {"a+b": names of frames in both splits}. videos: {"a+b": number of recordings with frames in both splits}
    (the name without its last number), which is no fault of the files but makes the splits less independent.
    notes: one line for each entry whose with_mask or tokens contradict its masks_idx (an empty target: a name without a
    number); such entries are used by their masks_idx.
    """

    counts: dict
    problems: tuple[str, ...]
    shared: dict
    videos: dict
    notes: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return not self.problems and not any(self.shared.values())


def check(folder, *, depth: bool = True, progress=None, stop: bool = False) -> Checked:
    """Look at every frame of every split: files, JSON, sizes, pixels, and whether every target has some.

    progress: called with (split, done, total) after each frame. stop: raise the first problem instead of collecting.
    Frames are opened on all cores. Raises BadData (no data set there; with `stop`
    also BadRecord, BadImage).
    """
    counts, problems, notes, names = {}, [], [], {}
    found = splits(folder)
    if not found:
        raise BadData(f"{folder}: dataset_split holds no split: expected {', '.join(SPLITS)}")
    for split in found:
        names[split] = frames(folder, split)
        row = counts[split] = dict.fromkeys(("frames", "entries", "queries", *KINDS), 0)
        for done, (items, error) in enumerate(_frames(folder, split, names[split], depth, True), 1):
            if error is not None and stop:
                raise error
            if error is not None:
                problems.append(str(error))
            else:
                row["frames"] += 1
                row["entries"] += len(items)
                for item in items:
                    row["queries"] += len(item.questions)
                    row[item.kind] += 1
                notes += _noted(folder, split, items)
            if progress is not None:
                progress(split, done, len(names[split]))
    shared, videos = {}, {}
    for k, a in enumerate(found):
        for b in found[k + 1 :]:
            both = sorted(set(names[a]) & set(names[b]))
            if both:
                shared[f"{a}+{b}"] = both
            common = {n.rpartition("_")[0] for n in names[a]} & {n.rpartition("_")[0] for n in names[b]} - {""}
            if common:
                videos[f"{a}+{b}"] = len(common)
    return Checked(counts, tuple(problems), shared, videos, tuple(notes))


def _noted(folder, split: str, items: list[Item]) -> list[str]:
    lines = [
        f"{split}/{item.id}: with_mask is {int(item.with_mask)} but masks_idx names {len(item.targets)} targets"
        for item in items if item.with_mask != bool(item.targets)
    ]
    return lines + _empty(Path(folder) / "dataset_split" / split / f"{items[0].frame}.json", f"{split}/{items[0].frame}")


def _empty(path: Path, where: str) -> list[str]:
    """One line for each name in a frame's file that has no number: it is read as no target. The file is known to be good."""
    lines = []
    for k, row in enumerate(json.loads(path.read_text(encoding="utf-8"))):
        values = row["masks_idx"] + [0] * len(row["tokens"])
        lines += [
            f"{where}/{k}: tokens names '{n.strip()}' but its masks_idx is 0" for n, v in zip(row["tokens"], values) if n.strip() and not v
        ]
    return lines


def write_frame(folder, split: str, name: str, image: str, index: np.ndarray, entries: list[dict], depth: str | None = None) -> None:
    """Write one frame in the published layout; the JSON comes last, so a frame that has one is whole.

    image: path of the picture (a JPEG is copied byte for byte, anything else becomes JPEG of quality 95).
    index: integer [H, W], 0 is background. entries: as in the layout above. depth: path of a depth PNG, or None.
    Raises BadImage or BadData if the picture or the depth image cannot be read or is of another size than the index image.
    """
    folder, size = Path(folder), (index.shape[1], index.shape[0])
    picture = images.load(image)
    if picture.size != size:
        raise BadData(
            f"{image}: is {picture.size[0]}x{picture.size[1]} pixels, its labels are for {size[0]}x{size[1]}: take the pictures that were labelled"
        )
    if depth:
        _plane(depth, size, "depth image")
    for part in ("RGB", "mask", f"dataset_split/{split}", *(["depth"] if depth else [])):
        (folder / part).mkdir(parents=True, exist_ok=True)
    target = folder / "RGB" / f"{name}.jpg"
    if Path(image).suffix.lower() in (".jpg", ".jpeg"):
        _placed(target, lambda part: shutil.copyfile(image, part))
    else:
        _placed(target, lambda part: Image.fromarray(picture.pixels).save(part, format="JPEG", quality=95, subsampling=0))
    kind = np.uint8 if index.max(initial=0) <= 255 else np.uint16
    _placed(folder / "mask" / f"{name}.png", lambda part: Image.fromarray(index.astype(kind)).save(part, format="PNG"))
    if depth:
        _placed(folder / "depth" / f"{name}.png", lambda part: shutil.copyfile(depth, part))
    text = json.dumps(entries, ensure_ascii=False, indent=1) + "\n"
    _placed(folder / "dataset_split" / split / f"{name}.json", lambda part: part.write_text(text, encoding="utf-8"))


def _placed(path: Path, make) -> None:
    part = path.with_name(path.name + ".part")
    make(part)
    os.replace(part, path)
