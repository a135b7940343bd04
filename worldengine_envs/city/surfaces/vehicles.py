"""Bodies of vehicles, in their own frame: x forward, y left, z up from the middle of the box."""

from __future__ import annotations

from dataclasses import dataclass

from worldengine_envs.city.surfaces.parts import Parts
from worldengine_envs.city.surfaces.textures import Texture
from worldengine_envs.city.surfaces.types import Glow

TYRE, TRIM = (0.09, 0.09, 0.10), (0.13, 0.13, 0.14)
HEADLIGHT, TAIL_LIGHT = (0.88, 0.89, 0.86), (0.52, 0.07, 0.06)
HEADLIGHT_GLOW, TAIL_LIGHT_GLOW = (1.0, 0.97, 0.85), (0.92, 0.12, 0.08)
PLATE = (0.92, 0.92, 0.88)

PAINTS = {
    "white": (0.90, 0.90, 0.89),
    "black": (0.10, 0.10, 0.12),
    "silver": (0.66, 0.68, 0.70),
    "grey": (0.36, 0.38, 0.41),
    "blue": (0.13, 0.27, 0.56),
    "red": (0.66, 0.10, 0.09),
    "green": (0.15, 0.34, 0.23),
    "sand": (0.69, 0.62, 0.49),
}


@dataclass(frozen=True)
class Body:
    """Proportions of a car with a bonnet: fractions of its length, width and height, from the rear and from the ground."""

    size: tuple[float, float, float]  # [m]
    waist: float  # top of the lower body
    cabin: tuple[float, float]  # the cabin's bottom along the length
    roof: tuple[float, float]  # its top along the length
    wheel: float = 0.66  # diameter [m]


BODIES = {
    "hatchback": Body((3.95, 1.72, 1.50), 0.60, (0.03, 0.76), (0.10, 0.56), 0.62),
    "sedan": Body((4.70, 1.86, 1.46), 0.59, (0.15, 0.76), (0.28, 0.58)),
    "suv": Body((4.80, 1.92, 1.68), 0.61, (0.02, 0.78), (0.08, 0.62), 0.74),
    "minivan": Body((5.10, 1.96, 1.82), 0.55, (0.015, 0.86), (0.06, 0.68), 0.70),
}


def car(body: Body, paint) -> Parts:
    """Returns a car with four doors."""
    parts, (length, width, height) = Parts(), body.size
    bottom = -0.5 * height
    waist, sill = bottom + body.waist * height, bottom + 0.16 * height

    def x(fraction: float) -> float:
        return (fraction - 0.5) * length

    parts.box((0.0, 0.0, 0.5 * (sill + waist)), (0.965 * length, width, waist - sill), paint)
    parts.box((0.0, 0.0, sill + 0.08 * height), (length, 0.96 * width, 0.19 * height), tuple(0.82 * c for c in paint))
    parts.box((0.0, 0.0, sill), (0.9 * length, 0.9 * width, 0.1 * height), TRIM)
    _cabin(parts, body, paint, waist, x)
    for along in (0.185, 0.81):
        parts.cylinder((x(along), 0.0, bottom + 0.5 * body.wheel), body.wheel, 1.01 * width, TYRE, Texture.WHEEL, axis="y")
    _lights(parts, length, width, 0.5 * (sill + waist) + 0.08 * height, waist - sill)
    return parts


def _cabin(parts: Parts, body: Body, paint, waist: float, x) -> None:
    """Adds two slanted blocks of glass, one leaning back, one leaning forward, under a roof in the colour of the body."""
    length, width, height = body.size
    (rear, front), (roof_rear, roof_front) = body.cabin, body.roof
    top = 0.5 * height - 0.03
    tall, middle = top - waist, 0.5 * (waist + top)
    half = 0.5 * (roof_rear + roof_front)  # both blocks reach under the middle of the roof
    for start, stop, lean, wide in ((rear, half, roof_rear - rear, 0.88), (half, front, roof_front - front, 0.89)):
        at = (x(0.5 * (start + stop + lean)), 0.0, middle)
        parts.box(at, ((stop - start) * length, wide * width, tall), paint, Texture.CABIN, lean=lean * length)
    parts.box((x(half), 0.0, top), ((roof_front - roof_rear) * length, 0.84 * width, 0.06), paint)


