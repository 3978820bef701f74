"""Processes that outlive their starter: found again, stopped, and never mistaken for others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.local.problems import Problem
from deploy.local.processes import Process, Program, start_time


def process(folder: Path, script: str, **more: object) -> Process:
    return Process(Program("it", [sys.executable, "-uc", script], folder, **more), folder)  # type: ignore[arg-type]


SLEEPS = "print('here', flush=True); import time; time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(60)"
)


def test_it_is_found_again_by_another_program(tmp_path: Path) -> None:
    first = process(tmp_path, SLEEPS)
    first.start()
    first.wait_until(lambda: "here" in first.output(), 10)
    again = process(tmp_path, SLEEPS)
    assert again.pid == first.pid
    again.start()
    assert again.pid == first.pid
    again.stop()
    assert not first.alive
    assert not first.record.exists()


def test_one_that_will_not_stop_is_killed(tmp_path: Path) -> None:
    it = process(tmp_path, STUBBORN, stop_seconds=0.3)
    it.start()
    it.wait_until(lambda: "here" in it.output(), 10)
    it.stop()
    assert not it.alive


def test_one_that_hangs_can_be_stopped(tmp_path: Path) -> None:
    it = process(tmp_path, SLEEPS)
    it.start()
    it.wait_until(lambda: "here" in it.output(), 10)
    it.signal(signal.SIGSTOP)
    assert it.alive
    began = time.monotonic()
    it.stop()
    assert not it.alive
    assert time.monotonic() - began < 10


def test_another_process_of_the_same_pid_is_left_alone(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        it = process(tmp_path, SLEEPS)
        it.record.parent.mkdir(parents=True)
        it.record.write_text(json.dumps({"pid": other.pid, "start_time": "1"}))
        assert not it.alive
        it.stop()
        it.kill()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_one_that_dies_while_starting_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    it = process(tmp_path, "print('an old run')")
    it.start()
    it.wait_for_end(10)
    it = process(tmp_path, "raise SystemExit('no such setting')")
    it.start()
    with pytest.raises(Problem, match="died while starting") as told:
        it.wait_until(lambda: False, 10)
    assert "no such setting" in str(told.value)
    assert "an old run" not in str(told.value)
    assert str(it.log) in str(told.value)


def test_one_that_is_never_ready_is_told(tmp_path: Path) -> None:
    it = process(tmp_path, SLEEPS)
    it.start()
    try:
        with pytest.raises(Problem, match="not ready within"):
            it.wait_until(lambda: False, 0.2)
    finally:
        it.kill()


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    it = Process(Program("it", ["/no/such/program"], tmp_path), tmp_path)
    with pytest.raises(Problem, match="can't be started"):
        it.start()


def test_it_gets_no_settings_of_the_person_who_starts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://another.example")
    it = process(tmp_path, "import os; print(sorted(os.environ))", env={"OWN": "1"})
    it.start()
    it.wait_for_end(10)
    assert "OWN" in it.output()
    assert "AMQP_URL" not in it.output()


def test_a_dead_child_has_no_start_time() -> None:
    child = subprocess.Popen(["true"])
    time.sleep(0.2)
    assert start_time(child.pid) is None  # a zombie
    child.wait()
    assert start_time(child.pid) is None
    assert start_time(os.getpid()) is not None
