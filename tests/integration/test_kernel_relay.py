"""The relay: every committed event reaches the broker, in order per aggregate, whatever dies (R-SYS-5)."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from shared.messaging import topology
from shared.messaging.confirming import Outcome
from shared.messaging.relay import Relay
from tests.integration.kernel_broker import (
    DEAD,
    HAPPENED,
    MISSED,
    QUEUE,
    UNHEARD,
    Happened,
    Proxy,
    eventually,
    relay_of,
)
from tests.integration.kernel_support import together


@pytest.fixture
def database(kernel_db):
    database = kernel_db.open()
    yield database
    database.dispose()


@pytest.fixture
def relays(database):
    running: list[Relay] = []

    def start(url: str, database=database) -> Relay:
        relay = relay_of(database, url)
        relay.start()
        running.append(relay)
        return relay

    yield start
    for relay in running:
        relay.stop()


def tell(database, aggregate: UUID, number: int = 0, event=HAPPENED) -> None:
    with database.transaction() as tx:
        tx.publish(event, Happened(key=aggregate, number=number), aggregate=aggregate)


def waiting(kernel_db) -> int:
    return kernel_db.one("SELECT count(*) FROM outbox")


def bodies(messages) -> list[dict]:
    return [json.loads(message.body) for message in messages]


def test_an_event_arrives_soon_after_its_commit_and_leaves_the_outbox(kernel_db, kernel_broker, database, relays):
    kernel_broker.declare()
    relay = relays(kernel_broker.url)
    eventually(lambda: relay.connected)
    key = uuid4()
    tell(database, key)
    begun = time.monotonic()
    [message] = kernel_broker.take_all(QUEUE, 1)
    assert time.monotonic() - begun < 2
    assert json.loads(message.body) == {"key": str(key), "number": 0}
    assert message.properties["type"] == "cases.case_started"
    assert message.properties["delivery_mode"] == 2
    assert UUID(message.properties["message_id"])
    eventually(lambda: waiting(kernel_db) == 0)


def test_an_event_told_before_its_hearer_ever_started_is_kept(kernel_db, kernel_broker, database, relays):
    tell(database, uuid4())
    relays(kernel_broker.url)
    eventually(lambda: waiting(kernel_db) == 0)
    assert kernel_broker.messages(QUEUE) == 1


def test_events_that_nobody_hears_are_published_too(kernel_db, kernel_broker, database, relays):
    tell(database, uuid4(), event=UNHEARD)
    relays(kernel_broker.url)
    eventually(lambda: waiting(kernel_db) == 0)


def test_an_event_rolled_back_is_never_told(kernel_db, kernel_broker, database, relays):
    kernel_broker.declare()
    relays(kernel_broker.url)

    def failing(tx) -> None:
        tx.publish(HAPPENED, Happened(key=uuid4()), aggregate=uuid4())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        database.write(failing)
    last = uuid4()
    tell(database, last)
    assert [body["key"] for body in bodies(kernel_broker.take_all(QUEUE, 1))] == [str(last)]


def test_r_sys_5_several_relays_publish_everything_once_in_order(kernel_db, kernel_broker, relays):
    """Many writers, three processes' relays: nothing twice while nothing dies, and each aggregate in its order."""
    kernel_broker.declare()
    aggregates = [uuid4() for _ in range(30)]
    databases = [kernel_db.open(pool_size=4) for _ in range(3)]
    for database in databases:
        relays(kernel_broker.url, database)
    locks = [threading.Lock() for _ in aggregates]
    counts = [0] * len(aggregates)

    def write(place: int) -> None:
        for turn in range(100):
            which = (place * 7 + turn) % len(aggregates)
            with locks[which]:
                counts[which] += 1
                tell(databases[place % 3], aggregates[which], counts[which])

    assert together(6, write) == [None] * 6
    seen = defaultdict(list)
    for body in bodies(kernel_broker.take_all(QUEUE, 600)):
        seen[body["key"]].append(body["number"])
    assert dict(seen) == {str(key): list(range(1, counts[place] + 1)) for place, key in enumerate(aggregates)}
    for database in databases:
        database.dispose()


