"""A clip of a city street, seen by eight cameras and a LiDAR, reconstructed on a device and measured by what was held out."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

SCENARIO = "lane_follow_000"  # of the starter pack
EVERY = 4  # steps of 0.1 s from frame to frame
SIZE = (270, 480)  # height, width [px]
TEST_EVERY = 8  # frames of which one is held out, with all cameras and its sweep


def reconstruct_city_clip(device: str, size: tuple[int, int] = SIZE, every: int = EVERY, iterations: int | None = None) -> dict:
    """Returns seconds, quality on held-out frames and the memory that it took.

    The same code runs on CPU and CUDA; only who draws and what the losses are written in differ.

    Args:
        device: "cpu", or a CUDA device.
        size: Height, width of the images [px].
        every: Steps of 0.1 s from frame to frame.
        iterations: None = as the settings say.
    """
    import torch

    from worldengine_envs.city.camera_log import CameraLogSettings, write_camera_log
    from worldengine_envs.reconstruction.quality import as_trained, evaluate
    from worldengine_envs.reconstruction.readers.registry import read_camera_log
    from worldengine_envs.reconstruction.settings import ReconstructionSettings
    from worldengine_envs.reconstruction.trainer import peak_memory_mb, train
    from worldengine_envs.scenario import Pack, find_packs

    settings = ReconstructionSettings(device=device, test_every=TEST_EVERY)
    settings = replace(settings, iterations=iterations or settings.iterations)
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        scenario = Pack.open(next(path for path in find_packs() if path.name == "starter")).load(SCENARIO)
        recording = CameraLogSettings(cameras="surround8", image_size=size, every=every)
        log = read_camera_log("city", [write_camera_log(scenario, Path(folder) / "log", recording).parent])
        recorded = time.perf_counter()
        trainer = train(log, Path(folder) / "out", settings)
        trained = time.perf_counter()
        measured = evaluate(as_trained(trainer), log, trainer.pictures, trainer.split)
        judged = time.perf_counter()
    return {
        "scenario": scenario.id,
        "cameras": len(log.cameras),
        "image_size": list(size),
        "images": len(log.views),
        "held_out_images": len(trainer.split.test),
        "iterations": trainer.iteration,
        "gaussians": len(trainer.graph),
        "seconds_recording": recorded - start,
        "seconds": trained - recorded,  # points, training, checkpoints and previews
        "seconds_measuring": judged - trained,
        **{name: measured[name] for name in ("psnr", "psnr_worst_tenth", "ssim", "depth_rel_error")},
        "peak_device_memory_mb": torch.cuda.max_memory_allocated(device) / 1e6 if cuda else None,
        "peak_memory_mb": peak_memory_mb(),
    }
