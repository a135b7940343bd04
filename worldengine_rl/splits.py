"""Which scenarios of the packs are trained on, which are held out, and which the clone learns from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from worldengine_envs.errors import WorldEngineError
from worldengine_rl.randomness import derived_seed
from worldengine_rl.worlds import PackSet


def contents_digest(packs: PackSet) -> str:
    """Returns the SHA-256 (hex) of what packs say of their scenarios, the hashes of their contents included."""
    rows = [(e.id, e.split, e.tags, e.hash, e.reference) for e in packs.entries]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def split_scenarios(packs: PackSet, validation_share: float, seed: int) -> tuple[list[str], str, list[str]]:
    """Returns the scenarios to train on, and name and scenarios of the part held out: the test splits, or recordings of train."""
    train = packs.ids("train")
    if not 0.0 <= validation_share < 1.0:
        raise WorldEngineError(f"--validation-share {validation_share} is not at least 0 and below 1")
    if validation_share == 0.0:
        return train, "test", packs.ids("test")
    recordings = sorted({packs.recording(name) for name in train})
    order = np.random.default_rng(derived_seed(seed, "held out")).permutation(len(recordings))
    held_out = {recordings[i] for i in order[: max(1, round(validation_share * len(recordings)))]}
    parts = [[name for name in train if (packs.recording(name) in held_out) == wanted] for wanted in (False, True)]
    return parts[0], "validation", parts[1]


def common_with_some_rare(scenarios: Sequence[str], packs: PackSet, rare_share: float, seed: int) -> list[str]:
    """Returns all scenarios that are not tagged rare, and so many drawn from the others that they make up ``rare_share``."""
    rare = [name for name in scenarios if "rare" in packs.tags(name)]
    others = [name for name in scenarios if "rare" not in packs.tags(name)]
    if not others:
        return list(scenarios)
    count = min(len(rare), round(len(others) * rare_share / (1 - rare_share)))
    drawn = np.random.default_rng(derived_seed(seed, "rare share")).permutation(len(rare))[:count]
    return others + [rare[i] for i in sorted(drawn)]
