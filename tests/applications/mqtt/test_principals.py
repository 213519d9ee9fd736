"""Who may log in, and what applications and anonymous clients may do."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from broker.applications.mqtt.principals import AnonymousPrincipal, ApplicationIdentities, ApplicationPrincipal
from broker.model.interfaces import IKnownMqttIdentities, IMqttPrincipal
from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.storage.identity import Rights
from tests.applications.mqtt.bed import SECRET, Bed
from tests.mqtt.fakes import Client, FakeIdentities, FakePrincipal, publishes


class Case(TestCase):
    settings: dict[str, Any] = {}

    async def setUp(self) -> None:  # type: ignore[override] # trial waits for it
        self.bed = await Bed(self.mktemp(), **self.settings).open("d1", "d2", "d3")
        self.addCleanup(self.bed.storage.close)

    def tearDown(self) -> None:
        self.assertEqual(self.bed.faults, [])


class LoggingIn(Case):
    async def code(self, user: str | None, password: str | None) -> int:
        client = await self.bed.login(user, password)
        (answer,) = client.received
        assert isinstance(answer, p.ConnAck)
        return answer.code

    async def test_codes(self) -> None:
        self.assertEqual(await self.code("app", SECRET), p.ACCEPTED)
        self.assertEqual(await self.code("app", "wrong"), p.REFUSED_CREDENTIALS)
        self.assertEqual(await self.code("app", None), p.REFUSED_CREDENTIALS)
        self.assertEqual(await self.code("app", "\ufffd"), p.REFUSED_CREDENTIALS)
        self.assertEqual(await self.code("nobody", SECRET), p.REFUSED_CREDENTIALS)
        self.assertEqual(await self.code(None, None), p.REFUSED_RIGHTS)
        self.assertEqual(await self.code("", ""), p.REFUSED_RIGHTS)
        await self.bed.registry.update_application("app", {"disabled": True})
        self.assertEqual(await self.code("app", SECRET), p.REFUSED_RIGHTS)

    async def test_storage_is_gone(self) -> None:
        await self.bed.storage.close()
        client = self.bed.client(p.Connect("c", user="app", password=SECRET.encode()))
        self.assertEqual(client.got(), [p.ConnAck(p.REFUSED_UNAVAILABLE)])

    async def test_two_clients_of_one_application(self) -> None:
        one, other = await self.bed.login(client_id="1"), await self.bed.login(client_id="2")
        self.assertEqual((one.closed, other.closed), (None, None))
        again = await self.bed.login(client_id="1")
        self.assertEqual((one.closed, other.closed, again.closed), ("takeover", None, None))

    def test_interfaces(self) -> None:
        side = next(iter(self.bed.server._identities))
        verifyObject(IKnownMqttIdentities, side)
        verifyObject(IKnownMqttIdentities, FakeIdentities())
        assert isinstance(side, ApplicationIdentities)
        verifyObject(IMqttPrincipal, ApplicationPrincipal(Rights("a", "mqtt", set()), "c", side))
        verifyObject(IMqttPrincipal, AnonymousPrincipal((), side.intake, side.presence))
        verifyObject(IMqttPrincipal, FakePrincipal("f"))


class WhatAnApplicationMay(Case):
    async def setUp(self) -> None:  # type: ignore[override] # trial waits for it
        await super().setUp()
        self.client = await self.bed.login()

    async def test_subscribe(self) -> None:
        granted = ["devices/d1/up/data", "devices/d1/#", "devices/+/reply", "devices/#", "#", "+/d3/reply", "free/x"]
        refused = ["devices/d3/up/data", "devices/d3/#", "devices/unknown/presence", "$own/#", "$own"]
        (answer,) = self.client.ask(p.Subscribe(1, [(one, 1) for one in granted + refused]))
        assert isinstance(answer, p.SubAck)
        self.assertEqual(answer.codes, b"\1" * len(granted) + b"\x80" * len(refused))

    async def test_receive(self) -> None:
        self.client.subscribe("#")
        for topic in ("devices/d1/up/data", "devices/d3/up/data", "devices/d3", "devices", "free", "$SYS/x"):
            self.bed.server.deliver(self.bed.core.topics.route(topic), b"", 0)
        self.bed.flush()
        self.assertEqual([topic for topic, _, _ in publishes(self.client.got())], ["devices/d1/up/data", "free"])

    async def test_publish(self) -> None:
        watcher = await self.bed.login(client_id="watcher")
        watcher.subscribe("#")
        topics = [
            "free",
            "devices",
            "devices/d1/up/data",
            "devices/d1/presence",
            "devices/d1/reply",
            "devices//command",
        ]
        topics += ["devices/d3/command", "devices/d1/command/x", "$SYS/x"]
        await self.bed.ask(self.client, *(p.Publish(topic, b"{}") for topic in topics))
        self.assertEqual([topic for topic, _, _ in publishes(watcher.got())], ["free"])
        self.assertEqual(self.bed.server.stats.dropped, {"not_allowed": len(topics) - 1})
        self.assertIsNone(self.client.closed)

    async def test_a_binding_is_lost_and_found(self) -> None:
        self.client.subscribe("devices/d1/up/data", "devices/+/up/log")
        bed = self.bed

        def heard() -> list[str]:
            for device in ("d1", "d2", "d3"):
                for kind in ("data", "log"):
                    bed.server.deliver(bed.core.topics.route(f"devices/{device}/up/{kind}"), b"", 0)
            bed.flush()
            return [topic.removeprefix("devices/") for topic, _, _ in publishes(self.client.got())]

        self.assertEqual(heard(), ["d1/up/data", "d1/up/log", "d2/up/log"])
        await bed.registry.unbind("app", "d1")
        self.assertEqual(heard(), ["d2/up/log"])
        self.assertEqual(self.client.subscribe("devices/d1/up/data"), [p.SubAck(1, b"\x80")])
        await bed.registry.bind("app", "d3")
        self.assertEqual(heard(), ["d2/up/log", "d3/up/log"])
        await bed.registry.bind("app", "d1")
        self.assertEqual(heard(), ["d1/up/data", "d1/up/log", "d2/up/log", "d3/up/log"])
        await bed.registry.delete_device("d2")
        self.assertEqual(heard(), ["d1/up/data", "d1/up/log", "d3/up/log"])

    async def lasting(self, name: str, topic_filter: str) -> Client:
        """A client with a session on disk, at QoS 1, of which one message may be unacknowledged."""
        five: p.Properties = {props.SESSION_EXPIRY_INTERVAL: 600, props.RECEIVE_MAXIMUM: 1}
        connect = p.Connect(name, p.MQTT_5, False, user="app", password=SECRET.encode(), properties=five)
        client = self.bed.client(connect)
        await self.bed.settle()
        await self.bed.ask(client, p.Subscribe(1, [(topic_filter, 1)]))
        return client

    def uplinks(self, *devices: str) -> None:
        for device in devices:
            self.bed.server.deliver(self.bed.core.topics.route(f"devices/{device}/up/data"), device.encode(), 1)
        self.bed.flush()

    async def lose(self, device: str) -> None:
        await self.bed.registry.unbind("app", device)
        self.bed.clock.advance(0)
        self.bed.flush()

    async def served(self, client: Client) -> list[bytes]:
        """The payloads that come as long as each is acknowledged."""
        await self.bed.settle()
        client.got()
        got = [one for one in client.received if isinstance(one, p.Publish)]
        client.received.clear()
        payloads = []
        while got:
            payloads += [one.payload for one in got]
            answer = await self.bed.ask(client, *(p.PubAck(one.packet_id) for one in got))
            got = [one for one in answer if isinstance(one, p.Publish)]
        client.received.clear()
        return payloads

    async def test_what_is_owed_goes_with_the_binding(self) -> None:
        """Behind a full window, in the queue on disk, and in a group: nothing of d1 is sent once it is lost."""
        clients = [await self.lasting("own", "devices/+/up/data"), await self.lasting("shared", "$share/g/devices/#")]
        away = await self.lasting("away", "devices/+/up/data")
        away.lose()
        self.uplinks("d2", "d1", "d2", "d1")
        await self.lose("d1")
        self.uplinks("d1", "d2")
        for client in clients:
            self.assertEqual(await self.served(client), [b"d2"] * 3)
        away = await self.lasting("away", "devices/+/up/data")
        self.assertEqual(await self.served(away), [b"d2"] * 3)
        self.assertEqual(self.bed.server.stats.dropped, {"not_allowed": 6})

    async def test_retained_presence_goes_with_the_binding(self) -> None:
        for device in ("d1", "d2"):
            self.bed.device(device)
        await self.bed.settle()

        async def shown() -> list[str]:
            answer = await self.bed.ask(self.client, p.Subscribe(1, [("devices/+/presence", 0)]))
            return [topic for topic, _, _ in publishes(answer)]

        self.assertEqual(await shown(), ["devices/d1/presence", "devices/d2/presence"])
        await self.lose("d1")
        self.assertEqual(await shown(), ["devices/d2/presence"])

    async def test_no_command_after_the_binding_is_lost(self) -> None:
        _, link = self.bed.device("d1")
        command = p.Publish("devices/d1/command", b'{"payload": {"a": 1}}', 1, 1)
        await self.bed.ask(self.client, command)
        self.assertEqual(len(link.sent), 1)
        await self.bed.registry.unbind("app", "d1")
        self.assertEqual(await self.bed.ask(self.client, command), [p.PubAck(1)])
        self.assertEqual(len(link.sent), 1)

    async def test_the_application_is_gone(self) -> None:
        registry = self.bed.registry
        second = await self.bed.login(client_id="second")
        await registry.add_application({"kind": "http", "id": "other", "secret": SECRET})
        other = await self.bed.login("other")
        await registry.update_application("app", {"secret": "another secret"})
        self.assertEqual((self.client.closed, second.closed), ("removed", "removed"))
        await registry.update_application("app", {"secret": SECRET})
        for change in (
            lambda: registry.update_application("app", {"disabled": True}),
            lambda: registry.update_application("app", {"disabled": False}),
            lambda: registry.delete_application("app"),
        ):
            client = await self.bed.login()
            before = client.closed
            await change()
            if before is None:
                self.assertEqual(client.closed, "removed")
            client.lose()
        self.assertIsNone(other.closed)
        other.lose()
        side = next(iter(self.bed.server._identities))
        assert isinstance(side, ApplicationIdentities)
        self.assertEqual(side.connected, {})

    async def test_gone_while_it_logs_in(self) -> None:
        connecting = self.bed.client(p.Connect("new", user="app", password=SECRET.encode()))
        removing = self.bed.registry.delete_application("app")
        await self.bed.settle()
        await removing
        self.assertIsNotNone(connecting.closed)


class Anonymous(Case):
    settings = {"anonymous": True, "anonymous_deny": ("secret/+", "devices/d2/#", "one")}

    async def setUp(self) -> None:  # type: ignore[override] # trial waits for it
        await super().setUp()
        self.client = await self.bed.login(None, None)
        self.assertEqual(self.client.received, [p.ConnAck(0)])

    async def test_an_application_still_needs_its_secret(self) -> None:
        client = await self.bed.login("app", "wrong")
        self.assertEqual(client.received, [p.ConnAck(p.REFUSED_CREDENTIALS)])

    async def test_a_name_that_nobody_has_is_anybody(self) -> None:
        client = await self.bed.login("stranger", "whatever")
        self.assertEqual(client.received, [p.ConnAck(0)])
        self.assertTrue(client.connection.identity.startswith("anonymous "))

    async def test_subscribe(self) -> None:
        granted = ["#", "+", "devices/#", "devices/d3/#", "secret", "secret/#", "secret/a/b", "+/a"]
        refused = ["secret/a", "secret/+", "one", "devices/d2/#", "devices/d2/+", "devices/d2/up/#", "devices/d2"]
        (answer,) = await self.bed.ask(self.client, p.Subscribe(1, [(one, 0) for one in granted + refused]))
        assert isinstance(answer, p.SubAck)
        self.assertEqual(answer.codes, b"\0" * len(granted) + b"\x80" * len(refused))

    async def test_publish_and_receive(self) -> None:
        self.client.subscribe("#")
        topics = ["free", "one", "secret/a", "secret", "devices/d1/up/data", "devices/d1", "devices", "$SYS/x"]
        await self.bed.ask(self.client, *(p.Publish(topic, b"") for topic in topics))
        heard = [topic for topic, _, _ in publishes(self.client.received)]
        self.assertEqual(heard, ["free", "secret"])

    async def test_what_is_denied_is_not_received_from_the_broker_either(self) -> None:
        self.bed.device("d1")
        self.bed.device("d2")
        answer = await self.bed.ask(self.client, p.Subscribe(1, [("#", 0)]))
        self.assertEqual([topic for topic, _, _ in publishes(answer)], ["devices/d1/presence"])

    async def test_commands(self) -> None:
        _, link = self.bed.device("d3")
        body = b'{"payload": {"a": 1}}'
        answer = await self.bed.ask(
            self.client, p.Publish("devices/d3/command", body, 1, 1), p.Publish("devices/d2/command", body, 1, 2)
        )
        self.assertEqual(answer, [p.PubAck(1), p.PubAck(2)])
        self.assertEqual([command.origin for command in link.sent], ["anonymous"])
        self.assertEqual(self.bed.core.commands.open, 1)

    async def test_a_command_for_nobody(self) -> None:
        self.client.subscribe("devices/unknown/reply")
        reply, acknowledged = await self.bed.ask(
            self.client, p.Publish("devices/unknown/command", b'{"payload":{}}', 1, 1)
        )
        self.assertEqual(acknowledged, p.PubAck(1))
        assert isinstance(reply, p.Publish)
        self.assertIn(b'"error":"not-found"', reply.payload)
