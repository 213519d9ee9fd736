"""The connection to a real Redis: greetings, losses, half-open servers, TLS, sockets, Sentinel, channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.x509.oid import ExtendedKeyUsageOID
from twisted.internet import reactor as reactor_module
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from broker.model.errors import Unavailable
from broker.storage.redis.address import parse_address
from broker.storage.redis.connection import Call, RedisConnection, RedisSubscriber
from broker.storage.redis.replies import Lost, Refused, Unfit
from broker.storage.redis.script import Script
from broker.storage.redis.settings import RedisTable
from tests.client_certificates import Authority
from tests.mosquitto import free_port
from tests.redis_server import RedisServer, SharedServer

reactor: Any = reactor_module
SERVER = SharedServer()
QUICK: dict[str, Any] = {
    "connect_timeout": 10.0,
    "reply_timeout": 0.3,
    "keep_alive": 0.1,
    "retry_first": 0.02,
    "retry_longest": 0.1,
}


class ConnectionCase(TestCase):
    timeout = 60

    def server(self, settings: dict[str, str] | None = None, mode: str = "server") -> RedisServer:
        """One of this test's own, started."""
        server = RedisServer(Path(self.mktemp()), settings, mode)
        self.addCleanup(server.remove)
        server.start()
        return server

    def make(self, url: str, kind: Any = RedisConnection, **settings: Any) -> Any:
        more = {name: settings.pop(name) for name in ("prepare", "scripts") if name in settings}
        redis = kind(parse_address(url), RedisTable(**QUICK | settings), reactor, "broker-test", **more)
        self.addCleanup(redis.close)
        return redis

    async def connect(self, url: str, kind: Any = RedisConnection, **settings: Any) -> Any:
        redis = self.make(url, kind, **settings)
        await redis.open()
        return redis

    def next_up(self, redis: RedisConnection) -> Deferred[None]:
        up: Deferred[None] = Deferred()

        def told() -> None:
            redis.on_up.remove(told)
            up.callback(None)

        redis.on_up.append(told)
        return up

    def next_down(self, redis: RedisConnection) -> Deferred[str]:
        down: Deferred[str] = Deferred()

        def told(why: str) -> None:
            redis.on_down.remove(told)
            down.callback(why)

        redis.on_down.append(told)
        return down

    async def unavailable(self, answer: Any, kind: type[Unavailable] = Unavailable) -> str:
        with self.assertRaises(kind) as caught:
            await answer
        self.assertNotIn("\n", caught.exception.message)
        return str(caught.exception.message)


class CommandTests(ConnectionCase):
    async def test_replies(self) -> None:
        redis = await self.connect(SERVER.get().url)
        key = SERVER.prefix()
        for arguments, expected in (
            (("SET", key, b"\x00\xff\r\n"), b"OK"),
            (("GET", key), b"\x00\xff\r\n"),
            (("SET", key, "007"), b"OK"),
            (("GET", key), b"007"),
            (("SET", key, "größe"), b"OK"),
            (("GET", key), "größe".encode()),
            (("GET", f"{key}-none"), None),
            (("INCR", f"{key}-n"), 1),
            (("EVAL", "return {1, {false, 'x'}, {}}", 0), [1, [None, b"x"], []]),
            (("SET", key, b"x" * 3_000_000), b"OK"),
            (("GET", key), b"x" * 3_000_000),
        ):
            self.assertEqual(await redis.call(*arguments), expected, arguments[:2])
        self.assertEqual((redis.outstanding, redis.trouble_now), (0, ""))

    async def test_answers_come_in_the_order_of_the_calls(self) -> None:
        redis = await self.connect(SERVER.get().url)
        key = SERVER.prefix()
        answers: list[int] = []
        await gatherResults([redis.call("INCR", key).addCallback(answers.append) for _ in range(500)])
        self.assertEqual(answers, list(range(1, 501)))

    async def test_refusals(self) -> None:
        redis = await self.connect(SERVER.get().url)
        before = redis.call("PING")
        wrong = redis.call("GET")
        after = redis.call("PING")
        await before
        why = await self.unavailable(wrong, Refused)
        self.assertIn("Redis refused: ERR wrong number of arguments", why)
        self.assertEqual(await after, b"PONG")

    async def test_too_much_under_way(self) -> None:
        redis = await self.connect(SERVER.get().url, max_outstanding=3)
        waiting = [redis.call("PING") for _ in range(3)]
        self.assertEqual(await self.unavailable(redis.call("PING")), "3 commands wait for Redis already")
        await gatherResults(waiting)
        self.assertEqual(await redis.call("PING"), b"PONG")

    async def test_a_caller_who_gave_up_leaves_the_order(self) -> None:
        redis = await self.connect(SERVER.get().url)
        key = SERVER.prefix()
        first, second, third = (redis.call("INCR", key) for _ in range(3))
        second.addErrback(lambda _: None)
        second.cancel()
        self.assertEqual((await first, await third, redis.outstanding), (1, 3, 0))

    async def test_database_and_name(self) -> None:
        redis = await self.connect(f"redis://127.0.0.1:{SERVER.get().port}/3")
        key = SERVER.prefix()
        await redis.call("SET", key, "here")
        self.assertEqual(await redis.call("CLIENT", "GETNAME"), b"broker-test")
        other = await self.connect(SERVER.get().url)
        self.assertIsNone(await other.call("GET", key))

    async def test_unix_socket(self) -> None:
        redis = await self.connect(f"redis+unix://{SERVER.get().socket}?db=2")
        self.assertEqual(await redis.call("PING"), b"PONG")

    async def test_closed(self) -> None:
        redis = await self.connect(SERVER.get().url)
        blocked = redis.call("BLPOP", SERVER.prefix(), 30, wait=30)
        await redis.close()
        await self.unavailable(blocked, Lost)
        self.assertEqual(await self.unavailable(redis.call("PING")), "no connection to Redis: closed")
        await redis.close()


