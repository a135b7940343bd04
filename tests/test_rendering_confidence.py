"""Confidence: 1 where a witness stood, less where lines of sight differ, none for what nobody has seen.

Depths are computed exactly, by tracing rays against planes.
"""

from itertools import pairwise

import numpy as np
import pytest
from rendering_scenes import look, random_gaussians

from worldengine_envs.rendering import confidence
from worldengine_envs.rendering.confidence import (
    HALF_ERROR,
    IMAGES,
    Cells,
    Judge,
    Shot,
    contrast,
    frame_confidence,
    judge_frames,
    witnesses_of,
)
from worldengine_envs.rendering.frames import Frames, RenderSettings
from worldengine_envs.rendering.renderer import make_renderer
from worldengine_envs.rendering.scene import GaussianScene, Node
from worldengine_envs.rendering.witnesses import (
    UNKNOWN,
    WORLD,
    Sight,
    cell_intrinsics,
    cells_of,
    inverse_depths,
    make_witnesses,
)

H, W = 90, 160
LENS = np.array([120.0, 120.0, 80.0, 45.0])
WALL_Z, GROUND_Y, CAR_Z, HALF = 40.0, 1.5, 20.0, 1.0  # a wall ahead, ground below, a board 2 m across at 20 m
FACING = np.eye(4)


def board_at(x: float, z: float = CAR_Z, yaw: float = 0.0) -> np.ndarray:
    pose = np.linalg.inv(look((x, 0.0, z), yaw))
    return pose


def view(world_to_camera: np.ndarray, board: np.ndarray | None, wall: bool = True):
    """Returns depth, alpha and node images (H, W) by tracing rays: the board (node 0), the ground, the wall; sky is empty."""
    v, u = np.mgrid[0:H, 0:W] + 0.5
    rays = np.stack(((u - LENS[2]) / LENS[0], (v - LENS[3]) / LENS[1], np.ones((H, W))), axis=-1)
    depth, node = np.full((H, W), np.inf), np.full((H, W), -1, np.int32)

    def cut(to_camera: np.ndarray, axis: int, inside, number: int) -> None:
        """The plane ``axis`` = 0 of a frame."""
        back = np.linalg.inv(to_camera)
        slope = rays @ back[axis, :3]
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(np.abs(slope) > 1e-12, -back[axis, 3] / slope, np.inf)
        point = rays * z[..., None] @ back[:3, :3].T + back[:3, 3]
        hit = (z > 0.1) & (z < depth) & inside(point)
        depth[hit], node[hit] = z[hit], number

    ground, far = np.eye(4), np.eye(4)
    ground[1, 3], far[2, 3] = GROUND_Y, WALL_Z
    with np.errstate(invalid="ignore"):
        cut(world_to_camera @ ground, 1, lambda p: np.ones((H, W), bool), -1)
        if wall:
            cut(world_to_camera @ far, 2, lambda p: p[..., 1] > -8.0, -1)
        if board is not None:
            cut(world_to_camera @ board, 2, lambda p: (np.abs(p[..., :2]) < HALF).all(-1), 0)
    alpha = np.isfinite(depth).astype(float)
    return np.where(alpha > 0.0, depth, 0.0), alpha, node


def sight(world_to_camera: np.ndarray, board: np.ndarray | None = None, wall: bool = True) -> Sight:
    boxes = {} if board is None else {0: board}
    return Sight(world_to_camera, LENS, *view(world_to_camera, board, wall), boxes)


def judged(judge: Judge, world_to_camera: np.ndarray, board: np.ndarray | None = None, wall: bool = True) -> np.ndarray:
    depth, alpha, node = view(world_to_camera, board, wall)
    rows, columns, step = cells_of(H, W)
    cells = np.ix_(rows, columns)
    shown = Cells(inverse_depths(depth[cells], alpha[cells]).astype(np.float32), node[cells], cell_intrinsics(LENS, step))
    found = judge.judge(shown, world_to_camera, {} if board is None else {0: board})
    assert found.dtype == np.float32 and (found >= 0.0).all() and (found <= 1.0).all()
    return found


def board_cells(world_to_camera: np.ndarray, board: np.ndarray) -> np.ndarray:
    rows, columns, _ = cells_of(H, W)
    return view(world_to_camera, board)[2][np.ix_(rows, columns)] == 0


