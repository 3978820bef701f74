"""Rules of misbehaving: whom they are for, and how often."""

from __future__ import annotations

import pytest

from deploy.local.common.behaviour import Behaviours, UnknownMode
from deploy.local.common.control import control_app, misbehave
from deploy.local.common.http import App, Drop, Request, answer_text


def behaviours() -> Behaviours:
    return Behaviours({"drop": "hang up", "delay": "later"})


def request(method: str, path: str, body: bytes = b"") -> Request:
    return Request(method, path, {}, {}, body)


def test_a_rule_is_used_up() -> None:
    rules = behaviours()
    rules.add({"mode": "drop", "times": 2})
    taken = [rules.take() for _ in range(3)]
    assert [rule.mode if rule else None for rule in taken] == ["drop", "drop", None]
    assert rules.listed() == []


def test_a_rule_without_times_stays() -> None:
    rules = behaviours()
    rule = rules.add({"mode": "drop"})
    assert rules.take() is rules.take() is rule
    rules.clear(rule.rule)
    assert rules.take() is None


def test_a_rule_is_for_whom_it_says() -> None:
    rules = behaviours()
    rules.add({"mode": "drop", "times": 1, "only": "A@x.example"})
    assert rules.take("b@x.example") is None
    assert rules.take("b@x.example", "a@X.example") is not None
    assert rules.take("a@x.example") is None


def test_a_question_about_some_modes_leaves_the_others() -> None:
    rules = behaviours()
    rules.add({"mode": "delay", "times": 1})
    assert rules.take(among=("drop",)) is None
    assert rules.take(among=("delay",)) is not None


def test_oldest_first_and_clearing_all() -> None:
    rules = behaviours()
    for mode in ("delay", "drop", "drop"):
        rules.add({"mode": mode, "times": 1})
    first = rules.take()
    assert first is not None
    assert first.mode == "delay"
    rules.clear()
    assert rules.take() is None


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"mode": "explode"},
        {"mode": []},
        {"mode": "drop", "times": 0},
        {"mode": "drop", "times": "2"},
        {"mode": "drop", "seconds": -1},
        {"mode": "drop", "seconds": []},
        {"mode": "drop", "only": 1},
        {"mode": "drop", "status": "503"},
        {"mode": "drop", "answer": 550},
        {"mode": "drop", "answer": "550 no\r\n250 yes"},
        {"mode": "drop", "who": "me"},
    ],
)
def test_what_is_no_rule_is_refused(wrong: dict[str, object]) -> None:
    rules = behaviours()
    with pytest.raises(UnknownMode):
        rules.add(wrong)
    assert rules.listed() == []


def test_misbehaving_over_http() -> None:
    rules = Behaviours({mode: mode for mode in ("drop", "timeout", "unavailable", "garbage", "delay", "other")})
    for mode in ("drop", "timeout"):
        with pytest.raises(Drop):
            misbehave(rules.add({"mode": mode, "seconds": 0.01}))
    told = misbehave(rules.add({"mode": "unavailable", "status": 429, "seconds": 7}))
    assert told is not None
    assert (told.status, told.headers) == (429, {"Retry-After": "7"})
    assert misbehave(rules.add({"mode": "garbage"})) is not None
    for mode in ("delay", "other"):
        assert misbehave(rules.add({"mode": mode})) is None
    assert misbehave(None) is None


def test_control_port() -> None:
    app = control_app(behaviours())

    def ask(method: str, path: str, body: bytes = b"") -> int:
        _, view, _ = app.find(method, path)
        assert view is not None
        return view(request(method, path, body)).status

    assert ask("GET", "/health") == 200
    assert ask("POST", "/behave", b'{"mode": "drop"}') == 201
    assert ask("POST", "/behave", b"{") == 400
    assert ask("DELETE", "/behave/1") == 204
    assert ask("DELETE", "/behave") == 204


def test_routes() -> None:
    app = App()
    for path in ("/a", "/a/*", "/b/c"):
        app.route("GET", path)(lambda asked: answer_text("ok"))
    assert app.find("GET", "/a")[0] == "/a"
    # what is logged never holds what was asked for
    assert app.find("GET", "/a/198501022381")[0] == "/a/*"
    assert app.find("GET", "/x/198501022381") == ("(other)", None, False)
    assert app.find("POST", "/a") == ("(other)", None, True)
