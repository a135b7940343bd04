"""State world-steps a second on one core, beside highway-env in the same run.

    python benchmarks/world_step.py [--worlds 512] [--steps 200] [--repeats 5] [--data ../shared/data] [--no-highway]

A world-step is 0.1 s of a world with at least 30 agents at the start, every second one of them driven by IDM, a map of at least 150
polygons, full reward, observation written, resets included (DEFINITIONS, "Benchmarks"), through ``DrivingVectorEnv`` with random
`control` actions. One pack a family of the city (those of the starter pack), and one a folder of real recordings if there are any.
Times are processor time of this process on one thread, the least over repeats; compiling is left out and printed by itself.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

os.environ["WORLDENGINE_THREADS"] = "1"

import numpy as np

from worldengine_envs.city import FAMILIES, make_scenario
from worldengine_envs.envs.driving_env import DrivingEnv
from worldengine_envs.envs.vector_env import DrivingVectorEnv
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import ProgressReference, Scenario
from worldengine_envs.simulation.bank import IDM

RECORDINGS = {"nuscenes_mini": "scenarionet", "waymo_scenarionet": "scenarionet", "argoverse2": "argoverse2"}
MIN_AGENTS, MIN_POLYGONS = 30, 150
HORIZON_S = 4.0


def fits(scenario: Scenario) -> bool:
    """Whether a scenario is large enough to count."""
    present = int(scenario.tracks.valid[:, scenario.start_step].sum()) - 1
    return present >= MIN_AGENTS and scenario.vector_map.num_polygons >= MIN_POLYGONS and scenario.fits(HORIZON_S)


def with_reference(scenario: Scenario) -> Scenario:
    """The scenario with its logged driver's way as progress reference: the value does not matter here."""
    k = scenario.start_step
    xy = scenario.tracks.state[0, k : k + round(HORIZON_S * 10) + 1, :2]
    progress = max(float(np.hypot(*np.diff(xy, axis=0).T).sum()), 1.0)
    return replace(scenario, reference=ProgressReference("log", {HORIZON_S: progress}))


def city_pack(family: str, count: int = 8) -> list[Scenario]:
    """The first scenarios of a family that are large enough."""
    scenarios, seed = [], 0
    while len(scenarios) < count and seed < 8 * count:
        scenario = make_scenario(family, seed)
        scenarios += [scenario] if fits(scenario) else []
        seed += 1
    return scenarios


def recorded_pack(folder: Path, kind: str) -> list[Scenario]:
    """Windows of real recordings that are large enough."""
    from worldengine_envs.sources.argoverse2 import argoverse2_logs, read_argoverse2
    from worldengine_envs.sources.scenarionet import read_scenarionet, scenarionet_files
    from worldengine_envs.sources.windows import cut_windows

    files, read = (argoverse2_logs, read_argoverse2) if kind == "argoverse2" else (scenarionet_files, read_scenarionet)
    scenarios = []
    for file in files(folder):
        try:
            recordings = list(read(file))
        except DataError as error:
            print(f"left out: {error}")
            continue
        scenarios += [window for recording in recordings for window in cut_windows(recording).scenarios if fits(window)]
    return scenarios


def half_idm(scenarios: list[Scenario]) -> dict[str, str]:
    """Every second agent by IDM; where a token is in several scenarios, the first one decides."""
    traffic: dict[str, str] = {}
    for scenario in scenarios:
        for a, token in enumerate(scenario.tracks.tokens[1:]):
            traffic.setdefault(token, "idm" if a % 2 else "log")
    return traffic


