"""Firmware: handing it in, who gets it, what agents of both OTA versions are told, and downloads."""

from __future__ import annotations

from hashlib import md5
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.gizwits import codec as g
from broker.devices.gizwits.rollout import Image, Rule, choose, share_of
from tests.devices.gizwits.bed import DID, OTHER, PASSCODE, PRODUCT
from tests.devices.gizwits.site import Chunks, GserviceCase, asking, checking

HARD = "000LINUX"
#: Longer than what is read from disk at once.
CONTENT = bytes(range(256)) * 600


class OtaCase(GserviceCase):
    async def hand_in(self, soft: str = "04020007", kind: str = "wifi", hard: str = HARD, **more: str) -> int:
        query = "&".join(
            f"{name}={value}"
            for name, value in {
                "product": PRODUCT,
                "type": kind,
                "hard_version": hard,
                "soft_version": soft,
                **more,
            }.items()
        )
        reply = await self.api("POST", f"/gizwits/firmware?{query}", body=CONTENT)
        self.assertEqual(reply.status, 201, reply.body)
        self.assertEqual((reply.json["size"], reply.json["md5"]), (len(CONTENT), md5(CONTENT).hexdigest()))
        self.assertFalse(reply.json["active"])
        fid: int = reply.json["id"]
        return fid

    async def activate(self, fid: int, **rule: Any) -> int:
        reply = await self.api("PATCH", f"/gizwits/firmware/{fid}", {"active": True, "rule": rule})
        self.assertEqual(reply.status, 200, reply.body)
        told: int = reply.json["told"]
        return told

    async def offered(self, did: str, version: str = "04020006", kind: int = 1) -> str | int:
        """The version that is offered, or the number of the refusal."""
        status, _, body = await self.send(checking(did, version, kind))
        if status != 200:
            return self.code(body)
        text = body.decode()
        self.assertTrue(text.startswith("soft_ver=") and text.endswith("\r\n"), text)
        return text.removeprefix("soft_ver=").partition("&")[0]


