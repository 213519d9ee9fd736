"""The recorder: batches, what is kept over failures, bounds, sweeps, retention. With a storage that is only a list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from broker.model.errors import Unavailable
from broker.model.interfaces import IConsumer
from broker.model.messages import RAW, DeviceRef, Uplink
from broker.model.records import LiveState, StoredMessage
from broker.routing.live import LiveDevice, LiveDevices
from broker.routing.router import Router
from broker.routing.values import LastValues
from broker.storage import recorder as recorder_module
from broker.storage.recorder import SWEEP_FLUSHES, Recorder
from broker.storage.sqlite import SqliteStorage
from tests.storage.contract import device

FULL = Unavailable("the disk is full")


@dataclass
class History:
    enabled: bool = True
    max_age: float = 1000.0
    per_device: int = 50


class Link:
    """A device's way in; nothing is sent over it."""

    protocol = "toy"
    window = 1
    answer_timeout = pending_timeout = 1.0

    def send_command(self, command: Any) -> None:
        raise AssertionError("no commands here")

    def close_link(self, reason: str) -> None:
        """Nothing to close."""


class Listed:
    """Remembers what it is given; answers at once, or when told to, or refuses."""

    def __init__(self) -> None:
        self.messages: list[StoredMessage] = []
        self.states: list[LiveState] = []
        self.calls: list[tuple[str, int]] = []
        self.prunes: list[tuple[float, int]] = []
        self.trouble: Exception | None = None
        self.slow = False
        self.waiting: list[Deferred[None]] = []

    def add_messages(self, messages: list[StoredMessage]) -> Deferred[None]:
        self.calls.append(("messages", len(messages)))
        if self.trouble is None:
            self.messages += messages
        return self._answer()

    def save_live(self, states: list[LiveState]) -> Deferred[None]:
        self.calls.append(("states", len(states)))
        if self.trouble is None:
            self.states += states
        return self._answer()

    def prune(self, before: float, per_device: int) -> Deferred[int]:
        self.prunes.append((before, per_device))
        return succeed(3) if self.trouble is None else fail(self.trouble)

    def _answer(self) -> Deferred[None]:
        if self.trouble is not None:
            return fail(self.trouble)
        if self.slow:
            self.waiting.append(Deferred())
            return self.waiting[-1]
        return succeed(None)


