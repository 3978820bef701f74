"""Hearing events: every one takes effect once, none is lost, and what can't be handled is kept to be looked at."""

from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import datetime
from uuid import UUID, uuid4

import amqp
import pytest
import sqlalchemy

from shared.messaging import topology
from shared.messaging.errors import Unavailable
from shared.messaging.events import ATTEMPTS
from tests.integration.kernel_broker import (
    DEAD,
    HAPPENED,
    QUEUE,
    UNHEARD,
    Happened,
    Proxy,
    consumer_of,
    eventually,
    relay_of,
)
from tests.integration.kernel_support import bump


@pytest.fixture
def database(kernel_db):
    database = kernel_db.open(service="notifications", pool_size=16)
    yield database
    database.dispose()


@pytest.fixture
def consumers(database, kernel_broker):
    kernel_broker.declare()
    running = []

    def start(handler, url=kernel_broker.url, **options):
        consumer = consumer_of(database, url, {HAPPENED: handler}, **options)
        consumer.start()
        running.append(consumer)
        return consumer

    yield start
    for consumer in running:
        consumer.stop(5)


@pytest.fixture
def send(kernel_broker):
    """Publishes events as the relay does; answers their ids."""

    def send(count=1, *, body=None, kind="cases.case_started", message_id=None, queue=QUEUE, headers=None):
        ids = [uuid4() for _ in range(count)]
        with kernel_broker.channel() as channel:
            for key in ids:
                content = Happened(key=key).model_dump_json() if body is None else body
                channel.basic_publish(
                    amqp.Message(
                        content,
                        message_id=message_id or str(key),
                        type=kind,
                        delivery_mode=2,
                        application_headers=headers or {},
                    ),
                    routing_key=queue,
                )
            channel.queue_declare(queue, passive=True)  # answered when the broker has taken what came before
        return ids

    return send


@pytest.fixture
def quick_delays(monkeypatch):
    """Every pause is that of the first delay queue: one second."""
    monkeypatch.setattr(topology, "DELAYS_SECONDS", (1,) * len(topology.DELAYS_SECONDS))


def effects(kernel_db) -> dict[UUID, int]:
    return dict(kernel_db.rows("SELECT id, times FROM effects"))


def empty(kernel_broker) -> bool:
    queues = [QUEUE, topology.delay_queue("notifications", 1)]
    return all(kernel_broker.messages(queue) == 0 for queue in queues)


def test_r_sys_5_an_event_that_comes_twice_takes_effect_once(kernel_db, kernel_broker, consumers, send):
    again = uuid4()
    for _ in range(3):
        send(message_id=str(again), body=Happened(key=again).model_dump_json())
    consumer = consumers(lambda tx, event: bump(tx, event.key))
    others = send(20)
    eventually(lambda: len(effects(kernel_db)) == 21 and empty(kernel_broker))
    assert effects(kernel_db) == dict.fromkeys([again, *others], 1)
    value = consumer.metrics.registry.get_sample_value
    assert value("vardarende_events_handled_total", {"type": "case_started", "outcome": "repeated"}) == 2
    assert kernel_broker.messages(DEAD) == 0


def test_r_sys_5_a_thousand_events_whose_handler_fails_twice_take_effect_once(
    kernel_db, kernel_broker, consumers, send
):
    tries: Counter[UUID] = Counter()
    lock = threading.Lock()

    def handler(tx, event) -> None:
        bump(tx, event.key)
        with lock:
            tries[event.key] += 1
            turn = tries[event.key]
        if turn <= 2:
            raise ValueError("199001012385 must not be seen in any log")

    ids = send(1000)
    consumers(handler)
    eventually(lambda: len(effects(kernel_db)) == 1000, 90)
    eventually(lambda: empty(kernel_broker))
    assert effects(kernel_db) == dict.fromkeys(ids, 1)
    assert set(tries.values()) == {3}
    assert kernel_broker.messages(DEAD) == 0


def test_the_first_retry_is_at_once_the_second_after_a_pause(kernel_db, consumers, send):
    times = []

    def handler(tx, event) -> None:
        times.append(time.monotonic())
        if len(times) < 3:
            raise ValueError

    consumers(handler)
    send()
    eventually(lambda: len(times) == 3)
    assert times[1] - times[0] < 0.5
    assert 0.8 < times[2] - times[1] < 5


def test_after_the_last_attempt_it_lies_with_the_dead_letters(kernel_db, kernel_broker, consumers, send, quick_delays):
    tries = []

    def handler(tx, event) -> None:
        bump(tx, event.key)
        tries.append(1)
        raise KeyError("19900101-2385")

    consumer = consumers(handler)
    [key] = send()
    [message] = eventually(lambda: kernel_broker.messages(DEAD) and kernel_broker.take_all(DEAD, 1), 40)
    assert len(tries) == ATTEMPTS
    assert effects(kernel_db) == {}
    assert message.properties["message_id"] == str(key)
    headers = message.properties["application_headers"]
    assert headers["x-error"] == "KeyError"
    assert headers["x-attempts"] == ATTEMPTS
    assert datetime.fromisoformat(headers["x-dead-at"])
    assert "2385" not in repr(message.properties)
    value = consumer.metrics.registry.get_sample_value
    assert value("vardarende_events_handled_total", {"type": "case_started", "outcome": "dead"}) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"body": "{"},
        {"body": '{"key": 7}'},
        {"body": b"\xff\xfe"},
        {"message_id": "not an id"},
        {"kind": "cases.unknown"},
        {"kind": "cases.nobody_hears"},
    ],
)
def test_what_is_not_understood_goes_to_the_dead_letters_at_once(kernel_broker, consumers, send, wrong):
    consumers(lambda tx, event: pytest.fail("was handled"))
    send(**wrong)
    [message] = eventually(lambda: kernel_broker.messages(DEAD) and kernel_broker.take_all(DEAD, 1))
    assert message.properties["application_headers"]["x-error"] == "NotUnderstood"
    assert empty(kernel_broker)


