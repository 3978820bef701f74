"""Where the local stack keeps its data: outside the checkout, one folder for each checkout."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from deploy.local.problems import Problem

CHECKOUT = Path(__file__).resolve().parents[2]
NEEDED_FREE_BYTES = 400 * 1024 * 1024


def checkout_hash() -> str:
    """Tells this checkout from its neighbours."""
    return hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:12]


def data_folder() -> Path:
    """The data folder of this checkout; VARDARENDE_DATA names another.

    PostgreSQL refuses to run as root, and its own user can't enter a home folder: so root's data is under /var/lib.
    """
    chosen = os.environ.get("VARDARENDE_DATA")
    if chosen:
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/vardarende") / checkout_hash()
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "vardarende" / checkout_hash()


def make_folder(path: Path, mode: int = 0o700) -> Path:
    """Makes the folder, and those above it, if need be. Raises `Problem`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
    except OSError as error:
        raise Problem(
            f"the data folder {path} can't be made ({error.strerror}); choose another with VARDARENDE_DATA=/some/folder"
        ) from None
    return path


def require_room(path: Path) -> None:
    """Raises `Problem` when the disk under the folder is (nearly) full."""
    free = shutil.disk_usage(path).free
    if free < NEEDED_FREE_BYTES:
        raise Problem(
            f"only {free // 2**20} MB free in {path}, the servers need {NEEDED_FREE_BYTES // 2**20} MB: "
            "make room there, or choose another folder with VARDARENDE_DATA=/some/folder"
        )


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, at once or not at all; not if it says so already (full disks)."""
    if path.exists() and path.read_text() == text:
        return
    new = path.with_name(path.name + ".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