def test_one_aggregates_order_holds_when_the_broker_refuses_one(kernel_db, kernel_broker, database, monkeypatch):
    """A refused event holds its own aggregate's later ones back, and nobody else's."""
    kernel_broker.declare()
    stubborn, other = uuid4(), uuid4()
    for number in range(4):
        tell(database, stubborn, number)
        tell(database, other, number)
    relay = relay_of(database, kernel_broker.url)
    publish_all, refused = relay._link.publish_all, []

    def refusing(messages, timeout):
        outcomes = publish_all([m for m in messages if not fits(m)], timeout)
        answers = iter(outcomes)
        return [Outcome.NACKED if fits(m) else next(answers) for m in messages]

    def fits(message) -> bool:
        body = json.loads(message.body)
        return body["key"] == str(stubborn) and body["number"] == 1 and len(refused) < 2

    def counting(messages, timeout):
        answers = refusing(messages, timeout)
        if Outcome.NACKED in answers:
            refused.append(1)
        return answers

    monkeypatch.setattr(relay._link, "publish_all", counting)
    relay.start()
    arrived = bodies(kernel_broker.take_all(QUEUE, 8))
    relay.stop()
    assert len(refused) == 2
    for key in (stubborn, other):
        assert [body["number"] for body in arrived if body["key"] == str(key)] == [0, 1, 2, 3]
    places = {(body["key"], body["number"]): place for place, body in enumerate(arrived)}
    assert places[str(other), 3] < places[str(stubborn), 1], "the others did not get past the refused one"
    assert waiting(kernel_db) == 0


def test_an_event_that_no_queue_took_is_kept_and_told_again(kernel_db, kernel_broker, database, relays):
    """Its hearer's queue lacks the binding: the row stays, the alarm counts, others pass; once bound, it goes out."""
    kernel_broker.declare()
    missed, heard = uuid4(), uuid4()
    tell(database, missed, event=MISSED)
    tell(database, heard)
    relay = relays(kernel_broker.url)
    eventually(lambda: kernel_broker.messages(QUEUE) == 1)
    eventually(lambda: waiting(kernel_db) == 1)
    value = relay._metrics.registry.get_sample_value("vardarende_events_unroutable_total")
    assert value is not None
    assert value >= 1
    with kernel_broker.channel() as channel:
        channel.queue_bind(QUEUE, "cases.events", MISSED.name)
    eventually(lambda: waiting(kernel_db) == 0)
    assert [body["key"] for body in bodies(kernel_broker.take_all(QUEUE, 2))] == [str(heard), str(missed)]


@pytest.mark.parametrize(
    "row",
    [
        {"type": "rights_changed"},
        {"type": ""},
        {"headers": "5"},
        {"at": "infinity"},
        {"at": "-infinity"},
    ],
    ids=str,
)
def test_a_row_that_is_no_event_of_the_service_keeps_no_other_waiting(kernel_db, kernel_broker, database, relays, row):
    """Whoever may write into the outbox could stop all that is told: the broker ends the connection for it."""
    kernel_broker.declare()
    values = {"type": HAPPENED.name, "headers": "{}", "at": "now", "aggregatetype": "identity"} | row
    with database.transaction() as tx:
        tx.connection.execute(
            text(
                "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, headers, at)"
                " VALUES (gen_random_uuid(), :aggregatetype, 'x', :type, '{}', CAST(:headers AS jsonb),"
                " CAST(:at AS timestamptz))"
            ),
            values,
        )
    key = uuid4()
    tell(database, key)
    relays(kernel_broker.url)
    assert [body["key"] for body in bodies(kernel_broker.take_all(QUEUE, 1, 10))] == [str(key)]
    assert waiting(kernel_db) == 1


def test_an_event_that_is_never_published_is_seen_by_its_age(kernel_db, kernel_broker, database, relays, monkeypatch):
    monkeypatch.setattr("shared.messaging.relay._COUNT_EVERY_SECONDS", 0.0)
    kernel_broker.declare()
    tell(database, uuid4(), event=MISSED)
    with database.transaction() as tx:
        tx.connection.execute(text("UPDATE outbox SET at = at - interval '1 hour'"))
    registry = relays(kernel_broker.url)._metrics.registry
    eventually(lambda: registry.get_sample_value("vardarende_outbox_seconds") >= 3600)
    with kernel_broker.channel() as channel:
        channel.queue_bind(QUEUE, "cases.events", MISSED.name)
    eventually(lambda: registry.get_sample_value("vardarende_outbox_seconds") == 0)


def test_what_a_row_says_of_its_source_is_not_believed(kernel_db, kernel_broker, database, relays):
    kernel_broker.declare()
    tell(database, uuid4())
    with database.transaction() as tx:
        tx.connection.execute(text("UPDATE outbox SET aggregatetype = 'identity'"))
    relays(kernel_broker.url)
    [message] = kernel_broker.take_all(QUEUE, 1, 10)
    assert message.delivery_info["exchange"] == "cases.events"
    assert message.properties["type"] == "cases.case_started"


