"""The bed of Gizwits apps as one process of several in one: they share a hub, and the records of users and products."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from broker.applications.gizwits.products import ProductExtra
from broker.applications.gizwits.user_records import Session
from broker.cluster.presence import PresenceAcross
from broker.devices.gizwits.datapoints import DataPoint
from broker.devices.gizwits.settings import DeviceSettings
from broker.mqtt.arrivals import Arrivals
from broker.mqtt.interest import Others, Own
from broker.mqtt.message import Options
from broker.mqtt.remote import CAST, Outgoing
from tests.applications.gizwits.api_bed import ApiBed
from tests.applications.gizwits.bed import MemoryRecords
from tests.applications.gizwits.socket_client import SocketClient
from tests.applications.gizwits.test_control import PRODUCT
from tests.cluster.hub import Hub
from tests.mqtt.fakes import Client, publishes


class Process(ApiBed):
    """MQTT is joined for clean sessions at QoS 0 alone, by the parts that do it over Redis."""

    def __init__(self, folder: str, hub: Hub, node: str, records: MemoryRecords) -> None:
        plane = self.plane = hub.join(node)
        super().__init__(folder, records=records, backplane=plane)
        core, sessions = self.core, self.server.sessions
        PresenceAcross(plane, core.router, core.devices, core.whereabouts, core.clock).begin()
        self.own = Own(plane.tell, sessions.groups)
        others = Others(core.topics, sessions.groups, Outgoing(None, plane.cast))
        others.hear(plane, lambda number: False)
        arrivals = Arrivals(core.topics, sessions.groups)
        plane.hear(CAST, lambda node, body: arrivals.take(body))
        plane.watch(left=others.node_left)
        sessions.neighbours = self

    # -- broker.mqtt.sessions.Neighbours ---------------------------------------------------------------------------

    def joined(self, session: Any, topic_filter: str, granted: Options, before: Options | None) -> None:
        self.own.joined(session, topic_filter, granted, before)

    def left(self, session: Any, topic_filter: str, granted: Options) -> None:
        self.own.left(session, topic_filter, granted)

    def added(self, session: Any) -> None: ...

    def ended(self, session: Any) -> None: ...


class ProcessesCase(TestCase):
    """Two processes, a device of a product, a NovaCloud-like device "plain-1", and ann, who has bound both."""

    def setUp(self) -> Deferred[Any]:  # type: ignore[override]  # trial waits for it
        self.hub = Hub()
        self.records = MemoryRecords()
        self.a, self.b = self.process("a"), self.process("b")
        self.addCleanup(lambda: self.assertEqual(self.a.faults + self.b.faults, []))
        self.addCleanup(lambda: self.assertEqual(self.flushLoggedErrors(), []))
        return Deferred.fromCoroutine(self.stage())

    def process(self, node: str) -> Process:
        bed = Process(self.mktemp(), self.hub, node, self.records)
        self.addCleanup(bed.storage.close)
        return bed

    async def stage(self) -> None:
        for bed in (self.a, self.b):
            await self.open(bed)
        self.ann = await self.a.user("ann", self.did, "plain-1")

    async def open(self, bed: Process) -> None:
        await bed.open("plain-1")
        await bed.registry.add_product(bed.product(PRODUCT))
        self.did = await bed.device_with_mac(PRODUCT, "AABBCCDDEEFF")

    async def settle(self) -> None:
        for bed in (self.a, self.b, self.a):
            await bed.settle()

    async def socket(self, bed: Process, who: Session | None = None, p0_type: str = "attrs_v4") -> SocketClient:
        """An app of ann's, logged in; what it was told at first is taken."""
        client = SocketClient(bed)
        await client.login(who or self.ann, p0_type)
        return client

    def only_app(self, bed: Process) -> Any:
        """The one app that is there, an `AppSocket`."""
        (app,) = bed.side.people._client_ids.values()
        return app

    async def device(self, bed: Process, *, subscribed: bool = True) -> Client:
        """The device logs in over MQTT 3.1 and subscribes as agents do; what it was told is left."""
        record = await bed.registry.get_device(self.did)
        client = await bed.login(self.did, record.secret, self.did, version=3)
        if subscribed:
            await self.subscribe(bed, client)
        return client

    async def subscribe(self, bed: Process, client: Client) -> None:
        for topic_filter in (f"ser2cli_noti/{PRODUCT}", f"ser2cli_res/{self.did}", f"app2dev/{self.did}/#"):
            client.subscribe(topic_filter)
        bed.clock.advance(0)
        await self.settle()

    async def told(self, bed: Process, client: Client) -> list[tuple[str, bytes]]:
        """What the device was sent: agents get one packet at a time."""
        for _ in range(4):
            bed.clock.advance(DeviceSettings().packet_gap)
            await self.settle()
        return [(topic, payload) for topic, payload, _ in publishes(client.got())]

    async def with_data_points(self, bed: Process, *points: DataPoint) -> None:
        await bed.side.products.set_extra(PRODUCT, ProductExtra("", points))
        await self.settle()
