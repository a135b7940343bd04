"""``make_scene``: a scenario in, the Gaussian scene of its street out."""

from __future__ import annotations

import math

import numpy as np

from worldengine_envs.city.gaussians import faces, ground
from worldengine_envs.city.gaussians.cloud import gaussians_of, new_cloud
from worldengine_envs.city.gaussians.shading import looks_of
from worldengine_envs.city.gaussians.sky import sample_sky
from worldengine_envs.city.gaussians.viewing import SECTORS, WALLS, Viewing, coarseness, everywhere, find_walls
from worldengine_envs.city.surfaces.types import TIMES_OF_DAY, Street
from worldengine_envs.errors import DataError
from worldengine_envs.rendering.scene import BACKGROUND, SKY, GaussianScene, Node
from worldengine_envs.scenario.recipes import SCENE_DETAIL
from worldengine_envs.scenario.types import Scenario
from worldengine_envs.simulation.kernels import announce_compiling, kernel

LOGIT = 5.0  # of the opacity of every Gaussian of a surface
NEAREST = 6.0  # what is nearer to the path is seen from this distance at the least [m]
TABLE_CELL, TABLE_MARGIN = 4.0, 60.0  # of the table of distances [m]
EYE_STEP = 5.0  # between eyes along the path [m]
LANE_STEP = 12.0  # between eyes on other lanes [m]
AHEAD = 50.0  # eyes are so near to where the ego drives in the log [m]
FARTHEST = 768.0  # the ground ends so far beyond the path [m]


def make_scene(scenario: Scenario, detail: float = 1.0) -> GaussianScene:
    """Returns the scene of a scenario's street: nodes ``background`` and ``sky``, looks for day, dusk and night; no actors.

    It depends on the map and the whole recording: cameras are where the ego drives in the log, and nothing stands where a track is.
    Windows of one recording have the same scene, whatever their start.

    Args:
        scenario: Any scenario, of the city or imported.
        detail: 1 for pictures of about 320 pixels across; the number of Gaussians grows about in proportion.

    Raises:
        DataError: ``detail`` is not in [0.25, 4].
    """
    from worldengine_envs.city.surfaces.street import make_street_surfaces

    least, most = SCENE_DETAIL
    if not least <= detail <= most:
        raise DataError(f"{detail!r} is not in [{least:g}, {most:g}]", scenario=scenario.id, field="detail")
    announce_compiling((ground.sample_squares, faces.sample_all), "the maker of scenes")
    street = make_street_surfaces(scenario)
    near, all_eyes = _eyes(scenario, street.path)
    x, y = near.mean(axis=0)
    nodes = {BACKGROUND: sample_street(street, near, all_eyes, detail), SKY: sample_sky(x, y, detail, LOGIT)}
    kind = "sampled" if scenario.origin.dataset == "city" else "dressed"
    return GaussianScene(scenario.id, kind, nodes, TIMES_OF_DAY)


def _eyes(scenario: Scenario, path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns where the ego's cameras come (n, 2) [m], and these and other lanes nearby (m, 2), where other vehicles see from."""
    driven = _every(scenario.tracks.state[0, scenario.tracks.valid[0], :2], EYE_STEP)
    points = _every(path, EYE_STEP)
    near = np.concatenate((driven, points[_gap(points, driven) < AHEAD]))
    cells = np.unique(np.round(scenario.vector_map.centerline / LANE_STEP).astype(np.int64), axis=0)
    lanes = cells * LANE_STEP
    return near, np.concatenate((near[::2], lanes[_gap(lanes, driven) < AHEAD]))


def _gap(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns (n,) how far each point (n, 2) is from the nearest of others (m, 2) [m]."""
    return np.hypot(*(points[:, None] - others[None]).transpose(2, 0, 1)).min(axis=1)


def sample_street(street: Street, near: np.ndarray, all_eyes: np.ndarray, detail: float) -> Node:
    """Returns the Gaussians of what does not move.

    Args:
        street: What there is.
        near: (n, 2) x, y [m] of cameras for whom it is made.
        all_eyes: (m, 2) x, y [m] of all places from where it is seen.
        detail: As of ``make_scene``.
    """
    cloud, coarse = new_cloud(), coarseness(detail)
    viewing = _viewing(near, coarse)
    ground.sample_whole_ground(street.ground, viewing, near.min(axis=0) - FARTHEST, near.max(axis=0) + FARTHEST, cloud)
    shape = (len(all_eyes), SECTORS, WALLS)
    wall, slope = np.empty(shape, np.float32), np.empty(shape, np.float32)
    find_walls(street.primitives, all_eyes, wall, slope)
    seen = {"eyes": all_eyes, "wall": wall, "slope": slope}
    walls = viewing._replace(**seen, largest=0.1 * coarse, smallest=0.015 * coarse, error=1e-4 * coarse * coarse, spread=1.8)
    faces.sample_primitives(street.primitives, walls, cloud)
    if cloud.count[0] == len(cloud.means):
        raise DataError(f"needs more than {len(cloud.means)} Gaussians", field="detail", remedy="Ask for less detail")
    looks = looks_of(cloud, street.ground)
    return Node(gaussians_of(cloud, looks[TIMES_OF_DAY[0]]), looks)


def _viewing(eyes: np.ndarray, coarse: float) -> Viewing:
    """Returns how the ground is seen from eyes (eyes, 2) [m]; ``coarse`` is a factor on the size of its patches."""
    low = eyes.min(axis=0) - TABLE_MARGIN
    columns, rows = (int(n) for n in np.ceil((eyes.max(axis=0) + TABLE_MARGIN - low) / TABLE_CELL))
    distance = np.empty((rows, columns), np.float32)
    _measure(eyes, low, TABLE_CELL, NEAREST, distance)
    sizes = 0.16 * coarse, 0.012 * coarse, 2e-5 * coarse * coarse
    return Viewing(distance, low, TABLE_CELL, TABLE_CELL, *everywhere(), *sizes, 1.5, LOGIT)


def _every(path: np.ndarray, step: float) -> np.ndarray:
    """Returns (n, 2) points of a path (points, 2), about ``step`` [m] apart."""
    length = np.concatenate(([0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))))
    at = np.linspace(0.0, length[-1], max(int(length[-1] / step) + 1, 2))
    return np.column_stack([np.interp(at, length, path[:, k]) for k in range(2)])


@kernel
def _measure(path, low, cell, nearest, distance):
    """Writes how far off the path the middle of each cell is [m], as it is seen from the path's height: at least ``nearest``."""
    for i in range(distance.shape[0]):
        for j in range(distance.shape[1]):
            x, y, best = low[0] + (j + 0.5) * cell, low[1] + (i + 0.5) * cell, 1e30
            for k in range(len(path)):
                dx, dy = path[k, 0] - x, path[k, 1] - y
                best = min(best, dx * dx + dy * dy)
            distance[i, j] = math.sqrt(best + nearest * nearest)
