"""Reads reference cases of the real PDM scorer (``.npz``, one scene a file; numbers and plain strings only)."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import AgentType, MapLayer, VehicleParameters
from worldengine_envs.scoring.scene import ScoringScene, make_scene, polygons_on_route
from worldengine_envs.simulation.map_index import MapIndexBuilder

_TYPES = {t.name.lower(): t for t in AgentType}
_LAYERS = {layer.name: layer for layer in MapLayer}


def load_case(path: str | Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a case by name. Raises DataError where the file is no such archive; pickles are refused."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"not a readable case ({error})", file=path) from error


def to_local(values: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Returns a copy of ``values`` (..., 2 or more) whose x, y are relative to ``offset`` (2,)."""
    values = np.array(values, dtype=np.float64)
    values[..., :2] -= offset
    return values


def scene_of_case(case: dict[str, np.ndarray]) -> ScoringScene:
    """Returns the scene of a case, in a frame centred on its ego's position (``scene.offset``); headings stay as they are."""
    offset = case["ego_state"][:2].copy()
    layers = np.array([_LAYERS[str(name)] for name in case["map_layers"]], dtype=np.int8)
    builder = MapIndexBuilder()
    builder.add_polygons(to_local(case["map_xy"], offset), case["map_offsets"], layers)
    valid = case["tracks_valid"].astype(bool)
    reference = to_local(case["reference_poses"], offset)
    return make_scene(
        ego_state=to_local(case["ego_state"], offset),
        vehicle=VehicleParameters(),
        map_index=builder.index(),
        m=0,
        on_route=polygons_on_route(layers, case["map_tokens"].tolist(), set(case["route_lane_ids"].tolist())),
        centerline=to_local(case["centerline"], offset),
        tracks=to_local(case["tracks"], offset) * valid[..., None],
        valid=valid,
        types=np.array([_TYPES[str(name)] for name in case["track_types"]], dtype=np.int8),
        tokens=case["track_tokens"].tolist(),
        time_us=int(case["time_us"]),
        reference=(int(case["time_us"]) + 100_000 * np.arange(len(reference)), reference),
        offset=offset,
    )
