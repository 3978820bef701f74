"""What the directory's processes are told by their environment."""

from __future__ import annotations

import ipaddress
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, FilePath, model_validator

from services.directory.sources import HSA, NAMES, Source
from services.directory.sources.hsa import Hsa
from services.directory.sources.hsa_file import HsaFile
from services.directory.sources.kiv import Kiv
from services.directory.sources.kiv_ldap import KivLdap
from services.directory.sources.places import Access
from services.directory.sources.soap import Endpoint
from shared.contracts.base import HsaId
from shared.operations.settings import ServiceSettings


class HsaSettings(ServiceSettings):
    """Whoever asks HSA: the service directly, the worker in bulk."""

    hsa_url: str | None = Field(None, description="HSA's employee contracts, an https address")
    hsa_organization_url: str | None = Field(None, description="HSA's organization contracts; none: as HSA_URL")
    hsa_client_cert_file: FilePath | None = Field(None, description="SITHS function certificate, PEM")
    hsa_client_key_file: FilePath | None = Field(None, description="its private key, PEM")
    hsa_ca_file: FilePath | None = Field(None, description="certificate authority of HSA, PEM; none: the system's")
    hsa_logical_address: str = Field("SE165565594230-1000", description="HSA-id of the catalogue")
    hsa_timeout_seconds: float = Field(4, gt=0, le=60)

    @model_validator(mode="after")
    def _hsa_is_whole(self) -> Self:
        _https("HSA_URL", self.hsa_url)
        _https("HSA_ORGANIZATION_URL", self.hsa_organization_url)
        _pair("HSA", self.hsa_client_cert_file, self.hsa_client_key_file)
        return self

    def hsa(self) -> Hsa | None:
        """HSA, if it is configured."""
        if self.hsa_url is None:
            return None
        return Hsa(self._endpoint(self.hsa_url), self._endpoint(self.hsa_organization_url or self.hsa_url))

    def _endpoint(self, url: str) -> Endpoint:
        return Endpoint(
            url=url,
            logical_address=self.hsa_logical_address,
            certificate=_certificate(self.hsa_client_cert_file, self.hsa_client_key_file),
            authority=_text(self.hsa_ca_file),
            timeout_seconds=self.hsa_timeout_seconds,
        )


class DirectorySettings(HsaSettings):
    """The service: calls, jobs, direct questions to HSA."""

    default_care_provider: HsaId = Field(description="HSA-id of the care provider of units for which none is named")
    default_care_provider_name: str = Field(min_length=1, description="its name")


