"""The binary miniatures under tests/data, written byte by byte and pixel by pixel, without the package.

`python tests/scenes/miniature.py` writes them anew.
"""

import pickle
import struct
from pathlib import Path

import numpy as np
from PIL import Image

DATA = Path(__file__).parent.parent / "data"


def field(number: int, wire: int, payload: bytes) -> bytes:
    """One protobuf field with a number below 16: wire 0 varint, 2 length-delimited (below 128 bytes), 5 four bytes."""
    length = bytes([len(payload)]) if wire == 2 else b""
    return bytes([number << 3 | wire]) + length + payload


def real(number: int, value: float) -> bytes:
    # proto3 leaves out zeros
    return field(number, 5, struct.pack("<f", value)) if value else b""


def whole(number: int, value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return field(number, 0, out + bytes([value])) if value or out else b""


def bbox(left, top, right, bottom) -> bytes:
    return real(1, left) + real(2, top) + real(3, right) + real(4, bottom)


def hand(box, score, state, offset, side) -> bytes:
    return (
        field(1, 2, bbox(*box)) + real(2, score) + whole(3, state) + field(4, 2, real(1, offset[0]) + real(2, offset[1])) + whole(5, side)
    )


def thing(box, score) -> bytes:
    return field(1, 2, bbox(*box)) + real(2, score)


def frame(video: str, number: int, hands=(), objects=()) -> bytes:
    return (
        field(1, 2, video.encode()) + whole(2, number) + b"".join(field(3, 2, h) for h in hands)
        + b"".join(field(4, 2, o) for o in objects)
    )


#: Fractions of a 456x256 picture that are exact in binary: 1/4 is 114 and 64 pixels, 1/2 is 228 and 128.
FRAMES = [
    frame("P01_01", 1),
    frame(
        "P01_01", 2,
        hands=[
            hand((0.0, 0.5, 0.25, 1.0), 0.75, 3, (0.25, -0.25), 0),  # left, on a portable object; points to the 2nd object
            hand((0.75, 0.5, 1.0, 1.0), 0.875, 0, (0.0, 0.0), 1),  # right, touches nothing
            hand((0.5, 0.5, 0.75, 1.0), 0.25, 4, (0.0, 0.0), 1),  # below the threshold
        ],
        objects=[
            thing((0.5, 0.0, 1.0, 0.25), 0.5),  # centre (342, 32)
            thing((0.25, 0.25, 0.5, 0.75), 0.625),  # centre (171, 128)
            thing((0.0, 0.0, 1.0, 1.0), 0.125),  # below the threshold
        ],
    ),
    frame("P01_01", 3, hands=[hand((0.0, 0.5, 0.25, 1.0), 1.0, 1, (0.0, 0.0), 0)], objects=[thing((0.25, 0.25, 0.5, 0.75), 1.0)]),
    frame("P01_01", 150, hands=[hand((0.0, 0.5, 0.25, 1.0), 1.0, 4, (0.5, 0.0), 0)]),
]

#: EgoHOS label: a left hand with a cup, a right hand that holds nothing, and what is in the cup.
LABEL = np.zeros((8, 12), dtype=np.uint8)
LABEL[4:8, 0:3] = 1
LABEL[5:8, 9:12] = 2
LABEL[3:6, 3:6] = 3
LABEL[2:3, 3:7] = 6


def write() -> None:
    # The release was written by Python 3.7, whose pickles have protocol 3.
    (DATA / "epic" / "P01_01.pkl").write_bytes(pickle.dumps(FRAMES, protocol=3))
    split = DATA / "egohos" / "train"
    Image.fromarray(LABEL).save(split / "label" / "ego4d_1.png")
    Image.fromarray(np.full((8, 12, 3), 90, dtype=np.uint8)).save(split / "image" / "ego4d_1.jpg")


if __name__ == "__main__":
    write()
