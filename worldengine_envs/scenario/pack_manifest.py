"""pack.json: the table of contents of a pack, read with suspicion and nothing else beside it.

Reading costs milliseconds for thousands of scenarios; no arrays are touched.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.pack_limits import MAX_DEPTH, MAX_FILE_BYTES, MAX_MANIFEST_BYTES, MAX_SCENARIOS, read_limited
from worldengine_envs.scenario.recipes import FAMILY, MAX_SEED, SCENE_MAKERS, Recipe
from worldengine_envs.scenario.types import LOOKAHEAD_STEPS, STEP_S, Origin, ProgressReference, VehicleParameters

MANIFEST = "pack.json"
FORMAT = "worldengine-pack"
FORMAT_VERSION = 1

PACK_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
VERSION = re.compile(r"[0-9A-Za-z.+-]{1,32}")
SCENARIO_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
LABEL = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
PART_NAME = re.compile(r"[0-9a-f]{16}")
FILE_NAME = re.compile(r"(recordings|maps|scenes)/[0-9a-f]{16}\.safetensors")
SCENE_KINDS = ("sampled", "dressed", "reconstructed")
SHA256 = re.compile(r"[0-9a-f]{64}")
HEAD = re.compile(rb'\{"sha256": "([0-9a-f]{64})",\n')
MAX_TEXT = 256
EDITED = "The file is damaged or was edited by hand; get the pack again, or write it again with write_pack()"


@dataclass(frozen=True, slots=True)
class FileInfo:
    """Size and content of a file of the pack."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording: tracks, lights, routes and cameras in a file, shared by its windows."""

    map: str  # name of the map's file
    origin: Origin
    ego: VehicleParameters
    agents: int
    steps: int


@dataclass(frozen=True, slots=True)
class SceneInfo:
    """Where a Gaussian scene comes from: a file of the pack, or a maker that samples it from the scenario's map."""

    kind: str  # one of SCENE_KINDS; see rendering.scene
    maker: str | None = None  # a key of recipes.SCENE_MAKERS: either this
    part: str | None = None  # or the name of its file, see scene_file


@dataclass(frozen=True, slots=True)
class Entry:
    """One scenario of a pack, as far as its manifest tells."""

    id: str
    split: str
    tags: tuple[str, ...]
    hash: str  # scenario_hash of the content
    dataset: str
    agents: int  # tracks, ego included
    start_step: int
    steps_ahead: int  # recorded steps after the start
    reference: ProgressReference | None = None
    parent: dict | None = None
    recipe: Recipe | None = None  # either this, or recording and route
    recording: str | None = None
    route: int = 0
    gaussian_scene: str | None = None  # a key of Manifest.scenes

    @property
    def has_scene(self) -> bool:
        """Whether cameras have something to see: a scene of the pack, or one that its recipe's maker makes."""
        return self.gaussian_scene is not None or (self.recipe is not None and self.recipe.dataset in SCENE_MAKERS)

    def fits(self, horizon_s: float) -> bool:
        """Whether the horizon and the scorer's look-ahead lie inside the recording."""
        return self.steps_ahead >= round(horizon_s / STEP_S) + LOOKAHEAD_STEPS


@dataclass(frozen=True, slots=True)
class Manifest:
    """Content of pack.json."""

    name: str
    version: str
    licence: str
    description: str
    entries: tuple[Entry, ...]
    recordings: dict[str, Recording] = field(default_factory=dict)
    files: dict[str, FileInfo] = field(default_factory=dict)
    scenes: dict[str, SceneInfo] = field(default_factory=dict)

    def scene(self, entry: Entry) -> SceneInfo | None:
        """Returns where the scene of a scenario comes from, None if it has none."""
        if entry.gaussian_scene is not None:
            return self.scenes[entry.gaussian_scene]
        return SceneInfo("sampled", maker=entry.recipe.dataset) if entry.has_scene else None

    def counts(self, what: str) -> dict[str, int]:
        """Returns scenarios by "split", "tags" or "dataset", in the order of appearance."""
        counts: dict[str, int] = {}
        for entry in self.entries:
            value = getattr(entry, what)
            for label in (value,) if isinstance(value, str) else value:
                counts[label] = counts.get(label, 0) + 1
        return counts


