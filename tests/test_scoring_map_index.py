"""Map queries against shapely and against plain polygon tests."""

import itertools
import math

import numpy as np
import pytest
import shapely

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import MapLayer
from worldengine_envs.simulation import map_index as mi
from worldengine_envs.simulation.geometry import point_in_polygon

LAYERS = [MapLayer.ROADBLOCK, MapLayer.LANE, MapLayer.LANE_CONNECTOR, MapLayer.INTERSECTION, MapLayer.CROSSWALK]


def random_map(rng, count=25, spread=40.0):
    """Star-shaped polygons of all layers, and strips with round coordinates that share borders."""
    rings, layers = [], []
    for _ in range(count):
        n = rng.integers(3, 15)
        angles = np.sort(rng.uniform(0, 2 * math.pi, n)) + rng.uniform(0, 1e-3)
        ring = rng.uniform(-spread, spread, 2) + np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(1.0, 15.0, (n, 1))
        if shapely.is_valid(shapely.polygons(ring)):
            rings.append(ring)
            layers.append(rng.choice(LAYERS))
    for k in range(-3, 3):
        rings.append(np.array([[-spread, 3.5 * k], [spread, 3.5 * k], [spread, 3.5 * (k + 1)], [-spread, 3.5 * (k + 1)]]))
        layers.append(MapLayer.LANE)
    return np.concatenate(rings), np.concatenate([[0], np.cumsum([len(r) for r in rings])]), np.array(layers, dtype=np.int8)


@pytest.fixture(scope="module")
def maps():
    rng = np.random.default_rng(5)
    polygons = [random_map(rng) for _ in range(3)]
    builder = mi.MapIndexBuilder()
    for m, p in enumerate(polygons):
        assert builder.add_polygons(*p) == m
    return polygons, builder.index()


def test_lanes_and_layers_as_in_shapely(maps):
    polygons, index = maps
    rng = np.random.default_rng(6)
    out = np.empty(mi.MAX_LANES_AT_POINT, np.int32)
    for m, (xy, offsets, layers) in enumerate(polygons):
        shapes = [shapely.polygons(xy[a:b]) for a, b in itertools.pairwise(offsets)]
        points = rng.uniform(-60, 60, (1500, 2))
        points[:300] = np.round(points[:300])
        points[300:600] = xy[rng.integers(0, len(xy), 300)] + rng.normal(0, 1e-4, (300, 2))
        holds = np.array([shapely.contains_xy(s, points[:, 0], points[:, 1]) for s in shapes])
        is_lane = np.isin(layers, [MapLayer.LANE, MapLayer.LANE_CONNECTOR])
        drivable = np.isin(layers, [MapLayer.ROADBLOCK, MapLayer.INTERSECTION])
        flags = rng.random(len(layers)) < 0.5
        for i, (x, y) in enumerate(points):
            assert sorted(out[: mi.lanes_at(index, m, x, y, out)]) == np.flatnonzero(holds[:, i] & is_lane).tolist()
            assert mi.is_drivable(index, m, x, y) == holds[drivable, i].any()
            assert mi.in_layer(index, m, MapLayer.CROSSWALK, x, y) == holds[layers == MapLayer.CROSSWALK, i].any()
            assert mi.on_lane_of(index, m, flags, x, y) == (holds[:, i] & is_lane & flags).any()


def test_appending_changes_no_answer(maps):
    """Each map alone, and behind others."""
    polygons, index = maps
    rng = np.random.default_rng(8)
    for m, p in enumerate(polygons):
        builder = mi.MapIndexBuilder()
        builder.add_polygons(*p)
        alone, mine, theirs = builder.index(), np.empty(16, np.int32), np.empty(16, np.int32)
        for x, y in rng.uniform(-60, 60, (500, 2)):
            count = mi.lanes_at(alone, 0, x, y, mine)
            assert count == mi.lanes_at(index, m, x, y, theirs) and np.array_equal(mine[:count], theirs[:count])


