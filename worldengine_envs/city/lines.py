"""Lines on the ground: reference lines of roads, their offsets, connectors, and paths that vehicles follow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from worldengine_envs.city.exact import arctan2, interpolate, sin_cos, turn_of

_GAUSS = ((0.1127016653792583, 5 / 18), (0.5, 8 / 18), (0.8872983346207417, 5 / 18))  # nodes, weights on [0, 1]


@dataclass(frozen=True)
class Line:
    """A sampled smooth curve. All arrays are (points,): arclength s [m], x, y [m], yaw [rad] (continuous), curvature [1/m]."""

    s: np.ndarray
    x: np.ndarray
    y: np.ndarray
    yaw: np.ndarray
    curvature: np.ndarray
    sine: np.ndarray  # of the yaw
    cosine: np.ndarray

    @cached_property
    def table(self) -> np.ndarray:
        """(7, points) all columns, in the order of the fields."""
        table = np.empty((7, len(self.s)))
        table[0], table[1], table[2], table[3], table[4] = self.s, self.x, self.y, self.yaw, self.curvature
        table[5], table[6] = self.sine, self.cosine
        return table

    @property
    def length(self) -> float:
        return float(self.s[-1])

    @property
    def xy(self) -> np.ndarray:
        """(points, 2) x, y [m]."""
        xy = np.empty((len(self.s), 2))
        xy[:, 0], xy[:, 1] = self.x, self.y
        return xy

    def ends(self) -> Line:
        """Returns the line through the first and the last point."""
        return Line(*(np.array((a[0], a[-1])) for a in (self.s, self.x, self.y, self.yaw, self.curvature, self.sine, self.cosine)))

    def shifted(self, left: float) -> np.ndarray:
        """Returns (points, 2) x, y [m] of the points moved to the left of the line by ``left`` [m]."""
        xy = np.empty((len(self.s), 2))
        xy[:, 0], xy[:, 1] = self.x - left * self.sine, self.y + left * self.cosine
        return xy

    def offset(self, left: float) -> Line:
        """Returns the parallel curve ``left`` metres to the left; lengths are exact on lines and arcs."""
        xy = self.shifted(left)
        stretch = (self.s[1:] - self.s[:-1]) * (1.0 - 0.5 * left * (self.curvature[1:] + self.curvature[:-1]))
        s = np.zeros(len(self.s))
        np.cumsum(stretch, out=s[1:])
        curvature = self.curvature / (1.0 - self.curvature * left)
        return Line(s, xy[:, 0], xy[:, 1], self.yaw, curvature, self.sine, self.cosine)

    def reversed(self) -> Line:
        """Returns the same curve driven the other way."""
        s, yaw = self.length - self.s[::-1], self.yaw[::-1] + 3.141592653589793
        return Line(s, self.x[::-1], self.y[::-1], yaw, -self.curvature[::-1], -self.sine[::-1], -self.cosine[::-1])

    def at(self, s) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Returns (x, y, yaw, curvature) at arclengths s of any shape: cubic Hermite positions, straight on past both ends."""
        s = np.asarray(s, dtype=np.float64)
        i = np.clip(np.searchsorted(self.s, s, side="right") - 1, 0, len(self.s) - 2)
        step = self.s[i + 1] - self.s[i]
        beyond = np.minimum(s - self.s[0], 0.0) + np.maximum(s - self.s[-1], 0.0)
        u = (s - self.s[i] - beyond) / step
        sine, cosine = self.sine, self.cosine
        h01 = u * u * (3.0 - 2.0 * u)
        h10, h11 = u * (1.0 - u) * (1.0 - u) * step, u * u * (u - 1.0) * step
        end = np.where(beyond < 0, 0, len(self.s) - 1)
        x = self.x[i] + h01 * (self.x[i + 1] - self.x[i]) + h10 * cosine[i] + h11 * cosine[i + 1] + beyond * cosine[end]
        y = self.y[i] + h01 * (self.y[i + 1] - self.y[i]) + h10 * sine[i] + h11 * sine[i + 1] + beyond * sine[end]
        yaw = self.yaw[i] + u * (self.yaw[i + 1] - self.yaw[i])
        curvature = np.where(beyond == 0.0, self.curvature[i] + u * (self.curvature[i + 1] - self.curvature[i]), 0.0)
        return x, y, yaw, curvature


def curvature_line(x: float, y: float, yaw: float, knots: np.ndarray, curvature: np.ndarray, spacing: float = 2.0) -> Line:
    """Returns the line whose curvature [1/m] is linear between arclength knots [m]: straights, arcs and clothoids.

    Yaw is the exact integral; positions are integrated by Gauss's three-point rule on steps of at most ``spacing`` [m].
    """
    knots, curvature = np.asarray(knots, dtype=np.float64), np.asarray(curvature, dtype=np.float64)
    pieces = []
    for start, end, k0, k1 in zip(knots[:-1], knots[1:], curvature[:-1], curvature[1:], strict=True):
        step = spacing if k0 != 0.0 or k1 != 0.0 else 5.0 * spacing
        count = max(1, int(np.ceil((end - start) / step - 1e-9)))
        pieces.append(start + (end - start) * (np.arange(count) / count))
    s = np.concatenate((*pieces, knots[-1:]))
    kappa = interpolate(s, knots, curvature)
    step, slope = np.diff(s), np.diff(kappa)
    turned = 0.5 * (kappa[1:] + kappa[:-1]) * step
    heading = yaw + np.concatenate(([0.0], np.cumsum(turned)))
    dx, dy = np.zeros(len(step)), np.zeros(len(step))
    for node, weight in _GAUSS:
        sine, cosine = sin_cos(heading[:-1] + step * node * (kappa[:-1] + 0.5 * node * slope))
        dx, dy = dx + weight * cosine, dy + weight * sine
    px, py = x + np.concatenate(([0.0], np.cumsum(step * dx))), y + np.concatenate(([0.0], np.cumsum(step * dy)))
    return Line(s, px, py, heading, kappa, *sin_cos(heading))


