"""The CPU renderer against a plain dense float64 rasteriser, and what must not change its images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from worldengine_envs.errors import DataError
from worldengine_envs.rendering.cpu.renderer import CpuRenderer
from worldengine_envs.rendering.frames import EVERYWHERE, Frames, RenderSettings
from worldengine_envs.rendering.gaussians import Gaussians, sh_from_rgb

ALL = ("rgb", "alpha", "depth", "node")
LENS = np.array([60.0, 55.0, 47.0, 33.0])


def random_gaussians(n: int, degree: int, seed: int, spread: float = 4.0) -> Gaussians:
    """Returns Gaussians all around the origin, from dust to several metres, needles among them."""
    rng = np.random.default_rng(seed)
    shapes = rng.normal(0, spread, (n, 3)), rng.normal(size=(n, 4)), rng.normal(-1.5, 1.5, (n, 3))
    arrays = *shapes, rng.normal(0, 2, n), rng.normal(0, 0.4, (n, (degree + 1) ** 2, 3))
    return Gaussians(*(a.astype(np.float32) for a in arrays))


def random_rotation(rng) -> np.ndarray:
    """Returns a rotation matrix (3, 3)."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else q[:, [1, 0, 2]]


def make_frames(instances: list[list[tuple]], poses: list[np.ndarray], width: int = 97, height: int = 61) -> Frames:
    """Returns frames; an instance is (part, node) or (part, node, rotation, scale, translation)."""
    flat = [(*i, np.eye(3), np.ones(3), np.zeros(3))[:5] if len(i) == 2 else i for frame in instances for i in frame]
    part, node, rotation, scale, translation = zip(*flat, strict=True) if flat else ((),) * 5
    n = len(flat)
    return Frames(
        np.array(part, np.int32),
        np.array(rotation, float).reshape(n, 3, 3),
        np.array(scale, float).reshape(n, 3),
        np.array(translation, float).reshape(n, 3),
        np.array(node, np.int32),
        np.cumsum([0, *map(len, instances)]),
        np.array(poses),
        np.tile(LENS, (len(poses), 1)),
        height,
        width,
    )


def random_pose(seed: int, away: float = 2.0) -> np.ndarray:
    """Returns world_to_camera (4, 4)."""
    rng = np.random.default_rng(seed)
    pose = np.eye(4)
    pose[:3, :3] = random_rotation(rng)
    pose[:3, 3] = rng.normal(0, away, 3)
    return pose


def draw(gaussians: Gaussians, pose: np.ndarray, settings: RenderSettings | None = None, **size):
    """Returns all images of one frame of one part."""
    renderer = CpuRenderer(settings)
    return renderer.render(make_frames([[(renderer.add(gaussians), 7)]], [pose], **size), ALL)


def reference(gaussians: Gaussians, pose: np.ndarray, settings: RenderSettings, width: int = 97, height: int = 61):
    torch = pytest.importorskip("torch")
    from reference_rasteriser import render

    arrays = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh, pose, LENS)
    tensors = (torch.from_numpy(np.asarray(a, np.float64)) for a in arrays)
    return render(*tensors, width, height, settings, rows=16)


@pytest.mark.parametrize("antialiased", [True, False])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_images_are_those_of_the_reference(degree, antialiased):
    settings = RenderSettings(antialiased=antialiased, background=(0.1, 0.5, 0.9))
    gaussians, pose = random_gaussians(700, degree, degree), random_pose(degree)
    images, truth = draw(gaussians, pose, settings), reference(gaussians, pose, settings)
    safe = truth.safe.numpy()
    assert safe.mean() > 0.99
    rgb = np.clip(truth.rgb.numpy(), 0, 1)
    error = np.abs(images.rgb[0] / 255.0 - rgb)
    assert error[safe].max() < 0.502 / 255 and error.max() < 1.5 / 255
    assert np.abs(images.alpha[0] - truth.alpha.numpy())[safe].max() < 1e-5
    np.testing.assert_allclose(images.depth[0][safe], truth.depth.numpy()[safe], rtol=1e-4)
    assert (images.node[0][safe] == np.where(truth.node.numpy() < 0, EVERYWHERE, 7)[safe]).all()


@pytest.mark.parametrize("seed", range(4))
def test_what_is_left_out_early_is_not_missed(seed):
    """Small chunks all around, seen from among them: those outside are dropped, and only those."""
    gaussians, pose, settings = random_gaussians(4000, 0, seed, spread=15.0), random_pose(seed, 6.0), RenderSettings()
    images, truth = draw(gaussians, pose, settings, width=64, height=32), reference(gaussians, pose, settings, 64, 32)
    safe = truth.safe.numpy()
    assert np.abs(images.alpha[0] - truth.alpha.numpy())[safe].max() < 1e-5
    assert np.abs(images.rgb[0] / 255.0 - np.clip(truth.rgb.numpy(), 0, 1))[safe].max() < 0.502 / 255


