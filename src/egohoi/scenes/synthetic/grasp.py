"""Hands that hold things: where the palm goes for a grip site, and how far each finger closes on the real surface.

Works in the object's own coordinates (the object lies at rest, the hand comes to it). A hand pose is a wrist position [3] and a
frame [3, 3] with the columns f, u, n of body.ArmShape.frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from .body import BONES, FINGERS, HAND_BONES, ArmShape, ArmTopology, FingerPose, finger_chain
from .meshes import cross, rotation, unit
from .things import ObjectModel, Site

#: a finger touches when its skin is this near to the surface samples (m); samples are a few millimetres apart
TOUCH = 0.0045
STEPS = 15
RATIO = np.array([1.0, 1.15, 0.75])


@dataclass(frozen=True, eq=False)
class HandPoints:
    """Skin points of one hand by finger (0 is the palm), in rest coordinates, with the bone that carries each."""

    points: dict[int, np.ndarray]
    bone: dict[int, np.ndarray]
    radius: float


@dataclass(frozen=True, eq=False)
class Grip:
    """A hand on an object, in the coordinates of the object's rest pose. contact: skin touches the surface;
    fingers: how many fingers touch."""

    wrist: np.ndarray
    frame: np.ndarray
    fingers: FingerPose
    contact: bool
    touching: int


def hand_points(shape: ArmShape, topology: ArmTopology) -> HandPoints:
    """Thinned skin points of the palm and the five fingers."""
    names = [BONES[i] for i in topology.bones[:, 0]]
    points, bones = {}, {}
    names = np.array(names)
    for k in range(6):
        wanted = FINGERS[k] if k else [b for b in HAND_BONES if not b.startswith("finger")]
        index = np.flatnonzero(np.isin(names, wanted))
        index = index[:: max(1, len(index) // (46 if k else 70))]
        points[k] = shape.vertices[index].astype(float)
        bones[k] = np.array([wanted.index(b) for b in names[index]]) if k else np.zeros(len(index), int)
    tip = shape.tail("finger3-3") - shape.head("finger3-3")
    return HandPoints(points, bones, float(np.linalg.norm(tip)) * 0.33)


def _pad(shape: ArmShape, pose: FingerPose, k: int, axes) -> np.ndarray:
    """Position of the pad of finger k in rest coordinates."""
    chain = finger_chain(shape, k, np.array([pose.curl[k - 1]]), pose.spread[k - 1], pose.oppose, axes)[0, 2]
    head, tail = shape.head(FINGERS[k][2]), shape.tail(FINGERS[k][2])
    n = shape.frame[:, 2]
    inward = n if k > 1 else unit(n - shape.frame[:, 1])
    point = head + 0.55 * (tail - head) + inward * 0.006
    return chain[:3, :3] @ point + chain[:3, 3]


OPEN = {
    "wrap": FingerPose(((0.1, 0.1, 0.1),) + ((0.15, 0.15, 0.1),) * 4, oppose=0.55),
    "pinch": FingerPose(((0.0, 0.25, 0.2), (0.55, 0.55, 0.3), (0.6, 0.6, 0.3), (0.9, 0.9, 0.5), (1.0, 1.0, 0.5)), oppose=0.6),
    "edge": FingerPose(((0.0, 0.15, 0.1),) + ((0.5, 0.3, 0.15),) * 4, oppose=0.5),
    "palm": FingerPose(((0.0, 0.0, 0.0),) + ((-0.12, 0.02, 0.02),) * 4, (0.0, 0.06, 0.0, -0.06, -0.12), oppose=0.1),
}


def place(site: Site, model: ObjectModel, shape: ArmShape, side: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, FingerPose]:
    """Wrist, frame and open fingers of a hand that is about to hold the object at the site."""
    axis = site.axis
    turn = rng.uniform(-site.swing, site.swing)
    if site.kind == "palm":
        n = -site.approach
        seed = rotation(n, turn) @ unit(cross(n, [0.3, 0.5, 0.8]))
        frame = _frame_from_normal(seed, n, side)
        centre = site.origin + site.approach * 0.012
        return *_with_palm_at(shape, frame, centre, 0.75), OPEN["palm"]
    if site.kind == "wrap":
        out = rotation(axis, turn) @ site.approach
        u = axis * (1 if rng.random() < 0.5 else -1)
        u = rotation(out, rng.uniform(-0.25, 0.25)) @ u  # bars lie a little across the palm
        n = -out
        f = cross(u, n) if side == "left" else cross(n, u)
        frame = np.stack([f, u, n], 1)
        origin = site.origin + axis * rng.uniform(-site.slide, site.slide)
        near = model.points[np.abs((model.points - origin) @ axis) < 0.035]
        # Only what lies round the bar itself counts, not a far part of the object in the same slice.
        near = near[np.linalg.norm(near - origin, axis=1) < 0.075]
        reach = float(((near - origin) @ out).max()) if len(near) else 0.01
        across = (near - origin) @ f if len(near) else np.zeros(1)
        middle = float(across.max() + across.min()) / 2
        centre = origin + out * (reach + 0.010) + f * (middle + rng.uniform(-0.004, 0.006))
        return *_with_palm_at(shape, frame, centre, 0.86), OPEN["wrap"]
    # pinch and edge: the pads of thumb and fingers meet at the origin
    out = rotation(axis, turn) @ site.approach
    pose = OPEN[site.kind]
    axes = shape.axes
    if site.kind == "pinch":
        pads = 0.6 * _pad(shape, pose, 2, axes) + 0.4 * _pad(shape, pose, 3, axes)
    else:
        pads = (_pad(shape, pose, 2, axes) + 2 * _pad(shape, pose, 3, axes) + _pad(shape, pose, 4, axes)) / 4
    thumb = _pad(shape, pose, 1, axes)
    across = unit(pads - thumb)
    rest = shape.frame
    wrist = shape.head("wrist")
    reach = 0.5 * (pads + thumb) - wrist
    inward = unit(reach - across * (reach @ across))
    thin = axis * (1 if rng.random() < 0.6 else -1)
    source = np.stack([inward, across, cross(inward, across)], 1)
    forward = unit(-(out - thin * (out @ thin)))
    target = np.stack([forward, thin, cross(forward, thin)], 1)
    rotate = target @ source.T
    depth = rng.uniform(0.002, 0.012) if site.kind == "pinch" else rng.uniform(0.012, 0.03)
    middle = site.origin - out * depth
    return middle - rotate @ reach, rotate @ rest, pose


def _frame_from_normal(seed, n, side) -> np.ndarray:
    f = unit(seed - n * (seed @ n))
    u = cross(n, f) if side == "left" else cross(f, n)
    return np.stack([f, u, n], 1)


def _with_palm_at(shape: ArmShape, frame, centre, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Wrist so that the palm's skin, `share` of the way from wrist to knuckles, lies at `centre`."""
    length = np.linalg.norm(shape.head("finger3-1") - shape.head("wrist"))
    thickness = length * 0.16
    return centre - frame[:, 0] * length * share - frame[:, 2] * thickness, frame


