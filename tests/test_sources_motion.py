"""Argoverse 2 motion-forecasting scenarios made in code: frames, sizes, types, the map beside them, and broken files."""

import json
import shutil

import numpy as np
import pytest
from sources_logs import ORIGIN, write_argoverse2

from worldengine_envs.cli.main import main
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.pack import Pack
from worldengine_envs.scenario.pack_verify import verify
from worldengine_envs.scenario.types import AgentType, VehicleParameters
from worldengine_envs.scenario.validation import validate
from worldengine_envs.sources.argoverse2 import argoverse2_logs, read_argoverse2
from worldengine_envs.sources.arrow_tables import read_parquet
from worldengine_envs.sources.windows import cut_windows

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

AHEAD = np.array([1.0, 1.0]) / np.sqrt(2)
LEFT = np.array([-1.0, 1.0]) / np.sqrt(2)


def table(steps=110, speed=8.0) -> dict:
    """The ego drives at 45 degrees, a car keeps 20 m ahead, a bus stands 8 m left; a cyclist comes late; someone walks; a cone."""
    rows = []

    def add(name, kind, start, metres_a_second, some):
        for step in some:
            at = ORIGIN + start + 0.1 * step * metres_a_second * AHEAD
            rows.append((name, kind, step, *at, np.pi / 4, *(metres_a_second * AHEAD)))

    every = range(steps)
    add("7", "vehicle", 20 * AHEAD, speed, every)
    add("AV", "vehicle", 0 * AHEAD, speed, every)
    add("8", "bus", 30 * AHEAD + 8 * LEFT, 0.0, every)
    add("9", "cyclist", 40 * AHEAD - 6 * LEFT, 4.0, range(60, 100))
    add("10", "pedestrian", 50 * AHEAD + 9 * LEFT, 1.0, every)
    add("11", "construction", 60 * AHEAD + 9 * LEFT, 0.0, [*range(0, 40), *range(55, 90)])
    add("12", "static", 70 * AHEAD + 9 * LEFT, 0.0, every)
    names = ("track_id", "object_type", "timestep", "position_x", "position_y", "heading", "velocity_x", "velocity_y")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    columns |= {"scenario_id": ["made-1"] * len(rows), "start_timestamp": [315_000_000_000_000_000.0] * len(rows)}
    return columns | {"city": ["austin"] * len(rows), "observed": [True] * len(rows)}


def write(folder, columns=None, name="scenario_made-1.parquet", **options):
    """Writes a scenario with the map of the sensor log that lies along the same road."""
    sensor = write_argoverse2(folder / "sensor")
    shutil.move(sensor / "map" / "log_map_archive_test.json", folder / "log_map_archive_made-1.json")
    shutil.rmtree(sensor)
    parquet.write_table(pa.table(columns or table()), folder / name, **options)
    return folder / name


def read(path):
    (recording,) = read_argoverse2(path)
    return validate(recording)


def test_a_scenario_comes_out_as_it_went_in(tmp_path):
    path = write(tmp_path)
    r = read(path)
    t = 0.1 * np.arange(110)
    ego = VehicleParameters.from_box(4.877, 2.0)
    assert r.id == "made-1" and r.ego == ego and r.origin.time_us == 315_000_000_000_000 and r.tracks.steps == 110
    assert np.allclose(r.origin.offset, ORIGIN + ego.rear_axle_to_center * AHEAD)  # the file has the rear axle
    assert np.allclose(r.tracks.state[0, :, :2], 8 * t[:, None] * AHEAD, atol=1e-6)
    assert np.allclose(r.tracks.state[0, :, 3:], 8 * AHEAD) and np.allclose(r.tracks.state[0, :, 2], np.pi / 4)
    row = {token: i for i, token in enumerate(r.tracks.tokens)}
    gap = (r.tracks.state[row["7"], :, :2] - r.tracks.state[0, :, :2]) @ AHEAD
    assert np.allclose(gap, 20 - ego.rear_axle_to_center)
    kinds = {token: AgentType(int(r.tracks.types[i])).name for token, i in row.items()}
    assert kinds == {
        "AV": "VEHICLE",
        "7": "VEHICLE",
        "8": "VEHICLE",
        "9": "BICYCLE",
        "10": "PEDESTRIAN",
        "11": "TRAFFIC_CONE",
        "12": "GENERIC_OBJECT",
    }
    assert r.tracks.valid[row["9"]].nonzero()[0].tolist() == list(range(60, 100))
    assert r.tracks.valid[row["11"]].sum() == 75
    assert r.tracks.size[row["8"], 0].tolist() == [12.0, 2.6, 3.2] and r.tracks.size[row["10"], 0, 0] == 0.7
    assert {"size", "ego_size", "ego_box_center", "velocity"} <= set(r.origin.derived)
    assert "driven_over_left_out" not in r.origin.derived
    assert r.vector_map.num_lanes == 3 and {r.vector_map.lane_tokens[i] for i in r.route.lanes} == {"1", "2"}
    assert [w.start_step for w in cut_windows(r).scenarios] == [15, 35, 55] and not cut_windows(r).refused


