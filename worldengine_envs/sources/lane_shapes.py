"""Centrelines and polygons of lanes: cleaning, and polygons for lanes that have none."""

from __future__ import annotations

import numpy as np

from worldengine_envs.sources.optional import require

DEFAULT_HALF_WIDTH = 1.8  # [m]
PLAUSIBLE_HALF_WIDTH = (1.0, 2.75)  # [m]; what lies outside is an artefact of the format
SHOULDER_REACH = 6.0  # [m]; a road edge this near to a centreline bounds the road beside it
SPACING = 2.0  # [m] between the points at which widths are taken


def clean_line(xy) -> tuple[np.ndarray | None, np.ndarray]:
    """Returns the polyline (n, 2) without points closer than 5 cm to the one before, or None below 0.3 m; and which points stay."""
    xy = np.asarray(xy, np.float64)[:, :2] if np.size(xy) else np.zeros((0, 2))
    keep = np.zeros(len(xy), bool)
    last = None
    for i, point in enumerate(xy):
        if last is None or np.hypot(*(point - last)) >= 0.05:
            keep[i], last = True, point
    line = xy[keep]
    if len(line) < 2 or np.hypot(*np.diff(line, axis=0).T).sum() < 0.3:
        return None, keep
    return line, keep


def clean_ring(xy) -> np.ndarray | None:
    """Returns a valid open ring (n, 2) without holes that covers the given one's largest part, or None if it has no area."""
    shapely = require("shapely")
    xy = np.asarray(xy, np.float64)[:, :2] if np.size(xy) else np.zeros((0, 2))
    if len(xy) < 3:
        return None
    return largest_ring(shapely.Polygon(xy))


def largest_ring(geometry) -> np.ndarray | None:
    """Returns the open outer ring (n, 2) of the largest polygon of a geometry, or None if there is none of 0.01 m2."""
    if not geometry.is_valid:
        geometry = require("shapely").make_valid(geometry)
    parts = [part for part in getattr(geometry, "geoms", [geometry]) if part.geom_type in ("Polygon", "MultiPolygon")]
    parts = [part for many in parts for part in getattr(many, "geoms", [many]) if part.area > 0.01]
    if not parts:
        return None
    return np.asarray(max(parts, key=lambda part: part.area).exterior.coords)[:-1]


def complete_polygons(lanes, edges: list[np.ndarray], derived: set[str]) -> None:
    """Gives every lane without a polygon one, by offsetting its centreline.

    To each side by: the format's half width where it is plausible; else half the distance to a parallel lane beside it; else the
    distance to the road edge; else 1.8 m; and never past a road edge. Widths are averaged along 10 m.
    """
    missing = [lane for lane in lanes if lane.polygon is None]
    if not missing:
        return
    derived.add("lane_polygon")
    edge_tree, lane_tree = SegmentTree(edges), SegmentTree([lane.center for lane in lanes])
    for lane in missing:
        xy, normal, given = _stations(lane)
        half = np.empty_like(given)
        for side, sign in ((0, 1.0), (1, -1.0)):
            edge = edge_tree.distance(xy, sign * normal, SHOULDER_REACH)
            beside = lane_tree.distance(xy, sign * normal, 2 * PLAUSIBLE_HALF_WIDTH[1], start=1.5, parallel=True) / 2
            half[:, side] = _choose(given[:, side], beside, edge)
        half = _average(half)
        lane.polygon = band(xy, normal, half)
        if lane.polygon is None:
            lane.polygon = clean_ring(
                np.asarray(require("shapely").LineString(xy).buffer(DEFAULT_HALF_WIDTH, cap_style="flat").exterior.coords)
            )


def _choose(given, beside, edge):
    low, high = PLAUSIBLE_HALF_WIDTH
    half = np.full(len(given), DEFAULT_HALF_WIDTH)
    for values in (edge, beside, given):  # the last one that is plausible wins
        half = np.where((values >= low) & (values <= high), values, half)
    return np.where((edge >= 0.8) & (edge < half), edge, half)


