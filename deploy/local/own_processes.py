"""Our own processes: what they are, and what each is told by its environment (the tables in the services' READMEs)."""

from __future__ import annotations

import base64
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests

from deploy.local import siths_ca
from deploy.local.folder import CHECKOUT
from deploy.local.keys import Keys
from deploy.local.people import cast
from deploy.local.ports import Ports
from deploy.local.processes import Process, Program
from deploy.local.servers.seaweedfs import ACCESS_KEY

SERVICES = ("identity", "directory", "cases", "attachments", "notifications")
WORKERS = {
    "attachments_worker": "services.attachments.worker",
    "notifications_worker": "services.notifications.worker",
    "notifications_web": "services.notifications.web",
    "directory_worker": "services.directory.worker",
}
NAMES = (*SERVICES, *WORKERS)
NAMEKO_CONFIG = "deploy/nameko.yaml"
MESSAGES_USER = "vardarende"


@dataclass(frozen=True)
class Addresses:
    """Where everything is that our processes talk to. `database` and `broker`: the address for a service."""

    database: Callable[[str], str]
    owners_database: Callable[[str], str]
    broker: Callable[[str], str]
    store: str
    public_store: str
    idp: str
    hsa: str
    pu: str
    kiv: str
    sms: str
    smtp_host: str
    smtp_port: int


