"""A vector environment for Stable-Baselines3. Importing this module loads torch (through SB3)."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from worldengine_envs.envs.vector_env import DrivingVectorEnv


class SB3VecEnv(VecEnv):
    """``DrivingVectorEnv`` as SB3 wants it: reset within the step, with ``terminal_observation`` and ``TimeLimit.truncated``.

    Args:
        envs: Made with ``autoreset_mode=AutoresetMode.SAME_STEP``, with copies of observations (its default).
        horizon_is_end: At the horizon the score is complete and nothing more can be earned, so by default it counts as an end like
            any other. False sets ``TimeLimit.truncated`` there, and SB3's algorithms add what they expect beyond it to the reward.
    """

    def __init__(self, envs: DrivingVectorEnv, horizon_is_end: bool = True):
        if envs.metadata["autoreset_mode"] is not AutoresetMode.SAME_STEP:
            raise ValueError("SB3 resets within the step: make the environment with autoreset_mode=AutoresetMode.SAME_STEP")
        if not envs.copy:
            raise ValueError("observations are kept for learning: make the environment with copy=True")
        self.envs, self.render_mode, self.horizon_is_end = envs, envs.render_mode, horizon_is_end
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)
        self._actions: np.ndarray | None = None

    def reset(self) -> dict[str, np.ndarray]:
        """Starts episodes in all worlds with the seeds and options set before; returns observations."""
        seeds = self._seeds if any(seed is not None for seed in self._seeds) else None
        observations, infos = self.envs.reset(seed=seeds, options=self._options[0] or None)
        self.reset_infos = self._list(infos, np.ones(self.num_envs, np.bool_))
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Keeps the actions for ``step_wait``."""
        self._actions = actions

    def step_wait(self) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, list[dict]]:
        """Returns observations, rewards, ends and one info a world."""
        observations, rewards, terminated, truncated, infos = self.envs.step(self._actions)
        done = terminated | truncated
        listed = self._list(infos, ~done)
        if done.any():
            final, began = self._list(infos["final_info"], done), self._list(infos, done)
            for w in np.flatnonzero(done):
                listed[w] = final[w]
                listed[w]["terminal_observation"] = infos["final_obs"][w]
                listed[w]["TimeLimit.truncated"] = bool(truncated[w]) and not self.horizon_is_end
                self.reset_infos[w] = began[w]
        return observations, rewards.astype(np.float32), done, listed

    def _list(self, infos: dict, worlds: np.ndarray) -> list[dict]:
        """Returns a dict for each world from arrays with masks."""
        listed: list[dict] = [{} for _ in range(self.num_envs)]
        for name, values in infos.items():
            mask = infos.get(f"_{name}")
            if mask is None or name in ("final_obs", "final_info"):
                continue
            for w in np.flatnonzero(mask & worlds):
                value = values[w]
                listed[w][name] = value.item() if isinstance(value, np.generic) else value
        return listed

    def close(self) -> None:
        """Closes the worlds."""
        self.envs.close()

    def get_images(self) -> list[np.ndarray | None]:
        """Returns a picture of each world."""
        return list(self.envs.render() or [None] * self.num_envs)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Returns the attribute of the vector environment, once for each world asked for."""
        return [getattr(self.envs, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute of the vector environment; the worlds cannot differ in it."""
        setattr(self.envs, attr_name, value)

    def env_method(self, method_name: str, *args, indices: VecEnvIndices = None, **kwargs) -> list[Any]:
        """Calls a method of the vector environment once and returns the result for each world asked for."""
        return [getattr(self.envs, method_name)(*args, **kwargs)] * len(list(self._get_indices(indices)))

    def env_is_wrapped(self, wrapper_class, indices: VecEnvIndices = None) -> list[bool]:
        """Worlds have no wrappers."""
        return [False] * len(list(self._get_indices(indices)))
