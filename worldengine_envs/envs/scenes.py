"""The Gaussian scenes of a pack's scenarios: read from its files, or made from their maps and cached; the last are at hand."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from worldengine_envs.envs.scene_cache import cached_scene
from worldengine_envs.envs.selection import MemoryPack, Selection
from worldengine_envs.errors import DataError
from worldengine_envs.rendering.scene import GaussianScene
from worldengine_envs.scenario.pack_manifest import Entry, SceneInfo, scene_file
from worldengine_envs.scenario.recipes import SCENE_MAKERS, make_scene
from worldengine_envs.scenario.types import Scenario

KEPT_BYTES = 128 * 2**20  # of scenes that are asked for again, in another appearance or by another renderer
UNSEEN = "`worldengine packs dress PACK --out PACK2` makes scenes from maps and boxes"


class _Recent:
    """Scenes used last, by key, as many as fit."""

    def __init__(self, limit: int):
        self._limit, self._bytes, self._scenes = limit, 0, OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str, make: Callable[[], GaussianScene]) -> GaussianScene:
        with self._lock:
            if key in self._scenes:
                self._scenes.move_to_end(key)
                return self._scenes[key]
        scene = make()  # two threads may both make it: they make the same
        with self._lock:
            if key not in self._scenes:
                self._scenes[key] = scene
                self._bytes += scene.nbytes
            while self._bytes > self._limit and len(self._scenes) > 1:
                self._bytes -= self._scenes.popitem(last=False)[1].nbytes
        return scene


_recent = _Recent(KEPT_BYTES)


def scene_info(pack, entry: Entry | Scenario) -> SceneInfo | None:
    """Returns where the scene of an entry of a ``Pack`` or ``MemoryPack`` comes from, None if it has none."""
    if not isinstance(pack, MemoryPack):
        return pack.manifest.scene(entry)
    if entry.gaussian_scene in pack.scenes:
        scene = pack.scenes[entry.gaussian_scene]
        return scene if isinstance(scene, SceneInfo) else SceneInfo(scene.kind)
    return SceneInfo("sampled", maker=entry.origin.dataset) if entry.origin.dataset in SCENE_MAKERS else None


def check_scenes(selection: Selection) -> None:
    """Raises DataError where a scenario has no scene for cameras to look at."""
    for name in selection.ids:
        pack = _home(selection.pack, name)
        if scene_info(pack, pack.entry(name)) is None:
            raise _unseen(pack, name)


def _home(pack, scenario_id: str):
    """Returns the pack that a scenario is from: the pack itself, or one of a set of packs."""
    return pack.pack_of(scenario_id) if hasattr(pack, "pack_of") else pack


def _unseen(pack, scenario_id: str) -> DataError:
    file = getattr(pack, "folder", None)
    return DataError("it has no Gaussian scene", file=file, scenario=scenario_id, field="gaussian_scene", remedy=UNSEEN)


def scene_key(pack, scenario_id: str, detail: float = 1.0) -> str:
    """Returns a text that is the same for scenarios whose scene is the same, on any pack: a key for whoever keeps parts of it.

    Raises:
        DataError: The scenario is unknown, or has no scene.
    """
    return _source(pack, scenario_id, detail)[0]


def scene_of(pack, scenario: str | Scenario, detail: float = 1.0) -> GaussianScene:
    """Returns the scene of one scenario of a pack. Windows of one recording share theirs; the same arguments give the same scene.

    Args:
        pack: ``Pack`` or ``MemoryPack``.
        scenario: It or its id.
        detail: Density of the Gaussians of a scene that is made; stored ones are as they are.

    Raises:
        DataError: The scenario is unknown or has no scene, or the scene's file is damaged or hostile.
    """
    key, make = _source(pack, scenario if isinstance(scenario, str) else scenario.id, detail, scenario)
    return _recent.get(key, make)


def appearance_of(scene: GaussianScene, scenario_id: str, asked: str | None = None) -> str:
    """Returns the appearance that was asked for, or the scenario's own: its time of day in what is made, else the scene's first.

    Raises:
        DataError: The scene does not have the one that was asked for.
    """
    if asked is not None:
        if asked not in scene.appearances:
            remedy = f"It has {', '.join(scene.appearances)}"
            raise DataError(
                f"scene {scene.name!r} has no appearance {asked!r}", scenario=scenario_id, field="appearance", remedy=remedy
            )
        return asked
    if scene.kind == "reconstructed":
        return scene.appearances[0]
    from worldengine_envs.city.surfaces.light import time_of_day

    own = time_of_day(scenario_id)
    return own if own in scene.appearances else scene.appearances[0]


def _source(pack, scenario_id: str, detail: float, loaded=None) -> tuple[str, Callable[[], GaussianScene]]:
    """Returns the key of a scene and the function that reads or makes it, from the scenario if that is at hand."""
    pack = _home(pack, scenario_id)
    entry = pack.entry(scenario_id)
    info = scene_info(pack, entry)
    if info is None:
        raise _unseen(pack, scenario_id)
    if info.maker is not None:
        shown = pack.first_window(entry)
        key = f"{info.maker}:{info.kind}:{pack.content_hash(shown.id)}:{detail:g}"

        def make() -> GaussianScene:
            scenario = loaded if shown.id == getattr(loaded, "id", None) else pack.load(shown.id)
            return replace(make_scene(info.maker, scenario, detail), kind=info.kind)

        return key, lambda: cached_scene(key, SCENE_MAKERS[info.maker].split(":")[0], make)
    if isinstance(pack, MemoryPack):
        scene = pack.scenes[entry.gaussian_scene]
        return f"memory:{id(scene)}", lambda: scene
    name = scene_file(info.part)
    return pack.manifest.files[name].sha256, lambda: _read(pack, name)


def _read(pack, name: str) -> GaussianScene:
    from worldengine_envs.rendering.quantised import decode_scene

    return decode_scene(pack.read_file(name), pack.path(name))
