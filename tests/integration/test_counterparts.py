"""The counterparts: how they start and stop, the certificate authority, the identity provider, KiV."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from deploy.local import login, siths_ca
from deploy.local.idp import RESIDENT_CLIENT, STAFF_CLIENT
from deploy.local.idp_tokens import TOKEN_MODES
from deploy.local.people import cast
from tests.integration.counterparts_support import CHECKOUT, PUBLIC, Counterpart, free_ports

NONCE = "n-0S6_WzA2Mj"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Counterpart]]:
    """All at once, on an empty folder: whoever comes first makes the authorities."""
    folder = tmp_path_factory.mktemp("counterparts")
    clock = folder / "clock.json"
    names = ("siths_ca", "idp", "kiv")
    started = {name: Counterpart(name, folder, env={"CLOCK_FILE": str(clock)}).start() for name in names}
    try:
        for one in started.values():
            one.wait()
        yield started
    finally:
        statuses = {name: one.stop() for name, one in started.items()}
        assert set(statuses.values()) == {0}, statuses


@pytest.fixture
def idp(running: dict[str, Counterpart]) -> Counterpart:
    return running["idp"]


@pytest.fixture
def kiv(running: dict[str, Counterpart]) -> Counterpart:
    return running["kiv"]


def verified(idp: Counterpart, token: str, audience: str) -> dict[str, object]:
    """The claims, verified as a relying party does."""
    keys = jwt.PyJWKSet.from_dict(idp.request("GET", "/jwks").json())
    key = next(one for one in keys.keys if one.key_id == jwt.get_unverified_header(token)["kid"])
    claims: dict[str, object] = jwt.decode(token, key, algorithms=["RS256", "ES256"], audience=audience, issuer=idp.url)
    return claims


# --- starting and stopping ------------------------------------------------------------------------------------------


def test_port_taken_is_said_plainly(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port, [other] = taken.getsockname()[1], free_ports(1)
        argv = [
            "--port",
            str(port),
            "--control-port",
            str(other),
            "--data",
            str(tmp_path),
            "--pki",
            str(tmp_path / "p"),
        ]
        for name in ("mail", "kiv"):
            ended = subprocess.run(
                [sys.executable, "-m", f"deploy.local.{name}", *argv], cwd=CHECKOUT, capture_output=True, timeout=30
            )
            assert ended.returncode == 1
            assert b"can't start" in ended.stderr
            assert b"Traceback" not in ended.stderr
            assert ended.stdout == b""


def test_unknown_rule_is_refused_and_told(kiv: Counterpart) -> None:
    for wrong in ({"mode": "explode"}, {"mode": "drop", "times": 0}, {"mode": "drop", "who": "me"}, [], "x"):
        assert requests.post(f"{kiv.control}/behave", json=wrong, timeout=5).status_code == 400
    assert requests.get(f"{kiv.control}/behave", timeout=5).json()["rules"] == []


def test_logs_hold_no_personal_data(running: dict[str, Counterpart]) -> None:
    """R-SYS-3"""
    idp = running["idp"]
    login.staff_id_token(idp.url, cast.RECEIVER, NONCE, pki=idp.pki)
    login.resident_id_token(idp.url, cast.RESIDENT, NONCE, pki=idp.pki)
    for one in running.values():
        for secret in (cast.RECEIVER, "Nyberg", cast.RESIDENT, "Berg", NONCE):
            assert secret not in one.log


# --- certificate authority ------------------------------------------------------------------------------------------


def test_authority_answers_ocsp_and_shows_its_crl(running: dict[str, Counterpart]) -> None:
    ca = running["siths_ca"]
    base = f"http://127.0.0.1:{ca.port}"
    card = siths_ca.issue_person(ca.pki, "SE2321000131-P000009000077", "Rut", "Ås")
    certificate = x509.load_pem_x509_certificate(card.certificate.read_bytes())
    issuer, _ = siths_ca.authority(ca.pki, "person")

    def status() -> ocsp.OCSPCertStatus:
        asked = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA1()).build()
        reply = requests.post(f"{base}/ocsp", data=asked.public_bytes(Encoding.DER), timeout=5)
        answer = ocsp.load_der_ocsp_response(reply.content)
        key = issuer.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))
        return answer.certificate_status

    assert status() is ocsp.OCSPCertStatus.GOOD
    siths_ca.revoke(ca.pki, card.certificate)
    assert status() is ocsp.OCSPCertStatus.REVOKED
    crl = x509.load_der_x509_crl(requests.get(f"{base}/crl/person.crl", timeout=5).content)
    assert crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
    assert requests.get(f"{base}/trust.pem", timeout=5).content == siths_ca.trust_file(ca.pki).read_bytes()


# --- identity provider ----------------------------------------------------------------------------------------------


def test_staff_log_in_with_their_card(idp: Counterpart) -> None:
    """R-ID-1: the identity is the card's HSA-id, level 3."""
    claims = verified(idp, login.staff_id_token(idp.url, cast.RECEIVER, NONCE, pki=idp.pki), STAFF_CLIENT)
    assert claims["employeeHsaId"] == cast.RECEIVER
    assert (claims["given_name"], claims["family_name"]) == ("Sara", "Nyberg")
    assert claims["nonce"] == NONCE
    assert claims["acr"] == "http://id.sambi.se/loa/loa3"
    assert "allEmployeeHsaIds" not in claims
    assert "personalIdentityNumber" not in claims


