"""An image that is offered to one device: over HTTP with its own address, over MQTT with its own notice."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from broker.devices.gizwits import codec as g
from broker.devices.gizwits.rollout import Image
from broker.model.errors import Conflict, Invalid, NotFound
from broker.model.interfaces import IUpdater
from broker.model.updates import Order, Release
from broker.mqtt import packets as p
from tests.devices.gizwits.bed import DID, OTHER, PRODUCT, Bed
from tests.devices.gizwits.site import asking, checking, complete
from tests.devices.gizwits.test_ota import CONTENT, HARD, OtaCase
from tests.fleet.progress import Progress


class OfferTests(OtaCase):
    async def _start(self) -> None:
        await super()._start()
        self.progress = Progress()
        self.updater = self.devices.updates
        self.updater.follow(self.progress)

    async def order(self, did: str, **more: Any) -> tuple[Order, str]:
        """An order that was begun, and the address of its image."""
        fid = await self.hand_in()
        release = await self.updater.find(str(fid), None)
        order = Order(id=str(uuid4()), device=did, release=release, **more)
        await self.updater.begin(order)
        return order, f"/dev/ota/v4.1/download/{fid}"

    async def url(self, did: str) -> str:
        """The path that a device is offered."""
        status, _, body = await self.send(checking(did))
        self.assertEqual(status, 200, body)
        return "/dev" + body.decode().strip().partition("/dev")[2]

    async def download(self, path: str) -> bytes:
        client = await self.reach(self.gservice_port)
        client.write(asking(path))
        await self.until(lambda: client.data and complete(client.data))
        return client.data

    async def test_from_the_offer_to_the_version(self) -> None:
        verifyObject(IUpdater, self.updater)
        self.assertIs(self.core.updaters["gizwits"], self.updater)
        did = await self.register()
        order, plain = await self.order(did)
        path = await self.url(did)
        self.assertTrue(path.startswith(plain + "/") and len(path) == len(plain) + 33, path)
        self.assertEqual(self.progress.take(), [("accepted",)])
        data = await self.download(path)
        self.assertTrue(data.endswith(CONTENT))
        self.assertIn(b"\r\nSoft-Version: 04020007\r\n", data)
        await self.until(lambda: len(self.progress.told) == 2)
        self.assertEqual(self.progress.take(), [("fetching", order.id), ("fetched", order.id)])
        order.fetched = True
        self.assertEqual(await self.offered(did), 9502)  # not a second time
        self.assertEqual(await self.offered(did, "04020007"), 9502)
        versions = [info["wifi"]["soft_version"] for _, info in self.progress.reports]
        self.assertEqual(versions, ["04020006", "04020006", "04020007"])

    async def test_nobody_else_gets_it(self) -> None:
        did = await self.register()
        other = await self.register(mac="6E536B716170")
        order, plain = await self.order(did)
        path = await self.url(did)
        self.assertEqual(await self.offered(other), 9502)
        for wrong in (plain, f"{plain}/", plain + "/" + "0" * 32, path.replace(plain, plain + "1")):
            status, _, _ = await self.send(asking(wrong))
            self.assertEqual(status, 404, wrong)
        self.updater.end(order, None)
        status, _, _ = await self.send(asking(path))
        self.assertEqual(status, 404)
        self.assertEqual([told[0] for told in self.progress.take()], ["accepted"])

    async def test_no_byte_leaves_before_it_is_noted(self) -> None:
        did = await self.register()
        await self.order(did)
        path = await self.url(did)
        held: Deferred[None] = Deferred()
        self.progress.held = held
        client = await self.reach(self.gservice_port)
        client.write(asking(path))
        await self.until(lambda: "fetching" in {told[0] for told in self.progress.told})
        self.assertEqual(client.data, b"")
        held.callback(None)
        await self.until(lambda: client.data and complete(client.data))
        self.progress.broken = True
        status, _, _ = await self.send(asking(path))
        self.assertEqual(status, 503)

    async def test_a_version_is_noted_before_the_device_is_answered(self) -> None:
        did = await self.register()
        self.progress.broken = True
        status, _, _ = await self.send(checking(did))
        self.assertEqual(status, 503)

    async def test_v4_0(self) -> None:
        did = await self.register()
        order, _ = await self.order(did)
        fid = order.release.details["fid"]
        query = f"did={did}&product_key={PRODUCT}&type=1&hard_version={HARD}&soft_version=04020006"
        status, _, body = await self.send(asking(f"/dev/ota/target_fid?{query}&current_fid=1"))
        path = "/dev" + body.decode().partition("/dev")[2].partition("&")[0]
        self.assertEqual((status, body.decode().partition("&")[0]), (200, f"target_fid={fid}"))
        self.assertTrue((await self.download(path)).endswith(CONTENT))
        await self.send(asking(f"/dev/ota/target_fid?{query}&current_fid={fid}"))
        info = self.progress.reports[-1][1]
        self.assertEqual(self.updater.version_of(info, order.release), "04020007")

    async def test_hardware_and_versions_that_do_not_fit(self) -> None:
        did = await self.register()
        await self.order(did)
        self.assertEqual(await self.offered(did, "05"), 9502)
        ((kind, why),) = self.progress.take()
        self.assertEqual((kind, why), ("failed", "its version 05 is not lower than 04020007, and agents take no other"))

    async def test_finding_an_image(self) -> None:
        fid = await self.hand_in()
        release = await self.updater.find(str(fid), "04020007")
        self.assertEqual((release.version, release.product, release.image), ("04020007", PRODUCT, str(fid)))
        for image, version, error in (
            ("relay.bin", None, Invalid),
            (str(fid), "04020008", Invalid),
            ("999999", None, NotFound),
        ):
            await self.assertFailure(self.updater.find(image, version), error)
        await self.activate(fid)
        await self.assertFailure(self.updater.find(str(fid), None), Conflict)

    async def test_what_a_device_told_while_it_logged_in_is_not_lost(self) -> None:
        """The log-in has read the registry before, and connects after, the device has told its version."""
        did = await self.register()
        await self.devices.update_info(did, {"wifi": {"soft_version": "2"}})
        self.assertEqual(self.devices.take_news(did), {"wifi": {"soft_version": "2"}})
        self.assertEqual(self.devices.take_news(did), {})


class NoticeTests(TestCase):
    async def test_notices(self) -> None:
        bed = await Bed(self.mktemp()).open(DID, OTHER)
        self.addCleanup(bed.storage.close)
        progress = Progress()
        updater = bed.side.updates
        updater.follow(progress)
        image = Image(
            fid=1_001,
            product=PRODUCT,
            kind=g.WIFI,
            hard_version=HARD,
            soft_version="9",
            file="",
            filename="f.bin",
            size=1,
            md5="",
            created_at=0.0,
        )
        bed.side.firmware._remember(image)
        details = {"fid": 1_001, "kind": g.WIFI, "hard_version": HARD}
        release = Release(protocol="gizwits", image="1001", version="9", product=PRODUCT, details=details)
        order = Order(id=str(uuid4()), device=DID, release=release)
        # It is told when it has subscribed, again when it is back, and to report once it has fetched; nobody else is.
        await updater.begin(order)
        self.assertEqual(progress.take(), [])
        other, device = await bed.device(OTHER), await bed.device(DID)
        notice = g.encode(g.CheckFirmware(g.WIFI))
        self.assertEqual([packet.payload for packet in device.got() if isinstance(packet, p.Publish)], [notice])
        self.assertEqual(other.got(), [])
        self.assertEqual(progress.take(), [("sent",)])
        device = await bed.device(DID)
        self.assertEqual([packet.payload for packet in device.got() if isinstance(packet, p.Publish)], [notice])
        order.fetched = True
        progress.take()
        device = await bed.device(DID)
        self.assertEqual([packet.payload for packet in device.got() if isinstance(packet, p.Publish)], [notice])
        self.assertEqual(progress.take(), [])
        # Once it is over it is left alone.
        updater.end(order, None)
        device = await bed.device(DID)
        self.assertEqual(device.got(), [])
        waiting = Order(id=str(uuid4()), device="X" * 22, release=release)
        await updater.begin(waiting)
        updater.withdraw(waiting)
        self.assertEqual(progress.take(), [("returned", "it was taken back")])
