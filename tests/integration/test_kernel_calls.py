"""Calls to running services, as callers of every kind make them: well, badly, too late, and to nobody."""

import json
import time
from datetime import timedelta
from uuid import uuid4

import amqp
import pytest
from nameko.exceptions import RemoteError, RpcTimeout, UnknownService
from nameko.standalone.rpc import ClusterRpcProxy

from deploy.local.people import cast
from shared.contracts import cases, directory, identity, logging_in
from shared.contracts.base import Contract, Query, Reply
from shared.contracts.document import contracts
from shared.messaging.errors import BY_CODE, DeadlineExceeded, Invalid, NotAuthenticated, NotFound, Refused, Unavailable
from shared.messaging.wire import LARGEST_REQUEST_BYTES
from shared.security.tokens import Claims, Signer


@pytest.fixture
def stock(system):
    """A stock nameko client, with nothing of ours: `stock(token)` is a proxy."""
    opened = []

    def connect(token=None, timeout=15, **context):
        data = {"auth_token": token, **context} if token else context
        proxy = ClusterRpcProxy({"AMQP_URI": system.stack.broker_url("callers")}, context_data=data, timeout=timeout)
        opened.append(proxy)
        return proxy.start()

    yield connect
    for proxy in opened:
        proxy.stop()


# --- a stock client --------------------------------------------------------------------------------------------------


def test_a_stock_nameko_client_logs_in_and_calls(system, stock):
    token = system.resident_token(cast.RESIDENT)
    rpc = stock(token)
    assert rpc.cases.list_inbox(limit=5).keys() >= {"cases", "after"}
    limits = rpc.attachments.limits()
    assert limits["max_file_bytes"] == 52_428_800  # R-ATT-2
    begun = stock().identity.begin_login(request_id=str(uuid4()), kind="resident")
    assert begun["nonce"]


def test_a_stock_nameko_client_can_make_every_call(system, stock):
    """With a token that may make it or not: every call is answered by its service, in the closed set of errors."""
    operator = stock(system.operator_token)
    for contract in contracts():
        for name in contract.calls:
            try:
                getattr(getattr(operator, contract.name), name)()
            except RemoteError as error:
                assert error.exc_type in BY_CODE and error.exc_type != "internal", f"{contract.name}.{name}"


def test_a_stock_nameko_client_sees_code_reason_and_swedish_message(system, stock):
    with pytest.raises(RemoteError) as raised:
        stock(system.resident_token(cast.RESIDENT)).cases.get_case(case=str(uuid4()))
    assert raised.value.exc_type == "not_found"
    with pytest.raises(RemoteError) as raised:
        stock(system.operator_token).identity.make_first_administrator(request_id=str(uuid4()), person="ingen alls")
    assert raised.value.exc_type == "invalid"
    assert "HSA-id" in str(raised.value)
    with pytest.raises(UnknownService):
        stock().no_such_service.ask()


# --- who calls (R-SYS-1) ---------------------------------------------------------------------------------------------


def test_a_call_without_a_genuine_token_is_not_authenticated_R_SYS_1(system):
    token = system.resident_token(cast.RESIDENT)
    head, body, signature = token.split(".")
    now = system.now()
    stranger = Signer.from_file(system.stack.keys.signing_key("cases"), "identity")
    life = timedelta(minutes=5)
    pretended = stranger.mint(Claims("identity", str(uuid4()), "resident", now, now + life, session=uuid4()))
    own = Signer.from_file(system.stack.keys.signing_key("operator"), "operator")
    past = now - timedelta(hours=1)
    expired = own.mint(Claims("operator", "operator", "operator", past, past + life))
    for forged in (None, "", "x.y.z" * 9, f"{head}.{body}.{signature[::-1]}", f"{head}.{body}.", pretended):
        with pytest.raises(NotAuthenticated):
            system.call(cases.LIST_INBOX, cases.ListInbox(), forged)
    with pytest.raises(NotAuthenticated) as raised:
        system.call(directory.GET_SYNC_RUN, directory.GetSyncRun(run=uuid4()), expired)
    assert raised.value.reason == "token_expired"


