"""HSA's answers about real, dirty units keep to the official schemas too, where both are on this machine."""

from __future__ import annotations

import pytest
from lxml import etree

from deploy.local.common.behaviour import Behaviours
from deploy.local.common.http import Request
from deploy.local.common.soap import SOAP_MODES, Calls, app
from deploy.local.hsa import LOGICAL_ADDRESS
from deploy.local.hsa_answers import Catalogue, operations
from deploy.local.people.feed import read
from tests.integration.counterparts_support import CARE_UNIT, PUBLIC, UNIT, Contract


@pytest.mark.parametrize("file", ["care-units.json", "duty-units.json"])
@pytest.mark.parametrize("contract", [UNIT, CARE_UNIT], ids=lambda contract: contract.operation)
def test_answers_about_real_units_keep_to_the_schema(contract: Contract, file: str) -> None:
    feed = PUBLIC / "kiv" / file
    if not feed.exists() or not contract.schema.exists():
        pytest.skip("the real units or the official schema are not on this machine")
    official = etree.XMLSchema(etree.parse(contract.schema))
    units = read(feed, "units")
    _, view, _ = app(operations(Catalogue([], units)), LOGICAL_ADDRESS, Behaviours(SOAP_MODES), Calls()).find(
        "POST", "/"
    )
    assert view is not None
    headers = {"content-type": "text/xml", "soapaction": f"{contract.responder}:{contract.operation}"}
    asked = "unitHsaId" if contract is UNIT else "healthCareUnitMemberHsaId"
    answered = 0
    for unit in units:
        body = contract.envelope(f"<{asked}>{unit.hsa_id}</{asked}>")
        reply = view(Request("POST", "/", {}, headers, body))
        assert reply.status == 200
        answer = etree.fromstring(reply.body)[0][0]
        official.assertValid(etree.fromstring(etree.tostring(answer)))
        answered += len(answer)
    # the feed names no care providers, so that those of the private units are unknown
    ours = [unit for unit in units if unit.first("hsaManagementCode") == "1"]
    assert answered == len(units if contract is UNIT else ours)
