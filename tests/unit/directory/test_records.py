"""Records of units and persons, from attribute maps as they come.

Proves R-ID-9, R-ID-14.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.directory import records
from services.directory.parsing import Rt90, Unparsed
from services.directory.records import Person, Raw, RefusedPart, Unit
from services.directory.sources import kiv_ldap

PUBLIC = Path(__file__).parents[4] / "shared" / "testdata" / "kiv"

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(
    ["hsaIdentity", "ou", "cn", "mail", "mobile", "hsaSurgeryHours", "hsaEndDate", "hsaGeographicalCoordinates"]
)


def unit(dn: str = "ou=Vårdcentralen Ek,ou=Org,o=VGR", **attributes: object) -> Unit:
    made = records.unit(Raw(dn, {"hsaIdentity": ["SE2321000131-E000000000001"]} | attributes))
    assert isinstance(made, Unit)
    return made


def person(**attributes: object) -> Person:
    made = records.person(Raw("", {"hsaIdentity": "SE2321000131-P000000000001"} | attributes))
    assert isinstance(made, Person)
    return made


@given(st.dictionaries(NAMES | st.text(), JSON), st.text())
def test_no_record_raises(attributes, dn):
    whole = {"hsaidentity": ["SE2321000131-E000000000001"]} | attributes
    for raw in (Raw(dn, attributes), Raw(dn, whole)):
        records.unit(raw)
        records.person(raw)


def test_keys_in_any_case_and_values_with_or_without_a_list():
    made = unit(OU="Vårdcentralen Ek", HSAENDDATE="20160121000000Z", hsacountycode="14", hsacountycode_TEXT="Län")
    assert (made.name, made.county_code) == ("Vårdcentralen Ek", "14")
    assert made.end_date == datetime(2016, 1, 21, tzinfo=UTC)
    assert made.refused == ()


def test_a_name_is_taken_from_the_dn_where_the_attribute_lacks():
    assert unit("ou=Hud\\, hår och naglar,ou=Org,o=VGR").name == "Hud, hår och naglar"


def test_a_function_has_its_name_in_cn():
    made = unit("cn=BVC Ek,ou=Vårdcentralen Ek,o=VGR", cn=["BVC Ek"], ou=["Vårdcentralen Ek"])
    assert (made.kind, made.name) == ("function", "BVC Ek")


def test_what_can_not_be_parsed_is_kept_and_said():
    made = unit(mail=["-", "vc@vgregion.se"], hsaGeographicalCoordinates="X: 1, Y: 2", hsaTelephoneNumber=[None, ""])
    assert made.details["email"] == ["vc@vgregion.se"]
    assert made.coordinates is None
    assert set(made.refused) == {
        RefusedPart("mail", "not_an_email_address", "-"),
        RefusedPart("hsageographicalcoordinates", "not_coordinates", "X: 1, Y: 2"),
        RefusedPart("hsatelephonenumber", "not_text", ""),
        RefusedPart("hsatelephonenumber", "empty", ""),
    }


def test_a_unit_in_types():
    made = unit(
        hsaGeographicalCoordinates=["X: 6407478, Y: 1268655"],
        hsaSurgeryHours=["1-5#08:00#17:00"],
        hsaPublicTelephoneNumber="+46317478430",
        hsaPostalAddress="Ek$ $Storgatan 1$417 26$Göteborg",
        hsaResponsibleHealthCareProvider="se2321000131-e000000000009",
        vgrCareType=["01", "03"],
        hsaDestinationIndicator="03",
    )
    assert made.coordinates == Rt90(6407478, 1268655)
    assert made.care_provider == "SE2321000131-E000000000009"
    assert (made.care_types, made.destinations) == (("01", "03"), ("03",))
    assert made.details["surgery_hours"] == [{"days": [1, 2, 3, 4, 5], "opens": "08:00", "closes": "17:00"}]
    assert made.details["public_phone"] == ["+46317478430"]
    assert made.details["postal_address"] == ("Ek", "Storgatan 1", "417 26", "Göteborg")


def test_without_hsa_id_or_name_there_is_no_unit():
    assert records.unit(Raw("ou=Ek", {})) == Unparsed("no_hsa_id")
    assert records.unit(Raw("ou=Ek", {"hsaidentity": ["E-1"]})) == Unparsed("not_an_hsa_id")
    assert records.unit(Raw("", {"hsaidentity": "SE2321000131-E1"})) == Unparsed("no_name")


def test_a_person_with_middle_name_and_the_first_of_several_mobiles():
    made = person(givenName="Karin", hsaMiddleName="Ek", sn="Lind", mobile=["-", "070-174 06 05", "+46701740606"])
    assert (made.given_name, made.surname, made.mobile) == ("Karin", "Ek Lind", "+46701740605")


@pytest.mark.parametrize("attributes", [{"objectClass": ["top", "hsaConfidentialPerson"]}, {"protectedPerson": "true"}])
def test_the_protected_mark_r_id_14(attributes):
    assert person(**attributes).protected
    assert not person(protectedPerson="false").protected


def test_a_hidden_person_r_id_9():
    assert person(objectClass=["top", "hiddenObject"]).hidden


def test_no_identity_number_of_staff_is_kept():
    made = person(hsaPersonIdentityNumber="197501149285", givenName="Karin")
    assert "197501149285" not in repr(made)


@pytest.mark.skipif(not PUBLIC.exists(), reason="the public records of KiV are not on this machine")
@pytest.mark.parametrize(("name", "count"), [("care-units.json", 207), ("duty-units.json", 24)])
def test_every_real_record_becomes_a_unit(name, count):
    feed = json.loads((PUBLIC / name).read_text())["units"]
    made = [records.unit(Raw(one["dn"], one["attributes"])) for one in feed]
    assert len(made) == count
    assert all(isinstance(one, Unit) for one in made)
    reasons = {part.reason for one in made for part in one.refused}
    assert reasons <= {"not_an_email_address", "short_number", "empty", "not_a_link"}


def test_a_value_of_ldap_that_is_no_text_is_kept_as_it_came_and_listed():
    attributes = {
        "hsaIdentity": [kiv_ldap.text(b"SE2321000131-E000000000001")],
        "ou": [kiv_ldap.text("Vårdcentralen Ek".encode())],
        "l": [kiv_ldap.text("Göteborg".encode("iso-8859-1"))],
    }
    assert attributes["l"] == [{"base64": "R/Z0ZWJvcmc="}]
    made = records.unit(Raw("ou=Ek", attributes))
    assert (made.name, made.place, made.refused) == ("Vårdcentralen Ek", None, (RefusedPart("l", "not_text", ""),))
