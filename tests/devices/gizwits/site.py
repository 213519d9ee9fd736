"""GService, the API and MQTT on real sockets of the loopback interface, with SQLite behind them."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory

from broker.applications.mqtt import Settings as MqttSettings
from broker.applications.mqtt import build as build_mqtt
from broker.devices.gizwits import DeviceSettings, build_devices
from broker.devices.gizwits import errors as e
from broker.devices.gizwits.gservice import routes
from broker.model.errors import BrokerError
from broker.model.jsontext import decode
from broker.web.answers import Answer
from broker.web.listener import WebListener
from broker.web.surface import Surface
from tests.applications.http.site import RawClient, SiteCase, reactor
from tests.devices.gizwits.bed import MAC, PASSCODE, PRODUCT

#: What an agent has room for: one recv of so many bytes.
ROOM = 1024


class DeviceSurface(Surface):
    """Refusals as devices get them."""

    def refusal(self, request: Any, error: BrokerError) -> Answer:
        refused = e.refused(error)
        return Answer(refused.code.status, e.body_of(refused))


class Chunks(RawClient):
    """Keeps apart what came apart."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self.chunks.append(data)
        super().dataReceived(data)


class GserviceCase(SiteCase):
    """One product, no devices."""

    gizwits: ClassVar[dict[str, Any]] = {}

    async def _start(self) -> None:
        await super()._start()
        self.core.ports = lambda name: (("ws", 9), ("tcp", self.mqtt_port)) if name == "mqtt" else ()
        self.devices = build_devices(self.core, DeviceSettings(**self.gizwits))
        await self.devices.prepare()
        self.gservice = WebListener(
            "gservice", self.core, self.devices.settings, DeviceSurface(), lambda: routes(self.devices)
        )
        await self.gservice.prepare()
        self.mqtt = build_mqtt(self.core, MqttSettings(sys_interval=0))
        self._ports = [reactor.listenTCP(0, one, interface="127.0.0.1") for one in (self.gservice, self.mqtt)]
        self.gservice_port, self.mqtt_port = (port.getHost().port for port in self._ports)
        await self.made("/products", {"key": PRODUCT, "name": "lamp", "protocol": "gizwits"})

    def _stop(self, port: Any, pool: Any) -> Any:
        async def stop() -> None:
            for one in self._ports:
                await one.stopListening()
            for listener in (self.gservice, self.mqtt):
                listener.shut_down()
                for connection in list(listener.connections):
                    connection.abort("shutdown")
            await self.until(lambda: not self.gservice.connections and not self.mqtt.connections)
            await super(GserviceCase, self)._stop(port, pool)

        return Deferred.fromCoroutine(stop())

    async def reach(self, port: int) -> Chunks:
        endpoint = HostnameEndpoint(reactor, b"127.0.0.1", port)
        client: Any = await endpoint.connect(Factory.forProtocol(Chunks))
        self.sockets.append(client)
        assert isinstance(client, Chunks)
        return client

    async def send(self, request: bytes) -> tuple[int, bytes, bytes]:
        """The bytes of a request as an agent's, and its answer: (status, head, body). It has to come in one piece."""
        client = await self.reach(self.gservice_port)
        client.write(request)
        await client.until(b"\r\n\r\n")
        await self.until(lambda: complete(client.data))
        self.assertEqual(len(client.chunks), 1, client.chunks)
        self.assertLessEqual(len(client.data), ROOM)
        head, _, body = client.data.partition(b"\r\n\r\n")
        client.transport.loseConnection()  # type: ignore[union-attr]  # a TCP transport
        return int(head.split(b" ")[1]), head, body

    async def register(self, passcode: str = PASSCODE, mac: str = MAC, product: str = PRODUCT) -> str:
        status, _, body = await self.send(registration(passcode, mac, product))
        self.assertEqual(status, 201, body)
        return body.decode().removeprefix("did=")

    async def disable(self, did: str, passcode: str = PASSCODE) -> tuple[int, bytes]:
        status, _, body = await self.send(disabling(did, passcode))
        return status, body

    def code(self, body: bytes) -> int:
        """The number in a refusal."""
        refusal = decode(body)
        self.assertEqual(set(refusal), {"error_message", "error_code", "detail_message"})
        number: int = refusal["error_code"]
        return number


def complete(data: bytes) -> bool:
    head, _, body = data.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.startswith(b"Content-Length: "):
            return len(body) >= int(line[16:])
    return True


def registration(passcode: str = PASSCODE, mac: str = MAC, product: str = PRODUCT) -> bytes:
    """What a GAgent sends."""
    form = f"passcode={passcode}&mac={mac}&product_key={product}"
    return (
        f"POST /dev/devices HTTP/1.1\r\nHost: api.gizwits.com\r\nContent-Length: {len(form)}\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}"
    ).encode()


def disabling(did: str, passcode: str = PASSCODE) -> bytes:
    """What a GAgent sends when it is reset."""
    form = f"did={did}&passcode={passcode}"
    return (
        f"DELETE /dev/devices HTTP/1.1\r\nHost: api.gizwits.com\r\nContent-Length: {len(form)}\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}"
    ).encode()


def provision(did: str) -> bytes:
    """What a GAgent sends at its start and every hour."""
    return (
        f"GET /dev/devices/{did} HTTP/1.1\r\nHost: api.gizwits.com\r\nCache-Control: no-cache\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    ).encode()


def checking(did: str, version: str = "04020006", kind: int = 1, passcode: str = PASSCODE) -> bytes:
    """What a GAgent sends to hear of firmware: no blank behind two of the names."""
    form = f"passcode={passcode}&type={kind}&hard_version=000LINUX&soft_version={version}"
    return (
        f"POST /dev/ota/v4.1/update_and_check/{did} HTTP/1.1\r\nHost:api.gizwits.com\r\nContent-Length:{len(form)}\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}"
    ).encode()


def asking(path: str) -> bytes:
    """What agents send for everything else."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/text\r\n\r\n".encode()