@pytest.mark.parametrize("options", [{"compression": "zstd"}, {"row_group_size": 50}, {"use_dictionary": False}])
def test_it_matters_not_how_the_table_was_written(tmp_path, options):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    one, other = read(write(tmp_path / "a")), read(write(tmp_path / "b", **options))
    assert np.array_equal(one.tracks.state, other.tracks.state) and one.tracks.tokens == other.tracks.tokens
    columns = table()
    order = np.random.default_rng(0).permutation(len(columns["timestep"]))
    (tmp_path / "c").mkdir()
    mixed = read(write(tmp_path / "c", {name: [values[i] for i in order] for name, values in columns.items()}))
    assert np.array_equal(one.tracks.state, mixed.tracks.state)


def test_a_static_object_that_the_ego_drives_over_is_no_obstacle(tmp_path):
    columns = table()
    for row in range(len(columns["track_id"])):
        if columns["track_id"][row] == "12":
            columns["position_x"][row], columns["position_y"][row] = ORIGIN + 40 * AHEAD + 0.9 * LEFT
    r = read(write(tmp_path, columns))
    assert "12" not in r.tracks.tokens and "11" in r.tracks.tokens and "driven_over_left_out" in r.origin.derived
    assert not cut_windows(r).refused


def test_a_scenario_without_a_future_is_too_short_and_says_so(tmp_path):
    r = read(write(tmp_path, table(steps=50)))
    assert r.tracks.steps == 50 and not cut_windows(r).scenarios
    assert cut_windows(r).refused[0].reason == "50 steps are recorded, a window needs 66"


def test_sensor_logs_and_scenarios_are_told_apart_by_content(tmp_path, capsys):
    source = tmp_path / "logs"
    write_argoverse2(source / "sensor_log")
    (source / "forecast").mkdir()
    write(source / "forecast", name="anything.parquet")
    (source / "broken").mkdir()
    (source / "broken" / "scenario_x.parquet").write_bytes(b"PAR1")
    files = [source / "broken" / "scenario_x.parquet", source / "forecast" / "anything.parquet", source / "sensor_log"]
    assert argoverse2_logs(source) == files
    assert main(["import", "argoverse2", str(source), "--out", str(tmp_path / "pack")]) == 1
    assert "scenario_x.parquet: truncated or no Parquet file" in capsys.readouterr().err
    pack = Pack.open(tmp_path / "pack")
    assert {entry.id.rpartition("_")[0] for entry in pack.entries} == {"made-1", "sensor_log"} and not verify(pack)
    assert read(source / "forecast").id == read(files[1]).id == "made-1"  # by the folder or by the file


def change_column(name, at, value):
    def change(columns):
        columns[name][at] = value
        return columns

    return change