class Checking(OtaCase):
    async def test_v4_1(self) -> None:
        did = await self.register()
        fid = await self.hand_in()
        self.assertEqual(await self.offered(did), 9502)
        await self.activate(fid)
        status, _, body = await self.send(checking(did))
        wanted = f"soft_ver=04020007&download_url=http://api.gizwits.com/dev/ota/v4.1/download/{fid}\r\n"
        self.assertEqual((status, body.decode()), (200, wanted))
        self.assertEqual(await self.offered(did, "04020007"), 9502)
        self.assertEqual(await self.offered(did, "05000000"), 9502)
        self.assertEqual(await self.offered(did, kind=2), 9500)

    async def test_v4_1_refused(self) -> None:
        did = await self.register()
        for request, number in (
            (checking(did, passcode="WRONG"), 9016),
            (checking(OTHER), 9014),
            (checking(did, kind=3), 9015),
            (checking(did, version=""), 9015),
            (checking(did, version="x" * 33), 9015),
            (checking(did, passcode=""), 9015),
        ):
            status, _, body = await self.send(request)
            self.assertEqual((status >= 400, self.code(body)), (True, number))

    async def test_v4_0(self) -> None:
        did = await self.register()
        fid = await self.hand_in("04000002", filename="module.bin")
        await self.activate(fid)

        def ask(**more: str) -> bytes:
            fields = {"did": did, "product_key": PRODUCT, "type": "1", "hard_version": HARD}
            fields |= {"soft_version": "04000001", "current_fid": "1", **more}
            return asking("/dev/ota/target_fid?" + "&".join(f"{name}={value}" for name, value in fields.items()))

        status, _, body = await self.send(ask())
        url = f"http://127.0.0.1/dev/ota/download/{fid}/module.bin"
        wanted = f"target_fid={fid}&download_url={url}&firmware_version=04000002\r\n"
        self.assertEqual((status, body.decode()), (200, wanted))
        for more, number in (
            ({"current_fid": str(fid)}, 9502),
            ({"soft_version": "04000002"}, 9502),
            ({"type": "2"}, 9500),
            ({"product_key": "0" * 32}, 9002),
            ({"did": OTHER}, 9014),
            ({"did": ""}, 9015),
            ({"type": ""}, 9015),
        ):
            status, _, body = await self.send(ask(**more))
            self.assertEqual((status in (400, 404), self.code(body)), (True, number), more)

    async def test_latest(self) -> None:
        fid = await self.hand_in(kind="mcu")
        path = f"/dev/ota/v4.1/latest?hard_version={HARD}&soft_version=04020006&product_key={PRODUCT}&type=2"
        await self.activate(fid, percentage=99)
        status, _, body = await self.send(asking(path))
        self.assertEqual(self.code(body), 9502)  # not for everybody
        await self.activate(fid)
        status, _, body = await self.send(asking(path))
        wanted = f"soft_ver=04020007&download_url=http://127.0.0.1/dev/ota/v4.1/download/{fid}\r\n"
        self.assertEqual((status, body.decode()), (200, wanted))

    async def test_the_greatest_that_is_for_it(self) -> None:
        did = await self.register()
        for soft, rule in (
            ("04020007", {}),
            ("04020009", {"devices": [OTHER]}),
            ("04020008", {"devices": [did]}),
            ("0402000A", {"from_versions": ["04020008"]}),
            ("0402000B", {"percentage": 0}),
        ):
            await self.activate(await self.hand_in(soft), **rule)
        self.assertEqual(await self.offered(did), "04020008")
        self.assertEqual(await self.offered(did, "04020008"), "0402000A")
        self.assertEqual(await self.offered(await self.register(mac="0" * 12)), "04020007")

    async def test_versions_are_remembered(self) -> None:
        did = await self.register()
        await self.offered(did)
        await self.offered(did, "M1", kind=2)
        info = (await self.api("GET", f"/devices/{did}")).json["info"]
        for name, soft in (("wifi", "04020006"), ("mcu", "M1")):
            told = info[name]
            self.assertLess(abs(told.pop("at") - self.core.clock()), 10)
            self.assertEqual(told, {"hard_version": HARD, "soft_version": soft, "ota": "4.1"})


class Downloading(OtaCase):
    async def fetch(self, path: str) -> Chunks:
        client = await self.reach(self.gservice_port)
        client.write(asking(path))
        await client.until(b"\r\n\r\n")
        return client

    async def test_an_image(self) -> None:
        fid = await self.hand_in(filename="a-b.bin")
        await self.activate(fid)
        for path, version in (
            (f"/dev/ota/v4.1/download/{fid}", b"Soft-Version: 04020007"),
            (f"/dev/ota/download/{fid}/a-b.bin", b"Firmware-Version: 04020007"),
            (f"/dev/ota/download/{fid}", b"Firmware-Version: 04020007"),
        ):
            client = await self.fetch(path)
            await self.until(lambda client=client: client.data.endswith(CONTENT))  # type: ignore[misc]
            head = client.data[: -len(CONTENT)]
            self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"))
            self.assertLess(len(head), 500)  # the first 600 bytes have to hold some of the image
            self.assertGreater(len(client.chunks[0]), 600)
            lines = head.split(b"\r\n")
            for line in (
                version,
                b"Firmware-MD5: " + md5(CONTENT).hexdigest().encode(),
                b"Content-Length: %d" % len(CONTENT),
                b"Content-Type: application/octet-stream",
                b'Content-Disposition: attachment; filename="a-b.bin"',
            ):
                self.assertIn(line, lines)

    async def test_refused(self) -> None:
        fid = await self.hand_in()
        for path in (f"/dev/ota/v4.1/download/{fid}", "/dev/ota/v4.1/download/1", "/dev/ota/download/x/y.bin"):
            status, _, body = await self.send(asking(path))
            self.assertEqual((status, self.code(body)), (404, 9027))


