"""GService with the bytes of real agents: registering, disabling, provisioning."""

from __future__ import annotations

import re

from broker.devices.gizwits.forms import FORMS, form_of
from broker.devices.gizwits.identity import derived_did
from broker.listening.settings import Limits
from tests.devices.gizwits.bed import DID, MAC, OTHER, PASSCODE, PRODUCT
from tests.devices.gizwits.site import GserviceCase, asking, disabling, provision, registration

NEW = "QWERTYUIOP"


class Registering(GserviceCase):
    async def test_the_bytes_of_an_agent(self) -> None:
        self.assertIn(b"Content-Length: 81\r\n", registration())
        status, head, body = await self.send(registration())
        self.assertTrue(head.startswith(b"HTTP/1.1 201 Created\r\n"))
        self.assertEqual((status, body), (201, f"did={derived_did(PRODUCT, MAC)}".encode()))
        self.assertRegex(body.decode(), r"^did=[0-9A-Za-z]{22}$")

    async def test_again_and_again(self) -> None:
        """In any spelling of the MAC, with the same passcode and another one: the same DID."""
        did = await self.register()
        self.assertEqual(await self.register(), did)
        self.assertEqual(await self.register(mac=MAC.lower()), did)
        self.assertEqual(await self.register(NEW), did)
        self.assertEqual((await self.core.registry.get_device(did)).secret, NEW)
        self.assertNotEqual(await self.register(mac="6E536B716178"), did)

    async def test_many_at_once(self) -> None:
        clients = [await self.reach(self.gservice_port) for _ in range(20)]
        for client in clients:
            client.write(registration())
        for client in clients:
            await client.until(b"did=")
        self.assertEqual({client.data[-22:].decode() for client in clients}, {derived_did(PRODUCT, MAC)})

    async def test_a_device_that_was_registered_with_a_did_of_its_own(self) -> None:
        await self.device(id=DID, protocol="gizwits", product=PRODUCT, mac="6e:53:6b:71:61:79", secret="x")
        self.assertEqual(await self.register(), DID)
        self.assertEqual((await self.core.registry.get_device(DID)).secret, PASSCODE)

    async def test_it_is_found_after_a_restart(self) -> None:
        await self.device(id=DID, protocol="gizwits", product=PRODUCT, mac=MAC)
        self.devices.index.forget(DID, MAC)
        await self.devices.prepare()
        self.assertEqual(await self.register(), DID)

    async def test_the_derived_did_is_taken(self) -> None:
        """By a device that was given another MAC since."""
        did = await self.register()
        await self.api("PATCH", f"/devices/{did}", {"mac": "000000000001"})
        other = await self.register()
        self.assertRegex(other, r"^[0-9A-Za-z]{22}$")
        self.assertNotEqual(other, did)
        self.assertEqual(await self.register(), other)
        self.assertEqual(await self.register(mac="000000000001"), did)

    async def test_types(self) -> None:
        form = f"product_key={PRODUCT}&mac={MAC}&passcode={PASSCODE}&type=center_control"
        head = f"POST /dev/devices HTTP/1.1\r\nHost: x\r\nContent-Length: {len(form)}\r\n\r\n"
        status, _, body = await self.send((head + form).encode())
        self.assertEqual(status, 201)
        record = await self.core.registry.get_device(body.decode()[4:])
        self.assertEqual(record.attributes, {"mac": MAC, "type": "center_control"})

    async def test_refused(self) -> None:
        await self.made("/products", {"key": "1" * 32, "name": "", "protocol": "novacloud"})
        for request, number in (
            (registration(product="0" * 32), 9002),
            (registration(product="1" * 32), 9002),
            (registration(product="lamp"), 9002),
            (registration(product=PRODUCT[:-1]), 9002),
            (registration(mac="6E536B71617"), 9015),
            (registration(mac="6E536B71617G"), 9015),
            (registration(passcode="x" * 33), 9015),
            (registration(passcode=""), 9015),
            (registration(passcode="a b"), 9015),
            (b"POST /dev/devices HTTP/1.1\r\nHost: x\r\n\r\n", 9015),
            (b"POST /dev/devices HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n\xff", 9015),
            (b"POST /dev/devices HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" + b"a" * 5000, 9015),
            (b"POST /dev/devices HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n" + b"a&" * 49 + b"b", 9015),
        ):
            status, _, body = await self.send(request)
            self.assertEqual((status, self.code(body)), (400, number), request)

    async def test_the_administrators_word_stands(self) -> None:
        did = await self.register()
        await self.api("PATCH", f"/devices/{did}", {"disabled": True})
        self.assertEqual(await self.register(NEW), did)
        record = await self.core.registry.get_device(did)
        self.assertEqual((record.disabled, record.secret), (True, NEW))

    def test_forms(self) -> None:
        for body, fields in FORMS:
            self.assertEqual(form_of(body), fields, body)


