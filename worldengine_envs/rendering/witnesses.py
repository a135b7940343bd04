"""What a reconstruction leaves behind of the images that it was made from: where each camera was and how far it saw.

A witness is a view of the log with a thumbnail of what its camera sees in the finished scene: inverse depth, and whose surface it
is. ``confidence`` asks witnesses whether they have seen what a new frame shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from worldengine_envs.errors import DataError

MAX_WITNESSES = 256
MAX_CELLS = 960  # of a thumbnail, about 23 x 41
WORLD = -1  # in place of an actor: background and sky
UNKNOWN = -2  # in place of an actor: nobody whom the views have seen
OUTPUTS = ("depth", "alpha", "node")  # images of a frame that confidence goes by
SOLID = 0.5  # where less than this hides what is behind, nothing is seen
REMEDY = "Reconstruct the scene again"


@dataclass(frozen=True, slots=True, eq=False)
class Witnesses:
    """V views, and S sightings: a view sees the world and some actors, each of them from somewhere.

    Sightings are sorted by node, then by view; every view has one of the world.
    """

    actors: tuple[str, ...]  # tokens
    view: np.ndarray  # (S,) int32
    node: np.ndarray  # (S,) int32 WORLD or row of ``actors``
    to_camera: np.ndarray  # (S, 3, 4) float64 from the world, or from the frame of the actor's box, into the view's camera
    intrinsics: np.ndarray  # (V, 4) float64 fx, fy, cx, cy [cells]; the first cell's centre is at 0.5, 0.5
    size: np.ndarray  # (V, 2) int32 rows and columns of the thumbnail; what is beyond is 0
    inverse_depth: np.ndarray  # (V, h, w) float16 along the camera's z [1/m], 0 = nothing, or endlessly far
    seen: np.ndarray  # (V, h, w) int16 WORLD or row of ``actors``

    def __len__(self) -> int:
        return len(self.size)


def cells_of(height: int, width: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns rows (h,) and columns (w,) of the pixels that stand for an image, and the distance between them [px]."""
    step = max(1, int(np.ceil(np.sqrt(height * width / MAX_CELLS))))
    return np.arange((step - 1) // 2, height, step), np.arange((step - 1) // 2, width, step), step


def cell_intrinsics(intrinsics: np.ndarray, step: int) -> np.ndarray:
    """Returns (..., 4) intrinsics [cells] of the cells of images with intrinsics (..., 4) [px]."""
    lens = np.array(intrinsics, np.float64) / step
    lens[..., 2:] += 0.5 - ((step - 1) // 2 + 0.5) / step
    return lens


def inverse_depths(depth: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Returns inverse depths as witnesses keep them, float16: 0 where there is no surface; of any shape."""
    solid = (alpha >= SOLID) & (depth > 0.0)
    return np.where(solid, 1.0 / np.where(solid, depth, 1.0), 0.0).astype(np.float16)


def choose_witnesses(moments: Sequence, most: int = MAX_WITNESSES) -> np.ndarray:
    """Returns rows of views that become witnesses: all cameras of as many moments, evenly spread, as there is room for.

    Args:
        moments: By view, anything that is the same for cameras of one moment: traversal and time. In the order of the log.
        most: How many witnesses there may be.
    """
    rows: dict = {}
    for row, moment in enumerate(moments):
        rows.setdefault(moment, []).append(row)
    groups = list(rows.values())
    room = max(1, most // max((len(group) for group in groups), default=1))
    if len(groups) > room:
        groups = [groups[i] for i in np.linspace(0, len(groups) - 1, room).round().astype(np.int64)]
    return np.array([row for group in groups for row in group][:most], np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What one view of the log saw, as it is drawn from the finished scene."""

    world_to_camera: np.ndarray  # (4, 4) float64
    intrinsics: np.ndarray  # (4,) fx, fy, cx, cy [px]
    depth: np.ndarray  # (H, W) along the camera's z [m]
    alpha: np.ndarray  # (H, W)
    node: np.ndarray  # (H, W) int32 row of the actors, or a negative number
    box_to_world: Mapping[int, np.ndarray]  # (4, 4) float64 by row of the actors who were there


def make_witnesses(actors: Sequence[str], sights: Iterable[Sight]) -> Witnesses:
    """Returns the witnesses of some views.

    Args:
        actors: Tokens of everyone who has a node.
        sights: What each view saw.
    """
    lenses, thumbnails, sightings = [], [], []
    for v, sight in enumerate(sights):
        rows, columns, step = cells_of(*sight.depth.shape)
        cells = np.ix_(rows, columns)
        seen = np.maximum(sight.node[cells], WORLD).astype(np.int16)
        lenses.append(cell_intrinsics(sight.intrinsics, step))
        thumbnails.append((inverse_depths(sight.depth[cells], sight.alpha[cells]), seen))
        sightings.append((WORLD, v, sight.world_to_camera[:3]))
        for row in np.unique(seen[seen > WORLD]).tolist():
            sightings.append((row, v, (sight.world_to_camera @ sight.box_to_world[row])[:3]))
    size = np.array([seen.shape for _, seen in thumbnails], np.int32).reshape(-1, 2)
    shape = (len(thumbnails), *size.max(axis=0, initial=0))
    inverse, owners = np.zeros(shape, np.float16), np.full(shape, WORLD, np.int16)
    for v, (near, seen) in enumerate(thumbnails):
        inverse[v, : seen.shape[0], : seen.shape[1]], owners[v, : seen.shape[0], : seen.shape[1]] = near, seen
    sightings.sort(key=lambda sighting: sighting[:2])
    return Witnesses(
        tuple(actors),
        np.array([view for _, view, _ in sightings], np.int32),
        np.array([node for node, _, _ in sightings], np.int32),
        np.array([pose for _, _, pose in sightings], np.float64).reshape(-1, 3, 4),
        np.array(lenses, np.float64).reshape(-1, 4),
        size,
        inverse,
        owners,
    )


def validate_witnesses(witnesses: Witnesses, tokens: Sequence[str], file=None, field: str = "witnesses") -> Witnesses:
    """Returns witnesses as they are.

    Args:
        witnesses: To check.
        tokens: The actors of the scene.
        file, field: For messages.

    Raises:
        DataError: Types, shapes or numbers that kernels, which do not look at bounds, would trip over.
    """
    views, sightings = len(witnesses.size), len(witnesses.view)
    cells = (views, *witnesses.inverse_depth.shape[1:3])
    shapes = {
        "view": (np.int32, (sightings,)),
        "node": (np.int32, (sightings,)),
        "to_camera": (np.float64, (sightings, 3, 4)),
        "intrinsics": (np.float64, (views, 4)),
        "size": (np.int32, (views, 2)),
        "inverse_depth": (np.float16, cells),
        "seen": (np.int16, cells),
    }
    for name, (dtype, shape) in shapes.items():
        array = getattr(witnesses, name)
        if array.dtype != dtype or array.shape != shape:
            problem = f"{array.dtype} {array.shape} must be {np.dtype(dtype)} {shape}"
            raise DataError(problem, file=file, field=f"{field}.{name}", remedy=REMEDY)
        if not np.isfinite(array).all():
            raise DataError("has values that are not finite", file=file, field=f"{field}.{name}", remedy=REMEDY)
    actors, nodes = len(witnesses.actors), np.concatenate((witnesses.node, witnesses.seen.reshape(-1)))
    order = np.lexsort((witnesses.view, witnesses.node))
    wrong = {
        "actors": not set(witnesses.actors) <= set(tokens) or len(set(witnesses.actors)) < actors,
        "view": sightings > 0 and not (0 <= witnesses.view.min() and witnesses.view.max() < views),
        "node": not np.array_equal(order, np.arange(sightings)) or not ((nodes >= WORLD) & (nodes < actors)).all(),
        "size": not ((witnesses.size >= 1) & (witnesses.size <= cells[1:])).all(),
        "intrinsics": not (witnesses.intrinsics[:, :2] > 0.0).all(),
        "inverse_depth": bool((witnesses.inverse_depth < 0.0).any()) or views > MAX_WITNESSES or cells[1] * cells[2] > 2**20,
    }
    for name, bad in wrong.items():
        if bad:
            raise DataError("names or numbers do not fit together", file=file, field=f"{field}.{name}", remedy=REMEDY)
    return witnesses
