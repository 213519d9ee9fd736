"""Simulated NovaCloud devices against the real listener, in memory and on a clock."""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.novacloud.identity import DeviceRules
from broker.model.messages import FAILED, PENDING, SUCCEEDED, TIMED_OUT
from broker.simulate.commands import novacloud
from broker.simulate.fleet import Fleet
from broker.simulate.novacloud import LIVELY, Behaviour, Identity, SimulatedDevice, identity
from tests.devices.novacloud.bed import DEVICE, KEY, OTHER, Bed


class Pipe(StringTransport):
    """One end of a connection: what is written here is read there in the next turn."""

    clock: Clock
    reader: Protocol
    other: Pipe

    def write(self, data: bytes) -> None:
        self.clock.callLater(0, self._deliver, data)

    def _deliver(self, data: bytes) -> None:
        if self.other.connected:
            self.other.reader.dataReceived(data)

    def loseConnection(self) -> None:
        self.clock.callLater(0, self._lose)

    abortConnection = loseConnection

    def _lose(self) -> None:
        for end in (self, self.other):
            if end.connected:
                end.connected = False
                end.reader.connectionLost(Failure(ConnectionDone()))


class Way:
    """An endpoint that leads to a listener; ``open`` False refuses connections. ``tries``: when each was made."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.open = True
        self.tries: list[float] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        self.tries.append(self.bed.clock.seconds())
        server = self.bed.listener.buildProtocol(IPv4Address("TCP", "192.0.2.9", 40000)) if self.open else None
        if server is None:
            return fail(ConnectionRefusedError())
        client = factory.buildProtocol(None)
        near, far = Pipe(), Pipe(peerAddress=IPv4Address("TCP", "192.0.2.9", 40000))
        near.clock = far.clock = self.bed.clock
        near.other, far.other = far, near
        near.reader, far.reader = client, server
        client.makeConnection(near)
        server.makeConnection(far)
        return succeed(client)


class SimulatedCase(SynchronousTestCase):
    behaviour = Behaviour()

    def setUp(self) -> None:
        self.bed = Bed()
        self.way = Way(self.bed)
        self.told: list[str] = []

    def device(self, behaviour: Behaviour | None = None, key: str = KEY, seed: int = 1) -> SimulatedDevice:
        device = SimulatedDevice(
            self.bed.clock,
            self.way,
            Identity(DEVICE, key),
            seed,
            behaviour or Behaviour(),
            lambda device, what: self.told.append(what),
        )
        device.start()
        self.bed.tick(0.2)
        self.addCleanup(device.stop)
        return device

    def tick(self, seconds: float) -> None:
        """In small steps, so that what is sent is also answered in time."""
        for _ in range(round(seconds * 10)):
            self.bed.clock.advance(0.1)
            self.bed.core.commands.tick()
        self.bed.listener.tick()

    def tearDown(self) -> None:
        self.assertEqual(self.bed.faults, [])


class LifeTests(SimulatedCase):
    def test_logs_in(self) -> None:
        device = self.device()
        self.assertTrue(device.online)
        self.assertEqual((device.counts.connections, device.counts.logins), (1, 1))
        self.assertEqual(self.bed.heard.presences, [(DEVICE, True, "connected")])

    def test_data_status_and_heartbeats(self) -> None:
        """At the guide's pace; nothing is late, malformed or too often."""
        device = self.device()
        self.tick(600)
        kinds = [uplink.kind for uplink in self.bed.heard.uplinks]
        # The clock goes in steps of 0.1 s, so an interval is a little longer than meant.
        self.assertIn(kinds.count("data"), range(115, 121))
        self.assertEqual(kinds.count("status"), kinds.count("data") // 3)
        self.assertEqual(device.counts.data, kinds.count("data"))
        heartbeats = self.bed.listener.stats.messages_in - len(kinds) - 1
        self.assertIn(heartbeats, (10, 11))
        self.assertEqual((self.bed.listener.stats.malformed, self.bed.listener.counted.early_heartbeats), (0, 0))
        self.assertEqual(device.counts.errors, 0)

    def test_only_heartbeats(self) -> None:
        self.device(Behaviour(data_every=0))
        self.tick(600)
        self.assertEqual(self.bed.heard.uplinks, [])
        self.assertEqual(self.bed.heard.presences, [(DEVICE, True, "connected")])

    def test_plausible_values(self) -> None:
        self.device()
        self.tick(1000)
        values = [uplink.payload for uplink in self.bed.heard.uplinks if uplink.kind == "data"]
        temperatures = []
        for value in values:
            assert isinstance(value, dict)
            temperatures.append(value["temperature"])
            self.assertTrue(0 <= value["humidity"] <= 100)
            self.assertIsInstance(value["is_window_open"], bool)
        self.assertTrue(all(15 < value < 30 for value in temperatures))
        steps = [abs(one - next) for one, next in pairwise(temperatures)]
        self.assertTrue(0 < max(steps) < 1)

    def test_the_same_seed_gives_the_same_life(self) -> None:
        lively = Behaviour(malformed_rate=0.05, disconnect_rate=0.05)
        lives = []
        for seed in (1, 1, 2):
            self.setUp()
            self.device(lively, seed=seed)
            self.tick(300)
            lives.append([(uplink.received_at, uplink.payload) for uplink in self.bed.heard.uplinks])
        self.assertEqual(lives[0], lives[1])
        self.assertNotEqual(lives[0], lives[2])

    def test_flat(self) -> None:
        device = self.device(Behaviour(flat=True))
        self.tick(20)
        self.assertEqual(device.counts.acknowledged, self.bed.listener.stats.messages_in - 1)
        self.assertGreater(device.counts.acknowledged, 4)

    def test_burst(self) -> None:
        device = self.device(Behaviour(data_every=0))
        device.burst(500)
        self.tick(1)
        self.assertEqual(len(self.bed.heard.uplinks), 500)

    def test_stop(self) -> None:
        device = self.device()
        stopped = device.stop()
        self.assertNoResult(stopped)
        self.tick(1)
        self.successResultOf(stopped)
        self.assertFalse(device.online)
        self.tick(300)
        self.assertEqual(len(self.way.tries), 1)
        self.assertEqual(self.bed.clock.getDelayedCalls(), [])

    def test_stop_while_it_waits_to_come_back(self) -> None:
        self.way.open = False
        device = self.device()
        self.successResultOf(device.stop())
        self.tick(100)
        self.assertEqual(len(self.way.tries), 1)

    def test_stop_while_it_connects(self) -> None:
        cancelled: list[Deferred[Any]] = []
        self.way.connect = lambda factory: Deferred(cancelled.append)  # type: ignore[method-assign]
        device = self.device()
        self.successResultOf(device.stop())
        self.assertEqual(len(cancelled), 1)
        self.tick(100)
        self.assertEqual(self.bed.clock.getDelayedCalls(), [])

    def test_the_key_does_not_show(self) -> None:
        self.assertNotIn(KEY, repr(Identity(DEVICE, KEY)) + repr(self.device()))


class BackOffTests(SimulatedCase):
    def pauses(self) -> list[float]:
        tries = self.way.tries
        return [round(later - earlier) for earlier, later in pairwise(tries)]

    def test_doubles_to_a_minute(self) -> None:
        self.way.open = False
        self.device()
        self.tick(250)
        self.assertEqual(self.pauses(), [1, 2, 4, 8, 16, 32, 60, 60, 60])

    def test_starts_anew_after_a_login(self) -> None:
        self.way.open = False
        device = self.device()
        self.tick(10)
        self.way.open = True
        self.tick(10)
        self.assertTrue(device.online)
        left_at = self.bed.clock.seconds()
        device.disconnect()
        self.tick(3)
        self.assertTrue(device.online)
        self.assertEqual(self.pauses()[:4], [1, 2, 4, 8])
        self.assertEqual(round(self.way.tries[-1] - left_at), 1)
        self.assertEqual(device.counts.logins, 2)

    def test_a_refusal_is_no_login(self) -> None:
        device = self.device(key="wrong")
        self.tick(40)
        self.assertEqual(device.counts.logins, 0)
        self.assertEqual(device.counts.refused, 6)
        self.assertEqual(self.pauses(), [1, 2, 4, 8, 16])
        self.assertIn("refused", self.told[0])

    def test_a_broker_that_says_nothing(self) -> None:
        self.bed.registry.wait = Deferred()
        self.device()
        self.tick(29)
        self.assertEqual(len(self.way.tries), 1)
        self.tick(3)
        self.bed.listener.tick()
        self.tick(3)
        self.assertEqual(len(self.way.tries), 2)


class CommandTests(SimulatedCase):
    def test_success(self) -> None:
        device = self.device()
        self.tick(1)
        command = self.bed.command({"light_switch": "ON", "set_temperature": 25})
        self.tick(1)
        self.assertEqual(command.status, SUCCEEDED)
        self.assertEqual(command.result["current_state"], {"light_switch": "ON", "set_temperature": 25})
        self.assertEqual(device.counts.commands, 1)
        self.assertEqual(device.room.state["light_switch"], "ON")

    def test_the_room_follows(self) -> None:
        device = self.device()
        self.bed.command({"set_temperature": 35})
        self.tick(1000)
        self.assertGreater(device.room.measure()["temperature"], 32)

    def test_pending_first(self) -> None:
        self.device(Behaviour(pending_rate=1))
        command = self.bed.command({"light_switch": "ON"})
        self.tick(2)
        self.assertEqual(command.status, PENDING)
        self.tick(3)
        self.assertEqual(command.status, SUCCEEDED)

    def test_error(self) -> None:
        self.device(Behaviour(error_rate=1))
        command = self.bed.command({"light_switch": "ON"})
        self.tick(2)
        self.assertEqual((command.status, command.result), (FAILED, {"error": "the actuator does not move"}))

    def test_late(self) -> None:
        device = self.device(Behaviour(late_rate=1))
        command = self.bed.command({"light_switch": "ON"})
        self.tick(60)
        self.assertEqual(command.status, TIMED_OUT)
        self.assertEqual([late["status"] for late in command.late], [SUCCEEDED])
        self.assertEqual(device.counts.faults, 1)

    def test_an_answer_does_not_outlive_its_connection(self) -> None:
        device = self.device(Behaviour(pending_rate=1, work_time=10))
        command = self.bed.command({"light_switch": "ON"})
        self.tick(2)
        device.disconnect()
        self.tick(20)
        self.assertTrue(device.online)
        self.assertEqual(command.status, PENDING)


class FaultTests(SimulatedCase):
    def test_malformed_lines(self) -> None:
        device = self.device(Behaviour(malformed_rate=0.2))
        self.tick(300)
        self.assertGreater(device.counts.faults, 3)
        self.assertEqual(device.counts.errors, device.counts.faults)
        self.assertEqual(self.bed.listener.stats.malformed, device.counts.faults)
        self.assertEqual(device.counts.connections, 1)

    def test_disconnects(self) -> None:
        device = self.device(Behaviour(disconnect_rate=0.2))
        self.tick(300)
        self.assertGreater(device.counts.faults, 3)
        self.assertEqual(device.counts.connections, device.counts.faults + 1)

    def test_what_is_no_message(self) -> None:
        for line in (b"hello\n", b"[]\n", b"\xff\n"):
            device = self.device()
            (connection,) = self.bed.listener.connections
            connection.send(b"\n" + line)
            self.tick(0.5)
            self.assertFalse(device.online)
            device.stop()
            self.tick(0.1)


class FleetTests(SimulatedCase):
    def test_fleet(self) -> None:
        devices = [SimulatedDevice(self.bed.clock, self.way, Identity(id, KEY)) for id in (DEVICE, OTHER)]
        fleet = Fleet(self.bed.clock, devices, gap=1)
        fleet.start()
        self.tick(0.5)
        self.assertEqual(fleet.online, 1)
        self.tick(1)
        self.assertEqual(fleet.online, 2)
        stopped = fleet.stop()
        self.tick(1)
        self.successResultOf(stopped)
        self.assertEqual((fleet.online, len(self.bed.listener.connections)), (0, 0))

    def test_stop_before_all_have_started(self) -> None:
        devices = [SimulatedDevice(self.bed.clock, self.way, Identity(id, KEY)) for id in (DEVICE, OTHER)]
        fleet = Fleet(self.bed.clock, devices, gap=1)
        fleet.start()
        self.tick(0.5)
        fleet.stop()
        self.tick(5)
        self.assertEqual(len(self.way.tries), 1)


class CommandLineTests(SynchronousTestCase):
    def parse(self, *words: str) -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        novacloud.add_arguments(parser)
        return parser.parse_args(words)

    def fleet_of(self, *words: str) -> Fleet[SimulatedDevice]:
        return novacloud.build_fleet(Clock(), self.parse(*words), None, None)

    def test_identities_follow_from_the_seed(self) -> None:
        found = novacloud.identities_of(self.parse("--count", "3", "--seed", "7"))
        self.assertEqual(found, [identity(7, number) for number in range(3)])
        self.assertEqual(len({who.id for who in found} | {who.key for who in found}), 6)
        rules = DeviceRules()
        for who in found:
            self.assertEqual(rules.normal_id(who.id, {}), who.id)
            rules.check_secret(who.key)

    def test_identities_from_a_file(self) -> None:
        path = Path(self.mktemp())
        path.write_text(f'{{"id": "{DEVICE}", "secret": "x", "name": "n"}}\n\n', "utf-8")
        self.assertEqual(novacloud.identities_of(self.parse("--devices", str(path))), [Identity(DEVICE, "x")])

    def test_a_file_that_cannot_be_used(self) -> None:
        for text in ("x", "[]", "{}", '{"id": "x"}'):
            path = Path(self.mktemp())
            path.write_text(f"\n{text}\n", "utf-8")
            error = self.assertRaises(ValueError, novacloud.identities_of, self.parse("--devices", str(path)))
            self.assertIn(f"{path}, line 2", str(error))

    def test_fleet(self) -> None:
        fleet = self.fleet_of("--count", "4", "--every", "2", "--flat", "--faults")
        self.assertEqual(len(fleet.devices), 4)
        behaviour = fleet.devices[0].behaviour
        self.assertEqual((behaviour.data_every, behaviour.flat), (2.0, True))
        self.assertEqual(behaviour.pending_rate, LIVELY.pending_rate)

    def test_registrations(self) -> None:
        printed: list[str] = []
        novacloud.print = printed.append  # type: ignore[attr-defined]  # shadows the built-in one
        self.addCleanup(delattr, novacloud, "print")
        novacloud.print_registrations(self.parse("--count", "2", "--registrations"))
        who = identity(1, 0)
        self.assertEqual(
            json.loads(printed[0]),
            {"protocol": "novacloud", "id": who.id, "secret": who.key, "name": "simulated 1"},
        )
        self.assertEqual(len(printed), 2)
