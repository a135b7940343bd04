"""Gymnasium ids from pack manifests: one for each pack, and one for each scenario of packs up to 2,000 scenarios.

Only ``pack.json`` files are read; nothing here loads torch, numba or a scenario.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from gymnasium.envs.registration import EnvSpec, registry

from worldengine_envs.envs.parallel_registration import offer_to_pettingzoo
from worldengine_envs.errors import DataError

NAMESPACE = "WorldEngine"
# A pack with more gets the pack id only. 1,680 ids cost 0.04 s at import (benchmarks/packs.py), most of it for reading pack.json.
MAX_SINGLE_IDS = 2000
ENTRY_POINT = "worldengine_envs.envs.driving_env:DrivingEnv"
VECTOR_ENTRY_POINT = "worldengine_envs.envs.vector_env:DrivingVectorEnv"


@dataclass(frozen=True, slots=True)
class ScenarioInfo:
    """One scenario of a pack and how to make it: ``gym.make(info.env_id, **info.kwargs)``."""

    env_id: str
    scenario: str
    pack: str
    split: str
    tags: tuple[str, ...]
    scene: str = ""  # "reconstructed" from images, "sampled" from the city, "dressed" (the city's surfaces on its map), "" = none
    kwargs: dict = field(default_factory=dict)  # {"scenario": id} where the pack is too large for single ids


def pack_env_id(pack: str) -> str:
    """Returns the id that samples from a whole pack."""
    return f"{NAMESPACE}/{pack}-v0"


def scenario_env_id(pack: str, scenario: str) -> str:
    """Returns the id of one scenario."""
    return f"{NAMESPACE}/{pack}.{scenario}-v0"


def _register(env_id: str, kwargs: dict) -> None:
    # The registry is filled directly: gymnasium.register() searches it for other versions at every call, which is quadratic.
    if env_id not in registry:
        registry[env_id] = EnvSpec(env_id, entry_point=ENTRY_POINT, vector_entry_point=VECTOR_ENTRY_POINT, kwargs=kwargs)


def register_pack(pack) -> None:
    """Registers the ids of one opened pack (``scenario.pack.Pack``); ids that exist are left as they are.

    Observations are camera images where every scenario that the id stands for has a Gaussian scene, else the state.
    """
    _register(pack_env_id(pack.name), {"pack": pack.name, "observation": _observation(pack.entries)})
    if len(pack.entries) <= MAX_SINGLE_IDS:
        for entry in pack.entries:
            kwargs = {"pack": pack.name, "observation": _observation((entry,)), "scenario": entry.id}
            _register(scenario_env_id(pack.name, entry.id), kwargs)


def _observation(entries) -> str:
    return "camera" if all(entry.has_scene for entry in entries) else "state"


def _open_packs() -> Iterator:
    """Yields every pack on the search path that opens; a broken one gives one warning, and an id that raises the same when made."""
    from worldengine_envs.scenario.pack import Pack, find_packs

    for path in find_packs():
        try:
            yield Pack.open(path)
        except (DataError, OSError) as error:
            warnings.warn(f"the pack at {path} is left out: {error}", RuntimeWarning, stacklevel=4)
            _register(pack_env_id(path.name), {"pack": str(path), "observation": "state"})


def register_packs() -> None:
    """Registers the ids of all packs that are found, with PettingZoo too; calling it again adds new packs only."""
    for pack in _open_packs():
        register_pack(pack)
    offer_to_pettingzoo()


def scenarios(
    pack: str | os.PathLike | None = None, tags: str | Sequence[str] | None = None, split: str | None = None
) -> list[ScenarioInfo]:
    """Returns the scenarios of the packs that are found, or of one pack, in the order of their manifests.

    Args:
        pack: Name or folder of a pack; None = every pack on the search path.
        tags: Only scenarios that carry all of these (or this one).
        split: Only scenarios of this split.
    """
    from worldengine_envs.scenario.pack import Pack

    wanted = {tags} if isinstance(tags, str) else set(tags or ())
    found = []
    for opened in [Pack.open(pack)] if pack is not None else _open_packs():
        single = len(opened.entries) <= MAX_SINGLE_IDS
        for entry in opened.entries:
            if (split is None or entry.split == split) and wanted <= set(entry.tags):
                env_id = scenario_env_id(opened.name, entry.id) if single else pack_env_id(opened.name)
                kwargs = {} if single else {"scenario": entry.id}
                scene = opened.manifest.scene(entry)
                kind = scene.kind if scene else ""
                found.append(ScenarioInfo(env_id, entry.id, opened.name, entry.split, tuple(entry.tags), kind, kwargs))
    return found
