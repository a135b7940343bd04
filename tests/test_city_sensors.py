"""The ray caster against closed forms: planes, boxes, spheres, lenses and what a scenario says is there."""

import json
from dataclasses import replace

import numpy as np
import pytest
from factory import Agent, straight_scenario
from PIL import Image

from worldengine_envs.city import make_scenario
from worldengine_envs.city.camera_log import CameraLogSettings, ego_to_world, write_camera_log
from worldengine_envs.city.raycast import GROUND, SKY, Lens, cast_ranges, make_solids, undo_distortion
from worldengine_envs.city.sensors import LidarSettings, SurfaceCaster, lidar_rays
from worldengine_envs.city.surfaces.types import PRIMITIVE, Shape, Street
from worldengine_envs.errors import DataError
from worldengine_envs.rendering.cameras import RIGS, camera_to_ego, intrinsics_of, scaled_rig
from worldengine_envs.rendering.lenses import distort
from worldengine_envs.scenario.types import AgentType

HEIGHT, WIDTH = 90, 160
INTRINSICS = np.array([140.0, 140.0, 80.0, 45.0])
NO_NOISE = LidarSettings(range_noise_m=0.0)


def solids_of(shapes, from_unit, origin):
    """Bare solids, each its own owner."""
    n = len(shapes)
    primitives = np.zeros(n, PRIMITIVE)
    primitives["shape"] = shapes
    return make_solids(
        origin, primitives, np.asarray(from_unit, float).reshape(n, 3, 4), np.arange(n, dtype=np.int32), np.zeros(n, bool), []
    )


def cast(solids, directions):
    """Distances and owners (GROUND, SKY as they are)."""
    distance, what = np.empty(len(directions)), np.empty(len(directions), np.int32)
    cast_ranges(0, len(directions), solids, np.ascontiguousarray(directions), distance, what)
    owner = what.copy()
    owner[what >= 0] = solids.owner[what[what >= 0]]
    return distance, owner


def spread(n, seed=0):
    """Directions of length one all around."""
    d = np.random.default_rng(seed).standard_normal((n, 3))
    return d / np.linalg.norm(d, axis=1, keepdims=True)


def random_solids(n, rng):
    """Shapes and matrices of solids that are turned and stretched at random, above the ground."""
    linear = rng.standard_normal((n, 3, 3)) * rng.uniform(0.3, 1.5, (n, 1, 1))
    offset = rng.uniform((-30, -30, 4), (30, 30, 20), (n, 3))
    return rng.integers(0, 3, n), np.concatenate((linear, offset[:, :, None]), axis=2)


def excess(shape, p):
    """Below 1 inside a unit shape, 1 on its surface: p (..., 3)."""
    if shape == Shape.BOX:
        return np.abs(p).max(-1)
    if shape == Shape.ELLIPSOID:
        return np.linalg.norm(p, axis=-1)
    return np.maximum(np.hypot(p[..., 0], p[..., 1]), np.abs(p[..., 2]))


@pytest.fixture(scope="module")
def bare():
    """A caster of a straight road with a car 15 m ahead, a pedestrian beside it and nothing built around."""
    agents = [Agent(15.0, 0.0), Agent(12.0, 3.0, kind=AgentType.PEDESTRIAN), Agent(-12.0, 0.0), Agent(30.0, -2.0, last=-1)]
    scenario = straight_scenario(agents)
    street = SurfaceCaster(scenario, time_of_day="day").street
    return SurfaceCaster(scenario, replace(street, primitives=np.zeros(0, PRIMITIVE), lamps=np.zeros((0, 3))), "day")


def level_camera(x=0.0, y=0.0, z=1.5, yaw=0.0):
    return camera_to_ego(x, y, z, yaw)


