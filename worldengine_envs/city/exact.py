"""Arithmetic that gives the same bits on every machine.

Addition, multiplication, division and square root are rounded alike everywhere (IEEE 754); sines and random numbers of
libraries are not. The city is built from these functions, so that a recipe's hash holds on any computer.
"""

from __future__ import annotations

import random

import numpy as np

HALF_PI_HIGH = 1.5707963267341256  # first 33 bits of pi / 2, exact when multiplied by small integers
HALF_PI_LOW = 6.077100506506192e-11
SINE = (1 / 355687428096000, -1 / 1307674368000, 1 / 6227020800, -1 / 39916800, 1 / 362880, -1 / 5040, 1 / 120, -1 / 6, 1.0)
COSINE = (1 / 20922789888000, -1 / 87178291200, 1 / 479001600, -1 / 3628800, 1 / 40320, -1 / 720, 1 / 24, -1 / 2, 1.0)


def sin_cos(angle) -> tuple[np.ndarray, np.ndarray]:
    """Returns (sin, cos) of angles [rad] below about 1e5 in magnitude, from Taylor's series on [-pi/4, pi/4]."""
    angle = np.asarray(angle, dtype=np.float64)
    quarter = np.rint(angle * (2.0 / 3.141592653589793))
    r = (angle - quarter * HALF_PI_HIGH) - quarter * HALF_PI_LOW
    z = r * r
    sine, cosine = SINE[0], COSINE[0]
    for a, b in zip(SINE[1:], COSINE[1:], strict=True):
        sine, cosine = sine * z + a, cosine * z + b
    sine = sine * r
    q = quarter.astype(np.int64) & 3
    swap, flip_sine, flip_cosine = (q & 1) == 1, q >= 2, (q == 1) | (q == 2)
    s, c = np.where(swap, cosine, sine), np.where(swap, sine, cosine)
    return np.where(flip_sine, -s, s), np.where(flip_cosine, -c, c)


def turn_of(angle: float) -> tuple[float, float]:
    """Returns (sin, cos) of one angle [rad]: ``sin_cos`` in plain floats, ten times as fast for a single number."""
    quarter = round(angle * (2.0 / 3.141592653589793))
    r = (angle - quarter * HALF_PI_HIGH) - quarter * HALF_PI_LOW
    z = r * r
    sine, cosine = SINE[0], COSINE[0]
    for a, b in zip(SINE[1:], COSINE[1:], strict=True):
        sine, cosine = sine * z + a, cosine * z + b
    sine *= r
    return ((sine, cosine), (cosine, -sine), (-sine, -cosine), (-cosine, sine))[quarter & 3]


def arctan(slope) -> np.ndarray:
    """Returns the angle [rad] in (-pi/2, pi/2) with this tangent: three half-angle steps, then the series."""
    t = np.asarray(slope, dtype=np.float64)
    for _ in range(3):
        t = t / (1.0 + np.sqrt(1.0 + t * t))
    z = t * t
    value = np.full_like(z, 1.0 / 21.0)
    for k in (19, 17, 15, 13, 11, 9, 7, 5, 3, 1):
        value = 1.0 / k - value * z
    return 8.0 * value * t


def arctan2(y, x) -> np.ndarray:
    """Returns the angle [rad] of the direction (x, y) in (-pi, pi)."""
    y, x = np.asarray(y, dtype=np.float64), np.asarray(x, dtype=np.float64)
    r = np.sqrt(x * x + y * y)
    behind = x < 0  # tan(angle / 2) in the form that does not cancel
    top, bottom = np.where(behind, r - x, y), np.where(behind, y, r + x)
    bottom = np.where(bottom == 0, 1e-300, bottom)
    return 2.0 * arctan(np.clip(top / bottom, -1e100, 1e100))


def interpolate(x, xp: np.ndarray, fp: np.ndarray) -> np.ndarray:
    """Linear interpolation as ``numpy.interp``, but in separate operations that no compiler fuses."""
    i = np.clip(np.searchsorted(xp, x, side="right") - 1, 0, len(xp) - 2)
    u = np.clip((x - xp[i]) / (xp[i + 1] - xp[i]), 0.0, 1.0)
    return fp[i] + u * (fp[i + 1] - fp[i])


class Draw:
    """Random numbers from Python's generator, whose ``random()`` is promised to stay as it is across versions."""

    def __init__(self, *key):
        self._random = random.Random("/".join(str(k) for k in key)).random

    def uniform(self, low: float, high: float) -> float:
        """A number from low up to, but not, high."""
        return low + (high - low) * self._random()

    def integer(self, low: int, high: int) -> int:
        """One of low .. high, both included."""
        return low + int(self._random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self._random() < probability

    def choice(self, options):
        """One of a sequence, all alike probable."""
        return options[int(self._random() * len(options))]