class DirectoryWorkerSettings(HsaSettings):
    """The worker: where the catalogues come from, and how much may be gone from them at once."""

    kiv_units: str = Field("", description="file paths or https addresses, comma-separated")
    kiv_staff: str = Field("", description="file paths or https addresses, comma-separated")
    kiv_client_cert_file: FilePath | None = Field(None, description="client certificate for KiV, PEM")
    kiv_client_key_file: FilePath | None = Field(None, description="its private key, PEM")
    kiv_ca_file: FilePath | None = Field(None, description="certificate authority of KiV, PEM; none: the system's")
    kiv_timeout_seconds: float = Field(30, gt=0)
    kiv_max_bytes: int = Field(1 << 31, gt=0)
    kiv_ldap_url: str | None = Field(None, description="KiV's directory server, ldaps://host[:port]; by name")
    kiv_ldap_units_base: str = Field("ou=Org,o=VGR", description="where units and functions stand; empty: not read")
    kiv_ldap_staff_base: str = Field("ou=Personal,o=VGR", description="where persons stand; empty: not read")
    kiv_ldap_user: str | None = Field(None, description="name to log in by; none: by the client certificate alone")
    kiv_ldap_password_file: FilePath | None = Field(None, description="file with its password")
    hsa_units_file: str = Field("", description="HSA's unit file: paths or https addresses, comma-separated")
    file_units: str = Field("", description="feeds of units in KiV's shape kept by hand: file paths, comma-separated")
    file_staff: str = Field("", description="feeds of staff likewise")
    source_order: str = Field(",".join(NAMES), description="names of sources, the one that is believed first, first")
    max_removed_share: float = Field(0.1, ge=0, lt=1, description="a run that lacks more of them changes nothing")
    poll_seconds: float = Field(0.5, gt=0, le=60)

    @model_validator(mode="after")
    def _sources_are_whole(self) -> Self:
        named = {"KIV_UNITS": self.kiv_units, "KIV_STAFF": self.kiv_staff, "HSA_UNITS_FILE": self.hsa_units_file}
        for name, places in named.items():
            for place in _places(places):
                if "://" in place:
                    _https(name, place)
        for name, places in (("FILE_UNITS", self.file_units), ("FILE_STAFF", self.file_staff)):
            if "://" in places:
                raise ValueError(f"{name} must be file paths")
        _pair("KIV", self.kiv_client_cert_file, self.kiv_client_key_file)
        _ldaps("KIV_LDAP_URL", self.kiv_ldap_url)
        if bool(self.kiv_ldap_user) != bool(self.kiv_ldap_password_file):
            raise ValueError("KIV_LDAP_USER and KIV_LDAP_PASSWORD_FILE belong together")
        return self

    @model_validator(mode="after")
    def _order_is_whole(self) -> Self:
        order = _places(self.source_order)
        for name in order:
            if name not in NAMES:
                raise ValueError(f"SOURCE_ORDER names {name}, which is no source; there are {', '.join(NAMES)}")
            if order.count(name) > 1:
                raise ValueError(f"SOURCE_ORDER names {name} twice")
        for name in self._configured():
            if name not in order:
                raise ValueError(f"SOURCE_ORDER does not name {name}, which is configured")
        return self

    def order(self) -> tuple[str, ...]:
        """The names of the sources that are configured, the one that is believed first, first."""
        return tuple(name for name in _places(self.source_order) if name in self._configured())

    def sources(self) -> list[Source]:
        """Those of them that give catalogues, likewise."""
        every = {one.name: one for one in self._catalogues()}
        return [every[name] for name in self.order() if name in every]

    def _configured(self) -> set[str]:
        return {*(one.name for one in self._catalogues()), *([HSA] if self.hsa_url is not None else [])}

    def _catalogues(self) -> list[Source]:
        kiv = Access(
            _certificate(self.kiv_client_cert_file, self.kiv_client_key_file),
            _text(self.kiv_ca_file),
            self.kiv_timeout_seconds,
            self.kiv_max_bytes,
        )
        hsa = Access(
            _certificate(self.hsa_client_cert_file, self.hsa_client_key_file),
            _text(self.hsa_ca_file),
            self.kiv_timeout_seconds,
            self.kiv_max_bytes,
        )
        every: list[Source] = [
            Kiv(_places(self.kiv_units), _places(self.kiv_staff), kiv),
            *self._ldap(),
            HsaFile(_places(self.hsa_units_file), hsa),
            Kiv(_places(self.file_units), _places(self.file_staff), name="file"),
        ]
        return [one for one in every if one.has_units or one.has_staff]

    def _ldap(self) -> list[Source]:
        if self.kiv_ldap_url is None:
            return []
        password = self.kiv_ldap_password_file
        return [
            KivLdap(
                url=self.kiv_ldap_url,
                units_base=self.kiv_ldap_units_base,
                staff_base=self.kiv_ldap_staff_base,
                user=self.kiv_ldap_user,
                password=password.read_text().strip() if password else None,
                certificate=_certificate(self.kiv_client_cert_file, self.kiv_client_key_file),
                authority=_text(self.kiv_ca_file),
                timeout_seconds=self.kiv_timeout_seconds,
            )
        ]


def _text(path: object) -> str | None:
    return str(path) if path else None


def _places(value: str) -> tuple[str, ...]:
    return tuple(place for place in (part.strip() for part in value.split(",")) if place)


def _certificate(certificate: object, key: object) -> tuple[str, str] | None:
    return (str(certificate), str(key)) if certificate and key else None


def _https(name: str, address: str | None) -> None:
    if address is not None and not address.startswith("https://"):
        raise ValueError(f"{name} must be an https address")


def _ldaps(name: str, address: str | None) -> None:
    if address is None:
        return
    if not address.startswith("ldaps://"):
        raise ValueError(f"{name} must be an ldaps address")
    # From Python 3.12 on, ldap3 compares a certificate with names alone, and would never connect to a number.
    if _is_number(urlsplit(address).hostname or ""):
        raise ValueError(f"{name} must have the server's name, which stands in its certificate, not its IP address")


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _pair(name: str, certificate: object, key: object) -> None:
    if bool(certificate) != bool(key):
        raise ValueError(f"{name}_CLIENT_CERT_FILE and {name}_CLIENT_KEY_FILE belong together")