class TestRays:
    def test_spheres_are_hit_where_the_quadratic_says(self):
        centre, radius = np.array([6.0, 1.0, 4.0]), 2.0
        solids = solids_of([Shape.ELLIPSOID], np.column_stack((radius * np.eye(3), centre)), (0.0, 0.0, 4.0))
        directions = spread(20_000)
        to_centre = centre - (0.0, 0.0, 4.0)
        along = directions @ to_centre
        root = radius**2 - (to_centre @ to_centre - along**2)
        hits = (root >= 0) & (along > 0)
        distance, owner = cast(solids, directions)
        assert ((owner == 0) == hits).all()
        assert np.allclose(distance[hits], (along - np.sqrt(np.abs(root)))[hits], atol=1e-9)
        assert hits.sum() > 200

    def test_ground_and_sky(self):
        solids = solids_of([], [], (3.0, 4.0, 2.0))
        directions = spread(1000)
        distance, owner = cast(solids, directions)
        down = directions[:, 2] < 0
        assert (owner == np.where(down, GROUND, SKY)).all()
        assert np.allclose(distance[down] * directions[down, 2], -2.0)
        assert np.isinf(distance[~down]).all()

    @pytest.mark.parametrize("seed", range(3))
    def test_the_first_surface_of_many_solids_is_found(self, seed):
        """Every hit lies on the surface of its solid, and nowhere before it is a ray inside any solid."""
        rng = np.random.default_rng(seed)
        shapes, matrices = random_solids(90, rng)
        origin = np.array([0.0, 0.0, 3.0])
        while any(excess(s, np.linalg.solve(m[:, :3], origin - m[:, 3])) < 1.05 for s, m in zip(shapes, matrices, strict=True)):
            origin += (0.7, 0.3, 0.0)
        directions = spread(1000, seed)
        distance, owner = cast(solids_of(shapes, matrices, origin), directions)
        assert 60 < (owner >= 0).sum() < 940
        t = np.linspace(0.0, 1.0, 250, endpoint=False)[None, :] * np.minimum(distance, 60.0)[:, None] * (1 - 1e-9)
        points = origin + t[:, :, None] * directions[:, None, :]
        for row, (shape, m) in enumerate(zip(shapes, matrices, strict=True)):
            inverse = np.linalg.inv(m[:, :3])
            assert excess(shape, (points - m[:, 3]) @ inverse.T).min() > 1 - 1e-6
            mine = owner == row
            end = origin + distance[mine, None] * directions[mine]
            assert np.allclose(excess(shape, (end - m[:, 3]) @ inverse.T), 1.0, atol=1e-7)

    def test_the_tree_finds_what_each_solid_alone_gives(self):
        shapes, matrices = random_solids(60, np.random.default_rng(7))
        directions, origin = spread(3000, 1), np.array([1.0, -2.0, 1.0])
        distance, owner = cast(solids_of(shapes, matrices, origin), directions)
        alone = [cast(solids_of(shapes[i : i + 1], matrices[i : i + 1], origin), directions) for i in range(len(shapes))]
        times = np.array([np.where(o == 0, d, np.inf) for d, o in alone])
        ground = np.where(directions[:, 2] < 0, -origin[2] / np.minimum(directions[:, 2], -1e-300), np.inf)
        assert np.array_equal(distance, np.minimum(times.min(0), ground))
        solid = owner >= 0
        assert np.array_equal(times[owner[solid], np.flatnonzero(solid)], distance[solid])

    def test_from_inside_a_room_the_walls_are_seen(self):
        half = np.array([5.0, 4.0, 3.0])
        solids = solids_of([Shape.BOX], np.column_stack((np.diag(half), (0.0, 0.0, 10.0))), (1.0, 0.5, 9.0))
        directions = spread(2000)
        walls = np.where(directions > 0, half, -half) - (1.0, 0.5, -1.0)
        distance, owner = cast(solids, directions)
        assert (owner == 0).all()
        assert np.allclose(distance, (walls / directions).min(1))

    def test_rays_along_the_axes_do_not_stumble_over_zeros(self):
        beside = np.column_stack((np.eye(3), (5.0, 1.0, 2.0)))  # the ray along x grazes an edge
        solids = solids_of([Shape.BOX, Shape.CYLINDER], [beside, beside], (0.0, 0.0, 1.0))
        distance, owner = cast(solids, np.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 0, 1.0], [0, 0, -1.0], [0, 1.0, 0]]))
        assert owner.tolist()[1:] == [SKY, SKY, GROUND, SKY]
        assert owner[0] >= 0
        assert np.isfinite(distance[0])
        assert distance[3] == 1.0


