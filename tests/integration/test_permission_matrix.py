"""Who may make which call, through real RPC, as two tables say: the contracts' audiences, and the roles at a clinic.

Every call of every service is made by every kind of caller, with and without the terms accepted (R-SYS-1, R-ID-2,
R-ID-3); then every call of identity that depends on a role, by every role, at its own clinic and at another one, by
staff with and without protected identity (R-ID-5, R-ID-6, R-ID-16).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from deploy.local.people import cast
from deploy.local.people.residents import named
from shared.contracts import access, disturbances, identity, subject_access
from shared.contracts.base import Call, Role
from shared.messaging.errors import Refused
from shared.messaging.topology import all_contracts

NOT_LET_IN = {"not_authenticated", "terms_not_accepted", "forbidden"}
STAFF_WITHOUT_TERMS = "SE2321000131-P000009000024"
RESIDENT_WITHOUT_TERMS = named("johan").number
AT_ONCE = 12
SERVICES = [contract.name for contract in all_contracts()]
MANAGER_TOO = "SE2321000131-P000009000021"


def outcome(make: Callable[[], Any]) -> str:
    try:
        make()
    except Refused as refused:
        return refused.code
    return "ok"


def all_at_once(work: Iterable[tuple[str, Callable[[], str]]]) -> dict[str, str]:
    """What became of each, by what it is called."""
    named_work = list(work)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip([name for name, _ in named_work], pool.map(lambda one: one[1](), named_work), strict=True))


# --- every call by every kind of caller -----------------------------------------------------------------------------


def ask(system: Any, call: Call[Any, Any], token: str | None) -> str:
    """The call without arguments: whoever is let in hears that they are missing, or has a query answered."""
    return outcome(lambda: system.call(call, call.request.model_construct(), token, timeout=20))


def expected(call: Call[Any, Any], audience: str, terms: bool) -> str | None:
    """The code of the refusal; None: let in."""
    if "anyone" in call.who:
        return None
    if not audience:
        return "not_authenticated"
    if not call.who & {audience, audience.partition(":")[0]}:
        return "forbidden"
    return None if terms or call.before_terms else "terms_not_accepted"


def test_every_call_by_every_kind_of_caller(system: Any) -> None:
    """R-SYS-1, R-ID-2, R-ID-3, R-ID-16: let in are those whom the contract names, and nobody before the terms."""
    unaccepted_staff, unaccepted_resident = (
        system.login_staff(STAFF_WITHOUT_TERMS),
        system.login_resident(RESIDENT_WITHOUT_TERMS),
    )
    assert unaccepted_staff.terms_version_to_accept
    assert unaccepted_resident.terms_version_to_accept
    callers: list[tuple[str, str, str | None, bool]] = [
        ("nobody", "", None, True),
        ("somebody with a token of their own making", "", "x" * 40, True),
        ("staff", "staff", system.staff_token(cast.OUTSIDER), True),
        ("protected staff", "staff", system.staff_token(cast.PROTECTED_STAFF), True),
        ("staff without terms", "staff", unaccepted_staff.access_token, False),
        ("resident", "resident", system.resident_token(cast.SECOND_RESIDENT), True),
        ("protected resident", "resident", system.resident_token(cast.PROTECTED_RESIDENT), True),
        ("resident without terms", "resident", unaccepted_resident.access_token, False),
        ("operator", "operator", system.operator_token, True),
        ("listings", "system:listings", system.system_token("listings"), True),
        *((f"service {one}", f"service:{one}", system.service_token(one), True) for one in SERVICES),
    ]  # fmt: skip
    calls = [call for contract in all_contracts() for call in contract.calls.values()]
    answers = all_at_once(
        (f"{call.routing_key} by {name}", lambda call=call, token=token: ask(system, call, token))  # type: ignore[misc]
        for call in calls
        for name, _, token, _ in callers
    )
    wrong = []
    for call in calls:
        for name, audience, _, terms in callers:
            found, wanted = answers[f"{call.routing_key} by {name}"], expected(call, audience, terms)
            # A role may be missing all the same, which is the other table's business.
            fits = found == wanted if wanted else found == "forbidden" or found not in NOT_LET_IN
            if not fits:
                wrong.append(f"{call.routing_key} by {name}: {found}, not {wanted or 'let in'}")
    assert wrong == []
    assert len(answers) == len(calls) * len(callers)


# --- every role at its own clinic and at another one ----------------------------------------------------------------

HOLDERS = {
    Role.CASE_RECEIVER: cast.RECEIVER,
    Role.CASE_HANDLER: cast.HANDLER,
    Role.LOCAL_ADMIN: cast.LOCAL_ADMIN,
    Role.RIGHTS_ADMIN: cast.RIGHTS_ADMIN,
    Role.LOG_REVIEWER: cast.LOG_REVIEWER,
    Role.OPERATIONS_MANAGER: cast.OPERATIONS_MANAGER,
    Role.OPERATIONS_ASSISTANT: cast.OPERATIONS_ASSISTANT,
}
CLINIC_ROLES = tuple(HOLDERS)
ADMINISTERS = {Role.LOCAL_ADMIN, Role.OPERATIONS_MANAGER, Role.OPERATIONS_ASSISTANT}
ANSWERS_FOR_THE_CARE_PROVIDER = {Role.OPERATIONS_MANAGER, Role.OPERATIONS_ASSISTANT}
GIVES_RIGHTS = ADMINISTERS | {Role.RIGHTS_ADMIN}
REGION = {Role.REGIONAL_ADMIN}
GIVEN_BY = {
    Role.CASE_RECEIVER: GIVES_RIGHTS,
    Role.CASE_HANDLER: GIVES_RIGHTS,
    Role.LOCAL_ADMIN: ADMINISTERS | REGION,
    Role.RIGHTS_ADMIN: ADMINISTERS,
    Role.LOG_REVIEWER: REGION,
    Role.OPERATIONS_MANAGER: REGION,
    Role.OPERATIONS_ASSISTANT: {Role.OPERATIONS_MANAGER},
}
TAKEN_BY = GIVEN_BY | {Role.OPERATIONS_ASSISTANT: {Role.OPERATIONS_MANAGER, Role.REGIONAL_ADMIN}}
NUMBER = cast.SECOND_RESIDENT


def _command(call: Call[Any, Any], **arguments: Any) -> tuple[Call[Any, Any], Callable[[str], Any]]:
    return call, lambda clinic: call.request(request_id=uuid4(), clinic=clinic, **arguments)


def _query(call: Call[Any, Any]) -> tuple[Call[Any, Any], Callable[[str], Any]]:
    return call, lambda clinic: call.request(clinic=clinic)


Row = tuple[Call[Any, Any], Callable[[str], Any], set[Role]]
TABLE: dict[str, Row] = {
    "list rights": (*_query(identity.LIST_RIGHTS), GIVES_RIGHTS | REGION),
    "list role history": (*_query(identity.LIST_ROLE_HISTORY), GIVES_RIGHTS | REGION),
    "set catchment": (*_command(access.SET_CATCHMENT), ADMINISTERS),
    "get catchment": (*_query(access.GET_CATCHMENT), ADMINISTERS),
    "approve": (*_command(access.APPROVE_RESIDENT, identity_number=NUMBER), ADMINISTERS),
    "withdraw approvals": (*_command(access.WITHDRAW_APPROVALS, approvals=[uuid4()]), ADMINISTERS),
    "list approvals": (*_query(access.LIST_APPROVALS), ADMINISTERS),
    "block": (
        *_command(access.BLOCK_GUARDIAN, guardian_number=NUMBER, child_number=NUMBER, blocked=False),
        ADMINISTERS,
    ),
    "list blocked": (*_query(access.LIST_BLOCKED_GUARDIANS), ADMINISTERS),
    "reports to release": (*_query(subject_access.REPORTS_TO_RELEASE), ANSWERS_FOR_THE_CARE_PROVIDER),
    "release a report": (*_command(subject_access.RELEASE_REPORT, part=uuid4()), ANSWERS_FOR_THE_CARE_PROVIDER),
    "publish a disturbance": (
        disturbances.PUBLISH_DISTURBANCE,
        # It would never be shown, and so is refused: but only to those who may.
        lambda _: disturbances.PublishDisturbance(
            request_id=uuid4(), title="x", text="x", shown_until=datetime(2020, 1, 1, tzinfo=UTC)
        ),
        REGION,
    ),
    "change a disturbance": (
        disturbances.CHANGE_DISTURBANCE,
        lambda _: disturbances.ChangeDisturbance(request_id=uuid4(), disturbance=uuid4(), title="x", text="x"),
        REGION,
    ),
    "all disturbances": (disturbances.ALL_DISTURBANCES, lambda _: disturbances.AllDisturbances(), REGION),
    **{
        f"give {role}": (*_command(identity.GIVE_ROLE, person=cast.UNKNOWN_STAFF, role=role), GIVEN_BY[role])
        for role in CLINIC_ROLES
    },
    **{
        f"take {role}": (*_command(identity.TAKE_ROLE, person=cast.UNKNOWN_STAFF, role=role), TAKEN_BY[role])
        for role in CLINIC_ROLES
    },
}
"""What may be done by which roles: at the clinic where they are held; by the region everywhere. Nobody else may."""

WITHOUT_A_ROLE = {
    # About oneself, or about nobody: any member of staff may.
    "log_out", "read_terms", "accept_terms", "list_sessions", "end_session", "set_contact", "list_roles_of",
    "my_settings", "refresh_from_hsa", "send_verification_code", "verify_address",
}  # fmt: skip


def test_the_table_has_every_call_that_staff_may_make() -> None:
    """R-ID-6: a new call of identity's gets a row here, or is for everybody."""
    for_staff = {name for name, call in identity.identity.calls.items() if "staff" in call.who}
    assert for_staff - {call.name for call, _, _ in TABLE.values()} - WITHOUT_A_ROLE == set()


