"""One device of each protocol. Each says what it is told to, keeps what it was commanded, and refuses when it should.

A mark is a small number by which a message or a command is known again, whatever form it has on the other side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint
from twisted.internet.threads import deferToThread

from broker.devices.gizwits import codec as g
from broker.simulate.gateway88.behaviour import Behaviour as GatewayBehaviour
from broker.simulate.gateway88.behaviour import mac_of
from broker.simulate.gateway88.gateway import SimulatedGateway
from broker.simulate.gizwits import SimulatedGizwits
from broker.simulate.gizwits_lamp import REPORT, control
from broker.simulate.gizwits_traits import GizwitsBehaviour, GizwitsIdentity
from broker.simulate.lorawan.air import Air
from broker.simulate.lorawan.forwarder import Forwarder
from broker.simulate.lorawan.links import UdpLink
from broker.simulate.lorawan.mote import SimulatedMote
from broker.simulate.lorawan.plans import PLANS
from broker.simulate.lorawan.session import MoteIdentity
from broker.simulate.lorawan.town import heard_channels
from broker.simulate.lorawan.traits import Traits
from broker.simulate.novacloud import Behaviour, Identity, SimulatedDevice

Content = Mapping[str, Any] | bytes

#: No duty cycles, and a second window that is quick enough for a command a second.
REGION: Final = "in865"
SEED: Final = 0x3A7
#: Bytes that no data rate of the region has room for, and that no lamp takes in one packet (`stage`).
TOO_LONG: Final = 250


class Order(NamedTuple):
    """A command: the object, where the protocol has one; bytes for who can say nothing else; further fields."""

    payload: dict[str, Any] | None
    data: bytes
    more: Mapping[str, Any] = {}


def of_object(payload: dict[str, Any]) -> Order:
    return Order(payload, json.dumps(payload).encode())


def as_object(content: Content) -> Mapping[str, Any]:
    """What was said, for a protocol that speaks JSON; empty if it is none."""
    if not isinstance(content, bytes):
        return content
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class Device:
    """``id`` is the registry's, ``eui`` what customer servers call it. ``obeyed`` holds what it was commanded.

    By itself it is one that is registered and never switched on.
    """

    protocol = ""
    title = ""
    speaks = True

    def __init__(self, id: str, eui: str) -> None:
        self.id = id
        self.eui = eui
        self.obeyed: list[Any] = []

    def start(self) -> Any:
        """Switch it on."""

    def stop(self) -> Any:
        """Switch it off; a Deferred of that. Harmless twice."""

    def say(self, mark: int) -> None:
        """A message with this mark."""

    def said(self, mark: int, content: Content) -> bool:
        """Whether that is the message with this mark."""
        raise NotImplementedError

    def order(self, mark: int) -> Order:
        """A command with this mark."""
        raise NotImplementedError

    def has_obeyed(self, mark: int) -> bool:
        """Whether the command with this mark has come to the device."""
        raise NotImplementedError

    def refused(self, mark: int) -> Order:
        """A command that will be refused while it is told to `refuse`."""
        raise NotImplementedError

    def refuse(self) -> None:
        """From now on."""


class NovaCloud(Device):
    protocol, title = "novacloud", "NovaCloud"

    def __init__(self, reactor: Any, port: int, id: str, eui: str, key: str) -> None:
        super().__init__(id, eui)
        outer = self

        class Recording(SimulatedDevice):
            def _obey(self, command: dict[str, Any]) -> None:
                outer.obeyed.append(command["payload"])
                super()._obey(command)

        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        self._device = Recording(reactor, endpoint, Identity(id, key), SEED, Behaviour(data_every=0))

    def start(self) -> None:
        self._device.start()

    def stop(self) -> Deferred[None]:
        return self._device.stop()

    def say(self, mark: int) -> None:
        self._device.send({"type": "data", "payload": {"temperature": mark}})

    def said(self, mark: int, content: Content) -> bool:
        return as_object(content) == {"temperature": mark}

    def order(self, mark: int) -> Order:
        return of_object({"set_temperature": mark})

    def has_obeyed(self, mark: int) -> bool:
        return {"set_temperature": mark} in self.obeyed

    def refused(self, mark: int) -> Order:
        return of_object({"fan_speed": mark})

    def refuse(self) -> None:
        self._device.behaviour = replace(self._device.behaviour, error_rate=1.0)


class Gateway88(Device):
    protocol, title = "gateway88", "0x88 gateway"

    def __init__(self, reactor: Any, port: int, eui: str) -> None:
        mac = mac_of(SEED, 1)
        super().__init__(mac.hex().upper(), eui)
        outer = self

        class Recording(SimulatedGateway):
            def _command(self, connection: Any, frame: Any, value: dict[str, Any]) -> None:
                outer.obeyed.append(value.get("cmd"))
                super()._command(connection, frame, value)

        endpoint = HostnameEndpoint(reactor, "127.0.0.1", port)
        self._gateway = Recording(reactor, endpoint, mac, SEED, GatewayBehaviour())

    def start(self) -> None:
        self._gateway.start()

    def stop(self) -> Deferred[None]:
        return self._gateway.stop()

    def say(self, mark: int) -> None:
        self._gateway.say({"type": "newdevices", "mark": mark})

    def said(self, mark: int, content: Content) -> bool:
        return as_object(content) == {"type": "newdevices", "mark": mark}

    def order(self, mark: int) -> Order:
        return of_object({"permit_join": mark})

    def has_obeyed(self, mark: int) -> bool:
        return {"permit_join": mark} in self.obeyed

    def refused(self, mark: int) -> Order:
        return of_object({"led": mark})

    def refuse(self) -> None:
        self._gateway.behaviour = replace(self._gateway.behaviour, error_rate=1.0)


class Gizwits(Device):
    """A lamp; what it cannot take is a packet that is too long for it."""

    protocol, title = "gizwits", "Gizwits"

    def __init__(self, reactor: Any, port: int, id: str, eui: str, identity: GizwitsIdentity, passcode: str) -> None:
        super().__init__(id, eui)
        outer = self

        class Recording(SimulatedGizwits):
            def _business(self, app: str, packet: g.Business) -> None:
                if isinstance(packet, g.Control | g.Request):
                    outer.obeyed.append(packet.data)
                super()._business(app, packet)

        gservice = HostnameEndpoint(reactor, "127.0.0.1", port)
        self._device = Recording(
            reactor,
            gservice,
            f"127.0.0.1:{port}",
            lambda host, at: HostnameEndpoint(reactor, host, at),
            identity,
            SEED,
            GizwitsBehaviour(report_every=0, tempo=20),
        )
        self._device.flash.passcode = passcode

    def start(self) -> None:
        self._device.start()

    def stop(self) -> Deferred[Any]:
        return self._device.stop()

    def say(self, mark: int) -> None:
        self._device.say(g.Report(bytes((REPORT, 0, mark, 0, 0))))

    def said(self, mark: int, content: Content) -> bool:
        if isinstance(content, bytes):
            return content == bytes((REPORT, 0, mark, 0, 0))
        return content.get("brightness") == mark

    def order(self, mark: int) -> Order:
        return Order({"brightness": mark}, control(brightness=mark), {"ack": True})

    def has_obeyed(self, mark: int) -> bool:
        return control(brightness=mark) in self.obeyed

    def refused(self, mark: int) -> Order:
        return Order(None, bytes((mark,)) * TOO_LONG, {"ack": True})


class Mote(Device):
    """Of class C, with a packet forwarder beside it; it says its newest message again and again."""

    protocol, title = "lorawan", "LoRaWAN"

    def __init__(self, reactor: Any, port: int, eui: str, session: tuple[int, bytes, bytes]) -> None:
        super().__init__(eui, eui)
        plan = PLANS[REGION]
        air = Air(reactor, Random(SEED), keep=False)
        link = UdpLink(reactor, ("127.0.0.1", port))
        self._forwarder = Forwarder(air, "3A70000000000F01", link, heard_channels(REGION, 0), plan.range)
        self._saying = b"\xff\x00"
        self._mote = SimulatedMote(
            air,
            plan,
            MoteIdentity(eui, "0" * 16, "0" * 32),
            Traits(every=1.0, payload=2, class_c=True, adr=False, rate=5),
            [70.0],
            Random(SEED),
            measures=lambda: self._saying,
            told=self._told,
        )
        self._mote.personalise(*session)
        self._running = False

    def _told(self, mote: SimulatedMote, what: str) -> None:
        if what.startswith("command on port "):
            self.obeyed.append(bytes.fromhex(what.rpartition(" ")[2]))

    def start(self) -> None:
        self._running = True
        self._forwarder.start()
        self._mote.start(0.5)

    def stop(self) -> None:
        if self._running:
            self._running = False
            self._mote.stop()
            self._forwarder.stop()

    def say(self, mark: int) -> None:
        self._saying = bytes((0xAA, mark))

    def said(self, mark: int, content: Content) -> bool:
        return content == bytes((0xAA, mark))

    def order(self, mark: int) -> Order:
        return Order(None, bytes((1, mark)), {"port": 5})

    def has_obeyed(self, mark: int) -> bool:
        return bytes((1, mark)) in self.obeyed

    def refused(self, mark: int) -> Order:
        return Order(None, bytes((mark,)) * TOO_LONG, {"port": 5})


class Modbus(Device):
    """``boiler``: `broker_modbus.simulate.Boiler`, which has threads of its own."""

    protocol, title = "modbus", "Modbus/TCP (a package of its own)"

    def __init__(self, boiler: Any, eui: str) -> None:
        super().__init__("boiler-1", eui)
        self._boiler = boiler

    def start(self) -> Deferred[None]:
        started: Deferred[None] = deferToThread(self._boiler.start)
        return started

    def stop(self) -> Deferred[None]:
        stopped: Deferred[None] = deferToThread(self._boiler.stop)
        return stopped

    def say(self, mark: int) -> None:
        self._boiler.temperature = float(mark)

    def said(self, mark: int, content: Content) -> bool:
        return as_object(content).get("temperature") == mark

    def order(self, mark: int) -> Order:
        return of_object({"set_point": float(mark)})

    def has_obeyed(self, mark: int) -> bool:
        return (6, 10, [mark * 10]) in self._boiler.written

    def refused(self, mark: int) -> Order:
        return of_object({"set_point": 500.0 + mark})
