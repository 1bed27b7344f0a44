"""Procedural hand-sized objects: each noun is a function of a random generator that returns meshes and grip sites.

Rest pose: z up, standing on or near z = 0, centred over the origin; long tools lie along x with the handle at -x.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .meshes import box, join, lathe, lumpy, rigid, rotation, sheet, sphere, tube
from .things import Material, ObjectModel, X, Y, Z, bar, finish, flat_edges, palm, rim, sides

#: name of a texture and its tile in metres, out of one of the kinds
Draw = Callable[..., tuple[str, float]]


def hue(rng, low=0.15, high=0.95) -> tuple[float, float, float]:
    """A random colour; one in three is close to grey."""
    colour = rng.uniform(low, high, 3)
    if rng.random() < 0.33:
        colour = colour.mean() + rng.normal(size=3) * 0.03
    return tuple(np.clip(colour, 0.03, 0.97).tolist())


def vivid(rng) -> tuple[float, float, float]:
    import colorsys

    return colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.5, 1), rng.uniform(0.35, 0.95))


def plastic(rng, colour=None) -> Material:
    return Material(None, 0, colour or (vivid(rng) if rng.random() < 0.6 else hue(rng)), rough=float(rng.uniform(0.2, 0.6)), shine=0.5)


def surface(rng, draw: Draw, *kinds, tint=(1, 1, 1), scale=1.0, rough=0.7, shine=0.15) -> Material:
    name, metres = draw(rng, *kinds)
    return Material(name, metres * scale, tuple(tint), rough=rough, shine=shine)


def steel(rng, draw) -> Material:
    v = float(rng.uniform(0.55, 1.1))
    return surface(rng, draw, "metal", tint=(v, v, v * 1.02), rough=0.25, shine=0.9)


def timber(rng, draw) -> Material:
    return surface(rng, draw, "wood", "planks", scale=0.5, tint=tuple(rng.uniform(0.7, 1.15, 3) * 0.2 + rng.uniform(0.6, 0.95)))


def shift(mesh, *offset):
    return mesh.moved(rigid(np.eye(3), offset))


def spin(mesh, axis, angle):
    return mesh.moved(rigid(rotation(axis, angle), (0, 0, 0)))


def lying(profile, segments=14):
    """A lathe along x instead of z; the profile's z becomes x."""
    return lathe(profile, segments).moved(rigid(np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]]), (0, 0, 0)))


def arc_handle(x, low, high, reach, thick):
    t = np.linspace(-np.pi / 2, np.pi / 2, 9)
    path = np.stack([x + reach * np.cos(t), 0 * t, (low + high) / 2 + (high - low) / 2 * np.sin(t)], 1)
    return tube(path, thick, 7)


# ------------------------------------------------------------------------------------------------------------- containers


def mug(rng, draw):
    r, h = rng.uniform(0.034, 0.046), rng.uniform(0.075, 0.11)
    mouth = r * rng.uniform(0.92, 1.15)
    w = 0.003
    cup = lathe([(0, 0), (r * 0.9, 0), (r, 0.006), (mouth, h), (mouth - w, h), (r - w, 0.01), (0, 0.008)], 22)
    handle = arc_handle(r * 0.95, h * 0.2, h * 0.8, rng.uniform(0.022, 0.035), rng.uniform(0.004, 0.007))
    paint = plastic(rng) if rng.random() < 0.6 else surface(rng, draw, "printed", "cloth", scale=0.6, shine=0.5)
    liquid = lathe([(mouth * 0.93, h * 0.8), (0, h * 0.8)], 18)
    drink = Material(None, 0, (0.2, 0.1, 0.04) if rng.random() < 0.6 else hue(rng), rough=0.1, shine=0.7)
    parts = [(join([cup, handle]), paint)] + ([(liquid, drink)] if rng.random() < 0.5 else [])
    return parts, [bar((0, 0, h / 2), Z, h * 0.12, -X, 2.2), bar((r + 0.022, 0, h / 2), Z, 0.0, X, 0.5)], [], "upright", ("drink from", "hold")


def cup(rng, draw):
    r, h = rng.uniform(0.028, 0.042), rng.uniform(0.06, 0.13)
    mouth = r * rng.uniform(1.0, 1.3)
    mesh = lathe([(0, 0), (r, 0), (mouth, h), (mouth - 0.0015, h), (r - 0.001, 0.003), (0, 0.003)], 20)
    paint = plastic(rng) if rng.random() < 0.5 else surface(rng, draw, "printed", "plaster", scale=0.5)
    return [(mesh, paint)], [bar((0, 0, h / 2), Z, h * 0.2)], [], "upright", ("drink from", "hold")


def glass(rng, draw):
    parts, sites, pairs, pose, verbs = cup(rng, draw)
    clear = Material(None, 0, (0.8, 0.87, 0.9), rough=0.05, shine=1.0, alpha=float(rng.uniform(0.3, 0.55)))
    return [(parts[0][0], clear)], sites, pairs, pose, verbs


def bottle(rng, draw):
    r, h = rng.uniform(0.024, 0.045), rng.uniform(0.14, 0.32)
    neck, shoulder = rng.uniform(0.010, 0.016), rng.uniform(0.55, 0.8)
    mesh = lathe([(0, 0), (r, 0), (r, h * shoulder), (neck, h * min(shoulder + 0.15, 0.92)), (neck, h * 0.95), (0, h * 0.95)], 18)
    cap = lathe([(neck * 1.25, h * 0.93), (neck * 1.25, h), (0, h)], 12)
    label = lathe([(r * 1.01, h * 0.15), (r * 1.01, h * shoulder * 0.85)], 18)
    clear = rng.random() < 0.4
    skin = Material(None, 0, hue(rng), rough=0.1, shine=0.9, alpha=0.6 if clear else 1.0)
    return ([(mesh, skin), (cap, plastic(rng)), (label, surface(rng, draw, "printed", scale=0.5))],
            [bar((0, 0, h * shoulder * 0.5), Z, h * 0.15), bar((0, 0, h * 0.93), Z, 0.0)], [], "upright", ("pour from", "hold", "open"))


def can(rng, draw):
    r, h = rng.uniform(0.026, 0.045), rng.uniform(0.08, 0.16)
    mesh = lathe([(0, 0), (r * 0.9, 0), (r, 0.006), (r, h - 0.006), (r * 0.9, h), (r * 0.85, h - 0.003), (0, h - 0.003)], 20)
    return [(mesh, surface(rng, draw, "printed", scale=0.7, shine=0.6))], [bar((0, 0, h / 2), Z, h * 0.2)], [], "upright", ("open", "hold")


def jar(rng, draw):
    r, h = rng.uniform(0.03, 0.05), rng.uniform(0.06, 0.16)
    mesh = lathe([(0, 0), (r, 0), (r, h * 0.82), (r * 0.85, h * 0.87), (0, h * 0.87)], 20)
    lid = lathe([(r * 0.92, h * 0.84), (r * 0.92, h), (0, h)], 20)
    label = lathe([(r * 1.01, h * 0.2), (r * 1.01, h * 0.7)], 20)
    parts = [(mesh, Material(None, 0, hue(rng), rough=0.2, shine=0.8)), (lid, plastic(rng))]
    if rng.random() < 0.6:
        parts.append((label, surface(rng, draw, "printed", scale=0.6)))
    return parts, [bar((0, 0, h * 0.45), Z, h * 0.15), bar((0, 0, h * 0.92), Z)], [], "upright", ("open", "hold")


def _vessel(rng, r, h, base, wall=0.003):
    mid = base + (r - base) * rng.uniform(0.55, 0.95)
    return lathe([(0, 0), (base, 0), (mid, h * 0.5), (r, h), (r - wall, h), (mid - wall, h * 0.5), (base - wall, wall), (0, wall)], 26)


def _round_rims(r, h):
    return [rim((-r, 0, h), X, Z, swing=0.5), rim((r, 0, h), X, Z, swing=0.5), palm((-r, 0, h * 0.7), -X), palm((r, 0, h * 0.7), X)]


