"""KiV by LDAP: units and functions under ou=Org, persons under ou=Personal; in pages, over TLS.

Once a night everything is read. In between only what was modified since is read whole, and of the rest the HSA-ids, so
that what has disappeared is noticed by every run.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import ldap3
from ldap3.core import exceptions as failures

from services.directory import parsing
from services.directory.parsing import Unparsed
from services.directory.records import FORMAT, PERSON_ATTRIBUTES, UNIT_ATTRIBUTES, Raw
from services.directory.sources import Catalogue, SourceError
from shared.operations import clock
from shared.operations.logs import log

_CLOSED = "(hsaIdentity=*X)"  # units only: closed ones and placeholders, as KiV's own readers leave them out
_UNITS = f"(&(|(objectClass=vgrOrganizationalUnit)(objectClass=vgrOrganizationalRole))(!{_CLOSED}))"
_PERSONS = "(&(objectClass=person)(hsaIdentity=*))"
_MODIFIED = ("vgrModifyTimestamp", "modifyTimestamp")
_WHOLE_AFTER = timedelta(hours=20)
_CLOCKS_APART = timedelta(minutes=10)
_PAGE = 500
_ENTRY = 4
"""The number of a search's entry among LDAP's messages."""
_PAGED_RESULTS = "1.2.840.113556.1.4.319"
_LIMITS = {3: "time_limit", 4: "size_limit", 11: "size_limit"}

Value: TypeAlias = str | dict[str, str]
"""A text; or what was none, as bytes in base64."""

_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (failures.LDAPSizeLimitExceededResult, "size_limit"),
    (failures.LDAPAdminLimitExceededResult, "size_limit"),
    (failures.LDAPTimeLimitExceededResult, "time_limit"),
    (failures.LDAPReferralResult, "referral"),
    (failures.LDAPNoSuchObjectResult, "no_such_base"),
    (failures.LDAPInvalidCredentialsResult, "login_refused"),
    (failures.LDAPInsufficientAccessRightsResult, "login_refused"),
    (failures.LDAPBindError, "login_refused"),
    (failures.LDAPResponseTimeoutError, "timeout"),
    (failures.LDAPSocketReceiveError, "truncated"),
    (failures.LDAPSessionTerminatedByServerError, "truncated"),
    (failures.LDAPSocketOpenError, "unreachable"),
    (failures.LDAPStartTLSError, "tls_refused"),
)


@dataclass(frozen=True)
class KivLdap:
    """The directory server. `url`: ldaps://host[:port]. No base: that part is not read from here."""

    url: str
    units_base: str
    staff_base: str
    user: str | None = None
    password: str | None = None
    certificate: tuple[str, str] | None = None
    authority: str | None = None
    timeout_seconds: float = 30
    name: str = "kiv_ldap"

    @property
    def has_units(self) -> bool:
        return bool(self.units_base)

    @property
    def has_staff(self) -> bool:
        return bool(self.staff_base)

    def units(self, folder: Path, state: dict[str, Any] | None) -> Catalogue | None:
        """Units and functions. Raises `SourceError`."""
        return self._catalogue(self.units_base, _UNITS, UNIT_ATTRIBUTES, folder / "units", state)

    def staff(self, folder: Path, state: dict[str, Any] | None) -> Catalogue | None:
        """Persons: no attribute is fetched but those that are used. Raises `SourceError`."""
        return self._catalogue(self.staff_base, _PERSONS, PERSON_ATTRIBUTES, folder / "staff", state)

    def _catalogue(
        self, base: str, everything: str, wanted: Sequence[str], file: Path, state: dict[str, Any] | None
    ) -> Catalogue:
        now = clock.now()
        since = _since(base, state, now)
        latest = state["latest"] if state is not None and since else ""
        present: list[str] = []
        with self._connection() as connection:
            chosen = f"(&{everything}(|{''.join(f'({name}>={since})' for name in _MODIFIED)}))" if since else everything
            with file.open("w", encoding="utf-8") as spool:
                for dn, attributes in _pages(connection, base, chosen, (*wanted, *_MODIFIED)):
                    for name in _MODIFIED:
                        for moment in attributes.pop(name, []):
                            latest = _later(latest, moment, now)
                    spool.write(json.dumps([dn, attributes], ensure_ascii=False) + "\n")
            if since:
                present = [
                    identity
                    for _, attributes in _pages(connection, base, everything, ("hsaIdentity",))
                    if not isinstance(identity := _identity(attributes), Unparsed)
                ]
        whole_at = state["whole_at"] if state is not None and since else now.isoformat()
        seen = {"format": FORMAT, "base": base, "latest": latest, "whole_at": whole_at}
        return Catalogue(seen, lambda: _spooled(file), present if since else None)

    @contextmanager
    def _connection(self) -> Iterator[ldap3.Connection]:
        parts = urlsplit(self.url)
        certificate, key = self.certificate or (None, None)
        tls = ldap3.Tls(
            local_certificate_file=certificate,
            local_private_key_file=key,
            ca_certs_file=self.authority,
            validate=ssl.CERT_REQUIRED,
            version=ssl.PROTOCOL_TLS_CLIENT,
        )
        server = ldap3.Server(
            parts.hostname,
            port=parts.port or 636,
            use_ssl=True,
            tls=tls,
            get_info=ldap3.NONE,
            connect_timeout=self.timeout_seconds,
        )
        connection: Any = None
        try:
            connection = ldap3.Connection(
                server,
                self.user,
                self.password,
                read_only=True,
                check_names=False,
                return_empty_attributes=False,
                auto_referrals=False,
                raise_exceptions=True,
                receive_timeout=ceil(self.timeout_seconds),
            )
            _entries_as_they_come(connection)
            with _understood():
                connection.bind()
            yield connection
        except (failures.LDAPException, OSError, ssl.SSLError) as error:
            raise SourceError(_reason(error)) from None
        finally:
            if connection is not None:
                _hang_up(connection)


