"""HSA and the population register: requests and answers keep to the contracts, and they fail as told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from lxml import etree

from deploy.local import siths_ca
from deploy.local.people import cast, residents, staff
from deploy.local.people.feed import DATA, read
from deploy.local.pu_answers import PERSON
from tests.integration.counterparts_support import (
    CARE_UNIT,
    EMPLOYEE,
    PERSONS,
    UNIT,
    Contract,
    Counterpart,
    content,
    values,
)

HSA_CONTRACTS = (EMPLOYEE, UNIT, CARE_UNIT)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Counterpart]]:
    folder = tmp_path_factory.mktemp("soap")
    started = {name: Counterpart(name, folder).start() for name in ("hsa", "pu")}
    try:
        for one in started.values():
            one.wait()
        yield started
    finally:
        statuses = {name: one.stop() for name, one in started.items()}
        assert set(statuses.values()) == {0}, statuses


@pytest.fixture
def hsa(running: dict[str, Counterpart]) -> Counterpart:
    return running["hsa"]


@pytest.fixture
def pu(running: dict[str, Counterpart]) -> Counterpart:
    return running["pu"]


def employee(hsa: Counterpart, hsa_id: str, more: str = "") -> etree._Element:
    return EMPLOYEE.ask(hsa, f"<personHsaId>{hsa_id}</personHsaId>{more}")


def persons(pu: Counterpart, *numbers: str, profile: str = "P2", ignore: str = "true") -> etree._Element:
    return PERSONS.ask(pu, question(*numbers, profile=profile, ignore=ignore))


def question(*numbers: str, profile: str = "P2", ignore: str = "true") -> str:
    asked = "".join(
        f"<personId><p:root>1.2.752.129.2.1.3.{3 if number[6] in '6789' else 1}</p:root>"
        f"<p:extension>{number}</p:extension></personId>"
        for number in numbers
    )
    return f"{asked}<profile>{profile}</profile><ignoreReferredIdentity>{ignore}</ignoreReferredIdentity>"


def record(answer: etree._Element) -> etree._Element:
    [found] = answer.findall(f".//{{{PERSON}}}personRecord")
    return found


# --- the official schemas -------------------------------------------------------------------------------------------


def schema(contract: Contract) -> etree.XMLSchema:
    if not contract.schema.exists():
        pytest.skip(f"the official schema of {contract.operation} is not on this machine")
    return etree.XMLSchema(etree.parse(contract.schema))


def test_every_answer_about_staff_keeps_to_the_schema(hsa: Counterpart) -> None:
    official = schema(EMPLOYEE)
    for person in staff.everyone():
        for profile in ("basic", "TITLE", "Contact", "FULL", "extended1"):
            more = f"<includeFeignedObject>true</includeFeignedObject><profile>{profile}</profile>"
            official.assertValid(employee(hsa, person.hsa_id, more))


@pytest.mark.parametrize("contract", [UNIT, CARE_UNIT], ids=lambda contract: contract.operation)
def test_every_answer_about_units_keeps_to_the_schema(hsa: Counterpart, contract: Contract) -> None:
    official = schema(contract)
    asked = "unitHsaId" if contract is UNIT else "healthCareUnitMemberHsaId"
    for unit in (*read(DATA / "kiv-units.json", "units"), *read(DATA / "kiv-roles.json", "roles")):
        official.assertValid(contract.ask(hsa, f"<{asked}>{unit.hsa_id}</{asked}>"))


@pytest.mark.parametrize("profile", ["P1", "P2", "P3", "P4", "P5"])
@pytest.mark.parametrize("ignore", ["true", "false"])
def test_every_answer_about_residents_keeps_to_the_schema(pu: Counterpart, profile: str, ignore: str) -> None:
    numbers = [one.number for one in residents.everyone()] + [cast.UNKNOWN_TO_REGISTER]
    answer = persons(pu, *numbers, profile=profile, ignore=ignore)
    schema(PERSONS).assertValid(answer)
    assert len(answer) == len(numbers)


@pytest.mark.parametrize("contract", HSA_CONTRACTS, ids=lambda contract: contract.operation)
def test_an_invalid_answer_on_demand_breaks_the_schema(hsa: Counterpart, contract: Contract) -> None:
    official = schema(contract)
    asked = {EMPLOYEE: "personHsaId", UNIT: "unitHsaId", CARE_UNIT: "healthCareUnitMemberHsaId"}[contract]
    hsa.behave("invalid", only=contract.operation)
    assert not official.validate(contract.ask(hsa, f"<{asked}>{cast.SJOPORTEN}</{asked}>"))


# --- HSA ------------------------------------------------------------------------------------------------------------


def test_a_person_of_the_feed(hsa: Counterpart) -> None:
    """R-DIR-1: HSA, KiV and the card tell the same."""
    answer = employee(hsa, cast.RECEIVER.lower())
    assert values(answer, "personHsaId") == [cast.RECEIVER]
    assert values(answer, "givenName") == ["Sara"]
    assert values(answer, "middleAndSurName") == ["Nyberg"]
    assert values(answer, "title") == ["Sjuksköterska"]
    assert values(answer, "mail") == [cast.mail_of(cast.RECEIVER)]
    assert values(answer, "protectedPerson") == []
    assert values(employee(hsa, cast.RECEIVER, "<profile>BASIC</profile>"), "mail") == []


def test_missing_hidden_ended_and_test_objects_are_not_returned(hsa: Counterpart) -> None:
    """R-ID-1, R-ID-9"""
    for hsa_id in (cast.UNKNOWN_STAFF, cast.HIDDEN_STAFF, cast.ENDED_STAFF, "SE2321000131-P000009000043"):
        assert len(employee(hsa, hsa_id)) == 0
    feigned = employee(hsa, "SE2321000131-P000009000043", "<includeFeignedObject>1</includeFeignedObject>")
    assert values(feigned, "feignedPerson") == ["true"]


def test_protected_staff_are_returned_with_the_mark(hsa: Counterpart) -> None:
    """R-ID-16"""
    answer = employee(hsa, cast.PROTECTED_STAFF)
    assert values(answer, "protectedPerson") == ["true"]
    assert values(answer, "givenName") == ["Nadia"]
    assert values(answer, "addressLine") == []


def test_one_person_can_have_several_objects(hsa: Counterpart) -> None:
    number = staff.find(cast.TWO_EMPLOYMENTS[0])
    assert number is not None
    answer = EMPLOYEE.ask(hsa, f"<personalIdentityNumber>{number.identity_number}</personalIdentityNumber>")
    assert values(answer, "personHsaId") == list(cast.TWO_EMPLOYMENTS)


def test_units_and_their_care_provider(hsa: Counterpart) -> None:
    """R-ID-25, R-DIR-4"""
    unit = UNIT.ask(hsa, f"<unitHsaId>{cast.SJOPORTEN}</unitHsaId>")
    assert values(unit, "publicName") == ["Vårdcentralen Sjöporten"]
    assert values(unit, "xCoordinate") == ["6406210"]
    ended = UNIT.ask(hsa, f"<unitHsaId>{cast.ENDED_CLINIC}</unitHsaId>")
    assert values(ended, "unitEndDate") == ["2025-06-30T22:00:00+00:00"]
    assert len(UNIT.ask(hsa, "<unitHsaId>SE2321000131-E000009000131X</unitHsaId>")) == 0
    member = CARE_UNIT.ask(hsa, "<healthCareUnitMemberHsaId>SE2321000131-E000009000103</healthCareUnitMemberHsaId>")
    assert values(member, "healthCareUnitHsaId") == [cast.SJOPORTEN]
    assert values(member, "healthCareProviderHsaId") == [cast.CARE_PROVIDER]
    assert values(member, "healthCareProviderOrgNo") == ["232100-0131"]


def test_people_come_and_go_at_run_time(hsa: Counterpart) -> None:
    hsa_id = "SE2321000131-P000009000088"
    person: dict[str, Any] = {"attributes": {"hsaIdentity": hsa_id, "sn": "Ny", "mobile": ["+46701740698"]}}
    assert requests.post(f"{hsa.control}/people", json=person, timeout=5).status_code == 204
    assert values(employee(hsa, hsa_id), "middleAndSurName") == ["Ny"]
    # an attribute that breaks the syntax: silently not returned
    person["attributes"]["mobile"] = ["växeln"]
    requests.post(f"{hsa.control}/people", json=person, timeout=5).raise_for_status()
    assert len(employee(hsa, hsa_id)) == 0
    requests.delete(f"{hsa.control}/people", params={"hsa_id": cast.ONLY_IN_HSA}, timeout=5).raise_for_status()
    assert len(employee(hsa, cast.ONLY_IN_HSA)) == 0
    for wrong in ({}, {"attributes": {}}, []):
        assert requests.post(f"{hsa.control}/people", json=wrong, timeout=5).status_code == 400


def test_requests_that_break_the_contract_get_a_fault(hsa: Counterpart) -> None:
    one = "<personHsaId>SE2321000131-1</personHsaId>"
    for inner in (
        "",
        one * 2,
        one + "<personalIdentityNumber>191212121212</personalIdentityNumber>",
        "<profile>FULL</profile>" + one,
        one + "<includeFeignedObject>ja</includeFeignedObject>",
        one + "<searchBase>not a name</searchBase>",
        one + "<unknown/>",
        one + "<profile>ALL</profile>",
        "<personHsaId><x/></personHsaId>",
    ):
        reply = EMPLOYEE.post(hsa, EMPLOYEE.envelope(inner))
        assert reply.status_code == 500, inner
        assert content(reply).findtext("faultcode") == "soap:Client"
    good = EMPLOYEE.envelope(one)
    addressed_wrongly = good.replace(EMPLOYEE.logical_address.encode(), b"SE0000000000-1")
    bomb = b'<!DOCTYPE x [<!ENTITY a "b">]>' + good
    for body in (b"", b"<x/>", good[:-3], addressed_wrongly, bomb):
        assert EMPLOYEE.post(hsa, body).status_code == 500
    for headers in ({"Content-Type": "text/xml"}, {"Content-Type": "application/json", "SOAPAction": "x"}):
        assert EMPLOYEE.post(hsa, good, headers=headers).status_code == 500


def test_hsa_counts_how_it_is_asked(hsa: Counterpart) -> None:
    """R-DIR-12: one call at a time."""
    requests.delete(f"{hsa.control}/calls", timeout=5)
    for _ in range(2):
        employee(hsa, cast.RECEIVER)
    told = requests.get(f"{hsa.control}/calls", timeout=5).json()
    assert told["calls"] == {"GetEmployeeIncludingProtectedPerson": 2}
    assert told["most_at_once"] == 1
    assert told["shortest_pause_ms"] > 0


def test_soap_is_for_systems_only(hsa: Counterpart, pu: Counterpart) -> None:
    for counterpart, contract in ((hsa, EMPLOYEE), (pu, PERSONS)):
        card = siths_ca.issue_person(counterpart.pki, cast.RECEIVER, "Sara", "Nyberg")
        assert contract.post(counterpart, contract.envelope(""), cert=card.pair).status_code == 403


def test_soap_fails_as_told(hsa: Counterpart, pu: Counterpart) -> None:
    for counterpart, contract, inner, subject in (
        (hsa, EMPLOYEE, f"<personHsaId>{cast.HANDLER}</personHsaId>", cast.HANDLER),
        (pu, PERSONS, question(cast.SECOND_RESIDENT), cast.SECOND_RESIDENT),
    ):
        for mode, status in (("fault", 500), ("forbidden", 403), ("unavailable", 503)):
            counterpart.behave(mode, only=subject)
            assert contract.post(counterpart, contract.envelope(inner)).status_code == status
        for mode in ("truncated", "garbage"):
            counterpart.behave(mode, only=subject)
            with pytest.raises(etree.XMLSyntaxError):
                etree.fromstring(contract.post(counterpart, contract.envelope(inner)).content)
        counterpart.behave("drop", only=subject)
        with pytest.raises(requests.RequestException):
            contract.post(counterpart, contract.envelope(inner))
        counterpart.behave("empty", only=subject)
        empty = contract.ask(counterpart, inner)
        assert values(empty, "personInformation") == values(empty, "personRecord") == []
        assert len(values(contract.ask(counterpart, inner), "surname" if counterpart is pu else "title")) == 1


# --- the population register ----------------------------------------------------------------------------------------


def test_everyone_asked_for_is_answered(pu: Counterpart) -> None:
    answer = persons(pu, cast.RESIDENT, cast.UNKNOWN_TO_REGISTER, cast.SECOND_RESIDENT)
    requested = [values(one[0], "extension") for one in answer]
    assert requested == [[cast.RESIDENT], [cast.UNKNOWN_TO_REGISTER], [cast.SECOND_RESIDENT]]
    assert [len(one) for one in answer] == [2, 1, 2]
    assert values(answer[0], "surname") == ["Berg"]
    assert values(answer[0], "countyCode") == ["14"]


def test_at_most_500_and_known_profiles(pu: Counterpart) -> None:
    assert len(persons(pu, *[cast.RESIDENT] * 500)) == 500
    for inner in (
        question(*[cast.RESIDENT] * 501),
        question(cast.RESIDENT, profile="P6"),
        question(cast.RESIDENT, profile="p2"),
        question(cast.RESIDENT, ignore="nej"),
        question(),
        question(cast.RESIDENT).replace("<p:root>", "<p:rot>").replace("</p:root>", "</p:rot>"),
    ):
        assert PERSONS.post(pu, PERSONS.envelope(inner)).status_code == 500


@pytest.mark.parametrize("number", [cast.PROTECTED_RESIDENT, cast.PROTECTED_RECORD])
def test_protected_persons_are_answered_with_the_least(pu: Counterpart, number: str) -> None:
    """R-ID-14: and with the address, when the register is told to break its rule."""
    marks = {cast.PROTECTED_RESIDENT: ["true", "false"], cast.PROTECTED_RECORD: ["false", "true"]}[number]
    answer = persons(pu, number, profile="P5")
    assert values(answer, "protectedPersonIndicator") + values(answer, "protectedPopulationRecord") == marks
    assert values(answer, "city") == values(answer, "countyCode") == values(answer, "dateOfBirth") == []
    pu.behave("leaky", only=number)
    leaked = persons(pu, number)
    assert values(leaked, "city") == ["Göteborg"]
    assert values(leaked, "protectedPersonIndicator") + values(leaked, "protectedPopulationRecord") == marks


def test_the_dead_the_emigrated_and_other_codes(pu: Counterpart) -> None:
    """R-ID-17, R-ID-18"""
    for key, code in (
        ("gunnar", "AV"),
        ("linnea", "UV"),
        ("rune", "TA"),
        ("kim_before", "GN"),
        ("fatima_before", "GS"),
    ):
        answer = persons(pu, residents.named(key).number)
        assert values(answer, "deregistrationReasonCode") == [code]
    olena = record(persons(pu, residents.named("olena").number))
    assert values(olena, "identityStatusCause") == ["AVLIDEN"]
    assert len(values(olena, "deceasedDate")) == 1


def test_changed_numbers(pu: Counterpart) -> None:
    """R-ID-24"""
    old, new = cast.CHANGED_NUMBER
    answer = record(persons(pu, old))
    assert values(answer.find(f"{{{PERSON}}}personalIdentity"), "extension") == [old]  # type: ignore[arg-type]
    assert values(answer, "referredPersonalIdentityStatus") == ["NY"]
    followed = persons(pu, old, ignore="false")
    assert values(followed[0][0], "extension") == [old]
    assert values(record(followed).find(f"{{{PERSON}}}personalIdentity"), "extension") == [new]  # type: ignore[arg-type]


def test_guardians_and_children(pu: Counterpart) -> None:
    """R-ID-11"""
    child = record(persons(pu, cast.CHILD_OF_12, profile="P4"))
    assert values(child, "relationshipType") == ["V", "V"]
    guardian = record(persons(pu, cast.GUARDIAN, profile="P4"))
    assert values(guardian, "relationshipType") == ["VF"] * 5
    assert values(record(persons(pu, cast.CHILD_OF_12)), "relationshipType") == []


def test_residents_come_and_go_at_run_time(pu: Counterpart) -> None:
    number = "199901012394"
    person = {"number": number, "given_name": "Ny", "surname": "Ny", "protected": "person"}
    assert requests.post(f"{pu.control}/people", json=person, timeout=5).status_code == 204
    assert values(persons(pu, number), "protectedPersonIndicator") == ["true"]
    requests.delete(f"{pu.control}/people", params={"number": number}, timeout=5).raise_for_status()
    assert len(persons(pu, number)[0]) == 1
    for wrong in ({}, {"number": number, "colour": "red"}, {"number": number, "address": {"x": 1}}, []):
        assert requests.post(f"{pu.control}/people", json=wrong, timeout=5).status_code == 400


def test_logs_hold_no_personal_data(running: dict[str, Counterpart]) -> None:
    """R-SYS-3"""
    employee(running["hsa"], cast.RECEIVER)
    persons(running["pu"], cast.RESIDENT)
    EMPLOYEE.post(running["hsa"], EMPLOYEE.envelope("<personHsaId>Hemlig</personHsaId><x/>"))
    secrets = [cast.RECEIVER, "Nyberg", "Hemlig", *(one.number for one in residents.everyone())]
    for one in running.values():
        assert "POST * 200" in one.log
        assert not [secret for secret in secrets if secret in one.log]
        assert json.dumps("Göteborg")[1:-1] not in one.log
