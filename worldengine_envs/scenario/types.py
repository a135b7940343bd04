"""What a scenario is: frozen dataclasses of plain numpy arrays, and nothing else.

Frames: x, y on the ground [m], yaw counter-clockwise from x [rad], local to the ego's position at the first step of its
recording (``Origin.offset`` holds the global position in float64). Windows cut from one recording share its arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

STEP_S = 0.1  # time between two steps of every scenario [s]
HISTORY_STEPS = 15  # steps before the start that a window keeps
LOOKAHEAD_STEPS = 10  # steps after the horizon that scoring looks at (0.9 s of time to collision, rounded up)


class AgentType(IntEnum):
    """Kind of a track. The first three are agents, the others static objects (half credit in collisions)."""

    VEHICLE = 0
    PEDESTRIAN = 1
    BICYCLE = 2
    TRAFFIC_CONE = 3
    BARRIER = 4
    CZONE_SIGN = 5
    GENERIC_OBJECT = 6

    @property
    def is_agent(self) -> bool:
        return self <= AgentType.BICYCLE


class MapLayer(IntEnum):
    """What a polygon of the map stands for (nuPlan's names)."""

    ROADBLOCK = 0
    LANE = 1
    LANE_CONNECTOR = 2
    INTERSECTION = 3
    CARPARK_AREA = 4
    DRIVABLE_AREA = 5
    CROSSWALK = 6


class LightState(IntEnum):
    """Colour of a traffic light."""

    UNKNOWN = 0
    GREEN = 1
    YELLOW = 2
    RED = 3


@dataclass(frozen=True, slots=True)
class VehicleParameters:
    """Size of the ego vehicle [m]; the default is nuPlan's Pacifica."""

    length: float = 5.176
    width: float = 2.297
    wheel_base: float = 3.089
    rear_axle_to_center: float = 1.461  # the box centre lies this far ahead of the rear axle

    @classmethod
    def from_box(cls, length: float, width: float) -> VehicleParameters:
        """Pacifica's proportions scaled to another length, for logs that tell the ego's box but not its axles."""
        scale = length / 5.176
        return cls(length, width, 3.089 * scale, 1.461 * scale)


@dataclass(frozen=True, slots=True)
class Tracks:
    """Everything that moves or stands, sampled at 0.1 s. Row 0 is the ego."""

    tokens: tuple[str, ...]  # (agents,) unique
    types: np.ndarray  # (agents,) int8, AgentType
    state: np.ndarray  # (agents, steps, 5) float64: x [m], y [m] of the box centre, yaw [rad], vx, vy [m/s]; 0 where invalid
    size: np.ndarray  # (agents, steps, 3) float64: length, width, height [m]; 0 where invalid
    valid: np.ndarray  # (agents, steps) bool

    @property
    def steps(self) -> int:
        return self.state.shape[1]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class VectorMap:
    """Lanes as a graph with centrelines, and polygons by layer. Ragged arrays are flat with offsets (CSR)."""

    lane_tokens: tuple[str, ...]  # (lanes,) unique
    lane_is_connector: np.ndarray  # (lanes,) bool: inside an intersection
    lane_speed_limit: np.ndarray  # (lanes,) float64 [m/s], NaN = unknown
    lane_roadblock: np.ndarray  # (lanes,) int32: lanes with the same number are side by side in one direction
    lane_left: np.ndarray  # (lanes,) int32 neighbour in the same direction, -1 = none
    lane_right: np.ndarray  # (lanes,) int32
    lane_polygon: np.ndarray  # (lanes,) int32 row of the polygon of this lane
    centerline: np.ndarray  # (points, 2) float64 [m], in driving direction
    centerline_offsets: np.ndarray  # (lanes + 1,) int32
    successors: np.ndarray  # (links,) int32 lane rows
    successor_offsets: np.ndarray  # (lanes + 1,) int32
    polygon_xy: np.ndarray  # (vertices, 2) float64 [m], open rings without holes
    polygon_offsets: np.ndarray  # (polygons + 1,) int32
    polygon_layer: np.ndarray  # (polygons,) int8, MapLayer

    def lane_centerline(self, lane: int) -> np.ndarray:
        """Returns (points, 2) x, y [m] of one lane."""
        return self.centerline[self.centerline_offsets[lane] : self.centerline_offsets[lane + 1]]

    def lane_successors(self, lane: int) -> np.ndarray:
        """Returns (links,) rows of the lanes that follow one lane."""
        return self.successors[self.successor_offsets[lane] : self.successor_offsets[lane + 1]]

    def polygon(self, row: int) -> np.ndarray:
        """Returns (vertices, 2) x, y [m] of one open ring."""
        return self.polygon_xy[self.polygon_offsets[row] : self.polygon_offsets[row + 1]]

    @property
    def num_lanes(self) -> int:
        return len(self.lane_tokens)

    @property
    def num_polygons(self) -> int:
        return len(self.polygon_layer)


@dataclass(frozen=True, slots=True)
class Lights:
    """Traffic lights by lane and step."""

    lanes: np.ndarray  # (lights,) int32 rows of the lanes (mostly connectors) that they govern; the stop line is the lane's start
    state: np.ndarray  # (lights, steps) int8, LightState


@dataclass(frozen=True, slots=True)
class Route:
    """Where the ego is meant to go."""

    lanes: np.ndarray  # (lanes,) int32 rows of all lanes and connectors on the route, side lanes of its roadblocks included
    centerline: np.ndarray  # (points, 3) float64: x, y [m], yaw [rad] of one path along it, beyond the goal where the map allows
    goal: np.ndarray  # (2,) float64: x, y [m]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a scenario comes from, and what its reader had to make up."""

    dataset: str  # "nuscenes", "waymo", "argoverse2", "city", ...
    log: str
    token: str
    licence: str
    offset: tuple[float, float] = (0.0, 0.0)  # global x, y of the local origin [m]
    time_us: int = 0  # time stamp of step 0 [us]
    derived: tuple[str, ...] = ()  # names of what the format lacks and was derived: "velocity", "lane_polygon", ...


@dataclass(frozen=True, slots=True)
class CameraRig:
    """Cameras on the ego: OpenCV frames (x right, y down, z forward) relative to the rear axle."""

    names: tuple[str, ...]
    camera_to_ego: np.ndarray  # (cameras, 4, 4) float64
    intrinsics: np.ndarray  # (cameras, 3, 3) float64 [px]
    distortion: np.ndarray  # (cameras, 5) float64: k1, k2, p1, p2, k3
    image_size: np.ndarray  # (cameras, 2) int32: height, width [px]


@dataclass(frozen=True, slots=True)
class ProgressReference:
    """Progress of one motion with NC = DAC = 1, by horizon: the measure of the ego's own (DEFINITIONS, "Progress reference")."""

    source: str  # "pdm-closed", "solution" or "log"
    progress: dict[float, float]  # horizon [s] -> metres along the route's centreline


@dataclass(frozen=True, slots=True)
class Scenario:
    """One immutable, complete world to drive in."""

    id: str  # unique in its pack, [A-Za-z0-9_-]+
    origin: Origin
    tracks: Tracks
    start_step: int  # step at which driving starts; earlier steps are history
    vector_map: VectorMap
    lights: Lights
    route: Route
    ego: VehicleParameters = VehicleParameters()
    reference: ProgressReference | None = None
    split: str = "test"
    tags: tuple[str, ...] = ()
    parent: dict | None = field(default=None)  # generated ones: parent id, model hash, seed, strategy, attacker; city: family, seed
    camera_rig: CameraRig | None = None
    gaussian_scene: str | None = None

    @property
    def steps_ahead(self) -> int:
        """Recorded steps after the start."""
        return self.tracks.steps - 1 - self.start_step

    def fits(self, horizon_s: float) -> bool:
        """Whether the horizon and the scorer's look-ahead lie inside the recording."""
        return self.steps_ahead >= round(horizon_s / STEP_S) + LOOKAHEAD_STEPS


def initial_ego_state(scenario: Scenario) -> np.ndarray:
    """Returns (11,) the ego's state at the start in the scorer's order (see ``simulation.bicycle``).

    x, y [m], yaw [rad] of the rear axle, vx, vy [m/s], ax, ay [m/s2] in the body frame, steering angle [rad] and rate [rad/s],
    yaw rate [rad/s], yaw acceleration [rad/s2]. Speed and acceleration come from the log; steering = atan(wheel base * yaw rate
    / speed), 0 below 1 m/s.
    """
    k, ego = scenario.start_step, scenario.ego
    x, y, yaw, vx, vy = scenario.tracks.state[0, k]
    speed = vx * math.cos(yaw) + vy * math.sin(yaw)
    acceleration = yaw_rate = 0.0
    if k > 0 and scenario.tracks.valid[0, k - 1]:
        _, _, yaw0, vx0, vy0 = scenario.tracks.state[0, k - 1]
        acceleration = (speed - (vx0 * math.cos(yaw0) + vy0 * math.sin(yaw0))) / STEP_S
        yaw_rate = math.remainder(yaw - yaw0, 2 * math.pi) / STEP_S
    steering = math.atan(ego.wheel_base * yaw_rate / speed) if abs(speed) >= 1.0 else 0.0
    state = np.zeros(11)
    state[:3] = x - ego.rear_axle_to_center * math.cos(yaw), y - ego.rear_axle_to_center * math.sin(yaw), yaw
    state[3], state[5], state[7] = speed, acceleration, steering
    state[9] = speed * math.tan(steering) / ego.wheel_base
    return state
