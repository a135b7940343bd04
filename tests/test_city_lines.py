"""Portable arithmetic and lines of the city against numpy and closed forms."""

import numpy as np
import pytest

from worldengine_envs.city import exact, placing
from worldengine_envs.city.lines import connectors, curvature_line, join, straight_line


def test_functions_agree_with_numpy():
    angle = np.linspace(-40.0, 40.0, 20001)
    sine, cosine = exact.sin_cos(angle)
    assert np.abs(sine - np.sin(angle)).max() < 3e-16 and np.abs(cosine - np.cos(angle)).max() < 3e-16
    slope = np.concatenate((-np.logspace(-9, 9, 500), [0.0], np.logspace(-9, 9, 500)))
    assert np.abs(exact.arctan(slope) - np.arctan(slope)).max() < 2e-15
    theta = np.linspace(-3.14159, 3.14159, 2001)
    assert np.abs(exact.arctan2(3 * np.sin(theta), 3 * np.cos(theta)) - theta).max() < 3e-15
    x = np.linspace(-1.0, 6.0, 200)
    xp, fp = np.array([0.0, 1.0, 1.5, 5.0]), np.array([2.0, -1.0, 4.0, 4.5])
    np.testing.assert_allclose(exact.interpolate(x, xp, fp), np.interp(x, xp, fp), atol=1e-15)


def test_plain_array_and_compiled_functions_give_the_same_bits():
    angles = np.linspace(-9.0, 9.0, 301)
    sine, cosine = exact.sin_cos(angles)
    for angle, s, c in zip(angles.tolist(), sine.tolist(), cosine.tolist(), strict=True):
        assert exact.turn_of(angle) == (s, c) == placing._turn(angle)
        assert placing._arctan(angle) == float(exact.arctan(angle))


def test_draws_are_those_of_every_python():
    draw = exact.Draw("cut_in", 3, 0)
    # written down once; Python promises this sequence for a string seed
    assert [round(draw.uniform(0.0, 1.0), 12) for _ in range(3)] == [0.166903062546, 0.726007010669, 0.095574484694]
    assert {exact.Draw("a", i).integer(2, 4) for i in range(40)} == {2, 3, 4}


@pytest.mark.parametrize("radius", [-150.0, 60.0, 220.0])
def test_arcs_and_their_offsets_have_closed_forms(radius):
    length, left = 80.0, 1.75
    line = curvature_line(3.0, -2.0, 0.4, [0.0, length], [1 / radius, 1 / radius])
    for curve, r in ((line, radius), (line.offset(left), radius - left)):
        centre = np.array([3.0, -2.0]) + radius * np.array([-np.sin(0.4), np.cos(0.4)])
        np.testing.assert_allclose(np.hypot(*(curve.xy - centre).T), abs(r), atol=1e-9)
        assert curve.length == pytest.approx(length * r / radius, abs=1e-9)
        np.testing.assert_allclose(curve.curvature, 1 / r, atol=1e-12)
        s = np.linspace(0.0, curve.length, 173)
        x, y, yaw, _ = curve.at(s)
        np.testing.assert_allclose(yaw, 0.4 + s / r, atol=1e-9)
        np.testing.assert_allclose(np.hypot(x - centre[0], y - centre[1]), abs(r), atol=1e-6)


def test_clothoid_agrees_with_fine_integration():
    line = curvature_line(0.0, 0.0, 0.0, [0.0, 30.0], [0.0, 0.02])
    s = np.linspace(0.0, 30.0, 300001)
    yaw = 0.5 * 0.02 / 30.0 * s * s
    assert line.yaw[-1] == pytest.approx(0.3, abs=1e-14)
    assert line.x[-1] == pytest.approx(np.trapezoid(np.cos(yaw), s), abs=1e-8)
    assert line.y[-1] == pytest.approx(np.trapezoid(np.sin(yaw), s), abs=1e-8)


def test_connectors_meet_both_poses_without_curvature():
    start = np.array([[0.0, 0.0, 0.0], [5.0, 1.0, 1.0], [0.0, 0.0, 0.3]])
    end = np.array([[14.0, 13.0, np.pi / 2], [30.0, 20.0, 1.0], [9.0, -12.0, 0.3 - np.pi / 2]])
    for a, b, line in zip(start, end, connectors(start, end), strict=True):
        np.testing.assert_allclose((line.x[0], line.y[0], line.yaw[0]), a, atol=1e-12)
        np.testing.assert_allclose((line.x[-1], line.y[-1], line.yaw[-1]), b, atol=1e-9)
        np.testing.assert_allclose(line.curvature[[0, -1]], 0.0, atol=1e-9)
        chords = np.hypot(*np.diff(line.xy, axis=0).T).sum()
        assert line.length == pytest.approx(chords, rel=0.01)


def test_joined_reversed_and_extended_lines():
    a = straight_line(0.0, 0.0, 0.0, 25.0)
    b = curvature_line(25.0, 0.0, 2 * np.pi, [0.0, 40.0], [0.01, 0.01])
    line = join([a, b])
    assert line.length == pytest.approx(65.0) and np.abs(np.diff(line.yaw)).max() < 0.03
    x, y, yaw, curvature = line.at(np.array([-10.0, 75.0]))
    np.testing.assert_allclose((x[0], y[0], yaw[0]), (-10.0, 0.0, 0.0), atol=1e-12)
    end = np.array([line.x[-1], line.y[-1]]) + 10.0 * np.array([np.cos(0.4), np.sin(0.4)])
    np.testing.assert_allclose((x[1], y[1]), end, atol=1e-9)
    assert not curvature.any()
    back = line.reversed()
    np.testing.assert_allclose(back.at(12.0)[:2], line.at(line.length - 12.0)[:2], atol=1e-9)
    np.testing.assert_allclose(np.cos(back.yaw), -np.cos(line.yaw[::-1]), atol=1e-12)
