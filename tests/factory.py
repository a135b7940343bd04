"""A hand-made scenario for tests: a straight one-way road, the ego at constant speed, and whoever else is asked for.

The road runs along x from -100 m to ``length`` in two sections that meet at x = 100 (a roadblock each, then a connector
inside an intersection over the last 20 m before x = 100). Lane 0 is the rightmost, its centreline at y = 0; lanes are
3.5 m apart. The ego is at x = y = 0 in lane 0 at the start step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from worldengine_envs.scenario.types import (
    STEP_S,
    AgentType,
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
)

SIZES = {
    AgentType.VEHICLE: (4.6, 1.9, 1.6),
    AgentType.PEDESTRIAN: (0.6, 0.6, 1.8),
    AgentType.BICYCLE: (1.8, 0.6, 1.8),
    AgentType.TRAFFIC_CONE: (0.4, 0.4, 0.7),
    AgentType.BARRIER: (2.0, 0.6, 1.0),
    AgentType.CZONE_SIGN: (0.5, 0.5, 1.5),
    AgentType.GENERIC_OBJECT: (1.0, 1.0, 1.0),
}


@dataclass(frozen=True)
class Agent:
    """One agent on a straight line: pose [m, rad] at the start step, speed [m/s] along its yaw, steps at which it exists."""

    x: float
    y: float
    speed: float = 0.0
    yaw: float = 0.0
    kind: AgentType = AgentType.VEHICLE
    acceleration: float = 0.0  # [m/s2] from the start step on; stops at standstill
    first: int = -(10**6)  # steps relative to the start in which the agent exists
    last: int = 10**6


def straight_map(lanes: int = 2, length: float = 400.0, width: float = 3.5, speed_limit: float = 13.9) -> VectorMap:
    """Returns the road of the module's docstring: lane rows are section * lanes + lane (sections: approach, connector, exit)."""
    spans = [(-100.0, 80.0), (80.0, 100.0), (100.0, length)]
    polygons, layers, centerlines, successors = [], [], [], []
    for section, (x0, x1) in enumerate(spans):
        for lane in range(lanes):
            y = lane * width
            polygons.append([(x0, y - width / 2), (x1, y - width / 2), (x1, y + width / 2), (x0, y + width / 2)])
            layers.append(MapLayer.LANE_CONNECTOR if section == 1 else MapLayer.LANE)
            centerlines.append(np.stack([np.linspace(x0, x1, 5), np.full(5, y)], axis=1))
            successors.append([(section + 1) * lanes + lane] if section < 2 else [])
    low, high = -width / 2, (lanes - 0.5) * width
    for x0, x1, layer in (
        (-100.0, 80.0, MapLayer.ROADBLOCK),
        (80.0, 100.0, MapLayer.INTERSECTION),
        (100.0, length, MapLayer.ROADBLOCK),
        (60.0, 64.0, MapLayer.CROSSWALK),
    ):
        polygons.append([(x0, low), (x1, low), (x1, high), (x0, high)])
        layers.append(layer)
    count = 3 * lanes
    lane = np.arange(count) % lanes
    rows = np.arange(count)
    return VectorMap(
        lane_tokens=tuple(f"lane_{i}" for i in range(count)),
        lane_is_connector=rows // lanes == 1,
        lane_speed_limit=np.full(count, speed_limit),
        lane_roadblock=(rows // lanes).astype(np.int32),
        lane_left=np.where(lane + 1 < lanes, rows + 1, -1).astype(np.int32),
        lane_right=np.where(lane > 0, rows - 1, -1).astype(np.int32),
        lane_polygon=rows.astype(np.int32),
        centerline=np.concatenate(centerlines),
        centerline_offsets=np.arange(0, 5 * count + 1, 5, dtype=np.int32),
        successors=np.array([s for row in successors for s in row], dtype=np.int32),
        successor_offsets=np.cumsum([0] + [len(row) for row in successors], dtype=np.int32),
        polygon_xy=np.array([p for ring in polygons for p in ring], dtype=np.float64),
        polygon_offsets=np.cumsum([0] + [len(ring) for ring in polygons], dtype=np.int32),
        polygon_layer=np.array(layers, dtype=np.int8),
    )


def constant_motion(agent: Agent, steps: int, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns state (steps, 5) and valid (steps,) of one agent."""
    k = np.arange(steps) - start
    t = STEP_S * k
    stop = -agent.speed / agent.acceleration if agent.acceleration < 0 else np.inf
    moving = np.clip(t, 0, stop)
    s = np.where(t < 0, agent.speed * t, agent.speed * moving + 0.5 * agent.acceleration * moving**2)
    v = np.where(t < 0, agent.speed, np.maximum(agent.speed + agent.acceleration * t, 0.0))
    c, n = np.cos(agent.yaw), np.sin(agent.yaw)
    state = np.stack([agent.x + s * c, agent.y + s * n, np.full(steps, agent.yaw), v * c, v * n], axis=1)
    valid = (k >= agent.first) & (k <= agent.last)
    return np.where(valid[:, None], state, 0.0), valid


def straight_scenario(
    agents: tuple[Agent, ...] | list[Agent] = (),
    *,
    id: str = "straight",
    speed: float = 10.0,
    lanes: int = 2,
    seconds: float = 9.0,
    start_step: int = 15,
    light: LightState | None = None,
    split: str = "test",
    tags: tuple[str, ...] = (),
) -> Scenario:
    """Returns a Scenario with `seconds` of recording after the start (9 s: horizons 4 and 8 s fit).

    Args:
        speed: The ego's constant speed [m/s].
        light: State of a light over the connector of lane 0 (stop line at x = 80 m), None = no light.
    """
    vector_map = straight_map(lanes)
    steps = start_step + round(seconds / STEP_S) + 1
    everyone = [Agent(0.0, 0.0, speed), *agents]
    motion = [constant_motion(agent, steps, start_step) for agent in everyone]
    valid = np.stack([m[1] for m in motion])
    ego = VehicleParameters()
    sizes = np.array([(ego.length, ego.width, 1.8)] + [SIZES[a.kind] for a in agents])
    tracks = Tracks(
        tokens=("ego", *(f"agent_{i}" for i in range(len(agents)))),
        types=np.array([a.kind for a in everyone], dtype=np.int8),
        state=np.stack([m[0] for m in motion]),
        size=np.where(valid[:, :, None], sizes[:, None, :], 0.0),
        valid=valid,
    )
    has_light = light is not None
    lights = Lights(
        lanes=np.array([lanes] if has_light else [], dtype=np.int32),
        state=np.full((int(has_light), steps), light or 0, dtype=np.int8),
    )
    x = np.linspace(-100.0, 400.0, 251)
    return Scenario(
        id=id,
        origin=Origin("handmade", "straight", id, "Apache-2.0"),
        tracks=tracks,
        start_step=start_step,
        vector_map=vector_map,
        lights=lights,
        route=Route(
            lanes=np.arange(3 * lanes, dtype=np.int32),
            centerline=np.stack([x, np.zeros_like(x), np.zeros_like(x)], axis=1),
            goal=np.array([speed * seconds, 0.0]),
        ),
        ego=ego,
        reference=ProgressReference(
            "log", {h: speed * h for h in (4.0, 8.0, 15.0) if round(h / STEP_S) + 10 <= round(seconds / STEP_S)}
        ),
        split=split,
        tags=tags,
    )


def moved(scenario: Scenario, angle: float, dx: float, dy: float) -> Scenario:
    """Returns the same scenario turned by `angle` [rad] about the origin and then shifted by dx, dy [m]."""
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = np.array([dx, dy])

    def points(xy):
        return xy @ rotation.T + shift

    tracks, vector_map, route = scenario.tracks, scenario.vector_map, scenario.route
    state = tracks.state.copy()
    state[..., :2] = points(state[..., :2])
    state[..., 2] = np.arctan2(np.sin(state[..., 2] + angle), np.cos(state[..., 2] + angle))
    state[..., 3:] = state[..., 3:] @ rotation.T
    state[~tracks.valid] = 0.0
    centerline = np.concatenate([points(route.centerline[:, :2]), route.centerline[:, 2:] + angle], axis=1)
    return replace(
        scenario,
        tracks=replace(tracks, state=state),
        vector_map=replace(vector_map, centerline=points(vector_map.centerline), polygon_xy=points(vector_map.polygon_xy)),
        route=replace(route, centerline=centerline, goal=points(route.goal)),
    )
