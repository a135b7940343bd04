"""Raw Waymo scenarios: framing, wire format and content, against the protobuf package and against ScenarioNet's conversion."""

import copy
import gzip
import struct

import numpy as np
import pytest
import shapely
from sources_logs import ORIGIN, straight_log, track, write_log
from sources_waymo import crc32c as slow_crc32c
from sources_waymo import frame, message_class, scenario_message, write_tfrecord

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.start import DRIVABLE_LAYERS, points_in_layers
from worldengine_envs.scenario.types import AgentType, LightState
from worldengine_envs.scenario.validation import validate
from worldengine_envs.sources.pickles import load_pickle
from worldengine_envs.sources.protobuf_wire import parse
from worldengine_envs.sources.scenarionet import read_scenarionet, scenarionet_files
from worldengine_envs.sources.tfrecord import crc32c, read_records
from worldengine_envs.sources.waymo import read_waymo, waymo_files
from worldengine_envs.sources.waymo_proto import SCENARIO
from worldengine_envs.sources.windows import cut_windows

pytest.importorskip("google.protobuf")


def read(path):
    (recording,) = read_waymo(path)
    if isinstance(recording, DataError):
        raise recording
    return validate(recording)


def straight(change=None, **changes):
    log = straight_log(**changes)
    if change:
        change(log)
    return scenario_message(log)


def lights(log):
    """A red light on lane b that turns green at 5 s and is not seen in between."""
    colours = ["LANE_STATE_STOP"] * 30 + [None] * 20 + ["LANE_STATE_ARROW_GO"] * 51
    log["dynamic_map_states"] = {"b": {"state": {"object_state": colours}, "lane": "b"}}


def test_crc32c_is_castagnolis():
    assert crc32c(b"123456789") == slow_crc32c(b"123456789") == 0xE3069283
    data = np.random.default_rng(0).bytes(999)
    assert crc32c(data) == slow_crc32c(data) and crc32c(b"") == 0


def same(message, parsed, table) -> int:
    """Compares every field of the table between a message of the protobuf package and our dict; returns how many values."""
    count = 0
    for number, field in table.items():
        descriptor = message.DESCRIPTOR.fields_by_number[number]
        values, ours = getattr(message, descriptor.name), parsed.get(field.name)
        if not field.repeated:
            if not message.HasField(descriptor.name):
                assert ours is None
                continue
            values, ours = [values], [ours]
        assert len(values) == len(ours)
        for value, our in zip(values, ours, strict=True):
            count += same(value, our, field.kind) if isinstance(field.kind, dict) else 1
            assert isinstance(field.kind, dict) or value == our
    return count


def test_the_real_file_decodes_as_the_protobuf_package_does(shared):
    for path in waymo_files(shared / "data" / "waymo_tfrecord"):
        with path.open("rb") as file:
            for _, record in read_records(file):
                assert same(message_class("Scenario").FromString(record), parse(record, SCENARIO), SCENARIO) > 50_000


def test_the_real_file_holds_what_its_description_says(shared):
    r = read(shared / "data" / "waymo_tfrecord" / "motion_data_one_scenario.tfrecord")
    assert r.tracks.steps == 91 and len(r.tracks) == 83 and r.ego.length == 5.286
    assert r.vector_map.num_lanes == 198 - 1  # one lane is a bike lane, one is too short to be one
    assert not {"lane_successors", "lane_neighbours"} & set(r.origin.derived) and len(r.lights.lanes) == 8
    limits = r.vector_map.lane_speed_limit / 0.44704
    assert set(np.round(limits[np.isfinite(limits)])) <= {10, 15, 40, 45}
    assert len(cut_windows(r).scenarios) == 2 and not cut_windows(r).refused


