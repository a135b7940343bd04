"""PLY files of Gaussians: what other programs write is read, and what is wrong ends in one clear error and no large allocation."""

import contextlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scenes import random_gaussians

from worldengine_envs.errors import DataError
from worldengine_envs.rendering.ply import read_ply, write_ply
from worldengine_envs.rendering.scene import validate_gaussians

ARRAYS = ("means", "quats", "scales", "opacities", "sh")


def columns_of(g):
    """Name -> column as the format of 3D Gaussian Splatting has it, written down once more by itself."""
    table = {axis: g.means[:, i] for i, axis in enumerate("xyz")}
    table |= {f"f_dc_{c}": g.sh[:, 0, c] for c in range(3)}
    rest = g.sh.shape[1] - 1
    table |= {f"f_rest_{c * rest + k}": g.sh[:, 1 + k, c] for c in range(3) for k in range(rest)}
    table["opacity"] = g.opacities
    table |= {f"scale_{i}": g.scales[:, i] for i in range(3)}
    return table | {f"rot_{i}": g.quats[:, i] for i in range(4)}


def forge(table, style="binary_little_endian", kind="float", count=None, after="", tail=b"", types=None):
    """Bytes of a PLY with these columns."""
    n = len(next(iter(table.values())))
    codes = {"float": "f4", "double": "f8", "uchar": "u1", "int16": "i2"}
    kinds = {name: (types or {}).get(name, kind) for name in table}
    lines = ["ply", f"format {style} 1.0", "comment made by a test", f"element vertex {n if count is None else count}"]
    lines += [f"property {kinds[name]} {name}" for name in table]
    head = ("\n".join(lines) + f"\n{after}end_header\n").encode()
    if style == "ascii":
        rows = np.stack([np.asarray(c, float) for c in table.values()], axis=1)
        return head + "".join(" ".join(repr(float(v)) for v in row) + "\n" for row in rows).encode() + tail
    order = "<" if "little" in style else ">"
    data = np.zeros(n, [(name, order + codes[kinds[name]]) for name in table])
    for name, column in table.items():
        data[name] = column
    return head + data.tobytes() + tail


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ARRAYS)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_round_trip_is_exact(tmp_path, degree):
    gaussians = random_gaussians(np.random.default_rng(degree), 50, degree)
    write_ply(tmp_path / "a.ply", gaussians)
    found = read_ply(tmp_path / "a.ply")
    assert same(found, gaussians) and found.sh_degree == degree
    write_ply(tmp_path / "a.ply", found)  # replaced
    assert [p.name for p in tmp_path.iterdir()] == ["a.ply"]


