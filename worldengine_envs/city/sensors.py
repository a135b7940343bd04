"""The city's sensors: camera images, depth, instance masks and LiDAR returns, cast from surfaces. Truth for what Gaussians show."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from worldengine_envs.city.raycast import Lens, Solids, Surfaces, cast_pixels, cast_ranges, make_solids, undo_distortion
from worldengine_envs.city.surfaces.light import LIGHTS
from worldengine_envs.city.surfaces.light import time_of_day as default_time_of_day
from worldengine_envs.city.surfaces.lights import signal_places
from worldengine_envs.city.surfaces.models import LIGHT_ROWS, MODELS, choose
from worldengine_envs.city.surfaces.street import make_street_surfaces
from worldengine_envs.city.surfaces.types import Model, Street
from worldengine_envs.errors import DataError
from worldengine_envs.rendering.frames import EVERYWHERE
from worldengine_envs.rendering.lenses import distort
from worldengine_envs.scenario.types import AgentType, Scenario
from worldengine_envs.simulation.kernels import announce_compiling
from worldengine_envs.simulation.threads import run_over_worlds

DISTORTION_PX = 0.05  # distortion has to be undone at least so well at the image's edge [px]


class Moment(NamedTuple):
    """Where everything is that moves or changes."""

    boxes: np.ndarray  # (agents, 6) float64 x, y [m] of the box centre, yaw [rad], length, width, height [m]; rows of the tracks
    present: np.ndarray  # (agents,) bool
    lights: np.ndarray  # (lights,) int8 LightState, rows of ``Scenario.lights``


class CameraView(NamedTuple):
    """What a camera sees."""

    rgb: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W) float32 along the camera's z at the middle of each pixel [m], 0 where nothing is
    instance: np.ndarray  # (H, W) int32 row of the track at the middle of each pixel, EVERYWHERE if none


@dataclass(frozen=True, slots=True)
class LidarSettings:
    """A spinning LiDAR; all rays of a turn are cast at one moment. The default is much like a Velodyne HDL-32E."""

    beams: int = 32
    lowest_deg: float = -30.67  # elevation of the lowest beam
    highest_deg: float = 10.67
    columns: int = 1084  # firings a turn
    nearest_m: float = 1.0
    farthest_m: float = 80.0
    range_noise_m: float = 0.02  # standard deviation

    def __post_init__(self):
        if (
            self.beams < 0
            or self.columns < 1
            or not self.range_noise_m >= 0.0
            or not -90.0 < self.lowest_deg <= self.highest_deg < 90.0
        ):
            raise DataError(
                f"no such LiDAR: {self}", field="lidar", remedy="Counts and noise above 0, elevations within 90 degrees"
            )


class LidarReturns(NamedTuple):
    """What a LiDAR measures in one turn; rays without return are left out."""

    xyz: np.ndarray  # (returns, 3) float32 in the sensor's frame, x forward, y left, z up [m]
    ring: np.ndarray  # (returns,) int32 beam, 0 is the lowest
    instance: np.ndarray  # (returns,) int32 row of the track, EVERYWHERE if none


class SurfaceCaster:
    """Casts rays against the surfaces of one scenario.

    Args:
        scenario: Gives tracks and lights, and the street where none is given.
        street: What does not move, ``make_street_surfaces(scenario)`` by default.
        time_of_day: A key of ``LIGHTS``; None is the scenario's own.

    Raises:
        DataError: There is no such time of day.
    """

    def __init__(self, scenario: Scenario, street: Street | None = None, time_of_day: str | None = None):
        self.scenario = scenario
        self.street = make_street_surfaces(scenario) if street is None else street
        self.time_of_day = default_time_of_day(scenario.id) if time_of_day is None else time_of_day
        if self.time_of_day not in LIGHTS:
            raise DataError(f"no {self.time_of_day!r}", field="time_of_day", remedy=f"Known: {', '.join(LIGHTS)}")
        announce_compiling((cast_pixels, cast_ranges), "the ray caster")
        self._surfaces = Surfaces(self.street.ground, LIGHTS[self.time_of_day])
        self._signals = signal_places(scenario, self.street.ground)
        self._models: dict[int, Model] = {}

    def with_traffic(self, scenario: Scenario) -> SurfaceCaster:
        """Returns a caster for the same street on which the tracks of another scenario move; they have as many traffic lights."""
        other = copy(self)
        other.scenario, other._models = scenario, {}
        return other

    def model(self, row: int) -> Model:
        """Returns what stands for a row of the tracks: chosen by its type and first valid size."""
        if row not in self._models:
            tracks = self.scenario.tracks
            size = tracks.size[row, tracks.valid[row].argmax()]
            key = f"{self.scenario.id}/{tracks.tokens[row]}"
            self._models[row] = MODELS[choose(AgentType(int(tracks.types[row])), size, key)]
        return self._models[row]

    def logged(self, step: int) -> Moment:
        """Returns everything where the log has it at a step.

        Raises:
            DataError: The recording has no such step.
        """
        tracks, lights = self.scenario.tracks, self.scenario.lights
        if not 0 <= step < tracks.steps:
            raise DataError(f"no step {step}", scenario=self.scenario.id, field="step", remedy=f"There are {tracks.steps}")
        boxes = np.concatenate((tracks.state[:, step, :3], tracks.size[:, step]), axis=1)
        return Moment(boxes, tracks.valid[:, step], lights.state[:, step])

    def camera(
        self,
        moment: Moment,
        camera_to_world: np.ndarray,
        intrinsics: np.ndarray,
        height: int,
        width: int,
        distortion: np.ndarray | None = None,
        supersample: int = 3,
        without: tuple[int, ...] = (0,),
    ) -> CameraView:
        """Returns what a camera sees.

        Args:
            moment: Where everything is.
            camera_to_world: (4, 4) pose of the camera: x right, y down, z forward.
            intrinsics: (4,) fx, fy, cx, cy [px]; the first pixel's centre is at 0.5, 0.5.
            height: Of the image [px].
            width: Of the image [px].
            distortion: (5,) k1, k2, p1, p2, k3 (OpenCV), None = none.
            supersample: Odd number of rays along each side of a pixel, whose mean is its colour.
            without: Rows of tracks that are not drawn: the ego does not see itself.

        Raises:
            DataError: ``supersample`` is not odd, or the distortion cannot be undone within the image.
        """
        if supersample < 1 or supersample % 2 == 0:
            raise DataError(f"{supersample} is not an odd number", field="supersample", remedy="Use 1, 3 or 5")
        pose = np.asarray(camera_to_world, np.float64)
        bend = np.zeros(5) if distortion is None else np.asarray(distortion, np.float64)
        lens = Lens(pose[:3, :3].copy(), np.asarray(intrinsics, np.float64), bend)
        _check_lens(lens, height, width)
        view = np.empty((height, width, 3), np.float32), np.empty((height, width), np.float32), np.empty((height, width), np.int32)
        solids = self.solids(moment, pose[:3, 3], without)
        run_over_worlds(cast_pixels, height * width, solids, self._surfaces, lens, supersample, *view)
        return CameraView(np.rint(255.0 * np.clip(view[0], 0.0, 1.0)).astype(np.uint8), *view[1:])

    def lidar(
        self,
        moment: Moment,
        lidar_to_world: np.ndarray,
        settings: LidarSettings | None = None,
        seed: int = 0,
        without: tuple[int, ...] = (0,),
    ) -> LidarReturns:
        """Returns what a LiDAR at pose (4, 4), x forward, y left, z up, measures in a turn; the seed is of the noise."""
        settings = settings or LidarSettings()
        pose = np.asarray(lidar_to_world, np.float64)
        directions, ring = lidar_rays(settings)
        distance, what = np.empty(len(directions)), np.empty(len(directions), np.int32)
        solids = self.solids(moment, pose[:3, 3], without)
        run_over_worlds(cast_ranges, len(directions), solids, np.ascontiguousarray(directions @ pose[:3, :3].T), distance, what)
        kept = (distance >= settings.nearest_m) & (distance <= settings.farthest_m)
        noise = settings.range_noise_m * np.random.default_rng(seed).standard_normal(len(directions))
        owner = np.full(len(directions), EVERYWHERE, np.int32)
        owner[what >= 0] = solids.owner[what[what >= 0]]
        xyz = directions[kept] * (distance + noise)[kept, None]
        return LidarReturns(xyz.astype(np.float32), ring[kept], owner[kept])

    def solids(self, moment: Moment, origin: np.ndarray, without: tuple[int, ...] = ()) -> Solids:
        """Returns the street with everyone who is present, but for the rows ``without``, for rays from x, y, z [m]."""
        street = self.street.primitives
        parts, from_unit, owner, shadows = [street], [street["from_unit"]], [np.full(len(street), EVERYWHERE)], []
        for place, model, row in self._instances(moment, without):
            parts.append(model.primitives)
            from_unit.append(_placed(model, place))
            owner.append(np.full(len(model.primitives), row))
            if model.shadow > 0.0:
                x, y, yaw, length, width, _ = place
                shadows.append((x, y, np.cos(yaw), np.sin(yaw), 0.5 * length, 0.5 * width, model.shadow))
        primitives = np.concatenate(parts)
        is_static = np.arange(len(primitives)) < len(street)
        owner = np.concatenate(owner).astype(np.int32)
        return make_solids(origin, primitives, np.concatenate(from_unit), owner, is_static, np.array(shadows))

    def _instances(self, moment: Moment, without: tuple[int, ...]):
        """Yields box (6,), model and number of everyone present and of the traffic lights."""
        for a in np.flatnonzero(moment.present):
            if a not in without:
                yield moment.boxes[a], self.model(a), a
        for place, state in zip(self._signals, moment.lights, strict=True):
            if np.isfinite(place[0]):
                model = MODELS[LIGHT_ROWS[state]]
                yield (*place, *model.size), model, EVERYWHERE


def _placed(model: Model, box) -> np.ndarray:
    """Returns (n, 3, 4) unit shape -> world of a model's primitives, stretched to a box that stands on the ground."""
    x, y, yaw, *size = box
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]) * (np.array(size) / model.size)
    from_unit = turn @ model.primitives["from_unit"]
    from_unit[:, :, 3] += x, y, 0.5 * size[2]
    return from_unit