class LossTests(ConnectionCase):
    async def test_killed_and_back(self) -> None:
        server = self.server()
        redis = await self.connect(server.url)
        await redis.call("SET", "k", "v")
        blocked = redis.call("BLPOP", "none", 30, wait=30)
        down, up = self.next_down(redis), self.next_up(redis)
        server.kill()
        await self.unavailable(blocked, Lost)
        self.assertTrue(await down)
        self.assertFalse(redis.connected)
        self.assertIn("no connection to Redis", await self.unavailable(redis.call("PING")))
        await deferToThread(server.start)
        await up
        self.assertEqual(await redis.call("GET", "k"), b"v")
        self.assertGreater(redis.connects, 1)

    async def test_half_open(self) -> None:
        """A server that is stopped keeps its connections, takes new ones, and answers nobody."""
        server = self.server()
        redis = await self.connect(server.url)
        down, up = self.next_down(redis), self.next_up(redis)
        server.suspend()
        why = await self.unavailable(redis.call("PING"), Lost)
        self.assertIn("has not answered for 0.3 s", why)
        self.assertIn("has not answered", await down)
        server.resume()
        await up
        self.assertEqual(await redis.call("PING"), b"PONG")

    async def test_half_open_and_nobody_asks(self) -> None:
        server = self.server()
        redis = await self.connect(server.url)
        down = self.next_down(redis)
        server.suspend()
        self.assertIn("has not answered", await down)
        server.resume()

    async def test_a_long_wait_is_no_loss(self) -> None:
        redis = await self.connect(SERVER.get().url, keep_alive=0.05)
        self.assertIsNone(await redis.call("BLPOP", SERVER.prefix(), "0.6", wait=0.6))
        self.assertEqual(redis.connects, 1)

    async def test_nobody_there(self) -> None:
        port = free_port()
        why = await self.unavailable(self.make(f"redis://me:secret@127.0.0.1:{port}", connect_timeout=0.3).open())
        self.assertIn(f"cannot use the Redis at 127.0.0.1:{port} (database 0): Connection was refused", why)

    async def test_there_a_little_later(self) -> None:
        server = RedisServer(Path(self.mktemp()))
        self.addCleanup(server.remove)
        redis = self.make(server.url)
        opening = redis.open()
        await deferToThread(server.start)
        await opening
        self.assertGreater(redis.failed_attempts, 0)

    async def test_something_else_is_there(self) -> None:
        server = self.server()
        why = await self.unavailable(self.make(f"rediss://127.0.0.1:{server.port}", connect_timeout=0.3).open())
        self.assertTrue(why.endswith(": it does not answer"), why)

    async def test_the_greeting_decides(self) -> None:
        greeted = 0

        async def prepare(call: Call) -> None:
            nonlocal greeted
            greeted += 1
            await call("PING")
            if greeted < 3:
                raise Unavailable("not in the mood")

        redis = self.make(SERVER.get().url, prepare=prepare)
        await redis.open()
        self.assertEqual((greeted, redis.failed_attempts), (3, 2))

    async def test_a_greeting_that_says_never(self) -> None:
        async def prepare(call: Call) -> None:
            raise Unfit("it is the wrong one")

        why = await self.unavailable(self.make(SERVER.get().url, prepare=prepare).open())
        self.assertTrue(why.endswith(": it is the wrong one"), why)

    async def test_a_fault_in_the_greeting(self) -> None:
        async def prepare(call: Call) -> None:
            raise ZeroDivisionError

        why = await self.unavailable(self.make(SERVER.get().url, prepare=prepare, connect_timeout=0.2).open())
        self.assertIn("a fault of the broker's own", why)
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))

    async def test_a_listener_that_raises_harms_nobody(self) -> None:
        def faulty() -> None:
            raise ZeroDivisionError

        redis = self.make(SERVER.get().url)
        redis.on_up.append(faulty)
        await redis.open()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class ScriptTests(ConnectionCase):
    async def test_by_its_hash(self) -> None:
        script = Script("#!lua flags=no-writes\nreturn {KEYS[1], ARGV[1], tonumber(ARGV[2]) + 1}")
        redis = await self.connect(SERVER.get().url, scripts=(script,))
        for _ in range(2):
            self.assertEqual(await redis.run(script, ["k"], [b"\xff", 4]), [b"k", b"\xff", 5])
            await redis.call("SCRIPT", "FLUSH")

    async def test_one_that_is_wrong_is_said_at_the_start(self) -> None:
        why = await self.unavailable(
            self.make(SERVER.get().url, scripts=(Script("return ("),), connect_timeout=0.2).open()
        )
        self.assertIn("Error compiling script", why)


