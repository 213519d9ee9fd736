"""``/api/v1/lorawan/gateways``: the packet forwarders that may speak, with what they said last.

A registration is on disk when it is answered. A gateway that the settings let in without one is listed too, with
``registered`` false.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from twisted.python.failure import Failure

from broker.devices.lorawan.codec import Stat
from broker.devices.lorawan.gateway import Duty, Gain, Gateway, GatewayRecord, Position, Radio
from broker.devices.lorawan.identity import canonical_eui
from broker.devices.lorawan.multicast.calls import GroupCalls
from broker.devices.lorawan.network import Network
from broker.devices.lorawan.relay import DUTY
from broker.devices.lorawan.settings import RegionName
from broker.model.errors import Conflict, Invalid, LimitExceeded, NotFound, Unavailable
from broker.storage import rules
from broker.storage.deferred import deferred
from broker.storage.quarantine import Entry
from broker.web.problems import Problem
from broker.web.routes import ADMIN, API, Call, Route

Text = Annotated[str, Meta(max_length=128)]


class NewGateway(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A gateway to register."""

    #: Its EUI, 16 hexadecimal digits.
    eui: Text
    #: Its name for people.
    name: Text = ""
    #: The channel plan that it works in; null: that of the listener.
    region: RegionName | None = None
    #: The centre frequencies of its radios, for customer servers.
    radio: Radio | None = None
    #: Where it stands, for customer servers.
    position: Position | None = None
    #: dBi of its antenna, less what the cable loses: it is told to send with so much less; null: 0.
    antenna_gain: Gain | None = None


