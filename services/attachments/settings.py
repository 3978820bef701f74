"""What attachments is told by its environment, beside what every service is."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

from pydantic import DirectoryPath, Field, FilePath, field_validator

from shared.operations.settings import ServiceSettings

MEGABYTE = 1024 * 1024


class AttachmentsSettings(ServiceSettings):
    """See README.md of the service for what each is for."""

    s3_endpoint: str = Field(description="the object store as the processes reach it, http(s)://…")
    s3_public_endpoint: str | None = Field(None, description="the object store as clients reach it, if that differs")
    s3_access_key_file: FilePath = Field(description="file with the object store's access key")
    s3_secret_key_file: FilePath = Field(description="file with the object store's secret key")
    s3_region: str = Field("us-east-1", min_length=1)
    s3_upload_bucket: str = Field("attachments-uploads", min_length=3, description="where clients upload to")
    s3_bucket: str = Field("attachments", min_length=3, description="where checked files lie")

    upload_seconds: int = Field(900, ge=1, le=86_400, description="how long a place for an upload can be used")
    link_seconds: int = Field(60, ge=1, le=60, description="how long a link lives (R-ATT-6)")
    max_file_bytes: int = Field(50 * MEGABYTE, ge=1, description="largest file (R-ATT-2)")
    max_files_staff: int = Field(20, ge=0, le=100, description="files in a message from the clinic (R-ATT-3)")
    max_files_resident: int = Field(5, ge=0, le=100, description="files in a message from a resident (R-ATT-3)")
    max_unsent_files: int = Field(100, ge=1, description="files one person may have unsent; as many tried in vain")
    keep_unsent_hours: int = Field(24, ge=1, description="how long a file that is not sent is kept (R-ATT-8)")

    @field_validator("s3_endpoint", "s3_public_endpoint")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("https://", "http://")):
            raise ValueError("must begin with https:// or http://")
        return value

    @property
    def public_endpoint(self) -> str:
        """The store's address that goes into what clients are given."""
        return self.s3_public_endpoint or self.s3_endpoint


class CheckerSettings(AttachmentsSettings):
    """What the checker is told besides."""

    s3_create_buckets: bool = Field(True, description="make the buckets at start where they are missing")
    work_folder: DirectoryPath = Field(Path(tempfile.gettempdir()), description="room for the files being checked")
    checks_at_once: int = Field(2, ge=1, le=32, description="files checked side by side")
    lease_seconds: float = Field(30.0, ge=1, le=600, description="how long after a checker's death another takes over")
    check_seconds: int = Field(60, ge=1, le=600, description="longest time the decoding of one file may take")
    check_memory_bytes: int = Field(1024 * MEGABYTE, ge=128 * MEGABYTE, description="most memory it may take")
    max_pixels: int = Field(100_000_000, ge=1, description="largest picture, width times height")
    max_total_pixels: int = Field(1_000_000_000, ge=1, description="all frames of a picture together")
    max_pages: int = Field(2_000, ge=1, description="pages of a PDF")
    strip_metadata: bool = Field(True, description="leave out of pictures what only tells about them")
    active_pdf: Literal["refuse", "clean"] = Field("refuse", description="what is done with PDFs that do something")
    clamd: str | None = Field(None, description="a virus scanner: host:port, or its socket's path")
    clamd_seconds: float = Field(60.0, ge=1, le=600, description="longest wait for the scanner")
    reconcile_hours: int = Field(24, ge=1, le=24 * 7, description="how often store and database are compared")

    @field_validator("clamd")
    @classmethod
    def _is_a_scanner(cls, value: str | None) -> str | None:
        if value and not value.startswith("/") and not value.rpartition(":")[2].isdecimal():
            raise ValueError("must be host:port, or a path")
        return value or None
