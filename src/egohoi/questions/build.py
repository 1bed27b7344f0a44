"""Builds HOI-QA: scenes of any sources -> shards of Examples, the files of HOI-QA, and a report.

Three stages, each of independent tasks whose results are files, so that any number of workers gives the same bytes and an
interrupted build goes on where it was:

1. a unit of input (one annotation file, or a piece of a scenes file) -> its questions, in `OUT/.work`;
2. the choice: what is held out for testing, and which questions go so that left and right are balanced (columns of numbers
   only; a question's place in the draw depends on the seed and its id alone);
3. the chosen questions -> shards of a fixed number of rows, and their text for the official files, which are then joined.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from egohoi import __version__, store
from egohoi.errors import BadConfig, BadData, EgohoiError, need
from egohoi.questions import engine as engines
from egohoi.questions import hoiqa, official
from egohoi.records import Example, Scene
from egohoi.scenes import jsonl

KINDS = ("visor", "epic-hands", "narrations", "ego4d", "egohos", "coco", "scenes")
SPLITS = ("train", "test")
#: Bytes of a scenes file that make one unit.
PIECE = 8 << 20
BATCH = 4096
REPORT, WORK = "report.json", ".work"
#: Broken records that the report shows; it counts all of them.
SHOWN = 20
_DECLARED = {"train": "train", "val": "test", "valid": "test", "validation": "test", "test": "test"}
_HELD_OUT = "the video is held out for testing"


@dataclass(frozen=True)
class Source:
    """One input. kind: one of KINDS. options: keyword arguments of its reader that are JSON values."""

    kind: str
    path: str
    options: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Unit:
    """A piece of input that one task reads. start, stop: bytes of a scenes file. split: what its path declares, or None."""

    number: int
    kind: str
    path: str
    options: dict
    split: str | None = None
    start: int = 0
    stop: int = 0


@dataclass(frozen=True)
class Recipe:
    """What is built. balance: as many questions about left as about right hands, for each source, split and type.

    test_fraction: share of the videos (or scenes, where no video is known) that are held out for testing where neither the
    labels nor the path of their file says so. skip_broken: leave broken records out and list them, instead of stopping.
    """

    settings: hoiqa.Settings = field(default_factory=hoiqa.Settings)
    balance: bool = True
    test_fraction: float = 0.1
    shard_rows: int = store.SHARD_ROWS
    skip_broken: bool = False

    def __post_init__(self):
        if not 0 <= self.test_fraction <= 1:
            raise BadConfig(f"test-fraction must lie in 0..1, got {self.test_fraction}")
        if self.shard_rows < 1:
            raise BadConfig(f"shard-rows must be at least 1, got {self.shard_rows}")


def build(
    sources: list[Source], out, recipe: Recipe = Recipe(), *, workers: int = 1, engine: str = "local",
    progress: Callable[[str, int, int, int], None] | None = None,
) -> dict:
    """Build the data set in the folder `out` and return its report (also written there as report.json).

    progress(stage, tasks done, tasks in all, questions so far) is called as tasks end. Run again after an interruption, it
    goes on; run again after the end, it returns the report. Raises BadData (no input, or `out` holds another build) and what
    the readers raise.
    """
    out, progress = Path(out), progress or (lambda *_: None)
    units = units_of(sources)
    plan = plan_of(units, recipe)
    if out.exists() and not out.is_dir():
        raise BadData(f"{out}: is a file: give a folder to write to")
    finished = _same_plan(out, plan)
    if finished is not None:
        shutil.rmtree(out / WORK, ignore_errors=True)
        return finished
    work = out / WORK
    (work / "units").mkdir(parents=True, exist_ok=True)
    _settle_text(work / "plan.json", _dump(plan))
    for split in SPLITS:
        (out / split / store.INDEX).unlink(missing_ok=True)

    todo, total = [], 0
    for unit in units:
        made = _read_json(work / "units" / f"{unit.number:06d}.json")
        if made is None:
            todo.append((asdict(unit), asdict(recipe), str(work)))
        else:
            total += made["rows"]
    count = len(units) - len(todo)
    progress("questions", count, len(units), total)

    def told(task, made) -> None:
        nonlocal count, total
        count, total = count + 1, total + made["rows"]
        progress("questions", count, len(units), total)

    engines.run(make_unit, todo, workers=workers, engine=engine, done=told)
    tallies = [_read_json(work / "units" / f"{u.number:06d}.json") for u in units]
    choice = choose(work, units, tallies, recipe)
    tasks = shards_of(choice, recipe.shard_rows)
    _settle_text(work / "choice.json", json.dumps(choice["rules"]))

    ready, kept = 0, sum(choice["rows"].values())
    todo = []
    for task in tasks:
        if (work / _mark(task)).is_file() and (out / task["split"] / store.shard_name(task["number"])).is_file():
            ready += 1
        else:
            todo.append((task, str(out)))
    progress("shards", ready, len(tasks), kept)

    def shard_done(task, _) -> None:
        nonlocal ready
        ready += 1
        progress("shards", ready, len(tasks), kept)

    engines.run(make_shard, todo, workers=workers, engine=engine, done=shard_done)
    for split in SPLITS:
        if any(t["split"] == split for t in tasks):
            store.write_index(out / split)
    files = join_official(out, tasks)
    report = report_of(plan, tallies, choice, files)
    _settle_text(out / "README.md", card(report), work / "README.part")
    _settle_text(out / REPORT, _dump(report), work / "report.part")
    shutil.rmtree(work)
    return report


# The plan -----------------------------------------------------------------------------------------------------------------


def units_of(sources: list[Source]) -> list[Unit]:
    """The units of the sources, numbered: by the order of KINDS, then of the files' names. Raises BadData."""
    from egohoi.scenes import raw

    units: list[Unit] = []

    def add(source, path, **more) -> None:
        units.append(Unit(len(units), source.kind, str(path), source.options, split=declared_split(path, source.path), **more))

    if not sources:
        raise BadData("nothing to build from: give at least one source, for example --scenes FOLDER or --visor FOLDER")
    for source in sorted(sources, key=lambda s: KINDS.index(s.kind)):
        root = Path(source.path)
        if source.kind == "visor":
            for file in raw.files(root, ".json"):
                if file.name != "frame_mapping.json" or file == root:
                    add(source, file)
        elif source.kind in ("epic-hands", "narrations", "ego4d", "coco"):
            for file in raw.files(root, {"epic-hands": ".pkl", "narrations": ".csv"}.get(source.kind, ".json")):
                add(source, file)
        elif source.kind == "egohos":
            labelled = [root] if (root / "label").is_dir() else sorted(p.parent for p in root.glob("*/label") if p.is_dir())
            for split in labelled or [root]:
                add(source, split)
        else:
            file = jsonl.locate(root)
            size = file.stat().st_size
            for start in range(0, max(size, 1), PIECE):
                add(source, file, start=start, stop=min(start + PIECE, size))
    return units


