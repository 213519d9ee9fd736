"""MQTT over WebSocket under attack: the handshake, the frames, and MQTT inside them."""

from __future__ import annotations

from random import Random
from typing import Final

from twisted.internet.defer import Deferred

from broker.mqtt import packets as p
from broker.mqtt.encode import PINGREQ, PINGRESP, encode
from tests.behaviour import client_hello
from tests.hostile.siege import FLOOD, Attack, Client, Siege, SiegeCase
from tests.hostile.test_stream import masked

NAME: Final = "mqtt"
MB: Final = 1 << 20
REQUEST: Final = (
    b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
)
BINARY, CONTINUATION = 0x82, 0x80


def opened(siege: Siege, window: int = 0) -> Client:
    client = siege.plain(NAME, "ws", window)
    client.send(REQUEST)
    assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    return client


def logged_in(siege: Siege, window: int = 0) -> Client:
    name, secret = siege.application()
    client = opened(siege, window)
    client.send(masked(BINARY, encode(p.Connect(name, user=name, password=secret.encode()))))
    client.until(b"\x20\x02\0\0")
    return client


def alive(client: Client) -> None:
    client.send(masked(BINARY, PINGREQ))
    client.until(PINGRESP)


def handshakes(siege: Siege) -> None:
    """What is no handshake: refused in HTTP's words, or closed."""
    good = REQUEST.split(b"\r\n")
    for number in range(len(good) - 2):
        for text in (b"", b"x" * 5_000, b"\x00", good[number] + b"\xff", good[number].upper()):
            client = siege.plain(NAME, "ws")
            client.send(b"\r\n".join((*good[:number], text, *good[number + 1 :])))
            client.half_close()
            told = client.rest()
            assert not told or told.startswith(b"HTTP/1.1 "), told
    for noise in (client_hello(), b"\x10\x0e\0\4MQTT", Random(5).randbytes(5_000)):
        client = siege.plain(NAME, "ws")
        client.send(noise + b"\r\n\r\n")
        client.rest()
    siege.counted(NAME, "malformed")


def head_without_end(siege: Siege) -> None:
    client = siege.plain(NAME, "ws")
    assert client.pour(b"X-Header: " + b"x" * 1_000 + b"\r\n", FLOOD) < FLOOD
    client.close()


def loris(siege: Siege) -> None:
    """The beginning of a handshake, of a frame, of a packet in a frame, and then nothing."""
    clients = [siege.plain(NAME, "ws") for _ in range(10)] + [opened(siege) for _ in range(20)]
    for number, client in enumerate(clients):
        client.send((REQUEST[:50], b"\x82", masked(BINARY, b"\x10\x20\0"))[number // 10])
    for client in clients:
        client.rest()
    siege.closed(NAME, "auth_timeout", len(clients))


def frames(siege: Siege) -> None:
    """One rule of the framing broken at a time (RFC 6455, 5.2 to 5.5): the connection ends."""
    for broken in (
        b"\x82\x02ab",  # not masked
        masked(0xC2, b"x"),  # a reserved bit
        masked(0x83, b"x"),  # a reserved opcode
        masked(CONTINUATION, b"x"),  # a continuation of nothing
        masked(0x09, b""),  # a ping in pieces
        masked(0x89, b"x" * 126),  # a long ping
        masked(0x81, b"text"),  # [MQTT-6.0.0-1]
        b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\1\2\3\4",  # a length beyond 63 bits
    ):
        client = logged_in(siege)
        client.send(broken + masked(BINARY, PINGREQ))
        client.rest()
    siege.closed(NAME, "malformed")


def a_length_alone(siege: Siege) -> None:
    """A frame that says it is enormous, and a message whose pieces never end: MQTT inside says when it is too much."""
    client = opened(siege)
    client.send(b"\x82\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0")
    assert client.pour(b"a" * MB, FLOOD) < FLOOD
    client.close()
    client = logged_in(siege)
    client.send(masked(0x02, b"\x30\xff\xff\xff\x7f"))
    piece = masked(0x00, b"a" * 60_000)
    assert client.pour(piece * 16, FLOOD) < FLOOD
    client.close()
    siege.closed(NAME, "too_long")


def tiny_frames(siege: Siege) -> None:
    """A packet in a frame for each byte, empty frames between: as good as in one."""
    client = logged_in(siege)
    publish = encode(p.Publish("a/b", b"x" * 200))
    for _ in range(20):
        client.send(b"".join(masked(BINARY, b"") + masked(BINARY, bytes((byte,))) for byte in publish))
    alive(client)
    client.close()


def noise(siege: Siege) -> None:
    for seed in range(20):
        random = Random(seed)
        client = logged_in(siege) if seed % 2 else opened(siege)
        for _ in range(random.randrange(1, 20)):
            data = random.randbytes(random.randrange(1, 2_000))
            client.send(masked(BINARY, data) if seed % 4 < 2 else data)
        client.send(masked(BINARY, b"\xff" * 20) + b"\xff" * 100)
        client.half_close()
        client.rest()
    siege.counted(NAME, "malformed", least=5)


def pings(siege: Siege) -> None:
    """Pings of the framing are answered, and what does not read its pongs is not written to without end."""
    client = logged_in(siege)
    client.send(masked(0x89, b"hello") * 1_000)
    client.until(b"hello")
    alive(client)
    client.close()


def slow_reader(siege: Siege) -> None:
    client = logged_in(siege, window=2_048)
    client.send(masked(BINARY, encode(p.Subscribe(1, [("loop/#", 0)]))))
    client.until(b"\x90\x03\0\1\0")
    frame = masked(BINARY, encode(p.Publish("loop/x", b"x" * 20_000)))
    while client.send(frame * 10):
        continue
    siege.closed(NAME, "slow_reader")
    client.close()


ATTACKS: tuple[Attack, ...] = (
    handshakes,
    head_without_end,
    loris,
    frames,
    a_length_alone,
    tiny_frames,
    noise,
    pings,
    slow_reader,
)


class WebSocketTests(SiegeCase):
    settings = {"listeners.mqtt.bind": '["tcp:0:interface=127.0.0.1", "ws:0:interface=127.0.0.1"]'}

    def test_mqtt_over_websocket(self) -> Deferred[None]:
        return self.besiege(*ATTACKS)
