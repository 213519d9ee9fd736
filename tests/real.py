"""The real broker as a child process, for tests that use it as its clients do. Everything here blocks: use a thread.

The ports are free ones of loopback, found in the lines that the broker prints.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from broker.simulate.process import broker_arguments, broker_environment, nothing_else

#: The URL of a Redis on which all of these brokers are to store, each under a prefix of its own: for whoever wants to
#: see tests pass on it that otherwise run on SQLite.
STORAGE = os.environ.get("TEST_STORAGE", "")

#: Seconds for anything to happen; nothing here takes a tenth of it.
PATIENCE = 30.0
#: The same for a start: several processes that start at once on a busy machine take their time.
START_PATIENCE = 120.0

LOOPBACK = '["tcp:0:interface=127.0.0.1"]'
LOOPBACK_UDP = '["udp:0:interface=127.0.0.1"]'


def eventually(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """What the condition gives once it is true."""
    until = time.monotonic() + patience
    while not (found := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"not within {patience} s: {what}")
        time.sleep(0.005)
    return found


class RealBroker:
    """``twistd -n broker`` with its data in ``folder``/var. `start` may be called again after `kill` or `stop`.

    ``arguments``: another command line that starts one.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, str] | None = None, arguments: list[str] | None = None
    ) -> None:
        self.folder = folder
        self.data_dir = folder / "var"
        self.settings = {
            "broker.data_dir": json.dumps(str(self.data_dir)),
            **{f"listeners.{name}.bind": LOOPBACK for name in ("http", "mqtt", "novacloud", "gservice", "loracenter")},
            "listeners.lorawan.bind": LOOPBACK_UDP,
            **(
                {"storage.url": STORAGE, "redis.prefix": sha256(str(folder).encode()).hexdigest()[:16]}
                if STORAGE
                else {}
            ),
            **(settings or {}),
        }
        #: Variables of the child's environment besides.
        self.environment: dict[str, str] = {}
        self.arguments = arguments or broker_arguments()
        self.output: list[str] = []
        self.ports: dict[str, int] = {}
        self.tls_ports: dict[str, int] = {}
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()
        #: It has ended at its start.
        self._ended = False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it says so."""
        self.ports = {}
        self._lines = queue.Queue()
        self._ended = False
        self._process = subprocess.Popen(
            self.arguments,
            cwd=self.folder,
            env=broker_environment(nothing_else(self.settings), {**os.environ, **self.environment}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, args=(self._process, self._lines), daemon=True).start()
        while True:
            line = self._lines.get(timeout=START_PATIENCE)
            if line is None:
                self._ended = True
                raise AssertionError("the broker ended:\n" + "\n".join(self.output))
            if found := re.search(r"listening: (\w+) (tcp|tls|udp) .*:(\d+)$", line):
                ports = self.tls_ports if found[2] == "tls" else self.ports
                ports[found[1]] = int(found[3])
            if "started: " in line:
                return

    def _read(self, process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.output.append(line.rstrip("\n"))
            lines.put(line.rstrip("\n"))
        lines.put(None)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        process = self._process
        if process is None:
            return 0
        process.send_signal(number)
        status = process.wait(timeout=PATIENCE)
        while not self._ended and self._lines.get(timeout=PATIENCE) is not None:
            pass
        assert process.stdout is not None
        process.stdout.close()
        self._process = None
        return status

    @property
    def admin_token(self) -> str:
        return (self.data_dir / "admin.token").read_text().strip()

    def call(self, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        """One call of the API: status and decoded answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["http"], timeout=PATIENCE)
        try:
            data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
            headers = {"Authorization": f"Bearer {token or self.admin_token}"}
            if data is not None:
                kind = "application/x-ndjson" if isinstance(body, bytes) else "application/json"
                headers["Content-Type"] = kind
            connection.request(method, "/api/v1" + path, data, headers)
            response = connection.getresponse()
            answer = response.read()
            return response.status, json.loads(answer) if answer else None
        finally:
            connection.close()

    def made(self, path: str, body: Any) -> Any:
        """A POST that must succeed."""
        status, answer = self.call("POST", path, body)
        assert status == 201, (status, answer)
        return answer
