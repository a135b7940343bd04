"""Traffic lights in the JSON of Nocturne and of GPUDrive, and which lanes they belong to."""

from __future__ import annotations

import math

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import STEP_S
from worldengine_envs.sources.checks import MAX_COORDINATE, MAX_FEATURES, at_most
from worldengine_envs.sources.lights import observed_lights
from worldengine_envs.sources.road import RawLane

STOP_POINT_M = 1.0  # a light's stop point lies so near to the start of its lane


def lights_by_lane(states, steps: int, lanes: list[RawLane], derived: set[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns the lights by lane token.

    Both formats name a light by the id of its lane. Nocturne's lanes have no ids: there a light belongs to a lane that starts at
    its stop point; where several do, in order, for both lists are in the order of the ids.
    """
    if not states:
        return {}
    if not isinstance(states, dict):
        raise DataError(f"{type(states).__name__} instead of a table", field="tl_states")
    at_most(len(states), MAX_FEATURES, "tl_states")
    seen, places = {}, {}
    for key, light in states.items():
        field = f"tl_states.{key[:40]}"
        colours, index = (light.get("state"), light.get("time_index")) if isinstance(light, dict) else (None, None)
        if not isinstance(colours, list):
            raise DataError("must be a record with a list of states", field=field)
        index = list(range(len(colours))) if index is None else index
        if (
            not isinstance(index, list)
            or len(index) != len(colours)
            or not all(isinstance(k, int) and 0 <= k < steps for k in index)
        ):
            raise DataError(f"must be {len(colours)} steps, each below {steps}", field=f"{field}.time_index")
        if index:
            order = np.argsort(index, kind="stable")
            seen[key] = (STEP_S * np.asarray(index)[order], [colours[k] for k in order])
            places[key] = _stop_point(light, field)
    tokens = {lane.token for lane in lanes}
    if seen and not tokens & set(seen):
        derived.add("light_lanes")
        lane_of = _lanes_at(places, lanes)
        if len(lane_of) < len(seen):
            derived.add("lights_left_out")
        seen = {lane_of[key]: samples for key, samples in seen.items() if key in lane_of}
    return observed_lights(seen)


def _stop_point(light: dict, field: str) -> tuple[float, float]:
    """Returns x, y [m] of the stop point, NaN where the file has none."""
    values = []
    for name in ("x", "y"):
        value = light.get(name)
        value = value[0] if isinstance(value, list) and value else value
        values.append(float(value) if isinstance(value, int | float) and abs(value) < MAX_COORDINATE else math.nan)
    return values[0], values[1]


def _lanes_at(places: dict[str, tuple[float, float]], lanes: list[RawLane]) -> dict[str, str]:
    """Returns the lane's token by light, for lights whose stop point lies at the start of a lane of their own."""
    usable = [lane for lane in lanes if len(lane.center)]
    starts = np.array([lane.center[0] for lane in usable]).reshape(-1, 2)
    out, taken = {}, set()
    for key in sorted(places, key=lambda key: (int(key) if key.isdecimal() and len(key) < 20 else 0, key)):
        distance = np.hypot(*(starts - np.array(places[key])).T)
        rows = [int(row) for row in np.flatnonzero(distance <= STOP_POINT_M) if int(row) not in taken]
        if rows:
            row = min(rows, key=lambda row: (round(float(distance[row]), 2), row))
            taken.add(row)
            out[key] = usable[row].token
    return out
