"""Scenarios and packs: what a world is made of, on disk and in memory."""

from worldengine_envs.scenario.types import (
    HISTORY_STEPS,
    LOOKAHEAD_STEPS,
    STEP_S,
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
    VehicleParameters,
    initial_ego_state,
)

__all__ = [
    "HISTORY_STEPS",
    "LOOKAHEAD_STEPS",
    "STEP_S",
    "AgentType",
    "CameraRig",
    "LightState",
    "Lights",
    "MapLayer",
    "Origin",
    "ProgressReference",
    "Route",
    "Scenario",
    "Tracks",
    "VectorMap",
    "VehicleParameters",
    "initial_ego_state",
]
