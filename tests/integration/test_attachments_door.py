"""The door before the store's public address: it adds safe headers, and all else passes as it came (R-ATT-6)."""

from __future__ import annotations

import hashlib
import io
import re
import socket
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from deploy.local import ports
from deploy.local.processes import Process
from deploy.local.servers.door import RULES, caddy
from deploy.local.stack import Stack
from deploy.secrets import certificates
from services.attachments import rules
from tests.integration.attachments_support import PDF, SAFE, World, send
from tests.integration.test_attachments_checker_process import free_port
from tests.unit.attachments import crafted

LONGEST = "👍" * 196 + ".pdf"
MEGABYTE = 1024 * 1024
DEPLOYED = (RULES / "Caddyfile").read_text()
# What the deployment has for a store: TLS, by the name `store`. Here Caddy lends it to the one that runs.
STORE = """{{
    import "{rules}/options.caddy"
    default_sni store
}}
https://:{port} {{
    bind 127.0.0.1
    tls {secrets}/store.crt {secrets}/store.key
    reverse_proxy {store}
}}
"""

BRIEF = """{{
    import "{options}"
}}
import "{rules}/passing.caddy"
http://:{port} {{
    bind 127.0.0.1
    import passing
    reverse_proxy {store} {{
        import as_it_came
    }}
}}
"""


def test_every_answer_has_the_safe_headers_refusals_too_r_att_6(world: World) -> None:
    link = world.preview(caller := world.resident(), world.usable(caller, crafted.pdf(), PDF))
    for url, status in ((link.url, 200), (link.url.replace("Expires=60", "Expires=61"), 403)):
        answer = requests.get(url, timeout=10)
        assert answer.status_code == status
        assert {name: answer.headers[name] for name in SAFE} == SAFE
    assert requests.get(link.url, headers={"Range": "bytes=0-3"}, timeout=10).content == b"%PDF"


