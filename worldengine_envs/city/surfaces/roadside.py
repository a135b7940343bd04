"""What stands beside the road: lamps and trees along the kerbs, houses, gardens and hedges along the pavements."""

from __future__ import annotations

import math
from random import Random
from typing import NamedTuple

import numpy as np

from worldengine_envs.city.surfaces import buildings, fields, greenery
from worldengine_envs.city.surfaces.lanes import NO_KERB, STEP, LaneSamples
from worldengine_envs.city.surfaces.light import LIGHTS
from worldengine_envs.city.surfaces.parts import Parts
from worldengine_envs.city.surfaces.textures import PAVEMENT
from worldengine_envs.city.surfaces.types import Glow, Ground, Shape

KERB_STRIP = 0.45  # from the kerb to the middle of lamps and trees [m]
LAMP_EVERY, LAMP_HEIGHT, LAMP_ARM = 30.0, 7.5, 1.9  # [m]
LAMP_APART = 18.0  # at least [m]
LAMP_REACH, LAMP_FAR = 11.0, 30.0  # of its light on the ground [m]
CLEAR = 0.45  # around tracks, where nothing stands [m]
SHADOW, SHADOW_BLUR = 0.30, 2  # strength, and how often it is smoothed
NEAR_PATH = 75.0  # where gaps are filled [m]
BLOCK_PITCH, HOUSE_PITCH, TREE_PITCH = 24.0, 18.0, 10.0  # of the lattices [m]
POLE = (0.34, 0.36, 0.38)


class KerbLine(NamedTuple):
    """A run of kerb beside a lane, point by point."""

    seed: int  # depends on the lane and the side
    s: np.ndarray  # (points,) arclength along the lane [m]
    xy: np.ndarray  # (points, 2) on the kerb [m]
    out: np.ndarray  # (points, 2) direction away from the road
    yaw: np.ndarray  # (points,) of the lane [rad]


def kerb_lines(samples: LaneSamples, seed: int) -> list[KerbLine]:
    """Returns the runs of kerb along the lanes, at least 8 m long each."""
    lines = []
    breaks = (samples.lane[1:] != samples.lane[:-1]) | (np.diff(samples.s) > 1.5 * STEP)
    for side, sign in ((0, 1.0), (1, -1.0)):
        here = samples.kerb[:, side] != NO_KERB
        cuts = np.flatnonzero(breaks | (here[1:] != here[:-1])) + 1
        for run in np.split(np.arange(len(here)), cuts):
            if len(run) * STEP < 8.0 or not here[run[0]]:
                continue
            x, y, cos, sin = samples.pose[run].T
            out = sign * np.stack((-sin, cos), axis=1)
            xy = np.stack((x, y), axis=1) + samples.kerb[run, side][:, None] * out
            lines.append(KerbLine(seed + 7919 * int(samples.lane[run[0]]) + side, samples.s[run], xy, out, np.arctan2(sin, cos)))
    return lines


class Site:
    """The ground that is still free, and what has been put on it."""

    def __init__(self, ground: Ground, tracks):
        self.ground, self.parts, self.lamps = ground, Parts(), []
        self.taken = np.zeros(ground.area.shape, np.uint8)
        fields.take_tracks(self.taken, ground.origin, ground.cell, tracks.state, tracks.size, tracks.valid, CLEAR)

    def keep_clear(self, places: np.ndarray, radius: float) -> None:
        """Keeps squares around places (n, 2 or more) x, y [m] free; rows of NaN are none."""
        for x, y in places[np.isfinite(places[:, 0]), :2]:
            fields.take(self.taken, self.ground.origin, self.ground.cell, x, y, 1.0, 0.0, radius, radius)

    def reserve(self, at, size, yaw: float, least: float, margin: float = 0.3) -> bool:
        """Takes a rectangle if it is free and at least ``least`` [m] from the road; returns whether it was."""
        g = self.ground
        place = (g.origin, g.cell, at[0], at[1], math.cos(yaw), math.sin(yaw), 0.5 * size[0], 0.5 * size[1])
        if not fields.is_free(g.edge, self.taken, *place, least):
            return False
        fields.take(self.taken, *place[:-2], place[-2] + margin, place[-1] + margin)
        return True


