"""One world that many agents drive in: a master world with everyone's body, and a view of it for each agent.

In the view of an agent that agent is row 0, and the ego is in the agent's row of the tracks: the scorer and the observation work on
views as on any world. All else is where the master has it. Controlled agents count as reacting: time to collision looks at them
along constant velocity.
"""

from __future__ import annotations

import math

from worldengine_envs.envs.actions import CONTROL
from worldengine_envs.envs.batch import choose_command, make_plan
from worldengine_envs.envs.observations import write_observation
from worldengine_envs.scenario.types import STEP_S
from worldengine_envs.scoring.live import has_failed, live_reset, live_update
from worldengine_envs.simulation.bank import PLAN
from worldengine_envs.simulation.bicycle import (
    AX,
    AY,
    STEERING,
    STEERING_RATE,
    VX,
    VY,
    YAW,
    YAW_ACCELERATION,
    YAW_RATE,
    X,
    Y,
)
from worldengine_envs.simulation.geometry import wrap_angle
from worldengine_envs.simulation.kernels import kernel
from worldengine_envs.simulation.traffic import accelerate_agents, move_agents
from worldengine_envs.simulation.world import drive_ego, put_ego, record_ego, reset_world

BRAKING = 6.0  # of the body of an agent that has failed [m/s2]


@kernel
def begin_agents(bank, master, s, rows, own, views, score, tables, d, observation):
    """Puts the master world at the start of a scenario, and its agents into their views.

    Args:
        bank, master, s: Scenarios, one world (with plans as long as its horizon), and the row of the scenario.
        rows: (n,) int32 tracks of the agents; the ego, row 0, is the first one.
        own: The bank with the agents' own tasks as its n scenarios.
        views, score, tables, d, observation: As ``batch.begin_worlds``, one row an agent; tables belong to ``own``.
    """
    reset_world(bank, master, 0, s)
    agents, sizes = master.agents[0], master.agent_size[0]
    for i in range(len(rows)):
        row, task = rows[i], own.scenarios[i]
        views.scenario[i], views.step[i] = i, 0
        for c in range(11):
            views.ego[i, c] = task.ego[c]
        record_ego(views.ego[i], task.rear_axle_to_center, agents[row], views.ego_history[i], 0)
        sizes[row, 0], sizes[row, 1], master.mode[0, row] = task.length, task.width, PLAN
    for i in range(len(rows)):
        views.present[i] = False
        views.path_position[i], views.path_offset[i], views.acceleration[i] = 0.0, 0.0, 0.0
        _look(master, views, i, rows[i], bank.scenarios[s].num_agents)
        live_reset(own, views, score, i)
        d.command[i, 0] = d.command[i, 1] = 0.0
        write_observation(own, views, score, tables, d.command, d.horizon_steps, observation, i)


@kernel
def drive_agents(bank, master, rows, own, views, score, tables, d, observation):
    """Carries out one decision of the active agents; the others' bodies brake. Arguments as ``begin_agents``.

    Writes rewards and ends, and observations of active agents: at the end of the decision, or of the moment when they failed.
    """
    n, horizon = len(rows), d.horizon_steps
    num_agents = bank.scenarios[master.scenario[0]].num_agents
    for i in range(n):
        d.reward[i], d.terminated[i], d.truncated[i] = 0.0, False, False
        if d.active[i] and d.kind != CONTROL:
            make_plan(views, d, i)
    k, driving = 0, True
    while k < d.substeps and master.step[0] < horizon and driving:
        _step(bank, master, rows, own, views, d, k)
        driving = False
        for i in range(n):
            if d.terminated[i]:
                continue  # until the next decision its view stays as it was when it failed
            views.step[i] = master.step[0]
            _look(master, views, i, rows[i], num_agents)
            if d.active[i]:
                d.reward[i] += live_update(own, views, score, i, views.step[i] == horizon)
                d.terminated[i] = has_failed(score, i)
                if d.terminated[i]:
                    write_observation(own, views, score, tables, d.command, horizon, observation, i)
                else:
                    driving = True
        k += 1
    for i in range(n):
        if d.active[i] and not d.terminated[i]:
            d.truncated[i] = master.step[0] >= horizon
            write_observation(own, views, score, tables, d.command, horizon, observation, i)


