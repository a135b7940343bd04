"""``worldengine packs list|info|verify|build|dress|add-scene|reconstruct``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated

import tyro

from worldengine_envs.cli.add_scene import add_scene
from worldengine_envs.cli.build_pack import build
from worldengine_envs.cli.dress import dress
from worldengine_envs.cli.reconstruct_pack import reconstruct_pack
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.pack import SEARCH_PATH, Pack, find_packs

PackArgument = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PACK")]
HORIZONS = (4.0, 8.0, 15.0)  # [s]


def list_packs() -> int:
    """Lists the packs on this machine: those in WORLDENGINE_PACKS, in ./scenario_packs and in installed packages.

    A pack that cannot be read is listed with the reason, and the exit code is 1.
    """
    from rich.table import Table

    table = Table("name", "version", "scenarios", "splits", "where", box=None, pad_edge=False)
    broken, names = [], set()
    for folder in find_packs():
        try:
            pack = Pack.open(folder)
        except DataError as error:
            broken.append(str(error))
            continue
        name = pack.name if pack.name not in names else f"{pack.name} (hidden by the one above)"
        names.add(pack.name)
        table.add_row(name, pack.manifest.version, str(len(pack)), _counts(pack.manifest.counts("split")), str(folder))
    console = _console()
    if table.row_count:
        console.print(table)
    elif not broken:
        console.print(f"no packs found; `worldengine import` makes one, {SEARCH_PATH} says where they are")
    for problem in broken:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if broken else 0


def info(pack: PackArgument) -> None:
    """Shows what is in a pack: licence, splits, tags, datasets, what their readers derived, horizons and sizes.

    Args:
        pack: Name or folder of the pack.
    """
    from rich.table import Table

    opened = Pack.open(pack)
    manifest, entries = opened.manifest, opened.entries
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("name", f"{manifest.name} {manifest.version}")
    table.add_row("where", str(opened.folder))
    table.add_row("licence", manifest.licence)
    if manifest.description:
        table.add_row("description", manifest.description)
    recipes = sum(e.recipe is not None for e in entries)
    made = f", {recipes} of them made on demand" if recipes else ""
    table.add_row("scenarios", f"{len(entries)}{made}, {len(manifest.recordings)} recordings, {_maps(opened)} maps")
    table.add_row("size", f"{sum(f.bytes for f in manifest.files.values()) / 1e6:.2f} MB in {len(manifest.files)} files")
    for what, name in (("split", "splits"), ("tags", "tags"), ("dataset", "datasets")):
        table.add_row(name, _counts(manifest.counts(what)) or "none")
    scenes = (manifest.scene(e) for e in entries)
    table.add_row("scenes", _counts(_count(scene.kind if scene else "none" for scene in scenes)))
    table.add_row("derived", ", ".join(sorted({d for r in manifest.recordings.values() for d in r.origin.derived})) or "nothing")
    table.add_row("licences of logs", ", ".join(sorted({r.origin.licence for r in manifest.recordings.values()})) or "none")
    table.add_row("horizons", _counts({f"{h:g} s": sum(e.fits(h) for e in entries) for h in HORIZONS}))
    sources = (e.reference.source if e.reference else "missing" for e in entries)
    table.add_row("references", _counts(_count(sources)))
    table.add_row("agents", _range([e.agents for e in entries], ""))
    table.add_row("length", _range([e.steps_ahead / 10 for e in entries], " s after the start"))
    _console().print(table)


def verify(pack: PackArgument) -> int:
    """Checks every file and every scenario of a pack and lists all problems; the exit code is 1 if there are any.

    Args:
        pack: Name or folder of the pack.
    """
    from rich.progress import Progress

    from worldengine_envs.scenario.pack_verify import verify as find_problems

    opened = Pack.open(pack)
    with Progress(console=_console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"checking {opened.name}")
        problems = find_problems(opened, lambda done, total: bar.update(task, completed=done, total=total))
    for problem in problems:
        print(problem)
    if problems:
        print(f"{opened.name}: {len(problems)} problem{'s' if len(problems) > 1 else ''}")
        return 1
    print(f"{opened.name}: {len(opened)} scenarios and {len(opened.manifest.files)} files are good")
    return 0


SUBCOMMANDS = {"list": list_packs, "info": info, "verify": verify, "build": build, "dress": dress}
SUBCOMMANDS |= {"add-scene": add_scene, "reconstruct": reconstruct_pack}


def _console(stderr: bool = False):
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, soft_wrap=True)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _count(values: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts


def _maps(pack: Pack) -> int:
    return len({r.map for r in pack.manifest.recordings.values()})


def _range(values: list[float], unit: str) -> str:
    if not values:
        return "none"
    middle = sorted(values)[len(values) // 2]
    return f"{min(values):g} to {max(values):g}{unit}, median {middle:g}"
