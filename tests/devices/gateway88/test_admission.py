"""Who is let in: the registry, the quarantine, certificates."""

from __future__ import annotations

import inspect
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.gateway88 import Settings
from broker.devices.gateway88.identity import DeviceRules, Shown, canonical_mac
from broker.model.errors import Conflict, Invalid, Unavailable
from broker.model.records import DeviceRecord
from broker.storage.quarantine import Entry, Quarantine
from broker.storage.registry import Registry
from tests.devices.gateway88.bed import NOW, Bed, FakeQuarantine, FakeRegistry
from tests.devices.gateway88.vectors import ACK_A, GATEWAY, HB_FRAME, INFO, MAC, NEWDEVICES


class FakesTests(SynchronousTestCase):
    def test_signatures(self) -> None:
        for fake, real, names in (
            (FakeRegistry, Registry, ("identify_device", "add_device", "update_device")),
            (FakeQuarantine, Quarantine, ("seen",)),
        ):
            for name in names:
                fake_parameters = inspect.signature(getattr(fake, name)).parameters
                self.assertEqual(fake_parameters.keys(), inspect.signature(getattr(real, name)).parameters.keys(), name)


class RulesTests(SynchronousTestCase):
    rules = DeviceRules()

    def test_macs(self) -> None:
        for text in ("02123456789a", "02:12:34:56:78:9A", "02-12-34-56-78-9a", "0212.3456.789A"):
            self.assertEqual(self.rules.normal_id(text, {}), GATEWAY)
        for wrong in (None, "", "02123456789", "02123456789g", "0" * 12, "F" * 12, "02123456789a0"):
            self.assertRaises(Invalid, self.rules.normal_id, wrong, {})
        self.assertIsNone(canonical_mac("x"))

    def test_there_are_no_secrets(self) -> None:
        self.assertEqual(self.rules.make_secret(), "")
        self.assertRaises(Invalid, self.rules.check_secret, "x")

    def test_certificates(self) -> None:
        digits = "ab" * 32
        pairs = digits.upper()[:2] + "".join(f":{digits.upper()[at : at + 2]}" for at in range(2, 64, 2))
        for given, kept in (
            (f"sha256:{digits}", f"sha256:{digits}"),
            (f"SHA256:{pairs}", f"sha256:{digits}"),
            ("gateway 7", "gateway 7"),
            (None, None),
        ):
            fields: dict[str, Any] = {"certificate": given}
            self.rules.normal_id(GATEWAY, fields)
            self.assertEqual(fields, {"certificate": kept})
        for wrong in ("", 5, "sha256:12", "x" * 200, "a\nb"):
            self.assertRaises(Invalid, self.rules.normal_id, GATEWAY, {"certificate": wrong})


class AskingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bed = Bed()
        self.waiting: Deferred[None] = Deferred()
        self.bed.registry.wait = self.waiting
        self.gateway = self.bed.connect()

    def tearDown(self) -> None:
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_nothing_is_read_or_answered_meanwhile(self) -> None:
        self.gateway.raw(HB_FRAME + NEWDEVICES[:20])
        self.assertEqual((self.gateway.reading, self.gateway.written()), (False, b""))
        self.gateway.raw(NEWDEVICES[20:] + NEWDEVICES)
        self.waiting.callback(None)
        self.bed.tick()
        self.assertTrue(self.gateway.reading)
        self.assertEqual([number for number, _, _ in self.gateway.read()], [2, 3, 3])
        self.assertEqual(len(self.bed.heard.uplinks), 2)

    def test_too_much_meanwhile(self) -> None:
        self.gateway.raw(HB_FRAME)
        for _ in range(20):
            self.gateway.raw(bytes(65_536))
        self.assertEqual(self.gateway.closed_for, "flood")
        self.waiting.callback(None)
        self.assertEqual(self.bed.heard.presences, [])

    def test_a_long_first_frame(self) -> None:
        """Before it is known who speaks a frame may have so many bytes; a longer one is noise."""
        bed = Bed(Settings(max_first_frame=256))
        gateway = bed.connect()
        gateway.say({"type": "newdevices", "x": [n * 7919 % 10_007 for n in range(500)]}, 1)
        self.assertEqual((gateway.connection.identity, gateway.written()), ("", b""))
        self.assertGreater(bed.listener.stats.malformed, 0)
        gateway.raw(HB_FRAME)
        self.assertEqual(gateway.connection.identity, GATEWAY)

    def test_storage_fails(self) -> None:
        self.bed.registry.error = Unavailable("disk full")
        self.gateway.raw(HB_FRAME)
        self.waiting.callback(None)
        self.assertEqual((self.gateway.closed_for, self.gateway.written()), ("unavailable", b""))

    def test_a_fault_of_ours(self) -> None:
        self.bed.registry.error = ZeroDivisionError("x")
        self.gateway.raw(HB_FRAME)
        self.waiting.callback(None)
        self.assertEqual(self.gateway.closed_for, "internal_error")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_it_goes_meanwhile(self) -> None:
        self.gateway.raw(HB_FRAME)
        self.gateway.lose(ConnectionError)
        self.waiting.callback(None)
        self.assertEqual(self.bed.heard.presences, [])


