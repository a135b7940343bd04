"""Small logs made in code, in the schemas of ScenarioNet and Argoverse 2 sensor logs."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np

ORIGIN = np.array([5000.0, -3000.0])  # where the made logs lie in their own coordinates [m]
NS = 100_000_000


def straight_log(steps=101, dt=0.1, speed=8.0, dataset="waymo", **changes) -> dict:
    """Returns a ScenarioNet recording: two lanes east, one lane west, an ego in the right eastern lane, a lead car, a pedestrian.

    The eastern lanes are cut in two at x = 60, so that the graph matters. y = 0 is the ego's lane, y = 3.5 its left neighbour.
    """
    time = dt * np.arange(steps)
    tracks = {
        "ego": track(time, 0.0, 0.0, speed, (4.8, 2.0, 1.6)),
        "lead": track(time, 25.0, 0.0, speed, (4.5, 1.9, 1.5)),
        "walker": track(time, 40.0, 8.0, 0.0, (0.6, 0.6, 1.8), kind="PEDESTRIAN"),
        "cone": track(time, 60.0, -5.0, 0.0, (0.4, 0.4, 0.7), kind="TRAFFIC_CONE"),
    }
    log = {
        "id": "straight",
        "version": "test",
        "length": steps,
        "metadata": {"sdc_id": "ego", "ts": time, "dataset": dataset, "scenario_id": "straight"},
        "tracks": tracks,
        "map_features": features(),
        "dynamic_map_states": {},
    }
    return log | changes


def track(time, x, y, speed, size, kind="VEHICLE") -> dict:
    """Returns one track that drives east at a constant speed."""
    n = len(time)
    position = np.stack([ORIGIN[0] + x + speed * time, np.full(n, ORIGIN[1] + y), np.zeros(n)], axis=1)
    state = {
        "position": position,
        "heading": np.zeros(n),
        "velocity": np.tile([float(speed), 0.0], (n, 1)),
        "length": np.full(n, size[0]),
        "width": np.full((n, 1), size[1]),
        "height": np.full(n, size[2]),
        "valid": np.ones(n, bool),
    }
    return {"type": kind, "state": state, "metadata": {"object_id": "x"}}


def lane(x0, x1, y, **more) -> dict:
    """Returns a lane along y from x0 to x1 (heading west if x1 < x0), without polygon."""
    x = np.linspace(x0, x1, 31)
    line = np.stack([ORIGIN[0] + x, np.full(31, ORIGIN[1] + y), np.zeros(31)], axis=1)
    return {"type": "LANE_SURFACE_STREET", "polyline": line, "speed_limit_mph": 35.0} | more


def features() -> dict:
    """Returns the map: lanes a -> b at y = 0, c -> d at y = 3.5, w heading west at y = 7, road edges at y = -1.9 and 9."""

    def neighbour(name):
        return [{"feature_id": name, "self_start_index": "0"}]

    def edge(y):
        return {"type": "ROAD_EDGE_BOUNDARY", "polyline": np.array([[-100.0, y], [200.0, y]]) + ORIGIN}

    square = np.array([[50.0, -2.0], [54.0, -2.0], [54.0, 9.0], [50.0, 9.0]]) + ORIGIN
    return {
        "a": lane(-60, 60, 0.0, exit_lanes=["b"], entry_lanes=[], left_neighbor=neighbour("c")),
        "b": lane(60, 180, 0.0, exit_lanes=[], entry_lanes=["a"], left_neighbor=neighbour("d")),
        "c": lane(-60, 60, 3.5, exit_lanes=["d"], entry_lanes=[], right_neighbor=neighbour("a"), left_neighbor=neighbour("w")),
        "d": lane(60, 180, 3.5, exit_lanes=[], entry_lanes=["c"], right_neighbor=neighbour("b")),
        "w": lane(180, -60, 7.0, exit_lanes=[], entry_lanes=[]),
        "e1": edge(-1.9),
        "e2": edge(9.0),
        "x": {"type": "CROSSWALK", "polygon": square},
    }


def write_log(folder: Path, log: dict, name="sd_test.pkl") -> Path:
    path = folder / name
    path.write_bytes(pickle.dumps(log, protocol=4))
    return path


def write_argoverse2(folder: Path, steps=101, speed=8.0, ego_box=False) -> Path:
    """Writes a sensor log: the ego drives at 45 degrees, a car keeps 20 m ahead, another stands 5 m left of the start."""
    import pyarrow as pa
    from pyarrow import feather

    (folder / "map").mkdir(parents=True)
    yaw, stamps = np.pi / 4, 315_000_000_000_000_000 + NS * np.arange(steps)
    forward, left = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
    driven = speed * 0.1 * np.arange(steps)
    poses = {"timestamp_ns": stamps, "qw": np.full(steps, np.cos(yaw / 2)), "qx": np.zeros(steps), "qy": np.zeros(steps)}
    poses |= {
        "qz": np.full(steps, np.sin(yaw / 2)),
        "tx_m": ORIGIN[0] + driven * forward[0],
        "ty_m": ORIGIN[1] + driven * forward[1],
    }
    feather.write_feather(pa.table(poses | {"tz_m": np.zeros(steps)}), folder / "city_SE3_egovehicle.feather")
    rows = [("lead", "REGULAR_VEHICLE", t, 20.0, 0.0, (4.5, 1.9, 1.5)) for t in range(steps)]
    rows += [("parked", "REGULAR_VEHICLE", t, -driven[t], 5.0, (4.5, 1.9, 1.5)) for t in range(steps) if t % 7 != 3]
    if ego_box:
        rows += [("self", "EGO_VEHICLE", t, 0.0, 0.0, (4.877, 2.0, 1.473)) for t in range(steps)]
    table = {"timestamp_ns": [stamps[r[2]] for r in rows], "track_uuid": [r[0] for r in rows], "category": [r[1] for r in rows]}
    table |= {name: [r[5][i] for r in rows] for i, name in enumerate(("length_m", "width_m", "height_m"))}
    table |= {"qw": np.ones(len(rows)), **{q: np.zeros(len(rows)) for q in ("qx", "qy", "qz")}}
    table |= {"tx_m": [r[3] for r in rows], "ty_m": [r[4] for r in rows], "tz_m": np.zeros(len(rows))}
    name = "annotations_with_ego.feather" if ego_box else "annotations.feather"
    feather.write_feather(pa.table(table), folder / name)

    def points(*along_and_left):
        xy = [ORIGIN + a * forward + b * left for a, b in along_and_left]
        return [{"x": float(x), "y": float(y), "z": 0.0} for x, y in xy]

    def segment(number, a0, a1, b, successors):
        sides = {f"{s}_lane_boundary": points((a0, b + w), (a1, b + w)) for s, w in (("left", 1.75), ("right", -1.75))}
        return {
            "id": number,
            "is_intersection": False,
            "lane_type": "VEHICLE",
            "successors": successors,
            "predecessors": [],
        } | sides

    one, two = segment(1, -60, 40, 0.0, [2]), segment(2, 40, 200, 0.0, [])
    west = segment(3, 200, -60, 3.5, [])
    west["left_lane_boundary"], west["right_lane_boundary"] = west["right_lane_boundary"], west["left_lane_boundary"]
    one["left_neighbor_id"] = 3  # oncoming: no neighbour in our sense
    area = {"id": 9, "area_boundary": points((-60, -2), (200, -2), (200, 8), (-60, 8))}
    crossing = {"id": 5, "edge1": points((50, -2), (50, 6)), "edge2": points((54, -2), (54, 6))}
    content = {
        "lane_segments": {"1": one, "2": two, "3": west},
        "drivable_areas": {"9": area},
        "pedestrian_crossings": {"5": crossing},
    }
    (folder / "map" / "log_map_archive_test.json").write_text(json.dumps(content))
    return folder
