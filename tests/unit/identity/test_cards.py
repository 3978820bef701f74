"""A SITHS card logs in by its own signature: what the card, its issuer and the answers about it must be (R-ID-1)."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local import siths_ca
from services.identity import cards
from services.identity.certificate_status import CertificateStatus
from shared.contracts.logging_in import CARD_PROOF_TYPE
from shared.messaging.errors import NotAuthenticated, Refused, Unavailable
from tests.unit.identity.cards import AUDIENCE, HSA_ID, NONCE, Authority, proof, running_authority

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    with running_authority(tmp_path_factory.mktemp("siths")) as authority:
        yield authority


@pytest.fixture
def siths(served: Authority) -> Authority:
    served.misbehave.clear()
    served.asked.clear()
    return served


def log_in(siths: Authority, text: str, now: datetime | None = None, status: CertificateStatus | None = None) -> str:
    """All that stands between a proof and the directory, in the order of the service."""
    now = now or datetime.now(UTC)
    card = cards.card_of(text)
    cards.require_key(text, card, nonce=NONCE, audience=AUDIENCE)
    issuer = siths.issuers.issuer_of(card, now)
    hsa_id = cards.hsa_id_on(card)
    (status or CertificateStatus()).require_good(card, issuer, now)
    return hsa_id


def reason(action: Callable[[], Any]) -> str | None:
    with pytest.raises(Refused) as caught:
        action()
    return caught.value.reason


# --- the card -------------------------------------------------------------------------------------------------------


def test_r_id_1_a_card_that_holds(siths: Authority) -> None:
    """R-ID-1"""
    card, key = siths.card()
    assert log_in(siths, proof(card, key)) == HSA_ID
    assert siths.asked == ["/ocsp"]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"days": (-10, -1)}, "certificate_expired"),
        ({"days": (1, 10)}, "certificate_expired"),
        ({"issuer": "function"}, "certificate_not_trusted"),
        ({"issuer": "root"}, "certificate_not_trusted"),
        ({"signer": ec.generate_private_key(ec.SECP256R1())}, "certificate_not_trusted"),
        ({"usage": ("key_encipherment",)}, "certificate_not_trusted"),
        ({"usage": ("content_commitment",)}, "certificate_not_trusted"),
        ({"extended": ExtendedKeyUsageOID.SERVER_AUTH}, "certificate_not_trusted"),
        ({"ca": True}, "certificate_not_trusted"),
        ({"serial_numbers": ("198401012383",)}, "certificate_without_hsa_id"),
        ({"serial_numbers": ()}, "certificate_without_hsa_id"),
        ({"serial_numbers": (HSA_ID, "SE2321000131-P000009000005")}, "certificate_without_hsa_id"),
        ({"serial_numbers": ("Eva Ek",)}, "certificate_without_hsa_id"),
        ({"urls": False}, "certificate_status_unknown"),
    ],
)
def test_r_id_1_every_respect_of_a_card_is_looked_at(siths: Authority, wrong: dict[str, Any], why: str) -> None:
    """R-ID-1: time, issuer, what the key is for, and an HSA-id where it should be."""
    card, key = siths.made(**wrong)
    assert reason(lambda: log_in(siths, proof(card, key))) == why


def test_r_id_1_only_issuers_of_cards_count_whatever_the_client_sends(siths: Authority) -> None:
    """R-ID-1: self-signed, and under an authority of one's own that the client brings along."""
    card, key = siths.self_signed()
    assert reason(lambda: log_in(siths, proof(card, key))) == "certificate_not_trusted"
    function = siths_ca.issue_function(siths.folder, "a server", hsa_id=HSA_ID)
    certificate = x509.load_pem_x509_certificate(function.certificate.read_bytes())
    assert reason(lambda: siths.issuers.issuer_of(certificate, datetime.now(UTC))) == "certificate_not_trusted"


def test_issuers_need_a_root_and_an_authority(siths: Authority, tmp_path: Path) -> None:
    root, person = x509.load_pem_x509_certificates(siths_ca.cards_file(siths.folder).read_bytes())
    for kept in (root, person):
        (tmp_path / "ca.pem").write_bytes(kept.public_bytes(Encoding.PEM))
        with pytest.raises(ValueError, match="needs a root"):
            cards.CardIssuers.from_file(tmp_path / "ca.pem")
    (tmp_path / "ca.pem").write_text("none")
    with pytest.raises(ValueError, match=r"certificate|PEM|load"):
        cards.CardIssuers.from_file(tmp_path / "ca.pem")


