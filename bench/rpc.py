"""Calls a second, there and back: our entrypoint and client against stock nameko's, on the same broker.

Ours verifies the token, checks the arguments against the contract, keeps the deadline and measures; nameko's is a bare
echo of the same 600 bytes. Both clients as they are within services, on green threads; in turns, at first one call at a
time, then 64. The stock proxy for programs outside services is a peer too.
"""

from __future__ import annotations

from bench.parts.report import Figure, median, ratio
from bench.parts.servers import Servers

BAR = 2.5
IN_FLIGHT = 64
_ROUNDS = 20
_SECONDS = 0.5


def measure(servers: Servers, rounds: int = _ROUNDS) -> list[Figure]:
    """The figures of this benchmark."""
    with servers.programs() as start:
        start("stock_service", "notifications", nameko=True)
        start("echo_service", "cases", nameko=True)
        servers.wait_for_service("stock")
        servers.wait_for_service("cases")
        clients = {
            (whose, kind): start(f"{whose}_client", "notifications", kind)
            for kind in ("green", "plain")
            for whose in ("our", "stock")
        }
        told: dict[tuple[int, str, str], list[float]] = {}
        for client in clients.values():
            client.ask(order="calls", at_once=8, seconds=0.5)  # warm
        for _ in range(rounds):
            for at_once in (1, IN_FLIGHT):
                for (whose, kind), client in clients.items():
                    rate = client.ask(order="calls", at_once=at_once, seconds=_SECONDS)
                    told.setdefault((at_once, whose, kind), []).append(rate)
    figures = []
    for at_once, how in ((1, "one at a time"), (IN_FLIGHT, f"{IN_FLIGHT} in flight")):
        for kind, where in (("green", "within services"), ("plain", "from programs")):
            ours, stock = told[at_once, "our", kind], told[at_once, "stock", kind]
            figures += [
                ratio(f"calls {where}, {how}, against stock nameko", ours, stock, BAR),
                median(f"calls {where}, {how}", "/s", ours),
                median(f"stock nameko {where}, {how}", "/s", stock),
            ]
    return figures
