"""A small policy for state observations: masked set encoders, then one trunk for the actor and one for the critic."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from worldengine_envs.envs.actions import POSES

MASK = "_mask"  # the set "agents" (elements, features) comes with "agents_mask" (elements,), 1 where the element exists
CLIP = 10.0  # standardised inputs are clipped to this many standard deviations


class Standardise(nn.Module):
    """(x - shift) / scale by feature, both set from data once and saved with the policy; the identity until then."""

    def __init__(self, features: int):
        super().__init__()
        self.register_buffer("shift", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))

    def fit(self, rows: torch.Tensor) -> None:
        """Takes mean and standard deviation of (rows, features); a feature that does not vary is left as it is."""
        if len(rows) == 0:
            return
        deviation = rows.std(0, unbiased=False)
        varies = deviation > 1e-6
        self.shift.copy_(torch.where(varies, rows.mean(0), torch.zeros_like(deviation)))
        self.scale.copy_(torch.where(varies, deviation, torch.ones_like(deviation)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x - self.shift) / self.scale).clamp(-CLIP, CLIP)


class SetEncoder(nn.Module):
    """Elements one by one through two layers, told what the ego does, then the maximum over those that exist (PointNet)."""

    def __init__(self, features: int, context: int, width: int):
        super().__init__()
        self.standardise = Standardise(features)
        self.element, self.context = nn.Linear(features, width), nn.Linear(context, width, bias=False)
        self.second = nn.Linear(width, width)

    def forward(self, elements: torch.Tensor, mask: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """(batch, elements, features), (batch, elements), (batch, context) -> (batch, width) >= 0, zeros for an empty set."""
        hidden = torch.relu(self.element(self.standardise(elements)) + self.context(context).unsqueeze(1))
        hidden = torch.relu(self.second(hidden))
        return (hidden * (mask > 0.5).unsqueeze(-1)).amax(1)  # relu outputs are >= 0, so 0 is "nothing there"


class StateEncoder(BaseFeaturesExtractor):
    """Encodes a one-level Dict: every key with a mask beside it is a set, the others are vectors (flattened)."""

    def __init__(self, observation_space: spaces.Dict, width: int = 64, features_dim: int = 128):
        super().__init__(observation_space, features_dim)
        shapes = {name: space.shape for name, space in observation_space.items()}
        self.sets = [name for name in shapes if name + MASK in shapes]
        self.vectors = [name for name in shapes if name not in self.sets and not name.endswith(MASK)]
        context = sum(int(np.prod(shapes[name])) for name in self.vectors)
        self.standardise = Standardise(context)
        self.encoders = nn.ModuleDict({name: SetEncoder(shapes[name][-1], context, width) for name in self.sets})
        self.trunk = nn.Linear(context + width * len(self.sets), features_dim)

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """Dict of (batch, ...) -> (batch, features_dim)."""
        context = self.standardise(self._vector(observations))
        parts = [self.encoders[name](observations[name], observations[name + MASK], context) for name in self.sets]
        return torch.relu(self.trunk(torch.cat([context, *parts], 1)))

    def _vector(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([observations[name].flatten(1) for name in self.vectors], 1)

    @torch.no_grad()
    def fit_inputs(self, observations: dict[str, torch.Tensor]) -> None:
        """Sets the standardisation of all inputs from a data set of observations."""
        self.standardise.fit(self._vector(observations))
        for name, encoder in self.encoders.items():
            encoder.standardise.fit(observations[name][observations[name + MASK] > 0.5])


class AnchorHead(nn.Module):
    """Scores each anchor by the product of what the situation asks for with an embedding of the anchor's poses, plus a bias.

    Anchors that are alike get scores that are alike, so what is learned with one holds for its neighbours too. The poses are in the
    buffer ``anchors`` (n, 8, 3), x, y [m], yaw [rad] of the rear axle every 0.5 s; zeros until they are set.
    """

    SCALE = (20.0, 5.0, 0.5)  # of x [m], y [m], yaw [rad]

    def __init__(self, latent: int, anchors: int, width: int = 64):
        super().__init__()
        self.register_buffer("anchors", torch.zeros(anchors, POSES, 3))
        self.query = nn.Linear(latent, width)
        self.key = nn.Sequential(nn.Linear(3 * POSES, width), nn.ReLU(), nn.Linear(width, width))
        self.bias = nn.Linear(latent, anchors)
        nn.init.zeros_(self.bias.weight)
        nn.init.zeros_(self.bias.bias)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """(batch, latent) -> (batch, anchors) logits."""
        keys = self.key((self.anchors / self.anchors.new_tensor(self.SCALE)).flatten(1))
        return self.query(latent) @ keys.T / keys.shape[1] ** 0.25 + self.bias(latent)


class DrivingPolicy(ActorCriticPolicy):
    """Actor and critic with an encoder each (so that training the critic never moves the actor).

    A policy over anchors keeps them, so that a checkpoint is all that it takes to drive.

    Args:
        encoder_width: width of the set encoders.
        trunk_width: width of the layers after them.
        Others as in SB3's ``ActorCriticPolicy``; plain numbers only are needed, so that ``load_policy`` reads no pickle.
    """

    def __init__(self, observation_space, action_space, lr_schedule, encoder_width: int = 64, trunk_width: int = 128, **arguments):
        self.encoder_width, self.trunk_width = encoder_width, trunk_width
        arguments = {"log_std_init": -1.0} | arguments
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch={"pi": [trunk_width], "vf": [trunk_width]},
            activation_fn=nn.ReLU,
            features_extractor_class=StateEncoder,
            features_extractor_kwargs={"width": encoder_width, "features_dim": trunk_width},
            share_features_extractor=False,
            **arguments,
        )

    def _build(self, lr_schedule) -> None:
        super()._build(lr_schedule)
        if isinstance(self.action_space, spaces.Discrete):
            self.action_net = AnchorHead(self.mlp_extractor.latent_dim_pi, int(self.action_space.n))
            self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    @property
    def anchors(self) -> torch.Tensor:
        """(n, 8, 3) vocabulary of a policy over anchors."""
        return self.action_net.anchors

    @property
    def plain_arguments(self) -> dict:
        """What ``policy_kwargs`` of a model around this policy are: plain numbers and names."""
        return {"encoder_width": self.encoder_width, "trunk_width": self.trunk_width}

    @property
    def world_arguments(self) -> dict:
        """What worlds for this policy are made with: keyword arguments of ``DrivingVectorEnv``."""
        return {"observation": "state", **self._action_arguments()}

    @property
    def training_world_arguments(self) -> dict:
        """What worlds to learn in are made with."""
        return self.world_arguments

    def _action_arguments(self) -> dict:
        if isinstance(self.action_space, spaces.Discrete):
            return {"action": "anchor", "anchors": self.anchors.cpu().numpy()}
        return {"action": {(2,): "control", (POSES, 3): "trajectory"}[self.action_space.shape]}

    def fit_inputs(self, observations: dict[str, torch.Tensor]) -> None:
        """Sets the standardisation of the inputs of actor and critic from a data set of observations."""
        for extractor in (self.pi_features_extractor, self.vf_features_extractor):
            extractor.fit_inputs(observations)

    @torch.no_grad()
    def act(self, observations: dict[str, np.ndarray], deterministic: bool = True) -> np.ndarray:
        """Returns the (batch, ...) actions for a batch of observations, without the checks of ``predict``."""
        tensors = {name: torch.as_tensor(value, device=self.device) for name, value in observations.items()}
        actions = self.get_distribution(tensors).get_actions(deterministic=deterministic).cpu().numpy()
        if isinstance(self.action_space, spaces.Box):
            actions = np.clip(actions, self.action_space.low, self.action_space.high)
        return actions
