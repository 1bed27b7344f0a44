import hashlib
import json
import random

import pytest

from egohoi import store
from egohoi.errors import BadConfig, BadData, BadRecord
from egohoi.questions import build, hoiqa, official
from egohoi.questions import engine as engines
from egohoi.records import Hand, Object, Scene
from egohoi.scenes import jsonl

pytest.importorskip("pyarrow")


def scenes(count, seed=0, source="visor", split=None, videos=6):
    rng = random.Random(seed)

    def box():
        x, y = rng.uniform(0, 1500), rng.uniform(0, 800)
        return (x, y, x + rng.uniform(60, 400), y + rng.uniform(60, 250))

    for k in range(count):
        video = f"P{k % videos:02d}_01"
        hands, objects = [], []
        for side in ("left", "right", "right")[: rng.choice([1, 2, 2, 2, 3])]:
            objects.append(Object(rng.choice(["cup", "knife", "board:chopping", "pan"]), box(), hands=(side,)))
            hands.append(Hand(side, box(), contact=True, object=len(objects) - 1))
        extra = {"video": video} | ({"split": split} if split else {})
        yield Scene(
            id=f"{source}/{seed}/{k}", image=f"{video}/frame_{k:010d}.jpg", size=(1920, 1080), hands=hands, objects=objects, source=source,
            narration="take the cup", verb="take", noun="cup", extra=extra,
        )


def inputs(folder, files=3, count=40, **options):
    made = []
    for k in range(files):
        jsonl.write(folder / f"in{k}", scenes(count, seed=k, **options))
        made.append(build.Source("scenes", str(folder / f"in{k}")))
    return made


def digests(folder):
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def videos(examples):
    return {e.image.split("/")[-2] for e in examples}


def test_counts_files_and_report_agree(tmp_path):
    report = build.build(inputs(tmp_path), tmp_path / "out", build.Recipe(shard_rows=300))
    train, test = store.Store(tmp_path / "out/train"), store.Store(tmp_path / "out/test")
    assert report["rows"] == {"train": len(train), "test": len(test)} and report["total"] == len(train) + len(test)
    assert len({e.id for e in train}) == len(train)
    for split, data in (("train", train), ("test", test)):
        counted: dict = {}
        for example in data:
            counted[example.type] = counted.get(example.type, 0) + 1
        assert report["questions"][split] == {"visor": counted}
        assert report["frames"][split] == len({e.image for e in data})
    assert not videos(train) & videos(test)
    assert set(report["questions"]["train"]["visor"]) == set(hoiqa.TYPES)
    assert set(report["questions"]["test"]["visor"]) == set(hoiqa.SUBSETS)
    assert report["scenes"] == {"visor": 120} and report["broken"] == {"count": 0, "first": []}
    assert json.loads((tmp_path / "out/report.json").read_text()) == report
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["README.md", "hoiqa", "report.json", "test", "train"]
    written = {p.name: sum(1 for _ in official.records(p)) for p in (tmp_path / "out/hoiqa").iterdir()}
    assert written == report["files"] and set(official.FILES.values()) == set(written)
    again = {e.id: e for name in written for e in official.read(tmp_path / "out/hoiqa" / name)}
    assert {e.id: e.conversation for e in (*train, *test)} == {i: e.conversation for i, e in again.items()}
    # Every pair that the scenes support is either there or counted with a reason.
    asked = [s for k in range(3) for s in scenes(40, seed=k) if s.extra["video"] in videos(train)]
    possible = sum(len(hoiqa.train_examples(s, hoiqa.Settings())) for s in asked)
    surplus = sum(n for t, r in report["dropped"]["visor"].items() if t in hoiqa.TYPES for x, n in r.items() if x.startswith("more questions"))
    assert possible == len(train) + surplus


