"""People in a scene: skin, clothes, gloves, arms in place, torsos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .assets import Assets
from .body import ArmShape, ArmTopology, PosedArm, sit, welded_normals
from .meshes import Mesh, lathe, rigid, rotation, tube, unit, vertex_normals
from .scene import Part
from .things import Material

#: sRGB skin tones, light to dark
TONES = np.array([(0.93, 0.76, 0.68), (0.88, 0.68, 0.58), (0.83, 0.62, 0.5), (0.76, 0.55, 0.42), (0.66, 0.45, 0.33), (0.55, 0.37, 0.26),
                  (0.44, 0.29, 0.2), (0.33, 0.21, 0.15), (0.25, 0.16, 0.12)])


@dataclass(frozen=True)
class Glove:
    """name: as labelled; cuff: how far along the forearm (0 wrist, 1 elbow); thick metres; material."""

    cuff: float
    thick: float
    material: Material
    palm: tuple[float, float, float] | None


@dataclass(frozen=True, eq=False)
class Person:
    """One person's looks. number: which arm shape; scale of the arms; sleeve: where it ends (0 wrist, 1 elbow, 2 shoulder)."""

    number: int
    scale: float
    tone: np.ndarray
    skin: Material
    sleeve: float
    sleeve_thick: float
    cloth: Material
    trousers: Material
    shoes: Material
    gloves: dict[str, Glove | None]
    watch: str
    watch_material: Material
    shoulder_width: float


def random_person(rng: np.random.Generator, assets: Assets) -> Person:
    """Draws somebody; nothing here depends on the scene."""
    tone = TONES[rng.integers(len(TONES))] * (1 - (t := rng.random())) + TONES[rng.integers(len(TONES))] * t
    tone = np.clip(tone * rng.uniform(0.92, 1.06) + rng.normal(size=3) * 0.012, 0.05, 0.98)
    texture, tile = assets.texture(rng, "skin")
    skin = Material(texture, tile, rough=float(rng.uniform(0.45, 0.75)), shine=float(rng.uniform(0.1, 0.35)), soft=0.35)
    kind = rng.random()
    sleeve = float(rng.uniform(-0.02, 0.15) if kind < 0.38 else rng.uniform(0.2, 0.9) if kind < 0.55 else rng.uniform(1.15, 1.7) if kind < 0.9 else 3.0)
    cloth = random_cloth(rng, assets)
    gloves: dict[str, Glove | None] = {"left": None, "right": None}
    if rng.random() < 0.17:
        glove = random_glove(rng, assets)
        gloves = {"left": glove, "right": glove}
        if rng.random() < 0.12:
            gloves["left" if rng.random() < 0.5 else "right"] = None
    dark = Material(None, 0, tuple(rng.uniform(0.02, 0.2, 3).tolist()), rough=0.4, shine=0.5)
    return Person(
        number=int(rng.integers(len(assets.arms["left"]))), scale=float(rng.uniform(0.93, 1.07)), tone=tone, skin=skin, sleeve=sleeve,
        sleeve_thick=float(rng.uniform(0.004, 0.016)), cloth=cloth, trousers=random_cloth(rng, assets, plain=0.85),
        shoes=Material(None, 0, tuple((rng.uniform(0.03, 0.25) if rng.random() < 0.6 else rng.uniform(0.5, 0.95)) * np.ones(3)), rough=0.6),
        gloves=gloves, watch=str(rng.choice(["", "", "", "left", "left", "right"])), watch_material=dark, shoulder_width=float(rng.uniform(0.16, 0.2)))


def random_cloth(rng, assets: Assets, plain: float = 0.55) -> Material:
    """Plain or patterned cloth."""
    simple = rng.random() < plain
    texture, tile = assets.texture(rng, "cloth_plain") if simple else assets.texture(rng, "cloth")
    grey = rng.random() < 0.45
    tint = np.clip(rng.uniform(0.05, 1) + rng.normal(size=3) * 0.03, 0.03, 1.1) if grey else rng.uniform(0.05, 1.0, 3)
    if not simple:
        tint = np.ones(3) * rng.uniform(0.6, 1.05)
    return Material(texture, tile, tuple(tint.tolist()), rough=0.9, shine=0.05)


