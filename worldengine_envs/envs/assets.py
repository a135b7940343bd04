"""Who plays whom: which Gaussians stand for a scenario's scenery, its agents and its traffic lights."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from worldengine_envs.envs.scenes import appearance_of, scene_key, scene_of
from worldengine_envs.rendering.frames import Renderer, RenderSettings
from worldengine_envs.rendering.gaussians import Gaussians
from worldengine_envs.rendering.scene import BACKGROUND, SKY, GaussianScene
from worldengine_envs.rendering.witnesses import UNKNOWN
from worldengine_envs.scenario.types import AgentType, LightState, Scenario
from worldengine_envs.simulation.threads import num_threads

if TYPE_CHECKING:
    from worldengine_envs.rendering.confidence import Judge

MAX_BYTES = 2**31  # of scenery that a renderer keeps; beyond, what was not on stage for longest goes
NEAREST_M = 0.3  # what is nearer to a camera is not drawn: the projection of Gaussians so near spreads them over the picture
LEAST_M = 0.01  # sides of boxes; a track that is never valid has no size


@dataclass(frozen=True, slots=True)
class Cast:
    """Parts for the tracks and lights of one scenario in one appearance."""

    scenario: Scenario
    part: np.ndarray  # (agents,) int32
    per_size: np.ndarray  # (agents, 3) float64 1 / size of the box that the part fills [1/m]
    height: np.ndarray  # (agents,) float64 [m]
    borrowed: np.ndarray  # (agents,) bool: it has no asset of its own
    witnessed: np.ndarray  # (agents,) int32 row of the witnesses' actors, UNKNOWN if it is none of them
    light: np.ndarray  # (4,) int32 by LightState
    light_z: float  # height of a light's origin [m]
    light_pose: np.ndarray  # (lights, 3) float64 x, y [m], yaw [rad]; NaN = none of its own


@dataclass(slots=True, eq=False)
class Scenery:
    """A scene in one appearance, as parts of a renderer."""

    keep: object  # a pack in memory, so that no other one gets its identity
    appearance: str
    kind: str
    background: int
    sky: int  # -1 = none
    actors: dict[str, tuple[int, tuple[float, float, float]]]  # part and box [m] by the track's token
    parts: list[int]
    count: int  # Gaussians
    nbytes: int
    judge: Judge | None  # of a reconstruction that keeps witnesses: how far its frames can be trusted
    users: int = 0  # worlds that it is on stage in
    casts: dict[tuple[str, float], Cast] = field(default_factory=dict)  # by scenario and detail of the models that play in it


class Assets:
    """A renderer and the parts that it was given, shared by all environments of a process that draw alike.

    Scenery is made when a scenario first needs it and kept while there is room; models of actors stay.

    Args:
        renderer: Who draws.
        max_bytes: Of scenery that is kept though nobody uses it.
    """

    def __init__(self, renderer: Renderer, max_bytes: int = MAX_BYTES):
        self.renderer, self.max_bytes = renderer, max_bytes
        self.lock = threading.RLock()  # a renderer draws for one thread at a time
        self._scenery: OrderedDict[tuple, Scenery] = OrderedDict()
        self._appearance: dict[tuple, str] = {}  # what was asked for -> what the scene has
        self._models: dict[tuple[int, float, str], tuple[int, tuple[float, float, float]]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all scenery."""
        return sum(scenery.nbytes for scenery in self._scenery.values())

    def take(self, pack, scenario: Scenario, detail: float = 1.0, appearance: str | None = None) -> tuple[Scenery, Cast]:
        """Returns scenery and cast of a scenario; they stay until as many calls of ``leave``.

        Args:
            pack: The pack that the scenario is from.
            scenario: What to show.
            detail: Density of Gaussians where the scene is sampled, 1 = for pictures of 320x180.
            appearance: One of the scene's; None = by the scenario's time of day, or the scene's first.

        Raises:
            DataError: The scenario has no scene, or the scene has no such appearance.
        """
        with self.lock:
            scenery = self._find(pack, scenario, detail, appearance)
            cast = scenery.casts.get((scenario.id, detail))
            if cast is None or cast.scenario is not scenario:
                cast = scenery.casts[scenario.id, detail] = self._cast(scenario, scenery, detail)
            scenery.users += 1
            self._make_room()
            return scenery, cast

    def prepare(self, pack, scenarios: Sequence[Scenario], detail: float = 1.0) -> None:
        """Makes the scenes of scenarios that are about to be taken, several at once on as many threads as worlds have.

        Raises:
            DataError: One has no scene.
        """
        with self.lock:
            known = {scene for scene, _ in self._scenery}
        missing = {scene_key(pack, scenario.id, detail): scenario for scenario in scenarios}
        missing = [scenario for key, scenario in missing.items() if key not in known]
        if len(missing) > 1:
            with ThreadPoolExecutor(num_threads(), thread_name_prefix="scenes") as pool:
                list(pool.map(lambda scenario: scene_of(pack, scenario, detail), missing))

    def leave(self, scenery: Scenery) -> None:
        """Says that one of the worlds that took this scenery needs it no longer."""
        with self.lock:
            scenery.users -= 1

    def _find(self, pack, scenario: Scenario, detail: float, appearance: str | None) -> Scenery:
        scene = scene_key(pack, scenario.id, detail)
        wanted = (scene, scenario.id, appearance)
        key = (scene, self._appearance.get(wanted))
        if key not in self._scenery:
            made = scene_of(pack, scenario, detail)
            key = (scene, appearance_of(made, scenario.id, appearance))
            self._appearance[wanted] = key[1]
            if key not in self._scenery:
                self._scenery[key] = self._add_scene(made, key[1], None if hasattr(pack, "folder") else pack)
        self._scenery.move_to_end(key)
        return self._scenery[key]

    def _add_scene(self, scene: GaussianScene, appearance: str, keep) -> Scenery:
        looks = {name: node.look(appearance) for name, node in scene.nodes.items()}  # all, before the first is added
        parts = {name: self.renderer.add(gaussians) for name, gaussians in looks.items()}
        actors = {token: (parts[token], scene.nodes[token].size) for token in scene.actors}
        nbytes = sum(_nbytes(gaussians) for gaussians in looks.values())
        background, sky = parts[BACKGROUND], parts.get(SKY, -1)
        judge = _judge_of(scene)
        return Scenery(keep, appearance, scene.kind, background, sky, actors, list(parts.values()), len(scene), nbytes, judge)

    def _make_room(self) -> None:
        total = self.nbytes
        for key, scenery in list(self._scenery.items()):
            if total <= self.max_bytes:
                return
            if scenery.users == 0:
                for part in scenery.parts:
                    self.renderer.remove(part)
                total -= scenery.nbytes
                del self._scenery[key]

    def _model(self, index: int, detail: float, appearance: str) -> tuple[int, tuple[float, float, float]]:
        """Returns part and box [m] of a model of the library; where it has no such appearance, as it looks by day."""
        from worldengine_envs.city.gaussians import model_gaussians

        node = model_gaussians(index, detail)
        look = appearance if appearance in node.looks else "day"
        if (index, detail, look) not in self._models:
            self._models[index, detail, look] = self.renderer.add(node.look(look)), node.size
        return self._models[index, detail, look]

    def _cast(self, scenario: Scenario, scenery: Scenery, detail: float) -> Cast:
        from worldengine_envs.city.surfaces.models import choose

        tracks, agents = scenario.tracks, len(scenario.tracks)
        sizes = np.maximum(typical_sizes(scenario), LEAST_M)
        part, per_size = np.zeros(agents, np.int32), np.ones((agents, 3))
        borrowed = np.zeros(agents, np.bool_)
        known = {} if scenery.judge is None else scenery.judge.rows
        witnessed = np.array([known.get(token, UNKNOWN) for token in tracks.tokens], np.int32)
        for a, token in enumerate(tracks.tokens):
            if token in scenery.actors:
                part[a], size = scenery.actors[token]
            else:
                model = choose(AgentType(int(tracks.types[a])), tuple(sizes[a].tolist()), f"{scenario.id}/{token}")
                part[a], size = self._model(model, detail, scenery.appearance)
                borrowed[a] = True
            per_size[a] = 1.0 / np.array(size)
        return Cast(scenario, part, per_size, sizes[:, 2], borrowed, witnessed, *self._lights(scenario, scenery, detail))

    def _lights(self, scenario: Scenario, scenery: Scenery, detail: float) -> tuple[np.ndarray, float, np.ndarray]:
        """Returns parts by state, the height of their origin and where lights stand; a reconstruction holds its own lights."""
        from worldengine_envs.city.surfaces.lights import signal_places
        from worldengine_envs.city.surfaces.models import LIGHT_ROWS

        if scenery.kind == "reconstructed" or len(scenario.lights.lanes) == 0:
            return np.full(len(LightState), -1, np.int32), 0.0, np.full((0, 3), np.nan)
        models = [self._model(row, detail, scenery.appearance) for row in LIGHT_ROWS]
        parts = np.array([part for part, _ in models], np.int32)
        return parts, 0.5 * models[0][1][2], np.asarray(signal_places(scenario), np.float64)


