"""Random numbers that depend on a place only, and smooth noise made of them (numba)."""

from __future__ import annotations

import hashlib

import numpy as np

from worldengine_envs.simulation.kernels import inlined_kernel, kernel


def hash_of(text: str) -> int:
    """Returns a well mixed number in [0, 2^32) that is the same for a text everywhere (SHA-256)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


@inlined_kernel
def hash3(a, b, c):
    """Returns a well mixed uint32 of three integers (the finaliser of MurmurHash3 over their combination)."""
    h = np.uint32(a) * np.uint32(0x9E3779B1) ^ np.uint32(b) * np.uint32(0x85EBCA77) ^ np.uint32(c) * np.uint32(0xC2B2AE3D)
    h = np.uint32(h ^ np.uint32(h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = np.uint32(h ^ np.uint32(np.uint32(h) >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return np.uint32(np.uint32(h) ^ np.uint32(np.uint32(h) >> np.uint32(16)))


@inlined_kernel
def random3(a, b, c):
    """Returns a float64 in [0, 1) that depends on three integers."""
    return hash3(a, b, c) * (1.0 / 4294967296.0)


@kernel
def noise2(x, y, seed):
    """Returns smooth noise in [0, 1] over the plane, one bump a unit."""
    fx, fy = np.floor(x), np.floor(y)
    i, j = np.int64(fx), np.int64(fy)
    u, v = x - fx, y - fy
    u, v = u * u * (3.0 - 2.0 * u), v * v * (3.0 - 2.0 * v)
    low = random3(i, j, seed) * (1.0 - u) + random3(i + 1, j, seed) * u
    high = random3(i, j + 1, seed) * (1.0 - u) + random3(i + 1, j + 1, seed) * u
    return low * (1.0 - v) + high * v


@kernel
def noise3(x, y, z, seed):
    """Returns smooth noise in [0, 1] in space, one bump a unit."""
    fz = np.floor(z)
    k = np.int64(fz)
    w = z - fz
    w = w * w * (3.0 - 2.0 * w)
    return noise2(x, y, hash3(k, seed, 7)) * (1.0 - w) + noise2(x, y, hash3(k + 1, seed, 7)) * w


@inlined_kernel
def smooth(low, high, x):
    """Returns 0 below ``low``, 1 above ``high`` and a smooth step between."""
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)
