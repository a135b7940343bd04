"""What is put where nothing was measured: far sides of vehicles, shadows, the ground under those who never move.

An actor that is moved or taken away shows what no image of the log does. Vehicles are alike left and right, and the ground goes
on under them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from worldengine_envs.reconstruction.camera_log import ActorTrack, CameraLog
from worldengine_envs.reconstruction.points.types import BACKGROUND, Points
from worldengine_envs.reconstruction.scene_graph import SHADOW_REACH
from worldengine_envs.scenario.types import AgentType

MIRRORED = (AgentType.VEHICLE, AgentType.BICYCLE)
SEEN_M = 0.3  # from a measured point, where a mirrored one is not needed
STANDS_M = 1.0  # who moves less in the whole log stands
GROUND_STEP_M = 0.2  # between points under those who stand
GROUND_BAND_M = 0.25  # points so near to the height of a box's bottom are ground
GROUND_FAR_M = 4.0  # ground farther away says nothing of its colour
GROUND_NEIGHBOURS = 6
SHADOW_EDGE_M = 0.2  # around a shadow the ground is not quite bright
SHADOW_STEP_M, SHADOW_FEWEST = 0.4, 4  # between Gaussians of a shadow; of which at least so many lie along each side
SHADOW_SPREAD = 0.55  # standard deviation over the step
SHADOW_HEIGHT_M, SHADOW_THICK_M = 0.02, 0.01
SHADOW_OPACITY = 0.06  # to begin with


def complete(points: Points, log: CameraLog) -> Points:
    """Returns the points and what is put where no point is: mirror images of vehicles, the ground under those who stand.

    What was measured of the ground in the shadow of those who stand gets the colour of the ground around: how dark it is there is
    for their shadows to say, which go with them.

    Args:
        points: What was measured.
        log: Gives actors.
    """
    standing = [actor for actor in log.actors if np.ptp(actor.box_to_world[:, :3, 3], axis=0).max() <= STANDS_M]
    shaded, grounds = np.zeros(len(points.xyz), bool), []
    for actor in standing:
        local = _in_box_frame(points.xyz, actor)
        ground = (np.abs(local[:, 2] + 0.5 * actor.size[2]) < GROUND_BAND_M) & (points.node == BACKGROUND)
        grounds.append(ground & (np.abs(local[:, :2]) < 0.5 * actor.size[:2] + GROUND_FAR_M).all(1))
        shaded |= ground & (np.abs(local[:, :2]) < 0.5 * SHADOW_REACH * actor.size[:2] + SHADOW_EDGE_M).all(1)
    rgb = points.rgb.copy()
    for ground in grounds:
        rows = np.flatnonzero(ground & shaded)
        _paint(rgb, rows, points, np.flatnonzero(ground & ~shaded))
    points = replace(points, rgb=rgb)
    parts = [_mirrored(points, a) for a, actor in enumerate(log.actors) if actor.type in MIRRORED]
    parts += [_ground_under(points, actor, np.flatnonzero(ground)) for actor, ground in zip(standing, grounds, strict=True)]
    xyz, rgb, node, spacing = (
        np.concatenate(arrays)
        for arrays in zip((points.xyz, points.rgb, points.node, points.spacing), *filter(None, parts), strict=True)
    )
    return replace(points, xyz=xyz, rgb=rgb, node=node, spacing=spacing)


def _in_box_frame(xyz: np.ndarray, actor: ActorTrack) -> np.ndarray:
    """Returns (N, 3) points of the world in the frame of the box of somebody who stands."""
    pose = actor.box_to_world[len(actor.box_to_world) // 2]
    return (xyz - pose[:3, 3]) @ pose[:3, :3]


def _paint(rgb: np.ndarray, rows: np.ndarray, points: Points, around: np.ndarray) -> None:
    """Gives points the mean colour of their neighbours among ``around``, if there are enough."""
    if len(rows) and len(around) >= GROUND_NEIGHBOURS:
        distance, nearest = cKDTree(points.xyz[around]).query(points.xyz[rows], GROUND_NEIGHBOURS)
        rgb[rows] = _mixed(points.rgb[around[nearest]], distance)


def _mixed(rgb: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Returns (N, 3) uint8 means of colours (N, K, 3), weighted by inverse distances (N, K)."""
    weight = 1.0 / np.maximum(distance, 1e-2)[..., None]
    return np.rint((rgb * weight).sum(1) / weight.sum(1)).astype(np.uint8)


