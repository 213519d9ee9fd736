"""A Gizwits app that is not there: its user over the Open API, its messages over MQTT 3.1.

::

    app = GizwitsApp(reactor, "http://127.0.0.1:8081", "appid", "phone-1", m2m=lambda host, port: endpoint)
    yield app.log_in()                      a user who is nothing but a phone; the same phone is the same user
    yield app.bind(did, passcode)
    app.start()                             user name 2$<appid>$<uid>, password: the token
    app.control(did, data)                  0x0090; with acknowledged=True 0x0093
    ...on_report(did, packet) hears what devices say
    yield app.stop()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.web.client import Agent, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers

from broker.devices.gizwits import codec as g
from broker.devices.gizwits.topics import command_topic, report_topic, response_topic, split
from broker.mqtt.client import Message, MqttClient, MqttRefused
from broker.mqtt.packets import MQTT_3_1
from broker.simulate.api import CONNECT_TIMEOUT, body_of

_LETTERS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
KEEP_ALIVE: Final = 60


class OpenApiError(Exception):
    """A call was refused. ``status`` is HTTP's, ``code`` Gizwits' own."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code


class GizwitsApp:
    """``url`` is where the Open API is, ``phone`` the id of the phone it runs on. ``m2m(host, port)`` gives the client
    endpoint of an MQTT server. ``on_report(did, packet)`` is called for each business message, ``on_change`` as in
    `MqttClient`.
    """

    def __init__(
        self,
        reactor: Any,
        url: str,
        appid: str,
        phone: str,
        m2m: Callable[[str, int], Any],
        on_report: Callable[[str, g.Business], object] = lambda did, packet: None,
        on_change: Callable[[str], object] | None = None,
    ) -> None:
        self.appid = appid
        self.phone = phone
        random = Random(f"{appid} {phone}")
        self.client_id = "usr" + "".join(random.choice(_LETTERS) for _ in range(20))
        self.uid = ""
        #: did -> what GET /app/bindings says of it.
        self.devices: dict[str, dict[str, Any]] = {}
        #: Messages that are none.
        self.malformed = 0
        self.mqtt: MqttClient | None = None
        self._reactor = reactor
        self._url = url.rstrip("/")
        self._m2m = m2m
        self._on_report = on_report
        self._on_change = on_change
        self._token = ""  # nosec B105 # no password
        self._sn = 0
        self._pool = HTTPConnectionPool(reactor)
        self._agent = Agent(reactor, connectTimeout=CONNECT_TIMEOUT, pool=self._pool)

    @property
    def token(self) -> str:
        """The user's, empty before `log_in`."""
        return self._token

    # -- Open API --------------------------------------------------------------------------------------------------

    async def log_in(self) -> None:
        """As the user of this phone, who is made if there is none. Raises OpenApiError."""
        answer = await self.call("POST", "/app/users", {"phone_id": self.phone})
        self.uid, self._token = answer["uid"], answer["token"]

    async def bind(self, did: str, passcode: str, remark: str = "") -> None:
        """Raises OpenApiError, ValueError when the device does not want it."""
        await self.bind_all([(did, passcode, remark)])

    async def bind_all(self, devices: Iterable[tuple[str, str, str]]) -> None:
        """The same for several: did, passcode and remark of each. Raises OpenApiError, ValueError."""
        body = [{"did": did, "passcode": passcode, "remark": remark} for did, passcode, remark in devices]
        answer = await self.call("POST", "/app/bindings", {"devices": body})
        if answer["failed"]:
            raise ValueError(f"{', '.join(answer['failed'])}: not bound")

    async def find(self, product: str, mac: str) -> tuple[str, str]:
        """Did and passcode of a device that somebody holds in his hand. Raises OpenApiError."""
        answer = await self.call("GET", f"/app/devices?product_key={product}&mac={mac}")
        return answer["did"], answer["passcode"]

    async def refresh(self) -> None:
        """Ask which devices there are. Raises OpenApiError."""
        answer = await self.call("GET", "/app/bindings?limit=20&skip=0&show_disabled=1")
        self.devices = {device["did"]: device for device in answer["devices"]}

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer. Raises OpenApiError."""
        headers = Headers({"X-Gizwits-Application-Id": [self.appid]})
        if self._token:
            headers.addRawHeader("X-Gizwits-User-token", self._token)
        data = None
        if body is not None:
            headers.addRawHeader("Content-Type", "application/json")
            data = body_of(msgspec.json.encode(body))
        response: Any = await self._agent.request(method.encode(), (self._url + path).encode(), headers, data)
        answer = await readBody(response)
        value = msgspec.json.decode(answer) if answer else None
        if response.code >= 400:
            problem = value if isinstance(value, dict) else {}
            raise OpenApiError(response.code, int(problem.get("error_code", 0)), problem.get("error_message", ""))
        return value

    # -- MQTT ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect to where the first device is, and hear all of them. Raises OpenApiError, ValueError."""
        await self.refresh()
        if not self.devices:
            raise ValueError("no device is bound")
        first = next(iter(self.devices.values()))
        mqtt = self.mqtt = MqttClient(
            self._reactor,
            self._m2m(first["host"], first["port"]),
            client_id=self.client_id,
            user=f"2${self.appid}${self.uid}",
            password=self._token,
            keep_alive=KEEP_ALIVE,
            version=MQTT_3_1,
            on_message=self._heard,
            on_change=self._on_change,
        )
        mqtt.start()
        await mqtt.subscribe(f"{response_topic(self.client_id)}/#", 0)
        for did in self.devices:
            await mqtt.subscribe(report_topic(did), 0)
            await mqtt.subscribe(report_topic(did, self.client_id), 0)

    async def stop(self) -> None:
        if self.mqtt is not None:
            await self.mqtt.stop()
        await self._pool.closeCachedConnections()

    def control(self, did: str, data: bytes, acknowledged: bool = False) -> int:
        """Send a device P0 data; the number that it will acknowledge, 0 for none."""
        if not acknowledged:
            self._try(did, g.Control(data))
            return 0
        self._sn += 1
        self._try(did, g.Request(self._sn, data))
        return self._sn

    def say(self, did: str, packet: g.Business) -> Deferred[int]:
        """Any business message; fails with MqttRefused while there is no connection."""
        if self.mqtt is None:
            return fail(MqttRefused("not connected"))
        return self.mqtt.publish(command_topic(did, self.client_id), g.encode(packet))

    def _try(self, did: str, packet: g.Business) -> None:
        """What is said while there is no connection is lost."""
        self.say(did, packet).addErrback(lambda failure: failure.trap(MqttRefused))

    def _heard(self, message: Message) -> None:
        parts = split(message.topic)
        if parts is None:
            return
        try:
            packet = g.decode_business(message.payload)
        except g.Malformed:
            self.malformed += 1
            return
        if isinstance(packet, g.Request):  # whoever gets one acknowledges it
            self._try(parts[1], g.Ack(packet.sn))
        self._on_report(parts[1], packet)
