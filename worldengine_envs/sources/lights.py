"""Colours of traffic lights by the names and numbers that logs use."""

from __future__ import annotations

import numpy as np

from worldengine_envs.scenario.types import LightState

WAYMO_LIGHTS = {  # TrafficSignalLaneState.State: 1 to 3 arrows, 4 to 6 round; 7 and 8 flash, which is unknown here
    1: LightState.RED,
    2: LightState.YELLOW,
    3: LightState.GREEN,
    4: LightState.RED,
    5: LightState.YELLOW,
    6: LightState.GREEN,
}


def light_state(value) -> LightState:
    """Names of Waymo (LANE_STATE_ARROW_STOP), Nocturne (arrow_stop) and MetaDrive (TRAFFIC_LIGHT_RED), and Waymo's numbers."""
    if isinstance(value, int | float | np.number):
        return WAYMO_LIGHTS.get(int(value), LightState.UNKNOWN) if np.isfinite(value) else LightState.UNKNOWN
    text = str(value).upper()
    if "FLASHING" in text:
        return LightState.UNKNOWN
    for words, colour in (
        (("STOP", "RED"), LightState.RED),
        (("CAUTION", "YELLOW"), LightState.YELLOW),
        (("GO", "GREEN"), LightState.GREEN),
    ):
        if any(text.endswith(word) for word in words):
            return colour
    return LightState.UNKNOWN


def observed_lights(seen: dict[str, tuple[list, list]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns lane: times (n,) [s], states (n,) int8 of (times, values) by lane; unknown ones and lanes without any left out."""
    out = {}
    for lane, (times, values) in seen.items():
        state = np.array([light_state(value) for value in values], np.int8)
        known = state != LightState.UNKNOWN
        if known.any():
            out[lane] = (np.asarray(times, np.float64)[known], state[known])
    return out