UNREADABLE = {
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "no request": (b"GET <script>\r\n\r\n", 400),
    "no method": (b"<script> / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "no name of a host": (b"GET / HTTP/1.1\r\nHost: <script>\r\n\r\n", 400),
    "no name of a header": (b"GET / HTTP/1.1\r\nHost: a\r\n<script> a: b\r\n\r\n", 400),
    "no expectation": (b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: <script>\r\n\r\n", 417),
    "no encoding": (b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: <script>\r\n\r\n", 501),
    "no version": (b"GET /<script> HTTP/3.7\r\nHost: a\r\n\r\n", 505),
    "too long": (b"GET /" + b"<script>" * 10_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
}


@pytest.mark.parametrize(("sent", "status"), UNREADABLE.values(), ids=list(UNREADABLE))
def test_what_the_rules_never_see_is_answered_with_fixed_words_alone_r_att_6(
    world: World, sent: bytes, status: int
) -> None:
    """Without the safe headers, which nothing can give it: so there must be nothing in it to be kept safe from."""
    host, _, port = world.settings.s3_public_endpoint.removeprefix("http://").partition(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=5) as line, suppress(ConnectionResetError):
        line.sendall(sent)
        while more := line.recv(65_536):
            answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nConnection: close" in head
    assert body == b"" or b"\r\nContent-Type: text/plain; charset=utf-8" in head
    assert re.fullmatch(rb"[A-Za-z0-9 :]{0,60}", body)


def test_the_longest_name_passes_r_att_6(world: World) -> None:
    caller = world.staff()
    link = world.preview(caller, world.usable(caller, data := crafted.pdf(), PDF, name=LONGEST))
    assert link.name == LONGEST
    assert requests.get(link.url, timeout=10).content == data


def test_the_largest_file_passes_and_is_never_whole_in_the_door_r_att_2_r_att_6(servers: Stack, world: World) -> None:
    data = b"%PDF" + bytes(50 * MEGABYTE - 4)
    caller = world.resident()
    asked = world.ask(caller, data, PDF)
    assert send(asked.upload, data[:-1] + b"x").status_code == 400, "the store's own word, to the end of the file"
    assert send(asked.upload, data, content_type="image/png").status_code == 403, "said before the file is there"
    assert send(asked.upload, data).status_code == 200
    assert send(asked.upload, data).status_code == 412
    kept = world.store.keep(key := f"{asked.attachment}/large", io.BytesIO(data), PDF, hashlib.sha256(data).digest())
    with requests.get(world.signer.link(key, kept, PDF, "a.pdf", 60), stream=True, timeout=10) as answer:
        time.sleep(1)  # a client that takes its time
        assert answer.content == data
    status = Path(f"/proc/{servers.servers['door'].process.pid}/status").read_text()  # type: ignore[attr-defined]
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", status)
    assert int(peak) * 1024 < 90 * MEGABYTE, "which has 45 before it begins"
    assert sum(one.stat().st_size for one in (servers.folder / "door").rglob("*") if one.is_file()) < 10_000


def lent(folder: Path, name: str, settings: str) -> Process:
    """One more Caddy."""
    home = folder / name
    home.mkdir()
    (home / "Caddyfile").write_text(settings)
    process = Process(caddy(name, home, home / "Caddyfile"), folder)
    process.start()
    return process


@pytest.mark.parametrize(("limit", "stored"), [("1s", False), (f"{rules.UPLOAD_GRACE // timedelta(minutes=1)}m", True)])
def test_an_upload_that_drips_in_later_than_anybody_waits_for_it_is_cut_off_r_att_8(
    attachments_place: Any, world: World, tmp_path: Path, limit: str, stored: bool
) -> None:
    options = (RULES / "options.caddy").read_text()
    (tmp_path / "options.caddy").write_text(re.sub(r"read_body \w+", f"read_body {limit}", options))
    assert stored == ((tmp_path / "options.caddy").read_text() == options), "as long as the checker waits for it"
    at, store = free_port(), world.settings.s3_endpoint.removeprefix("http://")
    settings = BRIEF.format(options=tmp_path / "options.caddy", rules=RULES, port=at, store=store)
    door = lent(tmp_path, "door", settings)
    outside = World(*attachments_place, tmp_path / "world", s3_public_endpoint=f"http://127.0.0.1:{at}")
    try:
        wait_listening(at)
        data = crafted.pdf_of_size(100_000)
        asked = outside.ask(outside.resident(), data, PDF)
        place = asked.upload.url.removeprefix(f"http://127.0.0.1:{at}")
        head = [f"PUT {place} HTTP/1.1", f"Host: 127.0.0.1:{at}", *map(": ".join, asked.upload.headers.items())]
        with socket.create_connection(("127.0.0.1", at), timeout=3) as line:
            line.sendall("\r\n".join([*head, "", ""]).encode() + data[:50_000])
            time.sleep(2)
            with suppress(OSError):
                line.sendall(data[50_000:])
                line.recv(1000)
        assert (world.store.uploaded_size(asked.attachment) is not None) == stored
    finally:
        outside.close()
        door.kill()


@pytest.mark.parametrize("named", ["store", "another"])
def test_the_deployments_door_speaks_tls_on_both_sides_and_with_the_store_alone_r_att_9(
    attachments_place: Any, world: World, tmp_path: Path, named: str
) -> None:
    authority = certificates.authority()
    (tmp_path / "ca.crt").write_text(authority[0])
    for name, hosts in (("s3", ["localhost"]), ("store", [named])):
        certificate, key = certificates.server(*authority, hosts)
        (tmp_path / f"{name}.crt").write_text(certificate)
        (tmp_path / f"{name}.key").write_text(key)
    at, store_at = free_port(), free_port()
    changes = {
        "/run/secrets": str(tmp_path),
        "import options": f"import {RULES}/options",
        "import passing.caddy": f"import {RULES}/passing.caddy",
        "https://:8333 {": f"https://:{at} {{\n    bind 127.0.0.1",
        "store:8333": f"127.0.0.1:{store_at}",
    }
    settings = DEPLOYED
    for before, after in changes.items():
        assert before in settings
        settings = settings.replace(before, after)
    lending = STORE.format(rules=RULES, port=store_at, secrets=tmp_path, store=world.settings.s3_endpoint)
    store, door = lent(tmp_path, "store", lending), lent(tmp_path, "door", settings)
    outside = World(*attachments_place, tmp_path / "world", s3_public_endpoint=f"https://localhost:{at}")
    try:
        caller = world.resident()
        link = outside.preview(caller, world.usable(caller, data := crafted.pdf(), PDF))
        wait_listening(at, store_at)
        answer = requests.get(link.url, verify=str(tmp_path / "ca.crt"), timeout=10)
        assert {name: answer.headers[name] for name in SAFE} == SAFE
        assert (answer.status_code, answer.content == data) == ((200, True) if named == "store" else (502, False))
    finally:
        outside.close()
        door.kill()
        store.kill()
    assert "X-Amz" not in door.output(), "an address is a right to read, and is not logged"


def wait_listening(*at: int) -> None:
    """Returns when something listens at all of these ports."""
    end = time.monotonic() + 10
    while any(ports.free(one) for one in at):
        assert time.monotonic() < end
        time.sleep(0.05)
