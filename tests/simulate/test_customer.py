"""`python -m broker.simulate customer` against a real broker, with simulated devices of another protocol."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from broker.simulate.api import Api
from broker.simulate.customer import DUMMY, CustomerIdentity, SimulatedCustomer
from broker.simulate.novacloud import identity
from broker.simulate.process import broker_arguments
from tests.simulate.processes import ProcessTests

FOREIGN = "FF00000000000001"
KEY = "00112233445566778899AABBCCDDEEFF"


def messages(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines if line.startswith("{")]


class CommandTests(ProcessTests):
    async def test_it_hears_a_device_and_commands_it(self) -> None:
        broker = self.start(*broker_arguments()[1:])
        await broker.until("started:")
        options = ["--api", f"http://127.0.0.1:{self.ports['http']}", "--token-file", "var/admin.token"]
        port = str(self.ports["novacloud"])
        devices = self.start(
            *("-m", "broker.simulate", "novacloud", "--count", "1", "--port", port, "--every", "0.2", *options)
        )
        await devices.until("registered 1 of 1")
        token = (self.folder / "var" / "admin.token").read_text().strip()
        api = Api(reactor, options[1], token)
        device = identity(1, 0).id
        await api.call("PATCH", f"/devices/{device}", {"dev_eui": FOREIGN})
        await api.close()
        customer = self.start(
            *("-m", "broker.simulate", "customer", "--port", str(self.ports["loracenter"]), "--bind", device),
            *("--send", FOREIGN, b'{"fan_speed":3}'.hex(), "--service", "4", "--reversed", *options),
        )
        await customer.until('"CMD": "UPLOAD"', 2)
        await customer.until("SENDED TO GW")
        got = messages(customer.lines)
        self.assertEqual((got[0]["MSG"], got[0]["ServiceId"]), ("CSREG ACCEPT", 4))
        self.assertEqual([one["CODE"] for one in got if one["CMD"] == "SENDTO"], [1, 2])
        upload = next(one for one in got if one["CMD"] == "UPLOAD")
        self.assertEqual(upload["DevEUI"], FOREIGN)
        self.assertIsInstance(json.loads(b64decode(upload["payload"])), dict)
        for running in (customer, devices):
            running.interrupt()
            self.assertEqual(await running.ended, 0, running.output)
            self.assertNotIn("Traceback", running.output)
        await broker.until("client_closed")

    async def test_an_old_one_is_refused_until_it_may_come_without_a_proof(self) -> None:
        broker = self.start(*broker_arguments()[1:])
        await broker.until("started:")
        customer = self.start(
            *("-m", "broker.simulate", "customer", "--port", str(self.ports["loracenter"]), "--old"),
            *("--api", f"http://127.0.0.1:{self.ports['http']}", "--token-file", "var/admin.token"),
        )
        await customer.until("CSREG Refused")
        await broker.until("has no app_key")
        await customer.until("(lost)")

    async def test_what_is_wrong_is_one_line(self) -> None:
        for arguments in (("--send", FOREIGN, "xyz"), ("--app-key", "no")):
            running = self.start("-m", "broker.simulate", "customer", *arguments)
            self.assertEqual(await running.ended, 1, running.output)
            (line,) = running.lines
            self.assertIn("hexadecimal", line)


class IdentityTests(SynchronousTestCase):
    def test_registrations(self) -> None:
        eui = "AA555A0000000000"
        natural = CustomerIdentity(eui, KEY).registration()
        self.assertEqual(natural["Challenge"], "C3E8BB4BD4F3EFC00F18D9786663A63C")
        self.assertNotIn("ServiceId", natural)
        turned = CustomerIdentity(eui, KEY, service=0, reversed=True).registration()
        self.assertEqual((turned["Challenge"], turned["ServiceId"]), ("3CA6636678D9180FC0EFF3D44BBBE8C3", 0))
        old = CustomerIdentity(eui, KEY, old=True).registration()
        self.assertEqual(old, {"AppEUI": eui, "AppNonce": 1234, "Challenge": DUMMY})

    def test_it_comes_again_later_and_later(self) -> None:
        clock = Clock()
        told: list[Any] = []
        nowhere = _Nowhere(clock)
        endpoint = TCP4ClientEndpoint(nowhere, "127.0.0.1", 1)
        customer = SimulatedCustomer(clock, endpoint, CustomerIdentity("05", KEY), told.append)
        customer.start()
        customer.lost()
        for seconds in (1, 2, 4, 8, 16, 32, 60, 60):
            clock.advance(seconds - 0.01)
            before = nowhere.attempts
            clock.advance(0.01)
            self.assertEqual(nowhere.attempts, before + 1)
            customer.lost()
        customer.stop()
        self.assertEqual(told, [{"CMD": "(lost)"}] * 9)
        self.assertEqual(clock.getDelayedCalls(), [])


class _Nowhere:
    """A reactor that connects to nothing."""

    def __init__(self, clock: Clock) -> None:
        self.attempts = 0
        self.callLater = clock.callLater

    def connectTCP(self, *arguments: Any, **named: Any) -> None:
        self.attempts += 1
