"""Commands and their answers: decisions 7, 28 to 35."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from broker.devices.novacloud import Settings
from broker.model.interfaces import IDeviceLink
from broker.model.messages import FAILED, PENDING, QUEUED, SENT, SUCCEEDED, TIMED_OUT, Command
from tests.devices.novacloud.bed import DEVICE, OTHER, Bed, Device


class CommandCase(SynchronousTestCase):
    settings = Settings()
    sensors: frozenset[str] | None = None

    def setUp(self) -> None:
        self.bed = Bed(self.settings)
        self.bed.registry.sensors = self.sensors
        self.device = self.bed.login()

    def tearDown(self) -> None:
        self.assertEqual(self.bed.faults, [])

    def command(self, payload: dict[str, Any] | bytes, number: int = 1, **more: Any) -> Command:
        command = self.bed.command(payload, number, **more)
        self.bed.tick()
        return command

    def answer(self, command: Command, status: Any, payload: Any = None, device: Device | None = None) -> None:
        message = {"type": "command_response", "command_id": command.id, "status": status, "payload": payload}
        (device or self.device).send(message)

    def values(self, device_id: str = DEVICE) -> dict[str, Any]:
        live = self.bed.core.devices.get(device_id)
        assert live is not None
        return {key: value for key, (value, _) in live.values.values.items()}

    def tick(self, seconds: float) -> None:
        """Time with heartbeats, and the tick of the command life cycle."""
        while seconds > 0:
            self.bed.tick(min(seconds, 30))
            seconds -= 30
            self.device.send({"type": "heartbeat"})
            self.bed.core.commands.tick()


class SendingTests(CommandCase):
    def test_link(self) -> None:
        verifyObject(IDeviceLink, self.device.connection)

    def test_the_line(self) -> None:
        """Row 29: our id is the wire's id."""
        command = self.command({"light_switch": "ON", "fan_speed": 3})
        self.assertEqual(
            self.device.lines(),
            [{"type": "command", "command_id": command.id, "payload": {"light_switch": "ON", "fan_speed": 3}}],
        )
        self.assertEqual(command.status, SENT)

    def test_chinese_goes_out_in_ascii(self) -> None:
        """Row 7."""
        self.command({"显示": "正常" * 2000})
        data = self.device.written()
        self.assertTrue(data.isascii())
        self.assertEqual(data.count(b"\n"), 1)

    def test_bytes_that_are_an_object(self) -> None:
        self.command(b'{"light": "ON"}')
        self.assertEqual(self.device.lines()[0]["payload"], {"light": "ON"})

    def test_bytes_that_are_none(self) -> None:
        for number, payload in enumerate((b"\x00\x01", b"[]", b"", b'"ON"')):
            command = self.command(payload, number)
            self.assertEqual(command.status, FAILED)
            self.assertIn("a novacloud command is a JSON object", command.result["error"])
        self.assertEqual(self.device.lines(), [])

    def test_too_large_for_a_line(self) -> None:
        command = self.command({"text": "正" * 30_000})
        self.assertEqual(command.status, FAILED)
        self.assertEqual(self.device.lines(), [])

    def test_window(self) -> None:
        commands = [self.command({"n": number}, number) for number in range(40)]
        self.assertEqual([line["payload"]["n"] for line in self.device.lines()], list(range(32)))
        self.answer(commands[0], "success")
        self.assertEqual([line["payload"]["n"] for line in self.device.lines()], [32])

    def test_queued_while_offline(self) -> None:
        """Row 35: oldest first when the device is back."""
        self.device.lose(ConnectionLost)
        commands = [self.bed.command({"n": number}, number) for number in range(3)]
        self.assertEqual({command.status for command in commands}, {QUEUED})
        self.device = self.bed.connect()
        self.device.auth()
        self.bed.tick(2)
        self.assertEqual([line["payload"].get("n") for line in self.device.lines()], [None, 0, 1, 2])

    def test_cancelled_while_offline(self) -> None:
        """Row 35."""
        self.device.lose(ConnectionLost)
        command = self.bed.command({"n": 1})
        self.bed.core.commands.cancel(command.id)
        self.device = self.bed.connect()
        self.device.auth()
        self.bed.tick(2)
        self.assertEqual([line["type"] for line in self.device.lines()], ["auth_response"])


