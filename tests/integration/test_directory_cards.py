"""Contact cards: what is shown publicly and when, what keeps a card from being shown, and the logged-in card.

Proves R-DIR-5, R-DIR-6, R-DIR-7, R-DIR-8, R-DIR-9, R-DIR-10.
"""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from services.directory import cards, clinics, publishing
from shared.contracts.base import Role
from shared.contracts.directory import (
    ActivateClinic,
    CaseTypeOnCard,
    GetContactCard,
    GetPublicCards,
    SetPublicOrder,
    WriteContactCard,
)
from shared.messaging.errors import Conflict, Forbidden, NotFound, Unavailable
from shared.security.caller import ANYONE, Caller, Rights
from tests.integration.directory_support import (
    ADMINISTRATOR,
    RESIDENT,
    STAFF,
    FakeSource,
    person_id,
    unit,
    unit_id,
)

LOCAL_ADMIN = Caller("staff", person_id(3), rights=Rights({unit_id(1): frozenset({Role.LOCAL_ADMIN})}))
WHOLE = {
    "l": "Göteborg",
    "hsacountycode": "14",
    "hsageographicalcoordinates": "X: 6407478, Y: 1268655",
    "hsadestinationindicator": "03",
    "vgrcaretype": "01",
    "hsapublictelephonenumber": ["031-747 84 30"],
    "hsasurgeryhours": ["1-5#08:00#17:00"],
    "hsastreetaddress": ["Bjurslätts Torg 6$ $417 26$Göteborg"],
}
CONTACT, RENEW, BOOK = (
    CaseTypeOnCard(case_type=UUID(int=n), name=name)
    for n, name in enumerate(("Kontakta mig", "Förnya recept", "Boka tid"))
)


def activate(directory, *numbers):
    for number in numbers:
        asked = ActivateClinic(request_id=uuid4(), clinic=unit_id(number))
        directory.do(clinics.activate, asked, caller=ADMINISTRATOR)


def publish(directory, offered=()):
    return publishing.publish(directory.transaction, lambda some: {unit_id(1): list(offered)})


def public(directory, *numbers):
    asked = GetPublicCards(clinics=[unit_id(number) for number in numbers])
    return directory.do(cards.get_public, asked, caller=ANYONE)


def card(directory, caller=LOCAL_ADMIN, offered=(), number=1):
    return directory.do(cards.get_contact_card, GetContactCard(clinic=unit_id(number)), offered, caller=caller)


def order(directory, *case_types, caller=ADMINISTRATOR):
    wanted = [one.case_type for one in case_types]
    asked = SetPublicOrder(request_id=uuid4(), clinic=unit_id(1), case_types=wanted)
    return directory.do(cards.set_public_order, asked, caller=caller)


def write(directory, text, version, caller=LOCAL_ADMIN, number=1):
    asked = WriteContactCard(request_id=uuid4(), clinic=unit_id(number), text=text, version=version)
    return directory.do(cards.write, asked, caller=caller)


# --- the public card ------------------------------------------------------------------------------------------------


def test_a_public_card_has_kivs_word_and_our_case_types_r_dir_6(directory):
    directory.run(FakeSource([unit(1, "Vårdcentralen Ek", **WHOLE)]))
    activate(directory, 1)
    publish(directory, [CONTACT, RENEW])
    [shown] = public(directory, 1).cards
    assert (shown.name, shown.place, shown.phones) == ("Vårdcentralen Ek", "Göteborg", {"public": ["+46317478430"]})
    assert shown.addresses == {"street": ["Bjurslätts Torg 6", "417 26", "Göteborg"]}
    assert shown.hours["surgery"][0].days == [1, 2, 3, 4, 5]
    assert shown.position is not None
    assert (round(shown.position.latitude, 2), round(shown.position.longitude, 2)) == (57.73, 11.92)
    assert shown.case_types == [CONTACT, RENEW]


def test_what_changes_shows_from_the_next_publication_on_r_dir_8(directory):
    source = FakeSource([unit(1, "Vårdcentralen Ek", **WHOLE)])
    directory.run(source)
    activate(directory, 1)
    assert [one.reason for one in public(directory, 1).not_shown] == ["not_yet_published"]
    assert publish(directory).changed == 1
    first = directory.now
    source.unit_records = [unit(1, "Vårdcentralen Lind", **WHOLE)]
    directory.run(source)
    directory.move(hours=4)
    assert [(one.name, one.published_at) for one in public(directory, 1).cards] == [("Vårdcentralen Ek", first)]
    assert publish(directory, [CONTACT]).changed == 1
    [shown] = public(directory, 1).cards
    assert (shown.name, shown.case_types, shown.published_at) == ("Vårdcentralen Lind", [CONTACT], directory.now)
    # Nothing has changed: nothing is written.
    directory.move(hours=4)
    assert publish(directory, [CONTACT]).changed == 0
    assert public(directory, 1).cards == [shown]


def test_the_answer_names_what_is_missing_r_dir_5(directory):
    without = {name: value for name, value in WHOLE.items() if name not in ("hsacountycode", "vgrcaretype")}
    directory.run(FakeSource([unit(1, **without), unit(2, **WHOLE), unit(3, hsaenddate="20261101000000Z")]))
    activate(directory, 1)
    publish(directory)
    found = public(directory, 1, 2, 3, 9)
    assert found.cards == []
    assert [(one.reason, one.missing_attributes) for one in found.not_shown] == [
        ("missing_attributes", ["county_code", "care_type"]),
        ("not_a_clinic", []),
        ("not_a_clinic", ["county_code", "coordinates", "destination_indicator", "care_type"]),
        ("not_in_directory", []),
    ]


