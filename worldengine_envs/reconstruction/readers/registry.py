"""The formats of camera logs, and reading logs of one place into one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.camera_log import ActorTrack, Camera, CameraLog
from worldengine_envs.reconstruction.checks import checked
from worldengine_envs.reconstruction.readers.files import label

Reader = Callable[[Path, np.ndarray | None], tuple[CameraLog, np.ndarray]]


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of camera log."""

    what: str
    function: str  # "module:function" of its ``Reader``, imported when needed
    one_world: bool = False  # several logs can be laid over each other: their poses are in one frame

    def reader(self) -> Reader:
        """Returns the function that reads a log and returns it with the global position of its world's origin."""
        module, _, name = self.function.partition(":")
        return getattr(import_module(module), name)


_HERE = __name__.rpartition(".")[0]
FORMATS = {
    "city": Format(
        "folders with a log.json, as worldengine camera-log writes it and anyone can; several are traversals of one street",
        f"{_HERE}.city:read_city",
        True,
    ),
    "kitti": Format("sequences of KITTI odometry", f"{_HERE}.kitti:read_kitti"),
    "kitti-raw": Format("KITTI raw: a drive, or images and Velodyne scans with poses", f"{_HERE}.kitti_raw:read_kitti_raw"),
    "nuscenes": Format("pickles of nuScenes key frames with the images beside them", f"{_HERE}.nuscenes:read_nuscenes", True),
    "dgp": Format("scenes in the layout of DDAD", f"{_HERE}.dgp:read_dgp", True),
}


def read_camera_log(log_format: str, sources: Sequence[Path | str], check: bool = True) -> CameraLog:
    """Reads camera logs of one place into one world, that of the first; each is a traversal of its own.

    Masks are looked for beside every log, whatever its format: ``masks/<camera>.png`` for all images of a camera, and
    ``masks/<camera>/<name of the image>.png`` for one.

    Args:
        log_format: A key of ``FORMATS``.
        sources: Folders, or files where a format has one.
        check: Leave out what cannot be used (see ``checks.checked``).

    Raises:
        DataError: There is no such format or folder, logs of the format cannot be laid over each other, or nothing can be used.
    """
    if log_format not in FORMATS:
        raise DataError(f"no format {log_format!r}", field="format", remedy=f"Known: {', '.join(FORMATS)}")
    chosen, sources = FORMATS[log_format], [Path(source) for source in sources]
    if not sources:
        raise DataError("no camera log", field="source")
    if len(sources) > 1 and not chosen.one_world:
        remedy = f"Of these they can: {', '.join(name for name, f in FORMATS.items() if f.one_world)}"
        raise DataError(f"{log_format} logs do not say where they lie to each other", field="source", remedy=remedy)
    read, logs, origin = chosen.reader(), [], None
    for source in sources:
        if not source.exists():
            raise DataError("does not exist", file=source)
        log, origin = read(source, origin)
        logs.append(_with_masks(log, (source if source.is_dir() else source.parent) / "masks"))
    joined = join_logs(logs, [source.resolve().name for source in sources])
    joined = replace(joined, name=label(joined.name))
    return checked(joined) if check else joined


def _with_masks(log: CameraLog, folder: Path) -> CameraLog:
    """Returns the log with the masks that lie in a folder."""
    if not folder.is_dir():
        return log
    names = [camera.name for camera in log.cameras]
    of_camera = [folder / f"{name}.png" for name in names]
    of_view = [folder / names[view.camera] / f"{view.image.stem}.png" for view in log.views]
    cameras = (replace(c, mask=mask) if mask.is_file() else c for c, mask in zip(log.cameras, of_camera, strict=True))
    views = (replace(v, mask=mask) if mask.is_file() else v for v, mask in zip(log.views, of_view, strict=True))
    return replace(log, cameras=tuple(cameras), views=tuple(views))


def join_logs(logs: Sequence[CameraLog], names: Sequence[str]) -> CameraLog:
    """Returns one log of several in one world frame.

    Equal cameras become one. What would have a name that is taken gets a longer one: traversals by their log, cameras and actors by
    their traversal.

    Args:
        logs: In the order of their traversals.
        names: One for each log.
    """
    if len(logs) == 1:
        return logs[0]
    cameras: list[Camera] = []
    traversals, views, sweeps, actors, problems, tokens = [], [], [], [], [], set()
    for log, name in zip(logs, names, strict=True):
        renamed = {t: _free(t, name, traversals) for t in log.traversals}
        traversals.extend(renamed.values())
        rows = [_row_of(camera, cameras, next(iter(renamed.values()))) for camera in log.cameras]
        views += [replace(view, camera=rows[view.camera], traversal=renamed[view.traversal]) for view in log.views]
        sweeps += [replace(sweep, traversal=renamed[sweep.traversal]) for sweep in log.sweeps]
        new = [_renamed(actor, renamed[actor.traversal], tokens) for actor in log.actors]
        tokens.update(actor.token for actor in new)
        actors += new
        problems += [f"{name}: {problem}" for problem in log.problems]
    views.sort(key=lambda view: (traversals.index(view.traversal), view.time_us, view.camera))
    first, licences = logs[0], dict.fromkeys(log.licence for log in logs)
    return CameraLog(
        first.name,
        first.dataset,
        "; ".join(licences),
        tuple(cameras),
        tuple(views),
        tuple(sweeps),
        tuple(actors),
        tuple(traversals),
        tuple(problems),
    )


def _free(name: str, log: str, taken: list[str]) -> str:
    """Returns a traversal's name: its own, else with its log's, else with a number."""
    stem = name[:40]  # so that the number stays when labels are cut
    candidates = [name, f"{stem}-{log}", *(f"{stem}-{n}" for n in range(2, len(taken) + 3))]
    return next(candidate for candidate in map(label, candidates) if candidate not in taken)


def _row_of(camera: Camera, cameras: list[Camera], traversal: str) -> int:
    """Returns the row of a camera, which is added if there is none like it."""
    for row, other in enumerate(cameras):
        if _same(camera, other) and other.name in (camera.name, f"{camera.name}@{traversal}"):
            return row
    if any(camera.name == other.name for other in cameras):
        camera = replace(camera, name=f"{camera.name}@{traversal}")
    cameras.append(camera)
    return len(cameras) - 1


def _same(a: Camera, b: Camera) -> bool:
    shape = (a.height, a.width, a.mask) == (b.height, b.width, b.mask)
    return shape and np.array_equal(a.intrinsics, b.intrinsics) and np.array_equal(a.distortion, b.distortion)


def _renamed(actor: ActorTrack, traversal: str, tokens: set[str]) -> ActorTrack:
    token = actor.token if actor.token not in tokens else f"{actor.token}@{traversal}"
    return replace(actor, token=token, traversal=traversal)
