"""The demo with a real broker, as a user sees it: two runs in one folder, Ctrl-C, what is wrong in one line."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

from tests.simulate.processes import ProcessTests


class DemoTests(ProcessTests):
    async def test_messages_cross_and_ctrl_c_ends_it_twice_in_a_row(self) -> None:
        for _ in range(2):
            demo = self.start_demo()
            await demo.until("(NovaCloud) -> dashboard (MQTT)      data", 3)
            await demo.until("(NovaCloud) -> monitor (WebSocket)      data", 1)
            await demo.until("dashboard (MQTT) -> ", 1)
            await demo.until("backend (HTTP) -> ", 1)
            await demo.until("reply     succeeded after", 1)
            self.assertTrue((self.folder / "var" / "admin.token").exists())
            self.assertIn("var/admin.token", demo.output)
            self.assertIn(f"tcp:{self.ports['mqtt']}", demo.output)
            demo.interrupt()
            status = await demo.ended
            self.assertEqual(status, 0, demo.output)
            self.assertNotIn("Traceback", demo.output)
            self.assertNotIn("refused", demo.output)

    async def test_sigterm_ends_it_while_it_starts(self) -> None:
        demo = self.start_demo()
        await demo.until("broker |")
        transport: Any = demo.transport
        transport.signalProcess("TERM")
        self.assertEqual(await demo.ended, 0, demo.output)
        self.assertNotIn("Traceback", demo.output)

    async def test_it_ends_when_nobody_reads_its_lines_any_more(self) -> None:
        demo = self.start_demo()
        await demo.until("(NovaCloud) -> ")
        transport: Any = demo.transport
        transport.closeStdout()
        self.assertEqual(await demo.ended, 0, demo.output)
        self.assertNotIn("Traceback", demo.output)

    async def test_a_port_that_is_taken_is_one_line(self) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", self.ports["mqtt"]))
            other.listen()
            demo = self.start_demo()
            self.assertEqual(await demo.ended, 1)
        (line,) = demo.lines
        self.assertIn(f"tcp:{self.ports['mqtt']}", line)
        self.assertIn("in use", line)

    async def test_a_broker_that_dies_takes_the_demo_with_it(self) -> None:
        demo = self.start_demo()
        await demo.until("(NovaCloud) -> ")
        lock = (self.folder / "var" / "broker.lock").read_text()
        os.kill(int(lock), signal.SIGKILL)
        self.assertEqual(await demo.ended, 128 + signal.SIGKILL)
        self.assertIn("demo: the broker ended with status 137", demo.output)
        self.assertNotIn("Traceback", demo.output)
