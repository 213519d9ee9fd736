"""The HTTP API with the standard library's client, and the stream with wsproto's."""

from __future__ import annotations

from queue import Empty
from threading import Event, Thread
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.matrix.devices import Device, Order
from tests.matrix.mailbox import PATIENCE
from tests.matrix.mqtt_side import FINAL, body_of, content_of
from tests.matrix.sides import Side
from tests.websocket import WebSocketClient

#: Seconds between two looks at what the API says.
LOOK = 0.1


class Http(Side):
    name, title = "http", "HTTP"
    application = "matrix-http"

    @property
    def token(self) -> str:
        return f"{self.application}:{self.stage.secrets[self.application]}"

    async def start(self, devices: list[Device]) -> None:
        """There is nothing to open."""

    async def stop(self) -> None:
        """Nor to close."""

    def call(self, method: str, path: str, body: Any = None) -> Deferred[tuple[int, Any]]:
        return deferToThread(self.stage.broker.call, method, path, body, self.token)

    async def asked(self, path: str, wanted: Any, what: str) -> None:
        """Ask again and again, until the answer is wanted."""
        until = self.reactor.seconds() + PATIENCE
        while True:
            status, answer = await self.call("GET", path)
            assert status == 200, (path, status, answer)
            if wanted(answer):
                return
            assert self.reactor.seconds() < until, f"{self.title} was not told {what}: {answer}"
            await deferLater(self.reactor, LOOK)

    async def uplink(self, device: Device, mark: int) -> None:
        def wanted(page: Any) -> bool:
            return any(device.said(mark, content_of(one)) for one in page["items"])

        await self.asked(f"/devices/{device.id}/messages?limit=100", wanted, f"what {device.title} said")

    async def presence(self, device: Device, online: bool, since: int) -> None:
        await self.asked(f"/devices/{device.id}", lambda found: found["online"] is online, f"{device.title} {online}")

    async def command(self, device: Device, order: Order) -> None:
        answer = await self.outcome(device, order)
        assert answer["status"] == "succeeded", answer

    async def refusal(self, device: Device, order: Order) -> None:
        answer = await self.outcome(device, order)
        assert answer["status"] == "failed", answer

    async def outcome(self, device: Device, order: Order) -> dict[str, Any]:
        """How a command ends."""
        path = f"/devices/{device.id}/commands?wait={PATIENCE:g}"
        status, answer = await self.call("POST", path, body_of(order))
        assert status == 200, (status, answer)
        found: dict[str, Any] = answer
        return found

    async def rights(self, stranger: Device, order: Order) -> None:
        status, answer = await self.call("POST", f"/devices/{stranger.id}/commands", body_of(order))
        assert status == 404, (status, answer)


class Stream(Http):
    """Everything that can be heard is heard on the WebSocket; commands are posted."""

    name, title = "stream", "Stream"
    application = "matrix-stream"

    async def start(self, devices: list[Device]) -> None:
        port = self.stage.broker.ports["http"]
        self._ended = Event()
        self._socket: WebSocketClient = await deferToThread(WebSocketClient, port, "/api/v1/stream", self.token)
        Thread(target=self._pump, daemon=True).start()

    def _pump(self) -> None:
        while not self._ended.is_set():
            try:
                self.heard.put(self._socket.next(lambda message: True))
            except Empty:
                continue

    async def stop(self) -> None:
        self._ended.set()
        self._socket.close()

    async def uplink(self, device: Device, mark: int) -> None:
        def wanted(event: Any) -> bool:
            return is_of(event, "uplink", device) and device.said(mark, content_of(event))

        await self.heard.until(wanted, f"{device.title} saying {mark}")

    async def presence(self, device: Device, online: bool, since: int) -> None:
        def wanted(event: Any) -> bool:
            return is_of(event, "presence", device) and event["online"] is online

        await self.heard.until(wanted, f"that {device.title} is {online}", since)

    async def outcome(self, device: Device, order: Order) -> dict[str, Any]:
        status, answer = await self.call("POST", f"/devices/{device.id}/commands", body_of(order))
        assert status == 202, (status, answer)

        def wanted(event: Any) -> bool:
            return is_of(event, "command", device) and event["id"] == answer["id"] and event["status"] in FINAL

        found: dict[str, Any] = await self.heard.until(wanted, f"how {answer['id']} ended")
        return found


def is_of(event: Any, kind: str, device: Device) -> bool:
    return bool(event["type"] == kind and event["device"] == device.id)
