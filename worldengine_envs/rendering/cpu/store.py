"""How the rasteriser keeps Gaussians: eight side by side, neighbours together, in chunks that can be left out at a glance."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from worldengine_envs.rendering.cpu.simd import LANES
from worldengine_envs.rendering.cpu.threads import over
from worldengine_envs.rendering.gaussians import Gaussians
from worldengine_envs.simulation.kernels import inlined_kernel, kernel

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


class Harmonics(NamedTuple):
    """Spherical harmonics of N Gaussians, or gradients by them.

    Coefficient 0 of Gaussian g and channel c is ``first[g * first_step + c]``, coefficient k > 0
    ``rest[rest_start + g * rest_step + 3 * (k - 1) + c]``.
    """

    first: np.ndarray  # float32
    rest: np.ndarray  # float32; may be the same array
    first_step: int
    rest_start: int
    rest_step: int
    count: int  # of coefficients in use: 1, 4, 9 or 16
    plain: np.ndarray  # (N,) bool who has only coefficient 0 in use; (0,) = nobody


def together(sh: np.ndarray) -> Harmonics:
    """Returns the harmonics of one array (N, K, 3), contiguous float32, K = 1, 4, 9 or 16."""
    flat, count = sh.reshape(-1), sh.shape[1]
    return Harmonics(flat, flat, 3 * count, 3, 3 * count, count, np.zeros(0, bool))


def apart(first: np.ndarray, rest: np.ndarray, count: int, plain: np.ndarray) -> Harmonics:
    """Returns the harmonics of two arrays (N, 1, 3) and (N, K - 1, 3), of which ``count`` coefficients are in use."""
    return Harmonics(first.reshape(-1), rest.reshape(-1), 3, 0, 3 * rest.shape[1], count, plain)


def pack(gaussians: Gaussians, in_order: bool = False) -> Part:
    """Returns Gaussians as the rasteriser wants them. One with a parameter that is not finite, or no rotation, is never drawn.

    Args:
        gaussians: N Gaussians.
        in_order: Keep their order. Otherwise neighbours in space come together (Morton order).
    """
    g, order = gaussians, np.arange(len(gaussians), dtype=np.int32) if in_order else morton_order(gaussians.means)
    values = [np.ascontiguousarray(array, np.float32) for array in (g.means, g.quats, g.scales, g.opacities)]
    return pack_arrays(*values, together(np.ascontiguousarray(g.sh, np.float32)), order)


def pack_arrays(means, quats, scales, opacities, harmonics: Harmonics, order: np.ndarray, threads: int = 1) -> Part:
    """As ``pack``, for contiguous float32 arrays as in ``Gaussians``, of which some are taken in an order.

    Args:
        means, quats, scales, opacities: (N, 3), (N, 4), (N, 3), (N,).
        harmonics: Of N Gaussians.
        order: (M,) int32 rows; ranks stay those of N Gaussians.
        threads: How many threads work on it.
    """
    n, groups = len(order), -(-len(order) // LANES)
    part_order = np.zeros((groups, LANES), np.int32)
    part_order.ravel()[:n] = order
    geometry = np.empty((groups, GEOMETRY, LANES), np.float32)
    colors = np.empty((groups, 3 * harmonics.count, LANES), np.float32)
    bounds = np.empty((-(-groups // GROUPS), BOUNDS), np.float32)
    values, chunks = (means, quats, scales, opacities, harmonics), len(bounds)
    over(threads, lambda t: _pack(chunks * t // threads, chunks * (t + 1) // threads, order, *values, geometry, colors, bounds))
    addresses = (geometry.ctypes.data, colors.ctypes.data, part_order.ctypes.data, bounds.ctypes.data)
    return Part(geometry, colors, part_order, bounds, n, (*addresses, groups, math.isqrt(harmonics.count) - 1))


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
def _pack(first, last, order, means, quats, scales, opacities, harmonics, geometry, colors, bounds):
    """Writes chunks first to last - 1, and what bounds them."""
    for chunk in range(first, last):
        start, stop = chunk * GROUPS * LANES, min((chunk + 1) * GROUPS * LANES, len(order))
        for i in range(start, -(-stop // LANES) * LANES):
            drawn = i < stop and _pack_geometry(i, order[i], means, quats, scales, opacities, harmonics, geometry)
            if drawn:
                _pack_colors(i, order[i], harmonics, colors)
            else:
                for j in range(GEOMETRY):
                    geometry[i // LANES, j, i % LANES] = ZERO
                for j in range(colors.shape[1]):
                    colors[i // LANES, j, i % LANES] = ZERO
        _bound(start, stop, geometry, bounds[chunk])


@inlined_kernel
def _pack_geometry(i, k, means, quats, scales, opacities, harmonics, geometry):
    """Writes place and shape of Gaussian k to place i; returns whether it can be drawn: all of its numbers are finite."""
    group, lane = i // LANES, i % LANES
    w, x, y, z = np.float64(quats[k, 0]), np.float64(quats[k, 1]), np.float64(quats[k, 2]), np.float64(quats[k, 3])
    length = math.sqrt(w * w + x * x + y * y + z * z)
    w, x, y, z = w / length, x / length, y / length, z / length
    sx, sy, sz = math.exp(np.float64(scales[k, 0])), math.exp(np.float64(scales[k, 1])), math.exp(np.float64(scales[k, 2]))
    logit = np.float64(opacities[k])
    total = 0.0 * (means[k, 0] + means[k, 1] + means[k, 2] + logit + sx + sy + sz + w) + _zero_if_finite(k, harmonics)
    if not (total == 0.0 and sx < 1e15 and sy < 1e15 and sz < 1e15):  # NaN or infinite
        return False
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
    return True


@inlined_kernel
def coefficients_of(k, harmonics):
    """Returns how many coefficients of Gaussian k are in use."""
    return 1 if len(harmonics.plain) and harmonics.plain[k] else harmonics.count


@inlined_kernel
def _zero_if_finite(k, harmonics):
    """Returns 0 if all coefficients of Gaussian k are finite, else NaN; three sums wait less for each other than one."""
    at = k * harmonics.first_step
    red, green, blue = ZERO * harmonics.first[at], ZERO * harmonics.first[at + 1], ZERO * harmonics.first[at + 2]
    at = harmonics.rest_start + k * harmonics.rest_step
    for j in range(at, at + 3 * (coefficients_of(k, harmonics) - 1), 3):
        red += ZERO * harmonics.rest[j]
        green += ZERO * harmonics.rest[j + 1]
        blue += ZERO * harmonics.rest[j + 2]
    return red + green + blue


@inlined_kernel
def _pack_colors(i, k, harmonics, colors):
    group, lane, count = i // LANES, i % LANES, coefficients_of(k, harmonics)
    for j in range(3):
        colors[group, j, lane] = harmonics.first[k * harmonics.first_step + j]
    at = harmonics.rest_start + k * harmonics.rest_step
    for j in range(3 * (count - 1)):
        colors[group, 3 + j, lane] = harmonics.rest[at + j]
    for j in range(3 * count, colors.shape[1]):
        colors[group, j, lane] = ZERO


@inlined_kernel
def _bound(first, last, geometry, bound):
    """Writes the sphere around the means at places first to last - 1 and the largest standard deviation of these Gaussians."""
    for axis in range(3):
        low, high = np.inf, -np.inf
        for i in range(first, last):
            low = min(low, geometry[i // LANES, axis, i % LANES])
            high = max(high, geometry[i // LANES, axis, i % LANES])
        bound[axis] = 0.5 * low + 0.5 * high
    radius, spread = 0.0, 0.0
    for i in range(first, last):
        group, lane = i // LANES, i % LANES
        distance = 0.0
        for axis in range(3):
            distance += (np.float64(geometry[group, axis, lane]) - np.float64(bound[axis])) ** 2
            scale = 0.0
            for row in range(3):
                scale += np.float64(geometry[group, 3 + 3 * row + axis, lane]) ** 2
            spread = max(spread, scale)
        radius = max(radius, distance)
    bound[3], bound[4] = 1.0001 * math.sqrt(radius), 1.0001 * math.sqrt(spread)
