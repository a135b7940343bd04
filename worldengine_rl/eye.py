"""The eye of a camera policy: a small convolutional network from images to features, trained first and then frozen."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from torch import nn

SEEN = "seen"  # key of what the eye sees, in place of the images
LAYERS = ((24, 5, 2), (48, 3, 2), (64, 3, 2), (96, 3, 1))  # channels, kernel and stride
STRIDE = 8  # of all layers together
TALL = 128  # channels of the layer over the whole height
MEAN, DEVIATION = 0.4, 0.2  # of images in [0, 1], about


def num_columns(width: int) -> int:
    """Returns the number of columns that an image of this width [px] is seen in."""
    return -(-width // STRIDE)


class Eye(nn.Module):
    """Looks at every column of 8 pixels and what is beside it, from top to bottom, in the same way; one network for all cameras.

    Directions are columns of an image, and how far away something on level ground is shows in its height there: so a few numbers
    for each column say what is there.

    Args:
        cameras: Keys of the images in observations, in order.
        image_size: Height and width of the images [px].
        history: Images stacked along the channels of each.
        column_features: Numbers that come out for each column.
    """

    def __init__(self, cameras: tuple[str, ...], image_size: tuple[int, int], history: int, column_features: int):
        super().__init__()
        height, width = image_size
        self.cameras, self.column_features = tuple(cameras), column_features
        self.features = len(self.cameras) * num_columns(width) * column_features
        layers, channels = [], 3 * history
        for out, kernel, stride in LAYERS:
            layers += [nn.Conv2d(channels, out, kernel, stride, kernel // 2), nn.ReLU()]
            channels = out
        layers += [nn.Conv2d(channels, TALL, (-(-height // STRIDE), 3), 1, (0, 1)), nn.ReLU(), nn.Conv2d(TALL, column_features, 1)]
        self.look = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        for layer in self.look:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def columns(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, H, W, 3 * history) uint8 -> (batch, column_features, columns). Convolutions are done in bfloat16."""
        pixels = (image.permute(0, 3, 1, 2) / 255.0 - MEAN) / DEVIATION
        with torch.autocast(image.device.type, torch.bfloat16):
            return self.look(pixels)[:, :, 0].float()

    def forward(self, images: dict[str, torch.Tensor]) -> torch.Tensor:
        """(batch, H, W, 3 * history) uint8 by camera -> (batch, features)."""
        return torch.cat([self.columns(images[name]).flatten(1) for name in self.cameras], 1)


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