def declared_split(path, root) -> str | None:
    """The split that a file's place below `root`, the root's own name or the file's name declares, or None."""
    path, root = Path(path), Path(root)
    parts = [*path.relative_to(root).parts[:-1], root.name] if path != root and path.is_relative_to(root) else [path.parent.name]
    words = [*parts, *path.stem.lower().replace("-", "_").split("_")]
    return next((_DECLARED[w.lower()] for w in words if w.lower() in _DECLARED), None)


def plan_of(units: list[Unit], recipe: Recipe) -> dict:
    """What decides the bytes of a build: recipe, wording, and the inputs with a hash of their contents."""
    from concurrent.futures import ThreadPoolExecutor

    paths = sorted({u.path for u in units} | {v for u in units for k, v in u.options.items() if k in ("narrations", "mapping", "correct") and v})
    with ThreadPoolExecutor() as pool:  # hashing leaves the interpreter alone, so threads share the cores
        digests = dict(zip(paths, pool.map(_digest, paths)))
    inputs = [{"kind": u.kind, "path": u.path, "start": u.start, "split": u.split, "options": u.options} for u in units]
    wording = hashlib.sha256(json.dumps(hoiqa.templates(), sort_keys=True).encode()).hexdigest()
    return {"version": __version__, "recipe": asdict(recipe), "wording": wording, "inputs": inputs, "contents": digests}


