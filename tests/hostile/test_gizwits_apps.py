"""Gizwits apps under attack: other users' devices and client ids, guessed tokens, floods of what is no message."""

from __future__ import annotations

import json
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred

from broker.devices.gizwits import codec as g
from broker.mqtt import packets as p
from broker.mqtt.encode import encode
from tests.hostile.siege import FLOOD, Attack, Client, Siege, SiegeCase
from tests.hostile.test_gizwits import PASSCODE, ask, register, welcome
from tests.hostile.test_stream import masked

NAME: Final = "gservice"
APPID: Final = "hostile-apps"
GUESSES: Final = 1_000
PINGREQ: Final = b"\xc0\0"
PINGRESP: Final = b"\xd0\0"


def call(siege: Siege, line: str, body: Any = None, token: str = "") -> tuple[int, Any]:
    """A call of the Open API."""
    text = b"" if body is None else json.dumps(body).encode()
    head = f"{line} HTTP/1.1\r\nHost: x\r\nX-Gizwits-Application-Id: {APPID}\r\nX-Gizwits-User-token: {token}\r\n"
    status, answer = ask(siege, head.encode() + b"Content-Length: %d\r\n\r\n" % len(text) + text)
    return status, json.loads(answer)


def user(siege: Siege, phone: str, *devices: str) -> dict[str, Any]:
    """A user who has bound these devices."""
    siege.broker.call("POST", "/applications", {"kind": "gizwits", "id": APPID})
    status, session = call(siege, "POST /app/users", {"phone_id": phone})
    assert status == 201, session
    bound = [{"did": did, "passcode": PASSCODE} for did in devices]
    if bound:
        assert call(siege, "POST /app/bindings", {"devices": bound}, session["token"])[1]["failed"] == []
    assert isinstance(session, dict)
    return session


def come(siege: Siege, session: dict[str, Any], client_id: str, token: str | None = None) -> Client:
    """An app over MQTT that has sent its CONNECT."""
    client = siege.connect("mqtt")
    name = f"2${APPID}${session['uid']}"
    password = (session["token"] if token is None else token).encode()
    client.send(encode(p.Connect(client_id, p.MQTT_3_1, keep_alive=60, user=name, password=password), p.MQTT_3_1))
    return client


def app(siege: Siege, session: dict[str, Any], client_id: str) -> Client:
    client = come(siege, session, client_id)
    client.until(b"\x20\x02\0\0")
    return client