def _mirrored(points: Points, a: int):
    """Returns the points of an actor on its other side, where there are none."""
    rows = np.flatnonzero(points.node == a)
    if not len(rows):
        return None
    xyz = points.xyz[rows] * np.array([1.0, -1.0, 1.0], np.float32)
    rows = rows[cKDTree(points.xyz[rows]).query(xyz)[0] > SEEN_M]
    return points.xyz[rows] * np.array([1.0, -1.0, 1.0], np.float32), points.rgb[rows], points.node[rows], points.spacing[rows]


def _ground_under(points: Points, actor: ActorTrack, ground: np.ndarray):
    """Returns points of the background under somebody who stands, coloured as the ground around: the points in rows ``ground``."""
    if len(ground) < GROUND_NEIGHBOURS:
        return None
    pose, half = actor.box_to_world[len(actor.box_to_world) // 2], 0.5 * actor.size
    steps = [np.arange(-h + 0.5 * GROUND_STEP_M, h, GROUND_STEP_M) for h in half[:2]]
    x, y = (axis.ravel() for axis in np.meshgrid(*steps, indexing="ij"))
    under = np.stack([x, y, np.full(len(x), -half[2])], axis=1) @ pose[:3, :3].T + pose[:3, 3]
    distance, nearest = cKDTree(points.xyz[ground]).query(under, GROUND_NEIGHBOURS)
    empty = distance[:, 0] > 0.7 * GROUND_STEP_M
    rgb, n = _mixed(points.rgb[ground[nearest[empty]]], distance[empty]), int(empty.sum())
    node, spacing = np.full(n, BACKGROUND, points.node.dtype), np.full(n, GROUND_STEP_M, np.float32)
    return under[empty].astype(np.float32), rgb, node, spacing


class Shadows(NamedTuple):
    """Dark, faint, flat Gaussians on the ground under actors, which learn how dark their shadows are."""

    xyz: np.ndarray  # (N, 3) in the frame of the actor's box [m]
    sizes: np.ndarray  # (N, 3) standard deviations [m]
    actor: np.ndarray  # (N,) row of ``CameraLog.actors``


def shadows(log: CameraLog, most: int) -> Shadows:
    """Returns the Gaussians of the shadows of everyone in a log, ``most`` at the most: of the first who are there.

    They start with ``SHADOW_OPACITY``, black.
    """
    xyz, sizes, rows = [np.zeros((0, 3))], [np.zeros((0, 3))], [np.zeros(0, np.int64)]
    for a, actor in enumerate(log.actors):
        sides = SHADOW_REACH * actor.size[:2]
        counts = np.maximum(np.ceil(sides / SHADOW_STEP_M).astype(int), SHADOW_FEWEST)
        steps = [(np.arange(count) + 0.5 - 0.5 * count) * side / count for side, count in zip(sides, counts, strict=True)]
        x, y = (axis.ravel() for axis in np.meshgrid(*steps, indexing="ij"))
        xyz.append(np.stack([x, y, np.full(len(x), SHADOW_HEIGHT_M - 0.5 * actor.size[2])], axis=1))
        sizes.append(np.tile([*(SHADOW_SPREAD * sides / counts), SHADOW_THICK_M], (len(x), 1)))
        rows.append(np.full(len(x), a))
    return Shadows(*(np.concatenate(parts)[:most] for parts in (xyz, sizes, rows)))
