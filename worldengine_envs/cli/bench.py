"""``worldengine bench``: how fast many worlds of a pack are driven on this machine."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tyro

from worldengine_envs.errors import DataError
from worldengine_envs.hardware import describe

DRAWS = 8  # batches of random actions that are drawn before the clock starts, and used in turn


@dataclass(frozen=True)
class Throughput:
    """What was measured."""

    pack: str
    num_envs: int
    action: str
    traffic: str
    scenarios: int  # loaded
    agents: float  # present in a world, mean
    reading_s: float  # time to read and compile the scenarios, and to make their scenes where they are seen [s]
    decisions_per_s: float  # of single worlds
    world_steps_per_s: float  # of 0.1 s, resets, rewards and observations included
    real_time: float  # simulated seconds a second


def main(
    pack: tyro.conf.Positional[str] = "starter",
    num_envs: int = 64,
    seconds: float = 5.0,
    action: str = "control",
    traffic: str = "log",
    scenarios: int = 64,
    horizon_s: float = 4.0,
    observation: str = "state",
    cameras: str = "front",
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Drives worlds with random actions through gym.make_vec's environment and prints decisions and world-steps a second.

    The number of threads is that of WORLDENGINE_THREADS, else of processors.

    Args:
        pack: Name or folder of a pack.
        num_envs: Worlds side by side.
        seconds: How long to measure [s].
        action: control, trajectory or anchor.
        traffic: log or idm.
        scenarios: How many scenarios of the pack are driven, spread over it.
        horizon_s: Length of an episode [s].
        observation: state, camera or camera+state. Scenes are made before the clock starts.
        cameras: front, front3 or surround8, where images are observed.
        seed: Of actions and of the order of scenarios.
        out: Also write the figures and the hardware to this JSON file.
    """
    from worldengine_envs.simulation.threads import num_threads

    if not seconds > 0 or scenarios < 1:
        raise DataError("must be above 0", field="--seconds" if scenarios >= 1 else "--scenarios")
    if out is not None and not out.parent.is_dir():
        raise DataError("no such folder", file=out.parent, field="--out", remedy="Make it first")
    seen = {} if observation == "state" else {"observation": observation, "cameras": cameras}
    result = measure(pack, num_envs, seconds, action, traffic, scenarios, horizon_s, seed, **seen)
    hardware = describe(num_threads())
    print(f"{result.pack}: {num_envs} worlds of {result.scenarios} scenarios, action {action}, traffic {traffic}")
    print(f"{result.world_steps_per_s:,.0f} world-steps/s of 0.1 s ({result.real_time:,.0f} times real time)")
    print(f"{result.decisions_per_s:,.0f} decisions/s, {result.agents:.0f} agents a world; reading took {result.reading_s:.1f} s")
    print(", ".join(f"{key} {value}" for key, value in hardware.items()))
    if out is not None:
        out.write_text(json.dumps(asdict(result) | {"hardware": hardware}, indent=1) + "\n")


def measure(pack, num_envs, seconds, action, traffic, scenarios, horizon_s, seed, **seen) -> Throughput:
    """Returns the throughput; arguments as in ``main``, ``seen`` as of environments.

    Reading scenarios, making scenes and compiling kernels lie before the clock starts.
    """
    from worldengine_envs.envs.vector_env import DrivingVectorEnv

    settings = {"action": action, "traffic": traffic, "horizon_s": horizon_s, **seen}
    envs = DrivingVectorEnv(pack, num_envs, autoreset_mode="SameStep", copy=False, **settings)
    ids = envs.scenario_ids
    chosen = [ids[i] for i in np.unique(np.linspace(0, len(ids) - 1, min(scenarios, len(ids))).astype(int))]
    envs = DrivingVectorEnv(pack, num_envs, autoreset_mode="SameStep", copy=False, scenario=chosen, **settings)
    begun = time.perf_counter()
    envs.batch.load(chosen)
    for i in range(0, len(chosen) if seen else 0, num_envs):  # scenes
        envs.reset(options={"scenarios": [chosen[k % len(chosen)] for k in range(i, i + num_envs)]})
    reading = time.perf_counter() - begun
    envs.action_space.seed(seed)
    actions = [envs.action_space.sample() for _ in range(DRAWS)]
    envs.reset(seed=seed)
    envs.step(actions[0])  # compiles
    agents, steps, decisions = float(envs.batch.worlds.present.sum(1).mean()), 0, 0
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        before = envs.batch.worlds.step.copy()
        envs.step(actions[decisions % DRAWS])
        steps += _steps_driven(before, envs)
        decisions += 1
    elapsed = time.perf_counter() - begun
    rate = steps / elapsed
    name = getattr(envs.batch.selection.pack, "name", str(pack))
    return Throughput(
        name, num_envs, action, traffic, len(chosen), agents, reading, decisions * num_envs / elapsed, rate, 0.1 * rate
    )


def _steps_driven(before: np.ndarray, envs) -> int:
    """Returns the steps of 0.1 s of all worlds in one decision; those that ended in it count as whole decisions."""
    driven = envs.batch.worlds.step - before
    return int(np.where(driven > 0, driven, envs.settings.substeps).sum())