def bowl(rng, draw):
    r, h = rng.uniform(0.06, 0.15), rng.uniform(0.04, 0.09)
    parts = [(_vessel(rng, r, h, r * rng.uniform(0.4, 0.6)), plastic(rng) if rng.random() < 0.6 else steel(rng, draw))]
    if rng.random() < 0.5:
        food = lumpy(sphere((r * 0.8, r * 0.8, h * 0.4), 8, 14), rng, h * 0.12)
        parts.append((shift(food, 0, 0, h * 0.55), surface(rng, draw, "gravel", "soil", "sand", tint=hue(rng, 0.5), scale=0.15)))
    return parts, _round_rims(r, h), [(0, 1), (2, 3)], "upright", ("hold", "mix in")


def plate(rng, draw):
    r = rng.uniform(0.08, 0.15)
    mesh = lathe([(0, 0), (r * 0.6, 0), (r, 0.016), (r, 0.02), (r * 0.62, 0.006), (0, 0.005)], 28)
    parts = [(mesh, plastic(rng, (0.9, 0.9, 0.88)) if rng.random() < 0.6 else surface(rng, draw, "cloth", "plaster", scale=2, shine=0.5))]
    if rng.random() < 0.4:
        food = lumpy(sphere((r * 0.45, r * 0.4, 0.02), 7, 12), rng, 0.008)
        parts.append((shift(food, 0, 0, 0.012), surface(rng, draw, "gravel", "soil", "sand", tint=hue(rng, 0.5), scale=0.15)))
    return parts, [rim((-r, 0, 0.017), Z, -X), rim((r, 0, 0.017), Z, X), rim((0, -r, 0.017), Z, -Y)], [(0, 1)], "flat", ("hold", "wash", "carry")


def bucket(rng, draw):
    r, h = rng.uniform(0.11, 0.17), rng.uniform(0.2, 0.32)
    t = np.linspace(0, np.pi, 15)
    handle = tube(np.stack([r * np.cos(t), 0 * t, h + r * np.sin(t)], 1), 0.004, 6)
    grip = lying([(0, -0.05), (0.011, -0.05), (0.011, 0.05), (0, 0.05)], 9)
    return ([(_vessel(rng, r, h, r * 0.75), plastic(rng) if rng.random() < 0.7 else steel(rng, draw)), (handle, steel(rng, draw)),
             (shift(grip, 0, 0, h + r), plastic(rng))],
            [bar((0, 0, h + r), X, 0.01, Z, 0.4), *_round_rims(r, h)], [(1, 2)], "upright", ("carry", "hold"))


def pot(rng, draw):
    r, h = rng.uniform(0.08, 0.14), rng.uniform(0.07, 0.16)
    ears = [tube(np.array([(s * r, -0.04, h * 0.8), (s * (r + 0.035), -0.03, h * 0.82), (s * (r + 0.035), 0.03, h * 0.82), (s * r, 0.04, h * 0.8)]), 0.006, 7)
            for s in (-1, 1)]
    body = lathe([(0, 0), (r, 0), (r, h), (r - 0.003, h), (r - 0.003, 0.004), (0, 0.004)], 28)
    return ([(body, steel(rng, draw) if rng.random() < 0.6 else plastic(rng)), (join(ears), plastic(rng, (0.08, 0.08, 0.08)))],
            [bar((-r - 0.035, 0, h * 0.82), Y, 0.01, -X, 0.6), bar((r + 0.035, 0, h * 0.82), Y, 0.01, X, 0.6)], [(0, 1)], "upright", ("stir in", "carry", "hold"))


def pan(rng, draw):
    r, h, length = rng.uniform(0.08, 0.15), rng.uniform(0.035, 0.07), rng.uniform(0.14, 0.21)
    body = lathe([(0, 0), (r * 0.85, 0), (r, h), (r - 0.003, h), (r * 0.83, 0.004), (0, 0.004)], 28)
    handle = tube(np.array([(-r * 0.97, 0, h * 0.8), (-r - length * 0.3, 0, h * 1.1), (-r - length, 0, h * 1.25)]), [0.008, 0.011, 0.012], 9, flat=0.7)
    parts = [(body, steel(rng, draw) if rng.random() < 0.4 else plastic(rng, (0.06, 0.06, 0.07))),
             (handle, plastic(rng, (0.07, 0.07, 0.07)) if rng.random() < 0.6 else timber(rng, draw))]
    if rng.random() < 0.5:
        parts.append((shift(lumpy(sphere((r * 0.6, r * 0.55, 0.018), 7, 12), rng, 0.008), 0, 0, 0.012),
                      surface(rng, draw, "gravel", "soil", tint=hue(rng, 0.5), scale=0.15)))
    axis = np.array([length * 0.7, 0, -h * 0.15])
    return parts, [bar((-r - length * 0.65, 0, h * 1.18), axis / np.linalg.norm(axis), 0.015, Z, 0.7)], [], "upright", ("fry in", "hold", "shake")


def basket(rng, draw):
    w, d, h = rng.uniform(0.2, 0.42), rng.uniform(0.15, 0.3), rng.uniform(0.06, 0.25)
    t = 0.004
    mesh = join([shift(box((w, d, t)), 0, 0, t / 2)] + [shift(box((t, d, h)), s * w / 2, 0, h / 2) for s in (-1, 1)]
                + [shift(box((w, t, h)), 0, s * d / 2, h / 2) for s in (-1, 1)])
    look = surface(rng, draw, "carpet", "tiles", "cloth", scale=0.4) if rng.random() < 0.5 else plastic(rng)
    return ([(mesh, look)], [rim((-w / 2, 0, h), X, Z, swing=0.6), rim((w / 2, 0, h), X, Z, swing=0.6), *sides((-w / 2, -d / 2, 0), (w / 2, d / 2, h))],
            [(0, 1), (2, 3)], "upright", ("carry", "hold"))


def cardboard_box(rng, draw):
    w, d, h = rng.uniform(0.07, 0.45), rng.uniform(0.06, 0.3), rng.uniform(0.05, 0.3)
    tint = np.array([0.72, 0.55, 0.36]) * rng.uniform(0.8, 1.2) if rng.random() < 0.6 else np.array(hue(rng))
    mesh = shift(box((w, d, h), 0.002), 0, 0, h / 2)
    look = surface(rng, draw, "plaster", tint=tint.tolist()) if rng.random() < 0.5 else surface(rng, draw, "printed", tint=tint.tolist())
    sites = sides((-w / 2, -d / 2, 0), (w / 2, d / 2, h)) + [palm((0, 0, h), Z)]
    if min(w, d) < 0.09:
        axis = Y if w < d else X
        sites.append(bar((0, 0, h / 2), Z, h * 0.2, np.cross(axis, Z), 0.2))
        return [(mesh, look)], sites[::-1], [(len(sites) - 1, len(sites) - 2)] if w < 0.6 else [], "upright", ("carry", "hold", "open")
    return [(mesh, look)], sites, [(0, 1)], "upright", ("carry", "hold", "open")


def packet(rng, draw):
    w, d, h = rng.uniform(0.06, 0.16), rng.uniform(0.02, 0.055), rng.uniform(0.08, 0.24)
    pouch = shift(box((w, d, h), d * 0.35), 0, 0, h / 2)
    if rng.random() < 0.5:
        pouch = lumpy(shift(sphere((w / 2, d / 2, h / 2), 10, 14), 0, 0, h / 2), rng, 0.006, 6, 3)
    return ([(pouch, surface(rng, draw, "printed", scale=0.6, shine=0.5))], [bar((0, 0, h * 0.5), Z, h * 0.2, Y, 0.5), rim((0, 0, h), Y, Z, "pinch")], [],
            "upright", ("open", "hold", "pour from"))


def bag(rng, draw):
    w, d, h = rng.uniform(0.12, 0.3), rng.uniform(0.06, 0.16), rng.uniform(0.15, 0.32)
    body = lumpy(shift(sphere((w / 2, d / 2, h / 2), 14, 20), 0, 0, h / 2), rng, 0.02, 7, 2)
    t = np.linspace(0, np.pi, 9)
    strap = tube(np.stack([w * 0.22 * np.cos(t), 0 * t, h * 0.93 + 0.09 * np.sin(t)], 1), 0.006, 6)
    look = surface(rng, draw, "cloth", "cloth_plain", tint=hue(rng, 0.4)) if rng.random() < 0.6 else Material(None, 0, hue(rng), rough=0.3, shine=0.5)
    return [(body, look), (strap, look)], [bar((0, 0, h * 0.93 + 0.09), X, 0.0, Z, 0.4), rim((0, 0, h), Y, Z, "pinch")], [], "upright", ("carry", "hold", "open")


