"""Argoverse 2 sensor logs made in code: frames, sizes, map, and broken files."""

import json
import shutil
import sys

import numpy as np
import pytest
from sources_logs import ORIGIN, write_argoverse2

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import MapLayer, VehicleParameters
from worldengine_envs.scenario.validation import validate
from worldengine_envs.sources.argoverse2 import read_argoverse2
from worldengine_envs.sources.arrow_tables import read_feather

pyarrow = pytest.importorskip("pyarrow")


def read(folder):
    (recording,) = read_argoverse2(folder)
    return validate(recording)


def test_annotations_come_out_of_the_ego_frame(tmp_path):
    r = read(write_argoverse2(tmp_path / "log"))
    ahead = np.array([np.cos(np.pi / 4), np.sin(np.pi / 4)])
    t, to_center = 0.1 * np.arange(101), VehicleParameters().rear_axle_to_center
    assert np.allclose(r.origin.offset, ORIGIN + to_center * ahead)
    assert np.allclose(r.tracks.state[0, :, :2], 8 * t[:, None] * ahead, atol=1e-6)
    assert np.allclose(r.tracks.state[0, :, 2], np.pi / 4) and np.allclose(r.tracks.state[0, :, 3:], 8 * ahead)
    lead, parked = (r.tracks.tokens.index(name) for name in ("lead", "parked"))
    assert np.allclose(r.tracks.state[lead, :, :2], (8 * t[:, None] + 20 - to_center) * ahead, atol=1e-6)
    seen = r.tracks.valid[parked]
    assert not seen.all() and np.ptp(r.tracks.state[parked, seen, :2], axis=0).max() < 1e-6
    assert not r.tracks.state[parked, :, 3:].any()
    assert {"velocity", "ego_box_center", "ego_size", "route"} <= set(r.origin.derived)
    assert r.origin.time_us == 315_000_000_000_000


def test_the_ego_box_of_the_log_gives_its_size(tmp_path):
    r = read(write_argoverse2(tmp_path / "log", ego_box=True))
    assert r.ego == VehicleParameters.from_box(4.877, 2.0) and "self" not in r.tracks.tokens
    assert "ego_size" not in r.origin.derived


def test_the_map_is_read(tmp_path):
    r = read(write_argoverse2(tmp_path / "log"))
    m = r.vector_map
    one, two = m.lane_tokens.index("1"), m.lane_tokens.index("2")
    assert m.lane_successors(one).tolist() == [two] and (m.lane_left == -1).all()  # the named neighbour is oncoming
    layers = m.polygon_layer.tolist()
    assert layers.count(MapLayer.DRIVABLE_AREA) == 1 and layers.count(MapLayer.CROSSWALK) == 1
    along = m.lane_centerline(one) @ np.array([np.cos(np.pi / 4), np.sin(np.pi / 4)])
    assert np.ptp(along) == pytest.approx(100, abs=0.01)
    assert {m.lane_tokens[row] for row in r.route.lanes} == {"1", "2"}


def rewrite(path, change):
    from pyarrow import feather

    columns = feather.read_table(path).to_pydict()
    change(columns)
    feather.write_feather(pyarrow.table(columns), path)


def nan_in(name):
    return lambda folder: rewrite(folder / "annotations.feather", lambda c: c[name].__setitem__(3, float("nan")))


def map_file(folder):
    return folder / "map" / "log_map_archive_test.json"


def edit_map(change):
    def edit(folder):
        content = json.loads(map_file(folder).read_text())
        change(content)
        map_file(folder).write_text(json.dumps(content))

    return edit


def truncate(name):
    def cut(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return cut


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        (truncate("annotations.feather"), r"annotations\.feather.*truncated"),
        (truncate("city_SE3_egovehicle.feather"), r"city_SE3_egovehicle\.feather.*truncated"),
        (lambda f: (f / "annotations.feather").write_bytes(b""), r"annotations\.feather"),
        (truncate("map/log_map_archive_test.json"), r"log_map_archive_test\.json.*no JSON"),
        (lambda f: (f / "city_SE3_egovehicle.feather").unlink(), "city_SE3_egovehicle.feather is missing"),
        (lambda f: shutil.rmtree(f / "map"), "map/log_map_archive"),
        (nan_in("tx_m"), r"annotations\.feather.*tx_m.*NaN"),
        (nan_in("qw"), r"annotations\.feather.*qw.*NaN"),
        (lambda f: rewrite(f / "annotations.feather", lambda c: c.pop("width_m")), r"no column width_m"),
        (lambda f: rewrite(f / "annotations.feather", lambda c: c["qw"].__setitem__(0, 5.0)), "quaternions"),
        (lambda f: rewrite(f / "annotations.feather", lambda c: c["length_m"].__setitem__(0, -5.0)), "length_m"),
        (
            lambda f: rewrite(f / "city_SE3_egovehicle.feather", lambda c: [v.__delitem__(slice(20, None)) for v in c.values()]),
            "cover",
        ),
        (edit_map(lambda m: m["lane_segments"]["1"].pop("left_lane_boundary")), r"lane_segments\.1\.left_lane_boundary"),
        (edit_map(lambda m: m["lane_segments"].clear()), "no lane"),
        (edit_map(lambda m: m["lane_segments"]["1"].__setitem__("successors", 7)), r"lane_segments\.1\.successors"),
        (edit_map(lambda m: m.__setitem__("drivable_areas", [1])), "drivable_areas"),
        (edit_map(lambda m: m["drivable_areas"]["9"]["area_boundary"][0].__setitem__("x", 1e300)), "drivable_areas.9"),
        (edit_map(lambda m: m["drivable_areas"]["9"]["area_boundary"][0].__setitem__("x", 10**400)), "drivable_areas.9"),
        (lambda f: map_file(f).write_text("[" * 100_000), r"log_map_archive_test\.json.*no JSON"),
    ],
)
def test_broken_logs_end_in_one_clear_error(tmp_path, breaks, words):
    folder = write_argoverse2(tmp_path / "log")
    breaks(folder)
    with pytest.raises(DataError, match=words):
        list(read_argoverse2(folder))


def test_without_pyarrow_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pyarrow is not installed.*pip install"):
        list(read_argoverse2(tmp_path))


def test_of_a_feather_table_only_what_is_wanted_is_unpacked(tmp_path):
    """2 million rows of zeros and 20 columns beside them, 340 MB, in some kB; the limit ends reading after a few batches."""
    feather = pytest.importorskip("pyarrow.feather")
    zeros = pyarrow.array(np.zeros(2_000_000))
    table = pyarrow.table({"wanted": zeros, **{f"other_{i}": zeros for i in range(20)}})
    feather.write_feather(table, tmp_path / "a.feather", compression="zstd")
    assert (tmp_path / "a.feather").stat().st_size < 1_000_000
    usual, counting = pyarrow.default_memory_pool(), pyarrow.proxy_memory_pool(pyarrow.default_memory_pool())
    pyarrow.set_memory_pool(counting)
    try:
        with pytest.raises(DataError, match=r"a\.feather: \d+ rows or more, must be 1 to 100000"):
            read_feather(tmp_path / "a.feather", ("wanted",), 100_000)
        assert counting.max_memory() < 4_000_000
        assert read_feather(tmp_path / "a.feather", ("wanted",), 2_000_000)["wanted"].shape == (2_000_000,)
        assert 16_000_000 <= counting.max_memory() < 40_000_000
    finally:
        pyarrow.set_memory_pool(usual)
