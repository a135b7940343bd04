"""Layouts of streets by kind: functions that build a corridor to drive along, its junctions and what lies around."""

from __future__ import annotations

from worldengine_envs.city.exact import Draw
from worldengine_envs.city.streets import merging, urban
from worldengine_envs.city.streets.types import SPEED_LIMITS, LanePath, Street, lane_path, speed_table

__all__ = ["KINDS", "SPEED_LIMITS", "LanePath", "Street", "lane_path", "make_street", "speed_table"]

_BUILDERS = {
    "straight": urban.straight,
    "curved": urban.curved,
    "crossing": urban.crossing,
    "four_way": urban.four_way,
    "t_junction": urban.t_junction,
    "roundabout": urban.roundabout,
    "merge": merging.merge,
    "lane_drop": merging.lane_drop,
    "narrow": urban.narrow,
    "blocks": urban.blocks,
}
KINDS = tuple(_BUILDERS)


def make_street(kind: str, draw: Draw, lanes: int | None = None, parking: str | None = None) -> Street:
    """Returns a street.

    Args:
        kind: One of ``KINDS``.
        draw: Random numbers.
        lanes: Lanes in the ego's direction on the main road, drawn where None. Roundabouts and narrow streets have one, blocks
            one or two; merge and lane_drop count those that go on, without the one that ends.
        parking: On the main road: "none", "parallel" or "perpendicular" (bays of 5 m on the right, and at times on the left); drawn
            where None. Merge and lane_drop have none.
    """
    return _BUILDERS[kind](draw, lanes, parking)
