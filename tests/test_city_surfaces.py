"""Surfaces of the city: where things stand, what is painted, how bright it is."""

import dataclasses

import numpy as np
import pytest

from worldengine_envs.city.maker import make_scenario
from worldengine_envs.city.surfaces.ground import camera_path, make_road
from worldengine_envs.city.surfaces.light import LIGHTS, time_of_day
from worldengine_envs.city.surfaces.lights import signal_places
from worldengine_envs.city.surfaces.models import LIGHT_ROWS, MODELS, choose
from worldengine_envs.city.surfaces.parts import half_extents
from worldengine_envs.city.surfaces.street import make_street_surfaces
from worldengine_envs.city.surfaces.textures import ground_color, lamp_light, shade, sky_color, soft_shadow, surface_color
from worldengine_envs.city.surfaces.types import TIMES_OF_DAY, Glow, Shape
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import AgentType, MapLayer
from worldengine_envs.sources.scenarionet import read_scenarionet

shapely = pytest.importorskip("shapely")

CASES = (("stop_at_light", 2), ("merge_squeeze", 1), ("roundabout", 3), ("work_zone", 1), ("stop_at_light", 3))
DRIVABLE = (MapLayer.DRIVABLE_AREA, MapLayer.ROADBLOCK, MapLayer.INTERSECTION, MapLayer.CARPARK_AREA)


@pytest.fixture(scope="module")
def streets():
    return {case: (scenario := make_scenario(*case), make_street_surfaces(scenario)) for case in CASES}


def road_of(scenario):
    """The drivable area as one shape, by shapely."""
    m = scenario.vector_map
    rings = [m.polygon(row) for row in np.flatnonzero(np.isin(m.polygon_layer, DRIVABLE))]
    return shapely.union_all([shapely.Polygon(ring).buffer(0.0) for ring in rings])


def footprint(primitive):
    """The outline of a primitive seen from above, for those that reach down to where cars are."""
    m = primitive["from_unit"]
    if primitive["shape"] == Shape.BOX:
        corners = np.stack(np.meshgrid(*[(-1.0, 1.0)] * 3), axis=-1).reshape(-1, 3)
    else:
        turn = np.linspace(0.0, 2.0 * np.pi, 16)
        disc = np.stack((np.cos(turn), np.sin(turn)), axis=1)
        corners = np.concatenate([np.column_stack((disc, np.full(16, z))) for z in (-1.0, 1.0)])
    points = corners @ m[:, :3].T + m[:, 3]
    return shapely.MultiPoint(points[:, :2]).convex_hull, points[:, 2].min()


@pytest.mark.parametrize("case", CASES)
def test_nothing_stands_on_the_road_or_where_tracks_are(streets, case):
    scenario, street = streets[case]
    road, tracks = road_of(scenario), scenario.tracks
    shapely.prepare(road)
    people = shapely.points(tracks.state[tracks.valid][:, :2])
    tree = shapely.STRtree(people)
    low = 0
    for primitive in street.primitives:
        outline, bottom = footprint(primitive)
        if bottom < 2.2:  # crowns and lamp arms are higher
            low += 1
            assert not road.intersects(outline.buffer(-0.05))
            assert len(tree.query(outline, predicate="intersects")) == 0
    assert low > 100
    assert len(street.lamps) > 4


@pytest.mark.parametrize("case", CASES)
def test_distance_from_the_edge_of_the_road(streets, case):
    scenario, street = streets[case]
    ground, road = street.ground, road_of(scenario)
    rng = np.random.default_rng(0)
    rows, columns = (rng.integers(0, n, 1500) for n in ground.edge.shape)
    xy = ground.origin + ground.cell * (np.stack((columns, rows), axis=1) + 0.5)
    points = shapely.points(xy)
    outside, inside = shapely.distance(road, points), shapely.distance(road.boundary, points)
    expected = np.where(outside > 0.0, np.minimum(outside, 12.0), -np.minimum(inside, 1.5))
    error = np.abs(ground.edge[rows, columns] - expected)
    assert np.quantile(error, 0.99) < 0.02
    assert (error < 0.02)[outside > 0.0].all()


def brightness(ground, x, y):
    return float(np.mean(ground_color(ground, x, y)))