def _lights(parts: Parts, length: float, width: float, z: float, tall: float) -> None:
    """Adds head and tail lights, grille and plates."""
    front, size = 0.485 * length, (0.05 * length, 0.24 * width, 0.2 * tall)
    for side in (-0.36, 0.36):
        at = side * width
        parts.box((front - 0.018 * length, at, z), size, HEADLIGHT, glow=HEADLIGHT_GLOW, glow_when=Glow.DARK)
        parts.box((-front + 0.018 * length, at, z + 0.05), size, TAIL_LIGHT, glow=TAIL_LIGHT_GLOW, glow_when=Glow.DARK)
    parts.box((front, 0.0, z - 0.05 * tall), (0.01 * length, 0.4 * width, 0.22 * tall), TRIM)
    parts.box((-front - 0.004, 0.0, z - 0.1 * tall), (0.01 * length, 0.28 * width, 0.16 * tall), PLATE)


def van(size, paint, glazed: bool) -> Parts:
    """Returns a delivery van (closed sides) or a minibus (windows all along)."""
    parts, (length, width, height) = Parts(), size
    bottom = -0.5 * height
    belt = bottom + 0.55 * height
    parts.box((-0.05 * length, 0.0, 0.06 * height), (0.86 * length, width, 0.86 * height), paint)
    parts.box((0.42 * length, 0.0, bottom + 0.32 * height), (0.12 * length, 0.98 * width, 0.36 * height), paint)
    nose = 0.12 * length
    parts.box(
        (0.37 * length, 0.0, belt + 0.16 * height), (nose, 0.9 * width, 0.34 * height), paint, Texture.CABIN, lean=-0.55 * nose
    )
    parts.box((0.20 * length, 0.0, belt + 0.16 * height), (0.2 * length, 1.01 * width, 0.26 * height), paint, Texture.CABIN)
    if glazed:
        parts.box((-0.2 * length, 0.0, belt + 0.16 * height), (0.54 * length, 1.01 * width, 0.26 * height), paint, Texture.CABIN)
    parts.box((-0.482 * length, 0.0, belt + 0.14 * height), (0.02, 0.7 * width, 0.26 * height), (0.14, 0.16, 0.19))
    for along in (-0.31, 0.31):
        parts.cylinder((along * length, 0.0, bottom + 0.36), 0.72, 1.01 * width, TYRE, Texture.WHEEL, axis="y")
    _lights(parts, length, width, bottom + 0.36 * height, 0.4 * height)
    return parts


def truck(size, paint) -> Parts:
    """Returns a lorry: cab and box."""
    parts, (length, width, height) = Parts(), size
    bottom = -0.5 * height
    parts.box(
        (-0.13 * length, 0.0, bottom + 0.61 * height), (0.74 * length, width, 0.78 * height), (0.82, 0.82, 0.80), Texture.STONE
    )
    parts.box((0.385 * length, 0.0, bottom + 0.44 * height), (0.21 * length, 0.96 * width, 0.62 * height), paint)
    parts.box((0.395 * length, 0.0, bottom + 0.57 * height), (0.205 * length, 0.98 * width, 0.26 * height), paint, Texture.CABIN)
    parts.box((-0.02 * length, 0.0, bottom + 0.19 * height), (0.94 * length, 0.8 * width, 0.1 * height), TRIM)
    for along in (-0.36, -0.2, 0.36):
        parts.cylinder((along * length, 0.0, bottom + 0.5), 1.0, width, TYRE, Texture.WHEEL, axis="y")
    _lights(parts, 1.02 * length, width, bottom + 0.24 * height, 0.35 * height)
    return parts


def bus(size, paint) -> Parts:
    """Returns a city bus."""
    parts, (length, width, height) = Parts(), size
    bottom = -0.5 * height
    parts.box((0.0, 0.0, bottom + 0.54 * height), (length, 0.98 * width, 0.86 * height), paint)
    parts.box((0.0, 0.0, bottom + 0.62 * height), (0.95 * length, width, 0.36 * height), TRIM, Texture.CABIN)
    for end in (-1.0, 1.0):
        parts.box(
            (end * 0.495 * length, 0.0, bottom + 0.62 * height), (0.02 * length, 0.9 * width, 0.42 * height), (0.13, 0.16, 0.19)
        )
    parts.box(
        (0.495 * length, 0.0, bottom + 0.91 * height),
        (0.012 * length, 0.6 * width, 0.09 * height),
        TRIM,
        glow=(0.95, 0.65, 0.15),
        glow_when=Glow.DARK,
    )
    for along in (-0.27, 0.3):
        parts.cylinder((along * length, 0.0, bottom + 0.5), 1.0, width, TYRE, Texture.WHEEL, axis="y")
    _lights(parts, 1.04 * length, width, bottom + 0.24 * height, 0.3 * height)
    return parts
