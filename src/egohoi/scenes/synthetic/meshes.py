"""Triangle meshes and the primitives from which procedural objects are made.

Lengths are metres. A mesh stores one normal, one texture coordinate and one colour per vertex; sharp edges repeat vertices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Mesh:
    """vertices float32 [N, 3], normals float32 [N, 3], uv float32 [N, 2], colour float32 [N, 3] (0-1), faces int32 [M, 3]."""

    vertices: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    colour: np.ndarray
    faces: np.ndarray

    def moved(self, matrix: np.ndarray) -> Mesh:
        """The mesh under a rigid or scaling matrix [4, 4] with a positive determinant."""
        linear = matrix[:3, :3]
        normals = self.normals @ np.linalg.inv(linear)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        vertices = self.vertices @ linear.T + matrix[:3, 3]
        return replace(self, vertices=vertices.astype(np.float32), normals=normals.astype(np.float32))

    def painted(self, colour) -> Mesh:
        """The mesh in one colour (three numbers 0-1)."""
        return replace(self, colour=np.tile(np.asarray(colour, np.float32), (len(self.vertices), 1)))


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals [N, 3] of vertices [N, 3]."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    normals = np.empty((len(vertices), 3))
    index = faces.T.ravel()
    for axis in range(3):  # bincount adds repeated indices far faster than ufunc.at
        normals[:, axis] = np.bincount(index, np.tile(face[:, axis], 3), minlength=len(vertices))
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return normals.astype(np.float32)


def make(vertices, faces, uv=None, colour=(1.0, 1.0, 1.0), normals=None) -> Mesh:
    """A mesh from plain arrays; normals and box-mapped uv are computed when absent."""
    vertices = np.asarray(vertices, np.float32)
    faces = np.asarray(faces, np.int32)
    if normals is None:
        normals = vertex_normals(vertices, faces)
    if uv is None:
        uv = box_uv(vertices, normals)
    colour = np.asarray(colour, np.float32)
    if colour.ndim == 1:
        colour = np.tile(colour, (len(vertices), 1))
    return Mesh(vertices, np.asarray(normals, np.float32), np.asarray(uv, np.float32), colour, faces)


def box_uv(vertices: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Texture coordinates in metres, projected along the largest component of each normal."""
    axis = np.abs(normals).argmax(1)
    first = np.array([1, 0, 0])[axis]
    second = np.array([2, 2, 1])[axis]
    rows = np.arange(len(vertices))
    return np.stack([vertices[rows, first], vertices[rows, second]], 1).astype(np.float32)


def join(meshes: list[Mesh]) -> Mesh:
    """One mesh out of several."""
    offsets = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.normals for m in meshes]),
        np.concatenate([m.uv for m in meshes]),
        np.concatenate([m.colour for m in meshes]),
        np.concatenate([m.faces + o for m, o in zip(meshes, offsets, strict=True)]).astype(np.int32),
    )


def grid_faces(rows: int, columns: int, wrap: bool = False) -> np.ndarray:
    """Triangles of a rows x columns vertex grid (row-major); `wrap` joins the last column to the first."""
    index = np.arange(rows * columns).reshape(rows, columns)
    right = np.roll(index, -1, 1)
    a, b, c, d = index[:-1], right[:-1], right[1:], index[1:]
    if not wrap:
        a, b, c, d = (x[:, :-1] for x in (a, b, c, d))
    a, b, c, d = (x.ravel() for x in (a, b, c, d))
    return np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int32)


def box(size, bevel: float = 0.0, colour=(1, 1, 1)) -> Mesh:
    """A box of extents `size` [3], centred; `bevel` metres are cut from its edges."""
    half = np.asarray(size, float) / 2
    bevel = min(bevel, half.min() * 0.8)
    parts = []
    for axis in range(3):
        for sign in (-1, 1):
            u, v = (axis + 1) % 3, (axis + 2) % 3
            # Faces are divided because wide lenses bend straight edges, and they do so vertex by vertex.
            cells = [int(np.clip(np.ceil(2 * half[w] / 0.07), 1, 24)) for w in (u, v)]
            p, q = np.meshgrid(np.linspace(-1, 1, cells[0] + 1), np.linspace(-1, 1, cells[1] + 1))
            corners = np.zeros((p.size, 3))
            corners[:, axis] = sign * half[axis]
            corners[:, u], corners[:, v] = p.ravel() * (half[u] - bevel), q.ravel() * (half[v] - bevel)
            faces = grid_faces(cells[1] + 1, cells[0] + 1)
            normal = np.zeros(3)
            normal[axis] = sign
            uv = corners[:, [1, 2]] if axis == 0 else corners[:, [0, 2]] if axis == 1 else corners[:, [0, 1]]
            parts.append(make(corners, faces if sign > 0 else faces[:, ::-1], uv, colour, np.tile(normal, (len(corners), 1))))
    if bevel > 0:
        from scipy.spatial import ConvexHull

        signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], float)
        points = np.concatenate([signs * (half - bevel * (1 - np.eye(3)[axis])) for axis in range(3)])
        hull = ConvexHull(points)
        faces = hull.simplices.copy()
        a, b, c = (points[faces[:, k]] for k in range(3))
        flip = np.einsum("ij,ij->i", np.cross(b - a, c - a), hull.equations[:, :3]) < 0
        faces[flip] = faces[flip][:, ::-1]
        slanted = np.abs(hull.equations[:, :3]).max(1) < 0.999
        normals = np.sign(points) / np.sqrt(3)
        parts.append(make(points, faces[slanted], None, colour, normals))
    return join(parts)


