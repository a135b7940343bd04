"""A picture of a world from above: the map, lights, the route, everyone's box, and the score so far."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from worldengine_envs.scenario.types import STEP_S, AgentType, LightState, MapLayer, Scenario

SIZE_PX, VIEW_M, AHEAD_M = 400, 80.0, 15.0  # the picture shows this square around a point ahead of the ego, which looks up
SCALE = SIZE_PX / VIEW_M

BACKGROUND, TEXT = (236, 239, 233), (30, 30, 30)
LAYERS = {  # in the order of drawing
    MapLayer.DRIVABLE_AREA: (200, 203, 207),
    MapLayer.CARPARK_AREA: (208, 205, 198),
    MapLayer.ROADBLOCK: (200, 203, 207),
    MapLayer.INTERSECTION: (192, 195, 200),
    MapLayer.LANE: None,
    MapLayer.CROSSWALK: (226, 228, 231),
}
LANE_LINE, ROUTE = (240, 241, 243), (112, 176, 138)
AGENTS = {
    AgentType.VEHICLE: (66, 108, 168),
    AgentType.PEDESTRIAN: (214, 112, 43),
    AgentType.BICYCLE: (137, 84, 160),
}
STATIC, EGO, FAILED = (120, 120, 120), (36, 140, 86), (200, 40, 40)
LIGHTS = {LightState.GREEN: (40, 160, 70), LightState.YELLOW: (230, 180, 30), LightState.RED: (210, 40, 40)}


@lru_cache(maxsize=1)
def _font():
    return ImageFont.load_default(size=13)


class _Camera:
    """Turns points of the world into pixels: the ego's rear axle in the lower middle, its heading up."""

    def __init__(self, x: float, y: float, yaw: float):
        cos, sin = np.cos(yaw), np.sin(yaw)
        self.center = np.array([x + AHEAD_M * cos, y + AHEAD_M * sin])
        self.turn = SCALE * np.array([[sin, -cos], [-cos, -sin]])  # right and down on the picture

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Returns pixels (n, 2) of points (n, 2) [m]."""
        return (points - self.center) @ self.turn.T + SIZE_PX / 2

    def sees(self, points: np.ndarray) -> bool:
        """Whether some of these points (n, 2) may be in the picture."""
        return bool((points.min(0) < self.center + VIEW_M).all() and (points.max(0) > self.center - VIEW_M).all())


def draw_world(batch, w: int) -> np.ndarray:
    """Returns (400, 400, 3) uint8: world ``w`` of a ``WorldBatch`` from above, 80 m wide, the ego looking up."""
    scenario, worlds, score = batch.scenario_of(w), batch.worlds, batch.score
    image = Image.new("RGB", (SIZE_PX, SIZE_PX), BACKGROUND)
    draw = ImageDraw.Draw(image)
    step = int(worlds.step[w])
    camera = _Camera(*worlds.ego[w, :3])
    _draw_map(draw, camera, scenario)
    _draw_lights(draw, camera, scenario, scenario.start_step + step)
    for a in range(len(scenario.tracks) - 1, -1, -1):
        if worlds.present[w, a]:
            failed = a == 0 and (score.nc[w] == 0.0 or score.dac[w] == 0.0)
            color = FAILED if failed else EGO if a == 0 else AGENTS.get(AgentType(int(scenario.tracks.types[a])), STATIC)
            _draw_box(draw, camera, worlds.agents[w, a], worlds.agent_size[w, a], color)
    text = f"{scenario.id}  {step * STEP_S:.1f} s  {worlds.ego[w, 3]:.1f} m/s"
    terms = "  ".join(f"{name} {getattr(score, name)[w]:.2f}" for name in ("pdms", "nc", "dac", "ttc", "ep"))
    draw.text((6, 4), text, TEXT, _font())
    draw.text((6, SIZE_PX - 20), terms, TEXT, _font())
    return np.asarray(image)


def _draw_map(draw: ImageDraw.ImageDraw, camera: _Camera, scenario: Scenario) -> None:
    vector_map = scenario.vector_map
    for layer, color in LAYERS.items():
        for row in np.flatnonzero(vector_map.polygon_layer == layer):
            ring = vector_map.polygon(row)
            if camera.sees(ring):
                draw.polygon([tuple(p) for p in camera(ring)], fill=color, outline=LANE_LINE if color is None else color)
    route = scenario.route.centerline[:, :2]
    near = np.abs(route - camera.center).max(1) < VIEW_M
    if near.sum() > 1:
        draw.line([tuple(p) for p in camera(route[near])], fill=ROUTE, width=3)


def _draw_lights(draw: ImageDraw.ImageDraw, camera: _Camera, scenario: Scenario, step: int) -> None:
    lights = scenario.lights
    for lane, states in zip(lights.lanes, lights.state, strict=True):
        color = LIGHTS.get(LightState(int(states[min(step, len(states) - 1)])))
        if color is not None:
            (x, y), *_ = camera(scenario.vector_map.lane_centerline(int(lane))[:1])
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=color)


def _draw_box(draw: ImageDraw.ImageDraw, camera: _Camera, agent: np.ndarray, size: np.ndarray, color) -> None:
    """Draws a box (x, y, yaw, vx, vy, speed, cos, sin) with a mark at its front."""
    x, y, cos, sin = agent[0], agent[1], agent[6], agent[7]
    ahead, left = np.array([cos, sin]) * size[0] / 2, np.array([-sin, cos]) * size[1] / 2
    center = np.array([x, y])
    corners = np.stack([center + ahead + left, center - ahead + left, center - ahead - left, center + ahead - left])
    if camera.sees(corners):
        draw.polygon([tuple(p) for p in camera(corners)], fill=color, outline=(255, 255, 255))
        nose = camera(np.stack([center + ahead * 0.9 + left * 0.7, center + ahead * 0.9 - left * 0.7]))
        draw.line([tuple(p) for p in nose], fill=(255, 255, 255), width=1)
