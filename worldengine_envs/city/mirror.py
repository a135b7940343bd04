"""Left-hand traffic: the mirror image of a right-hand scenario."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from worldengine_envs.scenario.types import Route, Scenario, VectorMap


def mirrored(scenario: Scenario) -> Scenario:
    """Returns the scenario with left and right swapped (y to -y): exact, and its own inverse. Ids and tags stay."""
    x, y = scenario.origin.offset
    return replace(
        scenario,
        origin=replace(scenario.origin, offset=(x, 0.0 - y)),
        tracks=replace(scenario.tracks, state=_flipped(scenario.tracks.state, (1, 2, 4))),
        vector_map=_mirrored_map(scenario.vector_map),
        route=_mirrored_route(scenario.route),
    )


def _flipped(values: np.ndarray, columns: tuple[int, ...]) -> np.ndarray:
    """Returns a copy with the sign of these columns of the last axis changed, without negative zeros."""
    values = values.copy()
    for column in columns:
        values[..., column] = 0.0 - values[..., column]
    return values


def _mirrored_map(m: VectorMap) -> VectorMap:
    ends = m.polygon_offsets.astype(np.int64)
    backwards = np.repeat(ends[:-1] + ends[1:] - 1, np.diff(ends)) - np.arange(ends[-1])  # rings keep their sense of rotation
    return replace(
        m,
        lane_left=m.lane_right,
        lane_right=m.lane_left,
        centerline=_flipped(m.centerline, (1,)),
        polygon_xy=_flipped(m.polygon_xy[backwards], (1,)),
    )


def _mirrored_route(route: Route) -> Route:
    return Route(route.lanes, _flipped(route.centerline, (1, 2)), _flipped(route.goal, (1,)))
