"""The rows of the device protocols, and of the application sides that hear them."""

from __future__ import annotations

from ssl import TLSVersion

from benchmarks.fleet import Comeback
from benchmarks.gateways import Returns, gateways
from benchmarks.gizwits import AppCommands, paired
from benchmarks.lorawan import LoraDownlinks, LoraUplinks
from benchmarks.shape import Shape, Target
from benchmarks.sinks import CustomerSink, StreamSink
from benchmarks.tls import HalfOpen, Handshakes, IdleTls
from benchmarks.uplinks import Uplinks

NOVACLOUD = (
    Shape(
        name="novacloud",
        protocol="NovaCloud",
        title="data -> MQTT, 32 in flight",
        make=lambda broker: Uplinks(broker, 32),
        messages=30_000,
        targets=(Target(8.0, 2),),
    ),
    Shape(
        name="novacloud-256",
        protocol="NovaCloud",
        title="data -> MQTT, 256 in flight",
        make=lambda broker: Uplinks(broker, 256),
        messages=30_000,
        targets=(Target(8.0, 2),),
    ),
    Shape(
        name="novacloud-single",
        protocol="NovaCloud",
        title="data -> MQTT, one in flight",
        make=lambda broker: Uplinks(broker, 1),
        messages=10_000,
    ),
    Shape(
        name="novacloud-history",
        protocol="NovaCloud",
        title="data -> MQTT, 32, history on",
        make=lambda broker: Uplinks(broker, 32),
        messages=30_000,
        history=True,
        storages=("sqlite", "redis"),
    ),
    Shape(
        name="stream",
        protocol="HTTP",
        title="NovaCloud data -> stream, 32 in flight",
        make=lambda broker: Uplinks(broker, 32, StreamSink),
        messages=30_000,
    ),
    Shape(
        name="loracenter",
        protocol="LoRaCenter",
        title="NovaCloud data -> UPLOAD, 32 in flight",
        make=lambda broker: Uplinks(broker, 32, CustomerSink),
        messages=30_000,
    ),
)

GATEWAYS = (
    Shape(
        name="gateway-hb",
        protocol="0x88",
        title="hb + ack over TLS, 200 gateways",
        make=gateways(200),
        messages=20_000,
        targets=(Target(60.0, 5),),
    ),
    Shape(
        name="gateway-idle",
        protocol="0x88",
        title="gateway that is idle, over TLS",
        make=IdleTls,
        messages=1_000,
        unit="KB",
        peers="tls-idle",
    ),
    Shape(
        name="gateway-half-open",
        protocol="0x88",
        title="TLS handshake that is left half open",
        make=HalfOpen,
        messages=10_000,
        unit="KB",
    ),
    Shape(
        name="tls-handshake",
        protocol="0x88",
        title="TLS 1.2 handshake and end",
        make=lambda server: Handshakes(server, False),
        messages=500,
        peers="tls",
    ),
    Shape(
        name="tls-resume",
        protocol="0x88",
        title="TLS 1.2 session resumed and end",
        make=lambda server: Handshakes(server, True),
        messages=500,
        peers="tls",
    ),
    Shape(
        name="gateway-fleet",
        protocol="0x88",
        title="2,000 gateways back after kill -9",
        make=Comeback,
        messages=2_000,
        most=1,
        unit="s",
        targets=(Target(30.0, 5),),
    ),
    Shape(
        name="gateway-herd",
        protocol="0x88",
        title="2,000 gateways back in one moment",
        make=lambda broker: Comeback(broker, at_once=True),
        messages=2_000,
        most=2,
        unit="s",
        targets=(Target(30.0, 5),),
    ),
    Shape(
        name="gateway-connect",
        protocol="0x88",
        title="TLS 1.2 connect and gateway_info",
        make=lambda broker: Returns(broker, False, TLSVersion.TLSv1_2),
        messages=500,
    ),
    Shape(
        name="gateway-resume",
        protocol="0x88",
        title="the same, session resumed",
        make=lambda broker: Returns(broker, True, TLSVersion.TLSv1_2),
        messages=500,
    ),
)

GIZWITS = (
    Shape(
        name="gizwits",
        protocol="Gizwits",
        title="report -> app, 500 pairs, one in flight",
        make=paired(500),
        messages=30_000,
        targets=(Target(1.5, 4, "ratio", "publish"),),
        peers="publish",
    ),
    Shape(
        name="gizwits-command",
        protocol="Gizwits",
        title="app -> device -> app, one at a time",
        make=AppCommands,
        messages=2_000,
        targets=(Target(5.0, 4, "p50"),),
    ),
)

#: 200 ms of the latencies are the window in which the copies of a frame are waited for.
LORAWAN = (
    Shape(
        name="lorawan",
        protocol="LoRaWAN",
        title="uplink by 3 gateways -> MQTT",
        make=LoraUplinks,
        messages=8_000,
        targets=(Target(2_000, 6, "rate"),),
    ),
    Shape(
        name="lorawan-upload",
        protocol="LoRaWAN",
        title="uplink by 3 gateways -> UPLOAD",
        make=lambda broker: LoraUplinks(broker, customer=True),
        messages=8_000,
        targets=(Target(203.0, 6, "p50"), Target(2_000, 6, "rate")),
    ),
    Shape(
        name="lorawan-downlink",
        protocol="LoRaWAN",
        title="uplink and downlink, 50/s, class A",
        make=LoraDownlinks,
        messages=200,
        targets=(Target(700.0, 6, "longest"),),
    ),
)

DEVICES: tuple[Shape, ...] = (*NOVACLOUD, *GATEWAYS, *GIZWITS, *LORAWAN)
