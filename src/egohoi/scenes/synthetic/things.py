"""What a scene is made of: materials, grip sites and object models."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .meshes import Mesh, join, surface_points


@dataclass(frozen=True)
class Material:
    """texture: name in the pool or None; tile: metres per texture tile (0: uv are used as they are); tint: colour factor;
    rough 0-1; shine: strength of highlights; alpha < 1 blends; soft: light wraps round (skin, wax); cut: texels with a low
    alpha are holes."""

    texture: str | None = None
    tile: float = 0.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    rough: float = 0.6
    shine: float = 0.3
    alpha: float = 1.0
    soft: float = 0.0
    cut: bool = False


@dataclass(frozen=True, eq=False)
class Site:
    """A place where a hand can hold an object; object coordinates, metres.

    kind: wrap (fingers round a bar), pinch (finger tips), edge (flat thing between thumb and fingers), palm (flat on a face).
    origin [3]. axis [3]: for wrap the bar, for pinch and edge the thin direction, for palm unused. approach [3]: from the
    object towards the palm. swing: radians by which `approach` may turn about `axis`. slide: metres along the bar either way.
    use: handle sites come first when the object is used as it should be.
    """

    kind: str
    origin: np.ndarray
    axis: np.ndarray
    approach: np.ndarray
    swing: float = 0.0
    slide: float = 0.0


@dataclass(frozen=True, eq=False)
class ObjectModel:
    """One instance of an object.

    name: noun. instance: which model or procedural seed. parts: meshes with materials. sites: where one hand holds it.
    pairs: (left site, right site) numbers for two hands. pose: upright, flat or any. verbs: what one does with it.
    points float [K, 3], normals float [K, 3]: surface samples for contact. low, high [3]: bounds.
    """

    name: str
    instance: str
    parts: tuple[tuple[Mesh, Material], ...]
    sites: tuple[Site, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    pose: str = "upright"
    verbs: tuple[str, ...] = ("hold",)
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    normals: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    low: np.ndarray = field(default_factory=lambda: np.zeros(3))
    high: np.ndarray = field(default_factory=lambda: np.zeros(3))

    @property
    def size(self) -> np.ndarray:
        return self.high - self.low


def finish(name, instance, parts, sites=(), pairs=(), pose="upright", verbs=("hold",), samples: int = 2600) -> ObjectModel:
    """An ObjectModel with its surface samples and bounds filled in."""
    whole = join([mesh for mesh, _ in parts])
    points, normals = surface_points(whole, samples, np.random.default_rng(7))
    return ObjectModel(name, instance, tuple(parts), tuple(sites), tuple(pairs), pose, tuple(verbs), points, normals,
                       whole.vertices.min(0).astype(float), whole.vertices.max(0).astype(float))


# ------------------------------------------------------------------------------------------------------- common grip sites

X, Y, Z = np.eye(3)


def bar(origin, axis, slide=0.0, approach=None, swing=np.pi) -> Site:
    """A wrap site on a bar; any side of it unless `swing` says less."""
    axis = np.asarray(axis, float)
    if approach is None:
        approach = np.cross(axis, Y if abs(axis[1]) < 0.8 else X)
    approach = np.asarray(approach, float)
    return Site("wrap", np.asarray(origin, float), axis, approach / np.linalg.norm(approach), swing, slide)


def rim(origin, thin, outward, kind="edge", swing=0.35) -> Site:
    """A site on the edge of a flat thing; `outward` points away from it."""
    return Site(kind, np.asarray(origin, float), np.asarray(thin, float), np.asarray(outward, float), swing)


def palm(origin, normal) -> Site:
    """A site for the flat hand on a face with that outward normal."""
    return Site("palm", np.asarray(origin, float), np.zeros(3), np.asarray(normal, float), np.pi)


def flat_edges(low, high) -> list[Site]:
    """Edge sites on all four sides of a flat thing in the xy plane; left (-x) first, right second, then near, far."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    mid = (low + high) / 2
    sites = []
    for axis, value in ((0, low[0]), (0, high[0]), (1, low[1]), (1, high[1])):
        origin, outward = mid.copy(), np.zeros(3)
        origin[axis] = value
        outward[axis] = -1 if value < mid[axis] else 1
        sites.append(rim(origin, Z, outward))
    return sites


def sides(low, high, height=0.5) -> list[Site]:
    """Palm sites on the left and the right face of a large thing."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    mid = (low + high) / 2
    z = low[2] + (high[2] - low[2]) * height
    return [palm((low[0], mid[1], z), -X), palm((high[0], mid[1], z), X)]


def automatic_sites(low: np.ndarray, high: np.ndarray, handle: str | None = None) -> tuple[list[Site], list[tuple[int, int]], str]:
    """Sites of a model known by its bounds only. `handle` is the end of a tool that a person holds: -x, +x, -y, +y, -z, +z.

    Returns sites, two-hand pairs and the pose.
    """
    size, mid = high - low, (low + high) / 2
    order = np.argsort(-size)
    longest, middle, thin = size[order]
    if handle or (longest > 2.4 * middle and middle < 0.07 and order[0] != 2):
        axis = "xyz".index(handle[1]) if handle else int(order[0])
        sign = -1.0 if not handle or handle[0] == "-" else 1.0
        direction = np.eye(3)[axis] * sign
        origin = mid + direction * size[axis] * 0.5 - direction * min(0.055, size[axis] * 0.3)
        if np.delete(size, axis).max() < 0.016:
            other = np.eye(3)[int(order[2])]
            return [rim(origin, other, direction, "pinch", 0.5), bar(origin, direction, 0.02)], [], "any"
        return [bar(origin, direction, 0.01)], [], "any"
    if thin < 0.03 and middle > 0.04:
        flat = int(order[2])
        sites = []
        for axis in order[:2]:
            for sign in (-1.0, 1.0):
                out = np.eye(3)[axis] * sign
                sites.append(rim(mid + out * size[axis] / 2, np.eye(3)[flat], out))
        return sites, [(0, 1)], "flat" if flat == 2 else "any"
    if max(size[0], size[1]) < 0.105:
        return [bar(mid, Z, max(size[2] / 2 - 0.045, 0.0))], [], "upright"
    if middle < 0.1:
        return [bar(mid, np.eye(3)[order[0]], longest * 0.25)], [], "upright"
    if max(size) < 0.7 and size[0] < 0.62:
        return sides(low, high), [(0, 1)], "upright"
    return [], [], "upright"
