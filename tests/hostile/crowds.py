"""Attacks that are the same on every port: strangers who say nothing, or who take one kind of port for the other."""

from __future__ import annotations

from functools import partial

from broker.mqtt import packets as p
from broker.mqtt.encode import encode
from tests.behaviour import client_hello
from tests.hostile.siege import LISTENERS, Attack, Client, Siege

CROWD = 1_000
HALF_OPEN = 100

#: What somebody says who does not know that the port wants TLS.
FIRST_WORDS = {
    "novacloud": b'{"type":"auth","payload":{"device_id":"a","device_key":"b"}}\n',
    "mqtt": encode(p.Connect(client_id="x")),
    "loracenter": b'{"CMD":"SENDTO","Token":1}\0',
    "http": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "gservice": b"GET /dev/devices/x HTTP/1.1\r\nHost: x\r\n\r\n",
    "gateway88": b"\x88\x88\x88\x88",
    "files": b"GET /firmware HTTP/1.1\r\nHost: x\r\n\r\n",
}
#: Why a stranger who says nothing is closed.
SILENT = {
    "novacloud": "auth_timeout",
    "mqtt": "auth_timeout",
    "http": "idle",
    "gateway88": "auth_timeout",
    "files": "idle",
    "gservice": "idle",
    "loracenter": "auth_timeout",
}


def _name(attack: partial[None], name: str) -> Attack:
    attack.__name__ = f"{attack.func.__name__} {name}"  # type: ignore[attr-defined]  # for the report
    return attack


def silent_crowd(name: str, siege: Siege) -> None:
    """A thousand who connect and never say who they are; one in ten says a little."""
    crowd = [siege.plain(name) for _ in range(CROWD)]
    for client in crowd[::10]:
        client.send(FIRST_WORDS[name][:1])
    for client in crowd:
        client.rest()
    siege.closed(name, SILENT[name], CROWD * 9 // 10)


def half_open_tls(name: str, siege: Siege) -> None:
    """Handshakes that are begun and left: nothing, half a hello, a hello without what follows."""
    hello = client_hello()
    clients = [siege.plain(name, "tls") for _ in range(HALF_OPEN)]
    for number, client in enumerate(clients):
        client.send((b"", hello[: len(hello) // 2], hello)[number % 3])
    for client in clients:
        client.rest()
    siege.closed(name, SILENT[name], HALF_OPEN)


def hello_on_plain(name: str, siege: Siege) -> None:
    client = siege.plain(name)
    client.send(client_hello())
    client.rest()
    siege.counted(name, "malformed")
    siege.closed(name, "malformed")


def plain_on_tls(name: str, siege: Siege) -> None:
    """What is not TLS ends the connection at once, and is never taken for the protocol."""
    for words in (FIRST_WORDS[name], b"\x00" * 100, b"x" * 100_000, b"\x16\x03\x01\xff\xff" + b"\x00" * 100_000):
        client: Client = siege.plain(name, "tls")
        client.send(words)
        client.rest()
    siege.closed(name, "connection_lost", 4)


def attacks(name: str) -> tuple[Attack, ...]:
    """All of this file, on the ports of one listener."""
    return tuple(_name(partial(one, name), name) for one in (silent_crowd, half_open_tls, hello_on_plain, plain_on_tls))


#: GService is the same machinery as HTTP, so a second crowd there would only take longer. LoRaCenter's ports are
#: besieged by themselves: with still more threads it is the attackers who would be late.
EVERYWHERE = tuple(attack for name in LISTENERS if name not in ("gservice", "loracenter") for attack in attacks(name))