def _average(half: np.ndarray, reach: int = 2) -> np.ndarray:
    return np.stack([half[max(i - reach, 0) : i + reach + 1].mean(0) for i in range(len(half))])


def _stations(lane):
    """Returns points (n, 2) every 2 m, their left normals (n, 2), and the format's half widths there (n, 2), 0 = unknown."""
    xy, _, index = resample_line(lane.center, SPACING)
    half = np.zeros((len(xy), 2)) if lane.half_width is None else np.asarray(lane.half_width, np.float64)[index]
    return xy, left_normals(xy), half


def resample_line(line: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns points (m, 2) at most ``spacing`` apart with both ends, their arclength (m,), and the nearest vertex of each (m,)."""
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = np.linspace(0.0, s[-1], max(int(np.ceil(s[-1] / spacing)), 1) + 1)
    xy = np.stack([np.interp(at, s, line[:, 0]), np.interp(at, s, line[:, 1])], axis=1)
    high = np.clip(np.searchsorted(s, at), 1, len(s) - 1)
    index = np.where(at - s[high - 1] <= s[high] - at, high - 1, high)
    return xy, at, index


def left_normals(line: np.ndarray) -> np.ndarray:
    """Returns (n, 2) unit normals to the left of a polyline (n, 2), each from its neighbours."""
    tangent = np.gradient(line, axis=0)
    tangent /= np.maximum(np.hypot(*tangent.T), 1e-9)[:, None]
    return np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)


def band(xy: np.ndarray, normal: np.ndarray, half: np.ndarray) -> np.ndarray | None:
    """Returns the ring around a line (n, 2) that reaches ``half`` (n, 2) metres to the left and right of it."""
    left, right = xy + normal * half[:, :1], xy - normal * half[:, 1:]
    shapely = require("shapely")
    polygon = shapely.Polygon(np.concatenate([left, right[::-1]]))
    if not polygon.is_valid:
        polygon = band_area(xy, normal, half)
    return largest_ring(polygon)


def band_area(xy: np.ndarray, normal: np.ndarray, half: np.ndarray):
    """Returns the same as a shapely geometry, made of one piece a segment so that tight bends do no harm."""
    shapely = require("shapely")
    left, right = xy + normal * half[:, :1], xy - normal * half[:, 1:]
    quads = np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1)
    return shapely.union_all([shapely.Polygon(quad).convex_hull for quad in quads])


class SegmentTree:
    """Finds how far rays run until they meet one of many polylines."""

    def __init__(self, lines: list[np.ndarray]):
        shapely = require("shapely")
        lines = [np.asarray(line, np.float64)[:, :2] for line in lines if len(line) >= 2]
        self.a = np.concatenate([line[:-1] for line in lines]) if lines else np.zeros((0, 2))
        self.b = np.concatenate([line[1:] for line in lines]) if lines else np.zeros((0, 2))
        self.tree = shapely.STRtree(shapely.linestrings(np.stack([self.a, self.b], axis=1)))

    def distance(
        self, xy: np.ndarray, direction: np.ndarray, reach: float, start: float = 0.2, parallel: bool = False
    ) -> np.ndarray:
        """Returns (n,) distances [m] from points (n, 2) along unit directions (n, 2) to the first segment, inf beyond ``reach``.

        Segments nearer than ``start`` do not count; with ``parallel`` only those that cross the ray within 20 degrees of square do.
        """
        out = np.full(len(xy), np.inf)
        if not len(self.a):
            return out
        shapely = require("shapely")
        rays = shapely.linestrings(np.stack([xy + start * direction, xy + reach * direction], axis=1))
        ray, segment = self.tree.query(rays, predicate="intersects")
        d, e, f = direction[ray], self.b[segment] - self.a[segment], self.a[segment] - xy[ray]
        cross = d[:, 0] * e[:, 1] - d[:, 1] * e[:, 0]
        usable = np.abs(cross) > (0.94 if parallel else 1e-3) * np.hypot(*e.T)
        distance = (f[:, 0] * e[:, 1] - f[:, 1] * e[:, 0])[usable] / cross[usable]
        np.minimum.at(out, ray[usable], distance)
        return out
