"""Gateways, as customer servers see them: GETGWINFO, GWCOMSEND, GWSTATEUPLOAD (document 4.12, 4.14, 4.15).

There are two kinds. Packet forwarders belong to the network and to no application: all customer servers may ask about
them and hear of them, or none (``gateways``). 0x88 gateways are devices: only who they are bound to hears of them.
Their EUI is the ``dev_eui`` that they are registered with, else their MAC with FFFE in its middle, as packet forwarders
make theirs.

A GWCOMSEND becomes a command to the 0x88 gateway of that EUI, which is its remote_control. What that holds is between
applications and gateways; ours is::

    {"rs485": {"payload": "<base64>", "baud_rate": 9600, "parity": 0 | 1 | 2}}

and ``payload`` of what the gateway answers goes back, or if there is none, the whole answer as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from broker.applications.loracenter import codec
from broker.applications.loracenter.answers import NO_SUCH_GATEWAY, TRY_LATER, WRONG_EUI, Asked, Refusal
from broker.applications.loracenter.customers import Customer, Customers
from broker.applications.loracenter.deliveries import as_text, noted_command
from broker.applications.loracenter.network import ask_network
from broker.applications.loracenter.outcomes import NO_GATEWAY, failed
from broker.applications.loracenter.settings import Settings
from broker.core import Core
from broker.model.errors import DeviceOffline
from broker.model.messages import Command
from broker.model.records import DeviceRecord

#: The protocol of gateways that take a remote_control.
GATEWAY88: Final = "gateway88"
_MAC: Final = re.compile(r"[0-9A-F]{12}")
#: Regions that the document knows.
REGIONS: Final = frozenset({"cn470", "as923"})
MAX_BAUD: Final = 10_000_000
#: Fields of a packet forwarder's stat, in the document's order.
STAT: Final = ("rxnb", "rxok", "rxfw", "ackr", "dwnb", "txnb")


def eui_of_mac(mac: str) -> str | None:
    """The EUI of a gateway whose id is a MAC of 12 digits."""
    return f"{mac[:6]}FFFE{mac[6:]}" if _MAC.fullmatch(mac) else None


def mac_of_eui(eui: str) -> str | None:
    return eui[:6] + eui[10:] if eui[6:10] == "FFFE" else None


class GatewayRequests:
    """The requests about gateways; `came_or_went` tells of packet forwarders."""

    def __init__(self, core: Core, settings: Settings, customers: Customers) -> None:
        self._core = core
        self._customers = customers
        self.settings = settings

    # -- GETGWINFO -------------------------------------------------------------------------------------------------

    async def information(self, asked: Asked) -> None:
        if asked.dev_eui is None:
            raise Refusal(-5, WRONG_EUI)
        found = await self._forwarder(asked.dev_eui)
        if found is None:
            raise Refusal(-2, NO_SUCH_GATEWAY)
        asked.say(self.settings.gateway_info_code, information(found))

    async def _forwarder(self, eui: str) -> Mapping[str, Any] | None:
        if self.settings.gateways == "none":
            return None
        found: Mapping[str, Any] | None = await ask_network(self._core, "gateway", eui)
        return found

    # -- GWCOMSEND -------------------------------------------------------------------------------------------------

    async def pass_through(self, asked: Asked) -> None:
        """Said when the gateway has answered; this returns before that."""
        baud = asked.number("brandrate", 1, MAX_BAUD, 9600, "BRANDRATE PARAMETER ERROR")
        parity = asked.number("paritycheck", 0, 2, 0, "PARITYCHECK PARAMETER ERROR")
        data = asked.payload(-3)
        if asked.dev_eui is None:
            raise Refusal(-5, WRONG_EUI)
        record = await self._gateway88(asked, asked.dev_eui)
        if record is None:
            if await self._forwarder(asked.dev_eui) is None:
                raise Refusal(-2, NO_SUCH_GATEWAY)
            # A packet forwarder has no way to its RS485 port.
            raise Refusal(*failed(NO_GATEWAY)[:2])
        order = {"rs485": {"payload": as_text(data), "baud_rate": baud, "parity": parity}}
        command = noted_command(self._core, asked, record, order, 0.0, {})
        self._submit(asked, command)

    async def _gateway88(self, asked: Asked, eui: str) -> DeviceRecord | None:
        record = await asked.device(self._core)
        mac = mac_of_eui(eui)
        if record is None and mac is not None and asked.customer.rights.may_see(mac):
            record = await self._core.storage.get_device(mac)
        return record if record is not None and record.protocol == GATEWAY88 else None

    def _submit(self, asked: Asked, command: Command) -> None:
        def kept(error: Exception | None) -> None:
            if isinstance(error, DeviceOffline):
                asked.say(*failed(NO_GATEWAY)[:2])
            elif error is not None:
                asked.say(0, TRY_LATER)
            asked.session.kept()

        asked.session.keeping()
        self._core.commands.submit(command, kept)

    # -- GWSTATEUPLOAD ---------------------------------------------------------------------------------------------

    def came_or_went(self, eui: str, online: bool) -> None:
        """A packet forwarder."""
        if self.settings.gateways == "all":
            for customer in self._customers.all():
                self._tell(customer, eui, online)

    def device_came_or_went(self, device_id: str, online: bool, alias: str | None) -> None:
        """A 0x88 gateway; as a packet forwarder with the same EUI it is told of already."""
        eui = alias or eui_of_mac(device_id)
        lora = self._core.lora
        shown = lora is not None and self.settings.gateways != "none"
        if eui is None or (shown and lora.gateway(eui) is not None):  # what is registered every process knows
            return
        for customer in self._customers.all():
            if customer.rights.may_see(device_id):
                self._tell(customer, eui, online)

    def _tell(self, customer: Customer, eui: str, online: bool) -> None:
        word = "ONLINE" if online else self.settings.offline_word
        customer.tell(codec.gateway_state(customer.token(), eui, word))


def information(gateway: Mapping[str, Any]) -> dict[str, Any]:
    """MSG of GETGWINFO. What nobody has told is left out, except for the counters."""
    stat = gateway.get("stat") or {}
    told = {name: stat[name] for name in ("long", "lati", "alti") if stat.get(name) is not None}
    configured = gateway.get("position") or {}
    place = told or {name: value for name, value in configured.items() if value is not None}
    radio = {name: hertz for name, hertz in (gateway.get("radio") or {}).items() if hertz is not None}
    found: dict[str, Any] = {
        "loraregion": gateway["family"] if gateway.get("family") in REGIONS else "unknownRegion",
        "address": gateway.get("address") or "",
        "protocol": "UDP",
    }
    if radio:
        found["radio"] = radio
    found["fcstat"] = {name: _number(stat.get(name, 0)) for name in STAT}
    found["posn"] = {"gps": bool(told), **place}
    return found


def _number(value: float) -> float:
    """Without a decimal point where there is nothing behind it."""
    return int(value) if value == int(value) else value
