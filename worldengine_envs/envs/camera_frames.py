"""From the state of worlds to what a renderer is asked for: one loop over worlds, their cameras and whoever is there."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from worldengine_envs.rendering.frames import EVERYWHERE, Frames
from worldengine_envs.simulation.kernels import kernel

SCENERY = 2  # parts of a scene that do not move: background and sky
LIGHT_STATES = 4
NOTHING = -1  # in place of a part


class Stage(NamedTuple):
    """What W worlds look like, with room for A agents and L lights each; agents are in the order of the world's own rows."""

    scenery: np.ndarray  # (W, SCENERY) int32 parts, NOTHING = there is none
    part: np.ndarray  # (W, A) int32 parts that show the agents, NOTHING = not drawn (row 0, whose cameras look)
    node: np.ndarray  # (W, A) int32 their rows in the scenario's tracks
    per_size: np.ndarray  # (W, A, 3) float64 1 / length, width, height of the box that each part fills [1/m]
    height: np.ndarray  # (W, A) float64 of the agents' boxes [m]
    light: np.ndarray  # (W, LIGHT_STATES) int32 parts that show a traffic light, by LightState
    light_z: np.ndarray  # (W,) float64 height of these parts' origin over the ground [m]
    light_pose: np.ndarray  # (W, L, 3) float64 x, y [m], yaw [rad]; NaN = it has no head of its own
    to_center: np.ndarray  # (W,) float64 from the rear axle of row 0 to the centre of its box [m]
    ego_to_camera: np.ndarray  # (W, C, 4, 4) float64
    intrinsics: np.ndarray  # (W, C, 4) float64 fx, fy, cx, cy [px]


def make_stage(worlds: int, agents: int, lights: int, cameras: int) -> Stage:
    """Returns empty stages."""
    return Stage(
        scenery=np.full((worlds, SCENERY), NOTHING, np.int32),
        part=np.full((worlds, agents), NOTHING, np.int32),
        node=np.full((worlds, agents), EVERYWHERE, np.int32),
        per_size=np.ones((worlds, agents, 3)),
        height=np.zeros((worlds, agents)),
        light=np.full((worlds, LIGHT_STATES), NOTHING, np.int32),
        light_z=np.zeros(worlds),
        light_pose=np.full((worlds, lights, 3), np.nan),
        to_center=np.zeros(worlds),
        ego_to_camera=np.zeros((worlds, cameras, 4, 4)),
        intrinsics=np.zeros((worlds, cameras, 4)),
    )


class Moments(NamedTuple):
    """Where everybody is; row ``i`` of a draw takes row ``source[i]``."""

    agents: np.ndarray  # (sources, A, 3 or more) float64 x, y [m], yaw [rad], ... of box centres
    size: np.ndarray  # (sources, A, 2) float64 length, width [m]
    present: np.ndarray  # (sources, A) bool
    light_state: np.ndarray  # (rows,) int8 LightState
    light_row: np.ndarray  # (n,) int64 where the states of draw ``i``'s lights begin
    light_count: np.ndarray  # (n,) int64


@kernel
def _put(frames, k, part, node, x, y, z, yaw, scale):
    """Writes instance ``k``: a part that stands at x, y, z [m], turned by yaw [rad] and stretched by ``scale`` (3,)."""
    frames.part[k], frames.node[k] = part, node
    cos, sin, r, t = math.cos(yaw), math.sin(yaw), frames.rotation[k], frames.translation[k]
    r[0, 0], r[0, 1], r[0, 2] = cos, -sin, 0.0
    r[1, 0], r[1, 1], r[1, 2] = sin, cos, 0.0
    r[2, 0], r[2, 1], r[2, 2] = 0.0, 0.0, 1.0
    frames.scale[k, 0], frames.scale[k, 1], frames.scale[k, 2] = scale
    t[0], t[1], t[2] = x, y, z
    return k + 1


@kernel
def _copy(frames, a, k):
    """Writes instance ``a`` again, as ``k``."""
    frames.part[k], frames.node[k] = frames.part[a], frames.node[a]
    for c in range(3):
        frames.scale[k, c], frames.translation[k, c] = frames.scale[a, c], frames.translation[a, c]
        for d in range(3):
            frames.rotation[k, c, d] = frames.rotation[a, c, d]
    return k + 1


