"""The WebSocket stream under attack."""

from __future__ import annotations

import json
from random import Random

from twisted.internet.defer import Deferred

from tests.hostile.siege import FLOOD, Attack, Client, Siege, SiegeCase

NAME = "http"
MB = 1 << 20
_MASK = b"\x01\x02\x03\x04"
PING = b"\x89\x84" + _MASK + bytes(a ^ b for a, b in zip(b"ping", _MASK, strict=True))
PONG = b"\x8a\x04ping"


def opened(siege: Siege, device: str = "none", kind: str = "tcp", window: int = 0) -> Client:
    """A stream of the administrator."""
    client = siege.plain(NAME, window=window) if window else siege.connect(NAME, kind)
    client.send(
        b"GET /api/v1/stream?device=%b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        % (device.encode(), siege.broker.admin_token.encode())
    )
    assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    return client


def masked(first: int, payload: bytes) -> bytes:
    size = len(payload)
    length = b"%c" % (128 | size) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return b"%c%b%b%b" % (first, length, _MASK, bytes(a ^ _MASK[i & 3] for i, a in enumerate(payload)))


def handshakes(siege: Siege) -> None:
    """Upgrades that are none: refused, each with its own words."""
    lines = {
        b"Authorization": b"Bearer " + siege.broker.admin_token.encode(),
        b"Upgrade": b"websocket",
        b"Connection": b"Upgrade",
        b"Sec-WebSocket-Version": b"13",
        b"Sec-WebSocket-Key": b"dGhlIHNhbXBsZSBub25jZQ==",
    }
    for name in [name for name in lines if name != b"Sec-WebSocket-Key"]:  # whatever is there is a key
        for value in (b"", b"x", b"\xff\xfe", b"12, 14", b"y" * 5_000):
            head = {**lines, name: value}
            client = siege.connect(NAME)
            text = b"".join(b"%b: %b\r\n" % line for line in head.items())
            client.send(b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n" + text + b"\r\n")
            got = client.some()
            assert got.startswith(b"HTTP/1.1 4"), (name, value, got)
            client.close()


def frames(siege: Siege) -> None:
    """One rule broken at a time: the stream ends."""
    table = (
        b"\x81\x05hello",  # not masked
        b"\x89\x00",
        b"\xf1\x80" + _MASK,  # reserved bits
        b"\x83\x80" + _MASK,  # a reserved kind
        b"\x8f\x80" + _MASK,
        b"\x09\x80" + _MASK,  # a ping in fragments
        b"\x89\xfe\x01\x00" + _MASK + b"x" * 256,  # a long ping
        b"\x80\x80" + _MASK,  # the rest of nothing
        masked(0x01, b"a") + masked(0x81, b"b"),  # a new message within one
        b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff" + _MASK + b"x" * 100_000,
        b"\x82\xff\x00\x00\x00\x00\x7f\xff\xff\xff" + _MASK + b"x" * 100_000,
        masked(0x81, b"\xff\xfe"),
        masked(0x81, b"\xed\xa0\x80"),
        masked(0x01, b"\xe4") + masked(0x80, b"x"),
        masked(0x88, b"\x03"),  # half a close code
        masked(0x88, b"\x03\xe8\xff"),
        masked(0x88, b""),
    )
    for frame in table:
        client = opened(siege)
        client.send(frame)
        client.rest()
    siege.closed(NAME, "malformed", 10)


def no_end(siege: Siege) -> None:
    """A frame of gigabytes, a message of fragments without end."""
    for start, piece in (
        (b"\x82\xff\x00\x00\x00\x02\x00\x00\x00\x00" + _MASK, b"x" * MB),
        (masked(0x01, b"a"), masked(0x00, b"a" * 100) * 1_000),
        (masked(0x01, b""), masked(0x00, b"") * 10_000),
    ):
        for kind in ("tcp", "tls"):
            client = opened(siege, kind=kind)
            client.send(start)
            # Through TLS the broker reads, and throws away, until its goodbye is answered or `close_timeout` is over.
            assert client.pour(piece, FLOOD) < FLOOD or kind == "tls"
            client.close()
    siege.closed(NAME, "too_long", 6)


def noise(siege: Siege) -> None:
    for seed in range(20):
        random = Random(seed)
        client = opened(siege, kind=("tcp", "tls")[seed % 2])
        for _ in range(random.randrange(1, 20)):
            client.send(random.randbytes(random.randrange(1, 5_000)))
        client.send(b"\xff" * 100_000)
        client.rest()


def pings(siege: Siege) -> None:
    """As many as there is patience for, a flood of them unread, and one who answers none of ours."""
    silent = opened(siege)
    client = opened(siege)
    for _ in range(20):
        client.send(PING)
        client.until(PONG)
    client.close()
    blind = opened(siege, window=2048)
    blind.pour(PING * 1_000, FLOOD)
    blind.close()
    siege.closed(NAME, "too_long")
    silent.rest()
    siege.closed(NAME, "idle")


def slow_reader(siege: Siege) -> None:
    """Listens to a device that says much, and reads nothing."""
    device, key = siege.device()
    client = opened(siege, device, window=2048)
    loud = siege.connect("novacloud")
    loud.send(json.dumps({"type": "auth", "payload": {"device_id": device, "device_key": key}}).encode() + b"\n")
    loud.until(b"\n")
    line = json.dumps({"type": "data", "payload": {"text": "x" * 100_000}}).encode() + b"\n"
    for _ in range(200):
        assert loud.send(line)
    siege.counted(NAME, "messages_dropped", "stream_full")
    siege.counted(NAME, "connections_closed", "slow_reader")
    client.close()
    loud.close()


ATTACKS: tuple[Attack, ...] = (handshakes, frames, no_end, noise, pings, slow_reader)


class StreamTests(SiegeCase):
    def test_stream(self) -> Deferred[None]:
        return self.besiege(*ATTACKS)
