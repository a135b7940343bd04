"""Pictures of worlds while they are driven: what is there now, where everyone was before, and frames between two decisions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from worldengine_envs.envs.actions import CONTROL, PLAN_STEPS, POSE_PERIOD_S
from worldengine_envs.envs.batch import WorldBatch
from worldengine_envs.envs.camera_frames import Moments
from worldengine_envs.envs.camera_settings import CameraSettings
from worldengine_envs.envs.infos import TERMS, end_info
from worldengine_envs.envs.picture_layout import beside, image_size, layout
from worldengine_envs.rendering.birdseye import Snapshot, draw
from worldengine_envs.scenario.types import STEP_S, Scenario

if TYPE_CHECKING:
    from worldengine_envs.envs.camera_stage import Cameras

TRAIL_STEPS = 20  # how long trails are


class Photographer:
    """Draws the worlds of a batch from above and remembers where everyone was when it last looked.

    Args:
        batch: The worlds.
        cameras: Cameras whose images are put beside; None = none. Size and history are the pictures' own.
    """

    def __init__(self, batch: WorldBatch, cameras: CameraSettings | None = None):
        self.batch = batch
        self._last: dict[int, Snapshot] = {}  # by world
        self._cameras: Cameras | None = None
        if cameras is not None:
            from worldengine_envs.envs.camera_stage import Cameras

            self._rows = layout(cameras.camera_names(batch.selection))
            self._cameras = Cameras(replace(cameras, image_size=image_size(self._rows), image_history=1), batch)
            self._on_stage: dict[int, Scenario] = {}  # by world

    def picture(self, w: int) -> np.ndarray:
        """Returns (height, width, 3) uint8: world ``w`` as it is now."""
        return self._draw(w, self.look(w))

    def film(self, w: int) -> Iterator[np.ndarray]:
        """Yields (height, width, 3) uint8 for each 0.1 s since the last look at world ``w``, the present one included.

        The ego's poses are those driven; agents are put between where they were and where they are.
        """
        before, history = self._last.get(w), self.batch.worlds.ego_history[w]
        now = self.look(w)
        if before is not None and _goes_on(before, now, history):
            for k in range(before.step + 1, now.step):
                yield self._draw(w, _between(before, now, k, history[k]))
        yield self._draw(w, now)

    def _draw(self, w: int, snapshot: Snapshot) -> np.ndarray:
        """Returns the picture of a moment of world ``w``."""
        picture = draw(snapshot)
        return picture if self._cameras is None else beside(picture, self._images(w, snapshot), self._rows)

    def _images(self, w: int, snapshot: Snapshot) -> dict[str, np.ndarray]:
        """Returns what the cameras of world ``w`` see in a moment, by name."""
        cameras, scenario = self._cameras, snapshot.scenario
        if self._on_stage.get(w) is not scenario:
            cameras.set_stage(w)
            self._on_stage[w] = scenario
        lights = scenario.lights.state
        states = np.ascontiguousarray(lights[:, min(scenario.start_step + snapshot.step, max(lights.shape[1] - 1, 0))])
        everyone = snapshot.agents[None], snapshot.agent_size[None], snapshot.present[None]
        moment = Moments(*everyone, states, np.zeros(1, np.int64), np.full(1, len(states), np.int64))
        return dict(zip(cameras.names, cameras.draw(np.zeros(1, np.int64), np.array([w]), moment)[0], strict=True))

    def look(self, w: int) -> Snapshot:
        """Returns what world ``w`` shows now."""
        batch, worlds = self.batch, self.batch.worlds
        scenario, step = batch.scenario_of(w), int(worlds.step[w])
        rows = len(scenario.tracks)
        terms = {name: float(getattr(batch.score, name)[w]) for name in TERMS}
        decided = step > 0 and batch.kind != CONTROL
        every = round(POSE_PERIOD_S / STEP_S)
        now = Snapshot(
            scenario=scenario,
            step=step,
            ego=worlds.ego_history[w, step].copy(),
            agents=worlds.agents[w, :rows].copy(),
            agent_size=worlds.agent_size[w, :rows].copy(),
            present=worlds.present[w, :rows].copy(),
            terms=terms,
            infraction=_infraction(end_info(batch, w)),
            plan=batch.decisions.plan[w, every : PLAN_STEPS + 1 : every].copy() if decided else None,
            trails=(),
        )
        before = self._last.get(w)
        known = before is not None and _goes_on(before, now, worlds.ego_history[w])
        trails = before.trails if known else _logged_trails(now)
        now = replace(now, trails=_longer(trails, now))
        self._last[w] = now
        return now


def _goes_on(before: Snapshot, now: Snapshot, history: np.ndarray) -> bool:
    """Whether a snapshot shows the same episode later; history (H + 1, 11) is what the ego has driven in it."""
    return before.scenario is now.scenario and before.step < now.step and np.array_equal(history[before.step], before.ego)


def _infraction(info: dict) -> str:
    if "infraction" not in info:
        return ""
    what = f" with {info['infraction_what']}" if info["infraction_what"] else ""
    return f"{info['infraction'].replace('_', ' ')}{what} at {info['infraction_time']:.1f} s"


def _logged_trails(now: Snapshot) -> tuple[np.ndarray, ...]:
    """Returns where everyone was before the start, by the log: (steps, 3) step, x, y [m] for each agent."""
    start, tracks = now.scenario.start_step, now.scenario.tracks
    first = max(0, start - TRAIL_STEPS)
    trails = []
    for valid, state in zip(tracks.valid[:, first:start], tracks.state[:, first:start], strict=True):
        gaps = np.flatnonzero(~valid)
        begin = gaps[-1] + 1 if len(gaps) else 0
        steps = np.arange(first + begin - start, 0)
        trails.append(np.column_stack([steps, state[begin:, :2]]))
    return tuple(trails)


def _longer(trails: tuple[np.ndarray, ...], now: Snapshot) -> tuple[np.ndarray, ...]:
    """Returns trails that reach to the present; those of agents that are gone are empty."""
    result = []
    for trail, agent, present in zip(trails, now.agents, now.present, strict=True):
        recent = trail[trail[:, 0] >= now.step - TRAIL_STEPS]
        result.append(np.vstack([recent, [now.step, *agent[:2]]]) if present else np.zeros((0, 3)))
    return tuple(result)


def _between(before: Snapshot, now: Snapshot, step: int, ego: np.ndarray) -> Snapshot:
    """Returns the moment of a step between two snapshots of one episode; ego (11,) is known."""
    u = (step - before.step) / (now.step - before.step)
    change = now.agents - before.agents
    change[:, 2] = (change[:, 2] + np.pi) % (2 * np.pi) - np.pi
    both = before.present & now.present
    agents = np.where(both[:, None], before.agents + u * change, before.agents)
    back = now.scenario.ego.rear_axle_to_center
    agents[0, :3] = ego[0] + back * np.cos(ego[2]), ego[1] + back * np.sin(ego[2]), ego[2]
    trails = tuple(np.vstack([t[t[:, 0] > step - TRAIL_STEPS], [step, *a[:2]]]) for t, a in zip(before.trails, agents, strict=True))
    return replace(before, step=step, ego=ego.copy(), agents=agents, plan=now.plan, trails=trails)
