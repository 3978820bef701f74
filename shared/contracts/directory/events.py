"""What the directory tells."""

from __future__ import annotations

from shared.contracts.base import EventBody, HsaId
from shared.contracts.directory.common import StaffStatus, directory


class ClinicChanged(EventBody):
    """Something about the clinic changed; `version` grows with each change."""

    clinic: HsaId
    version: int


class StaffChanged(EventBody):
    """What the directory says of a person that it already knew changed; `version` grows with each change."""

    person: HsaId
    status: StaffStatus
    version: int


CLINIC_ACTIVATED = directory.event("clinic_activated", ClinicChanged)
CLINIC_INACTIVATED = directory.event("clinic_inactivated", ClinicChanged)
CLINIC_RENAMED = directory.event("clinic_renamed", ClinicChanged)
CLINIC_ENDED = directory.event("clinic_ended", ClinicChanged)
CLINIC_MISSING = directory.event("clinic_missing", ClinicChanged)
CLINIC_BACK = directory.event("clinic_back", ClinicChanged)
STAFF_CHANGED = directory.event("staff_changed", StaffChanged)
