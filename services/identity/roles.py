"""Roles at clinics: who gives and takes which (R-ID-5 to R-ID-8), at once (R-ID-10), and who did."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import delete, func, insert, select
from sqlalchemy.dialects.postgresql import insert as insert_or_not

from services.identity import revocations, rules
from services.identity.tables import regional_admins, role_history, roles, staff
from shared.contracts import directory, identity
from shared.contracts.base import HsaId, Role
from shared.messaging.errors import Conflict, Forbidden, Invalid
from shared.operations.logs import log
from shared.security.caller import Caller

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

_HSA_ID: TypeAdapter[str] = TypeAdapter(HsaId)


def hsa_id_of(person: str) -> HsaId:
    """The HSA-id in what someone pasted, without blanks, in capitals (R-ID-7). Raises `Invalid` if it is none."""
    try:
        return _HSA_ID.validate_python(person)
    except ValidationError:
        raise Invalid("Det är inget HSA-id.", reason="not_an_hsa_id", fields=[("person", "är inget HSA-id")]) from None


def require_in_directory(found: directory.StaffFacts) -> None:
    """Raises `Invalid` unless HSA has the person: nobody else is given a right (R-ID-8)."""
    if found.status != "fine":
        raise Invalid(
            "Personen saknas i HSA, är dold där eller har passerat sitt slutdatum.",
            reason="staff_missing_in_directory",
            fields=[("person", "saknas i HSA")],
        )


def require_active(clinic: HsaId, found: directory.Clinics) -> None:
    """Raises `Conflict` with reason `clinic_not_active` unless the clinic is active in the e-services."""
    if not any(one.clinic == clinic and one.active for one in found.clinics):
        raise Conflict("Mottagningen är inte aktiv i e-tjänsterna.", reason="clinic_not_active")


def require_may_give(caller: Caller, clinic: HsaId, role: Role, person: HsaId) -> None:
    """Raises `Forbidden` unless the caller may give the person this role there (R-ID-6)."""
    if not rules.may_give(_held_by(caller, clinic), role):
        raise Forbidden("Du får inte ge den behörigheten på mottagningen.", reason="may_not_give_role")
    if caller.subject == person and role in rules.NEVER_TO_ONESELF:
        raise Forbidden("Någon annan måste ge dig den behörigheten.", reason="not_to_oneself")


def require_may_take(caller: Caller, clinic: HsaId, role: Role) -> None:
    """Raises `Forbidden` unless the caller may take this role there (R-ID-6)."""
    if not rules.may_take(_held_by(caller, clinic), role):
        raise Forbidden("Du får inte ta bort den behörigheten på mottagningen.", reason="may_not_take_role")


def may_still_take(tx: Transaction, request: identity.TakeRole) -> bool:
    """Whether the caller may take this role there at this moment (R-ID-6)."""
    return rules.may_take(_held_by(_caller_now(tx), request.clinic), request.role)


def require_administers(caller: Caller, clinic: HsaId) -> None:
    """Raises `Forbidden` unless the caller gives some right there."""
    if not rules.administers(_held_by(caller, clinic)):
        raise Forbidden("Du administrerar inte mottagningen.", reason="role_missing")


def make_first_administrator(
    tx: Transaction, _request: identity.MakeFirstAdministrator, person: HsaId
) -> identity.FirstAdministrator:
    """Makes the first regional administrator. Raises `Conflict` once there has been one (R-ID-6)."""
    revocations.wait_for_turn(tx)
    regional = role_history.c.role == Role.REGIONAL_ADMIN
    if tx.execute(select(func.count()).select_from(role_history).where(regional)).scalar_one():
        raise Conflict("Det finns redan en regional administratör.", reason="administrator_exists")
    _add(tx, person)
    tx.execute(insert(regional_admins).values(person=person, given_at=tx.now, given_by=tx.caller.identity))
    _note(tx, None, person, Role.REGIONAL_ADMIN, "given")
    revocations.tell(tx, person)
    log.warning("first_regional_administrator_made")
    return identity.FirstAdministrator(person=person)


def give_regional_admin(
    tx: Transaction, _request: identity.GiveRegionalAdmin, person: HsaId
) -> identity.RegionalAdmins:
    """Makes a further regional administrator of someone who is known to be in HSA (R-ID-6)."""
    revocations.wait_for_turn(tx)
    if person not in _regional_admins(tx):
        _add(tx, person)
        tx.execute(insert(regional_admins).values(person=person, given_at=tx.now, given_by=tx.caller.identity))
        _note(tx, None, person, Role.REGIONAL_ADMIN, "given")
        revocations.tell(tx, person)
        log.warning("regional_administrator_made")
    return identity.RegionalAdmins(people=_regional_admins(tx))


def take_regional_admin(
    tx: Transaction, _request: identity.TakeRegionalAdmin, person: HsaId
) -> identity.RegionalAdmins:
    """Takes it, at once and everywhere (R-ID-10). Raises `Conflict` for the only one, who is never lost silently."""
    revocations.wait_for_turn(tx)
    held = _regional_admins(tx)
    if held == [person]:
        raise Conflict(
            "Regionen måste ha kvar en regional administratör. Utse en annan först.", reason="last_administrator"
        )
    if person in held:
        tx.execute(delete(regional_admins).where(regional_admins.c.person == person))
        _note(tx, None, person, Role.REGIONAL_ADMIN, "taken")
        revocations.tell(tx, person)
        log.warning("regional_administrator_taken")
    return identity.RegionalAdmins(people=_regional_admins(tx))


def give(tx: Transaction, request: identity.GiveRole, person: HsaId) -> identity.RoleGiven:
    """Gives the role, adding the person in the same step if new here (R-ID-8). Given before, it changes nothing.

    `person` is normalised, and known to be in HSA. Raises `Forbidden` if the caller may not give it (R-ID-6).
    """
    revocations.wait_for_turn(tx)
    require_may_give(_caller_now(tx), request.clinic, request.role, person)
    _add(tx, person)
    given = tx.execute(
        insert_or_not(roles)
        .values(
            clinic=request.clinic,
            person=person,
            role=request.role.value,
            given_at=tx.now,
            given_by=tx.caller.identity,
        )
        .on_conflict_do_nothing()
        .returning(roles.c.role)
    ).one_or_none()
    if given is not None:
        _note(tx, request.clinic, person, request.role, "given")
        revocations.tell(tx, person)
    return identity.RoleGiven(person=person, roles=_roles_at(tx, request.clinic, person))


def local_administrators(tx: Transaction, request: identity.TakeRole) -> set[HsaId]:
    """Who is local administrator of the clinic."""
    held = (roles.c.clinic == request.clinic) & (roles.c.role == Role.LOCAL_ADMIN.value)
    return set(tx.execute(select(roles.c.person).where(held)).scalars())


def take(tx: Transaction, request: identity.TakeRole, person: HsaId, missing: Collection[HsaId]) -> identity.RoleTaken:
    """Takes the role; not held, nothing changes. The answer does not say yet which addresses overlap.

    `missing`: those whom the directory calls so, who can never log in: a clinic that has another administrator is not
    left with them alone.

    Raises `Forbidden` if the caller may not take it, `Conflict` if the clinic would lose its last local administrator
    and it is not a regional administrator who takes it (R-ID-6).
    """
    revocations.wait_for_turn(tx)
    caller = _caller_now(tx)
    require_may_take(caller, request.clinic, request.role)
    held = _roles_at(tx, request.clinic, person)
    if request.role in held:
        _refuse_last_administrator(tx, request, caller, person, missing)
        this = (roles.c.clinic == request.clinic) & (roles.c.person == person) & (roles.c.role == request.role.value)
        tx.execute(delete(roles).where(this))
        _note(tx, request.clinic, person, request.role, "taken")
        revocations.tell(tx, person)
    return identity.RoleTaken(person=person, roles=[one for one in held if one != request.role])


def held_by(tx: Transaction, people: Sequence[HsaId]) -> dict[HsaId, list[identity.HeldRole]]:
    """All that these people hold, at any clinic; who holds nothing is left out."""
    rows = tx.execute(
        select(roles.c.person, roles.c.clinic, roles.c.role)
        .where(roles.c.person.in_(people))
        .order_by(roles.c.person, roles.c.clinic, roles.c.role)
    )
    held: dict[HsaId, list[identity.HeldRole]] = {}
    for row in rows:
        held.setdefault(row.person, []).append(identity.HeldRole(clinic=row.clinic, role=Role(row.role)))
    return held


def people_at(tx: Transaction, request: identity.ListRights) -> dict[HsaId, list[Role]]:
    """Who holds which roles at the clinic. Raises `Forbidden` for those who administer nothing there."""
    require_administers(tx.caller, request.clinic)
    rows = tx.execute(
        select(roles.c.person, roles.c.role).where(roles.c.clinic == request.clinic).order_by(roles.c.person)
    )
    held: dict[HsaId, list[Role]] = {}
    for row in rows:
        held.setdefault(row.person, []).append(Role(row.role))
    return {person: _in_order(found) for person, found in held.items()}


def roles_of(tx: Transaction, _request: identity.ListRolesOf, person: HsaId) -> identity.RolesOf:
    """What the person holds, as far as the caller may know of it. Nothing, whether there is no such person or none of
    the caller's business."""
    held = held_by(tx, [person]).get(person, [])
    everything = tx.caller.rights.is_regional_admin or person == tx.caller.subject
    regional = select(regional_admins.c.person).where(regional_admins.c.person == person)
    return identity.RolesOf(
        person=person,
        roles=[one for one in held if everything or rules.administers(tx.caller.rights.roles_at(one.clinic))],
        regional=everything and tx.execute(regional).first() is not None,
    )


