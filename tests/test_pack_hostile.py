"""Damaged and hostile packs end in one clear DataError; nothing large is allocated and nothing outside the pack is read."""

import json
import os
import pickle
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pack_helpers import edit_manifest, file_of, forge_file, sample, sign_manifest, small_pack
from safetensors.numpy import save

from worldengine_envs.errors import DataError
from worldengine_envs.scenario import Pack, verify
from worldengine_envs.scenario.pack_codec import FILE_FORMAT, METADATA, encode_parts


@pytest.fixture
def pack(tmp_path):
    return small_pack(tmp_path / "p")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A pack that tests copy from, and its files' bytes."""
    folder = small_pack(tmp_path_factory.mktemp("good") / "p")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def restore(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def load_all(folder):
    """Opens a pack and loads all of it, the memory that it took bounded."""
    tracemalloc.start()
    try:
        pack = Pack.open(folder)
        for entry in pack.entries:
            pack.load(entry.id)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 50e6


def refused(folder, *messages):
    """Loading ends in a DataError with these words, and verify lists at least one problem."""
    with pytest.raises(DataError) as error:
        load_all(folder)
    for message in messages:
        assert message in str(error.value)
    assert verify(folder)
    return str(error.value)


def payload(dims=None, tensors=(), metadata=None):
    """A safetensors file of a recording in which some things were replaced."""
    scenario = sample()
    parts = {"tracks": scenario.tracks, "lights": scenario.lights, "route0": scenario.route}
    data = encode_parts(parts)
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    content = json.loads(header.pop("__metadata__")[METADATA])
    arrays = {k: np.frombuffer(data[8 + length :], np.uint8)[slice(*v["data_offsets"])] for k, v in header.items()}
    for part, sizes in (dims or {}).items():
        content["dims"][part].update(sizes)
    arrays.update(tensors)
    return save({k: v for k, v in arrays.items() if v is not None}, metadata or {METADATA: json.dumps(content)})


def deflated(raw: bytes) -> np.ndarray:
    return np.frombuffer(zlib.compress(raw), np.uint8)


# Files cut short, with flipped bits, empty or of another kind


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_truncated_files(tmp_path, good, data):
    name = data.draw(st.sampled_from(sorted(good)))
    cut = data.draw(st.integers(0, len(good[name]) - 1))
    restore(tmp_path / "p", good)
    (tmp_path / "p" / name).write_bytes(good[name][:cut])
    assert name in refused(tmp_path / "p")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bits(tmp_path, good, data):
    """No flip passes verify, and loading either fails clearly or gives content with its hash (a bit that means nothing)."""
    name = data.draw(st.sampled_from(sorted(good)))
    at, bit = data.draw(st.integers(0, len(good[name]) - 1)), data.draw(st.integers(0, 7))
    damaged = bytearray(good[name])
    damaged[at] ^= 1 << bit
    restore(tmp_path / "p", good | {name: bytes(damaged)})
    try:
        load_all(tmp_path / "p")
    except DataError:
        pass
    assert verify(tmp_path / "p")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bits_that_were_signed(tmp_path, good, data):
    """The same where the manifest was made to fit: only clear errors, or content with its hash."""
    name = data.draw(st.sampled_from(sorted(n for n in good if n != "pack.json")))
    at, bit = data.draw(st.integers(0, len(good[name]) - 1)), data.draw(st.integers(0, 7))
    damaged = bytearray(good[name])
    damaged[at] ^= 1 << bit
    restore(tmp_path / "p", good)
    forge_file(tmp_path / "p", name, bytes(damaged))
    try:
        load_all(tmp_path / "p")
    except DataError as error:
        assert "safetensors" in str(error) or "hash" in str(error)
    verify(tmp_path / "p")


@pytest.mark.parametrize("content", [b"", bytes(100), pickle.dumps({"a": 1}), b"PK\x03\x04", b"[]", b"null", b'"x"', b"\xff\xfe{}"])
@pytest.mark.parametrize("kind", ["recordings", "maps", "pack.json"])
def test_files_of_another_kind(pack, kind, content):
    if kind == "pack.json":
        (pack / kind).write_bytes(content)
        refused(pack, "pack.json")
    else:
        name = file_of(pack, kind)
        forge_file(pack, name, content)
        refused(pack, name, "field header")


def test_a_pickle_is_never_run(pack, tmp_path):
    mark = tmp_path / "mark"

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(mark),)

    forge_file(pack, file_of(pack, "recordings"), pickle.dumps(Evil()))
    refused(pack)
    assert not mark.exists()


# Headers and arrays that lie


