"""An OpenID Connect identity provider: staff by SITHS card, residents by something like an e-ID.

    python -m deploy.local.idp --port N --control-port M --data DIR --pki DIR

One issuer, `https://127.0.0.1:N`, and two kinds of client: at a staff client the user is who the TLS client certificate
says; at a resident client the user fills in an identity number. What it asserts: counterparts.md.
"""

from __future__ import annotations

import html
import re
import secrets
import ssl
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from deploy.local import siths_ca
from deploy.local.common.behaviour import Behaviours
from deploy.local.common.control import HTTP_MODES, control_app, misbehave
from deploy.local.common.http import App, Reply, Request, Server, answer_json
from deploy.local.common.process import arguments, run
from deploy.local.common.tls import server_context
from deploy.local.idp_tokens import TOKEN_MODES, KeyRing, Lifetimes, Login, challenge_of, id_token
from deploy.local.people import residents, staff
from shared.operations import clock

STAFF_CLIENT = "1177-personal"
RESIDENT_CLIENT = "1177-invanare"
STAFF_ACR = "http://id.sambi.se/loa/loa3"
RESIDENT_ACR = "http://id.elegnamnd.se/loa/1.0/loa3"
STAFF_AMR = ("urn:oasis:names:tc:SAML:2.0:ac:classes:TLSClient",)
RESIDENT_AMR = ("urn:oasis:names:tc:SAML:2.0:ac:classes:SoftwarePKI",)
CODE_SECONDS = 60
LOGIN_SECONDS = 600
LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}


class Refused(Exception):
    """An OAuth error: `error` and a description, without personal data."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(error)
        self.error, self.description, self.status = error, description, status

    def reply(self) -> Reply:
        """The error as the token endpoint tells it."""
        return answer_json({"error": self.error, "error_description": self.description}, self.status)


@dataclass(frozen=True)
class Client:
    """A registered relying party. `redirects`: exact addresses; a loopback address matches any port."""

    client_id: str
    kind: str
    acr: str
    amr: tuple[str, ...]
    redirects: tuple[str, ...] = ("http://127.0.0.1/callback",)

    def allows(self, redirect: str) -> bool:
        """Whether codes may be sent there."""
        try:
            split = urlsplit(redirect)
            without_port = split._replace(netloc=split.hostname or "").geturl()
        except ValueError:
            return False
        return redirect in self.redirects or (split.hostname in LOOPBACK and without_port in self.redirects)


@dataclass(frozen=True)
class Asked:
    """An authorization request that has been found to be in order."""

    client: Client
    redirect: str
    nonce: str
    challenge: str
    state: str | None
    at: float


class Provider:
    """Logins under way and codes handed out, in memory: a restart ends them, the signing keys stay."""

    def __init__(self, issuer: str, keys: KeyRing, clients: Sequence[Client], lifetimes: Lifetimes) -> None:
        self.issuer, self.keys, self.lifetimes = issuer, keys, lifetimes
        self.clients = {client.client_id: client for client in clients}
        self._waiting: dict[str, Asked] = {}
        self._codes: dict[str, tuple[Asked, Login]] = {}
        self._lock = threading.Lock()

    def check(self, query: Mapping[str, list[str]]) -> Asked:
        """The authorization request, if it is in order. Refused says what is wrong."""
        given = {key: values[0] for key, values in query.items()}
        client = self.clients.get(given.get("client_id", ""))
        redirect = given.get("redirect_uri", "")
        if client is None or not client.allows(redirect):
            raise Refused("invalid_request", "unknown client_id, or a redirect_uri that is not registered")
        if given.get("response_type") != "code":
            raise Refused("unsupported_response_type", "response_type must be code")
        if "openid" not in given.get("scope", "").split():
            raise Refused("invalid_scope", "scope must have openid")
        if not given.get("nonce"):
            raise Refused("invalid_request", "nonce is required")
        challenge = given.get("code_challenge", "")
        if given.get("code_challenge_method") != "S256" or not re.fullmatch(r"[A-Za-z0-9_-]{43}", challenge):
            raise Refused("invalid_request", "PKCE with S256 is required")
        at = clock.now().timestamp()
        return Asked(client, redirect, given["nonce"], challenge, given.get("state"), at)

    def wait_for_user(self, asked: Asked) -> str:
        """Remembers a request until the user has filled in the form."""
        waiting = secrets.token_urlsafe(24)
        with self._lock:
            self._waiting[waiting] = asked
        return waiting

    def user_came(self, waiting: str) -> Asked:
        """The request that the form belongs to."""
        with self._lock:
            asked = self._waiting.pop(waiting, None)
        if asked is None or clock.now().timestamp() - asked.at > LOGIN_SECONDS:
            raise Refused("invalid_request", "the login is too old, or already done")
        return asked

    def redirect(self, asked: Asked, login: Login) -> Reply:
        """Hands out a code."""
        code = secrets.token_urlsafe(32)
        with self._lock:
            self._codes[code] = asked, login
        answer = {"code": code, "iss": self.issuer} | ({"state": asked.state} if asked.state is not None else {})
        joint = "&" if urlsplit(asked.redirect).query else "?"
        return Reply(302, headers={"Location": asked.redirect + joint + urlencode(answer), "Cache-Control": "no-store"})

    def redeem(self, form: Mapping[str, str]) -> tuple[Asked, Login]:
        """What a code stands for: once, within a minute, for the client that asked and can prove it."""
        if form.get("grant_type") != "authorization_code":
            raise Refused("unsupported_grant_type", "grant_type must be authorization_code")
        with self._lock:
            asked, login = self._codes.pop(form.get("code", ""), (None, None))
        if asked is None or login is None or abs(clock.now().timestamp() - login.auth_time) > CODE_SECONDS:
            raise Refused("invalid_grant", "the code is unknown, used or too old")
        if form.get("client_id") != asked.client.client_id:
            raise Refused("invalid_client", "the code belongs to another client", 401)
        if form.get("redirect_uri") != asked.redirect or challenge_of(form.get("code_verifier", "")) != asked.challenge:
            raise Refused("invalid_grant", "redirect_uri or code_verifier does not fit")
        return asked, login

    def configuration(self) -> dict[str, Any]:
        """OpenID Connect Discovery 1.0."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": ["openid"],
            "acr_values_supported": sorted({client.acr for client in self.clients.values()}),
            "claims_supported": [
                "iss", "aud", "sub", "exp", "iat", "auth_time", "nonce", "acr", "amr", "given_name", "family_name",
                "name", "employeeHsaId", "allEmployeeHsaIds", "personalIdentityNumber",
            ],
            "authorization_response_iss_parameter_supported": True,
        }  # fmt: skip


