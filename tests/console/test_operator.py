"""The console on worse days: the broker goes, devices come and go, two windows; and what is changed in it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.defer import Deferred

from tests.console.stage import BrowserCase, Stage, Visit
from tests.console.test_hostile import Device
from tests.devices.gateway88.real import free_ports
from tests.real import eventually

#: Gateways that are only registered, and how many of them the board shows at once.
MANY = 200
SHOWN = 60
PROTOCOLS = ("novacloud", "gateway88", "gizwits", "lorawan")
#: Signs in anew as another window of the browser does; the window that is open keeps the old CSRF token.
SIGN_IN = """async (token) => (await fetch("/api/v1/session", {
  method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({token}),
})).status"""


class OperatorTests(BrowserCase):
    http: ClassVar[int] = 0

    @classmethod
    def settings(cls) -> dict[str, str]:
        (cls.http,) = free_ports(1)
        return {
            # After a restart it has to be found where it was.
            "listeners.http.bind": f'["tcp:{cls.http}:interface=127.0.0.1"]',
            "events.offline_after": "1",
            "events.debounce": "0",
            "listeners.lorawan.chirpstack.url": '"mqtt://127.0.0.1:9"',
            "listeners.lorawan.chirpstack.start_delay": "0",
        }

    @classmethod
    def populate(cls, stage: Stage) -> None:
        broker = stage.broker
        stage.simulate("novacloud", "--count", "1", "--every", "1", "--port", str(broker.ports["novacloud"]))
        stage.simulate("gateway88", "--count", "1", "--every", "1", "--port", str(stage.gateway_port))
        stage.simulate("gizwits", "--count", "1", "--every", "1", "--port", str(broker.ports["gservice"]))
        lorawan = ("--motes", "1", "--region", "eu868", "--every", "2", "--port", str(broker.ports["lorawan"]))
        stage.simulate("lorawan", *lorawan)

        # By the list: it is of storage, where presence comes a moment later.
        eventually(lambda: all(cls.found(stage, protocol) for protocol in PROTOCOLS), "the fleet is online", 60)

    @staticmethod
    def found(stage: Stage, protocol: str) -> list[Any]:
        items = stage.broker.call("GET", f"/devices?protocol={protocol}&online=true")[1]["items"]
        return [one for one in items if one["name"] in ("simulated", "")]

    def one_of(self, protocol: str) -> Any:
        return eventually(lambda: self.found(self.stage, protocol), f"a device of {protocol}")[0]

    # -- devices ---------------------------------------------------------------------------------------------------

    def test_presence_history(self) -> Deferred[None]:
        made = self.stage.broker.made("/devices", {"protocol": "novacloud", "name": "comes and goes"})

        def work(visit: Visit) -> None:
            device = Device(self.stage, made)
            visit.go("devices", made["id"], "presence")
            visit.page.wait_for_selector("[data-online=true]")
            visit.page.wait_for_function("() => document.querySelector('main').textContent.includes('logged in')")
            device.socket.shutdown(socket.SHUT_RDWR)
            device.socket.close()
            visit.page.wait_for_selector("[data-presence=false]")
            visit.page.wait_for_selector("[data-event=device_offline]")
            again = Device(self.stage, made)
            visit.page.wait_for_selector("[data-presence=true]")
            visit.page.wait_for_selector("[data-event=device_online]:has-text('came back')")
            self.assertEqual(visit.faults(), [])
            again.socket.close()

        return self.visit(work)

    def test_bytes_are_decoded(self) -> Deferred[None]:
        lamp, mote = self.one_of("gizwits")["id"], self.one_of("lorawan")["id"]

        def work(visit: Visit) -> None:
            visit.go("devices", lamp, "messages")
            visit.page.wait_for_selector("[data-feed=live] pre:has-text('\"temperature\":')")
            visit.go("devices", lamp)
            visit.page.wait_for_function(
                "() => +document.querySelector('[data-chart=temperature] .plot')?.dataset.points >= 2"
            )
            visit.go("devices", mote, "messages")
            visit.page.wait_for_selector("[data-feed=history] pre:has-text('dBm')")
            visit.go("devices", mote)
            visit.page.wait_for_selector("[data-chart=rssi] h3:has-text('dBm')")

        return self.visit(work)

    def test_packets_of_every_protocol(self) -> Deferred[None]:
        devices = [self.one_of(protocol)["id"] for protocol in PROTOCOLS]

        def work(visit: Visit) -> None:
            for id in devices:
                visit.go("devices", id, "messages")
                visit.page.click("text=Trace its packets")
                visit.page.check("text=raw bytes")
                shown = visit.page.wait_for_selector("[data-feed=live] > div:has(.tag:text-is('→')) pre")
                assert shown is not None
                self.assertRegex(shown.inner_text(), r"(?s)^\{.*\n([0-9a-f]{2} )*[0-9a-f]{2}$")
                visit.page.click("text=Stop tracing")
                visit.page.wait_for_selector("text=Trace its packets")

        return self.visit(work)

    def test_the_operations_of_a_gateway(self) -> Deferred[None]:
        gateway = self.one_of("gateway88")["id"]
        self.assertEqual(self.stage.broker.call("PUT", "/files/gateway.bin", b"image" * 100)[0], 201)

        def work(visit: Visit) -> None:
            page = visit.page

            def done(count: int) -> None:
                page.wait_for_function(
                    f"() => document.querySelectorAll('[data-command] .tag.good').length === {count}"
                )

            visit.go("devices", gateway, "commands")
            page.click("main button:text-is('Back up')")
            page.click("dialog button.main")
            done(1)
            page.click("main button:text-is('Recover')")
            page.click("dialog button.danger")
            done(2)
            page.click("main button:text-is('Update the firmware')")
            page.fill("dialog [name=version]", "7.7")
            page.uncheck("dialog [name=backup]")
            page.click("dialog button.main")
            done(3)

        return self.visit(work)

    def test_the_list_is_found_as_it_was_left(self) -> Deferred[None]:
        lines = b"\n".join(b'{"protocol": "novacloud", "name": "row %03d"}' % number for number in range(150))
        self.assertEqual(self.stage.broker.call("POST", "/devices/import", lines)[0], 200)

        def work(visit: Visit) -> None:
            page = visit.page
            visit.go("devices")
            page.fill("input[type=search]", "row")
            page.wait_for_function("() => document.querySelector('p[role=status]').textContent.startsWith('100 ')")
            page.evaluate("() => { document.querySelector('.window').scrollTop = 3300; }")
            page.wait_for_function("() => document.querySelector('p[role=status]').textContent.startsWith('150 ')")
            # A click by a script, as one by the mouse would scroll to what is drawn outside.
            page.eval_on_selector(".window a.line >> nth=15", "link => link.click()")
            page.wait_for_selector("[data-online]")
            page.go_back()
            page.wait_for_selector(".window a.line")
            self.assertEqual(page.input_value("input[type=search]"), "row")
            page.wait_for_function("() => document.querySelector('.window').scrollTop === 3300")
            page.click("nav a >> text=Devices")
            page.wait_for_function("() => document.querySelector('input[type=search]').value === ''")
            page.reload()
            page.wait_for_selector(".window a.line")

        return self.visit(work)

    def test_the_board_is_bounded(self) -> Deferred[None]:
        lines = b"\n".join(
            b'{"protocol": "gateway88", "id": "0255%08X", "name": "site %03d"}' % (number, number)
            for number in range(MANY)
        )
        self.assertEqual(self.stage.broker.call("POST", "/devices/import", lines)[0], 200)

        def work(visit: Visit) -> None:
            page = visit.page
            visit.go("gateways")
            page.wait_for_selector("article")
            asked = [url for url in visit.requests if "/api/v1/devices?" in url]
            self.assertEqual(len(asked), 1, asked)
            self.assertEqual(page.locator("article").count(), SHOWN)
            page.click("text=Next")
            page.wait_for_function("() => !document.querySelector('[data-gateway=\"025500000000\"]')")
            page.click("text=Before")
            page.wait_for_selector("[data-gateway='025500000000']")
            page.fill("input[type=search]", "site 150")
            page.wait_for_function("() => document.querySelectorAll('article').length === 1")

        return self.visit(work)

    # -- applications and products ---------------------------------------------------------------------------------

    def test_a_customer_server_gets_another_eui_and_key(self) -> Deferred[None]:
        broker = self.stage.broker
        server = {"kind": "loracenter", "cs_eui": "AA555A0000000001", "app_key": "00112233445566778899AABBCCDDEEFF"}
        broker.made("/applications", {"id": "moved", **server})

        def work(visit: Visit) -> None:
            page = visit.page
            visit.go("applications")
            page.fill("input[type=search]", "moved")
            page.click("a:text-is('moved')")
            page.click("main button:text-is('Edit')")
            page.fill("dialog [name=name]", "Moved")
            page.fill("dialog [name=cs_eui]", "AA555A0000000002")
            page.fill("dialog [name=app_key]", "no key")
            page.click("dialog button.main")
            page.wait_for_selector("dialog [role=alert]")
            page.fill("dialog [name=app_key]", "FF112233445566778899AABBCCDDEEFF")
            page.click("dialog button.main")
            page.wait_for_selector("h1:text-is('Moved')")
            page.wait_for_selector("dd:has-text('AA555A0000000002')")

        return self.visit(work, silent=False)

    def test_users_of_a_gizwits_app(self) -> Deferred[None]:
        broker = self.stage.broker
        broker.made("/applications", {"kind": "gizwits", "id": "lamps"})
        lamp = self.one_of("gizwits")["id"]

        def work(visit: Visit) -> None:
            page = visit.page
            visit.go("applications", "lamps")
            page.click("text=Add a user")
            page.fill("dialog [name=username]", "ann")
            page.fill("dialog [name=password]", "her secret")
            page.click("dialog button.main")
            page.click("tr:has-text('username: ann') >> text=Bind a device")
            page.fill("dialog [name=device]", lamp)
            page.click("dialog button.main")
            page.click(f"tr:has-text('{lamp}') button:text-is('Unbind')")
            page.wait_for_selector(f"tr:has-text('{lamp}')", state="detached")
            page.click("tr:has-text('username: ann') >> text=Remove the user")
            page.click("dialog button.danger")
            page.wait_for_selector("text=No user has registered yet.")

        return self.visit(work)

    def test_a_gizwits_product(self) -> Deferred[None]:
        product = self.one_of("gizwits")["product"]
        image = Path(self.mktemp())
        image.mkdir()
        (image / "lamp.bin").write_bytes(b"image" * 10)

        def work(visit: Visit) -> None:
            page = visit.page
            visit.go("products", product)
            page.click("[data-map=brightness]")
            page.wait_for_selector("[data-map=brightness]", state="detached")
            page.wait_for_selector("td:text-is('brightness') >> nth=0")
            page.click("text=Hand in an image")
            page.set_input_files("dialog [name=image]", str(image / "lamp.bin"))
            page.fill("dialog [name=hard_version]", "00000001")
            page.fill("dialog [name=soft_version]", "00000002")
            page.click("dialog button.main")
            row = "tr:has-text('lamp.bin')"
            page.click(f"{row} >> text=Change the rule")
            page.fill("dialog [name=percentage]", "25")
            page.fill("dialog [name=versions]", "00000000")
            page.click("dialog button.main")
            page.wait_for_selector("[data-rule]:has-text('everybody, 25 % of them, from version 00000000')")
            page.click(f"{row} >> text=Activate")
            page.wait_for_selector(f"{row} .tag.good")
            page.click(f"{row} >> text=Remove")
            page.click("dialog button.danger")
            page.wait_for_selector("text=No image was handed in yet.")

        return self.visit(work)

    # -- the broker's troubles, and ours ---------------------------------------------------------------------------

    def test_what_does_not_work_is_on_the_overview(self) -> Deferred[None]:
        def work(visit: Visit) -> None:
            visit.page.wait_for_selector("[data-trouble]:has-text('ChirpStack')")

        return self.visit(work)

    def test_two_windows(self) -> Deferred[None]:
        self.stage.broker.made("/products", {"key": "twice", "protocol": "novacloud"})
        token = self.stage.broker.admin_token

        def work(visit: Visit) -> None:
            visit.go("products", "twice")
            visit.page.click("text=Rename")
            visit.page.fill("dialog [name=name]", "By the first")
            other = visit.context.new_page()
            other.goto(self.stage.url)
            self.assertEqual(other.evaluate(SIGN_IN, token), 200)
            visit.page.click("dialog button.main")
            visit.page.wait_for_selector("h1:text-is('By the first')")
            other.reload()
            other.click("text=Sign out")
            other.wait_for_selector("input[name=token]")
            visit.page.reload()
            visit.page.wait_for_selector("input[name=token]")

        return self.visit(work, silent=False)

    def test_z_the_broker_goes_and_comes_back(self) -> Deferred[None]:
        broker = self.stage.broker
        device = self.one_of("novacloud")["id"]

        def work(visit: Visit) -> None:
            page = visit.page
            visit.go("devices", device, "messages")
            page.wait_for_selector("[data-feed=live] pre")
            broker.kill()
            page.wait_for_selector("[role=alert] .away")
            # What was there is still there to be read.
            page.wait_for_selector("[data-feed=live] pre")
            broker.start()
            page.wait_for_selector("input[name=token]")
            page.fill("input[name=token]", broker.admin_token)
            page.keyboard.press("Enter")
            page.wait_for_selector("h2 .good.dot")
            self.assertIn(f"#/devices/{device}/messages", page.url)
            self.assertEqual(page.locator(".away").count(), 0)

        return self.visit(work, silent=False)
