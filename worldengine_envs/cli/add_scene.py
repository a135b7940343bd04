"""``worldengine packs add-scene PACK ID=FOLDER --out PACK2``: reconstructed scenes for the scenarios that drive through them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.pack_scenes import windows_of

SCENE = "scene"  # folder of the scene in what `worldengine reconstruct` writes
OWN = "own"  # dataset of logs that do not name one
FARTHEST_M = 30.0  # between the logged ego's path and the cameras that a scene was made from


def add_scene(
    pack: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PACK")],
    scenes: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="ID=FOLDER")],
    *,
    out: Path,
    name: str | None = None,
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
    overwrite: bool = False,
) -> None:
    """Writes a copy of a pack in which scenarios are seen through Gaussian scenes, those that `worldengine reconstruct` makes.

    All windows of a scenario's recording get the scene. Scene and scenario have to be in the same coordinates: those of a camera
    log of the city are its scenario's. Actors are told apart by the tokens of their tracks.

    Args:
        pack: Name or folder of the pack.
        scenes: Id of a scenario and folder of its scene: cut_in_003=out/scene.
        out: Folder of the pack to write.
        name: Name of the new pack; without it, that of the old one: ids stay, and the one that is found first counts.
        shift: x, y, z [m] that are added to the scene's coordinates to get the scenario's.
        overwrite: Replace a pack that is there, be it the same one.
    """
    from worldengine_envs.rendering.quantised import encode_scene
    from worldengine_envs.rendering.scene_folder import load_scene
    from worldengine_envs.scenario.pack import Pack
    from worldengine_envs.scenario.pack_scenes import add_scenes

    opened, data, scene_of, kinds = Pack.open(pack), {}, {}, set()
    for pair in scenes:
        scenario_id, _, folder = pair.partition("=")
        if not folder:
            raise DataError(f"{pair!r} is not ID=FOLDER", field="scenes", remedy="Write it as cut_in_003=out/scene")
        if (Path(folder) / SCENE).is_dir():
            raise DataError("is a reconstruction, not a scene", file=folder, remedy=f"Give {Path(folder) / SCENE}")
        scene = shifted(load_scene(folder), np.array(shift))
        scenario = opened.load(scenario_id)
        check_street(scene, opened, scenario)
        check_place(scene, scenario)
        tracks = set(scenario.tracks.tokens)
        known = sum(token in tracks for token in scene.actors)
        print(
            f"{scenario_id}: {len(scene)} Gaussians; {known} of {len(scene.actors)} actors of the scene are tracks of the scenario"
        )
        data[scene_name(scenario_id)] = encode_scene(scene)
        scene_of |= dict.fromkeys(windows_of(opened, scenario_id), scene_name(scenario_id))
        kinds.add(scene.kind)
    if len(kinds) != 1:
        raise DataError(
            f"scenes are of the kinds {', '.join(sorted(kinds)) or 'none'}", field="scenes", remedy="Give one kind at a time"
        )
    add_scenes(opened, out, data, scene_of, kind=kinds.pop(), name=name, overwrite=overwrite)
    print(f"{out}: {len(opened)} scenarios, {len(scene_of)} of them with new scenes")


def scene_name(scenario_id: str) -> str:
    """Returns the name in a pack of the scene that was made for a scenario."""
    return f"{scenario_id}_scene"[-128:]


def shifted(scene, shift: np.ndarray):
    """Returns a scene with other coordinates: ``shift`` (3,) [m] is added to the old ones."""
    from worldengine_envs.rendering.scene import BACKGROUND, SKY
    from worldengine_envs.rendering.witnesses import WORLD

    if not shift.any():
        return scene
    nodes = dict(scene.nodes)
    for name in (BACKGROUND, SKY):
        if name in nodes:
            gaussians = nodes[name].gaussians
            moved = replace(gaussians, means=(gaussians.means + shift).astype(np.float32))
            nodes[name] = replace(nodes[name], gaussians=moved)
    witnesses = scene.witnesses
    if witnesses is not None:
        poses, rows = witnesses.to_camera.copy(), witnesses.node == WORLD
        poses[rows, :, 3] -= poses[rows, :, :3] @ shift
        witnesses = replace(witnesses, to_camera=poses)
    return replace(scene, nodes=nodes, witnesses=witnesses)


def check_street(scene, pack, scenario) -> None:
    """Raises DataError where a scene says that it is another street: another scenario of the pack, or none of the city's."""
    from worldengine_envs.scenario.recipes import SCENE_MAKERS

    others = {entry.id for entry in pack.entries} - set(windows_of(pack, scenario.id))
    if scene.name in others:
        remedy = f"Give it to that: {scene.name}=FOLDER"
        raise DataError(f"it is a scene of {scene.name}", scenario=scenario.id, field="scene", remedy=remedy)
    dataset, mine = scene.quality.get("dataset", OWN), scenario.origin.dataset
    if mine in SCENE_MAKERS and dataset not in (mine, OWN):
        raise DataError(f"it was made from {dataset}, the scenario from {mine}", scenario=scenario.id, field="scene")


def check_place(scene, scenario) -> None:
    """Raises DataError where the cameras that a scene was made from were nowhere near the scenario's logged ego."""
    from worldengine_envs.rendering.witnesses import WORLD

    if scene.witnesses is None or not len(scene.witnesses):
        return
    poses = scene.witnesses.to_camera[scene.witnesses.node == WORLD]
    cameras = -np.einsum("vji,vj->vi", poses[:, :, :3], poses[:, :, 3])[:, :2]
    path = scenario.tracks.state[0, scenario.tracks.valid[0], :2].astype(np.float64)
    nearest = np.sqrt(((path[:, None] - cameras[None]) ** 2).sum(axis=2).min())
    if nearest > FARTHEST_M:
        raise DataError(
            f"its cameras were never within {FARTHEST_M:g} m of the logged ego, but {nearest:.0f} m away",
            scenario=scenario.id,
            field="scene",
            remedy="Scene and scenario are in different coordinates; --shift moves the scene",
        )
