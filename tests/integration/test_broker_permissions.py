"""The broker itself refuses what a service or an outside caller may not do, whatever the program that uses its user."""

import contextlib
import json
import threading
import time
from uuid import uuid4

import amqp
import pytest
from amqp.exceptions import AccessRefused
from nameko.exceptions import RemoteError
from nameko.standalone.rpc import ClusterRpcProxy

from deploy.local.stack import VHOST
from deploy.rabbitmq import definitions, permissions
from shared.contracts import cases, directory, identity, logging_in
from shared.messaging import topology
from shared.messaging.client import RpcClient
from shared.messaging.errors import Forbidden, Refused
from shared.messaging.transport import connection_arguments
from shared.messaging.wire import RPC_EXCHANGE, reply_key

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
        client = RpcClient(system.stack.broker_url(user), f"{user}.test", exchange=permissions.exchange_of(user))
        client.start()
        assert client._link.wait_connected(10)
        opened.append(client)
        return client

    yield connect
    for client in opened:
        client.stop()


def queue_of(user, channel, arguments=None):
    """A queue for answers, which everybody may make."""
    name = f"rpc.reply-{user}.{uuid4()}"
    channel.queue_declare(name, durable=False, exclusive=True, auto_delete=True, arguments=arguments)
    return name


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
            for queue in (f"rpc-{other}", f"rpc-{other}-outside", f"events.{other}", f"dead.{other}"):
                dead = queue.startswith("dead")
                if (dead and user == "operator") or (not dead and user == other):
                    continue
                with pytest.raises(AccessRefused):
                    channel_of(user).basic_get(queue)


def test_nobody_listens_in_on_calls(channel_of):
    for user in permissions.everyone():
        for exchange in {RPC_EXCHANGE, permissions.exchange_of(user)}:
            for key in ("#", "identity.*", "identity.complete_login"):
                channel = channel_of(user)
                queue = queue_of(user, channel)
                with pytest.raises(AccessRefused):
                    channel.queue_bind(queue, exchange, key)


def test_nobody_listens_in_on_the_answers_to_another(channel_of):
    """Each service sees by which key those who call it take their answers."""
    for user in permissions.everyone():
        for other in permissions.everyone():
            if other == user:
                continue
            for exchange, key in (
                (RPC_EXCHANGE, reply_key(other)),
                (RPC_EXCHANGE, str(uuid4())),
                (permissions.exchange_of(user), reply_key(other)),
                (permissions.exchange_of(other), str(uuid4())),
            ):
                channel = channel_of(user)
                queue = queue_of(user, channel)
                with pytest.raises(AccessRefused):
                    channel.queue_bind(queue, exchange, key)


def test_a_caller_that_replaces_its_exchange_cuts_off_itself_and_hears_nobody(system, channel_of, client_of):
    channel = channel_of("listings")
    queue = queue_of("listings", channel)
    own = permissions.exchange_of("listings")
    try:
        channel.exchange_delete(own)
        channel.exchange_declare(own, "fanout", durable=True, auto_delete=False)
        channel.queue_bind(queue, own, "")
        for source, destination in ((own, RPC_EXCHANGE), (RPC_EXCHANGE, own)):
            with pytest.raises(AccessRefused):
                channel_of("listings").exchange_bind(destination, source, "#")
        with pytest.raises(AccessRefused):
            channel_of("listings").exchange_delete(RPC_EXCHANGE)
        with pytest.raises(AccessRefused):  # what it can't pass on would go there, by any key
            other = channel_of("listings")
            other.exchange_delete(own)
            other.exchange_declare(
                own, "fanout", durable=True, auto_delete=False, arguments={"alternate-exchange": RPC_EXCHANGE}
            )
        portal = client_of("portal")
        begun = portal.ask(
            logging_in.BEGIN_LOGIN, logging_in.BeginLogin(request_id=uuid4(), kind="resident"), timeout=10
        )
        assert begun.nonce
        assert channel.basic_get(queue, no_ack=True) is None
    finally:
        channel_of("callers").exchange_delete(own)
        system.stack.rabbitmq.admin.give(VHOST, definitions.inside(VHOST), definitions.rights(VHOST))
    assert channel_of("listings").exchange_declare(own, "topic", passive=True) is None


@pytest.mark.parametrize("way", ["dead letter", "CC", "BCC"])
def test_a_request_that_came_by_a_detour_is_not_taken(channel_of, way):
    """The broker asks for no right to call where it moves a message by itself, nor, before RabbitMQ 4, for copies."""
    channel, key = channel_of("attachments"), reply_key("attachments")
    answers = queue_of("attachments", channel)
    channel.queue_bind(answers, RPC_EXCHANGE, key)
    body = {"args": [], "kwargs": {"request_id": str(uuid4()), "kind": "resident"}}
    message = amqp.Message(json.dumps(body), reply_to=key, correlation_id="x", delivery_mode=1)
    if way == "dead letter":
        first = reply_key("attachments")
        trampoline = queue_of(
            "attachments",
            channel,
            {
                "x-dead-letter-exchange": RPC_EXCHANGE,
                "x-dead-letter-routing-key": "identity.begin_login",
                "x-message-ttl": 0,
            },
        )
        channel.queue_bind(trampoline, RPC_EXCHANGE, first)
    else:
        first = "directory.get_clinics"  # which answers that the arguments are wrong
        message.properties["application_headers"] = {way: ["identity.begin_login"]}
    channel.confirm_select()
    with contextlib.suppress(AccessRefused):
        channel.basic_publish_confirm(message, exchange=RPC_EXCHANGE, routing_key=first)
        time.sleep(2)
        assert channel.queue_declare(answers, passive=True).message_count == (0 if way == "dead letter" else 1)


