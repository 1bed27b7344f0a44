"""Arms, hands and bodies: shapes and poses of the MakeHuman base mesh (CC0), by linear blend skinning in numpy.

Rest data are metres in the mesh's own axes (x to the person's left, y up, z forward). A hand frame has the columns f (wrist to
middle knuckle), u (towards the thumb side) and n (out of the palm); it is right-handed for a left hand and left-handed for a
right hand, so that a rotation between two frames of one side is always proper.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from .meshes import cross, rotation, unit, vertex_normals

SIDES = ("left", "right")
FINGERS = {k: [f"finger{k}-{j}" for j in (1, 2, 3)] for k in range(1, 6)}
HAND_BONES = ["wrist", *(f"metacarpal{k}" for k in range(1, 5)), *(b for k in FINGERS for b in FINGERS[k])]
ARM_BONES = ["upperarm01", "upperarm02", "lowerarm01", "lowerarm02"]
BONES = ARM_BONES + HAND_BONES
PARENT = {
    **{f"metacarpal{k}": "wrist" for k in range(1, 5)},
    "finger1-1": "wrist",
    **{f"finger{k}-1": f"metacarpal{k - 1}" for k in range(2, 6)},
    **{f"finger{k}-{j}": f"finger{k}-{j - 1}" for k in range(1, 6) for j in (2, 3)},
}


@dataclass(frozen=True, eq=False)
class ArmTopology:
    """What all shapes of one arm share.

    faces int32 [M, 3]; uv float32 [N, 2]; source int64 [N] (vertex of the base mesh: vertices repeat at texture seams);
    bones int64 [N, 4] and weights float32 [N, 4] index BONES; hand bool [M]: the face is on the hand side of the wrist;
    along float32 [N]: 0 at the wrist, 1 at the elbow, 2 at the shoulder, negative on the hand.
    """

    faces: np.ndarray
    uv: np.ndarray
    source: np.ndarray
    bones: np.ndarray
    weights: np.ndarray
    hand: np.ndarray
    along: np.ndarray


@dataclass(frozen=True, eq=False)
class ArmShape:
    """One person's arm: vertices float32 [N, 3], heads and tails float32 [len(BONES), 3] of the bones."""

    side: str
    vertices: np.ndarray
    heads: np.ndarray
    tails: np.ndarray

    def head(self, bone: str) -> np.ndarray:
        return self.heads[BONES.index(bone)].astype(float)

    def tail(self, bone: str) -> np.ndarray:
        return self.tails[BONES.index(bone)].astype(float)

    @cached_property
    def frame(self) -> np.ndarray:
        """Rest frame of the hand, columns (f, u, n)."""
        return frame_from(self.head("finger3-1") - self.head("wrist"), self.head("finger2-1") - self.head("finger5-1"), self.side)

    @cached_property
    def axes(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """For each finger bone its flexion axis and its spreading axis, in rest coordinates."""
        return finger_axes(self)

    @cached_property
    def lengths(self) -> tuple[float, float]:
        """Upper arm and forearm."""
        elbow = self.head("lowerarm01")
        return float(np.linalg.norm(elbow - self.head("upperarm01"))), float(np.linalg.norm(self.head("wrist") - elbow))


def frame_from(forward, towards_thumb, side: str) -> np.ndarray:
    """Hand frame [3, 3] with columns f, u, n from two directions."""
    f = unit(forward)
    u = unit(np.asarray(towards_thumb, float) - f * (f @ np.asarray(towards_thumb, float)))
    n = cross(f, u) if side == "left" else cross(u, f)
    return np.stack([f, u, n], 1)


@dataclass(frozen=True)
class FingerPose:
    """Angles in radians. curl: [5, 3] flexion of the joints (thumb first); spread: [5] sideways; oppose: thumb towards palm."""

    curl: tuple[tuple[float, float, float], ...]
    spread: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)
    oppose: float = 0.3


