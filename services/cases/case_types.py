"""What a clinic offers residents to start: its case types, with their forms and order (R-CASE-1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, and_, case, func, insert, literal, select, true, update

from services.cases import forms, neighbours
from services.cases.tables import Row, case_type_forms, case_types, central_case_types
from shared.contracts.base import Done, HsaId, Role
from shared.contracts.case_types import (
    MOST_CASE_TYPES,
    CaseTypeUpdated,
    CreateTemplate,
    OrderCaseTypes,
    ReactivateCaseType,
    UpdateCaseType,
)
from shared.contracts.cases import (
    ActivateCaseType,
    CaseTypeActivated,
    CaseTypeDeactivated,
    CaseTypeShown,
    Component,
    ComponentShown,
    DeactivateCaseType,
)
from shared.database.transaction import Transaction
from shared.messaging.errors import Conflict, Invalid, LimitExceeded, NotFound
from shared.messaging.server import OngoingCall
from shared.security.caller import Caller

# --- made and changed by the clinic's local administrators ------------------------------------------------------------


def check_activation(caller: Caller, request: ActivateCaseType) -> None:
    """Whether the caller administers the clinic and the form can be filled in. Raises `Forbidden`, `Invalid`."""
    caller.require(request.clinic, Role.LOCAL_ADMIN)
    forms.check_components(request.components)


def prepare(call: OngoingCall[ActivateCaseType, CaseTypeActivated]) -> neighbours.Prepared:
    """Whether the caller may, and the clinic is in use; its care provider."""
    check_activation(call.caller, call.request)
    return neighbours.Prepared(neighbours.care_provider(call, call.request.clinic, active=True))


def activate(tx: Transaction, request: ActivateCaseType, prepared: neighbours.Prepared) -> CaseTypeActivated:
    """Adds the case type last in the clinic's order, in use at once."""
    return add(
        tx,
        request,
        prepared,
        active=request.active,
        purpose="resident",
        information=request.information,
        text="",
    )


def add(
    tx: Transaction,
    made: ActivateCaseType | CreateTemplate,
    prepared: neighbours.Prepared,
    *,
    active: bool,
    purpose: str,
    information: str,
    text: str,
) -> CaseTypeActivated:
    """Adds what a clinic makes itself, last in its order."""
    return add_row(
        tx,
        made.clinic,
        {"care_provider": prepared.care_provider, "name": made.name, "description": made.description},
        active=active,
        purpose=purpose,
        form={"components": stored(made.components), "information": information, "text": text},
    )


def hold_offer_of(tx: Transaction, clinic: HsaId) -> None:
    """Waits for whoever adds to what the clinic offers, and lets no one else until this transaction ends: two would
    get the same place, or take up the same twice."""
    tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(literal(f"offer of {clinic}"), 0))))


def add_row(
    tx: Transaction, clinic: HsaId, columns: dict[str, Any], *, active: bool, purpose: str, form: dict[str, Any]
) -> CaseTypeActivated:
    """Adds a case type last in the clinic's order. Raises `LimitExceeded` where there are too many."""
    case_type = uuid4()
    hold_offer_of(tx, clinic)
    last = func.coalesce(func.max(case_types.c.position), 0).label("last")
    there = tx.execute(select(last, func.count().label("many")).where(case_types.c.clinic == clinic)).one()
    if there.many >= MOST_CASE_TYPES:
        raise LimitExceeded("Mottagningen har för många ärendetyper och mallar.", reason="too_many_case_types")
    tx.execute(
        insert(case_types).values(
            columns
            | {
                "id": case_type,
                "clinic": clinic,
                "position": there.last + 1,
                "active": active,
                "purpose": purpose,
                "form_version": 1,
                "created_at": tx.now,
                "created_by": tx.caller.subject,
            }
        )
    )
    tx.execute(insert(case_type_forms).values(form | {"case_type": case_type, "version": 1}))
    return CaseTypeActivated(case_type=case_type)


def stored(components: Sequence[Component]) -> list[dict[str, Any]]:
    """Components as the table has them."""
    return [component.model_dump(mode="json", exclude_none=True) for component in components]


