"""Every stage and every iteration has its own randomness, derived from the run's seed: going on later gives the same numbers."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derived_seed(seed: int, *path: str | int) -> int:
    """Returns a 31-bit seed for one place in a run, e.g. ``derived_seed(seed, "iteration", 7)``."""
    digest = hashlib.sha256(repr((seed, *path)).encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1


def seed_torch(seed: int) -> None:
    """Seeds torch's and numpy's global generators, which torch modules and Stable-Baselines3 draw from."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
