"""The Gaussians that are learned: one flat table, in which each belongs to the background, the sky or an actor."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldengine_envs.reconstruction.placing import place
from worldengine_envs.rendering.frames import RenderSettings

BACKGROUND, SKY, FIRST_ACTOR = 0, 1, 2  # values of ``SceneGraph.node``; actor a is FIRST_ACTOR + a
SHADOW_REACH = 1.35  # of an actor's shadow: its length and width over the box's
INVISIBLE = -30.0  # logit of the opacity of those who are not there
NEAR_M = 0.2  # nothing so near to a camera is drawn


class Moment(NamedTuple):
    """Where actors stand, and how everything looks."""

    rotation: Tensor  # (actors, 3, 3) from the box's frame into the world
    translation: Tensor  # (actors, 3) box centre [m]
    present: Tensor  # (actors,) bool
    traversal: int  # row of ``CameraLog.traversals``


class SceneGraph:
    """N Gaussians as tables that an optimiser learns.

    Attributes:
        parameters: Leaf tensors whose first dimension is N: ``means`` (N, 3) [m] in the node's frame, ``quats`` (N, 4), ``scales``
            (N, 3) logarithms, ``opacities`` (N,) logits, ``dc`` (N, 1, 3), ``rest`` (N, K - 1, 3) spherical harmonics and, where
            there are several traversals, ``looks`` (N, T, 3): what is added to ``dc`` in each.
        node: (N,) int64 BACKGROUND, SKY or FIRST_ACTOR + row of the actor.
        tone: (T, 3, 4) leaf tensor: how each traversal colours everything, before ``looks``; the first is the identity.
        sizes: (actors, 3) length, width, height of the boxes [m].
        degree: Of the spherical harmonics that are in use so far.
    """

    def __init__(self, parameters: dict[str, Tensor], node: Tensor, sizes: Tensor, traversals: int, degree: int = 0):
        self.parameters = {name: tensor.detach().requires_grad_() for name, tensor in parameters.items()}
        self.node, self.sizes, self.degree = node, sizes, degree
        self.tone = torch.eye(3, 4, device=node.device).repeat(traversals, 1, 1).requires_grad_()
        self._find_actors()

    def __len__(self) -> int:
        return len(self.node)

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return self.node.device

    def take(self, rows: Tensor) -> None:
        """Makes the Gaussians the ones in ``rows`` (M,), in this order; a row may come twice."""
        for name, tensor in self.parameters.items():
            self.parameters[name] = tensor.detach()[rows].requires_grad_()
        self.node = self.node[rows]
        self._find_actors()

    def _find_actors(self) -> None:
        self.plain = self.node >= FIRST_ACTOR  # (N,) who looks the same from everywhere
        self.actor_rows = torch.nonzero(self.plain).flatten()
        self.actors = self.node[self.actor_rows] - FIRST_ACTOR  # whose they are

    def dc_of(self, traversal: int) -> Tensor:
        """Returns (N, 1, 3) spherical harmonics of degree 0 as they are in a traversal."""
        dc = self.parameters["dc"]
        if "looks" not in self.parameters:
            return dc
        toned = dc if traversal == 0 else dc @ self.tone[traversal, :, :3].T + self.tone[traversal, :, 3]
        return toned + self.parameters["looks"][:, traversal, None]

    def world(self, moment: Moment) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Returns means, quats, scales, opacities and the first harmonics (N, 1, 3) of all Gaussians in the world."""
        means, quats, scales, opacities = (self.parameters[name] for name in ("means", "quats", "scales", "opacities"))
        rows = self.actor_rows
        if len(rows) and self.device.type == "cpu":
            quat, stands = quats_of(moment.rotation.detach()), (moment.translation, moment.present, INVISIBLE)
            means, quats, opacities = place(means, quats, opacities, rows, self.actors, moment.rotation, quat, *stands)
        elif len(rows):
            actor, rotation = self.actors, moment.rotation.to(means)
            moved = (rotation[actor] @ means[rows, :, None]).squeeze(-1) + moment.translation.to(means)[actor]
            turned = multiply(quats_of(rotation.detach())[actor], quats[rows])
            hidden = torch.full_like(opacities[rows], INVISIBLE)
            means, quats = means.index_copy(0, rows, moved), quats.index_copy(0, rows, turned)
            opacities = opacities.index_copy(0, rows, torch.where(moment.present[actor], opacities[rows], hidden))
        return means, quats, scales, opacities, self.dc_of(moment.traversal)

    def render(self, moment: Moment, world_to_camera: Tensor, intrinsics: Tensor, width: int, height: int, statistics=None):
        """Returns the ``Rendering`` of C cameras, differentiable by tables, poses of cameras and of actors.

        What turns with an actor has no direction in the world: actors look the same from everywhere.

        Args:
            moment: Where actors stand.
            world_to_camera: (C, 4, 4)
            intrinsics: (C, 4) fx, fy, cx, cy [px].
            width: [px]
            height: [px]
            statistics: ``ScreenStatistics`` to fill, if given; on the CPU only.
        """
        *tables, first = self.world(moment)
        camera, rest = (world_to_camera, intrinsics, width, height, RenderSettings(near=NEAR_M)), self.parameters["rest"]
        if self.device.type == "cpu":
            from worldengine_envs.rendering.differentiable import Directional, rasterise

            return rasterise(*tables, first, *camera, statistics, Directional(rest, self.degree, self.plain))
        from worldengine_envs.rendering.gsplat_renderer import rasterise

        rest = rest[:, : (self.degree + 1) ** 2 - 1]
        if len(self.actor_rows):
            rest = rest.index_fill(0, self.actor_rows, 0.0)
        return rasterise(*tables, torch.cat([first, rest], dim=1), *camera)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Returns (..., 4) products of quaternions w, x, y, z: first b, then a."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        dim=-1,
    )


def quats_of(rotation: Tensor) -> Tensor:
    """Returns (..., 4) quaternions w, x, y, z of rotation matrices (..., 3, 3): the eigenvector of Bar-Itzhack's matrix (2000)."""
    m = rotation.double().cpu().numpy()
    both, turn = m + m.swapaxes(-1, -2), m - m.swapaxes(-1, -2)
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    k = np.zeros((*m.shape[:-2], 4, 4))  # its lower half
    k[..., 0, 0], k[..., 1, 1], k[..., 2, 2], k[..., 3, 3] = xx + yy + zz, xx - yy - zz, yy - xx - zz, zz - xx - yy
    k[..., 1, 0], k[..., 2, 0], k[..., 3, 0] = turn[..., 2, 1], turn[..., 0, 2], turn[..., 1, 0]
    k[..., 2, 1], k[..., 3, 1], k[..., 3, 2] = both[..., 1, 0], both[..., 0, 2], both[..., 2, 1]
    return torch.from_numpy(np.linalg.eigh(k)[1][..., -1]).to(rotation)
