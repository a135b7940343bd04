"""The keyword arguments that all environments share, checked once."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from worldengine_envs.envs.actions import ACTION_KINDS, DECISION_PERIOD_S, action_space
from worldengine_envs.envs.anchors import load_vocabulary
from worldengine_envs.envs.batch import WorldBatch
from worldengine_envs.envs.selection import Selection, select
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import STEP_S

RENDER_MODES = (None, "rgb_array")


@dataclass(frozen=True)
class EnvironmentSettings:
    """Which scenarios are driven, and how.

    Args:
        pack: Name or folder of a pack, an open ``Pack``, or scenarios in memory.
        scenario: Id or ids to choose from; None = all of the pack.
        split: Only scenarios of this split.
        tags: Only scenarios that carry all of these (or this one).
        observation: "state".
        action: "control", "trajectory" or "anchor".
        traffic: "log", "idm", or a mapping from track token to one of them ("*" = all others).
        decision_period_s: Time between decisions [s], a multiple of 0.1; None = 0.1 for `control`, 0.5 for the others.
        horizon_s: Length of an episode [s].
        tracker: "lqr" (with the kinematic bicycle) or "perfect" (plans are followed exactly).
        anchors: Vocabulary of `anchor`: an .npy file or poses (n, K, 3); None = the one that ships.
        render_mode: None or "rgb_array".
        cameras, image_size, renderer, device: Of camera observations.

    Raises:
        DataError: An argument is not what it has to be.
    """

    pack: object
    scenario: str | Iterable[str] | None = None
    split: str | None = None
    tags: str | Iterable[str] | None = None
    observation: str = "state"
    action: str = "control"
    traffic: str | Mapping[str, str] = "log"
    decision_period_s: float | None = None
    horizon_s: float = 4.0
    tracker: str = "lqr"
    anchors: str | os.PathLike | np.ndarray | None = None
    render_mode: str | None = None
    cameras: Iterable[str] | None = None
    image_size: tuple[int, int] | None = None
    renderer: str = "auto"
    device: str | None = None

    def __post_init__(self):
        self._check_observation()
        self._check_traffic()
        _choice("action", self.action, tuple(ACTION_KINDS))
        _choice("tracker", self.tracker, ("lqr", "perfect"))
        _choice("render_mode", self.render_mode, RENDER_MODES)
        for name, seconds in (("horizon_s", self.horizon_s), ("decision_period_s", self.decision_period_s)):
            if seconds is None:
                continue
            steps = seconds / STEP_S if math.isfinite(seconds) else 0.0
            if steps < 1 - 1e-8 or abs(steps - round(steps)) > 1e-6:
                raise DataError(f"{seconds!r} is not a positive multiple of {STEP_S} s", field=name)
        if self.action != "control" and self.substeps * STEP_S > 4.0:
            raise DataError(f"{self.decision_period_s} s is longer than a plan of 4 s", field="decision_period_s")

    def _check_observation(self) -> None:
        _choice("observation", self.observation, ("state", "camera", "camera+state"))
        asked = {"cameras": self.cameras, "image_size": self.image_size, "device": self.device}
        given = [name for name, value in asked.items() if value is not None]
        if self.renderer != "auto":
            given.append("renderer")
        if self.observation != "state" or given:
            field = given[0] if self.observation == "state" else "observation"
            raise DataError(
                "cameras are drawn from a Gaussian scene, and no scenario has one in this version",
                field=field,
                remedy='Use observation="state"; `worldengine reconstruct` will make scenes from camera logs',
            )

    def _check_traffic(self) -> None:
        modes = [self.traffic] if isinstance(self.traffic, str) else list(self.traffic.values())
        if "behavior" in modes:
            raise DataError(
                "no behaviour model is available: this version has none to drive agents with",
                field="traffic",
                remedy='Use traffic="log" or "idm", or a mapping by track token',
            )
        for mode in modes:
            _choice("traffic", mode, ("log", "idm"))

    @property
    def substeps(self) -> int:
        """Steps of 0.1 s between decisions."""
        period = DECISION_PERIOD_S[self.action] if self.decision_period_s is None else self.decision_period_s
        return round(period / STEP_S)

    def selection(self) -> Selection:
        """Returns the scenarios to draw from."""
        return select(self.pack, self.scenario, self.split, self.tags, self.horizon_s)

    def make_batch(self, num_worlds: int) -> WorldBatch:
        """Returns worlds that run under these settings."""
        vocabulary = load_vocabulary(self.anchors) if self.action == "anchor" else None
        return WorldBatch(
            self.selection(),
            num_worlds,
            self.horizon_s,
            self.traffic,
            ACTION_KINDS[self.action],
            self.substeps,
            self.tracker == "perfect",
            vocabulary,
        )

    def single_action_space(self, batch: WorldBatch):
        """Returns the space of one world's action."""
        return action_space(self.action, len(batch.decisions.vocabulary))


def _choice(name: str, value, options: tuple) -> None:
    if value not in options:
        raise DataError(f"{value!r} is not one of {', '.join(map(repr, options))}", field=name)
