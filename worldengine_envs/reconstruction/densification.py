"""How Gaussians are added, moved and dropped while they are learned, never more than a hard cap.

Strategies draw from the generator that they are given and from nothing else: the same seed gives the same Gaussians.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.optimiser import GaussianOptimiser
from worldengine_envs.reconstruction.scene_graph import SKY, SceneGraph
from worldengine_envs.reconstruction.settings import ReconstructionSettings
from worldengine_envs.rendering.differentiable import ScreenStatistics

MOST_SHARES = 51  # of one Gaussian that is shared out at once
BINOMIALS = [[math.comb(n, j) for j in range(1, MOST_SHARES + 1)] for n in range(MOST_SHARES + 1)]
LEAST_OPACITY, MOST_OPACITY = 0.005, 1.0 - 1e-6  # nobody is born dead, or beyond the reach of a logit
LEAST_LOGIT = -60.0  # below, an opacity is 0, and its gradient must not become infinity times 0
BESIDE = 0.3  # standard deviations by which a child stands off: two at one place, with Adam, would never part
NOTES_EVERY = 4  # iterations between two whose gradients are noted
SPLIT_SHRINK = 1.6  # how much smaller the two halves of a Gaussian are (3D Gaussian Splatting)


class Strategy(Protocol):
    """What the trainer calls in each iteration."""

    def wants_statistics(self, iteration: int) -> bool:
        """Whether ``after_backward`` needs them in an iteration; they take time."""

    def penalty(self, graph: SceneGraph) -> Tensor:
        """Returns what the strategy adds to the loss."""

    def after_backward(self, iteration: int, graph: SceneGraph, statistics: ScreenStatistics | None) -> None:
        """Takes notes; gradients are there, the tables are as they were drawn."""

    def after_step(self, iteration: int, graph: SceneGraph, optimiser: GaussianOptimiser) -> bool:
        """Changes the Gaussians, and says whether rows have been renumbered."""

    def tensors(self) -> dict[str, Tensor]:
        """Returns what has to be kept to go on."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Goes on from what ``tensors`` gave."""


def make_strategy(settings: ReconstructionSettings, generator: torch.Generator) -> Strategy:
    """Returns the strategy that the settings name.

    Args:
        settings: Of the reconstruction.
        generator: On the CPU; where chance comes from.
    """
    return STRATEGIES[settings.densification.strategy](settings, generator)


