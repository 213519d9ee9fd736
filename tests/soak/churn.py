"""Clients that come and go all the time: log-ins, takeovers, uplinks, refusals, and ends of every kind.

Each `Restless` is a thread with identities of its own, which are few and always the same: what the broker keeps of them
has its size after a minute. Commands, campaigns, files and well-behaved devices are the demo's, which runs beside.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import cycle
from random import Random
from typing import Any, Final

from broker.applications.loracenter.challenge import tag
from broker.devices.gateway88.container import AS_WRITTEN
from broker.devices.gateway88.container import encode as pack
from broker.devices.gateway88.frames import encode_frame
from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt.encode import DISCONNECT, PINGREQ, encode
from tests.devices.gizwits.site import registration
from tests.real import PATIENCE, RealBroker

#: Seconds between two connections of one of them, on average.
PAUSE: Final = 0.15
PRODUCT: Final = "50a4c0de50a4c0de50a4c0de50a4c0de"
PASSCODE: Final = "SOAKSOAKSO"
APP: Final = "soak-app"
CS_EUI: Final = "AA50A40000000001"
CS_KEY: Final = "00112233445566778899AABBCCDDEEFF"
MAC: Final = bytes.fromhex("0250A4000001")


class Place:
    """Where the broker listens."""

    def __init__(self, broker: RealBroker, ports: Mapping[str, int]) -> None:
        self.broker = broker
        self.ports = ports
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE

    def open(self, name: str) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self.ports[name]), timeout=PATIENCE)
        return self.context.wrap_socket(opened) if name in ("gateway88", "files") else opened


def heard(opened: socket.socket, mark: bytes) -> bytes:
    """What comes up to a mark. Raises ConnectionError when the broker closes before."""
    got = b""
    while mark not in got:
        data = opened.recv(65_536)
        if not data:
            raise ConnectionError(f"closed before {mark!r}, after {got[-200:]!r}")
        got += data
    return got


def drain(opened: socket.socket) -> None:
    """Read until the broker closes, which it has to."""
    try:
        while opened.recv(65_536):
            continue
    except (ConnectionResetError, ssl.SSLError):
        pass  # it is over, too
    opened.close()


def hang_up(opened: socket.socket, chance: Random) -> None:
    """A FIN, or a reset as of a device that has lost its power and answers to nothing."""
    if chance.random() < 0.5:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    opened.close()


class Restless(threading.Thread):
    """``visits`` are done in turn, until `stop`. One that fails ends the thread, and is the run's failure."""

    def __init__(self, name: str, seed: int, visits: Mapping[str, Callable[[Random], None]]) -> None:
        super().__init__(name=name, daemon=True)
        self.counts: Counter[str] = Counter()
        self.fault: Exception | None = None
        self._visits = visits
        self._chance = Random(seed)
        self._ending = threading.Event()

    def run(self) -> None:
        for what, visit in cycle(self._visits.items()):
            try:
                visit(self._chance)
            except Exception as error:
                error.add_note(f"{self.name}: {what}, after {self.counts[what]} that went well")
                self.fault = error
                return
            self.counts[what] += 1
            if self._ending.wait(PAUSE * self._chance.uniform(0.2, 1.8)):
                return

    def stop(self) -> None:
        self._ending.set()
        self.join(PATIENCE)


def novacloud(place: Place) -> dict[str, Callable[[Random], None]]:
    made = place.broker.made("/devices", {"protocol": "novacloud", "name": "soak"})

    def log_in(key: str = made["secret"]) -> socket.socket:
        opened = place.open("novacloud")
        auth = {"type": "auth", "payload": {"device_id": made["id"], "device_key": key}}
        opened.sendall(json.dumps(auth).encode() + b"\n")
        return opened

    def come_and_go(chance: Random) -> None:
        opened = log_in()
        heard(opened, b'"success"')
        for number in range(5):
            opened.sendall(b'{"type":"data","payload":{"temperature":%d}}\n' % number)
        hang_up(opened, chance)

    def takeover(chance: Random) -> None:
        first, second = log_in(), log_in()
        heard(second, b'"success"')
        drain(first)
        hang_up(second, chance)

    def refused(chance: Random) -> None:
        drain(log_in("guess"))

    def half(chance: Random) -> None:
        opened = place.open("novacloud")
        opened.sendall(b'{"type":"auth","payload":{"dev')
        hang_up(opened, chance)

    def nonsense(chance: Random) -> None:
        opened = place.open("novacloud")
        opened.sendall(chance.randbytes(500) + b"\n" + b"x" * 8_000)
        drain(opened)

    return {"come and go": come_and_go, "takeover": takeover, "refused": refused, "half": half, "nonsense": nonsense}