@pytest.mark.parametrize(
    ("forged", "field"),
    [
        (payload({"tracks": {"agents": 10_000_000_000}}), "__metadata__.dims.tracks.agents"),
        (payload({"tracks": {"agents": 2_000_000_000}}), "__metadata__.dims.tracks"),
        (payload({"tracks": {"agents": 10_000}}), "tracks.types"),
        (payload({"tracks": {"steps": 107}}), "tracks.state"),
        (payload({"tracks": {"steps": 0}}), "tracks.state"),
        (payload({"tracks": {"steps": -1}}), "__metadata__.dims.tracks.steps"),
        (payload({"tracks": {"steps": 1e3}}), "__metadata__.dims.tracks.steps"),
        (payload({"tracks": {"more": 3}}), "__metadata__.dims.tracks"),
        (payload({"route0": {"points": 10**6}}), "route0.centerline"),
        (payload(tensors={"tracks.state": None}), "tracks.state"),
        (payload(tensors={"tracks.state": np.zeros(3, np.float32)}), "tracks.state"),
        (payload(tensors={"tracks.state": deflated(bytes(10**7))}), "tracks.state"),
        (payload(tensors={"tracks.valid": deflated(bytes(4 * 106) + b"more")}), "tracks.valid"),
        (payload(tensors={"tracks.tokens": deflated(b'["ego", "a", "b"]')}), "tracks.tokens"),
        (payload(tensors={"tracks.tokens": deflated(b"[" * 100_000)}), "tracks.tokens"),
        (payload(tensors={"tracks.tokens": deflated(b'["ego", 1, 2, 3]')}), "tracks.tokens"),
        (payload(tensors={"tracks.tokens": deflated(b" " * (17 * 2**20))}), "tracks.tokens"),
        (payload(tensors={"tracks.types": deflated(bytes([0, 0, 0, 99]))}), "tracks.types"),
        (payload(metadata={"format": FILE_FORMAT}), "__metadata__.format"),
        (payload(metadata={METADATA: "{"}), "header"),
        (payload(metadata={METADATA: json.dumps({"format": "worldengine-parts-99"})}), "__metadata__.format"),
        (payload(metadata={METADATA: json.dumps({"format": FILE_FORMAT, "dims": {}})}), "__metadata__.dims"),
        (payload(metadata={METADATA: json.dumps({"format": FILE_FORMAT, "dims": {"x": {}}})}), "__metadata__.dims"),
    ],
)
def test_arrays_that_lie(pack, forged, field):
    name = file_of(pack, "recordings")
    forge_file(pack, name, forged)
    refused(pack, name, f"field {field}")


@pytest.mark.parametrize(
    "header",
    [
        b'{"tracks.state":{"dtype":"U8","shape":[10000000000],"data_offsets":[0,10000000000]}}',
        b'{"tracks.state":{"dtype":"U8","shape":[18446744073709551615,18446744073709551615],"data_offsets":[0,1]}}',
        b'{"tracks.state":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}}',
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        b'{"__metadata__":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"__metadata__":{"worldengine":5}}',
        b"{}",
    ],
)
def test_headers_that_lie(pack, header):
    name = file_of(pack, "maps")
    forge_file(pack, name, struct.pack("<Q", len(header)) + header + b"x")
    refused(pack, name)
    forge_file(pack, name, struct.pack("<Q", 2**63) + header)
    refused(pack, name, "field header", "claims 9223372036854775808 bytes")


def test_content_that_validates_but_is_not_what_was_hashed(pack):
    scenario = sample(speed=12.0)
    parts = {"tracks": scenario.tracks, "lights": scenario.lights, "route0": scenario.route, "route1": scenario.route}
    for name in sorted(pack.glob("recordings/*")):
        forge_file(pack, f"recordings/{name.name}", encode_parts(parts))
    refused(pack, "scenario a_015", "field hash", "Get the pack again")


# Paths


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "recordings/../../x.safetensors", "maps/a.safetensors", "maps\\x", "a\x00b", ""]
)
def test_paths_that_climb_out(pack, name):
    edit_manifest(pack, lambda c: c["files"].update({name: {"bytes": 1, "sha256": "0" * 64}}))
    refused(pack, "field files", "must match")


@pytest.mark.parametrize("field", ["recording", "map"])
@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "0123456789abcde/"])
def test_names_that_climb_out(pack, field, name):
    def edit(content):
        if field == "recording":
            content["scenarios"][0]["recording"] = name
        else:
            next(iter(content["recordings"].values()))["map"] = name

    edit_manifest(pack, edit)
    refused(pack, f".{field}:", "must match")


@pytest.mark.parametrize("what", ["file", "folder", "manifest"])
def test_links_that_lead_out(pack, tmp_path, what):
    outside = tmp_path / "outside"
    outside.mkdir()
    inside = {"file": pack / file_of(pack, "maps"), "folder": pack / "maps", "manifest": pack / "pack.json"}[what]
    inside.rename(outside / "moved")
    inside.symlink_to(outside / "moved")
    refused(pack, "is a symbolic link" if what == "manifest" else "leads out of the pack")


