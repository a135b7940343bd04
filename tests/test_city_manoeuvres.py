"""The families of manoeuvres: what the logged driver does in them, judged from the finished scenario."""

import numpy as np
import pytest
from shapely import LineString, Point

from worldengine_envs.city import make_scenario
from worldengine_envs.envs.baselines import logged_poses
from worldengine_envs.simulation.kernels import kernel
from worldengine_envs.simulation.map_index import build_map_index, is_drivable

SEEDS = range(16)


@kernel
def all_drivable(index, xy):
    good = True
    for i in range(len(xy)):
        good &= is_drivable(index, 0, xy[i, 0], xy[i, 1])
    return good


def offsets(scenario):
    """(steps,) distance of the logged rear axle to the route's centreline, from the start on."""
    route = LineString(scenario.route.centerline[:, :2])
    return np.array([route.distance(Point(p[:2])) for p in logged_poses(scenario, scenario.steps_ahead)])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lane_change_ends_on_the_route_a_lane_beside_where_it_began(seed):
    scenario = make_scenario("lane_change", seed)
    route = LineString(scenario.route.centerline[:, :2])
    x, y, yaw = scenario.tracks.state[0, 0, :3]
    axle = Point(x - 1.461 * np.cos(yaw), y - 1.461 * np.sin(yaw))
    assert 3.0 < route.distance(axle) < 4.1  # a lane's width, with the driver's wander
    after = offsets(scenario)
    assert after[0] > 2.0 and after[50:].max() < 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_roundabout_is_driven_along_its_ring(seed):
    scenario = make_scenario("roundabout", seed)
    assert offsets(scenario).max() < 0.5
    route, yaw = scenario.route.centerline, np.unwrap(scenario.route.centerline[:, 2])
    sense = -1.0 if "left_hand" in scenario.tags else 1.0
    turned = sense * np.diff(yaw) / np.hypot(*np.diff(route[:, :2], axis=0).T)
    assert turned.min() < -1 / 25 and turned.max() > 1 / 21  # to the outside on the way in, about the island on the ring


@pytest.mark.parametrize("family", ["roundabout", "lane_change"])
def test_the_logged_driver_stays_on_the_road(family):
    for seed in SEEDS:
        scenario = make_scenario(family, seed)
        index = build_map_index([scenario.vector_map])
        x, y, yaw = scenario.tracks.state[0, :, :3].T
        ahead, left = (np.stack(a, 1) for a in ((np.cos(yaw), np.sin(yaw)), (-np.sin(yaw), np.cos(yaw))))
        centre = np.stack((x, y), 1)
        corners = [centre + a * 5.176 * ahead + b * 2.297 * left for a in (-0.5, 0.5) for b in (-0.5, 0.5)]
        assert all_drivable(index, np.concatenate(corners))
