"""Streets in town: straight and winding roads, crossings with and without lights, T-junctions, roundabouts, blocks."""

from __future__ import annotations

from dataclasses import replace

from worldengine_envs.city.exact import Draw
from worldengine_envs.city.network import LIGHTS, PI, PRIORITY, ROUNDABOUT, RoadProfile
from worldengine_envs.city.streets.parts import (
    BOTH,
    ON_LEFT,
    ON_RIGHT,
    Node,
    Plan,
    bend_limit,
    bends,
    draw_profiles,
    lay_out,
    with_parking,
)
from worldengine_envs.city.streets.types import SPEED_LIMITS, Street


def straight(draw: Draw, lanes: int | None, parking: str | None) -> Street:
    """A long straight road with crossings at both ends."""
    profile, cross = draw_profiles(draw, lanes, parking)
    yaw = draw.uniform(-PI, PI)
    lengths = (draw.uniform(60, 100), draw.uniform(250, 320), draw.uniform(150, 190))
    plan = Plan("straight", lengths, (Node(), Node()), far=(110.0, 170.0), block=True)
    return lay_out(plan, yaw, profile, cross, draw)


def curved(draw: Draw, lanes: int | None, parking: str | None) -> Street:
    """A long winding road; nobody parks there unless asked to."""
    profile, cross = draw_profiles(draw, lanes, parking, parked=False)
    yaw = draw.uniform(-PI, PI)
    lengths = (draw.uniform(60, 100), draw.uniform(250, 320), draw.uniform(150, 190))
    knots, curvature, radius = bends(lengths[1], draw)
    plan = Plan("curved", lengths, (Node(), Node()), far=(60.0, 80.0))
    return lay_out(plan, yaw, bend_limit(profile, radius), cross, draw, (knots, curvature))


def crossing(draw: Draw, lanes: int | None, parking: str | None) -> Street:
    """Crossings with lights."""
    profile, cross = draw_profiles(draw, lanes, parking)
    yaw = draw.uniform(-PI, PI)
    lengths = (draw.uniform(50, 80), draw.uniform(180, 230), draw.uniform(180, 220), draw.uniform(60, 90))
    plan = Plan("crossing", lengths, (Node(),) * 3, far=(110.0, 170.0), block=True)
    return lay_out(plan, yaw, profile, cross, draw)


def four_way(draw: Draw, lanes: int | None, parking: str | None) -> Street:
    """A crossing without lights: the side streets give way."""
    profile, cross = draw_profiles(draw, lanes or draw.choice((1, 1, 2)), parking)
    return _junction_ahead("four_way", Node(PRIORITY, BOTH, _skew(draw)), profile, cross, draw)


def t_junction(draw: Draw, lanes: int | None, parking: str | None) -> Street:
    """A side street on one side, with lights or giving way."""
    profile, cross = draw_profiles(draw, lanes, parking)
    node = Node(draw.choice((PRIORITY, PRIORITY, LIGHTS)), draw.choice((ON_LEFT, ON_RIGHT)), _skew(draw))
    return _junction_ahead("t_junction", node, profile, cross, draw)


def roundabout(draw: Draw, lanes: int | None, parking: str | None) -> Street:
    """A roundabout of one lane with three or four arms."""
    profile, cross = _one_lane(draw, parking)
    return _junction_ahead("roundabout", Node(ROUNDABOUT, draw.choice((BOTH, BOTH, ON_LEFT, ON_RIGHT))), profile, cross, draw)


def narrow(draw: Draw, lanes: int | None, parking: str | None) -> Street:
    """A narrow street at 30 km/h with cars parked on both sides."""
    width, shoulder = draw.uniform(2.75, 3.1), draw.uniform(0.2, 0.4)
    strips = draw.uniform(2.1, 2.4), draw.uniform(2.1, 2.4)
    profile = RoadProfile(1, 1, width, SPEED_LIMITS[0], *strips, shoulder, draw.uniform(2.0, 3.0))
    cross = replace(profile, lane_width=3.5, parking_right=0.0, parking_left=0.0, shoulder=0.6)
    yaw = draw.uniform(-PI, PI)
    lengths = (draw.uniform(50, 80), draw.uniform(170, 230), draw.uniform(110, 150))
    nodes = tuple(Node(PRIORITY, draw.choice((BOTH, ON_LEFT, ON_RIGHT))) for _ in range(2))
    return lay_out(Plan("narrow", lengths, nodes), yaw, with_parking(profile, parking, draw), cross, draw)


def blocks(draw: Draw, lanes: int | None, parking: str | None) -> Street:
    """Several short blocks with junctions of different kinds."""
    nodes = [_any_node(draw) for _ in range(draw.integer(3, 4))]
    if draw.chance(0.4) and (lanes or 1) == 1:
        nodes[draw.integer(1, len(nodes) - 1)] = Node(ROUNDABOUT, BOTH)
        profile, cross = _one_lane(draw, parking)
    else:
        profile, cross = draw_profiles(draw, lanes or draw.choice((1, 2)), parking)
    yaw = draw.uniform(-PI, PI)
    lengths = (draw.uniform(50, 80), *(draw.uniform(80, 120) for _ in nodes[1:]), draw.uniform(110, 160))
    return lay_out(Plan("blocks", lengths, tuple(nodes)), yaw, profile, cross, draw)


def _any_node(draw: Draw) -> Node:
    return Node(draw.choice((LIGHTS, PRIORITY)), draw.choice((BOTH, BOTH, ON_LEFT, ON_RIGHT)), _skew(draw))


def _skew(draw: Draw) -> float:
    return draw.uniform(-0.25, 0.25) if draw.chance(0.5) else 0.0


def _one_lane(draw: Draw, parking: str | None) -> tuple[RoadProfile, RoadProfile]:
    """Returns cross sections for roads that a roundabout of one lane joins."""
    profile, cross = draw_profiles(draw, 1, parking)
    return profile, replace(cross, forward=1, backward=1, parking_right=0.0, parking_left=0.0)


def _junction_ahead(kind: str, node: Node, profile: RoadProfile, cross: RoadProfile, draw: Draw) -> Street:
    """Builds a road to a junction, a short piece with a junction before it, and a road after it."""
    yaw = draw.uniform(-PI, PI)
    lengths = (draw.uniform(50, 80), draw.uniform(150, 200), draw.uniform(170, 210))
    return lay_out(Plan(kind, lengths, (_any_node(draw), node)), yaw, profile, cross, draw)
