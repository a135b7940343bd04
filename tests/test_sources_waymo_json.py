"""Waymo scenarios as Nocturne and GPUDrive write them: units, ids, the ego and lights found out; and the import command."""

import gzip
import json

import numpy as np
import pytest
from sources_logs import straight_log, write_argoverse2
from sources_waymo import as_json, message_class, scenario_message, write_json, write_tfrecord

from worldengine_envs.cli.import_logs import find_logs
from worldengine_envs.cli.main import main
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.pack import Pack
from worldengine_envs.scenario.pack_verify import verify
from worldengine_envs.scenario.types import AgentType, LightState
from worldengine_envs.scenario.validation import validate
from worldengine_envs.sources.tfrecord import read_records
from worldengine_envs.sources.waymo import read_waymo, waymo_files

pytest.importorskip("google.protobuf")


def read(path):
    (recording,) = read_waymo(path)
    return validate(recording)


def turned(message, angle):
    """The same scenario turned about the origin of its coordinates [rad]."""
    cos, sin = np.cos(angle), np.sin(angle)

    def turn(one, x, y):
        a, b = getattr(one, x), getattr(one, y)
        setattr(one, x, cos * a - sin * b)
        setattr(one, y, sin * a + cos * b)

    for track in message.tracks:
        for state in track.states:
            turn(state, "center_x", "center_y")
            turn(state, "velocity_x", "velocity_y")
            state.heading = (state.heading + angle + np.pi) % (2 * np.pi) - np.pi
    for feature in message.map_features:
        for name in ("lane", "road_line", "road_edge"):
            for point in getattr(feature, name).polyline if feature.HasField(name) else ():
                turn(point, "x", "y")
        for name in ("crosswalk", "driveway"):
            for point in getattr(feature, name).polygon if feature.HasField(name) else ():
                turn(point, "x", "y")
    return message


def straight(change=None, **changes):
    """The made log, its ego with the box of Waymo's car."""
    log = straight_log(**changes)
    state = log["tracks"]["ego"]["state"]
    state["length"][:], state["width"][:], state["height"][:] = 5.286, 2.332, 2.33
    if change:
        change(log)
    return scenario_message(log)


def write(path, flavour, message=None, change=None, **more):
    content = as_json(message or straight(), flavour, **more)
    if change:
        change(content)
    return write_json(path, content)


@pytest.mark.parametrize("angle", [0.0, 0.03, 0.5, 2.0, -3.0])
@pytest.mark.parametrize("flavour", ["nocturne", "gpudrive"])
def test_both_flavours_give_what_the_message_gives(tmp_path, flavour, angle):
    """Small angles are the hard ones: 0.03 rad is 1.7 degrees, which might be radians by its size."""
    message = turned(straight(), angle)
    one = read(write_tfrecord(tmp_path / "a", message))
    other = read(write(tmp_path / "a.json", flavour, message))
    assert one.id == other.id == "straight" and one.tracks.tokens == other.tracks.tokens and one.ego == other.ego
    assert np.allclose(one.tracks.state, other.tracks.state, atol=1e-4)
    assert np.allclose(one.tracks.size[0], other.tracks.size[0], atol=0.7)  # Nocturne has no heights
    assert ("heading_from_degrees" in other.origin.derived) == (flavour == "nocturne" and angle != 0)
    assert ("ego_track" in other.origin.derived) == (flavour == "nocturne") and "time" in other.origin.derived
    a, b = one.vector_map, other.vector_map
    assert a.num_lanes == b.num_lanes and np.array_equal(a.successors, b.successors)  # links found, here given
    assert np.array_equal(a.lane_left, b.lane_left) and np.allclose(a.centerline, b.centerline, atol=1e-6)
    assert np.allclose(one.route.goal, other.route.goal, atol=1e-6)


def stand(log):
    for one in log["tracks"].values():
        one["state"]["position"][:] = one["state"]["position"][0]
        one["state"]["velocity"][:] = 0.0


@pytest.mark.parametrize(
    ("flavour", "angle", "unit"), [("nocturne", 0.5, True), ("gpudrive", 3.0, True), ("nocturne", 0.05, False)]
)
def test_where_nothing_moves_the_size_of_headings_tells_their_unit_or_it_is_said_that_none_does(tmp_path, flavour, angle, unit):
    r = read(write(tmp_path / "a.json", flavour, turned(straight(stand), angle)))
    right = "heading_from_degrees" in r.origin.derived if flavour == "nocturne" else "heading_unit" in r.origin.derived
    assert right == unit and (not unit or r.tracks.state[0, 0, 2] == pytest.approx(angle))
    assert unit or "heading_unit" in r.origin.derived


