"""What gateways fetch and post: URLs, firmware, backups, retention. SQLite, real files, a real socket."""

from __future__ import annotations

import re
import time
from argparse import Namespace
from hashlib import md5, sha256
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec
from twisted.internet import reactor as global_reactor
from twisted.internet.address import IPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from broker.core import Core
from broker.devices.gateway88.backups import BACKUPS, backup_name, backups_of
from broker.devices.gateway88.files import FilesListener, Settings, build
from broker.devices.gateway88.files.urls import in_url
from broker.devices.gateway88.identity import DeviceRules
from broker.model.errors import Invalid, NotFound, Unavailable
from broker.model.messages import PENDING, TIMED_OUT, Command, DeviceRef, Reply
from broker.routing.commands import Commands
from broker.routing.live import LiveDevices
from broker.routing.outbox import Turn
from broker.routing.router import Router
from broker.routing.topic_index import TopicIndex
from broker.routing.values import LastValues
from broker.storage.files import UPLOADS, FileInfo, FileStore
from broker.storage.registry import Registry
from broker.storage.sqlite import SqliteStorage
from tests.web.site import WebCase

reactor: Any = global_reactor
MAC = "02123456789A"
OTHER = "020000000001"
IMAGE = bytes(range(256)) * 1_000


class Told:
    """The listener of gateways, as far as it is told of backups."""

    def __init__(self) -> None:
        self.operations = self
        self.updates: Any = None
        self.arrivals: list[tuple[str, dict[str, Any]]] = []
        self.begun: list[str] = []
        self.fetches: list[str] = []
        #: Orders that have reached their gateway, as it posts for them or fetches an image.
        self.known: list[str] = []

    def arrived(self, command: Command, result: dict[str, Any], now: float) -> None:
        self.arrivals.append((command.id, result))

    def fetched_somewhere(self, command: Command, whole: bool | None) -> None:
        if whole is None:
            self.known.append(command.id)
        else:
            (self.fetches if whole else self.begun).append(command.id)


