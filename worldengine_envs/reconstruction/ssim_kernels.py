"""Structural similarity (Wang et al. 2004) of an image and its gradient, eight pixels at a time.

Sums under the window are taken down the columns first, into a row that stays in the cache, then along that row: no image but the
derivatives is ever written. An image is three planes with a border of zeros, see ``plane_shape``.
"""

from __future__ import annotations

import math

import numpy as np

from worldengine_envs.rendering.cpu.simd import LANES, floats, fma, load, save
from worldengine_envs.simulation.kernels import inlined_kernel, kernel

REACH = 5  # of the window of 11 pixels on either side of its middle
SIGMA = 1.5  # [px]
WINDOW = np.exp(-0.5 * (np.arange(-REACH, REACH + 1) / SIGMA) ** 2)
WINDOW /= WINDOW.sum()
TAPS = tuple(float(tap) for tap in WINDOW.astype(np.float32))
C1, C2 = 0.01**2, 0.03**2
MARGIN = LANES  # of zeros on the left and, at least, on the right of a plane; above and below they are REACH
V_MEAN, V_SQUARE, V_PRODUCT = 0, 1, 2  # planes of derivatives
ONE, ZERO = np.float32(1.0), np.float32(0.0)


def plane_shape(height: int, width: int) -> tuple[int, int]:
    """Returns the shape of an image's plane with its border; pixel (y, x) is at (y + REACH, x + MARGIN)."""
    return height + 2 * REACH, 2 * MARGIN + math.ceil(width / LANES) * LANES


@kernel
def load_planes(first, last, rendered, target, usable, x, y, weight, counts):
    """Writes rows first to last - 1 of an image and what it should be into planes.

    Args:
        first, last: Rows.
        rendered: (H, W, 3) float32.
        target: (H, W, 3) uint8.
        usable: (H, W) bool.
        x: (3, *plane_shape) float32: what was drawn, where that is usable, else the target.
        y: (3, *plane_shape) float32: the target in [0, 1].
        weight: (*plane_shape) float32: 1 at usable pixels.
        counts: (H, 3) float64: number of usable pixels in each row, their sums of |x - y| and, x held to [0, 1], of (x - y)^2.
    """
    width = usable.shape[1]
    for row in range(first, last):
        count, error, squares = 0, 0.0, 0.0
        for column in range(width):
            inside = usable[row, column]
            weight[row + REACH, column + MARGIN] = ONE if inside else ZERO
            count += inside
            for c in range(3):
                wanted = np.float32(target[row, column, c]) / np.float32(255.0)
                drawn = rendered[row, column, c] if inside else wanted
                x[c, row + REACH, column + MARGIN], y[c, row + REACH, column + MARGIN] = drawn, wanted
                error += np.float64(abs(drawn - wanted))
                apart = np.float64(min(max(drawn, ZERO), ONE) - wanted)
                squares += apart * apart
        counts[row, 0], counts[row, 1], counts[row, 2] = count, error, squares


@kernel
def similarity_rows(first, last, x, y, weight, sums, totals, v):
    """Adds up the similarity in rows first to last - 1, and writes its derivatives by what is under the window.

    Args:
        first, last: Rows.
        x, y, weight: As ``load_planes`` writes them.
        sums: (5, width of a plane) float32, of this thread.
        totals: (H, 3, LANES) float32, written: sums of weight * similarity by channel and lane.
        v: (3, 3, *plane_shape) float32 by channel: derivatives by the means of x, x^2 and x y; its border has to be 0.
    """
    pitch, size = x.shape[2], x.shape[1] * x.shape[2]
    for row in range(first, last):
        for c in range(3):
            for at in range(0, pitch, LANES):
                _down(c * size + row * pitch + at, at, pitch, x, y, sums)
            total = floats(0.0)
            for at in range(MARGIN, pitch - MARGIN, LANES):
                here = (row + REACH) * pitch + at
                value = _similarity(at, pitch, load(weight, here), sums, 3 * c * size + here, size, v)
                total = fma(load(weight, here), value, total)
            save(totals, (row * 3 + c) * LANES, total)


