"""A subject access report to be read: as JSON, and as a page of HTML that can be printed (R-ID-19)."""

from __future__ import annotations

import json
from hashlib import sha256
from html import escape
from typing import Any

from services.identity.subject_access import Whole
from shared.contracts.subject_access import Held, ReadReport, ReportPart, ReportPiece
from shared.messaging.errors import Conflict, NotFound
from shared.operations.clock import SWEDEN

PIECE = 500_000
"""Characters in one answer."""

_STATES = {
    "waiting_for_release": "Väntar på att vårdgivaren lämnar ut sina uppgifter.",
    "gathering": "Uppgifterna hämtas.",
    "ready": "Fullständigt.",
    "incomplete": "Inte fullständigt: följande tjänster har inte svarat på ett dygn och frågas på nytt: ",
}
_NO_LONGER = " Utdraget väntar inte längre på det som fattas. Du kan begära ett nytt."
_SERVICES = {"cases": "ärenden", "attachments": "bifogade filer", "notifications": "aviseringar"}
_STYLE = (
    "body{font-family:sans-serif;max-width:60em;margin:2em auto;line-height:1.4}"
    "table{border-collapse:collapse;margin:0 0 1em}th,td{text-align:left;vertical-align:top;padding:.15em 1em .15em 0}"
    "th{font-weight:normal;color:#555}td{white-space:pre-wrap}.state{background:#eee;padding:.5em}"
    "@media print{section{break-inside:avoid}}"
)


def piece(whole: Whole, asked: ReadReport) -> ReportPiece:
    """The piece asked for of the document in its format.

    Raises `Conflict` where the document is no longer the one that the first pieces are of, so that nobody puts together
    halves of two; `NotFound` for a piece past its end.
    """
    text = as_json(whole) if asked.format == "json" else as_html(whole)
    digest = sha256(text.encode()).hexdigest()
    if asked.digest is not None and asked.digest != digest:
        raise Conflict("Registerutdraget har ändrats. Hämta det från början.", reason="report_changed")
    start = asked.piece * PIECE
    if start >= len(text):
        raise NotFound(reason="no_such_piece")
    return ReportPiece(text=text[start : start + PIECE], more=start + PIECE < len(text), digest=digest)


def as_json(whole: Whole) -> str:
    """For programs: the parts, and in each what is held."""
    report = whole.report
    return json.dumps(
        {
            "report": str(report.report),
            "requested_at": report.requested_at.isoformat(),
            "name": whole.name,
            "identity_number": whole.identity_number,
            "whole": report.whole,
            "ended": report.ended,
            "parts": [
                part.model_dump(mode="json", exclude={"part"})
                | {"held": [one.model_dump(mode="json") for one in whole.held[part.part]]}
                for part in report.parts
            ],
        },
        ensure_ascii=False,
        indent=1,
    )


def as_html(whole: Whole) -> str:
    """For people."""
    report = whole.report
    asked = report.requested_at.astimezone(SWEDEN)
    lines = [
        "<!DOCTYPE html>",
        '<html lang="sv"><head><meta charset="utf-8"><title>Registerutdrag</title>',
        f"<style>{_STYLE}</style></head><body>",
        "<h1>Registerutdrag</h1>",
        f"<p>{escape(whole.name)}, {escape(whole.identity_number)}. Begärt {asked:%Y-%m-%d %H:%M}.</p>",
        f'<p class="state">Utdraget är {"fullständigt" if report.whole else "inte fullständigt ännu"}.</p>',
    ]
    for part in report.parts:
        lines += [f"<h2>{_heading(part)}</h2>", f'<p class="state">{escape(_state(part, report.ended))}</p>']
        lines += _sections(whole.held[part.part])
    lines.append("</body></html>")
    return "\n".join(lines)


def _heading(part: ReportPart) -> str:
    if part.care_provider is None:
        return "Uppgifter som e-tjänsterna har om dig"
    return f"Uppgifter hos vårdgivaren {escape(part.care_provider)}"


def _state(part: ReportPart, ended: bool) -> str:
    missing = ", ".join(_SERVICES.get(one, one) for one in part.missing)
    told = _STATES[part.state] + (missing + "." if part.state == "incomplete" else "")
    return told + (_NO_LONGER if ended and part.state != "ready" else "")


def _sections(held: list[Held]) -> list[str]:
    """By kind, in the order that they came; each in the order of time."""
    kinds: dict[str, list[Held]] = {}
    for one in held:
        kinds.setdefault(one.kind, []).append(one)
    lines = []
    for kind, some in kinds.items():
        lines.append(f"<h3>{escape(kind)}</h3>")
        for one in sorted(some, key=_time):
            rows = "".join(
                f"<tr><th>{escape(value.name)}</th><td>{escape(value.value)}</td></tr>" for value in one.values
            )
            at = f"<p>{one.at.astimezone(SWEDEN):%Y-%m-%d %H:%M:%S}</p>" if one.at else ""
            lines.append(f"<section>{at}<table>{rows}</table></section>")
    return lines


def _time(one: Held) -> Any:
    return one.at.timestamp() if one.at else 0.0