def test_lines_crosswalks_and_stop_lines_are_painted(streets):
    scenario, street = streets["stop_at_light", 2]
    m, ground = scenario.vector_map, street.ground
    near = [r for r in np.flatnonzero(m.polygon_layer == MapLayer.CROSSWALK) if ground_at(ground, m.polygon(r).mean(0)) is not None]
    assert near
    for row in near:
        ring = m.polygon(row)
        edges = np.roll(ring, -1, 0) - ring
        along = edges[np.argmax(np.hypot(*edges.T))]
        middle, half = ring.mean(0), 0.45 * along
        values = np.array([brightness(ground, *(middle + t * half)) for t in np.linspace(-1.0, 1.0, 200)])
        white = values > 0.6
        assert 0.35 < white.mean() < 0.75
        assert np.count_nonzero(white[1:] != white[:-1]) >= np.hypot(*along)  # two changes a bar, a bar a metre, near enough
    x, y, heading = scenario.tracks.state[0, scenario.start_step, :3]
    across = np.array([brightness(ground, x - s * np.sin(heading), y + s * np.cos(heading)) for s in np.arange(-12.0, 12.0, 0.03)])
    assert across.max() > 0.6
    assert np.median(across) < 0.65


def ground_at(ground, xy):
    j, i = ((xy - ground.origin) / ground.cell).astype(int)
    return ground.area[i, j] if 0 <= i < ground.area.shape[0] and 0 <= j < ground.area.shape[1] else None


def test_stripes_are_found_through_bins(streets):
    _, street = streets["merge_squeeze", 1]
    ground = street.ground
    for k in np.random.default_rng(1).choice(len(ground.stripe), 50, replace=False):
        x, y, cos, sin, length, width = ground.stripe[k]
        for u, v in ((0.0, 0.0), (0.97, 0.9), (-0.97, -0.9)):
            px, py = x + u * length * cos - v * width * sin, y + u * length * sin + v * width * cos
            j, i = np.floor((np.array((px, py)) - ground.origin) / ground.bin_size).astype(int)
            b = i * ground.bin_columns + j
            if 0 <= j < ground.bin_columns and 0 <= b < len(ground.bin_offsets) - 1:
                assert k in ground.bin_stripes[ground.bin_offsets[b] : ground.bin_offsets[b + 1]]


def test_a_street_depends_on_its_map_and_not_on_the_scenario(streets):
    scenario, street = streets["work_zone", 1]
    other = dataclasses.replace(scenario, id="another")
    again = make_street_surfaces(other)
    assert np.array_equal(again.primitives, street.primitives)
    assert np.array_equal(again.ground.stripe_color, street.ground.stripe_color)
    assert np.array_equal(again.ground.shadow, street.ground.shadow)


@pytest.mark.parametrize("case", [c for c in CASES if c[0] == "stop_at_light"])
def test_lights_are_seen_by_who_waits_for_them(streets, case):
    scenario, street = streets[case]
    places, m = signal_places(scenario, street.ground), scenario.vector_map
    assert np.array_equal(places, signal_places(scenario), equal_nan=True)
    there = np.flatnonzero(np.isfinite(places[:, 0]))
    assert 3 <= len(there) < len(places)
    road = road_of(scenario)
    for row in there:
        line = m.lane_centerline(scenario.lights.lanes[row])
        ahead = (line[1] - line[0]) / np.hypot(*(line[1] - line[0]))
        way = places[row, :2] - (line[0] - 5.0 * ahead)
        assert not road.contains(shapely.Point(places[row, :2]))
        assert ahead @ way > 6.0
        assert np.arccos(ahead @ way / np.hypot(*way)) < np.radians(32.0)
        assert np.cos(places[row, 2]) * ahead[0] + np.sin(places[row, 2]) * ahead[1] < -0.9
    on_route = np.isin(scenario.lights.lanes, scenario.route.lanes)
    assert np.isfinite(places[on_route, 0]).any()


def test_maps_without_areas_and_without_lights(streets):
    scenario, _ = streets["work_zone", 1]
    m = scenario.vector_map
    kept = np.isin(m.polygon_layer, (MapLayer.LANE, MapLayer.LANE_CONNECTOR))
    rings = [m.polygon(row) for row in np.flatnonzero(kept)]
    bare = dataclasses.replace(
        m,
        polygon_xy=np.concatenate(rings),
        polygon_offsets=np.concatenate(([0], np.cumsum([len(ring) for ring in rings]))).astype(np.int32),
        polygon_layer=m.polygon_layer[kept],
        lane_polygon=(np.cumsum(kept) - 1)[m.lane_polygon].astype(np.int32),
    )
    lights = dataclasses.replace(scenario.lights, lanes=scenario.lights.lanes[:0], state=scenario.lights.state[:0])
    street = make_street_surfaces(dataclasses.replace(scenario, vector_map=bare, lights=lights))
    x, y = scenario.tracks.state[0, scenario.start_step, :2]
    assert brightness(street.ground, x, y) < 0.5
    assert len(street.primitives) > 50
    assert signal_places(dataclasses.replace(scenario, lights=lights)).shape == (0, 3)


