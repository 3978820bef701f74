"""Two real mail servers, the first of which takes nothing: what is its trouble is no fault of the mail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import requests

from deploy.local import siths_ca
from services.notifications.channels.mail import MailChannel
from services.notifications.providers import MailServer, Provider
from services.notifications.sending import Sender
from shared.contracts import cases
from shared.contracts.base import Role
from shared.contracts.notifications import Channel
from tests.integration.counterparts_support import Counterpart
from tests.integration.notifications_support import LEASE, World, set_addresses


@dataclass
class Servers:
    """The first, the second, and a sender's providers made of them."""

    first: Counterpart
    second: Counterpart

    def provider(self, one: Counterpart) -> Provider:
        server = MailServer(
            "127.0.0.1",
            "no-reply@e-tjanster.example",
            port=one.port,
            ca_file=siths_ca.trust_file(one.pki),
            user="vardarende",
            password_file=one.folder / "mail" / "password",
            timeout=5,
        )
        return Provider(one.folder.name, lambda: MailChannel(server))

    def sender(self, world: World) -> Sender:
        providers = [self.provider(self.first), self.provider(self.second)]
        return Sender(
            world.database.transaction, world.ask, {Channel.EMAIL: providers, Channel.SMS: []}, batch=50, lease=LEASE
        )


def came_to(server: Counterpart, address: str) -> int:
    reply = requests.get(f"{server.control}/messages", params={"to": address}, timeout=15)
    return len(reply.json()["messages"])


@pytest.fixture(scope="module")
def mail_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    started = [Counterpart("mail", tmp_path_factory.mktemp(name)).start() for name in ("first", "second")]
    try:
        for one in started:
            one.wait()
        yield Servers(*started)
    finally:
        assert [one.stop() for one in started] == [0, 0]


@pytest.mark.parametrize(
    ("mode", "answer"),
    [
        ("refuse", "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using a list"),
        ("refuse", "530 5.7.0 Authentication required"),
        ("refuse", "452 4.3.1 Insufficient system storage"),
        ("refuse", "450 4.7.1 rate limit exceeded for your host"),
        ("refuse_data", "451 4.3.0 queue file write error"),
        ("refuse_data", "554 5.7.1 your IP is listed"),
    ],
)
def test_what_the_first_server_refuses_of_everyone_the_second_takes(
    mail_servers: Servers, notifications_world: World, mode: str, answer: str
) -> None:
    """R-NOT-7: nothing is wrong with the mail; it is sent once, at the first attempt."""
    world, to = notifications_world, f"{mode}{answer[:3]}@vgregion.example"
    set_addresses(world, to)
    mail_servers.first.behave(mode, only=to, answer=answer)
    world.hear(cases.CASE_STARTED, world.case_started())
    sender = mail_servers.sender(world)
    sender.round()
    sender.close()
    assert world.states() == [("clinic", "sent", None)]
    assert (came_to(mail_servers.first, to), came_to(mail_servers.second, to)) == (0, 1)


def test_a_server_on_which_all_are_refused_fails_nothing_for_good(
    mail_servers: Servers, notifications_world: World
) -> None:
    """R-NOT-7: both are full. What waits is delayed, and nobody's address is said to be bad."""
    world = notifications_world
    everyone = [f"full{number}@vgregion.example" for number in range(5)]
    for address in everyone:
        world.person(Role.CASE_RECEIVER, email=address)
        for server in (mail_servers.first, mail_servers.second):
            server.behave("refuse", only=address, answer="554 5.7.1 <client>: Client host rejected", times=9)
    world.hear(cases.CASE_STARTED, world.case_started())
    sender = mail_servers.sender(world)
    sender.round()
    sender.close()
    assert {(state, reason) for _, state, reason in world.states()} <= {
        ("waiting", "smtp_recipient_554"),
        ("waiting", "no_provider"),
    }
    tried = world.rows("SELECT sum(attempts) FROM deliveries")[0][0]
    assert tried == 3, "after three the circuit is open"
    for server in (mail_servers.first, mail_servers.second):
        requests.delete(f"{server.control}/behave", timeout=5)
