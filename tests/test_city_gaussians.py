"""The city's Gaussians: shapes against their surfaces, scenes against the ray caster, models against their boxes."""

import sys
from pathlib import Path

import numpy as np
import pytest

from worldengine_envs.city import make_scenario
from worldengine_envs.city.gaussians import faces, make_scene, model_gaussians
from worldengine_envs.city.gaussians.cloud import add_patch, new_cloud
from worldengine_envs.city.gaussians.sky import sample_sky
from worldengine_envs.city.gaussians.viewing import SECTORS, WALLS, Viewing, everywhere, find_walls
from worldengine_envs.city.surfaces.light import LIGHTS
from worldengine_envs.city.surfaces.models import MODELS, ROW
from worldengine_envs.city.surfaces.parts import Parts
from worldengine_envs.city.surfaces.textures import Texture, sky_color
from worldengine_envs.city.surfaces.types import TIMES_OF_DAY, Shape
from worldengine_envs.errors import DataError
from worldengine_envs.rendering.cameras import camera_to_ego, rigid_inverse
from worldengine_envs.rendering.cpu.renderer import CpuRenderer
from worldengine_envs.rendering.frames import EVERYWHERE, Frames
from worldengine_envs.rendering.gaussians import SH_C0, Gaussians
from worldengine_envs.rendering.scene import validate_gaussians, validate_scene

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import city_views


@pytest.fixture(scope="module")
def scenario():
    return make_scenario("turn", 5)


def _viewing(distance=10.0, eyes=None, **settings) -> Viewing:
    seen = everywhere() if eyes is None else eyes
    values = {"largest": 0.1, "smallest": 0.015, "error": 1e-4, "spread": 1.7, "logit": 5.0, **settings}
    return Viewing(np.full((1, 1), distance, np.float32), np.zeros(2), 1.0, 0.0, *seen, **values)


def _sampled(parts: Parts, viewing: Viewing):
    cloud = new_cloud(1 << 14)
    faces.sample_primitives(parts.array(), viewing, cloud)
    return cloud, int(cloud.count[0])


def _covariance(quat, scale) -> np.ndarray:
    w, x, y, z = quat / np.linalg.norm(quat)
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return turn @ np.diag(np.exp(2.0 * scale)) @ turn.T


def _frames(parts, height, width, to_camera, fov_deg=90.0) -> Frames:
    n, focal = len(parts), 0.5 * width / np.tan(np.radians(0.5 * fov_deg))
    return Frames(
        np.array(parts, np.int32),
        np.tile(np.eye(3), (n, 1, 1)),
        np.ones((n, 3)),
        np.zeros((n, 3)),
        np.full(n, EVERYWHERE, np.int32),
        np.array([0, n], np.int64),
        to_camera[None],
        np.array([[focal, focal, 0.5 * width, 0.5 * height]]),
        height,
        width,
    )


def test_patch_has_the_covariance_asked_for():
    rng = np.random.default_rng(3)
    cloud = new_cloud(64)
    for _ in range(50):
        a, b = rng.normal(size=(2, 3)) * rng.uniform(0.05, 3.0, (2, 1))
        row = add_patch(cloud, 1.0, 2.0, 3.0, *a, *b, 0.02, 5.0)
        normal = np.cross(a, b) / np.linalg.norm(np.cross(a, b))
        expected = np.outer(a, a) + np.outer(b, b) + 0.02**2 * np.outer(normal, normal)
        assert np.allclose(_covariance(cloud.quats[row], cloud.scales[row]), expected, atol=1e-4 * np.trace(expected))
    assert add_patch(new_cloud(1), 0, 0, 0, 1, 0, 0, 0, 1, 0, 0.1, 1.0) == 0


def test_gaussians_lie_on_their_surfaces():
    parts = Parts()
    parts.box((3.0, 1.0, 2.0), (4.0, 2.0, 1.0), (0.5, 0.5, 0.5), yaw=0.4, lean=0.3)
    cloud, n = _sampled(parts, _viewing())
    unit = parts.array()[0]["to_unit"]
    local = cloud.means[:n] @ unit[:, :3].T + unit[:, 3]
    assert n >= 6 and np.allclose(np.abs(local).max(axis=1), 1.0, atol=1e-4)
    assert (np.einsum("ni,ni->n", cloud.normal[:n], cloud.means[:n] - [3.0, 1.0, 2.0]) > 0.0).all()
    ball = Parts()
    ball.ellipsoid((0.0, 0.0, 5.0), (3.0, 3.0, 3.0), (0.2, 0.5, 0.2))
    cloud, n = _sampled(ball, _viewing())
    radius = np.linalg.norm(cloud.means[:n] - [0.0, 0.0, 5.0], axis=1)
    assert n >= 6 and (radius < 1.5 + 1e-4).all() and (radius > 1.1).all()