def app(provider: Provider, pki: Path, behaviours: Behaviours) -> App:
    """The provider's own address; see counterparts.md for the paths."""
    served = App()

    @served.route("GET", "/.well-known/openid-configuration")
    def configuration(request: Request) -> Reply:
        wrong = misbehave(behaviours.take("configuration", among=tuple(HTTP_MODES)))
        return wrong or answer_json(provider.configuration())

    @served.route("GET", "/jwks")
    def jwks(request: Request) -> Reply:
        wrong = misbehave(behaviours.take("jwks", among=tuple(HTTP_MODES)))
        return wrong or answer_json({"keys": provider.keys.published()}, headers={"Cache-Control": "max-age=300"})

    @served.route("GET", "/authorize")
    def authorize(request: Request) -> Reply:
        try:
            asked = provider.check(request.query)
        except Refused as refused:
            return refused.reply()
        if asked.client.kind == "resident":
            return _form(provider.wait_for_user(asked))
        peer = request.peer
        hsa_id = siths_ca.hsa_id_of(peer) if peer and siths_ca.issued_by(peer, "person") else None
        if peer is None or hsa_id is None or siths_ca.is_revoked(pki, peer):
            return _page("Legitimera dig med ditt SITHS-kort", "<p>Inget giltigt kort hittades.</p>", 401)
        return provider.redirect(asked, _staff_login(asked.client, hsa_id, peer.subject))

    @served.route("POST", "/login")
    def login(request: Request) -> Reply:
        try:
            form = request.form()
            number = re.sub(r"[\s-]", "", form.get("personnummer", ""))
            if not re.fullmatch(r"\d{8}[0-9A-Za-z]{4}", number):
                raise Refused("access_denied", "not an identity number of 12 characters")
            asked = provider.user_came(form.get("login", ""))
        except Refused as refused:
            return refused.reply()
        return provider.redirect(asked, _resident_login(asked.client, number))

    @served.route("POST", "/token")
    def token(request: Request) -> Reply:
        try:
            asked, login = provider.redeem(request.form())
        except Refused as refused:
            return refused.reply()
        rule = behaviours.take(login.subject, asked.client.kind, among=(*TOKEN_MODES, *HTTP_MODES))
        if wrong := misbehave(rule):
            return wrong
        mode = rule.mode if rule else None
        signed = id_token(
            provider.keys, provider.issuer, asked.client.client_id, asked.nonce, login, provider.lifetimes, mode
        )
        return answer_json(
            {
                "access_token": secrets.token_urlsafe(32),
                "token_type": "Bearer",
                "expires_in": int(provider.lifetimes.id_token_seconds),
                "id_token": signed,
                "scope": "openid",
            },
            headers={"Cache-Control": "no-store"},
        )

    return served


