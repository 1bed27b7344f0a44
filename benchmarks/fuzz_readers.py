"""Feeds mutated files to every reader of annotations and checks what comes back.

    python benchmarks/fuzz_readers.py [--inputs 10000] [--seed 0] [--reader visor] [--json REPORT]

Each input is one of the miniatures (tests/data and the ones below) with bytes, JSON values, CSV cells, messages or pixels changed.
It is read twice, stopping at the first broken record and collecting them, and must

- raise nothing but errors of egohoi.errors, each of which names the file that was mutated (or the one beside it) and the record,
  unless the file as a whole is unreadable; pictures and labels are one record each;
- give scenes that are valid JSON, and so are the questions of HOI-QA about them;
- end within --seconds of computing and take no more memory than --megabytes and 20 times the file, beyond what the process had.

Prints a table by reader and exits with 1 if any input failed; every failure is reported with the seed that makes it again.
"""

import argparse
import ctypes
import copy
import json
import pickle
import random
import re
import runpy
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from egohoi.errors import EgohoiError

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"
MINIATURE = runpy.run_path(str(ROOT / "tests" / "scenes" / "miniature.py"))

WORDS = [
    None, True, False, 0, -1, 1, 2, 255, 2**31, 2**63, 10**30, 10**400, 1.5, -0.0, 1e308, -1e308, 1e-320, float("nan"), float("inf"), "", " ", "left",
    "right hand", "y", "n", "\u0000", "\ud83d", "é" * 3, "x" * 20_000, "../../etc/passwd", "{frame}", "%s", "12", "-3", "1e9", "nan",
    [], {}, [[]], [None], [0, 0], [0, 0, 0, 0], {"": ""}, {"size": [4, 4], "counts": [16]}, {"size": [2**20, 2**20], "counts": [2**40]},
    {"size": [8, 12], "counts": "0" * 50}, "@deep@", "@digits@", "@wide@",
]
#: What JSON can say but json.dumps does not: put in place of the words above.
TOKENS = {b'"@deep@"': b"[" * 50_000 + b"]" * 50_000, b'"@digits@"': b"9" * 6000, b'"@wide@"': b"[" + b"[0,1]," * 50_000 + b"[0,1]]"}
BYTES = [b"", b"\x00", b"\xff", b"\xff\xff\xff\x7f", b'"', b"{", b"[" * 3000, b"}", b"]", b",", b"\n", b"\\u0000", b"\x80", b"1e999", b"9" * 5000]


