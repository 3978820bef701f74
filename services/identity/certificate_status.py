"""Whether a certificate has been taken back: asked of its issuer by OCSP (RFC 6960), else looked up in the issuer's
CRL (RFC 5280).

What can't be known lets nobody in. An answer counts only if the issuer signed it, it is about this certificate, and it
is of now: an old one that someone kept says nothing.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

import requests
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from services.identity.fetching import fetched
from services.identity.openid import refused
from services.identity.rules import CLOCK_DIFFERENCE
from shared.messaging.errors import NotAuthenticated, Unavailable
from shared.operations.logs import log

_SECONDS = 5.0
_LARGEST_ANSWER = 64 * 1024
_LARGEST_LIST = 32 * 1024 * 1024
_LIST_KEPT_SECONDS = 300.0
_LONGEST_BELIEVED = timedelta(days=1)
"""How long an OCSP answer that does not say for itself how long it holds is believed."""
_STRONG = (hashes.SHA256, hashes.SHA384, hashes.SHA512)

Taken = bool | None
"""Whether it was taken back; None: the certificate does not say where to ask in this way."""


class CertificateStatus:
    """Asks the issuers; may be used by many workers at once. Lists are kept for five minutes, or while their issuer
    can't be reached for as long as they hold."""

    def __init__(self) -> None:
        self._http = requests.Session()
        self._http.trust_env = False
        self._lists: dict[str, tuple[x509.CertificateRevocationList | None, float]] = {}
        """By address: the list, and when it was last tried to fetch it."""
        self._fetching = threading.Lock()

    def require_good(self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> None:
        """Raises `NotAuthenticated` if the certificate was taken back or its issuer does not know it, `Unavailable` if
        that can't be known now."""
        ways: tuple[Callable[[x509.Certificate, x509.Certificate, datetime], Taken], ...] = (self._ocsp, self._list)
        for way in ways:
            try:
                taken = way(certificate, issuer, now)
            except NotAuthenticated:
                raise
            except Exception as error:  # not reached, not read, not believed: in each case nothing is known
                log.warning(
                    "certificate_status_not_known", way=way.__name__.strip("_"), error_type=type(error).__name__
                )
                continue
            if taken:
                raise refused("certificate_revoked")
            if taken is False:
                return
        raise Unavailable(
            "Det går inte att kontrollera kortets giltighet just nu. Försök igen om en stund.",
            reason="certificate_status_unknown",
        )

    # --- OCSP ---------------------------------------------------------------------------------------------------------

    def _ocsp(self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> Taken:
        for url in _ocsp_addresses(certificate):
            nonce = os.urandom(16)
            # SHA-1 only names the issuer here, and is what every responder understands (RFC 5019).
            question = (
                ocsp.OCSPRequestBuilder()
                .add_certificate(certificate, issuer, hashes.SHA1())  # noqa: S303
                .add_extension(x509.OCSPNonce(nonce), critical=False)
                .build()
            )
            answer = fetched(
                self._http,
                "POST",
                url,
                seconds=_SECONDS,
                largest=_LARGEST_ANSWER,
                data=question.public_bytes(Encoding.DER),
                headers={"Content-Type": "application/ocsp-request"},
            )
            return _status_in(ocsp.load_der_ocsp_response(answer), question, nonce, issuer, now)
        return None

    # --- CRL ----------------------------------------------------------------------------------------------------------

    def _list(self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> Taken:
        points = _list_points(certificate)
        for url in _addresses(points):
            found = self._fresh_list(url, points, issuer, now)
            return found.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
        return None

    def _fresh_list(
        self, url: str, points: Sequence[x509.GeneralName], issuer: x509.Certificate, now: datetime
    ) -> x509.CertificateRevocationList:
        """One fetches at a time, and who waited for that does not fetch again.

        Raises as `require_good` expects where there is none that holds.
        """
        came = time.monotonic()
        with self._fetching:
            kept, tried = self._lists.get(url, (None, float("-inf")))
            in_use = kept is not None and _holds(kept, now) and time.monotonic() - tried <= _LIST_KEPT_SECONDS
            if not in_use and tried < came:
                try:
                    text = fetched(self._http, "GET", url, seconds=_SECONDS, largest=_LARGEST_LIST)
                    newer: x509.CertificateRevocationList | None = x509.load_der_x509_crl(text)
                    _checked(newer, points, issuer, now)
                except Exception:  # the one that is kept may do, if there is one
                    newer = kept
                kept = newer
                self._lists[url] = kept, time.monotonic()
        return _checked(kept, points, issuer, now)


def _status_in(
    answer: ocsp.OCSPResponse, question: ocsp.OCSPRequest, nonce: bytes, issuer: x509.Certificate, now: datetime
) -> bool:
    """Whether the answer says that the certificate was taken back. Raises ValueError or InvalidSignature if it can't be
    believed, `NotAuthenticated` if the issuer does not know the certificate."""
    if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise ValueError("the responder could not say")
    _verify_signature(
        _responder(answer, issuer, now), answer.signature, answer.tbs_response_bytes, answer.signature_hash_algorithm
    )
    for extension in answer.extensions:
        if isinstance(extension.value, x509.OCSPNonce) and extension.value.nonce != nonce:
            raise ValueError("the answer to another question")
    asked = question.serial_number, question.issuer_key_hash, question.issuer_name_hash
    for one in answer.responses:
        if (one.serial_number, one.issuer_key_hash, one.issuer_name_hash) != asked:
            continue
        holds_until = one.next_update_utc or one.this_update_utc + _LONGEST_BELIEVED
        if not one.this_update_utc - CLOCK_DIFFERENCE <= now <= holds_until + CLOCK_DIFFERENCE:
            raise ValueError("an answer of another time")
        if one.certificate_status is ocsp.OCSPCertStatus.UNKNOWN:
            raise refused("certificate_unknown_to_issuer")
        return one.certificate_status is ocsp.OCSPCertStatus.REVOKED
    raise ValueError("an answer about another certificate")


def _responder(answer: ocsp.OCSPResponse, issuer: x509.Certificate, now: datetime) -> x509.Certificate:
    """Whose signature the answer must bear: the issuer's, or that of a responder that the issuer has appointed."""
    for one in answer.certificates:
        if one == issuer or not one.not_valid_before_utc <= now <= one.not_valid_after_utc:
            continue
        try:
            usage = one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            one.verify_directly_issued_by(issuer)
        except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature):
            continue
        if ExtendedKeyUsageOID.OCSP_SIGNING in usage:
            return one
    return issuer


def _verify_signature(
    signer: x509.Certificate, signature: bytes, content: bytes, algorithm: hashes.HashAlgorithm | None
) -> None:
    key = signer.public_key()
    if not isinstance(algorithm, _STRONG):
        raise ValueError("signed in a way that is not trusted")
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, content, padding.PKCS1v15(), algorithm)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, content, ec.ECDSA(algorithm))
    else:
        raise ValueError("signed by a key of another kind")


