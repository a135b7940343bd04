"""The HD maps of Argoverse 2: lane segments with boundaries, drivable areas, crossings."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.sources.checks import MAX_JSON_BYTES, coordinates, load_json, points_xy
from worldengine_envs.sources.lane_shapes import largest_ring, resample_line
from worldengine_envs.sources.optional import require
from worldengine_envs.sources.road import MAX_LANE_M, RawLane, RawRoad

CAR_LANES = ("VEHICLE", "BUS")


def map_file(folder: Path, name: str = "") -> Path:
    """Returns the map of a log: ``map/log_map_archive_*.json`` in its folder or beside it, with ``name`` in its own.

    Raises:
        DataError: There is none.
    """
    files = sorted([*folder.glob("map/log_map_archive_*.json"), *folder.glob("log_map_archive_*.json")])
    if not files:
        raise DataError("missing", file=folder, field="map/log_map_archive_*.json", remedy="The map belongs beside the log")
    named = [file for file in files if name in file.name]
    if not named:
        remedy = f"The map of {name} belongs beside it; those there are of other logs"
        raise DataError("missing", file=folder, field=f"log_map_archive_{name}.json", remedy=remedy)
    return named[0]


def read_map(file: Path) -> RawRoad:
    """Returns the map of a sensor log or of a motion-forecasting scenario; both have one layout.

    Raises:
        DataError: Names what is not what it has to be.
    """
    content = _json(file)
    road = RawRoad(lanes=[])
    for key, lane in _table(content, "lane_segments", file).items():
        kind = str(lane.get("lane_type", "VEHICLE")).upper()
        (road.lanes if kind in CAR_LANES else road.bike_lanes).append(_lane(str(key), lane, file))
    shapely = require("shapely")
    areas = [
        _points(area, "area_boundary", f"drivable_areas.{key}", file)
        for key, area in _table(content, "drivable_areas", file).items()
    ]
    areas = [shapely.make_valid(shapely.Polygon(area)) for area in areas if len(area) >= 3]
    if areas:
        road.drivable = shapely.union_all(areas)
    for key, crossing in _table(content, "pedestrian_crossings", file).items():
        one, other = (_points(crossing, name, f"pedestrian_crossings.{key}", file) for name in ("edge1", "edge2"))
        road.crosswalks.append(
            np.asarray(shapely.MultiPoint(np.concatenate([one, other])).convex_hull.buffer(0.01).exterior.coords)[:-1]
        )
    return road


def _json(file: Path) -> dict:
    if file.stat().st_size > MAX_JSON_BYTES:
        raise DataError(f"{file.stat().st_size} bytes, more than {MAX_JSON_BYTES}", file=file)
    try:
        return load_json(file.read_bytes())
    except DataError as error:
        raise DataError(error.problem, file=file) from None


def _table(content: dict, field: str, file: Path) -> dict:
    """Returns a table of records by id; motion-forecasting maps and sensor maps share this shape."""
    table = content.get(field, {})
    if not isinstance(table, dict) or not all(isinstance(row, dict) for row in table.values()):
        raise DataError("must be a table of records", file=file, field=field)
    return table


def _points(record: dict, name: str, where: str, file: Path) -> np.ndarray:
    try:
        return coordinates(points_xy(record.get(name), f"{where}.{name}"), f"{where}.{name}")
    except DataError as error:
        raise DataError(error.problem, file=file, field=error.field) from None


def _lane(key: str, lane: dict, file: Path) -> RawLane:
    shapely = require("shapely")
    left, right = (_points(lane, f"{side}_lane_boundary", f"lane_segments.{key}", file) for side in ("left", "right"))
    if len(left) < 2 or len(right) < 2:
        raise DataError("a boundary has fewer than 2 points", file=file, field=f"lane_segments.{key}")
    longer = max(shapely.LineString(left).length, shapely.LineString(right).length)
    if longer > MAX_LANE_M:
        raise DataError(f"a boundary of {longer:.6g} m", file=file, field=f"lane_segments.{key}")
    n = max(int(np.ceil(longer / 2.0)), 1) + 1
    sides = [resample_line(line, max(shapely.LineString(line).length, 1e-6) / (n - 1) * (1 + 1e-9))[0] for line in (left, right)]
    ring = largest_ring(shapely.Polygon(np.concatenate([left, right[::-1]])))

    successors = lane.get("successors") or []
    if not isinstance(successors, list):
        raise DataError("must be a list", file=file, field=f"lane_segments.{key}.successors")

    def names(*fields):
        return [str(lane[field]) for field in fields if lane.get(field) is not None]

    return RawLane(
        token=key,
        center=(sides[0] + sides[1]) / 2,
        polygon=ring,
        connector=bool(lane.get("is_intersection", False)),
        successors=[str(s) for s in successors],
        left=names("left_neighbor_id"),
        right=names("right_neighbor_id"),
    )
