"""The broker itself refuses what a service or an outside caller may not do, whatever the program that uses its user."""

import contextlib
import json
import threading
import time
from uuid import uuid4

import amqp
import pytest
from amqp.exceptions import AccessRefused

from deploy.local.people import cast
from deploy.rabbitmq import permissions
from shared.contracts import cases, directory, identity, logging_in
from shared.messaging import topology
from shared.messaging.client import RpcClient
from shared.messaging.errors import Forbidden, Refused
from shared.messaging.transport import connection_arguments
from shared.messaging.wire import RPC_EXCHANGE, TOKEN_HEADER, reply_key

CONTRACTS = topology.all_contracts()
SERVICES = [contract.name for contract in CONTRACTS]


@pytest.fixture
def channel_of(system):
    """A bare channel as a user: `channel_of("cases")`."""
    opened = []

    def connect(user):
        connection = amqp.Connection(**connection_arguments(system.stack.broker_url(user), "test", None))
        connection.connect()
        opened.append(connection)
        return connection.channel()

    yield connect
    for connection in opened:
        with contextlib.suppress(Exception):
            connection.close()


@pytest.fixture
def client_of(system):
    """Our own client as a user."""
    opened = []

    def connect(user):
        client = RpcClient(system.stack.broker_url(user), f"{user}.test")
        client.start()
        assert client._link.wait_connected(10)
        opened.append(client)
        return client

    yield connect
    for client in opened:
        client.stop()


def refused(channel, exchange, key, body=b"{}", **properties):
    """Whether the broker ends the channel for the publish."""
    channel.confirm_select()
    with pytest.raises(AccessRefused):
        channel.basic_publish_confirm(amqp.Message(body, **properties), exchange=exchange, routing_key=key)
    return True


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_call_what_the_contracts_say_and_nothing_else(channel_of, name):
    may = {call.routing_key for contract in CONTRACTS if contract.name != name for call in contract.calls.values()
           if call.who & {"service", f"service:{name}"}}  # fmt: skip
    every = {call.routing_key for contract in CONTRACTS for call in contract.calls.values()}
    for key in sorted(every - may):
        assert refused(channel_of(name), RPC_EXCHANGE, key), key
    channel = channel_of(name)
    channel.confirm_select()
    for key in sorted(may):  # no answer is asked for, and the arguments are wrong: it is about the publish alone
        channel.basic_publish_confirm(amqp.Message(b"{}", expiration="1"), exchange=RPC_EXCHANGE, routing_key=key)


def test_nobody_but_the_source_tells_an_event_or_the_latest_number_of_rights(channel_of):
    for name in SERVICES:
        for other in SERVICES:
            if other != name:
                assert refused(channel_of(name), f"{other}.events", "case_started")
                assert refused(channel_of(name), f"{other}.again", f"events.{other}")
        if name != "identity":
            assert refused(channel_of(name), "identity.rights-clock", "")
    assert refused(channel_of("cases"), "cases.events", "rights_changed")


def test_nobody_writes_into_a_queue_past_the_exchanges(channel_of):
    for user in permissions.everyone():
        assert refused(channel_of(user), "", "events.identity", type="identity.rights_changed")


def test_nobody_reads_what_is_for_another(channel_of):
    for user in permissions.everyone():
        for other in SERVICES:
            for queue in (f"rpc-{other}", f"events.{other}", f"dead.{other}"):
                dead = queue.startswith("dead")
                if (dead and user == "operator") or (not dead and user == other):
                    continue
                with pytest.raises(AccessRefused):
                    channel_of(user).basic_get(queue)


def test_nobody_listens_in_on_calls(channel_of):
    for user in permissions.everyone():
        for key in ("#", "identity.*", "identity.complete_login"):
            channel = channel_of(user)
            queue = f"rpc.reply-{user}.{uuid4()}"
            channel.queue_declare(queue, durable=False, exclusive=True, auto_delete=True)
            with pytest.raises(AccessRefused):
                channel.queue_bind(queue, RPC_EXCHANGE, key)


def own_queue(channel, user, **arguments):
    """A queue as the user may make for its answers."""
    queue = f"rpc.reply-{user}.{uuid4()}"
    channel.queue_declare(queue, durable=False, exclusive=True, auto_delete=True, arguments=arguments)
    return queue


def test_nobody_listens_in_on_the_answers_to_another_though_he_knows_its_reply_key(channel_of):
    """Whoever is called sees the key; stock callers' bare UUIDs are seen by services, which may not bind them."""
    users = permissions.everyone()
    for user in users:
        others = [reply_key(other) for other in users if other != user]
        stock = user in ("portal", "staff_tool")
        for key in [*others, *([] if stock else [str(uuid4())])]:
            channel = channel_of(user)
            with pytest.raises(AccessRefused):
                channel.queue_bind(own_queue(channel, user), RPC_EXCHANGE, key)
        channel = channel_of(user)
        channel.queue_bind(own_queue(channel, user), RPC_EXCHANGE, reply_key(user))


def test_only_the_callers_with_namekos_own_client_may_touch_the_exchange_of_calls(channel_of):
    """It declares the exchange each time, and so must be let; with the same right it could be replaced."""
    for user in set(permissions.everyone()) - {"portal", "staff_tool"}:
        with pytest.raises(AccessRefused):
            channel_of(user).exchange_delete(RPC_EXCHANGE, if_unused=True)