def typical_sizes(scenario: Scenario) -> np.ndarray:
    """Returns (agents, 3) length, width, height [m] of each track at its first valid step from the start on, else at its last."""
    tracks, k = scenario.tracks, scenario.start_step
    ahead = tracks.valid[:, k:]
    before = tracks.steps - 1 - tracks.valid[:, ::-1].argmax(1)
    step = np.where(ahead.any(1), k + ahead.argmax(1), before)
    return tracks.size[np.arange(len(tracks)), step].astype(np.float64)


def _judge_of(scene: GaussianScene) -> Judge | None:
    if scene.witnesses is None:
        return None
    from worldengine_envs.rendering.confidence import Judge

    return Judge(scene.witnesses)


def _nbytes(gaussians: Gaussians) -> int:
    g = gaussians
    return sum(array.nbytes for array in (g.means, g.quats, g.scales, g.opacities, g.sh))


_shared: WeakValueDictionary[tuple, Assets] = WeakValueDictionary()
_lock = threading.Lock()


def shared_assets(renderer: str, device: str | None, settings: RenderSettings | None = None) -> Assets:
    """Returns the assets of a renderer: one for each choice of renderer, device and settings while an environment holds it.

    Raises:
        RendererError: There is no such renderer, or it cannot be used here.
    """
    from worldengine_envs.rendering.renderer import make_renderer

    settings = settings or RenderSettings(near=NEAREST_M)
    with _lock:
        found = _shared.get((renderer, device, settings))
        if found is None:
            found = _shared[renderer, device, settings] = Assets(make_renderer(renderer, device, settings))
        return found
