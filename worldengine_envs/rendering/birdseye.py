"""A picture of a world from above: the map, lights, the route, the plan, everyone's box and trail, and the score so far."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from worldengine_envs.scenario.types import STEP_S, AgentType, LightState, MapLayer, Scenario

SIZE_PX, VIEW_M, AHEAD_M = 480, 80.0, 15.0  # the picture shows this square around a point ahead of the ego, which looks up
FINE = 2  # drawn so many times larger, then scaled down: smooth edges
SCALE = FINE * SIZE_PX / VIEW_M  # [px/m]
PANEL_PX = 34
NARROW_M = 1.0  # what is narrower has no rim

BACKGROUND, TEXT, PANEL = (233, 237, 228), (30, 30, 30), (250, 250, 248)
LAYERS = {  # in the order of drawing
    MapLayer.DRIVABLE_AREA: (198, 201, 206),
    MapLayer.CARPARK_AREA: (208, 205, 198),
    MapLayer.ROADBLOCK: (198, 201, 206),
    MapLayer.INTERSECTION: (192, 195, 200),
}
LANE_LINE, STRIPE, ROUTE, PLAN = (240, 241, 243), (238, 239, 241), (126, 188, 150), (20, 92, 58)
STRIPE_M = 0.5  # of a crosswalk, and the gap to the next [m]
AGENTS = {
    AgentType.VEHICLE: (66, 108, 168),
    AgentType.PEDESTRIAN: (222, 104, 30),
    AgentType.BICYCLE: (137, 84, 160),
    AgentType.TRAFFIC_CONE: (240, 140, 20),
    AgentType.BARRIER: (170, 60, 50),
}
STATIC, EGO, FAILED = (110, 110, 110), (36, 140, 86), (200, 40, 40)
LIGHTS = {LightState.GREEN: (40, 160, 70), LightState.YELLOW: (230, 180, 30), LightState.RED: (210, 40, 40)}
GOOD, HALF, BAD = (88, 160, 110), (224, 170, 60), (205, 70, 60)


@dataclass(frozen=True)
class Snapshot:
    """One moment of a world, as it is drawn. Agents are in the order of the scenario's tracks; row 0 is the ego."""

    scenario: Scenario
    step: int  # since the start, 0.1 s each
    ego: np.ndarray  # (11,) state of the ego's rear axle: x, y [m], yaw [rad], speed [m/s], ...
    agents: np.ndarray  # (agents, 3 or more) x, y [m], yaw [rad] of box centres, ...
    agent_size: np.ndarray  # (agents, 2) length, width [m]
    present: np.ndarray  # (agents,) bool
    terms: dict[str, float]  # of the score so far, by name; "nc" and "dac" tell a failure
    infraction: str  # what went wrong, "" = nothing
    plan: np.ndarray | None  # (poses, 3) x, y [m], yaw [rad] that the ego follows, None = it has no plan
    trails: tuple[np.ndarray, ...]  # for each agent (points, 3) step, x, y [m] of where it was lately


@lru_cache(maxsize=4)
def _font(size: int):
    return ImageFont.load_default(size=size * FINE)


class _Camera:
    """Turns points of the world into pixels: the ego's rear axle in the lower middle, its heading up."""

    def __init__(self, x: float, y: float, yaw: float):
        cos, sin = np.cos(yaw), np.sin(yaw)
        self.center = np.array([x + AHEAD_M * cos, y + AHEAD_M * sin])
        self.turn = SCALE * np.array([[sin, -cos], [-cos, -sin]])  # right and down on the picture

    def __call__(self, points: np.ndarray) -> list[tuple[float, float]]:
        """Returns the pixels of points (n, 2) [m]."""
        return [tuple(p) for p in ((points - self.center) @ self.turn.T + FINE * SIZE_PX / 2).tolist()]

    def sees(self, points: np.ndarray) -> bool:
        """Whether some of these points (n, 2) may be in the picture."""
        return bool((points.min(0) < self.center + VIEW_M).all() and (points.max(0) > self.center - VIEW_M).all())


def draw(snapshot: Snapshot) -> np.ndarray:
    """Returns (480, 480, 3) uint8: a world from above, 80 m wide, the ego looking up."""
    image = Image.new("RGB", (FINE * SIZE_PX, FINE * SIZE_PX), BACKGROUND)
    canvas, camera = ImageDraw.Draw(image), _Camera(*snapshot.ego[:3])
    _draw_map(canvas, camera, snapshot.scenario)
    _draw_lights(canvas, camera, snapshot.scenario, snapshot.scenario.start_step + snapshot.step)
    _draw_trails(canvas, camera, snapshot)
    for a in range(len(snapshot.present) - 1, -1, -1):
        if snapshot.present[a]:
            _draw_box(canvas, camera, snapshot.agents[a], snapshot.agent_size[a], _color(snapshot, a))
    if snapshot.plan is not None:
        for x, y in camera(snapshot.plan[:, :2]):
            canvas.ellipse((x - 3 * FINE, y - 3 * FINE, x + 3 * FINE, y + 3 * FINE), fill=PLAN)
    _draw_panel(canvas, snapshot)
    return np.asarray(image.resize((SIZE_PX, SIZE_PX), Image.Resampling.BOX))


def _color(snapshot: Snapshot, a: int) -> tuple[int, int, int]:
    if a == 0:
        failed = snapshot.terms["nc"] == 0.0 or snapshot.terms["dac"] == 0.0
        return FAILED if failed else EGO
    return AGENTS.get(AgentType(int(snapshot.scenario.tracks.types[a])), STATIC)


