"""``pdms-v1``: NAVSIM v1.1's PDM Score of planned trajectories, batched over proposals and scenes.

Each trajectory is tracked for 4 s by LQR and bicycle against the recorded world. Rules: README of the reference cases; term by
term they live in ``trajectories``, ``areas``, ``collisions``, ``comfort`` and ``pdms_kernel``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scoring.pdms_kernel import (
    COLLISION_STEP,
    COMFORT,
    DAC,
    DDC,
    NC,
    PROGRESS,
    TERMS,
    TTC,
    TTC_STEP,
    make_scratch,
    score_one,
    score_range,
    start_on_centerline,
)
from worldengine_envs.scoring.scene import ScoringScene
from worldengine_envs.scoring.trajectories import interpolation, knot_times, query_times
from worldengine_envs.simulation.threads import run_over_worlds

PROGRESS_WEIGHT, TTC_WEIGHT, COMFORT_WEIGHT = 5.0, 5.0, 2.0
BLOCK = 128  # proposals that a thread takes at a time
MIN_INTERVAL, MAX_INTERVAL = 1e-3, 60.0  # time between the poses of a proposal [s]; times are cut to microseconds
MIN_PROGRESS = 5.0  # where nobody gets further than this [m], progress is not compared


class ProposalScores(NamedTuple):
    """Terms and score of M proposals; fields are (M,) float64."""

    no_at_fault_collisions: np.ndarray  # 1, 0.5 (static object) or 0
    drivable_area_compliance: np.ndarray  # 1 or 0
    ego_progress: np.ndarray  # in [0, 1], against the better of the proposal and the reference
    time_to_collision_within_bound: np.ndarray  # 1 or 0
    comfort: np.ndarray  # 1 or 0
    driving_direction_compliance: np.ndarray  # 1, 0.5 or 0; no part of the score
    score: np.ndarray  # the PDM Score
    progress: np.ndarray  # along the centreline, not below 0 [m]
    collision_step: np.ndarray  # first at-fault collision, inf = none
    ttc_step: np.ndarray  # first time-to-collision infraction, inf = none


def check_proposals(proposals: np.ndarray, interval: float) -> np.ndarray:
    """Returns proposals as contiguous float64 (M, K, 3); raises DataError where they are not what they have to be."""
    proposals = np.ascontiguousarray(proposals, dtype=np.float64)
    if proposals.ndim != 3 or proposals.shape[1] < 1 or proposals.shape[2] != 3:
        raise DataError(f"shape {proposals.shape} is not (proposals, poses, 3)", field="proposals")
    if not MIN_INTERVAL <= interval <= MAX_INTERVAL:
        raise DataError(f"{interval} s is not {MIN_INTERVAL} to {MAX_INTERVAL:g} s", field="interval")
    if not np.isfinite(proposals).all():
        raise DataError(f"{np.sum(~np.isfinite(proposals))} values are not finite", field="proposals")
    return proposals


def aggregate(terms: np.ndarray, progress_base: np.ndarray | float) -> ProposalScores:
    """Puts the terms (M, TERMS) together.

    Args:
        terms: From the kernel.
        progress_base: (M,) or one number: progress of the reference times its own multipliers [m].
    """
    multiplier = terms[:, NC] * terms[:, DAC]
    made = terms[:, PROGRESS] * multiplier
    most = np.maximum(made, progress_base)
    counts = most > MIN_PROGRESS
    ep = np.where(counts, made / np.where(counts, most, 1.0), np.where(multiplier == 0.0, 0.0, 1.0))
    weighted = PROGRESS_WEIGHT * ep + TTC_WEIGHT * terms[:, TTC] + COMFORT_WEIGHT * terms[:, COMFORT]
    score = multiplier * (weighted / (PROGRESS_WEIGHT + TTC_WEIGHT + COMFORT_WEIGHT))
    return ProposalScores(
        terms[:, NC], terms[:, DAC], ep, terms[:, TTC], terms[:, COMFORT], terms[:, DDC], score, terms[:, PROGRESS],
        terms[:, COLLISION_STEP], terms[:, TTC_STEP],
    )  # fmt: skip


def score_reference(scene: ScoringScene) -> np.ndarray:
    """Returns (TERMS,) the terms of the scene's reference motion, tracked like a proposal."""
    if scene.reference_poses is None:
        raise DataError("the scene has no reference poses", field="reference_poses")
    scratch = make_scratch()
    scratch.poses[:] = scene.reference_poses
    score_one(scene.arrays, scratch, start_on_centerline(scene.arrays), False)
    return scratch.terms.copy()


def reference_progress(scene: ScoringScene) -> float:
    """Returns the progress [m] that proposals are compared with."""
    if scene.reference_poses is None:
        return float(scene.reference_progress)
    terms = score_reference(scene)
    return float(terms[PROGRESS] * (terms[NC] * terms[DAC]))


def score_proposals(scene: ScoringScene, proposals: np.ndarray, interval: float) -> ProposalScores:
    """Scores planned trajectories in one scene, each against the reference alone.

    Args:
        scene: From ``scene.scene_of`` or ``scene.make_scene``.
        proposals: (M, K, 3) x, y [m], yaw [rad] of the rear axle, relative to the ego; pose j is at (j + 1) * interval.
        interval: Time between poses [s]. Poses beyond 4 s are not read; where they end earlier, the last one is held.

    Raises:
        DataError: Wrong shape, or values that are not finite.
    """
    proposals = check_proposals(proposals, interval)
    return aggregate(_terms(scene, proposals, interval), reference_progress(scene))


def _terms(scene: ScoringScene, proposals: np.ndarray, interval: float) -> np.ndarray:
    """Returns (M, TERMS) of checked proposals."""
    terms = np.empty((len(proposals), TERMS))
    _fill_terms(scene, proposals, interval, 0, len(proposals), terms)
    return terms


def _fill_terms(scene: ScoringScene, proposals: np.ndarray, interval: float, first: int, last: int, terms: np.ndarray) -> None:
    """Fills rows first..last of ``terms`` (M, TERMS)."""
    poses = proposals.shape[1]
    before, weight = interpolation(knot_times(scene.time_us, poses, interval), query_times(scene.time_us))
    score_range(scene.arrays, proposals, before, weight, make_scratch(poses), first, last, terms)


def score_scenes(
    scenes: Sequence[ScoringScene], proposals: np.ndarray | Sequence[np.ndarray], interval: float
) -> list[ProposalScores]:
    """Scores trajectories in several scenes on all threads; the result does not depend on their number.

    Args:
        scenes: S scenes.
        proposals: (M, K, 3), the same for all scenes, or S such arrays.
        interval: Time between poses [s].

    Raises:
        DataError: As in ``score_proposals``, or the numbers of scenes and batches differ.
    """
    if isinstance(proposals, np.ndarray) and proposals.ndim == 3:
        batches = [check_proposals(proposals, interval)] * len(scenes)
    else:
        batches = [check_proposals(batch, interval) for batch in proposals]
    if len(batches) != len(scenes):
        raise DataError(f"{len(batches)} batches for {len(scenes)} scenes", field="proposals")
    terms = [np.empty((len(batch), TERMS)) for batch in batches]
    blocks = [(s, i) for s, batch in enumerate(batches) for i in range(0, len(batch), BLOCK)]

    def work(start: int, stop: int) -> None:
        for s, first in blocks[start:stop]:
            _fill_terms(scenes[s], batches[s], interval, first, min(first + BLOCK, len(batches[s])), terms[s])

    run_over_worlds(work, len(blocks))
    return [aggregate(t, reference_progress(scene)) for t, scene in zip(terms, scenes, strict=True)]
