"""The rows of plain MQTT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.exactly import AcknowledgedFanOut, ExactlyPair
from benchmarks.pairs import FanOut, Idle, Pairs
from benchmarks.shape import Shape, Target, Work


def _pairs(pairs: int, qos: int, window: int, lasting: bool = False) -> Callable[[Any], Pairs]:
    kind = ExactlyPair if qos == 2 else None
    return lambda server: Pairs(server, pairs, qos, window, lasting, kind)


def _single(pairs: int, qos: int, most: float, messages: int) -> Shape:
    return Shape(
        name=f"{'many-pairs' if pairs > 100 else f'pairs-qos{qos}'}-single",
        protocol="MQTT",
        title=f"{pairs:,} pairs, QoS {qos}, one in flight",
        make=_pairs(pairs, qos, 1),
        messages=messages,
        targets=(Target(most, 3, "ratio", "mosquitto"),),
        peers="mqtt",
    )


def _receivers(receivers: int, window: int, qos: int) -> Callable[[Any], Work]:
    if qos == 0:
        return lambda server: FanOut(server, receivers, window)
    return lambda server: AcknowledgedFanOut(server, receivers, window, qos)


def _fan_out(name: str, receivers: int, qos: int, window: int, messages: int) -> Shape:
    return Shape(
        name=name,
        protocol="MQTT",
        title=f"1 -> {receivers:,}, QoS {qos}, {'one' if window == 1 else window} in flight",
        make=_receivers(receivers, window, qos),
        messages=messages,
        targets=(Target(1.0, 3, "ratio", "mosquitto"),) if qos == 0 else (),
        peers="mqtt",
    )


def _together(pairs: int, qos: int, most: float | None, messages: int) -> Shape:
    return Shape(
        name=f"{'pair' if pairs == 1 else 'pairs'}-qos{qos}",
        protocol="MQTT",
        title=f"{pairs} pair{'s' if pairs > 1 else ''}, QoS {qos}, 32 in flight",
        make=_pairs(pairs, qos, 32),
        messages=messages,
        targets=(Target(most, 3),) if most else (),
        peers="mqtt",
    )


MQTT: tuple[Shape, ...] = (
    _together(1, 0, 1.7, 100_000),
    _together(1, 1, 3.5, 60_000),
    _together(100, 0, 1.5, 100_000),
    _together(100, 1, 3.5, 60_000),
    _together(100, 2, None, 30_000),
    Shape(
        name="pairs-lasting",
        protocol="MQTT",
        title="100 pairs, QoS 1, 32, on disk first",
        make=_pairs(100, 1, 32, lasting=True),
        messages=60_000,
        targets=(Target(12.0, 3),),
        storages=("sqlite", "redis"),
    ),
    _single(100, 0, 0.9, 40_000),
    _single(100, 1, 0.9, 30_000),
    _single(1000, 0, 1.0, 40_000),
    _fan_out("fan-out", 1000, 0, 32, 320_000),
    _fan_out("fan-out-single", 1000, 0, 1, 50_000),
    _fan_out("fan-out-qos1", 100, 1, 32, 64_000),
    _fan_out("fan-out-qos2", 100, 2, 32, 32_000),
    Shape(
        name="idle",
        protocol="MQTT",
        title="connection that is idle",
        make=Idle,
        messages=1_000,
        unit="KB",
        targets=(Target(5.0, 3),),
        peers="mqtt",
    ),
)