class LoginTests(ConnectionCase):
    async def test_password_and_user(self) -> None:
        server = self.server({"requirepass": "secret", "user": "me on >word ~* &* +@all"})
        at = f"127.0.0.1:{server.port}"
        for url, settings in (
            (f"redis://:secret@{at}", {}),
            (f"redis://me:word@{at}", {}),
            (f"redis://{at}", {"password": "secret"}),
            (f"redis://{at}", {"username": "me", "password": "word"}),
        ):
            redis = await self.connect(url, **settings)
            self.assertEqual(await redis.call("PING"), b"PONG")
        for url in (f"redis://:wrong-word@{at}", f"redis://you:word@{at}"):
            why = await self.unavailable(self.make(url).open())
            self.assertIn("does not take the user name or the password", why)
            self.assertNotIn("wor", why.replace("password", ""))
        why = await self.unavailable(self.make(f"redis://{at}").open())
        self.assertIn("Redis wants a password", why)

    async def test_a_password_where_none_is_wanted(self) -> None:
        why = await self.unavailable(self.make(f"redis://:secret@127.0.0.1:{SERVER.get().port}").open())
        self.assertIn("does not take", why)


class TlsTests(ConnectionCase):
    def tls_server(self, hosts: tuple[str, ...], clients: str = "no") -> RedisServer:
        folder = Path(self.mktemp())
        self.authority = Authority(folder, "ca")
        server_file = self.authority.sign("redis", use=ExtendedKeyUsageOID.SERVER_AUTH, hosts=hosts)
        self.tls_port = free_port()
        return self.server(
            {
                "tls-port": str(self.tls_port),
                "tls-cert-file": str(server_file.absolute()),
                "tls-key-file": str(server_file.absolute()),
                "tls-ca-cert-file": str(self.authority.file.absolute()),
                "tls-auth-clients": clients,
            }
        )

    async def test_verified(self) -> None:
        self.tls_server(("127.0.0.1",))
        redis = await self.connect(f"rediss://127.0.0.1:{self.tls_port}", ca=str(self.authority.file))
        self.assertEqual(await redis.call("PING"), b"PONG")

    async def test_another_name_and_another_authority(self) -> None:
        self.tls_server(("redis.example",))
        url = f"rediss://127.0.0.1:{self.tls_port}"
        opening = self.make(url, ca=str(self.authority.file), connect_timeout=0.5).open()
        self.assertIn("TLS:", await self.unavailable(opening))
        stranger = Authority(Path(self.mktemp()), "other")
        self.assertIn("TLS:", await self.unavailable(self.make(url, ca=str(stranger.file), connect_timeout=0.5).open()))
        self.assertIn("TLS:", await self.unavailable(self.make(url, connect_timeout=0.5).open()))

    async def test_own_certificate(self) -> None:
        self.tls_server(("127.0.0.1",), clients="yes")
        url, ca = f"rediss://127.0.0.1:{self.tls_port}", str(self.authority.file)
        own = str(self.authority.sign("broker"))
        redis = await self.connect(url, ca=ca, certificate=own, private_key=own)
        self.assertEqual(await redis.call("PING"), b"PONG")
        await self.unavailable(self.make(url, ca=ca, connect_timeout=0.5).open())

    async def test_files_that_are_none(self) -> None:
        why = await self.unavailable(self.make("rediss://127.0.0.1:1", ca=str(Path(self.mktemp()))).open())
        self.assertIn("cannot be used: No such file", why)


