"""Memory of a reconstruction does not grow with the length of the log."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from reconstruction_room import WALL_M, write_log

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.points import lidar
from worldengine_envs.reconstruction.settings import PointSettings, ReconstructionSettings
from worldengine_envs.reconstruction.trainer import Trainer, memory_cap_mb

MEGABYTE = 2**20
SETTINGS = ReconstructionSettings(
    scale=0.5, iterations=20, max_gaussians=3000, sky_gaussians=200, cache_mb=1, points=PointSettings(voxel_m=0.3), preview_every=0
)


def repeated(log, times: int):
    """A log so many times as long, each time through another room."""
    views, sweeps, actors = [], [], []
    for k in range(times):
        move, late = np.eye(4), 10_000_000 * k
        move[0, 3] = 2.0 * WALL_M * k
        views += [replace(v, time_us=v.time_us + late, camera_to_world=move @ v.camera_to_world) for v in log.views]
        sweeps += [replace(s, time_us=s.time_us + late, lidar_to_world=move @ s.lidar_to_world) for s in log.sweeps]
        actors += [
            replace(a, token=f"{a.token}_{k}", time_us=a.time_us + late, box_to_world=move @ a.box_to_world) for a in log.actors
        ]
    return replace(log, views=tuple(views), sweeps=tuple(sweeps), actors=tuple(actors))


def peak_mb(log) -> float:
    """Returns the most memory that numpy's arrays take from finding points to the last of some steps."""
    tracemalloc.start()
    try:
        trainer = Trainer(log, SETTINGS)
        trainer.start()
        for _ in range(3):
            trainer.step()
        assert len(trainer.graph) <= SETTINGS.max_gaussians
        return tracemalloc.get_traced_memory()[1] / MEGABYTE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("sensors", [{"lidar": True, "actor": True}, {"twins": True}])
def test_a_log_four_times_as_long_takes_hardly_more(tmp_path, monkeypatch, sensors):
    monkeypatch.setattr(lidar, "STACKED", 10_000)
    log = write_log(tmp_path, steps=4, **sensors)
    peak_mb(log)  # what is imported, compiled and kept for good
    short, long = peak_mb(repeated(log, 2)), peak_mb(repeated(log, 8))
    assert long < 1.3 * short + 1.0


def test_the_cap_that_is_stated_counts_what_is_asked_for():
    small, large = (memory_cap_mb(replace(SETTINGS, cache_mb=mb, max_gaussians=n), 10_000) for mb, n in ((1, 1000), (101, 1001000)))
    assert large - small > 100 + 1e6 * 4 * 4 * 40 / MEGABYTE  # table, gradient, two moments of at least 40 numbers
    with pytest.raises(DataError, match="cache_mb: 0 is not 1 or more"):
        ReconstructionSettings(cache_mb=0)
