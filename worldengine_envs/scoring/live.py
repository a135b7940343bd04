"""``pdms-live``: the PDM Score of executed motion, kept up to date step by step; its change is the reward.

The terms and their rules are those of ``pdms-v1``. Two points differ: type and speed of an agent are those of the current step,
and time to collision looks at replayed agents along their recorded future and at reacting agents along constant velocity.

Score of the motion so far (states 0..k): NC * DAC * (5 EP + 5 TTC + 2 C) / 12 with running minima NC, DAC, TTC;
EP = m / max(P_ref, m) where that maximum exceeds 5 m, else 1, with m = NC * DAC * progress so far; C = 1 until the last step, then
comfort over all states. Rewards are its changes, from 0 before the first step, so they sum to the score of the episode.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from worldengine_envs.scenario.types import STEP_S, AgentType, MapLayer
from worldengine_envs.scoring.areas import first_corner_off_road, in_multiple_lanes, make_lane_scratch
from worldengine_envs.scoring.collisions import bearing, classify_collision, is_ahead, is_at_fault, is_behind
from worldengine_envs.scoring.comfort import SCRATCH_ROWS, is_comfortable
from worldengine_envs.scoring.live_route import project_on_route
from worldengine_envs.simulation.bank import LOG, Bank
from worldengine_envs.simulation.geometry import box_corners, boxes_overlap
from worldengine_envs.simulation.map_index import in_layer
from worldengine_envs.simulation.world import Worlds

NONE, COLLISION, OFF_ROAD, TIME_TO_COLLISION = 0, 1, 2, 3  # infraction_term
INFRACTION_NAMES = ("", "collision", "off_road", "time_to_collision")

STOPPED_TTC = 0.005  # no time to collision below this speed of the ego [m/s]
LOOKAHEAD = (3, 6, 9)  # steps that time to collision looks ahead, besides the current one
MIN_PROGRESS = 5.0  # below it progress does not count [m]

_INTERSECTION = int(MapLayer.INTERSECTION)
# Kernels are compiled without reference counting (``_nrt=False``): a call that hands on a tuple of arrays would otherwise count up
# and down once for each of its arrays, which costs more than the work. They allocate nothing and return numbers only.
_LAST_AGENT_TYPE = int(AgentType.BICYCLE)
_IGNORED_CONTACT, _IGNORED_TTC = np.uint8(1), np.uint8(2)


class LiveScore(NamedTuple):
    """The score of W worlds with room for A agents each."""

    nc: np.ndarray  # (W,) float64 1, 0.5 (a static object was hit) or 0
    dac: np.ndarray  # (W,) float64 1 or 0
    ttc: np.ndarray  # (W,) float64 1 or 0
    ep: np.ndarray  # (W,) float64 in [0, 1]
    comfort: np.ndarray  # (W,) float64 1 or 0; 1 before the last step
    pdms: np.ndarray  # (W,) float64 score of the motion so far
    paid: np.ndarray  # (W,) float64 sum of the rewards so far
    progress: np.ndarray  # (W,) float64 progress of the box centre along the route, not below 0 [m]
    hit_without_fault: np.ndarray  # (W,) int32 contacts that were not the ego's fault
    ignored: np.ndarray  # (W, A) uint8 bit 1: ignored in collisions, bit 2: in time to collision
    infraction_term: np.ndarray  # (W,) int8 NONE, COLLISION, OFF_ROAD, TIME_TO_COLLISION: the first of the gravest ones
    infraction_rank: np.ndarray  # (W,) int8 0 none, 1 time to collision, 2 half credit, 3 failure
    infraction_step: np.ndarray  # (W,) int32
    infraction_agent: np.ndarray  # (W,) int32 row of the agent, -1 = none
    infraction_place: np.ndarray  # (W, 2) float64 x, y [m]
    start_s: np.ndarray  # (W,) float64 arclength of the start on the route [m]
    route_row: np.ndarray  # (W,) int32 segment of the route where the ego was last
    corners: np.ndarray  # (W, 4, 2) float64 corners of the ego's box [m]
    lanes: np.ndarray  # (W, 2, lanes) int32 scratch of areas
    signal: np.ndarray  # (W, rows, H + 1) float64 scratch of comfort


def make_live_score(num_worlds: int, max_agents: int, horizon_steps: int) -> LiveScore:
    """Returns room for the scores of ``num_worlds`` worlds; ``live_reset`` starts each."""
    w = num_worlds
    return LiveScore(
        *(np.zeros(w) for _ in range(8)),
        hit_without_fault=np.zeros(w, np.int32),
        ignored=np.zeros((w, max_agents), np.uint8),
        infraction_term=np.zeros(w, np.int8),
        infraction_rank=np.zeros(w, np.int8),
        infraction_step=np.zeros(w, np.int32),
        infraction_agent=np.full(w, -1, np.int32),
        infraction_place=np.zeros((w, 2)),
        start_s=np.zeros(w),
        route_row=np.zeros(w, np.int32),
        corners=np.zeros((w, 4, 2)),
        lanes=np.zeros((w, *make_lane_scratch().shape), np.int32),
        signal=np.zeros((w, SCRATCH_ROWS, horizon_steps + 1)),
    )


@njit(cache=True, nogil=True, _nrt=False)
def live_reset(bank: Bank, worlds: Worlds, score: LiveScore, w: int) -> None:
    """Starts the score of world ``w``, which was just reset, and scores its state 0."""
    score.nc[w] = score.dac[w] = score.ttc[w] = score.comfort[w] = 1.0
    score.progress[w] = score.paid[w] = 0.0
    score.hit_without_fault[w] = 0
    score.ignored[w] = 0
    score.infraction_term[w], score.infraction_rank[w], score.infraction_step[w] = NONE, 0, 0
    score.infraction_agent[w] = -1
    score.infraction_place[w] = 0.0
    x, y, _, _ = _ego_centre(bank, worlds, w)
    score.start_s[w], score.route_row[w] = _project(bank, bank.scenarios[worlds.scenario[w]], 0, x, y)
    _score_state(bank, worlds, score, w)
    _sum_up(bank, worlds, score, w)


@njit(cache=True, nogil=True, _nrt=False)
def live_update(bank: Bank, worlds: Worlds, score: LiveScore, w: int, is_last: bool) -> float:
    """Scores the state that world ``w`` has just reached.

    Args:
        bank, worlds: What the world step works on; ``worlds.ego_history`` holds all states since the start.
        score: Is brought up to date.
        w: The world.
        is_last: Whether this is the step at the horizon, where comfort counts.

    Returns:
        The reward: the change of the score of the motion so far. Without a stored reference (``bank.p_ref`` NaN, while one is
        being made) the motion is its own measure: EP = 1 wherever NC * DAC is above 0.
    """
    _score_state(bank, worlds, score, w)
    if is_last:
        count = worlds.step[w] + 1
        score.comfort[w] = 1.0 if is_comfortable(worlds.ego_history[w], count, score.signal[w]) else 0.0
    _sum_up(bank, worlds, score, w)
    reward = score.pdms[w] - score.paid[w]
    score.paid[w] = score.pdms[w]
    return reward


@njit(cache=True, nogil=True, _nrt=False)
def has_failed(score: LiveScore, w: int) -> bool:
    """Whether an at-fault collision or leaving the road has brought the score to 0 for good."""
    return score.nc[w] == 0.0 or score.dac[w] == 0.0


@njit(cache=True, nogil=True, _nrt=False)
def _sum_up(bank, worlds, score, w):
    multiplier = score.nc[w] * score.dac[w]
    m = multiplier * score.progress[w]
    p_ref = bank.scenarios[worlds.scenario[w]].p_ref
    most = max(p_ref, m) if p_ref == p_ref else m
    if multiplier == 0.0:
        score.ep[w] = 0.0
    else:
        score.ep[w] = m / most if most > MIN_PROGRESS else 1.0
    score.pdms[w] = multiplier * (5.0 * score.ep[w] + 5.0 * score.ttc[w] + 2.0 * score.comfort[w]) / 12.0


@njit(cache=True, nogil=True, _nrt=False)
def _ego_centre(bank, worlds, w):
    ego = worlds.ego[w]
    cos, sin = math.cos(ego[2]), math.sin(ego[2])
    ahead = bank.scenarios[worlds.scenario[w]].rear_axle_to_center
    return ego[0] + ahead * cos, ego[1] + ahead * sin, cos, sin


@njit(cache=True, nogil=True, _nrt=False)
def _project(bank, scenario, hint, x, y):
    return project_on_route(bank.route, bank.route_s, scenario.route_start, scenario.route_count, hint, x, y)


@njit(cache=True, nogil=True, _nrt=False)
def _score_state(bank, worlds, score, w):
    """Brings minima, progress and records up to date with the current state."""
    scenario = bank.scenarios[worlds.scenario[w]]
    x, y, cos, sin = _ego_centre(bank, worlds, w)
    half_length, half_width = scenario.length / 2, scenario.width / 2
    corners = score.corners[w]
    box_corners(x, y, cos, sin, half_length, half_width, corners)
    outside = first_corner_off_road(bank.map_index, scenario.map_row, corners)
    _score_agents(bank, worlds, score, w, x, y, cos, sin, half_length, half_width, outside >= 0)
    if outside >= 0 and score.dac[w] > 0.0:
        score.dac[w] = 0.0
        _record(worlds, score, w, OFF_ROAD, 3, -1, corners[outside, 0], corners[outside, 1])
    at, score.route_row[w] = _project(bank, scenario, score.route_row[w], x, y)
    score.progress[w] = max(at - score.start_s[w], 0.0)


@njit(cache=True, nogil=True, _nrt=False)
def _score_agents(bank, worlds, score, w, x, y, cos, sin, half_length, half_width, off_road):
    """Collisions and time to collision with everyone else."""
    scenario, k = bank.scenarios[worlds.scenario[w]], worlds.step[w]
    num_agents = scenario.num_agents
    now = scenario.log_start + np.int64(k) * num_agents
    ego = worlds.ego[w]
    speed = math.hypot(ego[3], ego[4])
    reach = half_length + half_width  # at least the radius of the box
    agents, sizes = worlds.agents[w], worlds.agent_size[w]
    with_ttc = speed >= STOPPED_TTC and score.ttc[w] > 0.0
    for a in range(1, num_agents):
        present, replayed = worlds.present[w, a], worlds.mode[w, a] == LOG
        if present:
            agent = agents[a]
            al, aw = sizes[a, 0] / 2, sizes[a, 1] / 2
            dx, dy = agent[0] - x, agent[1] - y
            radius = reach + al + aw
            if dx * dx + dy * dy <= radius * radius and boxes_overlap(
                x, y, cos, sin, half_length, half_width, agent[0], agent[1], agent[6], agent[7], al, aw
            ):
                _contact(bank, worlds, score, w, a, x, y, cos, sin, half_length, half_width, speed, off_road)
                if with_ttc:
                    _threat(bank, worlds, score, w, a, agent[0], agent[1], x, y, cos, sin, half_length, half_width, off_road)
        elif not replayed or bank.log_valid[now + a]:
            continue  # held back, or a reacting agent that has not come yet
        if not with_ttc or score.ignored[w, a] & _IGNORED_TTC:
            continue
        for ahead in LOOKAHEAD:
            dt = ahead * STEP_S
            px, py = x + speed * dt * cos, y + speed * dt * sin
            if replayed:
                row = now + ahead * num_agents + a
                if not bank.log_valid[row]:
                    continue
                log = bank.log[row]
                ax, ay, ac, asn, al, aw = log[0], log[1], log[6], log[7], log[8] / 2, log[9] / 2
            else:
                agent = agents[a]
                ax, ay, ac, asn = agent[0] + dt * agent[3], agent[1] + dt * agent[4], agent[6], agent[7]
                al, aw = sizes[a, 0] / 2, sizes[a, 1] / 2
            dx, dy = ax - px, ay - py
            radius = reach + al + aw
            if (
                dx * dx + dy * dy <= radius * radius
                and not score.ignored[w, a] & _IGNORED_TTC
                and boxes_overlap(px, py, cos, sin, half_length, half_width, ax, ay, ac, asn, al, aw)
            ):
                _threat(bank, worlds, score, w, a, ax, ay, px, py, cos, sin, half_length, half_width, off_road)


@njit(cache=True, nogil=True, _nrt=False)
def _contact(bank, worlds, score, w, a, x, y, cos, sin, half_length, half_width, speed, off_road):
    """Classifies a contact with agent ``a`` at the current step."""
    if score.ignored[w, a] & _IGNORED_CONTACT:
        return
    scenario, agent = bank.scenarios[worlds.scenario[w]], worlds.agents[w, a]
    is_agent = bank.agents[scenario.agent_start + a].type <= _LAST_AGENT_TYPE
    al, aw = worlds.agent_size[w, a, 0] / 2, worlds.agent_size[w, a, 1] / 2
    kind = classify_collision(
        worlds.ego[w, 0], worlds.ego[w, 1], x, y, cos, sin, half_length, half_width, speed,
        agent[0], agent[1], agent[6], agent[7], al, aw, math.hypot(agent[3], agent[4]), is_agent,
    )  # fmt: skip
    at_fault = is_at_fault(kind, off_road)
    if not at_fault and is_at_fault(kind, True):
        at_fault = in_multiple_lanes(bank.map_index, scenario.map_row, score.corners[w], score.lanes[w])
    if not at_fault:
        score.ignored[w, a] |= _IGNORED_CONTACT
        score.hit_without_fault[w] += 1
        return
    credit = 0.0 if is_agent else 0.5
    if credit < score.nc[w]:
        score.nc[w] = credit
        px, py = _nearest_in_box(x, y, cos, sin, half_length, half_width, agent[0], agent[1])
        _record(worlds, score, w, COLLISION, 3 if is_agent else 2, a, px, py)


@njit(cache=True, nogil=True, _nrt=False)
def _threat(bank, worlds, score, w, a, ax, ay, px, py, cos, sin, half_length, half_width, off_road):
    """Classifies a predicted overlap of the ego's box at (px, py) with agent ``a`` at (ax, ay)."""
    if score.ignored[w, a] & _IGNORED_TTC:
        return
    m = bank.scenarios[worlds.scenario[w]].map_row
    rear_x, rear_y = worlds.ego[w, 0], worlds.ego[w, 1]
    angle = bearing(rear_x, rear_y, cos, sin, ax, ay)
    infraction = is_ahead(angle)
    if not infraction and not is_behind(angle):
        infraction = (
            off_road
            or in_layer(bank.map_index, m, _INTERSECTION, rear_x, rear_y)
            or in_multiple_lanes(bank.map_index, m, score.corners[w], score.lanes[w])
        )
    if not infraction:
        score.ignored[w, a] |= _IGNORED_TTC
    elif score.ttc[w] > 0.0:
        score.ttc[w] = 0.0
        place_x, place_y = _nearest_in_box(px, py, cos, sin, half_length, half_width, ax, ay)
        _record(worlds, score, w, TIME_TO_COLLISION, 1, a, place_x, place_y)


@njit(cache=True, nogil=True, _nrt=False)
def _nearest_in_box(x, y, cos, sin, half_length, half_width, to_x, to_y):
    """Returns the point of a box that is nearest to another point."""
    dx, dy = to_x - x, to_y - y
    along = min(max(dx * cos + dy * sin, -half_length), half_length)
    across = min(max(dy * cos - dx * sin, -half_width), half_width)
    return x + along * cos - across * sin, y + along * sin + across * cos


@njit(cache=True, nogil=True, _nrt=False)
def _record(worlds, score, w, term, rank, agent, x, y):
    """Keeps an infraction if it is graver than what was recorded."""
    if rank <= score.infraction_rank[w]:
        return
    score.infraction_term[w], score.infraction_rank[w] = term, rank
    score.infraction_step[w], score.infraction_agent[w] = worlds.step[w], agent
    score.infraction_place[w, 0], score.infraction_place[w, 1] = x, y
