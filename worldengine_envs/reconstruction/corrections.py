"""What is learned besides the Gaussians: where cameras and actors really were, and how each image was exposed.

A correction is a small rigid motion, applied in the frame of what is moved (``pose @ motion``): one for each camera of the rig,
one for each training image, one for each actor and training time. What is held out is never asked: its corrections are
interpolated between its neighbours in time, as are those of any other time.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.row_adam import RowAdam
from worldengine_envs.reconstruction.settings import ReconstructionSettings
from worldengine_envs.reconstruction.timeline import Timeline

RATES = {"rig": 2e-4, "cameras": 5e-4, "actors": 1e-3, "exposures": 2e-3}  # Adam's at the most: step of a row that is asked for
FIRST, LAST_RATE = 0.08, 0.02  # share of the iterations before anything is corrected; rate at the end, of that at the most
TURN_M = 5.0  # a turn by 1 rad is worth so many metres: the same step of Adam, the same penalty
SIGMA_M = {"rig": 0.1, "cameras": 0.05, "actors": 0.2}  # how far off logged poses are thought to be
JOLT_M = 0.03  # how far actors are thought to deviate from going on as between the two times before
SIGMA_EXPOSURE = 0.1
PENALTY = 1e-3


class Corrections:
    """Corrections of a camera log's poses and exposures, with their own Adam.

    Args:
        log: What was recorded.
        split: Which of its views may be learned from; ``train`` holds their rows.
        settings: ``corrections`` says what is corrected at all; ``iterations`` how long; ``device`` where images are.

    Attributes:
        parameters: Leaf tensors: "rig" (cameras, 6) and "cameras" (views, 6), float64: translation [m], rotation vector times
            ``TURN_M``; "actors" (actors' training times, 6) likewise; "exposures" (views, 3, 4) float32 on top of the identity.
    """

    def __init__(self, log: CameraLog, split, settings: ReconstructionSettings):
        self.log, self.wanted, self.iterations = log, settings.corrections, settings.iterations
        self.train = np.asarray(split.train, np.int64)
        self.timeline, self.device = Timeline(log.actors), torch.device(settings.device)
        self.neighbours, self.shares = _neighbours(log, self.train)
        self.logged = torch.from_numpy(np.stack([view.camera_to_world for view in log.views]).astype(np.float64))
        self._find_times()
        sizes = {"rig": (len(log.cameras), 6), "cameras": (len(log.views), 6), "actors": (int(self.first[-1]), 6)}
        self.parameters = {name: torch.zeros(size, dtype=torch.float64, requires_grad=True) for name, size in sizes.items()}
        self.parameters["exposures"] = torch.zeros(len(log.views), 3, 4, device=self.device, requires_grad=True)
        self.adam = RowAdam(self.parameters)
        self.asked: dict[str, list[Tensor]] = {name: [] for name in self.parameters}  # rows, since the last step
        self._of_look = torch.from_numpy(np.array([log.traversals.index(log.views[v].traversal) for v in self.train], np.int64))

    def _is_wanted(self, name: str) -> bool:
        return {"exposures": self.wanted.exposures, "actors": self.wanted.actors and len(self.log.actors) > 0}.get(
            name, self.wanted.cameras
        )

    def _find_times(self) -> None:
        """Lays out the table of actors: those of a drive have a row for each training time while they are there."""
        log, timeline = self.log, self.timeline
        seen = {
            name: sorted({log.views[v].time_us for v in self.train if log.views[v].traversal == name}) for name in log.traversals
        }
        self.times = {name: np.array(times, np.int64) for name, times in seen.items()}
        begin, end = np.zeros(len(timeline), np.int64), np.zeros(len(timeline), np.int64)
        for a, actor in enumerate(log.actors):
            times = self.times[actor.traversal]
            if len(times):
                begin[a] = max(np.searchsorted(times, actor.time_us[0], side="right") - 1, 0)
                end[a] = min(np.searchsorted(times, actor.time_us[-1]), len(times) - 1)
        self.begin, self.end = begin, np.maximum(begin, end)  # (actors,) rows of ``times``, the last included
        self.first = np.concatenate([[0], np.cumsum(self.end - self.begin + 1)])  # (actors + 1,) rows of the table
        inner = np.arange(1, max(int(self.first[-1]) - 1, 1))
        inside = np.isin(inner, self.first) | np.isin(inner + 1, self.first)
        self.middles = torch.from_numpy(inner[~inside])  # rows with one before and one after of the same actor

    def world_to_camera(self, view: int) -> Tensor:
        """Returns (4, 4) float64, differentiable: the pose of a view, corrected."""
        pose = self.logged[view]
        if self._is_wanted("cameras"):
            rows, share = self.neighbours[view], self.shares[view]
            self._ask("cameras", rows)
            self._ask("rig", [self.log.views[view].camera])
            cameras, rig = self.parameters["cameras"], self.parameters["rig"]
            delta = cameras[rows[0]] if rows[0] == rows[1] else (1.0 - share) * cameras[rows[0]] + share * cameras[rows[1]]
            pose = pose @ motion(rig[self.log.views[view].camera]) @ motion(delta)
        back = pose[:3, :3].T
        return torch.cat([torch.cat([back, -back @ pose[:3, 3:]], dim=1), torch.eye(4, dtype=torch.float64)[3:]])

    def actor_poses(self, time_us: int, traversal: str) -> tuple[Tensor, Tensor, Tensor]:
        """Returns where all actors are at a time of a drive, differentiable.

        Returns:
            rotation (actors, 3, 3) from the box's frame into the world, centre (actors, 3) [m], float64; there (actors,) bool.
        """
        rotation, centre, present = (torch.from_numpy(array) for array in self.timeline.at(time_us, traversal))
        times = self.times.get(traversal, np.zeros(0, np.int64))
        if len(times) and len(present) and self._is_wanted("actors"):
            after = np.searchsorted(times, time_us)
            before = max(after - 1, 0)
            after = min(after, len(times) - 1)
            share = float(np.clip((time_us - times[before]) / max(times[after] - times[before], 1), 0.0, 1.0))
            low, high = (self.first[:-1] + np.clip(k, self.begin, self.end) - self.begin for k in (before, after))
            self._ask("actors", np.concatenate([low, high])[np.tile(present.numpy(), 2)])
            table = self.parameters["actors"]
            moved = motion((1.0 - share) * table[torch.from_numpy(low)] + share * table[torch.from_numpy(high)])
            centre = centre + (rotation @ moved[:, :3, 3:]).squeeze(-1)
            rotation = rotation @ moved[:, :3, :3]
        return rotation.to(self.device), centre.to(self.device), present.to(self.device)

    def exposed(self, rgb: Tensor, view: int) -> Tensor:
        """Returns (H, W, 3) colours as a view's camera exposed them; over all training images the mean exposure is none."""
        if not self._is_wanted("exposures"):
            return rgb
        table, (low, high), share = self.parameters["exposures"], self.neighbours[view], self.shares[view]
        self._ask("exposures", [low, high])
        look = self.log.traversals.index(self.log.views[view].traversal)
        same = torch.from_numpy(self.train)[self._of_look == look]
        mean = table[same.to(self.device)].mean(0) if len(same) else 0.0  # a drive may have held-out images only
        delta = (1.0 - share) * table[low] + share * table[high] - mean
        turned = torch.eye(3, device=self.device) + delta[:, :3]
        return torch.addmm(delta[:, 3], rgb.reshape(-1, 3), turned.T).reshape(rgb.shape)

    def _ask(self, name: str, rows) -> None:
        if torch.is_grad_enabled():
            self.asked[name].append(torch.as_tensor(np.asarray(rows, np.int64)))

    def _rows(self, name: str) -> Tensor:
        """Returns the rows of a table that were asked for since the last step."""
        asked = self.asked[name] if self._is_wanted(name) else []
        return torch.cat([torch.zeros(0, dtype=torch.int64), *asked]).unique()

    def penalty(self) -> Tensor:
        """Returns what the corrections cost that the image was drawn with: large ones, and actors that jolt."""
        total = torch.zeros((), device=self.device)
        for name, sigma in (SIGMA_M | {"exposures": SIGMA_EXPOSURE}).items():
            rows = self._rows(name)
            squares = (self.parameters[name][rows.to(self.parameters[name].device)] / sigma).square()
            total = total + (squares.sum() / max(squares.numel(), 1)).float().to(self.device)
        middles = self.middles[torch.isin(self.middles, self._rows("actors"))]
        if len(middles):
            table = self.parameters["actors"]
            jolts = table[middles - 1] - 2.0 * table[middles] + table[middles + 1]
            total = total + (jolts / JOLT_M).square().mean().float().to(self.device)
        return PENALTY * total

    def step(self, iteration: int) -> None:
        """Moves the corrections that were asked for along their gradients; at first they stand still."""
        share = iteration / self.iterations
        for name, tensor in self.parameters.items():
            if share >= FIRST:
                self.adam.step(name, self._rows(name).to(tensor.device), RATES[name] * LAST_RATE**share)
            tensor.grad = None
            self.asked[name] = []

    def tensors(self) -> dict[str, Tensor]:
        """Returns what has to be kept to go on."""
        found = {f"table.{name}": tensor.detach() for name, tensor in self.parameters.items()}
        return found | {f"adam.{name}": tensor for name, tensor in self.adam.tensors().items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Goes on from what ``tensors`` gave."""
        with torch.no_grad():
            for name, tensor in self.parameters.items():
                tensor.copy_(tensors[f"table.{name}"])
        self.adam.restore({name.removeprefix("adam."): tensor for name, tensor in tensors.items() if name.startswith("adam.")})


def motion(delta: Tensor) -> Tensor:
    """Returns (..., 4, 4) rigid motions of (..., 6): translation [m] and rotation vector times ``TURN_M`` (Rodrigues' formula)."""
    v = delta[..., 3:] / TURN_M
    angle = (v.square().sum(-1) + 1e-24).sqrt()[..., None, None]
    zero = torch.zeros_like(v[..., 0])
    x, y, z = v.unbind(-1)
    k = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(*v.shape[:-1], 3, 3)
    eye = torch.eye(3, dtype=delta.dtype, device=delta.device)
    rotation = eye + torch.sinc(angle / torch.pi) * k + 0.5 * torch.sinc(angle / (2.0 * torch.pi)) ** 2 * (k @ k)
    top = torch.cat([rotation, delta[..., :3, None]], dim=-1)
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=delta.dtype, device=delta.device).expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, bottom], dim=-2)


def _neighbours(log: CameraLog, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (views, 2) rows of the training views of the same camera and drive before and after, and the share of the latter."""
    rows, shares = np.tile(np.arange(len(log.views))[:, None], (1, 2)), np.zeros(len(log.views))
    trained = np.zeros(len(log.views), bool)
    trained[train] = True
    groups: dict[tuple[int, str], list[int]] = {}
    for v, view in enumerate(log.views):
        groups.setdefault((view.camera, view.traversal), []).append(v)
    for members in groups.values():
        times = np.array([log.views[v].time_us for v in members], np.int64)
        known = np.flatnonzero(trained[members])
        known = known[np.argsort(times[known], kind="stable")]
        if not len(known):
            continue  # a camera without training images: no correction is known
        for k, v in enumerate(members):
            if not trained[v]:
                after = np.searchsorted(times[known], times[k])
                low, high = known[max(after - 1, 0)], known[min(after, len(known) - 1)]
                rows[v] = members[low], members[high]
                shares[v] = np.clip((times[k] - times[low]) / max(times[high] - times[low], 1), 0.0, 1.0)
    return rows, shares
