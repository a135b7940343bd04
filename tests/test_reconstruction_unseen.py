"""What is put where nothing was measured, and which way points face."""

from __future__ import annotations

import numpy as np
import pytest

from worldengine_envs.reconstruction.camera_log import ActorTrack, CameraLog
from worldengine_envs.reconstruction.points.types import Points
from worldengine_envs.reconstruction.scene_graph import SHADOW_REACH
from worldengine_envs.reconstruction.surfels import THINNEST, surfels
from worldengine_envs.reconstruction.timeline import matrices_of
from worldengine_envs.reconstruction.unseen import complete, shadows
from worldengine_envs.scenario.types import AgentType

SIZE = np.array([4.0, 2.0, 1.5])
YAW = 0.7


def pose(x: float) -> np.ndarray:
    """A box on the ground at x, turned by YAW."""
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(YAW), -np.sin(YAW)], [np.sin(YAW), np.cos(YAW)]]
    matrix[:3, 3] = x, 3.0, 0.5 * SIZE[2]
    return matrix


def log_of(kind: AgentType, moves: float) -> CameraLog:
    times = np.array([0, 1_000_000])
    actor = ActorTrack("a", kind, SIZE, times, np.stack([pose(0.0), pose(moves)]))
    return CameraLog("log", "test", "none", (), (), actors=(actor,))


def points_of(xyz, node, rgb=(10, 200, 30)) -> Points:
    xyz = np.asarray(xyz, np.float32).reshape(-1, 3)
    count = len(xyz)
    colours = np.tile(np.array(rgb, np.uint8), (count, 1))
    return Points(xyz, colours, np.full(count, node, np.int32), np.full(count, 0.1, np.float32), "lidar")


def side(y: float) -> np.ndarray:
    x, z = np.meshgrid(np.linspace(-2.0, 2.0, 21), np.linspace(-0.7, 0.7, 8))
    return np.stack([x.ravel(), np.full(x.size, y), z.ravel()], axis=1)


@pytest.mark.parametrize("kind", [AgentType.VEHICLE, AgentType.PEDESTRIAN])
def test_vehicles_get_the_side_that_nobody_saw(kind):
    found = complete(points_of(side(1.0), 0), log_of(kind, 20.0))
    other = found.xyz[found.xyz[:, 1] < 0.0]
    if kind == AgentType.PEDESTRIAN:
        assert len(other) == 0  # they are in mid-step
        return
    np.testing.assert_allclose(np.sort(other, axis=0), np.sort(side(-1.0), axis=0), atol=1e-6)
    assert (found.node == 0).all() and (found.rgb == (10, 200, 30)).all()


def test_what_was_seen_is_not_mirrored():
    both = np.concatenate([side(1.0), side(-1.0)])
    assert len(complete(points_of(both, 0), log_of(AgentType.VEHICLE, 20.0)).xyz) == len(both)


def street() -> np.ndarray:
    """Points of the ground around the box, none under it."""
    x, y = np.meshgrid(np.arange(-6.0, 6.0, 0.2), np.arange(-3.0, 9.0, 0.2))
    flat = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1)
    local = (flat - pose(0.0)[:3, 3]) @ pose(0.0)[:3, :3]
    return flat[(np.abs(local[:, :2]) > 0.5 * SIZE[:2] + 0.25).any(1)]


def test_the_ground_goes_on_under_those_who_stand():
    ground = street()
    found = complete(points_of(ground, -1, (90, 91, 92)), log_of(AgentType.VEHICLE, 0.0))
    added = found.xyz[len(ground) :]
    local = (added - pose(0.0)[:3, 3]) @ pose(0.0)[:3, :3]
    assert len(added) > 100 and np.abs(added[:, 2]).max() < 1e-6
    assert (np.abs(local[:, :2]) <= 0.5 * SIZE[:2]).all() and np.ptp(local[:, 0]) > 3.5
    assert (found.rgb == (90, 91, 92)).all() and (found.node == -1).all()


def test_shadows_of_those_who_stand_are_not_painted_on_the_ground():
    ground = street()
    points = points_of(ground, -1, (90, 91, 92))
    local = (ground - pose(0.0)[:3, 3]) @ pose(0.0)[:3, :3]
    shaded = (np.abs(local[:, :2]) < 0.5 * SHADOW_REACH * SIZE[:2]).all(1)
    points.rgb[shaded] = 20
    assert shaded.sum() > 20
    assert (complete(points, log_of(AgentType.VEHICLE, 0.0)).rgb == (90, 91, 92)).all()
    moving = complete(points, log_of(AgentType.VEHICLE, 20.0)).rgb
    assert (moving[shaded] == 20).all()  # where it drove by, images without it tell


def test_who_moves_shows_the_ground_itself():
    ground = street()
    assert len(complete(points_of(ground, -1), log_of(AgentType.VEHICLE, 20.0)).xyz) == len(ground)


def test_shadows_lie_on_the_ground_around_the_box():
    found = shadows(log_of(AgentType.VEHICLE, 20.0), 10_000)
    assert np.abs(found.xyz[:, 2] + 0.5 * SIZE[2]).max() < 0.05
    reach = np.abs(found.xyz[:, :2]).max(0) / (0.5 * SIZE[:2])
    assert (reach > 1.0).all() and (reach < SHADOW_REACH).all()
    assert len(shadows(log_of(AgentType.VEHICLE, 20.0), 5).xyz) == 5


def test_points_on_a_plane_become_flat_along_it():
    rng = np.random.default_rng(0)
    normal = np.array([0.6, -0.64, 0.48])
    across = np.linalg.svd(normal[None])[2][1:]
    flat = rng.uniform(-5.0, 5.0, (400, 2)) @ across
    cloud = rng.uniform(-5.0, 5.0, (400, 3))
    node = np.repeat([-1, 3], 400)
    quats, scales = surfels(np.concatenate([flat, cloud]), node, np.full(800, 0.2))
    axis = matrices_of(quats)[:, :, 2]
    np.testing.assert_allclose(np.abs(axis[:400] @ normal), 1.0, atol=1e-6)
    np.testing.assert_allclose(scales[:400], np.tile([0.2, 0.2, 0.2 * THINNEST], (400, 1)), rtol=1e-6)
    assert np.median(scales[400:, 2]) > 3 * 0.2 * THINNEST
    assert np.isfinite(quats).all()


def test_few_points_stay_round():
    quats, scales = surfels(np.zeros((3, 3)), np.zeros(3, int), np.full(3, 0.3))
    assert (quats == (1.0, 0.0, 0.0, 0.0)).all() and (scales == 0.3).all()