def test_one_person_with_two_hsa_ids(idp: Counterpart) -> None:
    token = login.staff_id_token(idp.url, cast.TWO_EMPLOYMENTS[0], NONCE, pki=idp.pki)
    assert verified(idp, token, STAFF_CLIENT)["allEmployeeHsaIds"] == list(cast.TWO_EMPLOYMENTS)


def test_residents_log_in(idp: Counterpart) -> None:
    token = login.resident_id_token(idp.url, "19850102-2381", NONCE, pki=idp.pki)
    claims = verified(idp, token, RESIDENT_CLIENT)
    assert claims["personalIdentityNumber"] == cast.RESIDENT
    assert claims["sub"] != cast.RESIDENT
    unknown = login.resident_id_token(idp.url, cast.UNKNOWN_TO_REGISTER, NONCE, pki=idp.pki)
    assert "given_name" not in verified(idp, unknown, RESIDENT_CLIENT)


def test_no_card_or_another_ones_or_one_taken_back(idp: Counterpart, tmp_path: Path) -> None:
    hsa_id = "SE2321000131-P000009000078"
    foreign = siths_ca.issue_person(tmp_path, hsa_id, "Falsk", "Falsksson")
    with pytest.raises(requests.ConnectionError):
        login.staff_id_token(idp.url, hsa_id, NONCE, pki=idp.pki, card=foreign)
    function = siths_ca.issue_function(idp.pki, "vardarende")
    with pytest.raises(login.LoginFailed, match="401"):
        login.staff_id_token(idp.url, hsa_id, NONCE, pki=idp.pki, card=function)
    old = datetime.now(UTC) - timedelta(days=10)
    ended = siths_ca.issue_person(idp.pki, hsa_id, "Rut", "Ås", valid=(old, old + timedelta(days=5)))
    with pytest.raises(requests.ConnectionError):
        login.staff_id_token(idp.url, hsa_id, NONCE, pki=idp.pki, card=ended)
    card = siths_ca.issue_person(idp.pki, hsa_id, "Rut", "Ås", again=True)
    assert login.staff_id_token(idp.url, hsa_id, NONCE, pki=idp.pki, card=card)
    siths_ca.revoke(idp.pki, card.certificate)
    with pytest.raises(login.LoginFailed, match="401"):
        login.staff_id_token(idp.url, hsa_id, NONCE, pki=idp.pki, card=card)


def test_authorization_requests_out_of_order(idp: Counterpart) -> None:
    _, good = login._authorization_request(RESIDENT_CLIENT, NONCE)
    for change in (
        {"client_id": "nobody"},
        {"redirect_uri": "https://evil.example/callback"},
        {"redirect_uri": "http://127.0.0.1/other"},
        {"response_type": "token"},
        {"scope": "profile"},
        {"nonce": ""},
        {"code_challenge_method": "plain"},
        {"code_challenge": "short"},
    ):
        assert idp.request("GET", "/authorize", params=good | change).status_code == 400
    assert idp.request("GET", "/authorize", params=good | {"redirect_uri": "http://127.0.0.1:5/callback"}).ok