def test_files_that_are_none(pack):
    path = pack / file_of(pack, "maps")
    path.unlink()
    refused(pack, "no such file")
    path.mkdir()
    refused(pack, "not a regular file")
    path.rmdir()
    os.mkfifo(path)  # opening it would wait for ever
    refused(pack, "not a regular file")


# The manifest


def set_entry(key, value):
    return lambda c: c["scenarios"][0].update({key: value})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.update(format_version=2), "field format_version: format 'worldengine-pack' version 2"),
        (lambda c: c.update(format_version=True), "format_version"),
        (lambda c: c.update(format="zip"), "format 'zip'"),
        (lambda c: c.pop("format_version"), "version None"),
        (lambda c: c.update(name="../x"), "field name"),
        (lambda c: c.update(name=5), "field name: 5 must be of type str"),
        (lambda c: c.update(licence="x" * 300), "field licence"),
        (lambda c: c.update(licence="\x1b[31m"), "field licence"),
        (lambda c: c.pop("scenarios"), "field scenarios"),
        (lambda c: c.update(scenarios={}), "field scenarios"),
        (lambda c: c.update(scenarios=[5]), "field scenarios[0]"),
        (lambda c: c["scenarios"].append(c["scenarios"][0]), "'a_015' appears twice"),
        (lambda c: c.update(files=[]), "field files"),
        (lambda c: c["files"].clear(), "is not listed in files"),
        (lambda c: next(iter(c["files"].values())).update(bytes=10**12), "field files."),
        (lambda c: next(iter(c["files"].values())).update(sha256="x"), ".sha256"),
        (lambda c: c["recordings"].clear(), "is not listed in recordings"),
        (lambda c: next(iter(c["recordings"].values())).update(agents=10**10), ".agents"),
        (lambda c: next(iter(c["recordings"].values())).update(offset=[1]), ".offset"),
        (lambda c: next(iter(c["recordings"].values())).update(ego=[1, 1, 1, "x"]), ".ego"),
        (lambda c: next(iter(c["recordings"].values())).update(derived="all"), ".derived"),
        (set_entry("id", "a/b"), "field scenarios[0].id"),
        (set_entry("split", None), "field scenarios.a_015.split"),
        (set_entry("tags", ["a b"]), "field scenarios.a_015.tags"),
        (set_entry("start_step", 10**10), "field scenarios.a_015.start_step"),
        (set_entry("start_step", "15"), "field scenarios.a_015.start_step"),
        (set_entry("route", 9), "field route9: not in the file"),
        (set_entry("route", -1), "field scenarios.a_015.route"),
        (set_entry("hash", "0"), "field scenarios.a_015.hash"),
        (set_entry("parent", []), "field scenarios.a_015.parent"),
        (set_entry("recipe", {}), "either a recipe or a recording"),
        (set_entry("gaussian_scene", "../x"), "field scenarios.a_015.gaussian_scene"),
        (set_entry("reference", 5), "field scenarios.a_015.reference"),
        (set_entry("reference", {"source": "log", "progress": {"x": 1}}), "field scenarios.a_015.reference.progress"),
        (set_entry("reference", {"source": "log", "progress": {"4": -1}}), "field scenarios.a_015.reference.progress"),
        (set_entry("reference", {"source": "log", "progress": {"4": "1"}}), "field scenarios.a_015.reference.progress"),
        (set_entry("reference", {"source": "guess", "progress": {"4": 1}}), "field reference.source"),
    ],
)
def test_manifests_that_lie(pack, edit, message):
    edit_manifest(pack, lambda content: edit(content) and None)
    refused(pack, message)


@pytest.mark.parametrize(
    "value",
    ["NaN", "Infinity", "1e999", "9" * 5000, "[" * 10_000, '{"a":' * 5000 + "1" + "}" * 5000, '{"a":' * 40 + "1" + "}" * 40],
)
def test_numbers_and_nesting_out_of_hand(pack, value):
    body = (pack / "pack.json").read_text().split("\n", 1)[1]
    for key in ('"start_step": 25', '"parent": {"id": "x", "seed": 3}'):
        assert key in body
        sign_manifest(pack, body.replace(key, key.split(":")[0] + ": " + value))
        refused(pack, "pack.json")


def test_a_huge_manifest_is_not_read(pack):
    with (pack / "pack.json").open("r+b") as file:
        file.truncate(65 * 2**20)
    refused(pack, "pack.json", "68157440 bytes, the limit is 67108864")


def test_edited_by_hand(pack):
    text = (pack / "pack.json").read_text()
    (pack / "pack.json").write_text(text.replace('"4": 40.0', '"4": 41.0'))
    refused(pack, "field sha256", "edited by hand")
