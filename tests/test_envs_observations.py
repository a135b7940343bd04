"""What an agent sees, against plain numpy and shapely, and its independence of where the scenario lies."""

import numpy as np
import pytest
from factory import Agent, moved, straight_scenario
from shapely.geometry import LineString, Point

from worldengine_envs.envs.driving_env import DrivingEnv
from worldengine_envs.envs.map_tables import nearest_points, sample_lanes
from worldengine_envs.envs.observations import AGENTS, LIMIT, SHAPES
from worldengine_envs.scenario.types import AgentType, LightState

CROWD = [
    Agent(18.0, 3.5, 8.0, 0.1),
    Agent(30.0, 0.3, 6.0),
    Agent(42.0, 5.0, 1.2, -1.5, AgentType.PEDESTRIAN),
    Agent(12.0, 4.4, 4.0, 0.0, AgentType.BICYCLE, last=12),
    Agent(25.0, -1.6, kind=AgentType.TRAFFIC_CONE),
    Agent(60.0, 3.5, 7.0, first=8),
]


def drive(scenario, action="control", **settings):
    env = DrivingEnv([scenario], action=action, **settings)
    rng = np.random.default_rng(5)
    observations = [env.reset(seed=0)[0]]
    done = False
    while not done:
        u = {"control": np.array([rng.uniform(-0.2, 0.3), rng.normal(0, 0.05)]), "trajectory": np.zeros((8, 3)), "anchor": 200}[
            action
        ]
        observation, _, terminated, truncated, _ = env.step(u)
        observations.append(observation)
        done = terminated or truncated
    return env, observations


def apart(a, b) -> float:
    """Largest difference between two sets of rows, each row compared with the one that fits best (ties may swap their order)."""
    difference = np.abs(a[:, None] - b[None]).max(2)
    return max(difference.min(0).max(), difference.min(1).max())


@pytest.mark.parametrize("light", [None, LightState.RED])
def test_turning_and_moving_the_scene_changes_nothing(light):
    scenario = straight_scenario(CROWD, speed=11.3, light=light)
    _, here = drive(scenario)
    for angle, dx, dy in ((0.7, 130.0, -45.0), (np.pi / 2, 0.0, 0.0), (-2.9, -300.0, 210.0)):
        _, there = drive(moved(scenario, angle, dx, dy))
        assert len(here) == len(there)
        for a, b in zip(here, there, strict=True):
            for name in SHAPES:
                if name == "map":
                    assert apart(a[name], b[name]) < 2e-3
                else:
                    np.testing.assert_allclose(a[name], b[name], atol=2e-3, err_msg=name)


def test_agents_are_the_nearest_in_the_ego_frame():
    rng = np.random.default_rng(2)
    crowd = [Agent(*rng.uniform((-90, -40), (200, 60)), rng.uniform(0, 9), rng.uniform(-3, 3)) for _ in range(60)]
    env, observations = drive(straight_scenario(crowd, speed=0.0))
    worlds, observation = env.batch.worlds, observations[-1]
    ego = worlds.ego[0]
    rows = np.flatnonzero(worlds.present[0])[1:]
    xy = worlds.agents[0, rows, :2] - ego[:2]
    order = rows[np.argsort(np.hypot(*xy.T))][:AGENTS]
    rotate = np.array([[np.cos(ego[2]), np.sin(ego[2])], [-np.sin(ego[2]), np.cos(ego[2])]])
    agents = observation["agents"]
    assert observation["agents_mask"].sum() == AGENTS
    np.testing.assert_allclose(
        agents[:, :2] * 20, np.clip((worlds.agents[0, order, :2] - ego[:2]) @ rotate.T, -200, 200), atol=1e-4
    )
    np.testing.assert_allclose(agents[:, 4:6] * 10, worlds.agents[0, order, 3:5] @ rotate.T, atol=1e-5)
    np.testing.assert_allclose(np.arctan2(agents[:, 3], agents[:, 2]) + ego[2], worlds.agents[0, order, 2], atol=1e-5)
    np.testing.assert_allclose(agents[:, 6:8] * 5, worlds.agent_size[0, order], atol=1e-6)


