"""The whole stack on one machine: servers, counterparts, our own processes; stack.json describes it."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.local import counterparts, databases, keys, own_processes, ports, siths_ca
from deploy.local.choice import chosen_kind, make_servers
from deploy.local.counterparts import Counterpart
from deploy.local.folder import CHECKOUT, make_folder, require_room, write_private
from deploy.local.own_processes import SERVICES, Addresses, OwnProcess, System
from deploy.local.problems import Problem
from deploy.local.processes import Process
from deploy.local.servers import Place, Server
from deploy.rabbitmq import definitions, permissions

VHOST = definitions.VHOST
Say = Callable[[str], None]


def silent(text: str) -> None:
    """Tells nobody."""


class Stack:
    """One stack in one folder. `passing`: made for a run of tests, on ports found for it, and thrown away after."""

    def __init__(self, folder: Path, *, passing: bool = False, say: Say = silent, kind: str | None = None) -> None:
        self.folder, self.passing, self.say = folder, passing, say
        make_folder(folder, 0o711)  # PostgreSQL's own user passes through
        self.ports = ports.kept(folder / "ports.json", anywhere=passing)
        self.keys = keys.make(folder / "keys", SERVICES)
        self.kind = kind or chosen_kind(folder, say)
        place = Place(folder, self.ports, self.keys, passing, label=f"vardarende-{folder.parent.name}-{folder.name}")
        self.servers: dict[str, Server] = make_servers(self.kind, place)
        self.counterparts = {name: self._counterpart(name) for name in counterparts.NAMES}
        siths_ca.ensure(counterparts.pki(folder))
        self.system = System(
            folder,
            self.ports,
            self.keys,
            self._addresses(),
            siths_ca.trust_file(counterparts.pki(folder)),
            counterparts.client_certificate(folder),
        )
        self.processes: dict[str, OwnProcess] = {name: self.system.process(name) for name in own_processes.NAMES}

    # Addresses -------------------------------------------------------------------------------------------------------

    @property
    def postgres(self) -> Any:
        """The database server."""
        return self.servers["postgres"]

    @property
    def rabbitmq(self) -> Any:
        """The broker; `.admin` is its management API."""
        return self.servers["rabbitmq"]

    def broker_url(self, user: str, vhost: str = VHOST) -> str:
        """The broker as a user of its sees it."""
        host, port = self.rabbitmq.host, self.ports["amqp"]
        return f"amqp://{user}:{self.keys.password(f'amqp_{user}')}@{host}:{port}/{vhost}"

    def database_url(self, service: str, database: str | None = None) -> str:
        """A service's database as the service sees it, or a process that has a role of its own."""
        return self._database_url(service, database or databases.OF_ONE_PROCESS.get(service, service))

    def owners_url(self, service: str) -> str:
        """A service's database as its migrations see it."""
        return self._database_url(databases.owner_of(service), service)

    def _database_url(self, role: str, database: str) -> str:
        host, port = self.postgres.host, self.ports["postgres"]
        return f"postgresql://{role}:{self.keys.password(f'database_{role}')}@{host}:{port}/{database}"

    def _addresses(self) -> Addresses:
        at = self.ports
        return Addresses(
            database=self.database_url,
            owners_database=self.owners_url,
            broker=self.broker_url,
            store=f"http://{self.servers['seaweedfs'].host}:{at['s3']}",
            public_store=f"http://{self.servers['door'].host}:{at['s3_public']}",
            idp=f"https://127.0.0.1:{at['idp']}",
            hsa=f"https://127.0.0.1:{at['hsa']}",
            pu=f"https://127.0.0.1:{at['pu']}",
            kiv=f"https://127.0.0.1:{at['kiv']}",
            sms=f"https://127.0.0.1:{at['sms']}",
            smtp_host="127.0.0.1",
            smtp_port=at["mail"],
        )

    def _counterpart(self, name: str) -> Counterpart:
        with_password = name in ("mail", "sms")
        extra = ["--password-file", str(self.keys.secret_file(name))] if with_password else []
        return Counterpart(name, self.folder, self.ports, extra)

    # Starting --------------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Starts what does not run, all of it in parallel; returns when everything is ready. Raises `Problem`."""
        require_room(self.folder)
        with self.locked(), ThreadPoolExecutor(32) as pool:
            self._describe()
            began = time.monotonic()
            waiting = [pool.submit(self._start_counterparts, pool)]
            waiting += [pool.submit(self._start_store)]
            databases_ready = [pool.submit(self._start_databases, pool)]
            broker_ready = pool.submit(self._start_broker)
            self._all([*waiting, *databases_ready, broker_ready])
            self._all([pool.submit(self._start_own, name) for name in self.processes])
            self.say(f"everything is ready after {time.monotonic() - began:.1f} s")

    def start_servers(self) -> None:
        """Starts broker, databases and store alone."""
        require_room(self.folder)
        with self.locked(), ThreadPoolExecutor(8) as pool:
            self._describe()
            work = (self._start_store, lambda: self._start_server("postgres"), self._start_broker)
            self._all([pool.submit(one) for one in work])

    def start_system(self) -> None:
        """Starts the rest, on servers that run: databases, counterparts, our own processes."""
        with self.locked(), ThreadPoolExecutor(32) as pool:
            self._all([pool.submit(self._start_counterparts, pool), pool.submit(self._start_databases, pool)])
            self._all([pool.submit(self._start_own, name) for name in self.processes])

    @staticmethod
    def _all(work: Iterable[Future[None]]) -> None:
        """Waits for all; the first failure is told at once, though the others are waited for when the pool ends."""
        for done in as_completed(work):
            done.result()

    def _start_server(self, name: str) -> None:
        server, began = self.servers[name], time.monotonic()
        if not server.alive:
            server.start()
        server.wait()
        self.say(f"{server.title} answers ({time.monotonic() - began:.1f} s)")

    def _start_store(self) -> None:
        self._start_server("seaweedfs")
        self._start_server("door")

    def _start_broker(self) -> None:
        self._start_server("rabbitmq")
        admin = self.rabbitmq.admin
        admin.make_vhost(VHOST)
        for user in (*permissions.everyone(), "callers"):
            admin.make_user(user, self.keys.password(f"amqp_{user}"))
        for user in permissions.everyone():
            for limit, most in definitions.USER_LIMITS.items():
                admin.limit_user(user, limit, most)
        admin.give(VHOST, definitions.inside(VHOST), definitions.rights(VHOST))
        admin.allow("callers", VHOST)  # for people and tests, who play every part

    def _start_databases(self, pool: ThreadPoolExecutor) -> None:
        self._start_server("postgres")
        passwords = {name: self.keys.password(f"database_{name}") for name in SERVICES}
        owners = {name: self.keys.password(f"database_{databases.owner_of(name)}") for name in SERVICES}
        processes = {name: self.keys.password(f"database_{name}") for name in databases.OF_ONE_PROCESS}
        databases.make(self.postgres.admin_url(), passwords, owners, processes)
        began = time.monotonic()
        self._all([pool.submit(databases.migrate, self.system.migration(name)) for name in SERVICES])
        self.say(f"databases are migrated ({time.monotonic() - began:.1f} s)")

    def _start_counterparts(self, pool: ThreadPoolExecutor) -> None:
        began = time.monotonic()
        self._all([pool.submit(self._start_counterpart, one) for one in self.counterparts.values()])
        self.say(f"the counterparts of outside services answer ({time.monotonic() - began:.1f} s)")

    def _start_counterpart(self, counterpart: Counterpart) -> None:
        if not counterpart.alive:
            names = [counterpart.name] + ([f"{counterpart.name}_2"] if counterpart.name != "siths_ca" else [])
            ports.require_free(self.ports, names, counterpart.name)
            counterpart.start()
        counterpart.wait()

    def _start_own(self, name: str) -> None:
        process, began = self.processes[name], time.monotonic()
        if not process.alive:
            ports.require_free(self.ports, [name], name)
            process.start()
        process.wait_ready()
        self.say(f"{name} is ready ({time.monotonic() - began:.1f} s)")

    # Stopping --------------------------------------------------------------------------------------------------------

    def down(self) -> None:
        """Stops everything, our own processes first. Data stay."""
        with self.locked(), ThreadPoolExecutor(32) as pool:
            list(pool.map(lambda one: one.stop(), self.processes.values()))
            list(pool.map(lambda one: one.stop(), [*self.counterparts.values(), *self.servers.values()]))

    def destroy(self) -> None:
        """Ends everything at once and removes the data; logs too."""
        with ThreadPoolExecutor(32) as pool:
            everything: list[Process] = [*self.processes.values(), *self.counterparts.values()]
            list(pool.map(lambda one: one.kill(), everything))
            list(pool.map(lambda one: one.kill(), self.servers.values()))
            list(pool.map(lambda one: one.remove(), self.servers.values()))
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def running(self) -> bool:
        """Whether any part of it runs."""
        own = [*self.processes.values(), *self.counterparts.values()]
        return any(one.alive for one in own) or any(server.alive for server in self.servers.values())

    # Telling ---------------------------------------------------------------------------------------------------------

    def description(self) -> dict[str, Any]:
        """Where everything is: what stack.json holds. It has passwords in it, and is for its owner alone."""
        admin = self.rabbitmq.admin
        return {
            "checkout": str(CHECKOUT),
            "folder": str(self.folder),
            "kind": self.kind,
            "ports": self.ports,
            "postgres": {"url": self.postgres.admin_url()},
            "rabbitmq": {
                "url": self.broker_url("callers"),
                "vhost": VHOST,
                "management": admin.url,
                "user": admin.user,
                "password": self.keys.password("rabbitmq"),
            },
            "store": {"endpoint": self.system.at.store, "public_endpoint": self.system.at.public_store},
            "counterparts": {
                name: {"port": one.port, "control": None if name == "siths_ca" else one.control_url}
                for name, one in self.counterparts.items()
            },
            "pki": str(counterparts.pki(self.folder)),
            "trusted_keys": str(self.keys.trusted),
            "operator_key": str(self.keys.signing_key("operator")),
            "clock": str(self.system.clock_file),
            "processes": {
                name: {"argv": list(one.program.argv), "env": dict(one.program.env), "log": str(one.log)}
                for name, one in self.processes.items()
            },
        }

    def _describe(self) -> None:
        write_private(self.folder / "stack.json", json.dumps(self.description(), indent=1))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One at a time starts or stops it."""
        with open(self.folder / "lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.say("another ./dev is starting or stopping this stack; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def existing(folder: Path) -> Stack:
    """The stack in the folder. Raises `Problem` if there is none."""
    if not (folder / "stack.json").exists():
        raise Problem("there is no stack here yet: start one with ./dev up")
    return Stack(folder)