class Administering(OtaCase):
    async def test_its_life(self) -> None:
        first = await self.hand_in()
        second = await self.hand_in("04020008")
        self.assertEqual((first, second), (1001, 1002))
        listed = (await self.api("GET", "/gizwits/firmware")).json["items"]
        self.assertEqual([one["id"] for one in listed], [1001, 1002])
        self.assertEqual((await self.api("GET", f"/gizwits/firmware?product={'0' * 32}")).json["items"], [])
        await self.activate(first, percentage=50)
        shown = (await self.api("GET", "/gizwits/firmware/1001")).json
        self.assertEqual(shown["rule"], {"devices": None, "percentage": 50, "from_versions": []})
        self.assertEqual(
            (await self.api("PATCH", "/gizwits/firmware/1001", {"active": False})).json["rule"], shown["rule"]
        )
        self.assertEqual((await self.api("DELETE", "/gizwits/firmware/1002")).status, 204)
        self.assertProblem(await self.api("GET", "/gizwits/firmware/1002"), 404, "not-found")
        self.assertEqual([info.name for info in await self.core.files.list("gizwits-firmware")], ["0000001001"])
        # as after a restart
        fresh = type(self.devices.firmware)(self.core)
        await fresh.load()
        self.assertEqual(fresh.images(), self.devices.firmware.images())
        self.assertEqual(await self.hand_in("04020009"), 1003)

    async def test_refused(self) -> None:
        base = f"product={PRODUCT}&type=wifi&hard_version={HARD}&soft_version=1"
        for query, status, slug in (
            (base.replace(PRODUCT, "none"), 404, "not-found"),
            (base.replace("wifi", "fpga"), 400, "invalid"),
            (base.replace(f"hard_version={HARD}", "hard_version="), 400, "invalid"),
            (base + "&filename=a/b.bin", 400, "invalid"),
            (base + "&filename=a.exe", 400, "invalid"),
            (base + "&x=1", 400, "invalid"),
            ("type=wifi", 400, "invalid"),
        ):
            self.assertProblem(await self.api("POST", f"/gizwits/firmware?{query}", body=b"x"), status, slug)
        self.assertProblem(await self.api("POST", f"/gizwits/firmware?{base}", body=b""), 400, "invalid")
        self.assertEqual(await self.core.files.list("gizwits-firmware"), [])
        for change in ({"rule": {"percentage": 101}}, {"rule": {"devices": ["x"]}}, {"rule": {"x": 1}}, {"x": 1}):
            self.assertProblem(await self.api("PATCH", "/gizwits/firmware/1001", change), 400, "invalid")
        self.assertProblem(await self.api("PATCH", "/gizwits/firmware/9", {"active": True}), 404, "not-found")
        self.assertProblem(await self.api("DELETE", "/gizwits/firmware/x"), 404, "not-found")
        token = await self.application("app")
        self.assertProblem(await self.api("GET", "/gizwits/firmware", token=token), 403, "forbidden")


