"""Answers to one request: what all of them have in common is filled in here."""

from __future__ import annotations

from typing import Any, Final

from broker.applications.loracenter import codec
from broker.applications.loracenter.codec import Request
from broker.applications.loracenter.customers import Customer, Session
from broker.core import Core
from broker.model.errors import BrokerError
from broker.model.records import DeviceRecord

WRONG_EUI: Final = "DEVEUI ERROR"
WRONG_PAYLOAD: Final = "PAYLOAD ERROR"
WRONG_PORT: Final = "PORT PARAMETER ERROR"
NO_SUCH_GATEWAY: Final = "GATEWAY NOT FOUND"
TRY_LATER: Final = "TRY LATER"


class Refusal(Exception):
    """A request that is answered with this CODE and MSG."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Asked:
    """A request of a registered connection."""

    __slots__ = ("app_eui", "customer", "dev_eui", "request", "session")

    def __init__(self, session: Session, customer: Customer, request: Request) -> None:
        self.session = session
        self.customer = customer
        self.request = request
        #: As 16 digits; None for none, or for what is no EUI.
        self.dev_eui = codec.eui(request.get("deveui"))
        self.app_eui = codec.eui(request.get("appeui"))

    def get(self, name: str) -> Any:
        return self.request.get(name)

    def say(self, code: int, text: Any, **more: Any) -> None:
        """Answer with the identities that the request had."""
        request = self.request
        app_eui = more.pop("app_eui", self.app_eui)
        self.session.say(
            codec.answer(code, request.cmd, request.token, text, self.customer.cs_eui, self.dev_eui, app_eui, **more)
        )

    # -- fields; each raises Refusal -------------------------------------------------------------------------------

    def payload(self, code: int) -> bytes:
        data = codec.payload(self.get("payload"))
        if data is None:
            raise Refusal(code, WRONG_PAYLOAD)
        return data

    def number(self, name: str, least: int, most: int, default: int | None, text: str) -> int:
        """A whole number; a missing one is the default, if there is any."""
        value = self.get(name)
        if value is None and default is not None:
            return default
        number = codec.integer(value, least, most)
        if number is None:
            raise Refusal(-1, text)
        return number

    async def mote(self, core: Core, code: int = -5) -> DeviceRecord:
        """The device that DevEUI names, if it is one of the customer's."""
        record = await self.device(core)
        if record is None:
            raise Refusal(code, WRONG_EUI)
        return record

    async def device(self, core: Core) -> DeviceRecord | None:
        """The same, without complaint."""
        if self.dev_eui is None:
            return None
        try:
            record = await core.storage.find_by_dev_eui(self.dev_eui)
        except BrokerError:
            raise Refusal(0, TRY_LATER) from None
        return record if record is not None and self.customer.rights.may_see(record.id) else None
