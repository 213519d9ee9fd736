"""The cast of the demo: five NovaCloud devices of two products, and three applications that work with them.

::

    climate-1 climate-2 climate-3  ──data, status──>  dashboard (MQTT)        which commands them every few seconds
    lamp-1 lamp-2                  ──data, status──>  monitor (WebSocket)
                                   <──commands──────  backend (HTTP, ?wait=)

Each message has one receiver here, so each shows as one line.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

import msgspec
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import LoopingCall

from broker.mqtt.client import Message as Received
from broker.mqtt.client import MqttClient
from broker.simulate.api import Api, ApiError, Message, Stream, segment
from broker.simulate.fleet import Fleet
from broker.simulate.novacloud import Behaviour, Identity, SimulatedDevice
from broker.simulate.registration import ensure_application, ensure_device, ensure_product

#: (from, to, kind, what) of one message
Show = Callable[[str, str, str, object], object]

PRODUCTS: Final[tuple[dict[str, Any], ...]] = (
    {
        "key": "demo-climate",
        "name": "Climate sensor (demo)",
        "protocol": "novacloud",
        "sensors": [
            {"value_key": "temperature", "name": "Temperature", "unit": "°C"},
            {"value_key": "humidity", "name": "Humidity", "unit": "%"},
            {"value_key": "pressure", "name": "Pressure", "unit": "kPa"},
            {"value_key": "is_window_open", "name": "Window"},
        ],
        "actuators": [
            {"command_key": "set_temperature", "name": "Set point"},
            {"command_key": "fan_speed", "name": "Fan"},
        ],
    },
    {
        "key": "demo-lamp",
        "name": "Lamp (demo)",
        "protocol": "novacloud",
        "sensors": [{"value_key": "light", "name": "Light", "unit": "lx"}],
        "actuators": [{"command_key": "light_switch", "name": "Switch"}],
    },
)
#: name -> product
NAMES: Final = {
    "climate-1": "demo-climate",
    "climate-2": "demo-climate",
    "climate-3": "demo-climate",
    "lamp-1": "demo-lamp",
    "lamp-2": "demo-lamp",
}
#: name -> device id, the same in every run
IDS: Final = {name: str(uuid5(NAMESPACE_URL, f"urn:broker:demo:{name}")) for name in NAMES}
NAMES_BY_ID: Final = {id: name for name, id in IDS.items()}
CLIMATE: Final = [IDS[name] for name in NAMES if name.startswith("climate")]
LAMPS: Final = [IDS[name] for name in NAMES if name.startswith("lamp")]

DASHBOARD: Final = "dashboard (MQTT)"
BACKEND: Final = "backend (HTTP)"
MONITOR: Final = "monitor (WebSocket)"
#: Seconds between two commands of the dashboard, and of the backend.
DASHBOARD_PERIOD: Final = 5.0
BACKEND_PERIOD: Final = 7.0


def title(device_id: str) -> str:
    """How a device is called in the lines."""
    return f"{NAMES_BY_ID.get(device_id, device_id)} (NovaCloud)"


class ShownDevice(SimulatedDevice):
    """A device whose commands and troubles show as lines."""

    def __init__(
        self, reactor: Any, endpoint: IStreamClientEndpoint, who: Identity, behaviour: Behaviour, show: Show
    ) -> None:
        super().__init__(reactor, endpoint, who, behaviour=behaviour)
        self._show = show
        self._commander = BACKEND if who.id in LAMPS else DASHBOARD

    def received(self, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "command":
                self._show(self._commander, title(self.identity.id), "command", message.get("payload"))
            case "error":
                self._show("broker", title(self.identity.id), "error", message.get("message"))
        super().received(message)


class Dashboard:
    """An application on MQTT: sees what the climate sensors say, and commands them."""

    def __init__(
        self, reactor: Any, endpoint: IStreamClientEndpoint, secret: str, show: Show, chance: random.Random
    ) -> None:
        self._show = show
        self._chance = chance
        self._client = MqttClient(
            reactor,
            endpoint,
            client_id="demo-dashboard",
            user="demo-dashboard",
            password=secret,
            on_message=self._message,
            on_change=lambda what: show(DASHBOARD, "", "mqtt", what),
        )
        self._commands = LoopingCall(self._command)
        self._commands.clock = reactor

    def start(self) -> None:
        for topic_filter in ("devices/+/up/+", "devices/+/presence", "devices/+/reply"):
            self._client.subscribe(topic_filter).addErrback(self._failed)
        self._client.start()
        self._commands.start(DASHBOARD_PERIOD, now=False)

    def stop(self) -> Deferred[None]:
        if self._commands.running:
            self._commands.stop()
        return self._client.stop()

    def _command(self) -> None:
        payload = self._chance.choice(
            ({"set_temperature": self._chance.randint(18, 24)}, {"fan_speed": self._chance.randint(0, 3)})
        )
        device = self._chance.choice(CLIMATE)
        body = msgspec.json.encode({"payload": payload, "expires": 60})
        self._client.publish(f"devices/{device}/command", body, 1).addErrback(self._failed)

    def _message(self, message: Received) -> None:
        _, device, *kind = message.topic.split("/")
        body = msgspec.json.decode(message.payload)
        if kind[0] == "up":
            self._show(title(device), DASHBOARD, kind[1], body.get("payload"))
        elif kind[0] == "presence":
            self._show(title(device), DASHBOARD, "presence", presence_text(body))
        else:
            said_by_device = body["status"] in ("pending", "succeeded", "failed")
            sender = title(device) if said_by_device else f"broker, of {NAMES_BY_ID.get(device, device)}"
            self._show(sender, DASHBOARD, "reply", f"{body['status']} {text(body['result'])}".rstrip())

    def _failed(self, failure: Any) -> None:
        self._show(DASHBOARD, "", "mqtt", failure.getErrorMessage())


class Backend:
    """An application on the HTTP API: switches the lamps and waits for their answers."""

    def __init__(self, reactor: Any, api: Api, show: Show, chance: random.Random) -> None:
        self._reactor = reactor
        self._api = api
        self._show = show
        self._chance = chance
        self._commands = LoopingCall(self._command)
        self._commands.clock = reactor
        self._stopped = False

    def start(self) -> None:
        self._commands.start(BACKEND_PERIOD, now=False)

    def stop(self) -> Deferred[None]:
        self._stopped = True
        if self._commands.running:
            self._commands.stop()
        return self._api.close()

    def _command(self) -> None:
        # Not returned to the LoopingCall: a lamp that is away would hold up the other one.
        Deferred.fromCoroutine(self._switch(self._chance.choice(LAMPS))).addErrback(self._failed)

    async def _switch(self, device: str) -> None:
        body = {"payload": {"light_switch": self._chance.choice(("ON", "OFF"))}, "expires": 60}
        started = self._reactor.seconds()
        try:
            answer = await self._api.call("POST", f"/devices/{segment(device)}/commands", body, wait=5)
        except ApiError as error:
            self._show("broker", BACKEND, "refusal", str(error))
            return
        took = (self._reactor.seconds() - started) * 1000
        outcome = f"{answer['status']} after {took:.0f} ms {text(answer['result'])}"
        self._show(title(device), BACKEND, "reply", outcome.rstrip())

    def _failed(self, failure: Any) -> None:
        if not self._stopped:
            self._show(BACKEND, "", "http", failure.getErrorMessage())


class Monitor:
    """An application on the WebSocket stream: watches the lamps."""

    def __init__(self, api: Api, show: Show) -> None:
        self._api = api
        self._show = show
        self._stream: Stream | None = None
        self._stopped = False

    async def start(self) -> None:
        self._stream = await self._api.stream(self._message, self._ended, kind=["data", "status", "presence"])

    def stop(self) -> Deferred[None]:
        self._stopped = True
        if self._stream is not None:
            self._stream.close()
        return self._api.close()

    def _message(self, message: Message) -> None:
        if message["type"] == "uplink":
            self._show(title(message["device"]), MONITOR, message["kind"], message.get("payload"))
        elif message["type"] == "presence":
            self._show(title(message["device"]), MONITOR, "presence", presence_text(message))

    def _ended(self, why: str) -> None:
        if not self._stopped:
            self._show(MONITOR, "", "stream", why)


#: Something goes wrong now and then, often enough to be seen within minutes.
BEHAVIOUR: Final = Behaviour(
    data_every=3.0, pending_rate=0.2, work_time=2.0, error_rate=0.1, malformed_rate=0.02, disconnect_rate=0.02
)


async def start_devices(reactor: Any, api: Api, endpoint: IStreamClientEndpoint, show: Show) -> Fleet[ShownDevice]:
    """Register the devices and start them."""
    for product in PRODUCTS:
        await ensure_product(api, product)
    devices = []
    for name, product_key in NAMES.items():
        body = {"protocol": "novacloud", "id": IDS[name], "product": product_key, "name": name}
        identity = Identity(IDS[name], await ensure_device(api, body))
        devices.append(ShownDevice(reactor, endpoint, identity, BEHAVIOUR, show))
    fleet = Fleet(reactor, devices, gap=0.2)
    fleet.start()
    return fleet


class Applications:
    """The three of them, registered and running."""

    def __init__(self, members: list[Dashboard | Backend | Monitor]) -> None:
        self._members = members

    @classmethod
    async def start(
        cls, reactor: Any, api: Api, mqtt: IStreamClientEndpoint, show: Show, chance: random.Random
    ) -> Applications:
        """``api`` is the administrator's."""
        dashboard_secret = await ensure_application(api, "demo-dashboard", "mqtt", CLIMATE)
        backend_secret = await ensure_application(api, "demo-backend", "http", LAMPS)
        monitor_secret = await ensure_application(api, "demo-monitor", "http", LAMPS)
        dashboard = Dashboard(reactor, mqtt, dashboard_secret, show, chance)
        backend = Backend(reactor, api.with_token(f"demo-backend:{backend_secret}"), show, chance)
        monitor = Monitor(api.with_token(f"demo-monitor:{monitor_secret}"), show)
        await monitor.start()
        dashboard.start()
        backend.start()
        return cls([dashboard, backend, monitor])

    def stop(self) -> Deferred[Any]:
        """Fires when all have said goodbye."""
        return gatherResults([member.stop() for member in self._members], consumeErrors=True)


def presence_text(body: dict[str, Any]) -> str:
    return f"{'online' if body['online'] else 'offline'} ({body['reason']})"


def text(value: object) -> str:
    """A value in a line."""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