def test_a_made_scenario_comes_out_as_it_went_in(tmp_path):
    r = read(write_tfrecord(tmp_path / "a.tfrecord", straight(lights)))
    t = 0.1 * np.arange(101)
    assert r.id == "straight" and np.allclose(r.origin.offset, ORIGIN) and r.origin.dataset == "waymo"
    assert np.allclose(r.tracks.state[0], np.stack([8 * t, 0 * t, 0 * t, 0 * t + 8, 0 * t], axis=1), atol=1e-9)
    assert r.tracks.types.tolist() == [0, 0, AgentType.PEDESTRIAN, AgentType.GENERIC_OBJECT]
    m = r.vector_map
    a, b, c, d, w = (m.lane_tokens.index(str(100 + i)) for i in range(5))
    assert m.lane_successors(a).tolist() == [b] and m.lane_left[[a, b]].tolist() == [c, d] and m.lane_right[c] == a
    assert m.lane_left[c] == -1  # the file names an oncoming lane
    assert np.allclose(m.lane_speed_limit, 35 * 0.44704) and len(m.lane_successors(w)) == 0
    assert r.lights.lanes.tolist() == [b]
    state = r.lights.state[0]
    assert (state[:39] == LightState.RED).all() and (state[41:49] == 0).all() and (state[51:] == LightState.GREEN).all()


def test_boundaries_give_lanes_their_widths(tmp_path):
    def bound(log):
        log["map_features"]["line"] = {
            "type": "ROAD_LINE_BROKEN_SINGLE_WHITE",
            "polyline": np.array([[-60, 1.4], [60, 1.4]]) + ORIGIN,
        }
        segment = {"lane_start_index": 0, "lane_end_index": 30}
        log["map_features"]["a"] |= {
            "left_boundaries": [segment | {"boundary_feature_id": "line"}],
            "right_boundaries": [segment | {"boundary_feature_id": "e1"}, segment | {"boundary_feature_id": 999}],
        }

    r = read(write_tfrecord(tmp_path / "a", straight(bound)))
    m = r.vector_map
    ring = shapely.Polygon(m.polygon(m.lane_polygon[m.lane_tokens.index("100")]))
    assert ring.bounds == pytest.approx((-60, -1.9, 60, 1.4), abs=0.01)


def test_what_may_be_missing_may_be_missing(tmp_path):
    message = straight(lambda log: log["tracks"]["lead"]["state"]["valid"].__setitem__(slice(0, 40), False))
    del message.objects_of_interest[:], message.dynamic_map_states[:]
    message.ClearField("scenario_id")
    message.ClearField("current_time_index")
    for feature in message.map_features:
        for name in ("exit_lanes", "entry_lanes", "left_neighbors", "right_neighbors", "speed_limit_mph", "type"):
            feature.lane.ClearField(name) if feature.HasField("lane") else None
    r = read(write_tfrecord(tmp_path / "shard.tfrecord", message))
    assert r.id == "shard_tfrecord_0" and not len(r.lights.lanes) and np.isnan(r.vector_map.lane_speed_limit).all()
    assert {"lane_successors", "lane_neighbours"} <= set(r.origin.derived)
    assert r.tracks.valid[1].tolist() == [False] * 40 + [True] * 61  # it appears late
    assert [w.start_step for w in cut_windows(r).scenarios] == [15, 35]


@pytest.mark.filterwarnings("error")
def test_a_step_that_comes_twice_counts_once(tmp_path):
    log = straight_log()
    for one in log["tracks"].values():
        for name, values in one["state"].items():
            one["state"][name] = np.insert(values, 30, values[30], axis=0)
    log["metadata"]["ts"] = np.insert(log["metadata"]["ts"], 30, log["metadata"]["ts"][30])
    r = read(write_tfrecord(tmp_path / "a", scenario_message(log)))
    assert r.tracks.steps == 101 and "duplicate_steps_dropped" in r.origin.derived
    assert np.allclose(r.tracks.state[0, :, 0], 0.8 * np.arange(101))


