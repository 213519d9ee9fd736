"""The console before devices that lie, pages that forge, a flood of messages, a hundred thousand devices."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.defer import Deferred

from tests.console.stage import BrowserCase, Stage, Visit
from tests.real import eventually

#: What would be seen if any of it ran: a dialog, an error, a request to another host.
EVIL = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(2)</script>",
    "javascript:alert(3)",
    '"><svg onload=alert(4)>',
    "{{constructor.constructor('alert(5)')()}}",
    "<iframe src=https://evil.example/></iframe>",
)
NAME = EVIL[0] + EVIL[1]
#: Devices for the search, and messages a second for the feed.
MANY = 100_000
RATE = 1_000
SLICE = 20_000
#: Milliseconds: the longest that the page did nothing else in three seconds, and a search on the server.
LONGEST = """() => new Promise((done) => {
  let last = performance.now(), longest = 0, count = 0;
  const step = () => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    if ((count += 1) < 60) setTimeout(step, 50); else done(longest);
  };
  step();
})"""
SEARCH = """async () => {
  const began = performance.now();
  await (await fetch("/api/v1/devices?q=sensor%20099999&limit=100")).json();
  return performance.now() - began;
}"""


class Device:
    """A NovaCloud device on a blocking socket."""

    def __init__(self, stage: Stage, made: Any) -> None:
        self.socket = socket.create_connection(("127.0.0.1", stage.broker.ports["novacloud"]), timeout=30)
        names = {"device_id": made["id"], "device_key": made["secret"]}
        self.say({"type": "auth", "payload": names})
        self.socket.recv(65_536)

    def say(self, *messages: Any) -> None:
        self.socket.sendall(b"".join(json.dumps(one).encode() + b"\n" for one in messages))


class HostileTests(BrowserCase):
    devices: ClassVar[dict[str, Any]] = {}

    @classmethod
    def populate(cls, stage: Stage) -> None:
        broker = stage.broker
        broker.made(
            "/products",
            {
                "key": "evil",
                "name": NAME,
                "protocol": "novacloud",
                "sensors": [{"value_key": EVIL[3], "name": EVIL[3], "unit": EVIL[4]}],
                "actuators": [{"command_key": EVIL[1], "name": EVIL[0]}],
            },
        )
        broker.made("/applications", {"id": "evil", "kind": "mqtt", "name": NAME})
        made = broker.made("/devices", {"protocol": "novacloud", "name": NAME, "product": "evil"})
        assert broker.call("PUT", f"/applications/evil/devices/{made['id']}")[0] == 204
        device = Device(stage, made)
        payload: dict[str, Any] = dict(zip(EVIL, reversed(EVIL), strict=True))
        # Names that objects of the page's language have of themselves.
        payload |= {"constructor": 1, "__proto__": 2, "toString": 3}
        device.say({"type": "data", "payload": payload}, {"type": "status", "payload": {EVIL[0]: EVIL[1]}})
        other = broker.made("/devices", {"protocol": "novacloud", "name": "flood"})
        cls.devices = {"evil": made, "socket": device, "flood": other}

        def told() -> bool:
            return len(broker.call("GET", f"/devices/{made['id']}")[1]["unmapped"]) > 3

        eventually(told, "the device has said it all")
        stage.simulate("gateway88", "--count", "1", "--port", str(stage.gateway_port))

    def test_nothing_of_it_runs(self) -> Deferred[None]:
        id = self.devices["evil"]["id"]
        pages: tuple[str, ...] = (
            "overview",
            "devices",
            f"devices/{id}",
            f"devices/{id}/messages",
            f"devices/{id}/commands",
            f"devices/{id}/settings",
        )
        pages += (
            "applications",
            "applications/evil",
            "products",
            "products/evil",
            "gateways",
            "gateways/quarantine",
            "gateways/backups",
        )

        def work(visit: Visit) -> None:
            for where in pages:
                visit.go(where)
                visit.page.wait_for_selector("main h1")
                visit.page.wait_for_load_state("networkidle")
                self.assertEqual(
                    visit.page.eval_on_selector_all(
                        "main img, main script, main iframe, main svg[onload]", "all => all.length"
                    ),
                    0,
                    where,
                )
                links = visit.page.eval_on_selector_all("a", "all => all.map(one => one.href)")
                self.assertTrue(all(link.startswith(self.stage.url) for link in links), links)
            visit.go("devices", id)
            visit.page.wait_for_selector("[data-online]")
            self.assertIn(NAME, visit.page.inner_text("h1"))
            self.devices["socket"].say({"type": "data", "payload": {EVIL[3]: 5, "constructor": 6, "__proto__": 7}})
            for key in ("constructor", "__proto__"):
                visit.page.wait_for_selector(f"[data-chart='{key}'] .plot")
            visit.page.wait_for_function("() => document.querySelectorAll('[data-chart]').length >= 3")

        return self.visit(work)

    def test_a_page_of_another_site(self) -> Deferred[None]:
        """It posts a form, fetches with the cookie, opens a stream, frames the console: nothing comes of it."""
        broker = self.stage.broker
        page = (Path(__file__).parent / "evil.html").read_text("utf-8").replace("BROKER", self.stage.url).encode()

        class Evil(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        server = HTTPServer(("127.0.0.1", 0), Evil)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.shutdown)
        before = len(broker.call("GET", "/devices?q=forged")[1]["items"])

        def work(visit: Visit) -> None:
            # The same machine under another name is another site to a browser.
            visit.page.goto(f"http://localhost:{server.server_port}/")
            visit.page.wait_for_function("() => window.said.length >= 3")
            said = visit.page.evaluate("window.said")
            self.assertEqual(sorted(said), ["closed", "sent", "unread"])
            with visit.page.expect_navigation():
                visit.page.evaluate("document.forms[0].submit()")
            self.assertIn('"status":40', visit.page.content())
            visit.page.goto(f"{self.stage.url}/")
            visit.page.wait_for_selector("[data-figure=online]")
            self.assertEqual(len(broker.call("GET", "/devices?q=forged")[1]["items"]), before)

        return self.visit(work, silent=False)

    def test_a_thousand_messages_a_second(self) -> Deferred[None]:
        made = self.devices["flood"]
        ended = threading.Event()

        def flood() -> None:
            device = Device(self.stage, made)
            number = 0
            while not ended.wait(0.05):
                count = RATE // 20
                device.say(*({"type": "data", "payload": {"n": number + one}} for one in range(count)))
                number += count
            device.socket.close()

        def work(visit: Visit) -> None:
            visit.go("devices", made["id"], "messages")
            visit.page.wait_for_selector(".feed")
            thread = threading.Thread(target=flood)
            thread.start()
            try:
                visit.page.wait_for_function("() => document.querySelectorAll('.feed')[0].children.length === 200")
                # The longest time in which the page answered nothing, while some thousand messages came.
                longest = visit.page.evaluate(LONGEST)
                self.assertLess(longest, 1_000)
                self.assertEqual(visit.page.evaluate("document.querySelectorAll('.feed')[0].children.length"), 200)
                visit.page.click("nav.tabs a >> nth=0")
                visit.page.wait_for_selector("[data-value=n]")
            finally:
                ended.set()
                thread.join()

        return self.visit(work)

    def test_z_a_hundred_thousand_devices(self) -> Deferred[None]:
        for first in range(0, MANY, SLICE):
            made = (
                {"protocol": "novacloud", "name": f"sensor {number:06d}", "secret": "x" * 32}
                for number in range(first, first + SLICE)
            )
            lines = b"\n".join(json.dumps(one).encode() for one in made)
            self.assertEqual(self.stage.broker.call("POST", "/devices/import", lines)[0], 200)

        def work(visit: Visit) -> None:
            page = visit.page
            visit.go("devices")
            page.wait_for_selector(".window a.line")
            for _ in range(5):  # more than one page of the list
                page.evaluate(
                    "() => { const box = document.querySelector('.window'); box.scrollTop = box.scrollHeight; }"
                )
                page.wait_for_timeout(300)
            shown = int(page.inner_text("p[role=status]").split()[0])
            self.assertGreaterEqual(shown, 300)
            self.assertLess(page.evaluate("document.querySelectorAll('.window a.line').length"), 100)
            took = page.evaluate(SEARCH)
            self.assertLess(took, 2_000)
            page.fill("input[type=search]", "sensor 099999")
            page.wait_for_function("() => document.querySelectorAll('.window a.line').length === 1")

        return self.visit(work)
