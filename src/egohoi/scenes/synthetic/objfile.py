"""Wavefront OBJ models with materials -> light meshes: z up, centred over the origin, at most so many triangles."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .meshes import box_uv

TEXTURE = 192


def read_materials(path: Path) -> dict[str, dict]:
    """Material name -> {kd: [3], alpha, map: file or None, ns}."""
    materials: dict[str, dict] = {}
    current: dict = {}
    if not path.exists():
        return materials
    for line in path.read_text(encoding="latin-1").splitlines():
        words = line.split()
        if len(words) < 2:
            continue
        key = words[0].lower()
        if key == "newmtl":
            current = materials.setdefault(words[1], {"kd": [0.7] * 3, "alpha": 1.0, "map": None, "ns": 30.0})
        elif key == "kd" and len(words) >= 4:
            current["kd"] = [float(x) for x in words[1:4]]
        elif key == "d":
            current["alpha"] = float(words[-1])
        elif key == "ns":
            current["ns"] = float(words[1])
        elif key == "map_kd":
            current["map"] = line.split(None, 1)[1].strip().replace("\\", "/")
    return materials


def read(path: Path):
    """vertices [V, 3], uv [T, 2], groups: material -> list of triangles ((v, t) x 3), materials."""
    vertices, uv, groups, materials = [], [], {}, {}
    current = groups.setdefault("", [])
    with open(path, encoding="latin-1") as stream:
        for line in stream:
            head = line[:2]
            if head == "v ":
                vertices.append(line.split()[1:4])
            elif head == "vt":
                uv.append(line.split()[1:3])
            elif head == "f ":
                corners = []
                for word in line.split()[1:]:
                    p = word.split("/")
                    corners.append((int(p[0]), int(p[1]) if len(p) > 1 and p[1] else 0))
                current += [(corners[0], corners[k], corners[k + 1]) for k in range(1, len(corners) - 1)]
            elif line.startswith("usemtl"):
                current = groups.setdefault(line.split(None, 1)[1].strip() if len(line.split()) > 1 else "", [])
            elif line.startswith("mtllib"):
                materials.update(read_materials(path.parent / line.split(None, 1)[1].strip()))
    return np.array(vertices, float), np.array(uv or [[0, 0]], float)[:, :2], groups, materials


def _simplify(points, faces, keep: float):
    import fast_simplification

    _, first, inverse = np.unique(np.round(points, 5), axis=0, return_index=True, return_inverse=True)
    points, faces = points[first], inverse.ravel()[faces]
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])]
    if keep < 1 and len(faces) > 24:
        points, faces = fast_simplification.simplify(points.astype(np.float32), faces.astype(np.int32), target_reduction=min(1 - keep, 0.995), agg=5)
    return np.asarray(points, float), np.asarray(faces, int)


def _corners(points, faces, crease: float = 0.72):
    """Unshared corners with normals that are smooth except across creases: positions [3M, 3], normals [3M, 3]."""
    a, b, c = (points[faces[:, k]] for k in range(3))
    flat = np.cross(b - a, c - a)
    smooth = np.zeros_like(points)
    for axis in range(3):
        smooth[:, axis] = np.bincount(faces.T.ravel(), np.tile(flat[:, axis], 3), minlength=len(points))
    smooth /= np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-12)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    corner = smooth[faces]
    sharp = (corner * flat[:, None]).sum(-1) < crease
    corner = np.where(sharp[..., None], flat[:, None], corner)
    return points[faces].reshape(-1, 3), corner.reshape(-1, 3)


def convert(path: Path, size: np.ndarray, turn: list[float] | None, limit: int):
    """Arrays for an npz and a list of part descriptions.

    size: width, depth, height in metres of the result; turn: 9 numbers, a rotation of the raw model. Arrays v, n, uv, c, f and,
    where textured, t (uint8 [H, W, 3 or 4]) carry the part number. Raises ValueError for an empty model.
    """
    from scipy.spatial import cKDTree

    vertices, uv, groups, materials = read(path)
    if not len(vertices):
        raise ValueError(f"{path}: no vertices")
    if turn:
        vertices = vertices @ np.array(turn).reshape(3, 3).T
    low, high = vertices.min(0), vertices.max(0)
    extent = np.maximum(high - low, 1e-6)
    vertices = (vertices - (low + high) / 2) / extent * size[[0, 2, 1]]
    vertices = np.stack([vertices[:, 0], -vertices[:, 2], vertices[:, 1] + size[2] / 2], 1)  # y up -> z up, standing on z = 0
    total = sum(len(t) for t in groups.values())
    keep = min(1.0, limit / max(total, 1))
    parts: dict[str, list] = {}
    for name, triangles in groups.items():
        if not triangles:
            continue
        material = materials.get(name, {"kd": [0.7] * 3, "alpha": 1.0, "map": None, "ns": 30.0})
        if material["alpha"] < 0.05:
            continue
        corner = np.array(triangles)
        faces = np.where(corner[..., 0] > 0, corner[..., 0] - 1, corner[..., 0] + len(vertices))
        used, inverse = np.unique(faces, return_inverse=True)
        points, local = _simplify(vertices[used], inverse.reshape(-1, 3), keep)
        if not len(local):
            continue
        position, normal = _corners(points, local)
        image = _texture(path.parent, material["map"]) if material["map"] else None
        if image is not None:
            texel = np.where(corner[..., 1] > 0, corner[..., 1] - 1, corner[..., 1] + len(uv)).reshape(-1)
            anchor = vertices[faces.reshape(-1)]
            centre = np.repeat(anchor.reshape(-1, 3, 3).mean(1), 3, 0)
            # The nearest original corner, seen a little from inside its own triangle: keeps both sides of a seam apart.
            tree = cKDTree(anchor * 0.98 + centre * 0.02)
            middle = np.repeat(position.reshape(-1, 3, 3).mean(1), 3, 0)
            _, nearest = tree.query(position * 0.98 + middle * 0.02)
            coordinates = uv[texel[nearest]]
            coordinates = np.stack([coordinates[:, 0], coordinates[:, 1]], 1)
            colour = np.ones((len(position), 3))
        else:
            coordinates = box_uv(position, normal)
            colour = np.tile(np.clip(material["kd"], 0.02, 0.97), (len(position), 1))
        key = f"{material['map'] if image is not None else ''}|{material['alpha'] < 0.85}"
        parts.setdefault(key, []).append((position, normal, coordinates, colour, material, image))
    arrays, meta = {}, []
    for k, members in enumerate(parts.values()):
        for index, letter in enumerate(("v", "n", "uv", "c")):
            arrays[f"{letter}{k}"] = np.concatenate([m[index] for m in members]).astype(np.float32)
        arrays[f"f{k}"] = np.arange(len(arrays[f"v{k}"]), dtype=np.int32).reshape(-1, 3)
        material, image = members[0][4], members[0][5]
        if image is not None:
            arrays[f"t{k}"] = image
        shine = float(np.clip(material["ns"] / 200, 0.05, 0.8))
        meta.append({"alpha": round(float(max(material["alpha"], 0.25)), 3), "rough": round(1 - shine, 3), "shine": round(shine, 3),
                     "cut": bool(image is not None and image.shape[2] == 4)})
    if not meta:
        raise ValueError(f"{path}: nothing visible")
    return arrays, meta


def _texture(folder: Path, name: str) -> np.ndarray | None:
    from PIL import Image

    path = folder / name
    if not path.exists():
        path = folder / Path(name).name
    if not path.exists():
        return None
    with Image.open(path) as image:
        alpha = image.mode in ("RGBA", "LA") or "transparency" in image.info
        image = image.convert("RGBA" if alpha else "RGB")
        scale = min(1.0, TEXTURE / max(image.size))
        image = image.resize((max(4, int(image.width * scale)), max(4, int(image.height * scale))))
        pixels = np.asarray(image)
    if alpha and pixels[..., 3].min() > 200:
        pixels = pixels[..., :3]
    return np.ascontiguousarray(pixels)
