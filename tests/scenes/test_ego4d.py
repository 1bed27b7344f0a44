"""Ego4D FHO: the miniatures of fho_main.json and fho_scod_val.json, with every number worked out by hand."""

import json
from pathlib import Path

import pytest

from egohoi.errors import BadData, BadRecord
from egohoi.scenes import ego4d

DATA = Path(__file__).parent.parent / "data" / "ego4d"
CLIP = "c1c1c1c1-0000-0000-0000-000000000001"


def test_main_file():
    scenes = list(ego4d.read(DATA / "fho_main.json"))
    # the post frame has no boxes; #O is not the wearer; u3 is rejected; the second interval is redacted
    assert [s.id for s in scenes] == [f"ego4d/{CLIP}/120/0/pre_frame", f"ego4d/{CLIP}/150/0/pnr_frame", f"ego4d/{CLIP}/300/3/pnr_frame"]
    pre, pnr, board = scenes
    assert pre.size == (1440, 1080) and pre.image == f"Ego4D/v2/frames/{CLIP}/frame_0000000120.jpg"
    assert [(h.side, h.box, h.contact) for h in pre.hands] == [("left", (100.5, 700.0, 300.5, 850.0), None)]
    assert (pre.verb, pre.noun, pre.action, pre.narration) == ("cut", None, None, "#C C cuts the carrot with the knife.")
    # the right hand reaches 60 pixels beyond the right and 120 beyond the lower edge
    assert [(h.side, h.box) for h in pnr.hands] == [("left", (100.0, 700.0, 300.0, 850.0)), ("right", (1300.0, 900.0, 1440.0, 1080.0))]
    assert [(o.name, o.box, o.hands) for o in pnr.objects] == [
        ("carrot", (600.0, 500.0, 700.0, 550.0), ()), ("knife", (650.0, 450.0, 950.0, 540.0), ()), ("", (0.0, 0.0, 10.0, 10.0), ()),
    ]
    assert pnr.extra["roles"] == ["object_of_change", "tool", "object_of_change"]
    assert (pnr.verb, pnr.noun, pnr.action) == ("cut", "carrot", "cut carrot")
    assert (pnr.extra["frame"], pnr.extra["video_frame"], pnr.extra["frame_type"]) == (150, 450, "pnr_frame")
    assert pnr.extra["state_transition"] == "deform" and pnr.extra["actor"] == "C"
    assert pnr.exhaustive is None
    # no clip_critical_frames: 600 - clip_parent_start_frame 300; no structured verb: the free one
    assert (board.extra["frame"], board.verb, board.noun, board.narration) == (300, "hold", "cutting board", "#c c holds a cutting board")


def test_other_people_and_other_frames_on_request():
    scenes = list(ego4d.read(DATA / "fho_main.json", wearer_only=False, frames=("pnr_frame",)))
    assert [s.narration for s in scenes] == [
        "#C C cuts the carrot with the knife.", "#O A man X walks around", "#c c holds a cutting board",
    ]
    assert [s.extra["actor"] for s in scenes] == ["C", "O", "C"]
    assert list(ego4d.read(DATA / "fho_main.json", frames=("contact_frame",))) == []
    with pytest.raises(BadData, match="frames middle_frame unknown: the critical frames of Ego4D are pre_45"):
        list(ego4d.read(DATA, frames=("middle_frame",)))


def test_scod_file():
    pre, pnr = ego4d.read(DATA / "fho_scod_val.json", image="{video_uid}/{video_frame:07d}.jpg")
    assert pre.id == f"ego4d/{CLIP}/120/scod/pre_frame" and pre.size == (1920, 1080)
    assert pre.image == "v1v1v1v1-0000-0000-0000-000000000001/0000420.jpg"
    assert [(h.side, h.box) for h in pre.hands] == [("right", (900.0, 500.0, 1000.0, 620.0))]
    assert [(o.name, o.box) for o in pnr.objects] == [("bolt extractor", (600.0, 500.0, 700.0, 550.0))]
    assert pnr.narration is None and pnr.noun == "bolt extractor"


def test_folder_reads_both():
    assert len(list(ego4d.read(DATA))) == 5


@pytest.mark.parametrize(
    "label, plain",
    [("knife_(knife,_machete)", "knife"), ("cutting_board", "cutting board"), ("take_(pick,_grab,_get)", "take"), (None, "")],
)
def test_plain(label, plain):
    assert ego4d.plain(label) == plain


def test_broken_action_is_named_and_skipped(tmp_path):
    data = json.loads((DATA / "fho_main.json").read_text())
    actions = data["videos"][0]["annotated_intervals"][0]["narrated_actions"]
    actions[0]["frames"][1]["boxes"][0]["bbox"]["x"] = "left"
    path = tmp_path / "fho_main.json"
    path.write_text(json.dumps(data))
    errors = []
    assert [s.extra["frame"] for s in ego4d.read(path, on_error=errors.append)] == [120, 300]
    (error,) = errors
    assert str(error).startswith(f"{path}: video 1 (v1v1v1v1-0000-0000-0000-000000000001), clip {CLIP}, action 0, pnr_frame: bbox x must be")
    with pytest.raises(BadRecord):
        list(ego4d.read(path))


def test_files_without_boxes_are_refused(tmp_path):
    hands = tmp_path / "fho_hands_train.json"
    frame = {"pre_45": {"frame": 5, "clip_frame": 5, "boxes": [{"left_hand": [10.0, 20.0]}]}}
    hands.write_text(json.dumps({"split": "train", "clips": [{"clip_uid": "c", "video_uid": "v", "clip_id": 1, "frames": [frame]}]}))
    with pytest.raises(BadRecord, match="holds centres of hands, not boxes"):
        list(ego4d.read(hands))
    other = tmp_path / "other.json"
    other.write_text('{"annotations": []}')
    with pytest.raises(BadData, match="holds neither videos nor clips"):
        list(ego4d.read(other))
