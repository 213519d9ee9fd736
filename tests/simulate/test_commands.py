"""`python -m broker.simulate novacloud` and `mqtt` against a real broker."""

from __future__ import annotations

import json
from typing import Any

from broker.simulate.novacloud import identity
from broker.simulate.process import broker_arguments
from tests.simulate.processes import ProcessTests


class CommandTests(ProcessTests):
    def settings(self) -> dict[str, str]:
        tls = f'["tls:{self.ports["novacloud"]}:interface=127.0.0.1"]'
        return super().settings() | {"listeners.novacloud.bind": tls}

    async def start_broker(self) -> list[str]:
        """Start it; the options that name its API and token."""
        broker = self.start(*broker_arguments()[1:])
        await broker.until("started:")
        return ["--api", f"http://127.0.0.1:{self.ports['http']}", "--token-file", "var/admin.token"]

    async def test_devices_and_an_application_register_and_talk(self) -> None:
        api = await self.start_broker()
        port = str(self.ports["novacloud"])
        devices = self.start(
            *("-m", "broker.simulate", "novacloud", "--count", "3", "--port", port, "--tls", "--every", "0.2"),
            *("--verbose", *api),
        )
        await devices.until("registered 3 of 3")
        await devices.until("logged in", 3)
        device = identity(1, 0).id
        application = self.start(
            *("-m", "broker.simulate", "mqtt", "--port", str(self.ports["mqtt"]), "--bind", device),
            *("--command", device, '{"fan_speed": 2}', *api),
        )
        await application.until(f"devices/{device}/up/data  ", 2)
        await application.until('"status":"succeeded"')
        reply = next(line for line in application.lines if '"status":"succeeded"' in line)
        topic, text = reply.split("  ", 1)
        body: dict[str, Any] = json.loads(text)
        self.assertEqual(topic, f"devices/{device}/reply")
        self.assertEqual(body["result"]["current_state"], {"fan_speed": 2})
        for running in (devices, application):
            running.interrupt()
            self.assertEqual(await running.ended, 0, running.output)
            self.assertNotIn("Traceback", running.output)

    async def test_what_is_wrong_is_one_line(self) -> None:
        for arguments, expected in (
            (("novacloud", "--api", "http://127.0.0.1:1"), "admin.token"),
            (("novacloud", "--devices", "nowhere"), "nowhere"),
            (("mqtt",), "--secret-file or --api is needed"),
            (("mqtt", "--command", "id", "{"), "--command"),
        ):
            running = self.start("-m", "broker.simulate", *arguments)
            self.assertEqual(await running.ended, 1, running.output)
            (line,) = running.lines
            self.assertIn(expected, line)

    async def test_gizwits_devices_and_an_app(self) -> None:
        api = await self.start_broker()
        port = str(self.ports["gservice"])
        devices = self.start(
            *("-m", "broker.simulate", "gizwits", "--count", "2", "--port", port, "--every", "0.5", "--verbose", *api)
        )
        await devices.until("logged in", 2)
        app = self.start(
            *("-m", "broker.simulate", "gizwits-app", "--count", "2", "--port", port, "--switch", "on", *api)
        )
        await app.until("  ack 0401", 2)
        await app.until("  report 0401", 4)
        for running in (devices, app):
            running.interrupt()
            self.assertEqual(await running.ended, 0, running.output)
            self.assertNotIn("Traceback", running.output)