def test_types_appear_and_vanish():
    _, observations = drive(straight_scenario(CROWD))
    first, last = observations[0], observations[20]
    assert first["agents_mask"].sum() == 5 and last["agents_mask"].sum() == 5
    np.testing.assert_array_equal(first["agents"][:5, 8:].sum(0), [2, 1, 1, 1])
    np.testing.assert_array_equal(last["agents"][:5, 8:].sum(0), [3, 1, 0, 1])
    assert (first["agents"][5:] == 0).all()


def test_route_and_room():
    env, observations = drive(straight_scenario(speed=8.0, lanes=3), horizon_s=4.0)
    for observation in observations[::7]:
        route = observation["route"]
        np.testing.assert_allclose(
            route[:, 2:] * 10, [[8.75, 1.75]] * len(route), atol=0.02
        )  # 3 lanes of 3.5 m, ego in the right one
    ego = env.batch.worlds.ego[0]
    center = LineString([(-100, 0), (400, 0)])
    points = observations[-1]["route"][:, :2] * 20
    cos, sin = np.cos(ego[2]), np.sin(ego[2])
    world = ego[:2] + np.stack([cos * points[:, 0] - sin * points[:, 1], sin * points[:, 0] + cos * points[:, 1]], axis=1)
    assert max(center.distance(Point(p)) for p in world) < 1e-3
    np.testing.assert_allclose(np.hypot(*np.diff(world, axis=0).T), 3.0, atol=1e-3)
    assert observations[-1]["ego"][5] * 2 == pytest.approx(ego[1], abs=1e-4)


def test_lights_colour_their_lane():
    _, observations = drive(straight_scenario(speed=6.0, light=LightState.RED))
    rows = observations[10]["map"]
    red = rows[rows[:, 10] == 1.0]
    assert len(red) and (red[:, 7] == 1.0).all() and (rows[:, 8:10] == 0.0).all()


def test_ego_features():
    _, observations = drive(straight_scenario(speed=9.0), "trajectory")
    ego = observations[0]["ego"]
    assert ego[0] == pytest.approx(0.9) and ego[8] == pytest.approx(1.39) and ego[9] == 1.0 and ego[10] == 1.0
    assert observations[-1]["ego"][10] == 0.0
    assert observations[4]["ego"][10] == pytest.approx(0.5)


@pytest.mark.parametrize("action", ["control", "anchor"])
def test_observations_stay_in_their_space(action):
    far = [Agent(380.0, 3.5, 20.0), Agent(-300.0, 500.0, 60.0, 2.0)]
    env, observations = drive(straight_scenario([*CROWD, *far], speed=19.0, lanes=4), action)
    for observation in observations:
        assert env.observation_space.contains(observation)
        assert all(np.abs(value).max() <= LIMIT for value in observation.values())


def test_lane_points_are_the_middles_of_equal_pieces():
    vector_map = moved(straight_scenario(lanes=2), 0.4, 3.0, 7.0).vector_map
    points, lanes = sample_lanes(vector_map, 5.0)
    for lane in range(vector_map.num_lanes):
        line = LineString(vector_map.lane_centerline(lane))
        mine = points[lanes == lane]
        assert len(mine) == round(line.length / 5.0)
        expected = [line.interpolate((i + 0.5) * line.length / len(mine)) for i in range(len(mine))]
        np.testing.assert_allclose(mine[:, :2], [(p.x, p.y) for p in expected], atol=1e-9)
        np.testing.assert_allclose(mine[:, 2], 0.4, atol=1e-9)


def test_nearest_points_are_the_nearest():
    rng = np.random.default_rng(0)
    points, centers = rng.uniform(-100, 100, (500, 2)), rng.uniform(-80, 80, (20, 2))
    out = np.empty((20, 16), np.int64)
    nearest_points(centers, points, 30.0, np.empty(16, np.int64), out)
    for center, found in zip(centers, out, strict=True):
        distance = np.hypot(*(points - center).T)
        expected = np.argsort(distance)[:16]
        expected = expected[distance[expected] <= 30.0]
        np.testing.assert_array_equal(found[: len(expected)], expected)
        assert (found[len(expected) :] == -1).all()