def test_rings_of_any_shape_and_start():
    """A comb whose teeth are thinner than cells, its ring begun anywhere: cells see runs of edges that go round its end."""
    teeth = [[(k, 0.0), (k + 0.1, 9.0), (k + 0.4, 9.0), (k + 0.5, 0.0)] for k in np.arange(0.0, 12.0, 0.7)]
    comb = np.array([*itertools.chain(*teeth), (12.5, -1.0), (-0.5, -1.0)])
    points = np.random.default_rng(9).uniform(-2, 14, (2000, 2))
    expected = shapely.contains_xy(shapely.polygons(comb), points[:, 0], points[:, 1])
    for shift in (0, 1, 17, len(comb) - 1):
        builder = mi.MapIndexBuilder()
        builder.add_polygons(np.roll(comb, shift, axis=0), np.array([0, len(comb)]), np.array([MapLayer.LANE], np.int8))
        index = builder.index()
        assert [mi.in_layer(index, 0, MapLayer.LANE, x, y) for x, y in points] == expected.tolist()


def test_a_map_far_from_the_origin_and_a_coarse_grid():
    rng = np.random.default_rng(7)
    xy, offsets, layers = random_map(rng)
    far = xy + np.array([4.3e5, 4.9e6])
    builder = mi.MapIndexBuilder(cell_m=7.0)
    builder.add_polygons(far, offsets, layers)
    index = builder.index()
    for x, y in far[0] + rng.uniform(-50, 50, (1000, 2)):
        expected = any(
            point_in_polygon(far, offsets[q], offsets[q + 1], x, y)
            for q in np.flatnonzero(np.isin(layers, [MapLayer.ROADBLOCK, MapLayer.INTERSECTION]))
        )
        assert mi.is_drivable(index, 0, x, y) == expected


def test_points_outside_the_grid_and_an_empty_map():
    builder = mi.MapIndexBuilder()
    builder.add_polygons(np.zeros((0, 2)), np.zeros(1, int), np.zeros(0, np.int8))
    index = builder.index()
    for x, y in [(0.0, 0.0), (1e9, -1e9), (math.nan, 0.0)]:
        assert not mi.is_drivable(index, 0, x, y)


@pytest.mark.parametrize(
    ("xy", "offsets", "word"),
    [
        ([[0, 0], [1, 0], [math.nan, 1]], [0, 3], "finite"),
        ([[0, 0], [1e9, 0], [0, 1]], [0, 3], "wide"),
        ([[0, 0], [1, 0], [0, 1]], [0, 2], "rings"),
        (np.tile([[0, 0], [9000, 0], [9000, 9000], [0, 9000]], (2000, 1)), np.arange(0, 8001, 4), "one another"),
    ],
)
def test_absurd_maps_are_refused(xy, offsets, word):
    with pytest.raises(DataError, match=word):
        mi.MapIndexBuilder().add_polygons(np.array(xy, dtype=float), np.array(offsets), np.ones(len(offsets) - 1, np.int8))


def test_a_layer_that_does_not_exist_is_refused():
    with pytest.raises(DataError, match="MapLayer"):
        mi.MapIndexBuilder().add_polygons(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([0, 3]), np.array([40], np.int8))


def test_what_a_map_may_cost_is_counted_before_it_is_paid(monkeypatch):
    monkeypatch.setattr(mi, "MAX_ENTRIES", 2000)
    square = np.array([[0.0, 0.0], [30.0, 0.0], [30.0, 30.0], [0.0, 30.0]])
    mi.MapIndexBuilder(cell_m=1.0).add_polygons(square, np.array([0, 4]), np.ones(1, np.int8))
    with pytest.raises(DataError, match="one another"):
        mi.MapIndexBuilder(cell_m=1.0).add_polygons(np.tile(square, (3, 1)), np.array([0, 4, 8, 12]), np.ones(3, np.int8))
