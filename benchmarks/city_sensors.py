"""How long the city's sensors take on one core: streets, camera images, LiDAR turns.

    python benchmarks/city_sensors.py [--per-family 1] [--repeats 3]

One scenario of each family at its start, day, dusk and night by turns: the surfaces of its street; the front camera at 320x180
with 9 rays a pixel; a turn of a LiDAR with 32 beams. Processor time of one thread, the least over repeats; compiling is left out.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ["WORLDENGINE_THREADS"] = "1"

import numpy as np

from worldengine_envs.city import FAMILIES, make_scenario
from worldengine_envs.city.camera_log import LIDAR_MOUNT, ego_to_world
from worldengine_envs.city.sensors import LidarSettings, SurfaceCaster
from worldengine_envs.city.surfaces.street import make_street_surfaces
from worldengine_envs.city.surfaces.types import TIMES_OF_DAY
from worldengine_envs.rendering.cameras import RIGS, intrinsics_of, scaled_rig

HEIGHT, WIDTH, SUPERSAMPLE = 180, 320, 3


def least(function, repeats: int) -> float:
    """Least processor time [s] of a call; the first one is not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times[1:])


def measure(family: str, seed: int, light: str, repeats: int) -> dict[str, float]:
    """Times and sizes of one scenario at its start."""
    scenario = make_scenario(family, seed)
    caster = SurfaceCaster(scenario, time_of_day=light)
    rig, moment = scaled_rig(RIGS["front"], (HEIGHT, WIDTH)), caster.logged(scenario.start_step)
    ego, intrinsics = ego_to_world(scenario, scenario.start_step), intrinsics_of(rig)[0]
    pose, roof = ego @ rig.camera_to_ego[0], ego.copy()
    roof[:3, 3] += ego[:3, :3] @ LIDAR_MOUNT
    view = caster.camera(moment, pose, intrinsics, HEIGHT, WIDTH, supersample=SUPERSAMPLE)
    return {
        "solids": len(caster.solids(moment, pose[:3, 3]).owner),
        "brightness": view.rgb.mean() / 255.0,
        "returns": len(caster.lidar(moment, roof).xyz),
        "street": 1e3 * least(lambda: make_street_surfaces(scenario), repeats),
        "tree": 1e3 * least(lambda: caster.solids(moment, pose[:3, 3]), repeats),
        "image": 1e3 * least(lambda: caster.camera(moment, pose, intrinsics, HEIGHT, WIDTH, supersample=SUPERSAMPLE), repeats),
        "lidar": 1e3 * least(lambda: caster.lidar(moment, roof), repeats),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--per-family", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    rows = []
    print("times in ms on one core")
    for k, (family, seed) in enumerate((f, s) for f in FAMILIES for s in range(args.per_family)):
        light = TIMES_OF_DAY[k % 3]
        rows.append(measure(family, seed, light, args.repeats))
        print(f"{family + f'_{seed:03d}':26} {light:6}" + "".join(f" {name} {value:8.2f}" for name, value in rows[-1].items()))
    for name in ("street", "tree", "image", "lidar"):
        values = [row[name] for row in rows]
        print(f"{name:8} mean {np.mean(values):7.1f} worst {np.max(values):7.1f}")
    rays, beams = HEIGHT * WIDTH * SUPERSAMPLE**2, LidarSettings()
    for name, count in (("image", rays), ("lidar", beams.beams * beams.columns)):
        print(f"{name}: {1e-3 * count / np.mean([row[name] for row in rows]):.2f} million rays/s")


if __name__ == "__main__":
    main()
