"""Choosing how to be told, as a person does it: set the addresses, read the codes that come there, give them back."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

from deploy.local.teller import World
from shared.contracts import identity, personal

_CODE_SECONDS = 15.0


def choose_contact(world: World, token: str, **chosen: Any) -> None:
    """Sets addresses and choices, and verifies the addresses (R-NOT-9)."""
    arrived = {"email": world.mail, "sms": world.sms}
    given = {"email": chosen.get("email"), "sms": chosen.get("mobile")}
    addresses = {channel: str(to) for channel, to in given.items() if to}
    before = {
        channel: max((int(one["number"]) for one in arrived[channel](to)), default=0)
        for channel, to in addresses.items()
    }
    contact = world.call(identity.SET_CONTACT, identity.SetContact(request_id=uuid4(), **chosen), token)
    for channel in contact.to_verify:
        [came, *_] = arrived[channel](addresses[channel], after=before[channel], wait=_CODE_SECONDS)
        [code] = re.findall(r"\b\d{6}\b", came["text" if channel == "email" else "message"])
        verify = personal.VerifyAddress(request_id=uuid4(), channel=channel, code=code)
        world.call(personal.VERIFY_ADDRESS, verify, token)
