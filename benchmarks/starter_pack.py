"""Prints the starter pack by family: how many scenarios, how the baselines fare, what making one costs, how big the manifest is.

    python benchmarks/starter_pack.py [--pack starter] [--horizon 4] [--per-family 0]

Success and pdms-live are means over the scenarios of a family among replayed traffic. Times are thread CPU time, the least of three
makings of each scenario, after a warm-up.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from worldengine_envs.city import make_scenario
from worldengine_envs.cli.build_pack import drive_baseline
from worldengine_envs.envs.baselines import BASELINES
from worldengine_envs.scenario.pack import Pack

CHUNK = 32


def making_times(recipes) -> list[float]:
    """Returns the time [ms] to make each scenario."""
    make_scenario(recipes[0].family, recipes[0].seed)
    times = []
    for recipe in recipes:
        least = float("inf")
        for _ in range(3):
            start = time.thread_time()
            make_scenario(recipe.family, recipe.seed)
            least = min(least, 1e3 * (time.thread_time() - start))
        times.append(least)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", default="starter")
    parser.add_argument("--horizon", type=float, default=4.0, help="seconds")
    parser.add_argument("--per-family", type=int, default=0, help="scenarios to drive in each family, 0 = all")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    pack = Pack.open(args.pack)
    families = list(dict.fromkeys(entry.recipe.family for entry in pack.entries))
    manifest = (pack.folder / "pack.json").stat().st_size
    version = pack.manifest.version
    print(f"{pack.name} {version}: {len(pack)} scenarios, pack.json {manifest / 1e3:.1f} kB, horizon {args.horizon:g} s")
    print(f"splits: {pack.manifest.counts('split')}")
    print(f"{'family':<16} {'n':>4} {'agents':>6} {'ms':>11}  " + "".join(f"{name:^20}" for name in BASELINES))
    print(f"{'':<16} {'':>4} {'median':>6} {'median  max':>11}  " + f"{'success  pdms-live':^20}" * len(BASELINES))
    report = {}
    for family in families:
        entries = [e for e in pack.entries if e.recipe.family == family]
        chosen = entries[: args.per_family or None]
        times = making_times([e.recipe for e in chosen])
        scenarios = [pack.load(e.id) for e in chosen]
        row = {"scenarios": len(entries), "driven": len(chosen), "median_ms": statistics.median(times), "max_ms": max(times)}
        for name in BASELINES:
            results = []
            for first in range(0, len(scenarios), CHUNK):
                results += drive_baseline(scenarios[first : first + CHUNK], name, args.horizon)
            row[name] = {key: statistics.fmean(float(r[key]) for r in results) for key in ("success", "pdms")}
        agents = statistics.median(len(s.tracks) for s in scenarios)
        cells = "".join(f"{row[n]['success']:>9.2f} {row[n]['pdms']:>8.3f}  " for n in BASELINES)
        print(f"{family:<16} {len(entries):>4} {agents:>6.0f} {row['median_ms']:>6.1f} {row['max_ms']:>4.0f}  {cells}", flush=True)
        report[family] = row
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
