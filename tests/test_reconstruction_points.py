"""Points that a reconstruction starts from lie on the surfaces that were recorded, and held-out data is never read."""

from dataclasses import replace

import numpy as np
import pytest
from reconstruction_room import (
    FOCAL,
    HEIGHT,
    SIZE,
    WALL_M,
    WIDTH,
    box_pose,
    camera_pose,
    color_at,
    depth_image,
    surface_distance,
    write_log,
)
from scipy.spatial import cKDTree

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.pictures import Pictures
from worldengine_envs.reconstruction.points import find_points, view_depths
from worldengine_envs.reconstruction.points.flow import flow_depth
from worldengine_envs.reconstruction.points.neighbours import Neighbours
from worldengine_envs.reconstruction.points.voxels import Cloud, spacing, thin
from worldengine_envs.reconstruction.settings import PointSettings
from worldengine_envs.reconstruction.split import Split, split

SETTINGS = PointSettings()


def _without_held_out(log, parts: Split):
    """Deletes what must not be read."""
    for i in parts.test:
        log.views[i].image.unlink()

    def unreadable():
        raise AssertionError("a held-out sweep was read")

    sweeps = [replace(s, read=unreadable) if i in parts.test_sweeps else s for i, s in enumerate(log.sweeps)]
    return replace(log, sweeps=tuple(sweeps))


@pytest.fixture(scope="module")
def driven(tmp_path_factory):
    log = write_log(tmp_path_factory.mktemp("driven"), lidar=True, actor=True)
    parts = split(log, 5)
    return _without_held_out(log, parts), parts


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    log = write_log(tmp_path_factory.mktemp("seen"), twins=True)
    parts = split(log, 5)
    return _without_held_out(log, parts), parts


def test_lidar_points_lie_on_the_surfaces_with_their_colours(driven):
    log, parts = driven
    points = find_points(log, Pictures(log), parts, SETTINGS)
    assert points.source == "lidar" and not points.problems
    background = points.xyz[points.node < 0]
    near = background[:, 0] < WALL_M - 2.0
    assert len(background) > 5000
    assert np.quantile(surface_distance(background), 0.9) < 0.1
    # the image nearest in time may see the ground from far away, where a pixel covers more than the pattern varies over
    error = np.abs(points.rgb[points.node < 0][near].astype(float) - color_at(background[near]))
    assert np.median(error) < 15.0  # that of any two points is 60


def test_actors_points_are_in_the_frame_of_their_box(driven):
    log, parts = driven
    points = find_points(log, Pictures(log), parts, SETTINGS)
    car = points.xyz[points.node == 0]
    assert len(car) > 300
    assert (np.abs(car) < 0.5 * np.array(SIZE) + 0.06).all()  # the noise of the sweeps
    assert np.quantile(np.abs(np.abs(car[:, 1]) - 0.5 * SIZE[1]), 0.95) < 0.02  # eight sweeps of a moving car on top of each other
    background = points.xyz[points.node < 0].astype(float)
    for step in range(10):
        local = (background - box_pose(step)[:3, 3]) @ box_pose(step)[:3, :3]
        inside = (np.abs(local[:, :2]) < 0.5 * np.array(SIZE[:2])).all(1) & (local[:, 2] > 0.3 - 0.5 * SIZE[2])
        assert not inside.any()


def test_spacing_is_the_mean_distance_of_three_neighbours(driven):
    generator = np.random.default_rng(1)
    xyz, node = generator.uniform(0, 5, (400, 3)), np.repeat([-1, 0, 3, 7], 100)
    expected = np.concatenate([cKDTree(xyz[node == k]).query(xyz[node == k], 4)[0][:, 1:].mean(1) for k in (-1, 0, 3, 7)])
    np.testing.assert_allclose(spacing(xyz, node, 1.0), expected, rtol=1e-6)
    assert spacing(xyz[:1], node[:1], 0.4) == np.float32(0.4)


def test_thinning_leaves_the_mean_of_each_voxel():
    generator = np.random.default_rng(2)
    xyz = generator.uniform(0.0, 3.0, (5000, 3))
    cloud = Cloud(xyz, np.full(5000, -1, np.int32), xyz.astype(np.float32), np.zeros(5000, np.int64), np.ones(5000))
    thinned = thin(cloud, cKDTree(np.zeros((1, 3))), 0.5)
    cells, first = np.unique(np.floor(xyz / 0.5).astype(int), axis=0, return_inverse=True)
    means = np.stack([xyz[first == k].mean(0) for k in range(len(cells))])
    assert len(thinned.xyz) == len(cells)
    np.testing.assert_allclose(thinned.xyz[np.lexsort(thinned.xyz.T)], means[np.lexsort(means.T)], atol=1e-12)
    assert thinned.count.sum() == 5000
    np.testing.assert_allclose(thin(cloud.take(generator.permutation(5000)), cKDTree(np.zeros((1, 3))), 0.5).xyz, thinned.xyz)