def test_the_ego_may_stand_in_any_row(tmp_path):
    log = straight_log()
    log["tracks"] = dict(reversed(log["tracks"].items()))
    r = read(write_tfrecord(tmp_path / "a", scenario_message(log)))
    assert r.tracks.tokens[0] == "3" and np.allclose(r.tracks.state[0, :, 3], 8.0)


def test_an_ego_far_from_all_lanes_has_a_drive_or_a_reason(tmp_path):
    def move(metres):
        return lambda log: [
            one["state"]["position"].__iadd__([0, -metres, 0]) for name, one in log["tracks"].items() if name == "ego"
        ]

    r = read(write_tfrecord(tmp_path / "near", straight(move(40))))
    assert "route_off_lanes" in r.origin.derived
    assert points_in_layers(r.vector_map, DRIVABLE_LAYERS, r.tracks.state[0, ::10, :2]).all()
    with pytest.raises(DataError, match=r"far.*record 0: map_features.*no lane lies within 200 m"):
        read(write_tfrecord(tmp_path / "far", straight(move(400))))


def test_real_recordings_read_as_scenarionet_converted_them(shared, tmp_path):
    """A Waymo file of ScenarioNet's, turned back into a message by the protobuf package: both readers give one scenario."""
    for path in scenarionet_files(shared / "data" / "waymo_scenarionet"):
        if "2a1e44d405a6833f" not in path.name:
            continue  # the others say the same and take longer
        (one,) = read_scenarionet(path)
        other = read(write_tfrecord(tmp_path / path.stem, scenario_message(load_pickle(path))))
        assert other.tracks.tokens == one.tracks.tokens and np.array_equal(other.tracks.valid, one.tracks.valid)
        assert np.abs(other.tracks.state - one.tracks.state).max() < 1e-3
        assert np.array_equal(other.tracks.types[one.tracks.types < 3], one.tracks.types[one.tracks.types < 3])
        a, b = one.vector_map, other.vector_map
        assert a.lane_tokens == b.lane_tokens and np.array_equal(a.successors, b.successors)
        assert np.array_equal(a.lane_left, b.lane_left) and np.array_equal(a.lane_right, b.lane_right)
        assert np.allclose(a.lane_speed_limit, b.lane_speed_limit, equal_nan=True)
        areas = [[shapely.Polygon(m.polygon(row)).buffer(0) for row in m.lane_polygon] for m in (a, b)]
        apart = [p.symmetric_difference(q).area / p.area for p, q in zip(*areas, strict=True)]
        print(np.mean(apart), np.median(apart), np.quantile(apart, 0.9))
        assert np.median(apart) < 0.05  # widths are distances to the boundaries here, there those of points of equal index
        assert np.array_equal(one.lights.lanes, other.lights.lanes) and np.array_equal(one.lights.state, other.lights.state)
        assert np.abs(one.route.goal - other.route.goal).max() < 1e-3


def test_a_bad_record_does_not_take_the_others_along(tmp_path):
    good, no_map = straight(), straight(id="second")
    del no_map.map_features[:]
    third = straight(id="third").SerializeToString()
    damaged = bytearray(frame(third))
    damaged[500] ^= 1
    path = tmp_path / "shard.tfrecord-00000-of-01000"
    path.write_bytes(frame(good.SerializeToString()) + bytes(damaged) + frame(no_map.SerializeToString()) + frame(third))
    found = list(read_waymo(path))
    assert [getattr(one, "id", None) for one in found] == ["straight", None, None, "third"]
    for error, words in ((found[1], "record 1.*checksum"), (found[2], "record 2: map_features.*no lanes")):
        with pytest.raises(DataError, match=rf"shard\.tfrecord-00000-of-01000.*{words}"):
            raise error


