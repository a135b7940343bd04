"""The eye of a camera policy: a small convolutional network from images to features, trained first and then frozen."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from torch import nn

SEEN = "seen"  # key of what the eye sees, in place of the images
LAYERS = ((24, 5), (48, 3), (64, 3), (96, 3))  # channels and kernel of layers with stride 2


class Eye(nn.Module):
    """One network for all cameras, a linear layer over what it finds in each.

    Args:
        cameras: Keys of the images in observations, in order.
        image_size: Height and width of the images [px].
        history: Images stacked along the channels of each.
        features: Length of what comes out.
    """

    def __init__(self, cameras: tuple[str, ...], image_size: tuple[int, int], history: int, features: int):
        super().__init__()
        self.cameras, self.features = tuple(cameras), features
        layers, channels = [], 3 * history
        for width, kernel in LAYERS:
            layers += [nn.Conv2d(channels, width, kernel, 2, kernel // 2), nn.ReLU()]
            channels = width
        self.look = nn.Sequential(*layers, nn.Flatten()).to(memory_format=torch.channels_last)
        with torch.no_grad():
            size = self.look(torch.zeros(1, 3 * history, *image_size)).shape[1]
        self.gather = nn.Sequential(nn.Linear(size * len(self.cameras), features), nn.LayerNorm(features), nn.ReLU())

    def forward(self, images: dict[str, torch.Tensor]) -> torch.Tensor:
        """(batch, H, W, 3 * history) uint8 by camera -> (batch, features). Convolutions are done in bfloat16."""
        with torch.autocast(self.gather[0].weight.device.type, torch.bfloat16):
            found = [self.look(images[name].permute(0, 3, 1, 2) / 255.0 - 0.5) for name in self.cameras]
            gathered = self.gather[0](torch.cat(found, 1))
        return self.gather[1:](gathered.float())


@torch.no_grad()
def see(eye: Eye, observations: dict[str, np.ndarray], batch_size: int = 512) -> dict[str, np.ndarray]:
    """Returns observations (batch, ...) with what the eye sees in place of images: (batch, features) float32 under ``SEEN``."""
    rows = len(observations[eye.cameras[0]])
    device = next(eye.parameters()).device
    seen = np.zeros((rows, eye.features), np.float32)
    for start in range(0, rows, batch_size):
        part = slice(start, start + batch_size)
        images = {name: torch.as_tensor(observations[name][part], device=device) for name in eye.cameras}
        seen[part] = eye(images).cpu().numpy()
    return {name: value for name, value in observations.items() if name not in eye.cameras} | {SEEN: seen}


class SeeingEnv(VecEnvWrapper):
    """Worlds whose images are looked at right away: observations hold what the eye sees instead, which is small enough to keep."""

    def __init__(self, envs: VecEnv, eye: Eye):
        shapes = {name: space for name, space in envs.observation_space.items() if name not in eye.cameras}
        shapes[SEEN] = spaces.Box(-np.inf, np.inf, (eye.features,), np.float32)
        super().__init__(envs, spaces.Dict(shapes))
        self.eye = eye

    def reset(self) -> dict[str, np.ndarray]:
        """Starts episodes in all worlds; returns observations."""
        return see(self.eye, self.venv.reset())

    def step_wait(self) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, list[dict]]:
        """Returns observations, rewards, ends and infos, whose ``terminal_observation`` the eye has seen too."""
        observations, rewards, dones, infos = self.venv.step_wait()
        last = [info["terminal_observation"] for info in infos if "terminal_observation" in info]
        if last:
            seen = see(self.eye, {name: np.stack([one[name] for one in last]) for name in last[0]})
            ends = (info for info in infos if "terminal_observation" in info)
            for i, info in enumerate(ends):
                info["terminal_observation"] = {name: value[i] for name, value in seen.items()}
        return see(self.eye, observations), rewards, dones, infos
