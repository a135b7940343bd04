"""Content on a grid of 1 mm and 1e-4 rad: what packs store and what hashes are taken of.

Rounding first makes the hash of a scenario the same on every machine, though sines differ in their last bit.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.schema import FIELDS, METRE, NAMES, Field
from worldengine_envs.scenario.types import (
    CameraRig,
    Lights,
    Route,
    Scenario,
    Tracks,
    VectorMap,
    VehicleParameters,
)

HASH_VERSION = 1
UNKNOWN = {"int32": -(2**31), "int64": -(2**63)}  # NaN on the grid

# Cells are split a little off the middle: half a millimetre is a common value in made roads (half of an odd width), where one
# bit of a sine would decide the side. Errors are below 0.52 cells.
TIE_OFFSET = 1 / 64

EGO_FIELDS = ("length", "width", "wheel_base", "rear_axle_to_center")

Part = Tracks | VectorMap | Lights | Route | CameraRig


def to_grid(values: np.ndarray, per_unit: int | tuple[int, ...], dtype: str = "int32", nan_allowed: bool = False) -> np.ndarray:
    """Returns ``values`` in whole cells.

    Args:
        values: Any shape, float64.
        per_unit: Cells per unit, or one number for each column of the last axis.
        dtype: Integer type of the result.
        nan_allowed: Store NaN as the lowest integer; otherwise NaN raises.

    Raises:
        DataError: A value is not finite or does not fit in ``dtype``.
    """
    missing = np.isnan(values)
    if missing.any() and not nan_allowed:
        raise DataError(f"{int(missing.sum())} NaN values")
    cells = np.floor(np.where(missing, 0.0, values) * np.asarray(per_unit, float) + (0.5 - TIE_OFFSET))
    limit = float(np.iinfo(dtype).max)
    if cells.size and not np.abs(cells).max() < limit:
        raise DataError("a value is infinite or too large to store")
    cells = cells.astype(dtype)
    cells[missing] = UNKNOWN[dtype]
    return cells


def from_grid(cells: np.ndarray, per_unit: int | tuple[int, ...], nan_allowed: bool = False) -> np.ndarray:
    """Returns float64 values of whole cells: the inverse of ``to_grid``."""
    values = cells / np.asarray(per_unit, float)
    if nan_allowed:
        values[cells == UNKNOWN[cells.dtype.name]] = np.nan
    return values


def array_to_grid(values: np.ndarray, spec: Field) -> np.ndarray:
    """Returns one array of a part as contiguous little-endian integers (or booleans)."""
    if spec.per_unit is not None:
        values = to_grid(values, spec.per_unit, spec.grid_dtype, spec.nan_allowed)
    return np.ascontiguousarray(values, np.dtype(spec.grid_dtype).newbyteorder("<"))


def array_from_grid(cells: np.ndarray, spec: Field) -> np.ndarray:
    """Returns one array of a part in its memory type."""
    if spec.per_unit is not None:
        return from_grid(cells, spec.per_unit, spec.nan_allowed)
    return cells.astype(spec.dtype, copy=False)


def quantised_part(part: Part) -> Part:
    """Returns a part with every number on its grid: what writing it to a pack and reading it back gives."""
    fields = FIELDS[type(part)]
    return replace(part, **{name: array_from_grid(array_to_grid(getattr(part, name), f), f) for name, f in fields.items()})


def quantised_number(value: float, per_unit: int = METRE) -> float:
    """Returns one number on its grid."""
    return float(from_grid(to_grid(np.array([value], float), per_unit, "int64"), per_unit)[0])


def quantised_ego(ego: VehicleParameters) -> VehicleParameters:
    """Returns the ego's size in whole millimetres."""
    return VehicleParameters(*(quantised_number(getattr(ego, name)) for name in EGO_FIELDS))


def quantised(scenario: Scenario) -> Scenario:
    """Returns the scenario that a pack gives back after ``scenario`` was written to it (its hash is the same).

    Raises:
        DataError: A value is not finite or too large.
    """
    rig = scenario.camera_rig
    return replace(
        scenario,
        tracks=quantised_part(scenario.tracks),
        vector_map=quantised_part(scenario.vector_map),
        lights=quantised_part(scenario.lights),
        route=quantised_part(scenario.route),
        ego=quantised_ego(scenario.ego),
        camera_rig=None if rig is None else quantised_part(rig),
    )


def digest(part: Part) -> str:
    """Returns the SHA-256 (hex) of a part's names and of its arrays on the grid: the same for ``quantised_part(part)``."""
    sha = hashlib.sha256(type(part).__name__.encode())
    if type(part) in NAMES:
        sha.update(json.dumps(getattr(part, NAMES[type(part)][0])).encode())
    for name, spec in FIELDS[type(part)].items():
        cells = array_to_grid(getattr(part, name), spec)
        sha.update(f"{name} {cells.dtype.str} {cells.shape};".encode())
        sha.update(cells)
    return sha.hexdigest()


class Digests:
    """Digests of parts that many scenarios share, each computed once."""

    def __init__(self):
        self._known = {}

    def of(self, part: Part) -> str:
        """Returns ``digest(part)``."""
        known = self._known.get(id(part))
        if known is None:  # the part is kept beside its digest, so that its id is not given to another
            known = self._known[id(part)] = (part, digest(part))
        return known[1]


def scenario_hash(scenario: Scenario, digests: Digests | None = None) -> str:
    """Returns the SHA-256 (hex) of a scenario's content on the grid, the same on every machine.

    It covers what can be driven in: tracks, map, lights, route, start, ego, cameras, the Gaussian scene's name, and the origin.
    Labels are left out (id, split, tags, parent, reference): they are properties of the pack.

    Args:
        scenario: Rounded or not, the hash is the same.
        digests: Remembers the digests of parts, where many scenarios share them.

    Raises:
        DataError: A value is not finite or too large, with the scenario's id.
    """
    digests = digests or Digests()
    origin, rig = scenario.origin, scenario.camera_rig
    try:
        content = {
            "version": HASH_VERSION,
            "tracks": digests.of(scenario.tracks),
            "vector_map": digests.of(scenario.vector_map),
            "lights": digests.of(scenario.lights),
            "route": digests.of(scenario.route),
            "camera_rig": None if rig is None else digests.of(rig),
            "gaussian_scene": scenario.gaussian_scene,
            "start_step": int(scenario.start_step),
            "ego": [_cell(getattr(scenario.ego, name)) for name in EGO_FIELDS],
            "origin": [origin.dataset, origin.log, origin.token, origin.licence, [_cell(x) for x in origin.offset]],
            "time_us": int(origin.time_us),
            "derived": list(origin.derived),
        }
    except DataError as error:
        raise DataError(error.problem, scenario=scenario.id, remedy="Check the scenario with validate()") from error
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _cell(value: float) -> int:
    return int(to_grid(np.array([value], float), METRE, "int64")[0])
