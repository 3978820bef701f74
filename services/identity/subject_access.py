"""Subject access reports: asked for by residents, released by care providers, gathered from every service (R-ID-19).

A report is of the person: where they have several accounts, by numbers that the register has linked, of all of them.

A report has a part for what the e-services hold themselves, and one for each care provider that controls something. A
part is gathered in a job, service by service, and kept sealed; a service that does not answer is asked again at every
run. When it has not answered for a day the part says so, and it is asked on.

A report ends 90 days after it was asked for: what was not released, or can't be had, is no longer waited for. The
resident can ask anew after 30.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from pydantic import TypeAdapter
from sqlalchemy import Row, delete, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_not

from services.identity import own_holdings, resident_accounts, residents
from services.identity.representation import require_oneself
from services.identity.tables import identity_numbers, report_pages, report_parts, reports
from services.identity.tables import residents as accounts
from shared.contracts import subject_access
from shared.contracts.base import Call, Done, HsaId, Role
from shared.contracts.subject_access import Held, HeldPage, SubjectAccess
from shared.messaging.errors import Conflict, Forbidden, NotFound, Refused
from shared.operations.logs import log

if TYPE_CHECKING:
    from shared.database.transaction import Transaction

RELEASES = (Role.OPERATIONS_MANAGER, Role.OPERATIONS_ASSISTANT)
"""Who answers for the care provider at its clinics."""
WAITS = timedelta(hours=24)
"""So long a service is waited for before the part says that it is missing."""
KEPT = timedelta(days=30)
"""So long a report is kept once all of it is there, or once it has ended. Also the month in which a care provider has
to answer (GDPR, article 12.3): after it the resident may ask anew, and the operator is told who has not released."""
ENDS_AFTER = timedelta(days=90)
"""So long after it was asked for a report waits for what has not come: the month, and the two more that a care provider
can take for good reasons."""
AT_ONCE = 20
_ATTACHMENTS_AT_ONCE = 1000
_HELD: TypeAdapter[list[Held]] = TypeAdapter(list[Held])

Transactions = Callable[[], AbstractContextManager["Transaction"]]
Ask = Callable[[Call[Any, Any], Any], Any]


# --- the resident ---------------------------------------------------------------------------------------------------


def request(tx: Transaction, asked: subject_access.RequestReport) -> subject_access.ReportRequested:
    """Begins a report; while one is under way it is that one. Raises `Forbidden` for one who acts for a child."""
    require_oneself(tx, asked)
    resident = UUID(tx.caller.subject)
    own = resident_accounts.every_account(tx, resident)
    # Two at once make one: the second waits here.
    resident_accounts.hold_accounts(tx, own)
    under_way = tx.execute(
        select(reports.c.report)
        .join(report_parts, report_parts.c.report == reports.c.report)
        .where(reports.c.resident.in_(own), report_parts.c.state != "ready", reports.c.requested_at > tx.now - KEPT)
    ).first()
    if under_way is not None:
        return subject_access.ReportRequested(report=under_way.report)
    report = uuid4()
    tx.execute(insert(reports).values(report=report, resident=resident, requested_at=tx.now))
    tx.execute(
        insert(report_parts).values(
            part=uuid4(), report=report, care_provider="", state="gathering", released_at=tx.now, missing=[]
        )
    )
    return subject_access.ReportRequested(report=report)


def mine(tx: Transaction, _request: subject_access.MyReports) -> subject_access.Reports:
    """The resident's own reports, the newest first."""
    require_oneself(tx, _request)
    mine_only = reports.c.resident.in_(resident_accounts.every_account(tx, UUID(tx.caller.subject)))
    rows = tx.execute(
        select(reports.c.requested_at, reports.c.care_providers_known, report_parts)
        .join(report_parts, report_parts.c.report == reports.c.report)
        .where(mine_only)
        .order_by(reports.c.requested_at.desc(), reports.c.report, report_parts.c.care_provider)
    )
    each = [list(parts) for _report_id, parts in groupby(rows, key=attrgetter("report"))]
    return subject_access.Reports(reports=[_report(tx, parts[0], parts) for parts in each])


