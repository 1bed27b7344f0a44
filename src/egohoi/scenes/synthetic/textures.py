"""Tileable surface textures computed with numpy: wood, planks, tiles, grass, soil, cloth and more.

Every function returns uint8 [S, S, 3]. Grey-level textures are multiplied with a colour by the renderer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIZE = 256


@dataclass(frozen=True)
class Texture:
    """image: uint8 [S, S, 3 or 4]; metres: edge length of one tile on a surface; kind: the group it is drawn from."""

    name: str
    kind: str
    image: np.ndarray
    metres: float


def noise(rng: np.random.Generator, power: float = 1.5, stretch: tuple[float, float] = (1.0, 1.0), size: int = SIZE) -> np.ndarray:
    """Tileable noise [S, S], zero mean and unit deviation, with amplitude falling as frequency ** -power."""
    fy = np.fft.fftfreq(size)[:, None] * size * stretch[1]
    fx = np.fft.rfftfreq(size)[None] * size * stretch[0]
    radius = np.hypot(fy, fx)
    radius[0, 0] = np.inf
    spectrum = radius**-power * np.exp(2j * np.pi * rng.random(radius.shape))
    field = np.fft.irfft2(spectrum, s=(size, size))
    return (field - field.mean()) / max(field.std(), 1e-9)


def _cells(rng, count: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Tileable Voronoi pattern: distance to the border [S, S] (in pixels, roughly) and cell number [S, S]."""
    from scipy.spatial import cKDTree

    points = rng.random((count, 2)) * size
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1).reshape(-1, 2) + 0.5
    distance, index = cKDTree(points, boxsize=size).query(grid, k=2)
    return (distance[:, 1] - distance[:, 0]).reshape(size, size), index[:, 0].reshape(size, size)


def _image(base: np.ndarray) -> np.ndarray:
    if base.ndim == 2:
        base = np.repeat(base[..., None], 3, -1)
    return (np.clip(base, 0, 1) * 255).astype(np.uint8)


def _mix(a, b, t) -> np.ndarray:
    return np.asarray(a, float) * (1 - t[..., None]) + np.asarray(b, float) * t[..., None]


def _jitter(rng, colour, amount=0.08) -> np.ndarray:
    return np.clip(np.asarray(colour, float) * rng.uniform(1 - amount, 1 + amount) + rng.normal(size=3) * amount * 0.3, 0, 1)


WOODS = [(0.78, 0.58, 0.38), (0.55, 0.36, 0.2), (0.36, 0.22, 0.13), (0.85, 0.7, 0.5), (0.62, 0.5, 0.4), (0.7, 0.42, 0.25), (0.5, 0.47, 0.43)]


