"""Whether seeds of the city's families give scenarios that meet the definitions: each is made, and driven by all baselines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from worldengine_envs.cli.build_settings import HORIZONS_S, Acceptance
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import ProgressReference, Scenario

HORIZON_S = 4.0  # of the baselines' drives
LEVELS = ("easy", "medium", "hard")  # thirds of difficulty, as tags


@dataclass(frozen=True)
class Outcome:
    """What became of one candidate."""

    family: str
    seed: int
    hash: str
    refused: str  # why it does not go into the pack, "" = it does
    attempts: int = 0  # of drawing a scene
    level: str = ""  # one of LEVELS
    trivial: bool = False  # constant velocity or full braking does nearly as well as the reference
    unsolved: bool = False  # neither IDM nor PDM-Closed succeeds
    source: str = ""  # of the progress reference
    progress: dict[str, float] | None = None  # by horizon [s], written as text
    success: dict[str, bool] | None = None  # over 4 s by baseline
    pdms: dict[str, float] | None = None  # score over 4 s by baseline


def judge(
    family: str,
    seeds: Iterable[int],
    horizons_s: tuple[float, ...] = HORIZONS_S,
    acceptance: Acceptance = Acceptance(),  # noqa: B008 (frozen)
) -> list[Outcome]:
    """Makes candidates, drives the logged driver and the baselines in them, and returns what became of each."""
    from worldengine_envs.city import make_scenario
    from worldengine_envs.scenario.quantise import quantised, scenario_hash
    from worldengine_envs.scenario.start import start_problem
    from worldengine_envs.scenario.validation import validate

    outcomes, ready = [], []
    for seed in seeds:
        try:
            scenario = make_scenario(family, seed)
        except DataError as error:
            outcomes.append(Outcome(family, seed, "", error.problem))
            continue
        scenario = replace(validate(quantised(scenario)), id=f"{family}_{seed}")
        attempts = scenario.parent["attempts"]
        problem = start_problem(scenario) or ""
        if attempts > acceptance.most_attempts:
            problem = f"more than {acceptance.most_attempts} attempts to draw it"
        level = next(tag for tag in scenario.tags if tag in LEVELS)
        outcome = Outcome(family, seed, scenario_hash(scenario), problem, attempts, level)
        if problem:
            outcomes.append(outcome)
        else:
            ready.append((scenario, outcome))
    return sorted(outcomes + _driven(ready, horizons_s, acceptance), key=lambda o: o.seed)


Ready = list[tuple[Scenario, Outcome]]


def _driven(ready: Ready, horizons_s: tuple[float, ...], acceptance: Acceptance) -> list[Outcome]:
    """Drives candidates that could be made, all side by side; those with a reference by every baseline."""
    from worldengine_envs.envs.baselines import BASELINES
    from worldengine_envs.envs.library import library
    from worldengine_envs.envs.selection import MemoryPack

    outcomes, referenced = _with_references(ready, horizons_s)
    if not referenced:
        return outcomes
    pack = MemoryPack([scenario for scenario, _ in referenced])
    compiled = library(pack, HORIZON_S, "log")  # kept for all baselines
    compiled.load([scenario.id for scenario in pack.entries])
    results = {name: drive_baseline(pack, name, HORIZON_S) for name in BASELINES}
    for i, (scenario, outcome) in enumerate(referenced):
        success = {name: bool(rows[i]["success"]) for name, rows in results.items()}
        pdms = {name: round(float(rows[i]["pdms"]), 4) for name, rows in results.items()}
        outcome = replace(outcome, success=success, pdms=pdms)
        outcomes.append(_with_verdict(outcome, "rare" in scenario.tags, acceptance))
    return outcomes


def _with_references(ready: Ready, horizons_s: tuple[float, ...]) -> tuple[list[Outcome], Ready]:
    """Returns those without a reference, or whose logged driver fails within the longest horizon; and all others."""
    from worldengine_envs.envs.baselines import logged_poses
    from worldengine_envs.envs.reference import ReferenceRuns, best_reference

    if not ready:
        return [], []
    scenarios = [scenario for scenario, _ in ready]
    runs = ReferenceRuns(scenarios, horizons_s)
    closed = runs.drive("pdm-closed")
    logged = runs.drive("solution", [logged_poses(s, s.steps_ahead) for s in scenarios])
    refused, referenced = [], []
    for (scenario, outcome), by_planner, by_log in zip(ready, closed, logged, strict=True):
        if len(by_log.progress) < len(horizons_s):
            refused.append(replace(outcome, refused=f"the logged driver {_without_names(by_log.failure)}"))
            continue
        reference = best_reference(scenario.id, {"pdm-closed": by_planner, "solution": by_log})
        progress = {f"{h:g}": p for h, p in reference.progress.items()}
        referenced.append((replace(scenario, reference=reference), replace(outcome, source=reference.source, progress=progress)))
    return refused, referenced


def _without_names(failure: str) -> str:
    """Returns a failure without who and when, so that equal reasons can be counted: "hit car_12 at 3.1 s" gives "hit car"."""
    words = failure.split(" at ")[0].split()
    return " ".join([*words[:-1], words[-1].rstrip("0123456789").rstrip("_")])


def _with_verdict(outcome: Outcome, rare: bool, acceptance: Acceptance) -> Outcome:
    """Returns the outcome with what its definition says."""
    reference = outcome.pdms["pdm-closed" if outcome.source == "pdm-closed" else "log"]
    refused = ""
    if not outcome.success["log"]:
        refused = "the logged driver fails"
    elif rare and outcome.success["constant-velocity"]:
        refused = "constant velocity succeeds"
    elif rare and outcome.pdms["brake"] > reference - acceptance.brake_margin:
        refused = "full braking is nearly as good as the reference"
    trivial = max(outcome.pdms["constant-velocity"], outcome.pdms["brake"]) > reference - acceptance.trivial_margin
    return replace(
        outcome, refused=refused, trivial=trivial, unsolved=not (outcome.success["idm"] or outcome.success["pdm-closed"])
    )


class _Worlds:
    """What a baseline is made for."""

    def __init__(self, batch):
        self.batch = batch


def drive_baseline(scenarios, name: str, horizon_s: float = HORIZON_S) -> list[dict]:
    """Drives one baseline once in every scenario and returns the score terms and infos at the end of each episode.

    Args:
        scenarios: A list of them, or a ``MemoryPack``: what is compiled for one baseline then serves the others while it is kept.
        name: Of the baseline.
        horizon_s: [s].
    """
    from worldengine_envs.envs.baselines import baseline
    from worldengine_envs.envs.infos import end_info, score_info
    from worldengine_envs.envs.selection import open_pack
    from worldengine_envs.envs.settings import EnvironmentSettings

    policy = baseline(name)
    settings = EnvironmentSettings(open_pack(scenarios), action=policy.action, horizon_s=horizon_s)
    ids = list(settings.selection().ids)
    batch = settings.make_batch(len(ids))
    batch.begin(np.arange(len(ids)), ids)
    act = policy(_Worlds(batch))
    results: list[dict] = [{} for _ in ids]
    while not all(results):
        batch.drive(np.array([not result for result in results]), act())
        d = batch.decisions
        for w in np.flatnonzero(d.active & (d.terminated | d.truncated)):
            results[w] = {**score_info(batch, w), **end_info(batch, w)}
    return results


def reference_of(outcome: Outcome) -> ProgressReference:
    """Returns the progress reference that was found."""
    return ProgressReference(outcome.source, {float(h): p for h, p in outcome.progress.items()})
