import json

import pytest

from egohoi import masks
from egohoi.errors import BadData, BadRecord
from egohoi.records import Hand, Object, Scene
from egohoi.scenes import jsonl


def full(folder="", name="r036", **changes):
    mask = masks.from_polygons([[10, 10, 20, 10, 20, 20, 10, 20]], (64, 48))
    return Scene(**{
        "id": name, "image": f"{folder}images/{name}.jpg", "size": (64, 48), "source": "mine", "action": "peel garlic", "verb": "peel",
        "noun": "garlic", "narration": "she peels garlic", "exhaustive": True, "depth": f"{folder}depth/{name}.png",
        "questions": [{"question": "q", "answer": "a"}], "extra": {"video": "v1", "n": [1, None]},
        "hands": [Hand("left", (1, 2, 30, 40.5), contact=True, object=0, mask=mask), Hand("right", (5, 5, 9, 9), contact=False, score=0.5, glove=True)],
        "objects": [Object("garlic", (10, 10, 20, 20), hands=("left",), mask=mask), Object("", (0, 0, 3, 3), score=1.0)],
    } | changes)


def test_round_trip(tmp_path):
    scenes = [full(f"{tmp_path}/", f"r{k}") for k in range(3)]
    assert jsonl.write(tmp_path, scenes) == 3
    assert list(jsonl.read(tmp_path)) == scenes == list(jsonl.read(tmp_path / "scenes.jsonl"))
    row = json.loads((tmp_path / "scenes.jsonl").read_text().splitlines()[0])
    assert row["image"] == "images/r0.jpg" and row["depth"] == "depth/r0.png" and row["video"] == "v1"


def test_extra_keys_named_like_fields_do_not_overwrite_them(tmp_path):
    scene = full(f"{tmp_path}/", extra={"image": "another.jpg", "hands": 3, "mine": 1})
    jsonl.write(tmp_path, [scene])
    assert list(jsonl.read(tmp_path)) == [scene]


LINE = '{"id": "a", "image": "a.jpg", "size": [64, 48], "hands": [{"side": "left", "box": [1, 2, 30, 40], "score": 0.5}]}'


@pytest.mark.parametrize("old, new, message", [
    ("0.5", "NaN", "not JSON (NaN is no number: write null, or leave the key out)"),
    ("0.5", "-Infinity", "not JSON (-Infinity is no number"), ("30", "1e999", "not JSON (1e999 is no number"), ("0.5", "1.5", "from 0 to 1"),
    ('"id": "a"', '"id": "a", "mine": NaN', "NaN is no number"), ("[64, 48]", "[64]", "size must be"), ("}]}", "}]", "not JSON"),
    ('"left"', '"both"', "hand side must be"), ('[{"side"', '[3, {"side"', "'hands' must be a list of objects"),
    ('"id": "a"', '"id": "a", "noun": ["x"]', "noun must be a text"), ('"id": "a", ', "", "not a scene (TypeError"),
])
def test_broken_lines_are_named(tmp_path, old, new, message):
    assert LINE.replace(old, new) != LINE
    path = tmp_path / "scenes.jsonl"
    path.write_text(f"{LINE}\n\n{LINE.replace(old, new)}\n{LINE}\n")
    with pytest.raises(BadRecord) as caught:
        list(jsonl.read(path))
    assert str(caught.value).startswith(f"{path}:3: ") and message in str(caught.value) and "\n" not in str(caught.value)
    errors = []
    assert len(list(jsonl.read(path, on_error=errors.append))) == 2 and len(errors) == 1


def test_a_byte_order_mark_is_no_part_of_the_scene(tmp_path):
    (tmp_path / "scenes.jsonl").write_bytes(b"\xef\xbb\xbf" + LINE.encode())
    assert next(jsonl.read(tmp_path)).id == "a"


def test_nothing_there(tmp_path):
    with pytest.raises(BadData, match="no scenes.jsonl there"):
        list(jsonl.read(tmp_path))


def test_what_json_cannot_hold_is_refused_and_what_was_there_stays(tmp_path):
    jsonl.write(tmp_path, [full(f"{tmp_path}/")])
    before = (tmp_path / "scenes.jsonl").read_bytes()
    for value in (float("nan"), {1, 2}):
        with pytest.raises(BadRecord, match="scene 'bad' cannot be written as JSON"):
            jsonl.write(tmp_path, [full(name="good"), full(name="bad", extra={"x": value})])
    assert (tmp_path / "scenes.jsonl").read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["scenes.jsonl"]
