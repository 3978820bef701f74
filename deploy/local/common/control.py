"""The control port that every counterpart has: plain HTTP, on this machine only, and no part of the real service."""

from __future__ import annotations

import threading

from deploy.local.common.behaviour import Behaviours, Rule, UnknownMode
from deploy.local.common.http import App, Drop, Reply, Request, answer_json, answer_text

stopping = threading.Event()

HTTP_MODES = {
    "delay": "answer after `seconds`",
    "timeout": "say nothing for `seconds` (60), then hang up",
    "drop": "hang up without an answer, nothing done",
    "unavailable": "HTTP 503, or `status`; with `seconds` as Retry-After",
    "garbage": "HTTP 200 with something unreadable",
}
GARBAGE = b"\x00\xff\xfe<<<{{{ \xc3\x28 not what you asked for"


def control_app(behaviours: Behaviours) -> App:
    """GET /health; GET, POST and DELETE /behave; DELETE /behave/ID."""
    app = App()

    @app.route("GET", "/health")
    def health(request: Request) -> Reply:
        return answer_json({"status": "ok"})

    @app.route("GET", "/behave")
    def rules(request: Request) -> Reply:
        return answer_json({"rules": behaviours.listed(), "modes": behaviours.modes})

    @app.route("POST", "/behave")
    def add(request: Request) -> Reply:
        try:
            return answer_json({"rule": behaviours.add(request.json()).rule}, 201)
        except (UnknownMode, ValueError, AttributeError) as error:
            return answer_json({"error": str(error)}, 400)

    @app.route("DELETE", "/behave")
    def clear(request: Request) -> Reply:
        behaviours.clear()
        return Reply(204)

    @app.route("DELETE", "/behave/*")
    def clear_one(request: Request) -> Reply:
        behaviours.clear(int(request.path.rsplit("/", 1)[1]))
        return Reply(204)

    return app


def wait(seconds: float) -> None:
    """Sleeps, but no longer than until the counterpart stops."""
    stopping.wait(seconds)


def misbehave(rule: Rule | None) -> Reply | None:
    """Does what an HTTP rule says; None: go on as usual. Raises Drop to hang up."""
    if rule is None:
        return None
    match rule.mode:
        case "delay":
            wait(rule.seconds)
            return None
        case "timeout":
            wait(rule.seconds or 60)
            raise Drop
        case "drop":
            raise Drop
        case "unavailable":
            reply = answer_text("service unavailable", rule.status or 503)
            if rule.seconds:
                reply.headers["Retry-After"] = str(round(rule.seconds))
            return reply
        case "garbage":
            return Reply(rule.status or 200, GARBAGE, "application/octet-stream")
    return None