# --- the proof ------------------------------------------------------------------------------------------------------


def test_r_id_1_only_the_cards_own_key_proves_anything(siths: Authority) -> None:
    """R-ID-1: a stolen certificate is worth nothing; nor is a proof for another login, another service, another use."""
    card, key = siths.card()
    other = ec.generate_private_key(ec.SECP256R1())
    assert reason(lambda: log_in(siths, proof(card, other))) == "proof_invalid"
    assert reason(lambda: log_in(siths, proof(card, key, nonce="another"))) == "proof_nonce"
    assert reason(lambda: log_in(siths, proof(card, key, nonce=7))) == "proof_nonce"
    assert reason(lambda: log_in(siths, proof(card, key, nonce="\ud800"))) == "proof_nonce"
    assert reason(lambda: log_in(siths, proof(card, key, nonce=None))) == "proof_invalid"
    assert reason(lambda: log_in(siths, proof(card, key, aud="another"))) == "proof_audience"
    assert reason(lambda: log_in(siths, proof(card, key, aud=None))) == "proof_invalid"
    assert reason(lambda: log_in(siths, proof(card, key, typ="JWT"))) == "proof_malformed"
    assert siths.asked == []


def test_r_id_1_the_header_does_not_choose_how_the_proof_is_checked(siths: Authority) -> None:
    """R-ID-1: no signature, one made with the public key as secret, one of another kind of key."""
    card, _ = siths.card()
    public = card.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    rsa_key = rsa.generate_private_key(65537, 2048)
    assert reason(lambda: log_in(siths, proof(card, None, algorithm="none"))) == "proof_invalid"
    assert reason(lambda: log_in(siths, proof(card, public, algorithm="HS256"))) == "proof_invalid"
    assert reason(lambda: log_in(siths, proof(card, rsa_key, algorithm="RS256"))) == "proof_invalid"


def test_cards_with_rsa_keys_prove_by_either_padding(siths: Authority) -> None:
    class Card:
        key = rsa.generate_private_key(65537, 2048)

        def public_key(self) -> Any:
            return self.key.public_key()

    claims = {"nonce": NONCE, "aud": AUDIENCE}
    for algorithm in ("RS256", "PS256"):
        made = jwt.encode(claims, Card.key, algorithm)
        cards.require_key(made, Card(), nonce=NONCE, audience=AUDIENCE)  # type: ignore[arg-type]


def test_any_text_is_refused_as_a_proof(siths: Authority) -> None:
    card, key = siths.card()
    real = proof(card, key)

    @settings(max_examples=100, deadline=None)
    @given(st.one_of(st.text(max_size=60), st.integers(0, len(real) - 1).map(lambda cut: real[:cut])))
    def refused(text: str) -> None:
        assert reason(lambda: log_in(siths, text))

    refused()
    assert siths.asked == []


def test_any_bytes_are_refused_as_a_certificate(siths: Authority) -> None:
    """A certificate with a byte changed anywhere, or cut, or anything else, is never trusted, unless it says the very
    same, and is never an accident."""
    card, key = siths.card()
    real = card.public_bytes(Encoding.DER)
    changed = st.tuples(st.integers(0, len(real) - 1), st.integers(1, 255)).map(
        lambda at: real[: at[0]] + bytes([real[at[0]] ^ at[1]]) + real[at[0] + 1 :]
    )
    issuers = siths.issuers

    @settings(max_examples=250, deadline=None)
    @given(st.one_of(st.binary(max_size=200), st.integers(0, len(real) - 1).map(lambda cut: real[:cut]), changed))
    def refused(der: bytes) -> None:
        text = jwt.encode(
            {"nonce": NONCE, "aud": AUDIENCE},
            key,
            "ES256",
            headers={"typ": CARD_PROOF_TYPE, "x5c": [base64.b64encode(der).decode()]},
        )

        try:
            found = cards.card_of(text)
            cards.require_key(text, found, nonce=NONCE, audience=AUDIENCE)
            issuers.issuer_of(found, datetime.now(UTC))
        except Refused:
            return
        # How many bits of the signature's last byte are unused: it may say 1 for 0 where that bit is 0.
        assert found.tbs_certificate_bytes == card.tbs_certificate_bytes
        assert found.signature == card.signature

    refused()


