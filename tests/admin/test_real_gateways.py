"""The command line against a real broker with simulated 0x88 gateways: firmware, backups, one replaced by another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread

from broker.simulate.gateway88.behaviour import mac_of
from tests.admin.bed import Done, call
from tests.devices.gateway88.real import RealCase


class GatewayTests(RealCase):
    async def admin(self, *arguments: str, status: int = 0) -> Done:
        """As its user would: a process of its own."""
        variables = {
            "BROKER_ADMIN_API": f"http://127.0.0.1:{self.broker.ports['http']}",
            "BROKER_ADMIN_TOKEN": self.broker.admin_token,
        }
        done: Done = await deferToThread(call, variables, *arguments)
        self.assertEqual(done.status, status, done)
        self.assertNotIn("Traceback", done.err)
        return done

    async def json(self, *arguments: str, status: int = 0) -> Any:
        return (await self.admin(*arguments, "--json", status=status)).value

    async def test_firmware_backups_and_a_replacement(self) -> None:
        first, second = mac_of(1, 0).hex().upper(), mac_of(1, 1).hex().upper()
        await self.admin("devices", "add", "gateway88", "--id", first, "--name", "hall")
        gateway = self.gateway(0)
        gateway.start()

        backed_up = await self.json("gateways", "backup", first, "--wait", "30s")
        self.assertEqual(backed_up["status"], "succeeded")
        backup = backed_up["result"]["backup"]
        (listed,) = (await self.admin("gateways", "backups", first, "--json")).values
        self.assertEqual((listed["id"], listed["gateway"]), (backup, first))
        overview = await self.admin("gateways", "backups")
        self.assertIn(backup, overview.out)
        self.assertIn("hall", overview.out)

        image = Path(self.mktemp()).absolute()
        image.write_bytes(os.urandom(100_000))
        await self.admin("files", "put", str(image), "--name", "relay-2.4.bin")
        refused = await self.admin("gateways", "firmware", first, "relay-2.4.bin", "2.4", status=2)
        self.assertIn("--yes", refused.err)
        updated = await self.admin(
            *("gateways", "firmware", first, "relay-2.4.bin", "2.4", "--backup", "yes", "--wait", "60s", "--yes")
        )
        self.assertIn("succeeded", updated.out)
        self.assertEqual(len((await self.admin("gateways", "backups", first, "--json")).values), 2)
        missing = await self.admin("gateways", "firmware", first, "nothing", "2.4", "--yes", status=1)
        self.assertIn("404", missing.err)

        recovered = await self.json("gateways", "recovery", first, backup, "--wait", "60s", "--yes")
        self.assertEqual(recovered["status"], "succeeded")
        controlled = await self.json("gateways", "remote-control", first, '{"on": 1}', "--wait", "30s")
        self.assertEqual(controlled["status"], "succeeded")

        question = await self.admin("gateways", "replace", first, "--by", second, status=2)
        self.assertIn(f"{second} would be {first} from now on", question.err)
        self.assertEqual((await self.admin("gateways", "replacements", "--json")).out, "")
        taken = await self.json("gateways", "replace", first, "--by", second, "--yes")
        self.assertEqual(taken["replacement"]["by"], second)
        (replacement,) = (await self.admin("gateways", "replacements", "--json")).values
        self.assertEqual((replacement["gateway"], replacement["by"]), (first, second))
        self.assertIn(second, (await self.admin("gateways", "replacements", first)).out)
        await self.admin("gateways", "unreplace", first, status=2)
        back = await self.admin("gateways", "unreplace", first, "--yes")
        self.assertIn(f"{second} no longer stands in for {first}", back.out)
        await self.admin("gateways", "unreplace", first, "--yes", status=1)
