"""The description of one scene: what a renderer draws and what the labels say. Plain data; both renderers read it.

World axes: x right, y forward, z up, metres. Instance number 0 is everything without a label.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from .meshes import Mesh
from .things import Material


@dataclass(frozen=True, eq=False)
class Part:
    """A mesh placed by a rigid matrix [4, 4]; `label` is its instance number; `static` meshes are worth caching."""

    mesh: Mesh
    material: Material
    matrix: np.ndarray
    label: int = 0
    static: bool = False


@dataclass(frozen=True)
class Labelled:
    """One labelled thing. kind: hand | object. side for hands. target: instance number of the held object."""

    label: int
    kind: str
    name: str
    instance: str
    side: str = ""
    contact: bool = False
    target: int = 0
    glove: bool = False
    hands: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Camera:
    """position [3]; axes [3, 3]: rows right, up, backward; tan_half: tangent of half the horizontal angle that a pinhole
    would have; bend: 1 is a pinhole, towards 0 an equidistant fisheye: radius = tan(bend * angle) / bend; size: width, height."""

    position: np.ndarray
    axes: np.ndarray
    tan_half: float
    bend: float
    size: tuple[int, int]

    def scale(self) -> float:
        """Image-plane radius that lies at half the picture's width."""
        return float(np.tan(self.bend * np.arctan(self.tan_half)) / self.bend)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels [N, 2] of world points [N, 3] (x right, y down); points behind the camera give large values."""
        view = (points - self.position) @ self.axes.T
        across = np.hypot(view[:, 0], view[:, 1])
        angle = np.minimum(np.arctan2(across, -view[:, 2]), 1.5 / self.bend)
        radius = np.tan(np.minimum(self.bend * angle, 1.5)) / self.bend / self.scale()
        direction = view[:, :2] / np.maximum(across, 1e-9)[:, None]
        width, height = self.size
        return np.stack([width / 2 * (1 + direction[:, 0] * radius), height / 2 - width / 2 * direction[:, 1] * radius], 1)


@dataclass(frozen=True, eq=False)
class Light:
    """sun: direction towards the light [3]; colours are linear RGB [3]; centre: what the shadow map covers (radius metres)."""

    sun: np.ndarray
    sun_colour: np.ndarray
    sky: np.ndarray
    ground: np.ndarray
    softness: float
    centre: np.ndarray
    radius: float
    lamp: np.ndarray
    lamp_colour: np.ndarray
    horizon: np.ndarray
    zenith: np.ndarray


@dataclass(frozen=True)
class Look:
    """What happens to the picture after rendering. Lengths in pixels."""

    exposure: float = 1.0
    white: tuple[float, float, float] = (1.0, 1.0, 1.0)
    contrast: float = 1.0
    saturation: float = 1.0
    vignette: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    motion: tuple[float, float] = (0.0, 0.0)
    hand_motion: tuple[float, float] = (0.0, 0.0)
    quality: int = 88
    seed: int = 0
    sharpen: float = 0.0

    def hides_steps(self) -> bool:
        """Whether the blur is strong enough that edges need no smoothing when they are drawn (which costs half the time)."""
        return self.blur > 0.55 or math.hypot(*self.motion) > 2.5


@dataclass(frozen=True, eq=False)
class SceneDescription:
    """Everything about one scene."""

    parts: tuple[Part, ...]
    things: tuple[Labelled, ...]
    camera: Camera
    light: Light
    look: Look
    action: str = ""
    narration: str = ""
    verb: str = ""
    noun: str = ""
    place: str = ""
    extra: dict = field(default_factory=dict)
