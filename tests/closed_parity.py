"""Compares PDM-Closed with one reference case of the real planner (closed_* arrays, see FORMAT.md beside the cases)."""

from __future__ import annotations

import numpy as np

from worldengine_envs.scenario.types import VehicleParameters
from worldengine_envs.scoring.areas import first_corner_off_road, in_multiple_lanes, make_lane_scratch
from worldengine_envs.scoring.cases import scene_of_case, to_local
from worldengine_envs.scoring.comfort import SCRATCH_ROWS, comfort_signals, within_bounds
from worldengine_envs.scoring.pdm_closed import PdmClosedPlanner
from worldengine_envs.scoring.pdm_closed_idm import PROPOSAL_STEPS
from worldengine_envs.scoring.pdms import aggregate
from worldengine_envs.scoring.pdms_kernel import COLLISION_STEP, COMFORT, DAC, DDC, NC, PROGRESS, TTC, TTC_STEP
from worldengine_envs.simulation.geometry import box_corners
from worldengine_envs.simulation.map_index import on_lane_of

CONTINUOUS = ("proposal_poses", "idm_states", "leading_agent", "sim_states", "progress_raw", "ego_progress", "scores", "trajectory")
TERMS = {"closed_no_at_fault_collisions": NC, "closed_drivable_area_compliance": DAC, "closed_driving_direction_compliance": DDC,
         "closed_time_to_collision_within_bound": TTC, "closed_comfort": COMFORT, "closed_progress_raw": PROGRESS,
         "closed_collision_time_idx": COLLISION_STEP, "closed_ttc_time_idx": TTC_STEP}  # fmt: skip
TYPES = ("vehicle", "pedestrian", "bicycle", "traffic_cone", "barrier", "czone_sign", "generic_object")


def closed_tolerances(case: dict[str, np.ndarray]) -> dict[str, float]:
    """Returns the largest difference allowed by array; what is not named must be equal. float64 is coarser at UTM offsets."""
    is_far = np.abs(case["ego_state"][:2]).max() > 1e4
    return {f"closed_{name}": 1e-7 if is_far else 1e-9 for name in CONTINUOUS}


def plan_case(case: dict[str, np.ndarray]) -> tuple[PdmClosedPlanner, object, np.ndarray]:
    """Returns the planner after its plan, the plan, and the offset of its frame (2,)."""
    scene = scene_of_case(case)
    arrays, offset = scene.arrays, scene.offset
    planner = PdmClosedPlanner(
        to_local(case["centerline"], offset), VehicleParameters(), arrays.map_index, arrays.m, arrays.on_route
    )
    there, tokens = case["tracks_valid"][0], case["map_tokens"].tolist()
    types = np.array([TYPES.index(name) for name in case["track_types"][there]], np.int8)
    on_route = set(case["route_lane_ids"].tolist())
    red = [tokens.index(token) for token in case["red_light_lane_ids"].tolist() if token in on_route]
    objects = to_local(case["tracks"][0][there], offset)
    plan = planner.plan(arrays.ego_state, objects, types, red, float(case["speed_limit"]))
    return planner, plan, offset


def _pose_error(mine: np.ndarray, theirs: np.ndarray, offset: np.ndarray) -> float:
    difference = mine - to_local(theirs, offset)
    difference[..., 2] = np.arctan2(np.sin(difference[..., 2]), np.cos(difference[..., 2]))
    return float(np.abs(difference).max(initial=0.0))


