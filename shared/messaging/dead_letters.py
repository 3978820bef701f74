"""Dead letters: events that a service could not handle, kept until someone has looked at them and sends them again.

    python -m shared.messaging.dead_letters list [SERVICE]
    python -m shared.messaging.dead_letters show SERVICE ID
    python -m shared.messaging.dead_letters resend SERVICE (ID... | --all)
    python -m shared.messaging.dead_letters discard SERVICE (ID... | --not-understood)

with AMQP_URL (and AMQP_CA_FILE) in the environment. Sending again is safe: the broker has the message in the service's
queue before it leaves the dead letters, and the service takes it in once, even if it had taken effect already.
"""

from __future__ import annotations

import argparse
import json
import os
import ssl
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import amqp
from amqp.exceptions import AMQPError, MessageNacked, NotFound

from shared.messaging import events, outbox, topology
from shared.messaging.link import Delivery, OutgoingMessage
from shared.messaging.transport import connection_arguments
from shared.operations.settings import EXIT_CONFIGURATION, strong_file, with_password

MOST = 10_000
"""So many dead letters of a service are looked at."""
_PUT_BACK_SECONDS = 3.0
_WITHHELD = "[withheld]"
EXIT_FAILED, EXIT_USAGE = 1, 2


class DeadLetterError(Exception):
    """What was asked for can't be done; the text says why."""


@dataclass(frozen=True)
class DeadLetter:
    """What is shown of one: nothing that could tell about a person (R-SYS-3)."""

    id: str
    event: str
    """`service.event`."""
    error: str
    """The type of the error, or what the broker did: `delivery_limit` where its process died of it again and again."""
    attempts: int
    died_at: str
    origin: str
    """The id of the call that began it all."""
    body: dict[str, Any]
    """Numbers, yes and no, and UUIDs as they are; whatever else is withheld."""


def waiting(url: str, *, ca_file: str | None = None) -> dict[str, int]:
    """How many dead letters each service has."""
    services = sorted({queue.name.removeprefix("dead.") for queue in topology.topology().queues if _is_dead(queue)})
    counts: dict[str, int] = {}
    with _connected(url, ca_file) as connection:
        for service in services:
            channel = connection.channel()
            try:
                counts[service] = channel.queue_declare(topology.dead_queue(service), passive=True).message_count
            except NotFound:
                counts[service] = 0
    return counts


def look(url: str, service: str, *, ca_file: str | None = None) -> list[DeadLetter]:
    """The service's dead letters, oldest first. They stay where they are."""
    with _connected(url, ca_file) as connection:
        channel = connection.channel()
        taken = list(_taken(channel, service))
        _put_back(channel, service, taken)
        return [_shown(delivery, service) for delivery in taken]


def resend(
    url: str, service: str, ids: Collection[str] | None = None, *, ca_file: str | None = None
) -> tuple[list[str], list[str]]:
    """Sends these (None: all) to the service again, as if for the first time. Answers (ids sent, ids not found)."""

    def send(channel: amqp.Channel, delivery: Delivery) -> None:
        message = events.moved(delivery, service, topology.events_queue(service), {})
        _publish(channel, message)
        if returned:
            raise DeadLetterError(f"the queue {message.routing_key} is not there; what was not sent is kept")

    returned: list[object] = []
    with _connected(url, ca_file) as connection:
        channel = connection.channel()
        channel.confirm_select()
        channel.events["basic_return"].add(lambda *what: returned.append(what))
        sent = _done_with(channel, service, lambda letter: ids is None or letter.id in ids, send)
    return sent, sorted(set(ids or ()) - set(sent))


def discard(
    url: str, service: str, ids: Collection[str] | None = None, *, ca_file: str | None = None
) -> tuple[list[str], list[str]]:
    """Removes these for good (None: all that are no event that the service understands).

    Answers (ids removed, ids not found). What is understood has an effect that is missing somewhere: it is to be sent
    again, and goes only by its id.
    """

    def chosen(letter: DeadLetter) -> bool:
        return letter.error == events.NotUnderstood.__name__ if ids is None else letter.id in ids

    with _connected(url, ca_file) as connection:
        removed = _done_with(connection.channel(), service, chosen, lambda _channel, _delivery: None)
    return removed, sorted(set(ids or ()) - set(removed))


def _done_with(
    channel: amqp.Channel,
    service: str,
    chosen: Callable[[DeadLetter], bool],
    do: Callable[[amqp.Channel, Delivery], None],
) -> list[str]:
    """Does something with each letter that is chosen, and then removes it; the others are put back. Answers whose."""
    done: list[str] = []
    kept: list[Delivery] = []
    for delivery in _taken(channel, service):
        letter = _shown(delivery, service)
        if chosen(letter):
            do(channel, delivery)
            channel.basic_ack(delivery.tag)
            done.append(letter.id)
        else:
            kept.append(delivery)
    _put_back(channel, service, kept)
    return done


def _publish(channel: amqp.Channel, message: OutgoingMessage) -> None:
    try:
        channel.basic_publish_confirm(
            amqp.Message(message.body, **message.properties),
            exchange=message.exchange,
            routing_key=message.routing_key,
            mandatory=True,
            confirm_timeout=10,
        )
    except MessageNacked:
        raise DeadLetterError(f"the queue {message.routing_key} is full; what was not sent is kept") from None


def _is_dead(queue: topology.Queue) -> bool:
    return queue.name.startswith("dead.")


