"""What actions mean, against closed forms and the tracker's own simulation."""

import numpy as np
import pytest
from factory import straight_scenario

from worldengine_envs.envs import actions
from worldengine_envs.envs.anchors import relative_poses
from worldengine_envs.envs.driving_env import DrivingEnv
from worldengine_envs.errors import DataError
from worldengine_envs.simulation.tracker import track

ROAD = [straight_scenario(lanes=5)]


def run(env, action, steps):
    env.reset(seed=0)
    states = [env.batch.worlds.ego[0].copy()]
    for _ in range(steps):
        env.step(action)
        states.append(env.batch.worlds.ego[0].copy())
    return np.array(states)


def test_control_scales():
    env = DrivingEnv(ROAD, action="control")
    for u, command in ((1.0, 3.0), (-1.0, -8.0), (0.5, 1.5), (-0.5, -4.0), (7.0, 3.0)):
        states = run(env, np.array([u, 0.0]), 6)
        expected = command * (1.0 - (2.0 / 3.0) ** np.arange(7))  # first-order lag: a third of the difference a step
        np.testing.assert_allclose(states[:, 5], expected, atol=1e-12)
    states = run(env, np.array([0.0, -1.0]), 1)
    assert states[1, 8] == pytest.approx(-0.5 * 2 / 3)


def test_control_never_reverses():
    states = run(DrivingEnv(ROAD, action="control"), np.array([-1.0, 0.0]), 30)
    assert (states[:, 3] >= 0.0).all() and states[-1, 3] == 0.0


def test_zeros_go_on_along_an_arc():
    speed, yaw_rate = 7.0, 0.3
    poses = actions.action_to_poses(np.zeros((8, 3)), speed, yaw_rate)
    fine = np.linspace(0.0, 4.0, 400_001)
    dt = fine[1]
    middle = yaw_rate * (fine[:-1] + dt / 2)
    x, y = np.cumsum(speed * dt * np.cos(middle)), np.cumsum(speed * dt * np.sin(middle))
    at = (np.arange(1, 9) * 0.5 / dt).round().astype(int) - 1
    np.testing.assert_allclose(poses, np.stack([x[at], y[at], yaw_rate * fine[at + 1]], axis=1), atol=1e-6)
    straight = actions.constant_motion(np.array([3.0, 0.0]), np.array([0.0, 1e-12]))
    np.testing.assert_allclose(straight[0, :, 0], 1.5 * np.arange(1, 9))
    assert np.isfinite(straight).all()


def test_poses_and_actions_are_inverse():
    rng = np.random.default_rng(0)
    speed, yaw_rate = rng.uniform(0, 20, 5), rng.normal(0, 0.3, 5)
    action = rng.uniform(-2, 2, (5, 8, 3))
    poses = actions.action_to_poses(action, speed, yaw_rate)
    np.testing.assert_allclose(actions.poses_to_action(poses, speed, yaw_rate), action, atol=1e-12)
    unit = actions.action_to_poses(np.ones((8, 3)), 0.0, 0.0)
    np.testing.assert_allclose(unit[3], [10.0, 5.0, np.pi / 4])


def test_commands_and_controls_are_inverse():
    np.testing.assert_allclose(actions.command_to_control(np.array([-8.0, -2.0, 0.0, 3.0, 9.0]), 0.25)[:, 0], [-1, -0.25, 0, 1, 1])
    assert actions.scaled_command(-0.25, 0.5) == (-2.0, 0.25)


def swerve() -> np.ndarray:
    t = 0.5 * np.arange(1, 9)
    return np.stack([8.0 * t, 1.5 * np.sin(np.pi * t / 4) ** 2, 0.15 * np.sin(np.pi * t / 2)], axis=1)