@dataclass(frozen=True)
class System:
    """What the environment of our processes is made from. `client`: certificate and key that we show to others."""

    folder: Path
    ports: Ports
    keys: Keys
    at: Addresses
    trust: Path
    client: tuple[str, str]

    @property
    def clock_file(self) -> Path:
        """What moves the time of the whole stack."""
        return self.folder / "clock.json"

    def environment(self, name: str) -> dict[str, str]:
        """All that the process is told."""
        of_all = {
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "ignore:pkg_resources is deprecated:UserWarning",
            "HEALTH_HOST": "127.0.0.1",
            "HEALTH_PORT": str(self.ports[name]),
            "CLOCK_FILE": str(self.clock_file),
        }
        if name == "notifications_web":
            return of_all | self._notifications_web()
        service = name.removesuffix("_worker")
        env = {
            "AMQP_URL": self.at.broker(service),
            "DATABASE_URL": self.at.database(service),
            "SIGNING_KEY_FILE": str(self.keys.signing_key(service)),
            "TRUSTED_KEYS_FILE": str(self.keys.trusted),
            "DATA_KEYS_FILE": str(self.keys.data_keys(service)),
            "MAX_WORKERS": "64",
        }
        own: dict[str, str] = getattr(self, f"_{service}")()
        return of_all | env | own

    def _identity(self) -> dict[str, str]:
        number_key = self.keys.secret_file("identity_numbers", lambda: secrets.token_hex(32))
        return {
            "IDENTITY_NUMBER_KEY_FILE": str(number_key),
            "STAFF_OIDC_ISSUER": self.at.idp,
            "STAFF_OIDC_CLIENT_ID": "1177-personal",
            "RESIDENT_OIDC_ISSUER": self.at.idp,
            "RESIDENT_OIDC_CLIENT_ID": "1177-invanare",
            "OIDC_CA_FILE": str(self.trust),
            "SITHS_CA_FILE": str(siths_ca.cards_file(self.trust.parent)),
            "PU_URL": self.at.pu,
            "PU_CERTIFICATE_FILE": self.client[0],
            "PU_KEY_FILE": self.client[1],
            "PU_CA_FILE": str(self.trust),
            "ACCEPT_TEST_PERSONS": "true",
        }

    def _directory(self) -> dict[str, str]:
        return {
            "KIV_UNITS": f"{self.at.kiv}/units,{self.at.kiv}/roles",
            "KIV_STAFF": f"{self.at.kiv}/persons",
            "KIV_CLIENT_CERT_FILE": self.client[0],
            "KIV_CLIENT_KEY_FILE": self.client[1],
            "KIV_CA_FILE": str(self.trust),
            "HSA_URL": self.at.hsa,
            "HSA_CLIENT_CERT_FILE": self.client[0],
            "HSA_CLIENT_KEY_FILE": self.client[1],
            "HSA_CA_FILE": str(self.trust),
            "DEFAULT_CARE_PROVIDER": cast.CARE_PROVIDER,
            "DEFAULT_CARE_PROVIDER_NAME": cast.CARE_PROVIDER_NAME,
        }

    def _cases(self) -> dict[str, str]:
        return {}

    def _attachments(self) -> dict[str, str]:
        work = self.folder / "attachments"
        work.mkdir(exist_ok=True)
        return {
            "S3_ENDPOINT": self.at.store,
            "S3_PUBLIC_ENDPOINT": self.at.public_store,
            "S3_ACCESS_KEY_FILE": str(self.keys.secret_file("s3_access_key", lambda: ACCESS_KEY)),
            "S3_SECRET_KEY_FILE": str(self.keys.secret_file("s3")),
            "WORK_FOLDER": str(work),
        }

    def _key_of_32(self, name: str) -> str:
        return str(self.keys.secret_file(name, lambda: base64.b64encode(secrets.token_bytes(32)).decode()))

    def _notifications(self) -> dict[str, str]:
        return {
            "ADDRESS_KEY_FILE": self._key_of_32("notification_addresses"),
            "REPORT_KEY_FILE": self._key_of_32("report_addresses"),
            "SMTP_HOST": self.at.smtp_host,
            "SMTP_PORT": str(self.at.smtp_port),
            "SMTP_TLS": "starttls",
            "SMTP_CA_FILE": str(self.trust),
            "SMTP_USER": MESSAGES_USER,
            "SMTP_PASSWORD_FILE": str(self.keys.secret_file("mail")),
            "MAIL_FROM": "no-reply@e-tjanster.example",
            "SMS_URL": f"{self.at.sms}/a1/sms",
            "SMS_CA_FILE": str(self.trust),
            "SMS_USER": MESSAGES_USER,
            "SMS_PASSWORD_FILE": str(self.keys.secret_file("sms")),
            "SMS_SENDER": "Etjanst1177",
            "REPORTS_URL": f"http://127.0.0.1:{self.ports['reports']}",
        }

    def _notifications_web(self) -> dict[str, str]:
        return {
            "DATABASE_URL": self.at.database("notifications_web"),
            "REPORT_KEY_FILE": self._key_of_32("report_addresses"),
            "WEB_PORT": str(self.ports["reports"]),
            "REPORT_PASSWORD_FILE": str(self.keys.secret_file("reports")),
        }

    def process(self, name: str) -> OwnProcess:
        """The process of this name."""
        if name in WORKERS:
            argv = [sys.executable, "-m", WORKERS[name]]
        else:
            argv = [sys.executable, "-m", "nameko", "run", "--config", NAMEKO_CONFIG, f"services.{name}.service"]
        return OwnProcess(Program(name, argv, CHECKOUT, self.environment(name)), self.folder, self.ports[name])

    def migration(self, service: str) -> Process:
        """Brings the service's database to its newest form, and ends."""
        argv = [sys.executable, "-m", "shared.database.migrate", service]
        environment = self.environment(service) | {"DATABASE_URL": self.at.owners_database(service)}
        return Process(Program(f"migrate_{service}", argv, CHECKOUT, environment), self.folder)


class OwnProcess(Process):
    """One of our processes; it tells at its health port whether it is ready."""

    def __init__(self, program: Program, folder: Path, health_port: int) -> None:
        super().__init__(program, folder)
        self.health = f"http://127.0.0.1:{health_port}"

    def ready(self) -> bool:
        """Whether it says that it is."""
        return self.alive and self.readiness()[0]

    def readiness(self) -> tuple[bool, str]:
        """Whether it says that it is ready, and what it says."""
        try:
            reply = requests.get(f"{self.health}/ready", timeout=2)
        except requests.RequestException:
            return False, "does not answer at its health port"
        return reply.status_code == 200, reply.text.strip()[:300]

    def wait_ready(self, seconds: float = 60.0) -> None:
        """Returns when it is ready. Raises `Problem` with the end of its log, and what it says is missing."""
        self.wait_until(self.ready, seconds)