class Disabling(GserviceCase):
    async def test_the_life_of_a_reset(self) -> None:
        """DELETE, a new passcode, and the same DELETE again, late: nothing happens to the new registration."""
        did = await self.register()
        status, head, body = await self.send(disabling(did))
        self.assertEqual((status, body), (200, b""))
        self.assertIn(b"Content-Length: 0", head)
        self.assertTrue((await self.core.registry.get_device(did)).disabled)
        self.assertEqual(await self.disable(did), (200, b""))
        self.assertEqual(await self.register(NEW), did)
        self.assertEqual(await self.disable(did), (200, b""))
        record = await self.core.registry.get_device(did)
        self.assertEqual((record.disabled, record.secret), (False, NEW))
        self.assertEqual(await self.disable(did, NEW), (200, b""))
        self.assertTrue((await self.core.registry.get_device(did)).disabled)

    async def test_earlier_passcodes(self) -> None:
        did = await self.register("P0")
        for number in range(1, 10):
            await self.register(f"P{number}")
        for passcode in ("P8", "P1"):
            self.assertEqual((await self.disable(did, passcode))[0], 200)
        self.assertEqual((await self.disable(did, "P0"))[0], 400)  # eight are remembered
        self.assertFalse((await self.core.registry.get_device(did)).disabled)

    async def test_a_passcode_that_comes_back(self) -> None:
        did = await self.register("P1")
        await self.register("P2")
        await self.register("P1")
        self.assertEqual((await self.disable(did, "P1"))[0], 200)
        self.assertTrue((await self.core.registry.get_device(did)).disabled)

    async def test_refused(self) -> None:
        did = await self.register()
        for request, status, number in (
            (disabling(did, "WRONG"), 400, 9016),
            (disabling(OTHER), 404, 9014),
            (disabling("../x"), 404, 9014),
            (disabling(did, ""), 400, 9015),
            (disabling("", "x"), 400, 9015),
        ):
            answer = await self.send(request)
            self.assertEqual((answer[0], self.code(answer[2])), (status, number), request)
        self.assertFalse((await self.core.registry.get_device(did)).disabled)
        self.assertEqual(self.gservice.stats.logins_failed, 1)

    async def test_the_connection_ends(self) -> None:
        did = await self.register()
        client = await self.reach(self.mqtt_port)
        part = b"\0\x16" + did.encode()
        client.write(b"\x10\x48\0\6MQIsdp\3\xc2\0\x78" + part + part + b"\0\x0a" + PASSCODE.encode())
        await client.until(b"\x20\x02\0\0")
        await self.disable(did)
        await client.closed

    async def test_a_removed_device_has_no_past(self) -> None:
        did = await self.register()
        await self.disable(did)
        self.assertEqual((await self.api("DELETE", f"/devices/{did}")).status, 204)
        self.assertEqual((await self.disable(did))[0], 404)
        self.assertEqual(await self.register(), did)
        await self.api("PATCH", f"/devices/{did}", {"disabled": True})
        await self.register(NEW)
        self.assertTrue((await self.core.registry.get_device(did)).disabled)


class Newcomers(GserviceCase):
    gizwits = {"max_new_devices_per_address": 3}

    async def test_one_address_does_not_make_all_the_devices(self) -> None:
        self.gservice.limits = Limits(exempt_loopback=False)
        macs = [f"{number:012X}" for number in range(5)]
        for mac in macs[:3]:
            await self.register(mac=mac)
        status, _, body = await self.send(registration(mac=macs[3]))
        self.assertEqual((status, self.code(body)), (429, 9041))
        await self.register(NEW, mac=macs[0])  # known
        self.pass_time(3601)
        await self.register(mac=macs[3])

    async def test_loopback_is_spared(self) -> None:
        for number in range(5):
            await self.register(mac=f"{number:012X}")


class Guessing(GserviceCase):
    async def test_it_gets_slower(self) -> None:
        did = await self.register()
        self.gservice.limits = Limits(exempt_loopback=False, max_failed_logins=3)
        for _ in range(3):
            await self.disable(did, "WRONG")
        began = self.core.monotonic()
        await self.disable(did, "WRONG")
        self.assertGreaterEqual(self.core.monotonic() - began, 0.9)
        began = self.core.monotonic()
        await self.disable(did)
        self.assertLess(self.core.monotonic() - began, 0.9)


