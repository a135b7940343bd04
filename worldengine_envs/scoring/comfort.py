"""Comfort of a motion (rule 8 of the PDM Score): six Savitzky-Golay filtered signals within bounds.

Filters are SciPy's ``savgol_filter`` with its default edges ("interp": a polynomial fit to the first and last window); results are
rounded to 8 decimals. Windows are 41 samples (acceleration, jerk), 8 (acceleration before jerk; even, so its polynomial is
evaluated half a sample late) and 5 (yaw), shortened to the motion where that is shorter; polynomial orders fall with them where a
window has too few samples.
"""

from __future__ import annotations

import math

import numpy as np

from worldengine_envs.scenario.types import STEP_S
from worldengine_envs.simulation.bicycle import AX, AY, YAW
from worldengine_envs.simulation.bicycle import YAW_ACCELERATION as STATE_YAW_ACCELERATION
from worldengine_envs.simulation.bicycle import YAW_RATE as STATE_YAW_RATE
from worldengine_envs.simulation.kernels import kernel

LONGITUDINAL_ACCELERATION, LATERAL_ACCELERATION, JERK, LONGITUDINAL_JERK, YAW_ACCELERATION, YAW_RATE = range(6)
SIGNAL_NAMES = ("longitudinal_acceleration", "lateral_acceleration", "jerk", "longitudinal_jerk", "yaw_acceleration", "yaw_rate")
LOWER_BOUNDS = (-4.05, -4.89, -8.37, -4.13, -1.93, -0.95)  # all bounds are strict
UPPER_BOUNDS = (2.40, 4.89, 8.37, 4.13, 1.93, 0.95)
SCRATCH_ROWS = 8

LONG_WINDOW, JERK_WINDOW, YAW_WINDOW = 41, 8, 5
EXTENDED_JERK_WINDOW = 15  # NAVSIM v2
_LOWER, _UPPER = np.array(LOWER_BOUNDS), np.array(UPPER_BOUNDS)


def _weights(window: int, order: int, derivative: int, at: float) -> np.ndarray:
    """Returns (window,) weights that give a derivative, at sample ``at``, of the polynomial fitted to a window of samples."""
    centre = (window - 1) / 2
    order = min(order, window - 1)
    fit = np.linalg.pinv(np.vander((np.arange(window) - centre) * STEP_S, order + 1, increasing=True))
    powers = np.arange(order + 1)
    t = (at - centre) * STEP_S
    factor = [math.perm(p, derivative) * t ** max(p - derivative, 0) for p in powers]
    return np.array(factor) @ fit