@contextmanager
def _understood() -> Iterator[None]:
    """The library's decoder takes an answer for granted: it trips over what is not LDAP in whatever way."""
    try:
        yield
    except (failures.LDAPException, OSError):  # a certificate's error is a ValueError too
        raise
    except (LookupError, TypeError, ValueError) as error:
        log.warning("ldap_not_understood", exc_info=error)
        raise SourceError("not_ldap") from error


def _hang_up(connection: ldap3.Connection) -> None:
    try:
        connection.unbind()
    except (failures.LDAPException, OSError):
        connection.closed = True  # it is gone already


def _pages(
    connection: ldap3.Connection, base: str, chosen: str, wanted: Sequence[str]
) -> Iterator[tuple[str, dict[str, list[Value]]]]:
    """Each entry's name and attributes, page by page. A referral means that a part lies elsewhere: not a catalogue."""
    cookie: bytes | None = None
    while True:
        with _understood():
            connection.search(
                base, chosen, ldap3.SUBTREE, attributes=list(wanted), paged_size=_PAGE, paged_cookie=cookie
            )
        # Not every limit that a server keeps to is an exception of the library's: anything but success is half a part.
        result = connection.result
        if result["result"] != 0:
            raise SourceError(_LIMITS.get(result["result"], f"ldap_{result['result']}"))
        for entry in connection.response:
            if entry["type"] != "searchResEntry":
                raise SourceError("referral")
            yield (
                entry["dn"],
                {name: [text(one) for one in values] for name, values in entry["raw_attributes"].items() if values},
            )
        cookie = result.get("controls", {}).get(_PAGED_RESULTS, {}).get("value", {}).get("cookie")
        if not cookie:
            return


def _entries_as_they_come(connection: ldap3.Connection) -> None:
    """Has the library hand out entries without making anything of their values: half of all the time would go into
    that, and here all values are texts."""
    decode = connection.strategy.decode_response_fast

    def decode_response(message: Any) -> Any:
        if message["protocolOp"] != _ENTRY or message["controls"]:
            return decode(message)
        name, attributes = message["payload"]
        values = {
            one[3][0][3].decode("utf-8", "replace"): [value[3] for value in one[3][1][3]] for one in attributes[3]
        }
        return {"type": "searchResEntry", "dn": name[3].decode("utf-8", "replace"), "raw_attributes": values}

    connection.strategy.decode_response_fast = decode_response


def text(value: bytes) -> Value:
    """A value that is no text is kept as it came, and listed as none."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode("ascii")}


def _later(latest: str, moment: Value, now: datetime) -> str:
    """The later of the two, but never one that is still to come: what is modified until then would be passed over."""
    if not isinstance(moment, str) or moment <= latest:
        return latest
    instant = parsing.instant(moment)
    if isinstance(instant, Unparsed):
        return latest
    return moment if instant <= now else max(latest, _stamp(now))


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%SZ")


def _identity(attributes: Mapping[str, Sequence[Value]]) -> str | Unparsed:
    for name, values in attributes.items():
        if name.casefold() == "hsaidentity":
            texts, _ = parsing.values(values)
            return parsing.hsa_id(texts[0]) if texts else Unparsed("no_hsa_id")
    return Unparsed("no_hsa_id")


def _spooled(file: Path) -> Iterator[Raw | None]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            dn, attributes = json.loads(line)
            yield Raw(dn, attributes)


def _since(base: str, state: dict[str, Any] | None, now: datetime) -> str | None:
    """From which moment of modification on entries are read whole; None: everything is to be read."""
    if not state or state.get("format") != FORMAT or state.get("base") != base or not state.get("latest"):
        return None
    whole_at = datetime.fromisoformat(state["whole_at"])
    latest = parsing.instant(state["latest"])
    if isinstance(latest, Unparsed) or latest > now or not timedelta() <= now - whole_at < _WHOLE_AFTER:
        return None
    return _stamp(latest - _CLOCKS_APART)


def _reason(error: Exception) -> str:
    text = str(error).casefold()
    if "timed out" in text or "timeout" in text:
        return "timeout"
    if isinstance(error, ssl.SSLError) or "certificate" in text or "ssl" in text or "tls" in text:
        return "tls_refused"
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    if isinstance(error, failures.LDAPOperationResult):
        return f"ldap_{error.result}"
    return "unreachable" if isinstance(error, OSError) else "ldap_failed"