def test_node_image_tells_parts_apart():
    gaussians, settings, pose = random_gaussians(300, 0, 3), RenderSettings(), random_pose(3)
    renderer = CpuRenderer()
    third = [Gaussians(*(a[k::3] for a in _arrays(gaussians))) for k in range(3)]
    frames = make_frames([[(renderer.add(part), k) for k, part in enumerate(third)]], [pose])
    node, truth = renderer.render(frames, ("node",)).node[0], reference(gaussians, pose, settings)
    expected = np.where(truth.node.numpy() < 0, EVERYWHERE, truth.node.numpy() % 3)
    safe = truth.safe.numpy()
    assert (node == expected)[safe].all() and len(np.unique(node)) > 2


def _arrays(gaussians: Gaussians):
    return gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh


def _moved(gaussians: Gaussians, rotation, scale, translation) -> Gaussians:
    """Gaussians of degree 0 without rotations of their own, as they are where an instance stands."""
    means = (gaussians.means * scale) @ rotation.T + translation
    w = np.sqrt(np.maximum(1 + np.trace(rotation), 1e-12)) / 2
    skew = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    quats = np.tile([w, *(skew / (4 * w))], (len(means), 1))
    arrays = means, quats, gaussians.scales + np.log(scale), gaussians.opacities, gaussians.sh
    return Gaussians(*(np.asarray(a, np.float32) for a in arrays))


def test_an_instance_looks_as_its_gaussians_would_where_it_stands():
    rng = np.random.default_rng(0)
    base = random_gaussians(400, 0, 5, spread=1.0)
    base = Gaussians(base.means, np.tile(np.float32([2, 0, 0, 0]), (400, 1)), base.scales - 1, base.opacities, base.sh)
    turn = np.array([[0.0, -1.0, 0.0], [0.6, 0.0, -0.8], [0.8, 0.0, 0.6]])
    stand = turn, np.array([1.5, 0.7, 1.1]), np.array([43.0, -21.5, 3.0])
    pose = np.eye(4)
    pose[:3, :3] = random_rotation(rng)
    pose[:3, 3] = -pose[:3, :3] @ stand[2] + np.array([0.2, 0.1, 4.0])
    renderer = CpuRenderer()
    placed, baked = renderer.add(base), renderer.add(_moved(base, *stand))
    images = renderer.render(make_frames([[(placed, 1, *stand)], [(baked, 1)]], [pose, pose]), ALL)
    assert images.alpha.mean() > 0.1
    difference = np.abs(images.rgb[0].astype(int) - images.rgb[1])  # baked means are rounded to 4e-6 m
    assert difference.max() <= 2 and difference.mean() < 0.02
    np.testing.assert_allclose(images.alpha[0], images.alpha[1], atol=2e-3)


def test_colours_turn_with_their_part():
    """Turning part and camera about the same point changes nothing, with harmonics of all degrees."""
    rng = np.random.default_rng(1)
    gaussians, pose, turn = random_gaussians(300, 3, 2), random_pose(1), np.eye(4)
    turn[:3, :3] = random_rotation(rng)
    renderer = CpuRenderer()
    part = renderer.add(gaussians)
    turned = (part, 0, turn[:3, :3], np.ones(3), np.zeros(3))
    rgb = renderer.render(make_frames([[(part, 0)], [turned]], [pose, pose @ turn.T])).rgb
    assert np.abs(rgb[0].astype(int) - rgb[1]).max() <= 1


def test_threads_batches_and_other_frames_change_nothing(monkeypatch):
    parts = [random_gaussians(900, degree, degree) for degree in (0, 3, 1)]
    frames = [[(0, 0), (1, 1)], [(1, 5)], [(2, 2), (0, 3), (1, 4)], [], [(2, 1)]]
    poses = [random_pose(seed) for seed in range(len(frames))]
    runs = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("WORLDENGINE_THREADS", threads)
        renderer = CpuRenderer()
        for part in parts:
            renderer.add(part)
        runs.append(renderer.render(make_frames(frames, poses), ALL))
    alone = [renderer.render(make_frames([frame], [pose]), ALL) for frame, pose in zip(frames, poses, strict=True)]
    runs.append([np.concatenate(images) for images in zip(*alone, strict=True)])
    for run in runs[1:]:
        for image, other in zip(runs[0], run, strict=True):
            assert np.array_equal(image, other)