def random_glove(rng, assets: Assets) -> Glove:
    """Latex, household rubber, knitted work, leather or garden gloves."""
    kind = rng.choice(["latex", "rubber", "work", "leather", "garden"], p=[0.35, 0.2, 0.25, 0.12, 0.08])
    if kind == "latex":
        colour = [(0.25, 0.45, 0.85), (0.9, 0.9, 0.88), (0.06, 0.06, 0.07), (0.45, 0.35, 0.8), (0.95, 0.9, 0.78), (0.35, 0.7, 0.85)][rng.integers(6)]
        return Glove(float(rng.uniform(0.08, 0.3)), 0.0015, Material(None, 0, colour, rough=0.35, shine=0.5, soft=0.15), None)
    if kind == "rubber":
        colour = [(0.95, 0.8, 0.15), (0.9, 0.3, 0.45), (0.85, 0.15, 0.15), (0.2, 0.6, 0.5), (0.95, 0.5, 0.15)][rng.integers(5)]
        return Glove(float(rng.uniform(0.35, 0.8)), 0.003, Material(None, 0, colour, rough=0.3, shine=0.6), None)
    texture, tile = assets.texture(rng, "cloth_plain", "cloth" if kind == "garden" else "carpet")
    base = np.array({"work": rng.uniform(0.3, 1.0, 3), "leather": np.array([0.75, 0.55, 0.35]) * rng.uniform(0.4, 1.2), "garden": np.ones(3)}[str(kind)])
    palm = tuple(rng.uniform(0.05, 0.9, 3).tolist()) if rng.random() < 0.6 else None
    return Glove(float(rng.uniform(0.1, 0.35)), float(rng.uniform(0.003, 0.006)), Material(texture, tile * 0.4, tuple(base.tolist()), rough=0.9, shine=0.1), palm)