def tray(rng, draw):
    w, d = rng.uniform(0.22, 0.45), rng.uniform(0.18, 0.32)
    h = rng.uniform(0.015, 0.05)
    t = 0.004
    mesh = join([shift(box((w, d, t)), 0, 0, t / 2)] + [shift(box((t, d, h)), s * w / 2, 0, h / 2) for s in (-1, 1)]
                + [shift(box((w, t, h)), 0, s * d / 2, h / 2) for s in (-1, 1)])
    sites = [rim((-w / 2, 0, h * 0.7), X if h > 0.025 else Z, -X if h <= 0.025 else Z, swing=0.5),
             rim((w / 2, 0, h * 0.7), X if h > 0.025 else Z, X if h <= 0.025 else Z, swing=0.5)]
    return [(mesh, plastic(rng) if rng.random() < 0.5 else steel(rng, draw))], sites, [(0, 1)], "flat", ("carry", "hold")


# ------------------------------------------------------------------------------------------------------------------ tools


def knife(rng, draw):
    blade, handle, wide = rng.uniform(0.08, 0.22), rng.uniform(0.09, 0.13), rng.uniform(0.015, 0.045)
    t = np.linspace(0, 1, 8)
    top = np.stack([t * blade, np.full(8, wide * 0.5), 0 * t], 1)
    bottom = np.stack([t * blade, wide * 0.5 - wide * (1 - t**3), 0 * t], 1)
    metal = sheet(np.stack([bottom, top]), thickness=0.002)
    grip = tube(np.array([(-handle, 0, 0), (-handle * 0.6, 0.002, 0), (-handle * 0.2, 0, 0), (0, wide * 0.15, 0)]), [0.012, 0.0135, 0.011, 0.012], 9, flat=0.65)
    look = plastic(rng, (0.06, 0.06, 0.06)) if rng.random() < 0.5 else timber(rng, draw) if rng.random() < 0.6 else plastic(rng)
    return [(metal, steel(rng, draw)), (grip, look)], [bar((-handle * 0.5, 0, 0), X, 0.008, Z, 1.0)], [], "any", ("cut with", "hold")


def spoon(rng, draw):
    length = rng.uniform(0.14, 0.3)
    r = length * rng.uniform(0.09, 0.14)
    shaft = tube(np.array([(-length * 0.5, 0, 0.004), (0, 0, 0.002), (length * 0.35, 0, 0.0)]), rng.uniform(0.003, 0.006), 7, flat=0.6)
    head = shift(sphere((r * 1.4, r, 0.006), 7, 12), length * 0.38 + r, 0, 0)
    look = steel(rng, draw) if rng.random() < 0.5 else timber(rng, draw)
    return [(join([shaft, head]), look)], [rim((-length * 0.3, 0, 0.003), Z, -X, "pinch", 0.6), bar((-length * 0.3, 0, 0.003), X, 0.02)], [], "any", ("stir with", "eat with", "hold")


def spatula(rng, draw):
    length, wide = rng.uniform(0.24, 0.38), rng.uniform(0.05, 0.1)
    shaft = tube(np.array([(-length * 0.5, 0, 0), (0, 0, 0.002), (length * 0.25, 0, 0)]), [0.011, 0.008, 0.005], 8)
    x = np.linspace(length * 0.22, length * 0.5, 4)
    blade = sheet(np.stack([np.stack([x, np.full(4, s * wide / 2), -0.01 * (x / length)], 1) for s in (-1, 1)]), thickness=0.003)
    return [(shaft, plastic(rng)), (blade, steel(rng, draw) if rng.random() < 0.5 else plastic(rng))], [bar((-length * 0.38, 0, 0), X, 0.02)], [], "any", ("cook with", "hold")


def hammer(rng, draw):
    length = rng.uniform(0.24, 0.36)
    shaft = tube(np.array([(-length * 0.6, 0, 0), (-length * 0.2, 0, 0), (length * 0.4, 0, 0)]), [0.015, 0.014, 0.010], 9, flat=0.75)
    head = spin(lying([(0, -0.05), (0.008, -0.05), (0.012, -0.01), (0.012, 0.02), (0.014, 0.03), (0.014, 0.055), (0, 0.055)], 10), Z, np.pi / 2)
    return ([(shaft, timber(rng, draw) if rng.random() < 0.6 else plastic(rng)), (shift(head, length * 0.38, 0, 0), steel(rng, draw))],
            [bar((-length * 0.42, 0, 0), X, 0.03)], [], "any", ("hammer with", "hold"))


def screwdriver(rng, draw):
    handle, shaft = rng.uniform(0.08, 0.11), rng.uniform(0.07, 0.18)
    grip = lying([(0, -handle), (0.012, -handle), (0.016, -handle * 0.6), (0.012, -handle * 0.1), (0.008, 0), (0, 0)], 9)
    rod = lying([(0.003, 0), (0.003, shaft), (0, shaft)], 7)
    return [(grip, plastic(rng)), (rod, steel(rng, draw))], [bar((-handle * 0.5, 0, 0), X, 0.01)], [], "any", ("screw with", "hold")


def wrench(rng, draw):
    length = rng.uniform(0.14, 0.3)
    wide = length * 0.1
    shaft = shift(box((length * 0.8, wide * 0.7, 0.006), 0.002), 0, 0, 0)
    t = np.linspace(0.7, 2 * np.pi - 0.7, 12)
    jaw = tube(np.stack([wide * 1.1 * np.cos(t + np.pi) * -1, wide * 1.1 * np.sin(t), 0 * t], 1), 0.006, 6)
    return [(join([shaft, shift(jaw, length * 0.45, 0, 0)]), steel(rng, draw))], [bar((-length * 0.25, 0, 0), X, 0.02)], [], "any", ("tighten with", "hold")


def pliers(rng, draw):
    length = rng.uniform(0.14, 0.22)
    arms = [tube(np.array([(-length * 0.6, s * 0.026, 0), (-length * 0.3, s * 0.022, 0), (0, s * 0.004, 0)]), [0.006, 0.008, 0.006], 7) for s in (-1, 1)]
    jaws = tube(np.array([(0, 0, 0), (length * 0.2, 0, 0), (length * 0.4, 0, 0)]), [0.014, 0.011, 0.004], 7, flat=0.6)
    return [(join(arms), plastic(rng)), (jaws, steel(rng, draw))], [bar((-length * 0.35, 0, 0), X, 0.01, Y, 0.5)], [], "any", ("grip with", "hold")


def drill(rng, draw):
    body = lying([(0, -0.09), (0.03, -0.085), (0.033, 0.02), (0.022, 0.06), (0.018, 0.08), (0.006, 0.085), (0.004, 0.17), (0, 0.17)], 12)
    grip = tube(np.array([(-0.03, 0, -0.01), (-0.045, 0, -0.07), (-0.055, 0, -0.13)]), [0.022, 0.02, 0.021], 9, flat=0.75)
    battery = shift(box((0.11, 0.07, 0.05), 0.008), -0.05, 0, -0.155)
    colour = vivid(rng)
    lift = 0.18
    return ([(shift(join([body, grip]), 0, 0, lift), plastic(rng, colour)), (shift(battery, 0, 0, lift), plastic(rng, (0.06, 0.06, 0.06)))],
            [bar((-0.045, 0, lift - 0.075), np.array([0.13, 0, 1.0]) / 1.008, 0.005, -X, 0.3)], [], "upright", ("drill with", "hold"))


def brush(rng, draw):
    handle, wide, depth = rng.uniform(0.1, 0.2), rng.uniform(0.02, 0.09), rng.uniform(0.03, 0.06)
    grip = tube(np.array([(-handle, 0, 0), (-handle * 0.5, 0, 0), (0, 0, 0)]), [0.007, 0.011, 0.009], 8, flat=0.7)
    ferrule = shift(box((0.03, wide, 0.014)), 0.012, 0, 0)
    bristle = shift(box((depth, wide, 0.011), 0.003), 0.027 + depth / 2, 0, 0)
    return ([(grip, timber(rng, draw) if rng.random() < 0.5 else plastic(rng)), (ferrule, steel(rng, draw)),
             (bristle, surface(rng, draw, "carpet", tint=hue(rng), scale=0.3))],
            [bar((-handle * 0.45, 0, 0), X, 0.015), rim((-handle * 0.25, 0, 0), Z, -X, "pinch", 0.6)], [], "any", ("paint with", "clean with", "hold"))


