"""Runs the real scorer of NAVSIM v2.2 on reference cases and writes its sub-scores, to compare ``epdms-v2`` with.

    python benchmarks/navsim_v2.py DIR OUT.npz [--pattern 'p*']

Needs NAVSIM (tag v2.2) and nuplan-devkit importable, in an environment of their own. DIR holds ``pdm_cases``. What the cases
lack is made up and stored with the results: the driven past (four states 0.5 s apart), lights (the cases' red connectors are red
for the first 2.5 s), the human drive (proposal 1). Traffic is log replay. Keys of OUT: ``<case>.plain`` and ``<case>.filtered``
(M, 9) NC, DAC, DDC, TLC, EP, TTC, LK, HC, score without and with the human filter, ``<case>.extended_comfort`` (M,) against the
plan of the row before, ``<case>.history_times`` (4,) [us], ``<case>.history`` (4, 11).
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from navsim.common.dataclasses import Trajectory
from navsim.common.enums import SceneFrameType
from navsim.evaluate.pdm_score import pdm_score
from navsim.planning.simulation.planner.pdm_planner.observation.pdm_observation import PDMObservation
from navsim.planning.simulation.planner.pdm_planner.observation.pdm_occupancy_map import PDMDrivableMap
from navsim.planning.simulation.planner.pdm_planner.scoring.pdm_comfort_metrics import ego_is_two_frame_extended_comfort
from navsim.planning.simulation.planner.pdm_planner.scoring.pdm_scorer import PDMScorer, PDMScorerConfig
from navsim.planning.simulation.planner.pdm_planner.simulation.pdm_simulator import PDMSimulator
from navsim.planning.simulation.planner.pdm_planner.utils.pdm_path import PDMPath
from navsim.traffic_agents_policies.log_replay_traffic_agents import LogReplayTrafficAgents
from nuplan.common.actor_state.agent import Agent
from nuplan.common.actor_state.ego_state import EgoState
from nuplan.common.actor_state.oriented_box import OrientedBox
from nuplan.common.actor_state.scene_object import SceneObjectMetadata
from nuplan.common.actor_state.state_representation import StateSE2, StateVector2D, TimePoint
from nuplan.common.actor_state.static_object import StaticObject
from nuplan.common.actor_state.tracked_objects import TrackedObjects
from nuplan.common.actor_state.tracked_objects_types import AGENT_TYPES, TrackedObjectType
from nuplan.common.actor_state.vehicle_parameters import get_pacifica_parameters
from nuplan.common.maps.maps_datatypes import SemanticMapLayer, TrafficLightStatusType
from nuplan.planning.simulation.observation.observation_type import DetectionsTracks
from nuplan.planning.simulation.trajectory.interpolated_trajectory import InterpolatedTrajectory
from nuplan.planning.simulation.trajectory.trajectory_sampling import TrajectorySampling
from shapely.geometry import Polygon

SAMPLING = TrajectorySampling(num_poses=40, interval_length=0.1)
RED_STEPS, HUMAN = 25, 1
TERMS = (
    "no_at_fault_collisions", "drivable_area_compliance", "driving_direction_compliance", "traffic_light_compliance",
    "ego_progress", "time_to_collision_within_bound", "lane_keeping", "history_comfort",
)  # fmt: skip


def ego_state(state: np.ndarray, time_us: int) -> EgoState:
    """Returns a state vector (11,) as nuPlan's object."""
    return EgoState.build_from_rear_axle(
        StateSE2(*state[:3]), StateVector2D(*state[3:5]), StateVector2D(*state[5:7]), float(state[7]), TimePoint(int(time_us)),
        get_pacifica_parameters(), angular_vel=float(state[9]), angular_accel=float(state[10]), tire_steering_rate=float(state[8]),
    )  # fmt: skip


def made_up_past(case: dict) -> tuple[np.ndarray, np.ndarray]:
    """Returns times (4,) [us] and states (4, 11): back along the heading, with rough yaw and acceleration."""
    rng = np.random.default_rng(int.from_bytes(str(case["scene_id"]).encode()[-6:], "little") % 2**31)
    ego, t = case["ego_state"], np.array([-1.5, -1.0, -0.5, 0.0])
    states = np.tile(ego, (4, 1))
    states[:, 0] += ego[3] * t * np.cos(ego[2])
    states[:, 1] += ego[3] * t * np.sin(ego[2])
    states[:3, 2] += rng.normal(0, 0.05, 3)
    states[:3, 5] += rng.normal(0, rng.choice([0.2, 2.0]), 3)
    return max(int(case["time_us"]), 10_000_000) + (t * 1e6).astype(int), states


