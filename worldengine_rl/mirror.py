"""The mirror image of a situation: left and right change places. What is learned in one holds in the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from worldengine_envs.envs.sb3 import SB3VecEnv

# which features of a state observation change sign, and which pairs (left, right) change places (envs/observations.py)
NEGATED = {"ego": (2, 3, 4, 5, 6, 15), "route": (1,), "agents": (1, 3, 5), "map": (1, 3)}
SWAPPED = {"route": (2, 3), "map": (4, 5)}


def mirrored(observations: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns observations (batch, ...) of the mirrored situations."""
    images = {name: value for name, value in observations.items() if value.dtype == np.uint8}
    result = {name: value.copy() for name, value in observations.items() if name not in images}
    for name, features in NEGATED.items():
        if name in result:
            result[name][..., features] *= -1.0
    for name, (left, right) in SWAPPED.items():
        if name in result:
            result[name][..., [left, right]] = result[name][..., [right, left]]
    return result | mirrored_images(images)


def mirrored_images(images: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns images (..., H, W, channels) by camera in the mirror: what the left camera sees is what the right one would see."""

    def opposite(name: str) -> str:
        return name.replace("_L", "_?").replace("_R", "_L").replace("_?", "_R")

    return {opposite(name): np.ascontiguousarray(image[..., ::-1, :]) for name, image in images.items()}


def mirrored_poses(poses: np.ndarray) -> np.ndarray:
    """Returns poses (..., 3) x, y [m], yaw [rad] relative to the ego of the mirrored situation."""
    return poses * np.array([1.0, -1.0, -1.0], poses.dtype)


class HalfMirrored(VecEnv):
    """Worlds over anchors, every other one of which is seen and driven in the mirror: twice the variety for the price of none.

    Args:
        plain: Worlds as they are; they are the even ones.
        in_mirror: As many over the same scenarios, made with ``mirrored_poses`` of the anchors; the odd ones.
    """

    def __init__(self, plain: SB3VecEnv, in_mirror: SB3VecEnv):
        if plain.num_envs != in_mirror.num_envs:
            raise ValueError(f"{plain.num_envs} worlds as they are, {in_mirror.num_envs} in the mirror")
        self.parts, self.render_mode = (plain, in_mirror), plain.render_mode
        super().__init__(2 * plain.num_envs, plain.observation_space, plain.action_space)

    def reset(self) -> dict[str, np.ndarray]:
        """Starts episodes in all worlds with the seeds and options set before; returns observations."""
        names, seeds = self._options[0].get("scenarios"), self._seeds
        for i, part in enumerate(self.parts):
            part._seeds = seeds[i::2]
            part.set_options({"scenarios": names[i::2]} if names is not None else self._options[0])
        self._reset_seeds()
        self._reset_options()
        return self._interleaved_observations([part.reset() for part in self.parts])

    def step_async(self, actions: np.ndarray) -> None:
        """Hands every part its actions."""
        for i, part in enumerate(self.parts):
            part.step_async(actions[i::2])

    def step_wait(self) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, list[dict]]:
        """Returns observations, rewards, ends and one info a world."""
        (seen, *plain), (seen_in_mirror, *in_mirror) = (part.step_wait() for part in self.parts)
        for info in in_mirror[2]:
            if "terminal_observation" in info:
                info["terminal_observation"] = mirrored(info["terminal_observation"])
        rewards, dones = (np.stack([a, b], 1).reshape(-1) for a, b in zip(plain[:2], in_mirror[:2], strict=True))
        infos = [info for pair in zip(plain[2], in_mirror[2], strict=True) for info in pair]
        return self._interleaved_observations([seen, seen_in_mirror]), rewards, dones, infos

    def _interleaved_observations(self, parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        plain, in_mirror = parts[0], mirrored(parts[1])
        return {name: np.stack([plain[name], in_mirror[name]], 1).reshape(-1, *plain[name].shape[1:]) for name in plain}

    def close(self) -> None:
        """Closes all worlds."""
        for part in self.parts:
            part.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Returns the attribute of the vector environment that a world belongs to."""
        return [getattr(self.parts[i % 2].envs, attr_name) for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute of both vector environments; worlds cannot differ in it."""
        for part in self.parts:
            part.set_attr(attr_name, value)

    def env_method(self, method_name: str, *args, indices: VecEnvIndices = None, **kwargs) -> list[Any]:
        """Calls a method of both vector environments and returns for each world what its own gave."""
        results = [part.env_method(method_name, *args, indices=0, **kwargs)[0] for part in self.parts]
        return [results[i % 2] for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class, indices: VecEnvIndices = None) -> list[bool]:
        """Worlds have no wrappers."""
        return [False] * len(list(self._get_indices(indices)))