class TestCamera:
    def test_depth_of_the_ground_plane(self, bare):
        moment = bare.logged(bare.scenario.start_step)
        nobody = moment._replace(present=np.zeros_like(moment.present))
        view = bare.camera(nobody, level_camera(z=1.5), INTRINSICS, HEIGHT, WIDTH, supersample=1)
        row = np.arange(HEIGHT) + 0.5 - INTRINSICS[3]
        expected = np.where(row > 0, 1.5 * INTRINSICS[1] / np.maximum(row, 1e-9), 0.0)
        assert np.allclose(view.depth, expected[:, None], rtol=1e-6)
        assert (view.instance == -1).all()

    def test_silhouettes_stay_inside_boxes_and_fill_most_of_them(self, bare):
        """A mask lies in the outline of the agent's box on the image; one car's covers most of it."""
        from scipy.spatial import ConvexHull
        from shapely import Polygon, contains_xy

        step = bare.scenario.start_step
        moment, pose = bare.logged(step), level_camera(x=1.0)
        view = bare.camera(moment, pose, INTRINSICS, HEIGHT, WIDTH)
        assert set(np.unique(view.instance)) == {-1, 1, 2}
        columns, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
        for a in (1, 2):
            x, y, yaw, *size = moment.boxes[a]
            assert yaw == 0.0
            corners = np.array([(i, j, k) for i in (-0.5, 0.5) for j in (-0.5, 0.5) for k in (-0.5, 0.5)]) * size + (
                x,
                y,
                size[2] / 2,
            )
            camera = (corners - pose[:3, 3]) @ pose[:3, :3]
            image = INTRINSICS[:2] * camera[:, :2] / camera[:, 2:] + INTRINSICS[2:]
            outline = Polygon(image[ConvexHull(image).vertices])
            inside, mask = contains_xy(outline.buffer(0.01), columns, rows), view.instance == a
            assert not (mask & ~inside).any()
            assert mask.sum() > (0.75 if a == 1 else 0.3) * inside.sum()
            depth = view.depth[mask]
            assert depth.min() > camera[:, 2].min() - 1e-6
            assert depth.max() < camera[:, 2].max() + 1e-6

    def test_who_is_gone_or_left_out_has_no_pixel(self, bare):
        start = bare.scenario.start_step
        moment = bare.logged(start)
        assert not moment.present[4]
        assert 4 in bare.camera(bare.logged(start - 1), level_camera(x=1.0), INTRINSICS, HEIGHT, WIDTH).instance
        assert 4 not in bare.camera(moment, level_camera(x=1.0), INTRINSICS, HEIGHT, WIDTH).instance
        inside = bare.camera(moment, level_camera(x=1.0), INTRINSICS, HEIGHT, WIDTH, without=())
        assert 0 in inside.instance
        behind = bare.camera(moment, level_camera(x=-30.0), INTRINSICS, HEIGHT, WIDTH, without=(0, 3))
        assert 3 not in behind.instance

    def test_the_shadow_moves_with_its_actor(self, bare):
        moment, above = bare.logged(bare.scenario.start_step), np.eye(4)
        above[:3] = [[0.0, -1.0, 0.0, 15.0], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 20.0]]
        nobody = moment._replace(present=np.zeros_like(moment.present))
        with_car = bare.camera(moment, above, INTRINSICS, HEIGHT, WIDTH, supersample=1)
        without = bare.camera(nobody, above, INTRINSICS, HEIGHT, WIDTH, supersample=1)
        darker = (without.rgb.astype(int) - with_car.rgb).mean(-1)
        columns, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
        x, y = 15.0 - (rows - 45.0) / 140.0 * 20.0, -(columns - 80.0) / 140.0 * 20.0
        u, v = np.abs(x - 15.0) / (0.5 * moment.boxes[1, 3]), np.abs(y) / (0.5 * moment.boxes[1, 4])
        ground, rim = with_car.instance < 0, np.maximum(u, v)
        close = ground & (rim < 1.1) & (np.minimum(u, v) < 0.8)
        assert close.sum() > 10
        assert darker[close].min() > 3
        alone = (rim > 1.5) & (y < 1.5)  # not the pedestrian's
        assert (darker[alone] == 0).all()

    def test_more_rays_smooth_edges_only(self, bare):
        moment = bare.logged(bare.scenario.start_step)
        one, five = (bare.camera(moment, level_camera(x=1.0), INTRINSICS, HEIGHT, WIDTH, supersample=n) for n in (1, 5))
        assert np.array_equal(one.depth, five.depth)
        assert np.array_equal(one.instance, five.instance)
        assert np.abs(one.rgb.astype(int) - five.rgb).mean() < 2.0
        with pytest.raises(DataError, match="odd"):
            bare.camera(moment, level_camera(), INTRINSICS, HEIGHT, WIDTH, supersample=2)

    def test_images_do_not_depend_on_threads(self, bare, monkeypatch):
        moment = bare.logged(bare.scenario.start_step)
        images = []
        for threads in ("1", "3"):
            monkeypatch.setenv("WORLDENGINE_THREADS", threads)
            images.append(bare.camera(moment, level_camera(x=1.0), INTRINSICS, HEIGHT, WIDTH))
        for a, b in zip(*images, strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize(("family", "seed"), [("stop_at_light", 2), ("work_zone", 2), ("jaywalker", 1), ("roundabout", 1)])
def test_all_that_is_seen_of_an_agent_lies_in_its_box(family, seed):
    """Pixels put back into the world by their depth: in the box that can be hit; all others are outside of it."""
    scenario = make_scenario(family, seed)
    caster = SurfaceCaster(scenario, time_of_day="day")
    rig = scaled_rig(RIGS["surround8"], (72, 128))
    moment, intrinsics = caster.logged(scenario.start_step), intrinsics_of(rig)
    columns, rows = np.meshgrid(np.arange(128) + 0.5, np.arange(72) + 0.5)
    seen = set()
    for c in range(8):
        pose = ego_to_world(scenario, scenario.start_step) @ rig.camera_to_ego[c]
        view = caster.camera(moment, pose, intrinsics[c], 72, 128, supersample=1)
        fx, fy, cx, cy = intrinsics[c]
        points = np.stack(((columns - cx) / fx, (rows - cy) / fy, np.ones_like(rows)), axis=2) * view.depth[..., None]
        world = points @ pose[:3, :3].T + pose[:3, 3]
        for a in np.flatnonzero(moment.present[1:]) + 1:
            x, y, yaw, *size = moment.boxes[a]
            cos, sin = np.cos(yaw), np.sin(yaw)
            local = (world - (x, y, 0.5 * size[2])) @ [[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]
            out = np.abs(local) - 0.5 * np.array(size)
            mine = view.instance == a
            assert (out[mine] < 1e-4).all()
            inner = (out < -0.05).all(2) & (view.depth > 0)
            assert (mine | ~inner).all()
            seen.update({a} if mine.any() else ())
    assert len(seen) >= 5


class TestLenses:
    NUPLAN = np.array([-0.356123, 0.172545, -0.00213, 0.000464, -0.05231])

    def test_undoing_a_distortion(self):
        lens = Lens(np.eye(3), np.array([1545.0, 1545.0, 960.0, 560.0]), self.NUPLAN)
        rng = np.random.default_rng(0)
        for x, y in rng.uniform((-0.6, -0.35), (0.6, 0.35), (200, 2)):
            u, v = distort(np.array((x, y)), self.NUPLAN)
            assert np.allclose(undo_distortion(lens, 1545.0 * u + 960.0, 1545.0 * v + 560.0), (x, y), atol=1e-6)

    def test_a_distorted_image_is_the_straight_one_seen_elsewhere(self, bare):
        moment, pose = bare.logged(bare.scenario.start_step), level_camera(x=1.0)
        bent = bare.camera(moment, pose, INTRINSICS, HEIGHT, WIDTH, distortion=self.NUPLAN)
        fine = 8.0 * INTRINSICS
        straight = bare.camera(moment, pose, fine, 8 * HEIGHT, 8 * WIDTH, supersample=1)
        same = 0
        for i, j in np.argwhere(bent.instance > 0):
            x, y = undo_distortion(Lens(np.eye(3), INTRINSICS, self.NUPLAN), j + 0.5, i + 0.5)
            same += straight.instance[int(fine[1] * y + fine[3]), int(fine[0] * x + fine[2])] == bent.instance[i, j]
        assert same >= 0.97 * (bent.instance > 0).sum()

    def test_a_distortion_without_inverse_is_refused(self, bare):
        moment = bare.logged(bare.scenario.start_step)
        with pytest.raises(DataError, match="no inverse"):
            bare.camera(moment, level_camera(), INTRINSICS, HEIGHT, WIDTH, distortion=np.array([-3.0, 0.0, 0.0, 0.0, 0.0]))


class TestLidar:
    def test_rays_are_of_length_one_and_evenly_spread(self):
        directions, ring = lidar_rays(LidarSettings())
        assert directions.shape == (32 * 1084, 3)
        assert np.allclose(np.linalg.norm(directions, axis=1), 1.0)
        elevation = np.degrees(np.arcsin(directions[:, 2]))
        assert np.allclose(elevation[ring == 0], -30.67)
        assert np.allclose(elevation[ring == 31], 10.67)

    def test_returns_of_the_ground_and_of_boxes(self, bare):
        moment, pose = bare.logged(bare.scenario.start_step), np.eye(4)
        pose[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]  # turned left
        pose[:3, 3] = 1.0, 0.0, 1.9
        returns = bare.lidar(moment, pose, NO_NOISE)
        world = returns.xyz @ pose[:3, :3].T + pose[:3, 3]
        reach = np.linalg.norm(returns.xyz, axis=1)
        assert (reach >= NO_NOISE.nearest_m).all()
        assert (reach <= NO_NOISE.farthest_m + 1e-3).all()
        ground = returns.instance == -1
        assert np.allclose(world[ground, 2], 0.0, atol=1e-4)
        lows = np.bincount(returns.ring[ground], minlength=32)
        assert (lows[[0, 20]] > [1000, 900]).all()
        for a in (1, 2, 3):
            x, y, _, length, width, height = moment.boxes[a]
            mine = world[returns.instance == a]
            assert len(mine) > 10
            half = np.array([length, width, height]) / 2
            assert (np.abs(mine - (x, y, height / 2)) <= half + 1e-4).all()
        rear = world[returns.instance == 1]
        assert rear[:, 0].min() < moment.boxes[1, 0] - 0.4 * moment.boxes[1, 3]

    def test_noise_is_of_the_range_and_of_the_seed(self, bare):
        moment, pose = bare.logged(bare.scenario.start_step), np.eye(4)
        pose[2, 3] = 1.9
        exact = bare.lidar(moment, pose, NO_NOISE).xyz
        noisy, again, other = (bare.lidar(moment, pose, seed=seed).xyz for seed in (1, 1, 2))
        assert np.array_equal(noisy, again)
        assert not np.array_equal(noisy, other)
        error = np.linalg.norm(noisy, axis=1) - np.linalg.norm(exact, axis=1)
        assert 0.019 < error.std() < 0.021
        assert np.allclose(np.cross(noisy, exact), 0.0, atol=0.05 * 1e-2)


class TestCameraLog:
    def test_a_log_can_be_put_together_again(self, tmp_path):
        """Centres of boxes land on their instances, and LiDAR points on the depth that a camera sees."""
        scenario = straight_scenario([Agent(15.0, 0.0), Agent(12.0, 3.0, kind=AgentType.PEDESTRIAN)], speed=5.0)
        settings = CameraLogSettings(cameras="front", image_size=(72, 128), first_step=15, last_step=17, every=2, truth=True)
        path = write_camera_log(scenario, tmp_path / "log", settings)
        log = json.loads(path.read_text())
        assert log["format"] == "worldengine-camera-log"
        assert [f["step"] for f in log["frames"]] == [15, 17]
        assert log["frames"][1]["time_us"] - log["frames"][0]["time_us"] == 200_000
        camera = log["cameras"]["CAM_F0"]
        fx, fy, cx, cy = camera["intrinsics"]
        seen = 0
        for frame in log["frames"]:
            pose = np.array(frame["ego_to_world"])
            assert np.allclose(pose, ego_to_world(scenario, frame["step"]))
            image = np.asarray(Image.open(path.parent / frame["images"]["CAM_F0"]))
            assert image.shape == (72, 128, 3)
            truth = [
                np.asarray(Image.open(path.parent / f"truth/{k}/CAM_F0/{frame['step']:06d}.png")) for k in ("depth", "instance")
            ]
            to_camera = np.linalg.inv(pose @ camera["camera_to_ego"])
            for box in frame["boxes"]:
                x, y, z = (to_camera @ (*box["center"], 1.0))[:3]
                assert truth[1][int(fy * y / z + cy), int(fx * x / z + cx)] == box["track"] + 1
            points = np.load(path.parent / frame["lidar"])
            world = pose @ np.array(log["lidar"]["lidar_to_ego"]) @ np.column_stack((points[:, :3], np.ones(len(points)))).T
            x, y, z = (to_camera @ world)[:3]
            column, row = fx * x / z + cx, fy * y / z + cy
            inside = (z > 1) & (column > 1) & (column < 127) & (row > 1) & (row < 71) & (z < 30)
            depth = truth[0][row[inside].astype(int), column[inside].astype(int)] / 100.0
            seen += inside.sum()
            assert (np.abs(depth - z[inside]) < 0.05 * z[inside] + 0.1).mean() > 0.9
        assert seen > 200

    def test_what_fails_half_way_leaves_nothing(self, tmp_path, monkeypatch):
        scenario = straight_scenario([Agent(15.0, 0.0)])
        monkeypatch.setattr(SurfaceCaster, "lidar", lambda *_: 1 / 0)
        settings = CameraLogSettings(cameras="front", image_size=(9, 16), last_step=0)
        with pytest.raises(ZeroDivisionError):
            write_camera_log(scenario, tmp_path / "log", settings)
        assert not list(tmp_path.iterdir())
        path = write_camera_log(scenario, tmp_path / "log", replace(settings, lidar=LidarSettings(beams=0)))
        log = json.loads(path.read_text())
        assert log["lidar"] is None
        assert "lidar" not in log["frames"][0]

    def test_bad_requests_name_what_is_wrong(self, tmp_path):
        scenario = straight_scenario([Agent(15.0, 0.0)])
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "file").write_text("")
        with pytest.raises(DataError, match="is no camera log"):
            write_camera_log(scenario, tmp_path / "full")
        with pytest.raises(DataError, match="no steps"):
            write_camera_log(scenario, tmp_path / "new", CameraLogSettings(first_step=10_000))
        with pytest.raises(DataError, match="time_of_day"):
            write_camera_log(scenario, tmp_path / "new", CameraLogSettings(time_of_day="noon"))
        with pytest.raises(DataError, match="step"):
            SurfaceCaster(scenario).logged(-1)


def test_a_street_can_be_given():
    scenario = straight_scenario([Agent(15.0, 0.0)])
    street = SurfaceCaster(scenario).street
    assert isinstance(street, Street)
    assert SurfaceCaster(scenario, street).street is street
