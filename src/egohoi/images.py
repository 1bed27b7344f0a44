"""Pictures in: files, bytes, PIL images and arrays -> RGB pixels, upright, with one clear error for each bad input."""

import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from egohoi.errors import BadImage

#: Most pixels that are decoded (a 12,000 x 12,000 photo); larger files are refused before any pixel is read.
MAX_PIXELS = 144_000_000
#: A picture of this side or less shows nothing that could be asked about.
MIN_SIDE = 2


@dataclass(frozen=True)
class Picture:
    """An upright RGB picture. name: path or name as given; pixels: uint8 [H, W, 3]."""

    name: str
    pixels: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


def load(source, name: str | None = None) -> Picture:
    """A Picture of a path, bytes, file object, PIL image, uint8 array [H, W], [H, W, 3] or [H, W, 4], or Picture.

    Grey, CMYK, palette, 16-bit and alpha pictures become 8-bit RGB (alpha over white); EXIF rotation is applied.
    Raises BadImage with one line that names the file.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, np.ndarray):
        return _array(source, name or "array")
    if isinstance(source, Image.Image):
        return Picture(name or getattr(source, "filename", "") or "image", _rgb(source, name or "image"))
    if isinstance(source, (bytes, bytearray)):
        return _open(io.BytesIO(bytes(source)), name or "upload", len(source))
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        label = name or str(source)
        if path.is_dir():
            raise BadImage(f"{label}: is a folder, not a picture: name a JPEG or PNG file")
        if not path.exists():
            raise BadImage(f"{label}: no such file")
        try:
            with open(path, "rb") as file:
                return _open(file, label, path.stat().st_size)
        except PermissionError as error:
            raise BadImage(f"{label}: may not be read (permission denied)") from error
        except IsADirectoryError as error:
            raise BadImage(f"{label}: is a folder, not a picture") from error
    if hasattr(source, "read"):
        data = source.read()
        return _open(io.BytesIO(data), name or getattr(source, "name", "upload"), len(data))
    raise BadImage(f"a picture is a path, bytes, a PIL image or an array, got {type(source).__name__}")


def _open(file, name: str, length: int) -> Picture:
    if length == 0:
        raise BadImage(f"{name}: the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL warns from 90 Mpx; the limit below decides
            previous, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(file)
            finally:
                Image.MAX_IMAGE_PIXELS = previous
            return Picture(name, _rgb(image, name))
    except UnidentifiedImageError as error:
        raise BadImage(f"{name}: is not a picture that can be read (JPEG, PNG, WebP, BMP, TIFF, GIF)") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, BadImage):
            raise
        raise BadImage(f"{name}: is damaged or cut short ({str(error)[:80]}): copy it again from its source") from error


def _rgb(image: Image.Image, name: str) -> np.ndarray:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImage(f"{name}: {width}x{height} pixels are too many, at most {MAX_PIXELS // 10**6} million: shrink it first")
    if min(width, height) < MIN_SIDE:
        raise BadImage(f"{name}: {width}x{height} pixels are too few to show anything")
    # JPEG can be decoded at a fraction of its size; a whole decode is kept because masks are promised at full size.
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I"):
        values = np.asarray(image).astype(np.float32)
        top = 65535.0 if values.max(initial=0) > 255 else 255.0
        image = Image.fromarray(np.clip(values / top * 255.0, 0, 255).astype(np.uint8))
    elif image.mode == "F":
        values = np.asarray(image)
        span = float(np.ptp(values)) or 1.0
        image = Image.fromarray(((values - values.min()) / span * 255.0).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.asarray(image.convert("RGB")).copy()


def _array(array: np.ndarray, name: str) -> Picture:
    if array.dtype == np.uint8 and array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (3, 4):
        raise BadImage(f"{name}: an array must be uint8 [H, W], [H, W, 3] or [H, W, 4], got {array.dtype} {list(array.shape)}")
    return Picture(name, _rgb(Image.fromarray(array), name))
