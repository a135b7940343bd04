"""Prints the starter pack by family and checks every scenario against the definitions, from the pack alone.

    python benchmarks/starter_pack.py [--pack starter] [--per-family 0] [--check-env] [--json FILE]

By family: scenarios, agents, attempts to draw a scene, time to make one, and how often each baseline fails (and its mean pdms-live)
among replayed traffic over 4 s. Times are thread CPU time, the least of three makings of each scenario, after a warm-up.
Baselines drive through ``DrivingVectorEnv``, as anybody's policy would; nothing that the builder noted is used. Checked are

- every scenario: it is what its hash says (``worldengine packs verify``), the logged driver succeeds over 4 and 8 s, and it took at
  most 3 attempts;
- every rare scenario: its reference succeeds, constant velocity fails, full braking scores at least 0.2 below the reference;
- every family: neither constant velocity nor full braking comes within 0.05 of the reference in over half of it (it is not
  trivial), and IDM or PDM-Closed succeeds in a fifth of it (it is not hopeless);
- with ``--check-env``: Gymnasium's ``check_env`` passes for every id.

The exit code is 1 if anything is not as it should be.
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env

import worldengine_envs
from worldengine_envs.city import make_scenario
from worldengine_envs.envs.baselines import BASELINES, baseline
from worldengine_envs.envs.vector_env import DrivingVectorEnv
from worldengine_envs.hardware import describe
from worldengine_envs.scenario.pack import Pack
from worldengine_envs.scenario.pack_verify import verify
from worldengine_envs.simulation.threads import num_threads

CHUNK = 32
BRAKE_MARGIN, TRIVIAL_MARGIN, MOST_TRIVIAL, MOST_UNSOLVED, MOST_ATTEMPTS = 0.2, 0.05, 0.5, 0.8, 3


def making_times(recipes) -> tuple[list[float], list[int]]:
    """Returns the time [ms] to make each scenario, and the attempts it took."""
    make_scenario(recipes[0].family, recipes[0].seed)
    times, attempts = [], []
    for recipe in recipes:
        least = float("inf")
        for _ in range(3):
            start = time.thread_time()
            scenario = make_scenario(recipe.family, recipe.seed)
            least = min(least, 1e3 * (time.thread_time() - start))
        times.append(least)
        attempts.append(scenario.parent["attempts"])
    return times, attempts


def drive(pack: Pack, ids: list[str], name: str, horizon_s: float = 4.0) -> list[dict]:
    """Drives one baseline once in every scenario and returns success and pdms of each episode."""
    policy = baseline(name)
    settings = {"action": policy.action, "horizon_s": horizon_s, "autoreset_mode": "Disabled", "copy": False}
    envs = DrivingVectorEnv(pack, num_envs=len(ids), scenario=ids, **settings)
    observations, _ = envs.reset(options={"scenarios": ids})
    act, results = policy(envs), [{} for _ in ids]
    while not all(results):
        observations, _, terminated, truncated, infos = envs.step(act(observations, envs))
        done = terminated | truncated
        for w in np.flatnonzero(done):
            results[w] = results[w] or {"success": bool(infos["success"][w]), "pdms": float(infos["pdms"][w])}
        if done.any():  # these drive again, for company; only the first time counts
            observations, _ = envs.reset(options={"scenarios": ids, "reset_mask": done})
    return results


def drive_all(pack: Pack, entries: list) -> dict[str, list[dict]]:
    """Returns results by baseline, and of the logged driver over 8 s as "log@8s"."""
    results: dict[str, list[dict]] = {name: [] for name in (*BASELINES, "log@8s")}
    for first in range(0, len(entries), CHUNK):
        ids = [entry.id for entry in entries[first : first + CHUNK]]
        kept = DrivingVectorEnv(pack, scenario=ids)  # holds what is compiled from one baseline to the next
        kept.batch.load(ids)
        for name in BASELINES:
            results[name] += drive(pack, ids, name)
        results["log@8s"] += drive(pack, ids, "log", 8.0)
    return results


def broken_rules(entry, runs: dict[str, dict], attempts: int) -> list[str]:
    """Returns what a scenario should be and is not."""
    source = "pdm-closed" if entry.reference.source == "pdm-closed" else "log"
    rules = {
        "the logged driver fails": not runs["log"]["success"],
        "the logged driver fails within 8 s": not runs["log@8s"]["success"],
        f"{attempts} attempts": attempts > MOST_ATTEMPTS,
    }
    if "rare" in entry.tags:
        rules |= {
            "the reference fails": not runs[source]["success"],
            "constant velocity succeeds": runs["constant-velocity"]["success"],
            "full braking scores too near to the reference": runs["brake"]["pdms"] > runs[source]["pdms"] - BRAKE_MARGIN,
        }
    return [f"{entry.id}: {rule}" for rule, broken in rules.items() if broken]


def family_problems(family: str, entries: list, results: dict[str, list[dict]]) -> list[str]:
    """Returns whether a family is trivial or hopeless."""
    trivial = unsolved = 0
    for i, entry in enumerate(entries):
        reference = results["pdm-closed" if entry.reference.source == "pdm-closed" else "log"][i]["pdms"]
        easy = max(results[name][i]["pdms"] for name in ("constant-velocity", "brake"))
        trivial += easy > reference - TRIVIAL_MARGIN
        unsolved += not (results["idm"][i]["success"] or results["pdm-closed"][i]["success"])
    problems = {"trivial": trivial > MOST_TRIVIAL * len(entries), "hopeless": unsolved > MOST_UNSOLVED * len(entries)}
    return [
        f"{family} is {word}: {trivial} trivial, {unsolved} unsolved of {len(entries)}" for word, bad in problems.items() if bad
    ]


def check_ids(pack: Pack) -> list[str]:
    """Runs Gymnasium's checker over all ids of a pack, warnings as errors."""
    problems = []
    for info in worldengine_envs.scenarios(pack=pack.folder):
        env = gym.make(info.env_id, observation="state", render_mode="rgb_array", **info.kwargs)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                check_env(env.unwrapped, skip_render_check=True)
        except (Exception, Warning) as error:  # whatever the checker has to say
            problems.append(f"{info.env_id}: {error}")
        env.close()
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", default="starter")
    parser.add_argument("--per-family", type=int, default=0, help="scenarios to look at in each family, 0 = all")
    parser.add_argument("--check-env", action="store_true", help="also run check_env on every id")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    pack = Pack.open(args.pack)
    families = list(dict.fromkeys(entry.recipe.family for entry in pack.entries))
    manifest = (pack.folder / "pack.json").stat().st_size
    print(f"{pack.name} {pack.manifest.version}: {len(pack)} scenarios, pack.json {manifest / 1e3:.1f} kB")
    print(f"splits: {pack.manifest.counts('split')}")
    print(f"{'family':<20} {'n':>4} {'agents':>6} {'attempts':>8} {'ms':>12}  " + "".join(f"{name:^19}" for name in BASELINES))
    print(f"{'':<20} {'':>4} {'median':>6} {'mean max':>8} {'median   max':>12}  " + f"{'fails  pdms-live':^19}" * len(BASELINES))
    report, problems, all_times = {}, [], []
    for family in families:
        every = [e for e in pack.entries if e.recipe.family == family]
        entries = every[: args.per_family or None]
        times, attempts = making_times([e.recipe for e in entries])
        results = drive_all(pack, entries)
        row = {"scenarios": len(every), "driven": len(entries), "median_ms": statistics.median(times), "max_ms": max(times)}
        row |= {"agents": statistics.median(e.agents for e in entries), "mean_attempts": statistics.fmean(attempts)}
        for name in results:
            row[name] = {key: statistics.fmean(float(r[key]) for r in results[name]) for key in ("success", "pdms")}
        cells = "".join(f"{1.0 - row[n]['success']:>9.2f} {row[n]['pdms']:>7.3f}  " for n in BASELINES)
        print(
            f"{family:<20} {len(every):>4} {row['agents']:>6.0f} {row['mean_attempts']:>4.1f} {max(attempts):>3} "
            f"{row['median_ms']:>6.1f} {row['max_ms']:>5.1f}  {cells}",
            flush=True,
        )
        report[family] = row
        all_times += times
        for i, entry in enumerate(entries):
            problems += broken_rules(entry, {name: rows[i] for name, rows in results.items()}, attempts[i])
        problems += family_problems(family, entries, results)
    print(f"making a scenario: median {statistics.median(all_times):.1f} ms, max {max(all_times):.1f} ms")
    problems += verify(pack)
    if args.check_env:
        problems += check_ids(pack)
        print(f"check_env: {len(pack)} ids checked")
    print(f"{len(problems)} problems", *problems, sep="\n")
    if args.json:
        about = {
            "pack": pack.name,
            "version": pack.manifest.version,
            "problems": len(problems),
            "hardware": describe(num_threads()),
        }
        args.json.write_text(json.dumps({**about, "families": report}, indent=1) + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