def history(tx: Transaction, request: identity.ListRoleHistory) -> identity.RoleHistory:
    """Who gave and took what at the clinic. Raises `Forbidden` for those who administer nothing there."""
    require_administers(tx.caller, request.clinic)
    query = select(role_history).where(role_history.c.clinic == request.clinic)
    if request.person is not None:
        query = query.where(role_history.c.person == request.person)
    if request.before is not None:
        query = query.where(role_history.c.seq < request.before)
    rows = tx.execute(query.order_by(role_history.c.seq.desc()).limit(request.limit + 1)).all()
    changes = [
        identity.RoleChange(
            number=row.seq, at=row.at, person=row.person, role=Role(row.role), change=row.change, by=row.by
        )
        for row in rows[: request.limit]
    ]
    return identity.RoleHistory(changes=changes, more=len(rows) > request.limit)


def with_directory(
    held: dict[HsaId, list[Role]],
    facts: Sequence[directory.StaffFacts],
    own: Mapping[HsaId, Sequence[str]],
    overlapping: Collection[str] | None,
) -> identity.ClinicRights:
    """The list of rights, each person with name and directory status (R-ID-9); unknown to the directory is missing.

    `overlapping`: those of their `own` addresses that the clinic has entered as its own; None: nobody could tell
    (R-ID-10).
    """
    known = {one.person: one for one in facts}
    people = []
    for person, found in held.items():
        about = known.get(person) or directory.StaffFacts(person=person, status="missing")
        people.append(
            identity.PersonWithRoles(
                person=person,
                given_name=about.given_name,
                surname=about.surname,
                title=about.title,
                roles=found,
                directory_status=about.status,
                protected=about.protected,
                overlapping_addresses=None
                if overlapping is None
                else [one for one in own.get(person, ()) if one in overlapping],
            )
        )
    return identity.ClinicRights(people=people)