def set_first(name, value):
    return lambda m: setattr(m.tracks[1].states[5], name, value)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda m: m.ClearField("tracks"), "tracks"),
        (lambda m: m.ClearField("timestamps_seconds"), "tracks"),
        (lambda m: m.ClearField("sdc_track_index"), "sdc_track_index"),
        (lambda m: setattr(m, "sdc_track_index", 4), "sdc_track_index"),
        (lambda m: setattr(m, "sdc_track_index", -1), "sdc_track_index"),
        (lambda m: m.timestamps_seconds.__setitem__(7, float("nan")), "timestamps_seconds"),
        (lambda m: m.timestamps_seconds.__setitem__(7, -5.0), "timestamps_seconds"),
        (lambda m: m.timestamps_seconds.__delitem__(3), "tracks[0].states"),
        (lambda m: m.tracks[2].states.__delitem__(3), "tracks[2].states"),
        (set_first("center_x", float("nan")), "tracks[1].states.center_x, center_y"),
        (set_first("center_y", float("inf")), "tracks[1].states.center_x, center_y"),
        (set_first("center_y", 1e300), "tracks[1].states.center_x, center_y"),
        (set_first("heading", float("nan")), "tracks[1].states.heading"),
        (set_first("velocity_x", 1e30), "tracks[1].states.velocity_x, velocity_y"),
        (set_first("length", -2.0), "tracks[1].states.length, width, height"),
        (lambda m: [setattr(s, "valid", False) for s in m.tracks[0].states], "tracks[0].states"),
        (lambda m: setattr(m.tracks[1], "id", m.tracks[0].id), "tracks.id"),
        (lambda m: m.ClearField("map_features"), "map_features"),
        (lambda m: setattr(m.map_features[0].lane.polyline[3], "x", float("nan")), "map_features[0].lane"),
        (lambda m: m.dynamic_map_states.__delitem__(0), "dynamic_map_states"),
    ],
)
def test_bad_fields_are_named_with_file_and_record(tmp_path, change, field):
    message = straight()
    change(message)
    path = write_tfrecord(tmp_path / "bad.tfrecord", message)
    (error,) = read_waymo(path)
    assert isinstance(error, DataError) and error.file == path and error.field == f"record 0: {field}"


def test_invalid_steps_may_hold_anything(tmp_path):
    message = straight()
    for step in range(20):
        state = message.tracks[1].states[step]
        state.valid, state.center_x, state.length = False, float("nan"), -1.0
    assert read(write_tfrecord(tmp_path / "a", message)).tracks.valid[1].sum() == 81


def key(number, wire):
    return bytes([number << 3 | wire])


