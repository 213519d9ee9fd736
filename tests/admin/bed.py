"""The command line in the tests' own process, with streams of its own; and a real broker for it to speak to."""

from __future__ import annotations

import atexit
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from broker.admin.cli import main
from tests.real import PATIENCE, RealBroker, eventually

ROOT = Path(__file__).resolve().parent.parent.parent


class Stream(io.TextIOWrapper):
    """A standard stream: text over bytes, a terminal or not."""

    def __init__(self, content: bytes = b"", terminal: bool = False) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8", write_through=True)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def text(self) -> str:
        self.flush()
        content: Any = self.buffer
        return bytes(content.getvalue()).decode("utf-8")


@dataclass
class Done:
    """What a command has said, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """The only JSON value on stdout."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def values(self) -> list[Any]:
        """Those on its lines."""
        return [json.loads(line) for line in self.out.splitlines()]


@contextmanager
def environment(**changes: str) -> Iterator[None]:
    """Without the variables that the command line looks at, but for these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_ADMIN_")}
    with mock.patch.dict(os.environ, {**kept, "COLUMNS": "200", **changes}, clear=True):
        yield


def run(
    *arguments: str, variables: Mapping[str, str] = MappingProxyType({}), stdin: str = "", terminal: bool = False
) -> Done:
    """One run of the command line; ``terminal``: all its streams are one."""
    out, err = Stream(terminal=terminal), Stream(terminal=terminal)
    given = Stream(stdin.encode(), terminal)
    with (
        environment(**variables),
        mock.patch.object(sys, "stdin", given),
        mock.patch.object(sys, "stdout", out),
        mock.patch.object(sys, "stderr", err),
    ):
        try:
            status = main(arguments)
        except SystemExit as end:  # argparse ends so
            status = int(end.code or 0)
        return Done(status, out.text(), err.text())


def call(variables: dict[str, str], *arguments: str) -> Done:
    """One run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "broker.admin", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=3 * PATIENCE,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


class BrokerCase(SynchronousTestCase):
    """A broker for all tests of a class, which use ids of their own; it ends with the tests' process."""

    settings: ClassVar[dict[str, str]] = {}
    broker: RealBroker

    def setUp(self) -> None:
        kind = type(self)
        if "broker" not in vars(kind):  # trial knows no setUpClass
            broker = RealBroker(Path(tempfile.mkdtemp(dir=Path.cwd())), self.settings)
            broker.start()
            atexit.register(broker.kill)
            kind.broker = broker

    @property
    def variables(self) -> dict[str, str]:
        return {
            "BROKER_ADMIN_API": f"http://127.0.0.1:{self.broker.ports['http']}",
            "BROKER_ADMIN_TOKEN": self.broker.admin_token,
        }

    def admin(self, *arguments: str, status: int = 0, stdin: str = "", terminal: bool = False) -> Done:
        """A command that has to end with this status. Whatever it says is free of escapes, and no traceback."""
        done = run(*arguments, stdin=stdin, terminal=terminal, variables=self.variables)
        self.assertEqual(done.status, status, done)
        self.assertNotIn("Traceback", done.err)
        if not terminal:
            self.assertNotIn("\x1b", done.out + done.err)
        if status == 1 and done.err:
            self.assertTrue(done.err.splitlines()[-1].strip(), done.err)
        return done

    def json(self, *arguments: str, status: int = 0, stdin: str = "") -> Any:
        """The one JSON value that a command answers."""
        return self.admin(*arguments, "--json", status=status, stdin=stdin).value

    def items(self, *arguments: str) -> list[Any]:
        """What a list answers, a JSON value a line."""
        return self.admin(*arguments, "--json").values

    def device(self, name: str = "", **fields: Any) -> tuple[str, str]:
        """A NovaCloud device: id and secret."""
        made = self.broker.made("/devices", {"protocol": "novacloud", "name": name, **fields})
        return made["id"], made["secret"]


class Device:
    """A NovaCloud device on a socket of its own, logged in."""

    def __init__(self, broker: RealBroker, id: str, secret: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", broker.ports["novacloud"]), timeout=PATIENCE)
        self._lines = self._socket.makefile("rb")
        self.say({"type": "auth", "payload": {"device_id": id, "device_key": secret}})
        assert json.loads(self._lines.readline())["payload"]["status"] == "success"
        eventually(lambda: broker.call("GET", f"/devices/{id}")[1]["online"], f"{id} is online")

    def say(self, message: Any) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def data(self, payload: Any) -> None:
        self.say({"type": "data", "payload": payload})

    def answer_command(self, payload: Any) -> Any:
        """Wait for a command and answer it; the command."""
        command = json.loads(self._lines.readline())
        self.say(
            {
                "type": "command_response",
                "command_id": command["command_id"],
                "status": "success",
                "payload": payload,
            }
        )
        return command

    def close(self) -> None:
        self._lines.close()
        self._socket.close()
