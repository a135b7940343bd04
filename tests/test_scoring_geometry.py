"""The plane geometry against shapely."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import shapely
from shapely.geometry import LineString, Point, Polygon

from worldengine_envs.simulation import geometry as g


def random_box(rng, spread=4.0):
    x, y = rng.uniform(-spread, spread, 2)
    yaw = rng.choice([0.0, math.pi / 2, rng.uniform(-math.pi, math.pi)])
    return x, y, math.cos(yaw), math.sin(yaw), rng.uniform(0.1, 3.0), rng.uniform(0.1, 2.0)


def corners(box):
    out = np.empty((4, 2))
    g.box_corners(*box, out)
    return out


def test_corners_are_counter_clockwise_from_the_front_left():
    assert corners((1.0, 2.0, 0.0, 1.0, 2.0, 1.0)) == pytest.approx(np.array([[0, 4], [0, 0], [2, 0], [2, 4]]))


def test_boxes_overlap_as_in_shapely():
    rng = np.random.default_rng(0)
    for _ in range(1500):
        a, b = random_box(rng), random_box(rng)
        pa, pb = Polygon(corners(a)), Polygon(corners(b))
        if 0 < pa.distance(pb) < 1e-9 or 0 < pa.intersection(pb).area < 1e-9:
            continue
        assert g.boxes_overlap(*a, *b) == pa.intersects(pb)


def test_touching_boxes_and_edges_overlap():
    box = (0.0, 0.0, 1.0, 0.0, 2.0, 1.0)
    assert g.boxes_overlap(*box, 4.0, 0.0, 1.0, 0.0, 2.0, 1.0)
    assert g.boxes_overlap(*box, 4.0, 2.0, 1.0, 0.0, 2.0, 1.0)
    assert not g.boxes_overlap(*box, 4.0 + 1e-9, 0.0, 1.0, 0.0, 2.0, 1.0)
    assert g.boxes_overlap(*box, 2.0, 0.5, 1.0, 0.0, 0.0, 1.0)  # front edge of another box


def test_point_in_polygon_as_in_shapely():
    rng = np.random.default_rng(1)
    for _ in range(60):
        n = rng.integers(3, 12)
        angles = np.sort(rng.uniform(0, 2 * math.pi, n))
        ring = np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(0.3, 3.0, (n, 1))
        polygon = Polygon(ring)
        if not polygon.is_valid:
            continue
        points = rng.uniform(-3, 3, (200, 2))
        expected = shapely.contains_xy(polygon, points[:, 0], points[:, 1])
        assert [g.point_in_polygon(ring, 0, n, x, y) for x, y in points] == expected.tolist()


def test_border_of_a_polygon_is_outside():
    ring = np.array([[0, 0], [4, 0], [4, 4], [2, 2], [0, 4]], dtype=float)
    inside = {
        (1.0, 1.0),
        (2.0, 1.0),
        (3.0, 1.0),
        (2.0, 0.5),
        (1.0, 2.0),
        (3.0, 2.0),
        (1.0, 0.5),
        (3.0, 0.5),
        (0.5, 2.0),
        (3.5, 2.0),
    }
    for x in np.arange(0, 4.5, 0.5):
        for y in np.arange(0, 4.5, 0.5):
            expected = Polygon(ring).contains(Point(x, y))
            assert g.point_in_polygon(ring, 0, 5, x, y) == expected
            assert expected or (x, y) not in inside


def test_polygons_overlap_as_in_shapely():
    rng = np.random.default_rng(2)
    for _ in range(300):
        a = rng.uniform(-2, 2, (3, 2)) + rng.uniform(-2, 2, 2)
        b = rng.uniform(-2, 2, (3, 2)) + rng.uniform(-2, 2, 2)
        both = np.concatenate([a, b])
        assert g.polygon_overlaps_polygon(both, 0, 3, both, 3, 6) == Polygon(a).intersects(Polygon(b))
    nested = np.array([[-3, -3], [3, -3], [0, 5], [-0.5, 0], [0.5, 0], [0, 0.5]], dtype=float)
    assert g.polygon_overlaps_polygon(nested, 0, 3, nested, 3, 6)


def test_projection_as_in_shapely():
    rng = np.random.default_rng(3)
    for _ in range(200):
        xy = np.cumsum(rng.normal(0, 1, (12, 2)), axis=0)
        xy[5] = xy[4]  # a repeated point
        s = np.empty(12)
        g.polyline_arclength(xy, s)
        x, y = rng.normal(0, 4, 2)
        at, offset, segment = g.project_on_polyline(xy, s, x, y)
        line = LineString(xy)
        assert abs(offset) == pytest.approx(line.distance(Point(x, y)), abs=1e-9)
        assert s[segment] <= at + 1e-9 and at <= s[segment + 1] + 1e-9
        px, py, _ = g.polyline_pose(xy, s, at)
        assert math.hypot(px - x, py - y) == pytest.approx(abs(offset), abs=1e-9)


def test_side_and_bearing_of_a_projection():
    xy = np.array([[0, 0], [0, 10]], dtype=float)
    s = np.array([0.0, 10.0])
    assert g.project_on_polyline(xy, s, -2.0, 3.0) == pytest.approx((3.0, 2.0, 0))
    assert g.project_on_polyline(xy, s, 2.0, 13.0) == pytest.approx((10.0, -math.sqrt(13.0), 0))
    assert g.polyline_pose(xy, s, 4.0) == pytest.approx((0.0, 4.0, math.pi / 2))


@pytest.mark.parametrize(
    ("angle", "expected"),
    [(0.5, 0.5), (math.pi, -math.pi), (-math.pi, -math.pi), (7.0, 7.0 - 2 * math.pi), (-9.0, 4 * math.pi - 9.0 - 2 * math.pi)],
)
def test_wrapped_angles(angle, expected):
    assert g.wrap_angle(angle) == pytest.approx(expected)


def test_kernels_run_as_plain_python_for_debugging():
    code = "from worldengine_envs.simulation.geometry import wrap_angle as f; print(type(f).__name__, round(f(4.0), 3))"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "function -2.283\n", done.stderr
