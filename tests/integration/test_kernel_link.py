"""The connection to the broker in bad company: nothing that comes by it may leave a process deaf."""

import socket
import threading
import time
from datetime import datetime

import amqp
import pytest
from amqp import serialization

from shared.messaging.link import Delivery, Link, LinkDown, OutgoingMessage

QUEUE = "poison"


class Proxy:
    """Stands between a link and the broker; may hold back what comes, or cut."""

    def __init__(self, target):
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.hold_after = None  # bytes from the broker to let through before it stalls
        self._pairs = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            self._pairs.append((near, far))
            threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source, sink, from_broker):
        try:
            while data := source.recv(4096):
                if from_broker and self.hold_after is not None:
                    while self.hold_after is not None and self.hold_after < len(data):
                        sink.sendall(data[: self.hold_after])
                        data, self.hold_after = data[self.hold_after :], 0
                        time.sleep(0.02)
                    if self.hold_after is not None:
                        self.hold_after -= len(data)
                sink.sendall(data)
        except OSError:
            pass

    def close(self):
        self._server.close()
        for pair in self._pairs:
            for end in pair:
                end.close()


@pytest.fixture
def proxy(broker_vhost):
    """One before the broker; `url`: the broker by it."""
    host, port = broker_vhost.url.rsplit("@", 1)[1].split("/")[0].split(":")
    between = Proxy((host, int(port)))
    between.url = broker_vhost.url.replace(f":{port}/", f":{between.port}/")
    yield between
    between.close()


@pytest.fixture
def heard(broker_vhost):
    """A link that consumes a queue, what it heard, and a channel that publishes to the queue."""
    got: list[Delivery] = []

    def listen(channel):
        channel.queue_declare(QUEUE, durable=True, auto_delete=False)
        channel.basic_consume(QUEUE, no_ack=True, callback=link.collect)

    link = Link(broker_vhost.url, "test", listen, on_delivery=got.append)
    link.start()
    assert link.wait_connected(10)
    host, password = (
        broker_vhost.url.rsplit("@", 1)[1].split("/")[0],
        broker_vhost.url.split(":", 2)[2].rsplit("@", 1)[0],
    )
    with amqp.Connection(host, broker_vhost.user, password, virtual_host=broker_vhost.vhost) as connection:
        yield link, got, connection.channel()
    link.stop()


def wait_for(condition, seconds=10.0):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_headers_that_can_not_be_read_harm_nobody(heard):
    """A date in the year 55840, a body in an encoding that it is not in, and none at all."""
    link, got, channel = heard
    year = serialization.calendar.timegm
    try:
        serialization.calendar.timegm = lambda _: 1_700_000_000_000
        channel.basic_publish(amqp.Message("a", application_headers={"t": datetime(2026, 1, 1)}), "", QUEUE)
    finally:
        serialization.calendar.timegm = year
    channel.basic_publish(amqp.Message(b"\\ud800", content_encoding="unicode_escape"), "", QUEUE)
    channel.basic_publish(amqp.Message(b"\xff", content_encoding="utf-7"), "", QUEUE)
    channel.basic_publish(amqp.Message(""), "", QUEUE)
    channel.basic_publish(amqp.Message("fine", message_id="last"), "", QUEUE)
    wait_for(lambda: len(got) == 5)
    assert got[0].unreadable
    assert got[0].properties == {}
    assert [one.body for one in got[1:]] == [b"\\ud800", b"\xff", b"", b"fine"]
    assert link.connected
    assert not got[4].unreadable


def test_what_waits_already_comes_with_the_connection_and_not_a_second_later(broker_vhost):
    """The broker sends it in one piece with its answer to the consumer, which py-amqp has read whole by then."""
    took = []

    def listen(channel):
        channel.queue_declare(QUEUE, durable=True, auto_delete=False)
        channel.basic_consume(QUEUE, callback=link.collect)
        began.append(time.monotonic())

    for _ in range(5):
        got, began = [], []
        link = Link(broker_vhost.url, "test", listen, on_delivery=lambda one: got.append(time.monotonic()))  # noqa: B023
        link.start()
        if not took:
            assert link.wait_connected(10)
            link.publish(OutgoingMessage(b"x", "", QUEUE))
        wait_for(lambda: got)  # noqa: B023
        took.append(got[0] - began[0])
        link.stop()  # given back, for the next one
    assert max(took[1:]) < 0.5


