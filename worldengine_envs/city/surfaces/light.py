"""The light of day, dusk and night, and which of them a scenario has."""

from __future__ import annotations

import numpy as np

from worldengine_envs.city.surfaces.noise import hash_of
from worldengine_envs.city.surfaces.types import Light

DAY_SHARE, DUSK_SHARE = 0.6, 0.2  # of scenarios; the rest are at night


def _light(ambient, above, sun, azimuth, elevation, zenith, horizon, is_dark, lamp) -> Light:
    """Makes a light; the sun stands at this azimuth and elevation [rad]."""
    direction = (np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation))
    colors = [np.array(c, np.float32) for c in (ambient, above, sun, zenith, horizon, lamp)]
    return Light(*colors[:3], np.array(direction), colors[3], colors[4], is_dark, colors[5])


LIGHTS: dict[str, Light] = {
    "day": _light(
        ambient=(0.60, 0.63, 0.68),
        above=(0.12, 0.13, 0.15),
        sun=(0.45, 0.41, 0.34),
        azimuth=0.7,
        elevation=0.8,
        zenith=(0.36, 0.56, 0.84),
        horizon=(0.80, 0.87, 0.93),
        is_dark=False,
        lamp=(0.0, 0.0, 0.0),
    ),
    "dusk": _light(
        ambient=(0.43, 0.41, 0.47),
        above=(0.03, 0.03, 0.05),
        sun=(0.32, 0.18, 0.08),
        azimuth=0.7,
        elevation=0.14,
        zenith=(0.24, 0.28, 0.47),
        horizon=(0.90, 0.62, 0.45),
        is_dark=True,
        lamp=(0.28, 0.23, 0.13),
    ),
    "night": _light(
        ambient=(0.28, 0.29, 0.35),
        above=(0.02, 0.02, 0.03),
        sun=(0.02, 0.02, 0.03),
        azimuth=2.5,
        elevation=0.9,
        zenith=(0.02, 0.03, 0.07),
        horizon=(0.10, 0.10, 0.15),
        is_dark=True,
        lamp=(0.82, 0.69, 0.44),
    ),
}


def time_of_day(scenario_id: str) -> str:
    """Returns "day", "dusk" or "night": the same for an id everywhere; 60, 20 and 20 % of ids."""
    share = hash_of(scenario_id) / 2**32
    return "day" if share < DAY_SHARE else "dusk" if share < DAY_SHARE + DUSK_SHARE else "night"
