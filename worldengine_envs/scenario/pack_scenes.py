"""Packs with other scenes: a copy in which some scenarios are seen through Gaussian scenes that are handed in."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.new_folder import new_folder
from worldengine_envs.scenario.pack import Pack
from worldengine_envs.scenario.pack_limits import MAX_FILE_BYTES
from worldengine_envs.scenario.pack_manifest import MANIFEST, Entry, FileInfo, SceneInfo, manifest_text, scene_file
from worldengine_envs.scenario.pack_read import read_manifest
from worldengine_envs.scenario.quantise import scenario_hash

BESIDE = (".md", ".toml")  # texts for people that are copied too


def add_scenes(
    pack: Pack,
    path: str | os.PathLike,
    scenes: Mapping[str, bytes],
    scene_of: Mapping[str, str],
    *,
    kind: str = "reconstructed",
    name: str | None = None,
    description: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a copy of a pack in which some scenarios have another Gaussian scene; returns its folder. All or nothing is written.

    Ids, references and splits stay; the hash of a scenario that gets a scene changes with the scene's name.

    Args:
        pack: Is not changed, unless its own folder is overwritten.
        path: Folder of the copy.
        scenes: What ``rendering.quantised.encode_scene`` gave, by name; one that the pack has already is replaced.
        scene_of: Names of scenes by scenario id.
        kind: Of all scenes.
        name: Of the new pack; None = the same.
        description: None = the same.
        overwrite: Replace a pack that is there.

    Raises:
        DataError: An unknown scenario or scene, a scene that is too large, or the folder exists.
    """
    unknown = [scene for scene in scene_of.values() if scene not in scenes]
    if unknown:
        raise DataError(f"no scene {unknown[0]!r} was given", field="scene_of")
    manifest, target = pack.manifest, Path(path)
    changed = {scenario_id: _with_scene(pack, scenario_id, scene) for scenario_id, scene in scene_of.items()}
    with new_folder(target, MANIFEST, "pack", overwrite) as folder:
        files, infos = {}, {key: info for key, info in manifest.scenes.items() if key not in scenes}
        kept = {scene_file(info.part) for info in infos.values() if info.part}
        for file, info in manifest.files.items():
            if not file.startswith("scenes/") or file in kept:
                _write(folder, file, pack.read_file(file))
                files[file] = info
        for key, data in scenes.items():
            if len(data) > MAX_FILE_BYTES:
                remedy = "Reconstruct with fewer Gaussians (--max-gaussians)"
                raise DataError(f"{len(data)} bytes, more than {MAX_FILE_BYTES}", field=f"scenes.{key}", remedy=remedy)
            digest = hashlib.sha256(data).hexdigest()
            infos[key] = SceneInfo(kind, part=digest[:16])
            _write(folder, scene_file(digest[:16]), data)
            files[scene_file(digest[:16])] = FileInfo(len(data), digest)
        for text in sorted(pack.folder.iterdir()):
            if text.suffix in BESIDE and text.is_file() and not text.is_symlink():
                _write(folder, text.name, text.read_bytes())
        entries = tuple(changed.get(entry.id, entry) for entry in manifest.entries)
        copy = replace(manifest, name=name or manifest.name, entries=entries, files=files, scenes=infos)
        copy = copy if description is None else replace(copy, description=description)
        (folder / MANIFEST).write_text(manifest_text(copy), encoding="utf-8")
        read_manifest(folder)  # what was given (names) must be readable
    return target


def windows_of(pack: Pack, scenario_id: str) -> list[str]:
    """Returns the scenarios of one recording: they share its coordinates. One that is made by a recipe is alone.

    Raises:
        DataError: Unknown id.
    """
    entry = pack.entry(scenario_id)
    return [e.id for e in pack.entries if e is entry or (e.recording is not None and e.recording == entry.recording)]


def _with_scene(pack: Pack, scenario_id: str, scene: str) -> Entry:
    scenario = replace(pack.load(scenario_id), gaussian_scene=scene)
    return replace(pack.entry(scenario_id), gaussian_scene=scene, hash=scenario_hash(scenario))


def _write(folder: Path, name: str, data: bytes) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
