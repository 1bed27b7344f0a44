"""VISOR: the miniatures under tests/data/visor, with every number worked out by hand."""

import json
from pathlib import Path

import pytest

from egohoi import masks
from egohoi.errors import BadData, BadRecord
from egohoi.scenes import visor

DATA = Path(__file__).parent.parent / "data"
LEFT, RIGHT = (100.0, 200.0, 300.0, 400.0), (400.0, 200.0, 600.0, 400.0)


@pytest.fixture(scope="module")
def scenes():
    return {s.id: s for s in visor.read(DATA / "visor")}


def test_reads_every_picture_of_every_file_in_order(scenes):
    assert list(scenes) == [
        "visor/P01_01/140", "visor/P01_01/285", "visor/P01_01/430",
        "visor/P06_13/128", "visor/P06_13/300", "visor/P06_13/450", "visor/P06_13/600",
    ]
    first = scenes["visor/P01_01/140"]
    assert first.image == "P01/P01_01/P01_01_frame_0000000140.jpg"
    assert first.size == (1920, 1080) and first.source == "visor"
    assert first.extra["subsequence"] == "P01_01_seq_00001"


def test_boxes_contact_and_exhaustiveness(scenes):
    first = scenes["visor/P01_01/140"]
    left, right = first.hands
    assert (left.side, left.box, left.contact, left.object, left.glove) == ("left", LEFT, True, 0, False)
    assert (right.side, right.box, right.contact, right.object) == ("right", (800.0, 300.0, 1000.0, 600.0), False, None)
    cup, cupboard = first.objects
    # two usable polygons and an empty one: the box spans both
    assert (cup.name, cup.box, cup.hands) == ("cup", (250.0, 10.0, 520.0, 350.0), ("left",))
    # 10 pixels beyond the right edge are clipped
    assert (cupboard.name, cupboard.box, cupboard.hands) == ("cupboard", (1200.0, 0.0, 1920.0, 500.0), ())
    assert first.extra["object_exhaustive"] == [True, False] and first.extra["object_class"] == [13, 8]
    assert first.extra["notes"] == ["'water' has no polygon"]
    assert first.exhaustive is False  # the water is there but not outlined


def test_masks(scenes):
    first = scenes["visor/P01_01/140"]
    assert masks.area(first.hands[0].mask) == 200 * 200
    assert masks.box(first.hands[0].mask) == LEFT
    assert abs(masks.area(first.hands[1].mask) - 200 * 300 / 2) <= 300  # a triangle, up to its slanted edge
    assert masks.area(first.objects[0].mask) == 100 * 100 + 20 * 30
    # the second polygon of the cupboard lies in the first: a hole
    assert masks.area(first.objects[1].mask) == 720 * 500 - 100 * 100
    assert not masks.decode(first.objects[1].mask)[150, 1350]


def test_both_hands_on_one_object(scenes):
    scene = scenes["visor/P01_01/285"]
    assert [h.object for h in scene.hands] == [0, 0]
    assert scene.objects[0].hands == ("left", "right") and scene.objects[1].hands == ()
    assert scene.exhaustive is True


def test_unsegmented_and_inconclusive_contact(scenes):
    left, right = scenes["visor/P01_01/430"].hands
    assert (left.contact, left.object) == (True, None)
    assert (right.contact, right.object) == (None, None)
    assert scenes["visor/P01_01/430"].exhaustive is False


def test_repair_glove_without_its_keys(scenes):
    scene = scenes["visor/P06_13/128"]
    assert [(o.name, o.box, o.hands) for o in scene.objects] == [("oven glove", (590.0, 300.0, 690.0, 400.0), ("right",))]
    assert (scene.hands[0].box, scene.hands[0].object) == (RIGHT, 0)


def test_worn_glove_is_part_of_its_hand_and_says_what_it_touches(scenes):
    scene = scenes["visor/P06_13/300"]
    (hand,), (tray,) = scene.hands, scene.objects
    assert (hand.side, hand.box, hand.glove, hand.contact, hand.object) == ("right", (400.0, 200.0, 690.0, 400.0), True, True, 0)
    assert masks.area(hand.mask) == 200 * 200 + 90 * 100  # the overlap of 50x100 counts once
    assert (tray.name, tray.hands) == ("tray", ("right",))


def test_worn_glove_stands_for_a_hidden_hand(scenes):
    (hand,) = scenes["visor/P06_13/450"].hands
    assert (hand.side, hand.box, hand.glove, hand.contact) == ("left", LEFT, True, False)
    assert scenes["visor/P06_13/450"].objects == ()


def test_repair_typo_and_one_outline_for_two_gloves(scenes):
    scene = scenes["visor/P06_13/600"]
    (hand,) = scene.hands  # "rigth hand" was read; the right hand has no outline of its own, so it gets no box
    assert (hand.side, hand.box, hand.glove, hand.contact, hand.object) == ("left", LEFT, True, True, 0)
    assert [o.name for o in scene.objects] == ["pan"]
    assert scene.exhaustive is False and "both hands" in scene.extra["notes"][0]


