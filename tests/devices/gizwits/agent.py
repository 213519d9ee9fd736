"""A device agent with the weaknesses of real ones, on blocking sockets.

An answer over HTTP is one ``recv``, searched for what is wanted, headers and all. Of what one ``recv`` brings over MQTT
the first packet is taken and the rest is lost. Nothing is waited for longer than an agent would.
"""

from __future__ import annotations

import hashlib
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from broker.devices.gizwits import codec as g
from broker.mqtt.codec import frame
from tests.devices.gizwits.site import asking, checking, disabling, provision, registration

ROOM = 1024
FIRST_ROOM = 600
PATIENCE = 10.0


def between(text: bytes, start: bytes, *ends: bytes) -> bytes:
    """What stands behind ``start``, up to the first of ``ends``, which has to be there: agents run on without it."""
    at = text.index(start) + len(start)
    stops = [stop for stop in (text.find(end, at) for end in ends) if stop >= 0]
    assert stops, (start, text)
    return text[at : min(stops)]


class Agent:
    """``http`` is the port of GService, to which the name in every Host header leads."""

    def __init__(self, http: int, product: str, mac: str, passcode: str) -> None:
        self.http = http
        self.product = product
        self.mac = mac
        self.passcode = passcode
        self.did = ""
        self.version = "04020006"
        self.mqtt: tuple[str, int] = ("", 0)
        self.socket: socket.socket | None = None
        #: What came over MQTT: (first byte, body).
        self.packets: list[tuple[int, bytes]] = []
        #: Called with each business or system message: (topic, payload).
        self.on_message: Callable[[str, bytes], None] = lambda topic, payload: None
        self.messages: list[tuple[str, bytes]] = []

    # -- HTTP ------------------------------------------------------------------------------------------------------

    def ask(self, request: bytes, room: int = ROOM) -> tuple[int, bytes]:
        """Status and all of the answer, as far as one recv brings it."""
        with socket.create_connection(("127.0.0.1", self.http), timeout=PATIENCE) as http:
            http.sendall(request)
            answer = http.recv(room)
            return int(answer.split(b" ", 2)[1]), answer

    def register(self) -> None:
        status, answer = self.ask(registration(self.passcode, self.mac, self.product))
        assert status == 201, answer
        self.did = answer[answer.index(b"did=") + 4 :][:22].decode()
        assert len(self.did) == 22, answer

    def provision(self) -> None:
        status, answer = self.ask(provision(self.did))
        assert status == 200, answer
        host = between(answer, b"host=", b"&")
        port = between(answer, b"port=", b"&")
        assert abs(int(between(answer, b"server_ts=", b"&", b"\r")) - time.time()) < 60
        self.mqtt = (host.decode(), int(port))

    def check(self, kind: int) -> bool:
        """Ask for firmware, and fetch and install it if there is some."""
        status, answer = self.ask(checking(self.did, self.version, kind, self.passcode))
        if status != 200:
            return False
        version = between(answer, b"soft_ver=", b"&").decode()
        url = between(answer, b"download_url=", b"\r\n").decode()
        assert self.version < version and len(url) <= 255 and url.startswith("http://api.gizwits.com/"), answer
        self.download(url.removeprefix("http://api.gizwits.com"), version)
        return True

    def download(self, path: str, version: str) -> None:
        with socket.create_connection(("127.0.0.1", self.http), timeout=PATIENCE) as http:
            http.sendall(asking(path))
            data = http.recv(FIRST_ROOM)
            head, _, body = data.partition(b"\r\n\r\n")
            assert body, "the first bytes hold nothing of the image"
            length = int(between(head, b"Content-Length: ", b"\r\n"))
            digest = between(head, b"Firmware-MD5: ", b"\r\n").decode()
            assert between(head + b"\r\n", b"Soft-Version: ", b"\r\n").decode() == version
            while len(body) < length:
                more = http.recv(4096)
                assert more
                body += more
        assert hashlib.md5(body).hexdigest() == digest
        self.version = version

    def disable(self, did: str, passcode: str) -> int:
        return self.ask(disabling(did, passcode))[0]

    # -- MQTT ------------------------------------------------------------------------------------------------------

    def log_in(self) -> int:
        """The code of the CONNACK; the connection stays as it is. Subscribes when it is 0."""
        self.socket = socket.create_connection(("127.0.0.1", self.mqtt[1]), timeout=PATIENCE)
        part = b"\0\x16" + self.did.encode()
        secret = self.passcode.encode()
        body = b"\0\6MQIsdp\3\xc2\0\x78" + part + part + len(secret).to_bytes(2, "big") + secret
        self.socket.sendall(b"\x10" + bytes((len(body),)) + body)
        first, answer = self.next()
        assert first == 0x20
        if not answer[1]:
            topics = (f"ser2cli_noti/{self.product}", f"ser2cli_res/{self.did}", f"app2dev/{self.did}/#")
            for number, topic in enumerate(topics, 1):
                body = b"\0" + bytes((number, 0, len(topic))) + topic.encode() + b"\0"
                self.socket.sendall(b"\x82" + bytes((len(body),)) + body)
                first, answer = self.next()
                assert (first, answer[:2]) == (0x90, b"\0" + bytes((number,))), (first, answer)
        return answer[1] if not self.did or first == 0x20 else 0

    def next(self, patience: float = PATIENCE) -> tuple[int, bytes]:
        """The next packet."""
        assert self.socket is not None
        ready, _, _ = select.select([self.socket], [], [], patience)
        if not ready:
            raise TimeoutError("no packet")
        data = self.socket.recv(ROOM)
        if not data:
            raise ConnectionError("closed")
        body, end = frame(data, 0, ROOM)
        assert 0 < end <= len(data), data  # larger than its buffer
        return data[0], data[body:end]

    def run(self, done: Callable[[], Any], patience: float = PATIENCE) -> None:
        """Take messages until ``done()``."""
        until = time.monotonic() + patience
        while not done():
            first, body = self.next(max(0.0, until - time.monotonic()))
            if first >> 4 == 3:
                assert first == 0x30, first
                size = int.from_bytes(body[:2], "big")
                topic, payload = body[2 : 2 + size].decode(), body[2 + size :]
                self.messages.append((topic, payload))
                self.on_message(topic, payload)

    def publish(self, topic: str, packet: g.Business | g.System) -> None:
        assert self.socket is not None
        body = len(topic).to_bytes(2, "big") + topic.encode() + g.encode(packet)
        assert len(body) < 128
        self.socket.sendall(b"\x30" + bytes((len(body),)) + body)

    def report(self, data: bytes) -> None:
        self.publish(f"dev2app/{self.did}", g.Report(data))

    def drop(self) -> None:
        """No goodbye; agents never say one."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None