def test_written_as_viewers_expect(tmp_path):
    gaussians = random_gaussians(np.random.default_rng(1), 7, 3)
    write_ply(tmp_path / "a.ply", gaussians)
    data = (tmp_path / "a.ply").read_bytes()
    head, body = data.split(b"end_header\n")
    names = [line.split()[-1].decode() for line in head.splitlines() if line.startswith(b"property float")]
    assert names[:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert names[9:54] == [f"f_rest_{i}" for i in range(45)] and names[54] == "opacity" and len(names) == 62
    table = np.frombuffer(body, "<f4").reshape(7, 62)
    for name, column in columns_of(gaussians).items():
        assert np.array_equal(table[:, names.index(name)], column), name
    assert not table[:, 3:6].any()


@pytest.mark.parametrize("style", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("kind", ["float", "double"])
def test_reads_what_others_write(tmp_path, style, kind):
    """Either byte order, text, doubles, another order of attributes, attributes and elements that nobody asked for, CRLF."""
    gaussians = random_gaussians(np.random.default_rng(2), 20, 2)
    table = dict(reversed(columns_of(gaussians).items())) | {"red": np.arange(20)}
    after = "element face 1\nproperty list uchar int vertex_indices\n"
    data = forge(table, style, kind, after=after, tail=b"\x03\0\0\0" if "bin" in style else b"3 0 1 2\n", types={"red": "uchar"})
    head, body = data.split(b"end_header\n", 1)
    (tmp_path / "a.ply").write_bytes(head.replace(b"\n", b"\r\n") + b"end_header\r\n" + body)
    assert same(read_ply(tmp_path / "a.ply"), gaussians)


def test_many_chunks_and_none(tmp_path, monkeypatch):
    import worldengine_envs.rendering.ply as module

    monkeypatch.setattr(module, "CHUNK", 16)
    for n in (0, 16, 100):
        gaussians = random_gaussians(np.random.default_rng(3), n, 1)
        write_ply(tmp_path / "a.ply", gaussians)
        assert same(read_ply(tmp_path / "a.ply"), gaussians)


GOOD = columns_of(random_gaussians(np.random.default_rng(4), 10, 1))


def without(*names):
    return {name: column for name, column in GOOD.items() if name not in names}


def with_value(name, value):
    column = GOOD[name].astype(float)
    column[3] = value
    return GOOD | {name: column}


MANY = b"".join(b"property char p%d\n" % i for i in range(600))
BAD = {
    "missing attributes": (forge(without("opacity", "rot_2")), "has no attributes opacity, rot_2"),
    "missing harmonics": (forge(without("f_rest_4")), "8 attributes f_rest_*"),
    "not numbered from 0": (forge({n.replace("f_rest_0", "f_rest_9"): c for n, c in GOOD.items()}), "f_rest_*"),
    "NaN": (forge(with_value("x", np.nan)), "1 of 30 values are not finite"),
    "infinite opacity": (forge(with_value("opacity", np.inf)), "field opacities: 1 of 10"),
    "NaN in text": (forge(with_value("scale_1", np.nan), "ascii"), "not finite"),
    "double too large": (forge(with_value("f_dc_0", 1e300), kind="double"), "not finite"),
    "zero quaternion": (forge(GOOD | {f"rot_{i}": np.zeros(10) for i in range(4)}), "10 of 10 quaternions have length 0"),
    "one more than there": (forge(GOOD, count=11), "claims 11 vertices"),
    "a billion": (forge(GOOD, count=1_000_000_000), "claims 1000000000 vertices"),
    "a billion in text": (forge(GOOD, "ascii", count=1_000_000_000), "claims 1000000000 vertices"),
    "more digits than a number has": (forge(GOOD, count="9" * 5000), "claims 99999999999999999999 vertices"),
    "negative": (forge(GOOD, count=-5), "element vertex COUNT"),
    "no number": (forge(GOOD, count="many"), "element vertex COUNT"),
    "text cut short": (forge(GOOD, "ascii")[:-60], "values"),
    "text of long lines": (forge(GOOD, "ascii")[:-1] + b" " * 4000 + b"\n", "more than"),
    "text of words": (forge(GOOD, "ascii").replace(b"\n0.", b"\nx.").replace(b"\n-", b"\nx"), "is no number"),
    "another file": (b"\x89PNG\r\n" + bytes(100), "does not begin with 'ply'"),
    "empty": (b"", "does not begin with 'ply'"),
    "no end": (b"ply\nformat ascii 1.0\n" + b"comment x\n" * 20000, "no end_header"),
    "no format": (forge(GOOD).replace(b"format binary_little_endian 1.0\n", b""), "must be 'format'"),
    "another version": (forge(GOOD).replace(b"1.0", b"2.0", 1), "must be 'format'"),
    "list of numbers": (forge(GOOD).replace(b"property float x", b"property list uchar float x"), "must be 'property'"),
    "unknown type": (forge(GOOD).replace(b"property float x", b"property quad x"), "must be 'property'"),
    "same name twice": (forge(GOOD).replace(b"float y\n", b"float x\n"), "'x' appears twice"),
    "compressed": (b"ply\nformat ascii 1.0\nelement chunk 4\nproperty float min_x\nend_header\n", "first element"),
    "many properties": (forge(GOOD).replace(b"end_header", MANY + b"end_header"), "more than 512"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_give_one_clear_error(tmp_path, case):
    data, message = BAD[case]
    file = tmp_path / "bad.ply"
    file.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as error:
            read_ply(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert message in str(error.value) and str(file) in str(error.value)
    assert peak < 2e6


def test_missing_file_and_folder(tmp_path):
    for file in (tmp_path / "none.ply", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_ply(file)


def test_sparse_file_of_the_claimed_size(tmp_path):
    """A file may be as long as it claims and hold nothing: the limit on Gaussians counts before anything is allocated."""
    file = tmp_path / "hole.ply"
    file.write_bytes(forge(GOOD, count=1_000_000_000))
    with file.open("r+b") as stream:
        stream.truncate(2**38)
    with pytest.raises(DataError, match="the limit is 33554432"):
        read_ply(file)


def test_invalid_gaussians_are_not_written(tmp_path):
    gaussians = random_gaussians(np.random.default_rng(5), 4)
    gaussians.means[2, 1] = np.nan
    with pytest.raises(DataError, match="not finite"):
        write_ply(tmp_path / "a.ply", gaussians)
    assert not list(tmp_path.iterdir())


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), style=st.sampled_from(["ascii", "binary_little_endian"]))
def test_flipped_bytes_never_crash(tmp_path, data, style):
    """A damaged file gives a DataError or, where the bytes mean something else, valid Gaussians."""
    bad = bytearray(forge(GOOD, style))
    for _ in range(data.draw(st.integers(1, 3))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "bad.ply").write_bytes(bad)
    with contextlib.suppress(DataError):
        validate_gaussians(read_ply(tmp_path / "bad.ply"))
