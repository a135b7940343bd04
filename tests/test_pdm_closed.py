"""PDM-Closed: parity with the real planner, its geometry against shapely, and what it does in simple worlds."""

import math
from dataclasses import replace

import numpy as np
import pytest
from closed_parity import closed_errors, closed_tolerances
from factory import Agent, straight_scenario

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import AgentType, LightState, VehicleParameters
from worldengine_envs.scoring.cases import load_case
from worldengine_envs.scoring.pdm_closed import PdmClosedPlanner
from worldengine_envs.scoring.pdm_closed_forecast import empty_forecast, make_forecast
from worldengine_envs.scoring.pdm_closed_paths import (
    build_closed_paths,
    corridor_meets_box,
    corridor_meets_polygon,
    empty_corridor,
    make_corridor,
    path_pose,
    polygon_distance,
    project_on_path,
)
from worldengine_envs.scoring.pdm_closed_world import PdmClosedDriver
from worldengine_envs.simulation.bank import ScenarioBank
from worldengine_envs.simulation.map_index import build_map_index
from worldengine_envs.simulation.world import make_worlds, move_ego, reset_world


def test_parity_with_the_real_planner(shared):
    files = sorted((shared / "reference" / "pdm_cases").glob("*.npz"))
    assert len(files) == 55
    for file in files:
        case = load_case(file)
        errors, tolerances = closed_errors(case), closed_tolerances(case)
        beyond = {name: error for name, error in errors.items() if not error <= tolerances.get(name, 0.0)}
        assert not beyond, file.name


def winding_line(rng, points=160):
    """Returns (points, 3) of a winding road, some of its points repeated."""
    yaw = np.cumsum(rng.normal(0.0, 0.06, points))
    steps = rng.uniform(0.3, 1.2, points) * (rng.random(points) > 0.05)
    x, y = np.cumsum(steps * np.cos(yaw)), np.cumsum(steps * np.sin(yaw))
    return np.stack([x, y, np.arctan2(np.sin(yaw), np.cos(yaw))], axis=1)


def test_projection_and_poses_on_paths():
    shapely = pytest.importorskip("shapely")
    rng = np.random.default_rng(0)
    for _ in range(10):
        paths = build_closed_paths(winding_line(rng))
        out = np.zeros(3)
        for path in range(3):
            line = shapely.LineString(paths.pose[path, :, :2])
            assert paths.s[path, -1] == pytest.approx(line.length, abs=1e-9)
            for x, y in rng.uniform(-60, 60, (30, 2)):
                s = project_on_path(paths, path, x, y)
                assert line.interpolate(s).distance(shapely.Point(x, y)) == pytest.approx(line.distance(shapely.Point(x, y)))
                assert s == pytest.approx(line.project(shapely.Point(x, y)), abs=1e-9)
                path_pose(paths, path, s, out)
                assert shapely.Point(out[:2]).distance(line.interpolate(max(s, 1e-5))) < 1e-9


