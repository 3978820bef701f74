"""The main job, as `./dev demo` tells it, on the running system."""

from deploy.local.people import cast
from deploy.local.story import STEPS, Story


def test_a_case_travels_from_a_resident_to_a_clinic_and_back(system):
    """R-CASE-1..7, R-CASE-11, R-CASE-17, R-CASE-18, R-ID-1..3, R-ID-5..8, R-ID-10, R-ATT-4, R-ATT-6, R-NOT-1..3."""
    told = []
    try:
        steps = Story(system, told.append).tell()
        assert [(step.name, step.problem) for step in steps if not step.ok] == []
        assert len(steps) == len(STEPS) >= 12
        assert all(step.ids for step in steps)
    finally:
        system.forget_tokens()
    logs = "".join(path.read_text(errors="replace") for path in (system.stack.folder / "logs").glob("*.log"))
    for private in ("Astrid", "Berg", cast.RESIDENT, cast.RESIDENT_MOBILE, "utslag", "ungefär en vecka", "Nyberg",
                    cast.mail_of(cast.RECEIVER), cast.mail_of(cast.HANDLER)):  # fmt: skip
        assert private not in logs, "personal data in a log (R-SYS-3)"
