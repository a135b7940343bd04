"""What kind of collision a contact is and whose fault (rule 6 of the PDM Score)."""

from __future__ import annotations

import math
from enum import IntEnum

from worldengine_envs.simulation.geometry import boxes_overlap
from worldengine_envs.simulation.kernels import kernel

STOPPED_SPEED = 0.05  # [m/s]; at or below it the ego, or an agent, stands
AHEAD, BEHIND = math.radians(30.0), math.radians(150.0)
UNDEFINED_BEARING = -1.0


class CollisionType(IntEnum):
    """Kinds of contact, from the ego's point of view."""

    STOPPED_EGO = 0  # never at fault
    STOPPED_TRACK = 1  # at fault
    ACTIVE_FRONT = 2  # at fault
    ACTIVE_REAR = 3  # never at fault
    ACTIVE_LATERAL = 4  # at fault in several lanes or off the road


_STOPPED_EGO, _STOPPED_TRACK, _FRONT, _REAR, _LATERAL = (int(t) for t in CollisionType)


@kernel
def bearing(x, y, cos, sin, to_x, to_y):
    """Angle [rad] between a heading and the direction to a point; UNDEFINED_BEARING where there is none.

    The reference takes the arccos of a product of unit vectors that it does not clamp: where rounding lifts the product above 1
    (an exactly aligned point), and at distance 0, the point is neither ahead nor behind.
    """
    dx, dy = to_x - x, to_y - y
    distance = math.sqrt(dx * dx + dy * dy)
    if distance == 0.0:
        return UNDEFINED_BEARING
    cosine = cos * (dx / distance) + sin * (dy / distance)
    return math.acos(cosine) if -1.0 <= cosine <= 1.0 else UNDEFINED_BEARING


@kernel
def is_ahead(angle):
    """Whether a ``bearing`` is less than 30 degrees."""
    return 0.0 <= angle < AHEAD


@kernel
def is_behind(angle):
    """Whether a ``bearing`` is more than 150 degrees."""
    return angle > BEHIND


@kernel
def classify_collision(
    rear_x, rear_y, x, y, cos, sin, half_length, half_width, speed, bx, by, bcos, bsin, bhalf_length, bhalf_width, bspeed, is_agent
):
    """Returns the CollisionType of a contact.

    Args:
        rear_x, rear_y: Rear axle of the ego [m], from which the bearing is taken.
        x, y, cos, sin, half_length, half_width: Box of the ego [m].
        speed: Of the ego [m/s].
        bx, by, bcos, bsin, bhalf_length, bhalf_width: Box of the other [m].
        bspeed: Of the other [m/s].
        is_agent: Whether the other is a vehicle, pedestrian or bicycle.
    """
    if speed <= STOPPED_SPEED:
        return _STOPPED_EGO
    if not is_agent or bspeed <= STOPPED_SPEED:
        return _STOPPED_TRACK
    if is_behind(bearing(rear_x, rear_y, cos, sin, bx, by)):
        return _REAR
    front_x, front_y = x + half_length * cos, y + half_length * sin
    if boxes_overlap(front_x, front_y, cos, sin, 0.0, half_width, bx, by, bcos, bsin, bhalf_length, bhalf_width):
        return _FRONT
    return _LATERAL


@kernel
def is_at_fault(collision_type, in_multiple_lanes_or_off_road):
    """Whether the ego is to blame for a contact of a CollisionType."""
    if collision_type == _LATERAL:
        return in_multiple_lanes_or_off_road
    return collision_type == _STOPPED_TRACK or collision_type == _FRONT
