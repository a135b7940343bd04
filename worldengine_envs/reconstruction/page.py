"""report.html: what a reconstruction shows beside what cameras saw, off their path, and with its actors moved."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from worldengine_envs.reconstruction import html
from worldengine_envs.reconstruction.beside import left_of_path
from worldengine_envs.reconstruction.previews import depth_colors
from worldengine_envs.reconstruction.settings import ReconstructionSettings
from worldengine_envs.reconstruction.split import Split
from worldengine_envs.reconstruction.stage import LogShots, Stage, beside, on_host, with_box
from worldengine_envs.rendering.confidence import Judge, Shot, judge_frames
from worldengine_envs.rendering.frames import Images, Renderer
from worldengine_envs.rendering.scene import GaussianScene

COMPARED, SHIFTED, CHANGED = 6, 2, 5  # views and actors that are shown
SHIFTS_M = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
MOVED_M, TURNED_DEG = 2.0, 20.0
VISIBLE = 0.0015  # share of the picture from which on an actor is worth showing
OUTPUTS = ("rgb", "alpha", "depth", "node")
ERROR_GAIN = 4.0


class Scenes:
    """Stages of one scene by appearance, and the judge of its frames."""

    def __init__(self, scene: GaussianScene, renderer: Renderer):
        self.scene, self.stages = scene, {name: Stage(scene, renderer, name) for name in scene.appearances}
        self.judge = Judge(scene.witnesses) if scene.witnesses is not None else None

    def draw(self, shot: Shot, appearance: str) -> tuple[Images, float | None]:
        """Returns the images of a shot and their confidence."""
        stage = self.stages[appearance]
        frames = stage.frame(shot)
        drawn = stage.renderer.render(frames, OUTPUTS)
        images = on_host(drawn)
        if self.judge is None:
            return images, None
        rows = np.array([self.judge.rows[name] for name in self.scene.actors], np.int32)
        return images, float(judge_frames(frames, drawn, [self.judge], [rows])[0])

    def close(self) -> None:
        """Takes all parts back."""
        for stage in self.stages.values():
            stage.close()


def write_page(
    file: Path,
    scene: GaussianScene,
    shots: LogShots,
    split: Split,
    measured: dict,
    history: list[dict],
    renderer: Renderer,
    settings: ReconstructionSettings,
) -> None:
    """Writes the page of a finished reconstruction.

    Args:
        file: What is written.
        scene: With its quality and witnesses.
        shots: The views of the log.
        split: Which were held out.
        measured: As ``quality.evaluate`` gave it.
        history: As ``job.read_history`` gave it.
        renderer: Who draws.
        settings: How the scene was made.
    """
    scenes = Scenes(scene, renderer)
    try:
        parts = [*_summary(scene, shots), *_problems(shots), *_curves(history)]
        parts += _comparisons(scenes, shots, split, measured)
        parts += _shifts(scenes, shots, split)
        parts += _actors(scenes, shots, split)
        parts += _looks(scenes, shots, split)
    finally:
        scenes.close()
    rows = [(name, str(value)) for name, value in asdict(settings).items()]
    parts += [html.heading("Settings"), html.table(rows)]
    file.write_text(html.page(f"{scene.name}, reconstructed", parts), encoding="utf-8")


def _summary(scene: GaussianScene, shots: LogShots) -> list[str]:
    q, log = scene.quality, shots.log
    rows = [("images learned from, held out", f"{q['train_views']}, {q['test_views']}")]
    if q["psnr"] is not None:
        rows += [("PSNR of held-out images [dB]", f"{q['psnr']:.2f} (worst tenth {q['psnr_worst_tenth']:.2f})")]
        rows += [("SSIM of held-out images", f"{q['ssim']:.3f}")]
    if q["depth_rel_error"] is not None:
        rows += [("depth against held-out LiDAR, median error", f"{100.0 * q['depth_rel_error']:.1f} %")]
    rows += [("Gaussians", str(q["gaussians"])), ("actors with Gaussians of their own", f"{q['actors']} of {len(log.actors)}")]
    rows += [("LiDAR sweeps", str(len(log.sweeps))), ("appearances", ", ".join(scene.appearances))]
    rows += [
        ("training [min], iterations", f"{q['seconds'] / 60.0:.1f}, {q['iterations']}"),
        ("peak memory [MB]", q["peak_memory_mb"]),
    ]
    note = f"{log.dataset} log, licence {log.licence}. Reconstructed by World Engine."
    return [html.heading(scene.name, note, level=1), html.table(rows)]


def _problems(shots: LogShots) -> list[str]:
    if not shots.log.problems:
        return []
    return [html.heading("Left out", "What could not be used of the log."), html.bullets(shots.log.problems, "bad")]


def _curves(history: list[dict]) -> list[str]:
    if len(history) < 2:
        return []
    x = [row["iteration"] for row in history]
    curves = [html.curve(x, [row[key] for row in history], "iterations", name) for key, name in _CURVES]
    return [html.heading("Training", "PSNR of the training images of the last hundred iterations."), *curves]


_CURVES = (("psnr", "PSNR [dB]"), ("gaussians", "Gaussians"))


def _comparisons(scenes: Scenes, shots: LogShots, split: Split, measured: dict) -> list[str]:
    """Held-out views from best to worst; training views where nothing was held out."""
    log, held = shots.log, sorted(measured["per_view"], key=lambda row: -row["psnr"])
    views = [row["view"] for row in spread(held, COMPARED)] or [int(v) for v in spread(split.train, 3)]
    rows = {row["view"]: row for row in held}
    note = f"Image, rendering, error (times {ERROR_GAIN:g}), depth. From the best to the worst. Exposure is the mean of all images."
    parts = [html.heading("Held-out views" if held else "Training views", note)]
    for v in views:
        images, confidence = scenes.draw(shots.of(v), log.views[v].traversal)
        truth = shots.pictures[v]
        error = np.clip(ERROR_GAIN * np.abs(images.rgb.astype(np.float32) - truth.rgb).mean(axis=2), 0, 255) * truth.usable
        score = f"PSNR {rows[v]['psnr']:.2f} dB, SSIM {rows[v]['ssim']:.3f}" if v in rows else "rendering"
        score += "" if confidence is None else f", confidence {confidence:.2f}"
        error = np.repeat(error.astype(np.uint8)[..., None], 3, axis=2)
        row = ((truth.rgb, name_of(shots, v)), (images.rgb, score), (error, "error"), (depth_colors(images.depth), "depth"))
        parts.append(html.pictures(row))
    return parts


def _shifts(scenes: Scenes, shots: LogShots, split: Split) -> list[str]:
    """Views from beside the path."""
    views, lefts = front_views(shots, split), left_of_path(shots.log)
    note = "Nobody has been there: artefacts grow with the distance, and confidence falls. To the left is positive."
    parts = [html.heading("Beside the path", note)]
    for v in spread(views, SHIFTED):
        shot, left, row = shots.of(v), lefts[v], []
        for shift in SHIFTS_M:
            images, confidence = scenes.draw(beside(shot, shift * left), shots.log.views[v].traversal)
            text = f"{shift:+g} m" if shift else f"on the path, {name_of(shots, v)}"
            row.append((images.rgb, text + ("" if confidence is None else f", confidence {confidence:.2f}")))
        parts.append(html.pictures(row))
    return parts


def _actors(scenes: Scenes, shots: LogShots, split: Split) -> list[str]:
    """Actors as they were, moved, turned and taken away, in the view that shows most of each."""
    best = best_views(scenes, shots, split)
    if not best:
        return []
    parts = [
        html.heading(
            "Moved and removed actors", f"As logged, {MOVED_M:g} m to its left, turned by {TURNED_DEG:g} degrees, taken away."
        )
    ]
    for token, (v, mask) in best.items():
        shot, traversal = shots.of(v), shots.log.views[v].traversal
        box = shot.boxes[token]
        window, row = window_of(mask), []
        for text, pose in ((f"{token}, {name_of(shots, v)}", box), *edited(box)):
            images, confidence = scenes.draw(with_box(shot, token, pose), traversal)
            row.append((images.rgb[window], text + ("" if confidence is None else f", confidence {confidence:.2f}")))
        parts.append(html.pictures(row))
    return parts


def _looks(scenes: Scenes, shots: LogShots, split: Split) -> list[str]:
    """The same view in all appearances."""
    if len(scenes.scene.appearances) < 2:
        return []
    parts = [html.heading("Appearances", "One view in the look of each traversal.")]
    for v in spread(front_views(shots, split), SHIFTED):
        row = [(scenes.draw(shots.of(v), name)[0].rgb, name) for name in scenes.scene.appearances]
        parts.append(html.pictures(row))
    return parts


def edited(box: np.ndarray) -> tuple[tuple[str, np.ndarray | None], ...]:
    """Returns what is done to an actor's box (4, 4): words and where it is then; None = nowhere."""
    angle = np.radians(TURNED_DEG)
    moved, turned = box.copy(), box.copy()
    moved[:3, 3] += MOVED_M * box[:3, 1]
    turn = np.array([[np.cos(angle), -np.sin(angle), 0.0], [np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, 1.0]])
    turned[:3, :3] = box[:3, :3] @ turn
    return (f"{MOVED_M:g} m to its left", moved), (f"turned by {TURNED_DEG:g} degrees", turned), ("removed", None)