@pytest.mark.parametrize("chain", [None, [], [7], ["%%%"], "text", [""], {}])
def test_a_header_without_a_certificate_is_refused(chain: Any) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    text = jwt.encode({}, key, "ES256", headers={"typ": CARD_PROOF_TYPE, "x5c": chain})
    assert reason(lambda: cards.card_of(text)) == "proof_malformed"


# --- whether it has been taken back ---------------------------------------------------------------------------------


def test_r_id_1_a_revoked_card_is_refused_by_ocsp_and_by_list(siths: Authority) -> None:
    """R-ID-1"""
    card, key = siths.card()
    status = CertificateStatus()
    log_in(siths, proof(card, key), status=status)
    siths.revoke(card)
    assert reason(lambda: log_in(siths, proof(card, key), status=status)) == "certificate_revoked"
    siths.misbehave["ocsp"] = b"down"
    assert reason(lambda: log_in(siths, proof(card, key))) == "certificate_revoked"
    other, other_key = siths.card("SE2321000131-P000009000005")
    assert log_in(siths, proof(other, other_key))
    assert siths.asked[-1] == "/crl/person.crl"


def response(siths: Authority, card: x509.Certificate, **changes: Any) -> bytes:
    """An OCSP answer that says that the card is good, different as told."""
    issuer, key = siths.person
    told: dict[str, Any] = {
        "this": datetime.now(UTC),
        "next": datetime.now(UTC) + timedelta(hours=1),
        "about": card,
        "issuer": issuer,
        "status": ocsp.OCSPCertStatus.GOOD,
        "responder": issuer,
        "key": key,
        "certificates": [],
    } | changes
    builder = ocsp.OCSPResponseBuilder().add_response(
        told["about"], told["issuer"], hashes.SHA1(), told["status"], told["this"], told["next"], None, None
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, told["responder"])
    if told["certificates"]:
        builder = builder.certificates(told["certificates"])
    if "nonce" in changes:
        builder = builder.add_extension(x509.OCSPNonce(changes["nonce"]), critical=False)
    return builder.sign(told["key"], hashes.SHA256()).public_bytes(Encoding.DER)


def test_r_id_1_an_answer_that_can_t_be_believed_lets_nobody_in(siths: Authority) -> None:
    """R-ID-1: OCSP down, garbage, forged, stale, of tomorrow, about another card, to another question, or by a
    responder that nobody appointed; with the list down as well nobody can say, so nobody gets in."""
    card, key = siths.card()
    other, _ = siths.card("SE2321000131-P000009000005")
    root, root_key = siths_ca.authority(siths.folder, "root")
    stranger, stranger_key = siths.made(extended=ExtendedKeyUsageOID.CLIENT_AUTH)
    now = datetime.now(UTC)
    wrong = [
        b"down",
        b"",
        b"garbage",
        response(siths, card)[:-9],
        response(siths, card, responder=stranger, key=stranger_key),
        response(siths, card, responder=root, key=root_key),
        response(siths, card, responder=stranger, key=stranger_key, certificates=[stranger]),
        response(siths, card, this=now - timedelta(days=3), next=now - timedelta(days=2)),
        response(siths, card, this=now - timedelta(days=3), next=None),
        response(siths, card, this=now + timedelta(hours=1), next=now + timedelta(hours=2)),
        response(siths, other),
        response(siths, card, nonce=b"another question"),
        ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(Encoding.DER),
    ]
    siths.misbehave["crl"] = b"down"
    for answer in wrong:
        siths.misbehave["ocsp"] = answer
        with pytest.raises(Unavailable) as caught:
            log_in(siths, proof(card, key))
        assert caught.value.reason == "certificate_status_unknown"
    siths.misbehave["ocsp"] = response(siths, card)
    assert log_in(siths, proof(card, key))
    siths.misbehave["ocsp"] = response(siths, card, status=ocsp.OCSPCertStatus.UNKNOWN)
    assert reason(lambda: log_in(siths, proof(card, key))) == "certificate_unknown_to_issuer"


def test_r_id_1_a_responder_that_the_issuer_appointed_is_believed(siths: Authority) -> None:
    """R-ID-1"""
    card, key = siths.card()
    appointed, own = siths.made(extended=ExtendedKeyUsageOID.OCSP_SIGNING)
    siths.misbehave = {
        "ocsp": response(siths, card, responder=appointed, key=own, certificates=[appointed]),
        "crl": b"down",
    }
    assert log_in(siths, proof(card, key))
    ended, own = siths.made(extended=ExtendedKeyUsageOID.OCSP_SIGNING, days=(-9, -1))
    siths.misbehave["ocsp"] = response(siths, card, responder=ended, key=own, certificates=[ended])
    assert reason(lambda: log_in(siths, proof(card, key))) == "certificate_status_unknown"


