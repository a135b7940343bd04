"""Everyone but the ego: agents that replay their log, drive by IDM along their own path, or follow a plan; any mix in a world.

A step has two halves, so that the order of agents does not matter: ``accelerate_agents`` lets every IDM agent decide from the state
at step k, ``move_agents`` then moves all to step k + 1. Agents that appear do so last, and only where their box is clear.
"""

from __future__ import annotations

import math

from worldengine_envs.scenario.types import STEP_S
from worldengine_envs.simulation.bank import IDM, LOG
from worldengine_envs.simulation.geometry import boxes_overlap, wrap_angle
from worldengine_envs.simulation.idm import A_MAX, B_MAX, MARGIN, MIN_GAP, free_acceleration, interaction, look_ahead
from worldengine_envs.simulation.kernels import kernel
from worldengine_envs.simulation.leader import find_leader, gather_present, light_gap, path_row

OFFSET_FADE_M = 5.0  # an IDM agent's offset from its path fades out while it drives this far


@kernel
def place(log_row, agent, size):
    """Puts an agent (8,) with its size (2,) where a row (10,) of the log has it."""
    for c in range(8):
        agent[c] = log_row[c]
    size[0], size[1] = log_row[8], log_row[9]


@kernel
def start_on_path(record, path, agent, offset):
    """Returns the arclength of an agent (8,) that begins to exist and writes how far it is from its path to ``offset`` (3,)."""
    offset[:] = 0.0
    if record.path_count > 0:
        i, t = path_row(record.path_s0, record.path_ds, record.path_count)
        i += record.path_start
        for c in range(3):
            offset[c] = agent[c] - path[i, c] - t * (path[i + 1, c] - path[i, c])
        offset[2] = wrap_angle(offset[2])
    return record.path_s0


@kernel
def accelerate_agents(bank, worlds, w):
    """Lets every IDM agent of a world choose its acceleration for the next step."""
    scenario = bank.scenarios[worlds.scenario[w]]
    n, lights = scenario.num_agents, scenario.light_start + worlds.step[w] * scenario.num_lights
    agents, sizes, present, mode = worlds.agents[w], worlds.agent_size[w], worlds.present[w], worlds.mode[w]
    records, path, segments, stops = bank.agents, bank.path, bank.segments, bank.stops
    light_state, idm = bank.light_state, bank.idm
    position, segment, acceleration = worlds.path_position[w], worlds.path_segment[w], worlds.acceleration[w]
    crowd = worlds.crowd[w]
    crowd = crowd[: gather_present(agents, sizes, present, n, crowd)]
    for a in range(1, n):
        if mode[a] != IDM or not present[a]:
            continue
        record = records[scenario.agent_start + a]
        if record.path_count == 0:
            continue
        p, speed = idm[record.type], agents[a, 5]
        i, t = path_row(position[a], record.path_ds, record.path_count)
        i += record.path_start
        desired = path[i, 3] + t * (path[i + 1, 3] - path[i, 3])
        remaining = (record.path_count - 1) * record.path_ds - position[a]
        reach, braking = look_ahead(p, speed), 0.0
        if remaining < reach:  # it stops where its path ends
            reach, braking = remaining, interaction(p, speed, remaining + p[MIN_GAP], 0.0)
        while segment[a] + 1 < record.segment_count and segments[record.segment_start + segment[a] + 1, 4] <= position[a]:
            segment[a] += 1
        if record.stop_count > 0:
            front = position[a] + 0.5 * sizes[a, 0]
            gap = light_gap(stops, record.stop_start, record.stop_count, light_state, lights, p, front, speed)
            braking = max(braking, interaction(p, speed, gap, 0.0))
        gap, leader_speed = find_leader(
            agents, sizes, crowd, a, path, segments, record, position[a], segment[a], reach, 0.5 * sizes[a, 1] + p[MARGIN]
        )
        if gap < math.inf:
            braking = max(braking, interaction(p, speed, gap, leader_speed))
        wanted = free_acceleration(p, speed, desired) - braking
        acceleration[a] = min(max(wanted, -p[B_MAX]), p[A_MAX])