def _report(tx: Transaction, row: Row[Any], parts: Sequence[Row[Any]]) -> subject_access.Report:
    whole = row.care_providers_known and all(one.state == "ready" for one in parts)
    return subject_access.Report(
        report=row.report,
        requested_at=row.requested_at,
        whole=whole,
        ended=not whole and row.requested_at <= tx.now - ENDS_AFTER,
        parts=[
            subject_access.ReportPart(
                part=one.part,
                care_provider=one.care_provider or None,
                state=one.state,
                missing=list(one.missing),
                released_at=one.released_at,
            )
            for one in parts
        ],
    )


def _parts(tx: Transaction, report: UUID) -> Sequence[Row[Any]]:
    """What the e-services hold first, then by care provider."""
    query = select(report_parts).where(report_parts.c.report == report)
    return tx.execute(query.order_by(report_parts.c.care_provider)).all()


_PERSON = (
    select(accounts, identity_numbers.c.hash, identity_numbers.c.sealed)
    .join(identity_numbers, identity_numbers.c.resident == accounts.c.resident)
    .where(identity_numbers.c.current)
)


@dataclass(frozen=True, repr=False)
class Whole:
    """A report as it is now, with what its parts hold."""

    report: subject_access.Report
    name: str
    identity_number: str
    held: dict[UUID, list[Held]]


def whole(tx: Transaction, asked: subject_access.ReadReport) -> Whole:
    """The resident's own report. Raises `NotFound` for any other."""
    require_oneself(tx, asked)
    own = resident_accounts.every_account(tx, UUID(tx.caller.subject))
    row = tx.execute(select(reports).where(reports.c.report == asked.report, reports.c.resident.in_(own))).one_or_none()
    if row is None:
        raise NotFound(reason="unknown_report")
    parts = _parts(tx, row.report)
    held: dict[UUID, list[Held]] = {one.part: [] for one in parts}
    pages = select(report_pages).where(report_pages.c.part.in_(held)).order_by(report_pages.c.position)
    for page in tx.execute(pages):
        held[page.part] += _HELD.validate_json(tx.sealer.open(page.sealed, _context(page.part, page.position)))
    if tx.execute(select(accounts.c.resident).where(accounts.c.resident.in_(own), accounts.c.protected)).first():
        for part in parts:
            if not part.care_provider:
                held[part.part] = [own_holdings.without_place(one) for one in held[part.part]]
    whose = tx.execute(_PERSON.where(accounts.c.resident == row.resident)).one()
    return Whole(
        _report(tx, row, parts), residents.particulars(tx, whose).name, resident_accounts.opened_number(tx, whose), held
    )


# --- the care provider ----------------------------------------------------------------------------------------------


def to_release(
    tx: Transaction, asked: subject_access.ReportsToRelease, care_provider: HsaId
) -> subject_access.PartsToRelease:
    """The parts that wait for the care provider, the oldest first. Raises `Forbidden`."""
    tx.caller.require(asked.clinic, *RELEASES)
    rows = tx.execute(
        _PERSON.add_columns(report_parts.c.part, reports.c.requested_at)
        .join(reports, reports.c.resident == accounts.c.resident)
        .join(report_parts, report_parts.c.report == reports.c.report)
        .where(report_parts.c.care_provider == care_provider, report_parts.c.state == "waiting_for_release")
        .where(reports.c.requested_at > tx.now - ENDS_AFTER)
        .order_by(reports.c.requested_at)
        .limit(200)
    )
    return subject_access.PartsToRelease(
        parts=[
            subject_access.PartToRelease(
                part=row.part,
                care_provider=care_provider,
                requested_at=row.requested_at,
                name=residents.particulars(tx, row).name,
                identity_number=resident_accounts.opened_number(tx, row),
                protected=row.protected,
            )
            for row in rows
        ]
    )