def tracked_objects(case: dict) -> list[DetectionsTracks]:
    """Returns what is seen at steps 0..40."""
    types = [TrackedObjectType[str(name).upper()] for name in case["track_types"]]
    frames = []
    for k in range(41):
        found = []
        for n in np.flatnonzero(case["tracks_valid"][k]):
            x, y, yaw, length, width, vx, vy = case["tracks"][k, n]
            token = str(case["track_tokens"][n])
            metadata = SceneObjectMetadata(int(case["time_us"]) + 100_000 * k, token, int(n), token)
            box = OrientedBox(StateSE2(x, y, yaw), length, width, 1.7)
            is_agent = types[n] in AGENT_TYPES
            found.append(
                Agent(types[n], box, StateVector2D(vx, vy), metadata) if is_agent else StaticObject(types[n], box, metadata)
            )
        frames.append(DetectionsTracks(TrackedObjects(found)))
    return frames


def metric_cache(case: dict) -> SimpleNamespace:
    """Returns what the real scorer reads of a scene."""
    offsets, tokens = case["map_offsets"], case["map_tokens"].tolist()
    polygons = np.array([Polygon(case["map_xy"][a:b]) for a, b in itertools.pairwise(offsets)], dtype=object)
    layers, route = [SemanticMapLayer[str(name)] for name in case["map_layers"]], case["route_lane_ids"].tolist()
    lanes = {token: SimpleNamespace(polygon=p) for token, p in zip(tokens, polygons, strict=True) if token in set(route)}
    red = [
        SimpleNamespace(lane_connector_id=token, status=TrafficLightStatusType.RED) for token in case["red_light_lane_ids"].tolist()
    ]
    observation = PDMObservation(SAMPLING, SAMPLING, 100, observation_sample_res=1, extend_observation_for_ttc=False)
    lights = [red if k < RED_STEPS else [] for k in range(41)]
    observation.update_detections_tracks(tracked_objects(case), lights, lanes, compute_traffic_light_data=True)
    time_us, past = int(case["time_us"]), made_up_past(case)
    reference = [ego_state(np.r_[pose, np.zeros(8)], time_us + 100_000 * k) for k, pose in enumerate(case["reference_poses"])]
    return SimpleNamespace(
        ego_state=ego_state(case["ego_state"], time_us),
        trajectory=InterpolatedTrajectory(reference),
        observation=observation,
        centerline=PDMPath([StateSE2(*pose) for pose in case["centerline"]]),
        route_lane_ids=route,
        drivable_area_map=PDMDrivableMap(tokens, layers, polygons),
        map_parameters=None,
        past_human_trajectory=InterpolatedTrajectory([ego_state(s, t) for t, s in zip(*past, strict=True)]),
        scene_type=SceneFrameType.ORIGINAL,
        human_trajectory=Trajectory(case["proposals"][HUMAN], sampling_of(case)),
    )


def sampling_of(case: dict) -> TrajectorySampling:
    return TrajectorySampling(num_poses=case["proposals"].shape[1], interval_length=float(case["proposal_interval"]))


def score_case(case: dict) -> dict[str, np.ndarray]:
    """Returns the real scorer's results for every proposal, and what was made up."""
    cache, results, states = metric_cache(case), {}, []
    for name, human_filter in (("plain", False), ("filtered", True)):
        scorer, rows, states = PDMScorer(SAMPLING, PDMScorerConfig(human_penalty_filter=human_filter)), [], []
        for poses in case["proposals"]:
            plan = Trajectory(poses, sampling_of(case))
            frame, driven = pdm_score(cache, plan, SAMPLING, PDMSimulator(SAMPLING), scorer, LogReplayTrafficAgents(SAMPLING))
            row = frame.iloc[0]
            weighted = (np.array(row["weighted_metrics"]) * row["weighted_metrics_array"])[:4].sum() / 14
            rows.append([*(row[term] for term in TERMS), row["multiplicative_metrics_prod"] * weighted])
            states.append(driven)
        results[name] = np.array(rows, dtype=np.float64)
    driven, time_s = np.array(states), np.arange(36) * 0.1
    results["extended_comfort"] = ego_is_two_frame_extended_comfort(
        driven[:, :-5], np.roll(driven, 1, axis=0)[:, 5:], time_s
    ).astype(float)
    results["history_times"], results["history"] = made_up_past(case)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pattern", default="p*")
    arguments = parser.parse_args()
    everything = {}
    for file in sorted(arguments.folder.glob(f"{arguments.pattern}.npz")):
        with np.load(file, allow_pickle=False) as archive:
            results = score_case({key: archive[key] for key in archive.files})
        everything |= {f"{file.stem}.{name}": values for name, values in results.items()}
        print(f"{file.stem}: {len(results['plain'])} proposals, mean score {results['filtered'][:, 8].mean():.3f}", flush=True)
    np.savez_compressed(arguments.out, **everything)
    return 0


if __name__ == "__main__":
    sys.exit(main())
