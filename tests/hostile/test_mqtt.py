"""MQTT ports under attack."""

from __future__ import annotations

import json
from random import Random

from twisted.internet.defer import Deferred

from broker.mqtt import packets as p
from broker.mqtt.encode import PINGREQ, PINGRESP, encode
from tests.hostile.crowds import attacks
from tests.hostile.siege import FLOOD, Attack, Client, Siege, SiegeCase
from tests.hostile.values import DEEP, VALUES

NAME = "mqtt"
MB = 1 << 20
ACCEPTED = b"\x20\x02\x00\x00"


def logged_in(siege: Siege, *devices: str, kind: str = "tcp", window: int = 0) -> Client:
    """An application, bound to these devices."""
    name, secret = siege.application(*devices)
    client = siege.plain(NAME, window=window) if window else siege.connect(NAME, kind)
    client.send(encode(p.Connect(client_id=name, user=name, password=secret.encode())))
    assert client.until(ACCEPTED) == ACCEPTED
    return client


def alive(client: Client) -> None:
    """It is answered, after all that was sent before."""
    client.send(PINGREQ)
    client.until(PINGRESP)


def noise(siege: Siege) -> None:
    """Random bytes: as the first ones, behind a login, and through TLS."""
    for seed in range(30):
        random = Random(seed)
        kind = ("tcp", "tls")[seed % 2]
        client = siege.connect(NAME, kind) if seed % 3 else logged_in(siege, kind=kind)
        for _ in range(random.randrange(1, 20)):
            client.send(random.randbytes(random.randrange(1, 5_000)))
        client.send(b"\xff" * 10)  # no packet, should the length above be a large one
        client.send(b"\xff" * MB * 2)
        client.rest()
    siege.counted(NAME, "malformed", least=20)


def no_end(siege: Siege) -> None:
    """What never ends is refused as soon as that is known: by its first byte, or by its length."""
    for client in (siege.connect(NAME), logged_in(siege)):
        assert client.pour(b"a" * MB, FLOOD) < FLOOD
        client.close()
    largest = b"\xff\xff\xff\x7f"
    for client, first in ((siege.connect(NAME), b"\x10"), (logged_in(siege), b"\x30"), (logged_in(siege), b"\x82")):
        assert client.pour(first + largest + b"a" * MB, FLOOD) < FLOOD
        client.close()
    for client in (siege.connect(NAME), logged_in(siege)):
        client.send(b"\x10\x80\x80\x80\x80\x80\x80\x80")  # a length of more than four bytes
        client.rest()
    siege.closed(NAME, "too_long", 3)
    siege.closed(NAME, "malformed")


def broken_packets(siege: Siege) -> None:
    """One rule broken at a time, behind a login: each ends the connection."""
    connect = encode(p.Connect(client_id="x"))
    table = (
        connect,  # a second one
        b"\x00\x00",
        b"\xf0\x00",
        b"\x20\x02\x00\x00",  # ours to send
        b"\x36\x05\x00\x01a\x00\x01",  # QoS 3
        b"\x32\x05\x00\x01a\x00\x00",  # packet id 0
        b"\x32\x03\x00\x01a",  # no packet id
        b"\x30\x02\x00\x09",  # a topic longer than the packet
        b"\x30\x02\x00\x00",  # no topic
        b"\x30\x04\x00\x02\xff\xfe",
        b"\x30\x05\x00\x03\xed\xa0\x80",  # a surrogate
        b"\x30\x03\x00\x01\x00",
        b"\x30\x03\x00\x01#",
        b"\x30\x06\x00\x04a/+/",
        b"\x80\x06\x00\x01\x00\x01a\x00",  # flags
        b"\x82\x02\x00\x01",  # no filter
        b"\x82\x06\x00\x01\x00\x01a\x03",
        b"\x82\x06\x00\x00\x00\x01a\x00",
        b"\x82\x07\x00\x01\x00\x02a#\x00",
        b"\x82\x06\x00\x01\x00\x01\xff\x00",
        b"\xa2\x02\x00\x01",
        b"\x60\x02\x00\x01",
        b"\x40\x01\x00",
        b"\x40\x02\x00\x00",
        b"\x50\x02\x00\x00",
        b"\xc1\x00",
        b"\xc0\x01\x00",
    )
    for packet in table:
        client = logged_in(siege)
        client.send(packet + PINGREQ)
        assert PINGRESP not in client.rest(), packet
    siege.counted(NAME, "malformed", least=len(table))


