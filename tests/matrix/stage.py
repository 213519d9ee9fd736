"""The broker of the matrix, one twistd process with every listener, and who is registered with it.

Everything here blocks, in a thread of its own.
"""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple
from uuid import NAMESPACE_URL, uuid4, uuid5

from broker.devices.gizwits.identity import derived_did
from broker.simulate.gateway88.behaviour import mac_of, registration
from broker.simulate.gizwits_lamp import DATAPOINTS
from broker.simulate.gizwits_traits import GizwitsIdentity, gizwits_identity
from tests.matrix.devices import REGION, SEED, Device, Gateway88, Gizwits, Modbus, Mote, NovaCloud
from tests.matrix.plugin import install, module_of
from tests.real import PATIENCE, RealBroker

LAMP: Final = "3a7000003a7000003a7000003a700000"
CS_EUI: Final = "3A70000000000000"
KEY: Final = "3A7000003A7000003A7000003A700000"
CLOUD: Final = "matrix-gizwits"
CUSTOMER: Final = "matrix-customer"
DEVICE_KEY: Final = "3a70" * 16
PASSCODE: Final = "MATRIXCODE"
ADDRESS: Final = 0x013A7001
NWK_S_KEY, APP_S_KEY = bytes(range(16)), bytes(range(16, 32))
#: Bytes of a packet to the lamp.
MAX_PACKET: Final = 200
NOVACLOUD_ID: Final = str(uuid5(NAMESPACE_URL, "urn:broker:matrix"))
#: Devices that no application is bound to: ids, and what a customer server would call them.
STRANGERS: Final = {
    "gateway88": mac_of(SEED, 2).hex().upper(),
    "gizwits": derived_did(LAMP, gizwits_identity(LAMP, SEED, 2).mac),
    "lorawan": "3A70000000000E03",
    "novacloud": str(uuid5(NAMESPACE_URL, "urn:broker:matrix:stranger")),
    "modbus": "boiler-2",
}
STRANGER_EUIS: Final = {protocol: f"3A70000000000E{number:02X}" for number, protocol in enumerate(STRANGERS, 1)}


def eui(number: int) -> str:
    return f"3A70000000000D{number:02X}"


class User(NamedTuple):
    """Somebody with a Gizwits app."""

    uid: str
    token: str