# Mutations ------------------------------------------------------------------------------------------------------------------


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """A few random edits: bits, bytes, slices cut, doubled or moved, the end cut off."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(7)
        if kind == 0 and out:
            out[at % len(out)] ^= 1 << rng.randrange(8)
        elif kind == 1 and out:
            out[at % len(out)] = rng.randrange(256)
        elif kind == 2:
            out[at:at] = rng.choice(BYTES)
        elif kind == 3:
            del out[at : at + rng.choice((1, 2, 8, 100))]
        elif kind == 4:
            piece = out[at : at + rng.choice((1, 8, 64, 1000))]
            out[at:at] = piece * rng.choice((1, 1, 1, 20))
        elif kind == 5:
            out[at : at + 4] = rng.randbytes(4)
        else:
            del out[at:]
    return bytes(out)


def places(value, path=()) -> Iterator[tuple]:
    """Paths of all values in a JSON value."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def mutate_json(value, rng: random.Random):
    """A few values replaced, removed, doubled or moved elsewhere."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        paths = list(places(value))
        path = rng.choice(paths)
        if not path:
            if rng.random() < 0.2:
                return rng.choice(WORDS)
            continue
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        kind = rng.randrange(6)
        if kind <= 2:
            parent[path[-1]] = copy.deepcopy(rng.choice(WORDS))
        elif kind == 3:
            del parent[path[-1]]
        elif kind == 4 and isinstance(parent, list):
            parent.extend([copy.deepcopy(parent[path[-1]])] * rng.choice((1, 3, 200)))
        else:
            source = value
            for key in rng.choice(paths):
                if isinstance(source, (dict, list)) and (key in source if isinstance(source, dict) else key < len(source)):
                    source = source[key]
            parent[path[-1]] = copy.deepcopy(source)
    return value


def dump(value, rng: random.Random) -> bytes:
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    data = text.encode("utf-8", "surrogatepass" if rng.random() < 0.5 else "replace")
    for token, meaning in TOKENS.items():
        data = data.replace(token, meaning)
    return data


def mutated_json(data: bytes, rng: random.Random) -> bytes:
    return mutate_bytes(data, rng) if rng.random() < 0.35 else dump(mutate_json(json.loads(data), rng), rng)


def mutated_lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines()
    k = rng.randrange(len(lines))
    lines[k] = mutated_json(lines[k], rng)
    return b"\n".join(lines)


def mutated_csv(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return mutate_bytes(data, rng)
    rows = [line.split(b",") for line in data.splitlines()]
    for _ in range(rng.choice((1, 2, 5))):
        row = rng.choice(rows)
        row[rng.randrange(len(row))] = str(rng.choice(WORDS)).encode("utf-8", "replace")
    return b"\n".join(b",".join(row) for row in rows)


def mutated_pickle(data: bytes, rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.3:
        return mutate_bytes(data, rng)
    frames = pickle.loads(data)  # the miniature, not the mutated file
    if kind < 0.9:
        for _ in range(rng.choice((1, 3))):
            k = rng.randrange(len(frames))
            frames[k] = mutate_bytes(frames[k], rng)
        return pickle.dumps(frames, protocol=rng.choice((3, 4, 5)))
    return pickle.dumps(rng.choice([{"a": frames}, [1, 2], frames[0], [frames], [None], tuple(frames), ["x"], print, [b""]]))


def mutated_index(data: bytes, rng: random.Random) -> bytes:
    """An index image with other bytes, or other pixels, size or mode."""
    if rng.random() < 0.6:
        return mutate_bytes(data, rng)
    import io

    import numpy as np
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(data))).copy()
    kind = rng.randrange(4)
    if kind == 0:
        pixels.flat[rng.randrange(pixels.size)] = rng.randrange(256)
    elif kind == 1:
        pixels = pixels[: rng.randrange(1, 8), : rng.randrange(1, 12)]
    elif kind == 2:
        pixels = np.repeat(pixels[..., None].astype(np.uint8), rng.choice((3, 4)), axis=2)
    else:
        pixels = pixels.astype(np.uint16) * rng.choice((1, 300))
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, "PNG")
    return out.getvalue()


# Readers --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """One file that is mutated and the reader that meets it.

    file: path below the work folder that is mutated; mutate: how; read: (work folder, on_error) -> records.
    collects: whether the reader can collect errors. alone: whether every message must name the mutated file itself.
    """

    name: str
    file: str
    mutate: Callable[[bytes, random.Random], bytes]
    read: Callable
    collects: bool = True


def targets() -> list[Target]:
    from egohoi.questions import official
    from egohoi.scenes import coco, ego4d, egohos, epic_hands, epic_narrations, irgbench, jsonl, visor

    def irg(folder, on_error):
        broken = None if on_error is None else []
        yield from irgbench.scenes(folder / "irg", "train", broken=broken)
        for message in broken or ():
            on_error(EgohoiError(message))

    found = [
        Target("visor", "visor/P01_01.json", mutated_json, lambda d, e: visor.read(d / "visor" / "P01_01.json", on_error=e)),
        Target("visor", "visor/P06_13.json", mutated_json, lambda d, e: visor.read(d / "visor" / "P06_13.json", on_error=e)),
        Target(
            "visor", "visor-side/frame_mapping.json", mutated_json,
            lambda d, e: visor.read(d / "visor/P01_01.json", mapping=d / "visor-side/frame_mapping.json", masks=False, on_error=e), False,
        ),
        Target(
            "visor", "visor-side/correct.json", mutated_json,
            lambda d, e: visor.read(d / "visor/P01_01.json", correct=d / "visor-side/correct.json", masks=False, on_error=e), False,
        ),
        Target("epic_narrations", "epic/EPIC_100_train.csv", mutated_csv, lambda d, e: epic_narrations.read(d / "epic/EPIC_100_train.csv", on_error=e)),
        Target(
            "epic_narrations", "epic/EPIC_100_train.csv", mutated_csv,
            lambda d, e: epic_hands.read(d / "epic/P01_01.pkl", narrations=epic_narrations.index(d / "epic", on_error=e), on_error=e),
        ),
        Target("epic_hands", "epic/P01_01.pkl", mutated_pickle, lambda d, e: epic_hands.read(d / "epic", hand_score=0, object_score=0, on_error=e)),
        Target("ego4d", "ego4d/fho_main.json", mutated_json, lambda d, e: ego4d.read(d / "ego4d" / "fho_main.json", wearer_only=False, on_error=e)),
        Target("ego4d", "ego4d/fho_scod_val.json", mutated_json, lambda d, e: ego4d.read(d / "ego4d" / "fho_scod_val.json", on_error=e)),
        Target("coco", "coco/annotations.json", mutated_json, lambda d, e: coco.read(d / "coco", on_error=e)),
        Target("egohos", "egohos/train/label/ego4d_1.png", mutated_index, lambda d, e: egohos.read(d / "egohos", on_error=e)),
        Target("egohos", "egohos/train/image/ego4d_1.jpg", mutate_bytes, lambda d, e: egohos.read(d / "egohos", on_error=e)),
        Target("jsonl", "jsonl/scenes.jsonl", mutated_lines, lambda d, e: jsonl.read(d / "jsonl", on_error=e)),
        Target("irgbench", "irg/dataset_split/train/f1.json", mutated_json, irg),
        Target("irgbench", "irg/mask/f1.png", mutated_index, irg),
        Target("irgbench", "irg/depth/f1.png", mutated_index, irg),
        Target("irgbench", "irg/RGB/f1.jpg", mutate_bytes, irg),
    ]
    for name in OFFICIAL:
        found.append(Target("official", f"official/{name}", mutated_json, lambda d, e, n=name: official.read(d / "official" / n), False))
    return found


_TURNS = [{"from": "human", "value": "<image>\nWhere is the cup?"}, {"from": "gpt", "value": "<p>cup</p> {<1><2><30><40>}"}]
#: The five files of HOI-QA in miniature.
OFFICIAL = {
    "epic-kitchens-train.json": [{"id": "1", "image": "EPIC_Kitchens/frames/P01_01/frame_0000000001", "conversations": _TURNS}],
    "ego4d-train.json": [{"id": "2", "image_path": "Ego4D/v2/frames/u/frame_3.jpg", "conversations": _TURNS}],
    "epic-test.json": {"k": {"noun": "cup", "bbox": [10, 20, 300, 400], "image_path": "EPIC_Kitchens/frames/P01_01/frame_0000000001.jpg"}},
    "ego4d-test.json": {"k": {"noun": "cup", "bbox": [10, 20, 300, 400], "image_path": "Ego4D/v2/frames/u/frame_3.jpg"}},
    "epic-visor-test.json": [
        {"id": "a", "image_path": "x/P01_01/frame_1.jpg", "question": "[refer] Where is the right hand of the person?", "answer": [1, 2, 30, 40]},
        {"id": "b", "image_path": "x/P01_01/frame_1.jpg", "question": "[vqa] What hand is holding the cup", "answer": "left hand"},
        {"id": "c", "image_path": "x/P01_01/frame_1.jpg", "question": "[refer] Where are the hands of the person?", "answer": "{<1><2><30><40>} {<50><2><80><40>}"},
    ],
}


def prepare(folder: Path) -> None:
    """The miniatures of all readers below `folder`."""
    import numpy as np
    from PIL import Image

    from egohoi.scenes import jsonl, visor

    shutil.copytree(DATA, folder, dirs_exist_ok=True)
    jsonl.write(folder / "jsonl", visor.read(folder / "visor", size=(1920, 1080)))
    (folder / "official").mkdir(exist_ok=True)
    for name, rows in OFFICIAL.items():
        (folder / "official" / name).write_text(json.dumps(rows))
    for part in ("RGB", "depth", "mask", "dataset_split/train"):
        (folder / "irg" / part).mkdir(parents=True, exist_ok=True)
    label = MINIATURE["LABEL"]
    Image.fromarray(label).save(folder / "irg/mask/f1.png")
    Image.fromarray(np.full((8, 12, 3), 90, np.uint8)).save(folder / "irg/RGB/f1.jpg")
    Image.fromarray((label.astype(np.uint16) + 1) * 100).save(folder / "irg/depth/f1.png")
    questions = [{"id": 0, "query": "left hand and cup", "is_sentence": False}]
    entry = {"masks_idx": [1, 3, 0, 0], "with_mask": 1, "caption": "c", "answer": "a", "tokens": ["left hand", "cup", "", ""], "questions": questions}
    (folder / "irg/dataset_split/train/f1.json").write_text(json.dumps([entry, {**entry, "masks_idx": [0] * 4, "tokens": [""] * 4, "with_mask": 0}]))


#: How messages name a record, and how they say that there is none to name.
RECORD = re.compile(r":\d+: |\b(record|picture|frame|video|clip|annotation|action|entry|question|categories|byte) ?'?\d*|P\d\d_\d+|correct|\.png|\.jpg")
WHOLE = re.compile(r"not JSON|not CSV|holds n|lacks the columns|damaged|cut short|expected a JSON|expected a list|the file is empty|must be an object|cannot be read")


# Checks ---------------------------------------------------------------------------------------------------------------------


#: Times the limit of computing time that one input may take by the clock.
WAITING = 20


class Hang(BaseException):
    """Raised by the alarm; no reader may catch it."""


@dataclass
class Outcome:
    """inputs by reader, how they ended, failures (text with the seed), most seconds and megabytes of one input."""

    ended: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    megabytes: dict[str, float] = field(default_factory=dict)


def _status(name: str) -> float:
    """Megabytes of a line of /proc/self/status (Linux), 0 elsewhere."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    return float(next((line.split()[1] for line in text.splitlines() if line.startswith(name)), 0)) / 1024


