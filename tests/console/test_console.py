"""What people do in the console, done by a real browser: every protocol, both languages, keyboard and phone."""

from __future__ import annotations

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from twisted.internet.defer import Deferred

from broker.simulate.gateway88.behaviour import mac_of, mac_text
from tests.console.stage import BrowserCase, Stage, Visit
from tests.real import eventually

#: Of the first view: seconds from the request to the sign-in, and bytes on the wire.
FIRST_VIEW = 1.0
MOST = 300_000
#: Two gateways of the fleet, and one that nobody has registered.
FIRST = mac_text(mac_of(1, 0))
SECOND = mac_text(mac_of(1, 1))
STRANGER = mac_text(mac_of(77, 0))
PAGES = (
    "overview",
    "devices",
    "gateways",
    "gateways/quarantine",
    "gateways/backups",
    "gateways/files",
    "applications",
    "products",
    "events",
    "events/rules",
    "events/sinks",
    "campaigns",
    "lorawan",
    "lorawan/motes",
    "lorawan/groups",
)


class ConsoleTests(BrowserCase):
    @classmethod
    def populate(cls, stage: Stage) -> None:
        broker = stage.broker
        broker.made("/applications", {"kind": "mqtt", "id": "dashboard", "name": "Dashboard"})
        stage.simulate("novacloud", "--count", "3", "--every", "1", "--port", str(broker.ports["novacloud"]))
        stage.simulate("gateway88", "--count", "2", "--every", "1", "--port", str(stage.gateway_port))
        stage.simulate("gizwits", "--count", "2", "--every", "1", "--port", str(broker.ports["gservice"]))
        stage.simulate(
            *("lorawan", "--motes", "2", "--class-c", "2", "--region", "eu868", "--every", "3"),
            *("--port", str(broker.ports["lorawan"])),
        )

        def all_online() -> bool:
            online = broker.call("GET", "/overview")[1]["devices"]["online"]
            wanted = {"novacloud": 3, "gateway88": 2, "gizwits": 2, "lorawan": 2}
            return all(online.get(protocol, 0) >= count for protocol, count in wanted.items())

        eventually(all_online, "the fleet is online", 60)

    def one_of(self, protocol: str) -> str:
        return str(self.stage.broker.call("GET", f"/devices?protocol={protocol}&online=true")[1]["items"][0]["id"])

    # -- the first view --------------------------------------------------------------------------------------------

    def test_the_first_view_is_small_and_quick(self) -> Deferred[None]:
        def work(visit: Visit) -> None:
            sizes: list[int] = []
            visit.page.on("requestfinished", lambda request: sizes.append(request.sizes()["responseBodySize"]))
            began = time.monotonic()
            visit.page.goto(self.stage.url)
            visit.page.wait_for_selector("input[name=token]")
            took = time.monotonic() - began
            visit.page.wait_for_load_state("networkidle")
            self.assertLess(sum(sizes), MOST)
            self.assertGreater(sum(sizes), 10_000)
            # The machine may be busy with other tests: the best of three has to be quick enough.
            for _ in range(2):
                began = time.monotonic()
                visit.page.reload()
                visit.page.wait_for_selector("input[name=token]")
                took = min(took, time.monotonic() - began)
            self.assertLess(took, FIRST_VIEW)

        return self.visit(work, signed_in=False)

    def test_a_wrong_token(self) -> Deferred[None]:
        def work(visit: Visit) -> None:
            visit.page.goto(self.stage.url)
            visit.page.fill("input[name=token]", "wrong")
            visit.page.keyboard.press("Enter")
            visit.page.wait_for_selector("[role=alert]")
            self.assertIn("not the administrator", visit.page.inner_text("[role=alert]"))
            visit.go("devices")
            visit.page.wait_for_selector("input[name=token]")

        return self.visit(work, signed_in=False, silent=False)

    def test_an_expired_session(self) -> Deferred[None]:
        def work(visit: Visit) -> None:
            visit.context.clear_cookies()
            visit.go("devices")
            visit.page.wait_for_selector("input[name=token]")

        return self.visit(work, silent=False)

    # -- devices ---------------------------------------------------------------------------------------------------

    def test_find_a_device(self) -> Deferred[None]:
        device = self.one_of("novacloud")

        def work(visit: Visit) -> None:
            visit.go("devices")
            visit.page.wait_for_selector(".window a.line")
            visit.page.fill("input[type=search]", device[:12])
            visit.page.wait_for_function("() => document.querySelectorAll('.window a.line').length === 1")
            visit.page.click(".window a.line")
            visit.page.wait_for_selector("[data-online=true]")
            self.assertIn(device, visit.page.inner_text("main"))
            visit.page.wait_for_selector("[data-value=temperature]")

        return self.visit(work)

    def test_a_heartbeat_changes_a_chart(self) -> Deferred[None]:
        def work(visit: Visit) -> None:
            visit.go("devices", FIRST)
            chart = visit.page.wait_for_selector("[data-chart=freeram] .plot")
            assert chart is not None
            before = chart.get_attribute("data-last")
            picture = chart.screenshot()
            visit.page.wait_for_function(
                "before => document.querySelector('[data-chart=freeram] .plot').dataset.last !== before", arg=before
            )
            self.assertNotEqual(chart.screenshot(), picture)

        return self.visit(work)

    def command(self, device: str, fill: dict[str, str], check: tuple[str, ...] = ()) -> Deferred[None]:
        """Send one and see its answer come, without asking for the page again."""

        def work(visit: Visit) -> None:
            visit.go("devices", device, "commands")
            form = visit.page.wait_for_selector("form[aria-label]")
            assert form is not None
            for name, value in fill.items():
                visit.page.fill(f"form [name={name}]", value)
            for name in check:
                visit.page.check(f"form [name={name}]")
            visit.page.click("form button.main")
            visit.page.wait_for_selector("[data-command] .tag.good")

        return self.visit(work)

    def test_a_command_of_novacloud(self) -> Deferred[None]:
        return self.command(self.one_of("novacloud"), {"payload": '{"light": "ON"}'})

    def test_a_command_of_a_gateway(self) -> Deferred[None]:
        return self.command(SECOND, {"payload": '{"scene": 2}'})

    def test_a_command_of_gizwits(self) -> Deferred[None]:
        return self.command(self.one_of("gizwits"), {"payload": "12"}, ("ack",))

    def test_a_command_of_a_mote(self) -> Deferred[None]:
        return self.command(self.one_of("lorawan"), {"payload": "01 02 ff", "port": "5", "priority": "40"})

    def test_a_command_is_cancelled(self) -> Deferred[None]:
        device = self.stage.broker.made("/devices", {"protocol": "novacloud", "name": "away"})["id"]

        def work(visit: Visit) -> None:
            visit.go("devices", device, "commands")
            visit.page.fill("form [name=payload]", '{"light": "ON"}')
            visit.page.click("form button.main")
            visit.page.click("text=Cancel")
            visit.page.wait_for_selector("text=cancelled")

        return self.visit(work)

    def test_its_packets(self) -> Deferred[None]:
        device = self.one_of("novacloud")

        def work(visit: Visit) -> None:
            visit.go("devices", device, "messages")
            visit.page.click("text=Trace its packets")
            visit.page.check("text=raw bytes")
            visit.page.wait_for_selector(".feed .tag:text-is('→')")
            visit.page.click("text=Stop tracing")
            visit.page.wait_for_selector("text=Trace its packets")

        return self.visit(work)

    # -- gateways --------------------------------------------------------------------------------------------------

    def test_the_board_beats(self) -> Deferred[None]:
        def work(visit: Visit) -> None:
            visit.go("gateways")
            visit.page.wait_for_function(
                f"() => +document.querySelector('[data-gateway=\"{FIRST}\"]')?.dataset.beats >= 2"
            )

        return self.visit(work)

    def test_quarantine_backup_recovery_replacement(self) -> Deferred[None]:
        self.stage.simulate_stranger(77)

        def work(visit: Visit) -> None:
            page = visit.page
            visit.go("gateways", "quarantine")
            page.wait_for_selector(f"text={STRANGER}")
            visit.go("gateways", "backups")
            row = f"tr:has(a[href$='{FIRST}'])"
            page.click(f"{row} >> text=Back up now")
            page.wait_for_selector("[data-followed=succeeded]")
            page.click(f"{row} >> text=Recover")
            page.click("dialog button.main")
            page.wait_for_function("() => document.querySelectorAll('[data-followed=succeeded]').length === 2")
            page.click(f"{row} >> text=Replace")
            page.fill("dialog [name=by]", STRANGER)
            page.click("dialog button.main")
            page.wait_for_selector("dialog button.danger")
            self.assertIn(f"{STRANGER} would be {FIRST}", page.inner_text("dialog"))
            page.click("dialog button.danger")
            page.wait_for_function("() => document.querySelectorAll('[data-followed=succeeded]').length === 3")
            page.click(f"{row} >> text=The way back")
            page.click("dialog button.danger")
            page.wait_for_selector(f"{row}:not(:has-text('The way back'))")

        return self.visit(work)

    def test_z_a_campaign(self) -> Deferred[None]:
        self.assertEqual(self.stage.broker.call("PUT", "/files/relay.bin", b"image" * 1000)[0], 201)

        def work(visit: Visit) -> None:
            page = visit.page
            visit.go("campaigns")
            page.click("text=New campaign")
            page.fill("dialog [name=name]", "Relay")
            page.fill("dialog [name=image]", "relay.bin")
            page.fill("dialog [name=version]", "9.9")
            page.fill("dialog [name=concurrency]", "1")
            page.click("dialog button.main")
            page.wait_for_selector("[data-campaign=draft]")
            page.click("text=Whom it would touch")
            page.wait_for_selector("dialog:has-text('2 would be updated')")
            page.click("dialog button:text-is('Close')")
            page.click("button:text-is('Start')")
            page.wait_for_selector("[data-campaign=finished]")
            page.wait_for_function("() => document.querySelectorAll('[data-line=confirmed]').length === 2")
            over = page.get_attribute("progress", "data-over")
            self.assertEqual(over, "2")

        return self.visit(work)

    # -- LoRaWAN ---------------------------------------------------------------------------------------------------

    def test_motes_gateways_and_a_group(self) -> Deferred[None]:
        mote = self.one_of("lorawan")

        def work(visit: Visit) -> None:
            page = visit.page
            visit.go("lorawan")
            page.wait_for_selector("[data-eui] >> nth=0")
            page.wait_for_selector("progress >> nth=0")
            visit.go("lorawan", "motes")
            page.wait_for_selector(f"tr:has([data-mote='{mote}']):has-text('joined')")
            visit.go("lorawan", "groups")
            page.click("text=Add a group")
            page.fill("dialog [name=id]", "street")
            page.click("dialog button.main")
            page.wait_for_selector("code")
            page.click("text=Add a member")
            page.fill("dialog [name=device]", mote)
            page.click("dialog button.main")
            page.click("button:text-is('Send')")
            page.fill("dialog [name=payload]", "01 02")
            page.fill("dialog [name=port]", "5")
            page.click("dialog button.main")
            page.wait_for_selector(".note.good")

        return self.visit(work)

    # -- applications and products ---------------------------------------------------------------------------------

    def test_an_application_from_beginning_to_end(self) -> Deferred[None]:
        device = self.one_of("novacloud")

        def work(visit: Visit) -> None:
            page = visit.page
            visit.go("applications")
            page.click("text=Add an application")
            page.fill("dialog [name=id]", "customer")
            page.fill("dialog [name=cs_eui]", "AA555A0000000000")
            page.fill("dialog [name=app_key]", "00112233445566778899AABBCCDDEEFF")
            page.click("dialog button.main")
            page.wait_for_selector("code")
            page.click("a:text-is('customer')")
            page.click("text=Bind a device")
            page.fill("dialog [name=device]", device)
            page.click("dialog button.main")
            page.wait_for_selector(f"text={device}")
            page.click("text=Unbind")
            page.wait_for_selector(f"text={device}", state="detached")
            page.click("button:text-is('Remove')")
            page.click("dialog button.danger")
            page.wait_for_selector("text=Add an application")

        return self.visit(work)

    def test_an_unmapped_key_becomes_a_sensor(self) -> Deferred[None]:
        broker = self.stage.broker
        broker.made("/products", {"key": "greenhouse", "protocol": "novacloud", "sensors": [{"value_key": "humidity"}]})
        device = self.one_of("novacloud")
        self.assertEqual(broker.call("PATCH", f"/devices/{device}", {"product": "greenhouse"})[0], 200)

        def work(visit: Visit) -> None:
            visit.go("devices", device)
            visit.page.click("tr:has-text('temperature') >> text=Make it a sensor")
            visit.page.wait_for_selector("[data-value=temperature]")

        return self.visit(work)

    def test_a_rule_a_webhook_and_what_it_is_told(self) -> Deferred[None]:
        got: list[Any] = []

        class Target(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                got.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        server = HTTPServer(("127.0.0.1", 0), Target)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.shutdown)

        def work(visit: Visit) -> None:
            page = visit.page
            visit.go("events", "sinks")
            page.click("text=Add a sink")
            page.fill("dialog [name=name]", "hook")
            page.fill("dialog [name=url]", f"http://127.0.0.1:{server.server_port}/events")
            page.click("dialog button.main")
            page.wait_for_selector("code")
            page.click("text=Test")
            page.wait_for_selector(".note.good:has-text('Delivered')")
            self.assertEqual(len(got), 1)
            visit.go("events", "rules")
            page.click("text=Add a rule")
            page.fill("dialog [name=name]", "everything")
            page.check("dialog [name=sink]")
            page.click("dialog button.main")
            page.wait_for_selector("td:has-text('everything')")
            visit.go("events")
            page.wait_for_selector("main h1")

        return self.visit(work)

    # -- for everybody ---------------------------------------------------------------------------------------------

    def test_both_languages_and_no_fault_on_any_page(self) -> Deferred[None]:
        device = self.one_of("novacloud")
        pages = (
            *PAGES,
            "applications/dashboard",
            f"devices/{device}",
            *(f"devices/{device}/{tab}" for tab in ("messages", "commands", "settings")),
        )
        chinese = re.compile("[\u4e00-\u9fff]")

        def work(visit: Visit) -> None:
            page = visit.page
            for where in pages:
                visit.go(where)
                page.wait_for_selector("main h1")
                self.assertNotRegex(page.inner_text("main"), chinese, where)
                self.assertEqual(visit.faults(), [], where)
            page.select_option(".side select >> nth=0", "zh")
            page.wait_for_function("() => document.documentElement.lang === 'zh-CN'")
            for where in pages:
                visit.go(where)
                page.wait_for_selector("main h1")
                self.assertRegex(page.inner_text("main"), chinese, where)
            page.select_option(".side select >> nth=1", "dark")
            for where in pages:
                visit.go(where)
                page.wait_for_selector("main h1")
                self.assertEqual(visit.faults(), [], f"{where}, dark")

        return self.visit(work)

    def test_by_keyboard(self) -> Deferred[None]:
        def work(visit: Visit) -> None:
            page = visit.page
            page.keyboard.press("Tab")
            self.assertEqual(page.evaluate("document.activeElement.className"), "skip")
            page.keyboard.press("Enter")
            self.assertEqual(page.evaluate("document.activeElement.id"), "content")
            visit.go("applications")
            page.wait_for_selector("text=Add an application")
            page.focus("text=Add an application")
            page.keyboard.press("Enter")
            page.wait_for_selector("dialog[open]")
            page.keyboard.press("Escape")
            page.wait_for_selector("dialog", state="detached")
            self.assertIn("Add an application", page.evaluate("document.activeElement.textContent"))

        return self.visit(work)

    def test_on_a_phone(self) -> Deferred[None]:
        def work(visit: Visit) -> None:
            for where in PAGES:
                visit.go(where)
                visit.page.wait_for_selector("main h1")
                wide = visit.page.evaluate(
                    "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                )
                self.assertLessEqual(wide, 0, where)
            visit.page.click("button.menu")
            visit.page.click("nav a >> text=Overview")

        return self.visit(work, viewport={"width": 380, "height": 720})

    def test_the_language_of_the_browser(self) -> Deferred[None]:
        def work(visit: Visit) -> None:
            self.assertEqual(visit.page.evaluate("document.documentElement.lang"), "zh-CN")

        return self.visit(work, locale="zh-CN")
