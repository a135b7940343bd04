"""The CPU rasteriser against a dense float64 reference, which itself is checked against closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_rasteriser import harmonics, render
from rendering_scenes import HEIGHT, INTRINSICS, WIDTH, city_view, drawn_depths, look, random_gaussians, tensors

from worldengine_envs.rendering.cpu.renderer import CpuRenderer
from worldengine_envs.rendering.differentiable import rasterise
from worldengine_envs.rendering.frames import EVERYWHERE, Frames, RenderSettings
from worldengine_envs.rendering.gaussians import Gaussians

POSE = look((0.2, 0.1, -0.3), yaw=0.1, pitch=0.05, roll=0.1)
COLORED = RenderSettings(background=(0.1, 0.2, 0.3))
SCENES = {
    "few": dict(n=60, size=(-3.0, -0.5), depth=(1.0, 15.0)),
    "many": dict(n=2000, size=(-2.0, -0.5), depth=(2.0, 30.0), spread=0.8),
    "needles": dict(n=200, size=(-7.0, 1.0), depth=(1.0, 20.0)),
    "tiny": dict(n=2000, size=(-9.0, -4.0), depth=(0.5, 20.0)),
    "huge": dict(n=60, size=(0.0, 7.0), depth=(0.02, 20.0)),
    "degenerate": dict(n=100, size=(-14.0, 4.0), depth=(0.02, 20.0)),
    "wide": dict(n=1000, size=(-5.0, -1.0), depth=(0.01, 2.0), spread=8.0),  # most are far beside the image
}


def draw(gaussians: Gaussians, pose=POSE, options=COLORED, outputs=("rgb", "alpha", "depth", "node")):
    """Draws one frame with the renderer; nodes are numbers of parts."""
    renderer = CpuRenderer(options)
    one = np.ones((1, 3))
    part = np.array([renderer.add(gaussians)], np.int32)
    stand = np.eye(3)[None], one, 0 * one, np.array([7], np.int32), np.array([0, 1])
    return renderer.render(Frames(part, *stand, pose[None], INTRINSICS[None], HEIGHT, WIDTH), outputs)


def reference(gaussians: Gaussians, pose=POSE, options=COLORED, cutoffs=True):
    with torch.no_grad():
        return render(
            *tensors(gaussians, torch.float64), torch.tensor(pose), torch.tensor(INTRINSICS), WIDTH, HEIGHT, options, cutoffs
        )


def assert_same(gaussians: Gaussians, pose=POSE, options=COLORED):
    """Compares float images (differentiable) and what the renderer gives with the reference."""
    expected, images = reference(gaussians, pose, options), draw(gaussians, pose, options)
    seen = rasterise(*tensors(gaussians), torch.tensor(pose)[None], torch.tensor(INTRINSICS)[None], WIDTH, HEIGHT, options)
    error = (seen.rgb[0] - expected.rgb).abs()
    assert error.max() < 1 / 255
    assert error.mean() < 1e-4
    assert (seen.alpha[0] - expected.alpha).abs().max() < 1 / 255
    assert (seen.depth[0] - expected.depth)[expected.safe].abs().max() <= 1e-3 * expected.depth.max()
    bytes_ = torch.round(255 * expected.rgb.clamp(0, 1)).int()
    assert (torch.tensor(images.rgb[0]).int() - bytes_).abs().max() <= 1
    assert torch.allclose(torch.tensor(images.alpha[0]), seen.alpha[0], atol=1e-6)
    assert torch.allclose(torch.tensor(images.depth[0]), seen.depth[0], rtol=1e-4, atol=1e-4)
    assert ((torch.tensor(images.node[0]) == 7) == (expected.node >= 0))[expected.safe].double().mean() > 0.999
    assert expected.safe.double().mean() > 0.98
    return expected


# ---- the reference itself


def test_one_round_gaussian_has_its_closed_form():
    gaussian = Gaussians(
        *(np.array(a, np.float32) for a in ([[0.3, -0.2, 5.0]], [[2, 0, 0, 0]], [[-2.0] * 3], [1.0], [[[0.4, 0.2, -3.0]]]))
    )
    seen = reference(gaussian, np.eye(4), RenderSettings(antialiased=False, background=(1.0, 0.0, 0.5)))
    fx, fy, cx, cy = INTRINSICS
    v, u = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    variance = np.exp(-4.0)
    jacobian = np.array([[fx / 5, 0, -fx * 0.3 / 25], [0, fy / 5, fy * 0.2 / 25]])
    precision = np.linalg.inv(variance * jacobian @ jacobian.T + 0.3 * np.eye(2))
    offset = np.stack([u - cx - fx * 0.3 / 5, v - cy + fy * 0.2 / 5], -1)
    alpha = np.exp(-0.5 * np.einsum("hwi,ij,hwj->hw", offset, precision, offset)) / (1 + np.exp(-1.0))
    alpha[alpha < 1 / 255] = 0
    color = np.maximum(0.5 + 0.5 / np.pi**0.5 * np.array([0.4, 0.2, -3.0]), 0)
    assert np.allclose(seen.alpha, alpha, atol=1e-7)
    assert np.allclose(seen.rgb, alpha[..., None] * color + (1 - alpha)[..., None] * [1.0, 0.0, 0.5], atol=1e-6)
    assert np.allclose(seen.depth, np.where(alpha > 0, 5.0, 0.0))


def test_antialiasing_keeps_the_light_of_a_small_gaussian():
    """What is smaller than a pixel adds about opacity times its own area, not that of the blur."""
    for size in (-3.0, -4.0):
        arrays = ([[0, 0, 5.0]], [[1, 0, 0, 0]], [[size] * 3], [3.0], [[[0, 0, 0]]])
        alpha = reference(Gaussians(*(np.array(a, np.float32) for a in arrays)), np.eye(4), cutoffs=False).alpha.sum()
        area = 2 * np.pi * np.exp(2 * size) * INTRINSICS[0] * INTRINSICS[1] / 25
        assert alpha == pytest.approx(area / (1 + np.exp(-3.0)), rel=0.01 if size == -3.0 else 0.05)


def test_harmonics_are_orthonormal():
    z, weight = np.polynomial.legendre.leggauss(12)
    angle = (np.arange(24) + 0.5) * np.pi / 12
    r = np.sqrt(1 - z**2)[:, None]
    points = np.stack([r * np.cos(angle), r * np.sin(angle), np.broadcast_to(z[:, None], (12, 24))], -1)
    bases = harmonics(torch.tensor(points.reshape(-1, 3))).numpy()
    weights = np.repeat(weight, 24) * np.pi / 12
    assert np.allclose(bases.T @ (weights[:, None] * bases), np.eye(16), atol=1e-12)


# ---- the rasteriser


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("antialiased", [True, False])
def test_images_are_those_of_the_reference(name, antialiased):
    seed = list(SCENES).index(name)
    assert_same(
        random_gaussians(seed, degree=seed % 4, **SCENES[name]), options=RenderSettings(antialiased, background=(0.1, 0.2, 0.3))
    )


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_every_degree_of_harmonics(degree):
    assert_same(random_gaussians(20 + degree, 300, degree, size=(-2.5, -1.0), depth=(2.0, 15.0)))


def test_without_cutoffs_little_changes():
    for seed, name in ((1, "few"), (2, "many"), (3, "needles"), (4, "huge")):
        gaussians = random_gaussians(seed, degree=1, **SCENES[name])
        seen = rasterise(*tensors(gaussians), torch.tensor(POSE)[None], torch.tensor(INTRINSICS)[None], WIDTH, HEIGHT, COLORED)
        assert (seen.rgb[0] - reference(gaussians, cutoffs=False).rgb).abs().max() < 3 / 255


def test_hundreds_of_metres_from_the_origin():
    gaussians, away = random_gaussians(31, 500, 2, size=(-3.0, -1.0), depth=(1.0, 20.0)), np.array([700.0, -400.0, 30.0])
    gaussians.means[:] += away.astype(np.float32)
    assert_same(gaussians, look(away + np.array([0.2, 0.1, -0.3]), yaw=0.1, pitch=0.05))


@pytest.mark.parametrize("family", ["cut_in", "turn"])
def test_streets_of_the_city(family):
    size = 27, 48
    gaussians, pose, lens = city_view(family, size, 0.25)
    depths = torch.tensor(drawn_depths(gaussians, pose, lens, size))
    camera = torch.tensor(pose), torch.tensor(lens), size[1], size[0], RenderSettings()
    with torch.no_grad():
        expected = render(*tensors(gaussians, torch.float64), *camera, rows=4, depths=depths)
        uncut = render(*tensors(gaussians, torch.float64), *camera, cutoffs=False, rows=4, depths=depths)
    seen = rasterise(*tensors(gaussians), torch.tensor(pose)[None], torch.tensor(lens)[None], size[1], size[0])
    error = (seen.rgb[0] - expected.rgb).abs()
    assert expected.alpha.mean() > 0.9
    assert error.max() < 1 / 255
    assert error.mean() < 1e-4
    # at the horizon hundreds of Gaussians share a pixel, and what the rule of alpha >= 1/255 leaves out adds up
    assert ((seen.rgb[0] - uncut.rgb).abs() < 3 / 255).double().mean() > 0.97


def test_nothing_to_draw_gives_the_background():
    behind = random_gaussians(41, 50, 1)
    behind.means[:, 2] = -np.abs(behind.means[:, 2]) - 1.0
    for gaussians in (behind, random_gaussians(42, 0, 1)):
        seen = rasterise(*tensors(gaussians), torch.tensor(look())[None], torch.tensor(INTRINSICS)[None], WIDTH, HEIGHT, COLORED)
        assert torch.equal(seen.rgb, torch.tensor(COLORED.background).expand(1, HEIGHT, WIDTH, 3))
        assert not seen.alpha.any()
        assert not seen.depth.any()


def test_sharp_edges_of_depth_straddling_the_near_plane():
    gaussians = random_gaussians(43, 200, 0, size=(-4.0, 0.0))
    gaussians.means[:, 2] = np.random.default_rng(0).uniform(-0.05, 0.05, 200)
    gaussians.means[:, :2] *= 0.05
    assert_same(gaussians, np.eye(4))


def test_what_is_equally_far_is_drawn_in_order():
    arrays = random_gaussians(44, 40, 0, size=(-1.5, -0.5), depth=(4.0, 5.0))
    arrays.means[:, 2] = 4.0
    expected, seen = reference(arrays, np.eye(4)), draw(arrays, np.eye(4))
    assert np.abs(seen.rgb[0] / 255.0 - expected.rgb.clamp(0, 1).numpy()).max() < 1 / 255


def test_parts_stand_where_the_frame_says():
    """Two turned, stretched and moved parts look like one set of Gaussians that was turned, stretched and moved."""
    parts = [random_gaussians(50 + i, 100, 0, size=(-3.0, -1.5), depth=(-1.0, 1.0), spread=2.0) for i in range(2)]
    turns = [look(yaw=0.7, pitch=0.3)[:3, :3], look(yaw=-0.4, roll=1.0)[:3, :3]]
    stretch, shift = [np.full(3, 1.5), np.full(3, 0.6)], [np.array([0.5, 0.2, 6.0]), np.array([-0.7, -0.3, 5.0])]
    moved = [[], [], [], [], []]
    for part, turn, scale, by in zip(parts, turns, stretch, shift, strict=True):
        for values, value in zip(
            moved,
            (part.means @ (turn * scale).T + by, _turned(part.quats, turn), part.scales + np.log(scale), part.opacities, part.sh),
            strict=True,
        ):
            values.append(value.astype(np.float32))
    expected = reference(Gaussians(*(np.concatenate(values) for values in moved)))
    renderer = CpuRenderer(COLORED)
    handles = np.array([renderer.add(part) for part in parts], np.int32)
    stand = np.stack(turns), np.stack(stretch), np.stack(shift), np.array([3, EVERYWHERE], np.int32), np.array([0, 2])
    seen = renderer.render(Frames(handles, *stand, POSE[None], INTRINSICS[None], HEIGHT, WIDTH), ("rgb", "node"))
    assert np.abs(seen.rgb[0] - np.round(255 * expected.rgb.clamp(0, 1).numpy())).max() <= 1
    safe = expected.safe.numpy()
    assert np.array_equal((seen.node[0] == 3)[safe], ((expected.node >= 0) & (expected.node < 100)).numpy()[safe])


def _turned(quats: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Returns quaternions after a turn."""
    from scipy.spatial.transform import Rotation

    return (Rotation.from_matrix(turn) * Rotation.from_quat(quats, scalar_first=True)).as_quat(scalar_first=True)


