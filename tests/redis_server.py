"""Redis as a child process on a free port of loopback and a Unix socket, for tests that store in a real one.

Nothing of it is a system service. By default it keeps what it has answered on disk (AOF, always), as the broker wants.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.mosquitto import free_port
from tests.real import PATIENCE, eventually

#: How a server is started: a file that was cut in a transaction is mended first.
START = Path(__file__).resolve().parent.parent / "deploy" / "redis.sh"
#: What every one of them begins with; a value of "" leaves the key out.
PLAIN: Mapping[str, str] = {
    "bind": "127.0.0.1",
    "save": '""',
    "appendonly": "yes",
    "appendfsync": "always",
    "auto-aof-rewrite-percentage": "0",
    "protected-mode": "no",
    "daemonize": "no",
}


class RedisServer:
    """``settings``: of redis.conf, over `PLAIN`. `start` may be called again after `kill` or `stop`; the port stays.

    ``mode``: "sentinel" for one of those.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None, mode: str = "server") -> None:
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        binary = shutil.which("redis-server")
        assert binary is not None, "redis-server is missing: sh tools/environment.sh test"
        plain = [binary, str(folder / "redis.conf")]
        self._arguments = [*plain, "--sentinel"] if mode == "sentinel" else ["sh", str(START), *plain]
        self.folder = folder
        self.log = folder / "redis.log"
        self.port = free_port()
        #: The path of a socket has to be short.
        self._short = Path(tempfile.mkdtemp(prefix="redis-"))
        self.socket = self._short / "socket"
        base = dict(PLAIN) if mode == "server" else {"bind": "127.0.0.1", "protected-mode": "no"}
        lines = {"port": str(self.port), "dir": str(folder), "unixsocket": str(self.socket), **base}
        self.settings = lines | dict(settings or {})
        self._write()
        self._process: subprocess.Popen[bytes] | None = None

    def _write(self) -> None:
        lines = [f"{key} {one}" for key, value in self.settings.items() if value for one in value.split("\n")]
        (self.folder / "redis.conf").write_text("\n".join(lines) + "\n")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, settings: Mapping[str, str] | None = None) -> None:
        """Start and wait until it has loaded its data. ``settings`` from here on."""
        if settings:
            self.settings |= settings
            self._write()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._arguments, stdout=log, stderr=log, cwd=self.folder)
        eventually(self._answers, f"redis-server: {self.log.read_text()}")

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self.log.read_text()
        try:
            return self.ask("PING").startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def ask(self, *arguments: str) -> bytes:
        """One command over a connection of its own; the answer as it came. Blocks."""
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(PATIENCE)
            one.connect(str(self.socket))
            one.sendall(b"*%d\r\n" % len(arguments))
            for text in arguments:
                one.sendall(b"$%d\r\n%s\r\n" % (len(text.encode()), text.encode()))
            return one.recv(65_536)

    def suspend(self) -> None:
        """SIGSTOP: connections stay, and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def remove(self) -> None:
        """Kill it and take its short folder away: for the end of a test."""
        self.kill()
        shutil.rmtree(self._short, ignore_errors=True)

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=PATIENCE)
            self._process = None


class SharedServer:
    """One server for all tests of a module: each test has a key prefix of its own. It ends with this process.

    ::

        SERVER = SharedServer()
        ... SERVER.get(self)       in a test
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self._settings = settings
        self._server: RedisServer | None = None
        self.used = 0

    def get(self) -> RedisServer:
        """It, started; after a test that killed it, again."""
        if self._server is None:
            import atexit

            self._server = RedisServer(Path(tempfile.mkdtemp(prefix="redis-data-")), self._settings)
            self._server.start()
            atexit.register(self._end)
        return self._server

    def _end(self) -> None:
        if self._server is not None:
            self._server.remove()
            shutil.rmtree(self._server.folder, ignore_errors=True)
            self._server = None

    def prefix(self) -> str:
        """A new one."""
        self.used += 1
        return f"t{os.getpid()}-{self.used}"