@pytest.mark.parametrize(
    "name", ["nuscenes_mini/sd_nuscenes_v1.0-mini_scene-0061.pkl", "waymo_scenarionet/waymo20s_6f85f27e0243fc10.pkl"]
)
def test_streets_of_recordings(shared, name):
    scenario = next(iter(read_scenarionet(shared / "data" / name)))
    street = make_street_surfaces(scenario)
    road = road_of(scenario)
    shapely.prepare(road)
    assert len(street.primitives) > 200
    for primitive in street.primitives:
        outline, bottom = footprint(primitive)
        assert bottom > 2.2 or not road.intersects(outline.buffer(-0.05))
    on_road = [brightness(street.ground, x, y) for x, y in street.path[::5]]
    assert 0.2 < np.median(on_road) < 0.5
    tracks, places = scenario.tracks, signal_places(scenario, street.ground)
    for x, y, _ in places[np.isfinite(places[:, 0])]:
        dx, dy = x - tracks.state[..., 0], y - tracks.state[..., 1]
        cos, sin = np.cos(tracks.state[..., 2]), np.sin(tracks.state[..., 2])
        inside = (abs(dx * cos + dy * sin) < 0.5 * tracks.size[..., 0]) & (abs(dy * cos - dx * sin) < 0.5 * tracks.size[..., 1])
        assert not road.contains(shapely.Point(x, y))
        assert not (inside & tracks.valid).any()


def test_any_number_of_a_map_gives_a_street(monkeypatch):
    """Seeds are sums; textures keep 32 bits of them."""
    monkeypatch.setattr("worldengine_envs.city.surfaces.street.map_seed", lambda vector_map: 2**32 - 5)
    assert len(make_street_surfaces(make_scenario("work_zone", 1)).primitives) > 50


def moved(scenario, first, last):
    """The scenario with its tracks somewhere else: all steps moved by x = y = ``first``, the ego's last one by ``last`` [m]."""
    tracks, route = scenario.tracks, scenario.route
    state = tracks.state.copy()
    state[..., :2] += first * tracks.valid[..., None]
    state[0, -1, :2] += last - first
    route = dataclasses.replace(route, centerline=route.centerline + np.array([first, first, 0.0]))
    return dataclasses.replace(scenario, tracks=dataclasses.replace(tracks, state=state), route=route)


def test_far_from_all_roads_there_is_but_grass(streets):
    street = make_street_surfaces(moved(streets["work_zone", 1][0], 3000.0, 3000.0))
    assert not len(street.primitives)
    assert np.ptp(street.ground.area) == 0
    assert np.isfinite([ground_color(street.ground, x, y) for x, y in street.path[::10]]).all()


def test_lanes_that_go_to_and_fro_for_ever_are_refused_before_anything_is_made(streets):
    scenario, m = streets["work_zone", 1][0], streets["work_zone", 1][0].vector_map
    line = np.tile([[-9e4, 0.0], [9e4, 0.0]], (20, 1))
    wild = np.concatenate((line, m.centerline[m.centerline_offsets[1] :]))
    offsets = np.concatenate(([0], m.centerline_offsets[1:] + len(line) - m.centerline_offsets[1])).astype(
        m.centerline_offsets.dtype
    )
    wild_map = dataclasses.replace(m, centerline=wild, centerline_offsets=offsets)
    with pytest.raises(DataError, match="km of lanes"):
        make_street_surfaces(dataclasses.replace(scenario, vector_map=wild_map))


def test_a_path_that_is_too_long_is_refused_before_anything_is_made(streets):
    with pytest.raises(DataError, match="too large"):
        make_street_surfaces(moved(streets["work_zone", 1][0], 0.0, 90_000.0))


def test_models_fill_their_boxes():
    assert len({model.name for model in MODELS}) == len(MODELS)
    for model in MODELS:
        p = model.primitives
        reach = half_extents(p["shape"], p["from_unit"][:, :, :3])
        low, high = (p["from_unit"][:, :, 3] - reach).min(0), (p["from_unit"][:, :, 3] + reach).max(0)
        half = 0.5 * np.array(model.size)
        assert (low >= -half - 1e-6).all() and (high <= half + 1e-6).all()
        assert (low[2], high[2]) == pytest.approx((-half[2], half[2]), abs=0.06 * model.size[2])
        assert ((high - low) > 0.7 * np.array(model.size)).all()
        unit = np.einsum("nij,njk->nik", p["to_unit"][:, :, :3], p["from_unit"][:, :, :3])
        assert np.allclose(unit, np.eye(3), atol=1e-9)