def test_colors_are_the_texture_s():
    parts = Parts()
    parts.box((0.0, 0.0, 1.0), (2.0, 2.0, 2.0), (0.3, 0.6, 0.9))
    cloud, n = _sampled(parts, _viewing())
    assert np.allclose(cloud.albedo[:n], [0.3, 0.6, 0.9], atol=1e-6)


def test_what_lies_inside_of_another_shape_is_left_out():
    parts = Parts()
    parts.box((0.0, 0.0, 2.0), (4.0, 4.0, 4.0), (1.0, 0.0, 0.0))
    alone = _sampled(parts, _viewing())[1]
    parts.box((0.3, 0.2, 2.0), (1.0, 1.0, 1.0), (0.0, 1.0, 0.0))
    cloud, n = _sampled(parts, _viewing())
    assert n == alone and (cloud.albedo[:n, 1] == 0.0).all()


def test_what_a_house_hides_is_left_out():
    parts = Parts()
    parts.box((20.0, 0.0, 10.0), (10.0, 60.0, 20.0), (1.0, 0.0, 0.0), Texture.FACADE)
    parts.box((40.0, 0.0, 3.0), (6.0, 6.0, 6.0), (0.0, 1.0, 0.0))
    parts.box((40.0, 0.0, 80.0), (6.0, 6.0, 6.0), (0.0, 0.0, 1.0))
    eyes = np.array([[0.0, 0.0], [0.0, 5.0]])
    wall, slope = np.empty((2, SECTORS, WALLS), np.float32), np.empty((2, SECTORS, WALLS), np.float32)
    find_walls(parts.array(), eyes, wall, slope)
    assert wall[0, 0, 0] == pytest.approx(15.0, abs=0.1) and slope[0, 0, 0] == pytest.approx(18.5 / 15.0, abs=0.02)
    cloud, n = _sampled(parts, _viewing(20.0, (eyes, wall, slope)))
    albedo = cloud.albedo[:n]
    assert not ((albedo[:, 1] > 0.9) & (albedo[:, 0] < 0.1)).any()  # behind the house
    assert ((albedo[:, 2] > 0.9) & (albedo[:, 0] < 0.1)).any()  # above it
    assert (cloud.normal[:n] @ [1.0, 0.0, 0.0] < 0.5).all()  # nobody sees the backs


def test_finer_where_cameras_come_near():
    parts = Parts()
    parts.box((0.0, 0.0, 6.0), (12.0, 10.0, 12.0), (0.7, 0.5, 0.4), Texture.FACADE, seed=3)
    near, middle, far = (_sampled(parts, _viewing(d))[1] for d in (8.0, 30.0, 300.0))
    assert near > middle > far >= 5


@pytest.mark.parametrize("detail", [0.0, -1.0, 4.1, float("nan")])
def test_refuses_details_out_of_range(scenario, detail):
    with pytest.raises(DataError, match="detail"):
        make_scene(scenario, detail)


def test_scene_is_valid_and_the_same_each_time(scenario):
    scene, again = make_scene(scenario, 0.3), make_scene(scenario, 0.3)
    validate_scene(scene)
    assert scene.kind == "sampled" and scene.appearances == TIMES_OF_DAY and not scene.actors
    for name, node in scene.nodes.items():
        other = again.nodes[name]
        assert np.array_equal(node.gaussians.means, other.gaussians.means)
        assert np.array_equal(node.looks["night"], other.looks["night"])


def test_number_of_gaussians_follows_detail(scenario):
    few, many = len(make_scene(scenario, 0.3)), len(make_scene(scenario, 1.0))
    assert 0.15 < few / many < 0.6 and many < 150_000


def test_night_is_darker_than_dusk_than_day(scenario):
    node = make_scene(scenario, 0.3).nodes["background"]
    day, dusk, night = (float((node.looks[name] * SH_C0 + 0.5).mean()) for name in TIMES_OF_DAY)
    assert day > dusk + 0.05 > night + 0.1 and night > 0.03