def _digest(path: str) -> str:
    """sha256 of a file; of a folder (EgoHOS), of the names and sizes in it. Raises BadData."""
    place, digest = Path(path), hashlib.sha256()
    try:
        if place.is_dir():
            for file in sorted(p for p in place.rglob("*") if p.is_file()):
                digest.update(f"{file.relative_to(place)}\0{file.stat().st_size}\0".encode())
        else:
            with open(place, "rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror or error})") from error
    return digest.hexdigest()


def _same_plan(out: Path, plan: dict) -> dict | None:
    """The report of the finished build of this plan in `out`, or None. Raises BadData if `out` holds another build.

    A build that broke off may be corrected: before its first unit is done it is forgotten, and later it goes on with
    skip_broken, because the units that are done have no broken record.
    """
    plan = json.loads(json.dumps(plan))
    report, begun = _read_json(out / REPORT), _read_json(out / WORK / "plan.json")
    if report is None and begun is None:
        foreign = next((p for name in (*SPLITS, "hoiqa", REPORT) for p in (out / name).glob("*")), None)
        if foreign is not None:
            raise BadData(f"{out}: holds {foreign.relative_to(out)}, which no build wrote: give an empty folder")
        return None
    found = report.get("plan") if isinstance(report, dict) else begun
    if found == plan:
        return report if isinstance(report, dict) else None
    if report is None:
        if not any((out / WORK / "units").glob("*.json")):
            shutil.rmtree(out / WORK)
            return None
        if isinstance(found, dict) and {**found, "recipe": {**found.get("recipe", {}), "skip_broken": True}} == plan:
            return None
    differing = [k for k in plan if found.get(k) != plan[k]] if isinstance(found, dict) else ["format"]
    state = "another build" if report is not None else "another build that is not finished"
    raise BadData(f"{out}: holds {state} (other {', '.join(differing)}): give an empty folder, or remove that one")


# Stage 1: questions -------------------------------------------------------------------------------------------------------


def make_unit(unit: dict, recipe: dict, work: str) -> dict:
    """Write the questions of one unit to `work/units/NUMBER.arrow` and their tally beside it. Returns the tally."""
    pa = need("pyarrow", "data")
    unit, recipe = Unit(**unit), _recipe(recipe)
    place = Path(work) / "units" / f"{unit.number:06d}.arrow"
    part = place.with_name(f"{place.name}.{os.getpid()}.part")
    tally = {"rows": 0, "scenes": Counter(), "dropped": Counter(), "held": set(), "broken": 0, "shown": []}

    def broken(error: EgohoiError) -> None:
        tally["broken"] += 1
        if len(tally["shown"]) < SHOWN:
            tally["shown"].append(str(error))

    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, _schema(), options=options) as writer:
        examples: list[Example] = []
        more: list[tuple] = []
        for scene in scenes(unit, broken if recipe.skip_broken else None):
            kind, group = split_of(scene, unit, recipe)
            drops: Counter = Counter()
            make = hoiqa.train_examples if kind == "train" else hoiqa.test_examples
            made = make(scene, recipe.settings, drops)
            tally["scenes"][scene.source] += 1
            for (type_, reason), number in drops.items():
                tally["dropped"][f"{scene.source}\t{type_}\t{reason}"] += number
            if kind == "test":
                tally["held"].add(group)
            frame = hoiqa.draw(0, scene.image) if made else 0
            for example in made:
                examples.append(example)
                file = official.name_of(example.source, official.role_of(example))
                side = example.extra.get("side", "")
                more.append((kind, group, frame, side, *_draw(example, kind, recipe), file, official.member(example)))
            if len(examples) >= BATCH:
                tally["rows"] += _flush(writer, examples, more)
        tally["rows"] += _flush(writer, examples, more)
    store.settle(part, place)
    tally["held"] = sorted(tally["held"])
    _settle_text(place.with_suffix(".json"), _dump(tally), part)
    return {"rows": tally["rows"]}


