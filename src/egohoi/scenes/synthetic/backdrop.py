"""Where a scene takes place: planes, walls, sky, furniture, things that lie about, light."""

from __future__ import annotations

import numpy as np

from .meshes import Mesh, box, grid_faces, make, rigid, rotation
from .scene import Labelled, Light, Part
from .things import Material, ObjectModel

OUTDOOR = ("grass", "soil", "gravel", "concrete", "sand", "planks")
FLOOR = ("planks", "tiles", "carpet", "concrete", "stone")
TABLE = ("wood", "wood", "planks", "stone", "tiles", "plaster", "metal", "cloth")
WALL = ("plaster", "plaster", "tiles", "bricks", "planks", "concrete")


def plane(size: tuple[float, float], cell: float, gather: float = 0.0) -> Mesh:
    """A flat grid in the xy plane, finely divided because wide lenses bend straight edges vertex by vertex.

    size, cell: metres; `gather` > 0 makes the cells small in the middle and large outside (`cell` is then the mean).
    """
    lines = []
    for length in size:
        t = np.linspace(-1, 1, int(np.ceil(length / cell)) + 1)
        lines.append(length / 2 * (np.sinh(gather * t) / np.sinh(gather) if gather else t))
    x, y = np.meshgrid(*lines)
    points = np.stack([x, y, 0 * x], -1).reshape(-1, 3)
    return make(points, grid_faces(len(lines[1]), len(lines[0])), points[:, :2], (1, 1, 1), np.tile([0, 0, 1.0], (len(points), 1)))


def covering(rng, assets, kinds) -> Material:
    """A surface of one of the kinds, tinted."""
    texture, tile = assets.texture(rng, *kinds)
    grey = texture.startswith(("plaster", "metal", "cloth_plain"))
    if grey:
        tint = np.clip(rng.uniform(0.25, 1.1) + rng.normal(size=3) * rng.choice([0.03, 0.18]), 0.08, 1.15)
    else:
        tint = np.ones(3) * rng.uniform(0.65, 1.2) * (1 + rng.normal(size=3) * 0.05)
    return Material(texture, tile * float(np.exp(rng.normal() * 0.35)), tuple(tint.tolist()), rough=float(rng.uniform(0.3, 0.95)), shine=float(rng.uniform(0, 0.5)))


def furnish(parts, things, labels, assets, library, stage, camera, obstacles, focus, rng) -> None:
    """Adds the place itself, large things behind and small things around."""
    outdoors = stage.place == "ground" and rng.random() < 0.6
    floor = plane((14.0, 14.0), 0.22, 4.0)
    if stage.place in ("table", "kitchen"):
        depth = rng.uniform(0.5, 1.1) if stage.place == "table" else rng.uniform(0.5, 0.7)
        width = rng.uniform(1.0, 2.4) if stage.place == "table" else 4.0
        slab = plane((width, depth), 0.05)
        top = covering(rng, assets, TABLE)
        shift = rng.normal() * 0.15 if stage.place == "table" else 0
        parts.append(Part(slab, top, rigid(np.eye(3), (shift, stage.edge + depth / 2, 0))))
        thick = rng.uniform(0.02, 0.06)
        parts.append(Part(box((width, depth, thick)), top, rigid(np.eye(3), (shift, stage.edge + depth / 2, -thick / 2 - 0.015))))
        if stage.place == "kitchen":
            front = covering(rng, assets, ("wood", "plaster", "metal"))
            for k in range(-3, 4):
                parts.append(Part(box((0.58, 0.02, -stage.floor - 0.05)), front, rigid(np.eye(3), (k * 0.6, stage.edge + 0.02, stage.floor / 2))))
        parts.append(Part(floor, covering(rng, assets, FLOOR), rigid(np.eye(3), (0, 0, stage.floor))))
        area = (shift - width / 2, shift + width / 2, stage.edge + 0.02, stage.edge + depth)
        wall_at = stage.edge + depth + (0.01 if stage.place == "kitchen" or rng.random() < 0.3 else rng.uniform(0.3, 2.5))
    else:
        parts.append(Part(floor, covering(rng, assets, OUTDOOR if outdoors else FLOOR), np.eye(4)))
        area = (-1.1, 1.1, 0.1, 1.7)
        wall_at = rng.uniform(0.55, 0.8) if stage.place == "wall" else rng.uniform(1.2, 4.0)
        if rng.random() < 0.35:  # a rug, board or patch on the ground
            patch = plane((rng.uniform(0.5, 1.8), rng.uniform(0.5, 1.8)), 0.06)
            parts.append(Part(patch, covering(rng, assets, ("planks", "carpet", "cloth", "concrete", "wood")), rigid(rotation((0, 0, 1), rng.uniform(0, 3)), (rng.normal() * 0.4, rng.uniform(0.3, 1.2), 0.0015))))
    indoors = not outdoors
    wall_turn = rng.normal() * 0.06
    if indoors or rng.random() < 0.35:
        look = covering(rng, assets, WALL if indoors else ("bricks", "planks", "concrete"))
        wall = plane((12.0, 5.0), 0.22)
        upright = rotation((0, 0, 1), wall_turn) @ rotation((1, 0, 0), np.pi / 2)
        parts.append(Part(wall, look, rigid(upright, (0, wall_at, stage.floor + 2.5))))
        if stage.place == "kitchen" and rng.random() < 0.6:  # splash-back
            strip = plane((4.0, 0.5), 0.1)
            parts.append(Part(strip, covering(rng, assets, ("tiles", "stone", "tiles")), rigid(upright, (0, wall_at - 0.02, 0.25))))
        for sign in (-1, 1):
            if rng.random() < 0.45:
                side = plane((10.0, 5.0), 0.25)
                turn = rotation((0, 0, 1), sign * np.pi / 2 * -1) @ rotation((1, 0, 0), np.pi / 2)
                parts.append(Part(side, look, rigid(turn, (sign * rng.uniform(0.9, 2.6), 0, stage.floor + 2.5))))
        _wall_things(parts, assets, rng, wall_at, stage, upright)
    _large_things(parts, library, stage, wall_at, rng, outdoors)
    if outdoors:
        _greenery(parts, assets, library, rng, area)
    _small_things(parts, things, labels, library, area, obstacles, focus, rng)


