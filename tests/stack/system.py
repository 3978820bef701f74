"""The running system that the tests share: all services and workers as processes, and what may be done to them."""

from __future__ import annotations

import itertools
import signal
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import psycopg
import requests

from deploy.local.keys import issuers
from deploy.local.own_processes import OwnProcess
from deploy.local.people import cast
from deploy.local.servers import Server
from deploy.local.stack import VHOST, Stack
from deploy.local.world import World
from shared.contracts import directory, identity, logging_in
from shared.contracts.base import Role
from shared.security.tokens import Claims, Signer

UNITS = 400
_SYNC_SECONDS = 60.0
_TOKEN_MINUTES = 4
STAFF: Mapping[str, tuple[Role, ...]] = {
    cast.LOCAL_ADMIN: (Role.LOCAL_ADMIN,),
    cast.RECEIVER: (Role.CASE_RECEIVER,),
    cast.HANDLER: (Role.CASE_HANDLER,),
}


@dataclass(frozen=True)
class Clinic:
    """A clinic that only the test that asked for it knows."""

    hsa_id: str
    name: str


class Controlled:
    """One of our processes, or a server, in the hands of a test."""

    def __init__(self, inner: OwnProcess | Server) -> None:
        self._inner = inner
        self.paused = False

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._inner.alive

    @property
    def pid(self) -> int | None:
        """Its process id, if it is a process."""
        return self._inner.pid if isinstance(self._inner, OwnProcess) else None

    def start(self) -> None:
        """Starts it and waits until it is ready."""
        self.begin()
        self.wait()

    def begin(self) -> None:
        """Starts it."""
        self._inner.start()

    def missing(self) -> str:
        """What it says is missing, if it is a process."""
        return self._inner.readiness()[1] if isinstance(self._inner, OwnProcess) else ""

    def wait(self) -> None:
        """Returns when it is ready; raises `Problem` with the end of its log."""
        if isinstance(self._inner, OwnProcess):
            self._inner.wait_ready()
        else:
            self._inner.wait()

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self._inner.kill()

    def stop(self) -> None:
        """SIGTERM, and waits for it to end."""
        self._inner.stop()

    def restart(self, *, kill: bool = False) -> None:
        """Stops (or kills) and starts it."""
        if kill:
            self.kill()
        else:
            self.stop()
        self.start()

    def pause(self) -> None:
        """It hangs (SIGSTOP), until `resume`."""
        self.paused = True
        if isinstance(self._inner, OwnProcess):
            self._inner.signal(signal.SIGSTOP)
        else:
            self._inner.pause()

    def resume(self) -> None:
        """Lets it go on."""
        self.paused = False
        if isinstance(self._inner, OwnProcess):
            self._inner.signal(signal.SIGCONT)
        else:
            self._inner.resume()


