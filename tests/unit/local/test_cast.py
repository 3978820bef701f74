"""The cast agrees with itself: KiV, HSA, the population register and data/README.md tell of the same people."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import phonenumbers
import pytest

from deploy.local.people import cast, residents, staff
from deploy.local.people.feed import DATA, Record, read
from deploy.local.people.residents import resident
from shared.contracts.base import normalise_hsa_id

README = (DATA / "README.md").read_text()
UNITS = (*read(DATA / "kiv-units.json", "units"), *read(DATA / "kiv-roles.json", "roles"))
NOW = datetime(2026, 11, 23, tzinfo=UTC)


def test_every_hsa_id_is_one() -> None:
    """R-ID-7"""
    for record in (*UNITS, *(one.record for one in staff.everyone())):
        assert normalise_hsa_id(record.hsa_id) == record.hsa_id
        assert len(record.hsa_id) <= 31


def test_staff_have_one_object_for_each_hsa_id() -> None:
    assert max(Counter(one.hsa_id for one in staff.everyone()).values()) == 1


def test_staff_work_at_units_of_the_feed() -> None:
    known = {one.hsa_id for one in UNITS}
    assert {one.unit for one in staff.everyone()} <= known


def test_units_have_care_providers_of_the_feed() -> None:
    """R-ID-25"""
    known = {one.hsa_id for one in UNITS}
    assert {one.first("hsaResponsibleHealthCareProvider") for one in UNITS} - {None} <= known
    provider = next(one for one in UNITS if one.hsa_id == cast.CARE_PROVIDER)
    assert provider.first("ou") == cast.CARE_PROVIDER_NAME


def test_kiv_keys_are_as_kivws_gives_them() -> None:
    for file, key in (("kiv-units.json", "units"), ("kiv-roles.json", "roles"), ("kiv-persons.json", "persons")):
        for record in json.loads((DATA / file).read_text())[key]:
            assert set(record) == {"dn", "attributes"}
            for name in record["attributes"]:
                assert name.removesuffix("_TEXT").islower()


def test_the_feed_is_as_dirty_as_the_real_one() -> None:
    """R-DIR-5, R-DIR-12: the importer meets here what it will meet there."""
    raw = (DATA / "kiv-units.json").read_text()
    for dirt in ('"-"', '"."', r"\r$", '"6-1#08:00#08:00"', '"vardagar 8-17"', '"1177"', r"Hudmottagningen\\, Södra"):
        assert dirt in raw
    assert any(count > 1 for count in Counter(one.hsa_id for one in UNITS).values())
    assert any(one.first("hsaEndDate") for one in UNITS)
    assert any(not one.all("hsaGeographicalCoordinates") for one in UNITS)


def test_the_parts_are_played_as_they_say() -> None:
    def played(hsa_id: str) -> staff.Person:
        person = staff.find(hsa_id)
        assert person is not None
        return person

    for part in (cast.REGIONAL_ADMIN, cast.LOCAL_ADMIN, cast.RECEIVER, cast.HANDLER, cast.OUTSIDER):
        assert played(part).shown(NOW)
        assert cast.mail_of(part)
        assert not played(part).protected
    assert played(cast.PROTECTED_STAFF).protected
    assert played(cast.PROTECTED_STAFF).shown(NOW)
    assert not played(cast.ENDED_STAFF).shown(NOW)
    assert not played(cast.HIDDEN_STAFF).shown(NOW)
    assert staff.find(cast.ONLY_IN_HSA, staff.in_kiv()) is None
    assert played(cast.ONLY_IN_HSA).shown(NOW)
    assert staff.find(cast.UNKNOWN_STAFF) is None
    assert staff.employments(cast.TWO_EMPLOYMENTS[0]) == list(cast.TWO_EMPLOYMENTS)
    assert staff.employments(cast.UNKNOWN_STAFF) == []
    assert residents.find(cast.UNKNOWN_TO_REGISTER) is None
    with pytest.raises(KeyError):
        cast.mail_of(cast.UNKNOWN_STAFF)


def test_residents_are_one_each_and_their_relations_exist() -> None:
    numbers = [one.number for one in residents.everyone()]
    assert len(set(numbers)) == len(numbers)
    for one in residents.everyone():
        assert {*one.guardians, *filter(None, [one.replaced_by])} <= set(numbers)
    for one in residents.everyone():
        if one.mobile:
            number = phonenumbers.parse(one.mobile)
            assert phonenumbers.is_valid_number(number)
            # set aside for fiction
            assert "+46701740605" <= one.mobile <= "+46701740699"


def test_identity_numbers_have_right_check_digits() -> None:
    for one in residents.everyone():
        digits = [int({"K": "5", "M": "7", "X": "8"}.get(digit, digit)) for digit in one.number[2:]]
        doubled = [sum(divmod(digit * (2 - place % 2), 10)) for place, digit in enumerate(digits)]
        assert sum(doubled) % 10 == 0


def test_the_readme_names_everyone() -> None:
    for one in staff.everyone():
        assert re.search(rf"\b{one.hsa_id[-2:]}\b", README)
        assert one.surname.split()[-1] in README
    for resident_ in residents.everyone():
        assert resident_.number in README
        assert str(resident_.key) in README
    assert cast.UNKNOWN_TO_REGISTER in README


def test_a_record_is_read_whatever_the_letter_case() -> None:
    record = Record("cn=A", {"HsaIdentity": ["se1234567890-a\r"], "MAIL": ["-", ""], "hsaEndDate": "20260101000000Z"})
    assert record.hsa_id == "SE1234567890-A"
    assert record.first("mail") is None
    assert record.first("hsaenddate") == "20260101000000Z"


@pytest.mark.parametrize(
    "wrong", [{}, {"number": ""}, {"number": "1", "x": 1}, {"number": "1", "address": {"x": 1}}, []]
)
def test_a_malformed_resident_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError):
        resident(wrong)
