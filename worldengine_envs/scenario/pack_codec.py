"""Parts of a scenario as safetensors: arrays on the grid, differenced, bytes shuffled, deflated into uint8 tensors.

A reader allocates no more than the bytes in the file can account for, whatever the header claims.
"""

from __future__ import annotations

import json
import math
import re
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.pack_limits import (
    MAX_DEFLATE_RATIO,
    MAX_HEADER_BYTES,
    MAX_NAMES_BYTES,
    MAX_UNPACKED_BYTES,
)
from worldengine_envs.scenario.quantise import Part, array_from_grid, array_to_grid
from worldengine_envs.scenario.schema import FIELDS, NAMES, Field, dimension_names, dimension_of
from worldengine_envs.scenario.types import CameraRig, Lights, Route, Tracks, VectorMap
from worldengine_envs.scenario.validation import part_dimensions, validate_part

FILE_FORMAT = "worldengine-parts-1"
METADATA = "worldengine"  # key of safetensors metadata
PART_TYPES = {"tracks": Tracks, "vector_map": VectorMap, "lights": Lights, "camera_rig": CameraRig, "route": Route}
ROUTE = re.compile(r"route[0-9]{1,6}")
DAMAGED = "The file is damaged or was not written by worldengine; get the pack again"


def encode_parts(parts: Mapping[str, Part]) -> bytes:
    """Returns the bytes of a safetensors file with some parts.

    Args:
        parts: By name: a key of ``PART_TYPES``; routes have a number: "route0".
    """
    tensors, dims = {}, {}
    for name, part in parts.items():
        dims[name] = part_dimensions(part)
        for field, spec in FIELDS[type(part)].items():
            tensors[f"{name}.{field}"] = deflate(_to_bytes(array_to_grid(getattr(part, field), spec), spec))
        if type(part) in NAMES:
            field, _ = NAMES[type(part)]
            tensors[f"{name}.{field}"] = deflate(json.dumps(getattr(part, field)).encode())
    return write_tensors(tensors, {"format": FILE_FORMAT, "dims": dims})


def decode_parts(data: bytes, file: Path) -> dict[str, Part]:
    """Returns the validated parts in the bytes of a safetensors file.

    Args:
        data: The whole file.
        file: Its name, for messages.

    Raises:
        DataError: Names the file and the field. Nothing is allocated beyond what the file's own size accounts for.
    """
    tensors, content = read_tensors(data, file, FILE_FORMAT)
    dims = _read_dims(content, file)
    return {name: _decode_part(name, part_dims, tensors, file) for name, part_dims in dims.items()}


def write_tensors(tensors: Mapping[str, np.ndarray], content: dict) -> bytes:
    """Returns the bytes of a safetensors file with uint8 tensors and metadata of this project (an object with its "format")."""
    from safetensors.numpy import save

    return save(dict(tensors), {METADATA: json.dumps(content)})  # one key: safetensors keeps no order


def read_tensors(data: bytes, file: Path, file_format: str) -> tuple[dict[str, np.ndarray], dict]:
    """Returns uint8 tensors as views into ``data``, and the metadata of this project.

    Raises:
        DataError: Not safetensors of this project and format; nothing was allocated beyond the size of ``data``.
    """
    from safetensors import SafetensorError, deserialize

    if len(data) < 8:
        raise DataError(f"{len(data)} bytes are too few for safetensors", file=file, field="header", remedy=DAMAGED)
    (length,) = struct.unpack("<Q", data[:8])
    if length > min(MAX_HEADER_BYTES, len(data) - 8):
        raise DataError(f"claims {length} bytes in a file of {len(data)}", file=file, field="header", remedy=DAMAGED)
    try:
        header = json.loads(data[8 : 8 + length])
        metadata = header.get("__metadata__") if isinstance(header, dict) else None
        content = json.loads(metadata[METADATA]) if isinstance(metadata, dict) and METADATA in metadata else None
        tensors = dict(deserialize(data))
    except (ValueError, TypeError, RecursionError, SafetensorError) as error:
        raise DataError(f"not valid safetensors ({str(error)[:80]})", file=file, field="header", remedy=DAMAGED) from error
    claim = content.get("format") if isinstance(content, dict) else None
    if claim != file_format:
        remedy = "Write the pack again with this version of worldengine"
        problem = f"format is {str(claim)[:40]!r}, not {file_format!r}"
        raise DataError(problem, file=file, field="__metadata__.format", remedy=remedy)
    arrays = {}
    for name, tensor in tensors.items():
        if tensor["dtype"] != "U8":
            raise DataError(f"dtype must be U8, is {tensor['dtype']}", file=file, field=name[:80], remedy=DAMAGED)
        arrays[name] = np.frombuffer(tensor["data"], np.uint8)
    return arrays, content


def _part_type(name: str) -> type | None:
    return PART_TYPES.get("route" if ROUTE.fullmatch(name) else name)


