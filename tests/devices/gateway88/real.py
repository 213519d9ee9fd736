"""A real broker with real ports for gateways and their files, and simulated gateways in the test's own reactor."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from broker.simulate.gateway88.behaviour import Behaviour, mac_of, registration
from broker.simulate.gateway88.connecting import unchecked_context
from broker.simulate.gateway88.gateway import SimulatedGateway
from tests.real import PATIENCE, RealBroker

reactor: Any = global_reactor


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment; a broker that is started again needs the same ones."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


class RealCase(TestCase):
    """``broker`` is running; gateways that a test makes are stopped after it."""

    timeout = 180
    #: Settings besides the ports.
    settings: dict[str, str] = {}

    def setUp(self) -> Deferred[None]:  # type: ignore[override]  # trial waits for it
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        gateways, files, http_port = free_ports(3)
        local = "interface=127.0.0.1"
        self.broker = RealBroker(
            folder,
            {
                "listeners.http.bind": f'["tcp:{http_port}:{local}"]',
                "listeners.gateway88.bind": f'["tls:{gateways}:{local}"]',
                "listeners.files.bind": f'["tls:{files}:{local}"]',
                **self.settings,
            },
        )
        self.gateway_port = gateways
        self.gateways: list[SimulatedGateway] = []
        self.context = unchecked_context()
        self.addCleanup(deferToThread, self.broker.kill)
        self.addCleanup(lambda: gatherResults([gateway.stop() for gateway in self.gateways]))
        return deferToThread(self.broker.start)

    async def kill_and_start(self) -> None:
        """kill -9, and a new process with the same data and ports."""
        await deferToThread(self.broker.kill)
        await deferToThread(self.broker.start)

    def gateway(self, number: int = 0, **behaviour: Any) -> SimulatedGateway:
        """One that comes back quickly, not started."""
        quick: dict[str, Any] = {
            "reconnect_every": 0.5,
            "reboot_time": 0.2,
            "install_time": 0.05,
            "transfer_again": 0.3,
            "transfer_tries": 200,
            **behaviour,
        }
        gateway = SimulatedGateway(
            reactor,
            TCP4ClientEndpoint(reactor, "127.0.0.1", self.gateway_port),
            mac_of(1, number),
            behaviour=Behaviour(**quick),
            context=self.context,
        )
        self.gateways.append(gateway)
        return gateway

    async def known(self, number: int = 0, **behaviour: Any) -> SimulatedGateway:
        """One that is registered and online."""
        gateway = self.gateway(number, **behaviour)
        await self.call(201, "POST", "/devices", registration(gateway.mac))
        gateway.start()
        await self.until(lambda: gateway.online, "the gateway is online")
        return gateway

    async def call(self, expected: int, method: str, path: str, body: Any = None) -> Any:
        """A call of the API as the administrator."""
        status, answer = await deferToThread(self.broker.call, method, path, body)
        self.assertEqual(status, expected, answer)
        return answer

    async def command(self, id: str, *states: str) -> Any:
        """The command when it is in one of these states."""
        give_up = time.monotonic() + PATIENCE
        while True:
            command = await self.call(200, "GET", f"/commands/{id}")
            if command["status"] in states:
                return command
            if time.monotonic() > give_up:
                self.fail(f"waited in vain: {command}\n" + "\n".join(self.broker.output[-20:]))
            await deferLater(reactor, 0.05)

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        give_up = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > give_up:
                self.fail(f"waited in vain: {what}\n" + "\n".join(self.broker.output[-20:]))
            await deferLater(reactor, 0.01)

    async def metrics(self) -> dict[str, float]:
        """All samples by their name with labels."""

        def read() -> str:
            connection = http.client.HTTPConnection("127.0.0.1", self.broker.ports["http"], timeout=PATIENCE)
            try:
                connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {self.broker.admin_token}"})
                return connection.getresponse().read().decode()
            finally:
                connection.close()

        found = {}
        for line in (await deferToThread(read)).splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found

    def stored(self, area: str) -> list[Path]:
        """The files of an area on the broker's disk."""
        folder = self.broker.data_dir / "files" / area
        return sorted(folder.iterdir()) if folder.exists() else []