# --------------------------------------------------------------------------------------------------------------- posing


def finger_axes(shape: ArmShape) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each finger bone its flexion axis and its spreading axis, in rest coordinates."""
    _, u, n = shape.frame.T
    axes = {}
    for k, bones in FINGERS.items():
        along = unit(shape.tail(bones[2]) - shape.head(bones[0]))
        for bone in bones:
            if k == 1:
                axes[bone] = unit(cross(along, -u)), unit(cross(along, n))
            else:
                # A positive spread leans towards the thumb on either hand.
                axes[bone] = unit(cross(along, n)), n if shape.side == "left" else -n
    return axes


def finger_chain(shape: ArmShape, k: int, curl: np.ndarray, spread: float, oppose, axes=None) -> np.ndarray:
    """Transforms of the three bones of finger k for S poses at once.

    curl: [S, 3] radians; oppose: [S] or scalar (thumb only). Returns [S, 3, 4, 4], in rest coordinates.
    """
    axes = axes or shape.axes
    curl = np.atleast_2d(np.asarray(curl, float))
    count = len(curl)
    oppose = np.broadcast_to(np.asarray(oppose, float), (count,))
    result = np.empty((count, 3, 4, 4))
    parent = np.tile(np.eye(4), (count, 1, 1))
    for j, bone in enumerate(FINGERS[k]):
        flex, swing = axes[bone]
        turn = _rotations(flex, curl[:, j])
        if j == 0:
            if k == 1:
                turn = _rotations(swing, oppose) @ turn
            elif spread:
                turn = rotation(swing, spread) @ turn
        head = shape.head(bone)
        local = np.tile(np.eye(4), (count, 1, 1))
        local[:, :3, :3] = turn
        local[:, :3, 3] = head - turn @ head
        parent = parent @ local
        result[:, j] = parent
    return result


def _rotations(axis: np.ndarray, angles: np.ndarray) -> np.ndarray:
    x, y, z = axis
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angles = np.asarray(angles, float)[:, None, None]
    return np.eye(3) + np.sin(angles) * k + (1 - np.cos(angles)) * (k @ k)


@dataclass(frozen=True, eq=False)
class PosedArm:
    """vertices float32 [N, 3] and normals float32 [N, 3] in the world; elbow, wrist and shoulder [3]; forearm: unit [3]."""

    vertices: np.ndarray
    normals: np.ndarray
    shoulder: np.ndarray
    elbow: np.ndarray
    wrist: np.ndarray
    bend: float


def two_bones(shoulder, wrist, upper: float, lower: float, pole) -> tuple[np.ndarray, np.ndarray]:
    """Shoulder (moved up if the arm is too short) and elbow of an arm that reaches the wrist; the elbow points to `pole`."""
    shoulder, wrist = np.asarray(shoulder, float), np.asarray(wrist, float)
    gap = wrist - shoulder
    reach = np.linalg.norm(gap)
    direction = gap / max(reach, 1e-9)
    longest, shortest = (upper + lower) * 0.985, abs(upper - lower) * 1.3 + 0.08
    if reach > longest or reach < shortest:  # the body leans so that the arm fits
        reach = min(max(reach, shortest), longest)
        shoulder = wrist - direction * reach
    across = (upper**2 - lower**2 + reach**2) / (2 * reach)
    height = np.sqrt(max(upper**2 - across**2, 0))
    pole = np.asarray(pole, float)
    return shoulder, shoulder + direction * across + unit(pole - direction * (pole @ direction)) * height


def pose_arm(shape: ArmShape, topology: ArmTopology, fingers: FingerPose, wrist, frame: np.ndarray, shoulder, pole,
             scale: float = 1.0) -> PosedArm:
    """Places the hand exactly (wrist [3], frame [3, 3]) and lets the arm follow from the shoulder [3]."""
    rest = shape.frame
    turn = frame @ rest.T
    heads = {b: shape.head(b) for b in BONES}
    origin = heads["wrist"]
    transforms = np.tile(np.eye(4), (len(BONES), 1, 1))

    hand = np.eye(4)
    hand[:3, :3] = scale * turn
    hand[:3, 3] = np.asarray(wrist, float) - scale * turn @ origin
    for bone in ("wrist", *(f"metacarpal{k}" for k in range(1, 5))):
        transforms[BONES.index(bone)] = hand
    axes = shape.axes
    for k, names in FINGERS.items():
        chain = finger_chain(shape, k, np.array([fingers.curl[k - 1]]), fingers.spread[k - 1], fingers.oppose, axes)[0]
        for j, bone in enumerate(names):
            transforms[BONES.index(bone)] = hand @ chain[j]

    elbow_rest = heads["lowerarm01"]
    upper = scale * np.linalg.norm(elbow_rest - heads["upperarm01"])
    lower = scale * np.linalg.norm(origin - elbow_rest)
    shoulder, elbow = two_bones(shoulder, wrist, upper, lower, pole)
    rest_upper, rest_lower = unit(elbow_rest - heads["upperarm01"]), unit(origin - elbow_rest)
    rest_normal = unit(cross(rest_upper, rest_lower))
    new_upper, new_lower = unit(elbow - shoulder), unit(np.asarray(wrist) - elbow)
    normal = cross(new_upper, new_lower)
    normal = unit(normal) if np.linalg.norm(normal) > 1e-3 else unit(cross(new_upper, pole))

    def align(rest_direction, direction) -> np.ndarray:
        a = np.stack([rest_direction, rest_normal, cross(rest_direction, rest_normal)], 1)
        b = np.stack([direction, normal, cross(direction, normal)], 1)
        return b @ a.T

    upper_turn, lower_turn = align(rest_upper, new_upper), align(rest_lower, new_lower)
    # The twist between forearm and hand is spread along the forearm, as the two bones of the forearm do it.
    relative = turn @ lower_turn.T
    twist = 2 * np.arctan2(np.array([relative[2, 1] - relative[1, 2], relative[0, 2] - relative[2, 0],
                                     relative[1, 0] - relative[0, 1]]) @ new_lower, 1 + np.trace(relative))
    twist = (twist + np.pi) % (2 * np.pi) - np.pi
    for bone, amount in (("lowerarm01", 0.25), ("lowerarm02", 0.75)):
        matrix = np.eye(4)
        matrix[:3, :3] = scale * rotation(new_lower, amount * twist) @ lower_turn
        matrix[:3, 3] = elbow - matrix[:3, :3] @ elbow_rest
        transforms[BONES.index(bone)] = matrix
    for bone, amount in (("upperarm01", 0.0), ("upperarm02", 0.15)):
        matrix = np.eye(4)
        matrix[:3, :3] = scale * rotation(new_upper, amount * twist) @ upper_turn
        matrix[:3, 3] = shoulder - matrix[:3, :3] @ heads["upperarm01"]
        transforms[BONES.index(bone)] = matrix

    blended = np.einsum("nk,nkij->nij", topology.weights, transforms[topology.bones][:, :, :3])
    vertices = np.einsum("nij,nj->ni", blended[:, :, :3], shape.vertices) + blended[:, :, 3]
    bend = float(np.arccos(np.clip(frame[:, 0] @ new_lower, -1, 1)))
    return PosedArm(vertices.astype(np.float32), welded_normals(vertices, topology), shoulder, elbow, np.asarray(wrist, float), bend)


def welded_normals(vertices: np.ndarray, topology: ArmTopology) -> np.ndarray:
    """Normals [N, 3] that agree across texture seams."""
    first, inverse = _weld(topology.source.tobytes())
    return vertex_normals(vertices[first], inverse[topology.faces])[inverse]


@lru_cache(maxsize=8)
def _weld(source: bytes) -> tuple[np.ndarray, np.ndarray]:
    _, first, inverse = np.unique(np.frombuffer(source, np.int64), return_index=True, return_inverse=True)
    return first, inverse.ravel()


# ------------------------------------------------------------------------------------------------- reading the base mesh


@dataclass(frozen=True, eq=False)
class BaseMesh:
    """The base mesh with its rig, as read from the folder of MakeHuman data."""

    vertices: np.ndarray
    uv: np.ndarray
    faces: list[tuple[list[int], list[int]]]
    cubes: dict[str, np.ndarray]
    bones: dict[str, dict]
    weights: dict[str, list]
    folder: Path

    def shaped(self, targets: list[tuple[str, float]]) -> np.ndarray:
        """Vertices [V, 3] in metres under weighted shape targets."""
        vertices = self.vertices.copy()
        for name, amount in targets:
            index, delta = read_target(self.folder / "targets" / f"{name}.target.gz")
            vertices[index] += amount * delta
        return vertices * 0.1  # the file is in decimetres

    def joint(self, vertices: np.ndarray, end: dict) -> np.ndarray:
        if end["strategy"] == "CUBE":
            return vertices[self.cubes[end["cube_name"]]].mean(0)
        index = end["vertex_indices"] if "vertex_indices" in end else [end["vertex_index"]]
        return vertices[index].mean(0)


@lru_cache(maxsize=256)
def read_target(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertex numbers and offsets of one shape target file."""
    with gzip.open(path, "rt") as stream:
        rows = [line.split() for line in stream if line.strip() and not line.startswith("#")]
    return np.array([int(r[0]) for r in rows], int), np.array([[float(x) for x in r[1:4]] for r in rows]).reshape(-1, 3)


