"""TLS as the counterparts speak it."""

from __future__ import annotations

import ssl
from pathlib import Path

from deploy.local import siths_ca
from deploy.local.common.http import App, Reply, Request, View, answer_text


def server_context(pki: Path, name: str, *, clients: ssl.VerifyMode) -> ssl.SSLContext:
    """A server that shows a function certificate; `clients` says whether clients must show one of theirs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(*siths_ca.server_credentials(pki, name).pair)
    context.load_verify_locations(siths_ca.trust_file(pki))
    context.verify_mode = clients
    return context


def only_functions(pki: Path, app: App) -> App:
    """Lets only systems in: function certificates, no person's card, none that was taken back (else 403)."""
    return app.wrapped(lambda view: _guarded(pki, view))


def _guarded(pki: Path, view: View) -> View:
    def guard(request: Request) -> Reply:
        peer = request.peer
        if peer is None or not siths_ca.issued_by(peer, "function") or siths_ca.is_revoked(pki, peer):
            return answer_text("forbidden", 403)
        return view(request)

    return guard
