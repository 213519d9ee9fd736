"""Campaigns through the real process, over simulated gateways and Gizwits devices, with kill -9 in the middle.

``BROKER_TEST_CAMPAIGN=200 make test TESTS=tests.fleet.test_campaign_real`` (or ``make campaigns``) has 200 of each; the
usual run has 40.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import gatherResults

from tests.fleet.real import NEW_GATEWAY, FleetCase, shares

#: Of each protocol.
COUNT = int(os.environ.get("BROKER_TEST_CAMPAIGN", "40"))


def has_confirmed(count: float) -> Callable[[Any], bool]:
    return lambda campaign: campaign["counts"]["confirmed"] >= count


def all_online(fleet: list[Any]) -> bool:
    return all(one.online for one in fleet)


class CampaignTests(FleetCase):
    async def test_both_fleets_through_two_kills(self) -> None:
        """10 % fail, 5 % lie about their version, 10 % are offline until later: every line is true in the end."""
        gateways = await self.gateways_of(shares(COUNT))
        devices = await self.gizwits_of(shares(COUNT))
        number = await self.images()
        # Of those that update, a tenth of all comes later. Gizwits devices have to have been there to be registered.
        late = COUNT // 10
        self.start(gateways[:-late])
        self.start(devices)
        await self.until(lambda: sum(one.online for one in gateways) == COUNT - late, "the gateways are online")
        await self.until(partial(all_online, devices), "the Gizwits devices are online")
        await gatherResults([one.stop() for one in devices[-late:]])
        pace = {"concurrency": max(8, COUNT // 8)}
        first = await self.begin(protocol="gateway88", image="relay.bin", version=NEW_GATEWAY, pace=pace)
        second = await self.begin(protocol="gizwits", image=str(number), pace=pace)
        for share in (0.15, 0.45):
            await self.reached(first, has_confirmed(share * COUNT))
            await self.kill_and_start()
        self.start(gateways[-late:])
        self.start(devices[-late:])
        for id in (first, second):
            await self.reached(id, lambda one: one["closed"])
            self.assertEqual((await self.campaign(id))["state"], "finished")
        self.check_gateways(await self.check_counts(first), gateways)
        self.check_gizwits(await self.check_counts(second), devices)

    async def test_a_stop_touches_no_more_than_it_has_at_work(self) -> None:
        """Of gateways that all refuse; and of those of which every tenth does."""
        for every, minimum in ((1, 20), (10, 20)):
            places = 4
            gateways = await self.gateways_of(["refuses" if n % every == 0 else "does" for n in range(COUNT)])
            await self.images_once()
            self.start(gateways)
            await self.until(partial(all_online, gateways), "they are online")
            pace = {"concurrency": places, "stop": {"percent": 5, "minimum": minimum}}
            id = await self.begin(protocol="gateway88", image="relay.bin", version=NEW_GATEWAY, pace=pace)
            await self.reached(id, lambda one: one["state"] == "stopped")
            stopped = await self.reached(
                id, lambda one: not any(one["counts"][state] for state in ("queued", "sent", "accepted", "rebooted"))
            )
            touched = sum(one.counts.updates for one in gateways)
            self.assertGreaterEqual(stopped["failing"], 1)
            # The first that fails is one of twenty: it stops there, and only who was at work goes on to its end.
            self.assertLessEqual(touched - stopped["counts"]["confirmed"] - 1, places)
            self.assertLessEqual(touched, stopped["ended"])
            self.assertEqual(stopped["counts"]["waiting"], COUNT - touched)
            await self.check_counts(id)
            await self.call(200, "POST", f"/campaigns/{id}/cancel")
            await self.reached(id, lambda one: one["closed"])
            await gatherResults([one.stop() for one in gateways])
            for one in gateways:
                await self.call(204, "DELETE", f"/devices/{one.id}")

    async def images_once(self) -> None:
        status, answer = await self.put("/files/relay.bin", b"an image")
        self.assertIn(status, (200, 201), answer)
