"""Worlds for training and evaluation alike: scenarios of one or several packs, compiled once, driven one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from gymnasium.vector import AutoresetMode

from worldengine_envs.envs.selection import open_pack
from worldengine_envs.envs.vector_env import DrivingVectorEnv
from worldengine_envs.errors import DataError

Act = Callable[[dict, DrivingVectorEnv], np.ndarray]  # observations, worlds -> actions of all worlds


class PackSet:
    """Scenarios of one or several packs under one roof; each is read once and kept.

    Args:
        packs: Names or folders of packs, open packs, or lists of scenarios.

    Raises:
        DataError: A pack cannot be opened, or two packs have a scenario of the same id.
    """

    def __init__(self, packs: Sequence):
        self.packs = [open_pack(pack) for pack in packs]
        self.name = "+".join(pack.name for pack in self.packs)
        self.entries = tuple(entry for pack in self.packs for entry in pack.entries)
        self._entry = {entry.id: entry for entry in self.entries}
        self._pack = {entry.id: pack for pack in self.packs for entry in pack.entries}
        self._loaded: dict = {}
        if len(self._pack) != len(self.entries):
            raise DataError("two packs have scenarios of the same id", field="id", remedy=f"Give one of {self.name} at a time")

    def load(self, scenario_id: str):
        """Returns the scenario of that id."""
        if scenario_id not in self._loaded:
            self._loaded[scenario_id] = self._pack[scenario_id].load(scenario_id)
        return self._loaded[scenario_id]

    def pack_of(self, scenario_id: str):
        """Returns the pack that a scenario is from."""
        return self._pack[scenario_id]

    def recording(self, scenario_id: str) -> str:
        """Returns the name of the recording that a scenario was cut from; a made one is its own recording."""
        return getattr(self._entry[scenario_id], "recording", None) or scenario_id

    def tags(self, scenario_id: str) -> tuple[str, ...]:
        """Returns the tags of a scenario."""
        return tuple(self._entry[scenario_id].tags)

    def split(self, scenario_id: str) -> str:
        """Returns the split of a scenario."""
        return self._entry[scenario_id].split

    def ids(self, split: str | None = None, tags: Iterable[str] = ()) -> list[str]:
        """Returns the scenarios of a split (None = all) that carry all tags; "test" includes "common_test" and "rare_test"."""
        wanted = set(tags)

        def belongs(name: str) -> bool:
            return split is None or name == split or name.endswith(f"_{split}")

        return [entry.id for entry in self.entries if belongs(entry.split) and wanted <= set(entry.tags)]


@dataclass(frozen=True)
class WorldSettings:
    """What worlds are like, in training and evaluation."""

    traffic: str = "log"
    """Who moves the others: log (as recorded) or idm (they react)."""
    horizon_s: float = 4.0
    """Length of an episode [s]."""
    scene_detail: float = 0.3
    """Detail of the scenes that cameras see; the city's have about 40,000 Gaussians at 1."""


class WorldFactory:
    """Makes vector environments over one pack set; the first is kept, so that all share what is compiled.

    ``errors`` maps the id of every scenario that cannot be driven to the reason.
    """

    def __init__(self, packs: PackSet, settings: WorldSettings):
        self.packs, self.settings = packs, settings
        self.errors: dict[str, str] = {}
        self._first: DrivingVectorEnv | None = None

    def make(
        self,
        num_envs: int,
        autoreset_mode=AutoresetMode.DISABLED,
        scenarios: Sequence[str] | None = None,
        observation: str = "state",
        action: str = "anchor",
        **arguments,
    ) -> DrivingVectorEnv:
        """Returns ``num_envs`` worlds that draw from the given scenarios (None = all).

        ``observation`` and ``arguments`` are what the policy asks for (``world_arguments``).
        """
        if observation != "state":
            arguments["scene_detail"] = self.settings.scene_detail
        envs = DrivingVectorEnv(
            self.packs,
            num_envs=num_envs,
            autoreset_mode=autoreset_mode,
            scenario=scenarios,
            observation=observation,
            action=action,
            traffic=self.settings.traffic,
            horizon_s=self.settings.horizon_s,
            **arguments,
        )
        self._first = self._first or envs  # all over these packs share what is compiled
        return envs

    def prepare(self, scenarios: Sequence[str], on_scenario: Callable[[], None] = lambda: None) -> list[str]:
        """Reads and compiles scenarios; returns those that can be driven, and keeps why the others cannot in ``errors``."""
        first = self._first or self.make(1)
        good = []
        for name in scenarios:
            if name not in self.errors and name in first.left_out:
                self.errors[name] = first.left_out[name]
            if name not in self.errors:
                try:
                    first.batch.load([name])
                    good.append(name)
                except DataError as error:
                    self.errors[name] = str(error)
            on_scenario()
        return good


def drive(envs: DrivingVectorEnv, act: Act, scenarios: Sequence[str], seed: int = 0, on_step: Callable | None = None) -> list[dict]:
    """Drives every scenario once, all worlds side by side.

    Args:
        envs: Made with ``AutoresetMode.DISABLED``.
        act: Policy or baseline.
        scenarios: Ids, each of which can be driven.
        seed: Of the first reset.
        on_step: ``on_step(slots, observations, actions, rewards)`` sees every decision and what it earned; ``slots`` (worlds,) is
            the scenario's place in ``scenarios``, -1 for worlds that have nothing left to do.

    Returns:
        The infos of the last step of each episode, in the order of ``scenarios``.
    """
    if not scenarios:
        return []
    slots = np.arange(envs.num_envs)
    slots[len(scenarios) :] = -1
    next_slot = envs.num_envs
    observations, _ = envs.reset(seed=seed, options={"scenarios": [scenarios[max(slot, 0)] for slot in slots]})
    results: list[dict] = [{} for _ in scenarios]
    while (slots >= 0).any():
        actions = act(observations, envs)
        before = observations
        observations, rewards, terminated, truncated, infos = envs.step(actions)
        if on_step is not None:
            on_step(slots.copy(), before, actions, rewards)
        done = terminated | truncated
        for w in np.flatnonzero(done):
            if slots[w] >= 0:
                results[slots[w]] = {name: value[w] for name, value in infos.items() if name[0] != "_" and infos[f"_{name}"][w]}
            slots[w], next_slot = (next_slot, next_slot + 1) if next_slot < len(scenarios) else (-1, next_slot)
        if done.any():
            names = [scenarios[max(slot, 0)] for slot in slots]
            observations, _ = envs.reset(options={"reset_mask": done, "scenarios": names})
    return results