def _wall_things(parts, assets, rng, wall_at, stage, upright) -> None:
    """Pictures, windows, sockets, shelves: boxes and bright panes on the back wall."""
    for _ in range(int(rng.integers(0, 5))):
        w, h = rng.uniform(0.15, 1.0), rng.uniform(0.1, 0.8)
        z = rng.uniform(0.1, 1.0) if stage.place != "ground" else rng.uniform(0.3, 1.8)
        where = (rng.uniform(-1.4, 1.4), wall_at - 0.02, z)
        if rng.random() < 0.3:
            pane = Material(None, 0, tuple((rng.uniform(0.8, 1.5) * np.array([0.95, 1.0, 1.08])).tolist()), rough=0.1)
            parts.append(Part(box((w, 0.01, h)), pane, rigid(np.eye(3), where)))
            frame = covering(rng, assets, ("wood", "plaster"))
            parts.append(Part(box((w, 0.03, 0.03)), frame, rigid(np.eye(3), where)))
            parts.append(Part(box((0.03, 0.03, h)), frame, rigid(np.eye(3), where)))
        else:
            depth = rng.choice([0.01, 0.02, 0.15, 0.3])
            look = covering(rng, assets, ("printed", "wood", "plaster", "metal", "cloth"))
            parts.append(Part(box((w, depth, h)), look, rigid(np.eye(3), (where[0], wall_at - depth / 2, z + (0.35 if depth > 0.1 else 0)))))


def _large_things(parts, library, stage, wall_at, rng, outdoors) -> None:
    taken = []
    for _ in range(int(rng.integers(0, 4))):
        model = library.furniture(rng)
        if model is None:
            return
        size = model.size
        if stage.place in ("table", "kitchen"):
            x = rng.choice([-1, 1]) * rng.uniform(0.3, 2.2)
            y = wall_at - size[1] / 2 - 0.03 if wall_at > stage.edge + 0.9 else 9.0
            if y > 5 or (y - size[1] / 2 < stage.edge + 1.1 and abs(x) < 1.3):
                y = rng.uniform(1.9, 3.0)
                if y > wall_at - size[1] / 2:
                    continue
            z = stage.floor
        else:
            x, y, z = rng.uniform(-2, 2), rng.uniform(1.0, 3.0), 0.0
            if y - size[1] / 2 < 0.85 or (y + size[1] / 2 > wall_at and not outdoors):
                continue
        radius = max(size[:2]) / 2
        if any(np.hypot(x - a, y - b) < radius + r for a, b, r in taken):
            continue
        taken.append((x, y, radius))
        turn = rotation((0, 0, 1), rng.choice([0, 0, 0, np.pi / 2, -np.pi / 2, np.pi]) + rng.normal() * 0.05)
        parts += [Part(mesh, material, rigid(turn, (x, y, z)), 0, True) for mesh, material in model.parts]