class Updates:
    """What campaigns are told of downloads. ``held``: the first byte waits for it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.held: Deferred[None] = succeed(None)

    def fetching(self, command: Command) -> Deferred[None]:
        self.told.append(("fetching", command.id))
        return self.held

    def fetched(self, command: Command) -> None:
        self.told.append(("fetched", command.id))


class FilesCase(WebCase):
    """The listener with a storage; commands are put into the storage as if they had been sent."""

    settings: ClassVar[Settings] = Settings(bind=("tls:8443:interface=10.0.0.5",), keep_backups=3)
    listener: FilesListener

    async def _start(self) -> None:
        self.ahead = 0.0
        self.sockets = []
        self.folder = Path(self.mktemp())
        self.storage = SqliteStorage(self.folder / "db", reactor, self.clock)
        self.folder.mkdir()
        await self.storage.open()
        self.addCleanup(self.storage.close)
        await self._build()
        for mac in (MAC, OTHER):
            await self.core.registry.add_device({"protocol": "gateway88", "id": mac})
        self.open_port = reactor.listenTCP(0, self.listener, interface="127.0.0.1")
        self.port = self.open_port.getHost().port
        self.addCleanup(lambda: Deferred.fromCoroutine(self._stop()))

    def clock(self) -> float:
        return time.time() + self.ahead

    async def _build(self) -> None:
        """As after a start of the broker."""
        router = Router(lambda what, error: self.fail(f"{what}: {error}"))
        devices = LiveDevices(router, self.clock)
        commands = Commands(self.storage, devices, router, self.clock)
        files = FileStore(self.storage, self.folder / "files", reactor, self.clock)
        registry = Registry(self.storage, self.clock)
        registry.protocols["gateway88"] = DeviceRules()
        nothing: Any = None
        self.core = Core(
            reactor=reactor,
            clock=self.clock,
            monotonic=lambda: time.monotonic() + self.ahead,
            turn=Turn(lambda flush: reactor.callLater(0, flush)),
            router=router,
            devices=devices,
            commands=commands,
            storage=self.storage,
            registry=registry,
            topics=TopicIndex(),
            files=files,
            quarantine=nothing,
            ports=lambda name: (("tls", 9443), ("tcp", 9080)),
        )
        await files.open()
        self.addCleanup(files.close)
        commands.restore(await self.storage.open_commands())
        self.told = Told()
        self.core.listeners["gateway88"] = self.told
        self.listener = build(self.core, self.settings)
        await self.listener.prepare()

    async def command(self, operation: str, payload: Any = None, mac: str = MAC) -> Command:
        """A command that was sent."""
        number = len(await self.storage.open_commands())
        now = self.clock()
        command = Command(f"command-{number}-{now}", mac, "gateway88", payload or {}, "admin", now, now + 60)
        command.options["operation"] = operation
        kept: list[Exception | None] = []
        self.core.commands.submit(command, kept.append)
        await self.until(lambda: kept)
        self.assertEqual(kept, [None])
        command.status = PENDING
        saved: list[Exception | None] = []
        self.storage.save_command(command, saved.append)
        await self.until(lambda: saved)
        self.core.commands.restore([command])
        return command

    async def file(self, area: str, name: str, content: bytes) -> FileInfo:
        writer = self.core.files.create(area, name)
        writer.write(content)
        info: FileInfo = await writer.finish()
        return info

    async def post(self, url: str, body: bytes, *headers: str) -> tuple[int, dict[str, str], bytes]:
        return await self.ask(f"POST {urlsplit(url).path}", *headers, body=body)

    async def get(self, url: str, *headers: str) -> tuple[int, dict[str, str], bytes]:
        return await self.ask(f"GET {urlsplit(url).path}", *headers)


class UrlTests(FilesCase):
    async def test_what_they_look_like(self) -> None:
        command = await self.command("datafile_backup")
        url = self.listener.backup_url(command)
        self.assertRegex(url, rf"^https://10\.0\.0\.5:9443/backups/{re.escape(command.id)}/[0-9a-f]+\.[\w-]{{32}}$")
        self.assertNotEqual(url.rpartition("/")[2], self.listener.recovery_url(command).rpartition("/")[2])

    async def test_from_public_url(self) -> None:
        self.listener.reload(msgspec.structs.replace(self.settings, public_url="https://files.example/x/"))
        url = self.listener.firmware_url(await self.command("firmware_update"))
        self.assertTrue(url.startswith("https://files.example/x/firmware/"), url)

    async def test_plain_http(self) -> None:
        plain = msgspec.structs.replace(self.settings, bind=("tls:1", "tcp:2:interface=::1"), plain_http=True)
        self.listener.reload(plain)
        url = self.listener.firmware_url(await self.command("firmware_update"))
        self.assertTrue(url.startswith("http://[::1]:9080/firmware/"), url)

    async def test_where_the_gateway_reached_us(self) -> None:
        self.listener.reload(msgspec.structs.replace(self.settings, bind=("tls:1",)))
        command = await self.command("firmware_update")
        with self.assertRaises(Invalid):  # it is not connected
            self.listener.firmware_url(command)
        link: Any = Namespace(transport=StringTransport(hostAddress=IPv6Address("TCP", "::ffff:10.1.2.3", 30000)))
        self.core.devices.attach(DeviceRef("gateway88", MAC), link, lambda: (LastValues(), {}))
        self.assertTrue(self.listener.firmware_url(command).startswith("https://10.1.2.3:9443/firmware/"))

    async def test_nothing_that_listens(self) -> None:
        command = await self.command("firmware_update")
        self.listener.reload(msgspec.structs.replace(self.settings, bind=()))
        with self.assertRaises(Invalid):
            self.listener.firmware_url(command)

    async def test_only_for_their_purpose_command_and_time(self) -> None:
        one, other = await self.command("datafile_backup"), await self.command("datafile_backup")
        url = urlsplit(self.listener.backup_url(one)).path
        token = url.rpartition("/")[2]
        recovery = urlsplit(self.listener.recovery_url(one)).path
        self.listener.urls.check("backups", one.id, token)
        wrong = [
            ("backups", other.id, token),
            ("recovery", one.id, token),
            ("backups", one.id, recovery.rpartition("/")[2]),
            ("backups", one.id, "f" + token),
            ("backups", one.id, token + "A"),
            ("backups", one.id, token.partition(".")[2]),
            ("backups", one.id, ""),
        ]
        for purpose, id, given in wrong:
            with self.assertRaises(NotFound, msg=(purpose, id, given)):
                self.listener.urls.check(purpose, id, given)
        self.assertEqual((await self.post(url[:-1], b"data"))[0], 404)
        self.assertEqual((await self.post(f"/%62ackups/{one.id}/{token}x", b"data"))[0], 404)
        self.assertEqual(self.listener.counted.refused, 2)
        self.ahead += self.settings.url_lifetime + 1
        with self.assertRaises(NotFound):
            self.listener.urls.check("backups", one.id, token)
        self.assertEqual((await self.post(url, b"data"))[0], 404)
        self.assertEqual(self.told.arrivals, [])

    async def test_a_command_that_is_something_else_or_gone(self) -> None:
        control = await self.command("remote_control")
        self.assertEqual((await self.post(self.listener.backup_url(control), b"data"))[0], 404)
        gone = Command("gone", MAC, "gateway88", {}, "admin", 0.0, 1.0)
        self.assertEqual((await self.post(self.listener.backup_url(gone), b"data"))[0], 404)

    async def test_they_outlive_a_restart(self) -> None:
        command = await self.command("datafile_backup")
        url = self.listener.backup_url(command)
        token = url.rpartition("/")[2]
        await self._build()
        self.listener.urls.check("backups", command.id, token)

    async def test_not_in_the_log(self) -> None:
        lines: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            lines.append(repr({key: value for key, value in event.items() if key != "log_logger"}))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        url = self.listener.backup_url(await self.command("datafile_backup"))
        self.assertEqual((await self.post(url, b"data"))[0], 200)
        self.assertEqual(len([line for line in lines if "/backups/{command}/{token}" in line]), 1)
        self.assertEqual([line for line in lines if url.rpartition(".")[2] in line], [])


class DownloadTests(FilesCase):
    async def image(self) -> tuple[Command, FileInfo]:
        info = await self.file(UPLOADS, "relay.bin", IMAGE)
        return await self.command(
            "firmware_update", {"file": "relay.bin", "file_id": info.id, "version": "2", "md5": info.md5}
        ), info

    async def test_firmware(self) -> None:
        command, _ = await self.image()
        status, headers, body = await self.get(self.listener.firmware_url(command))
        self.assertEqual((status, body), (200, IMAGE))
        self.assertEqual(headers["ETag"], f'"{sha256(IMAGE).hexdigest()}"')
        self.assertIn("sha-256=:", headers["Repr-Digest"])
        self.assertEqual(self.listener.counted.downloads, 1)

    async def test_campaigns_are_told_before_the_first_byte_and_after_the_last(self) -> None:
        updates = Updates()
        self.told.updates = updates
        command, _ = await self.image()
        url = self.listener.firmware_url(command)
        await self.get(url + "/md5")
        self.assertEqual(updates.told, [])
        await self.get(url, "Range: bytes=0-999")
        self.assertEqual(updates.told, [("fetching", command.id)])
        await self.get(url, "Range: bytes=1000-")
        await self.until(lambda: len(updates.told) == 3)
        self.assertEqual(updates.told[1:], [("fetching", command.id), ("fetched", command.id)])
        updates.held = fail(Unavailable("the disk is full"))
        status, _, body = await self.get(url)
        self.assertEqual((status, len(updates.told)), (503, 4), body)

    async def test_a_range_of_it(self) -> None:
        command, _ = await self.image()
        status, headers, body = await self.get(self.listener.firmware_url(command), "Range: bytes=1000-")
        self.assertEqual((status, body), (206, IMAGE[1000:]))
        self.assertEqual(headers["Content-Range"], f"bytes 1000-{len(IMAGE) - 1}/{len(IMAGE)}")

    async def test_its_md5(self) -> None:
        command, info = await self.image()
        url = self.listener.firmware_url(command)
        self.assertEqual(self.listener.digest(url, info.md5), info.md5)
        self.listener.reload(msgspec.structs.replace(self.settings, digest_urls=True))
        status, _, body = await self.get(self.listener.digest(url, info.md5))
        self.assertEqual((status, body), (200, md5(IMAGE, usedforsecurity=False).hexdigest().encode()))

    async def test_a_file_that_was_replaced(self) -> None:
        command, _ = await self.image()
        await self.file(UPLOADS, "relay.bin", b"another")
        self.assertEqual((await self.get(self.listener.firmware_url(command)))[0], 404)

    async def test_a_recovery(self) -> None:
        info = await self.file(BACKUPS, f"{MAC}-1", b"saved")
        command = await self.command("datafile_recovery", {"backup": info.id, "md5": info.md5})
        status, _, body = await self.get(self.listener.recovery_url(command))
        self.assertEqual((status, body), (200, b"saved"))
        self.assertEqual(self.told.fetches, [command.id])

    async def test_a_recovery_is_fetched_with_its_last_byte(self) -> None:
        info = await self.file(BACKUPS, f"{MAC}-1", b"saved")
        command = await self.command("datafile_recovery", {"backup": info.id, "md5": info.md5})
        url = self.listener.recovery_url(command)
        self.assertEqual((await self.ask(f"HEAD {urlsplit(url).path}"))[0], 200)
        self.assertEqual(self.told.begun, [])
        for part in ("bytes=0-1", "bytes=1-3"):
            self.assertEqual((await self.get(url, f"Range: {part}"))[0], 206)
        self.assertEqual((self.told.begun, self.told.fetches), ([command.id] * 2, []))
        self.assertEqual((await self.get(url, "Range: bytes=2-"))[0], 206)
        self.assertEqual(self.told.fetches, [command.id])

    async def test_no_other_area(self) -> None:
        info = await self.file(UPLOADS, "secret", b"secret")
        command = await self.command("datafile_recovery", {"backup": info.id, "md5": info.md5})
        self.assertEqual((await self.get(self.listener.recovery_url(command)))[0], 404)


class BackupTests(FilesCase):
    async def test_one_arrives(self) -> None:
        command = await self.command("datafile_backup")
        status, _, body = await self.post(self.listener.backup_url(command), b"settings")
        self.assertEqual(status, 200)
        answer = msgspec.json.decode(body)
        self.assertEqual(answer["sha256"], sha256(b"settings").hexdigest())
        (info,) = await backups_of(self.core.files, MAC)
        self.assertEqual((info.name, info.meta["gateway"], info.size), (backup_name(command), MAC, 8))
        told = {"backup": info.id, "size": 8, "md5": info.md5, "sha256": info.sha256}
        self.assertEqual(self.told.arrivals, [(command.id, told)])
        self.assertEqual(self.told.known, [command.id])

    async def test_as_a_form_and_under_a_name(self) -> None:
        command = await self.command("datafile_backup")
        form = (
            b'--x\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
            b'--x\r\nContent-Disposition: form-data; name="f"; filename="data.tgz"\r\n\r\nsettings\r\n--x--\r\n'
        )
        url = self.listener.backup_url(command) + "/data.tgz"
        self.assertEqual((await self.post(url, form, "Content-Type: multipart/form-data; boundary=x"))[0], 200)
        (info,) = await backups_of(self.core.files, MAC)
        self.assertEqual(self.core.files.path(info).read_bytes(), b"settings")

    async def test_once(self) -> None:
        command = await self.command("datafile_backup")
        url = self.listener.backup_url(command)
        first = await self.post(url, b"settings")
        again = await self.post(url, b"settings")
        self.assertEqual((again[0], again[2]), (200, first[2]))
        self.assertEqual((await self.post(url, b"others"))[0], 409)
        self.assertEqual(len(self.told.arrivals), 1)
        counted = self.listener.counted
        self.assertEqual((counted.backups, counted.repeated), (1, 1))
        (info,) = await backups_of(self.core.files, MAC)
        self.assertEqual(self.core.files.path(info).read_bytes(), b"settings")

    async def test_empty_or_too_long(self) -> None:
        self.listener.reload(msgspec.structs.replace(self.settings, max_upload=100_000))
        command = await self.command("datafile_backup")
        url = self.listener.backup_url(command)
        self.assertEqual((await self.ask(f"POST {urlsplit(url).path}", "Content-Length: 0"))[0], 400)
        self.assertEqual((await self.post(url, bytes(100_001)))[0], 413)
        self.assertEqual(await backups_of(self.core.files, MAC), [])
        self.assertEqual(self.told.arrivals, [])
        self.assertEqual((await self.post(url, bytes(100_000)))[0], 200)

    async def test_broken_off_and_begun_anew(self) -> None:
        command = await self.command("datafile_backup")
        path = urlsplit(self.listener.backup_url(command)).path
        first = await self.connect()
        first.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf".encode())
        await self.until(lambda: self.core.files.writers)
        self.assertEqual((await self.post(path, b"whole"))[0], 200)
        status, _, _ = await self.answer(first)
        self.assertEqual(status, 409)
        (info,) = await backups_of(self.core.files, MAC)
        self.assertEqual(self.core.files.path(info).read_bytes(), b"whole")
        self.assertEqual(len(self.told.arrivals), 1)

    async def test_the_client_goes_away(self) -> None:
        command = await self.command("datafile_backup")
        path = urlsplit(self.listener.backup_url(command)).path
        client = await self.connect()
        client.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf".encode())
        await self.until(lambda: self.core.files.writers)
        client.transport.abortConnection()  # type: ignore[union-attr]  # a TCP transport has it
        await self.until(lambda: not self.core.files.writers)
        self.assertEqual(await backups_of(self.core.files, MAC), [])
        self.assertEqual(self.listener.counted.uploads_failed, 1)
        self.assertEqual((await self.post(path, b"whole"))[0], 200)

    async def test_killed_between_keeping_and_telling(self) -> None:
        command = await self.command("datafile_backup")
        info = await self.file(BACKUPS, backup_name(command), b"settings")
        await self.command("datafile_backup")  # that has not arrived
        await self._build()
        self.assertEqual([(id, result["backup"]) for id, result in self.told.arrivals], [(command.id, info.id)])

    async def test_the_newest_are_kept(self) -> None:
        commands = []
        for _ in range(5):
            self.ahead += 1
            commands.append(await self.command("datafile_backup"))
            self.assertEqual((await self.post(self.listener.backup_url(commands[-1]), b"settings"))[0], 200)
        names = [info.name for info in await backups_of(self.core.files, MAC)]
        self.assertEqual(names, [backup_name(command) for command in commands[2:]])
        self.assertEqual(self.listener.counted.pruned, 2)

    async def test_one_that_a_recovery_needs_is_kept_longer(self) -> None:
        first = await self.command("datafile_backup")
        await self.post(self.listener.backup_url(first), b"settings")
        (info,) = await backups_of(self.core.files, MAC)
        await self.command("datafile_recovery", {"backup": info.id, "md5": info.md5}, OTHER)
        for _ in range(4):
            self.ahead += 1
            command = await self.command("datafile_backup")
            self.assertEqual((await self.post(self.listener.backup_url(command), b"settings"))[0], 200)
        kept = await backups_of(self.core.files, MAC)
        self.assertEqual(len(kept), 4)
        self.assertEqual(kept[0].id, info.id)

    async def test_late(self) -> None:
        """What arrives after the command has ended is kept all the same, while its URL is good."""
        command = await self.command("datafile_backup")
        url = self.listener.backup_url(command)
        self.core.commands.reply(MAC, Reply(command.id, TIMED_OUT, None, self.clock()))
        self.assertIsNone(self.core.commands.get(command.id))
        self.assertEqual((await self.post(url, b"settings"))[0], 200)
        self.assertEqual(len(await backups_of(self.core.files, MAC)), 1)


class PartsTests(SynchronousTestCase):
    def test_addresses_in_urls(self) -> None:
        for given, expected in (
            ("10.0.0.1", "10.0.0.1"),
            ("::1", "[::1]"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("fe80::1%eth0", "[fe80::1]"),
            ("files.example", "files.example"),
        ):
            self.assertEqual(in_url(given), expected)

    def test_public_urls(self) -> None:
        for good in ("", "https://files.example", "https://files.example:8443/gateways"):
            Settings(public_url=good)
        for bad in ("files.example", "ftp://files.example", "https://", "https://u:p@h", "https://h/?a", "http://h"):
            with self.assertRaises(ValueError, msg=bad):
                Settings(public_url=bad)
        Settings(public_url="http://h", plain_http=True)