def update_case_type(tx: Transaction, request: UpdateCaseType) -> CaseTypeUpdated:
    """Changes a case type or template; its form as it was is kept for the cases that began with it (R-CASE-1).

    Raises `NotFound`, and `Conflict`: `case_type_changed` since it was read, `case_type_is_central`.
    """
    row = _administered(tx, request.case_type)
    if row["central"] is not None:
        raise Conflict("Ärendetypen ändras nationellt eller regionalt.", reason="case_type_is_central")
    if row["form_version"] != request.form_version:
        raise Conflict("Ärendetypen har ändrats sedan du läste den.", reason="case_type_changed")
    if request.components is not None:
        forms.check_components_for(row["purpose"], request.components)
    version = row["form_version"] + 1
    given = request.model_dump(include={"name", "description"}, exclude_none=True)
    tx.execute(update(case_types).where(case_types.c.id == row["id"]).values(given | {"form_version": version}))
    tx.execute(
        insert(case_type_forms).values(
            case_type=row["id"],
            version=version,
            components=row["components"] if request.components is None else stored(request.components),
            information=row["information"] if request.information is None else request.information,
            text=row["text"] if request.text is None else request.text,
        )
    )
    return CaseTypeUpdated(case_type=row["id"], form_version=version)


def _administered(tx: Transaction, case_type: UUID) -> Row:
    """The case type with its form, locked for change, if the caller administers it: else `NotFound`."""
    _hold(tx, *_of_administrator(tx, case_type))
    row = (
        tx.execute(
            select(case_types, case_type_forms.c.components, case_type_forms.c.information, case_type_forms.c.text)
            .select_from(WITH_FORM)
            .where(*_of_administrator(tx, case_type))
        )
        .mappings()
        .one_or_none()
    )
    if row is None:
        raise case_type_not_found()
    return row


def _hold(tx: Transaction, *which: ColumnElement[bool], share: bool = False) -> None:
    """Locks the case type until the transaction ends, before it is read with its form: locked in the same statement, a
    change that is waited for leaves the new version beside the forms of before, in which it is not."""
    tx.execute(select(case_types.c.id).where(*which).with_for_update(read=share))


def case_type_not_found() -> NotFound:
    """The same for what is not there and for what is not the caller's."""
    return NotFound("Ärendetypen finns inte.", reason="case_type_not_found")


def _of_administrator(tx: Transaction, case_type: UUID) -> tuple[ColumnElement[bool], ...]:
    """What other systems' messages are counted as is nobody's to administer."""
    mine = tx.caller.rights.clinics_with(Role.LOCAL_ADMIN)
    return (case_types.c.id == case_type, case_types.c.clinic.in_(mine), case_types.c.purpose != "system")


def deactivate(tx: Transaction, request: DeactivateCaseType) -> CaseTypeDeactivated:
    """Takes the case type out of use; deactivating twice is as once. Not the caller's to administer: `NotFound`."""
    _set_active(tx, request.case_type, active=False)
    return CaseTypeDeactivated(case_type=request.case_type)


def clinic_of(tx: Transaction, request: ReactivateCaseType) -> HsaId:
    """The clinic of a case type that the caller administers: else `NotFound`."""
    return str(_administered(tx, request.case_type)["clinic"])


def prepare_reactivation(call: OngoingCall[ReactivateCaseType, CaseTypeActivated]) -> neighbours.Prepared:
    """Whether the clinic is in use."""
    clinic = call.read(clinic_of)
    return neighbours.Prepared(neighbours.care_provider(call, clinic, active=True))


def reactivate(tx: Transaction, request: ReactivateCaseType, _prepared: neighbours.Prepared) -> CaseTypeActivated:
    """Takes the case type into use again, where it stood in the order; twice is as once."""
    central = _administered(tx, request.case_type)["central"]
    withdrawn = select(central_case_types.c.id).where(central_case_types.c.id == central, ~central_case_types.c.active)
    if central is not None and tx.execute(withdrawn).one_or_none() is not None:
        raise Conflict("Ärendetypen är inte längre i bruk nationellt eller regionalt.", reason="case_type_withdrawn")
    _set_active(tx, request.case_type, active=True)
    return CaseTypeActivated(case_type=request.case_type)


def _set_active(tx: Transaction, case_type: UUID, *, active: bool) -> None:
    changed = tx.execute(update(case_types).where(*_of_administrator(tx, case_type)).values(active=active))
    if changed.rowcount == 0:
        raise case_type_not_found()


def order(tx: Transaction, request: OrderCaseTypes) -> Done:
    """Sets the clinic's order. Raises `Invalid` unless each of its case types is named, once."""
    tx.caller.require(request.clinic, Role.LOCAL_ADMIN)
    mine = and_(case_types.c.clinic == request.clinic, case_types.c.purpose == "resident")
    locked = select(case_types.c.id).where(mine).order_by(case_types.c.id).with_for_update()
    there = tx.execute(locked).scalars().all()
    if sorted(request.case_types) != sorted(there):
        raise Invalid(
            "Ordningen måste nämna mottagningens alla ärendetyper, var och en en gång.",
            reason="order_incomplete",
            fields=[("case_types", "måste vara mottagningens alla ärendetyper")],
        )
    places = {one: place for place, one in enumerate(request.case_types, start=1)}
    tx.execute(update(case_types).where(mine).values(position=case(places, value=case_types.c.id)))
    return Done()


