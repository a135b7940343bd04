"""Which scenarios an environment draws from, and what was left out and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import Scenario
from worldengine_envs.scenario.validation import validate


class MemoryPack:
    """Scenarios in memory, with the part of ``Pack`` that environments use.

    Args:
        scenarios: Their ids are unique.
        scenes: ``rendering.scene.GaussianScene`` by name, to which ``Scenario.gaussian_scene`` refers; or how one is made, as
            ``scenario.pack_manifest.SceneInfo("dressed", maker="city")`` tells.

    Raises:
        DataError: A scenario is not valid (see ``scenario.validation``), or two have the same id.
    """

    name = "memory"

    def __init__(self, scenarios: Sequence[Scenario], scenes: Mapping[str, object] | None = None):
        self.scenes, self._hashes = dict(scenes or {}), {}
        self.entries = tuple(validate(scenario) for scenario in scenarios)
        self._rows = {scenario.id: scenario for scenario in self.entries}
        if len(self._rows) != len(self.entries):
            raise DataError("two scenarios have the same id", field="id", remedy="Ids are unique in a pack")

    def load(self, scenario_id: str) -> Scenario:
        """Returns the scenario of that id."""
        return self._rows[scenario_id]

    def entry(self, scenario_id: str) -> Scenario:
        """Returns the scenario of that id; raises DataError for an unknown one."""
        if scenario_id not in self._rows:
            raise DataError(f"pack {self.name!r} has no such scenario", scenario=scenario_id)
        return self._rows[scenario_id]

    def first_window(self, entry: Scenario) -> Scenario:
        """Returns the scenario itself (see ``Pack.first_window``)."""
        return entry

    def content_hash(self, scenario_id: str) -> str:
        """Returns the ``scenario_hash`` of one scenario, computed once."""
        from worldengine_envs.scenario.quantise import scenario_hash

        if scenario_id not in self._hashes:
            self._hashes[scenario_id] = scenario_hash(self.entry(scenario_id))
        return self._hashes[scenario_id]


@dataclass(frozen=True, slots=True)
class Selection:
    """The scenarios that an environment draws from."""

    pack: object  # Pack or MemoryPack
    ids: tuple[str, ...]
    left_out: dict[str, str]  # scenario id -> why it cannot be driven over this horizon

    def check(self, scenario_id: str) -> str:
        """Returns the id if it may be driven here; raises DataError otherwise."""
        if scenario_id not in self.ids:
            why = self.left_out.get(scenario_id, f"not among the {len(self.ids)} scenarios chosen from pack {self.pack.name!r}")
            raise DataError(why, scenario=scenario_id, remedy=f"Choose one of {', '.join(self.ids[:5])}, ...")
        return scenario_id


def open_pack(pack):
    """Returns a ``Pack`` for a name or folder, a ``MemoryPack`` for scenarios, and an open pack as it is."""
    if isinstance(pack, Scenario):
        return MemoryPack([pack])
    if isinstance(pack, list | tuple):
        return MemoryPack(pack)
    if hasattr(pack, "entries"):
        return pack
    from worldengine_envs.scenario.pack import Pack

    return Pack.open(pack)


def select(
    pack,
    scenario: str | Iterable[str] | None = None,
    split: str | None = None,
    tags: Iterable[str] | None = None,
    horizon_s: float = 4.0,
    needs_reference: bool = True,
) -> Selection:
    """Chooses scenarios of a pack by id, split and tags (all of them), and leaves out those that do not fit the horizon.

    Raises:
        DataError: An id is unknown, a single named scenario cannot be driven, or nothing is left.
    """
    opened = open_pack(pack)
    entries = {entry.id: entry for entry in opened.entries}
    if scenario is not None:
        named = [scenario] if isinstance(scenario, str) else list(scenario)
        unknown = [name for name in named if name not in entries]
        if unknown:
            remedy = f"It has {', '.join(list(entries)[:5])}, ..."
            raise DataError(f"pack {opened.name!r} has no such scenario", scenario=unknown[0], remedy=remedy)
        entries = {name: entries[name] for name in named}
    wanted = {tags} if isinstance(tags, str) else set(tags or ())
    chosen = [entry for entry in entries.values() if split in (None, entry.split) and wanted <= set(entry.tags)]
    left_out = {entry.id: why for entry in chosen if (why := _problem(entry, horizon_s, needs_reference))}
    ids = tuple(entry.id for entry in chosen if entry.id not in left_out)
    if not ids:
        name, why = next(iter(left_out.items()), (None, f"no scenario with split={split!r}, tags={sorted(wanted)}"))
        splits = sorted({entry.split for entry in opened.entries})
        raise DataError(f"{why} (pack {opened.name!r})", scenario=name, remedy=f"Its splits are {', '.join(splits)}")
    return Selection(opened, ids, left_out)


def _problem(entry, horizon_s: float, needs_reference: bool) -> str:
    """Returns why a scenario cannot be driven over a horizon, "" if it can."""
    if not entry.fits(horizon_s):
        return f"its recording is too short for a horizon of {horizon_s:g} s"
    if needs_reference and (entry.reference is None or horizon_s not in entry.reference.progress):
        return f"it has no progress reference for a horizon of {horizon_s:g} s"
    return ""
