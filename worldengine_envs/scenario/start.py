"""Whether a scenario can be driven from its start: the ego touches nobody and stands on the road."""

from __future__ import annotations

import numpy as np

from worldengine_envs.scenario.types import AgentType, MapLayer, Scenario, VectorMap

DRIVABLE_LAYERS = (MapLayer.ROADBLOCK, MapLayer.INTERSECTION, MapLayer.DRIVABLE_AREA, MapLayer.CARPARK_AREA)


def start_problem(scenario: Scenario) -> str | None:
    """Returns why driving cannot start here, or None: the ego touches something, or a corner of it is off the drivable area.

    Both by the scorer's rules: touching counts as contact, and each corner must lie strictly inside a polygon of a drivable layer.
    """
    k, ego, tracks = scenario.start_step, scenario.ego, scenario.tracks
    x, y, yaw = tracks.state[0, k, :3]
    corners = box_corners(np.array([[x, y, yaw]]), np.array([[ego.length, ego.width]]))[0]
    others = np.flatnonzero(tracks.valid[:, k])
    others = others[others != 0]
    hit = boxes_touch(corners, box_corners(tracks.state[others, k, :3], tracks.size[others, k, :2]))
    if hit.any():
        row = int(others[hit][0])
        return f"the ego touches {AgentType(int(tracks.types[row])).name.lower()} {tracks.tokens[row]} at the start"
    outside = ~points_in_layers(scenario.vector_map, DRIVABLE_LAYERS, corners)
    if outside.any():
        return f"{int(outside.sum())} of the ego's corners are off the drivable area at the start"
    return None


def box_corners(poses: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Returns (n, 4, 2) corners of boxes: front left, rear left, rear right, front right.

    Args:
        poses: (n, 3) x, y [m] of the centre, yaw [rad].
        sizes: (n, 2) length, width [m].
    """
    cos, sin = np.cos(poses[:, 2]), np.sin(poses[:, 2])
    along = np.array([0.5, -0.5, -0.5, 0.5]) * sizes[:, :1]
    across = np.array([0.5, 0.5, -0.5, -0.5]) * sizes[:, 1:]
    x = poses[:, :1] + along * cos[:, None] - across * sin[:, None]
    y = poses[:, 1:2] + along * sin[:, None] + across * cos[:, None]
    return np.stack([x, y], axis=-1)


def boxes_touch(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Returns (n,) bool: which of the boxes (n, 4, 2) touch or overlap one box (4, 2), by separating axes."""
    apart = np.zeros(len(boxes), bool)
    for i, j in ((0, 1), (1, 2)):  # the two edge directions of each box
        for axes in (np.broadcast_to(box[j] - box[i], (len(boxes), 2)), boxes[:, j] - boxes[:, i]):
            mine = axes @ box.T  # (n, 4)
            theirs = np.einsum("nc,nkc->nk", axes, boxes)
            apart |= (mine.max(1) < theirs.min(1)) | (theirs.max(1) < mine.min(1))
    return ~apart


def points_in_layers(vector_map: VectorMap, layers: tuple[MapLayer, ...], points: np.ndarray) -> np.ndarray:
    """Returns (n,) bool: which points (n, 2) [m] lie strictly inside some polygon of the layers."""
    inside = np.zeros(len(points), bool)
    low, high = points.min(0), points.max(0)
    for row in np.flatnonzero(np.isin(vector_map.polygon_layer, layers)):
        ring = vector_map.polygon(row)
        if (ring.max(0) >= low).all() and (ring.min(0) <= high).all():
            inside |= points_in_ring(ring, points)
    return inside


def points_in_ring(ring: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Returns (n,) bool: which points (n, 2) lie strictly inside an open ring (vertices, 2), the border is outside."""
    a, b = ring, np.roll(ring, -1, axis=0)
    px, py = points[:, :1], points[:, 1:]
    side = (b[:, 0] - a[:, 0]) * (py - a[:, 1]) - (b[:, 1] - a[:, 1]) * (px - a[:, 0])  # (n, vertices), > 0 left of the edge
    up, down = (a[:, 1] <= py) & (b[:, 1] > py), (a[:, 1] > py) & (b[:, 1] <= py)
    winding = (up & (side > 0)).sum(1) - (down & (side < 0)).sum(1)
    between = (
        (np.minimum(a, b)[:, 0] <= px)
        & (px <= np.maximum(a, b)[:, 0])
        & (np.minimum(a, b)[:, 1] <= py)
        & (py <= np.maximum(a, b)[:, 1])
    )
    return (winding != 0) & ~((side == 0) & between).any(1)
