"""Firmware, backup, recovery through the real process, with a kill -9 in the middle of each; simulated gateways."""

from __future__ import annotations

from hashlib import sha256

from twisted.internet.threads import deferToThread

from tests.devices.gateway88.real import RealCase

#: More than sockets hold, and slow enough to be killed in the middle of it.
IMAGE = bytes(range(251)) * 64_000
RATE = 4_000_000


class DigestTests(RealCase):
    settings = {"listeners.files.digest_urls": "true"}

    async def test_firmware_with_the_url_of_its_digest(self) -> None:
        status, _ = await deferToThread(self.broker.call, "PUT", "/files/relay.bin", b"image")
        self.assertEqual(status, 201)
        gateway = await self.known()
        asked = {"file": "relay.bin", "version": "9.9"}
        taken = await self.call(202, "POST", f"/gateways/{gateway.id}/firmware", asked)
        command = await self.command(taken["id"], "succeeded", "failed", "timed_out")
        self.assertEqual((command["status"], gateway.firmware), ("succeeded", b"image"))


class OperationTests(RealCase):
    async def image(self) -> None:
        status, _ = await deferToThread(self.broker.call, "PUT", "/files/relay.bin", IMAGE)
        self.assertEqual(status, 201)

    async def test_firmware(self) -> None:
        await self.image()
        gateway = await self.known()
        asked = {"file": "relay.bin", "version": "9.9"}
        taken = await self.call(202, "POST", f"/gateways/{gateway.id}/firmware", asked)
        command = await self.command(taken["id"], "succeeded", "failed", "timed_out")
        self.assertEqual((command["status"], command["result"]), ("succeeded", {"swversion": "9.9"}))
        self.assertEqual(sha256(gateway.firmware).digest(), sha256(IMAGE).digest())
        self.assertEqual(gateway.counts.reboots, 1)
        metrics = await self.metrics()
        self.assertEqual(metrics["broker_files_downloads_total"], 1)

    async def test_firmware_killed_in_the_middle(self) -> None:
        await self.image()
        gateway = await self.known(transfer_rate=RATE)
        asked = {"file": "relay.bin", "version": "9.9"}
        taken = await self.call(202, "POST", f"/gateways/{gateway.id}/firmware", asked)
        await self.command(taken["id"], "pending")
        await self.until(lambda: gateway.transfers.fetched > 500_000, "the download has begun")
        self.assertLess(gateway.transfers.fetched, len(IMAGE) // 2)
        await self.kill_and_start()
        await self.until(lambda: gateway.online, "it is back")
        self.assertEqual((await self.call(200, "GET", f"/commands/{taken['id']}"))["status"], "pending")
        command = await self.command(taken["id"], "succeeded", "failed", "timed_out")
        self.assertEqual((command["status"], gateway.version), ("succeeded", "9.9"))
        self.assertEqual(sha256(gateway.firmware).digest(), sha256(IMAGE).digest())

    async def test_a_wrong_image_is_a_failure(self) -> None:
        await self.image()
        gateway = await self.known(error_rate=1.0)
        asked = {"file": "relay.bin", "version": "9.9"}
        taken = await self.call(202, "POST", f"/gateways/{gateway.id}/firmware", asked)
        self.assertEqual((await self.command(taken["id"], "succeeded", "failed", "timed_out"))["status"], "failed")
        self.assertEqual(gateway.version, "2.3.1")

    async def backed_up(self, gateway_id: str) -> str:
        """The id of a new backup."""
        taken = await self.call(202, "POST", f"/gateways/{gateway_id}/backup", {})
        command = await self.command(taken["id"], "succeeded", "failed", "timed_out")
        self.assertEqual(command["status"], "succeeded", command)
        return str(command["result"]["backup"])

    async def test_backup(self) -> None:
        gateway = await self.known()
        backup = await self.backed_up(gateway.id)
        (listed,) = (await self.call(200, "GET", f"/gateways/{gateway.id}/backups"))["items"]
        self.assertEqual((listed["id"], listed["size"]), (backup, len(gateway.data)))
        self.assertEqual(listed["sha256"], sha256(gateway.data).hexdigest())
        (file,) = self.stored("backups")
        self.assertEqual(file.read_bytes(), gateway.data)

    async def test_backup_killed_in_the_middle(self) -> None:
        gateway = await self.known(transfer_rate=RATE)
        gateway.data = IMAGE
        taken = await self.call(202, "POST", f"/gateways/{gateway.id}/backup", {})
        await self.until(lambda: gateway.transfers.posted > 500_000, "the upload has begun")
        self.assertLess(gateway.transfers.posted, len(IMAGE) // 2)
        await self.kill_and_start()
        self.assertEqual((await self.call(200, "GET", f"/gateways/{gateway.id}/backups"))["items"], [])
        self.assertEqual((await self.call(200, "GET", f"/commands/{taken['id']}"))["status"], "pending")
        command = await self.command(taken["id"], "succeeded", "failed", "timed_out")
        self.assertEqual(command["status"], "succeeded", command)
        self.assertEqual(command["result"]["sha256"], sha256(IMAGE).hexdigest())
        (file,) = self.stored("backups")
        self.assertEqual(file.read_bytes(), IMAGE)

    async def test_recovery_of_a_replaced_gateway(self) -> None:
        old, new = await self.known(0), await self.known(1)
        backup = await self.backed_up(old.id)
        await old.stop()
        self.assertNotEqual(old.data, new.data)
        await self.call(409, "POST", f"/gateways/{new.id}/recovery", {"backup": backup})
        asked = {"backup": backup, "confirm": True}
        taken = await self.call(202, "POST", f"/gateways/{new.id}/recovery", asked)
        command = await self.command(taken["id"], "succeeded", "failed", "timed_out")
        self.assertEqual(command["status"], "succeeded", command)
        self.assertEqual((command["payload"]["from"], command["payload"]["to"]), (old.id, new.id))
        self.assertEqual(new.data, old.data)

    async def test_recovery_killed_in_the_middle(self) -> None:
        gateway = await self.known(transfer_rate=RATE, heartbeat_every=0.5)
        gateway.data = IMAGE
        backup = await self.backed_up(gateway.id)
        gateway.data = b""
        taken = await self.call(202, "POST", f"/gateways/{gateway.id}/recovery", {"backup": backup})
        await self.until(lambda: gateway.transfers.fetched > 500_000, "the download has begun")
        self.assertLess(gateway.transfers.fetched, len(IMAGE) // 2)
        await self.kill_and_start()
        await self.until(lambda: gateway.online, "it is back")
        # It has told about itself and sent heartbeats, and still has not got its data.
        self.assertEqual((await self.call(200, "GET", f"/commands/{taken['id']}"))["status"], "pending")
        self.assertEqual(gateway.data, b"")
        command = await self.command(taken["id"], "succeeded", "failed", "timed_out")
        self.assertEqual(command["status"], "succeeded", command)
        # The last bytes have left the broker, and may still be on their way through the sockets.
        await self.until(lambda: gateway.data, "it has its data")
        self.assertEqual(sha256(gateway.data).digest(), sha256(IMAGE).digest())