def test_lights_belong_to_the_lane_that_starts_at_their_stop_point(shared, tmp_path):
    """The real message, written as JSON: GPUDrive names the lane, Nocturne does not; the lights are the same."""
    with (shared / "data" / "waymo_tfrecord" / "motion_data_one_scenario.tfrecord").open("rb") as file:
        ((_, record),) = read_records(file)
    message = message_class("Scenario").FromString(record)
    one = read(write_tfrecord(tmp_path / "a", message))
    for flavour in ("gpudrive", "nocturne"):
        other = read(write(tmp_path / f"{flavour}.json", flavour, message))
        assert ("light_lanes" in other.origin.derived) == (flavour == "nocturne")
        assert len(one.lights.lanes) == len(other.lights.lanes) == 8
        assert np.array_equal(one.lights.state, other.lights.state)
        for mine, theirs in zip(one.lights.lanes, other.lights.lanes, strict=True):
            a, b = one.vector_map.lane_centerline(mine), other.vector_map.lane_centerline(theirs)
            assert np.allclose(a[[0, -1]], b[[0, -1]], atol=1e-6)
        assert np.abs(one.tracks.state - other.tracks.state)[..., :2].max() < 0.01  # it says 0.10002 s a step, JSON nothing
        assert one.tracks.tokens == other.tracks.tokens or flavour == "nocturne"


def test_lights_of_lanes_that_start_at_one_point_keep_their_order(tmp_path):
    def light(log):
        for key, colour in (("b", "LANE_STATE_STOP"), ("n", "LANE_STATE_GO")):
            states = {"object_state": [colour] * 101}
            log["dynamic_map_states"][key] = {"state": states, "lane": key, "stop_point": log["map_features"]["b"]["polyline"][0]}

    def fork(log):
        line = log["map_features"]["b"]["polyline"].copy()
        line[:, 1] += np.linspace(0, 20, 31)
        log["map_features"] |= {"n": log["map_features"]["b"] | {"polyline": line}}
        light(log)

    r = read(write(tmp_path / "a.json", "nocturne", straight(fork)))
    ends = {}
    for lane, state in zip(r.lights.lanes, r.lights.state, strict=True):
        ends[int(state[0])] = r.vector_map.lane_centerline(lane)[-1, 1]
    assert ends[LightState.RED] == pytest.approx(0) and ends[LightState.GREEN] == pytest.approx(20)


def drop(*names):
    return lambda content: [content.pop(name, None) for name in names]


def numbered(content):
    names = {"lane": 2, "road_edge": 15, "crosswalk": 18, "road_line": 6}
    for road in content["roads"]:
        road["type"] = names[road["type"]]
        road.pop("map_element_id", None)


def named(content):
    names = {"lane": "LANE_SURFACE_STREET", "road_edge": "ROAD_EDGE_BOUNDARY", "crosswalk": "CROSS_WALK"}
    for road in content["roads"]:
        road["type"] = names[road["type"]]


@pytest.mark.parametrize(
    "change",
    [
        drop("tl_states", "name"),
        drop("metadata"),
        lambda c: c["metadata"].pop("objects_of_interest"),
        lambda c: c["metadata"].__setitem__("sdc_track_index", 9),  # GPUDrive leaves out objects that are never seen
        lambda c: [one.pop("velocity") for one in c["objects"]],
        lambda c: [one.pop("height") for one in c["objects"]],
        lambda c: [one.pop("valid") for one in c["objects"]],
        lambda c: [one.__setitem__("length", [one["length"]] * 101) for one in c["objects"]],
        lambda c: c["roads"].append({"type": "stop_sign", "geometry": {"x": 1.0, "y": 2.0}}),
        lambda c: c["roads"].append({"type": "tram_line", "geometry": []}),
        numbered,
        named,
    ],
)
def test_what_may_be_missing_or_different_may_be(tmp_path, change):
    whole = read(write(tmp_path / "a.json", "gpudrive"))
    other = read(write(tmp_path / "b.json", "gpudrive", change=change))
    assert np.allclose(whole.tracks.state, other.tracks.state, atol=1e-5) and other.id == "straight"
    assert np.array_equal(whole.vector_map.polygon_xy, other.vector_map.polygon_xy)