def test_a_request_by_an_exchange_that_a_user_has_made_for_itself_is_not_taken(channel_of):
    """To the broker, rights to make a queue are rights to make an exchange of such a name."""
    channel, key, own = channel_of("cases"), reply_key("cases"), f"rpc.reply-cases.{uuid4()}"
    answers = queue_of("cases", channel)
    channel.queue_bind(answers, RPC_EXCHANGE, key)
    channel.exchange_declare(own, "topic", durable=False, auto_delete=True)
    channel.exchange_bind(RPC_EXCHANGE, own, "#")
    body = {"args": [], "kwargs": {"request_id": str(uuid4()), "kind": "resident"}}
    channel.confirm_select()
    channel.basic_publish_confirm(
        amqp.Message(json.dumps(body), reply_to=key, correlation_id="x"),
        exchange=own,
        routing_key="identity.begin_login",
    )
    time.sleep(2)
    assert channel.queue_declare(answers, passive=True).message_count == 0


@pytest.mark.parametrize("user", [caller.name for caller in permissions.OUTSIDE_CALLERS if caller.stock])
def test_a_stock_nameko_client_calls_by_its_own_exchange(system, user):
    config = {"AMQP_URI": system.stack.broker_url(user), "rpc_exchange": permissions.exchange_of(user)}
    token = system.system_token(user) if user in permissions.CONNECTED_SYSTEMS else None
    with ClusterRpcProxy(config, context_data={"auth_token": token} if token else {}, timeout=10) as rpc:
        if token is None:
            assert rpc.identity.begin_login(request_id=str(uuid4()), kind="resident")["nonce"]
        else:  # without arguments: the answer says what is wrong with them
            [call] = permissions.calls_open_to({f"system:{user}"}, CONTRACTS)
            with pytest.raises(RemoteError) as raised:
                getattr(getattr(rpc, call.service), call.name)()
            assert raised.value.exc_type == "invalid"


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
    channel, exchange = channel_of("portal"), permissions.exchange_of("portal")
    channel.basic_publish(
        amqp.Message(
            json.dumps({"args": [], "kwargs": {"request_id": str(uuid4()), "kind": "resident"}}).encode(),
            reply_to="notifications.overlapping_addresses",
            correlation_id=uuid4().hex,
        ),
        exchange=exchange,
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
    assert _buried(channel_of("operator"), "notifications", event_id) == "cases.case_assigned"


DEATH_AT_IDENTITYS = {"queue": "events.attachments", "exchange": "identity.events", "routing-keys": ["rights_changed"]}


@pytest.mark.parametrize(
    ("way", "headers", "kind"),
    [
        ("bound", {}, "identity.rights_changed"),
        ("bound", {"x-death": [DEATH_AT_IDENTITYS]}, None),
        ("as what can't be routed", {}, "identity.rights_changed"),
        ("as what can't be routed", {"x-death": [DEATH_AT_IDENTITYS]}, None),
        # Not with that header: a letter that has died in a queue the broker does not put there again.
        ("as a dead letter", {}, "identity.rights_changed"),
    ],
)
def test_an_event_of_anothers_can_t_be_told_by_a_detour_that_a_service_makes(system, channel_of, way, headers, kind):
    """R-ID-10: a change of rights that identity did not tell changes nobody's, however it gets into the queue."""
    subject, event_id = f"SE2321000016-{uuid4().hex[:8].upper()}", str(uuid4())
    change = identity.RightsChanged(number=10**12, subject=subject, version=10**12, regional=True)
    channel = channel_of("cases")
    channel.confirm_select()
    own = f"rpc.reply-cases.{uuid4()}"
    unroutable = {"alternate-exchange": "cases.events"} if way == "as what can't be routed" else {}
    channel.exchange_declare(own, "fanout", durable=False, auto_delete=False, arguments=unroutable)
    if way == "bound":
        channel.exchange_bind("cases.events", own, "")
    if way == "as a dead letter":
        queue = queue_of("cases", channel, {"x-dead-letter-exchange": "cases.events"})
        channel.queue_bind(queue, own, "")
    properties = {"message_id": event_id, "delivery_mode": 2, "expiration": "1", "application_headers": headers}
    message = amqp.Message(change.model_dump_json().encode(), **properties, **({"type": kind} if kind else {}))
    channel.basic_publish_confirm(message, exchange=own, routing_key="message_sent")
    assert _buried(channel_of("operator"), "attachments", event_id) in ("unknown", "cases.message_sent")
    assert not system.rows("attachments", "SELECT 1 FROM rights_subjects WHERE subject = %s", subject)
    channel.exchange_delete(own)


def _buried(operator, service, event_id):
    """The kind under which the event lies with the service's dead letters."""
    ends = time.monotonic() + 15
    while time.monotonic() < ends:
        message = operator.basic_get(f"dead.{service}")
        if message is not None and message.properties.get("message_id") == event_id:
            operator.basic_ack(message.delivery_tag)
            return message.properties["type"]
        time.sleep(0.05)
    pytest.fail("the event was not put with the dead letters")


def test_services_declare_nothing_where_the_broker_was_given_its_definitions(system, channel_of):
    assert topology.given(channel_of("cases").connection)
    assert system.call(directory.GET_CLINICS, directory.GetClinics(clinics=[]), system.operator_token).clinics == []
