"""What shapes of Gaussians cost, and its gradient, in one pass."""

from __future__ import annotations

import math

import numpy as np

from worldengine_envs.simulation.kernels import kernel


@kernel
def weigh_shapes(scales, counted, flatness, needles, thinnest, largest, gradient):
    """Returns the mean of flatness * shortest axis + needles * max(longest / second - thinnest, 0), and writes its gradient.

    Args:
        scales: (N, 3) float32 logarithms of the axes.
        counted: (N,) bool; others do not count.
        flatness, needles: Weights.
        thinnest: Ratio that is free.
        largest: Logarithm of a ratio; more does not count more.
        gradient: (N, 3) float32, written where it is not 0.
    """
    n = 0
    for i in range(len(counted)):
        n += counted[i]
    free, total = math.log(thinnest), 0.0
    for i in range(len(counted)):
        if not counted[i]:
            continue
        a, b, c = scales[i, 0], scales[i, 1], scales[i, 2]
        short = 0 if a <= b and a <= c else (1 if b <= c else 2)
        long = 2 if c >= a and c >= b else (1 if b >= a else 0)
        size = math.exp(np.float64(scales[i, short]))
        total += flatness * size
        gradient[i, short] += np.float32(flatness * size / n)
        second = 3 - short - long
        if short == long:  # all the same
            continue
        ratio = np.float64(scales[i, long]) - np.float64(scales[i, second])
        if ratio > free:
            total += needles * (math.exp(min(ratio, largest)) - thinnest)
            slope = np.float32(needles * math.exp(ratio) / n) if ratio < largest else np.float32(0.0)
            gradient[i, long] += slope
            gradient[i, second] -= slope
    return total / max(n, 1)
