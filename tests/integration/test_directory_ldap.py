"""KiV by LDAP, against a real OpenLDAP server with KiV's schema: whole, in between, and as it fails.

Proves R-DIR-12.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import ldap3
import pytest

from deploy.local import siths_ca
from deploy.local.kiv_ldap import READER, STAFF_BASE, UNITS_BASE
from deploy.local.kiv_ldap import KivLdap as Server
from deploy.local.people import cast
from deploy.local.people.feed import DATA, Record, read
from services.directory import loading
from services.directory.sources import SourceError
from services.directory.sources.kiv import Kiv
from services.directory.sources.kiv_ldap import KivLdap
from tests.integration.counterparts_support import PUBLIC, free_ports

FEEDS = [DATA / "kiv-units.json", DATA / "kiv-roles.json"]
REAL = [PUBLIC / "kiv" / "care-units.json", PUBLIC / "kiv" / "duty-units.json"]


def of_the_feeds() -> list[Record]:
    return [
        *read(DATA / "kiv-units.json", "units"),
        *read(DATA / "kiv-roles.json", "roles"),
        *read(DATA / "kiv-persons.json", "persons"),
    ]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    siths_ca.ensure(folder)
    return folder


def started(folder: Path, pki: Path, records: list[Record], limits: str = "") -> Server:
    [port] = free_ports(1)
    server = Server(folder, port, pki, limits=limits)
    server.prepare(records, print)
    server.start()
    return server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, pki: Path) -> Iterator[Server]:
    made = started(tmp_path_factory.mktemp("ldap"), pki, of_the_feeds())
    yield made
    made.stop()


@pytest.fixture
def kiv(server: Server, directory) -> KivLdap:
    directory.now = datetime.now(UTC)  # the server's modifications have the real time
    return source_of(server)


def source_of(server: Server, **changes) -> KivLdap:
    made = KivLdap(
        url=server.url,
        units_base="OU=Org,o=vgr",  # letter case does not matter
        staff_base=STAFF_BASE,
        user=READER,
        password=server.password,
        certificate=siths_ca.issue_function(server.pki, "vardarende").pair,
        authority=str(siths_ca.trust_file(server.pki)),
        timeout_seconds=5,
    )
    return replace(made, **changes)


def changed(server: Server, dn: str, **attributes) -> None:
    connection = server.administrator()
    connection.modify(dn, {name: [(ldap3.MODIFY_REPLACE, values)] for name, values in attributes.items()})
    connection.unbind()


def dn_of(hsa_id: str) -> str:
    return next(record.dn for record in of_the_feeds() if record.hsa_id == hsa_id)


COPY = "SELECT hsa_id, kind, name, place, county_code, care_types, rt90_x, end_date FROM units ORDER BY hsa_id"
PEOPLE = "SELECT hsa_id, given_name, surname, title, mobile, protected, hidden, end_date, status FROM staff ORDER BY 1"


def test_ldap_and_the_feed_say_the_same(directory, kiv):
    feed = Kiv(tuple(map(str, FEEDS)), (str(DATA / "kiv-persons.json"),))
    directory.run(feed)
    # Closed units and placeholders are left out where one is asked for a choice.
    units = [row for row in directory.rows(COPY) if not row.hsa_id.endswith("X")]
    people = directory.rows(PEOPLE)
    directory.clear()
    run = directory.run(kiv)
    assert (run.state, run.reason) == ("done", None)
    assert directory.rows(COPY) == units
    assert directory.rows(PEOPLE) == people
    assert directory.one("SELECT kind FROM units WHERE hsa_id = :id", id=cast.FUNCTION_CLINIC) == "function"


def test_no_identity_number_is_fetched(server, tmp_path):
    catalogue = source_of(server).staff(tmp_path, None)
    assert catalogue is not None
    keys = {key.casefold() for record in catalogue.records() for key in record.attributes}
    assert "sn" in keys
    assert "hsapersonidentitynumber" not in keys


def test_a_second_run_reads_what_was_modified_and_changes_nothing(directory, kiv, tmp_path):
    directory.run(kiv)
    before = directory.rows("SELECT hsa_id, xmin::text FROM units UNION ALL SELECT hsa_id, xmin::text FROM staff")
    again = directory.run(kiv)
    assert (again.state, again.units_changed, again.units_missing, again.staff_changed) == ("done", 0, 0, 0)
    after = directory.rows("SELECT hsa_id, xmin::text FROM units UNION ALL SELECT hsa_id, xmin::text FROM staff")
    assert (after, directory.told()) == (before, [])


def test_only_what_was_modified_is_read_again(directory, kiv, server, tmp_path):
    directory.run(kiv)
    with directory.transaction() as tx:
        state = loading.last_state(tx, "kiv_ldap", "units")
    everything = len(list(kiv.units(tmp_path, None).records()))
    # An hour later nothing has been modified for long.
    old = state | {"latest": an_hour_later(directory)}
    part = kiv.units(tmp_path, old)
    assert (len(list(part.records())), len(part.present)) == (0, everything)


def an_hour_later(directory) -> str:
    """Moves the clock, and answers with a moment of modification that is later than those of all entries."""
    directory.move(hours=1)
    return f"{directory.now - timedelta(minutes=5):%Y%m%d%H%M%SZ}"


def test_a_modification_that_is_still_to_come_hides_none_of_the_others(kiv, server, tmp_path):
    """By a server whose clock is wrong, or by hand."""
    wrong, other = dn_of(cast.KVARNBACKEN), dn_of(cast.SJOPORTEN)
    changed(server, wrong, vgrModifyTimestamp=["20991231000000Z"])
    try:
        whole = kiv.units(tmp_path, None)
        changed(server, other, l=["Sjöhamnen"])
        part = kiv.units(tmp_path, whole.state)
        assert part.present is not None
        assert {wrong, other} <= {record.dn for record in part.records()}
    finally:
        changed(server, other, l=["Göteborg"])
        changed(server, wrong, vgrModifyTimestamp=[])


def test_ids_that_end_in_x_are_closed_units_but_people_like_others(directory, kiv, server):
    connection = server.administrator()
    unit, person = f"ou=Stängd,{UNITS_BASE}", f"cn=Xenia Ek,{STAFF_BASE}"
    connection.add(unit, ["vgrOrganizationalUnit", "organizationalUnit"], {"hsaIdentity": "SE2321000131-E00000900998X"})
    names = {"hsaIdentity": "SE2321000131-P00000900997X", "sn": "Ek", "givenName": "Xenia"}
    connection.add(person, ["person", "hsaPersonExtension"], names)
    try:
        directory.run(kiv)
        assert directory.rows("SELECT hsa_id FROM units WHERE hsa_id LIKE '%X'") == []
        assert directory.one("SELECT given_name FROM staff WHERE hsa_id LIKE '%X'") == "Xenia"
    finally:
        connection.delete(unit)
        connection.delete(person)
        connection.unbind()


def test_what_is_modified_added_and_removed_between_whole_reads(directory, kiv, server):
    directory.run(kiv)
    dn, other = dn_of(cast.SJOPORTEN), f"ou=Nya mottagningen,{UNITS_BASE}"
    connection = server.administrator()
    classes = ["vgrOrganizationalUnit", "organizationalUnit"]
    connection.add(other, classes, {"ou": "Nya mottagningen", "hsaIdentity": "SE2321000131-E000009999999"})
    try:
        changed(server, dn, l=["Sjöhamnen"])
        run = directory.run(kiv)
        assert (run.state, run.units_added, run.units_changed, run.units_missing) == ("done", 1, 1, 0)
        assert directory.one("SELECT place FROM units WHERE hsa_id = :id", id=cast.SJOPORTEN) == "Sjöhamnen"
        connection.delete(other)
        assert directory.run(kiv).units_missing == 1
        assert directory.run(kiv).units_removed == 1
    finally:
        changed(server, dn, l=["Göteborg"])
        connection.unbind()


def test_what_the_copy_does_not_know_has_everything_read(directory, kiv):
    """An entry that comes into sight without being modified (moved, or shown to us from now on)."""
    directory.run(kiv)
    with directory.transaction() as tx:
        tx.execute(loading.text("DELETE FROM units WHERE hsa_id = :id"), {"id": cast.SJOPORTEN})
        tx.execute(
            loading.text(
                "UPDATE source_states SET state = jsonb_set(state, '{source,latest}', to_jsonb(CAST(:later AS text)))"
                " WHERE source = 'kiv_ldap' AND part = 'units'"
            ),
            {"later": an_hour_later(directory)},
        )
    run = directory.run(kiv)
    assert (run.state, run.units_added) == ("done", 1)


def test_after_a_night_everything_is_read_again(directory, kiv, tmp_path):
    first = kiv.units(tmp_path, None)
    assert first.present is None
    assert kiv.units(tmp_path, first.state).present is not None
    directory.move(hours=21)
    assert kiv.units(tmp_path, first.state).present is None
    assert kiv.units(tmp_path, first.state | {"base": "ou=Annat"}).present is None


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ("sizelimit 10", "size_limit"),
        ("sizelimit size.prtotal=20", "size_limit"),
        ("sizelimit size.pr=5", "size_limit"),
    ],
)
def test_a_server_that_limits_how_much_it_gives_changes_nothing_r_dir_12(directory, tmp_path, pki, limits, reason):
    many = [
        Record(f"ou=Enhet {n},{UNITS_BASE}", {"hsaidentity": [f"SE2321000131-E{n:012}"], "ou": [f"Enhet {n}"]})
        for n in range(40)
    ]
    server = started(tmp_path / "limited", pki, many, limits)
    try:
        source = source_of(server, staff_base="")
        run = directory.run(source)
        assert run.state == "failed"
        assert run.reason == reason or run.reason.startswith("ldap_")
        assert directory.one("SELECT count(*) FROM units") == 0
    finally:
        server.stop()


def test_a_referral_means_that_a_part_lies_elsewhere(server, tmp_path):
    connection = server.administrator()
    dn = f"ou=Annorstädes,{UNITS_BASE}"
    connection.add(dn, ["referral", "extensibleObject"], {"ou": "Annorstädes", "ref": "ldap://127.0.0.1:1/o=Annat"})
    try:
        with pytest.raises(SourceError) as refused:
            source_of(server).units(tmp_path, None)
        assert refused.value.reason == "referral"
    finally:
        connection.delete(dn, controls=[("2.16.840.1.113730.3.4.2", True, None)])
        connection.unbind()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"password": "fel"}, "login_refused"),
        ({"units_base": "ou=Ingenting,o=VGR"}, "no_such_base"),
        ({"authority": None}, "tls_refused"),
        ({"url": "ldaps://127.0.0.1:1"}, "unreachable"),
    ],
)
def test_a_server_that_refuses_says_why(server, tmp_path, changes, reason):
    with pytest.raises(SourceError) as refused:
        source_of(server, **changes).units(tmp_path, None)
    assert refused.value.reason == reason


def test_a_server_that_is_slow_or_gone_in_the_middle_r_dir_12(tmp_path, pki):
    server = started(tmp_path / "hung", pki, of_the_feeds())
    try:
        server.process.signal(19)  # SIGSTOP
        with pytest.raises(SourceError) as refused:
            source_of(server, timeout_seconds=0.5).units(tmp_path, None)
        assert refused.value.reason == "timeout"
        server.process.signal(18)
    finally:
        server.stop()
    with pytest.raises(SourceError) as refused:
        source_of(server, timeout_seconds=0.5).units(tmp_path, None)
    assert refused.value.reason == "unreachable"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "timeout"),  # by LDAP's count there is more to come
        (b"\x30\x03\x02\x01\x01", "not_ldap"),
    ],
)
def test_a_server_that_talks_something_else_than_ldap_says_why_r_dir_12(tmp_path, server, said, reason):
    with _talking(server.pki, said) as url, pytest.raises(SourceError) as refused:
        source_of(server, url=url, timeout_seconds=1).units(tmp_path, None)
    assert refused.value.reason == reason


@contextmanager
def _talking(pki: Path, said: bytes) -> Iterator[str]:
    """A server that says one thing to whatever comes, and waits."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*siths_ca.server_credentials(pki, "kiv").pair)

    def talk() -> None:
        with listening.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as caller:
            caller.recv(1 << 16)
            caller.sendall(said)
            caller.recv(1 << 16)

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as threads:
        threads.submit(talk)
        yield f"ldaps://localhost:{listening.getsockname()[1]}"


@pytest.mark.skipif(not REAL[0].exists(), reason="the public records of KiV are not on this machine")
def test_the_real_records_load_from_ldap_as_from_the_feed(directory, tmp_path, pki):
    directory.now = datetime.now(UTC)
    server = started(tmp_path / "real", pki, [one for file in REAL for one in read(file, "units")])
    try:
        run = directory.run(source_of(server, staff_base=""))
        assert run.state == "done"
        places = dict(tuple(row) for row in directory.rows("SELECT hsa_id, name FROM units"))
        directory.clear()
        directory.run(Kiv(tuple(map(str, REAL)), ()))
        assert dict(tuple(row) for row in directory.rows("SELECT hsa_id, name FROM units")) == places
        directory.clear()
        ldap = source_of(server, staff_base="")
        directory.run(ldap)
        again = directory.run(ldap)
        assert (again.units_added, again.units_changed, again.units_missing, directory.told()) == (0, 0, 0, [])
    finally:
        server.stop()
