"""HSA's unit file (`FileGetHsaUnitsResponse`), streamed: one unit in memory at a time, whatever the file's size.

Nothing in it is trusted: a document type, and with it every entity of its own, is refused before the first unit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from lxml import etree

from services.directory.records import Raw
from services.directory.sources import Catalogue, SourceError, places
from services.directory.sources.hsa import stamp
from services.directory.sources.places import Access

NAMESPACE = "urn:riv:hsa:HsaWsResponder:3"
_ROOT, _UNITS, _UNIT = (f"{{{NAMESPACE}}}{name}" for name in ("FileGetHsaUnitsResponse", "hsaUnits", "hsaUnit"))
_YES = ("true", "1")


@dataclass(frozen=True)
class HsaFile:
    """The file, at a path or an https address; several are one catalogue."""

    unit_places: tuple[str, ...]
    access: Access = places.PLAIN
    name: str = "hsa_file"

    @property
    def has_units(self) -> bool:
        return bool(self.unit_places)

    @property
    def has_staff(self) -> bool:
        return False

    def units(self, folder: Path, state: dict[str, Any] | None) -> Catalogue | None:
        """Units that are not archived. None: the same as last time. Raises `SourceError`."""
        read = places.read_all(self.unit_places, self.access, folder, state)
        if read is None:
            return None

        def each() -> Iterator[Raw | None]:
            for one in read:
                yield from records(one.path)

        return Catalogue(places.state_of(read), each)

    def staff(self, folder: Path, state: dict[str, Any] | None) -> NoReturn:
        """It has none."""
        raise SourceError("no_staff_here")


def records(path: Path) -> Iterator[Raw | None]:
    """The units of a file. Raises `SourceError` with `empty`, `not_xml`, `document_type`, `not_a_unit_file` or
    `no_records`."""
    if path.stat().st_size == 0:
        raise SourceError("empty")
    found = False
    with path.open("rb") as file:
        reading = etree.iterparse(
            file,
            events=("start", "end"),
            remove_comments=True,
            remove_pis=True,
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=False,
        )
        try:
            _, root = next(reading)
            if root.getroottree().docinfo.doctype:
                raise SourceError("document_type")
            if root.tag != _ROOT:
                raise SourceError("not_a_unit_file")
            unit: Any = None
            for event, element in reading:
                if event == "start":
                    parent = element.getparent()
                    if unit is None and element.tag == _UNIT and parent.tag == _UNITS:
                        unit = element
                    continue
                if unit is not None and element is not unit:
                    continue
                record = None
                if unit is not None:
                    unit, found, record = None, True, _record(element)
                _let_go(element)
                if record is not None:
                    yield record
        except (etree.XMLSyntaxError, StopIteration):
            raise SourceError("not_xml") from None
    if not found:
        raise SourceError("no_records")


def _let_go(element: Any) -> None:
    """Forgets what has been read, unit or not: the element's content, and its place among its siblings."""
    element.clear()
    parent = element.getparent()
    while parent is not None and element.getprevious() is not None:
        del parent[0]


def _record(element: Any) -> Raw | None:
    """The unit as a record; None for one that is archived: it is no longer in the directory."""
    told: dict[str, str] = {}
    for child in element:
        if isinstance(child.tag, str) and child.text:
            told.setdefault(etree.QName(child).localname, child.text)
    if told.get("unitIsArchived", "").strip() in _YES:
        return None
    attributes: dict[str, list[str]] = {}
    for name, key in (
        ("hsaIdentity", "hsaIdentity"),
        ("hsaResponsibleHealthCareProvider", "hsaResponsibleHealthCareProvider"),
    ):
        if name in told:
            attributes[key] = [told[name]]
    if shown := told.get("publicName") or told.get("name"):
        attributes["ou"] = [shown]
    for name, key in (("startDate", "hsaStartDate"), ("endDate", "hsaEndDate")):
        if name in told:
            attributes[key] = [stamp(told[name])]
    dn = told.get("DN", "").strip()
    return Raw(dn, attributes, fault=None if dn else "no_dn")