class AnswerTests(CommandCase):
    def test_words(self) -> None:
        """Row 31."""
        for number, (word, status, text) in enumerate(
            [
                ("success", SUCCEEDED, None),
                ("ok", SUCCEEDED, None),
                ("SUCCESS", SUCCEEDED, None),
                ("error", FAILED, None),
                ("failed", FAILED, "failed"),
                ("invalid_command", FAILED, "invalid_command"),
                ("acknowledged", FAILED, "acknowledged"),
                ("", FAILED, ""),
                ("x" * 1000, FAILED, "x" * 200),
            ]
        ):
            command = self.command({"light": "ON"}, number)
            self.answer(command, word, {"execution_time": 0.5})
            expected = {"execution_time": 0.5} if text is None else {"execution_time": 0.5, "status_text": text}
            self.assertEqual((command.status, command.result), (status, expected), word)

    def test_pending_then_success(self) -> None:
        """Row 30: each pending gives 300 s."""
        command = self.command({"valve": 1})
        self.tick(20)
        self.answer(command, "pending", {"progress": 10})
        self.assertEqual(command.status, PENDING)
        self.tick(270)
        self.answer(command, "pending")
        self.tick(270)
        self.assertEqual(command.status, PENDING)
        self.answer(command, "success", {"done": True})
        self.assertEqual((command.status, command.result), (SUCCEEDED, {"done": True}))

    def test_no_answer(self) -> None:
        """Row 30: 30 s to the first answer; a later one is kept as late."""
        command = self.command({"valve": 1})
        self.tick(29)
        self.assertEqual(command.status, SENT)
        self.tick(2)
        self.assertEqual(command.status, TIMED_OUT)
        self.answer(command, "success", {"done": True})
        self.assertEqual(command.status, TIMED_OUT)
        self.assertEqual([(late["status"], late["result"]) for late in command.late], [(SUCCEEDED, {"done": True})])

    def test_pending_and_then_nothing(self) -> None:
        command = self.command({"valve": 1})
        self.answer(command, "pending")
        self.tick(330)
        self.assertEqual(command.status, TIMED_OUT)

    def test_the_first_final_state_stands(self) -> None:
        """Row 32."""
        command = self.command({"valve": 1})
        self.answer(command, "error", {"error": "stuck"})
        self.answer(command, "pending")
        self.answer(command, "success")
        self.assertEqual((command.status, command.result), (FAILED, {"error": "stuck"}))

    def test_repeated(self) -> None:
        """Row 29: counted, ignored."""
        command = self.command({"valve": 1})
        for _ in range(3):
            self.answer(command, "success")
        self.assertEqual(self.bed.core.commands.counters.unmapped_replies, 2)

    def test_unknown_and_other_devices_ids(self) -> None:
        """Row 29."""
        command = self.command({"valve": 1})
        other = self.bed.login(OTHER)
        self.answer(command, "success", {"current_state": {"valve": 1}}, other)
        message = {"type": "command_response", "status": "success"}
        self.device.send({**message, "command_id": DEVICE}, {**message, "command_id": command.id.upper() + " "})
        self.assertEqual(command.status, SENT)
        self.assertEqual(self.bed.core.commands.counters.unmapped_replies, 2)
        self.assertEqual(self.bed.listener.stats.dropped, {"unmapped_reply": 1})
        self.assertEqual((self.values(), self.values(OTHER)), ({}, {}))

    def test_what_cannot_be_our_id_is_not_looked_up(self) -> None:
        for command_id in ("", "cmd_uuid_123", "x" * 100_000):
            self.device.send({"type": "command_response", "command_id": command_id, "status": "success"})
        self.assertEqual(self.bed.listener.stats.dropped, {"unmapped_reply": 3})
        self.assertEqual(self.bed.journal.looked_up, [])

    def test_wrong_types(self) -> None:
        command = self.command({"valve": 1})
        self.device.lines()
        wrong: list[Any] = [5, None, True, [], {}]
        for value in wrong:
            self.answer(command, value)
            self.device.send({"type": "command_response", "command_id": value, "status": "success"})
            self.device.send({"type": "heartbeat"})
        for payload in ("x", 5, [1], True):
            self.answer(command, "success", payload)
        self.assertEqual([line["type"] for line in self.device.lines()], ["error"] * 14)
        self.assertEqual(command.status, SENT)

    def test_missing_payload(self) -> None:
        command = self.command({"valve": 1})
        self.device.send({"type": "command_response", "command_id": command.id, "status": "success"})
        self.assertEqual((command.status, command.result), (SUCCEEDED, {}))

    def test_partial_success(self) -> None:
        """Row 34: one status, the details stay in the result."""
        command = self.command({"a": 1, "b": 2})
        self.answer(command, "error", {"a": "ok", "b": "stuck"})
        self.assertEqual((command.status, command.result), (FAILED, {"a": "ok", "b": "stuck"}))


class CurrentStateTests(CommandCase):
    """Row 33."""

    sensors = frozenset({"light", "fan"})

    def state(self, asked: dict[str, Any] | bytes, state: Any, number: int = 1) -> dict[str, Any]:
        command = self.command(asked, number)
        self.answer(command, "success", {"current_state": state})
        self.assertEqual(command.result, {"current_state": state})
        return self.values()

    def test_object(self) -> None:
        self.assertEqual(self.state({"light": "ON", "fan": 3}, {"light": "ON", "fan": 2}), {"light": "ON", "fan": 2})

    def test_only_known_ones(self) -> None:
        self.assertEqual(self.state({"light": "ON"}, {"light": "ON", "secret": 5}), {"light": "ON"})
        live = self.bed.core.devices.get(DEVICE)
        assert live is not None
        self.assertEqual(live.values.unmapped, {})

    def test_scalar_for_one_key(self) -> None:
        self.assertEqual(self.state({"light": "ON"}, "OFF"), {"light": "OFF"})

    def test_scalar_for_several_keys(self) -> None:
        self.assertEqual(self.state({"light": "ON", "fan": 1}, "ON"), {})

    def test_scalar_for_bytes(self) -> None:
        self.assertEqual(self.state(b'{"light": "ON"}', "ON"), {"light": "ON"})

    def test_none(self) -> None:
        self.assertEqual(self.state({"light": "ON"}, None), {})

    def test_without_a_product_all_are_known(self) -> None:
        self.bed = Bed()
        self.device = self.bed.login()
        self.assertEqual(self.state({"any": "ON"}, {"any": "ON", "more": 1}), {"any": "ON", "more": 1})
