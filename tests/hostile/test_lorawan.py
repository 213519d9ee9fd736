"""The port of packet forwarders under attack: UDP, so whoever sends is whoever he says he is."""

from __future__ import annotations

import json
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Final

from twisted.internet.defer import Deferred

from tests.hostile.siege import Attack, Siege, SiegeCase
from tests.hostile.values import DEEP, VALUES
from tests.real import PATIENCE, eventually

NAME: Final = "lorawan"
#: The gateway that is registered.
OURS: Final = "AA555A00000000FF"
PUSH, PULL, TX_ACK = 0, 2, 5
#: Of an uplink that is one, so far as its gateway can tell.
RXPK: Final = {
    "tmst": 1,
    "freq": 470.3,
    "stat": 1,
    "modu": "LORA",
    "datr": "SF7BW125",
    "codr": "4/5",
    "rssi": -35,
    "lsnr": 9.0,
    "size": 23,
    "data": b64encode(bytes(23)).decode(),
}


def head(kind: int, eui: bytes, token: bytes = b"ab") -> bytes:
    return b"\2" + token + bytes((kind,)) + eui


@contextmanager
def opened(siege: Siege) -> Iterator[socket.socket]:
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        one.settimeout(PATIENCE)
        one.connect(("127.0.0.1", siege.ports[NAME, "udp"]))
        yield one


def still_there(siege: Siege) -> None:
    """A gateway that is registered has its answer, at most a few tries later: datagrams may be lost in a flood."""
    with opened(siege) as one:
        one.settimeout(0.2)

        def answered() -> bool:
            one.send(head(PULL, bytes.fromhex(OURS)))
            try:
                return one.recv(100) == b"\2ab\4"
            except TimeoutError:
                return False

        eventually(answered, "a PULL_ACK")


def noise(siege: Siege) -> None:
    random = Random(1)
    with opened(siege) as one:
        for _ in range(3_000):
            one.send(random.randbytes(random.choice((0, 1, 3, 4, 11, 12, 13, 60, 1_400, 60_000))))
        for kind in range(256):
            one.send(head(kind, random.randbytes(8)) + random.randbytes(random.randrange(100)))
    still_there(siege)


def wrong_values(siege: Siege) -> None:
    """Whatever JSON can say in the place of what is expected, and what is nested too deeply."""
    eui = bytes.fromhex(OURS)
    with opened(siege) as one:
        for value in (*VALUES, *(text[:60_000] for text in DEEP)):
            text = value.encode("utf-8", "surrogatepass")
            for body in (text, b'{"rxpk":' + text, b'{"rxpk":[' + text + b"]}", b'{"stat":' + text + b"}"):
                one.send(head(PUSH, eui) + body)
            one.send(head(TX_ACK, eui) + text)
            one.send(head(TX_ACK, eui) + b'{"txpk_ack":{"error":' + text + b"}}")
        for field in RXPK:
            for value in VALUES:
                texts = {name: json.dumps(one) for name, one in RXPK.items()} | {field: value}
                packet = "{" + ",".join(f'"{name}":{text}' for name, text in texts.items()) + "}"
                one.send(head(PUSH, eui) + f'{{"rxpk":[{packet}]}}'.encode("utf-8", "surrogatepass"))
    still_there(siege)


def many_in_one(siege: Siege) -> None:
    """Hundreds of frames in each datagram, all from addresses that nobody has."""
    random = Random(2)
    with opened(siege) as one:
        for _ in range(50):
            frames = [b"\x40" + random.randbytes(22) for _ in range(300)]
            packets = [{**RXPK, "tmst": n, "data": b64encode(frame).decode()} for n, frame in enumerate(frames)]
            one.send(head(PUSH, bytes.fromhex(OURS)) + json.dumps({"rxpk": packets}).encode()[:65_000])
            one.send(head(PUSH, bytes.fromhex(OURS)) + json.dumps({"rxpk": packets[:250]}).encode())
    still_there(siege)


def made_up_gateways(siege: Siege) -> None:
    """A new EUI with each datagram: quarantine is bounded, and nobody is answered but who is registered."""
    random = Random(3)
    with opened(siege) as one:
        for _ in range(20_000):
            one.send(head(random.choice((PUSH, PULL)), random.randbytes(8)) + b'{"stat":{}}')
    still_there(siege)


def flood(siege: Siege) -> None:
    """As fast as a socket takes it, for two seconds: what is not read in time is lost, and everybody else is served."""
    data = head(PUSH, bytes.fromhex(OURS)) + json.dumps({"rxpk": [RXPK]}).encode()

    def pour() -> None:
        until = time.monotonic() + 2.0
        with opened(siege) as one:
            while time.monotonic() < until:
                for _ in range(100):
                    one.send(data)

    pouring = threading.Thread(target=pour)
    pouring.start()
    still_there(siege)
    pouring.join()
    still_there(siege)


def no_amplifier(siege: Siege) -> None:
    """What is answered is shorter than what was asked, as an address that asks may be somebody else's."""
    random = Random(4)
    with opened(siege) as one:
        one.settimeout(0.5)
        for kind in (PUSH, PULL, TX_ACK) * 30:
            question = head(kind, bytes.fromhex(OURS)) + random.randbytes(random.randrange(20))
            one.send(question)
            if kind != TX_ACK:
                assert len(one.recv(2_000)) == 4 < len(question)


ATTACKS: tuple[Attack, ...] = (noise, wrong_values, many_in_one, made_up_gateways, flood, no_amplifier)


class LorawanTests(SiegeCase):
    def test_the_lorawan_port(self) -> Deferred[None]:
        def register_first(siege: Siege) -> None:
            siege.broker.made("/lorawan/gateways", {"eui": OURS})
            for attack in ATTACKS:
                attack(siege)

        return self.besiege(register_first)
