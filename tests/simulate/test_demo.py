"""The demo with a real broker, as a user sees it: the whole matrix, twice in one folder, Ctrl-C, a line for errors."""

from __future__ import annotations

import os
import re
import signal
import socket
from typing import Any

from twisted.internet import reactor as _reactor

from broker.simulate.api import Api
from tests.simulate.processes import ProcessTests, Running, free_ports

reactor: Any = _reactor

PROTOCOLS = ("novacloud", "gateway88", "gizwits", "lorawan")
SIDES = (
    "mqtt-dashboard",
    "mqtt-client",
    "http-backend",
    "ws-monitor",
    "gizwits-cloud",
    "phone-app",
    "web-app",
    "customer-server",
)
#: A person's app binds devices with their passcode, and gateways have none.
WITHOUT = {("gateway88", "phone-app"), ("gateway88", "web-app")}
CELLS = [(protocol, side) for protocol in PROTOCOLS for side in SIDES if (protocol, side) not in WITHOUT]

#: Seconds in which everything has to be seen, and by how much a machine may be slower that runs other tests beside.
#: (Alone it takes five.)
SOON = 10.0
SLOWNESS = 3.0


class DemoTests(ProcessTests):
    def setUp(self) -> None:
        super().setUp()
        self.gateways, self.files, self.lorawan = free_ports(3)

    def settings(self) -> dict[str, str]:
        return super().settings() | {
            "listeners.gateway88.bind": f'["tls:{self.gateways}:interface=127.0.0.1"]',
            "listeners.files.bind": f'["tls:{self.files}:interface=127.0.0.1"]',
            "listeners.lorawan.bind": f'["udp:{self.lorawan}:interface=127.0.0.1"]',
        }

    def start_demo(self, *options: str) -> Running:
        return self.start("-m", "broker.simulate", "demo", *options)

    def check_matrix(self, demo: Running) -> None:
        """All of it was said, soon enough, and nothing went wrong so far."""
        whole = next(number for number, line in enumerate(demo.lines) if "the whole matrix was seen" in line)
        found = re.search(r"(\d+) cells, ([0-9.]+) s after the address", demo.lines[whole])
        assert found is not None
        self.assertEqual(int(found[1]), len(CELLS))
        self.assertLess(float(found[2]), SOON * SLOWNESS)
        for protocol, side in CELLS:
            pattern = re.compile(rf"cell +{protocol} x {side} +\S+ .+: succeeded")
            self.assertTrue(any(map(pattern.search, demo.lines)), f"{protocol} x {side}\n{demo.output}")
        self.assertNotIn("refused", demo.output)
        self.assertNotIn("Traceback", demo.output)

    async def check_nobody_refused(self) -> None:
        token = (self.folder / "var" / "admin.token").read_text().strip()
        api = Api(reactor, f"http://127.0.0.1:{self.ports['http']}", token)
        try:
            overview = await api.call("GET", "/overview")
            strangers = await api.call("GET", "/quarantine")
        finally:
            await api.close()
        self.assertEqual(
            overview["devices"]["registered"], {"novacloud": 9, "gateway88": 5, "gizwits": 5, "lorawan": 11}
        )
        self.assertEqual(len(strangers["items"]), 1)
        for listener in overview["listeners"]:
            self.assertEqual(
                (listener["name"], listener["refused"], listener["logins_failed"]), (listener["name"], {}, 0)
            )

    async def test_the_whole_matrix_is_seen_and_ctrl_c_ends_it_twice_in_a_row(self) -> None:
        # The second time everybody is there already, and faults begin.
        for options in (("--devices", "30", "--no-faults"), ("--seed", "7")):
            demo = self.start_demo(*options)
            await demo.until(f"Open http://127.0.0.1:{self.ports['http']}/ ")
            await demo.until("the whole matrix was seen")
            await demo.until("cell", len(CELLS))
            self.check_matrix(demo)
            if "--devices" in options:
                await demo.until("9 further devices are coming")
            await self.check_nobody_refused()
            token = (self.folder / "var" / "admin.token").read_text().strip()
            self.assertIn("var/admin.token", demo.output)
            self.assertNotIn(token, demo.output)  # lines may be kept
            began = reactor.seconds()
            demo.interrupt()
            self.assertEqual(await demo.ended, 0, demo.output)
            self.assertLess(reactor.seconds() - began, SOON)
            self.assertNotIn("Traceback", demo.output)
            self.assertEqual("goes wrong" in demo.output, "--no-faults" not in options)

    async def test_a_terminal_shows_a_table_and_the_token(self) -> None:
        demo = self.start_on_terminal("-m", "broker.simulate", "demo", "--no-faults")
        await demo.until("the whole matrix was seen")
        await demo.until("Customer server", 3)
        token = (self.folder / "var" / "admin.token").read_text().strip()
        self.assertIn(token, demo.output)
        for title in ("NovaCloud", "0x88 gateways", "Gizwits", "LoRaWAN"):
            self.assertIn(title, demo.output)
        demo.type(b"\x03")
        self.assertEqual(await demo.ended, 0, demo.output)
        self.assertIn("\x1b[?25h", demo.output)  # the cursor is back
        self.assertNotIn("Traceback", demo.output)

    async def test_sigterm_ends_it_while_it_starts(self) -> None:
        # While the broker loads, and while everybody is being registered.
        for moment in ("broker |", "Open http"):
            demo = self.start_demo()
            await demo.until(moment)
            transport: Any = demo.transport
            transport.signalProcess("TERM")
            self.assertEqual(await demo.ended, 0, demo.output)
            self.assertNotIn("Traceback", demo.output)
            self.assertNotIn("cannot go on", demo.output)

    async def test_it_ends_when_nobody_reads_its_lines_any_more(self) -> None:
        demo = self.start_demo()
        await demo.until("cell  ")
        transport: Any = demo.transport
        transport.closeStdout()
        self.assertEqual(await demo.ended, 0, demo.output)
        self.assertNotIn("Traceback", demo.output)

    async def test_a_port_that_is_taken_is_one_line(self) -> None:
        for kind, port in ((socket.SOCK_STREAM, self.ports["mqtt"]), (socket.SOCK_DGRAM, self.lorawan)):
            with socket.socket(type=kind) as other:
                other.bind(("127.0.0.1", port))
                if kind == socket.SOCK_STREAM:
                    other.listen()
                demo = self.start_demo()
                self.assertEqual(await demo.ended, 1)
            (line,) = demo.lines
            self.assertIn(f":{port}", line)
            self.assertIn("in use", line)

    async def test_a_listener_that_is_off_is_one_line(self) -> None:
        self.gateways = 0
        demo = self.start_demo()
        self.assertEqual(await demo.ended, 1)
        self.assertEqual(demo.lines, ["demo: the demo needs listeners.gateway88.bind to have a tls:PORT"])

    async def test_a_broker_that_dies_takes_the_demo_with_it(self) -> None:
        demo = self.start_demo()
        await demo.until("cell  ")
        lock = (self.folder / "var" / "broker.lock").read_text()
        os.kill(int(lock), signal.SIGKILL)
        self.assertEqual(await demo.ended, 128 + signal.SIGKILL)
        self.assertIn("demo: the broker ended with status 137", demo.output)
        self.assertNotIn("Traceback", demo.output)
