"""The broker's definitions: everything in the virtual host, the users, and what they may do.

Passwords go into them as salted hashes. `python -m deploy.secrets make` writes the file.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any

from deploy.rabbitmq import permissions
from shared.messaging import announcing, topology
from shared.messaging.wire import REQUEST_QUEUE_ARGUMENTS, RPC_EXCHANGE, outside_queue, request_queue, request_queues

VHOST = "vardarende"
MOST_CONNECTIONS = 300
"""Of one user: a process of a service has five, so that far more of them can run than the databases let in."""
MOST_CHANNELS = 2 * MOST_CONNECTIONS
"""Of one user: each connection of ours has one, and at times another to look whether something is there."""
MOST_CHANNELS_OF_A_CONNECTION = 64
"""As `rabbitmq.conf` has it (`channel_max`)."""
USER_LIMITS = {"max-connections": MOST_CONNECTIONS, "max-channels": MOST_CHANNELS}
MOST_QUEUES = 2000
"""In the virtual host: some fifty are given, and each process makes two. Else a user could fill the broker."""
_MB = 1024 * 1024
_UNUSED_MS = 60_000
"""A client that has lost its connection is back sooner; and of one that was cut off no more is left after it."""
_MOST_CALLS, _MOST_EVENTS, _MOST_ANSWERS = 64 * _MB, 256 * _MB, 16 * _MB
"""Bytes that may wait in a queue of that kind. Answers: two of the largest."""


def inside(vhost: str) -> dict[str, Any]:
    """Exchanges, queues and bindings of a virtual host, and the mark that says that they are there."""
    needed = topology.topology()
    made = topology.definitions(vhost, needed) | bounds(vhost)
    services = [contract.name for contract in topology.all_contracts()]
    for name, kind in ((RPC_EXCHANGE, "topic"), (announcing.EXCHANGE, "fanout"), (needed.mark, "fanout")):
        made["exchanges"].append(_exchange(name, kind, vhost))
    for service in services:
        for queue in request_queues(service):
            arguments = dict(REQUEST_QUEUE_ARGUMENTS)
            made["queues"].append(
                {"name": queue, "vhost": vhost, "durable": True, "auto_delete": False, "arguments": arguments}
            )
        made["bindings"].append(_binding(RPC_EXCHANGE, request_queue(service), "queue", f"{service}.*", vhost))
    for caller in permissions.OUTSIDE_CALLERS:
        if caller.stock:
            made["exchanges"].append(_exchange(caller.exchange, "topic", vhost))
            made["bindings"] += [
                _binding(caller.exchange, outside_queue(call.service), "queue", call.routing_key, vhost)
                for call in permissions.calls_open_to(caller.audiences, topology.all_contracts())
            ]
            made["bindings"] += [
                _binding(RPC_EXCHANGE, caller.exchange, "exchange", key, vhost)
                for key in ("*", f"reply.{caller.name}.*")
            ]
    return made


def _binding(source: str, destination: str, kind: str, routing_key: str, vhost: str) -> dict[str, Any]:
    return {
        "source": source,
        "vhost": vhost,
        "destination": destination,
        "destination_type": kind,
        "routing_key": routing_key,
        "arguments": {},
    }


def _exchange(name: str, kind: str, vhost: str) -> dict[str, Any]:
    return {
        "name": name,
        "vhost": vhost,
        "type": kind,
        "durable": True,
        "auto_delete": False,
        "internal": False,
        "arguments": {},
    }


def rights(vhost: str) -> dict[str, list[dict[str, Any]]]:
    """Permissions and topic permissions of all users."""
    plain, topics = [], []
    for user, allowed in permissions.everyone().items():
        plain.append(
            {
                "user": user,
                "vhost": vhost,
                "configure": allowed.configure,
                "write": allowed.write,
                "read": allowed.read,
            }
        )
        topics += [
            {"user": user, "vhost": vhost, "exchange": topic.exchange, "write": topic.write, "read": topic.read}
            for topic in allowed.topics
        ]
    return {"permissions": plain, "topic_permissions": topics}


def whole(passwords: Mapping[str, str], vhost: str = VHOST) -> dict[str, Any]:
    """All of it, for a broker that has nothing else."""
    users = [
        {
            "name": user,
            "password_hash": password_hash(passwords[user]),
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": [],
            "limits": dict(USER_LIMITS),
        }
        for user in permissions.everyone()
    ]
    return {"vhosts": [{"name": vhost}], "users": users, **rights(vhost), **inside(vhost)}


def bounds(vhost: str) -> dict[str, list[dict[str, Any]]]:
    """How much of the broker a kind of queue may take, so that nobody who sends more than is taken fills all of it.

    Events are refused, not dropped, where their queue is full: they stay in the outbox, or in the queue that they come
    from, and are sent again (R-SYS-5). A call is refused too, and its caller told nothing better than that no answer
    came. The queues that users make themselves, as they please, lose their oldest, and end when nobody uses them. To
    streams RabbitMQ gives no policy that has anything which they do not know, nor to other queues one for streams; and
    a stream loses whole files of its, which must be small therefore.
    """
    refuse = {"overflow": "reject-publish"}
    made_by_users = r"^(rpc\.reply-|rights-clock\.)"
    kinds = (
        ("calls", r"^rpc-", {"max-length-bytes": _MOST_CALLS, **refuse}),
        ("events", r"^(events|dead)\.", {"max-length-bytes": _MOST_EVENTS, **refuse}),
        (
            "made by users",
            made_by_users,
            {"expires": _UNUSED_MS, "max-length-bytes": _MOST_ANSWERS, "overflow": "drop-head"},
        ),
        (
            "streams made by users",
            made_by_users,
            {"max-length-bytes": _MOST_ANSWERS, "stream-max-segment-size-bytes": _MB},
        ),
    )
    most_queues = {"component": "vhost-limits", "name": "limits", "value": {"max-queues": MOST_QUEUES}}
    return {
        "policies": [
            {"vhost": vhost, "name": name, "pattern": pattern, "apply-to": "queues", "definition": what, "priority": 1}
            for name, pattern, what in kinds
        ],
        "parameters": [{"vhost": vhost, **most_queues}],
    }


def password_hash(password: str) -> str:
    """As RabbitMQ keeps it: a salt of four bytes, and SHA-256 over salt and password."""
    return _hashed(secrets.token_bytes(4), password)


def _hashed(salt: bytes, password: str) -> str:
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def fits(password: str, hashed: str) -> bool:
    """Whether the hash is the password's."""
    return hmac.compare_digest(_hashed(base64.b64decode(hashed)[:4], password), hashed)
