"""A planner that is no RL agent: a function from an observation to a trajectory. Its score is printed by family.

    python examples/planner.py

It follows the route and takes the largest acceleration that keeps clear of where everyone will be at constant velocity.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import tyro

import worldengine_envs
from worldengine_envs.envs.actions import poses_to_action
from worldengine_envs.envs.observations import SCENE_M, SIZE_M, SPEED

TIMES = 0.5 * np.arange(1, 9)  # of the poses of a trajectory [s]
ACCELERATIONS = np.array([1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -2.0, -3.0, -4.0, -6.0])  # tried in this order [m/s2]
FRONT_M, HALF_WIDTH_M = 4.1, 1.15  # of the ego: from the rear axle to the front, and to the side
GAP_M, MARGIN_M = 2.0, 0.4  # kept to those ahead, and beside


def plan(observation: dict[str, np.ndarray]) -> np.ndarray:
    """Returns poses (8, 3) every 0.5 s for 4 s: x, y [m], yaw [rad] relative to the rear axle, from a state observation."""
    ego, line = observation["ego"], SCENE_M * observation["route"][:, :2]
    speed, limit = SPEED * float(ego[0]), SPEED * float(ego[8]) if ego[9] > 0 else 14.0
    line = np.vstack([[0.0, 0.0], line[line[:, 0] > 2.0]])  # from the ego back onto the route
    if len(line) < 2:
        line = np.array([[0.0, 0.0], [100.0, 0.0]])
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    blocked = blocked_from(observation, line, s)
    for acceleration in ACCELERATIONS:
        moving = np.minimum(TIMES, speed / -acceleration if acceleration < 0 else np.inf)
        top = np.clip((max(limit, speed) - speed) / max(acceleration, 1e-6), 0.0, None)
        faster = np.minimum(moving, top) if acceleration > 0 else moving
        travelled = speed * moving + 0.5 * acceleration * faster**2 + acceleration * faster * (moving - faster)
        if (travelled + FRONT_M < blocked).all():
            break
    x, y = (np.interp(travelled, s, line[:, k]) for k in (0, 1))
    beyond = np.maximum(travelled - s[-1], 0.0)
    i = np.clip(np.searchsorted(s, travelled, side="right"), 1, len(s) - 1)
    yaw = np.arctan2(*(line[i] - line[i - 1]).T[::-1])
    return np.stack([x + beyond * np.cos(yaw), y + beyond * np.sin(yaw), yaw], axis=1)


def blocked_from(observation: dict[str, np.ndarray], line: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Returns for each time of the trajectory the arclength [m] along a line from which on somebody is in the way."""
    agents = observation["agents"][observation["agents_mask"] > 0]
    blocked = np.full(len(TIMES), np.inf)
    fine = np.arange(0.0, s[-1], 0.5)
    points = np.stack([np.interp(fine, s, line[:, k]) for k in (0, 1)], axis=1)
    for agent in agents:
        xy, heading, velocity, (length, width) = SCENE_M * agent[:2], agent[2:4], SPEED * agent[4:6], SIZE_M * agent[6:8]
        for k, t in enumerate(TIMES):
            away = points - (xy + t * velocity)
            along, across = np.abs(away @ heading), np.abs(away @ np.array([-heading[1], heading[0]]))
            touched = (along < length / 2 + HALF_WIDTH_M + MARGIN_M) & (across < width / 2 + HALF_WIDTH_M + MARGIN_M)
            if touched.any() and fine[touched.argmax()] > 0.5:  # who drives into the ego from behind is not its business
                blocked[k] = min(blocked[k], fine[touched.argmax()] - GAP_M)
    return blocked


@dataclass(frozen=True)
class Settings:
    """What to drive."""

    pack: str = "starter"
    split: str = "rare_test"
    every: int = 8
    """Only one in so many scenarios."""
    traffic: str = "log"


def drive(settings: Settings) -> dict[str, list[tuple[bool, float]]]:
    """Drives scenarios and returns (success, return) of each by family."""
    scenarios = worldengine_envs.scenarios(pack=settings.pack, split=settings.split)[:: settings.every]
    names = [scenario.scenario for scenario in scenarios]
    chosen = {"scenario": names, "observation": "state", "action": "trajectory", "traffic": settings.traffic}
    env = gym.make(f"WorldEngine/{settings.pack}-v0", **chosen)
    results = defaultdict(list)
    for name in names:
        observation, _ = env.reset(options={"scenario": name})
        total, over = 0.0, False
        while not over:
            speed, yaw_rate = SPEED * observation["ego"][0], 0.5 * observation["ego"][4]
            action = poses_to_action(plan(observation), speed, yaw_rate).astype(np.float32)
            observation, reward, terminated, truncated, info = env.step(action)
            total, over = total + reward, terminated or truncated
        results[name.rsplit("_", 1)[0]].append((info["success"], total))
    return dict(results)


if __name__ == "__main__":
    by_family = drive(tyro.cli(Settings, description=__doc__))
    for family, rows in by_family.items():
        success, score = np.mean(rows, axis=0)
        print(f"{family:<22} {len(rows):>4} scenarios  success {success:.2f}  pdms {score:.3f}")
    success, score = np.mean([row for rows in by_family.values() for row in rows], axis=0)
    print(f"{'all':<22} {sum(map(len, by_family.values())):>4} scenarios  success {success:.2f}  pdms {score:.3f}")
