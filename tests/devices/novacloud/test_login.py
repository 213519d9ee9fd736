"""From the connection to a session: decisions 1, 4 to 6, 15 to 19, 36, and what changes in the registry."""

from __future__ import annotations

import inspect
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.novacloud import Settings, texts
from broker.listening.settings import Limits
from broker.model.errors import Unavailable
from broker.storage.registry import Change, Registry
from tests.devices.novacloud.bed import DEVICE, KEY, OTHER, Bed, Device, FakeRegistry

SUCCESS = {
    "type": "auth_response",
    "status": "ok",
    "message": "认证成功",
    "payload": {"status": "success", "message": "认证成功"},
}


def refusal(text: str) -> dict[str, Any]:
    return {
        "type": "auth_response",
        "status": "error",
        "message": text,
        "payload": {"status": "error", "message": text},
    }


class FakeTests(SynchronousTestCase):
    def test_the_fake_is_called_as_the_real_one(self) -> None:
        real = inspect.signature(Registry.login_device).parameters
        fake = inspect.signature(FakeRegistry.login_device).parameters
        self.assertEqual(list(fake), list(real))


class LoginTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bed = Bed()
        self.device = self.bed.connect()

    def refused(self, device: Device, reason: str, text: str) -> None:
        self.assertEqual(device.lines(), [refusal(text)])
        self.assertEqual(device.closed_for, reason)
        self.assertEqual(self.bed.heard.presences, [])

    def test_nothing_is_said_first(self) -> None:
        self.assertEqual(self.device.lines(), [])

    def test_nested(self) -> None:
        """Row 1: the guide's form."""
        self.device.auth()
        self.assertEqual(self.device.lines(), [SUCCESS])
        self.assertEqual(self.bed.registry.asked, [("novacloud", DEVICE, KEY)])
        self.assertEqual(self.bed.heard.presences, [(DEVICE, True, "connected")])
        self.assertEqual(self.device.connection.identity, DEVICE)

    def test_flat(self) -> None:
        """Row 1: the form of the shipped server."""
        self.device.auth(flat=True)
        self.assertEqual(self.device.lines(), [SUCCESS])

    def test_flat_switched_off(self) -> None:
        bed = Bed(Settings(flat_auth=False))
        device = bed.connect()
        device.auth(flat=True)
        self.assertEqual(device.lines()[0]["status"], "error")
        self.assertEqual(device.closed_for, "malformed")
        self.assertEqual(bed.registry.asked, [])

    def test_id_in_other_forms(self) -> None:
        """Row 19: compared as UUID."""
        self.device.auth(f"{{{DEVICE.upper()}}}")
        self.assertEqual(self.device.lines(), [SUCCESS])

    def test_unknown_id_wrong_key_and_no_uuid_look_the_same(self) -> None:
        """Rows 16 and 19."""
        answers = []
        for device_id, key in ((DEVICE, "wrong"), (DEVICE.replace("5", "6"), KEY), ("no-uuid", KEY), (DEVICE, "")):
            device = self.bed.connect()
            device.auth(device_id, key)
            self.assertEqual(device.closed_for, "auth_failed")
            answers.append(device.written())
        self.assertEqual(len(set(answers)), 1)
        self.assertEqual(len(self.bed.registry.asked), 4)
        self.assertEqual(self.bed.listener.stats.logins_failed, 4)

    def test_disabled_has_its_own_text(self) -> None:
        self.bed.registry.disabled = True
        self.device.auth()
        self.refused(self.device, "auth_failed", texts.DISABLED)

    def test_storage_away(self) -> None:
        waiting: Deferred[None] = Deferred()
        self.bed.registry.wait = waiting
        self.device.auth()
        waiting.errback(Unavailable("disk full"))
        self.refused(self.device, "unavailable", texts.TRY_LATER)

    def test_a_fault_of_ours(self) -> None:
        waiting: Deferred[None] = Deferred()
        self.bed.registry.wait = waiting
        self.device.auth()
        waiting.errback(ZeroDivisionError("a bug"))
        self.refused(self.device, "internal_error", texts.GOODBYE["internal_error"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_failures_of_one_address_are_slowed_down(self) -> None:
        """Row 16."""
        for _ in range(self.bed.listener.limits.max_failed_logins):
            device = self.bed.connect()
            device.auth(key="wrong")
            self.assertEqual(device.closed_for, "auth_failed")
        device = self.bed.connect()
        device.auth(key="wrong")
        self.assertEqual((device.lines(), device.closed_for, device.reading), ([], None, False))
        self.bed.tick(1.1)
        self.refused(device, "auth_failed", texts.WRONG_CREDENTIALS)

    def test_going_away_while_slowed_down(self) -> None:
        for _ in range(self.bed.listener.limits.max_failed_logins + 1):
            device = self.bed.connect()
            device.auth(key="wrong")
        device.lose(ConnectionLost)
        self.bed.tick(20)
        self.assertEqual(device.lines(), [])

    def test_first_message_is_not_auth(self) -> None:
        """Row 15."""
        for message in ({"type": "heartbeat"}, {"type": "data", "payload": {}}, {"type": "auth_response"}):
            device = self.bed.connect()
            device.send(message)
            self.refused(device, "protocol_error", texts.AUTH_FIRST)

    def test_first_line_is_malformed(self) -> None:
        self.device.raw(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n")
        (answer,) = self.device.lines()
        self.assertEqual((answer["type"], answer["status"]), ("auth_response", "error"))
        self.assertEqual(self.device.closed_for, "malformed")

    def test_wrong_types_in_auth(self) -> None:
        wrong: list[Any] = [{}, {"device_id": 5, "device_key": KEY}, {"device_id": DEVICE}, [], "x", None, 5]
        for payload in wrong:
            device = self.bed.connect()
            device.send({"type": "auth", "payload": payload})
            (answer,) = device.lines()
            self.assertEqual(answer["payload"]["status"], "error")
            self.assertEqual(device.closed_for, "malformed")
        self.assertEqual(self.bed.listener.stats.malformed, len(wrong))

    def test_nothing_at_all(self) -> None:
        """Rows 4 and 15: 30 s."""
        self.bed.tick(29)
        self.assertIsNone(self.device.closed_for)
        self.bed.tick(2)
        self.refused(self.device, "auth_timeout", texts.GOODBYE["auth_timeout"])

    def test_blank_lines_are_not_a_message(self) -> None:
        self.device.raw(b"\r\n\n")
        self.device.auth()
        self.assertEqual(self.device.lines(), [SUCCESS])

    def test_a_long_line_before_the_login(self) -> None:
        self.device.raw(b"x" * 5_000)
        self.assertEqual(self.device.lines()[0]["payload"]["status"], "error")
        self.assertEqual(self.device.closed_for, "too_long")

    def test_tls_on_the_plain_port(self) -> None:
        self.device.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        self.assertEqual((self.device.written(), self.device.closed_for), (b"", "malformed"))

    def test_a_thousand_that_say_nothing(self) -> None:
        bed = Bed(Settings(limits=Limits(max_connections_per_address=2_000)))
        devices = [bed.connect() for _ in range(1_000)]
        bed.tick(31)
        self.assertEqual({device.closed_for for device in devices}, {"auth_timeout"})


class WaitingTests(SynchronousTestCase):
    """While the registry is asked."""

    def setUp(self) -> None:
        self.bed = Bed()
        self.device = self.bed.connect()
        self.waiting: Deferred[None] = Deferred()
        self.bed.registry.wait = self.waiting

    def test_nothing_is_read(self) -> None:
        self.device.auth()
        self.assertFalse(self.device.reading)
        self.waiting.callback(None)
        self.assertTrue(self.device.reading)

    def test_what_came_behind_is_taken_after(self) -> None:
        self.device.send(
            {"type": "auth", "payload": {"device_id": DEVICE, "device_key": KEY}},
            {"type": "data", "payload": {"n": 1}},
        )
        self.device.send({"type": "data", "payload": {"n": 2}})
        self.device.raw(b'{"type":"data","payl')
        self.assertEqual(self.bed.heard.uplinks, [])
        self.waiting.callback(None)
        self.device.raw(b'oad":{"n":3}}\n')
        self.assertEqual([uplink.payload for uplink in self.bed.heard.uplinks], [{"n": 1}, {"n": 2}, {"n": 3}])

    def test_what_came_behind_is_bounded(self) -> None:
        self.device.auth()
        for _ in range(3):
            self.device.raw(b"x" * 60_000)
        self.assertEqual(self.device.closed_for, "flood")
        self.waiting.callback(None)
        self.assertEqual(self.bed.heard.presences, [])

    def test_gone_before_the_answer(self) -> None:
        self.device.auth()
        self.device.lose(ConnectionLost)
        self.waiting.callback(None)
        self.assertEqual(self.bed.heard.presences, [])

    def test_too_slow_an_answer(self) -> None:
        self.device.auth()
        self.bed.tick(31)
        self.assertEqual(self.device.closed_for, "auth_timeout")
        self.waiting.errback(Unavailable("too late"))
        self.assertEqual(len(self.device.lines()), 1)


class AloneTests(SynchronousTestCase):
    """Rows 5 and 6: the answer to auth stands alone, commands come later."""

    def setUp(self) -> None:
        self.bed = Bed()
        self.bed.command({"light": "ON"})
        self.device = self.bed.connect()

    def test_the_answer_is_one_write_under_1024_bytes(self) -> None:
        writes: list[bytes] = []
        self.device.connection.outbox.redirect(writes.append)
        self.device.auth(flat=True)
        self.device.send({"type": "heartbeat"})
        self.assertEqual(len(writes), 1)
        self.assertLess(len(writes[0]), 1024)
        self.bed.tick(0.1)
        self.assertEqual(len(writes), 2)

    def test_flushed_by_the_first_message(self) -> None:
        self.device.auth()
        self.bed.tick(0.1)
        self.assertEqual(len(self.device.lines()), 1)
        self.device.send({"type": "heartbeat"})
        self.assertEqual([line["type"] for line in self.device.lines()], ["command"])

    def test_flushed_after_a_second(self) -> None:
        self.device.auth()
        self.bed.tick(0.9)
        self.assertEqual(len(self.device.lines()), 1)
        self.bed.tick(0.2)
        self.assertEqual([line["type"] for line in self.device.lines()], ["command"])
        self.device.send({"type": "heartbeat"})
        self.assertEqual(self.device.lines(), [])

    def test_what_came_with_auth_does_not_count(self) -> None:
        self.device.send({"type": "auth", "payload": {"device_id": DEVICE, "device_key": KEY}}, {"type": "heartbeat"})
        self.bed.tick(0.5)
        self.assertEqual(self.device.lines(), [SUCCESS])

    def test_a_malformed_line_does_not_count(self) -> None:
        self.device.auth()
        self.device.raw(b"x\n")
        self.bed.tick(0.5)
        self.assertEqual([line["type"] for line in self.device.lines()], ["auth_response", "error"])

    def test_gone_at_once(self) -> None:
        self.device.auth()
        self.device.lose(ConnectionDone)
        self.device.lines()
        self.bed.tick(5)
        self.assertEqual(self.device.lines(), [])
        self.assertEqual(self.bed.core.commands.queued(DEVICE), 1)


class SecondAuthTests(SynchronousTestCase):
    """Row 17."""

    def test_same_device(self) -> None:
        bed = Bed()
        device = bed.login()
        device.auth(DEVICE.upper())
        self.assertEqual(device.lines(), [SUCCESS])
        self.assertIsNone(device.closed_for)
        self.assertEqual(bed.heard.presences, [(DEVICE, True, "connected")])

    def test_other_device(self) -> None:
        bed = Bed()
        device = bed.login()
        device.auth(OTHER)
        self.assertEqual(device.lines(), [refusal(texts.OTHER_DEVICE)])
        self.assertEqual(device.closed_for, "protocol_error")

    def test_malformed(self) -> None:
        bed = Bed()
        device = bed.login()
        device.send({"type": "auth", "payload": {"device_id": 5}})
        self.assertEqual([line["type"] for line in device.lines()], ["error"])
        self.assertIsNone(device.closed_for)


class TakeoverTests(SynchronousTestCase):
    """Row 36: the new one wins, and only the current one may set the device offline."""

    def test_takeover(self) -> None:
        bed = Bed()
        old = bed.login()
        new = bed.login()
        self.assertEqual(old.closed_for, "takeover")
        self.assertEqual(old.lines()[0]["message"], texts.GOODBYE["takeover"])
        old.lose(ConnectionDone)
        self.assertEqual(bed.heard.presences, [(DEVICE, True, "connected")])
        new.lose(ConnectionLost)
        self.assertEqual(bed.heard.presences[1:], [(DEVICE, False, "connection_lost")])


class RegistryChangeTests(SynchronousTestCase):
    def test_no_longer_welcome(self) -> None:
        for what in ("device_removed", "device_disabled", "device_secret"):
            bed = Bed()
            device, other = bed.login(), bed.login(OTHER)
            for change in (Change(what, DEVICE), Change(what, "not-here")):
                for call in bed.registry.on_change:
                    call(change)
            self.assertEqual((device.closed_for, other.closed_for), ("removed", None))
            self.assertEqual(bed.heard.presences[-1], (DEVICE, False, "removed"))

    def test_other_changes(self) -> None:
        bed = Bed()
        device = bed.login()
        for what in ("device_updated", "bound", "product_updated"):
            for call in bed.registry.on_change:
                call(Change(what, DEVICE, "x"))
        self.assertIsNone(device.closed_for)

    def test_a_link_of_another_protocol_is_left_alone(self) -> None:
        bed = Bed()
        device = bed.login()
        closed: list[str] = []

        class OtherLink:
            def close_link(self, reason: str) -> None:
                closed.append(reason)

        live = bed.core.devices.get(DEVICE)
        assert live is not None
        live.link = OtherLink()
        for call in bed.registry.on_change:
            call(Change("device_removed", DEVICE))
        self.assertEqual(closed, [])
        self.assertIsNone(device.closed_for)
