"""Guessing, and taking all places, from one address, on every listener that has a log-in: a broker behind a proxy.

Each client begins with the PROXY header of an address of its own, as a proxy on loopback would send it, so that address
is what counts: everybody else behind the proxy is let in all the same. The API has no proxy before it and counts
loopback.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from broker.devices.gateway88.container import AS_WRITTEN
from broker.devices.gateway88.container import encode as pack
from broker.devices.gateway88.frames import encode_frame
from broker.mqtt import packets as p
from broker.mqtt.encode import encode
from tests.hostile.siege import CS_KEY, Target
from tests.real import LOOPBACK, PATIENCE, RealBroker

#: Failures that are answered at once, and at which nobody from there is heard.
DELAYED: Final = 2
LOCKOUT: Final = 4
#: Open connections of one address.
PLACES: Final = 3
#: Documentation addresses (RFC 5737, RFC 3849); the two of IPv6 are one network.
GUESSER, CROWD, OTHER = "198.51.100.7", "198.51.100.8", "203.0.113.9"
GUESSER_6, NEIGHBOUR_6 = "2001:db8::7", "2001:db8::8"


class Door(NamedTuple):
    """How somebody fails at a listener: what is sent, and what an answer to it begins with (nothing: a mere close)."""

    name: str
    words: bytes
    answer: bytes


def _request(line: str, *headers: str, body: bytes = b"") -> bytes:
    lines = (f"{line} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(lines).encode() + body


DOORS: Final = (
    Door("mqtt", encode(p.Connect("c", user="nobody", password=b"guess")), b"\x20\x02\0\4"),
    Door("novacloud", b'{"type":"auth","payload":{"device_id":"nobody","device_key":"guess"}}\n', b'{"type":"auth_res'),
    Door("gateway88", encode_frame(b"\2\0\0\0\0\1", 1, pack({"type": "hb", "hb": {}}, AS_WRITTEN)), b""),
    Door(
        "loracenter",
        b'{"CMD":"CSREG","Token":1,"CsEUI":"AA00000000000001","AppNonce":5,"Challenge":"00112233"}\0',
        b'{"CODE":0',
    ),
    Door(
        "gservice",
        _request("GET /app/bindings", "X-Gizwits-Application-Id: guessed", "X-Gizwits-User-token: guess"),
        b"HTTP/1.1 400",
    ),
)

SETTINGS: Final = {
    **{f"listeners.{door.name}.bind": LOOPBACK for door in DOORS},
    **{f"listeners.{door.name}.proxy_protocol": "true" for door in DOORS},
    "listeners.gateway88.unknown": '"refuse"',
    "listeners.loracenter.refused_grace": "0.01",
    "listeners.http.limits.exempt_loopback": "false",
    "listeners.http.limits.max_connections_per_address": "200",
    "limits.max_connections_per_address": str(PLACES),
    "limits.max_failed_logins": str(DELAYED),
    "limits.lockout_failed_logins": str(LOCKOUT),
    "limits.max_login_delay": "0.2",
    # Long, so that nothing is forgotten while this runs.
    "limits.failed_login_window": "86400.0",
    "limits.auth_timeout": "20.0",
}


class Gate:
    """The way to the listeners through the proxy."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def come(self, door: Door, source: str, words: bytes = b"") -> Callable[[], bytes]:
        """A connection from that address; what it gets until the broker closes it comes with the call."""
        client = self.target.plain(door.name)
        family, target = ("TCP6", "::1") if ":" in source else ("TCP4", "127.0.0.1")
        client.send(f"PROXY {family} {source} {target} 40000 1\r\n".encode() + words)
        return client.rest

    def fail(self, door: Door, source: str) -> bytes:
        return self.come(door, source, door.words)()


def guess(gate: Gate, door: Door) -> None:
    for address, neighbour in ((GUESSER, GUESSER), (GUESSER_6, NEIGHBOUR_6)):
        for _ in range(LOCKOUT):
            told = gate.fail(door, address)
            assert told.startswith(door.answer) and bool(told) == bool(door.answer), (door.name, told)
        # From there nobody is heard any more, be the secret wrong or right.
        told = gate.fail(door, neighbour)
        assert told.startswith(b"HTTP/1.1 429" if door.name == "gservice" else b""), (door.name, told)
        assert door.name == "gservice" or not told, (door.name, told)
    assert gate.fail(door, OTHER).startswith(door.answer)
    target = gate.target
    target.counted(door.name, "logins_failed", least=2 * LOCKOUT + 1)
    target.counted(door.name, "logins_delayed", least=2 * (LOCKOUT - DELAYED))
    target.counted(door.name, "logins_locked_out", least=2)
    if door.name != "gservice":
        target.counted(door.name, "connections_refused", "too_many_failed_logins", 2)


def take_all_places(gate: Gate, door: Door) -> None:
    crowd = [gate.come(door, CROWD) for _ in range(PLACES)]
    gate.target.counted(door.name, "connections", least=PLACES)
    assert gate.come(door, CROWD)() == b""
    gate.target.counted(door.name, "connections_refused", "too_many_per_address")
    assert gate.fail(door, OTHER).startswith(door.answer)
    del crowd  # which closes them


def guess_tokens(target: Target) -> None:
    """The administrator's token, in a header and in the console's sign-in. This comes last: it locks us out, too."""

    def ask(method: str, path: str, token: str, body: object = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", target.broker.ports["http"], timeout=PATIENCE)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        connection.request(method, f"/api/v1{path}", None if body is None else json.dumps(body).encode(), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    right = target.broker.admin_token
    secret = target.broker.made("/applications", {"kind": "http", "id": "app"})["secret"]
    assert ask("GET", "/devices", f"app:{secret}")[0] == 200
    for number in range(LOCKOUT):
        if number % 2:
            assert ask("POST", "/session", "", {"token": "guess"})[0] == 401
        else:
            assert ask("GET", "/devices", "guess")[0] == 401
    for status, text in (ask("GET", "/devices", right), ask("POST", "/session", "", {"token": right})):
        assert status == 429 and "lockout_failed_logins" in text, text
    assert ask("GET", "/devices", f"app:{secret}")[0] == 200  # proven shortly before
    target.counted("http", "logins_locked_out", least=2)


class LoginTests(TestCase):
    timeout = 120

    def test_every_listener_with_a_login(self) -> Deferred[None]:
        return deferToThread(self._all)

    def _all(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        broker = RealBroker(folder, SETTINGS)
        self.addCleanup(broker.kill)
        broker.start()
        broker.made("/applications", {"kind": "loracenter", "cs_eui": "AA00000000000001", "app_key": CS_KEY})
        gate = Gate(Target(broker))
        with ThreadPoolExecutor(2 * len(DOORS)) as pool:
            done = [pool.submit(attack, gate, door) for door in DOORS for attack in (guess, take_all_places)]
        for one in done:
            one.result()
        guess_tokens(gate.target)
        self.assertEqual(broker.stop(), 0)
        output = "\n".join(broker.output)
        self.assertNotIn("Traceback", output)
        for address in (GUESSER, CROWD, NEIGHBOUR_6):
            self.assertIn(f"{address} refused", output)
