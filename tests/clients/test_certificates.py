"""Client certificates in place of passwords: the real broker over TLS, an authority of our own, and paho-mqtt."""

from __future__ import annotations

import json
import re
import ssl
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.client_certificates import Authority
from tests.real import PATIENCE, RealBroker, eventually

#: What paho has for the answers of 3.1.1, in words of 5.0.
REFUSED, NOT_ALLOWED = 134, 135


class Visitor:
    """One paho client; ``came`` gets payloads."""

    def __init__(
        self,
        port: int,
        certificate: Path | None,
        login: tuple[str, ...] = (),
        version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv311,
        web: bool = False,
    ) -> None:
        self.codes: Queue[int] = Queue()
        self.came: Queue[bytes] = Queue()
        self.over: Queue[bool] = Queue()
        self.port = port
        self.client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            protocol=version,
            transport="websockets" if web else "tcp",
            reconnect_on_failure=False,
        )
        if login:
            client.username_pw_set(*login)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if certificate is not None:
            context.load_cert_chain(certificate)
        client.tls_set_context(context)
        client.on_connect = lambda client, data, flags, code, properties: self.codes.put(code.value)
        client.on_subscribe = lambda client, data, mid, codes, properties: self.codes.put(codes[0].value)
        client.on_message = lambda client, data, one: self.came.put(bytes(one.payload))
        client.on_disconnect = lambda client, data, flags, code, properties: self.over.put(True)

    def connect(self) -> int | None:
        """The code of CONNACK; None if TLS let nobody in."""
        try:
            self.client.connect("127.0.0.1", self.port)
        except (ssl.SSLError, ConnectionError):
            return None
        self.client.loop_start()
        while True:
            try:
                return self.codes.get(timeout=0.05)
            except Empty:
                if self.over.qsize() and not self.codes.qsize():
                    return None

    def subscribe(self, topic_filter: str) -> int:
        self.client.subscribe(topic_filter, 1)
        return self.codes.get(timeout=PATIENCE)

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class CertificateTests(TestCase):
    timeout = 120

    def setUp(self) -> None:
        folder = Path(self.mktemp()).absolute()
        self.authority = Authority(folder / "ca", "ca")
        self.stranger = Authority(folder / "stranger", "ca")
        self.broker = RealBroker(
            folder,
            {
                "listeners.mqtt.bind": json.dumps([f"{kind}:0:interface=127.0.0.1" for kind in ("tls", "wss")]),
                "listeners.mqtt.client_certificates": '"optional"',
                "listeners.mqtt.use_identity_as_username": "true",
                "tls.client_ca": json.dumps(str(self.authority.file)),
            },
        )
        self.visitors: list[Visitor] = []

    def tearDown(self) -> Deferred[None]:  # type: ignore[override]  # trial waits for it
        def end() -> None:
            for visitor in self.visitors:
                visitor.stop()
            self.broker.kill()

        return deferToThread(end)

    def begin(self) -> None:
        self.broker.start()
        found = (re.search(r"listening: mqtt (\w+) .*:(\d+)$", line) for line in self.broker.output)
        self.ports = {one[1]: int(one[2]) for one in found if one}
        self.broker.made("/applications", {"kind": "mqtt", "id": "plant-7", "secret": "the secret of plant-7"})

    def visitor(self, certificate: Path | None, login: tuple[str, ...] = (), **more: Any) -> Visitor:
        visitor = Visitor(self.ports["wss" if more.get("web") else "tls"], certificate, login, **more)
        self.visitors.append(visitor)
        return visitor

    def test_who_gets_in(self) -> Deferred[None]:
        def run() -> None:
            self.begin()
            known = self.authority.sign("plant-7")
            secret = "the secret of plant-7"
            for certificate, login, expected in (
                (known, (), 0),
                (known, ("plant-7",), 0),
                (known, ("plant-7", "not even the secret"), 0),
                (known, ("plant-8", secret), REFUSED),
                (self.authority.sign("plant-8"), (), REFUSED),
                (self.authority.sign("plant-8"), ("plant-7", secret), REFUSED),
                (self.stranger.sign("plant-7"), (), None),
                # Without a usable name in a certificate it is the secret that counts, as ever.
                (None, ("plant-7", secret), 0),
                (None, ("plant-7", "wrong"), REFUSED),
                (None, ("plant-7",), REFUSED),
                (None, (), NOT_ALLOWED),
                (self.authority.sign("plant-7", "plant-8"), (), NOT_ALLOWED),
                (self.authority.sign("plant-7", "plant-8"), ("plant-7", secret), 0),
            ):
                for version in (MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5):
                    visitor = self.visitor(certificate, login, version=version)
                    self.assertEqual(visitor.connect(), expected, (login, version))
            self.assertEqual(self.visitor(known, web=True).connect(), 0)
            self.assertEqual([], [line for line in self.broker.output if "Traceback" in line])

        return deferToThread(run)

    def test_rights_and_their_end(self) -> Deferred[None]:
        def run() -> None:
            self.begin()
            device = self.broker.made("/devices", {"protocol": "novacloud"})["id"]
            known = self.authority.sign("plant-7")
            visitor = self.visitor(known)
            self.assertEqual(visitor.connect(), 0)
            self.assertEqual(visitor.subscribe(f"devices/{device}/up/data"), 128)
            self.assertIn(self.broker.call("PUT", f"/applications/plant-7/devices/{device}")[0], (200, 201, 204))
            self.assertEqual(visitor.subscribe(f"devices/{device}/presence"), 1)
            # A new secret is none of the certificate's business.
            self.assertEqual(self.broker.call("PATCH", "/applications/plant-7", {"secret": "another secret"})[0], 200)
            visitor.client.publish("devices", b"").is_published()
            self.assertEqual(visitor.subscribe("free"), 1)
            self.assertTrue(visitor.over.empty())
            self.assertEqual(self.broker.call("PATCH", "/applications/plant-7", {"disabled": True})[0], 200)
            eventually(lambda: not visitor.over.empty(), "it is closed")
            self.assertEqual(self.visitor(known).connect(), NOT_ALLOWED)
            self.assertEqual(self.broker.call("PATCH", "/applications/plant-7", {"disabled": False})[0], 200)
            self.assertEqual(self.visitor(known).connect(), 0)
            self.assertEqual(self.broker.call("DELETE", "/applications/plant-7")[0], 204)
            self.assertEqual(self.visitor(known).connect(), REFUSED)

        return deferToThread(run)