def read_manifest(folder: Path) -> Manifest:
    """Returns the manifest of the pack in a folder.

    Raises:
        DataError: Missing, too large, not JSON, of another version, damaged, or a field that is not what it has to be.
    """
    file = folder / MANIFEST
    if file.is_symlink():
        raise DataError("is a symbolic link", file=file, remedy="Put the file itself into the pack")
    data = read_limited(file, MAX_MANIFEST_BYTES).replace(b"\r\n", b"\n")
    content, reader = parse_json(data, file), _Reader(file)
    if type(content) is not dict:
        reader.fail("", "must be an object")
    version = content.get("format_version")
    if content.get("format") != FORMAT or type(version) is not int or version != FORMAT_VERSION:
        raise DataError(
            f"format {_short(content.get('format'))} version {_short(version)}, not {FORMAT!r} version {FORMAT_VERSION}",
            file=file,
            field="format_version",
            remedy="Install the version of worldengine that wrote it, or write the pack again",
        )
    head = HEAD.match(data)
    if not head or head[1].decode() != hashlib.sha256(data[head.end() :]).hexdigest():
        reader.fail("sha256", "is not that of the lines below it")
    return reader.manifest(content)


def parse_json(data: bytes, file: Path):
    """Returns the value of a JSON text; raises DataError for anything else, NaN, infinities and bottomless nesting included."""

    def refuse(constant: str):
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(data, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not valid JSON ({str(error)[:80]})", file=file, remedy=EDITED) from error


def manifest_text(manifest: Manifest) -> str:
    """Returns the JSON text of a manifest, with one line for each scenario, recording and file.

    The first line holds the SHA-256 of everything below it, so that no flipped bit changes a reference or a split unnoticed.
    """
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": manifest.name,
        "version": manifest.version,
        "licence": manifest.licence,
        "description": manifest.description,
        "splits": manifest.counts("split"),
        "tags": manifest.counts("tags"),
        "files": {name: {"bytes": f.bytes, "sha256": f.sha256} for name, f in manifest.files.items()},
        "recordings": {name: _recording_json(r) for name, r in manifest.recordings.items()},
        "scenes": {name: _scene_json(scene) for name, scene in manifest.scenes.items()},
        "scenarios": [_entry_json(e) for e in manifest.entries],
    }
    if not manifest.scenes:
        del content["scenes"]
    body = ",\n".join(f" {json.dumps(key)}: {_lines(value)}" for key, value in content.items()) + "\n}\n"
    return f'{{"sha256": "{hashlib.sha256(body.encode()).hexdigest()}",\n{body}'


def _lines(value) -> str:
    if isinstance(value, dict) and value and isinstance(next(iter(value.values())), dict):
        return "{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()) + "\n }"
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"  {json.dumps(v)}" for v in value) + "\n ]"
    return json.dumps(value)


def _recording_json(r: Recording) -> dict:
    o = r.origin
    return {
        "map": r.map,
        "dataset": o.dataset,
        "log": o.log,
        "token": o.token,
        "licence": o.licence,
        "offset": list(o.offset),
        "time_us": int(o.time_us),
        "derived": list(o.derived),
        "ego": [r.ego.length, r.ego.width, r.ego.wheel_base, r.ego.rear_axle_to_center],
        "agents": r.agents,
        "steps": r.steps,
    }


def _scene_json(scene: SceneInfo) -> dict:
    return {"kind": scene.kind, **({"maker": scene.maker} if scene.maker else {"part": scene.part})}


def _entry_json(e: Entry) -> dict:
    content = {"id": e.id, "split": e.split, "tags": list(e.tags)}
    if e.recipe is not None:
        content["recipe"] = {"dataset": e.recipe.dataset, "family": e.recipe.family, "seed": e.recipe.seed}
        content["agents"] = e.agents
    else:
        content["recording"] = e.recording
        content["route"] = e.route
    content["start_step"] = e.start_step
    if e.recipe is not None:
        content["steps_ahead"] = e.steps_ahead
    if e.reference is not None:
        progress = {f"{h:g}": float(p) for h, p in e.reference.progress.items()}
        content["reference"] = {"source": e.reference.source, "progress": progress}
    if e.parent is not None:
        content["parent"] = e.parent
    if e.gaussian_scene is not None:
        content["gaussian_scene"] = e.gaussian_scene
    content["hash"] = e.hash
    return content


