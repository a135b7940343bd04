"""Every invariant of a scenario is checked, and the message names scenario and field."""

from dataclasses import replace

import numpy as np
import pytest
from factory import Agent, moved, straight_scenario
from pack_helpers import rig, sample
from shapely import MultiPoint, Polygon, box
from shapely.affinity import rotate, translate

from worldengine_envs.errors import DataError
from worldengine_envs.scenario import MapLayer, Origin, ProgressReference, VehicleParameters, start_problem, validate
from worldengine_envs.scenario.start import box_corners, boxes_touch, points_in_ring
from worldengine_envs.scenario.validation import polygon_areas


def changed(part: str, field: str, change) -> object:
    """A sample whose array ``part.field`` was copied and given to ``change``, which edits it or returns another."""
    scenario = replace(sample(), camera_rig=rig())
    old = getattr(getattr(scenario, part), field)
    new = old.copy() if isinstance(old, np.ndarray) else old
    result = change(new)
    return replace(scenario, **{part: replace(getattr(scenario, part), **{field: new if result is None else result})})


def put(index, value):
    """A change that writes one value."""

    def change(array):
        array[index] = value

    return change


BAD_ARRAYS = [
    ("tracks", "tokens", lambda t: ("ego", "a", "a", "b"), "'a' appears twice"),
    ("tracks", "tokens", lambda t: ("ego", "a", "b"), "3 names for 4 rows"),
    ("tracks", "tokens", lambda t: ("ego", "", "a", "b"), "row 1 is not a name"),
    ("tracks", "tokens", lambda t: ("ego", "\x1b[2J", "a", "b"), "row 1 is not a name"),
    ("tracks", "types", put(1, 9), "9 at (1,) is no AgentType"),
    ("tracks", "types", put(0, 1), "must be a vehicle"),
    ("tracks", "types", lambda a: a.astype(np.int64), "dtype must be int8"),
    ("tracks", "state", put((1, 2, 3), np.nan), "1 values are NaN or infinite, the first at (1, 2, 3)"),
    ("tracks", "state", put((1, 2, 0), np.inf), "NaN or infinite"),
    ("tracks", "state", put((1, 2, 0), 1e6), "x or y of 1e+06 m at (1, 2, 0)"),
    ("tracks", "state", put((1, 2, 4), 140.0), "speed of"),
    ("tracks", "state", put((1, 2, 2), 1e5), "yaw of"),
    ("tracks", "state", put((2, 0, 0), 1.0), "must be 0 where invalid"),
    ("tracks", "state", lambda a: a[:, :, :4], "shape must be"),
    ("tracks", "size", lambda a: a[:, :-1], "shape must be"),
    ("tracks", "state", lambda a: a[0], "must have 3 axes"),
    ("tracks", "state", lambda a: a.tolist(), "must be a numpy array"),
    ("tracks", "size", put((1, 2, 0), 0.0), "must be positive where valid"),
    ("tracks", "size", put((1, 2, 1), 500.0), "the limit is 100"),
    ("vector_map", "lane_tokens", lambda t: (*t[:-1], t[0]), "appears twice"),
    ("vector_map", "lane_speed_limit", put(0, -1.0), "must lie between 0"),
    ("vector_map", "lane_speed_limit", put(0, np.inf), "NaN or infinite"),
    ("vector_map", "lane_roadblock", put(0, -1), "must not be negative"),
    ("vector_map", "lane_left", put(0, 6), "out of range for 6 rows"),
    ("vector_map", "lane_right", put(0, -2), "out of range"),
    ("vector_map", "lane_polygon", put(0, 10), "out of range"),
    ("vector_map", "lane_polygon", put(0, 6), "of another layer"),
    ("vector_map", "centerline", put((0, 0), np.nan), "NaN"),
    ("vector_map", "centerline_offsets", put(1, -5), "must not decrease"),
    ("vector_map", "centerline_offsets", put(-1, 10**9), "must run from 0"),
    ("vector_map", "centerline_offsets", put(1, 1), "fewer than 2 points"),
    ("vector_map", "successors", put(0, -1), "out of range"),
    ("vector_map", "successor_offsets", put(0, 1), "must run from 0"),
    ("vector_map", "polygon_xy", put(slice(0, 4), 0.0), "polygon 0 has an area of 0"),
    ("vector_map", "polygon_offsets", put(1, 2), "fewer than 3 vertices"),
    ("vector_map", "polygon_layer", put(0, 7), "is no MapLayer"),
    ("lights", "lanes", put(0, 77), "out of range for 6 rows"),
    ("lights", "state", put((0, 0), 4), "is no LightState"),
    ("lights", "state", lambda a: a[:, :-1], "steps of the tracks|105 steps for 106"),
    ("route", "lanes", put(0, 99), "out of range"),
    ("route", "lanes", put(0, 1), "a lane appears twice"),
    ("route", "lanes", lambda a: a[:0], "no lanes"),
    ("route", "centerline", lambda a: a[:1], "at least 2"),
    ("route", "centerline", lambda a: 0 * a, "all points are the same"),
    ("route", "goal", put(0, np.nan), "NaN"),
    ("camera_rig", "intrinsics", put((0, 0, 0), -1.0), "focal lengths"),
    ("camera_rig", "image_size", put((0, 0), 0), "must lie between 1 and 16384"),
    ("camera_rig", "camera_to_ego", put((0, 0, 0), np.nan), "NaN"),
]