def test_a_queue_that_someone_removed_is_made_again(kernel_db, kernel_broker, database, relays):
    relay = relays(kernel_broker.url)
    eventually(lambda: relay.connected)
    with kernel_broker.channel() as channel:
        channel.queue_delete(QUEUE)
    tell(database, uuid4())
    eventually(lambda: waiting(kernel_db) == 0)
    assert kernel_broker.messages(QUEUE) == 1


def test_r_sys_5_nothing_is_lost_when_the_brokers_connection_breaks_again_and_again(kernel_db, kernel_broker, relays):
    kernel_broker.declare()
    database = kernel_db.open()
    proxy = Proxy(kernel_broker.url)
    relays(proxy.url, database)
    done = threading.Event()

    def cutting() -> None:
        while not done.is_set():
            time.sleep(0.15)
            proxy.cut()

    cutter = threading.Thread(target=cutting)
    cutter.start()
    keys = [uuid4() for _ in range(20)]
    for turn in range(60):
        for key in keys:
            tell(database, key, turn)
    done.set()
    cutter.join()
    eventually(lambda: waiting(kernel_db) == 0, 40)
    firsts: dict[str, list[int]] = defaultdict(list)
    for body in bodies(kernel_broker.take_all(QUEUE, 1200)):
        if body["number"] not in firsts[body["key"]]:
            firsts[body["key"]].append(body["number"])
    assert firsts == {str(key): list(range(60)) for key in keys}
    proxy.close()
    database.dispose()


def test_r_sys_5_nothing_is_lost_when_the_databases_connections_break_again_and_again(kernel_db, kernel_broker, relays):
    kernel_broker.declare()
    database, writer = kernel_db.open(), kernel_db.open()
    relays(kernel_broker.url, database)
    told = []
    for turn in range(300):
        key = uuid4()
        if turn % 25 == 0:
            kernel_db.cut_connections()
        try:
            writer.write(lambda tx, key=key: tx.publish(HAPPENED, Happened(key=key), aggregate=key))
            told.append(str(key))
        except Exception:
            continue
    assert len(told) > 250
    eventually(lambda: waiting(kernel_db) == 0, 30)
    arrived = {body["key"] for body in bodies(kernel_broker.take_all(QUEUE, len(told)))}
    assert arrived >= set(told)
    database.dispose()
    writer.dispose()


def test_a_broker_that_says_nothing_holds_nobody_up(kernel_db, kernel_broker, relays, monkeypatch):
    """Commits go on while the broker hangs; everything goes out afterwards."""
    monkeypatch.setattr("shared.messaging.relay._CONFIRM_SECONDS", 1.0)
    kernel_broker.declare()
    database = kernel_db.open()
    proxy = Proxy(kernel_broker.url)
    relay = relays(proxy.url, database)
    eventually(lambda: relay.connected)
    proxy.flowing = False
    begun = time.monotonic()
    keys = [uuid4() for _ in range(50)]
    for key in keys:
        tell(database, key)
    assert time.monotonic() - begun < 3
    time.sleep(2)
    assert waiting(kernel_db) == 50
    proxy.flowing = True
    eventually(lambda: waiting(kernel_db) == 0, 30)
    assert {body["key"] for body in bodies(kernel_broker.take_all(QUEUE, 50))} == {str(key) for key in keys}
    proxy.close()
    database.dispose()


def test_a_relay_that_stops_sends_what_is_left(kernel_db, kernel_broker, database):
    kernel_broker.declare()
    relay = relay_of(database, kernel_broker.url)
    relay.start()
    eventually(lambda: relay.connected)
    together(4, lambda _: [tell(database, uuid4()) for _ in range(100)])
    relay.stop()
    assert waiting(kernel_db) == 0
    assert kernel_broker.messages(QUEUE) == 400


def test_the_topology_is_found_or_made(kernel_broker):
    kernel_broker.declare()
    kernel_broker.declare()
    assert kernel_broker.messages(DEAD) == 0
    names = {queue.name for queue in topology.topology().queues}
    assert {"events.cases", "dead.cases", "events.cases.delay.1000", "events.cases.delay.1800000"} <= names
    made = topology.definitions("/")
    assert {queue["name"] for queue in made["queues"]} == names
    assert {"source": "cases.events", "destination": QUEUE, "routing_key": "case_started"}.items() <= next(
        binding.items() for binding in made["bindings"] if binding["routing_key"] == "case_started"
    )
