"""MediaPipe's palm detector and hand landmark network as proposals: two small TFLite files, run by LiteRT.

The pipeline is MediaPipe Hands' own (SSD anchors, weighted non-maximum suppression, rotated crop, 21 landmarks), written
from its published graph options (google-ai-edge/mediapipe, `modules/palm_detection` and `modules/hand_landmark`, Apache-2.0),
with one change: the detector also looks at overlapping tiles, because hands in first-person photos are small.
The files are not part of this project: `egohoi assets` takes them from the PyPI wheel of mediapipe by pinned hash.
"""

import contextlib
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from egohoi.boxes import iou_matrix
from egohoi.errors import BadWeights, need

PALM = "palm_detection_full.tflite"
LANDMARK = "hand_landmark_full.tflite"
_PALM_SIDE = 192
_CROP_SIDE = 224
#: Growth of the landmarks' extent on each side that fits hand boxes best.
GROWTH = 0.1


@dataclass(frozen=True)
class HandProposal:
    """A hand found by the networks. box: xyxy pixels; presence: confidence of the landmark network in [0, 1];
    palm: score of the detector; right: probability that it is a right hand (image as seen, not mirrored);
    landmarks: float32 [21, 2] pixels."""

    box: tuple[float, float, float, float]
    presence: float
    palm: float
    right: float
    landmarks: np.ndarray


def anchors() -> np.ndarray:
    """Centres of the palm detector's 2016 anchors, float32 [2016, 2] in [0, 1] (strides 8, 16, 16, 16; two per layer)."""
    out = []
    for stride, repeat in ((8, 2), (16, 6)):
        cells = _PALM_SIDE // stride
        grid = (np.arange(cells, dtype=np.float32) + 0.5) / cells
        yy, xx = np.meshgrid(grid, grid, indexing="ij")
        out.append(np.repeat(np.stack([xx, yy], -1).reshape(-1, 2), repeat, axis=0))
    return np.concatenate(out)


def tiles(width: int, height: int, overlap: float = 0.25) -> list[tuple[int, int, int, int]]:
    """The whole picture and four overlapping quarters, as xyxy pixel windows."""
    w, h = round(width * (0.5 + overlap / 2)), round(height * (0.5 + overlap / 2))
    corners = [(0, 0), (width - w, 0), (0, height - h), (width - w, height - h)]
    return [(0, 0, width, height)] + [(x, y, x + w, y + h) for x, y in corners]


def weighted_nms(boxes: np.ndarray, scores: np.ndarray, points: np.ndarray, threshold: float = 0.3):
    """MediaPipe's blending suppression: boxes [N, 4] that overlap the best one are averaged by score.

    points: [N, K, 2] averaged alike. Returns (boxes, scores, points) of the survivors, best first.
    """
    order = np.argsort(-scores, kind="stable")
    kept = []
    while order.size:
        best = order[0]
        overlap = iou_matrix(boxes[best : best + 1], boxes[order])[0]
        group = order[(overlap > threshold) | (order == best)]
        weight = scores[group] / scores[group].sum()
        kept.append((weight @ boxes[group], scores[best], np.einsum("n,nkc->kc", weight, points[group])))
        order = order[~np.isin(order, group)]
    if not kept:
        return np.zeros((0, 4)), np.zeros(0), np.zeros((0, points.shape[1], 2))
    b, s, p = zip(*kept)
    return np.stack(b), np.array(s), np.stack(p)


def crop_frame(box, wrist, middle) -> tuple[float, float, float, float]:
    """Centre x, y, side and angle (radians) of the landmark crop for a palm (all pixels).

    The crop is 2.6 times the palm, moved half a palm towards the fingers and turned so that the middle finger points up.
    """
    angle = math.pi / 2 - math.atan2(-(middle[1] - wrist[1]), middle[0] - wrist[0])
    angle -= 2 * math.pi * math.floor((angle + math.pi) / (2 * math.pi))
    width, height = box[2] - box[0], box[3] - box[1]
    x = (box[0] + box[2]) / 2 + 0.5 * height * math.sin(angle)
    y = (box[1] + box[3]) / 2 - 0.5 * height * math.cos(angle)
    return x, y, 2.6 * max(width, height), angle


