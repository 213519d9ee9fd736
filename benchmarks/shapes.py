"""What is measured: each shape of load with its size and its target. Adding one here is all it takes.

Figures are microseconds of server CPU a message unless the unit says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ssl import TLSVersion
from typing import Any, Literal, Protocol

from benchmarks.fleet import Comeback
from benchmarks.gateways import Returns, gateways
from benchmarks.pairs import FanOut, Idle, Load, Pairs
from benchmarks.round_trips import HttpCommands, Import, MqttCommands, Requests
from benchmarks.tls import HalfOpen, Handshakes, IdleTls
from benchmarks.uplinks import Uplinks


class Work(Protocol):
    """A load that is set up against one server."""

    def run(self, messages: int) -> Load: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One row of the table. ``make`` gets the server (`benchmarks.children`)."""

    name: str
    title: str
    make: Callable[[Any], Work]
    messages: int
    unit: Literal["us", "s", "KB"] = "us"
    #: At most this.
    target: float | None = None
    #: At most this times Mosquitto's figure.
    target_ratio: float | None = None
    #: What a server has to speak to be measured beside ours (`benchmarks.children.Child.speaks`); empty: nobody can.
    peers: Literal["", "mqtt", "tls", "tls-idle"] = ""
    history: bool = False


def _pairs(pairs: int, qos: int, window: int, lasting: bool = False) -> Callable[[Any], Work]:
    return lambda server: Pairs(server, pairs, qos, window, lasting)


SHAPES = (
    Shape(
        name="novacloud",
        title="NovaCloud data -> MQTT, 32 in flight",
        make=lambda broker: Uplinks(broker, 32),
        messages=30_000,
        target=8.0,
    ),
    Shape(
        name="novacloud-256",
        title="NovaCloud data -> MQTT, 256 in flight",
        make=lambda broker: Uplinks(broker, 256),
        messages=30_000,
        target=8.0,
    ),
    Shape(
        name="novacloud-history",
        title="NovaCloud data -> MQTT, 32, history on",
        make=lambda broker: Uplinks(broker, 32),
        messages=30_000,
        history=True,
    ),
    Shape(
        name="gateway-hb",
        title="0x88 hb + ack over TLS, 200 gateways",
        make=gateways(200),
        messages=20_000,
        target=60.0,
    ),
    Shape(
        name="gateway-idle",
        title="0x88 gateway that is idle, over TLS",
        make=IdleTls,
        messages=1_000,
        unit="KB",
        peers="tls-idle",
    ),
    Shape(
        name="gateway-half-open",
        title="TLS handshake that is left half open",
        make=HalfOpen,
        messages=10_000,
        unit="KB",
    ),
    Shape(
        name="tls-handshake",
        title="TLS 1.2 handshake and end",
        make=lambda server: Handshakes(server, False),
        messages=500,
        peers="tls",
    ),
    Shape(
        name="tls-resume",
        title="TLS 1.2 session resumed and end",
        make=lambda server: Handshakes(server, True),
        messages=500,
        peers="tls",
    ),
    Shape(
        name="gateway-fleet",
        title="2,000 gateways back after kill -9",
        make=Comeback,
        messages=2_000,
        unit="s",
        target=30.0,
    ),
    Shape(
        name="gateway-herd",
        title="2,000 gateways back in one moment",
        make=lambda broker: Comeback(broker, at_once=True),
        messages=2_000,
        unit="s",
        target=30.0,
    ),
    Shape(
        name="gateway-connect",
        title="0x88 TLS 1.2 connect and gateway_info",
        make=lambda broker: Returns(broker, False, TLSVersion.TLSv1_2),
        messages=500,
    ),
    Shape(
        name="gateway-resume",
        title="the same, session resumed",
        make=lambda broker: Returns(broker, True, TLSVersion.TLSv1_2),
        messages=500,
    ),
    Shape(
        name="pair-qos0",
        title="MQTT 1 pair, QoS 0, 32 in flight",
        make=_pairs(1, 0, 32),
        messages=100_000,
        target=1.7,
        peers="mqtt",
    ),
    Shape(
        name="pair-qos1",
        title="MQTT 1 pair, QoS 1, 32 in flight",
        make=_pairs(1, 1, 32),
        messages=60_000,
        target=3.5,
        peers="mqtt",
    ),
    Shape(
        name="pairs-qos0",
        title="MQTT 100 pairs, QoS 0, 32 in flight",
        make=_pairs(100, 0, 32),
        messages=100_000,
        target=1.5,
        peers="mqtt",
    ),
    Shape(
        name="pairs-qos1",
        title="MQTT 100 pairs, QoS 1, 32 in flight",
        make=_pairs(100, 1, 32),
        messages=60_000,
        target=3.5,
        peers="mqtt",
    ),
    Shape(
        name="pairs-lasting",
        title="MQTT 100 pairs, QoS 1, 32, on disk first",
        make=_pairs(100, 1, 32, lasting=True),
        messages=60_000,
        target=12.0,
    ),
    Shape(
        name="pairs-qos0-single",
        title="MQTT 100 pairs, QoS 0, one in flight",
        make=_pairs(100, 0, 1),
        messages=40_000,
        target_ratio=0.9,
        peers="mqtt",
    ),
    Shape(
        name="pairs-qos1-single",
        title="MQTT 100 pairs, QoS 1, one in flight",
        make=_pairs(100, 1, 1),
        messages=30_000,
        target_ratio=0.9,
        peers="mqtt",
    ),
    Shape(
        name="many-pairs-single",
        title="MQTT 1,000 pairs, QoS 0, one in flight",
        make=_pairs(1000, 0, 1),
        messages=40_000,
        target_ratio=1.0,
        peers="mqtt",
    ),
    Shape(
        name="fan-out",
        title="MQTT 1 -> 1,000, QoS 0, 32 in flight",
        make=lambda server: FanOut(server, 1000, 32),
        messages=320_000,
        target_ratio=1.0,
        peers="mqtt",
    ),
    Shape(
        name="fan-out-single",
        title="MQTT 1 -> 1,000, QoS 0, one in flight",
        make=lambda server: FanOut(server, 1000, 1),
        messages=50_000,
        target_ratio=1.0,
        peers="mqtt",
    ),
    Shape(
        name="idle",
        title="MQTT connection that is idle",
        make=Idle,
        messages=1_000,
        unit="KB",
        target=5.0,
        peers="mqtt",
    ),
    Shape(
        name="import",
        title="import of 10,000 devices",
        make=Import,
        messages=10_000,
        unit="s",
        target=5.0,
    ),
    Shape(
        name="http-health",
        title="HTTP GET /healthz, one at a time",
        make=lambda broker: Requests(broker, "/healthz"),
        messages=3_000,
    ),
    Shape(
        name="http-device",
        title="HTTP GET a device, one at a time",
        make=lambda broker: Requests(broker, "/api/v1/devices/{id}"),
        messages=2_000,
    ),
    Shape(
        name="command-http",
        title="command over HTTP and back, one at a time",
        make=lambda broker: HttpCommands(broker, 1),
        messages=500,
    ),
    Shape(
        name="command-http-32",
        title="command over HTTP and back, 32 at once",
        make=lambda broker: HttpCommands(broker, 32),
        messages=2_000,
    ),
    Shape(
        name="command-mqtt",
        title="command over MQTT and back, one at a time",
        make=MqttCommands,
        messages=500,
    ),
)