def pen(rng, draw):
    length = rng.uniform(0.12, 0.18)
    mesh = lying([(0, -length * 0.65), (0.0045, -length * 0.64), (0.0045, length * 0.27), (0.0008, length * 0.35)], 8)
    return [(mesh, plastic(rng))], [rim((length * 0.12, 0, 0), Z, -X, "pinch", 0.7)], [], "any", ("write with", "hold")


def pencil(rng, draw):
    return pen(rng, draw)


def scissors(rng, draw):
    length = rng.uniform(0.13, 0.22)
    t = np.linspace(0, 2 * np.pi, 13)
    loops = [shift(tube(np.stack([0.022 * np.cos(t), 0.014 * np.sin(t), 0 * t], 1), 0.004, 6), -length * 0.38, s * 0.022, 0) for s in (-1, 1)]
    blades = [tube(np.array([(-length * 0.25, s * 0.014, 0), (0, 0, 0), (length * 0.5, -s * 0.004, 0)]), [0.005, 0.007, 0.001], 6, flat=0.25) for s in (-1, 1)]
    return [(join(loops), plastic(rng)), (join(blades), steel(rng, draw))], [bar((-length * 0.34, 0, 0), X, 0.0, Z, 0.5)], [], "any", ("cut with", "hold")


def trowel(rng, draw):
    handle, blade, wide = rng.uniform(0.1, 0.13), rng.uniform(0.12, 0.22), rng.uniform(0.06, 0.11)
    grip = lying([(0, -handle), (0.014, -handle), (0.015, -handle * 0.5), (0.011, 0), (0, 0)], 9)
    neck = tube(np.array([(0, 0, 0), (0.04, 0, -0.012), (0.07, 0, -0.02)]), 0.005, 6)
    x = np.linspace(0.05, 0.05 + blade, 6)
    half = wide / 2 * np.array([0.8, 1, 0.95, 0.8, 0.5, 0.08])
    metal = sheet(np.stack([np.stack([x, -half, np.full(6, -0.022)], 1), np.stack([x, half, np.full(6, -0.022)], 1)]), thickness=0.003)
    return [(grip, timber(rng, draw) if rng.random() < 0.6 else plastic(rng)), (join([neck, metal]), steel(rng, draw))], [bar((-handle * 0.5, 0, 0), X, 0.01)], [], "any", ("spread with", "dig with", "hold")


def saw(rng, draw):
    blade, wide = rng.uniform(0.3, 0.5), rng.uniform(0.06, 0.11)
    t = np.linspace(0, 1, 6)
    metal = sheet(np.stack([np.stack([t * blade, np.full(6, -wide / 2), 0 * t], 1), np.stack([t * blade, -wide / 2 + wide * (1 - 0.6 * t), 0 * t], 1)]), thickness=0.002)
    a = np.linspace(0, 2 * np.pi, 13)
    grip = shift(tube(np.stack([0.035 * np.cos(a), 0.055 * np.sin(a), 0 * a], 1), 0.012, 7, flat=0.8), -0.04, 0, 0)
    return [(metal, steel(rng, draw)), (grip, plastic(rng) if rng.random() < 0.5 else timber(rng, draw))], [bar((-0.073, 0, 0), Y, 0.0, -X, 0.3)], [], "any", ("saw with", "hold")


def _long_tool(rng, draw, head, look, thick=(0.011, 0.016)):
    length = rng.uniform(0.9, 1.4)
    r = rng.uniform(*thick)
    shaft = tube(np.stack([np.linspace(-length * 0.7, length * 0.3, 22), np.zeros(22), np.zeros(22)], 1), r, 9)
    handle = timber(rng, draw) if rng.random() < 0.5 else plastic(rng)
    parts = [(shaft, handle), (shift(head, length * 0.3, 0, 0), look)]
    return parts, [bar((-length * 0.55, 0, 0), X, 0.08), bar((-length * 0.2, 0, 0), X, 0.08)], [(0, 1), (1, 0)], "any"


def broom(rng, draw):
    wide = rng.uniform(0.2, 0.4)
    head = join([box((0.04, wide, 0.04), 0.005), shift(box((0.09, wide * 1.05, 0.045), 0.005), 0.06, 0, 0)])
    return *_long_tool(rng, draw, head, surface(rng, draw, "carpet", tint=vivid(rng), scale=0.3)), ("sweep with", "hold")


def mop(rng, draw):
    head = lumpy(shift(sphere((0.09, 0.16, 0.04), 10, 16), 0.05, 0, 0), rng, 0.02, 6, 5)
    return *_long_tool(rng, draw, head, surface(rng, draw, "carpet", tint=hue(rng, 0.5), scale=0.3)), ("mop with", "hold")


def shovel(rng, draw):
    x = np.linspace(0, rng.uniform(0.22, 0.32), 7)
    half = rng.uniform(0.1, 0.13) * np.array([0.7, 1, 1, 1, 0.95, 0.7, 0.1])
    y = np.linspace(-1, 1, 7)
    grid = np.stack([np.stack([x, half * s, 0.03 * s * s + 0 * x], 1) for s in y])
    return *_long_tool(rng, draw, sheet(grid, thickness=0.003), steel(rng, draw)), ("dig with", "hold")


def rake(rng, draw):
    teeth = [shift(box((0.02, 0.006, 0.07)), 0, y, -0.03) for y in np.linspace(-0.18, 0.18, 11)]
    return *_long_tool(rng, draw, join([box((0.02, 0.4, 0.02)), *teeth]), steel(rng, draw)), ("rake with", "hold")


def stick(rng, draw):
    length = rng.uniform(0.25, 1.3)
    t = np.linspace(-0.5, 0.5, 10)
    r = rng.uniform(0.005, 0.018)
    bow = np.cumsum(rng.normal(size=(10, 2)) * 0.006, 0)
    mesh = tube(np.stack([t * length, bow[:, 0], bow[:, 1]], 1), r * np.linspace(1.1, 0.7, 10), 7)
    return [(mesh, surface(rng, draw, "wood", "soil", scale=0.3))], [bar((-length * 0.3, 0, bow[2, 1]), X, 0.05), bar((length * 0.15, bow[6, 0], bow[6, 1]), X, 0.05)], [(0, 1)], "any", ("hold", "move")


def pipe(rng, draw):
    length, r = rng.uniform(0.25, 1.4), rng.uniform(0.008, 0.03)
    mesh = tube(np.stack([np.linspace(-length / 2, length / 2, 20), np.zeros(20), np.zeros(20)], 1), r, 12)
    return [(mesh, steel(rng, draw) if rng.random() < 0.5 else plastic(rng))], [bar((-length * 0.28, 0, 0), X, 0.05), bar((length * 0.28, 0, 0), X, 0.05)], [(0, 1)], "any", ("hold", "carry")


def rope(rng, draw):
    length, r = rng.uniform(0.4, 1.2), rng.uniform(0.004, 0.013)
    t = np.linspace(-0.5, 0.5, 26)
    sag = rng.uniform(0.02, 0.15)
    path = np.stack([t * length, 0.06 * np.sin(t * rng.uniform(6, 16)), sag * (4 * t**2) + 0.02 * np.sin(t * 19)], 1)
    mesh = tube(path, r, 7)
    look = surface(rng, draw, "cloth", "carpet", scale=0.15) if rng.random() < 0.6 else plastic(rng)
    k = int(rng.integers(3, 9))
    direction = path[k + 1] - path[k - 1]
    other = path[-k] - path[-k - 2]
    return [(mesh, look)], [bar(path[k], direction / np.linalg.norm(direction), 0.0), bar(path[-k - 1], other / np.linalg.norm(other), 0.0)], [(0, 1)], "any", ("pull", "hold")


def cable(rng, draw):
    return rope(rng, lambda r, *k: draw(r, "metal"))


# ----------------------------------------------------------------------------------------------------------- flat and soft


