"""``worldengine anchors``: cluster logged trajectories into a vocabulary for the action kind `anchor`."""

from __future__ import annotations

from pathlib import Path

import tyro

from worldengine_envs.envs.anchors import make_vocabulary, save_vocabulary
from worldengine_envs.errors import DataError


def main(
    pack: tyro.conf.Positional[str], out: Path, size: int = 256, split: tuple[str, ...] = (), fan: int = 0, seed: int = 0
) -> None:
    """Writes anchors from what ego and other vehicles did in the recordings of a pack.

    Args:
        pack: Name or folder of a pack.
        out: The .npy file to write: float32 (size, 8, 3), x, y [m], yaw [rad] every 0.5 s.
        size: Number of anchors, up to 8192 or more.
        split: Only recordings of these splits; use those that you train on.
        fan: Also cluster this many kinematic plans (braking, accelerating, turning, swerving), for what the logs lack.
        seed: Of clustering and kinematic plans.
    """
    from worldengine_envs.scenario.pack import Pack

    if not out.parent.is_dir():
        raise DataError("no such folder", file=out.parent, field="--out", remedy="Make it first")
    opened = Pack.open(pack)
    entries = [entry for entry in opened.entries if not split or entry.split in split]
    if not entries:
        remedy = f"Its splits are {', '.join(opened.manifest.counts('split'))}"
        raise DataError(f"pack {opened.name!r} has no scenario of split {', '.join(split)}", field="--split", remedy=remedy)
    vocabulary = make_vocabulary((opened.load(entry.id) for entry in entries), size, fan, seed)
    save_vocabulary(vocabulary, out)
    print(f"{out}: {len(vocabulary)} anchors from {len(entries)} scenarios of {opened.name}")
