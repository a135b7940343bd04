"""Mining: which training scenarios does the policy fail in, or score low in, when it drives them itself?"""

from __future__ import annotations

from dataclasses import dataclass

from worldengine_rl.evaluation import Evaluation, Record


@dataclass(frozen=True)
class MiningSettings:
    """Settings of mining."""

    low_score: float = 0.7
    """Scenarios that are survived with a lower pdms-live than this are mined too."""


def mine(evaluation: Evaluation, settings: MiningSettings) -> list[dict]:
    """Returns the scenarios to post-train in, worst first, each with the reason and what happened.

    The reason is "collision" or "off_road" for failures, "low_score" for what was survived badly. Scenarios that could not be
    driven are not mined; the evaluation names them.
    """
    mined = [entry for record in evaluation.driven if (entry := _entry(record, settings)) is not None]
    return sorted(mined, key=lambda entry: (entry["pdms"], entry["scenario"]))


def _entry(record: Record, settings: MiningSettings) -> dict | None:
    if not record.success:
        reason = "off_road" if record.dac == 0 else "collision"
    elif record.pdms < settings.low_score:
        reason = "low_score"
    else:
        return None
    return {
        "scenario": record.scenario,
        "reason": reason,
        "pdms": record.pdms,
        "tags": list(record.tags),
        "infraction": record.infraction,
    }
