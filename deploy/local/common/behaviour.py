"""Misbehaving on demand: tests and people tell a counterpart how to fail, how often, and for whom."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Rule:
    """One way to fail, for as many times as it says (None: until it is taken away)."""

    rule: int
    mode: str
    times: int | None = None
    seconds: float = 0.0
    only: str | None = None
    status: int | None = None
    answer: str | None = None


class UnknownMode(ValueError):
    """The counterpart has no such way to fail, or the rule is malformed."""


class Behaviours:
    """The rules in force, oldest first. Safe to use from several threads."""

    def __init__(self, modes: Mapping[str, str]) -> None:
        self.modes = dict(modes)
        self._rules: list[Rule] = []
        self._ids = itertools.count(1)
        self._lock = threading.Lock()

    def add(self, wanted: Mapping[str, Any]) -> Rule:
        """Takes a rule in force. UnknownMode says what is wrong with it."""
        mode = wanted.get("mode")
        if not isinstance(mode, str) or mode not in self.modes:
            raise UnknownMode(f"mode is one of: {', '.join(sorted(self.modes))}")
        unknown = set(wanted) - {"mode", "times", "seconds", "only", "status", "answer"}
        if unknown:
            raise UnknownMode(f"unknown: {', '.join(sorted(unknown))}")
        times, seconds, only = (wanted.get(key) for key in ("times", "seconds", "only"))
        status, answer = wanted.get("status"), wanted.get("answer")
        if times is not None and (not isinstance(times, int) or times < 1):
            raise UnknownMode("times is a whole number from 1, or left out")
        if seconds is not None and (not isinstance(seconds, int | float) or seconds < 0):
            raise UnknownMode("seconds is a number from 0")
        if only is not None and not isinstance(only, str):
            raise UnknownMode("only is a text")
        if status is not None and not isinstance(status, int):
            raise UnknownMode("status is a whole number")
        if answer is not None and (not isinstance(answer, str) or not answer.isprintable()):
            raise UnknownMode("answer is a line of text")
        rule = Rule(next(self._ids), mode, times, float(seconds or 0), only, status, answer)
        with self._lock:
            self._rules.append(rule)
        return rule

    def take(self, *subjects: str, among: tuple[str, ...] | None = None) -> Rule | None:
        """The first rule that speaks of one of these subjects (or of all), used up once; None: behave.

        `among` limits the question to some modes: a server that fails in several places asks in each.
        """
        wanted = {subject.casefold() for subject in subjects}
        with self._lock:
            for rule in self._rules:
                if among is not None and rule.mode not in among:
                    continue
                if rule.only is not None and rule.only.casefold() not in wanted:
                    continue
                if rule.times is not None:
                    rule.times -= 1
                    if rule.times == 0:
                        self._rules.remove(rule)
                return rule
        return None

    def listed(self) -> list[dict[str, Any]]:
        """The rules in force."""
        with self._lock:
            return [asdict(rule) for rule in self._rules]

    def clear(self, rule_id: int | None = None) -> None:
        """Takes one rule away, or all."""
        with self._lock:
            self._rules = [rule for rule in self._rules if rule_id is not None and rule.rule != rule_id]
