"""`python -m bench [WHAT ...] [--publish]`: measures, tells, keeps; status 1 if a bar does not hold."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from bench import attachments, cases, directory, logins, notifications, outbox, revocation, rpc, tokens
from bench.parts import report
from bench.parts.servers import Servers, running, versions

BENCHMARKS: dict[str, Callable[[Servers], list[report.Figure]]] = {
    "rpc": rpc.measure,
    "tokens": tokens.measure,
    "outbox": outbox.measure,
    "attachments": attachments.measure,
    "logins": logins.measure,
    "revocation": revocation.measure,
    "cases": cases.measure,
    "directory": directory.measure,
    "notifications": notifications.measure,
}


def main() -> int:
    """Runs those that are named, or all."""
    parser = argparse.ArgumentParser(prog="./dev bench", description="Measures the kernel against its bars.")
    parser.add_argument("what", nargs="*", metavar="WHAT", help=", ".join(BENCHMARKS))
    parser.add_argument("--publish", action="store_true", help="bench/results and README.md show this run")
    chosen = parser.parse_args()
    unknown = set(chosen.what) - BENCHMARKS.keys()
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}")
    well = True
    with running() as servers:
        for name in chosen.what or BENCHMARKS:
            about, began = report.machine() | versions(servers), time.monotonic()
            figures = BENCHMARKS[name](servers)
            print(f"\n{name} ({time.monotonic() - began:.0f} s)\n{report.table(figures)}", flush=True)
            file = report.keep(name, figures, about, publish=chosen.publish)
            print(f"kept in {file}; load before: {about['load_before']}, processors: {about['processors']}", flush=True)
            well = well and all(figure.holds is not False for figure in figures)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
