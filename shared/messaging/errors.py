"""The closed set of errors that a call can answer with.

`code` says what kind it is and is one of nine; `reason` is a stable snake_case word for programs, where the code alone
does not tell; `message` is Swedish, for people, and never holds a value that a caller sent nor anything about a person
(R-SYS-3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

Fields = Sequence[tuple[str, str]]


class Refused(Exception):
    """A call that ended in an error of the closed set. Raise one of the subclasses."""

    code: ClassVar[str] = "internal"
    standard_message: ClassVar[str] = "Ett tekniskt fel har inträffat. Felet är loggat."

    def __init__(self, message: str | None = None, *, reason: str | None = None, fields: Fields = ()) -> None:
        self.message = message or self.standard_message
        self.reason = reason
        self.fields = tuple((str(name), str(problem)) for name, problem in fields)
        super().__init__(self.code, self.reason)

    def __str__(self) -> str:
        """What a stock nameko client shows: reason, message and fields in one line."""
        text = f"{self.reason}: {self.message}" if self.reason else self.message
        if self.fields:
            text += " (" + "; ".join(f"{name}: {problem}" for name, problem in self.fields) + ")"
        return text

    def on_the_wire(self) -> dict[str, Any]:
        """The error part of a nameko reply. A stock client makes `RemoteError(exc_type=code, value=text)` of it."""
        details = {"code": self.code, "reason": self.reason, "message": self.message, "fields": self.fields}
        return {"exc_type": self.code, "exc_path": f"vardarende.{self.code}", "exc_args": [details], "value": str(self)}


class NotAuthenticated(Refused):
    """No token, or one that is forged, expired or ended (R-SYS-1)."""

    code = "not_authenticated"
    standard_message = "Du behöver logga in."


class TermsNotAccepted(Refused):
    """The session may do nothing but read and accept the terms (R-ID-2, R-ID-3)."""

    code = "terms_not_accepted"
    standard_message = "Du behöver godkänna användarvillkoren först."


class Forbidden(Refused):
    """The caller is known, and may not do this."""

    code = "forbidden"
    standard_message = "Du saknar behörighet för detta."


class NotFound(Refused):
    """There is no such thing, or it is not the caller's to know of: the two can't be told apart."""

    code = "not_found"
    standard_message = "Det du söker finns inte."


class Invalid(Refused):
    """The request does not fit the contract or a rule; `fields` names each place."""

    code = "invalid"
    standard_message = "Uppgifterna är inte giltiga."


class Conflict(Refused):
    """The state of things does not allow it, or someone else came first."""

    code = "conflict"
    standard_message = "Åtgärden går inte att utföra i nuvarande läge."


class LimitExceeded(Refused):
    """Too much, too large or too many."""

    code = "limit_exceeded"
    standard_message = "En gräns har överskridits."


class Unavailable(Refused):
    """Something that is needed does not answer. The same call, with the same request id, may be made again."""

    code = "unavailable"
    standard_message = "Tjänsten kan inte svara just nu. Försök igen om en stund."


class DeadlineExceeded(Refused):
    """The answer did not come in time. What was asked for may or may not have been done: repeat with the same id."""

    code = "deadline_exceeded"
    standard_message = "Svaret dröjde för länge. Försök igen."


class Internal(Refused):
    """A fault in the system itself; it is logged under the call's id."""

    code = "internal"


BY_CODE: dict[str, type[Refused]] = {
    error.code: error
    for error in (
        NotAuthenticated,
        TermsNotAccepted,
        Forbidden,
        NotFound,
        Invalid,
        Conflict,
        LimitExceeded,
        Unavailable,
        DeadlineExceeded,
        Internal,
    )
}


def from_the_wire(error: dict[str, Any]) -> Refused:
    """The typed error for the error part of a reply; whatever is not of the closed set becomes `Internal`."""
    try:
        arguments = error.get("exc_args") or []
        details = arguments[0] if arguments and isinstance(arguments[0], dict) else {}
        kind = BY_CODE.get(str(error.get("exc_type")), Internal)
        fields = [(str(pair[0]), str(pair[1])) for pair in details.get("fields") or () if len(pair) == 2]
        return kind(details.get("message"), reason=details.get("reason"), fields=fields)
    except (TypeError, AttributeError, KeyError, IndexError):
        return Internal(reason="error_malformed")