def without(name):
    return lambda columns: {key: values for key, values in columns.items() if key != name}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("heading"), "no column heading"),
        (without("track_id"), "no column track_id"),
        (change_column("position_x", 3, float("nan")), "position_x: 1 values are NaN"),
        (change_column("position_y", 3, None), "position_y: 1 values are missing"),
        (change_column("position_y", 3, 1e30), "position_x, position_y: 1 values"),
        (change_column("velocity_x", 3, 1e5), "velocity_x, velocity_y: 1 values"),
        (change_column("heading", 3, 1e9), "heading: 1 values"),
        (change_column("timestep", 3, -1), "timestep: steps -1 to 109"),
        (change_column("timestep", 3, 2**40), "timestep"),
        (lambda c: c | {"timestep": [float(v) for v in c["timestep"]]}, "timestep: is float64, must be integer steps"),
        (lambda c: c | {"track_id": list(range(len(c["timestep"])))}, "track_id: must be text"),
        (lambda c: c | {"track_id": [name.replace("AV", "AW") for name in c["track_id"]]}, "no track is called AV"),
        (change_column("scenario_id", 3, "made-2"), "scenario_id: holds several scenarios"),
        (lambda c: c | {"heading": [[value] for value in c["heading"]]}, "heading: is a column of lists"),
        (lambda c: {name: values[:0] for name, values in c.items()}, "0 rows|no column"),
    ],
)
def test_bad_columns_are_named_with_the_file(tmp_path, change, words):
    path = write(tmp_path, change(table()))
    with pytest.raises(DataError, match=rf"scenario_made-1\.parquet.*({words})"):
        read(path)


def test_a_missing_or_broken_map_is_named(tmp_path):
    path = write(tmp_path)
    file = tmp_path / "log_map_archive_made-1.json"
    content = json.loads(file.read_text())
    content["lane_segments"]["1"].pop("left_lane_boundary")
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"log_map_archive_made-1\.json.*lane_segments\.1\.left_lane_boundary"):
        read(path)
    file.unlink()
    with pytest.raises(DataError, match=r"log_map_archive.*missing.*The map belongs beside the log"):
        read(path)


def test_the_map_of_the_scenario_is_taken_where_there_are_several(tmp_path):
    path = write(tmp_path)
    (tmp_path / "log_map_archive_another.json").write_text("{}")
    assert read(path).vector_map.num_lanes == 3
    (tmp_path / "log_map_archive_made-1.json").unlink()
    with pytest.raises(DataError, match=r"log_map_archive_made-1\.json: missing.*other logs"):
        read(path)


def test_truncated_and_flipped_files_give_data_or_a_clear_error(tmp_path):
    path = write(tmp_path)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    broken = [data[:length] for length in (0, 3, 4, 50, len(data) // 2, len(data) - 1)]
    for _ in range(60):
        flipped = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            flipped[at] = rng.integers(0, 256)
        broken.append(bytes(flipped))
    for bad in broken:
        path.write_bytes(bad)
        try:
            assert np.isfinite(read(path).tracks.state).all()
        except DataError as error:
            assert "scenario_made-1.parquet" in str(error)


def test_rows_that_a_small_file_claims_are_not_believed(tmp_path):
    """A column of equal values is stored once with its count: here 5 million rows in a few ten thousand bytes."""
    count = 5_000_000
    same = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int8)), pa.array(["AV"]))
    path = write(tmp_path)
    parquet.write_table(pa.table({name: same for name in table()}), path, compression="zstd")
    assert path.stat().st_size < 250_000
    with pytest.raises(DataError, match=r"5000000 rows, must be 1 to 2000000"):
        read(path)


def test_a_column_that_comes_twice_is_refused(tmp_path):
    path, columns = write(tmp_path), table()
    parquet.write_table(
        pa.Table.from_arrays([*map(pa.array, columns.values()), pa.array(columns["heading"])], [*columns, "heading"]), path
    )
    with pytest.raises(DataError, match="several columns heading"):
        read(path)


def test_words_that_a_small_file_repeats_are_held_once(tmp_path):
    """20,000 rows of one word of 1 MB: 20 GB if each row had its own."""
    word, columns = "x" * 1_000_000, table()
    same = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, np.int8)), pa.array([word]))
    rows = {name: same if name == "scenario_id" else [values[0]] * 20_000 for name, values in columns.items()}
    file = tmp_path / "words.parquet"
    parquet.write_table(pa.table(rows), file, compression="zstd", store_schema=False)
    assert file.stat().st_size < 100_000
    found = read_parquet(file, ("scenario_id", "track_id"), 20_000)
    assert len({id(value) for value in found["scenario_id"]}) == 1 and (found["track_id"] == "7").all()
