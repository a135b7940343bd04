"""Witnesses and the quality of a scene as bytes. A reader allocates no more than the bytes in the file can account for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.rendering.witnesses import MAX_WITNESSES, Witnesses
from worldengine_envs.scenario.pack_codec import DAMAGED, deflate, inflate, read_tensors, write_tensors
from worldengine_envs.scenario.pack_limits import MAX_UNPACKED_BYTES

FILE_FORMAT = "worldengine-witnesses-1"
MAX_SIGHTINGS, MAX_SIDE = 2**20, 4096
MAX_QUALITY_BYTES = 2**18
LEVEL = 6  # of zlib
_FIELDS = {
    "view": ("<i4", ("sightings",)),
    "node": ("<i4", ("sightings",)),
    "to_camera": ("<f8", ("sightings", 3, 4)),
    "intrinsics": ("<f8", ("views", 4)),
    "size": ("<i4", ("views", 2)),
    "inverse_depth": ("<f2", ("views", "rows", "columns")),
    "seen": ("<i2", ("views", "rows", "columns")),
}
_LIMITS = {"sightings": MAX_SIGHTINGS, "views": MAX_WITNESSES, "rows": MAX_SIDE, "columns": MAX_SIDE}


def pack_witnesses(witnesses: Witnesses, tensors: dict[str, np.ndarray]) -> dict:
    """Adds uint8 tensors to a file's and returns what its metadata tells of witnesses."""
    for name, (dtype, _) in _FIELDS.items():
        cells = np.ascontiguousarray(getattr(witnesses, name).astype(dtype))
        tensors[f"witnesses.{name}"] = deflate(cells.reshape(-1).view(np.uint8).reshape(-1, cells.itemsize).T.tobytes(), LEVEL)
    views, rows, columns = witnesses.seen.shape
    sizes = {"sightings": len(witnesses.view), "views": views, "rows": rows, "columns": columns}
    return {"actors": list(witnesses.actors), "sizes": sizes}


def unpack_witnesses(tensors: Mapping[str, np.ndarray], content, file: Path) -> Witnesses:
    """Returns the witnesses in tensors of a file, not yet validated.

    Raises:
        DataError: Names the file and the field.
    """
    field = "witnesses"
    actors, sizes = (content.get("actors"), content.get("sizes")) if type(content) is dict else (None, None)
    if type(actors) is not list or not all(type(token) is str for token in actors):
        raise DataError("must be names", file=file, field=f"{field}.actors", remedy=DAMAGED)
    if type(sizes) is not dict or set(sizes) != set(_LIMITS):
        raise DataError(f"must tell {', '.join(_LIMITS)}", file=file, field=f"{field}.sizes", remedy=DAMAGED)
    for name, most in _LIMITS.items():
        if type(sizes[name]) is not int or not 0 <= sizes[name] <= most:
            raise DataError(f"must lie between 0 and {most}", file=file, field=f"{field}.sizes.{name}", remedy=DAMAGED)
    arrays, total = {}, 0
    for name, (dtype, dims) in _FIELDS.items():
        shape = tuple(sizes.get(dim, dim) for dim in dims)
        total += math.prod(shape) * np.dtype(dtype).itemsize
        if total > MAX_UNPACKED_BYTES:
            raise DataError(f"claims more than {MAX_UNPACKED_BYTES} bytes", file=file, field=f"{field}.{name}", remedy=DAMAGED)
        arrays[name] = _read(tensors, f"{field}.{name}", dtype, shape, file)
    return Witnesses(tuple(actors), **arrays)


def _read(tensors: Mapping[str, np.ndarray], name: str, dtype: str, shape: tuple[int, ...], file: Path) -> np.ndarray:
    if name not in tensors:
        raise DataError("missing", file=file, field=name, remedy=DAMAGED)
    kind = np.dtype(dtype)
    raw = inflate(tensors[name], math.prod(shape) * kind.itemsize, file, name)
    planes = np.frombuffer(raw, np.uint8).reshape(kind.itemsize, math.prod(shape))
    return np.ascontiguousarray(planes.T).view(kind).reshape(shape).astype(kind.newbyteorder("="))


def encode_witnesses(witnesses: Witnesses) -> bytes:
    """Returns the bytes of a safetensors file of their own."""
    tensors: dict[str, np.ndarray] = {}
    content = pack_witnesses(witnesses, tensors)
    return write_tensors(tensors, {"format": FILE_FORMAT, "witnesses": content})


def decode_witnesses(data: bytes, file: Path) -> Witnesses:
    """Returns the witnesses in the bytes of such a file, not yet validated.

    Raises:
        DataError: Names the file and the field.
    """
    tensors, content = read_tensors(data, file, FILE_FORMAT)
    return unpack_witnesses(tensors, content.get("witnesses"), file)


def check_quality(quality, file=None) -> dict:
    """Returns the quality of a scene: plain JSON by name, without NaN or infinity.

    Raises:
        DataError: It is something else, or too long.
    """
    try:
        text = json.dumps(dict(quality), allow_nan=False)
        plain = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"is no plain JSON ({error})", file=file, field="quality", remedy="Use numbers, texts, lists") from error
    if len(text) > MAX_QUALITY_BYTES:
        problem = f"{len(text)} characters are more than {MAX_QUALITY_BYTES}"
        raise DataError(problem, file=file, field="quality", remedy="Keep long lists in a file of their own")
    return plain
