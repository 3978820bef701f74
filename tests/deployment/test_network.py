"""Who reaches whom: processes the servers that they use, outside callers what is for them, and which ports are open."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.deployment.support import in_container

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

OPEN = {"postgres": ["5432"], "rabbitmq": ["15692", "5671"], "store": ["18333", "8333"]}
"""The ports of the servers that others reach; the store's second takes nobody's certificate (below)."""
OPEN_TO_CALLERS = {
    "entry_calls": ("rabbitmq", ["5671"]),
    "entry_files": ("door", ["8333"]),
    "entry_reports": ("notifications_web", ["8443"]),
}
"""Who is on the networks by which outside callers come in, and those of its ports: nothing tells figures there."""
SCAN = """
import concurrent.futures, socket
def look(port):
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((address, port)) == 0
for host in %r:
    address = socket.gethostbyname(host)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = zip(range(1, 65536), pool.map(look, range(1, 65536)))
        print(*sorted(str(port) for port, there in found if there))
"""


def test_a_process_reaches_by_network_only_what_it_uses(deployment):
    reach = (
        "import socket, threading\n"
        "def look(host, port):\n"
        "    try:\n"
        "        socket.create_connection((host, port), 2).close()\n"
        "        reached.append(f'{host} {port}')\n"
        "    except OSError:\n"
        "        pass\n"
        "reached = []\n"
        "places = ('postgres', 5432), ('rabbitmq', 5671), ('rabbitmq', 15672), ('store', 8333), ('store', 8888), \\\n"
        "    ('counterparts', 9002)\n"
        "looking = [threading.Thread(target=look, args=at, daemon=True) for at in places]\n"
        "[one.start() for one in looking]\n"
        "[one.join(4) for one in looking[:1]]\n"  # a name that is not known here may be looked for much longer
        "[one.join(1) for one in looking[1:]]\n"
        "print('\\n'.join(sorted(reached)))\n"
    )
    told = {
        service: in_container(deployment, service, reach)
        for service in ("cases", "identity", "attachments_worker", "notifications_web")
    }
    assert told["cases"] == ["postgres 5432", "rabbitmq 5671"]
    assert told["identity"] == ["counterparts 9002", "postgres 5432", "rabbitmq 5671"]
    assert told["attachments_worker"] == ["postgres 5432", "rabbitmq 5671", "store 8333"]
    assert told["notifications_web"] == ["postgres 5432"]


def test_the_servers_have_no_other_port_open_than_those_that_are_used(deployment):
    """Those by which their parts speak with one another ask nobody who they are."""
    told = in_container(deployment, "attachments_worker", SCAN % (list(OPEN),))
    assert dict(zip(OPEN, (line.split() for line in told), strict=True)) == OPEN


def test_by_the_networks_of_outside_callers_nothing_is_reached_but_what_is_for_them(deployment):
    """Neither figures nor anybody else; and there is no way out by them."""
    for network, (host, ports) in OPEN_TO_CALLERS.items():
        beside = ["docker", "run", "--rm", "--network", f"{deployment.project}_{network}", "vardarende:local"]
        done = subprocess.run([*beside, "python", "-c", SCAN % ([host],)], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ports, network
        [found] = json.loads(
            subprocess.run(
                ["docker", "network", "inspect", f"{deployment.project}_{network}"], capture_output=True, check=True
            ).stdout
        )
        there = {one["Name"].split("-")[-2] for one in found["Containers"].values()}
        assert there == {host, "watch"}, network  # who looks whether it answers, and listens to nobody there
