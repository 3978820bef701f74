"""Dead letters can be listed, looked at and sent again, by one command each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import amqp
import pytest

from shared.messaging import dead_letters, topology
from tests.integration.kernel_broker import DEAD, HAPPENED, QUEUE, Happened, consumer_of, eventually
from tests.integration.kernel_support import bump

ROOT = Path(__file__).resolve().parents[2]
SERVICE = "notifications"


@pytest.fixture
def buried(kernel_db, kernel_broker, monkeypatch):
    """Three events that lie with the dead letters because their handler failed; answers their ids."""
    monkeypatch.setattr(topology, "DELAYS_SECONDS", ())
    monkeypatch.setattr("shared.messaging.events.ATTEMPTS", 2)
    kernel_broker.declare()
    database = kernel_db.open(service=SERVICE)

    def failing(tx, event) -> None:
        raise LookupError("Anna Andersson 19900101-2385")

    consumer = consumer_of(database, kernel_broker.url, {HAPPENED: failing})
    consumer.start()
    ids = [uuid4() for _ in range(3)]
    with kernel_broker.channel() as channel:
        for one in ids:
            body = json.loads(Happened(key=one, number=5).model_dump_json()) | {"subject": "SE2321000131-E000000012345"}
            message = amqp.Message(json.dumps(body), message_id=str(one), type="cases.case_started", delivery_mode=2)
            channel.basic_publish(message, routing_key=QUEUE)
    eventually(lambda: kernel_broker.messages(DEAD) == 3)
    consumer.stop()
    database.dispose()
    monkeypatch.undo()
    return [str(one) for one in ids]


def test_they_are_shown_without_personal_data_and_stay(kernel_broker, buried):
    for _ in range(30):  # RabbitMQ 4 would drop a message that is given back more than 20 times
        letters = dead_letters.look(kernel_broker.url, SERVICE)
        assert sorted(letter.id for letter in letters) == sorted(buried)
    for letter in letters:
        assert (letter.event, letter.error, letter.attempts) == ("cases.case_started", "LookupError", 2)
        assert letter.body == {"key": letter.id, "number": 5, "subject": "[withheld]"}
        assert letter.died_at
    assert "Andersson" not in repr(letters)
    assert dead_letters.waiting(kernel_broker.url)[SERVICE] == 3
    assert dead_letters.waiting(kernel_broker.url)["cases"] == 0


def test_sent_again_they_take_effect_once(kernel_db, kernel_broker, buried):
    sent, missing = dead_letters.resend(kernel_broker.url, SERVICE, [buried[0], str(uuid4())])
    assert sent == [buried[0]]
    assert len(missing) == 1
    assert kernel_broker.messages(DEAD) == 2
    database = kernel_db.open(service=SERVICE)
    consumer = consumer_of(database, kernel_broker.url, {HAPPENED: lambda tx, event: bump(tx, event.key)})
    consumer.start()
    eventually(lambda: kernel_db.rows("SELECT id::text, times FROM effects") == [(buried[0], 1)])
    dead_letters.resend(kernel_broker.url, SERVICE)
    eventually(lambda: kernel_db.one("SELECT count(*) FROM effects") == 3)
    assert kernel_db.rows("SELECT DISTINCT times FROM effects") == [(1,)]
    assert kernel_broker.messages(DEAD) == 0
    consumer.stop()
    database.dispose()


def test_they_are_kept_if_the_services_queue_is_gone(kernel_broker, buried):
    with kernel_broker.channel() as channel:
        channel.queue_delete(QUEUE)
    with pytest.raises(dead_letters.DeadLetterError, match="is not there"):
        dead_letters.resend(kernel_broker.url, SERVICE)
    eventually(lambda: kernel_broker.messages(DEAD) == 3)


def test_what_nobody_understands_can_be_removed_and_what_somebody_does_by_its_id_alone(
    kernel_db, kernel_broker, buried
):
    database = kernel_db.open(service=SERVICE)
    consumer = consumer_of(database, kernel_broker.url, {})
    consumer.start()
    strange = str(uuid4())
    with kernel_broker.channel() as channel:
        message = amqp.Message("{}", message_id=strange, type="cases.nonsense", delivery_mode=2)
        channel.basic_publish(message, routing_key=QUEUE)
    eventually(lambda: kernel_broker.messages(DEAD) == 4)
    consumer.stop()
    assert dead_letters.discard(kernel_broker.url, SERVICE) == ([strange], [])
    unknown = str(uuid4())
    assert dead_letters.discard(kernel_broker.url, SERVICE, [buried[0], unknown]) == ([buried[0]], [unknown])
    assert sorted(letter.id for letter in dead_letters.look(kernel_broker.url, SERVICE)) == sorted(buried[1:])
    database.dispose()


def run(url: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "AMQP_URL"}
    environment |= {"PYTHONPATH": str(ROOT)} | ({"AMQP_URL": url} if url else {})
    command = [sys.executable, "-W", "ignore", "-m", "shared.messaging.dead_letters", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


def test_the_command_does_each(kernel_broker, buried):
    listed = run(kernel_broker.url, "list")
    assert "notifications        3" in listed.stdout
    listed = run(kernel_broker.url, "list", SERVICE)
    assert listed.stdout.count("LookupError") == 3
    shown = run(kernel_broker.url, "show", SERVICE, buried[1])
    assert json.loads(shown.stdout)[0]["id"] == buried[1]
    assert run(kernel_broker.url, "resend", SERVICE, buried[1]).stdout == "sent again to notifications: 1\n"
    assert run(kernel_broker.url, "discard", SERVICE, buried[0]).stdout == "removed from notifications: 1\n"
    assert run(kernel_broker.url, "discard", SERVICE, "--not-understood").stdout == "removed from notifications: 0\n"
    assert run(kernel_broker.url, "resend", SERVICE, "--all").stdout == "sent again to notifications: 1\n"
    assert kernel_broker.messages(QUEUE) == 2


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["show", SERVICE, "x"], 1, "has no dead letter x"),
        (["list", "nonsense"], 1, "there is no queue dead.nonsense"),
        (["resend", SERVICE], 2, "name the ids"),
        (["discard", SERVICE], 2, "name the ids"),
    ],
)
def test_what_is_wrong_is_told(kernel_broker, arguments, status, told):
    kernel_broker.declare()
    done = run(kernel_broker.url, *arguments)
    assert done.returncode == status
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broker_that_is_not_there_is_told():
    done = run("amqp://nobody@127.0.0.1:9/", "list")
    assert done.returncode == 1
    assert "the broker does not answer" in done.stderr
    assert run(None, "list").returncode == 78