def broken_logins(siege: Siege) -> None:
    """Each field of CONNECT, wrong."""
    flags = [b"\x00\x04MQTT\x04%c\x00\x3c\x00\x01x" % value for value in (1, 4, 8, 0x18, 0x1C, 0x20, 0x40, 0x80, 0xC2)]
    bodies = (
        *flags,
        b"\x00\x04MQTX\x04\x02\x00\x3c\x00\x01x",
        b"\x00\x06MQTT\x04\x02\x00\x3c\x00\x01x",
        b"\x00\x04MQTT\x09\x02\x00\x3c\x00\x01x",
        b"\x00\x04MQTT\x04\x00\x00\x3c\x00\x00",
        b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x01\x00",
        b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x02\xff\xff",
        b"\x00\x04MQTT\x04\x02\x00\x3c\xff\xffx",
        b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x01xrest",
        b"\x00\x04MQTT\x04\x06\x00\x3c\x00\x01x\x00\x01#\x00\x00",  # a will for a filter
        b"\x00\x04MQTT\x04\x02\x00\x3c\xff\xf0" + b"x" * 0xFFF0,  # a client id of 64 KiB
        b"\x00\x04MQTT\x04\xc2\x00\x3c\x00\x01x\xff\xf0" + b"x" * 0xFFF0 + b"\xff\xf0" + b"y" * 0xFFF0,
        b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x",  # nobody in particular
        b"\x00\x04MQTT\x04\x82\x00\x3c\x00\x01x\x00\x01'",
    )
    for body in bodies:
        client = siege.connect(NAME)
        client.send(b"\x10" + _length(len(body)) + body)
        got = client.rest()
        assert got == b"" or (got[:3] == b"\x20\x02\x00" and got[3] != 0 and len(got) == 4), (body[:40], got)
    for first in (b"\x11", b"\x30", b"\xc0", b"\x82"):
        client = siege.connect(NAME)
        client.send(first + b"\x02\x00\x00")
        assert client.rest() == b""
    siege.closed(NAME, "auth_failed")
    siege.closed(NAME, "protocol_error")
    siege.closed(NAME, "malformed")


def _length(size: int) -> bytes:
    out = b""
    while True:
        size, byte = size >> 7, size & 127
        out += b"%c" % (byte | (128 if size else 0))
        if not size:
            return out


def broken_orders(siege: Siege) -> None:
    """Commands that are none: whatever is published, the connection goes on, and nothing reaches the device."""
    device, _ = siege.device()
    client = logged_in(siege, device)
    topic = f"devices/{device}/command"
    fields = ("payload", "payload_base64", "ref", "timeout", "expires", "force", "ack", "port", "confirm", "priority")
    bodies = [f'{{"{field}":{value},"x":1}}' for field in fields for value in VALUES]
    bodies += [f'{{"payload":{{"a":{value}}},"unknown":{value}}}' for value in VALUES]
    bodies += [value for value in VALUES if value != "{}"]
    payloads = [body.encode() for body in bodies] + [
        text.encode() for deep in DEEP for text in (deep, f'{{"payload":{deep}', f'{{"payload":{{"a":{deep}')
    ]
    payloads += [b"\xff\xfe", b'{"payload":{"a":"\xff"}}', b"\x00" * 1000, b"{" * 500_000, b" " * 500_000]
    for number, payload in enumerate(payloads, 1):
        client.send(encode(p.Publish(topic, payload, qos=1, packet_id=number)))
        client.until(b"\x40\x02" + number.to_bytes(2, "big"))
    alive(client)
    status, page = siege.broker.call("GET", f"/devices/{device}/commands")
    assert (status, page["items"]) == (200, []), page
    client.close()


