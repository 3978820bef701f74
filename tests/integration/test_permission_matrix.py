"""Who may make which call, through real RPC, as two tables say: the contracts' audiences, and the roles at a clinic.

Every call of every service is made by every kind of caller, with and without the terms accepted (R-SYS-1, R-ID-2,
R-ID-3); then every call that a role at a clinic decides, by every role, at its own clinic and at another one, by
staff with and without protected identity (R-ID-5, R-ID-6, R-ID-16).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import Any
from uuid import uuid4

from deploy.local.people import cast
from deploy.local.people.residents import named
from shared.contracts import (
    access,
    case_desk,
    case_records,
    case_types,
    cases,
    contacting,
    directory,
    disturbances,
    identity,
    notifications,
    subject_access,
)  # fmt: skip
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


LOCALLY = {Role.LOCAL_ADMIN}
REVIEWS = {Role.LOG_REVIEWER}
CONTACTS_RESIDENTS = {Role.CASE_HANDLER, Role.LOCAL_ADMIN}
PERIOD = {"since": datetime(2026, 1, 1, tzinfo=UTC), "until": datetime(2026, 1, 31, tzinfo=UTC)}
NO_CLINIC = "SE2321000131-E000000000000"


def _command(
    call: Call[Any, Any], to: str | None = None, **arguments: Any
) -> tuple[Call[Any, Any], Callable[[str], Any]]:
    return call, lambda clinic: call.request(request_id=uuid4(), clinic=to or clinic, **arguments)


def _query(call: Call[Any, Any], **arguments: Any) -> tuple[Call[Any, Any], Callable[[str], Any]]:
    return call, lambda clinic: call.request(clinic=clinic, **arguments)


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
    # --- cases ---
    "activate a case type": (
        *_command(cases.ACTIVATE_CASE_TYPE, name="x", components=[{"id": "x", "kind": "text", "label": "x"}]),
        LOCALLY,
    ),
    "order case types": (*_command(case_types.ORDER_CASE_TYPES, case_types=[uuid4()]), LOCALLY),
    "take up a central case type": (*_command(case_types.TAKE_UP_CENTRAL_CASE_TYPE, central=uuid4()), LOCALLY),
    "create a template": (*_command(case_types.CREATE_TEMPLATE, purpose="information", name="x"), LOCALLY),
    "list templates": (*_query(case_types.LIST_TEMPLATES), CONTACTS_RESIDENTS | {Role.CASE_RECEIVER}),
    "save a standard answer": (*_command(case_types.SAVE_STANDARD_ANSWER, title="x", text="x"), LOCALLY),
    "remove a standard answer": (*_command(case_types.REMOVE_STANDARD_ANSWER, standard_answer=uuid4()), LOCALLY),
    "list standard answers": (*_query(case_types.LIST_STANDARD_ANSWERS), CONTACTS_RESIDENTS | {Role.CASE_RECEIVER}),
    "list the clinic's cases": (*_query(cases.LIST_CLINIC_CASES), {Role.CASE_RECEIVER}),
    "count the clinic's cases": (*_query(case_desk.COUNT_CASES), {Role.CASE_RECEIVER}),
    "read the access log": (*_query(cases.ACCESS_LOG), REVIEWS),
    "draw from the access log": (*_query(case_records.SAMPLE_ACCESS_LOG, **PERIOD), REVIEWS),
    "take out the access log": (
        *_query(case_records.EXTRACT_ACCESS_LOG, identity_number=NUMBER, format="text", **PERIOD),
        REVIEWS,
    ),
    "statistics": (
        *_query(case_records.STATISTICS, first_day=date(2026, 1, 1), last_day=date(2026, 1, 31)),
        LOCALLY | {Role.CASE_RECEIVER},
    ),
    "contact a resident": (
        *_command(contacting.CONTACT_RESIDENT, template=uuid4(), identity_number=NUMBER),
        {Role.CASE_HANDLER},
    ),
    "create a mailing": (*_command(contacting.CREATE_MAILING, template=uuid4()), {Role.CASE_HANDLER}),
    "list mailings": (*_query(contacting.LIST_MAILINGS), CONTACTS_RESIDENTS),
    # --- directory: at a clinic that there is not, since one that was inactivated would be no use to the others ---
    "activate a clinic": (*_command(directory.ACTIVATE_CLINIC, to=NO_CLINIC), REGION),
    "inactivate a clinic": (*_command(directory.INACTIVATE_CLINIC, to=NO_CLINIC), REGION),
    "decide an application": (
        directory.DECIDE_APPLICATION,
        lambda _: directory.DecideApplication(request_id=uuid4(), application=uuid4(), approved=True),
        REGION,
    ),
    "write a contact card": (*_command(directory.WRITE_CONTACT_CARD, text="x", version=10**6), LOCALLY),
    "set the public order": (*_command(directory.SET_PUBLIC_ORDER, case_types=[uuid4()]), REGION),
    "begin a sync": (
        directory.START_SYNC,
        lambda _: directory.StartSync(request_id=uuid4(), source="there_is_no_such"),
        REGION,
    ),
    "read a sync": (directory.GET_SYNC_RUN, lambda _: directory.GetSyncRun(run=uuid4()), REGION),
    "list syncs": (directory.LIST_SYNC_RUNS, lambda _: directory.ListSyncRuns(), REGION),
    # --- notifications ---
    "set a clinic's addresses": (*_command(notifications.SET_CLINIC_SETTINGS, new_case_addresses=[]), LOCALLY),
    "read a clinic's addresses": (*_query(notifications.GET_CLINIC_SETTINGS), LOCALLY),
    "send a test": (*_command(notifications.SEND_TEST_MESSAGE, address="no address"), LOCALLY),
    "list a clinic's deliveries": (*_query(notifications.LIST_CLINIC_DELIVERIES), LOCALLY),
    "statistics of deliveries": (*_query(notifications.DELIVERY_STATISTICS, **PERIOD), LOCALLY),
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

BY_THE_CASE = "the case says whose it is: tests/integration/test_cases_strangers.py, test_cases_access.py"
BY_THE_MAILING = "the mailing says whose it is: test_cases_contacting.py"
BY_THE_TYPE = "the case type says whose it is: test_cases_strangers.py, test_cases_offer.py"
BY_THE_LEVEL = "the level says who: test_cases_offer.py"
BY_THE_FILE = "only one's own: test_attachments_upload.py"
ONESELF = "about oneself"
NOBODY = "about no person, for anybody who is logged in"
NOT_BY_ROLE_AT_A_CLINIC = {
    "identity": {
        **dict.fromkeys(("log_out", "accept_terms", "list_sessions", "end_session", "set_contact"), ONESELF),
        **dict.fromkeys(("my_settings", "refresh_from_hsa", "send_verification_code", "verify_address"), ONESELF),
        "read_terms": NOBODY,
        "list_roles_of": "shows what the caller may know: test_identity_roles.py",
    },
    "directory": {
        "get_clinics": NOBODY,
        "search_clinics": NOBODY,
        "get_contact_card": NOBODY,
        "refresh_my_facts": ONESELF,
        "apply_for_clinic": "anybody may, but not for one that replaces another's: test_directory_applications.py",
        "list_applications": "one's own, or all of the region: test_directory_applications.py",
    },
    "cases": {
        **dict.fromkeys(("assign_case", "reply", "close_case", "get_case", "open_attachment", "add_note"), BY_THE_CASE),
        **dict.fromkeys(("save_draft", "get_draft", "discard_draft", "take_out_case", "mark_recorded"), BY_THE_CASE),
        **dict.fromkeys(("set_signature", "get_signature", "list_my_cases"), ONESELF),
        "list_case_types": NOBODY,
        **dict.fromkeys(("deactivate_case_type", "update_case_type", "reactivate_case_type"), BY_THE_TYPE),
        **dict.fromkeys(("write_central_case_type", "withdraw_central_case_type"), BY_THE_LEVEL),
        "list_central_case_types": BY_THE_LEVEL,
        **dict.fromkeys(("add_recipients", "send_mailing", "cancel_mailing"), BY_THE_MAILING),
        **dict.fromkeys(("get_mailing", "list_recipients"), BY_THE_MAILING),
    },
    "attachments": {
        **dict.fromkeys(("ask_upload", "uploaded", "get_attachment", "list_unsent"), BY_THE_FILE),
        **dict.fromkeys(("preview_attachment", "remove_attachment"), BY_THE_FILE),
        "limits": NOBODY,
    },
    "notifications": {"resend_delivery": "the delivery says whose it is: test_notifications_administering.py"},
}
"""The calls that staff may make and no row is about, and why not."""


def test_every_call_that_staff_may_make_has_a_row_or_a_reason() -> None:
    """R-SYS-1, R-ID-6: a call that is added to any service fails here until it is said who may make it."""
    in_table = {call.routing_key for call, _, _ in TABLE.values()}
    reasoned = {f"{service}.{name}" for service, calls in NOT_BY_ROLE_AT_A_CLINIC.items() for name in calls}
    for_staff = {
        call.routing_key for contract in all_contracts() for call in contract.calls.values() if "staff" in call.who
    }
    assert in_table | reasoned == for_staff
    assert in_table & reasoned == set()


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
