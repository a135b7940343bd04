"""A camera log whose truth is known in closed form: a patterned ground and wall, past which a camera drives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from worldengine_envs.reconstruction.camera_log import ActorTrack, Camera, CameraLog, Sweep, View
from worldengine_envs.scenario.types import AgentType

HEIGHT, WIDTH, FOCAL = 90, 160, 120.0
WALL_M, CAMERA_M, STEP_M, STEP_US = 25.0, 1.5, 1.0, 100_000
SIZE = (4.0, 1.8, 1.6)  # of the actor
FORWARD = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # axes of a camera that looks along x


def pattern(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Returns (..., 3) uint8 smooth noise over a plane, cells of 0.5 m."""
    grid = np.random.default_rng(7).integers(20, 236, (97, 89, 3)).astype(np.float64)
    p, q = np.asarray(p) / 0.5 + 1000.0, np.asarray(q) / 0.5 + 1000.0
    i, j = np.floor(p).astype(int), np.floor(q).astype(int)
    a, b = (p - i)[..., None], (q - j)[..., None]
    i0, i1, j0, j1 = i % 97, (i + 1) % 97, j % 89, (j + 1) % 89
    low = (1 - b) * grid[i0, j0] + b * grid[i0, j1]
    return np.rint((1 - a) * low + a * ((1 - b) * grid[i1, j0] + b * grid[i1, j1])).astype(np.uint8)


def color_at(xyz: np.ndarray) -> np.ndarray:
    """Returns (N, 3) uint8 the pattern at points of ground and wall."""
    wall = np.abs(xyz[:, 0] - WALL_M) < np.abs(xyz[:, 2])
    return pattern(np.where(wall, xyz[:, 1], xyz[:, 0]), np.where(wall, xyz[:, 2] + 50.0, xyz[:, 1]))


def surface_distance(xyz: np.ndarray) -> np.ndarray:
    """Returns (N,) distance from ground or wall [m]."""
    return np.minimum(np.abs(xyz[:, 2]), np.abs(xyz[:, 0] - WALL_M))


def depth_image(camera_to_world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns depth along the camera's z (H, W) [m] and what is seen (H, W, 3) [m]."""
    v, u = np.meshgrid(np.arange(HEIGHT) + 0.5, np.arange(WIDTH) + 0.5, indexing="ij")
    local = np.stack(((u - WIDTH / 2) / FOCAL, (v - HEIGHT / 2) / FOCAL, np.ones_like(u)), axis=-1)
    rays, center = local @ camera_to_world[:3, :3].T, camera_to_world[:3, 3]
    with np.errstate(divide="ignore"):
        ground = np.where(rays[..., 2] < 0.0, -center[2] / rays[..., 2], np.inf)
    depth = np.minimum(ground, (WALL_M - center[0]) / rays[..., 0])
    return depth, center + depth[..., None] * rays


def camera_pose(step: int, y: float = 0.0) -> np.ndarray:
    """Returns (4, 4) camera to world at a time step."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = FORWARD, (STEP_M * step, y, CAMERA_M)
    return pose


def box_pose(step: int) -> np.ndarray:
    """Returns (4, 4) pose of the actor, who drives ahead, slightly turned."""
    cos, sin, pose = np.cos(0.3), np.sin(0.3), np.eye(4)
    pose[:2, :2], pose[:3, 3] = [[cos, -sin], [sin, cos]], (10.0 + 0.7 * step, 3.0, 0.5 * SIZE[2])
    return pose


def box_surface(generator: np.random.Generator, count: int) -> np.ndarray:
    """Returns (count, 3) points on the sides of the actor's box, in its frame."""
    half = 0.5 * np.array(SIZE)
    points = generator.uniform(-half, half, (count, 3))
    points[:, 1] = half[1] * np.sign(points[:, 1])
    return points


def write_log(folder: Path, steps: int = 10, moving: bool = True, twins: bool = False, lidar: bool = False, actor: bool = False):
    """Writes the images and returns the ``CameraLog``.

    Args:
        folder: For the images.
        steps: Images of each camera.
        moving: Whether the camera moves.
        twins: A second camera, 0.5 m to the right.
        lidar: A sweep for each step, of ground, wall and actor.
        actor: Someone who moves, whom the images do not show.
    """
    ys = (0.0, -0.5) if twins else (0.0,)
    cameras = tuple(
        Camera(f"camera_{c}", HEIGHT, WIDTH, np.array([FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2]), np.zeros(5)) for c in range(len(ys))
    )
    views = []
    for step in range(steps):
        for c, y in enumerate(ys):
            pose, path = camera_pose(step if moving else 0, y), folder / f"{c}_{step:03d}.png"
            xyz = depth_image(pose)[1]
            Image.fromarray(color_at(xyz.reshape(-1, 3)).reshape(HEIGHT, WIDTH, 3)).save(path)
            views.append(View(c, step * STEP_US, pose, path))
    sweeps = tuple(_sweep(step, actor) for step in range(steps)) if lidar else ()
    times = np.arange(steps) * STEP_US
    track = ActorTrack("car", AgentType.VEHICLE, np.array(SIZE), times, np.stack([box_pose(s) for s in range(steps)]))
    return CameraLog("room", "test", "none", cameras, tuple(views), sweeps, (track,) if actor else ())


def _sweep(step: int, actor: bool) -> Sweep:
    lidar_to_world = np.eye(4)
    lidar_to_world[:3, 3] = (STEP_M * step - 0.3, 0.0, 1.8)

    def read() -> np.ndarray:
        generator = np.random.default_rng(step)
        ground = np.column_stack((generator.uniform(step + 3.0, WALL_M, 3000), generator.uniform(-6, 6, 3000), np.zeros(3000)))
        wall = np.column_stack((np.full(2000, WALL_M), generator.uniform(-6, 6, 2000), generator.uniform(0.2, 6, 2000)))
        car = box_surface(generator, 500) @ box_pose(step)[:3, :3].T + box_pose(step)[:3, 3]
        xyz = np.concatenate((ground, wall, car)) if actor else np.concatenate((ground, wall))
        return (xyz - lidar_to_world[:3, 3]).astype(np.float32)

    return Sweep(step * STEP_US, lidar_to_world, read)