def plank(rng, draw):
    length, wide, thick = rng.uniform(0.3, 1.5), rng.uniform(0.05, 0.2), rng.uniform(0.012, 0.045)
    mesh = shift(box((length, wide, thick), 0.002), 0, 0, thick / 2)
    near = [rim((x, -wide / 2, thick / 2), Z, -Y, swing=0.5) for x in (-length * 0.25, length * 0.25)]
    ends = [rim((s * length / 2, 0, thick / 2), Z, X * s, swing=0.5) for s in (-1, 1)]
    tops = [palm((x, 0, thick), Z) for x in (-length * 0.2, length * 0.2)]
    return [(mesh, surface(rng, draw, "wood", scale=0.7))], [*near, *ends, *tops], [(0, 1), (2, 3), (0, 5), (4, 5)], "flat", ("carry", "hold", "place")


def beam(rng, draw):
    length, wide = rng.uniform(0.4, 1.5), rng.uniform(0.03, 0.075)
    mesh = shift(box((length, wide, wide), 0.002), 0, 0, wide / 2)
    return [(mesh, surface(rng, draw, "wood", scale=0.7))], [bar((-length * 0.2, 0, wide / 2), X, 0.1, Z, 1.6), bar((length * 0.2, 0, wide / 2), X, 0.1, Z, 1.6)], [(0, 1)], "flat", ("carry", "hold")


def brick(rng, draw):
    l, w, h = rng.uniform(0.17, 0.25), rng.uniform(0.085, 0.12), rng.uniform(0.05, 0.08)
    tint = [(0.68, 0.34, 0.24), (0.6, 0.58, 0.55), (0.75, 0.5, 0.36)][rng.integers(3)]
    mesh = lumpy(shift(box((l, w, h), 0.004), 0, 0, h / 2), rng, 0.002, 4, 6)
    return ([(mesh, surface(rng, draw, "concrete", "soil", tint=np.array(tint) * 1.4, scale=0.4))],
            [bar((0, 0, h / 2), X, l * 0.2, Z, 0.5), *sides((-l / 2, -w / 2, 0), (l / 2, w / 2, h)), palm((0, 0, h), Z)], [(1, 2)], "flat", ("carry", "lay", "hold"))


def stone(rng, draw):
    r = rng.uniform(0.03, 0.09)
    mesh = lumpy(sphere(r * rng.uniform(0.7, 1.2, 3), 12, 18), rng, r * 0.2, 6, 1.2)
    mesh = shift(mesh, 0, 0, -mesh.vertices[:, 2].min())
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    sites = [bar((low + high) / 2, X, 0.0), palm((0, 0, high[2]), Z)] if r < 0.05 else [*sides(low, high), palm((0, 0, high[2]), Z)]
    return [(mesh, surface(rng, draw, "stone", "concrete", "soil", scale=0.3))], sites, [(0, 1)] if r >= 0.05 else [], "any", ("carry", "hold")


def paper(rng, draw):
    w, d = rng.uniform(0.1, 0.3), rng.uniform(0.1, 0.42)
    u, v = np.meshgrid(np.linspace(-0.5, 0.5, 9), np.linspace(-0.5, 0.5, 9))
    bend = rng.uniform(-0.05, 0.05) * u**2 * 4 + rng.uniform(-0.03, 0.03) * v**2 * 4 + 0.008 * np.sin(u * 7 + v * 5)
    mesh = sheet(np.stack([u * w, v * d, bend], -1), thickness=0.0008)
    z = lambda a, b: float(bend[int((b + 0.5) * 8), int((a + 0.5) * 8)])
    sites = [rim((-w / 2, 0, z(-0.5, 0)), Z, -X), rim((w / 2, 0, z(0.5, 0)), Z, X), rim((0, -d / 2, z(0, -0.5)), Z, -Y), palm((0, 0, z(0, 0)), Z)]
    tint = np.ones(3) * rng.uniform(0.8, 1.05)
    return [(mesh, surface(rng, draw, "printed", "plaster", tint=tint))], sites, [(0, 1), (3, 1)], "flat", ("read", "hold", "fold", "write on")


def card(rng, draw):
    w, d = rng.uniform(0.055, 0.09), rng.uniform(0.08, 0.13)
    mesh = shift(box((w, d, 0.001)), 0, 0, 0.001)
    return [(mesh, surface(rng, draw, "printed", scale=0.5))], [rim((0, -d / 2, 0.001), Z, -Y, "pinch", 0.7), rim((-w / 2, 0, 0.001), Z, -X, "pinch", 0.7)], [], "flat", ("hold", "read")


def book(rng, draw):
    w, d, h = rng.uniform(0.11, 0.22), rng.uniform(0.15, 0.3), rng.uniform(0.008, 0.045)
    pages = shift(box((w * 0.97, d * 0.97, h * 0.8)), 0, 0, h / 2)
    covers = join([shift(box((w, d, 0.002)), 0, 0, z) for z in (0.001, h - 0.001)] + [shift(box((0.002, d, h)), -w / 2, 0, h / 2)])
    return ([(pages, Material(None, 0, (0.92, 0.9, 0.83))), (covers, surface(rng, draw, "printed", "cloth", scale=1.2))],
            [*flat_edges((-w / 2, -d / 2, h / 2), (w / 2, d / 2, h / 2)), palm((0, 0, h), Z)], [(0, 1)], "flat", ("read", "hold"))


def phone(rng, draw):
    w, d = rng.uniform(0.065, 0.08), rng.uniform(0.13, 0.165)
    body = shift(box((w, d, 0.008), 0.003), 0, 0, 0.004)
    screen = shift(box((w * 0.93, d * 0.93, 0.0006)), 0, 0, 0.0083)
    lit = surface(rng, draw, "printed", scale=0.7, tint=np.ones(3) * 1.3, shine=0.6) if rng.random() < 0.6 else Material(None, 0, (0.02, 0.02, 0.03), rough=0.05, shine=1.0)
    return ([(body, plastic(rng, (0.05, 0.05, 0.06)) if rng.random() < 0.6 else plastic(rng)), (screen, lit)],
            [bar((0, -d * 0.15, 0.004), Y, 0.02, -Z, 0.25), rim((0, -d / 2, 0.004), Z, -Y), rim((-w / 2, 0, 0.004), Z, -X), rim((w / 2, 0, 0.004), Z, X)], [(2, 3)], "flat", ("use", "hold"))


def tablet(rng, draw):
    w, d = rng.uniform(0.15, 0.25), rng.uniform(0.12, 0.19)
    body = shift(box((w, d, 0.008), 0.003), 0, 0, 0.004)
    screen = shift(box((w * 0.9, d * 0.9, 0.0006)), 0, 0, 0.0083)
    return ([(body, plastic(rng, (0.05, 0.05, 0.06))), (screen, surface(rng, draw, "printed", tint=np.ones(3) * 1.2, shine=0.6))],
            [*flat_edges((-w / 2, -d / 2, 0.004), (w / 2, d / 2, 0.004)), palm((0, 0, 0.009), Z)], [(0, 1)], "flat", ("use", "hold"))


def remote_control(rng, draw):
    w, d, h = rng.uniform(0.038, 0.05), rng.uniform(0.14, 0.21), rng.uniform(0.014, 0.024)
    body = shift(box((d, w, h), 0.004), 0, 0, h / 2)
    keys = [shift(box((0.009, 0.009, 0.003)), x, y, h) for x in np.linspace(-d * 0.35, d * 0.4, 8) for y in (-w * 0.28, 0, w * 0.28)]
    return [(body, plastic(rng, (0.07, 0.07, 0.08))), (join(keys), plastic(rng))], [bar((-d * 0.2, 0, h / 2), X, 0.02, -Z, 0.4)], [], "flat", ("use", "hold")


def keyboard(rng, draw):
    w, d = rng.uniform(0.28, 0.45), rng.uniform(0.11, 0.16)
    keys = [shift(box((w / 17, d / 7, 0.006), 0.001), (i - 7) * w / 15, (j - 2) * d / 5.6, 0.018) for i in range(15) for j in range(5)]
    dark = rng.random() < 0.6
    tone = (0.06, 0.06, 0.07) if dark else (0.85, 0.85, 0.85)
    return ([(shift(box((w, d, 0.016), 0.003), 0, 0, 0.008), plastic(rng, tone)), (join(keys), plastic(rng, tone if rng.random() < 0.5 else (0.5, 0.5, 0.5)))],
            [palm((-w * 0.22, -d * 0.1, 0.021), Z), palm((w * 0.22, -d * 0.1, 0.021), Z)], [(0, 1)], "flat", ("type on", "use"))


