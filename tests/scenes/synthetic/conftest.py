"""A tiny set of assets made on the spot (a stick arm, a box for a body, plain textures) and a renderer of points."""

import numpy as np
import pytest

pytest.importorskip("scipy")

from egohoi.scenes.synthetic import body
from egohoi.scenes.synthetic.assets import Assets
from egohoi.scenes.synthetic.meshes import box, rigid, unit

KINDS = ("wood", "planks", "tiles", "bricks", "grass", "soil", "gravel", "concrete", "sand", "stone", "plaster", "carpet", "cloth_plain", "cloth",
         "metal", "printed", "skin")


def stick_arm(side: str):
    """Topology and shape of an arm of boxes, one per bone; y up, z forward, x to the person's left."""
    out = 1.0 if side == "left" else -1.0
    heads, tails = {}, {}

    def bone(name, head, tail):
        heads[name], tails[name] = np.array(head, float), np.array(tail, float)

    shoulder, elbow, wrist = np.array([0.17 * out, 0.48, 0]), np.array([0.30 * out, 0.26, 0]), np.array([0.36 * out, 0.12, 0.18])
    bone("upperarm01", shoulder, (shoulder + elbow) / 2)
    bone("upperarm02", (shoulder + elbow) / 2, elbow)
    bone("lowerarm01", elbow, (elbow + wrist) / 2)
    bone("lowerarm02", (elbow + wrist) / 2, wrist)
    forward = unit(wrist - elbow)
    across = unit(np.cross(forward, [out, 0, 0.2]))  # towards the thumb
    inward = np.cross(forward, across) if side == "left" else np.cross(across, forward)
    bone("wrist", wrist, wrist + 0.02 * forward)
    for k in range(1, 5):
        knuckle = wrist + 0.09 * forward + across * (0.03 - 0.02 * (k - 1))
        bone(f"metacarpal{k}", wrist + 0.02 * forward, knuckle)
        for j, (start, end) in enumerate(((0, 0.04), (0.04, 0.065), (0.065, 0.085)), 1):
            bone(f"finger{k + 1}-{j}", knuckle + forward * start, knuckle + forward * end)
    thumb = unit(forward + 0.8 * across + 0.5 * inward)
    for j, (start, end) in enumerate(((0, 0.04), (0.04, 0.07), (0.07, 0.095)), 1):
        bone(f"finger1-{j}", wrist + 0.02 * forward + 0.02 * across + thumb * start, wrist + 0.02 * forward + 0.02 * across + thumb * end)

    vertices, faces, bones, hand, along = [], [], [], [], []
    for index, name in enumerate(body.BONES):
        direction = unit(tails[name] - heads[name])
        side_axis = unit(np.cross(direction, [0.3, 0.5, 0.8]))
        linear = np.stack([direction, side_axis, np.cross(direction, side_axis)], 1)
        thick = 0.07 if "arm" in name else 0.03 if name.startswith("wrist") else 0.016
        size = (np.linalg.norm(tails[name] - heads[name]), thick, thick)
        mesh = box(size).moved(rigid(linear, (heads[name] + tails[name]) / 2))
        offset = sum(len(v) for v in vertices)
        vertices.append(mesh.vertices)
        faces.append(mesh.faces + offset)
        bones += [index] * len(mesh.vertices)
        hand += [index >= len(body.ARM_BONES)] * len(mesh.faces)
        middle = {"upperarm01": 1.7, "upperarm02": 1.3, "lowerarm01": 0.75, "lowerarm02": 0.25}.get(name, -0.3)
        along += [middle] * len(mesh.vertices)
    vertices = np.concatenate(vertices).astype(np.float32)
    count = len(vertices)
    topology = body.ArmTopology(
        np.concatenate(faces).astype(np.int32), np.zeros((count, 2), np.float32), np.arange(count),
        np.stack([np.array(bones), np.zeros(count, int), np.zeros(count, int), np.zeros(count, int)], 1),
        np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)), np.array(hand), np.array(along, np.float32))
    shape = body.ArmShape(side, vertices, np.array([heads[b] for b in body.BONES], np.float32), np.array([tails[b] for b in body.BONES], np.float32))
    return topology, shape


def block_body() -> body.Torso:
    mesh = box((0.3, 0.6, 0.2)).moved(rigid(np.eye(3), (0, 0.2, 0)))
    head = box((0.15, 0.2, 0.15)).moved(rigid(np.eye(3), (0, 0.65, 0)))
    feet = [box((0.1, 0.8, 0.12)).moved(rigid(np.eye(3), (x, -0.5, 0))) for x in (0.1, -0.1)]
    from egohoi.scenes.synthetic.meshes import join

    whole = join([mesh, head, *feet])
    n, m = len(mesh.vertices), len(feet[0].vertices)
    region = np.repeat([0, 3, 1], [n, len(head.vertices), 2 * m]).astype(np.int8)
    leg = np.repeat([0, 0, 1, 2], [n, len(head.vertices), m, m]).astype(np.int8)
    weights = np.where((leg > 0)[:, None], [0, 1, 0], [1, 0, 0]).astype(np.float32)
    joints = np.array([[(x, -0.1, 0), (x, -0.5, 0), (x, -0.85, 0)] for x in (0.1, -0.1)], np.float32)
    return body.Torso(whole.faces, whole.vertices, region, leg, weights, joints, np.array([[0.17, 0.48, 0], [-0.17, 0.48, 0]], np.float32))


@pytest.fixture(scope="session")
def tiny() -> Assets:
    arms = {side: stick_arm(side) for side in body.SIDES}
    rng = np.random.default_rng(0)
    textures = {f"{k}0": rng.integers(60, 255, (8, 8, 3), np.uint8) for k in KINDS}
    return Assets({s: a[0] for s, a in arms.items()}, {s: (a[1],) for s, a in arms.items()}, (block_body(),), textures,
                  {k: ((f"{k}0", 0.3),) for k in KINDS}, (), None)


class PointRenderer:
    """Draws every vertex and face centre as a small square, nearest last: enough to test everything but the pictures."""

    def render(self, scene):
        from egohoi.scenes.synthetic.gl import Rendered

        width, height = scene.camera.size
        labels, depth = np.zeros((height, width), np.uint8), np.full((height, width), 30.0, np.float32)
        points, numbers = [], []
        for part in scene.parts:
            if not len(part.mesh.faces):
                continue
            corners = part.mesh.vertices[part.mesh.faces]
            sample = np.concatenate([corners.reshape(-1, 3), corners.mean(1)])
            points.append(sample @ part.matrix[:3, :3].T + part.matrix[:3, 3])
            numbers.append(np.full(len(sample), part.label))
        points, numbers = np.concatenate(points), np.concatenate(numbers)
        far = -(points - scene.camera.position) @ scene.camera.axes[2]
        pixel = np.floor(scene.camera.project(points)).astype(int)
        good = (far > 0.05) & (pixel >= 2).all(1) & (pixel[:, 0] < width - 2) & (pixel[:, 1] < height - 2)
        order = np.argsort(-far[good], kind="stable")
        for (x, y), number, z in zip(pixel[good][order], numbers[good][order], far[good][order], strict=True):
            labels[y - 2 : y + 3, x - 2 : x + 3] = number
            depth[y - 2 : y + 3, x - 2 : x + 3] = z
        rgb = np.repeat(0.1 + 0.003 * labels[..., None].astype(np.float32), 3, -1)
        return Rendered(rgb, labels, depth)


@pytest.fixture
def points() -> PointRenderer:
    return PointRenderer()
