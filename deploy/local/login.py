"""Logging in at the local identity provider without a browser, through the real flow: authorize, code, token.

The identity service names the nonce (begin_login) and takes the ID token (complete_login).
"""

from __future__ import annotations

import base64
import re
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import requests
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from deploy.local import siths_ca
from deploy.local.idp import RESIDENT_CLIENT, STAFF_CLIENT
from deploy.local.idp_tokens import challenge_of
from deploy.local.people import staff

REDIRECT = "http://127.0.0.1/callback"
TIMEOUT_SECONDS = 30


class LoginFailed(Exception):
    """The identity provider said no: its status, and its error code where it gave one."""


def staff_id_token(
    idp_url: str,
    hsa_id: str,
    nonce: str,
    *,
    pki: Path,
    client_id: str = STAFF_CLIENT,
    card: siths_ca.Credentials | None = None,
) -> str:
    """An ID token for a person with a SITHS card. Without `card`, the person's card is issued if there is none yet.

    `pki` is the folder of deploy.local.siths_ca. Raises LoginFailed, or requests' errors.
    """
    card = card or card_of(hsa_id, pki)
    with _session(pki) as session:
        session.cert = card.pair
        verifier, query = _authorization_request(client_id, nonce)
        reply = session.get(
            _endpoint(session, idp_url, "authorization"), params=query, allow_redirects=False, timeout=TIMEOUT_SECONDS
        )
        return _exchange(session, idp_url, reply, query, verifier)


def resident_id_token(
    idp_url: str, personnummer: str, nonce: str, *, pki: Path, client_id: str = RESIDENT_CLIENT
) -> str:
    """An ID token for a resident. Raises LoginFailed, or requests' errors."""
    with _session(pki) as session:
        verifier, query = _authorization_request(client_id, nonce)
        page = session.get(
            _endpoint(session, idp_url, "authorization"), params=query, allow_redirects=False, timeout=TIMEOUT_SECONDS
        )
        waiting = re.search(r'name="login" value="([^"]+)"', page.text)
        if waiting is None:
            raise _failed(page)
        form = {"login": waiting[1], "personnummer": personnummer}
        reply = session.post(f"{idp_url}/login", data=form)
        return _exchange(session, idp_url, reply, query, verifier)


def card_of(hsa_id: str, pki: Path) -> siths_ca.Credentials:
    """The person's SITHS card, issued if there is none yet."""
    person = staff.find(hsa_id)
    given_name, surname = (person.given_name or "", person.surname) if person else ("Test", "Testsson")
    return siths_ca.issue_person(pki, hsa_id, given_name, surname, title=person.title if person else None)


def card_proof(card: siths_ca.Credentials, nonce: str, audience: str, proof_type: str, **changes: Any) -> str:
    """What the card signs to log in without the identity provider; `changes` are of the claims."""
    certificate = x509.load_pem_x509_certificate(card.certificate.read_bytes())
    key = load_pem_private_key(card.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    chain = [base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()]
    claims = {"nonce": nonce, "aud": audience} | changes
    return jwt.encode(claims, key, "ES256", headers={"typ": proof_type, "x5c": chain})


class _Session(requests.Session):
    """Follows no redirect (nothing listens where the code is sent) and never waits for ever."""

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        return super().request(*args, **kwargs | {"allow_redirects": False, "timeout": TIMEOUT_SECONDS})


def _session(pki: Path) -> requests.Session:
    session = _Session()
    session.trust_env = False  # no proxy, no other trust, for a server on this machine
    session.verify = str(siths_ca.trust_file(pki))
    return session


def _endpoint(session: requests.Session, idp_url: str, name: str) -> str:
    reply = session.get(f"{idp_url}/.well-known/openid-configuration")
    if reply.status_code != 200:
        raise _failed(reply)
    return str(reply.json()[f"{name}_endpoint"])


def _authorization_request(client_id: str, nonce: str) -> tuple[str, dict[str, str]]:
    verifier = secrets.token_urlsafe(48)
    return verifier, {
        "response_type": "code",
        "scope": "openid",
        "client_id": client_id,
        "redirect_uri": REDIRECT,
        "state": secrets.token_urlsafe(16),
        "nonce": nonce,
        "code_challenge": challenge_of(verifier),
        "code_challenge_method": "S256",
    }


def _exchange(
    session: requests.Session, idp_url: str, reply: requests.Response, query: dict[str, str], verifier: str
) -> str:
    if reply.status_code != 302:
        raise _failed(reply)
    came_back = parse_qs(urlsplit(reply.headers["Location"]).query)
    if came_back["state"] != [query["state"]]:
        raise LoginFailed("another login's answer")
    form = {
        "grant_type": "authorization_code",
        "code": came_back["code"][0],
        "redirect_uri": REDIRECT,
        "client_id": query["client_id"],
        "code_verifier": verifier,
    }
    token = session.post(
        _endpoint(session, idp_url, "token"), data=form, allow_redirects=False, timeout=TIMEOUT_SECONDS
    )
    if token.status_code != 200:
        raise _failed(token)
    return str(token.json()["id_token"])


def _failed(reply: requests.Response) -> LoginFailed:
    try:
        return LoginFailed(f"{reply.status_code} {reply.json()['error']}")
    except (ValueError, KeyError, TypeError):
        return LoginFailed(f"{reply.status_code}")
