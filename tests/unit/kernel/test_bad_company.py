"""Odd input that the kernel's parts meet: each answers in its own way, none raises what nobody expects."""

import math
from typing import Annotated
from uuid import uuid4

import pytest

from shared.contracts.base import Command, Text
from shared.messaging.errors import Forbidden, Internal, from_the_wire
from shared.messaging.events import BY_A_DETOUR, kind_of
from shared.messaging.link import Delivery
from shared.messaging.server import fingerprint
from shared.operations import clock
from shared.operations.settings import ServiceSettings, SettingsError, read
from shared.security.rights import Freshness
from shared.security.tokens import Signer
from tests.unit.kernel.test_tokens import keys, resident, verifier, write_keys  # noqa: F401 - fixtures


@pytest.mark.parametrize(
    "error",
    [{}, {"exc_type": 7}, {"exc_args": 5}, {"exc_args": [{"fields": 3}]}, {"exc_args": [{"fields": [1, 2]}]},
     {"exc_type": "NoSuchError", "exc_args": ["text"]}, {"exc_args": [[]]}],
)  # fmt: skip
def test_an_error_that_is_none_of_ours_is_internal(error):
    assert isinstance(from_the_wire(error), Internal)


def test_an_error_comes_through_the_wire_as_it_was():
    sent = Forbidden("Nej.", reason="role_missing", fields=[("clinic", "är fel")])
    got = from_the_wire(sent.on_the_wire())
    assert (type(got), got.message, got.reason, got.fields) == (Forbidden, "Nej.", "role_missing", sent.fields)


def test_a_repeated_request_is_the_same_after_the_contract_got_another_field_R_CASE_17():
    class Before(Command):
        """Before."""

        text: Annotated[str, Text(10)]

    class After(Before):
        """After."""

        more: int = 7

    first = Before(request_id=uuid4(), text="a")
    assert fingerprint(first) == fingerprint(After(request_id=uuid4(), text="a"))
    assert fingerprint(first) != fingerprint(After(request_id=uuid4(), text="a", more=8))


@pytest.mark.parametrize(("number", "sent"), [(1, math.nan), (1, math.inf), (-1, 5.0), (2**63, 5.0)])
def test_an_announcement_that_can_not_be_one_changes_nothing_R_ID_10(number, sent):
    freshness = Freshness()
    with pytest.raises(ValueError, match="no announcement"):
        freshness.hear(number, "a", sent, 5.0)
    for turn in range(4):
        freshness.hear(3, "a", 10.0 + turn / 4, 10.0 + turn / 4)
    assert freshness.covers(3, 10.8)


@pytest.mark.parametrize(
    "deaths",
    [
        None,
        5,
        [],
        [5],
        [{}],
        [{"routing-keys": 5}],
        [{"routing-keys": []}],
        {"a": 1},
        [{"queue": "events.a", "exchange": 5, "routing-keys": [7]}],
        [{"queue": "events.b", "exchange": "identity.events", "routing-keys": ["rights_changed"]}],
    ],
)
def test_a_message_that_was_given_up_in_an_odd_way_is_nobodys_event(deaths):
    assert _kind("", "dead.a", deaths, "a.b") == BY_A_DETOUR


@pytest.mark.parametrize(
    ("exchange", "key", "deaths", "kind"),
    [
        ("cases.events", "case_started", None, "cases.case_started"),
        ("a.again", "events.a", None, "identity.rights_changed"),  # its own word, which nobody else can give
        ("", "events.a", [{"queue": "events.a.delay.1000", "exchange": "a.again"}], "identity.rights_changed"),
        ("", "dead.a", [{"queue": "events.a", "exchange": "cases.events", "routing-keys": ["x"]}], "cases.x"),
        (
            "",
            "dead.a",
            [{"queue": "events.a", "exchange": "", "routing-keys": ["events.a"]}],
            "identity.rights_changed",
        ),
        ("cases.events", "x", [{"queue": "events.a", "exchange": "identity.events"}], BY_A_DETOUR),
        ("rpc.reply-cases.1", "rights_changed", None, BY_A_DETOUR),
        ("b.again", "events.a", None, BY_A_DETOUR),
        ("", "dead.b", [{"queue": "events.a", "exchange": "cases.events", "routing-keys": ["x"]}], BY_A_DETOUR),
        ("", "rpc-a", None, BY_A_DETOUR),
    ],
)
def test_what_an_event_is_follows_from_the_way_that_it_took(exchange, key, deaths, kind):
    assert _kind(exchange, key, deaths, "identity.rights_changed") == kind


def _kind(exchange, key, deaths, kind):
    properties = {"application_headers": {"x-death": deaths}, "type": kind}
    return kind_of(Delivery(1, 1, b"", key, exchange, False, properties, 0.0), "a")


def test_keys_that_are_just_being_written_leave_those_that_were(keys, verifier, tmp_path):  # noqa: F811
    token = Signer(keys["identity"], "identity").mint(resident(clock.now()))
    (tmp_path / "keys.json").write_text('{"keys": [{"iss": "iden')
    verifier._looked = 0.0
    assert verifier.verify(token).kind == "resident"
    write_keys(tmp_path / "keys.json", keys)


def test_faults_in_the_files_that_settings_name_are_told_with_the_others_and_without_values(monkeypatch, tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("s3cret")
    for name in ("SIGNING_KEY_FILE", "TRUSTED_KEYS_FILE", "DATA_KEYS_FILE"):
        monkeypatch.setenv(name, str(broken))
    monkeypatch.setenv("AMQP_URL", "amqp://user:s3#cret@host:5672/v")
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:s3cret@host:port/name")
    with pytest.raises(SettingsError) as raised:
        read(ServiceSettings)
    lines = str(raised.value).splitlines()
    assert {line.split()[0] for line in lines[1:]} == {
        "AMQP_URL", "DATABASE_URL", "SIGNING_KEY_FILE", "TRUSTED_KEYS_FILE", "DATA_KEYS_FILE"
    }  # fmt: skip
    assert "s3" not in str(raised.value)
    assert "cret" not in str(raised.value)
