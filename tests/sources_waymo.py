"""Waymo motion data made in code: a ScenarioNet recording written as a ``Scenario`` message and as JSON, by other means than ours.

The messages are written by the ``protobuf`` package from descriptors put together here after Waymo's scenario.proto and map.proto.
"""

from __future__ import annotations

import json
import math
import struct
from functools import cache
from pathlib import Path

import numpy as np

MESSAGES = """
MapPoint: 1 double x, 2 double y, 3 double z
BoundarySegment: 1 int32 lane_start_index, 2 int32 lane_end_index, 3 int64 boundary_feature_id, 4 int32 boundary_type
LaneNeighbor: 1 int64 feature_id, 2 int32 self_start_index, 3 int32 self_end_index, 4 int32 neighbor_start_index,
    5 int32 neighbor_end_index, 6 *BoundarySegment boundaries
LaneCenter: 1 double speed_limit_mph, 2 int32 type, 3 bool interpolating, 8 *MapPoint polyline, 9 *int64 entry_lanes packed,
    10 *int64 exit_lanes packed, 11 *LaneNeighbor left_neighbors, 12 *LaneNeighbor right_neighbors,
    13 *BoundarySegment left_boundaries, 14 *BoundarySegment right_boundaries
RoadLine: 1 int32 type, 2 *MapPoint polyline
RoadEdge: 1 int32 type, 2 *MapPoint polyline
StopSign: 1 *int64 lane, 2 MapPoint position
Crosswalk: 1 *MapPoint polygon
SpeedBump: 1 *MapPoint polygon
Driveway: 1 *MapPoint polygon
MapFeature: 1 int64 id, 3 LaneCenter lane, 4 RoadLine road_line, 5 RoadEdge road_edge, 7 StopSign stop_sign,
    8 Crosswalk crosswalk, 9 SpeedBump speed_bump, 10 Driveway driveway
TrafficSignalLaneState: 1 int64 lane, 2 int32 state, 3 MapPoint stop_point
DynamicMapState: 1 *TrafficSignalLaneState lane_states
ObjectState: 2 double center_x, 3 double center_y, 4 double center_z, 5 float length, 6 float width, 7 float height,
    8 float heading, 9 float velocity_x, 10 float velocity_y, 11 bool valid
Track: 1 int32 id, 2 int32 object_type, 3 *ObjectState states
RequiredPrediction: 1 int32 track_index, 2 int32 difficulty
Scenario: 5 string scenario_id, 1 *double timestamps_seconds, 10 int32 current_time_index, 2 *Track tracks,
    7 *DynamicMapState dynamic_map_states, 8 *MapFeature map_features, 6 int32 sdc_track_index, 4 *int32 objects_of_interest,
    11 *RequiredPrediction tracks_to_predict
"""
STATES = ("UNKNOWN", "ARROW_STOP", "ARROW_CAUTION", "ARROW_GO", "STOP", "CAUTION", "GO", "FLASHING_STOP", "FLASHING_CAUTION")
TYPES = {"VEHICLE": 1, "PEDESTRIAN": 2, "CYCLIST": 3}
LANE_TYPES = {"LANE_FREEWAY": 1, "LANE_SURFACE_STREET": 2, "LANE_BIKE_LANE": 3}
JSON_TYPES = {1: "vehicle", 2: "pedestrian", 3: "cyclist", 4: "other"}


