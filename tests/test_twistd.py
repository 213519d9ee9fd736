"""The real twistd process: start, signals, refusals, the daemon, the .tac file, and a protocol of somebody else.

Each test runs children of its own in a folder of its own, with every port free to choose. A protocol that a third
party would bring ("echo") is laid beside them as a plugin file, so these tests do not depend on any real protocol.
"""

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import ProcessProtocol, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from broker.tap import found_protocols

ROOT = Path(__file__).resolve().parent.parent
reactor: Any = default_reactor

PLUGIN = """
from broker.listening.plugin import ProtocolPlugin

echo = ProtocolPlugin("echo", "says everything twice", "echo_side")
"""

SIDE = """
from broker.listening.connection import Connection
from broker.listening.listener import Listener
from broker.listening.settings import ListenerSettings


class Settings(ListenerSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    bind: tuple[str, ...] = ("tcp:0:interface=127.0.0.1", "tls:0:interface=127.0.0.1")
    stubborn: bool = False


class EchoConnection(Connection):
    def received(self, data: bytes) -> None:
        if data == b"fault":
            raise KeyError("fault")
        self.send(data)

    def shut_down(self) -> None:
        if not self.home.stubborn:
            super().shut_down()


class EchoListener(Listener):
    stubborn = False

    def connection_for(self, addr):
        return EchoConnection(self, addr.host, addr.port)


def build(core, settings):
    listener = EchoListener("echo", settings.limits, core.turn, core.reactor, core.clock, core.monotonic)
    listener.stubborn = settings.stubborn
    return listener
"""


def kind_of(protocol: str) -> str:
    """How a protocol listens."""
    return "udp" if protocol == "lorawan" else "tcp"


class Child(ProcessProtocol):
    """A child process; ``lines`` is what it has written, ``ended`` fires with its exit status (minus a signal)."""

    def __init__(self) -> None:
        self.out = b""
        self.err = b""
        self.ended: Deferred[int] = Deferred()
        self.running = True

    def outReceived(self, data: bytes) -> None:
        self.out += data

    def errReceived(self, data: bytes) -> None:
        self.err += data

    def processExited(self, reason: Failure) -> None:
        """`processEnded` follows, when the output is complete."""

    def processEnded(self, reason: Failure) -> None:
        self.running = False
        error: Any = reason.value
        self.ended.callback(int(-error.signal if error.signal else error.exitCode))

    @property
    def lines(self) -> list[str]:
        return self.out.decode().splitlines()

    @property
    def pid(self) -> int:
        assert self.transport is not None and self.transport.pid is not None
        return int(self.transport.pid)

    def send_signal(self, number: int) -> None:
        assert self.transport is not None
        self.transport.signalProcess(number)


