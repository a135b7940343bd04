"""``worldengine packs dress PACK --out PACK2``: scenes for an imported pack, made on demand from its maps and boxes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.pack import Pack
from worldengine_envs.scenario.pack_manifest import scene_file
from worldengine_envs.scenario.recipes import SCENE_DETAIL, make_scene
from worldengine_envs.scenario.types import Scenario

SCENE, MAKER = "dressed", "city"
TOLD = "dressed with the city's surfaces, not reconstructed"


def dress(
    pack: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PACK")],
    *,
    out: Path,
    name: str | None = None,
    overwrite: bool = False,
) -> int:
    """Writes a copy of a pack in which every scenario can be seen: those without images get the city's surfaces on their maps.

    Scenes are made when they are asked for, so the copy is no larger. They show the roads, lights and boxes of the recording, and
    invented buildings, trees and colours. Scenes that are there already are kept. Ids stay, hashes change with the scene's name.
    Each recording is tried once, coarsely; one that no scene can be made of is reported and stays bare, and the exit code is 1.

    Args:
        pack: Name or folder of the pack.
        out: Folder of the pack to write.
        name: Name of the new pack; without it, the folder's name.
        overwrite: Replace a pack that is there.
    """
    from worldengine_envs.scenario.pack_write import PackedScene, write_pack

    opened = Pack.open(pack)
    bare = [entry for entry in opened.entries if not entry.has_scene]
    if not bare:
        remedy = "There is nothing to do; drive it with observation='camera'"
        raise DataError(f"every scenario of pack {opened.name!r} has a scene", file=opened.folder, remedy=remedy)
    if out.resolve() == opened.folder.resolve():
        raise DataError("is the pack itself", file=out, field="--out", remedy="Choose another folder")
    stored = opened.manifest.scenes
    scenes = {
        scene: PackedScene(info.kind, info.maker, opened.read_file(scene_file(info.part)) if info.part else None)
        for scene, info in stored.items()
    }
    if SCENE in scenes and scenes[SCENE] != PackedScene(SCENE, MAKER):
        raise DataError(
            f"has another scene called {SCENE!r}", file=opened.folder, field="scenes", remedy="Give that scene another name"
        )
    scenes[SCENE] = PackedScene(SCENE, MAKER)
    manifest, failures = opened.manifest, {}
    description = f"{manifest.description}; {TOLD}" if manifest.description else TOLD.capitalize()
    write_pack(
        out,
        name or out.resolve().name,
        manifest.version,
        manifest.licence,
        _dressed(opened, failures),
        description=description,
        overwrite=overwrite,
        scenes=scenes,
    )
    for failure in dict.fromkeys(failures.values()):
        print(f"left bare: {failure}", file=sys.stderr)
    print(f"{out}: {len(opened)} scenarios, {len(bare) - len(failures)} of them {TOLD}")
    return 1 if failures else 0


def _dressed(pack: Pack, failures: dict[str, str]) -> Iterator[Scenario]:
    """Yields the scenarios of a pack; those without a scene get the name of the one that is made on demand.

    Args:
        pack: Where they are from.
        failures: Gets the reason, by id, for scenarios that stay without one.
    """
    from rich.console import Console
    from rich.progress import track

    tried: dict[str, str] = {}  # first window of a recording -> why it has no scene, "" = it has
    console = Console(stderr=True)
    for entry in track(pack.entries, f"dressing {pack.name}", console=console, transient=True):
        scenario, first = pack.load(entry.id), pack.first_window(entry).id
        if entry.gaussian_scene is not None:
            yield scenario
            continue
        if first not in tried:
            tried[first] = _problem(pack.load(first))
        if tried[first]:
            failures[entry.id] = tried[first]
        yield scenario if tried[first] else replace(scenario, gaussian_scene=SCENE)


def _problem(scenario: Scenario) -> str:
    try:
        make_scene(MAKER, scenario, SCENE_DETAIL[0])
    except DataError as error:
        return str(error)
    return ""
