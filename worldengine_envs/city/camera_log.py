"""Camera logs of city scenarios: the files that a car with cameras and a LiDAR would bring home.

    log.json                            calibration and, for each frame, time, poses, boxes and paths of the files below
    images/<camera>/<step>.png          (H, W, 3) 8 bit
    lidar/<step>.npy                    (returns, 4) float32: x, y, z in the sensor's frame [m], ring
    truth/depth/<camera>/<step>.png     (H, W) 16 bit: depth along the camera's z in centimetres, 0 = nothing or too far; on request
    truth/instance/<camera>/<step>.png  (H, W) 16 bit: row in ``log.json``'s tracks + 1, 0 = none; on request

All poses in ``log.json`` are 4x4 matrices from the named frame. The world is the scenario's local frame (z up, the ground at 0);
the ego's origin is on the ground under the rear axle (x forward, y left); cameras look along z (x right, y down); the LiDAR is
turned as the ego is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from worldengine_envs.city.sensors import CameraView, LidarSettings, SurfaceCaster
from worldengine_envs.errors import DataError
from worldengine_envs.rendering.cameras import find_rig, intrinsics_of, scaled_rig
from worldengine_envs.scenario.new_folder import new_folder
from worldengine_envs.scenario.types import STEP_S, AgentType, LightState, Scenario

FORMAT, VERSION, NAME = "worldengine-camera-log", 1, "log.json"
LIDAR_MOUNT = (1.0, 0.0, 1.95)  # x, y, z [m] in the ego frame: on the roof
FARTHEST_CM = 65535


@dataclass(frozen=True, slots=True)
class CameraLogSettings:
    """What is recorded."""

    cameras: str | tuple[str, ...] = "surround8"  # a rig or names of cameras, as for environments
    image_size: tuple[int, int] | None = (270, 480)  # height, width [px]; None = each camera's own
    first_step: int = 0
    last_step: int | None = None  # None = the recording's last
    every: int = 1  # steps of 0.1 s from frame to frame
    time_of_day: str | None = None  # None = the scenario's own
    supersample: int = 3  # rays along each side of a pixel
    lidar: LidarSettings = field(default_factory=LidarSettings)  # with 0 beams = none
    seed: int = 0  # of the LiDAR's noise
    truth: bool = False  # write depth and instance images too


def write_camera_log(
    scenario: Scenario,
    folder: Path | str,
    settings: CameraLogSettings | None = None,
    overwrite: bool = False,
    caster: SurfaceCaster | None = None,
) -> Path:
    """Drives the scenario's logged ego past its street and writes what its sensors see; returns the path of ``log.json``.

    Args:
        scenario: Who is where, and the map from which the street is made.
        folder: Is made, whole or not at all.
        settings: What is recorded.
        overwrite: Replace a camera log that is there.
        caster: Of another drive past the same street (see ``SurfaceCaster.with_traffic``), in its light; None = the scenario's own.

    Raises:
        DataError: The folder exists, there is no such camera or time of day, or no step is asked for.
    """
    settings = settings or CameraLogSettings()
    if settings.every < 1:
        raise DataError(f"{settings.every} is not 1 or more", scenario=scenario.id, field="settings.every")
    last = scenario.tracks.steps - 1 if settings.last_step is None else settings.last_step
    steps = range(settings.first_step, last + 1, settings.every)
    if not len(steps) or steps[0] < 0 or steps[-1] >= scenario.tracks.steps:
        remedy = f"The recording has {scenario.tracks.steps}, from 0 on"
        raise DataError(f"no steps {settings.first_step} to {last}", scenario=scenario.id, field="settings", remedy=remedy)
    rig = find_rig(settings.cameras, scenario.camera_rig)
    rig = rig if settings.image_size is None else scaled_rig(rig, settings.image_size)
    caster = SurfaceCaster(scenario, time_of_day=settings.time_of_day) if caster is None else caster
    log = _header(scenario, caster, rig, settings)
    with new_folder(Path(folder), NAME, "camera log", overwrite) as new:
        log["frames"] = [_write_frame(scenario, caster, rig, settings, step, new) for step in steps]
        (new / NAME).write_text(json.dumps(log, indent=1), encoding="utf-8")
    return Path(folder) / NAME


def ego_to_world(scenario: Scenario, step: int) -> np.ndarray:
    """Returns (4, 4) float64 the pose of the logged ego's rear axle on the ground."""
    x, y, yaw = scenario.tracks.state[0, step, :3]
    cos, sin, back = np.cos(yaw), np.sin(yaw), scenario.ego.rear_axle_to_center
    return np.array([[cos, -sin, 0.0, x - back * cos], [sin, cos, 0.0, y - back * sin], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])