def _checked(
    found: x509.CertificateRevocationList | None,
    points: Sequence[x509.GeneralName],
    issuer: x509.Certificate,
    now: datetime,
) -> x509.CertificateRevocationList:
    """The list, if it is the issuer's and holds now: the whole one, or the one of the points where the certificate says
    that it would stand. Raises ValueError."""
    key = issuer.public_key()
    if found is None or not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise ValueError("no list, or signed by a key of another kind")
    if found.issuer != issuer.subject or not found.is_signature_valid(key):
        raise ValueError("another's list")
    if not isinstance(found.signature_hash_algorithm, _STRONG):
        raise ValueError("signed in a way that is not trusted")
    for extension in found.extensions:
        if isinstance(extension.value, x509.IssuingDistributionPoint):
            _require_for_people(extension.value, points)
        elif extension.critical:
            raise ValueError("a list of a kind that is not known")
    if not _holds(found, now):
        raise ValueError("a list of another time")
    return found


def _require_for_people(part: x509.IssuingDistributionPoint, points: Sequence[x509.GeneralName]) -> None:
    """An issuer may have lists by the point that it publishes them at, each signed alike: in another one a certificate
    that was taken back does not stand, which says nothing (RFC 5280, 6.3.3 b 2). Raises ValueError."""
    if part.indirect_crl or part.only_contains_ca_certs or part.only_contains_attribute_certs or part.only_some_reasons:
        raise ValueError("a part of a list")
    if part.relative_name is not None or (part.full_name and not set(part.full_name) & set(points)):
        raise ValueError("the list of another point")


def _holds(found: x509.CertificateRevocationList, now: datetime) -> bool:
    begins, ends = found.last_update_utc, found.next_update_utc
    return ends is not None and begins - CLOCK_DIFFERENCE <= now <= ends + CLOCK_DIFFERENCE


def _ocsp_addresses(certificate: x509.Certificate) -> Iterable[str]:
    try:
        told = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return []
    return _addresses(one.access_location for one in told if one.access_method == AuthorityInformationAccessOID.OCSP)


def _list_points(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        told = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return []
    return [name for point in told if not (point.reasons or point.crl_issuer) for name in point.full_name or []]


def _addresses(names: Iterable[x509.GeneralName]) -> list[str]:
    found = [one.value for one in names if isinstance(one, x509.UniformResourceIdentifier)]
    return [one for one in found if one.startswith(("http://", "https://"))]
