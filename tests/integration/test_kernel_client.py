"""Many callers of one process at once: while its connection comes up, and while the called service hangs (R-SYS-5)."""

import contextlib
import threading
import time
from collections import Counter

import amqp
import pytest

from shared.messaging import wire
from shared.messaging.client import RpcClient
from shared.messaging.errors import DeadlineExceeded, Refused
from tests.integration.kernel_broker import Proxy, eventually

SERVICE = "hanging"
QUEUE = wire.request_queue(SERVICE)
CALL = f"{SERVICE}.ask"


@pytest.fixture
def calls_queue(kernel_broker):
    """The queue that the service takes its calls from; nobody takes any."""
    with kernel_broker.channel() as channel:
        wire.declare_request_queues(channel, SERVICE)
    yield kernel_broker
    with kernel_broker.channel() as channel:
        channel.queue_delete(QUEUE)


@pytest.fixture
def client_by(calls_queue):
    """`client_by(url)` is a client that begins to connect."""
    with contextlib.ExitStack() as stopping:

        def start(url):
            client = RpcClient(url, "test")
            client.start()
            stopping.callback(client.stop)
            return client

        yield start


def asking(client, count, seconds, pause=0.0):
    """Makes so many calls, each on a thread of its own, one every `pause` seconds; the reasons they end with."""
    ends = []

    def ask():
        try:
            client.ask_raw(CALL, b"{}", None, seconds)
        except Refused as refused:
            ends.append(refused.reason or refused.code)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for one in threads:
        one.start()
        time.sleep(pause)
    for one in threads:
        one.join()
    return Counter(ends)


def test_a_call_made_while_the_connection_comes_up_is_sent_once(calls_queue, client_by):
    """Whether before it, while the client makes itself ready, or after: what is sent twice is done twice."""
    slow = Proxy(calls_queue.url)
    slow.lag = 0.05
    client = client_by(slow.url)
    made = threading.Thread(target=asking, args=(client, 100, 8.0, 0.01))
    made.start()
    eventually(lambda: client.connected)
    sent = calls_queue.take_all(QUEUE, 100, seconds=6)
    client.stop()
    made.join()
    slow.close()
    assert set(Counter(one.properties["correlation_id"] for one in sent).values()) == {1}
    assert len(sent) == 100
    assert len({one.properties["reply_to"] for one in sent}) == 1, "an answer would go where nobody listens"


def test_all_who_wait_for_a_service_that_hangs_are_told_so_however_many_they_are(calls_queue, client_by):
    """And not that there is no broker, because it is asked after the service once for each of them."""
    far = Proxy(calls_queue.url)
    client = client_by(far.url)
    eventually(lambda: client.connected)
    far.lag = 0.005
    with calls_queue.channel() as hanging:
        hanging.basic_qos(0, 1, False)
        hanging.basic_consume(QUEUE, callback=lambda taken: None)
        told = asking(client, 300, 3.0)
    client.stop()
    far.close()
    assert told == {DeadlineExceeded.code: 300}


def test_an_answer_of_a_process_that_takes_no_more_calls_counts(calls_queue, client_by, monkeypatch):
    """One that is stopping finishes what it has: the caller would be told that nobody was there, and it was done."""
    client = client_by(calls_queue.url)
    eventually(lambda: client.connected)
    look_for = client._look_for

    def looked(service, timeout):
        try:
            look_for(service, timeout)
        finally:
            with calls_queue.channel() as stopping:
                stopping.basic_publish(
                    amqp.Message(b"done", correlation_id=taken.properties["correlation_id"]),
                    exchange=wire.RPC_EXCHANGE,
                    routing_key=taken.properties["reply_to"],
                )

    monkeypatch.setattr("shared.messaging.client._LAST_LOOK_SECONDS", 2.0)
    monkeypatch.setattr(client, "_look_for", looked)
    answers = []
    caller = threading.Thread(target=lambda: answers.append(client.ask_raw(CALL, b"{}", None, 8.0)))
    caller.start()
    [taken] = calls_queue.take_all(QUEUE, 1)
    caller.join()
    assert answers == [b"done"]
