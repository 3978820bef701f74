"""When a provider is left alone, and what the SMS APIs make of messages, answers and reports."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.notifications import rules
from services.notifications.channels.outcome import Accepted, NotAccepted, Unknown
from services.notifications.channels.sms_apis import Elks46, Generic, LinkMobility, Message, UnreadableReport, api_of
from services.notifications.providers import Circuit, MailServer, SmsProvider
from services.notifications.settings import SenderSettings
from services.notifications.worker import providers_of
from shared.contracts.notifications import Channel
from shared.operations.settings import SettingsError, read

SENT = Message("+46701740605", "Text", "5b9e3a0e.0", "https://x.example/report")
DESCRIPTION = {
    "format": "json",
    "fields": {
        "messages": [{"from": "$sender", "to": "$to", "body": "$text", "ref": "$reference", "hook": "$report_to"}],
        "flash": False,
    },
    "authentication": "bearer",
    "answer": {
        "id": "messages.0.id", "status": "messages.0.status", "refused": ["invalid"], "refused_for_now": ["busy"],
    },
    "report": {
        "status": "result", "delivered": ["DLV"], "undelivered": ["ERR"], "on_its_way": ["SNT"], "reference": "ref",
    },
}  # fmt: skip


def provider(**changes: Any) -> SmsProvider:
    facts: dict[str, Any] = {"url": "https://sms.example/send", "user": "u", "sender": "Vard"}
    facts["password_file"] = Path("p")
    return SmsProvider(**facts | changes)


# --- the circuit ----------------------------------------------------------------------------------------------------


def test_a_circuit_opens_after_failures_in_a_row_and_lets_one_through_after_each_pause() -> None:
    now = 0.0
    circuit = Circuit(now=lambda: now)
    for _ in range(rules.CIRCUIT_OPENS_AFTER):
        assert circuit.lets_through()
        circuit.tell(failed=True)
    assert not circuit.lets_through()
    assert circuit.opens_in() == 1.0
    now = 1.0
    assert circuit.lets_through()
    assert not circuit.lets_through()  # one at a time
    circuit.tell(failed=True)
    assert circuit.opens_in() == 2.0
    now = 3.0
    assert circuit.lets_through()
    circuit.tell(failed=False)
    assert circuit.opens_in() == 0.0
    assert circuit.lets_through()
    assert circuit.lets_through()


def test_a_trial_that_was_not_made_is_there_for_the_next() -> None:
    """R-NOT-7: a provider that is back is not left alone for another pause."""
    now = 0.0
    circuit = Circuit(now=lambda: now)
    circuit.give_back()
    assert circuit.lets_through()
    for _ in range(rules.CIRCUIT_OPENS_AFTER):
        circuit.tell(failed=True)
    now = 1.0
    assert circuit.lets_through()
    assert circuit.opens_in() == 1.0
    circuit.give_back()
    assert circuit.opens_in() == 0.0
    assert circuit.lets_through()


def test_failures_that_are_not_in_a_row_leave_it_closed_and_pauses_end_at_a_minute() -> None:
    circuit = Circuit(now=lambda: 0.0)
    for number in range(20):
        circuit.tell(failed=number % 3 != 0)
        assert circuit.lets_through()
    for _ in range(50):
        circuit.tell(failed=True)
    assert circuit.opens_in() == 60.0


# --- the APIs -------------------------------------------------------------------------------------------------------


def test_two_providers_on_one_host_are_told_apart() -> None:
    """R-NOT-7: by port or by account they are two, each with its own conversation and pace."""
    mail = [MailServer("smtp.example", "a@example.se", port=port) for port in (587, 465)]
    sms = [SmsProvider("https://api.example/sms", user, Path("x"), "Namn") for user in ("one", "two", "three")]
    found = providers_of(cast(Any, SimpleNamespace(mail_servers=mail, sms_providers=sms)))
    assert [one.name for one in found[Channel.EMAIL]] == ["smtp.example", "smtp.example (2)"]
    assert [one.name for one in found[Channel.SMS]] == ["api.example", "api.example (2)", "api.example (3)"]


def test_46elks_gets_a_form_and_tells_by_status() -> None:
    asked = Elks46().request(provider(), "hemligt", SENT)
    assert asked["data"] == {
        "from": "Vard",
        "to": SENT.to,
        "message": "Text",
        "dontlog": "message",
        "whendelivered": SENT.report_to,
    }
    assert asked["headers"]["Authorization"] == "Basic " + base64.b64encode(b"u:hemligt").decode()
    assert Elks46().judge({"id": "s1", "status": "created"}) == Accepted("s1")
    assert Elks46().judge({"id": "s1", "status": "failed"}) == NotAccepted("sms_refused", permanent=True)
    assert Elks46().judge(["s1"]) == Unknown("sms_unintelligible_answer")
    for status, judgement in (("sent", "on_its_way"), ("delivered", "delivered"), ("failed", "undelivered")):
        assert Elks46().report({"id": "s1", "status": status}).judgement == judgement


@pytest.mark.parametrize(("sender", "kind"), [("Vard", "ALPHANUMERIC"), ("+46701740605", "MSISDN")])
def test_link_gets_json_with_our_reference(sender: str, kind: str) -> None:
    asked = LinkMobility().request(
        provider(api="link_mobility", platform_id="P", partner_id="Q", gate="G", sender=sender), "hemligt", SENT
    )
    assert asked["json"] == {
        "source": sender,
        "sourceTON": kind,
        "destination": SENT.to,
        "destinationTON": "MSISDN",
        "dcs": "TEXT",
        "userData": "Text",
        "platformId": "P",
        "platformPartnerId": "Q",
        "refId": SENT.reference,
        "useDeliveryReport": True,
        "ignoreResponse": False,
        "deliveryReportGates": ["G"],
    }


@pytest.mark.parametrize(
    ("told", "outcome"),
    [
        ({"messageId": "Dcs", "resultCode": 1005, "description": "Queued"}, Accepted("Dcs")),
        ({"messageId": "Dcs", "resultCode": 3}, NotAccepted("sms_result_3", provider_down=True)),
        ({"resultCode": 1}, NotAccepted("sms_result_1")),
        ({"resultCode": 2106}, NotAccepted("sms_result_2106", permanent=True)),
        ({"resultCode": 4}, Unknown("sms_result_4")),
        ({"resultCode": 0}, Unknown("sms_result_0")),
        ({"resultCode": 9999}, Unknown("sms_result_9999")),
        ({"messageId": "Dcs", "resultCode": 1012}, Accepted("Dcs")),
        ({"messageId": "Dcs", "resultCode": 1013}, Accepted("Dcs")),
        ({"resultCode": 1014}, Unknown("sms_result_1014")),
        ({"resultCode": 6}, NotAccepted("sms_result_6")),
        ({"resultCode": 104}, NotAccepted("sms_result_104", provider_down=True)),
        ({"resultCode": "1005"}, Unknown("sms_unintelligible_answer")),
        ({"resultCode": True}, Unknown("sms_unintelligible_answer")),
        (None, Unknown("sms_unintelligible_answer")),
    ],
)
def test_what_links_result_codes_mean(told: Any, outcome: Any) -> None:
    """R-NOT-7."""
    assert LinkMobility().judge(told) == outcome


@pytest.mark.parametrize(
    ("code", "judgement"),
    [
        (1001, "delivered"),
        ("1001", "delivered"),
        (1000, "on_its_way"),
        (1012, "on_its_way"),
        (4, None),
        (1010, None),
        (1013, "on_its_way"),
        (1014, None),
        (9999, None),
        (2106, "undelivered"),
    ],
)
def test_what_links_reports_mean(code: Any, judgement: str) -> None:
    report = LinkMobility().report({"refId": SENT.reference, "id": "Dcs", "resultCode": code})
    assert (report.judgement, report.reference) == (judgement, SENT.reference)


@pytest.mark.parametrize("told", [{}, {"refId": "x"}, {"resultCode": 1001}, {"refId": None, "resultCode": 1001}])
def test_what_is_no_report_of_links_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises(UnreadableReport):
        LinkMobility().report(told)


def test_any_other_api_is_described_by_a_file(tmp_path: Path) -> None:
    file = tmp_path / "description.json"
    file.write_text(json.dumps(DESCRIPTION))
    api = api_of("generic", file)
    asked = api.request(provider(), "hemligt", SENT)
    [message] = asked["json"]["messages"]
    assert message == {"from": "Vard", "to": SENT.to, "body": "Text", "ref": SENT.reference, "hook": SENT.report_to}
    assert asked["headers"] == {"Authorization": "Bearer hemligt"}
    without = api.request(provider(), "hemligt", Message(SENT.to, "$to", SENT.reference))
    assert "hook" not in without["json"]["messages"][0]
    assert without["json"]["messages"][0]["body"] == "$to"  # what is filled in is not filled in again
    assert api.judge({"messages": [{"id": 17, "status": "ok"}]}) == Accepted("17")
    assert api.judge({"messages": [{"status": "invalid"}]}) == NotAccepted("sms_refused", permanent=True)
    assert api.judge({"messages": [{"status": "busy"}]}) == NotAccepted("sms_refused_for_now")
    assert api.judge({"messages": []}) == Unknown("sms_unintelligible_answer")
    assert api.report({"result": "DLV", "ref": "r"}).judgement == "delivered"
    assert api.report({"result": "ERR", "ref": "r"}).reference == "r"
    assert api.report({"result": "SNT", "ref": "r"}).judgement == "on_its_way"
    assert api.report({"result": "?", "ref": "r"}).judgement is None
    with pytest.raises(UnreadableReport):
        api.report({"ref": "r"})
    with pytest.raises(ValueError):
        Generic.from_file(_written(tmp_path, {**DESCRIPTION, "format": "xml"}))


def _written(folder: Path, value: Any) -> Path:
    file = folder / "other.json"
    file.write_text(json.dumps(value))
    return file


def test_a_second_provider_and_a_description_are_checked_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SECOND_SMS_FILE": {"url": "ftp://x", "secret": "hemligt"}, "SECOND_SMTP_FILE": []}.items():
        file = tmp_path / name
        file.write_text(json.dumps(value))
        monkeypatch.setenv(name, str(file))
    with pytest.raises(SettingsError) as raised:
        read(SenderSettings)
    assert "SECOND_SMS_FILE describes no SmsProvider" in str(raised.value)
    assert "SECOND_SMTP_FILE describes no MailServer" in str(raised.value)
    assert "hemligt" not in str(raised.value)


_MAIL_SERVER = {"host": "smtp.example", "sender": "no-reply@e-tjanster.example", "timeout": 5, "per_second": 2}


@pytest.mark.parametrize(
    ("second", "fault"),
    [
        ("SECOND_SMTP_FILE", {}),
        ("SECOND_SMTP_FILE", {"host": ""}),
        ("SECOND_SMTP_FILE", {"sender": "Hej <no-reply@e-tjanster.example>"}),
        ("SECOND_SMTP_FILE", {"sender": ""}),
        ("SECOND_SMTP_FILE", {"sender_name": "E-tj\nBcc: x"}),
        ("SECOND_SMTP_FILE", {"settings_page": "https://personal.example/\n"}),
        ("SECOND_SMTP_FILE", {"port": 0}),
        ("SECOND_SMTP_FILE", {"timeout": 0}),
        ("SECOND_SMTP_FILE", {"per_second": 0}),
        ("SECOND_SMTP_FILE", {"ca_file": "/nowhere"}),
        ("SECOND_SMTP_FILE", {"password_file": "/nowhere"}),
        ("SECOND_SMS_FILE", {}),
        ("SECOND_SMS_FILE", {"url": "ftp://sms.example"}),
        ("SECOND_SMS_FILE", {"sender": "a sender with a long name"}),
        ("SECOND_SMS_FILE", {"timeout": -1}),
        ("SECOND_SMS_FILE", {"per_second": 0}),
        ("SECOND_SMS_FILE", {"ca_file": "/nowhere"}),
        ("SECOND_SMS_FILE", {"password_file": "/nowhere"}),
    ],
)
def test_r_not_7_the_second_provider_is_checked_at_start_as_the_first_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: str, fault: dict[str, Any]
) -> None:
    """R-NOT-7: when it is needed is too late to find out."""
    password = _written(tmp_path, "hemligt")
    whole = _MAIL_SERVER | {"password_file": str(password)}
    if second == "SECOND_SMS_FILE":
        whole = {"url": "https://sms.example", "user": "u", "password_file": str(password), "sender": "Vard"}
    file = tmp_path / "second.json"
    file.write_text(json.dumps(whole | fault))
    monkeypatch.setenv(second, str(file))
    with pytest.raises(SettingsError) as raised:  # the first's are not set at all
        read(SenderSettings)
    assert (f"  {second} " in str(raised.value)) == bool(fault)


@pytest.mark.parametrize(
    ("name", "value"), [("MAIL_FROM_NAME", "E-tj\nBcc: x"), ("STAFF_SETTINGS_URL", "https://personal.example/\nx")]
)
def test_r_not_7_what_no_mail_could_be_put_together_with_is_found_at_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        read(SenderSettings)
    assert f"  {name} " in str(raised.value)
