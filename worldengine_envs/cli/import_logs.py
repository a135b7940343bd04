"""``worldengine import FORMAT SRC --out PACK``: recorded logs become a pack of scenarios."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import Scenario
from worldengine_envs.sources.windows import Refusal, cut_windows, split_of

Format = Literal["scenarionet", "waymo", "argoverse2"]
Attach = Callable[[Scenario], Scenario]
Reader = Callable[[Path], Iterator[Scenario | DataError]]  # errors: recordings of a file that cannot be used, when others can

LICENCE = "that of the logs, stored with each recording"
DESCRIPTION = "Imported driving logs"


@dataclass
class Summary:
    """What became of an import."""

    windows: dict[str, int] = field(default_factory=dict)  # recording: scenarios taken
    splits: dict[str, str] = field(default_factory=dict)  # recording: split
    refused: list[Refusal] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def main(
    log_format: Annotated[Format, tyro.conf.Positional],
    source: Annotated[Path, tyro.conf.Positional],
    *,
    out: Path,
    split: str | None = None,
    horizon: float = 4.0,
    name: str | None = None,
    overwrite: bool = False,
) -> int:
    """Imports recorded logs into a pack. A bad file is reported and the rest goes on; the exit code is then 1.

    Args:
        log_format: What the logs are: scenarionet (.pkl), waymo (motion data: TFRecords of scenarios, JSON of Nocturne or GPUDrive,
            plain or gzip) or argoverse2 (folders of sensor logs and of motion-forecasting scenarios).
        source: One log, or a folder of logs.
        out: Folder of the pack to write.
        split: Split of all scenarios. Without it 3 of 4 recordings go to "train", the others to "test", by the hash of their names.
        horizon: Seconds that must fit after each start.
        name: Name of the pack; without it, the folder's name.
        overwrite: Replace a pack that is there.
    """
    from worldengine_envs.scenario.pack_write import write_pack

    if not 0 < horizon < math.inf:
        raise DataError(f"{horizon:g} s is no horizon", field="--horizon", remedy="Give seconds, 4 for example")
    logs, read = find_logs(log_format, source)
    summary = Summary()
    try:
        scenarios = import_logs(logs, read, summary, split, horizon, progress=_bar)
        write_pack(out, name or out.resolve().name, "1.0", LICENCE, scenarios, description=DESCRIPTION, overwrite=overwrite)
    finally:
        _print(summary, len(logs))
    print(f"{out}: {sum(summary.windows.values())} scenarios of {len(summary.windows)} recordings")
    return 1 if summary.failures else 0


def find_logs(log_format: Format, source: Path) -> tuple[list[Path], Reader]:
    """Returns the logs of a format under a file or folder, and the function that reads one.

    Raises:
        DataError: There is nothing, or a library that the format needs is not installed.
    """
    from worldengine_envs.sources.optional import require

    if not source.exists():
        raise DataError("does not exist", file=source)
    require("shapely")
    if log_format == "scenarionet":
        from worldengine_envs.sources.scenarionet import read_scenarionet as read
        from worldengine_envs.sources.scenarionet import scenarionet_files as find
    elif log_format == "waymo":
        from worldengine_envs.sources.waymo import read_waymo as read
        from worldengine_envs.sources.waymo import waymo_files as find
    else:
        require("pyarrow.feather")
        from worldengine_envs.sources.argoverse2 import argoverse2_logs as find
        from worldengine_envs.sources.argoverse2 import read_argoverse2 as read
    logs = find(source)
    if not logs:
        raise DataError(f"holds no {log_format} logs", file=source)
    return logs, read


def import_logs(
    logs: list[Path],
    read: Reader,
    summary: Summary,
    split: str | None = None,
    horizon_s: float = 4.0,
    attach: Attach | None = None,
    progress: Callable[[list[Path]], Iterable[Path]] = iter,
) -> Iterator[Scenario]:
    """Yields the scenarios of logs, each with its progress reference, and notes in ``summary`` what became of the rest.

    Args:
        logs: Files or folders, one log each.
        read: Reads the recordings of one, and gives the error of a recording in place of it where it can go on.
        summary: Filled as it goes.
        split: Split of all, or None: by the hash of the recording's name.
        horizon_s: Seconds that must fit after each start.
        attach: Gives a scenario its progress reference or raises ``DataError``; None takes the environments' own.
        progress: Wraps the list of logs.
    """
    if attach is None:
        from worldengine_envs.envs.reference import attach_reference as attach
    for log in progress(logs):
        for recording in _recordings(log, read):
            try:
                if isinstance(recording, Exception):
                    raise recording
                yield from _scenarios(recording, summary, split, horizon_s, attach)
            except (DataError, OSError) as error:
                text = str(error)
                summary.failures.append(text if str(log) in text else f"{log}: {text}")


def _recordings(log: Path, read: Reader) -> Iterator[Scenario | Exception]:
    """Yields the recordings of a log, and in place of what cannot be read its error."""
    try:
        yield from read(log)
    except (DataError, OSError) as error:
        yield error


def _scenarios(recording: Scenario, summary: Summary, split: str | None, horizon_s: float, attach: Attach) -> Iterator[Scenario]:
    """Yields the windows of one recording that have a reference; raises DataError where the recording itself cannot be used."""
    from worldengine_envs.scenario.quantise import quantised
    from worldengine_envs.scenario.validation import validate

    if recording.id in summary.windows:
        raise DataError("a recording of this name was imported before", scenario=recording.id)
    # rounded first: references must hold in the world that the pack gives back
    recording = quantised(validate(replace(recording, split=split or split_of(recording.id))))
    windows = cut_windows(recording, horizon_s)
    summary.windows[recording.id] = 0
    summary.splits[recording.id] = recording.split
    summary.refused += windows.refused
    for window in windows.scenarios:
        try:
            scenario = validate(attach(window))
        except DataError as error:
            summary.refused.append(Refusal(window.id, error.problem))
            continue
        summary.windows[recording.id] += 1
        yield scenario


def _bar(logs: list[Path]) -> Iterator[Path]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True, highlight=False), transient=True) as bar:
        task = bar.add_task("", total=len(logs))
        for log in logs:
            bar.update(task, description=log.name)
            yield log
            bar.advance(task)


def _print(summary: Summary, logs: int) -> None:
    width = max(map(len, summary.windows), default=0)
    for name, count in summary.windows.items():
        print(f"{name:<{width}}  {summary.splits[name]:<6} {count} scenarios")
    for heading, lines in (
        ("refused scenarios", [f"{refusal.id}: {refusal.reason}" for refusal in summary.refused]),
        (f"failed ({len(summary.failures)}, of {logs} logs)", summary.failures),
    ):
        if lines:
            print(f"{heading}:", file=sys.stderr)
            print("\n".join(f"  {line}" for line in lines), file=sys.stderr)
