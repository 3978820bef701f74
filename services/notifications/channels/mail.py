"""Mail over SMTP, step by step, so that it is known at each failure whether the server can have accepted the mail.

A server is responsible for a mail from the moment it answers the final dot (RFC 5321, 4.2.5 and 6.1). Whatever breaks
before the dot has been sent is therefore safe to try again; what breaks between the dot and the answer is not.
"""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
import time
from collections.abc import Iterator
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime
from functools import lru_cache

from services.notifications.channels.outcome import Accepted, Letter, NotAccepted, Outcome, Unknown
from services.notifications.channels.smtp import Client, TlsClient, lines
from services.notifications.channels.smtp_answers import About, about
from services.notifications.providers import MailServer, read_password
from services.notifications.rendering import Words
from shared.operations import clock
from shared.operations.logs import log

_IDLE_TOO_LONG = 5.0  # seconds; servers hang up on the silent, and asking costs less than a failed attempt
_LINE_END = re.compile(rb"\r\n|\r|\n")
_LEADING_DOT = re.compile(rb"(?m)^\.")
SENDING_HEADER = "X-Sending"
"""How many times it had been sent again by hand; what comes back tells by it which sending it is about. The Message-ID
stays the same, so that a mail which did arrive the first time is not shown twice."""
_QUEUE_ID = re.compile(
    # letters and digits both: neither a word nor someone's number
    rb"\b(?:queued as |id=)(?P<id>(?=[A-Za-z0-9-]*[A-Za-z])(?=[A-Za-z0-9-]*[0-9])[A-Za-z0-9-]{4,64})(?![^\s;)])",
    re.IGNORECASE,
)


def compose(server: MailServer, letter: Letter) -> bytes:
    """The mail, with lines as they go over the wire. Its Message-ID is the delivery's, the same at every attempt.

    The address has been checked where it came in: it holds nothing but visible ASCII, so no other header.
    """
    own = (
        f"To: {letter.address}",
        f"Date: {format_datetime(clock.now())}",
        f"Message-ID: <{letter.delivery}@{server.sender.rpartition('@')[2]}>",
        f"{SENDING_HEADER}: {letter.sending}",
    )
    if not _is_plain(letter.address):
        raise ValueError("no address")
    return lines(*own) + _rest(server, letter.words, letter.to_staff)


@lru_cache(maxsize=128)
def _rest(server: MailServer, words: Words, to_staff: bool) -> bytes:
    """All that is the same for everyone who is told the same.

    Staff can change what they are told of; residents' mails say nothing but what they must (R-NOT-3).
    """
    mail = EmailMessage(policy=SMTP_POLICY)
    mail["From"] = Address(server.sender_name, addr_spec=server.sender)
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    mail["Content-Language"] = "sv"
    if server.settings_page is not None and to_staff:
        mail["List-Unsubscribe"] = f"<{server.settings_page}>"
    mail.set_content(words.text, cte="quoted-printable")
    mail.add_alternative(words.html, subtype="html", cte="quoted-printable")
    # The message itself would now and then lose or move a space where it folds a long one.
    subject = f"Subject: {Header(words.subject, 'utf-8', header_name='Subject').encode()}\n".encode("ascii")
    whole = _LINE_END.sub(b"\r\n", subject + mail.as_bytes())
    return whole if whole.endswith(b"\r\n") else whole + b"\r\n"


