"""What a process is told by its environment, checked before anything else happens."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import NoReturn, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import Field, FilePath, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.security.sealing import Sealer
from shared.security.tokens import Signer, Verifier

EXIT_CONFIGURATION = 78  # EX_CONFIG of sysexits.h
STRONG_LENGTH = 20
_STRONG_VARIETY = 8


class DatabaseSettings(BaseSettings):
    """What whoever uses a service's database needs."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    database_password_file: FilePath | None = Field(
        None, description="file with the password that DATABASE_URL leaves out"
    )
    database_url: str = Field(description="this service's own database: postgresql://user:password@host:port/name")

    @field_validator("database_password_file")
    @classmethod
    def _is_strong(cls, value: Path | None) -> Path | None:
        return strong_file(value)

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: str, others: ValidationInfo) -> str:
        _address(value, ("postgresql", "postgresql+psycopg"))
        return with_password(value, others.data.get("database_password_file"))


class ProcessSettings(DatabaseSettings):
    """What every process needs. Each field is an environment variable of the same name in capitals."""

    health_host: str = "127.0.0.1"
    health_port: int = Field(0, ge=0, le=65535, description="0: any free port")
    clock_file: Path | None = Field(None, description="local stack and tests only: moves the time")


class ServiceSettings(ProcessSettings):
    """What a process needs that speaks for its service by the broker."""

    amqp_password_file: FilePath | None = Field(None, description="file with the password that AMQP_URL leaves out")
    amqp_url: str = Field(description="the broker: amqp(s)://user:password@host:port/vhost")
    amqp_ca_file: FilePath | None = Field(None, description="certificate authority of the broker, for amqps")
    signing_key_file: FilePath = Field(description="this service's private Ed25519 key, PEM")
    trusted_keys_file: FilePath = Field(description="public keys of all issuers of tokens, a JWK set")
    data_keys_file: FilePath = Field(description="key ring for sealing at rest, JSON")
    max_workers: int = Field(64, ge=1, le=1000, description="calls and events handled at once")

    @field_validator("amqp_password_file")
    @classmethod
    def _is_strong_too(cls, value: Path | None) -> Path | None:
        return strong_file(value)

    @field_validator("amqp_url")
    @classmethod
    def _is_broker(cls, value: str, others: ValidationInfo) -> str:
        _address(value, ("amqp", "amqps"))
        return with_password(value, others.data.get("amqp_password_file"))

    @field_validator("signing_key_file")
    @classmethod
    def _is_a_private_key(cls, path: Path) -> Path:
        try:
            Signer.from_file(path, "service")
        except (ValueError, TypeError, OSError):
            raise ValueError("is not a private Ed25519 key in PEM") from None
        return path

    @field_validator("trusted_keys_file")
    @classmethod
    def _are_public_keys(cls, path: Path) -> Path:
        Verifier(path)
        return path

    @field_validator("data_keys_file")
    @classmethod
    def _is_a_key_ring(cls, path: Path) -> Path:
        Sealer.from_file(path)
        return path


def require_strong(password: str) -> None:
    """Raises ValueError for a password that is not long and varied enough."""
    if len(password) < STRONG_LENGTH or len(set(password)) < _STRONG_VARIETY:
        raise ValueError(f"holds a weak password: at least {STRONG_LENGTH} characters, made at random")


def strong_file(path: Path | None) -> Path | None:
    """The file with a password, if it is a strong one. Raises ValueError."""
    if path is not None:
        require_strong(path.read_text().strip())
    return path


def with_password(address: str, file: Path | None) -> str:
    """The address with the password of the file, where it has none itself. Raises ValueError."""
    parts = urlsplit(address)
    if file is None or parts.password is not None:
        return address
    if not parts.username:
        raise ValueError("names no user for the password of the file")
    return address.replace(f"{parts.username}@", f"{parts.username}:{quote(file.read_text().strip(), safe='')}@", 1)


def _address(value: str, schemes: tuple[str, ...]) -> None:
    """Raises ValueError for what is no such address, without a piece of it: it holds a password."""
    try:
        parts = urlsplit(value)
        fits = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"must look like {schemes[0]}://user:password@host:port/name, special characters as %XX")


Settings = TypeVar("Settings", bound=DatabaseSettings)


class SettingsError(Exception):
    """One or more settings are missing or wrong; the text has a line for each, and no values."""


def read(kind: type[Settings]) -> Settings:
    """Reads and checks them all. Raises `SettingsError` that tells every fault at once."""
    try:
        return kind()
    except ValidationError as error:
        lines = []
        for fault in error.errors(include_input=False, include_url=False):
            name = str(fault["loc"][0]) if fault["loc"] else "?"
            about = kind.model_fields[name].description if name in kind.model_fields else None
            problem = "is not set" if fault["type"] == "missing" else fault["msg"].removeprefix("Value error, ")
            lines.append(f"  {name.upper()} {problem}" + (f" ({about})" if about else ""))
        raise SettingsError("settings to mend in the environment:\n" + "\n".join(lines)) from None


def read_or_exit(kind: type[Settings]) -> Settings:
    """As `read`; tells the faults on standard error and ends the process with status 78."""
    try:
        settings = read(kind)
    except SettingsError as error:
        _leave(str(error))
    if isinstance(settings, ProcessSettings):
        try:
            socket.create_server((settings.health_host, settings.health_port)).close()
        except OSError as error:
            _leave(f"HEALTH_HOST and HEALTH_PORT: nothing can listen there ({error.strerror})")
    return settings


def _leave(text: str) -> NoReturn:
    print(text, file=sys.stderr, flush=True)
    sys.exit(EXIT_CONFIGURATION)
