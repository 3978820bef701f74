"""How contracts take in and refuse values."""

from typing import Annotated
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.contracts.base import Command, Contract, ContractError, HsaId, Instant, Query, Reply, Text
from shared.messaging.errors import Invalid
from shared.messaging.wire import Envelope, decode_request


class Ask(Query):
    """Asks."""

    clinic: HsaId
    text: Annotated[str, Text(20)] = "hej"


class Change(Command):
    """Changes."""


BLANKS = [" ", "\t", "\n", "\u00a0", "\u2009", "\u200b", "\u200d", "\u202f", "\ufeff", "\u2060", "\u3000"]


@given(st.lists(st.sampled_from(BLANKS), max_size=4), st.integers(0, 26), st.booleans())
def test_hsa_id_with_blanks_anywhere_and_any_letter_case_is_the_same_R_ID_7(blanks, place, lower):
    written = "SE2321000131-E000000001708"
    pasted = written[:place] + "".join(blanks) + written[place:]
    assert Ask(clinic=pasted.lower() if lower else pasted).clinic == written


@pytest.mark.parametrize("accepted", ["SE2321000016-1HZ6", "SE165565594230-1000", "SE2321000131-A23456789012345678"])
def test_forms_of_hsa_id_that_are_in_use_R_ID_7(accepted):
    assert Ask(clinic=accepted).clinic == accepted


@pytest.mark.parametrize(
    "refused", ["", " ", "SE2321000131", "SE2321000131-", "191212121212", "SE2321000131-ÅÄÖ", "NO2321000131-1",
                "SE2321000131-A234567890123456789", "SE٢321000131-1", "SE2321000131-E1;DROP"]
)  # fmt: skip
def test_what_is_no_hsa_id_gets_an_error_that_says_so_R_ID_7(refused):
    with pytest.raises(ValidationError, match="är inget HSA-id"):
        Ask(clinic=refused)


@given(st.text())
def test_no_text_ends_in_an_unexpected_error_R_ID_7(text):
    try:
        Ask(clinic=text)
    except ValidationError as error:
        assert error.errors()[0]["type"] == "hsa_id"


@pytest.mark.parametrize("text", ["a\x00b", "a\u202eb", "a\u2066b", "\x1b[31m"])
def test_text_without_control_characters_and_reordering(text):
    with pytest.raises(ValidationError, match="otillåtna tecken"):
        Ask(clinic="SE2321000131-1", text=text)


@pytest.mark.parametrize("text", ["", "  ", "\u200b\u200d", "\n"])
def test_text_must_have_something_to_see(text):
    with pytest.raises(ValidationError, match="får inte vara tom"):
        Ask(clinic="SE2321000131-1", text=text)


def test_text_is_composed_and_its_line_ends_are_newlines():
    assert Ask(clinic="SE2321000131-1", text="a\u030a\r\nb").text == "å\nb"


def test_a_call_must_say_who_may_make_it():
    with pytest.raises(ContractError):
        Contract("x").call("ask", Ask, Reply, who=())
    with pytest.raises(ContractError):
        Contract("x").call("ask", Ask, Reply, who=("everybody",))


def test_a_faulty_request_names_each_fault_in_swedish_and_repeats_no_value_R_SYS_3():
    secret = "191212121212"
    body = f'{{"args": [], "kwargs": {{"clinic": "{secret}", "text": 7, "patient": "{secret}"}}}}'.encode()
    with pytest.raises(Invalid) as raised:
        decode_request(Envelope[Ask], body)
    assert dict(raised.value.fields) == {
        "clinic": "är inget HSA-id",
        "text": "ska vara text",
        "patient": "är ett okänt fält",
    }
    assert secret not in str(raised.value) + str(raised.value.on_the_wire())


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b'{"args": []}', b'{"args": [1], "kwargs": {}}', b"\xff\xfe", b'{"kwargs": 1}']
)
def test_a_body_that_is_no_request_is_invalid(body):
    with pytest.raises(Invalid):
        decode_request(Envelope[Change], body)


class When(Query):
    """Asks about a moment."""

    at: Instant


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_moment_that_has_no_date_in_utc_is_invalid(at):
    with pytest.raises(Invalid) as raised:
        decode_request(Envelope[When], f'{{"kwargs": {{"at": "{at}"}}}}'.encode())
    assert raised.value.fields == (("at", "ligger utanför kalendern"),)


def test_a_command_needs_its_request_id_R_CASE_17():
    with pytest.raises(Invalid) as raised:
        decode_request(Envelope[Change], b'{"args": [], "kwargs": {}}')
    assert raised.value.fields == (("request_id", "saknas"),)
    same = uuid4()
    assert decode_request(Envelope[Change], f'{{"kwargs": {{"request_id": "{same}"}}}}'.encode()).request_id == same
