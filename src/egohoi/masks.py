"""Masks: COCO run-length encoding, polygons, index images. A mask is bool or uint8 `[H, W]`; an RLE is
`{"size": [H, W], "counts": str}` (COCO's compressed, column-major runs; pycocotools)."""

import numpy as np
from pycocotools import mask as coco

from egohoi.errors import BadMask


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
    if not (isinstance(shape, (list, tuple)) and len(shape) == 2 and all(isinstance(v, int) and v > 0 for v in shape)):
        raise BadMask(f"{where}: 'size' must be [height, width], got {shape!r}")
    if not isinstance(counts, (str, list)):
        raise BadMask(f"{where}: 'counts' must be a COCO run-length string, got {type(counts).__name__}")
    if size is not None and (shape[1], shape[0]) != tuple(size):
        raise BadMask(f"{where}: is {shape[1]}x{shape[0]} pixels, its picture {size[0]}x{size[1]}")
    total = sum(counts) if isinstance(counts, list) else _total(counts, where)
    if total != shape[0] * shape[1]:
        raise BadMask(f"{where}: runs cover {total} pixels, the mask has {shape[0] * shape[1]}")
    return rle


def _total(counts: str, where: str) -> int:
    """Number of pixels that the compressed runs cover (pycocotools' rleFrString, without the pixels)."""
    runs, p, data = [], 0, counts.encode("ascii", "replace")
    while p < len(data):
        value, shift, more = 0, 0, True
        while more:
            if p >= len(data):
                raise BadMask(f"{where}: 'counts' ends in the middle of a run")
            byte = data[p] - 48
            if not 0 <= byte < 64 or shift > 30:
                raise BadMask(f"{where}: 'counts' holds a character that is not COCO run-length text at {p}")
            value |= (byte & 0x1F) << shift
            more = bool(byte & 0x20)
            p, shift = p + 1, shift + 5
            if not more and byte & 0x10:
                value |= -1 << shift
        if len(runs) > 2:
            value += runs[-2]
        if value < 0:
            raise BadMask(f"{where}: 'counts' holds a negative run")
        runs.append(value)
    return sum(runs)


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
