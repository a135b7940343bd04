"""Many agents in one world as a PettingZoo environment."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from gymnasium import logger
from gymnasium.error import ResetNeeded
from gymnasium.utils import EzPickle, seeding
from pettingzoo import ParallelEnv

from worldengine_envs.envs.infos import TERMS, confidence_info, end_info
from worldengine_envs.envs.parallel_batch import AgentBatch
from worldengine_envs.envs.settings import EnvironmentSettings
from worldengine_envs.errors import DataError

MAX_AGENTS = 16


class DrivingParallelEnv(ParallelEnv, EzPickle):
    """A scenario that the ego and the vehicles around it drive in together; each one's return is its own PDM Score.

    Agents are the ego and the vehicles nearest to it that move over 2 m (see ``parallel_tasks``); everyone else is traffic.
    Where there is one scenario to draw from, agents are named by the tokens of their tracks. Where there are several, they are
    ``ego``, ``agent_1``, ... by their distance from the ego at the start. ``tracks`` tells the token of each one's track.

    An agent that fails (an at-fault collision with an agent, or leaving the drivable area) is terminated and leaves ``agents``; its
    body brakes at 6 m/s2 and stays where others can hit it. All others are truncated at the horizon, or leave in the same way when
    their images fall below ``min_confidence``.

    Args:
        pack: As in ``EnvironmentSettings``, like the other settings.
        max_agents: How many drive at most, the ego included.
        settings: Keyword arguments of ``EnvironmentSettings``. ``traffic`` moves those who are no agents.
    """

    metadata = {  # noqa: RUF012 (PettingZoo's convention)
        "name": "worldengine_v0",
        "is_parallelizable": True,
        "render_modes": ["rgb_array"],
        "render_fps": 10,
    }

    def __init__(self, pack, max_agents: int = MAX_AGENTS, **settings):
        EzPickle.__init__(self, pack, max_agents, **settings)
        if max_agents < 1:
            raise DataError(f"{max_agents} is not 1 or more", field="max_agents")
        self.settings = s = EnvironmentSettings(pack, **settings)
        self.render_mode = s.render_mode
        self.metadata = {**self.metadata, "render_fps": round(10 / s.substeps) or 1}
        self.batch: AgentBatch = s.make_batch(max_agents, AgentBatch)
        self.possible_agents = self._names()
        self.agents: list[str] = []
        self.borrowed_assets: dict[str, int] = {}
        self.scenario_id, self.tracks = "", {}  # of the present episode: the scenario's id, the token of each agent's track
        self._observation_spaces = {name: s.observation_space(self.batch) for name in self.possible_agents}
        self._action_spaces = {name: s.single_action_space(self.batch) for name in self.possible_agents}
        self._row = {name: i for i, name in enumerate(self.possible_agents)}
        self._generator: np.random.Generator | None = None
        self._actions = np.zeros((max_agents, *self._action_spaces[self.possible_agents[0]].shape), np.float64)
        if s.action == "anchor":
            self._actions = self._actions.astype(np.int64)

    def _names(self) -> list[str]:
        """Returns the names of all agents that there can be, in the order of the batch's views."""
        ids = self.batch.selection.ids
        if len(ids) > 1:
            return ["ego", *(f"agent_{i}" for i in range(1, self.batch.num_worlds))]
        tasks = self.batch.tasks_of(ids[0])
        return [tasks.scenarios[0].tracks.tokens[row] for row in tasks.rows]

    @cached_property
    def photographer(self):
        """``envs.pictures.Photographer`` of the agents' views; world 0 is the ego's."""
        return self.settings.photographer(self.batch)

    @property
    def scenario_ids(self) -> tuple[str, ...]:
        """Ids of the scenarios that resets draw from."""
        return self.batch.selection.ids

    @property
    def left_out(self) -> dict[str, str]:
        """Scenarios that were asked for and cannot be driven, with the reason."""
        return self.batch.selection.left_out

    def observation_space(self, agent: str):
        """Returns the space of an agent's observations, the same object at each call."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str):
        """Returns the space of an agent's actions, the same object at each call."""
        return self._action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """Starts an episode; options: {"scenario": id}.

        Returns:
            Observations and (empty) infos by agent; ``scenario_id`` and ``tracks`` tell what was drawn, ``borrowed_assets`` how
            many in each agent's world are seen as models of the library, since the scene has none of their own.

        Raises:
            DataError: The scenario of that id was not chosen or cannot be read.
        """
        if seed is not None or self._generator is None:
            self._generator = seeding.np_random(seed)[0]
        selection = self.batch.selection
        pinned = (options or {}).get("scenario")
        name = selection.check(pinned) if pinned is not None else selection.ids[self._generator.integers(len(selection.ids))]
        self.batch.begin_agents(name)
        rows, tokens = self.batch.tasks.rows, self.batch.scenario_of(0).tracks.tokens
        self.agents = self.possible_agents[: len(rows)]
        self.scenario_id, self.tracks = name, {agent: tokens[row] for agent, row in zip(self.agents, rows, strict=True)}
        self.batch.look(np.arange(len(rows)))
        if self.batch.cameras is not None:
            self.borrowed_assets = dict(zip(self.agents, self.batch.cameras.borrowed.tolist(), strict=False))
        # empty, since libraries make arrays of what they find here, of one kind for all steps
        return self._observations(self.agents), {agent: {} for agent in self.agents}

    def step(self, actions: dict) -> tuple[dict, dict, dict, dict, dict]:
        """Drives until the next decision.

        Args:
            actions: By agent, for everyone in ``agents``; those of agents that have left are not used.

        Returns:
            Observations, rewards, terminations, truncations, infos of all who were in ``agents`` before the step.

        Raises:
            ResetNeeded: No agent is left, or nothing was begun.
            ValueError: An action is missing, not finite or has another shape, or is for an agent that does not exist.
        """
        if not self.agents:
            raise ResetNeeded("the episode is over (or none was begun): call reset()")
        agents, d = self.agents, self.batch.decisions
        active = np.zeros(self.batch.num_worlds, np.bool_)
        self._gather(actions, active)
        self.batch.drive_agents(active, self._actions)
        rows = [self._row[agent] for agent in agents]
        self.batch.look_on(np.array(rows))
        reward, terminated, truncated = d.reward.tolist(), d.terminated.tolist(), d.truncated.tolist()
        over = [terminated[i] or truncated[i] for i in rows]
        self.agents = [agent for agent, left in zip(agents, over, strict=True) if not left]
        return (
            self._observations(agents),
            {agent: reward[i] for agent, i in zip(agents, rows, strict=True)},
            {agent: terminated[i] for agent, i in zip(agents, rows, strict=True)},
            {agent: truncated[i] for agent, i in zip(agents, rows, strict=True)},
            self._infos(agents, rows, over),
        )

    def render(self) -> np.ndarray | None:
        """Returns (height, width, 3) uint8: the scene around the ego from above, and what its cameras see; None without a mode.

        Raises:
            ResetNeeded: Nothing was begun.
        """
        if self.render_mode is None:
            logger.warn("render() without a render_mode; make the environment with render_mode='rgb_array'")
            return None
        if not self.scenario_id:
            raise ResetNeeded("there is nothing to draw yet: call reset()")
        return self.photographer.picture(0)

    def close(self) -> None:
        """Nothing is held open."""

    def _gather(self, actions: dict, active: np.ndarray) -> None:
        """Writes the actions of all agents to their rows and marks these in ``active`` (W,) bool."""
        unknown = actions.keys() - self._row.keys()
        missing = [agent for agent in self.agents if actions.get(agent) is None]
        if unknown or missing:
            raise ValueError(f"actions for nobody: {sorted(unknown)}; without an action: {missing}")
        shape = self._actions.shape[1:]
        for agent in self.agents:
            action, i = np.asarray(actions[agent]), self._row[agent]
            if action.shape != shape or (self._actions.dtype.kind == "i" and action.dtype.kind not in "iu"):
                raise ValueError(f"the action of {agent} has shape {action.shape} and type {action.dtype}, not {shape}")
            self._actions[i], active[i] = action, True

    def _observations(self, agents: list[str]) -> dict[str, dict[str, np.ndarray]]:
        """Returns observations by agent: parts of arrays that are new at each step."""
        new = {name: array.copy() for name, array in self.batch.observed.items()}
        rows = self._row
        return {agent: {name: array[rows[agent]] for name, array in new.items()} for agent in agents}

    def _infos(self, agents: list[str], rows: list[int], over: list[bool]) -> dict[str, dict]:
        """Returns the score so far by agent, and how it ended for those for whom it is over."""
        terms = [getattr(self.batch.score, name).tolist() for name in TERMS]
        infos = {
            agent: {name: values[i] for name, values in zip(TERMS, terms, strict=True)}
            for agent, i in zip(agents, rows, strict=True)
        }
        for agent, i, left in zip(agents, rows, over, strict=True):
            infos[agent].update(confidence_info(self.batch, i))
            if left:
                infos[agent].update(self._end_info(i))
        return infos

    def _end_info(self, i: int) -> dict:
        info, tokens = end_info(self.batch, i), self.batch.scenario_of(i).tracks.tokens
        mine = tokens[self.batch.tasks.rows[i]]
        info["track"] = mine
        if info.get("infraction_what") == mine:
            info["infraction_what"] = tokens[0]  # in the view of an agent the ego has its row
        return info
