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

from worldengine_envs.scenario.types import STEP_S, AgentType, MapLayer
from worldengine_envs.scoring.areas import first_corner_off_road, in_multiple_lanes, make_lane_scratch
from worldengine_envs.scoring.collisions import bearing, classify_collision, is_ahead, is_at_fault, is_behind
from worldengine_envs.scoring.comfort import SCRATCH_ROWS, is_comfortable
from worldengine_envs.scoring.live_route import project_on_route
from worldengine_envs.simulation.bank import LOG, Bank
from worldengine_envs.simulation.geometry import box_corners, boxes_overlap
from worldengine_envs.simulation.kernels import kernel
from worldengine_envs.simulation.map_index import in_layer
from worldengine_envs.simulation.world import Worlds

NONE, COLLISION, OFF_ROAD, TIME_TO_COLLISION = 0, 1, 2, 3  # infraction_term
THREAT, HALF_CREDIT, FAILURE = 1, 2, 3  # infraction_rank; 0 = none
INFRACTION_NAMES = ("", "collision", "off_road", "time_to_collision")

STOPPED_TTC = 0.005  # no time to collision below this speed of the ego [m/s]
LOOKAHEAD = (0, 3, 6, 9)  # steps that time to collision looks ahead
MIN_PROGRESS = 5.0  # below it progress does not count [m]

_INTERSECTION = int(MapLayer.INTERSECTION)
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
    infraction_rank: np.ndarray  # (W,) int8 0, THREAT, HALF_CREDIT or FAILURE
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


@kernel
def live_reset(bank: Bank, worlds: Worlds, score: LiveScore, w: int) -> None:
    """Starts the score of world ``w``, which was just reset, and scores its state 0."""
    score.nc[w] = score.dac[w] = score.ttc[w] = score.comfort[w] = 1.0
    score.paid[w] = 0.0
    score.hit_without_fault[w] = 0
    score.ignored[w] = 0
    score.infraction_term[w], score.infraction_rank[w], score.infraction_step[w] = NONE, 0, 0
    score.infraction_agent[w] = -1
    score.infraction_place[w] = 0.0
    score.route_row[w] = 0
    never = worlds.step[w] < 0  # not a literal: numba would compile everything for it once more
    _score_state(bank, worlds, score, w, never)


@kernel
def live_update(bank: Bank, worlds: Worlds, score: LiveScore, w: int, is_last: bool) -> float:
    """Scores the state that world ``w`` has just reached.

    Args:
        bank, worlds: What the world step works on; ``worlds.ego_history`` holds all states since the start.
        score: Is brought up to date.
        w: The world.
        is_last: Whether this is the step at the horizon, where comfort counts.

    Returns:
        The reward: the change of the score of the motion so far. Without a stored reference (``p_ref`` NaN, while one is being
        made) the motion is its own measure: EP = 1 wherever NC * DAC is above 0.
    """
    _score_state(bank, worlds, score, w, is_last)
    reward = score.pdms[w] - score.paid[w]
    score.paid[w] = score.pdms[w]
    return reward


@kernel
def has_failed(score: LiveScore, w: int) -> bool:
    """Whether an at-fault collision or leaving the road has brought the score to 0 for good."""
    return score.nc[w] == 0.0 or score.dac[w] == 0.0


@kernel
def _score_state(bank, worlds, score, w, is_last):
    """Brings all terms and records up to date with the current state."""
    scenario, ego, k = bank.scenarios[worlds.scenario[w]], worlds.ego[w], worlds.step[w]
    cos, sin = math.cos(ego[2]), math.sin(ego[2])
    x, y = ego[0] + scenario.rear_axle_to_center * cos, ego[1] + scenario.rear_axle_to_center * sin
    corners = score.corners[w]
    box_corners(x, y, cos, sin, scenario.length / 2, scenario.width / 2, corners)
    outside = first_corner_off_road(bank.map_index, scenario.map_row, corners)
    _meet_agents(bank, worlds, score, w, x, y, cos, sin, outside >= 0)
    if outside >= 0 and score.dac[w] > 0.0:
        score.dac[w] = 0.0
        if score.infraction_rank[w] < FAILURE:
            score.infraction_term[w], score.infraction_rank[w] = OFF_ROAD, FAILURE
            score.infraction_step[w], score.infraction_agent[w] = k, -1
            score.infraction_place[w, 0], score.infraction_place[w, 1] = corners[outside, 0], corners[outside, 1]
    at, score.route_row[w] = project_on_route(
        bank.route, bank.route_s, scenario.route_start, scenario.route_count, score.route_row[w], x, y
    )
    if k == 0:
        score.start_s[w] = at
    score.progress[w] = max(at - score.start_s[w], 0.0)
    if is_last:
        score.comfort[w] = 1.0 if is_comfortable(worlds.ego_history[w], k + 1, score.signal[w]) else 0.0
    multiplier = score.nc[w] * score.dac[w]
    m, p_ref = multiplier * score.progress[w], scenario.p_ref
    most = max(p_ref, m) if p_ref == p_ref else m
    if multiplier == 0.0:
        score.ep[w] = 0.0
    else:
        score.ep[w] = m / most if most > MIN_PROGRESS else 1.0
    score.pdms[w] = multiplier * (5.0 * score.ep[w] + 5.0 * score.ttc[w] + 2.0 * score.comfort[w]) / 12.0


