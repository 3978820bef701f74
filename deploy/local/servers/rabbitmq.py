"""RabbitMQ from the system's packages, beside the system's own: node, ports, folders and epmd of its own."""

from __future__ import annotations

from pathlib import Path

from deploy.local import ports
from deploy.local.broker_admin import BrokerAdmin
from deploy.local.folder import write_private
from deploy.local.problems import Problem
from deploy.local.processes import Process, Program
from deploy.local.servers import ADMINISTRATOR, Place
from deploy.local.servers.native import NativeServer
from deploy.rabbitmq.definitions import MOST_CHANNELS_OF_A_CONNECTION

LOCAL_ONLY = "-kernel inet_dist_use_interface {127,0,0,1}"
# Counts of messages and connections are looked at by tests and by people, who wait for them.
STATISTICS = "-rabbit collect_statistics_interval 500"


def scripts() -> Path | None:
    """RabbitMQ's own scripts. Those in /usr/sbin insist on the system's user and folders."""
    found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))
    return found[-1] if found else None


def epmd() -> Path | None:
    """Erlang's port mapper."""
    for candidate in (Path("/usr/bin/epmd"), *sorted(Path("/usr/lib/erlang").glob("erts-*/bin/epmd"))):
        if candidate.exists():
            return candidate
    return None


class RabbitMQ(NativeServer):
    """One node; its port mapper is a process of its own, which nobody else's node comes to depend on."""

    name, title = "rabbitmq", "RabbitMQ"
    used_ports = ("amqp", "management", "erlang")
    start_seconds = 90.0

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        found = epmd()
        if found is None:
            raise Problem("Erlang's epmd is not installed")
        argv = [str(found), "-port", str(place.ports["epmd"]), "-address", "127.0.0.1"]
        self._epmd = Process(Program("epmd", argv, place.folder, stop_seconds=3.0), place.folder)
        self.admin = BrokerAdmin(self.host, place.ports["management"], ADMINISTRATOR, place.keys.password("rabbitmq"))

    @property
    def _home(self) -> Path:
        return self.place.folder / "rabbitmq"

    def program(self) -> Program:
        """The node, in the foreground."""
        found = scripts()
        if found is None:
            raise Problem("RabbitMQ is not installed")
        env = {
            "HOME": str(self._home),
            "RABBITMQ_NODENAME": "vardarende@localhost",
            "RABBITMQ_NODE_PORT": str(self.place.ports["amqp"]),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self.place.ports["erlang"]),
            "ERL_EPMD_PORT": str(self.place.ports["epmd"]),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": str(self._home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._home / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._home / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(self._home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self._home / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(self._home / "rabbitmq-env.conf"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-start_epmd false {LOCAL_ONLY} {STATISTICS}",
        }
        return Program(self.name, [str(found / "rabbitmq-server")], self.place.folder, env, stop_seconds=30.0)

    def prepare(self) -> None:
        """Writes its configuration and starts its port mapper."""
        for folder in (self._home, self._home / "mnesia", self._home / "log"):
            folder.mkdir(parents=True, exist_ok=True)
        lines = [
            f"listeners.tcp.default = 127.0.0.1:{self.place.ports['amqp']}",
            # Before a service has looked at a message it has it in memory, and as many at once as it has workers.
            "max_message_size = 16777216",
            "management.tcp.ip = 127.0.0.1",
            f"management.tcp.port = {self.place.ports['management']}",
            f"default_user = {ADMINISTRATOR}",
            f"default_pass = {self.place.keys.password('rabbitmq')}",
            "loopback_users = none",
            "log.console.level = warning",
            "disk_free_limit.absolute = 100MB",
            "vm_memory_high_watermark.relative = 0.6",
            "heartbeat = 10",
            f"channel_max = {MOST_CHANNELS_OF_A_CONNECTION}",
        ]
        write_private(self._home / "rabbitmq.conf", "\n".join(lines) + "\n")
        write_private(self._home / "enabled_plugins", "[rabbitmq_management].\n")
        if not self._epmd.alive:
            ports.require_free(self.place.ports, ["epmd"], "Erlang's epmd")
            self._epmd.start()
            self._epmd.wait_until(lambda: not ports.free(self.place.ports["epmd"]), 10.0)

    def answers(self) -> bool:
        """Whether it takes AMQP connections and answers questions."""
        return not ports.free(self.place.ports["amqp"]) and self.admin.answers()

    def stop(self) -> None:
        """Stops the node, then its port mapper, which would go on for ever."""
        super().stop()
        self._epmd.stop()
