"""Adam over the tables of a scene graph, whose rows come and go."""

from __future__ import annotations

import torch
from torch import Tensor

from worldengine_envs.reconstruction.scene_graph import SceneGraph
from worldengine_envs.reconstruction.settings import LearningRates

EPS = 1e-15  # as 3D Gaussian Splatting: gradients are tiny
MOMENTS = ("exp_avg", "exp_avg_sq")


class GaussianOptimiser:
    """One group of torch's Adam for each table.

    Args:
        graph: Whose tables are learned.
        rates: Learning rates by table.
        iterations: After which the rate of the means has fallen to its end.
    """

    def __init__(self, graph: SceneGraph, rates: LearningRates, iterations: int):
        self.graph, self.rates, self.iterations = graph, rates, iterations
        groups = [{"params": [tensor], "lr": getattr(rates, name), "name": name} for name, tensor in graph.parameters.items()]
        groups.append({"params": [graph.tone], "lr": rates.looks, "name": "tone"})
        self.adam = torch.optim.Adam(groups, eps=EPS, fused=True)

    def step(self, iteration: int) -> None:
        """Moves all tables along their gradients and forgets these."""
        share = iteration / self.iterations
        for group in self.adam.param_groups:
            if group["name"] == "means":
                group["lr"] = self.rates.means ** (1.0 - share) * self.rates.means_end**share
            if group["name"] == "tone" and group["params"][0].grad is not None:
                group["params"][0].grad[0] = 0.0  # the first traversal is the measure of the others
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def take(self, rows: Tensor, fresh: Tensor) -> None:
        """Follows ``SceneGraph.take``, which has to come first: moments of ``fresh`` (M,) bool start again at 0."""
        for group in self.adam.param_groups:
            if group["name"] == "tone":
                continue
            state = self.adam.state.pop(group["params"][0], {})
            for moment in MOMENTS:
                if moment in state:
                    state[moment] = state[moment][rows]
                    state[moment][fresh] = 0.0
            group["params"][0] = self.graph.parameters[group["name"]]
            self.adam.state[group["params"][0]] = state

    def tensors(self) -> dict[str, Tensor]:
        """Returns what has to be kept to go on: steps and moments by table."""
        found = {}
        for group in self.adam.param_groups:
            for key, tensor in self.adam.state.get(group["params"][0], {}).items():
                found[f"{group['name']}.{key}"] = tensor
        return found

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Goes on from what ``tensors`` gave."""
        for group in self.adam.param_groups:
            keys, table = [key for key in tensors if key.split(".")[0] == group["name"]], group["params"][0]
            self.adam.state[table] = {key.split(".")[1]: tensors[key].clone().to(table.device) for key in keys}
