"""What of a camera log cannot be used is left out, and said: a scene is built from the rest."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.camera_log import Camera, CameraLog, Sweep, View
from worldengine_envs.reconstruction.checks_agreement import agreement_problems
from worldengine_envs.reconstruction.checks_motion import check_actors, jumping, parallax_problem, rigid
from worldengine_envs.reconstruction.pictures import lens_map, read_mask, read_rgb

NAMED = 3  # files that a line names before it says "..."
NARROWEST_DEG, WIDEST_DEG = 3.0, 170.0  # horizontal field of view
LEAST_SHOWN = 0.1  # share of an image that its mask has to leave
OFF_CENTER = (0.2, 0.3)  # how far the principal point may be from the middle, in widths and heights: images may be cropped


def checked(log: CameraLog) -> CameraLog:
    """Returns the log without what cannot be used; ``problems`` says what that was.

    Left out are: cameras whose intrinsics do not fit their images; images that are missing, cannot be read, have another size than
    their camera's, come twice or are masked (nearly) whole; masks that cannot be read or have another size; images and sweeps whose
    pose is no rigid motion or jumps off the path; sweeps that cannot be read; actors without a size, with the token of another, or
    whose box no camera sees (their returns are taken out of the sweeps). Only said are: no parallax at all, and images that do not
    move as the poses say.

    Raises:
        DataError: Nothing is left.
    """
    problems = list(log.problems)
    log = _without_bad_cameras(log, problems)
    log = _without_bad_masks(log, problems)
    log = _without_bad_images(log, problems)
    log = _without_bad_sweeps(log, problems)
    log = _without_bad_poses(log, problems)
    log = _without_unused(log, problems)
    if not log.views:
        remedy = "; ".join(problems) or "The log lists none"
        raise DataError("no image that can be used is left", scenario=log.name, field="views", remedy=remedy)
    log = check_actors(log, problems)
    problems += parallax_problem(log) + agreement_problems(log)
    return replace(log, problems=tuple(problems))


def _without_bad_cameras(log: CameraLog, problems: list[str]) -> CameraLog:
    bad = {}
    for c, camera in enumerate(log.cameras):
        reason = lens_problem(camera)
        if reason:
            bad[c] = reason
            count = sum(view.camera == c for view in log.views)
            problems.append(f"camera {camera.name}: {reason}; left out with its {count} images")
    return replace(log, views=tuple(view for view in log.views if view.camera not in bad))


def lens_problem(camera: Camera) -> str:
    """Returns in words why a camera's intrinsics do not fit its images; "" if they do."""
    if min(camera.height, camera.width) < 1:
        return f"images of {camera.width}x{camera.height}"
    fx, fy, cx, cy = np.asarray(camera.intrinsics, np.float64)
    if not (np.isfinite(camera.intrinsics).all() and np.isfinite(camera.distortion).all() and fx > 0 and fy > 0):
        return f"no such lens: intrinsics {np.round(camera.intrinsics, 3).tolist()}"
    size = f"{camera.width}x{camera.height} images"
    if not 0.5 <= fx / fy <= 2.0:
        return f"its intrinsics do not fit: focal lengths {fx:.1f} and {fy:.1f} px"
    if abs(cx / camera.width - 0.5) > OFF_CENTER[0] or abs(cy / camera.height - 0.5) > OFF_CENTER[1]:
        return f"its intrinsics do not fit its {size}: the principal point is at {cx:.1f}, {cy:.1f} px. Are they for another size?"
    seen = np.degrees(2.0 * np.arctan(0.5 * camera.width / fx))
    if not NARROWEST_DEG <= seen <= WIDEST_DEG:
        return f"its intrinsics do not fit its {size}: it would see {seen:.1f} degrees"
    if np.any(camera.distortion):
        few = replace(
            camera, height=32, width=32, intrinsics=np.array(camera.intrinsics) * (32 / np.array([camera.width, camera.height] * 2))
        )
        if lens_map(few)[1].mean() < 0.5:
            return f"its distortion does not fit its {size}: it folds back inside them"
    return ""


def _without_bad_masks(log: CameraLog, problems: list[str]) -> CameraLog:
    cameras, blind = [], set()
    for c, camera in enumerate(log.cameras):
        try:
            if camera.mask is not None and _shown(camera.mask, camera) < LEAST_SHOWN:
                blind.add(c)
                count = sum(view.camera == c for view in log.views)
                problems.append(f"camera {camera.name}: its mask hides its images; left out with its {count} images")
        except DataError as error:
            problems.append(f"camera {camera.name}: {error}; used without its mask")
            camera = replace(camera, mask=None)
        cameras.append(camera)
    return replace(log, cameras=tuple(cameras), views=tuple(view for view in log.views if view.camera not in blind))


def _shown(mask: Path, camera: Camera) -> float:
    """Returns the share of an image that a mask leaves."""
    return float((read_mask(mask, camera.height, camera.width) > 0).mean())