def read_base(folder: Path) -> BaseMesh:
    """Reads base.obj, rig.default.json and weights.default.json below the folder `mpfb2`."""
    vertices, uv, body, cubes, group = [], [], [], {}, ""
    with open(folder / "3dobjs" / "base.obj") as stream:
        for line in stream:
            words = line.split()
            if not words:
                continue
            if words[0] == "v":
                vertices.append([float(x) for x in words[1:4]])
            elif words[0] == "vt":
                uv.append([float(x) for x in words[1:3]])
            elif words[0] == "g":
                group = words[1]
            elif words[0] == "f":
                corners = [w.split("/") for w in words[1:]]
                index = [int(c[0]) - 1 for c in corners]
                if group == "body":
                    body.append((index, [int(c[1]) - 1 for c in corners]))
                elif group.startswith("joint"):
                    cubes.setdefault(group, set()).update(index)
    rig = json.loads((folder / "rigs/standard/rig.default.json").read_text())
    weights = json.loads((folder / "rigs/standard/weights.default.json").read_text())["weights"]
    return BaseMesh(np.array(vertices), np.array(uv, np.float32), body, {g: np.array(sorted(i)) for g, i in cubes.items()},
                    rig.get("bones", rig), weights, folder)


def arm_topology(base: BaseMesh, side: str) -> ArmTopology:
    """Cuts one arm, shoulder to fingertips, out of the base mesh."""
    suffix = ".L" if side == "left" else ".R"
    table = np.zeros((len(base.vertices), len(BONES)))
    total = np.zeros(len(base.vertices))
    for bone, rows in base.weights.items():
        index = np.array([r[0] for r in rows], int)
        value = np.array([r[1] for r in rows], float)
        if not len(index):
            continue
        total[index] += value
        name = bone.removesuffix(suffix)
        if bone.endswith(suffix) and name in BONES:
            table[index, BONES.index(name)] += value
        elif bone == f"shoulder01{suffix}":  # the shoulder's skin moves with the upper arm
            table[index, 0] += value
    inside = table.sum(1) > 0.5 * np.maximum(total, 1e-6)
    quads = [(v, t) for v, t in base.faces if all(inside[i] for i in v)]
    corner = {}
    triangles = []
    for v, t in quads:
        ids = [corner.setdefault(pair, len(corner)) for pair in zip(v, t, strict=True)]
        triangles += [[ids[0], ids[1], ids[2]]] + ([[ids[0], ids[2], ids[3]]] if len(ids) == 4 else [])
    pairs = np.array(list(corner))
    source = pairs[:, 0].astype(np.int64)
    rows = table[source]
    bones = np.argsort(-rows, 1)[:, :4]
    weights = np.take_along_axis(rows, bones, 1)
    weights /= np.maximum(weights.sum(1, keepdims=True), 1e-9)
    hand = rows[:, [BONES.index(b) for b in HAND_BONES]].sum(1) / np.maximum(rows.sum(1), 1e-9)
    faces = np.array(triangles, np.int32)

    plain = base.vertices * 0.1
    joint = {b: base.joint(plain, base.bones[b + suffix]["head"]) for b in ("wrist", "lowerarm01", "upperarm01")}
    points = plain[source]
    fore = unit(joint["wrist"] - joint["lowerarm01"])
    lower_length = np.linalg.norm(joint["wrist"] - joint["lowerarm01"])
    upper_length = np.linalg.norm(joint["lowerarm01"] - joint["upperarm01"])
    along = (joint["wrist"] - points) @ fore / lower_length
    upper_share = rows[:, :2].sum(1) > 0.5 * rows.sum(1)
    up = unit(joint["lowerarm01"] - joint["upperarm01"])
    along = np.where(upper_share, 1 + np.maximum((joint["lowerarm01"] - points) @ up / upper_length, 0), np.minimum(along, 1.05))
    return ArmTopology(faces, base.uv[pairs[:, 1]], source, bones, weights.astype(np.float32),
                       (hand[faces].mean(1) > 0.5), along.astype(np.float32))