def _draw_map(canvas: ImageDraw.ImageDraw, camera: _Camera, scenario: Scenario) -> None:
    vector_map = scenario.vector_map

    def rings(*layers: MapLayer):
        for row in np.flatnonzero(np.isin(vector_map.polygon_layer, layers)):
            ring = vector_map.polygon(row)
            if camera.sees(ring):
                yield ring

    for layer, color in LAYERS.items():
        for ring in rings(layer):
            canvas.polygon(camera(ring), fill=color)
    for ring in rings(MapLayer.LANE):
        canvas.polygon(camera(ring), outline=LANE_LINE, width=FINE)
    for ring in rings(MapLayer.CROSSWALK):
        _draw_crosswalk(canvas, camera, ring)
    route = scenario.route.centerline[:, :2]
    near = np.abs(route - camera.center).max(1) < VIEW_M
    if near.sum() > 1:
        canvas.line(camera(route[near]), fill=ROUTE, width=3 * FINE)


def _draw_crosswalk(canvas: ImageDraw.ImageDraw, camera: _Camera, ring: np.ndarray) -> None:
    """Stripes across the longer sides of a four-sided crossing; others are filled."""
    if len(ring) != 4:
        canvas.polygon(camera(ring), fill=STRIPE)
        return
    a, b, c, d = ring
    if np.hypot(*(b - a)) < np.hypot(*(c - b)):
        a, b, c, d = b, c, d, a  # now a-b and d-c are the long sides
    length = np.hypot(*(b - a))
    for start in np.arange(0.0, length - STRIPE_M, 2 * STRIPE_M):
        u, v = start / length, (start + STRIPE_M) / length
        canvas.polygon(camera(np.stack([a + u * (b - a), a + v * (b - a), d + v * (c - d), d + u * (c - d)])), fill=STRIPE)


def _draw_lights(canvas: ImageDraw.ImageDraw, camera: _Camera, scenario: Scenario, step: int) -> None:
    lights, r = scenario.lights, 4 * FINE
    for lane, states in zip(lights.lanes, lights.state, strict=True):
        color = LIGHTS.get(LightState(int(states[min(step, len(states) - 1)])))
        if color is not None:
            (x, y), *_ = camera(scenario.vector_map.lane_centerline(int(lane))[:1])
            canvas.ellipse((x - r, y - r, x + r, y + r), fill=color)


def _draw_trails(canvas: ImageDraw.ImageDraw, camera: _Camera, snapshot: Snapshot) -> None:
    for a, trail in enumerate(snapshot.trails):
        points = trail[:, 1:]
        if len(points) > 1 and camera.sees(points):
            pale = tuple(int(0.5 * c + 0.5 * w) for c, w in zip(_color(snapshot, a), LAYERS[MapLayer.ROADBLOCK], strict=True))
            canvas.line(camera(points), fill=pale, width=2 * FINE, joint="curve")


def _draw_box(canvas: ImageDraw.ImageDraw, camera: _Camera, agent: np.ndarray, size: np.ndarray, color) -> None:
    """Draws a box (x, y, yaw, ...), with a mark at its front where it is wide enough."""
    center, cos, sin = agent[:2], np.cos(agent[2]), np.sin(agent[2])
    ahead, left = np.array([cos, sin]) * size[0] / 2, np.array([-sin, cos]) * size[1] / 2
    corners = np.stack([center + ahead + left, center - ahead + left, center - ahead - left, center + ahead - left])
    if not camera.sees(corners):
        return
    if size[1] < NARROW_M:  # a rim would hide people
        canvas.polygon(camera(corners), fill=color)
    else:
        canvas.polygon(camera(corners), fill=color, outline=(255, 255, 255), width=FINE)
        nose = np.stack([center + ahead * 0.8 + left * 0.7, center + ahead * 0.8 - left * 0.7])
        canvas.line(camera(nose), fill=(255, 255, 255), width=FINE)


def _draw_panel(canvas: ImageDraw.ImageDraw, snapshot: Snapshot) -> None:
    """Writes what is seen at the top, and the score with its terms at the bottom."""
    edge, f = FINE * SIZE_PX, FINE
    title = f"{snapshot.scenario.id}   {snapshot.step * STEP_S:.1f} s   {snapshot.ego[3]:.1f} m/s"
    canvas.rectangle((0, 0, edge, 20 * f), fill=PANEL)
    canvas.text((6 * f, 3 * f), title, TEXT, _font(12))
    if snapshot.infraction:
        width = canvas.textlength(snapshot.infraction, _font(12))
        canvas.text((edge - width - 6 * f, 3 * f), snapshot.infraction, FAILED, _font(12))
    top, column = edge - PANEL_PX * f, edge / max(len(snapshot.terms), 1)
    canvas.rectangle((0, top, edge, edge), fill=PANEL)
    for i, (name, value) in enumerate(snapshot.terms.items()):
        x = i * column
        canvas.text((x + 6 * f, top + 3 * f), f"{name} {value:.2f}", TEXT, _font(11))
        bar = (x + 6 * f, top + 21 * f, x + column - 6 * f, top + 27 * f)
        canvas.rectangle(bar, fill=(222, 222, 218))
        color = GOOD if value > 0.75 else HALF if value > 0.25 else BAD
        canvas.rectangle((bar[0], bar[1], bar[0] + max(value, 0.04) * (bar[2] - bar[0]), bar[3]), fill=color)