def laptop(rng, draw):
    w, d = rng.uniform(0.28, 0.38), rng.uniform(0.2, 0.26)
    tone = plastic(rng, (0.1, 0.1, 0.11) if rng.random() < 0.5 else (0.6, 0.61, 0.63))
    keys = [shift(box((w / 18, d / 10, 0.003)), (i - 6.5) * w / 15.5, (j - 1) * d / 8, 0.0175) for i in range(14) for j in range(4)]
    tilt = rng.uniform(1.6, 2.1)
    lid = spin(shift(box((w, d, 0.006)), 0, d / 2, 0), X, tilt)
    screen = spin(shift(box((w * 0.93, d * 0.9, 0.001)), 0, d / 2, 0.0035), X, tilt)
    place = lambda m: shift(m, 0, d / 2, 0.016)
    # The lid turns about the hinge at the far edge; its inner face looks at the user.
    return ([(join([shift(box((w, d, 0.014), 0.003), 0, 0, 0.008), place(lid)]), tone), (join(keys), plastic(rng, (0.05, 0.05, 0.05))),
             (place(screen), surface(rng, draw, "printed", tint=np.ones(3) * 1.2, shine=0.4))],
            [palm((-w * 0.2, -d * 0.05, 0.019), Z), palm((w * 0.2, -d * 0.05, 0.019), Z)], [(0, 1)], "flat", ("type on", "use"))


def cutting_board(rng, draw):
    w, d, h = rng.uniform(0.22, 0.42), rng.uniform(0.15, 0.3), rng.uniform(0.008, 0.03)
    look = timber(rng, draw) if rng.random() < 0.6 else plastic(rng)
    return [(shift(box((w, d, h), 0.003), 0, 0, h / 2), look)], [*flat_edges((-w / 2, -d / 2, h / 2), (w / 2, d / 2, h / 2)), palm((0, 0, h), Z)], [(0, 1)], "flat", ("hold", "wash", "carry")


def sponge(rng, draw):
    w, d, h = rng.uniform(0.08, 0.12), rng.uniform(0.055, 0.08), rng.uniform(0.025, 0.045)
    parts = [(shift(box((w, d, h * 0.75), 0.005), 0, 0, h * 0.37), surface(rng, draw, "stone", "sand", tint=np.array(vivid(rng)) * 1.5, scale=0.1)),
             (shift(box((w, d, h * 0.25), 0.002), 0, 0, h * 0.87), surface(rng, draw, "carpet", tint=vivid(rng), scale=0.2))]
    return parts, [bar((0, 0, h / 2), X, 0.01, Z, 0.4), palm((0, 0, h), Z)], [], "flat", ("wipe with", "squeeze", "hold")


def _cloth(rng, draw, w, d, crumple):
    u, v = np.meshgrid(np.linspace(-0.5, 0.5, 22), np.linspace(-0.5, 0.5, 22))
    z = np.zeros_like(u)
    for _ in range(7):
        a, f = rng.uniform(0, 6.28), rng.uniform(3, 14)
        z += np.sin((u * np.cos(a) + v * np.sin(a)) * f * 2 + rng.uniform(0, 6)) / f
    z = np.abs(z) * crumple
    shrink = 1 - 0.12 * np.cos(u * 9 + v * 5 + rng.uniform(0, 6))
    mesh = sheet(np.stack([u * w * shrink, v * d * shrink, z + 0.004], -1), thickness=0.003)
    top = float(z[11, 11])
    sites = [rim((-w * 0.42, 0, float(z[11, 2])), Z, -X, "pinch", 0.8), rim((w * 0.42, 0, float(z[11, 19])), Z, X, "pinch", 0.8),
             palm((0, 0, top + 0.006), Z), rim((0, -d * 0.42, float(z[2, 11])), Z, -Y, "pinch", 0.8)]
    look = surface(rng, draw, "cloth", "cloth_plain", "carpet", tint=hue(rng, 0.4))
    return [(mesh, look)], sites, [(0, 1), (2, 1), (0, 2)], "flat"


def cloth(rng, draw):
    return *_cloth(rng, draw, rng.uniform(0.15, 0.35), rng.uniform(0.15, 0.35), rng.uniform(0.05, 0.16)), ("wipe with", "fold", "hold")


def towel(rng, draw):
    return *_cloth(rng, draw, rng.uniform(0.3, 0.55), rng.uniform(0.25, 0.5), rng.uniform(0.08, 0.25)), ("fold", "hold")


def shirt(rng, draw):
    parts, sites, pairs, pose = _cloth(rng, draw, rng.uniform(0.4, 0.6), rng.uniform(0.45, 0.65), rng.uniform(0.1, 0.3))
    sleeves = [_cloth(rng, draw, 0.2, 0.16, 0.12)[0][0][0] for _ in range(2)]
    extra = [(spin(m, Z, s * 0.5).moved(rigid(np.eye(3), (s * 0.3, 0.2, 0))), parts[0][1]) for m, s in zip(sleeves, (-1, 1), strict=True)]
    return parts + extra, sites, pairs, pose, ("fold", "hold", "iron")


def foil(rng, draw):
    parts, sites, pairs, pose = _cloth(rng, draw, rng.uniform(0.1, 0.3), rng.uniform(0.1, 0.25), rng.uniform(0.1, 0.3))
    return [(parts[0][0], steel(rng, draw))], sites, pairs, pose, ("fold", "hold")


def plastic_bag(rng, draw):
    parts, sites, pairs, pose = _cloth(rng, draw, rng.uniform(0.15, 0.35), rng.uniform(0.15, 0.35), rng.uniform(0.2, 0.4))
    return [(parts[0][0], Material(None, 0, hue(rng, 0.4), rough=0.15, shine=0.9, alpha=float(rng.choice([0.6, 1.0]))))], sites, pairs, pose, ("open", "hold")


# ------------------------------------------------------------------------------------------------------------- food, plants


def _fruit(rng, draw, radii, colours, lumps=0.03, shine=0.4, stem=True, verbs=("peel", "hold", "cut")):
    r = np.asarray(radii)
    mesh = lumpy(sphere(r, 11, 16), rng, float(r.min() * lumps), 4, 1)
    mesh = shift(mesh, 0, 0, -mesh.vertices[:, 2].min())
    colour = np.asarray(colours[rng.integers(len(colours))]) * rng.uniform(0.8, 1.15)
    parts = [(mesh, surface(rng, draw, "plaster", "stone" if rng.random() < 0.15 else "plaster", tint=np.clip(colour * 1.2, 0, 1.2), scale=0.15, shine=shine, rough=0.4))]
    if stem:
        parts.append((shift(tube(np.array([(0, 0, 0), (0.002, 0, 0.006), (0.004, 0, 0.013)]), 0.0015, 5), 0, 0, 2 * r[2] * 0.96), Material(None, 0, (0.25, 0.2, 0.08))))
    centre = (0, 0, float(r[2]))
    axis = np.eye(3)[int(np.argmax(r))]
    site = bar(centre, axis, 0.0) if r.max() > 1.25 * r.min() else bar(centre, Z, 0.0)
    tip = rim((0, 0, float(r[2]) * 1.0), Y, Z if r.max() < 0.045 else X, "pinch", 0.8)
    return parts, [site, tip] if r.min() < 0.022 else [site], [], "any", verbs


def apple(rng, draw):
    r = rng.uniform(0.03, 0.044)
    return _fruit(rng, draw, (r, r, r * 0.92), [(0.75, 0.12, 0.1), (0.5, 0.65, 0.15), (0.85, 0.65, 0.2)])


def orange(rng, draw):
    r = rng.uniform(0.03, 0.045)
    return _fruit(rng, draw, (r, r, r * 0.95), [(0.95, 0.5, 0.08)], stem=False)


def lemon(rng, draw):
    r = rng.uniform(0.024, 0.032)
    return _fruit(rng, draw, (r * 1.35, r, r), [(0.93, 0.82, 0.15), (0.45, 0.65, 0.15)], stem=False)


