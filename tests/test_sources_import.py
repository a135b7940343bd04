"""Windows, splits, and the import command: what is bad is reported, the rest goes on, nothing half-written stays."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from sources_logs import straight_log, track, write_argoverse2, write_log

from worldengine_envs.cli.import_logs import Summary, find_logs, import_logs
from worldengine_envs.cli.main import main
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.pack import Pack
from worldengine_envs.scenario.pack_verify import verify
from worldengine_envs.scenario.types import ProgressReference
from worldengine_envs.scenario.validation import validate
from worldengine_envs.sources.areas import area_of_rings, simple_rings
from worldengine_envs.sources.argoverse2 import argoverse2_logs, read_argoverse2
from worldengine_envs.sources.scenarionet import read_scenarionet, scenarionet_files
from worldengine_envs.sources.waymo import read_waymo, waymo_files
from worldengine_envs.sources.windows import cut_windows, split_of


def recording(tmp_path, log):
    (one,) = read_scenarionet(write_log(tmp_path, log))
    return one


def fixed_reference(scenario):
    return replace(scenario, reference=ProgressReference("log", {4.0: 30.0}))


@pytest.mark.parametrize(("steps", "starts"), [(65, []), (66, [15]), (85, [15]), (86, [15, 35]), (101, [15, 35])])
def test_a_window_starts_every_two_seconds_where_it_fits(tmp_path, steps, starts):
    windows = cut_windows(recording(tmp_path, straight_log(steps=steps)))
    assert [w.id for w in windows.scenarios] == [f"straight_{k:03d}" for k in starts]
    assert [w.start_step for w in windows.scenarios] == starts
    assert bool(windows.refused) == (not starts)  # too short a recording is said to be so


def test_windows_share_the_arrays_of_their_recording(tmp_path):
    r = recording(tmp_path, straight_log())
    for window in cut_windows(r).scenarios:
        assert window.tracks is r.tracks and window.vector_map is r.vector_map and window.fits(4.0)
        validate(window)


def test_longer_horizons_leave_fewer_windows(tmp_path):
    r = recording(tmp_path, straight_log())
    assert [w.start_step for w in cut_windows(r, horizon_s=7.0).scenarios] == [15]


def test_starts_in_contact_and_off_the_road_are_refused_with_the_reason(tmp_path):
    log = straight_log()
    log["tracks"]["intruder"] = track(0.1 * np.arange(101), 28.0, 1.0, 0.0, (4, 2, 1))  # the ego is there at 3.5 s
    windows = cut_windows(recording(tmp_path, log))
    assert [w.start_step for w in windows.scenarios] == [15]
    assert windows.refused[0].id == "straight_035" and "touches vehicle intruder" in windows.refused[0].reason


def test_an_ego_with_a_hole_in_its_track_is_refused_there(tmp_path):
    log = straight_log()
    log["tracks"]["ego"]["state"]["valid"][50:60] = False
    windows = cut_windows(recording(tmp_path, log))
    assert not windows.scenarios and all("the ego is missing in" in r.reason for r in windows.refused)


def test_splits_depend_on_the_name_only():
    names = [f"scene-{i:04d}" for i in range(2000)]
    splits = [split_of(name) for name in names]
    assert splits == [split_of(name) for name in names]
    assert splits.count("train") / 2000 == pytest.approx(0.75, abs=0.03)


def test_outlines_with_islands_become_rings_without_holes():
    def square(x, y, half):
        return np.array(
            [[x - half, y - half], [x + half, y - half], [x + half, y + half], [x - half, y + half], [x - half, y - half]]
        )

    rings = [square(0, 0, 50.0), square(-20, 0, 5.0), square(10, 10, 3.0), square(10, 10, 1.0), square(30, -20, 4.0)]
    area = area_of_rings(rings)
    assert area.area == pytest.approx(100**2 - 10**2 - 6**2 + 2**2 - 8**2)
    pieces = [shapely.Polygon(ring) for ring in simple_rings(area)]
    assert all(piece.is_valid and not piece.interiors for piece in pieces)
    assert shapely.union_all(pieces).symmetric_difference(area).area < 1e-6
    slit = shapely.Polygon(square(0, 0, 50.0)).difference(shapely.box(-0.006, -30, 0.006, 30))
    assert sum(shapely.Polygon(ring).area for ring in simple_rings(slit)) == pytest.approx(slit.area, rel=1e-3)


def fill(folder: Path) -> Path:
    folder.mkdir()
    write_log(folder, straight_log(), "a.pkl")
    write_log(folder, straight_log(id="second"), "b.pkl")
    write_log(folder, straight_log(), "c_again.pkl")
    (folder / "d_cut.pkl").write_bytes((folder / "a.pkl").read_bytes()[:5000])
    (folder / "e_hostile.pkl").write_bytes(pickle.dumps({"tracks": eval}))
    (folder / "dataset_summary.pkl").write_bytes(b"index")
    return folder


def test_an_import_goes_on_past_bad_files_and_says_so(tmp_path, capsys):
    source, out = fill(tmp_path / "logs"), tmp_path / "packs" / "mine"
    assert main(["import", "scenarionet", str(source), "--out", str(out), "--split", "val"]) == 1
    text = capsys.readouterr()
    assert "straight" in text.out and "second" in text.out and "4 scenarios of 2 recordings" in text.out
    for name in ("c_again.pkl", "d_cut.pkl", "e_hostile.pkl"):
        assert sum(name in line for line in text.err.splitlines()) == 1
    pack = Pack.open(out)
    assert [e.id for e in pack.entries] == ["straight_015", "straight_035", "second_015", "second_035"]
    assert {e.split for e in pack.entries} == {"val"} and not verify(pack)
    assert all(e.reference and e.reference.progress[4.0] > 5 for e in pack.entries)
    assert [p.name for p in out.parent.iterdir()] == ["mine"]


def test_windows_come_back_from_a_pack_as_they_were(tmp_path):
    write_log(tmp_path, straight_log(), "a.pkl")
    out = tmp_path / "pack"
    assert main(["import", "scenarionet", str(tmp_path / "a.pkl"), "--out", str(out)]) == 0
    (original,) = read_scenarionet(tmp_path / "a.pkl")
    back = Pack.open(out).load("straight_015")
    assert back.origin.derived == original.origin.derived and back.origin.offset == original.origin.offset
    assert np.abs(back.tracks.state - original.tracks.state).max() < 1e-3
    assert np.abs(back.vector_map.polygon_xy - original.vector_map.polygon_xy).max() < 1e-3
    assert np.array_equal(back.route.lanes, original.route.lanes)


def test_nothing_is_written_where_nothing_could_be_imported(tmp_path, capsys):
    (tmp_path / "bad.pkl").write_bytes(b"no pickle")
    assert main(["import", "scenarionet", str(tmp_path / "bad.pkl"), "--out", str(tmp_path / "x" / "pack")]) == 1
    assert "bad.pkl" in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_scenarios_without_a_reference_are_refused_by_name(tmp_path):
    def attach(scenario):
        if scenario.start_step == 35:
            raise DataError("no motion survives 4 s", scenario=scenario.id)
        return fixed_reference(scenario)

    logs, read = find_logs("scenarionet", write_log(tmp_path, straight_log()))
    summary = Summary()
    assert [s.id for s in import_logs(logs, read, summary, attach=attach)] == ["straight_015"]
    assert [(r.id, r.reason) for r in summary.refused] == [("straight_035", "no motion survives 4 s")]
    assert summary.windows == {"straight": 1} and not summary.failures


def test_argoverse2_by_the_command(tmp_path, capsys):
    write_argoverse2(tmp_path / "logs" / "one")
    write_argoverse2(tmp_path / "logs" / "two", ego_box=True)
    (tmp_path / "logs" / "three").mkdir()
    (tmp_path / "logs" / "three" / "annotations.feather").write_bytes(b"")
    assert main(["import", "argoverse2", str(tmp_path / "logs"), "--out", str(tmp_path / "pack")]) == 1
    assert "not a sensor log: city_SE3_egovehicle.feather is missing" in capsys.readouterr().err
    assert len(Pack.open(tmp_path / "pack")) == 4 and not verify(Pack.open(tmp_path / "pack"))


def test_what_is_not_there_is_said(tmp_path, capsys):
    assert main(["import", "scenarionet", str(tmp_path / "none"), "--out", str(tmp_path / "pack")]) == 1
    assert main(["import", "argoverse2", str(tmp_path), "--out", str(tmp_path / "pack")]) == 1
    assert main(["import", "argoverse2", str(tmp_path), "--out", str(tmp_path / "pack"), "--horizon", "inf"]) == 1
    text = capsys.readouterr().err
    assert "does not exist" in text and "holds no argoverse2 logs" in text and "inf s is no horizon" in text


def shared_logs(shared):
    for name in ("nuscenes_mini", "waymo_scenarionet"):
        yield from ((read_scenarionet, log) for log in scenarionet_files(shared / "data" / name))
    for name in ("waymo_json", "waymo_tfrecord"):
        yield from ((read_waymo, log) for log in waymo_files(shared / "data" / name))
    yield from ((read_argoverse2, log) for log in argoverse2_logs(shared / "data" / "argoverse2"))


def test_real_recordings_import_and_their_egos_stay_on_the_road(shared):
    """By shapely, not by our own geometry: every corner of every logged ego box, on the road; no box of an agent overlaps it."""
    from worldengine_envs.scenario.start import DRIVABLE_LAYERS, box_corners

    names = []
    for read, log in shared_logs(shared):
        (r,) = read(log)
        validate(r)
        m, t = r.vector_map, r.tracks
        layers = np.flatnonzero(np.isin(m.polygon_layer, DRIVABLE_LAYERS))
        drivable = shapely.union_all([shapely.Polygon(m.polygon(row)) for row in layers])
        steps = np.arange(0, t.steps, 5)
        size = np.tile([[r.ego.length, r.ego.width]], (len(steps), 1))
        boxes = box_corners(t.state[0, steps, :3], size)
        shapely.prepare(drivable)
        assert shapely.contains_xy(drivable, boxes[..., 0], boxes[..., 1]).all(), r.id
        for box, k in zip(boxes, steps, strict=True):
            others = box_corners(t.state[1:, k, :3], t.size[1:, k, :2])[t.valid[1:, k]]
            assert not shapely.intersects(shapely.Polygon(box), shapely.polygons(others)).any(), r.id
        along = shapely.LineString(r.route.centerline[:, :2])
        distance = [along.distance(shapely.Point(p)) for p in t.state[0, steps, :2]]
        assert max(distance) < 2.0 and along.length > along.project(shapely.Point(r.route.goal)) + 149, r.id
        assert len(cut_windows(r).scenarios) >= 2 and not cut_windows(r).refused
        names.append(r.id)
    assert len(names) >= 17
