"""What identity's work takes beside the database: keys, texts, and the ways to the outside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from services.identity.cards import CardIssuers
from services.identity.certificate_status import CertificateStatus
from services.identity.joint_look_ups import JointPopulationRegister
from services.identity.openid import IdentityProviders
from services.identity.population_register import PopulationRegister, RelationCodes
from services.identity.resident_accounts import NumberKey
from services.identity.sessions import TokenDesk
from services.identity.settings import IdentitySettings
from services.identity.signing_keys import KeyRing
from services.identity.terms import TermsShelf
from shared.security.tokens import Signer

ISSUER = "identity"


@dataclass(frozen=True)
class Desk:
    """One for a process."""

    tokens: TokenDesk
    providers: IdentityProviders
    register: PopulationRegister
    card_issuers: CardIssuers | None
    certificate_status: CertificateStatus
    number_key: NumberKey
    terms: TermsShelf


@cache
def desk_of(settings: IdentitySettings) -> Desk:
    """Puts it together from the settings, which were checked when they were read; the same one every time after."""
    terms = TermsShelf.from_folder(settings.terms_folder)
    ca_file = str(settings.oidc_ca_file) if settings.oidc_ca_file else None
    return Desk(
        tokens=TokenDesk(KeyRing(Signer.from_file(settings.signing_key_file, ISSUER)), terms),
        providers=IdentityProviders(ca_file, settings.oidc_timeout_seconds),
        register=JointPopulationRegister(
            settings.pu_url,
            certificate=str(settings.pu_certificate_file),
            key=str(settings.pu_key_file),
            ca=str(settings.pu_ca_file),
            logical_address=settings.pu_logical_address,
            timeout_seconds=settings.pu_timeout_seconds,
            accept_test_persons=settings.accept_test_persons,
            codes=RelationCodes(settings.pu_guardian_codes, settings.pu_child_codes),
        ),
        card_issuers=CardIssuers.from_file(settings.siths_ca_file) if settings.siths_ca_file else None,
        certificate_status=CertificateStatus(),
        number_key=NumberKey.from_file(settings.identity_number_key_file),
        terms=terms,
    )
