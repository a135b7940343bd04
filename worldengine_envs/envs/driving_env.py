"""One world as a Gymnasium environment."""

from __future__ import annotations

from functools import cached_property

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import EzPickle

from worldengine_envs.envs.infos import confidence_info, end_info, score_info, start_info
from worldengine_envs.envs.settings import EnvironmentSettings

_WORLD = np.zeros(1, np.int64)


class DrivingEnv(gym.Env, EzPickle):
    """A scenario to drive in; the undiscounted return of an episode is its PDM Score (``pdms-live``).

    Keyword arguments are those of ``EnvironmentSettings``. An episode is terminated by a failure (an at-fault collision with an
    agent, or leaving the drivable area) and truncated at the horizon, or where its images fall below ``min_confidence``. A reset
    draws one of the chosen scenarios; ``reset(options={"scenario": id})`` takes that one.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's convention)

    def __init__(self, pack, **settings):
        EzPickle.__init__(self, pack, **settings)
        self.settings = EnvironmentSettings(pack, **settings)
        self.render_mode = self.settings.render_mode
        self.batch = self.settings.make_batch(1)
        self.observation_space = self.settings.observation_space(self.batch)
        self.action_space = self.settings.single_action_space(self.batch)
        self.metadata = {**self.metadata, "render_fps": round(10 / self.settings.substeps) or 1}
        self._running = self._begun = False

    @cached_property
    def photographer(self):
        """``envs.pictures.Photographer`` of the world."""
        return self.settings.photographer(self.batch)

    @property
    def scenario_ids(self) -> tuple[str, ...]:
        """Ids of the scenarios that a reset draws from."""
        return self.batch.selection.ids

    @property
    def left_out(self) -> dict[str, str]:
        """Scenarios that were asked for and cannot be driven, with the reason."""
        return self.batch.selection.left_out

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """Starts an episode; options: {"scenario": id}.

        Raises:
            DataError: The scenario of that id was not chosen or cannot be read.
        """
        super().reset(seed=seed)
        selection = self.batch.selection
        pinned = (options or {}).get("scenario")
        name = selection.check(pinned) if pinned is not None else selection.ids[self.np_random.integers(len(selection.ids))]
        self.batch.begin(_WORLD, [name])
        self.batch.look(_WORLD)
        self._running = self._begun = True
        return self._observation(), start_info(self.batch, 0) | confidence_info(self.batch, 0)

    def step(self, action) -> tuple[dict, float, bool, bool, dict]:
        """Drives until the next decision.

        Raises:
            ResetNeeded: The episode is over.
            ValueError: The action is not finite or has another shape.
        """
        if not self._running:
            raise ResetNeeded("the episode is over (or none was begun): call reset()")
        batch = self.batch
        batch.drive(True, np.asarray(action)[None])
        batch.look_on(_WORLD)
        d = batch.decisions
        terminated, truncated = bool(d.terminated[0]), bool(d.truncated[0])
        info = score_info(batch, 0)
        if terminated or truncated:
            info.update(end_info(batch, 0))
            self._running = False
        return self._observation(), float(d.reward[0]), terminated, truncated, info

    def render(self) -> np.ndarray | None:
        """Returns (height, width, 3) uint8: the scene from above, and what its cameras see; None without a mode.

        Raises:
            ResetNeeded: Nothing was begun.
        """
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode; make the environment with render_mode='rgb_array'")
            return None
        if not self._begun:
            raise ResetNeeded("there is nothing to draw yet: call reset()")
        return self.photographer.picture(0)

    def _observation(self) -> dict[str, np.ndarray]:
        return {name: array[0].copy() for name, array in self.batch.observed.items()}
