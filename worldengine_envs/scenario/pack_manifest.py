"""pack.json: the table of contents of a pack, and the names of its files. ``pack_read`` reads it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field

from worldengine_envs.scenario.recipes import SCENE_MAKERS, Recipe
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


def recording_file(name: str) -> str:
    """Returns the path of a recording inside its pack."""
    return f"recordings/{name}.safetensors"


def map_file(name: str) -> str:
    """Returns the path of a map inside its pack."""
    return f"maps/{name}.safetensors"


def scene_file(name: str) -> str:
    """Returns the path of a stored Gaussian scene inside its pack."""
    return f"scenes/{name}.safetensors"
