"""ScenarioNet recordings made in code: what is read, what is derived, what is refused."""

import numpy as np
import pytest
import shapely
from sources_logs import ORIGIN, lane, straight_log, track, write_log

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.start import DRIVABLE_LAYERS, points_in_layers
from worldengine_envs.scenario.types import AgentType, LightState, MapLayer, VehicleParameters
from worldengine_envs.scenario.validation import validate
from worldengine_envs.sources.scenarionet import read_scenarionet


def read(tmp_path, log):
    (recording,) = read_scenarionet(write_log(tmp_path, log))
    return validate(recording)


def lane_row(recording, token):
    return recording.vector_map.lane_tokens.index(token)


def test_a_straight_road_comes_out_as_it_went_in(tmp_path):
    r = read(tmp_path, straight_log())
    t = 0.1 * np.arange(101)
    assert r.id == "straight" and r.start_step == 0 and r.origin.offset == tuple(ORIGIN)
    assert np.allclose(r.tracks.state[0], np.stack([8 * t, 0 * t, 0 * t, 0 * t + 8, 0 * t], axis=1), atol=1e-9)
    kinds = dict(zip(r.tracks.tokens, r.tracks.types, strict=True))
    assert [kinds[n] for n in ("ego", "lead", "walker", "cone")] == [0, 0, 1, AgentType.TRAFFIC_CONE]
    assert r.ego == VehicleParameters.from_box(4.8, 2.0)
    m, a, b, c, w = r.vector_map, *(lane_row(r, n) for n in "abcw")
    assert m.lane_successors(a).tolist() == [b] and m.lane_left[a] == c and m.lane_right[c] == a
    assert m.lane_roadblock[a] == m.lane_roadblock[c] != m.lane_roadblock[w]
    assert m.lane_left[c] == -1  # the file names an oncoming lane
    assert np.allclose(m.lane_speed_limit, 35 * 0.44704)
    assert {"lane_polygon", "drivable_area", "route", "goal"} <= set(r.origin.derived)


def test_lanes_without_widths_reach_halfway_to_their_neighbours_and_to_the_road_edge(tmp_path):
    r = read(tmp_path, straight_log())
    ring = shapely.Polygon(r.vector_map.polygon(r.vector_map.lane_polygon[lane_row(r, "a")]))
    assert ring.bounds == pytest.approx((-60, -1.9, 60, 1.75), abs=0.05)
    points = np.array([[0, -1.85], [0, -2.0], [30, 8.9], [30, 9.1]])
    assert points_in_layers(r.vector_map, DRIVABLE_LAYERS, points).tolist() == [True, False, True, False]


def test_widths_of_the_file_are_used_where_they_are_plausible(tmp_path):
    log = straight_log()
    log["map_features"]["b"]["width"] = np.tile([1.3, 1.4], (31, 1))
    log["map_features"]["a"]["width"] = np.tile([80.0, 0.0], (31, 1))
    r = read(tmp_path, log)
    bounds = [shapely.Polygon(r.vector_map.polygon(r.vector_map.lane_polygon[lane_row(r, n)])).bounds for n in "ab"]
    assert bounds[1] == pytest.approx((60, -1.4, 180, 1.3), abs=0.01)
    assert bounds[0] == pytest.approx((-60, -1.9, 60, 1.75), abs=0.05)


def test_the_route_follows_the_driven_lanes_and_goes_on(tmp_path):
    r = read(tmp_path, straight_log())
    tokens = {r.vector_map.lane_tokens[row] for row in r.route.lanes}
    assert tokens == {"a", "b", "c", "d"}  # side lanes of its roadblocks included
    line = r.route.centerline
    assert line[0, 0] == pytest.approx(-20, abs=1.1) and line[-1, 0] > 80 + 149
    assert np.abs(line[:, 1:]).max() < 0.01 and np.allclose(np.diff(line[:, 0]), 1.0, atol=0.01)
    assert np.allclose(r.route.goal, [80, 0])