def _schema():
    """Columns of a unit: those of the store, and what the choice needs.

    class: questions that are weighed against each other, "SOURCE/SPLIT/TYPE/KIND/SIDE", null where no side is asked about.
    rank: the question's place in the draw of its class. frame: hash of the picture's path. file, member: the official file
    that the question goes to and its text there (null: another question's member holds it).
    """
    pa = need("pyarrow", "data")
    text, number = pa.string(), pa.uint64()
    return pa.schema([
        *store.schema(), ("split", text), ("group", text), ("frame", number), ("side", text), ("class", text), ("rank", number),
        ("file", text), ("member", text),
    ])


def _flush(writer, examples: list, more: list) -> int:
    pa = need("pyarrow", "data")
    count = len(examples)
    if count:
        rows = store.table(examples).combine_chunks()
        schema = _schema()
        columns = [pa.array(c, type=schema.field(n).type) for n, c in zip(schema.names[rows.num_columns:], zip(*more))]
        arrays = [rows.column(k).chunk(0) for k in range(rows.num_columns)] + columns
        writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
        examples.clear()
        more.clear()
    return count


def _draw(example: Example, split: str, recipe: Recipe) -> tuple[str | None, int]:
    side = example.extra.get("side")
    if side is None or not recipe.balance:
        return None, 0
    role = official.role_of(example)
    # Referral and identification of one box share a record of the official file, so they stay or go together.
    name = example.id.rpartition(":")[0] if role == "test" else example.id
    negative = "negative" if example.extra.get("negative") else ""
    return f"{example.source}/{split}/{example.type}/{role}{negative}/{side}", hoiqa.draw(recipe.settings.seed, name)


def scenes(unit: Unit, on_error=None) -> Iterator[Scene]:
    """Scenes of one unit. Every scene has a source. Raises BadData, BadRecord, unless on_error takes them."""
    for scene in _READERS[unit.kind](unit, on_error):
        yield scene if scene.source else replace(scene, source=unit.kind)


def _visor(unit, on_error):
    from egohoi.scenes import visor

    options = dict(unit.options)
    mapping, correct = options.pop("mapping", None), options.pop("correct", None)
    return visor.read(
        unit.path, mapping=_mapping(mapping) if mapping else None, correct=_correct(correct) if correct else None,
        narrations=_narrations(options.pop("narrations", None)), masks=False, on_error=on_error, **options,
    )


def _epic_hands(unit, on_error):
    from egohoi.scenes import epic_hands

    options = dict(unit.options)
    return epic_hands.read(unit.path, narrations=_narrations(options.pop("narrations", None)), on_error=on_error, **options)


def _spoken(unit, on_error):
    from egohoi.scenes import epic_narrations

    return epic_narrations.read(unit.path, on_error=on_error, **unit.options)


def _ego4d(unit, on_error):
    from egohoi.scenes import ego4d

    return ego4d.read(unit.path, on_error=on_error, **unit.options)


def _egohos(unit, on_error):
    from egohoi.scenes import egohos

    return egohos.read(unit.path, on_error=on_error, **unit.options)


def _coco(unit, on_error):
    from egohoi.scenes import coco

    return coco.read(unit.path, masks=False, on_error=on_error, **unit.options)


def _lines(unit, on_error):
    """Scenes whose line begins in the bytes [start, stop) of a scenes file."""
    path = Path(unit.path)
    with open(path, "rb") as file:
        at = max(unit.start - 1, 0)
        file.seek(at)
        if unit.start:
            at += len(file.readline())  # the rest of a line that began in the piece before
        while at < unit.stop:
            line = file.readline()
            if not line:
                return
            where, at = f"{path}: the line at byte {at}", at + len(line)
            if line.strip():
                try:
                    scene = jsonl.parse(line.decode("utf-8", "replace"), where, path.parent)
                except EgohoiError as error:
                    if on_error is None:
                        raise
                    on_error(error)
                else:
                    yield scene


_READERS = {
    "visor": _visor, "epic-hands": _epic_hands, "narrations": _spoken, "ego4d": _ego4d, "egohos": _egohos, "coco": _coco,
    "scenes": _lines,
}


def _narrations(path: str | None):
    return _narrations_of(path) if path else None


@lru_cache(maxsize=2)
def _narrations_of(path: str):
    from egohoi.scenes import epic_narrations

    return epic_narrations.index(path)


