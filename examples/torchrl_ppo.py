"""TorchRL's PPO: its collector, advantage estimator and clipped loss on the vector environment.

pip install -c constraints.txt -e ".[examples]" && python examples/torchrl_ppo.py --seed 1
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import tyro
from gymnasium.vector import AutoresetMode
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import RewardSum, TransformedEnv
from torchrl.modules import ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from worldengine_envs.envs.torchrl import TorchRLEnv
from worldengine_envs.envs.vector_env import DrivingVectorEnv

KEYS = ["ego", "route", "agents"]


@dataclass(frozen=True)
class Settings:
    """Settings of the training."""

    pack: str = "starter"
    tags: str = "car_following"
    """Only scenarios with this tag, here a family."""
    split: str = "common_train"
    seed: int = 0
    num_envs: int = 64
    total_decisions: int = 60 * 1024
    num_steps: int = 16
    """Decisions of every world between two updates."""
    learning_rate: float = 1e-3
    minibatches: int = 4
    epochs: int = 4


class Flat(nn.Module):
    """A small network on ego, route and the other agents."""

    def __init__(self, outputs: int):
        super().__init__()
        self.layers = nn.Sequential(nn.LazyLinear(128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, outputs))

    def forward(self, ego: torch.Tensor, route: torch.Tensor, agents: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.cat([ego, route.flatten(-2), agents.flatten(-2)], dim=-1))


def train(settings: Settings) -> list[float]:
    """Trains an agent and returns the returns (PDM Scores) of all episodes in the order in which they ended."""
    torch.manual_seed(settings.seed)
    worlds = DrivingVectorEnv(
        settings.pack,
        settings.num_envs,
        autoreset_mode=AutoresetMode.DISABLED,
        action="anchor",
        tags=settings.tags,
        split=settings.split,
    )
    env = TransformedEnv(TorchRLEnv(worlds), RewardSum())
    env.set_seed(settings.seed)
    network = TensorDictModule(Flat(int(worlds.single_action_space.n)), in_keys=KEYS, out_keys=["logits"])
    actor = ProbabilisticActor(
        network, in_keys=["logits"], spec=env.action_spec, distribution_class=torch.distributions.Categorical, return_log_prob=True
    )
    critic = ValueOperator(Flat(1), in_keys=KEYS)
    start = env.reset()
    actor(start), critic(start)  # tells the lazy layers their inputs
    loss_of = ClipPPOLoss(actor, critic, clip_epsilon=0.2, entropy_coeff=0.003, critic_coeff=0.5, normalize_advantage=True)
    advantage = GAE(gamma=1.0, lmbda=0.95, value_network=critic)
    optimizer = torch.optim.Adam(loss_of.parameters(), settings.learning_rate)
    per_batch = settings.num_envs * settings.num_steps
    frames = {"frames_per_batch": per_batch, "total_frames": settings.total_decisions}
    collector = Collector(env, actor, auto_register_policy_transforms=False, **frames)
    returns: list[float] = []
    for i, batch in enumerate(collector):
        returns += batch["next", "episode_reward"][batch["next", "done"]].tolist()
        with torch.no_grad():
            advantage(batch)
        rows = batch.reshape(-1)
        for _ in range(settings.epochs):
            for part in torch.randperm(len(rows)).chunk(settings.minibatches):
                losses = loss_of(rows[part])
                loss = losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(loss_of.parameters(), 0.5)
                optimizer.step()
        if i % 10 == 9:
            print(f"{(i + 1) * per_batch} decisions: mean return {np.mean(returns[-200:]):.3f}", flush=True)
    collector.shutdown()
    return returns


if __name__ == "__main__":
    history = train(tyro.cli(Settings, description=__doc__))
    part = max(1, len(history) // 10)
    print(f"mean return: {np.mean(history[:part]):.3f} in the first tenth of episodes, {np.mean(history[-part:]):.3f} in the last")
