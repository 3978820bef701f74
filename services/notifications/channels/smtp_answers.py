"""What a mail server's no says, and of what: one table, read from the top."""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from services.notifications.bounces import STATUS_OF_ADDRESS


class About(Enum):
    """What is to blame for a refusal."""

    US = "us, our settings, the conversation, or the state of the server: no other mail would fare better"
    POLICY = "what mails like this one say, or who sends them; the server has seen it whole"
    NOBODY = "the address: there is nobody at it"
    MAIL = "this mail or this mailbox: others are taken"


class _Line(NamedTuple):
    """A refusal fits whose step, code and enhanced code all match; no enhanced code is `-`."""

    step: str
    code: str
    enhanced: str
    about: About


_ANY = r".*"

_TABLE = (
    # The session: closing, login, TLS, commands unknown or out of order (RFC 5321, 4.2; RFC 3207; RFC 4954; RFC 7504).
    _Line(_ANY, r"421|432|454|455|500|502|503|504|521|530|534|535|538|555", _ANY, About.US),
    _Line(_ANY, _ANY, r"[45]\.5\.[1-6]", About.US),  # the same, enhanced (RFC 3463, 3.6; RFC 4954); 5.5.0 says nothing
    # Who sends: nothing has been said yet of whom it is for.
    _Line(r"mail_from", _ANY, _ANY, About.US),
    # The server's own state: full, being served (RFC 3463, 3.4; RFC 5321, 4.2.2). x.3.4 is a mail that is too big.
    _Line(_ANY, _ANY, r"[45]\.3\.(?!4$)\d+", About.US),
    _Line(_ANY, r"452", r"-", About.US),
    # Policy and security (RFC 3463, 3.8). For good, of a mail seen whole: of what it is. Else: of who we are.
    _Line(r"mail", r"5\d\d", r"[45]\.7\.\d+", About.POLICY),
    _Line(_ANY, _ANY, r"[45]\.7\.\d+", About.US),
    # The mailbox. Without an enhanced code 550, 551, 553 and 556 of a recipient are most often an unknown one.
    _Line(_ANY, r"5\d\d", STATUS_OF_ADDRESS, About.NOBODY),
    _Line(r"recipient", r"55[0136]", r"-", About.NOBODY),
    _Line(_ANY, _ANY, _ANY, About.MAIL),
)

_ENHANCED = re.compile(rb"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![^\s])")


def about(step: str, code: int, said: bytes) -> About:
    """What is to blame. `step`: `mail_from`, `recipient`, `data`, or `mail` for the answer to the final dot.

    `said`: the text of the answer, of which only an enhanced status code at its beginning is looked at (RFC 2034).
    """
    found = _ENHANCED.match(said)
    enhanced = found[1].decode() if found else "-"
    return next(line.about for line in _TABLE if _fits(line, step, str(code), enhanced))


def _fits(line: _Line, *answer: str) -> bool:
    return all(re.fullmatch(pattern, told) for pattern, told in zip(line[:3], answer, strict=True))