def cast_shadows(ground: Ground, primitives: np.ndarray) -> None:
    """Darkens the ground beside boxes and ellipsoids as the sun at noon does; soft, and the same at all times of day."""
    solid = primitives[primitives["shape"] != Shape.CYLINDER]
    fields.cast_shadows(ground.shadow, ground.edge, ground.origin, ground.cell, solid, LIGHTS["day"].sun_direction, SHADOW)
    fields.blur(ground.shadow, SHADOW_BLUR)


def add_lamps(site: Site, line: KerbLine, rng: Random) -> None:
    """Adds street lamps along a kerb, their arms over the road."""
    for k in range(rng.randrange(4, 16), len(line.s), round(LAMP_EVERY / STEP)):
        (ox, oy), yaw = line.out[k], float(line.yaw[k])
        x, y = line.xy[k] + KERB_STRIP * line.out[k]
        near = any(abs(x - lx) + abs(y - ly) < LAMP_APART for lx, ly, _ in site.lamps)
        if near or not site.reserve((x, y), (0.3, 0.3), yaw, 0.1):
            continue
        tip = (x - LAMP_ARM * ox, y - LAMP_ARM * oy, LAMP_HEIGHT)
        site.parts.cylinder((x, y, 0.5 * LAMP_HEIGHT), 0.16, LAMP_HEIGHT, POLE)
        site.parts.rod((x, y, LAMP_HEIGHT - 0.1), tip, 0.10, POLE)
        site.parts.box(
            tip, (0.34, 0.8, 0.16), POLE, yaw=math.atan2(oy, ox) + 0.5 * math.pi, glow=(1.0, 0.93, 0.72), glow_when=Glow.DARK
        )
        site.lamps.append(tip)
        fields.add_lamp(site.ground.lit, site.ground.origin, site.ground.cell, tip[0], tip[1], LAMP_REACH, LAMP_FAR)


def add_street_trees(site: Site, line: KerbLine, rng: Random) -> None:
    """Adds a row of trees at the kerb."""
    pitch, seed = rng.choice((9, 11, 14)), line.seed
    for k in range(rng.randrange(3, 3 + pitch), len(line.s), pitch):
        at = line.xy[k] + (KERB_STRIP + 0.3) * line.out[k]
        if rng.random() < 0.85 and site.reserve(at, (0.4, 0.4), 0.0, 0.2):
            greenery.tree(site.parts, at, rng.uniform(6.0, 8.5), rng.uniform(2.6, 3.4), seed + k)


def add_houses(site: Site, line: KerbLine, rng: Random, is_dense: bool) -> None:
    """Adds houses along the pavement, hedges and trees where there is none."""
    k, seed = rng.randrange(0, 6), line.seed
    while k < len(line.s) - 4:
        length = rng.uniform(10.0, 22.0) if is_dense else rng.uniform(9.0, 14.0)
        middle = min(k + int(0.5 * length), len(line.s) - 1)
        out, yaw = line.out[middle], float(line.yaw[middle])
        back, depth = PAVEMENT + (rng.uniform(0.6, 1.6) if is_dense else rng.uniform(3.0, 6.0)), rng.uniform(9.0, 13.0)
        at = line.xy[middle] + (back + 0.5 * depth) * out
        wall, floors = rng.choice(buildings.WALLS), rng.randrange(2, 7) if is_dense else rng.randrange(1, 3)
        size = (length - 0.4, depth, floors * buildings.FLOOR)
        if rng.random() < (0.88 if is_dense else 0.75) and site.reserve(at, size[:2], yaw, PAVEMENT + 0.3):
            (buildings.block if is_dense or rng.random() < 0.2 else buildings.house)(site.parts, at, size, yaw, seed + k, wall)
        else:
            _add_garden(site, line, middle, rng, seed + k)
        if not is_dense:
            _add_rim(site, line, middle, length, rng, seed + k)
        k += int(length) + (0 if is_dense and rng.random() < 0.7 else rng.randrange(1, 6))


def _add_garden(site: Site, line: KerbLine, k: int, rng: Random, seed: int) -> None:
    """Adds two or three trees behind the pavement."""
    for _ in range(rng.randrange(2, 4)):
        along = min(max(k + rng.randrange(-6, 7), 0), len(line.s) - 1)
        at = line.xy[along] + (PAVEMENT + rng.uniform(2.0, 9.0)) * line.out[along]
        if site.reserve(at, (1.5, 1.5), 0.0, PAVEMENT + 1.0):
            greenery.tree(site.parts, at, rng.uniform(5.0, 10.0), rng.uniform(3.0, 5.0), seed + along)