def test_models_are_chosen_by_type_and_proportions():
    for kind in AgentType:
        assert MODELS[choose(kind, (1.0, 1.0, 1.0), "x")].type == kind
    names = {"hatchback": (3.9, 1.7, 1.5), "van": (6.2, 2.1, 2.6), "bus": (11.5, 2.6, 3.2), "truck": (8.5, 2.5, 3.5)}
    for name, size in names.items():
        assert MODELS[choose(AgentType.VEHICLE, size, "x")].name.startswith(name)
    assert MODELS[choose(AgentType.PEDESTRIAN, (0.4, 0.4, 1.15), "x")].name.startswith("child")
    rows = [choose(AgentType.VEHICLE, (4.5, 1.85, 1.5), f"s/{k}") for k in range(50)]
    assert len(set(rows)) > 4
    assert rows == [choose(AgentType.VEHICLE, (4.5, 1.85, 1.5), f"s/{k}") for k in range(50)]
    assert not any("light_" in MODELS[choose(AgentType.GENERIC_OBJECT, (0.5, 0.8, 4.9), f"{k}")].name for k in range(20))
    for row, name in zip(LIGHT_ROWS, ("off", "green", "yellow", "red"), strict=True):
        shining = MODELS[row].primitives[MODELS[row].primitives["glow_when"] == Glow.ALWAYS]
        assert len(shining) == (name != "off")
        if name in ("red", "green"):
            assert np.argmax(shining["glow"][0]) == ("red", "green").index(name)


def test_light_falls_as_it_should():
    day, night = LIGHTS["day"], LIGHTS["night"]
    white = (1.0, 1.0, 1.0)
    toward, away = day.sun_direction, -day.sun_direction * (1, 1, 0)
    away = away / np.linalg.norm(away)
    assert min(shade(*[0.5] * 3, *toward, 0.0, day, True)) > max(shade(*[0.5] * 3, *away, 0.0, day, True))
    assert np.allclose(
        shade(*white, *toward, 0.3, day, False)[0], shade(*white, *toward, 0.9, day, False)[0]
    )  # actors get one share
    dark, lit = (np.mean(shade(*[0.5] * 3, 0.0, 0.0, 1.0, share, night, True)) for share in (0.0, 1.0))
    assert 0.05 < dark < 0.25
    assert lit > 2.0 * dark
    assert (soft_shadow(0.0, 0.0), soft_shadow(1.5, 0.0)) == (1.0, 0.0)
    for name in TIMES_OF_DAY:
        for direction in ((1.0, 0.0, 0.0), (0.0, 0.6, 0.8), (0.0, 0.0, 1.0), (0.0, -0.8, -0.6)):
            color = np.array(sky_color(*direction, LIGHTS[name]))
            assert np.isfinite(color).all() and (color >= 0.0).all() and (color <= 1.0).all()


def test_it_gets_darker_and_lamps_shine(streets):
    _, street = streets["stop_at_light", 2]
    ground, by_time = street.ground, []
    x, y, _ = street.lamps[0]
    for name in TIMES_OF_DAY:
        values = [
            np.mean(shade(*ground_color(ground, *xy), 0.0, 0.0, 1.0, lamp_light(ground, *xy, 0.0), LIGHTS[name], True))
            for xy in street.path
        ]
        by_time.append(np.mean(values))
    assert by_time[0] > by_time[1] > by_time[2] > 0.05
    assert lamp_light(ground, x, y, 0.0) > 0.9
    assert lamp_light(ground, x, y, 9.0) == 0.0
    houses = np.flatnonzero(street.primitives["texture"] == 1)
    glowing = [
        surface_color(street.primitives, i, 1.0, v, w, True)[3] for i in houses[:20] for v in (-0.5, 0.1, 0.6) for w in (-0.3, 0.4)
    ]
    assert 0 < np.mean(glowing) < 0.5
    assert not any(surface_color(street.primitives, i, 1.0, v, 0.4, False)[3] for i in houses[:20] for v in (-0.5, 0.1, 0.6))


def test_shares_of_times_of_day():
    times = [time_of_day(f"cut_in_{k:03d}") for k in range(3000)]
    shares = [times.count(name) / len(times) for name in TIMES_OF_DAY]
    assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.03)


def test_cells_cover_where_cameras_will_be(streets):
    for scenario, street in streets.values():
        path, ground = camera_path(scenario), street.ground
        high = ground.origin + ground.cell * np.array(ground.area.shape)[::-1]
        assert (path.min(0) - ground.origin >= 100.0).all() and (high - path.max(0) >= 100.0).all()
        assert np.array_equal(make_road(scenario, path).edge, ground.edge)
