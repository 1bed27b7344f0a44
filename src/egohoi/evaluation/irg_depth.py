"""Predicted depth of frames as 16-bit pictures `FRAME.png`: 0 is the nearest, 65535 the farthest point."""

import functools
import os
from pathlib import Path

import numpy as np
from PIL import Image

from egohoi.errors import BadData, BadPredictions
from egohoi.evaluation import depth_metrics
from egohoi.evaluation.hoiqa_files import names
from egohoi.scenes import irgbench

#: Side of the square in which the released evaluation of ANNEXE compares depth.
SIDE = 448
TOP = 65535


class Folder:
    """Predicted depth of frames. Raises BadData if the folder is not there."""

    def __init__(self, path):
        self.path = Path(path)
        if not self.path.is_dir():
            raise BadData(f"{path}: no such folder: give the folder of the predicted depth images, FRAME.png")
        self._square = functools.lru_cache(maxsize=16)(self._read_square)

    def check(self, sizes: dict[str, tuple[int, int]]) -> None:
        """Raise BadPredictions for frames without a depth image, or with one of another canvas than the picture's or 448x448."""
        missing, canvas = [], []
        for frame, size in sizes.items():
            try:
                with Image.open(self.path / f"{frame}.png") as image:
                    if image.size not in (tuple(size), (SIDE, SIDE)):
                        canvas.append(f"{frame} ({image.size[0]}x{image.size[1]})")
            except FileNotFoundError:
                missing.append(frame)
            except (OSError, SyntaxError, ValueError) as error:
                raise BadData(f"{self.path / frame}.png: cannot be read ({str(error)[:80]})") from error
        if missing:
            raise BadPredictions(f"{self.path}: {len(missing)} frames have no depth image: {names(missing)}")
        if canvas:
            raise BadPredictions(f"{self.path}: {len(canvas)} depth images have another canvas than their picture: {names(canvas)}")

    def read(self, frame: str) -> np.ndarray:
        """float32 [H, W] in 0..1 at the file's own size."""
        return self._image(frame)

    def _image(self, frame: str) -> np.ndarray:
        with Image.open(self.path / f"{frame}.png") as image:
            values = np.asarray(image)
        if values.ndim != 2:
            raise BadPredictions(f"{self.path / frame}.png: a depth image has one channel")
        return values.astype(np.float32) / np.float32(255 if values.dtype == np.uint8 else TOP)

    def square(self, frame: str) -> np.ndarray:
        """float32 [448, 448], as the released evaluation compares it."""
        return self._square(frame)

    def _read_square(self, frame: str) -> np.ndarray:
        return _resized(self._image(frame), (SIDE, SIDE))

    def scores(self, item: irgbench.Item) -> dict[str, float]:
        """Strict measures of one frame by name; {} where its truth has no depth image or no measured pixel."""
        if item.depth is None:
            return {}
        truth = irgbench.depth_image(item)
        said = _resized(self.read(item.frame), item.size)
        aligned = depth_metrics.align(said, truth)
        found = {
            "depth abs_rel": depth_metrics.abs_rel(aligned, truth), "depth rmse": depth_metrics.rmse(aligned, truth),
            "depth delta<1.25": depth_metrics.delta(aligned, truth), "depth mae": depth_metrics.normalized_mae(said, truth),
        }  # fmt: skip
        return {k: v for k, v in found.items() if v is not None}


def _resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if values.shape[::-1] == tuple(size):
        return values
    return np.asarray(Image.fromarray(values).resize(size, Image.BICUBIC))


def write(folder, frame: str, depth: np.ndarray) -> None:
    """Write the depth of a frame, float [H, W] in 0..1; atomic."""
    path = Path(folder) / f"{frame}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.round(np.clip(depth, 0, 1) * TOP).astype(np.uint16)).save(f"{path}.part", "PNG")
    os.replace(f"{path}.part", path)