@kernel
def _look_from(agent, to_center, ego_to_camera, out):
    """Writes the transform (4, 4) of world points into a camera of the car whose box centre is at ``agent`` x, y, yaw."""
    cos, sin = math.cos(agent[2]), math.sin(agent[2])
    x, y = agent[0] - to_center * cos, agent[1] - to_center * sin
    ahead, left = -(cos * x + sin * y), sin * x - cos * y  # where the world's origin lies in the ego frame
    for r in range(3):
        a, b = ego_to_camera[r, 0], ego_to_camera[r, 1]
        out[r, 0], out[r, 1], out[r, 2] = a * cos - b * sin, a * sin + b * cos, ego_to_camera[r, 2]
        out[r, 3] = a * ahead + b * left + ego_to_camera[r, 3]
        out[3, r] = 0.0
    out[3, 3] = 1.0


@kernel
def _write_instances(i, s, w, moments, stage, frames, k):
    """Writes scenery, agents and lights of draw ``i`` from instance ``k`` on and returns the next one."""
    for c in range(SCENERY):
        if stage.scenery[w, c] != NOTHING:
            k = _put(frames, k, stage.scenery[w, c], EVERYWHERE, 0.0, 0.0, 0.0, 0.0, (1.0, 1.0, 1.0))
    agents, size, present = moments.agents[s], moments.size[s], moments.present[s]
    for a in range(min(stage.part.shape[1], len(present))):
        if stage.part[w, a] != NOTHING and present[a]:
            height, per = stage.height[w, a], stage.per_size[w, a]
            scale = (size[a, 0] * per[0], size[a, 1] * per[1], height * per[2])
            k = _put(frames, k, stage.part[w, a], stage.node[w, a], agents[a, 0], agents[a, 1], 0.5 * height, agents[a, 2], scale)
    for c in range(min(moments.light_count[i], stage.light_pose.shape[1])):
        pose, part = stage.light_pose[w, c], stage.light[w, moments.light_state[moments.light_row[i] + c]]
        if part != NOTHING and pose[0] == pose[0]:
            k = _put(frames, k, part, EVERYWHERE, pose[0], pose[1], stage.light_z[w], pose[2], (1.0, 1.0, 1.0))
    return k


@kernel
def write_frames(source, world, moments, stage, frames):
    """Writes the frames of all cameras of n draws, draw by draw, and returns the number of instances.

    Args:
        source: (n,) int64 rows of the moments.
        world: (n,) int64 rows of the stage.
        moments, stage: Where everybody is, and what they look like.
        frames: ``Frames`` with n * cameras frames and room enough for instances.
    """
    cameras, k = stage.intrinsics.shape[1], 0
    frames.offsets[0] = 0
    for i in range(len(source)):
        w, ego = world[i], moments.agents[source[i], 0]
        first = k
        k = _write_instances(i, source[i], w, moments, stage, frames, k)
        last = k
        for camera in range(cameras):
            f = i * cameras + camera
            if camera > 0:  # what stands there is the same
                for a in range(first, last):
                    k = _copy(frames, a, k)
            for c in range(4):
                frames.intrinsics[f, c] = stage.intrinsics[w, camera, c]
            _look_from(ego, stage.to_center[w], stage.ego_to_camera[w, camera], frames.world_to_camera[f])
            frames.offsets[f + 1] = k
    return k


class FrameWriter:
    """Room for frames that grows with what is asked for and is used again."""

    def __init__(self):
        self._room: Frames | None = None

    def write(self, source: np.ndarray, world: np.ndarray, moments: Moments, stage: Stage, height: int, width: int) -> Frames:
        """Returns the frames (n * cameras) of n draws; they are overwritten by the next call. Arguments as ``write_frames``."""
        frames = len(source) * stage.intrinsics.shape[1]
        most = frames * (SCENERY + stage.part.shape[1] + stage.light_pose.shape[1])
        if self._room is None or len(self._room.part) < most or len(self._room) != frames:
            self._room = _room(most, frames)
        count = write_frames(source, world, moments, stage, self._room)
        instances = (array[:count] for array in self._room[:5])
        return Frames(*instances, *self._room[5:8], height, width)


def _room(instances: int, frames: int) -> Frames:
    return Frames(
        part=np.zeros(instances, np.int32),
        rotation=np.zeros((instances, 3, 3)),
        scale=np.zeros((instances, 3)),
        translation=np.zeros((instances, 3)),
        node=np.zeros(instances, np.int32),
        offsets=np.zeros(frames + 1, np.int64),
        world_to_camera=np.zeros((frames, 4, 4)),
        intrinsics=np.zeros((frames, 4)),
        height=0,
        width=0,
    )
