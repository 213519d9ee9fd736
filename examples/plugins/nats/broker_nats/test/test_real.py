"""Against the real nats-server, in a whole broker; a device is whatever goes through the broker's router."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from broker.extension import CommandBody, DeviceRef, Presence, Uplink, order
from broker.extension.testing import InProcessBroker
from broker.listening.plugin import ProtocolPlugin
from broker_nats.test.server import NatsServer, Subscriber

reactor: Any = _reactor

PLUGIN = ProtocolPlugin("nats", "Publishes to NATS", "broker_nats")
DEVICE = DeviceRef("novacloud", "d-1")


class RealServerTests(TestCase):
    timeout = 90

    async def serve(self, *options: str) -> None:
        self.server = NatsServer(*options)
        self.addCleanup(deferToThread, self.server.kill)
        await deferToThread(self.server.start)

    async def start(self, **settings: str) -> None:
        """The broker; it has a NovaCloud listener, so that there may be devices."""
        given = {"servers": f'["{self.server.url}"]', "reconnect_wait": "0.1", "timeout": "1", **settings}
        self.broker = InProcessBroker(
            reactor,
            Path(self.mktemp()),
            [PLUGIN],
            {"listeners.novacloud.bind": "[]", **{f"listeners.nats.{key}": text for key, text in given.items()}},
        )
        self.addCleanup(self.broker.stop)
        await self.broker.start()

    async def subscribe(self, subject: str = ">") -> Subscriber:
        made: Subscriber = await deferToThread(Subscriber, self.server.port, subject)
        self.addCleanup(made.close)
        return made

    async def until(self, condition: Any) -> None:
        """Trial's own time-out ends a wait for what never comes."""
        while not condition():
            await deferLater(reactor, 0.01)

    def say(self, number: int, device: DeviceRef = DEVICE) -> None:
        self.broker.core.router.uplink(Uplink(device, "data", {"n": number}, 1_700_000_000.0))

    def figure(self, name: str) -> float:
        sink: Any = self.broker.core.listeners["nats"]
        found: float = sink.counters()[name]
        return found

    async def test_everything_is_published(self) -> None:
        await self.serve()
        subscriber = await self.subscribe("broker.>")
        await self.start()
        self.say(1)
        subject, message = await deferToThread(subscriber.next)
        self.assertEqual(subject, "broker.d-1.up.data")
        self.assertEqual(
            message,
            {"device": "d-1", "protocol": "novacloud", "kind": "data", "at": 1_700_000_000.0, "payload": {"n": 1}},
        )
        self.broker.core.router.presence(Presence(DeviceRef("novacloud", "a.b"), True, "connected", 2.0))
        subject, message = await deferToThread(subscriber.next)
        self.assertEqual((subject, message["device"], message["online"]), ("broker.a%2Eb.presence", "a.b", True))
        record, _ = await self.broker.core.registry.add_device({"protocol": "novacloud"})
        made = await order(self.broker.core, record.id, CommandBody(payload={"led": 1}), "admin")
        subject, message = await deferToThread(subscriber.next)
        self.assertEqual(subject, f"broker.{record.id}.command")
        self.assertEqual((message["id"], message["status"], message["payload"]), (made.id, "queued", {"led": 1}))
        self.assertEqual(self.figure("nats_dropped_total"), 0)

    async def test_only_what_is_configured(self) -> None:
        await self.serve()
        subscriber = await self.subscribe()
        await self.start(subject='"site.a"', kinds='["data"]', presence="false", protocols='["novacloud"]')
        router = self.broker.core.router
        router.uplink(Uplink(DEVICE, "status", {}, 1.0))
        router.presence(Presence(DEVICE, True, "connected", 1.0))
        self.say(1, DeviceRef("lorawan", "m-1"))
        self.say(2)
        subject, message = await deferToThread(subscriber.next)
        self.assertEqual((subject, message["payload"]), ("site.a.d-1.up.data", {"n": 2}))

    async def test_a_server_that_dies_and_comes_back(self) -> None:
        await self.serve()
        await self.start(batch="50")
        self.say(0)
        await self.until(lambda: self.figure("nats_published_total") == 1)
        await deferToThread(self.server.kill)
        for number in range(1, 201):
            self.say(number)
        await self.until(lambda: not self.figure("nats_connected"))
        (trouble,) = self.broker.core.troubles()
        self.assertTrue(trouble.startswith("nats: "), trouble)
        self.assertEqual(self.figure("nats_waiting"), 200)
        await deferToThread(self.server.start)
        subscriber = await self.subscribe()
        self.say(201)
        heard: list[int] = []
        while not heard or heard[-1] != 201:
            heard.append((await deferToThread(subscriber.next))[1]["payload"]["n"])
        # Who subscribes may come a moment after we do; nothing is missing from there on, and nothing out of order.
        self.assertEqual(heard, list(range(heard[0], 202)))
        await self.until(lambda: self.figure("nats_published_total") == 202)
        self.assertEqual(self.broker.core.troubles(), [])
        self.assertEqual(self.figure("nats_reconnects_total"), 1)

    async def test_what_has_no_room(self) -> None:
        await self.serve()
        await deferToThread(self.server.kill)
        await self.start(max_waiting="10", drain_timeout="0.2")
        for number in range(25):
            self.say(number)
        self.assertEqual((self.figure("nats_waiting"), self.figure("nats_dropped_total")), (10, 15))
        await deferToThread(self.server.start)
        await self.until(lambda: self.figure("nats_published_total") == 10)

    async def test_a_message_over_the_servers_limit_keeps_nobody(self) -> None:
        await self.serve()
        await self.start()
        self.broker.core.router.uplink(Uplink(DEVICE, "raw", bytes(1_100_000), 1.0))
        self.say(1)
        await self.until(lambda: self.figure("nats_published_total") == 1)
        self.assertEqual(self.figure("nats_too_large_total"), 1)

    async def test_a_stop_publishes_what_waits(self) -> None:
        await self.serve()
        subscriber = await self.subscribe()
        await self.start()
        for number in range(1000):
            self.say(number)
        await self.broker.stop()
        heard = [(await deferToThread(subscriber.next))[1]["payload"]["n"] for _ in range(1000)]
        self.assertEqual(heard, list(range(1000)))

    async def test_a_stop_without_a_server_does_not_wait_for_ever(self) -> None:
        await self.serve()
        await deferToThread(self.server.kill)
        await self.start(drain_timeout="0.2")
        self.say(1)
        began = reactor.seconds()
        await self.broker.stop()
        self.assertLess(reactor.seconds() - began, 8)

    async def test_who_we_are(self) -> None:
        await self.serve("--user", "ann", "--pass", "secret-1")
        await self.start(user='"ann"', password='"wrong"')
        self.say(1)
        await self.until(lambda: "Authorization" in "".join(self.broker.core.troubles()))
        self.assertNotIn("wrong", "".join(self.broker.core.troubles()))
        await self.broker.stop()
        await self.start(user='"ann"', password='"secret-1"')
        self.say(1)
        await self.until(lambda: self.figure("nats_published_total") == 1)
