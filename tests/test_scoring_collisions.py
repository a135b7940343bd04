"""Areas of a box on the map, and whose fault a contact is."""

import math

import numpy as np
import pytest

from worldengine_envs.scenario.types import MapLayer
from worldengine_envs.scoring import areas, collisions
from worldengine_envs.scoring.collisions import CollisionType as Kind
from worldengine_envs.simulation.geometry import box_corners
from worldengine_envs.simulation.map_index import MapIndexBuilder

EGO = (2.588, 1.1485)  # half sizes


def rectangle(x0, y0, x1, y1):
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=float)


@pytest.fixture(scope="module")
def road():
    """Two lanes of 3.5 m from x = -50 to 50 in one roadblock, and a car park above them."""
    rings = [rectangle(-50, 0, 50, 7), rectangle(-50, 0, 50, 3.5), rectangle(-50, 3.5, 50, 7), rectangle(-10, 6.5, 10, 20)]
    layers = [MapLayer.ROADBLOCK, MapLayer.LANE, MapLayer.LANE, MapLayer.CARPARK_AREA]
    builder = MapIndexBuilder()
    builder.add_polygons(np.concatenate(rings), 4 * np.arange(5), np.array(layers, np.int8))
    return builder.index()


@pytest.mark.parametrize(
    ("x", "y", "off", "multiple"),
    [
        (0, 1.75, False, False),  # in one lane
        (0, 3.5, False, True),  # astride
        (0, 7.0, False, False),  # astride road and car park: only one lane holds a corner
        (30, 6.5, True, False),  # left corners off the road
        (30, -2.0, True, False),  # nowhere
        (49, 3.5, True, True),  # half out at the end, still astride
    ],
)
def test_areas_of_a_box(road, x, y, off, multiple):
    corners = np.empty((4, 2))
    box_corners(x, y, 1.0, 0.0, *EGO, corners)
    assert (areas.first_corner_off_road(road, 0, corners) >= 0) == off
    assert areas.in_multiple_lanes(road, 0, corners, areas.make_lane_scratch()) == multiple


def classify(x, y, yaw=0.0, speed=5.0, other_speed=5.0, is_agent=True, size=(2.0, 1.0)):
    """Kind of contact of an ego box at the origin, heading along x, with another at (x, y)."""
    kind = collisions.classify_collision(
        -1.461, 0.0, 0.0, 0.0, 1.0, 0.0, *EGO, speed, x, y, math.cos(yaw), math.sin(yaw), *size, other_speed, is_agent
    )
    return Kind(kind)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"x": 4.0, "y": 0.5}, Kind.ACTIVE_FRONT),
        ({"x": 4.588, "y": 0.5}, Kind.ACTIVE_FRONT),  # just touching
        ({"x": -4.0, "y": 0.5}, Kind.ACTIVE_REAR),
        ({"x": 0.0, "y": 2.0}, Kind.ACTIVE_LATERAL),
        ({"x": 0.0, "y": 2.0, "speed": 0.05}, Kind.STOPPED_EGO),
        ({"x": 4.0, "y": 0.5, "other_speed": 0.05}, Kind.STOPPED_TRACK),
        ({"x": -4.0, "y": 0.5, "other_speed": 0.0}, Kind.STOPPED_TRACK),
        ({"x": -4.0, "y": 0.5, "is_agent": False}, Kind.STOPPED_TRACK),
        ({"x": 0.0, "y": 2.0, "speed": 0.0, "is_agent": False}, Kind.STOPPED_EGO),
    ],
)
def test_kinds_of_collision(arguments, expected):
    assert classify(**arguments) == expected


def test_fault():
    assert [collisions.is_at_fault(int(kind), False) for kind in Kind] == [False, True, True, False, False]
    assert [collisions.is_at_fault(int(kind), True) for kind in Kind] == [False, True, True, False, True]


def test_bearings():
    assert collisions.bearing(0, 0, 0.0, 1.0, 0, 3) == 0.0
    assert collisions.bearing(0, 0, 1.0, 0.0, -1.0, 1e-3) == pytest.approx(math.pi, abs=2e-3)
    assert collisions.bearing(1, 1, 1.0, 0.0, 1, 1) == collisions.UNDEFINED_BEARING
    slightly_long = math.nextafter(1.0, 2.0)  # a product above 1 by rounding
    undefined = collisions.bearing(0, 0, slightly_long, 0.0, 2, 0)
    assert undefined == collisions.UNDEFINED_BEARING
    assert not collisions.is_ahead(undefined) and not collisions.is_behind(undefined)