class MailChannel:
    """One connection to the mail server, kept open from mail to mail."""

    def __init__(self, server: MailServer) -> None:
        self._server = server
        self._smtp: Client | None = None
        self._used = 0.0
        self._prepared: tuple[bytes, str | None] = (b"", None)
        """The mail, with lines as they go over the wire, and to whom the next one goes."""
        self._ahead: str | None = None
        """To whom the next mail goes, where the server has been told so together with the dot of the last."""

    def prepare(self, letter: Letter) -> NotAccepted | None:
        """Puts the mail together, connects, if need be, says from whom and to whom, and that the mail is to come."""
        address = letter.address
        if not _is_plain(address):
            return NotAccepted("no_address", permanent=True)
        try:
            body = _LEADING_DOT.sub(b"..", compose(self._server, letter))
        except Exception as error:  # whatever the mail library has against our settings: nothing has been said yet
            log.error("mail_not_composed", delivery=letter.delivery, exc_info=error)
            return NotAccepted("smtp_not_composed", provider_down=True)
        self._prepared = body, letter.followed_by
        try:
            if self._ahead is not None and (self._ahead != address or self._idle_too_long()):
                self.abandon()
            return self._offer(self._connected(), address)
        except smtplib.SMTPAuthenticationError as error:
            self.close()
            return NotAccepted(f"smtp_login_{error.smtp_code}", provider_down=True)
        except smtplib.SMTPNotSupportedError:  # TLS or login, which we demand
            self.close()
            return NotAccepted("smtp_not_offered", provider_down=True)
        except smtplib.SMTPResponseException as error:
            self.close()
            return NotAccepted(f"smtp_greeting_{error.smtp_code}", provider_down=True)
        except ssl.SSLError:
            self.close()
            return NotAccepted("smtp_tls", provider_down=True)
        except (smtplib.SMTPException, OSError, UnicodeError) as error:
            self.close()
            return NotAccepted("smtp_timeout" if _timed_out(error) else "smtp_connection", provider_down=True)

    def send(self) -> Outcome:
        """The mail, the dot, and the answer to it."""
        smtp = self._smtp
        assert smtp is not None, "prepare comes first"
        body, followed_by = self._prepared
        smtp.patience()
        try:
            smtp.send(body)
        except (smtplib.SMTPException, OSError) as error:
            self.close()
            return NotAccepted("smtp_timeout" if _timed_out(error) else "smtp_connection", provider_down=True)
        # From here on the server may have accepted it, whatever we learn of that.
        try:
            if followed_by is not None and smtp.pipelines and _is_plain(followed_by):
                self._ahead = followed_by
                smtp.send(b".\r\n" + lines(*(command for _, command, _ in self._steps(self._ahead))))
            else:
                smtp.send(b".\r\n")
            code, answer = smtp.getreply()
        except (smtplib.SMTPException, OSError) as error:
            self.close()
            return Unknown("smtp_no_answer" if _timed_out(error) else "smtp_connection_lost")
        self._used = time.monotonic()
        if 200 <= code < 300:
            return Accepted(_reference(answer))
        if 400 <= code < 600:
            return self._said_no("mail", code, answer)
        self.close()
        return Unknown("smtp_unintelligible_answer")

    def abandon(self) -> None:
        """Hangs up: the server waits for the mail, and only the end of the connection is no mail."""
        smtp, self._smtp, self._ahead = self._smtp, None, None
        if smtp is not None:
            smtp.close()

    def close(self) -> None:
        """Hangs up; says so first if there is anyone to say it to."""
        if self._ahead is not None:
            self.abandon()
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            try:
                smtp.patience(1)  # a server that has stopped answering should not hold us up a second time
                smtp.quit()
            except (smtplib.SMTPException, OSError):
                smtp.close()

    def _offer(self, smtp: Client, address: str) -> NotAccepted | None:
        """From whom, to whom, and DATA. The first that is refused decides; None: the server waits for the mail."""
        steps = self._steps(address)
        ahead, self._ahead = self._ahead == address, None
        answers = smtp.said(*(command for _, command, _ in steps), before=ahead)
        for step, _, yes in steps:
            code, said = next(answers)
            if code not in yes:
                if code != 421 and 400 <= code < 600 and smtp.pipelines:
                    self._pass_over(answers)
                return self._said_no(step, code, said)
        return None

    def _steps(self, address: str) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
        """What is said before a mail: what it is called, the command, and the codes that are a yes."""
        return (
            ("mail_from", f"MAIL FROM:{_in_brackets(self._server.sender)}", (250,)),
            ("recipient", f"RCPT TO:{_in_brackets(address)}", (250, 251)),
            ("data", "DATA", (354,)),
        )

    def _idle_too_long(self) -> bool:
        return time.monotonic() - self._used > _IDLE_TOO_LONG

    def _pass_over(self, answers: Iterator[tuple[int, bytes]]) -> None:
        """The answers to what was said at once with something that was refused. A server that waits for a mail even so
        gets none."""
        try:
            if any(code == 354 for code, _ in list(answers)):
                self.abandon()
        except (smtplib.SMTPException, OSError):
            self.close()

    def _connected(self) -> Client:
        if self._smtp is not None:
            self._smtp.patience()
        if self._smtp is not None and self._idle_too_long():
            try:
                if self._smtp.noop()[0] != 250:
                    self.close()
            except (smtplib.SMTPException, OSError):
                self.close()
        if self._smtp is None:
            self._smtp = self._connect()
        self._used = time.monotonic()
        return self._smtp

    def _connect(self) -> Client:
        server = self._server
        context = ssl.create_default_context(cafile=str(server.ca_file) if server.ca_file else None)
        ours = socket.gethostname() or "localhost"
        smtp: Client
        if server.tls == "implicit":
            smtp = TlsClient(server.host, server.port, ours, timeout=server.timeout, context=context)
        else:
            smtp = Client(server.host, server.port, ours, timeout=server.timeout)
        try:
            # The mail and its final dot are written one after the other: the dot must not wait until the mail is
            # acknowledged, which takes the other end's kernel 40 ms.
            assert smtp.sock is not None
            smtp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            smtp.ehlo_or_helo_if_needed()
            if server.tls == "starttls":
                smtp.starttls(context=context)
                smtp.ehlo()
            if server.user:
                smtp.login(server.user, read_password(server.password_file) or "")
        except BaseException:
            smtp.close()
            raise
        return smtp

    def _said_no(self, step: str, code: int, said: bytes) -> NotAccepted:
        """The server has answered that it does not take the mail; 5xx for good (RFC 5321, 4.2.1), if it is about the
        mail and not about us or the server."""
        if not 400 <= code < 600:
            self.close()
            return NotAccepted(f"smtp_{step}_{code}" if code > 0 else "smtp_unintelligible_answer", provider_down=True)
        blamed = about(step, code, said)
        try:
            if blamed is About.US:
                self.close()  # whatever state the conversation is in, the next begins anew
            elif self._smtp is not None and self._ahead is None:
                self._smtp.rset()
        except (smtplib.SMTPException, OSError):
            self.close()
        return NotAccepted(
            f"smtp_{step}_{code}",
            permanent=code >= 500 and blamed in (About.MAIL, About.NOBODY),
            provider_down=blamed in (About.US, About.POLICY),
            about_the_address=blamed is About.NOBODY,
            by_policy=blamed is About.POLICY,
        )


@lru_cache(maxsize=32)
def _in_brackets(address: str) -> str:
    """Kept for a moment: the sender's is always the same, a recipient's is said once and looked at once more."""
    return smtplib.quoteaddr(address)


def _is_plain(address: str) -> bool:
    return address.isascii() and address.isprintable()


def _timed_out(error: BaseException) -> bool:
    """smtplib calls a time that ran out a lost connection; what it really was is in the context."""
    return isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError)


def _reference(answer: bytes) -> str | None:
    """The queue id by which the server's own log names the mail, if it says one.

    Nothing else of what it says: that can be anything, the recipient's address too (R-SYS-3).
    """
    found = _QUEUE_ID.search(answer)
    return found["id"].decode() if found else None
