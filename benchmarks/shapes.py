"""What is measured: each shape of load with its size and its targets. Adding one here, or in the files that are named
below, is all it takes. Figures are microseconds of server CPU a message unless the unit says otherwise.
"""

from __future__ import annotations

from benchmarks.device_shapes import DEVICES
from benchmarks.mqtt_shapes import MQTT
from benchmarks.processes import PROCESSES
from benchmarks.round_trips import HttpCommands, Import, MqttCommands, Requests
from benchmarks.shape import Shape, Target

HTTP = (
    Shape(
        name="import",
        protocol="HTTP",
        title="import of 10,000 devices",
        make=Import,
        messages=10_000,
        unit="s",
        targets=(Target(5.0, 2),),
        storages=("sqlite", "redis"),
    ),
    Shape(
        name="http-health",
        protocol="HTTP",
        title="GET /healthz, one at a time",
        make=lambda broker: Requests(broker, "/healthz"),
        messages=3_000,
    ),
    Shape(
        name="http-device",
        protocol="HTTP",
        title="GET a device, one at a time",
        make=lambda broker: Requests(broker, "/api/v1/devices/{id}"),
        messages=2_000,
        storages=("sqlite", "redis"),
    ),
    Shape(
        name="command-http",
        protocol="HTTP",
        title="command and back, one at a time",
        make=lambda broker: HttpCommands(broker, 1),
        messages=500,
        storages=("sqlite", "redis"),
    ),
    Shape(
        name="command-http-32",
        protocol="HTTP",
        title="command and back, 32 at once",
        make=lambda broker: HttpCommands(broker, 32),
        messages=2_000,
        storages=("sqlite", "redis"),
    ),
    Shape(
        name="command-mqtt",
        protocol="MQTT",
        title="command and back, one at a time",
        make=MqttCommands,
        messages=500,
        storages=("sqlite", "redis"),
    ),
)

SHAPES: tuple[Shape, ...] = (*DEVICES, *MQTT, *PROCESSES, *HTTP)