def test_a_call_is_only_for_those_whom_its_contract_names_R_SYS_1(system):
    for token in (system.resident_token(cast.RESIDENT), system.operator_token):
        with pytest.raises(Refused) as raised:
            system.call(cases.MESSAGES_EXIST, cases.MessagesExist(messages=[]), token)
        assert raised.value.code == "forbidden"


def test_terms_come_first_R_ID_2_R_ID_3(system):
    session = system.login_before_terms(cast.EMIGRATED)
    assert session.terms_version_to_accept is not None
    with pytest.raises(Refused) as raised:
        system.call(cases.LIST_INBOX, cases.ListInbox(), session.access_token)
    assert raised.value.code == "terms_not_accepted"
    system.call(cases.LIST_INBOX, cases.ListInbox(), system.accept_terms(session).access_token)


# --- what is asked ---------------------------------------------------------------------------------------------------


def raw(system, routing_key, body, token=None, timeout=5.0):
    return json.loads(system.client.ask_raw(routing_key, body, token, timeout))


def test_bad_arguments_are_invalid_and_name_the_field(system):
    token = system.resident_token(cast.RESIDENT)
    for kwargs, field in (
        ({"limit": "20"}, "limit"),
        ({"limit": 0}, "limit"),
        ({"limt": 20}, "limt"),
        ({"after": 7}, "after"),
        ({"limit": None}, "limit"),
    ):
        answer = raw(system, "cases.list_inbox", json.dumps({"args": [], "kwargs": kwargs}).encode(), token)
        assert answer["error"]["exc_type"] == "invalid"
        assert [one[0] for one in answer["error"]["exc_args"][0]["fields"]] == [field]
    for body in (b"", b"\xff", b"[]", b'{"args": [1], "kwargs": {}}', b'{"args": []}', b'{"kwargs": {"limit": 1e999}}'):
        assert raw(system, "cases.list_inbox", body, token)["error"]["exc_type"] == "invalid"


def test_ten_megabytes_are_refused_and_the_service_goes_on(system):
    token = system.resident_token(cast.RESIDENT)
    body = b'{"args": [], "kwargs": {"after": "' + b"x" * 10_000_000 + b'"}}'
    assert len(body) > LARGEST_REQUEST_BYTES
    answer = raw(system, "cases.list_inbox", body, token, timeout=20.0)
    assert answer["error"]["exc_type"] == "limit_exceeded"
    system.call(cases.LIST_INBOX, cases.ListInbox(), token)


def test_an_unknown_method_is_told_as_such(system):
    assert raw(system, "cases.remove_everything", b'{"args": [], "kwargs": {}}')["error"]["exc_type"] == "not_found"


def test_a_message_that_is_no_request_harms_nobody(system):
    """No reply_to, no headers, no content type, not even JSON: dropped, and the service goes on."""
    url = system.stack.broker_url("callers")
    host, password = url.rsplit("@", 1)[1].split("/")[0], url.split(":", 2)[2].rsplit("@", 1)[0]
    with amqp.Connection(host, "callers", password, virtual_host="vardarende") as connection:
        channel = connection.channel()
        for body in ("", "nonsense", "\x00" * 100):
            channel.basic_publish(amqp.Message(body), "nameko-rpc", "cases.list_inbox")
            headers = {"nameko.deadline": "soon", "nameko.call_id_stack": [1, {"a": 2}], "nameko.auth_token": 5}
            channel.basic_publish(amqp.Message(body, application_headers=headers), "nameko-rpc", "cases.list_inbox")
    system.call(cases.LIST_INBOX, cases.ListInbox(), system.resident_token(cast.RESIDENT))


# --- deadlines, unknown and dead services ---------------------------------------------------------------------------

nowhere = Contract("nowhere")