class Provisioning(GserviceCase):
    async def test_the_bytes_of_an_agent(self) -> None:
        did = await self.register()
        status, _, body = await self.send(provision(did))
        self.assertEqual(status, 200)
        found = re.fullmatch(r"host=api\.gizwits\.com&port=(\d+)&server_ts=(\d+)\r\n", body.decode())
        assert found is not None
        self.assertEqual(int(found[1]), self.mqtt_port)
        self.assertLess(abs(int(found[2]) - self.core.clock()), 10)

    async def test_the_name_that_we_are_called(self) -> None:
        did = await self.register()
        for named, host in (
            ("api.gizwits.com:8081", "api.gizwits.com"),
            ("10.1.2.3", "10.1.2.3"),
            ("[::1]:80", "[::1]"),
            ("a&port=1", "127.0.0.1"),
            ("", "127.0.0.1"),
        ):
            request = provision(did).replace(b"Host: api.gizwits.com", b"Host: " + named.encode())
            body = (await self.send(request))[2]
            self.assertTrue(body.startswith(f"host={host}&port=".encode()), body)

    async def test_refused(self) -> None:
        did = await self.register()
        await self.disable(did)
        await self.device(id="nova")
        for request, status, number in (
            (provision(did), 400, 9023),
            (provision(OTHER), 404, 9014),
            (provision("nova"), 404, 9014),
            (asking("/dev/nothing"), 404, 9014),
        ):
            answer = await self.send(request)
            self.assertEqual((answer[0], self.code(answer[2])), (status, number), request)


class Configured(GserviceCase):
    gizwits = {"m2m_host": "m2m.example", "m2m_port": 3128}

    async def test_what_is_configured(self) -> None:
        body = (await self.send(provision(await self.register())))[2]
        self.assertTrue(body.startswith(b"host=m2m.example&port=3128&server_ts="))


class ThroughTheApi(GserviceCase):
    async def test_devices_made_by_the_administrator(self) -> None:
        made = await self.made("/devices", {"protocol": "gizwits", "product": PRODUCT, "mac": MAC})
        self.assertEqual(made["id"], derived_did(PRODUCT, MAC))
        self.assertRegex(made["secret"], r"^[A-Z]{10}$")
        self.assertEqual(await self.register(), made["id"])

    async def test_refused(self) -> None:
        for fields in (
            {"mac": MAC},
            {"product": PRODUCT},
            {"product": PRODUCT, "mac": "x"},
            {"product": PRODUCT, "mac": MAC, "id": "short"},
            {"product": PRODUCT, "mac": MAC, "secret": "a&b"},
            {"product": PRODUCT, "mac": MAC, "type": "x"},
        ):
            reply = await self.api("POST", "/devices", {"protocol": "gizwits", **fields})
            self.assertProblem(reply, 400, "invalid")

    async def test_log_switches(self) -> None:
        did = await self.register()
        path = f"/gizwits/devices/{did}/log"
        self.assertEqual((await self.api("GET", path)).json["bits"], 0)
        reply = await self.api("PUT", path, {"error": True, "leds": True})
        self.assertEqual((reply.status, reply.json["bits"], reply.json["sent"]), (202, 9, False))
        reply = await self.api("PUT", path, {"error": False, "info": True})
        self.assertEqual((reply.status, reply.json["bits"]), (202, 12))
        shown = (await self.api("GET", f"/devices/{did}")).json["info"]["log"]
        self.assertEqual(shown, (await self.api("GET", path)).json)
        token = await self.application("app")
        self.assertProblem(await self.api("PUT", path, {"info": True}, token=token), 404, "not-found")
        await self.api("PUT", f"/applications/app/devices/{did}")
        self.assertEqual((await self.api("PUT", path, {"info": True}, token=token)).status, 202)
        nova = await self.device()
        self.assertProblem(await self.api("GET", f"/gizwits/devices/{nova}/log"), 409, "conflict")
        self.assertProblem(await self.api("PUT", path, {"loud": True}), 400, "invalid")

    async def test_switches_of_a_product(self) -> None:
        path = f"/gizwits/products/{PRODUCT}/switches"
        self.assertEqual((await self.api("GET", path)).json, {"one_packet": None, "max_packet": 0})
        wanted = {"one_packet": False, "max_packet": 1024}
        self.assertEqual((await self.api("PUT", path, wanted)).json, wanted)
        await self.devices.prepare()
        self.assertEqual((await self.api("GET", path)).json, wanted)
        self.assertProblem(await self.api("PUT", "/gizwits/products/none/switches", wanted), 404, "not-found")
        self.assertProblem(await self.api("PUT", path, {"max_packet": -1}), 400, "invalid")

    async def test_the_document(self) -> None:
        paths = (await self.api("GET", "/openapi.json")).json["paths"]
        for path in ("/gizwits/firmware", "/gizwits/firmware/{id}", "/gizwits/devices/{id}/log"):
            self.assertTrue(any(known.endswith(path) for known in paths), path)
