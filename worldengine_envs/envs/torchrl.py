"""A vector environment for TorchRL. Importing this module loads torch and torchrl (``pip install 'worldengine[examples]'``)."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from worldengine_envs.envs.vector_env import DrivingVectorEnv


class TorchRLEnv(EnvBase):
    """``DrivingVectorEnv`` with TorchRL's partial resets: worlds that are over begin anew where the collector asks for it.

    Tensordicts have batch size (worlds,), the keys of the observation, ``action``, ``reward`` (worlds, 1), ``terminated``,
    ``truncated`` and ``done`` (worlds, 1). The undiscounted return is the PDM Score, so ``RewardSum`` reports it.

    Args:
        envs: Made with ``autoreset_mode=AutoresetMode.DISABLED``, with copies of observations (its default).
        horizon_is_end: At the horizon the score is complete and nothing more can be earned, so by default ``terminated`` is set
            there too; False leaves it to ``truncated`` alone, and value estimators bootstrap beyond it.
    """

    def __init__(self, envs: DrivingVectorEnv, horizon_is_end: bool = True):
        if envs.metadata["autoreset_mode"] is not AutoresetMode.DISABLED:
            raise ValueError("TorchRL resets worlds itself: make the environment with autoreset_mode=AutoresetMode.DISABLED")
        if not envs.copy:
            raise ValueError("observations are kept for learning: make the environment with copy=True")
        super().__init__(device="cpu", batch_size=[envs.num_envs])
        self.envs, self.horizon_is_end = envs, horizon_is_end
        self._seed: int | None = None
        size = self.batch_size
        self.observation_spec = Composite(
            {
                name: Bounded(space.low, space.high, space.shape, dtype=torch.as_tensor(space.low).dtype)
                for name, space in envs.observation_space.items()
            },
            shape=size,
        )
        action = envs.single_action_space
        if hasattr(action, "n"):
            self.action_spec = Categorical(int(action.n), shape=size)
        else:
            self.action_spec = Bounded(-1.0, 1.0, (*size, *action.shape), dtype=torch.float32)
        self.reward_spec = Unbounded((*size, 1))
        flag = Categorical(2, shape=(*size, 1), dtype=torch.bool)
        self.done_spec = Composite({"done": flag, "terminated": flag.clone(), "truncated": flag.clone()}, shape=size)

    def _set_seed(self, seed: int | None) -> None:
        self._seed = seed

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs) -> TensorDict:
        mask = None if tensordict is None else tensordict.get("_reset", None)
        options = None if mask is None else {"reset_mask": mask.reshape(-1).numpy()}
        observations, _ = self.envs.reset(seed=self._seed, options=options)
        self._seed = None
        over = torch.zeros(*self.batch_size, 1, dtype=torch.bool)
        flags = {"done": over, "terminated": over.clone(), "truncated": over.clone()}
        return TensorDict(_tensors(observations) | flags, self.batch_size)

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        observations, rewards, terminated, truncated, _ = self.envs.step(tensordict["action"].numpy())
        done = terminated | truncated
        content = {
            "reward": rewards.astype(np.float32),
            "done": done,
            "terminated": done if self.horizon_is_end else terminated,
            "truncated": truncated,
        }
        columns = {name: torch.as_tensor(value)[:, None].clone() for name, value in content.items()}
        return TensorDict(_tensors(observations) | columns, self.batch_size)


def _tensors(observations: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.as_tensor(value) for name, value in observations.items()}
