"""The choice of the renderer, and the gsplat renderer's batches with gsplat's own functions replaced by plain torch."""

import importlib.machinery
import sys
import types

import gsplat_stand_in
import numpy as np
import pytest
import torch
from reference_rasteriser import render as render_densely

from worldengine_envs.errors import DataError
from worldengine_envs.rendering import renderer as choice
from worldengine_envs.rendering.frames import EVERYWHERE, Frames, RenderSettings
from worldengine_envs.rendering.gaussians import Gaussians
from worldengine_envs.rendering.renderer import RendererError, make_renderer

HEIGHT, WIDTH = 40, 56


def random_gaussians(rng, n, degree, spread=4.0, distance=9.0):
    """Gaussians before, beside and behind a camera at the origin that looks along z."""
    means = rng.normal([0, 0, distance], spread, (n, 3))
    sh = rng.normal(0, 0.4 if degree else 1.2, (n, (degree + 1) ** 2, 3))
    values = means, rng.normal(0, 1, (n, 4)), rng.normal(-1.0, 0.6, (n, 3)), rng.normal(0.5, 1.5, n), sh
    return Gaussians(*(value.astype(np.float32) for value in values))


def rotation(rng):
    """A random rotation matrix."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def make_frames(instances, cameras, intrinsics):
    """Frames of lists of (part, rotation, scale, translation, node), as many as cameras."""
    flat = [instance for frame in instances for instance in frame]
    part, turn, scale, move, node = zip(*flat, strict=True) if flat else ((), (), (), (), ())
    return Frames(
        np.array(part, np.int32),
        np.array(turn, float).reshape(-1, 3, 3),
        np.array(scale, float).reshape(-1, 3),
        np.array(move, float).reshape(-1, 3),
        np.array(node, np.int32),
        np.cumsum([0] + [len(frame) for frame in instances]),
        np.array(cameras, float),
        np.array(intrinsics, float),
        HEIGHT,
        WIDTH,
    )


def camera(rng, wobble=0.2):
    """A world-to-camera transform near the identity."""
    pose = np.eye(4)
    axis = rng.normal(0, wobble, 3)
    angle = np.linalg.norm(axis)
    k = np.cross(np.eye(3), axis / angle)
    pose[:3, :3] += np.sin(angle) * k + (1 - np.cos(angle)) * k @ k
    pose[:3, 3] = rng.normal(0, wobble, 3)
    return pose


def world_gaussians(gaussians, turn, scale, move):
    """A part's Gaussians where an instance of it stands, as means, quats, scales, opacities, sh (degree 0 or no turn)."""
    from scipy.spatial.transform import Rotation

    axes = Rotation.from_quat(gaussians.quats[:, [1, 2, 3, 0]]).as_matrix() * np.exp(gaussians.scales[:, None, :].astype(float))
    u, s, _ = np.linalg.svd((turn * scale) @ axes)
    u[:, :, 2] *= np.linalg.det(u)[:, None]
    quats = Rotation.from_matrix(u).as_quat()[:, [3, 0, 1, 2]]
    return (gaussians.means * scale) @ turn.T + move, quats, np.log(s), gaussians.opacities, gaussians.sh


def dense(parts, frames, f, settings):
    """What frame f shows by the dense float64 reference, with nodes of instances."""
    rows = range(frames.offsets[f], frames.offsets[f + 1])
    placed = [world_gaussians(parts[frames.part[i]], frames.rotation[i], frames.scale[i], frames.translation[i]) for i in rows]
    width = max(p[4].shape[1] for p in placed)
    placed = [(*p[:4], np.pad(p[4], ((0, 0), (0, width - p[4].shape[1]), (0, 0)))) for p in placed]
    owner = np.concatenate([np.full(len(p[0]), frames.node[i]) for i, p in zip(rows, placed, strict=True)])
    values = [torch.as_tensor(np.concatenate(column), dtype=torch.float64) for column in zip(*placed, strict=True)]
    view, lens = torch.as_tensor(frames.world_to_camera[f]), torch.as_tensor(frames.intrinsics[f])
    image = render_densely(*values, view, lens, frames.width, frames.height, settings)
    node = np.where(image.node >= 0, owner[image.node], EVERYWHERE)
    return image, node


