"""Where a claimed delivery goes, decided just before it is sent: who is still to be told, where, by what name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import exists, select, update
from sqlalchemy.dialects.postgresql import insert

from services.notifications import addresses, delivering, rules
from services.notifications.clinic_settings import open_address
from services.notifications.delivering import Claimed
from services.notifications.tables import clinic_names, deliveries
from shared.contracts import directory, identity
from shared.contracts.base import HsaId
from shared.contracts.notifications import Channel, DeliveryState, RecipientKind
from shared.database.transaction import Transaction
from shared.security.rights import rights_from

NAME_IS_FRESH = timedelta(minutes=10)
NO_LONGER_CHOSEN = "no_longer_chosen"


@dataclass(frozen=True)
class Addressed:
    """A claimed delivery whose address is known."""

    claimed: Claimed
    channel: Channel
    address: str


def choices_from(found: identity.ContactsFound) -> dict[str, rules.Choice]:
    """What identity said of each person, by resident id or HSA-id. What is no address there counts as none."""
    choices: dict[str, rules.Choice] = {}
    for resident in found.residents:
        choices[str(resident.resident)] = replace(
            _of_resident(resident),
            active=resident.active,
            guardians=None
            if resident.guardians is None
            else {
                str(one.guardian): rules.Guardian(_of_resident(one), frozenset(one.blocked_at))
                for one in resident.guardians
            },
        )
    for person in found.staff:
        choices[person.person] = rules.Choice(
            True,
            frozenset(person.notify_by),
            frozenset(person.tell_me_about),
            _addresses(person.email, person.mobile),
            rights_from([held.model_dump() for held in person.roles], False).roles,
            person.version,
        )
    return choices


def _of_resident(set_by: identity.ResidentContact | identity.GuardianContact) -> rules.Choice:
    return rules.Choice(
        True,
        frozenset(set_by.notify_by),
        frozenset(),
        _addresses(set_by.email, set_by.mobile),
        version=set_by.version,
    )


def address(
    tx: Transaction, claimed: Iterable[Claimed], choices: Mapping[str, rules.Choice], lease: timedelta
) -> list[Addressed]:
    """Those of the claimed that are to be sent now; the others are ended here, each with its reason.

    A person who wants both SMS and mail gets a second delivery here, and a child's guardians get one each, claimed by
    the same sender. What has been withdrawn or taken over while identity was asked is left alone (R-NOT-4, R-NOT-7).
    """
    ready: list[Addressed] = []
    claimed = delivering.still_held(tx, claimed)
    entered = _entered(tx, claimed)
    for one in claimed:
        choice = choices.get(one.asked_about)
        if one.recipient_kind is RecipientKind.CLINIC:
            ready += _to_clinic(tx, one, entered)
        elif one.recipient_kind is RecipientKind.STAFF:
            held = choice.roles.get(one.clinic, frozenset()) if choice else frozenset()
            ready += _to_person(tx, one, rules.choose(one.kind, choice, held), choice, lease)
        else:
            ready += _to_resident(tx, one, choice, lease)
    return ready


def _to_resident(tx: Transaction, one: Claimed, choice: rules.Choice | None, lease: timedelta) -> list[Addressed]:
    if one.about is not None:
        guardian = (choice.guardians or {}).get(one.recipient) if choice else None
        chosen = rules.choose_for_child(one.kind, choice, one.recipient, one.clinic)
        return _to_person(tx, one, chosen, guardian.choice if guardian else None, lease)
    guardians = rules.guardians_told(choice, one.clinic)
    if guardians is None:
        return _to_person(tx, one, rules.choose(one.kind, choice, ()), choice, lease)
    ready: list[Addressed] = []
    for guardian_id in guardians:
        if _was_told_for(tx, one, guardian_id):
            continue
        theirs = _beside(
            tx, replace(one, recipient=guardian_id, about=one.recipient, channel=None, address_hash=None), lease
        )
        if theirs is not None:
            ready += _to_resident(tx, theirs, choice, lease)
    if guardians:
        delivering.end(tx, one, DeliveryState.MERGED, "guardians_told")
    else:
        delivering.end(tx, one, DeliveryState.WITHDRAWN, "no_guardian")
    return ready


def _was_told_for(tx: Transaction, child: Claimed, guardian: str) -> bool:
    """Whether the guardian has a delivery of their own for this already, by whatever channel; it goes on by itself."""
    there = exists().where(
        deliveries.c.event_id == child.event_id,
        deliveries.c.kind == child.kind,
        deliveries.c.recipient == guardian,
        deliveries.c.about == child.recipient,
    )
    return bool(tx.execute(select(there)).scalar_one())


def _entered(tx: Transaction, claimed: Iterable[Claimed]) -> dict[UUID, bytes]:
    """The addresses of clinics that these go to, as they are kept."""
    wanted = [UUID(one.recipient) for one in claimed if one.recipient_kind is RecipientKind.CLINIC]
    if not wanted:
        return {}
    rows = tx.look(b"SELECT address_id, address FROM clinic_addresses WHERE address_id = ANY(%s)", (wanted,))
    return {address_id: bytes(sealed) for address_id, sealed in rows}


def _to_clinic(tx: Transaction, one: Claimed, entered: Mapping[UUID, bytes]) -> list[Addressed]:
    sealed = entered.get(UUID(one.recipient))
    if sealed is None:
        delivering.end(tx, one, DeliveryState.WITHDRAWN, "address_removed")
        return []
    address = open_address(tx, UUID(one.recipient), sealed)
    if address is None:
        delivering.end(tx, one, DeliveryState.FAILED, "address_unreadable")
        return []
    return _at_address(tx, one, Channel.EMAIL, address, 0)  # it has its place, unless it is sent again by hand


def _to_person(
    tx: Transaction,
    one: Claimed,
    chosen: dict[Channel, str] | rules.NotTold,
    choice: rules.Choice | None,
    lease: timedelta,
) -> list[Addressed]:
    if isinstance(chosen, rules.NotTold):
        delivering.end(tx, one, chosen.state, chosen.reason)
        return []
    version = choice.version if choice else 0
    if one.channel is not None:
        if one.channel in chosen:
            return _at_address(tx, one, one.channel, chosen[one.channel], version)
        # Its channel was given up while it was tried again. It goes by the others instead, unless it has one there.
        delivering.end(tx, one, DeliveryState.WITHDRAWN, NO_LONGER_CHOSEN)
        ready, others = [], list(chosen)
    else:
        first, *others = chosen
        ready = _at_address(tx, one, first, chosen[first], version)
    for channel in others:
        second = _beside(tx, replace(one, channel=channel, address_hash=None), lease)
        if second is not None:
            ready += _at_address(tx, second, channel, chosen[channel], version)
    return ready


def _at_address(tx: Transaction, one: Claimed, channel: Channel, address: str, version: int) -> list[Addressed]:
    """Takes the place of this address for the event, unless another delivery has it (R-NOT-6).

    Two senders that do so for one address at once: the later one's transaction breaks at the unique constraint, and its
    deliveries are claimed again a moment later.
    """
    hashed = addresses.address_hash(tx.settings.address_key, channel, address)
    if hashed != one.address_hash:
        other = deliveries.alias()
        same_person = (other.c.kind == one.kind) & (other.c.recipient == one.recipient) & (other.c.channel == channel)
        here = other.c.address_hash.is_not_distinct_from(hashed)
        taken = tx.execute(
            select(other.c.delivery, here.label("here"))
            .where(other.c.event_id == one.event_id, other.c.delivery != one.delivery, here | same_person)
            .order_by(here.desc())
            .limit(1)
        ).one_or_none()
        if taken is not None:
            delivering.stand_back(tx, one, taken.delivery if taken.here else None, version)
            return []
        tx.execute(
            update(deliveries)
            .where(deliveries.c.delivery == one.delivery)
            .values(channel=channel, address_hash=hashed, contact_version=version)
        )
        if one.address_hash is not None:
            delivering.wake_merged(tx, [one.event_id])  # the place that it had is free
    return [Addressed(replace(one, channel=channel, address_hash=hashed, contact_version=version), channel, address)]


def _beside(tx: Transaction, like: Claimed, lease: timedelta) -> Claimed | None:
    """A new delivery in the same hands, or the one by this channel that ended because the channel was given up, if it
    has been chosen anew (R-NOT-7). None: there was one like it before."""
    second = replace(like, delivery=uuid4(), attempts=0, resent=0)
    row = {
        "delivery": second.delivery,
        "event_id": like.event_id,
        "kind": like.kind,
        "clinic": like.clinic,
        "recipient_kind": like.recipient_kind,
        "recipient": like.recipient,
        "about": like.about,
        "channel": like.channel,
        "state": DeliveryState.CLAIMED,
        "due_at": tx.now,
        "claim": like.claim,
        "lease_until": delivering.lease_end(lease),
        "created_at": tx.now,
    }
    added = tx.execute(insert(deliveries).values(row).on_conflict_do_nothing().returning(deliveries.c.delivery))
    if added.one_or_none() is not None:
        return second
    again = tx.execute(
        update(deliveries)
        .where(
            deliveries.c.event_id == like.event_id,
            deliveries.c.kind == like.kind,
            deliveries.c.recipient == like.recipient,
            deliveries.c.channel == like.channel,
            deliveries.c.state == DeliveryState.WITHDRAWN,
            deliveries.c.reason == NO_LONGER_CHOSEN,
        )
        .values(
            state=DeliveryState.CLAIMED,
            claim=like.claim,
            lease_until=delivering.lease_end(lease),
            due_at=tx.now,
            reason=None,
            ended_at=None,
        )
        .returning(deliveries.c.delivery, deliveries.c.attempts, deliveries.c.resent)
    ).one_or_none()
    if again is None:
        return None
    return replace(like, delivery=again.delivery, attempts=again.attempts, resent=again.resent)


def _addresses(email: str | None, mobile: str | None) -> dict[Channel, str]:
    found: dict[Channel, str] = {}
    for channel, value in ((Channel.SMS, mobile), (Channel.EMAIL, email)):
        try:
            if value:
                found[channel] = addresses.of_channel(channel, value)
        except addresses.NotAnAddress:
            continue
    return found


# --- the clinic's name ----------------------------------------------------------------------------------------------


def kept_names(tx: Transaction, clinics: Iterable[HsaId]) -> tuple[dict[HsaId, str], set[HsaId]]:
    """The names that are kept, and for which clinics the directory should be asked (none kept, or not fresh)."""
    wanted = set(clinics)
    rows = tx.look(b"SELECT clinic, name, asked_at FROM clinic_names WHERE clinic = ANY(%s)", (sorted(wanted),))
    names = {clinic: name for clinic, name, _ in rows}
    fresh = {clinic for clinic, _, asked_at in rows if timedelta(0) <= tx.now - asked_at < NAME_IS_FRESH}
    return names, wanted - fresh


def keep_names(tx: Transaction, found: directory.Clinics) -> dict[HsaId, str]:
    """Keeps what the directory said, for when it does not answer."""
    rows = [{"clinic": one.clinic, "name": one.name, "asked_at": tx.now} for one in found.clinics]
    # In order, so that two senders who keep the same names do not wait for each other crosswise.
    for row in sorted(rows, key=lambda each: str(each["clinic"])):
        tx.execute(insert(clinic_names).values(row).on_conflict_do_update(index_elements=["clinic"], set_=row))
    return {one.clinic: one.name for one in found.clinics}
