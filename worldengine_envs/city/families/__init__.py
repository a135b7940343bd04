"""Families of driving by name: functions (draw, difficulty in [0, 1]) -> Scene that raise ``Unfit`` where a draw fails."""

from worldengine_envs.city.families import (
    common,
    crossing_traffic,
    cyclists,
    manoeuvres,
    narrowing,
    pedestrians,
    vehicles_ahead,
    vehicles_backing,
)

COMMON = {
    "lane_follow": common.lane_follow,
    "car_following": common.car_following,
    "turn": common.turn,
    "stop_at_light": common.stop_at_light,
    "roundabout": manoeuvres.roundabout,
    "lane_change": manoeuvres.lane_change,
}
RARE = {
    "cut_in": vehicles_ahead.cut_in,
    "hard_brake_lead": vehicles_ahead.hard_brake_lead,
    "jaywalker": pedestrians.jaywalker,
    "occluded_pedestrian": pedestrians.occluded_pedestrian,
    "child_between_cars": pedestrians.child_between_cars,
    "cyclist_swerve": cyclists.cyclist_swerve,
    "cyclist_at_turn": cyclists.cyclist_at_turn,
    "backing_out": vehicles_backing.backing_out,
    "stopped_after_curve": vehicles_ahead.stopped_after_curve,
    "unprotected_left": crossing_traffic.unprotected_left,
    "red_light_runner": crossing_traffic.red_light_runner,
    "work_zone": narrowing.work_zone,
    "merge_squeeze": narrowing.merge_squeeze,
    "oncoming_overtaker": narrowing.oncoming_overtaker,
}
FAMILIES = COMMON | RARE