def measure(scenarios: list[Scenario], worlds: int, steps: int, repeats: int) -> dict[str, float]:
    """World-steps a second of one pack, and what is in its worlds."""
    env = DrivingVectorEnv([with_reference(s) for s in scenarios], num_envs=worlds, traffic=half_idm(scenarios), copy=False)
    rng = np.random.default_rng(0)
    actions = [rng.uniform(-0.5, 0.5, (worlds, 2)).astype(np.float32) for _ in range(16)]
    env.reset(seed=0)
    state, bank = env.batch.worlds, env.batch.bank.arrays
    agents = state.present.sum(1) - 1
    row = bank.scenarios["agent_start"][state.scenario][:, None] + np.arange(state.present.shape[1])
    idm = (state.present & (state.mode == IDM)).sum(1)
    moving = (state.present & (state.mode == IDM) & (bank.agents["path_count"][np.minimum(row, len(bank.agents) - 1)] > 0)).sum(1)
    best, resets = np.inf, 0
    for repeat in range(repeats + 1):
        resets, start = 0, time.process_time()
        for k in range(steps if repeat else 5):  # the first round compiles
            _, _, terminated, truncated, _ = env.step(actions[k % 16])
            resets += int((terminated | truncated).sum())
        if repeat:
            best = min(best, (time.process_time() - start) / (steps * worlds))
    return {
        "rate": 1.0 / best,
        "agents": agents.mean(),
        "idm": idm.mean(),
        "moving_idm": moving.mean(),
        "polygons": np.mean([s.vector_map.num_polygons for s in scenarios]),
        "resets": resets / steps / worlds,
    }


def single_step_us(scenario: Scenario) -> float:
    """Median time of one step of a single environment [us], resets left out."""
    env = DrivingEnv([with_reference(scenario)], traffic=half_idm([scenario]))
    env.reset(seed=0)
    times, action = [], np.zeros(2, np.float32)
    for _ in range(2000):
        start = time.perf_counter()
        _, _, terminated, truncated, _ = env.step(action)
        times.append(time.perf_counter() - start)
        if terminated or truncated:
            env.reset()
    return 1e6 * float(np.median(times))


def highway_seconds() -> float:
    """Simulated seconds a second of highway-env's highway-fast-v0 with 20 vehicles."""
    import gymnasium as gym
    import highway_env  # noqa: F401 (registers its ids)

    env = gym.make("highway-fast-v0", config={"vehicles_count": 20})
    step_s = 1.0 / env.unwrapped.config["policy_frequency"]
    best = np.inf
    for repeat in range(4):
        env.reset(seed=repeat)
        start = time.process_time()
        for _ in range(30):
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                env.reset()
        best = min(best, (time.process_time() - start) / 30) if repeat else best
    return step_s / best


def import_s() -> float:
    """Least time of ``import worldengine_envs`` in a fresh interpreter [s]."""
    code = "import time; t = time.perf_counter(); import worldengine_envs; print(time.perf_counter() - t)"
    return min(float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) for _ in range(5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=512)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data")
    parser.add_argument("--no-highway", action="store_true")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", module="highway_env|gymnasium|pygame")
    packs = {f"city {family}": city_pack(family) for family in FAMILIES}
    for name, kind in RECORDINGS.items():
        if (args.data / name).is_dir():
            packs[name] = recorded_pack(args.data / name, kind)
    head = ("scenarios", "polygons", "agents", "IDM", "moving", "resets/step", "steps/s", "us/step")
    print(f"{'pack':24}" + "".join(f"{name:>12}" for name in head))
    results = {}
    for name, scenarios in packs.items():
        if not scenarios:
            print(f"{name:24} no scenario with {MIN_AGENTS} agents and {MIN_POLYGONS} polygons")
            continue
        r = results[name] = measure(scenarios, args.worlds, args.steps, args.repeats)
        print(
            f"{name:24}{len(scenarios):12d}{r['polygons']:12.0f}{r['agents']:12.1f}{r['idm']:12.1f}{r['moving_idm']:12.1f}"
            f"{r['resets']:12.4f}{r['rate']:12.0f}{1e6 / r['rate']:12.2f}"
        )
    rates = {name: r["rate"] for name, r in results.items()}
    worst, median = min(rates, key=rates.get), float(np.median(list(rates.values())))
    print(f"{args.worlds} worlds, one core: median pack {median:.0f} world-steps/s, worst {rates[worst]:.0f} ({worst})")
    print(f"single environment: {single_step_us(packs['city cut_in'][0]):.0f} us a step")
    print(f"import worldengine_envs: {import_s():.3f} s")
    if not args.no_highway:
        highway = highway_seconds()
        ours = 0.1 * median
        print(f"highway-fast-v0, 20 vehicles: {highway:.1f} simulated s/s; ours {ours:.0f}, {ours / highway:.0f} times as many")


if __name__ == "__main__":
    main()
