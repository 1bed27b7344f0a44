"""Opening HOI-QA and drawing random items: the store of shards against `json.load` of the published layout.

    python benchmarks/hoiqa_store.py [--conversations 1000000] [--draws 10000] [--folder FOLDER] [--json]

Both hold the same synthetic conversations, one question each, with the lengths of the eight question types. Every measurement
runs in a process of its own, so that its peak memory is its own:

- first: from the opened library to the first random item;
- draws: the remaining items, one after the other (`store[i]`) and as one request (`store.take`; also out of mapped shards);
- memory: peak resident set above what the interpreter and the imported library held before the data was opened, and in all.

The physical limit printed beside it: a store cannot be opened with less than one read of its index and its footer and the
decoding of one group of rows; that read alone is timed. A JSON text cannot be opened with less than one pass over its bytes;
reading the file without parsing it is timed too.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAMES = ("knife", "fork", "cup", "plate", "pan", "cupboard", "drawer", "tap", "chopping board", "sponge", "onion", "garlic")


def synthetic(count: int, seed: int = 0):
    """Examples with the texts of HOI-QA, in the published proportions of the eight types."""
    from egohoi.records import Example

    rng = random.Random(seed)
    kinds = ("Q1", "Q2", "Q3", "Q4", "Q5", "Q6", "Q7", "Q8")
    weights = (1177576, 383422, 294370, 36891, 30183, 1177481, 254130, 573215)
    for k in range(count):
        kind, name, side = rng.choices(kinds, weights)[0], rng.choice(NAMES), rng.choice(("left", "right"))
        x, y = rng.randrange(80), rng.randrange(80)
        box = f"{{<{x}><{y}><{x + rng.randrange(5, 20)}><{y + rng.randrange(5, 20)}>}}"
        question, answer = {
            "Q1": (box, f"{side.capitalize()} hand of the person"), "Q2": ("What is happening in the photo?", f"The person takes the {name}."),
            "Q3": (f"Where is the object being manipulated by the {side} hand?", box),
            "Q4": (f"What is the person holding in their {side} hand?", name.capitalize()),
            "Q5": (f"Is the {side} hand holding or touching an object?", f"The object in the {side} hand is a {name}."),
            "Q6": (f"Where is the {name}?", box), "Q7": ("Describe the ongoing action in this image.", f"The person takes the <p>{name}</p> {box}"),
            "Q8": (name, f"<p>{name}</p> {box}"),
        }[kind]
        video = f"P{k // 5000 % 37:02d}_{k // 500 % 10:02d}"
        yield Example(
            id=f"visor/{video}/{k}:{kind.lower()}", image=f"EPIC_Kitchens/frames/{video}/frame_{k:010d}.jpg", size=(1920, 1080),
            conversation=((question, answer),), type=kind, source="visor", extra={"side": side} if kind in ("Q3", "Q4", "Q5") else {},
            targets=({"name": name, "box": [x * 19.2, y * 10.8, (x + 10) * 19.2, (y + 10) * 10.8]},) if kind not in ("Q2", "Q4") else (),
        )


def prepare(folder: Path, count: int) -> None:
    from egohoi import store
    from egohoi.questions import official

    if (folder / f"ready-{count}").exists():
        return
    with open(folder / "train.json", "w", encoding="utf-8") as out:
        out.write("[")

        def written():
            for k, example in enumerate(synthetic(count)):
                out.write((",\n" if k else "") + official.member(example))
                yield example

        store.write(folder / "store", written(), resume=False)
        out.write("]")
    (folder / f"ready-{count}").touch()


def memory() -> tuple[float, float]:
    """(resident now, peak resident) of this process in MB, from the kernel."""
    found = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(found[k].split()[0]) / 1024 for k in ("VmRSS", "VmHWM"))


def measure(what: str, folder: Path, count: int, draws: int) -> dict:
    """One measurement, in this process."""
    rng = random.Random(1)
    order = [rng.randrange(count) for _ in range(draws)]
    if what in ("store", "store-take", "mapped-take"):
        import pyarrow.parquet  # noqa: F401  the library is not what is measured

        from egohoi.store import Store

        before, start = memory()[0], time.perf_counter()
        opened = Store(folder / "store", memory_map=what == "mapped-take")
        opened[order[0]]
        first = time.perf_counter()
        items = [opened[k] for k in order[1:]] if what == "store" else opened.take(order[1:])
    elif what == "json":
        before, start = memory()[0], time.perf_counter()
        with open(folder / "train.json", encoding="utf-8") as file:
            opened = json.load(file)
        opened[order[0]]
        first = time.perf_counter()
        items = [opened[k] for k in order[1:]]
    elif what == "limit-json":
        before, start = memory()[0], time.perf_counter()
        with open(folder / "train.json", "rb") as file:
            while file.read(1 << 20):
                pass
        first, items = time.perf_counter(), []
    else:
        from pyarrow import parquet

        before, start = memory()[0], time.perf_counter()
        json.loads((folder / "store/index.json").read_text())
        parquet.ParquetFile(sorted((folder / "store").glob("*.parquet"))[order[0] // 100_000]).read_row_group(0, use_threads=False)
        first, items = time.perf_counter(), []
    end = time.perf_counter()
    assert len(items) in (0, draws - 1)
    peak = memory()[1]
    return {"first_s": first - start, "draws_s": end - first, "above_mb": peak - before, "peak_mb": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conversations", type=int, default=1_000_000)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--folder", help="kept and used again; default: a temporary one")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, Path(options.folder), options.conversations, options.draws)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        prepare(folder, options.conversations)
        found: dict = {"conversations": options.conversations, "draws": options.draws, "writing_s": time.perf_counter() - start}
        for what in ("json", "store", "store-take", "mapped-take", "limit-json", "limit-store"):
            command = [sys.executable, __file__, "--measure", what, "--folder", str(folder)]
            command += ["--conversations", str(options.conversations), "--draws", str(options.draws)]
            found[what] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        found["bytes"] = {"json": (folder / "train.json").stat().st_size, "store": sum(p.stat().st_size for p in (folder / "store").iterdir())}
    old, new, whole = found["json"], found["store"], found["store-take"]
    found["ratios"] = {
        "first": old["first_s"] / new["first_s"], "memory_above": old["above_mb"] / max(new["above_mb"], whole["above_mb"]),
        "memory_in_all": old["peak_mb"] / max(new["peak_mb"], whole["peak_mb"]),
        "open_and_draw": (old["first_s"] + old["draws_s"]) / (whole["first_s"] + whole["draws_s"]),
    }
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{options.conversations:,} conversations, {options.draws:,} random draws, {os.cpu_count()} cores")
    print(f"{'':12}{'first item':>14}{'draws':>12}{'memory above':>14}{'in all':>10}{'on disk':>10}")
    for what, disk in (("json", "json"), ("store", "store"), ("store-take", "store"), ("mapped-take", "store"), ("limit-json", None), ("limit-store", None)):
        row = found[what]
        size = f"{found['bytes'][disk] / 1e6:.0f} MB" if disk else ""
        print(f"{what:12}{row['first_s'] * 1e3:>11.1f} ms{row['draws_s']:>10.2f} s{row['above_mb']:>11.0f} MB{row['peak_mb']:>7.0f} MB{size:>10}")
    print("json : store  " + ", ".join(f"{k} {v:.1f}" for k, v in found["ratios"].items()))


if __name__ == "__main__":
    main()
