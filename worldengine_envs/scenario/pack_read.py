"""Reading pack.json, with suspicion and nothing else beside it.

Reading costs milliseconds for thousands of scenarios; no arrays are touched.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import NoReturn

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.pack_limits import MAX_DEPTH, MAX_FILE_BYTES, MAX_MANIFEST_BYTES, MAX_SCENARIOS, read_limited
from worldengine_envs.scenario.pack_manifest import (
    FILE_NAME,
    FORMAT,
    FORMAT_VERSION,
    LABEL,
    MANIFEST,
    PACK_NAME,
    PART_NAME,
    SCENARIO_ID,
    SCENE_KINDS,
    SHA256,
    VERSION,
    Entry,
    FileInfo,
    Manifest,
    Recording,
    SceneInfo,
    map_file,
    recording_file,
    scene_file,
)
from worldengine_envs.scenario.recipes import FAMILY, MAX_SEED, SCENE_MAKERS, Recipe
from worldengine_envs.scenario.types import Origin, ProgressReference, VehicleParameters

HEAD = re.compile(rb'\{"sha256": "([0-9a-f]{64})",\n')
MAX_TEXT = 256
EDITED = "The file is damaged or was edited by hand; get the pack again, or write it again with write_pack()"


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


def _short(value) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a huge number"
    return text if len(text) <= 60 else text[:57] + "..."