class RecorderCase(SynchronousTestCase):
    history = History()
    max_buffer = 100

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(5000)
        self.storage = Listed()
        self.faults: list[BaseException] = []
        self.router = Router(lambda what, error: self.faults.append(error))
        self.devices = LiveDevices(self.router, self.clock.seconds)
        storage: Any = self.storage
        self.recorder = Recorder(
            storage, self.router, self.devices, self.clock, self.clock.seconds, self.history, self.max_buffer
        )
        self.recorder.start()
        self.addCleanup(self.end)

    def end(self) -> None:
        self.assertEqual(self.faults, [])
        self.storage.trouble = None
        self.storage.slow = False
        for waiting in self.storage.waiting:
            if not waiting.called:
                waiting.callback(None)
        self.successResultOf(self.recorder.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def attach(self, id: str = "d1", sensors: frozenset[str] | None = None) -> tuple[LiveDevice, Link]:
        link = Link()
        live = self.devices.attach(DeviceRef("toy", id), link, lambda: (LastValues(sensors=sensors), {"v": 1}))  # type: ignore[arg-type]  # zope
        return live, link

    def say(self, live: LiveDevice, **fields: Any) -> Uplink:
        now = self.clock.seconds()
        live.values.update(fields, now)
        live.last_seen = now
        message = Uplink(live.ref, "data", fields, now, meta={"port": 1})
        self.router.uplink(message)
        return message


class HistoryTests(RecorderCase):
    def numbers(self) -> list[Any]:
        return [one.payload["n"] for one in self.storage.messages if isinstance(one.payload, dict)]

    def test_interface(self) -> None:
        verifyObject(IConsumer, self.recorder)

    def test_written_once_a_second_in_one_piece(self) -> None:
        live, _ = self.attach()
        for n in range(5):
            self.say(live, n=n)
        self.assertEqual(self.storage.calls, [])
        self.clock.advance(1)
        self.assertEqual(self.storage.calls, [("messages", 5), ("states", 1)])
        self.assertEqual(
            self.storage.messages[4],
            StoredMessage(device="d1", protocol="toy", kind="data", at=5000.0, payload={"n": 4}, meta={"port": 1}),
        )
        self.clock.advance(1)
        self.assertEqual(len(self.storage.calls), 2)
        self.assertEqual(self.recorder.counters()["history_written_total"], 5)

    def test_one_piece_at_a_time(self) -> None:
        self.patch(recorder_module, "PIECE_MESSAGES", 3)
        live, _ = self.attach()
        self.storage.slow = True
        for n in range(8):
            self.say(live, n=n)
        self.clock.advance(1)
        self.assertEqual(self.storage.calls, [("messages", 3)])
        self.say(live, n=8)
        self.clock.advance(3)
        self.assertEqual(self.storage.calls, [("messages", 3)])
        while self.storage.waiting:
            self.storage.waiting.pop().callback(None)
        self.assertEqual(self.storage.calls, [("messages", n) for n in (3, 3, 2)] + [("states", 1)])
        self.clock.advance(1)
        self.assertEqual(self.storage.calls[4], ("messages", 1))

    def test_the_oldest_go_when_too_many_wait(self) -> None:
        live, _ = self.attach()
        for n in range(self.max_buffer + 7):
            self.say(live, n=n)
        self.clock.advance(1)
        self.assertEqual([one.payload for one in self.storage.messages], [{"n": n} for n in range(7, 107)])
        self.assertEqual(self.recorder.dropped, 7)
        self.assertEqual(self.recorder.counters()["history_dropped_total"], 7)

    def test_the_oldest_go_when_they_are_too_large(self) -> None:
        live, _ = self.attach()
        self.recorder._max_buffer_bytes = 10_000
        for n in range(10):
            self.say(live, n=n, text="x" * 2_000)
        self.assertLessEqual(self.recorder.counters()["history_waiting_bytes"], 10_000)
        self.clock.advance(1)
        self.assertEqual(self.numbers(), [6, 7, 8, 9])
        self.assertEqual((self.recorder.dropped, self.recorder.counters()["history_waiting_bytes"]), (6, 0))

    def test_large_ones_go_in_pieces(self) -> None:
        self.patch(recorder_module, "PIECE_BYTES", 5_000)
        live, _ = self.attach()
        for n in range(7):
            self.say(live, n=n, text="x" * 2_000)
        self.clock.advance(1)
        self.assertEqual(self.storage.calls, [("messages", n) for n in (3, 3, 1)] + [("states", 1)])

    def test_dropped_while_a_piece_is_under_way(self) -> None:
        self.patch(recorder_module, "PIECE_MESSAGES", 2)
        live, _ = self.attach()
        self.recorder._max_buffer_bytes = 10_000
        self.storage.slow = True
        for n in range(4):
            self.say(live, n=n)
        self.clock.advance(1)
        self.say(live, n=4, text="x" * 9_000)
        self.say(live, n=5, text="x" * 9_000)
        while self.storage.waiting:
            self.storage.waiting.pop().callback(None)
        self.assertEqual(self.numbers(), [0, 1, 5])

    def test_a_device_whose_messages_were_all_dropped_is_still_written(self) -> None:
        one, _ = self.attach("d1")
        two, _ = self.attach("d2")
        self.clock.advance(1)
        self.storage.states.clear()
        self.say(one, n=1)
        for n in range(self.max_buffer):
            self.say(two, n=n)
        self.clock.advance(1)
        self.assertEqual({state.device for state in self.storage.states}, {"d1", "d2"})

    def test_what_is_refused_is_kept_and_tried_again(self) -> None:
        live, _ = self.attach()
        self.say(live, n=1)
        self.storage.trouble = FULL
        self.clock.pump([1] * 3)
        self.say(live, n=2)
        self.clock.advance(1)
        self.assertEqual(self.recorder.counters()["failed_writes_total"], 4)
        self.storage.trouble = None
        self.clock.advance(1)
        self.assertEqual([one.payload for one in self.storage.messages], [{"n": 1}, {"n": 2}])
        self.assertEqual(self.storage.states[-1].values, {"n": (2, 5003.0)})

    def test_bounded_while_storage_refuses(self) -> None:
        live, _ = self.attach()
        self.storage.trouble = FULL
        for n in range(500):
            self.say(live, n=n)
            if n % 50 == 0:
                self.clock.advance(1)
        counters = self.recorder.counters()
        self.assertLessEqual(counters["history_waiting"], self.max_buffer + recorder_module.PIECE_MESSAGES)
        self.assertEqual(counters["history_waiting"] + counters["history_dropped_total"], 500)

    def test_stop_writes_the_rest(self) -> None:
        live, _ = self.attach()
        self.say(live, n=1)
        self.storage.slow = True
        self.clock.advance(1)
        self.say(live, n=2)
        stopping = self.recorder.stop()
        self.assertNoResult(stopping)
        self.say(live, n=3)
        while self.storage.waiting:
            self.storage.waiting.pop().callback(None)
        self.successResultOf(stopping)
        self.assertEqual([one.payload for one in self.storage.messages], [{"n": 1}, {"n": 2}])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_with_a_full_disk_ends(self) -> None:
        live, _ = self.attach()
        self.say(live, n=1)
        self.storage.trouble = FULL
        self.successResultOf(self.recorder.stop())
        self.successResultOf(self.recorder.stop())

    def test_stop_before_start(self) -> None:
        storage: Any = self.storage
        never = Recorder(storage, self.router, self.devices, self.clock, self.clock.seconds, self.history)
        self.successResultOf(never.stop())
        self.assertEqual(self.storage.calls, [])

    def test_a_fault_does_not_end_the_loop(self) -> None:
        live, _ = self.attach()
        self.storage.trouble = ZeroDivisionError()
        self.say(live, n=1)
        self.clock.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.storage.trouble = None
        self.clock.advance(1)
        self.assertEqual(len(self.storage.messages), 1)


class NoHistoryTests(RecorderCase):
    history = History(enabled=False)

    def test_only_states_are_written(self) -> None:
        live, _ = self.attach()
        self.say(live, n=1)
        self.clock.advance(1)
        self.assertEqual(self.storage.calls, [("states", 1)])
        self.assertEqual(self.storage.states[0].values, {"n": (1, 5000.0)})
        self.assertEqual(self.recorder.counters()["history_waiting"], 0)

    def test_bytes_that_change_no_value_are_left_to_the_sweep(self) -> None:
        """A report a second of ten thousand devices is not ten thousand rows a second."""
        live, _ = self.attach()
        self.clock.advance(1)
        self.storage.calls.clear()
        live.last_seen = self.clock.seconds()
        self.router.uplink(Uplink(live.ref, RAW, b"bytes", live.last_seen))
        self.clock.advance(1)
        self.assertEqual(self.storage.calls, [])
        self.clock.pump([1.0] * 2 * SWEEP_FLUSHES)
        self.assertEqual(self.storage.states[-1].last_seen, 5001.0)


class StateTests(RecorderCase):
    def test_presence(self) -> None:
        live, link = self.attach()
        self.clock.advance(1)
        self.clock.advance(1)
        self.assertEqual(
            self.storage.states,
            [
                LiveState(
                    device="d1",
                    online=True,
                    reason="connected",
                    presence_at=5000.0,
                    last_seen=5000.0,
                    values={},
                    unmapped={},
                )
            ],
        )
        self.devices.detach(live, link, "idle")  # type: ignore[arg-type]  # zope
        self.clock.advance(1)
        state = self.storage.states[1]
        self.assertEqual((state.online, state.reason, state.presence_at), (False, "idle", 5002.0))

    def test_only_what_changed_is_written(self) -> None:
        live, _ = self.attach(sensors=frozenset({"t"}))
        self.say(live, t=1, u=2)
        live.info["v"] = 2
        live.info_changed = True
        self.clock.advance(1)
        state = self.storage.states[0]
        self.assertEqual((state.values, state.unmapped), ({"t": (1, 5000.0)}, {"u": (2, 5000.0)}))
        self.assertEqual(state.info, {"v": 2})
        self.say(live, u=3)
        self.clock.advance(1)
        state = self.storage.states[1]
        self.assertEqual((state.values, state.unmapped, state.info), ({}, {"u": (3, 5001.0)}, None))
        live.values.remap(None)
        self.say(live)
        self.clock.advance(1)
        state = self.storage.states[2]
        self.assertEqual((set(state.values), state.unmapped, state.removed_values), ({"t", "u"}, {}, ()))

    def test_keys_that_are_gone(self) -> None:
        live, _ = self.attach()
        self.say(live, t=1)
        del live.values.values["t"]
        self.clock.advance(1)
        state = self.storage.states[0]
        self.assertEqual((state.removed_values, state.removed_unmapped), (("t",), ("t",)))

    def test_info_is_copied(self) -> None:
        live, _ = self.attach()
        live.info_changed = True
        self.clock.advance(1)
        live.info["v"] = 9
        self.assertEqual(self.storage.states[0].info, {"v": 1})

    def test_a_refused_state_is_written_later_with_what_came_since(self) -> None:
        live, _ = self.attach()
        self.clock.advance(1)
        self.storage.trouble = FULL
        self.say(live, t=1)
        live.info_changed = True
        self.clock.advance(1)
        self.storage.trouble = None
        self.storage.messages.clear()
        self.clock.advance(1)
        self.say(live, u=2)
        state = self.storage.states[-1]
        self.assertEqual((state.values, state.info), ({"t": (1, 5001.0)}, {"v": 1}))

    def test_a_state_that_is_refused_after_its_messages(self) -> None:
        live, _ = self.attach()
        self.storage.slow = True
        self.say(live, t=1)
        live.info_changed = True
        self.clock.advance(1)
        self.storage.waiting.pop().callback(None)
        self.say(live, u=2)
        self.storage.waiting.pop().errback(FULL)
        self.storage.slow = False
        self.storage.states.clear()
        self.clock.advance(1)
        (state,) = self.storage.states
        self.assertEqual((state.values, state.info), ({"t": (1, 5000.0), "u": (2, 5001.0)}, {"v": 1}))

    def test_gone_and_written_is_forgotten(self) -> None:
        live, link = self.attach()
        self.say(live, t=1)
        self.devices.detach(live, link, "idle")  # type: ignore[arg-type]  # zope
        self.storage.trouble = FULL
        self.clock.advance(1)
        self.assertIs(self.devices.get("d1"), live)
        self.storage.trouble = None
        self.clock.advance(1)
        self.assertIsNone(self.devices.get("d1"))

    def test_back_before_it_was_written_is_not_forgotten(self) -> None:
        live, link = self.attach()
        self.devices.detach(live, link, "idle")  # type: ignore[arg-type]  # zope
        self.storage.slow = True
        self.clock.advance(1)
        _, second = self.attach()
        self.say(live, t=1)
        self.devices.detach(live, second, "idle")  # type: ignore[arg-type]  # zope
        self.storage.waiting.pop().callback(None)
        self.assertIs(self.devices.get("d1"), live)
        self.storage.slow = False
        self.clock.advance(1)
        self.assertEqual(self.storage.states[-1].values, {"t": (1, 5001.0)})
        self.assertIsNone(self.devices.get("d1"))

    def test_many_devices_in_pieces(self) -> None:
        self.patch(recorder_module, "PIECE_DEVICES", 4)
        for n in range(10):
            self.attach(f"d{n}")
        self.clock.advance(1)
        self.assertEqual(self.storage.calls, [("states", 4), ("states", 4), ("states", 2)])

    def test_heartbeats_are_found_by_the_sweep(self) -> None:
        lives = [self.attach(f"d{n}")[0] for n in range(100)]
        self.clock.pump([1] * SWEEP_FLUSHES * 2)
        self.storage.states.clear()
        for live in lives[::2]:
            live.last_seen = self.clock.seconds()
        self.clock.pump([1] * SWEEP_FLUSHES * 2)
        self.assertEqual({state.device for state in self.storage.states}, {f"d{n}" for n in range(0, 100, 2)})
        self.assertEqual({state.last_seen for state in self.storage.states}, {5000.0 + SWEEP_FLUSHES * 2})
        self.storage.states.clear()
        self.clock.pump([1] * SWEEP_FLUSHES * 2)
        self.assertEqual(self.storage.states, [])

    def test_stop_writes_heartbeats(self) -> None:
        live, _ = self.attach()
        self.clock.advance(1)
        live.last_seen = 5001.5
        self.successResultOf(self.recorder.stop())
        self.assertEqual(self.storage.states[-1].last_seen, 5001.5)


class RetentionTests(RecorderCase):
    def test_once_a_minute(self) -> None:
        self.clock.pump([1] * 120)
        self.assertEqual(self.storage.prunes, [(4060.0, 50), (4120.0, 50)])
        self.assertEqual(self.recorder.counters()["history_pruned_total"], 6)

    def test_goes_on_after_trouble(self) -> None:
        self.storage.trouble = FULL
        self.clock.pump([1] * 60)
        self.storage.trouble = None
        self.clock.pump([1] * 60)
        self.assertEqual(self.recorder.counters()["history_pruned_total"], 3)


class WithStorageTests(TestCase):
    """Recorder and SQLite together."""

    timeout = 60

    async def test_there_after_a_stop(self) -> None:
        clock = Clock()
        path = Path(self.mktemp())
        storage = SqliteStorage(path, reactor, clock.seconds)
        self.addCleanup(storage.close)
        await storage.open()
        await storage.add_devices([device("d1", protocol="toy")])
        router = Router(lambda what, error: self.fail(f"{what}: {error}"))
        devices = LiveDevices(router, clock.seconds)
        recorder = Recorder(storage, router, devices, clock, clock.seconds, History())
        recorder.start()
        link: Any = Link()
        live = devices.attach(DeviceRef("toy", "d1"), link, lambda: (LastValues(), {}))
        live.values.update({"t": 21.5}, 3.0)
        router.uplink(Uplink(live.ref, "data", {"t": 21.5}, 4.0, sent_at=3.0))
        devices.detach(live, link, "shutdown")
        await recorder.stop()
        await storage.close()
        storage = SqliteStorage(path, reactor, clock.seconds)
        self.addCleanup(storage.close)
        await storage.open()
        (message,), _ = await storage.list_messages("d1", None, None, None, 10, None)
        self.assertEqual((message.payload, message.at, message.meta), ({"t": 21.5}, 4.0, {"sent_at": 3.0}))
        self.assertEqual(await storage.get_values("d1"), ({"t": (21.5, 3.0)}, {}))
        found = await storage.get_device("d1")
        assert found is not None
        self.assertEqual(found.presence_reason, "shutdown")
        self.assertEqual(len(devices), 0)