def test_flow_gives_depths_that_are_true(seen):
    log, parts = seen
    pictures, neighbours = Pictures(log), Neighbours(log, parts.train)
    for view in parts.train[[0, 5]]:
        partners = neighbours.of(int(view))
        assert not set(partners) & set(parts.test.tolist())
        found = flow_depth(pictures[int(view)], [pictures[j] for j in partners], 120.0)
        truth, _ = depth_image(log.views[view].camera_to_world)
        known = found.depth > 0.0
        error = np.abs(found.depth / truth - 1.0)[known]
        assert known.mean() > 0.5
        assert np.median(error) < 0.02 and np.quantile(error, 0.95) < 0.15


def test_images_too_small_or_of_another_size_say_nothing(seen):
    log, _ = seen
    picture, other = Pictures(log)[0], Pictures(log)[1]
    for size in ((slice(0, 8), slice(None)), (slice(0, 60), slice(None))):
        part = other._replace(rgb=np.ascontiguousarray(other.rgb[size]), usable=other.usable[size])
        small = part if size[0].stop == 8 else picture
        assert not flow_depth(small, [part], 120.0).depth.any()


def test_flow_does_not_depend_on_the_number_of_threads(seen, monkeypatch):
    log, parts = seen
    pictures, view = Pictures(log), int(parts.train[3])
    others = [pictures[j] for j in Neighbours(log, parts.train).of(view)]
    found = []
    for threads in ("1", "3"):
        monkeypatch.setenv("WORLDENGINE_THREADS", threads)
        found.append(flow_depth(pictures[view], others, 120.0))
    np.testing.assert_array_equal(found[0].depth, found[1].depth)


def test_points_of_images_alone_lie_on_the_surfaces(seen):
    log, parts = seen
    points = find_points(log, Pictures(log), parts, SETTINGS)
    assert points.source == "features" and not points.problems and (points.node == -1).all()
    assert len(points.xyz) > 1000
    assert np.median(surface_distance(points.xyz)) < 0.1


def test_without_parallax_depths_are_guessed_and_that_is_said(tmp_path):
    log = write_log(tmp_path, steps=4, moving=False)
    points = find_points(log, Pictures(log), split(log, 0), PointSettings(random_points=2000))
    assert points.source == "random" and len(points.xyz) == 2000 and "guess" in points.problems[0]
    local = (points.xyz - camera_pose(0)[:3, 3]) @ camera_pose(0)[:3, :3]
    pixel = local[:, :2] / local[:, 2:] * FOCAL + (WIDTH / 2, HEIGHT / 2)
    assert (pixel > 0).all() and (pixel < (WIDTH, HEIGHT)).all() and (local[:, 2] > 1.9).all()
    assert not len(view_depths(log, Pictures(log), split(log, 0), SETTINGS).get(0).pixel)


def test_depth_samples_of_a_sweep_are_those_of_the_surfaces(driven):
    log, parts = driven
    view = int(parts.train[4])
    samples = view_depths(log, Pictures(log), parts, SETTINGS).get(view)
    truth = depth_image(log.views[view].camera_to_world)[0].reshape(-1)
    assert len(samples.pixel) > 1000 and len(samples.pixel) == len(samples.depth) == len(samples.weight)
    error = np.abs(samples.depth / truth[samples.pixel] - 1.0)
    assert np.median(error) < 0.02  # but for the car, which only the LiDAR sees
    step = log.views[view].time_us // 100_000
    car = error > 0.2
    assert car.sum() > 20
    row, column = np.divmod(samples.pixel[car], WIDTH)
    local = np.stack(((column + 0.5 - WIDTH / 2) / FOCAL, (row + 0.5 - HEIGHT / 2) / FOCAL, np.ones(car.sum())), 1)
    xyz = local * samples.depth[car, None] @ camera_pose(step)[:3, :3].T + camera_pose(step)[:3, 3]
    at = (xyz - box_pose(step)[:3, 3]) @ box_pose(step)[:3, :3]
    assert np.mean((np.abs(at) < 0.5 * np.array(SIZE) + 0.15).all(1)) > 0.9


def test_depth_samples_of_a_held_out_image_use_no_held_out_sweep(driven):
    log, parts = driven
    samples = view_depths(log, Pictures(log), parts, SETTINGS).get(int(parts.test[0]))
    assert len(samples.pixel) and (samples.weight < 1.0).any()  # of the sweep before or after


def test_depth_samples_by_flow_and_their_bounds(seen):
    log, parts = seen
    depths = view_depths(log, Pictures(log), parts, SETTINGS)
    view = int(parts.train[3])
    samples = depths.get(view)
    truth = depth_image(log.views[view].camera_to_world)[0].reshape(-1)
    assert np.median(np.abs(samples.depth / truth[samples.pixel] - 1.0)) < 0.02
    assert (samples.weight > 0).all() and (samples.weight <= 1).all()
    assert depths.get(view) is samples
    assert not len(depths.get(int(parts.test[0])).pixel)


def test_nothing_to_learn_from_is_said(driven):
    log, _ = driven
    none = np.zeros(0, np.int64)
    with pytest.raises(DataError, match="no image is left"):
        find_points(log, Pictures(log), Split(none, none, none, none), SETTINGS)
