"""Frames to a file: MP4 (by ffmpeg, which the package imageio-ffmpeg brings) or GIF."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from worldengine_envs.errors import DataError

FORMATS = (".mp4", ".gif")
COLORS = 256  # of a GIF


def check_video_file(path: Path) -> None:
    """Refuses a file that cannot be written, before anything is driven for it.

    Raises:
        DataError: Another ending than .mp4 or .gif, no such folder, or no encoder is installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise DataError(f"ends with {path.suffix!r}, not {' or '.join(FORMATS)}", file=path, field="--record")
    if not path.parent.is_dir():
        raise DataError("its folder is not there", file=path, field="--record", remedy=f"Make {path.parent} first")
    if path.suffix.lower() == ".mp4":
        try:
            import imageio_ffmpeg  # noqa: F401
        except ImportError:
            remedy = "pip install 'worldengine[video]', or record a .gif"
            raise DataError("no encoder for MP4 is installed", file=path, field="--record", remedy=remedy) from None


def write_video(path: Path, frames: Iterable[np.ndarray], fps: float) -> int:
    """Writes frames (height, width, 3) uint8 of one size as they come and returns their number. A file that is there is replaced.

    Raises:
        DataError: As ``check_video_file``.
    """
    check_video_file(path)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        count = (_write_mp4 if path.suffix.lower() == ".mp4" else _write_gif)(part, frames, fps)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)  # there only if something went wrong, or somebody pressed Ctrl-C
    return count


def _write_mp4(path: Path, frames: Iterable[np.ndarray], fps: float) -> int:
    import imageio_ffmpeg

    writer, count = None, 0
    try:
        for frame in frames:
            if writer is None:
                height, width, _ = frame.shape
                writer = imageio_ffmpeg.write_frames(str(path), (width, height), fps=fps, quality=8, ffmpeg_log_level="error")
                writer.send(None)
            writer.send(np.ascontiguousarray(frame))
            count += 1
    finally:
        if writer is not None:
            writer.close()
    return count


def _write_gif(path: Path, frames: Iterable[np.ndarray], fps: float) -> int:
    images = [Image.fromarray(frame).quantize(COLORS) for frame in frames]
    images[0].save(path, save_all=True, append_images=images[1:], duration=round(1000.0 / fps), loop=0, optimize=True)
    return len(images)