@pytest.mark.parametrize("poses", [8, 40])
def test_a_plan_is_tracked_like_the_scorer_does(poses):
    coarse = swerve()
    knots = np.concatenate([np.zeros((1, 3)), coarse])
    dense = np.stack([np.interp(0.1 * np.arange(41), 0.5 * np.arange(9), knots[:, i]) for i in range(3)], axis=1)
    vocabulary = coarse[None] if poses == 8 else dense[None, 1:]
    env = DrivingEnv(ROAD, action="anchor", anchors=vocabulary)
    env.reset(seed=0)
    start = env.batch.worlds.ego[0].copy()
    env.step(0)
    world = dense + start[:3]  # the ego heads along x
    expected = track(world, start, env.batch.bank.arrays.scenarios["wheel_base"][0])
    np.testing.assert_allclose(env.batch.worlds.ego_history[0, :6], expected[:6], atol=1e-12)


def test_trajectory_and_anchor_agree():
    one, two = DrivingEnv(ROAD, action="anchor", anchors=swerve()[None]), DrivingEnv(ROAD, action="trajectory")
    one.reset(seed=0), two.reset(seed=0)
    for _ in range(8):
        ego = two.batch.worlds.ego[0]
        two.step(actions.poses_to_action(swerve(), ego[3], ego[9]))
        one.step(0)
        np.testing.assert_allclose(one.batch.worlds.ego, two.batch.worlds.ego, atol=1e-9)


def test_perfect_tracking_reaches_the_poses():
    env = DrivingEnv(ROAD, action="anchor", anchors=swerve()[None], tracker="perfect", decision_period_s=4.0)
    env.reset(seed=0)
    start = env.batch.worlds.ego[0, :3].copy()
    env.step(0)
    history = env.batch.worlds.ego_history[0]
    np.testing.assert_allclose(relative_poses(start, history[5::5, :3]), swerve(), atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"observation": "camera"}, "no Gaussian scene"),
        ({"observation": "lidar"}, "observation"),
        ({"image_size": (90, 160)}, "image_size"),
        ({"renderer": "gsplat"}, "renderer"),
        ({"traffic": "behavior"}, "traffic"),
        ({"traffic": {"agent_0": "teleport"}}, "traffic"),
        ({"action": "throttle"}, "action"),
        ({"tracker": "magic"}, "tracker"),
        ({"render_mode": "human"}, "render_mode"),
        ({"horizon_s": 4.05}, "horizon_s"),
        ({"horizon_s": 15.0}, "too short"),
        ({"decision_period_s": -0.5}, "decision_period_s"),
        ({"action": "anchor", "anchors": np.zeros((3, 7, 3))}, "anchors"),
        ({"action": "anchor", "anchors": np.zeros((3, 0, 3))}, "anchors"),
        ({"action": "anchor", "anchors": np.full((3, 8, 3), np.nan)}, "anchors"),
        ({"action": "anchor", "anchors": np.full((3, 8, 3), 1e300)}, "anchors"),
        ({"action": "anchor", "anchors": [[0.0, 0.0, 0.0]]}, "anchors"),
        ({"scenario": "nobody"}, "nobody"),
        ({"split": "nowhere"}, "nowhere"),
        ({"tags": ["unheard"]}, "unheard"),
    ],
)
def test_wrong_settings_are_named(settings, field):
    with pytest.raises(DataError, match=field):
        DrivingEnv(ROAD, **settings)


def test_wrong_actions_are_refused():
    env = DrivingEnv(ROAD, action="control")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="not finite"):
        env.step(np.array([np.nan, 0.0]))
    with pytest.raises(ValueError, match="shape"):
        env.step(np.zeros(3))
    env = DrivingEnv(ROAD, action="trajectory")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="float32"):
        env.step(np.full((8, 3), 1e300))
    observation, *_ = env.step(np.full((8, 3), 1e38))
    assert all(np.isfinite(part).all() for part in observation.values())
    env = DrivingEnv(ROAD, action="anchor")
    env.reset(seed=0)
    for anchor in (-1, 256):
        with pytest.raises(ValueError, match="anchors must be"):
            env.step(anchor)