@lru_cache(maxsize=2)
def _mapping(path: str):
    from egohoi.scenes import visor

    return visor.frame_mapping(path)


@lru_cache(maxsize=2)
def _correct(path: str):
    from egohoi.scenes import visor

    return visor.corrections(path)


def split_of(scene: Scene, unit: Unit, recipe: Recipe) -> tuple[str, str]:
    """("train" or "test", group) of a scene; a group (a video, or the scene itself) is never in both.

    The scene's own `split` goes first, then what the path of its file says, then a draw by group. Labels of a detector and
    bare narrations are for training, unless another source holds their video out.
    """
    extra = scene.extra
    group = next((str(extra[k]) for k in ("video", "video_uid", "clip_uid") if extra.get(k)), scene.id)
    said = extra.get("split")
    kind = _DECLARED.get(said.lower()) if isinstance(said, str) else None
    kind = kind or unit.split
    if kind is None and unit.kind in ("epic-hands", "narrations"):
        kind = "train"
    if kind is None:
        drawn = hoiqa.draw(recipe.settings.seed, f"split\0{group}") / 2**64 < recipe.test_fraction
        kind = "test" if drawn else "train"
    return kind, group


# Stage 2: the choice ------------------------------------------------------------------------------------------------------


def choose(work: Path, units: list[Unit], tallies: list[dict], recipe: Recipe) -> dict:
    """Which questions stay: those of no held-out video and, of each class, the first in the draw, as many as of the other side.

    Returns {"rules": {"held": groups, "cutoffs": {class: last rank}}, "batches": [(unit, batch, {split: rows kept})],
    "rows": {split: rows}, "counts": {...}, "dropped": Counter, "frames": {split: number of pictures}}.
    """
    import numpy as np

    pa = need("pyarrow", "data")
    rules = {"held": sorted({g for t in tallies for g in t["held"]}), "cutoffs": {}}
    ranks: dict[str, list] = {}
    for unit in units:
        for batch in _columns(work, unit, ("split", "group", "class", "rank")):
            codes, names = _codes(batch["class"])
            values, free = batch["rank"].to_numpy(), ~_held_out(batch, rules)
            for code, name in enumerate(names):
                ranks.setdefault(name, []).append(values[(codes == code) & free])
    joined = {name: np.concatenate(parts) for name, parts in ranks.items()}
    for name, values in joined.items():
        stem, _, side = name.rpartition("/")
        other = joined.get(f"{stem}/{'right' if side == 'left' else 'left'}", ())
        room = min(len(values), len(other))
        rules["cutoffs"][name] = int(np.partition(values, room - 1)[room - 1]) if room else -1

    batches, rows, frames, counts, dropped = [], dict.fromkeys(SPLITS, 0), {s: [] for s in SPLITS}, Counter(), Counter()
    for unit in units:
        for number, batch in enumerate(_columns(work, unit, ("split", "group", "class", "rank", "source", "type", "frame", "side"))):
            keep, lost = _keep(batch, rules)
            table = pa.table({n: batch[n] for n in ("split", "source", "type", "side")}).append_column("lost", pa.array(lost))
            counts.update(_count(table.filter(pa.array(keep)), ("split", "source", "type", "side")))
            for (source, kind, side, out), found in _count(table.filter(pa.array(~keep)), ("source", "type", "side", "lost")).items():
                reason = _HELD_OUT if out else f"more questions about the {side} hand than about the other"
                dropped[f"{source}\t{kind}\t{reason}"] += found
            here = {}
            for split in SPLITS:
                mask = keep & _is(batch["split"], split)
                here[split] = int(mask.sum())
                rows[split] += here[split]
                frames[split].append(np.unique(batch["frame"].to_numpy()[mask]))
            batches.append((unit.number, number, here))
    pictures = {s: len(np.unique(np.concatenate(f))) if f else 0 for s, f in frames.items()}
    return {"rules": rules, "batches": batches, "rows": rows, "counts": counts, "dropped": dropped, "frames": pictures}


def _count(table, names) -> Counter:
    """Rows of a table by the values of some columns."""
    grouped = table.group_by(list(names), use_threads=False).aggregate([([], "count_all")]).to_pylist()
    return Counter({tuple(row[n] for n in names): row["count_all"] for row in grouped})


