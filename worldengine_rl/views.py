"""Images beside demonstrations: each is kept once, and used as it is and in the mirror."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from worldengine_rl.eye import SEEN, Eye, see
from worldengine_rl.mirror import mirrored_images

CHUNK = 512  # images that are mirrored at once


@dataclass(frozen=True)
class Views:
    """Which images belong to which decision."""

    images: dict[str, np.ndarray]  # by camera (images, H, W, channels) uint8
    rows: np.ndarray  # (decisions,) int64 of its images
    in_mirror: np.ndarray  # (decisions,) bool: they are to be seen in the mirror

    def part(self, rows: np.ndarray) -> Views:
        """Returns the views of some decisions; images are shared."""
        return Views(self.images, self.rows[rows], self.in_mirror[rows])

    def tensors(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Returns the images of some decisions (n,), mirrored where they are: by camera (n, H, W, channels) uint8."""
        images = {name: value[self.rows[rows]] for name, value in self.images.items()}
        flipped, in_mirror = mirrored_images(images), self.in_mirror[rows][:, None, None, None]
        return {name: torch.as_tensor(np.where(in_mirror, flipped[name], images[name])) for name in images}

    def seen(self, eye: Eye) -> np.ndarray:
        """Returns (decisions, eye.features) float32: what the eye sees in each decision's images."""
        plain, count = see(eye, self.images)[SEEN], len(next(iter(self.images.values())))
        in_mirror = np.empty_like(plain)
        for start in range(0, count, CHUNK):  # a mirrored copy of all images would take gigabytes
            part = slice(start, start + CHUNK)
            in_mirror[part] = see(eye, mirrored_images({name: value[part] for name, value in self.images.items()}))[SEEN]
        return np.where(self.in_mirror[:, None], in_mirror[self.rows], plain[self.rows])


def concatenate_views(parts: Sequence[Views]) -> Views:
    """Returns the views of all parts, one after another."""
    counts = [len(next(iter(part.images.values()))) for part in parts]
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return Views(
        {name: np.concatenate([part.images[name] for part in parts]) for name in parts[0].images},
        np.concatenate([part.rows + offset for part, offset in zip(parts, first, strict=True)]),
        np.concatenate([part.in_mirror for part in parts]),
    )
