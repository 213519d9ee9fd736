"""The Open API: devices told what to do, and what they have said. The devices are on MQTT, as real ones are."""

from __future__ import annotations

from typing import Any

from broker.applications.gizwits.business import body_of
from broker.applications.gizwits.products import ProductExtra
from broker.applications.gizwits.user_records import Session
from broker.applications.ordering import order
from broker.devices.gizwits import codec
from broker.devices.gizwits.datapoints import DataPoint
from broker.devices.gizwits.settings import DeviceSettings
from broker.model.messages import RAW
from broker.model.records import StoredMessage
from broker.mqtt import packets as p
from tests.applications.gizwits.bed import NOW
from tests.applications.gizwits.test_datapoints import LAMP
from tests.applications.gizwits.test_open_api import ApiCase
from tests.mqtt.fakes import Client, publishes

PRODUCT = "p" * 32


class ControlCase(ApiCase):
    async def stage(self) -> None:
        await super().stage()
        await self.bed.registry.add_product(self.bed.product(PRODUCT))
        self.did = await self.bed.device_with_mac(PRODUCT, "AABBCCDDEEFF")
        self.ann = await self.bed.user("ann", self.did, "plain-1")

    async def device(self) -> Client:
        """The device logs in over MQTT 3.1 and subscribes as agents do."""
        record = await self.bed.registry.get_device(self.did)
        client = await self.bed.login(self.did, record.secret, self.did, version=3)
        for topic_filter in (f"ser2cli_noti/{PRODUCT}", f"ser2cli_res/{self.did}", f"app2dev/{self.did}/#"):
            client.subscribe(topic_filter)
        self.bed.clock.advance(0)
        await self.bed.settle()
        client.got()
        return client

    async def told(self, client: Client) -> list[tuple[str, bytes]]:
        """What the device was sent: agents get one packet at a time."""
        for _ in range(5):
            self.bed.clock.advance(DeviceSettings().packet_gap)
            await self.bed.settle()
        return [(topic, payload) for topic, payload, _ in publishes(client.got())]

    async def control(self, did: str, body: Any, user: Session | None = None) -> tuple[int, Any]:
        return await self.bed.http(f"POST /app/control/{did}", body, user=user or self.ann, step=0.25)

    async def with_data_points(self, *points: DataPoint) -> None:
        await self.bed.side.products.set_extra(PRODUCT, ProductExtra("", points))


class ControlTests(ControlCase):
    async def test_raw(self) -> None:
        device = await self.device()
        self.assertEqual(await self.control(self.did, {"raw": [1, 2, 255]}), (200, {}))
        self.assertEqual(
            await self.told(device), [(f"app2dev/{self.did}/broker", codec.encode(codec.Control(b"\1\2\xff")))]
        )

    async def test_attrs(self) -> None:
        device = await self.device()
        status, answer = await self.control(self.did, {"attrs": {"power": True}})
        self.assertEqual((status, answer["error_code"]), (400, 9025))  # no data points yet
        await self.with_data_points(*LAMP)
        self.assertEqual(await self.control(self.did, {"attrs": {"power": True, "level": 7}}), (200, {}))
        ((_, frame),) = await self.told(device)
        self.assertEqual(codec.decode_business(frame), codec.Control(bytes.fromhex("01 05 01 07 0000 000000")))
        for attrs in ({"power": 5}, {"watts": 1}, {"unknown": 1}, {}):
            status, answer = await self.control(self.did, {"attrs": attrs})
            self.assertEqual((status, answer["error_code"]), (400, 9025), attrs)
        self.assertEqual(await self.told(device), [])

    async def test_what_is_refused(self) -> None:
        eve = await self.bed.user("eve")
        for did, user, body, expected in (
            (self.did, self.ann, {"raw": [1]}, (400, 9042)),  # away
            (self.did, eve, {"raw": [1]}, (401, 9017)),
            ("unknown", self.ann, {"raw": [1]}, (401, 9017)),
            (self.did, self.ann, {}, (400, 9015)),
            (self.did, self.ann, {"raw": [1], "attrs": {}}, (400, 9015)),
            (self.did, self.ann, {"raw": [256]}, (400, 9015)),
            (self.did, self.ann, {"raw": "01"}, (400, 9015)),
        ):
            status, answer = await self.control(did, body, user)
            self.assertEqual((status, answer["error_code"]), expected, body)
        await self.bed.registry.update_device(self.did, {"disabled": True})
        status, answer = await self.control(self.did, {"raw": [1]})
        self.assertEqual((status, answer["error_code"]), (400, 9023))

    async def test_a_device_that_is_not_subscribed(self) -> None:
        record = await self.bed.registry.get_device(self.did)
        await self.bed.login(self.did, record.secret, self.did, version=3)
        status, answer = await self.control(self.did, {"raw": [1]})
        self.assertEqual((status, answer["error_code"]), (400, 9042))

    async def test_a_device_of_another_protocol(self) -> None:
        status, answer = await self.control("plain-1", {"attrs": {"led": "ON"}})
        self.assertEqual((status, answer["error_code"]), (400, 9042))
        _, link = self.bed.device("plain-1")
        for body in ({"attrs": {"led": "ON"}}, {"raw": list(b'{"led":"OFF"}')}, {"raw": [1]}):
            self.assertEqual(await self.control("plain-1", body), (200, {}))
        self.assertEqual([one.payload for one in link.sent], [{"led": "ON"}, {"led": "OFF"}, b"\1"])