def mqtt(place: Place) -> dict[str, Callable[[Random], None]]:
    made = place.broker.made("/applications", {"kind": "mqtt", "id": "soak"})

    def log_in(client: str, version: int = p.MQTT_3_1_1, clean: bool = True, **more: Any) -> socket.socket:
        opened = place.open("mqtt")
        password = more.pop("password", made["secret"].encode())
        opened.sendall(encode(p.Connect(client, version, clean, 60, "soak", password, **more), version))
        return opened

    def talk(opened: socket.socket, version: int, size: int) -> None:
        heard(opened, b"\x20")
        opened.sendall(encode(p.Subscribe(1, [("soak/#", 1)]), version))
        heard(opened, b"\x90")
        for number in range(1, 6):
            opened.sendall(encode(p.Publish("soak/x", b"x" * size, 1, packet_id=number), version))
        opened.sendall(PINGREQ)
        heard(opened, b"\xd0\x00")

    def come_and_go(chance: Random) -> None:
        opened = log_in("a")
        talk(opened, p.MQTT_3_1_1, chance.choice((10, 1_000, 100_000)))
        opened.sendall(DISCONNECT)
        opened.close()

    def session_on_disk(chance: Random) -> None:
        opened = log_in("b", clean=False)
        talk(opened, p.MQTT_3_1_1, 100)
        hang_up(opened, chance)  # what was not acknowledged waits for the next time

    def version_5(chance: Random) -> None:
        will = p.Will("soak/will", b"gone", 1)
        opened = log_in("c", p.MQTT_5, True, will=will, properties={props.SESSION_EXPIRY_INTERVAL: 30})
        talk(opened, p.MQTT_5, 100)
        hang_up(opened, chance)

    def takeover(chance: Random) -> None:
        first = log_in("d")
        heard(first, b"\x20\x02\0\0")
        second = log_in("d")
        heard(second, b"\x20\x02\0\0")
        drain(first)
        hang_up(second, chance)

    def retained(chance: Random) -> None:
        opened = log_in("e")
        heard(opened, b"\x20\x02\0\0")
        topic = f"soak/kept/{chance.randrange(20)}"
        payload = chance.randbytes(chance.choice((0, 50, 5_000)))
        opened.sendall(encode(p.Publish(topic, payload, qos=1, retain=True, packet_id=1)))
        heard(opened, b"\x40\x02\0\1")
        opened.close()

    def refused(chance: Random) -> None:
        drain(log_in("f", password=b"guess"))

    def nonsense(chance: Random) -> None:
        opened = place.open("mqtt")
        opened.sendall(b"\x10\xff\xff\xff\x7f" + chance.randbytes(2_000))
        drain(opened)

    return {
        "come and go": come_and_go,
        "session on disk": session_on_disk,
        "version 5": version_5,
        "takeover": takeover,
        "retained": retained,
        "refused": refused,
        "nonsense": nonsense,
    }


def gateway88(place: Place) -> dict[str, Callable[[Random], None]]:
    place.broker.made("/devices", {"protocol": "gateway88", "id": MAC.hex()})
    beat = {"type": "hb", "hb": {"totalram": 1, "freeram": 1, "totaldisk": 1, "freedisk": 1}}

    def log_in(mac: bytes = MAC) -> socket.socket:
        opened = place.open("gateway88")
        opened.sendall(encode_frame(mac, 1, pack(beat, AS_WRITTEN)))
        return opened

    def come_and_go(chance: Random) -> None:
        opened = log_in()
        heard(opened, b"\x88\x88\x88\x88")
        opened.sendall(encode_frame(MAC, 2, pack({"type": "news", "x": chance.random()}, AS_WRITTEN)))
        heard(opened, b"\x88\x88\x88\x88")
        opened.close()

    def takeover(chance: Random) -> None:
        first = log_in()
        heard(first, b"\x88\x88\x88\x88")
        second = log_in()
        heard(second, b"\x88\x88\x88\x88")
        drain(first)
        second.close()

    def stranger(chance: Random) -> None:
        opened = log_in(MAC[:5] + bytes((100 + chance.randrange(20),)))
        heard(opened, b"\x88\x88\x88\x88")
        opened.close()

    def nonsense(chance: Random) -> None:
        opened = place.open("gateway88")
        opened.sendall(chance.randbytes(70_000))
        drain(opened)

    def half_a_handshake(chance: Random) -> None:
        opened = socket.create_connection(("127.0.0.1", place.ports["gateway88"]), timeout=PATIENCE)
        opened.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        hang_up(opened, chance)

    return {
        "come and go": come_and_go,
        "takeover": takeover,
        "stranger": stranger,
        "nonsense": nonsense,
        "half a handshake": half_a_handshake,
    }