def lathe(profile, segments: int = 20, colour=(1, 1, 1)) -> Mesh:
    """A surface of revolution about z; `profile` is (radius, z) from bottom to top, sharp where the angle exceeds 35 degrees."""
    profile = np.asarray(profile, float)
    rings, normals, lengths = [], [], []
    step = np.diff(profile, axis=0)
    size = np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9)
    side = np.stack([step[:, 1], -step[:, 0]], 1) / size
    run = np.concatenate([[0], np.cumsum(size)])
    for i in range(len(step)):
        ends = []
        for j, neighbour in ((i, i - 1), (i + 1, i + 1)):
            n = side[i]
            if 0 <= neighbour < len(step) and side[i] @ side[neighbour] > 0.82:
                n = side[i] + side[neighbour]
                n = n / np.linalg.norm(n)
            ends.append((profile[j], n, run[j]))
        rings += [e[0] for e in ends]
        normals += [e[1] for e in ends]
        lengths += [e[2] for e in ends]
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    cos, sin = np.cos(angle), np.sin(angle)
    rings, normals, lengths = np.array(rings), np.array(normals), np.array(lengths)
    vertices = np.stack([rings[:, :1] * cos, rings[:, :1] * sin, np.repeat(rings[:, 1:], segments + 1, 1)], -1)
    normal = np.stack([normals[:, :1] * cos, normals[:, :1] * sin, np.repeat(normals[:, 1:], segments + 1, 1)], -1)
    around = np.broadcast_to(angle * max(profile[:, 0].max(), 1e-3), vertices.shape[:2])
    uv = np.stack([around, np.repeat(lengths[:, None], segments + 1, 1)], -1)
    faces = grid_faces(len(rings), segments + 1)
    keep = ((faces // (segments + 1)).min(1) % 2) == 0  # rows pair up: odd rows only join two copies of one ring
    return make(vertices.reshape(-1, 3), faces[keep], uv.reshape(-1, 2), colour, normal.reshape(-1, 3))


def tube(path, radius, segments: int = 10, colour=(1, 1, 1), flat: float = 1.0) -> Mesh:
    """A tube round a path [K, 3] with radii scalar or [K]; `flat` squeezes its second cross axis; both ends are closed."""
    path = np.asarray(path, float)
    radius = np.broadcast_to(np.asarray(radius, float), (len(path),))
    tangent = np.gradient(path, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    side = np.zeros_like(path)
    seed = np.eye(3)[np.abs(tangent[0]).argmin()]
    for i, t in enumerate(tangent):
        seed = seed - t * (seed @ t)
        seed = seed / max(np.linalg.norm(seed), 1e-9)
        side[i] = seed
    up = np.cross(tangent, side)
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    ring = side[:, None] * np.cos(angle)[:, None] + flat * up[:, None] * np.sin(angle)[:, None]
    vertices = path[:, None] + ring * radius[:, None, None]
    outward = side[:, None] * np.cos(angle)[:, None] * flat + up[:, None] * np.sin(angle)[:, None]
    run = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    uv = np.stack([np.broadcast_to(angle * radius.max(), vertices.shape[:2]), np.repeat(run[:, None], segments + 1, 1)], -1)
    normals = outward / np.maximum(np.linalg.norm(outward, axis=-1, keepdims=True), 1e-9)
    body = make(vertices.reshape(-1, 3), grid_faces(len(path), segments + 1), uv.reshape(-1, 2), colour,
                normals.reshape(-1, 3))
    caps = []
    for end, sign in ((0, -1), (len(path) - 1, 1)):
        if radius[end] < 1e-4:
            continue
        points = np.concatenate([path[end : end + 1], vertices[end]])
        spokes = np.arange(1, segments + 1)
        faces = np.stack([np.zeros(segments, int), spokes, spokes + 1], 1)
        faces = faces if sign > 0 else faces[:, ::-1]
        caps.append(make(points, faces, None, colour, np.tile(sign * tangent[end], (len(points), 1))))
    return join([body, *caps])


def sheet(points: np.ndarray, colour=(1, 1, 1), thickness: float = 0.001) -> Mesh:
    """A thin two-sided sheet through a grid of points [R, C, 3]; the sides are `thickness` metres apart."""
    rows, columns = points.shape[:2]
    flat = points.reshape(-1, 3).astype(float)
    faces = grid_faces(rows, columns)
    normals = vertex_normals(flat, faces)
    step_u = np.linalg.norm(np.diff(points, axis=1), axis=-1).mean() * (columns - 1)
    step_v = np.linalg.norm(np.diff(points, axis=0), axis=-1).mean() * (rows - 1)
    v, u = np.meshgrid(np.linspace(0, step_v, rows), np.linspace(0, step_u, columns), indexing="ij")
    uv = np.stack([u, v], -1).reshape(-1, 2)
    top = make(flat + normals * thickness / 2, faces, uv, colour, normals)
    bottom = make(flat - normals * thickness / 2, faces[:, ::-1], uv, colour, -normals)
    edge = np.concatenate([np.arange(columns), (np.arange(1, rows) + 1) * columns - 1,
                           rows * columns - 2 - np.arange(columns - 1), np.arange(rows - 2, 0, -1) * columns])
    loop = np.stack([edge, np.roll(edge, -1)], 1)
    n = len(flat)
    ribbon = np.concatenate([np.stack([loop[:, 0], loop[:, 0] + n, loop[:, 1]], 1),
                             np.stack([loop[:, 1], loop[:, 0] + n, loop[:, 1] + n], 1)])
    both = np.concatenate([top.vertices, bottom.vertices])
    rim = make(both, ribbon, np.concatenate([uv, uv]), colour)
    return join([top, bottom, rim])


def sphere(radii, rows: int = 12, columns: int = 18, colour=(1, 1, 1)) -> Mesh:
    """An ellipsoid with radii [3]."""
    polar = np.linspace(-np.pi / 2, np.pi / 2, rows)
    around = np.linspace(0, 2 * np.pi, columns + 1)
    unit = np.stack([np.cos(polar)[:, None] * np.cos(around), np.cos(polar)[:, None] * np.sin(around),
                     np.repeat(np.sin(polar)[:, None], columns + 1, 1)], -1).reshape(-1, 3)
    radii = np.broadcast_to(np.asarray(radii, float), (3,))
    normals = unit / radii
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    u, v = np.meshgrid(around * radii[:2].max(), polar * radii[2])
    return make(unit * radii, grid_faces(rows, columns + 1), np.stack([u, v], -1).reshape(-1, 2), colour, normals)


def lumpy(mesh: Mesh, rng: np.random.Generator, amount: float, waves: int = 5, frequency: float = 2.0) -> Mesh:
    """The mesh displaced along its normals by a few random plane waves; `amount` metres at most."""
    size = max(np.ptp(mesh.vertices, axis=0).max(), 1e-6)
    total = np.zeros(len(mesh.vertices))
    for _ in range(waves):
        direction = rng.normal(size=3) * frequency * 2 * np.pi / size
        total += np.sin(mesh.vertices @ direction + rng.uniform(0, 6.28))
    vertices = mesh.vertices + mesh.normals * (amount * total / waves)[:, None]
    # Repeated seam vertices move alike because the displacement depends on position only.
    return replace(mesh, vertices=vertices.astype(np.float32), normals=_welded_normals(vertices, mesh.faces))


def _welded_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Vertex normals shared by vertices at the same place."""
    _, inverse = np.unique(np.round(vertices, 5), axis=0, return_inverse=True)
    inverse = inverse.ravel()
    centre = np.zeros((inverse.max() + 1, 3))
    centre[inverse] = vertices
    return vertex_normals(centre, inverse[faces])[inverse]


def surface_points(mesh: Mesh, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random points [count, 3] on the surface and their face normals [count, 3], uniform in area."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(float) for k in range(3))
    cross = np.cross(b - a, c - a)
    area = np.linalg.norm(cross, axis=1)
    pick = np.searchsorted(np.cumsum(area) / area.sum(), rng.random(count))
    pick = np.minimum(pick, len(area) - 1)
    r, s = np.sqrt(rng.random(count)), rng.random(count)
    points = (1 - r)[:, None] * a[pick] + (r * (1 - s))[:, None] * b[pick] + (r * s)[:, None] * c[pick]
    return points, cross[pick] / np.maximum(area[pick], 1e-12)[:, None]


def rotation(axis, angle: float) -> np.ndarray:
    """Rotation matrix [3, 3] by `angle` radians about `axis` (Rodrigues' formula)."""
    x, y, z = unit(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)


def rigid(linear: np.ndarray, origin) -> np.ndarray:
    """Matrix [4, 4] out of a linear part [3, 3] and an origin [3]."""
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = origin
    return matrix


def cross(a, b) -> np.ndarray:
    """Cross product of two vectors [3]; much faster than numpy's general one."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def unit(vector) -> np.ndarray:
    """The vector with length one."""
    vector = np.asarray(vector, float)
    return vector / max(math.sqrt(vector @ vector), 1e-12)
