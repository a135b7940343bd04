"""A policy that looks: the actor has cameras, its own motion and the route. Only the critic, needed to learn, has the state."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces

from worldengine_envs.envs.observations import state_space
from worldengine_envs.rendering.cameras import RIGS
from worldengine_rl.eye import SEEN, Eye, num_columns, see
from worldengine_rl.policies import DrivingPolicy, StateEncoder

ACTOR_KEYS = ("ego", "route", SEEN)


def camera_space(rig: str, image_size: tuple[int, int], column_features: int) -> spaces.Dict:
    """Returns the space of what a camera policy learns from: a state observation, and what its eye sees."""
    features = len(RIGS[rig].names) * num_columns(image_size[1]) * column_features
    return spaces.Dict({**state_space().spaces, SEEN: spaces.Box(-np.inf, np.inf, (features,), np.float32)})


class CameraPolicy(DrivingPolicy):
    """``DrivingPolicy`` over what an eye sees. The eye is trained by ``perception`` and frozen from then on.

    Args:
        rig: Name of a rig of ``rendering.cameras.RIGS``.
        image_height, image_width: Of the images [px].
        image_history: Images, 0.5 s apart, that each observation has of each camera.
        column_features: Numbers that the eye gives for each column of 8 pixels.
        Others as in ``DrivingPolicy``.
    """

    def __init__(
        self,
        observation_space,
        action_space,
        lr_schedule,
        rig: str = "front",
        image_height: int = 72,
        image_width: int = 128,
        image_history: int = 2,
        column_features: int = 12,
        **arguments,
    ):
        self.rig, self.image_size, self.image_history = rig, (image_height, image_width), image_history
        self.column_features = column_features
        super().__init__(observation_space, action_space, lr_schedule, **arguments)

    def _build(self, lr_schedule) -> None:
        parts = self.observation_space.spaces
        actor, critic = ({k: v for k, v in parts.items() if (k in ACTOR_KEYS if i == 0 else k != SEEN)} for i in (0, 1))
        widths = {"width": self.encoder_width, "features_dim": self.trunk_width}
        self.features_extractor = self.pi_features_extractor = StateEncoder(spaces.Dict(actor), **widths)
        self.vf_features_extractor = StateEncoder(spaces.Dict(critic), **widths)
        super()._build(lr_schedule)
        self.eye = Eye(RIGS[self.rig].names, self.image_size, self.image_history, self.column_features).requires_grad_(False)

    @property
    def plain_arguments(self) -> dict:
        """What ``policy_kwargs`` of a model around this policy are."""
        height, width = self.image_size
        return super().plain_arguments | {
            "rig": self.rig,
            "image_height": height,
            "image_width": width,
            "image_history": self.image_history,
            "column_features": self.column_features,
        }

    @property
    def world_arguments(self) -> dict:
        """What worlds to drive in are made with."""
        return super().world_arguments | {
            "observation": "camera",
            "cameras": self.rig,
            "image_size": self.image_size,
            "image_history": self.image_history,
        }

    @property
    def training_world_arguments(self) -> dict:
        """What worlds to learn in are made with: the critic sees the state."""
        return self.world_arguments | {"observation": "camera+state"}

    def seen(self, observations: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns observations with what the eye sees in place of images."""
        return see(self.eye, observations)

    @torch.no_grad()
    def act(self, observations: dict[str, np.ndarray], deterministic: bool = True) -> np.ndarray:
        """Returns the (batch, ...) actions for a batch of camera observations."""
        return super().act({name: value for name, value in self.seen(observations).items() if name in ACTOR_KEYS}, deterministic)
