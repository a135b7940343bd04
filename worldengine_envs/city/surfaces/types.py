"""Surfaces as plain arrays: shapes with a texture, the ground with its markings, and the light on them.

Colours are display values in [0, 1] (not linear light), so that what is blended, ray-cast or learned is the same number.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from worldengine_envs.scenario.types import AgentType


class Shape(IntEnum):
    """Unit shapes."""

    BOX = 0  # |x|, |y|, |z| <= 1
    ELLIPSOID = 1  # |p| <= 1
    CYLINDER = 2  # x^2 + y^2 <= 1, |z| <= 1


class Glow(IntEnum):
    """When a surface shines by itself."""

    NEVER = 0
    DARK = 1  # at dusk and at night
    ALWAYS = 2


PRIMITIVE = np.dtype(
    [
        ("shape", np.int32),  # Shape
        ("texture", np.int32),  # city.surfaces.textures.Texture
        ("glow_when", np.int32),  # Glow
        ("seed", np.uint32),  # of the texture
        ("from_unit", np.float64, (3, 4)),  # unit shape -> its frame [m]: linear map beside offset
        ("to_unit", np.float64, (3, 4)),  # the inverse
        ("color", np.float32, (3,)),
        ("glow", np.float32, (3,)),  # colour where it shines
    ],
    align=True,
)


@dataclass(frozen=True, slots=True)
class Model:
    """What an actor looks like, in its own frame: x forward, y left, z up, origin at the centre of its box."""

    name: str  # "sedan_red"
    type: AgentType
    size: tuple[float, float, float]  # length, width, height [m] that the primitives fill; actors stretch it to their box
    primitives: np.ndarray  # (n,) PRIMITIVE
    shadow: float  # how much darker the ground is right under it, 0 to 1


class Ground(NamedTuple):
    """The ground z = 0: an area map, and stripes painted over it in order."""

    origin: np.ndarray  # (2,) float64 x, y [m] of the corner of cell 0, 0
    cell: float  # [m]
    area: np.ndarray  # (rows, columns) uint8 city.surfaces.ground.Area; row along y
    stripe: np.ndarray  # (stripes, 6) float64 rectangles: centre x, y [m], cos, sin of the long axis, half length, half width [m]
    stripe_color: np.ndarray  # (stripes, 3) float32
    bin_size: float  # [m]; bins cover the same rectangle as the area map
    bin_offsets: np.ndarray  # (bin rows * bin columns + 1,) int32 into bin_stripes
    bin_stripes: np.ndarray  # (entries,) int32 stripes that touch a bin, in their order
    bin_columns: int
    edge: np.ndarray  # (rows, columns) float32 distance of a cell's centre from the road's edge [m], negative on the road
    lit: np.ndarray  # (rows, columns) float32 share of a street lamp's light that reaches the ground of a cell
    shadow: np.ndarray  # (rows, columns) float32 how much darker the ground is beside what stands, 0 to 1


class Light(NamedTuple):
    """The light of a time of day."""

    ambient: np.ndarray  # (3,) float32 factor for a surface that faces the horizon
    above: np.ndarray  # (3,) float32 added for a surface that faces up, taken away for one that faces down
    sun: np.ndarray  # (3,) float32 factor at right angles to the sun; static surfaces only: actors turn, their colours do not
    sun_direction: np.ndarray  # (3,) float64 unit vector towards the sun
    zenith: np.ndarray  # (3,) float32 colour of the sky
    horizon: np.ndarray  # (3,) float32
    is_dark: bool  # lamps, windows and vehicle lights shine
    lamp: np.ndarray  # (3,) float32 colour added right under a street lamp, 0 by day


@dataclass(frozen=True)
class Street:
    """Everything of a street that does not move."""

    ground: Ground
    primitives: np.ndarray  # (n,) PRIMITIVE in the scenario's frame
    lamps: np.ndarray  # (lamps, 3) float64 x, y, z [m] of street lamps
    path: np.ndarray  # (points, 2) float64 x, y [m] of the logged ego and its route: where cameras will be


TIMES_OF_DAY = ("day", "dusk", "night")