class Ask(Query):
    """Asks nobody."""


ASK = nowhere.call("ask", Ask, Reply, who=("anyone",))


def test_an_unknown_service_is_told_at_once(system):
    began = time.monotonic()
    with pytest.raises(Unavailable) as raised:
        system.call(ASK, Ask(), timeout=10.0)
    assert raised.value.reason == "unknown_service"
    assert time.monotonic() - began < 2.0


def test_a_hanging_service_is_told_at_the_deadline(system):
    token = system.resident_token(cast.RESIDENT)
    system.process("cases").pause()
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        system.call(cases.LIST_INBOX, cases.ListInbox(), token, timeout=1.0)
    assert 0.9 < time.monotonic() - began < 2.0
    system.process("cases").resume()
    system.call(cases.LIST_INBOX, cases.ListInbox(), token)


def test_a_dead_service_is_told_from_an_unknown_and_a_slow_one(system):
    token = system.resident_token(cast.RESIDENT)
    system.process("cases").kill()
    began = time.monotonic()
    with pytest.raises(Unavailable) as raised:
        system.call(cases.LIST_INBOX, cases.ListInbox(), token, timeout=1.5)
    assert raised.value.reason == "no_process"
    assert time.monotonic() - began < 3.0
    system.process("cases").start()
    system.call(cases.LIST_INBOX, cases.ListInbox(), token)


def test_a_request_whose_deadline_has_passed_is_dropped_unrun(system):
    clinic = system.clinic()
    admin = system.staff_token(cast.LOCAL_ADMIN)
    system.process("cases").pause()
    text = [cases.Component(id="t", kind="text", label="Text")]
    activate = cases.ActivateCaseType(request_id=uuid4(), clinic=clinic.hsa_id, name="För sen", components=text)
    with pytest.raises(DeadlineExceeded):
        system.call(cases.ACTIVATE_CASE_TYPE, activate, admin, timeout=0.5)
    time.sleep(0.2)
    system.process("cases").resume()
    listed = system.call(cases.LIST_CASE_TYPES, cases.ListCaseTypes(clinic=clinic.hsa_id), admin)
    assert listed.case_types == []


def test_a_stock_client_that_gave_no_deadline_still_gets_its_answer_and_its_own_timeout(system, stock):
    system.process("cases").pause()
    with pytest.raises(RpcTimeout):
        stock(system.resident_token(cast.RESIDENT), timeout=1).cases.list_inbox()
    system.process("cases").resume()


# --- once (R-CASE-17) ------------------------------------------------------------------------------------------------


def test_the_same_request_id_has_one_effect_and_the_same_answer_R_CASE_17(system):
    begin = logging_in.BeginLogin(request_id=uuid4(), kind="resident")
    first = system.call(logging_in.BEGIN_LOGIN, begin)
    assert system.call(logging_in.BEGIN_LOGIN, begin) == first
    other = logging_in.BeginLogin(request_id=begin.request_id, kind="staff")
    with pytest.raises(Refused) as raised:
        system.call(logging_in.BEGIN_LOGIN, other)
    assert (raised.value.code, raised.value.reason) == ("conflict", "request_id_reused")


def test_the_operator_can_run_a_job_by_hand(system):
    for contract in contracts():
        run = contract.run_job.request(request_id=uuid4(), job="forget_old_kernel_rows")
        system.call(contract.run_job, run, system.operator_token)
        with pytest.raises(NotFound):
            run = contract.run_job.request(request_id=uuid4(), job="no_such_job")
            system.call(contract.run_job, run, system.operator_token)


def test_a_faulty_value_is_not_repeated_in_the_error_R_SYS_3(system):
    with pytest.raises(Invalid) as raised:
        request = identity.MakeFirstAdministrator(request_id=uuid4(), person="191212121212")
        system.call(identity.MAKE_FIRST_ADMINISTRATOR, request, system.operator_token)
    assert "191212121212" not in str(raised.value)