def test_a_lane_change_is_on_the_centreline(tmp_path):
    log = straight_log()
    state = log["tracks"]["ego"]["state"]
    state["position"][:, 1] += 3.5 / (1 + np.exp(-(np.arange(101) - 50) / 5))
    r = read(tmp_path, log)
    line = r.route.centerline
    assert abs(np.interp(10, line[:, 0], line[:, 1])) < 0.01 and np.interp(75, line[:, 0], line[:, 1]) == pytest.approx(
        3.5, abs=0.01
    )
    assert np.abs(np.diff(line[:, 2])).max() < 0.15 and np.abs(line[:, 2]).max() < 0.5


def test_an_ego_beside_all_lanes_still_has_a_route(tmp_path):
    log = straight_log()
    log["tracks"]["ego"]["state"]["position"][:, 1] -= 30.0
    r = read(tmp_path, log)
    assert "route_off_lanes" in r.origin.derived and len(r.route.lanes) >= 1
    assert np.abs(r.route.centerline[:, 1]).max() < 0.01  # its own path: the frame is the ego's
    assert points_in_layers(r.vector_map, DRIVABLE_LAYERS, r.tracks.state[0, ::10, :2]).all()


def test_links_and_neighbours_are_found_where_the_file_has_none(tmp_path):
    log = straight_log()
    for feature in log["map_features"].values():
        for name in ("entry_lanes", "exit_lanes", "left_neighbor", "right_neighbor"):
            feature.pop(name, None)
    r = read(tmp_path, log)
    m, a, b, c, d, w = r.vector_map, *(lane_row(r, n) for n in "abcdw")
    assert m.lane_successors(a).tolist() == [b] and m.lane_successors(c).tolist() == [d] and not len(m.lane_successors(w))
    assert m.lane_left[[a, b]].tolist() == [c, d] and m.lane_right[[c, d]].tolist() == [a, b] and m.lane_left[c] == -1
    assert {"lane_successors", "lane_neighbours"} <= set(r.origin.derived)


def test_crossing_lanes_are_connectors_of_an_intersection(tmp_path):
    log = straight_log()
    x = np.linspace(-20, 20, 21)
    line = np.stack([np.full(21, ORIGIN[0] + 90.0), ORIGIN[1] + x], axis=1)
    log["map_features"]["n"] = {"type": "LANE_SURFACE_STREET", "polyline": line}
    log["map_features"]["b"] = lane(60, 120, 0.0, exit_lanes=[])
    r = read(tmp_path, log)
    m = r.vector_map
    assert m.lane_is_connector[[lane_row(r, "n"), lane_row(r, "b")]].all() and not m.lane_is_connector[lane_row(r, "a")]
    (ring,) = (m.polygon(i) for i in np.flatnonzero(m.polygon_layer == MapLayer.INTERSECTION))
    assert shapely.Polygon(ring).contains(shapely.Point(90, 0)) and not shapely.Polygon(ring).contains(shapely.Point(115, 0))


def nuscenes_log(**changes):
    """As the converter for nuScenes writes it: rear-axle poses, swapped ego size, forward differences, outlines of the road."""
    log = straight_log(dataset="nuscenes")
    for one in log["tracks"].values():
        state = one["state"]
        difference = np.diff(state["position"][:, :2], axis=0) / 0.1
        state["velocity"] = np.concatenate([difference, np.zeros((1, 2))])
    state = log["tracks"]["ego"]["state"]
    state["length"], state["width"] = np.full((101, 1), 1.73), np.full((101, 1), 4.08)
    log["metadata"].pop("ts")
    log["metadata"]["sample_rate"] = 0.1
    outline = np.array([[-90, -3], [190, -3], [190, 10], [-90, 10], [-90, -3.0]]) + ORIGIN
    island = np.array([[100, 4], [110, 4], [110, 6], [100, 6], [100, 4.0]]) + ORIGIN
    for i, ring in enumerate((outline, island)):
        log["map_features"][f"boundary_{i}"] = {"type": "ROAD_LINE_SOLID_SINGLE_WHITE", "polyline": ring}
    ring = (np.array([[-60, -1.75], [60, -1.75], [60, 1.75], [-60, 1.75]]) + ORIGIN).tolist()
    log["map_features"]["a"]["polygon"] = ring
    log["map_features"]["b"]["speed_limit_kmh"] = 100
    return log | changes


