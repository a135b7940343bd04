"""The scene graph: moved actors look as the renderer of environments draws them, tables and moments of Adam keep together."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from worldengine_envs.reconstruction.optimiser import GaussianOptimiser
from worldengine_envs.reconstruction.scene_graph import FIRST_ACTOR, SKY, Moment, SceneGraph, multiply, quats_of
from worldengine_envs.reconstruction.settings import LearningRates
from worldengine_envs.reconstruction.start import sky_points
from worldengine_envs.rendering import differentiable, gsplat_renderer
from worldengine_envs.rendering.cpu.renderer import CpuRenderer
from worldengine_envs.rendering.frames import Frames, RenderSettings
from worldengine_envs.rendering.gaussians import Gaussians

WIDTH, HEIGHT, LENS = 48, 32, (40.0, 40.0, 24.0, 16.0)
POSE = np.array([[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])  # looks along x


def rotation_of(axis, angle: float) -> np.ndarray:
    """Rodrigues' formula."""
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def make_graph(count: int = 60, actors: int = 2, traversals: int = 1) -> SceneGraph:
    rng = np.random.default_rng(3)
    node = rng.choice([0, SKY, *(FIRST_ACTOR + a for a in range(actors))], count)
    means = np.where(node[:, None] < FIRST_ACTOR, rng.uniform((4, -3, -2), (12, 3, 2), (count, 3)), rng.normal(0, 0.5, (count, 3)))
    tables = {
        "means": means,
        "quats": rng.normal(size=(count, 4)),
        "scales": rng.uniform(-2.5, -0.5, (count, 3)),
        "opacities": rng.normal(size=count),
        "dc": rng.normal(size=(count, 1, 3)),
        "rest": rng.normal(size=(count, 3, 3)) * 0.3 * (node < FIRST_ACTOR)[:, None, None],
    }
    if traversals > 1:
        tables["looks"] = rng.normal(size=(count, traversals, 3)) * 0.1
    tensors = {name: torch.tensor(table, dtype=torch.float32) for name, table in tables.items()}
    return SceneGraph(tensors, torch.tensor(node), torch.ones(actors, 3), traversals, degree=1)


def drawn(graph: SceneGraph, moment: Moment) -> torch.Tensor:
    pose, lens = torch.tensor(POSE)[None].float(), torch.tensor(LENS)[None]
    return graph.render(moment, pose, lens, WIDTH, HEIGHT).rgb[0]


def test_quaternions_turn_as_matrices():
    rng = np.random.default_rng(0)
    for axis, angle in [(rng.normal(size=3), a) for a in (0.0, 1e-9, 0.3, 2.0, np.pi - 1e-9, np.pi, 5.0)]:
        matrix = rotation_of(axis, angle)
        q = quats_of(torch.tensor(matrix)[None])[0]
        p = torch.tensor(rng.normal(size=3))
        conjugate = q * torch.tensor([1.0, -1.0, -1.0, -1.0])
        turned = multiply(multiply(q, torch.cat([torch.zeros(1, dtype=p.dtype), p])), conjugate)
        np.testing.assert_allclose(turned[1:].numpy(), matrix @ p.numpy(), atol=1e-12)


