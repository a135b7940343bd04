"""How well images and depths are met; numpy only."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import correlate1d

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.ssim_kernels import C1, C2, REACH, WINDOW

LEAST_ERROR = 1e-10  # mean squared error that is as good as none: 100 dB


def psnr(image: np.ndarray, target: np.ndarray, usable: np.ndarray | None = None) -> float:
    """Returns the peak signal-to-noise ratio [dB] over usable pixels and all channels; 100 at most.

    Args:
        image: (H, W, 3) uint8, or float in [0, 1] (clipped to it).
        target: (H, W, 3) likewise.
        usable: (H, W) bool; None = everywhere.

    Raises:
        DataError: No usable pixel.
    """
    squares = np.mean((unit(image) - unit(target)) ** 2, axis=2)
    return -10.0 * math.log10(max(_mean(squares, usable), LEAST_ERROR))


def ssim(image: np.ndarray, target: np.ndarray, usable: np.ndarray | None = None) -> float:
    """Returns the structural similarity (Wang et al. 2004), mean over channels and over usable pixels 5 or more from the edge.

    As ``skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1)``.
    What is not usable still is under the windows of what is.

    Args:
        image: (H, W, 3) uint8, or float in [0, 1] (clipped to it); at least 11 pixels high and wide.
        target: (H, W, 3) likewise.
        usable: (H, W) bool; None = everywhere.

    Raises:
        DataError: No usable pixel far enough from the edge.
    """
    x, y = unit(image), unit(target)
    mean_x, mean_y, xx, yy, xy = (_blur(values) for values in (x, y, x * x, y * y, x * y))
    a = (2.0 * mean_x * mean_y + C1) * (2.0 * (xy - mean_x * mean_y) + C2)
    b = (mean_x**2 + mean_y**2 + C1) * (xx - mean_x**2 + yy - mean_y**2 + C2)
    inner = slice(REACH, -REACH), slice(REACH, -REACH)
    return _mean((a / b).mean(axis=2)[inner], None if usable is None else usable[inner])


def relative_depth_errors(depth: np.ndarray, pixel: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Returns (S,) |drawn - measured| / measured.

    Args:
        depth: (H, W) drawn depth [m].
        pixel: (S,) int64 row * W + column of the measurements.
        measured: (S,) depth [m], > 0.
    """
    return np.abs(depth.reshape(-1)[pixel].astype(np.float64) - measured) / measured


def unit(image: np.ndarray) -> np.ndarray:
    """Returns an image as float64 in [0, 1]."""
    return image / 255.0 if image.dtype == np.uint8 else np.clip(image.astype(np.float64), 0.0, 1.0)


def _blur(values: np.ndarray) -> np.ndarray:
    return correlate1d(correlate1d(values, WINDOW, axis=0), WINDOW, axis=1)


def _mean(values: np.ndarray, usable: np.ndarray | None) -> float:
    values = values if usable is None else values[usable]
    if not values.size:
        raise DataError("has no usable pixel", field="usable", remedy="Look at the masks of this camera")
    return float(values.mean())