def crl(siths: Authority, **changes: Any) -> bytes:
    issuer, key = siths.person
    now = datetime.now(UTC)
    told: dict[str, Any] = {
        "name": issuer.subject, "key": key, "last": now - timedelta(hours=1), "next": now + timedelta(hours=1)
    } | changes  # fmt: skip
    builder = x509.CertificateRevocationListBuilder(told["name"], told["last"], told["next"])
    if "extension" in told:
        builder = builder.add_extension(told["extension"], critical=told.get("critical", True))
    return builder.sign(told["key"], hashes.SHA256()).public_bytes(Encoding.DER)


def test_r_id_1_a_list_that_can_t_be_believed_lets_nobody_in(siths: Authority) -> None:
    """R-ID-1: down, garbage, forged, another's, stale, of tomorrow, or a part of the list, or that of another point."""
    card, key = siths.card()
    root, root_key = siths_ca.authority(siths.folder, "root")
    now = datetime.now(UTC)
    siths.misbehave["ocsp"] = b"down"
    part = x509.IssuingDistributionPoint(None, None, False, True, None, False, False)
    for answer in (
        b"down",
        b"garbage",
        crl(siths)[:-5],
        crl(siths, key=ec.generate_private_key(ec.SECP256R1())),
        crl(siths, name=root.subject, key=root_key),
        crl(siths, last=now - timedelta(days=3), next=now - timedelta(days=1)),
        crl(siths, last=now + timedelta(days=1), next=now + timedelta(days=3)),
        crl(siths, extension=x509.DeltaCRLIndicator(1)),
        crl(siths, extension=part),
        crl(siths, extension=of_point("http://crl.example/another-part.crl")),
        crl(siths, extension=of_point("http://crl.example/another-part.crl"), critical=False),
    ):
        siths.misbehave["crl"] = answer
        assert reason(lambda: log_in(siths, proof(card, key))) == "certificate_status_unknown"
    [point] = card.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    [name] = point.full_name or []
    for answer in (crl(siths), crl(siths, extension=of_point("http://crl.example/elsewhere.crl", name.value))):
        siths.misbehave["crl"] = answer
        assert log_in(siths, proof(card, key))


def of_point(*urls: str) -> x509.IssuingDistributionPoint:
    """That the list holds only those certificates that name one of these points."""
    names = [x509.UniformResourceIdentifier(url) for url in urls]
    return x509.IssuingDistributionPoint(names, None, False, False, None, False, False)


def test_r_id_1_a_list_is_kept_while_its_issuer_is_away_and_no_longer_than_it_holds(
    siths: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-ID-1"""
    card, key = siths.card()
    status = CertificateStatus()
    siths.misbehave = {"ocsp": b"down", "crl": crl(siths)}
    for _ in range(3):
        log_in(siths, proof(card, key), status=status)
    assert siths.asked.count("/crl/person.crl") == 1
    monkeypatch.setattr("services.identity.certificate_status._LIST_KEPT_SECONDS", -1.0)
    siths.misbehave["crl"] = b"down"
    assert log_in(siths, proof(card, key), status=status)
    later = datetime.now(UTC) + timedelta(hours=2)
    issuer = siths.issuers.issuer_of(card, later)
    assert reason(lambda: status.require_good(card, issuer, later)) == "certificate_status_unknown"


def test_any_bytes_are_an_answer_or_none(siths: Authority) -> None:
    """An OCSP answer or a list with a byte changed in what is signed says nothing."""
    card, _ = siths.card()
    issuer = siths.issuers.issuer_of(card, datetime.now(UTC))
    right = {"ocsp": response(siths, card), "crl": crl(siths)}
    signed = {
        "ocsp": ocsp.load_der_ocsp_response(right["ocsp"]).tbs_response_bytes,
        "crl": x509.load_der_x509_crl(right["crl"]).tbs_certlist_bytes,
    }

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 10_000), st.integers(1, 255))
    def tried(at: int, flip: int) -> None:
        for name, body in right.items():
            place = body.index(signed[name]) + at % len(signed[name])
            siths.misbehave[name] = body[:place] + bytes([body[place] ^ flip]) + body[place + 1 :]
        try:
            CertificateStatus().require_good(card, issuer, datetime.now(UTC))
        except (NotAuthenticated, Unavailable):
            return
        raise AssertionError(at, flip)

    tried()
