"""deploy/postgres/backup.sh with stand-ins for PostgreSQL's programs: what it lets the archive throw away."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile

import pytest

from deploy.local.folder import CHECKOUT

OURS, OF_BEFORE = 7_400_000_000_000_000_001, 7_400_000_000_000_000_002
"""What two clusters of databases are known by."""


def backup_of(cluster, segment):
    """As pg_basebackup writes it, as far as the script looks."""
    files = {
        "backup_label": f"START WAL LOCATION: 0/3000028 (file {segment})\nCHECKPOINT LOCATION: 0/3000060\n".encode(),
        "global/pg_control": cluster.to_bytes(8, "little") + bytes(8184),
    }
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


@pytest.fixture
def back_up(tmp_path):
    """Runs the script on folders of the test's; what pg_archivecleanup is told to keep from on."""
    backups, programs = tmp_path / "backup", tmp_path / "programs"
    (backups / f"wal-{OURS}").mkdir(parents=True)
    programs.mkdir()
    (tmp_path / "database-backup.password").write_text("x")
    (tmp_path / "new.tar.gz").write_bytes(backup_of(OURS, "000000010000000000000009"))
    told = tmp_path / "told"
    stand_ins = {
        "pg_basebackup": f"cat {tmp_path}/new.tar.gz",
        "psql": f"echo '{OURS}|1|0/9000000|'",
        "pg_archivecleanup": f'echo "$@" >{told}',
    }
    for name, line in stand_ins.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    text = (CHECKOUT / "deploy" / "postgres" / "backup.sh").read_text()
    script = tmp_path / "backup.sh"
    script.write_text(text.replace("/backup", str(backups)).replace("/run/secrets", str(tmp_path)))

    def run(**there):
        for name, content in there.items():
            (backups / f"databases-{name.removeprefix('at_')}.tar.gz").write_bytes(content)
        path = f"{programs}:{os.environ['PATH']}"
        subprocess.run(["sh", script], env={"PATH": path}, check=True, capture_output=True)
        return told.read_text().split()

    return run


def test_the_archive_is_kept_from_the_oldest_backup_on(back_up):
    older = backup_of(OURS, "000000010000000000000005")
    *_, folder, kept = back_up(at_20260101T000000Z=older)
    assert folder.endswith(f"wal-{OURS}") and kept == "000000010000000000000005"


def test_a_backup_of_databases_that_were_here_before_says_nothing_of_the_archive_of_these(back_up):
    """Theirs may have been written much further: what would be kept from there on is nothing (R-SYS-5)."""
    other = backup_of(OF_BEFORE, "0000000100000007000000FE")
    assert back_up(at_20260101T000000Z=other)[-1] == "000000010000000000000009"
    own = backup_of(OURS, "000000010000000000000005")
    assert back_up(at_20260101T000000Z=other, at_20260102T000000Z=own)[-1] == "000000010000000000000005"
