"""What a device says while it is logged in: decisions 2, 3, 10 to 12, 20 to 27, 39."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.novacloud import Settings, texts
from broker.devices.novacloud.mapping import MAX_STATUS_KEYS
from broker.listening.settings import Limits
from broker.model.messages import Uplink
from broker.routing.live import LiveDevice
from tests.devices.novacloud.bed import DEVICE, NOW, Bed, Device


class SessionCase(SynchronousTestCase):
    settings = Settings()

    def setUp(self) -> None:
        self.bed = Bed(self.settings)
        self.start()

    def start(self, flat: bool = False) -> None:
        self.device: Device = self.bed.login(flat=flat)
        live = self.bed.core.devices.get(DEVICE)
        assert live is not None
        self.live: LiveDevice = live

    def tearDown(self) -> None:
        self.assertEqual(self.bed.faults, [])

    @property
    def now(self) -> float:
        return float(self.bed.clock.seconds())

    def said(self) -> Uplink:
        return self.bed.heard.uplinks[-1]

    def data(self, payload: Any, **more: Any) -> None:
        self.device.send({"type": "data", "payload": payload, **more})


class DataTests(SessionCase):
    def test_the_guides_example(self) -> None:
        payload = {
            "temperature": 25.5,
            "humidity": 65,
            "is_window_open": False,
            "status_message": "正常运行",
            "location": {"lat": 39.9042, "lng": 116.4074},
            "history": [24.5, 25.0, 25.5],
        }
        self.data(payload, timestamp=1678886400)
        uplink = self.said()
        self.assertEqual((uplink.kind, uplink.payload, uplink.device.id), ("data", payload, DEVICE))
        self.assertEqual((uplink.received_at, uplink.sent_at, uplink.meta), (self.now, 1678886400.0, None))
        self.assertEqual(self.live.values.values, {key: (value, 1678886400.0) for key, value in payload.items()})

    def test_no_answer_in_a_guide_session(self) -> None:
        """Row 2 and 21."""
        self.device.send({"type": "data", "payload": {"a": 1}}, {"type": "status"}, {"type": "heartbeat"})
        self.assertEqual(self.device.lines(), [])

    def test_only_a_heartbeat_is_one(self) -> None:
        self.data({"a": 1})
        self.assertEqual((self.live.last_seen, self.live.last_heartbeat), (self.now, 0.0))
        self.device.send({"type": "heartbeat"})
        self.assertEqual(self.live.last_heartbeat, self.now)
        self.assertEqual(self.live.link.peer.partition(":")[0], self.live.link.host)

    def test_answers_in_a_flat_session(self) -> None:
        """Row 2."""
        self.start(flat=True)
        self.device.send(
            {"type": "data", "payload": {"a": 1}}, {"type": "status"}, {"type": "heartbeat"}, {"type": "what"}
        )
        self.assertEqual([line["status"] for line in self.device.lines()], ["ok", "ok", "ok", "error"])

    def test_without_a_timestamp(self) -> None:
        self.data({"a": 1})
        self.assertIsNone(self.said().sent_at)
        self.assertEqual(self.live.values.values["a"], (1, self.now))

    def test_milliseconds(self) -> None:
        """Row 23."""
        self.data({"a": 1}, timestamp=1678886400500)
        self.assertEqual((self.said().sent_at, self.said().meta), (1678886400.5, {"timestamp": "milliseconds"}))
        self.assertEqual(self.bed.listener.counted.odd_timestamps, 1)

    def test_unusable_timestamps(self) -> None:
        """Row 23: never an error, the time of receipt counts and both are kept."""
        wrong: list[Any] = [True, "2023-03-15", -1, NOW + 100_000, [1], {}]
        for given in wrong:
            self.data({"a": given}, timestamp=given)
            meta = self.said().meta
            assert meta is not None
            self.assertEqual((self.said().sent_at, meta["timestamp"]), (None, "unusable"))
            self.assertEqual(self.live.values.values["a"], (given, self.now))
        self.assertEqual(self.device.lines(), [])
        self.assertEqual(self.bed.listener.counted.odd_timestamps, 6)

    def test_late_data_does_not_become_the_latest(self) -> None:
        """Row 24."""
        self.data({"a": "new"}, timestamp=int(self.now) - 10)
        self.data({"a": "old", "b": "first"}, timestamp=int(self.now) - 3600)
        self.assertEqual(len(self.bed.heard.uplinks), 2)
        self.assertEqual(self.live.values.values["a"], ("new", int(self.now) - 10))
        self.assertEqual(self.live.values.values["b"], ("first", int(self.now) - 3600))

    def test_a_clock_that_was_ahead_keeps_nothing_out(self) -> None:
        self.data({"a": 1}, timestamp=int(self.now) + 3600)
        self.assertEqual(self.said().sent_at, int(self.now) + 3600)
        self.data({"a": 2}, timestamp=int(self.now))
        self.bed.tick(1)
        self.data({"a": 3}, timestamp=int(self.now))
        self.assertEqual(self.live.values.values["a"][0], 3)

    def test_unmapped(self) -> None:
        """Row 25: unknown keys are kept apart and counted, never an error."""
        self.bed.registry.sensors = frozenset({"temperature"})
        self.bed = Bed()
        self.bed.registry.sensors = frozenset({"temperature"})
        self.start()
        self.data({"temperature": 20, "humidty": 50, "x": 1})
        self.data({"temperature": 21})
        self.assertEqual(set(self.live.values.values), {"temperature"})
        self.assertEqual({key: value for key, (value, _) in self.live.values.unmapped.items()}, {"humidty": 50, "x": 1})
        self.assertEqual(self.bed.listener.counted.unmapped_values, 2)
        self.assertEqual(self.bed.heard.uplinks[0].payload, {"temperature": 20, "humidty": 50, "x": 1})
        self.assertEqual(self.device.lines(), [])

    def test_null_is_no_value(self) -> None:
        """Row 26."""
        self.data({"a": 1})
        self.data({"a": None, "b": None})
        self.assertEqual({key: value for key, (value, _) in self.live.values.values.items()}, {"a": 1})

    def test_missing_payload_is_empty(self) -> None:
        """Row 22."""
        self.device.send({"type": "data"}, {"type": "data", "payload": None})
        self.assertEqual([uplink.payload for uplink in self.bed.heard.uplinks], [{}, {}])

    def test_keys_of_other_types_are_ignored(self) -> None:
        """Row 22."""
        self.data({"a": 1}, status=5, command_id=[], device_id={}, device_key=7, version="2")
        self.assertEqual(self.said().payload, {"a": 1})
        self.assertEqual(self.device.lines(), [])

    def test_payload_of_another_type(self) -> None:
        wrong: list[Any] = [[], "x", 5, True, 1.5]
        for payload in wrong:
            for kind in ("data", "status"):
                self.device.send({"type": kind, "payload": payload}, {"type": "heartbeat"})
                (answer,) = self.device.lines()
                self.assertEqual((answer["type"], answer["status"]), ("error", "error"))
                self.assertIn("payload must be an object", answer["message"])
        self.assertEqual(self.bed.heard.uplinks, [])
        self.assertEqual(self.bed.listener.stats.malformed, 10)

    def test_last_seen(self) -> None:
        """Row 20: any valid message."""
        for message in ({"type": "heartbeat"}, {"type": "data"}, {"type": "status"}):
            self.bed.tick(5)
            self.device.send(message)
            self.assertEqual(self.live.last_seen, self.now)
        seen = self.now
        self.bed.tick(5)
        self.device.raw(b'what\n{"type":"unknown"}\n')
        self.assertEqual(self.live.last_seen, seen)


class StatusTests(SessionCase):
    """Row 27."""

    def test_merged_and_passed_on(self) -> None:
        self.device.send({"type": "status", "payload": {"battery": 85, "errors": {"sensor_errors": 0}}})
        self.device.send({"type": "status", "payload": {"battery": 84}})
        self.assertEqual(self.live.info["status"], {"battery": 84, "errors": {"sensor_errors": 0}})
        self.assertTrue(self.live.info_changed)
        self.assertEqual([uplink.kind for uplink in self.bed.heard.uplinks], ["status", "status"])
        self.assertEqual(self.live.values.values, {})

    def test_added_to_what_storage_has(self) -> None:
        self.bed = Bed()
        self.bed.registry.info = known = {"status": {"battery": 1, "cpu": 2}, "model": "x"}
        self.start()
        self.device.send({"type": "status", "payload": {"battery": 3}})
        self.assertEqual(self.live.info["status"], {"battery": 3, "cpu": 2})
        self.assertEqual(self.live.info["model"], "x")
        self.assertEqual(known["status"], {"battery": 1, "cpu": 2})

    def test_bounded(self) -> None:
        for number in range(3 * MAX_STATUS_KEYS):
            self.device.send({"type": "status", "payload": {f"key{number}": number}})
        self.assertEqual(len(self.live.info["status"]), MAX_STATUS_KEYS)
        self.device.send({"type": "status", "payload": {"key0": "still kept up to date", "k" * 200: 1}})
        self.assertEqual(self.live.info["status"]["key0"], "still kept up to date")
        self.assertEqual(len(self.live.info["status"]), MAX_STATUS_KEYS)
        self.device.send({"type": "status", "payload": {"key0": [{}] * 10_000, "key1": "x" * 100_000}})
        self.assertEqual(self.live.info["status"]["key0"], "still kept up to date")
        self.assertEqual(self.live.info["status"]["key1"], 1)

    def test_a_late_one_changes_nothing(self) -> None:
        self.device.send({"type": "status", "payload": {"battery": 50}})
        self.device.send({"type": "status", "payload": {"battery": 90}, "timestamp": int(self.now) - 3600})
        self.assertEqual(self.live.info["status"], {"battery": 50})
        self.assertEqual(self.said().sent_at, int(self.now) - 3600)

    def test_odd_timestamp(self) -> None:
        self.device.send({"type": "status", "payload": {"battery": 50}, "timestamp": "now"})
        self.assertEqual(self.said().meta, {"timestamp": "unusable", "timestamp_given": "now"})


class MalformedTests(SessionCase):
    """Rows 3, 9 to 12, 38."""

    def test_answered_and_kept(self) -> None:
        for line in (b"{", b"[]", b"\xff", b'{"type":5}', b'{"type":"data","payload":{"a":NaN}}', b"[" * 100_000):
            self.device.raw(line + b"\n")
            (answer,) = self.device.lines()
            self.assertEqual((answer["type"], answer["status"]), ("error", "error"))
            self.assertTrue(answer["message"].startswith(texts.BAD_LINE), answer)
        self.assertIsNone(self.device.closed_for)
        self.assertEqual(self.bed.listener.stats.malformed, 6)

    def test_ten_in_a_row_are_too_many(self) -> None:
        self.device.raw(b"x\n" * 9)
        self.device.send({"type": "heartbeat"})
        self.device.raw(b"x\n" * 9)
        self.assertIsNone(self.device.closed_for)
        self.device.raw(b"x\n")
        self.assertEqual(self.device.closed_for, "malformed")
        self.assertEqual(len(self.device.lines()), 19)
        self.assertEqual(self.bed.heard.presences[-1], (DEVICE, False, "malformed"))

    def test_nothing_is_taken_after_the_close(self) -> None:
        self.device.raw(b"x\n" * 10 + b'{"type":"data","payload":{"a":1}}\n' * 5)
        self.device.send({"type": "data", "payload": {"a": 1}})
        self.assertEqual(self.bed.heard.uplinks, [])
        self.assertEqual(len(self.device.lines()), 10)

    def test_types_that_are_not_a_devices(self) -> None:
        for kind in ("auth_response", "command", "error", "config", "firmware", "", "DATA", "x" * 1000):
            self.device.send({"type": kind, "payload": {}}, {"type": "heartbeat"})
            (answer,) = self.device.lines()
            self.assertIn("unknown type", answer["message"])
            self.assertLess(len(answer["message"]), 100)
        self.assertIsNone(self.device.closed_for)

    def test_too_long(self) -> None:
        """Row 12: told, thrown away up to the newline, closed when it happens again."""
        for _ in range(5):
            self.device.raw(b"x" * 60_000)
        self.assertEqual([line["type"] for line in self.device.lines()], ["error"])
        self.device.raw(b'\n{"type":"data","payload":{"a":1}}\n')
        self.assertEqual(self.said().payload, {"a": 1})
        self.device.raw(b"x" * 140_000)
        self.assertEqual([line["type"] for line in self.device.lines()], ["error"])
        self.assertEqual(self.device.closed_for, "too_long")

    def test_a_gigabyte_without_a_newline(self) -> None:
        chunk = b"x" * 65_536
        for _ in range(16_384):
            self.device.connection.dataReceived(chunk)
        self.assertEqual(self.device.connection.decoder.buffered, 0)
        self.bed.tick(200)
        self.assertEqual(self.device.closed_for, "idle")
        self.assertEqual(len(self.device.lines()), 2)

    def test_wrong_types_in_every_field(self) -> None:
        """No combination is more than a line that is refused."""
        wrong: list[Any] = [None, True, 5, -1, 1.5, 10**40, "x", "", [], [1], {}, {"a": {}}]
        kinds = ["data", "status", "heartbeat", "command_response", "auth", "command", *wrong]
        for kind in kinds:
            for field in ("payload", "timestamp", "status", "command_id", "device_id", "device_key"):
                for value in wrong:
                    self.device.send({"type": kind, field: value}, {"type": "heartbeat"})
                    self.assertIsNone(self.device.closed_for, (kind, field, value))
        self.assertEqual(self.flushLoggedErrors(), [])


class HeartbeatTests(SessionCase):
    """Rows 20 and 39."""

    def test_late_then_offline(self) -> None:
        self.device.send({"type": "heartbeat"})
        self.bed.tick(89)
        self.assertFalse(self.live.late)
        self.bed.tick(3)
        self.assertTrue(self.live.late)
        self.assertTrue(self.live.online)
        self.bed.tick(101)
        self.assertTrue(self.live.online)
        self.bed.tick(4)
        self.assertEqual(self.device.closed_for, "idle")
        self.assertEqual(self.bed.heard.presences[1:], [(DEVICE, False, "idle")])

    def test_one_missed_beat_is_nothing(self) -> None:
        self.device.send({"type": "heartbeat"})
        self.bed.tick(120)
        self.device.send({"type": "heartbeat"})
        self.assertFalse(self.live.late)
        self.bed.tick(120)
        self.assertTrue(self.live.late)
        self.assertTrue(self.live.online)
        self.assertEqual(self.bed.heard.presences, [(DEVICE, True, "connected")])

    def test_any_message_keeps_it_online(self) -> None:
        for _ in range(10):
            self.bed.tick(60)
            self.data({"a": 1})
        self.assertFalse(self.live.late)
        self.assertIsNone(self.device.closed_for)

    def test_silence_after_the_login(self) -> None:
        self.bed.tick(196)
        self.assertEqual(self.device.closed_for, "idle")

    def test_cut_when_the_peer_does_not_close(self) -> None:
        self.device.send({"type": "heartbeat"})
        self.bed.tick(195)
        self.assertEqual(self.device.closed_for, "idle")
        cut: list[bool] = []
        self.device.transport.abortConnection = lambda: cut.append(True)  # type: ignore[method-assign]
        self.bed.tick(3)
        self.assertEqual(cut, [])
        self.bed.tick(3)
        self.assertTrue(cut)

    def test_too_often_is_only_counted(self) -> None:
        for _ in range(5):
            self.device.send({"type": "heartbeat"})
            self.bed.tick(20)
        self.assertEqual(self.bed.listener.counted.early_heartbeats, 4)
        self.assertIsNone(self.device.closed_for)
        self.assertEqual(self.device.lines(), [])

    def test_the_guides_fastest_is_fine(self) -> None:
        for _ in range(5):
            self.device.send({"type": "heartbeat", "payload": []})
            self.bed.tick(30)
        self.assertEqual(self.bed.listener.counted.early_heartbeats, 0)


class FlowTests(SessionCase):
    settings = Settings(limits=Limits(max_message_rate=100, message_burst=50))

    def test_too_many_messages_are_slowed_down(self) -> None:
        self.device.raw(b'{"type":"data","payload":{"a":1}}\n' * 250)
        self.assertEqual(len(self.bed.heard.uplinks), 250)
        self.assertFalse(self.device.reading)
        self.bed.tick(3)
        self.assertTrue(self.device.reading)
        self.assertEqual(self.bed.listener.stats.throttled, 1)

    def test_who_does_not_read_is_not_read(self) -> None:
        """Answers of a flat session must not pile up."""
        self.start(flat=True)
        self.device.connection.pauseProducing()
        self.assertFalse(self.device.reading)
        self.device.send({"type": "heartbeat"})
        self.assertEqual(self.device.lines(), [])
        self.device.connection.resumeProducing()
        self.assertTrue(self.device.reading)
        self.assertEqual(len(self.device.lines()), 1)

    def test_a_slow_reader_is_cut(self) -> None:
        self.device.connection.pauseProducing()
        self.bed.tick(62)
        self.assertEqual(self.device.closed_for, "slow_reader")

    def test_shutdown(self) -> None:
        self.bed.listener.shut_down()
        self.assertEqual(self.device.closed_for, "shutdown")
        self.assertEqual(self.device.lines()[0]["message"], texts.GOODBYE["shutdown"])
        self.assertEqual(self.bed.heard.presences[-1], (DEVICE, False, "shutdown"))

    def test_goodbye_of_the_device(self) -> None:
        self.device.lose(ConnectionDone)
        self.assertEqual(self.bed.heard.presences[-1], (DEVICE, False, "client_closed"))
        self.assertEqual(len(self.bed.listener.connections), 0)
        self.bed.tick(300)
        self.assertEqual(len(self.bed.heard.presences), 2)

    def test_a_passed_on_message_is_json(self) -> None:
        self.data({"big": 2**70, "deep": [[[]]], "text": "\u2028\x00"}, timestamp=1678886400)
        shown = json.loads(self.said().as_json())
        self.assertEqual(shown["payload"], {"big": 2**70, "deep": [[[]]], "text": "\u2028\x00"})
        self.assertEqual((shown["protocol"], shown["kind"]), ("novacloud", "data"))
