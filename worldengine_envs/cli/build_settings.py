"""The settings file of ``worldengine packs build``: TOML into frozen dataclasses, every mistake named with file and field."""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.pack_manifest import PACK_NAME, VERSION
from worldengine_envs.scenario.recipes import MAX_SEED

HORIZONS_S = (4.0, 8.0)  # that fit into scenarios of the city
DESCRIPTION = "Common and rare driving in a procedural city, made on demand from families and seeds"


@dataclass(frozen=True)
class Acceptance:
    """What a scenario must meet to go into the pack, and what its families may not become.

    A scenario is trivial where constant velocity or full braking comes within ``trivial_margin`` of the reference's ``pdms-live``,
    and unsolved where neither IDM nor PDM-Closed succeeds. Both are over 4 s among replayed traffic.
    """

    brake_margin: float = 0.2  # in rare scenarios full braking stays at least this far below the reference
    trivial_margin: float = 0.05
    most_trivial: float = 0.5  # share of a family that may be trivial
    most_unsolved: float = 0.8  # share of a family that may be unsolved
    most_attempts: int = 3  # of drawing a scene; seeds that need more are slow to make
    most_candidates: int = 20  # judged for each scenario wanted, before a family is given up


@dataclass(frozen=True)
class PackSettings:
    """What a pack of city scenarios holds."""

    name: str
    version: str = "1.0"
    description: str = DESCRIPTION
    common: int = 0  # scenarios of each common family; even numbers go to train, odd ones to test, half and half
    rare: int = 0  # scenarios of each rare family
    families: dict[str, int] = field(default_factory=dict)  # families with a number of their own; 0 leaves one out
    first_seed: int = 0  # seeds are tried from here on
    horizons_s: tuple[float, ...] = HORIZONS_S  # that every scenario has a progress reference for
    acceptance: Acceptance = field(default_factory=Acceptance)

    def counts(self) -> dict[str, int]:
        """Returns how many scenarios of each family there will be, those without left out."""
        from worldengine_envs.city import FAMILIES, RARE

        counts = {family: self.rare if family in RARE else self.common for family in FAMILIES} | self.families
        return {family: count for family, count in counts.items() if count}

    def key(self) -> str:
        """Returns a digest of everything that a verdict on a candidate depends on."""
        return hashlib.sha256(json.dumps([self.horizons_s, asdict(self.acceptance)]).encode()).hexdigest()[:16]


def read_settings(file: Path) -> PackSettings:
    """Returns the settings of a TOML file.

    Raises:
        DataError: Not readable, not TOML, a key that does not exist, or a value that is not what it has to be.
    """
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", file=file) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"is no TOML: {error}", file=file) from None
    settings = _dataclass(PackSettings, table, file, "")
    _check(settings, file)
    return settings


def _dataclass(kind: type, table: dict, file: Path, where: str):
    """Builds a dataclass from a table of TOML."""
    hints, names = get_type_hints(kind), [f.name for f in fields(kind)]
    for key in table:
        if key not in names:
            raise DataError("no such setting", file=file, field=where + key, remedy=f"Settings here: {', '.join(names)}")
    if kind is PackSettings and "name" not in table:
        raise DataError("is missing", file=file, field="name", remedy='Give the pack a name: name = "mine"')
    return kind(**{key: _value(hints[key], value, file, where + key) for key, value in table.items()})


def _value(kind, value, file: Path, name: str):
    """Returns a value of TOML as the type that a field has."""
    if is_dataclass(kind) and type(value) is dict:
        return _dataclass(kind, value, file, f"{name}.")
    if get_origin(kind) is dict and type(value) is dict:
        return {key: _value(get_args(kind)[1], item, file, f"{name}.{key}") for key, item in value.items()}
    if get_origin(kind) is tuple and type(value) is list:
        return tuple(_value(get_args(kind)[0], item, file, name) for item in value)
    if kind is float and type(value) in (int, float):
        return float(value)
    if type(value) is not kind:
        wanted = {str: "text", int: "a whole number", float: "a number"}.get(kind)
        wanted = wanted or ("a list of numbers" if get_origin(kind) is tuple else "a table")
        raise DataError(f"{value!r} is not {wanted}", file=file, field=name)
    return value


def _check(settings: PackSettings, file: Path) -> None:
    """Refuses values out of range."""
    from worldengine_envs.city import FAMILIES

    def require(condition, name: str, problem: str, remedy: str | None = None) -> None:
        if not condition:
            raise DataError(problem, file=file, field=name, remedy=remedy)

    require(PACK_NAME.fullmatch(settings.name), "name", f"must match {PACK_NAME.pattern}")
    require(VERSION.fullmatch(settings.version), "version", f"must match {VERSION.pattern}")
    for family in settings.families:
        require(family in FAMILIES, f"families.{family}", "no such family", f"Families: {', '.join(FAMILIES)}")
    numbers = {"common": settings.common, "rare": settings.rare, **{f"families.{k}": n for k, n in settings.families.items()}}
    for name, number in numbers.items():
        require(0 <= number <= 100_000 and number % 2 == 0, name, f"{number} is not an even number from 0 on, half for each split")
    require(settings.counts(), "common", "no scenarios are asked for", "Set common, rare or numbers in [families]")
    require(0 <= settings.first_seed <= MAX_SEED // 2, "first_seed", f"{settings.first_seed} is no seed")
    require(settings.horizons_s in ((4.0,), HORIZONS_S), "horizons_s", "must be [4.0] or [4.0, 8.0]")
    for name in ("brake_margin", "trivial_margin", "most_trivial", "most_unsolved"):
        require(0.0 <= getattr(settings.acceptance, name) <= 1.0, f"acceptance.{name}", "must lie between 0 and 1")
    for name in ("most_attempts", "most_candidates"):
        require(getattr(settings.acceptance, name) >= 1, f"acceptance.{name}", "must be 1 or more")
