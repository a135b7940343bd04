"""Families of driving by name: functions (draw, difficulty in [0, 1]) -> Scene that raise ``Unfit`` where a draw fails."""

from worldengine_envs.city.families import common, pedestrians, vehicles_ahead

COMMON = {
    "lane_follow": common.lane_follow,
    "car_following": common.car_following,
    "turn": common.turn,
    "stop_at_light": common.stop_at_light,
}
RARE = {
    "cut_in": vehicles_ahead.cut_in,
    "hard_brake_lead": vehicles_ahead.hard_brake_lead,
    "jaywalker": pedestrians.jaywalker,
}
FAMILIES = COMMON | RARE
