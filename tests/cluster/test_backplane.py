"""The backplanes, the one over Redis against a real one."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks, succeed

from broker.cluster.local import LocalBackplane
from broker.model.cluster import Taken
from broker.model.errors import Unavailable
from tests.cluster import contract
from tests.cluster.bed import SERVER, Nodes, pause, until
from tests.redis_server import RedisServer


class Local(contract.BackplaneContract):
    def make(self, name: str = "a") -> Deferred[Any]:
        return succeed(LocalBackplane(name))


class Redis(contract.CrowdContract):
    timeout = 60

    def setUp(self) -> None:
        self.nodes = Nodes(self)

    def make(self, name: str = "a") -> Deferred[Any]:
        return self.nodes.start(name)

    @inlineCallbacks
    def test_one_that_is_cut_off_is_dead_once_somebody_has_taken_over(self) -> Any:
        a, b = (yield self.make("a")), (yield self.make("b"))
        yield a.take("s", "k", "note")
        old = a.node
        fenced: Deferred[None] = Deferred()
        joined: Deferred[None] = Deferred()
        a.watch(fenced=lambda: fenced.callback(None), joined=lambda: joined.callback(None))
        a._renewing.stop()  # as if it were stopped
        yield until(lambda: not a.held, "the lease to end")
        self.assertIn("lease", a.problem())
        self.assertEqual((yield b.take("s", "k")), Taken(True, old, "note"))
        with self.assertRaises(Unavailable):
            yield a.take("s", "other")
        yield fenced
        yield joined
        self.assertNotEqual(a.node, old)
        self.assertFalse((yield a.take("s", "k")).mine)
        self.assertTrue((yield a.take("s", "other")).mine)

    @inlineCallbacks
    def test_a_late_one_from_whom_nobody_took_goes_on(self) -> Any:
        a = yield self.make("a")
        yield a.take("s", "k")
        node = a.node
        a._renewing.stop()
        yield pause(self.nodes.lease * 1.2)
        yield a._guarded_renew()
        self.assertEqual((a.node, a.held, a.fenced_times), (node, True, 0))

    @inlineCallbacks
    def test_without_redis(self) -> Any:
        server = RedisServer(SERVER.get().folder.with_name(SERVER.get().folder.name + "-own"))
        server.start()
        self.addCleanup(server.remove)
        nodes = Nodes(self, server)
        a, b = (yield nodes.start("a")), (yield nodes.start("b"))
        yield a.take("s", "k")
        server.kill()
        with self.assertRaises(Unavailable):
            yield a.take("s", "l")
        a.cast("x", b"lost")
        a.tell("x", b"kept")
        a.leave("s", "k")
        asked = a.ask(b.node, "q", b"?")
        b.answer("q", lambda node, body: b"!")
        heard: list[bytes] = []
        b.hear("x", lambda node, body: heard.append(body))
        yield until(lambda: not a.held, "the lease to end")
        server.start()
        self.assertEqual((yield asked), b"!")
        yield until(lambda: a.held and b.held, "both to go on")
        self.assertEqual((a.fenced_times, b.fenced_times), (0, 0))
        yield until(lambda: heard == [b"kept"], "what was told")
        self.assertEqual((yield b.find("s", "k")), Taken(False, "", ""))