@pytest.mark.parametrize("count", [30, 3000])
def test_equal_depths_are_drawn_in_the_order_they_were_given(count):
    """A frontal plane of overlapping Gaussians at one depth: the first of them is in front, whatever the store's order."""
    rng = np.random.default_rng(0)
    means = np.zeros((count, 3))
    means[:, :2], means[:, 2] = rng.uniform(-0.05, 0.05, (count, 2)), 2.0
    colors = np.zeros((count, 3))
    colors[0], colors[1:] = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
    quats, scales = np.tile([1.0, 0, 0, 0], (count, 1)), np.full((count, 3), np.log(0.2))
    arrays = means, quats, scales, np.full(count, 9.0), sh_from_rgb(colors)
    rgb = draw(Gaussians(*(a.astype(np.float32) for a in arrays)), np.eye(4)).rgb[0]
    assert rgb[33, 47, 0] > 240 and rgb[33, 47, 2] < 15


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38, -1e38])
def test_no_parameter_spoils_an_image(bad):
    gaussians, pose = random_gaussians(400, 3, 0), random_pose(0)
    for field in range(5):
        arrays = [a.copy() for a in _arrays(gaussians)]
        arrays[field][::40].reshape(10, -1)[:, 0] = bad
        images = draw(Gaussians(*arrays), pose)
        assert all(np.isfinite(image).all() for image in (images.alpha, images.depth))
        if not np.isfinite(bad):
            kept = np.arange(400) % 40 > 0
            rgb = draw(Gaussians(*(a[kept] for a in _arrays(gaussians))), pose).rgb
            finite = bad != -np.inf or field not in (2, 3)  # a scale of zero and no opacity are fine
            assert np.array_equal(rgb, images.rgb) or not finite


def test_odd_sizes_and_nothing_to_see():
    gaussians = random_gaussians(500, 0, 1)
    for width, height in ((1, 1), (33, 31), (8, 65)):
        images = draw(gaussians, random_pose(2), width=width, height=height)
        truth = reference(gaussians, random_pose(2), RenderSettings(), width, height)
        assert np.abs(images.rgb[0] / 255.0 - np.clip(truth.rgb.numpy(), 0, 1)).max() < 1.5 / 255
    renderer = CpuRenderer(RenderSettings(background=(1.0, 0.5, 0.0)))
    empty = renderer.add(Gaussians(*(a[:0] for a in _arrays(gaussians))))
    images = renderer.render(make_frames([[(empty, 0)], []], [np.eye(4)] * 2), ALL)
    assert (images.rgb == [255, 128, 0]).all() and not images.alpha.any() and not images.depth.any()
    assert (images.node == EVERYWHERE).all()


def test_parts_come_and_go():
    renderer = CpuRenderer()
    first, second = renderer.add(random_gaussians(50, 0, 0)), renderer.add(random_gaussians(50, 0, 1))
    before = renderer.render(make_frames([[(second, 0)]], [np.eye(4)])).rgb
    renderer.remove(first)
    with pytest.raises(DataError, match="no part"):
        renderer.render(make_frames([[(first, 0)]], [np.eye(4)]))
    with pytest.raises(DataError, match="no part"):
        renderer.remove(first)
    assert renderer.add(random_gaussians(50, 0, 2)) == first
    assert np.array_equal(before, renderer.render(make_frames([[(second, 0)]], [np.eye(4)])).rgb)
    with pytest.raises(DataError, match="outputs"):
        renderer.render(make_frames([[(second, 0)]], [np.eye(4)]), ("rgb", "normals"))


@pytest.mark.parametrize("name", ["quats", "scales", "opacities", "sh", "means"])
def test_gaussians_of_which_some_are_missing_are_refused(name):
    """Kernels do not look at bounds: what they were given has to be there."""
    gaussians, renderer = random_gaussians(20, 1, 0), CpuRenderer()
    with pytest.raises(DataError, match="shape"):
        renderer.add(replace(gaussians, **{name: getattr(gaussians, name)[:10]}))
    with pytest.raises(DataError, match="sh: "):
        renderer.add(replace(gaussians, sh=gaussians.sh[:, :3]))


@pytest.mark.parametrize("name", ["rotation", "scale", "translation", "node", "offsets", "world_to_camera", "intrinsics"])
def test_frames_of_which_some_are_missing_are_refused(name):
    renderer = CpuRenderer()
    part = renderer.add(random_gaussians(20, 1, 0))
    frames = make_frames([[(part, 0), (part, 1)], [(part, 0)]], [np.eye(4)] * 2)
    with pytest.raises(DataError, match="shape"):
        renderer.render(Frames(**frames._asdict() | {name: getattr(frames, name)[:1]}))
