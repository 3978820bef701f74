"""What the cases service is told by its environment."""

from __future__ import annotations

from pydantic import Field

from shared.operations.settings import ServiceSettings


class CasesSettings(ServiceSettings):
    """Beside what every service needs: how many files a message may have (R-ATT-3)."""

    max_files_resident: int = Field(5, ge=0, le=100, description="files in a message from a resident")
    max_files_staff: int = Field(20, ge=0, le=100, description="files in a message from a clinic")
