"""The progress reference of a scenario: how far one motion without failure gets along the route."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from worldengine_envs.envs.actions import POSE_PERIOD_S, POSES, TRAJECTORY
from worldengine_envs.envs.baselines import EVERY, Log, PdmClosed, Planner
from worldengine_envs.envs.batch import WorldBatch
from worldengine_envs.envs.selection import MemoryPack, select
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import STEP_S, ProgressReference, Scenario

HORIZONS_S = (4.0, 8.0, 15.0)


class _Run:
    """One world of one scenario, with the part of an environment that baselines need."""

    def __init__(self, scenario: Scenario, horizon_s: float, perfect: bool):
        selection = select(MemoryPack([scenario]), horizon_s=horizon_s, needs_reference=False)
        self.batch = WorldBatch(selection, 1, horizon_s, "log", TRAJECTORY, EVERY, perfect)


class _Solution(Planner):
    """Follows poses (steps + 1, 3) of the rear axle every 0.1 s; their last one is held."""

    def __init__(self, envs, poses: np.ndarray):
        super().__init__(envs)
        self._path = poses

    def poses(self) -> np.ndarray:
        steps = int(self.batch.worlds.step[0]) + EVERY * np.arange(1, POSES + 1)
        return self.local(self._path[None, np.minimum(steps, len(self._path) - 1)])


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
    sources = [("pdm-closed", PdmClosed, False), ("log", Log, True)]
    if solution is not None:
        sources.insert(1, ("solution", lambda run: _Solution(run, np.asarray(solution, float)), False))
    best: ProgressReference | None = None
    failures = []
    for name, make, perfect in sources:
        run = _Run(scenario, horizons[-1], perfect)
        progress, failure = _drive(run, make(run), horizons)
        if best is None or len(progress) > len(best.progress):
            best = ProgressReference(name, progress)
        if len(best.progress) == len(horizons):
            break
        failures.append(f"{name}: {failure}")
    if not best.progress:
        raise DataError(
            f"no motion survives {horizons[0]:g} s ({'; '.join(failures)})",
            scenario=scenario.id,
            field="reference",
            remedy="Leave the scenario out, or pass a solution",
        )
    return replace(scenario, reference=best)


def _drive(run: _Run, driver: Planner, horizons: list[float]) -> tuple[dict[float, float], str]:
    """Returns progress [m] by horizon survived with NC = DAC = 1, and what ended it otherwise."""
    batch = run.batch
    batch.begin(np.zeros(1, np.int64), [batch.selection.ids[0]])
    score, progress = batch.score, {}
    for _ in range(round(horizons[-1] / POSE_PERIOD_S)):
        batch.drive(True, driver())
        if score.nc[0] < 1.0 or score.dac[0] < 1.0:
            where = batch.scenario_of(0)
            agent = int(score.infraction_agent[0])
            what = f"hit {where.tracks.tokens[agent]}" if agent >= 0 else "left the drivable area"
            return progress, f"{what} at {score.infraction_step[0] * STEP_S:.1f} s"
        now = batch.worlds.step[0] * STEP_S
        progress |= {h: float(score.progress[0]) for h in horizons if abs(now - h) < 0.5 * STEP_S}
    return progress, ""