def test_bike_lanes_are_no_lanes_where_the_file_knows_them(tmp_path):
    def bike(content):
        content["roads"][4]["map_element_id"] = 3

    r = read(write(tmp_path / "a.json", "gpudrive", change=bike))
    assert r.vector_map.num_lanes == 4 and "lane_type" not in r.origin.derived
    assert "lane_type" in read(write(tmp_path / "b.json", "nocturne")).origin.derived


def test_agents_that_come_late_or_never(tmp_path):
    def late(log):
        log["tracks"]["lead"]["state"]["valid"][:40] = False

    def never(content):
        content["objects"][2]["valid"] = [False] * 101

    r = read(write(tmp_path / "a.json", "gpudrive", straight(late), change=never))
    assert r.tracks.tokens == ("0", "1", "3") and r.tracks.valid[1].sum() == 61
    assert r.tracks.types.tolist() == [AgentType.VEHICLE, AgentType.VEHICLE, AgentType.GENERIC_OBJECT]


def set_in(row, name, value):
    return lambda c: c["objects"][row].__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop("objects"), "field objects: missing"),
        (drop("roads"), "field roads: missing"),
        (lambda c: c.__setitem__("objects", []), "field objects: empty"),
        (lambda c: c.__setitem__("objects", [1]), "field objects"),
        (lambda c: c.__setitem__("roads", {}), "field roads"),
        (lambda c: c.__setitem__("roads", []), "field roads: no lanes"),
        (set_in(1, "position", [{"x": 1.0}] * 101), r"objects\[1\]\.position"),
        (set_in(1, "position", "here"), r"objects\[1\]\.position"),
        (set_in(1, "position", [{"x": float("nan"), "y": 0.0}] * 101), r"objects\[1\]\.position.*NaN"),
        (set_in(1, "position", [{"x": 10**400, "y": 0.0}] * 101), r"objects\[1\]\.position"),
        (set_in(1, "position", [{"x": 1.0, "y": 0.0}] * 5), r"objects\[1\]"),
        (set_in(1, "heading", [1.0] * 5), r"objects\[1\]\.heading"),
        (set_in(1, "heading", [float("inf")] * 101), r"objects\[1\]\.heading"),
        (set_in(1, "heading", ["north"] * 101), r"objects\[1\]\.heading"),
        (set_in(1, "valid", [True] * 5), r"objects\[1\]\.valid"),
        (set_in(1, "velocity", [{"x": 1.0, "y": 0.0}] * 5), r"objects\[1\]\.velocity"),
        (set_in(1, "velocity", [{"x": 1e9, "y": 0.0}] * 101), r"objects\[1\]\.velocity"),
        (set_in(1, "length", -1.0), r"objects\[1\]\.length"),
        (set_in(1, "width", float("nan")), r"objects\[1\]\.length, width"),
        (set_in(0, "valid", [False] * 101), "sdc_track_index"),
        (set_in(1, "id", 0), r"objects\.id"),
        (lambda c: c["metadata"].__setitem__("sdc_track_index", 2), "sdc_track_index.*no vehicle"),
        (lambda c: [one.__setitem__("length", 4.0) for one in c["objects"]] + [c.pop("metadata")], "which object is the ego"),
        (lambda c: c["roads"][0].__setitem__("geometry", 5), r"roads\[0\]\.geometry"),
        (lambda c: c["roads"][0].__setitem__("geometry", [{"x": 1e300, "y": 0.0}]), r"roads\[0\]\.geometry"),
        (lambda c: c.__setitem__("tl_states", [1]), "tl_states"),
        (lambda c: c["tl_states"].__setitem__("7", {"state": ["stop"], "time_index": [500]}), r"tl_states\.7\.time_index"),
        (lambda c: c["tl_states"].__setitem__("7", {"state": "stop"}), r"tl_states\.7"),
    ],
)
def test_bad_fields_are_named_with_the_file(tmp_path, change, words):
    path = write(tmp_path / "bad.json", "gpudrive", change=change)
    with pytest.raises(DataError, match=rf"bad\.json.*{words}"):
        read(path)


GOOD = json.dumps(as_json(straight(), "gpudrive")).encode()


