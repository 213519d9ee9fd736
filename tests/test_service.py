"""The broker's life in one process: start, reload, stop, and every way in which a start can fail. Real sockets."""

import os
import resource
import socket
from collections.abc import Sequence
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

from cryptography.x509.oid import ExtendedKeyUsageOID
from twisted.application import service
from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from broker import pulse as pulse_module
from broker import service as service_module
from broker.config import Config, ConfigError, load
from broker.core import Core
from broker.faults import Faults
from broker.listening.connection import Connection
from broker.listening.listener import Listener
from broker.listening.settings import ListenerSettings
from broker.logs import Lines
from broker.model.errors import Invalid
from broker.process import raise_open_files_limit
from broker.service import BrokerService, StartFailed
from broker.settings.tables import LogTable
from broker.tls import self_signed
from tests.client_certificates import Authority
from tests.log_lines import LogLines

reactor: Any = default_reactor


class EchoSettings(ListenerSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    bind: tuple[str, ...] = ("tcp:0:interface=127.0.0.1",)
    colour: str = "red"


class EchoConnection(Connection):
    def received(self, data: bytes) -> None:
        self.account(1)
        self.send(data)

    def goodbye(self, reason: str) -> bytes:
        return f"bye: {reason}".encode()


class EchoListener(Listener):
    ticks = 0

    def connection_for(self, addr: Any) -> Connection:
        return EchoConnection(self, addr.host, addr.port)

    def tick(self) -> None:
        self.ticks += 1
        super().tick()


class EchoSide:
    """A protocol as a plugin loads it."""

    Settings = EchoSettings

    def __init__(self) -> None:
        self.built: list[tuple[Core, EchoSettings]] = []
        self.error: Exception | None = None

    def build(self, core: Core, settings: EchoSettings) -> EchoListener:
        if self.error is not None:
            raise self.error
        self.built.append((core, settings))
        return EchoListener("echo", settings.limits, core.turn, core.reactor, core.clock, core.monotonic)


class Client(Protocol):
    def __init__(self) -> None:
        self.heard = b""
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class ServiceCase(TestCase):
    def setUp(self) -> None:
        self.side = EchoSide()
        self.data_dir = Path(self.mktemp()).absolute()
        self.failed = 0
        self.heard = LogLines(self)

    @property
    def log(self) -> list[str]:
        return self.heard.lines

    def config(self, text: str = "") -> Config:
        path = Path(self.mktemp())
        path.write_text(text)
        return load(str(path), {"BROKER__BROKER__DATA_DIR": str(self.data_dir)}, {"echo": self.side})

    def service(self, text: str = "", **arguments: Any) -> BrokerService:
        """Not started; stopped when the test ends."""
        made = BrokerService(self.config(text), {"echo": self.side}, reactor, on_failure=self._failed, **arguments)
        self.addCleanup(made.stopService)
        return made

    def _failed(self) -> None:
        self.failed += 1

    async def started(self, text: str = "", **arguments: Any) -> BrokerService:
        made = self.service(text, **arguments)
        made.startService()
        await self.until(lambda: self.failed or not made.problems())
        return made

    async def until(self, condition: Any) -> None:
        """Trial's own time-out ends a wait for what never comes."""
        while not condition():
            await deferLater(reactor, 0.01)

    async def connect(self, made: BrokerService) -> Client:
        client = Client()
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port(made)), client)
        await self.until(lambda: made.served[0].connection_count)
        return client

    async def kinds(self, made: BrokerService) -> list[str]:
        """Of the events, the newest first."""
        assert made.core is not None and made.core.events.journal is not None
        await made.core.events.settled()
        found, _ = await made.core.events.journal.page(100, lambda event: True, None, None)
        return [event.kind for event in found]

    def port(self, made: BrokerService) -> int:
        address: Any = made.served[0].ports[0].getHost()
        return int(address.port)


