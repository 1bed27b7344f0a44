"""EPIC-KITCHENS-100 narrations: the miniature CSV, with every number worked out by hand."""

from pathlib import Path

import pytest

from egohoi.errors import BadData, BadRecord
from egohoi.scenes import epic_narrations

FILE = Path(__file__).parent.parent / "data" / "epic" / "EPIC_100_train.csv"


def test_rows():
    rows = list(epic_narrations.rows(FILE))
    assert [r.id for r in rows] == ["P01_01_0", "P01_01_1", "P01_01_10", "P02_02_3"]
    spoon = rows[1]
    assert (spoon.video, spoon.start, spoon.stop, spoon.text) == ("P01_01", 139, 179, "pick up wooden spoon")
    assert (spoon.verb, spoon.noun, spoon.nouns) == ("pick up", "wooden spoon", ("wooden spoon", "tap"))
    assert (spoon.verb_class, spoon.noun_class) == (0, 1)
    assert rows[2].text == "take knife, fork" and rows[2].nouns == ("knife", "fork")


def test_covered_frames():
    index = epic_narrations.index(FILE)
    ids = {f: [n.id for n in index.at("P01_01", f)] for f in (7, 8, 138, 139, 179, 180, 202, 203, 428, 429, 431, 432)}
    assert ids == {
        7: [], 8: ["P01_01_0"], 138: ["P01_01_0"], 139: ["P01_01_1", "P01_01_0"], 179: ["P01_01_1", "P01_01_0"],
        180: ["P01_01_0"], 202: ["P01_01_0"], 203: [], 428: [], 429: ["P01_01_10"], 431: ["P01_01_10"], 432: [],
    }
    assert index.at("P99_01", 8) == []


def test_scenes_of_middle_frames():
    scenes = list(epic_narrations.read(FILE))
    assert [s.extra["frame"] for s in scenes] == [105, 159, 430, 75]  # (8 + 202) / 2, (139 + 179) / 2, ...
    first = scenes[0]
    assert first.id == "epic-narration/P01_01_0/105" and first.image == "EPIC_Kitchens/frames/P01_01/frame_0000000105.jpg"
    assert (first.action, first.narration, first.verb, first.noun) == ("open door", "open door", "open", "door")
    assert first.hands == () and first.exhaustive is None
    assert scenes[3].verb == "put down"


def test_scenes_of_every_so_many_frames():
    scenes = list(epic_narrations.read(FILE, every=20, image="rgb/{participant}/{video}/{frame}.jpg"))
    assert [s.extra["frame"] for s in scenes if s.extra["narration_id"] == "P01_01_1"] == [139, 159, 179]
    assert [s.extra["frame"] for s in scenes if s.extra["narration_id"] == "P01_01_10"] == [429]
    assert scenes[-1].image == "rgb/P02/P02_02/80.jpg"


@pytest.mark.parametrize(
    "noun, plain",
    [("spoon", "spoon"), ("spoon:wooden", "wooden spoon"), ("knife:teaspoon:fork", "teaspoon fork knife"), (" tap : hot ", "hot tap")],
)
def test_plain_noun(noun, plain):
    assert epic_narrations.plain_noun(noun) == plain


def test_broken_lines_are_named_and_skipped(tmp_path):
    head, *lines = FILE.read_text().splitlines()
    lines[1] = lines[1].replace(",139,179,", ",179,139,")
    lines[2] = lines[2].replace(",429,", ",many,")
    path = tmp_path / "EPIC_100_train.csv"
    path.write_text("\n".join([head, *lines]))
    errors = []
    assert [r.id for r in epic_narrations.rows(path, on_error=errors.append)] == ["P01_01_0", "P02_02_3"]
    assert [str(e) for e in errors] == [
        f"{path}:3: frames 179 to 139 are no segment",
        f"{path}:4: start_frame must be a whole number from 1 to 1000000000, got 'many'",
    ]
    with pytest.raises(BadRecord, match="csv:3: frames 179 to 139"):
        list(epic_narrations.read(path))


def test_test_split_has_no_labels(tmp_path):
    path = tmp_path / "EPIC_100_test_timestamps.csv"
    path.write_text("narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame\n")
    with pytest.raises(BadData, match="lacks the columns narration, verb, noun: the test split is published without labels"):
        list(epic_narrations.read(path))
