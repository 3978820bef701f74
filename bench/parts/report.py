"""What a run of the benchmarks leaves: a table to read, and JSON with what the machine was."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.local.folder import CHECKOUT, data_folder, make_folder

RESULTS = CHECKOUT / "bench" / "results"
_README = CHECKOUT / "README.md"
_BEGIN, _END = "<!-- bench -->", "<!-- /bench -->"


@dataclass(frozen=True)
class Figure:
    """One measured figure. `bar`: what it has to be at least, or (`at_most`) at most; None: it is only told."""

    name: str
    value: float
    unit: str
    lowest: float
    highest: float
    rounds: int
    bar: float | None = None
    at_most: bool = False

    @property
    def holds(self) -> bool | None:
        """Whether it is as it has to be."""
        if self.bar is None:
            return None
        return self.value <= self.bar if self.at_most else self.value >= self.bar


def median(name: str, unit: str, values: Sequence[float], bar: float | None = None, *, at_most: bool = False) -> Figure:
    """The median of the rounds."""
    middle = statistics.median(values)
    return Figure(name, middle, unit, min(values), max(values), len(values), bar, at_most)


def ratio(
    name: str, ours: Sequence[float], peers: Sequence[float], bar: float | None, *, at_most: bool = False
) -> Figure:
    """The ratio of the medians; its spread is that of the rounds, each against its neighbour in time."""
    each = [one / other for one, other in zip(ours, peers, strict=True)]
    value = statistics.median(ours) / statistics.median(peers)
    return Figure(name, value, "times", min(each), max(each), len(each), bar, at_most)


def machine() -> dict[str, Any]:
    """What it was measured on, without anything that tells where."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processors": os.cpu_count(),
        "memory_gb": round(memory),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 1),
    }


def keep(name: str, figures: Sequence[Figure], about: dict[str, Any], *, publish: bool) -> Path:
    """Writes the figures of a benchmark to the data folder; `publish`: to the checkout too, as its latest."""
    now = datetime.now(UTC)
    content = {
        "at": now.isoformat(timespec="seconds"),
        "machine": about,
        "figures": [asdict(figure) | {"holds": figure.holds} for figure in figures],
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    file = make_folder(data_folder() / "bench") / f"{now:%Y%m%dT%H%M%SZ}-{name}.json"
    file.write_text(text)
    if publish:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(text)
        _write_readme()
    return file


def table(figures: Sequence[Figure]) -> str:
    """For people at a terminal."""
    rows = [("figure", "median", "spread", "bar", ""), *(_cells(one) for one in figures)]
    widths = [max(len(row[place]) for row in rows) for place in range(5)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _cells(figure: Figure) -> tuple[str, str, str, str, str]:
    bar = "" if figure.bar is None else f"at {'most' if figure.at_most else 'least'} {_number(figure.bar)}"
    verdict = {None: "", True: "holds", False: "DOES NOT HOLD"}[figure.holds]
    spread = f"{_number(figure.lowest)} to {_number(figure.highest)}"
    return figure.name, f"{_number(figure.value)} {figure.unit}", spread, bar, verdict


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value >= 100 else f"{value:.3g}"


def _write_readme() -> None:
    """The figures that have a bar, of the latest published run of each benchmark."""
    lines = ["| measured | figure | median | spread | bar | |", "|---|---|---|---|---|---|"]
    machines = set()
    for file in sorted(RESULTS.glob("*.json")):
        content = json.loads(file.read_text())
        about = content["machine"]
        machines.add(
            f"{about['processors']} processors, {about['memory_gb']} GB, Python {about['python']}, "
            f"RabbitMQ {about['broker']}, PostgreSQL {about['database']}, {about['servers']} servers"
        )
        for told in content["figures"]:
            figure = Figure(**{key: value for key, value in told.items() if key != "holds"})
            if figure.bar is not None:
                lines.append(f"| {file.stem}, {content['at'][:10]} | " + " | ".join(_cells(figure)) + " |")
    text = _README.read_text()
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    if after:
        told_of = f"Latest published runs ({'; '.join(sorted(machines))}); all figures stand in bench/results:"
        _README.write_text(f"{before}{_BEGIN}\n{told_of}\n\n" + "\n".join(lines) + f"\n{_END}{after}")
