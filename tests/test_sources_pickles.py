"""The restricted unpickler: plain data comes through unchanged, nothing else does, and nothing is run."""

import os
import pickle
import struct
import subprocess

import numpy as np
import pytest

from worldengine_envs.errors import DataError
from worldengine_envs.sources.pickles import load_pickle


def same(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def pairs() -> np.ndarray:
    array = np.empty(2, dtype=object)
    array[0], array[1] = [1, 2], [3, 4]
    return array


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_comes_through_every_protocol(tmp_path, protocol):
    shared = np.arange(6.0)
    data = {
        "arrays": [
            shared,
            shared[::2],
            np.zeros((2, 3), order="F"),
            np.array([True, False]),
            np.array(["a", "bcd"]),
            np.zeros((0, 3)),
        ],
        "objects": np.array([None, "LANE_STATE_STOP", 3], dtype=object),
        "lists of one length": pairs(),
        "big endian": np.arange(3, dtype=">i4"),
        "scalars": (np.float32(1.5), np.int64(-7), True, None, 2**70, 1e-300, "text \u00e4", b"bytes", b""),
        "containers": [{1, 2}, frozenset({"x"}), (), [], {}],
        "again": shared,
    }
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps(data, protocol=protocol))
    assert same(data, load_pickle(path))


class Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Stateful:
    def __init__(self):
        self.x = 1


@pytest.mark.parametrize(
    "hostile",
    [
        Runs(os.system, "touch PWNED"),
        Runs(subprocess.Popen, ["touch", "PWNED"]),
        Runs(eval, "open('PWNED', 'w')"),
        Runs(getattr, "numpy", "load"),
        Runs(np.ndarray, (10**10,)),
        Runs(np.zeros, 10**10),
        Runs(bytearray, 10**10),
        Runs(np.frombuffer, b"12345678"),
        Stateful(),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.float64,
        1j,
    ],
    ids=lambda value: type(value).__name__ + str(getattr(value, "call", ""))[:40],
)
def test_what_is_not_plain_data_is_refused_and_not_run(tmp_path, monkeypatch, hostile):
    monkeypatch.chdir(tmp_path)
    for protocol in (0, 2, 4):
        path = tmp_path / "hostile.pkl"
        path.write_bytes(pickle.dumps({"tracks": [1, hostile]}, protocol=protocol))
        with pytest.raises(DataError, match=r"hostile\.pkl.*refused"):
            load_pickle(path)
    assert not (tmp_path / "PWNED").exists()


def array_pickle(shape) -> bytes:
    """A pickle of an array of three numbers, edited to claim another shape."""
    data = pickle.dumps(np.arange(3.0), protocol=2)
    old = b"K\x03\x85"
    assert data.count(old) == 1
    return data.replace(old, b"\x8a\x08" + struct.pack("<q", shape) + b"\x85")


def deep_key(build: bytes) -> bytes:
    """A tuple in a tuple in a tuple, a million times, to be hashed: that overflows the stack of the process."""
    return b"\x80\x04" + build.replace(b"KEY", b")" + b"\x85" * 1_000_000) + b"."


def copies_of_one_string(count: int = 20_000) -> bytes:
    """The same 100 kB of text, turned into bytes again and again: 2 GB."""
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000
    return b"\x80\x02" + text + b"q\x00]c_codecs\nencode\nq\x01" + b"0(" + b"h\x01h\x00\x85R" * count + b"e."


HOSTILE_BYTES = {
    "deep key": deep_key(b"}KEYNs"),
    "deep keys": deep_key(b"}(KEYNu"),
    "deep key of a dict": deep_key(b"(KEYNd"),
    "deep member": deep_key(b"\x8f(KEY\x90"),
    "deep frozen member": deep_key(b"(KEY\x91"),
    "deep member of a called set": deep_key(b"cbuiltins\nset\n](KEYe\x85R"),
    "deep key of a called dict": deep_key(b"cbuiltins\ndict\n](KEYN\x86e\x85R"),
    "copies of one string": copies_of_one_string(),
    "integer beyond a float": pickle.dumps([1 << 2000]),
    "empty": b"",
    "text": b"hello world, this is no pickle",
    "no end": b"\x80\x04K\x01",
    "array claims 10^10": array_pickle(10**10),
    "array claims less": array_pickle(2),
    "array claims negative": array_pickle(-3),
    "memo of 2^31": b"\x80\x02K\x01r" + struct.pack("<I", 2**31 - 1) + b"j" + struct.pack("<I", 5) + b".",
    "bytes of 2^60": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"abc.",
    "bytearray of 2^40": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"abc.",
    "text of 2^31": b"\x80\x02X" + struct.pack("<I", 2**31) + b"abc.",
    "deep": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "deep dicts": b"\x80\x02" + b"}K\x00" * 5000 + b"N" + b"s" * 5000 + b".",
    "holds itself": b"\x80\x02]q\x00h\x00a.",
    "persistent id": b"\x80\x02K\x01Q.",
    "extension": b"\x80\x02\x82\x01.",
    "instance": b"(iposix\nsystem\n.",
    "new object": b"\x80\x02cposix\nsystem\n)\x81.",
    "bare function": b"\x80\x02cnumpy\nndarray\n.",
    "unfinished array": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R.",
    "out of memory codec": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.",
}


@pytest.mark.parametrize("name", HOSTILE_BYTES)
def test_broken_and_bloated_files_end_in_one_clear_error(tmp_path, name):
    path = tmp_path / "bad.pkl"
    path.write_bytes(HOSTILE_BYTES[name])
    if name == "holds itself":
        assert isinstance(load_pickle(path), list)  # harmless: readers never walk it
        return
    with pytest.raises(DataError, match=r"bad\.pkl"):
        load_pickle(path)


def test_every_truncation_is_an_error(tmp_path):
    data = pickle.dumps({"a": np.arange(4.0), "b": ["x", {"y": 1}]}, protocol=4)
    path = tmp_path / "cut.pkl"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(DataError, match=r"cut\.pkl"):
            load_pickle(path)


def test_a_small_file_of_shared_lists_is_walked_once(tmp_path):
    level = [1]
    for _ in range(25):
        level = [level] * 10  # 10^25 leaves if followed
    path = tmp_path / "bomb.pkl"
    path.write_bytes(pickle.dumps(level))
    assert isinstance(load_pickle(path), list)


def test_flipped_bytes_give_data_or_a_clear_error(tmp_path):
    data = pickle.dumps({"a": np.arange(4.0), "b": ["x", {"y": 1}], "c": {2.5}}, protocol=4)
    rng, path = np.random.default_rng(0), tmp_path / "flip.pkl"
    for _ in range(150):
        broken = bytearray(data)
        for at in rng.integers(0, len(data), 2):
            broken[at] = rng.integers(0, 256)
        path.write_bytes(bytes(broken))
        try:
            load_pickle(path)
        except DataError as error:
            assert "flip.pkl" in str(error)