def close(model: ObjectModel, wrist, frame, start: FingerPose, shape: ArmShape, skin: HandPoints, kind: str,
          rng: np.random.Generator) -> Grip:
    """Closes every finger until its skin meets the surface samples of the object."""
    rest = shape.frame
    turn = frame @ rest.T
    origin = shape.head("wrist")
    inverse = turn.T
    local = (model.points - wrist) @ inverse.T + origin  # object into rest coordinates
    normals = model.normals @ inverse.T
    near = np.linalg.norm(local - (origin + rest[:, 0] * 0.09), axis=1) < 0.16
    local, normals = local[near], normals[near]
    relaxed = FingerPose(tuple(tuple(c) for c in start.curl), start.spread, start.oppose)
    if len(local) < 4:
        return Grip(wrist, frame, relaxed, False, 0)
    tree = cKDTree(local)
    axes = shape.axes
    limit = {"wrap": 1.45, "pinch": 0.75, "edge": 0.95, "palm": 0.55}[kind]
    curls, oppose, touching = [None] * 5, start.oppose, 0
    thumb_steps = np.linspace(0, 1, STEPS)
    for k in range(1, 6):
        base = np.array(start.curl[k - 1])
        if k == 1:
            steps = base + thumb_steps[:, None] * np.array([0.1, 0.55, 0.6])
            opposing = start.oppose + thumb_steps * (0.55 if kind == "wrap" else 0.35)
        else:
            passive = kind == "pinch" and k > 3
            span = 0.12 if passive else limit
            steps = base + np.linspace(0, span, STEPS)[:, None] * RATIO
            opposing = 0.0
        chain = finger_chain(shape, k, steps, start.spread[k - 1], opposing, axes)
        index, reached = _first_touch(chain, skin, k, tree, TOUCH)
        curl = steps[index]
        if reached and k > 1 and index < STEPS - 1 and kind != "palm":
            # The near part rests on the surface; the outer joints go on closing round it.
            more = np.tile(curl, (8, 1))
            more[:, 1:] += np.linspace(0, 0.8, 8)[:, None] * np.array([1.0, 0.8])
            chain = finger_chain(shape, k, more, start.spread[k - 1], 0.0, axes)
            outer = _gaps(chain, skin, k, tree, outer=True)
            hits = np.flatnonzero(outer < TOUCH)
            curl = more[hits[0]] if len(hits) else more[3]
        elif not reached and k > 1:
            curl = steps[min(index, int(STEPS * rng.uniform(0.45, 0.8)))]
        if k == 1:
            oppose = float(np.atleast_1d(opposing)[index])
            if not reached:
                half = STEPS // 2
                curl, oppose = steps[half], float(opposing[half])
        touching += bool(reached)
        curls[k - 1] = tuple(float(c) for c in curl)
    palm_gap = tree.query(skin.points[0])[0].min()
    pose = FingerPose(tuple(curls), start.spread, oppose)
    return Grip(wrist, frame, pose, bool(touching > 0 or palm_gap < TOUCH), touching)


