"""SMS over HTTP: something is posted, JSON comes back; what, and what it means, is the provider's API's business.

There is no way to ask such a provider whether it has got a message, and no key by which it would know a repetition. So
once a request may have arrived, only an answer tells; without one the outcome is unknown.
"""

from __future__ import annotations

import io
import json
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from services.notifications.channels import gsm7
from services.notifications.channels.outcome import Letter, NotAccepted, Outcome, Unknown
from services.notifications.channels.patience import incoming
from services.notifications.channels.sms_apis import Message, api_of
from services.notifications.providers import SmsProvider, read_password
from shared.operations.logs import log

_LONGEST_ANSWER = 65_536
_TRY_LATER = frozenset({408, 429, 503})
_ABOUT_US = frozenset({401, 402, 403, 404, 405, 407})
"""Our login, our credit, our address of theirs: no other message would fare better, and this one is not to blame."""


class SmsChannel:
    """One request, one connection: on a kept one, a hang-up between two requests would look like a lost answer."""

    def __init__(self, provider: SmsProvider) -> None:
        self._provider = provider
        self._api = api_of(provider.api, provider.description_file)
        self._prepared: requests.PreparedRequest | None = None

    def prepare(self, letter: Letter) -> NotAccepted | None:
        """Reads what stands in files, and puts the request together; nothing is said to the provider yet."""
        provider = self._provider
        if (parts := gsm7.parts(letter.words.text)) > 1:
            log.info("sms_in_parts", delivery=letter.delivery, count=parts)
        try:
            password = read_password(provider.password_file) or ""
        except (OSError, UnicodeError):
            return NotAccepted("sms_password_missing", provider_down=True)
        try:
            if provider.ca_file is not None:
                ssl.create_default_context(cafile=str(provider.ca_file))
        except OSError:
            return NotAccepted("sms_ca_file", provider_down=True)
        message = Message(letter.address, letter.words.text, letter.reference, letter.report_to)
        try:
            self._prepared = _put_together(provider.url, self._api.request(provider, password, message))
        except (requests.exceptions.RequestException, ValueError) as error:
            # Of our settings, the password too: nothing of them in the log (R-SYS-3).
            log.error("sms_not_composed", delivery=letter.delivery, error_type=type(error).__name__)
            return NotAccepted("sms_not_composed", provider_down=True)
        return None

    def abandon(self) -> None:
        """Nothing was begun."""

    def close(self) -> None:
        """Nothing is open."""

    def send(self) -> Outcome:
        """Posts it."""
        provider = self._provider
        assert self._prepared is not None, "prepare comes first"
        try:
            with (
                _session(provider.url) as session,
                session.send(
                    self._prepared,
                    timeout=provider.timeout,
                    verify=str(provider.ca_file) if provider.ca_file else True,
                    allow_redirects=False,
                    stream=True,
                ) as answer,
            ):
                return self._judge(answer)
        except requests.exceptions.RequestException as error:
            return _judge_failure(error)
        except (OSError, urllib3.exceptions.HTTPError):
            return Unknown("sms_connection_lost")

    def _judge(self, answer: requests.Response) -> Outcome:
        status = answer.status_code
        if 200 <= status < 300:
            return self._judge_body(answer.raw.read(_LONGEST_ANSWER, decode_content=True) or b"")
        if status in _TRY_LATER:
            pause = _asked_pause(answer.headers.get("Retry-After", ""))
            return NotAccepted(f"sms_http_{status}", provider_down=True, pause=pause)
        if status >= 500:
            # It broke on the way, or a gateway got no answer it understood: what was passed on may have been taken.
            return Unknown(f"sms_http_{status}")
        if status in _ABOUT_US or status < 400:
            return NotAccepted(f"sms_http_{status}", provider_down=True)
        return NotAccepted(f"sms_http_{status}", permanent=True)

    def _judge_body(self, body: bytes) -> Outcome:
        """Something that can't be understood under 200 may be taken too."""
        try:
            return self._api.judge(json.loads(body))
        except (ValueError, RecursionError):
            return Unknown("sms_unintelligible_answer")


class _Ended:
    """A socket of which reading comes to an end, so many seconds after it was connected."""

    def __init__(self, sock: Any, seconds: Any) -> None:
        self._sock, self._until = sock, time.monotonic() + seconds

    def makefile(self, *_: Any) -> io.BufferedReader:
        return incoming(self._sock, lambda: self._until - time.monotonic())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


@contextmanager
def _nothing_sent_yet(connection: HTTPConnection) -> Iterator[None]:
    """Whatever breaks in making the connection, its TLS too, breaks before the message (R-NOT-7)."""
    try:
        yield
    except ssl.SSLCertVerificationError:
        raise
    except OSError as error:
        raise urllib3.exceptions.NewConnectionError(connection, type(error).__name__) from error


class _Connection(HTTPConnection):
    def connect(self) -> None:
        with _nothing_sent_yet(self):
            super().connect()
        self.sock = _Ended(self.sock, self.timeout)


class _TlsConnection(HTTPSConnection):
    def connect(self) -> None:
        with _nothing_sent_yet(self):
            super().connect()
        self.sock = _Ended(self.sock, self.timeout)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Ending(HTTPAdapter):
    """No answer keeps a sender for longer than `timeout`, however slowly it comes."""

    def init_poolmanager(self, *given: Any, **more: Any) -> None:
        super().init_poolmanager(*given, **more)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}


def _session(url: str) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.mount(f"{urlsplit(url).scheme}://", _Ending())
    return session


def _put_together(url: str, posted: dict[str, Any]) -> requests.PreparedRequest:
    """The request. Raises ValueError, or an error of `requests`, for what can't be said over HTTP."""
    posted["headers"] |= {"Connection": "close"}
    with _session(url) as session:
        request = session.prepare_request(requests.Request("POST", url, **posted))
    for name, value in request.headers.items():
        # As they go over the wire; else it would be found out with the connection open.
        name.encode("ascii")
        value.encode("latin-1")
    return request


def _judge_failure(error: requests.exceptions.RequestException) -> Outcome:
    """Which failures come before anything was sent: no connection, or no trust in whom we are connected to."""
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return NotAccepted("sms_connect_timeout", provider_down=True)
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return NotAccepted("sms_url", provider_down=True)
    for cause in _causes(error):
        if isinstance(cause, urllib3.exceptions.NewConnectionError):
            return NotAccepted("sms_connection", provider_down=True)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return NotAccepted("sms_certificate", provider_down=True)
    if isinstance(error, requests.exceptions.Timeout):
        return Unknown("sms_no_answer")
    return Unknown("sms_connection_lost")


def _causes(error: BaseException) -> list[BaseException]:
    """The error and those it wraps; requests and urllib3 keep them as arguments and as `reason`."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting and len(found) < 20:
        one = waiting.pop()
        if isinstance(one, BaseException) and one not in found:
            found.append(one)
            waiting += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
    return found


def _asked_pause(header: str) -> timedelta | None:
    """Seconds only; the other form, a date, is as good as none."""
    return timedelta(seconds=int(header)) if re.fullmatch(r"[0-9]{1,6}", header) else None