def _without_bad_images(log: CameraLog, problems: list[str]) -> CameraLog:
    """Reads every image once, as training would."""
    taken: set[tuple] = set()
    reasons = _in_threads(partial(_image_problem, log.cameras), log.views)
    kept, bad = [], Counter()
    lines: dict[tuple[int, str], list[View]] = {}
    for view, reason in zip(log.views, reasons, strict=True):
        key = (view.traversal, view.camera, view.time_us)
        if not reason and key in taken:
            reason = "come a second time for one moment"
        if reason:
            lines.setdefault((view.camera, reason), []).append(view)
            bad[view.camera] += 1
        else:
            taken.add(key)
            kept.append(view)
    total = Counter(view.camera for view in log.views)
    for (c, reason), views in lines.items():
        names = _listed(view.image.name for view in views)
        problems.append(f"camera {log.cameras[c].name}: {len(views)} of {total[c]} images {reason} ({names}); left out")
    return replace(log, views=tuple(kept))


def _image_problem(cameras: tuple[Camera, ...], view: View) -> str:
    camera = cameras[view.camera]
    if not view.image.is_file():
        return "are missing"
    try:
        height, width = read_rgb(view.image).shape[:2]
    except DataError:
        return "cannot be read"
    if (height, width) != (camera.height, camera.width):
        return f"are {width}x{height}, not {camera.width}x{camera.height} as the intrinsics say"
    try:
        hidden = view.mask is not None and _shown(view.mask, camera) < LEAST_SHOWN
    except DataError:
        return "have a mask that cannot be read or has another size"
    return "are hidden by their masks" if hidden else ""


def _without_bad_sweeps(log: CameraLog, problems: list[str]) -> CameraLog:
    """Reads every sweep once; returns that are no numbers are left out of those that stay."""
    reasons = _in_threads(_sweep_problem, log.sweeps)
    bad = [reason for reason in reasons if reason]
    if bad:
        problems.append(f"LiDAR: {len(bad)} of {len(reasons)} sweeps cannot be used ({bad[0]}); left out")
    kept = (sweep for sweep, reason in zip(log.sweeps, reasons, strict=True) if not reason)
    return replace(log, sweeps=tuple(replace(sweep, read=partial(_finite, sweep.read)) for sweep in kept))


def _sweep_problem(sweep: Sweep) -> str:
    try:
        return "" if len(_finite(sweep.read)) else "one is empty"
    except DataError as error:
        return str(error)


def _finite(read: Callable[[], np.ndarray]) -> np.ndarray:
    xyz = read()
    return xyz[np.isfinite(xyz).all(axis=1)]


def _without_bad_poses(log: CameraLog, problems: list[str]) -> CameraLog:
    """Looks at each camera's path, and at the LiDAR's, in each traversal."""
    bad_views, bad_sweeps = set(), set()
    for traversal in log.traversals:
        for c, camera in enumerate(log.cameras):
            rows = [row for row, view in enumerate(log.views) if view.traversal == traversal and view.camera == c]
            poses = [log.views[row].camera_to_world for row in rows]
            times = [log.views[row].time_us for row in rows]
            names = [log.views[row].image.name for row in rows]
            bad_views.update(rows[i] for i in _bad_poses(f"camera {camera.name}", "images", times, poses, names, problems))
        rows = [row for row, sweep in enumerate(log.sweeps) if sweep.traversal == traversal]
        poses, times = [log.sweeps[row].lidar_to_world for row in rows], [log.sweeps[row].time_us for row in rows]
        names = [f"{(time - times[0]) * 1e-6:.1f} s" for time in times]
        bad_sweeps.update(rows[i] for i in _bad_poses("LiDAR", "sweeps", times, poses, names, problems))
    views = tuple(view for row, view in enumerate(log.views) if row not in bad_views)
    return replace(log, views=views, sweeps=tuple(sweep for row, sweep in enumerate(log.sweeps) if row not in bad_sweeps))


def _bad_poses(who: str, what: str, times: list[int], poses: list[np.ndarray], names: list[str], problems: list[str]) -> set[int]:
    """Returns which poses cannot be used, and says why."""
    broken = {i for i, pose in enumerate(poses) if not rigid(pose)}
    if broken:
        listed = _listed(names[i] for i in sorted(broken))
        problems.append(f"{who}: {len(broken)} of {len(poses)} poses are no rigid motion ({listed}); their {what} are left out")
    good = [i for i in range(len(poses)) if i not in broken]
    jumps = {good[i] for i in jumping(np.array([times[i] for i in good]), np.array([poses[i] for i in good]).reshape(-1, 4, 4))}
    if jumps:
        listed = _listed(names[i] for i in sorted(jumps))
        problems.append(f"{who}: {len(jumps)} of {len(poses)} poses jump off the path ({listed}); their {what} are left out")
    return broken | jumps


def _without_unused(log: CameraLog, problems: list[str]) -> CameraLog:
    """Drops cameras and traversals of which no image is left."""
    used = sorted({view.camera for view in log.views})
    traversals = tuple(name for name in log.traversals if any(view.traversal == name for view in log.views))
    for name in log.traversals:
        if name not in traversals and log.views:
            problems.append(f"traversal {name}: no image is left; left out with its sweeps and boxes")
    return replace(
        log,
        cameras=tuple(log.cameras[c] for c in used),
        views=tuple(replace(view, camera=used.index(view.camera)) for view in log.views),
        sweeps=tuple(sweep for sweep in log.sweeps if sweep.traversal in traversals),
        actors=tuple(actor for actor in log.actors if actor.traversal in traversals),
        traversals=traversals,
    )


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def _in_threads(function: Callable, items: tuple) -> list:
    """Returns the results in order; files are decoded beside each other."""
    with ThreadPoolExecutor(
        min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    ) as pool:
        return list(pool.map(function, items))