GOOD = straight().SerializeToString()
LENGTH = struct.pack("<Q", 2**40)
HOSTILE = {
    "empty": b"",
    "text": b"hello world, this is no record",
    "half a header": frame(GOOD)[:7],
    "half a record": frame(GOOD)[: len(GOOD) // 2],
    "no last checksum": frame(GOOD)[:-4],
    "record claims 2^40": LENGTH + frame(LENGTH)[-4:] + b"abc",
    "damaged length": b"\x01" + frame(GOOD)[1:],
    "an example of TensorFlow": frame(b"\x0a\x08\x0a\x06\x0a\x01a\x12\x01b"),
    "no message": frame(b"\xff" * 40),
    "group": frame(GOOD + key(15, 3)),
    "varint without end": frame(GOOD + key(6, 0) + b"\xff" * 11),
    "varint cut": frame(GOOD + key(6, 0) + b"\xff"),
    "length beyond the message": frame(GOOD + key(2, 2) + b"\xff\xff\xff\xff\x0f"),
    "length beyond all": frame(GOOD + key(2, 2) + b"\xff" * 9 + b"\x01"),
    "text in the place of a number": frame(GOOD + key(6, 2) + b"\x02ab"),
    "number in the place of a message": frame(GOOD + key(2, 0) + b"\x05"),
    "half a packed double": frame(GOOD + key(1, 2) + b"\x05abcde"),
    "no UTF-8": frame(GOOD + key(5, 2) + b"\x02\xff\xfe"),
    "damaged gzip": gzip.compress(frame(GOOD))[:-20],
    "gzip of gzip": gzip.compress(gzip.compress(frame(GOOD))),
    "gzip of nothing": gzip.compress(b""),
    "gzip header only": b"\x1f\x8b\x08",
    "bomb": gzip.compress(b'{"objects": ' + b" " * 60_000_000),
    "bomb of records": gzip.compress(frame(GOOD + b"\x7a\x80\x80\x80\x40" + b"\0" * 2**27)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_broken_and_bloated_files_end_in_one_clear_error(tmp_path, name):
    path = tmp_path / "bad.bin"
    path.write_bytes(HOSTILE[name])
    try:
        found = list(read_waymo(path))
    except DataError as error:
        found = [error]
    assert len(found) == 1 and isinstance(found[0], DataError) and "bad.bin" in str(found[0])


def test_a_message_of_countless_empty_fields_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("worldengine_envs.sources.protobuf_wire.MAX_FIELDS", 50_000)
    lanes = key(8, 2) + b"\x02" + key(3, 2) + b"\x00"  # two fields, and seven empty lists
    for field in ((key(2, 2) + b"\x00") * 50_000, lanes * 8_000):
        path = write_tfrecord(tmp_path / "bad", GOOD + field)
        with pytest.raises(DataError, match=r"bad.*more than 50000 fields"):
            read(path)


def test_packed_and_unpacked_numbers_read_alike(tmp_path):
    one, other = straight(), message_class("Scenario", packed_times=True).FromString(GOOD)
    assert len(one.SerializeToString()) > len(other.SerializeToString())
    assert parse(other.SerializeToString(), SCENARIO) == parse(one.SerializeToString(), SCENARIO)


def test_fields_that_we_do_not_know_are_passed_over():
    more = GOOD + key(12, 2) + b"\x03abc" + key(13, 0) + b"\x07" + key(14, 5) + b"abcd" + key(15, 1) + b"abcdefgh"
    assert parse(more, SCENARIO) == parse(GOOD, SCENARIO)


def small_message() -> bytes:
    message = copy.deepcopy(straight(steps=70))
    del message.tracks[2:], message.map_features[6:], message.map_features[1:5]
    return message.SerializeToString()


def test_every_truncation_and_flipped_bytes_give_data_or_a_clear_error(tmp_path):
    """The checksums are made right again, so that the wire format itself is what has to hold."""
    data, rng, path = small_message(), np.random.default_rng(0), tmp_path / "flip.tfrecord"
    broken = [data[:length] for length in rng.integers(0, len(data), 60)]
    for _ in range(150):
        flipped = bytearray(data)
        for at in rng.integers(0, len(data), 2):
            flipped[at] = rng.integers(0, 256)
        broken.append(bytes(flipped))
    errors = 0
    for bad in broken:
        path.write_bytes(frame(bad))
        for one in read_waymo(path):
            errors += isinstance(one, DataError)
            assert not isinstance(one, DataError) or "flip.tfrecord" in str(one)
            assert isinstance(one, DataError) or np.isfinite(one.tracks.state).all()
    assert errors > 60


def test_flipped_bytes_of_a_file_are_found_by_its_checksums(tmp_path):
    data, rng, path = frame(small_message()), np.random.default_rng(1), tmp_path / "flip.tfrecord"
    for at in [*range(16), *rng.integers(0, len(data), 60)]:
        bad = bytearray(data)
        bad[at] ^= 1 << rng.integers(0, 8)
        path.write_bytes(bytes(bad))
        with pytest.raises(DataError, match=r"flip\.tfrecord"):
            read(path)


def test_scenarionet_still_reads_the_made_log(tmp_path):
    log = straight_log()
    log["tracks"]["far"] = track(0.1 * np.arange(101), 400.0, 0.0, 0.0, (4, 2, 1))
    (one,) = read_scenarionet(write_log(tmp_path, log))
    other = read(write_tfrecord(tmp_path / "a", scenario_message(log)))
    assert np.allclose(one.tracks.state, other.tracks.state, atol=1e-4)
