"""Points on the map: RT90 2.5 gon V, as the directories have them, to SWEREF 99 TM and WGS 84."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from pyproj import Transformer

from services.directory.parsing import Rt90

_RT90, _SWEREF99_TM, _WGS84 = "EPSG:3021", "EPSG:3006", "EPSG:4326"


@dataclass(frozen=True, slots=True)
class Position:
    """Metres to the north and to the east in SWEREF 99 TM, to the decimetre; degrees in WGS 84, to the same."""

    sweref99_n: float
    sweref99_e: float
    latitude: float
    longitude: float


def of(point: Rt90) -> Position:
    """The same point; good to about a metre, which is what RT90 itself is worth."""
    north, east = _to(_SWEREF99_TM).transform(point.x, point.y)
    latitude, longitude = _to(_WGS84).transform(point.x, point.y)
    return Position(round(north, 1), round(east, 1), round(latitude, 6), round(longitude, 6))


@cache
def _to(system: str) -> Transformer:
    # Without looking for grids on the network: the same answer everywhere.
    return Transformer.from_crs(_RT90, system, allow_ballpark=False)
