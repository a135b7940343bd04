"""Scenarios and packs: what a world is made of, on disk and in memory."""

from importlib import import_module

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

_LAZY = {
    "Pack": "pack",
    "find_packs": "pack",
    "write_pack": "pack_write",
    "PackedScene": "pack_write",
    "add_scenes": "pack_scenes",
    "verify": "pack_verify",
    "validate": "validation",
    "start_problem": "start",
    "quantised": "quantise",
    "scenario_hash": "quantise",
}


def __getattr__(name: str):
    """Functions of packs are loaded when they are asked for, so that importing the types costs nothing more."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


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
    "Pack",
    "PackedScene",
    "ProgressReference",
    "Route",
    "Scenario",
    "Tracks",
    "VectorMap",
    "VehicleParameters",
    "add_scenes",
    "find_packs",
    "initial_ego_state",
    "quantised",
    "scenario_hash",
    "start_problem",
    "validate",
    "verify",
    "write_pack",
]
