"""``worldengine camera-log``: drive a scenario's logged ego past its street and keep what its cameras and LiDAR see."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from worldengine_envs.city.camera_log import CameraLogSettings, write_camera_log
from worldengine_envs.errors import DataError


def main(
    scenario: tyro.conf.Positional[str],
    out: Path,
    settings: Annotated[CameraLogSettings, tyro.conf.arg(name="")] = CameraLogSettings(),  # noqa: B008 (frozen)
) -> None:
    """Writes images, LiDAR turns, poses and boxes of a scenario, cast from the surfaces of its street.

    Args:
        scenario: Id as for gym.make, or without "WorldEngine/" and "-v0": starter.cut_in_003.
        out: The folder to write; must not exist.
        settings: What is recorded.
    """
    from worldengine_envs.scenario.pack import Pack

    pack, _, name = scenario.removeprefix("WorldEngine/").removesuffix("-v0").partition(".")
    if not name:
        raise DataError(f"{scenario!r} is not the id of one scenario", field="SCENARIO", remedy="Write it as starter.cut_in_003")
    path = write_camera_log(Pack.open(pack).load(name), out, settings)
    print(f"{path}: {len(list(out.glob('images/*/*.png')))} images")