def forbidden_topics(siege: Siege) -> None:
    """Other people's devices, topics without end, floods of subscriptions."""
    device, _ = siege.device()
    client = logged_in(siege)
    for topic in (
        f"devices/{device}/command",
        f"devices/{siege.peace.device}/command",
        "$SYS/x",
        "x" * 4000,
        "é/" * 60,
    ):
        client.send(encode(p.Publish(topic, b'{"payload":{"a":1}}')))
    alive(client)
    siege.counted(NAME, "messages_dropped", "not_allowed", 3)
    for start in range(0, 2_000, 100):
        filters = [(f"devices/+/{start + number}/#", 0) for number in range(100)]
        client.send(encode(p.Subscribe(1, filters)))
    client.send(encode(p.Subscribe(1, [("+/" * 63 + "#", 1), ("#", 1), (f"devices/{device}/#", 1)])))
    alive(client)
    assert siege.peace.device.encode() not in client.buffer
    client.close()
    for topic in ("x/" * 5_000, "y" * 60_000):
        client = logged_in(siege)
        client.send(encode(p.Publish(topic, b"")))
        client.rest()
    siege.closed(NAME, "too_long", 2)


def halves(siege: Siege) -> None:
    """The beginning of a packet and then nothing: before a login, and behind one with a keep-alive."""
    whole = encode(p.Connect(client_id="half"))
    for cut in (1, 2, 8, len(whole) - 1):
        for kind in ("tcp", "tls"):
            siege.connect(NAME, kind).send(whole[:cut])
    client = siege.connect(NAME)
    name, secret = siege.application()
    client.send(encode(p.Connect(client_id="half", user=name, password=secret.encode(), keep_alive=1)))
    client.until(ACCEPTED)
    client.send(b"\x30\x7f\x00")
    client.rest()
    siege.closed(NAME, "idle")


def flood(siege: Siege) -> None:
    """Far over the rate: slowed down, nothing lost; and QoS 2 without ever a release is ended."""
    device, _ = siege.device()
    client = logged_in(siege)
    for start in range(0, 30_000, 1_000):
        packet = encode(p.Publish(f"devices/{device}/x", b"", qos=1, packet_id=start // 1_000 + 1))
        client.send(packet * 1_000)
    client.send(PINGREQ)
    got = client.until(PINGRESP)
    assert got.count(b"\x40\x02") == 30_000
    siege.counted(NAME, "throttled")
    client.close()
    client = logged_in(siege)
    client.send(b"".join(encode(p.Publish("x", b"", qos=2, packet_id=number)) for number in range(1, 2_000)))
    client.rest()
    siege.closed(NAME, "flood")


def slow_reader(siege: Siege) -> None:
    """Subscribes to a device that says much, and reads nothing; another one orders nonsense, and reads no reply."""
    device, key = siege.device()
    client = logged_in(siege, device, window=2048)
    client.send(encode(p.Subscribe(1, [(f"devices/{device}/#", 0)])))
    alive(client)
    ordering = logged_in(siege, device, window=2048)
    ordering.send(encode(p.Subscribe(1, [(f"devices/{device}/reply", 0)])))
    alive(ordering)
    order = encode(p.Publish(f"devices/{device}/command", json.dumps({"ref": "r" * 128, "payload": 1}).encode()))
    loud = siege.connect("novacloud")
    loud.send(json.dumps({"type": "auth", "payload": {"device_id": device, "device_key": key}}).encode() + b"\n")
    loud.until(b"\n")
    line = json.dumps({"type": "data", "payload": {"text": "x" * 100_000}}).encode() + b"\n"
    for _ in range(300):
        assert loud.send(line)
    while ordering.send(order * 1_000):
        continue
    siege.counted(NAME, "messages_dropped", "slow_subscriber")
    siege.closed(NAME, "slow_reader", 2)
    client.close()
    ordering.close()
    loud.close()


ATTACKS: tuple[Attack, ...] = (
    noise,
    no_end,
    broken_packets,
    broken_logins,
    broken_orders,
    forbidden_topics,
    halves,
    flood,
    slow_reader,
)


class MqttTests(SiegeCase):
    def test_mqtt_ports(self) -> Deferred[None]:
        return self.besiege(*ATTACKS, *attacks(NAME))
