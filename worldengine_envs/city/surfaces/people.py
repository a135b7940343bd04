"""People on foot and on bicycles, in their own frame: x forward, y left, z up from the middle of the box."""

from __future__ import annotations

from worldengine_envs.city.surfaces.parts import Parts
from worldengine_envs.city.surfaces.textures import Texture
from worldengine_envs.city.surfaces.types import Glow

SHOE, RUBBER, STEEL = (0.10, 0.09, 0.09), (0.08, 0.08, 0.09), (0.45, 0.46, 0.48)
CLOTHES = {  # jacket, trousers, skin
    "red": ((0.75, 0.14, 0.12), (0.16, 0.18, 0.27), (0.83, 0.64, 0.52)),
    "blue": ((0.16, 0.34, 0.66), (0.25, 0.24, 0.23), (0.66, 0.46, 0.34)),
    "yellow": ((0.90, 0.72, 0.14), (0.20, 0.24, 0.36), (0.86, 0.68, 0.56)),
    "white": ((0.88, 0.87, 0.84), (0.30, 0.36, 0.50), (0.45, 0.30, 0.22)),
    "dark": ((0.16, 0.16, 0.18), (0.13, 0.13, 0.15), (0.80, 0.61, 0.49)),
    "green": ((0.22, 0.50, 0.30), (0.46, 0.40, 0.31), (0.72, 0.52, 0.40)),
}


def walker(size, clothes, seed: int) -> Parts:
    """Returns somebody in mid-step who fills the box."""
    parts, (length, width, height) = Parts(), size
    jacket, trousers, skin = clothes

    def z(fraction: float) -> float:
        return (fraction - 0.5) * height

    step, hip, shoulder = 0.30 * length, 0.14 * width, 0.5 * width - 0.06
    for side, ahead in ((1.0, 1.0), (-1.0, -1.0)):
        foot = (ahead * step, side * hip, z(0.03))
        parts.rod((0.0, side * hip, z(0.50)), foot, 0.16 * height / 1.75, trousers)
        parts.box((foot[0] + 0.1 * length, foot[1], z(0.022)), (0.4 * length, 0.11, 0.044 * height), SHOE)
        parts.rod((0.0, side * (shoulder - 0.02), z(0.80)), (-ahead * step, side * shoulder, z(0.47)), 0.11 * height / 1.75, jacket)
        parts.ellipsoid((-ahead * step, side * shoulder, z(0.455)), (0.09, 0.09, 0.11), skin)
    parts.ellipsoid((0.0, 0.0, z(0.66)), (0.52 * length, 0.72 * width, 0.40 * height), jacket)
    parts.box((0.0, 0.0, z(0.60)), (0.38 * length, 0.56 * width, 0.24 * height), jacket)
    head = 0.135 * height
    parts.ellipsoid((0.03 * length, 0.0, z(1.0) - 0.5 * head), (0.95 * head, 0.82 * head, head), skin, Texture.HEAD, seed=seed)
    return parts


def cyclist(size, clothes, paint, seed: int) -> Parts:
    """Returns somebody on a bicycle."""
    parts, (length, width, height) = Parts(), size
    jacket, trousers, skin = clothes
    bottom, wheel = -0.5 * height, 0.38 * length
    axle = bottom + 0.5 * wheel
    rear, front = -0.5 * length + 0.5 * wheel, 0.5 * length - 0.5 * wheel
    crank, saddle, bar = (
        (-0.06 * length, 0.0, axle - 0.02),
        (-0.16 * length, 0.0, bottom + 0.55 * height),
        (0.22 * length, 0.0, bottom + 0.62 * height),
    )
    for x in (rear, front):
        parts.cylinder((x, 0.0, axle), wheel, 0.05, RUBBER, Texture.WHEEL, axis="y")
    for a, b in (
        ((rear, 0.0, axle), crank),
        (crank, saddle),
        (crank, bar),
        (saddle, bar),
        (saddle, (rear, 0.0, axle)),
        (bar, (front, 0.0, axle)),
    ):
        parts.rod(a, b, 0.05, paint)
    parts.box(bar, (0.05, width, 0.05), STEEL)
    hip, neck = (saddle[0], 0.0, saddle[2] + 0.06 * height), (0.08 * length, 0.0, bottom + 0.86 * height)
    for side, down in ((1.0, -0.1), (-1.0, 0.08)):
        y = side * 0.16 * width
        knee, foot = (0.06 * length, y, bottom + (0.45 + 0.5 * down) * height), (-0.05 * length, y, bottom + (0.17 + down) * height)
        parts.rod((hip[0], y, hip[2]), knee, 0.15, trousers)
        parts.rod(knee, foot, 0.12, trousers)
        parts.box((foot[0] + 0.05, y, foot[2]), (0.24, 0.09, 0.08), SHOE)
        parts.rod((neck[0], side * 0.30 * width, neck[2] - 0.06), (bar[0], side * 0.42 * width, bar[2]), 0.10, jacket)
    parts.rod(hip, neck, 0.34, jacket)
    parts.ellipsoid((neck[0] - 0.02, 0.0, neck[2] - 0.08), (0.34, 0.78 * width, 0.34), jacket)
    head = 0.14 * height
    parts.ellipsoid(
        (neck[0] + 0.1, 0.0, 0.5 * height - 0.5 * head), (0.95 * head, 0.85 * head, head), skin, Texture.HEAD, seed=seed
    )
    parts.box(
        (rear - 0.3 * wheel, 0.0, axle + 0.45 * wheel),
        (0.06, 0.08, 0.08),
        (0.5, 0.05, 0.05),
        glow=(0.95, 0.1, 0.08),
        glow_when=Glow.DARK,
    )
    return parts
