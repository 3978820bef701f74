"""What an SMS provider is sent, what its answers mean, and what its reports say: one class for each API.

46elks: form fields, basic authentication, a report address with each message. LINK Mobility (SMS REST API): JSON, basic
authentication, reports by a gate that LINK sets up. Any other: described by a file.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from services.notifications.channels.outcome import Accepted, NotAccepted, Outcome, Unknown
from services.notifications.providers import SmsProvider

Judgement = Literal["delivered", "undelivered", "on_its_way"]

_LONGEST_ID = 200


@dataclass(frozen=True)
class Message:
    """What is to be sent. `reference`: ours, given back in reports; `report_to`: where they are to be posted."""

    to: str
    text: str
    reference: str
    report_to: str | None = None


@dataclass(frozen=True)
class Report:
    """What became of an SMS; None: it does not say. `reference`: ours, where the report repeats it."""

    judgement: Judgement | None
    reference: str | None = None


class UnreadableReport(Exception):
    """It is no report of this API's."""


class SmsApi(Protocol):
    """One provider's way of talking."""

    def request(self, provider: SmsProvider, password: str, message: Message) -> dict[str, Any]:
        """What is posted, as arguments of `requests`."""

    def judge(self, told: Any) -> Outcome:
        """What an answer 2xx means; `told` is its body, from JSON."""

    def report(self, told: dict[str, Any]) -> Report:
        """What a report means; `told` are its fields. Raises `UnreadableReport`."""