# --- shown, and started from ------------------------------------------------------------------------------------------

WITH_FORM = case_types.join(
    case_type_forms,
    and_(case_type_forms.c.case_type == case_types.c.id, case_type_forms.c.version == case_types.c.form_version),
)


def of_clinics(
    tx: Transaction, clinics: Sequence[HsaId], purposes: Sequence[str], *, all_of_them: bool = False
) -> Sequence[Row]:
    """The clinics' case types or templates, each in its order, with their forms; only those in use, or all of them."""
    return (
        tx.execute(
            select(case_types, case_type_forms.c.components, case_type_forms.c.information, case_type_forms.c.text)
            .select_from(WITH_FORM)
            .where(
                case_types.c.clinic.in_(clinics),
                case_types.c.purpose.in_(purposes),
                true() if all_of_them else case_types.c.active,
            )
            .order_by(case_types.c.clinic, case_types.c.position, case_types.c.id)
        )
        .mappings()
        .all()
    )


def components_shown(components: Sequence[Any]) -> list[ComponentShown]:
    """Components as callers see them."""
    return [ComponentShown.model_validate(component) for component in components]


def shown(row: Row) -> CaseTypeShown:
    """A case type with its form, as callers see it."""
    return CaseTypeShown(
        case_type=row["id"],
        name=row["name"],
        active=row["active"],
        components=components_shown(row["components"]),
        description=row["description"],
        information=row["information"],
        form_version=row["form_version"],
        central=row["central"],
    )


@dataclass(frozen=True)
class Offered:
    """An active case type or template as a case is started from it."""

    id: UUID
    name: str
    purpose: str
    form_version: int
    form: forms.Form
    information: str
    text: str


def offered(
    tx: Transaction, clinic: HsaId, case_type: UUID, *, purposes: Sequence[str] = ("resident",), keep: bool = False
) -> Offered:
    """The clinic's active case type. With `keep` it stays as it is until the transaction ends: a case that is being
    started when the last case type is deactivated is then seen by whoever counts open cases (R-DIR-3).

    Raises `NotFound`, and `Conflict` (case_type_not_active) for one that is out of use.
    """
    this = (case_types.c.id == case_type, case_types.c.clinic == clinic, case_types.c.purpose.in_(purposes))
    if keep:
        _hold(tx, *this, share=True)
    question = (
        select(case_types, case_type_forms.c.components, case_type_forms.c.information, case_type_forms.c.text)
        .select_from(WITH_FORM)
        .where(*this)
    )
    row = tx.execute(question).mappings().one_or_none()
    if row is None:
        raise case_type_not_found()
    if not row["active"]:
        raise Conflict("Ärendetypen är inte aktiv.", reason="case_type_not_active")
    return Offered(
        row["id"],
        row["name"],
        row["purpose"],
        row["form_version"],
        forms.from_stored(row["components"]),
        row["information"],
        row["text"],
    )


def as_it_was(tx: Transaction, mailing: Row) -> Offered:
    """A template in the version that a mailing was made from, in use or not."""
    row = (
        tx.execute(
            select(case_types.c.purpose, case_type_forms.c.components)
            .join(case_type_forms, case_type_forms.c.case_type == case_types.c.id)
            .where(case_types.c.id == mailing["case_type"], case_type_forms.c.version == mailing["form_version"])
        )
        .mappings()
        .one()
    )
    return Offered(
        mailing["case_type"],
        mailing["case_type_name"],
        row["purpose"],
        mailing["form_version"],
        forms.from_stored(row["components"]),
        "",
        "",
    )


def form_of(tx: Transaction, case: Row) -> forms.Form:
    """The form that the case began with (R-CASE-1)."""
    mine = (case_type_forms.c.case_type == case["case_type"], case_type_forms.c.version == case["form_version"])
    return forms.from_stored(tx.execute(select(case_type_forms.c.components).where(*mine)).scalar_one())


def check_read(offered: Offered, form_version: int | None) -> None:
    """Whether what was read and filled in is the form as it is now (R-CASE-1).

    Raises `Conflict`: `information_not_read` where there is information to be read first, `form_changed`.
    """
    if form_version is None and offered.information.strip():
        raise Conflict("Du behöver läsa informationen först.", reason="information_not_read")
    check_current(offered, form_version)


def check_current(offered: Offered, form_version: int | None) -> None:
    """Whether it is still in the version that the caller has read, if they say which. `Conflict`: `form_changed`."""
    if form_version is not None and form_version != offered.form_version:
        raise Conflict("Formuläret har ändrats. Läs det igen.", reason="form_changed")
