"""Depth measures over the pixels that were measured (a true depth of 0 is a hole), and the one that ANNEXE publishes.

A model of relative depth says 0 (near) to 1 (far); `align` brings it to the unit of the truth by the scale and shift that fit best
(Ranftl et al. 2020), after which the usual measures of Eigen et al. (2014) apply. All depths are float [H, W].
"""

import numpy as np

#: Aligned depths below this are raised to it (in the unit of the truth), so that ratios stay finite.
LEAST = 1e-3


def _pairs(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted, truth = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if predicted.shape != truth.shape:
        raise ValueError(f"depths of different sizes: {list(predicted.shape)} and {list(truth.shape)}")
    valid = (truth > 0) & np.isfinite(predicted)
    return predicted[valid], truth[valid]


def abs_rel(predicted, truth) -> float | None:
    """Mean of |predicted - true| / true over measured pixels; None if there are none."""
    p, t = _pairs(predicted, truth)
    return float(np.mean(np.abs(p - t) / t)) if len(t) else None


def rmse(predicted, truth) -> float | None:
    """Root of the mean squared error over measured pixels, in the unit of the truth; None if there are none."""
    p, t = _pairs(predicted, truth)
    return float(np.sqrt(np.mean((p - t) ** 2))) if len(t) else None


def delta(predicted, truth, bound: float = 1.25) -> float | None:
    """Share of measured pixels with max(predicted / true, true / predicted) < bound; None if there are none."""
    p, t = _pairs(predicted, truth)
    if not len(t):
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.maximum(p / t, t / p)
    return float(np.mean((p > 0) & (ratio < bound)))


def align(predicted, truth) -> np.ndarray:
    """predicted x scale + shift with the least squared error over measured pixels, at least LEAST: float64 [H, W]."""
    p, t = _pairs(predicted, truth)
    scale, shift = 0.0, (float(t.mean()) if len(t) else 0.0)
    if len(t) and np.ptp(p) > 0:
        scale = float(np.mean((p - p.mean()) * (t - t.mean())) / np.var(p))
        shift = float(t.mean() - scale * p.mean())
    return np.maximum(np.asarray(predicted, dtype=np.float64) * scale + shift, LEAST)


def normalized_mae(predicted, truth) -> float | None:
    """Mean |predicted - true| with the truth brought to 0..1 by the least and largest measured depth of the picture; None without any."""
    p, t = _pairs(predicted, truth)
    span = float(np.ptp(t)) if len(t) else 0.0
    return float(np.mean(np.abs(p - (t - t.min()) / span))) if span > 0 else None


def annexe_mae(predicted, truth) -> float:
    """"MAE" of one batch as the released evaluation of ANNEXE computes it (eval_egoirgbench.py, `calculate_mae`), in float32.

    predicted, truth: float32 [B, 448, 448] in 0..1; see `annexe_truth`. Holes count as depth. Summed as by one thread of a CPU: the last
    digits of such a sum depend on the number of threads, and on a GPU. Raises ValueError where the released code stops: a batch of one
    picture, whose truth loses its first axis while the prediction keeps it.
    """
    import torch

    predicted, truth = (torch.from_numpy(np.ascontiguousarray(v, dtype=np.float32)) for v in (predicted, truth))
    if predicted.shape != truth.shape or predicted.ndim != 3:
        raise ValueError(f"depths of different sizes: {list(predicted.shape)} and {list(truth.shape)}")
    if len(predicted) == 1:
        raise ValueError("the batch holds one picture")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return torch.mean(torch.abs(predicted - truth)).item()
    finally:
        torch.set_num_threads(threads)


def annexe_truth(image) -> np.ndarray:
    """A depth image as the released loader of ANNEXE prepares it: 448x448, bicubic, least to largest value as 0 to 1: float32.

    image: PIL image of one channel. A picture of one depth gives NaN, as there.
    """
    from PIL import Image

    values = np.asarray(image.resize((448, 448), Image.BICUBIC))
    values = values.astype(np.float32) / np.float32(255) if values.dtype == np.uint8 else values.astype(np.int64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.float32(values - values.min()) / np.float32(values.max() - values.min())
