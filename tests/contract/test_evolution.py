"""Contracts evolve by addition: what callers and hearers relied on in each recorded version still holds."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.contracts.document import contracts
from tests.contract.record import RECORDED, schemas

VERSIONS = sorted(path for path in RECORDED.iterdir() if path.is_dir())


def models():
    """Every model on the wire, by `service.name.part`."""
    found = {}
    for contract in contracts():
        for call in contract.calls.values():
            found[f"{call.routing_key}.request"], found[f"{call.routing_key}.reply"] = call.request, call.reply
        for event in contract.events.values():
            found[f"{event.service}.{event.name}.event"] = event.body
    return found


def test_a_version_is_recorded():
    assert VERSIONS


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
def test_recorded_payloads_are_still_understood(version: Path):
    now, recorded = models(), json.loads((version / "payloads.json").read_text())
    assert len(recorded) > 40
    for name, payloads in recorded.items():
        assert name in now, f"{name} is gone"
        for payload in payloads:
            try:
                now[name].model_validate_json(json.dumps(payload))
            except ValidationError as error:
                pytest.fail(f"{name} of version {version.name}: {error}")


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
def test_nothing_was_renamed_removed_or_retyped(version: Path):
    now, faults = schemas(), []
    for name, recorded in json.loads((version / "schemas.json").read_text()).items():
        if name not in now:
            faults.append(f"{name} is gone")
        else:
            faults += [f"{name}{fault}" for fault in broken(recorded, now[name], name.endswith(".request"))]
    assert faults == []


def broken(old, new, request, place=""):
    """What a caller of the old schema would miss in the new one."""
    old_parts, new_parts = old.get("$defs", {}), new.get("$defs", {})
    faults = []
    for name, one in (*old_parts.items(), ("", old)):
        other = new_parts.get(name) if name else new
        where = f"{place}/{name}" if name else place
        if other is None:
            faults.append(f"{where} is gone")
            continue
        old_fields, new_fields = one.get("properties", {}), other.get("properties", {})
        for field, kind in old_fields.items():
            if field not in new_fields:
                faults.append(f"{where}.{field} is gone")
            elif shape(kind) != shape(new_fields[field]) and not widened(kind, new_fields[field], request):
                faults.append(f"{where}.{field} has another type")
        if request:
            required = set(other.get("required", [])) - set(one.get("required", []))
            faults += [f"{where}.{field} is required now" for field in sorted(required)]
        else:
            optional = set(one.get("required", [])) - set(other.get("required", []))
            faults += [f"{where}.{field} may be missing now" for field in sorted(optional)]
        if "enum" in one and not (set(one["enum"]) <= set(other.get("enum", []))):
            faults.append(f"{where} has lost a value")
    return faults


LARGEST_INTEGER = 2**31 - 1
_TEXTS = ("title", "description", "default", "examples")


def shape(kind):
    """A schema without its texts."""
    if isinstance(kind, dict):
        return {key: shape(value) for key, value in kind.items() if key not in _TEXTS}
    return [shape(one) for one in kind] if isinstance(kind, list) else kind


def widened(old, new, request):
    """A request may take more values than before, never fewer; but a number that no column holds never was taken."""
    return request and (
        ("enum" in old and set(old["enum"]) <= set(new.get("enum", [])))
        or (new.get("maximum", 0) >= LARGEST_INTEGER and shape(old | {"maximum": new["maximum"]}) == shape(new))
    )


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda s: s["properties"].pop("limit"), ".limit is gone"),
        (lambda s: s["properties"]["limit"].update(type="string"), ".limit has another type"),
        (lambda s: s.setdefault("required", []).append("limit"), ".limit is required now"),
    ],
)
def test_the_comparison_sees_what_breaks_callers(change, fault):
    old = schemas()["cases.list_inbox.request"]
    new = json.loads(json.dumps(old))
    assert broken(old, new, True) == []
    change(new)
    assert broken(old, new, True) == [fault]
