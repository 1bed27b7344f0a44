"""Masks: COCO run-length encoding, polygons, index images. A mask is bool or uint8 `[H, W]`; an RLE is
`{"size": [H, W], "counts": str}` (COCO's compressed, column-major runs; pycocotools)."""

import reprlib

import numpy as np
from pycocotools import mask as coco

from egohoi.errors import BadMask

#: Most pixels of a mask; pycocotools counts in 32 bits, and no picture is larger (`images.MAX_PIXELS`).
MAX_PIXELS = 1 << 28


def encode(mask) -> dict:
    """COCO RLE of a mask [H, W] (any type; non-zero is inside)."""
    array = np.asarray(mask)
    if array.ndim != 2:
        raise BadMask(f"a mask has two dimensions [H, W], got shape {array.shape}")
    rle = coco.encode(np.asfortranarray(array != 0, dtype=np.uint8))
    return {"size": [int(v) for v in rle["size"]], "counts": rle["counts"].decode("ascii")}


def check(rle, size: tuple[int, int] | None = None, where: str = "mask") -> dict:
    """Return `rle` if it is a COCO RLE whose runs fill its size; size: (width, height) it must have.

    Raises BadMask. The runs are parsed, not decoded, so a hostile size costs no memory.
    """
    if not isinstance(rle, dict) or "size" not in rle or "counts" not in rle:
        raise BadMask(f"{where}: expected {{'size': [h, w], 'counts': '...'}}, got {type(rle).__name__}")
    shape, counts = rle["size"], rle["counts"]
    if not (isinstance(shape, (list, tuple)) and len(shape) == 2 and all(type(v) is int and v > 0 for v in shape)):
        raise BadMask(f"{where}: 'size' must be [height, width], got {reprlib.repr(shape)}")
    if not isinstance(counts, (str, list)):
        raise BadMask(f"{where}: 'counts' must be a COCO run-length string, got {type(counts).__name__}")
    if size is not None and (shape[1], shape[0]) != tuple(size):
        raise BadMask(f"{where}: is {shape[1]}x{shape[0]} pixels, its picture {size[0]}x{size[1]}")
    if shape[0] * shape[1] > MAX_PIXELS:
        raise BadMask(f"{where}: {shape[1]}x{shape[0]} pixels are too many, at most {MAX_PIXELS // 10**6} million")
    if isinstance(counts, list):
        if not all(type(v) is int and v >= 0 for v in counts):
            raise BadMask(f"{where}: 'counts' must hold whole numbers from 0, got {reprlib.repr(counts)}")
        total = sum(counts)
    else:
        total = _total(counts, where)
    if total != shape[0] * shape[1]:
        raise BadMask(f"{where}: runs cover {total} pixels, the mask has {shape[0] * shape[1]}")
    return rle


def _total(counts: str, where: str) -> int:
    """Number of pixels that the compressed runs cover (pycocotools' rleFrString, without the pixels).

    A run is written in digits of 5 bits, lowest first, bit 6 of each saying that another one follows, and the sign is that of
    the last digit; from the fourth run on it is the difference to the run before the last one.
    """
    data = np.frombuffer(counts.encode("utf-8", "surrogatepass"), dtype=np.uint8).astype(np.int64) - 48
    wrong = (data < 0) | (data >= 64)
    if wrong.any():
        raise BadMask(f"{where}: 'counts' holds a character that is not COCO run-length text at {int(wrong.argmax())}")
    if not len(data):
        return 0
    ends = np.flatnonzero(data & 0x20 == 0)
    if not len(ends) or ends[-1] != len(data) - 1:
        raise BadMask(f"{where}: 'counts' ends in the middle of a run")
    starts = np.concatenate(([0], ends[:-1] + 1))
    digits = ends - starts + 1
    if digits.max() > 7:  # 35 bits, more than any picture needs
        raise BadMask(f"{where}: 'counts' holds a run of {int(digits.max())} digits at {int(starts[digits.argmax()])}")
    place = np.arange(len(data)) - np.repeat(starts, digits)
    runs = np.add.reduceat((data & 0x1F) << 5 * place, starts) - np.where(data[ends] & 0x10, 1 << 5 * digits, 0)
    runs[1::2] = np.cumsum(runs[1::2])  # the second run is written whole, the fourth as its difference to the second, ...
    runs[2::2] = np.cumsum(runs[2::2])
    if runs.min() < 0:
        raise BadMask(f"{where}: 'counts' holds a negative run")
    # Sums of 64 bits might wrap round to the right size if single runs were larger than any mask.
    return int(runs.max()) if runs.max() > MAX_PIXELS else int(runs.sum())


def decode(rle: dict) -> np.ndarray:
    """bool [H, W] of a COCO RLE (compressed string or list of runs). Raises BadMask."""
    check(rle)
    if isinstance(rle["counts"], list):
        return coco.decode(coco.frPyObjects(rle, *rle["size"])).astype(bool)
    return coco.decode({"size": list(rle["size"]), "counts": rle["counts"].encode("ascii")}).astype(bool)


def area(rle: dict) -> int:
    """Number of pixels inside a compressed COCO RLE."""
    return int(coco.area(_raw(rle)))


def box(rle: dict) -> tuple[float, float, float, float] | None:
    """Tight xyxy pixel box of a COCO RLE, or None if the mask is empty."""
    x, y, w, h = (float(v) for v in coco.toBbox(_raw(rle)))
    return (x, y, x + w, y + h) if w > 0 and h > 0 else None


def iou(a: dict, b: dict) -> float:
    """Intersection over union of two COCO RLEs of one size; 1 when both are empty. Raises BadMask."""
    if list(a["size"]) != list(b["size"]):
        raise BadMask(f"masks of different sizes: {a['size']} and {b['size']} (height, width)")
    first, second = _raw(a), _raw(b)
    if int(coco.area(first)) + int(coco.area(second)) == 0:
        return 1.0
    return float(coco.iou([first], [second], [0])[0, 0])


def union(rles: list[dict]) -> dict:
    """Union of COCO RLEs of one size."""
    merged = coco.merge([_raw(r) for r in rles])
    return {"size": [int(v) for v in merged["size"]], "counts": merged["counts"].decode("ascii")}


def from_polygons(polygons, size: tuple[int, int]) -> dict:
    """COCO RLE of polygons `[[x1, y1, x2, y2, ...], ...]` in pixels of a picture of `size` (width, height).

    Polygons of fewer than three points are left out; no usable polygon gives the empty mask.
    """
    usable = [[float(v) for v in p] for p in polygons if len(p) >= 6]
    width, height = size
    if not usable:
        return encode(np.zeros((height, width), dtype=np.uint8))
    merged = coco.merge(coco.frPyObjects(usable, height, width))
    return {"size": [int(v) for v in merged["size"]], "counts": merged["counts"].decode("ascii")}


def from_index(image, value: int) -> dict:
    """COCO RLE of the pixels of an index image [H, W] that hold `value`."""
    return encode(np.asarray(image) == value)


def _raw(rle: dict) -> dict:
    if isinstance(rle["counts"], list):
        return coco.frPyObjects(rle, *rle["size"])
    return {"size": list(rle["size"]), "counts": rle["counts"].encode("ascii")}