@pytest.mark.parametrize(("part", "field", "change", "message"), BAD_ARRAYS)
def test_bad_arrays_are_named(part, field, change, message):
    with pytest.raises(DataError) as error:
        validate(changed(part, field, change))
    assert f"scenario a_015, field {part}.{field}: " in str(error.value)
    assert any(m in str(error.value) for m in message.split("|"))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": "../up"}, "id"),
        ({"id": "x" * 129}, "id"),
        ({"split": ""}, "split"),
        ({"tags": ("a b",)}, "tags"),
        ({"tags": ("a", "a")}, "tags"),
        ({"start_step": 105}, "start_step"),
        ({"start_step": -1}, "start_step"),
        ({"start_step": 15.0}, "start_step"),
        ({"gaussian_scene": "../x"}, "gaussian_scene"),
        ({"ego": VehicleParameters(wheel_base=6.0)}, "ego.wheel_base"),
        ({"ego": VehicleParameters(length=float("nan"))}, "ego.length"),
        ({"ego": VehicleParameters(rear_axle_to_center=2.7)}, "ego.rear_axle_to_center"),
        ({"origin": Origin("", "l", "t", "x")}, "origin.dataset"),
        ({"origin": Origin("d", "l" * 300, "t", "x")}, "origin.log"),
        ({"origin": Origin("d", "l", "t", "x", offset=(0.0, float("nan")))}, "origin.offset"),
        ({"origin": Origin("d", "l", "t", "x", time_us=-1)}, "origin.time_us"),
        ({"reference": ProgressReference("guess", {4.0: 1.0})}, "reference.source"),
        ({"reference": ProgressReference("log", {})}, "reference.progress"),
        ({"reference": ProgressReference("log", {4.0: float("nan")})}, "reference.progress"),
        ({"reference": ProgressReference("log", {9.0: 1.0})}, "reference.progress"),
        ({"tracks": None}, "tracks"),
    ],
)
def test_bad_fields_are_named(changes, field):
    with pytest.raises(DataError, match=f"field {field}: "):
        validate(replace(sample(), **changes))


def test_ego_must_be_there_from_history_through_the_horizon():
    for step in (0, 15, 55):
        scenario = sample(reference=None)
        for array in (scenario.tracks.state, scenario.tracks.size, scenario.tracks.valid):
            array[0, step] = 0
        with pytest.raises(DataError, match=f"the ego is missing at step {step} "):
            validate(scenario)
    far = sample(reference=None)  # beyond 4 s it may be missing
    for array in (far.tracks.state, far.tracks.size, far.tracks.valid):
        array[0, 90:] = 0
    validate(far)


def test_starts_in_contact_or_off_the_road_have_a_reason():
    assert start_problem(straight_scenario([Agent(6.0, 0.0)])) is None
    assert "touches vehicle agent_0" in start_problem(straight_scenario([Agent(4.0, 0.0)]))
    assert start_problem(straight_scenario([Agent(4.0, 0.0, first=1)])) is None  # not there yet
    off = moved(straight_scenario(), 0.0, 0.0, 0.0)
    off.tracks.state[0, :, 1] += 4.2
    assert "2 of the ego's corners are off" in start_problem(off)


def test_geometry_agrees_with_shapely():
    rng = np.random.default_rng(4)
    poses = np.concatenate([rng.uniform(-4, 4, (300, 2)), rng.uniform(-4, 4, (300, 1))], axis=1)
    sizes = rng.uniform(0.3, 5, (300, 2))
    corners = box_corners(poses, sizes)
    shapes = [
        translate(rotate(box(-s[0] / 2, -s[1] / 2, s[0] / 2, s[1] / 2), p[2], use_radians=True, origin=(0, 0)), *p[:2])
        for p, s in zip(poses, sizes, strict=True)
    ]
    for i in range(0, 300, 10):
        np.testing.assert_array_equal(boxes_touch(corners[i], corners), [shapes[i].intersects(s) for s in shapes])
    beside = box_corners(np.array([[0, 0, 0], [2.0, 0, 0], [2.001, 0, 0]]), np.full((3, 2), 2.0))
    assert boxes_touch(beside[0], beside[1:]).tolist() == [True, False]  # touching counts
    for _ in range(20):
        ring = np.array(MultiPoint(rng.uniform(-5, 5, (12, 2))).convex_hull.exterior.coords)[:-1]
        points = np.concatenate([rng.uniform(-5, 5, (100, 2)), ring])
        expected = [Polygon(ring).contains_properly(p) for p in MultiPoint(points).geoms]
        np.testing.assert_array_equal(points_in_ring(ring, points), expected)
        np.testing.assert_array_equal(points_in_ring(ring[::-1], points), expected)


def test_areas_agree_with_shapely():
    m = moved(sample(), 0.7, 5e4, -3e4).vector_map
    expected = [Polygon(m.polygon(row)).area for row in range(m.num_polygons)]
    np.testing.assert_allclose(polygon_areas(m), expected, rtol=1e-9)
    assert MapLayer.DRIVABLE_AREA not in m.polygon_layer  # roadblocks and the intersection are the road here