def wood(rng, planks: int = 0) -> np.ndarray:
    light = _jitter(rng, WOODS[rng.integers(len(WOODS))])
    dark = light * rng.uniform(0.45, 0.75)
    v = np.linspace(0, 1, SIZE, endpoint=False)[:, None]
    warp = noise(rng, 2.2, (3, 1)) * 0.03
    rings = np.sin(2 * np.pi * (rng.integers(4, 14) * (v + warp))) * 0.5 + 0.5
    grain = noise(rng, 0.9, (12, 1)) * 0.18
    image = _mix(light, dark, np.clip(rings * rng.uniform(0.2, 0.7) + grain + 0.2, 0, 1))
    if planks:
        rows = np.arange(SIZE) * planks // SIZE
        tone = rng.uniform(0.75, 1.12, planks)[rows][:, None, None]
        image = np.stack([np.roll(image[i], int(rows[i] * 71 + rng.integers(1)), 0) for i in range(SIZE)]) * tone
        gap = (np.arange(SIZE) % (SIZE // planks)) < 2
        image[gap] *= 0.35
        for row in range(planks):
            x = rng.integers(SIZE)
            image[rows == row, x : x + 2] *= 0.4
    return _image(image)


def tiles(rng, brick: bool = False) -> np.ndarray:
    n = int(rng.choice([2, 3, 4, 6, 8]))
    columns, rows = (max(2, n // 2), n) if brick else (n, n)
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    row = y * rows // SIZE
    shift = (row % 2) * (SIZE // columns // 2) if brick else 0
    xs = (x + shift) % SIZE
    column = xs * columns // SIZE
    edge = np.minimum(np.minimum(y % (SIZE / rows), SIZE / rows - y % (SIZE / rows)),
                      np.minimum(xs % (SIZE / columns), SIZE / columns - xs % (SIZE / columns)))
    if brick:
        base = _jitter(rng, [(0.62, 0.3, 0.2), (0.7, 0.4, 0.28), (0.75, 0.7, 0.62), (0.5, 0.3, 0.24)][rng.integers(4)], 0.15)
    else:
        base = rng.uniform(0.3, 0.95) * (1 + rng.normal(size=3) * rng.choice([0.03, 0.25]))
    tone = rng.uniform(1 - rng.uniform(0, 0.35), 1.05, (rows, columns))[row, column]
    if not brick and rng.random() < 0.3:
        tone = tone * np.where((row + column) % 2, rng.uniform(0.2, 0.8), 1)
    image = base * (tone + noise(rng, 1.2) * rng.uniform(0.01, 0.09))[..., None]
    joint = np.clip(edge / rng.uniform(1.5, 4) - 0.3, 0, 1)
    grout = np.full(3, rng.uniform(0.25, 0.9))
    return _image(grout * (1 - joint[..., None]) + image * joint[..., None])


def ground(rng, kind: str) -> np.ndarray:
    palettes = {
        "grass": [((0.2, 0.3, 0.08), (0.5, 0.62, 0.25)), ((0.3, 0.33, 0.14), (0.62, 0.6, 0.35)), ((0.12, 0.26, 0.07), (0.4, 0.6, 0.2))],
        "soil": [((0.25, 0.17, 0.11), (0.55, 0.4, 0.28)), ((0.45, 0.24, 0.14), (0.75, 0.48, 0.3)), ((0.3, 0.27, 0.22), (0.66, 0.6, 0.5))],
        "gravel": [((0.3, 0.3, 0.3), (0.75, 0.73, 0.7)), ((0.4, 0.33, 0.28), (0.8, 0.7, 0.6))],
        "concrete": [((0.45, 0.45, 0.44), (0.7, 0.69, 0.67)), ((0.55, 0.5, 0.45), (0.78, 0.74, 0.68))],
        "sand": [((0.6, 0.48, 0.33), (0.88, 0.77, 0.58))],
    }
    dark, light = (np.array(c) for c in palettes[kind][rng.integers(len(palettes[kind]))])
    if kind == "gravel":
        border, cell = _cells(rng, int(rng.integers(150, 900)))
        tone = rng.random(cell.max() + 1)[cell] * 0.8 + noise(rng, 1.0) * 0.08
        return _image(_mix(dark, light, np.clip(tone, 0, 1)) * np.clip(border / 3 + 0.35, 0, 1)[..., None])
    power = {"grass": 0.55, "soil": 1.0, "concrete": 1.3, "sand": 0.8}[kind]
    t = 0.5 + 0.2 * noise(rng, power) + 0.12 * noise(rng, 1.9)
    if kind == "grass":
        t = t + 0.12 * noise(rng, 0.5, (1, 4)) + 0.1 * noise(rng, 0.5, (4, 1))
    image = _mix(dark, light, np.clip(t, 0, 1))
    if kind in ("soil", "grass") and rng.random() < 0.7:  # leaves, stones, chips
        border, cell = _cells(rng, int(rng.integers(60, 400)))
        chosen = rng.random(cell.max() + 1) < rng.uniform(0.05, 0.3)
        tint = rng.uniform(0.25, 0.9, (cell.max() + 1, 1)) * np.array([1.0, 0.85, 0.6]) * (1 + rng.normal(size=(cell.max() + 1, 3)) * 0.1)
        mask = (chosen[cell] & (border > rng.uniform(2, 5)))[..., None]
        image = np.where(mask, tint[cell], image)
    return _image(image)


def stone(rng, polished: bool) -> np.ndarray:
    base = _jitter(rng, np.full(3, rng.uniform(0.15, 0.9)), 0.1)
    if polished and rng.random() < 0.5:  # marble veins
        vein = np.exp(-np.abs(noise(rng, 1.6)) * rng.uniform(6, 14))
        return _image(_mix(base, base * rng.uniform(0.3, 0.7), vein * 0.8) + noise(rng, 2)[..., None] * 0.02)
    speck = noise(rng, rng.uniform(0.2, 0.9))
    return _image(base * (1 + rng.uniform(0.08, 0.35) * speck[..., None]) + noise(rng, 0.3)[..., None] * 0.04)


def plaster(rng) -> np.ndarray:
    return _image(0.82 + 0.05 * noise(rng, rng.uniform(0.6, 1.6)) + 0.04 * noise(rng, 2.2))


def cloth(rng, pattern: str) -> np.ndarray:
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    weave = 0.06 * np.sin(2 * np.pi * x * 64) * np.sin(2 * np.pi * y * 64) + 0.04 * noise(rng, 0.3) + 0.05 * noise(rng, 2)
    a, b, c = (rng.random(3) * rng.uniform(0.3, 1) for _ in range(3))
    image = np.ones((SIZE, SIZE, 3)) * 0.85
    if pattern == "stripes":
        n = int(rng.integers(3, 20))
        image = np.where((np.floor(y * n * 2) % 2 == 0)[..., None], a, b)
    elif pattern == "plaid":
        n = int(rng.integers(2, 10))
        first, second = (np.floor(x * n * 2) % 2), (np.floor(y * n * 2) % 2)
        image = (first + second)[..., None] / 2 * a + (1 - (first + second)[..., None] / 2) * b
    elif pattern == "dots":
        border, cell = _cells(rng, int(rng.integers(20, 120)))
        image = np.where((border > rng.uniform(6, 14))[..., None], a, b)
    elif pattern == "flowers":
        border, cell = _cells(rng, int(rng.integers(30, 200)))
        palette = np.stack([a, b, c, a * 0.5, np.ones(3) * 0.9])
        image = palette[rng.integers(5, size=cell.max() + 1)[cell]]
    return _image(image * (1 + weave[..., None] * 1.5))


def carpet(rng) -> np.ndarray:
    base = _jitter(rng, rng.uniform(0.2, 0.7, 3) * 0.5 + rng.uniform(0.1, 0.5), 0.1)
    return _image(base * (1 + 0.18 * noise(rng, 0.25)[..., None] + 0.08 * noise(rng, 1.6)[..., None]))


def metal(rng) -> np.ndarray:
    image = 0.72 + 0.05 * noise(rng, 0.5, (20, 1)) + 0.04 * noise(rng, 2)
    if rng.random() < 0.3:
        rust = np.clip(noise(rng, 1.5) - rng.uniform(0, 1), 0, 1)
        return _image(_mix(np.ones(3) * 0.72, (0.45, 0.25, 0.13), np.clip(rust, 0, 1)) + 0.04 * noise(rng, 0.5)[..., None])
    return _image(image)


def printed(rng) -> np.ndarray:
    """Something like a printed page or packet: blocks of colour, lines of 'text', pictures."""
    ground_colour = np.ones(3) * rng.uniform(0.8, 1) if rng.random() < 0.5 else rng.random(3)
    image = np.ones((SIZE, SIZE, 3)) * ground_colour
    for _ in range(rng.integers(1, 6)):
        x, y = rng.integers(0, SIZE - 40, 2)
        w, h = rng.integers(20, 150, 2)
        patch = rng.random(3) * np.ones((SIZE, SIZE, 3)) + noise(rng, 1.7)[..., None] * rng.choice([0, 0.25])
        image[y : y + h, x : x + w] = patch[y : y + h, x : x + w]
    ink = rng.random(3) * 0.3 if ground_colour.mean() > 0.5 else 1 - rng.random(3) * 0.3
    y = int(rng.integers(5, 60))
    while y < SIZE - 12:
        height = int(rng.choice([3, 4, 5, 9, 16], p=[0.3, 0.3, 0.2, 0.12, 0.08]))
        x = int(rng.integers(5, 40))
        while x < SIZE - 15:
            word = int(rng.integers(4, 30))
            letters = rng.random((height, word)) < 0.55
            image[y : y + height, x : x + word][letters[: SIZE - y, : SIZE - x]] = ink
            x += word + 5
            if rng.random() < 0.08:
                break
        y += height + int(rng.integers(2, 14))
    return _image(image)


def skin(rng) -> np.ndarray:
    """Blotches, fine creases and pores; mean about 0.88."""
    border, _ = _cells(rng, 2500)
    crease = np.exp(-border / 1.2)
    return _image(0.9 + 0.045 * noise(rng, 1.6) + 0.03 * noise(rng, 0.6) - 0.10 * crease)


def library(seed: int = 0) -> list[Texture]:
    """The whole pool of procedural textures; the same for the same seed."""
    rng = np.random.default_rng(seed)
    pool: list[Texture] = []

    def add(kind, image, metres):
        pool.append(Texture(f"{kind}{len(pool)}", kind, image, float(metres)))

    for _ in range(14):
        add("wood", wood(rng), rng.uniform(0.4, 1.2))
    for _ in range(12):
        add("planks", wood(rng, int(rng.integers(2, 8))), rng.uniform(0.4, 1.2))
    for _ in range(14):
        add("tiles", tiles(rng), rng.uniform(0.3, 1.0))
    for _ in range(8):
        add("bricks", tiles(rng, True), rng.uniform(0.4, 0.9))
    for kind, count in (("grass", 10), ("soil", 12), ("gravel", 6), ("concrete", 8), ("sand", 2)):
        for _ in range(count):
            add(kind, ground(rng, kind), rng.uniform(0.4, 1.4))
    for _ in range(12):
        add("stone", stone(rng, rng.random() < 0.6), rng.uniform(0.3, 0.9))
    for _ in range(8):
        add("plaster", plaster(rng), rng.uniform(0.5, 1.5))
    for _ in range(10):
        add("carpet", carpet(rng), rng.uniform(0.15, 0.5))
    for pattern, count in (("plain", 8), ("stripes", 8), ("plaid", 8), ("dots", 5), ("flowers", 7)):
        for _ in range(count):
            add("cloth_plain" if pattern == "plain" else "cloth", cloth(rng, pattern), rng.uniform(0.08, 0.5))
    for _ in range(8):
        add("metal", metal(rng), rng.uniform(0.15, 0.4))
    for _ in range(28):
        add("printed", printed(rng), rng.uniform(0.1, 0.3))
    for _ in range(6):
        add("skin", skin(rng), rng.uniform(0.05, 0.09))
    return pool