def test_witnesses_trust_their_own_frames_fully():
    poses = [look((0.0, 0.0, 2.0 * i), 0.1 * i, 0.02 * i, 0.3 * (i == 3)) for i in range(5)]
    judge = Judge(make_witnesses(["car"], [sight(pose, board_at(0.5 * i)) for i, pose in enumerate(poses)]))
    for i, pose in enumerate(poses):
        assert (judged(judge, pose, board_at(0.5 * i)) == 1.0).all()


def test_nothing_is_known_without_witnesses_or_behind_their_backs():
    nobody = Judge(make_witnesses(["car"], []))
    assert (judged(nobody, look(), board_at(0.0)) == 0.0).all()
    judge = Judge(make_witnesses([], [sight(look())]))
    assert judged(judge, look(yaw=np.pi), wall=False).mean() < 0.01
    beside = judged(judge, look(yaw=0.5), wall=False)
    assert beside[:, : beside.shape[1] // 3].mean() < 0.01 or beside[:, -beside.shape[1] // 3 :].mean() < 0.01


def test_confidence_falls_with_the_distance_from_the_path():
    judge = Judge(make_witnesses([], [sight(look((0.0, 0.0, float(z)))) for z in range(0, 20, 2)]))
    away = [judged(judge, look((x, 0.0, 9.0))).mean() for x in (0.0, 1.0, 2.0, 3.0, 6.0)]
    assert away[0] > 0.95
    assert all(a > b + 0.01 for a, b in pairwise(away))
    high = judged(judge, look((0.0, -2.0, 9.0))).mean()
    assert high < away[0]


def test_credit_falls_half_way_at_the_half_angle_and_falls_where_one_comes_closer():
    """A single witness of a wall that fills the image: angle and ratio of distances are known in closed form."""
    judge = Judge(make_witnesses([], [sight(look())]))
    angle = confidence.HALF_ANGLE
    for turned, credit in (
        (angle, 0.5 + 0.5 * confidence.FLOOR),
        (0.0, 1.0),
    ):  # on a circle around the point of the wall that both look at
        eye = np.array([WALL_Z * np.sin(turned), 0.0, WALL_Z - WALL_Z * np.cos(turned)])
        pose = look(eye, turned)
        depth, alpha, node = (np.atleast_2d(image) for image in (WALL_Z, 1.0, -1))
        near = inverse_depths(depth, alpha).astype(np.float32)
        found = judge.judge(Cells(near, node.astype(np.int32), np.array([1.0, 1.0, 0.5, 0.5])), pose, {})
        assert found[0, 0] == pytest.approx(credit, abs=2e-3)
    for closer, credit in ((0.5, 0.5**confidence.CLOSER), (-0.5, 1.0)):
        pose, distance = look((0.0, 0.0, closer * WALL_Z)), (1.0 - closer) * WALL_Z
        near = np.full((1, 1), 1.0 / distance, np.float32)
        found = judge.judge(Cells(near, np.full((1, 1), WORLD, np.int32), np.array([1.0, 1.0, 0.5, 0.5])), pose, {})
        assert found[0, 0] == pytest.approx(credit, abs=2e-3)


def test_surfaces_that_no_view_saw_get_no_credit():
    judge = Judge(make_witnesses([], [sight(look((0.0, 0.0, z)), wall=False) for z in (0.0, 2.0, 4.0)]))
    plain, walled = judged(judge, look((0.0, 0.0, 1.0)), wall=False), judged(judge, look((0.0, 0.0, 1.0)))
    rows, columns, _ = cells_of(H, W)
    wall = np.isclose(view(look((0.0, 0.0, 1.0)), None)[0][np.ix_(rows, columns)], WALL_Z - 1.0) & (rows < LENS[3] - 4)[:, None]
    assert plain.mean() > 0.9 and plain[wall].mean() > 0.9  # empty sky was seen there
    assert walled[wall].mean() < 0.1


def test_actors_are_known_wherever_they_stand_from_the_sides_that_were_seen():
    judge = Judge(make_witnesses(["car"], [sight(look(), board_at(0.0)), sight(look((0.0, 0.0, 2.0)), board_at(0.5))]))
    for board, least, most in (
        (board_at(0.0), 0.99, 1.0),
        (board_at(4.0, 24.0), 0.55, 0.95),  # driven on: seen from a little more aside
        (board_at(0.0, yaw=np.radians(40.0)), 0.3, 0.4),  # turned
    ):
        found = judged(judge, look(), board)[board_cells(look(), board)]
        assert len(found) and least <= found.mean() <= most
    away = board_at(3.0)
    here = board_cells(look(), board_at(0.0)) & ~board_cells(look(), away)
    assert judged(judge, look(), away)[here].mean() > 0.5  # by parallax the second view saw some of the wall behind
    alone = Judge(make_witnesses(["car"], [sight(look(), board_at(0.0))]))
    core = np.zeros_like(here)
    core[1:-1, 1:-1] = here[1:-1, 1:-1] & here[:-2, 1:-1] & here[2:, 1:-1] & here[1:-1, :-2] & here[1:-1, 2:]
    assert judged(alone, look(), away)[core].mean() < 0.1  # nobody saw what it hid


def test_strangers_get_no_credit():
    judge = Judge(make_witnesses(["car"], [sight(look(), board_at(0.0))]))
    cells = Cells(np.full((2, 2), 0.05, np.float32), np.full((2, 2), UNKNOWN, np.int32), np.array([1.0, 1.0, 1.0, 1.0]))
    assert (judge.judge(cells, look(), {}) == 0.0).all()


def test_a_drawn_scene_trusts_the_views_it_leaves_as_witnesses():
    """From Gaussians through the renderer: own frames get exactly 1, actors' poses and a stretched box included."""
    background = random_gaussians(0, 400, 1, size=(-1.5, 0.0), depth=(6.0, 40.0))
    car = random_gaussians(1, 60, 0, size=(-2.5, -1.5), depth=(-0.6, 0.6))
    scene = GaussianScene("s", "reconstructed", {"background": Node(background), "car": Node(car, size=(2.0, 2.0, 2.0))}, ("a",))
    box = board_at(0.5, 6.0, 0.4)
    shots = [Shot(look((0.1 * i, 0.0, 0.3 * i)), LENS, H, W, {"car": box} if i else {}) for i in range(4)]
    renderer = make_renderer("cpu", None, RenderSettings(near=0.3))
    witnesses = witnesses_of(scene, shots, renderer)
    assert len(witnesses) == 4 and (witnesses.seen == 0).any()
    parts = [renderer.add(background), renderer.add(car)]
    frames = Frames(
        part=np.array(parts, np.int32),
        rotation=np.stack((np.eye(3), box[:3, :3])),
        scale=np.ones((2, 3)),
        translation=np.stack((np.zeros(3), box[:3, 3])),
        node=np.array([-1, 7], np.int32),
        offsets=np.array([0, 2]),
        world_to_camera=shots[2].world_to_camera[None],
        intrinsics=LENS[None],
        height=H,
        width=W,
    )
    actors, judge = np.full(8, UNKNOWN, np.int32), Judge(witnesses)
    strange = judge_frames(frames, renderer.render(frames, IMAGES), [judge], [actors])
    actors[7] = 0
    known = judge_frames(frames, renderer.render(frames, IMAGES), [judge], [actors])
    assert known.dtype == np.float32 and known[0] == 1.0 and strange[0] < 1.0
    longer = Frames(*frames[:2], np.array([[1.0] * 3, [1.2, 1.0, 1.0]]), *frames[3:])
    assert 0.9 < judge_frames(longer, renderer.render(longer, IMAGES), [judge], [actors])[0] <= 1.0
    assert judge_frames(frames, renderer.render(frames, IMAGES), [None], [actors]).tolist() == [0.0]


def test_contrast_is_the_variance_of_what_is_around():
    rng = np.random.default_rng(4)
    image = rng.integers(0, 256, (20, 31, 3), np.uint8)
    image[:, 16:] = 90
    found = contrast(image, 4)
    assert found.shape == (5, 8)
    gray = image.mean(axis=2) / 255.0
    cells = [[gray[r : r + 4, c : c + 4].var() for c in range(0, 12, 4)] for r in range(4, 16, 4)]
    assert found[2, 1] == pytest.approx(np.mean(cells), rel=1e-5)
    assert found[2, 6] == pytest.approx(0.0, abs=1e-9)


def test_doubts_count_where_something_can_look_wrong():
    sure, variance = np.ones((4, 5)), np.full((4, 5), HALF_ERROR**2)
    assert frame_confidence(sure, variance) == 1.0
    assert frame_confidence(0.0 * sure, variance) == 0.0
    unseen = sure.copy()
    unseen[:1] = 0.0
    assert frame_confidence(unseen, variance) == pytest.approx(0.75)
    assert frame_confidence(0.5 * sure, 2.0 * variance) == pytest.approx(0.5)
    assert frame_confidence(0.5 * sure, 0.0 * variance) == 1.0
