"""Reading the small text files that come with images: numbers in rows, JSON, folders of numbered images."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np

from worldengine_envs.errors import DataError

MALFORMED = (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError)  # what content of other kinds raises
IMAGES = (".png", ".jpg", ".jpeg")
MAX_SWEEP_BYTES = 2**28  # unpacked: ten times the largest sweep of any LiDAR


def read_json(path: Path):
    """Returns what a JSON file holds.

    Raises:
        DataError: It is missing or no JSON.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"is no JSON ({error})", file=path) from None


def read_text(path: Path) -> str:
    """Returns the text of a file.

    Raises:
        DataError: It is missing or no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError("is missing", file=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error})", file=path) from None


@contextmanager
def telling_malformed(path: Path) -> Iterator[None]:
    """Turns what content of other kinds raises into a DataError that names the file; a DataError stays what it is."""
    try:
        yield
    except DataError:
        raise
    except MALFORMED as error:
        raise DataError(f"malformed: {type(error).__name__} {error}", file=path) from None


def beside(path: Path, name: str) -> Path:
    """Returns the file that ``path`` names, which lies in the same folder or below it (a link may lead elsewhere).

    Raises:
        DataError: It lies elsewhere.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(f"names {name[:80]!r}, out of its folder", file=path, remedy="Put the file or a link beside the log")
    return path.parent / name


def read_poses(path: Path) -> np.ndarray:
    """Returns (rows, 4, 4) float64 poses written as the 12 numbers of a 3x4 matrix in each row.

    Raises:
        DataError: A row has not 12 numbers.
    """
    rows = [line.split() for line in read_text(path).splitlines() if line.strip()]
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    for i, row in enumerate(rows):
        poses[i, :3] = numbers(row, 12, path, f"row {i + 1}").reshape(3, 4)
    poses[~np.isfinite(poses)] = np.nan
    return poses


def numbers(words, count: int, path: Path, field: str) -> np.ndarray:
    """Returns (count,) float64.

    Raises:
        DataError: They are not so many, or no numbers.
    """
    try:
        values = np.array([float(word) for word in words], np.float64)
    except (TypeError, ValueError):
        raise DataError("holds something that is no number", file=path, field=field) from None
    if len(values) != count:
        raise DataError(f"{len(values)} numbers where there are to be {count}", file=path, field=field)
    return values


def matrix(rows, shape: tuple[int, int], path: Path, field: str) -> np.ndarray:
    """Returns a float64 matrix of the given shape; what is not finite is NaN.

    Raises:
        DataError: It is none.
    """
    try:
        values = np.asarray(rows, np.float64)
    except (TypeError, ValueError):
        raise DataError("is no matrix of numbers", file=path, field=field) from None
    if values.shape != shape:
        raise DataError(f"has shape {values.shape}, not {shape}", file=path, field=field)
    return np.where(np.isfinite(values), values, np.nan)


def numbered(folder: Path, suffixes: tuple[str, ...] = IMAGES) -> dict[int, Path]:
    """Returns the files of a folder by the number that they are named by; none if there is no folder."""
    if not folder.is_dir():
        return {}
    return {int(p.stem): p for p in sorted(folder.iterdir()) if p.suffix.lower() in suffixes and p.stem.isdecimal()}


def label(name) -> str:
    """Returns a name as scenes allow it: up to 64 letters, digits, "_", "." and "-"."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", str(name))[:64] or "log"


def pose_of(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Returns (4, 4) float64 of (3, 3) and (3,)."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, translation
    return pose


def yaw_pose(yaw: float, center: np.ndarray) -> np.ndarray:
    """Returns (4, 4) float64: turned about z, at ``center`` (3,); all NaN if one of them is not finite."""
    if not (np.isfinite(yaw) and np.isfinite(center).all()):
        return np.full((4, 4), np.nan)
    cos, sin = np.cos(yaw), np.sin(yaw)
    return pose_of(np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]), center)


def read_array(path: Path, name: str | None, columns: int) -> np.ndarray:
    """Returns (rows, at least ``columns``) numbers of a .npz (the array of that name), .npy or raw float32 file.

    Raises:
        DataError: The file is missing, truncated, or holds something else.
    """
    try:
        if path.suffix == ".npz":
            values = _member(path, name)
        elif path.suffix == ".npy":
            values = np.load(path, mmap_mode="r", allow_pickle=False)  # takes no memory for what the file does not hold
        else:
            values = np.fromfile(path, np.float32).reshape(-1, columns)
    except (OSError, ValueError, EOFError, KeyError, BadZipFile, MemoryError) as error:
        raise DataError(f"cannot be read as a LiDAR sweep ({error})", file=path) from None
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.shape[1] < columns or values.dtype.kind not in "fiu":
        raise DataError("is no sweep: not a table of numbers with a column for each of x, y, z", file=path)
    return values


def _member(path: Path, name: str) -> np.ndarray:
    """Returns an array of a .npz; ValueError where it would be too large."""
    with ZipFile(path) as archive:
        if archive.getinfo(f"{name}.npy").file_size > MAX_SWEEP_BYTES:
            raise ValueError(f"more than {MAX_SWEEP_BYTES} bytes")
    with np.load(path, allow_pickle=False) as arrays:
        return arrays[name]
