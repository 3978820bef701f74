"""What is asked of HSA and what is made of its answer; with the official schemas where they are on this machine."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from lxml import etree

from services.directory import records
from services.directory.sources import SourceError, hsa
from services.directory.sources.soap import question, response_in
from shared.contracts.directory import OpeningHours

EMPLOYEE = "urn:riv:infrastructure:directory:employee:4"
RESPONDER = "urn:riv:infrastructure:directory:employee:GetEmployeeIncludingProtectedPersonResponder:4"
SCHEMAS = Path(__file__).parents[4] / "shared" / "testdata" / "hsa" / "rivta" / "employee" / "4.0" / "interactions"
KARIN = "SE2321000131-P000009000001"


def persons_in(body: bytes):
    return hsa.persons_in(response_in(body, hsa.EMPLOYEE, RESPONDER))


def envelope(body: str) -> bytes:
    soap = "http://schemas.xmlsoap.org/soap/envelope/"
    return f'<s:Envelope xmlns:s="{soap}"><s:Header/><s:Body>{body}</s:Body></s:Envelope>'.encode()


def answer(*people: str) -> bytes:
    inside = "".join(f"<r:personInformation>{one}</r:personInformation>" for one in people)
    name = "GetEmployeeIncludingProtectedPersonResponse"
    return envelope(f'<r:{name} xmlns:r="{RESPONDER}" xmlns="{EMPLOYEE}">{inside}</r:{name}>')


WHOLE = f"""<personHsaId>{KARIN.lower()}</personHsaId><givenName>Karin</givenName>
<middleAndSurName>Ek Lindqvist</middleAndSurName><nickName>Kajsa</nickName><mail>karin@vgregion.example</mail>
<telephoneNumber>+46313900636</telephoneNumber><mobileNumber>+46701740605</mobileNumber>
<title>Läkare</title><dn>cn=Karin,c=SE</dn><protectedPerson>true</protectedPerson>"""


def test_a_person_in_types():
    [person] = persons_in(answer(WHOLE))
    assert (person.hsa_id, person.given_name, person.surname) == (KARIN, "Karin", "Ek Lindqvist")
    assert (person.title, person.email, person.mobile) == ("Läkare", "karin@vgregion.example", "+46701740605")
    assert person.protected
    assert person.end_date is None


def test_nobody_is_an_answer_too():
    assert persons_in(answer()) == []


def test_an_end_date_in_the_answer_counts():
    [person] = persons_in(answer(WHOLE + "<personEndDate>2026-01-01T00:00:00</personEndDate>"))
    assert person.end_date is not None
    assert person.end_date.isoformat() == "2025-12-31T23:00:00+00:00"


ORGANIZATION = "urn:riv:infrastructure:directory:organization:5"
UNIT_RESPONDER = "urn:riv:infrastructure:directory:organization:GetUnitResponder:5"


def hours(*spans: str) -> str:
    return "".join(
        f"<r:telephoneHour><o:fromDay>1</o:fromDay><o:fromTime>08:00:00</o:fromTime><o:toDay>5</o:toDay>"
        f"<o:toTime>16:30:00</o:toTime>{span}</r:telephoneHour>"
        for span in spans
    )


def test_hours_that_hold_between_two_days():
    """The days may be written in two ways; those that are none are listed."""
    spans = (
        "",
        "<o:fromDate>2026-12-01</o:fromDate><o:toDate>20261231</o:toDate>",
        "<o:comment>Sommar</o:comment><o:fromDate>2027-06-01</o:fromDate>",
        "<o:toDate>2026-02-30</o:toDate>",
    )
    unit = f"<r:unitHsaId>SE2321000131-E1</r:unitHsaId><r:publicName>Ek</r:publicName>{hours(*spans)}"
    name = "GetUnitResponse"
    body = f'<r:{name} xmlns:r="{UNIT_RESPONDER}" xmlns:o="{ORGANIZATION}"><r:unit>{unit}</r:unit></r:{name}>'
    raw = hsa.unit_in(response_in(envelope(body), hsa.UNIT, UNIT_RESPONDER))
    made = records.unit(raw)
    week = {"days": [1, 2, 3, 4, 5], "opens": "08:00", "closes": "16:30"}
    assert made.details["phone_hours"] == [
        week,
        week | {"first_day": "2026-12-01", "last_day": "2026-12-31"},
        week | {"first_day": "2027-06-01", "comment": "Sommar"},
    ]
    assert [(one.field, one.reason) for one in made.refused] == [("hsatelephonetime", "not_a_date")]
    assert [OpeningHours.model_validate(one).last_day for one in made.details["phone_hours"]] == [
        *(None, date(2026, 12, 31), None),
    ]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_xml"),
        (b"<html>", "not_xml"),
        (b"<html/>", "not_soap"),
        (envelope(""), "not_soap"),
        (envelope("<s:Fault><faultcode>s:Server</faultcode><faultstring>x</faultstring></s:Fault>"), "soap_fault"),
        (b'<!DOCTYPE s [<!ENTITY a "x">]>' + answer(WHOLE), "not_xml"),
    ],
)
def test_what_is_no_answer(body, reason):
    with pytest.raises(SourceError) as refused:
        persons_in(body)
    assert refused.value.reason == reason


@pytest.mark.skipif(not SCHEMAS.exists(), reason="the official schemas are not on this machine")
def test_the_question_follows_the_official_schema():
    [file] = SCHEMAS.glob("GetEmployee*/*Responder_4.0.xsd")
    body = etree.fromstring(question("SE165565594230-1000", hsa.EMPLOYEE, RESPONDER, {"personHsaId": KARIN})).find(
        "{*}Body"
    )
    assert body is not None
    etree.XMLSchema(etree.parse(str(file))).assertValid(body[0])
