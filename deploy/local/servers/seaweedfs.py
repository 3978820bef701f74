"""SeaweedFS from PyPI: the object store."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import boto3
import botocore.config
import botocore.exceptions

from deploy.local import ports
from deploy.local.folder import write_private
from deploy.local.problems import Problem
from deploy.local.processes import Program
from deploy.local.servers.native import NativeServer

ACCESS_KEY = "vardarende"


def s3_config(secret: str) -> str:
    """The one user, who may do everything; nobody else may do anything."""
    user = {
        "name": "vardarende",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": secret}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    return json.dumps({"identities": [user]})


def sse_key(password: str) -> str:
    """The key by which the store encrypts what it keeps: 64 hex digits."""
    return hashlib.sha256(password.encode()).hexdigest()


class SeaweedFS(NativeServer):
    """`weed mini`: everything in one process."""

    name, title = "seaweedfs", "SeaweedFS"
    used_ports = ("s3", "s3_grpc", "master", "master_grpc", "volume", "volume_grpc", "filer", "filer_grpc")

    def program(self) -> Program:
        """The store on the local address alone, without its user interfaces."""
        weed = Path(sys.executable).parent / "weed"
        if not weed.exists():
            found = shutil.which("weed")
            if found is None:
                raise Problem(
                    f"SeaweedFS's program weed is missing beside {sys.executable}: remove .venv and try again"
                )
            weed = Path(found)
        home, port = self.place.folder / "seaweedfs", self.place.ports
        options = {
            "dir": home / "data", "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "s3.config": home / "s3.json",
            "s3.port": port["s3"], "s3.port.grpc": port["s3_grpc"], "s3.port.iceberg": 0, "s3.port.lance": 0,
            "s3.localSocket": home / "s3.sock", "s3.metricsPort": port["s3_metrics"],
            "master.port": port["master"], "master.port.grpc": port["master_grpc"], "master.telemetry": "false",
            "volume.port": port["volume"], "volume.port.grpc": port["volume_grpc"],
            "filer.port": port["filer"], "filer.port.grpc": port["filer_grpc"],
            "admin.port": port["weed_admin"], "admin.port.grpc": port["weed_admin_grpc"],
            "admin.ui": "false", "webdav": "false",
        }  # fmt: skip
        argv = [str(weed), "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in options.items())]
        env = {"WEED_S3_SSE_KEK": sse_key(self.place.keys.password("seaweedfs_kek"))}
        return Program(self.name, argv, self.place.folder, env, stop_seconds=40.0)

    def prepare(self) -> None:
        """Writes who may use it."""
        home = self.place.folder / "seaweedfs"
        (home / "data").mkdir(parents=True, exist_ok=True)
        write_private(home / "s3.json", s3_config(self.place.keys.password("s3")))

    def answers(self) -> bool:
        """Whether it takes a signed request."""
        return not ports.free(self.place.ports["s3"]) and s3_answers(self.endpoint, self.place.keys.password("s3"))

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://{self.host}:{self.place.ports['s3']}"


def s3_answers(endpoint: str, secret: str) -> bool:
    """Whether the store takes a signed request."""
    once = botocore.config.Config(connect_timeout=2, read_timeout=5, retries={"max_attempts": 0})
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        config=once,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=secret,
    )
    try:
        client.list_buckets()
        return True
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
        return False
