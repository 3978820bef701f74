"""RabbitMQ's management API: users, virtual hosts, and what tests and people look at."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import requests

from deploy.local.problems import Problem


class BrokerAdmin:
    """The management API of one broker, as its administrator."""

    def __init__(self, host: str, port: int, user: str, password: str) -> None:
        self.url = f"http://{host}:{port}"
        self.user = user
        self._auth = (user, password)

    def _ask(self, method: str, path: str, body: object = None, missing_is_fine: bool = False) -> Any:
        reply = requests.request(method, f"{self.url}/api/{path}", json=body, auth=self._auth, timeout=10)
        if reply.status_code == 404 and missing_is_fine:
            return None
        if reply.status_code >= 400:
            raise Problem(f"the broker refused {method} {path}: {reply.status_code} {reply.text[:200]}")
        return reply.json() if reply.content else None

    def answers(self) -> bool:
        """Whether the broker is up and lets us in."""
        try:
            return bool(self._ask("GET", "overview"))
        except (requests.RequestException, Problem):
            return False

    def make_vhost(self, vhost: str) -> None:
        """Makes the virtual host, if it is missing, and lets the administrator in."""
        self._ask("PUT", f"vhosts/{quote(vhost, safe='')}", {})
        self.allow(self.user, vhost)

    def delete_vhost(self, vhost: str) -> None:
        """Removes it with all that is in it."""
        self._ask("DELETE", f"vhosts/{quote(vhost, safe='')}", missing_is_fine=True)

    def make_user(self, user: str, password: str) -> None:
        """Makes the user, or sets its password."""
        self._ask("PUT", f"users/{quote(user, safe='')}", {"password": password, "tags": ""})

    def delete_user(self, user: str) -> None:
        """Removes the user, if there is one."""
        self._ask("DELETE", f"users/{quote(user, safe='')}", missing_is_fine=True)

    def allow(self, user: str, vhost: str) -> None:
        """All rights on what is in the virtual host."""
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        self._ask("PUT", f"permissions/{quote(vhost, safe='')}/{quote(user, safe='')}", rights)

    def give(self, vhost: str, inside: dict[str, Any], rights: dict[str, list[dict[str, Any]]]) -> None:
        """Exchanges, queues and bindings; then what the users may do with them, and nothing else."""
        host = quote(vhost, safe="")
        self._ask("POST", f"definitions/{host}", inside)
        for one in rights["topic_permissions"]:
            self._ask("PUT", f"topic-permissions/{host}/{quote(one['user'], safe='')}", one)
        for one in rights["permissions"]:
            self._ask("PUT", f"permissions/{host}/{quote(one['user'], safe='')}", one)

    def set_policy(self, vhost: str, policy: dict[str, Any]) -> None:
        """Gives queues a policy, as in definitions."""
        self._ask("PUT", f"policies/{quote(vhost, safe='')}/{quote(policy['name'], safe='')}", policy)

    def delete_policy(self, vhost: str, name: str) -> None:
        """Removes it, if it is there."""
        self._ask("DELETE", f"policies/{quote(vhost, safe='')}/{quote(name, safe='')}", missing_is_fine=True)

    def limit_user(self, user: str, limit: str, most: int) -> None:
        """Sets a limit of the user."""
        self._ask("PUT", f"user-limits/{quote(user, safe='')}/{limit}", {"value": most})

    def limit_vhost(self, vhost: str, limit: str, most: int) -> None:
        """Sets a limit of the virtual host; -1: none."""
        self._ask("PUT", f"vhost-limits/{quote(vhost, safe='')}/{limit}", {"value": most})

    def vhost_limits(self, vhost: str) -> dict[str, int]:
        """The limits of the virtual host."""
        [found] = self._ask("GET", f"vhost-limits/{quote(vhost, safe='')}") or [{"value": {}}]
        return dict(found["value"])

    def queues(self, vhost: str) -> list[dict[str, Any]]:
        """Queues with what is known of them; counts are up to a second old."""
        return list(self._ask("GET", f"queues/{quote(vhost, safe='')}"))

    def connections(self, vhost: str) -> list[dict[str, Any]]:
        """Open connections to the virtual host."""
        return list(self._ask("GET", f"vhosts/{quote(vhost, safe='')}/connections"))

    def close_connections(self, vhost: str, user: str | None = None, seconds: float = 10.0) -> int:
        """Closes every connection (of the user) that is open now; how many. Waits until one is known of, if none is."""
        end = time.monotonic() + seconds
        while True:
            found = [c for c in self.connections(vhost) if user in (None, c.get("user"))]
            if found or time.monotonic() > end:
                break
            time.sleep(0.1)
        for connection in found:
            self._ask("DELETE", f"connections/{quote(connection['name'], safe='')}", missing_is_fine=True)
        return len(found)
