"""Compiled scenarios, shared by all environments of a process that drive the same pack under the same traffic and horizon."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from weakref import WeakValueDictionary

from worldengine_envs.envs.map_tables import MapTableBuilder
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import Scenario
from worldengine_envs.simulation.bank import ScenarioBank

_libraries: WeakValueDictionary[tuple, Library] = WeakValueDictionary()
_lock = threading.Lock()


class Library:
    """A bank and the tables of observations, filled on demand; what is compiled never changes, so results do not depend on order.

    Args:
        pack: ``Pack`` or ``MemoryPack``.
        horizon_s, traffic: As in ``ScenarioBank``.
    """

    def __init__(self, pack, horizon_s: float, traffic: str | Mapping[str, str]):
        self.pack = pack
        self.bank, self._tables = ScenarioBank(horizon_s, traffic), MapTableBuilder()
        self.scenarios: list[Scenario] = []  # by row of the bank
        self._rows: dict[str, int] = {}
        self._alone = {entry.id for entry in pack.entries if getattr(entry, "recipe", None) is not None}  # made, not recorded
        self._lock = threading.Lock()
        self._arrays = self.bank.arrays, self._tables.arrays

    def load(self, ids: list[str]) -> None:
        """Compiles the scenarios of these ids that are not there yet.

        Raises:
            DataError: One cannot be read or compiled.
        """
        if all(name in self._rows for name in ids):
            return
        with self._lock:
            new = {}
            try:
                for name in dict.fromkeys(ids):
                    if name not in self._rows:
                        scenario = self.pack.load(name)
                        row = self.bank.add(scenario, alone=name in self._alone)
                        if row != len(self.scenarios) + len(new):
                            raise DataError("it is in the pack twice", scenario=name)
                        new[name] = scenario
            finally:  # those before one that fails are complete
                self._tables.extend(self.bank.arrays, list(new.values()))
                self._arrays = self.bank.arrays, self._tables.arrays
                for name, scenario in new.items():
                    self.scenarios.append(scenario)
                    self._rows[name] = len(self.scenarios) - 1  # from here on other threads take it for compiled

    def row(self, scenario_id: str) -> int:
        """Returns the row of a scenario that is compiled."""
        return self._rows[scenario_id]

    @property
    def arrays(self) -> tuple:
        """The bank and the map tables, as kernels take them; whole, even while another thread compiles more."""
        return self._arrays


def library(pack, horizon_s: float, traffic: str | Mapping[str, str]) -> Library:
    """Returns the library of a pack: one for each open pack, or for each content of a folder, while an environment holds it."""
    rules = traffic if isinstance(traffic, str) else json.dumps(dict(traffic), sort_keys=True)
    if hasattr(pack, "folder"):
        identity = str(pack.folder.resolve()), hash(tuple(entry.hash for entry in pack.entries))
    else:
        identity = id(pack), None  # the library keeps the pack, so no other one gets its id
    key = (*identity, horizon_s, rules)
    with _lock:
        found = _libraries.get(key)
        if found is None:
            found = _libraries[key] = Library(pack, horizon_s, traffic)
        return found
