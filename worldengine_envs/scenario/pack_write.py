"""Writing packs: into a hidden folder beside the target, renamed at the end, so that there is a whole pack or none."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.new_folder import new_folder
from worldengine_envs.scenario.pack_codec import encode_parts
from worldengine_envs.scenario.pack_limits import MAX_FILE_BYTES
from worldengine_envs.scenario.pack_manifest import (
    MANIFEST,
    Entry,
    FileInfo,
    Manifest,
    Recording,
    SceneInfo,
    manifest_text,
    map_file,
    recording_file,
    scene_file,
)
from worldengine_envs.scenario.pack_read import read_manifest
from worldengine_envs.scenario.quantise import Digests, quantised_ego, scenario_hash
from worldengine_envs.scenario.recipes import recipe_of
from worldengine_envs.scenario.types import Route, Scenario
from worldengine_envs.scenario.validation import validate


@dataclass(frozen=True, slots=True)
class PackedScene:
    """A Gaussian scene as it goes into a pack: bytes, or the name of who makes it from the scenario's map when it is asked for."""

    kind: str  # "sampled", "dressed" or "reconstructed"
    maker: str | None = None  # a key of recipes.SCENE_MAKERS: either this
    data: bytes | None = None  # or what rendering.quantised.encode_scene gave


def write_pack(
    path: str | os.PathLike,
    name: str,
    version: str,
    licence: str,
    scenarios: Iterable[Scenario],
    *,
    description: str = "",
    recipes: bool = False,
    overwrite: bool = False,
    beside: Mapping[str, str] | None = None,
    scenes: Mapping[str, PackedScene] | None = None,
) -> Path:
    """Writes a pack and returns its folder. Either the whole pack is there afterwards, or nothing new is.

    Args:
        path: Folder of the pack; its parent is made if need be.
        name: Name of the pack, part of the ids of its environments: letters, digits, "_" and "-".
        version: Version of the content: "1.0".
        licence: Licence of the whole: "CC-BY-NC-SA-4.0".
        scenarios: Taken one by one. Keep windows of one recording together: their arrays are stored once.
        description: One line for people.
        recipes: Store how to make the scenarios (see ``recipes``), not their arrays.
        overwrite: Replace a pack that is there. Anything else that is there is never replaced.
        beside: Texts for people by file name, NOTES.md for example, to be put beside pack.json; names end in .md or .toml.
        scenes: Gaussian scenes by name, to which ``Scenario.gaussian_scene`` refers; taken one by one.

    Raises:
        DataError: A scenario is invalid, an id appears twice, a scene is not given, no scenarios, or the folder exists.
    """
    target = Path(path)
    with new_folder(target, MANIFEST, "pack", overwrite) as folder:
        writer = _Writer(folder)
        for scene_name, scene in (scenes or {}).items():
            writer.add_scene(scene_name, scene)
        for scenario in scenarios:
            (writer.add_recipe if recipes else writer.add)(scenario)
        writer.flush()
        if not writer.entries:
            raise DataError("no scenarios to write", file=target)
        entries = tuple(writer.entries.values())
        manifest = Manifest(name, version, licence, description, entries, writer.recordings, writer.files, writer.scenes)
        (folder / MANIFEST).write_text(manifest_text(manifest), encoding="utf-8")
        for file, text in (beside or {}).items():
            (folder / file).write_text(text, encoding="utf-8")
        read_manifest(folder)  # what was given (name, licence, parents) must be readable
    return target