def gsplat_renderer(settings=None):
    """The gsplat renderer on the CPU, without gsplat."""
    from worldengine_envs.rendering.gsplat_renderer import GsplatRenderer

    return GsplatRenderer(settings, "cpu", backend=gsplat_stand_in)


@pytest.fixture
def world():
    """Parts of different sizes and degrees, and frames that show different ones of them, some moved, with two lenses."""
    rng = np.random.default_rng(7)
    parts = [random_gaussians(rng, n, degree) for n, degree in ((60, 3), (90, 0), (25, 0))]
    still = np.eye(3), np.ones(3), np.zeros(3)
    moved = [(rotation(rng), rng.uniform(0.5, 2, 3), rng.normal(0, 1, 3)) for _ in range(3)]
    instances = [
        [(0, *still, EVERYWHERE), (2, *moved[0], 4)],
        [(1, *still, EVERYWHERE)],
        [],
        [(1, *still, EVERYWHERE), (2, *moved[1], 2), (2, *moved[2], 9), (0, *still, 5)],
    ]
    lens = [40.0, 43.0, 27.0, 21.0]
    return parts, make_frames(instances, [camera(rng) for _ in range(4)], [lens, lens, lens, [60.0, 60.0, 28.0, 20.0]])


@pytest.mark.parametrize("settings", [RenderSettings(), RenderSettings(antialiased=False, background=(0.2, 0.5, 1.0))])
def test_different_scenes_in_one_batch(world, settings):
    parts, frames = world
    renderer = gsplat_renderer(settings)
    handles = [renderer.add(part) for part in parts]
    assert handles == [0, 1, 2]
    images = renderer.render(frames, ("rgb", "alpha", "depth", "node"))
    assert images.rgb.dtype == torch.uint8 and images.rgb.shape == (4, HEIGHT, WIDTH, 3)
    for f in (0, 1, 3):
        truth, node = dense(parts, frames, f, settings)
        safe = truth.safe.numpy()
        assert safe.mean() > 0.95 and truth.alpha.mean() > 0.1
        error = (images.rgb[f] / 255.0 - truth.rgb.clamp(0, 1)).abs().numpy()
        assert error[safe].max() < 1 / 255 and error.mean() < 3e-3  # half a level of rounding
        assert np.allclose(images.alpha[f].numpy()[safe], truth.alpha.numpy()[safe], atol=1e-4)
        deep = safe & (truth.alpha.numpy() > 0.05)
        assert np.allclose(images.depth[f].numpy()[deep], truth.depth.numpy()[deep], rtol=1e-3)
        assert (images.node[f].numpy() == node)[safe].mean() > 0.995  # a transmittance next to 0.5 may fall on either side
    background = torch.tensor(settings.background) * 255
    assert (images.rgb[2] == background.round()).all() and (images.alpha[2] == 0).all() and (images.depth[2] == 0).all()
    assert (images.node[2] == EVERYWHERE).all()


@pytest.mark.parametrize("settings", [RenderSettings(), RenderSettings(antialiased=False, background=(0.2, 0.5, 1.0))])
def test_both_renderers_draw_the_same(world, settings):
    parts, frames = world
    names, images = ("rgb", "alpha", "depth", "node"), []
    for renderer in (gsplat_renderer(settings), make_renderer("cpu", settings=settings)):
        for part in parts:
            renderer.add(part)
        images.append([np.asarray(image) for image in renderer.render(frames, names)])
    for name, one, other in zip(names, *images, strict=True):
        difference = np.abs(one.astype(float) - other)
        assert one.shape == other.shape and one.dtype == other.dtype
        if name == "node":
            assert (difference == 0).mean() > 0.999
        elif name == "depth":
            thick = images[0][1] > 0.05
            assert np.median(difference[thick]) < 1e-5 and (difference[thick] < 1e-3).mean() > 0.999
        else:
            assert difference.max() <= (1 if name == "rgb" else 5e-3) and (difference > 1e-4).mean() < 0.01


@pytest.mark.parametrize("length", [1e-30, 1e-13, 1e20])
def test_quaternions_may_have_any_length(length):
    part = random_gaussians(np.random.default_rng(2), 60, 0)
    stretched = Gaussians(part.means, part.quats * np.float32(length), part.scales, part.opacities, part.sh)
    images = []
    for renderer, gaussians in ((gsplat_renderer(), part), (gsplat_renderer(), stretched), (make_renderer("cpu"), stretched)):
        still = renderer.add(gaussians), np.eye(3), np.ones(3), np.zeros(3), 0
        images.append(np.asarray(renderer.render(make_frames([[still]], [np.eye(4)], [[40.0, 40.0, 28.0, 20.0]])).rgb, int))
    assert images[0].max() > 100
    assert abs(images[1] - images[0]).max() <= 1 and abs(images[2] - images[0]).max() <= 1


