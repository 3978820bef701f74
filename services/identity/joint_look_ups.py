"""Look-ups of one moment that share a request to the population register, which takes 500 persons in one.

An answer about many that can't be trusted, or is late, counts for nothing: each of them is then asked for alone, with
the errors of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.identity.identity_numbers import IdentityNumber
from services.identity.population_register import MANY, PopulationRegister, RegisteredPerson
from shared.operations.together import Together

_AT_ONCE = 1
_PATIENCE_SECONDS = 2.0


class JointPopulationRegister(PopulationRegister):
    """The register, asked for several people at once who are looked up one by one."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._joint: Together[IdentityNumber, RegisteredPerson | None] = Together(
            "register look-ups", self._look_up_together, at_once=_AT_ONCE, most=MANY, patience=_PATIENCE_SECONDS
        )

    def look_up(self, number: IdentityNumber, *, relations: bool = False) -> RegisteredPerson | None:
        """As of one person alone, with the same errors. Custody is not asked for together: it is another profile."""
        if relations:
            return super().look_up(number, relations=True)
        return self._joint.do(number, lambda: super(JointPopulationRegister, self).look_up(number))

    def _look_up_together(self, numbers: Sequence[IdentityNumber]) -> list[RegisteredPerson | None]:
        found = self.look_up_many(numbers, seconds=_PATIENCE_SECONDS)
        return [found[one.number] for one in numbers]