def _codes(column):
    """(int64 array of codes, -1 for null; list of the values that codes stand for) of a column of texts."""
    encoded = column.dictionary_encode()
    return encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False), encoded.dictionary.to_pylist()


def _is(column, value: str):
    return need("pyarrow.compute", "data").equal(column, value).to_numpy(zero_copy_only=False)


def _columns(work: Path, unit: Unit, names) -> Iterator[dict]:
    """Batches of a unit, some columns of them, out of the mapped file."""
    pa = need("pyarrow", "data")
    path = Path(work) / "units" / f"{unit.number:06d}.arrow"
    schema = _schema()
    options = pa.ipc.IpcReadOptions(included_fields=sorted(schema.get_field_index(n) for n in names))
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source, options=options) as file:
        for k in range(file.num_record_batches):
            batch = file.get_batch(k)
            yield {name: batch.column(name) for name in names}


def _held_out(batch: dict, rules: dict):
    """bool array: training rows of a video that is held out."""
    import numpy as np

    pa, compute = need("pyarrow", "data"), need("pyarrow.compute", "data")
    if not rules["held"]:
        return np.zeros(len(batch["split"]), bool)
    inside = compute.is_in(batch["group"], value_set=pa.array(rules["held"], pa.string())).to_numpy(zero_copy_only=False)
    return inside & _is(batch["split"], "train")


def _keep(batch: dict, rules: dict):
    """(rows that stay, rows that are held out), bool arrays."""
    import numpy as np

    lost = _held_out(batch, rules)
    codes, names = _codes(batch["class"])
    cutoffs = [rules["cutoffs"].get(n, -1) for n in names] + [2**64 - 1]  # the last one serves code -1: no class, no limit
    last = np.asarray([max(c, 0) for c in cutoffs], dtype=np.uint64)[codes]
    none = np.asarray([c < 0 for c in cutoffs], dtype=bool)[codes]
    return (batch["rank"].to_numpy() <= last) & ~none & ~lost, lost


# Stage 3: shards ----------------------------------------------------------------------------------------------------------


def shards_of(choice: dict, shard_rows: int) -> list[dict]:
    """The shards: {"split", "number", "rows", "pieces": [[unit, batch, first kept row, rows], ...]}, full but for the last."""
    tasks = []
    for split in SPLITS:
        shard = None
        for unit, batch, here in choice["batches"]:
            at = 0
            while at < here[split]:
                if shard is None or shard["rows"] == shard_rows:
                    shard = {"split": split, "number": sum(t["split"] == split for t in tasks), "rows": 0, "pieces": []}
                    tasks.append(shard)
                take = min(here[split] - at, shard_rows - shard["rows"])
                shard["pieces"].append([unit, batch, at, take])
                shard["rows"] += take
                at += take
    return tasks


def _mark(task: dict) -> str:
    return f"{task['split']}-{task['number']:05d}.json"


def make_shard(task: dict, out: str) -> dict:
    """Write one shard and, in the work folder, its members of the official files. Returns members by file."""
    import numpy as np

    pa = need("pyarrow", "data")
    out, split = Path(out), task["split"]
    work, rules = out / WORK, _read_json(out / WORK / "choice.json")
    texts: dict[str, list[str]] = {}
    unit, file, source = None, None, None
    part = work / f"{split}-{task['number']:05d}.{os.getpid()}.part"
    with store.ShardWriter(out / split / store.shard_name(task["number"]), part=part) as shard:
        for number, batch_number, first, rows in task["pieces"]:
            if number != unit:
                unit, source = number, pa.memory_map(str(work / "units" / f"{number:06d}.arrow"))
                file = pa.ipc.open_file(source)
            batch = file.get_batch(batch_number)
            keep, _ = _keep({n: batch.column(n) for n in ("split", "group", "class", "rank")}, rules)
            chosen = np.flatnonzero(keep & _is(batch.column("split"), split))[first:first + rows]
            table = pa.Table.from_batches([batch]).take(pa.array(chosen))
            shard.add_table(table)
            for name, text in zip(table.column("file").to_pylist(), table.column("member").to_pylist()):
                if text is not None:
                    texts.setdefault(name, []).append(text)
    for name, members in texts.items():
        _settle_text(work / f"{split}-{task['number']:05d}-{name}", ",\n".join(members), part)
    members = {name: len(found) for name, found in sorted(texts.items())}
    _settle_text(work / _mark(task), json.dumps(members), part)
    return members