class SentinelTests(ConnectionCase):
    async def test_the_master_is_found_and_found_again(self) -> None:
        first = self.server({"repl-diskless-sync-delay": "0"})
        second = self.server({"replicaof": f"127.0.0.1 {first.port}"})
        watch = f"monitor main 127.0.0.1 {first.port} 1\ndown-after-milliseconds main 300\nfailover-timeout main 2000"
        sentinel = self.server({"sentinel": watch}, mode="sentinel")
        nobody = free_port()
        url = f"redis+sentinel://127.0.0.1:{nobody},127.0.0.1:{sentinel.port}/main/0"
        redis = await self.connect(url, connect_timeout=20.0)
        await redis.call("SET", "k", "v")
        self.assertEqual(await redis.call("WAIT", 1, 30_000, wait=30.0), 1)
        up = self.next_up(redis)
        first.kill()
        await up
        self.assertEqual(await redis.call("GET", "k"), b"v")
        self.assertIn(b"master", await redis.call("INFO", "replication"))
        self.assertIn(f"tcp_port:{second.port}".encode(), await redis.call("INFO", "server"))

    async def test_a_service_that_nobody_knows(self) -> None:
        sentinel = self.server(mode="sentinel")
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/other"
        why = await self.unavailable(self.make(url, connect_timeout=0.5).open())
        self.assertIn("no Sentinel knows a master of 'other'", why)


class ChannelTests(ConnectionCase):
    async def test_subscribed_again_after_a_loss(self) -> None:
        server = self.server()
        speaker = await self.connect(server.url)
        listener: RedisSubscriber = await self.connect(server.url, RedisSubscriber)
        heard: list[bytes] = []
        waiting: list[Deferred[None]] = []

        def told(message: bytes) -> None:
            heard.append(message)
            if waiting:
                waiting.pop().callback(None)

        async def say(message: str) -> None:
            waiting.append(Deferred())
            last = waiting[0]
            await speaker.call("PUBLISH", "c", message)
            await last

        await listener.subscribe("c", told)
        await listener.subscribe("other", told)
        await listener.unsubscribe("other")
        await say("one")
        self.assertEqual(await speaker.call("PUBLISH", "other", "x"), 0)
        ups = gatherResults([self.next_up(listener), self.next_up(speaker)])
        server.kill()
        await deferToThread(server.start)
        await ups
        await say("two")
        self.assertEqual(heard, [b"one", b"two"])

    async def test_a_silent_channel_is_kept_alive(self) -> None:
        server = self.server()
        listener: RedisSubscriber = await self.connect(server.url, RedisSubscriber)
        await listener.subscribe("c", lambda message: None)
        down = self.next_down(listener)
        server.suspend()
        self.assertIn("has not answered", await down)
        server.resume()

    async def test_before_there_is_a_connection(self) -> None:
        server = self.server()
        listener: RedisSubscriber = self.make(server.url, RedisSubscriber)
        heard: Deferred[bytes] = Deferred()
        await listener.subscribe("c", heard.callback)
        await listener.open()
        speaker = await self.connect(server.url)
        await speaker.call("PUBLISH", "c", b"\x00\xff")
        self.assertEqual(await heard, b"\x00\xff")
