"""How true the city's Gaussians are: rendered views against the ray caster's.

    python benchmarks/city_views.py [--scenarios 24] [--moments 3] [--detail 1.0] [--time own|day|dusk|night] [--pictures FOLDER]

Scenarios are spread evenly over the starter pack. At each moment of the log the front camera (60 degrees, 320x180) looks from the
logged pose of the ego ("path") and from 2 m beside it, left and right in turn ("beside"). Printed are peak signal-to-noise ratios,
the mean over scenes and of the worst tenth; intersection over union of rendered and ray-cast masks of every actor with over 200
visible pixels; and pixels that show an actor who is not in the world: all nodes of actors in the pictures have to be of somebody
who is present, and where one visible actor after another is taken out of the world, none of its pixels may be left.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from worldengine_envs.city.gaussians import make_scene, model_gaussians
from worldengine_envs.city.sensors import Moment, SurfaceCaster
from worldengine_envs.city.surfaces.lights import signal_places
from worldengine_envs.city.surfaces.models import LIGHT_ROWS, MODELS
from worldengine_envs.envs.assets import NEAREST_M
from worldengine_envs.hardware import describe
from worldengine_envs.rendering.cameras import find_rig, intrinsics_of, rigid_inverse, scaled_rig, world_to_camera
from worldengine_envs.rendering.frames import EVERYWHERE, Frames, Renderer, RenderSettings
from worldengine_envs.rendering.renderer import make_renderer
from worldengine_envs.scenario import Pack, Scenario, find_packs
from worldengine_envs.simulation.threads import num_threads

SIZE = (180, 320)
BESIDE_M = 2.0
VISIBLE_PX = 200


class View(NamedTuple):
    """One picture and its truth."""

    scenario: str
    time: str
    beside: bool
    psnr: float  # [dB]
    ious: list[float]
    ghosts: int  # pixels of actors that are not there


class Splats:
    """The Gaussians of one scenario, as parts of a renderer."""

    def __init__(self, scenario: Scenario, caster: SurfaceCaster, renderer: Renderer, detail: float):
        self.caster, self.renderer, self.detail, look = caster, renderer, detail, caster.time_of_day
        began = time.process_time()
        scene = make_scene(scenario, detail)
        self.seconds, self.count = time.process_time() - began, len(scene)
        self.scenery = [renderer.add(node.look(look)) for node in scene.nodes.values()]
        self.signals, self.models = signal_places(scenario), {}

    def model(self, index: int) -> int:
        """Returns the part of a model."""
        if index not in self.models:
            node = model_gaussians(index, self.detail)
            self.models[index] = self.renderer.add(node.look(self.caster.time_of_day))
        return self.models[index]

    def frame(self, moment: Moment, world_to_camera: np.ndarray, intrinsics: np.ndarray) -> Frames:
        """Returns the frame of one moment, without the ego."""
        rows = [(part, 0.0, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), EVERYWHERE) for part in self.scenery]
        for a in np.flatnonzero(moment.present):
            if a > 0:
                model, (x, y, yaw, *size) = self.caster.model(a), moment.boxes[a]
                stretch = np.array(size) / model.size
                rows.append((self.model(MODELS.index(model)), yaw, stretch, (x, y, 0.5 * size[2]), a))
        for (x, y, yaw), state in zip(self.signals, moment.lights, strict=True):
            if np.isfinite(x):
                index = LIGHT_ROWS[state]
                rows.append((self.model(index), yaw, (1.0, 1.0, 1.0), (x, y, 0.5 * MODELS[index].size[2]), EVERYWHERE))
        part, yaw, stretch, place, node = zip(*rows, strict=True)
        turn = np.zeros((len(rows), 3, 3))
        turn[:, 0, 0] = turn[:, 1, 1] = np.cos(yaw)
        turn[:, 1, 0], turn[:, 0, 1], turn[:, 2, 2] = np.sin(yaw), -np.sin(yaw), 1.0
        return Frames(
            np.array(part, np.int32), turn, np.array(stretch, float), np.array(place, float), np.array(node, np.int32),
            np.array([0, len(rows)], np.int64), world_to_camera[None], intrinsics[None], *SIZE,
        )  # fmt: skip

    def close(self) -> None:
        """Takes the parts back."""
        for part in (*self.scenery, *self.models.values()):
            self.renderer.remove(part)


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio of uint8 images [dB]."""
    error = np.mean((image.astype(float) - truth.astype(float)) ** 2) / 255.0**2
    return float(-10.0 * np.log10(max(error, 1e-10)))


