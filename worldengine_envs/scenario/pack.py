"""Packs: folders of scenarios that share recordings and maps, found by name and read one scenario at a time."""

from __future__ import annotations

import os
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.pack_limits import read_limited
from worldengine_envs.scenario.pack_manifest import (
    MANIFEST,
    Entry,
    Manifest,
    map_file,
    recording_file,
)
from worldengine_envs.scenario.pack_read import read_manifest
from worldengine_envs.scenario.types import Lights, Route, Scenario, Tracks, VectorMap

SEARCH_PATH = "WORLDENGINE_PACKS"  # folders of packs, or packs, separated like PATH
ENTRY_POINTS = "worldengine.packs"
KEPT_PARTS = 128  # recordings and maps that an open pack remembers


class Pack:
    """An open pack: its manifest, and its scenarios on demand.

    Scenarios of one recording that are loaded from one ``Pack`` share their arrays, and those of one map their map.
    """

    def __init__(self, folder: Path, manifest: Manifest):
        self.folder = folder
        self.manifest = manifest
        self._rows = {entry.id: entry for entry in manifest.entries}
        self._parts = _Recent(KEPT_PARTS)
        self._first: dict[tuple, Entry] | None = None  # made when asked for

    @classmethod
    def open(cls, pack: str | os.PathLike) -> Pack:
        """Opens a pack by its folder or by its name; only ``pack.json`` is read.

        Raises:
            DataError: No such pack, or its manifest is not what it has to be.
        """
        folder = Path(pack)
        if (folder / MANIFEST).is_file() or len(folder.parts) != 1:
            return cls(folder, read_manifest(folder))
        found = find_packs()
        opened, broken = [], None
        for candidate in sorted(found, key=lambda path: path.name != folder.name):
            try:
                opened.append(cls(candidate, read_manifest(candidate)))
            except DataError as error:
                if candidate.name == folder.name:
                    broken = broken or error
                continue
            if opened[-1].name == folder.name:
                return opened[-1]
        if broken is not None:
            raise broken
        names = ", ".join(sorted({o.name for o in opened})) or "none"
        remedy = f"Give a folder with a {MANIFEST}, or add its parent to {SEARCH_PATH}; found by name: {names}"
        raise DataError(f"no pack {str(pack)!r}", remedy=remedy)

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The scenarios in the order of the manifest."""
        return self.manifest.entries

    def __len__(self) -> int:
        return len(self.manifest.entries)

    def __repr__(self) -> str:
        return f"Pack({self.name!r}, {len(self)} scenarios, {str(self.folder)!r})"

    def entry(self, scenario_id: str) -> Entry:
        """Returns what the manifest tells of one scenario; raises DataError for an unknown id."""
        entry = self._rows.get(scenario_id)
        if entry is None:
            remedy = f"worldengine_envs.scenarios(pack={self.name!r}) lists its ids"
            raise DataError(
                f"pack {self.name!r} has no scenario {str(scenario_id)[:128]!r}", file=self.folder / MANIFEST, remedy=remedy
            )
        return entry

    def first_window(self, entry: Entry) -> Entry:
        """Returns the first scenario of the manifest with the same recording and scene: what is made from it serves them all."""
        if entry.recording is None:
            return entry
        if self._first is None:
            self._first = {(e.recording, e.gaussian_scene): e for e in reversed(self.entries)}
        return self._first[entry.recording, entry.gaussian_scene]

    def content_hash(self, scenario_id: str) -> str:
        """Returns the ``scenario_hash`` of one scenario, as the manifest tells it."""
        return self.entry(scenario_id).hash

    def select(self, split: str | None = None, tags: Iterable[str] = ()) -> tuple[Entry, ...]:
        """Returns the scenarios of one split (None = all) that carry all of the tags."""
        tags = set(tags)
        return tuple(e for e in self.entries if (split is None or e.split == split) and tags <= set(e.tags))

    def load(self, scenario_id: str) -> Scenario:
        """Returns one scenario, validated and compared with its content hash.

        Raises:
            DataError: Unknown id; a file is missing, damaged or hostile; the content has another hash.
        """
        from worldengine_envs.scenario.quantise import scenario_hash
        from worldengine_envs.scenario.validation import validate, validate_links

        entry = self.entry(scenario_id)
        scenario = self._make(entry) if entry.recipe is not None else self._assemble(entry)
        try:
            (validate if entry.recipe is not None else validate_links)(scenario)
        except DataError as error:
            raise DataError(
                error.problem, file=self.folder / MANIFEST, scenario=entry.id, field=error.field, remedy=error.remedy
            ) from None
        found = scenario_hash(scenario, self._parts)
        if found != entry.hash:
            remedy = (
                "Get the pack again"
                if entry.recipe is None
                else "Install the version of worldengine that wrote it, or write the pack again"
            )
            problem = f"the content has hash {found[:12]}..., not {entry.hash[:12]}..."
            raise DataError(problem, file=self.folder / MANIFEST, scenario=entry.id, field="hash", remedy=remedy)
        return scenario

    def path(self, name: str) -> Path:
        """Returns where a file of the pack is.

        Raises:
            DataError: The path leads out of the pack, through a link for example.
        """
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise DataError(f"leads out of the pack, to {path.resolve()}", file=path, remedy="Put the file itself into the pack")
        return path

    def read_file(self, name: str) -> bytes:
        """Returns the bytes of a file that the manifest lists, of the size that it says."""
        info, path = self.manifest.files[name], self.path(name)
        data = read_limited(path, info.bytes)
        if len(data) != info.bytes:
            raise DataError(
                f"{len(data)} bytes instead of {info.bytes}", file=path, remedy="The file is cut short; get the pack again"
            )
        return data

    def _make(self, entry: Entry) -> Scenario:
        from worldengine_envs.scenario.recipes import make

        made = make(entry.recipe)
        return replace(
            made,
            id=entry.id,
            split=entry.split,
            tags=entry.tags,
            reference=entry.reference,
            parent=entry.parent or made.parent,
            gaussian_scene=entry.gaussian_scene,
        )

    def _assemble(self, entry: Entry) -> Scenario:
        recording = self.manifest.recordings[entry.recording]
        parts = self._file_parts(recording_file(entry.recording))
        vector_map = self._only(self._file_parts(map_file(recording.map)), "vector_map", map_file(recording.map), VectorMap)
        where = recording_file(entry.recording)
        tracks = self._only(parts, "tracks", where, Tracks)
        if (len(tracks), tracks.steps) != (recording.agents, recording.steps):
            problem = f"{len(tracks)} tracks of {tracks.steps} steps, not {recording.agents} of {recording.steps}"
            raise DataError(problem, file=self.path(where), field="tracks", remedy="Get the pack again")
        return Scenario(
            id=entry.id,
            origin=recording.origin,
            tracks=tracks,
            start_step=entry.start_step,
            vector_map=vector_map,
            lights=self._only(parts, "lights", where, Lights),
            route=self._only(parts, f"route{entry.route}", where, Route),
            ego=recording.ego,
            reference=entry.reference,
            split=entry.split,
            tags=entry.tags,
            parent=entry.parent,
            camera_rig=parts.get("camera_rig"),
            gaussian_scene=entry.gaussian_scene,
        )

    def _only(self, parts: dict, name: str, where: str, part_type: type):
        if name not in parts:
            raise DataError("not in the file", file=self.path(where), field=name, remedy="Get the pack again")
        return parts[name]

    def _file_parts(self, name: str) -> dict:
        from worldengine_envs.scenario.pack_codec import decode_parts

        return self._parts.get(name, lambda: decode_parts(self.read_file(name), self.path(name)))


class _Recent:
    """The parts of the files used last, and the digests of those parts."""

    def __init__(self, size: int):
        self._size = size
        self._files: OrderedDict[str, dict] = OrderedDict()
        self._digests: dict[int, str] = {}  # by id() of a part in _files

    def get(self, file: str, read: Callable[[], dict]) -> dict:
        """Returns the parts of a file, read at first use."""
        from worldengine_envs.scenario.quantise import digest

        if file not in self._files:
            parts = self._files[file] = read()
            self._digests.update((id(part), digest(part)) for part in parts.values())
        self._files.move_to_end(file)
        while len(self._files) > self._size:
            _, parts = self._files.popitem(last=False)
            for part in parts.values():
                del self._digests[id(part)]
        return self._files[file]

    def of(self, part) -> str:
        """Returns the digest of a part (see ``quantise.Digests``), remembered while its file is."""
        from worldengine_envs.scenario.quantise import digest

        return self._digests.get(id(part)) or digest(part)


def find_packs() -> list[Path]:
    """Returns the folders of all packs on this machine, in the order in which a name is looked up.

    They are the folders in ``WORLDENGINE_PACKS``, ``scenario_packs/`` in the working directory, and the folders of installed
    packages that the entry-point group ``worldengine.packs`` names. A folder counts if it, or a folder in it, has a ``pack.json``.
    """
    roots = [Path(p) for p in os.environ.get(SEARCH_PATH, "").split(os.pathsep) if p]
    roots.append(Path("scenario_packs"))
    roots.extend(_installed_folders())
    found: dict[Path, Path] = {}
    for root in roots:
        for folder in _packs_in(root):
            found.setdefault(folder.resolve(), folder)
    return list(found.values())


def _packs_in(root: Path) -> list[Path]:
    if (root / MANIFEST).is_file():
        return [root]
    try:
        return sorted(p for p in root.iterdir() if not p.name.startswith(".") and (p / MANIFEST).is_file())
    except (FileNotFoundError, NotADirectoryError):
        return []  # a search path may name what is not there yet
    except OSError as error:
        warnings.warn(f"no packs from {root}: {error.strerror}", RuntimeWarning, stacklevel=3)
        return []


def _installed_folders() -> list[Path]:
    from importlib.metadata import entry_points
    from importlib.util import find_spec

    folders = []
    for point in entry_points(group=ENTRY_POINTS):
        try:
            spec = find_spec(point.module)  # found, not imported
        except ModuleNotFoundError:
            spec = None
        if spec is None or not spec.submodule_search_locations:
            warnings.warn(
                f"the entry point {point.name!r} of {ENTRY_POINTS} names no package: {point.value}", RuntimeWarning, stacklevel=3
            )
            continue
        folders.extend(Path(p) for p in spec.submodule_search_locations)
    return folders