def test_nuscenes_peculiarities_are_put_right(tmp_path):
    r = read(tmp_path, nuscenes_log())
    assert r.ego == VehicleParameters.from_box(4.08, 1.73)
    assert r.origin.offset[0] == pytest.approx(ORIGIN[0] + r.ego.rear_axle_to_center)  # boxes are given by their centre
    assert np.allclose(r.tracks.state[0, :, 3], 8.0)  # the last one too
    assert np.isnan(r.vector_map.lane_speed_limit).all()
    m = r.vector_map
    assert m.lane_is_connector.tolist() == [name != "a" for name in m.lane_tokens]
    points = np.array([[0, 9.9], [0, -2.9], [100, 5], [100, 3], [105, 7], [0, 10.2]]) - [r.ego.rear_axle_to_center, 0]
    points[2:5, 0] += 4.0
    assert points_in_layers(m, DRIVABLE_LAYERS, points).tolist() == [True, True, False, True, True, False]
    assert {"velocity", "ego_box_center", "ego_length_width_swapped", "drivable_area_from_outlines"} <= set(r.origin.derived)


@pytest.mark.parametrize("dt", [0.05, 0.2, 0.5])
def test_other_rates_are_resampled(tmp_path, dt):
    r = read(tmp_path, straight_log(steps=round(10 / dt) + 1, dt=dt))
    assert r.tracks.steps == 101 and r.tracks.valid.all() and "resampled" in r.origin.derived
    assert np.allclose(r.tracks.state[0, :, 0], 0.8 * np.arange(101))


def test_missing_and_oddly_shaped_fields(tmp_path):
    log = straight_log()
    for name, one in log["tracks"].items():
        state = one["state"]
        state["position"] = state["position"][:, :2].tolist()
        state["heading"] = state["heading"][:, None]
        for field in ("length", "width", "height"):
            state.pop(field)
        if name == "lead":
            state["size"] = np.tile([5.0, 2.0], (101, 1))
            state.pop("velocity")
        else:
            state.pop("valid")
    log["metadata"].pop("ts")
    log.pop("dynamic_map_states")
    r = read(tmp_path, log)
    assert r.ego == VehicleParameters() and np.allclose(r.tracks.size[1, :, :2], [5.0, 2.0])
    assert np.allclose(r.tracks.state[1, :, 3], 8.0)
    assert {"ego_size", "size", "velocity"} <= set(r.origin.derived)


@pytest.mark.parametrize(
    ("states", "lane_field"),
    [
        (["LANE_STATE_STOP"] * 50 + [None] * 40 + ["LANE_STATE_GO"] * 11, True),
        (np.r_[np.full(50, 4), np.zeros(40), np.full(11, 6)].astype(np.int32), False),
        (["TRAFFIC_LIGHT_RED"] * 50 + ["LANE_STATE_UNKNOWN"] * 40 + ["LANE_STATE_ARROW_GO"] * 11, True),
    ],
)
def test_lights_by_name_and_by_number(tmp_path, states, lane_field):
    light = {"type": "TRAFFIC_LIGHT", "state": {"object_state": states}, "lane": "b" if lane_field else None}
    r = read(tmp_path, straight_log(dynamic_map_states={"b": light, "nowhere": light | {"lane": "q"}}))
    assert r.lights.lanes.tolist() == [lane_row(r, "b")]
    state = r.lights.state[0]
    assert (
        (state[:59] == LightState.RED).all()
        and (state[61:89] == LightState.UNKNOWN).all()
        and (state[91:] == LightState.GREEN).all()
    )


def broken(change):
    log = straight_log()
    change(log)
    return log


