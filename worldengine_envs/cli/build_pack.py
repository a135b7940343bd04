"""``worldengine packs build``: finds the city's seeds that meet the definitions and writes their recipes as a pack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import tyro

from worldengine_envs.cli.build_choice import Family
from worldengine_envs.cli.build_settings import PackSettings, read_settings
from worldengine_envs.cli.judging import Outcome, judge, reference_of
from worldengine_envs.errors import DataError
from worldengine_envs.hardware import cores
from worldengine_envs.scenario.types import Scenario

LICENCE = "Apache-2.0"
SETTINGS_FILE = "build.toml"  # the settings that made a pack, kept beside its pack.json


def build(
    settings: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SETTINGS.toml")],
    out: Path,
    workers: int = 0,
    overwrite: bool = False,
) -> int:
    """Builds a pack of city scenarios from a settings file: as many of each family as asked for, half train and half test by seed.

    A scenario goes in where the logged driver succeeds over all horizons; a rare one where moreover constant velocity fails and
    full braking scores well below the reference (docs/packs.md). What was judged so far is kept beside the pack until it is
    written, so that an interrupted build goes on where it stopped. The result does not depend on the number of workers.

    Args:
        settings: Settings file, such as scenario_packs/starter/build.toml.
        out: Folder of the pack.
        workers: Processes that judge candidates, 0 = one for each processor.
        overwrite: Replace a pack that is there.
    """
    from worldengine_envs.scenario.pack_write import write_pack

    wanted, text = read_settings(settings), settings.read_text(encoding="utf-8")
    if workers < 0:
        raise DataError("must be 0 or more", field="--workers")
    if (out / "pack.json").exists() and not overwrite:
        raise DataError("there is a pack already", file=out, remedy="Use --overwrite to replace it")
    notes = out.parent / f".{out.name}.progress.jsonl"
    notes.parent.mkdir(parents=True, exist_ok=True)
    families = [Family(name, count, wanted) for name, count in wanted.counts().items()]
    _judge_all(families, wanted, notes, workers or cores())
    for family in families:
        print(family.summary())
    lacking = [f"{f.name} {len(f.chosen)} of {f.count}" for f in families if not f.complete]
    if lacking:
        remedy = f"Ask for fewer in {settings}, or leave a family out with 0; verdicts are kept in {notes}"
        raise DataError(f"too few candidates fit: {', '.join(lacking)}", file=settings, field="families", remedy=remedy)
    chosen = [outcome for family in families for outcome in family.chosen]
    write_pack(
        out,
        wanted.name,
        wanted.version,
        LICENCE,
        _scenarios(chosen),
        description=wanted.description,
        recipes=True,
        overwrite=overwrite,
        beside={SETTINGS_FILE: text},
    )
    notes.unlink()
    print(f"{out}: {len(chosen)} scenarios, pack.json of {(out / 'pack.json').stat().st_size / 1e3:.0f} kB")
    return 0


def _judge_all(families: list[Family], settings: PackSettings, notes: Path, workers: int) -> None:
    """Judges candidates of all families until each has enough of them or is given up."""
    from concurrent.futures import FIRST_COMPLETED, wait

    from rich.progress import Progress

    from worldengine_envs.cli.build_workers import judges

    known = read_outcomes(notes, settings.key())
    for family in families:
        family.known = known.get(family.name, {})
    with notes.open("a", encoding="utf-8") as file, judges(workers) as submit, Progress(transient=True) as progress:
        if not known and file.tell() == 0:
            file.write(json.dumps({"settings": settings.key()}) + "\n")
        bars = {family.name: progress.add_task(family.name, total=family.count) for family in families}
        pending, at_once = {}, 1  # until the first one is back: it compiles for all others
        while True:
            while len(pending) < at_once and (chunk := _next_chunk(families)):
                family, seeds = chunk
                pending[submit(judge, family.name, seeds, settings.horizons_s, settings.acceptance)] = family
            if not pending:
                return
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                family, outcomes = pending.pop(future), future.result()
                file.writelines(json.dumps(asdict(outcome)) + "\n" for outcome in outcomes)
                file.flush()
                family.add(outcomes)
                progress.update(bars[family.name], completed=len(family.chosen))
            at_once = 2 * workers if workers > 1 else 1


def _next_chunk(families: list[Family]) -> tuple[Family, list[int]] | None:
    """Returns seeds to judge next; rare families first, because they use all that has to be compiled."""
    for family in reversed(families):
        if seeds := family.next_seeds():
            return family, seeds
    return None


def read_outcomes(notes: Path, key: str) -> dict[str, dict[int, Outcome]]:
    """Returns what an interrupted build has judged, by family and seed; a last line that was cut off is left out.

    Raises:
        DataError: The notes cannot be read, or verdicts were by other settings.
    """
    judged: dict[str, dict[int, Outcome]] = {}
    if not notes.exists():
        return judged
    lines = notes.read_text(encoding="utf-8").split("\n")
    remedy = "Delete the file to begin anew"
    for number, line in enumerate(lines[:-1], 1):
        try:
            content = json.loads(line)
            if number == 1:
                if content["settings"] != key:
                    raise DataError("another version of the settings was used before", file=notes, remedy=remedy)
                continue
            outcome = Outcome(**content)
        except (ValueError, TypeError, KeyError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"line {number} cannot be read: {error}", file=notes, remedy=remedy) from None
        judged.setdefault(outcome.family, {})[outcome.seed] = outcome
    if lines[-1]:
        notes.write_text("".join(f"{line}\n" for line in lines[:-1]), encoding="utf-8")
    return judged


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
        yield replace(scenario, id=f"{outcome.family}_{number:03d}", reference=reference_of(outcome))
