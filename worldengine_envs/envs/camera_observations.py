"""Images of the worlds of a batch, kept in arrays that are used again, with those before them where a history is asked for."""

from __future__ import annotations

import numpy as np

from worldengine_envs.envs.camera_frames import Moments
from worldengine_envs.envs.camera_settings import HISTORY_PERIOD_S, CameraSettings
from worldengine_envs.envs.camera_stage import Cameras
from worldengine_envs.scenario.types import STEP_S
from worldengine_envs.simulation.recordings import compile_log


class CameraObserver(Cameras):
    """``Cameras`` that see all worlds of a batch at each decision; arguments as there."""

    def __init__(self, settings: CameraSettings, batch, on_device: bool = False):
        super().__init__(settings, batch, on_device)
        self.spaces = settings.spaces(self.names)
        self.confidence = np.zeros(batch.num_worlds)  # of what was drawn last, where the world is ``judged``
        self.low = np.zeros(batch.num_worlds, np.bool_)  # it ended the episode
        self._sum, self._count = np.zeros(batch.num_worlds), np.zeros(batch.num_worlds, np.int64)  # over the episode
        self._every = round(HISTORY_PERIOD_S / STEP_S / batch.decisions.substeps)
        self._depth = (settings.image_history - 1) * self._every  # earlier decisions that are kept
        shape, kept = (batch.num_worlds, *settings.image_size), 1 + self._depth if self._depth else 0
        # (W, H, W', 3 * history) by camera, oldest first
        self.images = {name: self.room((*shape, 3 * settings.image_history)) for name in self.names}
        self._ring = {name: self.room((shape[0], kept, *shape[1:], 3)) for name in self.names}

    def begin(self, worlds: np.ndarray) -> None:
        """Sets the stage of worlds (n,) that were just reset, and draws what their logs have seen before.

        Raises:
            DataError: A scenario has no scene, or not the cameras or the appearance that were asked for.
        """
        batch = self.batch
        self.assets.prepare(batch.selection.pack, [batch.scenario_of(w) for w in worlds.tolist()], self.settings.scene_detail)
        for w in worlds.tolist():
            self.set_stage(w)
        self._sum[worlds], self._count[worlds], self.low[worlds] = 0.0, 0, False
        if self._depth:
            self._look_back(worlds)

    def look(self, worlds: np.ndarray) -> None:
        """Draws worlds (n,) as they are now into ``images``, and keeps what was there as their past."""
        if not len(worlds):
            return
        batch = self.batch
        bank, state = batch.arguments[0], batch.worlds
        scenario = bank.scenarios[state.scenario[worlds]]
        lights = scenario["num_lights"].astype(np.int64)
        first = scenario["light_start"] + state.step[worlds] * lights
        moments = Moments(state.agents, state.agent_size, state.present, bank.light_state, first, lights)
        confidence = np.zeros(len(worlds))
        self._keep(worlds, self.draw(worlds, worlds, moments, confidence))
        self.confidence[worlds] = confidence
        self._sum[worlds] += confidence
        self._count[worlds] += 1

    def mean_confidence(self, w: int) -> float:
        """Returns the mean over all that world ``w`` has shown in its episode."""
        return float(self._sum[w] / max(self._count[w], 1))

    def _keep(self, worlds: np.ndarray, drawn) -> None:
        """Puts drawn images (n, cameras, H, W, 3) at the end of the history of worlds (n,) and writes what is observed."""
        for c, name in enumerate(self.names):
            images, ring = self.images[name], self._ring[name]
            if not self._depth:
                images[worlds] = drawn[:, c]
                continue
            ring[worlds, :-1] = ring[worlds, 1:]
            ring[worlds, -1] = drawn[:, c]
            for j in range(self.settings.image_history):
                images[worlds, :, :, 3 * j : 3 * j + 3] = ring[worlds, j * self._every]

    def _look_back(self, worlds: np.ndarray) -> None:
        """Fills the past of worlds (n,) with what the log's cameras saw at the decisions before the start."""
        past = [self._past(w) for w in worlds.tolist()]
        most, before = max(moments.agents.shape[1] for moments in past), np.cumsum([0] + [len(m.light_state) for m in past])
        together = Moments(
            *(np.concatenate([_padded(moments[c], most) for moments in past]) for c in range(3)),
            np.concatenate([moments.light_state for moments in past]),
            np.concatenate([moments.light_row + first for moments, first in zip(past, before[:-1], strict=True)]),
            np.concatenate([moments.light_count for moments in past]),
        )
        drawn = self.draw(np.arange(len(worlds) * self._depth), np.repeat(worlds, self._depth), together)
        for c, name in enumerate(self.names):  # the next look moves them on
            self._ring[name][worlds, 1:] = drawn[:, c].reshape(len(worlds), self._depth, *drawn.shape[2:])

    def _past(self, w: int) -> Moments:
        """Returns the decisions before the start of world ``w``, oldest first, as its log has them.

        Where the log begins later, its first step stands for those before.
        """
        scenario, order = self.batch.scenario_of(w), self.rows_of(w)
        log, valid = compile_log(scenario.tracks)
        first = min(int(valid[:, order[0]].argmax()), scenario.start_step)
        back = self.batch.decisions.substeps * np.arange(self._depth, 0, -1)
        steps, lights = np.maximum(scenario.start_step - back, first), len(scenario.lights.lanes)
        states = np.ascontiguousarray(scenario.lights.state.T).reshape(-1)
        log, valid = log[steps][:, order], valid[steps][:, order]
        return Moments(log[..., :3], log[..., 8:10], valid, states, lights * steps.astype(np.int64), np.full(len(steps), lights))


def _padded(array: np.ndarray, agents: int) -> np.ndarray:
    """Returns (steps, agents, ...) with rows of zeros behind those that are there."""
    room = np.zeros((array.shape[0], agents, *array.shape[2:]), array.dtype)
    room[:, : array.shape[1]] = array
    return room
