"""Makes calls as nameko does: `stock_client green` from within a service, `stock_client plain` from other programs."""

from __future__ import annotations

import sys

if sys.argv[1] == "green":
    import eventlet

    eventlet.monkey_patch()

import os
import threading
import time
from collections import deque
from typing import Any

from nameko.containers import ServiceContainer, WorkerContext
from nameko.extensions import Entrypoint
from nameko.rpc import RpcProxy
from nameko.standalone.rpc import ClusterRpcProxy

from bench.parts.echo_contract import TEXT
from bench.parts.programs import serve

CONFIG = {"AMQP_URI": os.environ["AMQP_URL"]}


class Caller:
    """A service that calls another."""

    name = "stock_caller"
    stock = RpcProxy("stock")


class _Nothing(Entrypoint):  # type: ignore[misc]
    method_name = "nothing"


def _proxy_of_a_service() -> Any:
    container = ServiceContainer(Caller, config=CONFIG)
    container.start()
    [provider] = container.dependencies
    return provider.get_dependency(WorkerContext(container, Caller(), _Nothing()))


def green(proxy: Any, at_once: int, seconds: float) -> float:
    """Calls a second, each from a green thread."""
    done = [0] * at_once
    begun = time.monotonic()
    ends = begun + seconds

    def run(place: int) -> None:
        while time.monotonic() < ends:
            assert proxy.echo(TEXT)["text"] == TEXT
            done[place] += 1

    threads = [threading.Thread(target=run, args=(place,)) for place in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.monotonic() - begun)


def plain(proxy: Any, at_once: int, seconds: float) -> float:
    """Calls a second; nameko's proxy for programs is for one thread, so what is in flight is asked for ahead."""
    done, waiting = 0, deque[Any]()
    begun = time.monotonic()
    ends = begun + seconds
    while waiting or time.monotonic() < ends:
        while len(waiting) < at_once and time.monotonic() < ends:
            waiting.append(proxy.echo.call_async(TEXT))
        assert waiting.popleft().result()["text"] == TEXT
        done += 1
    return done / (time.monotonic() - begun)


if __name__ == "__main__":
    if sys.argv[1] == "green":
        service_proxy = _proxy_of_a_service()
        serve({"calls": lambda at_once, seconds: green(service_proxy, at_once, seconds)})
    else:
        with ClusterRpcProxy(CONFIG, timeout=20) as cluster:
            serve({"calls": lambda at_once, seconds: plain(cluster.stock, at_once, seconds)})