def _add_rim(site: Site, line: KerbLine, k: int, length: float, rng: Random, seed: int) -> None:
    """Adds a hedge or a fence between the pavement and a garden."""
    at, yaw, kind = line.xy[k] + (PAVEMENT + 0.9) * line.out[k], float(line.yaw[k]), rng.random()
    length = 0.8 * length
    if kind < 0.6 and site.reserve(at, (length, 0.8), yaw, PAVEMENT + 0.1):
        (greenery.hedge if kind < 0.35 else greenery.fence)(site.parts, at, length, yaw, seed)


def add_towers(site: Site, line: KerbLine, rng: Random) -> None:
    """Adds taller houses in the second row."""
    for k in range(rng.randrange(0, 30), len(line.s), 34):
        at = line.xy[k] + (PAVEMENT + rng.uniform(26.0, 36.0)) * line.out[k]
        size = (rng.uniform(14.0, 26.0), rng.uniform(12.0, 18.0), rng.randrange(6, 13) * buildings.FLOOR)
        if rng.random() < 0.6 and site.reserve(at, size[:2], float(line.yaw[k]), PAVEMENT + 4.0):
            buildings.block(site.parts, at, size, float(line.yaw[k]), line.seed + k, rng.choice(buildings.WALLS))


def fill_gaps(site: Site, samples: LaneSamples, path: np.ndarray, seed: int, dense: bool) -> None:
    """Puts houses and trees on what has stayed empty near the path: corners, islands, the ends of streets.

    Tries the points of two lattices; what comes where depends on the point and the seed alone. Houses are turned as the nearest
    lane is; where there is no lane, nothing is built.
    """
    if not len(samples.lane):
        return
    kinds = ((BLOCK_PITCH, _add_block) if dense else (HOUSE_PITCH, _add_house), (TREE_PITCH, _add_tree))
    for pitch, add in kinds:
        low, high = (np.floor(f / pitch).astype(int) for f in (path.min(0) - NEAR_PATH, path.max(0) + NEAR_PATH))
        i, j = np.mgrid[low[0] : high[0] + 1, low[1] : high[1] + 1].reshape(2, -1)
        xy = np.stack((i + 0.5, j + 0.5), axis=1) * pitch
        cells = ((xy - site.ground.origin) / site.ground.cell).astype(int)
        inside = ((cells >= 0) & (cells < np.array(site.taken.shape)[::-1])).all(1)
        i, j, xy, cells = i[inside], j[inside], xy[inside], cells[inside]
        free = site.ground.edge[cells[:, 1], cells[:, 0]] > PAVEMENT
        free &= fields.nearest(xy, path[::4])[0] < NEAR_PATH
        rows = fields.nearest(xy[free], samples.pose[::4, :2])[1] * 4
        for a, b, at, row in zip(i[free].tolist(), j[free].tolist(), xy[free], rows.tolist(), strict=True):
            rng = Random(seed ^ (a * 73856093) ^ (b * 19349663) ^ round(pitch))
            _, _, cos, sin = samples.pose[row]
            add(site, at + 0.2 * pitch * np.array((rng.uniform(-1, 1), rng.uniform(-1, 1))), math.atan2(sin, cos), rng)


def _add_block(site: Site, at, yaw: float, rng: Random) -> None:
    size = (rng.uniform(12.0, 20.0), rng.uniform(10.0, 15.0), rng.randrange(3, 8) * buildings.FLOOR)
    if rng.random() < 0.7 and site.reserve(at, size[:2], yaw, PAVEMENT + 0.8):
        buildings.block(site.parts, at, size, yaw, rng.randrange(1 << 20), rng.choice(buildings.WALLS))


def _add_house(site: Site, at, yaw: float, rng: Random) -> None:
    size = (rng.uniform(9.0, 13.0), rng.uniform(8.0, 10.0), rng.randrange(1, 3) * buildings.FLOOR)
    if rng.random() < 0.5 and site.reserve(at, size[:2], yaw, PAVEMENT + 2.0, margin=2.0):
        buildings.house(site.parts, at, size, yaw, rng.randrange(1 << 20), rng.choice(buildings.WALLS))


def _add_tree(site: Site, at, yaw: float, rng: Random) -> None:
    if rng.random() < 0.35 and site.reserve(at, (1.5, 1.5), yaw, PAVEMENT + 0.8, margin=1.0):
        greenery.tree(site.parts, at, rng.uniform(6.0, 11.0), rng.uniform(3.5, 5.5), rng.randrange(1 << 20))
