"""Distorted lenses: Gaussians are drawn by a pinhole camera that sees enough, and its image is resampled.

The model is OpenCV's: a point x, y at z = 1 before the camera, r^2 = x^2 + y^2, is seen at

    x (1 + k1 r^2 + k2 r^4 + k3 r^6) + 2 p1 x y + p2 (r^2 + 2 x^2)
    y (1 + k1 r^2 + k2 r^4 + k3 r^6) + p1 (r^2 + 2 y^2) + 2 p2 x y      coefficients k1, k2, p1, p2, k3
"""

from __future__ import annotations

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.rendering.cameras import intrinsics_of
from worldengine_envs.scenario.types import CameraRig
from worldengine_envs.simulation.kernels import kernel

WIDEST = 5.7  # |x| or |y| at z = 1 that a pinhole camera is asked to see: 80 degrees from its axis
MARGIN = 1.25  # sides of the image that is drawn, over those of the image that is wanted
ITERATIONS = 30
TOLERANCE = 1e-7  # at z = 1; under a thousandth of a pixel


def distort(points: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Returns (..., 2) float64 where points (..., 2) at z = 1 are seen. Coefficients (5,) k1, k2, p1, p2, k3."""
    k1, k2, p1, p2, k3 = coefficients
    x, y = points[..., 0], points[..., 1]
    s = x * x + y * y
    radial = 1 + s * (k1 + s * (k2 + s * k3))
    return np.stack(
        [x * radial + 2 * p1 * x * y + p2 * (s + 2 * x * x), y * radial + p1 * (s + 2 * y * y) + 2 * p2 * x * y], axis=-1
    )


def undistort(points: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Returns (..., 2) float64 the points at z = 1 that are seen at ``points``, by Newton's method.

    Raises:
        DataError: Some are seen nowhere, since the lens model folds back before it gets there.
    """
    k1, k2, p1, p2, k3 = coefficients
    found = np.array(points, np.float64)
    for _ in range(ITERATIONS):
        x, y = found[..., 0], found[..., 1]
        s = x * x + y * y
        radial, slope = 1 + s * (k1 + s * (k2 + s * k3)), 2 * (k1 + s * (2 * k2 + 3 * s * k3))
        xx = radial + x * x * slope + 2 * p1 * y + 6 * p2 * x
        xy = x * y * slope + 2 * p1 * x + 2 * p2 * y
        yy = radial + y * y * slope + 6 * p1 * y + 2 * p2 * x
        off = distort(found, coefficients) - points
        det = xx * yy - xy * xy
        det = np.where(np.abs(det) < 1e-6, 1e-6, det)
        step = np.stack([yy * off[..., 0] - xy * off[..., 1], xx * off[..., 1] - xy * off[..., 0]], axis=-1) / det[..., None]
        found = np.clip(found - step, -100, 100)
    missed = np.abs(distort(found, coefficients) - points).max(axis=-1) > TOLERANCE
    missed |= np.hypot(found[..., 0], found[..., 1]) >= fold_radius(coefficients)
    if missed.any():
        raise DataError(
            f"the lens cannot see {missed.mean():.1%} of the image: its distortion folds back",
            field="camera_rig.distortion",
            remedy="Ask for images of the camera's own shape, or check the coefficients",
        )
    return found


def fold_radius(coefficients: np.ndarray) -> float:
    """Returns the radius at z = 1 from which on the radial distortion decreases; infinity if it never does."""
    k1, k2, _, _, k3 = coefficients
    roots = np.roots([7 * k3, 5 * k2, 3 * k1, 1])
    real = roots[(np.abs(roots.imag) < 1e-12) & (roots.real > 0)].real
    return float(np.sqrt(real.min())) if len(real) else np.inf


def pinhole_views(rig: CameraRig) -> tuple[CameraRig, np.ndarray | None]:
    """Returns what to draw for a rig, and how to get its images from that.

    The images to draw are MARGIN times as large as the rig's, whatever the lenses, so that different rigs fit into one batch.
    Their focal lengths are the cameras' own, or shorter where a lens sees more than fits.

    Args:
        rig: Cameras whose images all have the same size (see ``cameras.scaled_rig``).

    Returns:
        A rig without distortion, and (cameras, H, W, 2) float32 where in its images each pixel of the rig's images is found: x, y
        [px], the first pixel's centre at 0.5, 0.5. The rig itself and None if no camera of it has distortion.

    Raises:
        DataError: A lens cannot be drawn: it folds back inside the image, or is too wide for a pinhole.
    """
    if not rig.distortion.any():
        return rig, None
    height, width = (int(side) for side in rig.image_size[0])
    v, u = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    lens = intrinsics_of(rig)
    seen = (np.stack([u, v], axis=-1) - lens[:, None, None, 2:]) / lens[:, None, None, :2]
    points = np.stack([undistort(p, k) for p, k in zip(seen, rig.distortion, strict=True)])
    if np.abs(points).max() > WIDEST:
        raise DataError("a lens is too wide for a pinhole camera", field="camera_rig.distortion")
    low, high = points.min(axis=(1, 2)), points.max(axis=(1, 2))  # (cameras, 2)
    size = np.ceil(MARGIN * np.array([width, height]))
    shrink = np.minimum(1.0, ((size - 2) / ((high - low) * lens[:, :2] + 1e-9)).min(axis=1))  # with a pixel around
    focal = lens[:, :2] * shrink[:, None]
    center = 0.5 * size - focal * 0.5 * (low + high)
    matrix = rig.intrinsics.copy()
    matrix[:, [0, 1], [0, 1]], matrix[:, :2, 2] = focal, center
    maps = (points * focal[:, None, None] + center[:, None, None]).astype(np.float32)
    image_size = np.tile(size[::-1].astype(np.int32), (len(lens), 1))
    return CameraRig(rig.names, rig.camera_to_ego, matrix, np.zeros_like(rig.distortion), image_size), maps


def resample(images: np.ndarray, maps: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Returns (n, H, W, 3) uint8 images taken, bilinearly, from where the maps say; beyond the edge the edge goes on.

    Args:
        images: (n, h, w, 3) uint8; image i is of camera i modulo the number of cameras.
        maps: (cameras, H, W, 2) float32 x, y [px].
        out: Where to write, if given.
    """
    if out is None:
        out = np.empty((len(images), *maps.shape[1:3], 3), np.uint8)
    _resample(images, maps, out)
    return out


@kernel
def _resample(images, maps, out):
    rows, columns = images.shape[1], images.shape[2]
    for i in range(len(out)):
        image, place = images[i], maps[i % len(maps)]
        for r in range(out.shape[1]):
            for c in range(out.shape[2]):
                x = min(max(place[r, c, 0] - np.float32(0.5), np.float32(0)), np.float32(columns - 1))
                y = min(max(place[r, c, 1] - np.float32(0.5), np.float32(0)), np.float32(rows - 1))
                left, top = int(x), int(y)
                right, bottom = min(left + 1, columns - 1), min(top + 1, rows - 1)
                x, y = x - np.float32(left), y - np.float32(top)
                for k in range(3):
                    upper = image[top, left, k] + x * (np.float32(image[top, right, k]) - image[top, left, k])
                    lower = image[bottom, left, k] + x * (np.float32(image[bottom, right, k]) - image[bottom, left, k])
                    out[i, r, c, k] = np.uint8(upper + y * (lower - upper) + np.float32(0.5))
