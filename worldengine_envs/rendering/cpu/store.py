"""How the rasteriser keeps Gaussians: eight side by side, neighbours together, in chunks that can be left out at a glance."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from worldengine_envs.rendering.cpu.simd import LANES
from worldengine_envs.rendering.gaussians import Gaussians
from worldengine_envs.simulation.kernels import kernel

ZERO = np.float32(0.0)
GROUPS = 32  # of a chunk: 256 Gaussians
GEOMETRY = 13  # mean 3, R diag(scale) row by row 9, opacity
BOUNDS = 5  # centre 3 and radius of a sphere around the means, largest standard deviation
# Columns of Placed.parts
GEOMETRY_AT, COLORS_AT, ORDER_AT, BOUNDS_AT, NUM_GROUPS, SH_DEGREE = range(6)
PART_FIELDS = 6


class Part(NamedTuple):
    """N Gaussians in groups of LANES; the last group is filled up with Gaussians of no opacity."""

    geometry: np.ndarray  # (groups, GEOMETRY, LANES) float32
    colors: np.ndarray  # (groups, 3 (degree + 1)^2, LANES) float32
    order: np.ndarray  # (groups, LANES) int32 index of each in what was packed
    bounds: np.ndarray  # (chunks, BOUNDS) float32
    size: int  # N
    row: tuple[int, ...]  # of Placed.parts; the addresses hold as long as this tuple is kept


def pack(gaussians: Gaussians, in_order: bool = False) -> Part:
    """Returns Gaussians as the rasteriser wants them. One with a parameter that is not finite, or no rotation, is never drawn.

    Args:
        gaussians: N Gaussians.
        in_order: Keep their order. Otherwise neighbours in space come together (Morton order).
    """
    n, width = len(gaussians), gaussians.sh.shape[1] * 3
    groups = -(-n // LANES)
    sh = np.ascontiguousarray(gaussians.sh, np.float32).reshape(n, width)
    order = np.arange(n, dtype=np.int32) if in_order else morton_order(gaussians.means)
    part_order = np.zeros((groups, LANES), np.int32)
    part_order.ravel()[:n] = order
    geometry = np.zeros((groups, GEOMETRY, LANES), np.float32)
    colors = np.zeros((groups, width, LANES), np.float32)
    bounds = np.zeros((-(-groups // GROUPS), BOUNDS), np.float32)
    values = [np.ascontiguousarray(a, np.float32) for a in gaussians_arrays(gaussians)]
    _pack(order, *values, sh, geometry, colors)
    _bound(n, geometry, bounds)
    addresses = (geometry.ctypes.data, colors.ctypes.data, part_order.ctypes.data, bounds.ctypes.data)
    return Part(geometry, colors, part_order, bounds, n, (*addresses, groups, gaussians.sh_degree))


def gaussians_arrays(gaussians: Gaussians) -> tuple[np.ndarray, ...]:
    """Returns means, quats, scales and opacities."""
    return gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities


def morton_order(means: np.ndarray) -> np.ndarray:
    """Returns (N,) int32 order of points (N, 3) along a curve that keeps neighbours together; cells of 1/2048 of the extent."""
    if not len(means):
        return np.zeros(0, np.int32)
    points = np.where(np.isfinite(means), means, 0.0).astype(np.float64)
    low, high = points.min(0), points.max(0)
    cells = ((points - low) * (2047.0 / max(float((high - low).max()), 1e-9))).astype(np.uint64)
    code = np.zeros(len(points), np.uint64)
    for axis in range(3):
        code |= _spread(cells[:, axis]) << np.uint64(axis)
    return np.argsort(code, kind="stable").astype(np.int32)


def _spread(values: np.ndarray) -> np.ndarray:
    """Puts two zero bits between the bits of 11-bit numbers."""
    spread = np.zeros_like(values)
    for bit in range(11):
        spread |= ((values >> np.uint64(bit)) & np.uint64(1)) << np.uint64(3 * bit)
    return spread


@kernel
def _pack(order, means, quats, scales, opacities, sh, geometry, colors):
    for i in range(len(order)):
        group, lane, k = i // LANES, i % LANES, order[i]
        w, x, y, z = np.float64(quats[k, 0]), np.float64(quats[k, 1]), np.float64(quats[k, 2]), np.float64(quats[k, 3])
        length = math.sqrt(w * w + x * x + y * y + z * z)
        w, x, y, z = w / length, x / length, y / length, z / length
        sx, sy, sz = math.exp(np.float64(scales[k, 0])), math.exp(np.float64(scales[k, 1])), math.exp(np.float64(scales[k, 2]))
        logit = np.float64(opacities[k])
        total = 0.0 * (means[k, 0] + means[k, 1] + means[k, 2] + logit + sx + sy + sz + w)
        red, green, blue = ZERO, ZERO, ZERO  # 0 if all coefficients are finite; three sums wait less for each other than one
        for j in range(0, sh.shape[1], 3):
            red, green, blue = red + ZERO * sh[k, j], green + ZERO * sh[k, j + 1], blue + ZERO * sh[k, j + 2]
        total += red + green + blue
        if not (total == 0.0 and sx < 1e15 and sy < 1e15 and sz < 1e15):  # NaN or infinite
            continue
        for j in range(3):
            geometry[group, j, lane] = means[k, j]
        geometry[group, 3, lane] = (1.0 - 2.0 * (y * y + z * z)) * sx
        geometry[group, 4, lane] = 2.0 * (x * y - w * z) * sy
        geometry[group, 5, lane] = 2.0 * (x * z + w * y) * sz
        geometry[group, 6, lane] = 2.0 * (x * y + w * z) * sx
        geometry[group, 7, lane] = (1.0 - 2.0 * (x * x + z * z)) * sy
        geometry[group, 8, lane] = 2.0 * (y * z - w * x) * sz
        geometry[group, 9, lane] = 2.0 * (x * z - w * y) * sx
        geometry[group, 10, lane] = 2.0 * (y * z + w * x) * sy
        geometry[group, 11, lane] = (1.0 - 2.0 * (x * x + y * y)) * sz
        geometry[group, 12, lane] = 1.0 / (1.0 + math.exp(-logit))
        for j in range(sh.shape[1]):
            colors[group, j, lane] = sh[k, j]


@kernel
def _bound(n, geometry, bounds):
    """Writes the sphere around the means of each chunk and the largest standard deviation in it."""
    for c in range(len(bounds)):
        first, last = c * GROUPS * LANES, min((c + 1) * GROUPS * LANES, n)
        for axis in range(3):
            low, high = np.inf, -np.inf
            for i in range(first, last):
                low = min(low, geometry[i // LANES, axis, i % LANES])
                high = max(high, geometry[i // LANES, axis, i % LANES])
            bounds[c, axis] = 0.5 * low + 0.5 * high
        radius, spread = 0.0, 0.0
        for i in range(first, last):
            group, lane = i // LANES, i % LANES
            distance = 0.0
            for axis in range(3):
                distance += (np.float64(geometry[group, axis, lane]) - np.float64(bounds[c, axis])) ** 2
                scale = 0.0
                for row in range(3):
                    scale += np.float64(geometry[group, 3 + 3 * row + axis, lane]) ** 2
                spread = max(spread, scale)
            radius = max(radius, distance)
        bounds[c, 3], bounds[c, 4] = 1.0001 * math.sqrt(radius), 1.0001 * math.sqrt(spread)