def skin_colours(shape: ArmShape, topology: ArmTopology, tone: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vertex colours [N, 3]: lighter palms on dark skin, redder knuckles and tips, nails."""
    rest_normals = welded_normals(shape.vertices, topology)
    frame = shape.frame
    facing = rest_normals @ frame[:, 2]
    points = shape.vertices
    colour = np.tile(tone, (len(points), 1))
    darkness = np.clip(1.1 - tone.mean() * 1.5, 0, 1)
    on_hand = (topology.along < 0.02)[:, None]
    palm = np.clip(facing, 0, 1)[:, None] * on_hand
    light = np.clip(tone + 0.3 * np.array([1.0, 0.8, 0.7]), 0, 0.9)
    colour = colour * (1 - palm * darkness * 0.7) + light * palm * darkness * 0.7
    red = np.zeros(len(points))
    for k in range(1, 6):
        for j, strength in ((2, 0.5), (3, 0.8)):
            joint = shape.head(f"finger{k}-{j}")
            red = np.maximum(red, strength * np.exp(-((np.linalg.norm(points - joint, axis=1) / 0.010) ** 2)))
        tip = shape.tail(f"finger{k}-3")
        red = np.maximum(red, 0.9 * np.exp(-((np.linalg.norm(points - tip, axis=1) / 0.012) ** 2)))
    amount = (red * rng.uniform(0.1, 0.5))[:, None]
    colour = colour * (1 - amount * np.array([0.02, 0.28, 0.25]))
    for k in range(1, 6):
        head, tail = shape.head(f"finger{k}-3"), shape.tail(f"finger{k}-3")
        along = unit(tail - head)
        back = -frame[:, 2] if k > 1 else unit(-frame[:, 2] + frame[:, 1])
        offset = points - (head + 0.75 * (tail - head))
        length = np.linalg.norm(tail - head)
        nail = (np.abs(offset @ along) < 0.36 * length) & (offset @ back > 0.001) & (rest_normals @ back > 0.55)
        nail &= np.linalg.norm(points - tail, axis=1) < length * 1.2
        colour[nail] = colour[nail] * 0.75 + 0.25 * np.array([0.95, 0.8, 0.78])
    return np.clip(colour, 0, 1).astype(np.float32)


def arm_parts(person: Person, side: str, shape: ArmShape, topology: ArmTopology, posed: PosedArm, label: int, rng: np.random.Generator,
              colours: np.ndarray) -> list[Part]:
    """Meshes of one arm; only the hand (with its glove) carries the label."""
    eye = np.eye(4)
    glove = person.gloves[side]
    along, faces = topology.along, topology.faces
    face_along = along[faces].mean(1)
    parts = []
    rough = Mesh(posed.vertices, posed.normals, topology.uv * np.float32(1.0), colours, faces)

    def some(chosen, vertices=None, colour=None, uv=None):
        v = rough.vertices if vertices is None else vertices
        n = rough.normals if vertices is None else welded_normals(vertices, topology)
        return Mesh(v.astype(np.float32), n, rough.uv if uv is None else uv, rough.colour if colour is None else colour, faces[chosen])

    def cut_at(vertices, limit):
        """Vertices beyond a sleeve's or cuff's end moved back onto it along the arm, so that the edge is clean."""
        beyond = (along < limit) & (along > limit - 0.35)
        arm = (posed.elbow - posed.wrist) if limit < 1 else (posed.shoulder - posed.elbow)
        return vertices + np.where(beyond, limit - along, 0)[:, None] * arm

    def cuff_at(vertices, limit):
        beyond = (along > limit) & (along < limit + 0.35)
        return vertices - np.where(beyond, along - limit, 0)[:, None] * (posed.elbow - posed.wrist)

    covered = face_along > person.sleeve + 0.06
    if glove is None:
        parts.append(Part(some(topology.hand), person.skin, eye, label))
        bare = ~topology.hand & ~covered
    else:
        worn = (along[faces].min(1) < glove.cuff) | topology.hand
        wave = np.sin(shape.vertices @ np.array([310.0, 270, 190])) + np.sin(shape.vertices @ np.array([-170.0, 230, 350]))
        loose = glove.thick * (1 + 0.25 * wave) + 0.012 * np.clip(along / max(glove.cuff, 0.1), 0, 1) ** 2 * glove.cuff
        vertices = cuff_at(posed.vertices + posed.normals * loose[:, None], glove.cuff)
        colour = np.ones_like(colours)
        if glove.palm is not None:
            inner = (welded_normals(shape.vertices, topology) @ shape.frame[:, 2] > 0.1) & (along < 0.02)
            colour[inner] = np.array(glove.palm) / np.maximum(glove.material.tint, 0.05)
        parts.append(Part(some(worn, vertices, np.clip(colour, 0, 3), shape.vertices[:, [0, 1]] * 1.0), glove.material, eye, label))
        bare = (face_along > glove.cuff - 0.08) & ~topology.hand & ~covered
    if bare.any():
        parts.append(Part(some(bare), person.skin, eye))
    sleeve = (along[faces].max(1) > person.sleeve) & (face_along > person.sleeve - 0.2) & ~topology.hand
    if glove is not None and person.sleeve < glove.cuff:
        sleeve &= face_along > glove.cuff * 0.7
    if sleeve.any():
        folds = np.zeros(len(along))
        phase = rng.uniform(0, 6.28, 4)
        for i, f in enumerate((9.0, 17.0, 31.0, 43.0)):
            folds += np.sin(along * f + shape.vertices @ rng.normal(size=3) * 60 + phase[i]) / (1 + 0.5 * i)
        loose = person.sleeve_thick * (1 + 0.45 * folds) + 0.003
        vertices = cut_at(posed.vertices + posed.normals * np.maximum(loose, 0.002)[:, None], person.sleeve)
        uv = np.stack([along * 0.26, np.arctan2(shape.vertices[:, 1], shape.vertices[:, 2]) * 0.05], 1).astype(np.float32)
        parts.append(Part(some(sleeve, vertices, np.ones_like(colours), uv), person.cloth, eye))
    if person.watch == side and person.sleeve > 0.25 and (glove is None or glove.cuff < 0.1):
        ring = posed.vertices[np.abs(along - 0.1) < 0.05]
        if len(ring) > 8:
            parts += _watch(ring, posed, person.watch_material)
    return parts


def _only(mesh: Mesh) -> Mesh:
    """The mesh without vertices that no face uses."""
    used, faces = np.unique(mesh.faces, return_inverse=True)
    return Mesh(mesh.vertices[used], mesh.normals[used], mesh.uv[used], mesh.colour[used], faces.reshape(-1, 3).astype(np.int32))


def _watch(ring: np.ndarray, posed: PosedArm, material: Material) -> list[Part]:
    axis = unit(posed.wrist - posed.elbow)
    centre = ring.mean(0)
    flat = ring - centre
    flat = flat - np.outer(flat @ axis, axis)
    _, vectors = np.linalg.eigh(flat.T @ flat)
    wide, thick = vectors[:, 2], vectors[:, 1]
    a, b = np.abs(flat @ wide).max() + 0.002, np.abs(flat @ thick).max() + 0.002
    t = np.linspace(0, 2 * np.pi, 21)
    path = centre + np.outer(np.cos(t) * a, wide) + np.outer(np.sin(t) * b, thick)
    strap = tube(path, 0.007, 6)
    flatten = np.eye(3)
    parts = [Part(strap, material, rigid(flatten, (0, 0, 0)))]
    up = thick if thick[2] > 0 else -thick
    disc = np.stack([np.cross(up, axis), axis, up], 1)
    dial = lathe([(0, 0), (0.019, 0), (0.019, 0.006), (0, 0.006)], 16)
    parts.append(Part(dial, material, rigid(disc, centre + up * (b + 0.002))))
    return parts


def torso_parts(person: Person, assets: Assets, rng: np.random.Generator, neck: np.ndarray, lean: float, hip: float, knee: float, head: bool,
                turn: np.ndarray | None = None) -> list[Part]:
    """The dressed body whose shoulders' middle lies at `neck`; lean forward, hip and knee bends in radians."""
    body = assets.bodies[person.number % len(assets.bodies)]
    vertices = sit(body, hip, knee, float(rng.uniform(0.05, 0.3)))
    normals = vertex_normals(vertices, body.faces)
    region = body.region
    puff = np.where(region == 3, 0.0, np.where(region == 2, 0.012, 0.014))
    wave = sum(np.sin(vertices @ (rng.normal(size=3) * f) + rng.uniform(0, 6)) for f in (25, 40, 60, 90))
    puff = puff + np.where(region < 2, 0.003 * wave, 0)
    vertices = vertices + normals * puff[:, None]
    collar = float(body.shoulders[:, 1].mean()) + 0.045
    if not head:  # the wearer's body ends in a clean edge at the collar: the camera is where the head was
        vertices[:, 1] = np.minimum(vertices[:, 1], collar)
    middle = body.shoulders.mean(0)
    swap = np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])
    linear = (np.eye(3) if turn is None else turn) @ rotation((1, 0, 0), -lean) @ swap
    world = (vertices - middle) @ linear.T + neck
    normals = vertex_normals(world.astype(np.float32), body.faces)
    parts = []
    face_region = region[body.faces]
    looks = {0: person.cloth, 1: person.trousers, 2: person.shoes}
    uv = np.stack([vertices[:, 0] + vertices[:, 2] * 0.7, vertices[:, 1]], 1).astype(np.float32)
    for number, material in looks.items():
        chosen = (face_region == number).sum(1) >= 2
        if not head:
            chosen &= body.vertices[body.faces, 1].min(1) < collar
        parts.append(Part(_only(Mesh(world.astype(np.float32), normals, uv, np.ones_like(world, np.float32), body.faces[chosen])), material, np.eye(4)))
    if head:
        chosen = (face_region == 3).sum(1) >= 2
        colour = np.tile(person.tone, (len(world), 1)).astype(np.float32)
        top = vertices[:, 1] > np.quantile(vertices[region == 3, 1], 0.62)
        back = vertices[:, 2] < np.quantile(vertices[region == 3, 2], 0.45)
        colour[(top | back) & (region == 3)] = rng.uniform(0.03, 0.35) * np.array([1, 0.8, 0.6])
        parts.append(Part(_only(Mesh(world.astype(np.float32), normals, uv, colour, body.faces[chosen])), person.skin, np.eye(4)))
    return parts