def test_unknown_fields_of_an_event_are_ignored(kernel_db, consumers, send):
    consumers(lambda tx, event: bump(tx, event.key))
    key = uuid4()
    send(body=f'{{"key": "{key}", "added_later": 1}}')
    eventually(lambda: effects(kernel_db) == {key: 1})


def test_while_the_database_is_gone_events_are_held_and_no_attempt_counts(kernel_db, kernel_broker, send, monkeypatch):
    kernel_broker.declare()
    proxy = Proxy(kernel_db.url)
    database = type(kernel_db)(proxy.url).open(service="notifications")
    consumer = consumer_of(database, kernel_broker.url, {HAPPENED: lambda tx, event: bump(tx, event.key)})
    proxy.open = False
    consumer.start()
    ids = send(50)
    time.sleep(3)
    assert effects(kernel_db) == {}
    assert kernel_broker.messages(topology.delay_queue("notifications", 1)) == 0
    proxy.open = True
    eventually(lambda: len(effects(kernel_db)) == 50)
    eventually(lambda: empty(kernel_broker))
    assert effects(kernel_db) == dict.fromkeys(ids, 1)
    assert kernel_broker.messages(DEAD) == 0
    consumer.stop()
    database.dispose()
    proxy.close()


def test_a_handler_that_is_too_slow_for_the_database_counts_as_failing(kernel_db, kernel_broker, send, quick_delays):
    kernel_broker.declare()
    database = kernel_db.open(service="notifications", statement_timeout=0.1)
    consumer = consumer_of(
        database, kernel_broker.url, {HAPPENED: lambda tx, event: tx.execute(sqlalchemy.text("SELECT pg_sleep(9)"))}
    )
    consumer.start()
    send()
    eventually(lambda: kernel_broker.messages(DEAD) == 1, 40)
    consumer.stop()
    database.dispose()


def test_r_sys_5_every_event_takes_effect_once_while_connections_break(kernel_db, kernel_broker, consumers, send):
    proxy = Proxy(kernel_broker.url)
    failed: set[UUID] = set()
    lock = threading.Lock()

    def handler(tx, event) -> None:
        bump(tx, event.key)
        with lock:
            first = event.key not in failed
            failed.add(event.key)
        if first and event.key.int % 3 == 0:
            raise Unavailable(reason="something_else")

    consumers(handler, proxy.url)
    consumers(handler, proxy.url)
    ids = []
    for turn in range(8):
        ids += send(50)
        (proxy.cut if turn % 2 else kernel_db.cut_connections)()
        time.sleep(0.2)
    eventually(lambda: len(effects(kernel_db)) == 400, 60)
    eventually(lambda: empty(kernel_broker))
    assert effects(kernel_db) == dict.fromkeys(ids, 1)
    assert kernel_broker.messages(DEAD) == 0
    proxy.close()


def test_a_consumer_that_stops_finishes_what_it_has_begun_and_gives_back_the_rest(
    kernel_db, kernel_broker, database, send
):
    kernel_broker.declare()
    begun = threading.Semaphore(0)

    def slow(tx, event) -> None:
        bump(tx, event.key)
        begun.release()
        time.sleep(1)

    consumer = consumer_of(database, kernel_broker.url, {HAPPENED: slow}, at_once=4)
    send(20)
    consumer.start()
    for _ in range(4):
        begun.acquire()
    consumer.stop()
    assert 4 <= len(effects(kernel_db)) <= 8
    eventually(lambda: kernel_broker.messages(QUEUE) == 20 - len(effects(kernel_db)))


def test_an_event_goes_from_one_database_to_the_other(kernel_db, kernel_broker, consumers):
    """Outbox, relay, broker, inbox: told once, heard once, with the call that began it."""
    heard = []
    consumers(lambda tx, event: (bump(tx, event.key), heard.append(tx._origin)))
    teller = kernel_db.open(service="cases")
    relay = relay_of(teller, kernel_broker.url)
    relay.start()
    keys = [uuid4() for _ in range(200)]
    for key in keys:
        teller.write(
            lambda tx, key=key: (
                tx.publish(HAPPENED, Happened(key=key), aggregate=key),
                tx.publish(UNHEARD, Happened(key=key), aggregate=key),
            ),
            origin="portal.start.0123456789abcdef",
        )
    eventually(lambda: len(effects(kernel_db)) == 200)
    assert effects(kernel_db) == dict.fromkeys(keys, 1)
    assert set(heard) == {"portal.start.0123456789abcdef"}
    relay.stop()
    teller.dispose()
