"""The ground as flat Gaussians: squares of a quad-tree, and in those with a marking or an edge up to three bands along it."""

from __future__ import annotations

import math

import numpy as np

from worldengine_envs.city.gaussians.cloud import THICKNESS, Cloud, add_patch
from worldengine_envs.city.gaussians.viewing import EYE_HEIGHT, Viewing, nearest_eye
from worldengine_envs.city.surfaces.textures import ground_color
from worldengine_envs.city.surfaces.types import Ground
from worldengine_envs.simulation.kernels import inlined_kernel, kernel

ROOT = 60.0  # side of the squares that the tree starts from [m]
SIDE = 8  # samples along a side of a square
STACK = 64
BINS = 16  # places at which bands may be cut
LEAST_SHARE = 0.04  # of a square's samples that a band needs
BLUR = 0.06  # squared error along a cut, over squared contrast and the mean width of the bands
ONE_SIDE, TWO_SIDES = 1.75, 1.45  # standard deviation across a band that ends at one cut, or two, over root mean square extent
UNDER, UNDER_DEPTH, UNDER_SPREAD, UNDER_SIDE = 1.0, 0.6, 2.2, 4
"""Of the layer beneath: size of its squares over those of the largest above, depth [m], spread, samples along a side."""
AWAY = 0.1  # how far off its cut a band moves, over its width


def sample_whole_ground(ground: Ground, viewing: Viewing, low: np.ndarray, high: np.ndarray, cloud: Cloud) -> None:
    """Adds the Gaussians of the ground of a street to a cloud, from x, y ``low`` to at least ``high`` [m]."""
    columns, rows = (int(n) for n in np.ceil((high - low) / ROOT))
    work = np.empty((SIDE, SIDE, 3)), np.empty((BINS + 1, 4)), np.empty((STACK, 4))
    sample_squares(ground, viewing, low[0], low[1], columns, rows, cloud, *work)