def test_an_error_of_any_kind_ends_the_connection_and_not_the_link(heard):
    link, got, channel = heard

    def fails(_channel):
        raise RuntimeError("of no kind that was thought of")

    link._on_delivery = lambda delivery: fails(None)
    channel.basic_publish(amqp.Message("x"), "", QUEUE)
    time.sleep(0.3)
    link._on_delivery = got.append
    wait_for(lambda: link.connected)

    def heard_again():  # the broker may not have noticed yet that the first connection is gone, and send one there
        channel.basic_publish(amqp.Message("y"), "", QUEUE)
        return any(one.body == b"y" for one in got)

    wait_for(heard_again)


def test_half_a_frame_is_waited_for_without_turning_and_without_holding_the_connection(proxy):
    got = []

    def listen(channel):
        channel.queue_declare(QUEUE, durable=True, auto_delete=False)
        channel.basic_consume(QUEUE, no_ack=True, callback=link.collect)

    link = Link(proxy.url, "test", listen, on_delivery=got.append)
    link.start()
    try:
        assert link.wait_connected(10)
        proxy.hold_after = 300
        link.publish(OutgoingMessage(b"x" * 100_000, "", QUEUE))
        time.sleep(0.3)
        cpu, began = time.process_time(), time.monotonic()
        while time.monotonic() - began < 1.5:
            link.publish(OutgoingMessage(b"y", "", "nowhere"), timeout=0.2)  # the lock is free
            time.sleep(0.05)
        assert time.process_time() - cpu < 0.75, "it turned while it waited"
        assert got == []
        proxy.hold_after = None
        wait_for(lambda: len(got) == 1)
        assert got[0].body == b"x" * 100_000
    finally:
        link.stop()


def test_a_broker_that_stalls_does_not_keep_anyone_beyond_their_time(proxy):
    link = Link(proxy.url, "test")
    link.start()
    try:
        assert link.wait_connected(10)
        proxy.hold_after = 0
        began = time.monotonic()
        with pytest.raises(LinkDown):
            link.run(lambda channel: channel.queue_declare("x", passive=True), timeout=0.3)
        with pytest.raises(LinkDown):
            link.run(lambda channel: channel.queue_declare("x", passive=True), timeout=0.3)
        assert time.monotonic() - began < 2.0
        proxy.hold_after = None
        wait_for(lambda: link.connected, 15)
    finally:
        link.stop()


def test_what_nobody_waits_for_any_more_is_not_asked_of_the_broker(broker_vhost):
    """Many may give up at once; what they wanted would keep the connection from all others."""
    busy, asked = threading.Event(), []

    def listen(channel):
        channel.queue_declare(QUEUE, durable=True, auto_delete=False)
        channel.basic_consume(QUEUE, no_ack=True, callback=link.collect)

    def work(_delivery):
        busy.set()
        time.sleep(0.5)

    link = Link(broker_vhost.url, "test", listen, on_delivery=work)
    link.start()
    try:
        assert link.wait_connected(10)
        link.publish(OutgoingMessage(b"x", "", QUEUE))
        assert busy.wait(5)
        with pytest.raises(LinkDown):
            link.run(asked.append, timeout=0.1)
        assert link.run(lambda _: "next") == "next"
        assert asked == []
    finally:
        link.stop()


@pytest.fixture
def answering(broker_vhost):
    """A link that was given four messages, and what they are."""
    got: list[Delivery] = []

    def listen(channel):
        channel.queue_declare(QUEUE, durable=True, auto_delete=False)
        channel.basic_consume(QUEUE, callback=link.collect)

    link = Link(broker_vhost.url, "test", listen, on_delivery=got.append)
    link.start()
    assert link.wait_connected(10)
    for number in b"1234":
        link.publish(OutgoingMessage(bytes([number]), "", QUEUE))
    wait_for(lambda: len(got) == 4)
    yield link, got
    link.stop()


def left(broker_vhost):
    """The messages that nobody has acknowledged, when the link has stopped."""
    link, got = None, []

    def listen(channel):
        channel.basic_consume(QUEUE, callback=link.collect)

    link = Link(broker_vhost.url, "look", listen, on_delivery=got.append)
    link.start()
    assert link.wait_connected(10)
    time.sleep(0.3)
    link.stop()
    return [one.body for one in got]


ANSWER = OutgoingMessage(b"answer", "", "nobody")


def test_those_that_were_answered_are_acknowledged_before_the_link_stops_and_no_others(broker_vhost, answering):
    link, got = answering
    for place in (3, 0, 2):
        link.answer(got[place], ANSWER, room=44)
    link.stop()
    assert left(broker_vhost) == [b"2"]


def test_an_answered_one_is_acknowledged_soon_though_no_other_comes(broker_vhost, answering):
    link, got = answering
    for place in (0, 1, 3):
        link.answer(got[place], ANSWER, room=44)
    time.sleep(0.5)
    link._stopping.set()  # without what `stop` does first
    link._break()
    wait_for(lambda: not link.connected)
    assert left(broker_vhost) == [b"3"]


