"""Roads whose lanes begin and end: an on-ramp with its acceleration lane, and a lane that is dropped."""

from __future__ import annotations

from dataclasses import replace

from worldengine_envs.city.exact import Draw, turn_of
from worldengine_envs.city.junctions import add_joint
from worldengine_envs.city.lines import Line, curvature_line, straight_line
from worldengine_envs.city.network import PI, Network, RoadProfile
from worldengine_envs.city.streets.parts import bend_limit
from worldengine_envs.city.streets.types import Street

LIMITS = (13.89, 16.67, 19.44)  # 50, 60, 70 km/h
GORE = 0.6  # between the kerbs of a ramp and of the road where they meet [m]


def merge(draw: Draw, lanes: int | None, parking: str | None) -> Street:
    """A ramp joins from the right with an acceleration lane that ends after 90 to 150 m."""
    profile = _profile(draw, lanes)
    wide = replace(profile, forward=profile.forward + 1)
    opening, taper = draw.uniform(22.0, 28.0), draw.uniform(40.0, 55.0)
    network = Network()
    spans = ((profile, draw.uniform(110.0, 140.0), opening), (wide, draw.uniform(90.0, 150.0), taper), (profile, 260.0, 0.0))
    before, beside, after = _roads(network, draw.uniform(-PI, PI), spans)
    w = profile.lane_width
    radius = draw.uniform(60.0, 110.0)
    slip = bend_limit(RoadProfile(1, 0, w, min(profile.speed_limit, draw.choice(LIMITS)), shoulder=0.5), radius)
    left = profile.right_kerb - GORE - slip.shoulder  # of the ramp's reference line at its end, its left edge
    shift = -profile.forward * w - left  # to the left, on the way from there to the acceleration lane
    ramp = network.add_road(_ramp_line(before.line, left, 2.0 * shift / opening, radius, draw), slip)
    junctions = (add_joint(network, before, beside, ramp), add_joint(network, beside, after))
    network.link()
    return Street("merge", network, (before, beside, after), junctions, 0, (ramp,), ramp)


def lane_drop(draw: Draw, lanes: int | None, parking: str | None) -> Street:
    """The outermost lane ends."""
    profile = _profile(draw, lanes)
    wide = replace(profile, forward=profile.forward + 1)
    network = Network()
    spans = ((wide, draw.uniform(150.0, 220.0), draw.uniform(40.0, 55.0)), (profile, 300.0, 0.0))
    before, after = _roads(network, draw.uniform(-PI, PI), spans)
    joint = add_joint(network, before, after)
    network.link()
    return Street("lane_drop", network, (before, after), (joint,), 0, ())


def _profile(draw: Draw, lanes: int | None) -> RoadProfile:
    count = lanes or draw.choice((1, 2, 2))
    shoulder = draw.uniform(0.6, 1.5)
    return RoadProfile(count, count, draw.choice((3.5, 3.5, 3.75)), draw.choice(LIMITS), shoulder=shoulder, pavement=3.0)


def _roads(network: Network, yaw: float, spans) -> list:
    """Adds straight roads one after the other; ``spans`` are (profile, length [m], gap after it [m])."""
    (sine, cosine), at, roads = turn_of(yaw), 0.0, []
    for profile, length, gap in spans:
        roads.append(network.add_road(straight_line(at * cosine, at * sine, yaw, length), profile))
        at += length + gap
    return roads


def _ramp_line(line: Line, left: float, angle: float, radius: float, draw: Draw) -> Line:
    """Returns a ramp's reference line, which ends ``left`` metres beside the end of a line, turned by ``angle`` towards it."""
    x, y = line.x[-1] - left * line.sine[-1], line.y[-1] + left * line.cosine[-1]
    turn, ease = draw.uniform(0.3, 0.7), 15.0
    arc = max(turn * radius - ease, 5.0)
    knots = [0.0, 5.0, 5.0 + ease, 5.0 + ease + arc, 5.0 + 2.0 * ease + arc]
    knots.append(knots[-1] + draw.uniform(30.0, 50.0))
    curve = [0.0, 0.0, 1.0 / radius, 1.0 / radius, 0.0, 0.0]
    return curvature_line(float(x), float(y), float(line.yaw[-1]) + angle + PI, knots, curve).reversed()
