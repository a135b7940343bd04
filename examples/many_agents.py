"""Many cars learn together: one PPO policy, shared by all agents of a PettingZoo environment, in one file.

    python examples/many_agents.py --seed 1

Every car (the ego and up to 15 around it) sees the world from its own place, drives with pedal and wheel, and earns its own PDM
Score. An update follows one episode of 4 s in every world; nobody comes back, so returns need no bootstrapping. The mean return of
all cars rises by more than 0.2 from the first pass over the scenarios to the last, in less than a minute on one core.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pettingzoo
import torch
import tyro
from torch import nn

import worldengine_envs


@dataclass(frozen=True)
class Settings:
    """Settings of the training."""

    pack: str = "starter"
    split: str | None = "common_train"
    seed: int = 0
    scenarios: int = 24
    """How many scenarios of the split are driven; each takes a moment to make."""
    passes: int = 14
    """How often each scenario is driven."""
    worlds: int = 8
    """Episodes between two updates."""
    epochs: int = 4
    batch_size: int = 512
    learning_rate: float = 2e-3
    gae_lambda: float = 0.95
    clip: float = 0.2
    value_coef: float = 0.5
    max_grad_norm: float = 0.5


class Policy(nn.Module):
    """A Gaussian over pedal and wheel, and the value of what is seen, for every car alike."""

    def __init__(self, features: int, hidden: int = 128):
        super().__init__()
        self.actor = network(features, hidden, 2, 0.01)
        self.critic = network(features, hidden, 1, 1.0)
        self.log_std = nn.Parameter(torch.full((2,), -0.7))

    def forward(self, seen: torch.Tensor) -> tuple[torch.distributions.Normal, torch.Tensor]:
        """Returns the distribution of actions (..., 2) and the value (...) of what is seen (..., features)."""
        return torch.distributions.Normal(self.actor(seen), self.log_std.exp()), self.critic(seen).squeeze(-1)


def network(features: int, hidden: int, out: int, gain: float) -> nn.Sequential:
    """Two hidden layers; ``gain`` scales the last one's first weights."""
    layers = [nn.Linear(features, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, out)]
    for layer, scale in zip(layers, (2**0.5, 2**0.5, gain), strict=True):
        nn.init.orthogonal_(layer.weight, scale)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])


class Decision(NamedTuple):
    """What a car saw, did, and got for it."""

    seen: torch.Tensor
    action: torch.Tensor
    log_prob: torch.Tensor
    value: torch.Tensor
    reward: float


def look(observations: list[dict]) -> torch.Tensor:
    """What cars see, as one row each: their own state, the way ahead, and the eight nearest others."""
    parts = [("ego", slice(None)), ("route", slice(0, 16)), ("agents", slice(0, 8))]
    rows = [np.stack([seen[name][part] for seen in observations]).reshape(len(observations), -1) for name, part in parts]
    return torch.from_numpy(np.concatenate(rows, axis=1)).clamp(-5.0, 5.0)


def drive(envs: list, names: list[str], policy: Policy) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """Drives one episode in each of these scenarios, side by side.

    Returns:
        By name, one row a decision of a car, car after car: seen, action, log_prob, value, reward, and last (its last decision).
        How it ended for every car (the ``info`` of its last step).
    """
    cars = {}  # (world, agent) -> its decisions so far
    envs = envs[: len(names)]
    current = [env.reset(options={"scenario": name})[0] for env, name in zip(envs, names, strict=True)]
    ends = []
    while any(current):
        keys = [(w, agent) for w, observations in enumerate(current) for agent in observations]
        seen = look([current[w][agent] for w, agent in keys])
        with torch.no_grad():
            distribution, value = policy(seen)
            action = distribution.sample()
            log_prob = distribution.log_prob(action).sum(-1)
        chosen = dict(zip(keys, action.numpy(), strict=True))
        reward_of = {}
        for w, env in enumerate(envs):
            if not current[w]:
                continue
            following, rewards, _, _, infos = env.step({agent: chosen[w, agent] for agent in env.agents})
            reward_of |= {(w, agent): reward for agent, reward in rewards.items()}
            ends += [infos[agent] for agent in infos if agent not in env.agents]
            current[w] = {agent: following[agent] for agent in env.agents}
        for key, *decision in zip(keys, seen, action, log_prob, value, strict=True):
            cars.setdefault(key, []).append(Decision(*decision, reward_of[key]))
    decisions = [decision for car in cars.values() for decision in car]
    data = {
        name: torch.stack([getattr(decision, name) for decision in decisions]) for name in ("seen", "action", "log_prob", "value")
    }
    data["reward"] = torch.tensor([decision.reward for decision in decisions], dtype=torch.float32)
    data["last"] = torch.tensor([decision is car[-1] for car in cars.values() for decision in car])
    return data, ends