class StartTests(ServiceCase):
    async def test_what_stands_afterwards(self) -> None:
        made = await self.started('[broker]\nname = "n7"\n[commands]\nmax_queued = 3\ndefault_expires = 9')
        (core, settings), *others = self.side.built
        self.assertEqual((others, settings), ([], made.config.listeners["echo"]))
        self.assertIs(core, made.core)
        self.assertEqual(list(core.listeners), ["echo"])
        self.assertEqual((core.name, core.commands.max_queued, core.default_expires), ("n7", 3, 9.0))
        self.assertEqual(core.ready(), [])
        self.assertIn(b'broker_connections{listener="echo"} 0.0', core.exposition())
        self.assertEqual(core.summary["listeners"], {"echo": {"bind": ["tcp:0:interface=127.0.0.1"]}})
        self.assertEqual(self.data_dir.stat().st_mode & 0o777, 0o700)

    async def test_files_and_quarantine_are_there_after_a_restart(self) -> None:
        made = await self.started("[storage]\nmax_quarantined = 2")
        core = made.core
        assert core is not None
        writer = core.files.create("uploads", "f")
        writer.write(b"content")
        info = await writer.finish()
        self.assertEqual(core.files.path(info).parent, self.data_dir / "files" / "uploads")
        core.files.create("uploads", "unfinished").write(b"half")
        for id in "ABC":
            core.quarantine.seen("echo", id, "192.0.2.1")
        await made.stopService()
        self.assertEqual(core.files.writers, set())
        core = (await self.started()).core
        assert core is not None
        self.assertEqual([one.name for one in await core.files.list("uploads")], ["f"])
        self.assertEqual([entry.id for entry in await core.quarantine.list()], ["B", "C"])

    async def test_what_was_seen_is_written_every_second(self) -> None:
        self.patch(pulse_module, "QUARANTINE_TICK", 0.01)
        core = (await self.started()).core
        assert core is not None
        core.quarantine.seen("echo", "A", "192.0.2.1")
        while not await core.storage.list_records("quarantine"):
            await deferLater(reactor, 0.01)

    async def test_a_folder_of_files_that_cannot_be_used(self) -> None:
        self.data_dir.mkdir()
        (self.data_dir / "files").write_text("")
        await self.started()
        self.assertEqual(self.failed, 1)
        self.assertIn("cannot use the folder", "".join(self.log))

    async def test_the_administrator(self) -> None:
        made = await self.started()
        token = (self.data_dir / "admin.token").read_text().strip()
        core = made.core
        assert core is not None
        self.assertTrue(core.is_admin(token))
        self.assertFalse(core.is_admin(token + "x"))
        self.assertFalse(core.is_admin(""))
        self.assertFalse(core.is_admin("\ud800"))
        self.assertNotIn(token, repr(core))
        self.assertIn(f"admin token: in the file {self.data_dir}/admin.token", self.log)
        self.assertEqual([line for line in self.log if token in line], [])

    async def test_a_configured_token(self) -> None:
        made = await self.started('[broker]\nadmin_token = "hush-hush"')
        assert made.core is not None
        self.assertTrue(made.core.is_admin("hush-hush"))
        self.assertFalse((self.data_dir / "admin.token").exists())
        self.assertEqual([line for line in self.log if "hush" in line], [])

    async def test_it_says_where_it_listens(self) -> None:
        made = await self.started()
        port = self.port(made)
        self.assertIn(f"listening: echo tcp 127.0.0.1:{port}", self.log)

    async def test_it_says_what_has_no_effect(self) -> None:
        await self.started('[listeners.echo]\nbind = ["ws:0"]')
        self.assertIn("not served: echo has nothing for ws:0", self.log)

    async def test_a_listener_that_is_switched_off_is_built_all_the_same(self) -> None:
        made = await self.started("[listeners.echo]\nbind = []")
        self.assertEqual((len(self.side.built), made.served[0].ports), (1, []))

    async def test_messages_go_through_and_ticks_come(self) -> None:
        made = await self.started()
        client = await self.connect(made)
        assert client.transport is not None
        client.transport.write(b"hello")
        await self.until(lambda: client.heard)
        self.assertEqual(client.heard, b"hello")
        await self.until(lambda: made.served[0].listener.ticks)

    def test_open_files(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        raise_open_files_limit()
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), (hard, hard))


