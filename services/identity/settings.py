"""What identity is told by its environment, beside what every service is."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated

from pydantic import DirectoryPath, Field, FilePath, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from services.identity.cards import CardIssuers
from services.identity.resident_accounts import NumberKey
from services.identity.terms import TermsShelf
from shared.operations.settings import ServiceSettings

LEVEL_3 = "http://id.sambi.se/loa/loa3 http://id.elegnamnd.se/loa/1.0/loa3"
OWN_TEXTS = Path(__file__).parent / "texts"


class IdentitySettings(ServiceSettings):
    """See README.md of the service for what each is in the local stack."""

    identity_number_key_file: FilePath = Field(description="key for looking identity numbers up: 64 hex digits")

    staff_oidc_issuer: str = Field(description="identity provider for staff, as its ID tokens name it")
    staff_oidc_client_id: str = Field(description="our client id at the identity provider for staff")
    staff_acr_values: Annotated[frozenset[str], NoDecode] = Field(
        frozenset(LEVEL_3.split()), description="levels of assurance that are enough for staff, by blanks"
    )
    siths_ca_file: FilePath | None = Field(
        None, description="root of SITHS and the authorities that issue persons' cards of LoA 3, PEM, for login by card"
    )
    resident_oidc_issuer: str = Field(description="identity provider for residents, as its ID tokens name it")
    resident_oidc_client_id: str = Field(description="our client id at the identity provider for residents")
    resident_acr_values: Annotated[frozenset[str], NoDecode] = Field(
        frozenset(LEVEL_3.split()), description="levels of assurance that are enough for residents, by blanks"
    )
    oidc_ca_file: FilePath | None = Field(None, description="certificate authority of the identity providers, if own")
    oidc_timeout_seconds: float = Field(5.0, gt=0, le=30)

    pu_url: str = Field(description="the population register's GetPersonsForProfile, https://…")
    pu_certificate_file: FilePath = Field(description="our function certificate for the population register, PEM")
    pu_key_file: FilePath = Field(description="its private key, PEM")
    pu_ca_file: FilePath = Field(description="certificate authority of the population register, PEM")
    pu_logical_address: str = Field("SE2321000156", description="logical address of the population register")
    pu_timeout_seconds: float = Field(10.0, gt=0, le=60)
    pu_guardian_codes: Annotated[frozenset[str], NoDecode] = Field(
        frozenset({"V"}), description="relation codes by which a child's record names its guardians, by blanks"
    )
    pu_child_codes: Annotated[frozenset[str], NoDecode] = Field(
        frozenset({"VF"}), description="relation codes by which a guardian's record names the children, by blanks"
    )
    pu_refresh_hours: int = Field(
        24, ge=1, le=8760, description="how old what the register said of a resident may become"
    )
    accept_test_persons: bool = Field(False, description="let persons in whom the register marks as test persons")

    status_page_url: str | None = Field(None, pattern="^https?://", description="the operator's own status page")

    terms_folder: DirectoryPath = Field(OWN_TEXTS, description="texts of the terms: staff/1.md, resident/1.md, …")

    @field_validator("staff_acr_values", "resident_acr_values", "pu_guardian_codes", "pu_child_codes", mode="before")
    @classmethod
    def _by_blanks(cls, value: object) -> object:
        return frozenset(value.split()) if isinstance(value, str) else value

    @field_validator("staff_acr_values", "resident_acr_values", "pu_guardian_codes", "pu_child_codes")
    @classmethod
    def _at_least_one(cls, value: frozenset[str]) -> frozenset[str]:
        if not value:
            raise ValueError("names none")
        return value

    @field_validator("staff_oidc_issuer", "resident_oidc_issuer", "pu_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        # Logins and identity numbers go there: never in clear text.
        if not value.startswith("https://"):
            raise ValueError("must begin with https://")
        return value

    @field_validator("siths_ca_file")
    @classmethod
    def _are_issuers(cls, value: Path | None) -> Path | None:
        if value is not None:
            CardIssuers.from_file(value)
        return value

    @field_validator("identity_number_key_file")
    @classmethod
    def _is_a_key(cls, value: Path) -> Path:
        NumberKey.from_file(value)
        return value

    @field_validator("pu_key_file")
    @classmethod
    def _fits_its_certificate(cls, value: Path, others: ValidationInfo) -> Path:
        try:
            if "pu_certificate_file" in others.data:
                ssl.create_default_context().load_cert_chain(others.data["pu_certificate_file"], value)
        except (ssl.SSLError, OSError):
            raise ValueError("can't be read, or is not the key of PU_CERTIFICATE_FILE") from None
        return value

    @field_validator("terms_folder")
    @classmethod
    def _has_terms(cls, value: Path) -> Path:
        TermsShelf.from_folder(value)
        return value