def _tables(longest: int, order: int, derivative: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights for windows 1..longest: at each sample of the window, and for samples away from the edges."""
    at_sample, inside = np.zeros((longest + 1, longest, longest)), np.zeros((longest + 1, longest))
    for window in range(1, longest + 1):
        inside[window, :window] = _weights(window, order, derivative, (window - 1) / 2)
        for i in range(window):
            at_sample[window, i, :window] = _weights(window, order, derivative, i)
    return at_sample, inside


_SMOOTH, _SMOOTH_INSIDE = _tables(JERK_WINDOW, 2, 0)
_RATE, _RATE_INSIDE = _tables(YAW_WINDOW, 2, 1)
_CURVE, _CURVE_INSIDE = _tables(YAW_WINDOW, 3, 2)
_PARABOLA_CURVE, _PARABOLA_CURVE_INSIDE = _tables(YAW_WINDOW, 2, 2)


@kernel
def _round8(value):
    return np.rint(value * 1e8) / 1e8


@kernel
def _short_filter(signal, n, longest, at_sample, inside, out):
    """Filters ``signal[:n]`` with a window of at most ``longest`` samples and rounds the result."""
    window = min(longest, n)
    half = window // 2
    weights = inside[window]
    before = (window - 1) // 2  # samples before the present one: an even window reaches one further ahead than back
    for i in range(half, n - half):
        total = 0.0
        for j in range(window):
            total += weights[j] * signal[i - before + j]
        out[i] = _round8(total)
    for i in range(half):
        first = last = 0.0
        for j in range(window):
            first += at_sample[window, i, j] * signal[j]
            last += at_sample[window, window - half + i, j] * signal[n - window + j]
        out[i], out[n - half + i] = _round8(first), _round8(last)
    if n == 1:
        out[0] = _round8(at_sample[1, 0, 0] * signal[0])


@kernel
def _parabola(signal, start, window):
    """Returns value, slope and half curvature [per sample] at the middle of the parabola fitted to a window."""
    middle = 0.5 * (window - 1)
    s2 = window * (window * window - 1.0) / 12.0
    s4 = s2 * (3.0 * window * window - 7.0) / 20.0
    m0 = m1 = m2 = 0.0
    for i in range(window):
        t, y = i - middle, signal[start + i]
        m0 += y
        m1 += t * y
        m2 += t * t * y
    slope = m1 / s2 if window > 1 else 0.0
    if window < 3:
        return m0 / window, slope, 0.0
    curve = (m2 - m0 * s2 / window) / (s4 - s2 * s2 / window)
    return (m0 - curve * s2) / window, slope, curve


@kernel
def _long_filter(signal, n, longest, slope, out):
    """Filters ``signal[:n]`` with a parabola over an odd number of samples; its value, or its slope [1/s] if ``slope`` is set."""
    window = min(longest, n)
    half = window // 2
    c0, c1, c2 = _parabola(signal, 0, window)
    split = n if n <= longest else half
    for i in range(split):
        t = i - 0.5 * (window - 1)
        out[i] = _round8((c1 + 2.0 * c2 * t) / STEP_S if slope else c0 + t * (c1 + t * c2))
    if n <= longest:
        return
    for i in range(half, n - half):
        c0, c1, c2 = _parabola(signal, i - half, window)
        out[i] = _round8(c1 / STEP_S if slope else c0)
    for i in range(n - half, n):
        t = i - (n - 1 - half)
        out[i] = _round8((c1 + 2.0 * c2 * t) / STEP_S if slope else c0 + t * (c1 + t * c2))


@kernel
def comfort_signals(states, n, scratch):
    """Fills rows 0..5 of ``scratch`` (SCRATCH_ROWS, n or more) with the filtered signals of ``states[:n]`` (n, 11), 0.1 s apart.

    The rows are those of SIGNAL_NAMES, in m/s2, m/s3, rad/s2, rad/s.
    """
    raw, smooth = scratch[6], scratch[7]
    for i in range(n):
        raw[i] = states[i, AX]
    _long_filter(raw, n, LONG_WINDOW, False, scratch[LONGITUDINAL_ACCELERATION])
    _short_filter(raw, n, JERK_WINDOW, _SMOOTH, _SMOOTH_INSIDE, smooth)
    _long_filter(smooth, n, LONG_WINDOW, True, scratch[LONGITUDINAL_JERK])
    for i in range(n):
        raw[i] = states[i, AY]
    _long_filter(raw, n, LONG_WINDOW, False, scratch[LATERAL_ACCELERATION])
    for i in range(n):
        raw[i] = math.hypot(states[i, AX], states[i, AY])
    _short_filter(raw, n, JERK_WINDOW, _SMOOTH, _SMOOTH_INSIDE, smooth)
    _long_filter(smooth, n, LONG_WINDOW, True, scratch[JERK])
    _unwrap_yaw(states, n, raw)
    _short_filter(raw, n, YAW_WINDOW, _CURVE, _CURVE_INSIDE, scratch[YAW_ACCELERATION])
    _short_filter(raw, n, YAW_WINDOW, _RATE, _RATE_INSIDE, scratch[YAW_RATE])


@kernel
def extended_comfort_signals(states, n, rear_axle_to_center, scratch):
    """As ``comfort_signals`` by the rules of NAVSIM v2: shorter windows, accelerations at the centre of the box.

    Windows: acceleration 8, jerk 15 (after 8), yaw 5. The centre's longitudinal acceleration is ax + l (yaw rate^2 + yaw
    acceleration) and the lateral one is ay (in the reference both terms go along the vehicle); the magnitude is the rear axle's.
    """
    raw, smooth = scratch[6], scratch[7]
    for i in range(n):
        turning = states[i, STATE_YAW_RATE] ** 2 + states[i, STATE_YAW_ACCELERATION]
        raw[i] = states[i, AX] + rear_axle_to_center * turning
    _short_filter(raw, n, JERK_WINDOW, _SMOOTH, _SMOOTH_INSIDE, scratch[LONGITUDINAL_ACCELERATION])
    _long_filter(scratch[LONGITUDINAL_ACCELERATION], n, EXTENDED_JERK_WINDOW, True, scratch[LONGITUDINAL_JERK])
    for i in range(n):
        raw[i] = states[i, AY]
    _short_filter(raw, n, JERK_WINDOW, _SMOOTH, _SMOOTH_INSIDE, scratch[LATERAL_ACCELERATION])
    _magnitude_signals(states, n, raw, smooth, scratch[JERK])
    _unwrap_yaw(states, n, raw)
    _short_filter(raw, n, YAW_WINDOW, _CURVE, _CURVE_INSIDE, scratch[YAW_ACCELERATION])
    _short_filter(raw, n, YAW_WINDOW, _RATE, _RATE_INSIDE, scratch[YAW_RATE])


@kernel
def _magnitude_signals(states, n, raw, acceleration, jerk):
    """Acceleration and jerk of the rear axle, as magnitude and its slope, by the rules of NAVSIM v2."""
    for i in range(n):
        raw[i] = math.hypot(states[i, AX], states[i, AY])
    _short_filter(raw, n, JERK_WINDOW, _SMOOTH, _SMOOTH_INSIDE, acceleration)
    _long_filter(acceleration, n, EXTENDED_JERK_WINDOW, True, jerk)


@kernel
def _unwrap_yaw(states, n, out):
    turns = 0.0
    for i in range(n):
        if i > 0:
            turns += np.rint((states[i, YAW] - states[i - 1, YAW]) / (2.0 * math.pi))
        out[i] = states[i, YAW] - 2.0 * math.pi * turns


@kernel
def frame_signals(states, n, scratch):
    """Fills rows 0..3 of ``scratch`` with what NAVSIM v2 compares between plans of two frames.

    Magnitudes of acceleration [m/s2] and jerk [m/s3], yaw rate [rad/s] and yaw acceleration [rad/s2] (of parabolas).
    """
    raw = scratch[6]
    _magnitude_signals(states, n, raw, scratch[0], scratch[1])
    _unwrap_yaw(states, n, raw)
    _short_filter(raw, n, YAW_WINDOW, _RATE, _RATE_INSIDE, scratch[2])
    _short_filter(raw, n, YAW_WINDOW, _PARABOLA_CURVE, _PARABOLA_CURVE_INSIDE, scratch[3])


@kernel
def within_bounds(scratch, n, row):
    """Whether one of the signals stays strictly within its bounds."""
    low, high = scratch[row, 0], scratch[row, 0]
    for i in range(1, n):
        low, high = min(low, scratch[row, i]), max(high, scratch[row, i])
    return low > _LOWER[row] and high < _UPPER[row]


@kernel
def is_comfortable(states, n, scratch):
    """Whether all signals of ``states[:n]`` (n, 11) stay within bounds; ``scratch`` (SCRATCH_ROWS, n or more) is overwritten."""
    comfort_signals(states, n, scratch)
    for row in range(6):
        if not within_bounds(scratch, n, row):
            return False
    return True
