"""Stable-Baselines3's SAC with acceleration and steering rate as actions.

python examples/sb3_sac.py --seed 1
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tyro
from gymnasium.vector import AutoresetMode
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback

from worldengine_envs.envs.sb3 import SB3VecEnv
from worldengine_envs.envs.vector_env import DrivingVectorEnv


@dataclass(frozen=True)
class Settings:
    """Settings of the training."""

    pack: str = "starter"
    tags: str = "car_following"
    """Only scenarios with this tag, here a family."""
    split: str = "common_train"
    seed: int = 0
    num_envs: int = 16
    total_decisions: int = 16_000
    decision_period_s: float = 0.5
    """An action is held so long [s]."""


class Returns(BaseCallback):
    """Keeps the return of every episode and prints their mean."""

    def __init__(self):
        super().__init__()
        self.all: list[float] = []

    def _on_step(self) -> bool:
        self.all += [info["pdms"] for info, done in zip(self.locals["infos"], self.locals["dones"], strict=True) if done]
        if self.n_calls % 150 == 0:
            print(f"{self.num_timesteps} decisions: mean return {np.mean(self.all[-200:]):.3f}", flush=True)
        return True


def train(settings: Settings) -> list[float]:
    """Trains an agent and returns the returns (PDM Scores) of all episodes in the order in which they ended."""
    envs = DrivingVectorEnv(
        settings.pack,
        settings.num_envs,
        autoreset_mode=AutoresetMode.SAME_STEP,
        action="control",
        decision_period_s=settings.decision_period_s,
        tags=settings.tags,
        split=settings.split,
    )
    returns = Returns()
    model = SAC(
        "MultiInputPolicy",
        SB3VecEnv(envs),
        learning_rate=1e-3,
        buffer_size=settings.total_decisions,
        learning_starts=1_000,
        batch_size=256,
        gamma=0.99,
        train_freq=1,
        gradient_steps=2,
        policy_kwargs={"net_arch": [128, 128]},
        seed=settings.seed,
        device="cpu",
    )
    model.learn(settings.total_decisions, callback=returns)
    return returns.all


if __name__ == "__main__":
    history = train(tyro.cli(Settings, description=__doc__))
    part = max(1, len(history) // 10)
    print(f"mean return: {np.mean(history[:part]):.3f} in the first tenth of episodes, {np.mean(history[-part:]):.3f} in the last")
