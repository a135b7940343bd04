"""Pictures of how far a reconstruction is: a held-out image, what the Gaussians show in its place, and how far away it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

if TYPE_CHECKING:
    from worldengine_envs.reconstruction.trainer import Trainer

QUALITY = 90
NEAREST_M, FARTHEST_M = 2.0, 200.0
RAMP = np.array([[48, 18, 59], [70, 107, 227], [27, 207, 212], [97, 252, 108], [238, 207, 58], [251, 126, 33], [122, 4, 2]], float)


def write_preview(trainer: Trainer, folder: Path) -> Path:
    """Writes a JPEG of one view, named by the iteration, and returns its file: image, rendering, depth from left to right.

    Held-out views take turns; where there are none, training views do.
    """
    views = trainer.split.test if len(trainer.split.test) else trainer.split.train
    view = int(views[trainer.iteration // max(trainer.settings.preview_every, 1) % len(views)])
    with torch.no_grad():
        rendering = trainer.render(view)
        rgb = trainer.corrections.exposed(rendering.rgb[0], view)
    rgb = (rgb.clamp(0.0, 1.0) * 255.0).round().byte().cpu().numpy()
    tall = [trainer.pictures[view].rgb, rgb, depth_colors(rendering.depth[0].cpu().numpy())]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{trainer.iteration:06d}.jpg"
    part = file.with_name(f".{file.name}.part")
    Image.fromarray(np.concatenate(tall, axis=1)).save(part, format="JPEG", quality=QUALITY)
    part.replace(file)
    return file


def depth_colors(depth: np.ndarray) -> np.ndarray:
    """Returns (H, W, 3) uint8 colours of depths (H, W) [m], from red (near) to blue (far) by logarithm; black where it is 0."""
    span = np.log(FARTHEST_M / NEAREST_M)
    far = np.log(np.clip(depth, NEAREST_M, FARTHEST_M) / NEAREST_M) / span
    stops = np.linspace(0.0, 1.0, len(RAMP))
    colors = np.stack([np.interp(1.0 - far, stops, channel) for channel in RAMP.T], axis=-1)
    return np.where(depth[..., None] > 0.0, colors.round(), 0.0).astype(np.uint8)
