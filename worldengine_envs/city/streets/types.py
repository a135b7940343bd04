"""What a layout of streets hands over: the network, the corridor that the ego drives along, and paths on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldengine_envs.city.lines import Line, join
from worldengine_envs.city.network import LEFT, RIGHT, STRAIGHT, Junction, Network, Road
from worldengine_envs.city.placing import speed_limits

SPEED_LIMITS = (8.33, 11.11, 13.89, 16.67)  # 30, 40, 50, 60 km/h
LATERAL_ACCELERATION = 2.2  # that drivers accept in bends [m/s2]
MOST_LANES = 24  # of a path


@dataclass(frozen=True, eq=False)
class Street:
    """A network and the part of it that the ego's story is about.

    The corridor's roads follow each other; ``lane_path(network, corridor[0].forward[lane])`` runs along them, and row 2 i of
    such a path is the lane on corridor road i, row 2 i + 1 the connector after it (up to the first roundabout, which takes more
    rows). ``junctions[main]`` is what the ego comes to first. Per kind:

    - straight, curved: 4-way junctions with lights far ahead; crossing: with lights at ``junctions[main]``.
    - four_way, t_junction: as crossing, but side roads give way where ``junction.kind`` is "priority"; a t_junction has a side
      road on one side only (``junction.towards(street.road, "left")`` is its arm, or None).
    - roundabout: ``junctions[main]`` with its ``ring``; ways through it are in ``network.through[lane]`` by movement.
    - merge: ``corridor[main]`` ends where ``ramp`` joins beside it; ``corridor[main + 1]`` has one lane more, the acceleration
      lane (``forward[-1]``, fed by the ramp), which ends after it and merges into the lane beside it.
    - lane_drop: the outermost lane of ``corridor[main]`` ends and merges into the one beside it; none starts again.
    - narrow: one narrow lane each way, 30 km/h, cars parked on both sides.
    - blocks: three or four junctions of mixed kinds, roads of about 100 m.

    Who gives way: of two connectors that conflict, the one with the higher ``network.rank`` (equal ranks: lights separate them, or
    they come from opposite sides); ``arm.yields`` marks side roads and the arms of roundabouts. Light groups of junctions without
    lights have ``network.signals[group]`` False; connectors of joined roads and rings have group -1 (nobody waits at a line).
    """

    kind: str
    network: Network
    corridor: tuple[Road, ...]  # in the ego's direction
    junctions: tuple[Junction, ...]  # junction i joins corridor roads i and i + 1
    main: int  # corridor road on which the ego starts
    cross_roads: tuple[Road, ...]  # roads off the corridor
    ramp: Road | None = None  # one-way, joins from the right

    @property
    def road(self) -> Road:
        """The main road: that of the corridor on which the ego starts."""
        return self.corridor[self.main]


@dataclass(frozen=True, eq=False)
class LanePath:
    """Lanes one after another, and the line through them."""

    lanes: tuple[int, ...]
    line: Line
    starts: tuple[float, ...]  # arclength where each lane begins [m]


def lane_path(network: Network, lane: int, movements: tuple[str, ...] = ()) -> LanePath:
    """Follows lanes from one lane on, turning as told at each junction and going straight (else right, else left) after that.

    A roundabout is one junction: straight, left and right name its exits.
    """
    lanes, turns = [lane], list(movements)
    while len(lanes) < MOST_LANES:
        if network.movement[lanes[-1]]:
            lanes.append(network.successors[lanes[-1]][0])
            continue
        ways = network.through.get(lanes[-1]) or {network.movement[row]: (row,) for row in network.successors[lanes[-1]]}
        wish = turns.pop(0) if turns else None
        rows = next((ways[m] for m in (wish, STRAIGHT, RIGHT, LEFT) if m in ways), None)
        if rows is None or rows[0] in lanes:
            break
        lanes.extend(rows)
    lines = [network.lanes[row] for row in lanes]
    starts = np.concatenate(([0.0], np.cumsum([line.length for line in lines])))[:-1]
    return LanePath(tuple(lanes), join(lines), tuple(float(s) for s in starts))


def speed_table(line: Line, length: int = 1024) -> np.ndarray:
    """Returns (length,) speed [m/s] by metre of arclength that bends allow, with braking at 1.5 m/s2 before them."""
    limit = np.empty(length)
    speed_limits(line.table, LATERAL_ACCELERATION, 1.5, limit)
    return limit
