import numpy as np
import pytest
from scipy.spatial import cKDTree

from egohoi.scenes.synthetic import grasp, objects
from egohoi.scenes.synthetic.body import FINGERS, SIDES, FingerPose, finger_chain, pose_arm, two_bones


def draw(rng, *kinds):
    return f"{kinds[0]}0", 0.3


@pytest.mark.parametrize("side", SIDES)
def test_rest_frame_has_the_handedness_of_its_side(tiny, side):
    frame = tiny.arms[side][0].frame
    assert np.linalg.det(frame) == pytest.approx(1 if side == "left" else -1)


@pytest.mark.parametrize("side", SIDES)
def test_curling_moves_fingertips_towards_the_palm(tiny, side):
    shape = tiny.arms[side][0]
    for k in range(2, 6):
        chain = finger_chain(shape, k, np.array([[0, 0, 0], [0.8, 0.9, 0.6]]), 0.0, 0.0)
        tip = shape.tail(FINGERS[k][2])
        moved = [m[:3, :3] @ tip + m[:3, 3] for m in chain[:, 2]]
        assert moved[0] == pytest.approx(tip)
        assert (moved[1] - tip) @ shape.frame[:, 2] > 0.02


def test_two_bones_keep_their_lengths_and_never_overreach():
    shoulder, elbow = two_bones((0, 0, 0), (0.9, 0, 0), 0.3, 0.25, (0, 0, -1))
    wrist = np.array([0.9, 0, 0])
    assert np.linalg.norm(elbow - shoulder) == pytest.approx(0.3)
    assert np.linalg.norm(wrist - elbow) == pytest.approx(0.25)
    assert elbow[2] < 0


@pytest.mark.parametrize("side", SIDES)
def test_posed_hand_is_where_it_was_put_and_not_mirrored(tiny, side):
    shape, topology = tiny.arms[side][0], tiny.topology[side]
    frame = shape.frame[:, [1, 0, 2]] * [1, -1, 1]
    pose = FingerPose(((0.0, 0.0, 0.0),) * 5, oppose=0.0)
    posed = pose_arm(shape, topology, pose, (0.1, 0.4, 0.2), frame, (0.15, 0, 0.3), (0.3, 0, -1))
    hand = topology.along < 0
    rest = (shape.vertices[hand] - shape.head("wrist")) @ shape.frame
    assert (posed.vertices[hand] - [0.1, 0.4, 0.2]) @ frame == pytest.approx(rest, abs=1e-5)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", ["can", "hammer", "plate", "book", "pen", "brick"])
def test_contact_is_measured_on_the_real_surface(tiny, side, name):
    shape, topology = tiny.arms[side][0], tiny.topology[side]
    skin = grasp.hand_points(shape, topology)
    rng = np.random.default_rng(3)
    model = objects.build(name, 0, draw)
    touched = 0
    for _ in range(6):
        site = model.sites[int(rng.integers(len(model.sites)))]
        wrist, frame, start = grasp.place(site, model, shape, side, rng)
        assert np.sign(np.linalg.det(frame)) == (1 if side == "left" else -1), "a mirrored hand"
        grip = grasp.close(model, wrist, frame, start, shape, skin, site.kind, rng)
        posed = pose_arm(shape, topology, grip.fingers, wrist, frame, wrist - frame[:, 0] * 0.5, (0, 0, -1))
        gap = cKDTree(model.points).query(posed.vertices[topology.along < 0])[0].min()
        if grip.contact:
            assert gap < 0.03
            touched += 1
    assert touched >= 3


def test_a_hand_far_away_does_not_touch(tiny):
    shape, topology = tiny.arms["left"][0], tiny.topology["left"]
    model = objects.build("mug", 0, draw)
    grip = grasp.close(model, np.array([1.0, 1, 1]), shape.frame, grasp.OPEN["wrap"], shape, grasp.hand_points(shape, topology), "wrap", np.random.default_rng(0))
    assert not grip.contact and grip.touching == 0
