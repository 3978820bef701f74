"""What the processes of notifications are told by their environment; README.md has the table."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import Field, FilePath, TypeAdapter, field_validator, model_validator

from services.notifications import addresses
from services.notifications.channels.sms_apis import SmsApi, api_of
from services.notifications.providers import (
    Host,
    MailAddress,
    MailName,
    MailServer,
    PerSecond,
    Port,
    Seconds,
    SmsProvider,
    SmsSender,
    WebAddress,
)
from shared.operations.settings import ProcessSettings, ServiceSettings, strong_file

Provider = TypeVar("Provider", MailServer, SmsProvider)


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


class ReportSettings(ProcessSettings):
    """For those who give out addresses for reports, or take the reports in."""

    report_key_file: FilePath = Field(description="key of the signatures in addresses for reports: 32 bytes, base64")
    sms_api: Literal["46elks", "link_mobility", "generic"] = "46elks"
    sms_description_file: FilePath | None = Field(None, description="JSON: the API, if it is `generic`")
    second_sms_file: FilePath | None = Field(None, description="JSON: an SMS provider for when the first is down")

    @field_validator("report_key_file")
    @classmethod
    def _is_signing_key(cls, value: Path) -> Path:
        addresses.read_key(value)
        return value

    @property
    def report_key(self) -> bytes:
        return addresses.read_key(self.report_key_file)

    @field_validator("second_sms_file")
    @classmethod
    def _is_sms_provider(cls, value: Path | None) -> Path | None:
        for provider in _second(SmsProvider, value):
            _api(provider.api, provider.description_file)
        return value

    @model_validator(mode="after")
    def _first_is_known(self) -> Self:
        _api(self.sms_api, self.sms_description_file)
        return self

    @property
    def sms_apis(self) -> list[SmsApi]:
        """How the first provider talks, and the second if there is one."""
        second = _second(SmsProvider, self.second_sms_file)
        return [
            _api(self.sms_api, self.sms_description_file),
            *(_api(one.api, one.description_file) for one in second),
        ]


class WebSettings(ReportSettings):
    """For the webhook: it is the one that the internet reaches, and has no key of the service's but that of reports."""

    web_host: str = "127.0.0.1"
    web_port: int = Field(ge=0, le=65535, description="where providers' reports are taken; 0: any free port")
    web_cert_file: FilePath | None = Field(None, description="certificate and those above it, PEM; none: no TLS")
    web_key_file: FilePath | None = None
    report_password_file: FilePath | None = Field(
        None, description="the secret shared with those who report to one address; none: they are refused"
    )

    @field_validator("report_password_file")
    @classmethod
    def _is_strong_secret(cls, value: Path | None) -> Path | None:
        return strong_file(value)


class SenderSettings(ReportSettings, NotificationsSettings):
    """For the sender."""

    smtp_host: Host = Field(description="mail server that takes outgoing mail")
    smtp_port: Port = 587
    smtp_tls: Literal["starttls", "implicit", "none"] = "starttls"
    smtp_ca_file: FilePath | None = None
    smtp_user: str | None = None
    smtp_password_file: FilePath | None = None
    smtp_timeout_seconds: Seconds = 20
    mail_from: MailAddress = Field(description="sender's address")
    mail_from_name: MailName = "E-tjänsterna på 1177"
    staff_settings_url: WebAddress | None = Field(None, description="where staff change what they are told of")
    smtp_per_second: PerSecond | None = Field(None, description="at most so many mails a second, from all senders")
    second_smtp_file: FilePath | None = Field(None, description="JSON: a mail server for when the first is down")
    sms_url: WebAddress = Field(description="where an SMS is posted")
    sms_ca_file: FilePath | None = None
    sms_user: str = Field(description="user name at the SMS provider")
    sms_password_file: FilePath = Field(description="file with the password at the SMS provider")
    sms_sender: SmsSender = Field(description="3 to 11 letters and digits, or a number as +46...")
    sms_timeout_seconds: Seconds = 20
    sms_per_second: PerSecond | None = Field(None, description="at most so many SMS a second, from all senders")
    sms_platform_id: str | None = Field(None, description="LINK Mobility's")
    sms_partner_id: str | None = Field(None, description="LINK Mobility's")
    sms_gate: str | None = Field(None, description="LINK Mobility's, for reports")
    reports_url: str | None = Field(None, description="where SMS providers reach the webhook; none: no reports")
    senders: int = Field(4, ge=1, le=10)
    send_batch: int = Field(20, ge=1, le=500)
    lease_seconds: float = Field(8, ge=1, le=300)
    idle_seconds: float = Field(0.25, gt=0, le=60)

    @property
    def mail_servers(self) -> list[MailServer]:
        """The first choice, and the second if there is one."""
        first = MailServer(
            host=self.smtp_host,
            sender=self.mail_from,
            port=self.smtp_port,
            tls=self.smtp_tls,
            ca_file=self.smtp_ca_file,
            user=self.smtp_user,
            password_file=self.smtp_password_file,
            timeout=self.smtp_timeout_seconds,
            sender_name=self.mail_from_name,
            settings_page=self.staff_settings_url,
            per_second=self.smtp_per_second,
        )
        return [first, *_second(MailServer, self.second_smtp_file)]

    @property
    def sms_providers(self) -> list[SmsProvider]:
        """The first choice, and the second if there is one."""
        first = SmsProvider(
            url=self.sms_url,
            user=self.sms_user,
            password_file=self.sms_password_file,
            sender=self.sms_sender,
            api=self.sms_api,
            ca_file=self.sms_ca_file,
            timeout=self.sms_timeout_seconds,
            per_second=self.sms_per_second,
            platform_id=self.sms_platform_id,
            partner_id=self.sms_partner_id,
            gate=self.sms_gate,
            description_file=self.sms_description_file,
        )
        return [first, *_second(SmsProvider, self.second_sms_file)]

    @field_validator("second_smtp_file")
    @classmethod
    def _is_mail_server(cls, value: Path | None) -> Path | None:
        for one in _second(MailServer, value):
            _require_files(one.ca_file, one.password_file)
        return value

    @field_validator("second_sms_file")
    @classmethod
    def _has_its_files(cls, value: Path | None) -> Path | None:
        """Here, and not where only its reports are taken in: the webhook has no passwords."""
        for one in _second(SmsProvider, value):
            _require_files(one.ca_file, one.password_file)
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        assert self.sms_providers
        return self

    @property
    def lease(self) -> timedelta:
        """How long what a sender holds is its own without a sign of life."""
        return timedelta(seconds=self.lease_seconds)


def _second(kind: type[Provider], file: Path | None) -> list[Provider]:
    """Raises ValueError for a file that describes no such provider, without a piece of it."""
    if file is None:
        return []
    try:
        return [TypeAdapter(kind).validate_json(file.read_bytes())]
    except (ValueError, OSError):
        raise ValueError(f"describes no {kind.__name__}") from None


def _require_files(*files: Path | None) -> None:
    if not all(file is None or file.is_file() for file in files):
        raise ValueError("names a file that does not exist")


def _api(api: str, description_file: Path | None) -> SmsApi:
    try:
        return api_of(api, description_file)
    except (ValueError, OSError):
        raise ValueError("the description of the SMS API can't be used") from None
