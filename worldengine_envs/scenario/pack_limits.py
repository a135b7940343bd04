"""How large anything in a pack may claim to be. Claims are held against these before anything is allocated."""

from __future__ import annotations

import os
from pathlib import Path

from worldengine_envs.errors import DataError

MAX_MANIFEST_BYTES = 64 * 2**20  # pack.json
MAX_FILE_BYTES = 512 * 2**20  # one file beside it
MAX_UNPACKED_BYTES = 512 * 2**20  # all arrays of one file when unpacked
MAX_NAMES_BYTES = 16 * 2**20  # the tokens of one part when unpacked
MAX_HEADER_BYTES = 2**20  # the JSON header of a safetensors file
MAX_SCENARIOS = 1_000_000
MAX_DEFLATE_RATIO = 1_032  # zlib cannot shrink more than this, so a larger claim is a lie
MAX_DEPTH = 16  # nesting of a scenario's parent in pack.json


def read_limited(file: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """Returns the bytes of a regular file of at most ``limit`` bytes; raises DataError otherwise."""
    try:
        if not file.is_file():
            raise DataError("no such file" if not file.exists() else "not a regular file", file=file, remedy="Get the pack again")
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > limit:
                raise DataError(f"{size} bytes, the limit is {limit}", file=file, remedy="Get the pack again")
            return stream.read(size)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", file=file) from error