def _staff_login(client: Client, hsa_id: str, subject: Any) -> Login:
    names = {attribute.oid._name: str(attribute.value) for attribute in subject}
    claims: dict[str, Any] = {"employeeHsaId": hsa_id}
    every = staff.employments(hsa_id)
    if len(every) > 1:
        claims["allEmployeeHsaIds"] = every
    return Login(
        hsa_id, clock.now().timestamp(), client.acr, client.amr, names.get("givenName"), names.get("surname"), claims
    )


def _resident_login(client: Client, number: str) -> Login:
    known = residents.find(number)
    given, surname = (known.given_name, known.surname) if known else (None, None)
    claims = {"personalIdentityNumber": number}
    return Login(number, clock.now().timestamp(), client.acr, client.amr, given, surname, claims)


def _form(waiting: str) -> Reply:
    return _page(
        "Logga in",
        '<form method="post" action="/login">'
        f'<input type="hidden" name="login" value="{html.escape(waiting)}">'
        '<label>Personnummer <input name="personnummer" inputmode="numeric" autofocus></label> '
        "<button>Logga in</button></form>",
    )


def _page(title: str, body: str, status: int = 200) -> Reply:
    text = f'<!doctype html><html lang="sv"><meta charset="utf-8"><title>{title}</title><h1>{title}</h1>{body}</html>'
    return Reply(status, text.encode(), "text/html; charset=utf-8", {"Cache-Control": "no-store"})


def control(provider: Provider, behaviours: Behaviours) -> App:
    """The control port: misbehaving, and changing the signing key."""
    served = control_app(behaviours)

    @served.route("POST", "/rotate-keys")
    def rotate(request: Request) -> Reply:
        wanted = request.json()
        try:
            kid = provider.keys.rotate(wanted.get("alg", "RS256"), keep_old=wanted.get("keep_old", True))
        except ValueError as error:
            return answer_json({"error": str(error)}, 400)
        return answer_json({"kid": kid})

    return served


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see the top of the module."""
    parser = arguments("idp", "OpenID Connect identity provider for staff (SITHS) and residents.")
    parser.add_argument("--issuer", help="how it names itself (https://127.0.0.1:PORT)")
    parser.add_argument("--staff-client", default=STAFF_CLIENT, help="client id of the staff tool")
    parser.add_argument("--resident-client", default=RESIDENT_CLIENT, help="client id of the resident side")
    parser.add_argument("--redirect", action="append", default=[], help="one more registered redirect_uri")
    parser.add_argument("--staff-acr", default=STAFF_ACR)
    parser.add_argument("--resident-acr", default=RESIDENT_ACR)
    parser.add_argument("--alg", choices=("RS256", "ES256"), default="RS256", help="how the first key signs")
    parser.add_argument("--id-token-seconds", type=int, default=Lifetimes().id_token_seconds)
    given = parser.parse_args(argv)

    def make() -> list[Server]:
        redirects = (*Client("", "", "", ()).redirects, *given.redirect)
        clients = [
            Client(given.staff_client, "staff", given.staff_acr, STAFF_AMR, redirects),
            Client(given.resident_client, "resident", given.resident_acr, RESIDENT_AMR, redirects),
        ]
        keys = KeyRing(given.data / "signing-keys.json", given.alg)
        lifetimes = replace(Lifetimes(), id_token_seconds=given.id_token_seconds)
        provider = Provider(given.issuer or f"https://127.0.0.1:{given.port}", keys, clients, lifetimes)
        behaviours = Behaviours(HTTP_MODES | TOKEN_MODES)
        context = server_context(given.pki, "idp", clients=ssl.CERT_OPTIONAL)
        main_server = Server(given.port, app(provider, given.pki, behaviours), context)
        if given.port == 0 and not given.issuer:
            provider.issuer = f"https://127.0.0.1:{main_server.port}"
        return [main_server, Server(given.control_port, control(provider, behaviours))]

    return run("idp", make)


if __name__ == "__main__":
    sys.exit(main())