def _held_by(caller: Caller, clinic: HsaId) -> frozenset[Role]:
    held = caller.rights.roles_at(clinic)
    return held | {Role.REGIONAL_ADMIN} if caller.rights.is_regional_admin else held


def _caller_now(tx: Transaction) -> Caller:
    """The caller with the rights of this moment: they may have lost some since the call began."""
    return Caller(
        kind=tx.caller.kind,
        subject=tx.caller.subject,
        session=tx.caller.session,
        rights=revocations.rights_source(tx.connection, tx.caller),
    )


def _refuse_last_administrator(
    tx: Transaction, request: identity.TakeRole, caller: Caller, person: HsaId, missing: Collection[HsaId]
) -> None:
    held = local_administrators(tx, request)
    counted = held.difference(missing) or held
    if rules.loses_last_administrator(request.role, len(counted - {person}), caller.rights.is_regional_admin):
        raise Conflict(
            "Mottagningen måste ha kvar en lokal administratör. Bara en regional administratör kan ta bort den sista.",
            reason="last_administrator",
        )


def _add(tx: Transaction, person: HsaId) -> None:
    tx.execute(insert_or_not(staff).values(person=person, added_at=tx.now).on_conflict_do_nothing())


def _note(tx: Transaction, clinic: HsaId | None, person: HsaId, role: Role, change: str) -> None:
    by = tx.caller.identity
    tx.execute(
        insert(role_history).values(at=tx.now, clinic=clinic, person=person, role=role.value, change=change, by=by)
    )


def _roles_at(tx: Transaction, clinic: HsaId, person: HsaId) -> list[Role]:
    found = tx.execute(select(roles.c.role).where(roles.c.clinic == clinic, roles.c.person == person)).scalars()
    return _in_order(Role(one) for one in found)


def _regional_admins(tx: Transaction) -> list[HsaId]:
    return list(tx.execute(select(regional_admins.c.person).order_by(regional_admins.c.person)).scalars())


def _in_order(found: Iterable[Role]) -> list[Role]:
    order = list(Role)
    return sorted(found, key=order.index)
