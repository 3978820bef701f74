"""National and regional case types and templates, and the clinics that follow them (R-CASE-1)."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy import func, insert, literal, select, update

from services.cases import forms, neighbours
from services.cases.case_types import add_row, case_type_not_found, components_shown, hold_offer_of, stored
from services.cases.tables import Row, case_type_forms, case_types, central_case_types
from shared.contracts.base import Role
from shared.contracts.case_types import (
    CentralCaseTypes,
    CentralCaseTypeShown,
    CentralCaseTypeWritten,
    Level,
    ListCentralCaseTypes,
    TakeUpCentralCaseType,
    WithdrawCentralCaseType,
    WriteCentralCaseType,
)
from shared.contracts.cases import CaseTypeActivated, CaseTypeDeactivated
from shared.database.transaction import Transaction
from shared.messaging.errors import Conflict, Forbidden
from shared.messaging.server import OngoingCall
from shared.security.caller import Caller

_CONTENT = ("name", "description", "information", "text")


def _require(caller: Caller, level: Level) -> None:
    """National ones are the operator's, regional ones the regional administrators'."""
    if caller.kind == "operator":
        if level != "national":
            raise Forbidden(reason="role_missing")
    elif level != "regional":
        raise Forbidden(reason="role_missing")
    else:
        caller.require_regional_admin()


def write(tx: Transaction, request: WriteCentralCaseType) -> CentralCaseTypeWritten:
    """Makes one, or changes one and with it the case type of each clinic that follows it, in the same transaction.

    Raises `Conflict`: `case_type_changed` since it was read, `case_type_other_kind` for another level or purpose.
    """
    _require(tx.caller, request.level)
    forms.check_components_for(request.purpose, request.components)
    content = {
        **{name: getattr(request, name) for name in _CONTENT},
        "components": stored(request.components),
        "changed_at": tx.now,
        "changed_by": tx.caller.subject,
    }
    if request.central is None:
        central = uuid4()
        kind = {"id": central, "level": request.level, "purpose": request.purpose, "version": 1, "active": True}
        tx.execute(insert(central_case_types).values(content | kind))
        return CentralCaseTypeWritten(central=central, version=1, clinics=0)
    row = _locked(tx, request.central)
    if (row["level"], row["purpose"]) != (request.level, request.purpose):
        raise Conflict("Ärendetypens nivå och syfte kan inte ändras.", reason="case_type_other_kind")
    if row["version"] != request.version:
        raise Conflict("Ärendetypen har ändrats sedan du läste den.", reason="case_type_changed")
    version = row["version"] + 1
    tx.execute(
        update(central_case_types).where(central_case_types.c.id == row["id"]).values(content | {"version": version})
    )
    return CentralCaseTypeWritten(central=row["id"], version=version, clinics=_follow(tx, row, content))


def _follow(tx: Transaction, row: Row, content: dict[str, Any]) -> int:
    """Gives each clinic's case type that follows this one a new version of its form; says how many there are."""
    followers = update(case_types).where(case_types.c.central == row["id"])
    changed = tx.execute(
        followers.values(
            name=content["name"],
            description=content["description"],
            form_version=case_types.c.form_version + 1,
        )
    ).rowcount
    form = case_type_forms.c
    tx.execute(
        insert(case_type_forms).from_select(
            ["case_type", "version", "components", "information", "text"],
            select(
                case_types.c.id,
                case_types.c.form_version,
                literal(content["components"], form.components.type),
                literal(content["information"]),
                literal(content["text"]),
            ).where(case_types.c.central == row["id"]),
        )
    )
    return int(changed)


def _locked(tx: Transaction, central: Any, *, share: bool = False) -> Row:
    question = select(central_case_types).where(central_case_types.c.id == central, central_case_types.c.active)
    row = tx.execute(question.with_for_update(read=share)).mappings().one_or_none()
    if row is None:
        raise case_type_not_found()
    return row


def withdraw(tx: Transaction, request: WithdrawCentralCaseType) -> CaseTypeDeactivated:
    """Takes it out of use at every clinic at once. Cases that are under way go on."""
    row = _locked(tx, request.central)
    _require(tx.caller, row["level"])
    tx.execute(update(central_case_types).where(central_case_types.c.id == row["id"]).values(active=False))
    tx.execute(update(case_types).where(case_types.c.central == row["id"]).values(active=False))
    return CaseTypeDeactivated(case_type=row["id"])


def list_all(tx: Transaction, _request: ListCentralCaseTypes) -> CentralCaseTypes:
    """Those in use, national ones first, by name."""
    question = select(central_case_types).where(central_case_types.c.active)
    in_order = question.order_by(central_case_types.c.level, func.lower(central_case_types.c.name))
    return CentralCaseTypes(
        case_types=[
            CentralCaseTypeShown(
                central=row["id"],
                version=row["version"],
                level=row["level"],
                purpose=row["purpose"],
                components=components_shown(row["components"]),
                **{name: row[name] for name in _CONTENT},
            )
            for row in tx.execute(in_order).mappings()
        ]
    )


def prepare_taking_up(call: OngoingCall[TakeUpCentralCaseType, CaseTypeActivated]) -> neighbours.Prepared:
    """Whether the caller administers the clinic, and the clinic is in use; its care provider."""
    call.caller.require(call.request.clinic, Role.LOCAL_ADMIN)
    return neighbours.Prepared(neighbours.care_provider(call, call.request.clinic, active=True))


def take_up(tx: Transaction, request: TakeUpCentralCaseType, prepared: neighbours.Prepared) -> CaseTypeActivated:
    """The clinic offers it from now on, last in its order; taken up before, it is in use again where it stood."""
    row = _locked(tx, request.central, share=True)
    hold_offer_of(tx, request.clinic)
    there = update(case_types).where(case_types.c.central == row["id"], case_types.c.clinic == request.clinic)
    known = tx.execute(there.values(active=True).returning(case_types.c.id)).scalar_one_or_none()
    if known is not None:
        return CaseTypeActivated(case_type=known)
    return add_row(
        tx,
        request.clinic,
        {
            "care_provider": prepared.care_provider,
            "name": row["name"],
            "description": row["description"],
            "central": row["id"],
        },
        active=True,
        purpose=row["purpose"],
        form={name: row[name] for name in ("components", "information", "text")},
    )
