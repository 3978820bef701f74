"""What the directory's processes are told by their environment."""

from __future__ import annotations

from pydantic import Field, FilePath, model_validator

from services.directory.sources import Source
from services.directory.sources.hsa import Hsa
from services.directory.sources.kiv import Kiv
from shared.contracts.base import HsaId
from shared.operations.settings import ServiceSettings


class DirectorySettings(ServiceSettings):
    """The service: calls, jobs, direct questions to HSA."""

    default_care_provider: HsaId = Field(description="HSA-id of the care provider of units for which none is named")
    default_care_provider_name: str = Field(min_length=1, description="its name")
    hsa_url: str | None = Field(None, description="HSA's GetEmployeeIncludingProtectedPerson, an https address")
    hsa_client_cert_file: FilePath | None = Field(None, description="SITHS function certificate, PEM")
    hsa_client_key_file: FilePath | None = Field(None, description="its private key, PEM")
    hsa_ca_file: FilePath | None = Field(None, description="certificate authority of HSA, PEM; none: the system's")
    hsa_logical_address: str = Field("SE165565594230-1000", description="HSA-id of the catalogue")
    hsa_timeout_seconds: float = Field(4, gt=0, le=60)

    @model_validator(mode="after")
    def _hsa_is_whole(self) -> DirectorySettings:
        _https("HSA_URL", self.hsa_url)
        _pair("HSA", self.hsa_client_cert_file, self.hsa_client_key_file)
        return self

    def hsa(self) -> Hsa | None:
        """HSA, if it is configured."""
        if self.hsa_url is None:
            return None
        return Hsa(
            url=self.hsa_url,
            logical_address=self.hsa_logical_address,
            certificate=_certificate(self.hsa_client_cert_file, self.hsa_client_key_file),
            authority=str(self.hsa_ca_file) if self.hsa_ca_file else None,
            timeout_seconds=self.hsa_timeout_seconds,
        )


class DirectoryWorkerSettings(ServiceSettings):
    """The worker: where the catalogues come from, and how much may be gone from them at once."""

    kiv_units: str = Field("", description="file paths or https addresses, comma-separated")
    kiv_staff: str = Field("", description="file paths or https addresses, comma-separated")
    kiv_client_cert_file: FilePath | None = Field(None, description="client certificate for KiV, PEM")
    kiv_client_key_file: FilePath | None = Field(None, description="its private key, PEM")
    kiv_ca_file: FilePath | None = Field(None, description="certificate authority of KiV, PEM; none: the system's")
    kiv_timeout_seconds: float = Field(30, gt=0)
    kiv_max_bytes: int = Field(1 << 31, gt=0)
    max_removed_share: float = Field(0.1, ge=0, lt=1, description="a run that lacks more of them changes nothing")
    poll_seconds: float = Field(0.5, gt=0, le=60)

    @model_validator(mode="after")
    def _kiv_is_whole(self) -> DirectoryWorkerSettings:
        for name, places in (("KIV_UNITS", self.kiv_units), ("KIV_STAFF", self.kiv_staff)):
            for place in _places(places):
                if "://" in place:
                    _https(name, place)
        _pair("KIV", self.kiv_client_cert_file, self.kiv_client_key_file)
        return self

    def sources(self) -> list[Source]:
        """The sources that are configured."""
        kiv = Kiv(
            unit_places=_places(self.kiv_units),
            staff_places=_places(self.kiv_staff),
            certificate=_certificate(self.kiv_client_cert_file, self.kiv_client_key_file),
            authority=str(self.kiv_ca_file) if self.kiv_ca_file else None,
            timeout_seconds=self.kiv_timeout_seconds,
            max_bytes=self.kiv_max_bytes,
        )
        return [kiv] if kiv.has_units or kiv.has_staff else []


def _places(value: str) -> tuple[str, ...]:
    return tuple(place for place in (part.strip() for part in value.split(",")) if place)


def _certificate(certificate: object, key: object) -> tuple[str, str] | None:
    return (str(certificate), str(key)) if certificate and key else None


def _https(name: str, address: str | None) -> None:
    if address is not None and not address.startswith("https://"):
        raise ValueError(f"{name} must be an https address")


def _pair(name: str, certificate: object, key: object) -> None:
    if bool(certificate) != bool(key):
        raise ValueError(f"{name}_CLIENT_CERT_FILE and {name}_CLIENT_KEY_FILE belong together")
