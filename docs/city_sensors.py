"""Draws ``docs/images/city_sensors.png``: the city by day, at dusk and at night; depth, instances and LiDAR of the first.

python docs/city_sensors.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from worldengine_envs.city import make_scenario
from worldengine_envs.city.camera_log import LIDAR_MOUNT, ego_to_world
from worldengine_envs.city.sensors import SurfaceCaster
from worldengine_envs.rendering.cameras import RIGS, intrinsics_of, scaled_rig

HEIGHT, WIDTH, GAP = 200, 356, 4
SHOWN = (("stop_at_light", 2, 30, "day"), ("cut_in", 3, 20, "dusk"), ("roundabout", 1, 30, "night"))
NEAR_M, FAR_M, LIDAR_VIEW_M = 4.0, 80.0, 80.0


def view_of(family: str, seed: int, step: int, light: str):
    """Front camera's view and LiDAR returns of a city scenario."""
    scenario = make_scenario(family, seed)
    caster = SurfaceCaster(scenario, time_of_day=light)
    rig, ego = scaled_rig(RIGS["front"], (HEIGHT, WIDTH)), ego_to_world(scenario, step)
    moment, roof = caster.logged(step), ego.copy()
    roof[:3, 3] += ego[:3, :3] @ LIDAR_MOUNT
    return caster.camera(moment, ego @ rig.camera_to_ego[0], intrinsics_of(rig)[0], HEIGHT, WIDTH), caster.lidar(moment, roof)


def colors(rows: np.ndarray) -> np.ndarray:
    """A colour for each number from 0 on, grey for those below."""
    table = np.random.default_rng(4).integers(60, 240, (rows.max() + 1, 3))
    return np.where(rows[..., None] < 0, 70, table[rows]).astype(np.uint8)


def depth_picture(depth: np.ndarray) -> np.ndarray:
    """Near is bright, the sky black."""
    share = np.log(np.clip(depth, NEAR_M, FAR_M) / NEAR_M) / np.log(FAR_M / NEAR_M)
    return np.repeat(np.where(depth > 0, 255 * (1 - 0.85 * share), 0).astype(np.uint8)[..., None], 3, axis=2)


def lidar_picture(returns) -> np.ndarray:
    """Returns from above, the car in the middle, driving to the right; by instance, the rest by height."""
    picture = np.full((HEIGHT, WIDTH, 3), 24, np.uint8)
    pixel = WIDTH / LIDAR_VIEW_M * returns.xyz[:, :2] * (1, -1) + (0.5 * WIDTH, 0.5 * HEIGHT)
    inside = ((pixel >= 0) & (pixel < (WIDTH, HEIGHT))).all(1)
    grey = np.clip(90 + 45 * (returns.xyz[:, 2:] + LIDAR_MOUNT[2]), 0, 230) * np.ones(3)
    color = np.where(returns.instance[:, None] < 0, grey, colors(returns.instance))
    column, row = pixel[inside].astype(int).T
    picture[row, column] = color[inside]
    return picture


def main() -> None:
    views = [view_of(*what) for what in SHOWN]
    first, returns = views[0]
    pictures = [view.rgb for view, _ in views] + [depth_picture(first.depth), colors(first.instance), lidar_picture(returns)]
    sheet = np.full((2 * HEIGHT + GAP, 3 * WIDTH + 2 * GAP, 3), 255, np.uint8)
    for k, picture in enumerate(pictures):
        top, left = k // 3 * (HEIGHT + GAP), k % 3 * (WIDTH + GAP)
        sheet[top : top + HEIGHT, left : left + WIDTH] = picture
    Image.fromarray(sheet).save(Path(__file__).parent / "images" / "city_sensors.png", optimize=True)


if __name__ == "__main__":
    main()