class _Strategy:
    """What strategies share: when they act, and the weight of what is not needed."""

    def __init__(self, settings: ReconstructionSettings, generator: torch.Generator):
        self.settings, self.generator = settings.densification, generator
        self.cap, self.last = settings.max_gaussians, round(settings.densification.last * settings.iterations)

    def penalty(self, graph: SceneGraph) -> Tensor:
        """Returns the mean opacity and the mean standard deviation [m] outside of the sky, weighted: who adds nothing fades."""
        s, tables = self.settings, graph.parameters
        sizes = tables["scales"].exp().mean(1)
        sizes = sizes.masked_fill(graph.node == SKY, 0.0).mean()
        return s.opacity_weight * opacity_of(tables["opacities"]).mean() + s.scale_weight * sizes

    def wants_statistics(self, iteration: int) -> bool:
        """Never."""
        return False

    def after_backward(self, iteration: int, graph: SceneGraph, statistics: ScreenStatistics | None) -> None:
        """Takes no notes."""

    def tensors(self) -> dict[str, Tensor]:
        """Returns nothing: there is nothing to keep but the generator."""
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Goes on from what ``tensors`` gave."""

    def _due(self, iteration: int) -> bool:
        s = self.settings
        return s.first <= iteration < self.last and iteration % s.every == 0

    def _room(self, kept: int) -> int:
        """Returns how many Gaussians may be added to ``kept``."""
        return max(min(math.ceil(self.settings.growth * kept), self.cap - kept), 0)

    def _normal(self, rows: int, device: torch.device) -> Tensor:
        return torch.randn((rows, 3), generator=self.generator).to(device)


class Mcmc(_Strategy):
    """3D Gaussian Splatting as Markov chain Monte Carlo (Kheradmand et al. 2024).

    Who has faded is moved to where somebody opaque is; both share the opacity such that the image stays. Who is about to fade
    drifts by chance, in steps of its own size, so that the same settings do for a pavement and for a hill beyond.
    """

    def after_step(self, iteration: int, graph: SceneGraph, optimiser: GaussianOptimiser) -> bool:
        """Moves the faded, adds up to the cap, and lets the faint drift."""
        changed = self._due(iteration) and self._relocate(graph, optimiser)
        if iteration < self.last:
            self._drift(graph, self.settings.drift * (1.0 - iteration / self.last))
        return changed

    @torch.no_grad()
    def _relocate(self, graph: SceneGraph, optimiser: GaussianOptimiser) -> bool:
        opacity = opacity_of(graph.parameters["opacities"])
        dead = opacity <= self.settings.dead_opacity
        weight = opacity.masked_fill(dead | (graph.node == SKY), 0.0)
        lost, room = int(dead.sum()), self._room(len(graph))
        if lost + room == 0 or not float(weight.sum()) > 0.0:
            return False
        parents = sample(weight, lost + room, self.generator)
        rows = torch.arange(len(graph), device=graph.device)
        rows[dead] = parents[:lost]
        rows = torch.cat([rows, parents[lost:]])
        shares = torch.bincount(rows, minlength=len(opacity))[rows]
        fresh = shares > 1
        graph.take(rows)
        optimiser.take(rows, fresh)
        share(graph, torch.nonzero(fresh).flatten(), shares[fresh])
        children = torch.nonzero(torch.cat([dead, dead.new_ones(room)])).flatten()
        graph.parameters["means"][children] += offsets(graph, children, BESIDE * self._normal(len(children), graph.device))
        return True

    @torch.no_grad()
    def _drift(self, graph: SceneGraph, step: float) -> None:
        opacity = opacity_of(graph.parameters["opacities"])
        faint = torch.nonzero((opacity < 10.0 * self.settings.dead_opacity) & (graph.node != SKY)).flatten()
        if len(faint):
            chance = opacity_of(100.0 * (self.settings.dead_opacity - opacity[faint]))  # as published: 0.5 at the threshold
            steps = step * chance[:, None] * self._normal(len(faint), graph.device)
            graph.parameters["means"][faint] += offsets(graph, faint, steps)


class ByGradient(_Strategy):
    """Adaptive density control by absolute gradients on the image (AbsGS, Ye et al. 2024), with a budget in place of a threshold.

    Those that the loss pulls most are doubled: split where they are large on the image, copied where they are small.
    """

    def __init__(self, settings: ReconstructionSettings, generator: torch.Generator):
        super().__init__(settings, generator)
        self.pull = self.seen = self.reach = torch.zeros(0)

    def wants_statistics(self, iteration: int) -> bool:
        """Some of the time, as long as anything is added."""
        return iteration < self.last and iteration % NOTES_EVERY == 0

    @torch.no_grad()
    def after_backward(self, iteration: int, graph: SceneGraph, statistics: ScreenStatistics | None) -> None:
        """Adds up how strongly Gaussians are pulled, by image.

        Raises:
            DataError: There are no statistics: they are the CPU rasteriser's.
        """
        if not self.wants_statistics(iteration):
            return
        if statistics is None:
            remedy = "Take 'mcmc' on a GPU"
            raise DataError("'gradient' needs the CPU rasteriser", field="densification.strategy", remedy=remedy)
        if len(self.pull) != len(graph):
            self._forget(graph)
        reach = statistics.reach.to(graph.device)
        self.pull += statistics.absolute.to(graph.device).norm(dim=2).sum(0)
        self.seen += (reach > 0.0).sum(0)
        self.reach = torch.maximum(self.reach, reach.amax(0))

    def _forget(self, graph: SceneGraph) -> None:
        self.pull, self.seen, self.reach = (torch.zeros(len(graph), device=graph.device) for _ in range(3))

    @torch.no_grad()
    def after_step(self, iteration: int, graph: SceneGraph, optimiser: GaussianOptimiser) -> bool:
        """Drops the faded and doubles those that are pulled most."""
        if not self._due(iteration):
            return False
        alive = opacity_of(graph.parameters["opacities"]) > self.settings.dead_opacity
        wide = self.reach > self.settings.split_px
        pull = (self.pull / self.seen.clamp_min(1.0)).masked_fill(~alive | (graph.node == SKY), 0.0)
        count = min(self._room(int(alive.sum())), int((pull > 0.0).sum()))
        chosen = torch.sort(pull, descending=True, stable=True).indices[:count]
        kept = torch.nonzero(alive).flatten()
        if count == 0 and len(kept) == len(graph):
            return False
        rows, twice = torch.cat([kept, chosen]), torch.zeros_like(alive)
        twice[chosen] = True
        large, small = (twice & wide)[rows], (twice & ~wide)[rows]
        copy = torch.arange(len(rows), device=graph.device) >= len(kept)
        graph.take(rows)
        optimiser.take(rows, large | copy)  # a copy has no past, so that it goes another way
        self._separate(graph, torch.nonzero(large).flatten())
        share(graph, torch.nonzero(small).flatten(), torch.tensor(2, device=graph.device))
        self._forget(graph)
        return True

    def _separate(self, graph: SceneGraph, rows: Tensor) -> None:
        """Makes halves of Gaussians that stand there twice."""
        graph.parameters["means"][rows] += offsets(graph, rows, self._normal(len(rows), graph.device))
        graph.parameters["scales"][rows] -= math.log(SPLIT_SHRINK)

    def tensors(self) -> dict[str, Tensor]:
        """Returns what was added up since the last change."""
        return {"pull": self.pull, "seen": self.seen, "reach": self.reach}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Goes on from what ``tensors`` gave."""
        self.pull, self.seen, self.reach = (tensors[name].clone() for name in ("pull", "seen", "reach"))


