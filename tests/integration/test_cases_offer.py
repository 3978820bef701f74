"""What clinics offer and have ready: case types and their forms, templates, national and regional ones, answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.contracts import case_types as offer
from shared.contracts import cases
from shared.contracts.base import Role
from shared.messaging.errors import Conflict, Forbidden, Invalid, NotFound
from shared.security.caller import Caller, Rights
from tests.integration.cases_support import FORM, World, refused, shared_database
from tests.stack.rooms import Rooms

REGIONAL = Caller("staff", "SE2321000131-P999999999999", session=uuid4(), rights=Rights({}, is_regional_admin=True))
OPERATOR = Caller("operator", "operator")
QUESTION = cases.Component(id="since", kind="date", label="Sedan när?", required=True, latest="today")


@pytest.fixture(scope="module")
def cases_database(rooms: Rooms) -> Iterator[str]:
    yield from shared_database(rooms)


@pytest.fixture
def world(cases_database: str, tmp_path: Path) -> Iterator[World]:
    yield from World.made(cases_database, tmp_path)


def listed(world: World, by: Caller | None = None) -> list[cases.CaseTypeShown]:
    shown: cases.CaseTypes = world.call(
        cases.LIST_CASE_TYPES, cases.ListCaseTypes(clinic=world.clinic), by or world.resident
    )
    return shown.case_types


def update(world: World, by: Caller | None = None, **changed: Any) -> Any:
    values = {"request_id": uuid4(), "case_type": world.case_type, "form_version": 1}
    return world.call(offer.UPDATE_CASE_TYPE, offer.UpdateCaseType(**(values | changed)), by or world.admin)


def write_central(world: World, by: Caller, **changed: Any) -> Any:
    values = {
        "request_id": uuid4(),
        "level": "national" if by is OPERATOR else "regional",
        "purpose": "resident",
        "name": "Förnya recept",
        "components": FORM,
    }
    return world.call(offer.WRITE_CENTRAL_CASE_TYPE, offer.WriteCentralCaseType(**(values | changed)), by)


def take_up(world: World, central: UUID, by: Caller | None = None, clinic: str | None = None) -> Any:
    request = offer.TakeUpCentralCaseType(request_id=uuid4(), clinic=clinic or world.clinic, central=central)
    return world.call(offer.TAKE_UP_CENTRAL_CASE_TYPE, request, by or world.admin)


# --- case types


def test_r_case_1_a_changed_form_shows_at_once_and_a_case_keeps_its_own(world: World) -> None:
    """R-CASE-1, R-DIR-10"""
    case = world.start().case
    assert update(world, name="Kontakta oss", components=[QUESTION]).form_version == 2
    [shown] = listed(world)
    assert (shown.name, shown.form_version, [one.id for one in shown.components]) == ("Kontakta oss", 2, ["since"])
    assert shown.components[0].latest == "today"
    kept = world.get(case, world.receiver)
    assert kept.case_type_name == "Kontakta mig"
    assert kept.messages[0].answers[0].label == "Vad gäller det?"
    refused("answers_invalid", Invalid, world.start)
    assert world.start(answers=[cases.Answer(component="since", values=["2020-01-01"])], form_version=2).case


def test_r_case_1_two_administrators_do_not_overwrite_each_other(world: World) -> None:
    """R-CASE-1, R-CASE-17"""
    update(world, description="Svar inom två dagar")
    refused("case_type_changed", Conflict, update, world, name="Annat")
    assert listed(world)[0].description == "Svar inom två dagar"


def test_r_case_1_information_is_read_before_a_case_is_started(world: World) -> None:
    """R-CASE-1: and what was read is what stands there now."""
    update(world, information="Ring 112 om det är bråttom.")
    assert listed(world)[0].information == "Ring 112 om det är bråttom."
    refused("information_not_read", Conflict, world.start)
    assert world.start(form_version=2).case
    update(world, form_version=2, information="Ring 112 om det är akut.")
    refused("form_changed", Conflict, world.start, form_version=2)
    assert world.start(form_version=3).case


def test_r_case_1_the_order_names_each_case_type_once(world: World) -> None:
    """R-CASE-1, R-DIR-9"""
    second, third = world.new_case_type(), world.new_case_type()

    def order(*those: UUID, by: Caller | None = None) -> Any:
        request = offer.OrderCaseTypes(request_id=uuid4(), clinic=world.clinic, case_types=list(those))
        return world.call(offer.ORDER_CASE_TYPES, request, by or world.admin)

    order(third, world.case_type, second)
    assert [one.case_type for one in listed(world)] == [third, world.case_type, second]
    for those in ([third], [third, third, second], [third, second, uuid4()], [third, world.case_type, second, second]):
        refused("order_incomplete", Invalid, order, *those)
    with pytest.raises(Forbidden):
        order(second, third, world.case_type, by=world.receiver)
    fourth = world.new_case_type()
    assert listed(world)[-1].case_type == fourth


def test_r_case_1_out_of_use_and_in_use_again(world: World) -> None:
    """R-CASE-1"""
    off = cases.DeactivateCaseType(request_id=uuid4(), case_type=world.case_type)
    world.call(cases.DEACTIVATE_CASE_TYPE, off, world.admin)
    assert listed(world) == []

    def on(by: Caller) -> Any:
        request = offer.ReactivateCaseType(request_id=uuid4(), case_type=world.case_type)
        return world.call(offer.REACTIVATE_CASE_TYPE, request, by)

    refused("case_type_not_found", NotFound, on, world.receiver)
    on(world.admin)
    assert [one.case_type for one in listed(world)] == [world.case_type]


def test_r_sys_1_what_is_not_there_and_what_is_not_yours_look_the_same(world: World) -> None:
    """R-SYS-1"""
    stranger = world.person(Role.LOCAL_ADMIN, clinic=world.new_clinic())
    foreign = refused("case_type_not_found", NotFound, update, world, stranger, name="Min nu")
    absent = refused("case_type_not_found", NotFound, update, world, stranger, case_type=uuid4(), name="Min nu")
    assert foreign.on_the_wire() == absent.on_the_wire()
    assert listed(world)[0].name == "Kontakta mig"


# --- national and regional


def test_r_case_1_clinics_follow_a_national_or_regional_case_type(world: World) -> None:
    """R-CASE-1"""
    for author in (OPERATOR, REGIONAL):
        central = write_central(world, author).central
        case_type = take_up(world, central).case_type
        assert take_up(world, central).case_type == case_type, "twice is as once"
        refused("case_type_is_central", Conflict, update, world, case_type=case_type, name="Eget")
        case = world.start(case_type=case_type).case
        written = write_central(world, author, central=central, version=1, name="Recept", components=[QUESTION])
        assert (written.version, written.clinics) == (2, 1)
        [shown] = [one for one in listed(world) if one.case_type == case_type]
        assert (shown.name, shown.form_version, shown.central) == ("Recept", 2, central)
        assert [one.id for one in shown.components] == ["since"]
        assert world.get(case, world.receiver).case_type_name == "Förnya recept"
        refused("case_type_changed", Conflict, write_central, world, author, central=central, version=1)
        withdraw = offer.WithdrawCentralCaseType(request_id=uuid4(), central=central)
        world.call(offer.WITHDRAW_CENTRAL_CASE_TYPE, withdraw, author)
        assert case_type not in [one.case_type for one in listed(world)]
        refused("case_type_not_active", Conflict, world.start, case_type=case_type)
        again = offer.ReactivateCaseType(request_id=uuid4(), case_type=case_type)
        refused("case_type_withdrawn", Conflict, world.call, offer.REACTIVATE_CASE_TYPE, again, world.admin)
        refused("case_type_not_found", NotFound, take_up, world, central)


def test_r_case_1_each_level_has_its_own_writers(world: World) -> None:
    """R-CASE-1"""
    for caller, level in ((OPERATOR, "regional"), (REGIONAL, "national"), (world.admin, "regional")):
        with pytest.raises(Forbidden):
            write_central(world, caller, level=level)
    central = write_central(world, REGIONAL).central
    with pytest.raises(Forbidden):
        take_up(world, central, by=world.receiver)
    with pytest.raises(Forbidden):
        withdraw = offer.WithdrawCentralCaseType(request_id=uuid4(), central=central)
        world.call(offer.WITHDRAW_CENTRAL_CASE_TYPE, withdraw, OPERATOR)
    known = world.call(offer.LIST_CENTRAL_CASE_TYPES, offer.ListCentralCaseTypes(), world.handler).case_types
    assert central in [one.central for one in known]


# --- templates and standard answers


def test_r_case_20_templates_are_the_administrators_to_write(world: World) -> None:
    """R-CASE-14, R-CASE-20"""

    def create(by: Caller, **changed: Any) -> Any:
        values = {"request_id": uuid4(), "clinic": world.clinic, "purpose": "information", "name": "Provsvar"}
        return world.call(offer.CREATE_TEMPLATE, offer.CreateTemplate(**(values | changed)), by)

    template = create(world.admin, text="Proverna ser bra ut.").case_type
    asking = create(world.admin, purpose="questions", name="Frågor", components=[QUESTION]).case_type
    refused("form_invalid", Invalid, create, world.admin, components=[QUESTION])
    with pytest.raises(Forbidden):
        create(world.handler)
    ask = offer.ListTemplates(clinic=world.clinic)
    for reader in (world.handler, world.receiver):
        shown = world.call(offer.LIST_TEMPLATES, ask, reader).templates
        assert [(one.template, one.purpose, one.text) for one in shown] == [
            (template, "information", "Proverna ser bra ut."),
            (asking, "questions", ""),
        ]
    with pytest.raises(Forbidden):
        world.call(offer.LIST_TEMPLATES, ask, world.reviewer)
    assert {template, asking}.isdisjoint(one.case_type for one in listed(world, world.admin))
    refused("case_type_not_found", NotFound, world.start, case_type=template)
    update(world, case_type=template, text="Proverna är normala.")
    assert world.call(offer.LIST_TEMPLATES, ask, world.handler).templates[0].text == "Proverna är normala."


def test_r_case_20_standard_answers(world: World) -> None:
    """R-CASE-20"""

    def save(by: Caller | None = None, **changed: Any) -> Any:
        values = {
            "request_id": uuid4(),
            "clinic": world.clinic,
            "title": "Recept klart",
            "text": "Receptet är förnyat.",
        }
        return world.call(offer.SAVE_STANDARD_ANSWER, offer.SaveStandardAnswer(**(values | changed)), by or world.admin)

    def shown(by: Caller) -> list[tuple[str, str]]:
        found = world.call(offer.LIST_STANDARD_ANSWERS, offer.ListStandardAnswers(clinic=world.clinic), by)
        return [(one.title, one.text) for one in found.standard_answers]

    one = save().standard_answer
    save(title="Boka tid", text="Ring oss.")
    assert shown(world.handler) == [("Boka tid", "Ring oss."), ("Recept klart", "Receptet är förnyat.")]
    assert save(standard_answer=one, version=1, text="Klart.").version == 2
    refused("standard_answer_changed", Conflict, save, standard_answer=one, version=1)
    for caller in (world.handler, world.receiver):
        with pytest.raises(Forbidden):
            save(caller)
    with pytest.raises(Forbidden):
        shown(world.reviewer)
    other = world.new_clinic()
    stranger = world.person(Role.LOCAL_ADMIN, clinic=other)
    refused("standard_answer_not_found", NotFound, save, stranger, clinic=other, standard_answer=one, version=2)
    gone = offer.RemoveStandardAnswer(request_id=uuid4(), clinic=other, standard_answer=one)
    refused("standard_answer_not_found", NotFound, world.call, offer.REMOVE_STANDARD_ANSWER, gone, stranger)
    mine = offer.RemoveStandardAnswer(request_id=uuid4(), clinic=world.clinic, standard_answer=one)
    world.call(offer.REMOVE_STANDARD_ANSWER, mine, world.admin)
    assert shown(world.receiver) == [("Boka tid", "Ring oss.")]
