"""Checks that readers share: numbers of untrusted files become finite arrays of the right shape, or one clear error."""

from __future__ import annotations

import json

import numpy as np

from worldengine_envs.errors import DataError

MAX_COORDINATE = 1e8  # [m] from the log's own origin
MAX_SPEED = 200.0  # [m/s]
MAX_SIZE = 100.0  # [m]
MAX_STEPS, MAX_TRACKS, MAX_FEATURES, MAX_POINTS = 20_000, 20_000, 100_000, 5_000_000
MAX_JSON_BYTES = 64 * 2**20
MAX_JSON_VALUES = 5_000_000  # commas and brackets: what the parser would make an object of


def finite(values: np.ndarray, valid: np.ndarray, field: str, limit: float) -> np.ndarray:
    """Returns the rows of values (steps, ...) that are valid (steps,).

    Raises:
        DataError: Some of them are NaN, infinite or larger than ``limit``.
    """
    values = values[valid]
    bad = ~np.isfinite(values) | (np.abs(values) > limit)
    if bad.any():
        raise DataError(f"{int(bad.sum())} values of valid steps are NaN, infinite or beyond {limit:g}", field=field)
    return values


def points_xy(points, field: str) -> np.ndarray:
    """Returns (n, 2) x, y of a list of records with x and y; NaN and absurd values stay.

    Raises:
        DataError: It is something else.
    """
    try:
        return np.array([(point["x"], point["y"]) for point in points], np.float64).reshape(-1, 2)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DataError("must be a list of points with x and y", field=field) from None


def coordinates(xy: np.ndarray, field: str) -> np.ndarray:
    """Returns points (n, 2) [m] of the map as they are.

    Raises:
        DataError: Some are NaN, infinite or further than 1e8 m from the origin.
    """
    if not np.isfinite(xy).all() or (np.abs(xy) > MAX_COORDINATE).any():
        raise DataError("holds NaN, infinite or absurd coordinates", field=field)
    return xy


def at_most(count: int, limit: int, field: str) -> None:
    """Raises DataError where a file has more of something than the limit."""
    if count > limit:
        raise DataError(f"{count} entries, more than {limit}", field=field)


def load_json(data: bytes) -> dict:
    """Returns the object of a JSON text.

    Raises:
        DataError: It is too large, too deep, or no JSON object.
    """
    if len(data) > MAX_JSON_BYTES:
        raise DataError(f"more than {MAX_JSON_BYTES} bytes of JSON")
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:
        raise DataError(f"more than {MAX_JSON_VALUES} values of JSON")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"truncated or no JSON ({type(error).__name__}: {str(error)[:80]})") from None
    if not isinstance(content, dict):
        raise DataError(f"{type(content).__name__} instead of an object")
    return content