@kernel
def _drive_on(agent, offset, record, path, position, acceleration):
    """Moves an IDM agent (8,) along its path for one step and returns its new arclength."""
    speed = agent[5]
    new_speed = speed + acceleration * STEP_S
    if new_speed >= 0.0:
        distance = 0.5 * (speed + new_speed) * STEP_S
    else:  # it comes to a stop within the step
        distance, new_speed = -0.5 * speed * speed / acceleration, 0.0
    end = (record.path_count - 1) * record.path_ds
    if position + distance >= end:
        distance, new_speed = end - position, 0.0
    agent[5] = new_speed
    if distance <= 0.0:
        agent[3] = agent[4] = 0.0
        return position
    position += distance
    fade = max(1.0 - distance / OFFSET_FADE_M, 0.0)
    i, t = path_row(position, record.path_ds, record.path_count)
    i += record.path_start
    dx, dy = path[i + 1, 0] - path[i, 0], path[i + 1, 1] - path[i, 1]
    for c in range(3):
        offset[c] *= fade
    agent[0] = path[i, 0] + t * dx + offset[0]
    agent[1] = path[i, 1] + t * dy + offset[1]
    agent[2] = wrap_angle(path[i, 2] + t * (path[i + 1, 2] - path[i, 2]) + offset[2])
    agent[3], agent[4] = new_speed * dx / record.path_ds, new_speed * dy / record.path_ds
    agent[6], agent[7] = math.cos(agent[2]), math.sin(agent[2])
    return position


@kernel
def _follow_plan(agent, plan, k):
    """Moves a PLAN agent (8,) to step ``k`` of its plan (P, 4); behind its end it goes straight on at constant speed."""
    if k <= len(plan):
        agent[0], agent[1], agent[2], agent[5] = plan[k - 1, 0], plan[k - 1, 1], wrap_angle(plan[k - 1, 2]), plan[k - 1, 3]
        agent[6], agent[7] = math.cos(agent[2]), math.sin(agent[2])
        agent[3], agent[4] = agent[5] * agent[6], agent[5] * agent[7]
    else:
        agent[0] += agent[3] * STEP_S
        agent[1] += agent[4] * STEP_S


@kernel
def _is_clear(agents, sizes, present, n, log_row):
    """Whether the box of a row (10,) of the log touches nobody present, the ego included."""
    length, width = log_row[8], log_row[9]
    radius = 0.5 * math.sqrt(length * length + width * width)
    for j in range(n):
        dx, dy = agents[j, 0] - log_row[0], agents[j, 1] - log_row[1]
        reach = radius + 0.5 * (sizes[j, 0] + sizes[j, 1])
        if not present[j] or dx * dx + dy * dy > reach * reach:
            continue
        half_length, half_width = 0.5 * sizes[j, 0], 0.5 * sizes[j, 1]
        if boxes_overlap(
            0.0, 0.0, log_row[6], log_row[7], length / 2, width / 2, dx, dy, agents[j, 6], agents[j, 7], half_length, half_width
        ):
            return False
    return True


@kernel
def _appear(bank, worlds, w, k):
    """Lets agents begin to exist whose time has come, in the order of rows, unless they would touch somebody."""
    scenario, records, log, valid = bank.scenarios[worlds.scenario[w]], bank.agents, bank.log, bank.log_valid
    agents, sizes, present, mode = worlds.agents[w], worlds.agent_size[w], worlds.present[w], worlds.mode[w]
    position, offset, acceleration, path = worlds.path_position[w], worlds.path_offset[w], worlds.acceleration[w], bank.path
    n = scenario.num_agents
    for a in range(1, n):
        if present[a]:
            continue
        record, step = records[scenario.agent_start + a], k
        if mode[a] != LOG:
            step = record.first
            if step < 0 or step > k:
                continue
        row = scenario.log_start + step * n + a
        if valid[row] and _is_clear(agents, sizes, present, n, log[row]):
            place(log[row], agents[a], sizes[a])
            present[a], acceleration[a], worlds.path_segment[w, a] = True, 0.0, 0
            position[a] = start_on_path(record, path, agents[a], offset[a])


@kernel
def move_agents(bank, worlds, w, k):
    """Moves everyone but the ego to step ``k``."""
    scenario, records, log, valid, path = bank.scenarios[worlds.scenario[w]], bank.agents, bank.log, bank.log_valid, bank.path
    agents, sizes, present, mode = worlds.agents[w], worlds.agent_size[w], worlds.present[w], worlds.mode[w]
    position, offset, acceleration, plans = worlds.path_position[w], worlds.path_offset[w], worlds.acceleration[w], worlds.plans[w]
    log_row = scenario.log_start + k * scenario.num_agents
    absent = False
    for a in range(1, scenario.num_agents):
        if mode[a] == LOG and not valid[log_row + a]:
            present[a] = False
        elif not present[a]:
            absent = True
        elif mode[a] == LOG:
            place(log[log_row + a], agents[a], sizes[a])
        elif mode[a] == IDM:
            record = records[scenario.agent_start + a]
            if record.path_count > 0:
                position[a] = _drive_on(agents[a], offset[a], record, path, position[a], acceleration[a])
        else:
            _follow_plan(agents[a], plans[a], k)
    if absent:
        _appear(bank, worlds, w, k)
