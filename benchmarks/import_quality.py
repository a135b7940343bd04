"""Are imported maps and tracks good? Imports real logs, replays the logged driver in every window, and scores the drive.

    python benchmarks/import_quality.py [LOGS ...]

Each LOGS is FORMAT=PATH, with scenarionet, waymo or argoverse2 as format. Without any: the recordings of ``../shared/data``. A
logged driver who drove 4 s without contact and on the road has NC = DAC = 1; less means a fault of the import or of the
annotations, and is listed with its reason. ``exact`` puts the ego on its logged poses, ``tracked`` follows them with LQR tracker
and bicycle.
The exit code is 1 when fewer than 95 % of the windows, refused ones included, have NC = DAC = 1 in the exact replay.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from worldengine_envs.cli.import_logs import Summary, find_logs, import_logs
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.pack import Pack
from worldengine_envs.scenario.pack_write import write_pack
from worldengine_envs.scenario.types import AgentType, Scenario
from worldengine_envs.scoring.live import INFRACTION_NAMES, live_reset, live_update, make_live_score
from worldengine_envs.simulation.bank import ScenarioBank
from worldengine_envs.simulation.tracker import curvature_profile, lqr_command, velocity_profile
from worldengine_envs.simulation.world import make_worlds, move_ego, reset_world, step_world

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
DEFAULT = (
    ("scenarionet", "nuscenes_mini"),
    ("scenarionet", "waymo_scenarionet"),
    ("waymo", "waymo_json"),
    ("waymo", "waymo_tfrecord"),
    ("argoverse2", "argoverse2"),
)
HORIZON_STEPS = 40
BAR = 0.95


def replay(scenario: Scenario, tracked: bool):
    """Returns the live score of the logged driver over 4 s and a text on its first infraction."""
    bank = ScenarioBank(horizon_s=HORIZON_STEPS / 10, traffic="log")
    row = bank.add(scenario)
    arrays, agents = bank.arrays, bank.max_agents
    worlds, score = make_worlds(1, agents, HORIZON_STEPS), make_live_score(1, agents, HORIZON_STEPS)
    reset_world(arrays, worlds, 0, row)
    live_reset(arrays, worlds, score, 0)
    poses = logged_poses(scenario)
    speed, curvature, rate = (np.zeros(HORIZON_STEPS) for _ in range(3))
    velocity_profile(poses, speed)
    curvature_profile(poses, speed, curvature, rate)
    for k in range(HORIZON_STEPS):
        if tracked:
            command = lqr_command(worlds.ego[0], poses, k, speed, curvature, scenario.ego.wheel_base)
            step_world(arrays, worlds, 0, *command, False)
        else:
            move_ego(arrays, worlds, 0, *poses[k + 1])
        live_update(arrays, worlds, score, 0, k == HORIZON_STEPS - 1)
    return score, describe(scenario, score)


def logged_poses(scenario: Scenario) -> np.ndarray:
    """Returns (41, 3) x, y [m], yaw [rad] of the logged rear axle from the start on."""
    steps = slice(scenario.start_step, scenario.start_step + HORIZON_STEPS + 1)
    x, y, yaw = scenario.tracks.state[0, steps, :3].T
    back = scenario.ego.rear_axle_to_center
    return np.column_stack([x - back * np.cos(yaw), y - back * np.sin(yaw), np.unwrap(yaw)])


def describe(scenario: Scenario, score) -> str:
    """Returns what went wrong first, when and with what."""
    term = int(score.infraction_term[0])
    if term == 0:
        return ""
    text = f"{INFRACTION_NAMES[term]} at {score.infraction_step[0] / 10:.1f} s"
    row = int(score.infraction_agent[0])
    if row > 0:
        text += f" with {AgentType(int(scenario.tracks.types[row])).name.lower()} {scenario.tracks.tokens[row]}"
    x, y = score.infraction_place[0]
    return f"{text} at ({x:.1f}, {y:.1f})"


def check(log_format: str, source: Path, folder: Path, failures: list[str]) -> list[tuple]:
    """Imports one source into a pack in ``folder``, replays all of its windows and returns a row for each recording."""
    logs, read = find_logs(log_format, source)
    summary = Summary()
    start = time.process_time()
    path = write_pack(folder / source.name, source.name, "1.0", "as the logs", import_logs(logs, read, summary, "test"))
    seconds = time.process_time() - start
    failures += [f"not imported: {failure}" for failure in summary.failures]
    pack, rows = Pack.open(path), {name: [] for name in summary.windows}
    references = {name: {} for name in summary.windows}
    for entry in pack.entries:
        scenario = pack.load(entry.id)
        recording = entry.id.rpartition("_")[0]
        source_of = scenario.reference.source if scenario.reference else "none"
        references[recording][source_of] = references[recording].get(source_of, 0) + 1
        (exact, reason), (tracked, tracked_reason) = replay(scenario, False), replay(scenario, True)
        rows[recording].append((good(exact), good(tracked), exact.ttc[0], exact.comfort[0], tracked.pdms[0]))
        if not good(exact):
            failures.append(f"{entry.id} exact: {reason}")
        if not good(tracked):
            failures.append(f"{entry.id} tracked: {tracked_reason}")
    failures += [f"{refusal.id} refused: {refusal.reason}" for refusal in summary.refused]
    print(f"{source.name}: {len(pack)} windows of {len(rows)} recordings imported in {seconds:.1f} s of CPU time")
    refused = {name: sum(r.id.startswith(f"{name}_") or r.id == name for r in summary.refused) for name in rows}
    return [(name, np.array(rows[name]).reshape(-1, 5), refused[name], references[name]) for name in rows]


def good(score) -> bool:
    """Whether NC = DAC = 1."""
    return score.nc[0] == 1.0 and score.dac[0] == 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="*", metavar="FORMAT=PATH")
    arguments = parser.parse_args()
    wanted = [(f, Path(p)) for f, _, p in (text.partition("=") for text in arguments.logs)] or [(f, SHARED / p) for f, p in DEFAULT]
    failures: list[str] = []
    table = []
    with tempfile.TemporaryDirectory() as folder:
        for log_format, source in wanted:
            try:
                table += check(log_format, source, Path(folder), failures)
            except DataError as error:
                failures.append(str(error))
    width = max((len(row[0]) for row in table), default=10)
    print(f"\n{'recording':<{width}} windows refused exact tracked  ttc comfort pdms@tracked references")
    for name, values, refused, references in table:
        mean = values.mean(0) if len(values) else np.full(5, np.nan)
        print(
            f"{name:<{width}} {len(values):7d} {refused:7d} {int(values[:, 0].sum()):5d} {int(values[:, 1].sum()):7d} "
            f"{mean[2]:4.2f} {mean[3]:7.2f} {mean[4]:12.3f} {', '.join(f'{k} {v}' for k, v in references.items())}"
        )
    values = np.concatenate([row[1] for row in table]) if table else np.zeros((0, 5))
    cut = len(values) + sum(row[2] for row in table)
    exact, tracked = int(values[:, 0].sum()), int(values[:, 1].sum())
    share = exact / max(cut, 1)
    print(f"\nNC = DAC = 1 in {exact} of {cut} windows exact ({share:.1%}; the bar is {BAR:.0%}), in {tracked} tracked")
    if failures:
        print("failures:\n" + "\n".join(f"  {line}" for line in failures))
    return 0 if share >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
