"""``worldengine view``: watch a baseline drive a scenario."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tyro

from worldengine_envs.errors import DataError
from worldengine_envs.rendering.video import check_video_file, write_video
from worldengine_envs.scenario.types import STEP_S

LAST_FRAMES = 10  # the end is held so long
AUTO, NONE = "auto", "none"  # cameras


def main(
    scenario: tyro.conf.Positional[str],
    record: Path | None = None,
    policy: str = "log",
    traffic: str = "log",
    horizon_s: float = 4.0,
    speed: float = 1.0,
    seed: int = 0,
    cameras: str = AUTO,
    appearance: str | None = None,
    detail: float = 1.0,
) -> None:
    """Drives one scenario and records what its cameras see, beside the bird's eye: map, boxes by kind, route, plan, trails, score.

    Args:
        scenario: Id of a scenario or of a pack, as for gym.make or without "WorldEngine/" and "-v0": starter.cut_in_003, starter;
            or the folder of a pack.
        record: The .mp4 or .gif file to write; by default ID.mp4 in the current folder.
        policy: log, constant-velocity, brake, idm or pdm-closed.
        traffic: log or idm.
        horizon_s: Length of the episode [s].
        speed: How much faster than real time it plays.
        seed: Which scenario of a pack is drawn.
        cameras: front, front3, surround8, log, names of cameras with commas between them, or none; auto = front where there is a
            Gaussian scene to see.
        appearance: day, dusk or night, or another one of the scene; by default the scenario's own.
        detail: Density of Gaussians in sampled scenes.
    """
    from worldengine_envs.envs.baselines import baseline
    from worldengine_envs.envs.vector_env import DrivingVectorEnv

    name = scenario.removeprefix("WorldEngine/").removesuffix("-v0")
    pack, _, single = (scenario, "", "") if Path(scenario).is_dir() else name.partition(".")
    record = record or Path(f"{Path(name).resolve().name}.mp4")
    check_video_file(record)
    if not speed > 0:
        raise DataError(f"{speed} is not above 0", field="--speed")
    driver = baseline(policy)
    settings = {"action": driver.action, "traffic": traffic, "horizon_s": horizon_s, "scenario": single or None}
    settings |= _seen(pack, settings["scenario"], cameras, appearance, detail)
    envs = DrivingVectorEnv(pack, 1, autoreset_mode="Disabled", observation="state", render_mode="rgb_array", **settings)
    _, infos = envs.reset(seed=seed)
    ends: list[dict] = []
    frames = write_video(record, episode_frames(envs, driver(envs), ends), speed / STEP_S)
    end = {key: value[0] for key, value in ends[0].items()}
    what = (
        f"{end['infraction']} {end['infraction_what']} at {end['infraction_time']:.1f} s"
        if "infraction" in end
        else "no infraction"
    )
    print(f"{record}: {infos['scenario'][0]} driven by {policy}, {frames} frames, pdms {end['pdms']:.3f}, {what}")


def _seen(pack: str, scenario: str | None, cameras: str, appearance: str | None, detail: float) -> dict:
    """Returns the settings of environments that say what cameras see."""
    from worldengine_envs.envs.scenes import scene_info
    from worldengine_envs.envs.selection import select

    if cameras == AUTO:
        chosen = select(pack, scenario)
        seen = all(scene_info(chosen.pack, chosen.pack.entry(name)) is not None for name in chosen.ids)
        cameras = "front" if seen else NONE
    if cameras == NONE:
        return {}
    names = cameras.split(",")
    return {"cameras": names if len(names) > 1 else cameras, "appearance": appearance, "scene_detail": detail}


def episode_frames(envs, act, ends: list[dict]) -> Iterator[np.ndarray]:
    """Drives world 0 of a vector environment, which was just reset, to the end; yields (height, width, 3) uint8 each 0.1 s.

    Args:
        envs: ``DrivingVectorEnv`` with one world and autoreset disabled.
        act: Function (observations, envs) -> actions.
        ends: The infos of the last step are appended.
    """
    observations, over = None, False
    yield from envs.photographer.film(0)
    while not over:
        observations, _, terminated, truncated, infos = envs.step(act(observations, envs))
        over = bool(terminated[0] or truncated[0])
        for frame in envs.photographer.film(0):
            yield frame
    yield from [frame] * LAST_FRAMES
    ends.append(infos)
