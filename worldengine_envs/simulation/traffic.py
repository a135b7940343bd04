"""Everyone but the ego: agents that replay their log, drive by IDM along their own path, or follow a plan; any mix in a world.

A step has two halves, so that the order of agents does not matter: ``accelerate_agents`` lets every IDM agent decide from the state
at step k, ``move_agents`` then moves all to step k + 1. Agents that appear do so last, and only where their box is clear.
"""

from __future__ import annotations

import math

from numba import njit

from worldengine_envs.scenario.types import STEP_S
from worldengine_envs.simulation.bank import IDM, LOG
from worldengine_envs.simulation.geometry import boxes_overlap, wrap_angle
from worldengine_envs.simulation.idm import A_MAX, B_MAX, MARGIN, MIN_GAP, free_acceleration, interaction, look_ahead
from worldengine_envs.simulation.leader import find_leader, light_gap, path_row

OFFSET_FADE_M = 5.0  # an IDM agent's offset from its path fades out while it drives this far


@njit(cache=True, nogil=True)
def place_logged(bank, worlds, w, a, row):
    """Puts an agent where row ``row`` of the log has it."""
    for c in range(8):
        worlds.agents[w, a, c] = bank.log[row, c]
    worlds.agent_size[w, a, 0] = bank.log[row, 8]
    worlds.agent_size[w, a, 1] = bank.log[row, 9]


@njit(cache=True, nogil=True)
def enter(bank, worlds, w, a, row, agent_row):
    """Lets an agent begin to exist at a logged pose; an IDM agent remembers how far that is from its path."""
    place_logged(bank, worlds, w, a, row)
    worlds.present[w, a] = True
    worlds.acceleration[w, a] = 0.0
    worlds.path_position[w, a] = bank.path_s0[agent_row]
    for c in range(3):
        worlds.path_offset[w, a, c] = 0.0
    if worlds.mode[w, a] == IDM and bank.path_count[agent_row] > 0:
        first, spacing = bank.path_start[agent_row], bank.path_ds[agent_row]
        i, t = path_row(worlds.path_position[w, a], spacing, bank.path_count[agent_row])
        for c in range(2):
            on_path = bank.path[first + i, c] + t * (bank.path[first + i + 1, c] - bank.path[first + i, c])
            worlds.path_offset[w, a, c] = worlds.agents[w, a, c] - on_path
        on_path = bank.path[first + i, 2] + t * (bank.path[first + i + 1, 2] - bank.path[first + i, 2])
        worlds.path_offset[w, a, 2] = wrap_angle(worlds.agents[w, a, 2] - on_path)


@njit(cache=True, nogil=True)
def accelerate_agents(bank, worlds, w):
    """Lets every IDM agent of a world choose its acceleration for the next step."""
    s = worlds.scenario[w]
    base, n = bank.agent_start[s], bank.num_agents[s]
    lights = bank.light_start[s] + worlds.step[w] * bank.num_lights[s]
    agents, sizes, present = worlds.agents[w], worlds.agent_size[w], worlds.present[w]
    for a in range(1, n):
        row = base + a
        if worlds.mode[w, a] != IDM or not present[a] or bank.path_count[row] == 0:
            continue
        p = bank.idm[bank.agent_type[row]]
        position, speed = worlds.path_position[w, a], agents[a, 5]
        first, count, spacing = bank.path_start[row], bank.path_count[row], bank.path_ds[row]
        i, t = path_row(position, spacing, count)
        desired = bank.path[first + i, 3] + t * (bank.path[first + i + 1, 3] - bank.path[first + i, 3])
        remaining = (count - 1) * spacing - position
        reach = min(look_ahead(p, speed), remaining)
        braking = interaction(p, speed, remaining + p[MIN_GAP], 0.0)  # it stops where its path ends
        if bank.stop_count[row] > 0:
            front = position + 0.5 * sizes[a, 0]
            stop_start, stop_count = bank.stop_start[row], bank.stop_count[row]
            gap = light_gap(bank.stop_s, bank.stop_light, stop_start, stop_count, bank.light_state, lights, p, front, speed)
            braking = max(braking, interaction(p, speed, gap, 0.0))
        gap, leader_speed = find_leader(
            agents, sizes, present, n, a, bank.path, first, count, spacing, position, reach, 0.5 * sizes[a, 1] + p[MARGIN]
        )
        if gap < math.inf:
            braking = max(braking, interaction(p, speed, gap, leader_speed))
        wanted = free_acceleration(p, speed, desired) - braking
        worlds.acceleration[w, a] = min(max(wanted, -p[B_MAX]), p[A_MAX])