def tomato(rng, draw):
    r = rng.uniform(0.018, 0.042)
    return _fruit(rng, draw, (r, r, r * 0.85), [(0.8, 0.12, 0.06), (0.85, 0.35, 0.08)], shine=0.7)


def potato(rng, draw):
    r = rng.uniform(0.024, 0.04)
    return _fruit(rng, draw, (r * 1.4, r, r * 0.9), [(0.68, 0.5, 0.3), (0.6, 0.42, 0.24)], 0.12, 0.1, False)


def onion(rng, draw):
    r = rng.uniform(0.025, 0.042)
    return _fruit(rng, draw, (r, r, r), [(0.75, 0.5, 0.22), (0.5, 0.15, 0.25), (0.9, 0.88, 0.8)])


def garlic(rng, draw):
    r = rng.uniform(0.014, 0.026)
    return _fruit(rng, draw, (r, r, r * 0.9), [(0.9, 0.87, 0.82)], 0.08, 0.2)


def egg(rng, draw):
    r = rng.uniform(0.02, 0.024)
    return _fruit(rng, draw, (r * 1.3, r, r), [(0.9, 0.75, 0.6), (0.93, 0.92, 0.9)], 0.0, 0.2, False, ("crack", "hold"))


def carrot(rng, draw):
    length, r = rng.uniform(0.12, 0.22), rng.uniform(0.01, 0.02)
    mesh = lying([(0, -length / 2), (r, -length * 0.45), (r * 0.8, 0), (r * 0.2, length * 0.48), (0, length / 2)], 10)
    return [(mesh, Material(None, 0, (0.92, 0.45, 0.1), rough=0.6))], [bar((-length * 0.2, 0, 0), X, 0.02)], [], "any", ("peel", "cut", "hold")


def cucumber(rng, draw):
    length, r = rng.uniform(0.12, 0.3), rng.uniform(0.014, 0.03)
    t = np.linspace(-0.5, 0.5, 9)
    path = np.stack([t * length, 0.08 * length * t**2, 0 * t], 1)
    tint = [(0.2, 0.42, 0.12), (0.4, 0.55, 0.2)][rng.integers(2)]
    return [(tube(path, r * np.sqrt(np.clip(1 - (2 * t) ** 6, 0.02, 1)), 10), surface(rng, draw, "plaster", tint=np.array(tint) * 1.2, scale=0.1, shine=0.5))], [bar((0, 0, 0), X, length * 0.2)], [], "any", ("peel", "cut", "hold")


def banana(rng, draw):
    length, r = rng.uniform(0.15, 0.2), rng.uniform(0.013, 0.018)
    t = np.linspace(-0.5, 0.5, 11)
    path = np.stack([t * length, 0.2 * length * 4 * t**2, 0 * t], 1)
    return [(tube(path, r * np.clip(1.1 - (2 * np.abs(t)) ** 5, 0.25, 1), 7), Material(None, 0, (0.93, 0.78, 0.2), rough=0.5))], [bar((0, 0.005, 0), X, 0.02)], [], "any", ("peel", "eat", "hold")


def bread(rng, draw):
    size = np.array([rng.uniform(0.05, 0.14), rng.uniform(0.035, 0.055), rng.uniform(0.025, 0.045)])
    mesh = lumpy(sphere(size, 12, 18), rng, 0.005, 4, 1)
    return [(shift(mesh, 0, 0, size[2]), surface(rng, draw, "sand", "soil", tint=(1.1, 0.85, 0.6), scale=0.2))], [bar((0, 0, size[2]), X, 0.01, Z, 0.6)], [], "flat", ("eat", "cut", "hold")


def dough(rng, draw):
    r = rng.uniform(0.04, 0.11)
    mesh = lumpy(sphere((r, r * rng.uniform(0.7, 1), r * rng.uniform(0.2, 0.5)), 12, 18), rng, r * 0.08, 5, 1.3)
    mesh = shift(mesh, 0, 0, -mesh.vertices[:, 2].min())
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    return [(mesh, surface(rng, draw, "plaster", tint=(1.1, 1.0, 0.8), scale=0.3))], [*sides(low, high), palm((0, 0, high[2]), Z), palm((-r * 0.5, 0, high[2] * 0.85), Z)], [(0, 1), (3, 2)], "flat", ("knead", "shape", "hold")


def meat(rng, draw):
    parts, sites, pairs, pose, _ = dough(rng, draw)
    return [(parts[0][0], surface(rng, draw, "stone", "plaster", tint=(0.85, 0.35, 0.3), scale=0.2, shine=0.5))], sites, pairs, pose, ("cut", "hold")


def plant(rng, draw):
    leaves = []
    height = rng.uniform(0.12, 0.4)
    count = int(rng.integers(6, 22))
    for _ in range(count):
        long, wide = rng.uniform(0.04, 0.13), rng.uniform(0.012, 0.05)
        t = np.linspace(0, 1, 5)
        half = wide * np.sin(np.pi * np.clip(t * 0.9 + 0.08, 0, 1))
        z = -0.3 * long * t**2
        leaf = sheet(np.stack([np.stack([t * long, s * half, z + 0.1 * half], 1) for s in (-1, 0, 1)]), thickness=0.0006)
        leaf = spin(spin(leaf, Y, -rng.uniform(-0.3, 1.2)), Z, rng.uniform(0, 6.28))
        leaves.append(shift(leaf, 0, 0, rng.uniform(0.3, 1) * height))
    stem = tube(np.stack([0.01 * np.sin(np.linspace(0, 4, 7)), np.zeros(7), np.linspace(0, height, 7)], 1), rng.uniform(0.002, 0.005), 6)
    green = np.array([0.25, 0.5, 0.15]) * rng.uniform(0.6, 1.4) + rng.normal(size=3) * 0.05
    look = surface(rng, draw, "grass", tint=np.clip(green * 2, 0.2, 2), scale=0.2)
    return [(join(leaves), look), (stem, Material(None, 0, (0.3, 0.4, 0.15)))], [rim((0, 0, height * 0.12), Y, -Y, "pinch", 1.5), bar((0, 0, height * 0.15), Z, 0.01)], [], "any", ("pick", "hold", "trim")


# ------------------------------------------------------------------------------------------------------------------- other


def tape(rng, draw):
    r, w = rng.uniform(0.025, 0.06), rng.uniform(0.012, 0.05)
    inner = r * rng.uniform(0.6, 0.8)
    ring = lathe([(inner, 0), (r, 0), (r, w), (inner, w), (inner, 0)], 22)
    return [(ring, plastic(rng))], [bar((-(r + inner) / 2, 0, w / 2), Y, 0.0, -X, 0.6), rim((r, 0, w / 2), X, X, "pinch", 0.6)], [], "any", ("hold", "unroll")


def ball(rng, draw):
    r = rng.uniform(0.02, 0.12)
    mesh = shift(sphere((r, r, r), 14, 20), 0, 0, r)
    look = plastic(rng) if rng.random() < 0.5 else surface(rng, draw, "cloth", "carpet", scale=0.5)
    if r < 0.042:
        return [(mesh, look)], [bar((0, 0, r), Z)], [], "any", ("hold", "throw")
    return [(mesh, look)], [*sides((-r, -r, 0), (r, r, 2 * r)), palm((0, 0, 2 * r), Z)], [(0, 1)], "any", ("hold", "throw")


def lid(rng, draw):
    r = rng.uniform(0.03, 0.14)
    mesh = lathe([(r, 0), (r, 0.008), (r * 0.5, 0.015), (0.012, 0.02), (0.008, 0.03), (0.016, 0.042), (0, 0.045)], 26)
    return [(mesh, steel(rng, draw) if rng.random() < 0.5 else plastic(rng))], [rim((0, 0, 0.036), Y, Z, "pinch", 0.3), rim((-r, 0, 0.004), Z, -X)], [], "flat", ("lift", "hold")


def tile(rng, draw):
    w, d, h = rng.uniform(0.1, 0.4), rng.uniform(0.1, 0.4), rng.uniform(0.006, 0.014)
    return [(shift(box((w, d, h), 0.001), 0, 0, h / 2), surface(rng, draw, "stone", "tiles", "wood", shine=0.5))], [*flat_edges((-w / 2, -d / 2, h / 2), (w / 2, d / 2, h / 2)), palm((0, 0, h), Z)], [(0, 1), (4, 1)], "flat", ("lay", "hold", "place")