def lidar_rays(settings: LidarSettings) -> tuple[np.ndarray, np.ndarray]:
    """Returns directions (rays, 3) of length one in the sensor's frame, from behind clockwise, and the beams (rays,)."""
    elevation = np.radians(np.linspace(settings.lowest_deg, settings.highest_deg, settings.beams))
    azimuth = np.pi - 2.0 * np.pi * (np.arange(settings.columns) + 0.5) / settings.columns
    flat = np.stack((np.cos(azimuth), np.sin(azimuth)), axis=1)[:, None] * np.cos(elevation)[None, :, None]
    directions = np.concatenate((flat, np.broadcast_to(np.sin(elevation)[:, None], (*flat.shape[:2], 1))), axis=2)
    return directions.reshape(-1, 3), np.tile(np.arange(settings.beams, dtype=np.int32), settings.columns)


def _check_lens(lens: Lens, height: int, width: int) -> None:
    """Raises DataError where distortion cannot be undone along the edge of the image."""
    u, v = np.linspace(0.0, width, 17), np.linspace(0.0, height, 17)
    fx, fy, cx, cy = lens.intrinsics
    edge = [(a, b) for a in u for b in (0.0, height)] + [(a, b) for a in (0.0, width) for b in v]
    for a, b in edge:
        x, y = distort(np.array(undo_distortion(lens, a, b)), lens.distortion)
        if not (abs(fx * x + cx - a) < DISTORTION_PX and abs(fy * y + cy - b) < DISTORTION_PX):
            raise DataError(
                f"distortion {np.round(lens.distortion, 4).tolist()} has no inverse at pixel {a:.0f}, {b:.0f}",
                field="distortion",
                remedy="Check the camera's calibration, or ask for a smaller part of its image",
            )
