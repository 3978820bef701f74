"""Logins of residents with look-ups in the population register, against bare calls of the register's counterpart.

A login is all that a portal asks of identity: begin_login and complete_login, with an ID token that is verified, a
nonce that is used up, the register asked over mutual TLS, an account found or made, a session opened and its tokens
signed; the identity provider's signature is in the time too. A bare call is the same question to the same counterpart
over a connection that is kept, and nothing is done with the answer. In turns, with as many in flight.

The bar is for as many in flight as one process works on at once (`MAX_WORKERS`): logins of one moment share their
transactions and their request to the register. Fewer share less, which is told beside it. One at a time it says how
long a login takes, and has no bar: the two calls by the broker alone take longer than a bare call.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import requests

from bench.parts.identity_process import IdentityProcess, running_identity
from bench.parts.report import Figure, median, ratio
from bench.parts.servers import Servers
from shared.contracts import logging_in

BAR = 0.5
LOGINS = 5_000
IN_FLIGHT = 64
_ROUNDS = 5
_SHARES = {1: 10, IN_FLIGHT // 2: 2, IN_FLIGHT: 1}
"""By how many are in flight: which part of the logins is made so."""


def measure(servers: Servers, logins: int = LOGINS) -> list[Figure]:
    """The figures of this benchmark: one at a time, then with some and with many in flight."""
    in_round = logins // _ROUNDS
    rates: dict[tuple[str, int], list[float]] = {}
    took: list[float] = []
    with running_identity(servers, in_round) as process, ThreadPoolExecutor(IN_FLIGHT) as pool:
        work: dict[str, Callable[[str], float]] = {"bare": _bare_calls(process), "login": _logins(process)}
        for each in work.values():
            list(pool.map(each, process.numbers[: IN_FLIGHT * 2]))  # warm: connections, keys, plans
        for _ in range(_ROUNDS):
            for at_once, share in _SHARES.items():
                numbers = process.numbers[: in_round // share]
                for name, each in work.items():
                    with ThreadPoolExecutor(at_once) as some:
                        began = time.monotonic()
                        seconds = list(some.map(each, numbers))
                        rates.setdefault((name, at_once), []).append(len(numbers) / (time.monotonic() - began))
                    took += seconds if (name, at_once) == ("login", IN_FLIGHT) else []
    took.sort()
    figures = []
    for at_once in _SHARES:
        how = "one at a time" if at_once == 1 else f"{at_once} in flight"
        ours, bare = rates["login", at_once], rates["bare", at_once]
        bar = BAR if at_once == IN_FLIGHT else None
        figures += [
            ratio(f"logins with register look-ups, {how}, against bare calls of the register", ours, bare, bar),
            median(f"logins with register look-ups, {how}", "/s", ours),
            median(f"bare calls of the register, {how}", "/s", bare),
        ]
    ninety_nine = 1000 * took[len(took) * 99 // 100]
    return [*figures, median(f"a login, {IN_FLIGHT} in flight, all but one in a hundred", "ms", [ninety_nine])]


def _logins(process: IdentityProcess) -> Callable[[str], float]:
    def log_in(number: str) -> float:
        began = time.monotonic()
        begin = logging_in.BeginLogin(request_id=uuid4(), kind="resident")
        begun = process.client.ask(logging_in.BEGIN_LOGIN, begin, timeout=20)
        token = process.id_token(number, begun.nonce)
        complete = logging_in.CompleteLogin(request_id=uuid4(), login=begun.login, id_token=token)
        process.client.ask(logging_in.COMPLETE_LOGIN, complete, timeout=20)
        return time.monotonic() - began

    return log_in


def _bare_calls(process: IdentityProcess) -> Callable[[str], float]:
    http = requests.Session()
    http.trust_env = False
    http.cert, http.verify = process.client_certificate, process.trust
    http.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=IN_FLIGHT))

    def call(number: str) -> float:
        began = time.monotonic()
        answer = http.post(process.register_url, data=process.question(number), headers=process.headers, timeout=20)
        answer.raise_for_status()
        return time.monotonic() - began

    return call
