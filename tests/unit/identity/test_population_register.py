"""What is taken from an answer of the population register, and which answers are not trusted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from time import sleep

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from services.identity.identity_numbers import parse
from services.identity.population_register import PopulationRegister, RegisteredPerson
from shared.messaging.errors import Unavailable
from shared.operations.clock import now

SCHEMAS = Path(__file__).parents[4] / "shared" / "testdata" / "pu" / "rivta" / "person" / "5.0" / "interactions"
NUMBER = "189001029819"
OTHER = "189001019802"

ENVELOPE = """<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"
  xmlns="urn:riv:strategicresourcemanagement:persons:person:5"
  xmlns:r="urn:riv:strategicresourcemanagement:persons:person:GetPersonsForProfileResponder:5"><s:Body>
  <r:GetPersonsForProfileResponse>{records}</r:GetPersonsForProfileResponse></s:Body></s:Envelope>"""
RECORD = """<r:requestedPersonRecord>
  <requestedPersonalIdentity><root>1.2.752.129.2.1.3.1</root><extension>{asked}</extension></requestedPersonalIdentity>
  {record}</r:requestedPersonRecord>"""
PERSON = """<personRecord>
  <personalIdentity><root>1.2.752.129.2.1.3.1</root><extension>{number}</extension></personalIdentity>
  <protectedPersonIndicator>{protected}</protectedPersonIndicator>
  <testIndicator>{test}</testIndicator><primaryIdentity>true</primaryIdentity>
  {name}
  <populationRegistrationLocality><countyCode>14</countyCode><municipalityCode>80</municipalityCode>
  </populationRegistrationLocality>
  <addressInformation><residentialAddress><careOf>c/o Ek</careOf><postalAddress2>Storgatan 1</postalAddress2>
  <postalCode>1234</postalCode><city>Göteborg</city></residentialAddress></addressInformation>
  {more}</personRecord>"""
FLAT = "<name><givenName>Eva Maria</givenName><middleName>Alm</middleName><surname>Ek</surname></name>"
NESTED = "<name><givenName><name>Eva Maria</name></givenName><surname><name>Ek</name></surname></name>"


def answer(
    asked: str = NUMBER,
    number: str = NUMBER,
    *,
    protected: str = "false",
    test: str = "false",
    name: str = FLAT,
    more: str = "",
) -> str:
    record = PERSON.format(number=number, protected=protected, test=test, name=name, more=more)
    return ENVELOPE.format(records=RECORD.format(asked=asked, record=record))


@pytest.fixture
def look_up(monkeypatch: pytest.MonkeyPatch) -> Callable[..., RegisteredPerson | None]:
    """Looks a person up in a register that gives this answer."""

    def look_up(text: str | bytes, **options: bool) -> RegisteredPerson | None:
        body = text.encode() if isinstance(text, str) else text
        return register(body, monkeypatch, **options).look_up(parse(NUMBER, date(2026, 1, 1)))

    return look_up


def register(body: bytes, monkeypatch: pytest.MonkeyPatch, **options: bool) -> PopulationRegister:
    made = PopulationRegister(
        "https://pu.example", certificate="c", key="k", ca="a", logical_address="SE2321000156", **options
    )
    monkeypatch.setattr(made, "_send", lambda _envelope, _seconds: body)
    return made


def test_r_id_14_an_ordinary_person(look_up: Callable[..., RegisteredPerson | None]) -> None:
    """R-ID-14"""
    person = look_up(answer())
    assert person is not None
    assert (person.given_name, person.surname, person.protected, person.code) == ("Eva Maria", "Alm Ek", False, None)
    assert person.place is not None
    assert (person.place.street, person.place.postal_code) == ("c/o Ek, Storgatan 1", "01234")
    assert (person.place.city, person.place.county_code, person.place.municipality_code) == ("Göteborg", "14", "80")


def test_names_may_come_in_parts_of_their_own(look_up: Callable[..., RegisteredPerson | None]) -> None:
    person = look_up(answer(name=NESTED))
    assert person is not None
    assert (person.given_name, person.surname) == ("Eva Maria", "Ek")


@pytest.mark.parametrize(
    "kind",
    [
        {"protected": "true"},
        {"protected": "1"},
        {"more": "<protectedPopulationRecord>true</protectedPopulationRecord>"},
    ],
)
def test_r_id_14_nothing_of_the_place_of_a_protected_person(
    look_up: Callable[..., RegisteredPerson | None], kind: dict[str, str]
) -> None:
    """R-ID-14: whatever the register returned."""
    person = look_up(answer(**kind))
    assert person is not None
    assert person.protected
    assert person.place is None
    assert person.surname == "Alm Ek"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ("<deregistration><deregistrationReasonCode>AV</deregistrationReasonCode></deregistration>", "AV"),
        ("<deregistration><deregistrationReasonCode>UV</deregistrationReasonCode></deregistration>", "UV"),
        ("<deregistration><deregistrationDate><value>2020</value></deregistrationDate></deregistration>", ""),
        ("<deregistration/>", None),
        (
            "<coOrdinationNumberData><deceasedDate><format>YYYY</format><value>2020</value></deceasedDate>"
            "</coOrdinationNumberData>",
            "AV",
        ),
        ("<personalIdentityStatus><identityStatusCause>AVLIDEN</identityStatusCause></personalIdentityStatus>", "AV"),
    ],
)
def test_r_id_17_every_way_of_telling_a_death(
    look_up: Callable[..., RegisteredPerson | None], more: str, code: str | None
) -> None:
    """R-ID-17, R-ID-18: a deregistration that does not say why is one all the same."""
    person = look_up(answer(more=more))
    assert person is not None
    assert person.code == code


def test_unknown_persons_and_test_persons(look_up: Callable[..., RegisteredPerson | None]) -> None:
    assert look_up(ENVELOPE.format(records=RECORD.format(asked=NUMBER, record=""))) is None
    assert look_up(ENVELOPE.format(records=RECORD.format(asked=NUMBER, record="<personRecord/>"))) is None
    assert look_up(answer(test="true")) is None
    assert look_up(answer(test="true"), accept_test_persons=True) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no XML",
        answer()[:-30],
        answer(asked=OTHER),
        answer(number=OTHER),
        answer(protected="perhaps"),
        answer(protected=""),
        ENVELOPE.format(records=""),
        answer().replace("</r:GetPersonsForProfileResponse>", "<r:more/></r:GetPersonsForProfileResponse>"),
        answer().replace("</r:requestedPersonRecord>", "<more/></r:requestedPersonRecord>"),
        ENVELOPE.format(records=RECORD.format(asked=NUMBER, record="") * 2),
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault/></s:Body></s:Envelope>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        + answer(name="<name><givenName>&x;</givenName></name>"),
    ],
)
def test_an_answer_that_cannot_be_trusted_is_none(look_up: Callable[..., RegisteredPerson | None], text: str) -> None:
    """Garbage, a fault, half an answer, another person than asked: a typed error and nothing of it used."""
    with pytest.raises(Unavailable) as caught:
        look_up(text)
    assert caught.value.reason == "population_register_unavailable"
    assert NUMBER not in str(caught.value)


TWO_RECORDS = (
    PERSON.format(number=NUMBER, protected=said, test="false", name=FLAT, more="") for said in ("false", "true")
)


@pytest.mark.parametrize(
    "text",
    [
        answer(more="<protectedPersonIndicator>true</protectedPersonIndicator>"),
        answer(
            more="".join(f"<protectedPopulationRecord>{said}</protectedPopulationRecord>" for said in ("false", "true"))
        ),
        answer(
            more="<deregistration/><deregistration><deregistrationReasonCode>AV</deregistrationReasonCode></deregistration>"
        ),
        answer(
            more="<coOrdinationNumberData/><coOrdinationNumberData><deceasedDate><value>20250101</value></deceasedDate></coOrdinationNumberData>"
        ),
        ENVELOPE.format(records=RECORD.format(asked=NUMBER, record="".join(TWO_RECORDS))),
    ],
    ids=["protected", "protected_record", "deregistered", "dead", "record"],
)
def test_r_id_14_r_id_17_what_the_contract_has_once_does_not_come_twice(
    look_up: Callable[..., RegisteredPerson | None], text: str
) -> None:
    """R-ID-14, R-ID-17: the second one may say another thing, as that the person is protected or dead."""
    with pytest.raises(Unavailable):
        look_up(text)


def test_a_register_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    made = register(b"", monkeypatch)

    def down(_envelope: bytes, _seconds: float) -> bytes:
        raise requests.ConnectTimeout

    monkeypatch.setattr(made, "_send", down)
    with pytest.raises(Unavailable):
        made.look_up(parse(NUMBER, date(2026, 1, 1)))


def test_the_question_keeps_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the official schema, where it is at hand; by its parts in any case."""
    made = register(b"", monkeypatch)
    question = etree.fromstring(
        made._request([parse(NUMBER, date(2026, 1, 1)), parse("197302889931", date(2026, 1, 1))])
    )
    body = question.find("{http://schemas.xmlsoap.org/soap/envelope/}Body")[0]
    person = "{urn:riv:strategicresourcemanagement:persons:person:5}"
    assert [one.text for one in body.iter(f"{person}extension")] == [NUMBER, "197302889931"]
    assert [one.text for one in body.iter(f"{person}root")] == ["1.2.752.129.2.1.3.1", "1.2.752.129.2.1.3.3"]
    schema = SCHEMAS / "GetPersonsForProfileInteraction" / "GetPersonsForProfileResponder_5.0.xsd"
    if schema.exists():
        etree.XMLSchema(etree.parse(schema)).assertValid(body)


def test_any_bytes_are_an_answer_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    right = answer().encode()

    @settings(max_examples=200, deadline=None)
    @given(
        st.one_of(st.binary(max_size=80), st.integers(0, len(right)).map(lambda cut: right[:cut] + right[cut + 3 :]))
    )
    def tried(body: bytes) -> None:
        try:
            person = register(body, monkeypatch).look_up(parse(NUMBER, date(2026, 1, 1)))
        except Unavailable:
            return
        assert person is None or person.number == NUMBER

    tried()


def test_r_id_14_an_answer_is_as_old_as_its_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-ID-14, R-ID-17: what may have changed while it was under way is not in it."""
    made = register(b"", monkeypatch)
    sent: list[datetime] = []

    def slow(_envelope: bytes, _seconds: float) -> bytes:
        sent.append(now())
        sleep(0.01)
        return answer().encode()

    monkeypatch.setattr(made, "_send", slow)
    before = now()
    found = made.look_up(parse(NUMBER, date(2026, 1, 1)))
    assert found is not None
    assert before <= found.asked_at <= sent[0]
