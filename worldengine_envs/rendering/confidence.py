"""How far a rendered frame can be trusted: whether the views that a scene was made from have seen what it shows, and from where.

Each of about a thousand points of a frame is moved into every witness (see ``witnesses``), actors' points with the actor. A witness
that sees the same surface there gives credit, which falls with the angle between the two lines of sight and with how much nearer
the frame looks than the witness did. The best credit counts in full; each further witness takes a little of the remaining doubt
away. What is doubted of a wall without texture cannot look wrong, what is doubted of an edge can: a frame's confidence falls with
the mean of its points' doubts, each times the contrast around it, and is nought for what nobody saw. The frame of a witness has
confidence 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from worldengine_envs.rendering.cpu.rasteriser import over
from worldengine_envs.rendering.frames import EVERYWHERE, Frames, Renderer
from worldengine_envs.rendering.scene import BACKGROUND, SKY, GaussianScene
from worldengine_envs.rendering.witnesses import (
    OUTPUTS,
    WORLD,
    Sight,
    Witnesses,
    cell_intrinsics,
    cells_of,
    inverse_depths,
    make_witnesses,
)
from worldengine_envs.simulation.kernels import inlined_kernel, kernel
from worldengine_envs.simulation.threads import num_threads

# Credit is fitted to how the errors of a reconstructed city street grow (views up to 3 m beside the path, changed actors).
HALF_ANGLE = math.radians(10.0)  # between lines of sight at which half is lost of what an angle can cost
HALF_TAN2 = math.tan(0.5 * HALF_ANGLE) ** 2
FLOOR = 0.3  # credit at any angle: that there is a surface is known
SUPPORT = 0.1  # share of the doubt that a further witness with full credit takes away
MOST_ASKED = 96  # sightings for each node of a frame
SURVEYED = 40  # points by which they are chosen
ANYONE = -3  # in place of an actor
ENOUGH = 0.999  # credit with which no other view is asked
CLOSER = 0.5  # power of the ratio of distances by which credit falls where a frame looks from nearer than the witness
HALF_ERROR = 0.05  # root mean square error, in colours of [0, 1], that is expected of a frame with confidence 0.5
IMAGES = ("rgb", *OUTPUTS)  # of a frame that is judged
TOLERANCE, LEAST_TOLERANCE = 0.05, 1e-3  # of inverse depths: share, and [1/m]; full credit within, none from twice as much on


class Cells(NamedTuple):
    """What a frame shows, at some of its pixels."""

    inverse_depth: np.ndarray  # (h, w) float32 along the camera's z [1/m], 0 = nothing, or endlessly far
    node: np.ndarray  # (h, w) int32 WORLD, a row of the witnesses' actors, or UNKNOWN
    intrinsics: np.ndarray  # (4,) float64 [cells]


class _Table(NamedTuple):
    """``Witnesses`` for kernels."""

    intrinsics: np.ndarray  # (V, 4) float64
    size: np.ndarray  # (V, 2) int32
    inverse_depth: np.ndarray  # (V, h, w) float32
    seen: np.ndarray  # (V, h, w) int16


@inlined_kernel
def _credit(cos, ratio):
    """Returns the credit for an angle and for the witness' distance over the frame's."""
    tan2 = (1.0 - cos) / (1.0 + cos + 1e-12)  # of half the angle, squared
    near = min(1.0, ratio ** (-CLOSER)) if ratio > 1.0 else 1.0
    return near * (FLOOR + (1.0 - FLOOR) / (1.0 + tan2 / HALF_TAN2))


@inlined_kernel
def _agreement(inverse_depth, seen, rows, columns, u, v, who, expected):
    """Returns in [0, 1] whether a thumbnail has node ``who`` at inverse depth ``expected`` [1/m] at u, v [cells].

    Inverse depth is linear on a plane, so it is interpolated; at edges one of the four cells around has to agree.
    """
    j, i = math.floor(u - 0.5), math.floor(v - 0.5)
    s, t = u - 0.5 - j, v - 0.5 - i
    tolerance, found, between, least = max(TOLERANCE * expected, LEAST_TOLERANCE), 0, 0.0, 1e30
    for di in range(2):
        for dj in range(2):
            r, c = min(max(i + di, 0), rows - 1), min(max(j + dj, 0), columns - 1)
            if seen[r, c] == who:
                here = inverse_depth[r, c]
                least = min(least, abs(here - expected))
                between += here * (t if di == 1 else 1.0 - t) * (s if dj == 1 else 1.0 - s)
                found += 1
    if found == 4:
        least = min(least, abs(between - expected))
    return min(max(2.0 - least / tolerance, 0.0), 1.0)


@inlined_kernel
def _testimony(table, view, m, point, who):
    """Returns the credit that a view gives a point; arguments as in ``_judge``. ANYONE: as if nothing were in the way."""
    x, y, near = point
    ax, ay, az = m[0, 0] * x + m[0, 1] * y + m[0, 2], m[1, 0] * x + m[1, 1] * y + m[1, 2], m[2, 0] * x + m[2, 1] * y + m[2, 2]
    px, py, pz = ax + m[0, 3] * near, ay + m[1, 3] * near, az + m[2, 3] * near  # the point, over its depth in the frame
    if pz < 1e-4:
        return 0.0
    fx, fy, cx, cy = table.intrinsics[view]
    u, v = fx * px / pz + cx, fy * py / pz + cy
    rows, columns = table.size[view]
    if not (0.0 <= u < columns and 0.0 <= v < rows):
        return 0.0
    agreement = 1.0
    if who != ANYONE:
        agreement = _agreement(table.inverse_depth[view], table.seen[view], rows, columns, u, v, who, near / pz)
        if agreement == 0.0:
            return 0.0
    here, there = math.sqrt(ax * ax + ay * ay + az * az), math.sqrt(px * px + py * py + pz * pz)
    return agreement * _credit((ax * px + ay * py + az * pz) / (here * there), there / here)


@kernel
def _survey(table, views, relative, points, score):
    """Writes for each view (n,) how much credit it could give to points, if nothing is in the way; arguments as in ``_judge``."""
    for k in range(len(views)):
        score[k] = 0.0
        for p in range(len(points)):
            score[k] += _testimony(table, views[k], relative[k], points[p], ANYONE)


@kernel
def _judge(table, views, relative, who, points, out):
    """Writes the confidence (p,) of points that a frame shows of one node.

    Args:
        table: Thumbnails.
        views: (n,) int32 those that are asked.
        relative: (n, 3, 4) from the frame's camera into theirs, with the node.
        who: WORLD or row of an actor.
        points: (p, 3) where their lines of sight meet the plane z = 1 of the frame's camera, x and y, and inverse depth [1/m].
        out: Written.
    """
    for p in range(len(points)):
        best, total = 0.0, 0.0
        for k in range(len(views)):
            if best < ENOUGH:
                credit = _testimony(table, views[k], relative[k], points[p], who)
                best, total = max(best, credit), total + credit
        out[p] = 1.0 - (1.0 - best) * math.exp(SUPPORT * (best - total))


class Judge:
    """Says how far frames of a scene can be trusted.

    Args:
        witnesses: Of the scene.
    """

    def __init__(self, witnesses: Witnesses):
        self.rows = {token: row for row, token in enumerate(witnesses.actors)}
        # sightings of the world are first[0] to first[1], then those of each actor
        self._first = np.searchsorted(witnesses.node, np.arange(WORLD, len(witnesses.actors) + 1))
        self._view, self._to_camera = witnesses.view, witnesses.to_camera
        near = witnesses.inverse_depth.astype(np.float32)
        self._table = _Table(witnesses.intrinsics, witnesses.size, near, witnesses.seen)

    def judge(self, cells: Cells, world_to_camera: np.ndarray, boxes: Mapping[int, np.ndarray]) -> np.ndarray:
        """Returns (h, w) float32 in [0, 1]: the confidence of each cell of a frame.

        Args:
            cells: What the frame shows.
            world_to_camera: (4, 4) float64 its camera.
            boxes: (4, 4) float64 from the frame of an actor's Gaussians into the world, by row of the witnesses' actors; for all
                that cells show.
        """
        out = np.zeros(cells.node.shape, np.float32)
        for node in np.unique(cells.node[cells.node >= WORLD]).tolist():
            pose = world_to_camera if node == WORLD else world_to_camera @ boxes[node]
            here, shown = slice(self._first[node + 1], self._first[node + 2]), np.nonzero(cells.node == node)
            fx, fy, cx, cy = cells.intrinsics
            near = cells.inverse_depth[shown].astype(np.float64)
            points = np.stack(((shown[1] + 0.5 - cx) / fx, (shown[0] + 0.5 - cy) / fy, near), axis=1)
            views, relative = self._ask(self._view[here], self._to_camera[here] @ np.linalg.inv(pose), points)
            found = np.empty(len(points))
            _judge(self._table, views, relative, node, points, found)
            out[shown] = found
        return out

    def _ask(self, views: np.ndarray, relative: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the views, of those who saw a node, that can tell most of some points, best first; arguments as in ``_judge``."""
        score = np.empty(len(views))
        _survey(self._table, views, relative, points[:: max(1, len(points) // SURVEYED)], score)
        asked = np.argsort(-score, kind="stable")[:MOST_ASKED]
        asked = asked[score[asked] > 0.0]
        return views[asked], relative[asked]


def cells_of_frames(frames: Frames, images, actors: Sequence[np.ndarray]) -> list[Cells]:
    """Returns what frames show, at their cells.

    Args:
        frames: As they were drawn.
        images: ``Images`` with ``OUTPUTS``, wherever they are.
        actors: For each frame (nodes,) int32: by number of the node image the row of the witnesses' actors, or UNKNOWN.
    """
    rows, columns, step = cells_of(frames.height, frames.width)
    rows, columns = slice(rows[0], None, step), slice(columns[0], None, step)
    depth, alpha, node = (_on_host(getattr(images, name)[:, rows, columns]) for name in OUTPUTS)
    near, lenses = inverse_depths(depth, alpha).astype(np.float32), cell_intrinsics(frames.intrinsics, step)
    known = [np.append(rows, np.int32(WORLD)) for rows in actors]  # EVERYWHERE, -1, finds the last
    return [Cells(near[f], known[f][node[f]], lenses[f]) for f in range(len(frames))]


def _on_host(array) -> np.ndarray:
    return np.ascontiguousarray(array if isinstance(array, np.ndarray) else array.cpu().numpy())


def boxes_of_frame(frames: Frames, f: int, actors: np.ndarray) -> dict[int, np.ndarray]:
    """Returns where actors stand in frame ``f``, as ``Judge.judge`` wants it; ``actors`` (nodes,) as in ``cells_of_frames``."""
    boxes = {}
    for k in range(frames.offsets[f], frames.offsets[f + 1]):
        row = WORLD if frames.node[k] == EVERYWHERE else int(actors[frames.node[k]])
        if row >= 0:
            pose = np.eye(4)
            pose[:3, :3], pose[:3, 3] = frames.rotation[k] * frames.scale[k], frames.translation[k]
            boxes[row] = pose
    return boxes


def contrast(rgb: np.ndarray, step: int) -> np.ndarray:
    """Returns (h, w) float64 the variance of brightness in [0, 1] around each cell of an image: the mean of 3 x 3 cells' own.

    Args:
        rgb: (H, W, 3) uint8.
        step: Side of a cell [px].
    """
    gray = rgb.mean(axis=2, dtype=np.float32) / 255.0
    rest = [(0, -side % step) for side in gray.shape]
    gray = np.pad(gray, rest, mode="edge")
    rows, columns = gray.shape[0] // step, gray.shape[1] // step
    own = np.pad(gray.reshape(rows, step, columns, step).var(axis=(1, 3), dtype=np.float64), 1, mode="edge")
    return sum(own[i : i + rows, j : j + columns] for i in range(3) for j in range(3)) / 9.0


def frame_confidence(points: np.ndarray, variance: np.ndarray) -> float:
    """Returns the confidence of a frame in [0, 1]: the share of it that was seen, over 1 + (expected error / HALF_ERROR)^2.

    Args:
        points: (h, w) confidence of its cells.
        variance: (h, w) their ``contrast``; where a surface is doubted, the expected squared error is the doubt times this.
    """
    seen = points > 0.0
    squared_error = np.where(seen, (1.0 - points) * variance, 0.0).mean()
    return float(seen.mean() / (1.0 + squared_error / HALF_ERROR**2))


def judge_frames(frames: Frames, images, judges: Sequence[Judge | None], actors: Sequence[np.ndarray]) -> np.ndarray:
    """Returns (F,) float32 the confidence of frames, 0 where nobody can judge.

    Args:
        frames, actors: As in ``cells_of_frames``.
        images: ``Images`` with ``IMAGES``, wherever they are.
        judges: Of the scene that each frame shows.
    """
    confidence = np.zeros(len(frames), np.float32)
    cells, threads = cells_of_frames(frames, images, actors), num_threads()
    rgb, (_, _, step) = _on_host(images.rgb), cells_of(frames.height, frames.width)

    def judge_some(t: int) -> None:
        for f in range(t, len(frames), threads):
            if judges[f] is not None:
                boxes = boxes_of_frame(frames, f, actors[f])
                points = judges[f].judge(cells[f], frames.world_to_camera[f], boxes)
                confidence[f] = frame_confidence(points, contrast(rgb[f], step))

    over(min(threads, len(frames)), judge_some)
    return confidence


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A view of the log: its camera, and where actors stood."""

    world_to_camera: np.ndarray  # (4, 4) float64
    intrinsics: np.ndarray  # (4,) fx, fy, cx, cy [px]
    height: int
    width: int
    boxes: Mapping[str, np.ndarray]  # (4, 4) float64 from the box's frame into the world, by the actor's token


def witnesses_of(scene: GaussianScene, shots: Iterable[Shot], renderer: Renderer) -> Witnesses:
    """Returns the witnesses of a finished scene: what it looks like from views that it was made from.

    Args:
        scene: The scene, in whatever appearance it has first.
        shots: The views (see ``choose_witnesses``).
        renderer: Who draws them.
    """
    names = (BACKGROUND, *((SKY,) if SKY in scene.nodes else ()), *scene.actors)
    parts = {name: renderer.add(scene.nodes[name].gaussians) for name in names}
    rows = {token: row for row, token in enumerate(scene.actors)}

    def sights() -> Iterable[Sight]:
        for shot in shots:
            boxes = {token: pose for token, pose in shot.boxes.items() if token in rows}
            images = renderer.render(frame_of(parts, rows, shot, boxes), OUTPUTS)
            depth, alpha, node = (_on_host(getattr(images, name)[0]) for name in OUTPUTS)
            placed = {rows[token]: pose for token, pose in boxes.items()}
            yield Sight(np.asarray(shot.world_to_camera, np.float64), shot.intrinsics, depth, alpha, node, placed)

    try:
        return make_witnesses(scene.actors, sights())
    finally:
        for part in parts.values():
            renderer.remove(part)


def frame_of(parts: Mapping[str, int], rows: Mapping[str, int], shot: Shot, boxes: Mapping[str, np.ndarray]) -> Frames:
    """Returns one frame in which the scenery stands, and actors where their boxes are.

    Args:
        parts: What the renderer calls each node of a scene.
        rows: What the node image shows of each actor; other nodes are scenery.
        shot: The camera.
        boxes: (4, 4) where actors stand, by token; others are not there.
    """
    standing = [(parts[name], EVERYWHERE, np.eye(4)) for name in parts if name not in rows]
    standing += [(parts[token], rows[token], pose) for token, pose in boxes.items()]
    poses = np.stack([pose for _, _, pose in standing])
    return Frames(
        part=np.array([part for part, _, _ in standing], np.int32),
        rotation=np.ascontiguousarray(poses[:, :3, :3]),
        scale=np.ones((len(poses), 3)),
        translation=np.ascontiguousarray(poses[:, :3, 3]),
        node=np.array([node for _, node, _ in standing], np.int32),
        offsets=np.array([0, len(poses)]),
        world_to_camera=np.asarray(shot.world_to_camera, np.float64)[None],
        intrinsics=np.asarray(shot.intrinsics, np.float64)[None],
        height=shot.height,
        width=shot.width,
    )