def test_a_distance_unit_is_shown_without_coordinates_and_county_r_dir_5(directory):
    directory.run(FakeSource([unit(1, hsabusinesstype="03", hsadestinationindicator="03", vgrcaretype="01")]))
    activate(directory, 1)
    publish(directory)
    [shown] = public(directory, 1).cards
    assert (shown.position, shown.county_code) == (None, None)


@pytest.mark.parametrize("gone", ["attribute", "ended", "directory"])
def test_a_card_that_may_no_longer_be_shown_is_taken_away_at_the_next_publication_r_dir_5(directory, gone):
    source = FakeSource([unit(1, **WHOLE, hsaenddate="20261123130000Z"), unit(2), unit(3)])
    directory.run(source)
    activate(directory, 1)
    publish(directory)
    if gone == "attribute":
        source.unit_records = [unit(1, **WHOLE | {"vgrcaretype": []}), unit(2), unit(3)]
        directory.run(source)
    elif gone == "ended":
        directory.move(hours=1)
    else:
        source.unit_records = [unit(2), unit(3)]
        directory.run(source)
        directory.run(source)
    assert len(public(directory, 1).cards) == 1
    assert publish(directory).removed == 1
    [why] = public(directory, 1).not_shown
    assert why.reason == {"attribute": "missing_attributes", "ended": "ended", "directory": "not_in_directory"}[gone]


def test_temporary_information_shows_on_its_days_only(directory):
    directory.run(FakeSource([unit(1, **WHOLE, vgrtempinfo="20261124-20261125 Stängt.")]))
    activate(directory, 1)
    publish(directory)
    seen = []
    for _ in range(4):  # the clock stands at noon; the days are Swedish ones
        seen.append(len(public(directory, 1).cards[0].notices))
        directory.move(days=1)
    assert seen == [0, 1, 1, 0]


def test_while_cases_does_not_answer_what_was_published_stays_r_dir_8(directory):
    source = FakeSource([unit(1, **WHOLE)])
    directory.run(source)
    activate(directory, 1)
    publish(directory, [CONTACT])

    def down(some):
        raise Unavailable

    with pytest.raises(Unavailable):
        publishing.publish(directory.transaction, down)
    assert public(directory, 1).cards[0].case_types == [CONTACT]


# --- the order of the case types (R-DIR-9) ---------------------------------------------------------------------------


def test_a_regional_order_overrides_the_public_card_and_the_administrator_is_told_r_dir_9(directory):
    directory.run(FakeSource([unit(1, **WHOLE)]))
    activate(directory, 1)
    own = [CONTACT, RENEW, BOOK]
    assert not card(directory, offered=own).administration.order_differs
    order(directory, BOOK, CONTACT)
    publish(directory, own)
    assert public(directory, 1).cards[0].case_types == [BOOK, CONTACT, RENEW]
    told = card(directory, offered=own)
    assert told.case_types == own
    assert told.administration.order_differs
    assert told.administration.public_order == [BOOK, CONTACT, RENEW]
    assert "1177.se" in told.administration.order_notice
    # It need not differ: the clinic has sorted likewise, or the region gives its order up.
    assert not card(directory, offered=[BOOK, CONTACT, RENEW]).administration.order_differs
    order(directory)
    assert card(directory, offered=own).administration.order_notice is None


def test_who_may_set_the_regional_order(directory):
    directory.run(FakeSource([unit(1, **WHOLE)]))
    activate(directory, 1)
    with pytest.raises(Forbidden):
        order(directory, BOOK, caller=LOCAL_ADMIN)


# --- the logged-in card (R-DIR-7) ------------------------------------------------------------------------------------


def test_the_administrator_writes_the_logged_in_card_r_dir_7(directory):
    directory.run(FakeSource([unit(1), unit(2)]))
    activate(directory, 1, 2)
    assert write(directory, "Ring oss hellre på morgonen.", 0).version == 1
    shown = card(directory, RESIDENT)
    assert (shown.text, shown.version, shown.administration) == ("Ring oss hellre på morgonen.", 1, None)
    with pytest.raises(Conflict) as changed:
        write(directory, "Något annat.", 0)
    assert changed.value.reason == "card_changed"
    with pytest.raises(Forbidden):
        write(directory, "Något annat.", 1, caller=STAFF)
    with pytest.raises(Forbidden):
        write(directory, "Något annat.", 0, number=2)


def test_case_types_show_at_once_on_the_logged_in_card_r_dir_10(directory):
    directory.run(FakeSource([unit(1, **WHOLE)]))
    activate(directory, 1)
    publish(directory)
    assert card(directory, RESIDENT, [CONTACT]).case_types == [CONTACT]
    assert public(directory, 1).cards[0].case_types == []
    unknown = card(directory, RESIDENT, None)
    assert (unknown.case_types, unknown.case_types_known) == ([], False)


def test_the_administrator_sees_what_is_missing_r_dir_5(directory):
    directory.run(FakeSource([unit(1)]))
    activate(directory, 1)
    told = card(directory).administration
    assert not told.shown_publicly
    assert "coordinates" in told.not_shown.missing_attributes
    assert card(directory, STAFF).administration is None


def test_what_is_no_clinic_has_no_logged_in_card(directory):
    directory.run(FakeSource([unit(1), unit(2)]))
    for number in (2, 9):
        with pytest.raises(NotFound):
            card(directory, number=number)