def test_a_call_that_a_queue_makes_by_dead_lettering_is_not_run_R_SYS_1(system, channel_of):
    """The broker asks nobody for a right when it passes a message on, wherever a queue's maker wants it to go."""
    channel = channel_of("attachments")
    springboard = own_queue(
        channel,
        "attachments",
        **{
            "x-dead-letter-exchange": RPC_EXCHANGE,
            "x-dead-letter-routing-key": "cases.list_inbox",
            "x-message-ttl": 0,
        },
    )
    hears, answers = reply_key("attachments"), reply_key("attachments")
    channel.queue_bind(springboard, RPC_EXCHANGE, hears)
    listening = own_queue(channel, "attachments")
    channel.queue_bind(listening, RPC_EXCHANGE, answers)
    token = system.resident_token(cast.RESIDENT)
    channel.basic_publish(
        amqp.Message(
            b'{"args": [], "kwargs": {}}',
            reply_to=answers,
            correlation_id="1",
            application_headers={TOKEN_HEADER: token},
        ),
        exchange=RPC_EXCHANGE,
        routing_key=hears,
    )
    ends = time.monotonic() + 10
    while (answer := channel.basic_get(listening, no_ack=True)) is None and time.monotonic() < ends:
        time.sleep(0.1)
    assert json.loads(answer.body)["error"]["exc_args"][0]["reason"] == "not_sent_by_its_caller"


def test_nobody_makes_or_removes_what_the_broker_was_given(channel_of):
    for user in permissions.everyone():
        for work in (
            lambda channel: channel.queue_delete("events.cases"),
            lambda channel: channel.queue_purge("dead.cases"),
            lambda channel: channel.exchange_delete("cases.events"),
            lambda channel: channel.exchange_declare("an.exchange", "topic"),
            lambda channel: channel.queue_declare("a.queue"),
        ):
            if user == "operator":
                continue  # may take dead letters out, and so may purge them
            with pytest.raises(AccessRefused):
                work(channel_of(user))


def test_the_tools_of_callers_make_only_their_calls(client_of):
    for user, call, request in (
        ("portal", cases.CLOSE_CASE, cases.CloseCase(request_id=uuid4(), case=uuid4(), version=1)),
        ("portal", identity.MAKE_FIRST_ADMINISTRATOR, identity.MakeFirstAdministrator(request_id=uuid4(), person="x")),
        ("staff_tool", cases.LIST_INBOX, cases.ListInbox()),
        ("operator", identity.RESIDENT_CARDS, identity.ResidentCards(residents=[])),
    ):
        with pytest.raises(Forbidden) as raised:
            client_of(user).ask(call, request, timeout=5)
        assert raised.value.reason == "refused_by_broker"


def test_a_refused_call_ends_at_once_and_the_others_of_the_process_go_on(system, client_of):
    """The broker ends the connection's channel for it: what else was under way is sent again, and answered."""
    client = client_of("cases")
    token = system.service_token("cases")
    stop, answered, failed = threading.Event(), [], []

    def ask_on():
        while not stop.is_set():
            try:
                client.ask(identity.RESIDENT_CARDS, identity.ResidentCards(residents=[]), token=token, timeout=10)
                answered.append(time.monotonic())
            except Refused as error:
                failed.append(error)

    threads = [threading.Thread(target=ask_on) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            began = time.monotonic()
            with pytest.raises(Forbidden) as raised:
                client.ask(identity.CONTACTS, identity.Contacts(residents=[], staff=[]), token=token, timeout=10)
            assert raised.value.reason == "refused_by_broker"
            assert time.monotonic() - began < 3
            time.sleep(0.2)
        last, ends = time.monotonic(), time.monotonic() + 10
        while not (answered and answered[-1] > last) and time.monotonic() < ends:
            time.sleep(0.05)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert answered[-1] > last


def test_an_answer_goes_to_a_caller_only_never_on_as_a_call(system, channel_of):
    """Where the answer is to go is the caller's word: a method's name there would be a call by the service."""
    channel = channel_of("portal")
    channel.basic_publish(
        amqp.Message(
            json.dumps({"args": [], "kwargs": {"request_id": str(uuid4()), "kind": "resident"}}).encode(),
            reply_to="notifications.overlapping_addresses",
            correlation_id=uuid4().hex,
        ),
        exchange=RPC_EXCHANGE,
        routing_key="identity.begin_login",
    )
    time.sleep(0.5)
    for _ in range(5):
        begun = system.call(
            logging_in.BEGIN_LOGIN, logging_in.BeginLogin(request_id=uuid4(), kind="resident"), timeout=3
        )
        assert begun.nonce


def test_an_event_under_a_false_name_is_taken_for_what_its_exchange_says(system, channel_of):
    """The body of a change of rights, told by cases as if it were identity's: it is no event of identity's."""
    event_id = str(uuid4())
    body = {"case": str(uuid4()), "clinic": "SE2321000016-TEST", "subject": "SE2321000016-A", "number": 10**12}
    channel = channel_of("cases")
    channel.confirm_select()
    channel.basic_publish_confirm(
        amqp.Message(json.dumps(body).encode(), message_id=event_id, type="identity.rights_changed", delivery_mode=2),
        exchange="cases.events",
        routing_key="case_assigned",
    )
    dead, ends = "notifications", time.monotonic() + 15
    seen = channel_of("operator")
    while time.monotonic() < ends:
        message = seen.basic_get(f"dead.{dead}")
        if message is not None and message.properties.get("message_id") == event_id:
            assert message.properties["type"] == "cases.case_assigned"
            seen.basic_ack(message.delivery_tag)
            return
        time.sleep(0.1)
    pytest.fail("the event was not put with the dead letters")


def test_services_declare_nothing_where_the_broker_was_given_its_definitions(system, channel_of):
    assert topology.given(channel_of("cases").connection)
    assert system.call(directory.GET_CLINICS, directory.GetClinics(clinics=[]), system.operator_token).clinics == []
