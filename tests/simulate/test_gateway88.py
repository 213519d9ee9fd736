"""Simulated 0x88 gateways keep the document's rules: what they send, when again, and when they go and come back."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.gateway88.container import FLAVOURS, decode, encode
from broker.devices.gateway88.frames import Frame, FrameDecoder, encode_frame
from broker.simulate.__main__ import parser
from broker.simulate.commands.gateway88 import build_fleet
from broker.simulate.gateway88.behaviour import Behaviour, mac_of, mac_text, registration
from broker.simulate.gateway88.gateway import SimulatedGateway

MAC = mac_of(1, 0)


class Wire(StringTransport):
    """One connection as the broker sees it."""

    def __init__(self) -> None:
        StringTransport.__init__(self)
        self.decoder = FrameDecoder(1 << 20)
        self.protocol: Any = None
        self.closed = False

    def abortConnection(self) -> None:
        if not self.closed:
            self.closed = True
            self.protocol.connectionLost(Failure(connectionDone.value))

    loseConnection = abortConnection

    def said(self) -> list[tuple[int, Any]]:
        """Ids and objects of what came since."""
        data, _ = self.value(), self.clear()
        frames = [item for item in self.decoder.feed(data) if isinstance(item, Frame)]
        return [(frame.id, decode(frame.data, 1 << 20).value) for frame in frames]

    def answer(self, id: int) -> None:
        self.protocol.dataReceived(encode_frame(MAC, id))

    def order(self, id: int, value: dict[str, Any]) -> None:
        self.protocol.dataReceived(encode_frame(MAC, id, encode(value, FLAVOURS["zlib"])))


class Network:
    """An endpoint. ``wires`` are the connections that were made."""

    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self.attempts = 0
        self.down = False

    def connect(self, factory: Any) -> Deferred[Any]:
        self.attempts += 1
        if self.down:
            return fail(ConnectionRefusedError())
        wire = Wire()
        wire.protocol = factory.buildProtocol(None)
        self.wires.append(wire)
        wire.protocol.makeConnection(wire)
        return succeed(wire.protocol)


class GatewayCase(SynchronousTestCase):
    def gateway(self, **behaviour: Any) -> SimulatedGateway:
        self.clock = Clock()
        self.network = Network()
        gateway = SimulatedGateway(self.clock, self.network, MAC, 1, Behaviour(**behaviour), plain=True)
        gateway.start()
        return gateway

    @property
    def wire(self) -> Wire:
        return self.network.wires[-1]

    def pass_time(self, seconds: float) -> None:
        """In steps: timers that begin in between run, too."""
        self.clock.pump([0.5] * int(seconds * 2))


class RuleTests(GatewayCase):
    def test_it_tells_about_itself_first(self) -> None:
        gateway = self.gateway()
        ((id, info),) = self.wire.said()
        self.assertEqual((id, info["type"], info["gateway_info"]["swversion"]), (1, "gateway_info", "2.3.1"))
        self.assertFalse(gateway.online)
        self.wire.answer(id)
        self.assertTrue(gateway.online)

    def test_a_heartbeat_every_30_s(self) -> None:
        self.gateway()
        beats = []
        for _ in range(240):
            self.clock.advance(0.5)
            for id, value in self.wire.said():
                self.wire.answer(id)
                if value["type"] == "hb":
                    beats.append(self.clock.seconds())
        self.assertLessEqual(beats[0], 30)
        self.assertEqual([after - before for before, after in pairwise(beats)], [30.0] * 3)

    def test_three_sends_six_seconds_apart(self) -> None:
        gateway = self.gateway(heartbeat_every=1_000)
        raw = self.wire.value()
        self.wire.clear()
        for _ in range(2):
            self.clock.advance(5.9)
            self.assertEqual(self.wire.value(), b"")
            self.clock.advance(0.1)
            self.assertEqual(self.wire.value(), raw)
            self.wire.clear()
        self.pass_time(30)
        self.assertEqual(self.wire.value(), b"")
        self.assertEqual(gateway.counts.resent, 2)
        self.assertFalse(self.wire.closed)

    def test_it_goes_after_five_sends_without_an_answer(self) -> None:
        gateway = self.gateway(heartbeat_every=30)
        self.pass_time(60)
        self.assertTrue(self.network.wires[0].closed)
        self.assertEqual(gateway.counts.connections, 2)

    def test_an_answer_begins_the_count_anew(self) -> None:
        self.gateway(heartbeat_every=1_000)
        for _ in range(10):
            self.pass_time(12)
            self.wire.answer(1)
            self.assertFalse(self.wire.closed)
            self.network.wires[-1].protocol.gateway.introduce()
            ((id, _),) = self.wire.said()[-1:]
            self.wire.answer(id)

    def test_it_tries_in_a_rhythm_of_30_s(self) -> None:
        gateway = self.gateway()
        self.clock.advance(7)
        self.network.down = True
        self.wire.abortConnection()
        self.assertEqual(self.network.attempts, 1)
        self.clock.advance(22.9)
        self.assertEqual(self.network.attempts, 1)
        self.clock.advance(0.1)
        self.assertEqual(self.network.attempts, 2)
        self.clock.advance(30)
        self.assertEqual(self.network.attempts, 3)
        self.network.down = False
        self.clock.advance(30)
        self.assertEqual((self.network.attempts, len(self.network.wires)), (4, 2))
        self.successResultOf(gateway.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_ids_stay_in_the_lower_half(self) -> None:
        gateway = self.gateway(heartbeat_every=1_000)
        for _ in range(130):
            gateway.report_new_devices()
        ids = [id for id, _ in self.wire.said()]
        self.assertEqual(ids, [*range(1, 128), 1, 2, 3, 4])


class CommandTests(GatewayCase):
    def test_remote_control_and_its_repetition(self) -> None:
        gateway = self.gateway()
        self.wire.clear()
        order = {"type": "remote_control", "cmd": {"a": 1}}
        self.wire.order(0x81, order)
        answer = self.wire.value()
        self.wire.clear()
        self.wire.order(0x81, order)
        self.assertEqual(self.wire.value(), answer)
        ((id, value),) = self.wire.said()
        self.assertEqual(id, 0x81)
        self.assertEqual(value, {"type": "remote_control", "ack": {"result": 0, "cmd": {"a": 1}}})
        self.assertEqual((gateway.counts.commands, gateway.counts.repeated_commands), (1, 1))

    def test_the_known_implementations_type(self) -> None:
        self.gateway(wrong_type=True)
        self.wire.said()
        self.wire.order(0x81, {"type": "remote_control", "cmd": {}})
        ((_, value),) = self.wire.said()
        self.assertEqual((value["type"], value["ack"]["result"]), ("gateway_info", 0))

    def test_refused(self) -> None:
        self.gateway(error_rate=1.0)
        self.wire.said()
        self.wire.order(0x81, {"type": "datafile_backup", "datafile_backup": {"backup_url": "http://127.0.0.1:1/"}})
        ((_, value),) = self.wire.said()
        self.assertEqual(value, {"type": "datafile_backup", "status": "error"})

    def test_what_it_makes_of_an_update(self) -> None:
        order = {"type": "firmware_update", "firmware_update": {"version": "9"}}
        for how, status, version, reboots in (
            ("refuses", "error", "2.3.1", 0),
            ("idles", "ok", "2.3.1", 0),
            ("claims", "ok", "9", 1),
            ("dumb", None, "2.3.1", 0),
        ):
            gateway = self.gateway(update=how, heartbeat_every=1_000)
            self.wire.answer(1)
            self.wire.said()
            self.wire.order(0x81, order)
            said = [value["status"] for id, value in self.wire.said() if id == 0x81]
            self.assertEqual(said, [] if status is None else [status], how)
            self.clock.advance(1)
            self.assertEqual((gateway.version, gateway.counts.reboots, gateway.counts.updates), (version, reboots, 1))

    def test_late(self) -> None:
        self.gateway(late_rate=1.0, late_after=8.0, heartbeat_every=1_000)
        self.wire.answer(1)
        self.wire.said()
        order = {"type": "remote_control", "cmd": {}}
        self.wire.order(0x81, order)
        self.clock.advance(6)
        self.wire.order(0x81, order)
        self.assertEqual(self.wire.said(), [])
        self.clock.advance(2)
        self.assertEqual([id for id, _ in self.wire.said()], [0x81])

    def test_frames_that_are_lost(self) -> None:
        gateway = self.gateway(loss_rate=1.0)
        self.assertEqual(self.wire.value(), b"")
        self.wire.order(0x81, {"type": "remote_control", "cmd": {}})
        self.assertEqual((gateway.counts.commands, gateway.counts.faults), (0, 2))

    def test_every_container(self) -> None:
        for name, flavour in FLAVOURS.items():
            self.gateway(container=name)
            (frame,) = FrameDecoder(1 << 20).feed(self.wire.value())
            assert isinstance(frame, Frame)
            self.assertEqual(decode(frame.data, 1 << 20).flavour, flavour, name)

    def test_what_is_not_the_brokers(self) -> None:
        self.gateway()
        self.wire.protocol.dataReceived(encode_frame(bytes(5) + b"\x01", 1))
        self.assertTrue(self.wire.closed)


class FleetTests(SynchronousTestCase):
    def test_the_same_seed_gives_the_same_gateways(self) -> None:
        self.assertEqual(mac_of(1, 0), mac_of(1, 0))
        self.assertEqual(len({mac_of(seed, number) for seed in range(3) for number in range(100)}), 300)
        self.assertEqual(registration(MAC), {"protocol": "gateway88", "id": mac_text(MAC)})
        self.assertEqual(MAC[0], 2)

    def test_from_options(self) -> None:
        words = ["gateway88", "--count", "20", "--container", "all", "--every", "7", "--faults"]
        fleet = build_fleet(Clock(), parser().parse_args(words), None)
        behaviours = [gateway.behaviour for gateway in fleet.devices]
        self.assertEqual([one.container for one in behaviours[:14]], list(FLAVOURS))
        self.assertEqual({one.heartbeat_every for one in behaviours}, {7.0})
        self.assertTrue(all(one.loss_rate for one in behaviours))
        self.assertEqual({one.wrong_type for one in behaviours}, {True, False})
        self.assertEqual({one.update for one in behaviours}, {"does"})

    def test_shares_that_fail_lie_and_come_later(self) -> None:
        words = ["gateway88", "--count", "1000", "--fail", "0.1", "--lie", "0.05", "--late", "0.1"]
        clock = Clock()
        fleet = build_fleet(clock, parser().parse_args(words), None)
        updates = [gateway.behaviour.update for gateway in fleet.devices]
        lying, updating = updates.count("keeps") + updates.count("claims"), updates.count("does")
        self.assertTrue(30 <= lying <= 70 and 800 <= updating <= 900, (lying, updating))
        self.assertEqual(set(updates), {"does", "keeps", "claims", "refuses", "breaks", "idles", "dumb"})
        fleet.start()
        later = [call for call in clock.getDelayedCalls() if call.getTime() > 59]
        self.assertTrue(70 <= len(later) <= 130, len(later))
        fleet.stop()