def test_actors_look_as_the_renderer_of_environments_draws_them():
    graph = make_graph()
    rotation = np.stack([rotation_of((0, 0, 1), 0.7), rotation_of((0.1, 0.2, 1), -2.0)])
    translation = np.array([[7.0, 1.0, 0.0], [9.0, -1.5, 0.3]])
    moment = Moment(torch.tensor(rotation), torch.tensor(translation), torch.tensor([True, False]), 0)
    image = drawn(graph, moment).detach().clamp(0, 1).numpy()
    renderer = CpuRenderer(RenderSettings(near=0.2))
    parts = []
    for node in (0, SKY, FIRST_ACTOR):  # the other actor is not there
        rows = (graph.node == node).numpy()
        t = {name: tensor.detach().numpy()[rows] for name, tensor in graph.parameters.items()}
        sh = np.concatenate((t["dc"], t["rest"]), axis=1)
        parts.append(renderer.add(Gaussians(t["means"], t["quats"], t["scales"], t["opacities"], sh)))
    frames = Frames(
        np.array(parts, np.int32),
        np.stack([np.eye(3), np.eye(3), rotation[0]]),
        np.ones((3, 3)),
        np.stack([np.zeros(3), np.zeros(3), translation[0]]),
        np.full(3, -1, np.int32),
        np.array([0, 3]),
        POSE[None],
        np.array([LENS]),
        HEIGHT,
        WIDTH,
    )
    expected = renderer.render(frames).rgb[0]
    assert image.max() > 0.2
    assert np.abs(255 * image - expected).max() <= 1.01


def test_an_actor_is_pulled_to_where_it_was_seen():
    graph = make_graph(traversals=2)
    rotation = torch.eye(3).repeat(2, 1, 1)
    true = torch.tensor([[7.0, 1.0, 0.0], [9.0, -1.5, 0.3]])
    target = drawn(graph, Moment(rotation, true, torch.tensor([True, True]), 1)).detach()
    guess = (true + torch.tensor([[0.0, 0.15, -0.1], [0.0, 0.0, 0.0]])).requires_grad_()
    adam = torch.optim.Adam([guess], lr=0.01)
    for _ in range(60):
        adam.zero_grad()
        (drawn(graph, Moment(rotation, guess, torch.tensor([True, True]), 1)) - target).square().mean().backward()
        adam.step()
    assert (guess - true).detach()[:, 1:].abs().max() < 0.02  # along x, the depth, little is seen of it


def test_looks_belong_to_one_traversal():
    graph = make_graph(actors=0, traversals=2)
    nobody = Moment(torch.zeros(0, 3, 3), torch.zeros(0, 3), torch.zeros(0, dtype=torch.bool), 1)
    before = drawn(graph, nobody._replace(traversal=0)).detach()
    with torch.no_grad():
        graph.parameters["looks"][:, 1] += 1.0
        graph.tone[1] *= 0.5
    assert torch.equal(drawn(graph, nobody._replace(traversal=0)), before)
    (drawn(graph, nobody) ** 2).sum().backward()
    gradient = graph.parameters["looks"].grad
    assert gradient[:, 0].abs().max() == 0.0 and gradient[:, 1].abs().max() > 0.0


def test_moments_of_adam_follow_the_rows_of_the_tables():
    graph = make_graph()
    optimiser = GaussianOptimiser(graph, LearningRates(), 10)
    moment = Moment(torch.eye(3).repeat(2, 1, 1), torch.full((2, 3), 6.0), torch.tensor([True, True]), 0)
    (drawn(graph, moment) ** 2).sum().backward()
    optimiser.step(0)
    kept = {name: tensor.clone() for name, tensor in optimiser.tensors().items()}
    rows, fresh = torch.tensor([5, 2, 2, 40]), torch.tensor([False, False, True, False])
    graph.take(rows)
    optimiser.take(rows, fresh)
    after = optimiser.tensors()
    assert torch.equal(after["means.exp_avg"][[0, 1, 3]], kept["means.exp_avg"][[5, 2, 40]])
    assert after["means.exp_avg"][2].abs().max() == 0.0
    (drawn(graph, moment) ** 2).sum().backward()
    before = graph.parameters["dc"].detach().clone()
    optimiser.step(1)
    assert len(graph) == 4 and not torch.equal(graph.parameters["dc"], before)


@pytest.mark.parametrize("count", [1, 500])
def test_the_sky_lies_beyond_everything(count):
    rng = np.random.default_rng(1)
    points = rng.normal(size=(100, 3)) * (100.0, 300.0, 5.0)
    centers = rng.normal(size=(9, 3))
    sky, spacing = sky_points(centers, points, count)
    radius = np.linalg.norm(sky - centers.mean(0), axis=1)
    assert np.ptp(radius) < 1e-6 * radius[0]
    assert radius[0] > np.linalg.norm(points - centers.mean(0), axis=1).max()
    if count > 1:
        nearest = np.sort(np.linalg.norm(sky[:, None] - sky[None], axis=-1), axis=1)[:, 1]
        assert 0.6 < np.median(nearest) / spacing < 1.2