def closed_errors(case: dict[str, np.ndarray]) -> dict[str, float]:
    """Returns the largest difference of each closed_* array, rows that are unstable or have a tie apart.

    Where the chosen row or the normalising rows have a tie, what depends on them is left out too.
    """
    planner, plan, offset = plan_case(case)
    room, rows = planner.room, case["closed_stable"] & ~case["closed_lead_tie"]
    count, steps = room.forecast.count[0], slice(0, PROPOSAL_STEPS + 1)
    tokens = case["track_tokens"][case["tracks_valid"][0]][room.forecast.row[:count]]
    ignored = set(tokens[room.forecast.ignored[:count]].tolist())
    errors = {
        "closed_proposal_poses": _pose_error(room.proposals.pose[rows, steps], case["closed_proposal_poses"][rows], offset),
        "closed_idm_states": np.abs(room.proposals.idm[rows, steps] - case["closed_idm_states"][rows]).max(initial=0.0),
        "closed_leading_agent": np.abs(room.proposals.leader[rows, steps] - case["closed_leading_agent"][rows]).max(initial=0.0),
        "closed_sim_states": _pose_error(room.states[rows], case["closed_sim_states"][rows], offset),
        "closed_forecast_tokens": float(tokens.tolist() != _without_lights(case["closed_forecast_tokens"])),
        "closed_ignored_tokens": float(ignored != set(_without_lights(case["closed_ignored_tokens"]))),
        "closed_ego_areas": float(np.sum(_areas(planner, room.states[rows]) != case["closed_ego_areas"][rows])),
        "closed_comfort_checks": float(np.sum(_comfort_checks(room.states[rows]) != case["closed_comfort_checks"][rows])),
    }
    for name, column in TERMS.items():
        mine, theirs = room.terms[rows, column], case[name][rows]
        same = mine == theirs  # inf = never
        errors[name] = float(np.abs(np.where(same, 0.0, mine - np.where(same, 0.0, theirs))).max(initial=0.0))
    errors["closed_red_lights"] = float(_red_light_errors(room, case))
    if rows.all():
        errors["closed_ego_progress"] = np.abs(_ego_progress(room.terms) - case["closed_ego_progress"]).max()
        errors["closed_scores"] = np.abs(plan.scores - case["closed_scores"]).max()
        errors["closed_best"] = float(case["closed_scores"][plan.choice] < case["closed_scores"].max() - 1e-6)
        if plan.choice == case["closed_best"]:
            errors["closed_trajectory"] = _pose_error(plan.trajectory, case["closed_trajectory"], offset)
    return errors


def _without_lights(tokens: np.ndarray) -> list[str]:
    return [token for token in tokens.tolist() if not token.startswith("red_light")]


def _red_light_errors(room, case: dict[str, np.ndarray]) -> int:
    """Red polygons seen and ignored, against the tokens of the reference."""
    seen = sum(token.startswith("red_light") for token in case["closed_forecast_tokens"].tolist())
    ignored = sum(token.startswith("red_light") for token in case["closed_ignored_tokens"].tolist())
    count = room.lights.count[0]
    return abs(int(count) - seen) + abs(int(room.lights.ignored[:count].sum()) - ignored)


def _areas(planner: PdmClosedPlanner, states: np.ndarray) -> np.ndarray:
    """Returns (rows, steps, 3) bool: in multiple lanes, off the road, off the route."""
    index, route, lanes = planner.map_index, planner.route, make_lane_scratch()
    areas, corners = np.zeros((*states.shape[:2], 3), bool), np.zeros((4, 2))
    for i, k in np.ndindex(states.shape[:2]):
        x, y, yaw = states[i, k, :3]
        x, y = x + route.vehicle[3] * np.cos(yaw), y + route.vehicle[3] * np.sin(yaw)
        box_corners(x, y, np.cos(yaw), np.sin(yaw), route.vehicle[0] / 2, route.vehicle[1] / 2, corners)
        areas[i, k] = (
            in_multiple_lanes(index, route.m, corners, lanes),
            first_corner_off_road(index, route.m, corners) >= 0,
            not on_lane_of(index, route.m, route.on_route, x, y),
        )
    return areas


def _ego_progress(terms: np.ndarray) -> np.ndarray:
    multiplier = terms[:, NC] * terms[:, DAC]
    return aggregate(terms, (terms[:, PROGRESS] * multiplier).max()).ego_progress


def _comfort_checks(states: np.ndarray) -> np.ndarray:
    scratch = np.zeros((SCRATCH_ROWS, states.shape[1]))
    checks = np.zeros((len(states), 6), bool)
    for i, motion in enumerate(states):
        comfort_signals(motion, len(motion), scratch)
        checks[i] = [within_bounds(scratch, len(motion), row) for row in range(6)]
    return checks
