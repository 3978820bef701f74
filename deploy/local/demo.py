"""`./dev demo`: starts the local stack and tells the main story as it happens."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click
import requests

from deploy.local import cli_stack, deployment
from deploy.local.people import cast
from deploy.local.problems import Problem
from deploy.local.story import Story
from deploy.local.teller import Step
from deploy.local.world import World


def told(step: Step) -> None:
    """Tells a step, on standard error."""
    mark = "ok" if step.ok else "FAILED"
    click.echo(f"{mark:>6}  {step.seconds:6.2f} s  {step.name}", err=True)
    for line in step.said:
        click.echo(f"{'':18}{line}", err=True)
    if step.problem:
        click.echo(f"{'':18}expected: {step.problem}", err=True)


def serve_feed(control_url: str, feed: Path | None) -> None:
    """Puts the units that KiV's counterpart serves in place: the file's, or our own."""
    url = f"{control_url}/feeds/units"
    if feed is None:
        answer = requests.delete(url, timeout=30)
    else:
        answer = requests.put(url, data=feed.read_bytes(), headers={"Content-Type": "application/json"}, timeout=60)
    if answer.status_code >= 400:
        raise Problem(f"{feed} is no feed of units in KiV's form: {answer.json().get('error', '')}")


def _around() -> str:
    return "\n".join(
        (
            "The stack still runs. To look around:",
            "  ./dev status                              what runs, and where",
            "  ./dev logs cases                          what a service says",
            f"  ./dev token resident {cast.RESIDENT}         a resident's token; then for example:",
            "  ./dev call cases.list_inbox '{}' --token TOKEN",
            "  ./dev shell                               a Python prompt with RPC to all services",
            "  ./dev down                                stops it all",
        )
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. 0: every step held."""
    parser = argparse.ArgumentParser(prog="./dev demo")
    parser.add_argument("--feed", type=Path, help="units in the form of KiV's JSON feed, instead of our own")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, when it is over")
    parser.add_argument("--target", choices=("local", "compose"), default="local", help="where it runs")
    parser.add_argument("--scale", action="append", default=[], help="SERVICE=N, with --target compose")
    chosen = parser.parse_args(arguments)
    if chosen.target == "compose":
        return deployment.tell_story(chosen.feed, chosen.scale, as_json=chosen.json)
    began = time.monotonic()
    steps: list[Step] = []
    problem: str | None = None
    try:
        stack = cli_stack.started()
        serve_feed(stack.counterparts["kiv"].control_url, chosen.feed)
        click.echo("", err=True)
        with World(stack, "demo") as world:
            steps = Story(world, told, own_feed=chosen.feed is None).tell()
    except (Problem, OSError, ValueError) as error:
        problem = str(error)
    held = problem is None and bool(steps) and all(step.ok for step in steps)
    seconds = time.monotonic() - began
    if chosen.json:
        outcome = {"ok": held, "seconds": round(seconds, 3), "steps": [step.as_json() for step in steps]}
        print(json.dumps(outcome | ({"problem": problem} if problem else {}), ensure_ascii=False))
    if problem:
        click.echo(f"./dev demo: {problem}", err=True)
    elif held:
        click.echo(f"\nAll {len(steps)} steps held, {seconds:.1f} s in all.\n{_around()}", err=True)
    else:
        click.echo("\nA step did not hold; ./dev logs SERVICE may tell why.", err=True)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
