"""Gaussians as PLY files with the attribute names of 3D Gaussian Splatting, which public viewers read.

Attributes: x y z, nx ny nz (written as 0, not read), f_dc_0..2, f_rest_* (none, 9, 24 or 45, channel by channel), opacity (logit),
scale_0..2 (natural logarithm), rot_0..3 (w, x, y, z). Others are passed over. Nothing is allocated before the file's size has shown
that what the header claims can be there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.rendering.gaussians import MAX_SH_DEGREE, Gaussians
from worldengine_envs.rendering.scene import validate_gaussians

FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4", "double": "f8"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8"},
}
MAX_HEADER_BYTES = 2**16
MAX_PROPERTIES = 512
MAX_GAUSSIANS = 2**25
CHUNK = 2**15  # vertices read at once
POSITION, NORMAL, COLOR = ("x", "y", "z"), ("nx", "ny", "nz"), ("f_dc_0", "f_dc_1", "f_dc_2")
SCALE, ROTATION = ("scale_0", "scale_1", "scale_2"), ("rot_0", "rot_1", "rot_2", "rot_3")
REQUIRED = (*POSITION, *COLOR, "opacity", *SCALE, *ROTATION)
EXPORT = "Export it again as the PLY of 3D Gaussian Splatting (uncompressed, one element called vertex)"
CUT = "The file is cut short or damaged; get it again"


class _Header(NamedTuple):
    order: str  # "<", ">" or "" for ascii
    count: int
    dtype: np.dtype  # of one vertex
    size: int  # bytes before the first vertex


def write_ply(file: str | os.PathLike, gaussians: Gaussians) -> None:
    """Writes Gaussians as a binary little-endian PLY; a file that is there is replaced, as a whole or not at all.

    Raises:
        DataError: The Gaussians are not valid.
    """
    validate_gaussians(gaussians, file)
    n, rest = len(gaussians), 3 * (gaussians.sh.shape[1] - 1)
    names = (*POSITION, *NORMAL, *COLOR, *(f"f_rest_{i}" for i in range(rest)), "opacity", *SCALE, *ROTATION)
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {n}", *(f"property float {name}" for name in names)]
    higher = np.swapaxes(gaussians.sh[:, 1:], 1, 2).reshape(n, rest)
    columns = (gaussians.means, np.zeros((n, 3)), gaussians.sh[:, 0], higher, gaussians.opacities[:, None], gaussians.scales)
    table = np.concatenate((*columns, gaussians.quats), axis=1, dtype="<f4")
    part = Path(file).with_name(f".{Path(file).name}.part")
    try:
        with part.open("wb") as stream:
            stream.write("\n".join([*lines, "end_header", ""]).encode())
            stream.write(table.data if n else b"")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def read_ply(file: str | os.PathLike) -> Gaussians:
    """Returns the Gaussians of a PLY file: ascii or binary of either byte order, properties in any order and of any number type.

    Raises:
        DataError: No PLY of Gaussians: attributes missing, another number of vertices than claimed, values that are not finite.
    """
    file = Path(file)
    try:
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            header = _read_header(stream, file)
            degree = _sh_degree(header.dtype.names, file)
            _check_size(header, size, file)
            columns = _Columns(header.count, degree)
            start = 0
            for chunk in _chunks(stream, header, file):
                start = columns.fill(chunk, start)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", file=file) from error
    return validate_gaussians(columns.gaussians, file)


class _Columns:
    """Arrays that are filled with vertices as they are read."""

    def __init__(self, count: int, degree: int):
        bands = (degree + 1) ** 2
        shapes = (count, 3), (count, 4), (count, 3), (count,), (count, bands, 3)
        self.gaussians = Gaussians(*(np.empty(shape, np.float32) for shape in shapes))
        self._rest = [(f"f_rest_{c * (bands - 1) + k - 1}", k, c) for c in range(3) for k in range(1, bands)]

    def fill(self, chunk: np.ndarray, start: int) -> int:
        """Copies structured vertices and returns where the next ones go."""
        g, rows = self.gaussians, slice(start, start + len(chunk))
        with np.errstate(over="ignore", invalid="ignore"):  # a double too large becomes infinite, which is refused at the end
            for array, names in ((g.means, POSITION), (g.quats, ROTATION), (g.scales, SCALE)):
                for i, name in enumerate(names):
                    array[rows, i] = chunk[name]
            g.opacities[rows] = chunk["opacity"]
            for c, name in enumerate(COLOR):
                g.sh[rows, 0, c] = chunk[name]
            for name, k, c in self._rest:
                g.sh[rows, k, c] = chunk[name]
        return rows.stop


def _read_header(stream: BinaryIO, file: Path) -> _Header:
    head = stream.read(MAX_HEADER_BYTES)
    if not head.startswith((b"ply\n", b"ply\r\n")):
        raise DataError("is no PLY: it does not begin with 'ply'", file=file, field="header", remedy=EXPORT)
    end = head.find(b"\nend_header")
    size = head.find(b"\n", end + 1) + 1
    if end < 0 or not size:
        raise DataError(f"has no end_header in its first {MAX_HEADER_BYTES} bytes", file=file, field="header", remedy=EXPORT)
    lines = [line.split() for line in head[:end].decode("ascii", "replace").splitlines()[1:]]
    lines = [words for words in lines if words and words[0] not in ("comment", "obj_info")]
    if not lines or len(lines[0]) != 3 or lines[0][0] != "format" or lines[0][1] not in FORMATS or lines[0][2] != "1.0":
        found = " ".join(lines[0])[:60] if lines else ""
        raise DataError(f"{found!r} must be 'format', one of {', '.join(FORMATS)}, '1.0'", file=file, field="header.format")
    order = FORMATS[lines[0][1]]
    count, properties = _read_vertex(lines[1:], file)
    stream.seek(size)
    return _Header(order, count, np.dtype([(name, (order or "<") + code) for name, code in properties.items()]), size)


def _read_vertex(lines: list[list[str]], file: Path) -> tuple[int, dict[str, str]]:
    """Returns the number of vertices and their properties with their types."""
    if not lines or lines[0][:2] != ["element", "vertex"] or len(lines[0]) != 3 or not lines[0][2].isdecimal():
        found = " ".join(lines[0])[:60] if lines else ""
        problem = f"the first element must be 'element vertex COUNT', is {found!r}"
        raise DataError(problem, file=file, field="header.element", remedy=EXPORT)
    properties: dict[str, str] = {}
    for words in lines[1:]:
        if words[0] == "element":
            break
        if len(words) != 3 or words[0] != "property" or words[1] not in TYPES:
            problem = f"{' '.join(words)[:60]!r} must be 'property', a number type, a name"
            raise DataError(problem, file=file, field="header.property", remedy=EXPORT)
        if words[2] in properties or len(properties) == MAX_PROPERTIES:
            problem = f"{words[2][:40]!r} appears twice" if words[2] in properties else f"more than {MAX_PROPERTIES}"
            raise DataError(problem, file=file, field="header.property", remedy=EXPORT)
        properties[words[2]] = TYPES[words[1]]
    missing = [name for name in REQUIRED if name not in properties]
    if missing:
        raise DataError(f"has no attributes {', '.join(missing)}", file=file, field="header.property", remedy=EXPORT)
    return int(lines[0][2][:20]), properties


def _sh_degree(names: tuple[str, ...], file: Path) -> int:
    rest = {name for name in names if name.startswith("f_rest_")}
    for degree in range(MAX_SH_DEGREE + 1):
        if rest == {f"f_rest_{i}" for i in range(3 * ((degree + 1) ** 2 - 1))}:
            return degree
    problem = f"{len(rest)} attributes f_rest_*, not 0, 9, 24 or 45 numbered from 0"
    raise DataError(problem, file=file, field="header.property", remedy=EXPORT)


def _check_size(header: _Header, size: int, file: Path) -> None:
    if header.count > MAX_GAUSSIANS:
        problem = f"claims {header.count} vertices, the limit is {MAX_GAUSSIANS}"
        raise DataError(problem, file=file, field="header.element", remedy="Cut the scene into smaller ones")
    least = header.dtype.itemsize if header.order else 2 * len(header.dtype.names)  # ascii: a digit and a space for each
    need, found = header.count * least - (not header.order), size - header.size
    if need > found:
        problem = f"claims {header.count} vertices, at least {need} bytes; {found} follow the header"
        raise DataError(problem, file=file, field="header.element", remedy=CUT)


def _chunks(stream: BinaryIO, header: _Header, file: Path):
    """Yields structured arrays of vertices until all that the header counts are read."""
    for start in range(0, header.count, CHUNK):
        count = min(CHUNK, header.count - start)
        if header.order:
            chunk = np.fromfile(stream, header.dtype, count)
            if len(chunk) != count:  # it shrank while it was read
                raise DataError(f"ends after {start + len(chunk)} of {header.count} vertices", file=file, remedy=CUT)
            yield chunk
        else:
            yield _read_lines(stream, header, start, count, file)


def _read_lines(stream: BinaryIO, header: _Header, start: int, count: int, file: Path) -> np.ndarray:
    """Returns vertices from lines of numbers."""
    names, chunk = header.dtype.names, np.empty(count, [(name, "f8") for name in header.dtype.names])
    longest = 32 * len(names) + 2
    rows = chunk.view("f8").reshape(count, len(names))
    for i in range(count):
        line = stream.readline(longest)
        if len(line) == longest and not line.endswith(b"\n"):
            problem = f"vertex {start + i} has more than {longest} characters"
            raise DataError(problem, file=file, field="vertex", remedy=EXPORT)
        words = line.split()
        if len(words) != len(names):
            problem = f"vertex {start + i} has {len(words)} of {len(names)} values"
            raise DataError(problem, file=file, field="vertex", remedy=CUT)
        try:
            rows[i] = words
        except ValueError as error:
            raise DataError(f"vertex {start + i} has a value that is no number", file=file, field="vertex", remedy=CUT) from error
    return chunk