def _reset_peak() -> None:
    # What earlier work freed goes back to the system first: memory that is taken from there again would not be seen to grow.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def consume(records) -> int:
    """Number of records. A scene must be writable as JSON, and so must every question that is asked about it."""
    from egohoi.questions import hoiqa, official
    from egohoi.records import Scene
    from egohoi.scenes import jsonl

    count = 0
    for count, record in enumerate(records, 1):
        if isinstance(record, Scene):
            json.dumps(jsonl.to_json(record), allow_nan=False)
            for settings in (hoiqa.Settings(), hoiqa.Settings(wording="more", negatives=True, name_held=True)):
                for example in (*hoiqa.train_examples(record, settings), *hoiqa.test_examples(record, settings)):
                    official.member(example)
    return count


def check(target: Target, folder: Path, on_error) -> tuple[str, str | None]:
    """(how it ended, what is wrong or None) of one reading."""
    names = {Path(target.file).name, *(p.name for p in folder.rglob("*.*"))}
    try:
        count = consume(target.read(folder, on_error))
    except EgohoiError as error:
        message = str(error)
        if not any(n in message for n in names):
            return "error", f"names no file: {message[:200]}"
        rest = message.split(Path(target.file).name, 1)[-1] if not target.file.endswith(("png", "jpg")) else message
        if not (RECORD.search(rest) or WHOLE.search(rest)):
            return "error", f"names no record: {message[:200]}"
        if "\n" in message or len(message) > 1000:
            return "error", f"is not one line, or too long: {message[:200]}"
        if on_error is not None and target.collects:
            return "error", f"raised although errors are collected: {message[:200]}"
        return "error", None
    except Hang:
        return "hang", "took too long"
    except BaseException as error:  # noqa: BLE001  whatever else comes is a failure to report
        return "crash", f"{type(error).__name__}: {str(error)[:200]}"
    return ("read" if count else "nothing"), None