def straight_line(x: float, y: float, yaw: float, length: float, spacing: float = 10.0) -> Line:
    """Returns a straight line of this length [m]."""
    sine, cosine = turn_of(yaw)
    count = max(1, int(np.ceil(length / spacing)))
    s = length * (np.arange(count + 1) / count)
    one = np.ones(count + 1)
    return Line(s, x + s * cosine, y + s * sine, yaw * one, 0.0 * one, sine * one, cosine * one)


def connectors(start: np.ndarray, end: np.ndarray, bends=None, pulls=None, points: int = 17) -> list[Line]:
    """Returns smooth curves that join poses: quintic Hermite curves.

    Args:
        start: (lines, 3) x, y [m], yaw [rad] where each begins.
        end: (lines, 3) where each ends.
        bends: (lines, 2) curvature at both ends [1/m], 0 where None.
        pulls: (lines, 2) how far the directions at both ends reach into the curve, 1 where None.
        points: Points a line.
    """
    u = np.arange(points) / (points - 1)
    u2, u3 = u * u, u * u * u
    h = u3 * (10.0 + u * (6.0 * u - 15.0))
    h0, h1 = u - u3 * (6.0 + u * (3.0 * u - 8.0)), -u3 * (4.0 + u * (3.0 * u - 7.0))
    dh = 30.0 * u2 * (1.0 - u) * (1.0 - u)
    dh0, dh1 = 1.0 - u2 * (18.0 + u * (15.0 * u - 32.0)), -u2 * (12.0 + u * (15.0 * u - 28.0))
    ddh = 60.0 * u * (1.0 - u) * (1.0 - 2.0 * u)
    ddh0, ddh1 = -u * (36.0 + u * (60.0 * u - 96.0)), -u * (24.0 + u * (60.0 * u - 84.0))
    k0, k1 = 0.5 * u2 * (1.0 - u) * (1.0 - u) * (1.0 - u), 0.5 * u3 * (1.0 - u) * (1.0 - u)
    dk0, dk1 = u * (1.0 + u * (-4.5 + u * (6.0 - 2.5 * u))), u2 * (1.5 + u * (2.5 * u - 4.0))
    ddk0, ddk1 = 1.0 + u * (-9.0 + u * (18.0 - 10.0 * u)), u * (3.0 + u * (10.0 * u - 12.0))
    gap = end[:, :2] - start[:, :2]
    chord = np.sqrt(gap[:, 0] * gap[:, 0] + gap[:, 1] * gap[:, 1])
    turn = end[:, 2] - start[:, 2]
    turn = np.abs(turn - 6.283185307179586 * np.rint(turn / 6.283185307179586))
    speed = (chord * (1.0 + 0.22 * turn))[:, None]  # about the length of the curve, so that points lie evenly
    bends, pulls = (np.full((len(start), 2), k) if a is None else a for a, k in ((bends, 0.0), (pulls, 1.0)))
    speed0, speed1 = speed * pulls[:, :1], speed * pulls[:, 1:]
    sine, cosine = sin_cos(np.stack((start[:, 2], end[:, 2])))
    (sin0, sin1), (cos0, cos1) = sine, cosine
    force0, force1 = bends[:, :1] * speed0 * speed0, bends[:, 1:] * speed1 * speed1
    curve = []
    columns = ((gap[:, 0], cos0, cos1, -sin0, -sin1, start[:, 0]), (gap[:, 1], sin0, sin1, cos0, cos1, start[:, 1]))
    for gap_k, t0, t1, n0, n1, p0 in columns:
        t0, t1, gap_k = t0[:, None] * speed0, t1[:, None] * speed1, gap_k[:, None]
        n0, n1 = n0[:, None] * force0, n1[:, None] * force1
        p = p0[:, None] + gap_k * h + t0 * h0 + t1 * h1 + n0 * k0 + n1 * k1
        dp = gap_k * dh + t0 * dh0 + t1 * dh1 + n0 * dk0 + n1 * dk1
        curve.append((p, dp, gap_k * ddh + t0 * ddh0 + t1 * ddh1 + n0 * ddk0 + n1 * ddk1))
    (x, dx, ddx), (y, dy, ddy) = curve
    rate = np.sqrt(dx * dx + dy * dy)
    relative = arctan2(cos0[:, None] * dy - sin0[:, None] * dx, cos0[:, None] * dx + sin0[:, None] * dy)
    yaw = start[:, 2:] + relative
    curvature = (dx * ddy - dy * ddx) / (rate * rate * rate)
    step = (0.5 / (points - 1)) * (rate[:, 1:] + rate[:, :-1])
    s = np.concatenate((np.zeros((len(start), 1)), np.cumsum(step, axis=1)), axis=1)
    return [Line(s[i], x[i], y[i], yaw[i], curvature[i], dy[i] / rate[i], dx[i] / rate[i]) for i in range(len(start))]


def join(lines: list[Line]) -> Line:
    """Returns one line through lines that follow each other end to start."""
    table = np.concatenate([lines[0].table, *(line.table[:, 1:] for line in lines[1:])], axis=1)
    end = len(lines[0].s)
    for line in lines[1:]:
        part = table[:, end : end + len(line.s) - 1]
        part[0] += table[0, end - 1]
        part[3] += 6.283185307179586 * np.rint((table[3, end - 1] - line.yaw[0]) / 6.283185307179586)
        end += len(line.s) - 1
    return Line(*table)