class PlainCommandTests(ControlCase):
    """From any side: an object names data points where the product has any."""

    async def test_an_object(self) -> None:
        device = await self.device()
        await self.with_data_points(*LAMP)
        await self.bed.settle()
        for payload, force, frame in (
            ({"power": True}, False, bytes.fromhex("01 01 01 00 0000 000000")),
            (b"\1\2", False, b"\1\2"),
            ({"power": True}, True, b'{"power":true}'),
        ):
            command = await order(self.bed.core, self.did, body_of(payload, force=force), "admin")
            await self.bed.settle()
            self.assertEqual(command.status, "succeeded")
            ((_, told),) = await self.told(device)
            self.assertEqual(codec.decode_business(told), codec.Control(frame))
        command = await order(self.bed.core, self.did, body_of({"unknown": 1}), "admin")
        await self.bed.settle()
        self.assertEqual((command.status, command.result), ("failed", {"error": "there is no data point 'unknown'"}))
        self.assertEqual(await self.told(device), [])


class ReadingTests(ControlCase):
    async def test_reports_become_values_by_name(self) -> None:
        await self.with_data_points(*LAMP)
        device = await self.device()
        values = bytes.fromhex("04 05 64 022b 0a0b00 00001000 01 00")
        device.send(p.Publish(f"dev2app/{self.did}", codec.encode(codec.Report(values))))
        status, answer = await self.bed.http(f"GET /app/devdata/{self.did}/latest")
        self.assertEqual(
            (status, answer["did"], answer["attr"]["mode"], answer["attr"]["heat"]), (200, self.did, "night", 25.5)
        )
        # Data points that come while the device is connected count from then on.
        await self.with_data_points(*LAMP[:1])
        await self.bed.settle()
        device.send(p.Publish(f"dev2app/{self.did}", codec.encode(codec.Report(b"\4\0"))))
        _, answer = await self.bed.http(f"GET /app/devdata/{self.did}/latest")
        self.assertEqual((answer["attr"]["power"], answer["attr"]["mode"]), (False, "night"))

    async def test_raw_data(self) -> None:
        device = await self.device()
        await self.control(self.did, {"raw": [2]})
        messages = [
            StoredMessage(device=self.did, protocol="gizwits", kind=kind, at=NOW + at, payload=payload)
            for at, kind, payload in ((1, RAW, b"\3\1"), (2, "log", {"level": "info"}), (3, RAW, b"\4\2"))
        ]
        await self.bed.storage.add_messages(messages)

        async def shown(query: str) -> list[tuple[str, str]]:
            status, answer = await self.bed.http(f"GET /app/devices/{self.did}/raw_data{query}", user=self.ann)
            self.assertEqual(status, 200)
            return [(one["type"], one["payload_bin"]) for one in answer["objects"]]

        said = [("dev2app", codec.encode(codec.Report(data)).hex()) for data in (b"\3\1", b"\4\2")]
        ordered = ("app2dev", codec.encode(codec.Control(b"\2")).hex())
        self.assertEqual(await shown("?type=cmd&sort=asc"), [ordered, *said])
        self.assertEqual(await shown(""), [said[1], said[0], ordered])
        self.assertEqual(await shown("?skip=1&limit=1"), [said[0]])
        self.assertEqual(await shown(f"?start_time={NOW + 2}"), [said[1]])
        self.assertEqual(await shown(f"?sort=asc&start_time={NOW + 0.5}&end_time={NOW + 1}"), [said[0]])
        device.lose()
        self.assertEqual([kind for kind, _ in await shown("?type=online&sort=asc")], ["dev_online", "dev_offline"])
        eve = await self.bed.user("eve")
        self.assertEqual(await self.bed.refused(f"GET /app/devices/{self.did}/raw_data", user=eve), (401, 9017))
        for query in ("?type=x", "?limit=0", "?skip=-1", "?sort=up", "?start_time=yesterday"):
            refused = await self.bed.refused(f"GET /app/devices/{self.did}/raw_data{query}", user=self.ann)
            self.assertEqual(refused, (400, 9015), query)


class AcknowledgedTests(ControlCase):
    async def test_an_app_hears_its_own_answer(self) -> None:
        """From an app over MQTT to a device over MQTT and back, untouched."""
        device = await self.device()
        app = await self.bed.app(self.ann, "usr1")
        app.subscribe(f"dev2app/{self.did}", f"dev2app/{self.did}/usr1")
        self.assertEqual(await self.told(device), [(f"ser2cli_res/{self.did}", codec.encode(codec.Apps(1)))])
        request = codec.encode(codec.Request(42, b"\1"))
        app.send(p.Publish(f"app2dev/{self.did}/usr1", request))
        self.assertEqual(await self.told(device), [(f"app2dev/{self.did}/usr1", request)])
        ack = codec.encode(codec.Ack(42))
        device.send(p.Publish(f"dev2app/{self.did}/usr1", ack))
        self.assertEqual(publishes(app.got()), [(f"dev2app/{self.did}/usr1", ack, 0)])
        log = codec.encode(codec.Log(1, b"tag", b"source", b"text"))
        device.send(p.Publish(f"dev2app/{self.did}", log))
        self.assertEqual(publishes(app.got()), [(f"dev2app/{self.did}", log, 0)])
        app.send(p.Publish(f"app2dev/{self.did}/usr1", codec.encode(codec.SetLog(codec.ERROR_LOGS | codec.LEDS))))
        live = self.bed.core.devices.get(self.did)
        assert live is not None
        self.assertEqual(live.info["log"]["bits"], 9)
        app.lose()
        self.assertEqual((await self.told(device))[-1], (f"ser2cli_res/{self.did}", codec.encode(codec.Apps(0))))
