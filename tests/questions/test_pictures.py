import json

import pytest

from egohoi import store
from egohoi.errors import BadData, BadRecord
from egohoi.questions import pictures
from egohoi.records import Example

TURNS = [{"from": "human", "value": "<image>\nWhere is the cup?"}, {"from": "gpt", "value": "{<1><2><30><40>}"}]
TRAIN = [{"id": str(k), "image_path": f"Ego4D/v2/frames/u/frame_{k}.jpg", "conversations": TURNS * 2} for k in range(2)]
TEST = {"k": {"noun": "cup", "bbox": [1, 2, 3, 4], "image_path": "Ego4D/v2/frames/u/frame_9.jpg"}}


def test_every_kind_of_data(tmp_path):
    (tmp_path / "build/hoiqa").mkdir(parents=True)
    (tmp_path / "build/hoiqa/ego4d-train.json").write_text(json.dumps(TRAIN))
    (tmp_path / "build/hoiqa/ego4d-test.json").write_text(json.dumps(TEST))
    file = [("Ego4D/v2/frames/u/frame_0.jpg", 2), ("Ego4D/v2/frames/u/frame_1.jpg", 2)]
    folder = [("Ego4D/v2/frames/u/frame_9.jpg", 1)] * 2 + file  # asked both ways
    assert list(pictures.named(tmp_path / "build/hoiqa/ego4d-train.json")) == file
    assert list(pictures.named(tmp_path / "build")) == list(pictures.named(tmp_path / "build/hoiqa")) == folder

    store.write(tmp_path / "shards", [Example(f"e{k}", f"{k}.jpg", (4, 4), (("q", "a"),)) for k in range(2)])
    assert list(pictures.named(tmp_path / "shards")) == list(pictures.named(tmp_path / "shards/shard-00000.parquet")) == [("0.jpg", 1), ("1.jpg", 1)]

    (tmp_path / "scenes.jsonl").write_text('{"id": "a", "image": "a.jpg", "size": [4, 4]}\n\n')
    assert list(pictures.named(tmp_path)) == list(pictures.named(tmp_path / "scenes.jsonl")) == [("a.jpg", 0)]
    (tmp_path / "list.txt").write_text("\ufeffv/frame_1.jpg\n \nv/frame_2.jpg")
    assert list(pictures.named(tmp_path / "list.txt")) == [("v/frame_1.jpg", 0), ("v/frame_2.jpg", 0)]


def test_what_names_no_pictures(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(BadData, match="give a build, a store of shards"):
            list(pictures.named(path))
    for text in ("3", '{"image": 4}', "{}", "[" * 10_000):
        (tmp_path / "broken.jsonl").write_text('{"image": "a.jpg"}\n' + text)
        with pytest.raises(BadRecord, match="broken.jsonl:2: not a record with an image"):
            list(pictures.named(tmp_path / "broken.jsonl"))
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\0\0")
    with pytest.raises(BadData, match="photo.jpg:1: is no text"):
        list(pictures.named(tmp_path / "photo.jpg"))
