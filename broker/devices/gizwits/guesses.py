"""Passcodes over HTTP: who guesses waits, as at every other log-in of the broker."""

from __future__ import annotations

from twisted.internet.task import deferLater

from broker.devices.gizwits.errors import PASSCODE_INVALID, Refused
from broker.devices.gizwits.registration import Registration
from broker.model.records import DeviceRecord
from broker.web.routes import Call


async def proven(call: Call, registration: Registration, did: str, passcode: str) -> DeviceRecord:
    """The device whose passcode this is. Raises Refused, Unavailable."""
    try:
        record = await registration.proven(did, passcode)
    except Refused as error:
        await hold_back(call, error)
        raise
    assert record is not None
    return record


async def hold_back(call: Call, error: Refused) -> None:
    """Count a wrong passcode, and keep an address waiting that has had too many."""
    if error.code is PASSCODE_INVALID:
        delay = call.home.login_failed(call.request.peer)
        if delay:
            await deferLater(call.core.reactor, delay)