def best_views(scenes: Scenes, shots: LogShots, split: Split) -> dict[str, tuple[int, np.ndarray]]:
    """Returns for the actors that are seen largest, largest first, the view and where it shows them, (H, W) bool.

    Views that do not cut an actor off at their edge come first.
    """
    found: dict[str, tuple[tuple[bool, float], int, np.ndarray]] = {}
    for v in spread(split.test if len(split.test) else split.train, 24):
        node = scenes.draw(shots.of(int(v)), shots.log.views[v].traversal)[0].node
        edge = np.concatenate((node[0], node[-1], node[:, 0], node[:, -1]))
        for row, pixels in zip(*np.unique(node[node >= 0], return_counts=True), strict=True):
            token, score = scenes.scene.actors[row], (bool(row not in edge), float(pixels) / node.size)
            if score[1] > VISIBLE and (token not in found or score > found[token][0]):
                found[token] = score, int(v), node == row
    largest = sorted(found.items(), key=lambda item: item[1][0], reverse=True)[:CHANGED]
    return {token: (view, mask) for token, (_, view, mask) in largest}


def window_of(mask: np.ndarray) -> tuple[slice, slice]:
    """Returns the part of a picture around a mask (H, W): at least half of its height and width."""
    window = []
    for axis, side in enumerate(mask.shape):
        found = np.flatnonzero(mask.any(axis=1 - axis))
        length = min(max(side // 2, 2 * int(found[-1] + 1 - found[0])), side)
        start = int(np.clip((found[0] + found[-1] + 1 - length) // 2, 0, side - length))
        window.append(slice(start, start + length))
    return tuple(window)


def front_views(shots: LogShots, split: Split) -> list[int]:
    """Returns the held-out views (else training views) of the camera that looks most along its way."""
    views, ahead = [int(v) for v in (split.test if len(split.test) else split.train)], {}
    lefts, up = left_of_path(shots.log), np.array([0.0, 0.0, 1.0])
    for v in views:
        seen = shots.log.views[v]
        ahead.setdefault(seen.camera, []).append(np.cross(lefts[v], up) @ seen.camera_to_world[:3, 2])
    front = max(ahead, key=lambda camera: np.mean(ahead[camera]))
    return [v for v in views if shots.log.views[v].camera == front]


def name_of(shots: LogShots, view: int) -> str:
    """Returns camera, traversal and seconds since its first image."""
    log, seen = shots.log, shots.log.views[view]
    begin = min(v.time_us for v in log.views if v.traversal == seen.traversal)
    drive = f"{seen.traversal}, " if len(log.traversals) > 1 else ""
    return f"{log.cameras[seen.camera].name}, {drive}{(seen.time_us - begin) / 1e6:.1f} s"


def spread(items, count: int) -> list:
    """Returns at most ``count`` items, evenly spread, the first and the last included."""
    rows = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)) if len(items) else []
    return [items[row] for row in rows]