def look(splats: Splats, moment: Moment, to_camera: np.ndarray, intrinsics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rendered picture and its nodes."""
    images = splats.renderer.render(splats.frame(moment, to_camera, intrinsics), ("rgb", "node"))
    return np.asarray(images.rgb)[0], np.asarray(images.node)[0]


def count_ghosts(splats: Splats, moment: Moment, to_camera, intrinsics, nodes: np.ndarray) -> int:
    """Returns the pixels of actors that are not present, also after the actor seen largest is taken away."""
    rows, pixels = np.unique(nodes[nodes >= 0], return_counts=True)
    ghosts = sum(int(n) for row, n in zip(rows, pixels, strict=True) if not moment.present[row])
    if len(rows):
        gone = rows[np.argmax(pixels)]
        present = moment.present.copy()
        present[gone] = False
        ghosts += int((look(splats, moment._replace(present=present), to_camera, intrinsics)[1] == gone).sum())
    return ghosts


def measure(scenario: Scenario, renderer: Renderer, moments: int, detail: float, time_of_day: str | None, pictures: Path | None):
    """Returns the views of one scenario, and what making its scene took."""
    caster = SurfaceCaster(scenario, time_of_day=time_of_day)
    splats = Splats(scenario, caster, renderer, detail)
    rig = scaled_rig(find_rig("front"), SIZE)
    intrinsics, views = intrinsics_of(rig)[0], []
    steps = np.linspace(scenario.start_step, scenario.tracks.steps - 1, moments + 1).astype(int)[:-1]
    for k, step in enumerate(steps):
        moment = caster.logged(int(step))
        x, y, yaw = moment.boxes[0, :3]
        back, side = scenario.ego.rear_axle_to_center, BESIDE_M if k % 2 == 0 else -BESIDE_M
        for shift in (0.0, side):
            px, py = x - back * np.cos(yaw) - shift * np.sin(yaw), y - back * np.sin(yaw) + shift * np.cos(yaw)
            to_camera = world_to_camera(rig, px, py, yaw)[0]
            truth = caster.camera(moment, rigid_inverse(to_camera), intrinsics, *SIZE)
            image, nodes = look(splats, moment, to_camera, intrinsics)
            rows, pixels = np.unique(truth.instance[truth.instance >= 0], return_counts=True)
            masks = [(truth.instance == row, nodes == row) for row in rows[pixels > VISIBLE_PX]]
            ious = [float((a & b).sum() / (a | b).sum()) for a, b in masks]
            ghosts = count_ghosts(splats, moment, to_camera, intrinsics, nodes)
            views.append(View(scenario.id, caster.time_of_day, shift != 0.0, psnr(image, truth.rgb), ious, ghosts))
            if pictures is not None:
                pair = np.concatenate((truth.rgb, image), axis=1)
                Image.fromarray(pair).save(pictures / f"{scenario.id}_{step:03d}{'_beside' if shift else ''}.png")
    splats.close()
    return views, splats.count, splats.seconds


def _table(views: list[View]) -> None:
    """Prints a line for each time of day and each place of the camera."""
    print(
        f"{'time':6} {'camera':7} {'scenes':>6} {'PSNR [dB]':>10} {'worst tenth':>12} {'mask IoU':>9} {'masks':>6} {'ghost px':>9}"
    )
    for name in (*sorted({view.time for view in views}), "all"):
        for beside in (False, True):
            chosen = [v for v in views if v.beside == beside and name in (v.time, "all")]
            scenes = sorted(np.mean([v.psnr for v in chosen if v.scenario == s]) for s in {v.scenario for v in chosen})
            worst = np.mean(scenes[: max(len(scenes) // 10, 1)])
            ious = [iou for v in chosen for iou in v.ious]
            iou, ghosts = (np.mean(ious) if ious else np.nan), sum(v.ghosts for v in chosen)
            place = "beside" if beside else "path"
            print(
                f"{name:6} {place:7} {len(scenes):6d} {np.mean(scenes):10.2f} {worst:12.2f} {iou:9.3f} {len(ious):6d} {ghosts:7d}"
            )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", default="starter")
    parser.add_argument("--scenarios", type=int, default=24)
    parser.add_argument("--moments", type=int, default=3)
    parser.add_argument("--detail", type=float, default=1.0)
    parser.add_argument("--time", choices=("own", "day", "dusk", "night"), default="own")
    parser.add_argument("--renderer", default="cpu")
    parser.add_argument("--pictures", type=Path, help="folder for pairs of pictures: truth left, rendered right")
    args = parser.parse_args()
    if args.pictures is not None:
        args.pictures.mkdir(parents=True, exist_ok=True)
    folder = Path(args.pack) if Path(args.pack).is_dir() else next(path for path in find_packs() if path.name == args.pack)
    pack, renderer = Pack.open(folder), make_renderer(args.renderer, settings=RenderSettings(near=NEAREST_M))
    ids = [entry.id for entry in pack.entries]
    ids = [ids[i] for i in np.linspace(0, len(ids) - 1, min(args.scenarios, len(ids))).astype(int)]
    time_of_day = None if args.time == "own" else args.time
    views, counts, seconds = [], [], []
    for scenario_id in ids:
        found, count, took = measure(pack.load(scenario_id), renderer, args.moments, args.detail, time_of_day, args.pictures)
        views, counts, seconds = views + found, [*counts, count], [*seconds, took]
        ious = [iou for view in found for iou in view.ious]
        print(
            f"{scenario_id:32} {found[0].time:6} {count:7d} Gaussians {1e3 * took:6.0f} ms"
            f"  PSNR {np.mean([v.psnr for v in found if not v.beside]):5.2f} / {np.mean([v.psnr for v in found if v.beside]):5.2f}"
            f"  IoU {np.mean(ious) if ious else np.nan:.3f}",
            flush=True,
        )
    _table(views)
    print(f"Gaussians a scene: median {np.median(counts):.0f}, most {max(counts)}", end="; ")
    print(f"made in [ms]: median {1e3 * np.median(seconds):.0f}, most {1e3 * max(seconds):.0f} of processor time")
    print(describe(num_threads()))


if __name__ == "__main__":
    main()