class GatewayChanges(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to change; what is left out stays, null takes it away."""

    #: Its name for people.
    name: Text | UnsetType = UNSET
    #: The channel plan that it works in; null: that of the listener.
    region: RegionName | UnsetType | None = UNSET
    #: The centre frequencies of its radios, both of them anew.
    radio: Radio | UnsetType | None = UNSET
    #: Where it stands, all of it anew.
    position: Position | UnsetType | None = UNSET
    #: dBi of its antenna, less what the cable loses: it is told to send with so much less; null: 0.
    antenna_gain: Gain | UnsetType | None = UNSET


class GatewayShape(msgspec.Struct, kw_only=True):
    """A gateway as it is now."""

    #: Its EUI, 16 upper-case hexadecimal digits.
    eui: str
    #: Its name for people; may be empty.
    name: str
    #: The channel plan that it is registered with; null: that of the listener.
    region: str | None
    #: The centre frequencies of its radios; null: nobody has said.
    radio: Radio | None
    #: Where it stands, as it is registered; null: nobody has said.
    position: Position | None
    #: dBi of its antenna, less what the cable loses; null: taken to be 0.
    antenna_gain: float | None
    #: Whether it is registered; others are let in by the settings alone.
    registered: bool
    #: Whether its PULL_DATA come.
    online: bool
    #: When any datagram came from it last (UNIX seconds); null: not since the start.
    last_seen: float | None
    #: When PULL_DATA came from it last (UNIX seconds); null: not since the start.
    last_pull: float | None
    #: Since when it is online (UNIX seconds); null while it is not.
    online_since: float | None
    #: Where its last PULL_DATA came from, ``host:port``; empty: none has come.
    address: str
    #: The version of the packet forwarder's protocol that it speaks.
    version: Literal[1, 2]
    #: The last that it said of itself; null: nothing yet.
    stat: Stat | None
    #: When that came (UNIX seconds); null: nothing yet.
    stat_at: float | None
    #: Air time that it has used, by range of frequencies.
    duty: list[Duty]


class GatewayFilter(msgspec.Struct, kw_only=True):
    """Which gateways, and which page."""

    #: Only gateways that are online, or only those that are not.
    online: bool | None = None
    #: Entries of one page at most.
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    #: The ``next`` of the page before; left out, the first page.
    cursor: Text | None = None


class GatewayPage(msgspec.Struct, kw_only=True):
    """Gateways by EUI."""

    #: The gateways of this page.
    items: list[GatewayShape]
    #: The ``cursor`` of the following page; null on the last one.
    next: str | None


class GatewayPath(msgspec.Struct):
    """Which gateway."""

    #: The EUI of the gateway, 16 hexadecimal digits.
    eui: str


class GatewayCalls:
    """The calls on one network."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._records = network.store.gateways
        network.core.backplane.hear("lora.gateway", self._told)

    def routes(self) -> list[Route]:
        path = f"{API}/lorawan/gateways"
        one = f"{path}/{{eui}}"
        taken = {409: (Problem, "It is registered already")}
        return [
            Route("GET", path, self.list_gateways, ADMIN, query=GatewayFilter, answers=GatewayPage),
            Route("POST", path, self.add_gateway, ADMIN, body=NewGateway, answers=GatewayShape, status=201, also=taken),
            Route("GET", one, self.get_gateway, ADMIN, answers=GatewayShape, path_shape=GatewayPath),
            Route(
                "PATCH",
                one,
                self.change_gateway,
                ADMIN,
                body=GatewayChanges,
                answers=GatewayShape,
                path_shape=GatewayPath,
            ),
            Route("DELETE", one, self.delete_gateway, ADMIN, status=204, path_shape=GatewayPath),
        ]

    def _tell(self, eui: str) -> None:
        """Other processes have to know."""
        self._network.core.backplane.tell("lora.gateway", eui.encode())

    def _told(self, node: str, body: bytes) -> None:
        if node != self._network.core.backplane.node:
            eui = body.decode()
            self._records.get(eui).addCallback(self._changed, eui).addErrback(self._not_read)

    def _changed(self, record: GatewayRecord | None, eui: str) -> None:
        if record is None:
            self._network.gateways.remove(eui)
        else:
            self._network.gateways.register(record)

    def _not_read(self, failure: Failure) -> None:
        failure.trap(Unavailable)
        self._network.log.warn("lorawan: a gateway was changed by another process, and could not be read")

    async def list_gateways(self, call: Call) -> GatewayPage:
        """The gateways, by EUI."""
        wish: GatewayFilter = call.query
        after = wish.cursor or ""
        found = sorted(
            (gateway for gateway in self._network.gateways if wish.online in (None, gateway.online)),
            key=lambda gateway: gateway.eui,
        )
        rest = [gateway for gateway in found if gateway.eui > after]
        page = rest[: wish.limit]
        more = len(rest) > len(page)
        return GatewayPage(items=[self._shape(one) for one in page], next=page[-1].eui if more else None)

    async def add_gateway(self, call: Call) -> GatewayShape:
        """Register a gateway."""
        wish: NewGateway = call.body
        return await self._add(wish)

    async def _add(self, wish: NewGateway) -> GatewayShape:
        network = self._network
        eui = self._eui(wish.eui, Invalid("eui must be 16 hexadecimal digits"))
        known = network.gateways.get(eui)
        if known is not None and known.record is not None:
            raise Conflict(f"the gateway {eui} is registered already")
        if known is None and len(network.gateways) >= network.settings.max_gateways:
            raise LimitExceeded("too many gateways", limit="listeners.lorawan.max_gateways")
        record = GatewayRecord(
            eui=eui,
            name=rules.name(wish.name),
            region=wish.region,
            radio=wish.radio,
            position=wish.position,
            antenna_gain=wish.antenna_gain,
            created_at=network.core.clock(),
        )
        await self._records.add(eui, record)
        self._tell(eui)
        return self._shape(network.gateways.register(record))

    async def get_gateway(self, call: Call) -> GatewayShape:
        """One gateway, with the last it said of itself."""
        eui = self._eui(call.path["eui"])
        gateway = self._network.gateways.get(eui)
        if gateway is None:
            raise NotFound(f"there is no gateway {eui}")
        return self._shape(gateway)

    async def change_gateway(self, call: Call) -> GatewayShape:
        """Change a gateway."""
        wish: GatewayChanges = call.body
        eui = self._eui(call.path["eui"])
        look = await self._records.look(eui)
        if look is None:
            raise NotFound(f"there is no registered gateway {eui}")
        record, before = look
        changes: dict[str, Any] = {
            name: value for name in wish.__struct_fields__ if (value := getattr(wish, name)) is not UNSET
        }
        if "name" in changes:
            changes["name"] = rules.name(changes["name"])
        record = msgspec.structs.replace(record, **changes)
        await self._network.core.storage.write_records([self._records.change(eui, record, before)])
        self._tell(eui)
        return self._shape(self._network.gateways.register(record))

    async def delete_gateway(self, call: Call) -> None:
        """Forget a gateway; it is not listened to any more."""
        eui = self._eui(call.path["eui"])
        if await self._records.get(eui) is None:
            raise NotFound(f"there is no registered gateway {eui}")
        await self._records.remove(eui)
        self._tell(eui)
        self._network.gateways.remove(eui)

    @deferred
    async def approve(self, entry: Entry, fields: dict[str, Any]) -> dict[str, Any]:
        """Register one that is in quarantine."""
        try:
            wish = msgspec.convert({**fields, "eui": entry.id}, NewGateway)
        except ValueError as error:
            raise Invalid(str(error)) from None
        answer: dict[str, Any] = msgspec.to_builtins(await self._add(wish))
        return answer

    def _shape(self, gateway: Gateway) -> GatewayShape:
        return msgspec.convert(gateway.as_dict(self._network.core.monotonic()), GatewayShape)

    @staticmethod
    def _eui(text: str, error: Exception | None = None) -> str:
        eui = canonical_eui(text)
        if eui is None:
            raise error or NotFound("a gateway's EUI has 16 hexadecimal digits")
        return eui


def add_calls(network: Network) -> None:
    """Make the calls part of the API, and approvals part of the quarantine.

    The process answers that has the network.
    """
    calls = GatewayCalls(network)
    groups = GroupCalls(network.core, network.multicast, network.motes, network.gateways)
    every = (*calls.routes(), *groups.routes())
    network.core.api_routes.extend(replace(route, duty=DUTY) for route in every)
    approve: Any = calls.approve
    network.core.quarantine.approvers["lorawan"] = approve