def _greenery(parts, assets, library, rng, area) -> None:
    """Plants, stones and twigs on the ground; unlabelled, the way one sees ground."""
    names = ["plant", "stone", "stick", "brick"]
    for _ in range(int(rng.integers(0, 16))):
        model = library.get(str(rng.choice(names, p=[0.5, 0.25, 0.2, 0.05])), library.variants[int(rng.integers(len(library.variants)))])
        x, y = rng.uniform(-2.2, 2.2), rng.uniform(0.9, 3.5)
        linear = rotation((0, 0, 1), rng.uniform(0, 6.28)) * rng.uniform(0.7, 2.5)
        parts += [Part(mesh, material, rigid(linear, (x, y, 0)), 0, True) for mesh, material in model.parts]


def _small_things(parts, things, labels, library, area, obstacles, focus, rng) -> None:
    """Labelled things that lie about and touch neither hands nor held things."""
    count = int(rng.integers(0, 5) if rng.random() < 0.4 else rng.integers(4, 15))
    points = np.concatenate(obstacles) if obstacles else np.zeros((0, 3))
    placed: list[tuple[np.ndarray, float]] = []
    for _ in range(count):
        model = library.clutter(rng)
        size = model.size
        if max(size) > 0.9:
            continue
        for _ in range(6):
            if rng.random() < 0.6:
                x, y = focus[0] + rng.normal() * 0.35, focus[1] + rng.normal() * 0.25
            else:
                x, y = rng.uniform(area[0], area[1]), rng.uniform(area[2], area[3])
            turn = _resting(model, rng)
            corners = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
            bounds = (model.low + corners * size) @ turn.T
            low, high = bounds.min(0), bounds.max(0)
            radius = float(np.hypot(*(high - low)[:2])) / 2
            shift = np.array([x, y, -low[2] + 0.0015])
            if x + low[0] < area[0] or x + high[0] > area[1] or y + low[1] < area[2] or y + high[1] > area[3]:
                continue
            if any(np.hypot(x - q[0], y - q[1]) < 0.8 * (radius + r) for q, r in placed):
                continue
            if len(points):
                local = (points - shift) @ turn
                inside = np.all((local > model.low - 0.018) & (local < model.high + 0.018), axis=1)
                if inside.any():
                    continue
            placed.append((np.array([x, y]), radius))
            label = next(labels)
            things.append(Labelled(label, "object", model.name, model.instance))
            parts += [Part(mesh, material, rigid(turn, shift), label, True) for mesh, material in model.parts]
            break


def _resting(model: ObjectModel, rng) -> np.ndarray:
    yaw = rotation((0, 0, 1), rng.uniform(-np.pi, np.pi))
    if model.pose == "upright" and max(model.size[:2]) < 0.12 and rng.random() < 0.12:
        return yaw @ rotation((1, 0, 0), np.pi / 2)  # fallen over
    return yaw


def random_light(stage, focus, rng) -> Light:
    """Daylight, lamps, dim rooms; strengths chosen so that a mid-grey surface lands near mid-grey."""
    strength = float(np.exp(rng.normal() * 0.3))
    warm = rng.normal() * 0.12
    tint = np.exp(np.array([1, 0.1, -1.1]) * warm)
    share = float(rng.uniform(0.15, 0.75))  # of the light that comes from the sun or the main lamp
    sun = np.array([rng.normal() * 0.7, rng.normal() * 0.7 + 0.1, 1.0])
    sun /= np.linalg.norm(sun)
    ambient = strength * (1 - share) * 1.15
    cool = np.exp(np.array([-1, 0, 1]) * rng.normal() * 0.08)
    sky = ambient * cool
    ground = ambient * rng.uniform(0.35, 0.8) * np.exp(np.array([1, 0, -1]) * rng.normal() * 0.08)
    lamp = np.array([rng.uniform(-1, 1), rng.uniform(-0.5, 1.5), rng.uniform(0.5, 1.6)])
    lamp_colour = tint * strength * (rng.uniform(0, 0.8) if rng.random() < 0.5 else 0.0)
    blue = rng.random()
    horizon = np.array([0.75, 0.82, 0.9]) * rng.uniform(0.5, 1.1)
    zenith = np.array([0.3, 0.5, 0.85]) * (1 - blue) + np.array([0.7, 0.72, 0.75]) * blue
    return Light(sun, tint * strength * share * 1.5, sky, ground, float(rng.uniform(0.002, 0.02)), np.array([focus[0], focus[1] + 0.1, 0.1 + focus[2] * 0.4]), 1.1 if stage.height < 1.2 else 1.7,
                 lamp, lamp_colour, horizon * strength, zenith * strength)