@pytest.mark.parametrize(
    "data",
    [
        GOOD[:5000],
        b"{" * 100_000,
        b'{"a":' * 100_000,
        b'{"objects": ' + b"[" * 100_000,
        b'{"objects": [' + b"[]," * 3_000_000 + b"[]]}",
        b'{"objects": "' + b"a" * 70_000_000 + b'"}',
        b'{"objects": ' + b"1" * 10_000 + b"}",
        b"{}",
        b'{"objects": [], "roads": []}',
        b'{"objects": null}',
        b"[1, 2]",
        b'\xef\xbb\xbf{"objects": 1}',
        b'{"\xff": 1}',
        gzip.compress(GOOD)[:-9],
        gzip.compress(GOOD[:-9]),
        gzip.compress(b"hello"),
        gzip.compress(GOOD)[:40] + b"\0\0\0" + gzip.compress(GOOD)[43:],
    ],
    ids=range(17),
)
def test_broken_and_bloated_json_ends_in_one_clear_error(tmp_path, data):
    path = tmp_path / "bad.json"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"bad\.json"):
        read(path)


def test_flipped_bytes_give_data_or_a_clear_error(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "flip.json"
    data = json.dumps(as_json(straight(steps=70), "gpudrive")).encode()
    for _ in range(100):
        bad = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            bad[at] = rng.choice(np.frombuffer(b'0123456789{}[],:."-eE naN', np.uint8))
        path.write_bytes(bytes(bad))
        try:
            assert np.isfinite(read(path).tracks.state).all()
        except DataError as error:
            assert "flip.json" in str(error)


def test_the_command_tells_all_kinds_apart_by_content(tmp_path, capsys):
    """Names say nothing or lie here: what counts is what is in the files. What is broken is listed and the rest goes on."""
    source = tmp_path / "logs"
    (source / "more").mkdir(parents=True)
    names = ("one", "two.json", "three.gz", "tfrecord-4.json", "more/five")
    messages = [straight(id=f"made_{i}") for i in range(6)]
    write_tfrecord(source / names[0], messages[0], straight(id="made_9"))
    write_tfrecord(source / names[1], messages[1])
    write_json(source / "plain", as_json(messages[2], "nocturne"))
    (source / names[2]).write_bytes(gzip.compress((source / "plain").read_bytes()))
    (source / "plain").unlink()
    write_json(source / names[3], as_json(messages[3], "gpudrive"))
    (source / names[4]).write_bytes(gzip.compress(write_tfrecord(tmp_path / "x", messages[4]).read_bytes()))
    (source / "broken.tfrecord").write_bytes((source / names[0]).read_bytes()[:9000])
    (source / "broken.json").write_bytes(GOOD[:9000])
    (source / "valid_files.json").write_text('{"two.json": [1]}')
    (source / "README.md").write_text("# Data")
    (source / ".hidden.json").write_text("no")
    out = tmp_path / "pack"
    assert main(["import", "waymo", str(source), "--out", str(out)]) == 1
    text = capsys.readouterr()
    assert "12 scenarios of 6 recordings" in text.out and "failed (2, of 7 logs)" in text.err
    assert all(sum(name in line for line in text.err.splitlines()) == 1 for name in ("broken.tfrecord", "broken.json"))
    pack = Pack.open(out)
    assert {entry.id.rpartition("_")[0] for entry in pack.entries} == {f"made_{i}" for i in (0, 1, 2, 3, 4, 9)} and not verify(pack)
    assert all(entry.reference.progress[4.0] > 5 for entry in pack.entries)


def test_one_file_and_nothing_at_all(tmp_path, capsys):
    file = write_json(tmp_path / "a.json", as_json(straight(), "nocturne"))
    assert main(["import", "waymo", str(file), "--out", str(tmp_path / "pack")]) == 0
    (tmp_path / "none").mkdir()
    write_argoverse2(tmp_path / "none" / "log")
    (tmp_path / "none" / "log" / "map" / "log_map_archive_test.json").unlink()
    assert main(["import", "waymo", str(tmp_path / "none"), "--out", str(tmp_path / "other")]) == 1
    assert "holds no waymo logs" in capsys.readouterr().err


def test_everything_that_is_shared_imports_whole(shared):
    for folder, count in (("waymo_json", 3), ("waymo_tfrecord", 1)):
        logs, reader = find_logs("waymo", shared / "data" / folder)
        recordings = [recording for log in logs for recording in reader(log)]
        assert len(recordings) == count == len(waymo_files(shared / "data" / folder))
        for recording in recordings:
            validate(recording)
            assert recording.tracks.steps == 91 and recording.ego.length == 5.286
            speed = np.hypot(*recording.tracks.state[0, :, 3:].T)
            moving = speed > 2.0
            course = np.arctan2(recording.tracks.state[0, moving, 4], recording.tracks.state[0, moving, 3])
            assert (np.cos(course - recording.tracks.state[0, moving, 2]) > 0.99).all()  # it heads where it goes
