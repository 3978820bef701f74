"""A queue that is full refuses events, and none is lost (R-SYS-5); nobody fills the broker with what is not taken.

With the policies of the deployment's definitions, made so small that a few messages fill a queue.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from uuid import UUID, uuid4

import amqp
import pytest
from amqp.exceptions import AMQPError, MessageNacked, PreconditionFailed

from deploy.rabbitmq import definitions, permissions
from shared.contracts import identity
from shared.messaging import dead_letters, topology
from shared.messaging.client import RpcClient
from shared.messaging.dead_letters import DeadLetterError
from shared.messaging.transport import connection_arguments
from shared.messaging.wire import RPC_EXCHANGE, declare_request_queues, outside_queue, request_queue, request_queues
from tests.integration.kernel_broker import DEAD, HAPPENED, QUEUE, UNHEARD, Happened, consumer_of, eventually, relay_of
from tests.integration.kernel_support import bump

ROOM = 5
"""Messages that fill a queue here."""


@pytest.fixture
def bounded(broker_vhost, kernel_broker):
    """The virtual host of the tests with its events and requests, and room for few in each queue."""
    kernel_broker.declare()
    with kernel_broker.channel() as channel:
        channel.exchange_declare(RPC_EXCHANGE, "topic", durable=True, auto_delete=False)
        declare_request_queues(channel, "cases")
    small = definitions.bounds(broker_vhost.vhost)["policies"]
    for policy in small:
        broker_vhost.admin.set_policy(
            broker_vhost.vhost, policy | {"definition": policy["definition"] | {"max-length": ROOM}}
        )
    named = {QUEUE, DEAD, request_queue("cases")}
    eventually(
        lambda: all(
            queue.get("policy") for queue in broker_vhost.admin.queues(broker_vhost.vhost) if queue["name"] in named
        )
    )
    yield kernel_broker
    for policy in small:
        broker_vhost.admin.delete_policy(broker_vhost.vhost, policy["name"])
    with kernel_broker.channel() as channel:
        for queue in request_queues("cases"):
            channel.queue_delete(queue)


@pytest.fixture
def database(kernel_db):
    database = kernel_db.open(service="notifications", pool_size=16)
    yield database
    database.dispose()


@pytest.fixture
def outbox(kernel_db, bounded):
    """The other service, with its relay; it shares the tables."""
    telling = kernel_db.open(service="cases")
    relay = relay_of(telling, bounded.url)
    relay.start()
    yield telling
    relay.stop()
    telling.dispose()


def tell(database, count: int) -> set[UUID]:
    keys = {uuid4() for _ in range(count)}
    for key in keys:
        with database.transaction() as tx:
            tx.publish(HAPPENED, Happened(key=key), aggregate=key)
    return keys


def outbox_refused(kernel_db) -> bool:
    """Whether events stay in the outbox for longer than it takes to publish them."""
    time.sleep(2)
    return waiting(kernel_db) == ROOM


def waiting(kernel_db) -> int:
    return kernel_db.one("SELECT count(*) FROM outbox")


def test_events_that_a_full_queue_refuses_wait_in_the_outbox_and_come_later_r_sys_5(
    kernel_db, bounded, database, outbox
):
    told = tell(outbox, 2 * ROOM)
    eventually(lambda: bounded.messages(QUEUE) > ROOM)  # what is on its way when it gets full is still taken
    told |= tell(outbox, ROOM)
    eventually(lambda: outbox_refused(kernel_db), 10)
    heard: list[UUID] = []
    consumer = consumer_of(database, bounded.url, {HAPPENED: lambda tx, body: heard.append(body.key)})
    consumer.start()
    try:
        eventually(lambda: set(heard) == told, 60)
        assert len(heard) == len(told)
        eventually(lambda: waiting(kernel_db) == 0, 60)
    finally:
        consumer.stop(5)


def test_a_full_queue_holds_up_its_own_kind_of_event_and_what_follows_it_alone(
    kernel_db, bounded, database, monkeypatch
):
    """R-SYS-5: events of other kinds get past, however many wait, and hearers that are well get few copies."""
    monkeypatch.setattr("shared.messaging.relay.BATCH", 4 * ROOM)
    telling = kernel_db.open(service="cases")
    tell(telling, 20 * ROOM - 1)
    [refused] = tell(telling, 1)
    with telling.transaction() as tx:
        for aggregate in (refused, uuid4(), uuid4()):
            tx.publish(UNHEARD, Happened(key=aggregate), aggregate=aggregate)
    relay = relay_of(telling, bounded.url)
    publish_all, tried = relay._link.publish_all, []

    def counting(messages, timeout):
        tried.extend(message.routing_key for message in messages)
        return publish_all(messages, timeout)

    monkeypatch.setattr(relay._link, "publish_all", counting)
    relay.start()
    eventually(lambda: tried.count(UNHEARD.name) == 2, 10)
    time.sleep(5)
    taken = bounded.messages(QUEUE)
    assert kernel_db.one("SELECT count(*) FROM outbox WHERE type = %s", UNHEARD.name) == 1, "it follows a refused one"
    assert waiting(kernel_db) == 20 * ROOM - taken + 1
    assert tried.count(HAPPENED.name) <= taken + 4 * ROOM + 5
    heard: list[UUID] = []
    consumer = consumer_of(database, bounded.url, {HAPPENED: lambda tx, body: heard.append(body.key)})
    consumer.start()
    try:
        eventually(lambda: waiting(kernel_db) == 0, 60)
        assert tried.count(UNHEARD.name) == 3
    finally:
        consumer.stop(5)
        relay.stop()
        telling.dispose()


def test_events_for_which_there_is_no_room_with_the_dead_letters_stay_r_sys_5(
    kernel_db, bounded, database, outbox, monkeypatch
):
    monkeypatch.setattr("shared.messaging.events.ATTEMPTS", 1)
    told = tell(outbox, 3 * ROOM)
    mended = []

    def handler(tx, body):
        if not mended:
            raise ZeroDivisionError
        bump(tx, body.key)

    consumer = consumer_of(database, bounded.url, {HAPPENED: handler})
    consumer.start()
    try:
        eventually(lambda: bounded.messages(DEAD) >= ROOM)
        mended.append(True)
        dead = bounded.messages(DEAD)
        effects = "SELECT count(*) FROM effects"
        eventually(lambda: kernel_db.one(effects) + dead >= len(told), 60)
        dead_letters.resend(bounded.url, "notifications")
        eventually(lambda: kernel_db.one(effects) == len(told), 60)
        assert bounded.messages(DEAD) == 0
    finally:
        consumer.stop(5)


def test_dead_letters_that_a_full_queue_refuses_are_kept_and_it_is_said(bounded):
    with bounded.channel() as channel:
        for queue in (DEAD, QUEUE):
            fill(channel, "", queue)
    dead = bounded.messages(DEAD)
    with pytest.raises(DeadLetterError, match=r"the queue events\.notifications is full"):
        dead_letters.resend(bounded.url, "notifications")
    eventually(lambda: bounded.messages(DEAD) == dead)


def test_calls_that_nobody_takes_fill_their_queue_and_no_more(bounded):
    with bounded.channel() as channel:
        assert fill(channel, RPC_EXCHANGE, "cases.anything") >= ROOM
    assert bounded.messages(request_queue("cases")) <= 2 * ROOM


def test_nobody_makes_more_queues_than_there_may_be(broker_vhost, bounded):
    vhost = broker_vhost.vhost
    broker_vhost.admin.limit_vhost(vhost, "max-queues", len(broker_vhost.admin.queues(vhost)) + 1)
    try:
        with bounded.channel() as channel:
            channel.queue_declare("one", exclusive=True)
            with pytest.raises(PreconditionFailed, match="queue limit"):
                channel.queue_declare("two", exclusive=True)
    finally:
        broker_vhost.admin.limit_vhost(vhost, "max-queues", -1)


@pytest.fixture
def connection_to():
    """A connection by an address of the broker."""
    opened = []

    def connect(url):
        connection = amqp.Connection(**connection_arguments(url, "test", None))
        opened.append(connection)
        connection.connect()
        return connection

    yield connect
    for connection in opened:
        with contextlib.suppress(Exception):
            connection.close()


@pytest.fixture
def taker(broker_vhost):
    """The address of another user of the same virtual host, and its name."""
    name, password = f"taker-{secrets.token_hex(4)}", secrets.token_hex(16)
    broker_vhost.admin.make_user(name, password)
    broker_vhost.admin.allow(name, broker_vhost.vhost)
    yield broker_vhost.url.replace(broker_vhost.url.split("@")[0], f"amqp://{name}:{password}"), name
    broker_vhost.admin.delete_user(name)


def test_who_has_taken_all_queues_is_cut_off_and_the_others_get_theirs(broker_vhost, bounded, connection_to, taker):
    """As docs/operations.md tells, by the words for the command line."""
    admin, vhost, (url, name) = broker_vhost.admin, broker_vhost.vhost, taker
    admin.limit_vhost(vhost, "max-queues", len(admin.queues(vhost)) + 3)
    try:
        channel = connection_to(url).channel()
        channel.queue_declare("one", exclusive=True)
        channel.queue_declare("rpc.reply-standalone_rpc_proxy-1", durable=True, arguments={"x-expires": 1000})
        channel.queue_declare("three", exclusive=True)
        with bounded.channel() as other, pytest.raises(PreconditionFailed, match="queue limit"):
            other.queue_declare("mine", exclusive=True)
        admin.limit_user(name, "max-connections", 0)
        admin.close_connections(vhost, name)

        def got() -> bool:
            with bounded.channel() as other, contextlib.suppress(PreconditionFailed):
                return bool(other.queue_declare("mine", exclusive=True))
            return False

        eventually(got)
        with pytest.raises((AMQPError, OSError)):
            connection_to(url)
    finally:
        admin.limit_vhost(vhost, "max-queues", -1)


def test_a_user_opens_so_many_channels_and_no_more(system, connection_to):
    url, opened = system.stack.broker_url("booking"), 0
    with contextlib.suppress(AMQPError, OSError):
        while opened <= 2 * definitions.MOST_CHANNELS:
            connection = connection_to(url)
            assert connection.channel_max == definitions.MOST_CHANNELS_OF_A_CONNECTION
            for _ in range(definitions.MOST_CHANNELS_OF_A_CONNECTION):
                connection.channel()
                opened += 1
    assert opened <= definitions.MOST_CHANNELS + definitions.MOST_CHANNELS_OF_A_CONNECTION  # it counts a little late


def test_a_stream_that_a_user_makes_is_bounded_as_another_queue_is(broker_vhost, kernel_broker):
    """It knows not all that bounds other queues, and RabbitMQ leaves out a policy that has any of that."""
    admin, vhost, name, mb = broker_vhost.admin, broker_vhost.vhost, "rpc.reply-booking.x", 1024 * 1024
    policies = definitions.bounds(vhost)["policies"]
    for policy in policies:
        admin.set_policy(vhost, policy)
    asked = {"x-queue-type": "stream", "x-max-length-bytes": 10**12, "x-stream-max-segment-size-bytes": 500 * mb}
    try:
        with kernel_broker.channel() as channel:
            channel.queue_declare(name, durable=True, auto_delete=False, arguments=asked)
            channel.confirm_select()
            for _ in range(64):
                channel.basic_publish_confirm(amqp.Message(bytes(mb), delivery_mode=2), "", name)

            def kept() -> int:
                [stream] = [queue for queue in admin.queues(vhost) if queue["name"] == name]
                return stream.get("messages", 64)

            eventually(lambda: 0 < kept() <= 40)  # 16 and what its files round it up to
            channel.queue_delete(name)
    finally:
        for policy in policies:
            admin.delete_policy(vhost, policy["name"])


def test_services_are_answered_while_an_outside_caller_floods_the_service_that_they_ask(system, connection_to):
    """By rubbish, faster than it is answered: it fills the queue of the calls from outside, and no other."""
    stop, exchange = threading.Event(), permissions.exchange_of("portal")

    def flood(channel) -> None:
        with contextlib.suppress(AMQPError, OSError):
            while not stop.is_set():
                channel.basic_publish(amqp.Message(b"x" * 900), exchange, "identity.begin_login")

    threads = [
        threading.Thread(target=flood, args=(connection_to(system.stack.broker_url("portal")).channel(),))
        for _ in range(2)
    ]
    client = RpcClient(system.stack.broker_url("cases"), "cases.test")
    client.start()
    waiting = connection_to(system.stack.broker_url("callers")).channel()

    def in_line() -> int:
        return waiting.queue_declare(outside_queue("identity"), passive=True).message_count

    for thread in threads:
        thread.start()
    try:
        eventually(lambda: in_line() > 2000, 60)
        for _ in range(20):
            asked = identity.ResidentCards(residents=[])
            client.ask(identity.RESIDENT_CARDS, asked, token=system.service_token("cases"), timeout=2.0)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        client.stop()
    eventually(lambda: in_line() == 0, 120)


def test_the_deployments_definitions_bound_every_queue_and_their_number(system):
    admin, vhost = system.stack.rabbitmq.admin, "vardarende"
    given = {f"{kind}.{service}" for kind in ("events", "dead") for service in ("cases", "notifications")}

    def policies():
        return {queue["name"]: queue.get("policy") for queue in admin.queues(vhost)}

    eventually(lambda: all(policies().values()))  # that of a new queue is not told at once
    assert {policies()[queue] for queue in given} == {"events"}
    assert policies()["rpc-cases"] == policies()["rpc-cases-outside"] == "calls"
    assert {policy for queue, policy in policies().items() if "rights-clock" in queue} == {"made by users"}
    assert admin.vhost_limits(vhost) == {"max-queues": definitions.MOST_QUEUES}
    assert {queue.name for queue in topology.topology().queues} <= {queue["name"] for queue in admin.queues(vhost)}


def fill(channel, exchange: str, key: str) -> int:
    """Publishes until the queue refuses; how many it took."""
    channel.confirm_select()
    for count in range(10 * ROOM):
        try:
            channel.basic_publish_confirm(amqp.Message("{}", delivery_mode=2, message_id=str(uuid4())), exchange, key)
        except MessageNacked:
            return count
    raise AssertionError("nothing is refused")
