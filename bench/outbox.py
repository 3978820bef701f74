"""Events from the outbox to the queue, against bare publishing; and from a commit to the handler, when all is idle.

The relay reads each event from the table, publishes it, waits for the broker's word before it publishes the next of the
same aggregate, and removes it. Its peer has the messages in memory and keeps 256 unconfirmed, in no order. Both publish
the same persistent messages by the same exchange to the same quorum queue, in turns.
"""

from __future__ import annotations

from bench.parts.programs import Program
from bench.parts.report import Figure, median, ratio
from bench.parts.servers import Servers

BAR = 0.6
_ROUNDS = 6
_EVENTS = 8_000
_EACH = 4
_TOLD = 200
_PAUSE_SECONDS = 0.03


def measure(servers: Servers, rounds: int = _ROUNDS) -> list[Figure]:
    """The figures of this benchmark."""
    with servers.programs() as start:
        bare = start("bare_publisher", "notifications")
        teller = start("teller", "cases")
        bare.ask(order="publish", count=1_000)  # warm
        teller.ask(order="relay_many", count=1_000, each=1, mixed=False)
        bare.ask(order="purge")
        published, mixed, in_a_row = [], [], []
        for _ in range(rounds):
            published.append(_purged(bare, bare.ask(order="publish", count=_EVENTS)))
            mixed.append(_purged(bare, teller.ask(order="relay_many", count=_EVENTS, each=_EACH, mixed=True)))
            in_a_row.append(_purged(bare, teller.ask(order="relay_many", count=_EVENTS, each=_EACH, mixed=False)))
        hearer = start("hearer", "notifications")
        delays = _delays(teller, hearer)
    return [
        ratio("outbox to queue, against bare publishing", mixed, published, BAR),
        median("outbox to queue", "/s", mixed),
        median(f"outbox to queue, {_EACH} events of an aggregate in a row", "/s", in_a_row),
        median("bare publishing", "/s", published),
        _quantile("commit to handler, half of them within", delays, 0.5),
        _quantile("commit to handler, 99 of 100 within", delays, 0.99),
    ]


def _purged(bare: Program, rate: float) -> float:
    left = bare.ask(order="purge")
    assert left == _EVENTS, f"{left} messages in the queue instead of {_EVENTS}"
    return rate


def _delays(teller: Program, hearer: Program) -> list[float]:
    """Milliseconds from the end of a commit to the handler."""
    teller.ask(order="tell", count=20, pause=_PAUSE_SECONDS)  # warm
    hearer.ask(order="moments", count=20)
    committed = teller.ask(order="tell", count=_TOLD, pause=_PAUSE_SECONDS)
    handled = hearer.ask(order="moments", count=_TOLD)
    return sorted((after - before) * 1000 for before, after in zip(committed, handled, strict=True))


def _quantile(name: str, delays: list[float], share: float) -> Figure:
    value = delays[min(int(len(delays) * share), len(delays) - 1)]
    return Figure(name, value, "ms", delays[0], delays[-1], len(delays))