EXTREME = [0.0, 1e-45, 1e-38, 1e-20, 1e-7, 0.5, 3.0, 10.0, 30.0, 88.0, 100.0, 1e3, 1e7, 1e19, 1e30, 3e38, np.inf, np.nan]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sets(st.sampled_from(range(5)), min_size=1), st.booleans())
def test_never_a_nan_whatever_the_parameters(seed, spoilt, antialiased):
    random = np.random.default_rng(seed)
    arrays = [array.numpy() for array in tensors(random_gaussians(seed, 64, seed % 4, depth=(0.005, 20.0)))]
    for k in spoilt:
        hit = random.random(arrays[k].shape) < random.choice([0.05, 0.3, 1.0])
        arrays[k][hit] = (random.choice(EXTREME, arrays[k].shape) * random.choice([-1, 1], arrays[k].shape))[hit]
    parameters = [torch.tensor(array, requires_grad=True) for array in arrays]
    pose = torch.tensor(POSE)[None].requires_grad_()
    seen = rasterise(*parameters, pose, torch.tensor(INTRINSICS)[None], WIDTH, HEIGHT, RenderSettings(antialiased))
    assert all(torch.isfinite(image).all() for image in seen)
    sum(image.sum() for image in seen).backward()
    assert all(torch.isfinite(tensor.grad).all() for tensor in [*parameters, pose])
    images = draw(Gaussians(*arrays), options=RenderSettings(antialiased))
    assert np.isfinite(images.alpha).all()
    assert np.isfinite(images.depth).all()


def test_threads_change_no_bit(monkeypatch):
    gaussians, seen = random_gaussians(60, 3000, 3, size=(-3.0, -1.0), depth=(1.0, 30.0)), []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("WORLDENGINE_THREADS", threads)
        parameters = [tensor.requires_grad_() for tensor in tensors(gaussians)]
        pose = torch.tensor(POSE)[None].requires_grad_()
        images = rasterise(*parameters, pose, torch.tensor(INTRINSICS)[None], WIDTH, HEIGHT, COLORED)
        sum(image.square().sum() for image in images).backward()
        frame = draw(gaussians)
        seen.append([*(i.detach().numpy() for i in images), *(p.grad.numpy() for p in [*parameters, pose]), *frame])
    for other in seen[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(seen[0], other, strict=True))