def release(tx: Transaction, asked: subject_access.ReleaseReport, care_provider: HsaId) -> Done:
    """Releases a part of the care provider's; released before, it stays so. Raises `Forbidden`, `NotFound`, `Conflict`
    with reason `report_ended` where it is no longer waited for."""
    tx.caller.require(asked.clinic, *RELEASES)
    this = (report_parts.c.part == asked.part) & (report_parts.c.care_provider == care_provider)
    part = select(report_parts.c.state, reports.c.requested_at).join(reports, reports.c.report == report_parts.c.report)
    row = tx.execute(part.where(this).with_for_update(of=report_parts)).one_or_none()
    if row is None:
        raise NotFound(reason="unknown_part")
    if row.state == "waiting_for_release":
        if row.requested_at <= tx.now - ENDS_AFTER:
            raise Conflict("Registerutdraget väntar inte längre på era uppgifter.", reason="report_ended")
        tx.execute(
            update(report_parts)
            .where(this)
            .values(state="gathering", released_at=tx.now, released_by=tx.caller.subject)
        )
    return Done()


def care_provider_of(clinic: HsaId, facts: Sequence[Any]) -> HsaId:
    """Whose the clinic is, by what the directory said. Raises `Forbidden` for one that it does not know."""
    for one in facts:
        if one.clinic == clinic:
            return str(one.care_provider)
    raise Forbidden(reason="unknown_clinic")


# --- gathering ------------------------------------------------------------------------------------------------------


@dataclass
class _Gathered:
    held: list[Held] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def gather(transaction: Transactions, ask: Ask, stopping: Callable[[], bool]) -> None:
    """Gathers what has been released and not been gathered whole, and removes old reports."""
    with transaction() as tx:
        _remove_old(tx)
        goes_on = reports.c.requested_at > tx.now - ENDS_AFTER
        unknown = tx.execute(select(reports).where(~reports.c.care_providers_known, goes_on)).all()
    for report in unknown:
        if not stopping():
            _find_care_providers(transaction, ask, report)
    with transaction() as tx:
        wanted = tx.execute(
            select(report_parts, reports.c.resident, reports.c.care_providers_known)
            .join(reports, reports.c.report == report_parts.c.report)
            .where(report_parts.c.state.in_(["gathering", "incomplete"]), goes_on)
            # Those that were tried longest ago first: what waits for a service that is down keeps nobody else waiting.
            .order_by(report_parts.c.gathered_at.asc().nulls_first(), report_parts.c.released_at)
            .limit(AT_ONCE)
        ).all()
    for part in wanted:
        if stopping():
            return
        try:
            _gather_part(transaction, ask, part)
        except Exception as error:  # what is wrong with one keeps nobody else's from being gathered
            log.error("subject_access_part_failed", part=str(part.part), exc_info=error)
            with transaction() as tx:
                _note_try(tx, part)


def _remove_old(tx: Transaction) -> None:
    """Removes reports that have been whole, or have ended, for as long as they are kept; what the resident still waits
    for stays."""
    kept = (report_parts.c.state != "ready") | (report_parts.c.gathered_at >= tx.now - KEPT)
    has_such = select(report_parts.c.part).where(report_parts.c.report == reports.c.report, kept).exists()
    old = reports.c.care_providers_known & (reports.c.requested_at < tx.now - KEPT) & ~has_such
    ended = reports.c.requested_at < tx.now - ENDS_AFTER - KEPT
    tx.execute(delete(reports).where(or_(old, ended)))


def tell_who_has_not_released(tx: Transaction) -> None:
    """Logs, for the operator, each care provider that has let parts wait for longer than the month in which it has to
    answer: it may have nobody who can release them."""
    waiting = (
        select(report_parts.c.care_provider, func.count().label("parts"))
        .join(reports, reports.c.report == report_parts.c.report)
        .where(report_parts.c.state == "waiting_for_release")
        .where(reports.c.requested_at < tx.now - KEPT, reports.c.requested_at > tx.now - ENDS_AFTER)
        .group_by(report_parts.c.care_provider)
    )
    for row in tx.execute(waiting):
        log.warning("subject_access_not_released", care_provider=row.care_provider, parts=row.parts)