def test_placing_actors_is_what_torch_does():
    """Values and gradients of the compiled way against plain torch in float64."""
    graph, generator = make_graph(count=200), torch.Generator().manual_seed(3)
    rotation = torch.tensor(np.stack([rotation_of((0, 0.1, 1), 0.7), rotation_of((0.1, 0.2, 1), -2.0)]), requires_grad=True)
    translation = torch.tensor([[7.0, 1.0, 0.0], [9.0, -1.5, 0.3]], dtype=torch.float64, requires_grad=True)
    present, rows, actor = torch.tensor([True, False]), graph.actor_rows, graph.node[graph.actor_rows] - FIRST_ACTOR
    tables = [graph.parameters[name] for name in ("means", "quats", "opacities")]
    exact = [table.detach().double().requires_grad_() for table in tables]
    means = exact[0].index_copy(0, rows, (rotation[actor] @ exact[0][rows, :, None]).squeeze(-1) + translation[actor])
    quats = exact[1].index_copy(0, rows, multiply(quats_of(rotation.detach())[actor], exact[1][rows]))
    hidden = torch.full_like(exact[2][rows], -30.0)
    opacities = exact[2].index_copy(0, rows, torch.where(present[actor], exact[2][rows], hidden))
    weights = [torch.randn(table.shape, generator=generator, dtype=torch.float64) for table in (means, quats, opacities)]
    there = torch.ones(len(graph), dtype=torch.float64).index_copy(0, rows, present[actor].double())  # nobody sees the others
    weights = [weight * there.reshape(-1, *[1] * (weight.dim() - 1)) for weight in weights]
    expected = torch.autograd.grad(
        sum((w * t).sum() for w, t in zip(weights, (means, quats, opacities), strict=True)), [*exact, rotation, translation]
    )
    world = graph.world(Moment(rotation, translation, present, 0))
    ours = [world[0], world[1], world[3]]
    for mine, theirs in zip(ours, (means, quats, opacities), strict=True):
        np.testing.assert_allclose(mine.detach().numpy(), theirs.detach().numpy(), rtol=1e-6, atol=1e-6)
    loss = sum((w.float() * t).sum() for w, t in zip(weights, ours, strict=True))
    for mine, theirs in zip(torch.autograd.grad(loss, [*tables, rotation, translation]), expected, strict=True):
        np.testing.assert_allclose(mine.double().numpy(), theirs.numpy(), rtol=1e-5, atol=1e-5)


def test_the_way_of_cuda_draws_the_same(monkeypatch):
    """What is handed to gsplat on a GPU, in torch, gives the images and gradients of the compiled way."""
    rotation = torch.tensor(np.stack([rotation_of((0, 0.1, 1), 0.7), rotation_of((0.1, 0.2, 1), -2.0)]))
    moment = Moment(rotation, torch.tensor([[7.0, 1.0, 0.0], [9.0, -1.5, 0.3]]), torch.tensor([True, False]), 1)
    found = []
    for kind in ("cpu", "cuda"):
        graph = make_graph(traversals=2)
        monkeypatch.setattr(SceneGraph, "device", SimpleNamespace(type=kind))
        monkeypatch.setattr(gsplat_renderer, "rasterise", differentiable.rasterise)
        image = drawn(graph, moment)
        (image**2).sum().backward()
        found.append((image.detach(), {name: tensor.grad for name, tensor in graph.parameters.items()}))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    for name, gradient in found[0][1].items():
        np.testing.assert_allclose(gradient.numpy(), found[1][1][name].numpy(), rtol=1e-3, atol=1e-3, err_msg=name)
