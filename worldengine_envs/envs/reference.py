"""The progress reference of a scenario: how far one motion without failure gets along the route."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from worldengine_envs.envs.actions import POSE_PERIOD_S, POSES, TRAJECTORY
from worldengine_envs.envs.baselines import EVERY, Log, PdmClosed, Planner
from worldengine_envs.envs.batch import WorldBatch
from worldengine_envs.envs.library import library
from worldengine_envs.envs.selection import MemoryPack, select
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import STEP_S, ProgressReference, Scenario

HORIZONS_S = (4.0, 8.0, 15.0)


class Motion(NamedTuple):
    """What became of one motion through a scenario."""

    progress: dict[float, float]  # [m] by horizon [s] that it survived with NC = DAC = 1
    failure: str  # what ended it, "" = it survived all horizons


class ReferenceRuns:
    """Scenarios that are compiled once and driven through by candidates for the reference, side by side, among replayed traffic.

    Args:
        scenarios: Need not have references.
        horizons: [s], ascending; the longest fits in every scenario.
    """

    def __init__(self, scenarios: Sequence[Scenario], horizons: Sequence[float]):
        self._horizons = list(horizons)
        self._selection = select(MemoryPack(scenarios), horizon_s=self._horizons[-1], needs_reference=False)
        self._library = library(self._selection.pack, self._horizons[-1], "log")  # kept: all runs share what is compiled

    def drive(self, source: str, solutions: Sequence[np.ndarray] = ()) -> list[Motion]:
        """Returns what becomes of "pdm-closed", of the "solution" of each scenario, or of its "log" followed exactly.

        Args:
            source: Who drives.
            solutions: For each scenario (steps + 1, 3) x, y [m], yaw [rad] of the rear axle every 0.1 s from the start.
        """
        ids = list(self._selection.ids)
        self.batch = WorldBatch(self._selection, len(ids), self._horizons[-1], "log", TRAJECTORY, EVERY, source == "log")
        driver = _Solution(self, solutions) if source == "solution" else {"pdm-closed": PdmClosed, "log": Log}[source](self)
        batch = self.batch
        batch.begin(np.arange(len(ids)), ids)
        motions = [Motion({}, "") for _ in ids]
        for _ in range(round(self._horizons[-1] / POSE_PERIOD_S)):
            active = np.array([not motion.failure for motion in motions])
            if not active.any():
                break
            batch.drive(active, driver())
            for w in np.flatnonzero(active):
                motions[w] = self._after_decision(w, motions[w].progress)
        return motions

    def _after_decision(self, w: int, progress: dict[float, float]) -> Motion:
        batch, score = self.batch, self.batch.score
        if score.nc[w] < 1.0 or score.dac[w] < 1.0:
            agent = int(score.infraction_agent[w])
            what = f"hit {batch.scenario_of(w).tracks.tokens[agent]}" if agent >= 0 else "left the drivable area"
            return Motion(progress, f"{what} at {score.infraction_step[w] * STEP_S:.1f} s")
        now = batch.worlds.step[w] * STEP_S
        return Motion(progress | {h: float(score.progress[w]) for h in self._horizons if abs(now - h) < 0.5 * STEP_S}, "")


class _Solution(Planner):
    """Follows poses by world, (steps + 1, 3) of the rear axle every 0.1 s; their last one is held."""

    def __init__(self, envs, paths: Sequence[np.ndarray]):
        super().__init__(envs)
        self._paths = [np.asarray(path, float) for path in paths]

    def poses(self) -> np.ndarray:
        ahead = EVERY * np.arange(1, POSES + 1)
        steps = self.batch.worlds.step
        return self.local(np.stack([p[np.minimum(k + ahead, len(p) - 1)] for k, p in zip(steps, self._paths, strict=True)]))


def attach_reference(scenario: Scenario, solution: np.ndarray | None = None) -> Scenario:
    """Returns the scenario with its progress reference, for each horizon of 4, 8, 15 s that fits.

    The reference is one motion with NC = DAC = 1, driven in a closed loop among replayed traffic: PDM-Closed where it survives,
    else the solution, else the logged driver (its recorded motion itself). The first that survives the most horizons counts.

    Args:
        scenario: Need not have a reference.
        solution: (steps + 1, 3) x, y [m], yaw [rad] of the rear axle every 0.1 s from the start: a motion known to succeed.

    Raises:
        DataError: No horizon fits, or none of the motions survives 4 s; the message says what each ran into.
    """
    horizons = [h for h in HORIZONS_S if scenario.fits(h)]
    if not horizons:
        raise DataError(f"{scenario.steps_ahead} recorded steps after the start are too few", scenario=scenario.id, field="tracks")
    runs, motions = ReferenceRuns([scenario], horizons), {}
    for source in ("pdm-closed", "log") if solution is None else ("pdm-closed", "solution", "log"):
        motions[source] = runs.drive(source, [solution])[0]
        if len(motions[source].progress) == len(horizons):
            break
    return replace(scenario, reference=best_reference(scenario.id, motions))


def best_reference(scenario_id: str, motions: dict[str, Motion]) -> ProgressReference:
    """Returns the reference of a scenario by the motions (source: what became of it) through it, the preferred source first.

    Raises:
        DataError: None of the motions survives any horizon; the message says what each ran into.
    """
    source = max(motions, key=lambda name: len(motions[name].progress))  # of equals the first
    if not motions[source].progress:
        raise DataError(
            f"no motion survives {HORIZONS_S[0]:g} s ({'; '.join(f'{name}: {m.failure}' for name, m in motions.items())})",
            scenario=scenario_id,
            field="reference",
            remedy="Leave the scenario out, or pass a solution",
        )
    return ProgressReference(source, motions[source].progress)
