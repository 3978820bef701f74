"""Tells the main story against the deployment, from a container beside it: `python -m deploy.demo.run`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from deploy.demo.world import DeployedWorld, control
from deploy.local.demo import serve_feed, told
from deploy.local.problems import Problem
from deploy.local.story import Story


def main() -> int:
    """One JSON object on standard output when it is over; the steps on standard error as they happen. 0: all held."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo.run")
    parser.add_argument("--feed", type=Path, help="units in the form of KiV's JSON feed")
    chosen = parser.parse_args()
    began = time.monotonic()
    try:
        serve_feed(control("kiv"), chosen.feed)
        with DeployedWorld() as world:
            steps = Story(world, told, own_feed=chosen.feed is None).tell()
    except (Problem, OSError, ValueError) as error:
        print(json.dumps({"ok": False, "steps": [], "problem": str(error)}))
        return 1
    held = bool(steps) and all(step.ok for step in steps)
    seconds = round(time.monotonic() - began, 3)
    print(json.dumps({"ok": held, "seconds": seconds, "steps": [step.as_json() for step in steps]}, ensure_ascii=False))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
