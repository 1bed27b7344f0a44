"""EPIC hand-object detections: a file made byte by byte (tests/scenes/miniature.py), with every number worked out by hand."""

import pickle
import runpy
from pathlib import Path

import pytest

from egohoi.errors import BadData, BadRecord
from egohoi.scenes import epic_hands

HERE = Path(__file__).parent
DATA = HERE.parent / "data" / "epic"
MINIATURE = runpy.run_path(str(HERE / "miniature.py"))


def read(**options):
    return list(epic_hands.read(DATA, **options))


def test_miniature_file_is_what_its_bytes_say():
    assert pickle.loads((DATA / "P01_01.pkl").read_bytes()) == MINIATURE["FRAMES"]


def test_schema_reads_and_writes_the_wire_format():
    data = MINIATURE["FRAMES"][1]
    message = epic_hands.decode(data)
    assert message.SerializeToString() == data
    assert (message.video_id, message.frame_number, len(message.hands), len(message.objects)) == ("P01_01", 2, 3, 3)
    hand = message.hands[0]
    assert (hand.bbox.left, hand.bbox.top, hand.bbox.right, hand.bbox.bottom) == (0.0, 0.5, 0.25, 1.0)
    assert (hand.state, hand.side, hand.object_offset.x, hand.object_offset.y) == (3, 0, 0.25, -0.25)


def test_scene_golden():
    scenes = read()
    assert [s.id for s in scenes] == [f"epic-hands/P01_01/{n}" for n in (1, 2, 3, 150)]
    assert scenes[0].hands == () and scenes[0].objects == ()
    scene = scenes[1]
    assert scene.image == "EPIC_Kitchens/frames/P01_01/frame_0000000002.jpg" and scene.size == (456, 256)
    right, left = scene.hands  # by score; the hand of score 0.25 is left out
    assert (right.side, right.box, right.contact, right.object, right.score) == ("right", (342.0, 128.0, 456.0, 256.0), False, None, 0.875)
    # The left hand's centre (57, 192) plus (0.25 * 456, -0.25 * 256) is (171, 128): the centre of the first object by score.
    assert (left.side, left.box, left.contact, left.object, left.score) == ("left", (0.0, 128.0, 114.0, 256.0), True, 0, 0.75)
    assert [(o.name, o.box, o.hands, o.score) for o in scene.objects] == [
        ("", (114.0, 64.0, 228.0, 192.0), ("left",), 0.625), ("", (228.0, 0.0, 456.0, 64.0), (), 0.5),
    ]
    assert scene.extra["hand_states"] == ["no contact", "portable object"]
    assert scene.exhaustive is None


def test_contact_without_an_object():
    own, alone = read()[2:]
    assert (own.hands[0].contact, own.hands[0].object) == (True, None) and own.objects[0].hands == ()
    assert (alone.hands[0].contact, alone.hands[0].object) == (True, None)  # stationary object, but none above the threshold


def test_thresholds():
    scene = read(hand_score=0.1, object_score=0.01)[1]
    assert [h.score for h in scene.hands] == [0.875, 0.75, 0.25] and [o.score for o in scene.objects] == [0.625, 0.5, 0.125]
    # centre (285, 192) without an offset: the whole picture's centre (228, 128) is nearest
    assert scene.hands[2].object == 2 and scene.objects[2].hands == ("right",)
    assert read(hand_score=0.9)[1].hands == ()


def test_selection_of_frames_and_narrations():
    assert [s.extra["frame"] for s in read(every=2)] == [1, 3]
    assert [s.extra["frame"] for s in read(frames={"P01_01": {3, 150}})] == [3, 150]
    scenes = read(narrations=DATA / "EPIC_100_train.csv", size=(912, 512))
    assert [s.narration for s in scenes] == [None, None, None, "pick up wooden spoon"]
    assert scenes[1].hands[1].box == (0.0, 256.0, 228.0, 512.0)
    with pytest.raises(BadData, match="every must be a number of frames from 1"):
        read(every=0)


def write(tmp_path, data) -> Path:
    path = tmp_path / "P09_09.pkl"
    path.write_bytes(data)
    return path


def test_broken_frames_are_named_and_skipped(tmp_path):
    frames = MINIATURE["FRAMES"]
    bad_state = MINIATURE["frame"]("P01_01", 4, hands=[MINIATURE["hand"]((0.0, 0.5, 0.25, 1.0), 1.0, 9, (0, 0), 0)])
    nan = MINIATURE["frame"]("P01_01", 5, hands=[MINIATURE["hand"]((float("nan"), 0.5, 0.25, 1.0), 1.0, 1, (0, 0), 0)])
    path = write(tmp_path, pickle.dumps([frames[0], frames[1][:-3], b"\x08\x01", bad_state, nan, frames[3]], protocol=3))
    errors = []
    assert [s.extra["frame"] for s in epic_hands.read(path, on_error=errors.append)] == [1, 150]
    assert [str(e).removeprefix(f"{path}: ")[:40] for e in errors] == [
        "frame 2: not a serialised Detections mes", "frame 3: has no video_id or no frame_num",
        "frame 4: a hand has state 9 and side 0, ", "frame 5: a box edge must be a number fro",
    ]
    with pytest.raises(BadRecord, match="frame 2: "):
        list(epic_hands.read(path))


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_every_pickle_protocol_with_bytes(tmp_path, protocol):
    path = write(tmp_path, pickle.dumps(MINIATURE["FRAMES"], protocol=protocol))
    assert len(list(epic_hands.read(path))) == 4


class Hostile:
    def __reduce__(self):
        return (Path.touch, (Path("owned"),))


@pytest.mark.parametrize(
    "data, message",
    [
        (pickle.dumps([Hostile()]), "is a pickle of something else than a list of serialised frames"),
        (pickle.dumps({"a": 1}), "is a pickle of something else"),
        (pickle.dumps([]), "holds no frames"),
        (b"", "damaged or cut short after frame 0"),
        (pickle.dumps(MINIATURE["FRAMES"], protocol=3)[:-20], "damaged or cut short after frame 3"),
        (b"\x80\x03]q\x00(B\xff\xff\xff\x7f", "damaged or cut short after frame 0 .*an entry of 2147483647 bytes"),
        (b"\x80\x04]\x94(\x8e\xff\xff\xff\xff\xff\xff\xff\x0f", "damaged or cut short"),
    ],
)
def test_hostile_and_damaged_files(tmp_path, monkeypatch, data, message):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, data)
    with pytest.raises(BadRecord, match=message) as caught:
        list(epic_hands.read(path))
    assert str(path) in str(caught.value)
    assert not Path("owned").exists()
