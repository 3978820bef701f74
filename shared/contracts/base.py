"""How a contract is written: requests, replies and events as models, calls with who may make them.

The evolution rule, for whoever edits a contract: add fields, always with a default; never rename, remove or retype
one. Requests refuse fields they do not know, so that a caller learns of a misspelt name; replies and events ignore
them, so that the other end may be older or newer. `tests/contract` replays recorded payloads of earlier versions.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError


class Part(BaseModel):
    """A piece of a request: refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Query(Part):
    """A request that only reads."""


class Command(Part):
    """A request that changes something. The same request id, sent again, has one effect and the same answer
    (R-CASE-17).

    The caller makes the id (a random UUID) and keeps it for every repetition of the same wish.
    """

    request_id: UUID


class Reply(BaseModel):
    """An answer, or a part of one."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Done(Reply):
    """It is done; there is nothing more to say."""


class EventBody(BaseModel):
    """What an event carries: ids and versions, never personal data (R-SYS-3)."""

    model_config = ConfigDict(extra="ignore", frozen=True)


# --- values that many contracts share -------------------------------------------------------------------------------

_BLANKS = re.compile(r"[\s\u00a0\u200b-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff\u00ad\u180e]+")
_HSA_ID = re.compile(r"SE(?:16)?\d{10}-[A-Z0-9]+", re.ASCII)
_HSA_ID_MAX = 31


def normalise_hsa_id(value: Any) -> Any:
    """Removes blanks of every kind, also inside, and lifts letter case; what then is no HSA-id is refused (R-ID-7)."""
    if not isinstance(value, str):
        return value
    bare = _BLANKS.sub("", value).upper()
    if len(bare) > _HSA_ID_MAX or not _HSA_ID.fullmatch(bare):
        raise PydanticCustomError("hsa_id", "är inget HSA-id")
    return bare


HsaId = Annotated[str, BeforeValidator(normalise_hsa_id)]
"""`SE`, an organisation number, a hyphen, and letters and digits: at most 31 characters (R-ID-7)."""

_FORBIDDEN_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def Text(maximum: int, *, empty: bool = False) -> AfterValidator:
    """For `Annotated[str, Text(200)]`: text written by a person, at most `maximum` characters.

    Composed form (NFC), line ends as newline, no control characters but newline and tab, no reordering marks, and
    something to see in it unless `empty` is allowed.
    """

    def check(value: str) -> str:
        value = unicodedata.normalize("NFC", value.replace("\r\n", "\n").replace("\r", "\n"))
        if len(value) > maximum:
            raise PydanticCustomError("text", "är för lång: högst {maximum} tecken", {"maximum": maximum})
        if _FORBIDDEN_CHARACTERS.search(value):
            raise PydanticCustomError("text", "innehåller otillåtna tecken")
        if not empty and not any(unicodedata.category(character)[0] in "LNPS" for character in value):
            raise PydanticCustomError("text", "får inte vara tom")
        return value

    return AfterValidator(check)


def Line(maximum: int) -> AfterValidator:
    """For `Annotated[str, Line(100)]`: one line to be known by, as a name or a title.

    As `Text`, and without line breaks, tabs and characters that can't be seen: two names that look the same are the
    same. Blanks around it are taken away.
    """
    text = Text(maximum)

    def check(value: str) -> str:
        value = text.func(value.strip())  # type: ignore[call-arg]
        if any(unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") for character in value):
            raise PydanticCustomError("text", "innehåller otillåtna tecken")
        return value

    return AfterValidator(check)


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("instant", "ligger utanför kalendern") from None


Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A moment, in UTC."""


class Role(StrEnum):
    """What staff may be at a clinic (R-ID-5), or, without a clinic, in the region."""

    CASE_RECEIVER = "case_receiver"
    CASE_HANDLER = "case_handler"
    LOCAL_ADMIN = "local_admin"
    RIGHTS_ADMIN = "rights_admin"
    LOG_REVIEWER = "log_reviewer"
    OPERATIONS_MANAGER = "operations_manager"
    OPERATIONS_ASSISTANT = "operations_assistant"
    REGIONAL_ADMIN = "regional_admin"


# --- calls, events, contracts ---------------------------------------------------------------------------------------

Asked = TypeVar("Asked", bound=Part)
Answered = TypeVar("Answered", bound=Reply)
Body = TypeVar("Body", bound=EventBody)

AUDIENCES = re.compile(r"anyone|resident|staff|operator|service(:[a-z]+)?|system(:[a-z][a-z0-9_]*)?")


class ContractError(Exception):
    """A contract, or a service that should keep one, is put together wrongly. Found at start, never in a call."""


@dataclass(frozen=True)
class Call(Generic[Asked, Answered]):
    """One method that a service offers."""

    service: str
    name: str
    request: type[Asked]
    reply: type[Answered]
    who: frozenset[str]
    before_terms: bool = False

    @property
    def changes(self) -> bool:
        """Whether it changes something, and so carries a request id."""
        return issubclass(self.request, Command)

    @property
    def routing_key(self) -> str:
        return f"{self.service}.{self.name}"


@dataclass(frozen=True)
class Event(Generic[Body]):
    """One kind of event that a service publishes."""

    service: str
    name: str
    body: type[Body]
    heard_by: frozenset[str]

    @property
    def exchange(self) -> str:
        return f"{self.service}.events"


class RunJob(Command):
    """Runs one of the service's jobs now, whether it is due or not."""

    job: str = Field(max_length=100)


@dataclass
class Contract:
    """All that one service offers and tells."""

    name: str
    calls: dict[str, Call[Any, Any]] = field(default_factory=dict)
    events: dict[str, Event[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.run_job = self.call("run_job", RunJob, Done, who=("operator",))
        """Every service lets the operator run a job by hand; the kernel answers it."""

    def call(
        self,
        name: str,
        request: type[Asked],
        reply: type[Answered],
        *,
        who: Iterable[str],
        before_terms: bool = False,
    ) -> Call[Asked, Answered]:
        """Adds a call.

        `who` names who may make it: anyone, resident, staff, operator, service[:NAME], system[:NAME].
        """
        audience = frozenset(who)
        if not audience or not all(AUDIENCES.fullmatch(one) for one in audience):
            raise ContractError(f"{self.name}.{name} does not say who may call it")
        if name in self.calls:
            raise ContractError(f"{self.name}.{name} is there twice")
        if not request.__doc__:
            raise ContractError(f"{request.__name__} does not say what it is for")
        call = Call(self.name, name, request, reply, audience, before_terms)
        self.calls[name] = call
        return call

    def event(self, name: str, body: type[Body], *, heard_by: Iterable[str] = ()) -> Event[Body]:
        """Adds a kind of event; `heard_by` names the services that must get it."""
        if name in self.events:
            raise ContractError(f"{self.name} tells {name} twice")
        event = Event(self.name, name, body, frozenset(heard_by))
        self.events[name] = event
        return event


def utc(value: datetime) -> datetime:
    """The same moment in UTC; a time without a zone is a programming error."""
    if value.tzinfo is None:
        raise ValueError("a moment needs a time zone")
    return value.astimezone(UTC)