def _basic(provider: SmsProvider, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{provider.user}:{password}".encode()).decode()}


def _text(value: object) -> str | None:
    return str(value)[:_LONGEST_ID] if isinstance(value, str | int) and not isinstance(value, bool) else None


class Elks46:
    """46elks: https://46elks.com/docs/send-sms and /docs/sms-delivery-reports."""

    def request(self, provider: SmsProvider, password: str, message: Message) -> dict[str, Any]:
        """`dontlog`: the provider is asked not to keep the text."""
        form = {"from": provider.sender, "to": message.to, "message": message.text, "dontlog": "message"}
        if message.report_to is not None:
            form["whendelivered"] = message.report_to
        return {"data": form, "headers": _basic(provider, password)}

    def judge(self, told: Any) -> Outcome:
        """`{"id": "s...", "status": "created"}`: taken."""
        if not isinstance(told, dict) or not isinstance(told.get("id"), str):
            return Unknown("sms_unintelligible_answer")
        if told.get("status") == "failed":
            return NotAccepted("sms_refused", permanent=True)
        return Accepted(told["id"][:_LONGEST_ID])

    def report(self, told: dict[str, Any]) -> Report:
        """`sent`, `delivered` or `failed`; whose report it is says the address that it comes to."""
        match told.get("status"):
            case "delivered":
                return Report("delivered")
            case "failed":
                return Report("undelivered")
            case "sent":
                return Report("on_its_way")
        raise UnreadableReport


class LinkMobility:
    """LINK Mobility's SMS REST API (MT and DLR). What the codes mean: its table "Result Codes SMS"."""

    _TAKEN = frozenset({1000, 1001, 1005, 1007, 1008, 1011, 1012, 1013})
    """1012 and 1013: the charging is late, and LINK itself goes on."""
    _NOT_NOW = frozenset({1, 3, 6, 104, 105})
    _ABOUT_US = frozenset({3, 104})
    """Too much from us, or the set-up: no other message would fare better."""
    _REFUSED = frozenset({2, *range(2000, 3000)})
    _UNDELIVERED = _REFUSED | {1002, 1003, 1004, 1006, 1009}
    _DELIVERED = frozenset({1001, 1007})

    def request(self, provider: SmsProvider, password: str, message: Message) -> dict[str, Any]:
        """The provider splits and encodes the text (`dcs`), and mirrors our `refId` in its report."""
        number = provider.sender.startswith("+")
        body: dict[str, Any] = {
            "source": provider.sender,
            "sourceTON": "MSISDN" if number else "ALPHANUMERIC",
            "destination": message.to,
            "destinationTON": "MSISDN",
            "dcs": "TEXT",
            "userData": message.text,
            "platformId": provider.platform_id,
            "platformPartnerId": provider.partner_id,
            "refId": message.reference,
            "useDeliveryReport": provider.gate is not None,
            "ignoreResponse": False,
        }
        if provider.gate is not None:
            body["deliveryReportGates"] = [provider.gate]
        return {"json": body, "headers": _basic(provider, password)}

    def judge(self, told: Any) -> Outcome:
        """`{"messageId": "...", "resultCode": 1005}`: taken. Other codes say what went wrong, and for how long; at one
        that is not known here it may have been taken."""
        code = told.get("resultCode") if isinstance(told, dict) else None
        if not isinstance(code, int) or isinstance(code, bool):
            return Unknown("sms_unintelligible_answer")
        if code in self._TAKEN:
            return Accepted(_text(told.get("messageId")))
        if code in self._NOT_NOW:
            return NotAccepted(f"sms_result_{code}", provider_down=code in self._ABOUT_US)
        return (
            NotAccepted(f"sms_result_{code}", permanent=True)
            if code in self._REFUSED
            else Unknown(f"sms_result_{code}")
        )

    def report(self, told: dict[str, Any]) -> Report:
        """By `resultCode`; whose report it is says `refId`. A code that is not known here says nothing."""
        code, reference = told.get("resultCode"), _text(told.get("refId"))
        if isinstance(code, str) and code.isdecimal() and len(code) < 10:
            code = int(code)
        if not isinstance(code, int) or isinstance(code, bool) or reference is None:
            raise UnreadableReport
        if code in self._DELIVERED:
            return Report("delivered", reference)
        if code in self._TAKEN:
            return Report("on_its_way", reference)
        return Report("undelivered" if code in self._UNDELIVERED else None, reference)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AnswerDescription(_Part):
    """Where in the answer the id is, and which values of another field mean that it was not taken."""

    id: str
    status: str | None = None
    refused: list[str] = Field(default_factory=list)
    refused_for_now: list[str] = Field(default_factory=list)


class ReportDescription(_Part):
    """Where in a report our reference and the status are, and what the values of that mean."""

    status: str
    delivered: list[str]
    undelivered: list[str]
    on_its_way: list[str] = Field(default_factory=list)
    reference: str | None = None


class Description(_Part):
    """A provider's API: fields with $sender, $to, $text, $reference and $report_to in them, and what comes back.

    Places in answers and reports are written as `messages.0.id`.
    """

    format: Literal["form", "json"]
    fields: dict[str, Any]
    authentication: Literal["basic", "bearer", "header"] = "basic"
    header: str = "X-API-Key"
    answer: AnswerDescription
    report: ReportDescription | None = None


class Generic:
    """By a description."""

    def __init__(self, description: Description) -> None:
        self._description = description

    @classmethod
    def from_file(cls, file: Path) -> Generic:
        """Raises ValueError for what describes nothing."""
        return cls(Description.model_validate_json(file.read_bytes()))

    def request(self, provider: SmsProvider, password: str, message: Message) -> dict[str, Any]:
        """The fields filled in; one that would hold nothing but a report address that there is none of is left out."""
        known = {
            "sender": provider.sender,
            "to": message.to,
            "text": message.text,
            "reference": message.reference,
            "report_to": message.report_to or "",
        }
        fields = _filled(self._description.fields, known)
        match self._description.authentication:
            case "basic":
                headers = _basic(provider, password)
            case "bearer":
                headers = {"Authorization": f"Bearer {password}"}
            case "header":
                headers = {self._description.header: password}
        return {"json" if self._description.format == "json" else "data": fields, "headers": headers}

    def judge(self, told: Any) -> Outcome:
        """An id where it should be, and no status that says no: taken."""
        answer = self._description.answer
        status = _text(_at(told, answer.status)) if answer.status else None
        if status in answer.refused:
            return NotAccepted("sms_refused", permanent=True)
        if status in answer.refused_for_now:
            return NotAccepted("sms_refused_for_now")
        found = _text(_at(told, answer.id))
        return Accepted(found) if found else Unknown("sms_unintelligible_answer")

    def report(self, told: dict[str, Any]) -> Report:
        """By the values that the description names; any other says nothing."""
        report = self._description.report
        status = _text(_at(told, report.status)) if report else None
        if report is None or status is None:
            raise UnreadableReport
        reference = _text(_at(told, report.reference)) if report.reference else None
        if status in report.delivered:
            return Report("delivered", reference)
        if status in report.on_its_way:
            return Report("on_its_way", reference)
        return Report("undelivered" if status in report.undelivered else None, reference)


def api_of(name: str, description_file: Path | None) -> SmsApi:
    """The way of talking of this name. Raises ValueError if it needs a description and that can't be used."""
    if name == "link_mobility":
        return LinkMobility()
    if name == "generic":
        if description_file is None:
            raise ValueError("the generic SMS API needs a description file")
        return Generic.from_file(description_file)
    return Elks46()


def _filled(shape: Any, known: dict[str, str]) -> Any:
    if isinstance(shape, dict):
        filled = {key: _filled(one, known) for key, one in shape.items()}
        return {key: one for key, one in filled.items() if not (one == "" and shape[key] == "$report_to")}
    if isinstance(shape, list):
        return [_filled(one, known) for one in shape]
    return Template(shape).safe_substitute(known) if isinstance(shape, str) else shape


def _at(told: Any, place: str) -> Any:
    for step in place.split("."):
        if isinstance(told, dict):
            told = told.get(step)
        elif isinstance(told, list) and step.isdecimal() and int(step) < len(told):
            told = told[int(step)]
        else:
            return None
    return told
