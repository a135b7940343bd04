"""How Gaussians come and go: what they show stays, nobody passes the cap, and chance is only that of the generator."""

import numpy as np
import pytest
import torch

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.densification import make_strategy, offsets, opacity_of, sample, share_out
from worldengine_envs.reconstruction.optimiser import GaussianOptimiser
from worldengine_envs.reconstruction.scene_graph import BACKGROUND, FIRST_ACTOR, SKY, SceneGraph
from worldengine_envs.reconstruction.settings import DensificationSettings, ReconstructionSettings
from worldengine_envs.rendering.differentiable import ScreenStatistics, rasterise

N, CAP = 40, 44


def make_graph(opacity=None, n=N, seed=0) -> SceneGraph:
    """A graph of background, with the first rows sky and the last an actor's."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=random)

    tables = {"means": 4.0 * normal(n, 3), "quats": normal(n, 4), "scales": normal(n, 3) - 2.0, "dc": normal(n, 1, 3)}
    tables |= {"opacities": normal(n) if opacity is None else torch.logit(opacity), "rest": normal(n, 3, 3)}
    node = torch.full((n,), BACKGROUND)
    node[:3], node[-3:] = SKY, FIRST_ACTOR
    return SceneGraph(tables, node, torch.ones(1, 3), 1)


def make_settings(strategy="mcmc", cap=CAP, **more) -> ReconstructionSettings:
    densification = DensificationSettings(strategy=strategy, first=0, every=10, **more)
    return ReconstructionSettings(iterations=100, max_gaussians=cap, densification=densification)


def make_optimiser(graph: SceneGraph) -> GaussianOptimiser:
    """An optimiser that has taken a step."""
    optimiser = GaussianOptimiser(graph, ReconstructionSettings().rates, 100)
    sum(
        (table * torch.arange(1.0, len(graph) + 1).reshape(-1, *[1] * (table.dim() - 1))).sum()
        for table in graph.parameters.values()
    ).backward()
    optimiser.step(0)
    return optimiser


def statistics_of(pull: torch.Tensor, reach: float) -> ScreenStatistics:
    made = ScreenStatistics()
    made.reach = torch.full((1, len(pull)), reach)
    made.absolute = torch.stack([pull, torch.zeros_like(pull)], dim=1)[None]
    made.gradient = made.absolute
    return made


@pytest.mark.parametrize("opacity", [0.02, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("shares", [1, 2, 3, 10, 51])
def test_shared_out_gaussians_blend_to_the_same_opacity_and_area(opacity, shares):
    each, shrink = share_out(torch.tensor([opacity], dtype=torch.float64), torch.tensor([shares]))
    x = torch.linspace(-15.0, 15.0, 30001, dtype=torch.float64)
    profile = 1.0 - (1.0 - each * torch.exp(-0.5 * (x / shrink) ** 2)) ** shares
    assert float(profile.max()) == pytest.approx(opacity, rel=1e-9)
    assert float(torch.trapezoid(profile, x)) == pytest.approx(opacity * np.sqrt(2.0 * np.pi), rel=1e-6)


def test_opacities_have_the_same_bits_whatever_the_number_of_threads():
    logits, found, threads = 4.0 * torch.randn(100_001, generator=torch.Generator().manual_seed(0)), [], torch.get_num_threads()
    logits[:2] = torch.tensor([-1e4, 1e4])
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        table = logits.clone().requires_grad_()
        opacity_of(table).mean().backward()
        found.append((opacity_of(logits), table.grad))
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for others in found[1:] for a, b in zip(found[0], others, strict=True))
    expected = torch.sigmoid(logits.double())
    assert torch.allclose(found[0][0].double(), expected, rtol=1e-5) and torch.isfinite(found[0][1]).all()
    assert torch.allclose(len(logits) * found[0][1].double(), expected * (1.0 - expected), rtol=1e-4, atol=1e-6)


def test_sampling_takes_each_row_as_often_as_its_weight_says():
    weight = torch.tensor([0.0, 1.0, 2.5, 0.0, 0.5])
    rows = sample(weight, 8, torch.Generator().manual_seed(0))
    assert torch.bincount(rows, minlength=5).tolist() == [0, 2, 5, 0, 1]
    assert len(sample(weight, 0, torch.Generator())) == 0


def test_offsets_are_spread_as_the_gaussians_are():
    graph = make_graph()
    rows = torch.tensor([7]).expand(200_000)
    found = offsets(graph, rows, torch.randn((len(rows), 3), generator=torch.Generator().manual_seed(0))).detach().double()
    w, x, y, z = torch.nn.functional.normalize(graph.parameters["quats"][7].detach().double(), dim=0).tolist()
    turn = torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ],
        dtype=torch.float64,
    )
    expected = turn @ torch.diag((2.0 * graph.parameters["scales"][7].detach().double()).exp()) @ turn.T
    torch.testing.assert_close(torch.cov(found.T), expected, rtol=0.03, atol=0.01 * float(expected.trace()))


def test_mcmc_moves_the_faded_to_where_somebody_opaque_is():
    opacity = torch.full((N,), 0.001)
    opacity[[10, 20]] = torch.tensor([0.9, 0.6])
    graph = make_graph(opacity)
    before = {name: table.detach().clone() for name, table in graph.parameters.items()}
    optimiser = make_optimiser(graph)
    for name, table in before.items():
        graph.parameters[name].data.copy_(table)
    strategy = make_strategy(make_settings(cap=N, drift=0.0), torch.Generator().manual_seed(0))
    assert strategy.after_step(0, graph, optimiser)
    assert len(graph) == N and (graph.node == BACKGROUND).all()
    parent = (graph.parameters["dc"][:, 0] - before["dc"][20, 0]).abs().amax(1) < 1e-6
    assert 14 <= int(parent.sum()) <= 18  # 38 + 2 at two places, 3 : 2
    left = 1.0 - graph.parameters["opacities"].detach()[~parent].sigmoid()
    assert float(left.prod()) == pytest.approx(0.1, rel=1e-3)
    assert (graph.parameters["means"][10] == before["means"][10]).all()
    assert (graph.parameters["scales"][10] < before["scales"][10]).all()
    assert all((optimiser.adam.state[table]["exp_avg"] == 0.0).all() for table in graph.parameters.values())


def test_an_image_hardly_changes_when_mcmc_adds():
    graph = make_graph(torch.full((N,), 0.5))
    graph.node[:] = BACKGROUND
    with torch.no_grad():
        graph.parameters["means"][:] *= 0.25
        graph.parameters["means"][:, 2] += 6.0

    def image():
        tables = graph.parameters
        sh = torch.cat([tables["dc"], tables["rest"]], dim=1)
        lens = torch.tensor([[60.0, 60.0, 32.0, 32.0]])
        named = [tables[name] for name in ("means", "quats", "scales", "opacities")]
        return rasterise(*named, sh, torch.eye(4)[None], lens, 64, 64).rgb[0].detach()

    before = image()
    strategy = make_strategy(make_settings(cap=60, growth=0.5, drift=0.0), torch.Generator().manual_seed(0))
    strategy.after_step(0, graph, GaussianOptimiser(graph, ReconstructionSettings().rates, 100))
    assert len(graph) == 60
    assert float((image() - before).abs().mean()) < 0.08 * float(before.abs().mean())


@pytest.mark.parametrize("strategy", ["mcmc", "gradient"])
def test_the_cap_holds_and_the_sky_stays(strategy):
    graph = make_graph()
    optimiser = make_optimiser(graph)
    acting = make_strategy(make_settings(strategy, growth=0.5), torch.Generator().manual_seed(0))
    for iteration in range(100):
        acting.after_backward(iteration, graph, statistics_of(torch.rand(len(graph)), 10.0))
        changed = acting.after_step(iteration, graph, optimiser)
        assert len(graph) <= CAP and (iteration < 80 or not changed)
        assert {len(table) for table in graph.parameters.values()} == {len(graph)}
        assert all(table.requires_grad and torch.isfinite(table).all() for table in graph.parameters.values())
    assert len(graph) == CAP and int((graph.node == SKY).sum()) == 3
    assert set(optimiser.adam.state) >= set(graph.parameters.values())


def test_moments_follow_their_rows():
    graph = make_graph(torch.linspace(0.001, 0.9, N))
    graph.parameters["dc"].data[:, 0, 0] = torch.arange(N)
    optimiser = make_optimiser(graph)
    moments = optimiser.adam.state[graph.parameters["dc"]]["exp_avg"].clone()
    origin = graph.parameters["dc"][:, 0, 0].detach().clone()
    make_strategy(make_settings(cap=2 * N, growth=0.2), torch.Generator().manual_seed(0)).after_step(0, graph, optimiser)
    after = optimiser.adam.state[graph.parameters["dc"]]["exp_avg"]
    came_from = (graph.parameters["dc"][:, 0, 0].detach()[:, None] - origin).abs().argmin(1)
    alone = torch.bincount(came_from, minlength=N)[came_from] == 1
    assert 0 < int(alone.sum()) < len(graph)
    assert (after[alone] == moments[came_from[alone]]).all() and (after[~alone] == 0.0).all()


def test_gradient_splits_what_is_pulled_most_and_drops_the_faded():
    opacity = torch.full((N,), 0.5)
    opacity[[5, 6]] = 0.001
    graph = make_graph(opacity)
    before = {name: table.detach().clone() for name, table in graph.parameters.items()}
    pull = torch.full((N,), 0.1)
    pull[[5, 10, 11]] = 9.0
    strategy = make_strategy(make_settings("gradient", cap=N), torch.Generator().manual_seed(0))
    strategy.after_backward(0, graph, statistics_of(pull, 20.0))
    assert strategy.after_step(0, graph, GaussianOptimiser(graph, ReconstructionSettings().rates, 100))
    assert len(graph) == N  # 38 left, then 2 of a room of 2
    halves = [int(i) for i in torch.nonzero((graph.parameters["dc"][:, None] == before["dc"][None, 10]).all((1, 2, 3))).flatten()]
    assert len(halves) == 2
    torch.testing.assert_close(graph.parameters["scales"][halves], (before["scales"][10] - np.log(1.6)).expand(2, 3))
    assert (graph.parameters["means"][halves[0]] != graph.parameters["means"][halves[1]]).all()
    assert not (graph.parameters["dc"] == before["dc"][5]).all((1, 2)).any()


def test_gradient_copies_what_is_small_on_the_image():
    graph = make_graph(torch.full((N,), 0.5))
    before = graph.parameters["means"].detach().clone()
    strategy = make_strategy(make_settings("gradient"), torch.Generator().manual_seed(0))
    strategy.after_backward(0, graph, statistics_of(torch.ones(N), 3.0))
    strategy.after_step(0, graph, GaussianOptimiser(graph, ReconstructionSettings().rates, 100))
    assert len(graph) == N + 2
    assert (graph.parameters["means"][N:, None] == before).all(2).any(1).all()


def test_gradient_says_that_it_needs_statistics():
    with pytest.raises(DataError, match=r"strategy.*CPU rasteriser.*mcmc"):
        make_strategy(make_settings("gradient"), torch.Generator()).after_backward(0, make_graph(), None)


def test_penalty_pulls_at_opacities_and_sizes_but_not_at_the_size_of_the_sky():
    graph = make_graph()
    make_strategy(make_settings(opacity_weight=0.5, scale_weight=0.25), torch.Generator()).penalty(graph).backward()
    opacity = graph.parameters["opacities"].detach().sigmoid()
    torch.testing.assert_close(graph.parameters["opacities"].grad, 0.5 * opacity * (1.0 - opacity) / N)
    expected = 0.25 * graph.parameters["scales"].detach().exp() / (3 * N)
    expected[graph.node == SKY] = 0.0
    torch.testing.assert_close(graph.parameters["scales"].grad, expected)


@pytest.mark.parametrize("strategy", ["mcmc", "gradient"])
def test_the_same_seed_and_what_was_kept_give_the_same_bits(strategy):
    def run(stop: int | None):
        graph, generator = make_graph(), torch.Generator().manual_seed(3)
        optimiser, acting = GaussianOptimiser(graph, ReconstructionSettings().rates, 100), None
        acting = make_strategy(make_settings(strategy), generator)
        for iteration in range(40):
            pull = torch.rand(len(graph), generator=torch.Generator().manual_seed(iteration))
            acting.after_backward(iteration, graph, statistics_of(pull, 5.0))
            acting.after_step(iteration, graph, optimiser)
            if iteration == stop:
                kept, state = acting.tensors(), generator.get_state()
                generator = torch.Generator()
                generator.set_state(state)
                acting = make_strategy(make_settings(strategy), generator)
                acting.restore(kept)
        return graph.parameters

    whole, resumed = run(None), run(17)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
