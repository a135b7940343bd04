"""What a second drive past a city street is worth: two traversals, one at dusk, reconstructed together and each alone.

    python benchmarks/reconstruction_traversals.py [--scenario lane_follow_000] [--work runs/reconstruction_traversals]
        [--set iterations=2000 ...] [--json benchmarks/results/reconstruction_traversals.json]

The first drive is the scenario's logged one, by day, with one half of its traffic. The second goes the other way on the opposite
lane, at dusk, with the other half. Both have three cameras that look ahead (320x180) and a LiDAR. The third path lies between the
two lanes; eight cameras look in all directions, no traffic is there. Printed is, for day and for dusk, the PSNR against the ray
caster of the reconstruction of that drive alone, of that of both in that drive's look, and of both in the look of the other drive
(that either look can be chosen). Steps that are done in ``--work`` are not done again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from city_truth import Drawn, Truth, left_of, psnr
from reconstruction_city import EVERY, SIZE, settings_of

from worldengine_envs.city.camera_log import NAME, CameraLogSettings, write_camera_log
from worldengine_envs.city.sensors import SurfaceCaster
from worldengine_envs.city.surfaces.lights import LEFT_HAND
from worldengine_envs.envs.assets import NEAREST_M
from worldengine_envs.hardware import describe
from worldengine_envs.reconstruction.job import reconstruct
from worldengine_envs.reconstruction.readers.registry import read_camera_log
from worldengine_envs.rendering.cameras import find_rig, scaled_rig
from worldengine_envs.rendering.frames import RenderSettings
from worldengine_envs.rendering.renderer import make_renderer
from worldengine_envs.rendering.scene_folder import load_scene
from worldengine_envs.scenario import Pack, Scenario, find_packs
from worldengine_envs.simulation.threads import num_threads

LANE_M = 3.5  # from the logged path to the opposite lane
LOOKS = ("day", "dusk")
CLEAR_M = 0.5  # around the ego's box, where nobody of the other traffic may ever be
BAR = 1.0  # [dB]


def drive(scenario: Scenario, shift: float, reverse: bool, traffic: int | None) -> Scenario:
    """Returns the scenario with its ego on another path and a part of its traffic.

    Args:
        scenario: Whose street it is.
        shift: Of the ego's path to its left [m].
        reverse: Whether the path is driven from its end to its start.
        traffic: Who is there: rows of this remainder when divided by 2; None = nobody.
    """
    tracks = scenario.tracks
    state, valid = tracks.state.copy(), tracks.valid.copy()
    ego = state[0]
    ego[:, :2] += shift * np.stack([left_of(yaw) for yaw in ego[:, 2]])
    if reverse:
        ego = ego[::-1].copy()
        ego[:, 2] = (ego[:, 2] + 2.0 * np.pi) % (2.0 * np.pi) - np.pi
        ego[:, 3:] *= -1.0
    state[0] = ego
    offset = state[:, :, :2] - ego[None, :, :2]
    cos, sin = np.cos(ego[:, 2]), np.sin(ego[:, 2])
    along, across = offset[..., 0] * cos + offset[..., 1] * sin, offset[..., 1] * cos - offset[..., 0] * sin
    room = CLEAR_M + 0.5 * (tracks.size[:, :, :2] + tracks.size[:1, :, :2])
    touches = (valid & (np.abs(along) < room[..., 0]) & (np.abs(across) < room[..., 1])).any(1)
    rows = np.arange(len(tracks))
    there = np.zeros(len(tracks), bool) if traffic is None else (rows % 2 == traffic) & ~touches
    there[0] = True
    return replace(scenario, tracks=replace(tracks, state=state, valid=valid & there[:, None]))


def standing(scenario: Scenario) -> np.ndarray:
    """Returns the steps between which the ego gets on, about 2 m from one to the next."""
    x, y = scenario.tracks.state[0, :, :2].T
    way = np.concatenate(([0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))))
    return np.unique(np.searchsorted(way, np.arange(0.0, way[-1], 2.0)))


def measure(scenario: Scenario, work: Path, changes: list[str], every: int) -> dict:
    """Returns the PSNR of each reconstruction in each look."""
    lane = -LANE_M if LEFT_HAND in scenario.tags else LANE_M
    drives = {"day": drive(scenario, 0.0, False, 0), "dusk": drive(scenario, lane, True, 1)}
    day = SurfaceCaster(scenario, time_of_day="day")
    casters = {look: SurfaceCaster(scenario, day.street, look) for look in LOOKS}
    for look, driven in drives.items():
        if not (work / look / NAME).exists():
            wanted = CameraLogSettings(cameras="front3", image_size=SIZE, every=every)
            write_camera_log(driven, work / look, wanted, caster=casters[look].with_traffic(driven))
    scenes = {}
    for name, looks in {"day": ("day",), "dusk": ("dusk",), "both": LOOKS}.items():
        out = work / f"out_{name}"
        if not (out / "scene").exists():
            log, settings = read_camera_log("city", [work / look for look in looks]), settings_of(changes)
            settings = replace(settings, iterations=len(looks) * settings.iterations)  # each image is seen as often
            reconstruct(log, out, settings, resume=out.exists())
        scenes[name] = load_scene(out / "scene")
    third, found = drive(scenario, 0.5 * lane, False, None), {}
    for look in LOOKS:
        truth = Truth(third, scaled_rig(find_rig("surround8"), SIZE), casters[look].with_traffic(third))
        shots = truth.views(standing(third)[EVERY // 2 :: EVERY], shifts=(0.0,))
        rgb, _ = truth.pictures(shots, work / f"truth_{look}.npz")
        other = LOOKS[1 - LOOKS.index(look)]
        found[look] = {"pictures": len(shots)}
        for name, chosen, appearance in (("alone", look, None), ("both", "both", look), ("other_look", "both", other)):
            drawn = Drawn(scenes[chosen], truth, make_renderer("cpu", settings=RenderSettings(near=NEAREST_M)), appearance)
            values = [psnr(drawn.draw(shot)[0], wanted) for shot, wanted in zip(shots, rgb, strict=True)]
            drawn.close()
            found[look][name] = float(np.mean(values))
        found[look]["gain"] = found[look]["both"] - found[look]["alone"]
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="lane_follow_000")
    parser.add_argument("--work", type=Path, default=Path("runs/reconstruction_traversals"))
    parser.add_argument("--every", type=int, default=2, help="steps of 0.1 s from image to image")
    parser.add_argument("--set", nargs="*", default=[], help="settings of the reconstructions, such as iterations=500")
    parser.add_argument("--json", type=Path, help="where results go")
    args = parser.parse_args()
    pack = Pack.open(next(path for path in find_packs() if path.name == "starter"))
    found = measure(pack.load(args.scenario), args.work / args.scenario, args.set, args.every)
    for look, row in found.items():
        print(
            f"{look:5} alone {row['alone']:.2f} dB, both {row['both']:.2f} dB ({row['gain']:+.2f}, bar {BAR:+.0f});"
            f" in the other look {row['other_look']:.2f} dB; {row['pictures']} pictures"
        )
    print(describe(num_threads()))
    if args.json is not None:
        results = {"scenario": args.scenario, "looks": found, "settings": args.set, "hardware": describe(num_threads())}
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
