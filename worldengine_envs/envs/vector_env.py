"""Many worlds as one Gymnasium vector environment: one kernel call a decision, no wrappers, no copies of environments."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import EzPickle, seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from worldengine_envs.envs.infos import TERMS, end_info, start_info
from worldengine_envs.envs.settings import EnvironmentSettings
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import STEP_S


class DrivingVectorEnv(VectorEnv, EzPickle):
    """``DrivingEnv`` over a batch: world i behaves as a single environment with seed ``seed + i``, bit for bit.

    Args:
        pack: As in ``EnvironmentSettings``, like the other settings.
        num_envs: Number of worlds.
        autoreset_mode: Gymnasium's NEXT_STEP, SAME_STEP or DISABLED (enum or its value).
        max_episode_steps: Decisions after which an episode is truncated; only with a horizon that is at least as long.
        copy: Whether observations are copies; without, they are overwritten by the next step.
        settings: Keyword arguments of ``EnvironmentSettings``.

    ``reset`` takes options {"scenario": id} for all worlds, {"scenarios": [id, ...]} one for each world, and {"reset_mask": (W,)
    bool array} to reset some of them.
    """

    def __init__(
        self,
        pack,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        copy: bool = True,
        **settings,
    ):
        EzPickle.__init__(self, pack, num_envs, autoreset_mode, max_episode_steps, copy, **settings)
        if num_envs < 1:
            raise DataError(f"{num_envs} is not 1 or more", field="num_envs")
        self.settings = EnvironmentSettings(pack, **_with_horizon(settings, max_episode_steps))
        self.render_mode, self.num_envs, self.copy = self.settings.render_mode, num_envs, copy
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.batch = self.settings.make_batch(num_envs, on_device=True)
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": round(10 / self.settings.substeps) or 1,
            "autoreset_mode": self.autoreset_mode,
        }
        self.single_observation_space = self.settings.observation_space(self.batch)
        self.single_action_space = self.settings.single_action_space(self.batch)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._everyone = np.arange(num_envs)
        self._done = np.ones(num_envs, np.bool_)  # over, or never begun
        self._begun = False

    @cached_property
    def photographer(self):
        """``envs.pictures.Photographer`` of the worlds."""
        return self.settings.photographer(self.batch)

    @property
    def scenario_ids(self) -> tuple[str, ...]:
        """Ids of the scenarios that resets draw from."""
        return self.batch.selection.ids

    @property
    def left_out(self) -> dict[str, str]:
        """Scenarios that were asked for and cannot be driven, with the reason."""
        return self.batch.selection.left_out

    @property
    def vocabulary(self) -> np.ndarray:
        """(n, K, 3) float64 plans of the action kind `anchor`: x, y [m], yaw [rad] relative to the rear axle."""
        return self.batch.decisions.vocabulary

    def recordings(self, scenario_ids: Sequence[str]) -> list[str]:
        """Returns the name of the recording of each scenario; windows of one recording share it."""
        self.batch.load(list(scenario_ids))
        origins = [self.batch.scenario(name).origin for name in scenario_ids]
        return [f"{origin.dataset}/{origin.log}/{origin.token}" for origin in origins]

    def reset(self, *, seed: int | list[int | None] | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """Starts episodes in all worlds, or in those of the reset mask.

        Raises:
            DataError: A scenario was not chosen or cannot be read.
            ValueError, TypeError: Seeds or mask have another length or type.
        """
        options = options or {}
        mask = self._reset_mask(options.get("reset_mask"))
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int | np.integer) else seed
        if seeds is not None and len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds for {self.num_envs} worlds")
        if isinstance(seed, int | np.integer):
            super().reset(seed=int(seed))
        worlds = np.flatnonzero(mask)
        if seeds is not None:
            for i in worlds:
                if seeds[i] is not None:
                    self._generators[i] = seeding.np_random(int(seeds[i]))[0]
        infos = self._begin(worlds, self._pinned(options))
        self.batch.look(worlds)
        self._tell_confidence(infos, worlds)
        self._begun = True
        return self._observations(), infos

    def step(self, actions) -> tuple[dict, np.ndarray, np.ndarray, np.ndarray, dict]:
        """Drives all worlds until the next decision.

        Raises:
            ResetNeeded: Nothing was begun, or (autoreset disabled) an episode is over.
            ValueError: An action is not finite or has another shape.
        """
        resetting = self._done
        if not self._begun or (self.autoreset_mode is AutoresetMode.DISABLED and resetting.any()):
            raise ResetNeeded(f"the episodes of worlds {np.flatnonzero(resetting)[:8]} are over: reset them with a reset_mask")
        driving = ~resetting
        self.batch.drive(driving, actions)
        looked = driving if self.settings.min_confidence > 0.0 else np.zeros_like(driving)  # only where sight may end an episode
        self.batch.look_on(np.flatnonzero(looked))
        d = self.batch.decisions
        rewards = np.where(driving, d.reward, 0.0)
        terminations, truncations = driving & d.terminated, driving & d.truncated
        done = terminations | truncations
        if self.autoreset_mode is AutoresetMode.SAME_STEP and done.any():
            self.batch.look(np.flatnonzero(~looked))
            infos = self._end_same_step(done)
            self.batch.look(np.flatnonzero(done))
        else:
            infos = self._score_infos(driving)
            self._done = done.copy()
            if resetting.any():  # autoreset: the action of these worlds was not used
                self._begin(np.flatnonzero(resetting), None, infos)
            self.batch.look(np.flatnonzero(~looked))
            for w in np.flatnonzero(done):
                self._add_info(infos, end_info(self.batch, w), w)
        self._tell_confidence(infos, self._everyone)
        return self._observations(), rewards, terminations, truncations, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Returns a (height, width, 3) uint8 picture of each world from above, and what its cameras see; None without a mode.

        Raises:
            ResetNeeded: Nothing was begun.
        """
        if self.render_mode is None:
            return None
        if not self._begun:
            raise ResetNeeded("there is nothing to draw yet: call reset()")
        return tuple(self.photographer.picture(w) for w in range(self.num_envs))

    def _reset_mask(self, mask) -> np.ndarray:
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise TypeError(f"options['reset_mask'] must be a numpy array of bool, not {type(mask)}")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(f"options['reset_mask'] must have shape ({self.num_envs},) and at least one True")
        return mask

    def _pinned(self, options: dict) -> list[str] | None:
        """Returns the scenario of each world if options name them."""
        if options.get("scenario") is not None:
            names = [options["scenario"]] * self.num_envs
        elif options.get("scenarios") is not None:
            names = list(options["scenarios"])
        else:
            return None
        if len(names) != self.num_envs:
            raise ValueError(f"options['scenarios'] has {len(names)} ids for {self.num_envs} worlds")
        return names

    def _draw(self, w: int) -> str:
        """Returns the next scenario of a world, from its own generator."""
        if self._generators[w] is None:
            self._generators[w] = seeding.np_random()[0]
        ids = self.batch.selection.ids
        return ids[self._generators[w].integers(len(ids))]

    def _begin(self, worlds: np.ndarray, pinned: list[str] | None, infos: dict | None = None) -> dict:
        """Resets worlds and adds what their ``info`` says to ``infos``."""
        selection = self.batch.selection
        names = [self._draw(w) if pinned is None else selection.check(pinned[w]) for w in worlds]
        self.batch.begin(worlds, names)
        self._done[worlds] = False
        infos = {} if infos is None else infos
        for w in worlds:
            self._add_info(infos, start_info(self.batch, w), w)
        return infos

    def _score_infos(self, worlds: np.ndarray) -> dict:
        """Returns the score terms of the worlds (W,) bool as arrays with masks."""
        infos = {}
        for name in TERMS if worlds.any() else ():
            infos[name], infos[f"_{name}"] = np.where(worlds, getattr(self.batch.score, name), 0.0), worlds.copy()
        return infos

    def _tell_confidence(self, infos: dict, worlds: np.ndarray) -> None:
        """Adds how far what worlds (n,) show now can be trusted, with a mask; nothing where no scene knows (``infos.py``)."""
        cameras = self.batch.cameras
        if cameras is None or not cameras.judged[worlds].any():
            return
        known = np.zeros(self.num_envs, np.bool_)
        known[worlds] = cameras.judged[worlds]
        infos["confidence"], infos["_confidence"] = np.where(known, cameras.confidence, 0.0), known

    def _end_same_step(self, done: np.ndarray) -> dict:
        """Keeps the last observation and info of the worlds that are done and begins their next episodes."""
        infos = self._score_infos(~done)
        observed, final = self.batch.observed, np.full(self.num_envs, None, dtype=object)
        final_info = self._score_infos(done)
        worlds = np.flatnonzero(done)
        self._tell_confidence(final_info, worlds)
        for w in worlds:
            final[w] = {name: _copied(array[w]) for name, array in observed.items()}
            self._add_info(final_info, end_info(self.batch, w), w)
        infos |= {"final_obs": final, "_final_obs": done.copy(), "final_info": final_info, "_final_info": done.copy()}
        return self._begin(worlds, None, infos)

    def _observations(self) -> dict[str, np.ndarray]:
        observed = self.batch.observed
        return {name: _copied(array) for name, array in observed.items()} if self.copy else observed


def _copied(array):
    """Returns a copy of a numpy array or of a torch tensor, where it is."""
    return array.copy() if isinstance(array, np.ndarray) else array.clone()


def _with_horizon(settings: dict, max_episode_steps: int | None) -> dict:
    """Refuses a limit of decisions that would end episodes before the horizon, where the score is not complete."""
    if max_episode_steps is not None:
        given = EnvironmentSettings((), **settings)
        needed = -(-round(given.horizon_s / STEP_S) // given.substeps)
        if max_episode_steps < needed:
            raise DataError(
                f"{max_episode_steps} decisions are less than the horizon of {given.horizon_s:g} s",
                field="max_episode_steps",
                remedy="Use horizon_s for shorter episodes",
            )
    return settings