def test_repair_wrong_relations():
    scenes = list(visor.read(DATA / "visor" / "P01_01.json", correct=DATA / "visor-side" / "correct.json", masks=False))
    assert [h.object for h in scenes[1].hands] == [0, 1]
    assert [o.hands for o in scenes[1].objects] == [("left",), ("right",)]
    assert scenes[1].hands[0].mask is None and scenes[1].objects[0].mask is None


def test_frame_mapping_and_narrations_join():
    scenes = list(
        visor.read(
            DATA / "visor" / "P01_01.json", mapping=DATA / "visor-side" / "frame_mapping.json",
            narrations=DATA / "epic" / "EPIC_100_train.csv", masks=False,
        )
    )
    assert [s.extra["epic_frame"] for s in scenes] == [139, 284, 428]
    assert scenes[0].image == "EPIC_Kitchens/frames/P01_01/frame_0000000139.jpg"
    # frame 139 lies in "open door" (8 to 202) and is the first of the shorter "pick up wooden spoon" (139 to 179)
    assert (scenes[0].narration, scenes[0].verb, scenes[0].noun) == ("pick up wooden spoon", "pick up", "wooden spoon")
    assert scenes[0].action == "pick up wooden spoon" and scenes[0].extra["narration_id"] == "P01_01_1"
    assert scenes[1].narration is None  # 284 is narrated by nobody
    assert scenes[2].narration is None  # 428 is one before "take knife, fork"


def test_missing_mapping_names_file_and_picture():
    with pytest.raises(BadRecord, match=r"P06_13\.json: P06_13_frame_0000000128\.jpg: .*maps no EPIC frame to VISOR frame 128"):
        list(visor.read(DATA / "visor" / "P06_13.json", mapping=DATA / "visor-side" / "frame_mapping.json"))


def test_dense_annotations_have_their_own_size_and_no_contact():
    (scene,) = visor.read(DATA / "visor-side" / "P02_02_interpolations.json")
    assert scene.size == (854, 480)
    assert (scene.hands[0].box, scene.hands[0].contact) == ((10.0, 20.0, 30.0, 40.0), None)
    assert scene.exhaustive is None


def broken(tmp_path, change) -> Path:
    data = json.loads((DATA / "visor" / "P01_01.json").read_text())
    change(data["video_annotations"][1]["annotations"])
    path = tmp_path / "P01_01.json"
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda a: a[0].pop("segments"), "lacks 'segments'"),
        (lambda a: a[0].update(in_contact_object="nobody"), "'nobody' is no annotation of this picture"),
        (lambda a: a[0].update(segments=[[[1, 2], [3, 4], [5, 1e9]]]), "in a picture of 1920x1080 pixels"),
        (lambda a: a[0].update(segments=[[[1, 2], [3, "x"], [5, 6]]]), "not a list of points"),
        (lambda a: a[2].update(name="glove", on_which_hand=["third hand"]), "left hand or right hand, got 'third hand'"),
        (lambda a: a[0].update(name=None), "annotation name must be a text, got None"),
    ],
)
def test_broken_record_names_file_and_picture_and_can_be_skipped(tmp_path, change, message):
    path = broken(tmp_path, change)
    with pytest.raises(BadRecord) as caught:
        list(visor.read(path))
    assert str(caught.value).startswith(f"{path}: P01_01_frame_0000000285.jpg: ") and message in str(caught.value)
    errors = []
    assert [s.id for s in visor.read(path, on_error=errors.append)] == ["visor/P01_01/140", "visor/P01_01/430"]
    assert [str(e) for e in errors] == [str(caught.value)]


def test_cut_file_yields_what_came_before(tmp_path):
    text = (DATA / "visor" / "P01_01.json").read_text()
    path = tmp_path / "P01_01.json"
    path.write_text(text[: text.index("0000000430")])
    errors, seen = [], []
    for scene in visor.read(path, on_error=errors.append):
        seen.append(scene.id)
    assert seen == ["visor/P01_01/140", "visor/P01_01/285"]
    assert str(errors[0]).startswith(f"{path}: not JSON after record 2")


def test_tables_beside_the_annotations_are_not_read_as_such():
    assert [s.id for s in visor.read(DATA / "visor-side")] == ["visor/P02_02/201"]


def test_wrong_places(tmp_path):
    with pytest.raises(BadData, match="no such file or folder"):
        list(visor.read(tmp_path / "nothing"))
    with pytest.raises(BadData, match=r"holds no \.json file"):
        list(visor.read(tmp_path))
    with pytest.raises(BadData, match="holds no records at 'video_annotations'"):
        list(visor.read(DATA / "coco"))
    with pytest.raises(BadData, match="image template '{who}': 'who'; it may use epic_frame, frame, name, participant, video"):
        list(visor.read(DATA / "visor" / "P01_01.json", image="{who}"))