def run(inputs: int, seed: int = 0, reader: str | None = None, seconds: float = 10.0, megabytes: float = 300.0, report=None) -> Outcome:
    """Mutate and read `inputs` times, targets in turn. report: called with (done, inputs) now and then."""
    chosen = [t for t in targets() if reader in (None, t.name)]
    outcome = Outcome()

    def alarm(*_):
        raise Hang

    def timed(target: Target, on_error) -> tuple[str, str | None]:
        # Computing time, so that a busy machine fails no reader; a reader that waits is caught by the clock.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, WAITING * seconds)
        try:
            return check(target, folder, on_error)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.setitimer(signal.ITIMER_PROF, 0)

    before = [(number, signal.signal(number, alarm)) for number in (signal.SIGALRM, signal.SIGPROF)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder)
        originals = {t.file: (folder / t.file).read_bytes() for t in chosen}
        try:
            for t in chosen:  # also warms the imports up
                ended, problem = timed(t, None)
                if ended != "read" or problem:
                    outcome.failures.append(f"{t.name}: the miniature {t.file} itself: {ended} {problem}")
            for k in range(inputs):
                target = chosen[k % len(chosen)]
                rng = random.Random(f"{seed}/{k}")
                path = folder / target.file
                data = target.mutate(originals[target.file], rng)
                allowed = megabytes + 20 * len(data) / 2**20  # Python needs about 16 bytes for each of a list of small lists
                path.write_bytes(data)
                errors: list[EgohoiError] = []
                for on_error in (None, errors.append) if target.collects else (None,):
                    _reset_peak()
                    start, had = time.process_time(), _status("VmRSS")
                    ended, problem = timed(target, on_error)
                    took, grew = time.process_time() - start, _status("VmHWM") - had
                    if problem is None and grew > allowed:
                        problem = f"took {grew:.0f} MB"
                    wrong = [e for e in errors if not isinstance(e, EgohoiError) or not any(c in str(e) for c in (path.name, str(folder)))]
                    if problem is None and wrong:
                        problem = f"collected {wrong[0]!r}, which names no file"
                    if on_error is None:
                        outcome.ended[target.name, ended] += 1
                    outcome.seconds[target.name] = max(outcome.seconds.get(target.name, 0), took)
                    outcome.megabytes[target.name] = max(outcome.megabytes.get(target.name, 0), grew)
                    if problem:
                        outcome.failures.append(f"{target.name}: {target.file}, input {k} of seed {seed}: {problem}")
                path.write_bytes(originals[target.file])
                if report is not None and (k + 1) % 500 == 0:
                    report(k + 1, inputs)
        finally:
            for number, handler in before:
                signal.signal(number, handler)
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", help="only this reader")
    parser.add_argument("--seconds", type=float, default=10.0, help="most seconds of computing for one input")
    parser.add_argument("--megabytes", type=float, default=300.0, help="most memory that one input may take")
    parser.add_argument("--json", help="write the result there")
    options = parser.parse_args()
    start = time.monotonic()
    outcome = run(
        options.inputs, options.seed, options.reader, options.seconds, options.megabytes,
        lambda done, of: print(f"{done}/{of}", file=sys.stderr, flush=True),
    )
    kinds = ("read", "nothing", "error", "crash", "hang")
    print(f"{'reader':<17}" + "".join(f"{k:>9}" for k in kinds) + "  most seconds   most MB")
    rows = {name: {k: outcome.ended[name, k] for k in kinds} for name in sorted({n for n, _ in outcome.ended})}
    for name, row in rows.items():
        print(f"{name:<17}" + "".join(f"{row[k]:>9}" for k in kinds) + f"{outcome.seconds[name]:>14.2f}{outcome.megabytes[name]:>10.1f}")
    print(f"{options.inputs} inputs, seed {options.seed}, {time.monotonic() - start:.0f} s, {len(outcome.failures)} failures")
    for failure in outcome.failures[:50]:
        print(failure)
    if options.json:
        result = {"inputs": options.inputs, "seed": options.seed, "readers": rows, "most_seconds": outcome.seconds}
        result |= {"most_megabytes": outcome.megabytes, "failures": outcome.failures}
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