def _find_care_providers(transaction: Transactions, ask: Ask, report: Row[Any]) -> None:
    with transaction() as tx:
        own = resident_accounts.every_account(tx, report.resident)
    found: set[HsaId] = set()
    try:
        for resident in own:
            question = subject_access.CareProvidersOf(resident=resident)
            found.update(ask(subject_access.CARE_PROVIDERS_OF, question).care_providers)
    except Refused as error:
        log.warning("subject_access_waits", service="cases", reason=error.reason)
        return
    with transaction() as tx:
        for care_provider in sorted(found):
            tx.execute(
                insert_or_not(report_parts)
                .values(
                    part=uuid4(),
                    report=report.report,
                    care_provider=care_provider,
                    state="waiting_for_release",
                    missing=[],
                )
                .on_conflict_do_nothing()
            )
        tx.execute(update(reports).where(reports.c.report == report.report).values(care_providers_known=True))


def _gather_part(transaction: Transactions, ask: Ask, part: Row[Any]) -> None:
    gathered = _Gathered()
    with transaction() as tx:
        own = resident_accounts.every_account(tx, part.resident)
        if not part.care_provider:
            gathered.held += [one for resident in own for one in own_holdings.of(tx, resident)]
    for resident in own:
        if part.care_provider:
            _from_provider(ask, gathered, resident, part.care_provider)
        else:
            _from(ask, gathered, "attachments", subject_access.OF_ATTACHMENTS, resident, None)
            _from(ask, gathered, "notifications", subject_access.OF_NOTIFICATIONS, resident, None)
    if not part.care_provider and not part.care_providers_known:
        gathered.missing.append("cases")
    with transaction() as tx:
        _keep(tx, part, gathered)


def _from_provider(ask: Ask, gathered: _Gathered, resident: UUID, provider: HsaId) -> None:
    """What the care provider controls of one account, the files of its messages too."""
    held = _from(ask, gathered, "cases", subject_access.OF_CASES, resident, provider)
    files = sorted({(file, one.case) for one in held for file in one.attachments if one.case is not None})
    for start in range(0, len(files), _ATTACHMENTS_AT_ONCE):
        some = files[start : start + _ATTACHMENTS_AT_ONCE]
        _from(ask, gathered, "attachments", subject_access.OF_ATTACHMENTS, resident, provider, some)


def _from(
    ask: Ask,
    gathered: _Gathered,
    service: str,
    call: Call[Any, HeldPage],
    resident: UUID,
    care_provider: HsaId | None,
    files: Sequence[tuple[UUID, UUID]] = (),
) -> list[Held]:
    """All pages of one service about one account, which are answered too; or, where one of them does not come, none and
    the name of the service. `files`: of these, each with the case that it was found in."""
    held: list[Held] = []
    after: str | None = None
    try:
        while True:
            question = SubjectAccess(
                resident=resident,
                care_provider=care_provider,
                attachments=sorted({file for file, _ in files}),
                cases=sorted({case for _, case in files}),
                after=after,
            )
            page = ask(call, question)
            held += page.held
            after = page.after
            if after is None:
                break
    except Refused as error:
        log.warning("subject_access_waits", service=service, reason=error.reason)
        gathered.missing.append(service)
        return []
    gathered.held += held
    return held


def _keep(tx: Transaction, part: Row[Any], gathered: _Gathered) -> None:
    """Keeps what was gathered; with something missing only when it has been waited for long enough to say so."""
    if not gathered.missing:
        state = "ready"
    elif tx.now - part.released_at >= WAITS:
        state = "incomplete"
    else:
        _note_try(tx, part)
        return
    tx.execute(delete(report_pages).where(report_pages.c.part == part.part))
    for position, start in enumerate(range(0, len(gathered.held), 200)):
        content = _HELD.dump_json(gathered.held[start : start + 200])
        sealed = tx.sealer.seal(content, _context(part.part, position))
        tx.execute(insert(report_pages).values(part=part.part, position=position, sealed=sealed))
    tx.execute(
        update(report_parts)
        .where(report_parts.c.part == part.part)
        .values(state=state, missing=sorted(set(gathered.missing)), gathered_at=tx.now)
    )


def _note_try(tx: Transaction, part: Row[Any]) -> None:
    """It comes after the others the next time."""
    tx.execute(update(report_parts).where(report_parts.c.part == part.part).values(gathered_at=tx.now))


def _context(part: UUID, position: int) -> bytes:
    return b"report part " + part.bytes + b" %d" % position
