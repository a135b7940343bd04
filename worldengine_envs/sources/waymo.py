"""Waymo motion data: TFRecords of ``Scenario`` messages, and the JSON of Nocturne and GPUDrive; told apart by content."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import Scenario
from worldengine_envs.sources.checks import MAX_JSON_BYTES, load_json
from worldengine_envs.sources.optional import require
from worldengine_envs.sources.recording import make_recording, naming
from worldengine_envs.sources.tfrecord import is_tfrecord, read_records
from worldengine_envs.sources.waymo_json import read_json
from worldengine_envs.sources.waymo_proto import read_scenario

GZIP = b"\x1f\x8b"
SPACE = b" \t\r\n"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
PEEK = 64
MAX_GROWTH = 200  # bytes out of one compressed byte: real files have 4 to 30
INDEX_FILES = ("valid_files.json", "invalid_files.json")  # Nocturne's lists


def read_waymo(path: str | Path) -> Iterator[Scenario | DataError]:
    """Yields the recordings of one file, at 0.1 s, start step 0, local coordinates; the error of one that cannot be used instead.

    Raises:
        DataError: The file is none of these kinds, or is damaged so that nothing after that can be read.
    """
    require("shapely")
    path = Path(path)
    with naming(path), _opened(path) as stream:
        start = stream.peek(PEEK)
        kind = _kind(start)
        if kind == "json":
            name = path.name.removesuffix(".gz").removesuffix(".json")
            yield make_recording(read_json(load_json(stream.read(MAX_JSON_BYTES + 1)), name))
        elif kind == "tfrecord":
            for number, record in read_records(stream):
                yield _recording(path, number, record)
        elif not start:
            raise DataError("is empty")
        else:
            remedy = "JSON of Nocturne or GPUDrive, or TFRecords of Scenario messages are read, plain or gzip"
            raise DataError("neither JSON nor TFRecord (or its first record's header is damaged)", remedy=remedy)


def waymo_files(source: str | Path) -> list[Path]:
    """Returns the files under a file or folder, in order, that by content or by name are JSON, TFRecord or gzip of these."""
    source = Path(source)
    if source.is_file():
        return [source]
    files = (p for p in source.rglob("*") if p.is_file() and not p.name.startswith(".") and p.name not in INDEX_FILES)
    return sorted(p for p in files if _is_candidate(p))


def _is_candidate(path: Path) -> bool:
    name = path.name.lower()
    if "tfrecord" in name or name.endswith((".json", ".json.gz")):
        return True
    try:
        with _opened(path) as stream:
            return _kind(stream.peek(PEEK)) is not None
    except (DataError, OSError):
        return False


def _recording(path: Path, number: int, record: bytes | DataError) -> Scenario | DataError:
    """Returns the recording of one record, or its error with the record named."""
    try:
        if isinstance(record, DataError):
            raise record
        with naming(path):
            return make_recording(read_scenario(record, f"{path.name}_{number}"))
    except DataError as error:
        field = error.field if str(error.field or "").startswith("record ") else f"record {number}: {error.field or 'Scenario'}"
        return DataError(error.problem, file=path, field=field, remedy=error.remedy)


def _kind(start: bytes) -> str | None:
    """Returns what a file is by its first bytes: "tfrecord", "json", or None for anything else."""
    if is_tfrecord(start):
        return "tfrecord"
    return "json" if start.removeprefix(BYTE_ORDER_MARK).lstrip(SPACE)[:1] == b"{" else None


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Opens a file, through gzip where it is compressed, and turns what gzip says of damage into an error."""
    with path.open("rb") as file:
        if not file.peek(len(GZIP)).startswith(GZIP):
            yield file
            return
        limit = MAX_GROWTH * path.stat().st_size + 2**20
        try:
            yield _Bounded(gzip.GzipFile(fileobj=file), limit)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"truncated or damaged gzip ({str(error)[:80]})", file=path, remedy="Download it again") from None


class _Bounded:
    """A decompressing stream that ends in an error where far more comes out than its size allows."""

    def __init__(self, stream, limit: int):
        self.stream, self.left, self.limit = stream, limit, limit

    def peek(self, size: int) -> bytes:
        return self.stream.peek(size)

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise DataError(f"more than {self.limit} bytes come out of this gzip: far more than its size says")
        return data