def test_no_more_are_held_back_than_was_said(broker_vhost, answering):
    link, got = answering
    link._acknowledging_is_due = True  # the clock never comes
    for one in got:
        link.answer(one, ANSWER, room=12)
    link._stopping.set()
    link._break()
    wait_for(lambda: not link.connected)
    assert left(broker_vhost) == [b"4"]


def test_what_was_answered_by_an_older_connection_is_not_acknowledged_by_the_new_one(broker_vhost, answering):
    link, got = answering
    before = list(got)
    link.answer(before[0], ANSWER, room=44)
    got.clear()
    link._break()
    wait_for(lambda: len(got) == 4)  # they all come again
    link.answer(before[1], ANSWER, room=0)
    link.answer(got[2], ANSWER, room=0)
    link.stop()
    assert left(broker_vhost) == [b"1", b"2", b"4"]


def test_what_is_at_work_for_long_leaves_its_places_to_the_others(broker_vhost):
    got: list[Delivery] = []

    def listen(channel):
        channel.queue_declare(QUEUE, durable=True, auto_delete=False)
        channel.basic_qos(0, 6, False)
        channel.basic_consume(QUEUE, callback=link.collect)

    link = Link(broker_vhost.url, "test", listen, on_delivery=got.append)
    link.start()
    assert link.wait_connected(10)
    link._acknowledging_is_due = True  # the clock never comes
    for number in range(12):
        link.publish(OutgoingMessage(bytes([number]), "", QUEUE))
    for place in range(5, 12):  # those before it are at work
        wait_for(lambda place=place: len(got) > place)
        link.answer(got[place], ANSWER, room=6)
    link.stop()
    assert left(broker_vhost) == [bytes([number]) for number in range(5)]


def test_a_channel_that_the_broker_has_just_ended_is_told_and_mended(heard):
    """py-amqp lets go of it before the reading thread is back at the lock."""
    link, got, _ = heard
    with link._lock:
        link._channel.collect()
    with pytest.raises(LinkDown):
        link.publish(OutgoingMessage(b"x", "", QUEUE))
    wait_for(lambda: link.connected and link._channel.connection is not None)
    link.publish(OutgoingMessage(b"after", "", QUEUE))
    wait_for(lambda: [one.body for one in got] == [b"after"])


def test_a_channel_whose_end_comes_in_two_pieces_is_mended_at_once(proxy):
    """py-amqp opens it again and waits for the answer, amid what is being read (R-SYS-5)."""
    link = Link(proxy.url, "test")
    link.start()
    try:
        assert link.wait_connected(10)
        proxy.hold_after = 10
        before = link._generation
        link.publish(OutgoingMessage(b"x", "no such exchange", "key"))
        time.sleep(0.3)  # a piece of the frame has come
        assert link._generation == before
        proxy.hold_after = None
        wait_for(lambda: link.connected and link._generation > before, 3)
    finally:
        link.stop()


def test_a_question_that_makes_the_broker_end_the_channel_is_answered_and_the_link_mended(heard):
    link, _, _ = heard
    before = link._generation
    with pytest.raises(LinkDown):
        link.run(lambda own: own.queue_declare("no such queue", passive=True))
    wait_for(lambda: link.connected and link._generation > before)
    assert link.run(lambda own: own.queue_declare(QUEUE, passive=True)).queue == QUEUE


def test_a_body_arrives_whole_whatever_frames_it_fills(heard):
    link, got, _ = heard
    most = link._connection.frame_max - 8
    sizes = [times * most + more for times in range(3) for more in range(-9, 10) if times * most + more >= 0]
    bodies = [bytes([size % 251]) * size for size in sizes]
    for body in bodies:
        link.publish(OutgoingMessage(body, "", QUEUE))
    wait_for(lambda: len(got) == len(bodies))
    assert [one.body == body for one, body in zip(got, bodies, strict=True)] == [True] * len(bodies)
    assert link._generation == 1


@pytest.mark.parametrize("size", [5, 200_000])
def test_a_routing_key_that_is_no_text_harms_nobody(heard, size):
    """The broker takes any bytes; a message that ended the connection would come again by the next (R-SYS-5)."""
    link, got, channel = heard
    channel.queue_bind(QUEUE, "amq.topic", "#")
    channel.basic_publish(amqp.Message(b"x" * size), "amq.topic", b"cases.\xff")
    channel.basic_publish(amqp.Message(b"fine"), "amq.topic", "cases.fine")
    wait_for(lambda: len(got) == 2)
    assert [one.routing_key for one in got] == ["cases.\ufffd", "cases.fine"]
    assert [len(one.body) for one in got] == [size, 4]
    assert link._generation == 1
