"""Mosquitto as a child process on a free port of loopback, for tests that put a real MQTT broker in between."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.real import PATIENCE, eventually

#: Debian puts it into sbin, which is not on everybody's PATH.
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin"


def free_port() -> int:
    """One that nobody had a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Mosquitto:
    """``lines``: more of its configuration. `start` may be called again after `kill` or `stop`; the port stays."""

    def __init__(self, folder: Path, lines: Sequence[str] = ("allow_anonymous true",)) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        binary = shutil.which("mosquitto", path=PATH)
        assert binary is not None, "mosquitto is missing: sh tools/environment.sh test"
        self._binary = binary
        self._file = folder / "mosquitto.conf"
        self.log = folder / "mosquitto.log"
        self.port = free_port()
        user = ["user root"] if os.getuid() == 0 else []
        self._file.write_text("\n".join((f"listener {self.port} 127.0.0.1", *user, "log_type all", *lines)) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it takes connections."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([self._binary, "-c", str(self._file)], stdout=log, stderr=log)
        eventually(self._answers, f"mosquitto: {self.log.read_text()}")

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self.log.read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE).close()
        except ConnectionRefusedError:
            return False
        return True

    def kill(self) -> None:
        """kill -9: what it had only in memory is lost, sessions included."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=PATIENCE)
            self._process = None
