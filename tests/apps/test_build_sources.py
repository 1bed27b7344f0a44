"""`egohoi build hoiqa` on the miniature raw files of every source: what is asked, worked out from the files by hand."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / "data"
for module in ("pyarrow", "ijson", "google.protobuf"):
    pytest.importorskip(module)


def build(folder, *arguments):
    command = [sys.executable, "-m", "egohoi", "build", "hoiqa", *map(str, arguments), "--out", "out", "--json", "--workers", "1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_source_at_once(tmp_path):
    shutil.copytree(DATA, tmp_path / "data")
    report = build(
        tmp_path / "data", "--visor", "visor", "--epic-hands", "epic", "--narrations", "epic/EPIC_100_train.csv", "--narrated-frames",
        "--ego4d", "ego4d", "--egohos", "egohos", "--coco", "coco", "--skip-broken", "--no-balance", "--test-fraction", "0",
    )
    train = report["questions"]["train"]
    assert {"visor", "epic-hands", "epic-narrations", "egohos", "coco"} <= set(train)
    # Objects of detections and of EgoHOS have no name: located by hand, never named.
    for source in ("epic-hands", "egohos"):
        assert "Q3" in train[source] and not {"Q4", "Q5", "Q7", "Q8"} & set(train[source])
    assert set(train["epic-narrations"]) == {"Q2"}
    # Ego4D labels no contact.
    both = {t for split in report["questions"].values() for t in split.get("ego4d", {})}
    assert both and not {"Q3", "Q4", "Q5", "handN2objBB", "handN2objN", "objN2handBB", "objN2handN"} & both
    assert train["coco"]["Q4"] == train["coco"]["Q5"] == train["coco"]["Q3"]
    files = report["files"]
    epic = sum(sum(train[s].values()) for s in ("visor", "epic-hands", "epic-narrations"))
    assert files["epic-kitchens-train.json"] == epic and files["other-train.json"] == sum(sum(train[s].values()) for s in ("coco", "egohos"))


def test_the_example_of_the_documentation(tmp_path):
    """docs/sources.md shows a COCO file and says what is asked about it."""
    text = (Path(__file__).parents[2] / "docs/sources.md").read_text(encoding="utf-8")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/annotations.json").write_text(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1])
    assert "egohoi build hoiqa --coco mine --out hoiqa-mine --test-fraction 0 --no-balance" in text and "asks 12 questions: 3 each of Q1 and Q6" in text
    report = build(tmp_path, "--coco", "mine", "--test-fraction", "0", "--no-balance")
    assert report["questions"]["train"] == {"coco": {"Q1": 3, "Q2": 1, "Q3": 1, "Q4": 1, "Q5": 1, "Q6": 3, "Q7": 1, "Q8": 1}}
    assert report["files"]["other-train.json"] == 12