def advantages(data: dict[str, torch.Tensor], gae_lambda: float) -> torch.Tensor:
    """Generalised advantage estimation without discount; behind a car's last decision there is nothing."""
    reward, value, last = (data[name].tolist() for name in ("reward", "value", "last"))
    result, advantage = [0.0] * len(reward), 0.0
    for k in range(len(reward) - 1, -1, -1):
        if last[k]:
            advantage = reward[k] - value[k]
        else:
            advantage = reward[k] + value[k + 1] - value[k] + gae_lambda * advantage
        result[k] = advantage
    return torch.tensor(result)


def update(policy: Policy, optimizer: torch.optim.Optimizer, data: dict[str, torch.Tensor], settings: Settings) -> None:
    """PPO's clipped update on one iteration's data."""
    advantage = advantages(data, settings.gae_lambda)
    returns = advantage + data["value"]
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(returns)).split(settings.batch_size):
            distribution, value = policy(data["seen"][rows])
            log_prob = distribution.log_prob(data["action"][rows]).sum(-1)
            ratio = (log_prob - data["log_prob"][rows]).exp()
            clipped = ratio.clamp(1.0 - settings.clip, 1.0 + settings.clip)
            gain = torch.minimum(ratio * advantage[rows], clipped * advantage[rows]).mean()
            loss = -gain + settings.value_coef * (value - returns[rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), settings.max_grad_norm)
            optimizer.step()


def train(settings: Settings) -> list[float]:
    """Trains and returns the mean return of all cars in each pass."""
    torch.manual_seed(settings.seed)
    torch.set_num_threads(1)
    random = np.random.default_rng(settings.seed)
    names = [info.scenario for info in worldengine_envs.scenarios(pack=settings.pack, split=settings.split)]
    names = random.permutation(names)[: settings.scenarios].tolist()
    chosen = {"scenario": names, "observation": "state"}
    envs = [pettingzoo.make("parallel", f"WorldEngine/{settings.pack}-v0", **chosen) for _ in range(settings.worlds)]
    policy = Policy(look([envs[0].observation_space("ego").sample()]).shape[1])
    optimizer = torch.optim.Adam(policy.parameters(), settings.learning_rate, eps=1e-5)
    begun, decisions, history = time.perf_counter(), 0, []
    for k in range(settings.passes):
        optimizer.param_groups[0]["lr"] = settings.learning_rate * (1.0 - k / settings.passes)
        order, ends = random.permutation(names).tolist(), []
        for first in range(0, len(names), settings.worlds):
            data, ended = drive(envs, order[first : first + settings.worlds], policy)
            update(policy, optimizer, data, settings)
            decisions, ends = decisions + len(data["reward"]), ends + ended
        history.append(float(np.mean([end["pdms"] for end in ends])))
        failed = np.mean([not end["success"] for end in ends])
        rate = decisions / (time.perf_counter() - begun)
        print(
            f"pass {k + 1}/{settings.passes}: mean return {history[-1]:.3f}, "
            f"{failed:.0%} of {len(ends)} cars failed, {rate:,.0f} decisions/s",
            flush=True,
        )
    return history


if __name__ == "__main__":
    history = train(tyro.cli(Settings, description=__doc__))
    print(f"mean return of all cars: {history[0]:.3f} in the first pass, {history[-1]:.3f} in the last")
