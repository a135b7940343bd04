"""``epdms-v2``: NAVSIM v2.2's extended PDM Score of planned trajectories against the recorded world.

Score = NC * DAC * DDC * TLC * (5 EP + 5 TTC + 2 LK + 2 HC [+ 2 EC]) / 14 [16]. It differs from ``pdms-v1`` in these rules:

- Tracks end at 4 s; those that touch the ego at the start are left out altogether. Time to collision is looked at up to 3.1 s.
- Driving direction is a multiplier and spares intersections. Traffic lights (TLC): no touching an on-route connector while red.
- Progress is not multiplied by the proposal's own multipliers, only the measure is; it is clipped at 1.
- Lane keeping (LK): not more than 0.5 m from the centreline for 2 s on end; steps inside intersections are passed over.
- History comfort (HC): comfort (shorter windows, see ``comfort.extended_comfort_signals``) with the driven past before the plan.
- Extended comfort (EC): root mean square differences from the plan of the frame before, where there is one.
- Human filter: a term that is 0 for the human driver counts as 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scoring.comfort import SCRATCH_ROWS, frame_signals
from worldengine_envs.scoring.epdms_kernel import DDC, EXTRA_TERMS, HC, LK, TLC, score_extended_range
from worldengine_envs.scoring.epdms_scene import ExtendedScene
from worldengine_envs.scoring.pdms import MIN_PROGRESS, check_proposals
from worldengine_envs.scoring.pdms_kernel import DAC, NC, PROGRESS, STATES, TERMS, TTC, make_scratch
from worldengine_envs.scoring.trajectories import interpolation, knot_times, query_times
from worldengine_envs.simulation.bicycle import STATE_SIZE

WEIGHTS = {"ego_progress": 5.0, "time_to_collision_within_bound": 5.0, "lane_keeping": 2.0, "history_comfort": 2.0}
EXTENDED_COMFORT_WEIGHT = 2.0
MULTIPLIERS = ("no_at_fault_collisions", "drivable_area_compliance", "driving_direction_compliance", "traffic_light_compliance")
FRAME_LIMITS = (0.7, 0.5, 0.1, 0.1)  # root mean square differences: acceleration, jerk, yaw rate, yaw acceleration


class ExtendedScores(NamedTuple):
    """Terms and score of M proposals; fields are (M,) float64."""

    no_at_fault_collisions: np.ndarray  # 1, 0.5 or 0
    drivable_area_compliance: np.ndarray  # 1 or 0
    driving_direction_compliance: np.ndarray  # 1, 0.5 or 0
    traffic_light_compliance: np.ndarray  # 1 or 0
    ego_progress: np.ndarray  # in [0, 1]
    time_to_collision_within_bound: np.ndarray  # 1 or 0
    lane_keeping: np.ndarray  # 1 or 0
    history_comfort: np.ndarray  # 1 or 0
    extended_comfort: np.ndarray | None  # 1 or 0; None without a plan of the frame before
    score: np.ndarray
    states: np.ndarray  # (M, 41, 11) driven, see simulation.bicycle; needed for the extended comfort of the next frame


def extended_score(terms: dict[str, np.ndarray], extended_comfort: np.ndarray | None = None) -> np.ndarray:
    """Returns (M,) scores of terms by name, see MULTIPLIERS and WEIGHTS."""
    product = np.prod([terms[name] for name in MULTIPLIERS], axis=0)
    total, weights = sum(weight * terms[name] for name, weight in WEIGHTS.items()), sum(WEIGHTS.values())
    if extended_comfort is not None:
        total, weights = total + EXTENDED_COMFORT_WEIGHT * extended_comfort, weights + EXTENDED_COMFORT_WEIGHT
    return product * (total / weights)


def extended_comfort(states: np.ndarray, previous: np.ndarray, steps_between: int = 5) -> np.ndarray:
    """Compares the driven states of two frames over the time that they share.

    Args:
        states: (M, 41, 11) of this frame.
        previous: (M, 41, 11) of the frame before, in the same coordinates as to yaw.
        steps_between: Steps of 0.1 s between the frames.

    Returns:
        (M,) 1 where acceleration, jerk, yaw rate and yaw acceleration differ little enough, else 0.
    """
    if states.shape != previous.shape or states.shape[2:] != (STATE_SIZE,) or not 0 < steps_between < states.shape[1]:
        raise DataError(
            f"shapes {states.shape} and {previous.shape}, {steps_between} steps apart, do not overlap", field="previous"
        )
    n = states.shape[1] - steps_between
    mine, theirs, result = np.zeros((SCRATCH_ROWS, n)), np.zeros((SCRATCH_ROWS, n)), np.zeros(len(states))
    for i in range(len(states)):
        frame_signals(np.ascontiguousarray(states[i, :n]), n, mine)
        frame_signals(np.ascontiguousarray(previous[i, steps_between:]), n, theirs)
        rms = np.sqrt(np.mean((mine[:4] - theirs[:4]) ** 2, axis=1))
        result[i] = np.all(rms <= FRAME_LIMITS)
    return result


def score_extended(
    scene: ExtendedScene,
    proposals: np.ndarray,
    interval: float,
    *,
    previous_states: np.ndarray | None = None,
    human_filter: bool = True,
) -> ExtendedScores:
    """Scores planned trajectories in one scene, each against the reference alone.

    Args:
        scene: From ``epdms_scene``.
        proposals: (M, K, 3) x, y [m], yaw [rad] of the rear axle, relative to the ego; pose j is at (j + 1) * interval.
        interval: Time between poses [s].
        previous_states: (M, 41, 11) ``states`` of the plans of the frame 0.5 s before; adds extended comfort.
        human_filter: Forgive terms that are 0 for the scene's human trajectory, if it has one.
    """
    proposals = check_proposals(proposals, interval)
    terms, extra, states = _drive(scene, _tracked(scene, proposals, interval), scene.history)
    reference, reference_extra, _ = _drive(scene, scene.base.reference_poses[None], scene.history)
    named = _named_terms(terms, extra, (_multiplier(reference, reference_extra) * reference[:, PROGRESS])[0])
    if human_filter and scene.human_poses is not None:
        human_terms, human_extra, _ = _drive(
            scene, _tracked(scene, scene.human_poses[None], scene.human_interval), scene.history[:0]
        )
        human = _named_terms(human_terms, human_extra, 0.0)
        for name in named:
            if human[name][0] == 0.0:
                named[name] = np.ones_like(named[name])
    comfort = None if previous_states is None else extended_comfort(states, previous_states)
    return ExtendedScores(**named, extended_comfort=comfort, score=extended_score(named, comfort), states=states)


def _tracked(scene: ExtendedScene, proposals: np.ndarray, interval: float):
    """Returns proposals with where the tracker's poses lie between theirs."""
    time_us = scene.base.time_us
    return proposals, *interpolation(knot_times(time_us, proposals.shape[1], interval), query_times(time_us))


