"""Comfort filters against scipy's, for motions of any length."""

import numpy as np
import pytest
from scipy.signal import savgol_filter

from worldengine_envs.scoring import comfort


def motion(rng, n):
    states = np.zeros((n, 11))
    states[:, 5] = np.cumsum(rng.normal(0, 0.4, n))
    states[:, 6] = rng.normal(0, 0.3, n)
    states[:, 2] = (np.cumsum(rng.normal(0, 0.3, n)) + np.pi) % (2 * np.pi) - np.pi
    states[:, 9:] = rng.normal(0, 0.2, (n, 2))
    return states


def savgol(signal, window, order, derivative=0):
    window = min(window, len(signal))
    return np.round(savgol_filter(signal, window, min(order, window - 1), deriv=derivative, delta=0.1), 8)


def expected_signals(states):
    n = len(states)
    ax, ay, yaw = states[:, 5], states[:, 6], np.unwrap(states[:, 2])

    def jerk(a):
        return savgol(savgol(a, 8, 2), 41, 2, 1)

    return np.stack(
        [savgol(ax, 41, 2), savgol(ay, 41, 2), jerk(np.hypot(ax, ay)), jerk(ax), savgol(yaw, 5, 3, 2), savgol(yaw, 5, 2, 1)]
    )[:, :n]


@pytest.mark.parametrize("n", [4, 5, 6, 7, 8, 9, 20, 40, 41, 42, 60, 81, 151])
def test_signals_as_in_scipy(n):
    rng = np.random.default_rng(n)
    for _ in range(5):
        states = motion(rng, n)
        scratch = np.empty((comfort.SCRATCH_ROWS, n + 3))
        comfort.comfort_signals(states, n, scratch)
        expected = expected_signals(states)
        assert scratch[:6, :n] == pytest.approx(expected, abs=3e-7)  # rounding of accelerations may fall either way
        low, high = np.array(comfort.LOWER_BOUNDS), np.array(comfort.UPPER_BOUNDS)
        within = (expected.min(1) > low) & (expected.max(1) < high)
        assert [comfort.within_bounds(scratch, n, row) for row in range(6)] == within.tolist()
        assert comfort.is_comfortable(states, n, scratch) == within.all()


@pytest.mark.parametrize("n", [41, 55, 56])
def test_extended_signals_as_in_scipy(n):
    states = motion(np.random.default_rng(n), n)
    ax, ay, yaw = states[:, 5], states[:, 6], np.unwrap(states[:, 2])
    centre = ax + 1.461 * (states[:, 9] ** 2 + states[:, 10])
    scratch = np.empty((comfort.SCRATCH_ROWS, n))
    comfort.extended_comfort_signals(states, n, 1.461, scratch)
    a, magnitude = savgol(centre, 8, 2), savgol(np.hypot(ax, ay), 8, 2)
    expected = [a, savgol(ay, 8, 2), savgol(magnitude, 15, 2, 1), savgol(a, 15, 2, 1), savgol(yaw, 5, 3, 2), savgol(yaw, 5, 2, 1)]
    assert scratch[:6] == pytest.approx(np.stack(expected), abs=3e-7)
    comfort.frame_signals(states, n, scratch)
    expected = [magnitude, savgol(magnitude, 15, 2, 1), savgol(yaw, 5, 2, 1), savgol(yaw, 5, 2, 2)]
    assert scratch[:4] == pytest.approx(np.stack(expected), abs=3e-7)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_shortest_motions_have_finite_signals(n):
    states = np.zeros((n, 11))
    states[:, 5], states[:, 2] = 1.0, 0.5
    scratch = np.full((comfort.SCRATCH_ROWS, n), np.nan)
    comfort.comfort_signals(states, n, scratch)
    assert scratch[:6] == pytest.approx(np.array([[1.0], [0], [0], [0], [0], [0]]) * np.ones(n), abs=1e-7)


def test_bounds_are_strict():
    states = np.zeros((41, 11))
    scratch = np.empty((comfort.SCRATCH_ROWS, 41))
    for acceleration, comfortable in [(2.4, False), (2.3999, True), (-4.05, False), (-4.0499, True)]:
        states[:, 5] = acceleration
        assert comfort.is_comfortable(states, 41, scratch) == comfortable