@contextlib.contextmanager
def _quiet():
    """LiteRT writes a line of greeting to the process's standard error, past Python: keep it away."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class HandNets:
    """The two networks. `find` proposes hands in one picture; deterministic."""

    def __init__(self, folder, threads: int = 2):
        """folder: holds the two .tflite files. Raises BadWeights, MissingExtra."""
        runtime = need("ai_edge_litert.interpreter", "handnets")
        self._nets = []
        for name in (PALM, LANDMARK):
            path = Path(folder) / name
            if not path.is_file():
                raise BadWeights(f"{path}: not there; `egohoi assets` fetches the hand networks")
            with _quiet():
                net = runtime.Interpreter(model_path=str(path), num_threads=threads)
                net.allocate_tensors()
            self._nets.append(net)
        self._anchors = anchors()

    def _run(self, which: int, image: np.ndarray) -> list[np.ndarray]:
        net = self._nets[which]
        net.set_tensor(net.get_input_details()[0]["index"], image[None].astype(np.float32))
        net.invoke()
        return [net.get_tensor(o["index"])[0].copy() for o in net.get_output_details()]

    def palms(self, image: Image.Image, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Palms of one RGB image: boxes [N, 4], scores [N], key points [N, 7, 2], in pixels."""
        width, height = image.size
        side = max(width, height)
        small = image.resize((max(1, round(width * _PALM_SIDE / side)), max(1, round(height * _PALM_SIDE / side))), Image.BILINEAR)
        canvas = np.zeros((_PALM_SIDE, _PALM_SIDE, 3), np.float32)
        left, top = (_PALM_SIDE - small.width) // 2, (_PALM_SIDE - small.height) // 2
        canvas[top : top + small.height, left : left + small.width] = np.asarray(small, np.float32) / 255.0
        outputs = self._run(0, canvas)
        raw = next(o for o in outputs if o.shape[-1] == 18)
        logit = next(o for o in outputs if o.shape[-1] == 1)[:, 0]
        score = 1 / (1 + np.exp(-np.clip(logit, -100, 100)))
        keep = score >= threshold
        raw, score, centre = raw[keep], score[keep], self._anchors[keep]
        xy = raw[:, :2] / _PALM_SIDE + centre
        wh = raw[:, 2:4] / _PALM_SIDE
        points = raw[:, 4:].reshape(-1, 7, 2) / _PALM_SIDE + centre[:, None]
        # letterbox -> picture
        scale, shift = side, np.array([left, top]) / _PALM_SIDE
        found = np.concatenate([xy - wh / 2 - shift, xy + wh / 2 - shift], 1) * scale
        return weighted_nms(found, score, (points - shift) * scale)

    def look(self, image: Image.Image, frame) -> tuple[np.ndarray, float, float]:
        """Landmarks [21, 2] (pixels), presence and right-hand probability of the crop `frame` (see `crop_frame`)."""
        x, y, side, angle = frame
        cos, sin, step = math.cos(angle), math.sin(angle), side / _CROP_SIDE
        half = _CROP_SIDE / 2
        a, b, d, e = cos * step, -sin * step, sin * step, cos * step
        crop = image.transform(
            (_CROP_SIDE, _CROP_SIDE), Image.AFFINE, (a, b, x - a * half - b * half, d, e, y - d * half - e * half), Image.BILINEAR
        )
        outputs = self._run(1, np.asarray(crop, np.float32) / 255.0)
        marks = outputs[0].reshape(21, 3)[:, :2] - half
        points = np.stack([x + a * marks[:, 0] + b * marks[:, 1], y + d * marks[:, 0] + e * marks[:, 1]], 1)
        return points.astype(np.float32), float(outputs[1].reshape(-1)[0]), float(outputs[2].reshape(-1)[0])

    def find(self, pixels: np.ndarray, palm: float = 0.05, presence: float = 0.5, tiled: bool = True) -> list[HandProposal]:
        """Hands in uint8 [H, W, 3] RGB, best first. palm, presence: thresholds of the two networks."""
        image = Image.fromarray(pixels)
        width, height = image.size
        found = []
        for window in tiles(width, height) if tiled else [(0, 0, width, height)]:
            part = image if window == (0, 0, width, height) else image.crop(window)
            boxes, scores, points = self.palms(part, palm)
            offset = np.array(window[:2])
            for box, score, key in zip(boxes + np.tile(offset, 2), scores, points + offset):
                marks, present, right = self.look(image, crop_frame(box, key[0], key[2]))
                if present >= presence:
                    found.append(HandProposal(_extent(marks, width, height), present, float(score), right, marks))
        return _distinct(found)

    def confirm(self, pixels: np.ndarray, boxes) -> list[HandProposal]:
        """What the landmark network says of given boxes (xyxy pixels) in uint8 [H, W, 3] RGB: for each the surest of eight turns of a crop
        half again as large. A look whose landmarks lie elsewhere (IoU with the box up to 0.3) has presence 0. `palm` is 0."""
        image = Image.fromarray(pixels)
        width, height = image.size
        out = []
        for box in boxes:
            side, best = 1.5 * max(box[2] - box[0], box[3] - box[1]), None
            for turn in range(8):
                marks, presence, right = self.look(image, ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, side, turn * math.pi / 4))
                seen = _extent(marks, width, height)
                if seen[2] <= seen[0] or seen[3] <= seen[1] or iou_matrix([seen], [box])[0, 0] <= 0.3:
                    presence = 0.0
                if best is None or presence > best.presence:
                    best = HandProposal(seen, presence, 0.0, right, marks)
            out.append(best)
        return out


def _extent(marks: np.ndarray, width: int, height: int) -> tuple[float, float, float, float]:
    low, high = marks.min(0), marks.max(0)
    grow = GROWTH * (high - low)
    (x1, y1), (x2, y2) = low - grow, high + grow
    return (max(0.0, float(x1)), max(0.0, float(y1)), min(float(width), float(x2)), min(float(height), float(y2)))


def _distinct(found: list[HandProposal], overlap: float = 0.4) -> list[HandProposal]:
    """One proposal a hand: the one of the highest presence among those that overlap."""
    out: list[HandProposal] = []
    for p in sorted(found, key=lambda q: (-q.presence, -q.palm)):
        if p.box[2] - p.box[0] < 2 or p.box[3] - p.box[1] < 2:
            continue
        if all(iou_matrix([p.box], [q.box])[0, 0] < overlap for q in out):
            out.append(p)
    return out
