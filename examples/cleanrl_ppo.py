"""PPO in one file, in the manner of CleanRL: nothing but torch and the vector environment.

    python examples/cleanrl_ppo.py --seed 1

Learns to drive one family of the starter pack with the action kind `anchor`: every 0.5 s it picks one of 256 trajectories.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
import tyro
from torch import nn
from torch.distributions import Categorical

import worldengine_envs  # noqa: F401 (registers the ids)


@dataclass(frozen=True)
class Settings:
    """Settings of the training."""

    env_id: str = "WorldEngine/starter-v0"
    tags: str = "car_following"
    """Only scenarios with this tag, here a family."""
    split: str = "common_train"
    seed: int = 0
    num_envs: int = 64
    total_decisions: int = 100_000
    """Decisions of all worlds together; an episode of 4 s has 8."""
    num_steps: int = 16
    """Decisions of every world between two updates."""
    learning_rate: float = 1e-3
    gamma: float = 1.0
    gae_lambda: float = 0.95
    minibatches: int = 4
    epochs: int = 4
    clip: float = 0.2
    entropy_coef: float = 0.003
    value_coef: float = 0.5
    max_grad_norm: float = 0.5


class Agent(nn.Module):
    """Two small networks on the flattened observation."""

    def __init__(self, inputs: int, actions: int):
        super().__init__()
        self.actor = self.network(inputs, actions, 0.01)
        self.critic = self.network(inputs, 1, 1.0)

    @staticmethod
    def network(inputs: int, outputs: int, last_gain: float) -> nn.Sequential:
        layers = nn.Linear(inputs, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, outputs)
        for layer, gain in zip(layers[::2], (np.sqrt(2), np.sqrt(2), last_gain), strict=True):
            nn.init.orthogonal_(layer.weight, gain)
            nn.init.zeros_(layer.bias)
        return nn.Sequential(*layers)


def flat(observations: dict[str, np.ndarray]) -> torch.Tensor:
    """Returns (worlds, features) of ego, route and the other agents."""
    parts = [observations[name].reshape(len(observations[name]), -1) for name in ("ego", "route", "agents")]
    return torch.as_tensor(np.concatenate(parts, axis=1))


def advantages_of(rewards, values, dones, last_value, settings: Settings) -> torch.Tensor:
    """Returns (steps, worlds) generalised advantages."""
    advantages, following = torch.zeros_like(rewards), torch.zeros_like(last_value)
    for t in reversed(range(len(rewards))):
        next_value = last_value if t == len(rewards) - 1 else values[t + 1]
        alive = 1.0 - dones[t]  # whether the next observation belongs to the same episode
        delta = rewards[t] + settings.gamma * next_value * alive - values[t]
        advantages[t] = following = delta + settings.gamma * settings.gae_lambda * alive * following
    return advantages


def train(settings: Settings) -> list[float]:
    """Trains an agent and returns the returns (PDM Scores) of all episodes in the order in which they ended."""
    torch.manual_seed(settings.seed)
    generator = np.random.default_rng(settings.seed)
    envs = gym.make_vec(
        settings.env_id,
        settings.num_envs,
        observation="state",
        action="anchor",
        tags=settings.tags,
        split=settings.split,
        autoreset_mode=gym.vector.AutoresetMode.SAME_STEP,
    )
    observation = flat(envs.reset(seed=settings.seed)[0])
    agent = Agent(observation.shape[1], int(envs.single_action_space.n))
    optimizer = torch.optim.Adam(agent.parameters(), settings.learning_rate, eps=1e-5)
    shape = settings.num_steps, settings.num_envs
    observations = torch.zeros(*shape, observation.shape[1])
    actions, log_probs, rewards, dones, values = (torch.zeros(shape) for _ in range(5))
    returns: list[float] = []
    updates = settings.total_decisions // (settings.num_steps * settings.num_envs)
    begun = time.perf_counter()
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = settings.learning_rate * (1.0 - update / updates)
        for t in range(settings.num_steps):
            with torch.no_grad():
                policy, value = Categorical(logits=agent.actor(observation)), agent.critic(observation)[:, 0]
                action = policy.sample()
            observations[t], actions[t], log_probs[t], values[t] = observation, action, policy.log_prob(action), value
            step, reward, terminated, truncated, infos = envs.step(action.numpy())
            observation, rewards[t] = flat(step), torch.as_tensor(reward)
            over = terminated | truncated  # at the horizon the score is complete: there is nothing left to bootstrap
            dones[t] = torch.as_tensor(over)
            if over.any():
                returns += infos["final_info"]["pdms"][over].tolist()
        with torch.no_grad():
            advantages = advantages_of(rewards, values, dones, agent.critic(observation)[:, 0], settings)
        batch = (observations, actions, log_probs, advantages, advantages + values)
        improve(agent, optimizer, [part.flatten(0, 1) for part in batch], generator, settings)
        if update % 10 == 9 or update == updates - 1:
            rate = (update + 1) * settings.num_steps * settings.num_envs / (time.perf_counter() - begun)
            print(f"update {update + 1}/{updates}: mean return {np.mean(returns[-200:]):.3f}, {rate:,.0f} decisions/s", flush=True)
    envs.close()
    return returns


def improve(agent: Agent, optimizer, batch: list[torch.Tensor], generator: np.random.Generator, settings: Settings) -> None:
    """Makes the epochs of one clipped PPO update."""
    for _ in range(settings.epochs):
        for rows in np.array_split(generator.permutation(len(batch[0])), settings.minibatches):
            observations, actions, old_log_probs, advantages, targets = (part[rows] for part in batch)
            policy = Categorical(logits=agent.actor(observations))
            ratio = (policy.log_prob(actions) - old_log_probs).exp()
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
            gain = torch.min(ratio * advantages, ratio.clamp(1 - settings.clip, 1 + settings.clip) * advantages).mean()
            value_loss = 0.5 * (agent.critic(observations)[:, 0] - targets).square().mean()
            loss = -gain + settings.value_coef * value_loss - settings.entropy_coef * policy.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), settings.max_grad_norm)
            optimizer.step()


if __name__ == "__main__":
    history = train(tyro.cli(Settings, description=__doc__))
    part = max(1, len(history) // 10)
    print(f"mean return: {np.mean(history[:part]):.3f} in the first tenth of episodes, {np.mean(history[-part:]):.3f} in the last")
