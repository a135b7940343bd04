"""Everything behind a PDM Score: driven states, areas, comfort signals, and every contact with its time, place and object."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from worldengine_envs.scenario.types import STEP_S
from worldengine_envs.scoring.collisions import CollisionType
from worldengine_envs.scoring.pdms import ProposalScores, aggregate, check_proposals, reference_progress
from worldengine_envs.scoring.pdms_kernel import STATES, Scratch, in_bad_area, make_scratch, score_one, start_on_centerline
from worldengine_envs.scoring.scene import ScoringScene
from worldengine_envs.scoring.trajectories import compose_poses, interpolate_poses, interpolation, knot_times, query_times


class Details(NamedTuple):
    """Details of M motions over 41 states, 0.1 s apart, in the scene's frame."""

    scores: ProposalScores
    tracked_poses: np.ndarray  # (M, 41, 3) x, y [m], yaw [rad] that the tracker followed
    velocity_profile: np.ndarray  # (M, 40) [m/s]
    curvature_profile: np.ndarray  # (M, 40) [1/m]
    states: np.ndarray  # (M, 41, 11) driven, see simulation.bicycle
    coords: np.ndarray  # (M, 41, 5, 2) corners front left, rear left, rear right, front right, and centre of the ego's box [m]
    areas: np.ndarray  # (M, 41, 3) bool: in multiple lanes, off the road, off the route
    comfort_signals: np.ndarray  # (M, 6, 41) see comfort.SIGNAL_NAMES
    comfort_checks: np.ndarray  # (M, 6) bool
    collision_events: np.ndarray  # (E, 4) int: motion, step, track, CollisionType; all classified contacts
    collision_events_at_fault: np.ndarray  # (E,) bool
    ttc_events: np.ndarray  # (F, 5) int: motion, step, look-ahead steps, track, 1 = infraction, 0 = track ignored from then on


class Infraction(NamedTuple):
    """What went wrong in one motion."""

    motion: int
    term: str  # "no_at_fault_collisions", "drivable_area_compliance", "time_to_collision_within_bound"
    time_s: float
    token: str  # of the track; empty off the road
    x: float  # where the ego's centre was [m]
    y: float
    what: str  # kind of collision in words


def detail_proposals(scene: ScoringScene, proposals: np.ndarray, interval: float) -> Details:
    """Scores planned trajectories as ``pdms.score_proposals`` does and keeps all details; slower, for a few at a time."""
    proposals = check_proposals(proposals, interval)
    before, weight = interpolation(knot_times(scene.time_us, proposals.shape[1], interval), query_times(scene.time_us))
    knots, poses = np.empty((proposals.shape[1] + 1, 3)), np.empty((len(proposals), STATES, 3))
    for relative, out in zip(proposals, poses, strict=True):
        compose_poses(*scene.arrays.ego_state[:3], relative, knots)
        interpolate_poses(knots, before, weight, out)
    return detail_tracked(scene, poses)


def detail_tracked(scene: ScoringScene, poses: np.ndarray) -> Details:
    """As ``detail_proposals`` for poses (M, 41, 3) x, y [m], yaw [rad] that the tracker is to follow, in the scene's frame."""
    room = 64 * max(len(scene.tokens), 1) * 4
    scratch = make_scratch(events=room)
    start_s = start_on_centerline(scene.arrays)
    rows, collisions, threats = [], [], []
    for i, wanted in enumerate(poses):
        scratch.poses[:] = wanted
        score_one(scene.arrays, scratch, start_s, True)
        multiple = [in_multiple(scene, scratch, k) for k in range(STATES)]
        coords = np.concatenate([scratch.corners, scratch.frame[:, None, :2]], axis=1)
        areas = np.stack([multiple, scratch.off_road, scratch.off_route], axis=1)
        rows.append(
            (
                *(scratch.terms.copy(), wanted, scratch.velocity.copy(), scratch.curvature.copy(), scratch.states.copy()),
                *(coords, areas, scratch.comfort[:6].copy(), scratch.comfortable.copy()),
            )
        )
        for events, found in ((collisions, 0), (threats, 1)):
            events.extend((i, *event) for event in scratch.events[found, : scratch.event_count[found]].tolist())
    terms, *columns = (np.array(column) for column in zip(*rows, strict=True))
    collisions, threats = sorted(collisions), sorted(threats)
    return Details(
        aggregate(terms, reference_progress(scene)),
        *columns,
        collision_events=np.array([(i, k, track, kind) for i, k, _, track, kind, _ in collisions], dtype=np.int64).reshape(-1, 4),
        collision_events_at_fault=np.array([fault for *_, fault in collisions], dtype=bool),
        ttc_events=np.array([event[:5] for event in threats], dtype=np.int64).reshape(-1, 5),
    )


def in_multiple(scene: ScoringScene, scratch: Scratch, k: int) -> bool:
    """Whether the ego just scored is in several lanes at step ``k``."""
    off_road = bool(scratch.off_road[k])
    scratch.off_road[k] = False
    multiple = in_bad_area(scene.arrays, scratch, k)
    scratch.off_road[k] = off_road
    return multiple


def infractions(scene: ScoringScene, details: Details) -> list[Infraction]:
    """Returns every at-fault contact and predicted contact at its first step, and where the ego first left the road."""
    found, seen = [], set()

    def add(motion, term, step, token, what):
        if (motion, term, token) not in seen:
            seen.add((motion, term, token))
            x, y = details.coords[motion, step, 4]
            found.append(Infraction(int(motion), term, round(step * STEP_S, 1), token, float(x), float(y), what))

    for (motion, step, track, kind), at_fault in zip(details.collision_events, details.collision_events_at_fault, strict=True):
        if at_fault:
            what = CollisionType(kind).name.lower().replace("_", " ") + " collision"
            add(motion, "no_at_fault_collisions", step, scene.tokens[track], what)
    for motion, step, ahead, track, is_infraction in details.ttc_events:
        if is_infraction:
            add(motion, "time_to_collision_within_bound", step, scene.tokens[track], f"contact in {ahead * STEP_S:.1f} s")
    for motion, step in np.argwhere(details.areas[..., 1]):
        add(motion, "drivable_area_compliance", step, "", "off the drivable area")
    return sorted(found)