@njit(cache=True, nogil=True)
def _drive_on(agent, offset, path, first, count, spacing, position, acceleration):
    """Moves an IDM agent (8,) along its path for one step and returns its new arclength."""
    speed = agent[5]
    new_speed = speed + acceleration * STEP_S
    if new_speed >= 0.0:
        distance = 0.5 * (speed + new_speed) * STEP_S
    else:  # it comes to a stop within the step
        distance, new_speed = -0.5 * speed * speed / acceleration, 0.0
    end = (count - 1) * spacing
    if position + distance >= end:
        distance, new_speed = end - position, 0.0
    agent[5] = new_speed
    if distance <= 0.0:
        agent[3] = agent[4] = 0.0
        return position
    position += distance
    fade = max(1.0 - distance / OFFSET_FADE_M, 0.0)
    i, t = path_row(position, spacing, count)
    dx, dy = path[first + i + 1, 0] - path[first + i, 0], path[first + i + 1, 1] - path[first + i, 1]
    for c in range(3):
        offset[c] *= fade
    agent[0] = path[first + i, 0] + t * dx + offset[0]
    agent[1] = path[first + i, 1] + t * dy + offset[1]
    agent[2] = wrap_angle(path[first + i, 2] + t * (path[first + i + 1, 2] - path[first + i, 2]) + offset[2])
    agent[3], agent[4] = new_speed * dx / spacing, new_speed * dy / spacing
    agent[6], agent[7] = math.cos(agent[2]), math.sin(agent[2])
    return position


@njit(cache=True, nogil=True)
def _follow_plan(agent, plan, k):
    """Moves a PLAN agent (8,) to step ``k`` of its plan (P, 4); behind its end it goes straight on at constant speed."""
    if k <= len(plan):
        agent[0], agent[1], agent[2], agent[5] = plan[k - 1, 0], plan[k - 1, 1], wrap_angle(plan[k - 1, 2]), plan[k - 1, 3]
        agent[6], agent[7] = math.cos(agent[2]), math.sin(agent[2])
        agent[3], agent[4] = agent[5] * agent[6], agent[5] * agent[7]
    else:
        agent[0] += agent[3] * STEP_S
        agent[1] += agent[4] * STEP_S


@njit(cache=True, nogil=True)
def _is_clear(worlds, w, n, x, y, cos, sin, length, width):
    """Whether a box touches nobody present, the ego included."""
    radius = 0.5 * math.sqrt(length * length + width * width)
    for j in range(n):
        if not worlds.present[w, j]:
            continue
        dx, dy = worlds.agents[w, j, 0] - x, worlds.agents[w, j, 1] - y
        other_length, other_width = worlds.agent_size[w, j, 0], worlds.agent_size[w, j, 1]
        reach = radius + 0.5 * (other_length + other_width)
        if dx * dx + dy * dy > reach * reach:
            continue
        cos_j, sin_j = worlds.agents[w, j, 6], worlds.agents[w, j, 7]
        if boxes_overlap(0.0, 0.0, cos, sin, length / 2, width / 2, dx, dy, cos_j, sin_j, other_length / 2, other_width / 2):
            return False
    return True


@njit(cache=True, nogil=True)
def _appear(bank, worlds, w, k):
    """Lets agents begin to exist whose time has come, in the order of rows, unless they would touch somebody."""
    s = worlds.scenario[w]
    base, n = bank.agent_start[s], bank.num_agents[s]
    for a in range(1, n):
        if worlds.present[w, a]:
            continue
        step = k
        if worlds.mode[w, a] != LOG:
            step = bank.agent_first[base + a]
            if step < 0 or step > k:
                continue
        row = bank.log_start[s] + step * n + a
        log = bank.log[row]
        if bank.log_valid[row] and _is_clear(worlds, w, n, log[0], log[1], log[6], log[7], log[8], log[9]):
            enter(bank, worlds, w, a, row, base + a)


@njit(cache=True, nogil=True)
def move_agents(bank, worlds, w, k):
    """Moves everyone but the ego to step ``k``."""
    s = worlds.scenario[w]
    base, n = bank.agent_start[s], bank.num_agents[s]
    log_row = bank.log_start[s] + k * n
    absent = False
    for a in range(1, n):
        mode = worlds.mode[w, a]
        if mode == LOG and not bank.log_valid[log_row + a]:
            worlds.present[w, a] = False
        elif not worlds.present[w, a]:
            absent = True
        elif mode == LOG:
            place_logged(bank, worlds, w, a, log_row + a)
        elif mode == IDM:
            row = base + a
            if bank.path_count[row] > 0:
                worlds.path_position[w, a] = _drive_on(
                    worlds.agents[w, a],
                    worlds.path_offset[w, a],
                    bank.path,
                    bank.path_start[row],
                    bank.path_count[row],
                    bank.path_ds[row],
                    worlds.path_position[w, a],
                    worlds.acceleration[w, a],
                )
        else:
            _follow_plan(worlds.agents[w, a], worlds.plans[w, a], k)
    if absent:
        _appear(bank, worlds, w, k)
