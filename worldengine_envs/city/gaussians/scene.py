"""``make_scene``: a scenario in, the Gaussian scene of its street out."""

from __future__ import annotations

import math

import numpy as np

from worldengine_envs.city.gaussians import faces, ground
from worldengine_envs.city.gaussians.cloud import gaussians_of, new_cloud
from worldengine_envs.city.gaussians.shading import looks_of
from worldengine_envs.city.gaussians.sky import sample_sky
from worldengine_envs.city.gaussians.viewing import EYE_HEIGHT, Viewing
from worldengine_envs.city.surfaces.types import TIMES_OF_DAY, Street
from worldengine_envs.errors import DataError
from worldengine_envs.rendering.scene import BACKGROUND, SKY, GaussianScene, Node
from worldengine_envs.scenario.types import Scenario
from worldengine_envs.simulation.kernels import kernel

LOGIT = 5.0  # of the opacity of every Gaussian of a surface
NEAREST = 6.0  # what is nearer to the path is seen from this distance at the least [m]
TABLE_CELL, TABLE_MARGIN = 4.0, 60.0  # of the table of distances [m]
EYE_STEP = 5.0  # between eyes along the path [m]
AHEAD = 50.0  # eyes are so near to where the ego drives in the log [m]
FARTHEST = 768.0  # the ground ends so far beyond the path [m]
MOST_DETAIL = 10.0


def make_scene(scenario: Scenario, detail: float = 1.0) -> GaussianScene:
    """Returns the scene of a scenario's street: nodes ``background`` and ``sky``, looks for day, dusk and night; no actors.

    It depends on the map, the route and the lights, not on who drives there.

    Args:
        scenario: Any scenario, of the city or imported.
        detail: 1 for pictures of about 320 pixels across; the number of Gaussians grows about in proportion.

    Raises:
        DataError: ``detail`` is not in (0, 10].
    """
    from worldengine_envs.city.surfaces.street import make_street_surfaces

    if not 0.0 < detail <= MOST_DETAIL:
        raise DataError(f"{detail!r} is not in (0, {MOST_DETAIL:g}]", scenario=scenario.id, field="detail")
    street = make_street_surfaces(scenario)
    x, y = street.path.mean(axis=0)
    ego = scenario.tracks.state[0, scenario.tracks.valid[0], :2]
    eyes = _near(street.path, ego)
    nodes = {BACKGROUND: sample_street(street, eyes, detail), SKY: sample_sky(x, y, detail, LOGIT)}
    kind = "sampled" if scenario.origin.dataset == "city" else "dressed"
    return GaussianScene(scenario.id, kind, nodes, TIMES_OF_DAY)


def _near(path: np.ndarray, ego: np.ndarray) -> np.ndarray:
    """Returns (eyes, 2) the points of a path (points, 2), AHEAD metres around where the ego drives (steps, 2) in the log."""
    points, driven = _every(path, EYE_STEP), _every(ego, EYE_STEP)
    gap = np.hypot(*(points[:, None] - driven[None]).transpose(2, 0, 1)).min(axis=1)
    return np.concatenate((driven, points[gap < AHEAD]))


def sample_street(street: Street, eyes: np.ndarray, detail: float) -> Node:
    """Returns the Gaussians of what does not move, as seen from eyes (eyes, 2) [m]."""
    viewing = _viewing(eyes, detail)
    cloud = new_cloud()
    root, low = ground.ROOT, eyes.min(axis=0) - FARTHEST
    columns, rows = (int(n) for n in np.ceil((np.ptp(eyes, axis=0) + 2.0 * FARTHEST) / root))
    samples, bins = np.empty((ground.SIDE, ground.SIDE, 3)), np.empty((ground.BINS + 1, 4))
    ground.sample_ground(street.ground, viewing, low[0], low[1], columns, rows, cloud, samples, bins, np.empty((ground.STACK, 4)))
    coarse = 1.0 / math.sqrt(detail)
    walls = viewing._replace(largest=0.1 * coarse, smallest=0.015 * coarse, error=1e-4 / detail, spread=1.7)
    faces.sample_primitives(street.primitives, walls, cloud, faces.new_work())
    looks = looks_of(cloud, street.ground)
    return Node(gaussians_of(cloud, looks[TIMES_OF_DAY[0]]), looks)


def _viewing(eyes: np.ndarray, detail: float) -> Viewing:
    """Returns how a street is seen from eyes (eyes, 2) [m]."""
    low = eyes.min(axis=0) - TABLE_MARGIN
    columns, rows = (int(n) for n in np.ceil((eyes.max(axis=0) + TABLE_MARGIN - low) / TABLE_CELL))
    distance = np.empty((rows, columns), np.float32)
    _measure(eyes, low, TABLE_CELL, NEAREST, distance)
    coarse = 1.0 / math.sqrt(detail)
    eyes = np.column_stack((eyes, np.full(len(eyes), EYE_HEIGHT)))
    return Viewing(distance, low, TABLE_CELL, TABLE_CELL, eyes, 0.16 * coarse, 0.012 * coarse, 3e-5 / detail, 1.5, LOGIT)


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