def opened(siege: Siege, session: dict[str, Any] | None = None, window: int = 0) -> Client:
    """An app's WebSocket, logged in if there is a session."""
    client = siege.plain(NAME, window=window) if window else siege.connect(NAME)
    client.send(
        b"GET /ws/app/v1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    if session is not None:
        say(client, "login_req", {"appid": APPID, "p0_type": "custom", **session})
        client.until(b'"login_res","data":{"success":true}}')
    return client


def say(client: Client, cmd: str, data: Any) -> None:
    client.send(masked(0x81, json.dumps({"cmd": cmd, "data": data}).encode()))


def not_bound(siege: Siege) -> None:
    """Another's device, another app's client id: refused everywhere, and the device hears nothing."""
    did = register(siege, "000000000101")
    mine = register(siege, "000000000102")
    device = welcome(siege, did)
    device.send(encode(p.Subscribe(1, [(f"app2dev/{did}/#", 0)]), p.MQTT_3_1))
    device.until(b"\x90\x03\0\1\0")
    owner = app(siege, user(siege, "owner", mine), "usrowner")
    eve = user(siege, "eve", mine)
    client = app(siege, eve, "usreve")
    frame = g.encode(g.Control(b"x"))
    topics = [
        f"app2dev/{did}/usreve",
        f"app2dev/{mine}/usrowner",
        f"app2dev/{mine}",
        f"dev2app/{mine}",
        f"ser2cli_res/{did}",
    ]
    for topic in topics * 40:
        client.send(encode(p.Publish(topic, frame), p.MQTT_3_1))
    filters = [f"dev2app/{did}", f"dev2app/{mine}/usrowner", "dev2app/+", "dev2app/#", "#", "ser2cli_res/usrowner/#"]
    client.send(encode(p.Subscribe(2, [(one, 0) for one in filters]), p.MQTT_3_1))
    client.until(b"\x90\x08\0\2" + b"\x80" * 6)
    siege.counted("mqtt", "messages_dropped", "not_allowed", 40 * len(topics))
    for line, body in (
        (f"POST /app/control/{did}", {"raw": [1]}),
        (f"GET /app/devices/{did}", None),
        (f"GET /app/devices/{did}/raw_data", None),
        (f"PUT /app/bindings/{did}", {"remark": "x"}),
    ):
        status, answer = call(siege, line, body, eve["token"])
        assert (status, answer["error_code"]) == (401, 9017), (line, answer)
    # A second user with the first one's client id.
    thief = come(siege, eve, "usrowner")
    thief.until(b"\x20\x02\0\5")
    owner.send(PINGREQ)
    owner.until(PINGRESP)
    device.send(PINGREQ)
    assert device.until(PINGRESP) == PINGRESP  # and nothing before it
    for one in (owner, client, device):
        one.close()


def guessed_tokens(siege: Siege) -> None:
    """Tokens that are made up, or are somebody else's: over MQTT, HTTP and WebSocket."""
    ann, bob = user(siege, "ann"), user(siege, "bob")
    there = app(siege, ann, "usrann")
    guessers = [come(siege, ann, f"usr{number}", f"{number:032x}") for number in range(GUESSES)]
    for guesser in guessers:
        guesser.until(b"\x20\x02\0\4")
        guesser.close()
    for token in (bob["token"], "", "\xff" * 64, "x" * 5_000):
        come(siege, ann, "usrx", token).until(b"\x20\x02\0\4")
    siege.counted("mqtt", "logins_failed", least=GUESSES + 4)
    for number in range(100):
        status, answer = call(siege, "GET /app/bindings", None, f"{number:032x}")
        assert (status, answer["error_code"]) == (400, 9004), answer
    client = opened(siege)
    for number in range(19):
        say(client, "login_req", {"appid": APPID, "uid": ann["uid"], "token": f"{number:032x}"})
        client.until(b'"success":false}}')
    say(client, "login_req", {"appid": APPID, "uid": ann["uid"], "token": bob["token"]})
    client.rest()
    siege.closed(NAME, "protocol_error")
    siege.counted(NAME, "logins_failed", least=120)
    there.send(PINGREQ)
    there.until(PINGRESP)
    there.close()


def guessed_passcodes(siege: Siege) -> None:
    did = register(siege, "000000000103")
    session = user(siege, "guesser")
    for start in range(0, GUESSES, 100):
        devices = [{"did": did, "passcode": f"{number:010}"} for number in range(start, start + 100)]
        status, answer = call(siege, "POST /app/bindings", {"devices": devices}, session["token"])
        assert (status, answer["success"], len(answer["failed"])) == (200, [], 100), answer
    siege.counted(NAME, "logins_failed", least=GUESSES)


def bad_messages(siege: Siege) -> None:
    """Floods of what is no message, before and after the log-in; each ends its own connection."""
    session = user(siege, "flooder")
    texts = (
        b"x",
        b"{}",
        b"[" * 5_000,
        b'{"cmd":"c2s_raw"}',
        b'{"cmd":"subscribe_req","data":[[]]}',
        b'{"cmd":1}',
        b"\x00",
    )
    for text in texts:
        for who in (None, session):
            client = opened(siege, who)
            client.pour(masked(0x81, text) * 100, FLOOD)
            client.rest()
            client.close()
    siege.closed(NAME, "protocol_error", len(texts))


def no_end(siege: Siege) -> None:
    client = opened(siege, user(siege, "endless"))
    client.send(masked(0x01, b'{"cmd":"'))
    assert client.pour(masked(0x00, b"a" * 10_000), FLOOD) < FLOOD
    client.close()
    siege.closed(NAME, "too_long")


def noise(siege: Siege) -> None:
    session = user(siege, "noisy")
    for seed in range(20):
        random = Random(seed)
        client = opened(siege, session)
        for _ in range(random.randrange(1, 20)):
            client.send(random.randbytes(random.randrange(1, 5_000)))
        client.send(b"\xff" * 100_000)
        client.rest()
        client.close()


def slow_app(siege: Siege) -> None:
    """Listens to a device that says much, and reads nothing."""
    did = register(siege, "000000000104")
    device = welcome(siege, did)
    client = opened(siege, user(siege, "sleeper", did), window=2048)
    report = encode(p.Publish(f"dev2app/{did}", g.encode(g.Report(b"x" * 60_000))), p.MQTT_3_1)
    for _ in range(200):
        assert device.send(report)
    siege.counted(NAME, "messages_dropped", "slow_subscriber")
    siege.closed(NAME, "slow_reader")
    client.close()
    device.close()


ATTACKS: tuple[Attack, ...] = (not_bound, guessed_tokens, guessed_passcodes, bad_messages, no_end, noise, slow_app)


class AppTests(SiegeCase):
    def test_apps(self) -> Deferred[None]:
        return self.besiege(*ATTACKS)