class FailedStartTests(ServiceCase):
    def refusal(self, made: BrokerService) -> str:
        """The line, in the way twistd and Python hear of it."""
        error = self.assertRaises(StartFailed, made.startService)
        self.assertIsInstance(error, Exception)
        self.assertIsInstance(error, SystemExit)
        self.assertNotIn("\n", str(error.code))
        return str(error.code)

    async def test_the_data_folder_is_in_use(self) -> None:
        await self.started()
        self.assertEqual(
            self.refusal(self.service()),
            f"broker: the data folder {self.data_dir} is in use by another broker, process {os.getpid()}",
        )

    def test_the_port_is_in_use(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            bind = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
            line = self.refusal(self.service(f'[listeners.echo]\nbind = ["tcp:0", "{bind}"]'))
        expected = f'broker: listeners.echo.bind = "{bind}": cannot listen: Address already in use (by another broker, '
        self.assertTrue(line.startswith(expected), line)

    def test_the_certificate_cannot_be_read(self) -> None:
        line = self.refusal(self.service('[tls]\ncertificate = "/none"\nprivate_key = "/none"'))
        self.assertEqual(line, "broker: [tls]: /none: cannot be read: No such file or directory")

    async def test_a_failed_start_holds_nothing(self) -> None:
        self.refusal(self.service('[tls]\ncertificate = "/none"\nprivate_key = "/none"'))
        await self.started()
        self.assertEqual(self.failed, 0)

    async def test_storage_cannot_be_opened(self) -> None:
        made = await self.started(f'[storage]\nurl = "sqlite:{self.data_dir.parent}"')
        self.assertEqual((self.failed, self.side.built), (1, []))
        (line,) = [line for line in self.log if line.startswith("cannot start: ")]
        self.assertNotIn("\n", line)
        await made.stopService()
        self.assertTrue(made.problems())

    async def test_a_protocol_does_not_like_its_settings(self) -> None:
        self.side.error = Invalid("red and blue do not go together")
        await self.started()
        self.assertEqual(self.failed, 1)
        self.assertIn("cannot start: red and blue do not go together", self.log)

    async def test_a_fault_of_a_protocol(self) -> None:
        self.side.error = KeyError("ours")
        await self.started()
        self.assertEqual(self.failed, 1)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)


class StopTests(ServiceCase):
    async def test_open_connections_hear_of_it(self) -> None:
        made = await self.started()
        client = await self.connect(made)
        port = self.port(made)
        stopped = made.stopService()
        self.assertEqual(made.problems(), ["stopping"])
        await client.lost
        await stopped
        self.assertEqual(client.heard, b"bye: shutdown")
        self.assertEqual(self.log[-1], "stopped")
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)

    async def test_connections_that_do_not_end_are_cut(self) -> None:
        self.patch(service_module, "STOP_GRACE", 0.1)
        await self.stop_a_stubborn_one(lambda made: None)

    async def test_a_second_signal_does_not_wait(self) -> None:
        self.patch(service_module, "STOP_GRACE", 1e9)
        await self.stop_a_stubborn_one(lambda made: made.hurry())

    async def stop_a_stubborn_one(self, then: Any) -> None:
        made = await self.started()
        client = await self.connect(made)
        self.patch(EchoConnection, "shut_down", lambda self: None)
        stopped = made.stopService()
        then(made)
        await stopped
        await client.lost

    async def test_while_it_starts(self) -> None:
        made = self.service()
        made.startService()
        await made.stopService()
        self.assertEqual(self.log[-1], "stopped")

    async def test_what_was_never_started(self) -> None:
        await self.service().stopService()

    async def test_twice_in_a_row(self) -> None:
        for _ in range(2):
            made = await self.started()
            await made.stopService()
        self.assertEqual(self.failed, 0)


