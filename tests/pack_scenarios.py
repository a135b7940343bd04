"""A small made-up scenario for tests of packs: a straight road of two lanes with an ego, a car ahead and a pedestrian beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from worldengine_envs.scenario import (
    AgentType,
    CameraRig,
    Lights,
    LightState,
    MapLayer,
    Origin,
    ProgressReference,
    Route,
    Scenario,
    Tracks,
    VectorMap,
)


def straight_map(length: float = 300.0, width: float = 3.5) -> VectorMap:
    """Two lanes in one direction, each with a successor, in one roadblock and one drivable area."""
    centerlines, rings, layers = [], [], []
    for connector in (0, 1):
        for lane in (0, 1):
            x0, y = connector * length / 2, (lane - 0.5) * width
            x = np.linspace(x0, x0 + length / 2, 20)
            centerlines.append(np.stack([x, np.full(20, y)], axis=1))
            rings.append([[x0, y - width / 2], [x[-1], y - width / 2], [x[-1], y + width / 2], [x0, y + width / 2]])
            layers.append(MapLayer.LANE_CONNECTOR if connector else MapLayer.LANE)
    rings.append([[-20, -width - 1], [length, -width - 1], [length, width + 1], [-20, width + 1]])
    layers.append(MapLayer.DRIVABLE_AREA)
    return VectorMap(
        lane_tokens=("a0", "a1", "b0", "b1"),
        lane_is_connector=np.array([False, False, True, True]),
        lane_speed_limit=np.array([13.9, 13.9, np.nan, np.nan]),
        lane_roadblock=np.array([0, 0, 1, 1], np.int32),
        lane_left=np.array([1, -1, 3, -1], np.int32),
        lane_right=np.array([-1, 0, -1, 2], np.int32),
        lane_polygon=np.arange(4, dtype=np.int32),
        centerline=np.concatenate(centerlines),
        centerline_offsets=np.arange(0, 81, 20, dtype=np.int32),
        successors=np.array([2, 3], np.int32),
        successor_offsets=np.array([0, 1, 2, 2, 2], np.int32),
        polygon_xy=np.concatenate([np.array(r, float) for r in rings]),
        polygon_offsets=np.arange(0, 21, 4, dtype=np.int32),
        polygon_layer=np.array(layers, np.int8),
    )


def small_scenario(scenario_id: str = "a_000", steps: int = 80, agents: int = 3, seed: int = 0) -> Scenario:
    """A valid scenario; the ego drives along lane a0 at about 10 m/s, the pedestrian appears at step 10."""
    rng = np.random.default_rng(seed)
    time = np.arange(steps) * 0.1
    state, size = np.zeros((agents, steps, 5)), np.zeros((agents, steps, 3))
    valid = np.ones((agents, steps), bool)
    for row in range(agents):
        speed = 10.0 + rng.normal() if row < 2 else 1.0
        state[row, :, 0] = 10.0 + 25.0 * row + speed * time
        state[row, :, 1] = -1.75 if row < 2 else 6.0 + row
        state[row, :, 2] = 0.001 * rng.normal(size=steps)
        state[row, :, 3] = speed
        size[row] = (4.8, 1.9, 1.6) if row < 2 else (0.7, 0.7, 1.8)
    if agents > 2:
        valid[2, :10] = False
    state[~valid], size[~valid] = 0, 0
    types = np.array([AgentType.VEHICLE] * min(agents, 2) + [AgentType.PEDESTRIAN] * max(agents - 2, 0), np.int8)
    x = np.linspace(0, 290, 146)
    return Scenario(
        id=scenario_id,
        origin=Origin("made", "log-1", "token-1", "CC0-1.0", (664_123.456789, 3_998_001.25), 1_600_000_000_000_000, ("velocity",)),
        tracks=Tracks(tuple(f"t{i}" for i in range(agents)), types, state, size, valid),
        start_step=15,
        vector_map=straight_map(),
        lights=Lights(np.array([2], np.int32), np.full((1, steps), LightState.GREEN, np.int8)),
        route=Route(
            np.arange(4, dtype=np.int32), np.stack([x, np.full(146, -1.75), np.zeros(146)], axis=1), np.array([280.0, -1.75])
        ),
        reference=ProgressReference("log", {4.0: 38.123}),
        split="train",
        tags=("straight",),
    )


def window(scenario: Scenario, scenario_id: str, start_step: int, **changes) -> Scenario:
    """Another scenario that shares the arrays."""
    return replace(scenario, id=scenario_id, start_step=start_step, **changes)


def small_rig() -> CameraRig:
    """One camera that looks ahead."""
    pose = np.array([[0, 0, 1, 1.7], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1.0]])
    k = np.array([[277.128, 0, 160], [0, 277.128, 90], [0, 0, 1.0]])
    return CameraRig(("front",), pose[None], k[None], np.zeros((1, 5)), np.array([[180, 320]], np.int32))