def random_targets(rng: np.random.Generator) -> list[tuple[str, float]]:
    """Shape targets of a random adult: sex, age, build, descent, hand size."""
    descent = rng.dirichlet([0.7] * 3)
    male = float(rng.random())
    age = "old" if rng.random() < 0.25 else "young"
    muscle = rng.choice(["minmuscle", "averagemuscle", "averagemuscle", "maxmuscle"])
    weight = rng.choice(["minweight", "averageweight", "averageweight", "maxweight"])
    targets = []
    for sex, share in (("male", male), ("female", 1 - male)):
        for name, part in zip(("caucasian", "african", "asian"), descent, strict=True):
            targets.append((f"macrodetails/{name}-{sex}-{age}", float(part * share)))
        targets.append((f"macrodetails/universal-{sex}-{age}-{muscle}-{weight}", share))
    for part, spread in (("fingers-length", 0.35), ("fingers-diameter", 0.4), ("scale", 0.3)):
        amount = float(rng.normal() * spread)
        for side in "lr":
            targets.append((f"hands/{side}-hand-{part}-{'incr' if amount > 0 else 'decr'}", min(abs(amount), 1.0)))
    return targets


def arm_shape(base: BaseMesh, topology: ArmTopology, side: str, vertices: np.ndarray) -> ArmShape:
    """The arm of one body shape (vertices [V, 3] in metres)."""
    suffix = ".L" if side == "left" else ".R"
    heads = np.array([base.joint(vertices, base.bones[b + suffix]["head"]) for b in BONES])
    tails = np.array([base.joint(vertices, base.bones[b + suffix]["tail"]) for b in BONES])
    return ArmShape(side, vertices[topology.source].astype(np.float32), heads.astype(np.float32), tails.astype(np.float32))


