"""What cases asks of the other services, always before the transaction that uses the answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID, uuid4

from services.cases.messages import Sender, message_id_with
from services.cases.signature import name_and_signature, personal_signature
from services.cases.tables import Row
from shared.contracts import cases as contract
from shared.contracts.attachments import CLAIM, RELEASE, Claim, ClaimedFile, OwnerKind, Release
from shared.contracts.base import Answered, HsaId
from shared.contracts.case_desk import Signature
from shared.contracts.cases import ReferralShown
from shared.contracts.directory import GET_CLINICS, GET_STAFF, ClinicFacts, GetClinics, GetStaff, StaffFacts
from shared.contracts.identity import (
    CURRENT_RIGHTS,
    FIND_RESIDENT,
    RESIDENT_CARDS,
    CurrentRights,
    FindResident,
    ResidentCard,
    ResidentCards,
    RightsNow,
)
from shared.messaging.errors import Conflict, Invalid, LimitExceeded, Refused, Unavailable
from shared.messaging.server import OngoingCall

Asking = OngoingCall[Any, Any]

FOR_GOOD = frozenset({"case_changed", "case_closed", "case_full", "form_changed"})
"""Reasons of refusal that no repetition of the request can ever get past."""


@dataclass(frozen=True)
class Prepared:
    """The answers that a change needs."""

    care_provider: str
    message: UUID | None = None
    sender: Sender | None = None
    files: tuple[ClaimedFile, ...] = ()
    resident_active: bool = True
    handler_rights: RightsNow | None = None
    referral: ReferralShown | None = None

    @property
    def sending(self) -> tuple[UUID, Sender]:
        """The id and sender of the message, for changes that send one."""
        assert self.message is not None
        assert self.sender is not None
        return self.message, self.sender


Preparing = TypeVar("Preparing", bound=Prepared)


def write_prepared(
    call: OngoingCall[Any, Answered],
    prepare: Callable[[], Preparing],
    work: Callable[[Any, Any, Preparing], Answered],
) -> Answered:
    """Asks what has to be asked, then writes."""
    prepared = prepare()
    try:
        return call.write(work, prepared)
    except (Conflict, LimitExceeded) as refusal:
        # The message will never be: its files can be used again at once. For other reasons a repetition of the request
        # may be on its way to success with this claim, so those are left to the attachments service to find.
        if refusal.reason in FOR_GOOD and prepared.files and prepared.message is not None:
            with suppress(Refused):
                call.ask(RELEASE, Release(request_id=uuid4(), message=prepared.message))
        raise


def prepare_staff_message(
    call: Asking,
    case: Row,
    personal: str | None,
    *,
    handler_rights: RightsNow | None = None,
    referral: HsaId | None = None,
) -> Prepared:
    """Whether the resident can be written to, the sender with the `personal` signature or one made for them, the care
    provider, the name of the clinic that is referred to; last, so that a refusal binds no file, the files."""
    message = message_id_with(call.request.attachments, case["id"], call.request.request_id, call.caller)
    active = resident_can_be_written_to(call, case["resident"])
    sender = staff_sender(call, personal)
    facts = clinics(call, [case["clinic"], *([referral] if referral else [])])
    return Prepared(
        resident_active=active,
        sender=sender,
        care_provider=_care_provider(facts, case["clinic"]),
        referral=_referral(facts, referral),
        message=message,
        files=claim(
            call, call.request.attachments, case=case["id"], message=message, at_most=call.settings.max_files_staff
        ),
        handler_rights=handler_rights,
    )


def clinics(call: Asking, wanted: Sequence[HsaId]) -> dict[str, ClinicFacts]:
    """What the directory says of these clinics; one question for all."""
    return {one.clinic: one for one in call.ask(GET_CLINICS, GetClinics(clinics=list(wanted))).clinics}


def care_provider(call: Asking, clinic: HsaId, *, active: bool = False) -> str:
    """The clinic's care provider as of now (R-ID-25). With `active`, the clinic must be in use: else `Conflict`."""
    found = clinics(call, [clinic])
    if active and not (clinic in found and found[clinic].active):
        raise Conflict("Mottagningen är inte aktiv i e-tjänsterna.", reason="clinic_not_active")
    return _care_provider(found, clinic)


def _care_provider(found: Mapping[str, ClinicFacts], clinic: HsaId) -> str:
    if clinic not in found:
        raise Unavailable(reason="care_provider_unknown")
    return found[clinic].care_provider


