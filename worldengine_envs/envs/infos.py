"""What ``info`` tells: every term of the score at each step, and at the end of an episode what became of it."""

from __future__ import annotations

from worldengine_envs.envs.batch import WorldBatch
from worldengine_envs.scenario.types import STEP_S
from worldengine_envs.scoring.live import INFRACTION_NAMES

TERMS = ("pdms", "nc", "dac", "ttc", "ep", "comfort")


def start_info(batch: WorldBatch, w: int) -> dict:
    """Returns what world ``w`` was started in.

    scenario: its id. With cameras also borrowed_assets: how many of its agents are drawn with a model of the library, since the
    scene has none of their own.
    """
    info = {"scenario": batch.scenario_of(w).id}
    if batch.cameras is not None:
        info["borrowed_assets"] = int(batch.cameras.borrowed[w])
    return info


def score_info(batch: WorldBatch, w: int) -> dict:
    """Returns the score of world ``w``'s motion so far by term, and the confidence of what it shows."""
    return {name: float(getattr(batch.score, name)[w]) for name in TERMS} | confidence_info(batch, w)


def confidence_info(batch: WorldBatch, w: int) -> dict:
    """Returns how far the images that world ``w`` shows can be trusted: ``confidence`` in [0, 1] (see ``rendering.confidence``).

    Only a reconstructed scene knows; for others, and without cameras, there is no such key.
    """
    if batch.cameras is None or not batch.cameras.judged[w]:
        return {}
    return {"confidence": float(batch.cameras.confidence[w])}


def end_info(batch: WorldBatch, w: int) -> dict:
    """Returns how the episode of world ``w`` ended.

    scenario: its id. success: the horizon was reached with NC = DAC = 1. progress: along the route [m]. hit_without_fault: contacts
    that were not the ego's fault. Where something went wrong, the gravest infraction (the first of those): infraction:
    "collision", "off_road" or "time_to_collision"; infraction_time [s]; infraction_what: token of the track, "" off the road;
    infraction_where: (2,) x, y [m] in the scenario's frame. In a reconstructed scene with cameras also mean_confidence: over all
    that the episode has shown; low_confidence: it was cut short since its images fell below ``min_confidence``.
    """
    score, scenario = batch.score, batch.scenario_of(w)
    finished = batch.decisions.truncated[w] and batch.worlds.step[w] >= batch.horizon_steps
    info = {
        "scenario": scenario.id,
        "success": bool(finished and score.nc[w] == 1.0 and score.dac[w] == 1.0),
        "progress": float(score.progress[w]),
        "hit_without_fault": int(score.hit_without_fault[w]),
    }
    if batch.cameras is not None and batch.cameras.judged[w]:
        info["mean_confidence"] = batch.cameras.mean_confidence(w)
        info["low_confidence"] = bool(batch.cameras.low[w])
    if score.infraction_term[w]:
        agent = int(score.infraction_agent[w])
        info["infraction"] = INFRACTION_NAMES[score.infraction_term[w]]
        info["infraction_time"] = float(score.infraction_step[w] * STEP_S)
        info["infraction_what"] = scenario.tracks.tokens[agent] if agent >= 0 else ""
        info["infraction_where"] = score.infraction_place[w].copy()
    return info
