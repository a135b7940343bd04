"""Packs for tests: a small one on disk, and the means to forge its files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from factory import Agent, straight_scenario

from worldengine_envs.scenario import AgentType, CameraRig, LightState, Origin, ProgressReference, Scenario, write_pack


def sample(scenario_id: str = "a_015", log: str = "log-1", speed: float = 10.0, **changes) -> Scenario:
    """A scenario with a car ahead, a pedestrian that comes and goes, a light, an unknown speed limit and a UTM-like offset."""
    agents = [
        Agent(30.0, 0.0, 8.0),
        Agent(40.0, 5.5, 1.234567, yaw=-1.2, kind=AgentType.PEDESTRIAN, first=-5, last=40),
        Agent(25.0, 3.5, kind=AgentType.TRAFFIC_CONE),
    ]
    scenario = straight_scenario(agents, id=scenario_id, speed=speed, light=LightState.GREEN, split="train", tags=("straight",))
    limit = scenario.vector_map.lane_speed_limit.copy()
    limit[-1] = np.nan
    origin = Origin("handmade", log, "token", "CC0-1.0", (664_123.456789, 3_998_001.25), 1_600_000_000_000_000, ("velocity",))
    changes = {"vector_map": replace(scenario.vector_map, lane_speed_limit=limit), "origin": origin} | changes
    return replace(scenario, **changes)


def rig() -> CameraRig:
    """One camera that looks ahead."""
    pose = np.array([[0, 0, 1, 1.7], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1.0]])
    k = np.array([[277.128, 0, 160], [0, 277.128, 90], [0, 0, 1.0]])
    return CameraRig(("front",), pose[None], k[None], np.zeros((1, 5)), np.array([[180, 320]], np.int32))


def windows() -> list[Scenario]:
    """Two windows of one recording, and one of another with a camera, on the same map."""
    first = sample()
    goal = replace(first.route, goal=np.array([120.0, 0.0]))
    other = sample("b_015", log="log-2", speed=9.0, camera_rig=rig(), split="test", vector_map=first.vector_map)
    later = {"start_step": 25, "reference": ProgressReference("log", {4.0: 40.0})}
    return [first, replace(first, id="a_025", route=goal, parent={"id": "x", "seed": 3}, **later), other]


def small_pack(folder: Path, **changes) -> Path:
    """Writes the three windows as a pack named "small"."""
    settings = {"name": "small", "version": "1.0", "licence": "CC0-1.0", "scenarios": windows()} | changes
    return write_pack(folder, **settings)


def edit_manifest(pack: Path, edit) -> None:
    """Changes the parsed manifest and signs it again, as somebody with bad intentions would."""
    content = json.loads((pack / "pack.json").read_bytes())
    content.pop("sha256")
    content = edit(content) or content
    sign_manifest(pack, json.dumps(content)[1:])


def sign_manifest(pack: Path, body: str) -> None:
    """Writes a manifest with this text after its first line and a fitting SHA-256."""
    digest = hashlib.sha256(body.encode()).hexdigest()
    (pack / "pack.json").write_text(f'{{"sha256": "{digest}",\n{body}', encoding="utf-8")


def forge_file(pack: Path, name: str, data: bytes) -> None:
    """Replaces a file of the pack and lists its new size and SHA-256 in the manifest."""
    (pack / name).write_bytes(data)

    def edit(content):
        content["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    edit_manifest(pack, edit)


def file_of(pack: Path, kind: str) -> str:
    """Returns the path inside the pack of the first file of "recordings" or "maps"."""
    return f"{kind}/{min(p.name for p in (pack / kind).iterdir())}"