class ReloadTests(ServiceCase):
    """SIGHUP."""

    def rereading(self, answers: Sequence[Any]) -> Any:
        left = list(answers)

        def reread() -> Config:
            answer = left.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return self.config(answer)

        return reread

    async def test_what_changes_at_once_and_what_does_not(self) -> None:
        text = """
            [broker]
            name = "other"
            [history]
            per_device = 5
            [commands]
            max_queued = 7
            max_open = 8
            default_expires = 9
            [limits]
            max_connections = 1
            [listeners.echo]
            bind = ["tcp:0:interface=127.0.0.2"]
            colour = "blue"
            [log]
            level = "error"
        """
        lines = Lines(StringIO(), LogTable())
        made = await self.started(reread=self.rereading([text]), lines=lines)
        made.reload()
        core = made.core
        assert core is not None
        self.assertEqual((core.commands.max_queued, core.commands.max_open, core.default_expires), (7, 8, 9.0))
        self.assertEqual(core.listeners["echo"].limits.max_connections, 1)
        self.assertIn(
            "reloaded: limits, log levels, certificate; needs a restart: broker.name, history.per_device, "
            "listeners.echo.bind, listeners.echo.colour",
            self.log,
        )

    async def test_a_wrong_file_changes_nothing(self) -> None:
        made = await self.started(reread=self.rereading([ConfigError("x = 1: no")]))
        before = made.config
        made.reload()
        self.assertIs(made.config, before)
        self.assertIn("not reloaded, everything stays as it was: x = 1: no", self.log)

    async def test_a_wrong_certificate_changes_nothing(self) -> None:
        good = self_signed(self.data_dir / "good")
        text = f'[tls]\ncertificate = "{good[0]}"\nprivate_key = "{good[1]}"\n'
        made = await self.started(text, reread=self.rereading([text + "[commands]\nmax_open = 5"]))
        good[0].write_text("nonsense")
        made.reload()
        assert made.core is not None
        self.assertEqual(made.core.commands.max_open, 100_000)
        self.assertEqual(len([line for line in self.log if line.startswith("not reloaded, ")]), 1)

    async def test_the_end_of_the_certificate_is_foretold(self) -> None:
        authority = Authority(self.data_dir / "ca", "ca")
        pem = authority.sign("broker", valid=timedelta(days=29), use=ExtendedKeyUsageOID.SERVER_AUTH)
        text = f'[tls]\ncertificate = "{pem}"\nprivate_key = "{pem}"\n'
        made = await self.started(text, reread=self.rereading([text]))

        def said() -> list[str]:
            return [line for line in self.log if line.startswith("the TLS certificate has to be renewed: it ends at ")]

        await self.until(said)
        self.assertIn(", in 29.0 days", said()[0])
        made.reload()
        self.assertEqual(len(said()), 2)
        self.assertEqual(await self.kinds(made), ["certificate_ends"])


class HealthTests(ServiceCase):
    async def test_what_storage_says_of_itself(self) -> None:
        made = await self.started()
        pulse: Any = made._pulse
        assert made.core is not None
        storage: Any = made.core.storage
        for answer, problems in (("disk full", ["disk full"]), ("", [])):
            self.patch(storage, "health", lambda answer=answer: succeed(answer))
            pulse._ticks = 0
            pulse._tick()
            self.assertEqual(made.problems(), problems)
        self.assertEqual(await self.kinds(made), ["storage_recovered", "storage_problem"])

    async def test_authorities_that_cannot_be_read(self) -> None:
        made = await self.started('events.webhook_ca = "/none"')
        self.assertEqual(self.failed, 1)
        self.assertTrue([line for line in self.log if line.startswith("cannot start: the authorities of [events]")])
        await made.stopService()


class ObserverTests(ServiceCase):
    def test_twistd_is_given_ours(self) -> None:
        lines = Lines(StringIO(), LogTable())
        application = service.Application("x")
        self.service(lines=lines).setServiceParent(application)
        self.assertIs(application.getComponent(ILogObserver), lines)

    def test_or_keeps_its_own(self) -> None:
        application = service.Application("x")
        self.service().setServiceParent(application)
        self.assertIsNone(application.getComponent(ILogObserver, None))


class FaultsTests(SynchronousTestCase):
    def test_a_few_in_full_and_the_others_counted(self) -> None:
        now = [0.0]
        faults = Faults(lambda: now[0])
        for _ in range(8):
            faults.report("uplink", KeyError("x"))
        faults.report("presence", KeyError("x"))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 6)
        heard = LogLines(self)
        now[0] = 61.0
        faults.report("uplink", KeyError("x"))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual(heard.lines[0], "3 more faults: uplink")