def _referral(found: Mapping[str, ClinicFacts], clinic: HsaId | None) -> ReferralShown | None:
    """The link to another clinic's contact card (R-CASE-8): `Invalid` where there is no such clinic."""
    if clinic is None:
        return None
    if clinic not in found:
        raise Invalid(
            "Mottagningen att hänvisa till finns inte.",
            reason="referral_unknown",
            fields=[("referral", "finns inte")],
        )
    return ReferralShown(clinic=clinic, name=found[clinic].name)


def staff_sender(call: Asking, personal: str | None) -> Sender:
    """The caller with name and signature as they are when sending: the personal one, which was read with what is
    written in, else made from the directory (R-CASE-11)."""
    name, made = own_name_and_signature(call)
    if not name:
        raise Conflict("Ditt namn saknas i katalogen, så svaret kan inte signeras.", reason="sender_without_name")
    return Sender("staff", call.caller.subject, name, personal or made)


def own_signature(call: Asking) -> Signature:
    """The caller's signature, as the next reply will have it (R-CASE-11)."""
    personal = call.read(personal_signature)
    return Signature(text=personal or own_name_and_signature(call)[1], personal=personal is not None)


def own_name_and_signature(call: Asking) -> tuple[str, str]:
    """The caller's name, and the signature that is made from what the directory says of them."""
    found = staff(call, [call.caller.subject]).get(call.caller.subject)
    if found is None:
        raise Unavailable(reason="sender_unknown")
    return name_and_signature(found.given_name, found.surname, found.title)


def staff(call: Asking, people: Collection[str]) -> dict[str, StaffFacts]:
    """What the directory's copy says of these people; one question for all."""
    if not people:
        return {}
    return {one.person: one for one in call.ask(GET_STAFF, GetStaff(people=sorted(people))).staff}


def cards(call: Asking, residents: Collection[UUID]) -> dict[UUID, ResidentCard]:
    """The cards of these residents; one question for all."""
    if not residents:
        return {}
    return {card.resident: card for card in call.ask(RESIDENT_CARDS, ResidentCards(residents=sorted(residents))).cards}


def resident_by_number(call: Asking, identity_number: str) -> UUID | None:
    """Whose identity number this is; none: nobody's who has an account. The number is not kept here (R-ID-24)."""
    return call.ask(FIND_RESIDENT, FindResident(identity_number=identity_number)).resident


def accounts_by_number(call: Asking, identity_number: str) -> list[UUID]:
    """All accounts of the person whose identity number this is, that by the number first; a person has several by
    numbers that the register linked later, with cases in each (R-ID-24)."""
    found = call.ask(FIND_RESIDENT, FindResident(identity_number=identity_number))
    return [] if found.resident is None else [found.resident, *found.linked]


def resident_can_be_written_to(call: Asking, resident: UUID) -> bool:
    """Whether the account is active: an inactive one can be written to all the same (R-CASE-12).

    A resident who has locked their login, or has no account, can not (R-CASE-22): `Conflict`.
    """
    card = cards(call, [resident]).get(resident)
    if card is None:
        raise without_account()
    if card.locked:
        raise Conflict("Invånaren har låst sin inloggning.", reason="resident_locked")
    return card.active


def without_account() -> Conflict:
    """There is nobody to write to (R-CASE-22)."""
    return Conflict("Invånaren har inget konto i e-tjänsterna.", reason="resident_without_account")


def claim(
    call: Asking, attachments: Sequence[UUID], *, case: UUID, message: UUID, at_most: int
) -> tuple[ClaimedFile, ...]:
    """Binds the caller's files to the message that is about to be sent; its claim is released if it never is."""
    if not attachments:
        return ()
    kind = OwnerKind.STAFF if call.caller.kind == "staff" else OwnerKind.RESIDENT
    claimed = call.ask(
        CLAIM,
        Claim(
            request_id=uuid4(),  # never the caller's: a claim made anew after a release must not get the old answer
            attachments=list(attachments),
            owner_kind=kind,
            owner=call.caller.subject,
            case=case,
            message=message,
            at_most=at_most,
        ),
    )
    return tuple(claimed.attachments)


def rights_of(call: Asking, person: HsaId) -> RightsNow:
    """What the person may do at this moment, for someone whose rights this service's copy may not have yet."""
    return call.ask(CURRENT_RIGHTS, CurrentRights(subject=person))


def card_for_staff(card: ResidentCard | None) -> contract.ResidentCard | None:
    """What staff see of a resident, and nothing else (R-ID-14)."""
    if card is None:
        return None
    return contract.ResidentCard(
        name=card.name, identity_number=card.identity_number, active=card.active, protected=card.protected
    )
