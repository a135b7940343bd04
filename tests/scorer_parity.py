"""Compares ``pdms-v1`` with one reference case of the real scorer (out_* arrays, see FORMAT.md beside the cases)."""

from __future__ import annotations

import numpy as np

from worldengine_envs.scoring.annotations import interpolate_annotations
from worldengine_envs.scoring.cases import scene_of_case, to_local
from worldengine_envs.scoring.pdms import ProposalScores, aggregate, score_proposals
from worldengine_envs.scoring.pdms_details import Details, detail_proposals, detail_tracked
from worldengine_envs.scoring.pdms_kernel import TERMS

PAIR_COLUMNS = ProposalScores._fields[:7]  # columns of out_pdm_score
DISCRETE = {
    "out_no_at_fault_collisions": "no_at_fault_collisions",
    "out_drivable_area_compliance": "drivable_area_compliance",
    "out_driving_direction_compliance": "driving_direction_compliance",
    "out_time_to_collision_within_bound": "time_to_collision_within_bound",
    "out_comfort": "comfort",
    "out_collision_time_idx": "collision_step",
    "out_ttc_time_idx": "ttc_step",
}


def scorer_tolerances(case: dict[str, np.ndarray]) -> dict[str, float]:
    """Returns the largest difference allowed by array; what is not named must be equal. float64 is coarser at UTM offsets."""
    states = 1e-7 if np.abs(case["ego_state"][:2]).max() > 1e4 else 1e-9
    return {
        "out_tracked_poses": states,
        "out_sim_states": states,
        "out_ego_coords": states,
        "out_lqr_velocity_profile": 1e-8,
        "out_lqr_curvature_profile": 1e-8,
        "out_comfort_signals": 1e-7,  # rounded to 1e-8, and may fall either way
        "out_progress_raw": states,
        "ego_progress": states,
        "score": states,
        "out_batch_ego_progress": states,
        "out_batch_score": states,
        "tracks": 1e-12,
    }


def detail_case(case: dict[str, np.ndarray]) -> tuple[Details, Details, np.ndarray]:
    """Returns the details of the reference (one row) and of the proposals, and the offset of their frame (2,)."""
    scene = scene_of_case(case)
    return (
        detail_tracked(scene, scene.reference_poses[None]),
        detail_proposals(scene, case["proposals"], float(case["proposal_interval"])),
        scene.offset,
    )


def scorer_errors(case: dict[str, np.ndarray]) -> dict[str, float]:
    """Returns the largest difference of each array over the rows that are stable; "flagged" counts the others."""
    reference, proposals, offset = detail_case(case)
    stable = case["out_stable"].astype(bool)

    def both(name):
        return np.concatenate([getattr(reference, name), getattr(proposals, name)])[stable]

    def theirs(name):
        return case[f"out_{name}"][stable]

    errors = {f"out_{name}": _pose_error(both(ours), theirs(name), offset) for name, ours in _POSES.items()}
    errors["out_ego_coords"] = float(np.abs(both("coords") - to_local(theirs("ego_coords"), offset)).max(initial=0.0))
    for name in ("velocity_profile", "curvature_profile"):
        errors[f"out_lqr_{name}"] = float(np.abs(both(name) - theirs(f"lqr_{name}")).max(initial=0.0))
    errors["out_comfort_signals"] = float(np.abs(both("comfort_signals") - theirs("comfort_signals")).max(initial=0.0))
    errors["out_ego_areas"] = float(np.sum(both("areas") != theirs("ego_areas")))
    errors["out_comfort_checks"] = float(np.sum(both("comfort_checks") != theirs("comfort_checks")))
    scores = {n: np.concatenate([getattr(reference.scores, n), getattr(proposals.scores, n)]) for n in ProposalScores._fields}
    for name, field in DISCRETE.items():
        errors[name] = _difference(scores[field][stable], case[name][stable])
    errors["out_progress_raw"] = _difference(scores["progress"][stable], case["out_progress_raw"][stable])
    errors |= _event_errors(case, reference, proposals, stable)
    errors |= _pair_errors(case, proposals.scores, stable) | _batch_errors(case, scores, stable)
    if str(case["observation_mode"]) == "interp2hz":
        errors["tracks"] = _track_error(case)
    errors["flagged"] = float(np.sum(~stable))
    return errors


