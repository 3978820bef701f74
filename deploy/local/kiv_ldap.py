"""KiV as a directory server: OpenLDAP from the system's packages, in a folder and on a port of its own, over TLS.

Its records are those of the JSON feeds, its schema `data/kiv.schema`. Tests have it for themselves; it is no part of
the local stack.
"""

from __future__ import annotations

import base64
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import ldap3

from deploy.local import siths_ca, system_packages
from deploy.local.people.feed import DATA, Record
from deploy.local.problems import Problem
from deploy.local.processes import Process, Program

SUFFIX = "o=VGR"
UNITS_BASE, STAFF_BASE = f"ou=Org,{SUFFIX}", f"ou=Personal,{SUFFIX}"
ADMINISTRATOR = f"cn=admin,{SUFFIX}"
READER = f"cn=vardarende,{SUFFIX}"
_SLAPD, _SLAPADD = "/usr/sbin/slapd", "/usr/sbin/slapadd"
_SCHEMAS = Path("/etc/ldap/schema")
_UNIT, _FUNCTION = ("vgrOrganizationalUnit", "organizationalUnit"), ("vgrOrganizationalRole", "organizationalRole")
_NOT_OURS = ("createtimestamp", "modifytimestamp")  # the server's own


class KivLdap:
    """One server. `limits`: lines of slapd.conf that limit what the reader may fetch."""

    def __init__(self, folder: Path, port: int, pki: Path, *, limits: str = "") -> None:
        self.folder, self.port, self.pki = folder, port, pki
        self.password = "a-password-for-tests"
        self._limits = limits
        # By name: from Python 3.12 on, ldap3 finds no address of the internet among the names of a certificate.
        self.url = f"ldaps://localhost:{port}"
        argv = [_SLAPD, "-d", "0", "-f", str(folder / "slapd.conf"), "-h", f"ldaps://127.0.0.1:{port}"]
        self.process = Process(Program("kiv_ldap", argv, folder), folder)

    def prepare(self, records: Iterable[Record], say: system_packages.Say) -> None:
        """Installs the server if it is not there, and fills a new database with these records."""
        system_packages.require(["slapd"], say)
        data = self.folder / "data"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(parents=True)
        (self.folder / "slapd.conf").write_text(self._configuration(data))
        ldif = self.folder / "records.ldif"
        with ldif.open("w") as file:
            file.writelines(as_ldif(records, self.password))
        command = [_SLAPADD, "-q", "-f", str(self.folder / "slapd.conf"), "-l", str(ldif)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise Problem(f"the directory server can't be filled:\n{done.stderr[-1500:]}")

    def _configuration(self, data: Path) -> str:
        own = siths_ca.server_credentials(self.pki, "kiv")
        included = [str(_SCHEMAS / f"{name}.schema") for name in ("core", "cosine", "inetorgperson")]
        lines = [f"include {file}" for file in (*included, DATA / "kiv.schema")]
        lines += ["modulepath /usr/lib/ldap", "moduleload back_mdb"]
        lines += [f"TLSCertificateFile {own.pair[0]}", f"TLSCertificateKeyFile {own.pair[1]}"]
        lines += [f"TLSCACertificateFile {siths_ca.trust_file(self.pki)}", "TLSVerifyClient demand"]
        lines += [self._limits or "sizelimit unlimited", "database mdb", f"suffix {SUFFIX}", f"directory {data}"]
        lines += ["maxsize 2147483648", "dbnosync", f"rootdn {ADMINISTRATOR}", f"rootpw {self.password}"]
        lines += ["index objectClass,hsaIdentity eq", "index vgrModifyTimestamp eq"]
        lines += [f'access to * by dn="{READER}" read by anonymous auth']
        return "\n".join(lines) + "\n"

    def start(self) -> None:
        """Starts it, and returns when it answers."""
        self.process.start()
        self.process.wait_until(self._answers, 20.0)

    def stop(self) -> None:
        """Stops it."""
        self.process.stop()

    def _answers(self) -> bool:
        try:
            self.administrator().unbind()
        except (ldap3.core.exceptions.LDAPException, OSError):
            return False
        return True

    def administrator(self) -> ldap3.Connection:
        """A connection by which everything may be changed."""
        certificate, key = siths_ca.issue_function(self.pki, "vardarende").pair
        tls = ldap3.Tls(
            local_certificate_file=certificate,
            local_private_key_file=key,
            ca_certs_file=str(siths_ca.trust_file(self.pki)),
            validate=ssl.CERT_REQUIRED,
            version=ssl.PROTOCOL_TLS_CLIENT,
        )
        server = ldap3.Server("localhost", port=self.port, use_ssl=True, tls=tls, get_info=ldap3.NONE)
        return ldap3.Connection(
            server, ADMINISTRATOR, self.password, auto_bind=True, raise_exceptions=True, receive_timeout=10
        )


def as_ldif(records: Iterable[Record], password: str) -> Iterator[str]:
    """The records as entries, after whatever they stand under. What LDAP can't hold (an empty value, the same one
    twice) is left out, as KiV itself could not have it."""
    yield from _entry(SUFFIX, {"objectClass": ["organization"], "o": ["VGR"]})
    reader = {"objectClass": ["person"], "cn": ["vardarende"], "sn": ["vardarende"], "userPassword": [password]}
    yield from _entry(READER, reader)
    known = _names_of_schema()
    there = {SUFFIX.casefold()}
    for base in (UNITS_BASE, STAFF_BASE):
        yield from _above(f"ou=x,{base}", there)
    waiting = {record.dn.casefold(): record for record in reversed(list(records))}
    for key in sorted(waiting, key=lambda dn: len(_parts(dn))):
        record = waiting[key]
        yield from _above(record.dn, there)
        there.add(key)
        yield from _entry(record.dn, _attributes(record, known))


def _attributes(record: Record, known: set[str]) -> dict[str, list[str]]:
    found = {}
    for name, raw in record.attributes.items():
        key = name.casefold()
        if key in known and key not in _NOT_OURS and key != "objectclass":
            values = {
                " ".join(str(one).split()).casefold(): str(one) for one in (raw if isinstance(raw, list) else [raw])
            }
            values.pop("", None)
            if values:
                found[name] = list(values.values())
    kind, _, first = _parts(record.dn)[0].partition("=")
    classes = record.all("objectclass") or list(_FUNCTION if kind.casefold() == "cn" else _UNIT)
    ours = [one for one in classes if one.casefold() in known]
    if "person" in map(str.casefold, ours) and "hsaPersonExtension" not in ours:
        ours.append("hsaPersonExtension")
    # the name's own value must stand among the attributes, as it is written there
    named = next((name for name in found if name.casefold() == kind.casefold()), kind)
    plain = first.replace("\\", "")
    if plain.casefold() not in {one.casefold() for one in found.get(named, [])}:
        found.setdefault(named, []).append(plain)
    return {"objectClass": ours, **found}


def _above(dn: str, there: set[str]) -> Iterator[str]:
    parts = _parts(dn)
    for at in range(len(parts) - 1, 0, -1):
        above = ",".join(parts[at:])
        if above.casefold() not in there:
            there.add(above.casefold())
            name = parts[at].partition("=")[2].replace("\\", "")
            yield from _entry(above, {"objectClass": ["organizationalUnit"], "ou": [name]})


def _parts(dn: str) -> list[str]:
    return [part.strip() for part in re.split(r"(?<!\\),", dn)]


def _entry(dn: str, attributes: dict[str, list[str]]) -> Iterator[str]:
    yield f"dn:: {base64.b64encode(dn.encode()).decode()}\n"
    for name, values in attributes.items():
        for value in values:
            yield f"{name}:: {base64.b64encode(value.encode()).decode()}\n"
    yield "\n"


def _names_of_schema() -> set[str]:
    text = (DATA / "kiv.schema").read_text()
    for name in ("core", "cosine", "inetorgperson"):
        text += (_SCHEMAS / f"{name}.schema").read_text()
    defined = re.findall(r"NAME\s+(?:'([^']+)'|\(([^)]*)\))", text)
    return {name.casefold() for one, several in defined for name in [one, *re.findall(r"'([^']+)'", several)] if name}
