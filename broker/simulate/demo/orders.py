"""What applications tell devices, in the two forms in which they can: a JSON object, or bytes."""

from __future__ import annotations

from base64 import b64encode
from random import Random
from typing import Any, Final, NamedTuple

import msgspec

from broker.simulate.demo.cast import CLIMATE, GATEWAY88, GIZWITS, LORAWAN, Subject
from broker.simulate.demo.words import text
from broker.simulate.gizwits_lamp import control

#: Port of a mote's commands: ``01`` and how many seconds there are to be between its messages.
MOTE_PORT: Final = 5
#: Seconds that a command waits for a device that is away.
EXPIRES: Final = 60


class Order(NamedTuple):
    """``payload`` is None where a device takes nothing but bytes. ``text`` is for people."""

    text: str
    payload: dict[str, Any] | None
    data: bytes


def order(subject: Subject, chance: Random) -> Order:
    """Something that this device can do."""
    if subject.protocol == LORAWAN:
        seconds = chance.randint(3, 9) * 10
        return Order(f"interval {seconds} s", None, bytes((1, seconds)))
    if subject.protocol == GIZWITS:
        power, brightness = chance.random() < 0.7, chance.randint(1, 10) * 10
        lamp = {"power": power, "brightness": brightness}
        return Order(text(lamp), lamp, control(power, brightness))
    payload = chance.choice(_choices(subject, chance))
    return Order(text(payload), payload, msgspec.json.encode(payload))


def _choices(subject: Subject, chance: Random) -> list[dict[str, Any]]:
    """What the actuators of its product could be told."""
    if subject.protocol == GATEWAY88:
        return [{"led": chance.choice(("on", "off"))}, {"permit_join": chance.choice((0, 60, 180))}]
    if subject.product == CLIMATE:
        return [{"set_temperature": chance.randint(18, 24)}, {"fan_speed": chance.randint(0, 3)}]
    return [{"light_switch": chance.choice(("ON", "OFF"))}]


def body(subject: Subject, given: Order, **more: Any) -> dict[str, Any]:
    """The body of a command over HTTP or MQTT."""
    if given.payload is not None:
        fields: dict[str, Any] = {"payload": given.payload}
    else:
        fields = {"payload_base64": b64encode(given.data).decode(), "port": MOTE_PORT}
    if subject.protocol == GIZWITS:
        fields["ack"] = True
    if subject.class_c:  # it answers at once; others would do so with their next message
        fields["confirm"] = True
    return {**fields, "expires": EXPIRES, **more}
