"""`python -m bench [WHAT ...] [--publish]`: measures, tells, keeps; status 1 if a bar does not hold."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from bench import attachments, logins, outbox, rpc, tokens
from bench.parts import report
from bench.parts.servers import Servers, running, versions

BENCHMARKS: dict[str, Callable[[Servers], list[report.Figure]]] = {
    "rpc": rpc.measure,
    "tokens": tokens.measure,
    "outbox": outbox.measure,
    "attachments": attachments.measure,
    "logins": logins.measure,
}


def main() -> int:
    """Runs those that are named, or all."""
    parser = argparse.ArgumentParser(prog="./dev bench", description="Measures the kernel against its bars.")
    parser.add_argument("what", nargs="*", metavar="WHAT", help=", ".join(BENCHMARKS))
    parser.add_argument("--publish", action="store_true", help="bench/results/latest.json and README.md show this run")
    chosen = parser.parse_args()
    unknown = set(chosen.what) - BENCHMARKS.keys()
    if unknown or (chosen.publish and chosen.what):
        parser.error(f"no benchmark {', '.join(unknown)}" if unknown else "only a whole run is published")
    about = report.machine()
    figures: list[report.Figure] = []
    with running() as servers:
        about |= versions(servers)
        for name in chosen.what or BENCHMARKS:
            began = time.monotonic()
            found = BENCHMARKS[name](servers)
            figures += found
            print(f"\n{name} ({time.monotonic() - began:.0f} s)\n{report.table(found)}", flush=True)
    file = report.keep(figures, about, publish=chosen.publish)
    print(f"\nkept in {file}; load before: {about['load_before']}, processors: {about['processors']}")
    return 1 if any(figure.holds is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
