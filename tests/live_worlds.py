"""Drives compiled worlds in tests and records what happened, for the independent scorer in ``live_oracle``."""

from __future__ import annotations

import numpy as np
from live_oracle import Rollout

from worldengine_envs.scenario.types import Scenario
from worldengine_envs.scoring.live import LiveScore, live_reset, live_update, make_live_score
from worldengine_envs.simulation.bank import LOG, ScenarioBank
from worldengine_envs.simulation.world import make_worlds, move_ego, reset_world, step_world

TERMS = ("nc", "dac", "ttc", "ep", "comfort", "pdms")


class Drive:
    """One world of one scenario, its compiled score after each step, and its rollout."""

    def __init__(self, scenario: Scenario, traffic="log", horizon_s: float = 4.0):
        self.scenario, self.horizon = scenario, round(horizon_s * 10)
        builder = ScenarioBank(horizon_s, traffic)
        builder.add(scenario)
        self.bank = builder.arrays
        self.worlds = make_worlds(1, builder.max_agents, self.horizon)
        self.score: LiveScore = make_live_score(1, builder.max_agents, self.horizon)
        self.restart()

    def restart(self) -> None:
        """Puts the world back to its start."""
        self.terms: list[tuple] = []
        self.rewards: list[float] = []
        self.ego: list[np.ndarray] = []
        self.boxes: list[dict] = []
        reset_world(self.bank, self.worlds, 0, 0)
        live_reset(self.bank, self.worlds, self.score, 0)
        self._note()

    @property
    def step(self) -> int:
        return int(self.worlds.step[0])

    def control(self, acceleration: float, steering_rate: float) -> None:
        """Moves the ego by the bicycle for 0.1 s."""
        step_world(self.bank, self.worlds, 0, acceleration, steering_rate)
        self._update()

    def put(self, pose: np.ndarray) -> None:
        """Puts the ego at a rear-axle pose (3,)."""
        move_ego(self.bank, self.worlds, 0, *pose)
        self._update()

    def force(self, state: np.ndarray) -> None:
        """Moves everyone else on by a step and gives the ego a state (11,)."""
        move_ego(self.bank, self.worlds, 0, *state[:3])
        self.worlds.ego[0] = self.worlds.ego_history[0, self.step] = state
        self._update()

    def _update(self) -> None:
        self.rewards.append(live_update(self.bank, self.worlds, self.score, 0, self.step == self.horizon))
        self._note()

    def _note(self) -> None:
        w = self.worlds
        self.terms.append(tuple(float(getattr(self.score, name)[0]) for name in TERMS))
        self.ego.append(w.ego[0].copy())
        rows = np.flatnonzero(w.present[0])
        self.boxes.append({int(a): (*w.agents[0, a, :3], *w.agent_size[0, a], *w.agents[0, a, 3:5]) for a in rows if a > 0})

    def infraction(self) -> tuple | None:
        """Term, step and agent that the compiled score recorded."""
        names = (None, "collision", "off_road", "time_to_collision")
        term = names[self.score.infraction_term[0]]
        return (term, int(self.score.infraction_step[0]), int(self.score.infraction_agent[0])) if term else None

    def rollout(self) -> Rollout:
        """What happened so far, read off the scenario and the worlds, not off the bank."""
        sc, start = self.scenario, self.scenario.start_step
        log = [_boxes_at(sc, start + k) for k in range(self.step + 10)]
        polygons = [sc.vector_map.polygon(i) for i in range(sc.vector_map.num_polygons)]
        p_ref = sc.reference.progress[self.horizon / 10]
        vehicle = (sc.ego.length, sc.ego.width, sc.ego.rear_axle_to_center)
        return Rollout(
            self.ego, self.boxes, log, sc.tracks.types, self.worlds.mode[0] == LOG, polygons, sc.vector_map.polygon_layer.tolist(),
            sc.route.centerline[:, :2], vehicle, p_ref, self.horizon,
        )  # fmt: skip


def _boxes_at(scenario: Scenario, step: int) -> dict[int, tuple]:
    """Boxes of the recording at a step; gaps up to 1 s filled, tracks alive at the end extrapolated."""
    tracks, boxes = scenario.tracks, {}
    for a in range(1, len(tracks)):
        valid = np.flatnonzero(tracks.valid[a])
        if len(valid) == 0 or step < valid[0]:
            continue
        if step >= tracks.steps:
            if valid[-1] == tracks.steps - 1:
                x, y, yaw, vx, vy = tracks.state[a, -1]
                dt = 0.1 * (step - tracks.steps + 1)
                boxes[a] = (x + dt * vx, y + dt * vy, yaw, *tracks.size[a, -1, :2], vx, vy)
            continue
        before = valid[valid <= step][-1]
        if before == step:
            boxes[a] = (*tracks.state[a, step, :3], *tracks.size[a, step, :2], *tracks.state[a, step, 3:])
        elif (after := valid[valid > step]).size and after[0] - before <= 10:
            t = (step - before) / (after[0] - before)
            first, last = (np.concatenate([tracks.state[a, i], tracks.size[a, i, :2]]) for i in (before, after[0]))
            change = last - first
            change[2] = np.arctan2(np.sin(change[2]), np.cos(change[2]))
            row = first + t * change
            boxes[a] = (*row[:3], *row[5:7], *row[3:5])
    return boxes