def gizwits(place: Place) -> dict[str, Callable[[Random], None]]:
    place.broker.made("/products", {"key": PRODUCT, "name": "soak", "protocol": "gizwits"})
    place.broker.made("/applications", {"kind": "gizwits", "id": APP})
    dids: list[str] = []

    def ask(request: bytes) -> bytes:
        opened = place.open("gservice")
        opened.sendall(request)
        answer = opened.recv(65_536)
        opened.close()
        return answer

    def call(line: str, body: Any, token: str = "") -> bytes:
        text = json.dumps(body).encode()
        head = f"{line} HTTP/1.1\r\nHost: x\r\nX-Gizwits-Application-Id: {APP}\r\nX-Gizwits-User-token: {token}\r\n"
        return ask(head.encode() + b"Content-Length: %d\r\n\r\n" % len(text) + text)

    def register(chance: Random) -> None:
        answer = ask(registration(PASSCODE, f"50A4000000{chance.randrange(10):02d}", PRODUCT))
        did = answer.rpartition(b"did=")[2].decode()
        if did not in dids:
            dids.append(did)

    def log_in(did: str, passcode: str = PASSCODE) -> socket.socket:
        opened = place.open("mqtt")
        connect = p.Connect(did, p.MQTT_3_1, keep_alive=120, user=did, password=passcode.encode())
        opened.sendall(encode(connect, p.MQTT_3_1))
        return opened

    def device(chance: Random) -> None:
        did = chance.choice(dids)
        opened = log_in(did)
        heard(opened, b"\x20\x02\0\0")
        frame = b"\0\0\0\3\4\0\0\x91" + bytes((chance.randrange(256),))
        opened.sendall(encode(p.Publish(f"dev2app/{did}", frame), p.MQTT_3_1) + PINGREQ)
        heard(opened, b"\xd0\x00")
        hang_up(opened, chance)

    def app(chance: Random) -> None:
        answer = call("POST /app/users", {"phone_id": f"soak-{chance.randrange(10)}"})
        session = json.loads(answer.partition(b"\r\n\r\n")[2])
        call("POST /app/bindings", {"devices": [{"did": dids[0], "passcode": PASSCODE}]}, session["token"])
        opened = place.open("mqtt")
        name = f"2${APP}${session['uid']}"
        connect = p.Connect(f"usr{session['uid']}", p.MQTT_3_1, True, 60, name, session["token"].encode())
        opened.sendall(encode(connect, p.MQTT_3_1))
        heard(opened, b"\x20\x02\0\0")
        hang_up(opened, chance)

    def refused(chance: Random) -> None:
        opened = log_in(chance.choice(dids), "guess")
        heard(opened, b"\x20\x02\0\4")
        hang_up(opened, chance)
        assert b"error_code" in call("GET /app/bindings", None, "0" * 32)

    return {"register": register, "device": device, "app": app, "refused": refused}