class RefusedTests(SynchronousTestCase):
    def test_disabled(self) -> None:
        bed = Bed()
        bed.registry.records[GATEWAY].disabled = True
        gateway = bed.connect()
        gateway.raw(HB_FRAME)
        self.assertEqual((gateway.closed_for, gateway.written()), ("auth_failed", b""))
        self.assertEqual(bed.listener.stats.logins_failed, 1)

    def test_who_comes_again_and_again_is_closed_later_and_later(self) -> None:
        bed = Bed(Settings(unknown="refuse"))
        bed.registry.records.clear()
        for _ in range(bed.listener.limits.max_failed_logins):
            gateway = bed.connect()
            gateway.raw(HB_FRAME)
            self.assertEqual(gateway.closed_for, "auth_failed")
        gateway, leaving = bed.connect(), bed.connect()
        for one in (gateway, leaving):
            one.raw(HB_FRAME)
            self.assertEqual((one.closed_for, one.reading), (None, False))
        leaving.lose(ConnectionError)
        bed.tick(1.1)
        self.assertEqual((gateway.closed_for, gateway.written()), ("auth_failed", b""))
        self.assertEqual(bed.listener.stats.logins_delayed, 2)

    def test_removed_and_disabled_while_connected(self) -> None:
        for what in ("device_removed", "device_disabled"):
            bed = Bed()
            gateway = bed.admitted()
            bed.registry.change("bound", "app")
            self.assertIsNone(gateway.closed_for)
            bed.registry.change(what, GATEWAY)
            self.assertEqual(gateway.closed_for, "removed")

    def test_unknown(self) -> None:
        bed = Bed(Settings(unknown="refuse"))
        bed.registry.records.clear()
        gateway = bed.connect()
        gateway.raw(HB_FRAME)
        self.assertEqual((gateway.closed_for, gateway.written()), ("auth_failed", b""))
        self.assertEqual(bed.quarantine.sightings, [])

    def test_accepted(self) -> None:
        bed = Bed(Settings(unknown="accept"))
        bed.registry.records.clear()
        gateway = bed.connect()
        gateway.raw(HB_FRAME)
        self.assertEqual((gateway.closed_for, gateway.written()), (None, ACK_A))
        self.assertEqual(list(bed.registry.records), [GATEWAY])
        self.assertEqual(bed.heard.presences, [(GATEWAY, True, "connected")])

    def test_accepted_while_the_id_is_another_protocols(self) -> None:
        bed = Bed(Settings(unknown="accept"))
        real = bed.registry.identify_device

        def other(protocol: str, device_id: str) -> Any:
            bed.registry.records.clear()
            found = real(protocol, device_id)
            bed.registry.records[GATEWAY] = DeviceRecord(id=GATEWAY, protocol="novacloud")
            return found

        bed.registry.identify_device = other  # type: ignore[method-assign]
        gateway = bed.connect()
        gateway.raw(HB_FRAME)
        self.assertEqual(gateway.closed_for, "auth_failed")


class QuarantineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bed = Bed(Settings(max_quarantined=2))
        self.bed.registry.records.clear()
        self.gateway = self.bed.connect()

    def entry(self) -> Entry:
        return Entry(protocol="gateway88", id=GATEWAY, peer="x", first_seen=NOW, last_seen=NOW, count=1, info={})

    def approve(self, **fields: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.successResultOf(self.bed.quarantine.approvers["gateway88"](self.entry(), fields))
        self.bed.tick()
        return answer

    def test_it_is_answered_and_goes_no_further(self) -> None:
        self.gateway.say({"type": "gateway_info", "gateway_info": {"name": "g", "wifipwd": "x"}}, 1)
        self.gateway.raw(HB_FRAME)
        self.assertEqual([number for number, _, _ in self.gateway.read()], [1, 2])
        self.assertEqual((self.bed.heard.uplinks, self.bed.heard.presences, self.gateway.closed_for), ([], [], None))
        who = ("gateway88", GATEWAY, "192.0.2.7")
        self.assertEqual(
            self.bed.quarantine.sightings,
            [(*who, None), (*who, {"name": "g", "wifipwd": "***"}), (*who, None)],
        )
        self.assertEqual(self.bed.listener.counted.quarantined, 1)
        self.assertEqual(self.bed.listener.stats.authenticated, 1)

    def test_approval_admits_it_at_once(self) -> None:
        self.gateway.say(INFO, 1)
        self.gateway.read()
        self.assertEqual(self.approve(name="hall")["id"], GATEWAY)
        self.assertEqual(self.bed.heard.presences, [(GATEWAY, True, "connected")])
        live = self.bed.core.devices.get(GATEWAY)
        assert live is not None
        self.assertEqual(live.info, INFO["gateway_info"])
        self.bed.command({"a": 1})
        self.assertEqual(len(self.gateway.read()), 1)

    def test_approval_without_a_connection(self) -> None:
        self.approve()
        self.gateway.raw(HB_FRAME)
        self.assertEqual(self.bed.heard.presences, [(GATEWAY, True, "connected")])

    def test_wrong_fields(self) -> None:
        approver = self.bed.quarantine.approvers["gateway88"]
        self.failureResultOf(approver(self.entry(), {"id": "x"}), Invalid)
        self.failureResultOf(approver(self.entry(), {"certificate": 5}), Invalid)
        self.approve()
        self.failureResultOf(approver(self.entry(), {}), Conflict)

    def test_registered_in_another_way(self) -> None:
        self.gateway.raw(HB_FRAME)
        self.bed.registry.records[GATEWAY] = DeviceRecord(id=GATEWAY, protocol="gateway88")
        self.gateway.raw(NEWDEVICES)
        self.assertEqual(self.bed.heard.presences, [])
        self.bed.tick(11)
        self.gateway.say({"type": "hb", "hb": {}}, 9)
        self.assertEqual(self.bed.heard.presences, [(GATEWAY, True, "connected")])

    def test_the_new_connection_wins(self) -> None:
        self.gateway.raw(HB_FRAME)
        again = self.bed.connect()
        again.raw(HB_FRAME)
        self.assertEqual((self.gateway.closed_for, again.closed_for), ("takeover", None))
        self.approve()
        live = self.bed.core.devices.get(GATEWAY)
        assert live is not None
        self.assertIs(live.link, again.connection)

    def test_there_is_room_for_so_many(self) -> None:
        made = [self.bed.connect(mac=bytes([2, 0, 0, 0, 0, number])) for number in (1, 2, 3)]
        for gateway in made:
            gateway.say(INFO, 1)
        self.assertEqual([gateway.closed_for for gateway in made], [None, None, "auth_failed"])
        made[0].lose(ConnectionError)
        fourth = self.bed.connect(mac=MAC)
        fourth.say(INFO, 1)
        self.assertIsNone(fourth.closed_for)

    def test_it_ends_when_it_is_silent(self) -> None:
        self.gateway.raw(HB_FRAME)
        self.bed.tick(91)
        self.assertEqual(self.gateway.closed_for, "idle")


class CertificateTests(SynchronousTestCase):
    def shown(self, subject: str = "", fingerprint: str = "") -> Shown:
        shown = Shown(None)
        shown.subject, shown.fingerprint = subject, fingerprint
        return shown

    def test_what_fits(self) -> None:
        fingerprint = "sha256:" + "ab" * 32
        self.assertTrue(self.shown().fits(""))
        self.assertTrue(self.shown("gw", fingerprint).fits("gw"))
        self.assertTrue(self.shown("gw", fingerprint).fits(fingerprint))
        for other in ("gw2", "sha256:" + "ac" * 32):
            self.assertFalse(self.shown("gw", fingerprint).fits(other))
        for bound_to in ("gw", fingerprint):
            self.assertFalse(self.shown().fits(bound_to))

    def test_a_bound_gateway_without_its_certificate(self) -> None:
        bed = Bed()
        bed.registry.records[GATEWAY].attributes["certificate"] = "gw"
        gateway = bed.connect()
        gateway.raw(HB_FRAME)
        self.assertEqual((gateway.closed_for, gateway.written()), ("auth_failed", b""))

    def test_bound_while_it_is_connected(self) -> None:
        bed = Bed()
        gateway = bed.admitted()
        bed.registry.change("device_updated", GATEWAY)
        self.assertIsNone(gateway.closed_for)
        self.successResultOf(bed.registry.update_device(GATEWAY, {"certificate": "gw"}))
        self.assertEqual(gateway.closed_for, "auth_failed")