def set_state(name, value, who="lead"):
    return lambda log: log["tracks"][who]["state"].__setitem__(name, value)


NAN = np.full((101, 3), 0.0)
NAN[7] = np.nan


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda log: log.pop("tracks"), "tracks"),
        (lambda log: log.__setitem__("tracks", [1, 2]), "tracks"),
        (lambda log: log["metadata"].pop("sdc_id"), "metadata.sdc_id"),
        (lambda log: log.__setitem__("length", 99), "length"),
        (lambda log: log["metadata"].__setitem__("ts", np.full(101, np.nan)), "metadata.ts"),
        (lambda log: log["metadata"].__setitem__("ts", -np.arange(101.0)), "metadata.ts"),
        (lambda log: log["metadata"].__setitem__("ts", np.arange(101) * 1e5), "metadata.ts"),
        (set_state("position", NAN), "tracks.lead.state.position"),
        (set_state("position", NAN, "ego"), "tracks.ego.state.position"),
        (set_state("position", np.zeros((5, 3))), "tracks.lead.state.position"),
        (set_state("position", np.full((101, 3), 1e30)), "tracks.lead.state.position"),
        (set_state("heading", ["north"] * 101), "tracks.lead.state.heading"),
        (set_state("length", np.full(101, np.inf)), "tracks.lead.state.size"),
        (set_state("valid", np.zeros(101), "ego"), "tracks.ego.state.valid"),
        (lambda log: log["tracks"].__setitem__("lead", "gone"), "tracks.lead.state.position"),
        (lambda log: log.__setitem__("map_features", {}), "map_features"),
        (lambda log: log["map_features"]["a"].__setitem__("polyline", np.full((5, 3), np.nan)), "map_features.a.polyline"),
        (lambda log: log["map_features"]["a"].__setitem__("polyline", "line"), "map_features.a.polyline"),
        (lambda log: log["map_features"]["a"].__setitem__("polyline", [[1, 2], [3]]), "map_features.a.polyline"),
    ],
)
def test_bad_fields_are_named_with_the_file(tmp_path, change, field):
    path = write_log(tmp_path, broken(change))
    with pytest.raises(DataError) as caught:
        list(read_scenarionet(path))
    assert caught.value.field == field and caught.value.file == path
    assert "sd_test.pkl" in str(caught.value)


def test_ragged_lists_in_what_may_be_missing_count_as_missing(tmp_path):
    log = straight_log()
    log["map_features"]["a"]["width"] = [[1.3, 1.4], [1.3]]
    log["dynamic_map_states"] = {"a": {"lane": [["a"], []], "state": {"object_state": [["RED"], []]}}}
    r = read(tmp_path, log)
    assert len(r.lights.lanes) == 0 and "lane_polygon" in r.origin.derived


def test_geometry_that_shapely_cannot_use_is_an_error_of_the_file(tmp_path, monkeypatch):
    def fail(*_):
        raise shapely.errors.GEOSException("side location conflict")

    monkeypatch.setattr("worldengine_envs.sources.recording.derive_route", fail)
    with pytest.raises(DataError, match=r"sd_test\.pkl.*side location conflict"):
        read(tmp_path, straight_log())


def test_invalid_steps_may_hold_anything(tmp_path):
    log = straight_log()
    log["tracks"]["lead"]["state"]["position"] = np.where(
        np.arange(101)[:, None] < 50, log["tracks"]["lead"]["state"]["position"], np.nan
    )
    log["tracks"]["lead"]["state"]["valid"] = np.arange(101) < 50
    r = read(tmp_path, log)
    assert r.tracks.valid[1].sum() == 50


def test_a_track_that_is_never_valid_is_left_out(tmp_path):
    log = straight_log()
    log["tracks"]["ghost"] = track(0.1 * np.arange(101), 10, 10, 0, (4, 2, 1))
    log["tracks"]["ghost"]["state"]["valid"][:] = False
    assert "ghost" not in read(tmp_path, log).tracks.tokens
