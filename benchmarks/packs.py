"""How fast packs open and load: a manifest of 1,600 recipes, and the scenarios of a pack.

    python benchmarks/packs.py [PACK]

Process CPU time, least of several runs. Without a pack, only the manifest is measured.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from pathlib import Path

from worldengine_envs.scenario import Pack, ProgressReference
from worldengine_envs.scenario.pack_manifest import MANIFEST, Entry, Manifest, manifest_text
from worldengine_envs.scenario.recipes import Recipe

RECIPES, REPEATS = 1600, 9


def least(function) -> float:
    """Returns the least CPU time [s] of several calls."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def recipe_entry(seed: int) -> Entry:
    """Returns an entry as long as those of the city."""
    reference = ProgressReference("solution", {4.0: 31.23456789012345 + seed, 8.0: 62.12345678901234 + seed})
    content = hashlib.sha256(str(seed).encode()).hexdigest()
    tags = ("cut_in", "rare", "straight", "easy", "pedestrian")
    return Entry(
        f"cut_in_{seed:04d}", "rare_train", tags, content, "city", 12, 15, 95, reference, recipe=Recipe("city", "cut_in", seed)
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        manifest = Manifest("many", "1.0", "Apache-2.0", "", tuple(map(recipe_entry, range(RECIPES))))
        file = Path(folder, MANIFEST)
        file.write_text(manifest_text(manifest))
        seconds = least(lambda: Pack.open(folder))
        print(f"{RECIPES} recipes: {file.stat().st_size / 1e6:.2f} MB, opened in {1e3 * seconds:.1f} ms")
    if len(sys.argv) > 1:
        pack = Pack.open(sys.argv[1])
        size = sum(f.bytes for f in pack.manifest.files.values())
        some = pack.entries[:50]
        each = least(lambda: [Pack(pack.folder, pack.manifest).load(e.id) for e in some]) / len(some)
        print(f"{pack.name}: {len(pack)} scenarios, {size / 1e6:.2f} MB, each loaded alone in {1e3 * each:.1f} ms")


if __name__ == "__main__":
    main()