@kernel
def _step(bank, master, rows, own, views, d, k):
    """Moves the master world on by 0.1 s, the ``k``-th step since the decision: drivers decide, agents move, then everyone else."""
    accelerate_agents(bank, master, 0)
    step = master.step[0] + 1
    agents, plans = master.agents[0], master.plans[0]
    for i in range(len(rows)):
        ego, task, row = views.ego[i], own.scenarios[i], rows[i]
        if d.active[i] and not d.terminated[i]:
            _drive(own, views, d, i, k)
        else:
            brake_body(ego, task.wheel_base)
        record_ego(ego, task.rear_axle_to_center, agents[row], views.ego_history[i], step)
        plans[row, step - 1, 0], plans[row, step - 1, 1] = agents[row, 0], agents[row, 1]
        plans[row, step - 1, 2], plans[row, step - 1, 3] = agents[row, 2], agents[row, 5]
    master.step[0] = step
    move_agents(bank, master, 0, step)


@kernel
def _drive(own, views, d, i, k):
    """Moves an agent's body by its action, as ``batch`` moves the ego of a single world."""
    ego, wheel_base, is_control = views.ego[i], own.scenarios[i].wheel_base, d.kind == CONTROL
    if d.perfect and not is_control:
        put_ego(ego, d.plan[i, k + 1, 0], d.plan[i, k + 1, 1], d.plan[i, k + 1, 2], wheel_base)
        acceleration, steering_rate = ego[AX], ego[STEERING_RATE]
    else:
        acceleration, steering_rate = choose_command(own, views, d, i, k)
        drive_ego(ego, acceleration, steering_rate, wheel_base, is_control)
    d.command[i, 0], d.command[i, 1] = acceleration, steering_rate


@kernel
def brake_body(ego, wheel_base):
    """Moves a body (11,) that nobody drives for 0.1 s: it brakes at 6 m/s2 to a stand, the wheel as it is."""
    speed, yaw_rate, curvature = ego[VX], ego[YAW_RATE], math.tan(ego[STEERING]) / wheel_base
    change = BRAKING * STEP_S
    if abs(speed) <= change:
        ego[VX], distance = 0.0, 0.5 * speed * abs(speed) / BRAKING
    else:
        ego[VX] = speed - math.copysign(change, speed)
        distance = 0.5 * (speed + ego[VX]) * STEP_S
    turn = distance * curvature
    ego[X] += distance * math.cos(ego[YAW] + 0.5 * turn)
    ego[Y] += distance * math.sin(ego[YAW] + 0.5 * turn)
    ego[YAW] = wrap_angle(ego[YAW] + turn)
    ego[AX], ego[VY], ego[AY], ego[STEERING_RATE] = (ego[VX] - speed) / STEP_S, 0.0, 0.0, 0.0
    ego[YAW_RATE] = ego[VX] * curvature
    ego[YAW_ACCELERATION] = (ego[YAW_RATE] - yaw_rate) / STEP_S


@kernel
def _look(master, views, i, row, num_agents):
    """Copies the master world into view ``i``, where the agent of track ``row`` and the ego have changed places."""
    theirs, mine = master.agents[0], views.agents[i]
    for a in range(num_agents):
        b = row if a == 0 else (0 if a == row else a)
        for c in range(8):
            mine[a, c] = theirs[b, c]
        views.agent_size[i, a, 0], views.agent_size[i, a, 1] = master.agent_size[0, b, 0], master.agent_size[0, b, 1]
        views.present[i, a], views.mode[i, a] = master.present[0, b], master.mode[0, b]
