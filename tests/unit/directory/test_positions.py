"""Coordinates against Lantmäteriet's published formula for RT90 (Gauss' conformal projection, fitted to SWEREF 99)."""

from __future__ import annotations

from math import atan, atanh, cos, cosh, radians, sin, sinh, sqrt, tan

import pytest

from services.directory import positions
from services.directory.parsing import Rt90


def rt90_of(latitude: float, longitude: float) -> tuple[float, float]:
    """From degrees in SWEREF 99 to RT90 2.5 gon V, by the direct projection on GRS 80; good to some decimetres."""
    axis, flattening = 6_378_137.0, 1 / 298.257222101
    centre, scale, false_n, false_e = 15 + 48 / 60 + 22.624306 / 3600, 1.00000561024, -667.711, 1_500_064.274
    e2 = flattening * (2 - flattening)
    n = flattening / (2 - flattening)
    rectifying = axis / (1 + n) * (1 + n**2 / 4 + n**4 / 64)
    a, b = e2, (5 * e2**2 - e2**3) / 6
    c, d = (104 * e2**3 - 45 * e2**4) / 120, 1237 * e2**4 / 1260
    phi, delta = radians(latitude), radians(longitude - centre)
    conformal = phi - sin(phi) * cos(phi) * (a + b * sin(phi) ** 2 + c * sin(phi) ** 4 + d * sin(phi) ** 6)
    xi, eta = atan(tan(conformal) / cos(delta)), atanh(cos(conformal) * sin(delta))
    betas = (
        n / 2 - 2 * n**2 / 3 + 5 * n**3 / 16 + 41 * n**4 / 180,
        13 * n**2 / 48 - 3 * n**3 / 5 + 557 * n**4 / 1440,
        61 * n**3 / 240 - 103 * n**4 / 140,
        49561 * n**4 / 161280,
    )
    north = xi + sum(beta * sin(2 * k * xi) * cosh(2 * k * eta) for k, beta in enumerate(betas, 1))
    east = eta + sum(beta * cos(2 * k * xi) * sinh(2 * k * eta) for k, beta in enumerate(betas, 1))
    return scale * rectifying * north + false_n, scale * rectifying * east + false_e


@pytest.mark.parametrize(
    "point",
    [Rt90(6407478, 1268655), Rt90(6580822, 1628283), Rt90(6167000, 1323000), Rt90(7536000, 1686000)],
    ids=["Göteborg", "Stockholm", "Malmö", "Kiruna"],
)
def test_rt90_to_wgs84_within_two_metres(point):
    position = positions.of(point)
    north, east = rt90_of(position.latitude, position.longitude)
    assert sqrt((north - point.x) ** 2 + (east - point.y) ** 2) < 2


def test_sweref_and_wgs84_are_the_same_point():
    position = positions.of(Rt90(6407478, 1268655))
    assert (round(position.latitude, 3), round(position.longitude, 3)) == (57.732, 11.921)
    assert 6_390_000 < position.sweref99_n < 6_410_000
    assert 310_000 < position.sweref99_e < 325_000
