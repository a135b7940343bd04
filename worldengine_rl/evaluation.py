"""Closed-loop evaluation: every scenario is driven once, and a table says how it went, with intervals and with the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from worldengine_envs.envs.baselines import BASELINES, baseline
from worldengine_rl.checkpoints import load_policy
from worldengine_rl.policies import DrivingPolicy
from worldengine_rl.statistics import Estimate, bootstrap_mean, paired_difference
from worldengine_rl.worlds import WorldFactory, drive

TABLE_WIDTH = 144  # columns
TERMS = ("success", "pdms", "nc", "dac", "ttc", "ep", "comfort", "progress")


@dataclass(frozen=True)
class Record:
    """What became of one scenario. ``error`` is why it could not be driven; then the numbers are None and reach no average."""

    scenario: str
    recording: str  # windows of one recording are drawn together by the bootstrap
    split: str
    tags: tuple[str, ...]
    success: bool | None = None
    pdms: float | None = None  # pdms-live over the horizon
    nc: float | None = None
    dac: float | None = None
    ttc: float | None = None
    ep: float | None = None
    comfort: float | None = None
    progress: float | None = None  # [m] along the route, not gated by failures
    confidence: float | None = None  # mean over the episode of how far the images can be trusted; None where nobody knows
    infraction: dict | None = None  # term, time [s], what, where, of the first failure or lost credit
    error: str | None = None


@dataclass(frozen=True)
class Conditions:
    """What a result depends on besides the policy; every table says it."""

    pack: str
    split: str | None
    tags: tuple[str, ...]
    traffic: str
    horizon_s: float

    def __str__(self) -> str:
        parts = [f"pack {self.pack}", f"split {self.split or 'all'}", *(f"tag {tag}" for tag in self.tags)]
        return ", ".join([*parts, f"traffic {self.traffic}", f"horizon {self.horizon_s:g} s"])


@dataclass(frozen=True)
class Evaluation:
    """Records of one policy under one set of conditions."""

    policy: str
    conditions: Conditions
    records: tuple[Record, ...]

    @property
    def driven(self) -> tuple[Record, ...]:
        return tuple(record for record in self.records if record.error is None)

    @property
    def failed_to_run(self) -> tuple[Record, ...]:
        return tuple(record for record in self.records if record.error is not None)

    def with_tag(self, tag: str) -> Evaluation:
        """Returns the part whose scenarios carry a tag."""
        return Evaluation(self.policy, self.conditions, tuple(record for record in self.records if tag in record.tags))

    def mean(self, term: str) -> Estimate:
        """Returns the mean of a term over the driven scenarios, with its interval."""
        driven = self.driven
        return bootstrap_mean([float(getattr(r, term)) for r in driven], [r.recording for r in driven])

    @property
    def confidence(self) -> Estimate:
        """The mean confidence of the images, over scenarios that were seen in reconstructed scenes; n = 0 where there are none."""
        seen = [record for record in self.driven if record.confidence is not None]
        return bootstrap_mean([record.confidence for record in seen], [record.recording for record in seen])

    def minus(self, other: Evaluation, term: str, successes_only: bool = False) -> Estimate:
        """Returns the mean paired difference to another policy over the scenarios that both drove, or both succeeded in."""
        mine, others = (
            {r.scenario: float(getattr(r, term)) for r in e.driven if r.success or not successes_only} for e in (self, other)
        )
        return paired_difference(mine, others, {r.scenario: r.recording for r in self.driven})

    def as_dict(self) -> dict:
        """Returns what is written to JSON."""
        return {
            "policy": self.policy,
            "conditions": asdict(self.conditions),
            "score": score_name(self.conditions.horizon_s),
            "n": len(self.driven),
            "failed_to_run": {r.scenario: r.error for r in self.failed_to_run},
            "means": {term: asdict(self.mean(term)) for term in TERMS} if self.driven else {},
            **({"confidence": asdict(self.confidence)} if self.confidence.n else {}),
            "records": [asdict(record) for record in self.records],
        }

    @classmethod
    def from_dict(cls, data: dict) -> Evaluation:
        """Reads what ``as_dict`` gave."""
        conditions = Conditions(**data["conditions"] | {"tags": tuple(data["conditions"]["tags"])})
        return cls(data["policy"], conditions, tuple(Record(**r | {"tags": tuple(r["tags"])}) for r in data["records"]))


def evaluate(
    policy: str | DrivingPolicy,
    factory: WorldFactory,
    scenarios: Sequence[str],
    split: str | None = None,
    tags: Sequence[str] = (),
    name: str | None = None,
    num_envs: int = 64,
) -> Evaluation:
    """Drives every scenario once and returns what became of each.

    Args:
        policy: A baseline's name, a checkpoint's path, or a policy. It decides deterministically.
        factory: Packs, traffic, horizon.
        scenarios: Ids; those that cannot be driven get a record with the reason.
        split, tags: How they were chosen, for the table.
        name: What the table calls it; default is the baseline's name or the file's.
        num_envs: Worlds side by side; results do not depend on it.

    Raises:
        DataError: No such baseline or checkpoint.
    """
    good = factory.prepare(scenarios)
    num_envs = max(1, min(num_envs, len(good)))
    if isinstance(policy, str) and policy in BASELINES:
        envs = factory.make(num_envs, action=baseline(policy).action)
        act = baseline(policy)(envs)
    else:
        learned, name = (load_policy(policy), name or Path(policy).stem) if isinstance(policy, str) else (policy, name)
        envs = factory.make(num_envs, **learned.world_arguments)

        def act(observations, _):
            return learned.act(observations)

    results = dict(zip(good, drive(envs, act, good), strict=True))
    records = []
    for scenario in scenarios:
        known = {"recording": factory.packs.recording(scenario), "split": factory.packs.split(scenario)}
        outcome = _outcome(results[scenario]) if scenario in results else {"error": factory.errors[scenario]}
        records.append(Record(scenario, **known, tags=factory.packs.tags(scenario), **outcome))
    conditions = Conditions(factory.packs.name, split, tuple(tags), factory.settings.traffic, factory.settings.horizon_s)
    return Evaluation(name or str(policy), conditions, tuple(records))


def _outcome(info: dict) -> dict:
    """Returns the fields of a record from the info at the end of an episode, as plain numbers."""
    outcome = {term: float(info[term]) for term in TERMS} | {"success": bool(info["success"])}
    if "mean_confidence" in info:
        outcome["confidence"] = float(info["mean_confidence"])
    if info.get("infraction"):
        outcome["infraction"] = {
            "term": str(info["infraction"]),
            "time_s": float(info["infraction_time"]),
            "what": str(info["infraction_what"]),
            "where_m": [float(value) for value in info["infraction_where"]],
        }
    return outcome


def score_name(horizon_s: float) -> str:
    """Returns "pdms-live", or "pdms-live@8s" for horizons other than 4 s."""
    return "pdms-live" if horizon_s == 4.0 else f"pdms-live@{horizon_s:g}s"


def make_table(evaluations: Sequence[Evaluation], title: str) -> Table:
    """Returns a table with a row for each policy; scenarios that failed to run are counted in their own column.

    Where any policy was seen in reconstructed scenes, the last column tells the mean confidence of its images.
    """
    conditions = evaluations[0].conditions
    table = Table(title=f"{title}\n{conditions}; mean [95 % bootstrap interval]", title_justify="left")
    names = {"pdms": score_name(conditions.horizon_s), "progress": "progress [m]"}
    table.add_column("policy", no_wrap=True)
    for name in ("n", "not run", *(names.get(term, term) for term in TERMS)):
        table.add_column(name, justify="right", no_wrap=True)
    seen = any(evaluation.confidence.n for evaluation in evaluations)
    if seen:
        table.add_column("confidence", justify="right", no_wrap=True)
    for evaluation in evaluations:
        cells = [_cell(evaluation.mean(term), wide=term in ("success", "pdms")) for term in TERMS]
        cells += [_cell(evaluation.confidence, wide=False)] if seen else []
        table.add_row(evaluation.policy, str(len(evaluation.driven)), str(len(evaluation.failed_to_run)), *cells)
    return table


def make_console() -> Console:
    """Returns a console that is wide enough for the table where its output goes into a file."""
    console = Console()
    return console if console.is_terminal else Console(width=TABLE_WIDTH)


def _cell(estimate: Estimate, wide: bool) -> str:
    return str(estimate) if wide or estimate.n == 0 else f"{estimate.mean:.3f}"