class System(World):
    """See the module. Tests share it: clinics and people of your own, no assumption that a database is empty."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack, "tests")
        self._tokens: dict[tuple[str, str], tuple[str, datetime]] = {}
        self._units = itertools.count(1)
        self.units: list[tuple[str, str]] = []
        self._controlled: dict[str, Controlled] = {}
        self._misbehaving = False

    # People ----------------------------------------------------------------------------------------------------------

    def staff_token(self, hsa_id: str) -> str:
        """A token of a member of staff who has accepted the terms; of the same session for some minutes."""
        return self._token("staff", hsa_id)

    def resident_token(self, number: str) -> str:
        """A token of a resident who has accepted the terms, likewise."""
        return self._token("resident", number)

    def login_before_terms(self, number: str) -> logging_in.SessionOpened:
        """Logs a resident in who has accepted nothing yet, whatever other tests had them do."""
        opened = self.login_resident(number)
        subject = jwt.decode(opened.access_token, options={"verify_signature": False})["sub"]
        self.rows("identity", "DELETE FROM accepted_terms WHERE kind = 'resident' AND person = %s", subject)
        return self.login_resident(number)

    def _token(self, kind: str, who: str) -> str:
        known = self._tokens.get((kind, who))
        if known is None or not known[1] <= self.now() < known[1] + timedelta(minutes=_TOKEN_MINUTES):
            session = self.login_staff(who) if kind == "staff" else self.login_resident(who)
            known = self._tokens[kind, who] = self.accept_terms(session).access_token, self.now()
        return known[0]

    def service_token(self, name: str) -> str:
        """A fresh token of a service's, by the stack's clock, which other tests have moved."""
        return self._own_token(name, issuers([name])[name], "service")

    def system_token(self, name: str) -> str:
        """A fresh token of a connected system's, likewise."""
        return self._own_token(name, issuers([])[name], "system")

    def _own_token(self, name: str, issuer: str, kind: str) -> str:
        signer, now = Signer.from_file(self.stack.keys.signing_key(name), issuer), self.now()
        return signer.mint(Claims(issuer, name, kind, now, now + timedelta(minutes=_TOKEN_MINUTES)))

    def forget_tokens(self) -> None:
        """New sessions from now on: for tests that end sessions."""
        self._tokens.clear()

    # Clinics ---------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Has the directory know units enough for every test to have its own clinics, and a regional administrator."""
        control = self.stack.counterparts["kiv"].control_url
        feed = requests.get(f"{control}/feeds/units", timeout=10).json()
        like = next(one for one in feed["units"] if cast.SJOPORTEN in one["attributes"].get("hsaidentity", []))
        for number in range(1, UNITS + 1):
            unit, name = deepcopy(like), f"Testmottagningen {number:03}"
            hsa_id = f"SE2321000131-E0000090{number:05}T"
            unit["dn"] = unit["dn"].replace("Vårdcentralen Sjöporten", name)
            unit["attributes"] |= {"hsaidentity": [hsa_id], "ou": [name], "hsahealthcareunitmember": []}
            feed["units"].append(unit)
            self.units.append((hsa_id, name))
        requests.put(f"{control}/feeds/units", json=feed, timeout=10).raise_for_status()
        self.sync_directory()
        make = identity.MakeFirstAdministrator(request_id=uuid4(), person=cast.REGIONAL_ADMIN)
        self.call(identity.MAKE_FIRST_ADMINISTRATOR, make, self.operator_token)

    def sync_directory(self) -> directory.SyncRun:
        """Loads the feeds into the directory; returns when it is done."""
        begin = directory.StartSync(request_id=uuid4())
        run = self.call(directory.START_SYNC, begin, self.operator_token).run
        end = time.monotonic() + _SYNC_SECONDS
        while True:
            shown: directory.SyncRun = self.call(
                directory.GET_SYNC_RUN, directory.GetSyncRun(run=run), self.operator_token
            )
            if shown.state in ("done", "stopped", "failed"):
                assert shown.state == "done", f"the sync ended as {shown.state}: {shown.reason}"
                return shown
            assert time.monotonic() < end, "the sync takes too long"
            time.sleep(0.1)

    def unit(self) -> Clinic:
        """A unit of the directory that no other test uses and that is not activated."""
        hsa_id, name = self.units[next(self._units) - 1]
        return Clinic(hsa_id, name)

    def clinic(self, staff: Mapping[str, Iterable[Role]] = STAFF) -> Clinic:
        """A fresh active clinic, where the people (by HSA-id) have these roles."""
        clinic = self.unit()
        regional = self.staff_token(cast.REGIONAL_ADMIN)
        self.call(
            directory.ACTIVATE_CLINIC, directory.ActivateClinic(request_id=uuid4(), clinic=clinic.hsa_id), regional
        )
        self.give(clinic, cast.LOCAL_ADMIN, Role.LOCAL_ADMIN, by=cast.REGIONAL_ADMIN)
        for person, roles in staff.items():
            for role in roles:
                if (person, role) != (cast.LOCAL_ADMIN, Role.LOCAL_ADMIN):
                    ordinary = role in (Role.CASE_RECEIVER, Role.CASE_HANDLER, Role.RIGHTS_ADMIN)
                    self.give(clinic, person, role, by=cast.LOCAL_ADMIN if ordinary else cast.REGIONAL_ADMIN)
        return clinic

    def give(self, clinic: Clinic, person: str, role: Any, *, by: str) -> None:
        """Has someone who may give a role give it."""
        request = identity.GiveRole(request_id=uuid4(), clinic=clinic.hsa_id, person=person, role=role)
        self.call(identity.GIVE_ROLE, request, self.staff_token(by))

    # Faults ----------------------------------------------------------------------------------------------------------

    def process(self, name: str) -> Controlled:
        """A service, or a worker as `attachments_worker`."""
        return self._controlled.setdefault(name, Controlled(self.stack.processes[name]))

    @contextmanager
    def replica(self, name: str, *, wait: bool = True) -> Iterator[Controlled]:
        """A second process of the service, ready unless told not to `wait`, for as long as the block runs."""
        program = self.stack.processes[name].program
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        named = replace(program, name=f"{name}_replica", env={**program.env, "HEALTH_PORT": str(port)})
        replica = Controlled(OwnProcess(named, self.stack.folder, port))
        try:
            replica.begin()
            if wait:
                replica.wait()
            yield replica
        finally:
            replica.stop()

    def server(self, name: str) -> Controlled:
        """`postgres`, `rabbitmq`, `seaweedfs` or `door`."""
        return self._controlled.setdefault(name, Controlled(self.stack.servers[name]))

    def close_broker_connections(self, user: str | None = None) -> int:
        """Has the broker close all connections, or those of one service; how many."""
        return int(self.stack.rabbitmq.admin.close_connections(VHOST, user))

    def counterpart_behaves(self, name: str, **rule: Any) -> None:
        """Has a counterpart misbehave, by a rule of its control port."""
        self._misbehaving = True
        url = f"{self.stack.counterparts[name].control_url}/behave"
        requests.post(url, json=rule, timeout=10).raise_for_status()

    def counterparts_behave_well(self) -> None:
        """Ends every misbehaviour."""
        self._misbehaving = False
        for name, counterpart in self.stack.counterparts.items():
            if name != "siths_ca":
                requests.delete(f"{counterpart.control_url}/behave", timeout=10).raise_for_status()

    def put_right(self) -> None:
        """Starts what is stopped, resumes what hangs, ends misbehaviour."""
        for name in self.stack.servers:
            self._put_right(self.server(name))
        for name in self.stack.processes:
            self._put_right(self.process(name))
        if self._misbehaving:
            self.counterparts_behave_well()

    @staticmethod
    def _put_right(one: Controlled) -> None:
        if one.paused:
            one.resume()
        if not one.alive:
            one.start()

    def wait_ready(self, seconds: float = 60.0) -> None:
        """Returns when every process that should run says that it is ready."""
        for process in self.stack.processes.values():
            if process.alive:
                process.wait_ready(seconds)

    def rows(self, service: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Looks into a service's database."""
        with psycopg.connect(self.stack.postgres.admin_url(service), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []
