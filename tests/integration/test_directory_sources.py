"""KiV and HSA over mutual TLS, as they are and as they fail; and the queue before HSA.

Proves R-DIR-12, R-ID-9, R-ID-16, R-ID-25.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import requests
from lxml import etree

from deploy.local import siths_ca
from deploy.local.people import cast
from deploy.local.people.feed import DATA
from services.directory import records
from services.directory.hsa_queue import HsaQueue
from services.directory.records import Unit
from services.directory.sources import SourceError, feed
from services.directory.sources.hsa import CARE_UNIT, RESPONDERS, UNIT, Hsa
from services.directory.sources.kiv import Kiv
from services.directory.sources.places import Access
from services.directory.sources.soap import Endpoint, question
from tests.integration.counterparts_support import PUBLIC, Counterpart, free_ports
from tests.integration.directory_support import FakeSource, unit

LOGICAL_ADDRESS = "SE165565594230-1000"
FEED = DATA / "kiv-units.json"
SCHEMAS = PUBLIC / "hsa" / "rivta" / "organization" / "5.0" / "interactions"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Counterpart]]:
    folder = tmp_path_factory.mktemp("sources")
    started = {name: Counterpart(name, folder).start() for name in ("kiv", "hsa")}
    for one in started.values():
        one.wait()
    yield started
    for one in started.values():
        one.stop()


@pytest.fixture
def kiv(running: dict[str, Counterpart]) -> Iterator[Counterpart]:
    yield running["kiv"]
    requests.delete(f"{running['kiv'].control}/behave", timeout=5)
    for name in ("units", "roles", "persons"):
        requests.delete(f"{running['kiv'].control}/feeds/{name}", timeout=5)


@pytest.fixture
def hsa(running: dict[str, Counterpart]) -> Iterator[Counterpart]:
    yield running["hsa"]
    requests.delete(f"{running['hsa'].control}/behave", timeout=5)


def kiv_source(kiv: Counterpart, timeout: float = 5) -> Kiv:
    return Kiv(
        unit_places=(f"{kiv.url}/units", f"{kiv.url}/roles"),
        staff_places=(f"{kiv.url}/persons",),
        access=Access(
            certificate=siths_ca.issue_function(kiv.pki, "vardarende").pair,
            authority=str(siths_ca.trust_file(kiv.pki)),
            timeout_seconds=timeout,
        ),
    )


def with_access(source: Kiv, **changes) -> Kiv:
    return replace(source, access=replace(source.access, **changes))


def hsa_source(hsa: Counterpart, timeout: float = 2) -> Hsa:
    endpoint = Endpoint(
        url=hsa.url,
        logical_address=LOGICAL_ADDRESS,
        certificate=siths_ca.issue_function(hsa.pki, "vardarende").pair,
        authority=str(siths_ca.trust_file(hsa.pki)),
        timeout_seconds=timeout,
    )
    return Hsa(endpoint, endpoint)


# --- KiV ------------------------------------------------------------------------------------------------------------


def test_units_functions_and_staff_come_in(directory, kiv):
    run = directory.run(kiv_source(kiv))
    assert run.state == "done"
    assert run.units_added > 30
    assert run.staff_added > 20
    assert directory.one("SELECT kind FROM units WHERE hsa_id = :id", id=cast.FUNCTION_CLINIC) == "function"
    assert directory.one("SELECT status FROM staff WHERE hsa_id = :id", id=cast.ENDED_STAFF) == "missing"
    assert directory.one("SELECT protected FROM staff WHERE hsa_id = :id", id=cast.PROTECTED_STAFF) is True


def test_what_has_not_changed_is_not_sent_again(directory, kiv, tmp_path):
    source = kiv_source(kiv)
    directory.run(source)
    [(state,)] = directory.rows("SELECT state FROM source_states WHERE part = 'units'")
    assert source.units(tmp_path, state["source"]) is None
    again = directory.run(source)
    assert (again.units_added, again.units_changed, again.staff_changed) == (0, 0, 0)
    assert directory.told() == []


def test_one_changed_feed_of_two_is_read_with_the_other(directory, kiv):
    source = kiv_source(kiv)
    directory.run(source)
    record = {"attributes": {"hsaIdentity": [cast.SJOPORTEN], "ou": ["Vårdcentralen Nya Sjöporten"]}}
    requests.post(f"{kiv.control}/feeds/units", json=record, timeout=5).raise_for_status()
    run = directory.run(source)
    assert (run.state, run.units_changed, run.units_missing) == ("done", 1, 0)
    assert (
        directory.one("SELECT name FROM units WHERE hsa_id = :id", id=cast.SJOPORTEN) == "Vårdcentralen Nya Sjöporten"
    )


def test_other_places_or_another_way_of_reading_ask_unconditionally(kiv, tmp_path):
    source = kiv_source(kiv)
    first = source.units(tmp_path, None)
    assert first is not None
    assert source.units(tmp_path, first.state) is None
    assert source.units(tmp_path, first.state | {"format": 0}) is not None
    assert replace(source, unit_places=source.unit_places[:1]).units(tmp_path, first.state) is not None


@pytest.mark.parametrize(
    ("mode", "state", "reason"),
    [
        ({"mode": "drop"}, "failed", "unreachable"),
        ({"mode": "timeout", "seconds": 3}, "failed", "timeout"),
        ({"mode": "unavailable"}, "failed", "http_503"),
        ({"mode": "garbage"}, "failed", "not_utf8"),
        ({"mode": "truncated"}, "failed", "truncated"),
        ({"mode": "cut"}, "failed", "truncated"),
        ({"mode": "empty"}, "stopped", "too_many_missing"),
        ({"mode": "half"}, "stopped", "too_many_missing"),
    ],
)
def test_a_source_that_fails_changes_nothing_r_dir_12(directory, kiv, mode, state, reason):
    source = kiv_source(kiv, timeout=1)
    directory.max_removed_share = 0.1
    directory.run(source)
    before = directory.rows("SELECT hsa_id, xmin::text FROM units ORDER BY hsa_id")
    # So that it does not answer "not modified".
    requests.post(
        f"{kiv.control}/feeds/units", json={"attributes": {"hsaIdentity": [cast.VISKAN], "l": ["X"]}}, timeout=5
    )
    kiv.behave(only="units", times=None, **mode)
    run = directory.run(source)
    assert run.state == state
    assert run.reason == reason or mode["mode"] in ("garbage", "half", "empty")
    assert directory.rows("SELECT hsa_id, xmin::text FROM units ORDER BY hsa_id") == before
    assert directory.told() == []


def test_without_the_right_certificate_nothing_is_read(kiv, tmp_path):
    with pytest.raises(SourceError):
        with_access(kiv_source(kiv), certificate=None).units(tmp_path, None)
    with pytest.raises(SourceError) as refused:
        with_access(kiv_source(kiv), authority=None).units(tmp_path, None)
    assert refused.value.reason == "tls_refused"


def test_nobody_listens_or_too_much_is_said(kiv, tmp_path):
    [port] = free_ports(1)
    with pytest.raises(SourceError) as refused:
        replace(kiv_source(kiv), unit_places=(f"https://127.0.0.1:{port}/units",)).units(tmp_path, None)
    assert refused.value.reason == "unreachable"
    with pytest.raises(SourceError) as refused:
        with_access(kiv_source(kiv), max_bytes=1000).units(tmp_path, None)
    assert refused.value.reason == "too_large"
    with pytest.raises(SourceError) as refused:
        replace(kiv_source(kiv), unit_places=("http://127.0.0.1/units",)).units(tmp_path, None)
    assert refused.value.reason == "not_https"


# --- HSA ------------------------------------------------------------------------------------------------------------


def test_hsa_tells_of_a_person(hsa):
    [person] = hsa_source(hsa).persons(cast.HANDLER)
    assert person.hsa_id == cast.HANDLER
    assert person.surname
    assert not person.protected


def test_hsa_tells_the_protected_mark_r_id_16(hsa):
    [person] = hsa_source(hsa).persons(cast.PROTECTED_STAFF)
    assert person.protected
    assert person.given_name


@pytest.mark.parametrize("who", [cast.HIDDEN_STAFF, cast.ENDED_STAFF, cast.UNKNOWN_STAFF])
def test_who_is_hidden_ended_or_unknown_is_not_returned_r_id_9(hsa, who):
    assert hsa_source(hsa).persons(who) == []


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ({"mode": "drop"}, "unreachable"),
        ({"mode": "timeout", "seconds": 3}, "timeout"),
        ({"mode": "unavailable"}, "http_503"),
        ({"mode": "forbidden"}, "http_403"),
        ({"mode": "fault"}, "http_500"),
        ({"mode": "garbage"}, "not_xml"),
        ({"mode": "truncated"}, "not_xml"),
    ],
)
def test_hsa_that_fails_is_down_and_says_nothing_about_the_person_r_dir_12(hsa, mode, reason):
    hsa.behave(times=None, **mode)
    with pytest.raises(SourceError) as refused:
        hsa_source(hsa, timeout=1).persons(cast.HANDLER)
    assert refused.value.reason == reason


def test_hsa_tells_of_a_unit_in_kivs_terms(hsa, directory):
    raw = hsa_source(hsa).unit(cast.SJOPORTEN)
    assert raw is not None
    made = records.unit(raw)
    assert isinstance(made, Unit)
    # What both have is the same as in KiV's feed.
    [kiv] = [one for one in feed.records(FEED, ("units",)) if _identity(one) == cast.SJOPORTEN][:1]
    same = records.unit(kiv)
    assert isinstance(same, Unit)
    for name in ("name", "place", "county_code", "municipality_code", "coordinates", "care_types", "destinations"):
        assert getattr(made, name) == getattr(same, name), name
    for name in ("surgery_hours", "phone_hours", "postal_address", "position"):
        assert made.details.get(name) == same.details.get(name), name


def _identity(raw):
    return str(next(value for key, value in raw.attributes.items() if key.casefold() == "hsaidentity")[0])


def test_hsa_tells_the_care_provider_of_a_unit_r_id_25(hsa):
    assert hsa_source(hsa).care_provider(cast.SJOPORTEN) == cast.CARE_PROVIDER


def test_a_unit_that_hsa_does_not_return(hsa):
    assert hsa_source(hsa).unit("SE2321000131-E000009999999") is None
    assert hsa_source(hsa).care_provider("SE2321000131-E000009999999") is None


@pytest.mark.parametrize(("mode", "reason"), [("fault", "http_500"), ("truncated", "not_xml"), ("drop", "unreachable")])
def test_hsa_that_fails_says_nothing_about_a_unit_r_dir_12(hsa, mode, reason):
    hsa.behave(times=None, mode=mode)
    for ask in (hsa_source(hsa, timeout=1).unit, hsa_source(hsa, timeout=1).care_provider):
        with pytest.raises(SourceError) as refused:
            ask(cast.SJOPORTEN)
        assert refused.value.reason == reason


@pytest.mark.skipif(not SCHEMAS.exists(), reason="the official schemas are not on this machine")
@pytest.mark.parametrize(
    ("operation", "field"), [(UNIT, "unitHsaId"), (CARE_UNIT, "healthCareUnitMemberHsaId")], ids=["unit", "care unit"]
)
def test_the_questions_follow_the_official_schemas(operation, field):
    [file] = SCHEMAS.glob(f"{operation}Interaction/*Responder_*.0.xsd")
    body = etree.fromstring(question(LOGICAL_ADDRESS, operation, RESPONDERS[operation], {field: cast.SJOPORTEN}))
    etree.XMLSchema(etree.parse(str(file))).assertValid(body.find("{*}Body")[0])


# --- one call at a time ---------------------------------------------------------------------------------------------


def nobody_asks(hsa: Counterpart) -> None:
    """Returns when it has given up the last call of a test before, and counts from here."""
    for _ in range(100):
        requests.delete(f"{hsa.control}/calls", timeout=5)
        if requests.get(f"{hsa.control}/calls", timeout=5).json()["most_at_once"] == 0:
            return
        time.sleep(0.1)
    raise AssertionError("someone still asks")


def test_one_call_at_a_time_across_replicas_with_a_pause_between_r_dir_12(directory, hsa):
    nobody_asks(hsa)
    replicas = [HsaQueue(directory.url) for _ in range(3)]
    source = hsa_source(hsa)

    def ask(queue):
        with queue.turn(10):
            assert source.persons(cast.HANDLER)

    with ThreadPoolExecutor(9) as pool:
        list(pool.map(ask, itertools.islice(itertools.cycle(replicas), 9)))
    for queue in replicas:
        queue.close()
    seen = requests.get(f"{hsa.control}/calls", timeout=5).json()
    assert list(seen["calls"].values()) == [9]
    assert seen["most_at_once"] == 1
    assert seen["shortest_pause_ms"] >= 50


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_turn_that_does_not_come_in_time(directory, replicas):
    first = HsaQueue(directory.url)
    second = first if replicas == 1 else HsaQueue(directory.url)
    began = time.monotonic()
    with first.turn(5), ThreadPoolExecutor(1) as pool, pytest.raises(SourceError) as refused:
        pool.submit(second.turn(0.2).__enter__).result()
    assert refused.value.reason == "hsa_queue_long"
    assert time.monotonic() - began < 3
    with second.turn(5):
        pass
    first.close()
    second.close()


def test_a_replica_that_dies_in_its_turn_gives_it_up(directory):
    dying, other = HsaQueue(directory.url), HsaQueue(directory.url)
    entered, done = threading.Event(), threading.Event()

    def die() -> None:
        with dying.turn(5):
            entered.set()
            done.wait(10)

    thread = threading.Thread(target=die)
    thread.start()
    assert entered.wait(5)
    ended = directory.one(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'directory.hsa_queue'"
    )
    assert ended
    with other.turn(5):
        pass
    done.set()
    thread.join()
    with dying.turn(5):
        pass
    dying.close()
    other.close()


def test_a_database_that_is_gone_is_said():
    [port] = free_ports(1)
    with pytest.raises(SourceError) as refused, HsaQueue(f"postgresql://x:y@127.0.0.1:{port}/z").turn(1):
        pass
    assert refused.value.reason == "database_gone"


def test_a_file_source_and_a_feed_may_stand_beside_each_other(directory, kiv, tmp_path):
    place = tmp_path / "more.json"
    place.write_text('{"units": [{"dn": "ou=Ek", "attributes": {"hsaIdentity": "SE2321000131-E1"}}]}')
    source = replace(kiv_source(kiv), unit_places=(f"{kiv.url}/units", str(place)), staff_places=())
    run = directory.run(source)
    assert run.units_added > 30
    assert directory.one("SELECT name FROM units WHERE hsa_id = 'SE2321000131-E1'") == "Ek"
    assert directory.run(FakeSource([unit(1)])).reason == "too_many_missing"
