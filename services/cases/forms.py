"""The form of a case type: what a resident may fill in, and whether answers fit it (R-CASE-2). Decisions only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from shared.contracts.cases import Answer, Component
from shared.messaging.errors import Fields, Invalid

CHOICES = frozenset({"single_choice", "multiple_choice"})
WITHOUT_ANSWER = frozenset({"info", "attachments"})
_PHONE = re.compile(r"\+?[0-9]{5,15}")
_PHONE_PUNCTUATION = re.compile(r"[\s()./\u00a0\u2010-\u2013-]+")


@dataclass(frozen=True)
class Form:
    """The components that one version of a case type has, in order."""

    components: tuple[Component, ...]

    @property
    def takes_attachments(self) -> bool:
        """Whether residents may attach files (R-ATT-4)."""
        return any(component.kind == "attachments" for component in self.components)


def from_stored(components: Iterable[Any]) -> Form:
    """A form as the table has it."""
    return Form(tuple(Component.model_validate(component) for component in components))


def check_components(components: Sequence[Component]) -> None:
    """Refuses a form that nobody could fill in: `Invalid` that names each component at fault (R-CASE-1)."""
    problems: list[tuple[str, str]] = []
    seen: set[str] = set()
    for place, component in enumerate(components):
        where = f"components.{place}"
        if component.id in seen:
            problems.append((f"{where}.id", "finns redan i formuläret"))
        seen.add(component.id)
        if component.kind in CHOICES:
            if len(component.options) < 2:
                problems.append((f"{where}.options", "måste ha minst två alternativ"))
            if len(set(component.options)) < len(component.options):
                problems.append((f"{where}.options", "samma alternativ finns två gånger"))
        elif component.options:
            problems.append((f"{where}.options", "får bara anges för val"))
        if component.kind == "info" and component.required:
            problems.append((f"{where}.required", "kan inte krävas för informationstext"))
    if sum(component.kind == "attachments" for component in components) > 1:
        problems.append(("components", "kan bara ha en komponent för att bifoga filer"))
    if problems:
        raise Invalid("Formuläret är inte giltigt.", reason="form_invalid", fields=problems)


def check_answers(form: Form, answers: Sequence[Answer], attachments: int) -> dict[str, list[str]]:
    """The answers by component id, blank ones left out. Raises `Invalid` with a field per component at fault.

    A form without the component "Bifoga filer" takes no files (R-ATT-4).
    """
    components = {component.id: component for component in form.components}
    problems: list[tuple[str, str]] = []
    given: dict[str, list[str]] = {}
    for answer in answers:
        component = components.get(answer.component)
        if component is None or component.kind in WITHOUT_ANSWER:
            problems.append((f"answers.{answer.component}", "finns inte i formuläret"))
        elif answer.component in given:
            problems.append((f"answers.{answer.component}", "är besvarad två gånger"))
        else:
            given[answer.component] = [value for value in answer.values if value.strip()]
    for component in form.components:
        if component.kind in WITHOUT_ANSWER:
            continue
        problem = _problem(component, given.get(component.id, []))
        if problem:
            problems.append((f"answers.{component.id}", problem))
    problems += _attachment_problems(form, attachments)
    if problems:
        raise Invalid("Svaren passar inte formuläret.", reason="answers_invalid", fields=problems)
    return {component: values for component, values in given.items() if values}


def _attachment_problems(form: Form, attachments: int) -> Fields:
    if attachments and not form.takes_attachments:
        return [("attachments", "kan inte bifogas i den här ärendetypen")]
    if not attachments and any(one.kind == "attachments" and one.required for one in form.components):
        return [("attachments", "måste bifogas")]
    return []


def _problem(component: Component, values: list[str]) -> str | None:
    if not values:
        return "måste fyllas i" if component.required else None
    if component.kind == "multiple_choice":
        if len(set(values)) < len(values):
            return "har samma val två gånger"
        return None if set(values) <= set(component.options) else "har ett val som inte finns"
    if len(values) > 1:
        return "kan bara ha ett svar"
    if component.kind == "single_choice":
        return None if values[0] in component.options else "har ett val som inte finns"
    if component.kind == "date":
        return None if _is_date(values[0]) else "är inget datum (ÅÅÅÅ-MM-DD)"
    if component.kind == "phone":
        return None if _PHONE.fullmatch(_PHONE_PUNCTUATION.sub("", values[0])) else "är inget telefonnummer"
    return None


def _is_date(value: str) -> bool:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def as_text(form: Form, answers: dict[str, list[str]]) -> str:
    """The answers as one text to read: each label with what was filled in."""
    return "\n\n".join(
        f"{component.label}\n{', '.join(answers[component.id])}"
        for component in form.components
        if component.id in answers
    )
