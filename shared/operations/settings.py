"""What a process is told by its environment, checked before anything else happens."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn, TypeVar

from pydantic import Field, FilePath, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

EXIT_CONFIGURATION = 78  # EX_CONFIG of sysexits.h


class ServiceSettings(BaseSettings):
    """What every process of a service needs. Each field is an environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    amqp_url: str = Field(description="the broker: amqp(s)://user:password@host:port/vhost")
    amqp_ca_file: FilePath | None = Field(None, description="certificate authority of the broker, for amqps")
    database_url: str = Field(description="this service's own database: postgresql://user:password@host:port/name")
    signing_key_file: FilePath = Field(description="this service's private Ed25519 key, PEM")
    trusted_keys_file: FilePath = Field(description="public keys of all issuers of tokens, a JWK set")
    data_keys_file: FilePath = Field(description="key ring for sealing at rest, JSON")
    health_host: str = "127.0.0.1"
    health_port: int = Field(0, ge=0, le=65535, description="0: any free port")
    max_workers: int = Field(64, ge=1, le=1000, description="calls and events handled at once")
    clock_file: Path | None = Field(None, description="local stack and tests only: moves the time")

    @field_validator("amqp_url")
    @classmethod
    def _is_broker(cls, value: str) -> str:
        if not value.startswith(("amqp://", "amqps://")):
            raise ValueError("must begin with amqp:// or amqps://")
        return value

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: str) -> str:
        if not value.startswith(("postgresql://", "postgresql+psycopg://")):
            raise ValueError("must begin with postgresql://")
        return value


Settings = TypeVar("Settings", bound=ServiceSettings)


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
        return read(kind)
    except SettingsError as error:
        _leave(str(error))


def _leave(text: str) -> NoReturn:
    print(text, file=sys.stderr, flush=True)
    sys.exit(EXIT_CONFIGURATION)
