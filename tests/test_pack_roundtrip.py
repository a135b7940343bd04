"""What is written to a pack comes back within a cell of the grid, and hashes do not depend on machine or process."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pack_helpers import rig, sample, small_pack, windows

from worldengine_envs.errors import DataError
from worldengine_envs.scenario import Pack, ProgressReference, Route, quantised, scenario_hash, validate, verify
from worldengine_envs.scenario.pack_codec import decode_parts, encode_parts
from worldengine_envs.scenario.quantise import digest, from_grid, quantised_part, to_grid
from worldengine_envs.scenario.schema import FIELDS, NAMES

CELL = 0.52  # largest error in cells: half of one, and the offset of ties
SAMPLE_HASH = scenario_hash(sample())


def assert_same_part(a, b, cells: float = 0.0):
    """Parts are equal, numbers on the grid within some cells."""
    for name, spec in FIELDS[type(a)].items():
        x, y = getattr(a, name), getattr(b, name)
        assert x.dtype == y.dtype and x.shape == y.shape
        np.testing.assert_array_less(
            np.nan_to_num(np.abs(x.astype(float) - y.astype(float)) * np.asarray(spec.per_unit or 1)), cells + 1e-9, err_msg=name
        )
        if spec.nan_allowed:
            np.testing.assert_array_equal(np.isnan(x), np.isnan(y))
    if type(a) in NAMES:
        assert getattr(a, NAMES[type(a)][0]) == getattr(b, NAMES[type(a)][0])


def test_scenarios_come_back(tmp_path):
    pack = Pack.open(small_pack(tmp_path / "p"))
    assert [e.id for e in pack.entries] == ["a_015", "a_025", "b_015"]
    for given_one in windows():
        back = pack.load(given_one.id)
        for part in ("tracks", "vector_map", "lights", "route"):
            assert_same_part(getattr(back, part), getattr(given_one, part), CELL)
            assert_same_part(getattr(back, part), getattr(quantised(given_one), part))
        for name in ("id", "origin", "start_step", "ego", "reference", "split", "tags", "parent", "gaussian_scene"):
            assert getattr(back, name) == getattr(given_one, name)
        assert scenario_hash(back) == scenario_hash(given_one) == pack.entry(given_one.id).hash
    assert_same_part(pack.load("b_015").camera_rig, rig())


def test_windows_share_arrays_and_files(tmp_path):
    folder = small_pack(tmp_path / "p")
    pack = Pack.open(folder)
    a, b, c = (pack.load(e.id) for e in pack.entries)
    assert a.tracks is b.tracks and a.lights is b.lights and a.vector_map is b.vector_map is c.vector_map
    assert a.route is not b.route
    assert len(list(folder.glob("recordings/*"))) == 2 and len(list(folder.glob("maps/*"))) == 1
    assert verify(pack) == []


def test_entries_tell_without_loading(tmp_path):
    entry = Pack.open(small_pack(tmp_path / "p")).entry("a_025")
    assert (entry.agents, entry.start_step, entry.steps_ahead) == (4, 25, 80)
    assert entry.fits(7.0) and not entry.fits(8.0)
    assert entry.reference == ProgressReference("log", {4.0: 40.0}) and entry.parent == {"id": "x", "seed": 3}


def test_the_same_content_gives_the_same_bytes(tmp_path):
    first, second = small_pack(tmp_path / "p"), small_pack(tmp_path / "q")
    for file in sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file()):
        assert (first / file).read_bytes() == (second / file).read_bytes()


def test_manifest_survives_windows_line_ends(tmp_path):
    file = small_pack(tmp_path / "p") / "pack.json"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert verify(file.parent) == []


@settings(max_examples=40, deadline=None)
@given(arrays(np.float64, (3, 4), elements=st.floats(-1e5, 1e5)), st.sampled_from([1000, 10_000]))
def test_grid_is_idempotent_and_close(values, per_unit):
    cells = to_grid(values, per_unit)
    back = from_grid(cells, per_unit)
    assert np.abs(back - values).max() <= CELL / per_unit
    np.testing.assert_array_equal(to_grid(back, per_unit), cells)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_valid_tracks_and_map_come_back(data):
    scenario = sample()
    shape = scenario.tracks.state.shape
    state = scenario.tracks.state.copy()
    state[..., :2] = data.draw(arrays(np.float64, (*shape[:2], 2), elements=st.floats(-99_999, 99_999), fill=st.just(-0.0)))
    state[..., 2] = data.draw(arrays(np.float64, shape[:2], elements=st.floats(-999, 999), fill=st.just(3.2)))
    state[..., 3:] = data.draw(arrays(np.float64, (*shape[:2], 2), elements=st.floats(-70, 70), fill=st.just(1.0)))
    valid = data.draw(arrays(np.bool_, shape[:2]))
    valid[0] = True
    state[~valid] = 0
    size = np.where(valid[..., None], data.draw(st.floats(0.01, 99.9)), 0.0) * np.ones(3)
    tracks = replace(scenario.tracks, state=state, valid=valid, size=size)
    scenario = validate(replace(scenario, tracks=tracks))
    parts = {"tracks": tracks, "vector_map": scenario.vector_map, "lights": scenario.lights, "route7": scenario.route}
    back = decode_parts(encode_parts(parts), Path("memory"))
    assert list(back) == list(parts)
    for name, part in parts.items():
        assert_same_part(back[name], quantised_part(part))
        assert digest(back[name]) == digest(part)


def test_digests_are_those_of_released_packs():
    centerline = np.array([[0.0, 0.0005, -3.14159], [1.25, 99_999.9994, 0.0]])
    route = Route(np.array([3, 1], np.int32), centerline, np.array([-1.0, 2.5]))
    assert digest(route) == "f2985ca2a404a1f6366cabbc7a2ba3a3a372855db894b287a1320206881d5c46"


def test_hash_sees_content_and_not_labels():
    scenario = sample()
    for same in (
        replace(scenario, id="other", split="test", tags=(), parent={"a": 1}, reference=None),
        quantised(scenario),
        replace(scenario, tracks=replace(scenario.tracks, state=scenario.tracks.state + 1e-9)),
    ):
        assert scenario_hash(same) == SAMPLE_HASH
    state = scenario.tracks.state.copy()
    state[1, 5, 0] += 0.002
    for other in (
        replace(scenario, start_step=16),
        replace(scenario, tracks=replace(scenario.tracks, state=state)),
        replace(scenario, tracks=replace(scenario.tracks, tokens=("ego", "x", "y", "z"))),
        replace(scenario, ego=replace(scenario.ego, width=2.0)),
        replace(scenario, origin=replace(scenario.origin, offset=(664_123.458, 3_998_001.25))),
        replace(scenario, camera_rig=rig()),
    ):
        assert scenario_hash(other) != SAMPLE_HASH


def test_values_that_cannot_be_hashed_are_refused():
    for bad in (np.nan, np.inf, 1e12):
        scenario = sample()
        scenario.tracks.state[1, 5, 0] = bad
        with pytest.raises(DataError, match="scenario a_015"):
            scenario_hash(scenario)


def test_hash_is_the_same_in_another_process():
    code = "from pack_helpers import sample\nfrom worldengine_envs.scenario import scenario_hash\nprint(scenario_hash(sample()))"
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.stdout.strip() == SAMPLE_HASH, result.stderr
