"""The full check of a pack: every file and every scenario, all problems collected."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable
from pathlib import Path

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.pack import Pack
from worldengine_envs.scenario.pack_limits import read_limited
from worldengine_envs.scenario.pack_manifest import MANIFEST, Entry, scene_file
from worldengine_envs.scenario.start import start_problem

SCENE_DECODER = "worldengine_envs.rendering.quantised", "decode_scene"


def verify(pack: str | os.PathLike | Pack, progress: Callable[[int, int], None] | None = None) -> list[str]:
    """Returns all problems of a pack, one line each; an empty list is a good pack.

    Every file has the size and SHA-256 of the manifest, none is left over and none leads out of the pack; every scenario loads,
    validates, has its hash, a reference and a start that can be driven; no recording and no content is in two splits.

    Args:
        pack: Folder, name or open pack.
        progress: Called with (done, total) after each file and scenario.
    """
    try:
        pack = pack if isinstance(pack, Pack) else Pack.open(pack)
    except DataError as error:
        return [str(error)]
    problems = _leftovers(pack)
    total, done = len(pack.manifest.files) + len(pack), 0
    for name in pack.manifest.files:
        problems += _file_problems(pack, name)
        done += 1
        if progress:
            progress(done, total)
    for entry in pack.entries:
        problems += _scenario_problems(pack, entry)
        done += 1
        if progress:
            progress(done, total)
    problems += _scene_problems(pack)
    return list(dict.fromkeys(problems + _straddling(pack)))  # a damaged file is told once, not for each of its windows


def _file_problems(pack: Pack, name: str) -> list[str]:
    info = pack.manifest.files[name]
    try:
        path = pack.path(name)
        data = read_limited(path)
    except DataError as error:
        return [str(error)]
    if len(data) != info.bytes:
        return [
            str(
                DataError(
                    f"{len(data)} bytes instead of {info.bytes}", file=path, remedy="The file is cut short; get the pack again"
                )
            )
        ]
    if hashlib.sha256(data).hexdigest() != info.sha256:
        return [
            str(DataError("its SHA-256 is not that of the manifest", file=path, remedy="The file is damaged; get the pack again"))
        ]
    return []


def _leftovers(pack: Pack) -> list[str]:
    """Files that the manifest does not list; Python's own are passed over, packs may lie in a Python package."""
    problems = []
    for root, folders, files in os.walk(pack.folder):
        folders[:] = sorted(f for f in folders if f != "__pycache__")
        for name in sorted(files):
            path = Path(root, name)
            inside = path.relative_to(pack.folder).as_posix()
            if inside not in pack.manifest.files and inside != MANIFEST and path.suffix not in (".py", ".md", ".toml"):
                problems.append(
                    str(DataError("not listed in the manifest", file=path, remedy="Remove it, or write the pack again"))
                )
    return problems


def _scenario_problems(pack: Pack, entry: Entry) -> list[str]:
    where = {"file": pack.folder / MANIFEST, "scenario": entry.id}
    problems = []
    if entry.reference is None or not entry.reference.progress:
        remedy = "Attach one when the pack is written: worldengine_envs.envs.reference.attach_reference"
        problems.append(str(DataError("no reference motion", **where, field="reference", remedy=remedy)))
    try:
        scenario = pack.load(entry.id)
    except DataError as error:
        return [*problems, str(error)]
    if (len(scenario.tracks), scenario.start_step, scenario.steps_ahead) != (entry.agents, entry.start_step, entry.steps_ahead):
        problems.append(str(DataError("agents, start_step or steps_ahead are not those of the manifest", **where)))
    reason = start_problem(scenario)
    if reason is not None:
        problems.append(str(DataError(reason, **where, field="start_step", remedy="Leave this window out")))
    return problems


def _scene_problems(pack: Pack) -> list[str]:
    """Stored Gaussian scenes that cannot be read, or are not of the kind that the manifest says."""
    module, function = SCENE_DECODER
    problems = []
    for name, info in pack.manifest.scenes.items():
        if info.part is None:
            continue
        file = scene_file(info.part)
        try:
            scene = getattr(importlib.import_module(module), function)(pack.read_file(file), pack.path(file))
        except DataError as error:
            problems.append(str(error))
            continue
        if scene.kind != info.kind:
            problem = f"the scene in {file} is {scene.kind}, not {info.kind}"
            problems.append(str(DataError(problem, file=pack.folder / MANIFEST, field=f"scenes.{name}.kind")))
    return problems


def _straddling(pack: Pack) -> list[str]:
    """Recordings (of one origin, or one recipe) in two splits, and scenarios that are there twice."""
    problems, first_of, first_hash = [], {}, {}
    for entry in pack.entries:
        if entry.recipe is not None:
            source = str(entry.recipe)
        else:
            origin = pack.manifest.recordings[entry.recording].origin
            source = f"recording {origin.log} {origin.token} of {origin.dataset}"
        for key, name in ((source, source), (entry.recording, f"recording {entry.recording}")):
            other = first_of.setdefault(key, entry) if key else entry
            if other.split != entry.split:
                problem = f"{name} is in split {entry.split!r} here and in {other.split!r} by scenario {other.id}"
                problems.append(str(DataError(problem, file=pack.folder / MANIFEST, scenario=entry.id, field="split")))
                break
        twin = first_hash.setdefault(entry.hash, entry)
        if twin is not entry:
            problems.append(
                str(
                    DataError(
                        f"the same content as scenario {twin.id}", file=pack.folder / MANIFEST, scenario=entry.id, field="hash"
                    )
                )
            )
    return problems