class _Writer:
    """Collects entries; keeps the routes of the recording at hand until another recording comes."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.entries: dict[str, Entry] = {}
        self.recordings: dict[str, Recording] = {}
        self.files: dict[str, FileInfo] = {}
        self.scenes: dict[str, SceneInfo] = {}
        self._maps: dict[str, str] = {}  # digest to name
        self._digests = Digests()
        self._open: tuple | None = None  # key of the recording at hand
        self._windows: list[tuple[Scenario, str]] = []  # its scenarios and their hashes

    def add_scene(self, name: str, scene: PackedScene) -> None:
        """Adds a Gaussian scene; scenes of the same content are stored once."""
        if (scene.maker is None) == (scene.data is None):
            raise DataError("must have either a maker or data", field=f"scenes.{name}")
        part = None
        if scene.data is not None:
            part = hashlib.sha256(scene.data).hexdigest()[:16]
            self._write(scene_file(part), scene.data)
        self.scenes[name] = SceneInfo(scene.kind, scene.maker, part)

    def add_recipe(self, scenario: Scenario) -> None:
        """Adds a scenario as its recipe."""
        self._check(scenario)
        self.entries[scenario.id] = Entry(
            **{**_labels(scenario), "parent": None},  # the maker gives it again
            hash=scenario_hash(scenario),
            dataset=scenario.origin.dataset,
            agents=len(scenario.tracks),
            start_step=int(scenario.start_step),
            steps_ahead=scenario.steps_ahead,
            recipe=recipe_of(scenario),
        )

    def add(self, scenario: Scenario) -> None:
        """Adds a scenario with its arrays."""
        self._check(scenario)
        content_hash = scenario_hash(scenario, self._digests)
        rig = scenario.camera_rig
        shared = (scenario.tracks, scenario.lights, scenario.vector_map)
        key = (*map(self._digests.of, shared), rig and self._digests.of(rig), scenario.ego, scenario.origin)
        if key != self._open:
            self.flush()
            self._open = key
        self._windows.append((scenario, content_hash))
        self.entries[scenario.id] = Entry(**_labels(scenario), hash=content_hash, dataset="", agents=0, start_step=0, steps_ahead=0)

    def flush(self) -> None:
        """Writes the recording at hand."""
        if not self._windows:
            return
        first = self._windows[0][0]
        routes: dict[str, tuple[int, Route]] = {}
        for scenario, _ in self._windows:
            routes.setdefault(self._digests.of(scenario.route), (len(routes), scenario.route))
        parts = {"tracks": first.tracks, "lights": first.lights, **{f"route{i}": route for i, route in routes.values()}}
        if first.camera_rig is not None:
            parts["camera_rig"] = first.camera_rig
        data = encode_parts(parts)
        name = hashlib.sha256(repr((self._open, *routes)).encode()).hexdigest()[:16]
        self._write(recording_file(name), data)
        recording = Recording(self._map(first), first.origin, quantised_ego(first.ego), len(first.tracks), first.tracks.steps)
        self.recordings[name] = recording
        for scenario, content_hash in self._windows:
            self.entries[scenario.id] = Entry(
                **_labels(scenario),
                hash=content_hash,
                dataset=scenario.origin.dataset,
                agents=recording.agents,
                start_step=int(scenario.start_step),
                steps_ahead=scenario.steps_ahead,
                recording=name,
                route=routes[self._digests.of(scenario.route)][0],
            )
        self._windows, self._open = [], None
        self._digests = Digests()  # lets go of the recording's arrays

    def _check(self, scenario: Scenario) -> None:
        validate(scenario)
        if scenario.id in self.entries:
            raise DataError("the id appears twice", scenario=scenario.id, field="id", remedy="Ids must be unique in a pack")
        if scenario.gaussian_scene not in (None, *self.scenes):
            problem = f"no scene {scenario.gaussian_scene!r} was given"
            raise DataError(problem, scenario=scenario.id, field="gaussian_scene", remedy="Hand it to write_pack(scenes=...)")

    def _map(self, scenario: Scenario) -> str:
        key = self._digests.of(scenario.vector_map)
        if key not in self._maps:
            self._maps[key] = key[:16]
            self._write(map_file(key[:16]), encode_parts({"vector_map": scenario.vector_map}))
        return self._maps[key]

    def _write(self, name: str, data: bytes) -> None:
        file = self.folder / name
        if len(data) > MAX_FILE_BYTES:
            raise DataError(
                f"{len(data)} bytes, more than {MAX_FILE_BYTES}", file=name, remedy="Cut the recording into shorter ones"
            )
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
        self.files[name] = FileInfo(len(data), hashlib.sha256(data).hexdigest())


def _labels(scenario: Scenario) -> dict:
    return {
        "id": scenario.id,
        "split": scenario.split,
        "tags": scenario.tags,
        "reference": scenario.reference,
        "parent": scenario.parent,
        "gaussian_scene": scenario.gaussian_scene,
    }
