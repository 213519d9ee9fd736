"""The applications of the demo, one of every kind, made and not started yet."""

from __future__ import annotations

from random import Random
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from broker.config import Config
from broker.mqtt.packets import MQTT_5
from broker.simulate.api import Api
from broker.simulate.demo import cast
from broker.simulate.demo.board import Board
from broker.simulate.demo.customer_app import CustomerApplication
from broker.simulate.demo.enrolment import Keys
from broker.simulate.demo.gizwits_apps import CloudApplication, PhoneApp, WebApp
from broker.simulate.demo.http_apps import Backend, Monitor
from broker.simulate.demo.mqtt_apps import MqttApplication
from broker.simulate.demo.places import place_of, url_of


class Application(Protocol):
    """``start`` is over when it hears devices, ``stop`` when it has left; with ``go`` it begins to command."""

    def start(self) -> Any: ...

    def go(self) -> None: ...

    def stop(self) -> Deferred[Any]: ...


def applications(reactor: Any, config: Config, api: Api, keys: Keys, board: Board, chance: Random) -> list[Application]:
    """All of them. ``api`` is anybody's: each has its own token."""
    mqtt = HostnameEndpoint(reactor, *place_of(config, "mqtt"))
    gservice = url_of(place_of(config, "gservice"))
    loracenter = HostnameEndpoint(reactor, *place_of(config, "loracenter"))

    def m2m(host: str, port: int) -> IStreamClientEndpoint:
        return HostnameEndpoint(reactor, host, port)

    def login(id: str) -> tuple[str, str]:
        return id, keys.applications[id]

    def own(id: str) -> Api:
        return api.with_token(f"{id}:{keys.applications[id]}")

    def dice() -> Random:
        return Random(chance.random())

    topics = ("devices/+/up/+", "devices/+/presence", "devices/+/reply")
    return [
        MqttApplication(reactor, mqtt, board, "mqtt-dashboard", login(cast.DASHBOARD), topics, dice(), tells=True),
        MqttApplication(
            reactor, mqtt, board, "mqtt-client", login(cast.CLIENT), ("devices/#",), dice(), version=MQTT_5
        ),
        Backend(reactor, own(cast.BACKEND), board, "http-backend", dice()),
        Monitor(reactor, own(cast.MONITOR), board, "ws-monitor", dice()),
        CloudApplication(reactor, mqtt, board, "gizwits-cloud", login(cast.CLOUD), dice()),
        PhoneApp(reactor, gservice, m2m, board, cast.PHONE, cast.CLOUD, keys.devices, dice()),
        WebApp(reactor, gservice, m2m, board, cast.WEB, cast.CLOUD, keys.devices, dice()),
        CustomerApplication(reactor, loracenter, board, "customer-server", keys.applications[cast.CUSTOMER], dice()),
    ]
