"""./dev tells what there is and what is wrong, in one line, and does nothing by halves."""

from __future__ import annotations

import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.local import environment, system_packages
from deploy.local.cli import dev
from deploy.local.folder import CHECKOUT
from deploy.local.problems import Problem


def test_the_help_names_every_command_and_no_other() -> None:
    told = set(re.findall(r"^  ([a-z][a-z-]*)", environment.HELP.read_text(), re.MULTILINE))
    assert told == set(dev.commands)


def test_every_command_has_a_help_of_its_own() -> None:
    for name, command in dev.commands.items():
        assert command.help, name
        shown = CliRunner().invoke(command, ["--help"])
        assert shown.exit_code == 0, name


def test_without_a_command_it_shows_the_help_and_needs_no_environment(tmp_path: Path) -> None:
    """The launcher alone, from another folder, by a Python without any of our packages."""
    shown = subprocess.run(
        ["/usr/bin/env", "python3", "-I", str(CHECKOUT / "dev")], cwd=tmp_path, capture_output=True, text=True
    )
    assert shown.returncode == 0
    assert shown.stdout == environment.HELP.read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["call", "nowhere.method"], "the services are identity"),
        (["call", "cases.get_case", "{"], "not JSON"),
        (["call", "cases.get_case", "[]"], "by name"),
        (["call", "cases.get_case", "{}"], "./dev up"),
        (["token", "staff", "SE1"], "./dev up"),
        (["clock"], "./dev up"),
        (["logs"], "no logs"),
        (["dead-letters", "list"], "./dev up"),
        (["dead-letters", "resend", "cases"], "--all"),
        (["test", "nothing"], "there is no nothing to test"),
        (["bench", "nothing"], "there is no benchmark nothing"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VARDARENDE_DATA", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        dev.main(arguments, prog_name="./dev")
    told = str(ended.value)  # which Python writes to standard error, with exit status 1
    assert says in told
    assert told.startswith("./dev: ")
    assert len(told.splitlines()) == 1
    assert capsys.readouterr().out == ""


def test_nothing_is_begun_where_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.local.folder.NEEDED_FREE_BYTES", 1 << 60)
    monkeypatch.setenv("VARDARENDE_DATA", str(tmp_path / "data"))
    with pytest.raises(SystemExit) as ended:
        dev.main(["up"])
    assert "MB free" in str(ended.value)
    assert list((tmp_path / "data").iterdir()) == []


def test_a_data_folder_that_can_not_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VARDARENDE_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(SystemExit, match="can't be made"):
        dev.main(["up"])


def test_missing_packages_are_named_when_they_may_not_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_packages, "_PRESENT", dict.fromkeys(system_packages._PRESENT, lambda: False))
    monkeypatch.setattr(system_packages, "_privilege", lambda: None)
    with pytest.raises(Problem) as told:
        system_packages.require(system_packages.SERVERS, lambda text: None)
    assert "rabbitmq-server, postgresql" in str(told.value)
    assert "apt-get install" in str(told.value) or "what your system calls them" in str(told.value)


def test_what_will_be_missing_next_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_packages, "_PRESENT", dict.fromkeys(system_packages._PRESENT, lambda: False))
    monkeypatch.setattr(system_packages, "_privilege", lambda: None)
    with pytest.raises(Problem, match="python3-venv, and rabbitmq-server, postgresql for the servers"):
        system_packages.require(["python3-venv"], lambda text: None)


def test_what_is_there_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_packages, "_PRESENT", dict.fromkeys(system_packages._PRESENT, lambda: True))
    monkeypatch.setattr(system_packages, "run_telling", lambda *_: pytest.fail("it was installed"))
    system_packages.require(system_packages.SERVERS, lambda text: None)


def test_a_long_installation_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_packages, "_TELL_EVERY_SECONDS", 0.0)
    told: list[str] = []
    script = "echo Setting up a; echo Setting up b; echo bad >&2; exit 3"
    well, end = system_packages.run_telling(["sh", "-c", script], told.append, "Setting up", "packages set up")
    assert not well
    assert "bad" in end
    assert "  2 packages set up" in told


def test_what_two_lack_at_the_same_moment_is_installed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two halves of a test run, or two checkouts on a new machine: apt-get refuses whoever comes second."""
    there = tmp_path / "installed"
    installed: list[list[str]] = []

    def install(become: list[str], wanted: list[str], say: system_packages.Say) -> None:
        installed.append(wanted)
        time.sleep(0.2)  # long enough for the other to find it missing too
        there.write_text("")

    monkeypatch.setattr(system_packages, "_PRESENT", {"slapd": there.exists})
    monkeypatch.setattr(system_packages, "_DPKG", tmp_path)
    monkeypatch.setattr(system_packages, "_privilege", list)
    monkeypatch.setattr(system_packages, "_install", install)
    with ThreadPoolExecutor(2) as two:
        list(two.map(lambda _: system_packages.require(["slapd"], lambda text: None), range(2)))
    assert installed == [["slapd"]]