def test_a_code_works_once_for_who_can_prove_it(idp: Counterpart) -> None:
    def code() -> tuple[str, dict[str, str]]:
        verifier, query = login._authorization_request(STAFF_CLIENT, NONCE)
        card = siths_ca.issue_person(idp.pki, cast.HANDLER, "Ingrid", "Sjöholm")
        reply = idp.request("GET", "/authorize", params=query, cert=card.pair)
        location = dict(part.split("=", 1) for part in reply.headers["Location"].split("?")[1].split("&"))
        return verifier, {
            "grant_type": "authorization_code",
            "code": location["code"],
            "redirect_uri": login.REDIRECT,
            "client_id": STAFF_CLIENT,
        }

    verifier, form = code()
    assert idp.request("POST", "/token", data=form | {"code_verifier": verifier}).ok
    assert idp.request("POST", "/token", data=form | {"code_verifier": verifier}).json()["error"] == "invalid_grant"
    for change in ({"code_verifier": "x" * 43}, {"client_id": RESIDENT_CLIENT}, {"redirect_uri": "http://127.0.0.1/"}):
        verifier, form = code()
        reply = idp.request("POST", "/token", data=form | {"code_verifier": verifier} | change)
        assert reply.status_code in (400, 401)
        assert "id_token" not in reply.json()


@pytest.mark.parametrize("mode", TOKEN_MODES)
def test_wrong_tokens_on_demand(idp: Counterpart, mode: str) -> None:
    """Each is wrong in its own way: a relying party that checks everything takes none of them."""
    idp.behave(mode, only=cast.SECOND_RESIDENT)
    right = login.resident_id_token(idp.url, cast.RESIDENT, NONCE, pki=idp.pki)
    assert verified(idp, right, RESIDENT_CLIENT)["nonce"] == NONCE
    wrong = login.resident_id_token(idp.url, cast.SECOND_RESIDENT, NONCE, pki=idp.pki)
    try:
        claims = verified(idp, wrong, RESIDENT_CLIENT)
    except (jwt.InvalidTokenError, KeyError, StopIteration):
        return
    assert (
        claims.get("nonce") != NONCE
        or "personalIdentityNumber" not in claims
        or claims["acr"] != "http://id.elegnamnd.se/loa/1.0/loa3"
    )


def test_signing_keys_change(idp: Counterpart) -> None:
    before = login.resident_id_token(idp.url, cast.RESIDENT, NONCE, pki=idp.pki)
    requests.post(f"{idp.control}/rotate-keys", json={"alg": "ES256"}, timeout=5).raise_for_status()
    after = login.resident_id_token(idp.url, cast.RESIDENT, NONCE, pki=idp.pki)
    assert jwt.get_unverified_header(after)["alg"] == "ES256"
    assert verified(idp, before, RESIDENT_CLIENT)
    assert verified(idp, after, RESIDENT_CLIENT)
    requests.post(f"{idp.control}/rotate-keys", json={"keep_old": False}, timeout=5).raise_for_status()
    assert len(idp.request("GET", "/jwks").json()["keys"]) == 1
    assert requests.post(f"{idp.control}/rotate-keys", json={"alg": "HS256"}, timeout=5).status_code == 400


def test_tokens_take_their_time_from_the_clock_file(idp: Counterpart) -> None:
    clock = idp.folder / "clock.json"
    real = datetime.now(UTC).timestamp()
    clock.write_text(json.dumps({"offset_seconds": 40 * 86400}))
    claims, ends = {"iat": real}, time.monotonic() + 10
    try:
        while claims["iat"] < real + 39 * 86400 and time.monotonic() < ends:  # the file is looked at now and then
            with contextlib.suppress(login.LoginFailed):  # begun by the old time and done by the new, it is too old
                token = login.resident_id_token(idp.url, cast.RESIDENT, NONCE, pki=idp.pki)
                claims = jwt.decode(token, options={"verify_signature": False})
    finally:
        clock.unlink()
    assert claims["iat"] > real + 39 * 86400
    assert claims["exp"] - claims["iat"] == 300


