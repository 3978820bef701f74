"""Makes and checks the secrets of the deployment.

python -m deploy.secrets make FOLDER [--host NAME ...] [--demo]   makes what is missing; what is there stays
python -m deploy.secrets certificates FOLDER [--host NAME ...]    new certificates for broker, databases and store
python -m deploy.secrets check FOLDER                             says what is missing or weak; 78 if anything is
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from deploy.rabbitmq import definitions
from deploy.secrets import certificates, trusted, wanted
from shared.operations.settings import EXIT_CONFIGURATION

SERVICE_USER = 10001
_AUTHORITY = ("ca.crt", "offline-ca.key")
_PAIRS = {name: (f"{name}.crt", f"{name}.key") for name in wanted.INNER_SERVERS}
_NOT_RANDOM = (*(name for pair in _PAIRS.values() for name in pair), "ca.crt", *wanted.DERIVED, *wanted.GIVEN)
"""The other files that the services or servers are given."""


def write(file: Path, text: str) -> None:
    """The file, for its owner alone; given to the services' user where this program may do that."""
    new = file.with_name(f".{file.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    _hand_over(new)
    new.replace(file)


def _hand_over(file: Path) -> None:
    """Gives it to the services' user where this program may do that."""
    if os.geteuid() == 0:
        os.chown(file, SERVICE_USER, SERVICE_USER)


def make(folder: Path, hosts: Sequence[str], *, demo: bool) -> None:
    """Makes what is missing, and anew what is derived from the rest. What others gave becomes the services' user's."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    _hand_over(folder)
    for name in [*(secret.name for secret in wanted.all_random()), *_NOT_RANDOM]:
        with suppress(OSError):  # the engine makes an empty folder where a file is not there
            (folder / name).rmdir()
    for file in filter(Path.is_file, folder.iterdir()):
        with suppress(PermissionError):  # somebody else's: `faults` says what is wrong with it
            _hand_over(file)
            file.chmod(0o600)
    for secret in wanted.all_random():
        if not (folder / secret.name).exists():
            write(folder / secret.name, secret.make())
    if not (folder / "ca.crt").exists():
        if (folder / _AUTHORITY[1]).exists():  # a new authority would take the place of the one that signed all others
            sys.exit(f"{folder / 'ca.crt'} is missing, and its key is here: put it back, or take the key away too")
        for name, text in zip(_AUTHORITY, certificates.authority(), strict=True):
            write(folder / name, text)
    make_certificates(folder, hosts, again=False)
    if demo:
        from deploy.demo import outside  # the local counterparts are not in the services' image

        outside.make(folder, write)
    if not _of_made(folder):  # from a damaged one nothing follows; `faults` names it
        derive(folder)


def make_certificates(folder: Path, hosts: Sequence[str], *, again: bool) -> None:
    """Certificates of broker, databases and store, for their inner names and for `hosts`. What others gave stays."""
    for name, inner in wanted.INNER_SERVERS.items():
        file = folder / f"{name}.crt"
        if not file.exists() or (again and certificates.is_ours(file)):
            key = folder / _AUTHORITY[1]
            if not key.exists():
                sys.exit(f"{key} is not here, so no certificate can be made: bring {name}.crt and {name}.key")
            if fault := _unusable(folder / "ca.crt"):
                sys.exit(f"{folder / 'ca.crt'} {fault}, so no certificate can be made")
            outer = hosts if name != "postgres" else ()
            made = certificates.server(
                (folder / "ca.crt").read_text(), key.read_text(), [inner, "localhost", "127.0.0.1", *outer]
            )
            for suffix, text in zip(("crt", "key"), made, strict=True):
                write(folder / f"{name}.{suffix}", text)
        elif again:
            print(f"{file.name} is by another authority than ours: it stays")


def derive(folder: Path) -> None:
    """What follows from the others: the broker's definitions, the store's users, everyone's public keys."""
    passwords = {user: wanted.read(folder, f"amqp-{user}.password") for user in wanted.BROKER_USERS}
    write(folder / "rabbitmq-definitions.json", json.dumps(definitions.whole(passwords), indent=1))
    write(folder / "s3.json", wanted.store_users(folder))
    write(folder / "trusted.json", trusted.keys(folder))
    owner = SERVICE_USER if os.geteuid() == 0 else os.geteuid()
    group = SERVICE_USER if os.geteuid() == 0 else os.getegid()
    write(folder / "compose.env", f"SECRETS={folder.absolute()}\nSERVICE_USER={owner}:{group}\n")


def faults(folder: Path) -> list[str]:
    """A line for each secret that is missing or not as it should be. No secret's content is in it."""
    unusable = {name: fault for name in _NOT_RANDOM if (fault := _unusable(folder / name))}
    found = [*_of_made(folder), *(f"{name} {fault}" for name, fault in unusable.items())]

    def usable(*files: str) -> bool:
        return not unusable.keys() & set(files)

    for name, pair in _PAIRS.items():
        if usable(*pair):
            fault = certificates.fault(*map(folder.joinpath, pair))
            if not fault and name != "reports" and usable("ca.crt"):  # those who report have other roots
                fault = certificates.not_of(folder / pair[0], folder / "ca.crt", wanted.INNER_SERVERS[name])
            found += [f"{pair[0]} {fault}"] if fault else []
    client = "outside-client.crt", "outside-client.key"
    if usable(*client) and (fault := certificates.fault(*map(folder.joinpath, client))):
        found.append(f"{client[0]} {fault}")
    for authorities in ("outside-ca.crt", "siths-ca.crt"):
        if usable(authorities) and not certificates.are_some(folder / authorities):
            found.append(f"{authorities} holds no certificates in PEM")
    return found or _not_derived(folder)


def _of_made(folder: Path) -> list[str]:
    """The lines for those that are made at random."""
    found = []
    seen: dict[str, str] = {}
    for secret in [*wanted.all_random(), *wanted.other_signing_keys(folder)]:
        fault = _unusable(folder / secret.name)
        if not fault:
            text = (folder / secret.name).read_text()
            same = seen.setdefault(text.strip(), secret.name)
            fault = f"is the same as {same}" if same != secret.name else secret.fault(text)
        found += [f"{secret.name} {fault}"] if fault else []
    return found


def _unusable(file: Path) -> str | None:
    """What keeps a secret from being used, by us and by us alone; certificates and public keys anybody may read."""
    try:
        text, mode = file.read_text(), file.stat().st_mode
    except FileNotFoundError:
        return "is missing"
    except (OSError, UnicodeDecodeError):
        return "can't be read"
    if not text.strip():
        return "is empty"
    if mode & 0o077 and file.suffix != ".crt" and file.name != "trusted.json":
        return "may be read by others: chmod 600"
    return None


def _not_derived(folder: Path) -> list[str]:
    """What was derived from other secrets than those that are there."""
    found = []
    if trusted.keys(folder) != (folder / "trusted.json").read_text() and not trusted.covers(folder):
        found.append("trusted.json lacks a service's key: run make again")
    if wanted.store_users(folder) != wanted.read(folder, "s3.json"):
        found.append("s3.json has other keys than the store's users: run make again")
    try:
        broker = json.loads((folder / "rabbitmq-definitions.json").read_text())
        hashes = {user["name"]: user["password_hash"] for user in broker["users"]}
    except (ValueError, KeyError, TypeError):
        return [*found, "rabbitmq-definitions.json holds no definitions: run make again"]
    for user in wanted.BROKER_USERS:
        if not definitions.fits(wanted.read(folder, f"amqp-{user}.password"), hashes.get(user, "")):
            found.append(f"rabbitmq-definitions.json has another password for {user}: run make again")
    if not found and _but_hashes(broker) != _but_hashes(definitions.whole(dict.fromkeys(wanted.BROKER_USERS, ""))):
        found.append("rabbitmq-definitions.json is another version's: run make again")
    return found


def _but_hashes(broker: dict[str, Any]) -> dict[str, Any]:
    """All that follows from the contracts: the users' hashes differ each time."""
    return broker | {"users": [user | {"password_hash": ""} for user in broker["users"]]}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; see the top of the module."""
    parser = argparse.ArgumentParser(prog="python -m deploy.secrets", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=("make", "certificates", "check"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", action="append", default=[], help="a name or address that callers reach us by")
    parser.add_argument("--demo", action="store_true", help="and what the counterparts of the demo need")
    given = parser.parse_args(arguments)
    if given.command == "make":
        make(given.folder, given.host, demo=given.demo)
    elif given.command == "certificates":
        make_certificates(given.folder, given.host, again=True)
    found = faults(given.folder)
    missing = [one for one in found if one.split()[0] in wanted.GIVEN]
    if given.command != "check" and len(missing) == len(found):
        print(f"made, with {given.folder / 'compose.env'}; docs/operations.md tells how to start")
        for one in missing:
            print(f"to be mended before that: {one}")
        return 0
    if found:
        print("secrets to mend:\n" + "\n".join(f"  {one}" for one in found), file=sys.stderr)
        return EXIT_CONFIGURATION
    for name in wanted.INNER_SERVERS:
        left = certificates.days_left(given.folder / f"{name}.crt")
        if left < certificates.SOON_DAYS:
            print(f"{name}.crt runs out in {left} days", file=sys.stderr)
    print("all secrets are there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