def clinics_of_each_role(system: Any) -> dict[Role, Any]:
    """For each role a clinic where its holder has it, and the protected member of staff too; both nothing else."""
    found = {}
    for role, holder in HOLDERS.items():
        clinic = found[role] = system.clinic({})
        for person in {holder, cast.PROTECTED_STAFF}:
            if (person, role) != (cast.LOCAL_ADMIN, Role.LOCAL_ADMIN):
                give(system, clinic, person, role)
    return found


def give(system: Any, clinic: Any, person: str, role: Role) -> None:
    giver = cast.LOCAL_ADMIN
    if role in (Role.OPERATIONS_MANAGER, Role.LOG_REVIEWER):
        giver = cast.REGIONAL_ADMIN
    elif role is Role.OPERATIONS_ASSISTANT:
        system.give(clinic, MANAGER_TOO, Role.OPERATIONS_MANAGER, by=cast.REGIONAL_ADMIN)
        giver = MANAGER_TOO
    system.give(clinic, person, role, by=giver)


def test_every_role_at_its_own_clinic_and_at_another(system: Any) -> None:
    """R-ID-5, R-ID-6, R-ID-10, R-ID-16: allowed or refused as the table says, protected or not."""
    clinics, nowhere = clinics_of_each_role(system), system.clinic({})
    callers: list[tuple[str, str, Role | None, str]] = []
    for role, clinic in clinics.items():
        for name, person in ((str(role), HOLDERS[role]), (f"protected {role}", cast.PROTECTED_STAFF)):
            callers.append((f"{name} at their own clinic", person, role, clinic.hsa_id))
            if person != cast.LOCAL_ADMIN:  # who administers all the tests' clinics
                callers.append((f"{name} elsewhere", person, None, nowhere.hsa_id))
    callers.append(("regional administrator", cast.REGIONAL_ADMIN, Role.REGIONAL_ADMIN, nowhere.hsa_id))
    callers.append(("staff without a role", cast.OUTSIDER, None, nowhere.hsa_id))
    tokens = {person: system.staff_token(person) for _, person, _, _ in callers}

    def make(row: Row, person: str, clinic: str) -> str:
        call, request, _ = row
        return outcome(lambda: system.call(call, request(clinic), tokens[person], timeout=20))

    answers = all_at_once(
        (f"{what} by {name}", lambda row=row, person=person, clinic=clinic: make(row, person, clinic))  # type: ignore[misc]
        for what, row in TABLE.items()
        for name, person, _, clinic in callers
    )
    wrong = []
    for what, (_, _, allowed) in TABLE.items():
        for name, _, role, _ in callers:
            found = answers[f"{what} by {name}"]
            fits = found not in NOT_LET_IN | {"internal"} if role in allowed else found == "forbidden"
            if not fits:
                wrong.append(f"{what} by {name}: {found}, {'allowed' if role in allowed else 'refused'} by the table")
    assert wrong == []
