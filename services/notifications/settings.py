"""What the processes of notifications are told by their environment; README.md has the table."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, FilePath, field_validator

from services.notifications import addresses
from shared.operations.settings import ServiceSettings

_SENDER_NAME = re.compile(r"[A-Za-z0-9]{3,11}")


class NotificationsSettings(ServiceSettings):
    """For the service."""

    address_key_file: FilePath = Field(description="key of the address hashes: 32 bytes, base64")

    @field_validator("address_key_file")
    @classmethod
    def _is_key(cls, value: Path) -> Path:
        addresses.read_key(value)
        return value

    @property
    def address_key(self) -> bytes:
        return addresses.read_key(self.address_key_file)


class SenderSettings(NotificationsSettings):
    """For the sender."""

    smtp_host: str = Field(min_length=1, description="mail server that takes outgoing mail")
    smtp_port: int = Field(587, ge=1, le=65535)
    smtp_tls: Literal["starttls", "implicit", "none"] = "starttls"
    smtp_ca_file: FilePath | None = None
    smtp_user: str | None = None
    smtp_password_file: FilePath | None = None
    smtp_timeout_seconds: float = Field(20, gt=0, le=300)
    mail_from: str = Field(description="sender's address")
    mail_from_name: str = Field("E-tjänsterna på 1177", max_length=100)
    sms_url: str = Field(description="where an SMS is posted")
    sms_ca_file: FilePath | None = None
    sms_user: str = Field(description="user name at the SMS provider")
    sms_password_file: FilePath = Field(description="file with the password at the SMS provider")
    sms_sender: str = Field(description="3 to 11 letters and digits, or a number as +46...")
    sms_timeout_seconds: float = Field(20, gt=0, le=300)
    senders: int = Field(4, ge=1, le=10)
    send_batch: int = Field(20, ge=1, le=500)
    lease_seconds: float = Field(8, ge=1, le=300)
    idle_seconds: float = Field(0.25, gt=0, le=60)

    @property
    def lease(self) -> timedelta:
        """How long what a sender holds is its own without a sign of life."""
        return timedelta(seconds=self.lease_seconds)

    @field_validator("mail_from")
    @classmethod
    def _is_address(cls, value: str) -> str:
        try:
            return addresses.email(value)
        except addresses.NotAnAddress:
            raise ValueError("is no mail address") from None

    @field_validator("sms_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if not value.startswith(("https://", "http://")):
            raise ValueError("must begin with https:// or http://")
        return value

    @field_validator("sms_sender")
    @classmethod
    def _is_sender(cls, value: str) -> str:
        if not _SENDER_NAME.fullmatch(value):
            try:
                return addresses.mobile(value)
            except addresses.NotAnAddress:
                raise ValueError("is neither a sender's name nor a number") from None
        return value


def read_password(file: Path | None) -> str | None:
    """The one line of the file; read anew at each connection, so that a changed password needs no restart."""
    return file.read_text().strip() if file else None