def test_left_and_right_are_balanced(tmp_path):
    report = build.build(inputs(tmp_path), tmp_path / "out")
    for split in build.SPLITS:
        assert report["sides"][split]
        for kind, sides in report["sides"][split].items():
            assert sides["left"] == sides["right"] > 0, (split, kind)
    free = build.build(inputs(tmp_path), tmp_path / "free", build.Recipe(balance=False))
    assert free["total"] > report["total"]
    assert not any("more questions" in r for by in free["dropped"].values() for rs in by.values() for r in rs)
    kept, every = store.Store(tmp_path / "out/train"), store.Store(tmp_path / "free/train")
    assert {e.id for e in kept} < {e.id for e in every}
    other = build.build(inputs(tmp_path), tmp_path / "other", build.Recipe(hoiqa.Settings(seed=5), test_fraction=0))
    assert other["rows"]["test"] == 0 and not (tmp_path / "other/test").exists()


def test_workers_change_no_byte(tmp_path):
    sources = inputs(tmp_path)
    for workers in (1, 2, 4):
        build.build(sources, tmp_path / f"out{workers}", build.Recipe(shard_rows=250), workers=workers)
    assert digests(tmp_path / "out1") == digests(tmp_path / "out2") == digests(tmp_path / "out4")
    assert len(digests(tmp_path / "out1")) > 10


def test_a_build_that_dies_anywhere_ends_with_the_same_bytes(tmp_path, monkeypatch):
    """Every way of putting a file in its place is a point where the build may die, before or after."""
    sources, recipe = inputs(tmp_path, files=2, count=15), build.Recipe(shard_rows=150)
    build.build(sources, tmp_path / "whole", recipe)
    settle, left = store.settle, 0

    class Killed(BaseException):
        pass

    def dying(part, path):
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        settle(part, path)
        if left == 0:
            raise Killed

    deaths = 0
    for survived in range(200):
        out = tmp_path / f"out{survived}"
        monkeypatch.setattr(store, "settle", dying)
        left = survived
        try:
            build.build(sources, out, recipe)
        except Killed:
            deaths += 1
            assert not (out / "report.json").exists() or not (out / ".work").exists() or json.loads((out / "report.json").read_text())
            monkeypatch.setattr(store, "settle", settle)
            build.build(sources, out, recipe)
        assert digests(out) == digests(tmp_path / "whole"), survived
        if left > 0:
            break
    assert deaths > 15


def test_what_is_done_is_not_done_again(tmp_path, monkeypatch):
    sources = inputs(tmp_path)
    report = build.build(sources, tmp_path / "out")
    monkeypatch.setattr(build, "make_unit", None)
    assert build.build(sources, tmp_path / "out") == report
    with pytest.raises(BadData, match="holds another build .other recipe"):
        build.build(sources, tmp_path / "out", build.Recipe(hoiqa.Settings(seed=1)))
    scenes_file = tmp_path / "in0/scenes.jsonl"
    scenes_file.write_text(scenes_file.read_text().replace("cup", "mug"))
    with pytest.raises(BadData, match="holds another build .other contents"):
        build.build(sources, tmp_path / "out")


def test_declared_splits_hold_videos_out_of_every_source(tmp_path):
    jsonl.write(tmp_path / "val", scenes(30, videos=2))
    jsonl.write(tmp_path / "more", scenes(60, seed=1, source="mine", split="train", videos=4))
    report = build.build([build.Source("scenes", str(tmp_path / n)) for n in ("more", "val")], tmp_path / "out")
    train, test = store.Store(tmp_path / "out/train"), store.Store(tmp_path / "out/test")
    assert videos(test) == {"P00_01", "P01_01"} and {e.source for e in test} == {"visor"}
    assert videos(train) == {"P02_01", "P03_01"} and {e.source for e in train} == {"mine"}
    assert sum(r.get("the video is held out for testing", 0) for r in report["dropped"]["mine"].values()) > 0


@pytest.mark.parametrize("path, root, split", [
    ("/a/train/P01.json", "/a", "train"), ("/a/val/P01.json", "/a", "test"), ("/a/P01.json", "/a", None),
    ("/b/fho_scod_val.json", "/b/fho_scod_val.json", "test"), ("/d/test/scenes.jsonl", "/d/test", "test"), ("/b/latest.json", "/b", None),
])
def test_splits_declared_by_paths(path, root, split):
    assert build.declared_split(path, root) == split