@cache
def message_class(name: str, packed_times: bool = False):
    """Returns a message class of the ``protobuf`` package."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = {"double": 1, "float": 2, "int64": 3, "int32": 5, "bool": 8, "string": 9}
    file = descriptor_pb2.FileDescriptorProto(name="scenario.proto", package="w", syntax="proto2")
    for line in MESSAGES.strip().replace("\n    ", " ").splitlines():
        title, _, fields = line.partition(": ")
        message = file.message_type.add(name=title)
        for text in fields.split(", "):
            number, kind, label, *packed = text.split()
            field = message.field.add(name=label, number=int(number), label=3 if kind.startswith("*") else 1)
            kind = kind.removeprefix("*")
            if kind in kinds:
                field.type = kinds[kind]
            else:
                field.type, field.type_name = 11, f".w.{kind}"
            if packed or (packed_times and label == "timestamps_seconds"):
                field.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"w.{name}"))


def scenario_message(log: dict, packed_times=False):
    """Returns a ScenarioNet recording of Waymo as a ``Scenario`` message of the ``protobuf`` package."""
    out = message_class("Scenario", packed_times)(scenario_id=str(log["id"]), current_time_index=10)
    numbers = {key: i + 100 for i, key in enumerate(log["map_features"])}
    numbers.update({key: int(key) for key in log["map_features"] if str(key).isdecimal()})
    out.timestamps_seconds.extend(float(t) for t in log["metadata"]["ts"])
    for row, (key, track) in enumerate(log["tracks"].items()):
        if key == log["metadata"]["sdc_id"]:
            out.sdc_track_index = row
        _add_track(out.tracks.add(id=int(key) if key.isdecimal() else row, object_type=TYPES.get(track["type"], 4)), track["state"])
    for key, feature in log["map_features"].items():
        _add_feature(out.map_features.add(id=numbers[key]), feature, numbers)
    for step in range(len(log["metadata"]["ts"])):
        state = out.dynamic_map_states.add()
        for key, light in (log.get("dynamic_map_states") or {}).items():
            colour = light["state"]["object_state"][step]
            if colour is not None:
                one = state.lane_states.add(lane=numbers[key], state=STATES.index(colour.removeprefix("LANE_STATE_")))
                point = light.get("stop_point", (0.0, 0.0))
                one.stop_point.x, one.stop_point.y = float(point[0]), float(point[1])
    return out


def _add_track(out, state: dict) -> None:
    for step, (x, y, z) in enumerate(state["position"]):
        one = out.states.add(valid=bool(state["valid"][step]))
        if one.valid:
            one.center_x, one.center_y, one.center_z = float(x), float(y), float(z)
            one.heading = float(state["heading"][step])
            one.velocity_x, one.velocity_y = (float(v) for v in state["velocity"][step])
            one.length, one.width, one.height = (float(np.ravel(state[n][step])[0]) for n in ("length", "width", "height"))


def _add_feature(out, feature: dict, numbers: dict) -> None:
    kind = feature["type"]
    if kind.startswith("LANE"):
        lane = out.lane
        lane.type = LANE_TYPES[kind]
        lane.speed_limit_mph = float(feature.get("speed_limit_mph", 0))
        lane.exit_lanes.extend(_number(key, numbers) for key in feature.get("exit_lanes", []))
        lane.entry_lanes.extend(_number(key, numbers) for key in feature.get("entry_lanes", []))
        for side in ("left", "right"):
            for neighbour in feature.get(f"{side}_neighbor", []):
                getattr(lane, f"{side}_neighbors").add(feature_id=_number(neighbour["feature_id"], numbers))
            for boundary in feature.get(f"{side}_boundaries", []):
                values = {n: int(boundary[n]) for n in ("lane_start_index", "lane_end_index")}
                number = _number(boundary["boundary_feature_id"], numbers)
                getattr(lane, f"{side}_boundaries").add(boundary_feature_id=number, **values)
        _add_points(lane.polyline, feature["polyline"])
    elif kind.startswith("ROAD_LINE"):
        _add_points(out.road_line.polyline, feature["polyline"])
    elif kind.startswith("ROAD_EDGE"):
        _add_points(out.road_edge.polyline, feature["polyline"])
    elif kind in ("CROSSWALK", "CROSS_WALK"):
        _add_points(out.crosswalk.polygon, feature["polygon"])
    elif kind == "DRIVEWAY":
        _add_points(out.driveway.polygon, feature["polygon"])
    elif kind == "SPEED_BUMP":
        _add_points(out.speed_bump.polygon, feature["polygon"])
    else:
        out.stop_sign.position.x = 1.0


def _number(key, numbers: dict) -> int:
    return numbers[key] if key in numbers else int(key)


def _add_points(out, points) -> None:
    for point in points:
        out.add(x=float(point[0]), y=float(point[1]), z=float(point[2]) if len(point) > 2 else 0.0)


def crc32c(data: bytes) -> int:
    """Returns the CRC32C bit by bit, as its definition says."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def frame(data: bytes, checksum=None) -> bytes:
    """Returns a TFRecord of data; ``checksum`` computes the CRC32C."""
    from worldengine_envs.sources.tfrecord import crc32c as fast  # checked against the slow one above

    def masked(part):
        crc = (checksum or fast)(part)
        return struct.pack("<I", (((crc >> 15) | (crc << 17 & 0xFFFFFFFF)) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def write_tfrecord(path: Path, *messages) -> Path:
    """Writes messages (of the protobuf package, or bytes) as a TFRecord file."""
    path.write_bytes(b"".join(frame(m if isinstance(m, bytes) else m.SerializeToString()) for m in messages))
    return path


def as_json(message, flavour: str, ego_index=True) -> dict:
    """Returns a ``Scenario`` message as Nocturne ("nocturne": degrees, no ids) or GPUDrive ("gpudrive") would write it."""
    gpudrive = flavour == "gpudrive"
    out = {"name": f"{message.scenario_id}.json", "objects": [_object(track, gpudrive) for track in message.tracks], "roads": []}
    for feature in message.map_features:
        kind = next(name for name in ROAD_KINDS if feature.HasField(name))
        shape = getattr(feature, kind)
        points = [shape.position] if kind == "stop_sign" else getattr(shape, ROAD_KINDS[kind][0])
        road = {"geometry": [{"x": p.x, "y": p.y} for p in points], "type": kind}
        if gpudrive:
            number = shape.type if kind == "lane" else ROAD_KINDS[kind][1]
            road |= {"id": feature.id, "map_element_id": number}
        out["roads"].append(road)
    lights = out["tl_states"] = {}
    for step, state in enumerate(message.dynamic_map_states):
        for one in state.lane_states:
            light = lights.setdefault(str(one.lane), {"state": [], "x": [], "y": [], "time_index": []})
            light["state"].append(STATES[one.state].lower())
            light["x"].append(one.stop_point.x)
            light["y"].append(one.stop_point.y)
            light["time_index"].append(step)
    if gpudrive:
        out["scenario_id"] = message.scenario_id
        out["metadata"] = {"sdc_track_index": message.sdc_track_index, "objects_of_interest": [], "tracks_to_predict": []}
        if not ego_index:
            del out["metadata"]
    return out


ROAD_KINDS = {
    "lane": ("polyline", 2),
    "road_line": ("polyline", 6),
    "road_edge": ("polyline", 15),
    "stop_sign": ("position", 17),
    "crosswalk": ("polygon", 18),
    "speed_bump": ("polygon", 19),
    "driveway": ("polygon", 20),
}


def _object(track, gpudrive: bool) -> dict:
    last = [state for state in track.states if state.valid][-1]
    missing = {"x": -1e4, "y": -1e4}
    angle = (lambda h: h) if gpudrive else math.degrees
    out = {
        "position": [{"x": s.center_x, "y": s.center_y} if s.valid else missing for s in track.states],
        "width": last.width,
        "length": last.length,
        "heading": [angle(s.heading) if s.valid else -1e4 for s in track.states],
        "velocity": [{"x": s.velocity_x, "y": s.velocity_y} if s.valid else missing for s in track.states],
        "valid": [s.valid for s in track.states],
        "goalPosition": {"x": last.center_x, "y": last.center_y},
        "type": JSON_TYPES[track.object_type],
    }
    return out | ({"id": track.id, "height": last.height, "mark_as_expert": False} if gpudrive else {})


def write_json(path: Path, content: dict) -> Path:
    path.write_text(json.dumps(content))
    return path
