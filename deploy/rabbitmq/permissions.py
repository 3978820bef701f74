"""What each user of the broker may do, computed from who calls, tells and hears what in the contracts.

A user may publish just the calls that a contract lets it make, and services also answers. It may listen to answers by
keys that have its name in them alone: services see the keys of those who call them. It may write its own events, read
its own queues, and make nothing but a queue for its answers, and one for identity's announcements. Nobody may write to
the default exchange: through that, every queue can be written to.

nameko's client declares the exchange that it sends by, and who may declare one may replace it by one that gives
everything to everybody. So each outside caller that uses it has an exchange of its own, from which its calls go to the
services' queues for such, and to which the answers come from `nameko-rpc`. If it replaces that, it is cut off, and it
alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from shared.contracts.base import Call, Contract
from shared.messaging import announcing, topology
from shared.messaging.wire import REPLY_KEY, RPC_EXCHANGE, UUID, caller_exchange, request_queues

NOTHING = "^$"
RIGHTS_SOURCE = "identity"
_STOCK_CLIENT = "standalone_rpc_proxy"


@dataclass(frozen=True)
class Topic:
    """Routing keys of a topic exchange that the user may publish by (`write`), and bind its queues by (`read`)."""

    exchange: str
    write: str
    read: str


@dataclass(frozen=True)
class Permissions:
    """Regular expressions for names of exchanges and queues, as RabbitMQ has them, and for routing keys."""

    configure: str
    write: str
    read: str
    topics: tuple[Topic, ...]


@dataclass(frozen=True)
class OutsideCaller:
    """Someone outside who calls: a portal, the staff tool, those who run the system, a connected system.

    `audiences`: as in the contracts' `who`. `stock`: uses nameko's own client, with an exchange of its own as nameko's
    setting `rpc_exchange`. `dead_letters`: may look at them, send them again, and remove them.
    """

    name: str
    audiences: frozenset[str]
    stock: bool = True
    dead_letters: bool = False

    @property
    def exchange(self) -> str:
        """The exchange by which it sends its calls."""
        return caller_exchange(self.name) if self.stock else RPC_EXCHANGE


OUTSIDE_CALLERS = (
    OutsideCaller("portal", frozenset({"anyone", "resident"})),
    OutsideCaller("staff_tool", frozenset({"anyone", "staff"})),
    OutsideCaller("operator", frozenset({"operator"}), stock=False, dead_letters=True),
    OutsideCaller("listings", frozenset({"system:listings"})),
    OutsideCaller("booking", frozenset({"system:booking"})),
    OutsideCaller("calling", frozenset({"system:calling"})),
)
CONNECTED_SYSTEMS = tuple(
    audience.removeprefix("system:")
    for caller in OUTSIDE_CALLERS
    for audience in caller.audiences
    if audience.startswith("system:")
)
"""Those of them that sign their own tokens: the region's listing system (R-ID-23), those that book and call to visits
(R-CASE-21)."""


def exchange_of(user: str) -> str:
    """The exchange by which a user of the broker sends its calls."""
    return next((caller.exchange for caller in OUTSIDE_CALLERS if caller.name == user), RPC_EXCHANGE)


def calls_open_to(audiences: Iterable[str], contracts: Iterable[Contract]) -> list[Call[object, object]]:  # type: ignore[type-var]
    """The calls that name one of the audiences."""
    wanted = frozenset(audiences)
    return [call for contract in contracts for call in contract.calls.values() if call.who & wanted]


def of_service(name: str, contracts: Iterable[Contract] | None = None) -> Permissions:
    """For the user that all processes of a service share."""
    contracts = topology.all_contracts() if contracts is None else tuple(contracts)
    [own] = [contract for contract in contracts if contract.name == name]
    others = [contract for contract in contracts if contract.name != name]
    calls = calls_open_to({"service", f"service:{name}"}, others)
    answers, clock = rf"rpc\.reply-{name}\..+", rf"rights-clock\.{name}\..+"
    write = [RPC_EXCHANGE, topology.events_exchange(name), topology.again_exchange(name)]
    read = [RPC_EXCHANGE, *request_queues(name), topology.events_queue(name)]
    if name == RIGHTS_SOURCE:
        made = [answers]
        write.append(announcing.EXCHANGE)
    else:
        made = [answers, clock]
        read.append(announcing.EXCHANGE)
    return Permissions(
        configure=_any(made),
        write=_any([*map(re.escape, write), *made]),
        read=_any([*map(re.escape, read), *made]),
        topics=(
            Topic(
                RPC_EXCHANGE,
                _any([*(re.escape(call.routing_key) for call in calls), REPLY_KEY.pattern]),
                _any([_own_key(name)]),
            ),
            Topic(topology.events_exchange(name), _any(map(re.escape, own.events)), NOTHING),
        ),
    )


def of_caller(caller: OutsideCaller, contracts: Iterable[Contract] | None = None) -> Permissions:
    """For the user of someone outside."""
    contracts = topology.all_contracts() if contracts is None else tuple(contracts)
    calls = calls_open_to(caller.audiences, contracts)
    made = [rf"rpc\.reply-{caller.name}\..+"]
    if caller.stock:
        made.append(rf"rpc\.reply-{_STOCK_CLIENT}-.+")
    exchange = [re.escape(caller.exchange)]
    services = [contract.name for contract in contracts]
    again = [re.escape(topology.again_exchange(one)) for one in services] if caller.dead_letters else []
    dead = [re.escape(topology.dead_queue(one)) for one in services] if caller.dead_letters else []
    return Permissions(
        configure=_any(made + (exchange if caller.stock else [])),
        write=_any(exchange + made + again),
        read=_any(exchange + made + dead),
        topics=(
            Topic(
                caller.exchange,
                _any(re.escape(call.routing_key) for call in calls),
                _any([_own_key(caller.name), UUID] if caller.stock else [_own_key(caller.name)]),
            ),
        ),
    )


def _own_key(user: str) -> str:
    return rf"reply\.{user}\.{UUID}"


def _any(patterns: Iterable[str]) -> str:
    found = list(patterns)
    return "^(" + "|".join(found) + ")$" if found else NOTHING


def everyone(contracts: Iterable[Contract] | None = None) -> dict[str, Permissions]:
    """All users of the broker, by name."""
    contracts = topology.all_contracts() if contracts is None else tuple(contracts)
    services = {contract.name: of_service(contract.name, contracts) for contract in contracts}
    return services | {caller.name: of_caller(caller, contracts) for caller in OUTSIDE_CALLERS}