class _Reader:
    """Builds the dataclasses from parsed JSON and says which field was wrong."""

    def __init__(self, file: Path):
        self.file = file

    def fail(self, field: str, problem: str) -> NoReturn:
        raise DataError(problem, file=self.file, field=field or None, remedy=EDITED)

    def get(self, content: dict, key: str, kind: type, where: str, default=...):
        value = content.get(key, default)
        if type(value) is not kind and (value is ... or value is not default):
            self.fail(f"{where}{key}", f"{_short(value)} must be of type {kind.__name__}")
        return value

    def text(self, content: dict, key: str, where: str, pattern: re.Pattern | None = None) -> str:
        value = self.get(content, key, str, where)
        if pattern is None:
            if len(value) > MAX_TEXT or not value.isprintable():
                self.fail(f"{where}{key}", f"must be at most {MAX_TEXT} printable characters")
        elif not pattern.fullmatch(value):
            self.fail(f"{where}{key}", f"{_short(value)} must match {pattern.pattern}")
        return value

    def integer(self, content: dict, key: str, where: str, low: int, high: int) -> int:
        value = self.get(content, key, int, where)
        if not low <= value <= high:
            self.fail(f"{where}{key}", f"{_short(value)} must lie between {low} and {high}")
        return value

    def number(self, value, field: str, low: float, high: float) -> float:
        if type(value) not in (float, int) or not low <= value <= high:
            self.fail(field, f"{_short(value)} must be a number between {low:g} and {high:g}")
        return float(value)

    def labels(self, content: dict, key: str, where: str) -> tuple[str, ...]:
        values = self.get(content, key, list, where)
        for value in values:
            if type(value) is not str or not LABEL.fullmatch(value):
                self.fail(f"{where}{key}", f"{_short(value)} must match {LABEL.pattern}")
        return tuple(values)

    def table(self, content: dict, key: str, pattern: re.Pattern) -> dict[str, dict]:
        table = self.get(content, key, dict, "")
        for name, row in table.items():
            if not pattern.fullmatch(name):
                self.fail(key, f"{_short(name)} must match {pattern.pattern}")
            if type(row) is not dict:
                self.fail(f"{key}.{name}", "must be an object")
        return table

    def manifest(self, content: dict) -> Manifest:
        files = {name: self.file_info(row, f"files.{name}.") for name, row in self.table(content, "files", FILE_NAME).items()}
        recordings = {
            name: self.recording(row, f"recordings.{name}.") for name, row in self.table(content, "recordings", PART_NAME).items()
        }
        for name, r in recordings.items():
            for path in (recording_file(name), map_file(r.map)):
                if path not in files:
                    self.fail(f"recordings.{name}", f"its file {path} is not listed in files")
        scenes = self.scenes(content, files)
        rows = self.get(content, "scenarios", list, "")
        if len(rows) > MAX_SCENARIOS:
            self.fail("scenarios", f"more than {MAX_SCENARIOS}")
        entries = tuple(self.entry(row, recordings, scenes, i) for i, row in enumerate(rows))
        if len({e.id for e in entries}) != len(entries):
            seen = set()
            twice = next(e.id for e in entries if e.id in seen or seen.add(e.id))
            self.fail("scenarios.id", f"{twice!r} appears twice")
        return Manifest(
            self.text(content, "name", "", PACK_NAME),
            self.text(content, "version", "", VERSION),
            self.text(content, "licence", ""),
            self.text(content, "description", ""),
            entries,
            recordings,
            files,
            scenes,
        )

    def scenes(self, content: dict, files: dict[str, FileInfo]) -> dict[str, SceneInfo]:
        scenes = {}
        for name, row in self.table(content, "scenes", SCENARIO_ID).items() if "scenes" in content else ():
            where = f"scenes.{name}."
            kind = self.text(row, "kind", where, LABEL)
            if kind not in SCENE_KINDS:
                self.fail(f"{where}kind", f"{kind!r} is not one of {', '.join(SCENE_KINDS)}")
            if ("maker" in row) == ("part" in row):
                self.fail(where[:-1], "must have either a maker or a part")
            maker = self.text(row, "maker", where, LABEL) if "maker" in row else None
            part = self.text(row, "part", where, PART_NAME) if "part" in row else None
            if maker is not None and maker not in SCENE_MAKERS:
                self.fail(f"{where}maker", f"nobody makes scenes called {maker!r}; known: {', '.join(SCENE_MAKERS)}")
            if part is not None and scene_file(part) not in files:
                self.fail(f"{where}part", f"its file {scene_file(part)} is not listed in files")
            scenes[name] = SceneInfo(kind, maker, part)
        return scenes

    def file_info(self, row: dict, where: str) -> FileInfo:
        return FileInfo(self.integer(row, "bytes", where, 0, MAX_FILE_BYTES), self.text(row, "sha256", where, SHA256))

    def recording(self, row: dict, where: str) -> Recording:
        offset, ego = self.get(row, "offset", list, where), self.get(row, "ego", list, where)
        if len(offset) != 2:
            self.fail(f"{where}offset", "must be two numbers")
        if len(ego) != 4:
            self.fail(f"{where}ego", "must be four numbers")
        origin = Origin(
            *(self.text(row, key, where) for key in ("dataset", "log", "token", "licence")),
            offset=tuple(self.number(x, f"{where}offset", -1e9, 1e9) for x in offset),
            time_us=self.integer(row, "time_us", where, 0, 2**63 - 1),
            derived=self.labels(row, "derived", where),
        )
        vehicle = VehicleParameters(*(self.number(x, f"{where}ego", 0.1, 30.0) for x in ego))
        agents, steps = self.integer(row, "agents", where, 1, 2**31), self.integer(row, "steps", where, 2, 2**31)
        return Recording(self.text(row, "map", where, PART_NAME), origin, vehicle, agents, steps)

    def entry(self, row, recordings: dict[str, Recording], scenes: dict[str, SceneInfo], i: int) -> Entry:
        if type(row) is not dict:
            self.fail(f"scenarios[{i}]", "must be an object")
        name = self.text(row, "id", f"scenarios[{i}].", SCENARIO_ID)
        where = f"scenarios.{name}."
        common = {
            "id": name,
            "split": self.text(row, "split", where, LABEL),
            "tags": self.labels(row, "tags", where),
            "hash": self.text(row, "hash", where, SHA256),
            "reference": self.reference(row["reference"], where) if "reference" in row else None,
            "parent": self.parent(row["parent"], where) if "parent" in row else None,
            "gaussian_scene": self.text(row, "gaussian_scene", where, SCENARIO_ID) if "gaussian_scene" in row else None,
        }
        if common["gaussian_scene"] not in (None, *scenes):
            self.fail(f"{where}gaussian_scene", f"{common['gaussian_scene']} is not listed in scenes")
        if ("recipe" in row) == ("recording" in row):
            self.fail(where[:-1], "must have either a recipe or a recording")
        if "recipe" in row:
            return self.recipe_entry(row, where, common)
        recording = self.text(row, "recording", where, PART_NAME)
        if recording not in recordings:
            self.fail(f"{where}recording", f"{recording} is not listed in recordings")
        r = recordings[recording]
        start = self.integer(row, "start_step", where, 0, r.steps - 2)
        route = self.integer(row, "route", where, 0, 2**31)
        rest = {"dataset": r.origin.dataset, "agents": r.agents, "start_step": start, "steps_ahead": r.steps - 1 - start}
        return Entry(**common, **rest, recording=recording, route=route)

    def recipe_entry(self, row: dict, where: str, common: dict) -> Entry:
        recipe = self.get(row, "recipe", dict, where)
        where_recipe = f"{where}recipe."
        made = Recipe(
            self.text(recipe, "dataset", where_recipe, LABEL),
            self.text(recipe, "family", where_recipe, FAMILY),
            self.integer(recipe, "seed", where_recipe, 0, MAX_SEED),
        )
        return Entry(
            **common,
            dataset=made.dataset,
            agents=self.integer(row, "agents", where, 1, 2**31),
            start_step=self.integer(row, "start_step", where, 0, 2**31),
            steps_ahead=self.integer(row, "steps_ahead", where, 1, 2**31),
            recipe=made,
        )

    def parent(self, row, where: str) -> dict:
        level, depth = [row], 0
        while level:
            depth += 1
            if type(row) is not dict or depth > MAX_DEPTH:
                self.fail(f"{where}parent", f"must be an object of at most {MAX_DEPTH} levels")
            inner = (child for node in level for child in (node.values() if type(node) is dict else node))
            level = [child for child in inner if type(child) in (dict, list)]
        return row

    def reference(self, row, where: str) -> ProgressReference:
        if type(row) is not dict:
            self.fail(f"{where}reference", "must be an object")
        source = self.text(row, "source", f"{where}reference.", LABEL)
        progress = self.get(row, "progress", dict, f"{where}reference.")
        field, result = f"{where}reference.progress", {}
        for key, value in progress.items():
            try:
                horizon = float(key)
            except ValueError:
                horizon = math.nan
            result[self.number(horizon, field, 0.1, 1e4)] = self.number(value, field, 0.0, 1e6)
        return ProgressReference(source, result)


def recording_file(name: str) -> str:
    """Returns the path of a recording inside its pack."""
    return f"recordings/{name}.safetensors"


def map_file(name: str) -> str:
    """Returns the path of a map inside its pack."""
    return f"maps/{name}.safetensors"


def scene_file(name: str) -> str:
    """Returns the path of a stored Gaussian scene inside its pack."""
    return f"scenes/{name}.safetensors"


def _short(value) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a huge number"
    return text if len(text) <= 60 else text[:57] + "..."
