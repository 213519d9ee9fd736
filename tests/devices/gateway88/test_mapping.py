"""What gateways say as uplinks, values and info; what becomes of commands."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from broker.devices.gateway88 import Settings
from broker.devices.gateway88.frames import encode_frame
from broker.devices.gateway88.mapping import MAX_INFO, as_number
from broker.devices.gateway88.masking import masked
from broker.model.messages import Command
from tests.devices.gateway88.bed import NOW, Bed
from tests.devices.gateway88.vectors import CONTROL_REPLY, GATEWAY, HB_FRAME, INFO, MAC, NEWDEVICES

FIRMWARE = {"file": "gw.bin", "version": "2.4.0", "md5": "0" * 32}


class GatewayTestCase(SynchronousTestCase):
    settings = Settings()

    def setUp(self) -> None:
        self.bed = Bed(self.settings)
        self.gateway = self.bed.admitted()
        live = self.bed.core.devices.get(GATEWAY)
        assert live is not None
        self.live = live

    def tearDown(self) -> None:
        self.assertEqual(self.bed.faults, [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def values(self) -> dict[str, Any]:
        return {key: value for key, (value, _) in self.live.values.values.items()}

    def uplinks(self) -> list[tuple[str, Any, Any]]:
        return [(uplink.kind, uplink.payload, uplink.meta) for uplink in self.bed.heard.uplinks]

    def inform(self, body: Any, number: int = 3) -> None:
        self.gateway.say({"type": "gateway_info", "gateway_info": body}, number)
        self.gateway.read()


class UplinkTests(GatewayTestCase):
    def test_hb(self) -> None:
        self.gateway.raw(HB_FRAME)
        self.assertEqual(
            self.values(),
            {"totalram": 134217728, "freeram": 50331648, "totaldisk": 16777216, "freedisk": 8388608},
        )
        ((kind, payload, meta),) = self.uplinks()
        self.assertEqual((kind, meta), ("status", None))
        self.assertEqual(payload["hb"]["totaldisk"], 16384)
        self.assertEqual(self.bed.heard.uplinks[0].received_at, NOW)
        self.assertEqual(self.live.last_heartbeat, NOW)

    def test_hb_as_the_document_prints_it(self) -> None:
        """Numbers in quotes, blanks in keys, a comma too many; what is no number stays what it is."""
        text = (
            b'{"type":"hb"," hb ":{"totalram":"1000"," freeram":" 12 ","totaldisk":"2.5","freedisk":"n/a",'
            b'"zb":{"pan":7},}}'
        )
        self.gateway.raw(encode_frame(MAC, 2, text))
        self.assertEqual(
            self.values(), {"totalram": 1000, "freeram": 12, "totaldisk": 2560.0, "freedisk": "n/a", "zb": {"pan": 7}}
        )
        self.assertEqual(self.uplinks()[0][2], {"repaired": True})
        self.assertEqual(self.bed.listener.counted.repaired, 1)

    def test_hb_without_disk(self) -> None:
        self.gateway.say({"type": "hb", "hb": {"totalram": 1, "freeram": 0}}, 2)
        self.assertEqual(self.values(), {"totalram": 1, "freeram": 0})

    def test_numbers(self) -> None:
        numbers: tuple[tuple[Any, float], ...] = (("1", 1), (" -2 ", -2), ("1.5", 1.5), (3, 3), (2.5, 2.5))
        for given, wanted in numbers:
            self.assertEqual(as_number(given), wanted)
        none: tuple[Any, ...] = (True, None, "", "0x10", "1e5", "١", [1], "9" * 19)
        for given in none:
            self.assertIsNone(as_number(given))

    def test_gateway_info(self) -> None:
        self.inform({**INFO["gateway_info"], "swversion": "2.4"})
        self.assertEqual(self.live.info, {**INFO["gateway_info"], "swversion": "2.4"})
        self.assertTrue(self.live.info_changed)
        self.assertEqual([kind for kind, _, _ in self.uplinks()], ["event"])

    def test_secrets_are_masked(self) -> None:
        self.inform({"name": "g", "wifipwd": "a", "connPwd": "", "geekkey": 5, "net": [{"token": "t", "x": 1}]})
        shown = {"name": "g", "wifipwd": "***", "connPwd": "", "geekkey": "***", "net": [{"token": "***", "x": 1}]}
        self.assertEqual(self.live.info, shown)
        self.assertEqual(self.uplinks()[0][1]["gateway_info"], shown)

    def test_only_what_is_about_the_gateway_itself_is_masked(self) -> None:
        self.gateway.say({"type": "alarm", "alarm": {"key": "sos"}}, 4)
        self.assertEqual(self.uplinks()[-1][1], {"type": "alarm", "alarm": {"key": "sos"}})
        self.gateway.say({"type": "hb", "hb": {"lastkey": 7}}, 5)
        self.assertEqual(self.values(), {"lastkey": 7})
        for kind, shown in (("remote_control", "on"), ("gateway_info", "***")):
            command = self.bed.command({"n": 1}, len(kind))
            number = self.gateway.read()[-1][0]
            self.gateway.say({"type": kind, "ack": {"result": 0, "key": "on"}}, number)
            self.assertEqual(command.result, {"result": 0, "key": shown})

    def test_what_has_no_secrets_is_left_as_it_is(self) -> None:
        value = {"a": [1, {"b": None}], "keyboard": "x", "tokens": 3}
        self.assertIs(masked(value), value)

    def test_info_without_end(self) -> None:
        self.inform({"name": "g", "swversion": "1" * 1_000, **{f"k{n}": "x" * 100 for n in range(MAX_INFO // 100)}})
        self.assertEqual(self.live.info, {"name": "g"})

    def test_newdevices_and_unknown_types(self) -> None:
        self.gateway.raw(NEWDEVICES)
        self.gateway.say({"type": "alarm", "alarm": {"zone": 3}}, 4, status=1)
        self.gateway.say({"type": "datafile_backup", "datafile_backup": {}}, 5)
        self.gateway.say({"no": "type"}, 6)
        self.assertEqual(
            self.uplinks(),
            [
                ("event", {"type": "newdevices"}, None),
                ("event", {"type": "alarm", "alarm": {"zone": 3}}, {"status": 1}),
                ("event", {"type": "datafile_backup", "datafile_backup": {}}, None),
                ("event", {"no": "type"}, None),
            ],
        )
        self.assertEqual(self.bed.listener.counted.unknown_types, 3)

    def test_bodies_of_any_kind(self) -> None:
        bodies: tuple[Any, ...] = (None, 5, "text", [], {"totalram": {"x": 1}})
        for number, body in enumerate(bodies):
            for kind in ("hb", "gateway_info", "newdevices"):
                self.gateway.say({"type": kind, kind: body, "n": number}, 9)
        self.assertEqual(len(self.uplinks()), 15)


class FollowUpTests(GatewayTestCase):
    settings = Settings(newdevices_cmd={"cmd": "getdevices"})

    def test_newdevices_is_followed_by_a_question(self) -> None:
        self.gateway.raw(NEWDEVICES)
        (ack, (number, asked, _)) = self.gateway.read()
        self.assertEqual(ack, (3, None, 0))
        self.assertEqual(asked, {"type": "remote_control", "cmd": {"cmd": "getdevices"}})
        self.gateway.say({"type": "remote_control", "ack": {"result": 0}}, number)
        self.assertEqual([status for _, status in self.bed.heard.commands], ["queued", "sent", "succeeded"])


class RemoteControlTests(GatewayTestCase):
    def outcome(self, answer: dict[str, Any] | None, status: int = 0) -> tuple[str, Any]:
        self.bed.tick(1)
        command = self.bed.command({"n": 1}, int(self.bed.clock.seconds() - NOW))
        ((number, _, _),) = self.gateway.read()
        if answer is None:
            self.gateway.acknowledge(number, status)
        else:
            self.gateway.say(answer, number, status)
        return command.status, command.result

    def test_well(self) -> None:
        self.assertEqual(self.outcome(CONTROL_REPLY), ("succeeded", CONTROL_REPLY["ack"]))
        self.assertEqual(self.outcome(None), ("succeeded", None))
        self.assertEqual(self.outcome({"type": "x", "ack": [1]}), ("succeeded", [1]))
        self.assertEqual(self.outcome({"type": "x", "ack": {"result": "0"}}), ("succeeded", {"result": "0"}))
        self.assertEqual(self.outcome({"type": "x", "status": " OK "}), ("succeeded", {"status": " OK "}))

    def test_not_well(self) -> None:
        self.assertEqual(self.outcome(CONTROL_REPLY, 1), ("failed", CONTROL_REPLY["ack"]))
        self.assertEqual(self.outcome(None, 1), ("failed", None))
        self.assertEqual(self.outcome({"type": "x", "ack": {"result": 7}})[0], "failed")
        self.assertEqual(self.outcome({"type": "x", "ack": {"result": "no"}})[0], "failed")
        self.assertEqual(self.outcome({"type": "x", "ack": {}, "status": "error"})[0], "failed")
        self.assertEqual(self.outcome({"type": "x", "status": "error"}), ("failed", {"status": "error"}))
        self.assertEqual(self.outcome({"type": "x", "status": 1})[0], "failed")

    def test_bytes(self) -> None:
        self.bed.command(b'{"a":1}', 1)
        ((number, value, _),) = self.gateway.read()
        self.assertEqual(value, {"type": "remote_control", "cmd": {"a": 1}})
        self.gateway.acknowledge(number)
        self.bed.command(b"\x01\x02", 2)
        ((_, value, _),) = self.gateway.read()
        self.assertEqual(value, {"type": "remote_control", "cmd": {"base64": "AQI="}})

    def test_a_command_that_is_too_long(self) -> None:
        words = {"x": "".join(f"{number * 7919 % 1_000_003:06}" for number in range(800_000))}
        command = self.bed.command(words)
        self.assertEqual(command.status, "failed")
        self.assertIn("1048576 bytes", command.result["error"])
        self.assertEqual(self.gateway.read(), [])
        self.assertEqual(self.bed.command({"next": 1}, 2).status, "sent")


class LongOperationTests(GatewayTestCase):
    def ordered(self, name: str, payload: dict[str, Any], number: int = 1) -> tuple[Command, int, Any]:
        command = self.bed.operation(name, payload, number)
        ((message_id, value, _),) = self.gateway.read()
        assert value is not None and value["type"] == name
        return command, message_id, value[name]

    def ok(self, name: str, message_id: int, status: str = "ok") -> None:
        self.gateway.say({"type": name, "status": status}, message_id)
        self.assertEqual(self.gateway.read(), [])

    def test_firmware(self) -> None:
        command, message_id, body = self.ordered("firmware_update", FIRMWARE)
        self.assertEqual(
            body,
            {"version": "2.4.0", "firmware_url": f"https://files/f/{command.id}", "firmware_md5": "0" * 32},
        )
        self.ok("firmware_update", message_id)
        self.assertEqual(command.status, "pending")
        self.gateway.raw(HB_FRAME)
        self.inform({"swversion": "2.3.1"})
        self.assertEqual(command.status, "pending")
        self.inform({"swversion": "2.4.0"})
        self.assertEqual((command.status, command.result), ("succeeded", {"swversion": "2.4.0"}))

    def test_a_version_that_is_a_number(self) -> None:
        command, _, _ = self.ordered("firmware_update", {**FIRMWARE, "version": "24"})
        self.inform({"swversion ": 24})
        self.assertEqual(command.status, "succeeded")

    def test_firmware_after_a_reboot_without_an_answer(self) -> None:
        command, _, _ = self.ordered("firmware_update", FIRMWARE)
        again = self.bed.connect()
        again.say({"type": "gateway_info", "gateway_info": {"swversion": "2.4.0"}}, 1)
        self.assertEqual(command.status, "succeeded")

    def test_times(self) -> None:
        for number, (name, payload, seconds) in enumerate(
            (
                ("firmware_update", FIRMWARE, 1_800),
                ("datafile_backup", {}, 600),
                ("datafile_recovery", {"backup": "b", "md5": "1"}, 1_800),
            )
        ):
            command, message_id, _ = self.ordered(name, payload, number)
            self.ok(name, message_id)
            self.assertEqual(command.deadline, self.bed.clock.seconds() + seconds)
            self.bed.clock.advance(seconds - 1)
            self.bed.core.commands.tick()
            self.assertEqual(command.status, "pending")
            self.bed.clock.advance(1)
            self.bed.core.commands.tick()
            self.assertEqual(command.status, "timed_out")

    def test_backup(self) -> None:
        command, message_id, body = self.ordered("datafile_backup", {})
        self.assertEqual(body, {"backup_url": f"https://files/b/{command.id}"})
        self.ok("datafile_backup", message_id)
        self.gateway.raw(HB_FRAME)
        self.assertEqual(command.status, "pending")
        self.bed.listener.operations.arrived(command, {"backup": "b-1"}, self.bed.clock.seconds())
        self.assertEqual((command.status, command.result), ("succeeded", {"backup": "b-1"}))

    def test_recovery(self) -> None:
        command, message_id, body = self.ordered("datafile_recovery", {"backup": "b", "md5": "1" * 32})
        self.assertEqual(body, {"recovery_url": f"https://files/r/{command.id}", "recovery_md5": "1" * 32})
        self.gateway.raw(HB_FRAME)
        self.assertEqual(command.status, "sent")
        self.gateway.read()
        self.ok("datafile_recovery", message_id)
        self.assertEqual(command.status, "pending")
        self.gateway.say({"type": "hb", "hb": {}}, 4)
        self.assertEqual(command.status, "succeeded")

    def test_recovery_that_is_half_fetched(self) -> None:
        command, message_id, _ = self.ordered("datafile_recovery", {"backup": "b", "md5": "1" * 32})
        operations, now = self.bed.listener.operations, self.bed.clock.seconds()
        self.ok("datafile_recovery", message_id)
        operations.fetching(command, False, now)
        self.gateway.say({"type": "hb", "hb": {}}, 4)
        self.assertEqual((command.status, command.result), ("pending", {"status": "ok", "fetched": False}))
        operations.fetching(command, True, now)
        operations.fetching(command, False, now)
        self.assertEqual((command.status, command.result), ("pending", {"status": "ok", "fetched": True}))
        self.gateway.say({"type": "hb", "hb": {}}, 5)
        self.assertEqual(command.status, "succeeded")

    def test_recovery_that_is_fetched_before_it_is_answered(self) -> None:
        for whole, status in ((False, "pending"), (True, "succeeded")):
            command, message_id, _ = self.ordered("datafile_recovery", {"backup": "b", "md5": "1" * 32}, 2 * whole)
            self.bed.listener.operations.fetching(command, whole, self.bed.clock.seconds())
            self.assertEqual(command.status, "sent")
            self.ok("datafile_recovery", message_id)
            self.assertEqual(command.status, "pending")
            self.gateway.say({"type": "hb", "hb": {}}, 4 + whole)
            self.gateway.read()
            self.assertEqual(command.status, status)

    def test_refused(self) -> None:
        for number, name in enumerate(("firmware_update", "datafile_backup", "datafile_recovery")):
            command, message_id, _ = self.ordered(name, {**FIRMWARE, "backup": "b"}, number)
            self.ok(name, message_id, "error")
            self.assertEqual((command.status, command.result), ("failed", {"status": "error"}))

    def test_a_second_status_is_the_outcome(self) -> None:
        command, message_id, _ = self.ordered("firmware_update", FIRMWARE)
        self.ok("firmware_update", message_id)
        self.ok("firmware_update", message_id, "error")
        self.assertEqual(command.status, "failed")

    def test_a_status_of_its_own_accord_is_the_outcome(self) -> None:
        command, message_id, _ = self.ordered("datafile_backup", {})
        self.ok("datafile_backup", message_id)
        self.gateway.say({"type": "firmware_update", "status": "error"}, 20)
        self.assertEqual(command.status, "pending")
        self.gateway.say({"type": "datafile_backup", "status": "error"}, 21)
        self.assertEqual(command.status, "failed")
        self.assertEqual(self.gateway.read(), [(20, None, 0), (21, None, 0)])

    def test_what_is_pending_does_not_keep_others_waiting(self) -> None:
        _, message_id, _ = self.ordered("firmware_update", FIRMWARE)
        other = self.bed.command({"a": 1}, 2)
        self.assertEqual(other.status, "queued")
        self.ok_and_more(message_id)
        self.assertEqual(other.status, "sent")

    def ok_and_more(self, message_id: int) -> None:
        self.gateway.say({"type": "firmware_update", "status": "ok"}, message_id)

    def test_a_firmware_update_after_its_backup(self) -> None:
        for number, good in ((1, True), (3, False)):
            backup, message_id, _ = self.ordered("datafile_backup", {}, number)
            update = self.bed.operation("firmware_update", FIRMWARE, number + 1, after=backup.id)
            self.ok("datafile_backup", message_id)
            self.assertEqual((backup.status, update.status), ("pending", "queued"))
            if good:
                self.bed.listener.operations.arrived(backup, {}, self.bed.clock.seconds())
                self.bed.tick()
                ((_, value, _),) = self.gateway.read()
                assert value is not None
                self.assertEqual((value["type"], update.status), ("firmware_update", "sent"))
                self.inform({"swversion": "2.4.0"})
            else:
                self.gateway.say({"type": "datafile_backup", "status": "error"}, 30)
                self.assertEqual(update.status, "failed")
                self.assertIn("backup", update.result["error"])
                self.assertEqual(self.gateway.read(), [(30, None, 0)])

    def test_without_the_files_listener(self) -> None:
        del self.bed.core.listeners["files"]
        command = self.bed.operation("datafile_backup", {})
        self.assertEqual((command.status, self.gateway.read()), ("failed", []))
        self.assertIn("listeners.files", command.result["error"])


class LifeTests(GatewayTestCase):
    def test_late_and_offline(self) -> None:
        self.bed.tick(44)
        self.assertFalse(self.live.late)
        self.bed.tick(2)
        self.assertTrue(self.live.late)
        self.gateway.raw(HB_FRAME)
        self.assertFalse(self.live.late)
        self.bed.tick(89)
        self.assertEqual((self.live.late, self.gateway.closed_for), (True, None))
        self.bed.tick(2)
        self.assertEqual(self.gateway.closed_for, "idle")
        self.assertEqual(self.bed.heard.presences[-1], (GATEWAY, False, "idle"))

    def test_any_valid_frame_counts(self) -> None:
        for number in range(12):
            self.bed.tick(40)
            self.gateway.acknowledge(number)
            self.assertFalse(self.live.late)
        self.assertIsNone(self.gateway.closed_for)

    def test_a_takeover_does_not_make_it_offline(self) -> None:
        again = self.bed.admitted()
        self.assertEqual(self.gateway.closed_for, "takeover")
        self.gateway.lose(ConnectionError)
        self.assertEqual(self.bed.heard.presences, [(GATEWAY, True, "connected")])
        self.assertIs(self.live.link, again.connection)

    def test_a_session_begins_with_any_frame(self) -> None:
        bed = Bed()
        gateway = bed.connect()
        gateway.raw(HB_FRAME)
        self.assertEqual(gateway.connection.identity, GATEWAY)
        bed.command({"a": 1})
        self.assertEqual(len(gateway.read()), 2)

    def test_commands_wait_for_the_gateway(self) -> None:
        self.gateway.lose(ConnectionError)
        command = self.bed.command({"a": 1})
        self.assertEqual(command.status, "queued")
        again = self.bed.connect()
        again.raw(HB_FRAME)
        ack, (_, value, _) = again.read()
        self.assertEqual(
            (ack, value, command.status), ((2, None, 0), {"type": "remote_control", "cmd": {"a": 1}}, "sent")
        )
