"""A multicast group on a `Bed`: class C motes near gateways, and what each of them hears of what gateways send.

The motes' side is pamoja's: a session with the group's address and keys, and a counter that only rises.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import msgspec
from pamoja import lorawan as pamoja
from twisted.internet.defer import Deferred

from broker.devices.lorawan.airtime import airtime
from broker.devices.lorawan.gateway import GatewayRecord
from broker.devices.lorawan.multicast.calls import GroupCalls
from broker.devices.lorawan.multicast.shapes import GroupChanges, GroupFilter, NewGroup, NewMessage, Page
from broker.devices.lorawan.regions import REGIONS
from broker.web.callers import ADMINISTRATOR, Caller
from broker.web.routes import Call
from tests.devices.lorawan.bed import Bed, Forwarder, Mote

MC_ADDR = "00ABCDEF"
MC_NWK_S_KEY = "5F0C39FB236140B70BF380688D21FB4B"
MC_APP_S_KEY = "2E03AFC2D16CF372814446CDE101EB14"
KEYS = {"dev_addr": MC_ADDR, "mc_nwk_s_key": MC_NWK_S_KEY, "mc_app_s_key": MC_APP_S_KEY}

SHAPES: dict[str, Any] = {"add_group": NewGroup, "change_group": GroupChanges, "send_to_group": NewMessage}


class Ear:
    """What a mote hears of one group."""

    def __init__(self, keys: dict[str, str] = KEYS) -> None:
        address, nwk_s_key, app_s_key = (bytes.fromhex(keys[name]) for name in KEYS)
        self._session = pamoja.session(int.from_bytes(address, "big"), nwk_s_key, app_s_key)
        self._next = 0
        #: (port, payload, counter) of what is new, and how many frames it knew already.
        self.heard: list[tuple[int, bytes, int]] = []
        self.dropped = 0

    def hears(self, frame: bytes) -> None:
        fcnt = int.from_bytes(frame[6:8], "little")
        down = self._session.decode(frame, fcnt)  # raises for a wrong MIC
        assert frame[0] == 0x60 and frame[5] == 0, frame  # unconfirmed, no flags, no FOpts
        if fcnt < self._next:
            self.dropped += 1
            return
        self._next = fcnt + 1
        assert down.fport is not None
        self.heard.append((down.fport, down.payload, fcnt))

    def payloads(self) -> list[bytes]:
        return [payload for _, payload, _ in self.heard]


class Calls:
    """The calls of the API on a bed, without HTTP."""

    def __init__(self, bed: Bed, caller: Caller = ADMINISTRATOR) -> None:
        self._bed = bed
        self._caller = caller
        network = bed.network
        self._calls = GroupCalls(bed.core, network.multicast, network.motes, network.gateways)

    def begin(self, name: str, path: dict[str, str], /, **fields: Any) -> Deferred[Any]:
        body = msgspec.convert(fields, SHAPES[name]) if name in SHAPES else None
        query: Any = None
        if name.startswith("list_"):
            query = msgspec.convert(fields, GroupFilter if name == "list_groups" else Page)
        unused: Any = None
        call = Call(self._bed.core, self._caller, path, query, body, unused)
        return Deferred.fromCoroutine(getattr(self._calls, name)(call))

    def do(self, name: str, /, group: str = "", dev_eui: str = "", message: str = "", **fields: Any) -> Any:
        """What it answers, at once; raises what it fails with."""
        given = {"id": group, "dev_eui": dev_eui, "message": message}
        got: list[Any] = []
        self.begin(name, given, **fields).addBoth(got.append)
        assert got, "no answer yet"
        if hasattr(got[0], "raiseException"):
            got[0].raiseException()
        return got[0]


class Crowd:
    """``near``: for each mote the numbers of the gateways that hear it. ``settings``: of [listeners.lorawan]."""

    def __init__(self, near: list[tuple[int, ...]], bed: Bed | None = None, **settings: Any) -> None:
        self.bed = bed or Bed(**settings)
        self.near = near
        count = 1 + max(number for numbers in near for number in numbers)
        self.calls = Calls(self.bed)
        for number in range(count):
            self.register_gateway(number)
        self.forwarders = [self.forwarder(number) for number in range(count)]
        self.motes = [self._mote(number, numbers) for number, numbers in enumerate(near)]
        self.ears = [Ear() for _ in near]
        self.calls.do("add_group", id="all", devices=[mote.dev_eui for mote in self.motes], **KEYS)
        self.bed.advance(3)
        for forwarder in self.forwarders:
            forwarder.sent()

    def register_gateway(self, number: int) -> None:
        """Registered, so that it is known after a restart."""
        record = GatewayRecord(eui=self.eui(number))
        self.bed.network.store.gateways.add(record.eui, record)
        self.bed.network.gateways.register(record)

    @staticmethod
    def eui(number: int) -> str:
        return f"AA555A00000001{number:02X}"

    def forwarder(self, number: int) -> Forwarder:
        return self.bed.forwarder(self.eui(number), f"192.0.2.{number + 1}")

    def _mote(self, number: int, numbers: tuple[int, ...]) -> Mote:
        mote = self.bed.abp(f"AA000000000001{number:02X}", f"260101{number:02X}", **{"class": "C"})
        for rank, gateway in enumerate(numbers):
            if not rank:
                frame = mote.says(b"x")
            self.forwarders[gateway].hears(frame, lsnr=9.0 - rank)
        return mote

    def again(self) -> None:
        """The broker is killed and started again; gateways are on-line again at once."""
        self.bed = self.bed.again()
        self.calls = Calls(self.bed)

    def online(self, *numbers: int) -> None:
        """These gateways say that they are there, to the broker of now."""
        for number in numbers:
            before = self.forwarders[number].asked
            self.forwarders[number] = self.forwarder(number)
            self.forwarders[number].asked = before

    def advance(self, seconds: float, *numbers: int) -> None:
        """Time passes, while these gateways (or all) stay on-line."""
        while seconds > 0:
            for number in numbers or range(len(self.forwarders)):
                self.forwarders[number].pull()
            self.bed.advance(min(10.0, seconds))
            seconds -= 10.0

    def send(self, payload: bytes = b"all", port: int = 7, **fields: Any) -> str:
        """The id of a message to the group."""
        taken = self.calls.do("send_to_group", "all", payload_base64=b64encode(payload).decode(), port=port, **fields)
        id: str = taken.id
        return id

    def look(self, message: str) -> Any:
        return self.calls.do("get_group_message", "all", message=message)

    def emissions(self) -> list[tuple[int, float, float, bytes]]:
        """(gateway, start, end, frame) of all that was sent since the last look, by time; whoever is near hears it."""
        found: list[tuple[int, float, float, bytes]] = []
        for number, forwarder in enumerate(self.forwarders):
            for at, packet in forwarder.asked:
                frame = b64decode(packet["data"])
                region = REGIONS[self.bed.settings.region]
                rate = region.downlink_rate_of(packet["datr"])
                assert rate is not None
                seconds = airtime(region.rate(rate), len(frame))
                start = at + 1.0 if packet.get("imme") else (packet["tmst"] - forwarder.offset) / 1e6
                found.append((number, start, start + seconds, frame))
            forwarder.sent()
        found.sort(key=lambda emission: emission[1])
        for number, _, _, frame in found:
            for numbers, ear in zip(self.near, self.ears, strict=True):
                if number in numbers:
                    ear.hears(frame)
        return found
