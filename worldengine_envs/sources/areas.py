"""Areas of the map: drivable area, intersections, and rings without holes."""

from __future__ import annotations

import numpy as np

from worldengine_envs.sources.lane_graph import CROSSING_ANGLE, angle_at_crossing
from worldengine_envs.sources.lane_shapes import (
    SHOULDER_REACH,
    SegmentTree,
    band_area,
    largest_ring,
    left_normals,
    resample_line,
)
from worldengine_envs.sources.optional import require

INTERSECTION_REACH_M = 15.0  # how far an intersection reaches past the outermost place where connectors cross
SEAM_M = 0.15  # gaps between neighbouring lanes up to twice this wide are road
SWEEP_MARGIN_M = 0.3  # beside the box of a vehicle that drove there
SPECK_M2, SMALLEST_HOLE_M2 = 0.05, 0.25
OVERLAP_M = 0.01  # pieces of a cut area overlap by this, so that no point lies on a seam (borders count as outside)


def drivable_area(road, near, swept: np.ndarray | None, derived: set[str]):
    """Returns the drivable area (shapely geometry): the format's own, else what lanes, road edges and the ego's drive tell.

    A format's own area that is known to leave out parts of the ground (car parks) gets the ground under the logged ego.

    Derived: the union of lane and bike lane polygons, widened to a road edge within 6 m of the centreline, driveways, narrow seams
    closed, and the ground under the logged ego.
    """
    shapely = require("shapely")
    if road.drivable is not None:
        area = road.drivable if road.drivable.is_valid else shapely.make_valid(road.drivable)
        if not road.drivable_is_whole:
            area = _with_sweep(area, swept, derived)
        return area.intersection(near)
    derived.add("drivable_area")
    parts = [shapely.Polygon(lane.polygon) for lane in road.lanes + road.bike_lanes]
    if road.edges:
        derived.add("drivable_area_road_edges")
        tree = SegmentTree(road.edges)
        parts += [_up_to_edges(lane.center, tree) for lane in road.lanes + road.bike_lanes]
    parts += [shapely.make_valid(shapely.Polygon(ring)) for ring in road.extra_drivable if len(ring) >= 3]
    area = shapely.union_all([part for part in parts if not part.is_empty])
    area = area.buffer(SEAM_M, join_style="mitre").buffer(-SEAM_M, join_style="mitre").simplify(0.02)
    return _with_sweep(area, swept, derived).intersection(near)


def _with_sweep(area, swept: np.ndarray | None, derived: set[str]):
    if swept is None or area.contains(under := swept_area(swept)):
        return area
    derived.add("drivable_area_ego_sweep")
    return area.union(under)


def _up_to_edges(center: np.ndarray, tree: SegmentTree):
    xy, _, _ = resample_line(center, 2.0)
    normal = left_normals(xy)
    half = np.stack([tree.distance(xy, sign * normal, SHOULDER_REACH) for sign in (1.0, -1.0)], axis=1)
    return band_area(xy, normal, np.where(np.isfinite(half), half, 1.0))


def swept_area(boxes: np.ndarray):
    """Returns the ground (shapely geometry) that boxes (steps, 4, 2) [m] cover on their way, and 0.3 m beside it."""
    shapely = require("shapely")
    pairs = np.concatenate([boxes[:-1], boxes[1:]], axis=1)
    hulls = [shapely.MultiPoint(pair).convex_hull for pair in pairs]
    return shapely.union_all(hulls).buffer(SWEEP_MARGIN_M, join_style="mitre")


def intersection_areas(lanes, connector: np.ndarray, derived: set[str]) -> list[np.ndarray]:
    """Returns rings of the intersections: connected areas of lane connectors around the places where their centrelines cross.

    An area ends 15 m past the outermost crossing; lines that only merge or part do not cross.
    """
    shapely = require("shapely")
    rows = np.flatnonzero(connector)
    if not len(rows):
        return []
    derived.add("intersection")
    union = shapely.union_all([shapely.Polygon(lanes[row].polygon) for row in rows])
    union = union.buffer(SEAM_M * 4, join_style="mitre").buffer(-SEAM_M * 4, join_style="mitre")
    lines = [shapely.LineString(lanes[row].center) for row in rows]
    one, other = shapely.STRtree(lines).query(lines, predicate="crosses")
    pairs = [(lines[i], lines[j]) for i, j in zip(one, other, strict=True) if i < j]
    crossings = [a.intersection(b) for a, b in pairs if angle_at_crossing(a, b) > CROSSING_ANGLE]
    out = []
    for part in getattr(union, "geoms", [union]):
        inside = [point for point in crossings if part.intersects(point)]
        if inside:
            reach = shapely.union_all(inside).convex_hull.buffer(INTERSECTION_REACH_M)
            ring = largest_ring(shapely.Polygon(part.exterior).intersection(reach).simplify(0.05))
            out += [] if ring is None else [ring]
    return out


def area_of_rings(rings: list[np.ndarray]):
    """Returns the area (shapely geometry) that closed boundary rings bound: inside an odd number of them."""
    shapely = require("shapely")
    area = shapely.Polygon()
    polygons = [shapely.make_valid(shapely.Polygon(ring)) for ring in rings if len(ring) >= 3]
    for polygon in sorted(polygons, key=lambda p: -p.area):
        area = area.symmetric_difference(polygon)
    return area


def simple_rings(area) -> list[np.ndarray]:
    """Returns open rings (n, 2) without holes that cover an area but for specks below 0.05 m2 and with holes below 0.25 m2 filled.

    The area is cut in two across its largest hole until no hole is left.
    """
    shapely = require("shapely")
    todo, out = [area], []
    while todo:
        geometry = todo.pop()
        if hasattr(geometry, "geoms"):
            todo.extend(geometry.geoms)
        elif geometry.geom_type != "Polygon" or geometry.area < SPECK_M2:
            continue
        else:
            holes = [hole for hole in map(shapely.Polygon, geometry.interiors) if hole.area >= SMALLEST_HOLE_M2]
            if holes:
                todo.extend(_halves(geometry, max(holes, key=lambda hole: hole.area)))
            else:
                out.append(np.asarray(geometry.exterior.coords)[:-1])
    return out


def _halves(polygon, hole):
    """Cuts a polygon through the middle of a hole, across its longer side, so that both halves have it open."""
    shapely = require("shapely")
    (x0, y0, x1, y1), (left, low, right, high) = polygon.bounds, hole.bounds
    x, y = (left + right) / 2, (low + high) / 2
    if right - left >= high - low:
        halves = [(x0, y0, x + OVERLAP_M, y1), (x - OVERLAP_M, y0, x1, y1)]
    else:
        halves = [(x0, y0, x1, y + OVERLAP_M), (x0, y - OVERLAP_M, x1, y1)]
    return [polygon.intersection(shapely.box(*half)) for half in halves]
