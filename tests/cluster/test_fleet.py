"""Gateways on two workers of one machine: firmware, backups and campaigns, whichever worker is asked, fetched from or
posted to.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.cluster.bed import SERVER
from tests.devices.gateway88.real import reactor
from tests.fleet.real import IMAGE, NEW_GATEWAY, FleetCase
from tests.real import PATIENCE

#: So many that each worker has some of them, but for one run in a thousand.
COUNT = 10


class TwoWorkers(FleetCase):
    timeout = 180

    def setUp(self) -> Deferred[None]:  # type: ignore[override]  # trial waits for it
        self.settings = {
            **self.settings,
            "broker.workers": "2",
            "storage.url": json.dumps(SERVER.get().url),
            "storage.allow_volatile": "true",
            "redis.prefix": json.dumps(SERVER.prefix()),
            "cluster.enabled": "true",
            "cluster.lease": "3",
        }
        started = super().setUp()
        self.addCleanup(self.end)
        return started

    async def end(self) -> None:
        """Of the workers, too, which a kill of their parent would leave."""
        await gatherResults([gateway.stop() for gateway in self.gateways])
        try:
            await deferToThread(self.broker.stop)
        finally:
            Path("broker.log").write_text("\n".join(self.broker.output))

    async def call(self, expected: int, method: str, path: str, body: Any = None) -> Any:
        """Asked again while a worker is being replaced, or the duty is."""
        give_up = time.monotonic() + PATIENCE
        while True:
            try:
                status, answer = await deferToThread(self.broker.call, method, path, body)
            except (ConnectionError, http.client.HTTPException):
                status, answer = 0, None
            if status not in (0, 503) or method != "GET" or time.monotonic() > give_up:
                self.assertEqual(status, expected, answer)
                return answer
            await deferLater(reactor, 0.1)

    async def both(self) -> None:
        await self.until(lambda: sum("started: version" in line for line in self.broker.output) == 2, "both are there")

    async def fleet(self) -> list[Any]:
        await self.both()
        gateways = await self.gateways_of(["does"] * COUNT)
        self.start(gateways)
        await self.until(lambda: all(one.online for one in gateways), "the gateways are online")
        return gateways

    async def test_one_by_one(self) -> None:
        """Ordered at either worker, for gateways on either, with a backup before it that either takes."""
        gateways = await self.fleet()
        self.assertEqual((await self.put("/files/relay.bin", IMAGE))[0], 201)
        orders = []
        for gateway in gateways:
            body = {"file": "relay.bin", "version": NEW_GATEWAY, "backup": True}
            orders.append(await self.call(202, "POST", f"/gateways/{gateway.id}/firmware", body))
        for gateway, order in zip(gateways, orders, strict=True):
            await self.command(order["backup"], "succeeded")
            await self.command(order["id"], "succeeded")
            self.assertEqual((gateway.version, gateway.firmware == IMAGE), (NEW_GATEWAY, True))
            backups = await self.call(200, "GET", f"/gateways/{gateway.id}/backups")
            self.assertEqual(len(backups["items"]), 1)

    async def test_a_campaign_whose_process_is_killed(self) -> None:
        gateways = await self.fleet()
        self.assertEqual((await self.put("/files/relay.bin", IMAGE))[0], 201)
        id = await self.begin(protocol="gateway88", image="relay.bin", version=NEW_GATEWAY, pace={"concurrency": 3})
        await self.reached(id, lambda one: one["counts"]["confirmed"] >= 3)
        os.kill(self.leader("campaigns"), signal.SIGKILL)
        finished = await self.reached(id, lambda one: one["closed"], 120)
        self.assertEqual((finished["state"], finished["counts"]["confirmed"]), ("finished", COUNT))
        for gateway in gateways:
            self.assertEqual((gateway.version, gateway.counts.updates), (NEW_GATEWAY, 1), "told once")

    def leader(self, duty: str) -> int:
        """The process id of the worker that has this duty."""
        worker = self.matches(rf"-w(\d+)\.\d+ has the {duty} now")[-1][1]
        return {match[1]: int(match[2]) for match in self.matches(r"worker (\d+): process (\d+)")}[worker]

    def matches(self, pattern: str) -> list[re.Match[str]]:
        return [match for line in self.broker.output if (match := re.search(pattern, line))]