_POSES = {"tracked_poses": "tracked_poses", "sim_states": "states"}


def _difference(mine: np.ndarray, theirs: np.ndarray) -> float:
    same = mine == theirs  # inf = never
    return float(np.abs(np.where(same, 0.0, mine) - np.where(same, 0.0, theirs)).max(initial=0.0))


def _pose_error(mine: np.ndarray, theirs: np.ndarray, offset: np.ndarray) -> float:
    difference = mine - to_local(theirs, offset)
    difference[..., 2] = np.arctan2(np.sin(difference[..., 2]), np.cos(difference[..., 2]))
    return float(np.abs(difference).max(initial=0.0))


def _event_errors(case, reference: Details, proposals: Details, stable: np.ndarray) -> dict[str, float]:
    """Counts contacts that only one side has."""
    tokens = case["track_tokens"].tolist()
    present = [t for t in range(len(tokens)) if case["tracks_valid"][:50, t].any()]  # tracks that the scene keeps

    def events(details, name, shift):
        return {(int(e[0]) + shift, *(int(v) for v in e[1:])) for e in getattr(details, name)}

    def with_tracks(found, column):
        return {(*e[:column], present[e[column]], *e[column + 1 :]) for e in found}

    errors = {}
    for name, column in (("collision_events", 2), ("ttc_events", 3)):
        mine = with_tracks(events(reference, name, 0) | events(proposals, name, 1), column)
        theirs = {tuple(int(v) for v in e) for e in case[f"out_{name}"]}
        errors[f"out_{name}"] = float(sum(bool(stable[e[0]]) for e in mine ^ theirs))
    return errors


def _pair_errors(case, scores: ProposalScores, stable: np.ndarray) -> dict[str, float]:
    """Errors of each proposal alone with the reference."""
    rows = stable[1:] & stable[0]
    return {n: _difference(getattr(scores, n)[rows], case["out_pdm_score"][rows, i]) for i, n in enumerate(PAIR_COLUMNS)}


def _batch_errors(case, scores: dict[str, np.ndarray], stable: np.ndarray) -> dict[str, float]:
    """Errors of all rows scored in one call, where progress is compared with the best of them."""
    if not stable.all():
        return {}
    terms = np.zeros((len(stable), TERMS))
    for column, name in enumerate(_TERM_NAMES):
        terms[:, column] = scores[name]
    batch = aggregate(terms, (scores["progress"] * scores["no_at_fault_collisions"] * scores["drivable_area_compliance"]).max())
    return {
        "out_batch_ego_progress": _difference(batch.ego_progress, case["out_batch_ego_progress"]),
        "out_batch_score": _difference(batch.score, case["out_batch_score"]),
    }


_TERM_NAMES = (
    "no_at_fault_collisions", "drivable_area_compliance", "driving_direction_compliance", "time_to_collision_within_bound",
    "comfort", "progress", "collision_step", "ttc_step",
)  # fmt: skip


def _track_error(case) -> float:
    tracks, valid = interpolate_annotations(case["tracks2hz"], case["tracks2hz_valid"])
    if not np.array_equal(valid, case["tracks_valid"]):
        return float("inf")
    scale = np.maximum(np.abs(case["tracks"]), 1.0)  # positions reach 5e6 m
    return float((np.abs(tracks - case["tracks"]) / scale).max(initial=0.0))


def fast_path_agrees(case: dict[str, np.ndarray], proposals: Details) -> bool:
    """Whether the batched scorer gives the same bits as the detailed one."""
    fast = score_proposals(scene_of_case(case), case["proposals"], float(case["proposal_interval"]))
    return all(np.array_equal(a, b) for a, b in zip(fast, proposals.scores, strict=True))