def block(rng, draw):
    size = rng.uniform(0.02, 0.09, 3)
    look = timber(rng, draw) if rng.random() < 0.5 else plastic(rng)
    return [(shift(box(size, 0.003), 0, 0, size[2] / 2), look)], [bar((0, 0, size[2] / 2), X, 0.0, Z, 0.3), palm((0, 0, size[2]), Z)], [], "flat", ("place", "hold")


def handle_tool(rng, draw):
    """A power tool or device with a thick body and a grip: named 'tool'."""
    body = box((rng.uniform(0.1, 0.25), rng.uniform(0.05, 0.1), rng.uniform(0.05, 0.1)), 0.012)
    half = np.ptp(body.vertices, axis=0) / 2
    grip = lying([(0, -0.13), (0.02, -0.13), (0.021, -0.06), (0.018, 0), (0, 0)], 10)
    nose = lying([(half[2] * 0.6, 0), (half[2] * 0.4, 0.06), (0, 0.06)], 10)
    colour = vivid(rng)
    parts = [(join([body]), plastic(rng, colour)), (shift(grip, -half[0], 0, 0), plastic(rng, (0.06, 0.06, 0.07))), (shift(nose, half[0], 0, 0), steel(rng, draw))]
    return parts, [bar((-half[0] - 0.065, 0, 0), X, 0.01), bar((0, 0, 0), X, 0.02, Z, 0.4)] if half[1] < 0.045 else [bar((-half[0] - 0.065, 0, 0), X, 0.01)], [], "any", ("use", "hold")


def iron(rng, draw):
    x = np.linspace(-0.11, 0.13, 8)
    half = 0.055 * np.array([0.85, 1, 1, 0.98, 0.9, 0.75, 0.5, 0.05])
    sole = join([sheet(np.stack([np.stack([x, -half * k, np.full(8, z)], 1), np.stack([x, half * k, np.full(8, z)], 1)]), thickness=0.01) for k, z in ((1, 0.006), (0.95, 0.02), (0.8, 0.045))])
    grip = tube(np.array([(-0.09, 0, 0.05), (-0.08, 0, 0.1), (0.02, 0, 0.115), (0.07, 0, 0.09), (0.08, 0, 0.05)]), [0.014, 0.014, 0.013, 0.012, 0.012], 8)
    return [(sole, plastic(rng)), (grip, plastic(rng))], [bar((-0.03, 0, 0.108), X, 0.015, Z, 0.4)], [], "upright", ("iron with", "hold")


def hose(rng, draw):
    return rope(rng, draw)


def candle(rng, draw):
    r, h = rng.uniform(0.012, 0.035), rng.uniform(0.05, 0.2)
    return [(lathe([(0, 0), (r, 0), (r, h), (0, h)], 14), Material(None, 0, hue(rng, 0.5), rough=0.4, soft=0.3))], [bar((0, 0, h / 2), Z, h * 0.2)], [], "upright", ("hold", "light")


def flower_pot(rng, draw):
    r, h = rng.uniform(0.05, 0.1), rng.uniform(0.07, 0.15)
    soil = lathe([(r * 0.9, h * 0.85), (0, h * 0.87)], 18)
    leaves, *_ = plant(rng, draw)
    return ([(_vessel(rng, r, h, r * 0.7), plastic(rng, (0.72, 0.38, 0.25)) if rng.random() < 0.6 else plastic(rng)), (soil, surface(rng, draw, "soil", scale=0.2)),
             *[(shift(m, 0, 0, h * 0.8), look) for m, look in leaves]], _round_rims(r, h), [(2, 3), (0, 1)], "upright", ("carry", "hold"))


def wheel(rng, draw):
    r, w = rng.uniform(0.1, 0.3), rng.uniform(0.03, 0.15)
    t = np.linspace(0, 2 * np.pi, 25)
    tyre = tube(np.stack([(r - w / 2) * np.cos(t), (r - w / 2) * np.sin(t), np.full(25, w / 2)], 1), w / 2, 10)
    hub = shift(lathe([(0, 0), (r - w * 0.9, 0), (r - w * 0.9, w * 0.5), (0, w * 0.6)], 20), 0, 0, w * 0.2)
    return [(tyre, surface(rng, draw, "carpet", tint=(0.25, 0.25, 0.26), scale=0.2)), (hub, steel(rng, draw))], [palm((-r, 0, w / 2), -X), palm((r, 0, w / 2), X), palm((0, -r + w / 2, w), Z)], [(0, 1)], "any", ("hold", "turn", "carry")


#: noun -> (function, how often it is held, relative)
NOUNS: dict[str, tuple[Callable, float]] = {
    "mug": (mug, 1.2), "cup": (cup, 1), "glass": (glass, 1), "bottle": (bottle, 1.6), "can": (can, 0.8), "jar": (jar, 1), "bowl": (bowl, 1.3),
    "plate": (plate, 1.2), "bucket": (bucket, 0.7), "pot": (pot, 1), "pan": (pan, 1.2), "basket": (basket, 0.8), "box": (cardboard_box, 1.5),
    "packet": (packet, 1), "bag": (bag, 1), "tray": (tray, 0.8), "knife": (knife, 1.8), "spoon": (spoon, 1.3), "spatula": (spatula, 0.9),
    "hammer": (hammer, 1), "screwdriver": (screwdriver, 1), "wrench": (wrench, 0.8), "pliers": (pliers, 0.7), "drill": (drill, 0.8), "brush": (brush, 1.2),
    "pen": (pen, 1), "pencil": (pencil, 0.5), "scissors": (scissors, 0.9), "trowel": (trowel, 1), "saw": (saw, 0.6), "broom": (broom, 0.8), "mop": (mop, 0.5),
    "shovel": (shovel, 0.7), "rake": (rake, 0.4), "stick": (stick, 1.2), "pipe": (pipe, 0.8), "rope": (rope, 1), "cable": (cable, 0.7), "plank": (plank, 1.8),
    "beam": (beam, 0.8), "brick": (brick, 1.5), "stone": (stone, 0.8), "paper": (paper, 1.5), "card": (card, 1), "book": (book, 1.2), "phone": (phone, 1.5),
    "tablet": (tablet, 0.5), "remote control": (remote_control, 0.7), "keyboard": (keyboard, 0.5), "laptop": (laptop, 0.6), "cutting board": (cutting_board, 0.6),
    "sponge": (sponge, 0.9), "cloth": (cloth, 1.6), "towel": (towel, 0.9), "shirt": (shirt, 0.9), "foil": (foil, 0.4), "plastic bag": (plastic_bag, 0.8),
    "apple": (apple, 0.5), "orange": (orange, 0.4), "lemon": (lemon, 0.4), "tomato": (tomato, 0.5), "potato": (potato, 0.5), "onion": (onion, 0.5),
    "garlic": (garlic, 0.4), "egg": (egg, 0.5), "carrot": (carrot, 0.5), "cucumber": (cucumber, 0.5), "banana": (banana, 0.4), "bread": (bread, 0.6),
    "dough": (dough, 0.9), "meat": (meat, 0.6), "plant": (plant, 1.2), "tape": (tape, 0.6), "ball": (ball, 0.6), "lid": (lid, 0.7), "tile": (tile, 0.7),
    "block": (block, 0.8), "tool": (handle_tool, 1), "iron": (iron, 0.5), "hose": (hose, 0.5), "candle": (candle, 0.3), "flower pot": (flower_pot, 0.5), "wheel": (wheel, 0.7),
}
VARIANTS = 48


def variant_split(variant: int) -> str:
    """Every eighth variant of a noun is held out."""
    return "test" if variant % 8 == 7 else "train"


def build(name: str, variant: int, draw: Draw) -> ObjectModel:
    """The object `name` with shape and looks of its variant number; `draw(rng, *kinds)` picks textures."""
    index = list(NOUNS).index(name)
    rng = np.random.default_rng([4711, index, variant])
    parts, sites, pairs, pose, verbs = NOUNS[name][0](rng, draw)
    return finish(name, f"procedural/{name}/{variant}", parts, sites, pairs, pose, verbs)
