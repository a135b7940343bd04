"""Actors' Gaussians from their boxes into the world, and gradients back; compiled, since there are many and it is done always."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from worldengine_envs.simulation.kernels import inlined_kernel, kernel


def place(
    means: Tensor,
    quats: Tensor,
    opacities: Tensor,
    rows: Tensor,
    actor: Tensor,
    rotation: Tensor,
    quat: Tensor,
    translation: Tensor,
    present: Tensor,
    hidden: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns means, quats and opacities of all Gaussians with those of actors moved to where their boxes are.

    Differentiable by the tables, ``rotation`` (through the means alone) and ``translation``. CPU only.

    Args:
        means, quats, opacities: (N, 3), (N, 4), (N,) float32.
        rows: (M,) int64 of those of actors.
        actor: (M,) int64 whose.
        rotation: (actors, 3, 3) from the box's frame into the world.
        quat: (actors, 4) float64 the same, w, x, y, z.
        translation: (actors, 3) [m].
        present: (actors,) bool.
        hidden: Opacity of those who are not there, a logit.
    """
    return _Place.apply(means, quats, opacities, rotation, translation, rows, actor, quat, present, hidden)


class _Place(torch.autograd.Function):
    @staticmethod
    def forward(ctx, means, quats, opacities, rotation, translation, rows, actor, quat, present, hidden):
        stands = tuple(array.detach().double().contiguous().numpy() for array in (rotation, quat, translation))
        stands += (present.numpy(), rows.numpy(), actor.numpy())
        placed = tuple(table.detach().clone(memory_format=torch.contiguous_format) for table in (means, quats, opacities))
        _place(*stands, np.float32(hidden), *(table.numpy() for table in placed))
        ctx.save_for_backward(means)
        ctx.stands, ctx.dtypes = stands, (rotation.dtype, translation.dtype)
        return placed

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_means, v_quats, v_opacities):
        (means,), actors = ctx.saved_tensors, len(ctx.stands[0])
        gradients = tuple(v.clone(memory_format=torch.contiguous_format) for v in (v_means, v_quats, v_opacities))
        v_rotation, v_translation = np.zeros((actors, 3, 3)), np.zeros((actors, 3))
        arrays = (means.detach().contiguous().numpy(), *(v.numpy() for v in gradients), v_rotation, v_translation)
        _take_back(*ctx.stands, *arrays)
        stands = (torch.from_numpy(v).to(dtype) for v, dtype in zip((v_rotation, v_translation), ctx.dtypes, strict=True))
        return *gradients, *stands, *[None] * 5


@kernel
def _place(rotation, quat, translation, present, rows, actor, hidden, means, quats, opacities):
    """Moves rows of the tables in place."""
    for i in range(len(rows)):
        g, a = rows[i], actor[i]
        x, y, z = np.float64(means[g, 0]), np.float64(means[g, 1]), np.float64(means[g, 2])
        for k in range(3):
            means[g, k] = rotation[a, k, 0] * x + rotation[a, k, 1] * y + rotation[a, k, 2] * z + translation[a, k]
        _turn(quat[a, 0], quat[a, 1], quat[a, 2], quat[a, 3], quats[g])
        if not present[a]:
            opacities[g] = hidden


@kernel
def _take_back(rotation, quat, translation, present, rows, actor, means, v_means, v_quats, v_opacities, v_rotation, v_translation):
    """Turns rows of gradients in the world into those in the boxes' frames, in place, and adds up those of the boxes."""
    for i in range(len(rows)):
        g, a = rows[i], actor[i]
        if not present[a]:
            v_means[g], v_quats[g], v_opacities[g] = 0.0, 0.0, 0.0
            continue
        v0, v1, v2 = np.float64(v_means[g, 0]), np.float64(v_means[g, 1]), np.float64(v_means[g, 2])
        for k in range(3):
            v_rotation[a, 0, k] += v0 * means[g, k]
            v_rotation[a, 1, k] += v1 * means[g, k]
            v_rotation[a, 2, k] += v2 * means[g, k]
            v_means[g, k] = rotation[a, 0, k] * v0 + rotation[a, 1, k] * v1 + rotation[a, 2, k] * v2
        v_translation[a, 0] += v0
        v_translation[a, 1] += v1
        v_translation[a, 2] += v2
        _turn(quat[a, 0], -quat[a, 1], -quat[a, 2], -quat[a, 3], v_quats[g])  # the transposed matrix of a product


@inlined_kernel
def _turn(w, x, y, z, q):
    """Multiplies a quaternion in place, from the left."""
    a, b, c, d = np.float64(q[0]), np.float64(q[1]), np.float64(q[2]), np.float64(q[3])
    q[0] = w * a - x * b - y * c - z * d
    q[1] = w * b + x * a + y * d - z * c
    q[2] = w * c - x * d + y * a + z * b
    q[3] = w * d + x * c - y * b + z * a
