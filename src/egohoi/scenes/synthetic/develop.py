"""From rendered light to a picture like those of small head-mounted cameras."""

from __future__ import annotations

import io

import numpy as np
from scipy import ndimage

from .scene import Look


def occlusion(depth: np.ndarray) -> np.ndarray:
    """Ambient shading [H, W] (1 open, less in corners) from depth [H, W] by unsharp masking (after Luft et al. 2006)."""
    near = np.minimum(depth, 6.0)
    scale = max(depth.shape) / 400
    shade = np.ones_like(depth)
    near = near.astype(np.float32)
    for sigma, strength in ((3 * scale, 0.9), (10 * scale, 0.6)):
        step = max(1, int(sigma / 3))
        small = near[::step, ::step]
        blurred = ndimage.gaussian_filter(small, sigma / step, mode="nearest")
        if step > 1:
            blurred = np.kron(blurred, np.ones((step, step), np.float32))[: depth.shape[0], : depth.shape[1]]
        gap = np.clip((near - blurred) / (0.06 * near + 0.01), 0, 1)
        shade *= 1 - 0.35 * strength * gap
    return shade.astype(np.float32)


def _streak(image: np.ndarray, motion: tuple[float, float]) -> np.ndarray:
    """Motion blur along a vector (pixels)."""
    length = float(np.hypot(*motion))
    steps = max(2, int(np.ceil(length)) + 1)
    total = np.zeros_like(image)
    for t in np.linspace(-0.5, 0.5, steps):
        dx, dy = round(motion[0] * t), round(motion[1] * t)
        total += np.roll(np.roll(image, dy, 0), dx, 1)
    return total / steps


def develop(rgb: np.ndarray, hands: np.ndarray, depth: np.ndarray, look: Look) -> np.ndarray:
    """uint8 [H, W, 3] picture of linear light rgb [H, W, 3]; hands: bool [H, W], what moves with the hands."""
    rng = np.random.default_rng(look.seed)
    image = np.nan_to_num(rgb, nan=0.5, posinf=8.0, neginf=0.0).clip(0, 8) * occlusion(depth)[..., None]
    if np.hypot(*look.hand_motion) > 1 and hands.any():
        mask = hands.astype(np.float32)[..., None]
        cover = _streak(mask, look.hand_motion)
        moving = _streak(image * mask, look.hand_motion)
        # What the hand uncovers is unknown: the nearest still pixels stand in for it.
        still = image * (1 - mask) + ndimage.gaussian_filter(image, (4, 4, 0)) * mask
        image = moving + still * (1 - cover)
    if np.hypot(*look.motion) > 1:
        image = _streak(image, look.motion)
    if look.blur > 0.2:
        image = ndimage.gaussian_filter(image, (look.blur, look.blur, 0))
    height, width = depth.shape
    if look.vignette > 0:
        y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
        image = image * (1 - look.vignette * ((x * x + y * y) / 2) ** 1.5).astype(np.float32)[..., None]
    # The camera's meter: the brightness of the whole lands near its target, whatever the light.
    level = np.exp(np.mean(np.log(np.clip(image[::4, ::4].mean(-1), 1e-3, 4))))
    gain = float((0.17 / level) ** 0.75 * look.exposure)
    image = image * gain * np.array(look.white, np.float32)
    image = image / (1 + 0.22 * image)  # soft shoulder: highlights bend before they clip
    image = np.clip(image, 0, 1) ** (1 / 2.2)
    grey = image.mean(-1, keepdims=True)
    image = grey + (image - grey) * look.saturation
    image = 0.5 + (image - 0.5) * look.contrast
    if look.sharpen > 0.05:
        image = image + look.sharpen * (image - ndimage.gaussian_filter(image, (1.0, 1.0, 0)))
    if look.noise > 0.002:
        grain = rng.standard_normal(image.shape, np.float32)
        if look.noise > 0.02:
            grain = 0.5 * grain + ndimage.gaussian_filter(grain, (0.8, 0.8, 0))
        image = image + look.noise * grain * (1.3 - image)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def jpeg(image: np.ndarray, quality: int) -> bytes:
    """The picture as JPEG bytes."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def depth_png(depth: np.ndarray) -> bytes:
    """Depth in metres as a 16-bit PNG of millimetres (0: nothing nearer than 65.535 m)."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.clip(depth * 1000, 0, 65535).astype(np.uint16)).save(stream, "PNG", compress_level=2)
    return stream.getvalue()