def _lidar_to_ego() -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 3] = LIDAR_MOUNT
    return pose


def _header(scenario: Scenario, caster: SurfaceCaster, rig, settings: CameraLogSettings) -> dict:
    """Returns everything of ``log.json`` but its frames."""
    intrinsics, tracks = intrinsics_of(rig), scenario.tracks
    cameras = {
        name: {
            "height": int(rig.image_size[c, 0]),
            "width": int(rig.image_size[c, 1]),
            "intrinsics": intrinsics[c].tolist(),  # fx, fy, cx, cy [px]; the first pixel's centre is at 0.5, 0.5
            "distortion": rig.distortion[c].tolist(),  # k1, k2, p1, p2, k3
            "camera_to_ego": rig.camera_to_ego[c].tolist(),
        }
        for c, name in enumerate(rig.names)
    }
    return {
        "format": FORMAT,
        "version": VERSION,
        "scenario": scenario.id,
        "dataset": scenario.origin.dataset,
        "licence": scenario.origin.licence,
        "offset": list(scenario.origin.offset),  # global x, y of the world's origin [m]
        "time_of_day": caster.time_of_day,
        "cameras": cameras,
        "lidar": None if settings.lidar.beams == 0 else {"lidar_to_ego": _lidar_to_ego().tolist()},
        "tracks": [{"token": t, "type": AgentType(int(k)).name.lower()} for t, k in zip(tracks.tokens, tracks.types, strict=True)],
    }


def _write_frame(scenario: Scenario, caster: SurfaceCaster, rig, settings: CameraLogSettings, step: int, folder: Path) -> dict:
    """Writes the files of one step and returns its entry in ``log.json``."""
    pose, moment, intrinsics = ego_to_world(scenario, step), caster.logged(step), intrinsics_of(rig)
    frame = {
        "step": step,
        "time_us": scenario.origin.time_us + round(step * STEP_S * 1e6),
        "ego_to_world": pose.tolist(),
        "images": {},
        "boxes": _boxes(scenario, step),
        "lights": [
            {"lane": scenario.vector_map.lane_tokens[lane], "state": LightState(int(state)).name.lower()}
            for lane, state in zip(scenario.lights.lanes, moment.lights, strict=True)
        ],
    }
    for c, name in enumerate(rig.names):
        height, width = (int(n) for n in rig.image_size[c])
        camera_to_world = pose @ rig.camera_to_ego[c]
        view = caster.camera(moment, camera_to_world, intrinsics[c], height, width, rig.distortion[c], settings.supersample)
        frame["images"][name] = _write_png(folder, f"images/{name}/{step:06d}.png", view.rgb)
        if settings.truth:
            _write_truth(folder, f"{name}/{step:06d}.png", view)
    if settings.lidar.beams > 0:
        returns = caster.lidar(moment, pose @ _lidar_to_ego(), settings.lidar, settings.seed + step)
        frame["lidar"] = f"lidar/{step:06d}.npy"
        (folder / "lidar").mkdir(parents=True, exist_ok=True)
        np.save(folder / frame["lidar"], np.column_stack((returns.xyz, returns.ring)).astype(np.float32), allow_pickle=False)
    return frame


def _boxes(scenario: Scenario, step: int) -> list[dict]:
    """Returns the boxes of everyone but the ego who is there at a step."""
    tracks = scenario.tracks
    boxes = []
    for a in np.flatnonzero(tracks.valid[1:, step]) + 1:
        x, y, yaw, vx, vy = tracks.state[a, step].tolist()
        size = tracks.size[a, step].tolist()  # length, width, height [m]
        boxes.append({"track": int(a), "center": [x, y, 0.5 * size[2]], "yaw": yaw, "size": size, "velocity": [vx, vy]})
    return boxes


def _write_truth(folder: Path, name: str, view: CameraView) -> None:
    depth = np.rint(100.0 * view.depth)
    _write_png(folder, f"truth/depth/{name}", np.where(depth <= FARTHEST_CM, depth, 0).astype(np.uint16))
    _write_png(folder, f"truth/instance/{name}", (view.instance + 1).astype(np.uint16))


def _write_png(folder: Path, name: str, pixels: np.ndarray) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return name
