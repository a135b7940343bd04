"""What packs cost: ids at import, opening a manifest of 1,680 recipes, and loading the scenarios of a pack.

    python benchmarks/packs.py [PACK]

Processor time, least of several runs; imports are in fresh processes with and without the manifest on the search path. Without a
pack, only the manifest is measured. With one, its scenarios are loaded and compiled as environments do (traffic "log" and "idm"):
time by stage, and what the memory of the process grows by.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["WORLDENGINE_THREADS"] = "1"

import numpy as np

from worldengine_envs.envs.library import Library
from worldengine_envs.scenario import Pack, ProgressReference
from worldengine_envs.scenario.pack_manifest import MANIFEST, Entry, Manifest, manifest_text
from worldengine_envs.scenario.recipes import Recipe

RECIPES, REPEATS = 1680, 9
WARM, MEASURED = 20, 200  # scenarios compiled before and while looking
IMPORT = "import time; t = time.process_time(); import worldengine_envs; print(time.process_time() - t)"


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


def import_seconds(packs: str) -> float:
    """Returns the least CPU time [s] of ``import worldengine_envs`` in a fresh process with this search path."""
    env = {**os.environ, "WORLDENGINE_PACKS": packs}
    times = (subprocess.run([sys.executable, "-c", IMPORT], env=env, capture_output=True, check=True) for _ in range(REPEATS))
    return min(float(run.stdout) for run in times)


def resident_mb() -> float:
    """Returns the memory that this process holds [MB]; Linux only."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def load_some(pack: Pack, traffic: str) -> None:
    """Loads scenarios of all families into a library and prints time and memory of each."""
    library, ids = Library(pack, 4.0, traffic), [entry.id for entry in pack.entries]
    np.random.default_rng(0).shuffle(ids)
    library.load(ids[:WARM])
    before, times = resident_mb(), []
    for name in ids[WARM : WARM + MEASURED]:
        start = time.process_time()
        library.load([name])
        times.append(1e3 * (time.process_time() - start))
    grown = (resident_mb() - before) / len(times)
    print(
        f"{pack.name}, traffic {traffic}: {np.median(times):.1f} ms to load and compile a scenario, at most {max(times):.0f}; "
        f"{grown:.2f} MB each"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        manifest = Manifest("many", "1.0", "Apache-2.0", "", tuple(map(recipe_entry, range(RECIPES))))
        file = Path(folder, MANIFEST)
        file.write_text(manifest_text(manifest))
        seconds = least(lambda: Pack.open(folder))
        print(f"{RECIPES} recipes: {file.stat().st_size / 1e6:.2f} MB, opened in {1e3 * seconds:.1f} ms")
        without, with_ids = import_seconds(""), import_seconds(folder)
        print(f"import worldengine_envs: {with_ids:.3f} s, {with_ids - without:.3f} s of it for {RECIPES + 1} ids")
    if len(sys.argv) > 1:
        pack = Pack.open(sys.argv[1])
        size = sum(f.bytes for f in pack.manifest.files.values())
        some = pack.entries[:50]
        each = least(lambda: [Pack(pack.folder, pack.manifest).load(e.id) for e in some]) / len(some)
        print(f"{pack.name}: {len(pack)} scenarios, {size / 1e6:.2f} MB, each loaded alone in {1e3 * each:.1f} ms")
        for traffic in ("log", "idm"):
            load_some(pack, traffic)


if __name__ == "__main__":
    main()
