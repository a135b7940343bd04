"""Comfort of executed motion of any length: Savitzky-Golay filters with SciPy's default edges, without tables.

For 41 states this is rule 8 of the real scorer; longer motions slide the window of 41, shorter ones shorten it.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from worldengine_envs.scenario.types import STEP_S
from worldengine_envs.simulation.geometry import wrap_angle

WINDOW = 41  # samples (4 s) of the filters of acceleration and jerk
JERK_WINDOW, YAW_WINDOW = 8, 5
MIN_LONGITUDINAL, MAX_LONGITUDINAL, MAX_LATERAL = -4.05, 2.40, 4.89  # acceleration [m/s2]; all bounds are strict
MAX_JERK, MAX_LONGITUDINAL_JERK = 8.37, 4.13  # [m/s3]
MAX_YAW_ACCELERATION, MAX_YAW_RATE = 1.93, 0.95  # [rad/s2], [rad/s]


@njit(cache=True, nogil=True)
def _fit(signal, start, w, order):
    """Least-squares polynomial over ``signal[start:start + w]``, as coefficients of discrete orthogonal polynomials in t."""
    w2 = float(w) * w
    t2, t4 = (w2 - 1.0) / 12.0, (3.0 * w2 - 7.0) / 20.0
    s0 = s1 = s2 = s3 = 0.0
    for i in range(w):
        t, value = i - (w - 1) / 2.0, signal[start + i]
        s0 += value
        s1 += value * t
        s2 += value * (t * t - t2)
        s3 += value * (t * t * t - t4 * t)
    n1 = w * (w2 - 1.0) / 12.0
    n2 = n1 * (w2 - 4.0) / 15.0
    n3 = n2 * (w2 - 9.0) * 9.0 / 140.0
    c1 = s1 / n1 if w > 1 and order >= 1 else 0.0
    c2 = s2 / n2 if w > 2 and order >= 2 else 0.0
    c3 = s3 / n3 if w > 3 and order >= 3 else 0.0
    return s0 / w, c1, c2, c3, t2, t4


@njit(cache=True, nogil=True)
def savgol(signal, count, window, order, derivative, out):
    """Filters ``signal[:count]`` into ``out``, rounded to 8 decimals.

    As ``scipy.signal.savgol_filter(signal, window, order, derivative, delta=0.1)``: edges are read off the polynomial of the first
    and last window, and an even window gives the value half a sample later. A signal shorter than the window shortens it (and the
    order, which stays below the number of samples).
    """
    w = min(window, count)
    half = w // 2
    fitted = -1
    c0 = c1 = c2 = c3 = t2 = t4 = 0.0
    for i in range(count):
        if i < half:
            start, at = 0, float(i)
        elif i >= count - half:
            start, at = count - w, float(i - (count - w))
        else:
            start, at = i - (w - 1) // 2, (w - 1) / 2.0
        if start != fitted:
            c0, c1, c2, c3, t2, t4 = _fit(signal, start, w, order)
            fitted = start
        t = at - (w - 1) / 2.0
        if derivative == 0:
            value = c0 + c1 * t + c2 * (t * t - t2) + c3 * (t * t * t - t4 * t)
        elif derivative == 1:
            value = (c1 + 2.0 * c2 * t + c3 * (3.0 * t * t - t4)) / STEP_S
        else:
            value = (2.0 * c2 + 6.0 * c3 * t) / (STEP_S * STEP_S)
        out[i] = np.rint(value * 1e8) / 1e8


@njit(cache=True, nogil=True)
def _within(signal, count, low, high):
    for i in range(count):
        if not low < signal[i] < high:
            return False
    return True


@njit(cache=True, nogil=True)
def is_comfortable(states, count, scratch):
    """Whether all six signals of a motion stay within their bounds.

    Args:
        states: (steps, 11) ego states at 0.1 s.
        count: Number of states in use, 1 or more.
        scratch: (3, steps) is overwritten.
    """
    raw, smooth, result = scratch[0], scratch[1], scratch[2]
    for axis in range(2):
        for i in range(count):
            raw[i] = states[i, 5 + axis]
        savgol(raw, count, WINDOW, 2, 0, result)
        low, high = (MIN_LONGITUDINAL, MAX_LONGITUDINAL) if axis == 0 else (-MAX_LATERAL, MAX_LATERAL)
        if not _within(result, count, low, high):
            return False
    for of_magnitude in range(2):
        for i in range(count):
            raw[i] = math.hypot(states[i, 5], states[i, 6]) if of_magnitude else states[i, 5]
        savgol(raw, count, JERK_WINDOW, 2, 0, smooth)
        savgol(smooth, count, WINDOW, 2, 1, result)
        bound = MAX_JERK if of_magnitude else MAX_LONGITUDINAL_JERK
        if not _within(result, count, -bound, bound):
            return False
    raw[0] = states[0, 2]
    for i in range(1, count):
        raw[i] = raw[i - 1] + wrap_angle(states[i, 2] - states[i - 1, 2])
    savgol(raw, count, YAW_WINDOW, 3, 2, result)
    if not _within(result, count, -MAX_YAW_ACCELERATION, MAX_YAW_ACCELERATION):
        return False
    savgol(raw, count, YAW_WINDOW, 2, 1, result)
    return _within(result, count, -MAX_YAW_RATE, MAX_YAW_RATE)