@kernel
def _meet_agents(bank, worlds, score, w, x, y, cos, sin, off_road):
    """Collisions and time to collision with everyone else; the ego's box is at (x, y)."""
    scenario, ego, k = bank.scenarios[worlds.scenario[w]], worlds.ego[w], worlds.step[w]
    num_agents, half_length, half_width = scenario.num_agents, scenario.length / 2, scenario.width / 2
    now = scenario.log_start + np.int64(k) * num_agents
    speed = math.hypot(ego[3], ego[4])
    reach = half_length + half_width  # at least the radius of the box
    agents, sizes, corners, lanes = worlds.agents[w], worlds.agent_size[w], score.corners[w], score.lanes[w]
    look_ahead = speed >= STOPPED_TTC and score.ttc[w] > 0.0
    for a in range(1, num_agents):
        present, replayed = worlds.present[w, a], worlds.mode[w, a] == LOG
        if not present and (not replayed or bank.log_valid[now + a]):
            continue  # a reacting agent that has not come yet, or one that is held back
        agent = agents[a]
        for ahead in LOOKAHEAD:
            if ahead > 0 and (not look_ahead or score.ttc[w] == 0.0 or score.ignored[w, a] & _IGNORED_TTC):
                break
            if ahead == 0 and not present:
                continue
            dt = ahead * STEP_S
            px, py = x + speed * dt * cos, y + speed * dt * sin
            if ahead > 0 and replayed:
                row = now + ahead * num_agents + a
                if not bank.log_valid[row]:
                    continue
                log = bank.log[row]
                ax, ay, ac, asn, al, aw = log[0], log[1], log[6], log[7], log[8] / 2, log[9] / 2
            else:
                ax, ay, ac, asn = agent[0] + dt * agent[3], agent[1] + dt * agent[4], agent[6], agent[7]
                al, aw = sizes[a, 0] / 2, sizes[a, 1] / 2
            dx, dy, radius = ax - px, ay - py, reach + al + aw
            if dx * dx + dy * dy > radius * radius:
                continue
            if not boxes_overlap(px, py, cos, sin, half_length, half_width, ax, ay, ac, asn, al, aw):
                continue
            term = rank = 0
            if ahead == 0 and not score.ignored[w, a] & _IGNORED_CONTACT:
                is_agent = bank.agents[scenario.agent_start + a].type <= _LAST_AGENT_TYPE
                credit = 0.0 if is_agent else 0.5
                if not _is_at_fault(
                    bank.map_index, scenario.map_row, corners, lanes, ego, x, y, cos, sin, half_length, half_width, speed, off_road,
                    agent, al, aw, is_agent,
                ):  # fmt: skip
                    score.ignored[w, a] |= _IGNORED_CONTACT
                    score.hit_without_fault[w] += 1
                elif credit < score.nc[w]:
                    score.nc[w] = credit
                    term, rank = COLLISION, FAILURE if is_agent else HALF_CREDIT
            if look_ahead and score.ttc[w] > 0.0 and not score.ignored[w, a] & _IGNORED_TTC:
                if not _is_threat(bank.map_index, scenario.map_row, corners, lanes, ego, cos, sin, off_road, ax, ay):
                    score.ignored[w, a] |= _IGNORED_TTC
                else:
                    score.ttc[w] = 0.0
                    if rank == 0:
                        term, rank = TIME_TO_COLLISION, THREAT
            if rank > score.infraction_rank[w]:
                score.infraction_term[w], score.infraction_rank[w] = term, rank
                score.infraction_step[w], score.infraction_agent[w] = k, a
                # the point of the ego's box that is nearest to the other's centre
                along = min(max(dx * cos + dy * sin, -half_length), half_length)
                across = min(max(dy * cos - dx * sin, -half_width), half_width)
                score.infraction_place[w, 0] = px + along * cos - across * sin
                score.infraction_place[w, 1] = py + along * sin + across * cos


@kernel
def _is_at_fault(index, m, corners, lanes, ego, x, y, cos, sin, half_length, half_width, speed, off_road, agent, al, aw, is_agent):
    """Whether the ego is to blame for its contact with an agent (8,) of half sizes al, aw."""
    kind = classify_collision(
        ego[0], ego[1], x, y, cos, sin, half_length, half_width, speed,
        agent[0], agent[1], agent[6], agent[7], al, aw, math.hypot(agent[3], agent[4]), is_agent,
    )  # fmt: skip
    if is_at_fault(kind, off_road):
        return True
    return is_at_fault(kind, True) and in_multiple_lanes(index, m, corners, lanes)


@kernel
def _is_threat(index, m, corners, lanes, ego, cos, sin, off_road, ax, ay):
    """Whether a predicted contact with a box at (ax, ay) is an infraction."""
    angle = bearing(ego[0], ego[1], cos, sin, ax, ay)
    if is_ahead(angle):
        return True
    if is_behind(angle):
        return False
    return off_road or in_layer(index, m, _INTERSECTION, ego[0], ego[1]) or in_multiple_lanes(index, m, corners, lanes)
