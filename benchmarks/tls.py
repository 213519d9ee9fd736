"""TLS by itself: handshakes, with and without a session to resume, and what a connection that is idle holds.

The same clients do it to the gateways' port and to ``openssl s_server``, which serves one connection at a time, and to
Mosquitto's TLS listener where many are open.
"""

from __future__ import annotations

import shutil
import socket
import ssl
import time
from pathlib import Path
from typing import Any

from benchmarks.children import BenchmarkError, Broker, Child, Mosquitto, NotInstalled, free_port
from benchmarks.gateways import client_context, open_gateway
from benchmarks.pairs import STALL, Load, read_exactly
from broker.mqtt import encode
from broker.mqtt import packets as p
from broker.tls import make_self_signed


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Of the kind that the broker makes for itself."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    for file, text in zip((certificate, key), make_self_signed("localhost"), strict=True):
        file.write_bytes(text)
    return certificate, key


class OpensslServer(Child):
    """``openssl s_server`` with a certificate of the same kind."""

    name = "s_server"
    speaks = "tls"

    def __init__(self) -> None:
        binary = shutil.which("openssl")
        if binary is None:
            raise NotInstalled("apt install openssl")
        super().__init__()
        self.tls_port = free_port()
        certificate, key = make_certificate(self.folder)
        command = [binary, "s_server", "-accept", f"127.0.0.1:{self.tls_port}", "-cert", str(certificate)]
        self.start([*command, "-key", str(key), "-rev"], self.tls_port)


class MosquittoTls(Mosquitto):
    """Mosquitto with a TLS listener."""

    name = "mosquitto"
    speaks = "tls-idle"

    def extra_lines(self) -> list[str]:
        self.tls_port = free_port()
        certificate, key = make_certificate(self.folder)
        return [f"listener {self.tls_port} 127.0.0.1", f"certfile {certificate}", f"keyfile {key}"]


class Handshakes:
    """Connections that shake hands and end; a message is one of these."""

    def __init__(self, server: Any, resumed: bool, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> None:
        self._port = server.gateway88_port if isinstance(server, Broker) else server.tls_port
        self._context = client_context(version)
        self._resumed = resumed

    def run(self, messages: int) -> Load:
        """Raises BenchmarkError when a session is resumed that should not be, or the other way round."""
        session: ssl.SSLSession | None = None
        latencies: list[float] = []
        started = time.perf_counter()
        for number in range(messages):
            began = time.perf_counter()
            plain = socket.create_connection(("127.0.0.1", self._port), STALL)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._context.wrap_socket(plain, session=session) as connection:
                if connection.session_reused is not (session is not None):
                    raise BenchmarkError(f"connection {number}: resumed is {connection.session_reused}")
                if self._resumed:
                    session = connection.session
            latencies.append(time.perf_counter() - began)
        return Load(messages, time.perf_counter() - started, latencies)

    def close(self) -> None:
        """Nothing is open."""


class IdleTls:
    """Connections over TLS that are known to the server and do nothing: gateways, or MQTT clients."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._context = client_context()
        self._open: list[ssl.SSLSocket] = []

    def run(self, messages: int) -> Load:
        """Open so many more, and leave them open."""
        server = self._server
        macs = server.add_gateways(messages) if isinstance(server, Broker) else []
        started = time.perf_counter()
        for number in range(messages):
            if macs:
                self._open.append(open_gateway(server, macs[number], self._context))
            else:
                self._open.append(self._open_client(len(self._open)))
        return Load(messages, time.perf_counter() - started)

    def _open_client(self, number: int) -> ssl.SSLSocket:
        server = self._server
        plain = socket.create_connection(("127.0.0.1", server.tls_port), STALL)
        client = self._context.wrap_socket(plain)
        login = p.Connect(f"idle{number}", clean=True, user=server.user, password=server.password.encode())
        client.sendall(encode.encode(login))
        if read_exactly(client, 4) != b"\x20\x02\x00\x00":
            raise BenchmarkError(f"{server.name} refused the login")
        return client

    def close(self) -> None:
        for connection in self._open:
            connection.close()


class HalfOpen:
    """Strangers who begin a TLS handshake and say no more; a message is one of them.

    Before the next run, and at the end, all of them have to be closed by the broker, and for that reason.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._hello = client_hello()
        self._open: list[socket.socket] = []
        self._closed = 0.0

    def run(self, messages: int) -> Load:
        """Raises BenchmarkError when the broker keeps one of them."""
        self._all_closed()
        started = time.perf_counter()
        for number in range(messages):
            stranger = socket.create_connection(("127.0.0.1", self._broker.gateway88_port), STALL)
            self._open.append(stranger)
            stranger.sendall(self._hello[: len(self._hello) // (1 + number % 2)])
        while self._broker.sample('broker_connections{listener="gateway88"}') < messages:
            time.sleep(0.05)
        return Load(messages, time.perf_counter() - started)

    def _all_closed(self) -> None:
        for stranger in self._open:
            stranger.settimeout(STALL * 3)
            try:
                while stranger.recv(65_536):
                    continue
            except ConnectionResetError:
                pass
            except TimeoutError:
                raise BenchmarkError("a handshake was left half open") from None
            stranger.close()
        expected = self._closed + len(self._open)
        self._closed = self._broker.sample(
            'broker_connections_closed_total{listener="gateway88",reason="handshake_timeout"}'
        )
        if self._closed != expected:
            raise BenchmarkError(f"closed for their handshake: {self._closed:.0f} of {expected:.0f}")
        self._open = []

    def close(self) -> None:
        try:
            self._all_closed()
        finally:
            for stranger in self._open:
                stranger.close()


def client_hello() -> bytes:
    """The first words of a TLS client."""
    out = ssl.MemoryBIO()
    client = client_context().wrap_bio(ssl.MemoryBIO(), out)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()