def test_batches_are_divided_without_a_trace(world, monkeypatch):
    from worldengine_envs.rendering import gsplat_renderer as module

    parts, frames = world
    renderer = gsplat_renderer()
    for part in parts:
        renderer.add(part)
    whole = renderer.render(frames, ("rgb", "node"))
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 100)
    counts = renderer._parts.counts(frames.part)
    assert [chunk.tolist() for chunk in module._chunks(frames, counts)] == [[0], [1, 2], [3]]
    divided = renderer.render(frames, ("rgb", "node"))
    assert torch.equal(whole.rgb, divided.rgb) and torch.equal(whole.node, divided.node)
    assert whole.alpha is None and whole.depth is None


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_one_unmoved_part_looks_as_among_others(degree):
    rng = np.random.default_rng(degree)
    parts = [random_gaussians(rng, 70, degree), random_gaussians(rng, 5, 0, distance=-90)]
    still = np.eye(3), np.ones(3), np.zeros(3), EVERYWHERE
    views, lens = [camera(rng) for _ in range(2)], [[40.0, 40.0, 28.0, 20.0]] * 2
    renderer = gsplat_renderer()
    for part in parts:
        renderer.add(part)
    alone = renderer.render(make_frames([[(0, *still)]] * 2, views, lens), ("rgb", "alpha"))
    among = renderer.render(make_frames([[(0, *still), (1, *still)]] * 2, views, lens), ("rgb", "alpha"))
    assert alone.alpha.mean() > 0.1
    assert torch.allclose(alone.alpha, among.alpha, atol=1e-4)
    assert (alone.rgb.int() - among.rgb.int()).abs().max() <= 1


def test_colours_turn_with_their_part():
    rng = np.random.default_rng(3)
    part, view, turn = random_gaussians(rng, 80, 3), camera(rng), rotation(rng)
    renderer = gsplat_renderer()
    renderer.add(part)
    move = rng.normal(0, 3, 3)
    to_part = np.eye(4)
    to_part[:3, :3], to_part[:3, 3] = turn.T, -turn.T @ move
    lens = [[40.0, 40.0, 28.0, 20.0]]
    here = renderer.render(make_frames([[(0, np.eye(3), np.ones(3), np.zeros(3), 0)]], [view], lens))
    there = renderer.render(make_frames([[(0, turn, np.ones(3), move, 0)]], [view @ to_part], lens))
    assert (here.rgb.int() - there.rgb.int()).abs().max() <= 1


def test_parts_come_and_go(world):
    parts, frames = world
    renderer = gsplat_renderer()
    extra = renderer.add(random_gaussians(np.random.default_rng(1), 40, 1))
    for part in parts:
        renderer.add(part)
    renderer.remove(extra)
    moved = Frames(*(getattr(frames, name) + (name == "part") for name in Frames._fields))
    fresh = gsplat_renderer()
    for part in parts:
        fresh.add(part)
    assert torch.equal(renderer.render(moved).rgb, fresh.render(frames).rgb)
    with pytest.raises(DataError, match="0 is no part"):
        renderer.render(frames)
    assert renderer.add(parts[0]) == extra
    with pytest.raises(DataError, match="'normals' is none of"):
        renderer.render(moved, ("normals",))


def test_broken_gaussians_are_not_drawn():
    good = random_gaussians(np.random.default_rng(5), 50, 1)
    bad = Gaussians(*(np.array(getattr(good, name)) for name in ("means", "quats", "scales", "opacities", "sh")))
    bad.means[0, 1], bad.quats[1], bad.scales[2, 0], bad.opacities[3], bad.sh[4, 2, 1] = np.nan, 0, 99, np.nan, np.inf
    keep = np.arange(50) > 4
    kept = Gaussians(*(getattr(good, name)[keep] for name in ("means", "quats", "scales", "opacities", "sh")))
    images = []
    for gaussians in (bad, kept):
        renderer = gsplat_renderer()
        still = renderer.add(gaussians), np.eye(3), np.ones(3), np.zeros(3), 0
        images.append(renderer.render(make_frames([[still]], [np.eye(4)], [[40.0, 40.0, 28.0, 20.0]]), ("rgb", "depth")))
    assert torch.equal(images[0].rgb, images[1].rgb) and torch.equal(images[0].depth, images[1].depth)
    assert images[0].depth.isfinite().all()


