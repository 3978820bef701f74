"""Forms of case types, and what fits them."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cases import forms
from services.cases.forms import Form, as_text, check_components, check_components_for, from_stored, shown
from shared.contracts.cases import Answer, Component
from shared.messaging.errors import Invalid


def check_answers(form: Form, answers: list[Answer], attachments: int) -> dict[str, list[str]]:
    return forms.check_answers(form, answers, attachments, date(2026, 6, 15))


def component(kind: str, identity: str = "one", **more: Any) -> Component:
    if kind in ("single_choice", "multiple_choice") and "options" not in more:
        more["options"] = ["Ja", "Nej"]
    return Component(id=identity, kind=kind, label="Fråga", **more)  # type: ignore[arg-type]


def form(*components: Component) -> Form:
    return Form(components)


def answer(*values: str, to: str = "one") -> Answer:
    return Answer(component=to, values=list(values))


def fields(refused: pytest.ExceptionInfo[Invalid]) -> set[str]:
    return {name for name, _ in refused.value.fields}


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", ["Ont i knät"]),
        ("text", ["rad ett\nrad två"]),
        ("single_choice", ["Ja"]),
        ("multiple_choice", ["Ja", "Nej"]),
        ("date", ["2026-02-28"]),
        ("phone", ["070-174 06 05"]),
        ("phone", ["+46 (0)70 174 06 05"]),
    ],
)
def test_r_case_2_answers_that_fit(kind: str, values: list[str]) -> None:
    """R-CASE-2"""
    assert check_answers(form(component(kind, required=True)), [answer(*values)], 0) == {"one": values}


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", ["ont", "mycket"]),
        ("single_choice", ["Kanske"]),
        ("single_choice", ["Ja", "Nej"]),
        ("multiple_choice", ["Ja", "Kanske"]),
        ("multiple_choice", ["Ja", "Ja"]),
        ("date", ["2026-02-30"]),
        ("date", ["28/2 2026"]),
        ("date", ["20260228"]),
        ("date", ["٢٠٢٦-٠٢-٢٨"]),
        ("phone", ["ring mig"]),
        ("phone", ["12"]),
        ("phone", ["+46701740605 eller 031"]),
        ("info", ["något"]),
        ("attachments", ["något"]),
    ],
)
def test_r_case_2_answers_that_do_not_fit(kind: str, values: list[str]) -> None:
    """R-CASE-2"""
    with pytest.raises(Invalid) as refused:
        check_answers(form(component(kind)), [answer(*values)], 0)
    assert fields(refused) == {"answers.one"}
    assert not any(value in str(refused.value) for value in values), "an error says no value"


@pytest.mark.parametrize("kind", ["text", "single_choice", "multiple_choice", "date", "phone"])
@pytest.mark.parametrize("answers", [[], [answer()], [answer("")], [answer(" \n")]])
def test_r_case_2_what_is_required_must_be_filled_in(kind: str, answers: list[Answer]) -> None:
    """R-CASE-2"""
    with pytest.raises(Invalid) as refused:
        check_answers(form(component(kind, required=True)), answers, 0)
    assert fields(refused) == {"answers.one"}
    assert check_answers(form(component(kind)), answers, 0) == {}


def test_r_case_2_every_fault_is_told_at_once() -> None:
    """R-CASE-2"""
    asked = form(component("text", "a", required=True), component("date", "b"), component("text", "c"))
    with pytest.raises(Invalid) as refused:
        check_answers(asked, [answer("x", to="b"), answer("1", to="c"), answer("2", to="c"), answer("y", to="d")], 1)
    assert fields(refused) == {"answers.a", "answers.b", "answers.c", "answers.d", "attachments"}


def test_r_att_4_files_only_where_the_form_has_the_component() -> None:
    """R-ATT-4"""
    without, optional = form(component("text")), form(component("attachments", "filer"))
    required = form(component("attachments", "filer", required=True))
    assert not without.takes_attachments
    assert optional.takes_attachments
    with pytest.raises(Invalid):
        check_answers(without, [], 1)
    with pytest.raises(Invalid):
        check_answers(required, [], 0)
    assert check_answers(optional, [], 0) == check_answers(optional, [], 5) == check_answers(required, [], 1) == {}


@pytest.mark.parametrize(
    ("components", "where"),
    [
        ([component("text"), component("date")], "components.1.id"),
        ([component("single_choice", options=["Ja"])], "components.0.options"),
        ([component("multiple_choice", options=["Ja", "Ja"])], "components.0.options"),
        ([component("text", options=["Ja", "Nej"])], "components.0.options"),
        ([component("info", required=True)], "components.0.required"),
        ([component("attachments", "a"), component("attachments", "b")], "components"),
    ],
)
def test_r_case_1_forms_that_nobody_could_fill_in(components: list[Component], where: str) -> None:
    """R-CASE-1"""
    with pytest.raises(Invalid) as refused:
        check_components(components)
    assert where in fields(refused)


def test_a_form_is_read_as_it_was_stored() -> None:
    components = [component("text", required=True), component("single_choice", "b")]
    check_components(components)
    assert from_stored(one.model_dump(mode="json") for one in components) == form(*components)


def test_answers_as_text_in_the_order_of_the_form() -> None:
    asked = form(component("text", "a"), component("info", "i"), component("multiple_choice", "b"))
    assert as_text(shown(asked, {"b": ["Ja", "Nej"], "a": ["Ont"]})) == "Fråga\nOnt\n\nFråga\nJa, Nej"


@given(
    kind=st.sampled_from(["text", "single_choice", "multiple_choice", "date", "phone"]),
    values=st.lists(st.text(max_size=20), max_size=4),
    required=st.booleans(),
)
def test_r_case_2_whatever_is_sent_is_taken_as_it_is_or_refused(kind: str, values: list[str], required: bool) -> None:
    """R-CASE-2"""
    asked = form(component(kind, required=required))
    given_answer = Answer.model_construct(component="one", values=values)
    try:
        taken = check_answers(asked, [given_answer], 0)
    except Invalid:
        return
    assert taken.get("one", []) == [value for value in values if value.strip()]
    assert taken or not required


# --- rules of components, and what a form is for


@pytest.mark.parametrize(
    ("limits", "fits", "does_not"),
    [
        ({"kind": "text", "max_length": 3}, ["abc"], ["abcd"]),
        ({"kind": "multiple_choice", "options": ["a", "b", "c"], "min_choices": 2}, ["a", "c"], ["a"]),
        ({"kind": "multiple_choice", "options": ["a", "b", "c"], "max_choices": 1}, ["a"], ["a", "b"]),
        ({"kind": "date", "earliest": "2026-01-01"}, ["2026-01-01"], ["2025-12-31"]),
        ({"kind": "date", "latest": "today"}, ["2026-06-15"], ["2026-06-16"]),
        ({"kind": "date", "earliest": "today", "latest": "2026-12-31"}, ["2026-12-31"], ["2026-06-14"]),
    ],
)
def test_r_case_1_components_have_rules_that_answers_keep(
    limits: dict[str, Any], fits: list[str], does_not: list[str]
) -> None:
    """R-CASE-1, R-CASE-2"""
    asked = form(component(**limits))
    check_components(asked.components)
    assert check_answers(asked, [answer(*fits)], 0) == {"one": fits}
    with pytest.raises(Invalid) as refused:
        check_answers(asked, [answer(*does_not)], 0)
    assert fields(refused) == {"answers.one"}


@pytest.mark.parametrize(
    ("limits", "where"),
    [
        ({"kind": "phone", "max_length": 3}, "max_length"),
        ({"kind": "text", "min_choices": 1}, "min_choices"),
        ({"kind": "multiple_choice", "options": ["a", "b"], "min_choices": 3}, "min_choices"),
        ({"kind": "multiple_choice", "options": ["a", "b"], "min_choices": 2, "max_choices": 1}, "min_choices"),
        ({"kind": "date", "earliest": "2026-02-30"}, "earliest"),
        ({"kind": "date", "earliest": "2026-02-02", "latest": "2026-02-01"}, "earliest"),
    ],
)
def test_r_case_1_rules_that_no_answer_can_keep(limits: dict[str, Any], where: str) -> None:
    """R-CASE-1"""
    with pytest.raises(Invalid) as refused:
        check_components([component(**limits)])
    assert fields(refused) == {f"components.0.{where}"}


@pytest.mark.parametrize(
    ("purpose", "kinds", "fits"),
    [
        ("resident", ["info"], True),
        ("resident", [], False),
        ("information", [], True),
        ("information", ["text"], False),
        ("questions", ["text"], True),
        ("questions", ["attachments"], True),
        ("questions", ["info"], False),
        ("questions", [], False),
    ],
)
def test_r_case_14_a_form_fits_what_it_is_for(purpose: str, kinds: list[str], fits: bool) -> None:
    """R-CASE-14"""
    components = [component(kind, f"c{place}") for place, kind in enumerate(kinds)]
    if fits:
        check_components_for(purpose, components)
    else:
        with pytest.raises(Invalid) as refused:
            check_components_for(purpose, components)
        assert fields(refused) == {"components"}
