"""The arrays of each part of a scenario: dtype, dimensions and the grid on which they are stored and hashed.

One table serves validation, quantisation, hashing and the files of a pack, so that they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass

from worldengine_envs.scenario.types import CameraRig, Lights, Route, Tracks, VectorMap

METRE = 1_000  # grid lines per metre or metre per second: 1 mm, 1 mm/s
RADIAN = 10_000  # grid lines per radian: 1e-4 rad
FINE = 1_000_000_000  # camera geometry: 1e-9


@dataclass(frozen=True, slots=True)
class Field:
    """One array of a part.

    Args:
        dtype: In memory: "int8", "int32", "bool" or "float64".
        shape: Fixed sizes and names of dimensions; "lanes+1" is one more than the size called "lanes".
        per_unit: Grid lines per unit, one number or one for each column of the last axis; only for "float64".
        difference: Axis along which differences are stored, because neighbours are alike; None stores values.
        nan_allowed: NaN stands for unknown.
    """

    dtype: str
    shape: tuple[str | int, ...]
    per_unit: int | tuple[int, ...] | None = None
    difference: int | None = None
    nan_allowed: bool = False

    @property
    def grid_dtype(self) -> str:
        """Integer type of the array on its grid."""
        if self.dtype != "float64":
            return self.dtype
        return "int64" if self.per_unit == FINE else "int32"


FIELDS: dict[type, dict[str, Field]] = {
    Tracks: {
        "types": Field("int8", ("agents",)),
        "state": Field("float64", ("agents", "steps", 5), (METRE, METRE, RADIAN, METRE, METRE), difference=1),
        "size": Field("float64", ("agents", "steps", 3), METRE, difference=1),
        "valid": Field("bool", ("agents", "steps")),
    },
    VectorMap: {
        "lane_is_connector": Field("bool", ("lanes",)),
        "lane_speed_limit": Field("float64", ("lanes",), METRE, nan_allowed=True),
        "lane_roadblock": Field("int32", ("lanes",)),
        "lane_left": Field("int32", ("lanes",)),
        "lane_right": Field("int32", ("lanes",)),
        "lane_polygon": Field("int32", ("lanes",)),
        "centerline": Field("float64", ("points", 2), METRE, difference=0),
        "centerline_offsets": Field("int32", ("lanes+1",), difference=0),
        "successors": Field("int32", ("links",)),
        "successor_offsets": Field("int32", ("lanes+1",), difference=0),
        "polygon_xy": Field("float64", ("vertices", 2), METRE, difference=0),
        "polygon_offsets": Field("int32", ("polygons+1",), difference=0),
        "polygon_layer": Field("int8", ("polygons",)),
    },
    Lights: {
        "lanes": Field("int32", ("lights",)),
        "state": Field("int8", ("lights", "steps")),
    },
    Route: {
        "lanes": Field("int32", ("lanes",)),
        "centerline": Field("float64", ("points", 3), (METRE, METRE, RADIAN), difference=0),
        "goal": Field("float64", (2,), METRE),
    },
    CameraRig: {
        "camera_to_ego": Field("float64", ("cameras", 4, 4), FINE),
        "intrinsics": Field("float64", ("cameras", 3, 3), FINE),
        "distortion": Field("float64", ("cameras", 5), FINE),
        "image_size": Field("int32", ("cameras", 2)),
    },
}
"""Arrays by part."""

NAMES: dict[type, tuple[str, str]] = {
    Tracks: ("tokens", "agents"),
    VectorMap: ("lane_tokens", "lanes"),
    CameraRig: ("names", "cameras"),
}
"""Field of names that a part has, and the dimension that it counts."""


def dimension_of(size: str | int, dims: dict[str, int]) -> int:
    """Returns the length of one axis, given the sizes of the named dimensions."""
    if isinstance(size, int):
        return size
    return dims[size[:-2]] + 1 if size.endswith("+1") else dims[size]


def dimension_names(part_type: type) -> tuple[str, ...]:
    """Returns the names of the dimensions that a part's arrays have, in order of appearance."""
    names = {}
    for spec in FIELDS[part_type].values():
        names.update((size.removesuffix("+1"), None) for size in spec.shape if isinstance(size, str))
    return tuple(names)