def _gaps(chain: np.ndarray, skin: HandPoints, k: int, tree: cKDTree, outer: bool = False) -> np.ndarray:
    """Smallest distance [S] from the skin of finger k to the object in each of S poses."""
    points, bone = skin.points[k], skin.bone[k]
    if outer:
        points, bone = points[bone == 2], bone[bone == 2]
    carried = chain[:, bone]
    moved = np.einsum("snij,nj->sni", carried[..., :3, :3], points) + carried[..., :3, 3]
    gap = tree.query(moved.reshape(-1, 3), distance_upper_bound=0.02)[0].reshape(len(chain), -1)
    return gap.min(1)


def _first_touch(chain, skin, k, tree, threshold) -> tuple[int, bool]:
    gap = _gaps(chain, skin, k, tree)
    hits = np.flatnonzero(gap < threshold)
    return (int(hits[0]), True) if len(hits) else (len(gap) - 1, False)


def relaxed(rng: np.random.Generator) -> FingerPose:
    """A free hand: open, half closed, fist, or pointing."""
    style = rng.random()
    base = rng.uniform(0.05, 0.45) if style < 0.5 else rng.uniform(0.4, 0.9) if style < 0.75 else rng.uniform(1.1, 1.4)
    curl = [(rng.uniform(0, 0.2), rng.uniform(0, 0.4), rng.uniform(0, 0.5))]
    for k in range(4):
        c = base + rng.normal() * 0.1 + 0.06 * k
        if style > 0.9 and k == 0:
            c = 0.05
        curl.append(tuple(float(np.clip(c * r, -0.1, 1.6)) for r in RATIO))
    fan = rng.uniform(-0.02, 0.14) * (base < 0.6)
    return FingerPose(tuple(curl), (0.0, fan, fan * 0.3, -fan * 0.4, -fan), float(rng.uniform(0.0, 0.7)))