def _taken(channel: amqp.Channel, service: str) -> Iterator[Delivery]:
    """Each dead letter, unacknowledged: if nothing else becomes of it, it goes back when the connection ends."""
    queue = topology.dead_queue(service)
    try:
        count = channel.queue_declare(queue, passive=True).message_count
    except NotFound:
        raise DeadLetterError(f"{service!r} has no dead letters: there is no queue {queue}") from None
    for _ in range(min(count, MOST)):
        message = channel.basic_get(queue)
        if message is None:
            return
        body = message.body
        yield Delivery(
            generation=0,
            tag=message.delivery_info["delivery_tag"],
            body=body.encode() if isinstance(body, str) else bytes(body),
            routing_key=message.delivery_info["routing_key"],
            exchange=message.delivery_info["exchange"],
            redelivered=True,
            properties=message.properties,
            received=0.0,
        )


def _put_back(channel: amqp.Channel, service: str, taken: list[Delivery]) -> None:
    """Gives them back, and waits until they can be seen again: the next who looks sees them."""
    for delivery in taken:
        channel.basic_reject(delivery.tag, True)
    ends = time.monotonic() + _PUT_BACK_SECONDS
    while time.monotonic() < ends:
        if channel.queue_declare(topology.dead_queue(service), passive=True).message_count >= len(taken):
            return
        time.sleep(0.02)


def _shown(delivery: Delivery, service: str) -> DeadLetter:
    headers = delivery.headers
    deaths = headers.get("x-death") or [{}]
    return DeadLetter(
        id=_uuid_or_withheld(delivery.properties.get("message_id")),
        event=events.kind_of(delivery, service),
        error=str(headers.get(events.ERROR_HEADER) or deaths[0].get("reason", "unknown")),
        attempts=events.attempts_of(delivery),
        died_at=str(headers.get(events.DEAD_AT_HEADER) or deaths[0].get("time", "")),
        origin=str(headers.get(outbox.ORIGIN_HEADER, "")),
        body=_without_persons(delivery.body),
    )


def _without_persons(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    if not isinstance(content, dict):
        return {}
    return {
        name: value if value is None or isinstance(value, bool | int | float) else _uuid_or_withheld(value)
        for name, value in content.items()
    }


def _uuid_or_withheld(value: object) -> str:
    try:
        return str(UUID(str(value)))
    except ValueError:
        return _WITHHELD


@contextmanager
def _connected(url: str, ca_file: str | None) -> Iterator[amqp.Connection]:
    connection = amqp.Connection(**connection_arguments(url, "dead letters", ca_file))
    try:
        connection.connect()
    except (AMQPError, OSError, ssl.SSLError) as error:
        raise DeadLetterError(f"the broker does not answer, or refuses this user: {type(error).__name__}") from None
    try:
        yield connection
    finally:
        connection.close()


# --- for people ----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Exit status 0: done; 1: could not, or some were not found; 78: settings are wrong."""
    parser = argparse.ArgumentParser(prog="dead-letters", description="Events that a service could not handle.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("list", help="how many each service has, or those of one service")
    command.add_argument("service", nargs="?")
    command = commands.add_parser("show", help="one of them, as JSON")
    command.add_argument("service")
    command.add_argument("id")
    command = commands.add_parser("resend", help="send them to the service again")
    command.add_argument("service")
    command.add_argument("ids", nargs="*", metavar="id")
    command.add_argument("--all", action="store_true", help="all that the service has")
    command = commands.add_parser("discard", help="remove them for good")
    command.add_argument("service")
    command.add_argument("ids", nargs="*", metavar="id")
    command.add_argument("--not-understood", action="store_true", help="all that are no event the service understands")
    options = parser.parse_args(arguments)
    if options.command == "discard" and bool(options.ids) == options.not_understood:
        parser.error("name the ids to remove, or --not-understood")
    if options.command == "resend" and bool(options.ids) == options.all:
        parser.error("name the ids to send again, or --all")
    url, ca_file = os.environ.get("AMQP_URL"), os.environ.get("AMQP_CA_FILE")
    if not url:
        print("settings to mend in the environment:\n  AMQP_URL is not set", file=sys.stderr)
        return EXIT_CONFIGURATION
    password = os.environ.get("AMQP_PASSWORD_FILE")
    try:
        url = with_password(url, strong_file(Path(password) if password else None))
    except (ValueError, OSError) as error:
        print(f"settings to mend in the environment:\n  {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    try:
        return _run(options, url, ca_file)
    except DeadLetterError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED


def _run(options: argparse.Namespace, url: str, ca_file: str | None) -> int:
    if options.command == "list" and options.service is None:
        for service, count in waiting(url, ca_file=ca_file).items():
            print(f"{service:<15} {count:>6}")
        return 0
    if options.command == "list":
        for letter in look(url, options.service, ca_file=ca_file):
            print(f"{letter.id}  {letter.died_at:<25}  {letter.attempts:>2} x {letter.error:<20}  {letter.event}")
        return 0
    if options.command == "show":
        found = [letter for letter in look(url, options.service, ca_file=ca_file) if letter.id == options.id]
        if not found:
            raise DeadLetterError(f"{options.service} has no dead letter {options.id}")
        print(json.dumps([vars(letter) for letter in found], indent=2))
        return 0
    if options.command == "discard":
        done, missing = discard(url, options.service, None if options.not_understood else options.ids, ca_file=ca_file)
        print(f"removed from {options.service}: {len(done)}")
    else:
        done, missing = resend(url, options.service, None if options.all else options.ids, ca_file=ca_file)
        print(f"sent again to {options.service}: {len(done)}")
    for one in missing:
        print(f"not found: {one}", file=sys.stderr)
    return EXIT_FAILED if missing else 0


if __name__ == "__main__":
    sys.exit(main())
