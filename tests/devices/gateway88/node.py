"""The gateway of ``gateway.mjs`` as a child process; see there. Everything here blocks: use a thread."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

from tests.real import PATIENCE

SCRIPT = Path(__file__).resolve().parent / "gateway.mjs"


class NodeGateway:
    """Connected when it is made; ``container`` is of those that the script knows."""

    def __init__(self, port: int, mac: str, container: str = "zlib(base64)") -> None:
        node = shutil.which("node")
        assert node is not None, "Node.js is missing: sh tools/environment.sh test"
        self._process = subprocess.Popen(
            [node, str(SCRIPT), str(port), mac, container],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._said: queue.Queue[Any] = queue.Queue()
        self._other: list[str] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        self.expect("connected")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                self._said.put(json.loads(line))
            except ValueError:
                self._other.append(line)
        self._said.put(None)

    def _do(self, **request: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def expect(self, what: str) -> Any:
        """The next thing that happens; it has to be this one."""
        said = self._said.get(timeout=PATIENCE)
        if said is None:
            raise AssertionError("the gateway ended:\n" + "".join(self._other))
        assert what in said, (what, said)
        return said

    def push(self, message: dict[str, Any]) -> Any:
        """Send something and wait for what it is answered with."""
        self._do(do="push", message=message)
        return self.expect("answered")

    def on(self, kind: str, *answers: dict[str, Any] | None) -> None:
        self._do(do="on", type=kind, answers=answers)

    def raw(self, data: bytes) -> None:
        self._do(do="raw", hex=data.hex())

    def reconnect(self) -> bool:
        """Whether the session was resumed."""
        self._do(do="reconnect")
        return bool(self.expect("connected")["resumed"])

    def end(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)
        self._reading.join(PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