@inlined_kernel
def _down(start, at, pitch, x, y, sums):
    """Writes sums over a column of the window for LANES pixels: x, y, x^2, y^2, x y."""
    a, b, aa, bb, ab = floats(0.0), floats(0.0), floats(0.0), floats(0.0), floats(0.0)
    for k in range(2 * REACH + 1):
        p, q, tap = load(x, start + k * pitch), load(y, start + k * pitch), floats(_tap(k))
        tp, tq = tap * p, tap * q
        a, b = a + tp, b + tq
        aa, bb, ab = fma(tp, p, aa), fma(tq, q, bb), fma(tp, q, ab)
    save(sums, at, a)
    save(sums, pitch + at, b)
    save(sums, 2 * pitch + at, aa)
    save(sums, 3 * pitch + at, bb)
    save(sums, 4 * pitch + at, ab)


@inlined_kernel
def _tap(k):
    return TAPS[k]


@inlined_kernel
def _along(at, sums):
    """Returns sums along a row of the window for LANES pixels."""
    total = floats(0.0)
    for k in range(2 * REACH + 1):
        total = fma(floats(_tap(k)), load(sums, at + k - REACH), total)
    return total


@inlined_kernel
def _similarity(at, pitch, weight, sums, out, size, v):
    """Returns the similarity of LANES pixels and writes its derivatives times the weight."""
    mean_x, mean_y = _along(at, sums), _along(pitch + at, sums)
    xx, yy, xy = _along(2 * pitch + at, sums), _along(3 * pitch + at, sums), _along(4 * pitch + at, sums)
    product, square_x, square_y, two = mean_x * mean_y, mean_x * mean_x, mean_y * mean_y, floats(2.0)
    a1, a2 = two * product + floats(C1), two * (xy - product) + floats(C2)
    b1, b2 = square_x + square_y + floats(C1), (xx - square_x) + (yy - square_y) + floats(C2)
    scale = floats(1.0) / (b1 * b2)
    value = a1 * a2 * scale
    v_square = -(value / b2)  # by the mean of x^2; what it does to the variance comes with the mean of x
    v_product = two * a1 * scale
    v_mean = two * mean_y * a2 * scale - two * mean_x * value / b1 - two * mean_x * v_square - mean_y * v_product
    save(v, out, weight * v_mean)
    save(v, out + size, weight * v_square)
    save(v, out + 2 * size, weight * v_product)
    return value


@kernel
def gradient_rows(first, last, x, y, weight, v, v_l1, v_ssim, sums, rows, out):
    """Writes the gradient of v_l1 * sum |x - y| + v_ssim * sum of similarities by the image, rows first to last - 1.

    Args:
        first, last: Rows.
        x, y, weight, v: As ``load_planes`` and ``similarity_rows`` write them.
        v_l1, v_ssim: Float32.
        sums: (3, width of a plane) float32, of this thread.
        rows: (3, width of a plane) float32, of this thread.
        out: (H, W, 3) float32, written.
    """
    width, pitch, size = out.shape[1], x.shape[2], x.shape[1] * x.shape[2]
    for row in range(first, last):
        for c in range(3):
            for plane in range(3):
                for at in range(0, pitch, LANES):
                    _down_one(((c * 3 + plane) * size) + row * pitch + at, pitch, v, plane * pitch + at, sums)
            for at in range(MARGIN, pitch - MARGIN, LANES):
                here = c * size + (row + REACH) * pitch + at
                by_square, by_product = _along((V_SQUARE * pitch) + at, sums), _along((V_PRODUCT * pitch) + at, sums)
                gradient = fma(floats(2.0) * load(x, here), by_square, fma(load(y, here), by_product, _along(at, sums)))
                save(rows, c * pitch + at, floats(v_ssim) * gradient)
        for column in range(width):
            inside = weight[row + REACH, column + MARGIN] > ZERO
            for c in range(3):
                apart = x[c, row + REACH, column + MARGIN] - y[c, row + REACH, column + MARGIN]
                sign = v_l1 if apart > ZERO else (-v_l1 if apart < ZERO else ZERO)
                out[row, column, c] = sign + rows[c, column + MARGIN] if inside else ZERO


@inlined_kernel
def _down_one(start, pitch, v, out, sums):
    """Writes sums over a column of the window for LANES pixels."""
    total = floats(0.0)
    for k in range(2 * REACH + 1):
        total = fma(floats(_tap(k)), load(v, start + k * pitch), total)
    save(sums, out, total)