TORSO_PARTS = ("upperleg01", "upperleg02", "lowerleg01", "lowerleg02", "foot")


@dataclass(frozen=True, eq=False)
class Torso:
    """A body without arms. faces int32 [M, 3]; region int8 [N]: 0 trunk, 1 leg, 2 foot, 3 head;
    leg int8 [N]: 0 none, 1 left, 2 right; weights float32 [N, 3] of pelvis-and-up, thigh, shin-and-foot;
    vertices float32 [N, 3]; joints float32 [2, 3, 3]: hip, knee, ankle of the left and the right leg; shoulders float32 [2, 3]."""

    faces: np.ndarray
    vertices: np.ndarray
    region: np.ndarray
    leg: np.ndarray
    weights: np.ndarray
    joints: np.ndarray
    shoulders: np.ndarray


def torso(base: BaseMesh, vertices: np.ndarray) -> Torso:
    """The body without arms, to be dressed; head included (region 3)."""
    count = len(base.vertices)
    arm, head, thigh, shin, foot, total = (np.zeros(count) for _ in range(6))
    for bone, rows in base.weights.items():
        if not rows:
            continue
        index = np.array([r[0] for r in rows], int)
        value = np.array([r[1] for r in rows], float)
        total[index] += value
        name = bone.split(".")[0]
        if name in BONES:
            arm[index] += value
        elif name.startswith("upperleg"):
            thigh[index] += value
        elif name.startswith("lowerleg"):
            shin[index] += value
        elif name.startswith(("foot", "toe")):
            foot[index] += value
        elif name.startswith(("neck", "head", "jaw", "eye", "oris", "levator", "orbicularis", "special", "tongue", "temporalis",
                              "risorius", "oculi")):
            head[index] += value
    total = np.maximum(total, 1e-6)
    keep = arm / total < 0.6
    quads = [v for v, _ in base.faces if all(keep[i] for i in v)]
    used = np.unique([i for q in quads for i in q])
    lookup = dict(zip(used.tolist(), range(len(used)), strict=True))
    triangles = []
    for q in quads:
        ids = [lookup[i] for i in q]
        triangles += [[ids[0], ids[1], ids[2]]] + ([[ids[0], ids[2], ids[3]]] if len(ids) == 4 else [])
    share = np.stack([total - thigh - shin - foot, thigh, shin + foot], 1)[used] / total[used][:, None]
    points = vertices[used]
    region = np.zeros(len(used), np.int8)
    region[(thigh + shin)[used] / total[used] > 0.5] = 1
    region[foot[used] / total[used] > 0.4] = 2
    region[head[used] / total[used] > 0.5] = 3
    leg = np.where(share[:, 0] > 0.98, 0, np.where(points[:, 0] > 0, 1, 2)).astype(np.int8)
    joints = np.array([[base.joint(vertices, base.bones[b + s]["head"]) for b in ("upperleg01", "lowerleg01", "foot")]
                       for s in (".L", ".R")])
    shoulders = np.array([base.joint(vertices, base.bones["upperarm01" + s]["head"]) for s in (".L", ".R")])
    return Torso(np.array(triangles, np.int32), points.astype(np.float32), region, leg, share.astype(np.float32),
                 joints.astype(np.float32), shoulders.astype(np.float32))


def sit(body: Torso, hip: float, knee: float, apart: float) -> np.ndarray:
    """Vertices [N, 3] with the legs bent: hip flexion, knee flexion and opening in radians (0 stands)."""
    vertices = body.vertices.astype(float).copy()
    for index, sign in ((1, 1), (2, -1)):
        hip_at, knee_at, _ = body.joints[index - 1].astype(float)
        thigh = rotation((0, 1, 0), sign * apart) @ rotation((1, 0, 0), -hip)
        shin = thigh @ rotation((1, 0, 0), knee)
        chosen = body.leg == index
        points = body.vertices[chosen].astype(float)
        weight = body.weights[chosen]
        first = (points - hip_at) @ thigh.T + hip_at
        knee_new = thigh @ (knee_at - hip_at) + hip_at
        second = (points - knee_at) @ shin.T + knee_new
        vertices[chosen] = weight[:, :1] * points + weight[:, 1:2] * first + weight[:, 2:] * second
    return vertices.astype(np.float32)
