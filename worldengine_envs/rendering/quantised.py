"""A Gaussian scene in few bytes, for packs: numbers on a grid, bytes shuffled, deflated into safetensors.

Gaussians are sorted along a space-filling curve, so that centres are stored as small differences. Errors: centres 0.05 mm, standard
deviations 1.6 %, axes 0.1 degrees, opacities 0.8 %, colours 0.03 % (first coefficient) and 0.4 % (the others). A reader allocates
no more than the bytes in the file can account for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.rendering.gaussians import MAX_SH_DEGREE, Gaussians
from worldengine_envs.rendering.scene import GaussianScene, Node, validate_scene
from worldengine_envs.rendering.witness_codec import check_quality, pack_witnesses, unpack_witnesses
from worldengine_envs.scenario.pack_codec import DAMAGED, deflate, inflate, read_tensors, write_tensors
from worldengine_envs.scenario.pack_limits import MAX_UNPACKED_BYTES

FILE_FORMAT = "worldengine-scene-1"
LEVEL = 6  # of zlib
MAX_LOGIT = 20.0  # beyond, float32 sees an opacity of 0 or 1


@dataclass(frozen=True, slots=True)
class _Grid:
    """Integers that stand for an array: ``dtype`` with so many of them per unit."""

    dtype: str
    per_unit: int
    difference: bool = False  # each is stored as its difference from the one before


MEANS, QUATS, SCALES, OPACITIES = _Grid("<i4", 10_000, True), _Grid("<i2", 1024), _Grid("<i2", 32), _Grid("<i2", 16)
BASE, REST = _Grid("<i2", 512), _Grid("<i2", 128)  # spherical harmonics of degree 0, and the others


def encode_scene(scene: GaussianScene) -> bytes:
    """Returns the bytes of a safetensors file.

    Raises:
        DataError: The scene is not valid, or a number is too large to store.
    """
    validate_scene(scene)
    tensors: dict[str, np.ndarray] = {}
    nodes = [_encode_node(tensors, f"n{i}", name, node) for i, (name, node) in enumerate(scene.nodes.items())]
    content = {"name": scene.name, "kind": scene.kind, "appearances": list(scene.appearances), "nodes": nodes}
    if scene.quality:
        content["quality"] = check_quality(scene.quality)
    if scene.witnesses is not None:
        content["witnesses"] = pack_witnesses(scene.witnesses, tensors)
    return write_tensors(tensors, {"format": FILE_FORMAT, **content})


def _encode_node(tensors: dict[str, np.ndarray], key: str, name: str, node: Node) -> dict:
    """Adds the tensors of one node and returns what the metadata tells of it."""
    g = node.gaussians
    cells = _to_grid(g.means, MEANS, name)
    order = _curve_order(cells)
    tensors[f"{key}.means"] = _pack(cells[order], MEANS)
    quats = g.quats / np.abs(g.quats).max(axis=1, keepdims=True, initial=0.0)  # first to about 1: squares stay numbers
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    quats = np.where(quats[:, :1] < 0.0, -quats, quats)
    logits = np.clip(g.opacities, -MAX_LOGIT, MAX_LOGIT)
    for part, values, grid in (("quats", quats, QUATS), ("scales", g.scales, SCALES), ("opacities", logits, OPACITIES)):
        tensors[f"{key}.{part}"] = _pack(_to_grid(values[order], grid, name), grid)
    looks = node.looks or {"": g.sh}
    for j, sh in enumerate(looks.values()):
        tensors[f"{key}.base{j}"] = _pack(_to_grid(sh[order, 0], BASE, name), BASE)
        tensors[f"{key}.rest{j}"] = _pack(_to_grid(sh[order, 1:].reshape(len(g), 3 * sh.shape[1] - 3), REST, name), REST)
    degrees = {look: round(sh.shape[1] ** 0.5) - 1 for look, sh in looks.items()}
    return {"name": name, "gaussians": len(g), "size": node.size and list(node.size), "degrees": degrees}


def decode_scene(data: bytes, file: Path) -> GaussianScene:
    """Returns the scene in the bytes of a safetensors file.

    Args:
        data: The whole file.
        file: Its name, for messages.

    Raises:
        DataError: Names the file and the field. Nothing is allocated beyond what the file's own size accounts for.
    """
    tensors, content = read_tensors(data, file, FILE_FORMAT)
    name, kind = (_text(content, key, file) for key in ("name", "kind"))
    appearances, rows = (_list(content, key, file) for key in ("appearances", "nodes"))
    if not all(type(appearance) is str for appearance in appearances):
        raise DataError("must be names", file=file, field="appearances", remedy=DAMAGED)
    claimed = 0
    for i, row in enumerate(rows):
        claimed += _check_row(row, f"nodes[{i}]", file)
        if claimed > MAX_UNPACKED_BYTES:
            problem = f"claims more than {MAX_UNPACKED_BYTES} bytes"
            raise DataError(problem, file=file, field=f"nodes[{i}].gaussians", remedy=DAMAGED)
    nodes = {row["name"]: _decode_node(tensors, f"n{i}", row, file) for i, row in enumerate(rows)}
    if len(nodes) != len(rows):
        raise DataError("two have the same name", file=file, field="nodes", remedy=DAMAGED)
    witnesses = unpack_witnesses(tensors, content["witnesses"], file) if "witnesses" in content else None
    quality = content.get("quality", {})
    return validate_scene(GaussianScene(name, kind, nodes, tuple(appearances), witnesses, check_quality(quality, file)), file)


def _check_row(row, field: str, file: Path) -> int:
    """Returns the bytes on the grid that the metadata claims for a node."""
    if type(row) is not dict or type(row.get("name")) is not str:
        raise DataError("must be an object with a name", file=file, field=field, remedy=DAMAGED)
    count, size, degrees = row.get("gaussians"), row.get("size"), row.get("degrees")
    if type(count) is not int or not 0 <= count < 2**31:
        raise DataError("must lie between 0 and 2^31", file=file, field=f"{field}.gaussians", remedy=DAMAGED)
    if size is not None and not (type(size) is list and all(type(x) in (int, float) for x in size)):
        raise DataError("must be three numbers or null", file=file, field=f"{field}.size", remedy=DAMAGED)
    known = range(MAX_SH_DEGREE + 1)
    if type(degrees) is not dict or not degrees or not all(type(d) is int and d in known for d in degrees.values()):
        raise DataError("must be degrees from 0 to 3 by look", file=file, field=f"{field}.degrees", remedy=DAMAGED)
    return count * (12 + 8 + 6 + 2 + sum(6 * (degree + 1) ** 2 for degree in degrees.values()))


def _decode_node(tensors: Mapping[str, np.ndarray], key: str, row: dict, file: Path) -> Node:
    n = row["gaussians"]

    def read(part: str, shape: tuple[int, ...], grid: _Grid) -> np.ndarray:
        return _unpack(tensors, f"{key}.{part}", shape, grid, file)

    def harmonics(j: int, degree: int) -> np.ndarray:
        bands = (degree + 1) ** 2
        rest = read(f"rest{j}", (n, 3 * (bands - 1)), REST).reshape(n, bands - 1, 3)
        return np.concatenate((read(f"base{j}", (n, 3), BASE)[:, None], rest), axis=1)

    looks = {look: harmonics(j, degree) for j, (look, degree) in enumerate(row["degrees"].items())}
    means, quats, scales = read("means", (n, 3), MEANS), read("quats", (n, 4), QUATS), read("scales", (n, 3), SCALES)
    gaussians = Gaussians(means, quats, scales, read("opacities", (n,), OPACITIES), next(iter(looks.values())))
    return Node(gaussians, {} if set(looks) == {""} else looks, None if row.get("size") is None else tuple(row["size"]))


def _text(content: dict, key: str, file: Path) -> str:
    if type(content.get(key)) is not str:
        raise DataError("must be a text", file=file, field=key, remedy=DAMAGED)
    return content[key]


def _list(content: dict, key: str, file: Path) -> list:
    if type(content.get(key)) is not list:
        raise DataError("must be a list", file=file, field=key, remedy=DAMAGED)
    return content[key]


def _to_grid(values: np.ndarray, grid: _Grid, node: str) -> np.ndarray:
    cells = np.rint(values * (np.float64 if grid is MEANS else np.float32)(grid.per_unit))
    if cells.size and not np.abs(cells).max() < np.iinfo(grid.dtype).max:
        raise DataError(f"a value of node {node!r} is too large to store: {np.abs(values).max():g}", field="gaussians")
    return cells.astype(grid.dtype)


def _pack(cells: np.ndarray, grid: _Grid) -> np.ndarray:
    """Column by column, differences where wanted (integers wrap and wrap back), first bytes first, deflated."""
    columns = cells.reshape(len(cells), math.prod(cells.shape[1:])).T
    if grid.difference:
        columns = np.diff(columns, axis=1, prepend=columns.dtype.type(0))
    planes = np.ascontiguousarray(columns).reshape(-1).view(np.uint8).reshape(-1, cells.itemsize).T
    return deflate(planes.tobytes(), LEVEL)


def _unpack(tensors: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], grid: _Grid, file: Path) -> np.ndarray:
    """Returns float32 of that shape."""
    if name not in tensors:
        raise DataError("missing", file=file, field=name, remedy=DAMAGED)
    dtype, count = np.dtype(grid.dtype), math.prod(shape)
    raw = inflate(tensors[name], count * dtype.itemsize, file, name)
    columns = np.ascontiguousarray(np.frombuffer(raw, np.uint8).reshape(dtype.itemsize, count).T).view(dtype)
    columns = columns.reshape(shape[1] if len(shape) > 1 else 1, shape[0])
    if grid.difference:
        columns = np.cumsum(columns, axis=1, dtype=dtype)
    values = columns / np.float64(grid.per_unit) if grid.difference else columns / np.float32(grid.per_unit)
    return np.ascontiguousarray(values.T, np.float32).reshape(shape)


def _curve_order(cells: np.ndarray) -> np.ndarray:
    """Returns the order of points (n, 3) of integers along a Z-order curve."""
    if not len(cells):
        return np.zeros(0, np.int64)
    offset = cells.astype(np.int64) - cells.min(axis=0)
    offset >>= max(int(offset.max()).bit_length() - 21, 0)
    code = np.zeros(len(cells), np.int64)
    for axis in range(3):
        code |= _spread(offset[:, axis]) << axis
    return np.argsort(code, kind="stable")


def _spread(bits: np.ndarray) -> np.ndarray:
    """Returns 21-bit integers with two zeros between any two bits."""
    for shift, mask in ((32, 0x1F00000000FFFF), (16, 0x1F0000FF0000FF), (8, 0x100F00F00F00F00F), (4, 0x10C30C30C30C30C3)):
        bits = (bits | bits << shift) & mask
    return (bits | bits << 2) & 0x1249249249249249
