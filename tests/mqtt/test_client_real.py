"""The MQTT client against Mosquitto: TLS with verification, passwords, client certificates, UNIX sockets, sessions."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from cryptography.x509.oid import ExtendedKeyUsageOID
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from broker.mqtt import packets as p
from broker.mqtt.client import Message, MqttClient
from broker.mqtt.client_endpoint import endpoint_of, parse_url
from tests.client_certificates import Authority
from tests.mosquitto import PATH, Mosquitto
from tests.real import eventually


class UrlTests(TestCase):
    def test_good_ones(self) -> None:
        for url, place in (
            ("mqtt://host", ("host", 1883, False, "")),
            ("mqtt://host:1884/", ("host", 1884, False, "")),
            ("mqtts://host.example", ("host.example", 8883, True, "")),
            ("mqtts://[::1]:8884", ("::1", 8884, True, "")),
            ("mqtt+unix:///run/a%20b.sock", ("", 0, False, "/run/a b.sock")),
        ):
            self.assertEqual(parse_url(url), place, url)

    def test_wrong_ones(self) -> None:
        for url, word in (
            ("host", "must be mqtt"),
            ("tcp://host", "must be mqtt"),
            ("mqtt://", "must be mqtt"),
            ("mqtt+unix://host/path", "must be mqtt"),
            ("mqtt+unix:///", "must be mqtt"),
            ("mqtt://host:port", "not a URL"),
            ("mqtt://host:99999", "not a URL"),
            ("mqtt://[::1", "not a URL"),
            ("mqtt://user:password@host", "without user name"),
            ("mqtt://host/path", "must end"),
            ("mqtt://host?x=y", "must end"),
        ):
            with self.assertRaises(ValueError) as caught:
                parse_url(url)
            self.assertIn(word, str(caught.exception), url)
            self.assertNotIn("password@", str(caught.exception))


class Case(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()

    async def server(self, *lines: str) -> Mosquitto:
        made = Mosquitto(self.folder, lines)
        await deferToThread(made.start)
        self.addCleanup(deferToThread, made.kill)
        return made

    def client(self, endpoint: Any, **fields: Any) -> tuple[MqttClient, Deferred[str], list[bytes]]:
        """A client that has been started, what it says first, and the payloads that it gets."""
        said: Deferred[str] = Deferred()
        got: list[bytes] = []

        def changed(what: str) -> None:
            if not said.called:
                said.callback(what)

        def received(message: Message) -> None:
            got.append(message.payload)
            message.acknowledge()

        given = {"client_id": "me", "on_change": changed, "on_message": received, **fields}
        client = MqttClient(reactor, endpoint, **given)
        client.start()
        self.addCleanup(client.stop)
        return client, said, got

    async def round_trip(self, endpoint: Any, **fields: Any) -> None:
        client, said, got = self.client(endpoint, **fields)
        self.assertEqual(await said, "connected")
        self.assertEqual(await client.subscribe("a/#", 1), 1)
        await client.publish("a/b", b"over there and back", 1)
        # The server answers in order: what comes back is before the acknowledgement of what is said after it.
        await client.publish("c", b"", 1)
        self.assertEqual(got, [b"over there and back"])


def takes_connections(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect_ex(str(path)) == 0


class PlainTests(Case):
    async def test_both_versions(self) -> None:
        server = await self.server("allow_anonymous true")
        endpoint = endpoint_of(reactor, f"mqtt://127.0.0.1:{server.port}")
        for number, version in enumerate((p.MQTT_3_1, p.MQTT_3_1_1, p.MQTT_5)):
            await self.round_trip(endpoint, version=version, client_id=f"me{number}")

    async def test_a_unix_socket(self) -> None:
        folder = Path(mkdtemp())  # the path of a socket is short
        self.addCleanup(shutil.rmtree, folder)
        path = folder / "mqtt.sock"
        await self.server("allow_anonymous true", f"listener 0 {path}")
        await deferToThread(eventually, lambda: takes_connections(path), f"a listener at {path}")
        await self.round_trip(endpoint_of(reactor, f"mqtt+unix://{path}"))

    async def test_nobody_listens_there(self) -> None:
        server = await self.server("allow_anonymous true")
        server.kill()
        _, said, _ = self.client(endpoint_of(reactor, f"mqtt://127.0.0.1:{server.port}"))
        self.assertIn("refused", await said)

    async def test_a_session_outlives_the_connection(self) -> None:
        server = await self.server("allow_anonymous true")
        endpoint = endpoint_of(reactor, f"mqtt://127.0.0.1:{server.port}")
        for number, more in enumerate(({}, {"version": p.MQTT_5, "session_expiry": 600})):
            kept: dict[str, Any] = {"client_id": f"me{number}", "clean": False, **more}
            client, said, got = self.client(endpoint, **kept)
            await said
            await client.subscribe("a", 1)
            await client.stop()
            other, said, _ = self.client(endpoint, client_id="other")
            await said
            await other.publish("a", b"while you were away", 1)
            again, said, got = self.client(endpoint, **kept)
            await said
            await again.publish("c", b"", 1)
            self.assertEqual(got, [b"while you were away"])
            await again.stop()
            await other.stop()

    async def test_what_is_too_long_is_left_out_by_servers_of_5(self) -> None:
        server = await self.server("allow_anonymous true")
        endpoint = endpoint_of(reactor, f"mqtt://127.0.0.1:{server.port}")
        client, said, got = self.client(endpoint, version=p.MQTT_5, max_packet=1_000)
        await said
        await client.subscribe("a", 1)
        for payload in (bytes(2_000), b"short"):
            await client.publish("a", payload, 1)
        await client.publish("c", b"", 1)
        self.assertEqual(got, [b"short"])
        self.assertTrue(client.connected)


class TlsTests(Case):
    async def secure(self, *lines: str, host: str = "127.0.0.1") -> tuple[Mosquitto, Authority]:
        authority = Authority(self.folder / "ca", "authority")
        server = authority.sign("server", use=ExtendedKeyUsageOID.SERVER_AUTH, hosts=[host])
        files = (f"cafile {authority.file}", f"certfile {server}", f"keyfile {server}")
        return await self.server(*files, *lines), authority

    async def test_the_certificate_is_checked(self) -> None:
        server, authority = await self.secure("allow_anonymous true")
        url = f"mqtts://127.0.0.1:{server.port}"
        await self.round_trip(endpoint_of(reactor, url, str(authority.file)))
        stranger = Authority(self.folder / "other", "stranger")
        for ca in (str(stranger.file), ""):
            _, said, _ = self.client(endpoint_of(reactor, url, ca), client_id="other")
            self.assertIn("certificate verify failed", await said)

    async def test_the_name_is_checked(self) -> None:
        server, authority = await self.secure("allow_anonymous true", host="elsewhere.example")
        _, said, _ = self.client(endpoint_of(reactor, f"mqtts://127.0.0.1:{server.port}", str(authority.file)))
        self.assertIn("VerificationError", await said)

    async def test_our_own_certificate(self) -> None:
        server, authority = await self.secure("require_certificate true", "use_identity_as_username true")
        mine = str(authority.sign("me"))
        url = f"mqtts://127.0.0.1:{server.port}"
        await self.round_trip(endpoint_of(reactor, url, str(authority.file), mine))
        _, said, _ = self.client(endpoint_of(reactor, url, str(authority.file)), client_id="other")
        self.assertNotEqual(await said, "connected")

    async def test_passwords(self) -> None:
        passwords = self.folder / "passwords"
        passwords.write_text("app:secret\n")
        tool = shutil.which("mosquitto_passwd", path=PATH)
        assert tool is not None
        await deferToThread(subprocess.run, [tool, "-U", str(passwords)], check=True, timeout=30)
        server, authority = await self.secure(f"password_file {passwords}")
        endpoint = endpoint_of(reactor, f"mqtts://127.0.0.1:{server.port}", str(authority.file))
        for number, version in enumerate((p.MQTT_3_1_1, p.MQTT_5)):
            right = {"user": "app", "password": "secret", "version": version, "client_id": f"me{number}"}
            await self.round_trip(endpoint, **right)
            _, said, _ = self.client(endpoint, **{**right, "password": "wrong", "client_id": f"other{number}"})
            what = await said
            self.assertIn("not authorized", what)
            self.assertNotIn("wrong", what)