def _drive(scene: ExtendedScene, plan, history: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (M, TERMS), (M, EXTRA_TERMS) and driven states (M, 41, 11) of a plan: ``_tracked`` or poses (M, 41, 3)."""
    if isinstance(plan, np.ndarray):
        plan = (plan, None, None)
    proposals, before, weight = plan
    count, as_poses = len(proposals), before is None
    terms, extra, states = np.empty((count, TERMS)), np.empty((count, EXTRA_TERMS)), np.empty((count, STATES, 11))
    if as_poses:
        before, weight = np.zeros(STATES, np.int64), np.zeros(STATES)
    padded = np.zeros((len(history) + STATES, 11))
    padded[: len(history)] = history
    comfort = np.zeros((SCRATCH_ROWS, len(padded)))
    score_extended_range(
        scene.base.arrays, scene.red, scene.red_rows, proposals, before, weight, as_poses, make_scratch(proposals.shape[1]),
        padded, len(history), comfort, terms, extra, states,
    )  # fmt: skip
    return terms, extra, states


def _multiplier(terms: np.ndarray, extra: np.ndarray) -> np.ndarray:
    return terms[:, NC] * terms[:, DAC] * extra[:, TLC] * extra[:, DDC]


def _named_terms(terms: np.ndarray, extra: np.ndarray, base: float) -> dict[str, np.ndarray]:
    """Returns the terms by name; ``base`` is the reference's progress times its multipliers [m]."""
    progress = terms[:, PROGRESS]
    most = np.maximum(progress * _multiplier(terms, extra), base)
    counts = most > MIN_PROGRESS
    return {
        "no_at_fault_collisions": terms[:, NC],
        "drivable_area_compliance": terms[:, DAC],
        "driving_direction_compliance": extra[:, DDC],
        "traffic_light_compliance": extra[:, TLC],
        "ego_progress": np.where(counts, np.minimum(progress / np.where(counts, most, 1.0), 1.0), 1.0),
        "time_to_collision_within_bound": terms[:, TTC],
        "lane_keeping": extra[:, LK],
        "history_comfort": extra[:, HC],
    }