class Telling(OtaCase):
    gizwits = {"public_host": "ota.example"}

    async def online(self, did: str) -> Chunks:
        client = await self.reach(self.mqtt_port)
        part = b"\0\x16" + did.encode()
        client.write(b"\x10\x48\0\6MQIsdp\3\xc2\0\x78" + part + part + b"\0\x0a" + PASSCODE.encode())
        await client.until(b"\x20\x02\0\0")
        for number, topic in enumerate((f"ser2cli_noti/{PRODUCT}", f"ser2cli_res/{did}", f"app2dev/{did}/#"), 1):
            body = b"\0" + bytes((number, 0, len(topic))) + topic.encode() + b"\0"
            client.write(b"\x82" + bytes((len(body),)) + body)
            await client.until(b"\x90\x03\0" + bytes((number,)) + b"\0")
        return client

    def told(self, did: str, packet: g.System) -> bytes:
        """The publish of a system message, as it stands on the wire."""
        body = b"\0\x22" + f"ser2cli_res/{did}".encode() + g.encode(packet)
        return b"\x30" + bytes((len(body),)) + body

    async def test_those_that_are_covered(self) -> None:
        dids = [await self.register(mac=f"{number:012X}") for number in range(5)]
        clients = [await self.online(did) for did in dids]
        await self.offered(dids[0])
        await self.send(
            asking(
                f"/dev/ota/target_fid?did={dids[1]}&product_key={PRODUCT}&type=1&hard_version={HARD}"
                "&soft_version=04020006&current_fid=1"
            )
        )
        await self.offered(dids[2], "04020007")  # has it
        await self.send(checking(dids[4]).replace(HARD.encode(), b"00000ARM"))  # other hardware
        fid = await self.hand_in()
        self.assertEqual(await self.activate(fid, devices=dids), 3)
        for did, client, packet in (
            (dids[0], clients[0], g.CheckFirmware(g.WIFI)),
            (dids[1], clients[1], g.Firmware(g.WIFI, fid, f"http://ota.example/dev/ota/download/{fid}/firmware.bin")),
            (dids[3], clients[3], g.CheckFirmware(g.WIFI)),  # never said what it has
        ):
            await client.until(self.told(did, packet))
        for client in (clients[2], clients[4]):
            self.assertNotIn(b"ser2cli_res", client.data)

    async def test_not_all_at_once(self) -> None:
        sent: list[str] = []
        self.devices.notices._tell = lambda did, payload: sent.append(did)
        self.devices.notices._waiting.extend((str(number), b"") for number in range(120))
        self.devices.notices._next()
        self.assertEqual(len(sent), 50)
        await self.until(lambda: len(sent) == 120)
        self.assertIsNone(self.devices.notices._call)

    async def test_inactive_images_are_not_told_of(self) -> None:
        await self.online(await self.register())
        fid = await self.hand_in()
        reply = await self.api("PATCH", f"/gizwits/firmware/{fid}", {"rule": {"percentage": 100}})
        self.assertEqual(reply.json["told"], 0)


def image(fid: int, soft: str, active: bool = True, **rule: Any) -> Image:
    return Image(
        fid=fid,
        product=PRODUCT,
        kind=1,
        hard_version=HARD,
        soft_version=soft,
        file="",
        filename="x.bin",
        size=1,
        md5="",
        created_at=0.0,
        active=active,
        rule=Rule(**rule),
    )


class RuleTests(SynchronousTestCase):
    def test_shares_are_even_and_stay(self) -> None:
        dids = [f"{number:022}" for number in range(2000)]
        for percentage in (0, 10, 50, 100):
            covered = {did for did in dids if Rule(percentage=percentage).covers(1001, did, "1")}
            self.assertLess(abs(len(covered) / len(dids) - percentage / 100), 0.04)
            more = {did for did in dids if Rule(percentage=percentage + 10).covers(1001, did, "1")}
            self.assertLessEqual(covered, more)
        self.assertNotEqual([share_of(1001, did) for did in dids], [share_of(1002, did) for did in dids])

    def test_choice(self) -> None:
        images = [image(1, "2"), image(2, "3", active=False), image(3, "2"), image(4, "9", devices=(DID,))]
        self.assertEqual(choose(images, OTHER, "1"), images[2])
        self.assertEqual(choose(images, DID, "1"), images[3])
        self.assertEqual(choose(images, None, "1"), images[2])
        self.assertIsNone(choose(images, OTHER, "2"))

    @given(st.integers(0, 100), st.text("0123456789abc", min_size=22, max_size=22), st.booleans())
    def test_a_percentage_of_a_list(self, percentage: int, did: str, listed: bool) -> None:
        rule = Rule(devices=(did,) if listed else (DID,), percentage=percentage)
        self.assertEqual(rule.covers(7, did, "1"), listed and share_of(7, did) < percentage)