def test_only_auto_falls_back_and_says_why_once(monkeypatch, capsys):
    monkeypatch.setattr(choice, "why_not_gsplat", lambda device: "the moon is full")
    monkeypatch.setattr(choice, "_cpu_renderer", lambda settings: settings)
    monkeypatch.setattr(choice, "_said", set())
    settings = RenderSettings(antialiased=False)
    assert make_renderer("auto", settings=settings) is settings
    make_renderer("auto")
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "the moon is full" in said
    with pytest.raises(RendererError, match="the moon is full"):
        make_renderer("gsplat")
    for renderer, device in (("gsplat", "cpu"), ("cpu", "cuda:0"), ("metal", None)):
        with pytest.raises(RendererError):
            make_renderer(renderer, device)
    with pytest.raises(RendererError, match="on cuda:1: the moon is full"):
        make_renderer("auto", device="cuda:1")  # where it is to be drawn was said
    make_renderer("cpu"), make_renderer("auto", device="cpu")  # asked for: nothing to say
    assert capsys.readouterr().err == ""


def test_reasons_are_told(monkeypatch):
    def install(name, **content):
        module = types.ModuleType(name)
        module.__dict__.update(content, __spec__=importlib.machinery.ModuleSpec(name, None))
        monkeypatch.setitem(sys.modules, name, module)

    if importlib.util.find_spec("gsplat") is None:
        assert "gsplat is not installed" in choice.why_not_gsplat()
    install("gsplat", __version__="1.5.3", __path__=[])
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "without CUDA" in choice.why_not_gsplat()
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA device" in choice.why_not_gsplat()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert "no cuda:3" in choice.why_not_gsplat("cuda:3")
    assert "does not build or load" in choice.why_not_gsplat()  # there is no gsplat.cuda._backend
    install("gsplat.cuda", __path__=[])
    install("gsplat.cuda._backend", _C=None)
    assert "nvcc" in choice.why_not_gsplat()
    install("gsplat.cuda._backend", _C=object())
    assert choice.why_not_gsplat() is None
    for version, is_old in (("1.4.0", True), ("1.5.2", True), ("1.6.0+pt27cu128", False), ("1.10.0rc1", False)):
        install("gsplat", __version__=version, __path__=[])
        assert ("too old" in (choice.why_not_gsplat() or "")) == is_old


def test_gpu_script_runs_but_for_the_gpu(monkeypatch, tmp_path):
    """All stages of benchmarks/gpu.py, small, with the stand-in; what gsplat's own function draws is not looked at."""
    from pathlib import Path

    from worldengine_envs.rendering import differentiable

    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "benchmarks")
    import gpu

    backend = types.SimpleNamespace(**vars(gsplat_stand_in), __version__="0")
    backend.rasterization = lambda *values, **_: (torch.zeros(len(values[5]), values[8], values[7], 3),)
    monkeypatch.setitem(sys.modules, "gsplat", backend)
    monkeypatch.setattr(gpu, "least", lambda function, device, repeats=1: function() is None or 1.0)
    for name, value in (("CASES", ((300, 40, 32),)), ("WORLDS", 2), ("WORLD_GAUSSIANS", 200), ("ACTORS", 1)):
        monkeypatch.setattr(gpu, name, value)
    report = gpu.Report("cpu", tmp_path / "out.json")
    report.stage("images", gpu.same_images, "cpu", backend)
    report.stage("gradients", gpu.same_gradients, "cpu", (differentiable.rasterise,) * 2)
    report.stage("one", gpu.one_scene_speed, "cpu", backend)
    report.stage("many", gpu.many_worlds_speed, "cpu", backend)
    results = report.results
    assert all(found["rgb_levels_max"] <= 1 for found in results["images"].values())
    assert max(results["gradients"]["relative_difference"].values()) == 0
    assert results["many"]["same_images_as_one_call_a_world"] and (tmp_path / "out.json").is_file()
