"""A real broker, and fleets of simulated gateways and Gizwits devices that update as they like."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any, get_args

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from broker.devices.gizwits.codec import WIFI
from broker.simulate.gateway88.behaviour import Update as GatewayUpdate
from broker.simulate.gateway88.behaviour import registration
from broker.simulate.gateway88.gateway import SimulatedGateway
from broker.simulate.gizwits import SimulatedGizwits
from broker.simulate.gizwits_traits import GizwitsBehaviour, gizwits_identity
from broker.simulate.gizwits_traits import Update as GizwitsUpdate
from tests.devices.gateway88.real import RealCase, free_ports

reactor: Any = global_reactor

PRODUCT = "6f3074fe43894547a4f1314bd7e3ae0b"
OLD_GATEWAY, NEW_GATEWAY = "2.3.1", "2.4"
OLD_GIZWITS, NEW_GIZWITS = "04020006", "04020007"
IMAGE = bytes(range(253)) * 1_000
#: Gateways that show nothing of having got an order: it is sent to them again if the broker was killed meanwhile.
SILENT_ONES = ("refuses", "idles", "dumb")

#: What devices make of an update -> states in which their lines may end. Of an answer that was lost with the broker
#: nothing is known.
GATEWAY_ENDS: dict[str, set[str]] = {
    "does": {"confirmed"},
    "refuses": {"failed", "no_answer"},
    "breaks": {"failed"},
    "keeps": {"failed"},
    "claims": {"failed", "no_answer"},
    "idles": {"failed", "no_answer"},
    "dumb": {"no_answer"},
}
GIZWITS_ENDS: dict[str, set[str]] = {
    "does": {"confirmed"},
    "breaks": {"failed"},
    "keeps": {"failed"},
    "claims": {"failed"},
    "dumb": {"no_answer"},
}
assert set(GATEWAY_ENDS) == set(get_args(GatewayUpdate)) and set(GIZWITS_ENDS) == set(get_args(GizwitsUpdate))


def cancel(timer: Any) -> None:
    if timer.active():
        timer.cancel()


def shares(count: int) -> list[str]:
    """What each of so many devices does: 10 % fail, 5 % lie, the others update."""
    failing = ["breaks", "dumb"] * (count // 20)
    lying = (["keeps", "claims"] * count)[: count // 20]
    return failing + lying + ["does"] * (count - len(failing) - len(lying))


class FleetCase(RealCase):
    """``settings`` of campaigns are those of devices that are quick."""

    timeout = 600
    settings = {
        "campaigns.answer_timeout": "20",
        "campaigns.fetch_timeout": "20",
        "campaigns.confirm_timeout": "20",
        "campaigns.queue_timeout": "30",
    }

    def setUp(self) -> Deferred[None]:  # type: ignore[override]  # trial waits for it
        mqtt, gservice = free_ports(2)
        local = "interface=127.0.0.1"
        self.settings = {
            **self.settings,
            "listeners.mqtt.bind": f'["tcp:{mqtt}:{local}"]',
            "listeners.gservice.bind": f'["tcp:{gservice}:{local}"]',
        }
        self.gservice_port = gservice
        self.devices: list[SimulatedGizwits] = []
        started = super().setUp()
        self.addCleanup(lambda: gatherResults([device.stop() for device in self.devices]))
        return started

    # -- fleets ----------------------------------------------------------------------------------------------------

    async def gateways_of(self, behaviours: list[str]) -> list[SimulatedGateway]:
        """Registered, not started."""
        fleet = [self.gateway(number, update=how) for number, how in enumerate(behaviours)]
        lines = "".join(json.dumps(registration(one.mac)) + "\n" for one in fleet)
        await self.call(200, "POST", "/devices/import", lines.encode())
        return fleet

    async def gizwits_of(self, behaviours: list[str]) -> list[SimulatedGizwits]:
        """Of a product that is registered, not started; they register themselves."""
        await self.call(201, "POST", "/products", {"key": PRODUCT, "name": "lamp", "protocol": "gizwits"})
        for number, how in enumerate(behaviours):
            behaviour: Any = {"update": how}
            device = SimulatedGizwits(
                reactor,
                TCP4ClientEndpoint(reactor, "127.0.0.1", self.gservice_port),
                "127.0.0.1",
                lambda host, port: TCP4ClientEndpoint(reactor, "127.0.0.1", port),
                gizwits_identity(PRODUCT, 1, number),
                behaviour=GizwitsBehaviour(report_every=0, tempo=10, **behaviour),
            )
            self.devices.append(device)
        return self.devices

    async def images(self) -> int:
        """One for gateways, and one for Gizwits devices, whose number this is."""
        status, _ = await deferToThread(self.broker.call, "PUT", "/files/relay.bin", IMAGE)
        self.assertEqual(status, 201)
        query = f"product={PRODUCT}&type=wifi&hard_version=000LINUX&soft_version={NEW_GIZWITS}"
        answer = await self.call(201, "POST", f"/gizwits/firmware?{query}", IMAGE)
        return int(answer["id"])

    async def put(self, path: str, data: bytes) -> tuple[int, Any]:
        found: tuple[int, Any] = await deferToThread(self.broker.call, "PUT", path, data)
        return found

    def start(self, fleet: list[Any], gap: float = 0.01) -> None:
        for number, device in enumerate(fleet):
            timer = reactor.callLater(number * gap, device.start)
            self.addCleanup(cancel, timer)

    # -- campaigns -------------------------------------------------------------------------------------------------

    async def begin(self, **plan: Any) -> str:
        campaign = await self.call(201, "POST", "/campaigns", {"targets": {"filter": {}}, **plan})
        await self.call(200, "POST", f"/campaigns/{campaign['id']}/start")
        return str(campaign["id"])

    async def campaign(self, id: str) -> Any:
        return await self.call(200, "GET", f"/campaigns/{id}")

    async def reached(self, id: str, condition: Any, seconds: float = 240) -> Any:
        """The campaign once this is so of it."""
        give_up = time.monotonic() + seconds
        while True:
            found = await self.campaign(id)
            if condition(found):
                return found
            if time.monotonic() > give_up:
                lines = await self.lines(id)
                open_ones = [one for one in lines if one["state"] not in ("confirmed", "failed", "skipped")]
                self.fail(f"waited in vain: {found}\n{open_ones[:10]}\n" + "\n".join(self.broker.output[-20:]))
            await deferLater(reactor, 0.1)

    async def lines(self, id: str, state: str | None = None) -> list[Any]:
        found: list[Any] = []
        cursor: str | None = None
        while True:
            query = f"limit=50{f'&cursor={cursor}' if cursor else ''}{f'&state={state}' if state else ''}"
            page = await self.call(200, "GET", f"/campaigns/{id}/lines?{query}")
            found += page["items"]
            cursor = page["next"]
            if cursor is None:
                return found

    # -- the truth -------------------------------------------------------------------------------------------------

    async def check_counts(self, id: str) -> list[Any]:
        """The lines, once what the campaign shows has been recounted from them, in two ways."""
        campaign, lines = await self.campaign(id), await self.lines(id)
        counted = Counter(line["state"] for line in lines)
        self.assertEqual({state: count for state, count in campaign["counts"].items() if count}, dict(counted))
        self.assertEqual(campaign["total"], len(lines))
        for state, count in counted.items():
            self.assertEqual(len(await self.lines(id, state)), count, state)
        return lines

    def check_gateways(self, lines: list[Any], fleet: list[SimulatedGateway]) -> None:
        by_id = {line["device"]: line for line in lines}
        self.assertEqual(set(by_id), {gateway.id for gateway in fleet})
        for gateway in fleet:
            line, how = by_id[gateway.id], gateway.behaviour.update
            self.assertIn(line["state"], GATEWAY_ENDS[how], (how, line))
            self.assertEqual(line["attempt"], 1, line)
            told = (1, 2) if how in SILENT_ONES else (1,)
            self.assertIn(gateway.counts.updates, told, (how, line))
            self.check_reason(how, line, OLD_GATEWAY, NEW_GATEWAY)
            if how == "does":
                self.assertEqual((gateway.version, gateway.firmware == IMAGE), (NEW_GATEWAY, True), line)
                self.assertEqual((gateway.counts.downloads, gateway.counts.reboots), (1, 1), line)

    def check_gizwits(self, lines: list[Any], fleet: list[SimulatedGizwits]) -> None:
        by_id = {line["device"]: line for line in lines}
        self.assertEqual(set(by_id), {device.did for device in fleet})
        for device in fleet:
            line, how = by_id[device.did], device.behaviour.update
            self.assertIn(line["state"], GIZWITS_ENDS[how], (how, line))
            self.assertEqual(line["attempt"], 1, line)
            self.check_reason(how, line, OLD_GIZWITS, NEW_GIZWITS)
            if how == "does":
                self.assertEqual(device.flash.versions[WIFI][1], NEW_GIZWITS, line)
                self.assertEqual((device.counts.upgrades, device.counts.downloads), (1, 1), line)

    def check_reason(self, how: str, line: Any, old: str, new: str) -> None:
        reason = line["reason"]
        if how == "does":
            self.assertIsNotNone(line["fetching_at"], line)
            self.assertEqual(line["reported"], new, line)
        elif how == "keeps":
            self.assertEqual(reason, f"it has fetched the image and still reports {old}", line)
        elif how == "claims" and line["state"] == "failed":
            self.assertEqual(reason, f"it reports {new} and has never fetched the image", line)
