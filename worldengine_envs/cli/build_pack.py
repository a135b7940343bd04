"""``worldengine packs build``: finds the city's seeds that meet the definitions and writes their recipes as a pack."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import ProgressReference, Scenario

LICENCE = "Apache-2.0"
DESCRIPTION = "Common and rare driving in a procedural city, made on demand from families and seeds"
HORIZONS_S = (4.0, 8.0)  # for which every scenario has a progress reference
JUDGES = ("log", "constant-velocity", "brake", "pdm-closed")  # baselines that are driven to judge a scenario
MARGIN = 0.2  # by which full braking stays below the reference in rare scenarios
CHUNK = 16  # scenarios driven side by side
GIVE_UP = 20  # candidates for each scenario wanted


@dataclass(frozen=True)
class Outcome:
    """What became of one candidate."""

    family: str
    seed: int
    hash: str
    refused: str  # why it does not go into the pack, "" = it does
    source: str = ""  # of the progress reference
    progress: dict[str, float] | None = None  # by horizon [s], written as text
    pdms: dict[str, float] | None = None  # score over 4 s by baseline


def build(
    out: Path,
    name: str = "starter",
    version: str = "1.0",
    common: int = 40,
    rare: int = 40,
    families: tuple[str, ...] = (),
    overwrite: bool = False,
) -> int:
    """Builds a pack of city scenarios: as many of each family as asked for, half of them train and half test by seed.

    A rare scenario goes in where the reference succeeds over 4 and 8 s, constant velocity fails and full braking scores at
    least 0.2 below the reference; a common one where the logged driver succeeds. What was judged so far is kept beside the
    pack until it is written, so that an interrupted build goes on where it stopped.

    Args:
        out: Folder of the pack.
        name: Name of the pack.
        version: Version of its content.
        common: Scenarios of each common family.
        rare: Scenarios of each rare family.
        families: Families to use, all if empty.
        overwrite: Replace a pack that is there.
    """
    from worldengine_envs.city import FAMILIES, RARE
    from worldengine_envs.scenario.pack_write import write_pack

    unknown = set(families) - set(FAMILIES)
    if unknown:
        raise DataError(f"no family {sorted(unknown)[0]!r}", field="families", remedy=f"Families: {', '.join(FAMILIES)}")
    counts = {family: rare if family in RARE else common for family in families or FAMILIES}
    if any(count < 2 or count % 2 for count in counts.values()):
        raise DataError("must be even and at least 2, half for each split", field="common or rare")
    if (out / "pack.json").exists() and not overwrite:
        raise DataError("there is a pack already", file=out, remedy="Use --overwrite to replace it")
    notes = out.parent / f".{out.name}.progress.jsonl"
    notes.parent.mkdir(parents=True, exist_ok=True)
    judged = read_outcomes(notes)
    chosen: list[Outcome] = []
    with notes.open("a", encoding="utf-8") as file:
        for family, count in counts.items():
            chosen += _choose(family, count, judged.get(family, {}), lambda o: _note(file, o))
    write_pack(out, name, version, LICENCE, _scenarios(chosen), description=DESCRIPTION, recipes=True, overwrite=overwrite)
    notes.unlink()
    print(f"{out}: {len(chosen)} scenarios, pack.json of {(out / 'pack.json').stat().st_size / 1e3:.0f} kB")
    return 0


def _note(file, outcome: Outcome) -> None:
    file.write(json.dumps(asdict(outcome)) + "\n")
    file.flush()


def read_outcomes(notes: Path) -> dict[str, dict[int, Outcome]]:
    """Returns what an interrupted build has judged, by family and seed; a last line that was cut off is left out."""
    judged: dict[str, dict[int, Outcome]] = {}
    if not notes.exists():
        return judged
    lines = notes.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines[:-1], 1):
        try:
            outcome = Outcome(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise DataError(f"line {number} cannot be read: {error}", file=notes, remedy="Delete the file to begin anew") from None
        judged.setdefault(outcome.family, {})[outcome.seed] = outcome
    if lines[-1]:
        notes.write_text("".join(f"{line}\n" for line in lines[:-1]), encoding="utf-8")
    return judged


def _choose(family: str, count: int, judged: dict[int, Outcome], note: Callable[[Outcome], None]) -> list[Outcome]:
    """Returns the first ``count`` / 2 good seeds of each parity."""
    from rich.progress import Progress

    outcomes: dict[int, Outcome] = {}
    with Progress(transient=True) as progress:
        task = progress.add_task(family, total=count)
        first = 0
        while not _complete(outcomes, count):
            if first > GIVE_UP * count:
                reasons = sorted({o.refused for o in outcomes.values() if o.refused})[:3]
                raise DataError(f"family {family}: too few of {first} candidates fit ({'; '.join(reasons)})", field="families")
            seeds = range(first, first + CHUNK)
            fresh = [seed for seed in seeds if seed not in judged]
            for outcome in judge(family, fresh):
                judged[outcome.seed] = outcome
                note(outcome)
            outcomes |= {seed: judged[seed] for seed in seeds}
            first += CHUNK
            progress.update(task, completed=min(count, sum(not o.refused for o in outcomes.values())))
    good = [o for _, o in sorted(outcomes.items()) if not o.refused]
    chosen = [o for parity in (0, 1) for o in [o for o in good if o.seed % 2 == parity][: count // 2]]
    last = max(o.seed for o in chosen)
    tried = [o for o in outcomes.values() if o.seed <= last]
    print(f"{family}: {sum(not o.refused for o in tried)} of {len(tried)} candidates fit")
    return sorted(chosen, key=lambda o: o.seed)


def _complete(outcomes: dict[int, Outcome], count: int) -> bool:
    return all(sum(not o.refused and o.seed % 2 == parity for o in outcomes.values()) >= count // 2 for parity in (0, 1))


def judge(family: str, seeds: Iterable[int]) -> list[Outcome]:
    """Makes candidates, drives the baselines in them and returns what became of each."""
    from worldengine_envs.city import make_scenario
    from worldengine_envs.envs.baselines import logged_poses
    from worldengine_envs.envs.reference import attach_reference
    from worldengine_envs.scenario.quantise import scenario_hash
    from worldengine_envs.scenario.start import start_problem
    from worldengine_envs.scenario.validation import validate

    outcomes, ready = [], []
    for seed in seeds:
        scenario = validate(make_scenario(family, seed))
        outcome = Outcome(family, seed, scenario_hash(scenario), start_problem(scenario) or "")
        if not outcome.refused:
            try:
                scenario = attach_reference(scenario, logged_poses(scenario, scenario.steps_ahead))
            except DataError as error:
                outcome = replace(outcome, refused=error.problem)
            else:
                missing = [h for h in HORIZONS_S if h not in scenario.reference.progress]
                if missing:
                    outcome = replace(outcome, refused=f"no motion survives {missing[0]:g} s")
        if outcome.refused:
            outcomes.append(outcome)
        else:
            ready.append((scenario, outcome))
    if ready:
        outcomes += _judge_driven(ready)
    return outcomes


def _judge_driven(ready: list[tuple[Scenario, Outcome]]) -> Iterator[Outcome]:
    results = {name: drive_baseline([s for s, _ in ready], name) for name in JUDGES}
    for i, (scenario, outcome) in enumerate(ready):
        pdms = {name: round(float(rows[i]["pdms"]), 4) for name, rows in results.items()}
        yield replace(
            outcome,
            refused=_verdict(scenario, {name: rows[i] for name, rows in results.items()}),
            source=scenario.reference.source,
            progress={f"{h:g}": scenario.reference.progress[h] for h in HORIZONS_S},
            pdms=pdms,
        )


def _verdict(scenario: Scenario, results: dict[str, dict]) -> str:
    """Returns why a scenario does not meet its definition, "" if it does."""
    if not results["log"]["success"]:
        return "the logged driver fails"
    if "rare" not in scenario.tags:
        return ""
    if results["constant-velocity"]["success"]:
        return "constant velocity succeeds"
    reference = results["pdm-closed" if scenario.reference.source == "pdm-closed" else "log"]["pdms"]
    if results["brake"]["pdms"] > reference - MARGIN:
        return "full braking is nearly as good as the reference"
    return ""


def drive_baseline(scenarios: list[Scenario], name: str, horizon_s: float = 4.0) -> list[dict]:
    """Drives one baseline once in every scenario and returns the infos at the end of each episode."""
    from worldengine_envs.envs.baselines import baseline
    from worldengine_envs.envs.vector_env import DrivingVectorEnv

    policy = baseline(name)
    envs = DrivingVectorEnv(
        scenarios, num_envs=len(scenarios), autoreset_mode="Disabled", action=policy.action, horizon_s=horizon_s, copy=False
    )
    ids = [scenario.id for scenario in scenarios]
    observations, _ = envs.reset(options={"scenarios": ids})
    act = policy(envs)
    results: list[dict] = [{} for _ in scenarios]
    while not all(results):
        observations, _, terminated, truncated, infos = envs.step(act(observations, envs))
        done = terminated | truncated
        for w in np.flatnonzero(done):
            results[w] = results[w] or {key: value[w] for key, value in infos.items() if not key.startswith("_")}
        if done.any():  # these drive again, for company; only the first time counts
            observations, _ = envs.reset(options={"scenarios": ids, "reset_mask": done})
    return results


def _scenarios(chosen: list[Outcome]) -> Iterator[Scenario]:
    """Yields the scenarios of a pack with ids numbered by family."""
    from worldengine_envs.city import make_scenario
    from worldengine_envs.scenario.quantise import scenario_hash

    numbers: dict[str, int] = {}
    for outcome in chosen:
        scenario = make_scenario(outcome.family, outcome.seed)
        if scenario_hash(scenario) != outcome.hash:
            problem = "the recipe gives another scenario than when it was judged"
            raise DataError(problem, scenario=scenario.id, remedy="The city has changed: delete the .progress.jsonl and build anew")
        number = numbers[outcome.family] = numbers.get(outcome.family, -1) + 1
        reference = ProgressReference(outcome.source, {float(h): p for h, p in outcome.progress.items()})
        yield replace(scenario, id=f"{outcome.family}_{number:03d}", reference=reference)
