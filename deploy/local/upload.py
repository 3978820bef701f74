"""Uploads a file by the answer of attachments.ask_upload: straight to the store, once, and only as it was signed.

    from deploy.local.upload import about, upload
    asked = rpc.attachments.ask_upload(request_id=str(uuid4()), **about(path))
    upload(path, asked["upload"])

    python -m deploy.local.upload FILE < answer.json     # the answer as JSON on standard input
    python -m deploy.local.upload --about FILE           # prints what ask_upload wants to know of the file
    python -m deploy.local.upload --curl FILE < answer.json     # prints the curl line that does the same

The curl line, for any client: method, address and every header as they were answered, and the file as the body:

    curl --fail-with-body -X PUT -H 'Content-Type: image/png' -H 'x-amz-checksum-sha256: …' -H 'If-None-Match: *' \
         -H 'x-amz-server-side-encryption: AES256' --data-binary @picture.png 'https://store…'
"""

from __future__ import annotations

import argparse
import hashlib
import json
import mimetypes
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

_CONNECT_SECONDS, _ANSWER_SECONDS = 5, 120
_CHUNK_BYTES = 1024 * 1024


class UploadRefused(Exception):
    """The store did not take it; `status`: 403 not as signed or too late, 400 other bytes, 412 a second time."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


def about(path: Path, *, name: str | None = None, content_type: str | None = None) -> dict[str, Any]:
    """What ask_upload wants to know of the file: name, size, content_type, sha256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            digest.update(piece)
    return {
        "name": name or path.name,
        "size": path.stat().st_size,
        "content_type": content_type or mimetypes.guess_type(path.name)[0] or "application/octet-stream",
        "sha256": digest.hexdigest(),
    }


def upload(path: Path, asked: Mapping[str, Any]) -> None:
    """Makes the request that ask_upload answered (`upload` in its answer). Raises `UploadRefused`."""
    with path.open("rb") as file:
        body: dict[str, Any] = {"data": file}
        if asked.get("fields"):
            body = {"data": asked["fields"], "files": {"file": file}}
        answer = requests.request(
            asked["method"],
            asked["url"],
            headers=dict(asked["headers"]),
            timeout=(_CONNECT_SECONDS, _ANSWER_SECONDS),
            **body,
        )
    if not answer.ok:
        raise UploadRefused(answer.status_code, answer.text[:500])


def curl(path: Path, asked: Mapping[str, Any]) -> str:
    """The same as a line for a shell."""
    parts = ["curl", "--fail-with-body", "-X", asked["method"]]
    for name, value in asked["headers"].items():
        if name.lower() != "content-length":  # curl counts for itself
            parts += ["-H", f"{name}: {value}"]
    return shlex.join([*parts, "--data-binary", f"@{path}", asked["url"]])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.upload", description="Uploads one file.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--about", action="store_true", help="print what ask_upload wants to know, and end")
    parser.add_argument("--curl", action="store_true", help="print the curl line instead of uploading")
    options = parser.parse_args()
    if options.about:
        print(json.dumps(about(options.file)))
        return
    answer = json.load(sys.stdin)
    asked = answer.get("upload", answer)
    if options.curl:
        print(curl(options.file, asked))
        return
    try:
        upload(options.file, asked)
    except (UploadRefused, requests.RequestException) as error:
        sys.exit(f"not uploaded: {error}")


if __name__ == "__main__":
    main()
