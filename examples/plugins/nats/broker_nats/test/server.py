"""The real nats-server (Debian's package), and a subscriber with nothing but a socket. Everything here blocks."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from typing import Any, Final

PATIENCE: Final = 30.0
#: Servers are in sbin, which is not on everybody's path.
BINARY: Final = shutil.which("nats-server", path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class NatsServer:
    """At ``port``; `start` may be called again after `kill`."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert BINARY is not None, "apt install nats-server"
        command = [BINARY, "-a", "127.0.0.1", "-p", str(self.port), *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), PATIENCE):
                return
            assert time.monotonic() < until, "nats-server does not listen"
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9; harmless twice."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(PATIENCE)


class Subscriber:
    """NATS's client protocol by hand: ``INFO``, ``CONNECT``, ``SUB``, ``MSG``, ``PING``."""

    def __init__(self, port: int, subject: str = ">") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._lines = self._socket.makefile("rb")
        assert self._lines.readline().startswith(b"INFO ")
        self._socket.sendall(b'CONNECT {"verbose":false}\r\nSUB %b 1\r\nPING\r\n' % subject.encode())
        assert self._lines.readline() == b"PONG\r\n"

    def next(self) -> tuple[str, Any]:
        """Subject and decoded JSON of the next message."""
        while True:
            line = self._lines.readline()
            assert line, "closed"
            if line == b"PING\r\n":
                self._socket.sendall(b"PONG\r\n")
            elif line.startswith(b"MSG "):
                _, subject, _, size = line.split()
                data = self._lines.read(int(size) + 2)
                return subject.decode(), json.loads(data)

    def close(self) -> None:
        self._lines.close()
        self._socket.close()