class Stage:
    """``folder`` gets the plugin and the broker's data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.broker = RealBroker(folder)
        self.simulate: ModuleType
        self.secrets: dict[str, str] = {}
        self.users: list[User] = []

    def start(self) -> None:
        """Install the plugin, start the broker, register everybody but devices."""
        plugin = install("modbus", self._folder)
        self.simulate = module_of(plugin, "broker_modbus.simulate")
        tls = '["tls:0:interface=127.0.0.1"]'
        settings = {
            "listeners.gateway88.bind": tls,
            "listeners.files.bind": tls,
            "listeners.lorawan.region": REGION,
            "listeners.lorawan.unknown": "accept",
            "listeners.lorawan.class_c_gap": "0.1",
            "listeners.lorawan.mote_offline_after": "6",
            "listeners.modbus.bind": "[]",
            "listeners.modbus.maps.boiler": self.simulate.MAP,
            "listeners.modbus.poll_every": "0.2",
            "listeners.modbus.timeout": "1",
            "listeners.modbus.offline_after": "2",
            "listeners.modbus.reconnect_max": "0.5",
        }
        self.broker.settings |= settings
        self.broker.environment["PYTHONPATH"] = str(plugin)
        self.broker.start()
        self._register_applications()

    def stop(self) -> int:
        """The exit status; 0 where it was never started."""
        return self.broker.stop()

    def devices(self, reactor: Any) -> list[Device]:
        """Made, and not registered yet. In the reactor's thread."""
        ports, tls = self.broker.ports, self.broker.tls_ports
        identity = self._lamp()
        session = (ADDRESS, NWK_S_KEY, APP_S_KEY)
        did = derived_did(LAMP, identity.mac)
        boiler = self.simulate.Boiler(self.simulate.free_port())
        self._boiler_port: int = boiler.port
        return [
            Gateway88(reactor, tls["gateway88"], eui(1)),
            Gizwits(reactor, ports["gservice"], did, eui(2), identity, PASSCODE),
            Mote(reactor, ports["lorawan"], eui(3), session),
            NovaCloud(reactor, ports["novacloud"], NOVACLOUD_ID, eui(4), DEVICE_KEY),
            Modbus(boiler, eui(5)),
        ]

    def strangers(self, reactor: Any) -> dict[str, Device]:
        """Likewise: one of each protocol, bound to nobody. Those of NovaCloud and Modbus speak."""
        port = self.broker.ports["novacloud"]
        others = {protocol: Device(id, STRANGER_EUIS[protocol]) for protocol, id in STRANGERS.items()}
        for other in others.values():
            other.speaks = False
        others["modbus"].speaks = True
        speaking = NovaCloud(reactor, port, STRANGERS["novacloud"], STRANGER_EUIS["novacloud"], DEVICE_KEY)
        return others | {"novacloud": speaking}

    @staticmethod
    def _lamp() -> GizwitsIdentity:
        return gizwits_identity(LAMP, SEED, 1)

    # -- registering -----------------------------------------------------------------------------------------------

    def register(self, devices: list[Device]) -> None:
        """All devices, and every application's rights on all but the stranger."""
        mote = {"dev_addr": f"{ADDRESS:08X}", "nwk_s_key": NWK_S_KEY.hex(), "app_s_key": APP_S_KEY.hex(), "class": "C"}
        fields: dict[str, dict[str, Any]] = {
            "gateway88": registration(mac_of(SEED, 1)),
            "gizwits": {"product": LAMP, "mac": self._lamp().mac, "secret": PASSCODE},
            "lorawan": mote,
            "novacloud": {"secret": DEVICE_KEY},
            "modbus": {"host": "127.0.0.1", "port": self._boiler_port, "unit": 1, "map": "boiler"},
        }
        for device in devices:
            alias = {} if device.protocol == "lorawan" else {"dev_eui": device.eui}
            body = {"protocol": device.protocol, "id": device.id, **alias, **fields[device.protocol]}
            self.broker.made("/devices", body)
            for application in (*self.secrets, CUSTOMER):
                self.done("PUT", f"/applications/{application}/devices/{device.id}")
            for user in self.users:
                self._bind(user, device)
            other = {**body, "id": STRANGERS[device.protocol]}
            if device.protocol == "gizwits":
                other["mac"] = gizwits_identity(LAMP, SEED, 2).mac
            if device.protocol == "lorawan":
                other["dev_addr"] = f"{ADDRESS + 1:08X}"
            else:
                other["dev_eui"] = STRANGER_EUIS[device.protocol]
            self.broker.made("/devices", other)

    def _bind(self, user: User, device: Device) -> None:
        """A module tells its passcode to whoever is near; all others are bound by the operator."""
        if device.protocol != "gizwits":
            self.done("PUT", f"/gizwits/applications/{CLOUD}/users/{user.uid}/devices/{device.id}")
            return
        devices = [{"did": device.id, "passcode": PASSCODE, "remark": ""}]
        status, answer = self.open_api("POST", "/app/bindings", {"devices": devices}, user)
        assert status < 300 and answer["success"] == [device.id], (status, answer)

    def _register_applications(self) -> None:
        made = self.broker.made
        made("/products", {"key": LAMP, "protocol": "gizwits", "name": "lamp", "actuators": ACTUATORS})
        self.done("PUT", f"/gizwits/products/{LAMP}/datapoints", {"datapoints": DATAPOINTS})
        self.done("PUT", f"/gizwits/products/{LAMP}/switches", {"max_packet": MAX_PACKET})
        for id, kind in (
            ("matrix-311", "mqtt"),
            ("matrix-5", "mqtt"),
            ("matrix-http", "http"),
            ("matrix-stream", "http"),
        ):
            self.secrets[id] = made("/applications", {"id": id, "kind": kind})["secret"]
        made("/applications", {"id": CLOUD, "kind": "gizwits"})
        made("/applications", {"id": CUSTOMER, "kind": "loracenter", "cs_eui": CS_EUI, "app_key": KEY})
        for _ in range(2):
            status, answer = self.open_api("POST", "/app/users", {"phone_id": str(uuid4())})
            assert status == 201, answer
            self.users.append(User(answer["uid"], answer["token"]))

    # -- calls -----------------------------------------------------------------------------------------------------

    def done(self, method: str, path: str, body: Any = None) -> Any:
        """A call of the administrator's that has to succeed."""
        status, answer = self.broker.call(method, path, body)
        assert status < 300, (path, status, answer)
        return answer

    def open_api(self, method: str, path: str, body: Any = None, user: User | None = None) -> tuple[int, Any]:
        """A call of Gizwits' own API."""
        connection = http.client.HTTPConnection("127.0.0.1", self.broker.ports["gservice"], timeout=PATIENCE)
        try:
            headers = {"X-Gizwits-Application-Id": CLOUD, "Content-Type": "application/json"}
            if user is not None:
                headers["X-Gizwits-User-token"] = user.token
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            answer = response.read()
            return response.status, json.loads(answer) if answer else None
        finally:
            connection.close()


ACTUATORS: Final = [{"command_key": "power", "name": ""}, {"command_key": "brightness", "name": ""}]