@kernel
def sample_squares(ground, viewing, low_x, low_y, columns, rows, cloud, samples, bins, stack):
    """Adds the Gaussians of the ground in ``columns`` x ``rows`` squares of ROOT metres from a corner.

    Args:
        ground: ``Ground``.
        viewing: ``Viewing``.
        low_x, low_y: Corner [m].
        columns, rows: Number of squares along x and y.
        cloud: ``Cloud``, appended to.
        samples: (SIDE, SIDE, 3) float64, bins: (BINS + 1, 4) float64, stack: (STACK, 4) float64; to work on.
    """
    for root in range(columns * rows):
        stack[0, 0], stack[0, 1] = low_x + (root % columns + 0.5) * ROOT, low_y + (root // columns + 0.5) * ROOT
        stack[0, 2], stack[0, 3] = ROOT, 0.0
        top = 1
        while top > 0:
            top -= 1
            x, y, side = stack[top, 0], stack[top, 1], stack[top, 2]
            distance, done = nearest_eye(viewing, x, y), False
            is_backed = stack[top, 3] > 0.0
            if not is_backed and side < UNDER * viewing.largest * distance:
                _add_under(ground, viewing, x, y, side, cloud)
                is_backed = True
            if side < viewing.largest * distance or top + 4 > STACK:
                done = _add_square(ground, viewing, x, y, side, distance, cloud, samples, bins)
            if not done:
                for k in range(4):
                    stack[top, 0] = x + (0.25 if k & 1 else -0.25) * side
                    stack[top, 1] = y + (0.25 if k & 2 else -0.25) * side
                    stack[top, 2], stack[top, 3] = 0.5 * side, 1.0 if is_backed else 0.0
                    top += 1


@inlined_kernel
def _add_under(ground, viewing, x, y, side, cloud):
    """Adds a wide Gaussian beneath a square: gaps between those above show about the colour that belongs there."""
    r = g = b = 0.0
    for i in range(UNDER_SIDE):
        for j in range(UNDER_SIDE):
            step = side / UNDER_SIDE
            p, q, s = ground_color(ground, x + (j + 0.5) * step - 0.5 * side, y + (i + 0.5) * step - 0.5 * side)
            r, g, b = r + p, g + q, b + s
    n = UNDER_SIDE * UNDER_SIDE
    wide = UNDER_SPREAD * UNDER_SPREAD * _spread(side)
    _add_band(cloud, viewing, x, y, -UNDER_DEPTH, 1.0, 0.0, wide, 0.0, wide, r / n, g / n, b / n)


@inlined_kernel
def _add_square(ground, viewing, x, y, side, distance, cloud, samples, bins):
    """Adds the Gaussians of a square, or returns False where it should be split."""
    step, n = side / SIDE, SIDE * SIDE
    sr = sg = sb = square = 0.0
    for i in range(SIDE):
        for j in range(SIDE):
            r, g, b = ground_color(ground, x + (j - 0.5 * (SIDE - 1)) * step, y + (i - 0.5 * (SIDE - 1)) * step)
            samples[i, j, 0], samples[i, j, 1], samples[i, j, 2] = r, g, b
            sr, sg, sb, square = sr + r, sg + g, sb + b, square + r * r + g * g + b * b
    error = max(square - (sr * sr + sg * sg + sb * sb) / n, 0.0) / n
    # how large the square looks from the height of a camera
    weight = side * side * EYE_HEIGHT / (distance * distance * distance)
    if error * weight < viewing.error:
        wide = viewing.spread * viewing.spread * _spread(side)
        _add_band(cloud, viewing, x, y, 0.0, 1.0, 0.0, wide, 0.0, wide, sr / n, sg / n, sb / n)
        return True
    cos, sin = _direction(samples)
    left, first, second = _cut(samples, cos, sin, bins)
    left += _blur(bins, first, second)
    if left * weight > viewing.error and side > viewing.smallest * distance:
        return False
    _add_bands(cloud, viewing, x, y, samples, step, cos, sin, first, second)
    return True


@inlined_kernel
def _spread(width):
    return width * width / 12.0


@inlined_kernel
def _direction(samples):
    """Returns cos, sin of the direction in which colours change most (structure tensor)."""
    xx = xy = yy = 0.0
    for i in range(SIDE - 1):
        for j in range(SIDE - 1):
            for c in range(3):
                dx = samples[i, j + 1, c] - samples[i, j, c] + samples[i + 1, j + 1, c] - samples[i + 1, j, c]
                dy = samples[i + 1, j, c] - samples[i, j, c] + samples[i + 1, j + 1, c] - samples[i, j + 1, c]
                xx, xy, yy = xx + dx * dx, xy + dx * dy, yy + dy * dy
    angle = 0.5 * math.atan2(2.0 * xy, xx - yy)
    return math.cos(angle), math.sin(angle)


@inlined_kernel
def _bin(i, j, cos, sin):
    """Returns the bin of a sample along a direction."""
    t = ((j - 0.5 * (SIDE - 1)) * cos + (i - 0.5 * (SIDE - 1)) * sin) / (SIDE * (abs(cos) + abs(sin))) + 0.5
    return min(max(int(t * BINS), 0), BINS - 1)


@inlined_kernel
def _part_error(bins, a, b):
    """Returns minus the squared norm of the sum over bins a..b-1 over their number: the error of one colour, less a constant."""
    n = bins[b, 3] - bins[a, 3]
    if n <= 0.0:
        return 0.0
    r, g, s = bins[b, 0] - bins[a, 0], bins[b, 1] - bins[a, 1], bins[b, 2] - bins[a, 2]
    return -(r * r + g * g + s * s) / n


@inlined_kernel
def _cut(samples, cos, sin, bins):
    """Returns (mean squared error left, first, second): the bins at which three bands of one colour each fit best."""
    square = 0.0
    for k in range(BINS + 1):
        bins[k, 0] = bins[k, 1] = bins[k, 2] = bins[k, 3] = 0.0
    for i in range(SIDE):
        for j in range(SIDE):
            k = _bin(i, j, cos, sin) + 1
            for c in range(3):
                bins[k, c] += samples[i, j, c]
                square += samples[i, j, c] * samples[i, j, c]
            bins[k, 3] += 1.0
    for k in range(1, BINS + 1):
        for c in range(4):
            bins[k, c] += bins[k - 1, c]
    best, first, second = 1e30, 0, 0
    for a in range(BINS):
        head = _part_error(bins, 0, a)
        for b in range(a + 1, BINS + 1):
            error = head + _part_error(bins, a, b) + _part_error(bins, b, BINS)
            if error < best - 1e-9:
                best, first, second = error, a, b
    return max(square + best, 0.0) / (SIDE * SIDE), first, second


@inlined_kernel
def _blur(bins, first, second):
    """Returns the mean squared error from the blur of three bands where they meet (as BLUR of faces)."""
    total = 0.0
    for k in range(2):
        low, cut, high = (0, first, second) if k == 0 else (first, second, BINS)
        n, m = bins[cut, 3] - bins[low, 3], bins[high, 3] - bins[cut, 3]
        if n > 0.0 and m > 0.0:
            contrast = 0.0
            for c in range(3):
                d = (bins[cut, c] - bins[low, c]) / n - (bins[high, c] - bins[cut, c]) / m
                contrast += d * d
            total += BLUR * contrast * 0.5 * (n + m) / (SIDE * SIDE)
    return total


@inlined_kernel
def _add_bands(cloud, viewing, x, y, samples, step, cos, sin, first, second):
    """Adds a Gaussian for each of three bands, from the mean and the covariance of its samples.

    Across the bands it laps over less than it does along them: there the colour changes.
    """
    for band in range(3):
        low, high = (0 if band == 0 else first if band == 1 else second), (first if band == 0 else second if band == 1 else BINS)
        n = 0
        mx = my = xx = xy = yy = r = g = b = 0.0
        for i in range(SIDE):
            for j in range(SIDE):
                if low <= _bin(i, j, cos, sin) < high:
                    px, py = (j - 0.5 * (SIDE - 1)) * step, (i - 0.5 * (SIDE - 1)) * step
                    n, mx, my, xx, xy, yy = n + 1, mx + px, my + py, xx + px * px, xy + px * py, yy + py * py
                    r, g, b = r + samples[i, j, 0], g + samples[i, j, 1], b + samples[i, j, 2]
        if n < LEAST_SHARE * SIDE * SIDE:
            continue
        mx, my, own = mx / n, my / n, _spread(step)
        xx, xy, yy = xx / n - mx * mx + own, xy / n - mx * my, yy / n - my * my + own
        across = cos * cos * xx + 2.0 * cos * sin * xy + sin * sin * yy
        along = sin * sin * xx - 2.0 * cos * sin * xy + cos * cos * yy
        mixed = cos * sin * (yy - xx) + (cos * cos - sin * sin) * xy
        sides = (low > 0) + (high < BINS)
        narrow = viewing.spread if sides == 0 else ONE_SIDE if sides == 1 else TWO_SIDES
        shift = 0.0 if sides != 1 else AWAY * math.sqrt(12.0 * across) * (1.0 if low > 0 else -1.0)
        _add_band(
            cloud, viewing, x + mx + shift * cos, y + my + shift * sin, 0.0, cos, sin,
            across * narrow * narrow, mixed * narrow * viewing.spread, along * viewing.spread * viewing.spread,
            r / n, g / n, b / n,
        )  # fmt: skip


@inlined_kernel
def _add_band(cloud, viewing, x, y, z, cos, sin, across, mixed, along, r, g, b):
    """Adds a Gaussian of this covariance across and along a direction, and this colour."""
    # Cholesky factor of the covariance: its columns a, b give a a^T + b b^T
    p = math.sqrt(across)
    q = mixed / p
    s = math.sqrt(max(along - q * q, 1e-8))
    row = add_patch(cloud, x, y, z, p * cos - q * sin, p * sin + q * cos, 0.0, -s * sin, s * cos, 0.0, THICKNESS, viewing.logit)
    if row < 0:
        return
    cloud.albedo[row, 0], cloud.albedo[row, 1], cloud.albedo[row, 2] = r, g, b
    cloud.glow[row, 0] = cloud.glow[row, 1] = cloud.glow[row, 2] = cloud.glow[row, 3] = 0.0
    cloud.always[row] = False
    cloud.normal[row, 0] = cloud.normal[row, 1] = 0.0
    cloud.normal[row, 2] = 1.0