def test_sky_is_the_sky_s_color():
    renderer, node = CpuRenderer(), sample_sky(100.0, -50.0, 1.0, 5.0)
    for name, light in LIGHTS.items():
        part = renderer.add(node.look(name))
        pose = camera_to_ego(100.0, -50.0, 1.5, 0.9)
        tilt = np.eye(4)  # up by 30 degrees
        tilt[1:3, 1:3] = [[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]]
        pose = pose @ tilt
        image = np.asarray(renderer.render(_frames([part], 40, 60, rigid_inverse(pose), 60.0)).rgb)[0]
        v, u = np.mgrid[:40, :60] + 0.5
        focal = 30.0 / np.tan(np.radians(30.0))
        rays = np.stack(((u - 30.0) / focal, (v - 20.0) / focal, np.ones_like(u)), axis=2) @ pose[:3, :3].T
        rays /= np.linalg.norm(rays, axis=2, keepdims=True)
        truth = np.array([sky_color(*ray, light) for ray in rays.reshape(-1, 3)]).reshape(40, 60, 3)
        above = rays[:, :, 2] > 0.05
        assert np.abs(image / 255.0 - truth)[above].mean() < 0.02, name
        renderer.remove(part)


def test_every_model_fills_its_box():
    for row, model in enumerate(MODELS):
        node = model_gaussians(row)
        validate_gaussians(node.gaussians)
        assert set(node.looks) == set(TIMES_OF_DAY) and node.size == model.size
        opaque = node.gaussians.opacities > 3.0
        means, half = node.gaussians.means[opaque], 0.5 * np.array(model.size)
        assert (np.abs(means) < half + 0.12).all(), model.name
        assert (np.ptp(means, axis=0) > 0.5 * np.array(model.size)).all(), model.name
        assert 10 < len(node.gaussians) < 4000, model.name


def test_models_that_are_too_fine_are_refused():
    with pytest.raises(DataError, match="truck_white needs more than"):
        model_gaussians(ROW["truck_white"], 10.0)


def test_shadow_darkens_the_ground_around_a_car():
    node = model_gaussians(ROW["sedan_red"])
    faint = np.flatnonzero(node.gaussians.opacities < 3.0)
    g, model = node.gaussians, MODELS[ROW["sedan_red"]]
    assert np.allclose(g.means[faint, 2], -0.5 * model.size[2], atol=0.1)
    shadow = Gaussians(g.means[faint], g.quats[faint], g.scales[faint], g.opacities[faint], node.looks["day"][faint])
    renderer = CpuRenderer()
    down = np.eye(4)
    down[:3, :3] = [[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]]
    down[2, 3] = 10.0
    alpha = np.asarray(renderer.render(_frames([renderer.add(shadow)], 81, 81, rigid_inverse(down)), ("alpha",)).alpha)[0]
    assert alpha[40, 40] == pytest.approx(model.shadow, abs=0.1) and alpha[2, 2] < 0.01


def test_thin_and_round_shapes_have_their_width():
    """The half-covered outline of a pole and of a ball is where their surface is."""
    for shape, size in ((Shape.CYLINDER, 0.2), (Shape.ELLIPSOID, 3.0)):
        parts, renderer = Parts(), CpuRenderer()
        if shape == Shape.CYLINDER:
            parts.cylinder((12.0, 0.0, 0.0), size, 8.0, (0.5, 0.5, 0.5))
        else:
            parts.ellipsoid((12.0, 0.0, 0.0), (size, size, size), (0.5, 0.5, 0.5))
        cloud, n = _sampled(parts, _viewing(12.0))
        sh = np.zeros((n, 1, 3), np.float32)
        g = Gaussians(cloud.means[:n], cloud.quats[:n], cloud.scales[:n], cloud.opacities[:n], sh)
        frames = _frames([renderer.add(g)], 101, 401, rigid_inverse(camera_to_ego(0.0, 0.0, 0.0, 0.0)), 30.0)
        alpha = np.asarray(renderer.render(frames, ("alpha",)).alpha)[0, 50]
        width = float((alpha > 0.5).sum()) / (0.5 * 401 / np.tan(np.radians(15.0))) * 12.0
        assert width == pytest.approx(size, rel=0.15), shape


def test_views_are_true():
    """Two whole scenarios against the ray caster; the benchmark city_views.py measures more."""
    renderer = CpuRenderer()
    for family, seed, time in (("turn", 5, "day"), ("child_between_cars", 3, "night")):
        views, count, _ = city_views.measure(make_scenario(family, seed), renderer, 1, 1.0, time, None)
        path, beside = views
        assert path.psnr > 22.5 and beside.psnr > 22.0 and count < 150_000
        assert np.mean(path.ious + beside.ious) > 0.75 and path.ghosts == beside.ghosts == 0