def test_corridor_is_the_buffered_path_ahead():
    shapely = pytest.importorskip("shapely")
    rng = np.random.default_rng(1)
    reach, margin, scratch, ring, met = 1.1, 0.02, np.zeros(4), np.zeros((4, 2)), set()
    for _ in range(30):
        paths = build_closed_paths(winding_line(rng))
        corridor = empty_corridor(paths)
        start = rng.uniform(-2, 40)
        end = start + rng.choice([0.0, 0.05, 0.5, 5.0, 40.0, 1000.0])
        make_corridor(paths, 2, start, end, corridor)
        line = shapely.LineString(corridor.xy[2, : corridor.count[2]])
        inside = (paths.s[2] >= max(start, 0.0)) & (paths.s[2] <= end)
        if inside.sum() >= 2:  # else the exact piece between start and end
            np.testing.assert_array_equal(np.array(line.coords), paths.pose[2, inside, :2])
        low, high = line.buffer(reach - margin, cap_style="square"), line.buffer(reach + margin, cap_style="square")
        for _ in range(60):
            x, y = np.array(line.interpolate(rng.uniform(0, 1), normalized=True).coords[0]) + rng.normal(0, 3, 2)
            yaw, half = rng.uniform(-3, 3), rng.uniform(0.1, 2.0, 2)
            cos, sin = math.cos(yaw), math.sin(yaw)
            corners = [(a * half[0], b * half[1]) for a, b in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
            xy = np.array([(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in corners])
            box = shapely.Polygon(xy)
            if low.intersects(box) != high.intersects(box):
                continue  # on the edge, where shapely's arcs are polygons
            mine = corridor_meets_box(corridor, 2, reach, x, y, cos, sin, *half, scratch)
            assert mine == low.intersects(box)
            bounds = np.concatenate([xy.min(0), xy.max(0)])
            assert mine == corridor_meets_polygon(corridor, 2, reach, xy, 0, 4, bounds, scratch, ring)
            met.add(mine)
            other = xy[::-1] + rng.normal(0, 3, 2)
            assert polygon_distance(xy, 0, 4, other, 0, 4) == pytest.approx(box.distance(shapely.Polygon(other)), abs=1e-9)
    assert met == {True, False}


def test_forecast_keeps_the_nearest_of_each_kind():
    rng = np.random.default_rng(2)
    objects = np.ones((400, 7))
    objects[:, :2], objects[:, 2] = rng.uniform(-110, 110, (400, 2)), rng.uniform(-3, 3, 400)
    types, forecast = rng.integers(0, 7, 400).astype(np.int8), empty_forecast()
    make_forecast(objects, types, 0.0, 0.0, 1.0, 0.0, 2.5, 1.1, np.zeros(400), forecast)
    count, distance = forecast.count[0], np.hypot(objects[:, 0], objects[:, 1])
    expected = []
    for kinds, limit in (((3, 4, 5, 6), 50), ((0,), 50), ((1,), 25), ((2,), 10)):
        rows = np.flatnonzero(np.isin(types, kinds) & (distance <= 100.0))
        expected += rows[np.argsort(distance[rows])][:limit].tolist()
    assert forecast.row[:count].tolist() == expected


def drive(scenario, seconds: float):
    """Drives PDM-Closed in a world, a plan every 0.5 s, and returns the ego's states (steps + 1, 11)."""
    builder = ScenarioBank(seconds)
    builder.add(scenario)
    bank, driver = builder.arrays, PdmClosedDriver(builder.max_agents)
    worlds = make_worlds(1, builder.max_agents, round(10 * seconds))
    reset_world(bank, worlds, 0, 0)
    for k in range(round(10 * seconds)):
        if k % 5 == 0:
            trajectory = driver.plan(bank, worlds, [0])[0]
        move_ego(bank, worlds, 0, *trajectory[k % 5 + 1])
    return worlds.ego_history[0]


def test_it_stops_behind_a_standing_car_and_at_a_red_light():
    car = drive(straight_scenario([Agent(50.0, 0.0)], speed=8.0), 8.0)[-1]
    assert car[3] < 1.0 and 35.0 < car[0] + 4.049 < 50.0 - 2.3
    light = drive(straight_scenario(speed=12.0, light=LightState.RED), 8.0)[-1]
    assert light[3] < 3.5 and 60.0 < light[0] + 4.049 < 80.0
    free = drive(straight_scenario(speed=12.0, light=LightState.GREEN), 8.0)[-1]
    assert free[0] > 80.0 and free[3] > 10.0


def test_it_passes_cones_and_follows():
    states = drive(straight_scenario([Agent(30.0, 0.0, 6.0)], speed=9.0), 8.0)
    gap = 30.0 + 6.0 * 8.0 - states[-1, 0] - 4.049 - 2.3
    assert gap > 1.0 and abs(states[-1, 3] - 6.0) < 1.5
    cone = Agent(40.0, -1.9, kind=AgentType.TRAFFIC_CONE)
    assert drive(straight_scenario([cone], speed=9.0), 8.0)[-1, 0] > 45.0


def test_plans_do_not_depend_on_the_routes_driven_before():
    long, red = straight_scenario([Agent(40.0, 0.0, 3.0)], id="long"), straight_scenario(id="short", light=LightState.RED)
    short = replace(red, route=replace(red.route, centerline=red.route.centerline[40:140:3].copy()))
    builder = ScenarioBank(4.0)
    worlds = make_worlds(2, 2, 40)
    for scenario in (short, long):
        builder.add(scenario)
    for w in range(2):
        reset_world(builder.arrays, worlds, w, w)
    alone = [PdmClosedDriver(2).plan(builder.arrays, worlds, [w])[0] for w in range(2)]
    driver = PdmClosedDriver(2)
    for w in (0, 1, 0, 1):
        np.testing.assert_array_equal(driver.plan(builder.arrays, worlds, [w])[0], alone[w])


def test_bad_input_is_refused():
    scenario = straight_scenario()
    index, line = build_map_index([scenario.vector_map]), scenario.route.centerline
    on_route = np.ones(scenario.vector_map.num_polygons, bool)
    for bad in (line[:1], np.repeat(line[:1], 4, axis=0), np.where(line == line[3, 0], np.nan, line)):
        with pytest.raises(DataError, match="centreline"):
            PdmClosedPlanner(bad, VehicleParameters(), index, 0, on_route)
    planner = PdmClosedPlanner(line, VehicleParameters(), index, 0, on_route, max_objects=4)
    with pytest.raises(DataError, match="5 objects"):
        planner.plan(np.zeros(11), np.ones((5, 7)), np.zeros(5, np.int8))
    with pytest.raises(DataError, match="finite"):
        planner.plan(np.full(11, np.nan), np.ones((1, 7)), np.zeros(1, np.int8))
    with pytest.raises(DataError, match="shapes"):
        planner.plan(np.zeros(10), np.ones((1, 7)), np.zeros(1, np.int8))
    with pytest.raises(DataError, match="shapes"):
        planner.plan(np.zeros(11), np.ones((2, 7)), np.zeros(1, np.int8))
    with pytest.raises(DataError, match="red"):
        planner.plan(np.zeros(11), np.ones((1, 7)), np.zeros(1, np.int8), red=[len(on_route)])
    with pytest.raises(DataError, match="on_route"):
        PdmClosedPlanner(line, VehicleParameters(), index, 0, on_route[:-1])
