"""Flat Gaussians under construction: buffers that kernels fill, and how a patch of a surface becomes one of them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from worldengine_envs.rendering.gaussians import Gaussians
from worldengine_envs.simulation.kernels import inlined_kernel

CAPACITY = 1 << 20  # Gaussians of one scene or model; memory is touched only as far as it is filled
THICKNESS = 0.01  # standard deviation across a surface [m]
LEAST_SCALE = 0.002  # of every axis [m]


class Cloud(NamedTuple):
    """Gaussians without light: what a texture gives, to be shaded for each time of day. The first ``count[0]`` rows are filled."""

    count: np.ndarray  # (1,) int64
    means: np.ndarray  # (capacity, 3) float32 [m]
    quats: np.ndarray  # (capacity, 4) float32 w, x, y, z
    scales: np.ndarray  # (capacity, 3) float32 logarithm of standard deviations [m]
    opacities: np.ndarray  # (capacity,) float32 logit
    albedo: np.ndarray  # (capacity, 3) float32
    glow: np.ndarray  # (capacity, 4) float32 colour where it shines in the dark, and the share of the patch that shines
    normal: np.ndarray  # (capacity, 3) float32 unit vectors
    always: np.ndarray  # (capacity,) bool: it shines by day too


def new_cloud(capacity: int = CAPACITY) -> Cloud:
    """Returns an empty cloud."""
    shapes = ((3,), (4,), (3,), (), (3,), (4,), (3,))
    arrays = (np.empty((capacity, *shape), np.float32) for shape in shapes)
    return Cloud(np.zeros(1, np.int64), *arrays, np.empty(capacity, np.bool_))


def gaussians_of(cloud: Cloud, sh: np.ndarray) -> Gaussians:
    """Returns the Gaussians of a cloud with colours ``sh`` (n, 1, 3)."""
    n = int(cloud.count[0])
    return Gaussians(cloud.means[:n].copy(), cloud.quats[:n].copy(), cloud.scales[:n].copy(), cloud.opacities[:n].copy(), sh)


@inlined_kernel
def add_patch(cloud, x, y, z, ax, ay, az, bx, by, bz, thickness, logit):
    """Appends a Gaussian at x, y, z whose covariance is a a^T + b b^T, and ``thickness`` [m] at right angles to both.

    Returns its row, or -1 where the cloud is full. The caller sets colours.
    """
    i = cloud.count[0]
    if i >= len(cloud.means):
        return -1
    cloud.count[0] = i + 1
    cloud.means[i, 0], cloud.means[i, 1], cloud.means[i, 2] = x, y, z
    # an orthonormal pair in the plane of a and b
    la = math.sqrt(ax * ax + ay * ay + az * az)
    inv = 1.0 / max(la, 1e-12)
    e0, e1, e2 = ax * inv, ay * inv, az * inv
    along = bx * e0 + by * e1 + bz * e2
    fx, fy, fz = bx - along * e0, by - along * e1, bz - along * e2
    lf = math.sqrt(fx * fx + fy * fy + fz * fz)
    inv = 1.0 / max(lf, 1e-12)
    fx, fy, fz = fx * inv, fy * inv, fz * inv
    # eigenvectors of the 2 x 2 covariance in that pair
    p, q, r = la * la + along * along, along * lf, lf * lf
    angle = 0.5 * math.atan2(2.0 * q, p - r)
    c, s = math.cos(angle), math.sin(angle)
    mean, spread = 0.5 * (p + r), math.sqrt(0.25 * (p - r) * (p - r) + q * q)
    ux, uy, uz = c * e0 + s * fx, c * e1 + s * fy, c * e2 + s * fz
    vx, vy, vz = c * fx - s * e0, c * fy - s * e1, c * fz - s * e2
    cloud.scales[i, 0] = math.log(max(math.sqrt(mean + spread), LEAST_SCALE))
    cloud.scales[i, 1] = math.log(max(math.sqrt(max(mean - spread, 0.0)), LEAST_SCALE))
    cloud.scales[i, 2] = math.log(max(thickness, LEAST_SCALE))
    cloud.opacities[i] = logit
    _set_quaternion(cloud.quats, i, ux, uy, uz, vx, vy, vz)
    return i


@inlined_kernel
def _set_quaternion(quats, i, ux, uy, uz, vx, vy, vz):
    """Writes w, x, y, z of the rotation whose columns are u, v and u x v."""
    wx, wy, wz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    trace = ux + vy + wz
    if trace > 0.0:
        s = 2.0 * math.sqrt(trace + 1.0)
        quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3] = 0.25 * s, (vz - wy) / s, (wx - uz) / s, (uy - vx) / s
    elif ux >= vy and ux >= wz:
        s = 2.0 * math.sqrt(1.0 + ux - vy - wz)
        quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3] = (vz - wy) / s, 0.25 * s, (vx + uy) / s, (wx + uz) / s
    elif vy >= wz:
        s = 2.0 * math.sqrt(1.0 + vy - ux - wz)
        quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3] = (wx - uz) / s, (vx + uy) / s, 0.25 * s, (wy + vz) / s
    else:
        s = 2.0 * math.sqrt(1.0 + wz - ux - vy)
        quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3] = (uy - vx) / s, (wx + uz) / s, (wy + vz) / s, 0.25 * s