def loracenter(place: Place) -> dict[str, Callable[[Random], None]]:
    application = {"kind": "loracenter", "id": "soak-customer", "cs_eui": CS_EUI, "app_key": CS_KEY}
    place.broker.made("/applications", application)

    def log_in(challenge: str) -> socket.socket:
        opened = place.open("loracenter")
        fields = {"CMD": "CSREG", "Token": 1, "CsEUI": CS_EUI, "AppNonce": 5, "Challenge": challenge, "ServiceId": 0}
        opened.sendall(json.dumps(fields).encode() + b"\0")
        return opened

    right = tag(bytes.fromhex(CS_KEY), CS_EUI, 5).hex()

    def come_and_go(chance: Random) -> None:
        opened = log_in(right)
        heard(opened, b"ACCEPT")
        ask = {"CMD": "SENDTO", "Token": 2, "DevEUI": "AA50A400000000FF", "payload": "AQ==", "Port": 5}
        opened.sendall(json.dumps(ask).encode() + b"\0")
        heard(opened, b"\0")
        hang_up(opened, chance)

    def takeover(chance: Random) -> None:
        first = log_in(right)
        heard(first, b"ACCEPT")
        second = log_in(right)
        heard(second, b"ACCEPT")
        drain(first)
        hang_up(second, chance)

    def refused(chance: Random) -> None:
        drain(log_in("00112233"))

    def nonsense(chance: Random) -> None:
        opened = place.open("loracenter")
        opened.sendall((chance.randbytes(50) + b"\0") * 20)
        drain(opened)

    return {"come and go": come_and_go, "takeover": takeover, "refused": refused, "nonsense": nonsense}


def lorawan(place: Place) -> dict[str, Callable[[Random], None]]:
    target = ("127.0.0.1", place.ports["lorawan"])

    def datagrams(body: Callable[[Random], bytes]) -> Callable[[Random], None]:
        def send(chance: Random) -> None:
            with socket.socket(type=socket.SOCK_DGRAM) as opened:
                for _ in range(20):
                    opened.sendto(body(chance), target)

        return send

    def head(chance: Random, kind: int) -> bytes:
        return b"\2" + chance.randbytes(2) + bytes((kind,)) + b"SOAKSOA" + bytes((chance.randrange(20),))

    def frame(chance: Random) -> bytes:
        """A join-request of nobody, or a frame of an address that nobody has."""
        packet = {
            "tmst": chance.randrange(1 << 32),
            "freq": 470.3,
            "stat": 1,
            "modu": "LORA",
            "datr": "SF7BW125",
            "codr": "4/5",
            "rssi": -35,
            "lsnr": 9.0,
            "size": 23,
            "data": "AAEBAQEBAQEBAgICAgICAgIAAAAAAAA=",
        }
        return head(chance, 0) + json.dumps({"rxpk": [packet] * chance.randrange(1, 4)}).encode()

    return {
        "strangers pull": datagrams(lambda chance: head(chance, 2)),
        "frames of nobody": datagrams(frame),
        "nonsense": datagrams(lambda chance: chance.randbytes(chance.randrange(1_000))),
        "broken JSON": datagrams(lambda chance: head(chance, 0) + b'{"rxpk":[' * chance.randrange(200)),
    }


def api(place: Place) -> dict[str, Callable[[Random], None]]:
    token = place.broker.admin_token

    def ask(line: str, *headers: str, body: bytes = b"") -> socket.socket:
        opened = place.open("http")
        lines = (f"{line} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", "")
        opened.sendall("\r\n".join(lines).encode() + body)
        return opened

    bearer = f"Authorization: Bearer {token}"

    def read(chance: Random) -> None:
        path = chance.choice(("/devices", "/overview", "/connections", "/events", "/quarantine", "/commands/x"))
        opened = ask(f"GET /api/v1{path}", bearer)
        heard(opened, b"\r\n\r\n")
        hang_up(opened, chance)

    def stream(chance: Random) -> None:
        upgrade = "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"
        opened = ask("GET /api/v1/stream", bearer, *upgrade, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
        heard(opened, b"101 ")
        opened.recv(1_000)
        hang_up(opened, chance)

    def sign_in(chance: Random) -> None:
        opened = ask("POST /api/v1/session", "Content-Type: application/json", body=b'{"token":"%b"}' % token.encode())
        heard(opened, b"Set-Cookie")
        opened.close()

    def refused(chance: Random) -> None:
        for headers in (("Authorization: Bearer guess",), ()):
            opened = ask("GET /api/v1/devices", *headers)
            heard(opened, b"401 ")
            hang_up(opened, chance)

    def nonsense(chance: Random) -> None:
        opened = place.open("http")
        opened.sendall(chance.randbytes(100) + b"\r\n\r\n")
        drain(opened)

    return {"read": read, "stream": stream, "sign in": sign_in, "refused": refused, "nonsense": nonsense}


KINDS: Final = {
    "novacloud": novacloud,
    "mqtt": mqtt,
    "gateway88": gateway88,
    "gizwits": gizwits,
    "loracenter": loracenter,
    "lorawan": lorawan,
    "http": api,
}
