"""What a run reports: means and paired differences by group, hardware, and JSON files that are whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from worldengine_envs.hardware import describe
from worldengine_rl.evaluation import TERMS, Evaluation

GROUPS = ("common", "rare")  # tags that get a table of their own


def summary(before: Evaluation, after: Evaluation, baselines: Sequence[Evaluation]) -> dict:
    """Returns means of every policy and paired differences, for all held-out scenarios and for each group that has some."""
    tags = {tag for record in before.records for tag in record.tags}
    groups = {}
    for group in ("all", *(tag for tag in GROUPS if tag in tags)):
        rows = [e if group == "all" else e.with_tag(group) for e in (before, after, *baselines)]
        groups[group] = {
            "policies": {
                e.policy: {
                    "n": len(e.driven),
                    "failed_to_run": {r.scenario: r.error for r in e.failed_to_run},
                    "means": {term: asdict(e.mean(term)) for term in TERMS},
                    **({"confidence": asdict(e.confidence)} if e.confidence.n else {}),
                }
                for e in rows
            },
            "post-trained minus clone": {term: asdict(rows[1].minus(rows[0], term)) for term in TERMS},
            "where both succeed": {term: asdict(rows[1].minus(rows[0], term, successes_only=True)) for term in ("ep", "progress")},
        }
    return {"conditions": asdict(before.conditions), "groups": groups}


def signed(estimate: dict) -> str:
    """Returns a difference with its interval as text; what is not known (NaN, in JSON null) is a dash."""
    values = (estimate[name] for name in ("mean", "low", "high"))
    mean, low, high = ("–" if value is None or value != value else f"{value:+.3f}" for value in values)
    return f"{mean} [{low}, {high}]"


def hardware(threads: int) -> dict:
    """Returns what the timings were taken on."""
    return describe(threads) | {"gpu": None, "torch": torch.__version__}


def write_json(file: Path, content) -> None:
    """Writes a JSON file, whole or not at all; NaN (the mean of nothing) becomes null."""
    part = file.with_name(file.name + ".part")
    part.write_text(json.dumps(_without_nan(content), indent=1))
    part.replace(file)


def _without_nan(content):
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and content != content else content