class Client(Protocol):
    def __init__(self) -> None:
        self.heard = b""
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class TwistdCase(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.home = Path(self.mktemp()).absolute()
        plugins = self.home / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        (plugins / "echo_plugin.py").write_text(PLUGIN)
        (self.home / "echo_side.py").write_text(SIDE)

    def environment(self, **more: str) -> dict[str, str]:
        """With every built-in protocol on a free port of loopback."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BROKER_", "PYTHON"))}
        path = os.pathsep.join([str(self.home), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        binds = {
            f"BROKER__LISTENERS__{name.upper()}__BIND": f'["{kind_of(name)}:0:interface=127.0.0.1"]'
            for name in found_protocols()
        }
        return {**kept, **binds, "PYTHONPATH": path, **more}

    def spawn(self, *arguments: str, **environment: str) -> Child:
        child = Child()
        program = "from twisted.scripts.twistd import run; import sys; sys.argv[0] = 'twistd'; run()"
        command = [sys.executable, "-c", program, *arguments]
        reactor.spawnProcess(child, sys.executable, command, self.environment(**environment), str(self.home))
        self.addCleanup(self.put_down, child)
        return child

    async def put_down(self, child: Child) -> None:
        if child.running:
            child.send_signal(signal.SIGKILL)
            await self.until(lambda: not child.running)

    async def until(self, condition: Callable[[], Any]) -> Any:
        """What the condition gives once it is true; the test's time-out ends a wait for what never comes."""
        while not (found := condition()):
            await deferLater(reactor, 0.02)
        return found

    async def line(self, child: Child, pattern: str) -> re.Match[str]:
        """The first line with the pattern, or a failure when the child ends without it."""

        def look() -> re.Match[str] | None:
            for line in child.lines:
                found = re.search(pattern, line)
                if found is not None:
                    return found
            if not child.running:
                self.fail(f"no {pattern!r} in:\n{child.out.decode()}{child.err.decode()}")
            return None

        found: re.Match[str] = await self.until(look)
        return found

    async def broker(self, *arguments: str, **environment: str) -> Child:
        """A broker that has started."""
        child = self.spawn("-n", *arguments, "broker", **environment)
        await self.line(child, "started: ")
        return child

    async def connect(self, child: Child) -> Client:
        port = await self.line(child, r"listening: echo tcp 127\.0\.0\.1:(\d+)")
        client = Client()
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", int(port[1])), client)
        assert client.transport is not None
        client.transport.write(b"hello")
        await self.until(lambda: client.heard)
        return client


class ForegroundTests(TwistdCase):
    async def test_starts_says_where_and_stops_cleanly(self) -> None:
        config = self.home / "empty.toml"
        config.write_text("")
        child = self.spawn("-n", "broker", "--config", str(config))
        await self.line(child, "started: version ")
        for name in found_protocols():
            await self.line(child, rf"listening: {name} {kind_of(name)} 127\.0\.0\.1:\d+$")
        await self.line(child, r"listening: echo tls 127\.0\.0\.1:\d+$")
        token_file = await self.line(child, r"admin token: in the file (.*)")
        self.assertEqual(token_file[1], str(self.home / "var" / "admin.token"))
        token = Path(token_file[1]).read_text().strip()
        client = await self.connect(child)
        child.send_signal(signal.SIGTERM)
        self.assertEqual(await child.ended, 0)
        await client.lost
        await self.line(child, "broker.service: stopped")
        self.assertNotIn(token, child.out.decode())
        self.assertNotIn("Traceback", child.out.decode() + child.err.decode())
        self.assertFalse((self.home / "twistd.pid").exists())

    async def test_ctrl_c(self) -> None:
        child = await self.broker()
        child.send_signal(signal.SIGINT)
        self.assertEqual(await child.ended, 0)

    async def test_a_second_signal_cuts_connections(self) -> None:
        child = await self.broker(BROKER__LISTENERS__ECHO__STUBBORN="true")
        client = await self.connect(child)
        child.send_signal(signal.SIGTERM)
        port = (await self.line(child, r"listening: echo tcp 127\.0\.0\.1:(\d+)"))[1]

        def refused() -> bool:
            try:
                socket.create_connection(("127.0.0.1", int(port)), timeout=5).close()
            except ConnectionRefusedError:
                return True
            return False

        await self.until(refused)
        self.assertFalse(client.lost.called)
        child.send_signal(signal.SIGTERM)
        self.assertEqual(await child.ended, 0)

    async def test_starts_again_on_what_it_left(self) -> None:
        for _ in range(2):
            child = await self.broker()
            child.send_signal(signal.SIGTERM)
            self.assertEqual(await child.ended, 0)

    async def test_after_a_kill(self) -> None:
        child = await self.broker("--pidfile=")
        child.send_signal(signal.SIGKILL)
        self.assertEqual(await child.ended, -signal.SIGKILL)
        await self.broker("--pidfile=")

    async def test_open_files(self) -> None:
        child = await self.broker()
        soft, hard = Path(f"/proc/{child.pid}/limits").read_text().split("Max open files")[1].split()[:2]
        self.assertEqual(soft, hard)

    async def test_hang_up_reloads(self) -> None:
        config = self.home / "broker.toml"
        config.write_text("")
        child = self.spawn("-n", "broker", "-c", str(config))
        await self.line(child, "started: ")
        config.write_text('[broker]\nname = "n2"')
        child.send_signal(signal.SIGHUP)
        await self.line(child, "reloaded: .* needs a restart: broker.name$")
        config.write_text("[broker]\nname = 2")
        child.send_signal(signal.SIGHUP)
        await self.line(child, r"not reloaded, everything stays as it was: .*broker.name = 2: must be a string")

    async def test_a_fault_is_logged_once_and_the_broker_goes_on(self) -> None:
        child = await self.broker()
        client = await self.connect(child)
        assert client.transport is not None
        client.transport.write(b"fault")
        await client.lost
        await self.line(child, "^\t.*KeyError")
        await self.connect(child)

    async def test_json_lines(self) -> None:
        child = await self.broker(BROKER__LOG__FORMAT="json")
        child.send_signal(signal.SIGTERM)
        await child.ended
        events = [json.loads(line) for line in child.lines]
        self.assertIn("stopped", [event["message"] for event in events])
        self.assertEqual({frozenset(event) for event in events}, {frozenset(["time", "level", "namespace", "message"])})

    async def test_log_file(self) -> None:
        child = self.spawn("-n", "--logfile=here.log", "broker")
        file = self.home / "here.log"
        await self.until(lambda: file.exists() and "started: " in file.read_text())
        self.assertEqual(child.out, b"")

    async def test_the_tac_file(self) -> None:
        child = self.spawn("-ny", str(ROOT / "broker.tac"))
        await self.line(child, r"Z info broker.service: started: ")
        child.send_signal(signal.SIGTERM)
        self.assertEqual(await child.ended, 0)

    async def test_our_own_reactor_unless_told_otherwise(self) -> None:
        child = await self.broker()
        await self.line(child, "reactor class: broker.reactor.BrokerReactor")

    async def test_another_reactor(self) -> None:
        child = await self.broker("--reactor=poll")
        await self.line(child, "reactor class: twisted.internet.pollreactor.PollReactor")


class HelpTests(TwistdCase):
    async def test_lists_the_protocols_and_touches_nothing(self) -> None:
        child = self.spawn("broker", "--help")
        self.assertEqual(await child.ended, 0)
        for name, protocol in found_protocols().items():
            self.assertIn(f"  {name:<12} {protocol.description}", child.lines)
        self.assertIn("  echo         says everything twice", child.lines)
        left = {path.name for path in self.home.iterdir()} - {"twisted", "echo_side.py", "__pycache__"}
        self.assertEqual(left, set())


class RefusalTests(TwistdCase):
    """One line, exit status 1, and nothing left behind."""

    async def refusal(self, *arguments: str, **environment: str) -> str:
        """What a child says that cannot start."""
        child = self.spawn("-n", "--pidfile=", *arguments, **environment)
        self.assertEqual(await child.ended, 1)
        said = child.out.decode() + child.err.decode()
        self.assertNotIn("Traceback", said)
        complaints = [line for line in said.splitlines() if "broker: " in line or "cannot start" in line]
        self.assertEqual(len(complaints), 1, said)
        return complaints[0]

    async def test_a_wrong_configuration_is_the_only_line(self) -> None:
        (self.home / "bad.toml").write_text("[broker]\nname = 3")
        for arguments in (("broker", "-c", "bad.toml"), ("-y", str(ROOT / "broker.tac"))):
            child = self.spawn("-n", *arguments, BROKER_CONFIG="bad.toml")
            self.assertEqual(await child.ended, 1)
            said = "broker: bad.toml: broker.name = 3: must be a string that matches ^[A-Za-z0-9._-]{1,64}$\n"
            self.assertEqual((child.out.decode(), child.err.decode()), ("", said))
        self.assertFalse((self.home / "var").exists())

    async def test_a_wrong_variable(self) -> None:
        line = await self.refusal("broker", BROKER__LIMITS__MAX_CONNECTIONS="none")
        self.assertEqual(
            line,
            "broker: environment variable BROKER__LIMITS__MAX_CONNECTIONS = none: must be a whole number of at least 1",
        )

    async def test_a_file_that_is_not_there(self) -> None:
        line = await self.refusal("broker", "--config", "none.toml")
        self.assertEqual(line, "broker: none.toml: cannot be read: No such file or directory")

    async def test_the_data_folder_is_in_use(self) -> None:
        child = await self.broker()
        line = await self.refusal("broker")
        expected = f"broker: the data folder {self.home}/var is in use by another broker, process {child.pid}"
        self.assertTrue(line.endswith(expected), line)

    async def test_the_port_is_in_use(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            bind = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
            line = await self.refusal("broker", BROKER__LISTENERS__ECHO__BIND=f'["{bind}"]')
        expected = f'broker: listeners.echo.bind = "{bind}": cannot listen: Address already in use'
        self.assertIn(expected, line)

    async def test_the_database_cannot_be_opened(self) -> None:
        line = await self.refusal("broker", BROKER__STORAGE__URL=f"sqlite:{self.home}")
        self.assertIn("critical broker.service: cannot start: ", line)


class DaemonTests(TwistdCase):
    def put_daemon_down(self) -> None:
        file = self.home / "twistd.pid"
        if file.exists():
            os.kill(int(file.read_text()), signal.SIGKILL)

    async def test_pid_file_log_and_stop(self) -> None:
        self.addCleanup(self.put_daemon_down)
        parent = self.spawn("broker")
        self.assertEqual(await parent.ended, 0)
        self.assertEqual(parent.out + parent.err, b"")
        log, pid_file = self.home / "twistd.log", self.home / "twistd.pid"
        await self.until(lambda: log.exists() and "started: " in log.read_text())
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
        await self.until(lambda: not pid_file.exists())
        self.assertIn("broker.service: stopped", log.read_text())
        self.assertNotIn("Traceback", log.read_text())

    async def test_the_parent_hears_of_a_failed_start(self) -> None:
        self.addCleanup(self.put_daemon_down)
        with socket.create_server(("127.0.0.1", 0)) as other:
            bind = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
            parent = self.spawn("broker", BROKER__LISTENERS__ECHO__BIND=f'["{bind}"]')
            self.assertEqual(await parent.ended, 1)
        self.assertIn(b"listeners.echo.bind", parent.err)
        await self.until(lambda: not (self.home / "twistd.pid").exists())
        log = (self.home / "twistd.log").read_text()
        self.assertIn("cannot listen: Address already in use", log)
        self.assertNotIn("Traceback", log)
