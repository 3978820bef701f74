"""Every alarm asks for figures that there are, of all processes, and is told of in docs/operations.md."""

from __future__ import annotations

import re

import yaml

from deploy.local.folder import CHECKOUT
from shared.operations.health import HealthServer, Metrics

RULES = yaml.safe_load((CHECKOUT / "deploy" / "monitoring" / "alarms.yml").read_text())
SCRAPED = yaml.safe_load((CHECKOUT / "deploy" / "monitoring" / "prometheus.yml").read_text())
COMPOSE = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"]
ALARMS = [rule for group in RULES["groups"] for rule in group["rules"]]
SOURCES = "\n".join(
    path.read_text() for room in ("shared", "services", "deploy/monitoring") for path in (CHECKOUT / room).rglob("*.py")
)


def test_every_figure_of_ours_is_one_that_a_process_has():
    for alarm in ALARMS:
        for name in re.findall(r"vardarende_[a-z_]+", alarm["expr"]):
            assert f'"{re.sub("_(count|bucket|sum)$", "", name)}"' in SOURCES, (alarm["alert"], name)


def test_every_alarm_is_told_of_and_no_other():
    told = re.findall(
        r"^\| (`[A-Z][a-z]+[A-Za-z]+`(?:, `[A-Z][a-z]+[A-Za-z]+`)*) \|",
        (CHECKOUT / "docs" / "operations.md").read_text(),
        re.MULTILINE,
    )
    told = [name.strip("`") for names in told for name in names.split(", ")]
    assert sorted(told) == sorted(alarm["alert"] for alarm in ALARMS)
    assert {alarm["labels"]["severity"] for alarm in ALARMS} == {"page", "ticket"}


def test_every_process_is_asked():
    [processes] = [job for job in SCRAPED["scrape_configs"] if job["job_name"] == "processes"]
    own = "${IMAGE:-vardarende}:"
    ours = {
        name for name, one in COMPOSE.items() if one.get("restart") == "unless-stopped" and one["image"].startswith(own)
    }
    assert set(processes["dns_sd_configs"][0]["names"]) == ours
    [none_left] = [alarm["expr"] for alarm in ALARMS if alarm["alert"] == "NoProcess"]
    assert set(re.findall(r'absent\(up{job="processes",process="([a-z_]+)"}\)', none_left)) == ours


def test_a_process_tells_in_its_figures_what_it_lacks():
    server = HealthServer("127.0.0.1", 0, Metrics(), {"broker": lambda: True, "database": lambda: False})
    try:
        assert server.page("/ready")[0] == 503
        figures = server.page("/metrics")[2].decode()
        assert 'vardarende_need_there{need="broker"} 1.0' in figures
        assert 'vardarende_need_there{need="database"} 0.0' in figures
    finally:
        server._http.server_close()