def _read_dims(content: dict, file: Path) -> dict[str, dict[str, int]]:
    """Returns the sizes that the parts claim, after holding their sum against the limit."""
    dims = content.get("dims")
    if not isinstance(dims, dict) or not dims:
        raise DataError("must be an object with parts", file=file, field="__metadata__.dims", remedy=DAMAGED)
    total = 0
    for name, sizes in dims.items():
        field, part_type = f"__metadata__.dims.{name[:40]}", _part_type(name)
        if part_type is None or not isinstance(sizes, dict) or set(sizes) != set(dimension_names(part_type)):
            raise DataError("unknown part or other dimensions", file=file, field=field, remedy=DAMAGED)
        for dim, size in sizes.items():
            if type(size) is not int or not 0 <= size < 2**31:
                raise DataError("must lie between 0 and 2^31", file=file, field=f"{field}.{dim}", remedy=DAMAGED)
        total += sum(_packed_size(spec, sizes) for spec in FIELDS[part_type].values())
        if total > MAX_UNPACKED_BYTES:
            problem = f"claims {total} bytes, more than {MAX_UNPACKED_BYTES}"
            raise DataError(problem, file=file, field=field, remedy=DAMAGED)
    return dims


def _packed_size(spec: Field, dims: dict[str, int]) -> int:
    return math.prod(dimension_of(size, dims) for size in spec.shape) * np.dtype(spec.grid_dtype).itemsize


def _decode_part(name: str, dims: dict[str, int], tensors: Mapping[str, np.ndarray], file: Path) -> Part:
    part_type, content = _part_type(name), {}
    for field, spec in FIELDS[part_type].items():
        where = f"{name}.{field}"
        shape = tuple(dimension_of(size, dims) for size in spec.shape)
        raw = inflate(_tensor(tensors, where, file), _packed_size(spec, dims), file, where)
        content[field] = array_from_grid(_from_bytes(raw, shape, spec), spec)
    if part_type in NAMES:
        field, dim = NAMES[part_type]
        content[field] = _read_names(tensors, f"{name}.{field}", dims[dim], file)
    return validate_part(part_type(**content), part_type, name, file=file)


def _read_names(tensors: Mapping[str, np.ndarray], name: str, count: int, file: Path) -> tuple[str, ...]:
    raw = inflate(_tensor(tensors, name, file), None, file, name)
    try:
        names = json.loads(bytes(raw))
    except (ValueError, RecursionError) as error:
        raise DataError("not valid JSON", file=file, field=name, remedy=DAMAGED) from error
    if not isinstance(names, list) or len(names) != count:
        raise DataError(f"must be a list of {count} names", file=file, field=name, remedy=DAMAGED)
    return tuple(names)


def _tensor(tensors: Mapping[str, np.ndarray], name: str, file: Path) -> np.ndarray:
    if name not in tensors:
        raise DataError("missing", file=file, field=name, remedy=DAMAGED)
    return tensors[name]


def _to_bytes(cells: np.ndarray, spec: Field) -> bytes:
    """Differences along one axis (integers wrap and wrap back), then all first bytes, all second bytes, and so on."""
    if spec.dtype == "bool":
        return np.ascontiguousarray(cells).view(np.uint8).tobytes()
    if spec.difference is not None:
        cells = np.diff(cells, axis=spec.difference, prepend=cells.dtype.type(0))
        cells = np.moveaxis(cells, -1, 0)  # one column after the other: neighbours in the file are neighbours in time
    return np.ascontiguousarray(cells).reshape(-1).view(np.uint8).reshape(-1, cells.itemsize).T.tobytes()


def _from_bytes(raw: bytearray | bytes, shape: tuple[int, ...], spec: Field) -> np.ndarray:
    dtype = np.dtype(spec.grid_dtype).newbyteorder("<")
    if spec.dtype == "bool":
        return np.frombuffer(raw, np.uint8).reshape(shape) != 0
    planes = np.frombuffer(raw, np.uint8).reshape(dtype.itemsize, math.prod(shape))
    cells = np.ascontiguousarray(planes.T).view(dtype).reshape(-1)
    if spec.difference is None:
        return cells.reshape(shape)
    cells = np.moveaxis(cells.reshape(shape[-1:] + shape[:-1]), 0, -1)
    return np.cumsum(cells, axis=spec.difference, dtype=dtype)


def deflate(raw: bytes, level: int = 9) -> np.ndarray:
    """Returns (n,) uint8 the bytes, packed by zlib; levels above 6 take long for what is mostly noise."""
    return np.frombuffer(zlib.compress(raw, level), np.uint8)


def inflate(packed: np.ndarray, size: int | None, file: Path, field: str) -> bytes:
    """Returns the inflated bytes: exactly ``size``, or any number up to the limit for names; raises DataError otherwise."""
    limit = MAX_NAMES_BYTES if size is None else size
    if size is not None and size > MAX_DEFLATE_RATIO * len(packed):
        raise DataError(f"claims {size} bytes, packed in {len(packed)}", file=file, field=field, remedy=DAMAGED)
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(packed.data, limit + 1)
    except zlib.error as error:
        raise DataError(f"cannot be inflated ({error})", file=file, field=field, remedy=DAMAGED) from error
    if len(raw) > limit or not inflater.eof or inflater.unused_data or (size is not None and len(raw) != size):
        claim = f"{size}" if size is not None else f"at most {limit}"
        raise DataError(f"does not unpack to {claim} bytes", file=file, field=field, remedy=DAMAGED)
    return raw
