"""The tracker and the bicycle against dense least squares, closed forms and the reference's own numbers."""

import math

import numpy as np
import pytest

from worldengine_envs.simulation import bicycle, tracker

WHEEL_BASE = 3.089


def random_plan(rng, n):
    speed = rng.uniform(0, 15) + np.cumsum(rng.normal(0, 0.3, n))
    yaw = rng.uniform(-3, 3) + np.cumsum(rng.normal(0, 0.02, n + 1))
    poses = np.zeros((n + 1, 3))
    poses[:, 2] = (yaw + math.pi) % (2 * math.pi) - math.pi
    poses[1:, 0], poses[1:, 1] = np.cumsum(speed * np.cos(yaw[:-1]) * 0.1), np.cumsum(speed * np.sin(yaw[:-1]) * 0.1)
    poses[1:, :2] += rng.normal(0, 0.05, (n, 2))
    return poses


def dense_profiles(poses):
    """The same fits with a start value and its derivatives as unknowns, by numpy's least squares."""
    n, dt = len(poses) - 1, 0.1
    step = np.diff(poses[:, :2], axis=0)
    along = step[:, 0] * np.cos(poses[:-1, 2]) + step[:, 1] * np.sin(poses[:-1, 2])
    integrate = np.tril(np.full((n, n), dt))
    integrate[:, 0] = 1.0
    penalty = np.zeros((n - 2, n))
    penalty[:, 1:-1] = -np.eye(n - 2)
    penalty[-1, -1] = 1.0
    a = np.concatenate([dt * integrate, math.sqrt(1e-4) * penalty])
    velocity = integrate @ np.linalg.lstsq(a, np.concatenate([along, np.zeros(n - 2)]), rcond=None)[0]
    turn = (np.diff(poses[:, 2]) + math.pi) % (2 * math.pi) - math.pi
    penalty = np.diag([1e-5] + [0.1] * (n - 1))
    a = np.concatenate([dt * velocity[:, None] * integrate, penalty])
    return velocity, integrate @ np.linalg.lstsq(a, np.concatenate([turn, np.zeros(n)]), rcond=None)[0]


@pytest.mark.parametrize("n", [3, 4, 5, 8, 20, 40, 80])
def test_profiles_equal_dense_least_squares(n):
    rng = np.random.default_rng(n)
    for _ in range(10):
        poses = random_plan(rng, n)
        velocity, curvature = np.empty(n), np.empty(n)
        tracker.velocity_profile(poses, velocity)
        tracker.curvature_profile(poses, velocity, curvature, np.empty(n))
        expected_velocity, expected_curvature = dense_profiles(poses)
        assert velocity == pytest.approx(expected_velocity, abs=1e-10)
        assert curvature == pytest.approx(expected_curvature, abs=1e-8)


def test_profiles_of_a_car_at_rest_are_zero():
    poses = np.zeros((41, 3))
    poses[:, 2] = 1.0
    velocity, curvature = np.empty(40), np.empty(40)
    tracker.velocity_profile(poses, velocity)
    tracker.curvature_profile(poses, velocity, curvature, np.empty(40))
    assert not velocity.any() and not curvature.any()


def test_published_velocity_fit(shared):
    with np.load(shared / "data/navsim_scores/canonical_input.npz", allow_pickle=False) as case:
        step, yaw = case["xy_disp"][0], case["heading_prof"][0]
    poses = np.zeros((41, 3))
    poses[1:, :2] = np.cumsum(step, axis=0)
    poses[:-1, 2] = yaw
    velocity = np.empty(40)
    tracker.velocity_profile(poses, velocity)
    assert velocity[0] == pytest.approx(12.533835468245853, abs=1e-11)


def test_bicycle_goes_round_in_a_circle():
    state = np.zeros(11)
    state[bicycle.VX], state[bicycle.STEERING] = 5.0, 0.2
    radius = WHEEL_BASE / math.tan(0.2)
    positions = []
    for _ in range(int(2 * math.pi * radius / 0.5)):
        bicycle.advance(state, 0.0, 0.0, WHEEL_BASE)
        positions.append(state[:2].copy())
    assert np.hypot(*(np.array(positions) - [0, radius]).T) == pytest.approx(radius, rel=0.02)
    assert state[bicycle.YAW_RATE] == pytest.approx(5.0 / radius)


def test_bicycle_lags_and_limits():
    state = np.zeros(11)
    state[bicycle.VX], state[bicycle.VY], state[bicycle.AY] = 3.0, 0.3, 0.4
    bicycle.advance(state, 3.0, 9.0, WHEEL_BASE)
    assert state[bicycle.AX] == pytest.approx(1.0) and state[bicycle.VX] == pytest.approx(3.1)
    assert state[bicycle.VY] == state[bicycle.AY] == 0.0
    assert state[bicycle.STEERING_RATE] == pytest.approx(6.0) and state[bicycle.STEERING] == pytest.approx(0.6)
    bicycle.advance(state, 0.0, 9.0, WHEEL_BASE)
    assert state[bicycle.STEERING] == pytest.approx(math.pi / 3)


def test_tracker_follows_an_arc():
    s = 8.0 * 0.1 * np.arange(81)
    poses = np.stack([40 * np.sin(s / 40), 40 * (1 - np.cos(s / 40)), (s / 40 + math.pi) % (2 * math.pi) - math.pi], axis=1)
    start = np.zeros(11)
    start[1], start[bicycle.VX] = 0.5, 8.0
    states = tracker.track(poses, start, WHEEL_BASE)
    assert np.hypot(*(states[-1, :2] - poses[-1, :2])) < 0.3
    assert states[-1, bicycle.VX] == pytest.approx(8.0, abs=0.1)


def test_tracker_refuses_a_plan_without_steps():
    with pytest.raises(ValueError, match="poses"):
        tracker.track(np.zeros((1, 3)), np.zeros(11), WHEEL_BASE)


@pytest.mark.parametrize("name", ["p16_straight_weird_ego", "p46_roundabout_small", "p21_straight_overlap_stopped_ego"])
def test_states_equal_the_reference(shared, name):
    with np.load(shared / f"reference/pdm_cases/{name}.npz", allow_pickle=False) as case:
        start, poses, expected = case["ego_state"], case["out_tracked_poses"], case["out_sim_states"]
    offset = np.concatenate([start[:2], np.zeros(9)])
    for row in range(len(poses)):
        error = tracker.track(poses[row] - offset[:3], start - offset, WHEEL_BASE) - (expected[row] - offset)
        error[:, 2] = (error[:, 2] + math.pi) % (2 * math.pi) - math.pi
        assert np.abs(error).max() < 1e-7
