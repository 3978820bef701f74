"""The form of a case type: what a resident may fill in, and whether answers fit it (R-CASE-2). Decisions only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from shared.contracts.cases import Answer, AnswerShown, Component
from shared.messaging.errors import Fields, Invalid

CHOICES = frozenset({"single_choice", "multiple_choice"})
WITHOUT_ANSWER = frozenset({"info", "attachments"})
TODAY = "today"
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
        problems += [(f"{where}.{field}", problem) for field, problem in _limits_at_fault(component)]
    if sum(component.kind == "attachments" for component in components) > 1:
        problems.append(("components", "kan bara ha en komponent för att bifoga filer"))
    if problems:
        raise Invalid("Formuläret är inte giltigt.", reason="form_invalid", fields=problems)


_LIMITS_OF = {
    "max_length": "text",
    "min_choices": "multiple_choice",
    "max_choices": "multiple_choice",
    "earliest": "date",
    "latest": "date",
}


def _limits_at_fault(component: Component) -> Iterator[tuple[str, str]]:
    """Limits that are another kind's, or that no answer can keep."""
    for limit, kind in _LIMITS_OF.items():
        value = getattr(component, limit)
        if value is None:
            continue
        if component.kind != kind:
            yield limit, "kan inte anges för en sådan komponent"
        elif kind == "date" and value != TODAY and not _is_date(value):
            yield limit, "är inget datum"
    if component.kind == "multiple_choice":
        least, most = component.min_choices or 1, component.max_choices or len(component.options)
        if not least <= most <= len(component.options):
            yield "min_choices", "går inte ihop med hur många val det finns"
    days = [one for one in (component.earliest, component.latest) if one is not None]
    if component.kind == "date" and len(days) == 2 and TODAY not in days and days[0] > days[1]:
        yield "earliest", "är senare än sista datumet"


def check_components_for(purpose: str, components: Sequence[Component]) -> None:
    """As `check_components`, and whether the form fits what it is for (R-CASE-14): one for residents or with questions
    has something to fill in or to attach, one of information nothing."""
    check_components(components)
    asks = any(component.kind != "info" for component in components)
    if purpose == "information" and components:
        problem = "kan inte finnas i en informationsmall"
    elif purpose == "questions" and not asks:
        problem = "måste ha något att besvara"
    elif not components and purpose == "resident":
        problem = "måste finnas"
    else:
        return
    raise Invalid("Formuläret är inte giltigt.", reason="form_invalid", fields=[("components", problem)])


def check_answers(form: Form, answers: Sequence[Answer], attachments: int, today: date) -> dict[str, list[str]]:
    """The answers by component id, blank ones left out. Raises `Invalid` with a field per component at fault.

    A form without the component "Bifoga filer" takes no files (R-ATT-4). `today`: the Swedish date.
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
        problem = _problem(component, given.get(component.id, []), today)
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


def _problem(component: Component, values: list[str], today: date) -> str | None:
    if not values:
        return "måste fyllas i" if component.required else None
    if component.kind == "multiple_choice":
        return _problem_of_choices(component, values)
    if len(values) > 1:
        return "kan bara ha ett svar"
    [value] = values
    if component.kind == "single_choice":
        return None if value in component.options else "har ett val som inte finns"
    if component.kind == "date":
        return _problem_of_date(component, value, today)
    if component.kind == "phone":
        return None if _PHONE.fullmatch(_PHONE_PUNCTUATION.sub("", value)) else "är inget telefonnummer"
    if component.max_length is not None and len(value) > component.max_length:
        return f"får vara högst {component.max_length} tecken"
    return None


def _problem_of_choices(component: Component, values: list[str]) -> str | None:
    if len(set(values)) < len(values):
        return "har samma val två gånger"
    if not set(values) <= set(component.options):
        return "har ett val som inte finns"
    if len(values) < (component.min_choices or 1):
        return f"måste ha minst {component.min_choices} val"
    if component.max_choices is not None and len(values) > component.max_choices:
        return f"får ha högst {component.max_choices} val"
    return None


def _problem_of_date(component: Component, value: str, today: date) -> str | None:
    if not _is_date(value):
        return "är inget datum (ÅÅÅÅ-MM-DD)"

    def day(limit: str) -> str:
        return today.isoformat() if limit == TODAY else limit

    if component.earliest is not None and value < day(component.earliest):
        return f"får vara tidigast {day(component.earliest)}"
    if component.latest is not None and value > day(component.latest):
        return f"får vara senast {day(component.latest)}"
    return None


def _is_date(value: str) -> bool:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def shown(form: Form, answers: dict[str, list[str]]) -> tuple[AnswerShown, ...]:
    """The answers in the order of the form, each with what was asked."""
    return tuple(
        AnswerShown(component=component.id, label=component.label, values=answers[component.id])
        for component in form.components
        if component.id in answers
    )


def as_text(answers: Iterable[AnswerShown]) -> str:
    """The answers as one text to read: each label with what was filled in."""
    return "\n\n".join(f"{answer.label}\n{', '.join(answer.values)}" for answer in answers)


def text_besides(text: str, answers: Sequence[AnswerShown]) -> str:
    """What a message says besides the answers, which its text begins with."""
    return text.removeprefix(as_text(answers)).strip() if answers else text