def test_pieces_of_a_scenes_file_hold_every_line_once(tmp_path, monkeypatch):
    jsonl.write(tmp_path / "in", scenes(23))
    size = (tmp_path / "in/scenes.jsonl").stat().st_size
    whole = [s.id for s in jsonl.read(tmp_path / "in")]
    ends = [0]
    for line in (tmp_path / "in/scenes.jsonl").read_bytes().splitlines(keepends=True):
        ends.append(ends[-1] + len(line))
    for piece in (1, 97, 1000, ends[1], ends[1] + 1, ends[2] - 1, size - 1, size, size + 5):
        if piece == 1 and size > 3000:
            piece = 613
        monkeypatch.setattr(build, "PIECE", piece)
        units = build.units_of([build.Source("scenes", str(tmp_path / "in"))])
        assert [s.id for u in units for s in build.scenes(u)] == whole, piece


def test_broken_records(tmp_path):
    sources = inputs(tmp_path, files=1)
    path = tmp_path / "in0/scenes.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:5], '{"id": "x"}', "{broken", *lines[5:]]))
    with pytest.raises(BadRecord, match="scenes.jsonl: the line at byte"):
        build.build(sources, tmp_path / "out")
    report = build.build(sources, tmp_path / "skipping", build.Recipe(skip_broken=True))
    assert report["broken"]["count"] == 2 and "not JSON" in report["broken"]["first"][1] and report["scenes"] == {"visor": 40}


def test_a_build_that_broke_off_can_be_corrected(tmp_path, monkeypatch):
    """Before the first unit is done everything may change; later, broken records may be left out: what is done stays."""
    sources, path = inputs(tmp_path), tmp_path / "in1/scenes.jsonl"
    path.write_text(path.read_text() + '{"id": "x"}\n')
    with pytest.raises(BadRecord, match="in1"):
        build.build(sources[1:], tmp_path / "out")
    with pytest.raises(BadRecord, match="in1"):
        build.build(sources, tmp_path / "out")
    with pytest.raises(BadData, match="holds another build that is not finished .other recipe"):
        build.build(sources, tmp_path / "out", build.Recipe(balance=False, skip_broken=True))
    make_unit, asked = build.make_unit, []
    monkeypatch.setattr(build, "make_unit", lambda unit, *more: asked.append(unit["number"]) or make_unit(unit, *more))
    report = build.build(sources, tmp_path / "out", build.Recipe(skip_broken=True))
    assert report["broken"]["count"] == 1 and asked == [1, 2]
    build.build(sources, tmp_path / "at-once", build.Recipe(skip_broken=True))
    assert digests(tmp_path / "out") == digests(tmp_path / "at-once")


def test_mistakes_are_told(tmp_path):
    with pytest.raises(BadData, match="nothing to build from"):
        build.build([], tmp_path / "out")
    with pytest.raises(BadData, match="no such file"):
        build.build([build.Source("coco", str(tmp_path / "none"))], tmp_path / "out")
    sources = inputs(tmp_path, files=1, count=3)
    (tmp_path / "file").touch()
    with pytest.raises(BadData, match="is a file"):
        build.build(sources, tmp_path / "file")
    (tmp_path / "mine/train").mkdir(parents=True)
    (tmp_path / "mine/train/photo.jpg").touch()
    with pytest.raises(BadData, match="holds train/photo.jpg"):
        build.build(sources, tmp_path / "mine")
    for wrong in ({"test_fraction": 2}, {"shard_rows": 0}):
        with pytest.raises(BadConfig):
            build.Recipe(**wrong)
    with pytest.raises(BadConfig, match="engine"):
        engines.run(print, [()], engine="cloud")


def test_hugging_face_finds_the_splits(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    report = build.build(inputs(tmp_path, files=1), tmp_path / "out")
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {s: len(loaded[s]) for s in loaded} == report["rows"]


def test_ray_changes_no_byte(tmp_path):
    pytest.importorskip("ray")
    sources = inputs(tmp_path, files=2, count=15)
    build.build(sources, tmp_path / "local")
    build.build(sources, tmp_path / "ray", workers=2, engine="ray")
    assert digests(tmp_path / "local") == digests(tmp_path / "ray")