STRATEGIES = {"mcmc": Mcmc, "gradient": ByGradient}


def opacity_of(logits: Tensor) -> Tensor:
    """Returns opacities of logits, of any shape; the bits of torch's sigmoid depend on the number of threads."""
    return 1.0 / (1.0 + torch.exp(-logits.clamp(min=LEAST_LOGIT)))


def sample(weight: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Returns (count,) int64 rows, each as often as its share of ``weight`` (N,) says, rounded up or down by chance.

    Systematic sampling: one random number, then equal steps along the sum of weights.
    """
    ends = weight.double().cumsum(0)
    place = (torch.rand(1, generator=generator, dtype=torch.float64) + torch.arange(count)) / max(count, 1)
    rows = torch.searchsorted(ends, place.to(ends) * ends[-1], right=True).clamp_max(len(weight) - 1)
    order = torch.randperm(count, generator=generator)  # who is moved where says nothing about who stands where in the tables
    return rows[order.to(rows.device)]


def share(graph: SceneGraph, rows: Tensor, shares: Tensor) -> None:
    """Makes ``rows`` (M,), of which ``shares`` (M,) stand at one place, together look as one of them does."""
    each, shrink = share_out(opacity_of(graph.parameters["opacities"][rows]), shares.expand(len(rows)))
    graph.parameters["opacities"][rows] = torch.logit(each.clamp(LEAST_OPACITY, MOST_OPACITY))
    graph.parameters["scales"][rows] += shrink.log()[:, None]


def share_out(opacity: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the opacity (M,) of each of n Gaussians at one place, and the factor (M,) of their sizes, that look as one did.

    (1 - a)^n = 1 - o, and n blended profiles 1 - (1 - a exp(-x^2/2))^n have the integral of the old one, o sqrt(2 pi):
    the factor is o / sum_j C(n, j) (-1)^(j+1) a^j / sqrt(j) (equation 9 of Kheradmand et al. 2024, its two sums made one).

    Args:
        opacity: (M,) of the old ones, in (0, 1).
        shares: (M,) int64 n; more than 51 count as 51.
    """
    o, n = opacity.double().clamp_max(MOST_OPACITY), shares.clamp_max(MOST_SHARES)
    a = -torch.expm1(torch.log1p(-o) / n)
    j = torch.arange(1, MOST_SHARES + 1, device=o.device, dtype=torch.float64)
    choose = torch.tensor(BINOMIALS, device=o.device, dtype=torch.float64)[n]
    area = (choose * a[:, None] ** j / (j.sqrt() * (-1.0) ** (j + 1.0))).sum(1)
    return a.to(opacity), (o / area).to(opacity)


def offsets(graph: SceneGraph, rows: Tensor, steps: Tensor) -> Tensor:
    """Returns (M, 3) offsets in the nodes' frames for ``steps`` (M, 3) in standard deviations along the Gaussians' axes."""
    scaled = steps * graph.parameters["scales"][rows].exp()
    quats = torch.nn.functional.normalize(graph.parameters["quats"][rows], dim=1)
    w, axis = quats[:, :1], quats[:, 1:]
    turn = torch.linalg.cross(axis, scaled)
    return scaled + 2.0 * (w * turn + torch.linalg.cross(axis, turn))