def join_official(out: Path, tasks: list[dict]) -> dict[str, int]:
    """Join the shards' members to the official files in `out/hoiqa`. Returns members by file; the five are always there."""
    work = out / WORK
    pieces: dict[str, list] = {name: [] for name in official.FILES.values()}
    for task in tasks:
        for name, count in _read_json(work / _mark(task)).items():
            pieces.setdefault(name, []).append((work / f"{task['split']}-{task['number']:05d}-{name}", count))
    for name, parts in pieces.items():
        opening, closing = official.brackets(name)
        part = work / f"{name}.part"
        with open(part, "wb") as file:
            file.write(opening.encode())
            for k, (path, _) in enumerate(parts):
                if k:
                    file.write(b",\n")
                with open(path, "rb") as piece:
                    shutil.copyfileobj(piece, file, 1 << 20)
            file.write(closing.encode() + b"\n")
        store.settle(part, out / "hoiqa" / name)
    return {name: sum(n for _, n in parts) for name, parts in sorted(pieces.items())}


# The report ---------------------------------------------------------------------------------------------------------------


def report_of(plan: dict, tallies: list[dict], choice: dict, files: dict) -> dict:
    """The report: questions by split, source and type, sides, frames, scenes, what was dropped and why, broken records."""
    questions: dict = {s: {} for s in SPLITS}
    sides: dict = {s: {} for s in SPLITS}
    for (split, source, kind, side), number in sorted(choice["counts"].items()):
        by_type = questions[split].setdefault(source, {})
        by_type[kind] = by_type.get(kind, 0) + number
        if side:
            sides[split].setdefault(kind, {"left": 0, "right": 0})[side] += number
    scenes_, dropped, shown = Counter(), Counter(choice["dropped"]), []
    for tally in tallies:
        scenes_.update(tally["scenes"])
        dropped.update(tally["dropped"])
        shown += tally["shown"]
    tree: dict = {}
    for name, number in sorted(dropped.items()):
        source, kind, reason = name.split("\t")
        tree.setdefault(source, {}).setdefault(kind, {})[reason] = number
    return {
        "total": sum(choice["rows"].values()), "rows": choice["rows"], "questions": questions, "sides": sides,
        "frames": choice["frames"], "scenes": dict(sorted(scenes_.items())), "dropped": tree,
        "broken": {"count": sum(t["broken"] for t in tallies), "first": shown[:SHOWN]}, "files": files,
        "plan": json.loads(json.dumps(plan)),
    }


def card(report: dict) -> str:
    """A README.md that tells `datasets.load_dataset(FOLDER)` where the splits are."""
    lines = ["---", "configs:", "- config_name: default", "  data_files:"]
    for split in SPLITS:
        if report["rows"][split]:
            lines += [f"  - split: {split}", f"    path: {split}/*.parquet"]
    lines += ["---", "", "HOI-QA, built by `egohoi build hoiqa`. What is in it: `report.json`. Shards: `train`, `test`; the files of the",
              "published layout: `hoiqa`.", ""]
    return "\n".join(lines)


# Small helpers ------------------------------------------------------------------------------------------------------------


def _recipe(values: dict) -> Recipe:
    settings = dict(values["settings"])
    settings["types"] = tuple(settings["types"])
    return Recipe(**{**values, "settings": hoiqa.Settings(**settings)})


def _dump(value) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def _read_json(path: Path):
    """The JSON of a file that was put in its place whole, or None if it is not there."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return None
    except ValueError as error:
        raise BadData(f"{path}: is not JSON: remove it and build again") from error


def _settle_text(path: Path, text: str, part: Path | None = None) -> None:
    part = part or path.with_name(f"{path.name}.{os.getpid()}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_text(text, encoding="utf-8")
    store.settle(part, path)