# --- KiV ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feed", ["units", "roles", "persons"])
def test_feeds_are_asked_for_conditionally(kiv: Counterpart, feed: str) -> None:
    """R-DIR-6, R-DIR-1"""
    first = kiv.request("GET", f"/{feed}")
    assert first.json()[feed]
    for condition in (
        {"If-None-Match": first.headers["ETag"]},
        {"If-None-Match": f'"x", W/{first.headers["ETag"]}'},
        {"If-Modified-Since": first.headers["Last-Modified"]},
    ):
        again = kiv.request("GET", f"/{feed}", headers=condition)
        assert (again.status_code, again.content) == (304, b"")
    assert kiv.request("GET", f"/{feed}", headers={"If-None-Match": '"x"'}).status_code == 200


def test_feeds_change_and_are_put_back(kiv: Counterpart) -> None:
    """R-DIR-2: a unit gets a new name."""
    before = kiv.request("GET", "/units")
    control = f"{kiv.control}/feeds/units"
    renamed = {"attributes": {"hsaIdentity": [cast.SJOPORTEN], "ou": ["Vårdcentralen Nya Porten"], "l": None}}
    assert requests.post(control, json=renamed, timeout=5).status_code == 204
    after = kiv.request("GET", "/units", headers={"If-Modified-Since": before.headers["Last-Modified"]})
    [unit] = [one for one in after.json()["units"] if one["attributes"]["hsaidentity"] == [cast.SJOPORTEN]]
    assert unit["attributes"]["ou"] == ["Vårdcentralen Nya Porten"]
    assert "l" not in unit["attributes"]
    requests.delete(control, params={"hsa_id": cast.SJOPORTEN}, timeout=5)
    assert len(kiv.request("GET", "/units").json()["units"]) == len(before.json()["units"]) - 1
    requests.delete(control, timeout=5)
    assert kiv.request("GET", "/units").content == before.content


def test_half_a_catalogue_nothing_and_garbage(kiv: Counterpart) -> None:
    """R-DIR-12: what a sync must not believe."""
    whole = kiv.request("GET", "/units").json()["units"]
    kiv.behave("half", only="units")
    assert len(kiv.request("GET", "/units").json()["units"]) == len(whole) // 2
    kiv.behave("empty", only="units")
    assert kiv.request("GET", "/units").json()["units"] == []
    for mode in ("truncated", "garbage"):
        kiv.behave(mode, only="units")
        assert kiv.request("GET", "/roles").json()["roles"]
        with pytest.raises(ValueError):
            kiv.request("GET", "/units").json()
    for mode in ("cut", "drop"):
        kiv.behave(mode, only="units")
        with pytest.raises(requests.RequestException):
            kiv.request("GET", "/units")
    kiv.behave("unavailable", only="units", status=502)
    assert kiv.request("GET", "/units").status_code == 502
    assert kiv.request("GET", "/units").status_code == 200


def test_feeds_are_for_systems_only(kiv: Counterpart) -> None:
    card = siths_ca.issue_person(kiv.pki, cast.RECEIVER, "Sara", "Nyberg")
    assert kiv.request("GET", "/units", cert=card.pair).status_code == 403
    taken_back = siths_ca.issue_function(kiv.pki, "gammal")
    assert kiv.request("GET", "/units", cert=taken_back.pair).status_code == 200
    siths_ca.revoke(kiv.pki, taken_back.certificate)
    assert kiv.request("GET", "/units", cert=taken_back.pair).status_code == 403
    with pytest.raises(requests.RequestException):
        requests.get(f"{kiv.url}/units", verify=str(siths_ca.trust_file(kiv.pki)), timeout=5)


def test_any_feed_of_that_shape_is_served_as_it_is(tmp_path: Path) -> None:
    real = PUBLIC / "kiv" / "care-units.json"
    own = tmp_path / "feed.json"
    own.write_text('{"meta": {},\n  "units": [{"dn": "ou=A", "attributes": {"hsaIdentity": ["SE1234567890-1"]}}]}')
    for file in (own, real) if real.exists() else (own,):
        other = Counterpart("kiv", tmp_path, extra=["--feed", str(file)]).start()
        other.wait()
        assert other.request("GET", "/units").content == file.read_bytes()
        assert other.stop() == 0
    own.write_text('{"units": ')
    argv = ["--port", "0", "--control-port", "0", "--data", str(tmp_path), "--pki", str(tmp_path), "--feed", str(own)]
    ended = subprocess.run(
        [sys.executable, "-m", "deploy.local.kiv", *argv], cwd=CHECKOUT, capture_output=True, timeout=30
    )
    assert ended.returncode == 1
    assert b"is no feed of units" in ended.stderr
